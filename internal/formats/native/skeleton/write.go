package skeleton

import (
	"cmp"
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

	names   map[uint64]string // of functions, by address: those that were asked for
	steps   []value.Step
	calls   map[uint64]*value.Step // by address
	results map[uint64]string      // by address of a call whose result is used: the variable for it
	g       *graph                 // nil if the function is too large for one

	lines []string
	depth int // blocks that are open
}

// put adds a line.
func (w *writer) put(text string) {
	w.lines = append(w.lines, strings.Repeat("\t", min(w.depth, maxDepth)+1)+text)
}

// at returns the index of the first step at or behind an address.
func (w *writer) at(addr uint64) int {
	return sort.Search(len(w.steps), func(i int) bool { return w.steps[i].Addr >= addr })
}

// body writes what the function does in at most that many lines: whole if there
// is room, else without the branches in which nothing is called, then without
// those inside of others, then without any.
func (w *writer) body(most int) {
	w.g = w.build()
	var list []*stmt
	if w.g != nil {
		w.g.fold()
	}
	if w.g == nil || len(w.g.order) > maxShaped {
		w.g = nil
		for i := range w.steps {
			list = append(list, w.call(i)...)
		}
		w.flat(list, most)
		return
	}
	list = quiet(settle(w.g.shape()), false)
	if calling(list) == 0 {
		list = nil
	}
	rest := w.elsewhere()
	least := min(len(rest), 1) // a line says that there are some
	if w.fits(list, most-least) {
		w.others(rest, most-len(w.lines))
		return
	}
	if list = quiet(list, true); w.fits(list, most-least) {
		w.others(rest, most-len(w.lines))
		return
	}
	for depth := min(levels(list), maxDepth) - 1; depth > 0; depth-- {
		if w.fits(settle(flatten(list, depth)), most-least-1) {
			w.put("// ... branches and loops inside of these are left out")
			w.others(rest, most-len(w.lines))
			return
		}
	}
	w.flat(append(flatten(list, 0), rest...), most)
}

// levels is how deep the statements are inside of each other.
func levels(list []*stmt) (n int) {
	for _, s := range list {
		s.each(func(l []*stmt) {
			if len(l) > 0 {
				n = max(n, 1+levels(l))
			}
		})
	}
	return n
}

// call returns the statement for a step, if it calls something.
func (w *writer) call(i int) []*stmt {
	switch w.steps[i].Flow {
	case value.Call, value.Syscall, value.Tail:
		return []*stmt{{kind: calls, step: i}}
	}
	return nil
}

// elsewhere returns the calls that stand where no branch leads.
func (w *writer) elsewhere() (list []*stmt) {
	if len(w.g.rest) == 0 {
		return nil
	}
	seen := make([]bool, len(w.g.blocks))
	for _, b := range w.g.order {
		seen[b] = true
	}
	for queue := slices.Clone(w.g.rest); len(queue) > 0; {
		b := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if seen[b] || b == out {
			continue
		}
		seen[b] = true
		p := &w.g.blocks[b]
		for _, i := range p.calls {
			list = append(list, w.call(i)...)
		}
		if p.end == ends {
			list = append(list, w.call(p.last)...)
		}
		queue = append(queue, p.to...)
	}
	slices.SortFunc(list, func(a, b *stmt) int { return cmp.Compare(a.step, b.step) })
	return list
}

// others writes the calls that stand where no branch leads, in comments.
func (w *writer) others(rest []*stmt, room int) {
	if len(rest) == 0 || room <= 0 {
		return
	}
	if rest = repeated(rest, w.line); len(rest)+1 > room {
		n := 0
		for _, s := range rest {
			n += max(s.times, 1)
		}
		w.put(fmt.Sprintf("// %d calls in code that no branch leads to (exceptions, tables) are left out", n))
		return
	}
	w.put("// in code that no branch leads to (exceptions, tables):")
	for _, s := range rest {
		w.put("//   " + w.line(s))
	}
}

