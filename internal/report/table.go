package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// Table is for people in front of a terminal: the verdict first, then what
// there is, what is wrong with it, and what could not be looked at.
var Table = Format{
	Name:      "table",
	Doc:       "for people, on a terminal",
	MediaType: "text/plain; charset=utf-8",
	Ext:       ".txt",
	Write: func(w io.Writer, r *Report, o Options) error {
		r = settled(r)
		t := &table{Report: r, explain: o.Explain, plurals: newPlurals(r), screen: screen{color: o.Color, width: max(o.Width, 0)}}
		t.header()
		t.why()
		t.binaries()
		t.findings()
		t.notes()
		t.counts()
		_, err := w.Write(t.out.Bytes())
		return err
	},
}

// How much of a long list is shown. The JSON report holds the rest.
const (
	maxBinaries = 30
	maxGroups   = 40
	maxNotes    = 15
	maxText     = 1200 // bytes of a paragraph
	maxName     = 400  // bytes of a path or symbol
	maxPath     = 120  // columns of a path, in a list
)

const everything = "--format json shows all"

type table struct {
	*Report
	screen
	explain bool
	plurals
}

// header says what was scanned, how bad it is, and sums it up.
func (t *table) header() {
	title := cmp.Or(name(t.Target.Short(), maxName), "target")
	badge := fmt.Sprintf("risk %d/100 %s", t.Risk.Score, t.Risk.Level())
	if t.width > 0 {
		title = shorten(title, max(t.width-columns(badge)-3, 20))
	}
	spans := []span{{bold, title}, {normal, "   "}, {levelStyle(t.Risk.Level()), badge}}
	if used := columns(title) + 3 + columns(badge); t.width == 0 || used+14 <= t.width {
		full := min(max(t.Risk.Score, 0), 100) / 10
		if t.Risk.Score > 0 && full == 0 {
			full = 1
		}
		spans = append(spans, span{normal, "  "}, span{levelStyle(t.Risk.Level()), strings.Repeat("■", full)}, span{dim, strings.Repeat("·", 10-full)})
	}
	t.line(spans...)
	if about := t.about(); about != "" {
		t.text(0, dim, about, 2)
	}
	if rel := t.Release; rel != nil {
		if rel.Deprecated != "" {
			t.hang("", yellow, "Deprecated: "+prose(rel.Deprecated, 300), 3)
		}
		if rel.Yanked != "" {
			t.hang("", yellow, "Yanked: "+prose(rel.Yanked, 300), 3)
		}
	}
	if s := prose(t.Summary, 3*maxText); s != "" {
		t.line()
		t.text(0, normal, s, 12)
		if m := t.AIModel; m != "" && m != ownModel {
			t.text(0, dim, "(written by "+name(m, 80)+")", 1)
		}
	}
}

// ownModel is the author of texts that no language model wrote.
const ownModel = "loupe-rules"

// about says in a line what the target is.
func (t *table) about() string {
	kind := map[target.Kind]string{
		target.Path: "files of this machine", target.Host: "a host on the network", target.Repo: "a git repository",
	}[t.Target.Kind]
	rel := t.Release
	if rel == nil {
		return kind
	}
	parts := []string{prose(rel.Description, 200), prose(rel.License, 80)}
	if !rel.Published.IsZero() {
		parts = append(parts, "published "+rel.Published.UTC().Format(time.DateOnly))
	}
	if n := len(rel.Parts); n > 1 {
		parts = append(parts, number(n, "archive", "archives"))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " · ")
}

// why shows the terms of the score.
func (t *table) why() {
	if !t.explain || len(t.Risk.Terms) == 0 {
		return
	}
	t.heading(fmt.Sprintf("Why %d", t.Risk.Score))
	t.terms(t.Risk.Terms)
}

