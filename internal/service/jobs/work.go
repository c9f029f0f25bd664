package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// A Job is one attempt at a job.
type Job struct {
	ID       int64
	Kind     string
	Class    Class
	Attempt  int // 1 is the first
	Attempts int // that it has
	Args     []byte

	q         *Queue
	completed atomic.Bool // Complete was called, if perhaps in vain
}

// Decode reads the arguments.
func (j *Job) Decode(args any) error {
	if err := json.Unmarshal(j.Args, args); err != nil {
		return Cancel(fmt.Errorf("jobs: arguments of %s %d: %w", j.Kind, j.ID, err))
	}
	return nil
}

// Last reports whether the job is given up if this attempt fails.
func (j *Job) Last() bool { return j.Attempt >= j.Attempts }

// Complete finishes the job if the transaction is committed. If it fails with
// [ErrLost], the transaction must not be: what it writes is written by another
// process.
func (j *Job) Complete(ctx context.Context, tx *store.Tx) error {
	j.completed.Store(true)
	return j.q.settle(ctx, tx, j, settlement{state: rivertype.JobStateCompleted})
}

// A run is an attempt that goes on in this process.
type run struct {
	job      *Job
	end      context.CancelCauseFunc
	deadline time.Time
	late     bool // it was said that the handler does not return
}

// A worker takes the jobs of one kind from River. What it returns tells River to
// write nothing, because that would be written whoever has the job by then.
type worker struct {
	river.WorkerDefaults[envelope]
	q *Queue
}

// nothing is how a worker tells River that it has reported on the jobs it was
// given itself: it lists those on which River is to report.
type nothing struct{ error }

func (nothing) Jobs() []*rivertype.JobRow   { return nil }
func (nothing) ErrorsByID() map[int64]error { return nil }

var errReported = nothing{errors.New("jobs: reported")}

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, rj *river.Job[envelope]) error {
	job := &Job{
		ID: rj.ID, Kind: rj.JobRow.Kind, Class: Class(rj.Queue),
		Attempt: rj.Attempt, Attempts: rj.MaxAttempts, Args: rj.Args.Args, q: w.q,
	}
	w.q.work(ctx, job)
	return errReported
}

// work makes one attempt at a job and writes what became of it.
func (q *Queue) work(ctx context.Context, job *Job) {
	h := q.handlers[job.Kind]
	outer := ctx
	ctx, end := context.WithCancelCause(context.WithoutCancel(outer))
	defer end(nil)
	defer context.AfterFunc(outer, func() { end(reason(outer)) })()
	ctx, stop := context.WithTimeoutCause(ctx, h.Timeout, ErrTimeout)
	defer stop()

	r := &run{job: job, end: end, deadline: time.Now().Add(h.Timeout)}
	if why := q.enter(ctx, r); why != nil {
		q.report(job, settlement{state: rivertype.JobStateAvailable, at: q.opt.Now().Add(time.Second), free: true}, why)
		return
	}
	start := time.Now()
	err := errCrashed
	if job.Attempt <= job.Attempts {
		err = q.attempt(ctx, h, job)
	}
	s := q.judge(ctx, job, err)
	q.leave(job.ID, func() { q.report(job, s, err) })
	q.log.Debug("job ended", "id", job.ID, "kind", job.Kind, "attempt", job.Attempt, "state", s.state, "took", time.Since(start))
}

// reason says why River ended the context of a job: on Postgres it hears of a
// cancellation before this package looks.
func reason(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), rivertype.ErrJobCancelledRemotely) {
		return ErrCancelled
	}
	return ErrStopping
}

