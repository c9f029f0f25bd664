package billing

import (
	"context"
	"errors"

	"github.com/stripe/stripe-go/v86"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// A Checkout is where somebody pays.
type Checkout struct {
	URL          string
	Customer     string
	Subscription string // ours, until Stripe has a name for it
}

// client returns Stripe's client. Its requests go out by egress, once: what is
// asked for twice is told apart by a key.
func (s *Service) client() (*stripe.Client, error) {
	cfg := &stripe.BackendConfig{
		HTTPClient: s.opt.Egress.HTTPClient(), MaxNetworkRetries: stripe.Int64(2),
		LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull}, EnableTelemetry: stripe.Bool(false),
	}
	if s.opt.APIBase != "" {
		if err := s.opt.Egress.Trust(s.opt.APIBase); err != nil {
			return nil, err
		}
		cfg.URL = stripe.String(s.opt.APIBase)
	}
	return stripe.NewClient(s.opt.Key, stripe.WithBackends(stripe.NewBackendsWithConfig(cfg))), nil
}

// Start begins a payment for a plan, and returns where it is made. base is that
// of links to this server.
func (s *Service) Start(ctx context.Context, by *account.Actor, plan, base string) (*Checkout, error) {
	if s.provider() != Stripe {
		return nil, fault.New(fault.Unsupported, "billing is off on this server").Try("set a plan with POST /orgs/{org}/subscription, or set STRIPE_SECRET_KEY")
	}
	price := s.opt.Prices[plan]
	if price == "" {
		return nil, fault.New(fault.Unsupported, "the plan %s has no price on this server", plan)
	}
	org, err := s.store.Org(by.OrgID).Get(ctx)
	if err != nil {
		return nil, err
	}
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	sub, err := s.Get(ctx, org.ID)
	if err != nil {
		return nil, err
	}
	if sub == nil || sub.Customer == "" {
		if sub, err = s.newCustomer(ctx, client, by, org, plan); err != nil {
			return nil, err
		}
	}
	meta := map[string]string{"orgId": org.ID, "plan": plan}
	session, err := client.V1CheckoutSessions.Create(ctx, &stripe.CheckoutSessionCreateParams{
		Mode:              stripe.String(string(stripe.CheckoutSessionModeSubscription)),
		Customer:          stripe.String(sub.Customer),
		ClientReferenceID: stripe.String(org.ID),
		LineItems:         []*stripe.CheckoutSessionCreateLineItemParams{{Price: stripe.String(price), Quantity: stripe.Int64(1)}},
		SuccessURL:        stripe.String(base + "/billing?paid=" + plan),
		CancelURL:         stripe.String(base + "/billing"),
		Metadata:          meta,
		SubscriptionData:  &stripe.CheckoutSessionCreateSubscriptionDataParams{Metadata: meta},
	})
	if err != nil {
		return nil, refused(err)
	}
	return &Checkout{URL: session.URL, Customer: sub.Customer, Subscription: sub.ID}, nil
}

// newCustomer makes an organisation known to Stripe, and notes its name there.
func (s *Service) newCustomer(ctx context.Context, client *stripe.Client, by *account.Actor, org store.Organization, plan string) (*store.Subscription, error) {
	params := &stripe.CustomerCreateParams{Name: stripe.String(nameOf(org)), Metadata: map[string]string{"orgId": org.ID}}
	params.SetIdempotencyKey("loupe-customer-" + org.ID)
	customer, err := client.V1Customers.Create(ctx, params)
	if err != nil {
		return nil, refused(err)
	}
	var out store.Subscription
	err = s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		now := store.At(s.opt.Now())
		out, err = tx.Org(org.ID).Subscription(ctx)
		switch {
		case fault.Is(err, fault.NotFound):
			out = store.Subscription{Provider: Stripe, Plan: plan, Status: incomplete, CreatedAt: now}
		case err != nil:
			return err
		}
		out.Customer, out.UpdatedAt = customer.ID, now
		if err := tx.Org(org.ID).PutSubscription(ctx, &out); err != nil {
			return err
		}
		return account.Log(ctx, tx, org.ID, by.Name(), by.RequestID, "billing.checkout", out.ID, map[string]any{"plan": plan}, now.Time)
	})
	return &out, err
}

// refused turns an error of Stripe into one that may be shown. Its text may
// repeat a part of the key, and stays in the log.
func refused(err error) error {
	if e, ok := errors.AsType[*stripe.Error](err); ok {
		err = errors.New("stripe: " + string(e.Type) + " " + string(e.Code) + ", request " + e.RequestID)
	}
	return fault.New(fault.Unavailable, "the payment service did not start the checkout").Try("try again later, or tell the operator of this server").Because(err)
}
