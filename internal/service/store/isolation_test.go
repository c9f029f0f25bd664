package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// trespass calls each method of the door to an organisation with what belongs to
// another one, and returns what it gave.
var trespass = map[string]func(ctx context.Context, o store.OrgTx, of ids) (any, error){
	"Get":    func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return o.Get(ctx) },
	"Member": func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return o.Member(ctx, of.person) },
	"Members": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return rows(o.Members(ctx, store.Page{}))
	},
	"Key":  func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return o.Key(ctx, of.key) },
	"Keys": func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return rows(o.Keys(ctx, store.Page{})) },
	"AuditLog": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return rows(o.AuditLog(ctx, store.Page{}))
	},
	"Scan":      func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return o.Scan(ctx, of.scan) },
	"Scans":     func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return rows(o.Scans(ctx, store.Page{})) },
	"Repo":      func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return o.Repo(ctx, of.repo) },
	"Repos":     func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return rows(o.Repos(ctx, store.Page{})) },
	"Watchlist": func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return o.Watchlist(ctx, of.watchlist) },
	"Watchlists": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return rows(o.Watchlists(ctx, store.Page{}))
	},
	"Watches": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return rows(o.Watches(ctx, of.watchlist, store.Page{}))
	},
	"Alerts": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return rows(o.Alerts(ctx, store.Page{}))
	},
	"Delivery": func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return o.Delivery(ctx, of.delivery) },
	"Deliveries": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return rows(o.Deliveries(ctx, of.watchlist, store.Page{}))
	},
	"Subscription": func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return o.Subscription(ctx) },
	"Used": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nothing(o.Used(ctx, "package-scans", "2026-03"))
	},
	"SetPlan": func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return nil, o.SetPlan(ctx, "team") },
	"AddMember": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.AddMember(ctx, &store.Member{OrgID: of.org, PersonID: of.person, Role: "OWNER", CreatedAt: now})
	},
	"SetRole": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.SetRole(ctx, of.person, "VIEWER")
	},
	"RemoveMember": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.RemoveMember(ctx, of.person)
	},
	"CreateKey": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		k := key(store.NewID("theirs"), 0)
		k.OrgID = of.org
		return nil, o.CreateKey(ctx, &k)
	},
	"RevokeKey": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.RevokeKey(ctx, of.key, now)
	},
	"Audit": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.Audit(ctx, store.Audit{OrgID: of.org, CreatedAt: now})
	},
	"Use": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		used, _, err := o.Use(ctx, "package-scans", "2026-03", 0, 1)
		return nothing(used, err)
	},
	"BeginRepeat": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		state, _, err := o.BeginRepeat(ctx, theirRepeat, now)
		return nothing(int64(state), err)
	},
	"FinishRepeat": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.FinishRepeat(ctx, theirRepeat, store.Answer{Status: 200})
	},
	"ForgetRepeat": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.ForgetRepeat(ctx, theirRepeat)
	},
	"CreateScan": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		s := scan("left-pad", 0)
		s.OrgID = of.org
		_, err := o.CreateScan(ctx, &s)
		return s, err
	},
	"CancelScan": func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return o.CancelScan(ctx, of.scan, now) },
	"DeleteScan": func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return nil, o.DeleteScan(ctx, of.scan) },
	"CreateRepo": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.CreateRepo(ctx, &store.Repo{OrgID: of.org, GithubRepo: "acme/theirs", CreatedAt: now})
	},
	"UpdateRepo": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.UpdateRepo(ctx, &store.Repo{ID: of.repo, OrgID: of.org, RiskScore: 99})
	},
	"DeleteRepo": func(ctx context.Context, o store.OrgTx, of ids) (any, error) { return nil, o.DeleteRepo(ctx, of.repo) },
	"CreateWatchlist": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.CreateWatchlist(ctx, &store.Watchlist{OrgID: of.org, CreatedAt: now})
	},
	"DeleteWatchlist": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.DeleteWatchlist(ctx, of.watchlist)
	},
	"AddWatch": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.AddWatch(ctx, &store.Watch{OrgID: of.org, WatchlistID: of.watchlist, Ecosystem: target.NPM, Name: "x", CreatedAt: now})
	},
	"RemoveWatch": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.RemoveWatch(ctx, of.watchlist, of.watch)
	},
	"CreateAlert": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		_, err := o.CreateAlert(ctx, &store.Alert{OrgID: of.org, WatchlistID: of.watchlist, AnalysisID: "pkg_1", CreatedAt: now})
		return nil, err
	},
	"CreateDelivery": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		d := delivery(of.watchlist, 0)
		d.OrgID = of.org
		return nil, o.CreateDelivery(ctx, &d)
	},
	"Redeliver": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.Redeliver(ctx, of.delivery, now)
	},
	"PutSubscription": func(ctx context.Context, o store.OrgTx, of ids) (any, error) {
		return nil, o.PutSubscription(ctx, &store.Subscription{OrgID: of.org, Plan: "free", CreatedAt: now, UpdatedAt: now})
	},
}

var theirRepeat = store.Repeat{Route: "POST /scans/packages", Name: "once", Body: []byte("theirs")}

func rows[T any](rows []T, total int, err error) (any, error) {
	if total != len(rows) {
		err = errors.Join(err, fmt.Errorf("%d rows of %d", len(rows), total))
	}
	return rows, err
}

func nothing(n int64, err error) (any, error) {
	if n != 0 {
		err = errors.Join(err, fmt.Errorf("got %d, want 0", n))
	}
	return nil, err
}

// TestForeign shows that what an organisation has is neither seen nor changed
// through the door of another one, which owns nothing, by any method.
func TestForeign(t *testing.T) {
	for m := range reflect.TypeFor[store.OrgTx]().Methods() {
		if trespass[m.Name] == nil {
			t.Errorf("%s is not tried", m.Name)
		}
	}
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		a := analyze(t, st, target.NPM, "bcrypt", "1.0.0")
		theirs, own := furnish(t, st, "theirs", &a), makeOrg(t, st, "own")
		before := must[[]string](t)(st.Rows(t.Context(), theirs.org))
		if len(before) < 12 {
			t.Fatalf("only %d rows: %q", len(before), before)
		}
		for name, call := range trespass {
			undo := errors.New("undo")
			err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				got, err := call(ctx, tx.Org(own), theirs)
				if err != nil && !fault.Is(err, fault.NotFound) {
					t.Errorf("%s: %v", name, err)
				}
				if strings.Contains(fmt.Sprintf("%+v", got), theirs.org) {
					t.Errorf("%s gives what is another's: %+v", name, got)
				}
				return undo
			})
			if !errors.Is(err, undo) {
				t.Errorf("%s: %v", name, err)
			}
			// Once more, to see what it does when it is committed.
			if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				_, err := call(ctx, tx.Org(makeOrgIn(ctx, t, tx, name)), theirs)
				if fault.Is(err, fault.NotFound) {
					err = nil
				}
				return err
			}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff(before, must[[]string](t)(st.Rows(t.Context(), theirs.org))); diff != "" {
				t.Fatalf("%s changed what is another's: %s", name, diff)
			}
		}
	})
}

func makeOrgIn(ctx context.Context, t *testing.T, tx *store.Tx, slug string) string {
	t.Helper()
	row := store.Organization{Name: slug, Slug: slug, Plan: "pro", CreatedAt: now}
	if err := tx.CreateOrg(ctx, &row); err != nil {
		t.Fatal(err)
	}
	return row.ID
}
