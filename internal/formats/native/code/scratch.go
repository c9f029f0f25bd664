package code

import (
	"slices"
	"sync"
)

// A scratch is what the scan of one image fills and nobody needs after it: with
// it, the next one allocates no more than what stays. It never holds more than
// what binaries of ordinary size need.
type scratch struct {
	refs, pending []Ref
	marks         []uint64
}

// Limits of what is kept between images: 3 MiB of references twice, and 2 MiB
// of marks, which is those of 8 MiB of code.
const (
	maxScratchRefs  = 1 << 17
	maxScratchMarks = 1 << 18
)

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// words returns n words of zeros.
func (s *scratch) words(n uint64) []uint64 {
	if n > maxScratchMarks {
		return make([]uint64, n)
	}
	if uint64(cap(s.marks)) < n {
		s.marks = make([]uint64, n+n/4)
	}
	w := s.marks[:n]
	clear(w)
	return w
}

// release copies the references that were found out of the scratch, and gives
// it back. Many are left where they are.
func (r *reader) release() {
	if found := r.c.Refs; cap(found) <= maxScratchRefs {
		r.c.Refs = slices.Clone(found)
		if cap(found) > cap(r.scratch.refs) {
			r.scratch.refs = found
		}
	}
	scratches.Put(r.scratch)
	r.scratch = nil
}
