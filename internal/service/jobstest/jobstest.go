// Package jobstest says what a job queue promises, as tests that run on every
// engine of the store. A test that another part of the program writes with a
// queue of its own finds help here too.
package jobstest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// Patience is how long a test waits for what must happen.
const Patience = time.Minute

// Args are arguments for tests.
type Args struct {
	Name string `json:"name"`
}

// Kind implements jobs.Args.
func (Args) Kind() string { return "test.job" }

type otherArgs struct{}

func (otherArgs) Kind() string { return "test.other" }

// Open opens a queue on a store.
func Open(t testing.TB, st *store.Store, opt jobs.Options) *jobs.Queue {
	t.Helper()
	q, err := jobs.New(t.Context(), st, opt)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// Start opens a queue with one kind of handler, and starts it until the test
// ends.
func Start(t testing.TB, st *store.Store, opt jobs.Options, run func(context.Context, *jobs.Job) error) *jobs.Queue {
	t.Helper()
	if opt.Classes == nil {
		opt.Classes = map[jobs.Class]int{jobs.Scan: 4}
	}
	if run != nil {
		opt.Handlers = append(opt.Handlers, jobs.Handler{Kind: Args{}.Kind(), Run: run})
	}
	if opt.Backoff == nil {
		opt.Backoff = func(int) time.Duration { return 20 * time.Millisecond }
	}
	q := Open(t, st, opt)
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what still runs has no grace
		if err := q.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return q
}

// Enqueue enqueues a job in a transaction of its own.
func Enqueue(t testing.TB, st *store.Store, q *jobs.Queue, args jobs.Args, in jobs.Insert) (id int64) {
	t.Helper()
	if in.Class == "" {
		in.Class = jobs.Scan
	}
	err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) (err error) {
		id, err = q.EnqueueTx(ctx, tx, args, in)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// WaitFor waits until a job has a state, and returns where it stands then.
func WaitFor(t testing.TB, q *jobs.Queue, id int64, want jobs.State) jobs.Info {
	t.Helper()
	var got jobs.Info
	Until(t, func() bool {
		var err error
		if got, err = q.Find(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return got.State == want
	}, func() string { return fmt.Sprintf("job %d is %+v, want it %s", id, got, want) })
	return got
}

// Until waits for something, and fails with what is said then if it does not
// come.
func Until(t testing.TB, done func() bool, say func() string) {
	t.Helper()
	for end := time.Now().Add(Patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(say())
		}
	}
}

// A notebook notes what handlers did, in order.
type notebook struct {
	mu    sync.Mutex
	notes []string
}

func (n *notebook) note(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notes = append(n.notes, text)
}

func (n *notebook) read() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.notes)
}

func (n *notebook) waitFor(t *testing.T, count int) []string {
	t.Helper()
	Until(t, func() bool { return len(n.read()) >= count }, func() string { return fmt.Sprintf("%d notes, want %d: %v", len(n.read()), count, n.read()) })
	return n.read()
}

// byName notes the name in the arguments of a job.
func (n *notebook) byName(_ context.Context, job *jobs.Job) error {
	var args Args
	if err := job.Decode(&args); err != nil {
		return err
	}
	n.note(args.Name)
	return nil
}

// Run runs the suite on each engine.
func Run(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *store.Store)
	}{
		{"what is enqueued is done", done},
		{"what is rolled back is not", rolledBack},
		{"wrong inserts are refused", refused},
		{"priorities", priorities},
		{"no more at once than workers", workers},
		{"unique while unfinished", unique},
		{"not before its time", later},
		{"retries, then gives up", retries},
		{"RetryAt, Wait and Cancel", verdicts},
		{"a panic is a failed attempt", panics},
		{"a time-out ends the context", timeouts},
		{"GaveUp is part of giving up", gaveUp},
		{"Complete is part of a transaction", complete},
		{"cancel what waits", cancelWaiting},
		{"cancel what runs, in another process", cancelRunning},
		{"cancel is part of a transaction", cancelInTx},
		{"two processes share work", shared},
		{"stop returns jobs", stopReturns},
		{"stop waits for jobs", stopWaits},
		{"jobs of the dead are done again", dead},
		{"who was taken for dead changes nothing", zombie},
		{"who gives no sign of life stops first", silent},
		{"a job that ends its process is given up", poison},
		{"periodic jobs come once", periodic},
		{"the tables are made once", opened},
		{"the newest job is kept", newest},
		{"figures", figures},
		{"the log has no arguments", logged},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, test.run)
		})
	}
}

func nothing(context.Context, *jobs.Job) error { return nil }

// wantEnd fails unless the context of a job ends soon, for the reason want.
func wantEnd(ctx context.Context, want error) error {
	select {
	case <-ctx.Done():
		if !errors.Is(context.Cause(ctx), want) {
			return fmt.Errorf("the context ended because of %v, want %v", context.Cause(ctx), want)
		}
		return ctx.Err()
	case <-time.After(Patience):
		return errors.New("the context did not end")
	}
}

