package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/monitor"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// scanJob runs a scan that somebody asked for.
type scanJob struct {
	Scan string `json:"scan"`
}

// Kind names the job.
func (scanJob) Kind() string { return "scan" }

func (s *Server) scanHandler() jobs.Handler {
	return jobs.Handler{Kind: scanJob{}.Kind(), Timeout: s.scanTime(), Run: s.runScan, GaveUp: s.giveScanUp}
}

// scanTime is how long a scan may take with all that is around it: a scanner that
// runs out of time still has some to say what it found until then.
func (s *Server) scanTime() time.Duration { return s.opt.ScanTime + min(s.opt.ScanTime, time.Minute) }

// runScan runs a scan. Whatever it finds out, and that it has done so, is one
// transaction: a scan has one result, however often its worker dies.
func (s *Server) runScan(ctx context.Context, job *jobs.Job) error {
	var args scanJob
	if err := job.Decode(&args); err != nil {
		return jobs.Cancel(err)
	}
	row, err := s.store.ScanByID(ctx, args.Scan)
	if fault.Is(err, fault.NotFound) || err == nil && !row.Status.Open() {
		return nil
	}
	if err != nil {
		return err
	}
	err = s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		return tx.StartScan(ctx, row.ID, stageIngest, store.At(s.now()))
	})
	if fault.Is(err, fault.Conflict) {
		return nil // it was cancelled at this moment
	}
	if err != nil {
		return err
	}
	if !row.Fresh { // somebody else may have had it looked at since
		known, err := s.fresh(ctx, row.Ecosystem, row.Name, row.Version)
		if err != nil {
			return err
		}
		if known != nil {
			return s.finishScan(ctx, job, &row, store.ScanEnd{Status: store.ScanComplete, AnalysisID: known.ID, CacheHit: true})
		}
	}
	found, err := s.analyze(ctx, row.Ecosystem, row.Name, row.Version, row.Fresh, s.stages(ctx, row.ID))
	if err == nil {
		return s.keepScan(ctx, job, &row, found)
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, jobs.ErrCancelled):
		return s.finishScan(context.WithoutCancel(ctx), job, &row, store.ScanEnd{Status: store.ScanCancelled})
	case errors.Is(cause, jobs.ErrTimeout):
		return s.finishScan(context.WithoutCancel(ctx), job, &row, store.ScanEnd{Status: store.ScanFailed, Error: fmt.Sprintf("given up after %s", s.opt.ScanTime)})
	case cause != nil: // the process stops, and another one goes on
		return cause
	case passing(err) && job.Attempt < patience:
		return jobs.RetryAt(err, s.now().Add(time.Duration(job.Attempt*job.Attempt)*2*time.Second))
	}
	kind, text := fault.Of(err)
	if kind == fault.Internal {
		s.log.Error("a scan failed", "scan", row.ID, "error", err)
	}
	return s.finishScan(ctx, job, &row, store.ScanEnd{Status: store.ScanFailed, Error: text})
}

// passing says whether an error may be over when a registry is asked again.
func passing(err error) bool {
	return fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Throttled)
}

// patience is how often a registry that does not answer is asked before a scan
// fails.
const patience = 3

func (s *Server) finishScan(ctx context.Context, job *jobs.Job, row *store.Scan, end store.ScanEnd) error {
	end.At = store.At(s.now())
	return s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.FinishScan(ctx, row.ID, end); err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
		return job.Complete(ctx, tx)
	})
}

// keepScan ends a scan with what it found, unless somebody ended it meanwhile. If
// another worker kept an analysis of the version first, that is the result, or
// what this one is held against if it was to be made anew.
func (s *Server) keepScan(ctx context.Context, job *jobs.Job, row *store.Scan, found *result) error {
	for {
		if err := found.hold(ctx); err != nil {
			return err
		}
		if known := found.known(); known != nil && !row.Fresh {
			return s.finishScan(ctx, job, row, store.ScanEnd{Status: store.ScanComplete, AnalysisID: known.ID, CacheHit: true})
		}
		ended := false
		err := s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
			if err := found.save(ctx, tx); err != nil {
				return err
			}
			end := store.ScanEnd{Status: store.ScanComplete, Stage: stagePersist, AnalysisID: found.analysis.ID, At: store.At(s.now())}
			err := tx.FinishScan(ctx, row.ID, end)
			if ended = fault.Is(err, fault.Conflict); err != nil {
				return err
			}
			return job.Complete(ctx, tx)
		})
		if ended {
			return nil
		}
		if !errors.Is(err, errStale) {
			return err
		}
	}
}

