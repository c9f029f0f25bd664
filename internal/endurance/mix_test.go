package endurance_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A request is a package that somebody asks for.
type request struct{ name, version string }

// A ledger is what the clients were promised.
type ledger struct {
	mu        sync.Mutex
	promised  map[string]promise // by scan
	cancelled map[string]bool    // scans whose cancellation was asked for
	forced    map[request]int    // requests that were to be looked at again, whatever came back
	lost      map[string]int     // requests to scan without an answer, by organisation
	lists     []list
	wrong     []string // what should never have come
	counts    map[string]int
	breaks    []string // how connections broke
}

// A promise is a scan for which a 202 came.
type promise struct {
	org string
	request
}

// A list is a watchlist that was there before the crowd.
type list struct {
	id       string
	packages []string
	made     time.Time // before, the server may have looked at a package by itself
}

func newLedger() *ledger {
	return &ledger{promised: map[string]promise{}, cancelled: map[string]bool{}, forced: map[request]int{}, lost: map[string]int{}, counts: map[string]int{}}
}

func (l *ledger) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[what]++
}

func (l *ledger) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// any returns some scan that was promised, and whose it is.
func (l *ledger) any() (id, org string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, p := range l.promised { // in no order
		return id, p.org
	}
	return "", ""
}

// crowd is how many clients there are at once.
const crowd = 8

// A mix is what a crowd of clients does.
type mix struct {
	tenants  []tenant
	client   *client
	ledger   *ledger
	receiver *receiver
	watched  int // packages of the first numbers are watched
	pause    time.Duration
	mu       sync.Mutex
	newest   int // number of the newest package that was asked for
}

// run lets the crowd loose until stop is closed.
func (m *mix) run(stop chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(rand.N(2 * m.pause)):
					m.act(m.tenants[i%len(m.tenants)])
				}
			}
		})
	}
	return &wg
}

// act makes one request.
func (m *mix) act(who tenant) {
	switch n := rand.IntN(100); {
	case n < 25: // a package that nobody asked for
		m.mu.Lock()
		m.newest++
		name := fmt.Sprintf("fresh-%d", m.newest)
		m.mu.Unlock()
		m.submit(who, request{name, versions[0]}, false)
	case n < 35: // one that others may be asking for at this moment
		m.mu.Lock()
		name := fmt.Sprintf("fresh-%d", max(1, m.newest-rand.IntN(3)))
		m.mu.Unlock()
		m.submit(who, request{name, versions[0]}, false)
	case n < 50: // one that is watched
		m.submit(who, request{fmt.Sprintf("watched-%d", rand.IntN(m.watched)), versions[rand.IntN(len(versions))]}, false)
	case n < 53: // one that is to be looked at again
		m.submit(who, request{fmt.Sprintf("again-%d", rand.IntN(5)), versions[0]}, true)
	case n < 56:
		m.submit(who, request{fmt.Sprintf("fresh-%d", rand.IntN(1000)), lacking}, false)
	case n < 75:
		m.poll()
	case n < 80:
		m.cancel()
	case n < 90:
		m.get("/packages/search?q=fresh-1", who.key)
	case n < 96:
		m.get(fmt.Sprintf("/packages/npm/watched-%d/versions/%s", rand.IntN(m.watched), versions[0]), who.key)
	case n < 98:
		m.get("/orgs/"+who.id+"/watchlists", who.key)
	default: // a watchlist that comes in the midst of it all; what it hears of is luck
		id, err := m.client.watchlist(who, "late", m.receiver, fmt.Sprintf("watched-%d", rand.IntN(m.watched)))
		if id != "" && err == nil {
			m.ledger.note("watchlists")
		}
	}
}

// tell notes an answer that is none of those which the API promises.
func (m *mix) tell(what string, a answer, err error, fine ...int) bool {
	switch {
	case errors.Is(err, errRefused):
		m.ledger.note("refused")
		return false
	case err != nil:
		m.ledger.note("broken")
		m.ledger.mu.Lock()
		m.ledger.breaks = append(m.ledger.breaks, what+": "+err.Error())
		m.ledger.mu.Unlock()
		return false
	}
	for _, status := range fine {
		if a.status == status {
			m.ledger.note(fmt.Sprintf("%s %d", what, status))
			return true
		}
	}
	m.ledger.complain("%s: %s", what, a.brief())
	return false
}

func (m *mix) submit(who tenant, r request, force bool) {
	if force {
		m.ledger.mu.Lock()
		m.ledger.forced[r]++
		m.ledger.mu.Unlock()
	}
	a, s, err := m.client.submit(who, r.name, r.version, force)
	if err != nil && !errors.Is(err, errRefused) {
		m.ledger.mu.Lock()
		m.ledger.lost[who.id]++
		m.ledger.mu.Unlock()
	}
	if m.tell("submit", a, err, http.StatusOK, http.StatusAccepted) && a.status == http.StatusAccepted {
		m.ledger.mu.Lock()
		m.ledger.promised[s.ID] = promise{who.id, r}
		m.ledger.mu.Unlock()
	}
}

func (m *mix) poll() {
	id, org := m.ledger.any()
	if id == "" {
		return
	}
	a, err := m.client.do("GET", "/scans/"+id, m.key(org), nil)
	m.ledger.mu.Lock()
	gone := m.ledger.cancelled[id]
	m.ledger.mu.Unlock()
	if gone {
		m.tell("poll", a, err, http.StatusOK, http.StatusNotFound)
	} else {
		m.tell("poll", a, err, http.StatusOK)
	}
}

func (m *mix) cancel() {
	id, org := m.ledger.any()
	if id == "" {
		return
	}
	m.ledger.mu.Lock()
	again := m.ledger.cancelled[id]
	m.ledger.cancelled[id] = true
	m.ledger.mu.Unlock()
	a, err := m.client.do("DELETE", "/scans/"+id, m.key(org), nil)
	if again {
		m.tell("cancel", a, err, http.StatusOK, http.StatusNotFound)
	} else {
		m.tell("cancel", a, err, http.StatusOK)
	}
}

func (m *mix) get(path, key string) {
	a, err := m.client.do("GET", path, key, nil)
	m.tell("read", a, err, http.StatusOK, http.StatusNotFound)
}

func (m *mix) key(org string) string {
	for _, t := range m.tenants {
		if t.id == org {
			return t.key
		}
	}
	return ""
}

// newMix makes organisations with watchlists, and a crowd that is not loose yet.
func newMix(t testing.TB, s *site, c *client, pause time.Duration) *mix {
	t.Helper()
	m := &mix{client: c, ledger: newLedger(), receiver: s.receiver, watched: 10, pause: pause}
	for i := range 3 {
		who := s.tenant(fmt.Sprintf("tenant-%d", i))
		m.tenants = append(m.tenants, who)
		var packages []string
		for j := i; j < m.watched; j++ {
			packages = append(packages, fmt.Sprintf("watched-%d", j))
		}
		id, err := c.watchlist(who, "early", s.receiver, packages...)
		if err != nil {
			t.Fatal(err)
		}
		m.ledger.lists = append(m.ledger.lists, list{id, packages, time.Now()})
	}
	return m
}
