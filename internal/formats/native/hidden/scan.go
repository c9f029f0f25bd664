package hidden

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// Limits of one search.
const (
	chunk    = 64 << 10 // bytes that are transformed at once, so that they stay in the cache
	overlap  = 1 << 10  // of chunks; more than any word, four bytes to a letter
	maxFinds = 4096     // before they are judged together
)

// Scan returns the words that stand encoded in data, by offset. Of a word that
// can be read in several ways the simplest counts.
func (f *Finder) Scan(data []byte) []Find { return f.scan(data, true) }

// Glance is Scan for much data: it finds what is under a key of one byte by
// exclusive or, rotated, or in base64 or hexadecimal.
func (f *Finder) Glance(data []byte) []Find { return f.scan(data, false) }

func (f *Finder) scan(data []byte, deep bool) []Find {
	n := min(len(data), chunk)
	s := &search{f: f, data: data, room: make([]byte, n), half: make([]byte, n/2+1)}
	for at := 0; at < len(data); at += chunk - overlap {
		s.at, s.part = at, data[at:min(at+chunk, len(data))]
		s.everywhere()
		if !deep {
			if at+chunk >= len(data) || len(s.found) >= maxFinds {
				break
			}
			continue
		}
		for _, o := range odd(s.part) {
			if s.odd(at+o.from, data[at+o.from:at+o.to]); len(s.found) >= maxFinds {
				break
			}
		}
		if at+chunk >= len(data) || len(s.found) >= maxFinds {
			break
		}
	}
	return s.settled()
}

// A search is one call of Scan.
type search struct {
	f          *Finder
	data, part []byte
	at         int    // of part in data
	room, half []byte // for transforms of part
	found      []candidate
}

// A candidate is a find that may need another like it to count.
type candidate struct {
	Find
	weak bool
	rank int // of the way it was found, simplest first
}

// everywhere searches for what can stand among plain text.
func (s *search) everywhere() {
	s.literals(s.f.plain)
	s.combined(s.part, 1, 0)
}

// odd searches what is not plain text in all other ways.
func (s *search) odd(at int, part []byte) {

	s.at, s.part = at, part
	f := s.f
	s.added(s.part, 1, 0)
	for n := 2; n < len(f.lags); n++ {
		if len(f.lags[n].literals) > 0 {
			s.keyed(n)
		}
	}
	s.ramps()
	for _, step := range []int{2, 4} {
		for _, wide := range striped(part, step) {
			s.at, s.part = at+wide.from, part[wide.from:wide.to]
			for first := range step {
				s.thinned(step, first)
			}
		}
	}
}

// striped returns the stretches in which numbers of two or four bytes may lie of
// which only one byte changes, with some of what is around them.
func striped(b []byte, step int) []stretch {
	const (
		lane = 0x00ff_00ff_00ff
		some = 0xff_ffff // changes in the first two lanes
	)
	var out []stretch
	for i, rest := 0, b; len(rest) >= 12; i, rest = i+4, rest[4:] {
		v := binary.LittleEndian.Uint64(rest)
		if step == 2 {
			d := v ^ v>>16
			low, high := d&lane, d>>8&lane
			if (high != 0 || low&some == 0 || low>>16 == 0) && (low != 0 || high&some == 0 || high>>16 == 0) {
				continue
			}
		} else {
			d := v ^ binary.LittleEndian.Uint64(rest[4:])
			if uint32(d) == 0 || d>>32 == 0 {
				continue
			}
			both := uint32(d) | uint32(d>>32)
			if both&^(0xff<<(bits.TrailingZeros32(both)&^7)) != 0 {
				continue
			}
		}
		from, to := max(0, i-block), min(len(b), i+12+block)
		if n := len(out); n > 0 && out[n-1].to >= from {
			out[n-1].to = to
		} else {
			out = append(out, stretch{from, to})
		}
	}
	return out
}

// thinned searches every step-th byte: texts whose letters are stored as wider
// numbers.
func (s *search) thinned(step, from int) {
	n := 0
	for i := from; i < len(s.part); i += step {
		s.half[n] = s.part[i]
		n++
	}
	s.combined(s.half[:n], step, from)
	s.added(s.half[:n], step, from)
}

// combined searches for keys of one byte by exclusive or.
func (s *search) combined(part []byte, step, from int) {
	f := s.f
	if len(part) < MinWord {
		return
	}
	d := s.room[:len(part)-1]
	xorApart(d, part, 1)
	f.xor.finder.scan(d, func(l, start int) bool {
		lit := f.xor.literals[l]
		w := f.all[lit.word].text
		c := cipher{step: step, back: lit.form == backward, kind: byXor}
		if c.back {
			w = reverse(w)
		}
		c.key = part[start] ^ w[0]
		s.byte(lit, c, from+start*step)
		return len(s.found) < maxFinds
	})
}

