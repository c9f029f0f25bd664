package store_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

var engines = []store.Engine{store.SQLite, store.Postgres}

// eachPair runs a test with a database that is full and an empty one, of all
// pairs of engines.
func eachPair(t *testing.T, f func(t *testing.T, from, to *store.Store)) {
	for _, a := range engines {
		for _, b := range engines {
			t.Run(fmt.Sprintf("%s to %s", a, b), func(t *testing.T) {
				from, to := storetest.Open(t, storetest.Options(t, a)), storetest.Open(t, storetest.Options(t, b))
				populate(t, from)
				newQueue(t, to)
				f(t, from, to)
			})
		}
	}
}

// note is the job of these tests.
type note struct {
	Text  string `json:"text"`
	Other []any  `json:"a"`
}

func (note) Kind() string { return "note" }

func newQueue(t testing.TB, st *store.Store, handlers ...jobs.Handler) *jobs.Queue {
	t.Helper()
	opt := jobs.Options{Handlers: handlers, Beat: 50 * time.Millisecond}
	if len(handlers) > 0 {
		opt.Classes = map[jobs.Class]int{jobs.Scan: 2}
	}
	return must[*jobs.Queue](t)(jobs.New(t.Context(), st, opt))
}

const odd = "tab\tnew\nline\r back\\slash \\N \\. \"quoted\" {brace,} é – 漢 🔎 <&>"

// populate puts rows into all tables, with values that are easy to get wrong,
// and jobs in several states.
func populate(t testing.TB, st *store.Store) {
	t.Helper()
	a := analyze(t, st, target.NPM, "bcrypt", "5.1.1")
	furnish(t, st, "acme", &a)
	furnish(t, st, "other", &a)
	b := analysis(target.PyPI, "odd", "1.0")
	b.Summary = odd
	every := make([]byte, 1<<16)
	for i := range every {
		every[i] = byte(i)
	}
	write(t, st, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.SaveAnalysis(ctx, &b, store.Document{Kind: "report", Data: every}, store.Document{Kind: "marks", Data: []byte{}})
		return err
	})
	exec := func(text string, args ...any) {
		t.Helper()
		if err := st.Exec(t.Context(), text, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("INSERT INTO setting (name, value) VALUES ('secret', ?)", odd)
	exec("INSERT INTO watched_package (ecosystem, name, version, etag, error, next_at) VALUES ('npm', 'watched', '', '', '', 9007199254740993)")
	exec("INSERT INTO billing_event (id, kind, created_at, received_at) VALUES ('evt_1', 'invoice.paid', 1, 2)")
	exec("INSERT INTO request_window (subject, starts, used) VALUES ('key_1', 1, 2)")
	exec("INSERT INTO job_worker (id, place, beats) VALUES ('worker_1', 'gone 1', 7)")
	exec("INSERT INTO job_period (kind, period) VALUES ('look', 5)")

	q := newQueue(t, st)
	enqueue := func(n note, in jobs.Insert) {
		in.Class = jobs.Scan
		write(t, st, func(ctx context.Context, tx *store.Tx) error { _, err := q.EnqueueTx(ctx, tx, n, in); return err })
	}
	enqueue(note{Text: "waits", Other: []any{1, 2.5, nil, true, map[string]any{"z": odd, "a": "b"}}}, jobs.Insert{Unique: "one"})
	enqueue(note{Text: odd}, jobs.Insert{Priority: 4})
	enqueue(note{Text: "later"}, jobs.Insert{At: time.Now().Add(time.Hour)})
	enqueue(note{Text: "runs"}, jobs.Insert{})
	enqueue(note{Text: "last"}, jobs.Insert{})
	list, by := `ARRAY['{"at":"2026-01-01T00:00:00Z","attempt":1,"error":"a \"b\" \\ c","trace":""}']::jsonb[]`, `'{worker_0,"worker 1"}'`
	moment := "'2026-03-22 10:00:00.789+00'"
	if st.Engine() == store.SQLite {
		list, by = `jsonb('[{"at":"2026-01-01T00:00:00Z","attempt":1,"error":"a \"b\" \\ c","trace":""}]')`, `jsonb('["worker_0","worker 1"]')`
		moment = "'2026-03-22 10:00:00.789'"
	}
	exec("UPDATE river_job SET state = 'running', attempt = 2, attempted_at = " + moment + ", attempted_by = " + by + ", errors = " + list + " WHERE id = 4")
	exec("UPDATE river_job SET state = 'completed', finalized_at = " + moment + " WHERE id = 5")
}

// backup returns a backup of a database.
func backup(t testing.TB, st *store.Store) (store.Manifest, []byte) {
	t.Helper()
	var out bytes.Buffer
	m, err := st.Backup(t.Context(), &out, store.Manifest{Version: "1.2.3", At: now.Time}, jobs.Tables(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	return m, out.Bytes()
}

func quiet(string, int64, bool) {}

// content returns the rows of a backup by table, in order.
func content(t testing.TB, data []byte) map[string][]string {
	t.Helper()
	packed, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	out := map[string][]string{}
	for in := tar.NewReader(packed); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			for _, lines := range out {
				slices.Sort(lines)
			}
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if dir := path.Dir(h.Name); dir != "." {
			text := must[[]byte](t)(io.ReadAll(in))
			out[dir] = append(out[dir], strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
		}
	}
}

func rowsOf(t testing.TB, st *store.Store) map[string][]string {
	t.Helper()
	_, data := backup(t, st)
	return content(t, data)
}

// What is in one database is in the other, whatever their engines, and its jobs
// are done there.
func TestCopyTo(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to *store.Store) {
		want := rowsOf(t, from)
		if err := from.CopyTo(t.Context(), to, jobs.Tables(), quiet); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, rowsOf(t, to)); diff != "" {
			t.Errorf("rows differ (-from +to):\n%s", diff)
		}
		checkLife(t, to)
	})
}

