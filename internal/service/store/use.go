package store

import (
	"context"
	"fmt"
	"time"
)

// Month is the calendar month of a time in UTC, as use is counted: "2026-03".
func Month(t time.Time) string { return t.UTC().Format("2006-01") }

// Use counts n against a limit of a month, unless that would pass it: then it
// counts nothing. It returns what is used, and whether n were counted.
func (o OrgTx) Use(ctx context.Context, meter, month string, n, limit int64) (used int64, ok bool, err error) {
	if n < 0 {
		return 0, false, fmt.Errorf("store: a use of %d", n)
	}
	if limit == Unlimited || n <= limit {
		err = o.db.NewRaw(`INSERT INTO monthly_use (org_id, meter, month, used) VALUES (?, ?, ?, ?)
ON CONFLICT (org_id, meter, month) DO UPDATE SET used = monthly_use.used + excluded.used
WHERE ? < 0 OR monthly_use.used + excluded.used <= ? RETURNING used`, o.id, meter, month, n, limit, limit).Scan(ctx, &used)
		if err == nil {
			return used, true, nil
		}
		if !none(err) {
			return 0, false, failed(err)
		}
	}
	used, err = o.Used(ctx, meter, month)
	return used, false, err
}

// Used returns what was counted in a month.
func (o Org) Used(ctx context.Context, meter, month string) (used int64, err error) {
	err = o.db.NewRaw("SELECT used FROM monthly_use WHERE org_id = ? AND meter = ? AND month = ?", o.id, meter, month).Scan(ctx, &used)
	if none(err) {
		return 0, nil
	}
	return used, failed(err)
}
