package synth

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// elfMachine is what differs between the instruction sets of ELF.
type elfMachine struct {
	machine            elf.Machine
	wide               bool   // 64 bits
	flags              uint32 // of the file header
	page               uint64
	globDat, jumpSlot  uint32
	cie                []byte // from the code alignment factor to the initial instructions
	frameRules         []byte // call frame instructions behind the prologue
	interp             string
	interpDroid        string // of Android
	explicitAddends    bool   // RELA
	exceptionIndexOnly bool   // .ARM.exidx instead of .eh_frame
}

// The machines, after their psABI supplements. Frame rules describe what
// assembler.prologue writes.
var elfMachines = map[string]elfMachine{
	"x86_64": {
		machine: elf.EM_X86_64, wide: true, page: 0x1000, globDat: 6, jumpSlot: 7, explicitAddends: true,
		cie:        []byte{1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1}, // def_cfa rsp+8; ra at cfa-8
		frameRules: []byte{0x44, 0x0e, 16},                            // advance 4; def_cfa_offset 16
		interp:     "/lib64/ld-linux-x86-64.so.2", interpDroid: "/system/bin/linker64",
	},
	"x86": {
		machine: elf.EM_386, page: 0x1000, globDat: 6, jumpSlot: 7,
		cie:        []byte{1, 0x7c, 8, 1, 0x1b, 0x0c, 4, 4, 0x88, 1},
		frameRules: []byte{0x41, 0x0e, 8, 0x85, 2, 0x42, 0x0d, 5}, // ebp at cfa-8, then cfa from ebp
		interp:     "/lib/ld-linux.so.2", interpDroid: "/system/bin/linker",
	},
	"aarch64": {
		machine: elf.EM_AARCH64, wide: true, page: 0x10000, globDat: 1025, jumpSlot: 1026, explicitAddends: true,
		cie:        []byte{4, 0x78, 30, 1, 0x1b, 0x0c, 31, 0},
		frameRules: []byte{0x41, 0x0e, 16, 0x9d, 2, 0x9e, 1},
		interp:     "/lib/ld-linux-aarch64.so.1", interpDroid: "/system/bin/linker64",
	},
	"arm": {
		machine: elf.EM_ARM, page: 0x1000, globDat: 21, jumpSlot: 22, flags: 0x05000400, exceptionIndexOnly: true,
		interp: "/lib/ld-linux-armhf.so.3", interpDroid: "/system/bin/linker",
	},
	"riscv64": {
		machine: elf.EM_RISCV, wide: true, page: 0x1000, globDat: 2, jumpSlot: 5, flags: 4, explicitAddends: true,
		cie:        []byte{4, 0x78, 1, 1, 0x1b, 0x0c, 2, 0},
		frameRules: []byte{0x42, 0x0e, 16, 0x81, 1}, // behind the store of ra
		interp:     "/lib/ld-linux-riscv64-lp64d.so.1", interpDroid: "/system/bin/linker64",
	},
}

// elfSection is a section with the function that writes it.
type elfSection struct {
	name    string
	typ     elf.SectionType
	flags   elf.SectionFlag
	link    string // name of another section
	info    uint32
	infoOf  string // name of the section that info is the index of
	align   uint64
	entsize uint64
	fill    func() []byte
	memory  uint64 // size of a section without bytes

	segment   int
	index     int // in the section header table
	addr, off uint64
	data      []byte
}

func (s *elfSection) size() uint64 { return max(s.memory, uint64(len(s.data))) }

// elfSegment is a PT_LOAD.
type elfSegment struct {
	flags                elf.ProgFlag
	addr, off            uint64
	fileSize, memorySize uint64
}

// elfFile is an ELF file in the making.
//
// Layout follows the System V gABI, chapters 4 and 5, and the LSB for
// .eh_frame, .eh_frame_hdr and symbol versions.
type elfFile struct {
	*plan
	elfMachine
	object, dynamic bool
	sections        []*elfSection // in the order of the file
	byName          map[string]*elfSection
	segments        []*elfSegment

	dynstr, strtab, shstrtab stringTable
	versions                 []elfVersions
	versionIndex             map[[2]string]uint16 // by library and version

	plt, got []*imported // functions and variables
	lazy     []uint64    // what the slots of .got.plt hold at first
	fdes     []uint64    // addresses in .eh_frame, by function
	rel      string      // prefix of the names of relocation sections
	note     string      // name of the note section
	end      uint64      // offset of the section headers
}

