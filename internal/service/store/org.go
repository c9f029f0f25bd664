package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// An Organization is who has everything else.
type Organization struct {
	bun.BaseModel `bun:"table:org"`

	ID        string `bun:",pk"`
	Number    int64  // 1 for the first one
	Name      string
	Slug      string
	Plan      string
	CreatedAt Time
}

// CreateOrg adds an organisation and gives it its number, and an id if it has
// none. It is a conflict if the slug is taken.
func (tx *Tx) CreateOrg(ctx context.Context, o *Organization) error {
	if _, err := tx.Plan(ctx, o.Plan); fault.Is(err, fault.NotFound) {
		return fault.New(fault.Invalid, "there is no plan %q", o.Plan)
	} else if err != nil {
		return err
	}
	o.ID = cmp.Or(o.ID, NewID("org_"))
	var err error
	if o.Number, err = tx.next(ctx, "org"); err != nil {
		return err
	}
	n, err := count(tx.db.NewInsert().Model(o).On("CONFLICT DO NOTHING").Exec(ctx))
	return some(n, err, fault.Conflict, "there is an organization %q already", o.Slug)
}

// next returns the next number of a counter. Until the transaction ends, others
// wait for theirs, so that numbers are committed in order.
func (tx *Tx) next(ctx context.Context, counter string) (n int64, err error) {
	err = tx.db.NewRaw("UPDATE counter SET value = value + 1 WHERE name = ? RETURNING value", counter).Scan(ctx, &n)
	return n, failed(err)
}

// OrgBySlug returns the organisation of a slug.
func (r reads) OrgBySlug(ctx context.Context, slug string) (Organization, error) {
	var o Organization
	err := one(ctx, r.db.NewSelect().Model(&o).Where("slug = ?", slug), "no organization %q", slug)
	return o, err
}

// Orgs lists the organisations in the order in which they were made.
func (r reads) Orgs(ctx context.Context, page Page) (rows []Organization, total int, err error) {
	total, err = list(ctx, r.db.NewSelect().Model(&rows).Order("number"), page, &rows)
	return rows, total, err
}

// Get returns the organisation itself.
func (o Org) Get(ctx context.Context) (Organization, error) {
	var row Organization
	err := one(ctx, o.db.NewSelect().Model(&row).Where("id = ?", o.id), "no organization %s", o.id)
	return row, err
}

// SetPlan gives the organisation another plan, which must exist.
func (o OrgTx) SetPlan(ctx context.Context, plan string) error {
	if _, err := o.tx.Plan(ctx, plan); fault.Is(err, fault.NotFound) {
		return fault.New(fault.Invalid, "there is no plan %q", plan)
	} else if err != nil {
		return err
	}
	n, err := count(o.db.NewUpdate().Model((*Organization)(nil)).Set("plan = ?", plan).Where("id = ?", o.id).Exec(ctx))
	return some(n, err, fault.NotFound, "no organization %s", o.id)
}
