package synth

import (
	"bytes"
	"cmp"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"slices"
)

// Alignment of PE sections in memory and in the file.
const (
	peMemory = 0x1000
	peFile   = 0x200
)

// peSection is a section with the function that writes it for its address,
// which is absolute.
type peSection struct {
	name   string
	flags  uint32
	fill   func(addr uint64) []byte
	memory uint64 // size of a section without bytes

	rva, off uint32
	data     []byte
}

func (s *peSection) size() uint32 { return max(uint32(s.memory), uint32(len(s.data))) }

// peBuilder is a PE file in the making.
//
// Layout follows Microsoft's "PE Format" document.
type peBuilder struct {
	*plan
	wide     bool // PE32+
	base     uint64
	sections []*peSection
	byName   map[string]*peSection
	dirs     [16]pe.DataDirectory
	entry    *definition

	strings uint64 // address of the read-only strings
	unwind  uint64 // address of the unwind information in .rdata
	handles uint64 // address of the delay-load module handles in .data
	helper  uint64 // address of the delay-load helper
	abs     []uint64
}

// peLibrary is a library with its imports, delayed or not.
type peLibrary struct {
	name    string
	imports []*imported
}

func buildPE(p *plan) ([]byte, error) {
	b := &peBuilder{plan: p, wide: p.arch != "x86", byName: map[string]*peSection{}}
	switch {
	case b.wide && p.Kind == "library":
		b.base = 0x180000000
	case b.wide:
		b.base = 0x140000000
	case p.Kind == "library":
		b.base = 0x10000000
	default:
		b.base = 0x400000
	}
	b.enter()
	if err := b.number(); err != nil {
		return nil, err
	}
	if len(p.Sections) > 80 {
		return nil, fmt.Errorf("%d sections are too many", len(p.Sections))
	}
	if err := b.describe(); err != nil {
		return nil, err
	}
	if err := settle(b.layout); err != nil {
		return nil, err
	}
	return b.file(), nil
}

// enter chooses the entry point: _start, or the first function of what is run.
// A library gets one that does nothing, since loaders and tools expect it.
func (b *peBuilder) enter() {
	if d, ok := b.callees["_start"].(*definition); ok {
		b.entry = d
		return
	}
	if b.Kind == "library" {
		yes := map[string]Hex{
			"x86_64":  {0xb8, 1, 0, 0, 0, 0xc3},        // mov eax, 1; ret
			"x86":     {0xb8, 1, 0, 0, 0, 0xc2, 12, 0}, // mov eax, 1; ret 12
			"aarch64": {0x20, 0, 0x80, 0x52, 0xc0, 3, 0x5f, 0xd6},
		}[b.arch]
		b.funcs = append([]*definition{{Definition: Definition{Code: yes}}}, b.funcs...)
	}
	b.entry = b.funcs[0]
}

// number gives each export without an ordinal the next free one.
func (b *peBuilder) number() error {
	taken := map[int]bool{}
	for _, e := range b.exports {
		if e.Ordinal != 0 && taken[e.Ordinal] {
			return fmt.Errorf("export ordinal %d twice", e.Ordinal)
		}
		taken[e.Ordinal] = true
	}
	next := 1
	for _, e := range b.exports {
		if e.Ordinal == 0 {
			for taken[next] {
				next++
			}
			e.Ordinal, taken[next] = next, true
		}
	}
	if next > 0xffff {
		return fmt.Errorf("%d exports are too many", len(b.exports))
	}
	return nil
}

// imported by library, in the order of the libraries.
func (b *peBuilder) libraries(delay bool) []peLibrary {
	index := map[string]int{}
	var out []peLibrary
	with := map[string][2]bool{} // has imports: at once, delayed
	for _, i := range b.imports {
		w := with[i.Library]
		if i.Delay {
			w[1] = true
		} else {
			w[0] = true
		}
		with[i.Library] = w
	}
	for _, lib := range b.libs {
		if w := with[lib]; delay && w[1] || !delay && (w[0] || !w[1]) {
			index[lib] = len(out)
			out = append(out, peLibrary{name: lib})
		}
	}
	for _, i := range b.imports {
		if i.Delay == delay {
			l := &out[index[i.Library]]
			l.imports = append(l.imports, i)
		}
	}
	return out
}

