package endurance_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// An event is what a message says happened: a watchlist and a version of a
// package.
type event struct{ watchlist, name, version string }

// A receiver takes the messages of watchlists, and refuses some of them the
// first time.
type receiver struct {
	*httptest.Server
	secret string

	mu      sync.Mutex
	taken   map[event]map[string]int // how often by webhook-id
	refused map[string]bool
	wrong   []string // what should never have come
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{secret: "whsec_" + base64.StdEncoding.EncodeToString([]byte("endurance endurance endu")), taken: map[event]map[string]int{}, refused: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // its sender was killed
	}
	id := req.Header.Get("webhook-id")
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.secret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, req.Header.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))

	var m struct {
		Type string `json:"type"`
		Data struct {
			WatchlistID string `json:"watchlistId"`
			PackageName string `json:"packageName"`
			ToVersion   string `json:"toVersion"`
		} `json:"data"`
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := json.Unmarshal(body, &m); err != nil || m.Type != "package.changed" || req.Header.Get("webhook-signature") != want {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %v, signature %q, want %q", body, err, req.Header.Get("webhook-signature"), want))
		return
	}
	if rand.IntN(20) == 0 && !r.refused[id] {
		r.refused[id] = true
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	e := event{m.Data.WatchlistID, m.Data.PackageName, m.Data.ToVersion}
	if r.taken[e] == nil {
		r.taken[e] = map[string]int{}
	}
	r.taken[e][id]++
}

// ids returns the webhook-ids under which an event was told.
func (r *receiver) ids(e event) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for id := range r.taken[e] {
		out = append(out, id)
	}
	return out
}
