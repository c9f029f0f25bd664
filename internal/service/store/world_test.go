package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// now is when the tests happen.
var now = store.At(time.Date(2026, 3, 22, 10, 0, 0, 0, time.UTC))

// after returns the time some milliseconds after now.
func after(ms int) store.Time { return store.At(now.Add(time.Duration(ms) * time.Millisecond)) }

// write makes a change that must succeed.
func write(t testing.TB, st *store.Store, f func(ctx context.Context, tx *store.Tx) error) {
	t.Helper()
	if err := st.Write(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// refused makes a change that must fail with a kind of fault, after which the
// transaction can still be used.
func refused(t testing.TB, st *store.Store, kind fault.Kind, f func(ctx context.Context, tx *store.Tx) error) {
	t.Helper()
	write(t, st, func(ctx context.Context, tx *store.Tx) error {
		if err := f(ctx, tx); !fault.Is(err, kind) {
			t.Errorf("got %v, want a fault: %v", err, kind)
		}
		_, err := tx.Plans(ctx)
		return err
	})
}

// must returns what a query gave, which must have succeeded.
func must[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// makeOrg makes an organisation and returns its id.
func makeOrg(t testing.TB, st *store.Store, slug string) string {
	t.Helper()
	row := store.Organization{Name: "The " + slug, Slug: slug, Plan: "pro", CreatedAt: now}
	write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.CreateOrg(ctx, &row) })
	return row.ID
}

// makePerson makes a person and returns their id.
func makePerson(t testing.TB, st *store.Store, email string) string {
	t.Helper()
	row := store.Person{Email: email, CreatedAt: now}
	write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.CreatePerson(ctx, &row) })
	return row.ID
}

// analyze saves an analysis and returns it.
func analyze(t testing.TB, st *store.Store, eco target.Ecosystem, name, version string) store.Analysis {
	t.Helper()
	a := analysis(eco, name, version)
	write(t, st, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.SaveAnalysis(ctx, &a, store.Document{Kind: "report", Data: []byte(name + version)})
		return err
	})
	return a
}

func analysis(eco target.Ecosystem, name, version string) store.Analysis {
	return store.Analysis{
		Ecosystem: eco, Name: name, Version: version, Rules: "r1", RiskScore: 12, RiskLevel: "low", Summary: "About " + name + " " + version,
		BinaryCount: 1, TotalSize: 198451, SourceMatch: "high", Model: "loupe-rules", CreatedAt: now,
	}
}

// key returns a key with the hash of a secret.
func key(label string, ms int) store.Key {
	sum := sha256.Sum256([]byte(label))
	return store.Key{
		Brand: "binshield", Label: label, Prefix: "bsh_live_abc", Last4: "wxyz", SHA256: sum[:], Scopes: store.Words{"admin", "ci:review"},
		Role: "ADMIN", RepoPattern: "*", MonthlyLimit: store.Unlimited, CreatedBy: "command line", CreatedAt: after(ms),
	}
}

func scan(name string, ms int) store.Scan {
	return store.Scan{Kind: "package", Ecosystem: target.NPM, Name: name, Version: "1.0.0", Request: "{}", RequestedBy: "key_1", Status: store.ScanQueued, Stage: "ingest", RequestedAt: after(ms)}
}

func delivery(source string, ms int) store.Delivery {
	return store.Delivery{SourceID: source, Event: "package.changed", Channel: "webhook", Destination: "https://hooks.example", Secret: "s", Body: "{}", CreatedAt: after(ms)}
}

// ids are those of one row of each kind.
type ids struct{ org, person, key, scan, repo, watchlist, watch, alert, delivery string }

// furnish makes an organisation with one row of each kind.
func furnish(t testing.TB, st *store.Store, slug string, a *store.Analysis) ids {
	t.Helper()
	id := ids{org: makeOrg(t, st, slug), person: makePerson(t, st, slug+"@mail.example")}
	write(t, st, func(ctx context.Context, tx *store.Tx) error {
		o := tx.Org(id.org)
		k, s, repo := key(slug, 0), scan("left-pad", 0), store.Repo{GithubRepo: "Acme/" + slug, CreatedAt: now}
		list := store.Watchlist{Name: slug, Channel: "email", Destination: slug + "@mail.example", CreatedAt: now}
		for _, err := range []error{
			o.AddMember(ctx, &store.Member{PersonID: id.person, Role: "OWNER", CreatedAt: now}),
			o.CreateKey(ctx, &k),
			o.Audit(ctx, store.Audit{Actor: "command line", Action: "key.create", Object: k.ID, Detail: "{}", CreatedAt: now}),
			o.CreateRepo(ctx, &repo),
			o.CreateWatchlist(ctx, &list),
			o.PutSubscription(ctx, &store.Subscription{Provider: "stripe", Plan: "pro", Status: "active", Customer: "cus_" + slug, CreatedAt: now, UpdatedAt: now}),
		} {
			if err != nil {
				return err
			}
		}
		watch := store.Watch{WatchlistID: list.ID, Ecosystem: target.NPM, Name: "bcrypt", CreatedAt: now}
		alert := store.Alert{WatchlistID: list.ID, AnalysisID: a.ID, Body: "{}", CreatedAt: now}
		d := delivery(list.ID, 0)
		if err := o.AddWatch(ctx, &watch); err != nil {
			return err
		}
		if _, err := o.CreateAlert(ctx, &alert); err != nil {
			return err
		}
		if _, err := o.CreateScan(ctx, &s); err != nil {
			return err
		}
		if _, _, err := o.Use(ctx, "package-scans", "2026-03", 7, 50); err != nil {
			return err
		}
		if _, _, err := o.BeginRepeat(ctx, store.Repeat{Route: "POST /scans/packages", Name: "once", Body: []byte(slug)}, now); err != nil {
			return err
		}
		if err := o.CreateDelivery(ctx, &d); err != nil {
			return err
		}
		id.key, id.scan, id.repo, id.watchlist, id.watch, id.alert, id.delivery = k.ID, s.ID, repo.ID, list.ID, watch.ID, alert.ID, d.ID
		return nil
	})
	return id
}

func many(n int, f func(i int) string) (texts []string) {
	for i := range n {
		texts = append(texts, f(i))
	}
	return texts
}

func number(format string) func(i int) string {
	return func(i int) string { return fmt.Sprintf(format, i) }
}
