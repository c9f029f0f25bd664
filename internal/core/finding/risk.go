package finding

import (
	"cmp"
	"slices"
)

// A Risk is a score from 0 to 100 with the terms that add up to it, so that
// nobody has to believe a number.
type Risk struct {
	Score int
	Terms []Term // largest first; their points sum to Score, unless that is cut at 100
}

// A Term is one reason for a part of a score.
type Term struct {
	Points int    `json:"points" doc:"negative where something speaks against risk"`
	Reason string `json:"reason" doc:"a phrase with its evidence"`
	Rule   string `json:"rule" doc:"empty if no rule stands behind it"`
}

// A RiskLevel is the band of a score.
type RiskLevel string

// The levels: none 0, low 1–29, medium 30–59, high 60–79, critical 80–100.
const (
	RiskNone     RiskLevel = "none"
	RiskLow      RiskLevel = "low"
	RiskMedium   RiskLevel = "medium"
	RiskHigh     RiskLevel = "high"
	RiskCritical RiskLevel = "critical"
)

// Level returns the band of the score.
func (r Risk) Level() RiskLevel {
	switch {
	case r.Score >= 80:
		return RiskCritical
	case r.Score >= 60:
		return RiskHigh
	case r.Score >= 30:
		return RiskMedium
	case r.Score >= 1:
		return RiskLow
	}
	return RiskNone
}

// NewRisk adds terms up, between 0 and 100.
func NewRisk(terms []Term) Risk {
	slices.SortStableFunc(terms, func(a, b Term) int {
		return cmp.Or(cmp.Compare(b.Points, a.Points), cmp.Compare(a.Reason, b.Reason))
	})
	sum := 0
	for _, t := range terms {
		sum += t.Points
	}
	return Risk{Score: min(max(sum, 0), 100), Terms: terms}
}