// elfVersions are the versions needed of one library.
type elfVersions struct {
	library string
	names   []string
}

func buildELF(p *plan) ([]byte, error) {
	e := &elfFile{plan: p, elfMachine: elfMachines[p.arch], object: p.Kind == "object", byName: map[string]*elfSection{}}
	if e.object && (len(p.libs) > 0 || len(p.exports) > 0 || len(p.RPath) > 0 || p.Interp != "" || p.Name != "" || len(p.Go) > 0) {
		return nil, errors.New("an object has no libraries, exports, rpath, interp, name or go functions")
	}
	e.dynamic = !e.object && (p.Kind == "library" || len(p.imports)+len(p.libs)+len(p.exports)+len(p.RPath) > 0 || p.Interp != "")
	for _, i := range p.imports {
		if i.Data {
			e.got = append(e.got, i)
		} else {
			e.plt = append(e.plt, i)
		}
	}
	if err := e.needVersions(); err != nil {
		return nil, err
	}
	if len(p.Sections) > 1<<15 {
		return nil, fmt.Errorf("%d sections are too many", len(p.Sections))
	}
	e.describe()
	if err := settle(e.layout); err != nil {
		return nil, err
	}
	return e.file(), nil
}

// needVersions numbers the symbol versions by library, from 2: 0 and 1 stand
// for local and global.
func (e *elfFile) needVersions() error {
	byLibrary := map[string][]string{}
	e.versionIndex = map[[2]string]uint16{}
	for _, i := range e.imports {
		key := [2]string{i.Library, i.Version}
		if _, ok := e.versionIndex[key]; !ok && i.Version != "" {
			e.versionIndex[key] = 0
			byLibrary[i.Library] = append(byLibrary[i.Library], i.Version)
		}
	}
	if len(e.versionIndex) > 0x7000 {
		return fmt.Errorf("%d symbol versions are too many", len(e.versionIndex))
	}
	next := uint16(2)
	for _, lib := range e.libs {
		names := byLibrary[lib]
		if len(names) == 0 {
			continue
		}
		e.versions = append(e.versions, elfVersions{lib, names})
		for _, name := range names {
			e.versionIndex[[2]string{lib, name}] = next
			next++
		}
	}
	return nil
}

// Segments, by what may be done with them. The headers lie in the first.
const (
	segLink  = iota // r: what the dynamic linker reads
	segCode         // rx
	segConst        // r
	segData         // rw
	segAll          // rwx
	segNone         // not mapped
)

var segmentFlags = [...]elf.ProgFlag{elf.PF_R, elf.PF_R | elf.PF_X, elf.PF_R, elf.PF_R | elf.PF_W, elf.PF_R | elf.PF_W | elf.PF_X}

// add puts a section into a segment.
func (e *elfFile) add(segment int, s elfSection) {
	if segment != segNone {
		s.flags |= elf.SHF_ALLOC
		if segmentFlags[segment]&elf.PF_W != 0 {
			s.flags |= elf.SHF_WRITE
		}
		if segmentFlags[segment]&elf.PF_X != 0 {
			s.flags |= elf.SHF_EXECINSTR
		}
	}
	s.segment, s.align = segment, max(s.align, 1)
	if s.fill == nil {
		s.fill = func() []byte { return nil }
	}
	e.sections = append(e.sections, &s)
}

// constant is the fill of a section that depends on no address.
func constant(b []byte) func() []byte { return func() []byte { return b } }

