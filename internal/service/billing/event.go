package billing

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/stripe/stripe-go/v86"
	"github.com/stripe/stripe-go/v86/webhook"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// tolerance is how old a signature may be.
const tolerance = 300 * time.Second

// object is what is read of what an event is about: a checkout session, an
// invoice or a subscription. Which fields are there depends on the version of
// the API by which an account speaks.
type object struct {
	ID                string            `json:"id"`
	Customer          reference         `json:"customer"`
	Subscription      reference         `json:"subscription"`
	ClientReferenceID string            `json:"client_reference_id"`
	Status            string            `json:"status"`
	CancelAtPeriodEnd bool              `json:"cancel_at_period_end"`
	CurrentPeriodEnd  int64             `json:"current_period_end"`
	Metadata          map[string]string `json:"metadata"`

	Items struct {
		Data []struct {
			CurrentPeriodEnd int64 `json:"current_period_end"`
			Price            struct {
				ID string `json:"id"`
			} `json:"price"`
		} `json:"data"`
	} `json:"items"`
	Lines struct {
		Data []struct {
			Metadata map[string]string `json:"metadata"`
			Price    struct {
				ID string `json:"id"`
			} `json:"price"`
			Pricing struct {
				PriceDetails struct {
					Price string `json:"price"`
				} `json:"price_details"`
			} `json:"pricing"`
			Period struct {
				End int64 `json:"end"`
			} `json:"period"`
		} `json:"data"`
	} `json:"lines"`
	Parent struct {
		SubscriptionDetails struct {
			Metadata     map[string]string `json:"metadata"`
			Subscription reference         `json:"subscription"`
		} `json:"subscription_details"`
	} `json:"parent"`
}

// A reference is an object or its id alone.
type reference string

// UnmarshalJSON reads both.
func (r *reference) UnmarshalJSON(data []byte) error {
	var id string
	if json.Unmarshal(data, &id) == nil {
		*r = reference(id)
		return nil
	}
	var o struct {
		ID string `json:"id"`
	}
	err := json.Unmarshal(data, &o)
	*r = reference(o.ID)
	return err
}

// Event obeys an event of Stripe, whose signature stands in the header. One that
// came before, or is older than the last that was obeyed, changes nothing.
func (s *Service) Event(ctx context.Context, body []byte, signature string) error {
	if s.opt.WebhookSecret == "" {
		return fault.New(fault.Invalid, "no events are expected: billing is off on this server")
	}
	e, err := webhook.ConstructEventWithOptions(body, signature, s.opt.WebhookSecret, webhook.ConstructEventOptions{
		Tolerance: tolerance, IgnoreAPIVersionMismatch: true, // what is read is the same in all versions
	})
	if err != nil {
		return fault.New(fault.Invalid, "the signature is not right").Because(err)
	}
	if e.ID == "" || e.Data == nil {
		return fault.New(fault.Invalid, "not an event")
	}
	var o object
	if err := json.Unmarshal(e.Data.Raw, &o); err != nil {
		return fault.New(fault.Invalid, "an event about nothing that is known").Because(err)
	}
	return s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		created := store.At(time.Unix(e.Created, 0))
		isNew, err := tx.RecordBillingEvent(ctx, &store.BillingEvent{ID: e.ID, Kind: string(e.Type), CreatedAt: created, ReceivedAt: store.At(s.opt.Now())})
		if err != nil || !isNew {
			return err
		}
		return s.obey(ctx, tx, e.Type, created, &o)
	})
}