// added searches for keys of one byte that were added, and grow or do not.
func (s *search) added(part []byte, step, from int) {
	f := s.f
	if len(part) < MinWord {
		return
	}
	d := s.room[:len(part)-2]
	secondOf(d, part)
	f.add.finder.scan(d, func(l, start int) bool {
		lit := f.add.literals[l]
		w := f.all[lit.word].text
		c := cipher{step: step, kind: byAdd, key: part[start] - w[0], rise: part[start+1] - part[start] - w[1] + w[0]}
		if lit.form == negated {
			c = cipher{step: step, kind: byNegative, key: part[start] + w[0], rise: part[start+1] - part[start] + w[1] - w[0]}
		}
		s.byte(lit, c, from+start*step)
		return len(s.found) < maxFinds
	})
}

// keyed searches for keys of n bytes.
func (s *search) keyed(n int) {
	if len(s.part) <= n {
		return
	}
	f := s.f
	d := s.room[:len(s.part)-n]
	xorApart(d, s.part, n)
	f.lags[n].finder.scan(d, func(l, start int) bool {
		lit := f.lags[n].literals[l]
		w := f.words[lit.word]
		c := cipher{step: 1, kind: byKey, long: make([]byte, n)}
		for i := range n {
			c.long[i] = s.part[start+i] ^ w[i]
		}
		s.byte(lit, c, start)
		return len(s.found) < maxFinds
	})
}

// ramps searches for keys that count up or down: of two numbers in a row, the
// first even, the exclusive or is 1.
func (s *search) ramps() {
	f := s.f
	for from := range 2 {
		n := pairsOf(s.room, s.part[min(from, len(s.part)):])
		f.ramp.finder.scan(s.room[:n], func(l, start int) bool {
			lit := f.ramp.literals[l]
			w := f.words[lit.word]
			first := from + 2*start - int(lit.arg)
			if first < 0 || first+len(w) > len(s.part) {
				return true
			}
			for _, rise := range []byte{1, 255} {
				c := cipher{step: 1, kind: byRamp, key: s.part[first] ^ w[0], rise: rise}
				if c.holds(s.part[first:], w) {
					s.byte(lit, c, first)
				}
			}
			return len(s.found) < maxFinds
		})
	}
}

// literals searches for encodings without a key.
func (s *search) literals(of set) {
	of.finder.scan(s.part, func(l, start int) bool {
		switch lit := of.literals[l]; lit.form {
		case rotated:
			s.byte(lit, cipher{step: 1, kind: byTurn, key: byte(lit.arg)}, start)
		case rot13:
			s.byte(lit, cipher{step: 1, kind: byRot13}, start)
		case hexed:
			s.hexadecimal(lit, start)
		case based:
			s.base64(lit, start)
		}
		return len(s.found) < maxFinds
	})
}

// add keeps a candidate unless it is known.
func (s *search) add(c candidate) { s.found = append(s.found, c) }

// apartMost is how far apart finds of the same kind may lie to support each
// other, in bytes.
const apartMost = 4096

// settled drops what is weak and alone, and of several readings of the same
// bytes all but the simplest.
func (s *search) settled() []Find {
	list := s.found
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.rank, b.rank), cmp.Compare(b.Size, a.Size), cmp.Compare(a.Word, b.Word), cmp.Compare(a.How, b.How))
	})
	list = slices.CompactFunc(list, func(a, b candidate) bool { return a.Find == b.Find })
	last := map[string]int{} // offset of the last find made in one way, for another word
	supported := make([]bool, len(list))
	index := map[string]int{}
	for i := range list {
		c := &list[i]
		if at, ok := last[c.How]; ok && c.Offset-at <= apartMost && c.Offset > at {
			supported[i], supported[index[c.How]] = true, true
		}
		if at, ok := last[c.How]; !ok || c.Offset > at {
			last[c.How], index[c.How] = c.Offset, i
		}
	}
	var out []Find
	end := -1 // of the bytes that are explained
	for i, c := range list {
		if c.weak && !supported[i] {
			continue
		}
		if n := len(out); n > 0 && c.Offset < end && c.How != out[n-1].How {
			continue // another reading of the same bytes
		}
		end = max(end, c.Offset+c.Size)
		out = append(out, c.Find)
	}
	return out
}

