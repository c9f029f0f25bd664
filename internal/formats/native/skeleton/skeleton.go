// Package skeleton writes down what a function does to the outside: what it
// calls in which order, with the texts and numbers that it passes, inside of
// the branches and loops that the calls stand in.
//
// It is not a decompiler and says so in its first line: what happens between
// calls is left out, and what could not be told is a question mark.
package skeleton

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

// Options say how a skeleton is written.
type Options struct {
	Name  func(addr uint64) string // of the function at an address, as a reader should see it; nil or empty for that of its symbol
	Lines int                      // at most; 40 if 0, and never less than 8
}

const (
	defaultLines = 40
	leastLines   = 8
	maxDepth     = 16  // of branches inside branches; deeper ones are written flat
	maxName      = 160 // bytes
	maxQuoted    = 60  // characters of a text
	shownArgs    = 6   // where nothing says how many there are
)

// Write returns the skeleton of function fn. The same binary gives the same
// text, and all of it is ASCII.
func Write(c *code.Code, r *value.Reader, fn int, opt Options) string {
	if fn < 0 || fn >= len(c.Functions) {
		return ""
	}
	w := &writer{c: c, opt: opt, results: map[uint64]string{}, calls: map[uint64]*value.Step{}, labels: map[int]bool{}}
	f := &c.Functions[fn]
	name := w.function(f.Addr)
	steps, whole := r.Steps(fn)
	if steps == nil && !whole {
		w.references(fn)
	} else {
		w.steps = steps
		w.prepare()
		w.all() // the first time to see what labels are needed
		w.lines, w.depth = nil, 0
		w.all()
	}
	title := fmt.Sprintf("// call skeleton of sub_%x (%s %s), not source code: what it calls, and with what", f.Addr, c.Image.Arch, c.Image.Format)
	signature := name + "() {"
	if strings.Contains(name, "(") {
		signature = name + " {"
	}
	most := max(cmp.Or(opt.Lines, defaultLines), leastLines)
	out := append([]string{title, signature}, w.cut(most-3)...)
	if !whole && w.steps != nil && len(out) < most-1 {
		out = append(out, "\t// it goes on, or holds what could not be read")
	}
	return strings.Join(append(out, "}"), "\n") + "\n"
}

// A line of a skeleton.
type line struct {
	text  string
	depth int // of the indentation
	open  int // blocks that are open behind it
	calls int // calls in it
}

// cut returns the lines, at most that many, with every block closed.
func (w *writer) cut(most int) []string {
	n := len(w.lines)
	if n > most {
		n = most - 1
		for n > 0 && n+w.lines[n-1].open+1 > most {
			n--
		}
	}
	var out []string
	for _, l := range w.lines[:n] {
		out = append(out, strings.Repeat("\t", l.depth+1)+l.text)
	}
	if n == len(w.lines) {
		return out
	}
	calls := 0
	for _, l := range w.lines[n:] {
		calls += l.calls
	}
	open := 0
	if n > 0 {
		open = w.lines[n-1].open
	}
	out = append(out, fmt.Sprintf("%s// ... %d more lines with %d calls are left out", strings.Repeat("\t", open+1), len(w.lines)-n, calls))
	for ; open > 0; open-- {
		out = append(out, strings.Repeat("\t", open)+"}")
	}
	return out
}

// references writes what a function refers to, for instruction sets whose
// instructions are not followed.
func (w *writer) references(fn int) {
	for _, ref := range w.c.From(fn) {
		if ref.Kind != code.Call && ref.Kind != code.Jump {
			continue
		}
		var name string
		if ref.Import >= 0 && int(ref.Import) < len(w.c.Image.Imports) {
			name = clean(w.c.Image.Imports[ref.Import].Name)
		} else {
			name = w.function(ref.Target)
		}
		if ref.Kind == code.Jump {
			name = "return " + name
		}
		w.put(name+"(...);", 1)
	}
}
