package store

import (
	"bytes"
	"context"
	"time"

	"github.com/uptrace/bun"
)

const (
	// AnswersKept is how long an answer is kept for a request that comes again.
	AnswersKept = 24 * time.Hour

	// abandoned is after how long a request without an answer is taken for one
	// whose server died.
	abandoned = 10 * time.Minute
)

// A Repeat is a request that carries an Idempotency-Key.
type Repeat struct {
	Route string
	Name  string // the header
	Body  []byte // SHA-256 of the request's body
}

// An Answer is what a request got.
type Answer struct {
	Status    int
	MediaType string
	Data      []byte // with its secrets masked
}

// A RepeatState says what is known of a request that may have come before.
type RepeatState int

// The states.
const (
	RepeatNew     RepeatState = iota // it is the first, which is noted
	RepeatRunning                    // the first has no answer yet
	RepeatOther                      // the first had another body
	RepeatAnswered
)

type idempotency struct {
	bun.BaseModel `bun:"table:idempotency"`

	OrgID     string `bun:",pk"`
	Route     string `bun:",pk"`
	Name      string `bun:",pk"`
	Body      []byte
	Status    int // 0 while there is no answer
	MediaType string
	Answer    []byte
	CreatedAt Time
}

// BeginRepeat notes a request, or says what became of the one before it. What
// is older than [AnswersKept], or was left without an answer, is forgotten.
func (o OrgTx) BeginRepeat(ctx context.Context, r Repeat, now Time) (RepeatState, Answer, error) {
	_, err := o.db.NewDelete().Model((*idempotency)(nil)).
		Where("org_id = ?", o.id).Where("route = ?", r.Route).Where("name = ?", r.Name).
		Where("created_at <= ? OR status = 0 AND created_at <= ?", At(now.Add(-AnswersKept)), At(now.Add(-abandoned))).Exec(ctx)
	if err != nil {
		return 0, Answer{}, failed(err)
	}
	row := idempotency{OrgID: o.id, Route: r.Route, Name: r.Name, Body: r.Body, CreatedAt: now}
	n, err := count(o.db.NewInsert().Model(&row).On("CONFLICT DO NOTHING").Exec(ctx))
	if err != nil || n > 0 {
		return RepeatNew, Answer{}, err
	}
	var before idempotency
	err = o.db.NewSelect().Model(&before).Where("org_id = ?", o.id).Where("route = ?", r.Route).Where("name = ?", r.Name).Scan(ctx)
	switch {
	case none(err): // it was forgotten at this moment
		return RepeatRunning, Answer{}, nil
	case err != nil:
		return 0, Answer{}, failed(err)
	case !bytes.Equal(before.Body, r.Body):
		return RepeatOther, Answer{}, nil
	case before.Status == 0:
		return RepeatRunning, Answer{}, nil
	}
	return RepeatAnswered, Answer{before.Status, before.MediaType, before.Answer}, nil
}

// FinishRepeat keeps the answer to a request that was begun.
func (o OrgTx) FinishRepeat(ctx context.Context, r Repeat, a Answer) error {
	_, err := o.db.NewUpdate().Model((*idempotency)(nil)).Set("status = ?", a.Status).Set("media_type = ?", a.MediaType).Set("answer = ?", a.Data).
		Where("org_id = ?", o.id).Where("route = ?", r.Route).Where("name = ?", r.Name).Where("status = 0").Exec(ctx)
	return failed(err)
}

// ForgetRepeat lets a request that was begun be made again, as after a failure.
func (o OrgTx) ForgetRepeat(ctx context.Context, r Repeat) error {
	_, err := o.db.NewDelete().Model((*idempotency)(nil)).
		Where("org_id = ?", o.id).Where("route = ?", r.Route).Where("name = ?", r.Name).Where("status = 0").Exec(ctx)
	return failed(err)
}

// DeleteRepeats forgets requests that are older than [AnswersKept], and returns
// how many.
func (tx *Tx) DeleteRepeats(ctx context.Context, now Time) (int64, error) {
	return count(tx.db.NewDelete().Model((*idempotency)(nil)).Where("created_at <= ?", At(now.Add(-AnswersKept))).Exec(ctx))
}
