package store_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// TestIndex compares an index that grows with a look at all names.
func TestIndex(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	letters := []string{"a", "b", "n", "o", "d", "e", "-", "@", "/", "_", ".", "7", "Q", "é", "~", "node", "bcrypt"}
	text := func(most int) string {
		var b strings.Builder
		for range 1 + random.IntN(most) {
			b.WriteString(letters[random.IntN(len(letters))])
		}
		return b.String()
	}
	var x store.Index
	var all []store.Found
	seen := map[string]bool{}
	seq := int64(0)
	for _, size := range []int{1, 2, 63, 400, 700, 1, 5000, 30, 900, 200} {
		var rows []store.Package
		for range size {
			f := store.Found{Ecosystem: []target.Ecosystem{target.NPM, target.PyPI}[random.IntN(2)], Name: text(9), Version: "1", RiskLevel: "low", Summary: "s"}
			if key := string(f.Ecosystem) + f.Name; !seen[key] {
				seen[key] = true
				all = append(all, f)
			}
		}
		for i := range all { // of those that are there, some change
			if i >= len(all)-size || random.IntN(9) == 0 {
				seq++
				all[i].Version = fmt.Sprint(seq)
				f := all[i]
				rows = append(rows, store.Package{Ecosystem: f.Ecosystem, Name: f.Name, Version: f.Version, RiskLevel: f.RiskLevel, Summary: f.Summary, Seq: seq})
			}
		}
		x.Add(rows)
		for range 80 {
			want, limit, offset := strings.ToLower(text(4)), 1+random.IntN(60), random.IntN(4)*random.IntN(40)
			if random.IntN(20) == 0 {
				want = ""
			}
			var matches []store.Found
			for _, f := range all {
				if strings.Contains(strings.ToLower(f.Name), want) {
					matches = append(matches, f)
				}
			}
			tier := func(f store.Found) int {
				switch name := strings.ToLower(f.Name); {
				case name == want:
					return 0
				case strings.HasPrefix(name, want):
					return 1
				}
				return 2
			}
			slices.SortFunc(matches, func(a, b store.Found) int {
				return cmp.Or(cmp.Compare(tier(a), tier(b)), cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Ecosystem, b.Ecosystem))
			})
			page := matches[min(offset, len(matches)):min(offset+limit, len(matches))]
			got, total := x.Find(want, offset, limit)
			if total != len(matches) || !slices.Equal(got, page) {
				t.Fatalf("%q from %d, %d of %d names: got %d of %d; want %d of %d:\n%v\n%v", want, offset, limit, len(all), len(got), total, len(page), len(matches), got, page)
			}
		}
	}
}

// TestIndexMemory holds an index to the memory that it may take: with long
// summaries, which are not all kept, as with short ones.
func TestIndexMemory(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	all := names(50_000)
	for summary, most := range map[int]int64{0: 300, 2000: 400 + 64<<20/50_000} {
		before := heap()
		x := &store.Index{}
		for i := 0; i < len(all); i += 5000 {
			var rows []store.Package
			for j, name := range all[i : i+5000] {
				rows = append(rows, store.Package{Ecosystem: target.NPM, Name: strings.Clone(name), Version: "1.2.3", RiskLevel: "low", Summary: strings.Repeat("x", summary), Seq: int64(i + j + 1)})
			}
			x.Add(rows)
		}
		_, n := x.Find("", 0, 1)
		if each := (heap() - before) / int64(n); each > most {
			t.Errorf("a package with a summary of %d bytes takes %d; want at most %d", summary, each, most)
		} else {
			t.Logf("a package with a summary of %d bytes takes %d", summary, each)
		}
		runtime.KeepAlive(x)
	}
}
