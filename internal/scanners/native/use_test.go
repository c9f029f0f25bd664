package native

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

func TestPointersByTarget(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, spread := range []uint64{1, 100, 1 << 11, 1 << 22, 1 << 40, ^uint64(0)} {
		list := make([]image.Pointer, 3000)
		for i := range list {
			list[i] = image.Pointer{At: uint64(i * 8), To: min(1<<20, ^spread) + r.Uint64N(spread)}
		}
		want := slices.SortedStableFunc(slices.Values(list), func(a, b image.Pointer) int { return cmp.Compare(a.To, b.To) })
		if !slices.Equal(byTo(list), want) {
			t.Errorf("addresses %d apart are not sorted", spread)
		}
	}
	if got := byTo(nil); len(got) != 0 {
		t.Errorf("of none, %d", len(got))
	}
}

// TestMostLedFalls asks for what led takes for granted: that too many functions
// to which nothing leads do not become few when there are more.
func TestMostLedFalls(t *testing.T) {
	for _, coverage := range []float64{0, 1} {
		p := &program{bin: &native.Binary{Image: &image.Image{}}}
		p.bin.Functions.Coverage = coverage
		for reached := 1; reached < 500; reached++ {
			most := true
			for unled := range 100 {
				now := p.mostLed(reached, unled)
				if now && !most {
					t.Fatalf("coverage %g: %d of %d without a way are too many, %d are not", coverage, unled-1, reached+unled-1, unled)
				}
				most = now
			}
			if most && reached < 400 {
				t.Errorf("coverage %g: 99 of %d without a way are few", coverage, reached+99)
			}
		}
	}
}
