package synth

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/macho"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Load commands that debug/macho has no name for, and section types.
const (
	lcRPath          = 0x8000001c
	lcLoadDylib      = 0xc
	lcIDDylib        = 0xd
	lcLoadDylinker   = 0xe
	lcUUID           = 0x1b
	lcCodeSignature  = 0x1d
	lcDyldInfoOnly   = 0x80000022
	lcFunctionStarts = 0x26
	lcMain           = 0x80000028
	lcSourceVersion  = 0x2a
	lcBuildVersion   = 0x32

	machoRegular  = 0
	machoZeroFill = 1
	machoStrings  = 2
	machoPointers = 6 // non-lazy symbol pointers
	machoStubs    = 8
	machoCode     = 0x80000400 // pure instructions, some instructions
)

// machoSection is a section with the function that writes it.
type machoSection struct {
	segment, name string
	typ           uint32
	align         uint32 // as a power of two
	indirect      uint32 // first entry of the indirect symbol table
	stub          uint32 // size of a stub
	fill          func(addr uint64) []byte
	memory        uint64 // size of a section without bytes

	addr, off uint64
	data      []byte
}

func (s *machoSection) size() uint64 { return max(s.memory, uint64(len(s.data))) }

// machoSegment is a segment with its sections.
type machoSegment struct {
	name                            string
	access                          uint32 // r 1, w 2, x 4
	sections                        []*machoSection
	addr, memorySize, off, fileSize uint64
}

// machoBuilder is a Mach-O file in the making.
//
// Layout follows <mach-o/loader.h>, <mach-o/nlist.h> and <mach-o/fat.h>; the
// signature follows <kern/cs_blobs.h>.
type machoBuilder struct {
	*plan
	base, page uint64
	segments   []*machoSegment // without __PAGEZERO and __LINKEDIT
	link       machoSegment    // __LINKEDIT
	funcsOf    []*imported     // with a stub
	strings    uint64          // address of __cstring
	header     []byte          // with load commands

	// Places in __LINKEDIT, as file offset and size.
	bind, trie, starts, symtab, indirect, strtab, signature [2]uint64
	locals, defined                                         []*definition
}

func buildMachO(p *plan) ([]byte, error) {
	if len(p.libs) > 253 {
		return nil, fmt.Errorf("%d libraries are too many for a two-level namespace", len(p.libs))
	}
	b := &machoBuilder{plan: p, page: 0x1000}
	if p.arch == "aarch64" {
		b.page = 0x4000
	}
	if p.Kind == "executable" {
		b.base = 1 << 32
	}
	for _, i := range p.imports {
		if !i.Data {
			b.funcsOf = append(b.funcsOf, i)
		}
	}
	exported := map[*definition]bool{}
	for _, d := range p.exports {
		exported[d] = true
	}
	for _, d := range p.symbols {
		if !exported[d] {
			b.locals = append(b.locals, d)
		}
	}
	b.defined = slices.SortedFunc(slices.Values(p.exports), func(x, y *definition) int { return cmp.Compare(x.Name, y.Name) })
	if err := b.describe(); err != nil {
		return nil, err
	}
	if err := settle(b.layout); err != nil {
		return nil, err
	}
	return b.file(), nil
}

// add puts a section into its segment, which is made if need be.
func (b *machoBuilder) add(access uint32, s machoSection) {
	i := slices.IndexFunc(b.segments, func(g *machoSegment) bool { return g.name == s.segment })
	if i < 0 {
		i = len(b.segments)
		b.segments = append(b.segments, &machoSegment{name: s.segment})
	}
	g := b.segments[i]
	g.access |= access
	g.sections = append(g.sections, &s)
}

