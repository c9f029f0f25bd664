package store_test

import (
	"context"
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

func TestRepos(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		one, two := store.Repo{GithubRepo: "Acme/Web", CreatedAt: now}, store.Repo{GithubRepo: "acme/api", CreatedAt: after(1)}
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			if err := tx.Org(org).CreateRepo(ctx, &two); err != nil {
				return err
			}
			return tx.Org(org).CreateRepo(ctx, &one)
		})
		refused(t, st, fault.Conflict, func(ctx context.Context, tx *store.Tx) error {
			return tx.Org(org).CreateRepo(ctx, &store.Repo{GithubRepo: "acme/WEB", CreatedAt: now})
		})
		one.NativeDependencies, one.RiskScore, one.LastScanAt = 4, 22, after(5)
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).UpdateRepo(ctx, &one) })
		rows, total, err := st.Org(org).Repos(t.Context(), store.Page{})
		if diff := cmp.Diff([]store.Repo{one, two}, rows); err != nil || total != 2 || diff != "" {
			t.Errorf("got %d, %v, %s", total, err, diff)
		}
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).DeleteRepo(ctx, one.ID) })
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).DeleteRepo(ctx, one.ID) })
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).UpdateRepo(ctx, &one) })
		if _, err := st.Org(org).Repo(t.Context(), one.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want not found", err)
		}
	})
}

func makeWatchlist(t testing.TB, st *store.Store, org, name string) string {
	t.Helper()
	w := store.Watchlist{Name: name, Channel: "webhook", Destination: "https://hooks.example/x", Secret: "whsec_x", PackageCount: 9, CreatedAt: now}
	write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).CreateWatchlist(ctx, &w) })
	return w.ID
}

func watch(t testing.TB, st *store.Store, org, list, name, version string, ms int) store.Watch {
	t.Helper()
	w := store.Watch{WatchlistID: list, Ecosystem: target.NPM, Name: name, Version: version, CreatedAt: after(ms)}
	write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).AddWatch(ctx, &w) })
	return w
}

func TestWatches(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org, other := makeOrg(t, st, "a"), makeOrg(t, st, "b")
		list, spare, foreign := makeWatchlist(t, st, org, "critical"), makeWatchlist(t, st, org, "spare"), makeWatchlist(t, st, other, "theirs")
		count := func(want int) {
			t.Helper()
			w, err := st.Org(org).Watchlist(t.Context(), list)
			rows, total, err2 := st.Org(org).Watches(t.Context(), list, store.Page{})
			if err != nil || err2 != nil || w.PackageCount != want || total != want || len(rows) != want {
				t.Errorf("%d packages by the count and %d by the list, %v %v; want %d", w.PackageCount, total, err, err2, want)
			}
		}
		watched := func(name string, want bool) {
			t.Helper()
			if _, err := st.WatchedPackage(t.Context(), target.NPM, name); (err == nil) != want {
				t.Errorf("%s is watched: %v; want %t", name, err, want)
			}
		}
		count(0)
		one := watch(t, st, org, list, "bcrypt", "", 1)
		two := watch(t, st, org, list, "bcrypt", "5.1.1", 2)
		three := watch(t, st, org, list, "sharp", "", 3)
		four := watch(t, st, other, foreign, "bcrypt", "", 4)
		count(3)
		refused(t, st, fault.Conflict, func(ctx context.Context, tx *store.Tx) error {
			return tx.Org(org).AddWatch(ctx, &store.Watch{WatchlistID: list, Ecosystem: target.NPM, Name: "bcrypt", CreatedAt: after(5)})
		})
		count(3)
		rows, _, err := st.Org(org).Watches(t.Context(), list, store.Page{Limit: 2, Offset: 1})
		if err != nil || !cmp.Equal(rows, []store.Watch{two, three}) {
			t.Errorf("got %+v, %v; want the second and the third", rows, err)
		}
		if p, err := st.WatchedPackage(t.Context(), target.NPM, "bcrypt"); err != nil || p.NextAt != after(1) {
			t.Errorf("got %+v, %v; want it asked for at once", p, err)
		}

		for _, test := range []struct {
			name, version string
			want          int
		}{{"bcrypt", "5.1.1", 2}, {"bcrypt", "6.0.0", 2}, {"sharp", "1.0.0", 1}, {"left-pad", "1.0.0", 0}} {
			lists, err := st.WatchlistsOf(t.Context(), target.NPM, test.name, test.version)
			if err != nil || len(lists) != test.want {
				t.Errorf("%s %s is on %d lists, %v; want %d", test.name, test.version, len(lists), err, test.want)
			}
		}

		remove := func(org, list string, w store.Watch) {
			t.Helper()
			write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).RemoveWatch(ctx, list, w.ID) })
		}
		remove(org, list, one)
		count(2)
		if lists, err := st.WatchlistsOf(t.Context(), target.NPM, "bcrypt", "6.0.0"); err != nil || len(lists) != 1 || lists[0].ID != foreign {
			t.Errorf("got %+v, %v; want the list that has any version", lists, err)
		}
		watched("bcrypt", true)
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).RemoveWatch(ctx, list, one.ID) })
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).RemoveWatch(ctx, spare, two.ID) })
		count(2)
		remove(other, foreign, four)
		watched("bcrypt", true)
		remove(org, list, two)
		watched("bcrypt", false)
		watched("sharp", true)
		count(1)

		alert := store.Alert{WatchlistID: list, AnalysisID: analyze(t, st, target.NPM, "sharp", "1.0.0").ID, Body: "{}", CreatedAt: now}
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			if _, err := tx.Org(org).CreateAlert(ctx, &alert); err != nil {
				return err
			}
			return tx.Org(org).DeleteWatchlist(ctx, list)
		})
		watched("sharp", false)
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).DeleteWatchlist(ctx, list) })
		if rows, total, err := st.Org(org).Watchlists(t.Context(), store.Page{}); err != nil || total != 1 || rows[0].ID != spare || rows[0].Secret != "whsec_x" {
			t.Errorf("got %+v, %d, %v; want the spare one", rows, total, err)
		}
		if _, total, err := st.Org(org).Alerts(t.Context(), store.Page{}); err != nil || total != 0 {
			t.Errorf("%d alerts are left, %v", total, err)
		}
	})
}

