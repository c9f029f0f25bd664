// Package enrich adds to what was found what can be said of it as a whole: a
// risk score with its terms, a summary, an explanation of each binary. It is
// pure: the same findings give the same text.
package enrich

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// weight says what findings of one severity add to a score: the first in full,
// each further rule half, all together no more than most. The caps keep the
// levels meaningful: without a high finding a score stays below "high", and
// no number of low ones makes "medium".
type weight struct{ first, most int }

var weights = map[finding.Severity]weight{
	finding.Critical: {80, 100},
	finding.High:     {45, 70},
	finding.Medium:   {18, 36},
	finding.Low:      {5, 16},
	finding.Info:     {1, 5},
}

// nativeCode is what native code adds by itself: it cannot be read like source.
const nativeCode = 2

// score adds up the findings of one binary, or of a whole target. Each rule
// counts once, however often it was reported.
func score(binaries int, fs []finding.Finding) finding.Risk {
	var terms []finding.Term
	if binaries > 0 {
		terms = append(terms, finding.Term{Points: nativeCode, Reason: count(binaries, "native binary", "native binaries") + ", which cannot be read like source"})
	}
	for _, sev := range finding.Severities() {
		left := weights[sev].most
		for i, g := range byRule(fs, sev) {
			points := weights[sev].first
			if i > 0 {
				points = (points + 1) / 2
			}
			if g.confidence == finding.Possible {
				points = (points + 1) / 2
			}
			if points = min(points, left); points == 0 {
				break
			}
			left -= points
			terms = append(terms, finding.Term{Points: points, Reason: g.reason(), Rule: g.rule})
		}
	}
	return finding.NewRisk(terms)
}

// A group is the findings of one rule.
type group struct {
	rule, title string
	severity    finding.Severity
	confidence  finding.Confidence // the surest
	places      int
}

func (g group) reason() string {
	if g.places == 1 {
		return fmt.Sprintf("%s (%s)", g.title, g.severity)
	}
	return fmt.Sprintf("%s (%s, in %d places)", g.title, g.severity, g.places)
}

// byRule groups the findings of a severity, the surest first.
func byRule(fs []finding.Finding, sev finding.Severity) []group {
	var groups []group
	index := map[string]int{}
	for _, f := range fs {
		if f.Severity != sev {
			continue
		}
		i, ok := index[f.Rule]
		if !ok {
			i = len(groups)
			index[f.Rule] = i
			groups = append(groups, group{rule: f.Rule, title: f.Title, severity: sev})
		}
		groups[i].places++
		groups[i].confidence = max(groups[i].confidence, f.Confidence)
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.confidence, a.confidence), cmp.Compare(a.rule, b.rule))
	})
	return groups
}

// Assess scores every binary and the target as a whole, and explains them. It
// writes to the binaries, and returns the risk of the target and a summary.
func Assess(rel *inventory.Release, binaries []*inventory.Binary, fs []finding.Finding, notes []finding.Note) (finding.Risk, string) {
	in := map[string][]finding.Finding{}
	for _, f := range fs {
		in[f.Location.Path] = append(in[f.Location.Path], f)
	}
	for _, b := range binaries {
		own := about(b, in[b.Path])
		b.Risk = score(1, own)
		b.Explanation = explain(b, own)
	}
	risk := score(len(binaries), fs)
	return risk, summarize(rel, binaries, fs, notes, risk)
}

// about returns those of a file's findings that are about one binary in it: of
// what the scanner native found in a fat file, those in its slice.
func about(b *inventory.Binary, fs []finding.Finding) []finding.Finding {
	var out []finding.Finding
	for _, f := range fs {
		if f.Tool != "native" || f.Anchor == b.Slice {
			out = append(out, f)
		}
	}
	return out
}
