package nativedep

import (
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// readPNPM reads pnpm-lock.yaml, lockfileVersion 5 to 9 (pnpm documentation,
// "pnpm-lock.yaml", and the repository pnpm/spec, "lockfile"). Version 9 has what
// packages depend on in "snapshots" and does not say any more which run scripts.
func readPNPM(d *draft, data []byte) error {
	r := pnpmReader{at: map[string]int{}}
	slashes, seen := false, false
	for l := range outline(data, cutYAML) {
		switch {
		case len(l.under) == 0:
			if l.key == "lockfileVersion" {
				seen = true
				slashes = strings.HasPrefix(l.value, "5") || strings.HasPrefix(l.value, "4") || strings.HasPrefix(l.value, "3")
				if major, _, _ := strings.Cut(l.value, "."); !slashes && major != "6" {
					d.says = []string{noScripts}
				}
			}
		case l.under[0] == "packages" || l.under[0] == "snapshots":
			r.line(l, slashes)
		}
	}
	for _, p := range r.list {
		switch {
		case p.own || ownFolder(p.version):
		case p.fetched || strings.ContainsAny(p.version, ":/"):
			d.leave(notByRegistry, p.name)
		default:
			d.add(target.NPM, p.name, p.version, p.entry)
		}
	}
	if !seen {
		return errNotOne
	}
	return nil
}

// A pnpmPackage is one of "packages", with what its "snapshots" say.
type pnpmPackage struct {
	entry
	name, version string
	own           bool // a folder of the project
	fetched       bool // from elsewhere than a registry
}

type pnpmReader struct {
	list []pnpmPackage
	at   map[string]int // names and versions in list
}

// line reads a line below "packages" or "snapshots".
func (r *pnpmReader) line(l line, slashes bool) {
	p := r.get(l, slashes)
	switch depth := len(l.under); {
	case depth == 2:
		p.field(l)
	case depth == 3 && (l.under[2] == "dependencies" || l.under[2] == "optionalDependencies"):
		p.needs = append(p.needs, l.key)
		if l.under[2] == "optionalDependencies" {
			p.options = append(p.options, l.key)
		}
	case depth == 3 && l.under[2] == "resolution":
		p.resolution(l.key, l.value)
	}
}

// get returns the package in whose part of the file a line stands.
func (r *pnpmReader) get(l line, slashes bool) *pnpmPackage {
	key := l.key
	if len(l.under) > 1 {
		key = l.under[1]
	}
	name, version := cutPNPM(key, slashes)
	at := name + "@" + version
	i, ok := r.at[at]
	if !ok {
		i = len(r.list)
		r.at[at] = i
		r.list = append(r.list, pnpmPackage{name: name, version: version, entry: entry{line: l.number}})
	}
	return &r.list[i]
}

func (p *pnpmPackage) field(l line) {
	switch l.key {
	case "requiresBuild":
		p.script = p.script || l.value == "true"
	case "os", "cpu", "libc":
		p.platform = p.platform || !slices.Contains([]string{"[]", "null", "~"}, l.value)
	case "name": // where the key is an address
		p.name = l.value
	case "version":
		p.version = l.value
	case "resolution":
		for field := range strings.SplitSeq(strings.Trim(l.value, "{}"), ",") {
			key, value, _ := strings.Cut(strings.TrimSpace(field), ": ")
			p.resolution(key, unquote(strings.TrimSpace(value)))
		}
	}
}

// resolution reads a field that says where the package comes from.
func (p *pnpmPackage) resolution(key, value string) {
	switch key {
	case "tarball":
		p.fetched = p.fetched || !fromRegistry(p.name, p.version, value)
	case "directory":
		p.own = true
	case "repo", "commit":
		p.fetched = true
	case "type":
		p.fetched = p.fetched || value == "git"
	}
}

// cutPNPM cuts the key of a package into its name and version, without the
// peers behind it: name@1.0.0(peer@2.0.0), with a slash before it in version 6,
// and /name/1.0.0_peer@2.0.0 before that.
func cutPNPM(key string, slashes bool) (name, version string) {
	key, _, _ = strings.Cut(key, "(")
	if !slashes {
		name, v := cutVersion(strings.TrimPrefix(key, "/"))
		return name, v
	}
	key = strings.TrimPrefix(key, "/")
	scope := ""
	if strings.HasPrefix(key, "@") {
		scope, key, _ = strings.Cut(key, "/")
		scope += "/"
	}
	name, version, _ = strings.Cut(key, "/")
	version, _, _ = strings.Cut(version, "_")
	return scope + name, version
}

// cutVersion cuts name@version, where the version may be an address that holds
// another @.
func cutVersion(s string) (name, version string) {
	if s == "" {
		return "", ""
	}
	if i := strings.IndexByte(s[1:], '@'); i >= 0 {
		return s[:i+1], s[i+2:]
	}
	return s, ""
}
