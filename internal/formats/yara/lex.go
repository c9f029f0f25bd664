package yara

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A token is a word of the language.
type token struct {
	kind tokenKind
	text string // of a name, a mark or a keyword; the bytes of a text, unescaped; the source of a regex
	num  int64
	real float64
	mods string // of a regex: the letters after its second slash
	line int
	at   int // where it begins
}

type tokenKind uint8

const (
	tokEnd    tokenKind = iota
	tokName             // identifiers and keywords
	tokString           // $a, #a, @a, !a: text begins with the sign; a trailing * for a wildcard
	tokText
	tokNumber
	tokFloat
	tokRegex
	tokHex  // the source between the braces
	tokMark // punctuation and operators
)

func (t token) String() string {
	switch t.kind {
	case tokEnd:
		return "the end of the file"
	case tokText:
		return "a text"
	case tokNumber:
		return strconv.FormatInt(t.num, 10)
	case tokFloat:
		return strconv.FormatFloat(t.real, 'g', -1, 64)
	case tokRegex:
		return "a regular expression"
	case tokHex:
		return "a hexadecimal string"
	}
	return strconv.Quote(t.text)
}

func (t token) is(text string) bool {
	return (t.kind == tokMark || t.kind == tokName) && t.text == text
}

// A lexer cuts a file into tokens.
type lexer struct {
	src  []byte
	at   int
	line int
}

// A syntaxError is text that is no YARA.
type syntaxError struct {
	line   int
	reason string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.reason) }

func (l *lexer) fail(format string, args ...any) {
	panic(&syntaxError{l.line, fmt.Sprintf(format, args...)})
}

// space skips white space and comments.
func (l *lexer) space() {
	for l.at < len(l.src) {
		switch rest := l.src[l.at:]; {
		case rest[0] == '\n':
			l.line++
			l.at++
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			l.at++
		case bytes.HasPrefix(rest, []byte("//")):
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			l.at += end
		case bytes.HasPrefix(rest, []byte("/*")):
			end := bytes.Index(rest[2:], []byte("*/"))
			if end < 0 {
				l.fail("a comment does not end")
			}
			l.line += bytes.Count(rest[:end], []byte("\n"))
			l.at += end + 4
		default:
			return
		}
	}
}

// marks are the operators of more than one character, longest first.
var marks = []string{"==", "!=", "<=", ">=", "<<", ">>", ".."}

func (l *lexer) next() token {
	l.space()
	t := token{line: l.line, at: l.at}
	if l.at == len(l.src) {
		return t
	}
	switch c := l.src[l.at]; {
	case letter(c):
		t.kind, t.text = tokName, l.word(0)
		return t
	case digit(c):
		l.number(&t)
		return t
	case c == '"':
		t.kind, t.text = tokText, l.text()
		return t
	case c == '/':
		t.kind = tokRegex
		t.text, t.mods = l.regex()
		return t
	case c == '$' || c == '#' || c == '@' || c == '!' && !bytes.HasPrefix(l.src[l.at:], []byte("!=")):
		t.kind, t.text = tokString, l.word(1)
		if c == '$' && l.at < len(l.src) && l.src[l.at] == '*' {
			t.text += "*"
			l.at++
		}
		return t
	}
	t.kind = tokMark
	for _, m := range marks {
		if bytes.HasPrefix(l.src[l.at:], []byte(m)) {
			t.text = m
			l.at += len(m)
			return t
		}
	}
	c := l.src[l.at]
	if !strings.ContainsRune("{}()[]:=<>+-*\\%&|^~,.", rune(c)) {
		l.fail("unexpected character %q", c)
	}
	t.text = string(rune(c))
	l.at++
	return t
}

// word reads a run of letters and digits after skip bytes that belong to it.
func (l *lexer) word(skip int) string {
	from := l.at
	l.at += skip
	for l.at < len(l.src) && (letter(l.src[l.at]) || digit(l.src[l.at])) {
		l.at++
	}
	return string(l.src[from:l.at])
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }

