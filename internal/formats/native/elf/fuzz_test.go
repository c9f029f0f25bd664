package elf_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// FuzzParse looks for input that makes the parser panic, run for ever, or
// break the promises of image.Image. Its seeds are crafted files, and compiled
// ones where there is a compiler.
func FuzzParse(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(elf.Magic))
	for _, l := range layouts {
		for _, machine := range []uint16{3, 8, 21, 22, 40, 62, 183, 243} {
			c := craft(l.wide, l.big, 3, machine)
			text := c.add(".text", 1, 6, make([]byte, 64))
			plt := c.add(".plt", 1, 6, []byte{0xff, 0x25, 1, 0, 0, 0, 0x66, 0x90})
			c.add(".ARM.exidx", 0x70000001, 2, c.u32(nil, 0x7fffff00, 1, 0x7fffff00, 1))
			c.cover(0x70000001)
			frames := c.add(".eh_frame", 1, 2, c.u32(append(c.u32(nil, 16, 0), "\x01zR\x00\x01\x78\x10\x01\x1b\x00\x00\x00"...), 16, 24, 0xffffff00, 8, 0))
			c.add(".eh_frame_hdr", 1, 2, c.u32([]byte{1, 0x1b, 3, 0x3b}, frames-c.next()-4, 1, text-c.next(), frames-c.next()+20))
			c.cover(0x6474e550)
			syms := c.add(".dynsym", 11, 2, slices.Concat(make([]byte, 24), c.word(c.u32(nil, 1), text, 8), make([]byte, 24)))
			hash := c.add(".gnu.hash", 0x6ffffff6, 2, c.word(c.u32(nil, 1, 1, 1, 0), 0))
			rela := c.add(".rela.plt", 4, 2, c.word(nil, plt, 1<<32|7, 0))
			c.dynamic([]string{"libc.so.6"}, 6, syms, 11, 24, 0x6ffffef5, hash, 23, rela, 2, 24, 20, 7, 25, text, 27, 16, 3, plt)
			f.Add(c.bytes(false))
			f.Add(withoutSections(c.bytes(true)))
		}
	}
	for _, path := range compiledSeeds(f) {
		if data, err := os.ReadFile(path); err == nil {
			f.Add(data)
			f.Add(withoutSections(data))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := elf.Parse(data)
		if err != nil {
			if m != nil || elf.Is(data) && len(data) > 6 && (data[4] == 1 || data[4] == 2) && (data[5] == 1 || data[5] == 2) {
				t.Fatalf("error %v of a file with a good identification", err)
			}
			return
		}
		checkPromises(t, data, m)
	})
}

// compiledSeeds compiles small files for several machines.
func compiledSeeds(f *testing.F) []string {
	clang, err := exec.LookPath("clang-16")
	if worker := flag.Lookup("test.fuzzworker"); err != nil || worker != nil && worker.Value.String() == "true" {
		return nil // a worker gets its input from elsewhere
	}
	dir := f.TempDir()
	source := filepath.Join(dir, "user.c")
	if err := os.WriteFile(source, []byte(userSource), 0o600); err != nil {
		f.Fatal(err)
	}
	var out []string
	for _, m := range targets {
		object, library := filepath.Join(dir, m.name+".o"), filepath.Join(dir, m.name+".so")
		args := append([]string{"-target", m.triple, "-O1", "-fPIC", "-ffreestanding", "-fasynchronous-unwind-tables"}, m.flags...)
		if exec.Command(clang, append(args, "-c", source, "-o", object)...).Run() != nil {
			continue
		}
		out = append(out, object)
		if exec.Command("ld.lld-16", "-shared", "-z", "undefs", "--eh-frame-hdr", "-z", "max-page-size=4096", object, "-o", library).Run() == nil {
			out = append(out, library)
		}
	}
	return out
}

// checkPromises checks what image.Image says about itself.
func checkPromises(t *testing.T, data []byte, m *image.Image) {
	if len(m.Notes) > 50 {
		t.Errorf("%d notes", len(m.Notes))
	}
	if c := m.Functions.Coverage; !(c >= 0 && c <= 1) {
		t.Errorf("coverage %v", c)
	}
	if m.Functions.Count != len(m.Functions.List) {
		t.Errorf("count %d of %d functions", m.Functions.Count, len(m.Functions.List))
	}
	for i, f := range m.Functions.List {
		if i > 0 && f.Addr <= m.Functions.List[i-1].Addr {
			t.Errorf("function %#x after %#x", f.Addr, m.Functions.List[i-1].Addr)
		}
	}
	for i, s := range m.Symbols {
		if i > 0 && (s.Addr < m.Symbols[i-1].Addr || s.Addr == m.Symbols[i-1].Addr && s.Name <= m.Symbols[i-1].Name) {
			t.Errorf("symbol %#x %s after %#x %s", s.Addr, s.Name, m.Symbols[i-1].Addr, m.Symbols[i-1].Name)
		}
	}
	if end := m.Overlay.Offset + m.Overlay.Size; m.Overlay.Size > 0 && (end != uint64(len(data)) || m.Overlay.Offset > end) {
		t.Errorf("overlay %+v of %d bytes", m.Overlay, len(data))
	}
	for _, in := range m.Imports {
		if in.Name == "" {
			t.Error("import without a name")
		}
		m.At(in.Slot)
	}
	for _, e := range m.Exports {
		if e.Name == "" {
			t.Error("export without a name")
		}
	}
	for _, f := range m.Functions.List {
		m.At(f.Addr)
		m.FileOffset(f.Addr)
	}
	for i := range m.Sections {
		m.Bytes(&m.Sections[i])
	}
	if again, err := elf.Parse(data); err != nil || len(again.Imports) != len(m.Imports) || again.OS != m.OS || !slices.Equal(again.Functions.List, m.Functions.List) {
		t.Error("the same bytes give another image")
	}
}