// attempt calls the handler. A panic is an error.
func (q *Queue) attempt(ctx context.Context, h Handler, job *Job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			q.log.Error("a job panicked", "id", job.ID, "kind", job.Kind, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return h.Run(ctx, job)
}

// judge says what is to become of a job after its handler returned err.
func (q *Queue) judge(ctx context.Context, job *Job, err error) settlement {
	cause := context.Cause(ctx)
	var v *verdict
	_ = errors.As(err, &v)
	switch {
	case err == nil:
		return settlement{state: rivertype.JobStateCompleted}
	case errors.Is(err, errCrashed):
		return settlement{state: rivertype.JobStateDiscarded, err: err}
	case errors.Is(cause, ErrCancelled):
		return settlement{state: rivertype.JobStateCancelled, err: err}
	case errors.Is(cause, ErrStopping), errors.Is(cause, ErrLost):
		return settlement{state: rivertype.JobStateAvailable, at: q.opt.Now(), free: true}
	case v != nil && v.giveUp:
		return settlement{state: rivertype.JobStateDiscarded, err: err}
	case v != nil && v.free:
		return settlement{state: rivertype.JobStateAvailable, at: v.at, free: true}
	case job.Last():
		return settlement{state: rivertype.JobStateDiscarded, err: err}
	case v != nil:
		return settlement{state: rivertype.JobStateAvailable, at: v.at, err: err}
	}
	return settlement{state: rivertype.JobStateAvailable, at: q.opt.Now().Add(q.opt.Backoff(job.Attempt)), err: err}
}

// enter notes that a job runs, unless this process must not run it.
func (q *Queue) enter(ctx context.Context, r *run) error {
	if q.shaken() && !q.owns(ctx, r.job) {
		return ErrLost
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.stopping:
		return ErrStopping
	case q.silent():
		return ErrLost
	case q.running[r.job.ID] != nil: // it was lost, came back, and has not noticed
		return ErrLost
	}
	q.running[r.job.ID] = r
	return nil
}

// leave forgets a job after its end is written. Before, it could be taken for
// one that nobody runs.
func (q *Queue) leave(id int64, report func()) {
	report()
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, id)
}

// patience is how long the end of a job is tried to be written. If that fails,
// it is done again when it is seen that nobody runs it.
const patience = 30 * time.Second

// report writes what became of a job.
func (q *Queue) report(job *Job, s settlement, why error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if s.state == rivertype.JobStateCompleted && job.completed.Load() && !q.owns(ctx, job) {
		q.count(job, s) // by Complete
		return
	}
	var err error
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		err = q.st.Write(ctx, func(ctx context.Context, tx *store.Tx) error { return q.conclude(ctx, tx, job, s, why) })
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			// What is to happen when it is given up did not: try the whole again.
			q.log.Error("a job could not be given up", q.about(job, refused.err)...)
			s = settlement{state: rivertype.JobStateAvailable, at: q.opt.Now().Add(q.opt.Backoff(job.Attempt)), err: s.err}
			continue
		}
		if err == nil || errors.Is(err, ErrLost) {
			break
		}
		select {
		case <-time.After(pause):
			continue
		case <-ctx.Done():
		}
		break
	}
	switch {
	case errors.Is(err, ErrLost) && job.completed.Load():
		q.log.Warn("a job failed after it was completed", q.about(job, why)...)
	case err != nil:
		q.log.Error("the end of a job could not be written", q.about(job, err)...)
	default:
		q.count(job, s)
		q.say(job, s, why)
	}
}

// A refusal is an error of [Handler.GaveUp].
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

// conclude settles a job, and has its handler do what giving up asks for.
func (q *Queue) conclude(ctx context.Context, tx *store.Tx, job *Job, s settlement, why error) error {
	if err := q.settle(ctx, tx, job, s); err != nil {
		return err
	}
	gaveUp := q.handlers[job.Kind].GaveUp
	if s.state != rivertype.JobStateDiscarded || gaveUp == nil {
		return nil
	}
	if err := gaveUp(ctx, tx, job, why); err != nil {
		return &refusal{err}
	}
	return nil
}

// say logs what became of a job. The arguments are not for the log.
func (q *Queue) say(job *Job, s settlement, why error) {
	switch {
	case s.state == rivertype.JobStateDiscarded:
		q.log.Error("a job was given up", q.about(job, why)...)
	case s.state == rivertype.JobStateCancelled:
		q.log.Info("a job was cancelled", q.about(job, why)...)
	case s.err != nil:
		q.log.Warn("a job failed and is tried again", append(q.about(job, why), "at", s.at)...)
	}
}

func (q *Queue) about(job *Job, err error) []any {
	return []any{"id", job.ID, "kind", job.Kind, "attempt", job.Attempt, slog.Any("error", err)}
}