// describe lists the sections in the order of the file.
func (e *elfFile) describe() {
	if !e.object {
		e.describeNotes()
	}
	if e.dynamic {
		e.describeLinking()
	}
	if len(e.plt) > 0 && e.dynamic {
		_, entry := pltSizes(e.arch)
		e.add(segCode, elfSection{name: ".plt", typ: elf.SHT_PROGBITS, align: 16, entsize: entry, fill: e.fillPLT})
	}
	e.add(segCode, elfSection{name: ".text", typ: elf.SHT_PROGBITS, align: 16, fill: func() []byte {
		return e.text(&assembler{arch: e.arch, addr: e.at(".text"), got: e.at(".got.plt")}, e.at(".rodata"))
	}})
	if b := e.readOnly(); len(b) > 0 {
		e.add(segConst, elfSection{name: ".rodata", typ: elf.SHT_PROGBITS, align: 16, fill: constant(b)})
	}
	switch {
	case e.object:
	case e.exceptionIndexOnly:
		e.add(segConst, elfSection{name: ".ARM.exidx", typ: 0x70000001, flags: elf.SHF_LINK_ORDER, link: ".text", align: 4, fill: e.fillExceptionIndex})
	default:
		e.fdes = make([]uint64, len(e.funcs))
		e.add(segConst, elfSection{name: ".eh_frame_hdr", typ: elf.SHT_PROGBITS, align: 4, fill: e.fillFrameIndex})
		e.add(segConst, elfSection{name: ".eh_frame", typ: elf.SHT_PROGBITS, align: 8, fill: e.fillFrames})
	}
	if len(e.Go) > 0 {
		e.add(segConst, elfSection{name: ".gopclntab", typ: elf.SHT_PROGBITS, align: 32, fill: func() []byte {
			return pclntab(e.funcs[len(e.funcs)-len(e.Go):], e.at(".text"), e.wide, e.arch)
		}})
	}
	if e.dynamic {
		e.add(segData, elfSection{name: ".dynamic", typ: elf.SHT_DYNAMIC, link: ".dynstr", align: e.word(), entsize: 2 * e.word(), fill: e.fillDynamic})
		if len(e.got) > 0 {
			e.add(segData, elfSection{name: ".got", typ: elf.SHT_PROGBITS, align: e.word(), entsize: e.word(), fill: e.fillGOT})
		}
		e.add(segData, elfSection{name: ".got.plt", typ: elf.SHT_PROGBITS, align: e.word(), entsize: e.word(), fill: e.fillGOTPLT})
	}
	if len(e.vars) > 0 {
		e.add(segData, elfSection{name: ".data", typ: elf.SHT_PROGBITS, align: 8, fill: e.fillData})
	}
	e.describeExtra()
	if len(e.notes) > 0 {
		w := writer{}
		for _, n := range e.notes {
			w.cstring(n)
		}
		e.add(segNone, elfSection{name: ".comment", typ: elf.SHT_PROGBITS, flags: elf.SHF_MERGE | elf.SHF_STRINGS, entsize: 1, fill: constant(w.b)})
	}
	e.strtab.add("")
	if len(e.symbols) > 0 || e.object {
		e.add(segNone, elfSection{name: ".symtab", typ: elf.SHT_SYMTAB, link: ".strtab", info: 1, align: e.word(), entsize: e.symbolSize(), fill: e.fillSymbols})
		e.add(segNone, elfSection{name: ".strtab", typ: elf.SHT_STRTAB, fill: func() []byte { return e.strtab.b }})
	}
	e.add(segNone, elfSection{name: ".shstrtab", typ: elf.SHT_STRTAB, fill: func() []byte { return e.shstrtab.b }})

	// Memory without bytes comes last in its segment.
	slices.SortStableFunc(e.sections, func(a, b *elfSection) int {
		return cmp.Or(cmp.Compare(a.segment, b.segment), cmp.Compare(a.memory, b.memory))
	})
	for i, s := range e.sections {
		s.index = i + 1
		e.shstrtab.add(s.name)
		if e.byName[s.name] == nil {
			e.byName[s.name] = s
		}
	}
}

// describeExtra adds the sections of the description.
func (e *elfFile) describeExtra() {
	for _, x := range e.Sections {
		s := elfSection{name: x.Name, typ: elf.SHT_PROGBITS, align: 16, fill: constant(x.data())}
		if x.size() == 0 {
			s.typ, s.memory = elf.SHT_NOBITS, uint64(x.Size)
		}
		write, execute, mapped := x.access()
		switch {
		case !mapped:
			e.add(segNone, s)
		case write && execute:
			e.add(segAll, s)
		case write:
			e.add(segData, s)
		case execute:
			e.add(segCode, s)
		default:
			e.add(segConst, s)
		}
	}
}

