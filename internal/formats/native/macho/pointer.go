package macho

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// maxPointers bounds the pointers of a file.
const maxPointers = 1 << 23

// point records that the loader puts an address of the file into the word at
// an address.
func (f *file) point(at, to uint64) {
	if f.cpu == cpuARM && to&1 != 0 && f.inCode(to) {
		to &^= 1 // a function of Thumb instructions
	}
	if len(f.Pointers) < maxPointers && f.mapped.holds(to) {
		f.Pointers = append(f.Pointers, image.Pointer{At: at, To: to})
	}
}

func (f *file) inCode(addr uint64) bool {
	for i := range f.sections {
		if s := &f.sections[i]; s.code && s.holds(addr) {
			return true
		}
	}
	return false
}

// extents are the addresses of segments, for finding out what is mapped.
type extents []struct{ lo, hi uint64 }

func (f *file) extents() extents {
	var e extents
	for _, s := range f.segments {
		if s.Size > 0 && s.Access != 0 { // __PAGEZERO is there to fault
			e = append(e, struct{ lo, hi uint64 }{s.Addr, s.Addr + min(s.Size, -s.Addr-1)})
		}
	}
	return e
}

func (e extents) holds(addr uint64) bool {
	for _, s := range e[:min(len(e), 64)] { // linkers make fewer than ten
		if addr >= s.lo && addr < s.hi {
			return true
		}
	}
	return false
}

// Opcodes of rebase information, the upper half of a byte; the lower half is
// an immediate value (REBASE_OPCODE_* of <mach-o/loader.h>).
const (
	rebaseDone            = 0x00
	rebaseType            = 0x10
	rebaseSegment         = 0x20
	rebaseAddAddr         = 0x30
	rebaseAddAddrScaled   = 0x40
	rebaseDo              = 0x50
	rebaseDoTimes         = 0x60
	rebaseDoAddAddr       = 0x70
	rebaseDoTimesSkipping = 0x80
)

// A rebaser runs the opcodes of rebase information. The word at each place
// holds the address that is meant.
type rebaser struct {
	f       *file
	left    int // fixups; there cannot be more than the file has pointers
	segment uint64
	offset  uint64
}

// rebaseOpcodes runs the program of LC_DYLD_INFO.
func (f *file) rebaseOpcodes() {
	r := &rebaser{f: f, left: len(f.data)/minPointer + 64}
	c := cursor.New(f.rebase, false)
	r.run(c)
	switch {
	case c.Err() != nil:
		f.Notef("rebase opcodes: %v", c.Err())
	case r.left < 0:
		f.Notef("rebase opcodes: more fixups than the file has room for")
	}
}

func (r *rebaser) run(c *cursor.Cursor) {
	pointer := uint64(r.f.Bits / 8)
	for c.Len() > 0 && c.Err() == nil && r.left >= 0 {
		op := c.U8()
		imm := uint64(op & 0xf)
		switch op & 0xf0 {
		case rebaseDone:
			return
		case rebaseType:
		case rebaseSegment:
			r.segment, r.offset = imm, c.Uleb()
		case rebaseAddAddr:
			r.offset += c.Uleb()
		case rebaseAddAddrScaled:
			r.offset += imm * pointer
		case rebaseDo:
			r.do(imm, pointer)
		case rebaseDoTimes:
			r.do(c.Uleb(), pointer)
		case rebaseDoAddAddr:
			r.do(1, pointer+c.Uleb())
		case rebaseDoTimesSkipping:
			count, skip := c.Uleb(), c.Uleb()
			r.do(count, pointer+skip)
		default:
			r.f.Notef("rebase opcode %#x is not known", op)
			return
		}
	}
}

