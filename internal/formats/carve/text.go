package carve

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Limits of literals.
const (
	minText    = 1 << 10 // characters of a literal to be looked at
	minNumbers = 256     // of a list
	maxPieces  = 1 << 20 // of one literal
	maxGlue    = 512     // characters between two pieces: an operator and indentation
	maxGuesses = 256     // literals of a file tried for compressions without a mark
	maxNames   = 1 << 16 // of lists that are joined
)

// Text finds programs, archives and compressed data that are written in source
// text: as base64 or hexadecimal digits in one literal or in several that
// follow each other, as lists of numbers, as strings of escapes. It knows no
// language: every quote may begin a literal.
func Text(data []byte) ([]Payload, []string) {
	t := &textSearch{search: search{data: data, file: bytes.NewReader(data), work: 8*int64(len(data)) + 64<<20}}
	for at := 0; at < len(data) && t.work >= 0; {
		next := 0
		switch c := data[at]; c {
		case '"', '\'', '`':
			if next = t.digits(at); next == 0 {
				next = t.escapes(at)
			}
		case ',':
			if at >= 6 && string(data[at-6:at]) == "base64" {
				next = t.uri(at + 1)
			}
		case '[', '(', '{':
			next = t.numbers(at)
		}
		at = max(at+1, next)
	}
	t.limit()
	found := t.found
	count := map[string]int{}
	line, at := 1, 0
	for i := range found {
		p := &found[i]
		line += bytes.Count(data[at:p.Range.Offset], []byte("\n"))
		at = int(p.Range.Offset)
		p.Line, p.Place = line, fmt.Sprintf("a literal in line %d", line)
		count[p.Name]++
		p.Name = fmt.Sprintf("%s:%d", p.Name, count[p.Name])
	}
	return found, t.notes
}

type textSearch struct {
	search
	guesses     int
	joinedNames map[string]bool // lists that are joined somewhere; nil until it is asked
}

// A literal is pieces of text, with the quotes and what stands between left out.
type literal struct {
	pieces []image.Range
	length int   // characters in them
	starts []int // indices of the pieces that begin a literal of their own
	commas []comma
	padded bool // it ended in =
	end    int  // behind its last quote
}

// A comma stands between literals that may be one.
type comma struct {
	piece int // index of the first piece behind it
	end   int // where the last quote before it ends
}

// elements returns the pieces between commas.
func (l *literal) elements() (out [][]image.Range) {
	from := 0
	for _, c := range l.commas {
		out = append(out, l.pieces[from:c.piece])
		from = c.piece
	}
	return append(out, l.pieces[from:])
}

func (l *literal) add(from, to int) {
	if from < to {
		l.pieces = append(l.pieces, image.Range{Offset: uint64(from), Size: uint64(to - from)})
		l.length += to - from
	}
}

// isDigit reports whether a character may stand in base64 or hexadecimal text.
func isDigit(c byte) bool { return base64Digits[c] < 64 }

// digits reads a literal of digits that begins with the quote at that place,
// and those that it is joined with, and returns where to go on; 0 if it is
// nothing.
func (t *textSearch) digits(at int) int {
	const least = 8 // in the first piece: most quotes begin something else
	var l literal
	if !t.piece(at, &l, least) {
		return 0
	}
	for len(l.pieces) < maxPieces {
		next, list := t.glue(l.end)
		if next < 0 || l.padded || list && t.begins(next+1) {
			break
		}
		before := comma{len(l.pieces), l.end}
		if !t.piece(next, &l, 1) {
			break
		}
		if list {
			l.commas = append(l.commas, before)
		}
	}
	if l.length < minText {
		if len(l.starts) == 1 {
			return l.end - 1 // what ends this one may begin the next
		}
		return l.end
	}
	if t.joined(at, &l) {
		if t.literal(l.pieces) {
			return l.end
		}
	} else {
		found := false
		for _, one := range l.elements() {
			found = size(one) >= minText && t.literal(one) || found
		}
		if found {
			return l.end
		}
	}
	for i, first := range l.starts { // a list of several
		last := len(l.pieces)
		if i+1 < len(l.starts) {
			last = l.starts[i+1]
		}
		if one := l.pieces[first:last]; len(l.starts) > 1 && size(one) >= minText {
			t.literal(one)
		}
	}
	return l.end
}