// describeNotes adds what says which system the file is for, and which
// program loads it.
func (e *elfFile) describeNotes() {
	note := map[string]struct {
		section, owner string
		desc           []uint32
	}{
		"linux":   {".note.ABI-tag", "GNU", []uint32{0, 3, 2, 0}},
		"android": {".note.android.ident", "Android", []uint32{21}},
		"freebsd": {".note.tag", "FreeBSD", []uint32{1400097}},
		"netbsd":  {".note.netbsd.ident", "NetBSD", []uint32{1000000000}},
		"openbsd": {".note.openbsd.ident", "OpenBSD", []uint32{0}},
	}[e.OS]
	w := writer{}
	w.u32(uint32(len(note.owner)+1), uint32(4*len(note.desc)), 1)
	w.cstring(note.owner)
	w.pad(4)
	w.u32(note.desc...)
	e.add(segLink, elfSection{name: note.section, typ: elf.SHT_NOTE, align: 4, fill: constant(w.b)})
	e.note = note.section

	interp := e.Interp
	if interp == "" && e.Kind == "executable" && e.dynamic {
		switch e.OS {
		case "linux":
			interp = e.interp
		case "android":
			interp = e.interpDroid
		case "freebsd":
			interp = "/libexec/ld-elf.so.1"
		case "netbsd":
			interp = "/usr/libexec/ld.elf_so"
		case "openbsd":
			interp = "/usr/libexec/ld.so"
		}
	}
	if interp != "" {
		e.add(segLink, elfSection{name: ".interp", typ: elf.SHT_PROGBITS, fill: constant(append([]byte(interp), 0))})
	}
}

// describeLinking adds what the dynamic linker reads.
func (e *elfFile) describeLinking() {
	for _, i := range e.imports {
		e.dynstr.add(i.Name)
	}
	for _, list := range [][]string{e.libs, {e.Name, strings.Join(e.RPath, ":")}} {
		for _, s := range list {
			e.dynstr.add(s)
		}
	}
	for _, d := range e.exports {
		e.dynstr.add(d.Name)
	}
	for _, v := range e.versions {
		for _, name := range v.names {
			e.dynstr.add(name)
		}
	}
	e.add(segLink, elfSection{name: ".hash", typ: elf.SHT_HASH, link: ".dynsym", align: 8, entsize: 4, fill: constant(e.hash())})
	e.add(segLink, elfSection{name: ".dynsym", typ: elf.SHT_DYNSYM, link: ".dynstr", info: 1, align: e.word(), entsize: e.symbolSize(), fill: e.fillDynamicSymbols})
	e.add(segLink, elfSection{name: ".dynstr", typ: elf.SHT_STRTAB, fill: func() []byte { return e.dynstr.b }})
	if len(e.versions) > 0 {
		e.add(segLink, elfSection{name: ".gnu.version", typ: elf.SHT_GNU_VERSYM, link: ".dynsym", align: 2, entsize: 2, fill: constant(e.versionOfSymbols())})
		e.add(segLink, elfSection{name: ".gnu.version_r", typ: elf.SHT_GNU_VERNEED, link: ".dynstr", info: uint32(len(e.versions)), align: 8, fill: constant(e.versionNeeds())})
	}
	name, typ := ".rel", elf.SHT_REL
	if e.explicitAddends {
		name, typ = ".rela", elf.SHT_RELA
	}
	if len(e.got) > 0 {
		e.add(segLink, elfSection{name: name + ".dyn", typ: typ, link: ".dynsym", align: e.word(), entsize: e.relocationSize(), fill: func() []byte { return e.relocations(true, e.globDat) }})
	}
	if len(e.plt) > 0 {
		e.add(segLink, elfSection{name: name + ".plt", typ: typ, flags: elf.SHF_INFO_LINK, link: ".dynsym", infoOf: ".got.plt", align: e.word(), entsize: e.relocationSize(), fill: func() []byte { return e.relocations(false, e.jumpSlot) }})
	}
	e.rel = name
}

// at returns the address of a section, 0 if there is none.
func (e *elfFile) at(name string) uint64 {
	if s := e.byName[name]; s != nil {
		return s.addr
	}
	return 0
}

// writer returns a writer of the file's word size.
func (e *elfFile) writer() *writer { return &writer{wide: e.wide} }