func done(t *testing.T, st *store.Store) {
	var got notebook
	q := Start(t, st, jobs.Options{}, got.byName)
	for i := range 10 {
		Enqueue(t, st, q, Args{fmt.Sprint(i)}, jobs.Insert{})
	}
	names := got.waitFor(t, 10)
	slices.Sort(names)
	if want := []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}; !slices.Equal(names, want) {
		t.Errorf("done: %v, want %v", names, want)
	}
	id := Enqueue(t, st, q, Args{"more"}, jobs.Insert{})
	info := WaitFor(t, q, id, jobs.Completed)
	if info.Attempt != 1 || info.Attempts != 10 || info.Kind != "test.job" || info.Class != jobs.Scan || info.Error != "" {
		t.Errorf("a completed job is %+v", info)
	}
}

func rolledBack(t *testing.T, st *store.Store) {
	q := Open(t, st, jobs.Options{})
	var id int64
	wrong := errors.New("no")
	err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) (err error) {
		if id, err = q.EnqueueTx(ctx, tx, Args{"x"}, jobs.Insert{Class: jobs.Scan}); err != nil {
			t.Fatal(err)
		}
		return wrong
	})
	if !errors.Is(err, wrong) || id == 0 {
		t.Fatalf("Write = %v, id %d", err, id)
	}
	if _, err := q.Find(t.Context(), id); !fault.Is(err, fault.NotFound) {
		t.Errorf("after a rollback, Find = %v, want that there is none", err)
	}
}

func refused(t *testing.T, st *store.Store) {
	q := Open(t, st, jobs.Options{})
	for name, in := range map[string]jobs.Insert{
		"no class":          {},
		"an unknown class":  {Class: "x"},
		"a priority of 5":   {Class: jobs.Scan, Priority: 5},
		"a priority of  -1": {Class: jobs.Scan, Priority: -1},
	} {
		err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			_, err := q.EnqueueTx(ctx, tx, Args{}, in)
			return err
		})
		if err == nil {
			t.Errorf("%s is not refused", name)
		}
	}
	if err := q.Start(t.Context()); err == nil {
		t.Error("a queue without workers starts")
	}
	for name, opt := range map[string]jobs.Options{
		"workers without handlers": {Classes: map[jobs.Class]int{jobs.Scan: 1}},
		"a handler of two days":    {Handlers: []jobs.Handler{{Kind: "a.b", Run: nothing, Timeout: 48 * time.Hour}}},
		"a handler twice":          {Handlers: []jobs.Handler{{Kind: "a.b", Run: nothing}, {Kind: "a.b", Run: nothing}}},
		"a handler of nothing":     {Handlers: []jobs.Handler{{Kind: "a.b"}}},
		"workers of no class":      {Classes: map[jobs.Class]int{"x": 1}, Handlers: []jobs.Handler{{Kind: "a.b", Run: nothing}}},
		"a periodic job too often": {Periodic: []jobs.Periodic{jobs.Every(time.Millisecond, Args{})}},
	} {
		if _, err := jobs.New(t.Context(), st, opt); err == nil {
			t.Errorf("%s is not refused", name)
		}
	}
}

func priorities(t *testing.T, st *store.Store) {
	enqueuer := Open(t, st, jobs.Options{})
	for i, priority := range []int{4, 3, 0, 1, 2, 1} {
		Enqueue(t, st, enqueuer, Args{fmt.Sprintf("%d %d", priority, i)}, jobs.Insert{Priority: priority})
	}
	var got notebook
	Start(t, st, jobs.Options{Classes: map[jobs.Class]int{jobs.Scan: 1}}, got.byName)
	if names, want := got.waitFor(t, 6), []string{"1 3", "1 5", "0 2", "2 4", "3 1", "4 0"}; !slices.Equal(names, want) {
		t.Errorf("done in the order %v, want %v", names, want)
	}
}

func workers(t *testing.T, st *store.Store) {
	var mu sync.Mutex
	var now, most, all int
	q := Start(t, st, jobs.Options{Classes: map[jobs.Class]int{jobs.Scan: 3, jobs.Deliver: 1}}, func(_ context.Context, job *jobs.Job) error {
		if job.Class == jobs.Deliver {
			return nil
		}
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		mu.Lock()
		now--
		all++
		mu.Unlock()
		return nil
	})
	for range 20 {
		Enqueue(t, st, q, Args{}, jobs.Insert{})
	}
	WaitFor(t, q, Enqueue(t, st, q, Args{}, jobs.Insert{Class: jobs.Deliver}), jobs.Completed)
	Until(t, func() bool { mu.Lock(); defer mu.Unlock(); return all == 20 }, func() string { return "not all were done" })
	if most != 3 {
		t.Errorf("%d ran at once, want 3", most)
	}
}

func unique(t *testing.T, st *store.Store) {
	enqueuer := Open(t, st, jobs.Options{})
	first := Enqueue(t, st, enqueuer, Args{"a"}, jobs.Insert{Unique: "x"})
	if again := Enqueue(t, st, enqueuer, Args{"b"}, jobs.Insert{Unique: "x"}); again != first {
		t.Errorf("a second job like it has the id %d, want %d", again, first)
	}
	if other := Enqueue(t, st, enqueuer, Args{"c"}, jobs.Insert{Unique: "y"}); other == first {
		t.Error("one with another key is taken for the same")
	}
	if other := Enqueue(t, st, enqueuer, otherArgs{}, jobs.Insert{Unique: "x"}); other == first {
		t.Error("one of another kind is taken for the same")
	}
	if a, b := Enqueue(t, st, enqueuer, Args{"d"}, jobs.Insert{}), Enqueue(t, st, enqueuer, Args{"d"}, jobs.Insert{}); a == b {
		t.Error("those without a key are taken for the same")
	}
	release := make(chan struct{})
	q := Start(t, st, jobs.Options{Handlers: []jobs.Handler{{Kind: "test.other", Run: nothing}}}, func(ctx context.Context, job *jobs.Job) error {
		if job.ID == first {
			<-release
		}
		return nil
	})
	WaitFor(t, q, first, jobs.Running)
	if again := Enqueue(t, st, enqueuer, Args{"e"}, jobs.Insert{Unique: "x"}); again != first {
		t.Errorf("while it runs, one like it has the id %d, want %d", again, first)
	}
	close(release)
	WaitFor(t, q, first, jobs.Completed)
	if again := Enqueue(t, st, enqueuer, Args{"f"}, jobs.Insert{Unique: "x"}); again == first {
		t.Error("one like it is not enqueued after the first is completed")
	}
}

func later(t *testing.T, st *store.Store) {
	var mu sync.Mutex
	var at time.Time
	q := Start(t, st, jobs.Options{}, func(context.Context, *jobs.Job) error {
		mu.Lock()
		defer mu.Unlock()
		at = time.Now()
		return nil
	})
	due := time.Now().Add(700 * time.Millisecond)
	id := Enqueue(t, st, q, Args{}, jobs.Insert{At: due})
	far := Enqueue(t, st, q, Args{}, jobs.Insert{At: time.Now().Add(time.Hour)})
	WaitFor(t, q, id, jobs.Completed)
	mu.Lock()
	defer mu.Unlock()
	if early := due.Sub(at); early > 5*time.Millisecond {
		t.Errorf("done %v before its time", early)
	}
	if info, err := q.Find(t.Context(), far); err != nil || info.State != jobs.Waiting || info.Attempt != 0 || time.Until(info.At) < 59*time.Minute {
		t.Errorf("one for an hour from now is %+v, %v", info, err)
	}
}

func retries(t *testing.T, st *store.Store) {
	var mu sync.Mutex
	var starts []time.Time
	var seen []int
	pauses := []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond}
	q := Start(t, st, jobs.Options{Backoff: func(attempt int) time.Duration { return pauses[attempt-1] }}, func(_ context.Context, job *jobs.Job) error {
		mu.Lock()
		defer mu.Unlock()
		starts, seen = append(starts, time.Now()), append(seen, job.Attempt)
		return fmt.Errorf("wrong %d, last %t", job.Attempt, job.Last())
	})
	info := WaitFor(t, q, Enqueue(t, st, q, Args{}, jobs.Insert{Attempts: 4}), jobs.GivenUp)
	if !slices.Equal(seen, []int{1, 2, 3, 4}) || info.Attempt != 4 || info.Error != "wrong 4, last true" {
		t.Errorf("attempts %v, then %+v", seen, info)
	}
	for i, pause := range pauses {
		if got := starts[i+1].Sub(starts[i]); got < pause-5*time.Millisecond {
			t.Errorf("pause %d was %v, want %v", i+1, got, pause)
		}
	}
}

