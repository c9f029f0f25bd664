package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

func TestAnalyses(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		first := analyze(t, st, target.NPM, "bcrypt", "5.1.10")
		if got, err := st.AnalysisOf(t.Context(), target.NPM, "bcrypt", "5.1.10"); err != nil || !cmp.Equal(got, first) || !got.Newest {
			t.Errorf("got %v, %s", err, cmp.Diff(first, got))
		}
		for _, v := range []string{"5.1.9", "5.1.10-rc.1", "10.0.0"} {
			analyze(t, st, target.NPM, "bcrypt", v)
		}
		analyze(t, st, target.PyPI, "bcrypt", "4.0")
		analyze(t, st, target.NPM, "bcrypt-next", "1.0.0")

		rows, total, err := st.Versions(t.Context(), target.NPM, "bcrypt", store.Page{})
		if err != nil || total != 4 || !cmp.Equal(versions(rows), []string{"10.0.0", "5.1.10", "5.1.10-rc.1", "5.1.9"}) {
			t.Errorf("got %v, %d, %v", versions(rows), total, err)
		}
		rows, total, err = st.Versions(t.Context(), target.NPM, "bcrypt", store.Page{Limit: 2, Offset: 1})
		if err != nil || total != 4 || !cmp.Equal(versions(rows), []string{"5.1.10", "5.1.10-rc.1"}) {
			t.Errorf("got %v, %d, %v", versions(rows), total, err)
		}
		for version, want := range map[string]string{"5.1.10": "5.1.10-rc.1", "11.0.0": "10.0.0", "5.1.9": ""} {
			got, err := st.AnalysisBelow(t.Context(), target.NPM, "bcrypt", version)
			if got.Version != want || (want == "") != fault.Is(err, fault.NotFound) {
				t.Errorf("below %s is %q, %v; want %q", version, got.Version, err, want)
			}
		}

		again := analysis(target.NPM, "bcrypt", "5.1.10")
		again.RiskScore, again.Summary = 80, "Now it is known better"
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			before, err := tx.SaveAnalysis(ctx, &again)
			if before == nil || before.ID != first.ID {
				t.Errorf("before it was %+v, want %s", before, first.ID)
			}
			return err
		})
		if got, err := st.AnalysisOf(t.Context(), target.NPM, "bcrypt", "5.1.10"); err != nil || got.ID != again.ID {
			t.Errorf("the newest is %s, %v; want %s", got.ID, err, again.ID)
		}
		if got, err := st.Analysis(t.Context(), first.ID); err != nil || got.Newest || got.RiskScore != 12 {
			t.Errorf("the first is %+v, %v; want it there, and not the newest", got, err)
		}
		if _, total, err := st.Versions(t.Context(), target.NPM, "bcrypt", store.Page{}); err != nil || total != 4 {
			t.Errorf("%d versions, %v; want 4 still", total, err)
		}
		for _, err := range []error{
			second(st.Analysis(t.Context(), "pkg_nothing")),
			second(st.AnalysisOf(t.Context(), target.NPM, "bcrypt", "1.0.0")),
			second(st.Document(t.Context(), again.ID, "report")),
			second(st.Package(t.Context(), target.NPM, "nothing")),
		} {
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("got %v, want not found", err)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

func versions(rows []store.Analysis) (all []string) {
	for _, r := range rows {
		all = append(all, r.Version)
	}
	return all
}

func TestDocuments(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		large := bytes.Repeat([]byte("\x00\xff'\\?$1"), 1<<18) // what might be mistaken for SQL
		a := analysis(target.NPM, "bcrypt", "1.0.0")
		write(t, st, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.SaveAnalysis(ctx, &a, store.Document{Kind: "report", Data: large}, store.Document{Kind: "marks", Data: []byte{}})
			return err
		})
		if got, err := st.Document(t.Context(), a.ID, "report"); err != nil || !bytes.Equal(got, large) {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(large))
		}
		if got, err := st.Document(t.Context(), a.ID, "marks"); err != nil || len(got) != 0 {
			t.Errorf("got %d bytes, %v; want none", len(got), err)
		}
	})
}

