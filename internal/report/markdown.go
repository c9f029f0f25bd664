package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// Markdown is for comments on pull requests and for job summaries: GitHub
// Flavored Markdown, short enough for a comment. Nothing in it that comes from
// the target can be markup, a link, or the name of a person to notify.
var Markdown = Format{
	Name:      "markdown",
	Doc:       "for comments and job summaries",
	MediaType: "text/markdown; charset=utf-8",
	Ext:       ".md",
	Write: func(w io.Writer, r *Report, _ Options) error {
		r = settled(r)
		m := &markdown{Report: r, plurals: newPlurals(r)}
		m.header()
		m.binaries()
		m.findings()
		m.notes()
		m.footer()
		_, err := w.Write(m.out.Bytes())
		return err
	},
}

// How long a report may be after each of its parts, in bytes. A comment of
// GitHub holds 65,536 characters.
const (
	afterBinaries = 26_000
	afterFindings = 48_000
	afterNotes    = 64_000
)

type markdown struct {
	*Report
	out bytes.Buffer
	plurals
}

func (m *markdown) printf(format string, args ...any) { fmt.Fprintf(&m.out, format, args...) }

// fits writes a block, and takes it back if that makes the report longer than
// limit.
func (m *markdown) fits(limit int, block func()) bool {
	before := m.out.Len()
	block()
	if m.out.Len() <= limit {
		return true
	}
	m.out.Truncate(before)
	return false
}

func (m *markdown) header() {
	m.printf("## %s: risk %d of 100, %s\n\n", code(cmp.Or(m.Target.Short(), "target"), 200), m.Risk.Score, m.Risk.Level())
	if rel := m.Release; rel != nil {
		if rel.Deprecated != "" {
			m.printf("> [!WARNING]\n> Deprecated: %s\n\n", literal(rel.Deprecated, 300))
		}
		if rel.Yanked != "" {
			m.printf("> [!WARNING]\n> Yanked: %s\n\n", literal(rel.Yanked, 300))
		}
	}
	if s := literal(m.Summary, maxText); s != "" {
		m.printf("%s\n\n", s)
		if m.AIModel != "" && m.AIModel != ownModel {
			m.printf("<sub>Written by %s.</sub>\n\n", code(m.AIModel, 80))
		}
	}
	m.printf("**%s**", cmp.Or(counted(m.Findings), "No findings"))
	if n := finding.CountUnread(m.Notes); n > 0 {
		m.printf(" · %s on what was not looked at", number(n, "note", "notes"))
	}
	m.printf("\n")
}

// binaries lists the native binaries, folded away if there are many.
func (m *markdown) binaries() {
	if len(m.Binaries) == 0 {
		m.printf("\nNo native binaries")
		if m.Files > 0 {
			m.printf(" in %s", number(m.Files, "file", "files"))
		}
		m.printf(".\n")
		for _, s := range firstOf(installScripts(m.Findings), 5) {
			m.printf("At installation it runs %s.\n", code(s, maxName))
		}
		return
	}
	bs := byRisk(m.Binaries)
	open := ""
	if len(bs) <= 10 {
		open = " open"
	}
	m.printf("\n<details%s><summary>%s</summary>\n\n", open, number(len(bs), "native binary", "native binaries"))
	m.printf("| Path | Format | Size | Functions | Imports | Behaviours | Risk |\n|:--|:--|--:|--:|--:|:--|:--|\n")
	shown := 0
	for _, b := range firstOf(bs, maxBinaries) {
		if !m.fits(afterBinaries, func() { m.binary(b) }) {
			break
		}
		shown++
	}
	if more := len(bs) - shown; more > 0 {
		m.printf("\n… and %d more (`%s`).\n", more, everything)
	}
	m.printf("\n</details>\n")
}

func (m *markdown) binary(b *inventory.Binary) {
	m.printf("| %s | %s | %s | %d | %d | %s | %d %s |\n",
		code(shorten(name(b.Path, maxName), 100), maxName), literal(b.Format+" "+b.Arch, 60), byteSize(b.Size),
		b.Functions.Count, len(b.Imports), words(b.Behaviors), b.Risk.Score, b.Risk.Level())
}

// findings lists each problem once, below its severity, worst first. One that
// takes too much room is cut to its title, so that it hides no other.
func (m *markdown) findings() {
	groups := grouped(m.Findings)
	n := count(m.Findings)
	for i, g := range groups {
		write := func(body bool) bool {
			return m.fits(afterFindings, func() {
				if i == 0 || groups[i-1].Severity != g.Severity {
					s := g.Severity.String()
					m.printf("\n### %s (%d)\n\n", strings.ToUpper(s[:1])+s[1:], n[g.Severity])
				}
				m.finding(g, body)
			})
		}
		if write(true) || write(false) {
			continue
		}
		left := 0
		for _, g := range groups[i:] {
			left += g.size
		}
		m.printf("\n… and %s (`%s`).\n", number(left, "more finding", "more findings"), everything)
		return
	}
}

