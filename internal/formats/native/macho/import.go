package macho

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const (
	maxImports   = 1 << 20
	maxSlots     = 1 << 20 // pointers and stubs in their sections
	maxDataSlots = 64      // pointers of one import that are kept, outside of the sections for them
)

// imports collects what symbol table, indirect symbols and fixups say of the
// names that the file takes from elsewhere: one entry for each name.
type imports struct {
	list     []imported
	index    map[string]int32 // bare name to place in list
	seen     map[uint64]bool  // addresses of pointers and stubs that are in list
	pointers ranges           // sections of pointers that code loads imports from
}

type imported struct {
	name    string
	library string
	rank    rank
	weak    bool
	slots   []uint64 // pointers in the sections for them
	data    []uint64 // bound pointers elsewhere
	stubs   []uint64
	listed  bool // the symbol table says that it is undefined
}

// A rank orders what different parts of the file say of where a name comes
// from: a library tells more than a way of looking, and what the loader goes
// by more than the symbol table.
type rank uint8

const (
	unknown rank = iota
	symtabSpecial
	boundSpecial
	symtabLibrary
	boundLibrary
)

// get returns the place of a name, or -1 if there are too many.
func (m *imports) get(name string) int32 {
	if i, ok := m.index[name]; ok {
		return i
	}
	if len(m.list) == maxImports {
		return -1
	}
	i := int32(len(m.list))
	m.list = append(m.list, imported{name: name})
	m.index[name] = i
	return i
}

func (m *imports) from(i int32, library string, r rank, weak bool) {
	e := &m.list[i]
	if r > e.rank {
		e.library, e.rank = library, r
	}
	e.weak = e.weak || weak
}

// bind records that the loader writes the address of import i to addr.
func (m *imports) bind(i int32, addr uint64) {
	e := &m.list[i]
	if m.pointers.find(addr) == nil {
		if len(e.data) < maxDataSlots {
			e.data = append(e.data, addr)
		}
	} else if m.first(addr) {
		e.slots = append(e.slots, addr)
	}
}

// stub records that the jump at addr goes to import i.
func (m *imports) stub(i int32, addr uint64) {
	if m.first(addr) {
		m.list[i].stubs = append(m.list[i].stubs, addr)
	}
}

// first says whether the pointer or stub at addr is a new one.
func (m *imports) first(addr uint64) bool {
	if len(m.seen) == maxSlots || m.seen[addr] {
		return false
	}
	m.seen[addr] = true
	return true
}

// add appends the import to the image; a second stub, as for calls of another
// kind, gives a second entry.
func (e *imported) add(f *file) {
	i := image.Import{Name: e.name, Library: e.library, Weak: e.weak, Data: isData(e.name)}
	if slots := slices.Compact(append(e.slots, e.data...)); len(slots) > 0 {
		i.Slot, i.MoreSlots = slots[0], slots[1:len(slots):len(slots)]
	}
	if len(e.stubs) == 0 {
		f.Imports = append(f.Imports, i)
	}
	for _, stub := range e.stubs {
		i.Stub = stub
		f.Imports = append(f.Imports, i)
		i.MoreSlots = nil
	}
}

// readImports collects the undefined symbols and all names that the loader
// binds. A name that the file defines itself is no import, although the loader
// binds it where another image may have a definition that goes first.
func (f *file) readImports() {
	m := &imports{index: map[string]int32{}, seen: map[uint64]bool{}}
	m.pointers = f.pick(func(s *section) bool {
		switch s.kind {
		case sectionPointers, sectionLazy, sectionLazyDylib, sectionThreadPtrs:
			return true
		}
		return false
	})
	f.mapped = f.extents()
	byIndex := f.undefined(m)
	f.indirectSymbols(m, byIndex)
	if f.chains != nil {
		f.chainedFixups(m)
	}
	f.bindOpcodes(m)
	f.rebaseOpcodes()
	if len(m.list) == maxImports {
		f.Notef("more than %d imports; the rest is not read", maxImports)
	}
	if len(m.seen) == maxSlots {
		f.Notef("more than %d pointers to imports; the rest is not read", maxSlots)
	}

	own := f.ownNames(m)
	f.ownPointers(m, own)
	f.finishPointers()
	f.Imports = make([]image.Import, 0, len(m.list))
	for i := range m.list {
		if e := &m.list[i]; e.name != "" && !own[e.name] {
			e.add(f)
		}
	}
}

// undefined takes the undefined symbols, and returns their places by index in
// the symbol table.
func (f *file) undefined(m *imports) map[uint32]int32 {
	byIndex := map[uint32]int32{}
	for i := range f.symbols {
		s := &f.symbols[i]
		if t := s.kind & nType; s.name == "" || t != nPrebound && (t != nUndefined || s.value != 0) {
			continue
		}
		place := m.get(s.name)
		if place < 0 {
			break
		}
		byIndex[s.index] = place
		m.list[place].listed = true
		library, r := "", unknown
		if f.kind != typeObject {
			library, r = f.symbolLibrary(s.desc)
		}
		m.from(place, library, r, s.desc&nWeakRef != 0)
	}
	return byIndex
}

