package billing_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v86/webhook"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/billing"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

const secret = "whsec_for_tests"

var prices = map[string]string{"pro": "price_pro", "team": "price_team"}

// world is an organisation with a plan, and who manages it.
type world struct {
	store   *store.Store
	billing *billing.Service
	org     store.Organization
	admin   *account.Actor
}

func newWorld(t *testing.T, st *store.Store, opt billing.Options, plan string) world {
	t.Helper()
	opt.Now = time.Now
	if opt.Egress == nil {
		opt.Egress = egress.New(egress.Options{AllowPrivate: true})
		t.Cleanup(opt.Egress.Close)
	}
	org, err := account.New(st, time.Now).CreateOrg(t.Context(), "Ashlr AI", "", plan)
	if err != nil {
		t.Fatal(err)
	}
	admin := &account.Actor{OrgID: org.ID, KeyID: "key_a", Role: account.Administrator, Scopes: []account.Scope{account.Admin}}
	return world{st, billing.New(st, opt), org, admin}
}

// plan is by which plan the organisation is limited now.
func (w world) plan(t *testing.T) string {
	t.Helper()
	o, err := w.store.Org(w.org.ID).Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o.Plan
}

func TestByHand(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st, billing.Options{}, "free")
		if sub, err := w.billing.Get(t.Context(), w.org.ID); sub != nil || err != nil {
			t.Errorf("before the first: %v, %v; want none", sub, err)
		}
		first, err := w.billing.Set(t.Context(), w.admin, w.org.ID, "team", "active")
		if err != nil || first.Provider != "manual" || first.Plan != "team" || w.plan(t) != "team" {
			t.Fatalf("set: %+v, %v; the plan is %s", first, err, w.plan(t))
		}
		again, err := w.billing.Set(t.Context(), w.admin, w.org.ID, "team", "canceled")
		if err != nil || again.ID != first.ID || again.CreatedAt != first.CreatedAt || again.Status != "canceled" || w.plan(t) != "free" {
			t.Errorf("cancelled: %+v, %v; the plan is %s", again, err, w.plan(t))
		}
		if _, err := w.billing.Start(t.Context(), w.admin, "pro", "https://loupe.example"); !fault.Is(err, fault.Unsupported) {
			t.Errorf("checkout = %v; want that billing is off", err)
		}
		if err := w.billing.Event(t.Context(), []byte(`{}`), ""); !fault.Is(err, fault.Invalid) {
			t.Errorf("event = %v; want it refused", err)
		}
	})
}

// Where Stripe says what was paid, only staff raises a limit by hand.
func TestByHandWithStripe(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st, billing.Options{Key: "sk_test_x"}, "pro")
		if _, err := w.billing.Set(t.Context(), w.admin, w.org.ID, "team", "active"); !fault.Is(err, fault.Forbidden) || w.plan(t) != "pro" {
			t.Errorf("raised: %v; the plan is %s", err, w.plan(t))
		}
		if sub, err := w.billing.Set(t.Context(), w.admin, w.org.ID, "free", "active"); err != nil || sub.Provider != "stripe" || w.plan(t) != "free" {
			t.Errorf("lowered: %+v, %v; the plan is %s", sub, err, w.plan(t))
		}
		if _, err := w.billing.Set(t.Context(), w.admin, w.org.ID, "enterprise", "canceled"); !fault.Is(err, fault.Forbidden) {
			t.Errorf("a cancelled plan with more, which a payment would bring back: %v", err)
		}
		staff := *w.admin
		staff.Scopes = []account.Scope{account.Staff}
		if _, err := w.billing.Set(t.Context(), &staff, w.org.ID, "enterprise", "active"); err != nil || w.plan(t) != "enterprise" {
			t.Errorf("raised by staff: %v; the plan is %s", err, w.plan(t))
		}
	})
}