// do takes count pointers, each step bytes behind the last.
func (r *rebaser) do(count, step uint64) {
	if r.segment >= uint64(len(r.f.segments)) {
		r.left--
		return
	}
	s := &r.f.segments[r.segment]
	data := r.f.fileBytes(s)
	size := uint64(r.f.Bits / 8)
	for ; count > 0 && r.left >= 0; count-- {
		r.left--
		if off := r.offset; off < uint64(len(data)) && uint64(len(data))-off >= size {
			r.f.point(s.Addr+off, cursor.New(data[off:off+size], r.f.big).Word(size == 8))
		}
		r.offset += step
	}
}

// rebased returns the address that a pointer of a chain holds which binds
// nothing (struct dyld_chained_ptr_*_rebase). Where it is an offset, it counts
// from the load address. A tag may be in its highest byte, which is left off.
func (w *walker) rebased(v uint64) uint64 {
	switch f := &w.format; {
	case f.signed && v>>63 != 0: // struct dyld_chained_ptr_arm64e_auth_rebase
		return w.f.Base + v&0xffff_ffff
	case f.fromBase:
		return w.f.Base + v&(1<<f.target-1)
	default:
		return v & (1<<f.target - 1)
	}
}

// finishPointers puts pointers into the order that the image promises.
func (f *file) finishPointers() {
	order := func(a, b image.Pointer) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.To, b.To)) }
	if len(f.Pointers) == maxPointers {
		f.Notef("fixups: more than %d pointers; the rest is not read", maxPointers)
	}
	if !slices.IsSortedFunc(f.Pointers, order) {
		slices.SortFunc(f.Pointers, order)
	}
	f.Pointers = slices.CompactFunc(f.Pointers, func(a, b image.Pointer) bool { return a.At == b.At })
}

// pointerAt returns what the loader puts into the word at an address, whose
// bytes are b.
func (f *file) pointerAt(at uint64, b []byte) uint64 {
	i, ok := slices.BinarySearchFunc(f.Pointers, at, func(p image.Pointer, at uint64) int { return cmp.Compare(p.At, at) })
	if ok {
		return f.Pointers[i].To
	}
	return cursor.New(b, f.big).Word(f.Bits == 64)
}

// readInitializers lists what the loader calls before the entry point: pointers
// to functions, or in newer files distances from the load address.
func (f *file) readInitializers() {
	list := f.routines
	for i := range f.sections {
		s := &f.sections[i]
		b := f.Bytes(&f.Sections[i])
		switch s.kind {
		case sectionInit:
			size := uint64(f.Bits / 8)
			for at := s.addr; uint64(len(b)) >= size; b, at = b[size:], at+size {
				list = append(list, f.pointerAt(at, b))
			}
		case sectionInitOffsets:
			for c := cursor.New(b, f.big); c.Len() >= 4; {
				list = append(list, f.Base+uint64(c.U32()))
			}
		}
	}
	if f.cpu == cpuARM {
		for i := range list {
			list[i] &^= 1
		}
	}
	list = slices.DeleteFunc(list, func(a uint64) bool { return !f.inCode(a) })
	slices.Sort(list)
	f.Initializers = slices.Compact(list)
}

// ownPointers gives the names that the file both defines and leaves to the
// loader to bind, so that another image's definition may go first, the pointers
// and stubs through which it uses them.
func (f *file) ownPointers(m *imports, own map[string]bool) {
	if len(own) == 0 {
		return
	}
	addr := map[string]uint64{}
	for i := range f.symbols {
		if s := &f.symbols[i]; s.defined() && own[s.name] {
			addr[s.name] = s.value
		}
	}
	for i := range f.Exports {
		e := &f.Exports[i]
		if e.Forward != "" || !own[e.Name] {
			continue
		}
		addr[e.Name] = e.Addr
		in := &m.list[m.index[e.Name]]
		if len(in.slots) > 0 {
			e.Slot = in.slots[0]
		}
		if len(in.stubs) > 0 {
			e.Stub = in.stubs[0]
		}
	}
	for name := range own {
		to, ok := addr[name]
		if in := &m.list[m.index[name]]; ok {
			for _, at := range slices.Concat(in.slots, in.data) {
				f.point(at, to)
			}
		}
	}
}
