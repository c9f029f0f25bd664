package image_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

func TestAddresses(t *testing.T) {
	m := &image.Image{
		Data: []byte("0123456789abcdef"),
		Segments: []image.Segment{
			{Addr: 0x2000, Size: 0x1000, Offset: 8, FileSize: 4},
			{Addr: 0x1000, Size: 8, Offset: 0, FileSize: 8},
			{Addr: 0x9000, Size: 8, Offset: 14, FileSize: 8},       // runs over the end of the file
			{Addr: 0xa000, Size: 8, Offset: 1 << 63, FileSize: 99}, // lies outside of it
		},
	}
	m.Finish()
	for _, test := range []struct {
		addr uint64
		want string
	}{
		{0x1000, "01234567"}, {0x1007, "7"}, {0x1008, ""}, {0x2000, "89ab"}, {0x2003, "b"}, {0x2004, ""}, {0x0fff, ""},
		{0x9000, "ef"}, {0x9002, ""}, {0xa000, ""}, {^uint64(0), ""},
	} {
		if got := string(m.At(test.addr)); got != test.want {
			t.Errorf("At(%#x) = %q; want %q", test.addr, got, test.want)
		}
	}
	if off, ok := m.FileOffset(0x2001); off != 9 || !ok {
		t.Errorf("FileOffset = %d, %v", off, ok)
	}
	if _, ok := m.FileOffset(0x2004); ok {
		t.Error("zero-filled memory has an offset in the file")
	}
}

func TestFinishPutsInOrder(t *testing.T) {
	m := &image.Image{
		Libraries: []string{"b.so", "a.so", "b.so", ""},
		Versions:  []string{"GLIBC_2.4", "GLIBC_2.17", "GLIBC_2.4"},
		Symbols:   []image.Symbol{{Name: "b", Addr: 2}, {Name: "a", Addr: 2}, {Name: "z", Addr: 1}, {Name: "a", Addr: 2, Size: 4}},
		Imports:   []image.Import{{Name: "read"}, {Name: "open"}, {Name: ""}, {Name: "read"}},
	}
	m.Functions.List = []image.Function{{Addr: 9}, {Addr: 3}, {Addr: 3, Size: 7, Name: "f"}}
	m.Finish()
	if diff := cmp.Diff([]string{"b.so", "a.so"}, m.Libraries); diff != "" {
		t.Errorf("libraries:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"GLIBC_2.17", "GLIBC_2.4"}, m.Versions); diff != "" {
		t.Errorf("versions:\n%s", diff)
	}
	if diff := cmp.Diff([]image.Symbol{{Name: "z", Addr: 1}, {Name: "a", Addr: 2, Size: 4}, {Name: "b", Addr: 2}}, m.Symbols); diff != "" {
		t.Errorf("symbols:\n%s", diff)
	}
	if diff := cmp.Diff([]image.Function{{Addr: 3, Size: 7, Name: "f"}, {Addr: 9}}, m.Functions.List); diff != "" {
		t.Errorf("functions:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"open", "read"}, m.ImportNames()); diff != "" {
		t.Errorf("imports:\n%s", diff)
	}
}

func TestNotesAreBounded(t *testing.T) {
	m := &image.Image{}
	for range 10_000 {
		m.Notef("not looked at: %d", 1)
	}
	if len(m.Notes) > 100 {
		t.Errorf("%d notes of one file", len(m.Notes))
	}
}
