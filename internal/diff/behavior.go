package diff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/report"
)

// A trait is a behaviour as it is compared: by the rule that tells it, since
// its evidence has other addresses in every build.
type trait struct {
	behavior inventory.BehaviorName
	rule     string
}

// A spread is where a trait is new or gone.
type spread struct {
	trait
	wholly bool // nothing of the other side has it
	texts  map[string]int
	paths  []string
}

// behaviors returns sentences about what only one side does: its binaries, and
// its installation.
func (c *comparison) behaviors(d *report.Diff) (added, removed []string) {
	gained, lost := c.spreads()
	added, removed = sentences(gained), sentences(lost)
	for _, s := range d.Install.Scripts {
		if s.To != "" {
			added = append(added, fmt.Sprintf("Runs %q at installation (%s).", printable(s.To), s.Stage))
		}
		if s.From != "" {
			removed = append(removed, fmt.Sprintf("Runs %q at installation (%s).", printable(s.From), s.Stage))
		}
	}
	for _, s := range d.Install.Downloads {
		if s.To != nil {
			added = append(added, fetched(s.To))
		}
		if s.From != nil {
			removed = append(removed, fetched(s.From))
		}
	}
	for _, s := range d.Install.Assets {
		added = append(added, fmt.Sprintf("Installs a file of the SHA-256 %s from %s.", s.ToSHA256, printable(s.URL)))
		removed = append(removed, fmt.Sprintf("Installs a file of the SHA-256 %s from %s.", s.FromSHA256, printable(s.URL)))
	}
	return tidy(added), tidy(removed)
}

func tidy(list []string) []string {
	slices.Sort(list)
	return present(slices.Compact(list))
}

// spreads returns the traits that are new, and those that are gone. One that
// left a binary and came to another only moved; a further build that does what
// the others do adds nothing.
func (c *comparison) spreads() (gained, lost []spread) {
	had, has := traits(c.from.Binaries), traits(c.to.Binaries)
	come, gone := map[trait][]change{}, map[trait][]change{}
	collect := func(b, other *inventory.Binary, into map[trait][]change) {
		if b == nil {
			return
		}
		for _, d := range behaviors(b, cmp.Or(other, none)) {
			t := trait{d.Behavior, d.Rule}
			into[t] = append(into[t], change{b.Path, d.Text, other != nil})
		}
	}
	for _, p := range c.pairs {
		if p.from != nil && p.to != nil && p.from.SHA256 == p.to.SHA256 && p.from.SHA256 != "" {
			continue
		}
		collect(p.to, p.from, come)
		collect(p.from, p.to, gone)
	}
	return spreadsOf(come, gone, had), spreadsOf(gone, come, has)
}

// A change is a behaviour that a binary has and its counterpart has not.
type change struct {
	path, text string
	paired     bool // it has a counterpart
}

func traits(list []*inventory.Binary) map[trait]bool {
	out := map[trait]bool{}
	for _, b := range list {
		if b == nil {
			continue
		}
		for name, details := range b.Behaviors {
			for _, d := range details {
				out[trait{name, d.Rule}] = true
			}
		}
	}
	return out
}

// spreadsOf returns the traits of mine that are news: those that the other side
// lacks wholly, and those that a binary has come to have while none lost them.
func spreadsOf(mine, others map[trait][]change, before map[trait]bool) []spread {
	var out []spread
	for t, list := range mine {
		s := spread{trait: t, wholly: !before[t], texts: map[string]int{}}
		for _, c := range list {
			if s.wholly || c.paired && len(others[t]) == 0 {
				s.texts[gist(c.text)]++
				s.paths = append(s.paths, c.path)
			}
		}
		if len(s.paths) > 0 {
			slices.SortFunc(s.paths, natural)
			s.paths = slices.Compact(s.paths)
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b spread) int {
		return cmp.Or(cmp.Compare(slices.Index(inventory.BehaviorNames, a.behavior), slices.Index(inventory.BehaviorNames, b.behavior)), cmp.Compare(a.rule, b.rule))
	})
	return out
}

// text returns what most binaries say of the trait.
func (s spread) text() string {
	return slices.MinFunc(slices.Collect(maps.Keys(s.texts)), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.texts[b], s.texts[a]), cmp.Compare(a, b))
	})
}

// where says in which binaries.
func (s spread) where() string {
	if len(s.paths) == 1 {
		return "in " + printable(s.paths[0])
	}
	return fmt.Sprintf("in %d binaries", len(s.paths))
}

func sentences(list []spread) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.text()+" "+s.where()+".")
	}
	return out
}

// gist returns what a rule says of a binary without its full stop, and without
// the place in code, which is another in every build: of "Opens connections
// (import connect; in sub_1a20, reached from export run)." the first part and
// its import.
func gist(text string) string {
	text = strings.TrimSuffix(printable(text), ".")
	if at := strings.LastIndex(text, "; in "); at > 0 && strings.HasSuffix(text, ")") && strings.Contains(text[:at], " (") {
		text = text[:at] + ")"
	}
	return text
}

// phrase is the trait as a part of a sentence, without its evidence: "opens
// connections to other hosts".
func (s spread) phrase() string {
	text := s.text()
	if i := strings.LastIndex(text, " ("); i > 0 && strings.HasSuffix(text, ")") {
		text = text[:i]
	}
	return lowerFirst(text)
}

// printable makes texts of a target safe to show.
func printable(s string) string { return finding.NewEvidence("", s).Value }
