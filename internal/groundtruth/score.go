package groundtruth

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/scanners/native"
)

// An Outcome is a program and what was found of what is known about it.
type Outcome struct {
	Truth  *Truth
	Read   bool                     // it was recognised as a binary
	Missed []inventory.BehaviorName // wanted and not detected
	False  []inventory.BehaviorName // detected and neither wanted nor to be expected
	Astray []inventory.BehaviorName // detected, without evidence in the plant
	Named  bool                     // the rule of the behaviour reported it, or there is none
	Silent bool                     // the plant is dead, and nothing says so
	Buried bool                     // something leads to the plant, and it is said that nothing does
	Lines  []string                 // what was said
}

// Score scans the programs in folder, and holds what is found against what is
// known.
func Score(ctx context.Context, folder string, truths []Truth) ([]Outcome, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	ws := workspace.New(workspace.Limits{}, "")
	defer ws.Close()
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		return nil, err
	}
	result, err := scan.Run(ctx, []*scan.Scanner{native.Scanner}, ws, nil, scan.Options{})
	if err != nil {
		return nil, err
	}
	binaries := map[string]*inventory.Binary{}
	for _, b := range inventory.Binaries.Of(result) {
		binaries[b.Path] = b
	}
	found := map[string][]finding.Finding{}
	for _, f := range result.Findings {
		found[f.Location.Path] = append(found[f.Location.Path], f)
	}
	out := make([]Outcome, len(truths))
	for i := range truths {
		t := &truths[i]
		out[i] = judge(t, binaries[t.File], found[t.File])
	}
	return out, nil
}

// judge holds what was found of one program against what is known.
func judge(t *Truth, b *inventory.Binary, findings []finding.Finding) Outcome {
	o := Outcome{Truth: t, Read: b != nil, Named: t.Rule == ""}
	for _, f := range findings {
		o.Named = o.Named || f.Rule == "native/"+t.Rule
	}
	if b == nil {
		o.Missed = t.Want
		return o
	}
	for _, name := range inventory.BehaviorNames {
		details := b.Behaviors[name]
		wanted := slices.Contains(t.Want, name)
		switch {
		case wanted && len(details) == 0:
			o.Missed = append(o.Missed, name)
		case wanted && !t.pointedAt(details):
			o.Astray = append(o.Astray, name)
		case !wanted && len(details) > 0 && !slices.Contains(t.May, name):
			o.False = append(o.False, name)
		}
		for _, d := range details {
			o.Lines = append(o.Lines, fmt.Sprintf("%s: %s: %s", name, strings.TrimPrefix(d.Rule, "native/"), d.Text))
			for _, e := range d.Evidence {
				o.Lines = append(o.Lines, fmt.Sprintf("    %s %q at %s in %s from %s", e.Kind, e.Value, e.Address, e.Function, e.Reachable))
			}
		}
		if t.Reach == Dead && wanted && len(details) > 0 && !slices.ContainsFunc(details, saysDead) {
			o.Silent = true
		}
		if t.Reach != Dead && slices.ContainsFunc(details, saysDead) {
			o.Buried = true
		}
	}
	return o
}

// pointedAt reports whether some evidence lies in the plant.
func (t *Truth) pointedAt(details []inventory.Detail) bool {
	for _, d := range details {
		for _, e := range d.Evidence {
			if addr, err := strconv.ParseUint(strings.TrimPrefix(e.Address, "0x"), 16, 64); err == nil && t.in(addr) {
				return true
			}
		}
	}
	return false
}

func saysDead(d inventory.Detail) bool {
	return slices.ContainsFunc(d.Evidence, func(e finding.Evidence) bool { return e.Reachable == finding.Unreached })
}

// A Share is how many of how many.
type Share struct{ N, Of int }

func (s *Share) count(yes bool) {
	s.Of++
	if yes {
		s.N++
	}
}

// Part returns the share as a number from 0 to 1, 1 of nothing.
func (s Share) Part() float64 {
	if s.Of == 0 {
		return 1
	}
	return float64(s.N) / float64(s.Of)
}

