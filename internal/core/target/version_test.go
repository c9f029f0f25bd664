package target_test

import (
	"bytes"
	"cmp"
	"testing"

	"deps.dev/util/semver"
	"github.com/google/osv-scalibr/semantic"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// product returns all texts made of one of each list, in turn.
func product(lists ...[]string) []string {
	all := []string{""}
	for _, list := range lists {
		var next []string
		for _, head := range all {
			for _, tail := range list {
				next = append(next, head+tail)
			}
		}
		all = next
	}
	return all
}

// TestSortVersion compares each two versions as others do.
func TestSortVersion(t *testing.T) {
	python := product(
		[]string{"0", "1", "1.0.1", "1!1.10"}, []string{"", "a", "-alpha_1", ".beta2", "rc10", "c9"}, []string{"", "-1", ".post2", ".rev10"}, []string{"", ".dev", "dev1", "-dev.10"},
	)
	python = append(python, "1.0", "1.10", "01.2", "2024.1", "1.00000000000000000000012", "1.123456789012", "1.99999999999", "0!1")
	python = append(python, product([]string{"1", "1.0.0", "1a1", "1.post1", "1.dev1"}, []string{"", "+1", "+01", "+a", "+A.1", "+a-2", "+1.a", "+1.2", "+abc", "+ab", "+10", "+1a"})...)
	node := append(product([]string{"0.0.0", "1.0.0", "1.0.10", "1.2.0", "1.10.0", "10.0.0", "999999999.0.0", "4294967296.0.0"},
		[]string{"", "-0", "-1", "-10", "-9", "-a", "-A", "-a.1", "-a.b", "-a.1.0", "-a-b", "-alpha", "-al", "--", "-1a", "-rc.1", "-rc.10", "-rc.9"}, []string{"", "+5"}), "v1.0.0")
	osv := func(eco string) func(t *testing.T, a, b string) int {
		return func(t *testing.T, a, b string) int {
			n, err := semantic.MustParse(a, eco).CompareStr(b)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	for _, test := range []struct {
		name     string
		eco      target.Ecosystem
		versions []string
		compare  func(t *testing.T, a, b string) int
	}{
		{"PyPI as osv-scalibr", target.PyPI, python, osv("PyPI")},
		{"npm as osv-scalibr", target.NPM, node, osv("npm")},
		{"npm as deps.dev", target.NPM, node, func(t *testing.T, a, b string) int { return semver.NPM.Compare(a, b) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys := map[string][]byte{}
			for _, v := range test.versions {
				keys[v] = target.SortVersion(test.eco, v)
			}
			wrong := 0
			for i, a := range test.versions {
				for _, b := range test.versions[:i] {
					got, want := bytes.Compare(keys[a], keys[b]), cmp.Compare(test.compare(t, a, b), 0)
					if got != want {
						t.Errorf("%s (%s) to %s (%s) is %d; want %d", a, keys[a], b, keys[b], got, want)
						if wrong++; wrong == 20 {
							t.FailNow()
						}
					}
				}
			}
		})
	}
}

func TestSortVersionOfNoVersion(t *testing.T) {
	for _, eco := range []target.Ecosystem{target.NPM, target.PyPI} {
		lowest := target.SortVersion(eco, map[target.Ecosystem]string{target.NPM: "0.0.0-0", target.PyPI: "0.dev0"}[eco])
		for _, v := range []string{"", "latest", "zzz", "1.x", "1..2", "1.0-", "é"} {
			if key := target.SortVersion(eco, v); bytes.Compare(key, lowest) >= 0 {
				t.Errorf("%s: %q gives %q, which is not below %q", eco, v, key, lowest)
			}
		}
	}
}

func FuzzSortVersion(f *testing.F) {
	f.Add("1.0.0-rc.1+b", "1!2.0rc1.post2.dev3+ubuntu.1")
	f.Add("v1", " V1.0-1 ")
	f.Add("latest", "2013b")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, eco := range []target.Ecosystem{target.NPM, target.PyPI} {
			x, y := target.SortVersion(eco, a), target.SortVersion(eco, b)
			if len(x) == 0 || len(y) == 0 {
				t.Errorf("%s: %q or %q gives nothing", eco, a, b)
			}
			if eco != target.PyPI || x[0] == '!' || y[0] == '!' {
				continue
			}
			va, err1 := semver.PyPI.Parse(a)
			vb, err2 := semver.PyPI.Parse(b)
			if err1 == nil && err2 == nil && va.Canon(true) == vb.Canon(true) && !bytes.Equal(x, y) {
				t.Errorf("%q gives %s and %q %s; want the same", a, x, b, y)
			}
		}
	})
}
