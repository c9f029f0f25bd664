package endurance_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// settled waits until nothing is left to be done.
func settled(t testing.TB, st *store.Store, within time.Duration) {
	t.Helper()
	var left struct {
		Scans      int `bun:"scans"`
		Deliveries int `bun:"deliveries"`
		Jobs       int `bun:"jobs"`
	}
	for began := time.Now(); time.Since(began) < within; time.Sleep(200 * time.Millisecond) {
		err := st.Raw().NewRaw(`SELECT (SELECT count(*) FROM scan WHERE status IN ('queued', 'running')) AS scans,
(SELECT count(*) FROM delivery WHERE status = 'pending') AS deliveries,
(SELECT count(*) FROM river_job WHERE state IN ('available', 'running', 'retryable', 'scheduled') AND kind IN ('scan', 'analysis', 'deliver')) AS jobs`).Scan(t.Context(), &left)
		if err != nil {
			t.Fatal(err)
		}
		if left.Scans+left.Deliveries+left.Jobs == 0 {
			return
		}
	}
	t.Errorf("after %v there are %d open scans, %d messages to send, %d jobs", within, left.Scans, left.Deliveries, left.Jobs)
}

// balance holds the database and what the receiver was told against what the
// clients were promised.
func balance(t testing.TB, st *store.Store, l *ledger, r *receiver) {
	t.Helper()
	for i, w := range slices.Concat(l.wrong, r.wrong) {
		if i == 10 {
			t.Errorf("and %d more", len(l.wrong)+len(r.wrong)-i)
			break
		}
		t.Error(w)
	}
	rows := balanceScans(t, st, l)
	balanceUse(t, st, l, rows)
	analyses := balanceAnalyses(t, st, l)
	balanceAlerts(t, st, l, r, analyses)
	if n := count(t, st, "SELECT count(*) FROM river_job WHERE state = 'discarded'"); n > 0 {
		t.Errorf("%d jobs were given up", n)
	}
	if st.Engine() == store.SQLite {
		var said string
		if err := st.Raw().NewRaw("PRAGMA integrity_check").Scan(t.Context(), &said); err != nil || said != "ok" {
			t.Errorf("integrity_check: %s, %v", said, err)
		}
		if n := count(t, st, "SELECT count(*) FROM pragma_foreign_key_check"); n > 0 {
			t.Errorf("foreign_key_check: %d rows", n)
		}
	}
}

// balanceScans checks that each scan that was promised has ended as it may.
func balanceScans(t testing.TB, st *store.Store, l *ledger) map[string]store.Scan {
	t.Helper()
	var list []store.Scan
	if err := st.Raw().NewSelect().Model(&list).Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows := map[string]store.Scan{}
	for _, s := range list {
		rows[s.ID] = s
	}
	ends := map[string]int{}
	for id, p := range l.promised {
		s, there := rows[id]
		if !there {
			ends["deleted"]++
			if !l.cancelled[id] {
				t.Errorf("scan %s of %v is gone, and nobody deleted it", id, p)
			}
			continue
		}
		ends[string(s.Status)]++
		switch {
		case s.OrgID != p.org || s.Name != p.name || s.Version != p.version:
			t.Errorf("scan %s is of %s %s %s, want %v", id, s.OrgID, s.Name, s.Version, p)
		case s.Status == store.ScanComplete && p.version == lacking:
			t.Errorf("scan %s of %v is complete, though there is no such version", id, p)
		case s.Status == store.ScanFailed && (p.version != lacking || s.Error == ""):
			t.Errorf("scan %s of %v failed: %q", id, p, s.Error)
		case s.Status == store.ScanCancelled && !l.cancelled[id]:
			t.Errorf("scan %s of %v is cancelled, and nobody asked for it", id, p)
		case s.Status.Open():
			t.Errorf("scan %s of %v has not ended", id, p)
		}
	}
	for _, s := range list {
		if s.Status == store.ScanComplete && count(t, st, "SELECT count(*) FROM analysis WHERE id = ? AND name = ? AND version = ?", s.AnalysisID, s.Name, s.Version) != 1 {
			t.Errorf("scan %s of %s %s has no analysis", s.ID, s.Name, s.Version)
		}
	}
	t.Logf("%d scans were promised: %v; answers: %v", len(l.promised), ends, l.counts)
	return rows
}

