// Package report writes results down. Each format is one file and one entry in
// [Formats]; a format knows no store, no request and no clock, and decides
// nothing.
package report

import (
	"io"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// A Report is everything that a format may show about one scan.
type Report struct {
	Target      target.Target // with its version resolved
	StartedAt   time.Time
	CompletedAt time.Time
	Tool        Tool

	Release    *inventory.Release // nil if the target is no package
	Binaries   []*inventory.Binary
	Components []Component
	Downloads  []*inventory.Download // what its installation fetches
	Findings   []finding.Finding     // arranged
	Notes      []finding.Note        // arranged
	Rules      []*rule.Rule          // that the scanners which ran may report, sorted by ID

	Risk    finding.Risk
	Summary string   // a paragraph
	AIModel string   // what wrote summary and explanations: "loupe-rules" without a provider
	Ran     []string // names of scanners
	Files   int      // looked at
	Bytes   int64
}

// A Tool is the program that made a report.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Rules   string `json:"rules"` // digest of the rule set
}

// A Component is one package of which the target is made.
type Component struct {
	PURL      string   `json:"purl"`
	Name      string   `json:"name"`
	Version   string   `json:"version"`
	Locations []string `json:"locations"`

	Source     string             `json:"source"`     // what a binary names it by; empty for what the registry or a file says
	Confidence finding.Confidence `json:"confidence"` // that it is in the target
}

// Options choose how much a format shows.
type Options struct {
	Color   bool // escape sequences of terminals
	Width   int  // columns of the terminal; 0 for no limit
	Explain bool // the terms of each score
}

// A Format writes a report in one way.
type Format struct {
	Name      string // "sarif", as in --format sarif
	Doc       string // a phrase for the help text
	MediaType string
	Ext       string // with its dot
	Write     func(w io.Writer, r *Report, o Options) error
}
