package pe

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const maxExports = 1 << 16 // an ordinal has 16 bits

// exports reads the export directory ("The .edata Section"). An export without
// a name keeps an empty one.
func (f *file) exports() {
	dir := f.dirs[dirExport]
	if dir.rva == 0 {
		return
	}
	c := cursor.New(f.at(dir.rva), false).Skip(12)
	name, base := uint64(c.U32()), int(c.U32())
	functions, names := uint64(c.U32()), uint64(c.U32())
	functionTable, nameTable, ordinalTable := uint64(c.U32()), uint64(c.U32()), uint64(c.U32())
	if c.Err() != nil {
		f.m.Notef("export directory is cut off: %v", c.Err())
		return
	}
	f.m.Name, _ = f.name(name)

	addresses := f.count("export address table", functionTable, functions, 4)
	pointers := f.count("export name table", nameTable, names, 4)
	ordinals := f.count("export ordinal table", ordinalTable, names, 2)

	add := func(index int, rva uint64, name string) {
		e := image.Export{Name: name, Ordinal: base + index}
		if rva >= dir.rva && rva-dir.rva < dir.size {
			var ok bool
			if e.Forward, ok = f.name(rva); !ok {
				f.m.Notef("export %d is forwarded to RVA %#x, where there is no name", e.Ordinal, rva)
			}
		} else {
			e.Addr = f.m.Base + rva
			e.Data = !holds(f.code, e.Addr)
		}
		f.m.Exports = append(f.m.Exports, e)
	}
	named := make([]bool, len(addresses)/4)
	n := min(len(pointers)/4, len(ordinals)/2)
	for i := range n {
		index := int(le16(ordinals[2*i:]))
		if index >= len(named) {
			f.m.Notef("export name %d belongs to ordinal %d, which does not exist", i, base+index)
			continue
		}
		name, ok := f.name(uint64(le32(pointers[4*i:])))
		rva := uint64(le32(addresses[4*index:]))
		if !ok || rva == 0 {
			continue
		}
		named[index] = true
		add(index, rva, name)
	}
	for i := range named {
		if rva := uint64(le32(addresses[4*i:])); rva != 0 && !named[i] {
			add(i, rva, "")
		}
	}
	slices.SortStableFunc(f.m.Exports, func(a, b image.Export) int {
		return cmp.Or(cmp.Compare(a.Ordinal, b.Ordinal), cmp.Compare(a.Name, b.Name))
	})
}

// count returns a table of n entries of size bytes, or those that are there.
func (f *file) count(what string, rva, n, size uint64) []byte {
	if n > maxExports {
		f.m.Notef("%s claims %d entries: the first %d are read", what, n, maxExports)
		n = maxExports
	}
	b := f.table(rva, n*size)
	if uint64(len(b)) < n*size {
		f.m.Notef("%s is cut off: %d of %d entries are there", what, uint64(len(b))/size, n)
	}
	return b
}
