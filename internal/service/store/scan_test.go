package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// makeScan makes a scan and returns it.
func makeScan(t testing.TB, st *store.Store, org, name string, ms int) store.Scan {
	t.Helper()
	s := scan(name, ms)
	write(t, st, func(ctx context.Context, tx *store.Tx) error {
		if created, err := tx.Org(org).CreateScan(ctx, &s); err != nil || !created {
			t.Errorf("created %t, %v", created, err)
		}
		return nil
	})
	return s
}

func TestScanLife(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		a := analyze(t, st, target.NPM, "left-pad", "1.0.0")
		want := makeScan(t, st, org, "left-pad", 0)
		check := func(what string) {
			t.Helper()
			got, err := st.Org(org).Scan(t.Context(), want.ID)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%s: %v, %s", what, err, diff)
			}
			if got, err := st.ScanByID(t.Context(), want.ID); err != nil || !cmp.Equal(got, want) {
				t.Errorf("%s: by its id it is %+v, %v", what, got, err)
			}
		}
		check("made")
		change := func(f func(ctx context.Context, tx *store.Tx) error) { t.Helper(); write(t, st, f) }

		refused(t, st, fault.Conflict, func(ctx context.Context, tx *store.Tx) error {
			return tx.SetScanStage(ctx, want.ID, "extract") // it does not run
		})
		change(func(ctx context.Context, tx *store.Tx) error { return tx.SetScanJob(ctx, want.ID, 42) })
		want.JobID = 42
		check("with a job")
		change(func(ctx context.Context, tx *store.Tx) error { return tx.StartScan(ctx, want.ID, "ingest", after(5)) })
		want.Status, want.StartedAt = store.ScanRunning, after(5)
		check("started")
		change(func(ctx context.Context, tx *store.Tx) error { return tx.SetScanStage(ctx, want.ID, "classify") })
		want.Stage = "classify"
		check("further")
		change(func(ctx context.Context, tx *store.Tx) error { return tx.StartScan(ctx, want.ID, "ingest", after(9)) })
		want.Stage = "ingest"
		check("started again")
		change(func(ctx context.Context, tx *store.Tx) error {
			return tx.FinishScan(ctx, want.ID, store.ScanEnd{Status: store.ScanComplete, Stage: "persist", AnalysisID: a.ID, At: after(20)})
		})
		want.Status, want.Stage, want.AnalysisID, want.CompletedAt = store.ScanComplete, "persist", a.ID, after(20)
		check("complete")

		for what, f := range map[string]func(ctx context.Context, tx *store.Tx) error{
			"another end": func(ctx context.Context, tx *store.Tx) error {
				return tx.FinishScan(ctx, want.ID, store.ScanEnd{Status: store.ScanFailed, Error: "too late", At: after(21)})
			},
			"another start": func(ctx context.Context, tx *store.Tx) error { return tx.StartScan(ctx, want.ID, "ingest", after(22)) },
			"another stage": func(ctx context.Context, tx *store.Tx) error { return tx.SetScanStage(ctx, want.ID, "extract") },
			"another job":   func(ctx context.Context, tx *store.Tx) error { return tx.SetScanJob(ctx, want.ID, 43) },
			"no such scan":  func(ctx context.Context, tx *store.Tx) error { return tx.StartScan(ctx, "scan_nothing", "ingest", now) },
		} {
			refused(t, st, fault.Conflict, f)
			check(what)
		}
		if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			return tx.FinishScan(ctx, want.ID, store.ScanEnd{Status: store.ScanRunning})
		}); err == nil {
			t.Error("a scan ended as running")
		}
		change(func(ctx context.Context, tx *store.Tx) error {
			got, err := tx.Org(org).CancelScan(ctx, want.ID, after(30))
			if got.Status != store.ScanComplete {
				t.Errorf("a complete scan is %s after it was cancelled", got.Status)
			}
			return err
		})
		check("cancelled too late")
		change(func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).DeleteScan(ctx, want.ID) })
		if _, err := st.ScanByID(t.Context(), want.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want not found", err)
		}
	})
}

