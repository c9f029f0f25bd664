package yara

import (
	"errors"
	"maps"
	"math/bits"
	"slices"
)

// An atom is a short run of bytes that every match of a pattern holds, or one
// of several of which it holds one. Where none is, there is no match.
type atom struct {
	leaves []*pattern // one, two or four bytes
	run    []*pattern // the bytes of the pattern that stand around them in any case
	first  int        // where in the run the leaves begin
	rate   float64    // how often it is there by chance, for each byte
}

const (
	maxAtom   = 4
	maxKeys   = 512     // ways to write a long atom
	maxShort  = 1 << 16 // ways to write one of two bytes or less
	tooCommon = 0.45    // an atom that is everywhere finds nothing
)

// atoms returns the rarest set of atoms of a plain pattern.
func atoms(p *pattern) ([]atom, error) {
	best, rate := choose(p)
	if best == nil || rate > tooCommon {
		return nil, errors.New("no byte of it is rare enough to look for")
	}
	return best, nil
}

// choose returns the best atoms of a pattern, and the sum of their rates; none
// if the pattern can match without any of its bytes.
func choose(p *pattern) (best []atom, rate float64) {
	switch p.kind {
	case patByte:
		return window([]*pattern{p})
	case patCat:
		items := flatten(nil, p)
		for i, item := range items {
			found, r := choose(item)
			if item.kind == patByte {
				found, r = windowAt(items, i)
			}
			if found != nil && (best == nil || r < rate) {
				best, rate = found, r
			}
		}
	case patAlt:
		for _, k := range p.kids {
			found, r := choose(k)
			if found == nil {
				return nil, 0
			}
			best, rate = append(best, found...), rate+r
		}
	}
	return best, rate
}

// flatten returns what a concatenation consists of.
func flatten(out []*pattern, p *pattern) []*pattern {
	for _, k := range p.kids {
		if k.kind == patCat {
			out = flatten(out, k)
		} else {
			out = append(out, k)
		}
	}
	return out
}

// maxRun bounds the bytes around an atom that are looked at before a pattern is
// run, on either side.
const maxRun = 16

// windowAt returns the best atom that begins with an item. A longer one must be
// clearly rarer.
func windowAt(items []*pattern, i int) (best []atom, rate float64) {
	to := i
	for to < len(items) && to-i < maxRun && items[to].kind == patByte {
		to++
	}
	for n := 1; n <= min(maxAtom, to-i); n++ {
		if n == 3 {
			continue // which the tables do not know
		}
		if found, r := window(items[i : i+n]); found != nil && (best == nil || r < 0.9*rate) {
			best, rate = found, r
		}
	}
	from := i
	for from > 0 && i-from < maxRun && items[from-1].kind == patByte {
		from--
	}
	if best != nil {
		best[0].run, best[0].first = items[from:to], i-from
	}
	return best, rate
}

// window makes an atom of leaves, unless there are too many ways to write it.
func window(leaves []*pattern) ([]atom, float64) {
	ways, rate := 1, 1.0
	for _, l := range leaves {
		ways *= l.set.size()
		r := 0.0
		for c := range l.set.all {
			r += chance[c]
		}
		rate *= r
	}
	if len(leaves) > 2 && ways > maxKeys || ways > maxShort {
		return nil, 0
	}
	return []atom{{leaves: leaves, run: leaves, rate: rate}}, rate
}

// chance is how often each byte occurs, roughly, in programs and texts.
var chance = chances()

func chances() (out [256]float64) {
	for i := range out {
		c := byte(i)
		switch {
		case c == 0:
			out[i] = 0.12
		case c == 0xff || c == ' ' || c == 'e' || c == 't':
			out[i] = 0.025
		case 'a' <= c && c <= 'z':
			out[i] = 0.012
		case c == 1 || c == 0x48 || c == 0x8b || c == 0x89 || c == 0x24 || c == 0x0f:
			out[i] = 0.01
		case digit(c) || 'A' <= c && c <= 'Z' || c == '/' || c == '.' || c == '_' || c == '\n':
			out[i] = 0.005
		default:
			out[i] = 0.002
		}
	}
	return out
}

// A place is what an atom leads to: a unit, and where in it the atom stands.
type place struct {
	unit   int32
	offset int32 // of a sequence: in bytes
	fwd    int32 // of a program: where the forward one goes on
	bwd    int32 // and the backward one
	run    int32 // of a program: the run around the atom, among those of its unit
}

// A finder finds the atoms of all patterns in one pass. Those of four bytes are
// looked up by a bitmap of hashes and then in a table, as package needle does;
// shorter ones in a table of pairs.
type finder struct {
	keys    map[uint32][]place // of long atoms, until the tables are built
	maybe   []uint64
	shift   uint
	buckets []bucket // by hash, the next one where one is taken
	places  []place
	short   [][]place // by two bytes, little-endian; nil if there are none
	singles []place   // atoms of one byte, for the last byte of the data
	single  []byte
}

