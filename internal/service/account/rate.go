package account

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// A Rate is how many requests somebody may make in a window of time. Windows
// are whole minutes and hours of UTC.
type Rate struct {
	Limit  int64 // -1 is no limit
	Window time.Duration
}

// A Count says how far a window is used up.
type Count struct {
	Limit, Left int64
	Reset       time.Time // when the next window begins
	Over        bool      // this request is one too many
}

// Unlimited is the limit that is shown where there is none.
const Unlimited = math.MaxInt32

// windows is what a limiter needs of the store ([store.Store.LeaseWindow]).
type windows interface {
	LeaseWindow(ctx context.Context, subject string, starts store.Time, n, limit int64) (got, left int64, err error)
}

// A Limiter counts requests over all servers. It takes a tenth of a limit at a
// time from the store and gives it out by itself, so that most requests cost no
// query, and the servers together never give out more than the limit.
type Limiter struct {
	store windows
	now   func() time.Time

	mu     sync.Mutex
	leases map[string]*lease
	swept  time.Time
}

// A lease is what is left of what one server took of a window.
type lease struct {
	mu     sync.Mutex
	starts time.Time
	left   int64
	others int64 // left in the store, when this server last asked
}

// NewLimiter returns a limiter.
func NewLimiter(store windows, now func() time.Time) *Limiter {
	return &Limiter{store: store, now: now, leases: map[string]*lease{}}
}

// Take counts one request of a subject in the windows of all rates, and returns
// the one with the least left. If it cannot count, it says beside the error what
// it would say if nobody had asked before.
func (l *Limiter) Take(ctx context.Context, subject string, rates []Rate) (Count, error) {
	now := l.now().UTC()
	out := Count{Limit: Unlimited, Left: Unlimited, Reset: now.Truncate(time.Minute).Add(time.Minute)}
	for _, r := range rates {
		if r.Limit < 0 {
			continue
		}
		c, err := l.take(ctx, subject, r, now)
		if err != nil {
			return c, err
		}
		if c.Over && !out.Over || c.Over == out.Over && c.Left < out.Left {
			out = c
		}
	}
	return out, nil
}

func (l *Limiter) take(ctx context.Context, subject string, r Rate, now time.Time) (Count, error) {
	starts := now.Truncate(r.Window)
	c := Count{Limit: r.Limit, Reset: starts.Add(r.Window)}
	name := subject + " " + r.Window.String()
	held := l.lease(name, now)
	held.mu.Lock()
	defer held.mu.Unlock()
	if !held.starts.Equal(starts) {
		held.starts, held.left, held.others = starts, 0, r.Limit
	}
	if held.left == 0 && held.others > 0 {
		var err error
		if held.left, held.others, err = l.store.LeaseWindow(ctx, name, store.At(starts), max(1, r.Limit/10), r.Limit); err != nil {
			held.left, held.others, c.Left = 0, r.Limit, r.Limit
			return c, err
		}
	}
	if held.left == 0 {
		c.Over = true
		return c, nil
	}
	held.left--
	c.Left = held.left + held.others
	return c, nil
}

// lease returns what this server holds of a window. Those that nobody asked for
// since a while are forgotten.
func (l *Limiter) lease(name string, now time.Time) *lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) > 2*time.Minute {
		l.swept = now
		for n, held := range l.leases {
			if held.mu.TryLock() {
				if now.Sub(held.starts) > 2*time.Hour || held.starts.IsZero() {
					delete(l.leases, n)
				}
				held.mu.Unlock()
			}
		}
	}
	held := l.leases[name]
	if held == nil {
		held = &lease{}
		l.leases[name] = held
	}
	return held
}
