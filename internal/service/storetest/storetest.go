// Package storetest runs tests on every engine of the store, each on a database
// of its own. A Postgres is used if
// LOUPE_TEST_POSTGRES is the address of one, by a user who may create databases.
package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// Each runs a test on each engine, with an empty store that is closed when the
// test ends.
func Each(t *testing.T, f func(t *testing.T, st *store.Store)) {
	t.Helper()
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		t.Run(string(engine), func(t *testing.T) { f(t, Open(t, Options(t, engine))) })
	}
}

// Options returns where a new and empty database is, which is dropped when the
// test ends. On Postgres, its schema is there.
func Options(t testing.TB, engine store.Engine) store.Options {
	t.Helper()
	if engine == store.SQLite {
		return store.Options{Path: filepath.Join(t.TempDir(), "loupe.db")}
	}
	address := os.Getenv("LOUPE_TEST_POSTGRES")
	if address == "" {
		t.Skip("LOUPE_TEST_POSTGRES is not the address of a Postgres")
	}
	from, err := template(address)
	if err != nil {
		t.Fatal(err)
	}
	name := "loupe_test_" + strings.ToLower(rand.Text())
	if err := admin(t.Context(), address, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s STRATEGY file_copy", name, from)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin(context.Background(), address, fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", name)); err != nil {
			t.Error(err)
		}
	})
	return store.Options{URL: database(address, name), Conns: 8}
}

// Open opens a store, and closes it when the test ends.
func Open(t testing.TB, opt store.Options) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

var (
	once        sync.Once
	templateErr error
)

// template returns the name of a database with the schema of this program. The
// first process that needs it makes it; while it does, others wait.
func template(address string) (string, error) {
	name := "loupe_template_" + store.SchemaDigest()[:16]
	once.Do(func() { templateErr = makeTemplate(context.Background(), address, name) })
	return name, templateErr
}

func makeTemplate(ctx context.Context, address, name string) (err error) {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) // which gives back the lock
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended('loupe test template', 0))"); err != nil {
		return err
	}
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil || there {
		return err
	}
	unfinished := name + "_unfinished"
	for _, text := range []string{"DROP DATABASE IF EXISTS " + unfinished, "CREATE DATABASE " + unfinished} {
		if _, err := conn.Exec(ctx, text); err != nil {
			return err
		}
	}
	st, err := store.Open(ctx, store.Options{URL: database(address, unfinished), Conns: 2})
	if err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("ALTER DATABASE %s RENAME TO %s", unfinished, name))
	return err
}

func admin(ctx context.Context, address, text string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, text)
	return err
}

// database returns the address of another database of the same server.
func database(address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address // which nobody could connect to
	}
	u.Path = "/" + name
	return u.String()
}