func (b *machoBuilder) describe() error {
	const r, rw, rx = 1, 3, 5
	b.add(rx, machoSection{segment: "__TEXT", name: "__text", typ: machoCode, align: 4, fill: func(addr uint64) []byte {
		return b.text(&assembler{arch: b.arch, addr: addr}, b.strings)
	}})
	stub := uint32(6)
	if b.arch == "aarch64" {
		stub = 12
	}
	if len(b.funcsOf) > 0 {
		b.add(rx, machoSection{segment: "__TEXT", name: "__stubs", typ: machoCode | machoStubs, align: 2, stub: stub, fill: b.fillStubs})
	}
	for _, n := range b.notes {
		b.string(n)
	}
	constant := func(name string, typ, align uint32, data []byte) {
		if len(data) > 0 {
			b.add(rx, machoSection{segment: "__TEXT", name: name, typ: typ, align: align, fill: func(uint64) []byte { return data }})
		}
	}
	if len(b.plan.strings) > 0 {
		b.add(rx, machoSection{segment: "__TEXT", name: "__cstring", typ: machoStrings, fill: func(addr uint64) []byte {
			b.strings = addr
			return b.plan.strings
		}})
	}
	constant("__ustring", machoRegular, 1, b.utf16)
	constant("__const", machoRegular, 4, b.blob)
	if len(b.imports) > 0 {
		b.add(rw, machoSection{segment: "__DATA", name: "__got", typ: machoPointers, align: 3, indirect: uint32(len(b.funcsOf)), fill: b.fillGOT})
	}
	if len(b.vars) > 0 {
		b.add(rw, machoSection{segment: "__DATA", name: "__data", align: 3, fill: b.fillData})
	}
	if len(b.Sections) > 200 {
		return fmt.Errorf("%d sections are too many", len(b.Sections))
	}
	for _, x := range b.Sections {
		if err := b.describeExtra(x); err != nil {
			return err
		}
	}
	for _, g := range b.segments { // memory without bytes comes last
		slices.SortStableFunc(g.sections, func(x, y *machoSection) int { return cmp.Compare(min(x.memory, 1), min(y.memory, 1)) })
	}
	return nil
}

// describeExtra adds a section of the description.
func (b *machoBuilder) describeExtra(x Section) error {
	write, execute, _ := x.access()
	segment, name, ok := strings.Cut(x.Name, ",")
	access := uint32(1)
	if write {
		access |= 2
	}
	if execute {
		access |= 4
	}
	if !ok {
		segment, name = "__TEXT", x.Name
		if write {
			segment = "__DATA"
		}
	}
	if len(segment) > 16 || len(name) > 16 || segment == "" || name == "" {
		return fmt.Errorf("section name %q is not one or two of at most 16 bytes", x.Name)
	}
	if segment == "__LINKEDIT" || segment == "__PAGEZERO" {
		return fmt.Errorf("segment %s has no sections", segment)
	}
	data := x.data()
	s := machoSection{segment: segment, name: name, align: 4, fill: func(uint64) []byte { return data }}
	if len(data) == 0 {
		if s.typ, s.memory = machoZeroFill, uint64(x.Size); segment == "__TEXT" {
			return fmt.Errorf("section %q: memory without bytes cannot be in __TEXT", x.Name)
		}
	}
	b.add(access, s)
	return nil
}

func (b *machoBuilder) fillStubs(addr uint64) []byte {
	a := &assembler{arch: b.arch, addr: addr}
	for _, i := range b.funcsOf {
		i.stub = a.here()
		a.jumpIndirect(i.slot)
	}
	return a.code
}

func (b *machoBuilder) fillGOT(addr uint64) []byte {
	for n, i := range b.imports {
		i.slot = addr + uint64(8*n)
	}
	return make([]byte, 8*len(b.imports))
}

func (b *machoBuilder) fillData(addr uint64) []byte {
	w := writer{}
	for _, v := range b.vars {
		w.pad(8)
		v.addr = addr + uint64(w.len())
		w.bytes(make([]byte, v.size))
	}
	return w.b
}

