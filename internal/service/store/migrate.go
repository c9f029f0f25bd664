package store

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// The schema is written in what both engines understand: TEXT, BIGINT, BOOLEAN,
// BYTEA, which SQLite takes for a column of any type, and indexes over some of
// the rows. A migration only adds, so that the version before it still works
// while servers are replaced one by one. Their files are named for their
// numbers, which have no gaps.
//
//go:embed migrations/*.sql
var migrations embed.FS

// A migration is one step of the schema.
type migration struct {
	version int
	name    string // of its file
	text    string
}

func readMigrations() ([]migration, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, name := range names {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		name = strings.TrimPrefix(name, "migrations/")
		number, _, _ := strings.Cut(name, "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			return nil, fmt.Errorf("store: migration %s is not number %d", name, i+1)
		}
		all = append(all, migration{i + 1, name, string(text)})
	}
	return all, nil
}

// SchemaDigest tells the schema to which this program brings a database from
// all others.
func SchemaDigest() string {
	h := sha256.New()
	all, err := readMigrations()
	if err != nil {
		panic(err) // they are part of the program, and tested
	}
	for _, m := range all {
		fmt.Fprintf(h, "%s\n%s\n", m.name, m.text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// migrate brings the schema up to date, in one transaction that lets no other
// process do the same meanwhile, and then has the planner look at what there
// is: without that, SQLite takes the wrong index as soon as there are two.
func (s *Store) migrate(ctx context.Context) error {
	all, err := readMigrations()
	if err != nil {
		return err
	}
	changed := false
	err = s.Write(ctx, func(ctx context.Context, tx *Tx) error {
		changed = false
		if err := tx.Lock(ctx, "schema"); err != nil {
			return err
		}
		if _, err := tx.db.NewRaw("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY, name TEXT NOT NULL)").Exec(ctx); err != nil {
			return failed(err)
		}
		var version int
		if err := tx.db.NewRaw("SELECT coalesce(max(version), 0) FROM schema_version").Scan(ctx, &version); err != nil {
			return failed(err)
		}
		if version > len(all) {
			return fault.New(fault.Unavailable, "the database is newer than this program: its schema is version %d, and this program knows versions up to %d", version, len(all)).
				Try("run the newer program, or restore a backup from before it")
		}
		for _, m := range all[version:] {
			if _, err := tx.tx.Tx.ExecContext(ctx, m.text); err != nil {
				return fmt.Errorf("store: migration %s: %w", m.name, err)
			}
			if _, err := tx.db.NewRaw("INSERT INTO schema_version (version, name) VALUES (?, ?)", m.version, m.name).Exec(ctx); err != nil {
				return failed(err)
			}
			changed = true
		}
		return nil
	})
	if err != nil || !changed {
		return err
	}
	return s.Analyze(ctx)
}

// Analyze has the planner look at the tables anew. It is for after many rows
// were added at once.
func (s *Store) Analyze(ctx context.Context) error {
	_, err := s.write.ExecContext(ctx, "ANALYZE")
	return failed(err)
}
