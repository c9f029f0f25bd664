package notify_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/jobstest"
	"github.com/loupe-sec/loupe/internal/service/notify"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// clock is a time that tests move. It begins so far back that what is due by it
// is due by any clock.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now().Add(-1000 * time.Hour)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// world is an organisation whose messages are sent.
type world struct {
	*notify.Service
	store *store.Store
	jobs  *jobs.Queue
	org   string
	log   *logged
}

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func loopback(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// newWorld starts what sends messages. A message that fails is tried again at
// once, unless opt says otherwise.
func newWorld(t *testing.T, st *store.Store, opt notify.Options) world {
	t.Helper()
	if opt.Egress == nil {
		opt.Egress = egress.New(egress.Options{AllowPrivate: true, Resolve: loopback})
		t.Cleanup(opt.Egress.Close)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	w := world{notify.New(st, opt), st, nil, "", &logged{}}
	w.jobs = jobstest.Start(t, st, jobs.Options{
		Classes: map[jobs.Class]int{jobs.Deliver: 4}, Handlers: []jobs.Handler{w.Handler()},
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, nil)
	w.Use(w.jobs)
	org := store.Organization{Name: "a", Slug: "a", Plan: "free", CreatedAt: store.At(time.Now())}
	if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.CreateOrg(ctx, &org) }); err != nil {
		t.Fatal(err)
	}
	w.org = org.ID
	return w
}

func atOnce(int) time.Duration { return 0 }

const text = `{"type":"package.changed","text":"npm:a 1 → 2 “changed”","data":{"n":1}}`

// send sends a message, and returns its id.
func (w world) send(t *testing.T, d store.Delivery) string {
	t.Helper()
	d.SourceID, d.Event = "wl_a", "package.changed"
	if d.Body == "" {
		d.Body = text
	}
	err := w.store.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		d.ID = ""
		return w.Send(ctx, tx, w.org, &d)
	})
	if err != nil {
		t.Fatal(err)
	}
	return d.ID
}

func (w world) again(t *testing.T, id string) {
	t.Helper()
	err := w.store.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error { return w.Again(ctx, tx, w.org, id) })
	if err != nil {
		t.Fatal(err)
	}
}

