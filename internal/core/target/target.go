// Package target names what a user asks to have looked at. A Target holds no
// credentials, so it can be logged, compared and used as a key.
package target

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// A Kind says which source can get a target.
type Kind string

// The kinds.
const (
	Package Kind = "package" // one version of a published package
	Path    Kind = "path"    // a folder or file of this machine
	Host    Kind = "host"    // something that answers on the network
	Repo    Kind = "repo"    // a git repository at a revision
)

// An Ecosystem is a world of packages with one registry protocol, by the name
// that package URLs use.
type Ecosystem string

// The ecosystems.
const (
	NPM  Ecosystem = "npm"
	PyPI Ecosystem = "pypi"
)

// A Target is one thing to scan. Which fields are set depends on its kind.
type Target struct {
	Kind      Kind
	Ecosystem Ecosystem // of a package
	Name      string    // of a package, with its scope; a path; a URL without credentials
	Version   string    // of a package: a version, a range or a tag; empty means the newest
	Rev       string    // of a repository: a branch, tag or commit; empty means its default
}

// MaxLength bounds the text of a target in bytes. The longest real ones are
// URLs, and servers refuse those beyond 8 KiB.
const MaxLength = 8 << 10

// Parse reads what a user typed: npm:NAME@VERSION, pypi:NAME@VERSION, a package
// URL, https://host, git+https://host/path#branch, or a path. What has none of
// these forms is a path; a path that looks like one of them is written ./path.
func Parse(s string) (Target, error) {
	t, err := parse(s)
	if err == nil && len(t.String()) > MaxLength { // escaping may triple it
		err = fmt.Errorf("the target is longer than %d bytes", MaxLength)
	}
	if err != nil {
		return Target{}, err
	}
	return t, nil
}

func parse(s string) (Target, error) {
	scheme, rest, hasScheme := strings.Cut(s, ":")
	switch {
	case s == "":
		return Target{}, fmt.Errorf("the target is empty")
	case len(s) > MaxLength:
		return Target{}, fmt.Errorf("the target is longer than %d bytes", MaxLength)
	case strings.ContainsRune(s, 0):
		return Target{}, fmt.Errorf("the target holds a zero byte")
	case !utf8.ValidString(s) && hasScheme && schemeForm.MatchString(scheme):
		return Target{}, fmt.Errorf("the target is not valid UTF-8")
	case !hasScheme || !schemeForm.MatchString(scheme):
		return Target{Kind: Path, Name: s}, nil
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "npm", "pypi":
		name, version := cutVersion(rest)
		return newPackage(Ecosystem(scheme), name, version)
	case "pkg":
		return parsePURL(rest)
	case "git+https", "git+http", "git+ssh", "git+file":
		return parseRepo(s[len("git+"):])
	case "https", "http":
		u, err := parseURL(s)
		if err != nil {
			return Target{}, err
		}
		return Target{Kind: Host, Name: u.String()}, nil
	}
	return Target{}, fmt.Errorf("%q is no kind of target: want npm:NAME, pypi:NAME, pkg:npm/NAME, pkg:pypi/NAME or a path (write ./%s for a path)", scheme+":", s)
}

// schemeForm matches what stands before a colon in a target that is not a
// path. One letter is a drive of Windows.
var schemeForm = pattern.New(`^[A-Za-z][A-Za-z0-9+.-]+$`)

// String returns the canonical form, which parses back to the same target.
// For a package it is the package URL.
func (t Target) String() string {
	switch t.Kind {
	case Package:
		return t.PURL()
	case Repo:
		if t.Rev != "" {
			return "git+" + t.Name + "#" + t.Rev // a branch name may hold slashes and @
		}
		return "git+" + t.Name
	case Path:
		if scheme, _, ok := strings.Cut(t.Name, ":"); ok && schemeForm.MatchString(scheme) {
			return "./" + t.Name
		}
	}
	return t.Name
}

// Short returns the form that people type: npm:bcrypt@6.0.0 for a package, and
// the canonical form for everything else.
func (t Target) Short() string {
	if t.Kind != Package {
		return t.String()
	}
	s := string(t.Ecosystem) + ":" + t.Name
	if t.Version != "" {
		s += "@" + t.Version
	}
	return s
}

// PURL returns the package URL of a package, and nothing for other kinds.
func (t Target) PURL() string {
	if t.Kind != Package {
		return ""
	}
	return PURL(string(t.Ecosystem), t.Name, t.Version)
}

// PURL returns the package URL of a package of any type, "golang" say. The
// slashes of a name part its namespace from it; the version may be empty.
func PURL(typ, name, version string) string {
	s := "pkg:" + typ
	for part := range strings.SplitSeq(name, "/") {
		s += "/" + escape(part)
	}
	if version != "" {
		s += "@" + escape(version)
	}
	return s
}

