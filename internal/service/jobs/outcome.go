package jobs

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river/rivertype"
)

// Why the context of a job ended (context.Cause).
var (
	ErrCancelled = errors.New("jobs: cancelled")
	ErrTimeout   = errors.New("jobs: its time is up")
	ErrStopping  = errors.New("jobs: the process stops")
	ErrLost      = errors.New("jobs: another process has taken the job")
)

// errCrashed is why a job is given up whose process ended each time, or whose
// giving up was refused before.
var errCrashed = errors.New("jobs: its attempts are used up, and no end of the last one could be written")

// A verdict is an error of a handler that says what is to become of the job.
type verdict struct {
	err    error
	giveUp bool
	at     time.Time // of the next attempt
	free   bool      // the attempt does not count
}

func (v *verdict) Error() string { return v.err.Error() }
func (v *verdict) Unwrap() error { return v.err }

// Cancel returns an error by which a handler gives its job up, for the reason
// err.
func Cancel(err error) error { return &verdict{err: err, giveUp: true} }

// RetryAt returns an error by which a handler says when a job that failed with
// err is tried again, if it has attempts left.
func RetryAt(err error, at time.Time) error { return &verdict{err: err, at: at} }

var errWaits = errors.New("jobs: not yet")

// Wait returns an error by which a handler puts its job off. It did not fail,
// and the attempt does not count.
func Wait(until time.Time) error { return &verdict{err: errWaits, at: until, free: true} }

const (
	firstPause = 5 * time.Second
	lastPause  = time.Hour
)

// Backoff is how long a job rests after an attempt failed: 5 s, and twice as
// long each time, up to an hour, less up to a fifth, so that what failed
// together is not tried again together.
func Backoff(attempt int) time.Duration {
	pause := lastPause
	if n := max(attempt, 1) - 1; n < 10 { // 5 s << 10 is more than an hour
		pause = min(lastPause, firstPause<<n)
	}
	return pause - rand.N(pause/5)
}

// policy is what River does with a job that it cannot hand to a handler.
type policy struct{ q *Queue }

// NextRetry implements river.ClientRetryPolicy.
func (p policy) NextRetry(row *rivertype.JobRow) time.Time {
	return time.Now().Add(p.q.opt.Backoff(row.Attempt))
}
