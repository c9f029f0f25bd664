package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A group is one problem and everywhere it was found: what a person reads once
// instead of thirty times.
type group struct {
	finding.Finding                    // the first of them
	places          []string           // paths with lines, or URLs; sorted, without repeats
	descriptions    []string           // that differ, in order
	evidence        []finding.Evidence // that differs, in order
	size            int                // findings
}

// grouped gathers findings of one rule, severity and title. Findings that name
// a package or an advisory are about that, so another one is another problem.
func grouped(fs []finding.Finding) []*group {
	type key struct {
		rule, title, purl, advisory string
		severity                    finding.Severity
	}
	var groups []*group
	index := make(map[key]*group)
	seen := make(map[*group]map[string]bool)
	for _, f := range fs {
		k := key{rule: f.Rule, title: f.Title, severity: f.Severity, advisory: f.Advisory}
		if f.Advisory != "" {
			k.purl = f.PURL
		}
		g := index[k]
		if g == nil {
			g = &group{Finding: f}
			index[k] = g
			groups = append(groups, g)
			seen[g] = make(map[string]bool)
		}
		first := func(what, s string) bool {
			s = what + "\x00" + s
			old := seen[g][s]
			seen[g][s] = true
			return !old
		}
		g.size++
		g.Confidence = max(g.Confidence, f.Confidence)
		if p := spot(f.Location); p != "" && first("place", p) {
			g.places = append(g.places, p)
		}
		if f.Description != "" && first("description", f.Description) {
			g.descriptions = append(g.descriptions, f.Description)
		}
		for _, e := range f.Evidence {
			if e.Value != "" && first("evidence", e.Kind+"\x00"+e.Value) {
				g.evidence = append(g.evidence, e)
			}
		}
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(b.Severity, a.Severity) })
	for _, g := range groups {
		slices.Sort(g.places)
	}
	return groups
}

// plurals knows which paths are binaries, to call them so.
type plurals map[string]bool

func newPlurals(r *Report) plurals {
	p := make(plurals)
	for _, b := range r.Binaries {
		p[b.Path] = true
	}
	return p
}

// noun returns what the places of g are called when there are several.
func (p plurals) noun(g *group) string {
	for _, path := range g.places {
		if !p[path] {
			return "places"
		}
	}
	return "binaries"
}

// ids returns the names under which a problem is known: its rule, its
// advisory, the other names of that, and the package that it is in.
func (g *group) ids() []string {
	ids := []string{g.Rule}
	if g.Advisory != "" {
		ids = append(append(ids, g.Advisory), g.Aliases...)
		ids = append(ids, g.PURL)
	}
	return slices.DeleteFunc(ids, func(s string) bool { return s == "" })
}

// spot returns the file and line of l, or its URL.
func spot(l finding.Location) string {
	if l.Path != "" && l.Line > 0 {
		return fmt.Sprintf("%s:%d", l.Path, l.Line)
	}
	return cmp.Or(l.Path, l.URL)
}

// braces returns paths in the short form of shells, prebuilds/{a,b}/x.node, and
// false if they have no folder or ending in common. At most most alternatives
// are named, the others counted.
func braces(paths []string, most int) (string, bool) {
	if len(paths) < 2 {
		return "", false
	}
	front := commonFolder(paths)
	rest := make([]string, len(paths))
	for i, p := range paths {
		rest[i] = p[len(front):]
	}
	back := commonEnding(rest)
	if front == "" && back == "" {
		return "", false
	}
	var b strings.Builder
	b.WriteString(front + "{")
	for i, p := range rest {
		if i == most && len(rest) > most+1 {
			fmt.Fprintf(&b, ", and %d more", len(rest)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strings.TrimSuffix(p, back))
	}
	b.WriteString("}" + back)
	return b.String(), true
}

// commonFolder returns the folders with which every path begins, with a slash
// at the end, or nothing.
func commonFolder(paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	front := paths[0][:strings.LastIndexByte(paths[0], '/')+1]
	for _, p := range paths {
		for !strings.HasPrefix(p, front) {
			front = front[:strings.LastIndexByte(front[:len(front)-1], '/')+1]
		}
	}
	return front
}

// commonEnding returns the whole names with which every path ends, from a
// slash on, or nothing.
func commonEnding(paths []string) string {
	i := strings.IndexByte(paths[0], '/')
	if i <= 0 {
		return ""
	}
	back := paths[0][i:]
	for _, p := range paths {
		for len(p) <= len(back) || !strings.HasSuffix(p, back) {
			i := strings.IndexByte(back[1:], '/')
			if i < 0 {
				return ""
			}
			back = back[1+i:]
		}
	}
	return back
}

// byRisk returns binaries worst first, then by place.
func byRisk(bs []*inventory.Binary) []*inventory.Binary {
	bs = slices.Clone(bs)
	slices.SortStableFunc(bs, func(a, b *inventory.Binary) int {
		return cmp.Or(cmp.Compare(b.Risk.Score, a.Risk.Score), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Offset, b.Offset))
	})
	return bs
}

// behaviorWords are short words for the behaviours, in the order of reports.
var behaviorWords = map[inventory.BehaviorName]string{
	inventory.Network:          "network",
	inventory.Filesystem:       "files",
	inventory.Process:          "process",
	inventory.Crypto:           "crypto",
	inventory.Obfuscation:      "obfuscated",
	inventory.DataExfiltration: "exfiltration",
}

// words returns the behaviours that were detected, in short.
func words(bs inventory.Behaviors) string {
	var out []string
	for _, n := range inventory.BehaviorNames {
		if len(bs[n]) > 0 {
			out = append(out, behaviorWords[n])
		}
	}
	return strings.Join(out, " ")
}

// counted returns how many findings there are of each severity, worst first:
// "1 high, 2 info"; nothing for none.
func counted(fs []finding.Finding) string {
	n := count(fs)
	var out []string
	for _, s := range finding.Severities() {
		if n[s] > 0 {
			out = append(out, fmt.Sprintf("%d %s", n[s], s))
		}
	}
	return strings.Join(out, ", ")
}

// installs reports whether a rule is about what runs at installation.
func installs(rule string) bool { return strings.HasPrefix(rule, "install/") }

// installScripts returns the commands that findings say run at installation.
func installScripts(fs []finding.Finding) []string {
	var out []string
	for _, f := range fs {
		for _, e := range f.Evidence {
			if installs(f.Rule) && e.Kind == "script" && !slices.Contains(out, e.Value) {
				out = append(out, e.Value)
			}
		}
	}
	return out
}
