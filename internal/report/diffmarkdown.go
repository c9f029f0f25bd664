package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
)

// writeDiffMarkdown is for comments on pull requests that update a dependency.
// Nothing in it that comes from the targets can be markup.
func writeDiffMarkdown(w io.Writer, d *Diff, _ Options) error {
	m := &diffMarkdown{Diff: d}
	m.title()
	m.printf("%s\n", literal(d.Summary, 3*maxText))
	m.assets()
	m.behaviors()
	m.findings()
	m.binaries()
	m.components()
	m.notes()
	_, err := w.Write(m.out.Bytes())
	return err
}

type diffMarkdown struct {
	*Diff
	markdown
}

// title names both sides and the risk.
func (m *diffMarkdown) title() {
	what, from, to := m.PackageName, m.FromVersion, m.ToVersion
	if m.Ecosystem != "" {
		what = string(m.Ecosystem) + ":" + what
	}
	if from == "" && to == "" {
		what, from, to = "", m.From.Target, m.To.Target
	}
	if what != "" {
		what = code(what, 200) + " "
	}
	m.printf("## %s%s → %s: %s\n\n", what, code(from, 200), code(to, 200), literal(deltaText(m.Diff), 100))
}

// rows writes as many lines of a list as fit, and counts the others.
func (m *diffMarkdown) rows(n, limit int, row func(i int)) {
	for i := range n {
		if !m.fits(limit, func() { row(i) }) {
			m.printf("- … and %d more (`%s`)\n", n-i, everything)
			return
		}
	}
}

func (m *diffMarkdown) assets() {
	if len(m.Install.Assets) == 0 {
		return
	}
	m.printf("\n> [!CAUTION]\n> What the installation downloads was replaced:\n")
	for _, a := range firstOf(m.Install.Assets, 10) {
		m.printf("> %s held %s, now %s\n", code(a.URL, maxName), code(a.FromSHA256, 80), code(a.ToSHA256, 80))
	}
}

func (m *diffMarkdown) behaviors() {
	for _, part := range []struct {
		title string
		list  []string
	}{{"Added behaviour", m.AddedBehaviors}, {"Removed behaviour", m.RemovedBehaviors}} {
		if len(part.list) == 0 {
			continue
		}
		m.printf("\n### %s (%d)\n\n", part.title, len(part.list))
		m.rows(len(part.list), afterBinaries, func(i int) { m.printf("- %s\n", literal(part.list[i], maxText)) })
	}
}

func (m *diffMarkdown) findings() {
	f := m.Diff.Findings
	for _, part := range []struct {
		title string
		list  []finding.Finding
	}{{"New findings", f.Added}, {"Findings that are gone", f.Removed}} {
		groups := grouped(part.list)
		if len(groups) == 0 {
			continue
		}
		m.printf("\n### %s (%d)\n\n", part.title, len(part.list))
		m.rows(len(groups), afterFindings/2, func(i int) {
			g := groups[i]
			where := ""
			switch n := len(g.places); {
			case n == 1:
				where = " – " + code(shorten(name(g.places[0], maxName), 100), maxName)
			case n > 1:
				where = fmt.Sprintf(" – in %d places", n)
			}
			m.printf("- **%s** %s%s\n", g.Severity, literal(cmp.Or(g.Title, g.Rule), 300), where)
		})
	}
	if len(f.Changed) > 0 {
		m.printf("\n### Findings rated otherwise (%d)\n\n", len(f.Changed))
		m.rows(len(f.Changed), afterFindings/2, func(i int) {
			c := f.Changed[i]
			m.printf("- %s → **%s** %s – %s\n", c.From, c.Finding.Severity, literal(cmp.Or(c.Finding.Title, c.Finding.Rule), 300), code(spot(c.Finding.Location), 200))
		})
	}
}

func (m *diffMarkdown) binaries() {
	list := m.Diff.Binaries
	if len(list) == 0 {
		m.printf("\nNo native binaries on either side.\n")
		return
	}
	m.printf("\n<details><summary>%s</summary>\n\n", countStatus(list))
	m.printf("| Path | | Format | Size | Functions | Behaviours |\n|:--|:--|:--|--:|:--|:--|\n")
	shown := 0
	for i := range list {
		b := &list[i]
		if b.Status == DiffSame && b.FromPath == b.ToPath {
			continue
		}
		if shown == maxDiffBinaries || !m.fits(afterFindings, func() {
			m.printf("| %s | %s | %s | %s %s | %s | %s |\n", code(shorten(name(b.path(), maxName), 100), maxName), statusWord(b),
				literal(b.Format+" "+b.Architecture, 60), byteSize(cmp.Or(b.ToSize, b.FromSize)), sizeDelta(b), functionWords(b.Functions, b.Status), literal(behaviorSigns(b.Behaviors), 200))
		}) {
			m.printf("\n… and more (`%s`)\n", everything)
			break
		}
		shown++
	}
	for i, g := range detailed(list) {
		if i == maxDiffDetails || !m.fits(afterFindings, func() {
			m.printf("\n%s\n\n", code(groupTitle(g.paths), maxName))
			label := ""
			for _, l := range g.lines {
				label = cmp.Or(l.label, label)
				m.printf("- %s %s%s\n", label, strings.TrimLeft(l.sign, " "), code(l.text, maxText))
			}
		}) {
			m.printf("\n… and more (`%s`)\n", everything)
			break
		}
	}
	m.printf("\n</details>\n")
}

func (m *diffMarkdown) components() {
	c := m.Diff.Components
	n := len(c.Changed) + len(c.Added) + len(c.Removed) + len(m.Diff.Release)
	if n == 0 {
		return
	}
	m.printf("\n<details><summary>Components and metadata: %s</summary>\n\n", number(n, "change", "changes"))
	m.rows(len(c.Changed), afterNotes, func(i int) { m.printf("- %s → %s\n", code(c.Changed[i].From, 200), code(c.Changed[i].To, 200)) })
	m.rows(len(c.Added), afterNotes, func(i int) { m.printf("- added %s\n", code(c.Added[i].PURL, 200)) })
	m.rows(len(c.Removed), afterNotes, func(i int) { m.printf("- removed %s\n", code(c.Removed[i].PURL, 200)) })
	for _, p := range m.Diff.Release {
		m.printf("- %s: %s → %s\n", literal(p.Name, 40), literal(cmp.Or(p.From, "none"), 200), literal(cmp.Or(p.To, "none"), 200))
	}
	m.printf("\n</details>\n")
}

func (m *diffMarkdown) notes() {
	if len(m.From.Notes)+len(m.To.Notes) == 0 {
		return
	}
	m.printf("\n### Notes on one side only\n\n")
	for _, side := range []struct {
		what string
		list []finding.Note
	}{{"new", m.To.Notes}, {"gone", m.From.Notes}} {
		m.rows(len(side.list), afterNotes, func(i int) {
			n := side.list[i]
			where := ""
			if n.Path != "" {
				where = code(shorten(name(n.Path, maxName), 72), maxName) + ": "
			}
			m.printf("- %s: %s%s\n", side.what, where, literal(n.Text, 300))
		})
	}
}