func size(pieces []image.Range) (n uint64) {
	for _, p := range pieces {
		n += p.Size
	}
	return n
}

// piece reads one literal that begins with a quote. It fails if anything but
// digits stands in it.
func (t *textSearch) piece(at int, l *literal, least int) bool {
	d := t.data
	quote, from := d[at:at+1], at+1
	lines := quote[0] == '`'
	if bytes.HasPrefix(d[at:], []byte(`"""`)) || bytes.HasPrefix(d[at:], []byte(`'''`)) {
		quote, from, lines = d[at:at+3], at+3, true
	}
	before := *l
	pos := from
	if lines {
		pos = skipSpace(d, pos)
		from = pos
	}
	run := pos
	for run < len(d) && run < pos+least && isDigit(d[run]) {
		run++
	}
	if run < pos+least {
		return false
	}
	l.starts = append(l.starts, len(l.pieces))
	padded := false
	for pos < len(d) && len(l.pieces) < maxPieces {
		c := d[pos]
		switch {
		case isDigit(c) && !padded:
			pos++
			continue
		case c == '=':
			padded = true
			l.add(from, pos)
			pos++
			from = pos
			continue
		case bytes.HasPrefix(d[pos:], quote):
			l.add(from, pos)
			l.padded, l.end = padded, pos+len(quote)
			return true
		case c == '\\' && pos+1 < len(d):
			l.add(from, pos)
			switch d[pos+1] {
			case 'n', 'r', 't', '\n':
				pos += 2
			case '\r':
				pos += 3
			case '/':
				from = pos + 1
				pos += 2
				continue
			default:
				*l = before
				return false
			}
			from = pos
			continue
		case lines && (c == '\n' || c == '\r'):
			l.add(from, pos)
			pos = skipSpace(d, pos)
			from = pos
			continue
		case lines && (c == ' ' || c == '\t') && bytes.HasPrefix(bytes.TrimLeft(d[pos:min(len(d), pos+maxGlue)], " \t\r\n"), quote):
			pos += len(d[pos:]) - len(bytes.TrimLeft(d[pos:], " \t\r\n")) // indentation of the closing quote
			l.add(from, pos)
			from = pos
			continue
		}
		break
	}
	*l = before
	return false
}

func skipSpace(d []byte, at int) int {
	for at < len(d) && (d[at] == ' ' || d[at] == '\t' || d[at] == '\r' || d[at] == '\n') {
		at++
	}
	return at
}

// glue looks whether another literal follows that may belong to the one before,
// and returns where its quote is, or -1. list tells that there is a comma.
func (t *textSearch) glue(at int) (next int, list bool) {
	d := t.data[:min(len(t.data), at+maxGlue)]
	for ; at < len(d); at++ {
		switch c := d[at]; c {
		case ' ', '\t', '\r', '\n', '+', '.', '\\', '(', ')', '&':
		case ',':
			list = true
		case '"', '\'', '`':
			return at, list
		case 'b', 'B', 'r', 'R', 'u', 'U', 'f', 'F':
			if at+2 >= len(d) || !strings.ContainsRune(`"'rRbB`, rune(d[at+1])) {
				return -1, list
			}
		default:
			return -1, list
		}
	}
	return -1, list
}

