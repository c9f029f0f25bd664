package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// A Type says how the values of a column are written in a copy, which is the
// same for both engines.
type Type string

// The types. The schema of the store needs the first four, the tables of the job
// queue all.
const (
	TypeText   Type = "text"
	TypeInt    Type = "int"
	TypeBool   Type = "bool"
	TypeBytes  Type = "bytes"  // base64
	TypeMoment Type = "moment" // milliseconds since 1970
	TypeWord   Type = "word"   // one of an enumeration
	TypeMask   Type = "mask"   // eight bits, as a number
	TypeJSON   Type = "json"
	TypeTexts  Type = "texts" // a list
	TypeJSONs  Type = "jsons" // a list
)

// A Column is a column of a table.
type Column struct {
	Name string `json:"name"`
	Type Type   `json:"type"`
}

// A Table is a table whose rows are copied.
type Table struct {
	Name    string   `json:"name"`
	Columns []Column `json:"columns"`
	Serial  string   `json:"serial,omitempty"` // the column whose values the database gives out
	Next    int64    `json:"next,omitempty"`   // that it gives out next
}

// A shape is a schema and what is in it: the tables of the store at a version,
// referenced ones first, and then those of others.
type shape struct {
	Version int     `json:"version"`
	Digest  string  `json:"schema"`
	Tables  []Table `json:"tables"`
}

// Progress is told how many rows of a table were copied, and when there are no
// more.
type Progress func(table string, rows int64, done bool)