func (t *table) terms(terms []finding.Term) {
	for _, term := range terms {
		text := prose(term.Reason, 300)
		if term.Rule != "" {
			text += " (" + name(term.Rule, 100) + ")"
		}
		t.hang(fmt.Sprintf("  %+4d  ", term.Points), normal, text, 3)
	}
}

func (t *table) heading(s string) {
	t.line()
	t.line(span{bold, s})
}

// binaries lists the native binaries, worst first.
func (t *table) binaries() {
	if len(t.Binaries) == 0 {
		t.noBinaries()
		return
	}
	bs := byRisk(t.Binaries)
	shown := bs[:min(len(bs), maxBinaries)]
	paths := make([]string, len(shown))
	for i, b := range shown {
		paths[i] = b.Path
	}
	folder := commonFolder(paths)
	title := number(len(bs), "native binary", "native binaries")
	if folder != "" && len(bs) > 1 {
		if t.width > 0 {
			title += " in " + shorten(name(folder, maxName), max(t.width-columns(title)-4, 12))
		} else {
			title += " in " + name(folder, maxName)
		}
	} else {
		folder = ""
	}
	t.heading(title)
	path, format := &column{title: "path", path: true}, &column{title: "format", drop: 4}
	size, funcs := &column{title: "size", right: true, drop: 3}, &column{title: "funcs", right: true, drop: 1}
	imports, does := &column{title: "imports", right: true, drop: 2}, &column{title: "behaviours", drop: 5}
	risk := &column{title: "risk"}
	for _, b := range shown {
		path.add(normal, shorten(name(b.Path[len(folder):], maxName), maxPath))
		format.add(normal, name(strings.TrimSpace(b.Format+" "+b.Arch), 60))
		size.add(normal, byteSize(b.Size))
		funcs.add(normal, fmt.Sprint(b.Functions.Count))
		imports.add(normal, fmt.Sprint(len(b.Imports)))
		does.add(normal, words(b.Behaviors))
		risk.add(levelStyle(b.Risk.Level()), fmt.Sprintf("%3d %s", b.Risk.Score, b.Risk.Level()))
	}
	t.grid([]*column{path, format, size, funcs, imports, does, risk})
	if more := len(bs) - len(shown); more > 0 {
		t.line(span{dim, fmt.Sprintf("  … and %d more (%s)", more, everything)})
	}
	if t.explain {
		t.whyBinaries(shown, folder)
	}
}

func (c *column) add(s style, text string) { c.cells = append(c.cells, span{s, text}) }

// whyBinaries shows the terms of each binary's score, once for those that have
// the same.
func (t *table) whyBinaries(bs []*inventory.Binary, folder string) {
	var order []string
	same := make(map[string][]*inventory.Binary)
	for _, b := range bs {
		if len(b.Risk.Terms) == 0 {
			continue
		}
		k := fmt.Sprintf("%#v", b.Risk.Terms)
		if same[k] == nil {
			order = append(order, k)
		}
		same[k] = append(same[k], b)
	}
	for _, k := range order {
		var paths []string
		for _, b := range same[k] {
			paths = append(paths, b.Path[len(folder):])
		}
		slices.Sort(paths)
		first := same[k][0]
		t.line()
		t.hang("  ", bold, fmt.Sprintf("Why %d: %s", first.Risk.Score, t.places(slices.Compact(paths), "")), 3)
		t.terms(first.Risk.Terms)
	}
}

// noBinaries says that there are none, and what runs at installation all the
// same.
func (t *table) noBinaries() {
	t.line()
	text := "No native binaries"
	if t.Files > 0 {
		text += " in " + number(t.Files, "file", "files")
	}
	t.text(0, normal, text+".", 0)
	if scripts := installScripts(t.Findings); len(scripts) > 0 {
		for _, s := range scripts[:min(len(scripts), 5)] {
			t.hang("At installation it runs: ", yellow, name(s, maxName), 4)
		}
	} else if t.Release != nil && t.ruleRan(installs) && !t.found(installs) {
		t.text(0, normal, "Nothing was found to run at installation.", 0)
	}
}

