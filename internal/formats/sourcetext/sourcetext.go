// Package sourcetext reads of source code what a compiler leaves readable in a
// binary: the texts of its string literals and the names of its functions.
//
// It knows how the languages of native code write comments and literals, and no
// more of them: C, C++, Objective-C (ISO C11 6.4.5 and 6.4.9, C++ [lex.string]),
// Rust (Reference, "Tokens"), Zig (Language Reference, "String Literals"), Go
// and Cython.
package sourcetext

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// A Language is a family of ways to write comments and literals.
type Language uint8

// The languages.
const (
	None Language = iota
	C             // C, C++, Objective-C, CUDA
	Rust
	Zig
	Go
	Cython
)

var extensions = map[string]Language{
	".c": C, ".cc": C, ".cpp": C, ".cxx": C, ".c++": C, ".h": C, ".hh": C, ".hpp": C, ".hxx": C, ".inc": C, ".inl": C, ".ipp": C, ".m": C, ".mm": C, ".cu": C,
	".rs": Rust, ".zig": Zig, ".go": Go, ".pyx": Cython, ".pxi": Cython, ".pxd": Cython,
}

// LanguageOf returns the language of a file by the ending of its name.
func LanguageOf(name string) Language { return extensions[strings.ToLower(path.Ext(name))] }

// A Unit is what one file of source leaves in a binary.
type Unit struct {
	Literals  []string // pieces of string literals of at least MinLiteral bytes, sorted, without repeats
	Functions []string // names that are called or defined, sorted, without repeats
}

// MinLiteral is how long a piece of a literal must be: shorter ones are in
// every binary.
const MinLiteral = 6

// Limits on one file: generated tables hold hundreds of thousands.
const (
	maxLiterals  = 20_000
	maxFunctions = 20_000
	maxLiteral   = 200 // bytes that are compared of one
)