func verdicts(t *testing.T, st *store.Store) {
	wrong := errors.New("wrong")
	next := time.Now().Add(time.Hour)
	q := Start(t, st, jobs.Options{}, func(_ context.Context, job *jobs.Job) error {
		var args Args
		if err := job.Decode(&args); err != nil {
			return err
		}
		switch args.Name {
		case "retry at":
			return fmt.Errorf("more: %w", jobs.RetryAt(wrong, next))
		case "wait":
			return jobs.Wait(next)
		case "wait a little":
			if time.Now().Before(next.Add(-time.Hour + 300*time.Millisecond)) {
				return jobs.Wait(time.Now().Add(20 * time.Millisecond))
			}
			return nil
		}
		return jobs.Cancel(wrong)
	})
	for _, test := range []struct {
		name    string
		state   jobs.State
		attempt int
		err     string
	}{
		{"retry at", jobs.Waiting, 1, "more: wrong"},
		{"wait", jobs.Waiting, 0, ""},
		{"wait a little", jobs.Completed, 1, ""},
		{"cancel", jobs.GivenUp, 1, "wrong"},
	} {
		id := Enqueue(t, st, q, Args{test.name}, jobs.Insert{})
		var info jobs.Info
		Until(t, func() bool {
			var err error
			if info, err = q.Find(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			return info.State == test.state && (test.state != jobs.Waiting || time.Until(info.At) > time.Minute)
		}, func() string { return fmt.Sprintf("%s: it is %+v", test.name, info) })
		if info.Attempt != test.attempt || info.Error != test.err {
			t.Errorf("%s: attempt %d, error %q; want %d, %q", test.name, info.Attempt, info.Error, test.attempt, test.err)
		}
		if test.state == jobs.Waiting && info.At.Sub(next).Abs() > time.Millisecond {
			t.Errorf("%s: is tried again at %v, want %v", test.name, info.At, next)
		}
	}
}

func panics(t *testing.T, st *store.Store) {
	q := Start(t, st, jobs.Options{}, func(_ context.Context, job *jobs.Job) error {
		if job.Attempt == 1 {
			panic("\x00nonsense")
		}
		return nil
	})
	info := WaitFor(t, q, Enqueue(t, st, q, Args{}, jobs.Insert{}), jobs.Completed)
	if info.Attempt != 2 || info.Error != "panic: nonsense" {
		t.Errorf("after a panic: %+v", info)
	}
}

func timeouts(t *testing.T, st *store.Store) {
	causes := make(chan error, 1)
	q := Start(t, st, jobs.Options{Handlers: []jobs.Handler{{
		Kind: "test.other", Timeout: 50 * time.Millisecond,
		Run: func(ctx context.Context, _ *jobs.Job) error {
			err := wantEnd(ctx, jobs.ErrTimeout)
			causes <- context.Cause(ctx)
			return err
		},
	}}}, nil)
	info := WaitFor(t, q, Enqueue(t, st, q, otherArgs{}, jobs.Insert{Attempts: 1}), jobs.GivenUp)
	if cause := <-causes; !errors.Is(cause, jobs.ErrTimeout) {
		t.Errorf("the context ended because of %v", cause)
	}
	if info.Error != context.DeadlineExceeded.Error() {
		t.Errorf("after a time-out: %+v", info)
	}
}

// gaveUp has a job enqueue another when it is given up, and refuse that once.
func gaveUp(t *testing.T, st *store.Store) {
	var got notebook
	var q *jobs.Queue
	refusals := 1
	opt := jobs.Options{Handlers: []jobs.Handler{
		{Kind: "test.other", Run: func(context.Context, *jobs.Job) error { got.note("other"); return nil }},
		{
			Kind: "test.job",
			Run:  func(context.Context, *jobs.Job) error { return errors.New("wrong") },
			GaveUp: func(ctx context.Context, tx *store.Tx, job *jobs.Job, why error) error {
				got.note(fmt.Sprintf("%d %t", job.Attempt, why != nil))
				if _, err := q.EnqueueTx(ctx, tx, otherArgs{}, jobs.Insert{Class: jobs.Scan}); err != nil {
					return err
				}
				if refusals > 0 {
					refusals--
					return errors.New("not now")
				}
				return nil
			},
		},
	}}
	enqueuer := Open(t, st, jobs.Options{})
	id := Enqueue(t, st, enqueuer, Args{}, jobs.Insert{Attempts: 2})
	opt.Classes = map[jobs.Class]int{jobs.Scan: 1}
	opt.Backoff = func(int) time.Duration { return 10 * time.Millisecond }
	q = Open(t, st, opt)
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer q.Stop(context.Background())
	WaitFor(t, enqueuer, id, jobs.GivenUp)
	got.waitFor(t, 3)
	if names, want := got.read(), []string{"2 true", "3 true", "other"}; !slices.Equal(names, want) {
		t.Errorf("notes %q, want %q: refused, given up, and one job that was enqueued by it", names, want)
	}
}

func complete(t *testing.T, st *store.Store) {
	var q *jobs.Queue
	ready := make(chan struct{})
	var ran notebook
	q = Start(t, st, jobs.Options{Classes: map[jobs.Class]int{jobs.Scan: 4, jobs.Maintain: 1}, Handlers: []jobs.Handler{
		{Kind: "test.other", Run: func(context.Context, *jobs.Job) error { ran.note("other"); return nil }},
	}}, func(ctx context.Context, job *jobs.Job) error {
		<-ready
		err := st.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
			if _, err := q.EnqueueTx(ctx, tx, otherArgs{}, jobs.Insert{Class: jobs.Maintain}); err != nil {
				return err
			}
			if err := job.Complete(ctx, tx); err != nil {
				return err
			}
			if err := job.Complete(ctx, tx); !errors.Is(err, jobs.ErrLost) {
				t.Errorf("Complete again = %v, want %v", err, jobs.ErrLost)
			}
			if job.Attempt == 1 {
				return errors.New("rolled back")
			}
			return nil
		})
		if err == nil {
			return errors.New("too late")
		}
		return err
	})
	id := Enqueue(t, st, q, Args{}, jobs.Insert{})
	close(ready)
	info := WaitFor(t, q, id, jobs.Completed)
	if info.Attempt != 2 || info.Error != "rolled back" {
		t.Errorf("it is %+v, want two attempts, of which the first was rolled back", info)
	}
	Until(t, func() bool { return len(ran.read()) > 0 }, func() string { return "what the transaction enqueued was not done" })
	time.Sleep(50 * time.Millisecond)
	if info, err := q.Find(t.Context(), id); err != nil || info.State != jobs.Completed {
		t.Errorf("an error after Complete makes it %+v, %v", info, err)
	}
	if n := len(ran.read()); n != 1 {
		t.Errorf("%d jobs were enqueued by two attempts, want that of the one that was committed", n)
	}
}

