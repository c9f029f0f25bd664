package prebuilt

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// A manifest is a package.json. Its keys are those of the text, in their own
// case; what has the wrong type counts as missing.
type manifest struct {
	raw     []byte
	fields  map[string]json.RawMessage
	binary  map[string]json.RawMessage
	config  map[string]json.RawMessage
	scripts map[string]string
}

func readManifest(data []byte) (*manifest, error) {
	m := &manifest{raw: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))}
	if err := json.Unmarshal(m.raw, &m.fields); err != nil {
		return nil, err
	}
	m.binary, m.config = object(m.fields["binary"]), object(m.fields["config"])
	m.scripts = map[string]string{}
	for name, raw := range object(m.fields["scripts"]) {
		m.scripts[name] = text(raw)
	}
	return m, nil
}

func object(raw json.RawMessage) map[string]json.RawMessage {
	var out map[string]json.RawMessage
	if json.Unmarshal(raw, &out) != nil {
		return nil
	}
	return out
}

// text returns a field that is a string.
func (m *manifest) text(key string) string { return text(m.fields[key]) }

// text returns a string, as much of it as a command line may have.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s[:min(len(s), maxLine)]
}

// scalar returns a string, number or boolean as JavaScript would write it.
func scalar(raw json.RawMessage) string {
	if s := text(raw); s != "" {
		return s
	}
	s := string(bytes.TrimSpace(raw))
	if s == "" || s == "null" || strings.ContainsAny(s[:1], `"{[`) {
		return ""
	}
	return s
}

// repository returns the URL of the repository, in either of its forms.
func (m *manifest) repository() string {
	if s := m.text("repository"); s != "" {
		return s
	}
	return text(object(m.fields["repository"])["url"])
}

// maxNAPI bounds the Node-API versions that are read of one package.
const maxNAPI = 32

// napi returns binary.napi_versions without repetitions.
func (m *manifest) napi() []int {
	var list []json.RawMessage
	if json.Unmarshal(m.binary["napi_versions"], &list) != nil {
		return nil
	}
	var out []int
	for _, raw := range list[:min(len(list), maxNAPI)] {
		if n, err := strconv.Atoi(scalar(raw)); err == nil && n > 0 {
			out = append(out, n)
		}
	}
	return distinct(out)
}

// depends returns the range of versions in which the package depends on
// another one, or nothing.
func (m *manifest) depends(name string) string {
	for _, key := range []string{"dependencies", "optionalDependencies", "peerDependencies", "devDependencies"} {
		if s := text(object(m.fields[key])[name]); s != "" {
			return s
		}
	}
	return ""
}

var githubURL = pattern.New(`\bgithub.com[:/]([^/"]+)/([^/"]+)`)

// github returns the address of the first repository of GitHub that the
// manifest names: in its repository, else anywhere, as the package
// github-from-package does. It is empty if there is none.
func (m *manifest) github() string {
	for _, raw := range [][]byte{m.fields["repository"], m.raw} {
		var compact bytes.Buffer
		if json.Compact(&compact, raw) != nil {
			continue
		}
		found := githubURL.FindStringSubmatch(strings.ReplaceAll(compact.String(), `\/`, "/"))
		if found != nil {
			return "https://github.com/" + found[1] + "/" + strings.TrimSuffix(found[2], ".git")
		}
	}
	return ""
}

// A version is what the templates take from a semantic version (Semantic
// Versioning 2.0.0, sections 2, 9, 10).
type version struct{ text, major, minor, patch, prerelease, build string }

var semver = pattern.New(`^\s*[v=\s]*((\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?)(?:\+([0-9A-Za-z.-]+))?\s*$`)

func parseVersion(s string) (version, bool) {
	m := semver.FindStringSubmatch(s)
	if m == nil {
		return version{}, false
	}
	return version{m[1], m[2], m[3], m[4], m[5], m[6]}, true
}

// atLeast reports whether a range of versions allows one that is not older
// than major.minor. A range with a caret or a comparison allows the newest of
// its kind.
func atLeast(spec string, major, minor int) bool {
	m := leading.FindStringSubmatch(spec)
	if m == nil {
		return true // a tag, an address, any version
	}
	have, _ := strconv.Atoi(m[2])
	haveMinor := 1 << 20 // 1.x
	if m[3] != "" && m[1] != "^" {
		haveMinor, _ = strconv.Atoi(m[3])
	}
	if strings.HasPrefix(m[1], ">") {
		return true
	}
	return have > major || have == major && haveMinor >= minor
}

var leading = pattern.New(`^\s*([\^~>=<v]*)\s*(\d+)(?:\.(\d+))?`)
