//go:build unix

package jobs_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/jobstest"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// database is the name of the variable that makes this program a worker on the
// database that it names.
const database = "LOUPE_JOBS_TEST_DATABASE"

// stall is the name of the variable that says after how many jobs a worker goes
// no further with any.
const stall = "LOUPE_JOBS_TEST_STALL"

func TestMain(m *testing.M) {
	if where := os.Getenv(database); where != "" {
		if err := work(context.Background(), where); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// deathBeat is short, so that the test need not wait long for the jobs of those
// it kills.
const deathBeat = 250 * time.Millisecond

// work works until it is killed.
func work(ctx context.Context, where string) error {
	opt := store.Options{Path: where}
	if strings.Contains(where, "://") {
		opt = store.Options{URL: where, Conns: 8}
	}
	st, err := store.Open(ctx, opt)
	if err != nil {
		return err
	}
	left := 1 << 30
	if text := os.Getenv(stall); text != "" {
		if left, err = strconv.Atoi(text); err != nil {
			return err
		}
	}
	var done atomic.Int64
	q, err := jobs.New(ctx, st, jobs.Options{
		Log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Classes: map[jobs.Class]int{jobs.Scan: 8},
		Beat:    deathBeat,
		Backoff: func(int) time.Duration { return 50 * time.Millisecond },
		Handlers: []jobs.Handler{{Kind: jobstest.Args{}.Kind(), Run: func(ctx context.Context, job *jobs.Job) error {
			if done.Load() >= int64(left) {
				<-ctx.Done()
				return ctx.Err()
			}
			err := effect(ctx, st, job)
			if err == nil {
				done.Add(1)
			}
			return err
		}}},
	})
	if err != nil {
		return err
	}
	if err := q.Start(ctx); err != nil {
		return err
	}
	select {}
}

// effect writes one row for a job, in the transaction that completes it.
func effect(ctx context.Context, st *store.Store, job *jobs.Job) error {
	var args jobstest.Args
	if err := job.Decode(&args); err != nil {
		return err
	}
	time.Sleep(8 * time.Millisecond)
	return st.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.Raw().NewRaw("INSERT INTO effect (name) VALUES (?)", args.Name).Exec(ctx); err != nil {
			return err
		}
		return job.Complete(ctx, tx)
	})
}

// TestKill does two thousand jobs in processes that are killed, or stand still
// until they are taken for dead and then go on, and wants two thousand effects.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		t.Run(string(engine), func(t *testing.T) { kill(t, engine) })
	}
}

func kill(t *testing.T, engine store.Engine) {
	const all = 2000
	opt := storetest.Options(t, engine)
	st := storetest.Open(t, opt)
	q := jobstest.Open(t, st, jobs.Options{})
	err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.Raw().NewRaw("CREATE TABLE effect (name TEXT NOT NULL)").Exec(ctx); err != nil {
			return err
		}
		for i := range all {
			if _, err := q.EnqueueTx(ctx, tx, jobstest.Args{Name: fmt.Sprint(i)}, jobs.Insert{Class: jobs.Scan, Attempts: 50}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	count := func(query string) (n int) {
		t.Helper()
		if err := st.Raw().NewRaw(query).Scan(t.Context(), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	effects := func() int { return count("SELECT count(*) FROM effect") }
	reach := func(n int) {
		t.Helper()
		jobstest.Until(t, func() bool { return effects() >= n }, func() string {
			return fmt.Sprintf("%d effects, want %d; %d jobs run", effects(), n, count("SELECT count(*) FROM river_job WHERE state = 'running'"))
		})
	}

	const kills = 5
	running := func() int { return count("SELECT count(*) FROM river_job WHERE state = 'running'") }
	torn := 0
	workers := []*exec.Cmd{start(t, opt, all/(kills+3))} // is killed for sure while jobs run
	for i := range kills {
		reach((i + 1) * all / (kills + 3))
		if i == 0 {
			jobstest.Until(t, func() bool { return running() > 0 }, func() string { return "no job runs" })
		}
		end(t, workers[0])
		torn += running()
		workers = append(workers[1:], start(t, opt, all))
		if i == 2 {
			workers = append(workers, start(t, opt, all)) // from here on, two at a time
		}
	}
	if torn == 0 {
		t.Error("no job ran when its process was killed")
	}
	signal(t, workers[0], syscall.SIGSTOP)
	time.Sleep(10 * deathBeat)
	signal(t, workers[0], syscall.SIGCONT)
	reach(all)
	jobstest.Until(t, func() bool {
		return count("SELECT count(*) FROM river_job WHERE state = 'completed'") == all
	}, func() string { return "not all jobs are completed" })
	if n, different := effects(), count("SELECT count(DISTINCT name) FROM effect"); n != all || different != all {
		t.Errorf("%d effects, %d different ones, want %d", n, different, all)
	}
	t.Logf("%d jobs were running when processes were killed, %d were tried more than once", torn, count("SELECT count(*) FROM river_job WHERE attempt > 1"))
}

// start starts a worker for so many jobs, which is killed when the test ends.
func start(t *testing.T, opt store.Options, most int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), database+"="+opt.URL+opt.Path, fmt.Sprintf("%s=%d", stall, most))
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			end(t, cmd)
		}
	})
	return cmd
}

func end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("a worker ended before it was killed: %v", err)
	}
}

func signal(t *testing.T, cmd *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
