package jobs_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/jobstest"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

func eachEngine(b *testing.B, f func(*testing.B, *store.Store)) {
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		b.Run(string(engine), func(b *testing.B) { f(b, storetest.Open(b, storetest.Options(b, engine))) })
	}
}

// BenchmarkEnqueue enqueues jobs, each in a transaction of its own.
func BenchmarkEnqueue(b *testing.B) {
	eachEngine(b, func(b *testing.B, st *store.Store) {
		q := jobstest.Open(b, st, jobs.Options{})
		for b.Loop() {
			jobstest.Enqueue(b, st, q, jobstest.Args{Name: "x"}, jobs.Insert{})
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

// BenchmarkEnqueueMany enqueues a hundred jobs in one transaction.
func BenchmarkEnqueueMany(b *testing.B) {
	eachEngine(b, func(b *testing.B, st *store.Store) {
		q := jobstest.Open(b, st, jobs.Options{})
		for b.Loop() {
			enqueueMany(b, st, q, 100)
		}
		b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

func enqueueMany(b *testing.B, st *store.Store, q *jobs.Queue, n int) {
	b.Helper()
	err := st.Write(b.Context(), func(ctx context.Context, tx *store.Tx) error {
		for i := range n {
			if _, err := q.EnqueueTx(ctx, tx, jobstest.Args{Name: fmt.Sprint(i)}, jobs.Insert{Class: jobs.Scan}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkWork does jobs that are there, by 100 workers, each job completed in
// a transaction.
func BenchmarkWork(b *testing.B) {
	eachEngine(b, func(b *testing.B, st *store.Store) {
		enqueuer := jobstest.Open(b, st, jobs.Options{})
		enqueueMany(b, st, enqueuer, b.N)
		var done atomic.Int64
		finished := make(chan struct{})
		b.ResetTimer()
		jobstest.Start(b, st, jobs.Options{Classes: map[jobs.Class]int{jobs.Scan: 100}}, func(ctx context.Context, job *jobs.Job) error {
			err := st.Write(ctx, func(ctx context.Context, tx *store.Tx) error { return job.Complete(ctx, tx) })
			if done.Add(1) == int64(b.N) {
				close(finished)
			}
			return err
		})
		<-finished
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

// BenchmarkPickUp is how long a job waits in an idle queue, from the commit to
// its handler.
func BenchmarkPickUp(b *testing.B) {
	eachEngine(b, func(b *testing.B, st *store.Store) {
		started := make(chan time.Time)
		q := jobstest.Start(b, st, jobs.Options{}, func(context.Context, *jobs.Job) error { started <- time.Now(); return nil })
		var sum, most time.Duration
		for b.Loop() {
			jobstest.Enqueue(b, st, q, jobstest.Args{}, jobs.Insert{})
			committed := time.Now()
			took := max(0, (<-started).Sub(committed))
			sum, most = sum+took, max(most, took)
			time.Sleep(15 * time.Millisecond) // an idle queue again
		}
		b.ReportMetric(float64(sum.Microseconds())/float64(b.N)/1000, "mean-ms")
		b.ReportMetric(float64(most.Microseconds())/1000, "max-ms")
	})
}
