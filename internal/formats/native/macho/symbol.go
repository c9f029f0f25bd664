package macho

import (
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Bits of n_type and n_desc in struct nlist.
const (
	nStab    = 0xe0 // any of these: a debugging entry
	nPrivate = 0x10 // N_PEXT
	nType    = 0x0e
	nExt     = 0x01

	nUndefined = 0x0
	nAbsolute  = 0x2
	nIndirect  = 0xa // the value is the place of another name
	nPrebound  = 0xc
	nSection   = 0xe

	nThumb    = 0x8
	nWeakRef  = 0x40
	nWeakDef  = 0x80
	nAltEntry = 0x200 // a name inside of a function, not its start
)

// A symbol is an entry of the symbol table that is not for debugging.
type symbol struct {
	index uint32 // in the table
	name  string // bare
	kind  uint8  // n_type
	desc  uint16
	value uint64
	code  bool // it lies in a section of instructions
}

func (s *symbol) defined() bool {
	t := s.kind & nType
	return t == nSection || t == nAbsolute || t == nIndirect || t == nUndefined && s.value != 0
}

// common says whether a symbol of an object is a tentative definition, which
// the linker gives a place; its value is its size.
func (s *symbol) common() bool { return s.kind&nType == nUndefined && s.value != 0 }

// names gives the strings of a string table. They share one copy of it, and
// the bytes that are looked through in all are bounded: a hostile table may
// have many symbols that all point at the start of one long string.
type names struct {
	table string
	left  int // bytes
}

const (
	maxName    = 1 << 16 // bytes of a symbol's name
	nameFactor = 8       // how often the bytes of a table may be part of a name
)

func newNames(table []byte) *names {
	return &names{table: string(table), left: nameFactor*len(table) + maxName}
}

// at returns the string at off, and whether there is one.
func (n *names) at(off uint64) (string, bool) {
	if off >= uint64(len(n.table)) || n.left <= 0 {
		return "", false
	}
	rest := n.table[off:]
	rest = rest[:min(len(rest), maxName)]
	end := strings.IndexByte(rest, 0)
	if end < 0 {
		n.left -= len(rest)
		return rest, len(rest) < maxName // the last string may end with the table
	}
	n.left -= end + 1
	return rest[:end], true
}

// bare is a name without the underscore that C's compilers put in front.
func bare(name string) string { return strings.TrimPrefix(name, "_") }

// symbolTable reads the rest of struct symtab_command.
func (f *file) symbolTable(c *cursor.Cursor) {
	off, count := c.U32(), uint64(c.U32())
	f.symtab = f.table("symbol table", off, count*f.symbolSize())
	off, size := c.U32(), c.U32()
	f.strtab = f.table("string table", off, uint64(size))
}

func (f *file) symbolSize() uint64 {
	if f.wide {
		return 16
	}
	return 12
}

// readSymbols reads the symbol table: struct nlist or nlist_64.
func (f *file) readSymbols() {
	f.Stripped = true
	count := len(f.symtab) / int(f.symbolSize())
	f.symbols = make([]symbol, 0, count)
	f.names = newNames(f.strtab)
	code := f.pick(func(s *section) bool { return s.code })
	c := cursor.New(f.symtab, f.big)
	lost := 0
	for i := range count {
		at := uint64(c.U32())
		s := symbol{index: uint32(i), kind: c.U8()}
		c.U8() // n_sect
		s.desc = c.U16()
		s.value = c.Word(f.wide)
		if s.kind&nStab != 0 {
			continue
		}
		name, ok := f.names.at(at)
		if !ok {
			lost++
			continue
		}
		s.name = bare(name)
		if f.cpu == cpuARM && s.desc&nThumb != 0 {
			s.value &^= 1
		}
		s.code = s.kind&nType == nSection && code.find(s.value) != nil
		if s.defined() && s.kind&nExt == 0 {
			f.Stripped = false
		}
		f.symbols = append(f.symbols, s)
	}
	if lost > 0 {
		f.Notef("symbol table: %d of %d names are not in the string table", lost, count)
	}
	f.Symbols = make([]image.Symbol, 0, len(f.symbols))
	for i := range f.symbols {
		s := &f.symbols[i]
		switch {
		case !s.defined() || s.name == "" || s.kind&nType == nIndirect:
		case s.common():
			f.Symbols = append(f.Symbols, image.Symbol{Name: s.name, Size: s.value})
		default:
			f.Symbols = append(f.Symbols, image.Symbol{
				Name: s.name, Addr: s.value, Func: s.code, Weak: s.desc&nWeakDef != 0,
			})
		}
	}
}
