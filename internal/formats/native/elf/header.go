package elf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Object file types (gABI, "ELF Header", e_type).
const (
	typeRel  = 1
	typeExec = 2
	typeDyn  = 3
	typeCore = 4
)

// Machines (gABI, "ELF Header", e_machine) that this package treats specially.
const (
	machine386         = 3
	machineIAMCU       = 6
	machineMIPS        = 8
	machineMIPSRS3LE   = 10
	machinePPC         = 20
	machinePPC64       = 21
	machineS390        = 22
	machineARM         = 40
	machineSPARCV9     = 43
	machineIA64        = 50
	machineX86_64      = 62
	machineAArch64     = 183
	machineRISCV       = 243
	machineLoongArch   = 258
	machineAlpha       = 0x9026
	flagMIPSABI2       = 0x20       // e_flags: the n32 convention of 64-bit machines
	flagARMBE8         = 0x00800000 // e_flags: big-endian data, little-endian code
	maxProgramHeaders  = 1 << 16
	maxSectionHeaders  = 1 << 20
	maxSectionNames    = 1 << 26 // bytes
	extendedNumber     = 0xffff  // in e_phnum and e_shstrndx: section header 0 has the true number
	headerSize32       = 52
	headerSize64       = 64
	programSize32      = 32
	programSize64      = 56
	sectionSize32      = 40
	sectionSize64      = 64
	identificationSize = 16
)

// A header holds what of the ELF header is needed later.
type header struct {
	typ, machine         uint16
	osabi                uint8
	flags                uint32
	entry, phoff, shoff  uint64
	phentsize, shentsize uint64
	phnum, shnum         uint64 // as the header says, extended numbering resolved by readSections
	shstrndx             uint64
}

// open reads the identification. Loaders look at the machine only, so files
// exist whose class or byte order is forged to mislead tools: a header that
// makes sense in another layout alone is read in that one.
func open(data []byte) (*file, error) {
	if !Is(data) {
		return nil, errors.New("not an ELF file")
	}
	if len(data) < 6 {
		return nil, errors.New("ELF identification is cut off")
	}
	class, order := data[4], data[5]
	stated := layout{wide: class == 2, big: order == 2}
	valid := (class == 1 || class == 2) && (order == 1 || order == 2)
	f := &file{
		layout:   stated,
		m:        &image.Image{Format: image.ELF, Data: data},
		data:     data,
		nameLeft: 1<<20 + 4*len(data),
		scanLeft: 3 * uint64(len(data)),
	}
	if !valid || !coherent(data, stated) {
		var others []layout
		for _, l := range []layout{{false, false}, {true, false}, {false, true}, {true, true}} {
			if coherent(data, l) && (!valid || l != stated) {
				others = append(others, l)
			}
		}
		switch {
		case len(others) == 1:
			f.layout = others[0]
			f.m.Notef("identification says class %d and byte order %d, which the header contradicts", class, order)
		case !valid:
			return nil, fmt.Errorf("ELF identification has class %d and byte order %d", class, order)
		}
	}
	return f, nil
}

// coherent reports whether the header's own sizes are right in that layout.
func coherent(data []byte, l layout) bool {
	size := headerSize32
	if l.wide {
		size = headerSize64
	}
	if len(data) < size {
		return false
	}
	if l.wide {
		return l.u32(data[20:]) == 1 && l.u16(data[52:]) == headerSize64 &&
			(l.u16(data[54:]) == programSize64 || l.u16(data[58:]) == sectionSize64)
	}
	return l.u32(data[20:]) == 1 && l.u16(data[40:]) == headerSize32 &&
		(l.u16(data[42:]) == programSize32 || l.u16(data[46:]) == sectionSize32)
}

func (f *file) cursor(data []byte) *cursor.Cursor { return cursor.New(data, f.big) }