// giveScanUp says of a scan whose job failed too often that it failed.
func (s *Server) giveScanUp(ctx context.Context, tx *store.Tx, job *jobs.Job, why error) error {
	var args scanJob
	if err := job.Decode(&args); err != nil {
		return nil
	}
	_, text := fault.Of(why)
	err := tx.FinishScan(ctx, args.Scan, store.ScanEnd{Status: store.ScanFailed, Error: text, At: store.At(s.now())})
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}

// stages returns a watcher that writes down how far a scan is. It is never in
// the way of the scan: a stage that comes while another is written is written
// after it.
func (s *Server) stages(ctx context.Context, id string) func(stage string) {
	var mu sync.Mutex
	var writing bool
	var next string
	write := func() {
		for {
			mu.Lock()
			stage := next
			if next = ""; stage == "" {
				writing = false
				mu.Unlock()
				return
			}
			mu.Unlock()
			err := s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.SetScanStage(ctx, id, stage) })
			if err != nil && ctx.Err() == nil && !fault.Is(err, fault.Conflict) {
				s.log.Warn("the stage of a scan could not be written down", "scan", id, "error", err)
			}
		}
	}
	return func(stage string) {
		mu.Lock()
		defer mu.Unlock()
		if next = stage; !writing {
			writing = true
			go write()
		}
	}
}

// analysisJob analyses a version of a package that somebody watches.
type analysisJob struct {
	Ecosystem target.Ecosystem `json:"ecosystem"`
	Name      string           `json:"name"`
	Version   string           `json:"version"`
}

// Kind names the job.
func (analysisJob) Kind() string { return "analysis" }

func (s *Server) analysisHandler() jobs.Handler {
	return jobs.Handler{Kind: analysisJob{}.Kind(), Timeout: s.scanTime(), Run: s.runAnalysis}
}

// enqueueAnalysis has a version analysed for those who watch it.
func (s *Server) enqueueAnalysis(ctx context.Context, tx *store.Tx, eco target.Ecosystem, name, version string) error {
	_, err := s.jobs.EnqueueTx(ctx, tx, analysisJob{eco, name, version}, jobs.Insert{
		Class: jobs.Scan, Priority: 3, Unique: fmt.Sprintf("%s %s %s", eco, name, version),
	})
	return err
}

func (s *Server) runAnalysis(ctx context.Context, job *jobs.Job) error {
	var args analysisJob
	if err := job.Decode(&args); err != nil {
		return jobs.Cancel(err)
	}
	known, err := s.fresh(ctx, args.Ecosystem, args.Name, args.Version)
	if err != nil || known != nil {
		return err
	}
	found, err := s.analyze(ctx, args.Ecosystem, args.Name, args.Version, false, func(string) {})
	if err != nil {
		cause := context.Cause(ctx)
		kind, _ := fault.Of(err)
		switch {
		case cause != nil:
			return cause
		case passing(err), kind == fault.Internal:
			return err
		}
		s.log.Warn("a watched package could not be analyzed", "ecosystem", args.Ecosystem, "package", args.Name, "version", args.Version, "error", err)
		return nil // the next look at the registry asks for it again
	}
	for {
		if err := found.hold(ctx); err != nil || found.known() != nil {
			return err
		}
		err := s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
			if err := found.save(ctx, tx); err != nil {
				return err
			}
			return job.Complete(ctx, tx)
		})
		if !errors.Is(err, errStale) {
			return err
		}
	}
}

// A result is an analysis that is not kept yet.
type result struct {
	server   *Server
	report   *report.Report
	analysis store.Analysis
	docs     []store.Document
	change   monitor.Change
}

// errStale is when a result was held against what is no longer the analysis
// before it, or against nothing though somebody wants to know by now.
var errStale = errors.New("app: another analysis was kept, or a watch begun, meanwhile")

