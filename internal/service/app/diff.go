package app

import (
	"context"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/diff"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/scanners/native"
)

// A DiffRequest says what to compare, and how both are scanned.
type DiffRequest struct {
	From, To target.Target
	Scan     ScanRequest // for both sides; its target does not count
}

// sides returns the requests for both scans.
func (req DiffRequest) sides() (from, to ScanRequest) {
	from, to = req.Scan, req.Scan
	from.Target, to.Target = req.From, req.To
	from.marks, to.marks = true, true
	if req.From.Kind != target.Package && req.To.Kind == target.Package { // it is meant for the other side
		from.Platform = ""
	}
	if req.To.Kind != target.Package && req.From.Kind == target.Package {
		to.Platform = ""
	}
	return from, to
}

// CheckDiff refuses a request that cannot mean anything, before anything is
// fetched.
func CheckDiff(req DiffRequest) error {
	from, to := req.sides()
	if err := CheckScan(from); err != nil {
		return err
	}
	return CheckScan(to)
}

// Diff scans two targets in the same way and says what is different. Its errors
// are faults that a user can read.
func (a *App) Diff(ctx context.Context, req DiffRequest) (*report.Diff, error) {
	if err := CheckDiff(req); err != nil {
		return nil, err
	}
	from, to := req.sides()
	old, err := a.Scan(ctx, from)
	if err != nil {
		return nil, sided(from, err)
	}
	// Marks of both, and the findings of both, are held at once; files are not.
	recent, err := a.Scan(ctx, to)
	if err != nil {
		return nil, sided(to, err)
	}
	return diff.Compare(old, recent), nil
}

// sided says which side could not be scanned, where the error does not.
func sided(req ScanRequest, err error) error {
	kind, text := fault.Of(err)
	if kind == fault.Internal {
		return err
	}
	return fault.New(kind, "%s: %s", req.Target.Short(), text).Because(err)
}

// marked returns scanners that keep what it takes to pair functions.
func marked(scanners []*scan.Scanner) []*scan.Scanner {
	out := make([]*scan.Scanner, len(scanners))
	for i, s := range scanners {
		if out[i] = s; s.Name == native.Scanner.Name {
			out[i] = native.Marking(s)
		}
	}
	return out
}
