package signature

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// An element is one value of ITU-T X.690 (BER). Signatures are mostly in its
// strict form, DER; Apple's leave lengths open.
type element struct {
	class byte // 0 universal, 1 application, 2 context, 3 private
	tag   int
	made  bool   // constructed: of elements
	open  bool   // of indefinite length
	full  []byte // with tag and length
	body  []byte // without them, nor the end of an open one
}

// Classes.
const (
	universal   = 0
	application = 1
	context     = 2
)

// Universal tags.
const (
	tagBoolean  = 1
	tagInteger  = 2
	tagOctets   = 4
	tagOID      = 6
	tagUTF8     = 12
	tagSequence = 16
	tagSet      = 17
	tagT61      = 20
	tagUTCTime  = 23
	tagTime     = 24
	tagUniv     = 28
	tagBMP      = 30
)

// maxNesting bounds elements inside elements. Certificates need about ten.
const maxNesting = 40

var errBER = errors.New("the encoding is broken")

// is reports whether e is of a class and tag.
func (e element) is(class byte, tag int) bool { return e.class == class && e.tag == tag }

// next splits the first element off b.
func next(b []byte) (e element, rest []byte, err error) { return nextAt(b, 0) }

func nextAt(b []byte, depth int) (e element, rest []byte, err error) {
	if len(b) < 2 || depth > maxNesting {
		return e, nil, errBER
	}
	e.class, e.tag, e.made = b[0]>>6, int(b[0]&0x1f), b[0]&0x20 != 0
	head := 1
	if e.tag == 0x1f { // the tag follows in groups of seven bits
		e.tag = 0
		for more := true; more; head++ {
			if head >= len(b) || head > 3 {
				return e, nil, errBER
			}
			e.tag, more = e.tag<<7|int(b[head]&0x7f), b[head]&0x80 != 0
		}
	}
	if head >= len(b) {
		return e, nil, errBER
	}
	size := int(b[head])
	head++
	switch {
	case size == 0x80:
		return openElement(e, b, head, depth)
	case size > 0x80:
		n := size & 0x7f
		if n > 4 || n > len(b)-head {
			return e, nil, errBER
		}
		size = 0
		for _, c := range b[head : head+n] {
			size = size<<8 | int(c)
		}
		head += n
	}
	if size < 0 || size > len(b)-head {
		return e, nil, errBER
	}
	e.full, e.body = b[:head+size:head+size], b[head:head+size:head+size]
	return e, b[head+size:], nil
}

// openElement finds the end of an element of indefinite length: two zero bytes
// behind its last element.
func openElement(e element, b []byte, head, depth int) (element, []byte, error) {
	if !e.made {
		return e, nil, errBER
	}
	e.open = true
	rest := b[head:]
	for {
		if len(rest) >= 2 && rest[0] == 0 && rest[1] == 0 {
			end := len(b) - len(rest)
			e.full, e.body = b[:end+2:end+2], b[head:end:end]
			return e, rest[2:], nil
		}
		var err error
		if _, rest, err = nextAt(rest, depth+1); err != nil {
			return e, nil, err
		}
	}
}

// A sequence walks the elements of a body. It ends at the first that cannot be
// read, and remembers that.
type sequence struct {
	rest []byte
	err  error
}

// elements walks what is in e, nothing if e is not made of elements.
func (e element) elements() *sequence {
	if !e.made {
		return &sequence{err: errBER}
	}
	return &sequence{rest: e.body}
}

// next returns the next element, if there is one.
func (s *sequence) next() (e element, ok bool) {
	if s.err != nil || len(s.rest) == 0 {
		return e, false
	}
	e, s.rest, s.err = next(s.rest)
	return e, s.err == nil
}

// want returns the next element, which must be of that class and tag.
func (s *sequence) want(class byte, tag int) element {
	e, ok := s.next()
	if !ok || !e.is(class, tag) {
		s.err = errBER
		return element{}
	}
	return e
}

// maybe returns the next element if it is of that class and tag.
func (s *sequence) maybe(class byte, tag int) (element, bool) {
	before := s.rest
	e, ok := s.next()
	if !ok || !e.is(class, tag) {
		if s.err == nil {
			s.rest = before
		}
		return element{}, false
	}
	return e, true
}

// first returns the first element in e.
func (e element) first() (element, error) {
	s := e.elements()
	if f, ok := s.next(); ok {
		return f, nil
	}
	return element{}, errBER
}