func TestPackages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		shown := func(want string, seq int64) {
			t.Helper()
			p, err := st.Package(t.Context(), target.PyPI, "numpy")
			if err != nil || p.Version != want || p.Seq != seq {
				t.Errorf("got %s as change %d, %v; want %s as %d", p.Version, p.Seq, err, want, seq)
			}
		}
		analyze(t, st, target.PyPI, "numpy", "1.9")
		shown("1.9", 1)
		a := analyze(t, st, target.PyPI, "numpy", "1.10")
		shown("1.10", 2)
		analyze(t, st, target.PyPI, "numpy", "1.10rc1")
		shown("1.10", 2)
		analyze(t, st, target.PyPI, "numpy", "1.10.0") // the same version, spelt otherwise
		shown("1.10.0", 4)
		analyze(t, st, target.NPM, "bcrypt", "1.0.0")
		rows, err := st.PackageChanges(t.Context(), 2, 10)
		if err != nil || len(rows) != 2 || rows[0].Name != "numpy" || rows[1].Name != "bcrypt" || rows[1].Seq != 5 {
			t.Errorf("got %+v, %v; want two changes", rows, err)
		}
		if rows, err := st.PackageChanges(t.Context(), 0, 1); err != nil || len(rows) != 1 || rows[0].Seq != 4 {
			t.Errorf("got %+v, %v; want the first change only", rows, err)
		}
		if n, err := st.PackageCount(t.Context()); err != nil || n != 2 {
			t.Errorf("%d packages, %v; want 2", n, err)
		}

		given := errors.New("given up")
		err = st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			b := analysis(target.PyPI, "numpy", "2.0")
			if _, err := tx.SaveAnalysis(ctx, &b, store.Document{Kind: "report"}); err != nil {
				t.Error(err)
			}
			return given
		})
		if !errors.Is(err, given) {
			t.Errorf("got %v, want %v", err, given)
		}
		shown("1.10.0", 4)
		if _, err := st.AnalysisOf(t.Context(), target.PyPI, "numpy", "2.0"); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v, want nothing left", err)
		}
		if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.SaveAnalysis(ctx, &a) // the same id
			return err
		}); err == nil {
			t.Error("one analysis was saved twice")
		}
	})
}

