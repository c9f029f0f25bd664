package pe

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

var errNotObject = errors.New("not a COFF object")

// Sizes of COFF object headers and of what they count, in bytes.
const (
	objectHeader  = 20
	bigHeader     = 56
	sectionHeader = 40
	symbolSize    = 18
	bigSymbolSize = 20 // with section numbers of 32 bits
)

// Classes of anonymous objects, as bytes of the file ("winnt.h",
// ANON_OBJECT_HEADER_BIGOBJ; the class of link-time code generation is what
// Visual C++ writes with /GL).
const (
	classBig = "\xc7\xa1\xba\xd1\xee\xba\xa9\x4b\xaf\x20\xfa\xf6\x6a\xa4\xdc\xb8"
	classLTO = "\x38\xfe\xb3\x0c\xa5\xd9\xab\x4d\xac\x9b\xd6\xb6\x22\x26\x53\xc2"
)

// An object is the header of a COFF object, of either size.
type object struct {
	class    string // of an anonymous object; only big ones have the rest
	machine  uint16
	sections uint64
	table    uint64 // offset of the section table
	symbols  uint64 // offset of the symbol table
	count    uint64 // of symbols
	symbol   uint64 // size of one
}

// IsObject says whether a file that starts with head is a COFF object, which
// has no magic number: all that its header says must be plausible, and so must
// what head has of its section table. A head below 4 KB is taken for the whole
// file. Anonymous objects, which start with a mark, are objects too.
func IsObject(head []byte) bool {
	_, ok := readObject(head)
	return ok
}

// IsImport says whether a file that starts with head is an object of an import
// library, which has no code of its own: the import of one name ("PE Format",
// Import Library Format), or a part of the import directory, which other tools
// than Microsoft's join with a jump to what is imported.
func IsImport(head []byte) bool {
	if c := cursor.New(head, false); anonymous(head) && le16(head[4:]) == 0 {
		c.Skip(6)
		machine := c.U16()
		c.Skip(8) // time stamp, size of data
		c.U16()   // ordinal or hint
		kind := c.U16()
		arch, _ := architecture(machine)
		return arch != "" && c.Err() == nil && kind&3 != 3 && kind>>5 == 0
	}
	o, ok := readObject(head)
	if !ok || o.class != "" {
		return false
	}
	const stub = 16 // bytes at most that jump through a pointer, on any machine
	table, whole := cursor.Slice(head, o.table, o.sections*sectionHeader)
	imports, code := false, uint32(0)
	for ; whole && len(table) > 0; table = table[sectionHeader:] {
		size := le32(table[16:])
		part := bytes.HasPrefix(table, []byte(".idata$"))
		switch {
		case le32(table[36:])&(sectionCode|sectionExecute) != 0:
			if code += min(size, stub+1); code > stub {
				return false
			}
		case !part && size > 0 && !bytes.HasPrefix(table, []byte(".debug$")):
			return false
		}
		imports = imports || part
	}
	return imports
}

// anonymous says whether b starts with the mark of objects that have no
// ordinary header, and holds the version behind it.
func anonymous(b []byte) bool {
	return len(b) >= 6 && le32(b) == 0xffff0000
}

// readObject reads the header of an object if that is what head starts.
func readObject(head []byte) (object, bool) {
	if anonymous(head) {
		return readAnonymous(head)
	}
	const executable, reserved, system, dll, single, reversed = 0x2, 0x40, 0x1000, fileDLL, 0x4000, 0x8000
	c := cursor.New(head, false)
	o := object{machine: c.U16(), sections: uint64(c.U16()), table: objectHeader, symbol: symbolSize}
	c.Skip(4) // time stamp
	o.symbols, o.count = uint64(c.U32()), uint64(c.U32())
	optional, flags := c.U16(), c.U16()
	if c.Err() != nil || optional != 0 || flags&(executable|reserved|system|dll|single|reversed) != 0 {
		return object{}, false
	}
	return o, o.plausible(head)
}

// readAnonymous reads the header of an anonymous object. Its class is a GUID of
// the ordinary variant, made at random.
func readAnonymous(head []byte) (object, bool) {
	c := cursor.New(head, false)
	c.Skip(4)
	version := c.U16()
	o := object{machine: c.U16(), table: bigHeader, symbol: bigSymbolSize}
	c.Skip(4) // time stamp
	o.class = string(c.Bytes(16))
	arch, _ := architecture(o.machine)
	if c.Skip(4); c.Err() != nil || version < 1 || version > 2 || arch == "" && o.machine != 0 || o.class[7]>>4 != 4 || o.class[8]>>6 != 2 {
		return object{}, false
	}
	if o.class != classBig {
		return o, true
	}
	c.Skip(12) // flags, metadata of the runtime
	o.sections, o.symbols, o.count = uint64(c.U32()), uint64(c.U32()), uint64(c.U32())
	return o, version == 2 && c.Err() == nil && o.plausible(head)
}