func (m *markdown) finding(g *group, body bool) {
	where := ""
	switch n := len(g.places); {
	case n == 1:
		where = " – " + codeHTML(shorten(name(g.places[0], maxName), 100), maxName)
	case n > 1:
		where = fmt.Sprintf(" – in %d %s", n, m.noun(g))
	}
	m.printf("<details><summary><b>%s</b>%s</summary>\n\n", literal(cmp.Or(g.Title, g.Rule, "A problem"), 300), where)
	if body {
		m.body(g)
	}
	m.printf("</details>\n")
}

func (m *markdown) body(g *group) {
	for _, d := range firstOf(g.descriptions, 3) {
		if d := literal(d, maxText); d != "" {
			m.printf("%s\n\n", d)
		}
	}
	if n := len(g.descriptions) - 3; n > 0 {
		m.printf("… and %d more of the kind.\n\n", n)
	}
	if len(g.places) > 1 {
		for _, p := range firstOf(g.places, 10) {
			m.printf("- %s\n", code(p, maxName))
		}
		if n := len(g.places) - 10; n > 0 {
			m.printf("- … and %d more\n", n)
		}
		m.printf("\n")
	}
	for _, e := range firstOf(g.evidence, 5) {
		m.printf("- %s %s", literal(cmp.Or(e.Kind, "evidence"), 40), code(e.Value, finding.MaxEvidence))
		if e.From != "" {
			m.printf(" from %s", code(e.From, 80))
		}
		if e.Address != "" {
			m.printf(" at %s", code(e.Address, 40))
		}
		m.printf("\n")
	}
	if len(g.evidence) > 0 {
		m.printf("\n")
	}
	if fix := literal(g.Remediation, maxText); fix != "" {
		m.printf("**What to do:** %s\n\n", fix)
	}
	ids := []string{}
	for _, id := range firstOf(g.ids(), 8) {
		ids = append(ids, code(id, 120))
	}
	m.printf("<sub>%s</sub>\n\n", strings.Join(append(ids, g.Confidence.String()), " · "))
}

func (m *markdown) notes() {
	if len(m.Notes) == 0 {
		return
	}
	m.printf("\n### Notes\n\n")
	shown := 0
	for _, n := range firstOf(m.Notes, maxNotes) {
		if !m.fits(afterNotes, func() { m.note(n) }) {
			break
		}
		shown++
	}
	if more := len(m.Notes) - shown; more > 0 {
		m.printf("- … and %d more\n", more)
	}
}

func (m *markdown) note(n finding.Note) {
	m.printf("- ")
	if n.Path != "" {
		m.printf("%s: ", code(shorten(name(n.Path, maxName), 100), maxName))
	}
	m.printf("%s", literal(n.Text, 300))
	if n.Scanner != "" {
		m.printf(" (%s)", literal(n.Scanner, 60))
	}
	m.printf("\n")
}

func (m *markdown) footer() {
	m.printf("\n<sub>[Loupe](%s)", home)
	if m.Tool.Version != "" {
		m.printf(" %s", code(m.Tool.Version, 60))
	}
	if m.Files > 0 {
		m.printf(" · %s, %s", number(m.Files, "file", "files"), byteSize(m.Bytes))
	}
	if d := m.CompletedAt.Sub(m.StartedAt); d > 0 {
		m.printf(" · %s", elapsed(d))
	}
	m.printf("</sub>\n")
}

// firstOf returns at most the first n of s.
func firstOf[T any](s []T, n int) []T { return s[:min(len(s), n)] }

// literal returns prose that means nothing in Markdown, on one line. Characters
// that could begin markup are character references, which never do (GFM,
// section 6.2). GitHub looks for mentions, issues and addresses after that, so
// an empty comment stands behind the sign that each of them needs.
func literal(s string, limit int) string {
	s = prose(s, limit)
	var b strings.Builder
	for i, r := range s {
		rest := s[i+utf8.RuneLen(r):]
		switch {
		case r == '@' || r == '#' || r == ':' && strings.HasPrefix(rest, "//") || r == '.' && len(rest) > 0 && endsWithWWW(s[:i]):
			fmt.Fprintf(&b, "&#%d;<!-- -->", r)
		case strings.ContainsRune("\\`*[]<>&|~$", r),
			r == '_' && !(i > 0 && isWord(s[i-1]) && len(rest) > 0 && isWord(rest[0])),
			strings.ContainsRune("-+=", r) && i == 0,
			(r == '.' || r == ')') && strings.Trim(s[:i], "0123456789") == "":
			fmt.Fprintf(&b, "&#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func endsWithWWW(s string) bool { return len(s) >= 3 && strings.EqualFold(s[len(s)-3:], "www") }

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

var harmless = pattern.New(`^[A-Za-z0-9 ./_:@+=,#~^()\[\]{}'"?!%*-]+$`)

// code returns a name in the type of code, wherever it stands.
func code(s string, limit int) string {
	s = name(s, limit)
	if harmless.MatchString(s) && strings.TrimSpace(s) == s {
		return "`" + s + "`"
	}
	return codeHTML(s, limit)
}

// codeHTML is code for where only HTML is read, and for any name.
func codeHTML(s string, limit int) string {
	var b strings.Builder
	b.WriteString("<code>")
	for _, r := range name(s, limit) {
		if r < utf8.RuneSelf && !isWord(byte(r)) && !strings.ContainsRune(" /-,", r) {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	b.WriteString("</code>")
	return b.String()
}
