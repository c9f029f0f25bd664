package hidden

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// A matcher finds many literals in one pass. Of each it knows four bytes at
// every place modulo its stride, so that only every second or fourth position
// of the data is looked at. That is faster than package needle, which matters
// here: the same data is searched in some fifteen forms.
type matcher struct {
	stride int
	mask   uint32   // of hashes
	maybe  []uint64 // one bit a hash
	sure   []uint64 // the same for another hash, which is asked where the first says yes
	heads  []int32  // by hash without its lowest bits: index of the first place, plus 1
	places []place
	text   []byte  // of all literals
	ends   []int32 // in text, by literal
}

// A place is where in a literal four of its bytes stand.
type place struct {
	at      int32 // in the text of all
	literal int32
	next    int32 // place with the same hash, plus 1
}

const (
	// minLiteral is the length of the shortest literals that are found: those
	// have four bytes at an even and at an odd place.
	minLiteral = 5

	// longLiteral is from which length on literals have four bytes at every
	// place modulo four.
	longLiteral = 7
)

const (
	// sparseness says how few bits of a table are set: one of 64 at most, and of
	// the largest table, that has mostBits, some more. A look at one says no
	// most of the time, whatever the data: a branch that goes now this way and
	// now that costs more than the look.
	sparseness = 6
	leastBits  = 10
	mostBits   = 20

	coarse = 5 // bits of a hash that are not looked at in heads
)

// newMatcher returns a matcher of the literals that end at these places of a
// text, each where the next begins.
func newMatcher(text []byte, ends []int32) *matcher {
	m := &matcher{stride: 4, text: text, ends: ends}
	for n := range ends {
		if from, to := m.literal(n); to-from < longLiteral {
			m.stride = 2
		}
	}
	size := min(max(uint(bits.Len(uint(len(ends)*m.stride)))+sparseness, leastBits), mostBits)
	m.mask = 1<<size - 1
	m.maybe = make([]uint64, 1<<size/64)
	m.sure = make([]uint64, len(m.maybe))
	m.heads = make([]int32, 1<<size>>coarse)
	m.places = make([]place, 0, m.stride*len(ends))
	for n := range ends {
		begin, end := m.literal(n)
		if end-begin < minLiteral {
			continue
		}
		l := text[begin:end]
		for from := range m.stride {
			at := rarest(l, from, m.stride)
			key := binary.LittleEndian.Uint32(l[at:])
			h := m.hash(key)
			m.maybe[h>>6] |= 1 << (h & 63)
			again := m.again(key)
			m.sure[again>>6] |= 1 << (again & 63)
			m.places = append(m.places, place{int32(begin + at), int32(n), m.heads[h>>coarse]})
			m.heads[h>>coarse] = int32(len(m.places))
		}
	}
	return m
}

// literal returns where in the text one begins and ends.
func (m *matcher) literal(n int) (begin, end int) {
	if n > 0 {
		begin = int(m.ends[n-1])
	}
	return begin, int(m.ends[n])
}

const (
	spread = 2654435761    // the factor of Knuth's multiplicative hashing (The Art of Computer Programming 3, 6.4)
	least  = 32 - mostBits // bits that no table looks at
)

// hash spreads four bytes.
func (m *matcher) hash(v uint32) uint32 { return v * spread >> least & m.mask }

// again is another hash.
func (m *matcher) again(v uint32) uint32 { return (v ^ v>>15) * 0x85ebca6b >> least & m.mask }

// rarest returns the place in a literal, from one on in steps, whose four bytes
// are least common: zeros are the most, bytes that repeat follow.
func rarest(l []byte, from, step int) int {
	best, most := from, -1
	for at := from; at+4 <= len(l); at += step {
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
	for {
		if i = m.next(data, i); i+8 > len(data) {
			break
		}
		for range 2 {
			if !m.verify(data, i, found) {
				return
			}
			i += m.stride
		}
	}
	for ; i+4 <= len(data); i += m.stride {
		if !m.verify(data, i, found) {
			return
		}
	}
}

// next returns the first of two places, from one on, of which the bytes may be
// of a literal; where less than eight bytes are left if there are none.
func (m *matcher) next(data []byte, from int) int {
	maybe, mask := m.maybe, m.mask
	rest := data[from:]
	if m.stride == 2 {
		for ; len(rest) >= 8; rest = rest[4:] {
			v := binary.LittleEndian.Uint64(rest)
			a, b := uint32(v)*spread>>least&mask, uint32(v>>16)*spread>>least&mask
			if maybe[a>>6]&(1<<(a&63)) != 0 || maybe[b>>6]&(1<<(b&63)) != 0 {
				break
			}
		}
	} else {
		for ; len(rest) >= 8; rest = rest[8:] {
			v := binary.LittleEndian.Uint64(rest)
			a, b := uint32(v)*spread>>least&mask, uint32(v>>32)*spread>>least&mask
			if maybe[a>>6]&(1<<(a&63)) != 0 || maybe[b>>6]&(1<<(b&63)) != 0 {
				break
			}
		}
	}
	return len(data) - len(rest)
}

// verify compares the literals whose four bytes may stand at data[i].
func (m *matcher) verify(data []byte, i int, found func(literal, start int) bool) bool {
	key := binary.LittleEndian.Uint32(data[i:])
	h := m.hash(key)
	if m.maybe[h>>6]>>(h&63)&1 == 0 {
		return true
	}
	if again := m.again(key); m.sure[again>>6]>>(again&63)&1 == 0 {
		return true
	}
	for n := m.heads[h>>coarse]; n > 0; n = m.places[n-1].next {
		p := &m.places[n-1]
		if binary.LittleEndian.Uint32(m.text[p.at:]) != key {
			continue
		}
		begin, end := m.literal(int(p.literal))
		start, l := i-int(p.at)+begin, m.text[begin:end]
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
