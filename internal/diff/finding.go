package diff

import (
	"slices"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/report"
)

// findings compares findings: each with one of the same rule in the same place,
// then with one of the same rule elsewhere, since it moved with its file.
func (c *comparison) findings() report.FindingDiff {
	out := report.FindingDiff{Added: []finding.Finding{}, Removed: []finding.Finding{}, Changed: []report.SeverityChange{}}
	gone, come := whole(c.from.Findings), whole(c.to.Findings)
	for _, same := range []func(side int, f finding.Finding) [5]string{
		func(side int, f finding.Finding) [5]string {
			return [5]string{f.Rule, f.Advisory, c.place(side, f.Location.Path), c.paths.versionless(f.Location.URL), f.Anchor}
		},
		func(side int, f finding.Finding) [5]string {
			return [5]string{f.Rule, f.Advisory, c.place(side, f.Location.Path), c.paths.versionless(f.Location.URL)}
		},
		func(side int, f finding.Finding) [5]string { return [5]string{f.Rule, f.Advisory, "\x00"} },
	} {
		gone, come = c.cancel(gone, come, same, &out)
	}
	out.Removed, out.Added = append(out.Removed, gone...), append(out.Added, come...)
	slices.SortStableFunc(out.Changed, func(a, b report.SeverityChange) int {
		return finding.Compare(a.Finding, b.Finding)
	})
	return out
}

// cancel takes pairs of equal key off two lists. What is left keeps its order.
func (c *comparison) cancel(gone, come []finding.Finding, key func(int, finding.Finding) [5]string, out *report.FindingDiff) (left, right []finding.Finding) {
	waiting := map[[5]string][]int{}
	for i, f := range gone {
		waiting[key(0, f)] = append(waiting[key(0, f)], i)
	}
	paired := make([]bool, len(gone))
	for _, f := range come {
		list := waiting[key(1, f)]
		if len(list) == 0 {
			right = append(right, f)
			continue
		}
		i := list[0]
		waiting[key(1, f)] = list[1:]
		paired[i] = true
		if gone[i].Severity != f.Severity {
			out.Changed = append(out.Changed, report.SeverityChange{From: gone[i].Severity, Finding: f})
		}
	}
	for i, f := range gone {
		if !paired[i] {
			left = append(left, f)
		}
	}
	return left, right
}

// whole returns findings in the order of reports, with no list that is null.
func whole(list []finding.Finding) []finding.Finding {
	out := slices.Clone(list)
	slices.SortStableFunc(out, finding.Compare)
	for i := range out {
		f := &out[i]
		f.CWE, f.Attack, f.References = present(f.CWE), present(f.Attack), present(f.References)
		f.Aliases, f.FixedVersions, f.Evidence = present(f.Aliases), present(f.FixedVersions), present(f.Evidence)
	}
	return out
}

// present returns a list that is not null.
func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
