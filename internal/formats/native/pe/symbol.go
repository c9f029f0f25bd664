package pe

import (
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// locateSymbols finds the COFF symbol table and the string table behind it
// ("COFF Symbol Table"), which section names refer to as well. A symbol takes
// entry bytes.
func (f *file) locateSymbols(offset, count, entry uint64) {
	if offset == 0 {
		return
	}
	f.symtab = image.Range{Offset: offset, Size: count * entry}
	b, whole := cursor.Slice(f.m.Data, offset, f.symtab.Size)
	if !whole {
		f.m.Notef("symbol table is cut off: %d of %d entries are there", uint64(len(b))/entry, count)
		f.symtab.Size = uint64(len(b))
		return
	}
	end := offset + f.symtab.Size
	head, whole := cursor.Slice(f.m.Data, end, 4)
	if !whole {
		return
	}
	size := max(4, uint64(le32(head)))
	f.strings, whole = cursor.Slice(f.m.Data, end, size)
	if !whole {
		f.m.Notef("string table is cut off: %d of %d bytes are there", len(f.strings), size)
	}
	f.symtab.Size += uint64(len(f.strings))
}

// symbols reads the COFF symbol table: what compilers other than Microsoft's
// leave in an image that is not stripped.
func (f *file) symbols() {
	table, _ := cursor.Slice(f.m.Data, f.symtab.Offset, f.symtab.Size-uint64(len(f.strings)))
	for len(table) >= symbolSize {
		s := readSymbol(table[:symbolSize])
		table = table[min(len(table), symbolSize*(1+s.aux)):]

		switch s.class {
		case classExternal, classStatic, classLabel, classWeak:
		default:
			continue
		}
		if s.section < 1 || s.section > len(f.m.Sections) {
			continue // undefined, absolute, or for debuggers
		}
		if s.class == classStatic && s.kind == 0 && s.aux > 0 {
			continue // defines a section
		}
		name := f.symbolName(&s)
		if name == "" {
			continue
		}
		f.m.Symbols = append(f.m.Symbols, image.Symbol{
			Name: name, Addr: f.m.Sections[s.section-1].Addr + s.value,
			Func: s.isFunc(), Weak: s.class == classWeak,
		})
	}
	f.m.Stripped = len(f.m.Symbols) == 0 && f.m.Section(".debug_info") == nil && f.m.Section(".zdebug_info") == nil
}
