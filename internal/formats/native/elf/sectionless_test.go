package elf_test

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// withoutSections returns a copy of a file whose header knows no sections.
func withoutSections(data []byte) []byte {
	out := slices.Clone(data)
	var order binary.ByteOrder = binary.LittleEndian
	if data[5] == 2 {
		order = binary.BigEndian
	}
	if data[4] == 2 {
		order.PutUint64(out[40:], 0)
		clear(out[60:64])
	} else {
		order.PutUint32(out[32:], 0)
		clear(out[48:52])
	}
	return out
}

// TestWithoutSectionHeaders takes the section headers from files of the system
// and expects to see the same through program headers and dynamic table.
func TestWithoutSectionHeaders(t *testing.T) {
	files := systemFiles(t, 60, 2<<20)
	compared, imports, stubs := 0, 0, 0
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		with := parse(t, data)
		if with.Kind == image.Object || len(with.Imports) == 0 {
			continue
		}
		without := parse(t, withoutSections(data))
		compareSectionless(t, path, with, without)
		compared++
		imports += len(with.Imports)
		stubs += otherStubs(with, without)
	}
	// Nothing but its section tells the stub of an import without a lazy slot
	// from a function that only jumps to that import.
	if stubs > imports/100 {
		t.Errorf("%d of %d imports have another stub", stubs, imports)
	}
	t.Logf("%d files, %d imports, %d other stubs", compared, imports, stubs)
}

// otherStubs counts the imports whose stubs differ.
func otherStubs(a, b *image.Image) int {
	n := 0
	for i := range min(len(a.Imports), len(b.Imports)) {
		if a.Imports[i].Stub != b.Imports[i].Stub {
			n++
		}
	}
	return n
}

// compareSectionless compares an image with that of the same file without
// section headers.
func compareSectionless(t *testing.T, path string, with, without *image.Image) {
	t.Helper()
	if len(without.Sections) != 0 || !without.Stripped {
		t.Errorf("%s: sections without headers", path)
	}
	viewOfImage(without).compare(t, path, "the whole file", viewOfImage(with))
	for i := range min(len(without.Imports), len(with.Imports)) {
		got, want := without.Imports[i], with.Imports[i]
		if with.Arch == image.RISCV64 { // has one relocation for all pointers: only the section tells the better slot
			got.Slot = want.Slot
		}
		if got.Slot != want.Slot || got.Library != want.Library {
			t.Errorf("%s: import %+v, want %+v", path, got, want)
		}
	}
	if without.OS != with.OS || without.Kind != with.Kind || without.Linkage != with.Linkage ||
		without.BuildID != with.BuildID || without.Interp != with.Interp || without.Entry != with.Entry {
		t.Errorf("%s: %s %s %s %s %s %#x, want %s %s %s %s %s %#x", path,
			without.OS, without.Kind, without.Linkage, without.BuildID, without.Interp, without.Entry,
			with.OS, with.Kind, with.Linkage, with.BuildID, with.Interp, with.Entry)
	}
	if with.Functions.Method == "eh_frame" && without.Functions.Method == "eh_frame" && !slices.EqualFunc(without.Functions.List, with.Functions.List,
		func(a, b image.Function) bool { return a.Addr == b.Addr }) {
		t.Errorf("%s: %d functions, want %d", path, without.Functions.Count, with.Functions.Count)
	}
	if len(without.Functions.List) == 0 && len(with.Functions.List) > 0 {
		t.Errorf("%s: no functions, want %d", path, with.Functions.Count)
	}
}