func TestScanCancel(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		queued, running := makeScan(t, st, org, "a", 0), makeScan(t, st, org, "b", 0)
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).DeleteScan(ctx, queued.ID) })
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			if err := tx.StartScan(ctx, running.ID, "ingest", after(1)); err != nil {
				return err
			}
			got, err := tx.Org(org).CancelScan(ctx, queued.ID, after(2))
			if err != nil || got.Status != store.ScanCancelled || got.CancelledAt != after(2) || got.CompletedAt != after(2) {
				t.Errorf("got %+v, %v; want it cancelled", got, err)
			}
			for _, ms := range []int{3, 4} {
				got, err = tx.Org(org).CancelScan(ctx, running.ID, after(ms))
				if err != nil || got.Status != store.ScanRunning || got.CancelledAt != after(3) || !got.CompletedAt.IsZero() {
					t.Errorf("got %+v, %v; want it running, and asked to end", got, err)
				}
			}
			if _, err := tx.Org(org).CancelScan(ctx, "scan_nothing", after(5)); !fault.Is(err, fault.NotFound) {
				t.Errorf("got %v, want not found", err)
			}
			return tx.FinishScan(ctx, running.ID, store.ScanEnd{Status: store.ScanCancelled, At: after(6)})
		})
		if got, err := st.Org(org).Scan(t.Context(), running.ID); err != nil || got.Status != store.ScanCancelled || got.CompletedAt != after(6) || got.AnalysisID != "" {
			t.Errorf("got %+v, %v; want it cancelled", got, err)
		}
		again := makeScan(t, st, org, "a", 7) // the cancelled one is not in its way
		if again.ID == queued.ID {
			t.Error("a new scan is the cancelled one")
		}
	})
}

func TestScanLists(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org, other := makeOrg(t, st, "a"), makeOrg(t, st, "b")
		var open []string
		for i := range 5 {
			s := makeScan(t, st, org, fmt.Sprint("p", i), i)
			if i == 2 {
				write(t, st, func(ctx context.Context, tx *store.Tx) error {
					return tx.FinishScan(ctx, s.ID, store.ScanEnd{Status: store.ScanFailed, Error: "no such version", At: after(9)})
				})
				continue
			}
			open = append(open, s.ID)
		}
		open = append(open, makeScan(t, st, other, "p0", 0).ID)
		rows, total, err := st.Org(org).Scans(t.Context(), store.Page{Limit: 2, Offset: 1})
		if err != nil || total != 5 || len(rows) != 2 || rows[0].Name != "p3" || rows[1].Name != "p2" || rows[1].Error != "no such version" {
			t.Errorf("got %+v, %d, %v; want p3 and p2 of 5", rows, total, err)
		}
		seen := map[string]bool{}
		for last := ""; ; {
			rows, err := st.OpenScans(t.Context(), last, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) == 0 {
				break
			}
			for _, r := range rows {
				if seen[r.ID] || !r.Status.Open() || r.JobID != 0 {
					t.Errorf("got %+v", r)
				}
				seen[r.ID], last = true, r.ID
			}
		}
		for _, id := range open {
			if !seen[id] {
				t.Errorf("open scan %s is not there", id)
			}
		}
		if len(seen) != len(open) {
			t.Errorf("%d scans are open, want %d", len(seen), len(open))
		}
	})
}

// TestScanTogether has many ask for the same at once, which makes one scan, and
// many end it, of which one does.
func TestScanTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		var created, ended atomic.Int64
		var ids sync.Map
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				s, made := scan("left-pad", 0), false
				if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) (err error) {
					made, err = tx.Org(org).CreateScan(ctx, &s)
					return err
				}); err != nil {
					t.Error(err)
				}
				if made {
					created.Add(1)
				}
				ids.Store(s.ID, true)
			})
		}
		wg.Wait()
		var all []string
		ids.Range(func(id, _ any) bool { all = append(all, id.(string)); return true })
		if created.Load() != 1 || len(all) != 1 {
			t.Fatalf("%d scans were made, and %d seen; want one", created.Load(), len(all))
		}
		for range 20 {
			wg.Go(func() {
				a := analysis(target.NPM, "left-pad", "1.0.0")
				err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
					if _, err := tx.SaveAnalysis(ctx, &a); err != nil {
						return err
					}
					return tx.FinishScan(ctx, all[0], store.ScanEnd{Status: store.ScanComplete, AnalysisID: a.ID, At: after(1)})
				})
				switch {
				case err == nil:
					ended.Add(1)
				case !fault.Is(err, fault.Conflict):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n, err := st.Value(t.Context(), "SELECT count(*) FROM analysis"); err != nil || n != 1 || ended.Load() != 1 {
			t.Errorf("%d ended the scan, and %d results are there, %v; want one", ended.Load(), n, err)
		}
		s, err1 := st.ScanByID(t.Context(), all[0])
		a, err2 := st.AnalysisOf(t.Context(), target.NPM, "left-pad", "1.0.0")
		if err := errors.Join(err1, err2); err != nil || s.AnalysisID != a.ID {
			t.Errorf("the scan has %s, %v; want %s", s.AnalysisID, err, a.ID)
		}
	})
}