func (w world) delivery(t *testing.T, id string) store.Delivery {
	t.Helper()
	d, err := w.store.DeliveryByID(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// until waits until a message is as it is to be.
func (w world) until(t *testing.T, id string, is func(d *store.Delivery) bool) store.Delivery {
	t.Helper()
	for end := time.Now().Add(jobstest.Patience); ; time.Sleep(10 * time.Millisecond) {
		d := w.delivery(t, id)
		if is(&d) {
			return d
		}
		if time.Now().After(end) {
			t.Fatalf("the message stays %+v\n%s", d, w.log)
		}
	}
}

func ended(d *store.Delivery) bool { return d.Status != store.DeliveryPending }

// received is a request that a receiver got.
type received struct {
	header http.Header
	body   string
}

// receiver answers with statuses, one after the other and the last for ever, and
// remembers what it got.
func receiver(t *testing.T, statuses ...int) (url string, got func() []received) {
	t.Helper()
	var mu sync.Mutex
	var all []received
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		all = append(all, received{r.Header.Clone(), string(body)})
		status := statuses[min(len(all), len(statuses))-1]
		mu.Unlock()
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []received {
		mu.Lock()
		defer mu.Unlock()
		return append([]received(nil), all...)
	}
}

// verify checks a message as its receiver does, by the text of Standard Webhooks
// 1.0: the signed content is the id, the time and the body with dots between them;
// the signatures are a list with spaces; the key of HMAC-SHA256 is the base64
// behind whsec_.
func verify(r received, key []byte, now time.Time) error {
	id, stamp := r.header.Get("webhook-id"), r.header.Get("webhook-timestamp")
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || id == "" || strings.Contains(id, ".") {
		return fmt.Errorf("id %q, time %q", id, stamp)
	}
	if age := now.Sub(time.Unix(at, 0)); age.Abs() > 5*time.Minute {
		return fmt.Errorf("a message of %v ago", age)
	}
	for one := range strings.SplitSeq(r.header.Get("webhook-signature"), " ") {
		version, signature, _ := strings.Cut(one, ",")
		if version != "v1" {
			continue
		}
		given, err := base64.StdEncoding.DecodeString(signature)
		if err != nil {
			return err
		}
		h := hmac.New(sha256.New, key)
		io.WriteString(h, id+"."+stamp+"."+r.body)
		if hmac.Equal(given, h.Sum(nil)) {
			return nil
		}
	}
	return errors.New("no signature is right")
}

// TestVerify holds the verifier against the example of the reference libraries.
func TestVerify(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	r := received{http.Header{
		"Webhook-Id": {"msg_p5jXN8AQM9LWM0D4loKWxJek"}, "Webhook-Timestamp": {"1614265330"},
		"Webhook-Signature": {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}, `{"test": 2432232314}`}
	if err := verify(r, key, time.Unix(1614265330, 0)); err != nil {
		t.Error(err)
	}
	r.body += " "
	if verify(r, key, time.Unix(1614265330, 0)) == nil {
		t.Error("another body has the same signature")
	}
}

func TestWebhook(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st, notify.Options{})
		made := notify.NewSecret()
		madeKey, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(made, "whsec_"))
		if err != nil || len(madeKey) != 24 || notify.NewSecret() == made {
			t.Fatalf("NewSecret = %q, %v; want whsec_ and 24 random bytes", made, err)
		}
		for _, test := range []struct{ secret, key string }{
			{made, string(madeKey)},
			{"hunter2", "hunter2"},
			{"whsec_YWJjZA==", "abcd"},
			{"whsec_YWJjZA", "abcd"},
			{"whsec", "whsec"},
			{"bm90IGRlY29kZWQ=", "bm90IGRlY29kZWQ="},
		} {
			if err := notify.CheckSecret(test.secret); err != nil {
				t.Errorf("CheckSecret(%q) = %v", test.secret, err)
			}
			url, got := receiver(t, 204)
			id := w.send(t, store.Delivery{Channel: notify.Webhook, Destination: url + "/hook", Secret: test.secret})
			d := w.until(t, id, ended)
			if d.Status != store.DeliveryDelivered || d.ResponseStatus != 204 || d.Attempts != 1 || d.Error != "" || d.DeliveredAt.IsZero() || !d.NextAt.IsZero() {
				t.Errorf("the message is %+v", d)
			}
			all := got()
			if len(all) != 1 || all[0].body != text || all[0].header.Get("Content-Type") != "application/json" || all[0].header.Get("webhook-id") != id {
				t.Fatalf("the receiver got %+v; want %s once", all, id)
			}
			if err := verify(all[0], []byte(test.key), time.Now()); err != nil {
				t.Errorf("signed with %q: %v", test.secret, err)
			}
			if err := verify(all[0], []byte(test.key+"x"), time.Now()); err == nil {
				t.Error("any key will do")
			}
		}
		for _, secret := range []string{"whsec_", "whsec_====", "whsec_?", "a\nb", strings.Repeat("a", 201), "\xff"} {
			if err := notify.CheckSecret(secret); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "?") {
				t.Errorf("CheckSecret(%q) = %v", secret, err)
			}
		}
	})
}

func TestSlack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st, notify.Options{})
		url, got := receiver(t, 200)
		w.until(t, w.send(t, store.Delivery{Channel: notify.Slack, Destination: url, Secret: "hunter2"}), ended)
		all := got()
		if len(all) != 1 {
			t.Fatalf("%d messages", len(all))
		}
		var body map[string]any
		if err := json.Unmarshal([]byte(all[0].body), &body); err != nil || len(body) != 1 || body["text"] != "npm:a 1 → 2 “changed”" {
			t.Errorf("the receiver got %s; want the text alone", all[0].body)
		}
		if all[0].header.Get("webhook-signature") != "" {
			t.Error("it is signed")
		}
	})
}

