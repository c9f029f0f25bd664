package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// A Periodic is a job that is enqueued again and again, by whichever process
// comes first.
type Periodic struct {
	Interval time.Duration
	Args     Args
	Insert   Insert
}

// Every returns a job that is enqueued once in each interval since 1970: at its
// beginning, or when the first process starts in it. It is left out while the
// last one is unfinished, and what was missed is not caught up with. There is
// one for a kind.
func Every(interval time.Duration, args Args) Periodic {
	return Periodic{Interval: interval, Args: args, Insert: Insert{Class: Maintain, Unique: "periodic"}}
}

func checkPeriodic(list []Periodic) error {
	kinds := map[string]bool{}
	for _, p := range list {
		if kind := p.Args.Kind(); kinds[kind] || p.Interval < time.Second {
			return fmt.Errorf("jobs: the periodic job %q is there twice or more often than each second", kind)
		}
		kinds[p.Args.Kind()] = true
	}
	return nil
}

// tick enqueues what is periodic until ctx ends.
func (q *Queue) tick(ctx context.Context) {
	done := map[string]int64{}
	for {
		wait := time.Minute
		for _, p := range q.opt.Periodic {
			now, length := q.opt.Now().UnixMilli(), p.Interval.Milliseconds()
			if period := now / length; done[p.Args.Kind()] != period {
				if err := q.enqueuePeriodic(ctx, p, period); err != nil {
					q.tried("periodic "+p.Args.Kind(), err)
					wait = min(wait, time.Second)
					continue
				}
				done[p.Args.Kind()] = period
			}
			wait = min(wait, time.Duration(length-now%length)*time.Millisecond)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// enqueuePeriodic enqueues a job unless this was done in this period.
func (q *Queue) enqueuePeriodic(ctx context.Context, p Periodic, period int64) error {
	return q.st.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		n, err := exec(ctx, tx, "INSERT INTO job_period (kind, period) VALUES (?, ?)"+
			" ON CONFLICT (kind) DO UPDATE SET period = excluded.period WHERE job_period.period < excluded.period", p.Args.Kind(), period)
		if err != nil || n == 0 {
			return err
		}
		_, err = q.EnqueueTx(ctx, tx, p.Args, p.Insert)
		return err
	})
}
