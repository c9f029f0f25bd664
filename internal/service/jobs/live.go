package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/service/store"
)

const (
	missed  = 6                      // beats after which a process is dead
	doubted = 4                      // after which it has to think so itself, and stops
	orphan  = 10                     // rounds after which a job is nobody's that this process has but does not run
	lookOut = 400 * time.Millisecond // between looks for jobs that were cancelled or lost
)

// Start begins to work, and to enqueue what is periodic. The context is that of
// the start; work goes on until [Queue.Stop].
func (q *Queue) Start(ctx context.Context) error {
	if len(q.opt.Classes) == 0 {
		return errors.New("jobs: no workers are wanted")
	}
	if q.stopped != nil {
		return errors.New("jobs: started twice")
	}
	watch := &watch{q: q, seen: map[string]sight{}, mine: map[int64]int{}}
	if err := watch.round(ctx); err != nil {
		return err
	}
	loops, cancel := context.WithCancel(context.WithoutCancel(ctx))
	q.cancel, q.stopped = cancel, make(chan struct{})
	q.loops.Go(func() {
		every(loops, q.opt.Beat, func() {
			ctx, cancel := context.WithTimeout(loops, missed*q.opt.Beat)
			defer cancel()
			q.tried("sign of life", watch.round(ctx))
		})
	})
	q.loops.Go(func() { every(loops, q.opt.Beat/2, q.doubt) })
	q.loops.Go(func() {
		every(loops, min(lookOut, q.opt.Beat), func() { q.tried("look for cancelled jobs", q.look(loops)) })
	})
	if err := q.engine.start(loops); err != nil {
		cancel()
		q.loops.Wait()
		return errors.Join(err, q.depart(context.WithoutCancel(ctx)))
	}
	if len(q.opt.Periodic) > 0 {
		q.loops.Go(func() { q.tick(loops) })
	}
	return nil
}

// Stop lets running jobs end for as long as [Options.Grace], or until ctx ends.
// Then their contexts end, and they return to the queue as if they had not been
// tried. It fails if handlers do not return even then; their jobs are done again
// when this process has ended.
func (q *Queue) Stop(ctx context.Context) error {
	if q.stopped == nil {
		return nil
	}
	q.mu.Lock()
	first := q.cancel != nil
	stop := q.cancel
	q.cancel = nil
	q.mu.Unlock()
	if first {
		go q.wind(context.WithoutCancel(ctx), stop)
	}
	select {
	case <-q.stopped:
		return nil
	case <-time.After(q.opt.Grace):
	case <-ctx.Done():
	}
	q.interrupt(ErrStopping, true)
	select {
	case <-q.stopped:
		return nil
	case <-time.After(linger):
		return errors.New("jobs: handlers do not return")
	}
}

// wind ends what Start began: no new jobs, then no loops, and then no sign of
// life, so that what is left is anybody's.
func (q *Queue) wind(ctx context.Context, stop context.CancelFunc) {
	q.tried("stop", q.engine.stop(ctx))
	stop()
	q.loops.Wait()
	q.tried("departure", q.depart(ctx))
	close(q.stopped)
}

// interrupt ends the contexts of all running jobs, and with stopping, of those
// that are about to start.
func (q *Queue) interrupt(why error, stopping bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopping = q.stopping || stopping
	for _, r := range q.running {
		r.end(why)
	}
}

func every(ctx context.Context, pause time.Duration, f func()) {
	t := time.NewTicker(pause)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f()
		}
	}
}

// tried logs what failed and is done again or cannot be.
func (q *Queue) tried(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		q.log.Error("jobs: "+what+" failed", "error", err)
	}
}

// silent says whether this process has given no sign of life for so long that
// others may soon take its jobs. Of the two clocks, one stands still while the
// machine sleeps, and one may be set back. The lock is held.
func (q *Queue) silent() bool {
	now := time.Now()
	return max(now.Sub(q.beaten), now.Round(0).Sub(q.beaten.Round(0))) > doubted*q.opt.Beat
}