func TestBackupRestore(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to *store.Store) {
		_, data := backup(t, from)
		furnish(t, to, "gone", new(analyze(t, to, target.NPM, "gone", "1.0.0"))) // is overwritten
		q := newQueue(t, to)
		write(t, to, func(ctx context.Context, tx *store.Tx) error {
			_, err := q.EnqueueTx(ctx, tx, note{Text: "gone"}, jobs.Insert{Class: jobs.Scan})
			return err
		})
		m, err := store.CheckBackup(bytes.NewReader(data))
		if err != nil || m.Version != "1.2.3" || !m.At.Equal(now.Time) || m.Engine != from.Engine() {
			t.Fatalf("manifest %s %v %s, %v", m.Version, m.At, m.Engine, err)
		}
		if err := to.Restore(t.Context(), bytes.NewReader(data), m, quiet); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(content(t, data), rowsOf(t, to)); diff != "" {
			t.Errorf("rows differ (-backup +restored):\n%s", diff)
		}
		checkLife(t, to)
	})
}

// checkLife checks that a copy of what [populate] made can be worked with.
func checkLife(t *testing.T, st *store.Store) {
	t.Helper()
	a, err := st.AnalysisOf(t.Context(), target.PyPI, "odd", "1.0")
	if err != nil || a.Summary != odd {
		t.Errorf("summary %q, %v; want %q", a.Summary, err, odd)
	}
	if doc, err := st.Document(t.Context(), a.ID, "report"); err != nil || len(doc) != 1<<16 || doc[255] != 255 {
		t.Errorf("the report has %d bytes, %v", len(doc), err)
	}
	makeOrg(t, st, "new") // takes the next number
	if n := must[int64](t)(st.Value(t.Context(), "SELECT number FROM org WHERE slug = 'new'")); n != 3 {
		t.Errorf("the third organization has number %d", n)
	}

	var mu sync.Mutex
	var done []string
	q := newQueue(t, st, jobs.Handler{Kind: "note", Run: func(_ context.Context, job *jobs.Job) error {
		var n note
		if err := job.Decode(&n); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		done = append(done, n.Text)
		return nil
	}})
	write(t, st, func(ctx context.Context, tx *store.Tx) error {
		// The one that waits is still the only one.
		id, err := q.EnqueueTx(ctx, tx, note{Text: "waits", Other: []any{1, 2.5, nil, true, map[string]any{"z": odd, "a": "b"}}}, jobs.Insert{Class: jobs.Scan, Unique: "one"})
		if id != 1 {
			t.Errorf("a job like one that waits has id %d", id)
		}
		if err != nil {
			return err
		}
		id, err = q.EnqueueTx(ctx, tx, note{Text: "new"}, jobs.Insert{Class: jobs.Scan})
		if id <= 5 {
			t.Errorf("a new job has the id %d of another one", id)
		}
		return err
	})
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"new", "runs", odd, "waits"}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		n := len(done)
		mu.Unlock()
		if n >= len(want) {
			break
		}
	}
	if err := q.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	slices.Sort(done)
	if !slices.Equal(done, want) {
		t.Errorf("jobs done: %q; want %q", done, want)
	}
}

