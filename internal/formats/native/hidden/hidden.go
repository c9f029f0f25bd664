// Package hidden finds words that a binary holds in another form than plain
// text: encoded by the simple ciphers that programs use to keep the names of
// functions, paths, commands and addresses from being read, or put together by
// code.
//
// Data is searched by what a cipher leaves as it is. The difference of two
// neighbours is the same whatever one byte was added to both or combined with
// both by exclusive or, so that one search finds all keys; the same goes for
// bytes that lie a key's length apart. Code is searched by going through it: a
// small machine carries out functions that look as if they decode something,
// within narrow limits, on memory of its own.
//
// Only words that are given are found. What is found is text for certain
// bits, not by a guess about what looks like text; what else could explain the
// bytes, such as plain text that resembles another, is left out.
package hidden

import (
	"bytes"
	"encoding/base64"
	"math/bits"
	"slices"
)

// MinWord is the length of the shortest words that are found, in bytes. Those
// that are shorter than [fullWord] are found only with the zero at their end;
// any that code decodes and passes to a function from elsewhere are found too.
const MinWord = 5

// fullWord is from which length on a word is found without its end.
const fullWord = 7

// maxDecoded bounds the text that is given with a find, in bytes.
const maxDecoded = 300

// A Find is a word that stands encoded in data.
type Find struct {
	Word         int    // index into the words
	Offset, Size int    // of what encodes it, in bytes of data
	How          string // "xor 0x5a", "xor with a key of 4 bytes", "add 0x13", "rotated left by 3", "base64", "reversed" …
	Decoded      string // the printable run that holds the word, decoded in the same way, at most 300 bytes
	Alone        bool   // no more than two letters or digits stand right before the word, nor behind it
}

// A Finder finds a fixed set of words. It is safe for concurrent use.
type Finder struct {
	words []string
	xor   set            // by differences of neighbours
	add   set            // by differences of differences
	lags  [17]set        // by differences of bytes so far apart
	ramp  set            // by differences within pairs of neighbours
	plain set            // by the encoded bytes themselves
	texts set            // the words as they are
	all   []pattern      // by word
	short map[string]int // words of less than fullWord bytes: their index
	grams grams          // of all words
}

// A set is a group of literals that are searched for in one pass.
type set struct {
	finder   *matcher
	literals []literal
}

// A literal says what one of a finder's literals stands for.
type literal struct {
	word   int32
	length int32 // of base64 and hexadecimal, in characters
	arg    int8  // of rotated: bits; of based: bytes of the group before the word; of ramped: of the first pair, its place in the word
	form   form
}

// A form is how a word is turned into a literal.
type form uint8

const (
	forward  form = iota
	backward      // the text runs towards lower addresses
	negated       // the key minus the text
	rotated       // each byte, to the left
	rot13
	hexed
	based
	ramped
)

// A pattern is a word as it is looked for: short ones with their end.
type pattern struct {
	text string
	size int // without the end
}

// New returns a Finder of words. Words that are too short or too uniform to be
// told from chance are never found.
func New(words []string) *Finder {
	f := &Finder{words: slices.Clone(words), short: map[string]int{}}
	var xor, add, plain, ramp, texts build
	var lags [17]build
	all := 0
	for _, w := range words {
		all += len(w) + 1
	}
	plain.expect(14*len(words), 20*all)
	texts.expect(len(words), all)
	for _, b := range []*build{&xor, &add, &ramp} {
		b.expect(2*len(words), 2*all)
	}
	for n := range lags {
		if keyLength(n) {
			lags[n].expect(len(words), all)
		}
	}
	var buf []byte // for what is worked out about a word
	for i, w := range f.words {
		p := pattern{w, len(w)}
		if len(w) < fullWord {
			p.text += "\x00"
			f.short[w] = i
		}
		f.all = append(f.all, p)
		if len(w) < MinWord || distinct(w) < min(len(w)-1, 4) {
			continue
		}
		f.grams.add(w)
		one := func(form form) literal { return literal{word: int32(i), form: form} }
		b := []byte(p.text)
		texts.add(b, one(forward))
		buf = apart(buf[:0], b, 1)
		xor.add(buf, one(forward))
		if len(w) >= fullWord {
			slices.Reverse(buf)
			xor.add(buf, one(backward))
		}
		if buf = second(buf[:0], b); len(buf) >= 5 {
			add.add(buf, one(forward))
			for k := range buf {
				buf[k] = -buf[k]
			}
			add.add(buf, one(negated))
		}
		for n := range lags {
			if keyLength(n) && len(w)-n >= minApart {
				if buf = apart(buf[:0], b[:len(w)], n); varied(buf) {
					lags[n].add(buf, one(forward))
				}
			}
		}
		if len(w) >= minRamp {
			for from := range 2 {
				buf = pairs(buf[:0], b[from:len(w)])
				ramp.add(buf, literal{word: int32(i), form: ramped, arg: int8(from)})
			}
		}
		if len(w) >= fullWord {
			buf = forms(&plain, int32(i), b[:len(w)], buf)
		}
	}
	f.xor, f.add, f.ramp, f.plain, f.texts = xor.set(), add.set(), ramp.set(), plain.set(), texts.set()
	for n := range lags {
		f.lags[n] = lags[n].set()
	}
	return f
}

