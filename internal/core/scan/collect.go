package scan

import (
	"slices"

	"github.com/loupe-sec/loupe/internal/core/finding"
)

// A Value is a value of a fact, as a scanner made it known.
type Value struct {
	Fact    Fact
	Path    string // of the file that it came from; empty if it is of the whole target
	Scanner string
	Value   any // of the fact's type
}

// A Collector makes a Result of the events of a scan that ran elsewhere, also
// of one that never came to its end. The zero Collector is ready for use.
type Collector struct{ res Result }

// Event takes an event.
func (c *Collector) Event(e Event) {
	switch {
	case e.Progress != nil && e.Progress.Phase == Inspect:
		c.res.Files, c.res.Bytes = e.Progress.Files, e.Progress.Done
	case e.Finding != nil:
		c.res.Findings = append(c.res.Findings, *e.Finding)
	case e.Note != nil:
		c.res.Notes = append(c.res.Notes, *e.Note)
	case e.Stage != nil:
		c.res.Ran = append(c.res.Ran, e.Stage...)
	case e.Value != nil:
		c.res.addFact(e.Value.Fact, known{e.Value.Path, e.Value.Scanner, e.Value.Value})
	}
}

// Counted corrects what the progress said of files and bytes: a walk does not
// tell of files that no scanner wanted.
func (c *Collector) Counted(files int, bytes int64) { c.res.Files, c.res.Bytes = files, bytes }

// Result returns what has been collected, in order. The collector is not to be
// used any more.
func (c *Collector) Result() *Result {
	c.res.arrange()
	return &c.res
}

func (r *Result) addFact(f Fact, values ...known) {
	if r.facts == nil {
		r.facts = map[Fact][]known{}
	}
	r.facts[f] = append(r.facts[f], values...)
}

// arrange puts everything into an order that does not depend on scheduling.
func (r *Result) arrange() {
	finding.Arrange(r.Findings)
	r.Notes = finding.ArrangeNotes(r.Notes)
	slices.Sort(r.Ran)
}
