package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// A backup is a tar archive, packed by zstd. For each table it has files
// table/000001.jsonl and so on, each line of which is a row: a JSON array of the
// values of the columns. The last file is manifest.json, a [Manifest]. It says
// nothing of the engine, and can be restored on either.

// A Manifest says what is in a backup.
type Manifest struct {
	Format  int       `json:"loupeBackup"` // 1
	Version string    `json:"version"`     // of the program that made it
	Engine  Engine    `json:"engine"`      // from which it was made
	At      time.Time `json:"at"`
	Schema  shape     `json:"database"`
	Sums    []Sum     `json:"sums"` // of each table
}

// A Sum is what a table in a backup must be.
type Sum struct {
	Table  string `json:"table"`
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"` // of its files, one after the other
}

// Rows returns how many rows are in a backup.
func (m *Manifest) Rows() (n int64) {
	for _, s := range m.Sums {
		n += s.Rows
	}
	return n
}

const (
	backupFormat = 1
	manifestName = "manifest.json"
	maxPart      = 2 << 30 // bytes; larger than what a database keeps in a row
	maxManifest  = 4 << 20
)

// Backup writes a backup of one moment, beside whoever works. m says which
// program asks, and when; the rest of it is filled in. others are tables of
// others.
func (s *Store) Backup(ctx context.Context, w io.Writer, m Manifest, others []Table, progress Progress) (Manifest, error) {
	packed, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return m, failed(err)
	}
	defer packed.Close() // of what failed
	out := tar.NewWriter(packed)
	m.Format, m.Engine, m.At = backupFormat, s.engine, m.At.UTC()
	err = s.snapshot(ctx, func(ctx context.Context, tx *Tx) (err error) {
		if m.Schema, err = tx.shape(ctx, others); err != nil {
			return err
		}
		var sums summing
		err = tx.all(ctx, m.Schema, progress, func(t Table, lines []byte) error {
			n := sums.add(t.Name, lines)
			return put(out, fmt.Sprintf("%s/%06d.jsonl", t.Name, n), lines, m.At)
		})
		m.Sums = sums.of(m.Schema)
		return err
	})
	if err != nil {
		return m, err
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return m, failed(err)
	}
	err = put(out, manifestName, append(text, '\n'), m.At)
	return m, failed(errors.Join(err, out.Close(), packed.Close()))
}

func put(out *tar.Writer, name string, data []byte, at time.Time) error {
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: at.Truncate(time.Second)}); err != nil {
		return err
	}
	_, err := out.Write(data)
	return err
}

// summing adds up tables that come one after the other.
type summing struct {
	sums  map[string]*Sum
	table string
	hash  interface {
		io.Writer
		Sum([]byte) []byte
	}
	part int
}

// add takes up a part, and returns its number within the table, or 0 if the
// table was at an end already.
func (s *summing) add(table string, lines []byte) int {
	if s.sums == nil {
		s.sums = map[string]*Sum{}
	}
	if s.table != table {
		if s.sums[table] != nil {
			return 0
		}
		s.end()
		s.table, s.hash, s.part = table, sha256.New(), 0
		s.sums[table] = &Sum{Table: table}
	}
	s.part++
	s.sums[table].Rows += int64(bytes.Count(lines, []byte("\n")))
	_, _ = s.hash.Write(lines) // never fails (hash.Hash)
	return s.part
}

func (s *summing) end() {
	if s.table != "" {
		s.sums[s.table].SHA256 = hex.EncodeToString(s.hash.Sum(nil))
	}
}

// of returns the sums of all tables of a shape, those without rows too.
func (s *summing) of(sh shape) (out []Sum) {
	s.end()
	none := hex.EncodeToString(sha256.New().Sum(nil))
	for _, t := range sh.Tables {
		if sum := s.sums[t.Name]; sum != nil {
			out = append(out, *sum)
		} else {
			out = append(out, Sum{t.Name, 0, none})
		}
	}
	return out
}

func corrupt(err error, format string, args ...any) error {
	return fault.New(fault.Corrupt, "the backup cannot be used: "+format, args...).Try("take another one; nothing was changed").Because(err)
}

