package workspace

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// budget counts what unpacking has cost so far, over the whole workspace.
type budget struct {
	limits Limits

	mu      sync.Mutex
	entries int
	bytes   int64
	spent   time.Duration
}

// A limitError says which limit was met.
type limitError struct{ text string }

func (e limitError) Error() string { return e.text }

func (b *budget) takeEntry() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries >= b.limits.Entries {
		return limitError{fmt.Sprintf("archives hold more than %d files", b.limits.Entries)}
	}
	b.entries++
	return nil
}

// takeBytes takes n bytes, or what there is of them with an error.
func (b *budget) takeBytes(n int64) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.limits.Bytes - b.bytes
	if n <= left {
		b.bytes += n
		return n, nil
	}
	b.bytes = b.limits.Bytes
	return left, limitError{fmt.Sprintf("archives unpack to more than %d bytes", b.limits.Bytes)}
}

// giveBack undoes what an interrupted attempt has taken.
func (b *budget) giveBack(entries int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries -= entries
	b.bytes -= bytes
}

// clear gives back all that was taken.
func (b *budget) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries, b.bytes, b.spent = 0, 0, 0
}

// checkTime fails once a job that began then, and those before it, have used
// up the time.
func (b *budget) checkTime(began time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spent+time.Since(began) > b.limits.Time {
		return limitError{fmt.Sprintf("unpacking takes longer than %v", b.limits.Time)}
	}
	return nil
}

func (b *budget) spend(began time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent += time.Since(began)
}

// proceed fails if work that began then has to stop: the context has ended,
// the workspace was closed, or the time is over.
func (w *Workspace) proceed(ctx context.Context, began time.Time) error {
	if err := w.alive(ctx); err != nil {
		return err
	}
	return w.budget.checkTime(began)
}

// alive fails with what must not be remembered as a property of the target.
func (w *Workspace) alive(ctx context.Context) error {
	if w.closed.Load() {
		return fs.ErrClosed
	}
	return context.Cause(ctx)
}
