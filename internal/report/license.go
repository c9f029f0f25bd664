package report

import (
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// A license is what a package says of its license: an expression of SPDX that
// every reader takes, or else its own words.
type license struct {
	id, expression, words string
}

// newLicense reads the text of a package's license field.
func newLicense(s string) license {
	s = strings.TrimSpace(s)
	if id := licenseID(s); id != "" {
		return license{id: id, expression: id}
	}
	if e, ok := licenseExpression(s); ok {
		return license{expression: e}
	}
	return license{words: s}
}

var licenseToken = pattern.New(`[()]|[^\s()]+`)

// licenseExpression reads an expression of known licenses (SPDX 2.3, annex D):
// ids joined by AND and OR, in brackets where needed.
func licenseExpression(s string) (string, bool) {
	tokens := licenseToken.FindAllString(s, 200)
	depth, operand := 0, true // operand: an id or an opening bracket must follow
	var b strings.Builder
	for _, t := range tokens {
		switch {
		case operand && t == "(":
			depth++
			b.WriteString("(")
		case !operand && t == ")" && depth > 0:
			depth--
			b.WriteString(")")
		case !operand && (t == "AND" || t == "OR"):
			b.WriteString(" " + t + " ")
			operand = true
		case operand && licenseID(t) != "":
			b.WriteString(licenseID(t))
			operand = false
		default:
			return "", false
		}
	}
	return b.String(), !operand && depth == 0
}

// licenseID returns an id as the SPDX License List spells it, or nothing.
func licenseID(s string) string {
	i := slices.IndexFunc(licenseIDs, func(id string) bool { return strings.EqualFold(id, s) })
	if i < 0 {
		return ""
	}
	return licenseIDs[i]
}

// licenseIDs are those of the SPDX License List 3.x that packages of npm and
// PyPI use. Others are reported in the package's own words.
var licenseIDs = []string{
	"0BSD", "AFL-2.1", "AFL-3.0", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-1.1", "Apache-2.0", "Artistic-1.0", "Artistic-2.0",
	"BlueOak-1.0.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "BSD-4-Clause", "BSL-1.0", "BUSL-1.1", "bzip2-1.0.6",
	"CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "CDDL-1.0", "CDDL-1.1", "CECILL-2.1", "CPL-1.0", "curl", "ECL-2.0", "EPL-1.0", "EPL-2.0",
	"EUPL-1.1", "EUPL-1.2", "FSFAP", "FTL", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "HPND", "ICU", "IJG", "ISC",
	"JSON", "LGPL-2.0-only", "LGPL-2.0-or-later", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "libpng-2.0",
	"Libpng", "MIT", "MIT-0", "MIT-CMU", "MPL-1.1", "MPL-2.0", "MS-PL", "NCSA", "OFL-1.1", "OpenSSL", "OSL-3.0", "PostgreSQL", "PSF-2.0",
	"Python-2.0", "Python-2.0.1", "Ruby", "SSPL-1.0", "TCL", "Unicode-3.0", "Unlicense", "UPL-1.0", "Vim", "W3C", "WTFPL", "X11", "Zlib", "ZPL-2.1",
}
