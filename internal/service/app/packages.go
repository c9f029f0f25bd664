package app

import (
	"context"
	"fmt"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/diff"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/rules"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// The documents of an analysis.
const (
	reportDocument = "report"
	marksDocument  = "marks"
)

// ParsePackage reads the ecosystem and name of a package as a caller wrote them.
func ParsePackage(ecosystem, name string) (target.Ecosystem, string, error) {
	eco := target.Ecosystem(ecosystem)
	if eco != target.NPM && eco != target.PyPI {
		return "", "", fault.New(fault.Invalid, "ecosystem: npm or pypi").In("ecosystem", ecosystem)
	}
	t, err := target.NewPackage(eco, name, "")
	if err != nil {
		return "", "", fault.New(fault.Invalid, "packageName: %v", err).In("packageName", name)
	}
	return eco, t.Name, nil
}

// SearchPackages finds packages that were analysed by a part of their name, and
// returns how many there are in all.
func (s *Server) SearchPackages(ctx context.Context, q string, page Page) ([]store.Found, int, error) {
	return s.store.SearchPackages(ctx, q, page)
}

// Versions lists the analyses of a package, the highest version first.
func (s *Server) Versions(ctx context.Context, ecosystem, name string, page Page) ([]Analysis, int, error) {
	eco, name, err := ParsePackage(ecosystem, name)
	if err != nil {
		return nil, 0, err
	}
	rows, total, err := s.store.Versions(ctx, eco, name, page)
	if err == nil && total == 0 {
		err = fault.New(fault.NotFound, "%s:%s was not analyzed", eco, name).Try("submit it with POST /scans/packages")
	}
	return rows, total, err
}

// AnalysisOf returns what is known of a version of a package, without the whole
// of it.
func (s *Server) AnalysisOf(ctx context.Context, ecosystem, name, version string) (Analysis, error) {
	eco, name, err := ParsePackage(ecosystem, name)
	if err != nil {
		return Analysis{}, err
	}
	a, err := s.store.AnalysisOf(ctx, eco, name, version)
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.NotFound, "%s:%s@%s was not analyzed", eco, name, version).Try("submit it with POST /scans/packages")
	}
	return a, err
}

// Report returns the whole of an analysis.
func (s *Server) Report(ctx context.Context, id string) (*report.Report, error) {
	data, err := s.store.Document(ctx, id, reportDocument)
	if err != nil {
		return nil, err
	}
	r, err := report.Unpack(data, nil)
	if err != nil {
		return nil, fmt.Errorf("analysis %s: %w", id, err)
	}
	r.Rules = rules.All()
	return r, nil
}

// marked returns the whole of an analysis, with what it takes to compare it.
func (s *Server) marked(ctx context.Context, id string) (*report.Report, error) {
	data, err := s.store.Document(ctx, id, reportDocument)
	if err != nil {
		return nil, err
	}
	marks, err := s.store.Document(ctx, id, marksDocument)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	r, err := report.Unpack(data, marks)
	if err != nil {
		return nil, fmt.Errorf("analysis %s: %w", id, err)
	}
	return r, nil
}

// Compare says what changed from one analysed version of a package to another.
func (s *Server) Compare(ctx context.Context, ecosystem, name, from, to string) (*report.Diff, error) {
	older, err := s.AnalysisOf(ctx, ecosystem, name, from)
	if err != nil {
		return nil, err
	}
	newer, err := s.AnalysisOf(ctx, ecosystem, name, to)
	if err != nil {
		return nil, err
	}
	return s.diffs.get(ctx, older.ID+" "+newer.ID, func(ctx context.Context) (*report.Diff, error) {
		return s.compare(ctx, older.ID, newer.ID)
	})
}

// compare says what changed from one analysis to another.
func (s *Server) compare(ctx context.Context, older, newer string) (*report.Diff, error) {
	a, err := s.marked(ctx, older)
	if err != nil {
		return nil, err
	}
	b, err := s.marked(ctx, newer)
	if err != nil {
		return nil, err
	}
	return compareReports(a, b), nil
}

func compareReports(older, newer *report.Report) *report.Diff { return diff.Compare(older, newer) }
