// Package needle finds many literals in one pass over bytes. For each literal
// it picks four bytes at an even and four at an odd offset, those that occur
// least by chance; so one look at every other position of the data, into a
// bitmap of hashes, tells whether any literal could be there, and only then are
// literals compared.
//
// Against the automaton of Aho and Corasick it trades the guarantee of one
// step a byte for tables that are built in microseconds and fit into the first
// cache, which is what a program that runs for 30 milliseconds wants. The cost
// of a hit is bounded by the number of literals that share a hash.
package needle

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// MinLength is the shortest literal that is found, in bytes.
const MinLength = 4

// A Finder finds a fixed set of literals. It is safe for concurrent use.
type Finder struct {
	maybe    [1 << hashBits]uint64   // by the hash of three bytes, one bit for the fourth
	first    [1<<hashBits + 1]uint32 // by the same hash, where its places begin
	places   []place
	literals [][]byte
}

// A place is where in a literal four chosen bytes stand.
type place struct {
	key, mask uint32 // the mask leaves out the fourth byte where the literal has only three
	literal   int32
	offset    int32
}

const hashBits = 12

// hash returns the word of the bitmap for four bytes, which the first three of
// them decide, and the bit in it, which all four do: the upper bits of Knuth's
// multiplicative hashing (The Art of Computer Programming 3, 6.4).
func hash(v uint32) (word, bit uint32) {
	p := v * 2654435761
	return p >> (24 - hashBits) & (1<<hashBits - 1), p >> 26
}

// New returns a finder for the literals, which are known by their index. A
// literal shorter than [MinLength] is never found.
func New(literals [][]byte) *Finder {
	f := &Finder{literals: literals, places: make([]place, 0, 2*len(literals))}
	for i, l := range literals {
		if len(l) < MinLength {
			continue
		}
		for parity := range 2 {
			p := rarest(l, parity)
			p.literal = int32(i)
			f.places = append(f.places, p)
			word, bit := hash(p.key)
			f.first[word+1]++
			if p.mask == all {
				f.maybe[word] |= 1 << bit
			} else {
				f.maybe[word] = 1<<64 - 1
			}
		}
	}
	slices.SortStableFunc(f.places, func(a, b place) int {
		v, _ := hash(a.key)
		w, _ := hash(b.key)
		return cmp.Compare(v, w)
	})
	for h := range len(f.first) - 1 {
		f.first[h+1] += f.first[h]
	}
	return f
}

const all = 1<<32 - 1

// rarest returns the least common four bytes of a literal at an even or odd
// offset: letters and zeros are common in binaries, capitals and digits less,
// the rest rare. A literal of four bytes has only three at an odd offset.
func rarest(l []byte, parity int) place {
	if parity+4 > len(l) {
		return place{key: uint32(l[1]) | uint32(l[2])<<8 | uint32(l[3])<<16, mask: all >> 8, offset: 1}
	}
	best, least := 0, 1<<30
	for at := parity; at+4 <= len(l); at += 2 {
		weight := 0
		for _, c := range l[at : at+4] {
			weight += commonness(c)
		}
		if weight < least {
			best, least = at, weight
		}
	}
	return place{key: binary.LittleEndian.Uint32(l[best:]), mask: all, offset: int32(best)}
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
// chosen bytes, which is that of the offsets for a literal that does not
// overlap itself. Scan stops when found returns false.
func (f *Finder) Scan(data []byte, found func(literal, start int) bool) {
	rest := data
	for ; len(rest) >= 10; rest = rest[8:] { // four positions at a time
		v := binary.LittleEndian.Uint64(rest)
		w := binary.LittleEndian.Uint32(rest[6:])
		if (f.test(uint32(v))|f.test(uint32(v>>16))|f.test(uint32(v>>32))|f.test(w))&1 == 0 {
			continue
		}
		i := len(data) - len(rest)
		for at := i; at < i+8; at += 2 {
			key := binary.LittleEndian.Uint32(data[at:])
			if f.test(key)&1 != 0 && !f.verify(data, at, key, found) {
				return
			}
		}
	}
	i := len(data) - len(rest)
	for ; i+3 <= len(data); i += 2 {
		var last [4]byte // with a zero behind the end
		copy(last[:], data[i:])
		key := binary.LittleEndian.Uint32(last[:])
		if f.test(key)&1 != 0 && !f.verify(data, i, key, found) {
			return
		}
	}
}

// test has its lowest bit set if four bytes may be those of a literal.
func (f *Finder) test(key uint32) uint64 {
	word, bit := hash(key)
	return f.maybe[word] >> (bit & 63)
}

// verify compares the literals whose chosen bytes stand at data[i].
func (f *Finder) verify(data []byte, i int, key uint32, found func(literal, start int) bool) bool {
	word, _ := hash(key)
	for _, p := range f.places[f.first[word]:f.first[word+1]] {
		if (p.key^key)&p.mask != 0 {
			continue
		}
		start := i - int(p.offset)
		l := f.literals[p.literal]
		if start >= 0 && len(data)-start >= len(l) && bytes.Equal(data[start:start+len(l)], l) && !found(int(p.literal), start) {
			return false
		}
	}
	return true
}
