package elf

import (
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Bindings, types, visibilities and section indexes of symbols (gABI, "Symbol
// Table"; GNU and processor values from their supplements).
const (
	bindLocal  = 0
	bindGlobal = 1
	bindWeak   = 2
	bindUnique = 10

	symNotype    = 0
	symObject    = 1
	symFunc      = 2
	symSection   = 3
	symFile      = 4
	symCommon    = 5
	symTLS       = 6
	symIfunc     = 10
	symThumbFunc = 13 // ARM only

	visInternal = 1
	visHidden   = 2

	indexUndef  = 0
	indexAbs    = 0xfff1
	indexCommon = 0xfff2
	indexMore   = 0xffff // the true index is in a table of its own

	maxSymbols = 1 << 22 // of one table
	maxOuter   = 1 << 20 // imports, and exports
)

// A symbol is an entry of a symbol table.
type symbol struct {
	nameOff     uint32
	info, other uint8
	shndx       uint16
	value, size uint64
}

func (s *symbol) bind() uint8 { return s.info >> 4 }
func (s *symbol) typ() uint8  { return s.info & 15 }

// offered reports whether other files see the symbol.
func (s *symbol) offered() bool {
	vis := s.other & 3
	return (s.bind() == bindGlobal || s.bind() == bindWeak || s.bind() == bindUnique) &&
		vis != visInternal && vis != visHidden && s.typ() != symSection && s.typ() != symFile
}

func (s *symbol) data() bool {
	return s.typ() == symObject || s.typ() == symTLS || s.typ() == symCommon
}

func (f *file) symbolSize() uint64 {
	if f.wide {
		return 24
	}
	return 16
}

// symbol decodes one entry; b has room for it.
func (f *file) symbol(b []byte) symbol {
	if f.wide {
		return symbol{f.u32(b), b[4], b[5], f.u16(b[6:]), f.u64(b[8:]), f.u64(b[16:])}
	}
	return symbol{f.u32(b), b[12], b[13], f.u16(b[14:]), f.word(b[4:]), f.word(b[8:])}
}

// A symtab is a symbol table with its strings.
type symtab struct {
	bytes    []byte
	names    names
	versions []byte // a version index for each symbol, or nothing
	indexes  []byte // a section index for each symbol that has no room for it
}

// each calls visit for every entry but the first, which is void.
func (f *file) each(t symtab, visit func(i uint32, s *symbol)) {
	size := f.symbolSize()
	n := uint64(len(t.bytes)) / size
	if n > maxSymbols {
		f.m.Notef("symbol table: %d symbols, %d read", n, maxSymbols)
		n = maxSymbols
	}
	var s symbol
	for i := uint64(1); i < n; i++ {
		s = f.symbol(t.bytes[i*size:])
		visit(uint32(i), &s)
	}
}

// readSymbols reads both symbol tables: the dynamic one for what the file takes
// and offers, both for what it defines. An object has only the other one.
func (f *file) readSymbols() {
	static := f.sectionOfType(sectSymtab)
	f.m.Stripped = static == nil
	dynamic := symtab{bytes: f.dynamicSymbols(), names: f.dynamic.names, versions: f.symbolVersions()}
	full := symtab{bytes: f.sectionBytes(static)}
	if static != nil {
		full.names = f.names(f.sectionBytes(f.linked(static)))
		full.indexes = f.sectionBytes(f.section(func(s *sect) bool {
			return s.typ == sectSymtabShndx && f.linked(s) == static
		}))
	}
	linking := dynamic
	if f.typ == typeRel {
		linking = full
	}
	f.m.Symbols = slices.Grow(f.m.Symbols, min(maxSymbols, (len(dynamic.bytes)+len(full.bytes))/int(f.symbolSize())/2))
	f.outer = make([]int32, min(maxSymbols, uint64(len(linking.bytes))/f.symbolSize()))
	f.each(linking, func(i uint32, s *symbol) { f.link(linking, i, s) })
	f.pointSymbols(linking)
	for _, t := range []symtab{dynamic, full} {
		f.each(t, func(i uint32, s *symbol) { f.define(t, i, s) })
	}
	if len(f.m.Imports) == maxOuter || len(f.m.Exports) == maxOuter {
		f.m.Notef("symbols: more than %d imports or exports, the rest is left out", maxOuter)
	}
	if f.nameLeft <= 0 {
		f.m.Notef("names: too many bytes of names, the rest is left out")
	}
	f.m.Symbols = sortSymbols(f.m.Symbols)
}

// link records what the file takes from others and what it offers to them.
func (f *file) link(t symtab, i uint32, s *symbol) {
	m := f.m
	if s.shndx == indexUndef {
		if s.bind() == bindLocal || s.typ() == symSection || s.typ() == symFile {
			return
		}
		name, _ := t.names.at(uint64(s.nameOff))
		if name == "" || len(m.Imports) == maxOuter {
			return
		}
		in := image.Import{Name: name, Weak: s.bind() == bindWeak, Data: s.data()}
		if at := 2 * uint64(i); at+2 <= uint64(len(t.versions)) {
			n := f.needs[f.u16(t.versions[at:])&0x7fff]
			in.Version, in.Library = n.version, n.library
		}
		if s.value != 0 && f.code.has(s.value) {
			in.Stub = f.codeAddr(s.value) // where an executable takes the address of the function
		}
		m.Imports = append(m.Imports, in)
		f.outer[i] = int32(len(m.Imports))
		return
	}
	if !s.offered() {
		return
	}
	if name, _ := t.names.at(uint64(s.nameOff)); name != "" && len(m.Exports) < maxOuter {
		addr, _ := f.place(t, i, s)
		m.Exports = append(m.Exports, image.Export{Name: name, Addr: addr, Data: s.data()})
		f.outer[i] = int32(-len(m.Exports))
	}
}

// define records a name for an address.
func (f *file) define(t symtab, i uint32, s *symbol) {
	code := s.typ() == symFunc || s.typ() == symIfunc || s.typ() == symThumbFunc && f.machine == machineARM
	if s.shndx == indexUndef || !code && s.typ() != symObject && s.typ() != symNotype {
		return
	}
	addr, ok := f.place(t, i, s)
	if !ok {
		return
	}
	name, _ := t.names.at(uint64(s.nameOff))
	if f.machine == machineARM {
		f.mode(s, name, addr, code)
	}
	if name == "" || s.typ() == symNotype && !telling(name) {
		return
	}
	f.m.Symbols = append(f.m.Symbols, image.Symbol{
		Name: name, Addr: addr, Size: s.size, Func: code, Weak: s.bind() == bindWeak,
	})
}

// mode records what a symbol says of the instructions at its address: mapping
// symbols by their names, functions by bit 0 of their values (AAELF32, "Mapping
// symbols", "Symbol Values").
func (f *file) mode(s *symbol, name string, addr uint64, code bool) {
	m := image.Mode{Addr: addr}
	switch {
	case code:
		m.Start, m.Thumb = true, s.value&1 != 0 || s.typ() == symThumbFunc
	case s.typ() != symNotype || telling(name) || len(name) < 2 || name[0] != '$':
		return
	case name[1] == 't':
		m.Thumb = true
	case name[1] == 'd':
		m.Data = true
	case name[1] != 'a':
		return
	}
	if f.code.has(addr) {
		f.m.Modes = append(f.m.Modes, m)
	}
}

// telling reports whether an untyped symbol names something: mapping symbols
// only say whether code or data follows (AAELF32, "Mapping symbols"), and
// assemblers make labels of their own.
func telling(name string) bool {
	if strings.HasPrefix(name, ".L") {
		return false
	}
	if len(name) >= 2 && name[0] == '$' && strings.IndexByte("atdxmb", name[1]) >= 0 {
		return len(name) > 2 && name[2] != '.' && !strings.HasPrefix(name, "$xrv")
	}
	return true
}

// place returns the address of a defined symbol, and false if it has none:
// absolute symbols are numbers, and those of thread-local storage are offsets,
// for which the address of the initial value stands.
func (f *file) place(t symtab, i uint32, s *symbol) (uint64, bool) {
	switch {
	case s.shndx == indexAbs || s.shndx == indexCommon:
		if f.typ == typeRel {
			return 0, false
		}
		return s.value, false
	case f.typ == typeRel:
		index := uint32(s.shndx)
		if at := 4 * uint64(i); s.shndx == indexMore && at+4 <= uint64(len(t.indexes)) {
			index = f.u32(t.indexes[at:])
		}
		if uint64(index) >= uint64(len(f.sects)) || f.sects[index].flags&flagAlloc == 0 {
			return 0, false
		}
		s.value += f.sects[index].addr
	case s.typ() == symTLS:
		if p := f.program(progTLS); p != nil {
			return f.address(p.vaddr + s.value), true
		}
		return 0, false
	}
	if s.typ() == symFunc || s.typ() == symIfunc || s.typ() == symThumbFunc {
		return f.codeAddr(s.value), true
	}
	return f.address(s.value), true
}

// codeAddr turns what the file takes for the address of a function into where
// its instructions are: ARM and MIPS mark the instruction set in bit 0, 64-bit
// PowerPC may point to a descriptor (64-bit PowerPC ELF ABI supplement 1.9,
// "Function Descriptors").
func (f *file) codeAddr(addr uint64) uint64 {
	switch {
	case f.machine == machineARM || f.isMIPS():
		return addr &^ 1
	case f.machine == machinePPC64 && f.big:
		if addr >= f.opd.lo && addr < f.opd.hi {
			if to, ok := f.relative[addr]; ok {
				return to
			}
			if b := f.m.At(addr); len(b) >= 8 {
				if to := f.u64(b); to != 0 {
					return to
				}
			}
		}
	}
	return addr
}

// descriptors returns the addresses of the function descriptors of 64-bit
// PowerPC.
func (f *file) descriptors() span {
	if lo, ok := f.dynamic.values[tagPPC64Opd]; ok {
		return span{lo, lo + f.dynamic.values[tagPPC64OpdSz]}
	}
	if s := f.sectionNamed(".opd"); s != nil && f.typ != typeRel {
		return span{s.addr, s.addr + s.size}
	}
	return span{}
}

// sortSymbols puts symbols into the order that image.Finish promises. Large
// files have hundreds of thousands: only their addresses move while sorting.
func sortSymbols(symbols []image.Symbol) []image.Symbol {
	type key struct {
		addr  uint64
		index uint32
	}
	keys := make([]key, len(symbols))
	for i := range symbols {
		keys[i] = key{symbols[i].Addr, uint32(i)}
	}
	slices.SortFunc(keys, func(a, b key) int { return compare(a.addr, b.addr) })
	out := make([]image.Symbol, len(symbols))
	for i, k := range keys {
		out[i] = symbols[k.index]
	}
	for i := 0; i < len(out); {
		j := i + 1
		for j < len(out) && out[j].Addr == out[i].Addr {
			j++
		}
		if j-i > 1 {
			slices.SortFunc(out[i:j], func(a, b image.Symbol) int {
				if a.Name != b.Name {
					return strings.Compare(a.Name, b.Name)
				}
				return cmp.Compare(b.Size, a.Size)
			})
		}
		i = j
	}
	return slices.CompactFunc(out, func(a, b image.Symbol) bool { return a.Addr == b.Addr && a.Name == b.Name })
}