// layout writes all sections, then the tables of __LINKEDIT, then the load
// commands, and decides where they go.
func (b *machoBuilder) layout() (changed bool) {
	off, addr := uint64(len(b.header)), b.base+uint64(len(b.header))
	for n, g := range b.segments {
		g.off, g.addr = off, addr
		if n == 0 {
			g.off, g.addr = 0, b.base
		}
		end := g.addr - g.off // plus an offset gives an address
		for _, s := range g.sections {
			addr = up(max(addr, end+off), 1<<s.align)
			if s.memory == 0 {
				off = addr - end
			}
			data := s.fill(s.addr)
			changed = changed || s.addr != addr || !bytes.Equal(s.data, data)
			s.data, s.addr, s.off = data, addr, off
			addr += s.size()
			off += uint64(len(data))
		}
		off, addr = up(off, b.page), up(addr, b.page)
		g.fileSize, g.memorySize = off-g.off, addr-g.addr
	}
	tables := b.tables(off)
	changed = changed || len(tables) != int(b.link.fileSize)
	b.link = machoSegment{name: "__LINKEDIT", access: 1, addr: addr, off: off, fileSize: uint64(len(tables)), memorySize: up(uint64(len(tables)), b.page)}
	header := b.loadCommands()
	changed = changed || !bytes.Equal(header, b.header)
	b.header = header
	return changed
}

// tables writes __LINKEDIT, which starts at a file offset, and notes where
// its parts are. The signature is left empty.
func (b *machoBuilder) tables(start uint64) []byte {
	w := &writer{wide: true}
	part := func(at *[2]uint64, data []byte) {
		w.pad(8)
		*at = [2]uint64{start + uint64(w.len()), uint64(len(data))}
		w.bytes(data)
	}
	var names stringTable
	symbols := b.symbolTable(&names)
	part(&b.bind, b.bindings())
	part(&b.trie, exportTrie(b.defined, b.base))
	part(&b.starts, b.functionStarts())
	part(&b.symtab, symbols)
	part(&b.indirect, b.indirectSymbols())
	part(&b.strtab, names.b)
	if b.Signed {
		w.pad(16)
		limit := start + uint64(w.len())
		part(&b.signature, make([]byte, b.signatureSize(limit)))
	}
	return w.b
}

// ordinals numbers libraries from 1.
func (b *machoBuilder) ordinals() map[string]int {
	m := map[string]int{}
	for n, lib := range b.libs {
		m[lib] = n + 1
	}
	return m
}

// bindings are the instructions by which dyld fills __got.
func (b *machoBuilder) bindings() []byte {
	if len(b.imports) == 0 {
		return nil
	}
	w := writer{}
	ordinals := b.ordinals()
	i := slices.IndexFunc(b.segments, func(g *machoSegment) bool { return g.name == "__DATA" })
	data := b.segments[i]
	if b.Kind == "executable" {
		i++ // __PAGEZERO
	}
	for _, m := range b.imports {
		switch n := ordinals[m.Library]; {
		case n == 0:
			w.u8(0x3e) // special ordinal -2: flat lookup
		case n < 16:
			w.u8(0x10 | byte(n))
		default:
			w.u8(0x20)
			w.uleb(uint64(n))
		}
		flags := byte(0)
		if m.Weak {
			flags = 1
		}
		w.u8(0x40 | flags) // name
		w.cstring("_" + m.Name)
		w.u8(0x51, 0x70|byte(i)) // pointer; segment and offset
		w.uleb(m.slot - data.addr)
		w.u8(0x90) // bind
	}
	w.u8(0)
	w.pad(8)
	return w.b
}

// functionStarts is the distances between functions in ULEB128.
func (b *machoBuilder) functionStarts() []byte {
	w := writer{}
	last := b.base
	for _, f := range b.funcs {
		w.uleb(f.addr - last)
		last = f.addr
	}
	w.u8(0)
	w.pad(8)
	return w.b
}