// Section flags: what it holds and what may be done with it.
const (
	peCode  = pe.IMAGE_SCN_CNT_CODE | pe.IMAGE_SCN_MEM_EXECUTE | pe.IMAGE_SCN_MEM_READ
	peConst = pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ
	peData  = peConst | pe.IMAGE_SCN_MEM_WRITE
)

func (b *peBuilder) add(s peSection) {
	b.sections = append(b.sections, &s)
	b.byName[s.name] = &s
}

func (b *peBuilder) describe() error {
	b.add(peSection{name: ".text", flags: peCode, fill: b.fillText})
	if len(b.readOnly())+len(b.libs)+len(b.exports)+len(b.notes) > 0 || b.wide {
		b.add(peSection{name: ".rdata", flags: peConst, fill: b.fillConst})
	}
	if len(b.vars) > 0 || len(b.libraries(true)) > 0 {
		b.add(peSection{name: ".data", flags: peData, fill: b.fillData})
	}
	if b.wide {
		b.add(peSection{name: ".pdata", flags: peConst, fill: b.fillFunctions})
	}
	for _, x := range b.Sections {
		if len(x.Name) > 8 {
			return fmt.Errorf("section name %q is longer than 8 bytes", x.Name)
		}
		if b.byName[x.Name] != nil || x.Name == ".reloc" {
			return fmt.Errorf("section %q twice", x.Name)
		}
		if x.size() == 0 && x.Size == 0 {
			return fmt.Errorf("section %q is empty", x.Name)
		}
		s := peSection{name: x.Name, flags: pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ}
		data := x.data()
		s.fill = func(uint64) []byte { return data }
		if x.size() == 0 {
			s.flags ^= pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_CNT_UNINITIALIZED_DATA
			s.memory = uint64(x.Size)
		}
		write, execute, _ := x.access()
		if write {
			s.flags |= pe.IMAGE_SCN_MEM_WRITE
		}
		if execute {
			s.flags |= pe.IMAGE_SCN_MEM_EXECUTE | pe.IMAGE_SCN_CNT_CODE
		}
		b.add(s)
	}
	if len(b.libraries(true)) > 0 || !b.wide {
		b.add(peSection{name: ".reloc", flags: peConst | pe.IMAGE_SCN_MEM_DISCARDABLE, fill: b.fillRelocations})
	}
	return nil
}

func (b *peBuilder) writer() *writer { return &writer{wide: b.wide} }

func (b *peBuilder) word() int {
	if b.wide {
		return 8
	}
	return 4
}

// directory notes where a table is; addr is absolute.
func (b *peBuilder) directory(n int, addr uint64, size int) {
	b.dirs[n] = pe.DataDirectory{VirtualAddress: uint32(addr - b.base), Size: uint32(size)}
}

// fillText writes the functions and the helper that delayed imports start
// out with.
func (b *peBuilder) fillText(addr uint64) []byte {
	a := &assembler{arch: b.arch, windows: true, addr: addr}
	b.text(a, b.strings)
	if len(b.libraries(true)) > 0 {
		a.pad(16)
		b.helper = a.here()
		a.ret()
	}
	b.abs = a.abs
	return a.code
}

