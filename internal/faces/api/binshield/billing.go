package binshield

import (
	"context"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/service/app"
)

func newSubscription(s *app.Subscription) Subscription {
	return Subscription{
		ID: s.ID, OrgID: s.OrgID, Provider: s.Provider, Plan: s.Plan, Status: s.Status, CurrentPeriodEnd: stamp(s.CurrentPeriodEnd.Time),
		CancelAtPeriodEnd: s.CancelAtPeriodEnd, CreatedAt: stamp(s.CreatedAt.Time), UpdatedAt: stamp(s.UpdatedAt.Time),
	}
}

func (h handler) subscription(ctx context.Context, in *OrgPath) (Items[Subscription], error) {
	out := Items[Subscription]{Items: []Subscription{}}
	s, err := h.app.Subscription(ctx, dialect.Actor(ctx), in.Org)
	if s != nil {
		out.Items = append(out.Items, newSubscription(s))
	}
	return out, err
}

type setSubscriptionIn struct {
	OrgPath
	Body struct {
		Plan   string `json:"plan" enum:"free,pro,team,enterprise" doc:"what it may do"`
		Status string `json:"status" enum:"trialing,active,past_due,canceled,incomplete" doc:"how it stands"`
	}
}

func (h handler) setSubscription(ctx context.Context, in *setSubscriptionIn) (Subscription, error) {
	s, err := h.app.SetSubscription(ctx, dialect.Actor(ctx), in.Org, in.Body.Plan, in.Body.Status)
	if err != nil {
		return Subscription{}, err
	}
	return newSubscription(s), nil
}

type checkoutIn struct {
	Body struct {
		Plan string `json:"plan" enum:"pro,team,enterprise" doc:"what it may do"`
	}
}

func (h handler) checkout(ctx context.Context, in *checkoutIn) (Checkout, error) {
	c, err := h.app.Checkout(ctx, dialect.Actor(ctx), in.Body.Plan, dialect.Link(ctx, ""))
	if err != nil {
		return Checkout{}, err
	}
	return Checkout{CheckoutURL: c.URL, CustomerID: c.Customer, SubscriptionID: c.Subscription, Plan: in.Body.Plan, Status: "pending"}, nil
}

type webhookIn struct {
	Signature string `header:"stripe-signature" doc:"of the payment service"`
	RawBody   []byte `contentType:"application/json"`
}

func (h handler) webhook(ctx context.Context, in *webhookIn) (Done, error) {
	return done, h.app.BillingEvent(ctx, in.RawBody, in.Signature)
}
