package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// A DeliveryStatus says what became of a message.
type DeliveryStatus string

// The statuses.
const (
	DeliveryPending   DeliveryStatus = "pending"
	DeliveryDelivered DeliveryStatus = "delivered"
	DeliveryDead      DeliveryStatus = "dead" // given up
)

// A Delivery is a message to the outside. Its id is the same at every attempt.
type Delivery struct {
	bun.BaseModel `bun:"table:delivery"`

	ID             string `bun:",pk"`
	OrgID          string
	SourceID       string // the watchlist or webhook for which it is
	Event          string // "package.changed"
	Channel        string // email, slack, webhook
	Destination    string
	Secret         string // with which it is signed
	Subject        string // of a mail
	Body           string
	Status         DeliveryStatus
	Attempts       int // since it was made or asked for again
	ResponseStatus int // of the last attempt; 0 without an answer
	Error          string
	CreatedAt      Time
	NextAt         Time // of a pending one
	DeliveredAt    Time
}

// CreateDelivery adds a pending message, and gives it an id if it has none. It
// is due at NextAt, or else as soon as it is made.
func (o OrgTx) CreateDelivery(ctx context.Context, d *Delivery) error {
	d.ID, d.OrgID, d.Status = cmp.Or(d.ID, NewID("dlv_")), o.id, DeliveryPending
	if d.NextAt.IsZero() {
		d.NextAt = d.CreatedAt
	}
	_, err := o.db.NewInsert().Model(d).Exec(ctx)
	return failed(err)
}

// An Attempt is how sending a message went.
type Attempt struct {
	Status         DeliveryStatus // Pending to try again at NextAt
	ResponseStatus int
	Error          string // empty if it went well
	At             Time
	NextAt         Time
}

// RecordAttempt counts an attempt to send a pending message. It is a conflict
// if the message is not pending any more.
func (tx *Tx) RecordAttempt(ctx context.Context, id string, a Attempt) error {
	q := tx.db.NewUpdate().Model((*Delivery)(nil)).Set("attempts = attempts + 1").Set("status = ?", a.Status).
		Set("response_status = ?", a.ResponseStatus).Set("error = ?", a.Error)
	switch a.Status {
	case DeliveryPending:
		q = q.Set("next_at = ?", a.NextAt)
	case DeliveryDelivered:
		q = q.Set("next_at = NULL").Set("delivered_at = ?", a.At)
	default:
		q = q.Set("next_at = NULL")
	}
	n, err := count(q.Where("id = ?", id).Where("status = 'pending'").Exec(ctx))
	return some(n, err, fault.Conflict, "delivery %s is not pending", id)
}

// Redeliver makes a message pending once more, under its id.
func (o OrgTx) Redeliver(ctx context.Context, id string, at Time) error {
	n, err := count(o.db.NewUpdate().Model((*Delivery)(nil)).Set("status = ?", DeliveryPending).Set("attempts = 0").Set("next_at = ?", at).
		Where("org_id = ?", o.id).Where("id = ?", id).Exec(ctx))
	return some(n, err, fault.NotFound, "no delivery %s", id)
}

// Delivery returns a message of the organisation.
func (o Org) Delivery(ctx context.Context, id string) (Delivery, error) {
	var d Delivery
	err := one(ctx, o.db.NewSelect().Model(&d).Where("org_id = ?", o.id).Where("id = ?", id), "no delivery %s", id)
	return d, err
}

// Deliveries lists the messages of a watchlist or webhook, the newest first.
func (o Org) Deliveries(ctx context.Context, sourceID string, page Page) (rows []Delivery, total int, err error) {
	total, err = list(ctx, o.db.NewSelect().Model(&rows).Where("org_id = ?", o.id).Where("source_id = ?", sourceID).Order("created_at DESC", "id DESC"), page, &rows)
	return rows, total, err
}

// DeliveryByID returns a message of whatever organisation, for the worker that
// sends it.
func (r reads) DeliveryByID(ctx context.Context, id string) (Delivery, error) {
	var d Delivery
	err := one(ctx, r.db.NewSelect().Model(&d).Where("id = ?", id), "no delivery %s", id)
	return d, err
}

// DueDeliveries returns up to limit pending messages of all organisations whose
// time has come, the longest due first.
func (r reads) DueDeliveries(ctx context.Context, now Time, limit int) ([]Delivery, error) {
	var rows []Delivery
	err := r.db.NewSelect().Model(&rows).Where("status = 'pending'").Where("next_at <= ?", now).Order("next_at").Limit(int64(limit)).Scan(ctx)
	return rows, failed(err)
}
