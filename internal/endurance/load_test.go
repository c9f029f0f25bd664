package endurance_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/store"
)

var (
	load   = flag.Bool("load", false, "measure for long, and fail below the goals")
	length = flag.Duration("length", 10*time.Second, "with -load, how long one thing is measured")
)

// large is how many packages there are to search with -load.
const large = 100_000

// goal fails a test that was asked to measure.
func goal(t *testing.T, met bool, format string, args ...any) {
	t.Helper()
	if *load && !met {
		t.Errorf("goal not met: "+format, args...)
	}
}

// TestLoadReads measures reading: an analysis as large as that of bcrypt, and
// searches among many packages. Server and clients share the machine.
func TestLoadReads(t *testing.T) {
	s := newSite(t, store.SQLite, 10, 0)
	packages, clients, lasts := 1000, 4, 500*time.Millisecond
	if *load {
		packages, clients, lasts = large, 16, *length
	}
	p := s.server("--workers", "1", "--pprof")
	p.start()
	p.ready()
	who := s.tenant("reader")
	c := newClient(p)
	if a, _, err := c.submit(who, "bcrypt-1", versions[0], false); err != nil || a.status != http.StatusAccepted {
		t.Fatal(a.brief(), err)
	}
	st := s.store()
	settled(t, st, time.Minute)
	fill(t, st, packages)
	whole, err := c.do("GET", "/packages/npm/bcrypt-1/versions/"+versions[0], who.key, nil)
	if err != nil || whole.status != http.StatusOK {
		t.Fatal(whole.brief(), err)
	}
	t.Logf("the JSON of the analysis is %d KB", len(whole.body)>>10)
	words := []string{"native", "bcrypt", "node-7", "2", "crypto-hash", "zip", "", "nowhere"}
	for _, test := range []struct {
		name string
		path func() string
	}{
		{"analysis", func() string { return "/packages/npm/bcrypt-1/versions/" + versions[0] }},
		{"search", func() string { return "/packages/search?limit=20&q=" + words[rand.IntN(len(words))] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			hammer(t, p, who, test.path, clients, lasts/5) // what is first made is not measured
			before, _ := p.cpu()
			took, packed := hammer(t, p, who, test.path, clients, lasts)
			after, _ := p.cpu()
			slices.Sort(took)
			rate := float64(len(took)) / lasts.Seconds()
			p99 := took[len(took)*99/100]
			t.Logf("%.0f requests/s by %d clients, median %v, p99 %v, %v of CPU each, %d bytes; %d MB resident; %s", rate, clients,
				took[len(took)/2].Round(10*time.Microsecond), p99.Round(10*time.Microsecond),
				((after - before) / time.Duration(len(took))).Round(time.Microsecond), packed, p.resident()>>20, machine())
			goal(t, rate >= 3000, "%.0f requests/s, want 3000", rate)
			goal(t, p99 < 20*time.Millisecond, "p99 is %v, want 20ms", p99)
		})
	}
}

