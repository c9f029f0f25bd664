package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// A Watch is a package on a watchlist.
type Watch struct {
	bun.BaseModel `bun:"table:watch"`

	ID          string `bun:",pk"`
	OrgID       string
	WatchlistID string
	Ecosystem   target.Ecosystem
	Name        string
	Version     string // empty for any
	CreatedAt   Time
}

// A WatchedPackage says when the registry is asked next for a package that
// somebody watches.
type WatchedPackage struct {
	bun.BaseModel `bun:"table:watched_package"`

	Ecosystem target.Ecosystem `bun:",pk"`
	Name      string           `bun:",pk"`
	Version   string           // the newest that was seen; empty before the first time
	ETag      string           `bun:"etag"`
	Error     string           // of the last time; empty if it went well
	AskedAt   Time
	NextAt    Time
}

// AddWatch puts a package on a watchlist, and gives the watch an id if it has
// none. It is a conflict if it is there. The registry is asked for a package
// that nobody else watches as soon as may be.
func (o OrgTx) AddWatch(ctx context.Context, w *Watch) error {
	w.ID, w.OrgID = cmp.Or(w.ID, NewID("wp_")), o.id
	if err := o.holdWatchlist(ctx, w.WatchlistID); err != nil {
		return err
	}
	_, err := o.db.NewInsert().Model(&WatchedPackage{Ecosystem: w.Ecosystem, Name: w.Name, NextAt: w.CreatedAt}).
		On("CONFLICT (ecosystem, name) DO UPDATE").Set("next_at = watched_package.next_at").Exec(ctx) // holds the row
	if err != nil {
		return failed(err)
	}
	n, err := count(o.db.NewInsert().Model(w).On("CONFLICT DO NOTHING").Exec(ctx))
	if err := some(n, err, fault.Conflict, "%s is on this watchlist already", w.Name); err != nil {
		return err
	}
	return o.countWatches(ctx, w.WatchlistID, 1)
}

// RemoveWatch takes a package off a watchlist.
func (o OrgTx) RemoveWatch(ctx context.Context, watchlistID, id string) error {
	if err := o.holdWatchlist(ctx, watchlistID); err != nil {
		return err
	}
	var w Watch
	err := one(ctx, o.db.NewSelect().Model(&w).Where("org_id = ?", o.id).Where("watchlist_id = ?", watchlistID).Where("id = ?", id), "no package %s on this watchlist", id)
	if err != nil {
		return err
	}
	if err := o.tx.holdWatched(ctx, w.Ecosystem, w.Name); err != nil {
		return err
	}
	n, err := count(o.db.NewDelete().Model((*Watch)(nil)).Where("org_id = ?", o.id).Where("id = ?", id).Exec(ctx))
	if err := some(n, err, fault.NotFound, "no package %s on this watchlist", id); err != nil {
		return err
	}
	if err := o.tx.dropWatched(ctx, w.Ecosystem, w.Name); err != nil {
		return err
	}
	return o.countWatches(ctx, watchlistID, -1)
}

func (o OrgTx) countWatches(ctx context.Context, watchlistID string, by int) error {
	_, err := o.db.NewUpdate().Model((*Watchlist)(nil)).Set("package_count = package_count + ?", by).
		Where("org_id = ?", o.id).Where("id = ?", watchlistID).Exec(ctx)
	return failed(err)
}

// holdWatched lets nobody else begin or end to watch a package until this
// transaction ends, so that whether this is the last watch can be told.
func (tx *Tx) holdWatched(ctx context.Context, eco target.Ecosystem, name string) error {
	_, err := tx.db.NewUpdate().Model((*WatchedPackage)(nil)).Set("next_at = next_at").Where("ecosystem = ?", eco).Where("name = ?", name).Exec(ctx)
	return failed(err)
}

// dropWatched forgets a package that nobody watches any more.
func (tx *Tx) dropWatched(ctx context.Context, eco target.Ecosystem, name string) error {
	_, err := tx.db.NewDelete().Model((*WatchedPackage)(nil)).Where("ecosystem = ?", eco).Where("name = ?", name).
		Where("NOT EXISTS (SELECT 1 FROM watch WHERE watch.ecosystem = ? AND watch.name = ?)", eco, name).Exec(ctx)
	return failed(err)
}

// Watches lists the packages of a watchlist, the oldest first.
func (o Org) Watches(ctx context.Context, watchlistID string, page Page) (rows []Watch, total int, err error) {
	total, err = list(ctx, o.db.NewSelect().Model(&rows).Where("org_id = ?", o.id).Where("watchlist_id = ?", watchlistID).Order("created_at", "id"), page, &rows)
	return rows, total, err
}

// WatchlistsOf returns the watchlists of all organisations that hold a package
// in any version or in this one, each once, by their ids.
func (r reads) WatchlistsOf(ctx context.Context, eco target.Ecosystem, name, version string) ([]Watchlist, error) {
	var rows []Watchlist
	err := r.db.NewSelect().Model(&rows).Where(`id IN (SELECT watchlist_id FROM watch WHERE ecosystem = ? AND name = ? AND version IN ('', ?))`,
		eco, name, version).Order("id").Scan(ctx)
	return rows, failed(err)
}

// maxVersions bounds how many versions of a package are looked after.
const maxVersions = 100

// WatchedVersions returns the versions of a package that somebody watches, the
// empty one for any first.
func (r reads) WatchedVersions(ctx context.Context, eco target.Ecosystem, name string) (versions []string, err error) {
	err = r.db.NewRaw("SELECT DISTINCT version FROM watch WHERE ecosystem = ? AND name = ? ORDER BY version LIMIT ?", eco, name, maxVersions).Scan(ctx, &versions)
	return versions, failed(err)
}

// WatchedPackage returns what is known of a package that somebody watches.
func (r reads) WatchedPackage(ctx context.Context, eco target.Ecosystem, name string) (WatchedPackage, error) {
	var p WatchedPackage
	err := one(ctx, r.db.NewSelect().Model(&p).Where("ecosystem = ?", eco).Where("name = ?", name), "nobody watches %s", name)
	return p, err
}

// ClaimWatched returns up to limit packages for which it is time to ask the
// registry, the longest due first, and puts them off, so that nobody else asks
// meanwhile and they come again if this process dies.
func (tx *Tx) ClaimWatched(ctx context.Context, now, again Time, limit int) ([]WatchedPackage, error) {
	skip := bun.Safe("")
	if tx.engine == Postgres {
		skip = "FOR UPDATE SKIP LOCKED"
	}
	var rows []WatchedPackage
	err := tx.db.NewRaw(`UPDATE watched_package SET next_at = ? WHERE (ecosystem, name) IN
(SELECT ecosystem, name FROM watched_package WHERE next_at <= ? ORDER BY next_at LIMIT ? ?) RETURNING *`, again, now, limit, skip).Scan(ctx, &rows)
	return rows, failed(err)
}

// AskedWatched notes what the registry said. A package that nobody watches any
// more is not there, which is no error.
func (tx *Tx) AskedWatched(ctx context.Context, p *WatchedPackage) error {
	_, err := tx.db.NewUpdate().Model(p).Column("version", "etag", "error", "asked_at", "next_at").WherePK().Exec(ctx)
	return failed(err)
}
