// Package diff says what is different between two versions of a package, or
// between any two things that were scanned: which behaviours, binaries,
// functions, imports, addresses, install scripts, downloads and findings are
// new or gone. It is pure, and it has no opinion on which side is the newer
// one: what is added from one side to the other is removed the other way.
package diff

import (
	"cmp"
	"maps"
	"path"
	"slices"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/report"
)

// Compare returns what is different between two reports. Functions are compared
// if the binaries have marks (inventory.Binary.Marks).
func Compare(from, to *report.Report) *report.Diff {
	c := newComparison(from, to)
	d := &report.Diff{
		Schema: report.DiffSchema, PackageName: name(to, from), Ecosystem: ecosystem(to, from), FromVersion: version(from), ToVersion: version(to),
		RiskDelta: to.Risk.Score - from.Risk.Score,
		From:      side(from, to), To: side(to, from), Tool: to.Tool,
	}
	d.Binaries = c.binaryDiffs()
	d.Install = c.install()
	d.Components = c.components()
	d.Findings = c.findings()
	d.Release = release(from, to)
	d.AddedBehaviors, d.RemovedBehaviors = c.behaviors(d)
	d.Summary = summarize(c, d)
	return d
}

// A comparison is the work on one pair of reports.
type comparison struct {
	from, to *report.Report
	pairs    []pairing // of binaries
	paths    neutral
	places   [2]map[string]string // of the sides: paths of paired binaries to the name of the pair
}

func newComparison(from, to *report.Report) *comparison {
	c := &comparison{from: from, to: to, paths: newNeutral(version(from), version(to))}
	c.pairs = c.paths.pair(from.Binaries, to.Binaries)
	c.places = [2]map[string]string{{}, {}}
	for _, p := range c.pairs {
		if p.from == nil || p.to == nil {
			continue
		}
		at := min(p.from.Path, p.to.Path) + "\x00" + max(p.from.Path, p.to.Path)
		if _, ok := c.places[0][p.from.Path]; !ok {
			c.places[0][p.from.Path] = at
		}
		if _, ok := c.places[1][p.to.Path]; !ok {
			c.places[1][p.to.Path] = at
		}
	}
	return c
}

// place returns what a path of a side (0 or 1) goes by on both.
func (c *comparison) place(side int, p string) string {
	return cmp.Or(c.places[side][p], c.paths.versionless(p))
}

func version(r *report.Report) string {
	if r.Release != nil {
		return r.Release.Version
	}
	return r.Target.Version
}

func ecosystem(to, from *report.Report) target.Ecosystem {
	return cmp.Or(to.Target.Ecosystem, from.Target.Ecosystem)
}

// name returns the package that a diff is about, or what files are called.
func name(to, from *report.Report) string {
	for _, r := range []*report.Report{to, from} {
		switch {
		case r.Release != nil:
			return r.Release.Name
		case r.Target.Kind == target.Package:
			return r.Target.Name
		}
	}
	if to.Target.Name == "" {
		return ""
	}
	return path.Base(path.Clean(to.Target.Name))
}

// side describes one of two reports, with the notes that the other lacks.
func side(r, other *report.Report) report.DiffSide {
	s := report.DiffSide{
		Target: r.Target.String(), RiskScore: r.Risk.Score, RiskLevel: r.Risk.Level(), BinaryCount: len(r.Binaries),
		FindingCount: len(r.Findings), Notes: []finding.Note{},
	}
	for _, b := range r.Binaries {
		s.TotalBinarySize += b.Size
	}
	theirs := make(map[finding.Note]bool, len(other.Notes))
	for _, n := range other.Notes {
		theirs[n] = true
	}
	for _, n := range r.Notes {
		if !theirs[n] {
			s.Notes = append(s.Notes, n)
		}
	}
	return s
}

// release compares what registries and manifests say of two releases.
func release(from, to *report.Report) []report.PropertyChange {
	out := []report.PropertyChange{}
	if from.Release == nil || to.Release == nil {
		return out
	}
	a, b := from.Release, to.Release
	return properties(out,
		[3]string{"name", a.Name, b.Name}, [3]string{"license", a.License, b.License}, [3]string{"repository", a.Repository, b.Repository},
		[3]string{"provenance", a.Provenance, b.Provenance}, [3]string{"deprecated", a.Deprecated, b.Deprecated}, [3]string{"yanked", a.Yanked, b.Yanked})
}

// properties appends those of the given names and values that differ.
func properties(out []report.PropertyChange, list ...[3]string) []report.PropertyChange {
	for _, p := range list {
		if p[1] != p[2] {
			out = append(out, report.PropertyChange{Name: p[0], From: p[1], To: p[2]})
		}
	}
	return out
}

// components compares the packages of which two targets are made: by name, and
// those of the same name by version.
func (c *comparison) components() report.ComponentDiff {
	out := report.ComponentDiff{Added: []report.Component{}, Removed: []report.Component{}, Changed: []report.ComponentVersion{}}
	type key struct{ kind, name string }
	group := func(list []report.Component) map[key][]report.Component {
		by := map[key][]report.Component{}
		for _, p := range list {
			p.Locations = present(p.Locations)
			k := key{kind(p.PURL), p.Name}
			by[k] = append(by[k], p)
		}
		return by
	}
	from, to := group(c.from.Components), group(c.to.Components)
	names := slices.Collect(maps.Keys(from))
	for k := range to {
		if _, ok := from[k]; !ok {
			names = append(names, k)
		}
	}
	slices.SortFunc(names, func(a, b key) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name)) })
	for _, k := range names {
		gone, come := without(from[k], to[k]), without(to[k], from[k])
		n := min(len(gone), len(come))
		for i := range n {
			out.Changed = append(out.Changed, report.ComponentVersion{Name: k.name, From: gone[i].PURL, To: come[i].PURL})
		}
		out.Removed = append(out.Removed, gone[n:]...)
		out.Added = append(out.Added, come[n:]...)
	}
	c.ownVersions(&out)
	return out
}

// ownVersions leaves out what is said already: that the packages themselves are
// of the versions that are compared.
func (c *comparison) ownVersions(d *report.ComponentDiff) {
	from, to := version(c.from), version(c.to)
	d.Changed = slices.DeleteFunc(d.Changed, func(v report.ComponentVersion) bool {
		return from != to && purlVersion(v.From) == from && purlVersion(v.To) == to && kind(v.From) == string(ecosystem(c.to, c.from))
	})
}

// without returns the components of a list whose package URL is not in another,
// by package URL.
func without(list, other []report.Component) []report.Component {
	theirs := make(map[string]bool, len(other))
	for _, p := range other {
		theirs[p.PURL] = true
	}
	out := slices.DeleteFunc(slices.Clone(list), func(p report.Component) bool { return theirs[p.PURL] })
	slices.SortFunc(out, func(a, b report.Component) int { return cmp.Compare(a.PURL, b.PURL) })
	return out
}
