package nativedep

import (
	"bytes"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// pinned is a requirement of one exact version (pip documentation, "Requirements
// file format"; PEP 440, "Version matching" and "Arbitrary equality").
var (
	pinned      = pattern.New(`^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?\s*={2,3}\s*([^\s;,()#*]+)\s*\)?\s*(?:$|;|--|#)`)
	requirement = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._-]*`)
)

// readRequirements reads requirements.txt.
func readRequirements(d *draft, data []byte) error {
	if bytes.IndexByte(data, 0) >= 0 {
		return errNotText
	}
	for number := 1; len(data) > 0; {
		at := number
		var text string
		text, data, number = logicalLine(data, number)
		text, _, _ = strings.Cut(text, " #")
		text = strings.TrimSpace(text)
		name := requirement.FindString(text)
		switch m := pinned.FindStringSubmatch(text); {
		case text == "" || text[0] == '#':
		case m != nil:
			d.add(target.PyPI, m[1], m[2], entry{line: at, why: saysNothing})
		case include.MatchString(text):
			d.leave("they are other files, which must be named themselves", strings.TrimSpace(include.ReplaceAllString(text, "")))
		case text[0] == '-' && !editable.MatchString(text): // an option
		case name == "" || strings.Contains(text, "://") || editable.MatchString(text):
			d.leave(notByRegistry, text)
		default:
			d.leave("they are not pinned with ==", name)
		}
	}
	return nil
}

var (
	include  = pattern.New(`^(?:-r|--requirement|-c|--constraint)(?:[ =]|$)`)
	editable = pattern.New(`^(?:-e|--editable)(?:[ =]|$)`)
)

// maxRequirement bounds a requirement with all of its hashes, in bytes.
const maxRequirement = 1 << 20

// logicalLine takes a line and those that it goes on in off the data.
func logicalLine(data []byte, number int) (text string, rest []byte, next int) {
	var b strings.Builder
	for len(data) > 0 {
		raw, rest, _ := bytes.Cut(data, []byte("\n"))
		data = rest
		number++
		raw = bytes.TrimRight(raw, "\r")
		more := bytes.HasSuffix(raw, []byte(`\`))
		if b.Len() < maxRequirement {
			b.Write(bytes.TrimSuffix(raw, []byte(`\`)))
		}
		if !more {
			break
		}
	}
	return b.String(), data, number
}