func cancelWaiting(t *testing.T, st *store.Store) {
	q := Open(t, st, jobs.Options{})
	now, later := Enqueue(t, st, q, Args{}, jobs.Insert{}), Enqueue(t, st, q, Args{}, jobs.Insert{At: time.Now().Add(time.Hour)})
	for _, id := range []int64{now, later} {
		if err := q.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if info, err := q.Find(t.Context(), id); err != nil || info.State != jobs.Cancelled {
			t.Errorf("a cancelled job is %+v, %v", info, err)
		}
		if err := q.Cancel(t.Context(), id); err != nil {
			t.Errorf("to cancel it again: %v", err)
		}
	}
	if err := q.Cancel(t.Context(), 1<<40); !fault.Is(err, fault.NotFound) {
		t.Errorf("to cancel none: %v", err)
	}
}

func cancelRunning(t *testing.T, st *store.Store) {
	type end struct {
		cause error
		at    time.Time
	}
	ends := make(chan end, 1)
	q := Start(t, st, jobs.Options{}, func(ctx context.Context, _ *jobs.Job) error {
		err := wantEnd(ctx, jobs.ErrCancelled)
		ends <- end{context.Cause(ctx), time.Now()}
		return err
	})
	other := Open(t, st, jobs.Options{})
	for _, by := range []*jobs.Queue{q, other} {
		id := Enqueue(t, st, q, Args{}, jobs.Insert{Unique: "x"})
		WaitFor(t, q, id, jobs.Running)
		start := time.Now()
		if err := by.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		e := <-ends
		if took := e.at.Sub(start); took > time.Second || !errors.Is(e.cause, jobs.ErrCancelled) {
			t.Errorf("ended after %v because of %v, want within a second", took, e.cause)
		}
		if info := WaitFor(t, q, id, jobs.Cancelled); info.Attempt != 1 {
			t.Errorf("it is %+v", info)
		}
	}
}

func cancelInTx(t *testing.T, st *store.Store) {
	release := make(chan struct{})
	q := Start(t, st, jobs.Options{}, func(ctx context.Context, job *jobs.Job) error {
		var args Args
		if err := job.Decode(&args); err != nil || args.Name == "second" {
			return err
		}
		<-release
		return errors.New("wrong") // and does not look at its context
	})
	first := Enqueue(t, st, q, Args{"first"}, jobs.Insert{Unique: "x"})
	WaitFor(t, q, first, jobs.Running)
	cancel := func(result error) error {
		return st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(q.CancelTx(ctx, tx, first), result)
		})
	}
	if err := cancel(errors.New("no")); err == nil {
		t.Fatal("the transaction is committed")
	}
	if again := Enqueue(t, st, q, Args{"second"}, jobs.Insert{Unique: "x"}); again != first {
		t.Error("a cancellation that was rolled back has an effect")
	}
	if err := cancel(nil); err != nil {
		t.Fatal(err)
	}
	second := Enqueue(t, st, q, Args{"second"}, jobs.Insert{Unique: "x"})
	if second == first {
		t.Error("a job that was cancelled is in the way of one like it")
	}
	WaitFor(t, q, second, jobs.Completed)
	close(release)
	if info := WaitFor(t, q, first, jobs.Cancelled); info.Attempt != 1 {
		t.Errorf("it is %+v", info)
	}
}