// readHeader reads the ELF header (gABI, "ELF Header").
func (f *file) readHeader() {
	m := f.m
	m.Bits, m.BigEndian = 32, f.big
	if f.wide {
		m.Bits = 64
	}
	if len(f.data) > 7 {
		f.osabi = f.data[7]
	}
	c := f.cursor(f.data).Skip(identificationSize)
	h := &f.header
	h.typ = c.U16()
	h.machine = c.U16()
	c.U32() // e_version
	h.entry = c.Word(f.wide)
	h.phoff = c.Word(f.wide)
	h.shoff = c.Word(f.wide)
	h.flags = c.U32()
	c.U16() // e_ehsize
	h.phentsize = uint64(c.U16())
	h.phnum = uint64(c.U16())
	h.shentsize = uint64(c.U16())
	h.shnum = uint64(c.U16())
	h.shstrndx = uint64(c.U16())
	if err := c.Err(); err != nil {
		m.Notef("header: %v", err)
	}
	m.Arch = f.arch()
	switch h.typ {
	case typeRel:
		m.Kind = image.Object
	case typeExec:
		m.Kind = image.Executable
	case typeDyn:
		m.Kind = image.Library
	case typeCore:
		m.Kind = image.Core
	default:
		m.Notef("header: unknown file type %d", h.typ)
	}
}

// arch names the machine.
func (f *file) arch() image.Arch {
	switch f.machine {
	case machineX86_64:
		return image.X86_64
	case machine386, machineIAMCU:
		return image.X86
	case machineAArch64:
		return image.AArch64
	case machineARM:
		return image.ARM
	case machineRISCV:
		if f.wide {
			return image.RISCV64
		}
		return image.RISCV32
	case machinePPC:
		return image.PPC
	case machinePPC64:
		if f.big {
			return image.PPC64
		}
		return image.PPC64LE
	case machineS390:
		if f.wide {
			return image.S390X
		}
	case machineMIPS, machineMIPSRS3LE:
		if f.wide || f.flags&flagMIPSABI2 != 0 {
			return image.MIPS64
		}
		return image.MIPS
	case machineLoongArch:
		if f.wide {
			return image.LoongArch
		}
	case machineSPARCV9:
		return image.SPARC64
	case machineIA64:
		return image.IA64
	}
	return image.Arch(fmt.Sprintf("elf-machine-%d", f.machine))
}

// Section types and flags (gABI, "Sections").
const (
	sectNull        = 0
	sectSymtab      = 2
	sectStrtab      = 3
	sectDynamic     = 6
	sectNote        = 7
	sectNobits      = 8
	sectDynsym      = 11
	sectSymtabShndx = 18
	sectARMExidx    = 0x70000001
	sectVerneed     = 0x6ffffffe
	sectVersym      = 0x6fffffff

	flagWrite   = 1
	flagAlloc   = 2
	flagExecute = 4
)

// A sect is a section header.
type sect struct {
	name                                   string
	nameOff, typ                           uint32
	flags, addr, off, size, align, entsize uint64
	link, info                             uint32
}