// Read reads a file of source. Literals that are put together from several, as
// in "a" "b", are one; those of printf and of Rust's macros are split where a
// value goes.
func Read(lang Language, src []byte) Unit {
	s := &scanner{lang: lang, src: src}
	s.run()
	return Unit{sorted(s.literals), sorted(s.functions)}
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for v := range set {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

type scanner struct {
	lang Language
	src  []byte
	at   int

	text      []byte // of the literal being put together
	open      bool   // there is one
	literals  map[string]bool
	functions map[string]bool
}

func (s *scanner) run() {
	s.literals, s.functions = map[string]bool{}, map[string]bool{}
	for s.at < len(s.src) {
		c := s.src[s.at]
		switch {
		case s.comment():
		case c == '"':
			s.quoted()
		case c == '`' && s.lang == Go:
			s.until("`")
		case c == '\'':
			s.tick()
		case c == '\\' && s.lang == Zig && s.has(`\\`):
			s.zigLine()
		case c == '#' && s.lang == C && s.startOfLine():
			s.directive()
		case letter(c):
			s.word()
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			s.at++ // literals with nothing but space between them are one
		default:
			s.end()
			s.at++
		}
	}
	s.end()
}

func (s *scanner) has(prefix string) bool {
	return bytes.HasPrefix(s.src[s.at:], []byte(prefix))
}

// comment passes over a comment and reports whether there was one.
func (s *scanner) comment() bool {
	switch {
	case s.lang == Cython && s.src[s.at] == '#', s.lang != Cython && s.has("//"):
		s.skipLine()
	case (s.lang == C || s.lang == Rust || s.lang == Go) && s.has("/*"):
		s.at += 2
		for depth := 1; depth > 0 && s.at < len(s.src); {
			switch {
			case s.has("*/"):
				depth--
				s.at += 2
			case s.lang == Rust && s.has("/*"): // they nest
				depth++
				s.at += 2
			default:
				s.at++
			}
		}
	default:
		return false
	}
	return true
}

func (s *scanner) skipLine() {
	for s.at < len(s.src) && s.src[s.at] != '\n' {
		s.at++
	}
}

func (s *scanner) startOfLine() bool {
	for i := s.at - 1; i >= 0; i-- {
		switch s.src[i] {
		case '\n':
			return true
		case ' ', '\t':
		default:
			return false
		}
	}
	return true
}

// directive passes over the file names of #include and the texts of #error,
// which no compiler keeps.
func (s *scanner) directive() {
	s.end()
	line := s.src[s.at:]
	word := strings.TrimLeft(string(line[1:min(len(line), 24)]), " \t")
	for _, d := range []string{"include", "import", "error", "warning", "pragma", "line"} {
		if strings.HasPrefix(word, d) {
			s.skipLine()
			return
		}
	}
	s.at++
}

// word reads a name, which may be the prefix of a literal.
func (s *scanner) word() {
	from := s.at
	for s.at < len(s.src) && (letter(s.src[s.at]) || digit(s.src[s.at])) {
		s.at++
	}
	name := string(s.src[from:s.at])
	next := byte(0)
	if s.at < len(s.src) {
		next = s.src[s.at]
	}
	switch {
	case s.lang == C && next == '"' && strings.HasSuffix(name, "R") && len(name) <= 3:
		s.rawC()
		return
	case s.lang == C && next == '"' && slices.Contains([]string{"L", "u8", "u", "U"}, name):
		return // the prefix of a literal, which the next step reads
	case s.lang == Rust && (next == '"' || next == '#') && slices.Contains([]string{"r", "br", "cr"}, name):
		s.rawRust()
		return
	case (s.lang == Rust || s.lang == Cython) && next == '"' && len(name) <= 2:
		return
	}
	s.end()
	for s.at < len(s.src) && (s.src[s.at] == ' ' || s.src[s.at] == '!' && s.lang == Rust) {
		s.at++
	}
	if len(name) >= MinLiteral && s.at < len(s.src) && s.src[s.at] == '(' && len(s.functions) < maxFunctions {
		s.functions[name] = true
	}
}

// rawC reads R"delimiter(text)delimiter".
func (s *scanner) rawC() {
	open := bytes.IndexByte(s.src[s.at:min(len(s.src), s.at+20)], '(')
	if open < 1 {
		s.at++
		return
	}
	delimiter := string(s.src[s.at+1 : s.at+open])
	s.at += open
	s.until(")" + delimiter + `"`)
}

// rawRust reads r##"text"##.
func (s *scanner) rawRust() {
	from := s.at
	for s.at < len(s.src) && s.src[s.at] == '#' {
		s.at++
	}
	if s.at == len(s.src) || s.src[s.at] != '"' { // r#type, a raw name
		return
	}
	s.until(`"` + strings.Repeat("#", s.at-from))
}

// until takes everything up to an end as it stands; s.at is on the byte before
// the text.
func (s *scanner) until(end string) {
	s.at++
	i := bytes.Index(s.src[s.at:], []byte(end))
	if i < 0 {
		s.at = len(s.src)
		return
	}
	s.begin()
	s.text = append(s.text, s.src[s.at:s.at+i]...)
	s.at += i + len(end)
}

// zigLine reads the rest of a line after \\.
func (s *scanner) zigLine() {
	s.at += 2
	from := s.at
	s.skipLine()
	s.begin()
	s.text = append(append(s.text, s.src[from:s.at]...), '\n')
}

// tick passes over a character, or the sign of a lifetime, or a text of Cython.
func (s *scanner) tick() {
	if s.lang == Cython {
		s.delimited('\'')
		return
	}
	s.end()
	s.at++
	if s.at < len(s.src) && s.src[s.at] == '\\' {
		s.at += 2
	}
	for n := 0; n < 8 && s.at+n < len(s.src); n++ { // '…', but not the 'a of a lifetime
		if s.src[s.at+n] == '\'' {
			s.at += n + 1
			return
		}
	}
}

func (s *scanner) quoted() { s.delimited('"') }

// delimited reads a literal with escapes.
func (s *scanner) delimited(mark byte) {
	if triple := strings.Repeat(string(mark), 3); s.lang == Cython && s.has(triple) {
		s.at += 2
		s.until(triple)
		return
	}
	s.at++
	s.begin()
	for s.at < len(s.src) && s.src[s.at] != mark {
		switch c := s.src[s.at]; {
		case c == '\\':
			s.escape()
		case c == '\n' && s.lang != Rust && s.lang != Cython: // it was no literal
			return
		default:
			s.text = append(s.text, c)
			s.at++
		}
	}
	s.at++
}

var escapes = map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '0': 0, 'a': 7, 'b': 8, 'f': 12, 'v': 11}

// escape reads what follows a backslash. Numbers end the piece: they are seldom
// part of a text that tells anything.
func (s *scanner) escape() {
	s.at++
	if s.at >= len(s.src) {
		return
	}
	c := s.src[s.at]
	s.at++
	switch {
	case c == '\n': // goes on in the next line
		for s.lang == Rust && s.at < len(s.src) && (s.src[s.at] == ' ' || s.src[s.at] == '\t') {
			s.at++
		}
	case escapes[c] != 0:
		s.text = append(s.text, escapes[c])
	case c == 'x' || c == 'u' || c == 'U' || digit(c):
		for s.at < len(s.src) && (hexDigit(s.src[s.at]) || s.src[s.at] == '{' || s.src[s.at] == '}') {
			s.at++
		}
		s.text = append(s.text, 0)
	default:
		s.text = append(s.text, c)
	}
}

func (s *scanner) begin() { s.open = true }

// end puts away the literal that is open, in pieces.
func (s *scanner) end() {
	if !s.open {
		return
	}
	s.pieces(func(piece []byte) {
		if len(piece) >= MinLiteral && len(s.literals) < maxLiterals && telling(piece) {
			s.literals[string(piece[:min(len(piece), maxLiteral)])] = true
		}
	})
	s.text, s.open = s.text[:0], false
}

// pieces splits a literal where the program puts a value: at the directives of
// printf, the braces of Rust and Zig, and bytes that are not text.
func (s *scanner) pieces(yield func([]byte)) {
	from := 0
	cut := func(at, skip int) {
		yield(s.text[from:at])
		from = at + skip
	}
	closed := -1 // where the next } stands, len(s.text) if there is none
	for i := 0; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '%' && s.lang != Rust && s.lang != Zig:
			n := 1
			for i+n < len(s.text) && strings.IndexByte("0123456789.-+ #*hlLqjzt", s.text[i+n]) >= 0 {
				n++
			}
			cut(i, min(n+1, len(s.text)-i))
			i = from - 1
		case (c == '{' || c == '}') && (s.lang == Rust || s.lang == Zig):
			if closed < i {
				closed = len(s.text)
				if j := bytes.IndexByte(s.text[i:], '}'); j >= 0 {
					closed = i + j
				}
			}
			end := i
			if closed < len(s.text) {
				end = closed
			}
			cut(i, end-i+1)
			i = from - 1
		case c < 0x20 && c != '\t' && c != '\n' && c != '\r', c == 0x7f:
			cut(i, 1)
		}
	}
	yield(s.text[min(from, len(s.text)):])
}

// telling reports whether a piece is more than punctuation and digits.
func telling(piece []byte) bool {
	n := 0
	for _, c := range piece {
		if letter(c) {
			n++
		}
	}
	return n >= MinLiteral-2
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }

func digit(c byte) bool { return '0' <= c && c <= '9' }

func hexDigit(c byte) bool { return digit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }
