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
	"slices"
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
	maxShaped    = 600 // blocks; functions with more calls between branches are written flat
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
	w := &writer{c: c, opt: opt, names: map[uint64]string{}, results: map[uint64]string{}, calls: map[uint64]*value.Step{}}
	f := &c.Functions[fn]
	name := w.function(f.Addr)
	title := fmt.Sprintf("// call skeleton of sub_%x (%s %s), not source code: what it calls, and with what", f.Addr, c.Image.Arch, c.Image.Format)
	signature := name + "() {"
	if bare(name) != name {
		signature = name + " {"
	}
	most := max(cmp.Or(opt.Lines, defaultLines), leastLines) - 3 // these two, and the last
	var whole bool
	if w.steps, whole = r.Steps(fn); !whole && w.steps == nil {
		w.references(fn, most)
	} else {
		if !whole {
			most--
		}
		for i := range w.steps {
			if s := &w.steps[i]; s.Flow == value.Call || s.Flow == value.Tail || s.Flow == value.Syscall {
				w.calls[s.Addr] = s
			}
		}
		if len(w.steps) > 0 {
			w.body(most)
		}
		if len(w.lines) == 0 {
			w.put(w.silent(fn))
		}
		w.depth = 0
		if !whole {
			w.put("// it goes on, or holds what could not be read")
		}
	}
	return strings.Join(append(append([]string{title, signature}, w.lines...), "}"), "\n") + "\n"
}

// silent says of a function that calls nothing what else can be told.
func (w *writer) silent(fn int) string {
	f := &w.c.Functions[fn]
	size := f.Size
	if n := len(w.steps); size == 0 && n > 0 {
		size = w.steps[n-1].Next - f.Addr
	}
	parts := []string{"calls nothing"}
	if size > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes of code", size))
	}
	data := shortList{}
	for _, ref := range w.c.From(fn) {
		if ref.Kind == code.Data {
			data.add(fmt.Sprintf("data_%x", ref.Target))
		}
	}
	compared, returned := shortList{}, shortList{}
	for i := range w.steps {
		switch s := &w.steps[i]; s.Flow {
		case value.Branch:
			for _, v := range []value.Value{s.Cond.Left, s.Cond.Right} {
				if v.Kind == value.Const && v.Const != 0 {
					compared.add(number(v.Const))
				}
			}
		case value.Return:
			if w.returned(s) && w.text(s.Args[0]) != "?" {
				returned.add(w.text(s.Args[0]))
			}
		}
	}
	for _, l := range []struct {
		what string
		list shortList
	}{{"refers to ", data}, {"compares with ", compared}, {"returns ", returned}} {
		if len(l.list) > 0 {
			parts = append(parts, l.what+strings.Join(l.list, ", "))
		}
	}
	return "// " + strings.Join(parts, "; ")
}

// A shortList holds the first few different texts.
type shortList []string

func (l *shortList) add(text string) {
	const few = 5
	switch {
	case slices.Contains(*l, text) || len(*l) > few:
	case len(*l) == few:
		*l = append(*l, "...")
	default:
		*l = append(*l, text)
	}
}

// references writes what a function refers to, for instruction sets whose
// instructions are not followed.
func (w *writer) references(fn, most int) {
	more := 0
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
		if len(w.lines) == most-1 {
			more++
			continue
		}
		w.put(name + "(...);")
	}
	if more > 0 {
		w.put(fmt.Sprintf("// ... %d more calls are left out", more))
		return
	}
	switch {
	case len(w.lines) > 0:
	case len(w.c.Image.At(w.c.Functions[fn].Addr)) == 0:
		w.put("// its code is not in the file")
	default:
		w.put(w.silent(fn))
	}
}
