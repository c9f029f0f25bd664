package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/app"
	"github.com/loupe-sec/loupe/internal/service/jobstest"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// told is what receivers of alerts got, by their paths.
type told struct {
	url string

	mu     sync.Mutex
	bodies map[string][]string
	ids    map[string]bool
}

func newTold(t *testing.T) *told {
	t.Helper()
	h := &told{bodies: map[string][]string{}, ids: map[string]bool{}}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.bodies[r.URL.Path] = append(h.bodies[r.URL.Path], string(body))
		h.ids[r.Header.Get("webhook-id")] = true
	}))
	t.Cleanup(s.Close)
	h.url = s.URL
	return h
}

// changes returns what one receiver heard, in short.
func (h *told) changes(path string) (out []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, body := range h.bodies[path] {
		var m struct {
			Text string
			Data *struct {
				PackageName, ToVersion string
				FromVersion            *string
			}
		}
		if json.Unmarshal([]byte(body), &m) != nil || m.Data == nil {
			out = append(out, m.Text)
			continue
		}
		from := "null"
		if m.Data.FromVersion != nil {
			from = *m.Data.FromVersion
		}
		out = append(out, m.Data.PackageName+" "+from+" "+m.Data.ToVersion)
	}
	return out
}

// expect waits until a receiver heard what it should.
func (h *told) expect(t *testing.T, path string, want ...string) {
	t.Helper()
	for end := time.Now().Add(jobstest.Patience); ; time.Sleep(10 * time.Millisecond) {
		got := h.changes(path)
		if slices.Equal(got, want) {
			return
		}
		if len(got) > len(want) || time.Now().After(end) {
			t.Fatalf("%s heard %q; want %q", path, got, want)
		}
	}
}

// keysOf are the fields of a JSON object.
func keysOf(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// Two servers on one database look after watched packages: what is new is
// analysed once, and each watchlist hears of it once.
func TestWatch(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		r, h := newRegistry(t), newTold(t)
		r.publish(t, "a", "1.0.0", "open")
		r.publish(t, "b", "1.0.0", "open")
		r.set(func(r *registry) { r.broken = "b" })
		opt := app.ServerOptions{Workers: 2, Poll: time.Second}
		s := p.open(t, opt)
		p.open(t, opt)
		by, other := member(t, s, "a", ""), member(t, s, "b", "")
		watch := func(by *app.Actor, path, channel string, req app.PackageRequest) (app.Watchlist, app.Watch) {
			t.Helper()
			list, err := s.CreateWatchlist(t.Context(), by, by.OrgID, app.WatchlistRequest{Name: "List " + path, Channel: channel, Destination: h.url + path})
			if err != nil {
				t.Fatal(err)
			}
			w, err := s.AddWatch(t.Context(), by, by.OrgID, list.ID, req)
			if err != nil {
				t.Fatal(err)
			}
			return list, w
		}
		list, all := watch(by, "/any", "webhook", npm("a", ""))
		pinned, _ := watch(by, "/pinned", "webhook", npm("a", "1.0.0"))
		watch(other, "/other", "slack", npm("a", ""))
		away, lost := watch(other, "/away", "webhook", npm("b", ""))

		// The first analysis has none before it.
		h.expect(t, "/any", "a null 1.0.0")
		h.expect(t, "/pinned", "a null 1.0.0")
		for end := time.Now().Add(jobstest.Patience); ; time.Sleep(10 * time.Millisecond) {
			w, err := p.store.WatchedPackage(t.Context(), target.NPM, "b")
			if err != nil {
				t.Fatal(err)
			}
			if w.Error != "" && !w.AskedAt.IsZero() && w.Version == "" {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("a registry that fails leaves %+v", w)
			}
		}

		// A new version.
		r.publish(t, "a", "2.0.0", "open, connect, send")
		r.set(func(r *registry) { r.broken = "" })
		h.expect(t, "/any", "a null 1.0.0", "a 1.0.0 2.0.0")
		h.expect(t, "/away", "b null 1.0.0")
		if n := r.requests("/a/-/2.0.0.tgz"); n != 1 {
			t.Errorf("two servers fetched it %d times", n)
		}
		var got map[string]any
		h.mu.Lock()
		body := h.bodies["/any"][1]
		h.mu.Unlock()
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		data := got["data"].(map[string]any)
		analysis, err := s.AnalysisOf(t.Context(), "npm", "a", "2.0.0")
		if err != nil {
			t.Fatal(err)
		}
		diff, err := s.Compare(t.Context(), "npm", "a", "1.0.0", "2.0.0")
		if err != nil {
			t.Fatal(err)
		}
		list2 := func(texts []string) (out []any) {
			out = []any{}
			for _, text := range texts {
				out = append(out, text)
			}
			return out
		}
		want := map[string]any{
			"orgId": by.OrgID, "watchlistId": list.ID, "watchlistName": "List /any", "ecosystem": "npm", "packageName": "a",
			"fromVersion": "1.0.0", "toVersion": "2.0.0", "riskScore": float64(analysis.RiskScore), "riskLevel": analysis.RiskLevel,
			"riskDelta": float64(diff.RiskDelta), "summary": diff.Summary, "addedBehaviors": list2(diff.AddedBehaviors), "removedBehaviors": list2(diff.RemovedBehaviors),
		}
		if d := cmp.Diff(want, data); d != "" || len(diff.AddedBehaviors) == 0 || diff.RiskDelta == 0 {
			t.Errorf("an alert says: %s", d)
		}
		if d := cmp.Diff([]string{"data", "text", "timestamp", "type"}, keysOf(got)); d != "" || got["type"] != "package.changed" {
			t.Errorf("an alert is %s: %s", body, d)
		}
		if at, err := time.Parse("2006-01-02T15:04:05.000Z", got["timestamp"].(string)); err != nil || time.Since(at) > time.Hour {
			t.Errorf("an alert of %v", got["timestamp"])
		}

		// Looked at anew, the same is not worth a word, and something else is.
		again := npm("a", "2.0.0")
		again.Force = true
		await(t, s, by, submit(t, s, by, again).ID)
		r.publish(t, "a", "2.0.0", "open")
		await(t, s, by, submit(t, s, by, again).ID)
		h.expect(t, "/any", "a null 1.0.0", "a 1.0.0 2.0.0", "a 2.0.0 2.0.0")
		old := npm("a", "1.0.0")
		old.Force = true
		await(t, s, by, submit(t, s, by, old).ID)
		r.publish(t, "a", "1.0.0", "open, connect, execve")
		r.publish(t, "a", "2.0.0", "open") // is the latest
		await(t, s, by, submit(t, s, by, old).ID)
		h.expect(t, "/pinned", "a null 1.0.0", "a 1.0.0 1.0.0")
		h.expect(t, "/any", "a null 1.0.0", "a 1.0.0 2.0.0", "a 2.0.0 2.0.0", "a 1.0.0 1.0.0")

		// Who is told by chat hears the text alone, as often.
		for end := time.Now().Add(jobstest.Patience); len(h.changes("/other")) < 4; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("by chat: %q", h.changes("/other"))
			}
		}
		if texts := h.changes("/other"); len(texts) != 4 || !strings.HasPrefix(texts[1], "npm:a changed from 1.0.0 to 2.0.0. Risk: ") {
			t.Errorf("by chat: %q", texts)
		}

		// Nobody is asked about what nobody watches, and no message came twice.
		for _, w := range []struct {
			by    *app.Actor
			list  app.Watchlist
			watch app.Watch
		}{{by, list, all}, {other, away, lost}} {
			if err := s.RemoveWatch(t.Context(), w.by, w.by.OrgID, w.list.ID, w.watch.ID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(300 * time.Millisecond) // what was asked is answered
		before, still := r.requests("/b"), r.requests("/a")
		for end := time.Now().Add(jobstest.Patience); r.requests("/a") < still+2 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		}
		if n := r.requests("/b") - before; n != 0 {
			t.Errorf("the registry was asked %d times about a package that nobody watches", n)
		}
		if err := s.TestWatchlist(t.Context(), by, by.OrgID, pinned.ID); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(jobstest.Patience); len(h.changes("/pinned")) < 3; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("a test does not arrive")
			}
		}
		rows, total, err := p.store.Org(by.OrgID).Deliveries(t.Context(), list.ID, store.Page{})
		if err != nil || total != 4 {
			t.Errorf("%d messages to one watchlist, %v", total, err)
		}
		for _, d := range rows {
			if h.mu.Lock(); !h.ids[d.ID] || d.Status != store.DeliveryDelivered || d.Event != "package.changed" {
				t.Errorf("message %+v", d)
			}
			h.mu.Unlock()
		}
	})
}

