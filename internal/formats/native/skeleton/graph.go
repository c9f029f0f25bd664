package skeleton

import (
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

// An ending says how control leaves a block.
type ending uint8

const (
	goes   ending = iota // to the one block in to
	forks                // to to[0] if the condition holds, else to to[1]
	spread               // to one of to, by a table
	ends                 // to the caller or another function, as the last step says
	stops                // nowhere: a trap, or a call that does not return
)

// A block is a run of steps that control goes through from the first to the last.
type block struct {
	first int   // step that it begins with
	calls []int // steps worth a line
	end   ending
	last  int // of ends: the step; of others what it may be
	cond  *condition
	tail  bool // of ends: it calls another function
	dull  bool // of ends: it returns what says little
	to    []int
}

// The blocks that every graph has.
const (
	out   = 0 // the caller: what a return leads to
	entry = 1
)

// maxBlocks bounds the blocks that are put in order; functions with more have
// calls enough to fill a skeleton without.
const maxBlocks = 3000

// graph is the control flow between the calls of a function.
type graph struct {
	blocks []block
	rest   []int // blocks that no branch leads to

	order []int // reverse postorder of the blocks that are reached; entry comes first
	at    []int // by block: its place in order, or -1
	preds [][]int
}

// interesting reports whether a block holds something that is worth a branch.
func (g *graph) interesting(b int) bool {
	return len(g.blocks[b].calls) > 0 || g.blocks[b].end == ends
}

// build makes the graph of the steps. It returns nil if that is too large.
func (w *writer) build() *graph {
	n := len(w.steps)
	lead := make([]bool, n+1)
	lead[0] = true
	for i := range w.steps {
		s := &w.steps[i]
		if w.leaves(s) || s.Flow == value.Branch {
			lead[i+1] = true
		}
		if (s.Flow == value.Branch || s.Flow == value.Jump) && s.Target != 0 {
			lead[w.at(s.Target)] = true
		}
	}
	g := &graph{blocks: []block{{end: stops}}}
	of := make([]int, n+1) // by step: the block that begins there
	for i := range n {
		if lead[i] {
			of[i] = len(g.blocks)
			g.blocks = append(g.blocks, block{first: i})
		}
	}
	if len(g.blocks) > maxBlocks {
		return nil
	}
	var tables []int // blocks that end in a jump by a table
	for b := entry; b < len(g.blocks); b++ {
		p := &g.blocks[b]
		next := n
		if b+1 < len(g.blocks) {
			next = g.blocks[b+1].first
		}
		for i := p.first; i < next; i++ {
			if f := w.steps[i].Flow; f == value.Call || f == value.Syscall {
				p.calls = append(p.calls, i)
			}
		}
		p.last = next - 1
		s := &w.steps[p.last]
		switch {
		case s.Flow == value.Branch:
			p.end, p.cond = forks, &condition{one: s.Cond}
			p.to = []int{of[w.at(s.Target)], of[next]}
		case s.Flow == value.Jump && s.Target == 0:
			p.end = spread
		case s.Flow == value.Jump:
			p.to = []int{of[w.at(s.Target)]}
		case s.Flow == value.Tail, s.Flow == value.Return && w.returned(s):
			p.end, p.tail, p.dull = ends, s.Flow == value.Tail, s.Flow == value.Return && s.Args[0].Kind == value.Const
		case s.Flow == value.Return:
			p.to = []int{out}
		case w.leaves(s):
			p.end = stops
		default:
			p.to = []int{of[next]}
		}
		if p.end == spread {
			tables = append(tables, b)
		}
	}
	g.adopt(w, tables)
	for _, b := range tables {
		if len(g.blocks[b].to) == 0 {
			g.blocks[b].end = ends
		}
	}
	g.sort()
	return g
}

// adopt finds what leads to the blocks that no branch leads to: the jump by a
// table before them, or nothing that is known.
func (g *graph) adopt(w *writer, tables []int) {
	reached := make([]bool, len(g.blocks))
	reach := func(b int) {
		for queue := []int{b}; len(queue) > 0; {
			y := queue[len(queue)-1]
			queue = queue[:len(queue)-1]
			if !reached[y] {
				reached[y] = true
				queue = append(queue, g.blocks[y].to...)
			}
		}
	}
	table, next := 0, 0
	for b := entry; b < len(g.blocks); b++ {
		for next < len(tables) && tables[next] < b {
			table, next = tables[next], next+1
		}
		switch {
		case reached[b]:
			continue
		case b == entry:
		case table != 0 && !w.handles(g.blocks[b].first):
			g.blocks[table].to = append(g.blocks[table].to, b)
		default:
			g.rest = append(g.rest, b)
		}
		reach(b)
	}
}

// leaves reports whether control does not go on behind a step.
func (w *writer) leaves(s *value.Step) bool {
	switch s.Flow {
	case value.Jump, value.Return, value.Tail, value.Stop:
		return true
	case value.Call:
		return w.endless(s)
	}
	return false
}

// endless reports whether a call is known not to come back.
func (w *writer) endless(s *value.Step) bool {
	if s.Callee.Kind != value.Function && s.Callee.Kind != value.Import {
		return false
	}
	name := w.callee(s.Callee)
	if noReturn[name] {
		return true
	}
	return strings.HasPrefix(name, "core::panicking::") || strings.HasPrefix(name, "std::__throw_") || strings.HasPrefix(name, "_ZSt") && strings.Contains(name, "__throw_")
}

var noReturn = func() map[string]bool {
	out := map[string]bool{}
	for name := range strings.FieldsSeq(`abort exit _exit _Exit quick_exit ExitProcess ExitThread pthread_exit longjmp
		__stack_chk_fail __chk_fail __fortify_fail __assert_fail __assert_rtn __cxa_throw __cxa_rethrow
		__cxa_bad_cast __cxa_throw_bad_array_new_length __cxa_pure_virtual _Unwind_Resume __cxa_call_unexpected
		std::terminate _ZSt9terminatev terminate _CxxThrowException _invalid_parameter_noinfo_noreturn
		core::option::unwrap_failed core::option::expect_failed core::result::unwrap_failed
		alloc::alloc::handle_alloc_error alloc::raw_vec::handle_error alloc::raw_vec::capacity_overflow
		runtime.gopanic runtime.panicIndex runtime.goexit0 runtime.throw runtime.panicdivide runtime.panicshift
		runtime.panicSliceB runtime.panicSliceAcap runtime.panicSliceAlen runtime.panicwrap`) {
		out[name] = true
	}
	return out
}()

// handles reports whether the code at a step is an exception's: it ends in
// what goes on unwinding the stack, or catches.
func (w *writer) handles(i int) bool {
	const far = 24
	for _, s := range w.steps[i:min(len(w.steps), i+far)] {
		switch s.Flow {
		case value.Call, value.Tail:
			if s.Callee.Kind == value.Function || s.Callee.Kind == value.Import {
				switch w.callee(s.Callee) {
				case "_Unwind_Resume", "__cxa_begin_catch", "__clang_call_terminate", "__cxa_end_catch":
					return true
				}
			}
		case value.Return, value.Stop:
			return false
		}
	}
	return false
}

// sort finds the blocks that are reached, their order and what leads to them.
func (g *graph) sort() {
	n := len(g.blocks)
	g.at, g.preds, g.order = make([]int, n), make([][]int, n), g.order[:0]
	for i := range g.at {
		g.at[i] = -1
	}
	if n <= entry {
		return
	}
	type visit struct{ b, next int }
	seen := make([]bool, n)
	seen[entry] = true
	for stack := []visit{{entry, 0}}; len(stack) > 0; {
		v := &stack[len(stack)-1]
		to := g.blocks[v.b].to
		if v.next == len(to) {
			g.order = append(g.order, v.b)
			stack = stack[:len(stack)-1]
			continue
		}
		// The last first, so that what comes first is placed first.
		y := to[len(to)-1-v.next]
		v.next++
		if !seen[y] {
			seen[y] = true
			stack = append(stack, visit{y, 0})
		}
	}
	slices.Reverse(g.order)
	for i, b := range g.order {
		g.at[b] = i
	}
	for _, b := range g.order {
		for _, y := range g.blocks[b].to {
			if !slices.Contains(g.preds[y], b) {
				g.preds[y] = append(g.preds[y], b)
			}
		}
	}
}

// dominators returns by block the nearest one that every way from root to it
// goes through; -1 for root and what is not reached. It is the algorithm of
// Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm".
func dominators(n, root int, order []int, preds func(int) []int) []int {
	at := make([]int, n)
	idom := make([]int, n)
	for i := range n {
		at[i], idom[i] = -1, -1
	}
	for i, b := range order {
		at[b] = i
	}
	idom[root] = root
	for changed := true; changed; {
		changed = false
		for _, b := range order {
			if b == root {
				continue
			}
			up := -1
			for _, p := range preds(b) {
				switch {
				case at[p] < 0 || idom[p] < 0:
				case up < 0:
					up = p
				default:
					x := p
					for x != up {
						for at[x] > at[up] {
							x = idom[x]
						}
						for at[up] > at[x] {
							up = idom[up]
						}
					}
				}
			}
			if up >= 0 && idom[b] != up {
				idom[b], changed = up, true
			}
		}
	}
	idom[root] = -1
	return idom
}

// after returns by block the nearest one that every way from it to the end goes
// through; out if there is none, -1 for what is not reached.
func (g *graph) after() []int {
	n := len(g.blocks)
	back := make([][]int, n) // edges turned round, from out
	succs := make([][]int, n)
	link := func(from, to int) {
		succs[from] = append(succs[from], to)
		back[to] = append(back[to], from)
	}
	for _, b := range g.order {
		for _, y := range g.blocks[b].to {
			link(b, y)
		}
		if e := g.blocks[b].end; b != out && (e == ends || e == stops) {
			link(b, out)
		}
	}
	seen := make([]bool, n)
	var order []int
	visitFrom := func(b int) {
		type visit struct{ b, next int }
		seen[b] = true
		for stack := []visit{{b, 0}}; len(stack) > 0; {
			v := &stack[len(stack)-1]
			if v.next == len(back[v.b]) {
				order = append(order, v.b)
				stack = stack[:len(stack)-1]
				continue
			}
			y := back[v.b][v.next]
			v.next++
			if !seen[y] {
				seen[y] = true
				stack = append(stack, visit{y, 0})
			}
		}
	}
	visitFrom(out)
	order = order[:len(order)-1] // out comes last
	for _, b := range slices.Backward(g.order) {
		if !seen[b] { // a loop without an end: taken to end at its last block
			link(b, out)
			visitFrom(b)
		}
	}
	order = append(order, out)
	slices.Reverse(order)
	return dominators(n, out, order, func(b int) []int { return succs[b] })
}

// loops returns by block the number of the cycle that it is in (a strongly
// connected component), or 0, and how many there are. It is Tarjan's algorithm.
func (g *graph) loops() (of []int, count int) {
	n := len(g.blocks)
	of = make([]int, n)
	index, low := make([]int, n), make([]int, n)
	on := make([]bool, n)
	var open []int
	next := 0
	type visit struct{ b, next int }
	for _, root := range g.order {
		if index[root] != 0 {
			continue
		}
		stack := []visit{{root, 0}}
		for len(stack) > 0 {
			v := &stack[len(stack)-1]
			b := v.b
			if v.next == 0 && index[b] == 0 {
				next++
				index[b], low[b], on[b] = next, next, true
				open = append(open, b)
			}
			if to := g.blocks[b].to; v.next < len(to) {
				y := to[v.next]
				v.next++
				if index[y] == 0 {
					stack = append(stack, visit{y, 0})
				} else if on[y] {
					low[b] = min(low[b], index[y])
				}
				continue
			}
			stack = stack[:len(stack)-1]
			if len(stack) > 0 {
				up := stack[len(stack)-1].b
				low[up] = min(low[up], low[b])
			}
			if low[b] != index[b] {
				continue
			}
			i := len(open) - 1
			for open[i] != b {
				i--
			}
			if i < len(open)-1 || slices.Contains(g.blocks[b].to, b) {
				count++
				for _, y := range open[i:] {
					of[y] = count
				}
			}
			for _, y := range open[i:] {
				on[y] = false
			}
			open = open[:i]
		}
	}
	return of, count
}