// readSections reads the section header table (gABI, "Section Header") and
// settles the extended numbers that its first entry may hold.
func (f *file) readSections() {
	h := &f.header
	least := uint64(sectionSize32)
	if f.wide {
		least = sectionSize64
	}
	if h.shoff == 0 {
		h.shnum = 0
		h.phnum = f.extended(h.phnum, 0)
		return
	}
	if h.shentsize < least {
		if h.shnum > 0 {
			f.m.Notef("section headers: entries of %d bytes", h.shentsize)
		}
		h.shentsize = least
	}
	first, ok := cursor.Slice(f.data, h.shoff, least)
	if !ok {
		f.m.Notef("section headers: offset %#x lies outside of %d bytes", h.shoff, len(f.data))
		h.shnum = 0
		h.phnum = f.extended(h.phnum, 0)
		return
	}
	zero := f.sectionHeader(first)
	if h.shnum == 0 {
		h.shnum = zero.size
	}
	h.phnum = f.extended(h.phnum, uint64(zero.info))
	if h.shstrndx == extendedNumber {
		h.shstrndx = uint64(zero.link)
	}
	there := (uint64(len(f.data)) - h.shoff + h.shentsize - least) / h.shentsize
	if h.shnum > min(there, maxSectionHeaders) {
		f.m.Notef("section headers: %d promised, %d read", h.shnum, min(there, maxSectionHeaders))
		h.shnum = min(there, maxSectionHeaders)
	}
	f.sects = make([]sect, h.shnum)
	for i := range f.sects {
		f.sects[i] = f.sectionHeader(f.data[h.shoff+uint64(i)*h.shentsize:])
	}
	if h.shstrndx < h.shnum {
		table := f.sectionBytes(&f.sects[h.shstrndx])
		names := f.names(table[:min(len(table), maxSectionNames)])
		for i := range f.sects {
			f.sects[i].name, _ = names.at(uint64(f.sects[i].nameOff))
		}
	} else if h.shnum > 0 {
		f.m.Notef("section headers: no section %d to take names from", h.shstrndx)
	}
	if f.typ == typeRel {
		f.layOut()
	}
	f.debugOnly = f.isDebugOnly()
	f.noteSections()
}

// extended returns the number of program headers, which does not fit into the
// header if there are many.
func (f *file) extended(n, info uint64) uint64 {
	if n == extendedNumber && info != 0 {
		return info
	}
	return n
}

// sectionHeader reads one entry; b has room for it.
func (f *file) sectionHeader(b []byte) sect {
	if f.wide {
		return sect{
			nameOff: f.u32(b), typ: f.u32(b[4:]), flags: f.u64(b[8:]), addr: f.u64(b[16:]),
			off: f.u64(b[24:]), size: f.u64(b[32:]), link: f.u32(b[40:]), info: f.u32(b[44:]),
			align: f.u64(b[48:]), entsize: f.u64(b[56:]),
		}
	}
	return sect{
		nameOff: f.u32(b), typ: f.u32(b[4:]), flags: f.word(b[8:]), addr: f.word(b[12:]),
		off: f.word(b[16:]), size: f.word(b[20:]), link: f.u32(b[24:]), info: f.u32(b[28:]),
		align: f.word(b[32:]), entsize: f.word(b[36:]),
	}
}

// layOut gives the sections of an object the addresses that it does not have.
func (f *file) layOut() {
	end := uint64(len(f.data))
	for i := range f.sects {
		s := &f.sects[i]
		switch {
		case s.flags&flagAlloc == 0:
		case s.typ != sectNobits:
			s.addr = s.off
		default:
			if s.align > 1 && s.align&(s.align-1) == 0 && s.align <= 1<<16 {
				end = (end + s.align - 1) &^ (s.align - 1)
			}
			s.addr = end
			end += min(s.size, 1<<32)
		}
	}
}

// noteSections says how many sections reach over the end of the file.
func (f *file) noteSections() {
	outside := 0
	for i := range f.sects {
		s := &f.sects[i]
		if s.typ == sectNull || s.typ == sectNobits {
			continue
		}
		if _, ok := cursor.Slice(f.data, s.off, s.size); !ok {
			outside++
		}
	}
	if outside > 0 {
		f.m.Notef("%d of %d sections reach over the end of the file", outside, len(f.sects))
	}
}

// sectionBytes returns what of a section is in the file.
func (f *file) sectionBytes(s *sect) []byte {
	if s == nil || s.typ == sectNobits || s.typ == sectNull {
		return nil
	}
	b, _ := cursor.Slice(f.data, s.off, s.size)
	return b
}

// section returns the first section that is like that, or nil.
func (f *file) section(like func(*sect) bool) *sect {
	for i := range f.sects {
		if like(&f.sects[i]) {
			return &f.sects[i]
		}
	}
	return nil
}