// symbolTable writes local, exported and undefined symbols.
func (b *machoBuilder) symbolTable(names *stringTable) []byte {
	w := writer{}
	names.add("")
	put := func(name string, typ, section byte, desc uint16, value uint64) {
		w.u32(names.add("_" + name))
		w.u8(typ, section)
		w.u16(desc)
		w.u64(value)
	}
	number := map[string]byte{}
	n := byte(0)
	for _, g := range b.segments {
		for _, s := range g.sections {
			if n++; number[s.name] == 0 {
				number[s.name] = n
			}
		}
	}
	for typ, list := range [][]*definition{0xe: b.locals, 0xf: b.defined} {
		for _, d := range list {
			section := "__text"
			if d.Data {
				section = "__data"
			}
			put(d.Name, byte(typ), number[section], 0, d.addr)
		}
	}
	ordinals := b.ordinals()
	for _, i := range b.imports {
		desc := uint16(0xfe00) // looked up dynamically
		if n := ordinals[i.Library]; n > 0 {
			desc = uint16(n) << 8
		}
		if i.Weak {
			desc |= 0x40
		}
		put(i.Name, 1, 0, desc, 0)
	}
	return w.b
}

// indirectSymbols says which symbol each stub and each pointer stands for.
func (b *machoBuilder) indirectSymbols() []byte {
	w := writer{}
	first := len(b.locals) + len(b.defined)
	for n, i := range b.imports {
		if !i.Data {
			w.u32(uint32(first + n))
		}
	}
	for n := range b.imports {
		w.u32(uint32(first + n))
	}
	return w.b
}

// loadCommands writes the header of the file and all load commands.
func (b *machoBuilder) loadCommands() []byte {
	w := &writer{wide: true}
	count := uint32(0)
	command := func(cmd uint32, body func()) {
		at := w.len()
		w.u32(cmd, 0)
		body()
		w.pad(8)
		binary.LittleEndian.PutUint32(w.b[at+4:], uint32(w.len()-at))
		count++
	}
	place := func(p [2]uint64) { w.u32(uint32(p[0]), uint32(p[1])) }
	name := func(cmd uint32, s string, extra ...uint32) {
		command(cmd, func() {
			w.u32(uint32(12 + 4*len(extra)))
			w.u32(extra...)
			w.cstring(s)
		})
	}
	hash := sha256.New()
	if b.Kind == "executable" {
		command(uint32(macho.LoadCmdSegment64), func() { b.segment(w, &machoSegment{name: "__PAGEZERO", memorySize: b.base}) })
	}
	for _, g := range b.segments {
		command(uint32(macho.LoadCmdSegment64), func() { b.segment(w, g) })
		for _, s := range g.sections {
			fmt.Fprintf(hash, "%s,%s:%d:", s.segment, s.name, s.size())
			hash.Write(s.data)
		}
	}
	command(uint32(macho.LoadCmdSegment64), func() { b.segment(w, &b.link) })
	const version = 1 << 16
	if b.Kind == "library" {
		name(lcIDDylib, cmp.Or(b.Name, "@rpath/library.dylib"), 1, version, version)
	}
	command(lcDyldInfoOnly, func() {
		w.u32(0, 0)
		place(b.bind)
		w.u32(0, 0, 0, 0)
		place(b.trie)
	})
	locals, defined, undefined := uint32(len(b.locals)), uint32(len(b.defined)), uint32(len(b.imports))
	command(uint32(macho.LoadCmdSymtab), func() {
		w.u32(uint32(b.symtab[0]), locals+defined+undefined)
		place(b.strtab)
	})
	command(uint32(macho.LoadCmdDysymtab), func() {
		w.u32(0, locals, locals, defined, locals+defined, undefined, 0, 0, 0, 0, 0, 0)
		w.u32(uint32(b.indirect[0]), uint32(b.indirect[1]/4), 0, 0, 0, 0)
	})
	if b.Kind == "executable" {
		name(lcLoadDylinker, cmp.Or(b.Interp, "/usr/lib/dyld"))
	}
	id := hash.Sum(nil)[:16]
	id[6], id[8] = id[6]&0xf|0x50, id[8]&0x3f|0x80 // a name-based UUID
	command(lcUUID, func() { w.bytes(id) })
	command(lcBuildVersion, func() {
		platform := map[string]uint32{"macos": 1, "ios": 2, "tvos": 3, "watchos": 4}[b.OS]
		w.u32(platform, 11<<16, 14<<16, 0)
	})
	command(lcSourceVersion, func() { w.u64(0) })
	if b.Kind == "executable" {
		command(lcMain, func() { w.word(b.entry()-b.base, 0) })
	}
	for _, lib := range b.libs {
		name(lcLoadDylib, lib, 2, version, version)
	}
	for _, r := range b.RPath {
		name(lcRPath, r)
	}
	command(lcFunctionStarts, func() { place(b.starts) })
	if b.Signed {
		command(lcCodeSignature, func() { place(b.signature) })
	}

	h := writer{}
	cpu, kind, flags := cpuOf[b.arch], uint32(6), uint32(0x85) // NOUNDEFS, DYLDLINK, TWOLEVEL
	switch b.Kind {
	case "library":
		flags |= 0x100000 // NO_REEXPORTED_DYLIBS
	case "executable":
		kind, flags = 2, flags|0x200000 // PIE
	case "bundle":
		kind = 8
	}
	h.u32(macho.Magic64, cpu[0], cpu[1], kind, count, uint32(w.len()), flags, 0)
	return append(h.b, w.b...)
}