// OpenAsIs opens a database that exists, with the schema that it has: what only
// reads must not be what upgrades.
func OpenAsIs(ctx context.Context, opt Options) (*Store, error) {
	if opt.URL == "" {
		if _, err := os.Stat(opt.Path); err != nil {
			return nil, fault.New(fault.NotFound, "there is no database %s", opt.Path).Try("name the folder of the server with --data, or its Postgres with --database-url").Because(err)
		}
	}
	s, err := open(ctx, opt)
	if err != nil {
		return nil, err
	}
	if _, err := version(ctx, s.read); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// version returns the version of a database's schema.
func version(ctx context.Context, db bun.IDB) (n int, err error) {
	err = db.NewRaw("SELECT coalesce(max(version), 0) FROM schema_version").Scan(ctx, &n)
	if err != nil && state(err) != "42P01" && codeSQLite(err) != sqlite3.SQLITE_ERROR { // for no such table
		return 0, failed(err)
	}
	if err != nil || n == 0 {
		return 0, fault.New(fault.Invalid, "this is not a database of Loupe").Try("check --data and --database-url").Because(err)
	}
	all, err := readMigrations()
	if err != nil {
		return 0, err
	}
	if n > len(all) {
		return 0, fault.New(fault.Unavailable, "the database is newer than this program: its schema is version %d, and this program knows versions up to %d", n, len(all)).
			Try("use the newer program")
	}
	return n, nil
}

// Alone fails if another process has the database open. That there is no
// database is no failure.
func Alone(ctx context.Context, opt Options) error {
	busy := fault.New(fault.Conflict, "another process uses the database").Try("end the servers, workers and commands on it first")
	if opt.URL == "" {
		if _, err := os.Stat(opt.Path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		// Only who is alone can leave the write-ahead log.
		db, err := connect(opt.Path, 1)
		if err != nil {
			return err
		}
		defer db.Close()
		if _, err := db.ExecContext(ctx, "PRAGMA busy_timeout(1000)"); err != nil {
			return damaged(opt.Path, err)
		}
		if _, err := db.ExecContext(ctx, "PRAGMA journal_mode(DELETE)"); busySQLite(err) {
			return busy.Because(err)
		} else if err != nil {
			return damaged(opt.Path, err)
		}
		return nil
	}
	opt.Conns = 1
	s, err := open(ctx, opt)
	if err != nil {
		return err
	}
	defer s.Close()
	var others int
	err = s.read.NewRaw("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'loupe' AND pid <> pg_backend_pid()").Scan(ctx, &others)
	if err == nil && others > 0 {
		return busy
	}
	return failed(err)
}

// damaged explains a file that SQLite cannot read.
func damaged(path string, err error) error {
	switch codeSQLite(err) & 0xff {
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return fault.New(fault.Corrupt, "%s is damaged, or not a database", filepath.Base(path)).
			Try("move it away, with the files beside it that begin with its name").Because(err)
	}
	return failed(err)
}

// bookkeeping are tables that fill themselves: what is in them is no reason not
// to overwrite a database.
var bookkeeping = []string{"plan", "counter", "setting", "request_window", "job_worker", "job_period"}

// left are tables that are about processes, which a copy has not.
var left = []string{"job_worker"}

// Empty reports whether nobody has put anything into the database yet.
func (s *Store) Empty(ctx context.Context) (bool, error) {
	names, err := tableNames(0)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if slices.Contains(bookkeeping, name) {
			continue
		}
		some, err := s.read.NewSelect().Table(name).Limit(1).Exists(ctx)
		if err != nil || some {
			return false, failed(err)
		}
	}
	return true, nil
}

var creates = regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`)

// tableNames lists the tables of a version of the schema, 0 for the newest, in
// the order in which they were made: what is referenced comes first.
func tableNames(version int) (names []string, err error) {
	all, err := readMigrations()
	if err != nil {
		return nil, err
	}
	for _, m := range all[:cmp.Or(version, len(all))] {
		for _, found := range creates.FindAllStringSubmatch(m.text, -1) {
			names = append(names, found[1])
		}
	}
	return names, nil
}

// digestOf tells the schema of a version from all others.
func digestOf(version int) (string, error) {
	all, err := readMigrations()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, m := range all[:version] {
		fmt.Fprintf(h, "%s\n%s\n", m.name, m.text)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// shape looks at the schema, with the tables of others that are there.
func (tx *Tx) shape(ctx context.Context, others []Table) (sh shape, err error) {
	if sh.Version, err = version(ctx, tx.db); err != nil {
		return sh, err
	}
	if sh.Digest, err = digestOf(sh.Version); err != nil {
		return sh, err
	}
	names, err := tableNames(sh.Version)
	if err != nil {
		return sh, err
	}
	for _, name := range names {
		if slices.Contains(left, name) {
			continue
		}
		columns, err := tx.columns(ctx, name)
		if err != nil {
			return sh, err
		}
		sh.Tables = append(sh.Tables, Table{Name: name, Columns: columns})
	}
	for _, t := range others {
		there, err := tx.columns(ctx, t.Name)
		if err != nil {
			return sh, err
		}
		t.Columns = slices.Clone(t.Columns)
		t.Columns = slices.DeleteFunc(t.Columns, func(c Column) bool {
			return !slices.ContainsFunc(there, func(o Column) bool { return o.Name == c.Name })
		})
		if len(t.Columns) == 0 {
			continue
		}
		if t.Serial != "" {
			if t.Next, err = tx.upcoming(ctx, t); err != nil {
				return sh, err
			}
		}
		sh.Tables = append(sh.Tables, t)
	}
	return sh, nil
}

// columns lists the columns of a table, with their types if they are of the
// store's own. A table that does not exist has none.
func (tx *Tx) columns(ctx context.Context, name string) (out []Column, err error) {
	text := "SELECT name, lower(type) AS type FROM pragma_table_info(?) ORDER BY cid"
	if tx.engine == Postgres {
		text = `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
			WHERE attrelid = to_regclass(quote_ident(?)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`
	}
	if err := tx.db.NewRaw(text, name).Scan(ctx, &out); err != nil {
		return nil, failed(err)
	}
	for i := range out {
		switch out[i].Type {
		case "bigint":
			out[i].Type = TypeInt
		case "boolean":
			out[i].Type = TypeBool
		case "bytea":
			out[i].Type = TypeBytes
		}
	}
	return out, nil
}

// upcoming returns the number that a table gives out next.
func (tx *Tx) upcoming(ctx context.Context, t Table) (n int64, err error) {
	err = tx.db.NewRaw("SELECT coalesce(max(?), 0) + 1 FROM ?", bun.Ident(t.Serial), bun.Ident(t.Name)).Scan(ctx, &n)
	if err != nil || tx.engine == SQLite {
		return n, failed(err)
	}
	var name string
	if err := tx.db.NewRaw("SELECT pg_get_serial_sequence(?, ?)", t.Name, t.Serial).Scan(ctx, &name); err != nil {
		return 0, failed(err)
	}
	var given int64
	err = tx.db.NewRaw("SELECT last_value + is_called::int FROM ?", bun.Safe(name)).Scan(ctx, &given) // the database quoted it
	return max(n, given), failed(err)
}

// snapshot calls f in a transaction that sees the rows of one moment and writes
// nothing. Nobody waits for it.
func (s *Store) snapshot(ctx context.Context, f func(ctx context.Context, tx *Tx) error) error {
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	out := &Tx{engine: s.engine}
	opt := &sql.TxOptions{}
	if s.engine == Postgres {
		if out.conn, err = pgxConn(conn.Conn); err != nil {
			return err
		}
		opt = &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	if out.tx, err = conn.BeginTx(context.WithoutCancel(ctx), opt); err != nil { // as in writeAlone
		return failed(err)
	}
	out.db = out.tx
	defer out.tx.Rollback()
	return f(ctx, out)
}

// partSize is how many bytes of rows are held at once, if one row has not more.
const partSize = 4 << 20

// parts reads a table, some rows at a time. They are lines, and valid until f
// returns.
func (tx *Tx) parts(ctx context.Context, t Table, f func(lines []byte) error) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := tx.each(ctx, t, func(values []any) error {
		for i, c := range t.Columns {
			var err error
			if values[i], err = portable(c.Type, values[i]); err != nil {
				return fmt.Errorf("store: table %s, column %s: %w", t.Name, c.Name, err)
			}
		}
		if err := enc.Encode(values); err != nil {
			return failed(err)
		}
		if buf.Len() < partSize {
			return nil
		}
		defer buf.Reset()
		return f(buf.Bytes())
	})
	if err != nil || buf.Len() == 0 {
		return err
	}
	return f(buf.Bytes())
}

// each reads the rows of a table, as they come.
func (tx *Tx) each(ctx context.Context, t Table, f func(values []any) error) error {
	var columns []string
	for _, c := range t.Columns {
		columns = append(columns, c.read(tx.engine))
	}
	text := "SELECT " + strings.Join(columns, ", ") + " FROM " + quoted(t.Name)
	if tx.engine == Postgres {
		// Without what the connection remembers of a table of this name that is gone.
		rows, err := tx.conn.Query(ctx, text, pgx.QueryExecModeDescribeExec)
		if err != nil {
			return failed(err)
		}
		defer rows.Close()
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				return failed(err)
			}
			if err := f(values); err != nil {
				return err
			}
		}
		return failed(rows.Err())
	}
	rows, err := tx.tx.Tx.QueryContext(ctx, text)
	if err != nil {
		return failed(err)
	}
	defer rows.Close()
	values, to := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		to[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return failed(err)
		}
		if err := f(values); err != nil {
			return err
		}
	}
	return failed(rows.Err())
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// read returns what is selected of a column.
func (c Column) read(engine Engine) string {
	form := map[Type]string{
		TypeMoment: "CAST(round(unixepoch(%s, 'subsec') * 1000) AS INTEGER)",
		TypeJSON:   "json(%s)", TypeTexts: "json(%s)", TypeJSONs: "json(%s)",
	}
	if engine == Postgres {
		form = map[Type]string{
			TypeInt:    "%s::bigint",
			TypeMoment: "floor(extract(epoch FROM %s) * 1000)::bigint",
			TypeWord:   "%s::text", TypeMask: "%s::int::bigint", TypeJSON: "%s::text",
			TypeTexts: "to_jsonb(%s)::text", TypeJSONs: "to_jsonb(%s)::text",
		}
	}
	return fmt.Sprintf(cmp.Or(form[c.Type], "%s"), quoted(c.Name))
}

// notText is how a text that is not UTF-8 is written. SQLite keeps such.
type notText struct {
	Bytes []byte `json:"bytes"`
}

// portable returns a value as a copy writes it, which is the same for the same
// value on both engines.
func portable(t Type, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	switch t {
	case TypeText, TypeWord, TypeJSON, TypeTexts, TypeJSONs:
		if b, ok := v.([]byte); ok {
			v = string(b)
		}
		text, ok := v.(string)
		switch {
		case !ok:
		case t != TypeText && t != TypeWord:
			return canonical([]byte(text))
		case utf8.ValidString(text):
			return text, nil
		default:
			return notText{[]byte(text)}, nil
		}
	case TypeInt, TypeMoment, TypeMask:
		if n, ok := v.(int64); ok {
			return n, nil
		}
	case TypeBool:
		switch b := v.(type) {
		case bool:
			return b, nil
		case int64:
			return b != 0, nil
		}
	case TypeBytes:
		switch b := v.(type) {
		case []byte:
			return append([]byte{}, b...), nil // none is not NULL
		case string: // written by hand
			return []byte(b), nil
		}
	default:
		return nil, fmt.Errorf("columns of the type %q are not copied", t)
	}
	return nil, fmt.Errorf("a value is a %T", v)
}

// canonical writes JSON with its names in order.
func canonical(data []byte) (json.RawMessage, error) {
	var v any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// native returns a value of a line as it is given to an engine: nil, or a
// string, int64, bool or []byte, for Postgres always as COPY reads it.
func (c Column) native(engine Engine, raw json.RawMessage) (any, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	switch c.Type {
	case TypeText, TypeWord:
		return asText(engine, raw)
	case TypeInt:
		return decoded[int64](raw)
	case TypeBool:
		return decoded[bool](raw)
	case TypeBytes:
		return decoded[[]byte](raw)
	case TypeMoment:
		ms, err := decoded[int64](raw)
		at := time.UnixMilli(ms).UTC()
		if engine == Postgres {
			return at.Format("2006-01-02 15:04:05.999Z07:00"), err
		}
		return at.Format("2006-01-02 15:04:05.999"), err // as the job queue writes it, which compares texts
	case TypeMask:
		n, err := decoded[uint8](raw)
		if engine == Postgres {
			return fmt.Sprintf("%08b", n), err
		}
		return int64(n), err
	case TypeJSON:
		return string(raw), nil
	case TypeTexts, TypeJSONs:
		if engine == SQLite {
			return string(raw), nil
		}
		return array(c.Type, raw)
	}
	return nil, fmt.Errorf("there is no type %q", c.Type)
}

func decoded[T any](raw json.RawMessage) (v T, err error) { return v, json.Unmarshal(raw, &v) }

func asText(engine Engine, raw json.RawMessage) (any, error) {
	if len(raw) > 0 && raw[0] == '{' {
		odd, err := decoded[notText](raw)
		if err == nil && engine == Postgres {
			err = fault.New(fault.Unsupported, "a text is not UTF-8, which Postgres cannot keep")
		}
		return string(odd.Bytes), err
	}
	text, err := decoded[string](raw)
	if err == nil && engine == Postgres && strings.Contains(text, "\x00") {
		err = fault.New(fault.Unsupported, "a text holds a zero byte, which Postgres cannot keep")
	}
	return text, err
}

// array writes a list as Postgres does (manual, 8.15.2).
func array(t Type, raw json.RawMessage) (string, error) {
	list, err := decoded[[]json.RawMessage](raw)
	if err != nil {
		return "", err
	}
	var out []string
	for _, item := range list {
		text := string(item)
		if t == TypeTexts {
			if text, err = decoded[string](item); err != nil {
				return "", err
			}
		}
		out = append(out, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)+`"`)
	}
	return "{" + strings.Join(out, ",") + "}", nil
}