// fits writes a list, and reports whether it takes no more lines than that.
func (w *writer) fits(list []*stmt, most int) bool {
	w.lines, w.depth = nil, 0
	w.name(list)
	w.list(list)
	return len(w.lines) <= most
}

// flat writes calls one after the other. If there are too many it leaves out
// those that say least, of equals the last ones.
func (w *writer) flat(list []*stmt, most int) {
	var flat []*stmt
	for _, s := range list {
		for _, t := range plain(s) {
			if t.kind == calls {
				flat = append(flat, t)
			}
		}
	}
	w.name(flat)
	all := repeated(flat, w.line)
	for range 2 { // names of results that are left out are not needed
		w.name(all)
		all = w.telling(repeated(flat, w.line), most-1)
	}
	w.name(all)
	w.lines, w.depth = nil, 0
	shown := 0
	for _, s := range all {
		shown += max(s.times, 1)
		w.put(w.line(s))
	}
	if n := len(flat) - shown; n > 0 {
		w.put(fmt.Sprintf("// ... all branches and loops, and %d more calls, are left out", n))
	} else {
		w.put("// ... all branches and loops are left out")
	}
}

// repeated puts equal calls that follow each other into one.
func repeated(list []*stmt, line func(*stmt) string) []*stmt {
	var result []*stmt
	last := ""
	for _, s := range list {
		t := *s
		t.times = 0
		text := line(&t)
		if n := len(result); n > 0 && text == last {
			result[n-1].times = max(result[n-1].times, 1) + 1
			continue
		}
		result, last = append(result, &t), text
	}
	return result
}

// telling returns the most telling calls of a list, in its order.
func (w *writer) telling(list []*stmt, most int) []*stmt {
	if len(list) <= most {
		return list
	}
	type place struct{ at, tells int }
	order := make([]place, len(list))
	for i, s := range list {
		order[i] = place{i, w.tells(s)}
	}
	slices.SortFunc(order, func(a, b place) int { return cmp.Or(cmp.Compare(b.tells, a.tells), cmp.Compare(a.at, b.at)) })
	order = order[:most]
	slices.SortFunc(order, func(a, b place) int { return cmp.Compare(a.at, b.at) })
	out := make([]*stmt, most)
	for i, p := range order {
		out[i] = list[p.at]
	}
	return out
}

// tells is how much a call says: a text most, then a name, then a number.
func (w *writer) tells(s *stmt) (n int) {
	step := &w.steps[s.step]
	switch step.Callee.Kind {
	case value.Import:
		n += 2
	case value.Function:
		if name := w.function(step.Callee.Addr); !strings.HasPrefix(name, "sub_") {
			n++
		}
	}
	if step.Flow == value.Syscall {
		n += 3
	}
	args := w.own(step)
	if slices.ContainsFunc(args, func(v value.Value) bool { return v.Kind == value.String }) {
		n += 3
	} else if slices.ContainsFunc(args, func(v value.Value) bool {
		return v.Kind == value.Const && v.Const != 0 || v.Kind == value.Function || v.Kind == value.Import
	}) {
		n++
	}
	return n
}

// name names the results that a list uses.
func (w *writer) name(list []*stmt) {
	used := map[uint64]bool{}
	var made []uint64
	note := func(v value.Value) {
		if v.Kind == value.Result {
			used[v.Addr] = true
		}
	}
	var read func([]*stmt)
	read = func(list []*stmt) {
		for _, s := range list {
			switch s.kind {
			case calls, leaving, returns:
				step := &w.steps[s.step]
				if step.Flow == value.Return {
					for _, v := range step.Args {
						note(v)
					}
					break
				}
				made = append(made, step.Addr)
				note(step.Callee)
				for _, v := range w.own(step) {
					note(v)
				}
			}
			if s.cond != nil {
				s.cond.each(note)
			}
			s.each(read)
		}
	}
	read(list)
	clear(w.results)
	for _, at := range made {
		if used[at] && w.results[at] == "" {
			w.results[at] = fmt.Sprintf("v%d", len(w.results)+1)
		}
	}
}

