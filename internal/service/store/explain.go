package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// Explain says of an error of the database what a person who sets it up can do
// about it. An error that is a fault of another kind, or none that is known,
// stays as it is.
func Explain(err error) error {
	if kind, _ := fault.Of(err); kind != fault.Internal && kind != fault.Unavailable {
		return err
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return explainPostgres(err, e)
	}
	if e, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return fault.New(fault.Unavailable, "the database does not answer: %s", leaf(e)).Try("check --database-url, and that Postgres runs and listens there").Because(err)
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fault.New(fault.Unavailable, "%s cannot be used: %v", e.Path, e.Err).Try("name a folder that is yours with --data, or run as its owner").Because(err)
	}
	switch codeSQLite(err) & 0xff {
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fault.New(fault.Unavailable, "the database cannot be opened for writing").Try("check whose the data folder and the files in it are, and that the disk is not mounted read-only").Because(err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fault.New(fault.Corrupt, "the database is damaged").Try("move its files away and restore a backup").Because(err)
	case sqlite3.SQLITE_FULL:
		return fault.New(fault.Unavailable, "the disk of the database is full").Try("make room on it").Because(err)
	case sqlite3.SQLITE_IOERR:
		return fault.New(fault.Unavailable, "the disk of the database cannot be read or written").Try("look into the log of the system").Because(err)
	case sqlite3.SQLITE_BUSY:
		return fault.New(fault.Unavailable, "another process keeps the database locked").Try("wait until it is done, or end it").Because(err)
	}
	return err
}

// explainPostgres explains an answer of Postgres by its SQLSTATE (PostgreSQL
// manual, appendix A).
func explainPostgres(err error, e *pgconn.PgError) error {
	say := func(message, help string) error {
		return fault.New(fault.Unavailable, "%s: %s", message, e.Message).Try("%s", help).Because(err)
	}
	switch e.Code {
	case "28000", "28P01":
		return say("the database refuses who asks", "check the user in --database-url, and the password there, in PGPASSWORD or in ~/.pgpass")
	case "3D000":
		return say("the database is not there", "make it, with createdb or CREATE DATABASE, or correct --database-url")
	case "42501":
		return say("the database forbids it", "make the user of --database-url the owner of the database")
	case "53300":
		return say("the database has no connection left", "raise its max_connections, or run fewer servers and workers")
	case "57P03":
		return say("the database is not ready", "wait until it has started")
	case "25006":
		return say("the database cannot be written", "name the primary server, not a standby, in --database-url")
	case "53100":
		return say("the disk of the database is full", "make room on it")
	}
	return err
}

// leaf returns what went wrong first, without what was added on the way up.
func leaf(err error) string {
	for {
		var next error
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			next = e.Unwrap()
		case interface{ Unwrap() []error }:
			if all := e.Unwrap(); len(all) > 0 {
				next = all[len(all)-1]
			}
		}
		if next == nil {
			return strings.TrimSpace(fmt.Sprint(err))
		}
		err = next
	}
}