// What is not a 2xx is tried again, under the same id and with a new time and
// signature. A redirect is not followed.
func TestRetries(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		c := newClock()
		w := newWorld(t, st, notify.Options{Now: c.Now, Backoff: atOnce})
		url, got := receiver(t, 500, 301, 307, 404, 429, 503, 400, 299)
		id := w.send(t, store.Delivery{Channel: notify.Webhook, Destination: url + "/hook", Secret: "hunter2"})
		d := w.until(t, id, ended)
		all := got()
		if d.Status != store.DeliveryDelivered || d.ResponseStatus != 299 || d.Attempts != len(all) || len(all) != 8 || d.Error != "" {
			t.Errorf("the message is %+v after %d attempts; want it delivered with the eighth", d, len(all))
		}
		for i, r := range all {
			if r.header.Get("webhook-id") != id {
				t.Errorf("attempt %d has the id %s; want %s", i+1, r.header.Get("webhook-id"), id)
			}
			if err := verify(r, []byte("hunter2"), c.Now()); err != nil {
				t.Errorf("attempt %d: %v", i+1, err)
			}
		}
	})
}

// A message is tried for three days at growing intervals, and no longer.
func TestLifetime(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		c := newClock()
		w := newWorld(t, st, notify.Options{Now: c.Now})
		arrived, answer := make(chan struct{}), make(chan struct{})
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			<-answer
			w.WriteHeader(500)
		}))
		defer s.Close()
		born := c.Now()
		id := w.send(t, store.Delivery{Channel: notify.Webhook, Destination: s.URL + "/T0/hunter2"})
		for attempt := 1; ; attempt++ {
			<-arrived
			d := w.delivery(t, id)
			if d.Status != store.DeliveryPending || d.Attempts != attempt-1 {
				t.Fatalf("before attempt %d: %+v", attempt, d)
			}
			if attempt > 1 {
				c.set(d.NextAt.Time)
			}
			answer <- struct{}{}
			d = w.until(t, id, func(d *store.Delivery) bool { return d.Attempts == attempt })
			age := c.Now().Sub(born)
			if d.Status == store.DeliveryDead {
				if age < 65*time.Hour || age >= 72*time.Hour || attempt < 12 || attempt > 20 {
					t.Errorf("given up after %d attempts in %v; want three days", attempt, age)
				}
				if !d.NextAt.IsZero() || d.ResponseStatus != 500 || !strings.Contains(d.Error, "answered 500") {
					t.Errorf("it is given up as %+v", d)
				}
				break
			}
			waits := []time.Duration{5 * time.Second, 30 * time.Second, 3 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour}
			least := waits[min(attempt, len(waits))-1]
			if wait := d.NextAt.Sub(c.Now()); wait < least-time.Millisecond || wait > least*6/5 {
				t.Errorf("after attempt %d: %v; want %v and up to a fifth more", attempt, wait, least)
			}
		}
		// Asked for again, it is tried as a new one.
		c.set(c.Now().Add(100 * time.Hour))
		w.again(t, id)
		<-arrived
		answer <- struct{}{}
		if d := w.until(t, id, func(d *store.Delivery) bool { return d.Attempts == 1 }); d.Status != store.DeliveryPending {
			t.Errorf("asked for again, it is %+v after one attempt; want another one", d)
		}
		<-arrived
		answer <- struct{}{}
		for _, secret := range []string{"hunter2", "/T0"} {
			if strings.Contains(w.log.String(), secret) || strings.Contains(w.delivery(t, id).Error, secret) {
				t.Errorf("%s is in the log or the error", secret)
			}
		}
		go func() { // what comes while this ends
			for range arrived {
				answer <- struct{}{}
			}
		}()
	})
}

// A receiver that is gone gets no more, unless somebody asks.
func TestGone(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st, notify.Options{Backoff: atOnce})
		url, got := receiver(t, 410, 200)
		id := w.send(t, store.Delivery{Channel: notify.Webhook, Destination: url})
		if d := w.until(t, id, ended); d.Status != store.DeliveryDead || d.Attempts != 1 || d.ResponseStatus != 410 || len(got()) != 1 {
			t.Errorf("after a 410: %+v, %d attempts", d, len(got()))
		}
		w.again(t, id)
		d := w.until(t, id, ended)
		if all := got(); d.Status != store.DeliveryDelivered || len(all) != 2 || all[1].header.Get("webhook-id") != id {
			t.Errorf("asked for again: %+v, %d attempts", d, len(all))
		}
		w.again(t, id) // what was delivered, too
		if d := w.until(t, id, ended); d.Status != store.DeliveryDelivered || d.Attempts != 1 || len(got()) != 3 {
			t.Errorf("asked for a third time: %+v, %d attempts", d, len(got()))
		}
		err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error { return w.Again(ctx, tx, "org_other", id) })
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("somebody else asks for it: %v", err)
		}
	})
}