// xorApart sets d to the exclusive or of the bytes of b that lie n apart.
func xorApart(d, b []byte, n int) {
	far := b[n:]
	for len(d) >= 32 && len(b) >= 32 && len(far) >= 32 {
		x, y, z := (*[32]byte)(b), (*[32]byte)(far), (*[32]byte)(d)
		binary.LittleEndian.PutUint64(z[0:], binary.LittleEndian.Uint64(x[0:])^binary.LittleEndian.Uint64(y[0:]))
		binary.LittleEndian.PutUint64(z[8:], binary.LittleEndian.Uint64(x[8:])^binary.LittleEndian.Uint64(y[8:]))
		binary.LittleEndian.PutUint64(z[16:], binary.LittleEndian.Uint64(x[16:])^binary.LittleEndian.Uint64(y[16:]))
		binary.LittleEndian.PutUint64(z[24:], binary.LittleEndian.Uint64(x[24:])^binary.LittleEndian.Uint64(y[24:]))
		b, far, d = b[32:], far[32:], d[32:]
	}
	for i := range d {
		d[i] = b[i] ^ far[i]
	}
}

const highBits = 0x8080808080808080

// minus subtracts eight bytes from eight bytes, each for itself (H. Warren,
// Hacker's Delight, 2-18).
func minus(x, y uint64) uint64 {
	return ((x | highBits) - (y &^ highBits)) ^ ((x ^ ^y) & highBits)
}

// secondOf sets d to the differences of the differences of neighbours of b.
func secondOf(d, b []byte) {
	for len(b) >= 10 && len(d) >= 8 {
		x, y, z := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[1:]), binary.LittleEndian.Uint64(b[2:])
		binary.LittleEndian.PutUint64(d, minus(minus(z, y), minus(y, x)))
		b, d = b[8:], d[8:]
	}
	for i := range d {
		d[i] = b[i+2] - 2*b[i+1] + b[i]
	}
}

// pairsOf sets d to the exclusive or of each two neighbours of b and 1, and
// returns how many there are.
func pairsOf(d, b []byte) int {
	n := len(b) / 2
	d = d[:n]
	for len(b) >= 8 && len(d) >= 4 {
		v := binary.LittleEndian.Uint64(b)
		v = (v ^ v>>8 ^ 0x0001_0001_0001_0001) & 0x00ff_00ff_00ff_00ff
		v = (v | v>>8) & 0xffff_0000_ffff
		binary.LittleEndian.PutUint32(d, uint32(v|v>>16))
		b, d = b[8:], d[4:]
	}
	for i := range d {
		d[i] = b[2*i] ^ b[2*i+1] ^ 1
	}
	return n
}

func reverse(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// A cipher turns bytes of data into bytes of text, each for itself.
type cipher struct {
	kind cipherKind
	step int  // bytes of data for a letter
	back bool // the text runs towards lower addresses
	key  byte
	rise byte   // what the key grows by from letter to letter
	long []byte // key of several bytes
}

type cipherKind uint8

const (
	byXor cipherKind = iota
	byAdd
	byNegative
	byTurn
	byRot13
	byRamp
	byKey
)

// letter decodes the byte b of data, which is i letters behind the first of the
// word's bytes in data.
func (c *cipher) letter(b byte, i int) byte {
	switch c.kind {
	case byXor:
		return b ^ c.key
	case byAdd:
		return b - c.key - byte(i)*c.rise
	case byNegative:
		return c.key + byte(i)*c.rise - b
	case byTurn:
		return bits.RotateLeft8(b, -int(c.key))
	case byRot13:
		return byte(turn13(rune(b)))
	case byRamp:
		return b ^ (c.key + byte(i)*c.rise)
	case byKey:
		n := len(c.long)
		return b ^ c.long[(i%n+n)%n]
	}
	return b
}

// holds reports whether data begins with the word.
func (c *cipher) holds(data []byte, w string) bool {
	for i := range len(w) {
		if c.letter(data[i], i) != w[i] {
			return false
		}
	}
	return true
}

func (c *cipher) String() string {
	var s string
	switch c.kind {
	case byXor:
		if c.key != 0 {
			s = fmt.Sprintf("xor %#02x", c.key)
		}
	case byAdd:
		s = fmt.Sprintf("add %#02x", c.key)
		if c.rise != 0 {
			s = "add of a key that counts"
		}
	case byNegative:
		s = fmt.Sprintf("subtracted from %#02x", c.key)
		if c.rise != 0 {
			s = "subtracted from a key that counts"
		}
	case byTurn:
		s = fmt.Sprintf("rotated left by %d", c.key)
	case byRot13:
		s = "rot13"
	case byRamp:
		s = "xor with a key that counts"
	case byKey:
		s = fmt.Sprintf("xor with a key of %d bytes", len(c.long))
	}
	if c.back {
		if s != "" {
			s += ", "
		}
		s += "reversed"
	}
	if c.step > 1 {
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf("%d bytes to a letter", c.step)
	}
	return s
}
