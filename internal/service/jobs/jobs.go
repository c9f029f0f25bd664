// Package jobs is the durable queue of work: what must happen is enqueued in the
// transaction that decides it, and happens although processes end at any moment.
//
// River keeps, schedules, hands out and cleans the jobs, on both engines. What
// becomes of a job is written by this package, and only by the process that has
// it: a process that was taken for dead and wakes up again cannot finish, retry
// or cancel what another one has taken over. A handler that writes its results in
// one transaction with [Job.Complete] has its effects exactly once.
//
// It refuses to know what jobs are about: arguments are bytes, and never logged.
package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// A Class is a sort of work that has workers of its own, so that one sort does
// not wait behind another.
type Class string

// The classes.
const (
	Scan     Class = "scan"
	Deliver  Class = "deliver"
	Maintain Class = "maintain"
)

var classes = []Class{Scan, Deliver, Maintain}

// Args say what a job is about. They are kept as JSON; the kind, of letters,
// digits and dots, names the handler and must be the same for all values of a
// type.
type Args interface{ Kind() string }

// Insert says how a job is enqueued.
type Insert struct {
	Class    Class
	Priority int       // 1 comes first, 4 last; 0 is 2
	At       time.Time // not before this, and up to five seconds after it; zero is now
	Unique   string    // of those of a kind with the same text here, one is unfinished at a time
	Attempts int       // before it is given up; 0 is 10
}

// A Handler does the jobs of one kind.
type Handler struct {
	Kind    string
	Timeout time.Duration // for one attempt; 0 is ten minutes, and twelve hours is the most

	// Run does a job. Its context ends when the job is cancelled, its time is up,
	// the process stops, or another process has taken the job; context.Cause says
	// which: [ErrCancelled], [ErrTimeout], [ErrStopping], [ErrLost].
	// To return nil is to have done it. After an error, or a panic, it is tried
	// again later, unless [Cancel], [RetryAt] or [Wait] says otherwise.
	Run func(ctx context.Context, job *Job) error

	// GaveUp is called in the transaction that gives a job up, with the reason: it
	// failed too often, ended its process too often, or Run returned [Cancel]. It
	// may be nil. It is not called for what was cancelled from outside.
	GaveUp func(ctx context.Context, tx *store.Tx, job *Job, why error) error
}

// Options say what a queue does.
type Options struct {
	Log      *slog.Logger
	Classes  map[Class]int // workers of each class in this process; none: it only enqueues
	Handlers []Handler
	Periodic []Periodic
	Grace    time.Duration                   // that running jobs have when the process stops; 0 is twenty seconds
	Backoff  func(attempt int) time.Duration // after the attempt of this number failed; nil is [Backoff]
	Beat     time.Duration                   // between signs of life; a process that misses six is dead; 0 is a second
	Now      func() time.Time
}

const (
	attempts    = 10
	timeout     = 10 * time.Minute
	longest     = 12 * time.Hour
	grace       = 20 * time.Second
	linger      = 5 * time.Second // that handlers have to return after their contexts ended
	beat        = time.Second
	mediumQueue = 2 // priority
)

// A Queue enqueues jobs and, once started, does them. It is safe for concurrent
// use.
type Queue struct {
	st       *store.Store
	opt      Options
	log      *slog.Logger
	sql      dialect
	id       string // of this process, in attempts and signs of life
	place    string
	engine   engine
	handlers map[string]Handler
	counts   counters

	mu       sync.Mutex
	running  map[int64]*run
	stopping bool // running jobs are to end
	beaten   time.Time
	lost     time.Time // when this process was last taken for dead

	cancel  context.CancelFunc // ends the loops
	loops   sync.WaitGroup
	stopped chan struct{} // closed when everything has ended; nil before Start
}

// New opens the queue that is kept in a store, and makes its tables. Several
// processes may do so at once.
func New(ctx context.Context, st *store.Store, opt Options) (*Queue, error) {
	opt.Log = cmp.Or(opt.Log, slog.New(slog.DiscardHandler))
	opt.Grace = cmp.Or(opt.Grace, grace)
	opt.Beat = cmp.Or(opt.Beat, beat)
	if opt.Backoff == nil {
		opt.Backoff = Backoff
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	host, _ := os.Hostname() // only shown to people
	q := &Queue{
		st: st, opt: opt, log: opt.Log, sql: dialects[st.Engine()],
		id: store.NewID("worker_"), place: fmt.Sprintf("%s %d", host, os.Getpid()),
		handlers: map[string]Handler{}, running: map[int64]*run{}, counts: counters{},
	}
	for _, class := range classes {
		q.counts[class] = &tally{}
	}
	for class, workers := range opt.Classes {
		if !known(class) || workers < 1 {
			return nil, fmt.Errorf("jobs: %d workers of class %q", workers, class)
		}
	}
	for _, h := range opt.Handlers {
		h.Timeout = cmp.Or(h.Timeout, timeout)
		if _, twice := q.handlers[h.Kind]; twice || h.Run == nil || h.Timeout < 0 || h.Timeout > longest {
			return nil, fmt.Errorf("jobs: the handler of %q is there twice, does nothing, or has more than %v", h.Kind, longest)
		}
		q.handlers[h.Kind] = h
	}
	if len(opt.Classes) > 0 && len(opt.Handlers) == 0 {
		return nil, errors.New("jobs: workers need handlers")
	}
	if err := checkPeriodic(opt.Periodic); err != nil {
		return nil, err
	}
	if err := migrate(ctx, st); err != nil {
		return nil, fmt.Errorf("jobs: bringing the tables up to date: %w", err)
	}
	var err error
	if q.engine, err = open(st, q.config()); err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	return q, nil
}

// EnqueueTx enqueues a job if the transaction is committed, and returns its id.
// If there is an unfinished one with the same [Insert.Unique], it returns the id
// of that.
func (q *Queue) EnqueueTx(ctx context.Context, tx *store.Tx, args Args, in Insert) (int64, error) {
	opts, err := in.options()
	if err != nil {
		return 0, err
	}
	data, err := json.Marshal(args)
	if err != nil {
		return 0, fmt.Errorf("jobs: arguments of %s: %w", args.Kind(), err)
	}
	id, err := q.engine.insert(ctx, tx, envelope{kind: args.Kind(), Key: in.Unique, Args: data}, opts)
	if err != nil {
		return 0, fmt.Errorf("jobs: %w", err)
	}
	return id, nil
}

// unfinished are the states in which a job is in the way of another one like it.
var unfinished = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
	rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

func (in Insert) options() (*river.InsertOpts, error) {
	if !known(in.Class) {
		return nil, fmt.Errorf("jobs: no class %q", in.Class)
	}
	out := &river.InsertOpts{
		MaxAttempts: cmp.Or(in.Attempts, attempts),
		Priority:    cmp.Or(in.Priority, mediumQueue),
		Queue:       string(in.Class),
	}
	if in.At.After(time.Now()) { // else it need not wait until it is looked for what is due
		out.ScheduledAt = in.At
	}
	if in.Unique != "" {
		out.UniqueOpts = river.UniqueOpts{ByArgs: true, ByState: unfinished}
	}
	return out, nil
}

// envelope is what River keeps as the arguments of a job.
type envelope struct {
	kind string
	Key  string          `json:"key,omitempty" river:"unique"`
	Args json.RawMessage `json:"args"`
}

// Kind implements river.JobArgs.
func (e envelope) Kind() string { return e.kind }

// Cancel ends a job: at once if it waits, and by its context, within a second,
// if it runs, in whichever process. A job that is finished stays as it is.
func (q *Queue) Cancel(ctx context.Context, id int64) error {
	if err := q.st.Write(ctx, func(ctx context.Context, tx *store.Tx) error { return q.CancelTx(ctx, tx, id) }); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if r := q.running[id]; r != nil {
		r.end(ErrCancelled)
	}
	return nil
}

// CancelTx is [Queue.Cancel] if the transaction is committed.
func (q *Queue) CancelTx(ctx context.Context, tx *store.Tx, id int64) error {
	err := q.engine.cancel(ctx, tx, id)
	if errors.Is(err, river.ErrNotFound) {
		return fault.New(fault.NotFound, "no job %d", id)
	}
	if err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	// While it still runs, it must not be in the way of one like it.
	_, err = exec(ctx, tx, "UPDATE river_job SET unique_key = NULL WHERE id = ? AND state = 'running'", id)
	return err
}
