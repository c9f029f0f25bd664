package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"

	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// TestMain lets the test program open a database and leave, as another process.
func TestMain(m *testing.M) {
	path := os.Getenv("LOUPE_TEST_OPEN")
	if path == "" {
		os.Exit(m.Run())
	}
	st, err := store.Open(context.Background(), store.Options{Path: path})
	if err == nil {
		_, err = st.Plan(context.Background(), "free")
		err = errors.Join(err, st.Close())
	}
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
}

// TestOpenTogether has several processes, and several of each, open one
// database for the first time at once.
func TestOpenTogether(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "new", "loupe.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			cmd := exec.Command(program)
			cmd.Env = append(os.Environ(), "LOUPE_TEST_OPEN="+path)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		wg.Go(func() {
			st, err := store.Open(t.Context(), store.Options{Path: path})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := st.Plan(t.Context(), "free"); err != nil {
				t.Error(err)
			}
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v; want it to be nobody else's", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v; want it to be nobody else's", info.Mode(), err)
	}
}

// TestOpenPostgresTogether does the same on a Postgres without a schema.
func TestOpenPostgresTogether(t *testing.T) {
	opt := storetest.Options(t, store.Postgres)
	st := storetest.Open(t, opt)
	if err := st.Exec(t.Context(), "DROP SCHEMA public CASCADE"); err != nil {
		t.Fatal(err)
	}
	if err := st.Exec(t.Context(), "CREATE SCHEMA public"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			st, err := store.Open(t.Context(), opt)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := st.Plan(t.Context(), "free"); err != nil {
				t.Error(err)
			}
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestOpenNewer(t *testing.T) {
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			opt := storetest.Options(t, engine)
			st := storetest.Open(t, opt)
			if err := st.Exec(t.Context(), "INSERT INTO schema_version VALUES (99999, 'of the future')"); err != nil {
				t.Fatal(err)
			}
			_, err := store.Open(t.Context(), opt)
			if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "newer than this program") {
				t.Errorf("got %v, want that it is newer", err)
			}
		})
	}
}

func TestOpenFaults(t *testing.T) {
	notes := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(notes, bytes.Repeat([]byte("not a database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		opt  store.Options
		want fault.Kind
	}{
		{"another database", store.Options{URL: "mysql://host/db"}, fault.Invalid},
		{"no address", store.Options{URL: "postgres://u:secret-password@host:port:x/db"}, fault.Invalid},
		{"nobody there", store.Options{URL: "postgres://u:secret-password@127.0.0.1:1/db"}, fault.Unavailable},
		{"another file", store.Options{Path: notes}, fault.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := store.Open(t.Context(), test.opt)
			if !fault.Is(err, test.want) {
				t.Errorf("got %v, want a fault: %v", err, test.want)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				if strings.Contains(err.Error(), "secret-password") {
					t.Errorf("an error gives the password away: %v", err)
				}
			}
		})
	}
}

func TestWriteRollsBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		given := errors.New("given up")
		create := func(ctx context.Context, tx *store.Tx) error {
			return tx.CreateOrg(ctx, &store.Organization{ID: "org_x", Name: "x", Slug: "x", Plan: "pro", CreatedAt: now})
		}
		for name, f := range map[string]func(ctx context.Context, tx *store.Tx) error{
			"error": func(ctx context.Context, tx *store.Tx) error {
				if err := create(ctx, tx); err != nil {
					t.Error(err)
				}
				return given
			},
			"cancel": func(ctx context.Context, tx *store.Tx) error {
				if err := create(ctx, tx); err != nil {
					t.Error(err)
				}
				return errors.Join(context.Canceled, given)
			},
		} {
			if err := st.Write(t.Context(), f); !errors.Is(err, given) {
				t.Errorf("%s: got %v, want %v", name, err, given)
			}
			if _, err := st.OrgBySlug(t.Context(), "x"); !fault.Is(err, fault.NotFound) {
				t.Errorf("%s: got %v, want nothing to be left", name, err)
			}
		}
		func() {
			defer func() { recover() }()
			_ = st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				if err := create(ctx, tx); err != nil {
					t.Error(err)
				}
				panic("a bug")
			})
		}()
		if _, err := st.OrgBySlug(t.Context(), "x"); !fault.Is(err, fault.NotFound) {
			t.Errorf("after a panic: got %v, want nothing to be left", err)
		}
		write(t, st, create) // the one that writes is free again
	})
}

// TestWritesTogether has many change what they read. On SQLite they take turns;
// on Postgres one that another got in the way of is tried again.
func TestWritesTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		const writers, times = 8, 10
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range times {
					o := store.Organization{Name: "x", Slug: store.NewID("s"), Plan: "pro", CreatedAt: now}
					if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.CreateOrg(ctx, &o) }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var numbers []int64
		for offset := 0; ; offset += 50 {
			rows, total, err := st.Orgs(t.Context(), store.Page{Offset: offset})
			if err != nil || total != writers*times {
				t.Fatalf("%d organisations, %v; want %d", total, err, writers*times)
			}
			for _, r := range rows {
				numbers = append(numbers, r.Number)
			}
			if len(rows) == 0 {
				break
			}
		}
		for i, n := range numbers {
			if n != int64(i+1) {
				t.Fatalf("the numbers are %v", numbers)
			}
		}
	})
}

