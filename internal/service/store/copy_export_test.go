package store

import "context"

// OpenAt makes a database with the schema of an older version.
func OpenAt(ctx context.Context, opt Options, version int) (*Store, error) {
	s, err := open(ctx, opt)
	if err != nil {
		return nil, err
	}
	all, err := readMigrations()
	if err != nil {
		return nil, err
	}
	return s, s.Write(ctx, func(ctx context.Context, tx *Tx) error {
		if s.engine == Postgres { // tests get one with the newest schema
			if _, err := tx.tx.Tx.ExecContext(ctx, "DROP SCHEMA public CASCADE; CREATE SCHEMA public"); err != nil {
				return err
			}
		}
		if _, err := tx.tx.Tx.ExecContext(ctx, "CREATE TABLE schema_version (version BIGINT PRIMARY KEY, name TEXT NOT NULL)"); err != nil {
			return err
		}
		return tx.apply(ctx, all[:version])
	})
}

// Tables lists all tables of the database but those of SQLite itself.
func (s *Store) Tables(ctx context.Context) (names []string, err error) {
	text := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
	if s.engine == Postgres {
		text = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name"
	}
	return names, s.read.NewRaw(text).Scan(ctx, &names)
}