// fillConst writes the import tables, the export table, strings and unwind
// information.
func (b *peBuilder) fillConst(addr uint64) []byte {
	w := b.writer()
	now, delayed := b.libraries(false), b.libraries(true)
	if len(now) > 0 {
		iat := addr
		w.bytes(make([]byte, b.thunks(now)))
		at := w.len()
		w.bytes(make([]byte, 20*(len(now)+1)))
		b.directory(pe.IMAGE_DIRECTORY_ENTRY_IAT, iat, at)
		b.directory(pe.IMAGE_DIRECTORY_ENTRY_IMPORT, addr+uint64(at), w.len()-at)
		names := b.thunkNames(w, addr, now)
		slot := 0
		for n, lib := range now {
			table := b.rva(addr + uint64(w.len()))
			copy(w.b[slot:], names[n].b) // the address table starts out as the name table
			for k, i := range lib.imports {
				i.slot = addr + uint64(slot+k*b.word())
			}
			d := writer{}
			d.u32(table, 0, 0, b.libraryName(w, addr, names[n], lib.name), b.rva(addr)+uint32(slot))
			copy(w.b[at+20*n:], d.b)
			slot += len(names[n].b)
		}
	}
	if len(delayed) > 0 {
		w.pad(4)
		at := w.len()
		w.bytes(make([]byte, 32*(len(delayed)+1)))
		b.directory(pe.IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT, addr+uint64(at), w.len()-at)
		names := b.thunkNames(w, addr, delayed)
		slots := b.handles + uint64(len(delayed)*b.word())
		for n, lib := range delayed {
			table := b.rva(addr + uint64(w.len()))
			for k, i := range lib.imports {
				i.slot = slots + uint64(k*b.word())
			}
			d := writer{}
			d.u32(1, b.libraryName(w, addr, names[n], lib.name), b.rva(b.handles)+uint32(n*b.word()), b.rva(slots), table)
			copy(w.b[at+32*n:], d.b)
			slots += uint64(len(lib.imports) * b.word())
		}
	}
	if len(b.exports) > 0 {
		b.exportTable(w, addr)
	}
	w.pad(16)
	b.strings = addr + uint64(w.len())
	w.bytes(b.readOnly())
	for _, n := range b.notes {
		w.cstring(n)
	}
	if b.wide {
		w.pad(4)
		b.unwind = addr + uint64(w.len())
		for _, f := range b.funcs {
			w.bytes(b.unwindInfo(f))
		}
	}
	return w.b
}

func (b *peBuilder) rva(addr uint64) uint32 { return uint32(addr - b.base) }

// thunks is the size of the address tables of libraries.
func (b *peBuilder) thunks(libs []peLibrary) int {
	n := 0
	for _, l := range libs {
		n += len(l.imports) + 1
	}
	return n * b.word()
}

// thunkNames writes hints and names of imports, and returns for each library
// the table of their addresses, with ordinals where there is no name.
func (b *peBuilder) thunkNames(w *writer, addr uint64, libs []peLibrary) []*writer {
	var tables []*writer
	for _, lib := range libs {
		t := b.writer()
		for _, i := range lib.imports {
			if i.Ordinal != 0 {
				t.word(1<<(8*b.word()-1) | uint64(i.Ordinal))
				continue
			}
			w.pad(2)
			t.word(uint64(b.rva(addr + uint64(w.len()))))
			w.u16(0)
			w.cstring(i.Name)
		}
		t.word(0)
		tables = append(tables, t)
	}
	w.pad(8)
	return tables
}

// libraryName writes a library's name table and name, and returns where the
// name is.
func (b *peBuilder) libraryName(w *writer, addr uint64, table *writer, name string) uint32 {
	w.bytes(table.b)
	at := b.rva(addr + uint64(w.len()))
	w.cstring(name)
	w.pad(8)
	return at
}

