package report

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/rule"
)

// Formats lists every way to write a report, the default first.
var Formats = []Format{
	Table,
	JSON,
	SARIF,
	CycloneDX,
	SPDX,
	Markdown,
}

// Find returns the format of a name, as in --format NAME.
func Find(name string) (Format, bool) {
	i := slices.IndexFunc(Formats, func(f Format) bool { return f.Name == name })
	if i < 0 {
		return Format{}, false
	}
	return Formats[i], true
}

// settled returns a shallow copy of r on which every format can rely: nothing
// in its lists is nil, and a severity or confidence is one of those that a
// finding may have. What no one rated counts as the mildest.
func settled(r *Report) *Report {
	if r == nil {
		return &Report{}
	}
	c := *r
	c.Tool.Name = cmp.Or(c.Tool.Name, "loupe")
	c.Binaries = slices.DeleteFunc(slices.Clone(r.Binaries), func(b *inventory.Binary) bool { return b == nil })
	c.Rules = slices.DeleteFunc(slices.Clone(r.Rules), func(r *rule.Rule) bool { return r == nil })
	c.Findings = slices.Clone(r.Findings)
	for i := range c.Findings {
		f := &c.Findings[i]
		f.Severity = min(max(f.Severity, finding.Info), finding.Critical)
		f.Confidence = min(max(f.Confidence, finding.Possible), finding.Confirmed)
	}
	return &c
}

// count returns how many findings have each severity.
func count(fs []finding.Finding) map[finding.Severity]int {
	n := make(map[finding.Severity]int)
	for _, f := range fs {
		n[f.Severity]++
	}
	return n
}

// findingsByPath indexes findings by the file that they are about.
func findingsByPath(fs []finding.Finding) map[string][]finding.Finding {
	at := make(map[string][]finding.Finding)
	for _, f := range fs {
		if p := f.Location.Path; p != "" {
			at[p] = append(at[p], f)
		}
	}
	return at
}
