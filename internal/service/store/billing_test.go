package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

func TestSubscriptions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org, other := makeOrg(t, st, "a"), makeOrg(t, st, "b")
		if _, err := st.Org(org).Subscription(t.Context()); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want not found", err)
		}
		want := store.Subscription{Provider: "manual", Plan: "pro", Status: "trialing", CreatedAt: now, UpdatedAt: now}
		put := func() {
			write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).PutSubscription(ctx, &want) })
		}
		check := func() {
			t.Helper()
			if got, err := st.Org(org).Subscription(t.Context()); err != nil || !cmp.Equal(got, want) {
				t.Errorf("%v, %s", err, cmp.Diff(want, got))
			}
		}
		put()
		check()
		first := want.ID
		if _, err := st.SubscriptionByCustomer(t.Context(), ""); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want nobody for no customer", err)
		}
		want = store.Subscription{
			Provider: "stripe", Plan: "team", Status: "active", Customer: "cus_1", ProviderID: "sub_stripe", CancelAtPeriodEnd: true,
			CurrentPeriodEnd: after(99), EventAt: after(5), CreatedAt: after(6), UpdatedAt: after(7),
		}
		put()
		if want.ID != first || want.CreatedAt != now {
			t.Errorf("the second one is %s of %v; want %s of %v", want.ID, want.CreatedAt, first, now)
		}
		check()
		if got, err := st.SubscriptionByCustomer(t.Context(), "cus_1"); err != nil || got.OrgID != org {
			t.Errorf("got %+v, %v; want that of %s", got, err, org)
		}
		if _, err := st.Org(other).Subscription(t.Context()); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want none of another", err)
		}
	})
}

func TestBillingEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		var created atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				var is bool
				if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) (err error) {
					is, err = tx.RecordBillingEvent(ctx, &store.BillingEvent{ID: "evt_1", Kind: "invoice.paid", CreatedAt: now, ReceivedAt: after(1)})
					return err
				}); err != nil {
					t.Error(err)
				}
				if is {
					created.Add(1)
				}
			})
		}
		wg.Wait()
		if created.Load() != 1 {
			t.Errorf("one event was new %d times", created.Load())
		}
	})
}

func TestSettings(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		if v, found, err := st.Setting(t.Context(), "session-key"); err != nil || found || v != "" {
			t.Errorf("got %q, %t, %v; want nothing", v, found, err)
		}
		var values sync.Map
		var wg sync.WaitGroup
		for _, first := range []string{"a", "b", "c", "d"} {
			wg.Go(func() {
				if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
					v, err := tx.SettleSetting(ctx, "session-key", first)
					values.Store(v, true)
					return err
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		v, found, err := st.Setting(t.Context(), "session-key")
		if _, ok := values.Load(v); err != nil || !found || !ok {
			t.Errorf("got %q, %t, %v", v, found, err)
		}
		n := 0
		values.Range(func(_, _ any) bool { n++; return true })
		if n != 1 {
			t.Errorf("%d values were settled, want one", n)
		}
	})
}