// word is the size of an address in bytes.
func (e *elfFile) word() uint64 {
	if e.wide {
		return 8
	}
	return 4
}

func (e *elfFile) symbolSize() uint64 {
	if e.wide {
		return 24
	}
	return 16
}

func (e *elfFile) relocationSize() uint64 {
	if e.explicitAddends {
		return 3 * e.word()
	}
	return 2 * e.word()
}

// symbol writes an entry of a symbol table.
func (e *elfFile) symbol(w *writer, name uint32, bind elf.SymBind, typ elf.SymType, section int, addr, size uint64) {
	info := byte(bind)<<4 | byte(typ)
	if e.wide {
		w.u32(name)
		w.u8(info, 0)
		w.u16(uint16(section))
		w.word(addr, size)
		return
	}
	w.u32(name, uint32(addr), uint32(size))
	w.u8(info, 0)
	w.u16(uint16(section))
}

func (e *elfFile) undefined(w *writer, i *imported, name uint32) {
	bind, typ := elf.STB_GLOBAL, elf.STT_FUNC
	if i.Weak {
		bind = elf.STB_WEAK
	}
	if i.Data {
		typ = elf.STT_OBJECT
	}
	if e.object {
		typ = elf.STT_NOTYPE
	}
	e.symbol(w, name, bind, typ, 0, 0, 0)
}

func (e *elfFile) defined(w *writer, d *definition, name uint32) {
	typ, section := elf.STT_FUNC, e.byName[".text"]
	if d.Data {
		typ, section = elf.STT_OBJECT, e.byName[".data"]
	}
	e.symbol(w, name, elf.STB_GLOBAL, typ, section.index, d.addr, d.size)
}

func (e *elfFile) fillDynamicSymbols() []byte {
	w := e.writer()
	e.symbol(w, 0, 0, 0, 0, 0, 0)
	for _, i := range e.imports {
		e.undefined(w, i, e.dynstr.add(i.Name))
	}
	for _, d := range e.exports {
		e.defined(w, d, e.dynstr.add(d.Name))
	}
	return w.b
}

func (e *elfFile) fillSymbols() []byte {
	w := e.writer()
	e.symbol(w, 0, 0, 0, 0, 0, 0)
	if e.object {
		for _, i := range e.imports {
			e.undefined(w, i, e.strtab.add(i.Name))
		}
	}
	for _, d := range e.symbols {
		e.defined(w, d, e.strtab.add(d.Name))
	}
	return w.b
}

// hash is the table by which the dynamic linker finds symbols (gABI, "Hash
// Table").
func (e *elfFile) hash() []byte {
	names := []string{""}
	for _, i := range e.imports {
		names = append(names, i.Name)
	}
	for _, d := range e.exports {
		names = append(names, d.Name)
	}
	buckets := make([]uint32, len(names)/2+1)
	chain := make([]uint32, len(names))
	for n, name := range names[1:] {
		b := hashName(name) % uint32(len(buckets))
		chain[n+1], buckets[b] = buckets[b], uint32(n+1)
	}
	w := writer{}
	w.u32(uint32(len(buckets)), uint32(len(chain)))
	w.u32(buckets...)
	w.u32(chain...)
	return w.b
}

func hashName(name string) uint32 {
	var h uint32
	for _, c := range []byte(name) {
		h = h<<4 + uint32(c)
		top := h & 0xf0000000
		h ^= top >> 24
		h &^= top
	}
	return h
}

func (e *elfFile) versionOfSymbols() []byte {
	w := writer{}
	w.u16(0)
	for _, i := range e.imports {
		v := uint16(1)
		if i.Version != "" {
			v = e.versionIndex[[2]string{i.Library, i.Version}]
		}
		w.u16(v)
	}
	for range e.exports {
		w.u16(1)
	}
	return w.b
}

func (e *elfFile) versionNeeds() []byte {
	w := writer{}
	for n, v := range e.versions {
		next := uint32(16 * (1 + len(v.names)))
		if n == len(e.versions)-1 {
			next = 0
		}
		w.u16(1)
		w.u16(uint16(len(v.names)))
		w.u32(e.dynstr.add(v.library), 16, next)
		for k, name := range v.names {
			w.u32(hashName(name))
			w.u16(0)
			w.u16(e.versionIndex[[2]string{v.library, name}])
			next := uint32(16)
			if k == len(v.names)-1 {
				next = 0
			}
			w.u32(e.dynstr.add(name), next)
		}
	}
	return w.b
}