// add writes rows into a table. lines are those of [Tx.parts].
func (tx *Tx) add(ctx context.Context, t Table, lines []byte) error {
	if tx.engine == Postgres {
		return tx.addPostgres(ctx, t, lines)
	}
	marks := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		marks[i] = "?"
		if c.Type == TypeJSON || c.Type == TypeTexts || c.Type == TypeJSONs {
			marks[i] = "jsonb(?)"
		}
	}
	stmt, err := tx.tx.Tx.PrepareContext(ctx, "INSERT INTO "+quoted(t.Name)+" ("+t.names()+") VALUES ("+strings.Join(marks, ", ")+")")
	if err != nil {
		return failed(err)
	}
	defer stmt.Close()
	return t.rows(tx.engine, lines, func(values []any) error {
		_, err := stmt.ExecContext(ctx, values...)
		return t.failed(err)
	})
}

// addPostgres writes rows by COPY, as text (manual, COPY, "Text Format"), so
// that the database itself reads each type.
func (tx *Tx) addPostgres(ctx context.Context, t Table, lines []byte) error {
	var out bytes.Buffer
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
	err := t.rows(tx.engine, lines, func(values []any) error {
		for i, v := range values {
			if i > 0 {
				out.WriteByte('\t')
			}
			switch v := v.(type) {
			case nil:
				out.WriteString(`\N`)
			case []byte:
				out.WriteString(`\\x` + hex.EncodeToString(v))
			default:
				_, _ = escape.WriteString(&out, fmt.Sprint(v)) // into memory
			}
		}
		return out.WriteByte('\n')
	})
	if err != nil {
		return err
	}
	_, err = tx.conn.PgConn().CopyFrom(ctx, &out, "COPY "+quoted(t.Name)+" ("+t.names()+") FROM STDIN")
	return t.failed(err)
}

