package skeleton

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

// writer writes one function.
type writer struct {
	c   *code.Code
	opt Options

	steps   []value.Step
	calls   map[uint64]*value.Step // by address
	results map[uint64]string      // by address of a call whose result is used: the variable for it
	loops   map[int]int            // by step at the head of a loop: the last step that goes back there
	labels  map[int]bool           // steps that a goto names

	lines []line
	depth int // blocks that are open
}

// put adds a line.
func (w *writer) put(text string, calls int) {
	w.lines = append(w.lines, line{text, w.depth, w.depth, calls})
}

// open adds a line that begins a block, close one that ends it.
func (w *writer) open(text string) {
	w.lines = append(w.lines, line{text, w.depth, w.depth + 1, 0})
	w.depth++
}

func (w *writer) close(text string) {
	w.depth--
	w.put(text, 0)
}

// at returns the index of the first step at or behind an address.
func (w *writer) at(addr uint64) int {
	return sort.Search(len(w.steps), func(i int) bool { return w.steps[i].Addr >= addr })
}

// prepare names the results that are used, and finds the loops.
func (w *writer) prepare() {
	used := map[uint64]bool{}
	note := func(v value.Value) {
		if v.Kind == value.Result {
			used[v.Addr] = true
		}
	}
	w.loops = map[int]int{}
	for i := range w.steps {
		s := &w.steps[i]
		switch s.Flow {
		case value.Call, value.Tail, value.Syscall:
			w.calls[s.Addr] = s
			args := s.Args
			if n, ok := w.arityOf(s); ok {
				args = args[:min(n, len(args))]
			} else {
				args = w.trim(args, s.Flow)
			}
			for _, a := range args {
				note(a)
			}
			note(s.Callee)
		case value.Return:
			for _, a := range s.Args {
				note(a)
			}
		case value.Branch, value.Jump:
			note(s.Cond.Left)
			note(s.Cond.Right)
			if s.Target != 0 && s.Target <= s.Addr {
				head := w.at(s.Target)
				w.loops[head] = max(w.loops[head], i)
			}
		}
	}
	n := 0
	for i := range w.steps {
		if s := &w.steps[i]; used[s.Addr] {
			n++
			w.results[s.Addr] = fmt.Sprintf("v%d", n)
		}
	}
}

// all writes the function.
func (w *writer) all() {
	if len(w.steps) == 0 {
		return
	}
	last := &w.steps[len(w.steps)-1]
	w.region(place{to: len(w.steps), end: last.Next})
}

// place is a run of steps inside of a block.
type place struct {
	from, to int
	end      uint64 // address behind it
	loop     *place // around it, if any
	head     int    // of that loop: its first step
	follow   uint64 // address to which control goes behind the block
}

// region writes a run of steps.
func (w *writer) region(p place) {
	for i := p.from; i < p.to; {
		s := &w.steps[i]
		if w.labels[i] && !(p.loop != nil && p.head == i) {
			w.put(fmt.Sprintf("at_%x:", s.Addr), 0)
		}
		if k, ok := w.loops[i]; ok && k < p.to && w.depth < maxDepth && !(p.loop != nil && p.head == i) {
			w.loop(i, k)
			i = k + 1
			continue
		}
		switch s.Flow {
		case value.Branch:
			i = w.branch(p, i)
			continue
		case value.Jump:
			w.jump(p, i)
		default:
			w.plain(s)
		}
		i++
	}
}

// plain writes a step that does not move inside of the function.
func (w *writer) plain(s *value.Step) {
	switch s.Flow {
	case value.Call:
		w.put(w.assign(s)+w.callee(s.Callee)+"("+w.arguments(s)+");", 1)
	case value.Tail:
		w.put("return "+w.callee(s.Callee)+"("+w.arguments(s)+");", 1)
	case value.Syscall:
		w.put(w.assign(s)+w.syscall(s)+";", 1)
	case value.Return:
		w.put(w.returns(s), 0)
	}
}

func (w *writer) assign(s *value.Step) string {
	if name := w.results[s.Addr]; name != "" {
		return name + " = "
	}
	return ""
}

// returns writes a return. What arrived in the register of results and was never
// touched is no result.
func (w *writer) returns(s *value.Step) string {
	if len(s.Args) == 1 && s.Args[0].Kind != value.Parameter && s.Args[0].Kind != value.Unknown {
		return "return " + w.text(s.Args[0]) + ";"
	}
	return "return;"
}

func (w *writer) syscall(s *value.Step) string {
	name, number := "", w.text(s.Callee)
	calls := w.c.Syscalls
	i := sort.Search(len(calls), func(i int) bool { return calls[i].Addr >= s.Addr })
	if i < len(calls) && calls[i].Addr == s.Addr {
		name = clean(calls[i].Name)
		if calls[i].Number >= 0 && s.Callee.Kind != value.Const {
			number = fmt.Sprint(calls[i].Number)
		}
	}
	if name == "" {
		return "syscall(" + strings.Join(slices.DeleteFunc([]string{number, w.arguments(s)}, func(t string) bool { return t == "" }), ", ") + ")"
	}
	named := *s
	if n, ok := arity[name]; ok {
		named.Args = named.Args[:min(n, len(named.Args))]
	}
	return "syscall:" + name + "(" + w.arguments(&named) + ")"
}