// fake is as much of Stripe as a checkout needs, and remembers what it was told.
type fake struct {
	mu        sync.Mutex
	customers map[string]string // by idempotency key
	sessions  []url.Values
	fail      bool
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Header.Get("Authorization") != "Bearer sk_test_key":
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"type":"invalid_request_error","message":"Invalid API Key provided: sk_test_key"}}`)
	case f.fail:
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"type":"invalid_request_error","message":"No such price: sk_test_key"}}`)
	case r.URL.Path == "/v1/customers":
		key := r.Header.Get("Idempotency-Key")
		if f.customers[key] == "" {
			f.customers[key] = fmt.Sprintf("cus_%d", len(f.customers)+1)
		}
		fmt.Fprintf(w, `{"id":%q,"object":"customer"}`, f.customers[key])
	case r.URL.Path == "/v1/checkout/sessions":
		f.sessions = append(f.sessions, form)
		fmt.Fprintf(w, `{"id":"cs_%d","object":"checkout.session","url":"https://pay.example/cs_%d"}`, len(f.sessions), len(f.sessions))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func TestCheckout(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		f := &fake{customers: map[string]string{}}
		server := httptest.NewServer(f)
		defer server.Close()
		w := newWorld(t, st, billing.Options{Key: "sk_test_key", WebhookSecret: secret, APIBase: server.URL, Prices: prices}, "free")
		c, err := w.billing.Start(t.Context(), w.admin, "pro", "https://loupe.example")
		if err != nil {
			t.Fatal(err)
		}
		if c.URL != "https://pay.example/cs_1" || c.Customer != "cus_1" || !strings.HasPrefix(c.Subscription, "sub_") {
			t.Errorf("checkout = %+v", c)
		}
		want := map[string]string{
			"mode": "subscription", "customer": "cus_1", "client_reference_id": w.org.ID, "line_items[0][price]": "price_pro",
			"metadata[orgId]": w.org.ID, "metadata[plan]": "pro", "subscription_data[metadata][orgId]": w.org.ID, "subscription_data[metadata][plan]": "pro",
		}
		for name, value := range want {
			if got := f.sessions[0].Get(name); got != value {
				t.Errorf("Stripe was told %s = %q; want %q", name, got, value)
			}
		}
		if w.plan(t) != "free" {
			t.Errorf("the plan is %s before anything is paid", w.plan(t))
		}
		again, err := w.billing.Start(t.Context(), w.admin, "team", "https://loupe.example")
		if err != nil || again.Customer != "cus_1" || again.Subscription != c.Subscription {
			t.Errorf("second checkout = %+v, %v; want the same customer", again, err)
		}
		if _, err := w.billing.Start(t.Context(), w.admin, "enterprise", ""); !fault.Is(err, fault.Unsupported) {
			t.Errorf("a plan without a price = %v", err)
		}
		f.fail = true
		if _, err := w.billing.Start(t.Context(), w.admin, "pro", ""); !fault.Is(err, fault.Unavailable) || strings.Contains(fmt.Sprintf("%v %+v", err, err), "sk_test_key") {
			t.Errorf("a refusal of Stripe = %v; want a fault without the key", err)
		}
	})
}

// event returns an event of Stripe, and its signature.
func event(id, kind string, created time.Time, object map[string]any) (body []byte, signature string) {
	body, err := json.Marshal(map[string]any{
		"id": id, "object": "event", "type": kind, "created": created.Unix(), "api_version": "2024-06-20", "data": map[string]any{"object": object},
	})
	if err != nil {
		panic(err)
	}
	signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret})
	return body, signed.Header
}

func TestEvents(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st, billing.Options{Key: "sk", WebhookSecret: secret, Prices: prices}, "free")
		send := func(id, kind string, after time.Duration, object map[string]any) {
			t.Helper()
			body, signature := event(id, kind, start.Add(after), object)
			if err := w.billing.Event(t.Context(), body, signature); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
		}
		expect := func(what, plan, status string) {
			t.Helper()
			sub, err := w.billing.Get(t.Context(), w.org.ID)
			if err != nil || sub.Status != status || w.plan(t) != plan {
				t.Errorf("%s: %+v, %v, limited by %s; want %s by %s", what, sub, err, w.plan(t), status, plan)
			}
		}
		send("evt_1", "checkout.session.completed", 0, map[string]any{"id": "cs_1", "client_reference_id": w.org.ID, "customer": "cus_1", "subscription": "sub_s", "metadata": map[string]string{"plan": "pro"}})
		expect("paid", "pro", "active")
		send("evt_2", "customer.subscription.updated", time.Minute, map[string]any{
			"id": "sub_s", "customer": map[string]any{"id": "cus_1"}, "status": "past_due", "cancel_at_period_end": true,
			"items": map[string]any{"data": []any{map[string]any{"current_period_end": start.AddDate(0, 1, 0).Unix(), "price": map[string]any{"id": "price_team"}}}},
		})
		expect("another plan by its price, of a customer", "team", "past_due")
		if sub, _ := w.billing.Get(t.Context(), w.org.ID); !sub.CancelAtPeriodEnd || !sub.CurrentPeriodEnd.Equal(start.AddDate(0, 1, 0)) || sub.ProviderID != "sub_s" {
			t.Errorf("the subscription is %+v", sub)
		}
		send("evt_2", "customer.subscription.deleted", 2*time.Minute, map[string]any{"id": "sub_s", "customer": "cus_1"})
		expect("an id that came before", "team", "past_due")
		send("evt_3", "customer.subscription.deleted", -time.Minute, map[string]any{"id": "sub_s", "customer": "cus_1"})
		expect("an event of before", "team", "past_due")
		send("evt_4", "invoice.paid", 2*time.Minute, map[string]any{"id": "in_1", "customer": "cus_1"})
		expect("paid again", "team", "active")
		send("evt_5", "invoice.payment_failed", 3*time.Minute, map[string]any{"id": "in_2", "customer": "cus_1"})
		send("evt_6", "invoice.paid", 3*time.Minute, map[string]any{"id": "in_3", "customer": "cus_of_somebody"})
		expect("what is not known", "team", "active")
		send("evt_old", "customer.subscription.deleted", 3*time.Minute, map[string]any{"id": "sub_replaced", "customer": "cus_1"})
		expect("the end of a subscription that was replaced", "team", "active")
		send("evt_7", "customer.subscription.updated", 4*time.Minute, map[string]any{"id": "sub_s", "customer": "cus_1", "status": "incomplete", "metadata": map[string]string{"plan": "pro"}})
		expect("not paid yet", "team", "incomplete")
		send("evt_8", "customer.subscription.deleted", 5*time.Minute, map[string]any{"id": "sub_s", "customer": "cus_1"})
		expect("ended", "free", "canceled")
	})
}