func (t Table) names() string {
	var out []string
	for _, c := range t.Columns {
		out = append(out, quoted(c.Name))
	}
	return strings.Join(out, ", ")
}

func (t Table) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: table %s: %w", t.Name, err)
}

// rows reads lines.
func (t Table) rows(engine Engine, lines []byte, f func(values []any) error) error {
	values := make([]any, len(t.Columns))
	for line := range bytes.Lines(lines) {
		raw, err := decoded[[]json.RawMessage](line)
		if err == nil && len(raw) != len(values) {
			err = fmt.Errorf("a row has %d values for %d columns", len(raw), len(values))
		}
		for i := 0; err == nil && i < len(raw); i++ {
			values[i], err = t.Columns[i].native(engine, raw[i])
		}
		if err != nil {
			return t.failed(err)
		}
		if err := f(values); err != nil {
			return err
		}
	}
	return nil
}

// A tally tells rows from others, in whatever order they come: it is their
// number and the sum of their hashes.
type tally struct {
	rows int64
	sum  [sha256.Size]byte
}

func (a *tally) add(lines []byte) {
	for line := range bytes.Lines(lines) {
		a.rows++
		h := sha256.Sum256(line)
		carry := 0
		for i := len(h) - 1; i >= 0; i-- {
			carry += int(a.sum[i]) + int(h[i])
			a.sum[i], carry = byte(carry), carry>>8
		}
	}
}