// exportTable writes the export directory with its three tables and strings.
func (b *peBuilder) exportTable(w *writer, addr uint64) {
	w.pad(4)
	start := w.len()
	first, last := b.exports[0].Ordinal, b.exports[0].Ordinal
	for _, e := range b.exports {
		first, last = min(first, e.Ordinal), max(last, e.Ordinal)
	}
	sorted := slices.SortedFunc(slices.Values(b.exports), func(x, y *definition) int { return cmp.Compare(x.Name, y.Name) })
	addresses := make([]uint32, last-first+1)
	tables := start + 40
	strings := tables + 4*len(addresses) + 6*len(sorted)
	text := writer{}
	put := func(s string) uint32 {
		at := b.rva(addr + uint64(strings+text.len()))
		text.cstring(s)
		return at
	}
	self := put(cmp.Or(b.Name, "library.dll"))
	var names []uint32
	ordinals := writer{}
	for _, e := range sorted {
		names = append(names, put(e.Name))
		ordinals.u16(uint16(e.Ordinal - first))
		if addresses[e.Ordinal-first] = b.rva(e.addr); e.Forward != "" {
			addresses[e.Ordinal-first] = put(e.Forward)
		}
	}
	at := b.rva(addr + uint64(tables))
	w.u32(0, 0, 0, self, uint32(first), uint32(len(addresses)), uint32(len(names)))
	w.u32(at, at+uint32(4*len(addresses)), at+uint32(4*len(addresses)+4*len(names)))
	w.u32(addresses...)
	w.u32(names...)
	w.bytes(ordinals.b)
	w.bytes(text.b)
	b.directory(pe.IMAGE_DIRECTORY_ENTRY_EXPORT, addr+uint64(start), w.len()-start)
}

// unwindInfo describes what assembler.prologue does; 8 bytes on each machine.
func (b *peBuilder) unwindInfo(f *definition) []byte {
	switch {
	case b.arch == "x86_64" && f.frame():
		return []byte{1, 4, 1, 0, 4, (winFrame-8)/8<<4 | 2, 0, 0} // UWOP_ALLOC_SMALL
	case b.arch == "x86_64":
		return []byte{1, 0, 0, 0, 0, 0, 0, 0}
	}
	codes := []byte{0xe4, 0xe3, 0xe3, 0xe3} // end, nop…
	if f.frame() {
		codes = []byte{0xe1, 0x81, 0xe4, 0xe3} // set_fp, save_fplr_x 16, end
	}
	w := writer{}
	w.u32(1<<27 | uint32((f.size+3)/4)) // one word of codes
	return append(w.b, codes...)
}

// fillFunctions writes .pdata, the table of all functions.
func (b *peBuilder) fillFunctions(addr uint64) []byte {
	w := b.writer()
	for n, f := range b.funcs {
		w.u32(b.rva(f.addr))
		if b.arch == "x86_64" {
			w.u32(b.rva(f.addr + f.size))
		}
		w.u32(b.rva(b.unwind) + uint32(8*n))
	}
	b.directory(pe.IMAGE_DIRECTORY_ENTRY_EXCEPTION, addr, w.len())
	return w.b
}

// fillData writes module handles and address tables of delayed imports, and
// the variables.
func (b *peBuilder) fillData(addr uint64) []byte {
	w := b.writer()
	b.handles = addr
	delayed := b.libraries(true)
	w.bytes(make([]byte, len(delayed)*b.word()))
	for _, lib := range delayed {
		for range lib.imports {
			w.word(b.helper)
		}
	}
	for _, v := range b.vars {
		w.pad(8)
		v.addr = addr + uint64(w.len())
		w.bytes(make([]byte, v.size))
	}
	return w.b
}

// fillRelocations writes the base relocations of addresses in code and in
// the address tables of delayed imports.
func (b *peBuilder) fillRelocations(addr uint64) []byte {
	kind := uint16(3) // HIGHLOW
	if b.wide {
		kind = 10 // DIR64
	}
	places := slices.Clone(b.abs)
	for _, i := range b.imports {
		if i.Delay {
			places = append(places, i.slot)
		}
	}
	slices.Sort(places)
	w := b.writer()
	for n := 0; n < len(places); {
		page, block := places[n]&^0xfff, writer{}
		for ; n < len(places) && places[n]&^0xfff == page; n++ {
			block.u16(kind<<12 | uint16(places[n]&0xfff))
		}
		block.pad(4)
		w.u32(b.rva(page), uint32(8+block.len()))
		w.bytes(block.b)
	}
	if w.len() == 0 {
		w.u32(0, 8) // an empty block
	}
	b.directory(pe.IMAGE_DIRECTORY_ENTRY_BASERELOC, addr, w.len())
	return w.b
}

const peHeader = 0x80 // offset of the PE signature

