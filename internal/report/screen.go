package report

import (
	"bytes"
	"strings"
)

// A style is how a piece of text looks on a terminal: the parameters of the
// escape sequence SGR (ECMA-48, section 8.3.117).
type style string

const (
	normal   style = ""
	bold     style = "1"
	dim      style = "2"
	red      style = "31"
	green    style = "32"
	yellow   style = "33"
	cyan     style = "36"
	boldRed  style = "1;31"
	alarming style = "1;97;41" // white on red
)

// A span is text without control characters, in one style.
type span struct {
	style style
	text  string
}

// A screen collects lines, none of them wider than its width.
type screen struct {
	out   bytes.Buffer
	color bool
	width int // columns; 0 for no limit
}

// line adds a line of spans. What does not fit is cut.
func (s *screen) line(spans ...span) {
	for len(spans) > 0 { // no blanks at the end
		last := &spans[len(spans)-1]
		if last.text = strings.TrimRight(last.text, " "); last.text != "" {
			break
		}
		spans = spans[:len(spans)-1]
	}
	total := 0
	for _, sp := range spans {
		total += columns(sp.text)
	}
	cut := s.width > 0 && total > s.width
	left := s.width
	for _, sp := range spans {
		size := columns(sp.text)
		if cut && size >= left {
			sp.text = head(sp.text, left-1) + "…"
			s.put(sp)
			break
		}
		left -= size
		s.put(sp)
	}
	s.out.WriteByte('\n')
}

func (s *screen) put(sp span) {
	if !s.color || sp.style == normal || sp.text == "" {
		s.out.WriteString(sp.text)
		return
	}
	s.out.WriteString("\x1b[" + string(sp.style) + "m" + sp.text + "\x1b[0m")
}

// text adds a paragraph, indented, broken into lines. At most most lines are
// shown; 0 is no limit.
func (s *screen) text(indent int, st style, text string, most int) {
	s.hang(strings.Repeat(" ", indent), st, text, most)
}

// hang adds a paragraph whose first line begins with lead and whose others are
// indented as far.
func (s *screen) hang(lead string, st style, text string, most int) {
	room := 0
	if s.width > 0 {
		room = max(s.width-columns(lead), 12)
	}
	lines := wrap(text, room)
	if most > 0 && len(lines) > most {
		lines = lines[:most]
		lines[most-1] = clip(lines[most-1]+" …", room)
	}
	for _, l := range lines {
		s.line(span{normal, lead}, span{st, l})
		lead = strings.Repeat(" ", columns(lead))
	}
}

// A column of a grid.
type column struct {
	title string
	right bool // aligned to the right
	path  bool // may be shortened in its middle
	drop  int  // columns that may be left out when there is no room go in this order, from 1
	cells []span
}

// narrow is how far a path is shortened before columns are left out.
const narrow = 32

// grid adds a table, indented by two columns and fitted to the width.
func (s *screen) grid(cols []*column) {
	const indent, gap = 2, 2
	size := make(map[*column]int)
	for _, c := range cols {
		size[c] = columns(c.title)
		for _, cell := range c.cells {
			size[c] = max(size[c], columns(cell.text))
		}
	}
	over := func() int {
		sum := indent - gap
		for _, c := range cols {
			sum += gap + size[c]
		}
		return sum - s.width
	}
	if s.width > 0 {
		fit(size, narrow, over)
		for drop := 1; over() > 0; drop++ {
			i := indexDrop(cols, drop)
			if i < 0 {
				break
			}
			delete(size, cols[i])
			cols = append(cols[:i:i], cols[i+1:]...)
		}
		fit(size, 8, over)
		if spare := -over(); spare > 0 { // a path that was cut too far gets its room back
			for c := range size {
				if c.path {
					full := columns(c.title)
					for _, cell := range c.cells {
						full = max(full, columns(cell.text))
					}
					size[c] = min(full, size[c]+spare)
				}
			}
		}
	}
	head := []span{{normal, strings.Repeat(" ", indent)}}
	for i, c := range cols {
		head = append(head, span{dim, fill(c, c.title, size[c], i == len(cols)-1)}, span{normal, strings.Repeat(" ", gap)})
	}
	s.line(head...)
	for row := range cols[0].cells {
		line := []span{{normal, strings.Repeat(" ", indent)}}
		for i, c := range cols {
			cell := c.cells[row]
			text := clip(cell.text, size[c])
			if c.path {
				text = shorten(cell.text, size[c])
			}
			line = append(line, span{cell.style, fill(c, text, size[c], i == len(cols)-1)}, span{normal, strings.Repeat(" ", gap)})
		}
		s.line(line...)
	}
}

// fit shortens the columns of paths, to no less than least, by what is over.
func fit(size map[*column]int, least int, over func() int) {
	for c, n := range size {
		if c.path && over() > 0 && n > least {
			size[c] = max(least, n-over())
		}
	}
}

// indexDrop returns the index of the column that is left out at the given turn.
func indexDrop(cols []*column, turn int) int {
	for i, c := range cols {
		if c.drop == turn {
			return i
		}
	}
	return -1
}

// fill brings text to n columns; the last column needs nothing on its right.
func fill(c *column, text string, n int, last bool) string {
	switch {
	case c.right:
		return strings.Repeat(" ", max(0, n-columns(text))) + text
	case last:
		return text
	}
	return pad(text, n)
}
