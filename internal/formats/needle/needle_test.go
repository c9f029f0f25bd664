package needle_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/formats/needle"
)

// naive finds every occurrence the slow way.
func naive(literals [][]byte, data []byte) []string {
	var out []string
	for i, l := range literals {
		for at := 0; len(l) >= needle.MinLength && at+len(l) <= len(data); at++ {
			if bytes.Equal(data[at:at+len(l)], l) {
				out = append(out, fmt.Sprint(i, "@", at))
			}
		}
	}
	slices.Sort(out)
	return out
}

func found(literals [][]byte, data []byte) []string {
	var out []string
	needle.New(literals).Scan(data, func(l, at int) bool {
		out = append(out, fmt.Sprint(l, "@", at))
		return true
	})
	slices.Sort(out)
	return out
}

func TestScan(t *testing.T) {
	for _, test := range []struct {
		name, data string
		literals   []string
	}{
		{"overlap", "xushershers", []string{"ushe", "sher", "hershers", "shershersh"}},
		{"suffix of a longer one", "abcdefg", []string{"abcdefg", "cdefg", "defg", "efgx"}},
		{"repeats", "aaaaaaaa", []string{"aaaa", "aaaaa", "aaaaaa"}},
		{"twice the same", "xyxyxy", []string{"xyxy", "xyxy"}},
		{"short ones never match", "xyz1", []string{"", "xyz", "xyz1"}},
		{"four bytes at every offset", "abcd.abcd..abcd...abcd", []string{"abcd"}},
		{"of zeros", "x\x00\x00\x00\x00\x00", []string{"\x00\x00\x00\x00", "\x00\x00\x00\x00\x00"}},
		{"at both ends", "abcdxabcd", []string{"abcd"}},
		{"none", "x", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var literals [][]byte
			for _, l := range test.literals {
				literals = append(literals, []byte(l))
			}
			if diff := cmp.Diff(naive(literals, []byte(test.data)), found(literals, []byte(test.data))); diff != "" {
				t.Errorf("matches (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAllBytes(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	literals := [][]byte{all, all[252:], all[:4], all[100:110]}
	if diff := cmp.Diff(naive(literals, all), found(literals, all)); diff != "" {
		t.Errorf("matches (-want +got):\n%s", diff)
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte("ushe\x00sher\x00hers"), []byte("xushers"))
	f.Fuzz(func(t *testing.T, list, data []byte) {
		if len(list) > 500 || len(data) > 2000 {
			t.Skip("larger inputs only slow the oracle down")
		}
		literals := bytes.Split(list, []byte{0})
		if diff := cmp.Diff(naive(literals, data), found(literals, data)); diff != "" {
			t.Errorf("matches of %q in %q (-want +got):\n%s", literals, data, diff)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	literals := make([][]byte, 800)
	for i := range literals {
		literals[i] = make([]byte, 5+rnd.IntN(12))
		for j := range literals[i] {
			literals[i][j] = byte('a' + rnd.IntN(26))
		}
	}
	a := needle.New(literals)
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(rnd.IntN(256))
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		a.Scan(data, func(int, int) bool { return true })
	}
}
