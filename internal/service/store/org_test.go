package store_test

import (
	"context"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

func TestOrg(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		a, b := makeOrg(t, st, "a"), makeOrg(t, st, "b")
		got, err := st.Org(a).Get(t.Context())
		want := store.Organization{ID: a, Number: 1, Name: "The a", Slug: "a", Plan: "pro", CreatedAt: now}
		if err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		got, err = st.OrgBySlug(t.Context(), "b")
		if err != nil || got.ID != b || got.Number != 2 {
			t.Errorf("got %+v, %v; want number 2", got, err)
		}
		if _, err := st.OrgBySlug(t.Context(), "c"); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want not found", err)
		}
		if _, err := st.Org("nobody").Get(t.Context()); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want not found", err)
		}
		refused(t, st, fault.Conflict, func(ctx context.Context, tx *store.Tx) error {
			return tx.CreateOrg(ctx, &store.Organization{Slug: "a", Plan: "free", CreatedAt: now})
		})
		refused(t, st, fault.Invalid, func(ctx context.Context, tx *store.Tx) error {
			return tx.CreateOrg(ctx, &store.Organization{Slug: "c", Plan: "golden"})
		})
		refused(t, st, fault.Invalid, func(ctx context.Context, tx *store.Tx) error { return tx.Org(a).SetPlan(ctx, "golden") })
		refused(t, st, fault.NotFound, func(ctx context.Context, tx *store.Tx) error { return tx.Org("nobody").SetPlan(ctx, "free") })
		write(t, st, func(ctx context.Context, tx *store.Tx) error { return tx.Org(a).SetPlan(ctx, "team") })
		all, total, err := st.Orgs(t.Context(), store.Page{Limit: 1})
		if err != nil || total != 2 || len(all) != 1 || all[0].Plan != "team" {
			t.Errorf("got %+v, %d, %v; want a of 2", all, total, err)
		}
		all, total, err = st.Orgs(t.Context(), store.Page{Limit: 1, Offset: 1})
		if err != nil || total != 2 || len(all) != 1 || all[0].ID != b {
			t.Errorf("got %+v, %d, %v; want b of 2", all, total, err)
		}
		all, total, err = st.Orgs(t.Context(), store.Page{Offset: 5})
		if err != nil || total != 2 || len(all) != 0 {
			t.Errorf("got %+v, %d, %v; want none of 2", all, total, err)
		}
	})
}
