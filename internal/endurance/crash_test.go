package endurance_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/service/store"
)

var rounds = flag.Int("rounds", 3, "how often processes are killed, on each engine")

// TestCrash kills processes at random moments while clients submit, poll, watch
// and cancel. Whatever they were promised is kept.
func TestCrash(t *testing.T) {
	t.Cleanup(func() { leftBehind(t) })
	each(t, 1, 50*time.Millisecond, func(t *testing.T, s *site) {
		t.Parallel()
		processes := []*process{s.server("--poll", "2s")}
		if s.database.URL != "" {
			processes = []*process{s.server("--poll", "2s", "--workers", "1"), s.server("--workers", "0"), s.worker("--poll", "2s", "--workers", "1"), s.worker("--workers", "2")}
		}
		var servers []*process
		for _, p := range processes {
			p.start()
			if p.addr != "" {
				p.ready()
				servers = append(servers, p)
			}
		}
		m := newMix(t, s, newClient(servers...), 200*time.Millisecond)
		stop := make(chan struct{})
		done := m.run(stop)
		var slowest time.Duration
		for range *rounds {
			time.Sleep(rand.N(2500 * time.Millisecond))
			var down []*process
			for _, p := range processes { // at least one, at times all
				if len(processes) == 1 || rand.IntN(2) == 0 {
					p.kill()
					down = append(down, p)
				}
			}
			for _, p := range down {
				p.start()
				if p.addr != "" {
					slowest = max(slowest, p.ready())
				}
			}
		}
		close(stop)
		done.Wait()
		st := s.store()
		settled(t, st, time.Minute)
		for _, p := range processes {
			p.stop()
		}
		t.Logf("killed in %d rounds; the slowest start took %v; %s", *rounds, slowest.Round(time.Millisecond), machine())
		balance(t, st, m.ledger, s.receiver)
	})
}

// leftBehind looks for processes of the program that outlived those that started
// them.
func leftBehind(t *testing.T) {
	t.Helper()
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(100 * time.Millisecond) {
		left = nil
		links, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, l := range links {
			if to, err := os.Readlink(l); err == nil && to == name {
				left = append(left, filepath.Base(filepath.Dir(l)))
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("these processes were left behind: %v", left)
}

// TestShare lets two servers and two workers share the work, and stops one of
// each under way: what it had begun is taken up by others within seconds.
func TestShare(t *testing.T) {
	s := newSite(t, store.Postgres, 1, 600*time.Millisecond)
	servers := []*process{s.server("--workers", "1"), s.server("--workers", "1")}
	workers := []*process{s.worker("--workers", "1"), s.worker("--workers", "1")}
	for _, p := range append(servers, workers...) {
		p.start()
	}
	for _, p := range servers {
		p.ready()
	}
	m := newMix(t, s, newClient(servers...), time.Second)
	for i := range 24 {
		m.submit(m.tenants[i%len(m.tenants)], request{fmt.Sprintf("fresh-%d", i), versions[0]}, false)
	}
	st := s.store()
	busy := func() int {
		return count(t, st, `SELECT count(DISTINCT attempted_by[array_length(attempted_by, 1)]) FROM river_job WHERE kind = 'scan' AND attempted_by IS NOT NULL`)
	}
	for began := time.Now(); busy() < 4 && time.Since(began) < 20*time.Second; {
		time.Sleep(20 * time.Millisecond)
	}
	if n := busy(); n != 4 {
		t.Errorf("%d of 4 processes work", n)
	}
	for _, p := range []*process{workers[0], servers[0]} {
		took := p.stop()
		t.Logf("loupe %s ended after %v; %s", p.args[0], took.Round(time.Millisecond), machine())
		if n := count(t, st, `SELECT count(*) FROM river_job AS j WHERE state = 'running' AND NOT EXISTS (SELECT 1 FROM job_worker AS w WHERE w.id = j.attempted_by[array_length(j.attempted_by, 1)])`); n > 0 {
			t.Errorf("%d jobs are still said to run in the process that ended", n)
		}
	}
	settled(t, st, time.Minute)
	servers[1].stop()
	workers[1].stop()
	balance(t, st, m.ledger, s.receiver)
	if n := count(t, st, `SELECT count(*) FROM river_job WHERE kind = 'scan' AND attempt <> 1`); n > 0 {
		t.Errorf("%d scans count more than one attempt, though no process died", n)
	}
}
