package account

import (
	"cmp"
	"context"
	"regexp"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// DefaultPlan is what an organisation has where nothing is said: nothing is in
// the way of who runs Loupe for themselves.
const DefaultPlan = "enterprise"

var slugForm = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$`)

// CreateOrg makes an organisation. An empty slug is made of the name.
func (s *Service) CreateOrg(ctx context.Context, name, slug, plan string) (store.Organization, error) {
	name, err := CleanName("name", name, 100)
	if err != nil {
		return store.Organization{}, err
	}
	slug = cmp.Or(slug, slugOf(name))
	if !slugForm.MatchString(slug) {
		return store.Organization{}, fault.New(fault.Invalid, "%q is no slug", slug).Try("use up to 64 small letters, digits and dashes").In("slug", slug)
	}
	o := store.Organization{Name: name, Slug: slug, Plan: cmp.Or(plan, DefaultPlan), CreatedAt: store.At(s.now())}
	err = s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		o.ID = "" // the function may be called again
		if err := tx.CreateOrg(ctx, &o); err != nil {
			return err
		}
		return Log(ctx, tx, o.ID, CommandLine, "", "org.create", o.ID, map[string]any{"slug": slug, "plan": o.Plan}, s.now())
	})
	if err != nil {
		return store.Organization{}, err
	}
	return o, nil
}

// SetPlan gives an organisation another plan.
func (s *Service) SetPlan(ctx context.Context, org, plan string) error {
	return s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.Org(org).SetPlan(ctx, plan); err != nil {
			return err
		}
		return Log(ctx, tx, org, CommandLine, "", "org.plan", org, map[string]any{"plan": plan}, s.now())
	})
}

var notSlug = regexp.MustCompile(`[^a-z0-9]+`)

// slugOf makes a slug of a name: "Ashlr AI" is ashlr-ai.
func slugOf(name string) string {
	slug := strings.Trim(notSlug.ReplaceAllString(strings.ToLower(name), "-"), "-")
	return strings.TrimRight(slug[:min(len(slug), 64)], "-")
}
