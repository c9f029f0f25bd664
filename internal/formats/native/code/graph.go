package code

import (
	"cmp"
	"slices"
	"sort"
)

// callers lists, for each function, the references to it.
type callers struct {
	made  bool
	first []int32 // by function: where its references begin in refs
	refs  []int32 // indexes into Code.Refs
}

// Callers returns the places that call, jump to or take the address of function
// fn, in code. Tables of pointers that hold it are [Code.Pointers].
func (c *Code) Callers(fn int) []Ref {
	c.callers.make(c)
	lo, hi := c.callers.first[fn], c.callers.first[fn+1]
	out := make([]Ref, 0, hi-lo)
	for _, i := range c.callers.refs[lo:hi] {
		out = append(out, c.Refs[i])
	}
	return out
}

// make counts, then files: two passes over the references.
func (s *callers) make(c *Code) {
	if s.made {
		return
	}
	s.made = true
	s.first = make([]int32, len(c.Functions)+2)
	of := make([]int32, len(c.Refs))
	for i := range c.Refs {
		of[i] = -1
		if r := &c.Refs[i]; r.Import < 0 {
			if fn, ok := c.start(r.Target); ok {
				of[i] = int32(fn)
				s.first[fn+2]++
			}
		}
	}
	for i := 2; i < len(s.first); i++ {
		s.first[i] += s.first[i-1]
	}
	s.refs = make([]int32, s.first[len(s.first)-1])
	for i, fn := range of {
		if fn >= 0 {
			s.refs[s.first[fn+1]] = int32(i)
			s.first[fn+1]++
		}
	}
	s.first = s.first[:len(c.Functions)+1]
}

// start returns the function that begins at addr.
func (c *Code) start(addr uint64) (int, bool) {
	i := sort.Search(len(c.Functions), func(i int) bool { return c.Functions[i].Addr >= addr })
	return i, i < len(c.Functions) && c.Functions[i].Addr == addr
}

// Uses returns the references to each import that has any, by its index in the
// image's Imports.
func (c *Code) Uses() map[int][]Ref {
	out := map[int][]Ref{}
	for _, r := range c.Refs {
		if r.Import >= 0 {
			out[int(r.Import)] = append(out[int(r.Import)], r)
		}
	}
	return out
}

// DataRefs returns the references to addresses from lo up to before hi, by the
// address that they name. The first call sorts them.
func (c *Code) DataRefs(lo, hi uint64) []Ref {
	if c.byTarget == nil {
		c.byTarget = make([]Ref, 0, len(c.Refs)/4)
		for _, r := range c.Refs {
			if r.Kind == Data {
				c.byTarget = append(c.byTarget, r)
			}
		}
		slices.SortStableFunc(c.byTarget, func(a, b Ref) int { return cmp.Compare(a.Target, b.Target) })
	}
	i := sort.Search(len(c.byTarget), func(i int) bool { return c.byTarget[i].Target >= lo })
	j := i + sort.Search(len(c.byTarget)-i, func(k int) bool { return c.byTarget[i+k].Target >= hi })
	return c.byTarget[i:j]
}
