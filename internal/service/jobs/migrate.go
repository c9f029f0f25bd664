package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// migrate brings River's tables up to date. Of several processes one does, and
// the others wait for it.
func migrate(ctx context.Context, st *store.Store) error {
	if st.Engine() == store.SQLite {
		return migrateSQLite(ctx, st)
	}
	return migratePostgres(ctx, st)
}

// keepLast keeps the newest job for ever: SQLite gives the id of a deleted last
// row to the next, and whoever remembers the id of a job must not find another.
const keepLast = `CREATE TRIGGER IF NOT EXISTS job_keep_last BEFORE DELETE ON river_job
WHEN old.id = (SELECT max(id) FROM river_job) BEGIN SELECT RAISE(IGNORE); END`

// migrateSQLite does all in one transaction, which nothing can come between.
func migrateSQLite(ctx context.Context, st *store.Store) error {
	m, err := rivermigrate.New(riversqlite.New(st.Writer()), nil)
	if err != nil {
		return err
	}
	if done, err := upToDate(ctx, m); done || err != nil {
		return err
	}
	return st.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		//nolint:staticcheck // the transaction is what others wait for, and SQLite can change its schema in one
		if _, err := m.MigrateTx(ctx, tx.SQLite(), rivermigrate.DirectionUp, nil); err != nil {
			return err
		}
		_, err := tx.Raw().NewRaw(keepLast).Exec(ctx)
		return err
	})
}

// migratePostgres holds a lock meanwhile, on a connection of its own: that of a
// pool of one would be missing to the migrations, each of which has a
// transaction of its own.
func migratePostgres(ctx context.Context, st *store.Store) (err error) {
	m, err := rivermigrate.New(riverpgxv5.New(st.Pool()), nil)
	if err != nil {
		return err
	}
	if done, err := upToDate(ctx, m); done || err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, st.Pool().Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }() // which gives back the lock
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended('loupe jobs schema', 0))"); err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

func upToDate[T any](ctx context.Context, m *rivermigrate.Migrator[T]) (bool, error) {
	res, err := m.Validate(ctx, nil)
	if err != nil {
		return false, fmt.Errorf("looking at them: %w", err)
	}
	return res.OK, nil
}