// What says that a list of literals is one text: the call around it, as in
// "".join(("a", "b")), implode(”, ['a', 'b']) and concat('a', 'b'), or the one
// behind it, as in ["a", "b"].join("").
var (
	joins    = pattern.New(`(?i)(\b(join|implode)\s*\(\s*((''|"")\s*,\s*)?(\[\]\s*string\s*\{|array\s*\(|new\s+string\s*\[\]\s*\{|[\[({])?|\bconcat\s*\()\s*[a-z]?$`)
	joinedBy = pattern.New(`^[\s,]*[\])}]+\s*\.\s*(join|concat)\b`)
	named    = pattern.New(`([A-Za-z_$][\w$]*)[\]\s]*(?::?=|:)[\s\w\[\]&]*[\[({]\s*[a-zA-Z]?$`)
	calls    = pattern.New(`[\w$\])]\s*\([^()\[\]{}]*$`)
)

// joined reports whether literals of which the first begins at that place are
// one: those between which no comma stands, those that something joins, and a
// list of three or more that was cut into pieces of one length. The arguments
// of a call are not.
func (t *textSearch) joined(at int, l *literal) bool {
	if len(l.commas) == 0 {
		return true
	}
	const near = 96
	before := t.data[max(0, at-near):at]
	if joins.Match(before) || joinedBy.Match(t.data[l.end:min(len(t.data), l.end+near)]) {
		return true
	}
	if calls.Match(before) {
		return false
	}
	if m := named.FindSubmatch(before); m != nil && t.joinsName(string(m[1])) {
		return true
	}
	parts := l.elements()
	whole, last := parts[:len(parts)-1], parts[len(parts)-1]
	return len(whole) >= 2 && size(last) <= size(whole[0]) &&
		!slices.ContainsFunc(whole, func(p []image.Range) bool { return size(p) != size(whole[0]) })
}

// joinsName reports whether a list of that name is joined anywhere in the file.
func (t *textSearch) joinsName(name string) bool {
	if t.joinedNames == nil {
		t.joinedNames = map[string]bool{}
		for _, m := range joinedNames.FindAllSubmatch(t.data, maxNames) {
			t.joinedNames[string(m[1])+string(m[2])] = true
		}
	}
	return t.joinedNames[name]
}

// joinedNames matches what joins a list by its name, as in parts.join("") and
// "".join(parts).
var joinedNames = pattern.New(`([A-Za-z_$][\w$]*)\s*\.\s*(?:join|concat)\b|\b(?:[Jj]oin|implode)\s*\(\s*(?:(?:''|"")\s*,\s*)?([A-Za-z_$][\w$]*)`)

// firsts are how base64 and hexadecimal text of what is looked for begins.
var firsts = []string{
	"f0VMR", "TVqQ", "TVpQ", "TVoA", "TVpA", "TVpS", "AGFzbQ", "z/rt/g", "zvrt/g", "yv66vg", "H4sI", "UEsDB", "KLUv/", "/Td6WF", "BCJNG", "QlpoO", "ZGV4Cj", "N3q8r",
	"7f454c46", "7F454C46", "4d5a90", "4D5A90", "4d5a00", "4D5A00", "0061736d", "0061736D", "1f8b08", "1F8B08", "504b0304", "504B0304", "28b52ffd", "28B52FFD", "cffaedfe", "CFFAEDFE",
}

// begins reports whether something that is looked for may begin there.
func (t *textSearch) begins(at int) bool {
	return slices.ContainsFunc(firsts, func(f string) bool { return bytes.HasPrefix(t.data[at:], []byte(f)) })
}

// uri reads what follows "base64," in the URI of some data.
func (t *textSearch) uri(at int) int {
	end := at
	for end < len(t.data) && isDigit(t.data[end]) {
		end++
	}
	var l literal
	l.add(at, end)
	if l.length < minText || !t.literal(l.pieces) {
		return 0
	}
	return end
}

// literal looks what digits stand for.
func (t *textSearch) literal(all []image.Range) bool {
	all = slices.Clone(all)
	first, last := all[0], all[len(all)-1]
	p := Payload{Range: image.Range{Offset: first.Offset, Size: last.Offset + last.Size - first.Offset}, Pieces: all}
	if t.hexadecimal(all) {
		p.Name, p.Chain = "hex", []Encoding{Hex}
		if t.accept(p) {
			return true
		}
	}
	p.Name, p.Chain = "base64", []Encoding{Base64}
	return t.accept(p)
}

