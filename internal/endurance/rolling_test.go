package endurance_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/service/store"
)

var rolling = flag.Duration("rolling", 5*time.Second, "how long servers are restarted under load")

// perSecond is how many requests there are while servers are restarted.
const perSecond = 200

// TestRolling restarts two servers in turn while requests come, as an upgrade
// does. Nobody sees an answer that fails, nor a connection that breaks, and every
// scan that was promised is done.
//
// What is sent twice is what was refused a connection, and by the transport of
// net/http a GET whose connection was closed before an answer began.
func TestRolling(t *testing.T) {
	s := newSite(t, store.Postgres, 1, 0)
	servers := []*process{s.server("--workers", "1"), s.server("--workers", "1")}
	for _, p := range servers {
		p.start()
		p.ready()
	}
	c := newClient(servers...)
	m := newMix(t, s, c, 0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var slowest time.Duration
	wg.Go(func() { // restarts, until it is time
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
			}
			p := servers[i%2]
			slowest = max(slowest, p.stop())
			p.start()
			p.ready()
			m.ledger.note("restarts")
		}
	})
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < *rolling; {
		<-tick.C
		wg.Go(func() { m.must(m.tenants[rand.IntN(len(m.tenants))]) })
	}
	close(stop)
	wg.Wait()
	st := s.store()
	settled(t, st, 2*time.Minute)
	for _, p := range servers {
		p.stop()
	}
	t.Logf("%v of %d requests a second; the slowest stop took %v; %s", *rolling, perSecond, slowest.Round(time.Millisecond), machine())
	balance(t, st, m.ledger, s.receiver)
	for _, what := range []string{"broken", "refused"} {
		if n := m.ledger.counts[what]; n > 0 {
			t.Errorf("%d requests were %s: %v", n, what, m.ledger.breaks[:min(5, len(m.ledger.breaks))])
		}
	}
}

// must makes a request that must be answered.
func (m *mix) must(who tenant) {
	var a answer
	var err error
	switch n := rand.IntN(100); {
	case n < 1:
		m.mu.Lock()
		m.newest++
		r := request{fmt.Sprintf("fresh-%d", m.newest), versions[0]}
		m.mu.Unlock()
		m.submit(who, r, false)
		return
	case n < 30: // one that was looked at, or is at this moment
		m.submit(who, request{fmt.Sprintf("watched-%d", rand.IntN(m.watched)), versions[0]}, false)
		return
	case n < 60:
		m.poll()
		return
	case n < 80:
		a, err = m.client.do("GET", "/packages/search?q=watched", who.key, nil)
	default:
		a, err = m.client.do("GET", "/orgs/"+who.id+"/watchlists", who.key, nil)
	}
	m.tell("read", a, err, http.StatusOK)
}
