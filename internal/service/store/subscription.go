package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"
)

// A Subscription is what an organisation pays for.
type Subscription struct {
	bun.BaseModel `bun:"table:subscription"`

	ID                string `bun:",pk"`
	OrgID             string
	Provider          string // manual, stripe
	Plan              string
	Status            string // trialing, active, past_due, canceled, incomplete, pending
	Customer          string // the provider's name for the organisation
	ProviderID        string // the provider's name for the subscription; empty until there is one
	CancelAtPeriodEnd bool
	CurrentPeriodEnd  Time
	EventAt           Time // of the newest event of the provider that was obeyed
	CreatedAt         Time
	UpdatedAt         Time
}

// Subscription returns the subscription of the organisation, if there is one.
func (o Org) Subscription(ctx context.Context) (Subscription, error) {
	var s Subscription
	err := one(ctx, o.db.NewSelect().Model(&s).Where("org_id = ?", o.id), "no subscription")
	return s, err
}

// PutSubscription makes s the subscription of the organisation. The id and the
// time of the first one stay, and are set in s.
func (o OrgTx) PutSubscription(ctx context.Context, s *Subscription) error {
	s.ID, s.OrgID = cmp.Or(s.ID, NewID("sub_")), o.id
	_, err := o.db.NewInsert().Model(s).On("CONFLICT (org_id) DO UPDATE").
		Set("provider = excluded.provider").Set("plan = excluded.plan").Set("status = excluded.status").
		Set("customer = excluded.customer").Set("provider_id = excluded.provider_id").
		Set("cancel_at_period_end = excluded.cancel_at_period_end").Set("current_period_end = excluded.current_period_end").
		Set("event_at = excluded.event_at").Set("updated_at = excluded.updated_at").
		Returning("id, created_at").Exec(ctx)
	return failed(err)
}

// SubscriptionByCustomer returns the subscription of a customer of the provider,
// the one that changed last if there are several.
func (r reads) SubscriptionByCustomer(ctx context.Context, customer string) (Subscription, error) {
	var s Subscription
	err := one(ctx, r.db.NewSelect().Model(&s).Where("customer = ?", customer).Where("customer <> ''").Order("updated_at DESC", "id DESC").Limit(1), "no subscription of customer %s", customer)
	return s, err
}
