package native

import (
	"slices"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A verdict is what one rule says of one binary.
type verdict struct {
	tier       inventory.Tier
	text       string
	evidence   []finding.Evidence
	unused     bool               // what it is about is there, but no code was found to use it
	severity   finding.Severity   // zero: as the rule says
	confidence finding.Confidence // the same
}

// try holds a rule against a binary. What only holds because of imports that no
// code was found to use is worth knowing and no behaviour: who hides the use of
// a function still has to import it.
func (s *subject) try(r *compiled) (verdict, bool) {
	held, proofs := s.match(&r.when)
	v := verdict{tier: r.tier}
	if !held && s.program.reliable {
		s.loose = true
		held, proofs = s.match(&r.when)
		s.loose = false
		v.unused = held
	}
	if !held {
		return v, false
	}
	v.evidence = s.evidence(proofs)
	v.text = sentence(r.says, v.evidence)
	switch {
	case v.unused:
		v.tier, v.severity, v.confidence = inventory.Capability, finding.Info, finding.Possible
		v.text = "No code was found to use what it has for this: " + lowerFirst(v.text)
	case v.tier == inventory.Capability && slices.ContainsFunc(v.evidence, inCode):
		v.tier = inventory.Use
	}
	if allUnreached(v.evidence) {
		v.text += " Nothing was found to lead to the code that does it."
		v.confidence = finding.Possible
	}
	return v, true
}

func inCode(e finding.Evidence) bool { return e.Function != "" }

// allUnreached reports whether all evidence in code lies where no way was found
// to.
func allUnreached(list []finding.Evidence) bool {
	return slices.ContainsFunc(list, inCode) &&
		!slices.ContainsFunc(list, func(e finding.Evidence) bool { return inCode(e) && e.Reachable != finding.Unreached })
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && (s[1] < 'A' || s[1] > 'Z') {
		return string(s[0]+'a'-'A') + s[1:]
	}
	return s
}