// relocations are those of variables or of functions.
func (e *elfFile) relocations(data bool, typ uint32) []byte {
	w := e.writer()
	for n, i := range e.imports {
		if i.Data != data {
			continue
		}
		w.word(i.slot)
		if e.wide {
			w.u64(uint64(n+1)<<32 | uint64(typ))
		} else {
			w.u32(uint32(n+1)<<8 | typ)
		}
		if e.explicitAddends {
			w.word(0)
		}
	}
	return w.b
}

func (e *elfFile) fillPLT() []byte {
	head, entry := pltSizes(e.arch)
	a := &assembler{arch: e.arch, addr: e.at(".plt"), got: e.at(".got.plt")}
	a.pltHead()
	e.lazy = e.lazy[:0]
	for n, i := range e.plt {
		i.stub = a.addr + head + uint64(n)*entry
		e.lazy = append(e.lazy, a.pltEntry(n, i.slot))
	}
	return a.code
}

func (e *elfFile) fillGOT() []byte {
	for n, i := range e.got {
		i.slot = e.at(".got") + uint64(n)*e.word()
	}
	return make([]byte, uint64(len(e.got))*e.word())
}

func (e *elfFile) fillGOTPLT() []byte {
	w := e.writer()
	if e.machine == elf.EM_RISCV {
		w.word(0, 0) // for the dynamic linker
	} else {
		w.word(e.at(".dynamic"), 0, 0)
	}
	for n, i := range e.plt {
		i.slot = e.at(".got.plt") + uint64(w.len())
		w.word(e.lazy[n])
	}
	return w.b
}

func (e *elfFile) fillData() []byte {
	w := e.writer()
	for _, v := range e.vars {
		w.pad(8)
		v.addr = e.at(".data") + uint64(w.len())
		w.bytes(make([]byte, v.size))
	}
	return w.b
}

func (e *elfFile) fillDynamic() []byte {
	w := e.writer()
	put := func(tag elf.DynTag, v uint64) { w.word(uint64(tag), v) }
	for _, lib := range e.libs {
		put(elf.DT_NEEDED, uint64(e.dynstr.add(lib)))
	}
	if e.Name != "" {
		put(elf.DT_SONAME, uint64(e.dynstr.add(e.Name)))
	}
	if len(e.RPath) > 0 {
		put(elf.DT_RUNPATH, uint64(e.dynstr.add(strings.Join(e.RPath, ":"))))
	}
	put(elf.DT_HASH, e.at(".hash"))
	put(elf.DT_STRTAB, e.at(".dynstr"))
	put(elf.DT_SYMTAB, e.at(".dynsym"))
	put(elf.DT_STRSZ, uint64(len(e.dynstr.b)))
	put(elf.DT_SYMENT, e.symbolSize())
	table, size, entry, kind := elf.DT_REL, elf.DT_RELSZ, elf.DT_RELENT, uint64(elf.DT_REL)
	if e.explicitAddends {
		table, size, entry, kind = elf.DT_RELA, elf.DT_RELASZ, elf.DT_RELAENT, uint64(elf.DT_RELA)
	}
	if len(e.plt) > 0 {
		put(elf.DT_PLTGOT, e.at(".got.plt"))
		put(elf.DT_PLTRELSZ, uint64(len(e.plt))*e.relocationSize())
		put(elf.DT_PLTREL, kind)
		put(elf.DT_JMPREL, e.at(e.rel+".plt"))
	}
	if len(e.got) > 0 {
		put(table, e.at(e.rel+".dyn"))
		put(size, uint64(len(e.got))*e.relocationSize())
		put(entry, e.relocationSize())
	}
	if len(e.versions) > 0 {
		put(elf.DT_VERSYM, e.at(".gnu.version"))
		put(elf.DT_VERNEED, e.at(".gnu.version_r"))
		put(elf.DT_VERNEEDNUM, uint64(len(e.versions)))
	}
	if e.Kind == "executable" {
		put(elf.DT_DEBUG, 0)
	}
	put(elf.DT_NULL, 0)
	return w.b
}

