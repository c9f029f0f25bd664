package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// openPostgres opens one pool of connections, which bun uses through
// database/sql and the job queue as it is.
func openPostgres(ctx context.Context, opt Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(opt.URL)
	if err != nil {
		// pgx leaves the password out of its error, but not the rest.
		return nil, fault.New(fault.Invalid, "the address of the database is not understood").Try("write it as postgres://user@host/name").Because(err)
	}
	cfg.MaxConns = int32(cmp.Or(opt.Conns, 16))
	cfg.ConnConfig.RuntimeParams["application_name"] = "loupe"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fault.New(fault.Unavailable, "the database does not answer").Try("check --database-url and that Postgres runs").Because(err)
	}
	db := bun.NewDB(stdlib.OpenDBFromPool(pool), pgdialect.New())
	return &Store{reads: reads{db}, engine: Postgres, write: db, read: db, pool: pool, log: opt.Log}, nil
}

// pgxConn returns what is beneath a connection of database/sql.
func pgxConn(conn *sql.Conn) (out *pgx.Conn, err error) {
	err = conn.Raw(func(c any) error {
		std, ok := c.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("store: a connection to Postgres is a %T", c)
		}
		out = std.Conn()
		return nil
	})
	return out, err
}

// borrowed is a transaction that somebody else ends: statements on the
// connection are part of the transaction that is open on it.
type borrowed struct{ conn *pgx.Conn }

var errBorrowed = errors.New("store: a borrowed transaction is ended by its owner")

func (b borrowed) Begin(context.Context) (pgx.Tx, error) { return nil, errBorrowed }
func (b borrowed) Commit(context.Context) error          { return errBorrowed }
func (b borrowed) Rollback(context.Context) error        { return nil }
func (b borrowed) Conn() *pgx.Conn                       { return b.conn }
func (b borrowed) LargeObjects() pgx.LargeObjects        { panic("store: large objects are not used") }

func (b borrowed) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return b.conn.CopyFrom(ctx, table, columns, rows)
}

func (b borrowed) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return b.conn.SendBatch(ctx, batch)
}

func (b borrowed) Prepare(ctx context.Context, name, text string) (*pgconn.StatementDescription, error) {
	return b.conn.Prepare(ctx, name, text)
}

func (b borrowed) Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error) {
	return b.conn.Exec(ctx, text, args...)
}

func (b borrowed) Query(ctx context.Context, text string, args ...any) (pgx.Rows, error) {
	return b.conn.Query(ctx, text, args...)
}

func (b borrowed) QueryRow(ctx context.Context, text string, args ...any) pgx.Row {
	return b.conn.QueryRow(ctx, text, args...)
}

// state returns the SQLSTATE of an error (PostgreSQL manual, appendix A).
func state(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// inTheWay says whether a transaction failed only because of others, so that it
// may be tried again.
func inTheWay(err error) bool {
	switch state(err) {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	}
	return busySQLite(err)
}
