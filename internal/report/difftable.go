package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
)

// writeDiffTable is for people in front of a terminal: what is different in
// sentences first, then behaviours, installation, binaries and findings.
func writeDiffTable(w io.Writer, d *Diff, o Options) error {
	t := &diffTable{Diff: d, screen: screen{color: o.Color, width: max(o.Width, 0)}}
	t.header()
	t.behaviors()
	t.install()
	t.binaries()
	t.details()
	t.components()
	t.findings()
	t.notes()
	t.counts()
	_, err := w.Write(t.out.Bytes())
	return err
}

type diffTable struct {
	*Diff
	screen
}

// How much of a long list a diff shows.
const (
	maxDiffBinaries = 25 // rows
	maxDiffDetails  = 12 // binaries of which more is told
	maxDiffNames    = 8  // names in a line
	maxDiffFindings = 25
)

const (
	plus  = "+ "
	minus = "− "
)

func (t *diffTable) header() {
	t.line(span{bold, diffTitle(t.Diff)}, span{normal, "   "}, span{deltaStyle(t.RiskDelta), deltaText(t.Diff)})
	t.line()
	t.text(0, normal, prose(t.Summary, 3*maxText), 12)
}

// diffTitle names both sides: "npm:sqlite3 5.1.6 → 5.1.7".
func diffTitle(d *Diff) string {
	what := name(d.PackageName, maxName)
	if d.Ecosystem != "" {
		what = name(string(d.Ecosystem), 40) + ":" + what
	}
	if d.FromVersion == "" && d.ToVersion == "" {
		return shorten(name(d.From.Target, maxName), 60) + " → " + shorten(name(d.To.Target, maxName), 60)
	}
	return what + " " + name(d.FromVersion, 80) + " → " + name(d.ToVersion, 80)
}

func deltaText(d *Diff) string {
	if d.RiskDelta == 0 {
		return fmt.Sprintf("risk %d %s, as before", d.To.RiskScore, d.To.RiskLevel)
	}
	return fmt.Sprintf("risk %d → %d %s", d.From.RiskScore, d.To.RiskScore, d.To.RiskLevel)
}

func deltaStyle(delta int) style {
	switch {
	case delta >= 20:
		return boldRed
	case delta > 0:
		return yellow
	case delta < 0:
		return green
	}
	return dim
}

func (t *diffTable) heading(s string) {
	t.line()
	t.line(span{bold, s})
}

// change adds a line that was added or removed.
func (t *diffTable) change(sign string, text string, most int) {
	st := green
	if sign == plus {
		st = red
	}
	t.hang("  "+sign, st, text, most)
}

func (t *diffTable) behaviors() {
	if len(t.AddedBehaviors)+len(t.RemovedBehaviors) == 0 {
		return
	}
	t.heading("Behaviour")
	for _, s := range t.AddedBehaviors {
		t.change(plus, prose(s, maxText), 4)
	}
	for _, s := range t.RemovedBehaviors {
		t.change(minus, prose(s, maxText), 4)
	}
}

// install shows what is replaced behind an address; scripts and downloads are
// behaviours and stand there.
func (t *diffTable) install() {
	if len(t.Install.Assets) == 0 {
		return
	}
	t.heading("Replaced downloads")
	for _, a := range t.Install.Assets {
		t.line(span{normal, "  "}, span{severityStyle(a.Severity), strings.ToUpper(a.Severity.String())}, span{normal, "  "}, span{normal, name(a.URL, maxName)})
		t.hang("    "+minus, normal, name(a.FromSHA256, 80), 1)
		t.hang("    "+plus, normal, name(a.ToSHA256, 80), 1)
	}
}

// path of a binary on the side where it is.
func (b *BinaryDiff) path() string { return cmp.Or(b.ToPath, b.FromPath) }

