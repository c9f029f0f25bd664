// Package billing knows what organisations pay for. Without a payment service
// plans are set by hand; with Stripe it is Stripe that says what was paid, and
// its events may come late, twice and in any order.
package billing

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// The providers.
const (
	Manual = "manual"
	Stripe = "stripe"
)

// free is the plan of who does not pay, and sold are those that an event may
// name.
const free = "free"

var sold = []string{free, "pro", "team", "enterprise"}

// The statuses of a subscription, by the words of Stripe.
const (
	trialing   = "trialing"
	active     = "active"
	pastDue    = "past_due"
	canceled   = "canceled"
	incomplete = "incomplete"
)

// Options say how payments are made. Without a key there are none.
type Options struct {
	Key           string            // of Stripe
	WebhookSecret string            // with which its events are signed
	APIBase       string            // of Stripe, if it is another one
	Prices        map[string]string // of plans, by Stripe's names
	Egress        *egress.Client
	Now           func() time.Time
}

// A Service changes what organisations pay for. It is safe for concurrent use.
type Service struct {
	store *store.Store
	opt   Options
}

// New returns a service.
func New(st *store.Store, opt Options) *Service { return &Service{st, opt} }

// provider is who says what was paid.
func (s *Service) provider() string {
	if s.opt.Key != "" {
		return Stripe
	}
	return Manual
}

// Get returns the subscription of an organisation, or nil.
func (s *Service) Get(ctx context.Context, org string) (*store.Subscription, error) {
	sub, err := s.store.Org(org).Subscription(ctx)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &sub, nil
}

// Set gives an organisation a plan by hand. Where payments are made, nobody but
// staff raises a limit in this way.
func (s *Service) Set(ctx context.Context, by *account.Actor, org, plan, status string) (*store.Subscription, error) {
	var out store.Subscription
	err := s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		o, err := tx.Org(org).Get(ctx)
		if err != nil {
			return err
		}
		effective := planFor(plan, status)
		if s.provider() == Stripe && !by.May(account.Staff) {
			if raises, err := s.raises(ctx, tx, o.Plan, plan); err != nil { // a cancelled one too: a payment may bring it back
				return err
			} else if raises {
				return fault.New(fault.Forbidden, "a plan with more is paid for first").Try("start with POST /billing/checkout")
			}
		}
		now := store.At(s.opt.Now())
		out, err = tx.Org(org).Subscription(ctx)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if fault.Is(err, fault.NotFound) {
			out = store.Subscription{CreatedAt: now}
		}
		out.Provider, out.Plan, out.Status, out.UpdatedAt, out.CancelAtPeriodEnd = s.provider(), plan, status, now, false
		if err := tx.Org(org).PutSubscription(ctx, &out); err != nil {
			return err
		}
		if err := tx.Org(org).SetPlan(ctx, effective); err != nil {
			return err
		}
		return account.Log(ctx, tx, org, by.Name(), by.RequestID, "subscription.set", out.ID, map[string]any{"plan": plan, "status": status}, now.Time)
	})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// planFor is the plan by which an organisation is limited: who has cancelled has
// the free one.
func planFor(plan, status string) string {
	if status == canceled {
		return free
	}
	return plan
}

// raises says whether any limit of one plan is above that of another.
func (s *Service) raises(ctx context.Context, tx *store.Tx, from, to string) (bool, error) {
	a, err := tx.Plan(ctx, from)
	if err != nil {
		return false, err
	}
	b, err := tx.Plan(ctx, to)
	if fault.Is(err, fault.NotFound) {
		return false, fault.New(fault.Invalid, "plan: there is no plan %q", to).In("plan", to)
	}
	if err != nil {
		return false, err
	}
	limits := func(p store.Plan) []int64 {
		return []int64{p.Minute, p.Hour, p.Month, p.Targets, p.Scans, p.Monitors, p.ReviewMonth}
	}
	older := limits(a)
	for i, now := range limits(b) {
		if before := older[i]; before != store.Unlimited && (now == store.Unlimited || now > before) {
			return true, nil
		}
	}
	return b.Analyses && !a.Analyses || slices.ContainsFunc(a.Withheld, func(f string) bool { return !slices.Contains(b.Withheld, f) }), nil
}

// nameOf is by what an organisation is called at the payment service.
func nameOf(o store.Organization) string { return cmp.Or(o.Name, o.Slug) }