// A reading gives all parts of the tables of a shape, in its order.
type reading func(f func(t Table, lines []byte) error) error

// fill makes the database what is read, whatever was in it, and what the newest
// schema makes of that. It reads back what it wrote.
func (tx *Tx) fill(ctx context.Context, sh shape, read reading) error {
	if err := tx.Lock(ctx, "schema"); err != nil {
		return err
	}
	own, err := tableNames(sh.Version)
	if err != nil {
		return err
	}
	own = slices.DeleteFunc(own, func(name string) bool { return slices.Contains(left, name) })
	for i, t := range sh.Tables {
		if i < len(own) && t.Name != own[i] {
			return fault.New(fault.Corrupt, "table %s is missing", own[i])
		}
	}
	if len(sh.Tables) < len(own) {
		return fault.New(fault.Corrupt, "table %s is missing", own[len(sh.Tables)])
	}
	if err := tx.recreate(ctx, sh.Version, own); err != nil {
		return err
	}
	for _, t := range sh.Tables[len(own):] {
		if err := tx.clear(ctx, t.Name); err != nil {
			return err
		}
	}
	for _, t := range sh.Tables {
		if err := tx.knows(ctx, t); err != nil {
			return err
		}
	}
	written := map[string]*tally{}
	for _, t := range sh.Tables {
		written[t.Name] = &tally{}
	}
	err = read(func(t Table, lines []byte) error {
		written[t.Name].add(lines)
		return tx.add(ctx, t, lines)
	})
	if err != nil {
		return err
	}
	for _, t := range sh.Tables {
		var kept tally
		if err := tx.parts(ctx, t, func(lines []byte) error { kept.add(lines); return nil }); err != nil {
			return err
		}
		if kept != *written[t.Name] {
			return fmt.Errorf("store: table %s is not what was written: %d rows of %d, or other values", t.Name, kept.rows, written[t.Name].rows)
		}
		if err := tx.giveOut(ctx, t); err != nil {
			return err
		}
	}
	all, err := readMigrations()
	if err != nil {
		return err
	}
	return tx.apply(ctx, all[sh.Version:])
}