// No table is forgotten.
func TestBackupHasAllTables(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		populate(t, st)
		m, data := backup(t, st)
		var have []string
		for _, s := range m.Sums {
			have = append(have, s.Table)
			if len(content(t, data)[s.Table]) == 0 {
				t.Errorf("the test has no row for %s", s.Table)
			}
		}
		have = append(have, "schema_version", "job_worker", "river_leader", "river_migration", "river_notification", "river_queue") // are made anew
		slices.Sort(have)
		if diff := cmp.Diff(must[[]string](t)(st.Tables(t.Context())), have); diff != "" {
			t.Errorf("tables (-there +copied):\n%s", diff)
		}
		for _, table := range jobs.Tables() {
			var named []string
			for _, c := range table.Columns {
				named = append(named, c.Name)
			}
			list := "SELECT group_concat(name) FROM pragma_table_info(?)"
			if st.Engine() == store.Postgres {
				list = "SELECT string_agg(column_name, ',') FROM information_schema.columns WHERE table_name = ?"
			}
			var text string
			if err := st.Raw().NewRaw(list, table.Name).Scan(t.Context(), &text); err != nil {
				t.Fatal(err)
			}
			there := strings.Split(text, ",")
			slices.Sort(there)
			slices.Sort(named)
			if diff := cmp.Diff(there, named); diff != "" {
				t.Errorf("columns of %s (-there +copied):\n%s", table.Name, diff)
			}
		}
	})
}

// A backup is of one moment, whatever is written meanwhile.
func TestBackupOfOneMoment(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				row := store.Organization{Name: "n", Slug: fmt.Sprintf("s%d", i), Plan: "pro", CreatedAt: now}
				_ = st.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
					if err := tx.CreateOrg(ctx, &row); err != nil {
						return err
					}
					return tx.Org(row.ID).Audit(ctx, store.Audit{Actor: "a", Action: "b", Object: row.ID, Detail: "{}", CreatedAt: now})
				})
			}
		})
		for range 20 {
			rows := rowsOf(t, st)
			count := ""
			for _, c := range rows["counter"] {
				if strings.HasPrefix(c, `["org",`) {
					count = c
				}
			}
			if len(rows["org"]) != len(rows["audit"]) || count != fmt.Sprintf(`["org",%d]`, len(rows["org"])) {
				t.Errorf("%d organizations, %d in the log, counter %s", len(rows["org"]), len(rows["audit"]), count)
			}
		}
		stop()
		wg.Wait()
	})
}

func TestDamagedBackup(t *testing.T) {
	st := storetest.Open(t, storetest.Options(t, store.SQLite))
	populate(t, st)
	_, whole := backup(t, st)
	check := func(name string, data []byte) {
		t.Helper()
		_, err := store.CheckBackup(bytes.NewReader(data))
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v; want that it is refused as corrupt", name, err)
		}
	}
	check("empty", nil)
	check("text", []byte("PRAGMA foreign_keys=OFF;"))
	for _, n := range []int{1, 10, len(whole) / 2, len(whole) - 100, len(whole) - 1} {
		check(fmt.Sprint("cut off after ", n), whole[:n])
	}
	for i := 0; i < len(whole); i += len(whole)/200 + 1 {
		data := bytes.Clone(whole)
		data[i] ^= 0x10
		if _, err := store.CheckBackup(bytes.NewReader(data)); err == nil && !harmless(data) {
			t.Errorf("a wrong bit at %d is not noticed", i)
		}
	}
	check("a row is missing", repack(t, whole, func(name string, data []byte) (string, []byte) {
		if strings.HasPrefix(name, "scan/") {
			_, data, _ = bytes.Cut(data, []byte("\n"))
		}
		return name, data
	}))
	check("a table is missing", repack(t, whole, func(name string, data []byte) (string, []byte) {
		if strings.HasPrefix(name, "scan/") {
			return "", nil
		}
		return name, data
	}))
	check("a table has another name", repack(t, whole, func(name string, data []byte) (string, []byte) {
		return strings.Replace(name, "scan/", "sqlite_master/", 1), data
	}))
	check("a file leads elsewhere", repack(t, whole, func(name string, data []byte) (string, []byte) {
		return strings.Replace(name, "scan/", "../", 1), data
	}))
	check("the manifest is missing", repack(t, whole, func(name string, data []byte) (string, []byte) {
		if name == "manifest.json" {
			return "", nil
		}
		return name, data
	}))
	check("another schema", repack(t, whole, func(name string, data []byte) (string, []byte) {
		return name, bytes.Replace(data, []byte(`"schema": "`), []byte(`"schema": "0`), 1)
	}))
	newer := repack(t, whole, func(name string, data []byte) (string, []byte) {
		if name == "manifest.json" {
			data = bytes.Replace(data, []byte(`"database": {
  "version": `), []byte(`"database": {
  "version": 9`), 1)
		}
		return name, data
	})
	if _, err := store.CheckBackup(bytes.NewReader(newer)); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "newer than this program") {
		t.Errorf("newer: %v", err)
	}
}

