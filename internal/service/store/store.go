// Package store keeps what a running Loupe keeps, on SQLite for one machine and
// on Postgres for several, with one text for each query. What belongs to an
// organisation is only reached through [Store.Org] and [Tx.Org], so that a query
// which forgets whose rows it asks for does not compile.
//
// All changes are made in transactions, by [Store.Write]. Counters change in the
// transaction that changes what they count, and jobs are enqueued in the
// transaction that writes the rows which they are about.
package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// An Engine is a kind of database.
type Engine string

// The engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Options say where the database is.
type Options struct {
	URL   string // "postgres://…"; empty for SQLite
	Path  string // of the file of SQLite
	Conns int    // to Postgres, at most; 16
	Log   *slog.Logger
}

// A Store is an open database, at the newest schema. It is safe for concurrent
// use.
type Store struct {
	reads
	engine Engine
	write  *bun.DB       // SQLite: one connection, whose transactions write from the start
	read   *bun.DB       // SQLite: connections that cannot write; Postgres: the same as write
	pool   *pgxpool.Pool // Postgres, beneath both
	log    *slog.Logger
	names  index // of packages
}

// reads are the queries about what is no organisation's. In a transaction they
// see what it wrote.
type reads struct{ db bun.IDB }

// Open opens the database, makes it if it does not exist, and brings its schema
// up to date. Several processes may open one database at once.
func Open(ctx context.Context, opt Options) (*Store, error) {
	s, err := open(ctx, opt)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func open(ctx context.Context, opt Options) (*Store, error) {
	opt.Log = cmp.Or(opt.Log, slog.New(slog.DiscardHandler))
	switch {
	case opt.URL == "":
		return openSQLite(ctx, opt)
	case strings.HasPrefix(opt.URL, "postgres://"), strings.HasPrefix(opt.URL, "postgresql://"):
		return openPostgres(ctx, opt)
	}
	return nil, fault.New(fault.Invalid, "the address of the database is not understood").Try("write it as postgres://user@host/name, or leave it out for SQLite in the data folder")
}

// Engine returns the kind of database.
func (s *Store) Engine() Engine { return s.engine }

// Pool returns the connections to Postgres, or nil.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Writer returns the connection by which SQLite is written, or nil.
func (s *Store) Writer() *sql.DB {
	if s.engine == SQLite {
		return s.write.DB
	}
	return nil
}

// Ready reports whether the database answers.
func (s *Store) Ready(ctx context.Context) error {
	var one int
	return s.read.NewRaw("SELECT 1").Scan(ctx, &one)
}

// Close lets go of the database.
func (s *Store) Close() error {
	if s.engine == SQLite {
		_, err := s.write.Exec("PRAGMA optimize")
		return errors.Join(err, s.read.Close(), s.write.Close())
	}
	err := s.write.Close()
	s.pool.Close()
	return err
}

// An Org is the door to what one organisation has. Through it nothing of
// another one is ever seen.
type Org struct {
	id string
	db bun.IDB
}

// Org returns the door to an organisation, which need not exist: then there is
// nothing behind it.
func (s *Store) Org(id string) Org { return Org{id, s.read} }

// A Tx is a transaction that writes. After an error of the database it can only
// be given up; a fault leaves it usable.
type Tx struct {
	reads
	engine Engine
	tx     bun.Tx
	conn   *pgx.Conn // Postgres: on which the transaction is open
}

// An OrgTx changes what one organisation has, and reads it as it is changed.
type OrgTx struct {
	Org
	tx *Tx
}

// Org returns the door to an organisation.
func (tx *Tx) Org(id string) OrgTx { return OrgTx{Org{id, tx.tx}, tx} }

// SQLite returns the transaction for a library that speaks database/sql, or nil.
func (tx *Tx) SQLite() *sql.Tx {
	if tx.engine == SQLite {
		return tx.tx.Tx
	}
	return nil
}

// Postgres returns the transaction for a library that speaks pgx, or nil. It
// can neither be committed nor rolled back by it.
func (tx *Tx) Postgres() pgx.Tx {
	if tx.engine == Postgres {
		return borrowed{tx.conn}
	}
	return nil
}

// tries bounds how often a transaction is begun anew that others got in the way
// of.
const tries = 8

// Write calls f in a transaction, which is committed if f returns nil. f may be
// called again if the database asks for it, and must have no other effects. It
// must not call Write: SQLite has one writer.
func (s *Store) Write(ctx context.Context, f func(ctx context.Context, tx *Tx) error) error {
	for try := 1; ; try++ {
		err := s.writeOnce(ctx, f)
		if err == nil || try == tries || !inTheWay(err) || ctx.Err() != nil {
			return err
		}
	}
}

func (s *Store) writeOnce(ctx context.Context, f func(ctx context.Context, tx *Tx) error) (err error) {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer conn.Close()
	out := &Tx{engine: s.engine}
	if s.engine == Postgres {
		if out.conn, err = pgxConn(conn.Conn); err != nil {
			return err
		}
	}
	if out.tx, err = conn.BeginTx(ctx, nil); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	out.db = out.tx
	defer out.tx.Rollback() // of what was committed, it does nothing
	if err := f(ctx, out); err != nil {
		return err
	}
	return failed(out.tx.Commit())
}

// Lock makes other transactions that ask for the same lock wait until this one
// has ended. On SQLite they wait anyway.
func (tx *Tx) Lock(ctx context.Context, name string) error {
	if tx.engine == SQLite {
		return nil
	}
	_, err := tx.db.NewRaw("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", "loupe "+name).Exec(ctx)
	return failed(err)
}
