package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// readers is how many connections read at once: queries are short, and few
// processors are kept busy by a few of them.
const readers = 8

// openSQLite opens a file with one connection that writes, whose transactions
// take the lock when they begin and so never fail half-way, and some that read,
// which the write-ahead log keeps from waiting for it.
func openSQLite(ctx context.Context, opt Options) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(opt.Path), 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	write, err := connect(opt.Path, 1, "_txlock=immediate", "_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	if err := first(ctx, write); err != nil {
		err = errors.Join(fmt.Errorf("store: %s: %w", filepath.Base(opt.Path), err), write.Close())
		if codeSQLite(err) == sqlite3.SQLITE_NOTADB {
			return nil, fault.New(fault.Invalid, "%s is not a database", filepath.Base(opt.Path)).Because(err)
		}
		return nil, err
	}
	if err := os.Chmod(opt.Path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("store: %w", err), write.Close())
	}
	read, err := connect(opt.Path, readers, "_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	return &Store{reads: reads{read}, engine: SQLite, write: write, read: read, log: opt.Log}, nil
}

// first makes the first connection, and the file with its write-ahead log if it
// is new, which readers cannot. Where several processes make one at once, SQLite
// tells all but one of them that it is busy, without waiting as it does later.
func first(ctx context.Context, db *bun.DB) (err error) {
	for wait := time.Millisecond; wait < 10*time.Second; wait *= 2 {
		if err = db.PingContext(ctx); !busySQLite(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(wait)):
		}
	}
	return err
}

func connect(path string, conns int, settings ...string) (*bun.DB, error) {
	settings = append(settings,
		"_pragma=busy_timeout(15000)", // of other processes, such as commands beside a server
		"_pragma=synchronous(NORMAL)", // with a write-ahead log, what was committed survives the process, if not the power
		"_pragma=foreign_keys(1)",
		"_pragma=cache_size(-16000)", // KiB
		"_pragma=temp_store(MEMORY)",
	)
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: strings.Join(settings, "&")}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return bun.NewDB(db, sqlitedialect.New()), nil
}

// codeSQLite returns the extended result code of an error ("Result and Error
// Codes" of SQLite's documentation), or 0 for one of something else.
func codeSQLite(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// busySQLite says whether another process held the lock for too long.
func busySQLite(err error) bool { return codeSQLite(err)&0xff == sqlite3.SQLITE_BUSY }