// cpuOf are types and subtypes of processors.
var cpuOf = map[string][2]uint32{"x86_64": {0x01000007, 3}, "aarch64": {0x0100000c, 0}}

// segment writes the body of LC_SEGMENT_64.
func (b *machoBuilder) segment(w *writer, g *machoSegment) {
	w.name(g.name, 16)
	w.word(g.addr, g.memorySize, g.off, g.fileSize)
	w.u32(g.access, g.access, uint32(len(g.sections)), 0)
	for _, s := range g.sections {
		w.name(s.name, 16)
		w.name(s.segment, 16)
		w.word(s.addr, s.size())
		off := uint32(s.off)
		if s.memory > 0 {
			off = 0
		}
		w.u32(off, s.align, 0, 0, s.typ, s.indirect, s.stub, 0)
	}
}

// entry is the address of _start or main, or else of the first function.
func (b *machoBuilder) entry() uint64 {
	for _, name := range []string{"_start", "main"} {
		if d, ok := b.callees[name].(*definition); ok {
			return d.addr
		}
	}
	return b.funcs[0].addr
}

// file puts everything together and signs it.
func (b *machoBuilder) file() []byte {
	w := writer{}
	w.bytes(b.header)
	for _, g := range b.segments {
		for _, s := range g.sections {
			if s.memory == 0 {
				w.bytes(make([]byte, int(s.off)-w.len()))
				w.bytes(s.data)
			}
		}
		w.bytes(make([]byte, int(g.off+g.fileSize)-w.len()))
	}
	w.bytes(b.tables(b.link.off))
	if b.Signed {
		at := b.signature[0]
		copy(w.b[at:], b.sign(w.b[:at]))
	}
	return w.b
}

const (
	signaturePage   = 4096
	signatureHeader = 20 // of the outer blob with one entry
	codeDirectory   = 88 // of version 0x20400
)

func (b *machoBuilder) identifier() string { return cmp.Or(b.Name, "binary") }

// signatureSize is the size of the signature of a file of that many bytes.
func (b *machoBuilder) signatureSize(limit uint64) int {
	pages := int((limit + signaturePage - 1) / signaturePage)
	return (signatureHeader + codeDirectory + len(b.identifier()) + 1 + pages*sha256.Size + 7) &^ 7
}