// plausible checks the header's words against each other and against what head
// has of the section table.
func (o *object) plausible(head []byte) bool {
	const whole = 4096 // bytes; with fewer, head is the file
	arch, _ := architecture(o.machine)
	end := o.table + o.sections*sectionHeader
	switch {
	case arch == "", o.sections == 0, o.class == "" && o.sections >= specialSections, end > 1<<32-1:
		return false
	case o.symbols == 0 && o.count > 0, o.symbols > 0 && o.symbols < end, o.symbols+o.count*o.symbol > 1<<32-1:
		return false
	}
	size := uint64(len(head))
	if size < whole && end > size {
		return false
	}
	table, _ := cursor.Slice(head, o.table, o.sections*sectionHeader)
	if len(table) < sectionHeader {
		return false
	}
	for ; len(table) >= sectionHeader; table = table[sectionHeader:] {
		if !plausibleSection(table[:sectionHeader], end) {
			return false
		}
	}
	return true
}

// plausibleSection checks an entry of a section table that ends at end: a name
// filled up with zeros, and bytes and relocations behind the table.
func plausibleSection(b []byte, end uint64) bool {
	name := bytes.TrimRight(b[:8], "\x00")
	if len(name) == 0 || bytes.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	raw, relocs := uint64(le32(b[20:])), uint64(le32(b[24:]))
	const alignment = 0x00f00000
	return (raw == 0 || raw >= end) && (relocs == 0 || relocs >= end) && le32(b[36:])&alignment != alignment
}

// ParseObject reads a COFF object: a member of a static library, or what a
// compiler writes for one source file ("PE Format", COFF File Header (Object
// and Image); "winnt.h" for those with more than 65,279 sections). Its sections
// have no addresses: as in other objects, they get their offsets in the file.
// Imports are the undefined external symbols as they are decorated, with no
// library; calls through a pointer, __imp_name, count as calls of name.
func ParseObject(data []byte) (*image.Image, error) {
	o, ok := readObject(data)
	switch {
	case !ok:
		return nil, errNotObject
	case o.class == classLTO:
		return nil, errors.New("not looked at: an object for link-time code generation, which has no machine code yet")
	case o.class != "" && o.class != classBig:
		return nil, fmt.Errorf("not looked at: an anonymous object of class %x, which is not known", o.class)
	}
	f := &file{
		m:       &image.Image{Format: image.PE, Kind: image.Object, Data: data},
		machine: o.machine,
		text:    2*len(data) + 1<<16,
	}
	f.locateSymbols(o.symbols, o.count, o.symbol)
	f.setMachine()
	f.objectSections(&o)
	f.objectSymbols(&o)
	if marks := f.m.Section(".rdata$zzz"); marks != nil {
		f.m.Compilers = append(f.m.Compilers, gccMarks(f.m.Bytes(marks))...)
	}
	f.objectFunctions()
	f.m.Finish()
	return f.m, nil
}

// objectSections reads the section table. Sections that a linker drops or only
// reads have no address; those without bytes get one behind the file.
func (f *file) objectSections(o *object) {
	const information, remove, discardable = 0x200, 0x800, 0x02000000
	const zeros = 0x80
	size := uint64(len(f.m.Data))
	table, whole := cursor.Slice(f.m.Data, o.table, o.sections*sectionHeader)
	if !whole {
		f.m.Notef("section table is cut off: %d of %d sections are there", len(table)/sectionHeader, o.sections)
	}
	next := size
	for ; len(table) >= sectionHeader; table = table[sectionHeader:] {
		raw, offset, flags := uint64(le32(table[16:])), uint64(le32(table[20:])), le32(table[36:])
		s := image.Section{Name: f.sectionName(table[:8]), Size: raw, Access: sectionAccess(flags), Code: flags&(sectionCode|sectionExecute) != 0}
		if offset > 0 && flags&zeros == 0 {
			s.Offset, s.FileSize = offset, raw
			if offset > size || raw > size-offset {
				s.FileSize = size - min(offset, size)
				f.m.Notef("section %q is cut off: %d of %d bytes are in the file", s.Name, s.FileSize, raw)
			}
		}
		switch {
		case flags&(information|remove|discardable) != 0 && !s.Code:
		case s.FileSize > 0:
			s.Addr = offset
		default:
			s.Addr = next
			next += raw
		}
		f.m.Sections = append(f.m.Sections, s)
		if s.Addr != 0 && s.Size > 0 {
			f.m.Segments = append(f.m.Segments, image.Segment{
				Name: s.Name, Addr: s.Addr, Size: s.Size, Offset: s.Offset, FileSize: s.FileSize, Access: s.Access,
			})
		}
	}
	f.code = codeSpans(f.m.Sections)
}

// Storage classes of symbols ("PE Format", Storage Class).
const (
	classExternal = 2
	classStatic   = 3
	classLabel    = 6
	classWeak     = 105
)