// TestWatchTogether adds and removes watches of one package all the time: as
// long as one is left, the package is watched, and afterwards not.
func TestWatchTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		var orgs, lists []string
		for i := range 4 {
			orgs = append(orgs, makeOrg(t, st, fmt.Sprint("o", i)))
			lists = append(lists, makeWatchlist(t, st, orgs[i], "l"))
		}
		keep := func(i int) {
			for range 8 {
				w := watch(t, st, orgs[i], lists[i], "bcrypt", "", i)
				if _, err := st.WatchedPackage(t.Context(), target.NPM, "bcrypt"); err != nil {
					t.Errorf("a package on a watchlist is not watched: %v", err)
				}
				write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(orgs[i]).RemoveWatch(ctx, lists[i], w.ID) })
			}
		}
		var wg sync.WaitGroup
		for i := range orgs {
			wg.Go(func() { keep(i) })
		}
		wg.Wait()
		if _, err := st.WatchedPackage(t.Context(), target.NPM, "bcrypt"); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want nobody to watch it", err)
		}
	})
}

// TestDeleteWatchlistTogether adds packages to a watchlist while it is deleted:
// none is watched for nobody.
func TestDeleteWatchlistTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		for range 5 {
			list := makeWatchlist(t, st, org, "l")
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
						if i == 3 {
							return tx.Org(org).DeleteWatchlist(ctx, list)
						}
						return tx.Org(org).AddWatch(ctx, &store.Watch{WatchlistID: list, Ecosystem: target.NPM, Name: fmt.Sprint("p", i), CreatedAt: now})
					})
					if err != nil && !(fault.Is(err, fault.NotFound) && i != 3) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n, err := st.Value(t.Context(), "SELECT count(*) FROM watched_package"); err != nil || n != 0 {
				t.Errorf("%d packages are watched for nobody, %v", n, err)
			}
		}
	})
}

func TestClaimWatched(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		list := makeWatchlist(t, st, org, "l")
		for i := range 30 {
			watch(t, st, org, list, fmt.Sprint("p", i), "", i)
		}
		var claimed atomic.Int64
		var twice sync.Map
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 3 {
					err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
						rows, err := tx.ClaimWatched(ctx, after(19), after(1000), 5)
						for _, p := range rows {
							if _, before := twice.LoadOrStore(p.Name, true); before {
								t.Errorf("%s was claimed twice", p.Name)
							}
							if p.NextAt != after(1000) {
								t.Errorf("%s comes again at %v", p.Name, p.NextAt)
							}
							claimed.Add(1)
						}
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if claimed.Load() != 20 {
			t.Errorf("%d packages were claimed, want the 20 that are due", claimed.Load())
		}
		p := store.WatchedPackage{Ecosystem: target.NPM, Name: "p0", Version: "2.0.0", ETag: `"x"`, Error: "", AskedAt: after(20), NextAt: after(3600000)}
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			if err := tx.AskedWatched(ctx, &p); err != nil {
				return err
			}
			return tx.AskedWatched(ctx, &store.WatchedPackage{Ecosystem: target.NPM, Name: "nobody's", NextAt: now})
		})
		if got, err := st.WatchedPackage(t.Context(), target.NPM, "p0"); err != nil || got != p {
			t.Errorf("got %+v, %v; want %+v", got, err, p)
		}
	})
}