// TestSaveTogether has several save the same versions at once: each time one is
// the newest, and none of their changes has the number of another.
func TestSaveTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		const savers, times = 6, 5
		var wg sync.WaitGroup
		for i := range savers {
			wg.Go(func() {
				for n := range times {
					a := analysis(target.NPM, "bcrypt", fmt.Sprintf("1.0.%d", (i+n)%3))
					if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
						_, err := tx.SaveAnalysis(ctx, &a, store.Document{Kind: "report", Data: []byte("x")})
						return err
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		rows, total, err := st.Versions(t.Context(), target.NPM, "bcrypt", store.Page{})
		if err != nil || total != 3 || !cmp.Equal(versions(rows), []string{"1.0.2", "1.0.1", "1.0.0"}) {
			t.Errorf("got %v, %d, %v; want each version once", versions(rows), total, err)
		}
		p, err := st.Package(t.Context(), target.NPM, "bcrypt")
		if err != nil || p.AnalysisID != rows[0].ID {
			t.Errorf("got %s, %v; want the newest of the highest version, %s", p.AnalysisID, err, rows[0].ID)
		}
		if n, err := st.Value(t.Context(), "SELECT value FROM counter WHERE name = 'package'"); err != nil || n != savers*times {
			t.Errorf("%d changes, %v; want %d", n, err, savers*times)
		}
	})
}

func TestSearch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		search := func(text string, page store.Page, want int, names ...string) {
			t.Helper()
			rows, total, err := st.SearchPackages(t.Context(), text, page)
			var got []string
			for _, r := range rows {
				got = append(got, string(r.Ecosystem)+" "+r.Name)
			}
			if err != nil || total != want || !cmp.Equal(got, names) {
				t.Errorf("%q: got %v, %d, %v; want %v of %d", text, got, total, err, names, want)
			}
		}
		search("", store.Page{}, 0)
		search("x", store.Page{}, 0)
		for _, name := range []string{"node-bcrypt", "bcrypt-nodejs", "@scope/bcrypt", "JSONStream", "bcrypt", "sqlite3", "a_b", "q.js"} {
			analyze(t, st, target.NPM, name, "1.0.0")
		}
		analyze(t, st, target.PyPI, "bcrypt", "4.0.1")
		search("bcrypt", store.Page{}, 5, "npm bcrypt", "pypi bcrypt", "npm bcrypt-nodejs", "npm @scope/bcrypt", "npm node-bcrypt")
		search("BCrypt", store.Page{Limit: 2, Offset: 1}, 5, "pypi bcrypt", "npm bcrypt-nodejs")
		search("bcrypt", store.Page{Limit: 2, Offset: 3}, 5, "npm @scope/bcrypt", "npm node-bcrypt")
		search("bcrypt", store.Page{Limit: 2, Offset: 4}, 5, "npm node-bcrypt")
		search("bcrypt", store.Page{Limit: 2, Offset: 5}, 5)
		search("ode", store.Page{}, 2, "npm bcrypt-nodejs", "npm node-bcrypt")
		search("streaM", store.Page{}, 1, "npm JSONStream")
		search("q", store.Page{}, 2, "npm q.js", "npm sqlite3")
		search("@scope/b", store.Page{}, 1, "npm @scope/bcrypt")
		search("_", store.Page{}, 1, "npm a_b")
		search(".", store.Page{}, 1, "npm q.js")
		search("%", store.Page{}, 0)
		search("é", store.Page{}, 0)
		search("edon", store.Page{}, 0)
		search(strings.Repeat("x", 1000), store.Page{}, 0)
		search("", store.Page{Limit: 3}, 9, "npm @scope/bcrypt", "npm a_b", "npm bcrypt")

		analyze(t, st, target.NPM, "bcrypt", "2.0.0")
		rows, _, err := st.SearchPackages(t.Context(), "bcrypt", store.Page{Limit: 1})
		want := store.Found{Ecosystem: target.NPM, Name: "bcrypt", Version: "2.0.0", RiskScore: 12, RiskLevel: "low", Summary: "About bcrypt 2.0.0", BinaryCount: 1}
		if err != nil || len(rows) != 1 || rows[0] != want {
			t.Errorf("got %+v, %v; want %+v", rows, err, want)
		}
		before, _, err1 := st.SearchPackages(t.Context(), "b", store.Page{})
		st.ForgetSummaries()
		after, _, err2 := st.SearchPackages(t.Context(), "b", store.Page{})
		if diff := cmp.Diff(before, after); err1 != nil || err2 != nil || diff != "" || before[0].Summary == "" {
			t.Errorf("without room for summaries: %v %v, %s", err1, err2, diff)
		}
	})
}

// TestSearchSeesOthers has one server find at once what another one saved.
func TestSearchSeesOthers(t *testing.T) {
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			opt := storetest.Options(t, engine)
			one, two := storetest.Open(t, opt), storetest.Open(t, opt)
			var wg sync.WaitGroup
			for i, st := range []*store.Store{one, two} {
				wg.Go(func() {
					for n := range 20 {
						name := fmt.Sprintf("package-%d-%d-end", i, n)
						a := analysis(target.NPM, name, "1.0.0")
						if err := st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
							_, err := tx.SaveAnalysis(ctx, &a)
							return err
						}); err != nil {
							t.Error(err)
						}
						for _, at := range []*store.Store{one, two} {
							if rows, total, err := at.SearchPackages(t.Context(), name[3:], store.Page{}); err != nil || total != 1 || rows[0].Name != name {
								t.Errorf("%s: got %v, %d, %v", name, rows, total, err)
							}
						}
					}
				})
			}
			wg.Wait()
			if _, total, err := one.SearchPackages(t.Context(), "", store.Page{}); err != nil || total != 40 {
				t.Errorf("%d packages, %v; want 40", total, err)
			}
		})
	}
}
