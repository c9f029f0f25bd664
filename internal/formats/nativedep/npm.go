package nativedep

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// readNPM reads package-lock.json and npm-shrinkwrap.json, lockfileVersion 1 to
// 3 (npm documentation, "package-lock.json"). Version 2 says everything twice;
// the list "packages" says more.
func readNPM(d *draft, data []byte) error {
	s := newStream(data)
	nested := &draft{left: map[string][]string{}} // of "dependencies", version 1
	packages := false
	err := s.object(func(name string) error {
		switch name {
		case "packages":
			packages = true
			return d.npmPackages(s)
		case "dependencies":
			return nested.npmNested(s, "", false, 0)
		}
		return s.skip()
	})
	if packages || len(nested.entries)+len(nested.left) == 0 {
		return err
	}
	d.entries, d.left, d.blind = nested.entries, nested.left, true
	d.says = append(d.says, noScripts)
	return err
}

// An npmEntry is what version 2 and 3 say of a package.
type npmEntry struct {
	Name                 text  `json:"name"` // where it is not that of the folder
	Version              text  `json:"version"`
	Resolved             text  `json:"resolved"`
	Link                 truth `json:"link"`
	InBundle             truth `json:"inBundle"`
	HasInstallScript     truth `json:"hasInstallScript"`
	GypFile              truth `json:"gypfile"`
	OS                   some  `json:"os"`
	CPU                  some  `json:"cpu"`
	Libc                 some  `json:"libc"`
	Dependencies         keys  `json:"dependencies"`
	OptionalDependencies keys  `json:"optionalDependencies"`
}

// npmPackages reads "packages", whose names are folders.
func (d *draft) npmPackages(s *stream) error {
	at := map[string]int{} // folders to entries
	bundled := map[string]bool{}
	return s.object(func(folder string) error {
		line := s.line()
		var e npmEntry
		if err := s.value(&e); err != nil {
			return err
		}
		parent, name := cutModules(folder)
		if name == "" || bool(e.Link) { // the project itself and its workspaces
			return nil
		}
		found := entry{
			line: line, script: bool(e.HasInstallScript || e.GypFile), platform: bool(e.OS || e.CPU || e.Libc),
			needs: slices.Concat(e.Dependencies, e.OptionalDependencies), options: e.OptionalDependencies,
		}
		if _, inside := cutModules(parent); e.InBundle && inside != "" { // it came inside the archive of another one
			bundled[folder] = true
			for bundled[parent] {
				parent, _ = cutModules(parent)
			}
			if i, ok := at[parent]; ok && (found.script || found.platform) {
				d.entries[i].why = bundlesNative
			}
			return nil
		}
		before := len(d.entries)
		d.addNPM(cmp.Or(string(e.Name), name), string(e.Version), string(e.Resolved), found)
		if len(d.entries) > before {
			at[folder] = before
		}
		return nil
	})
}

// cutModules cuts the folder of a package into that of the one in which it
// lies and its name, which is empty if it lies in no node_modules.
func cutModules(folder string) (parent, name string) {
	if rest, ok := strings.CutPrefix(folder, "node_modules/"); ok && !strings.Contains(rest, "/node_modules/") {
		return "", rest
	}
	i := strings.LastIndex(folder, "/node_modules/")
	if i < 0 {
		return folder, ""
	}
	return folder[:i], folder[i+len("/node_modules/"):]
}

// maxNested is how deep packages may lie in packages. npm makes paths of this,
// and systems end those at 4096 bytes.
const maxNested = 200

// npmNested reads "dependencies" of version 1, in which packages lie in packages.
func (d *draft) npmNested(s *stream, parent string, bundled bool, depth int) error {
	if depth > maxNested {
		d.leave(fmt.Sprintf("they lie more than %d deep in others", maxNested), parent)
		return s.skip()
	}
	return s.object(func(name string) error {
		e := entry{line: s.line()}
		var version, resolved text
		var optional, within truth
		err := s.object(func(field string) error {
			switch field {
			case "version":
				return s.value(&version)
			case "resolved":
				return s.value(&resolved)
			case "optional":
				return s.value(&optional)
			case "bundled":
				return s.value(&within)
			case "requires":
				return s.value((*keys)(&e.needs))
			case "dependencies":
				return d.npmNested(s, name, depth > 0 && (bundled || bool(within)), depth+1)
			}
			return s.skip()
		})
		e.optional = bool(optional)
		if real, ok := strings.CutPrefix(string(version), "npm:"); ok { // an alias
			name, version = cutAt(real)
		}
		if depth == 0 || !bundled && !bool(within) { // the project's own bundle is downloaded as all else
			d.addNPM(name, string(version), string(resolved), e)
		}
		return err
	})
}

