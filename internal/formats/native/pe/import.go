package pe

import (
	"fmt"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const maxImports = 1 << 18 // far above any linker's habit; thunk tables may overlap in a hostile file

// imports reads the import directory ("The .idata Section"). Like the loader,
// it goes by the descriptors and ignores the directory's size, and it ends at
// a descriptor without a name or without an address table. Bound imports say
// the same again and are not read.
func (f *file) imports() {
	rva := f.dirs[dirImport].rva
	if rva == 0 {
		return
	}
	const entry = 20
	for ; ; rva += entry {
		b := f.table(rva, entry)
		if len(b) < entry {
			if !f.zeroFilled(rva) {
				f.m.Notef("import directory is cut off at RVA %#x", rva)
			}
			return
		}
		c := cursor.New(b, false)
		lookup := uint64(c.U32())
		c.Skip(8) // time stamp, forwarder chain
		name, slots := uint64(c.U32()), uint64(c.U32())
		if name == 0 || slots == 0 {
			return
		}
		library, ok := f.name(name)
		if !ok {
			f.m.Notef("import directory names a library at RVA %#x, where there is none", name)
			return
		}
		f.m.Libraries = append(f.m.Libraries, library)
		// Some linkers leave the lookup table out, or have none worth the
		// name; the address table then still holds the names.
		if lookup < f.header || f.pointer(f.at(lookup)) == 0 {
			lookup = slots
		}
		if !f.thunks(library, lookup, slots, 0, false) {
			return
		}
	}
}

// delayImports reads the delay-load directory ("Delay-Load Import Tables").
// Before Visual C++ 7 its fields were addresses and not RVAs; bit 0 of the
// attributes tells.
func (f *file) delayImports() {
	rva := f.dirs[dirDelay].rva
	if rva == 0 {
		return
	}
	const entry = 32
	for ; ; rva += entry {
		b := f.table(rva, entry)
		if len(b) < entry {
			if !f.zeroFilled(rva) {
				f.m.Notef("delay import directory is cut off at RVA %#x", rva)
			}
			return
		}
		c := cursor.New(b, false)
		attributes := c.U32()
		name := uint64(c.U32())
		c.Skip(4) // module handle
		slots, names := uint64(c.U32()), uint64(c.U32())
		if name == 0 {
			return
		}
		var bias uint64
		if attributes&1 == 0 {
			bias = f.m.Base
		}
		// Fields are 32 bits wide even where addresses are not.
		rebase := func(v uint64) uint64 { return uint64(uint32(v - bias)) }
		library, ok := f.name(rebase(name))
		if !ok {
			f.m.Notef("delay import directory names a library at %#x, where there is none", name)
			return
		}
		f.m.Libraries = append(f.m.Libraries, library)
		if !f.thunks(library, rebase(names), rebase(slots), bias, true) {
			return
		}
	}
}

// thunks reads one library's lookup table, whose entries are ordinals or
// pointers to hints and names, and says whether there is room for more. bias
// is what its pointers have on top of an RVA.
func (f *file) thunks(library string, lookup, slots, bias uint64, delay bool) bool {
	size := f.pointerSize()
	ordinalFlag := uint64(1) << (8*size - 1)
	known := ordinalNames(library)
	table := f.at(lookup)
	for i := uint64(0); ; i += size {
		if uint64(len(table)) < i+size {
			if !f.zeroFilled(lookup + i) {
				f.m.Notef("imports from %s are cut off at RVA %#x", library, lookup+i)
			}
			return true
		}
		v := f.pointer(table[i:])
		if v == 0 {
			return true
		}
		if len(f.m.Imports) >= maxImports {
			f.m.Notef("more than %d imports: the rest is left out", maxImports)
			return false
		}
		imp := image.Import{Library: library, Slot: f.m.Base + slots + i, Delay: delay}
		if v&ordinalFlag != 0 {
			imp.Ordinal = int(uint16(v))
			imp.Name = known(imp.Ordinal)
		} else {
			name, ok := f.name(v - bias + 2)
			if !ok || name == "" {
				f.m.Notef("imports from %s: no name at RVA %#x; the rest of its imports is left out", library, v-bias)
				return true
			}
			imp.Name = name
		}
		f.m.Imports = append(f.m.Imports, imp)
	}
}

// ordinalNames returns the function that names a library's ordinals: "#n"
// where the name is not known.
func ordinalNames(library string) func(int) string {
	var names map[int]string
	switch strings.TrimSuffix(strings.ToLower(library), ".dll") {
	case "ws2_32":
		names = ws2_32
	case "wsock32":
		names = wsock32
	case "oleaut32":
		names = oleaut32
	}
	return func(n int) string {
		if name := names[n]; name != "" {
			return name
		}
		return fmt.Sprintf("#%d", n)
	}
}
