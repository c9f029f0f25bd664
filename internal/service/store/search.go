package store

import (
	"context"
	"strings"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// A Found is a package that a search found, in its highest version that was
// looked at.
type Found struct {
	Ecosystem   target.Ecosystem
	Name        string
	Version     string
	RiskScore   int
	RiskLevel   string
	Summary     string
	BinaryCount int
}

// SearchPackages returns the packages whose names hold a text, in letters of
// any case, and how many there are in all: first the one of that name, then
// those that begin with it, then the others, each by their names. An empty text
// is in all names.
//
// Names are searched in memory. What any server saved before the call is found.
func (s *Store) SearchPackages(ctx context.Context, text string, page Page) (found []Found, total int, err error) {
	if err := s.refreshNames(ctx); err != nil {
		return nil, 0, err
	}
	limit, offset := page.bounds()
	found, total = s.names.find(strings.ToLower(text), int(offset), int(limit))
	return found, total, s.addSummaries(ctx, found)
}

// loadedAtOnce is how many packages are read by one query.
const loadedAtOnce = 5000

// refreshNames takes up what was saved since the last time, or finds by a query
// of one row that there is nothing.
func (s *Store) refreshNames(ctx context.Context) error {
	var last int64
	if err := s.db.NewRaw("SELECT coalesce(max(seq), 0) FROM package").Scan(ctx, &last); err != nil {
		return failed(err)
	}
	if last <= s.names.upTo() {
		return nil
	}
	s.names.loading.Lock()
	defer s.names.loading.Unlock()
	for {
		rows, err := s.PackageChanges(ctx, s.names.upTo(), loadedAtOnce)
		if err != nil || len(rows) == 0 {
			return err
		}
		s.names.add(rows)
		if len(rows) < loadedAtOnce {
			return nil
		}
	}
}

// addSummaries reads the summaries that are not kept in memory.
func (s *Store) addSummaries(ctx context.Context, found []Found) error {
	without := map[target.Ecosystem][]string{}
	for _, f := range found {
		if f.Summary == "" {
			without[f.Ecosystem] = append(without[f.Ecosystem], f.Name)
		}
	}
	for eco, names := range without {
		var rows []Package
		err := s.db.NewSelect().Model(&rows).Column("name", "summary").Where("ecosystem = ?", eco).Where("name IN (?)", bun.List(names)).Scan(ctx)
		if err != nil {
			return failed(err)
		}
		summary := map[string]string{}
		for _, r := range rows {
			summary[r.Name] = r.Summary
		}
		for i := range found {
			if f := &found[i]; f.Ecosystem == eco && f.Summary == "" {
				f.Summary = summary[f.Name]
			}
		}
	}
	return nil
}
