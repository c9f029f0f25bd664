package code

import (
	"math/bits"
	"slices"
)

// An index finds an address in a sorted list without going through all of it:
// for each block of addresses it knows where in the list they begin.
type index struct {
	lo    uint64
	shift uint
	first []int32 // by block: of the list, the first that is not before it
	list  []uint64
}

// newIndex indexes addresses, which ascend.
func newIndex(list []uint64) index {
	n := len(list)
	if n == 0 {
		return index{}
	}
	x := index{lo: list[0], list: list}
	for span := list[n-1] - x.lo; span>>x.shift > 2*uint64(n); x.shift++ {
	}
	x.first = make([]int32, (list[n-1]-x.lo)>>x.shift+2)
	b := 0
	for i, addr := range list {
		for ; b <= int((addr-x.lo)>>x.shift); b++ {
			x.first[b] = int32(i)
		}
	}
	for ; b < len(x.first); b++ {
		x.first[b] = int32(n)
	}
	return x
}

// near returns the part of the list that addr would be in: what is before it is
// less, and what is behind it is more.
func (x *index) near(addr uint64) (from, to int) {
	if len(x.first) == 0 || addr < x.lo {
		return 0, 0
	}
	b := (addr - x.lo) >> x.shift
	if b >= uint64(len(x.first)-1) {
		n := int(x.first[len(x.first)-1])
		return n, n
	}
	return int(x.first[b]), int(x.first[b+1])
}

// search returns the first of the list that is addr or more, and whether it is
// addr.
func (x *index) search(addr uint64) (int, bool) {
	const few = 8
	from, to := x.near(addr)
	for end := to; from < end; {
		if end-from <= few { // as a rule there is one, or none
			for from < end && x.list[from] < addr {
				from++
			}
			break
		}
		if mid := int(uint(from+end) >> 1); x.list[mid] < addr {
			from = mid + 1
		} else {
			end = mid
		}
	}
	return from, from < to && x.list[from] == addr
}

// An addressSet numbers addresses in ascending order, without repeats. It is
// told all of them twice: first what there will be, by expect, then by add.
type addressSet struct {
	lo, hi uint64
	most   int      // addresses, with repeats
	bitmap []uint64 // from lo on; nil if the addresses lie far apart
	before []int32  // by word of the bitmap: how many addresses are before it
	list   []uint64
	index  index // of the list, if there is no bitmap
}

func (s *addressSet) expect(addr uint64) {
	if s.most == 0 {
		s.lo, s.hi = addr, addr
	}
	s.lo, s.hi = min(s.lo, addr), max(s.hi, addr)
	s.most++
}

// begin makes room for what is expected: a bit for each address between, where
// they are dense.
func (s *addressSet) begin() {
	switch words := (s.hi - s.lo) / 64; {
	case s.most == 0:
	case words > 4*uint64(s.most):
		s.list = make([]uint64, 0, s.most)
	default:
		s.bitmap = make([]uint64, words+1)
	}
}

func (s *addressSet) add(addr uint64) {
	if s.bitmap == nil {
		s.list = append(s.list, addr)
		return
	}
	off := addr - s.lo
	s.bitmap[off/64] |= 1 << (off % 64)
}

// end puts the addresses in order.
func (s *addressSet) end() {
	if s.bitmap == nil {
		sortBy(s.list, func(addr *uint64) uint64 { return *addr })
		s.list = slices.Compact(s.list)
		s.index = newIndex(s.list)
		return
	}
	s.before = make([]int32, len(s.bitmap))
	n := 0
	for i, w := range s.bitmap {
		s.before[i] = int32(n)
		n += bits.OnesCount64(w)
	}
	s.list = make([]uint64, 0, n)
	for i, w := range s.bitmap {
		for ; w != 0; w &= w - 1 {
			s.list = append(s.list, s.lo+uint64(i)*64+uint64(bits.TrailingZeros64(w)))
		}
	}
}

// search returns the number of addr, or else that of the first address behind
// it, and whether it is in the set.
func (s *addressSet) search(addr uint64) (int, bool) {
	if s.bitmap == nil {
		return s.index.search(addr)
	}
	switch {
	case addr < s.lo:
		return 0, false
	case addr > s.hi:
		return len(s.list), false
	}
	off := addr - s.lo
	w, bit := s.bitmap[off/64], uint64(1)<<(off%64)
	return int(s.before[off/64]) + bits.OnesCount64(w&(bit-1)), w&bit != 0
}
