package store

import (
	"context"

	"github.com/uptrace/bun"
)

// A BillingEvent is a message of the billing provider that was received.
type BillingEvent struct {
	bun.BaseModel `bun:"table:billing_event"`

	ID         string `bun:",pk"` // the provider's
	Kind       string
	CreatedAt  Time
	ReceivedAt Time
}

// RecordBillingEvent notes an event, and says whether it is new.
func (tx *Tx) RecordBillingEvent(ctx context.Context, e *BillingEvent) (created bool, err error) {
	n, err := count(tx.db.NewInsert().Model(e).On("CONFLICT DO NOTHING").Exec(ctx))
	return n > 0, err
}
