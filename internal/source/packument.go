package source

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"deps.dev/util/semver"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// A packument is what an npm registry says about a package: its versions and
// the tags that point to them.
// https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md
type packument struct {
	DistTags texts                      `json:"dist-tags"`
	Versions map[string]json.RawMessage `json:"versions"` // read when asked for
	Time     texts                      `json:"time"`     // when each version was published; only in full documents
	whole    bool                       // a full document, with all of each manifest
}

// A manifest is what is published with one version: its package.json and the
// registry's additions.
type manifest struct {
	Name                 text   `json:"name"`
	Version              text   `json:"version"`
	Description          text   `json:"description"`
	Keywords             list   `json:"keywords"`
	License              kinded `json:"license"`
	Licenses             kinded `json:"licenses"` // of old
	Homepage             text   `json:"homepage"`
	Repository           kinded `json:"repository"`
	Deprecated           text   `json:"deprecated"`
	OptionalDependencies texts  `json:"optionalDependencies"`
	OS                   list   `json:"os"`
	CPU                  list   `json:"cpu"`
	Libc                 list   `json:"libc"`
	Scripts              texts  `json:"scripts"`
	Dist                 dist   `json:"dist"`
	whole                bool   // a registry's, with all that was published
}

// A dist says where the tarball is and what it hashes to.
type dist struct {
	Tarball   text `json:"tarball"`
	Integrity text `json:"integrity"`
	Shasum    text `json:"shasum"`

	// Attestations say where and from what the tarball was built.
	Attestations struct {
		Provenance struct {
			PredicateType text `json:"predicateType"`
		} `json:"provenance"`
	} `json:"attestations"`
}

// Registries hold decades of package.json files that nobody checked, so every
// field may be of any type. These types take what they can and leave the rest.
type (
	text   string            // a string; true becomes "true"
	list   []string          // strings, or one alone; other things in it are left out
	texts  map[string]string // strings by name; other things in it are left out
	kinded string            // a string, or the type, name or url of an object, or a list of these
)

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
	} else if string(data) == "true" {
		*t = "true"
	}
	return nil
}

func (d *dist) UnmarshalJSON(data []byte) error {
	type plain dist
	var p plain
	if json.Unmarshal(data, &p) == nil {
		*d = dist(p)
	}
	return nil
}

func (l *list) UnmarshalJSON(data []byte) error {
	var items []text
	var one string
	if json.Unmarshal(data, &items) == nil {
		for _, i := range items {
			if i != "" {
				*l = append(*l, string(i))
			}
		}
	} else if json.Unmarshal(data, &one) == nil && one != "" {
		*l = list{one}
	}
	return nil
}

func (t *texts) UnmarshalJSON(data []byte) error {
	var items map[string]text
	if json.Unmarshal(data, &items) == nil && items != nil {
		*t = texts{}
		for k, v := range items {
			if v != "" {
				(*t)[k] = string(v)
			}
		}
	}
	return nil
}

func (k *kinded) UnmarshalJSON(data []byte) error {
	var object struct{ Type, Name, URL text }
	var items []json.RawMessage
	var one string
	switch {
	case json.Unmarshal(data, &one) == nil:
		*k = kinded(one)
	case json.Unmarshal(data, &items) == nil:
		var all []string
		for _, i := range items {
			var item kinded
			if item.UnmarshalJSON(i) == nil && item != "" && len(i) < len(data) {
				all = append(all, string(item))
			}
		}
		*k = kinded(strings.Join(all, " OR "))
	case json.Unmarshal(data, &object) == nil:
		// A licence has its name in type and its text's place in url; a
		// repository has "git" in type.
		if object.Type == "git" || object.Type == "svn" || object.Type == "hg" {
			object.Type = ""
		}
		*k = kinded(cmp.Or(object.Type, object.Name, object.URL))
	}
	return nil
}

// parsePackument reads a registry's answer. Whether it is a full document shows
// in its media type.
func parsePackument(data []byte, mediaType string) (*packument, error) {
	p := &packument{whole: mediaType != abbreviated}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, err
	}
	return p, nil
}

func parseManifest(data []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 || bytes.TrimSpace(data)[0] != '{' {
		return nil, errors.New("not an object")
	}
	return &m, nil
}

