// Package monitor watches packages for those who asked: it looks at the
// registries for new versions, has them analysed, and tells the watchlists what
// changed, once.
package monitor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/notify"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// Options are what a monitor needs of others.
type Options struct {
	// Newest asks the registry for the version of a package that is installed
	// today.
	Newest func(ctx context.Context, eco target.Ecosystem, name string) (string, error)

	// Analyze has a version analysed, once the transaction is committed, unless
	// that is about to be done.
	Analyze func(ctx context.Context, tx *store.Tx, eco target.Ecosystem, name, version string) error

	Notify *notify.Service
	Poll   time.Duration // between two looks at one package
	Log    *slog.Logger
	Now    func() time.Time
}

// A Service watches packages. It is safe for concurrent use.
type Service struct {
	store *store.Store
	opt   Options
}

// New returns a service.
func New(st *store.Store, opt Options) *Service {
	opt.Log = cmp.Or(opt.Log, slog.New(slog.DiscardHandler))
	return &Service{store: st, opt: opt}
}

const (
	// batch is how many packages are looked at in one go, and atOnce how many of
	// them at the same time.
	batch, atOnce = 64, 4

	// askTime bounds one question to a registry.
	askTime = 2 * time.Minute
)

// look is the job that asks registries about the packages that are due.
type look struct{}

// Kind names the job.
func (look) Kind() string { return "look" }

// Interval is how often it is looked whether packages are due.
func (s *Service) Interval() time.Duration {
	return max(time.Second, min(30*time.Second, s.opt.Poll/4))
}

// Look is the job to be done at each Interval.
func (s *Service) Look() jobs.Args { return look{} }

// Handler runs the job.
func (s *Service) Handler() jobs.Handler {
	return jobs.Handler{Kind: look{}.Kind(), Timeout: 15 * time.Minute, Run: s.run}
}

func (s *Service) run(ctx context.Context, _ *jobs.Job) error {
	for {
		var due []store.WatchedPackage
		err := s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
			now := s.opt.Now()
			due, err = tx.ClaimWatched(ctx, store.At(now), store.At(now.Add(s.opt.Poll)), batch)
			return err
		})
		if err != nil {
			return err
		}
		if len(due) == 0 {
			return nil
		}
		if err := s.askAll(ctx, due); err != nil {
			return err
		}
	}
}

// askAll asks about some packages, a few at the same time.
func (s *Service) askAll(ctx context.Context, due []store.WatchedPackage) error {
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	failed := make(chan error, len(due))
	for _, p := range due {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			if err := s.ask(ctx, &p); err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
}

// ask asks the registry about one package, and has analysed what somebody watches
// and was not: the version of today, and versions that are pinned. What could not
// be analysed is tried again the next time.
func (s *Service) ask(ctx context.Context, p *store.WatchedPackage) error {
	asked, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	version, err := s.opt.Newest(asked, p.Ecosystem, p.Name)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	now := s.opt.Now()
	wait := s.opt.Poll + time.Duration(rand.Int64N(int64(s.opt.Poll)/10+1)) // so that not all come at once
	next := *p
	next.AskedAt, next.NextAt, next.Error = store.At(now), store.At(now.Add(wait)), ""
	if err != nil {
		_, next.Error = fault.Of(err)
		s.opt.Log.Warn("a registry could not be asked about a watched package", "ecosystem", p.Ecosystem, "package", p.Name, "error", err)
		version = ""
	}
	if version != "" {
		next.Version = version
	}
	return s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		versions, err := tx.WatchedVersions(ctx, p.Ecosystem, p.Name)
		if err != nil {
			return err
		}
		for _, v := range versions {
			if v = cmp.Or(v, version); v == "" {
				continue
			}
			_, err := tx.AnalysisOf(ctx, p.Ecosystem, p.Name, v)
			if fault.Is(err, fault.NotFound) {
				err = s.opt.Analyze(ctx, tx, p.Ecosystem, p.Name, v)
			}
			if err != nil {
				return err
			}
		}
		return tx.AskedWatched(ctx, &next)
	})
}

// A Change is an analysis beside the one before it.
type Change struct {
	Analysis *store.Analysis
	Before   *store.Analysis // nil if there is none
	Diff     *report.Diff    // from Before to Analysis; nil without it
}

// Telling says whether anybody should hear of a change: a version that is new,
// or another look at one that found something else.
func (c Change) Telling() bool {
	return c.Before == nil || c.Before.Version != c.Analysis.Version ||
		c.Diff.RiskDelta != 0 || len(c.Diff.AddedBehaviors)+len(c.Diff.RemovedBehaviors) > 0
}