func (f *file) sectionNamed(name string) *sect {
	return f.section(func(s *sect) bool { return s.name == name })
}

func (f *file) sectionOfType(typ uint32) *sect {
	return f.section(func(s *sect) bool { return s.typ == typ })
}

// linked returns the section that s refers to, or nil.
func (f *file) linked(s *sect) *sect {
	if s == nil || int64(s.link) >= int64(len(f.sects)) {
		return nil
	}
	return &f.sects[s.link]
}

// Program header types and flags (gABI, "Program Header").
const (
	progLoad       = 1
	progDynamic    = 2
	progInterp     = 3
	progNote       = 4
	progTLS        = 7
	progEhFrame    = 0x6474e550
	progARMExidx   = 0x70000001
	progExecute    = 1
	progWrite      = 2
	progRead       = 4
	maxInterpreter = 4096 // bytes of its path
)

// A prog is a program header.
type prog struct {
	typ, flags                           uint32
	off, vaddr, filesz, memsz, alignment uint64
}

// readPrograms reads the program header table (gABI, "Program Header").
func (f *file) readPrograms() {
	h := &f.header
	if h.phnum == 0 || h.phoff == 0 {
		return
	}
	least := uint64(programSize32)
	if f.wide {
		least = programSize64
	}
	if h.phentsize < least {
		f.m.Notef("program headers: entries of %d bytes", h.phentsize)
		h.phentsize = least
	}
	there := uint64(0)
	if size := uint64(len(f.data)); h.phoff < size {
		there = (size - h.phoff + h.phentsize - least) / h.phentsize
	}
	if h.phnum > min(there, maxProgramHeaders) {
		f.m.Notef("program headers: %d promised, %d read", h.phnum, min(there, maxProgramHeaders))
		h.phnum = min(there, maxProgramHeaders)
	}
	f.progs = make([]prog, h.phnum)
	for i := range f.progs {
		b := f.data[h.phoff+uint64(i)*h.phentsize:]
		if f.wide {
			f.progs[i] = prog{
				typ: f.u32(b), flags: f.u32(b[4:]), off: f.u64(b[8:]), vaddr: f.u64(b[16:]),
				filesz: f.u64(b[32:]), memsz: f.u64(b[40:]), alignment: f.u64(b[48:]),
			}
		} else {
			f.progs[i] = prog{
				typ: f.u32(b), flags: f.u32(b[24:]), off: f.word(b[4:]), vaddr: f.word(b[8:]),
				filesz: f.word(b[16:]), memsz: f.word(b[20:]), alignment: f.word(b[28:]),
			}
		}
	}
}

// program returns the first program header of that type, or nil.
func (f *file) program(typ uint32) *prog {
	for i := range f.progs {
		if f.progs[i].typ == typ {
			return &f.progs[i]
		}
	}
	return nil
}

// programBytes returns what of a segment is in the file.
func (f *file) programBytes(p *prog) []byte {
	if p == nil || f.debugOnly {
		return nil
	}
	b, _ := cursor.Slice(f.data, p.off, p.filesz)
	return b
}

// isDebugOnly reports whether the file holds debug information alone: its
// headers are those of the file that it was split from, its code is elsewhere.
func (f *file) isDebugOnly() bool {
	code := f.section(func(s *sect) bool { return s.flags&(flagAlloc|flagExecute) == flagAlloc|flagExecute })
	return f.typ != typeRel && code != nil && code.typ == sectNobits
}