// hexadecimal reports whether the beginning has no other digits.
func (t *textSearch) hexadecimal(all []image.Range) bool {
	n := 0
	for _, p := range all {
		for _, c := range t.data[p.Offset : p.Offset+p.Size] {
			if hexDigits[c] > 15 {
				return false
			}
			if n++; n > 256 {
				return true
			}
		}
	}
	return true
}

// accept takes a payload if something comes out that is worth it.
func (s *search) accept(p Payload) bool { return s.acceptAs(p, nil) }

func (t *textSearch) accept(p Payload) bool { return t.acceptAs(p, &t.guesses) }

// acceptAs tries compressions without a mark if guesses says how many times
// that was done before.
func (s *search) acceptAs(p Payload, guesses *int) bool {
	size := int64(len(s.data))
	head := p.head(s.file, size)
	if head == nil || shown(head) {
		return false
	}
	layers := len(p.Chain)
	if !p.resolve(s.file, size, head) {
		return false
	}
	if p.Kind == Data && len(p.Chain) == layers {
		if guesses == nil || *guesses >= maxGuesses || !high(head) && len(head) >= 1<<10 {
			return false
		}
		*guesses++
		return s.guess(p)
	}
	if p.Kind == Data {
		if !s.whole(&p) || int64(len(p.head(s.file, size))) < minData {
			return false
		}
	}
	s.found = append(s.found, p)
	return true
}

// guess tries compressions that nothing marks.
func (s *search) guess(p Payload) bool {
	for _, e := range []Encoding{Brotli, Deflate} {
		q := p
		q.Chain = append(slices.Clip(p.Chain), e)
		s.work -= headSize
		if q.resolve(s.file, int64(len(s.data)), nil) && q.Kind != Data && q.Kind != Script {
			s.found = append(s.found, q)
			return true
		}
	}
	return false
}

// shown reports whether something is made to be looked at or listened to.
func shown(head []byte) bool {
	return slices.ContainsFunc([]string{"\x89PNG", "GIF8", "\xff\xd8\xff", "wOFF", "wOF2", "OTTO", "\x00\x01\x00\x00\x00", "RIFF", "<svg", "<?xml", "%PDF", "ID3", "OggS", "\x00\x00\x01\x00", "{\"version\""},
		func(m string) bool { return bytes.HasPrefix(head, []byte(m)) })
}

// numbers reads a list of the values of bytes, and returns where to go on.
func (t *textSearch) numbers(at int) int {
	d := t.data
	at = skipSpace(d[:min(len(d), at+maxGlue)], at+1)
	if at >= len(d) || (d[at] < '0' || d[at] > '9') && d[at] != '-' {
		return 0
	}
	if !marked(units(d[at:min(len(d), at+96)], readNumber)) {
		return 0
	}
	commas, end := 0, at
	for ; end < len(d); end++ {
		c := d[end]
		if c == ',' {
			commas++
		} else if hexDigits[c] == 0xff && c != 'x' && c != 'X' && c != '-' {
			break
		}
	}
	if commas < minNumbers-1 {
		return 0
	}
	p := Payload{Name: "numbers", Range: image.Range{Offset: uint64(at), Size: uint64(end - at)}, Chain: []Encoding{Numbers}}
	t.accept(p)
	return end
}

// units decodes the first bytes of a text.
func units(text []byte, unit func(*bufio.Reader, []byte) (int, error)) []byte {
	head := make([]byte, 8)
	n, _ := io.ReadFull(&textReader{in: bufio.NewReaderSize(bytes.NewReader(text), 16), unit: unit}, head)
	return head[:n]
}