// shaken says whether this process was taken for dead not long ago. Then what it
// takes from the queue may be another's before it begins.
func (q *Queue) shaken() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.lost.IsZero() && time.Since(q.lost) < time.Minute
}

// A watch gives signs of life and takes the jobs of those who give none. Nobody's
// clock matters: a process is dead when its number of beats stands still while
// that of this one grows. Where nobody can write, nobody dies.
type watch struct {
	q    *Queue
	seen map[string]sight // of the other processes
	mine map[int64]int    // rounds in which a job was this process's and did not run
}

type sight struct {
	beats  int64
	rounds int
}

type workerRow struct {
	ID    string `bun:"id"`
	Beats int64  `bun:"beats"`
}

// round gives a sign of life, returns the jobs of the dead to the queue, and
// ends those here if this process itself was taken for dead.
func (w *watch) round(ctx context.Context) error {
	q := w.q
	began := time.Now()
	var others []workerRow
	var dead []string
	var lost, saved int64
	err := q.st.Write(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		// Without the lock a job could be taken from a process whose first sign
		// of life is not seen yet.
		if err := tx.Lock(ctx, "job workers"); err != nil {
			return err
		}
		n, err := exec(ctx, tx, "UPDATE job_worker SET beats = beats + 1 WHERE id = ?", q.id)
		if err != nil {
			return err
		}
		if lost = 1 - n; lost > 0 {
			if _, err := exec(ctx, tx, "INSERT INTO job_worker (id, place, beats) VALUES (?, ?, 1)", q.id, q.place); err != nil {
				return err
			}
		}
		others = others[:0]
		if err := tx.Raw().NewRaw("SELECT id, beats FROM job_worker WHERE id <> ?", q.id).Scan(ctx, &others); err != nil {
			return err
		}
		if dead = w.dead(others); len(dead) > 0 {
			if _, err := exec(ctx, tx, "DELETE FROM job_worker WHERE id IN (?)", bun.List(dead)); err != nil {
				return err
			}
		}
		saved, err = q.release(ctx, tx, "NOT EXISTS (SELECT 1 FROM job_worker AS w WHERE w.id = "+q.sql.owner+")")
		return err
	})
	if err != nil {
		return err
	}
	w.note(others, dead)
	if saved > 0 {
		q.log.Warn("jobs of processes that ended are done again", "jobs", saved, "processes", len(dead))
	}
	q.beat(began, lost > 0)
	return w.orphans(ctx)
}

// dead returns the processes that have missed too many beats.
func (w *watch) dead(others []workerRow) (out []string) {
	for _, o := range others {
		if s, ok := w.seen[o.ID]; ok && s.beats == o.Beats && s.rounds+1 >= missed {
			out = append(out, o.ID)
		}
	}
	return out
}

// note remembers who was seen how in a round that was committed.
func (w *watch) note(others []workerRow, dead []string) {
	now := map[string]sight{}
	for _, o := range others {
		s := sight{beats: o.Beats}
		if before, ok := w.seen[o.ID]; ok && before.beats == o.Beats {
			s.rounds = before.rounds + 1
		}
		now[o.ID] = s
	}
	for _, id := range dead {
		delete(now, id)
	}
	w.seen = now
}

// beat notes a sign of life that was given, and whether it came too late.
func (q *Queue) beat(at time.Time, late bool) {
	q.mu.Lock()
	first := q.beaten.IsZero()
	q.beaten = at
	if late && !first {
		q.lost = at
	}
	q.mu.Unlock()
	if late && !first {
		q.log.Error("jobs: this process was taken for dead, its jobs run elsewhere")
		q.interrupt(ErrLost, false)
	}
}

// doubt ends the running jobs of a process that cannot give a sign of life,
// before others take them. It asks nobody, because the database may be what does
// not answer.
func (q *Queue) doubt() {
	q.mu.Lock()
	silent := q.silent() && len(q.running) > 0
	q.mu.Unlock()
	if silent {
		q.interrupt(ErrLost, false)
	}
}