func shared(t *testing.T, st *store.Store) {
	var got [2]notebook
	both := make(chan struct{})
	var queues [2]*jobs.Queue
	var once [2]sync.Once
	var wait sync.WaitGroup
	wait.Add(2)
	go func() { wait.Wait(); close(both) }()
	for i := range queues {
		queues[i] = Start(t, st, jobs.Options{Classes: map[jobs.Class]int{jobs.Scan: 2}}, func(ctx context.Context, job *jobs.Job) error {
			once[i].Do(wait.Done)
			<-both // a job of each, before either goes on
			return got[i].byName(ctx, job)
		})
	}
	const n = 60
	for i := range n {
		Enqueue(t, st, queues[0], Args{fmt.Sprint(i)}, jobs.Insert{})
	}
	all := func() []string { return append(got[0].read(), got[1].read()...) }
	Until(t, func() bool { return len(all()) >= n }, func() string { return fmt.Sprintf("%d done, want %d", len(all()), n) })
	time.Sleep(50 * time.Millisecond)
	names := all()
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != n || len(names) != n {
		t.Errorf("%d jobs were done, %d different ones, want %d", len(names), len(slices.Compact(names)), n)
	}
	if stats, err := queues[0].Stats(t.Context()); err != nil || stats.Processes != 2 {
		t.Errorf("%d processes work, %v; want 2", stats.Processes, err)
	}
}

func stopReturns(t *testing.T, st *store.Store) {
	causes := make(chan error, 1)
	opt := jobs.Options{
		Classes: map[jobs.Class]int{jobs.Scan: 1}, Grace: 50 * time.Millisecond,
		Handlers: []jobs.Handler{{Kind: "test.job", Run: func(ctx context.Context, _ *jobs.Job) error {
			err := wantEnd(ctx, jobs.ErrStopping)
			causes <- context.Cause(ctx)
			return err
		}}},
	}
	q := Open(t, st, opt)
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, next := Enqueue(t, st, q, Args{}, jobs.Insert{Priority: 1, Attempts: 1}), Enqueue(t, st, q, Args{}, jobs.Insert{})
	WaitFor(t, q, id, jobs.Running)
	if err := q.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cause := <-causes; !errors.Is(cause, jobs.ErrStopping) {
		t.Errorf("the context ended because of %v", cause)
	}
	for _, id := range []int64{id, next} {
		if info, err := q.Find(t.Context(), id); err != nil || info.State != jobs.Waiting || info.Attempt != 0 {
			t.Errorf("after the stop, job %d is %+v, %v", id, info, err)
		}
	}
	if stats, err := q.Stats(t.Context()); err != nil || stats.Processes != 0 {
		t.Errorf("%d processes work, %v; want none", stats.Processes, err)
	}
	var got notebook
	Start(t, st, jobs.Options{}, got.byName)
	got.waitFor(t, 2)
}

func stopWaits(t *testing.T, st *store.Store) {
	opt := jobs.Options{Classes: map[jobs.Class]int{jobs.Scan: 1}, Handlers: []jobs.Handler{{Kind: "test.job", Run: func(ctx context.Context, _ *jobs.Job) error {
		time.Sleep(300 * time.Millisecond)
		return ctx.Err()
	}}}}
	q := Open(t, st, opt)
	ctx, cancel := context.WithCancel(t.Context())
	if err := q.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel() // of the start only
	id := Enqueue(t, st, q, Args{}, jobs.Insert{})
	WaitFor(t, q, id, jobs.Running)
	if err := q.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := q.Find(t.Context(), id); err != nil || info.State != jobs.Completed {
		t.Errorf("after the stop, it is %+v, %v", info, err)
	}
	if err := q.Stop(t.Context()); err != nil {
		t.Errorf("to stop again: %v", err)
	}
}

