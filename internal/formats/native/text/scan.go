package text

import (
	"encoding/binary"
	"math/bits"
)

// A scanner finds runs with bit masks: 64 bytes become 64 bits that tell which
// of them are printable, and a few shifts tell where enough of them follow each
// other. The time does not depend on what the bytes are, where testing one
// byte after the other stumbles over every accident in machine code.
type scanner struct {
	data  []byte
	base  uint64 // offset of data in the file
	least int    // characters of a run
	table *Table

	wideEnd int // where the last wide run ends
}

const (
	low7   = 0x7f7f7f7f7f7f7f7f
	high1  = 0x8080808080808080
	gather = 0x0102040810204080 // moves the high bits of eight bytes, shifted down, into the top byte
)

// mask returns which of the 64 bytes at b are printable (or tabs).
func mask(b *[64]byte) (printable uint64) {
	for i := 0; i < 64; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		x7 := x & low7
		text := (x7 + 0x6060606060606060) &^ (x7 + 0x0101010101010101) // 0x20 to 0x7e
		tab := ^((x7 ^ 0x0909090909090909) + low7)
		p := (text | tab) &^ x & high1
		printable |= (p >> 7 * gather >> 56) << i
	}
	return printable
}

func printable(c byte) bool { return c >= ' ' && c < 0x7f || c == '\t' }

func (s *scanner) scan() {
	var p0, two0, four0, lone0, pair0 uint64 // masks of the block before
	var tail [64]byte
	for at := 0; at < len(s.data); {
		var block *[64]byte
		if rest := s.data[at:]; len(rest) >= 64 {
			block = (*[64]byte)(rest)
		} else {
			clear(tail[:])
			copy(tail[:], rest)
			for i := len(rest); i < 64; i++ {
				tail[i] = 0xff // not printable
			}
			block = &tail
		}
		p := mask(block)

		// A bit of two stays where a run of two ends, and so on.
		two := p & (p<<1 | p0>>63)
		four := two & (two<<2 | two0>>62)
		ends := four & (p<<4 | p0>>60)
		if s.least == shortestCode {
			ends = four & (four<<4 | four0>>60)
		}

		// A wide run goes on where every other byte is printable. Whether those
		// between are zero need only be looked at there.
		lone := p &^ (p<<1 | p0>>63)
		pair := lone & (lone<<2 | lone0>>62)
		for fifth := pair & (pair<<4 | pair0>>60) & (p<<8 | p0>>56); fifth != 0; fifth &= fifth - 1 {
			if i := at + bits.TrailingZeros64(fifth); s.wide(i) {
				s.wideRun(i + 1)
			}
		}

		next := at + 64
		for ends != 0 {
			i := bits.TrailingZeros64(ends)
			// Back to the first printable byte, forward behind the last one.
			start := at + i + 1 - bits.LeadingZeros64(^(p << (63 - i)))
			if i+1 == bits.LeadingZeros64(^(p << (63 - i))) {
				for start = at; start > 0 && printable(s.data[start-1]); start-- {
				}
			}
			n := bits.TrailingZeros64(^(p >> i))
			if i+n < 64 {
				s.add(start, at+i+n, false)
				ends &= ^uint64(0) << (i + n)
				continue
			}
			end := s.end(at + 64)
			s.add(start, end, false)
			if end > next {
				next, p, two, four, lone, pair = end, 0, 0, 0, 0, 0
			}
			break
		}
		at = next
		p0, two0, four0, lone0, pair0 = p, two, four, lone, pair
	}
}

// end returns where the printable bytes from at on end.
func (s *scanner) end(at int) int {
	for len(s.data)-at >= 64 {
		p := mask((*[64]byte)(s.data[at:]))
		if p != ^uint64(0) {
			return at + bits.TrailingZeros64(^p)
		}
		at += 64
	}
	for at < len(s.data) && printable(s.data[at]) {
		at++
	}
	return at
}

// wide reports whether the byte at i is the fifth of a wide run, given that it
// and every other one before are printable.
func (s *scanner) wide(i int) bool {
	return i+1 < len(s.data) && s.data[i+1]|s.data[i-1]|s.data[i-3]|s.data[i-5]|s.data[i-7] == 0
}

// wideRun adds the wide run whose fifth or later pair ends at the zero byte at.
func (s *scanner) wideRun(at int) {
	if at < s.wideEnd {
		return
	}
	start := at - 1
	for start-2 >= s.wideEnd && s.data[start-1] == 0 && printable(s.data[start-2]) {
		start -= 2
	}
	end := at + 1
	for end+1 < len(s.data) && s.data[end+1] == 0 && printable(s.data[end]) {
		end += 2
	}
	s.add(start, end, true)
	s.wideEnd = end
}

func (s *scanner) add(start, end int, wide bool) {
	if len(s.table.runs) >= maxRuns {
		s.table.Cut = true
		return
	}
	size := uint32(end-start) << 1
	if wide {
		size |= 1
	}
	s.table.runs = append(s.table.runs, packed{uint32(s.base) + uint32(start), size})
}
