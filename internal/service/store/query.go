package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// Page is the part of a list that is asked for.
type Page struct {
	Limit  int // at most so many rows; 0 is 50
	Offset int // rows that are left out before them
}

// pageSize is how many rows a page has where nothing is said.
const pageSize = 50

func (p Page) bounds() (limit, offset int64) {
	limit, offset = int64(max(p.Limit, 0)), int64(max(p.Offset, 0))
	return cmp.Or(limit, pageSize), offset
}

// list reads one page of a query into rows and returns how many there are in
// all, which it counts only if the page does not tell.
func list[T any](ctx context.Context, q *bun.SelectQuery, page Page, rows *[]T) (total int, err error) {
	limit, offset := page.bounds()
	*rows = []T{}
	if err := q.Limit(limit).Offset(offset).Scan(ctx); err != nil && !none(err) {
		return 0, failed(err)
	}
	if n := int64(len(*rows)); n < limit && (n > 0 || offset == 0) {
		return int(offset + n), nil
	}
	n, err := q.Count(ctx)
	return int(n), failed(err)
}

// one reads the only row of a query.
func one(ctx context.Context, q *bun.SelectQuery, format string, args ...any) error {
	err := q.Scan(ctx)
	if none(err) {
		return fault.New(fault.NotFound, format, args...)
	}
	return failed(err)
}

// count returns how many rows a statement changed.
func count(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, failed(err)
	}
	n, err := res.RowsAffected()
	return n, failed(err)
}

// some turns a statement that changed nothing into a fault.
func some(n int64, err error, kind fault.Kind, format string, args ...any) error {
	if err == nil && n == 0 {
		return fault.New(kind, format, args...)
	}
	return err
}

func failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: %w", err)
}

// none says whether a query found no row.
func none(err error) bool { return errors.Is(err, sql.ErrNoRows) }
