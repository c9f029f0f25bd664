package app

import (
	"context"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// Mode names the kind of database: sqlite, postgres.
func (s *Server) Mode() string { return string(s.store.Engine()) }

// Ready says why the server cannot work, or nil.
func (s *Server) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return s.store.Ready(ctx)
}

// Figures are what operators want to know of the queue.
type Figures = jobs.Stats

// Figures returns what is counted for operators.
func (s *Server) Figures(ctx context.Context) (Figures, error) { return s.jobs.Stats(ctx) }

// Authenticate returns who holds a key.
func (s *Server) Authenticate(ctx context.Context, key string) (*Actor, error) {
	return s.accounts.Authenticate(ctx, key)
}

// Take counts a request of a subject, and says how many are left.
func (s *Server) Take(ctx context.Context, subject string, rates []Rate) (Count, error) {
	return s.accounts.Take(ctx, subject, rates)
}

// BeginRepeat notes a request that may come twice, or says what became of it.
func (s *Server) BeginRepeat(ctx context.Context, by *Actor, r Repeat) (state RepeatState, answer Answer, err error) {
	err = s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		state, answer, err = tx.Org(by.OrgID).BeginRepeat(ctx, r, store.At(s.now()))
		return err
	})
	return state, answer, err
}

// FinishRepeat keeps the answer to a request that may come twice. Without a
// status it is forgotten, and can be made again.
func (s *Server) FinishRepeat(ctx context.Context, by *Actor, r Repeat, a Answer) error {
	return s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if a.Status == 0 {
			return tx.Org(by.OrgID).ForgetRepeat(ctx, r)
		}
		return tx.Org(by.OrgID).FinishRepeat(ctx, r, a)
	})
}

// MaskedKey shows enough of a key to tell it from others.
func MaskedKey(k *Key) string { return account.Masked(k) }

// ParseScopes reads scopes with commas between them, and returns the first word
// that is none.
func ParseScopes(text string) ([]Scope, string) { return account.ParseScopes(text) }

// tidy is the job that forgets what is of no more use.
type tidy struct{}

// Kind names the job.
func (tidy) Kind() string { return "tidy" }

func (s *Server) tidyHandler() jobs.Handler {
	return jobs.Handler{Kind: tidy{}.Kind(), Timeout: 10 * time.Minute, Run: s.tidy}
}

// tidy forgets windows of requests that are over and answers that are too old,
// and gives scans whose job is gone another one.
func (s *Server) tidy(ctx context.Context, _ *jobs.Job) error {
	if _, err := s.store.DeleteWindows(ctx, store.At(s.now().Add(-2*time.Hour))); err != nil {
		return err
	}
	err := s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.DeleteRepeats(ctx, store.At(s.now()))
		return err
	})
	if err != nil {
		return err
	}
	for after := ""; ; {
		open, err := s.store.OpenScans(ctx, after, 100)
		if err != nil || len(open) == 0 {
			return err
		}
		for _, row := range open {
			after = row.ID
			if err := s.adopt(ctx, &row); err != nil {
				return err
			}
		}
	}
}

// adopt gives an open scan without a job, which only an operator's hand can have
// taken, another one.
func (s *Server) adopt(ctx context.Context, row *store.Scan) error {
	job, err := s.jobs.Find(ctx, row.JobID)
	if err != nil && !fault.Is(err, fault.NotFound) || job.State == jobs.Waiting || job.State == jobs.Running {
		return err
	}
	err = s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		_, err := s.enqueueScan(ctx, tx, row.ID)
		return err
	})
	if fault.Is(err, fault.Conflict) { // it ended at this moment
		return nil
	}
	return err
}
