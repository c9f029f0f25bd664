package source

import (
	"cmp"
	"errors"
	"strings"

	"deps.dev/util/semver"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// A pyVersion is a version of the "Version specifiers" specification of the
// Python Packaging User Guide (PEP 440).
type pyVersion struct {
	text    string
	key     string          // the same for all spellings
	public  *semver.Version // without the local part
	full    *semver.Version
	epoch   string
	release []string // without zeros before each number
	pre     bool     // a pre-release or a development release
	post    bool
	local   bool
}

var (
	pyForm = pattern.New(`^v?(?:(\d+)!)?(\d+(?:\.\d+)*)([a-z0-9._+-]*)$`)
	pyPre  = pattern.New(`^[._-]?(?:a|b|c|rc|alpha|beta|pre|preview)[._-]?\d*(?:$|[._-]|post|rev|r|dev)|dev`)
	pyPost = pattern.New(`(?:post|rev|r)\d*|^-\d+`)
)

// maxPyVersion bounds the text of a version.
const maxPyVersion = 256

// parsePyVersion reads a version, or says that it is none.
func parsePyVersion(s string) (pyVersion, error) {
	if len(s) > maxPyVersion {
		return pyVersion{}, errors.New("too long")
	}
	s = strings.ToLower(strings.TrimSpace(s))
	m := pyForm.FindStringSubmatch(s)
	if m == nil {
		return pyVersion{}, errors.New("not a version")
	}
	rest, local, hasLocal := strings.Cut(m[3], "+")
	if hasLocal && local == "" {
		return pyVersion{}, errors.New("not a version")
	}
	public, _, _ := strings.Cut(s, "+")
	v := pyVersion{
		text:  s,
		epoch: strings.TrimLeft(m[1], "0"),
		pre:   pyPre.MatchString(rest),
		post:  pyPost.MatchString(strings.ReplaceAll(rest, "rc", "")),
		local: hasLocal,
	}
	for number := range strings.SplitSeq(m[2], ".") {
		v.release = append(v.release, cmp.Or(strings.TrimLeft(number, "0"), "0"))
	}
	var err1, err2 error
	v.full, err1 = semver.PyPI.Parse(s)
	v.public, err2 = semver.PyPI.Parse(public)
	if err := cmp.Or(err1, err2); err != nil {
		return pyVersion{}, err
	}
	v.key = v.full.Canon(true)
	return v, nil
}

// pyVersions remembers versions by their text: a project has many files of each.
type pyVersions map[string]pyVersion

func (m pyVersions) parse(s string) (pyVersion, error) {
	if v, ok := m[s]; ok {
		return v, nil
	}
	v, err := parsePyVersion(s)
	if err == nil {
		m[s] = v
	}
	return v, err
}

func (v pyVersion) compare(o pyVersion) int { return v.full.Compare(o.full) }

// startsWith reports whether the release of v begins with that of prefix, where
// missing numbers are zero.
func (v pyVersion) startsWith(prefix pyVersion) bool {
	if v.epoch != prefix.epoch {
		return false
	}
	for i, want := range prefix.release {
		have := "0"
		if i < len(v.release) {
			have = v.release[i]
		}
		if have != want {
			return false
		}
	}
	return true
}

// A pyClause is one comparison of a specifier.
type pyClause struct {
	op      string
	version pyVersion
	any     bool   // the version ends in ".*"
	text    string // of ===
}

// A pySpecifier is a list of clauses that must all hold.
type pySpecifier []pyClause

// parsePySpecifier reads clauses separated by commas, like ">=1.4, <2".
func parsePySpecifier(s string) (pySpecifier, error) {
	var all pySpecifier
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		c := pyClause{}
		for _, op := range []string{"===", "==", "!=", "~=", ">=", "<=", ">", "<"} {
			if rest, ok := strings.CutPrefix(part, op); ok {
				c.op, c.text = op, strings.TrimSpace(rest)
				break
			}
		}
		if c.op == "" {
			return nil, errors.New("no comparison in " + part)
		}
		if c.op != "===" {
			text := c.text
			text, c.any = strings.CutSuffix(text, ".*")
			if c.any && c.op != "==" && c.op != "!=" {
				return nil, errors.New(c.op + " takes no .*")
			}
			var err error
			if c.version, err = parsePyVersion(text); err != nil {
				return nil, err
			}
			if c.op == "~=" && len(c.version.release) < 2 {
				return nil, errors.New("~= needs two numbers")
			}
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no comparison")
	}
	return all, nil
}

// pre reports whether the specifier itself speaks of pre-releases, which lets
// them in; that one is excluded or a bound that is not within does not count.
func (s pySpecifier) pre() bool {
	for _, c := range s {
		if c.version.pre && c.op != "!=" && c.op != "<" && c.op != ">" {
			return true
		}
	}
	return false
}

// pins reports whether the specifier names one version.
func (s pySpecifier) pins() bool {
	for _, c := range s {
		if c.op == "===" || c.op == "==" && !c.any {
			return true
		}
	}
	return false
}

func (s pySpecifier) holds(v pyVersion) bool {
	for _, c := range s {
		if !c.holds(v) {
			return false
		}
	}
	return true
}

func (c pyClause) holds(v pyVersion) bool {
	switch c.op {
	case "===":
		return strings.EqualFold(c.text, v.text)
	case "==":
		return c.equal(v)
	case "!=":
		return !c.equal(v)
	case "~=":
		series := c.version
		series.release = series.release[:len(series.release)-1]
		return v.public.Compare(c.version.public) >= 0 && v.startsWith(series)
	case ">=":
		return v.public.Compare(c.version.public) >= 0
	case "<=":
		return v.public.Compare(c.version.public) <= 0
	case ">": // no post-release or local version of the very version
		return v.full.Compare(c.version.full) > 0 &&
			!(v.post && !c.version.post && sameRelease(v, c.version)) &&
			!(v.local && v.public.Compare(c.version.public) == 0)
	case "<": // no pre-release of the very version
		return v.full.Compare(c.version.full) < 0 &&
			!(v.pre && !c.version.pre && sameRelease(v, c.version))
	}
	return false
}

func (c pyClause) equal(v pyVersion) bool {
	switch {
	case c.any:
		return v.startsWith(c.version)
	case c.version.local:
		return v.full.Compare(c.version.full) == 0
	}
	return v.public.Compare(c.version.public) == 0
}

func sameRelease(a, b pyVersion) bool { return a.startsWith(b) && b.startsWith(a) }