// Tell has every watchlist that watches the package hear of a change, in the
// transaction that keeps the analysis.
func (s *Service) Tell(ctx context.Context, tx *store.Tx, c Change) error {
	lists, err := tx.WatchlistsOf(ctx, c.Analysis.Ecosystem, c.Analysis.Name, c.Analysis.Version)
	if err != nil {
		return err
	}
	for _, w := range lists {
		m := newMessage(&w, c, s.opt.Now())
		body, err := json.Marshal(m)
		if err != nil {
			return err
		}
		created, err := tx.Org(w.OrgID).CreateAlert(ctx, &store.Alert{
			WatchlistID: w.ID, AnalysisID: c.Analysis.ID, Body: string(body), CreatedAt: store.At(s.opt.Now()),
		})
		if fault.Is(err, fault.NotFound) { // the watchlist is gone
			continue
		}
		if err != nil {
			return err
		}
		if !created {
			continue
		}
		if err := s.send(ctx, tx, &w, m, body); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) send(ctx context.Context, tx *store.Tx, w *store.Watchlist, m message, body []byte) error {
	return s.opt.Notify.Send(ctx, tx, w.OrgID, &store.Delivery{
		SourceID: w.ID, Event: m.Type, Channel: w.Channel, Destination: w.Destination, Secret: w.Secret,
		Subject: m.subject, Body: string(body),
	})
}

// Test sends a message to a watchlist that says no more than that it arrives.
func (s *Service) Test(ctx context.Context, tx *store.Tx, w *store.Watchlist) error {
	now := s.opt.Now()
	m := message{
		Type: "watchlist.test", Text: fmt.Sprintf("This is a test of the watchlist %q. Messages arrive.", w.Name), Timestamp: stamp(now),
		Data: testData{OrgID: w.OrgID, WatchlistID: w.ID, WatchlistName: w.Name}, subject: "Test of the watchlist " + w.Name,
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.send(ctx, tx, w, m, body)
}

// message is what a watchlist gets.
type message struct {
	Type      string `json:"type"`
	Text      string `json:"text"`
	Timestamp string `json:"timestamp"`
	Data      any    `json:"data"`

	subject string
}

type testData struct {
	OrgID         string `json:"orgId"`
	WatchlistID   string `json:"watchlistId"`
	WatchlistName string `json:"watchlistName"`
}

type changeData struct {
	testData
	Ecosystem        target.Ecosystem `json:"ecosystem"`
	PackageName      string           `json:"packageName"`
	FromVersion      *string          `json:"fromVersion"`
	ToVersion        string           `json:"toVersion"`
	RiskScore        int              `json:"riskScore"`
	RiskLevel        string           `json:"riskLevel"`
	RiskDelta        int              `json:"riskDelta"`
	Summary          string           `json:"summary"`
	AddedBehaviors   []string         `json:"addedBehaviors"`
	RemovedBehaviors []string         `json:"removedBehaviors"`
}

func newMessage(w *store.Watchlist, c Change, now time.Time) message {
	a := c.Analysis
	d := changeData{
		testData:  testData{w.OrgID, w.ID, w.Name},
		Ecosystem: a.Ecosystem, PackageName: a.Name, ToVersion: a.Version, RiskScore: a.RiskScore, RiskLevel: a.RiskLevel,
		RiskDelta: a.RiskScore, Summary: a.Summary, AddedBehaviors: []string{}, RemovedBehaviors: []string{},
	}
	head := fmt.Sprintf("%s:%s %s was analyzed for the first time", a.Ecosystem, a.Name, a.Version)
	if c.Before != nil {
		d.FromVersion, d.RiskDelta, d.Summary = &c.Before.Version, c.Diff.RiskDelta, c.Diff.Summary
		d.AddedBehaviors, d.RemovedBehaviors = append(d.AddedBehaviors, c.Diff.AddedBehaviors...), append(d.RemovedBehaviors, c.Diff.RemovedBehaviors...)
		head = fmt.Sprintf("%s:%s changed from %s to %s", a.Ecosystem, a.Name, c.Before.Version, a.Version)
		if c.Before.Version == a.Version {
			head = fmt.Sprintf("%s:%s %s was analyzed anew, with another result", a.Ecosystem, a.Name, a.Version)
		}
	}
	return message{
		Type: "package.changed", Timestamp: stamp(now), Data: d, subject: head,
		Text: fmt.Sprintf("%s. Risk: %s, %d of 100 (%+d). %s", head, a.RiskLevel, a.RiskScore, d.RiskDelta, strings.TrimSpace(d.Summary)),
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