// CheckBackup reads a backup to its end, and says what is in it if all of it is
// there and this program can restore it.
func CheckBackup(r io.Reader) (Manifest, error) {
	m, sums, err := walkBackup(r, func(string, []byte) error { return nil })
	if err != nil {
		return m, err
	}
	if m.Format != backupFormat {
		return m, fault.New(fault.Unavailable, "the backup has format %d, and this program knows %d", m.Format, backupFormat).Try("use a newer program")
	}
	all, err := readMigrations()
	if err != nil {
		return m, err
	}
	if m.Schema.Version < 1 || m.Schema.Version > len(all) {
		return m, fault.New(fault.Unavailable, "the backup is newer than this program: its schema is version %d, and this program knows versions up to %d", m.Schema.Version, len(all)).
			Try("use the program that made it (%s), or a newer one", m.Version)
	}
	if digest, err := digestOf(m.Schema.Version); err != nil || digest != m.Schema.Digest {
		return m, errors.Join(err, corrupt(nil, "it was made by a program with another schema (%s)", m.Version))
	}
	if got := sums.of(m.Schema); !slices.Equal(got, m.Sums) || len(got) < len(sums.sums) {
		return m, corrupt(nil, "its tables are not those of its manifest")
	}
	return m, nil
}

// walkBackup reads a backup and gives its parts to f.
func walkBackup(r io.Reader, f func(table string, lines []byte) error) (m Manifest, sums summing, err error) {
	packed, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return m, sums, corrupt(err, "it cannot be unpacked")
	}
	defer packed.Close()
	for in, found := tar.NewReader(packed), false; ; {
		h, err := in.Next()
		switch {
		case errors.Is(err, io.EOF) && found:
			return m, sums, nil
		case errors.Is(err, io.EOF):
			return m, sums, corrupt(nil, "it is cut off")
		case err != nil:
			return m, sums, corrupt(err, "it is damaged, cut off, or no backup of Loupe")
		case found || h.Typeflag != tar.TypeReg || h.Size > maxPart:
			return m, sums, corrupt(nil, "there is a file in it that is not expected")
		}
		if h.Name == manifestName {
			found = true
			if err := json.NewDecoder(io.LimitReader(in, maxManifest)).Decode(&m); err != nil {
				return m, sums, corrupt(err, "its manifest cannot be read")
			}
			continue
		}
		lines, err := io.ReadAll(in)
		if err != nil {
			return m, sums, corrupt(err, "it is damaged or cut off")
		}
		table, part, _ := strings.Cut(h.Name, "/")
		if n := sums.add(table, lines); part != fmt.Sprintf("%06d.jsonl", n) {
			return m, sums, corrupt(nil, "there is a file in it that is not expected")
		}
		if err := f(table, lines); err != nil {
			return m, sums, err
		}
	}
}

// Restore makes the database what is in a backup that [CheckBackup] has read,
// whatever was in it. Until all of it is there, the database stays as it was.
func (s *Store) Restore(ctx context.Context, r io.ReadSeeker, m Manifest, progress Progress) error {
	tables := map[string]Table{}
	for _, t := range m.Schema.Tables {
		tables[t.Name] = t
	}
	err := s.writeAlone(ctx, func(tx *Tx) error {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return failed(err)
		}
		return tx.fill(ctx, m.Schema, func(f func(t Table, lines []byte) error) error {
			told := telling{progress: progress}
			_, sums, err := walkBackup(r, func(table string, lines []byte) error {
				t, ok := tables[table]
				if !ok {
					return corrupt(nil, "it was changed while it was read")
				}
				told.add(table, int64(bytes.Count(lines, []byte("\n"))))
				return f(t, lines)
			})
			if err != nil {
				return err
			}
			told.end()
			if !slices.Equal(sums.of(m.Schema), m.Sums) {
				return corrupt(nil, "it was changed while it was read")
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return s.Analyze(ctx)
}

// telling tells of tables that come one after the other.
type telling struct {
	progress Progress
	table    string
	rows     int64
}

func (t *telling) add(table string, rows int64) {
	if t.table != table {
		t.end()
		t.table, t.rows = table, 0
	}
	t.rows += rows
	t.progress(table, t.rows, false)
}

func (t *telling) end() {
	if t.table != "" {
		t.progress(t.table, t.rows, true)
	}
}
