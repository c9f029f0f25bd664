package store

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// A Package is the highest version of a package that was looked at.
type Package struct {
	bun.BaseModel `bun:"table:package"`

	Ecosystem   target.Ecosystem `bun:",pk"`
	Name        string           `bun:",pk"`
	AnalysisID  string
	Version     string
	SortVersion []byte
	RiskScore   int
	RiskLevel   string
	Summary     string
	BinaryCount int
	Seq         int64 // rises with each change, in the order in which they are committed
}

// raisePackage makes an analysis the one that is shown of its package, unless
// a higher version was looked at.
func (tx *Tx) raisePackage(ctx context.Context, a *Analysis, seq int64) error {
	p := Package{
		Ecosystem: a.Ecosystem, Name: a.Name, AnalysisID: a.ID, Version: a.Version, SortVersion: a.SortVersion,
		RiskScore: a.RiskScore, RiskLevel: a.RiskLevel, Summary: a.Summary, BinaryCount: a.BinaryCount, Seq: seq,
	}
	_, err := tx.db.NewInsert().Model(&p).On("CONFLICT (ecosystem, name) DO UPDATE").
		Set("analysis_id = excluded.analysis_id").Set("version = excluded.version").Set("sort_version = excluded.sort_version").
		Set("risk_score = excluded.risk_score").Set("risk_level = excluded.risk_level").Set("summary = excluded.summary").
		Set("binary_count = excluded.binary_count").Set("seq = excluded.seq").
		Where("package.sort_version <= excluded.sort_version").Exec(ctx)
	return failed(err)
}

// Package returns the highest version of a package that was looked at.
func (r reads) Package(ctx context.Context, eco target.Ecosystem, name string) (Package, error) {
	var p Package
	err := one(ctx, r.db.NewSelect().Model(&p).Where("ecosystem = ?", eco).Where("name = ?", name), "%s %s was not analyzed", eco, name)
	return p, err
}

// PackageChanges returns up to limit packages that changed after a Seq, in
// order.
func (r reads) PackageChanges(ctx context.Context, after int64, limit int) ([]Package, error) {
	var rows []Package
	err := r.db.NewSelect().Model(&rows).Where("seq > ?", after).Order("seq").Limit(int64(limit)).Scan(ctx)
	return rows, failed(err)
}

// PackageCount returns how many packages were looked at.
func (r reads) PackageCount(ctx context.Context) (int, error) {
	n, err := r.db.NewSelect().Model((*Package)(nil)).Count(ctx)
	return int(n), failed(err)
}