// sign makes an ad-hoc signature: the hash of each page, by nobody. Its
// integers are big-endian.
func (b *machoBuilder) sign(code []byte) []byte {
	var out []byte
	put := func(v ...uint32) {
		for _, v := range v {
			out = binary.BigEndian.AppendUint32(out, v)
		}
	}
	id := append([]byte(b.identifier()), 0)
	pages := (len(code) + signaturePage - 1) / signaturePage
	length := codeDirectory + len(id) + pages*sha256.Size
	put(0xfade0cc0, uint32(signatureHeader+length), 1, 0, signatureHeader)
	put(0xfade0c02, uint32(length), 0x20400, 2, uint32(codeDirectory+len(id)), codeDirectory, 0, uint32(pages), uint32(len(code)))
	out = append(out, sha256.Size, 2, 0, 12) // SHA-256, pages of 1<<12
	put(0, 0, 0, 0, 0, 0)                    // no scatter, team or 64-bit limit
	text := b.segments[0]
	put(0, 0, 0, uint32(text.fileSize), 0) // executable segment: base, limit, flags
	if b.Kind == "executable" {
		put(1)
	} else {
		put(0)
	}
	out = append(out, id...)
	for page := range slices.Chunk(code, signaturePage) {
		h := sha256.Sum256(page)
		out = append(out, h[:]...)
	}
	return out
}

// A trieNode is a node of the export trie.
type trieNode struct {
	value    *definition // exported here
	labels   []string
	children []*trieNode
	offset   int
}

// exportTrie writes exports, sorted by name, as the prefix tree that dyld
// searches: each node has the export that ends there and edges to others by
// their offset in ULEB128, whose length settles as offsets grow.
func exportTrie(exports []*definition, base uint64) []byte {
	if len(exports) == 0 {
		return nil
	}
	names := make([]string, len(exports))
	for i, d := range exports {
		names[i] = "_" + d.Name
	}
	var nodes []*trieNode
	var grow func(lo, hi, depth int) *trieNode
	grow = func(lo, hi, depth int) *trieNode {
		n := &trieNode{}
		nodes = append(nodes, n)
		if len(names[lo]) == depth {
			n.value = exports[lo]
			lo++
		}
		for lo < hi {
			end := lo + 1
			for end < hi && names[end][depth] == names[lo][depth] {
				end++
			}
			common := len(commonPrefix(names[lo], names[end-1]))
			n.labels = append(n.labels, names[lo][depth:common])
			n.children = append(n.children, grow(lo, end, common))
			lo = end
		}
		return n
	}
	grow(0, len(names), 0)
	for {
		w, moved := writer{}, false
		for _, n := range nodes {
			moved = moved || n.offset != w.len()
			n.offset = w.len()
			value := writer{}
			if n.value != nil {
				value.uleb(0) // regular
				value.uleb(n.value.addr - base)
			}
			w.uleb(uint64(value.len()))
			w.bytes(value.b)
			w.u8(byte(len(n.children)))
			for i, c := range n.children {
				w.cstring(n.labels[i])
				w.uleb(uint64(c.offset))
			}
		}
		if !moved {
			w.pad(8)
			return w.b
		}
	}
}

// commonPrefix returns what two names start with alike.
func commonPrefix(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// fatMachO puts files for several machines into one (big-endian header).
func fatMachO(arches []string, files [][]byte) []byte {
	const align = 14
	out := binary.BigEndian.AppendUint32(nil, macho.MagicFat)
	out = binary.BigEndian.AppendUint32(out, uint32(len(files)))
	off := uint64(1 << align)
	for n, f := range files {
		for _, v := range []uint32{cpuOf[arches[n]][0], cpuOf[arches[n]][1], uint32(off), uint32(len(f)), align} {
			out = binary.BigEndian.AppendUint32(out, v)
		}
		off = up(off+uint64(len(f)), 1<<align)
	}
	for _, f := range files {
		out = append(pad(out, 1<<align), f...)
	}
	return out
}