// manifest reads the manifest of a version.
func (p *packument) manifest(version string) (*manifest, error) {
	m, err := parseManifest(p.Versions[version])
	if err == nil {
		m.whole = p.whole
	}
	return m, err
}

// published returns when a version was published, or zero.
func (p *packument) published(version string) time.Time {
	t, err := time.Parse(time.RFC3339, p.Time[version])
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func (p *packument) deprecated(version string) bool {
	var m struct {
		Deprecated text `json:"deprecated"`
	}
	return json.Unmarshal(p.Versions[version], &m) == nil && m.Deprecated != ""
}

// npmVersion matches what npm takes for one version rather than a range.
var npmVersion = pattern.New(`^[=v\s]*(\d+\.\d+\.\d+(?:[-+].*)?)$`)

// exactVersion returns the version that spec names, if it names just one.
func exactVersion(spec string) (string, bool) {
	m := npmVersion.FindStringSubmatch(strings.TrimSpace(spec))
	if m == nil {
		return "", false
	}
	if _, err := semver.NPM.Parse(m[1]); err != nil {
		return "", false
	}
	version, _, _ := strings.Cut(m[1], "+") // npm drops build metadata
	return version, true
}

// pick chooses a version as npm does: exactly what spec names, or what its tag
// points to, or of a range the "latest" if it is within, else the highest, and
// one that is not deprecated before one that is. An empty spec is the tag
// "latest".
func (p *packument) pick(name, spec string) (string, error) {
	spec = strings.TrimSpace(spec)
	if len(p.Versions) == 0 {
		return "", fault.New(fault.NotFound, "the npm package %q has no versions: all were unpublished", name).
			Try("scan a copy from disk if you have one")
	}
	latest := p.DistTags["latest"]
	if spec == "" {
		if p.Versions[latest] != nil {
			return latest, nil
		}
		spec = "*"
	}
	if p.Versions[spec] != nil {
		return spec, nil
	}
	if v, ok := exactVersion(spec); ok {
		if p.Versions[v] != nil {
			return v, nil
		}
		return "", p.missing(name, spec)
	}
	if v := p.DistTags[spec]; v != "" {
		if p.Versions[v] != nil {
			return v, nil
		}
		return "", fault.New(fault.NotFound, "the tag %q of the npm package %q points to version %s, which was unpublished", spec, name, v).
			Try("name %s", p.examples())
	}
	within, err := semver.NPM.ParseConstraint(spec)
	if err != nil {
		return "", fault.New(fault.NotFound, "the npm package %q has no tag %q", name, spec).
			Try("name a version, or a tag that exists: %s", enumerate(slices.Sorted(maps.Keys(p.DistTags)), 8))
	}
	if p.Versions[latest] != nil && (spec == "*" || within.Match(latest)) && !p.deprecated(latest) {
		return latest, nil
	}
	best := ""
	bestDeprecated := false
	for v := range p.Versions {
		if !within.Match(v) {
			continue
		}
		deprecated := p.deprecated(v)
		if best == "" || bestDeprecated && !deprecated ||
			bestDeprecated == deprecated && cmp.Or(semver.NPM.Compare(v, best), cmp.Compare(v, best)) > 0 {
			best, bestDeprecated = v, deprecated
		}
	}
	if best == "" {
		return "", p.missing(name, spec)
	}
	return best, nil
}

func (p *packument) missing(name, spec string) error {
	what := "version " + spec
	if _, exact := exactVersion(spec); !exact {
		what = "version in the range " + spec
	}
	return fault.New(fault.NotFound, "the npm package %q has no %s", name, what).Try("name %s", p.examples())
}

// examples names the newest versions, those in use before pre-releases.
func (p *packument) examples() string {
	all := slices.SortedFunc(maps.Keys(p.Versions), func(a, b string) int { return semver.NPM.Compare(b, a) })
	finals := slices.DeleteFunc(slices.Clone(all), func(v string) bool { return strings.Contains(v, "-") })
	if len(finals) > 0 {
		all = finals
	}
	return "one of the versions that exist: " + enumerate(all, 5)
}

// enumerate writes the first few of a list.
func enumerate(all []string, most int) string {
	if len(all) == 0 {
		return "there is none"
	}
	s := strings.Join(all[:min(len(all), most)], ", ")
	if len(all) > most {
		s += ", …"
	}
	return s
}