// symbolLibrary reads the library ordinal in the upper byte of n_desc
// (GET_LIBRARY_ORDINAL).
func (f *file) symbolLibrary(desc uint16) (string, rank) {
	if f.flags&flagTwoLevel == 0 {
		if f.Kind == image.Driver {
			return "", unknown // the kernel's linker looks in what Info.plist names
		}
		return FlatNamespace, symtabSpecial
	}
	switch n := int(desc >> 8); n {
	case 0:
		return ThisImage, symtabSpecial
	case 0xfe:
		return FlatNamespace, symtabSpecial
	case 0xff:
		return MainExecutable, symtabSpecial
	default:
		return f.dylib(n, symtabLibrary)
	}
}

// boundLibrary reads the library ordinal of a fixup
// (BIND_SPECIAL_DYLIB_* of <mach-o/loader.h>).
func (f *file) boundLibrary(ordinal int) (string, rank) {
	switch ordinal {
	case 0:
		return ThisImage, boundSpecial
	case -1:
		return MainExecutable, boundSpecial
	case -2:
		return FlatNamespace, boundSpecial
	case -3:
		return WeakLookup, boundSpecial
	}
	return f.dylib(ordinal, boundLibrary)
}

func (f *file) dylib(ordinal int, r rank) (string, rank) {
	if ordinal < 1 || ordinal > len(f.dylibs) {
		return "", unknown
	}
	return f.dylibs[ordinal-1], r
}

const (
	indirectLocal    = 0x8000_0000 // INDIRECT_SYMBOL_LOCAL
	indirectAbsolute = 0x4000_0000 // INDIRECT_SYMBOL_ABS
)

// indirectSymbols finds the pointers and stubs of imports: a section of them
// has its first entry in the indirect symbol table in reserved1, and stubs
// their size in reserved2.
func (f *file) indirectSymbols(m *imports, byIndex map[uint32]int32) {
	var order binary.ByteOrder = binary.LittleEndian
	if f.big {
		order = binary.BigEndian
	}
	count := uint64(len(f.indirect) / 4)
	left := 2 * count // entries; sections of a sound file share none
	for _, s := range f.sections {
		size := uint64(f.Bits / 8)
		switch s.kind {
		case sectionPointers, sectionLazy, sectionLazyDylib, sectionThreadPtrs:
		case sectionStubs:
			size = uint64(s.reserved2)
		default:
			continue
		}
		if size == 0 {
			continue
		}
		for i := range s.size / size {
			n := uint64(s.reserved1) + i
			if n >= count || left == 0 {
				break
			}
			left--
			v := order.Uint32(f.indirect[4*n:])
			place, ok := byIndex[v]
			if s := f.symbolAt(v); !ok && s != nil && s.defined() && s.kind&nExt != 0 && s.name != "" {
				place = m.get(s.name)
				ok = place >= 0
			}
			if v&(indirectLocal|indirectAbsolute) != 0 || !ok {
				continue
			}
			if s.kind == sectionStubs {
				m.stub(place, s.addr+i*size)
			} else {
				m.bind(place, s.addr+i*size)
			}
		}
	}
}

// symbolAt returns the symbol of an index in the symbol table, or nil.
func (f *file) symbolAt(index uint32) *symbol {
	i, ok := slices.BinarySearchFunc(f.symbols, index, func(s symbol, index uint32) int { return cmp.Compare(s.index, index) })
	if !ok {
		return nil
	}
	return &f.symbols[i]
}

// ownNames returns those of the bound names that the file defines itself and
// does not list as undefined.
func (f *file) ownNames(m *imports) map[string]bool {
	var own map[string]bool
	check := func(name string) {
		if i, ok := m.index[name]; ok && !m.list[i].listed {
			if own == nil {
				own = map[string]bool{}
			}
			own[name] = true
		}
	}
	for i := range f.symbols {
		if f.symbols[i].defined() {
			check(f.symbols[i].name)
		}
	}
	for i := range f.Exports {
		if f.Exports[i].Forward == "" {
			check(f.Exports[i].Name)
		}
	}
	return own
}

// isData says whether the mangled name itself tells that it is a variable:
// tables and type information of C++, classes of Objective-C.
func isData(name string) bool {
	for _, prefix := range []string{"_ZTV", "_ZTI", "_ZTS", "_ZTT", "OBJC_CLASS_$_", "OBJC_METACLASS_$_", "OBJC_EHTYPE_$_", "OBJC_IVAR_$_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
