package elf

import (
	"cmp"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

func compare(a, b uint64) int { return cmp.Compare(a, b) }

// A span is a half-open range of addresses.
type span struct{ lo, hi uint64 }

// ranges are spans of addresses; after merge sorted and apart from each other.
type ranges []span

func (r ranges) merge() ranges {
	slices.SortFunc(r, func(a, b span) int { return compare(a.lo, b.lo) })
	out := r[:0]
	for _, s := range r {
		switch n := len(out); {
		case s.lo >= s.hi:
		case n > 0 && s.lo <= out[n-1].hi:
			out[n-1].hi = max(out[n-1].hi, s.hi)
		default:
			out = append(out, s)
		}
	}
	return out
}

// without returns r less the addresses of s; both are merged.
func (r ranges) without(s ranges) ranges {
	out := make(ranges, 0, len(r)+len(s))
	i := 0
	for _, have := range r {
		for i < len(s) && s[i].hi <= have.lo {
			i++
		}
		for j := i; j < len(s) && s[j].lo < have.hi; j++ {
			if have.lo < s[j].lo {
				out = append(out, span{have.lo, s[j].lo})
			}
			have.lo = min(have.hi, max(have.lo, s[j].hi))
			i = j
		}
		if have.lo < have.hi {
			out = append(out, have)
		}
	}
	return out
}

// find returns the index of the span that holds addr, or -1.
func (r ranges) find(addr uint64) int {
	i := sort.Search(len(r), func(i int) bool { return r[i].lo > addr }) - 1
	if i < 0 || addr >= r[i].hi {
		return -1
	}
	return i
}

func (r ranges) has(addr uint64) bool { return r.find(addr) >= 0 }

// total is the number of addresses.
func (r ranges) total() uint64 {
	var n uint64
	for _, s := range r {
		n += s.hi - s.lo
	}
	return n
}

// covered counts the addresses of r that lie in functions, which are sorted.
func (r ranges) covered(functions []image.Function) uint64 {
	var n, done uint64 // done: addresses below it are counted
	i := 0
	for _, f := range functions {
		lo, hi := max(f.Addr, done), f.Addr+min(f.Size, -f.Addr-1)
		if lo >= hi {
			continue
		}
		done = hi
		for i < len(r) && r[i].hi <= lo {
			i++
		}
		for ; i < len(r) && r[i].lo < hi; i++ {
			n += min(hi, r[i].hi) - max(lo, r[i].lo)
			if r[i].hi > hi {
				break
			}
		}
	}
	return n
}