// fillFrames writes .eh_frame (LSB Core, "Exception Frames"): one CIE and an
// FDE for each function.
func (e *elfFile) fillFrames() []byte {
	w := e.writer()
	start := e.at(".eh_frame")
	entry := func(id uint32, body func()) {
		at := w.len()
		w.u32(0, id)
		body()
		w.pad(int(e.word()))
		binary.LittleEndian.PutUint32(w.b[at:], uint32(w.len()-at-4))
	}
	entry(0, func() {
		w.u8(1)
		w.cstring("zR")
		w.u8(e.cie...)
	})
	for n, f := range e.funcs {
		e.fdes[n] = start + uint64(w.len())
		entry(uint32(w.len()+4), func() {
			w.u32(uint32(f.addr-start-uint64(w.len())), uint32(f.size))
			w.u8(0)
			if f.frame() {
				w.u8(e.frameRules...)
			}
		})
	}
	w.u32(0)
	return w.b
}

// fillFrameIndex writes .eh_frame_hdr, the index of .eh_frame by address.
func (e *elfFile) fillFrameIndex() []byte {
	w := e.writer()
	start := e.at(".eh_frame_hdr")
	w.u8(1, 0x1b, 0x03, 0x3b)
	w.u32(uint32(e.at(".eh_frame")-start-4), uint32(len(e.funcs)))
	for n, f := range e.funcs {
		w.u32(uint32(f.addr-start), uint32(e.fdes[n]-start))
	}
	return w.b
}

// fillExceptionIndex writes .ARM.exidx (EHABI32, "Index table entries"), each
// with its unwinding inline.
func (e *elfFile) fillExceptionIndex() []byte {
	w := e.writer()
	for _, f := range e.funcs {
		unwind := uint32(0x80b0b0b0) // finish
		if f.frame() {
			unwind = 0x80a8b0b0 // pop {r4, lr}; finish
		}
		w.u32(uint32(f.addr-e.at(".ARM.exidx")-uint64(w.len()))&0x7fffffff, unwind)
	}
	return w.b
}

// layout writes all sections and decides where they go. A segment keeps the
// distance between address and offset a multiple of the page size, so that
// the file needs no padding.
func (e *elfFile) layout() (changed bool) {
	for _, s := range e.sections {
		data := s.fill()
		changed = changed || !bytes.Equal(s.data, data)
		s.data = data
	}
	off, addr := e.headerSize(), uint64(0)
	if e.Kind == "executable" {
		addr = 0x400000
	}
	e.segments = nil
	for n := 0; n < len(e.sections); {
		segment := e.sections[n].segment
		if e.object || segment == segNone {
			break
		}
		seg := &elfSegment{flags: segmentFlags[segment], off: off, addr: up(addr, e.page) + off%e.page}
		if n == 0 {
			seg.off, seg.addr = 0, addr
		}
		end := seg.addr - seg.off // plus an offset gives an address
		memory := uint64(0)
		for ; n < len(e.sections) && e.sections[n].segment == segment; n++ {
			s := e.sections[n]
			if s.memory > 0 {
				memory = up(max(memory, end+off), s.align)
				s.addr, s.off = memory, off
				memory += s.memory
				continue
			}
			off = up(off, s.align)
			s.addr, s.off = end+off, off
			off += uint64(len(s.data))
		}
		addr = max(memory, end+off)
		seg.fileSize, seg.memorySize = off-seg.off, addr-seg.addr
		e.segments = append(e.segments, seg)
	}
	for _, s := range e.sections {
		if s.segment == segNone || e.object {
			off = up(off, s.align)
			s.off = off
			off += uint64(len(s.data))
		}
	}
	changed = changed || e.end != up(off, 8)
	e.end = up(off, 8)
	return changed
}