func (t *table) ruleRan(is func(string) bool) bool {
	for _, r := range t.Rules {
		if is(r.ID) {
			return true
		}
	}
	return false
}

func (t *table) found(is func(string) bool) bool {
	return slices.ContainsFunc(t.Findings, func(f finding.Finding) bool { return is(f.Rule) })
}

// findings lists what is wrong, worst first, each problem once, and what is
// merely worth knowing in a line each.
func (t *table) findings() {
	if len(t.Findings) == 0 {
		return
	}
	groups := grouped(t.Findings)
	mild := slices.IndexFunc(groups, func(g *group) bool { return g.Severity == finding.Info })
	if mild < 0 {
		mild = len(groups)
	}
	if mild > 0 {
		t.heading("Findings")
		for i, g := range groups[:min(mild, maxGroups)] {
			if i > 0 {
				t.line()
			}
			t.finding(g)
		}
		t.leftOut(groups[min(mild, maxGroups):mild])
	}
	if infos := groups[mild:]; len(infos) > 0 {
		t.heading("Worth knowing")
		for _, g := range infos[:min(len(infos), 10)] {
			text := prose(cmp.Or(g.Title, g.Rule), 200)
			if where := t.places(g.places, t.noun(g)); where != "" {
				text += " – " + where
			}
			t.hang("  · ", normal, text, 2)
		}
		t.leftOut(infos[min(len(infos), 10):])
	}
}

func (t *table) leftOut(groups []*group) {
	n := 0
	for _, g := range groups {
		n += g.size
	}
	if n > 0 {
		t.line(span{dim, fmt.Sprintf("  … and %s (%s)", number(n, "more finding", "more findings"), everything)})
	}
}

// bodyIndent is where the text of a finding stands, right of its badge.
const bodyIndent = 12

func (t *table) finding(g *group) {
	badge := strings.ToUpper(g.Severity.String())
	title := prose(cmp.Or(g.Title, g.Rule), 300)
	switch g.Confidence {
	case finding.Possible:
		title += " (possible)"
	case finding.Likely:
		title += " (likely)"
	}
	room := 0
	if t.width > 0 {
		room = max(t.width-bodyIndent, 12)
	}
	lead := []span{{normal, "  "}, {severityStyle(g.Severity), badge}, {normal, strings.Repeat(" ", max(bodyIndent-2-len(badge), 1))}}
	for i, l := range wrap(title, room) {
		if i > 0 {
			lead = []span{{normal, strings.Repeat(" ", bodyIndent)}}
		}
		t.line(append(lead, span{bold, l})...)
	}
	if where := t.places(g.places, t.noun(g)); where != "" {
		if g.size == 1 && g.Location.Symbol != "" {
			where += ", " + name(g.Location.Symbol, 120)
		}
		if g.size == 1 && g.Location.Address != "" {
			where += " at " + name(g.Location.Address, 40)
		}
		t.text(bodyIndent, cyan, where, 3)
	}
	shown := g.descriptions[:min(len(g.descriptions), 3)]
	said := ""
	for _, d := range shown {
		d = prose(d, maxText)
		said += d
		t.text(bodyIndent, normal, d, 6)
	}
	if n := len(g.descriptions) - len(shown); n > 0 {
		t.text(bodyIndent, dim, fmt.Sprintf("… and %d more of the kind", n), 1)
	}
	if proof := proof(g.evidence, said); proof != "" {
		t.text(bodyIndent, dim, proof, 3)
	}
	if g.Remediation != "" {
		t.hang(strings.Repeat(" ", bodyIndent)+"→ ", normal, prose(g.Remediation, maxText), 4)
	}
	if ids := g.ids(); len(ids) > 0 {
		t.text(bodyIndent, dim, name(strings.Join(ids, " · "), 300), 2)
	}
}

