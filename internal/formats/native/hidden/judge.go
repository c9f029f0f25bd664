package hidden

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// byte judges a word that a cipher of single bytes yields from an offset in
// part on, and keeps it if nothing else explains the bytes.
func (s *search) byte(lit literal, c cipher, start int) {
	p := s.f.all[lit.word]
	at := s.at + start
	n := len(p.text)
	if at+(n-1)*c.step >= len(s.data) || !c.plausible(p) || !s.padded(c, at, n) {
		return
	}
	size := p.size
	if c.kind == byKey || c.kind == byRamp || c.kind == byTurn || c.kind == byRot13 {
		n = size
	}
	r := s.run(c, at, size)
	if !s.different(c, r) {
		return
	}
	weak := false
	switch {
	case size < fullWord:
		weak = r.before > 0 || size < fullWord-1 || c.kind != byXor
	case c.kind == byXor:
		weak = size == fullWord && r.before > 2 && r.behind > 2
	case c.kind == byAdd, c.kind == byNegative:
		if c.rise != 0 && size < minRamp {
			return
		}
		weak = size < fullWord+2 && (r.before > 2 || r.behind > 2)
	case c.kind == byKey:
		if readable(s.data[at : at+size]) {
			return // a text as it stands, which some key turns into any other
		}
		weak = size-len(c.long) < 7 && !(r.ended && r.begun && size-len(c.long) > 5)
	}
	s.add(candidate{
		Find: Find{Word: int(lit.word), Offset: at, Size: (size-1)*c.step + 1, How: c.String(), Decoded: r.text, Alone: r.before <= 2 && r.behind <= 2},
		weak: weak,
		rank: int(c.kind)*8 + c.step + len(c.long)*64,
	})
}

// readable reports whether bytes are text already.
func readable(b []byte) bool {
	for _, c := range b {
		if c != 0 && (c < 0x20 || c > 0x7e) {
			return false
		}
	}
	return true
}

// caseBit is what tells capitals from small letters.
const caseBit = 0x20

// plausible reports whether the key is one at all.
func (c *cipher) plausible(p pattern) bool {
	switch c.kind {
	case byXor:
		if c.back {
			return c.key != caseBit
		}
		return c.key&^caseBit != 0
	case byAdd:
		return c.rise != 0 || c.key != 0 && c.key != caseBit && c.key != 256-caseBit
	case byNegative:
		return true
	case byKey:
		for _, k := range c.long {
			if k == 0 {
				return false
			}
		}
		for n := 1; n <= len(c.long)/2; n++ { // a shorter key, repeated, is found as such
			if len(c.long)%n == 0 && strings.Repeat(string(c.long[:n]), len(c.long)/n) == string(c.long) {
				return false
			}
		}
	}
	return true
}

// padded reports whether the bytes between those of the letters are the same
// for all letters: zeros, or zeros under the key.
func (s *search) padded(c cipher, at, n int) bool {
	if c.step == 1 {
		return true
	}
	fill := s.data[at+1]
	if fill != 0 && fill != c.key && fill != 0xff {
		return false
	}
	for i := range n {
		for k := 1; k < c.step; k++ {
			if o := at + i*c.step + k; i < n-1 && s.data[o] != fill {
				return false
			}
		}
	}
	return true
}

// A run is the text around a word.
type run struct {
	text           string
	from, to       int  // in data
	before, behind int  // letters and digits next to the word
	begun, ended   bool // by a zero, encoded or not, or the end of data
}

// maxAround is how much of the text on either side of a word is decoded, in
// letters.
const maxAround = (maxDecoded - 100) / 2

// run decodes the printable run around the word of size letters at an offset.
func (s *search) run(c cipher, at, size int) run {
	get := func(i int) (byte, bool) { // a letter; false where data ends or holds zeros
		o := at + i*c.step
		if o < 0 || o >= len(s.data) {
			return 0, false
		}
		zero := true
		for k := o; k < min(o+c.step, len(s.data)); k++ {
			zero = zero && s.data[k] == 0
		}
		return c.letter(s.data[o], i), !zero
	}
	first, last := 0, size
	r := run{}
	from := first
	for ; first-from < maxAround; from-- {
		b, ok := get(from - 1)
		if !ok || b == 0 {
			r.begun = true
			break
		}
		if !printable(b) {
			break
		}
	}
	to := last
	for ; to-last < maxAround; to++ {
		b, ok := get(to)
		if !ok || b == 0 {
			r.ended = true
			break
		}
		if !printable(b) {
			break
		}
	}
	text := make([]byte, 0, to-from)
	for i := from; i < to; i++ {
		text = append(text, c.letter(s.data[at+i*c.step], i))
	}
	for i := first - from - 1; i >= 0 && wordly(text[i]); i-- {
		r.before++
	}
	for i := last - from; i < len(text) && wordly(text[i]); i++ {
		r.behind++
	}
	if c.back {
		text = []byte(reverse(string(text)))
		r.before, r.behind = r.behind, r.before
	}
	r.text, r.from, r.to = string(text), at+from*c.step, at+to*c.step
	return r
}