// To ask again for what waits for its next attempt brings that forward, and does
// not double it.
func TestAgainWhileItWaits(t *testing.T) {
	st := storetest.Open(t, storetest.Options(t, store.SQLite)) // on one engine, as it takes a while
	w := newWorld(t, st, notify.Options{Backoff: func(int) time.Duration { return time.Second }})
	url, got := receiver(t, 500, 500, 200)
	id := w.send(t, store.Delivery{Channel: notify.Webhook, Destination: url})
	w.until(t, id, func(d *store.Delivery) bool { return d.Attempts == 1 })
	w.again(t, id)
	w.until(t, id, ended)
	for end := time.Now().Add(jobstest.Patience); ; time.Sleep(10 * time.Millisecond) {
		stats, err := w.jobs.Stats(t.Context())
		if err != nil || time.Now().After(end) {
			t.Fatalf("there is always a job: %+v, %v", stats, err)
		}
		if i := slices.IndexFunc(stats.Classes, func(c jobs.ClassStats) bool { return c.Class == jobs.Deliver }); stats.Classes[i].Waiting+stats.Classes[i].Scheduled+stats.Classes[i].Running == 0 {
			break
		}
	}
	if n := len(got()); n != 3 {
		t.Errorf("%d requests; want the first, the one that was asked for, and the one after that", n)
	}
}

// Who dies after a message was sent, and before that was written down, leaves it
// to others to send it again, under the same id.
func TestDeathAfterSending(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st, notify.Options{})
		var ids []string
		var mu sync.Mutex
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if ids = append(ids, r.Header.Get("webhook-id")); len(ids) > 1 {
				return
			}
			// What others do with the jobs of a process that they take for dead.
			err := st.Write(context.Background(), func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.Raw().NewRaw("UPDATE river_job SET state = 'available' WHERE kind = 'deliver' AND state = 'running'").Exec(ctx)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}))
		defer s.Close()
		id := w.send(t, store.Delivery{Channel: notify.Webhook, Destination: s.URL})
		d := w.until(t, id, ended)
		mu.Lock()
		defer mu.Unlock()
		if len(ids) != 2 || ids[0] != id || ids[1] != id || d.Attempts != 1 || d.Status != store.DeliveryDelivered {
			t.Errorf("sent as %v, noted as %+v; want %s twice, and noted once", ids, d, id)
		}
	})
}

// A job that never comes to an end leaves a message that is given up, and can be
// sent again.
func TestJobIsGivenUp(t *testing.T) {
	t.Parallel()
	st := storetest.Open(t, storetest.Options(t, store.SQLite)) // on one engine, as it takes a while
	w := newWorld(t, st, notify.Options{Backoff: func(int) time.Duration { panic("a mistake of ours") }})
	url, _ := receiver(t, 500)
	id := w.send(t, store.Delivery{Channel: notify.Webhook, Destination: url})
	if d := w.until(t, id, ended); d.Status != store.DeliveryDead || d.Error != "internal error" {
		t.Errorf("it is %+v; want it given up", d)
	}
}

// The address is judged when a message is sent, whatever it was when the
// destination was named.
func TestRebinding(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		var at atomic.Value
		at.Store("8.8.8.8")
		out := egress.New(egress.Options{Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(at.Load().(string))}, nil
		}})
		defer out.Close()
		w := newWorld(t, st, notify.Options{Egress: out, Backoff: func(int) time.Duration { return time.Hour }})
		url, got := receiver(t, 200)
		destination := strings.Replace(url, "http://127.0.0.1", "https://hook.example", 1) + "/T0/hunter2"
		if err := w.CheckDestination(t.Context(), notify.Webhook, destination); err != nil {
			t.Fatal(err)
		}
		at.Store("127.0.0.1")
		d := w.until(t, w.send(t, store.Delivery{Channel: notify.Webhook, Destination: destination}), func(d *store.Delivery) bool { return d.Attempts == 1 })
		if d.Status != store.DeliveryPending || !strings.Contains(d.Error, "refused") || strings.Contains(d.Error, "hunter2") || len(got()) > 0 {
			t.Errorf("it is %+v, and %d requests arrived", d, len(got()))
		}
	})
}

