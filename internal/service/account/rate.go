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
	name string

	mu     sync.Mutex
	ends   time.Time
	limit  int64
	left   int64
	others int64 // left in the store, when this server last asked
}

// NewLimiter returns a limiter.
func NewLimiter(store windows, now func() time.Time) *Limiter {
	return &Limiter{store: store, now: now, leases: map[string]*lease{}}
}

// Take counts one request of a subject in the windows of all rates, and returns
// the one with the least left. A request that is one too many in one of them
// counts in none. If it cannot count, it says beside the error what it would say
// if nobody had asked before.
func (l *Limiter) Take(ctx context.Context, subject string, rates []Rate) (Count, error) {
	now := l.now().UTC()
	out := Count{Limit: Unlimited, Left: Unlimited, Reset: now.Truncate(time.Minute).Add(time.Minute)}
	var taken []*lease
	for _, r := range rates {
		if r.Limit < 0 {
			continue
		}
		held := l.lease(subject+" "+r.Window.String(), now)
		c, err := l.take(ctx, held, r, now)
		if err != nil {
			out = c
			giveBack(taken, now)
			return out, err
		}
		if !c.Over {
			taken = append(taken, held)
		}
		if c.tighter(out) {
			out = c
		}
	}
	if out.Over {
		giveBack(taken, now)
	}
	return out, nil
}

// tighter says whether c is more in the way than d. Of two that are used up, that
// is the one which is so for longer.
func (c Count) tighter(d Count) bool {
	switch {
	case c.Over != d.Over:
		return c.Over
	case c.Over:
		return c.Reset.After(d.Reset)
	}
	return c.Left < d.Left
}

// giveBack counts a request no more for which something was taken.
func giveBack(taken []*lease, now time.Time) {
	for _, held := range taken {
		held.mu.Lock()
		if now.Before(held.ends) {
			held.left++
		}
		held.mu.Unlock()
	}
}

func (l *Limiter) take(ctx context.Context, held *lease, r Rate, now time.Time) (Count, error) {
	ends := now.Truncate(r.Window).Add(r.Window)
	c := Count{Limit: r.Limit, Reset: ends}
	held.mu.Lock()
	defer held.mu.Unlock()
	if !held.ends.Equal(ends) || held.limit != r.Limit { // or the plan is another one
		held.ends, held.limit, held.left, held.others = ends, r.Limit, 0, r.Limit
	}
	if held.left == 0 && held.others > 0 {
		var err error
		starts := store.At(ends.Add(-r.Window))
		if held.left, held.others, err = l.store.LeaseWindow(ctx, held.name, starts, max(1, r.Limit/10), r.Limit); err != nil {
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

const (
	// maxLeases bounds how many windows a server remembers.
	maxLeases = 100_000

	// sweepTime is how often those are forgotten that are over.
	sweepTime = time.Minute
)

// lease returns what this server holds of a window.
func (l *Limiter) lease(name string, now time.Time) *lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.leases[name]
	if held != nil {
		return held
	}
	if age := now.Sub(l.swept); age >= sweepTime || age < 0 {
		l.swept = now
		l.forget(func(held *lease) bool { return !now.Before(held.ends) })
	}
	if len(l.leases) >= maxLeases { // so many at once are an attack
		l.forget(func(*lease) bool { return true })
	}
	held = &lease{name: name}
	l.leases[name] = held
	return held
}

// forget lets go of windows, less those that are asked about at this moment. What
// was left of one is lost, unless the window is over.
func (l *Limiter) forget(which func(*lease) bool) {
	for name, held := range l.leases {
		if held.mu.TryLock() {
			if which(held) {
				delete(l.leases, name)
			}
			held.mu.Unlock()
		}
	}
}