// grab makes a job look as if a process had it that gives no sign of life, or
// never did.
func grab(t *testing.T, st *store.Store, id int64, process string, attempt int) {
	t.Helper()
	owner := "ARRAY[?]"
	if st.Engine() == store.SQLite {
		owner = "jsonb(json_array(?))"
	}
	err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Raw().NewRaw("UPDATE river_job SET state = 'running', attempt = ?, attempted_by = "+owner+" WHERE id = ?", attempt, process, id).Exec(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, st *store.Store, text string, args ...any) {
	t.Helper()
	err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Raw().NewRaw(text, args...).Exec(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func dead(t *testing.T, st *store.Store) {
	enqueuer := Open(t, st, jobs.Options{})
	id := Enqueue(t, st, enqueuer, Args{"of the dead"}, jobs.Insert{})
	gone := Enqueue(t, st, enqueuer, Args{"of the gone"}, jobs.Insert{})
	cancelled := Enqueue(t, st, enqueuer, Args{"cancelled"}, jobs.Insert{})
	write(t, st, "INSERT INTO job_worker (id, place, beats) VALUES ('dead', 'here', 7)")
	grab(t, st, id, "dead", 1)
	grab(t, st, gone, "gone", 1)
	grab(t, st, cancelled, "dead", 1)
	if err := enqueuer.Cancel(t.Context(), cancelled); err != nil {
		t.Fatal(err)
	}
	var got notebook
	start := time.Now()
	q := Start(t, st, jobs.Options{Beat: 100 * time.Millisecond}, got.byName)
	WaitFor(t, q, gone, jobs.Completed)
	if took := time.Since(start); took > 450*time.Millisecond+testSlack {
		t.Errorf("the job of a process without a sign of life was done after %v", took)
	}
	if info := WaitFor(t, q, id, jobs.Completed); info.Attempt != 2 {
		t.Errorf("the job of the dead is %+v", info)
	}
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("a process was taken for dead after %v", took)
	}
	WaitFor(t, q, cancelled, jobs.Cancelled)
	if names := got.read(); !slices.Equal(names, []string{"of the gone", "of the dead"}) {
		t.Errorf("done: %q", names)
	}
}

// testSlack is what a busy machine may add to a time that is tested.
const testSlack = 2 * time.Second

// zombie takes a running job from a process, and gives it to another: what the
// first one does then has no effect.
func zombie(t *testing.T, st *store.Store) {
	release, lost := make(chan struct{}), make(chan error, 1)
	wrote := make(chan error, 1)
	var got notebook
	q := Start(t, st, jobs.Options{Classes: map[jobs.Class]int{jobs.Scan: 1}, Beat: 200 * time.Millisecond}, func(ctx context.Context, job *jobs.Job) error {
		var args Args
		if err := job.Decode(&args); err != nil || args.Name != "taken" {
			got.note(args.Name)
			return err
		}
		lost <- wantEnd(ctx, jobs.ErrLost)
		wrote <- st.Write(context.WithoutCancel(ctx), func(ctx context.Context, tx *store.Tx) error { return job.Complete(ctx, tx) })
		<-release
		return errors.New("wrong")
	})
	taken := Enqueue(t, st, q, Args{"taken"}, jobs.Insert{})
	WaitFor(t, q, taken, jobs.Running)
	write(t, st, "INSERT INTO job_worker (id, place, beats) VALUES ('other', 'there', 1)")
	stop := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				write(t, st, "UPDATE job_worker SET beats = beats + 1 WHERE id = 'other'")
			}
		}
	})
	defer beats.Wait()
	defer close(stop)
	grab(t, st, taken, "other", 2)
	if err := <-lost; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-wrote; !errors.Is(err, jobs.ErrLost) {
		t.Errorf("Complete = %v, want %v", err, jobs.ErrLost)
	}
	close(release)
	next := Enqueue(t, st, q, Args{"next"}, jobs.Insert{})
	WaitFor(t, q, next, jobs.Completed) // by the same worker, so the end of the first was dealt with
	time.Sleep(400 * time.Millisecond)  // River writes what it is told a while later, in batches
	if info, err := q.Find(t.Context(), taken); err != nil || info.State != jobs.Running || info.Attempt != 2 || info.Error != "" {
		t.Errorf("the job of the other process is %+v, %v", info, err)
	}
	// Now the process itself is taken for dead, and works on.
	write(t, st, "DELETE FROM job_worker WHERE id <> 'other'")
	WaitFor(t, q, Enqueue(t, st, q, Args{"again"}, jobs.Insert{}), jobs.Completed)
}