// escape percent-encodes all but the characters that the package URL
// specification leaves alone, and the colon, which it allows everywhere.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~:", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// cutVersion splits NAME@VERSION at the first @ behind the first character,
// where that of an npm scope stands.
func cutVersion(s string) (name, version string) {
	i := strings.IndexByte(s[min(1, len(s)):], '@')
	if i < 0 {
		return s, ""
	}
	return s[:i+1], s[i+2:]
}

// The forms of names. npm: the rules of validate-npm-package-name for names
// that exist, which includes old ones with capitals. PyPI: PEP 508.
var (
	npmName  = pattern.New(`^(?:@[A-Za-z0-9~!*'()_-][A-Za-z0-9~!*'()._-]*/)?[A-Za-z0-9~!*'()_-][A-Za-z0-9~!*'()._-]*$`)
	pypiName = pattern.New(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	version  = pattern.New(`^[A-Za-z0-9.+!*^~<>=|, _:-]{1,256}$`)
	runs     = pattern.New(`[-_.]+`)
)

// maxName is npm's limit in bytes; PyPI's longest names are far below it.
const maxName = 214

func newPackage(eco Ecosystem, name, v string) (Target, error) {
	valid, given := npmName.MatchString(name), name
	if at := strings.IndexAny(name, "=<>[ "); at > 0 {
		return Target{}, fmt.Errorf("%q is not a package name of %s: write %s:%s@VERSION for one version", name, eco, eco, strings.TrimSpace(name[:at]))
	}
	if eco == PyPI {
		valid = pypiName.MatchString(name)
		name = NormalizePyPI(name)
	}
	switch {
	case name == "":
		return Target{}, fmt.Errorf("no package name after %s", eco+":")
	case !valid || len(name) > maxName:
		return Target{}, fmt.Errorf("%q is not a package name of %s", given, eco)
	case v != "" && (!version.MatchString(v) || strings.TrimSpace(v) != v):
		return Target{}, fmt.Errorf("%q is not a version, range or tag", v)
	}
	return Target{Kind: Package, Ecosystem: eco, Name: name, Version: v}, nil
}

// NewPackage returns the target of a package, or an error if the name or
// version cannot be one. An empty version means the newest.
func NewPackage(eco Ecosystem, name, version string) (Target, error) {
	if eco != NPM && eco != PyPI {
		return Target{}, fmt.Errorf("%q is not an ecosystem: want npm or pypi", eco)
	}
	return newPackage(eco, name, version)
}

// NormalizePyPI returns the one spelling of a PyPI project's name (PEP 503).
func NormalizePyPI(name string) string {
	return strings.ToLower(runs.ReplaceAllString(name, "-"))
}

// parsePURL reads what follows "pkg:", by the package URL specification.
func parsePURL(s string) (Target, error) {
	s, _, _ = strings.Cut(s, "#") // a subpath within the package
	s, _, _ = strings.Cut(s, "?") // qualifiers
	typ, rest, _ := strings.Cut(strings.TrimLeft(s, "/"), "/")
	eco := Ecosystem(strings.ToLower(typ))
	if eco != NPM && eco != PyPI {
		return Target{}, fmt.Errorf("packages of type %q are not supported: want npm or pypi", typ)
	}
	name, v := cutVersion(rest)
	name, err1 := url.PathUnescape(name)
	v, err2 := url.PathUnescape(v)
	if err1 != nil || err2 != nil {
		return Target{}, fmt.Errorf("%q is not a package URL: bad percent-encoding", "pkg:"+s)
	}
	return newPackage(eco, name, v)
}

func parseRepo(s string) (Target, error) {
	name, rev, _ := strings.Cut(s, "#")
	u, err := parseURL(name)
	if err != nil {
		return Target{}, err
	}
	if strings.HasPrefix(rev, "-") || strings.ContainsAny(rev, " ~^:?*[\\\t\n") {
		return Target{}, fmt.Errorf("%q is not a branch, tag or commit", rev)
	}
	return Target{Kind: Repo, Name: u.String(), Rev: rev}, nil
}

// parseURL reads an absolute URL without credentials.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the URL cannot be read") // its text may hold a password
	case u.User != nil && u.Scheme != "ssh":
		return nil, fmt.Errorf("the URL holds credentials: give them in the settings instead")
	}
	if _, hasPassword := u.User.Password(); hasPassword {
		return nil, fmt.Errorf("the URL holds a password: give it in the settings instead")
	}
	switch {
	case u.Opaque != "":
		return nil, fmt.Errorf("the URL is not an absolute one") // what follows the colon may hold a password
	case u.Host == "" && u.Scheme != "file":
		return nil, fmt.Errorf("%q has no host", s)
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}