// loop writes the steps from head to back, whose last one goes back to the
// first.
func (w *writer) loop(head, back int) {
	last := &w.steps[back]
	inner := place{from: head, to: back, end: last.Addr, head: head, follow: last.Next}
	inner.loop = &inner
	first := &w.steps[head]
	tail := "}"
	switch {
	case last.Flow == value.Branch:
		w.open("do {")
		tail = strings.TrimSpace("} while ("+w.condition(last.Cond, false)) + ");"
	case first.Flow == value.Branch && head < back && first.Target > last.Addr:
		w.open("while (" + w.condition(first.Cond, true) + ") {")
		inner.from++
	default:
		w.open("while (1) {")
	}
	mark := len(w.lines)
	w.region(inner)
	if len(w.lines) == mark { // nothing in it is worth a line
		w.lines = w.lines[:mark-1]
		w.depth--
		return
	}
	w.close(tail)
}

// branch writes a branch and what stands under it, and returns the step to go on
// with.
func (w *writer) branch(p place, i int) int {
	s := &w.steps[i]
	if s.Target <= s.Addr || s.Target > p.end || w.depth >= maxDepth {
		w.leave(p, s, "if ("+w.condition(s.Cond, false)+") ")
		return i + 1
	}
	j := min(w.at(s.Target), p.to)
	then := place{from: i + 1, to: j, end: s.Target, loop: p.loop, head: p.head, follow: s.Target}
	k := j
	var other place
	if j > i+1 {
		if y := &w.steps[j-1]; y.Flow == value.Jump && y.Target > s.Target && y.Target <= p.end {
			then.to--
			k = min(w.at(y.Target), p.to)
			other = place{from: j, to: k, end: y.Target, loop: p.loop, head: p.head, follow: y.Target}
		}
	}
	start := len(w.lines)
	w.open("if (" + w.condition(s.Cond, true) + ") {")
	mark := len(w.lines)
	w.region(then)
	empty := len(w.lines) == mark
	if other.to > other.from {
		if empty { // only the other side says something
			w.lines = w.lines[:start]
			w.depth--
			w.open("if (" + w.condition(s.Cond, false) + ") {")
		} else {
			w.depth--
			w.open("} else {")
		}
		mark = len(w.lines)
		w.region(other)
		if len(w.lines) == mark {
			w.lines = w.lines[:mark-1]
			if empty {
				w.depth--
				return k
			}
		}
		w.close("}")
		return k
	}
	if empty {
		w.lines = w.lines[:start]
		w.depth--
		return k
	}
	w.close("}")
	return k
}

// jump writes a jump.
func (w *writer) jump(p place, i int) {
	s := &w.steps[i]
	switch {
	case s.Target == 0:
		w.put("// goes on at a place from a table", 0)
	case s.Target == p.end || s.Target == s.Next:
	default:
		w.leave(p, s, "")
	}
}

// leave writes that control goes elsewhere than to the next line, if what is
// written before it holds.
func (w *writer) leave(p place, s *value.Step, when string) {
	to := w.at(s.Target)
	switch {
	case p.loop != nil && s.Target >= p.loop.follow && (to >= len(w.steps) || w.steps[to].Addr >= p.loop.follow) && s.Target <= p.loop.follow+breakReach:
		w.put(when+"break;", 0)
	case p.loop != nil && to == p.head:
		w.put(when+"continue;", 0)
	case to < len(w.steps) && w.steps[to].Flow == value.Return:
		w.put(when+"return;", 0)
	case to < len(w.steps):
		w.labels[to] = true
		w.put(when+fmt.Sprintf("goto at_%x;", w.steps[to].Addr), 0)
	default:
		w.put(when+"return;", 0)
	}
}

// breakReach is how far behind a loop a place may be to count as right behind
// it, in bytes: compilers put a few moves there.
const breakReach = 16

var opposite = map[string]string{"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}

var turned = map[string]string{"==": "==", "!=": "!=", "<": ">", ">=": "<=", ">": "<", "<=": ">="}

// condition writes a condition, or what is left if it does not hold.
func (w *writer) condition(c value.Cond, not bool) string {
	side := func(v value.Value, register string) string {
		if t := w.text(v); t != "?" {
			return t
		}
		if register != "" {
			return register
		}
		return "?"
	}
	left, right := side(c.Left, c.Register), side(c.Right, c.Other)
	if c.Left.Kind == value.Const && c.Right.Kind != value.Const && c.Op != "&" {
		left, right, c.Op = right, left, turned[c.Op]
	}
	switch {
	case c.Op == "":
		return "..."
	case c.Op == "&":
		if c.Not != not {
			return "!(" + left + " & " + right + ")"
		}
		return left + " & " + right
	case not:
		return left + " " + opposite[c.Op] + " " + right
	}
	return left + " " + c.Op + " " + right
}