// Events end the same in whatever order they come, and however often.
func TestEventsInAnyOrder(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		var want *store.Subscription
		for round := range 12 {
			svc := newWorldNumber(t, st, round)
			meta := map[string]string{"orgId": svc.org.ID, "plan": "pro"}
			type sent struct{ body, signature string }
			var all []sent
			for i, kind := range []string{"checkout.session.completed", "invoice.paid", "customer.subscription.updated", "customer.subscription.updated"} {
				body, signature := event(fmt.Sprintf("evt_%d_%d", round, i), kind, start.Add(time.Duration(i)*time.Minute), map[string]any{
					"id": "sub_x", "customer": "cus_x", "status": []string{"", "", "active", "past_due"}[i], "metadata": meta, "subscription": "sub_x",
				})
				all = append(all, sent{string(body), signature}, sent{string(body), signature})
			}
			if round > 0 {
				rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			}
			for _, e := range all {
				if err := svc.billing.Event(t.Context(), []byte(e.body), e.signature); err != nil {
					t.Fatal(err)
				}
			}
			got, err := svc.billing.Get(t.Context(), svc.org.ID)
			if err != nil {
				t.Fatal(err)
			}
			got.ID, got.OrgID, got.CreatedAt, got.UpdatedAt = "", "", store.Time{}, store.Time{}
			if want == nil {
				want = got
			}
			if diff := cmp.Diff(want, got); diff != "" || svc.plan(t) != "pro" {
				t.Errorf("in another order, limited by %s (-in order +got):\n%s", svc.plan(t), diff)
			}
		}
	})
}

func newWorldNumber(t *testing.T, st *store.Store, n int) world {
	t.Helper()
	svc := account.New(st, time.Now)
	org, err := svc.CreateOrg(t.Context(), fmt.Sprintf("Org %d", n), "", "free")
	if err != nil {
		t.Fatal(err)
	}
	return world{st, billing.New(st, billing.Options{Key: "sk", WebhookSecret: secret, Prices: prices, Now: time.Now}), org, nil}
}

func TestSignature(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st, billing.Options{Key: "sk", WebhookSecret: secret}, "free")
		body, good := event("evt_1", "invoice.paid", time.Now(), map[string]any{"metadata": map[string]string{"orgId": w.org.ID, "plan": "team"}})
		old := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret, Timestamp: time.Now().Add(-301 * time.Second)})
		foreign := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: "whsec_other"})
		for name, test := range map[string]struct{ body, signature string }{
			"none": {string(body), ""}, "noise": {string(body), "noise"}, "another secret": {string(body), foreign.Header},
			"another body": {string(body) + " ", good}, "too old": {string(body), old.Header}, "no event": {"", good},
		} {
			if err := w.billing.Event(t.Context(), []byte(test.body), test.signature); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: %v; want it refused", name, err)
			}
		}
		if w.plan(t) != "free" {
			t.Errorf("the plan is %s", w.plan(t))
		}
		if err := w.billing.Event(t.Context(), body, good); err != nil || w.plan(t) != "team" {
			t.Errorf("with its signature: %v; the plan is %s", err, w.plan(t))
		}
	})
}