// octets returns the bytes of an octet string, which BER allows to come in
// pieces.
func (e element) octets() []byte {
	if !e.made {
		return e.body
	}
	var out []byte
	for s := e.elements(); ; {
		p, ok := s.next()
		if !ok {
			return out
		}
		if p.is(universal, tagOctets) && !p.made {
			out = append(out, p.body...)
		}
	}
}

// definite returns e as DER asks for it: with its length said. What is signed
// are those bytes, however they are stored.
func (e element) definite() []byte {
	out, ok := appendDefinite(nil, e, 0)
	if !ok {
		return e.full
	}
	return out
}

func appendDefinite(out []byte, e element, depth int) ([]byte, bool) {
	if depth > maxNesting {
		return nil, false
	}
	if !e.made {
		return append(out, e.full...), true
	}
	var body []byte
	s := e.elements()
	for {
		c, ok := s.next()
		if !ok {
			break
		}
		if body, ok = appendDefinite(body, c, depth+1); !ok {
			return nil, false
		}
	}
	if s.err != nil || e.tag >= 0x1f {
		return nil, false
	}
	out = append(out, e.full[0])
	return append(appendLength(out, len(body)), body...), true
}

func appendLength(out []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(out, byte(n))
	case n < 0x100:
		return append(out, 0x81, byte(n))
	case n < 0x10000:
		return append(out, 0x82, byte(n>>8), byte(n))
	case n < 0x1000000:
		return append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// oid returns an object identifier in dots, "" if e is none.
func (e element) oid() string {
	const longest = 64
	if !e.is(universal, tagOID) || len(e.body) == 0 || len(e.body) > longest {
		return ""
	}
	var b strings.Builder
	arc, bits := uint64(0), 0
	for i, c := range e.body {
		if bits += 7; bits > 63 {
			return ""
		}
		arc = arc<<7 | uint64(c&0x7f)
		if c&0x80 != 0 {
			if i == len(e.body)-1 {
				return ""
			}
			continue
		}
		if b.Len() == 0 { // the first two are one number
			root := min(arc/40, 2)
			b.WriteString(strconv.FormatUint(root, 10))
			arc -= root * 40
		}
		b.WriteByte('.')
		b.WriteString(strconv.FormatUint(arc, 10))
		arc, bits = 0, 0
	}
	return b.String()
}

// text returns a string of any of the types that names are made of.
func (e element) text() string {
	switch {
	case e.made:
		return ""
	case e.is(universal, tagBMP):
		return bmp(e.body)
	case e.is(universal, tagUniv):
		var b strings.Builder
		for i := 0; i+4 <= len(e.body) && i < 4*maxName; i += 4 {
			b.WriteRune(rune(uint32(e.body[i])<<24 | uint32(e.body[i+1])<<16 | uint32(e.body[i+2])<<8 | uint32(e.body[i+3])))
		}
		return cut(b.String())
	case e.is(universal, tagT61): // in practice Latin-1
		var b strings.Builder
		for _, c := range e.body[:min(len(e.body), maxName)] {
			b.WriteRune(rune(c))
		}
		return cut(b.String())
	}
	return cut(string(e.body[:min(len(e.body), maxName)]))
}

// bmp decodes big-endian UTF-16.
func bmp(b []byte) string {
	units := make([]uint16, 0, min(len(b)/2, maxName))
	for i := 0; i+2 <= len(b) && i < 2*maxName; i += 2 {
		units = append(units, uint16(b[i])<<8|uint16(b[i+1]))
	}
	return cut(string(utf16.Decode(units)))
}

// time returns a time of either type.
func (e element) time() (time.Time, error) {
	if e.made || len(e.body) > 40 {
		return time.Time{}, errBER
	}
	layouts := []string{"20060102150405Z0700", "20060102150405.999999999Z0700"}
	switch {
	case e.is(universal, tagUTCTime):
		layouts = []string{"060102150405Z0700", "0601021504Z0700"}
	case !e.is(universal, tagTime):
		return time.Time{}, errBER
	}
	for _, l := range layouts {
		if t, err := time.Parse(l, string(e.body)); err == nil {
			if e.tag == tagUTCTime && t.Year() >= 2050 { // RFC 5280, section 4.1.2.5.1
				t = t.AddDate(-100, 0, 0)
			}
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", e.body)
}
