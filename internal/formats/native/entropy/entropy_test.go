package entropy_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/entropy"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

func TestOf(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, test := range []struct {
		name string
		in   []byte
		want float64
	}{
		{"nothing", nil, 0},
		{"one value", bytes.Repeat([]byte{7}, 1001), 0},
		{"two values", bytes.Repeat([]byte("ab"), 500), 1},
		{"three to one", bytes.Repeat([]byte("aaab"), 25), 0.8112781244591328},
		{"all values", bytes.Repeat(all, 3), 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := entropy.Of(test.in); math.Abs(got-test.want) > 1e-12 || math.Signbit(got) {
				t.Errorf("Of = %v; want %v", got, test.want)
			}
		})
	}
}

// TestImage lays sections over data in every way that a file can, and compares
// with measuring each of them by itself.
func TestImage(t *testing.T) {
	data := noise(4096)
	copy(data[1000:2000], bytes.Repeat([]byte{0}, 1000))
	m := &image.Image{Data: data, Sections: []image.Section{
		{Name: "last", Offset: 3000, FileSize: 500},
		{Name: "first", Offset: 100, FileSize: 900},
		{Name: "zeros", Offset: 1000, FileSize: 1000},
		{Name: "overlaps", Offset: 1500, FileSize: 1000},
		{Name: "inside", Offset: 1600, FileSize: 100},
		{Name: "bss", Offset: 1700},
		{Name: "beyond", Offset: 9000, FileSize: 100},
		{Name: "cut", Offset: 4000, FileSize: 1 << 63},
	}}
	got := entropy.Image(m)
	for i := range m.Sections {
		if want := entropy.Of(m.Bytes(&m.Sections[i])); math.Abs(got.Sections[i]-want) > 1e-12 {
			t.Errorf("%s: %v; want %v", m.Sections[i].Name, got.Sections[i], want)
		}
	}
	if want := entropy.Of(data); math.Abs(got.Whole-want) > 1e-12 {
		t.Errorf("whole: %v; want %v", got.Whole, want)
	}
}

func TestImageOfManyOverlappingSections(t *testing.T) {
	m := &image.Image{Data: noise(1 << 16), Sections: make([]image.Section, 60000)}
	for i := range m.Sections {
		m.Sections[i].FileSize = uint64(len(m.Data))
	}
	got := entropy.Image(m)
	if want := entropy.Of(m.Data); got.Sections[0] != want || got.Sections[1] != want || got.Whole != want {
		t.Errorf("first, second, whole = %v, %v, %v; want %v", got.Sections[0], got.Sections[1], got.Whole, want)
	}
	if got.Sections[59999] != -1 {
		t.Errorf("the last of 60000 sections over the same bytes is %v; want -1, not measured", got.Sections[59999])
	}
}

func BenchmarkOf(b *testing.B) {
	data := noise(16 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		entropy.Of(data)
	}
}

func BenchmarkOfZeros(b *testing.B) {
	data := make([]byte, 16<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		entropy.Of(data)
	}
}

func noise(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(data)
	return data
}
