// Package needle finds many literals in one pass over bytes. For each literal
// it picks the four bytes that occur least by chance; at every position of the
// data one look into a bitmap of hashes tells whether any literal could be
// there, and only then are literals compared.
//
// Against the automaton of Aho and Corasick it trades the guarantee of one
// step a byte for tables that are built in microseconds and fit into the first
// cache, which is what a program that runs for 30 milliseconds wants. The cost
// of a hit is bounded by the number of literals that share four bytes.
package needle

import (
	"bytes"
	"encoding/binary"
)

// MinLength is the shortest literal that is found, in bytes.
const MinLength = 4

// A Finder finds a fixed set of literals. It is safe for concurrent use.
type Finder struct {
	maybe    [1 << (hashBits - 6)]uint64 // one bit a hash
	buckets  map[uint32][]place          // by the four bytes themselves
	literals [][]byte
}

// A place is where in a literal its chosen four bytes stand.
type place struct {
	literal int32
	offset  int32
}

const hashBits = 17

// hash spreads four bytes over the bitmap; the factor is that of Knuth's
// multiplicative hashing (The Art of Computer Programming 3, 6.4).
func hash(v uint32) uint32 { return v * 2654435761 >> (32 - hashBits) }

// New returns a finder for the literals, which are known by their index. A
// literal shorter than [MinLength] is never found.
func New(literals [][]byte) *Finder {
	f := &Finder{buckets: make(map[uint32][]place, len(literals)), literals: literals}
	for i, l := range literals {
		if len(l) < MinLength {
			continue
		}
		at := rarest(l)
		key := binary.LittleEndian.Uint32(l[at:])
		f.buckets[key] = append(f.buckets[key], place{int32(i), int32(at)})
		h := hash(key)
		f.maybe[h>>6] |= 1 << (h & 63)
	}
	return f
}

// rarest returns where the least common four bytes of a literal stand: letters
// and zeros are common in binaries, capitals and digits less, the rest rare.
func rarest(l []byte) int {
	best, least := 0, 1<<30
	for at := 0; at+4 <= len(l); at++ {
		weight := 0
		for _, c := range l[at : at+4] {
			weight += commonness(c)
		}
		if weight < least {
			best, least = at, weight
		}
	}
	return best
}

func commonness(c byte) int {
	switch {
	case c == 0 || c == 0xff:
		return 12
	case bytes.IndexByte([]byte("etaoinsr"), c) >= 0:
		return 6
	case 'a' <= c && c <= 'z' || c == ' ':
		return 4
	case 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '/' || c == '.':
		return 2
	}
	return 1
}

// Scan calls found for every occurrence of every literal, overlapping ones
// included. Start is an offset in data. The order is that of the literals'
// chosen bytes, and among equals that of the literals. Scan stops when found
// returns false.
func (f *Finder) Scan(data []byte, found func(literal, start int) bool) {
	i := 0
	for ; i+8 <= len(data); i += 4 { // four positions from one load
		v := binary.LittleEndian.Uint64(data[i:])
		a, b, c, d := uint32(v), uint32(v>>8), uint32(v>>16), uint32(v>>24)
		if f.test(a)|f.test(b)|f.test(c)|f.test(d) == 0 {
			continue
		}
		for j, key := range [4]uint32{a, b, c, d} {
			if f.test(key) != 0 && !f.verify(data, i+j, key, found) {
				return
			}
		}
	}
	for ; i+4 <= len(data); i++ {
		key := binary.LittleEndian.Uint32(data[i:])
		if f.test(key) != 0 && !f.verify(data, i, key, found) {
			return
		}
	}
}

// test is not zero if four bytes may be those of a literal.
func (f *Finder) test(key uint32) uint64 {
	h := hash(key)
	return f.maybe[h>>6&(1<<(hashBits-6)-1)] >> (h & 63) & 1
}

// verify compares the literals whose chosen bytes stand at data[i].
func (f *Finder) verify(data []byte, i int, key uint32, found func(literal, start int) bool) bool {
	for _, p := range f.buckets[key] {
		start := i - int(p.offset)
		l := f.literals[p.literal]
		if start >= 0 && len(data)-start >= len(l) && bytes.Equal(data[start:start+len(l)], l) && !found(int(p.literal), start) {
			return false
		}
	}
	return true
}