// balanceUse checks that exactly the scans that got a job were counted.
func balanceUse(t testing.TB, st *store.Store, l *ledger, rows map[string]store.Scan) {
	t.Helper()
	promised, kept := map[string]int{}, map[string]int{}
	for id, p := range l.promised {
		promised[p.org]++
		if _, there := rows[id]; !there {
			kept[p.org]++ // it was deleted
		}
	}
	for _, s := range rows {
		if s.JobID != 0 {
			kept[s.OrgID]++
		}
	}
	for org, n := range promised {
		used := count(t, st, "SELECT coalesce(sum(used), 0) FROM monthly_use WHERE org_id = ?", org)
		if used != kept[org] {
			t.Errorf("%d scans of %s were counted, want %d", used, org, kept[org])
		}
		if used < n || used > n+l.lost[org] {
			t.Errorf("%d scans of %s were counted, and %d promised; %d requests had no answer", used, org, n, l.lost[org])
		}
	}
}

// balanceAnalyses checks that no version was kept twice but for those that were
// to be looked at again.
func balanceAnalyses(t testing.TB, st *store.Store, l *ledger) []store.Analysis {
	t.Helper()
	var list []store.Analysis
	if err := st.Raw().NewSelect().Model(&list).Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	times, newest := map[request]int{}, map[request]int{}
	for _, a := range list {
		r := request{a.Name, a.Version}
		times[r]++
		if a.Newest {
			newest[r]++
		}
		if n := count(t, st, "SELECT count(*) FROM analysis_document WHERE analysis_id = ? AND kind = 'report'", a.ID); n != 1 {
			t.Errorf("analysis %s has %d reports", a.ID, n)
		}
	}
	for r, n := range times {
		if most := max(1, l.forced[r]); n > most {
			t.Errorf("%s %s was analysed %d times, want at most %d", r.name, r.version, n, most)
		}
		if newest[r] != 1 {
			t.Errorf("%s %s has %d newest analyses", r.name, r.version, newest[r])
		}
		if n := count(t, st, "SELECT count(*) FROM package WHERE name = ?", r.name); n != 1 {
			t.Errorf("package %s is there %d times", r.name, n)
		}
	}
	return list
}

// balanceAlerts checks that each analysis of a watched package was told to each
// watchlist that was there before it, under one id, and nothing twice.
func balanceAlerts(t testing.TB, st *store.Store, l *ledger, r *receiver, analyses []store.Analysis) {
	t.Helper()
	told, again := 0, 0
	for _, list := range l.lists {
		for _, a := range analyses {
			if !slices.Contains(list.packages, a.Name) || a.CreatedAt.Before(list.made) {
				continue
			}
			ids := r.ids(event{list.id, a.Name, a.Version})
			if len(ids) != 1 {
				t.Errorf("watchlist %s was told of %s %s under the ids %v, want one", list.id, a.Name, a.Version, ids)
			}
			if n := count(t, st, "SELECT count(*) FROM alert WHERE watchlist_id = ? AND analysis_id = ?", list.id, a.ID); n != 1 {
				t.Errorf("there are %d alerts to %s about %s %s", n, list.id, a.Name, a.Version)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for e, ids := range r.taken {
		if len(ids) != 1 {
			t.Errorf("%v was told under %d ids", e, len(ids))
		}
		for id, n := range ids {
			told++
			if n > 1 {
				again++ // whoever sent it was killed before it was written down
			}
			if status := text(t, st, "SELECT status FROM delivery WHERE id = ?", id); status != "delivered" {
				t.Errorf("%v was taken, and its delivery %s is %q", e, id, status)
			}
		}
	}
	if n := count(t, st, "SELECT count(*) FROM delivery"); n != told {
		t.Errorf("there are %d deliveries, and %d came", n, told)
	}
	if n := count(t, st, "SELECT count(*) FROM alert"); n != told {
		t.Errorf("there are %d alerts, and %d came", n, told)
	}
	t.Logf("%d analyses, %d messages, %d of them sent again", len(analyses), told, again)
}

func count(t testing.TB, st *store.Store, query string, args ...any) (n int) {
	t.Helper()
	if err := st.Raw().NewRaw(query, args...).Scan(context.Background(), &n); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", query, err))
	}
	return n
}

func text(t testing.TB, st *store.Store, query string, args ...any) (s string) {
	t.Helper()
	if err := st.Raw().NewRaw(query, args...).Scan(context.Background(), &s); err != nil {
		t.Error(fmt.Errorf("%s: %w", query, err))
	}
	return s
}
