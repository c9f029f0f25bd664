package store

import (
	"context"

	"github.com/uptrace/bun"
)

// Unlimited is a limit that is none.
const Unlimited = -1

// A Plan says how much an organisation may do. Limits may be [Unlimited].
type Plan struct {
	bun.BaseModel `bun:"table:plan"`

	Name         string `bun:",pk"`
	Minute       int64  // requests by one key, BinShield and CXRay
	Hour         int64  // requests by one key, CXRay
	Month        int64  // package scans
	Targets      int64  // SecurityScanner
	Scans        int64  // SecurityScanner, within ScansSeconds
	ScansSeconds int64  // 0 is a lifetime, -1 is one scan for each credit
	Analyses     bool   // written by a model
	Monitors     int64
	ReviewTier   string // of keys for code review, where none is said
	ReviewMonth  int64  // code reviews by one key
	Withheld     Words  // features that the plan does not have
}

// Plan returns the plan of a name.
func (r reads) Plan(ctx context.Context, name string) (Plan, error) {
	var p Plan
	err := one(ctx, r.db.NewSelect().Model(&p).Where("name = ?", name), "no plan %q", name)
	return p, err
}

// Plans returns all plans by their names.
func (r reads) Plans(ctx context.Context) ([]Plan, error) {
	var all []Plan
	err := r.db.NewSelect().Model(&all).Order("name").Scan(ctx)
	return all, failed(err)
}
