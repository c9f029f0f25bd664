package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/width"

	"github.com/loupe-sec/loupe/internal/core/finding"
)

// prose returns text that people wrote as one line that is safe to show: white
// space is a single space, and at most limit bytes are kept.
func prose(s string, limit int) string {
	return name(strings.Join(strings.Fields(s), " "), limit)
}

// name returns text from a file, its spaces as they stand, as one line that is
// safe to show, at most limit bytes of it. Beyond [finding.Printable], whatever
// has no shape of its own is escaped, and no character carries more than three
// marks.
func name(s string, limit int) string {
	var b strings.Builder
	marks := 0
	for _, r := range finding.Printable(s, limit) {
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case marks > 3:
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// invisible reports whether r steers how the text around it is shown, or is
// not shown at all.
func invisible(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == 0x2028 || r == 0x2029
}

func surrogates(r rune) (high, low rune) { return utf16.EncodeRune(r) }

// columns returns how many columns of a terminal s takes.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

// runeColumns follows Unicode Standard Annex 11: wide and fullwidth characters
// take two columns, marks and the inner letters of Hangul syllables none.
func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf), r >= 0x1160 && r <= 0x11ff:
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// head returns the longest beginning of s that takes at most n columns.
func head(s string, n int) string {
	for i, r := range s {
		if n -= runeColumns(r); n < 0 {
			return s[:i]
		}
	}
	return s
}

// tail returns the longest end of s that takes at most n columns.
func tail(s string, n int) string {
	for i := len(s); i > 0; {
		r, size := utf8.DecodeLastRuneInString(s[:i])
		if n -= runeColumns(r); n < 0 {
			return s[i:]
		}
		i -= size
	}
	return s
}

// clip cuts s at its end to n columns.
func clip(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	if n < 1 {
		return ""
	}
	return head(s, n-1) + "…"
}

// shorten cuts s in its middle to n columns. Of a path the end says more than
// the beginning, so it keeps two thirds of the room.
func shorten(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	if n < 8 {
		return clip(s, n)
	}
	front := (n - 1) / 3
	return head(s, front) + "…" + tail(s, n-1-front)
}

// pad fills s up to n columns.
func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-columns(s)))
}

// wrap breaks s at its spaces into lines of at most n columns; a longer word
// is broken where it must. n of 0 is no limit.
func wrap(s string, n int) []string {
	if n <= 0 {
		return []string{s}
	}
	n = max(n, 2) // a wide character must fit
	var lines []string
	line, used := "", 0
	for word := range strings.SplitSeq(s, " ") {
		size := columns(word)
		if used > 0 && used+1+size <= n {
			line, used = line+" "+word, used+1+size
			continue
		}
		if used > 0 {
			lines = append(lines, line)
		}
		for size > n {
			front := head(word, n)
			lines = append(lines, front)
			word = word[len(front):]
			size = columns(word)
		}
		line, used = word, size
	}
	if used > 0 || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}

// byteSize returns n bytes for people: "71.2 kB".
func byteSize(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	x, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB"} {
		if x /= 1000; x < 999.5 {
			break
		}
	}
	if x < 9.95 {
		return fmt.Sprintf("%.1f %s", x, unit)
	}
	return fmt.Sprintf("%.0f %s", x, unit)
}

// number returns n and a noun: "1 binary", "3 binaries".
func number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