func TestAlerts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		list, other := makeWatchlist(t, st, org, "l"), makeWatchlist(t, st, org, "m")
		a := analyze(t, st, target.NPM, "bcrypt", "1.0.0")
		var created atomic.Int64
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				row := store.Alert{WatchlistID: list, AnalysisID: a.ID, Body: `{"text":"x"}`, CreatedAt: after(i)}
				var is bool
				if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) (err error) {
					is, err = tx.Org(org).CreateAlert(ctx, &row)
					return err
				}); err != nil {
					t.Error(err)
				}
				if is {
					created.Add(1)
				}
			})
		}
		wg.Wait()
		if created.Load() != 1 {
			t.Errorf("%d alerts for one analysis, want one", created.Load())
		}
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			is, err := tx.Org(org).CreateAlert(ctx, &store.Alert{WatchlistID: other, AnalysisID: a.ID, Body: "{}", CreatedAt: after(50)})
			if !is {
				t.Error("another watchlist was not told")
			}
			return err
		})
		rows, total, err := st.Org(org).Alerts(t.Context(), store.Page{})
		if err != nil || total != 2 || rows[0].WatchlistID != other || rows[1].Body != `{"text":"x"}` {
			t.Errorf("got %+v, %d, %v", rows, total, err)
		}
	})
}

func TestDeliveries(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		want, late, other := delivery("wl_1", 0), delivery("wl_1", 1), delivery("wl_2", 2)
		late.NextAt = after(500)
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			for _, d := range []*store.Delivery{&want, &late, &other} {
				if err := tx.Org(org).CreateDelivery(ctx, d); err != nil {
					return err
				}
			}
			return nil
		})
		check := func(what string) {
			t.Helper()
			got, err := st.Org(org).Delivery(t.Context(), want.ID)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%s: %v, %s", what, err, diff)
			}
			if got, err := st.DeliveryByID(t.Context(), want.ID); err != nil || !cmp.Equal(got, want) {
				t.Errorf("%s: by its id it is %+v, %v", what, got, err)
			}
		}
		due := func(at int, ids ...string) {
			t.Helper()
			rows, err := st.DueDeliveries(t.Context(), after(at), 10)
			var got []string
			for _, r := range rows {
				got = append(got, r.ID)
			}
			if err != nil || !cmp.Equal(got, ids) {
				t.Errorf("due after %d ms are %v, %v; want %v", at, got, err, ids)
			}
		}
		record := func(a store.Attempt) {
			t.Helper()
			write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.RecordAttempt(ctx, want.ID, a) })
		}
		want.NextAt = now
		check("made")
		due(10, want.ID, other.ID)
		record(store.Attempt{Status: store.DeliveryPending, ResponseStatus: 503, Error: "unavailable", At: after(11), NextAt: after(600)})
		want.Attempts, want.ResponseStatus, want.Error, want.NextAt = 1, 503, "unavailable", after(600)
		check("tried")
		due(550, other.ID, late.ID)
		record(store.Attempt{Status: store.DeliveryDead, Error: "refused", At: after(12)})
		want.Attempts, want.ResponseStatus, want.Error, want.NextAt, want.Status = 2, 0, "refused", store.Time{}, store.DeliveryDead
		check("given up")
		refused(t, st, fault.Conflict, func(ctx context.Context, tx *store.Tx) error {
			return tx.RecordAttempt(ctx, want.ID, store.Attempt{Status: store.DeliveryDelivered, At: now})
		})
		check("tried when given up")
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).Redeliver(ctx, want.ID, after(700)) })
		want.Attempts, want.NextAt, want.Status = 0, after(700), store.DeliveryPending
		check("asked for again")
		record(store.Attempt{Status: store.DeliveryDelivered, ResponseStatus: 204, At: after(701)})
		want.Attempts, want.ResponseStatus, want.Error, want.NextAt, want.Status, want.DeliveredAt = 1, 204, "", store.Time{}, store.DeliveryDelivered, after(701)
		check("delivered")
		due(1000, other.ID, late.ID)
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).Redeliver(ctx, "dlv_nothing", now) })
		rows, total, err := st.Org(org).Deliveries(t.Context(), "wl_1", store.Page{})
		if err != nil || total != 2 || rows[0].ID != late.ID || rows[1].ID != want.ID {
			t.Errorf("got %+v, %d, %v; want the newest first", rows, total, err)
		}
	})
}
