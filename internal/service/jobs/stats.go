package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// Stats are the figures of a queue.
type Stats struct {
	Classes   []ClassStats // all of them
	Processes int          // that work, in all
}

// ClassStats are the figures of a class.
type ClassStats struct {
	Class     Class
	Waiting   int           // jobs whose time has come
	Scheduled int           // whose time has not
	Running   int           // in all processes
	Dead      int           // given up within the last week
	Oldest    time.Duration // how long one has been waiting

	// Attempts of this process since it started.
	Completed, Failed, GaveUp, Cancelled int64
}

type tally struct{ completed, failed, gaveUp, cancelled atomic.Int64 }

type counters map[Class]*tally

func (q *Queue) count(job *Job, s settlement) {
	c := q.counts[job.Class]
	if c == nil {
		return
	}
	switch s.state {
	case rivertype.JobStateAvailable:
		if s.err != nil {
			c.failed.Add(1)
		}
	case rivertype.JobStateCompleted:
		c.completed.Add(1)
	case rivertype.JobStateDiscarded:
		c.gaveUp.Add(1)
	case rivertype.JobStateCancelled:
		c.cancelled.Add(1)
	}
}

// Stats counts what is in the queue.
func (q *Queue) Stats(ctx context.Context) (Stats, error) {
	var rows []struct {
		Queue  string `bun:"queue"`
		State  string `bun:"state"`
		Jobs   int    `bun:"jobs"`
		Oldest int64  `bun:"oldest"` // milliseconds
	}
	due := "scheduled_at <= " + q.sql.now
	err := q.st.Raw().NewRaw("SELECT queue, state, jobs, "+fmt.Sprintf(q.sql.epoch, q.sql.now)+" - "+fmt.Sprintf(q.sql.epoch, "first")+" AS oldest FROM ("+
		"SELECT queue, CASE WHEN state IN ('running', 'discarded') THEN CAST(state AS TEXT) WHEN "+due+" THEN 'waiting' ELSE 'scheduled' END AS state, count(*) AS jobs, min(scheduled_at) AS first"+
		" FROM river_job WHERE state IN ('available', 'retryable', 'scheduled', 'running', 'discarded') GROUP BY 1, 2) AS counted").Scan(ctx, &rows)
	if err != nil {
		return Stats{}, fmt.Errorf("jobs: %w", err)
	}
	var out Stats
	if err := q.st.Raw().NewRaw("SELECT count(*) FROM job_worker").Scan(ctx, &out.Processes); err != nil {
		return Stats{}, fmt.Errorf("jobs: %w", err)
	}
	for _, class := range classes {
		c := ClassStats{Class: class}
		for _, row := range rows {
			if row.Queue != string(class) {
				continue
			}
			switch row.State {
			case "waiting":
				c.Waiting, c.Oldest = row.Jobs, max(0, time.Duration(row.Oldest)*time.Millisecond)
			case "scheduled":
				c.Scheduled = row.Jobs
			case "running":
				c.Running = row.Jobs
			case "discarded":
				c.Dead = row.Jobs
			}
		}
		mine := q.counts[class]
		c.Completed, c.Failed, c.GaveUp, c.Cancelled = mine.completed.Load(), mine.failed.Load(), mine.gaveUp.Load(), mine.cancelled.Load()
		out.Classes = append(out.Classes, c)
	}
	return out, nil
}

// A State is where a job stands.
type State string

// The states.
const (
	Waiting   State = "waiting" // its time may or may not have come
	Running   State = "running"
	Completed State = "completed"
	Cancelled State = "cancelled"
	GivenUp   State = "given up"
)

var states = map[string]State{
	"available": Waiting, "pending": Waiting, "retryable": Waiting, "scheduled": Waiting,
	"running": Running, "completed": Completed, "cancelled": Cancelled, "discarded": GivenUp,
}

// Info says where a job stands.
type Info struct {
	ID       int64
	Kind     string
	Class    Class
	State    State
	Attempt  int // the newest; 0 before the first
	Attempts int
	At       time.Time // of the next attempt, if it waits
	Error    string    // of the newest attempt that failed
}

// Find returns where a job stands. Those that ended are kept for a day, those
// that were given up for a week.
func (q *Queue) Find(ctx context.Context, id int64) (Info, error) {
	var row struct {
		Kind     string `bun:"kind"`
		Queue    string `bun:"queue"`
		State    string `bun:"state"`
		Attempt  int    `bun:"attempt"`
		Attempts int    `bun:"max_attempts"`
		At       int64  `bun:"at"`
		Error    string `bun:"error"`
	}
	err := q.st.Raw().NewRaw("SELECT kind, queue, state, attempt, max_attempts, "+fmt.Sprintf(q.sql.epoch, "scheduled_at")+" AS at, "+
		q.sql.last+" AS error FROM river_job WHERE id = ?", id).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return Info{}, fault.New(fault.NotFound, "no job %d", id)
	}
	if err != nil {
		return Info{}, fmt.Errorf("jobs: %w", err)
	}
	return Info{
		ID: id, Kind: row.Kind, Class: Class(row.Queue), State: states[row.State],
		Attempt: row.Attempt, Attempts: row.Attempts, At: time.UnixMilli(row.At).UTC(), Error: row.Error,
	}, nil
}
