package store_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

func TestUse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		for _, step := range []struct {
			n, limit, used int64
			ok             bool
		}{
			{3, 2, 0, false}, {2, 3, 2, true}, {2, 3, 2, false}, {1, 3, 3, true}, {1, 3, 3, false}, {0, 3, 3, true}, {5, store.Unlimited, 8, true}, {1, 3, 8, false},
		} {
			write(t, st, func(ctx context.Context, tx *store.Tx) error {
				used, ok, err := tx.Org(org).Use(ctx, "package-scans", "2026-03", step.n, step.limit)
				if used != step.used || ok != step.ok {
					t.Errorf("%d of %d: got %d, %t; want %d, %t", step.n, step.limit, used, ok, step.used, step.ok)
				}
				return err
			})
		}
		if used, err := st.Org(org).Used(t.Context(), "package-scans", "2026-03"); err != nil || used != 8 {
			t.Errorf("used %d, %v; want 8", used, err)
		}
		if used, err := st.Org(org).Used(t.Context(), "package-scans", "2026-04"); err != nil || used != 0 {
			t.Errorf("used %d, %v; want 0 in another month", used, err)
		}
		if got, want := store.Month(time.Date(2026, 3, 31, 23, 0, 0, 0, time.FixedZone("", -3600))), "2026-04"; got != want {
			t.Errorf("the month is %s, want %s", got, want)
		}
	})
}

// TestUseTogether has many take of one limit at once.
func TestUseTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		const limit = 37
		org := makeOrg(t, st, "a")
		var taken atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				var got bool
				err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) (err error) {
					_, got, err = tx.Org(org).Use(ctx, "package-scans", "2026-03", 1, limit)
					return err
				})
				if err != nil {
					t.Error(err)
				} else if got {
					taken.Add(1)
				}
			})
		}
		wg.Wait()
		if used, err := st.Org(org).Used(t.Context(), "package-scans", "2026-03"); err != nil || used != limit || taken.Load() != limit {
			t.Errorf("%d were let through and %d counted, %v; want %d", taken.Load(), used, err, limit)
		}
	})
}

func TestUseIsRolledBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org, given := makeOrg(t, st, "a"), errors.New("given up")
		err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			if _, ok, err := tx.Org(org).Use(ctx, "package-scans", "2026-03", 1, 5); err != nil || !ok {
				t.Errorf("got %t, %v", ok, err)
			}
			s := scan("left-pad", 0)
			if _, err := tx.Org(org).CreateScan(ctx, &s); err != nil {
				t.Error(err)
			}
			return given
		})
		if !errors.Is(err, given) {
			t.Errorf("got %v, want %v", err, given)
		}
		used, err1 := st.Org(org).Used(t.Context(), "package-scans", "2026-03")
		_, scans, err2 := st.Org(org).Scans(t.Context(), store.Page{})
		if err := errors.Join(err1, err2); err != nil || used != 0 || scans != 0 {
			t.Errorf("%d used and %d scans are left, %v", used, scans, err)
		}
	})
}

func TestWindows(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		for _, step := range []struct {
			subject         string
			at              store.Time
			n, limit        int64
			wantGot, remain int64
		}{
			{"key_1", now, 6, 10, 6, 4}, {"key_1", now, 6, 10, 4, 0}, {"key_1", now, 6, 10, 0, 0}, {"key_1", now, 6, 30, 6, 6},
			{"key_2", now, 20, 10, 10, 0}, {"key_1", after(60000), 1, 10, 1, 9},
		} {
			got, left, err := st.LeaseWindow(t.Context(), step.subject, step.at, step.n, step.limit)
			if err != nil || got != step.wantGot || left != step.remain {
				t.Errorf("%+v: got %d, left %d, %v", step, got, left, err)
			}
		}
		if n, err := st.DeleteWindows(t.Context(), after(1)); err != nil || n != 2 {
			t.Errorf("%d were forgotten, %v; want 2", n, err)
		}
		if got, left, err := st.LeaseWindow(t.Context(), "key_1", after(60000), 10, 10); err != nil || got != 9 || left != 0 {
			t.Errorf("got %d, left %d, %v; want the 9 that were left", got, left, err)
		}
	})
}

func TestWindowsTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		var taken atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				got, _, err := st.LeaseWindow(t.Context(), "key_1", now, 7, 100)
				if err != nil {
					t.Error(err)
				}
				taken.Add(got)
			})
		}
		wg.Wait()
		if taken.Load() != 100 {
			t.Errorf("%d requests were let through, want 100", taken.Load())
		}
	})
}

func TestRepeats(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		this := store.Repeat{Route: "POST /scans/packages", Name: "k", Body: []byte{1, 2, 0}}
		other := store.Repeat{Route: this.Route, Name: this.Name, Body: []byte{3}}
		answer := store.Answer{Status: 202, MediaType: "application/json", Data: []byte(`{"id":"scan_1"}`)}
		begin := func(what string, r store.Repeat, at store.Time, want store.RepeatState, wantAnswer store.Answer) {
			t.Helper()
			write(t, st, func(ctx context.Context, tx *store.Tx) error {
				state, got, err := tx.Org(org).BeginRepeat(ctx, r, at)
				if state != want || !cmp.Equal(got, wantAnswer) {
					t.Errorf("%s: got %d, %+v; want %d, %+v", what, state, got, want, wantAnswer)
				}
				return err
			})
		}
		finish := func(a store.Answer) {
			write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).FinishRepeat(ctx, this, a) })
		}
		begin("the first time", this, now, store.RepeatNew, store.Answer{})
		begin("while it runs", this, after(1), store.RepeatRunning, store.Answer{})
		begin("another body meanwhile", other, after(1), store.RepeatOther, store.Answer{})
		begin("another route", store.Repeat{Route: "POST /x", Name: "k", Body: this.Body}, now, store.RepeatNew, store.Answer{})
		finish(answer)
		finish(store.Answer{Status: 500})
		begin("when it was answered", this, after(2), store.RepeatAnswered, answer)
		begin("another body", other, after(2), store.RepeatOther, store.Answer{})
		begin("after a day", this, after(24*3600*1000), store.RepeatNew, store.Answer{})
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).ForgetRepeat(ctx, this) })
		begin("after a failure", other, after(24*3600*1000+1), store.RepeatNew, store.Answer{})
		begin("while that runs", other, after(24*3600*1000+2), store.RepeatRunning, store.Answer{})
		begin("when its server died", other, after(24*3600*1000+11*60*1000), store.RepeatNew, store.Answer{})
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			if n, err := tx.DeleteRepeats(ctx, after(24*3600*1000)); err != nil || n != 1 { // of the other route
				t.Errorf("%d were forgotten, %v; want 1", n, err)
			}
			return nil
		})
	})
}

func TestRepeatsTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		var first, running atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				var state store.RepeatState
				err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) (err error) {
					state, _, err = tx.Org(org).BeginRepeat(ctx, store.Repeat{Route: "r", Name: "k", Body: []byte{1}}, now)
					return err
				})
				switch {
				case err != nil:
					t.Error(err)
				case state == store.RepeatNew:
					first.Add(1)
				case state == store.RepeatRunning:
					running.Add(1)
				}
			})
		}
		wg.Wait()
		if first.Load() != 1 || running.Load() != 9 {
			t.Errorf("%d were the first and %d came while it ran; want 1 and 9", first.Load(), running.Load())
		}
	})
}