// marked reports whether bytes begin as what is looked for does.
func marked(head []byte) bool {
	return len(head) >= 4 && slices.ContainsFunc([]string{
		"\x7fELF", "MZ", "\x00asm", "\xcf\xfa\xed\xfe", "\xce\xfa\xed\xfe", "\xca\xfe\xba\xbe", "\x1f\x8b\x08", "PK\x03\x04", "\x28\xb5\x2f\xfd", "\xfd7zX", "BZh", "\x04\x22\x4d\x18",
		"dex\n", "x\x9c", "x\xda", "x\x01", "x\x5e", "\x5d\x00\x00", "7z\xbc\xaf",
	}, func(m string) bool { return bytes.HasPrefix(head, []byte(m)) })
}

// escapes reads a string literal with escapes, and those that follow, and
// returns where to go on.
func (t *textSearch) escapes(at int) int {
	d := t.data
	if at+minText > len(d) || !strings.ContainsRune("\\MPxB(d]7", rune(d[at+1])) || !marked(units(d[at+1:at+64], readEscape)) {
		return 0
	}
	var l literal
	for next, list := at, false; next >= 0 && len(l.pieces) < maxPieces; {
		quote, from := d[next:next+1], next+1
		if bytes.HasPrefix(d[next:], []byte(`"""`)) || bytes.HasPrefix(d[next:], []byte(`'''`)) {
			quote, from = d[next:next+3], next+3
		}
		end := from
		for end < len(d) && !bytes.HasPrefix(d[end:], quote) {
			if d[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(d) {
			t.work -= int64(len(d) - from) // each quote on the way may look as far
			break
		}
		if list {
			l.commas = append(l.commas, comma{len(l.pieces), l.end})
		}
		l.add(from, end)
		l.end = end + len(quote)
		next, list = t.glue(l.end)
	}
	if !t.joined(at, &l) { // the others are looked at in their turn
		first := l.commas[0]
		t.work -= int64(l.end - first.end)
		l.pieces, l.end = l.pieces[:first.piece], first.end
		l.length = int(size(l.pieces))
	}
	if l.length < minText {
		return 0
	}
	first, last := l.pieces[0], l.pieces[len(l.pieces)-1]
	t.accept(Payload{
		Name: "string", Range: image.Range{Offset: first.Offset, Size: last.Offset + last.Size - first.Offset},
		Pieces: l.pieces, Chain: []Encoding{Escapes},
	})
	return l.end
}

// texts looks for programs written in digits inside a binary. Runs of digits
// there have no quotes around them, and may touch other text.
func (s *search) texts(r region) {
	const stride, sure = minText / 2, 16
	if r.code {
		return
	}
	b := s.data[r.off:r.end]
	digit := func(c byte) bool { return isDigit(c) || c == '\n' || c == '\r' }
	done := 0
	for at := stride; at+sure <= len(b) && s.work >= 0; at += stride {
		if slices.ContainsFunc(b[at:at+sure], func(c byte) bool { return !digit(c) }) {
			continue
		}
		from, to := at, at
		for from > done && digit(b[from-1]) {
			from--
		}
		for to < len(b) && digit(b[to]) {
			to++
		}
		if done = to; to-from >= minText {
			s.run(r, from, to)
		}
		at = max(at, to-to%stride)
	}
}

// run looks at a run of digits for where something may begin.
func (s *search) run(r region, from, to int) {
	text := s.data[r.off+from : r.off+to]
	found := func(at int) bool {
		p := s.payload(r, from+at, len(text)-at)
		if at == 0 && s.tryDigits(p, text) {
			return true
		}
		return at > 0 && s.tryDigits(p, text[at:])
	}
	if found(0) {
		return
	}
	for _, f := range firsts {
		if at := bytes.Index(text, []byte(f)); at > 0 && found(at) {
			return
		}
	}
}

// tryDigits tries both encodings of digits.
func (s *search) tryDigits(p Payload, text []byte) bool {
	s.work -= headSize
	if !slices.ContainsFunc(text[:min(len(text), 256)], func(c byte) bool { return hexDigits[c] == 0xff }) {
		p.Chain = []Encoding{Hex}
		if s.accept(p) {
			return true
		}
	}
	p.Chain = []Encoding{Base64}
	return s.accept(p)
}
