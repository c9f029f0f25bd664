package app

import (
	"context"

	"github.com/loupe-sec/loupe/internal/service/billing"
)

// Subscription returns what an organisation pays for, or nil.
func (s *Server) Subscription(ctx context.Context, by *Actor, org string) (*Subscription, error) {
	if err := s.own(ctx, by, org); err != nil {
		return nil, err
	}
	return s.billing.Get(ctx, org)
}

// SetSubscription gives an organisation a plan by hand.
func (s *Server) SetSubscription(ctx context.Context, by *Actor, org, plan, status string) (*Subscription, error) {
	if err := s.own(ctx, by, org); err != nil {
		return nil, err
	}
	sub, err := s.billing.Set(ctx, by, org, plan, status)
	s.accounts.Forget() // plans work at once
	return sub, err
}

// Checkout begins a payment for a plan of the organisation of who asks. base is
// that of links to this server.
func (s *Server) Checkout(ctx context.Context, by *Actor, plan, base string) (*billing.Checkout, error) {
	return s.billing.Start(ctx, by, plan, base)
}

// BillingEvent obeys an event of the payment service.
func (s *Server) BillingEvent(ctx context.Context, body []byte, signature string) error {
	err := s.billing.Event(ctx, body, signature)
	s.accounts.Forget()
	return err
}
