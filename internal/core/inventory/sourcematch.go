package inventory

import "github.com/loupe-sec/loupe/internal/core/scan"

// Sources is the fact that a target holds a file of source code that could have
// been compiled.
var Sources = scan.NewFact[*Source]("sources")

// SourceMatches is the fact that a binary was held against the source that
// comes with it.
var SourceMatches = scan.NewFact[SourceMatch]("source matches")

// A Source is what one file of source code would leave in a binary.
type Source struct {
	Path     string
	Literals []string // pieces of its texts, sorted
	Header   bool     // it is included by others and compiled with them
}

// A MatchLevel says how well a binary goes with the source that is published
// with it, in the words of the BinShield API, which has no word for "unknown".
type MatchLevel string

// The levels, worst first.
const (
	MatchUnknown MatchLevel = "unknown" // no source, or nothing in it that could be found again
	MatchLow     MatchLevel = "low"
	MatchMedium  MatchLevel = "medium"
	MatchHigh    MatchLevel = "high"
)

// MatchLevels lists the levels, worst first.
var MatchLevels = []MatchLevel{MatchUnknown, MatchLow, MatchMedium, MatchHigh}

// JoinSources tells binaries how they go with their source.
func JoinSources(binaries []*Binary, matches []SourceMatch) {
	of := map[[2]string]*SourceMatch{}
	for i := range matches {
		of[[2]string{matches[i].Path, matches[i].Slice}] = &matches[i]
	}
	for _, b := range binaries {
		b.SourceMatch = of[[2]string{b.Path, b.Slice}]
	}
}

// A SourceMatch is how much of the published source is found again in one
// binary.
type SourceMatch struct {
	Path   string // of the binary
	Slice  string // as in Binary
	Level  MatchLevel
	Score  float64 // 0 to 1
	Found  int     // texts of the source that are in the binary
	Of     int     // texts of those files of source that seem to be part of it
	Reason string  // a sentence
}