// list writes statements.
func (w *writer) list(list []*stmt) {
	for i, s := range list {
		switch s.kind {
		case branch:
			w.branch(s)
		case loop:
			w.loop(s)
		case table:
			w.put("switch (...) {")
			for k, arm := range s.arms {
				w.put("case " + w.place(s.ways[k]) + ":")
				w.depth++
				w.list(arm)
				w.depth--
			}
			w.put("}")
		case quits:
			if w.depth > 0 || i+1 < len(list) {
				w.put("return;")
			}
		default:
			w.put(w.line(s))
		}
	}
}

// place returns the label of a block.
func (w *writer) place(b int) string {
	return fmt.Sprintf("at_%x", w.steps[w.g.blocks[b].first].Addr)
}

// maxShort is how long a branch may be that is written in one line.
const maxShort = 100

func (w *writer) branch(s *stmt) {
	head := "if (" + w.condition(s.cond) + ") "
	if len(s.then) == 1 && len(s.other) == 0 {
		switch t := s.then[0]; t.kind {
		case calls, leaving, returns, quits, jump, breaks, continues:
			if text := head + w.line(t); len(text) <= maxShort || t.kind >= quits {
				w.put(text)
				return
			}
		}
	}
	w.put(head + "{")
	for {
		w.inner(s.then)
		if len(s.other) != 1 || s.other[0].kind != branch {
			break
		}
		s = s.other[0]
		w.put("} else if (" + w.condition(s.cond) + ") {")
	}
	if len(s.other) > 0 {
		w.put("} else {")
		w.inner(s.other)
	}
	w.put("}")
}

func (w *writer) inner(list []*stmt) {
	w.depth++
	w.list(list)
	w.depth--
}

func (w *writer) loop(s *stmt) {
	switch {
	case s.cond == nil:
		w.put("while (1) {")
	case s.do:
		w.put("do {")
	default:
		w.put("while (" + w.condition(s.cond) + ") {")
	}
	w.inner(s.then)
	if s.do {
		w.put("} while (" + w.condition(s.cond) + ");")
	} else {
		w.put("}")
	}
}

// line writes a statement that takes one line.
func (w *writer) line(s *stmt) string {
	switch s.kind {
	case label:
		return w.place(s.block) + ":"
	case jump:
		return "goto " + w.place(s.block) + ";"
	case breaks:
		return "break;"
	case continues:
		return "continue;"
	case quits:
		return "return;"
	}
	step := &w.steps[s.step]
	text := ""
	switch step.Flow {
	case value.Return:
		if text := w.text(step.Args[0]); text != "?" {
			return "return " + text + ";"
		}
		return "return;"
	case value.Jump:
		return "// goes on at a place that is not known"
	case value.Syscall:
		text = w.assign(step) + w.syscall(step) + ";"
	default:
		text = w.assign(step) + w.callee(step.Callee) + "(" + w.arguments(step) + ");"
	}
	if s.kind == leaving {
		text = "return " + text
	}
	if s.times > 1 {
		text += fmt.Sprintf(" // %d times", s.times)
	}
	return text
}

func (w *writer) assign(s *value.Step) string {
	if name := w.results[s.Addr]; name != "" {
		return name + " = "
	}
	return ""
}

// returned reports whether a function returns something that can be told. What
// arrived in the register of results and was never touched is no result.
func (w *writer) returned(s *value.Step) bool {
	return len(s.Args) == 1 && s.Args[0].Kind != value.Parameter && s.Args[0].Kind != value.Unknown
}

func (w *writer) syscall(s *value.Step) string {
	name, number := "", w.text(s.Callee)
	list := w.c.Syscalls
	i := sort.Search(len(list), func(i int) bool { return list[i].Addr >= s.Addr })
	if i < len(list) && list[i].Addr == s.Addr {
		name = clean(list[i].Name)
		if list[i].Number >= 0 && s.Callee.Kind != value.Const {
			number = fmt.Sprint(list[i].Number)
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
