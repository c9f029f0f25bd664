package app

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/billing"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/monitor"
	"github.com/loupe-sec/loupe/internal/service/notify"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/source"
)

// ServerOptions are what a server needs of the world.
type ServerOptions struct {
	Options
	DatabaseURL string        // empty for SQLite in the data folder
	Workers     int           // scans at once in this process; with 0 it does no work but to answer
	Sandbox     sandbox.Mode  // in which what is scanned is read
	ScanTime    time.Duration // after which a scan is given up; 30 minutes
	Poll        time.Duration // between two looks at the registry for a package that is watched; an hour
	Mail        notify.Mail
	Billing     billing.Options // less what the server knows by itself
	Log         *slog.Logger
	Now         func() time.Time
}

// A Server carries out the use cases of the services, on top of those of an
// [App]. It is safe for concurrent use.
type Server struct {
	opt      ServerOptions
	app      *App
	store    *store.Store
	accounts *account.Service
	jobs     *jobs.Queue
	notify   *notify.Service
	monitor  *monitor.Service
	billing  *billing.Service
	egress   *egress.Client
	diffs    *shared[*report.Diff]
	log      *slog.Logger
	now      func() time.Time
	rules    string // what an analysis must have been made with to be fresh
}

// OpenServer opens the database, and makes it if there is none. No job is done
// before [Server.Start].
func OpenServer(ctx context.Context, opt ServerOptions) (*Server, error) {
	opt.Log = cmp.Or(opt.Log, slog.New(slog.DiscardHandler))
	if opt.Now == nil {
		opt.Now = time.Now
	}
	opt.ScanTime = cmp.Or(opt.ScanTime, 30*time.Minute)
	opt.Poll = cmp.Or(opt.Poll, time.Hour)
	if err := sandbox.Check(opt.Sandbox); err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, store.Options{
		URL: opt.DatabaseURL, Path: filepath.Join(opt.DataDir, "loupe.db"), Conns: 16 + opt.Workers, Log: opt.Log,
	})
	if err != nil {
		return nil, err
	}
	s := &Server{
		opt: opt, app: New(opt.Options), store: st, log: opt.Log, now: opt.Now,
		accounts: account.New(st, opt.Now),
		diffs:    newShared[*report.Diff](),
		egress:   egress.New(egress.Options{Version: opt.Version, AllowPrivate: opt.AllowPrivate}),
	}
	tool := s.app.Tool()
	s.rules = tool.Version + " " + tool.Rules
	s.notify = notify.New(st, notify.Options{Egress: s.egress, Mail: opt.Mail, Now: opt.Now})
	s.monitor = monitor.New(st, monitor.Options{
		Newest: s.newest, Analyze: s.enqueueAnalysis, Notify: s.notify, Poll: opt.Poll, Log: opt.Log, Now: opt.Now,
	})
	pay := opt.Billing
	pay.Egress, pay.Now = s.egress, opt.Now
	s.billing = billing.New(st, pay)
	if s.jobs, err = s.queue(ctx); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	s.notify.Use(s.jobs)
	return s, nil
}

// queue opens the queue of jobs, with a handler for each kind.
func (s *Server) queue(ctx context.Context) (*jobs.Queue, error) {
	opt := jobs.Options{
		Log: s.log, Now: s.now,
		Handlers: []jobs.Handler{s.scanHandler(), s.analysisHandler(), s.notify.Handler(), s.monitor.Handler(), s.tidyHandler()},
	}
	if s.opt.Workers > 0 {
		opt.Classes = map[jobs.Class]int{jobs.Scan: s.opt.Workers, jobs.Deliver: 16, jobs.Maintain: 2}
		opt.Periodic = []jobs.Periodic{
			jobs.Every(s.monitor.Interval(), s.monitor.Look()),
			jobs.Every(10*time.Minute, tidy{}),
		}
	}
	return jobs.New(ctx, s.store, opt)
}

// flushed is how often it is written down when keys were last used.
const flushed = 5 * time.Second

// Start begins to do jobs, and goes on until Stop.
func (s *Server) Start(ctx context.Context) error {
	if s.opt.Workers == 0 {
		return nil
	}
	return s.jobs.Start(ctx)
}

// Run does what a server does beside its jobs, until ctx ends.
func (s *Server) Run(ctx context.Context) {
	if _, _, err := s.store.SearchPackages(ctx, "", Page{Limit: 1}); err != nil && ctx.Err() == nil { // so that nobody waits for the names to be read
		s.log.Error("the names of packages could not be read", "error", err)
	}
	tick := time.NewTicker(flushed)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.accounts.Flush(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("the use of keys could not be written down", "error", err)
			}
		}
	}
}

// Stop lets jobs that run come to an end, or gives them back to others.
func (s *Server) Stop(ctx context.Context) error {
	if s.opt.Workers == 0 {
		return nil
	}
	return s.jobs.Stop(ctx)
}

// Close lets go of the database. Jobs must have been stopped.
func (s *Server) Close(ctx context.Context) error {
	s.egress.Close()
	return errors.Join(s.accounts.Flush(ctx), s.store.Close())
}

// newest asks the registry for the version of a package that is installed today.
func (s *Server) newest(ctx context.Context, eco target.Ecosystem, name string) (string, error) {
	out := egress.New(egress.Options{Version: s.opt.Version, AllowPrivate: s.opt.AllowPrivate})
	defer out.Close()
	return source.Newest(ctx, source.Request{
		Target: target.Target{Kind: target.Package, Ecosystem: eco, Name: name}, Egress: out, CacheDir: s.app.cacheDir(),
	})
}

// Accounts returns what the command line of the server's machine needs to make
// organisations, people and keys.
func (s *Server) Accounts() *account.Service { return s.accounts }

// OrganizationBySlug returns the organisation of a slug, for the command line.
func (s *Server) OrganizationBySlug(ctx context.Context, slug string) (Organization, error) {
	return s.store.OrgBySlug(ctx, slug)
}

// Organizations lists all organisations, for the command line.
func (s *Server) Organizations(ctx context.Context, page Page) ([]Organization, int, error) {
	return s.store.Orgs(ctx, page)
}