func printable(b byte) bool { return 0x20 <= b && b < 0x7f || b == '\t' || b == '\n' || b == '\r' }

func wordly(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || b == '_'
}

// different reports whether the bytes of a run are not plain text that happens
// to look like another: if they are printable as they stand, the printable run
// must be that of the decoded text and no longer, but for encoded zeros.
func (s *search) different(c cipher, r run) bool {
	if c.step > 1 {
		return true
	}
	if c.kind == byKey { // text that resembles itself, a key's length further on
		return !all(s.data[r.from:min(r.to, len(s.data))], func(b byte) bool { return b == 0 || printable(b) })
	}
	for _, b := range s.data[r.from:min(r.to, len(s.data))] {
		if !printable(b) {
			return true
		}
	}
	if before := r.from - 1; before >= 0 && printable(s.data[before]) && !r.begun {
		return false
	}
	if r.to < len(s.data) && printable(s.data[r.to]) && !r.ended {
		return false
	}
	for i := range len(r.text) {
		if strings.IndexByte("{}|~^`\"<>;\t\n\r", r.text[i]) >= 0 {
			return false
		}
	}
	return true
}

// hexadecimal keeps a word in hexadecimal digits.
func (s *search) hexadecimal(lit literal, start int) {
	at := s.at + start
	from, to := at, at+int(lit.length)
	for from >= 2 && at-from < 2*maxAround && isHex(s.data[from-1]) && isHex(s.data[from-2]) {
		from -= 2
	}
	for to+2 <= len(s.data) && to-at < 2*maxAround && isHex(s.data[to]) && isHex(s.data[to+1]) {
		to += 2
	}
	text, err := hex.DecodeString(string(s.data[from:to]))
	if err != nil {
		return
	}
	s.encoded(lit, at, text, (at-from)/2, "hexadecimal")
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
}

// base64 keeps a word in base64.
func (s *search) base64(lit literal, start int) {
	at := s.at + start
	// The core begins in the middle of a group, which depends on where in the
	// group the word does.
	from := at - (int(lit.arg)*8+5)/6
	if from < 0 {
		return
	}
	to := at + int(lit.length)
	for from >= 4 && at-from < 2*maxAround && all(s.data[from-4:from], isBase64) {
		from -= 4
	}
	for to < len(s.data) && to-at < 2*maxAround && isBase64(s.data[to]) {
		to++
	}
	digits := strings.NewReplacer("-", "+", "_", "/").Replace(string(s.data[from:to]))
	text := make([]byte, len(digits))
	n, _ := base64.RawStdEncoding.Strict().Decode(text, []byte(digits[:len(digits)&^3]))
	if rest := digits[len(digits)&^3:]; len(rest) > 1 {
		if k, err := base64.RawStdEncoding.Decode(text[n:], []byte(rest)); err == nil {
			n += k
		}
	}
	groups := (at - (int(lit.arg)*8+5)/6 - from) / 4
	s.encoded(lit, at, text[:n], groups*3+int(lit.arg), "base64")
}

func isBase64(b byte) bool { return wordly(b) || b == '+' || b == '/' || b == '-' }

func all(b []byte, is func(byte) bool) bool {
	for _, c := range b {
		if !is(c) {
			return false
		}
	}
	return true
}

// encoded keeps a word at an offset in decoded text.
func (s *search) encoded(lit literal, at int, text []byte, off int, how string) {
	w := s.f.words[lit.word]
	if off < 0 || off+len(w) > len(text) || string(text[off:off+len(w)]) != w {
		return
	}
	from, to := off, off+len(w)
	for from > 0 && printable(text[from-1]) && off-from < maxAround {
		from--
	}
	for to < len(text) && printable(text[to]) && to-off-len(w) < maxAround {
		to++
	}
	before, behind := 0, 0
	for i := off - 1; i >= from && wordly(text[i]); i-- {
		before++
	}
	for i := off + len(w); i < to && wordly(text[i]); i++ {
		behind++
	}
	decoded := string(text[from:to])
	s.add(candidate{Find: Find{Word: int(lit.word), Offset: at, Size: int(lit.length), How: how, Decoded: decoded[:min(len(decoded), maxDecoded)], Alone: before <= 2 && behind <= 2}})
}