func (t *diffTable) binaries() {
	if len(t.Binaries) == 0 {
		t.line()
		t.text(0, normal, "No native binaries on either side.", 0)
		return
	}
	rows := slices.DeleteFunc(slices.Clone(t.Binaries), func(b BinaryDiff) bool { return b.Status == DiffSame && b.FromPath == b.ToPath })
	title := countStatus(t.Binaries)
	t.heading(title)
	if len(rows) == 0 {
		return
	}
	shown := rows[:min(len(rows), maxDiffBinaries)]
	paths := make([]string, len(shown))
	for i := range shown {
		paths[i] = shown[i].path()
	}
	folder := commonFolder(paths)
	if len(shown) == 1 {
		folder = ""
	} else if folder != "" {
		t.line(span{dim, "  in " + shorten(name(folder, maxName), 100)})
	}
	path, format := &column{title: "path", path: true}, &column{title: "format", drop: 4}
	state, size := &column{title: "", drop: 6}, &column{title: "size", right: true, drop: 3}
	delta, funcs := &column{title: "by", right: true, drop: 2}, &column{title: "functions", drop: 1}
	does := &column{title: "behaviours", drop: 5}
	for i := range shown {
		b := &shown[i]
		path.add(normal, shorten(name(b.path()[len(folder):], maxName), maxPath))
		format.add(normal, name(strings.TrimSpace(b.Format+" "+b.Architecture), 60))
		state.add(statusStyle(b.Status), statusWord(b))
		size.add(normal, byteSize(cmp.Or(b.ToSize, b.FromSize)))
		delta.add(normal, sizeDelta(b))
		funcs.add(normal, functionWords(b.Functions, b.Status))
		does.add(normal, behaviorSigns(b.Behaviors))
	}
	t.grid(slices.DeleteFunc([]*column{path, state, format, size, delta, funcs, does}, func(c *column) bool {
		return !slices.ContainsFunc(c.cells, func(s span) bool { return s.text != "" })
	}))
	if more := len(rows) - len(shown); more > 0 {
		t.line(span{dim, fmt.Sprintf("  … and %d more (%s)", more, everything)})
	}
}

// countStatus says what became of all binaries: "8 binaries changed, 1 new".
func countStatus(list []BinaryDiff) string {
	n := map[DiffStatus]int{}
	for _, b := range list {
		n[b.Status]++
	}
	var out []string
	for _, s := range []struct {
		status DiffStatus
		word   string
	}{{DiffChanged, "changed"}, {DiffAdded, "new"}, {DiffRemoved, "gone"}, {DiffSame, "the same"}} {
		if n[s.status] > 0 {
			out = append(out, fmt.Sprintf("%d %s", n[s.status], s.word))
		}
	}
	return "Binaries: " + strings.Join(out, ", ")
}

func statusWord(b *BinaryDiff) string {
	switch {
	case b.Status == DiffAdded:
		return "new"
	case b.Status == DiffRemoved:
		return "gone"
	case b.Status == DiffSame:
		return "moved"
	}
	return "changed"
}

func statusStyle(s DiffStatus) style {
	switch s {
	case DiffAdded:
		return red
	case DiffRemoved:
		return green
	}
	return dim
}

func sizeDelta(b *BinaryDiff) string {
	switch {
	case b.Status != DiffChanged || b.SizeDelta == 0:
		return ""
	case b.SizeDelta < 0:
		return "−" + byteSize(-b.SizeDelta)
	}
	return "+" + byteSize(b.SizeDelta)
}