// mapSegments fills in what is mapped where. Without program headers that is
// what the sections say.
func (f *file) mapSegments() {
	m := f.m
	cut := 0
	base := ^uint64(0)
	for i := range f.progs {
		p := &f.progs[i]
		if p.typ != progLoad {
			continue
		}
		s := image.Segment{Addr: p.vaddr, Size: p.memsz, Offset: p.off, FileSize: p.filesz, Access: segmentAccess(p.flags)}
		if f.debugOnly {
			s.FileSize = 0
		}
		if _, ok := cursor.Slice(f.data, s.Offset, s.FileSize); !ok {
			cut++
		}
		s.Size = min(s.Size, -s.Addr-1) // not around the end of the address space
		m.Segments = append(m.Segments, s)
		low := p.vaddr
		if a := p.alignment; a > 1 && a&(a-1) == 0 {
			low &^= a - 1
		}
		base = min(base, low)
	}
	if cut > 0 {
		m.Notef("%d of %d segments reach over the end of the file", cut, len(m.Segments))
	}
	if len(m.Segments) == 0 {
		for i := range f.sects {
			s := &f.sects[i]
			if s.flags&flagAlloc == 0 || s.size == 0 {
				continue
			}
			seg := image.Segment{Addr: s.addr, Size: min(s.size, -s.addr-1), Offset: s.off, Access: sectionAccess(s)}
			if s.typ != sectNobits {
				seg.FileSize = s.size
			}
			m.Segments = append(m.Segments, seg)
			base = min(base, s.addr)
		}
	}
	if len(m.Segments) > 0 && f.typ != typeRel {
		m.Base = base
	}
	slices.SortStableFunc(m.Segments, func(a, b image.Segment) int { return compare(a.Addr, b.Addr) })
}

func segmentAccess(flags uint32) image.Access {
	var a image.Access
	if flags&progRead != 0 {
		a |= image.Read
	}
	if flags&progWrite != 0 {
		a |= image.Write
	}
	if flags&progExecute != 0 {
		a |= image.Execute
	}
	return a
}

func sectionAccess(s *sect) image.Access {
	if s.flags&flagAlloc == 0 {
		return 0
	}
	a := image.Read
	if s.flags&flagWrite != 0 {
		a |= image.Write
	}
	if s.flags&flagExecute != 0 {
		a |= image.Execute
	}
	return a
}

// listSections fills in the sections and finds out where code is: in sections
// that say so, without them in executable segments.
func (f *file) listSections() {
	const both = flagAlloc | flagExecute
	for i := range f.sects {
		s := &f.sects[i]
		if s.typ == sectNull {
			continue
		}
		out := image.Section{
			Name: s.name, Size: s.size, Offset: s.off,
			Access: sectionAccess(s), Code: s.flags&both == both,
		}
		if s.flags&flagAlloc != 0 {
			out.Addr = s.addr
		}
		if s.typ != sectNobits {
			out.FileSize = s.size
		}
		f.m.Sections = append(f.m.Sections, out)
		if out.Code {
			f.code = append(f.code, span{s.addr, s.addr + min(s.size, -s.addr-1)})
		}
	}
	if len(f.code) == 0 {
		for _, s := range f.m.Segments {
			if s.Access&image.Execute != 0 {
				f.code = append(f.code, span{s.Addr, s.Addr + s.Size})
			}
		}
	}
	f.code = f.code.merge()
}

// findOverlay finds the bytes behind everything that a header speaks of.
func (f *file) findOverlay() {
	size := uint64(len(f.data))
	end := uint64(headerSize32)
	if f.wide {
		end = headerSize64
	}
	reach := func(off, n uint64) {
		if n == 0 {
			return
		}
		if off+n < off {
			off, n = size, 0
		}
		end = max(end, off+n)
	}
	reach(f.phoff, f.phentsize*uint64(len(f.progs)))
	reach(f.shoff, f.shentsize*uint64(len(f.sects)))
	for i := range f.sects {
		if s := &f.sects[i]; s.typ != sectNull && s.typ != sectNobits {
			reach(s.off, s.size)
		}
	}
	if !f.debugOnly {
		for i := range f.progs {
			reach(f.progs[i].off, f.progs[i].filesz)
		}
	}
	if end < size {
		f.m.Overlay = image.Range{Offset: end, Size: size - end}
	}
}