// optionalSize is the size of the optional header.
func (b *peBuilder) optionalSize() int {
	if b.wide {
		return 240
	}
	return 224
}

func (b *peBuilder) headerSize() uint32 {
	return uint32(up(uint64(peHeader+24+b.optionalSize()+40*len(b.sections)), peFile))
}

// layout writes all sections and decides where they go.
func (b *peBuilder) layout() (changed bool) {
	off := b.headerSize()
	rva := uint32(up(uint64(off), peMemory))
	for _, s := range b.sections {
		data := s.fill(b.base + uint64(s.rva))
		changed = changed || s.rva != rva || !bytes.Equal(s.data, data)
		s.data, s.off, s.rva = data, off, rva
		off += uint32(up(uint64(len(s.data)), peFile))
		rva += uint32(up(uint64(s.size()), peMemory))
	}
	return changed
}

// file puts everything together.
func (b *peBuilder) file() []byte {
	w := b.writer()
	b.dosHeader(w)
	body := b.sections[len(b.sections)-1]
	image := up(uint64(body.rva)+uint64(body.size()), peMemory)

	w.bytes([]byte("PE\x00\x00"))
	w.u16(map[string]uint16{"x86_64": pe.IMAGE_FILE_MACHINE_AMD64, "x86": pe.IMAGE_FILE_MACHINE_I386, "aarch64": pe.IMAGE_FILE_MACHINE_ARM64}[b.arch])
	w.u16(uint16(len(b.sections)))
	w.u32(0, b.symbolOffset(), uint32(len(b.symbols)))
	w.u16(uint16(b.optionalSize()))
	flags := uint16(pe.IMAGE_FILE_EXECUTABLE_IMAGE)
	if b.wide {
		flags |= pe.IMAGE_FILE_LARGE_ADDRESS_AWARE
	} else {
		flags |= pe.IMAGE_FILE_32BIT_MACHINE
	}
	if b.Kind == "library" {
		flags |= pe.IMAGE_FILE_DLL
	}
	w.u16(flags)
	b.optionalHeader(w, uint32(image))
	for _, s := range b.sections {
		w.name(s.name, 8)
		offset := s.off
		if len(s.data) == 0 {
			offset = 0
		}
		w.u32(s.size(), s.rva, uint32(up(uint64(len(s.data)), peFile)), offset, 0, 0, 0, s.flags)
	}
	w.pad(peFile)
	for _, s := range b.sections {
		w.bytes(s.data)
		w.pad(peFile)
	}
	b.symbolTable(w)
	w.bytes(b.Overlay.bytes("overlay"))
	if b.Signed {
		w.pad(8)
		at := peHeader + 24 + b.optionalSize() - 16*8 + 4*8
		binary.LittleEndian.PutUint32(w.b[at:], uint32(w.len()))
		binary.LittleEndian.PutUint32(w.b[at+4:], uint32(up(uint64(8+len(unsigned)), 8)))
		w.u32(uint32(up(uint64(8+len(unsigned)), 8)))
		w.u16(0x200)
		w.u16(2) // PKCS #7
		w.bytes(unsigned)
		w.pad(8)
	}
	binary.LittleEndian.PutUint32(w.b[peHeader+24+64:], checksum(w.b))
	return w.b
}

// symbolOffset is where the COFF symbol table is, behind all sections.
func (b *peBuilder) symbolOffset() uint32 {
	if len(b.symbols) == 0 {
		return 0
	}
	last := b.sections[len(b.sections)-1]
	return last.off + uint32(up(uint64(len(last.data)), peFile))
}

// symbolTable writes the COFF symbols and their strings, as GNU linkers do.
func (b *peBuilder) symbolTable(w *writer) {
	if len(b.symbols) == 0 {
		return
	}
	strings := writer{}
	for _, d := range b.symbols {
		if len(d.Name) <= 8 {
			w.name(d.Name, 8)
		} else {
			w.u32(0, uint32(4+strings.len()))
			strings.cstring(d.Name)
		}
		section, kind := ".text", uint16(0x20) // a function
		if d.Data {
			section, kind = ".data", 0
		}
		n := slices.Index(b.sections, b.byName[section])
		w.u32(b.rva(d.addr) - b.sections[n].rva)
		w.u16(uint16(n + 1))
		w.u16(kind)
		w.u8(2, 0) // external
	}
	w.u32(uint32(4 + strings.len()))
	w.bytes(strings.b)
}

