package golang_test

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// load makes an image with what this package reads of it.
func load(t testing.TB, data []byte) *image.Image {
	t.Helper()
	m := &image.Image{Data: data, Bits: 64}
	r := bytes.NewReader(data)
	if f, err := elf.NewFile(r); err == nil {
		m.Format, m.Entry, m.BigEndian = image.ELF, f.Entry, f.ByteOrder.String() == "BigEndian"
		if f.Class == elf.ELFCLASS32 {
			m.Bits = 32
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD {
				m.Segments = append(m.Segments, image.Segment{Addr: p.Vaddr, Size: p.Memsz, Offset: p.Off, FileSize: p.Filesz, Access: image.Access(p.Flags&4>>2 | p.Flags&2 | p.Flags&1<<2)})
			}
		}
		for _, s := range f.Sections[1:] {
			m.Sections = append(m.Sections, image.Section{Name: s.Name, Addr: s.Addr, Offset: s.Offset, Size: s.Size, FileSize: s.FileSize})
		}
		syms, _ := f.Symbols()
		for _, s := range syms {
			m.Symbols = append(m.Symbols, image.Symbol{Name: s.Name, Addr: s.Value, Size: s.Size, Func: elf.ST_TYPE(s.Info) == elf.STT_FUNC})
		}
	} else if f, err := macho.NewFile(r); err == nil {
		m.Format = image.MachO
		for _, l := range f.Loads {
			if s, ok := l.(*macho.Segment); ok && s.Memsz > 0 && s.Name != "__PAGEZERO" {
				m.Segments = append(m.Segments, image.Segment{Name: s.Name, Addr: s.Addr, Size: s.Memsz, Offset: s.Offset, FileSize: s.Filesz, Access: image.Access(s.Prot & 7)})
			}
		}
		for _, s := range f.Sections {
			m.Sections = append(m.Sections, image.Section{Name: s.Seg + "," + s.Name, Addr: s.Addr, Offset: uint64(s.Offset), Size: s.Size, FileSize: s.Size})
		}
	} else if f, err := pe.NewFile(r); err == nil {
		m.Format = image.PE
		base := uint64(0)
		switch h := f.OptionalHeader.(type) {
		case *pe.OptionalHeader64:
			base, m.Entry = h.ImageBase, h.ImageBase+uint64(h.AddressOfEntryPoint)
		case *pe.OptionalHeader32:
			base, m.Entry, m.Bits = uint64(h.ImageBase), uint64(h.ImageBase+h.AddressOfEntryPoint), 32
		}
		for _, s := range f.Sections {
			access := image.Read
			if s.Characteristics&pe.IMAGE_SCN_MEM_EXECUTE != 0 {
				access |= image.Execute
			}
			m.Segments = append(m.Segments, image.Segment{Name: s.Name, Addr: base + uint64(s.VirtualAddress), Size: uint64(s.VirtualSize), Offset: uint64(s.Offset), FileSize: uint64(s.Size), Access: access})
			m.Sections = append(m.Sections, image.Section{Name: s.Name, Addr: base + uint64(s.VirtualAddress), Size: uint64(s.VirtualSize), Offset: uint64(s.Offset), FileSize: uint64(s.Size)})
		}
	} else {
		t.Fatalf("no image: %v", err)
	}
	m.Finish()
	return m
}