// number reads an integer, with KB or MB after it, or a fraction.
func (l *lexer) number(t *token) {
	from := l.at
	text := l.word(0)
	rest := l.src[l.at:]
	if len(rest) > 1 && rest[0] == '.' && digit(rest[1]) {
		l.at++
		text += "." + l.word(0)
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || strings.ContainsAny(text, "eEpPxX_") {
			l.fail("%q is no number", text)
		}
		t.kind, t.real = tokFloat, f
		return
	}
	digits, unit := text, int64(1)
	if d, ok := strings.CutSuffix(text, "KB"); ok {
		digits, unit = d, 1<<10
	} else if d, ok := strings.CutSuffix(text, "MB"); ok {
		digits, unit = d, 1<<20
	}
	base := 10
	if d, ok := strings.CutPrefix(digits, "0x"); ok {
		digits, base = d, 16
	} else if d, ok := strings.CutPrefix(digits, "0o"); ok {
		digits, base = d, 8
	}
	n, err := strconv.ParseInt(digits, base, 64)
	if err != nil || n > (1<<63-1)/unit {
		l.fail("%q is no number of 64 bits", l.src[from:l.at])
	}
	t.kind, t.num = tokNumber, n*unit
}

// text reads a text in quotes.
func (l *lexer) text() string {
	var out []byte
	for l.at++; l.at < len(l.src); l.at++ {
		switch c := l.src[l.at]; c {
		case '"':
			l.at++
			return string(out)
		case '\n':
			l.fail("a text does not end on its line")
		case '\\':
			l.at++
			out = append(out, l.escape())
		default:
			out = append(out, c)
		}
	}
	l.fail("a text does not end")
	return ""
}

// escape reads what follows a backslash in a text, up to its last byte.
func (l *lexer) escape() byte {
	rest := l.src[l.at:]
	if len(rest) > 0 {
		switch rest[0] {
		case '"', '\\':
			return rest[0]
		case 't':
			return '\t'
		case 'n':
			return '\n'
		case 'r':
			return '\r'
		case 'x':
			if len(rest) > 2 {
				if n, err := strconv.ParseUint(string(rest[1:3]), 16, 8); err == nil {
					l.at += 2
					return byte(n)
				}
			}
		}
	}
	l.fail("unknown escape in a text: want \\\", \\\\, \\t, \\n, \\r or \\xNN")
	return 0
}

// regex reads a regular expression between slashes and the letters after it.
func (l *lexer) regex() (source, mods string) {
	var out []byte
	for l.at++; l.at < len(l.src); l.at++ {
		switch c := l.src[l.at]; c {
		case '/':
			l.at++
			from := l.at
			for l.at < len(l.src) && (l.src[l.at] == 'i' || l.src[l.at] == 's') {
				l.at++
			}
			return string(out), string(l.src[from:l.at])
		case '\n':
			l.fail("a regular expression does not end on its line")
		case '\\':
			if l.at++; l.at == len(l.src) || l.src[l.at] == '\n' {
				l.fail("a regular expression does not end")
			}
			if l.src[l.at] != '/' {
				out = append(out, '\\')
			}
			out = append(out, l.src[l.at])
		default:
			out = append(out, c)
		}
	}
	l.fail("a regular expression does not end")
	return "", ""
}

// hex reads a hexadecimal string if one begins here. Its comments go.
func (l *lexer) hex() (token, bool) {
	l.space()
	if l.at == len(l.src) || l.src[l.at] != '{' {
		return token{}, false
	}
	t := token{kind: tokHex, line: l.line}
	l.at++
	var out []byte
	for {
		l.space()
		if l.at == len(l.src) {
			l.fail("a hexadecimal string does not end")
		}
		c := l.src[l.at]
		l.at++
		if c == '}' {
			t.text = string(out)
			return t, true
		}
		out = append(out, c)
	}
}
