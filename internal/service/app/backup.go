package app

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// A Place is where a server keeps what it keeps.
type Place struct {
	DataDir     string
	DatabaseURL string // empty for SQLite in the data folder
}

func (p Place) options() store.Options {
	return store.Options{URL: p.DatabaseURL, Path: filepath.Join(p.DataDir, databaseFile), Conns: 4}
}

// databaseFile is the file of SQLite in a data folder.
const databaseFile = "loupe.db"

// ParsePlace reads where a database is to be: postgres://…, or sqlite: and a
// data folder or the file in it.
func ParsePlace(text string) (Place, error) {
	if strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		return Place{DatabaseURL: text}, nil
	}
	path, ok := strings.CutPrefix(text, "sqlite:")
	if !ok || path == "" {
		return Place{}, fault.New(fault.Invalid, "the address of the database is not understood").Try("write it as postgres://user@host/name or sqlite:FOLDER")
	}
	if filepath.Base(path) == databaseFile {
		path = filepath.Dir(path)
	}
	return Place{DataDir: path}, nil
}

// A Copied says what was copied.
type Copied struct {
	Tables int
	Rows   int64
	Bytes  int64     // of the backup; 0 if none was made
	At     time.Time // of the backup
}

// Progress is told how many rows of a table were copied, and when there are no
// more.
type Progress = store.Progress

// Backup writes all that is kept at a place into a file that it makes or
// replaces, which only its owner can read. A server may run meanwhile. With the
// name "-" it writes to out.
func Backup(ctx context.Context, at Place, version, name string, out io.Writer, progress Progress) (Copied, error) {
	st, err := store.OpenAsIs(ctx, at.options())
	if err != nil {
		return Copied{}, err
	}
	defer st.Close()
	var m store.Manifest
	var size int64
	write := func(w io.Writer) (err error) {
		counted := &counter{w: w}
		m, err = st.Backup(ctx, counted, store.Manifest{Version: version, At: time.Now()}, jobs.Tables(), progress)
		size = counted.n
		return err
	}
	if name == "-" {
		err = write(out)
	} else {
		err = replace(name, write)
	}
	return copied(&m, size), err
}

func copied(m *store.Manifest, size int64) Copied {
	return Copied{Tables: len(m.Sums), Rows: m.Rows(), Bytes: size, At: m.At}
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// replace writes a file beside the one that it then becomes, so that there is
// always all of one or the other, even if the power fails.
func replace(name string, write func(io.Writer) error) error {
	dir, base := filepath.Split(name)
	dir = filepath.Clean(dir)
	f, err := os.CreateTemp(dir, "."+base+".*.part") // which only the owner can read
	if err != nil {
		return fault.New(fault.Invalid, "%s cannot be written: %v", name, cause(err)).Try("check that its folder exists and is yours").Because(err)
	}
	defer os.Remove(f.Name()) // fails when all went well
	w := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(write(w), w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fault.New(fault.Invalid, "%s cannot be written: %v", name, cause(err)).Because(err)
	}
	if d, err := os.Open(dir); err == nil { // a folder that cannot be opened cannot be synced either
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

// cause returns why the system refused, without the path.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// Restore makes what is kept at a place what is in a backup. It refuses while
// somebody uses the database, and if there is something in it, unless it is
// forced. If it fails, nothing has changed.
func Restore(ctx context.Context, at Place, name string, force bool, progress Progress) (Copied, error) {
	f, err := os.Open(name)
	if err != nil {
		return Copied{}, fault.New(fault.NotFound, "%s cannot be read: %v", name, cause(err)).Because(err)
	}
	defer f.Close()
	m, err := store.CheckBackup(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return Copied{}, err
	}
	st, err := openIdle(ctx, at, force, "take an empty one, or overwrite it with --force")
	if err != nil {
		return Copied{}, err
	}
	defer st.Close()
	return copied(&m, 0), st.Restore(ctx, f, m, progress)
}

// openIdle opens, or makes, a database that nobody uses and, unless that is
// forced, nobody has put anything into: help says what to do otherwise.
func openIdle(ctx context.Context, at Place, force bool, help string) (*store.Store, error) {
	if err := store.Alone(ctx, at.options()); err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, at.options())
	if err != nil {
		return nil, err
	}
	err = idle(ctx, st)
	if err == nil && !force {
		var empty bool
		if empty, err = st.Empty(ctx); err == nil && !empty {
			err = fault.New(fault.Conflict, "there is something in the database already").Try("%s", help)
		}
	}
	if err == nil {
		_, err = jobs.New(ctx, st, jobs.Options{}) // makes the tables of the queue
	}
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}

// idle fails if somebody does jobs. Connections do not tell where something
// stands between a server and its database.
func idle(ctx context.Context, st *store.Store) error {
	places, err := jobs.Alive(ctx, st)
	if err == nil && len(places) > 0 {
		err = fault.New(fault.Conflict, "somebody works on the database (%s)", strings.Join(places, ", ")).Try("end the servers and workers on it first")
	}
	return err
}

// MoveDatabase makes what is kept at one place what is kept at another one,
// where nothing may be yet, and leaves the first as it was. It refuses while
// somebody uses either.
func MoveDatabase(ctx context.Context, from, to Place, progress Progress) (Copied, error) {
	if err := store.Alone(ctx, from.options()); err != nil {
		return Copied{}, err
	}
	source, err := store.OpenAsIs(ctx, from.options())
	if err != nil {
		return Copied{}, err
	}
	defer source.Close()
	if err := idle(ctx, source); err != nil {
		return Copied{}, err
	}
	target, err := openIdle(ctx, to, false, "take an empty one")
	if err != nil {
		return Copied{}, err
	}
	defer target.Close()
	counts := map[string]int64{}
	err = source.CopyTo(ctx, target, jobs.Tables(), func(table string, rows int64, done bool) {
		progress(table, rows, done)
		counts[table] = rows
	})
	out := Copied{Tables: len(counts)}
	for _, rows := range counts {
		out.Rows += rows
	}
	return out, err
}

// ExplainDatabase says of an error of opening a database what to do about it.
func ExplainDatabase(err error) error { return store.Explain(err) }