func TestCheckDestination(t *testing.T) {
	out := egress.New(egress.Options{Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no network") }})
	defer out.Close()
	s := notify.New(nil, notify.Options{Egress: out, Now: time.Now})
	for _, test := range []struct {
		channel, destination string
		ok                   bool
	}{
		{notify.Email, "security@example.com", true},
		{notify.Email, "a.b+c@sub.example.com", true},
		{notify.Email, "jürgen@bücher.example", true},
		{notify.Email, "", false},
		{notify.Email, "security", false},
		{notify.Email, "security@localhost", false},
		{notify.Email, "Security <security@example.com>", false},
		{notify.Email, "<security@example.com>", false},
		{notify.Email, "a@example.com, b@example.com", false},
		{notify.Email, "a@example.com\r\nBcc: b@example.com", false},
		{notify.Email, "a@example.com\n", false},
		{notify.Email, "\"a\r\nb\"@example.com", false},
		{notify.Email, "a@exam ple.com", false},
		{notify.Email, "https://example.com", false},
		{notify.Email, strings.Repeat("a", 250) + "@example.com", false},
		{notify.Slack, "https://hooks.example/services/T0/B0/x", true},
		{notify.Webhook, "https://hooks.example/", true},
		{notify.Webhook, "https://hooks.example/?a=b", true},
		{notify.Webhook, "http://hooks.example/", false},
		{notify.Webhook, "https://10.0.0.1/", false},
		{notify.Webhook, "security@example.com", false},
		{notify.Webhook, "https://hooks.example/\r\nX: y", false},
		{notify.Webhook, "https://hooks.example/" + strings.Repeat("a", 2000), false},
		{"sms", "https://hooks.example/", false},
		{"", "", false},
	} {
		if err := s.CheckDestination(t.Context(), test.channel, test.destination); (err == nil) != test.ok || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("CheckDestination(%q, %q) = %v; want it to pass: %v", test.channel, test.destination, err, test.ok)
		}
	}
}

// A receiver that keeps a connection open after its answer got the message. It
// gets to say no more than its status.
func TestAnswersAreNotRead(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st, notify.Options{})
		var written atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
			for r.Context().Err() == nil && written.Load() < 64<<20 {
				n, err := w.Write(make([]byte, 64<<10))
				if written.Add(int64(n)); err != nil {
					return
				}
			}
		}))
		defer s.Close()
		d := w.until(t, w.send(t, store.Delivery{Channel: notify.Webhook, Destination: s.URL}), ended)
		if d.Status != store.DeliveryDelivered || d.Attempts != 1 || written.Load() >= 64<<20 {
			t.Errorf("it is %+v; %d bytes of the answer were taken", d, written.Load())
		}
	})
}

// A receiver that says nothing is tried again. This takes the ten seconds that it
// has, and so is done on one engine.
func TestSilence(t *testing.T) {
	t.Parallel()
	st := storetest.Open(t, storetest.Options(t, store.SQLite))
	w := newWorld(t, st, notify.Options{Backoff: func(int) time.Duration { return time.Hour }})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else nobody sees that the client goes
		<-r.Context().Done()
	}))
	defer s.Close()
	d := w.until(t, w.send(t, store.Delivery{Channel: notify.Webhook, Destination: s.URL + "/hunter2?token=hunter2"}), func(d *store.Delivery) bool { return d.Attempts == 1 })
	if d.Status != store.DeliveryPending || d.ResponseStatus != 0 || !strings.Contains(d.Error, "does not answer in time") || strings.Contains(d.Error+w.log.String(), "hunter2") {
		t.Errorf("it is %+v\n%s", d, w.log)
	}
}