// functionWords says what became of functions in short: "517 → 520; 600 of 617
// paired, 40 changed, 3 new".
func functionWords(f FunctionDiff, s DiffStatus) string {
	if s != DiffChanged {
		if n := max(f.From, f.To); n > 0 {
			return fmt.Sprint(n)
		}
		return ""
	}
	all := f.Paired + max(f.Added, f.Removed)
	if all == 0 {
		return ""
	}
	count := fmt.Sprint(f.To)
	if f.From != f.To {
		count = fmt.Sprintf("%d → %d", f.From, f.To)
	}
	out := []string{fmt.Sprintf("%s; %d of %d paired", count, f.Paired, all)}
	for _, p := range []struct {
		n    int
		word string
	}{{f.Changed, "changed"}, {f.Added, "new"}, {f.Removed, "gone"}} {
		if p.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	return strings.Join(out, ", ")
}

// behaviorSigns names the behaviours with a change: "+network −files".
func behaviorSigns(b BehaviorDiff) string {
	var out []string
	for _, p := range []struct {
		sign string
		list []BehaviorChange
	}{{"+", b.Added}, {"−", b.Removed}} {
		for _, c := range p.list {
			if w := p.sign + cmp.Or(behaviorWords[c.Behavior], string(c.Behavior)); !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return strings.Join(out, " ")
}

// details tells of binaries that changed what they import, name and are. Those
// of which the same is to be told are told once.
func (t *diffTable) details() {
	groups := detailed(t.Binaries)
	for _, g := range groups[:min(len(groups), maxDiffDetails)] {
		t.line()
		t.hang("", bold, groupTitle(g.paths), 3)
		for _, l := range g.lines {
			t.hang("  "+pad(l.label, 12)+l.sign, normal, l.text, 4)
		}
	}
	if more := len(groups) - maxDiffDetails; more > 0 {
		t.line(span{dim, fmt.Sprintf("… and more in %d further groups of binaries (%s)", more, everything)})
	}
}

func groupTitle(paths []string) string {
	clean := make([]string, len(paths))
	for i, p := range paths {
		clean[i] = name(p, maxName)
	}
	if len(clean) == 1 {
		return shorten(clean[0], maxPath)
	}
	if text, ok := braces(clean, 8); ok {
		return text
	}
	more := ""
	if len(clean) > 3 {
		more = fmt.Sprintf(" and %d more", len(clean)-3)
	}
	return strings.Join(clean[:min(len(clean), 3)], ", ") + more
}

// A detailGroup are binaries of which the same is to be told.
type detailGroup struct {
	paths []string
	lines []detailLine
}

// A detailLine is one thing that is different, added or removed.
type detailLine struct{ label, sign, text string }

// detailed returns what there is to tell of binaries that changed, in groups.
func detailed(list []BinaryDiff) []*detailGroup {
	var out []*detailGroup
	index := map[string]*detailGroup{}
	entries := map[string]int{} // of a fat file several
	for i := range list {
		entries[list[i].path()]++
	}
	for i := range list {
		b := &list[i]
		if b.Status != DiffChanged {
			continue
		}
		lines := detailLines(b)
		if len(lines) == 0 {
			continue
		}
		key := fmt.Sprintf("%q", lines)
		if index[key] == nil {
			index[key] = &detailGroup{lines: lines}
			out = append(out, index[key])
		}
		path := b.path()
		if entries[path] > 1 {
			path += " (" + b.Architecture + ")"
		}
		index[key].paths = append(index[key].paths, path)
	}
	return out
}

func detailLines(b *BinaryDiff) []detailLine {
	var out []detailLine
	both := func(label string, added, removed []string) {
		for _, p := range []struct {
			sign string
			list []string
		}{{plus, added}, {minus, removed}} {
			if len(p.list) > 0 {
				out = append(out, detailLine{label, p.sign, someNames(p.list)})
				label = ""
			}
		}
	}
	if b.ToPath != b.FromPath && b.PairedBy != ByVersion { // else the row above says enough
		out = append(out, detailLine{"before", "  ", name(b.FromPath, maxName)})
	}
	both("does", behaviorTexts(b.Behaviors.Added), behaviorTexts(b.Behaviors.Removed))
	both("imports", b.readable(b.Imports.Added), b.readable(b.Imports.Removed))
	both("exports", b.readable(b.Exports.Added), b.readable(b.Exports.Removed))
	both("libraries", b.Libraries.Added, b.Libraries.Removed)
	both("texts", textValues(b.Strings.Added), textValues(b.Strings.Removed))
	if list := b.functionTexts(); len(list) > 0 {
		out = append(out, detailLine{"functions", plus, strings.Join(list, "; ")})
	}
	if s := b.Signature; s != nil {
		out = append(out, detailLine{"signature", "  ", name(s.From, 200) + " → " + name(s.To, 200)})
	}
	for _, p := range b.Properties {
		out = append(out, detailLine{cmp.Or(propertyWords[p.Name], name(p.Name, 40)), "  ", cmp.Or(name(p.From, 200), "none") + " → " + cmp.Or(name(p.To, 200), "none")})
	}
	return out
}

// propertyWords are what people call a property of another name.
var propertyWords = map[string]string{"sourceMatch": "source match"}

// readable returns names as a person wrote them, each once.
func (b *BinaryDiff) readable(list []string) []string {
	out := make([]string, 0, len(list))
	seen := make(map[string]bool, len(list))
	for _, n := range list {
		if i, ok := slices.BinarySearchFunc(b.Demangled, n, func(d Name, n string) int { return strings.Compare(d.Name, n) }); ok {
			n = b.Demangled[i].Readable
		}
		if !seen[n] { // constructors have several symbols
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

// someNames joins the first names of a list and counts the others.
func someNames(list []string) string {
	shown := make([]string, 0, maxDiffNames)
	for _, s := range list[:min(len(list), maxDiffNames)] {
		shown = append(shown, shorten(name(s, 200), 100))
	}
	text := strings.Join(shown, ", ")
	if more := len(list) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func behaviorTexts(list []BehaviorChange) []string {
	var out []string
	for _, c := range list {
		out = append(out, prose(c.Text, 200))
	}
	return out
}

func textValues(list []Text) []string {
	var out []string
	for _, t := range list {
		out = append(out, t.Value)
	}
	return out
}

// functionTexts tells of functions that name other imports than before: those
// say what changed.
func (b *BinaryDiff) functionTexts() []string {
	var out []string
	f := b.Functions
	for _, c := range f.ChangedNames {
		if len(c.AddedImports) > 0 {
			out = append(out, fmt.Sprintf("%s now calls %s", name(c.To, 100), someNames(b.readable(c.AddedImports))))
		}
	}
	for _, c := range f.AddedNames {
		if len(c.AddedImports) > 0 && len(out) < 8 {
			out = append(out, fmt.Sprintf("new %s calls %s", name(c.To, 100), someNames(b.readable(c.AddedImports))))
		}
	}
	out = slices.Compact(out) // instances of one generic function
	return out[:min(len(out), 8)]
}

func (t *diffTable) components() {
	c := t.Components
	if len(c.Added)+len(c.Removed)+len(c.Changed)+len(t.Release) == 0 {
		return
	}
	t.heading("Components and metadata")
	const most = 15
	for _, v := range c.Changed[:min(len(c.Changed), most)] {
		t.hang("  ", normal, name(v.From, 200)+" → "+name(v.To, 200), 2)
	}
	for _, v := range c.Added[:min(len(c.Added), most)] {
		t.change(plus, name(v.PURL, 200), 1)
	}
	for _, v := range c.Removed[:min(len(c.Removed), most)] {
		t.change(minus, name(v.PURL, 200), 1)
	}
	if more := max(0, len(c.Changed)-most) + max(0, len(c.Added)-most) + max(0, len(c.Removed)-most); more > 0 {
		t.line(span{dim, fmt.Sprintf("  … and %d more (%s)", more, everything)})
	}
	for _, p := range t.Release {
		t.hang("  "+name(p.Name, 40)+": ", normal, cmp.Or(prose(p.From, 200), "none")+" → "+cmp.Or(prose(p.To, 200), "none"), 3)
	}
}

func (t *diffTable) findings() {
	f := t.Findings
	if len(f.Added)+len(f.Removed)+len(f.Changed) == 0 {
		return
	}
	t.heading("Findings")
	t.findingList(plus, f.Added)
	for _, c := range f.Changed {
		t.hang("  ~ ", yellow, fmt.Sprintf("%s → %s  %s  %s", c.From, c.Finding.Severity, prose(cmp.Or(c.Finding.Title, c.Finding.Rule), 200), name(spot(c.Finding.Location), 120)), 2)
	}
	t.findingList(minus, f.Removed)
}

func (t *diffTable) findingList(sign string, list []finding.Finding) {
	groups := grouped(list)
	for _, g := range groups[:min(len(groups), maxDiffFindings)] {
		where := groupTitle(g.places)
		if len(g.places) > 1 {
			where = fmt.Sprintf("in %d places: %s", len(g.places), where)
		}
		t.hang("  "+sign+pad(g.Severity.String(), 10), severityStyle(g.Severity), prose(cmp.Or(g.Title, g.Rule), 200)+" – "+where, 3)
	}
	if more := len(groups) - maxDiffFindings; more > 0 {
		t.line(span{dim, fmt.Sprintf("  … and %d more (%s)", more, everything)})
	}
}

func (t *diffTable) notes() {
	if len(t.From.Notes)+len(t.To.Notes) == 0 {
		return
	}
	t.heading("Notes on one side only")
	for _, side := range []struct {
		sign string
		list []finding.Note
	}{{plus, t.To.Notes}, {minus, t.From.Notes}} {
		for _, n := range side.list[:min(len(side.list), 8)] {
			text := prose(n.Text, 300)
			if n.Path != "" {
				text = shorten(name(n.Path, maxName), 72) + ": " + text
			}
			t.hang("  "+side.sign, normal, text, 2)
		}
		if more := len(side.list) - 8; more > 0 {
			t.line(span{dim, fmt.Sprintf("  … and %d more (%s)", more, everything)})
		}
	}
}

// counts is the last line.
func (t *diffTable) counts() {
	parts := []string{fmt.Sprintf("%s added, %d removed", number(len(t.AddedBehaviors), "behaviour", "behaviours"), len(t.RemovedBehaviors))}
	if s := counted(t.Findings.Added); s != "" {
		parts = append(parts, "new findings: "+s)
	} else {
		parts = append(parts, "no new findings")
	}
	t.line()
	t.hang("", normal, strings.Join(parts, " · "), 0)
}
