package diff

import (
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// neutral makes paths comparable between two versions.
type neutral struct{ versions *strings.Replacer }

func newNeutral(from, to string) neutral {
	versions := []string{from, to}
	slices.SortFunc(versions, func(a, b string) int { // of 1.0 and 1.0.1 the longer first
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	var replace []string
	for _, v := range versions {
		if strings.Contains(v, ".") { // "1" occurs in everything
			replace = append(replace, v, "{version}", strings.ReplaceAll(v, ".", "_"), "{version}")
		}
	}
	return neutral{strings.NewReplacer(replace...)}
}

// versionless returns a path or address without the versions that are compared.
func (n neutral) versionless(p string) string { return n.versions.Replace(p) }

var (
	digits  = pattern.New(`\d+([._]\d+)*`)
	pyTag   = pattern.New(`\b(cp|pp|py)\d+(\.py\d+)*(-(cp|pp|abi|none)[\w]*)?`)
	libc    = pattern.New(`manylinux[\w.#-]*`)
	hashy   = pattern.New(`[0-9a-f]{16,}`)
	machine = pattern.New(`x86[_-]64|x64|x86|amd64|i[36]86|ia32|arm64|aarch64|armv?[678]?[lh]?f?|win32|win64|darwin|linux|macosx?`)
)

// loose returns a path without any number that changes from version to version:
// versions, those of Node's and Python's ABI, of operating systems, hashes in
// names. What a path says of the machine is left out as well, since binaries
// are known by theirs.
func (n neutral) loose(p string) string {
	p = strings.ToLower(n.versionless(p))
	p = pyTag.ReplaceAllString(p, "py")
	p = hashy.ReplaceAllString(p, "#")
	p = libc.ReplaceAllString(p, "manylinux")
	p = machine.ReplaceAllString(p, "")
	return digits.ReplaceAllString(p, "#")
}

// bare returns an address or text without any number that looks like a version.
func (n neutral) bare(s string) string {
	return dotted.ReplaceAllString(n.versionless(s), "#")
}

var dotted = pattern.New(`\d+(\.\d+)+|\bv\d+\b|[0-9a-f]{16,}`)

// kind returns the type of a package URL: "npm" of "pkg:npm/a@1".
func kind(purl string) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(purl, "pkg:"), "/")
	return kind
}

// purlVersion returns the version of a package URL, as it stands there.
func purlVersion(purl string) string {
	purl, _, _ = strings.Cut(purl, "?")
	if i := strings.LastIndexByte(purl, '@'); i >= 0 {
		return strings.ReplaceAll(purl[i+1:], "%2B", "+")
	}
	return ""
}