// silent keeps a process from giving signs of life, and wants its job to end
// before others would take it.
func silent(t *testing.T, st *store.Store) {
	const beat = 500 * time.Millisecond
	ended := make(chan error, 1)
	var calls atomic.Int32
	q := Start(t, st, jobs.Options{Beat: beat}, func(ctx context.Context, job *jobs.Job) error {
		if calls.Add(1) > 1 {
			return nil
		}
		select {
		case <-ctx.Done():
			ended <- context.Cause(ctx)
			return jobs.Cancel(errors.New("what it says now does not count"))
		case <-time.After(Patience):
			ended <- errors.New("the context did not end")
			return nil
		}
	})
	id := Enqueue(t, st, q, Args{"before"}, jobs.Insert{Attempts: 1})
	WaitFor(t, q, id, jobs.Running)
	err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		if err := tx.Lock(ctx, "job workers"); err != nil {
			return err
		}
		start := time.Now()
		if why := <-ended; !errors.Is(why, jobs.ErrLost) {
			t.Errorf("the context ended because of %v, want %v", why, jobs.ErrLost)
		}
		if took := time.Since(start); took > 6*beat {
			t.Errorf("the job ended after %v, want before six beats", took)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if info := WaitFor(t, q, id, jobs.Completed); info.Attempt != 1 || calls.Load() != 2 {
		t.Errorf("after %d calls it is %+v, want two, of which the first does not count", calls.Load(), info)
	}
}

func poison(t *testing.T, st *store.Store) {
	whys := make(chan error, 1)
	q := Open(t, st, jobs.Options{})
	id := Enqueue(t, st, q, Args{}, jobs.Insert{Attempts: 3})
	grab(t, st, id, "gone", 3)
	Start(t, st, jobs.Options{Handlers: []jobs.Handler{{
		Kind: "test.job",
		Run:  func(context.Context, *jobs.Job) error { t.Error("it is tried once more"); return nil },
		GaveUp: func(_ context.Context, _ *store.Tx, _ *jobs.Job, why error) error {
			whys <- why
			return nil
		},
	}}}, nil)
	if info := WaitFor(t, q, id, jobs.GivenUp); info.Error == "" || <-whys == nil {
		t.Errorf("it is %+v, without a reason", info)
	}
}

func periodic(t *testing.T, st *store.Store) {
	var mu sync.Mutex
	now := time.UnixMilli(1_800_000_000_500)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	var got notebook
	for range 3 {
		Start(t, st, jobs.Options{
			Classes: map[jobs.Class]int{jobs.Maintain: 1}, Now: clock,
			Periodic: []jobs.Periodic{jobs.Every(time.Second, Args{"tick"}), jobs.Every(time.Hour, otherArgs{})},
			Handlers: []jobs.Handler{{Kind: "test.other", Run: func(context.Context, *jobs.Job) error { got.note("hour"); return nil }}},
		}, got.byName)
	}
	got.waitFor(t, 2)
	mu.Lock()
	now = now.Add(5 * time.Second) // of which four are not caught up with
	mu.Unlock()
	got.waitFor(t, 3)
	time.Sleep(700 * time.Millisecond) // each process has looked
	notes := got.read()
	slices.Sort(notes)
	if want := []string{"hour", "tick", "tick"}; !slices.Equal(notes, want) {
		t.Errorf("done: %q, want %q", notes, want)
	}
}

func opened(t *testing.T, st *store.Store) {
	var wait sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wait.Go(func() { _, errs[i] = jobs.New(t.Context(), st, jobs.Options{}) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// newest deletes all jobs, as their cleaning does in time, and wants no id again.
func newest(t *testing.T, st *store.Store) {
	q := Open(t, st, jobs.Options{})
	Enqueue(t, st, q, Args{}, jobs.Insert{})
	last := Enqueue(t, st, q, Args{}, jobs.Insert{})
	write(t, st, "DELETE FROM river_job")
	if next := Enqueue(t, st, q, Args{}, jobs.Insert{}); next <= last {
		t.Errorf("the next job has the id %d after %d", next, last)
	}
}

func figures(t *testing.T, st *store.Store) {
	release := make(chan struct{})
	q := Start(t, st, jobs.Options{Classes: map[jobs.Class]int{jobs.Scan: 1}}, func(ctx context.Context, job *jobs.Job) error {
		var args Args
		if err := job.Decode(&args); err != nil {
			return err
		}
		switch {
		case args.Name == "run":
			<-release
		case args.Name == "fail" && job.Attempt == 1:
			return errors.New("wrong")
		case args.Name == "give up":
			return jobs.Cancel(errors.New("wrong"))
		}
		return nil
	})
	for name, want := range map[string]jobs.State{"do": jobs.Completed, "fail": jobs.Completed, "give up": jobs.GivenUp} {
		WaitFor(t, q, Enqueue(t, st, q, Args{name}, jobs.Insert{}), want)
	}
	WaitFor(t, q, Enqueue(t, st, q, Args{"run"}, jobs.Insert{}), jobs.Running)
	Enqueue(t, st, q, Args{}, jobs.Insert{})
	Enqueue(t, st, q, Args{}, jobs.Insert{})
	Enqueue(t, st, q, Args{}, jobs.Insert{At: time.Now().Add(time.Hour)})
	Enqueue(t, st, q, Args{}, jobs.Insert{Class: jobs.Deliver})
	time.Sleep(100 * time.Millisecond)
	got, err := q.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range got.Classes {
		if waits := c.Waiting > 0; waits && (c.Oldest < 80*time.Millisecond || c.Oldest > Patience) || !waits && c.Oldest != 0 {
			t.Errorf("the oldest of class %s has waited %v", c.Class, c.Oldest)
		}
		got.Classes[i].Oldest = 0
	}
	want := []jobs.ClassStats{
		{Class: jobs.Scan, Waiting: 2, Scheduled: 1, Running: 1, Dead: 1, Completed: 2, Failed: 1, GaveUp: 1},
		{Class: jobs.Deliver, Waiting: 1},
		{Class: jobs.Maintain},
	}
	if got.Processes != 1 || !slices.Equal(got.Classes, want) {
		t.Errorf("figures %+v, want %+v of one process", got, want)
	}
	close(release)
}

func logged(t *testing.T, st *store.Store) {
	var out lines
	opt := jobs.Options{Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	q := Start(t, st, opt, func(_ context.Context, job *jobs.Job) error {
		if job.Attempt == 1 {
			panic("one")
		}
		return jobs.Cancel(errors.New("two"))
	})
	WaitFor(t, q, Enqueue(t, st, q, Args{"hunter2"}, jobs.Insert{Unique: "hunter2"}), jobs.GivenUp)
	Until(t, func() bool { return out.contains("given up") }, func() string { return "the log does not say that a job was given up" })
	for _, want := range []string{"panic=one", "error=two", "kind=test.job"} {
		if !out.contains(want) {
			t.Errorf("the log has no %s", want)
		}
	}
	if out.contains("hunter2") {
		t.Error("the log has arguments")
	}
}
