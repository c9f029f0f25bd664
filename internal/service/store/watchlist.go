package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// A Watchlist says who is told when packages change.
type Watchlist struct {
	bun.BaseModel `bun:"table:watchlist"`

	ID           string `bun:",pk"`
	OrgID        string
	Name         string
	Channel      string // email, slack, webhook
	Destination  string
	Secret       string // with which webhooks are signed
	PackageCount int    // kept by AddWatch and RemoveWatch
	CreatedAt    Time
}

// CreateWatchlist adds an empty watchlist, and gives it an id if it has none.
func (o OrgTx) CreateWatchlist(ctx context.Context, w *Watchlist) error {
	w.ID, w.OrgID, w.PackageCount = cmp.Or(w.ID, NewID("wl_")), o.id, 0
	_, err := o.db.NewInsert().Model(w).Exec(ctx)
	return failed(err)
}

// DeleteWatchlist forgets a watchlist with its watches and alerts. What was to
// be sent is still sent.
func (o OrgTx) DeleteWatchlist(ctx context.Context, id string) error {
	if err := o.holdWatchlist(ctx, id); err != nil {
		return err
	}
	var watched []packageName
	err := o.db.NewSelect().Distinct().Model(&watched).Where("watchlist_id = ?", id).Order("ecosystem", "name").Scan(ctx)
	if err != nil {
		return failed(err)
	}
	for _, p := range watched {
		if err := o.tx.holdWatched(ctx, p.Ecosystem, p.Name); err != nil {
			return err
		}
	}
	if _, err := o.db.NewDelete().Model((*Watchlist)(nil)).Where("org_id = ?", o.id).Where("id = ?", id).Exec(ctx); err != nil {
		return failed(err)
	}
	for _, p := range watched {
		if err := o.tx.dropWatched(ctx, p.Ecosystem, p.Name); err != nil {
			return err
		}
	}
	return nil
}

type packageName struct {
	bun.BaseModel `bun:"table:watch"`

	Ecosystem target.Ecosystem
	Name      string
}

// holdWatchlist lets nobody else change what is on a watchlist, or the watchlist,
// until this transaction ends.
func (o OrgTx) holdWatchlist(ctx context.Context, id string) error {
	n, err := count(o.db.NewUpdate().Model((*Watchlist)(nil)).Set("package_count = package_count").Where("org_id = ?", o.id).Where("id = ?", id).Exec(ctx))
	return some(n, err, fault.NotFound, "no watchlist %s", id)
}

// Watchlist returns a watchlist.
func (o Org) Watchlist(ctx context.Context, id string) (Watchlist, error) {
	var w Watchlist
	err := one(ctx, o.db.NewSelect().Model(&w).Where("org_id = ?", o.id).Where("id = ?", id), "no watchlist %s", id)
	return w, err
}

// Watchlists lists the watchlists, the oldest first.
func (o Org) Watchlists(ctx context.Context, page Page) (rows []Watchlist, total int, err error) {
	total, err = list(ctx, o.db.NewSelect().Model(&rows).Where("org_id = ?", o.id).Order("created_at", "id"), page, &rows)
	return rows, total, err
}