// proof returns up to four pieces of evidence that the text before has not
// said already.
func proof(es []finding.Evidence, said string) string {
	var out []string
	for _, e := range es {
		value := name(e.Value, 160)
		if strings.Contains(said, value) {
			continue
		}
		if len(out) == 4 {
			out = append(out, "…")
			break
		}
		text := strings.TrimSpace(name(e.Kind, 40) + " " + value)
		if e.From != "" {
			joint := " from "
			if e.Kind == "url" {
				joint = " for " // a platform
			}
			text += joint + name(e.From, 80)
		}
		if e.Address != "" {
			text += " at " + name(e.Address, 40)
		}
		out = append(out, text)
	}
	return strings.Join(out, " · ")
}

// places returns where something is, in short: "in 6 binaries:
// prebuilds/{linux-x64, …}/x.node".
func (t *table) places(paths []string, noun string) string {
	if len(paths) == 0 {
		return ""
	}
	clean := make([]string, len(paths))
	for i, p := range paths {
		clean[i] = name(p, maxName)
	}
	if len(clean) == 1 {
		return shorten(clean[0], 200)
	}
	text, ok := braces(clean, 8)
	if !ok {
		for i := range clean {
			clean[i] = shorten(clean[i], 72)
		}
		text = strings.Join(clean[:min(len(clean), 5)], ", ")
		if more := len(clean) - 5; more > 0 {
			text += fmt.Sprintf(", and %d more", more)
		}
	}
	if noun == "" {
		return text
	}
	return fmt.Sprintf("in %d %s: %s", len(clean), noun, text)
}

// notes says what was not looked at, and what else is good to know.
func (t *table) notes() {
	if len(t.Notes) == 0 {
		return
	}
	t.heading("Notes")
	for _, n := range t.Notes[:min(len(t.Notes), maxNotes)] {
		text := prose(n.Text, 300)
		if n.Path != "" {
			text = shorten(name(n.Path, maxName), 72) + ": " + text
		}
		if n.Scanner != "" {
			text += " (" + name(n.Scanner, 60) + ")"
		}
		t.hang("  · ", yellow, text, 3)
	}
	if more := len(t.Notes) - maxNotes; more > 0 {
		t.line(span{dim, fmt.Sprintf("  … and %d more (%s)", more, everything)})
	}
}

// counts is the last line, which stays in sight after a long report.
func (t *table) counts() {
	parts := []string{"No findings"}
	st := green
	if len(t.Findings) > 0 {
		st = normal
		parts[0] = counted(t.Findings)
	}
	if n := finding.CountUnread(t.Notes); n > 0 {
		st = normal
		parts = append(parts, number(n, "note", "notes")+" on what was not looked at")
	}
	if n := len(t.Binaries); n > 0 {
		parts = append(parts, number(n, "binary", "binaries"))
	}
	if n := len(t.Components); n > 0 {
		parts = append(parts, number(n, "component", "components"))
	}
	if t.Files > 0 {
		parts = append(parts, number(t.Files, "file", "files")+", "+byteSize(t.Bytes))
	}
	if d := t.CompletedAt.Sub(t.StartedAt); d > 0 {
		parts = append(parts, elapsed(d))
	}
	t.line()
	t.hang("", st, strings.Join(parts, " · "), 0)
}

// elapsed returns d for people: "412 ms", "3.2 s", "2 min 5 s".
func elapsed(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(d.Milliseconds(), 1))
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}

func levelStyle(l finding.RiskLevel) style {
	switch l {
	case finding.RiskCritical:
		return alarming
	case finding.RiskHigh:
		return boldRed
	case finding.RiskMedium:
		return yellow
	case finding.RiskLow:
		return cyan
	}
	return green
}

func severityStyle(s finding.Severity) style {
	switch s {
	case finding.Critical:
		return alarming
	case finding.High:
		return boldRed
	case finding.Medium:
		return yellow
	case finding.Low:
		return cyan
	}
	return dim
}