// A bucket leads from the four bytes of an atom to its places; there are none
// in an empty one.
type bucket struct {
	key      uint32
	from, to int32
}

func newFinder() *finder { return &finder{keys: map[uint32][]place{}} }

// add makes every way to write an atom lead to a place.
func (f *finder) add(a atom, p place) {
	if len(a.leaves) == maxAtom {
		ways(a.leaves, func(key uint32) { f.keys[key] = append(f.keys[key], p) })
		return
	}
	if f.short == nil {
		f.short = make([][]place, 1<<16)
	}
	if len(a.leaves) == 2 {
		ways(a.leaves, func(key uint32) { f.short[key] = append(f.short[key], p) })
		return
	}
	for c := range a.leaves[0].set.all {
		f.singles, f.single = append(f.singles, p), append(f.single, c)
		for next := range 256 {
			key := int(c) | next<<8
			f.short[key] = append(f.short[key], p)
		}
	}
}

// ways calls fn with every way to write leaves, little-endian.
func ways(leaves []*pattern, fn func(key uint32)) {
	var step func(i int, key uint32)
	step = func(i int, key uint32) {
		if i == len(leaves) {
			fn(key)
			return
		}
		for c := range leaves[i].set.all {
			step(i+1, key|uint32(c)<<(8*i))
		}
	}
	step(0, 0)
}

// build makes the tables of long atoms: the bitmap has a few dozen bits for
// each key, the buckets are half empty.
func (f *finder) build() {
	n := bits.Len(uint(len(f.keys)))
	width := min(max(n+6, 14), 23)
	f.shift = uint(32 - width)
	f.maybe = make([]uint64, 1<<(width-6))
	f.buckets = make([]bucket, 2<<n)
	for _, key := range slices.Sorted(maps.Keys(f.keys)) {
		h := hash(key) >> f.shift
		f.maybe[h>>6] |= 1 << (h & 63)
		b := f.bucket(key)
		*b = bucket{key, int32(len(f.places)), int32(len(f.places) + len(f.keys[key]))}
		f.places = append(f.places, f.keys[key]...)
	}
	f.keys = nil
}

// hash spreads four bytes, by the multiplication of Knuth (The Art of Computer
// Programming 3, 6.4).
func hash(key uint32) uint32 { return key * 2654435761 }

func (f *finder) test(key uint32) uint64 {
	h := hash(key) >> f.shift
	return f.maybe[h>>6] >> (h & 63) & 1
}

// bucket returns the bucket of a key, or the empty one where it would be.
func (f *finder) bucket(key uint32) *bucket {
	mask := uint32(len(f.buckets) - 1)
	for i := hash(key) >> 7 & mask; ; i = (i + 1) & mask {
		if b := &f.buckets[i]; b.key == key || b.to == 0 {
			return b
		}
	}
}

// scan calls found for every place that an atom at a position leads to, until
// it returns false.
func (f *finder) scan(data []byte, found func(p *place, pos int) bool) {
	if len(f.places) > 0 && !f.scanLong(data, found) {
		return
	}
	if f.short == nil {
		return
	}
	for i := 0; i+2 <= len(data); i++ {
		list := f.short[int(data[i])|int(data[i+1])<<8]
		for j := range list {
			if !found(&list[j], i) {
				return
			}
		}
	}
	for j := range f.singles {
		if last := len(data) - 1; last >= 0 && data[last] == f.single[j] && !found(&f.singles[j], last) {
			return
		}
	}
}

func (f *finder) scanLong(data []byte, found func(p *place, pos int) bool) bool {
	look := func(key uint32, pos int) bool {
		b := f.bucket(key)
		for i := b.from; i < b.to; i++ {
			if !found(&f.places[i], pos) {
				return false
			}
		}
		return true
	}
	i := 0
	for ; i+8 <= len(data); i += 4 { // four positions from one load
		v := uint64(data[i]) | uint64(data[i+1])<<8 | uint64(data[i+2])<<16 | uint64(data[i+3])<<24 |
			uint64(data[i+4])<<32 | uint64(data[i+5])<<40 | uint64(data[i+6])<<48 | uint64(data[i+7])<<56
		a, b, c, d := uint32(v), uint32(v>>8), uint32(v>>16), uint32(v>>24)
		if f.test(a)|f.test(b)|f.test(c)|f.test(d) == 0 {
			continue
		}
		for j, key := range [4]uint32{a, b, c, d} {
			if f.test(key) != 0 && !look(key, i+j) {
				return false
			}
		}
	}
	for ; i+4 <= len(data); i++ {
		key := uint32(data[i]) | uint32(data[i+1])<<8 | uint32(data[i+2])<<16 | uint32(data[i+3])<<24
		if f.test(key) != 0 && !look(key, i) {
			return false
		}
	}
	return true
}
