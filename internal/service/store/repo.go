package store

import (
	"cmp"
	"context"
	"strings"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// A Repo is a repository that an organisation has looked after.
type Repo struct {
	bun.BaseModel `bun:"table:repo"`

	ID                 string `bun:",pk"`
	OrgID              string
	GithubRepo         string // owner/name, as it was written
	Folded             string // in small letters; set when it is made
	NativeDependencies int
	RiskScore          int
	LastScanAt         Time
	CreatedAt          Time
}

// CreateRepo adds a repository, and gives it an id if it has none. It is a
// conflict if it is there, in letters of any case.
func (o OrgTx) CreateRepo(ctx context.Context, r *Repo) error {
	r.ID, r.OrgID, r.Folded = cmp.Or(r.ID, NewID("repo_")), o.id, strings.ToLower(r.GithubRepo)
	n, err := count(o.db.NewInsert().Model(r).On("CONFLICT DO NOTHING").Exec(ctx))
	return some(n, err, fault.Conflict, "there is a repository %s already", r.GithubRepo)
}

// UpdateRepo notes what a scan of a repository said.
func (o OrgTx) UpdateRepo(ctx context.Context, r *Repo) error {
	n, err := count(o.db.NewUpdate().Model(r).Column("native_dependencies", "risk_score", "last_scan_at").
		Where("org_id = ?", o.id).Where("id = ?", r.ID).Exec(ctx))
	return some(n, err, fault.NotFound, "no repository %s", r.ID)
}

// DeleteRepo forgets a repository.
func (o OrgTx) DeleteRepo(ctx context.Context, id string) error {
	n, err := count(o.db.NewDelete().Model((*Repo)(nil)).Where("org_id = ?", o.id).Where("id = ?", id).Exec(ctx))
	return some(n, err, fault.NotFound, "no repository %s", id)
}

// Repo returns a repository.
func (o Org) Repo(ctx context.Context, id string) (Repo, error) {
	var r Repo
	err := one(ctx, o.db.NewSelect().Model(&r).Where("org_id = ?", o.id).Where("id = ?", id), "no repository %s", id)
	return r, err
}

// Repos lists the repositories, the oldest first.
func (o Org) Repos(ctx context.Context, page Page) (rows []Repo, total int, err error) {
	total, err = list(ctx, o.db.NewSelect().Model(&rows).Where("org_id = ?", o.id).Order("created_at", "id"), page, &rows)
	return rows, total, err
}