// release returns running jobs to the queue, or ends them if somebody asked for
// their cancellation. The attempt counts: else a job that ends its process would
// do so for ever.
func (q *Queue) release(ctx context.Context, tx *store.Tx, which string, args ...any) (int64, error) {
	return exec(ctx, tx, "UPDATE river_job SET"+
		" state = CAST(CASE WHEN "+flagged+" THEN 'cancelled' ELSE 'available' END AS "+q.sql.state+"),"+
		" finalized_at = CASE WHEN "+flagged+" THEN "+q.sql.now+" END,"+
		" scheduled_at = "+q.sql.now+
		" WHERE state = 'running' AND "+which, args...)
}

// orphans returns to the queue what this process took but does not run: what
// was lost between River and here, or whose end could not be written.
func (w *watch) orphans(ctx context.Context) error {
	q := w.q
	var ids []int64
	if err := q.st.Raw().NewRaw("SELECT id FROM river_job WHERE state = 'running' AND "+q.sql.owner+" = ?", q.id).Scan(ctx, &ids); err != nil {
		return err
	}
	before := w.mine
	w.mine = map[int64]int{}
	var left []int64
	q.mu.Lock()
	for _, id := range ids {
		if q.running[id] == nil {
			if w.mine[id] = before[id] + 1; w.mine[id] > orphan {
				left = append(left, id)
			}
		}
	}
	q.mu.Unlock()
	if len(left) == 0 {
		return nil
	}
	q.log.Warn("jobs that nobody runs are done again", "jobs", len(left))
	return q.st.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		_, err := q.release(ctx, tx, "id IN (?) AND "+q.sql.owner+" = ?", bun.List(left), q.id)
		return err
	})
}

// depart takes back the sign of life, and returns to the queue what may be left.
func (q *Queue) depart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return q.st.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.Lock(ctx, "job workers"); err != nil {
			return err
		}
		if _, err := exec(ctx, tx, "DELETE FROM job_worker WHERE id = ?", q.id); err != nil {
			return err
		}
		_, err := q.release(ctx, tx, q.sql.owner+" = ?", q.id)
		return err
	})
}

// look ends the contexts of running jobs that somebody asked to cancel, or that
// are another process's by now.
func (q *Queue) look(ctx context.Context) error {
	runs := q.runs()
	if len(runs) == 0 {
		return nil
	}
	ids := make([]int64, 0, len(runs))
	for id := range runs {
		ids = append(ids, id)
	}
	var rows []struct {
		ID        int64  `bun:"id"`
		State     string `bun:"state"`
		Attempt   int    `bun:"attempt"`
		Owner     string `bun:"owner"`
		Cancelled bool   `bun:"cancelled"`
	}
	err := q.st.Raw().NewRaw("SELECT id, state, attempt, "+q.sql.owner+" AS owner, "+flagged+" AS cancelled FROM river_job WHERE id IN (?)", bun.List(ids)).Scan(ctx, &rows)
	if err != nil {
		return err
	}
	for _, row := range rows {
		r := runs[row.ID]
		switch {
		case row.State == "completed": // by itself, in this moment
		case row.Attempt != r.job.Attempt || row.Owner != q.id || row.State != "running":
			r.end(ErrLost)
		case row.Cancelled:
			r.end(ErrCancelled)
		}
	}
	return nil
}

// runs returns what runs, and complains once about each handler that does not
// return though its time was up half a minute ago.
func (q *Queue) runs() map[int64]*run {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make(map[int64]*run, len(q.running))
	for id, r := range q.running {
		out[id] = r
		if !r.late && time.Since(r.deadline) > patience {
			r.late = true
			q.log.Error("a job does not end though its time is up", "id", id, "kind", r.job.Kind, "attempt", r.job.Attempt)
		}
	}
	return out
}
