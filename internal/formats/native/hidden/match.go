package hidden

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// A matcher finds many literals in one pass. Of each it knows four bytes at an
// even and four at an odd place, so that every other position of the data is
// looked at. That is twice as fast as package needle, which matters here: the
// same data is searched in some fifteen forms.
type matcher struct {
	shift    uint     // of hashes
	maybe    []uint64 // one bit a hash
	sure     []uint64 // the same for another hash, which is asked where the first says yes
	fewer    uint     // bits of a hash that are not looked at in heads
	heads    []int32  // by hash: index of the first place, plus 1
	places   []place
	literals [][]byte
	high     uint64 // high bits that no literal has, of eight bytes: all or none
}

// A place is where in a literal four of its bytes stand.
type place struct {
	key             uint32
	literal, offset int32
	next            int32 // place with the same hash, plus 1
}

// minLiteral is the length of the shortest literals that are found: those have
// four bytes at an even and at an odd place.
const minLiteral = 5

func newMatcher(literals [][]byte) *matcher {
	size := uint(bits.Len(uint(len(literals)))) + 5
	m := &matcher{shift: 32 - min(max(size, 10), 20), literals: literals, high: highBits}
	m.maybe = make([]uint64, 1<<(32-m.shift)/64)
	m.sure = make([]uint64, len(m.maybe))
	m.fewer = 3
	m.heads = make([]int32, 1<<(32-m.shift)>>m.fewer)
	m.places = make([]place, 0, 2*len(literals))
	for i, l := range literals {
		if len(l) < minLiteral {
			continue
		}
		if slices.ContainsFunc(l, func(c byte) bool { return c >= 0x80 }) {
			m.high = 0
		}
		for odd := range 2 {
			at := rarest(l, odd)
			key := binary.LittleEndian.Uint32(l[at:])
			h := m.hash(key)
			m.maybe[h>>6] |= 1 << (h & 63)
			again := m.again(key)
			m.sure[again>>6] |= 1 << (again & 63)
			m.places = append(m.places, place{key, int32(i), int32(at), m.heads[h>>m.fewer]})
			m.heads[h>>m.fewer] = int32(len(m.places))
		}
	}
	return m
}

// hash spreads four bytes; the factor is that of Knuth's multiplicative hashing
// (The Art of Computer Programming 3, 6.4).
func (m *matcher) hash(v uint32) uint32 { return v * 2654435761 >> m.shift }

// again is another hash.
func (m *matcher) again(v uint32) uint32 { return (v ^ v>>15) * 0x85ebca6b >> m.shift }

// rarest returns the even or odd place in a literal whose four bytes are least
// common: zeros are the most, bytes that repeat follow.
func rarest(l []byte, odd int) int {
	best, most := odd, -1
	for at := odd; at+4 <= len(l); at += 2 {
		a, b, c, d := l[at], l[at+1], l[at+2], l[at+3]
		score := 2 // for the first of them
		if b != a {
			score += 2
		}
		if c != a && c != b {
			score += 2
		}
		if d != a && d != b && d != c {
			score += 2
		}
		for _, c := range [4]byte{a, b, c, d} {
			if c != 0 && c != 0xff {
				score++
			}
		}
		if score > most {
			best, most = at, score
		}
	}
	return best
}

// scan calls found for every occurrence of every literal. It stops when found
// returns false.
func (m *matcher) scan(data []byte, found func(literal, start int) bool) {
	if len(m.places) == 0 {
		return
	}
	i := 0
	for ; i+8 <= len(data); i += 4 { // two positions from one load
		v := binary.LittleEndian.Uint64(data[i:])
		if high := v & m.high; uint32(high) != 0 && uint32(high>>16) != 0 || v&0xffff_ffff_ffff == 0 {
			continue
		}
		a, b := m.hash(uint32(v)), m.hash(uint32(v>>16))
		if (m.maybe[a>>6]>>(a&63)|m.maybe[b>>6]>>(b&63))&1 == 0 {
			continue
		}
		if m.maybe[a>>6]>>(a&63)&1 != 0 && !m.verify(data, i, uint32(v), a, found) {
			return
		}
		if m.maybe[b>>6]>>(b&63)&1 != 0 && !m.verify(data, i+2, uint32(v>>16), b, found) {
			return
		}
	}
	for ; i+4 <= len(data); i += 2 {
		key := binary.LittleEndian.Uint32(data[i:])
		if !m.verify(data, i, key, m.hash(key), found) {
			return
		}
	}
}

// verify compares the literals whose four bytes may stand at data[i].
func (m *matcher) verify(data []byte, i int, key, h uint32, found func(literal, start int) bool) bool {
	if again := m.again(key); m.sure[again>>6]>>(again&63)&1 == 0 {
		return true
	}
	for n := m.heads[h>>m.fewer]; n > 0; n = m.places[n-1].next {
		p := &m.places[n-1]
		if p.key != key {
			continue
		}
		start, l := i-int(p.offset), m.literals[p.literal]
		if start >= 0 && len(data)-start >= len(l) && bytes.Equal(data[start:start+len(l)], l) && !found(int(p.literal), start) {
			return false
		}
	}
	return true
}

// A stretch is a part of data, from one offset up to before another.
type stretch struct{ from, to int }

// block is how much of data is judged at once, in bytes.
const block = 64

// odd returns the stretches of data that are neither nearly empty nor plain text, with
// some of what is around them.
func odd(data []byte) []stretch {
	var out []stretch
	for at := 0; at < len(data); at += block {
		b := data[at:min(at+block, len(data))]
		if plainBlock(b) || sparse(b) {
			continue
		}
		from, to := max(0, at-block/2), min(at+block+block/2, len(data))
		if n := len(out); n > 0 && out[n-1].to >= from {
			out[n-1].to = to
		} else {
			out = append(out, stretch{from, to})
		}
	}
	return out
}

// sparse reports whether nearly all bytes are zero.
func sparse(b []byte) bool { return len(b) == block && bytes.Count(b, []byte{0}) > 44 }

// plainBlock reports whether all bytes are printable or zero.
func plainBlock(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		v := binary.LittleEndian.Uint64(b)
		if v == 0 {
			continue
		}
		if v&highBits != 0 {
			return false
		}
		// A byte is below 0x20 if adding 0x60 does not carry into its high bit;
		// then it must be zero.
		low := ^(v + 0x6060606060606060) & highBits
		zero := ^(v + 0x7f7f7f7f7f7f7f7f) & highBits
		if low != zero {
			return false
		}
	}
	for _, c := range b {
		if c != 0 && !printable(c) {
			return false
		}
	}
	return true
}