// obey changes the subscription that an event is about.
func (s *Service) obey(ctx context.Context, tx *store.Tx, kind stripe.EventType, created store.Time, o *object) error {
	switch kind {
	case stripe.EventTypeCheckoutSessionCompleted, stripe.EventTypeInvoicePaid, stripe.EventTypeCustomerSubscriptionUpdated, stripe.EventTypeCustomerSubscriptionDeleted:
	default:
		return nil
	}
	org, err := s.orgOf(ctx, tx, o)
	if err != nil || org == nil {
		return err
	}
	now := store.At(s.opt.Now())
	sub, err := tx.Org(org.ID).Subscription(ctx)
	switch {
	case fault.Is(err, fault.NotFound):
		sub = store.Subscription{Plan: org.Plan, CreatedAt: now}
	case err != nil:
		return err
	case created.Before(sub.EventAt.Time):
		return nil
	case kind != stripe.EventTypeCheckoutSessionCompleted && kind != stripe.EventTypeInvoicePaid && sub.ProviderID != "" && sub.ProviderID != o.ID && sub.Status != canceled:
		return nil // about one that was replaced
	}
	sub.Provider, sub.EventAt, sub.UpdatedAt = Stripe, created, now
	sub.Plan = cmp.Or(s.planOf(o), sub.Plan)
	sub.Customer = cmp.Or(string(o.Customer), sub.Customer)
	sub.ProviderID = cmp.Or(string(o.Subscription), string(o.Parent.SubscriptionDetails.Subscription), sub.ProviderID)
	if end := periodEnd(o); end > 0 {
		sub.CurrentPeriodEnd = store.At(time.Unix(end, 0))
	}
	switch kind {
	case stripe.EventTypeCheckoutSessionCompleted, stripe.EventTypeInvoicePaid:
		sub.Status = active
	case stripe.EventTypeCustomerSubscriptionUpdated:
		sub.ProviderID, sub.Status, sub.CancelAtPeriodEnd = o.ID, statusOf(o.Status), o.CancelAtPeriodEnd
	case stripe.EventTypeCustomerSubscriptionDeleted:
		sub.ProviderID, sub.Status = o.ID, canceled
	}
	if err := tx.Org(org.ID).PutSubscription(ctx, &sub); err != nil {
		return err
	}
	plan := planFor(sub.Plan, sub.Status)
	if sub.Status == incomplete { // nothing is paid yet, and nothing is taken away
		plan = org.Plan
	}
	if err := tx.Org(org.ID).SetPlan(ctx, plan); err != nil {
		return err
	}
	return account.Log(ctx, tx, org.ID, Stripe, "", "subscription."+string(kind), sub.ID, map[string]any{"plan": sub.Plan, "status": sub.Status}, now.Time)
}

// orgOf returns the organisation that an event is about, or nil if it is none
// of ours.
func (s *Service) orgOf(ctx context.Context, tx *store.Tx, o *object) (*store.Organization, error) {
	ids := []string{o.Metadata["orgId"], o.Parent.SubscriptionDetails.Metadata["orgId"], o.ClientReferenceID}
	for _, l := range o.Lines.Data {
		ids = append(ids, l.Metadata["orgId"])
	}
	if sub, err := tx.SubscriptionByCustomer(ctx, string(o.Customer)); err == nil {
		ids = append(ids, sub.OrgID)
	} else if !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	for _, id := range ids {
		if id == "" {
			continue
		}
		org, err := tx.Org(id).Get(ctx)
		if err == nil {
			return &org, nil
		}
		if !fault.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	return nil, nil
}

// planOf returns the plan that an event names, itself or by its price, or
// nothing.
func (s *Service) planOf(o *object) string {
	named := cmp.Or(o.Metadata["plan"], o.Parent.SubscriptionDetails.Metadata["plan"])
	var prices []string
	for _, i := range o.Items.Data {
		prices = append(prices, i.Price.ID)
	}
	for _, l := range o.Lines.Data {
		named = cmp.Or(named, l.Metadata["plan"])
		prices = append(prices, l.Price.ID, l.Pricing.PriceDetails.Price)
	}
	if slices.Contains(sold, named) {
		return named
	}
	for _, price := range prices {
		for plan, p := range s.opt.Prices {
			if p == price {
				return plan
			}
		}
	}
	return ""
}

func periodEnd(o *object) (end int64) {
	end = o.CurrentPeriodEnd
	for _, i := range o.Items.Data {
		end = max(end, i.CurrentPeriodEnd)
	}
	for _, l := range o.Lines.Data {
		end = max(end, l.Period.End)
	}
	return end
}

// statusOf returns one of our statuses for one of Stripe's.
func statusOf(status string) string {
	switch status {
	case trialing, active, pastDue, canceled, incomplete:
		return status
	case "unpaid", "paused":
		return pastDue
	}
	return canceled // "incomplete_expired"
}
