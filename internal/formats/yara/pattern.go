package yara

import (
	"fmt"
	"math/bits"
)

// A byteSet holds the bytes that may stand in one place.
type byteSet [4]uint64

func (s *byteSet) add(c byte)      { s[c>>6] |= 1 << (c & 63) }
func (s *byteSet) has(c byte) bool { return s[c>>6]>>(c&63)&1 != 0 }
func (s *byteSet) size() int {
	return bits.OnesCount64(s[0]) + bits.OnesCount64(s[1]) + bits.OnesCount64(s[2]) + bits.OnesCount64(s[3])
}

func (s *byteSet) addSet(o byteSet) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s byteSet) not() byteSet {
	for i := range s {
		s[i] = ^s[i]
	}
	return s
}

// fold adds each letter of a set in its other case.
func (s byteSet) fold() byteSet {
	for c := byte('a'); c <= 'z'; c++ {
		if upper := c - 'a' + 'A'; s.has(c) || s.has(upper) {
			s.add(c)
			s.add(upper)
		}
	}
	return s
}

func (s *byteSet) all(yield func(byte) bool) {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			if !yield(byte(i<<6 | bits.TrailingZeros64(w))) {
				return
			}
		}
	}
}

func setOf(list ...byte) (s byteSet) {
	for _, c := range list {
		s.add(c)
	}
	return s
}

func setRange(from, to byte) (s byteSet) {
	for c := int(from); c <= int(to); c++ {
		s.add(byte(c))
	}
	return s
}

var (
	anyByte    = byteSet{}.not()
	digits     = setRange('0', '9')
	spaces     = setOf(' ', '\t', '\n', '\v', '\f', '\r')
	wordBytes  = words()
	notNewline = setOf('\n').not()
)

func words() byteSet {
	s := setOf('_')
	for _, o := range []byteSet{digits, setRange('a', 'z'), setRange('A', 'Z')} {
		s.addSet(o)
	}
	return s
}

// A pattern is a regular expression or a hexadecimal string as a tree over
// bytes. A leaf stands in one place only: it is known by its address.
type pattern struct {
	kind     patternKind
	kids     []*pattern
	set      byteSet // patByte
	min, max int     // patRepeat; unbounded if max is negative
	assert   assertion
}

type patternKind uint8

const (
	patEmpty patternKind = iota
	patByte
	patCat
	patAlt
	patRepeat
	patStar // after plain
	patAssert
)

type assertion uint8

const (
	atStart assertion = iota
	atEnd
	wordEdge
	noWordEdge
	wideWordEdge
	noWideWordEdge
)

// maxLeaves bounds a pattern after its repetitions are written out.
const maxLeaves = 20_000

// plain returns the pattern without counted repetitions, each leaf a copy of
// its own; with every byte followed by a zero if wide is set.
func (p *pattern) plain(wide bool) (*pattern, error) {
	left := maxLeaves
	out := p.copy(wide, &left)
	if left < 0 {
		return nil, fmt.Errorf("it is too large: more than %d bytes with its repetitions written out", maxLeaves)
	}
	return out, nil
}

func (p *pattern) copy(wide bool, left *int) *pattern {
	if *left--; *left < 0 {
		return &pattern{}
	}
	switch p.kind {
	case patByte:
		leaf := &pattern{kind: patByte, set: p.set}
		if wide {
			return &pattern{kind: patCat, kids: []*pattern{leaf, {kind: patByte, set: setOf(0)}}}
		}
		return leaf
	case patAssert:
		a := p.assert
		if wide && (a == wordEdge || a == noWordEdge) {
			a += wideWordEdge - wordEdge
		}
		return &pattern{kind: patAssert, assert: a}
	case patRepeat:
		return p.unroll(wide, left)
	}
	out := &pattern{kind: p.kind}
	for _, k := range p.kids {
		out.kids = append(out.kids, k.copy(wide, left))
	}
	return out
}

// unroll writes x{2,4} as xx(x(x|)|), x{2,} as xxx*.
func (p *pattern) unroll(wide bool, left *int) *pattern {
	out := &pattern{kind: patCat}
	one := func() *pattern { return p.kids[0].copy(wide, left) }
	for i := 0; i < p.min && *left >= 0; i++ {
		out.kids = append(out.kids, one())
	}
	if p.max < 0 {
		out.kids = append(out.kids, &pattern{kind: patStar, kids: []*pattern{one()}})
		return out
	}
	var tail *pattern
	for i := p.min; i < p.max && *left >= 0; i++ {
		next := one()
		if tail != nil {
			next = &pattern{kind: patCat, kids: []*pattern{next, tail}}
		}
		tail = &pattern{kind: patAlt, kids: []*pattern{next, {}}}
	}
	if tail != nil {
		out.kids = append(out.kids, tail)
	}
	return out
}

// empty reports whether a plain pattern can match no bytes.
func (p *pattern) empty() bool {
	switch p.kind {
	case patByte:
		return false
	case patCat:
		for _, k := range p.kids {
			if !k.empty() {
				return false
			}
		}
		return true
	case patAlt:
		for _, k := range p.kids {
			if k.empty() {
				return true
			}
		}
		return false
	}
	return true
}

// sequence returns the sets of a plain pattern that is nothing but bytes one
// after the other.
func (p *pattern) sequence() (sets []byteSet, ok bool) {
	switch p.kind {
	case patEmpty:
		return nil, true
	case patByte:
		return []byteSet{p.set}, true
	case patCat:
		for _, k := range p.kids {
			more, ok := k.sequence()
			if !ok {
				return nil, false
			}
			sets = append(sets, more...)
		}
		return sets, true
	}
	return nil, false
}
