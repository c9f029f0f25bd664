package store_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// crowd fills a database: one organisation with much of everything, and many
// with a little. It returns the ids of the first.
func crowd(t testing.TB, st *store.Store) ids {
	const orgs, much = 2000, 450
	a := analyze(t, st, target.NPM, "bcrypt", "1.0.0")
	of := furnish(t, st, "large", &a)
	var all struct {
		org      []store.Organization
		person   []store.Person
		member   []store.Member
		key      []store.Key
		audit    []store.Audit
		scan     []store.Scan
		repo     []store.Repo
		list     []store.Watchlist
		watch    []store.Watch
		watched  []store.WatchedPackage
		analysis []store.Analysis
		pack     []store.Package
		alert    []store.Alert
		delivery []store.Delivery
		sub      []store.Subscription
	}
	fill := func(i int, org, list string) {
		id := fmt.Sprintf("%s_%d", org, i)
		name := fmt.Sprintf("package-%d", i%500)
		k, s, d := key(id, i), scan(fmt.Sprintf("p%d", i), i), delivery(list, i)
		k.ID, k.OrgID = id, org
		s.ID, s.OrgID = id, org
		if i%50 != 0 {
			s.Status = store.ScanComplete
		}
		d.ID, d.OrgID, d.Status, d.NextAt = id, org, store.DeliveryDelivered, after(i)
		if i%50 == 0 {
			d.Status = store.DeliveryPending
		}
		all.key = append(all.key, k)
		all.scan = append(all.scan, s)
		all.delivery = append(all.delivery, d)
		all.person = append(all.person, store.Person{ID: id, Email: id + "@mail.example", CreatedAt: now})
		all.member = append(all.member, store.Member{OrgID: org, PersonID: id, Role: "VIEWER", CreatedAt: now})
		all.audit = append(all.audit, store.Audit{ID: id, OrgID: org, Actor: "x", Action: "y", Detail: "{}", CreatedAt: after(i)})
		all.repo = append(all.repo, store.Repo{ID: id, OrgID: org, GithubRepo: id, Folded: id, CreatedAt: after(i)})
		all.list = append(all.list, store.Watchlist{ID: id, OrgID: org, Name: id, Channel: "email", CreatedAt: after(i)})
		all.watch = append(all.watch, store.Watch{ID: id, OrgID: org, WatchlistID: list, Ecosystem: target.NPM, Name: name, Version: fmt.Sprint(i), CreatedAt: after(i)})
		an := analysis(target.NPM, "large", fmt.Sprintf("1.0.%d", i))
		an.ID, an.SortVersion, an.Newest = id, target.SortVersion(target.NPM, an.Version), org == of.org
		all.analysis = append(all.analysis, an)
		all.alert = append(all.alert, store.Alert{ID: id, OrgID: org, WatchlistID: list, AnalysisID: id, Body: "{}", CreatedAt: after(i)})
	}
	for i := range orgs {
		org := fmt.Sprintf("org_%d", i)
		all.org = append(all.org, store.Organization{ID: org, Number: int64(100 + i), Name: org, Slug: org, Plan: "pro", CreatedAt: now})
		all.sub = append(all.sub, store.Subscription{ID: org, OrgID: org, Plan: "pro", Customer: "cus_" + org, CreatedAt: now, UpdatedAt: now})
		all.watched = append(all.watched, store.WatchedPackage{Ecosystem: target.NPM, Name: fmt.Sprintf("package-%d", i), NextAt: after(i)})
		all.pack = append(all.pack, store.Package{Ecosystem: target.NPM, Name: fmt.Sprintf("package-%d", i), AnalysisID: a.ID, Version: "1.0.0", SortVersion: []byte{}, Seq: int64(100 + i)})
		fill(i, org, org+fmt.Sprintf("_%d", i))
	}
	for i := range much {
		fill(i, of.org, of.watchlist)
	}
	write(t, st, func(ctx context.Context, tx *store.Tx) error {
		for _, insert := range []func() error{
			func() error { return store.InsertAll(ctx, tx, all.org) },
			func() error { return store.InsertAll(ctx, tx, all.person) },
			func() error { return store.InsertAll(ctx, tx, all.member) },
			func() error { return store.InsertAll(ctx, tx, all.key) },
			func() error { return store.InsertAll(ctx, tx, all.audit) },
			func() error { return store.InsertAll(ctx, tx, all.scan) },
			func() error { return store.InsertAll(ctx, tx, all.repo) },
			func() error { return store.InsertAll(ctx, tx, all.list) },
			func() error { return store.InsertAll(ctx, tx, all.watch) },
			func() error { return store.InsertAll(ctx, tx, all.watched) },
			func() error { return store.InsertAll(ctx, tx, all.analysis) },
			func() error { return store.InsertAll(ctx, tx, all.pack) },
			func() error { return store.InsertAll(ctx, tx, all.alert) },
			func() error { return store.InsertAll(ctx, tx, all.delivery) },
			func() error { return store.InsertAll(ctx, tx, all.sub) },
		} {
			if err := insert(); err != nil {
				return err
			}
		}
		return nil
	})
	for _, text := range []string{
		"INSERT INTO idempotency SELECT id, 'r', 'n', '', 0, '', NULL, 1774173600000 + number FROM org",
		"INSERT INTO monthly_use SELECT id, 'm', '2026-03', 1 FROM org",
		"INSERT INTO request_window SELECT id, 1774173600000 + number, 1 FROM org",
		"INSERT INTO analysis_document SELECT id, 'marks', '' FROM analysis",
	} {
		if err := st.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Analyze(t.Context()); err != nil {
		t.Fatal(err)
	}
	return of
}

// small are tables that are quicker read whole, and what a statement itself holds.
var small = regexp.MustCompile(`\b(?:plan|counter|setting|schema_version|used)\b`)

// whole matches what reads a table from its beginning to its end.
var whole = map[store.Engine]*regexp.Regexp{
	store.SQLite:   regexp.MustCompile(`^SCAN \w+$`),
	store.Postgres: regexp.MustCompile(`Seq Scan on`),
}

// sorting matches what sorts rows.
var sorting = regexp.MustCompile(`USE TEMP B-TREE|\bSort\b`)

// TestPlansOfQueries asks for the plan of each statement: none reads a whole table, and
// only where few rows can be found are they sorted.
func TestPlansOfQueries(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		of := crowd(t, st)
		page := store.Page{Limit: 5, Offset: 5}
		ctx := t.Context()
		in := func(f func(tx *store.Tx) error) func(st *store.Store) error {
			return func(st *store.Store) error {
				return st.Write(ctx, func(ctx context.Context, tx *store.Tx) error { return f(tx) })
			}
		}
		for _, test := range []struct {
			name  string
			run   func(st *store.Store) error
			sorts bool // the few rows that it finds
			all   bool // it is about the whole table
		}{
			{name: "orgs", all: true, run: func(st *store.Store) error { _, _, err := st.Orgs(ctx, page); return err }},
			{name: "org by slug", run: func(st *store.Store) error { return second(st.OrgBySlug(ctx, "large")) }},
			{name: "people", all: true, run: func(st *store.Store) error { _, _, err := st.People(ctx, page); return err }},
			{name: "person by address", run: func(st *store.Store) error { return second(st.PersonByEmail(ctx, "large@mail.example")) }},
			{name: "members", run: func(st *store.Store) error { _, _, err := st.Org(of.org).Members(ctx, page); return err }},
			{name: "member", run: func(st *store.Store) error { return second(st.Org(of.org).Member(ctx, of.person)) }},
			{name: "memberships", sorts: true, run: func(st *store.Store) error { _, _, err := st.Memberships(ctx, of.person, store.Page{}); return err }},
			{name: "keys", run: func(st *store.Store) error { _, _, err := st.Org(of.org).Keys(ctx, page); return err }},
			{name: "key", run: func(st *store.Store) error { return second(st.Org(of.org).Key(ctx, of.key)) }},
			{name: "key by hash", run: func(st *store.Store) error { return second(st.KeyByHash(ctx, key("large", 0).SHA256)) }},
			{name: "touch keys", run: in(func(tx *store.Tx) error { return tx.TouchKeys(ctx, map[string]store.Time{of.key: now, "x": now}) })},
			{name: "revoke key", run: in(func(tx *store.Tx) error { return tx.Org(of.org).RevokeKey(ctx, of.key, now) })},
			{name: "audit", run: func(st *store.Store) error { _, _, err := st.Org(of.org).AuditLog(ctx, page); return err }},
			{name: "used", run: func(st *store.Store) error { return second(st.Org("org_1").Used(ctx, "m", "2026-03")) }},
			{name: "old windows", run: func(st *store.Store) error { return second(st.DeleteWindows(ctx, after(103))) }},
			{name: "old repeats", run: in(func(tx *store.Tx) error { return second(tx.DeleteRepeats(ctx, now)) })},
			{name: "repeat", run: in(func(tx *store.Tx) error {
				_, _, err := tx.Org("org_1").BeginRepeat(ctx, store.Repeat{Route: "r", Name: "n", Body: []byte{1}}, now)
				return err
			})},
			{name: "analysis", run: func(st *store.Store) error { return second(st.AnalysisOf(ctx, target.NPM, "large", "1.0.7")) }},
			{name: "analysis below", run: func(st *store.Store) error { return second(st.AnalysisBelow(ctx, target.NPM, "large", "1.0.7")) }},
			{name: "versions", run: func(st *store.Store) error { _, _, err := st.Versions(ctx, target.NPM, "large", page); return err }},
			{name: "document", run: func(st *store.Store) error { _, _ = st.Document(ctx, "x", "report"); return nil }},
			{name: "package", run: func(st *store.Store) error { return second(st.Package(ctx, target.NPM, "package-7")) }},
			{name: "changes", run: func(st *store.Store) error { return second(st.PackageChanges(ctx, 900, 10)) }},
			{name: "count", all: true, run: func(st *store.Store) error { return second(st.PackageCount(ctx)) }},
			{name: "search", all: true, run: func(st *store.Store) error {
				_, _, err := st.SearchPackages(ctx, "pack", store.Page{Limit: 5})
				return err
			}},
			{name: "save", run: in(func(tx *store.Tx) error {
				a := analysis(target.NPM, "large", "1.0.7")
				return second(tx.SaveAnalysis(ctx, &a))
			})},
			{name: "scans", run: func(st *store.Store) error { _, _, err := st.Org(of.org).Scans(ctx, page); return err }},
			{name: "same scan", run: in(func(tx *store.Tx) error {
				s := scan("left-pad", 0)
				return second(tx.Org(of.org).CreateScan(ctx, &s))
			})},
			{name: "open scans", run: func(st *store.Store) error { return second(st.OpenScans(ctx, "", 10)) }},
			{name: "scan", run: func(st *store.Store) error { return second(st.ScanByID(ctx, of.scan)) }},
			{name: "scan's life", run: in(func(tx *store.Tx) error {
				for _, err := range []error{
					tx.SetScanJob(ctx, of.scan, 1), tx.StartScan(ctx, of.scan, "ingest", now), tx.SetScanStage(ctx, of.scan, "extract"),
					second(tx.Org(of.org).CancelScan(ctx, of.scan, now)), tx.FinishScan(ctx, of.scan, store.ScanEnd{Status: store.ScanFailed, At: now}),
					tx.Org(of.org).DeleteScan(ctx, of.scan),
				} {
					if err != nil {
						return err
					}
				}
				return nil
			})},
			{name: "repos", run: func(st *store.Store) error { _, _, err := st.Org(of.org).Repos(ctx, page); return err }},
			{name: "watchlists", run: func(st *store.Store) error { _, _, err := st.Org(of.org).Watchlists(ctx, page); return err }},
			{name: "watches", run: func(st *store.Store) error { _, _, err := st.Org(of.org).Watches(ctx, of.watchlist, page); return err }},
			{name: "watched versions", sorts: true, run: func(st *store.Store) error { return second(st.WatchedVersions(ctx, target.NPM, "package-7")) }},
			{name: "watchers", sorts: true, run: func(st *store.Store) error { return second(st.WatchlistsOf(ctx, target.NPM, "package-7", "7")) }},
			{name: "watch", run: in(func(tx *store.Tx) error {
				w := store.Watch{WatchlistID: of.watchlist, Ecosystem: target.NPM, Name: "new", CreatedAt: now}
				if err := tx.Org(of.org).AddWatch(ctx, &w); err != nil {
					return err
				}
				return tx.Org(of.org).RemoveWatch(ctx, of.watchlist, w.ID)
			})},
			{name: "claim", run: in(func(tx *store.Tx) error { return second(tx.ClaimWatched(ctx, after(10), after(5000), 5)) }), sorts: true},
			{name: "alerts", run: func(st *store.Store) error { _, _, err := st.Org(of.org).Alerts(ctx, page); return err }},
			{name: "deliveries", run: func(st *store.Store) error {
				_, _, err := st.Org(of.org).Deliveries(ctx, of.watchlist, page)
				return err
			}},
			{name: "due deliveries", run: func(st *store.Store) error { return second(st.DueDeliveries(ctx, after(100000), 5)) }},
			{name: "redeliver", run: in(func(tx *store.Tx) error { return tx.Org(of.org).Redeliver(ctx, of.delivery, now) })},
			{name: "subscription", run: func(st *store.Store) error { return second(st.Org("org_1").Subscription(ctx)) }},
			{name: "customer", run: func(st *store.Store) error { return second(st.SubscriptionByCustomer(ctx, "cus_org_1")) }, sorts: true},
		} {
			var err error
			queries := st.Queries(func(st *store.Store) { err = test.run(st) })
			if err != nil || len(queries) == 0 {
				t.Errorf("%s: %d queries, %v", test.name, len(queries), err)
			}
			for _, text := range queries {
				verb, _, _ := strings.Cut(text, " ")
				if verb == "INSERT" || verb == "BEGIN" || verb == "COMMIT" || verb == "ROLLBACK" {
					continue
				}
				plan, err := st.Explain(ctx, text)
				if err != nil || len(plan) == 0 {
					t.Errorf("%s: %s: %v", test.name, text, err)
				}
				for _, line := range plan {
					bad := whole[st.Engine()].MatchString(line) && !small.MatchString(line) && !(test.all && strings.Contains(text, "count(*)"))
					if bad || sorting.MatchString(line) && !test.sorts {
						t.Errorf("%s: %s\n\t%s", test.name, text, strings.Join(plan, "\n\t"))
						break
					}
				}
			}
		}
	})
}