// programHeaders returns all program headers; their number does not depend on
// the layout.
func (e *elfFile) programHeaders() []elf.Prog64 {
	if e.object {
		return nil
	}
	var out []elf.Prog64
	section := func(typ elf.ProgType, flags elf.ProgFlag, name string) {
		if s := e.byName[name]; s != nil {
			out = append(out, elf.Prog64{Type: uint32(typ), Flags: uint32(flags), Off: s.off, Vaddr: s.addr, Filesz: s.size(), Memsz: s.size(), Align: s.align})
		}
	}
	section(elf.PT_INTERP, elf.PF_R, ".interp")
	for _, s := range e.segments {
		out = append(out, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(s.flags), Off: s.off, Vaddr: s.addr, Filesz: s.fileSize, Memsz: s.memorySize, Align: e.page})
	}
	section(elf.PT_DYNAMIC, elf.PF_R|elf.PF_W, ".dynamic")
	section(elf.PT_NOTE, elf.PF_R, e.note)
	section(elf.PT_GNU_EH_FRAME, elf.PF_R, ".eh_frame_hdr")
	section(0x70000001, elf.PF_R, ".ARM.exidx")
	return append(out, elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 16})
}

// headerSize is the size of the file header and the program headers.
func (e *elfFile) headerSize() uint64 {
	present := map[int]bool{}
	n := uint64(1) // PT_GNU_STACK
	for _, s := range e.sections {
		if s.segment != segNone && !present[s.segment] {
			present[s.segment] = true
			n++
		}
	}
	for _, name := range []string{".interp", ".dynamic", e.note, ".eh_frame_hdr", ".ARM.exidx"} {
		if e.byName[name] != nil {
			n++
		}
	}
	switch {
	case e.object && e.wide:
		return 64
	case e.object:
		return 52
	case e.wide:
		return 64 + 56*n
	}
	return 52 + 32*n
}

// entry is the address of _start, or else of the first function.
func (e *elfFile) entry() uint64 {
	if e.Kind != "executable" {
		return 0
	}
	if d, ok := e.callees["_start"].(*definition); ok {
		return d.addr
	}
	return e.funcs[0].addr
}

// file puts everything together.
func (e *elfFile) file() []byte {
	w := e.writer()
	class, size := elf.ELFCLASS32, []uint16{52, 32, 40}
	if e.wide {
		class, size = elf.ELFCLASS64, []uint16{64, 56, 64}
	}
	abi := map[string]elf.OSABI{"freebsd": elf.ELFOSABI_FREEBSD, "netbsd": elf.ELFOSABI_NETBSD, "openbsd": elf.ELFOSABI_OPENBSD}[e.OS]
	w.u8(0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), 1, byte(abi), 0, 0, 0, 0, 0, 0, 0, 0)
	w.u16(uint16(map[string]elf.Type{"object": elf.ET_REL, "executable": elf.ET_EXEC, "library": elf.ET_DYN}[e.Kind]))
	w.u16(uint16(e.machine))
	w.u32(1)
	headers := e.programHeaders()
	tables := uint64(size[0])
	if e.object {
		tables, size[1] = 0, 0
	}
	w.word(e.entry(), tables, e.end)
	w.u32(e.elfMachine.flags)
	for _, v := range []uint16{size[0], size[1], uint16(len(headers)), size[2], uint16(len(e.sections) + 1), uint16(e.byName[".shstrtab"].index)} {
		w.u16(v)
	}
	for _, p := range headers {
		w.u32(p.Type)
		if e.wide {
			w.u32(p.Flags)
		}
		w.word(p.Off, p.Vaddr, p.Vaddr, p.Filesz, p.Memsz)
		if !e.wide {
			w.u32(p.Flags)
		}
		w.word(p.Align)
	}
	for _, s := range e.sections {
		if s.memory == 0 {
			w.bytes(make([]byte, int(s.off)-w.len()))
			w.bytes(s.data)
		}
	}
	w.bytes(make([]byte, int(e.end)-w.len()))
	w.bytes(make([]byte, size[2]))
	for _, s := range e.sections {
		e.sectionHeader(w, s)
	}
	return w.b
}

func (e *elfFile) sectionHeader(w *writer, s *elfSection) {
	index := func(name string) uint32 {
		if t := e.byName[name]; t != nil {
			return uint32(t.index)
		}
		return 0
	}
	info := s.info
	if s.infoOf != "" {
		info = index(s.infoOf)
	}
	w.u32(e.shstrtab.add(s.name), uint32(s.typ))
	w.word(uint64(s.flags), s.addr, s.off, s.size())
	w.u32(index(s.link), info)
	w.word(s.align, s.entsize)
}
