package target

import (
	"fmt"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// SortVersion returns bytes that compare as versions of an ecosystem do: by
// Semantic Versioning 2.0.0, section 11, for npm, and by the "Version
// specifiers" specification of the Python Packaging User Guide (PEP 440) for
// PyPI. Versions that are equal there, such as 1.0 and 1.0.0 of PyPI, give the
// same bytes. What is no version sorts below all that are, by its letters.
//
// All bytes are printable ASCII where the version's are. Databases keep them: who
// changes their form has to write them anew there.
func SortVersion(eco Ecosystem, version string) []byte {
	var key []byte
	switch eco {
	case NPM:
		key = sortSemantic(version)
	case PyPI:
		key = sortPEP440(version)
	}
	if key == nil {
		return append([]byte{noVersion}, version...)
	}
	return key
}

// In keys, letters stand for what may be at a place, so that their order is
// that of the versions. A number begins with a digit or with manyDigits.
const (
	noVersion  = '!' // below all numbers
	listEnd    = '!' // below all elements of a list: the shorter list is lower
	absentLow  = '!' // below what may be there
	absentHigh = '~' // above what may be there
	manyDigits = 'z'
)

// sortNumber appends digits so that numbers compare by their value, whatever
// their length: first comes how many digits there are, leading zeros apart.
func sortNumber(key []byte, digits string) []byte {
	digits = strings.TrimLeft(digits, "0")
	if n := len(digits); n < 10 {
		key = append(key, '0'+byte(n))
	} else {
		key = fmt.Appendf(key, "%c%09d", manyDigits, n)
	}
	return append(key, digits...)
}

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

// sortWord appends letters that end in a byte below all of theirs.
func sortWord(key []byte, word string) []byte { return append(append(key, word...), ' ') }

var semanticForm = pattern.New(`^v*(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]*)?$`)

func sortSemantic(version string) []byte {
	m := semanticForm.FindStringSubmatch(version)
	if m == nil {
		return nil
	}
	var key []byte
	for _, number := range m[1:4] {
		key = sortNumber(key, number)
	}
	if m[4] == "" {
		return append(key, absentHigh)
	}
	for id := range strings.SplitSeq(m[4], ".") {
		if isNumber(id) {
			key = sortNumber(append(key, '1'), id)
		} else {
			key = sortWord(append(key, '2'), id)
		}
	}
	return append(key, listEnd)
}

var pep440Form = pattern.New(`^\s*v?(?:(\d+)!)?(\d+(?:\.\d+)*)` +
	`(?:[-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?(\d*))?` +
	`(?:-(\d+)|[-_.]?(post|rev|r)[-_.]?(\d*))?` +
	`(?:[-_.]?(dev)[-_.]?(\d*))?` +
	`(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?\s*$`)

// The groups of pep440Form.
const (
	pepEpoch = iota + 1
	pepRelease
	pepPre
	pepPreNumber
	pepImpliedPost
	pepPost
	pepPostNumber
	pepDev
	pepDevNumber
	pepLocal
)

func sortPEP440(version string) []byte {
	m := pep440Form.FindStringSubmatch(strings.ToLower(version))
	if m == nil {
		return nil
	}
	key := sortNumber(nil, m[pepEpoch])
	release := strings.Split(m[pepRelease], ".")
	for len(release) > 1 && strings.Trim(release[len(release)-1], "0") == "" {
		release = release[:len(release)-1]
	}
	for _, number := range release {
		key = sortNumber(key, number)
	}
	key = append(key, listEnd)

	post := m[pepImpliedPost] != "" || m[pepPost] != ""
	switch {
	case m[pepPre] != "":
		key = sortNumber(append(key, preRelease(m[pepPre])), m[pepPreNumber])
	case m[pepDev] != "" && !post: // of the release itself: below its pre-releases
		key = append(key, absentLow)
	default:
		key = append(key, absentHigh)
	}
	if post {
		key = sortNumber(append(key, 'p'), m[pepImpliedPost]+m[pepPostNumber])
	} else {
		key = append(key, absentLow)
	}
	if m[pepDev] != "" {
		key = sortNumber(append(key, 'd'), m[pepDevNumber])
	} else {
		key = append(key, absentHigh)
	}
	if m[pepLocal] == "" {
		return append(key, absentLow)
	}
	for part := range strings.FieldsFuncSeq(m[pepLocal], func(r rune) bool { return strings.ContainsRune("-_.", r) }) {
		if isNumber(part) {
			key = sortNumber(append(key, '2'), part)
		} else {
			key = sortWord(append(key, '1'), part)
		}
	}
	return append(key, listEnd)
}

// preRelease returns the letter of a kind of pre-release, whose spellings are
// many.
func preRelease(kind string) byte {
	switch kind {
	case "a", "alpha":
		return 'a'
	case "b", "beta":
		return 'b'
	}
	return 'c'
}
