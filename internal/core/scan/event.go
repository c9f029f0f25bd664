package scan

import (
	"github.com/loupe-sec/loupe/internal/core/finding"
)

// An Event tells a watcher how a scan goes on. Exactly one field is set. The
// result is complete without its events: they are for people who wait, and for
// a [Collector], which makes a result of them.
type Event struct {
	Progress *Progress        `json:"progress,omitempty"`
	Finding  *finding.Finding `json:"finding,omitempty"` // without its fingerprint, which needs all findings
	Note     *finding.Note    `json:"note,omitempty"`
	Stage    []string         `json:"stage,omitempty"` // names of the scanners that begin
	Value    *Value           `json:"-"`               // a fact that became known
}

// A Phase is what a scan is doing.
type Phase string

// The phases, in their order.
const (
	Acquire Phase = "acquire" // the source gets the target
	Inspect Phase = "inspect" // the scanners run
)

// Progress says how far a phase has come.
type Progress struct {
	Phase Phase  `json:"phase"`
	What  string `json:"what"`  // the file or address at hand
	Done  int64  `json:"done"`  // bytes
	Total int64  `json:"total"` // bytes; 0 if not known
	Files int    `json:"files"` // passed so far
}

// A Result is all that a scan found out. Findings and notes are in an order
// that does not depend on scheduling.
type Result struct {
	Findings []finding.Finding
	Notes    []finding.Note
	Ran      []string // names of the scanners that ran, sorted
	Files    int      // in the target, those in archives included
	Bytes    int64    // of those that are no archives

	facts map[Fact][]known
}