// fill puts packages into a database, of which only their names can be found.
func fill(t testing.TB, st *store.Store, n int) {
	t.Helper()
	words := []string{"node", "native", "bcrypt", "sqlite", "canvas", "sharp", "usb", "serial", "port", "crypto", "hash", "zip", "fast", "json", "image", "addon"}
	word := func() string { return words[rand.IntN(len(words))] }
	analysis := text(t, st, "SELECT id FROM analysis")
	seq := count(t, st, "SELECT max(seq) FROM package")
	err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		for first := 0; first < n; first += 1000 {
			var rows []store.Package
			for i := first; i < min(n, first+1000); i++ {
				rows = append(rows, store.Package{
					Ecosystem: target.NPM, Name: fmt.Sprintf("%s-%s-%s-%d", word(), word(), word(), i), AnalysisID: analysis, Version: "1.0.0",
					SortVersion: target.SortVersion(target.NPM, "1.0.0"), RiskLevel: "low", RiskScore: 12, BinaryCount: 1, Seq: int64(seq + 1 + i),
					Summary: "1 binary, which does what add-ons do and nothing that would be worth a longer sentence than this one",
				})
			}
			if _, err := tx.Raw().NewInsert().Model(&rows).Exec(ctx); err != nil {
				return err
			}
		}
		_, err := tx.Raw().NewRaw("UPDATE counter SET value = ? WHERE name = 'package'", seq+n).Exec(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// hammer makes requests one after the other on some connections, and returns how
// long each took, and how large the last answer was.
func hammer(t *testing.T, p *process, who tenant, path func() string, clients int, lasts time.Duration) (all []time.Duration, size int64) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range clients {
		wg.Go(func() {
			took, n, err := strike(p.addr, who.key, path, lasts)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			all, size = append(all, took...), n
		})
	}
	wg.Wait()
	if len(all) == 0 {
		t.Fatal("no request was answered")
	}
	return all, size
}

// strike is one client, which does as little as it can.
func strike(addr, key string, path func() string, lasts time.Duration) (took []time.Duration, size int64, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	for began := time.Now(); time.Since(began) < lasts; {
		start := time.Now()
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nAccept-Encoding: gzip\r\n\r\n", path(), addr, key); err != nil {
			return took, size, err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return took, size, err
		}
		if size, err = io.Copy(io.Discard, resp.Body); err != nil {
			return took, size, err
		}
		if resp.StatusCode != http.StatusOK {
			return took, size, fmt.Errorf("GET %s: %s", path(), resp.Status)
		}
		took = append(took, time.Since(start))
	}
	return took, size, nil
}

// TestLoadScans measures how many small packages are scanned in a minute, once
// their files have been fetched.
func TestLoadScans(t *testing.T) {
	s := newSite(t, store.SQLite, 1, 0)
	scans := 12
	if *load {
		scans = 1000
	}
	p := s.server("--pprof")
	p.start()
	p.ready()
	who := s.tenant("submitter")
	c := newClient(p)
	st := s.store()
	for _, first := range []bool{true, false} {
		ownBefore, childrenBefore := p.cpu()
		began := time.Now()
		for i := range scans {
			if a, _, err := c.submit(who, fmt.Sprintf("fresh-%d", i), versions[0], !first); err != nil || a.status != http.StatusAccepted {
				t.Fatal(a.brief(), err)
			}
		}
		accepted := time.Since(began)
		settled(t, st, 10*time.Minute)
		own, children := p.cpu()
		took := time.Since(began)
		rate := float64(scans) / took.Minutes()
		t.Logf("%s: %.0f scans a minute (accepted at %.0f/s), %v of CPU each, and %v of those that read them; %s", map[bool]string{true: "fetched", false: "again"}[first],
			rate, float64(scans)/accepted.Seconds(), ((own - ownBefore) / time.Duration(scans)).Round(10*time.Microsecond),
			((children - childrenBefore) / time.Duration(scans)).Round(10*time.Microsecond), machine())
		goal(t, rate >= 2000, "%.0f scans a minute, want 2000", rate)
	}
}

// TestLoadIdle measures what a server takes that has nothing to do, and how soon
// it answers.
func TestLoadIdle(t *testing.T) {
	each(t, 1, 0, func(t *testing.T, s *site) {
		p := s.server()
		p.start()
		start := p.ready()
		lasts := 2 * time.Second
		if *load {
			lasts = *length
		}
		time.Sleep(lasts / 2)
		before, _ := p.cpu()
		time.Sleep(lasts)
		after, _ := p.cpu()
		busy := float64(after-before) / float64(lasts) * 100
		t.Logf("answers after %v; idle: %.1f %% of a processor, %d MB resident; %s", start.Round(time.Millisecond), busy, p.resident()>>20, machine())
		goal(t, start < time.Second, "answers after %v, want a second", start)
		goal(t, busy < 1, "idle takes %.1f %% of a processor, want 1", busy)
		goal(t, p.resident() < 60<<20, "idle takes %d MB, want 60", p.resident()>>20)
	})
}
