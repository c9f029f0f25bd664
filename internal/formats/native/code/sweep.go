package code

import (
	"encoding/binary"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A sweep is what the scans have in common that go through code instruction by
// instruction and know what registers hold.
type sweep struct {
	*reader
	m     *image.Image
	got   []span // sections of pointers alone, which stand for what they point to
	loads [256]loaded

	anchors []uint64 // of RISC-V: what gp holds, 0 if that is not known
}

// A loaded is the reference that the load of a pointer left. If the pointer is
// called, the load was a part of the call.
type loaded struct {
	slot  uint64
	index int // in Refs
}

func newSweep(r *reader) *sweep {
	if r.sweep != nil {
		return r.sweep
	}
	s := &sweep{reader: r, m: r.c.Image}
	r.sweep = s
	for i := range s.m.Sections {
		if x := &s.m.Sections[i]; x.Name == ".got" || x.Name == "__DATA_CONST,__got" || x.Name == "__DATA,__got" {
			s.got = append(s.got, span{lo: x.Addr, hi: x.Addr + min(x.Size, -x.Addr-1)})
		}
	}
	return s
}

// An area is the function, or the bytes between functions, around a place in
// code that is gone through in ascending order.
type area struct {
	list   []image.Function
	i      int // of the next function
	lo, hi uint64
}

func (s *sweep) areas() area { return area{list: s.m.Functions.List} }

// advance moves to the area around at, which is not below hi.
func (a *area) advance(at uint64) {
	a.i += sort.Search(len(a.list)-a.i, func(k int) bool { return a.list[a.i+k].Addr > at })
	a.lo, a.hi = 0, ^uint64(0)
	if a.i < len(a.list) {
		a.hi = a.list[a.i].Addr
	}
	if a.i == 0 {
		return
	}
	f := &a.list[a.i-1]
	a.lo = f.Addr
	if end := f.Addr + f.Size; f.Size > 0 && end > f.Addr {
		if at < end {
			a.hi = min(a.hi, end)
		} else {
			a.lo = end
		}
	}
}

func (a *area) holds(addr uint64) bool { return addr >= a.lo && addr < a.hi }

// branch records a call, or a jump that leaves its function.
func (s *sweep) branch(at, to uint64, kind Kind) {
	if target, imp, ok := s.targets.through(to); ok {
		s.add(Ref{at, target, imp, kind})
		return
	}
	switch {
	case s.targets.function(to):
		s.add(Ref{at, to, -1, kind})
	case s.targets.code(to) && !s.targets.covered(to):
		s.wait(Ref{at, to, -1, kind})
	}
}

// address records that an instruction makes or uses an address, and reports
// whether something is known to be there.
func (s *sweep) address(at, to uint64) bool {
	if target, imp, ok := s.targets.through(to); ok {
		kind := Taken
		if imp < 0 && !s.targets.function(target) {
			kind = Data
		}
		s.add(Ref{at, target, imp, kind})
		return true
	}
	switch {
	case s.targets.data(to):
		s.add(Ref{at, to, -1, Data})
	case s.targets.function(to):
		s.add(Ref{at, to, -1, Taken})
	case s.targets.code(to) && !s.targets.covered(to):
		s.wait(Ref{at, to, -1, Taken})
		return false
	default:
		return false
	}
	return true
}

// farBehind is how far behind an address to which an index was added something
// else may lie that is meant. Compilers name what they place together by the
// first of it, and say with the load how far away the rest is.
const farBehind = 64

// indexed records that an instruction uses what lies n bytes behind an address,
// at an index.
func (s *sweep) indexed(at, addr, n uint64) {
	if n >= farBehind && n < 1<<12 && s.targets.data(addr+n) {
		s.add(Ref{at, addr + n, -1, Data})
	}
}

// fetch records that an instruction loads the pointer at an address. One of
// those that only stand for what they point to is as good as that.
func (s *sweep) fetch(at, from uint64) bool {
	if to, ok := s.global(from); ok {
		from = to
	}
	return s.address(at, from)
}

// global returns what the pointer at addr points to, if it is one of those that
// only stand for what they point to.
func (s *sweep) global(addr uint64) (uint64, bool) {
	for _, g := range s.got {
		if addr >= g.lo && addr < g.hi {
			if _, _, ok := s.targets.through(addr); ok {
				return 0, false
			}
			return s.constant(addr)
		}
	}
	return 0, false
}

// pointer returns the address of the image that the word at addr holds.
func (s *sweep) pointer(addr uint64) (uint64, bool) {
	p := s.m.Pointers
	i := sort.Search(len(p), func(i int) bool { return p[i].At >= addr })
	if i < len(p) && p[i].At == addr {
		return p[i].To, true
	}
	return 0, false
}

// constant returns the address that a word beside code holds. In a file for any
// address only relocations tell addresses from numbers.
func (s *sweep) constant(addr uint64) (uint64, bool) {
	if p, ok := s.pointer(addr); ok {
		return p, true
	}
	size := s.m.Bits / 8
	b := s.m.At(addr)
	if s.m.Base == 0 || s.m.Format != image.ELF || len(b) < size {
		return 0, false
	}
	v := s.word(b)
	if s.m.Arch == image.ARM && s.targets.function(v&^1) {
		return v &^ 1, true
	}
	return v, s.targets.data(v) || s.targets.function(v)
}

// word reads an address in data.
func (s *sweep) word(b []byte) uint64 {
	var order binary.ByteOrder = binary.LittleEndian
	if s.m.BigEndian {
		order = binary.BigEndian
	}
	if s.m.Bits == 64 {
		return order.Uint64(b)
	}
	return uint64(order.Uint32(b))
}

// slot reports whether addr holds a pointer that is worth following.
func (s *sweep) slot(addr uint64) bool {
	if _, _, ok := s.targets.through(addr); ok {
		return true
	}
	_, ok := s.pointer(addr)
	return ok
}

// note remembers that the last reference is that of the load of the pointer in
// slot.
func (s *sweep) note(at, slot uint64) {
	n := len(s.c.Refs) - 1
	if n >= 0 && s.c.Refs[n].Addr == at && s.c.Refs[n].Kind == Taken {
		s.loads[slot>>2&255] = loaded{slot, n}
	}
}

// through records a call or jump through the pointer in slot.
func (s *sweep) through(at, slot uint64, kind Kind) {
	target, imp, ok := s.targets.through(slot)
	if !ok {
		imp = -1
		if target, ok = s.pointer(slot); !ok || !s.targets.function(target) {
			return
		}
	}
	ref := Ref{at, target, imp, kind}
	if l := &s.loads[slot>>2&255]; l.slot == slot && l.index < len(s.c.Refs) {
		if r := &s.c.Refs[l.index]; r.Kind == Taken && r.Target == target && r.Import == imp {
			*r = ref
			*l = loaded{}
			return
		}
	}
	s.add(ref)
}

// sort puts the references from index first on into order: a call through a
// pointer takes the place of the load before it.
func (s *sweep) sort(first int) {
	refs := s.c.Refs[first:]
	byAddr := func(a, b Ref) int {
		if a.Addr < b.Addr {
			return -1
		} else if a.Addr > b.Addr {
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(refs, byAddr) {
		slices.SortStableFunc(refs, byAddr)
	}
}
