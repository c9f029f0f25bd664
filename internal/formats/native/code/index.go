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

// An addressSet is sorted and has no repeats when it is done.
type addressSet struct{ list []uint64 }

func (s *addressSet) add(addr uint64) { s.list = append(s.list, addr) }

// sorted returns the addresses in order. Where they are dense it counts rather
// than compares.
func (s *addressSet) sorted() []uint64 {
	if len(s.list) == 0 {
		return nil
	}
	lo, hi := slices.Min(s.list), slices.Max(s.list)
	if words := (hi - lo) / 64; words > 4*uint64(len(s.list)) {
		slices.Sort(s.list)
		return slices.Compact(s.list)
	}
	bitmap := make([]uint64, (hi-lo)/64+1)
	for _, addr := range s.list {
		off := addr - lo
		bitmap[off/64] |= 1 << (off % 64)
	}
	out := s.list[:0]
	for i, w := range bitmap {
		for ; w != 0; w &= w - 1 {
			out = append(out, lo+uint64(i)*64+uint64(bits.TrailingZeros64(w)))
		}
	}
	return out
}

// search returns the first of the list that is addr or more, and whether it is
// addr.
func (x *index) search(addr uint64) (int, bool) {
	from, to := x.near(addr)
	for end := to; from < end; {
		if mid := int(uint(from+end) >> 1); x.list[mid] < addr {
			from = mid + 1
		} else {
			end = mid
		}
	}
	return from, from < to && x.list[from] == addr
}
