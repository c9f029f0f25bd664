package finding

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// A secretShape is what a text looks like that carries a credential.
type secretShape struct {
	*pattern.Pattern          // the first group is kept, the rest is replaced
	needs            []string // one of which, in any case, every match holds: looking for them is faster by far
}

// secretShapes are texts that carry a credential whatever surrounds them: a
// password in a URL, an authorisation header, the tokens of large services by
// their documented prefixes, a value assigned to a name that says it is secret.
var secretShapes = []secretShape{
	{pattern.New(`([a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/@:]{0,64}:)[^\s/@]{3,}(?:@)`), []string{"@"}},
	{pattern.New(`(?i)((?:authorization|proxy-authorization)["']?\s*[:=]\s*["']?(?:basic|bearer|token)\s+)[A-Za-z0-9._~+/=-]{8,}`), []string{"authorization"}},
	{pattern.New(`(?i)((?:_authtoken|_auth|_password|password|passwd|secret|api[_-]?key|access[_-]?key|auth[_-]?token|client[_-]?secret)["']?\s*[:=]\s*["']?)[A-Za-z0-9._~+/=-]{8,}`), []string{"auth", "passw", "secret", "api", "access"}},
	{pattern.New(`(?i)(["'][^"']{0,40}(?:password|passwd|secret|api[_-]?key|access[_-]?key|auth[_-]?token|private[_-]?key)[^"']{0,20}["']\s*,\s*["'])[^"'\s]{6,}`), []string{"passw", "secret", "api", "access", "auth", "private"}},
	{pattern.New(`(\s(?:-u|--user|--proxy-user)[ =]["']?[^\s:"']{1,64}:)[^\s"']{3,}`), []string{"-u"}},
	{pattern.New(`(?i)(\s--?(?:password|passwd|pass|token|secret|api-key)[ =]["']?)[^\s"'-][^\s"']{5,}`), []string{"-pass", "-token", "-secret", "-api-key"}},
	{pattern.New(`\b(gh[pousr]_|npm_)[A-Za-z0-9]{36}`), []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_"}},
	{pattern.New(`\b((?:github_pat_|glpat-|xox[abprs]-|sk_live_|rk_live_|pypi-AgE|AKIA|ASIA|AIza))[A-Za-z0-9_-]{12,}`), []string{"github_pat_", "glpat-", "xox", "sk_live_", "rk_live_", "pypi-age", "akia", "asia", "aiza"}},
	{pattern.New(`\b(sk-(?:[a-z]{2,8}-)*)[A-Za-z0-9_-]{24,}`), []string{"sk-"}},
	{pattern.New(`\b(eyJ)[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}`), []string{"eyj"}},
}

// in reports whether a text, given in lower case, may have the shape.
func (s *secretShape) in(lower string) bool {
	return slices.ContainsFunc(s.needs, func(n string) bool { return strings.Contains(lower, n) })
}

const redacted = "[redacted]"

// Redact replaces what looks like a credential in text, keeping what leads up
// to it so that a reader can tell what it was.
func Redact(text string) string {
	if len(text) < 12 {
		return text
	}
	lower := strings.ReplaceAll(strings.ToLower(text), "ſ", "s") // as expressions without case have it
	for i := range secretShapes {
		shape := &secretShapes[i]
		if !shape.in(lower) {
			continue
		}
		text = shape.ReplaceAllStringFunc(text, func(m string) string {
			keep := shape.FindStringSubmatch(m)[1]
			tail := ""
			if strings.HasSuffix(m, "@") {
				tail = "@"
			}
			return keep + redacted + tail
		})
	}
	return text
}

// Printable returns text with control characters, invalid UTF-8 and
// bidirectional overrides escaped, cut to at most limit bytes at a character's
// boundary with an ellipsis. What it returns cannot move a terminal's cursor
// nor hide a part of itself.
func Printable(text string, limit int) string {
	if len(text) <= limit && plain(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		var piece string
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, text[i])
		case r == '\n':
			piece = `\n`
		case r == '\r':
			piece = `\r`
		case r == '\t':
			piece = `\t`
		case r < 0x20 || r == 0x7f:
			piece = fmt.Sprintf(`\x%02x`, r)
		case r >= 0x80 && r < 0xa0, r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e,
			r >= 0x2060 && r <= 0x206f, r == 0xfeff:
			piece = fmt.Sprintf(`\u%04x`, r)
		default:
			piece = text[i : i+size]
		}
		if b.Len()+len(piece) > limit {
			return b.String() + "…"
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}

// plain reports whether text is all of printable ASCII.
func plain(text string) bool {
	for i := range len(text) {
		if text[i] < 0x20 || text[i] >= 0x7f {
			return false
		}
	}
	return true
}