// TestDeadlock has two transactions wait for each other: one is tried again.
func TestDeadlock(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		orgs := []string{makeOrg(t, st, "a"), makeOrg(t, st, "b")}
		var met sync.WaitGroup
		met.Add(2)
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				first := true
				err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
					if err := tx.Org(orgs[i]).SetPlan(ctx, "team"); err != nil {
						return err
					}
					if first && st.Engine() == store.Postgres { // on SQLite the other one has not begun
						first = false
						met.Done()
						met.Wait()
					}
					return tx.Org(orgs[1-i]).SetPlan(ctx, "free")
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, org := range orgs {
			if o, err := st.Org(org).Get(t.Context()); err != nil || o.Plan == "pro" {
				t.Errorf("the plan of %s is %s, %v", org, o.Plan, err)
			}
		}
	})
}

// TestReadsGoOn shows that what reads neither waits for what writes nor sees the
// half of it.
func TestReadsGoOn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		org := makeOrg(t, st, "a")
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			if err := tx.Org(org).SetPlan(ctx, "team"); err != nil {
				return err
			}
			within, err := tx.Org(org).Get(ctx)
			if err != nil || within.Plan != "team" {
				t.Errorf("within the transaction the plan is %s, %v; want team", within.Plan, err)
			}
			short, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			outside, err := st.Org(org).Get(short)
			if err != nil || outside.Plan != "pro" {
				t.Errorf("outside of it the plan is %s, %v; want pro still", outside.Plan, err)
			}
			if _, err := st.Value(short, "DELETE FROM org WHERE id = 'nobody' RETURNING 1"); st.Engine() == store.SQLite && (err == nil || !strings.Contains(err.Error(), "readonly")) {
				t.Errorf("a connection that reads wrote: %v", err)
			}
			return nil
		})
	})
}

// TestTransactionOfOthers has a library write in the transaction of a change.
func TestTransactionOfOthers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		given := errors.New("given up")
		for _, want := range []error{given, nil} {
			err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				if err := tx.CreateOrg(ctx, &store.Organization{Name: "x", Slug: "x", Plan: "pro", CreatedAt: now}); err != nil {
					return err
				}
				if (tx.SQLite() == nil) == (tx.Postgres() == nil) {
					t.Error("a transaction is of one engine")
				}
				slug := "UPDATE org SET slug = 'y' WHERE slug = 'x'"
				switch {
				case tx.SQLite() != nil:
					var lib *sql.Tx = tx.SQLite()
					if _, err := lib.ExecContext(ctx, slug); err != nil {
						return err
					}
				default:
					var lib pgx.Tx = tx.Postgres()
					if _, err := lib.Exec(ctx, slug); err != nil {
						return err
					}
					var n int
					if err := lib.QueryRow(ctx, "SELECT count(*) FROM org WHERE slug = $1", "y").Scan(&n); err != nil || n != 1 {
						t.Errorf("%d rows, %v; want the one of this transaction", n, err)
					}
					if err := lib.Commit(ctx); err == nil {
						t.Error("a library ended the transaction")
					}
					if err := lib.Rollback(ctx); err != nil {
						t.Error(err)
					}
				}
				if _, err := tx.OrgBySlug(ctx, "y"); err != nil {
					t.Errorf("what a library wrote is not seen: %v", err)
				}
				return want
			})
			if !errors.Is(err, want) {
				t.Fatalf("got %v, want %v", err, want)
			}
			if _, err := st.OrgBySlug(t.Context(), "y"); (err == nil) != (want == nil) {
				t.Errorf("after %v: %v", want, err)
			}
		}
	})
}

func TestReady(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		if err := st.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := st.Ready(ctx); err == nil {
			t.Error("a database answered nobody")
		}
		if (st.Pool() == nil) == (st.Writer() == nil) {
			t.Error("a store is of one engine")
		}
	})
}

func TestNewID(t *testing.T) {
	var all []string
	for range 1000 {
		all = append(all, store.NewID("scan_"))
	}
	if id := all[0]; len(id) != len("scan_")+26 || strings.Trim(id[5:], "0123456789abcdefghjkmnpqrstvwxyz") != "" {
		t.Errorf("an id is %q", id)
	}
	time.Sleep(2 * time.Millisecond)
	if later := store.NewID("scan_"); later <= slices.Max(all) {
		t.Errorf("%s is not above %s, which is older", later, slices.Max(all))
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 1000 {
		t.Errorf("%d ids of 1000 differ", n)
	}
}

func TestTimes(t *testing.T) {
	for _, test := range []struct {
		in   time.Time
		want any
	}{
		{time.Time{}, nil},
		{time.UnixMilli(0), int64(0)},
		{time.Date(2026, 3, 22, 12, 0, 0, 1_999_999, time.FixedZone("", 7200)), now.UnixMilli() + 1},
	} {
		v, err := store.At(test.in).Value()
		if err != nil || v != test.want {
			t.Errorf("%v is kept as %v, %v; want %v", test.in, v, err, test.want)
		}
		var back store.Time
		if err := back.Scan(v); err != nil || back != store.At(test.in) {
			t.Errorf("%v comes back as %v, %v", test.in, back, err)
		}
	}
	var x store.Time
	if err := x.Scan("2026"); err == nil {
		t.Error("a text was taken for a time")
	}
}

// TestOpenAgain has two open what is there, and see what the other one writes.
func TestOpenAgain(t *testing.T) {
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			opt := storetest.Options(t, engine)
			opt.Log = slog.New(slog.DiscardHandler)
			first := storetest.Open(t, opt)
			org := makeOrg(t, first, "a")
			second := storetest.Open(t, opt)
			if _, err := second.Org(org).Get(t.Context()); err != nil {
				t.Error(err)
			}
			write(t, second, func(ctx context.Context, tx *store.Tx) error { return tx.Org(org).SetPlan(ctx, "free") })
			if o, err := first.Org(org).Get(t.Context()); err != nil || o.Plan != "free" {
				t.Errorf("the plan is %s, %v; want what the other one wrote", o.Plan, err)
			}
		})
	}
}
