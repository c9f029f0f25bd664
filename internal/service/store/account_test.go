package store_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

func TestPlans(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		got, err := st.Plan(t.Context(), "pro")
		want := store.Plan{
			Name: "pro", Minute: 300, Hour: 10000, Month: 2500, Targets: 10, Scans: 50, ScansSeconds: 86400, Analyses: true,
			Monitors: 10, ReviewTier: "professional", ReviewMonth: 2000, Withheld: store.Words{},
		}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("got %v, %s", err, cmp.Diff(want, got))
		}
		all := must[[]store.Plan](t)(st.Plans(t.Context()))
		var names []string
		for _, p := range all {
			names = append(names, p.Name)
		}
		if want := []string{"enterprise", "free", "monthly", "payg", "pro", "team"}; !cmp.Equal(names, want) {
			t.Errorf("got %v, want %v", names, want)
		}
		if all[0].Minute != store.Unlimited || all[0].Month != 100000 {
			t.Errorf("enterprise is %+v", all[0])
		}
		if _, err := st.Plan(t.Context(), "golden"); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want not found", err)
		}
	})
}

func TestPeopleAndMembers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		a, b := makeOrg(t, st, "a"), makeOrg(t, st, "b")
		p := store.Person{Email: "Ann@Mail.example", Name: "Ann", CreatedAt: now}
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.CreatePerson(ctx, &p) })
		got, err := st.PersonByEmail(t.Context(), "aNN@mail.example")
		if err != nil || !cmp.Equal(got, p) || p.Email != "ann@mail.example" {
			t.Errorf("got %+v, %v; want %+v", got, err, p)
		}
		refused(t, st, fault.Conflict, func(ctx context.Context, tx *store.Tx) error {
			return tx.CreatePerson(ctx, &store.Person{Email: "ANN@mail.example", CreatedAt: now})
		})
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error {
			return tx.UpdatePerson(ctx, &store.Person{ID: "nobody"})
		})
		p.Password, p.Staff = "$argon2id$v=19$…", true
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.UpdatePerson(ctx, &p) })
		if got, err := st.Person(t.Context(), p.ID); err != nil || !cmp.Equal(got, p) {
			t.Errorf("got %+v, %v; want %+v", got, err, p)
		}
		if rows, total, err := st.People(t.Context(), store.Page{}); err != nil || total != 1 || !cmp.Equal(rows, []store.Person{p}) {
			t.Errorf("got %+v, %d, %v", rows, total, err)
		}

		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			if err := tx.Org(b).AddMember(ctx, &store.Member{PersonID: p.ID, Role: "VIEWER", CreatedAt: now}); err != nil {
				return err
			}
			return tx.Org(a).AddMember(ctx, &store.Member{PersonID: p.ID, Role: "OWNER", CreatedAt: now})
		})
		refused(t, st, fault.Conflict, func(ctx context.Context, tx *store.Tx) error {
			return tx.Org(a).AddMember(ctx, &store.Member{PersonID: p.ID, Role: "VIEWER", CreatedAt: now})
		})
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(a).SetRole(ctx, "nobody", "ADMIN") })
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(a).RemoveMember(ctx, "nobody") })
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(a).SetRole(ctx, p.ID, "ADMIN") })
		want := store.Member{OrgID: a, PersonID: p.ID, Role: "ADMIN", CreatedAt: now, Email: "ann@mail.example", Name: "Ann"}
		if got, err := st.Org(a).Member(t.Context(), p.ID); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		rows, total, err := st.Org(a).Members(t.Context(), store.Page{Limit: 1})
		if err != nil || total != 1 || !cmp.Equal(rows, []store.Member{want}) {
			t.Errorf("got %+v, %d, %v; want %+v", rows, total, err, want)
		}
		if rows, total, err := st.Memberships(t.Context(), p.ID, store.Page{}); err != nil || total != 2 || !slices.ContainsFunc(rows, func(m store.Member) bool { return m.OrgID == b && m.Role == "VIEWER" }) {
			t.Errorf("got %+v, %d, %v; want two", rows, total, err)
		}
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(a).RemoveMember(ctx, p.ID) })
		if _, err := st.Org(a).Member(t.Context(), p.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want not found", err)
		}
	})
}

func TestKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		one, two := key("one", 0), key("two", 1)
		two.ExpiresAt = after(5)
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			if err := tx.Org(org).CreateKey(ctx, &two); err != nil {
				return err
			}
			return tx.Org(org).CreateKey(ctx, &one)
		})
		refused(t, st, fault.Conflict, func(ctx context.Context, tx *store.Tx) error {
			same := key("one", 9)
			return tx.Org(org).CreateKey(ctx, &same)
		})
		rows, total, err := st.Org(org).Keys(t.Context(), store.Page{})
		if diff := cmp.Diff([]store.Key{one, two}, rows); err != nil || total != 2 || diff != "" {
			t.Errorf("got %d, %v, %s", total, err, diff)
		}
		found, err := st.KeyByHash(t.Context(), one.SHA256)
		if diff := cmp.Diff(one, found.Key); err != nil || diff != "" || found.Plan.Name != "pro" || found.Plan.Month != 2500 {
			t.Errorf("got %v, %+v, %s", err, found.Plan, diff)
		}
		if _, err := st.KeyByHash(t.Context(), make([]byte, 32)); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want not found", err)
		}

		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			return tx.TouchKeys(ctx, map[string]store.Time{one.ID: after(10), two.ID: after(20), "nobody": now})
		})
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			return tx.TouchKeys(ctx, map[string]store.Time{one.ID: after(11), two.ID: after(2)})
		})
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.TouchKeys(ctx, nil) })
		for k, want := range map[*store.Key]store.Time{&one: after(11), &two: after(20)} {
			if got, err := st.Org(org).Key(t.Context(), k.ID); err != nil || got.LastUsedAt != want {
				t.Errorf("%s was used at %v, %v; want %v", k.Label, got.LastUsedAt, err, want)
			}
		}

		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).RevokeKey(ctx, one.ID, after(30)) })
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).RevokeKey(ctx, one.ID, after(31)) })
		if found, err := st.KeyByHash(t.Context(), one.SHA256); err != nil || found.RevokedAt != after(30) {
			t.Errorf("got %v, %v; want revoked", found.RevokedAt, err)
		}
		if rows, total, err := st.Org(org).Keys(t.Context(), store.Page{}); err != nil || total != 1 || rows[0].ID != two.ID {
			t.Errorf("got %+v, %d, %v; want the second only", rows, total, err)
		}
	})
}

func TestAudit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			for i, action := range []string{"key.create", "key.revoke", "plan.set"} {
				if err := tx.Org(org).Audit(ctx, store.Audit{Actor: "key_1", Action: action, Object: "x", Detail: `{"a":1}`, RequestID: "r", CreatedAt: after(i)}); err != nil {
					return err
				}
			}
			return nil
		})
		rows, total, err := st.Org(org).AuditLog(t.Context(), store.Page{Limit: 2})
		if err != nil || total != 3 || len(rows) != 2 || rows[0].Action != "plan.set" || rows[1].Action != "key.revoke" || rows[1].Detail != `{"a":1}` {
			t.Errorf("got %+v, %d, %v; want the newest two of 3", rows, total, err)
		}
	})
}
