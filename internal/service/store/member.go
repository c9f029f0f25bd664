package store

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// A Member is a person in an organisation.
type Member struct {
	bun.BaseModel `bun:"table:member"`

	OrgID     string `bun:",pk"`
	PersonID  string `bun:",pk"`
	Role      string
	CreatedAt Time
	Email     string `bun:",scanonly"` // of the person
	Name      string `bun:",scanonly"`
}

func members(db bun.IDB, rows any) *bun.SelectQuery {
	return db.NewSelect().Model(rows).Column("org_id", "person_id", "role", "created_at").
		ColumnExpr("(SELECT email FROM person WHERE person.id = member.person_id) AS email").
		ColumnExpr("(SELECT name FROM person WHERE person.id = member.person_id) AS name")
}

// AddMember lets a person in. It is a conflict if they are in already.
func (o OrgTx) AddMember(ctx context.Context, m *Member) error {
	m.OrgID = o.id
	n, err := count(o.db.NewInsert().Model(m).On("CONFLICT DO NOTHING").Exec(ctx))
	return some(n, err, fault.Conflict, "this person is a member already")
}

// SetRole changes what a member is.
func (o OrgTx) SetRole(ctx context.Context, personID, role string) error {
	n, err := count(o.db.NewUpdate().Model((*Member)(nil)).Set("role = ?", role).Where("org_id = ?", o.id).Where("person_id = ?", personID).Exec(ctx))
	return some(n, err, fault.NotFound, "no member %s", personID)
}

// RemoveMember takes a person out.
func (o OrgTx) RemoveMember(ctx context.Context, personID string) error {
	n, err := count(o.db.NewDelete().Model((*Member)(nil)).Where("org_id = ?", o.id).Where("person_id = ?", personID).Exec(ctx))
	return some(n, err, fault.NotFound, "no member %s", personID)
}

// Member returns what a person is in the organisation.
func (o Org) Member(ctx context.Context, personID string) (Member, error) {
	var m Member
	err := one(ctx, members(o.db, &m).Where("org_id = ?", o.id).Where("person_id = ?", personID), "no member %s", personID)
	return m, err
}

// Members lists the members in the order of their ids.
func (o Org) Members(ctx context.Context, page Page) (rows []Member, total int, err error) {
	total, err = list(ctx, members(o.db, &rows).Where("org_id = ?", o.id).Order("person_id"), page, &rows)
	return rows, total, err
}

// Memberships lists the organisations that a person is in.
func (r reads) Memberships(ctx context.Context, personID string, page Page) (rows []Member, total int, err error) {
	total, err = list(ctx, members(r.db, &rows).Where("person_id = ?", personID).Order("org_id"), page, &rows)
	return rows, total, err
}