// A watch of one version has that analysed, and not the one of today.
func TestWatchOfOneVersion(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		r, h := newRegistry(t), newTold(t)
		r.publish(t, "a", "1.0.0", "open")
		r.publish(t, "a", "2.0.0", "open")
		s := p.open(t, app.ServerOptions{Workers: 2, Poll: time.Second})
		by := member(t, s, "a", "")
		list, err := s.CreateWatchlist(t.Context(), by, by.OrgID, app.WatchlistRequest{Name: "List", Channel: "webhook", Destination: h.url + "/pinned"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.AddWatch(t.Context(), by, by.OrgID, list.ID, npm("a", "1.0.0")); err != nil {
			t.Fatal(err)
		}
		h.expect(t, "/pinned", "a null 1.0.0")
		for asked := r.requests("/a"); r.requests("/a") < asked+2; time.Sleep(10 * time.Millisecond) {
		}
		if n := r.requests("/a/-/2.0.0.tgz"); n != 0 {
			t.Errorf("a version that nobody watches was fetched %d times", n)
		}
		h.expect(t, "/pinned", "a null 1.0.0")
	})
}

// An organisation has so many watchlists, and a plan watches so many packages.
func TestWatchingHasBounds(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		s := p.open(t, app.ServerOptions{})
		by := member(t, s, "Small", "free")
		create := func() (app.Watchlist, error) {
			return s.CreateWatchlist(t.Context(), by, by.OrgID, app.WatchlistRequest{Name: "List", Channel: "email", Destination: "a@b.example"})
		}
		list, err := create()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 500 {
			if _, err := s.AddWatch(t.Context(), by, by.OrgID, list.ID, npm(fmt.Sprintf("p%d", i), "")); err != nil {
				t.Fatalf("watch %d: %v", i, err)
			}
		}
		if _, err := s.AddWatch(t.Context(), by, by.OrgID, list.ID, npm("one-more", "")); !fault.Is(err, fault.Exhausted) {
			t.Errorf("one package more than the plan watches: %v", err)
		}
		for i := 1; i < 200; i++ {
			if _, err := create(); err != nil {
				t.Fatalf("watchlist %d: %v", i, err)
			}
		}
		if _, err := create(); !fault.Is(err, fault.Exhausted) {
			t.Errorf("one watchlist too many: %v", err)
		}
	})
}
