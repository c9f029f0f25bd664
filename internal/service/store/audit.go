package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"
)

// An Audit says who changed what. It is written in the transaction of the
// change, and never changed itself.
type Audit struct {
	bun.BaseModel `bun:"table:audit"`

	ID        string `bun:",pk"`
	OrgID     string
	Actor     string // a person, a key, "command line" or "stripe"
	Action    string // "key.create"
	Object    string // the id of what was changed
	Detail    string // JSON, never with a secret
	RequestID string
	CreatedAt Time
}

// Audit adds to the log of the organisation.
func (o OrgTx) Audit(ctx context.Context, a Audit) error {
	a.ID, a.OrgID = cmp.Or(a.ID, NewID("aud_")), o.id
	_, err := o.db.NewInsert().Model(&a).Exec(ctx)
	return failed(err)
}

// AuditLog lists what was changed, the newest first.
func (o Org) AuditLog(ctx context.Context, page Page) (rows []Audit, total int, err error) {
	total, err = list(ctx, o.db.NewSelect().Model(&rows).Where("org_id = ?", o.id).Order("created_at DESC", "id DESC"), page, &rows)
	return rows, total, err
}
