package pe

import (
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const symbolSize = 18

// locateSymbols finds the COFF symbol table and the string table behind it
// ("COFF Symbol Table"), which section names refer to as well.
func (f *file) locateSymbols(offset, count uint64) {
	if offset == 0 {
		return
	}
	f.symtab = image.Range{Offset: offset, Size: count * symbolSize}
	b, whole := cursor.Slice(f.m.Data, offset, f.symtab.Size)
	if !whole {
		f.m.Notef("symbol table is cut off: %d of %d entries are there", len(b)/symbolSize, count)
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
	const external, static, label, weak = 2, 3, 6, 105
	table, _ := cursor.Slice(f.m.Data, f.symtab.Offset, f.symtab.Size-uint64(len(f.strings)))
	for len(table) >= symbolSize {
		b := table[:symbolSize]
		value, number := uint64(le32(b[8:])), int(int16(le16(b[12:])))
		kind, class, aux := le16(b[14:]), b[16], int(b[17])
		table = table[min(len(table), symbolSize*(1+aux)):]

		switch class {
		case external, static, label, weak:
		default:
			continue
		}
		if number < 1 || number > len(f.m.Sections) {
			continue // undefined, absolute, or for debuggers
		}
		if class == static && kind == 0 && aux > 0 {
			continue // defines a section
		}
		var name string
		if le32(b) == 0 {
			name, _ = f.string(f.strings, uint64(le32(b[4:])))
		} else {
			name = strings.TrimRight(string(b[:8]), "\x00")
		}
		if name == "" {
			continue
		}
		const function = 2 // the derived type, above the four bits of the base type
		f.m.Symbols = append(f.m.Symbols, image.Symbol{
			Name: name, Addr: f.m.Sections[number-1].Addr + value,
			Func: kind>>4 == function, Weak: class == weak,
		})
	}
	f.m.Stripped = len(f.m.Symbols) == 0 && f.m.Section(".debug_info") == nil && f.m.Section(".zdebug_info") == nil
}