// save keeps an analysis and tells who watches the package. With errStale the
// transaction must not be committed, and the result be held against the one
// before it anew.
func (r *result) save(ctx context.Context, tx *store.Tx) error {
	a := r.analysis
	before, err := tx.SaveAnalysis(ctx, &a, r.docs...)
	if err != nil {
		return err
	}
	if held := r.change.Before; (before == nil) != (held == nil || held.Version != a.Version) || before != nil && before.ID != held.ID {
		return errStale
	}
	r.analysis.ID = a.ID // the same if the transaction is begun anew
	r.change.Analysis = &a
	if r.change.Before != nil && r.change.Diff == nil { // nobody wanted to know
		lists, err := tx.WatchlistsOf(ctx, a.Ecosystem, a.Name, a.Version)
		if err == nil && len(lists) > 0 {
			err = errStale
		}
		return err
	}
	if !r.change.Telling() {
		return nil
	}
	return r.server.monitor.Tell(ctx, tx, r.change)
}

// analyze looks at a version of a package. What takes time happens here, so that
// keeping the result takes little.
func (s *Server) analyze(ctx context.Context, eco target.Ecosystem, name, version string, anew bool, stage func(string)) (*result, error) {
	r, err := s.app.Scan(ctx, ScanRequest{
		Target:  target.Target{Kind: target.Package, Ecosystem: eco, Name: name, Version: version},
		NoCache: anew,
		Sandbox: sandbox.Options{Mode: s.opt.Sandbox},
		Limits:  scan.Limits{Time: s.opt.ScanTime},
		Event:   staged(stage),
		marks:   true,
	})
	if err != nil {
		return nil, err
	}
	stage(stagePersist)
	whole, marks, err := report.Pack(r)
	if err != nil {
		return nil, err
	}
	a := report.NewAnalysis(r)
	out := &result{server: s, report: r, docs: []store.Document{{Kind: reportDocument, Data: whole}}}
	if marks != nil {
		out.docs = append(out.docs, store.Document{Kind: marksDocument, Data: marks})
	}
	out.analysis = store.Analysis{
		ID: store.NewID("pkg_"), Ecosystem: eco, Name: name, Version: version, Rules: s.rules,
		RiskScore: a.RiskScore, RiskLevel: string(a.RiskLevel), Summary: a.Summary, BinaryCount: a.BinaryCount, TotalSize: a.TotalBinarySize,
		SourceMatch: a.SourceMatchConfidence, Model: a.AIModel, CreatedAt: store.At(r.CompletedAt),
	}
	return out, nil
}

// hold holds a result against the analysis before it: the newest of the same
// version, or else that of the highest lower version. The two are compared if
// anybody wants to know.
func (r *result) hold(ctx context.Context) error {
	s, a := r.server, &r.analysis
	r.change = monitor.Change{Analysis: a}
	before, err := s.store.AnalysisOf(ctx, a.Ecosystem, a.Name, a.Version)
	if fault.Is(err, fault.NotFound) {
		before, err = s.store.AnalysisBelow(ctx, a.Ecosystem, a.Name, a.Version)
	}
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r.change.Before = &before
	lists, err := s.store.WatchlistsOf(ctx, a.Ecosystem, a.Name, a.Version)
	if err != nil || len(lists) == 0 {
		return err
	}
	older, err := s.marked(ctx, before.ID)
	if err != nil {
		return err
	}
	r.change.Diff = compareReports(older, r.report)
	return nil
}

// known returns the analysis of the same version, made with what is known today,
// that another worker kept while this one was made, or nil.
func (r *result) known() *store.Analysis {
	if b := r.change.Before; b != nil && b.Version == r.analysis.Version && b.Rules == r.analysis.Rules {
		return b
	}
	return nil
}

// staged turns the events of a scan into stages.
func staged(stage func(string)) func(scan.Event) {
	order := []string{stageIngest, stageExtract, stageDecompile, stageClassify}
	at, rounds := 0, 0
	return func(e scan.Event) {
		now := at
		switch {
		case e.Progress != nil && e.Progress.Phase == scan.Inspect:
			now = max(at, slices.Index(order, stageExtract))
			if e.Progress.Done > 0 {
				now = max(now, slices.Index(order, stageDecompile))
			}
		case e.Stage != nil:
			if rounds++; rounds > 1 {
				now = slices.Index(order, stageClassify)
			} else {
				now = max(at, slices.Index(order, stageExtract))
			}
		}
		if now != at {
			at = now
			stage(order[at])
		}
	}
}