// harmless says whether a wrong bit changed nothing: packing has bits that mean
// nothing.
func harmless(data []byte) bool {
	packed, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		return false
	}
	defer packed.Close()
	_, err = io.Copy(io.Discard, packed)
	return err == nil
}

// repack changes the files of a backup. Without a name, one is left out.
func repack(t *testing.T, data []byte, change func(name string, data []byte) (string, []byte)) []byte {
	t.Helper()
	packed, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	var out bytes.Buffer
	pack := must[*zstd.Encoder](t)(zstd.NewWriter(&out))
	to := tar.NewWriter(pack)
	for in := tar.NewReader(packed); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			if err := errors.Join(to.Close(), pack.Close()); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
		name, text := change(h.Name, must[[]byte](t)(io.ReadAll(in)))
		if name == "" {
			continue
		}
		if err := to.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		must[int](t)(to.Write(text))
	}
}

// A value that the database refuses, or a process that ends, leaves what was
// there.
func TestRestoreFails(t *testing.T) {
	storetest.Each(t, func(t *testing.T, to *store.Store) {
		from := storetest.Open(t, storetest.Options(t, store.SQLite))
		populate(t, from)
		newQueue(t, to)
		a := analyze(t, to, target.NPM, "kept", "1.0.0")
		furnish(t, to, "kept", &a)
		before := rowsOf(t, to)
		_, data := backup(t, from)
		m := must[store.Manifest](t)(store.CheckBackup(bytes.NewReader(data)))

		ctx, cancel := context.WithCancel(t.Context())
		err := to.Restore(ctx, bytes.NewReader(data), m, func(table string, _ int64, _ bool) {
			if table == "river_job" {
				cancel()
			}
		})
		if err == nil {
			t.Error("a restore that was ended did not fail")
		}
		other := repack(t, data, func(name string, data []byte) (string, []byte) {
			if strings.HasPrefix(name, "scan/") {
				data = bytes.ReplaceAll(data, []byte(`"queued"`), []byte(`"failed"`))
			}
			return name, data
		})
		if err := to.Restore(t.Context(), bytes.NewReader(other), m, quiet); !fault.Is(err, fault.Corrupt) {
			t.Errorf("a backup that was changed after it was checked: %v", err)
		}
		if diff := cmp.Diff(before, rowsOf(t, to)); diff != "" {
			t.Errorf("what was there has changed (-before +after):\n%s", diff)
		}
	})
}

// TestRestoreKilled kills a process in the middle of a restore. The process is
// this test in another role.
func TestRestoreKilled(t *testing.T) {
	if file := os.Getenv("STORE_TEST_RESTORE"); file != "" {
		restoreAndDie(t, file)
	}
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			opt := storetest.Options(t, engine)
			from := storetest.Open(t, storetest.Options(t, store.SQLite))
			populate(t, from)
			_, data := backup(t, from)
			file := filepath.Join(t.TempDir(), "backup")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			before := func() map[string][]string {
				st := must[*store.Store](t)(store.Open(t.Context(), opt))
				defer st.Close()
				a := analyze(t, st, target.NPM, "kept", "1.0.0")
				furnish(t, st, "kept", &a)
				newQueue(t, st)
				return rowsOf(t, st)
			}()
			cmd := exec.Command(os.Args[0], "-test.run", "^TestRestoreKilled$")
			cmd.Env = append(os.Environ(), "STORE_TEST_RESTORE="+file, "STORE_TEST_PATH="+opt.Path, "STORE_TEST_URL="+opt.URL)
			out, err := cmd.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || !exit.Sys().(syscall.WaitStatus).Signaled() {
				t.Fatalf("the process was not killed: %v\n%s", err, out)
			}
			if diff := cmp.Diff(before, rowsOf(t, storetest.Open(t, opt))); diff != "" {
				t.Errorf("what was there has changed (-before +after):\n%s", diff)
			}
		})
	}
}

