package jobs

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// An engine is River on one kind of database.
type engine interface {
	insert(context.Context, *store.Tx, envelope, *river.InsertOpts) (id int64, err error)
	cancel(ctx context.Context, tx *store.Tx, id int64) error
	start(context.Context) error
	stop(context.Context) error
}

func open(st *store.Store, cfg *river.Config) (engine, error) {
	if st.Engine() == store.SQLite {
		driver := &quietDriver{Driver: riversqlite.New(st.Writer()), writer: st.Writer(), rung: make(chan struct{}, 1)}
		return newClient(driver, cfg, (*store.Tx).SQLite, driver.ring)
	}
	return newClient(riverpgxv5.New(st.Pool()), cfg, (*store.Tx).Postgres, func() {})
}

// A client is River with transactions of one type.
type client[T any] struct {
	*river.Client[T]
	within func(*store.Tx) T
	ring   func() // before a transaction is committed that notifies
}

func newClient[T any](driver riverdriver.Driver[T], cfg *river.Config, within func(*store.Tx) T, ring func()) (engine, error) {
	c, err := river.NewClient(driver, cfg)
	if err != nil {
		return nil, err
	}
	return client[T]{c, within, ring}, nil
}

func (c client[T]) insert(ctx context.Context, tx *store.Tx, args envelope, opts *river.InsertOpts) (int64, error) {
	res, err := c.InsertTx(ctx, c.within(tx), args, opts)
	if err != nil {
		return 0, err
	}
	c.ring()
	return res.Job.ID, nil
}

func (c client[T]) cancel(ctx context.Context, tx *store.Tx, id int64) error {
	_, err := c.JobCancelTx(ctx, c.within(tx), id)
	c.ring()
	return err
}

func (c client[T]) start(ctx context.Context) error { return c.Start(ctx) }
func (c client[T]) stop(ctx context.Context) error  { return c.Stop(ctx) }

// config returns what River is told. Time-outs, retries and the return of jobs
// from dead processes are ours; its own rescue is set to where nothing that
// still runs can be.
func (q *Queue) config() *river.Config {
	cfg := &river.Config{
		ID:                          q.id,
		Logger:                      slog.New(severe{q.log.Handler()}),
		SkipUnknownJobCheck:         true, // other processes may have the handler
		FetchCooldown:               10 * time.Millisecond,
		FetchPollInterval:           time.Second,
		JobTimeout:                  -1,
		RescueStuckJobsAfter:        2 * longest,
		RetryPolicy:                 policy{q},
		CancelledJobRetentionPeriod: 24 * time.Hour,
		CompletedJobRetentionPeriod: 24 * time.Hour,
		DiscardedJobRetentionPeriod: 7 * 24 * time.Hour,
	}
	if len(q.opt.Classes) == 0 {
		return cfg
	}
	cfg.Queues = map[string]river.QueueConfig{}
	for class, workers := range q.opt.Classes {
		cfg.Queues[string(class)] = river.QueueConfig{MaxWorkers: workers}
	}
	cfg.Workers = river.NewWorkers()
	for kind := range q.handlers {
		river.AddWorkerArgs(cfg.Workers, envelope{kind: kind}, &worker{q: q})
	}
	return cfg
}

func known(c Class) bool { return slices.Contains(classes, c) }

// severe passes on only what River finds severe: it logs each cancelled job as a
// warning, and what becomes of jobs is logged here.
type severe struct{ slog.Handler }

func (h severe) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
}
func (h severe) WithAttrs(attrs []slog.Attr) slog.Handler { return severe{h.Handler.WithAttrs(attrs)} }
func (h severe) WithGroup(name string) slog.Handler       { return severe{h.Handler.WithGroup(name)} }
