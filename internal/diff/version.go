package diff

import (
	"strconv"
	"strings"
)

// A size says how much a new version may change, by its number (Semantic
// Versioning 2.0.0, section 2; PEP 440 reads the same way here).
type size int

const (
	unknown size = iota
	patch
	minor
	major
)

// A step is the way from one version to another.
type step struct {
	size  size
	words string // "a patch release"; empty if the numbers say nothing
}

// stepOf compares the numbers of two versions.
func stepOf(from, to string) step {
	a, pa, ok := numbers(from)
	b, pb, well := numbers(to)
	if !ok || !well {
		return step{}
	}
	for i := range a {
		switch {
		case b[i] < a[i]:
			return step{unknown, "an older release"}
		case b[i] > a[i]:
			switch {
			case pb:
				return step{unknown, "a pre-release"}
			case i == 0:
				return step{major, "a major release"}
			case i == 1:
				return step{minor, "a minor release"}
			}
			return step{patch, "a patch release"}
		}
	}
	switch {
	case pa && !pb:
		return step{unknown, "the release of what was a pre-release"}
	case pb && !pa:
		return step{unknown, "a pre-release"}
	}
	return step{}
}

// numbers returns the first three numbers of a version, and whether it is a
// pre-release.
func numbers(version string) (n [3]int, pre, ok bool) {
	core, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "+")
	core, _, pre = strings.Cut(core, "-")
	for i, part := range strings.SplitN(core, ".", 4) {
		if i == 3 {
			break
		}
		digits := number(part)
		if digits == 0 {
			break
		}
		v, err := strconv.Atoi(part[:digits])
		if err != nil {
			return n, pre, false
		}
		n[i], ok = v, true
		if digits < len(part) { // 2.0rc1, 1.0.dev2
			return n, true, true
		}
	}
	return n, pre, ok
}