// keyLength reports whether keys of n bytes are looked for, and not only of one.
func keyLength(n int) bool { return 2 <= n && n <= 8 || n == 16 }

const (
	minApart = 5  // differences that must agree for a key of several bytes
	minRamp  = 11 // letters of a word under a key that counts up
)

// minTurned is how many letters of a word ROT13 must change.
const minTurned = 5

func changed(turned, w []byte) (n int) {
	for k := range turned {
		if turned[k] != w[k] {
			n++
		}
	}
	return n
}

// forms adds the encodings of a word that turn it into other fixed bytes. It
// works in buf, and returns that.
func forms(to *build, word int32, w, buf []byte) []byte {
	for n := 1; n < 8; n++ {
		buf = buf[:0]
		for _, c := range w {
			buf = append(buf, bits.RotateLeft8(c, n))
		}
		to.add(buf, literal{word: word, form: rotated, arg: int8(n)})
	}
	buf = buf[:0]
	for _, c := range w {
		buf = append(buf, byte(turn13(rune(c))))
	}
	if changed(buf, w) >= minTurned { // digits stay as they are
		to.add(buf, literal{word: word, form: rot13})
	}
	for _, digits := range []string{"0123456789abcdef", "0123456789ABCDEF"} {
		buf = buf[:0]
		for _, c := range w {
			buf = append(buf, digits[c>>4], digits[c&15])
		}
		to.add(buf, literal{word: word, form: hexed, length: int32(len(buf))})
	}
	for before := range 3 {
		buf = base64.StdEncoding.AppendEncode(buf[:0], append(make([]byte, before, 64), w...))
		core := buf[(before*8+5)/6 : (before+len(w))*8/6] // what depends on the word alone
		l := literal{word: word, form: based, arg: int8(before), length: int32(len(core))}
		to.add(core, l)
		if forURLs(core) {
			to.add(core, l)
		}
	}
	return buf
}

// forURLs turns base64 into its form for addresses (RFC 4648, section 5), and
// reports whether that is another.
func forURLs(core []byte) (differs bool) {
	for i, c := range core {
		switch c {
		case '+':
			core[i], differs = '-', true
		case '/':
			core[i], differs = '_', true
		}
	}
	return differs
}

// turn13 is ROT13.
func turn13(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z':
		return 'a' + (r-'a'+13)%26
	case 'A' <= r && r <= 'Z':
		return 'A' + (r-'A'+13)%26
	}
	return r
}

// build collects a set.
type build struct {
	text     []byte
	ends     []int32
	literals []literal
}

// expect makes room for n literals of so many bytes in all.
func (b *build) expect(n, size int) {
	b.text, b.ends, b.literals = make([]byte, 0, size), make([]int32, 0, n), make([]literal, 0, n)
}

func (b *build) add(text []byte, l literal) {
	b.text = append(b.text, text...)
	b.ends = append(b.ends, int32(len(b.text)))
	b.literals = append(b.literals, l)
}

func (b *build) set() set { return set{newMatcher(b.text, b.ends), b.literals} }

func distinct(s string) int {
	var seen [256]bool
	n := 0
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			n++
		}
	}
	return n
}

// varied reports whether differences are more than those of bytes that repeat.
func varied(d []byte) bool {
	zeros := bytes.Count(d, []byte{0})
	return zeros <= len(d)/3 && distinct(string(d)) >= min(len(d)-1, 5)
}

// apart appends the exclusive or of all bytes that lie n apart.
func apart(to, b []byte, n int) []byte {
	for i := range len(b) - n {
		to = append(to, b[i]^b[i+n])
	}
	return to
}

// second appends the differences of the differences of neighbours.
func second(to, b []byte) []byte {
	for i := range len(b) - 2 {
		to = append(to, b[i+2]-2*b[i+1]+b[i])
	}
	return to
}

// pairs appends the exclusive or of each two neighbours.
func pairs(to, b []byte) []byte {
	for i := 0; i+1 < len(b); i += 2 {
		to = append(to, b[i]^b[i+1])
	}
	return to
}