// recreate makes the tables of the store anew, at a version and empty.
func (tx *Tx) recreate(ctx context.Context, version int, own []string) error {
	newest, err := tableNames(0)
	if err != nil {
		return err
	}
	for _, name := range slices.Backward(newest) {
		if _, err := tx.db.NewRaw("DROP TABLE IF EXISTS ?", bun.Ident(name)).Exec(ctx); err != nil {
			return failed(err)
		}
	}
	if _, err := tx.db.NewRaw("DELETE FROM schema_version").Exec(ctx); err != nil {
		return failed(err)
	}
	all, err := readMigrations()
	if err != nil {
		return err
	}
	if err := tx.apply(ctx, all[:version]); err != nil {
		return err
	}
	for _, name := range slices.Backward(own) { // of what migrations put into them
		if _, err := tx.db.NewRaw("DELETE FROM ?", bun.Ident(name)).Exec(ctx); err != nil {
			return failed(err)
		}
	}
	return nil
}

// apply carries out migrations.
func (tx *Tx) apply(ctx context.Context, some []migration) error {
	for _, m := range some {
		if _, err := tx.tx.Tx.ExecContext(ctx, m.text); err != nil {
			return fmt.Errorf("store: migration %s: %w", m.name, err)
		}
		if _, err := tx.db.NewRaw("INSERT INTO schema_version (version, name) VALUES (?, ?)", m.version, m.name).Exec(ctx); err != nil {
			return failed(err)
		}
	}
	return nil
}

