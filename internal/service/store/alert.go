package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"
)

// An Alert is what a watchlist was told about an analysis.
type Alert struct {
	bun.BaseModel `bun:"table:alert"`

	ID          string `bun:",pk"`
	OrgID       string
	WatchlistID string
	AnalysisID  string
	Body        string // JSON
	CreatedAt   Time
}

// CreateAlert adds an alert, and gives it an id if it has none, unless the
// watchlist was told of the analysis before: then created is false. A watchlist
// that was deleted meanwhile is not found, which leaves the transaction usable.
func (o OrgTx) CreateAlert(ctx context.Context, a *Alert) (created bool, err error) {
	if err := o.holdWatchlist(ctx, a.WatchlistID); err != nil {
		return false, err
	}
	a.ID, a.OrgID = cmp.Or(a.ID, NewID("alert_")), o.id
	n, err := count(o.db.NewInsert().Model(a).On("CONFLICT DO NOTHING").Exec(ctx))
	return n > 0, err
}

// Alerts lists the alerts, the newest first.
func (o Org) Alerts(ctx context.Context, page Page) (rows []Alert, total int, err error) {
	total, err = list(ctx, o.db.NewSelect().Model(&rows).Where("org_id = ?", o.id).Order("created_at DESC", "id DESC"), page, &rows)
	return rows, total, err
}
