package value

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const (
	maxText  = 4096 // bytes of a text
	minBuilt = 3    // bytes of a text on the stack; less may be any number
)

// textOf returns the text at the start of b that ends with a NUL. On Windows it
// may be UTF-16: where both readings are possible, the name of the function
// that gets it tells, which ends in W or A; else the longer reading counts.
func (r *Reader) textOf(b []byte, callee string) (string, bool) {
	narrow, isNarrow := narrowText(b)
	if r.m.Format != image.PE || strings.HasSuffix(callee, "A") && isNarrow {
		return narrow, isNarrow
	}
	wide, isWide := wideText(b)
	if isWide && (strings.HasSuffix(callee, "W") || !isNarrow || len(narrow) == 1 && utf8.RuneCountInString(wide) > 1) {
		return wide, true
	}
	return narrow, isNarrow
}

func narrowText(b []byte) (string, bool) {
	b = b[:min(len(b), maxText)]
	n := bytes.IndexByte(b, 0)
	if n < 1 || !printable(string(b[:n])) {
		return "", false
	}
	return string(b[:n]), true
}

func wideText(b []byte) (string, bool) {
	var units []uint16
	for ; len(b) >= 2 && len(units) < maxText/2; b = b[2:] {
		u := uint16(b[0]) | uint16(b[1])<<8
		if u == 0 {
			t := string(utf16.Decode(units))
			return t, len(units) > 0 && printable(t) && likely(t)
		}
		units = append(units, u)
	}
	return "", false
}

// likely reports whether a text of UTF-16 is one, and not bytes of something
// else that happen to be assigned characters: half of it is ASCII.
func likely(t string) bool {
	ascii, all := 0, 0
	for _, c := range t {
		all++
		if c < utf8.RuneSelf {
			ascii++
		}
	}
	return 2*ascii >= all
}

// printable reports whether all of a text can be shown, in UTF-8.
func printable(t string) bool {
	for _, c := range t {
		if c == utf8.RuneError || !unicode.IsPrint(c) && c != '\n' && c != '\r' && c != '\t' && c != 0x1b {
			return false
		}
	}
	return t != ""
}