// clear empties a table of others. Triggers do not see it.
func (tx *Tx) clear(ctx context.Context, name string) error {
	if tx.engine == Postgres {
		_, err := tx.db.NewRaw("TRUNCATE ?", bun.Ident(name)).Exec(ctx)
		return failed(err)
	}
	var triggers []struct{ Name, SQL string }
	if err := tx.db.NewRaw("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", name).Scan(ctx, &triggers); err != nil {
		return failed(err)
	}
	for _, t := range triggers {
		if _, err := tx.db.NewRaw("DROP TRIGGER ?", bun.Ident(t.Name)).Exec(ctx); err != nil {
			return failed(err)
		}
	}
	if _, err := tx.db.NewRaw("DELETE FROM ?", bun.Ident(name)).Exec(ctx); err != nil {
		return failed(err)
	}
	for _, t := range triggers {
		if _, err := tx.tx.Tx.ExecContext(ctx, t.SQL); err != nil {
			return failed(err)
		}
	}
	return nil
}

// knows checks that a table has the columns that are to be written.
func (tx *Tx) knows(ctx context.Context, t Table) error {
	there, err := tx.columns(ctx, t.Name)
	if err != nil {
		return err
	}
	for _, c := range t.Columns {
		if !slices.ContainsFunc(there, func(o Column) bool { return o.Name == c.Name }) {
			return fault.New(fault.Unavailable, "this program has no column %s in table %s", c.Name, t.Name).Try("use the program of the version that made the copy, or a newer one")
		}
	}
	return nil
}

// giveOut has a table give out numbers from where the copied one was.
func (tx *Tx) giveOut(ctx context.Context, t Table) error {
	if t.Serial == "" || tx.engine == SQLite { // which goes on from the highest
		return nil
	}
	_, err := tx.db.NewRaw("SELECT setval(pg_get_serial_sequence(?, ?), ?, false)", t.Name, t.Serial, max(t.Next, 1)).Exec(ctx)
	return failed(err)
}

// CopyTo makes another database what this one is, whatever was in it: the tables
// of the store, and those of others that both have. Nobody changes this one
// meanwhile, and until all of it is there, the other one stays as it was.
func (s *Store) CopyTo(ctx context.Context, to *Store, others []Table, progress Progress) error {
	err := s.writeAlone(ctx, func(from *Tx) error { // for the lock
		sh, err := from.shape(ctx, others)
		if err != nil {
			return err
		}
		if err := from.still(ctx, sh); err != nil {
			return err
		}
		if sh, err = from.shape(ctx, others); err != nil { // as it is now that it is still
			return err
		}
		return to.writeAlone(ctx, func(into *Tx) error {
			return into.fill(ctx, sh, func(f func(t Table, lines []byte) error) error {
				return from.all(ctx, sh, progress, f)
			})
		})
	})
	if err != nil {
		return err
	}
	return to.Analyze(ctx)
}

// writeAlone is [Store.Write] for what uses the connection beneath the
// transaction: when a context ends, database/sql gives the transaction up at
// once, in the midst of what goes on. So that of the transaction does not end, and
// f has its statements end with ctx.
func (s *Store) writeAlone(ctx context.Context, f func(tx *Tx) error) error {
	return s.Write(context.WithoutCancel(ctx), func(_ context.Context, tx *Tx) error { return cmp.Or(f(tx), ctx.Err()) })
}

// still keeps others from writing until the transaction ends.
func (tx *Tx) still(ctx context.Context, sh shape) error {
	if tx.engine == SQLite { // has one writer
		return nil
	}
	for _, t := range sh.Tables {
		if _, err := tx.db.NewRaw("LOCK TABLE ? IN SHARE MODE", bun.Ident(t.Name)).Exec(ctx); err != nil {
			return failed(err)
		}
	}
	return nil
}

// all reads all tables of a shape.
func (tx *Tx) all(ctx context.Context, sh shape, progress Progress, f func(t Table, lines []byte) error) error {
	for _, t := range sh.Tables {
		var rows int64
		err := tx.parts(ctx, t, func(lines []byte) error {
			rows += int64(bytes.Count(lines, []byte("\n")))
			progress(t.Name, rows, false)
			return f(t, lines)
		})
		if err != nil {
			return err
		}
		progress(t.Name, rows, true)
	}
	return nil
}
