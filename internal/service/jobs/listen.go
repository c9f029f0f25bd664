package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
)

// elsewhere is how often it is looked for what other processes notified about on
// SQLite, where hardly any others work.
const elsewhere = time.Second

// A quietDriver is River's driver for SQLite without its listener, which asks the
// database for notifications twenty times a second. This one asks when a
// transaction of this process has notified, and seldom otherwise.
type quietDriver struct {
	*riversqlite.Driver
	writer *sql.DB
	rung   chan struct{} // holds one: somebody is about to notify
}

// ring says that the transaction that is open will notify if it is committed.
func (d *quietDriver) ring() {
	select {
	case d.rung <- struct{}{}:
	default: // it was said, and nobody has looked since
	}
}

// GetListener implements riverdriver.Driver.
func (d *quietDriver) GetListener(params *riverdriver.GetListenenerParams) riverdriver.Listener {
	return &listener{quietDriver: d, schema: params.Schema, topics: map[string]bool{}}
}

// A listener hands notifications to River, in the order in which they were
// committed.
type listener struct {
	*quietDriver
	schema string

	mu     sync.Mutex
	open   bool
	last   int64 // notification that was looked at
	topics map[string]bool
}

// Connect implements riverdriver.Listener. What was notified before is nobody's
// business.
func (l *listener) Connect(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		return errors.New("jobs: the listener listens already")
	}
	err := l.writer.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM river_notification").Scan(&l.last)
	l.open = err == nil
	return err
}

// Close implements riverdriver.Listener.
func (l *listener) Close(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
	return nil
}

// Listen implements riverdriver.Listener.
func (l *listener) Listen(_ context.Context, topic string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[topic] = true
	return nil
}

// Unlisten implements riverdriver.Listener.
func (l *listener) Unlisten(_ context.Context, topic string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.topics, topic)
	return nil
}

// Ping implements riverdriver.Listener.
func (l *listener) Ping(ctx context.Context) error { return l.writer.PingContext(ctx) }

// Schema implements riverdriver.Listener.
func (l *listener) Schema() string { return l.schema }

// SetAfterConnectExec implements riverdriver.Listener, for River's own tests.
func (l *listener) SetAfterConnectExec(string) {}

// WaitForNotification implements riverdriver.Listener.
func (l *listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	for {
		n, err := l.next(ctx)
		if n != nil || err != nil {
			return n, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.rung:
		case <-time.After(elsewhere):
		}
	}
}

// next returns a notification that was not looked at, or nil. The connection that
// writes is asked because there is only one: it is free when the transaction that
// rang has ended.
func (l *listener) next(ctx context.Context) (*riverdriver.Notification, error) {
	for {
		var n riverdriver.Notification
		l.mu.Lock()
		after, open := l.last, l.open
		l.mu.Unlock()
		if !open {
			return nil, errors.New("jobs: the listener does not listen")
		}
		var id int64
		err := l.writer.QueryRowContext(ctx, "SELECT id, topic, payload FROM river_notification WHERE id > ? ORDER BY id LIMIT 1", after).Scan(&id, &n.Topic, &n.Payload)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("jobs: notifications: %w", err)
		}
		l.mu.Lock()
		l.last = id
		wanted := l.topics[n.Topic]
		l.mu.Unlock()
		if wanted {
			return &n, nil
		}
	}
}
