package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun"
)

// InsertAll inserts many rows of one kind at once, as they are.
func InsertAll[T any](ctx context.Context, tx *Tx, rows []T) error {
	for some := range slices.Chunk(rows, 1000) {
		if _, err := tx.db.NewInsert().Model(&some).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Queries calls f, and returns the texts of the statements that were made
// meanwhile.
func (s *Store) Queries(f func(st *Store)) []string {
	h := &hook{}
	with := &Store{engine: s.engine, write: s.write.WithQueryHook(h), read: s.read.WithQueryHook(h), pool: s.pool, log: s.log}
	with.reads = reads{with.read}
	f(with)
	return h.texts
}

type hook struct{ texts []string }

func (h *hook) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	h.texts = append(h.texts, e.Query)
	return ctx
}

func (h *hook) AfterQuery(context.Context, *bun.QueryEvent) {}

// Explain returns the lines of the plan of a statement. That of a count on
// Postgres is the one that it takes for larger tables, where it looks at an
// index instead of all rows, as soon as there is one that it can use.
func (s *Store) Explain(ctx context.Context, text string) (lines []string, err error) {
	text = strings.ReplaceAll(text, "?", `\?`)
	if s.engine == Postgres {
		err = s.read.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			if strings.Contains(text, "count(*)") {
				if _, err := tx.NewRaw("SET LOCAL enable_seqscan = off").Exec(ctx); err != nil {
					return err
				}
			}
			return tx.NewRaw("EXPLAIN "+text).Scan(ctx, &lines)
		})
		return lines, err
	}
	var rows []struct {
		ID, Parent, Notused int
		Detail              string
	}
	err = s.read.NewRaw("EXPLAIN QUERY PLAN "+text).Scan(ctx, &rows)
	for _, r := range rows {
		lines = append(lines, r.Detail)
	}
	return lines, err
}

// Exec runs a statement.
func (s *Store) Exec(ctx context.Context, text string, args ...any) error {
	_, err := s.write.NewRaw(text, args...).Exec(ctx)
	return err
}

// Value returns the number that a query gives.
func (s *Store) Value(ctx context.Context, text string, args ...any) (n int64, err error) {
	err = s.read.NewRaw(text, args...).Scan(ctx, &n)
	return n, err
}

// Rows returns all rows of an organisation, each as one text.
func (s *Store) Rows(ctx context.Context, org string) (all []string, err error) {
	for _, table := range tablesOfOrgs() {
		var rows []map[string]any
		if err := s.read.NewRaw("SELECT * FROM ? WHERE org_id = ?", bun.Ident(table), org).Scan(ctx, &rows); err != nil {
			return nil, err
		}
		for _, r := range rows {
			all = append(all, fmt.Sprint(table, r))
		}
	}
	slices.Sort(all)
	return all, nil
}

// tablesOfOrgs returns the tables of which each row belongs to an organisation.
func tablesOfOrgs() (names []string) {
	all, err := readMigrations()
	if err != nil {
		panic(err)
	}
	for _, m := range all {
		for _, statement := range strings.Split(m.text, "CREATE TABLE ")[1:] {
			name, rest, _ := strings.Cut(statement, " ")
			if columns, _, _ := strings.Cut(rest, "\n);"); strings.Contains(columns, "org_id ") {
				names = append(names, name)
			}
		}
	}
	return names
}

// An Index is one of names without a database.
type Index struct{ index }

// Add takes up changes.
func (x *Index) Add(rows []Package) { x.add(rows) }

// Find returns a page of what is found.
func (x *Index) Find(text string, offset, limit int) ([]Found, int) {
	return x.find(text, offset, limit)
}

// ForgetSummaries leaves the index without any summary, as if there had been no
// room for them.
func (s *Store) ForgetSummaries() {
	for _, f := range s.names.at {
		f.Summary = ""
	}
	s.names.summaries = 0
}
