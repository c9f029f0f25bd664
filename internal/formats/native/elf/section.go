package elf

import (
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Section types and flags (gABI, "Sections").
const (
	sectNull         = 0
	sectSymtab       = 2
	sectRela         = 4
	sectDynamic      = 6
	sectNote         = 7
	sectNobits       = 8
	sectRel          = 9
	sectDynsym       = 11
	sectInitArray    = 14
	sectPreinitArray = 16
	sectSymtabShndx  = 18
	sectARMExidx     = 0x70000001
	sectVerneed      = 0x6ffffffe
	sectVersym       = 0x6fffffff

	flagWrite   = 1
	flagAlloc   = 2
	flagExecute = 4

	sectionSize32     = 40
	sectionSize64     = 64
	maxSectionHeaders = 1 << 20
	maxSectionNames   = 1 << 26 // bytes
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