func restoreAndDie(t *testing.T, file string) {
	st := must[*store.Store](t)(store.Open(t.Context(), store.Options{Path: os.Getenv("STORE_TEST_PATH"), URL: os.Getenv("STORE_TEST_URL")}))
	f := must[*os.File](t)(os.Open(file))
	m := must[store.Manifest](t)(store.CheckBackup(f))
	err := st.Restore(t.Context(), f, m, func(table string, _ int64, _ bool) {
		if table == "river_job" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	t.Fatalf("still here: %v", err)
}

// A backup of an older schema becomes what the newest makes of it.
func TestBackupOfOlderSchema(t *testing.T) {
	for a, b := range map[store.Engine]store.Engine{store.SQLite: store.Postgres, store.Postgres: store.SQLite} {
		t.Run(fmt.Sprintf("%s to %s", a, b), func(t *testing.T) {
			old := must[*store.Store](t)(store.OpenAt(t.Context(), storetest.Options(t, a), 2))
			t.Cleanup(func() { _ = old.Close() })
			an := analyze(t, old, target.NPM, "bcrypt", "5.1.1")
			makeOrg(t, old, "acme")
			m, data := backup(t, old)
			if slices.ContainsFunc(m.Sums, func(s store.Sum) bool { return s.Table == "watchlist" }) {
				t.Error("the older schema has a table of a newer one")
			}
			st := storetest.Open(t, storetest.Options(t, b))
			newQueue(t, st)
			m = must[store.Manifest](t)(store.CheckBackup(bytes.NewReader(data)))
			if err := st.Restore(t.Context(), bytes.NewReader(data), m, quiet); err != nil {
				t.Fatal(err)
			}
			furnish(t, st, "newer", &an)
			names := slices.Collect(maps.Keys(rowsOf(t, st)))
			if !slices.Contains(names, "watchlist") || !slices.Contains(names, "analysis") {
				t.Errorf("tables with rows: %v", names)
			}
		})
	}
}

func TestBackupOfNothing(t *testing.T) {
	_, err := store.OpenAsIs(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "loupe.db")})
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
	other := filepath.Join(t.TempDir(), "loupe.db")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenAsIs(t.Context(), store.Options{Path: other}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a file that is another's: %v", err)
	}
}

func TestAlone(t *testing.T) {
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			opt := storetest.Options(t, engine)
			if err := store.Alone(t.Context(), opt); err != nil {
				t.Errorf("nobody is there: %v", err)
			}
			st := must[*store.Store](t)(store.Open(t.Context(), opt))
			if err := store.Alone(t.Context(), opt); !fault.Is(err, fault.Conflict) {
				t.Errorf("somebody is there: %v", err)
			}
			if empty, err := st.Empty(t.Context()); err != nil || !empty {
				t.Errorf("empty: %t, %v", empty, err)
			}
			makePerson(t, st, "ada@mail.example")
			if empty, err := st.Empty(t.Context()); err != nil || empty {
				t.Errorf("with a row, empty: %t, %v", empty, err)
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) { // Postgres notices late
				if err := store.Alone(t.Context(), opt); err == nil {
					break
				} else if time.Now().After(end) {
					t.Fatalf("nobody is there any more: %v", err)
				}
			}
		})
	}
	damaged := filepath.Join(t.TempDir(), "loupe.db")
	if err := os.WriteFile(damaged, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Alone(t.Context(), store.Options{Path: damaged}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a file that is no database: %v", err)
	}
}

// A text that only one engine can keep is refused with its table.
func TestTextForSQLiteOnly(t *testing.T) {
	to := storetest.Open(t, storetest.Options(t, store.Postgres))
	for name, text := range map[string]string{"zero byte": "X'610062'", "no UTF-8": "X'FF'"} {
		t.Run(name, func(t *testing.T) {
			from := storetest.Open(t, storetest.Options(t, store.SQLite))
			if err := from.Exec(t.Context(), "INSERT INTO setting (name, value) VALUES ('a', CAST("+text+" AS TEXT))"); err != nil {
				t.Fatal(err)
			}
			err := from.CopyTo(t.Context(), to, nil, quiet)
			if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "setting") {
				t.Errorf("to Postgres: %v", err)
			}
			same := storetest.Open(t, storetest.Options(t, store.SQLite))
			if err := from.CopyTo(t.Context(), same, nil, quiet); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rowsOf(t, from), rowsOf(t, same)); diff != "" {
				t.Errorf("rows differ (-from +to):\n%s", diff)
			}
		})
	}
}

// FuzzCheckBackup reads anything as a backup.
func FuzzCheckBackup(f *testing.F) {
	st := storetest.Open(f, storetest.Options(f, store.SQLite))
	_, whole := backup(f, st)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := store.CheckBackup(bytes.NewReader(data))
		if err == nil && m.Format != 1 {
			t.Errorf("format %d is accepted", m.Format)
		}
	})
}
