package account_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// heap returns how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func minute(limit int64) []account.Rate {
	return []account.Rate{{Limit: limit, Window: time.Minute}}
}

// passed counts how many of n requests pass, one after the other, by limiters in
// turn.
func passed(t *testing.T, n int, subject string, rates []account.Rate, limiters ...*account.Limiter) (count int64) {
	t.Helper()
	for i := range n {
		c, err := limiters[i%len(limiters)].Take(t.Context(), subject, rates)
		if err != nil {
			t.Fatal(err)
		}
		if !c.Over {
			count++
		}
	}
	return count
}

func TestLimit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		c := newClock()
		for _, limit := range []int64{0, 1, 2, 7, 60, 300} {
			l := account.NewLimiter(st, c.Now)
			subject := fmt.Sprint("one ", limit)
			reset := c.Now().Truncate(time.Minute).Add(time.Minute)
			for i := range limit + 5 {
				got, err := l.Take(t.Context(), subject, minute(limit))
				want := account.Count{Limit: limit, Left: max(0, limit-i-1), Reset: reset, Over: i >= limit}
				if err != nil || got != want {
					t.Fatalf("request %d of %d: %+v, %v; want %+v", i+1, limit, got, err, want)
				}
			}
		}
	})
}

// Several servers never give out more than a limit, and not much less.
func TestLimitOverServers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		c := newClock()
		for _, limit := range []int64{1, 5, 60, 300} {
			a, b := account.NewLimiter(st, c.Now), account.NewLimiter(st, c.Now)
			subject := fmt.Sprint("turns ", limit)
			if got := passed(t, int(2*limit), subject, minute(limit), a, b); got != limit {
				t.Errorf("two servers in turn give out %d of %d", got, limit)
			}
			// One of them took some and is not asked again.
			subject = fmt.Sprint("one goes ", limit)
			first := passed(t, 1, subject, minute(limit), a)
			got := first + passed(t, int(2*limit), subject, minute(limit), b)
			if got > limit || got < limit-max(limit/10, 1) {
				t.Errorf("a server that keeps what it took leaves %d of %d", got, limit)
			}
		}
		// At once.
		a, b := account.NewLimiter(st, c.Now), account.NewLimiter(st, c.Now)
		var got atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			l := []*account.Limiter{a, b}[i%2]
			wg.Go(func() {
				for range 100 {
					if c, err := l.Take(t.Context(), "at once", minute(300)); err != nil {
						t.Error(err)
					} else if !c.Over {
						got.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if got.Load() != 300 {
			t.Errorf("800 requests at once get %d of 300", got.Load())
		}
	})
}

func TestWindows(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		c := newClock() // 90 seconds before an hour
		l := account.NewLimiter(st, c.Now)
		both := []account.Rate{{Limit: 10, Window: time.Minute}, {Limit: 25, Window: time.Hour}}
		hour := c.Now().Truncate(time.Hour).Add(time.Hour)
		if got := passed(t, 100, "a", both, l); got != 10 {
			t.Errorf("the first minute gives %d; want 10", got)
		}
		over, err := l.Take(t.Context(), "a", both)
		if err != nil || !over.Over || over.Limit != 10 || !over.Reset.Equal(c.Now().Add(30*time.Second)) {
			t.Errorf("after that: %+v, %v; want the minute", over, err)
		}
		c.pass(30 * time.Second)
		// What was refused in the minute did not count in the hour.
		next, err := l.Take(t.Context(), "a", both)
		if want := (account.Count{Limit: 10, Left: 9, Reset: hour}); err != nil || next != want {
			t.Errorf("the second minute begins with %+v, %v; want %+v", next, err, want)
		}
		if got := 1 + passed(t, 100, "a", both, l); got != 10 {
			t.Errorf("the second minute gives %d; want 10", got)
		}
		c.pass(time.Minute)
		next, err = l.Take(t.Context(), "a", both)
		if want := (account.Count{Limit: 10, Left: 9, Reset: hour.Add(time.Minute)}); err != nil || next != want {
			t.Errorf("the next hour begins with %+v, %v; want %+v", next, err, want)
		}
		for range 2 {
			passed(t, 10, "a", both, l)
			c.pass(time.Minute)
		}
		if got := passed(t, 100, "a", both, l); got != 5 {
			t.Errorf("at its end the hour gives %d; want 5", got)
		}
		if over, err := l.Take(t.Context(), "a", both); err != nil || !over.Over || over.Limit != 25 || !over.Reset.Equal(hour.Add(time.Hour)) {
			t.Errorf("after that: %+v, %v; want the hour", over, err)
		}
		if got := passed(t, 10, "b", both, l); got != 10 {
			t.Errorf("somebody else gets %d; want 10", got)
		}
	})
}