// addNPM adds a package of npm, if it comes from a registry.
func (d *draft) addNPM(name, version, resolved string, e entry) {
	switch {
	case version == "" && resolved == "", ownFolder(version), version == "" && ownFolder(resolved):
	case strings.ContainsAny(version, ":/"), resolved != "" && !fromRegistry(name, version, resolved):
		d.leave(notByRegistry, name)
	default:
		d.add(target.NPM, name, version, e)
	}
}

// ownFolder says whether an address is a folder of the project, which is no
// package of others.
func ownFolder(address string) bool {
	return strings.HasPrefix(address, "link:") || strings.HasPrefix(address, "file:") && !strings.HasSuffix(address, ".tgz") && !strings.HasSuffix(address, ".tar.gz")
}

// fromRegistry says whether an address is where a registry keeps a version of a
// package: below its name, and a dash or the version.
func fromRegistry(name, version, address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return false
	}
	_, rest, ok := strings.Cut(strings.ToLower(u.Path), "/"+strings.ToLower(name)+"/")
	return ok && (strings.HasPrefix(rest, "-/") || strings.HasPrefix(rest, strings.ToLower(version)))
}

// cutAt cuts name@version. The name may begin with an @.
func cutAt(s string) (name string, version text) {
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		return s[:i], text(s[i+1:])
	}
	return s, ""
}

// A stream reads JSON piece by piece, so that lines are known and a file that
// breaks off is read until there.
type stream struct {
	*json.Decoder
	data  []byte
	at    int // up to where lines are counted
	lines int
}

func newStream(data []byte) *stream {
	return &stream{Decoder: json.NewDecoder(bytes.NewReader(data)), data: data}
}

// line returns the line of what was read last, from 1.
func (s *stream) line() int {
	to := int(s.InputOffset())
	s.lines += bytes.Count(s.data[s.at:to], []byte("\n"))
	s.at = to
	return s.lines + 1
}

// object calls f for each field of an object, which reads its value. What is no
// object has none.
func (s *stream) object(f func(name string) error) error {
	tok, err := s.Token()
	if err != nil {
		return err
	}
	switch tok {
	case json.Delim('{'):
	case json.Delim('['):
		for s.More() {
			if err := s.skip(); err != nil {
				return err
			}
		}
		_, err = s.Token()
		return err
	default:
		return nil
	}
	for s.More() {
		tok, err := s.Token()
		if err != nil {
			return err
		}
		name, _ := tok.(string)
		if err := f(name); err != nil {
			return err
		}
	}
	_, err = s.Token()
	return err
}

// value reads a value. One of a type that does not fit is as good as none.
func (s *stream) value(v any) error {
	err := s.Decode(v)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil
	}
	return err
}

func (s *stream) skip() error {
	var v json.RawMessage
	return s.Decode(&v)
}

// Lock files are edited by hand and by tools of all ages, so that a field may be
// of any type. These types take what they can.
type (
	text  string   // a string
	truth bool     // true, and nothing else
	some  bool     // a list or string that is not empty
	keys  []string // the names of an object's fields
)

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
	}
	return nil
}

func (t *truth) UnmarshalJSON(data []byte) error {
	*t = string(data) == "true"
	return nil
}

func (t *some) UnmarshalJSON(data []byte) error {
	var list []json.RawMessage
	var one string
	*t = json.Unmarshal(data, &list) == nil && len(list) > 0 || json.Unmarshal(data, &one) == nil && one != ""
	return nil
}

func (t *keys) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) == nil {
		for name := range fields {
			*t = append(*t, name)
		}
		slices.Sort(*t)
	}
	return nil
}
