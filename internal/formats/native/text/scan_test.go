package text_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/text"
)

// plainly finds runs one byte after the other.
func plainly(data []byte, least int) (out []text.Run) {
	printable := func(i int) bool { return i < len(data) && (data[i] >= ' ' && data[i] < 0x7f || data[i] == '\t') }
	for i := 0; i < len(data); {
		n := 0
		for printable(i + n) {
			n++
		}
		if n >= least {
			out = append(out, text.Run{Offset: uint64(i), Size: n})
		}
		i += n + 1
	}
	for i := 0; i < len(data); {
		n := 0
		for printable(i+2*n) && i+2*n+1 < len(data) && data[i+2*n+1] == 0 {
			n++
		}
		if n >= 5 {
			out = append(out, text.Run{Offset: uint64(i), Size: 2 * n, Wide: true})
		}
		i += max(2*n, 1)
	}
	slices.SortStableFunc(out, func(a, b text.Run) int { return int(a.Offset) - int(b.Offset) })
	return out
}

func runs(t *text.Table) (out []text.Run) {
	for i := range t.Len() {
		out = append(out, t.Run(i))
	}
	return out
}

func asCode(data []byte) *image.Image {
	return &image.Image{Data: data, Sections: []image.Section{{Name: ".text", FileSize: uint64(len(data)), Code: true}}}
}

// TestExtract compares with the plain way on bytes of every density of text.
func TestExtract(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 3000 {
		data := make([]byte, r.IntN(600))
		share := r.IntN(100)
		for i := range data {
			switch n := r.IntN(100); {
			case n < share:
				data[i] = byte(' ' + r.IntN(95))
			case n%3 == 0:
				data[i] = 0
			default:
				data[i] = byte(r.IntN(256))
			}
		}
		if round%3 == 0 { // UTF-16 in part
			for i := 1; i < len(data); i += 2 {
				if r.IntN(20) > 0 {
					data[i] = 0
				}
			}
		}
		for least, m := range map[int]*image.Image{5: {Data: data}, 8: asCode(data)} {
			got, want := runs(text.Extract(m)), plainly(data, least)
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, at least %d characters of %q:\n got %v\nwant %v", round, least, data, got, want)
			}
		}
	}
}

func TestExtractAtEveryOffset(t *testing.T) {
	for _, size := range []int{4, 5, 7, 8, 63, 64, 65, 128, 200} {
		for at := range 130 {
			for _, after := range []int{0, 1, 70} {
				data := []byte(strings.Repeat("\xff", at) + strings.Repeat("x", size) + strings.Repeat("\x01", after))
				if got, want := runs(text.Extract(&image.Image{Data: data})), plainly(data, 5); !slices.Equal(got, want) {
					t.Fatalf("%d characters at %d, %d bytes behind: %v; want %v", size, at, after, got, want)
				}
			}
		}
	}
}

func TestTableAt(t *testing.T) {
	data := []byte("\x00first\x00second\x01\x02t\x00h\x00i\x00r\x00d\x00\x00")
	table := text.Extract(&image.Image{Data: data})
	for offset, want := range map[uint64]string{0: "", 1: "first", 5: "first", 6: "", 7: "second", 15: "third", 24: "third", 25: "", 1000: ""} {
		got := ""
		if r, ok := table.At(offset); ok {
			got = table.Text(r)
		}
		if got != want {
			t.Errorf("at %d: %q; want %q", offset, got, want)
		}
	}
}

func BenchmarkExtract(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 16<<20)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var prose strings.Builder
	for i := 0; prose.Len() < 16<<20; i++ {
		fmt.Fprintf(&prose, "message number %d\x00", i)
	}
	for name, m := range map[string]*image.Image{
		"noise":   {Data: noise},
		"code":    asCode(noise),
		"zeros":   {Data: make([]byte, 16<<20)},
		"strings": {Data: []byte(prose.String())},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(m.Data)))
			b.ReportAllocs()
			for b.Loop() {
				text.Extract(m)
			}
		})
	}
}