func TestUnlimited(t *testing.T) {
	c := newClock()
	l := account.NewLimiter(failing{}, c.Now) // which is not asked
	for _, rates := range [][]account.Rate{nil, minute(-1), {{-1, time.Minute}, {-1, time.Hour}}} {
		got, err := l.Take(t.Context(), "a", rates)
		if want := (account.Count{Limit: math.MaxInt32, Left: math.MaxInt32, Reset: c.Now().Add(30 * time.Second)}); err != nil || got != want {
			t.Errorf("Take(%v) = %+v, %v; want %+v", rates, got, err, want)
		}
	}
	if account.Unlimited != 2147483647 {
		t.Error("no limit is shown as", account.Unlimited)
	}
}

// A plan that changes works at once, in both directions.
func TestPlanChanges(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		c := newClock()
		l := account.NewLimiter(st, c.Now)
		if got := passed(t, 100, "up", minute(60), l); got != 60 {
			t.Errorf("%d of 60", got)
		}
		if got := passed(t, 400, "up", minute(300), l); got != 240 {
			t.Errorf("a raised limit gives %d more; want 240", got)
		}
		passed(t, 70, "down", minute(300), l)
		if got := passed(t, 100, "down", minute(60), l); got != 0 {
			t.Errorf("a lowered limit still gives %d", got)
		}
	})
}

// failing is a database that is gone.
type failing struct{}

func (failing) LeaseWindow(context.Context, string, store.Time, int64, int64) (int64, int64, error) {
	return 0, 0, errors.New("gone")
}

func TestLimiterFails(t *testing.T) {
	c := newClock()
	got, err := account.NewLimiter(failing{}, c.Now).Take(t.Context(), "a", minute(60))
	if want := (account.Count{Limit: 60, Left: 60, Reset: c.Now().Add(30 * time.Second)}); err == nil || got != want {
		t.Errorf("Take without a database = %+v, %v; want %+v and an error", got, err, want)
	}
}

// counting is a database without a limit, which counts the questions.
type counting struct{ asked atomic.Int64 }

func (c *counting) LeaseWindow(_ context.Context, _ string, _ store.Time, n, limit int64) (int64, int64, error) {
	c.asked.Add(1)
	return n, limit, nil
}

// What a limiter remembers is bounded, whoever asks, and most requests cost no
// query.
func TestLimiterIsSmall(t *testing.T) {
	c, db := newClock(), &counting{}
	l := account.NewLimiter(db, c.Now)
	for range 100 {
		if _, err := l.Take(t.Context(), "a", minute(60)); err != nil {
			t.Fatal(err)
		}
	}
	if n := db.asked.Load(); n > 17 {
		t.Errorf("100 requests cost %d queries", n)
	}
	before := heap()
	for i := range 300_000 {
		if _, err := l.Take(t.Context(), fmt.Sprintf("2001:db8:%x::/64", i), minute(60)); err != nil {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > 40<<20 {
		t.Errorf("300,000 addresses in a minute take %d MiB", grown>>20)
	}
	c.pass(2 * time.Minute)
	if _, err := l.Take(t.Context(), "a", minute(60)); err != nil {
		t.Fatal(err)
	}
	if grown := heap() - before; grown > 12<<20 { // the map itself stays
		t.Errorf("when the minute is over, they take %d MiB", grown>>20)
	}
	runtime.KeepAlive(l)
}
