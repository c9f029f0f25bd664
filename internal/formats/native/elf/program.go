package elf

import (
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Program header types and flags (gABI, "Program Header").
const (
	progLoad     = 1
	progDynamic  = 2
	progInterp   = 3
	progNote     = 4
	progTLS      = 7
	progEhFrame  = 0x6474e550
	progARMExidx = 0x70000001
	progExecute  = 1
	progWrite    = 2
	progRead     = 4

	programSize32     = 32
	programSize64     = 56
	maxProgramHeaders = 1 << 16
	maxInterpreter    = 4096 // bytes of its path
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