// unsigned is PKCS #7 SignedData without content, certificates or signers
// (RFC 2315, section 9.1), in DER.
var unsigned = []byte{
	0x30, 0x23,
	0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, // signedData
	0xa0, 0x16, 0x30, 0x14,
	0x02, 0x01, 0x01, // version 1
	0x31, 0x00, // no digest algorithms
	0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01, // data
	0x31, 0x00, // no signers
}

// dosHeader writes the MZ header and the program that says what DOS cannot do.
func (b *peBuilder) dosHeader(w *writer) {
	for _, v := range []uint16{'M' | 'Z'<<8, 0x90, 3, 0, 4, 0, 0xffff, 0, 0xb8, 0, 0, 0, 0x40} {
		w.u16(v)
	}
	w.bytes(make([]byte, 60-w.len()))
	w.u32(peHeader)
	w.u8(0x0e, 0x1f, 0xba, 0x0e, 0x00, 0xb4, 0x09, 0xcd, 0x21, 0xb8, 0x01, 0x4c, 0xcd, 0x21)
	w.bytes([]byte("This program cannot be run in DOS mode.\r\r\n$"))
	w.bytes(make([]byte, peHeader-w.len()))
}

func (b *peBuilder) optionalHeader(w *writer, image uint32) {
	magic := uint16(0x10b)
	if b.wide {
		magic = 0x20b
	}
	w.u16(magic)
	w.u8(14, 0)
	var code, data, zero uint32
	for _, s := range b.sections {
		n := uint32(up(uint64(len(s.data)), peFile))
		switch {
		case s.flags&pe.IMAGE_SCN_CNT_CODE != 0:
			code += n
		case s.flags&pe.IMAGE_SCN_CNT_INITIALIZED_DATA != 0:
			data += n
		default:
			zero += uint32(s.memory)
		}
	}
	w.u32(code, data, zero, b.rva(b.entry.addr), b.sections[0].rva)
	if !b.wide {
		w.u32(b.sections[min(1, len(b.sections)-1)].rva)
	}
	w.word(b.base)
	w.u32(peMemory, peFile)
	for _, v := range []uint16{6, 0, 0, 0, 6, 0} { // versions: system, image, subsystem
		w.u16(v)
	}
	w.u32(0, image, b.headerSize(), 0)
	w.u16(b.subsystem())
	flags := uint16(0x140) // DYNAMIC_BASE, NX_COMPAT
	if b.wide {
		flags |= 0x20 // HIGH_ENTROPY_VA
	}
	w.u16(flags)
	w.word(0x100000, 0x1000, 0x100000, 0x1000)
	w.u32(0, uint32(len(b.dirs)))
	for _, d := range b.dirs {
		w.u32(d.VirtualAddress, d.Size)
	}
}

func (b *peBuilder) subsystem() uint16 {
	switch {
	case b.OS == "uefi" && b.Kind == "driver":
		return 12 // EFI_RUNTIME_DRIVER
	case b.OS == "uefi":
		return 10 // EFI_APPLICATION
	case b.Kind == "driver":
		return 1 // NATIVE
	case b.Kind == "library":
		return 2 // WINDOWS_GUI, which linkers give to libraries
	}
	return 3 // WINDOWS_CUI
}

// checksum is the sum of the optional header over a file in which it is zero.
func checksum(file []byte) uint32 {
	var sum uint32
	for i := 0; i < len(file); i += 2 {
		v := uint32(file[i])
		if i+1 < len(file) {
			v |= uint32(file[i+1]) << 8
		}
		sum += v
		sum = sum&0xffff + sum>>16
	}
	return sum + uint32(len(file))
}