// specialSections is the first section number of 16 bits that means something
// else: they are negative from there on.
const specialSections = 0xff00

// A coffSymbol is an entry of a symbol table.
type coffSymbol struct {
	name    []byte // the eight bytes of its name, or of where that is
	value   uint64
	section int // counted from 1; 0 for undefined, negative for absolute ones
	kind    uint16
	class   byte
	aux     int // entries of more about it that follow
}

// readSymbol reads a symbol of 18 or, in a big object, 20 bytes.
func readSymbol(b []byte) coffSymbol {
	s := coffSymbol{name: b[:8], value: uint64(le32(b[8:]))}
	if len(b) == bigSymbolSize {
		s.section, b = int(int32(le32(b[12:]))), b[16:]
	} else {
		s.section, b = int(le16(b[12:])), b[14:]
		if s.section >= specialSections {
			s.section -= 1 << 16
		}
	}
	s.kind, s.class, s.aux = le16(b), b[2], int(b[3])
	return s
}

// isFunc is ISFCN: the derived type, above the four bits of the base type.
func (s *coffSymbol) isFunc() bool { return s.kind>>4 == 2 }

// isImport says whether somebody else has to define a symbol. An undefined one
// with a value is a common block of that size.
func (s *coffSymbol) isImport() bool {
	return s.section == 0 && (s.class == classExternal && s.value == 0 || s.class == classWeak)
}

// symbolName returns the name of a symbol.
func (f *file) symbolName(s *coffSymbol) string {
	if le32(s.name) == 0 {
		name, _ := f.string(f.strings, uint64(le32(s.name[4:])))
		return name
	}
	return strings.TrimRight(string(s.name), "\x00")
}

// objectSymbols reads the symbol table of an object.
func (f *file) objectSymbols(o *object) {
	all, _ := cursor.Slice(f.m.Data, f.symtab.Offset, f.symtab.Size-uint64(len(f.strings)))
	seen := make(map[string]bool)
	for rest := all; uint64(len(rest)) >= o.symbol; {
		s, more := readSymbol(rest[:o.symbol]), rest[o.symbol:]
		rest = more[min(uint64(len(more)), o.symbol*uint64(s.aux)):]
		switch {
		case s.class == classExternal, s.class == classLabel, s.class == classWeak:
		case s.class == classStatic && (s.kind != 0 || s.aux == 0): // else it defines a section
		default:
			continue
		}
		name := f.symbolName(&s)
		if name == "" {
			continue
		}
		// A weak name stands for another symbol where nobody defines it.
		if s.class == classWeak && s.section == 0 && s.aux > 0 && uint64(len(more)) >= o.symbol {
			if other, ok := o.symbolAt(all, uint64(le32(more))); ok && other.section > 0 {
				s.section, s.value, s.kind = other.section, other.value, max(s.kind, other.kind)
			}
		}
		switch {
		case s.section > 0 && s.section <= len(f.m.Sections):
			f.m.Symbols = append(f.m.Symbols, image.Symbol{
				Name: name, Addr: f.m.Sections[s.section-1].Addr + s.value, Func: s.isFunc(), Weak: s.class == classWeak,
			})
		case s.isImport():
			name = strings.TrimPrefix(name, "__imp_")
			if f.m.Arch == image.X86 {
				name = undecorate(name)
			}
			if name != "" && !seen[name] {
				seen[name] = true
				f.m.Imports = append(f.m.Imports, image.Import{Name: name, Weak: s.class == classWeak})
			}
		case s.section == -1 && name == "@comp.id" && len(f.m.Compilers) == 0:
			f.m.Compilers = append(f.m.Compilers, product(uint32(s.value), 1))
		}
	}
}

// undecorate takes off what compilers for x86 add to names of C: an underscore
// in front, and for __stdcall the size of the arguments behind ("Decorated
// names", Visual C++ reference). Names of C++ are left alone.
func undecorate(name string) string {
	bare, ok := strings.CutPrefix(name, "_")
	if !ok {
		return name
	}
	if i := strings.LastIndexByte(bare, '@'); i > 0 && strings.Trim(bare[i+1:], "0123456789") == "" {
		return bare[:i]
	}
	return bare
}

// symbolAt returns the symbol of that number.
func (o *object) symbolAt(table []byte, n uint64) (coffSymbol, bool) {
	b, ok := cursor.Slice(table, n*o.symbol, o.symbol)
	if !ok {
		return coffSymbol{}, false
	}
	return readSymbol(b), true
}

// objectFunctions lists the functions that have a symbol; others are known to
// the object's own code alone.
func (f *file) objectFunctions() {
	fn := &f.m.Functions
	fn.Method = "symbols"
	for _, addr := range f.symbolStarts() {
		fn.List = append(fn.List, image.Function{Addr: addr})
	}
	f.nameFunctions()
	fn.Count = len(fn.List)
}
