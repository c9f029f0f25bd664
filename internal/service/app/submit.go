package app

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// A PackageRequest asks for one version of a package to be looked at.
type PackageRequest struct {
	Ecosystem string `json:"ecosystem"`
	Name      string `json:"packageName"`
	Version   string `json:"version"`
	Repo      string `json:"repo,omitempty"`
	Source    string `json:"source,omitempty"`
	Force     bool   `json:"force,omitempty"`
}

// RequestOf returns what was asked for, as it was asked.
func RequestOf(scan *PackageScan) (req PackageRequest) {
	_ = json.Unmarshal([]byte(scan.Request), &req) // we wrote it
	return req
}

const (
	packageScan = "package" // the kind of scan
	scansMeter  = "package-scans"
)

// The stages of a scan, in their order.
const (
	stageIngest    = "ingest"
	stageExtract   = "extract"
	stageDecompile = "decompile"
	stageClassify  = "classify"
	stagePersist   = "persist"
)

// The forms of one exact version. npm: Semantic Versioning 2.0.0. PyPI: PEP 440,
// appendix B, without spaces.
var exactVersion = map[target.Ecosystem]*regexp.Regexp{
	target.NPM:  regexp.MustCompile(`^(?:0|[1-9]\d{0,15})\.(?:0|[1-9]\d{0,15})\.(?:0|[1-9]\d{0,15})(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$`),
	target.PyPI: regexp.MustCompile(`^(?i)v?(?:\d+!)?\d+(?:\.\d+)*(?:[-_.]?(?:a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?(?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?(?:[-_.]?dev[-_.]?\d*)?(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?$`),
}

// exact checks a request, and returns the package that it names.
func (req PackageRequest) exact() (eco target.Ecosystem, name string, err error) {
	if eco, name, err = ParsePackage(req.Ecosystem, req.Name); err != nil {
		return "", "", err
	}
	ascii := !strings.ContainsFunc(req.Version, func(r rune) bool { return r > unicode.MaxASCII }) // others fold to letters that the forms have
	if len(req.Version) > 256 || !ascii || !exactVersion[eco].MatchString(req.Version) {
		return "", "", fault.New(fault.Invalid, "version: not one exact version of %s", eco).In("version", req.Version)
	}
	return eco, name, nil
}

// Submit asks for a package to be looked at. If that was done before, and
// nothing is known better since, the scan that it returns is complete.
func (s *Server) Submit(ctx context.Context, by *Actor, req PackageRequest) (*PackageScan, error) {
	eco, name, err := req.exact()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	now := s.now()
	scan := PackageScan{
		Kind: packageScan, Ecosystem: eco, Name: name, Version: req.Version, Request: string(text), Fresh: req.Force, RequestedBy: by.Name(),
		Status: store.ScanQueued, Stage: stageIngest, RequestedAt: store.At(now),
	}
	if !req.Force {
		known, err := s.fresh(ctx, eco, name, req.Version)
		if err != nil {
			return nil, err
		}
		if known != nil {
			scan.Status, scan.Stage, scan.AnalysisID, scan.CacheHit = store.ScanComplete, "", known.ID, true
			scan.CompletedAt = store.At(s.now())
		}
	}
	err = s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		again := scan // the function may be called again
		again.ID = ""
		created, err := tx.Org(by.OrgID).CreateScan(ctx, &again)
		if err != nil || !created || !again.Status.Open() {
			scan = again
			return err
		}
		if _, ok, err := tx.Org(by.OrgID).Use(ctx, scansMeter, store.Month(now), 1, by.Plan.Month); err != nil {
			return err
		} else if !ok {
			return fault.New(fault.Exhausted, "Monthly scan limit exceeded").After(nextMonth(now).Sub(now))
		}
		if again.JobID, err = s.enqueueScan(ctx, tx, again.ID); err != nil {
			return err
		}
		scan = again
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &scan, nil
}

// nextMonth returns when the month after t begins.
func nextMonth(t time.Time) time.Time {
	year, month, _ := t.UTC().Date()
	return time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
}

// fresh returns an analysis that was made with what is known today, or nil.
func (s *Server) fresh(ctx context.Context, eco target.Ecosystem, name, version string) (*Analysis, error) {
	a, err := s.store.AnalysisOf(ctx, eco, name, version)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case a.Rules != s.rules:
		return nil, nil
	}
	return &a, nil
}

// enqueueScan has a worker run a scan.
func (s *Server) enqueueScan(ctx context.Context, tx *store.Tx, id string) (int64, error) {
	job, err := s.jobs.EnqueueTx(ctx, tx, scanJob{id}, jobs.Insert{Class: jobs.Scan})
	if err != nil {
		return 0, err
	}
	return job, tx.SetScanJob(ctx, id, job)
}

// PackageScan returns a scan of the organisation of who asks.
func (s *Server) PackageScan(ctx context.Context, by *Actor, id string) (*PackageScan, error) {
	scan, err := s.store.Org(by.OrgID).Scan(ctx, id)
	if err != nil {
		return nil, err
	}
	return &scan, nil
}

// CancelScan ends a scan that has not ended, and forgets one that has.
func (s *Server) CancelScan(ctx context.Context, by *Actor, id string) error {
	var scan PackageScan
	err := s.change(ctx, by, by.OrgID, "scan.cancel", func(ctx context.Context, tx *store.Tx, o store.OrgTx) (string, any, error) {
		var err error
		if scan, err = o.Scan(ctx, id); err != nil {
			return id, nil, err
		}
		if !scan.Status.Open() {
			return id, nil, o.DeleteScan(ctx, id)
		}
		if scan, err = o.CancelScan(ctx, id, store.At(s.now())); err != nil || !scan.Status.Open() {
			return id, nil, err
		}
		// It ends here and not by its worker, which may have died: then its job is
		// cancelled, and nobody would look at the scan again.
		return id, nil, tx.FinishScan(ctx, id, store.ScanEnd{Status: store.ScanCancelled, At: store.At(s.now())})
	})
	if err != nil || scan.JobID == 0 {
		return err
	}
	if err := s.jobs.Cancel(ctx, scan.JobID); err != nil && !fault.Is(err, fault.NotFound) {
		return err // the worker looks at the scan as well
	}
	return nil
}