func (s Share) String() string {
	if s.Of == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3f (%d/%d)", s.Part(), s.N, s.Of)
}

// A Row is what a group of programs comes to.
type Row struct {
	Name      string
	Programs  int
	Recall    Share // of the behaviours that are to be detected, those that are
	Precision Share // of the behaviours that are detected, those that are there
	Address   Share // of those, the ones with evidence that lies in the plant
	Named     Share // of the programs with a plant, those that the behaviour's own rule reports
	Dead      Share // of the dead plants that are detected, those that are said to be dead
	Buried    Share // of the programs with a plant that something leads to, those in which it is said that nothing does
}

func (r *Row) add(o *Outcome) {
	t := o.Truth
	r.Programs++
	hits := len(t.Want) - len(o.Missed)
	r.Recall.N += hits
	r.Recall.Of += len(t.Want)
	r.Precision.N += hits
	r.Precision.Of += hits + len(o.False)
	if len(t.Plant) > 0 {
		r.Address.N += hits - len(o.Astray)
		r.Address.Of += hits
	}
	if t.Rule != "" {
		r.Named.count(o.Named)
	}
	if t.Reach == Dead && hits > 0 {
		r.Dead.count(!o.Silent)
	}
	if t.Reach != Dead && hits > 0 {
		r.Buried.count(o.Buried)
	}
}

// Rows adds outcomes up by a key, in the order in which keys first occur.
func Rows(outcomes []Outcome, key func(*Truth) string) []Row {
	var rows []Row
	index := map[string]int{}
	for i := range outcomes {
		k := key(outcomes[i].Truth)
		at, ok := index[k]
		if !ok {
			at = len(rows)
			index[k] = at
			rows = append(rows, Row{Name: k})
		}
		rows[at].add(&outcomes[i])
	}
	return rows
}

// Markdown returns rows as a table.
func Markdown(title string, rows []Row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | programs | recall | precision | address | rule | dead | buried |\n|---|---|---|---|---|---|---|---|\n", title)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s | %s |\n", r.Name, r.Programs, r.Recall, r.Precision, r.Address, r.Named, r.Dead, r.Buried)
	}
	return b.String()
}

// Report returns the tables of a run: by variant, target and behaviour.
func Report(outcomes []Outcome) string {
	var b strings.Builder
	rows := Rows(outcomes, func(t *Truth) string { return string(t.Variant) })
	slices.SortStableFunc(rows, func(x, y Row) int {
		return slices.Index(Variants, Variant(x.Name)) - slices.Index(Variants, Variant(y.Name))
	})
	b.WriteString(Markdown("variant", rows) + "\n")
	b.WriteString(Markdown("target", Rows(outcomes, func(t *Truth) string { return t.Target })) + "\n")
	rows = Rows(outcomes, func(t *Truth) string { return t.Behavior })
	slices.SortFunc(rows, func(x, y Row) int { return strings.Compare(x.Name, y.Name) })
	b.WriteString(Markdown("behaviour", rows))
	return b.String()
}

// Miss says what is wrong with an outcome, or nothing.
func (o *Outcome) Miss() string {
	var wrong []string
	if !o.Read {
		wrong = append(wrong, "not read")
	}
	for _, list := range []struct {
		what  string
		names []inventory.BehaviorName
	}{{"missed", o.Missed}, {"false", o.False}, {"astray", o.Astray}} {
		if len(list.names) > 0 {
			wrong = append(wrong, fmt.Sprintf("%s %v", list.what, list.names))
		}
	}
	if !o.Named {
		wrong = append(wrong, "no "+o.Truth.Rule)
	}
	if o.Buried {
		wrong = append(wrong, "said to be dead")
	}
	if o.Silent {
		wrong = append(wrong, "not said to be dead")
	}
	if len(wrong) == 0 {
		return ""
	}
	t := o.Truth
	return fmt.Sprintf("%s [%s, %s]: %s\n\t%s", t.File, t.Way, t.Reach, strings.Join(wrong, "; "), strings.Join(o.Lines, "\n\t"))
}
