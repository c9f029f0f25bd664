package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// A settlement is what becomes of a running job.
type settlement struct {
	state rivertype.JobState // completed, discarded, cancelled, or available: to be tried again
	at    time.Time          // of the next attempt
	free  bool               // the attempt does not count
	err   error              // why the attempt failed
}

// soon is how far off a time may be for which a job waits among those that can
// be taken. Others are set aside, and looked at every five seconds.
const soon = 5 * time.Second

// settle writes what becomes of a job, or fails with [ErrLost] if it is not (or
// no longer) the one that this process runs. Somebody may have asked for its
// cancellation meanwhile, and then it is not tried again.
func (q *Queue) settle(ctx context.Context, tx *store.Tx, job *Job, s settlement) error {
	var set []string
	var args []any
	put := func(text string, values ...any) { set, args = append(set, text), append(args, values...) }

	if s.state == rivertype.JobStateAvailable {
		next := rivertype.JobStateAvailable
		if s.at.Sub(q.opt.Now()) > soon {
			next = rivertype.JobStateRetryable
		}
		put("state = CAST(CASE WHEN "+flagged+" THEN 'cancelled' ELSE ? END AS "+q.sql.state+")", string(next))
		put("finalized_at = CASE WHEN " + flagged + " THEN " + q.sql.now + " END")
		put("scheduled_at = "+q.sql.at, s.at.UnixMilli())
	} else {
		put("state = ?", string(s.state))
		put("finalized_at = " + q.sql.now)
	}
	if s.free {
		put("attempt = attempt - 1")
	}
	if s.err != nil {
		record, err := attemptError(job, s.err)
		if err != nil {
			return err
		}
		put("errors = "+q.sql.record, record)
	}
	n, err := exec(ctx, tx, "UPDATE river_job SET "+strings.Join(set, ", ")+" WHERE "+q.own(), append(args, job.ID, job.Attempt, q.id)...)
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrLost
	}
	return nil
}

// own says that a job, of an id and an attempt, is run by a process.
func (q *Queue) own() string {
	return "id = ? AND state = 'running' AND attempt = ? AND " + q.sql.owner + " = ?"
}

// owns reports whether this process still has a job.
func (q *Queue) owns(ctx context.Context, job *Job) bool {
	n, err := q.st.Raw().NewSelect().Table("river_job").Where(q.own(), job.ID, job.Attempt, q.id).Count(ctx)
	return err != nil || n > 0 // in doubt, writing tells
}

const errorText = 2000 // bytes that are kept of an error

// attemptError returns an error as River keeps it.
func attemptError(job *Job, why error) (string, error) {
	text := strings.ToValidUTF8(strings.ReplaceAll(why.Error(), "\x00", ""), "�")
	if len(text) > errorText {
		text = strings.ToValidUTF8(text[:errorText], "")
	}
	data, err := json.Marshal(rivertype.AttemptError{At: time.Now().UTC(), Attempt: job.Attempt, Error: text})
	if err != nil {
		return "", fmt.Errorf("jobs: %w", err)
	}
	return string(data), nil
}

// exec runs a statement and returns how many rows it changed.
func exec(ctx context.Context, tx *store.Tx, text string, args ...any) (int64, error) {
	res, err := tx.Raw().NewRaw(text, args...).Exec(ctx)
	if err != nil {
		return 0, fmt.Errorf("jobs: %w", err)
	}
	return res.RowsAffected()
}
