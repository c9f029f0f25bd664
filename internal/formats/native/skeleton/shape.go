package skeleton

import (
	"cmp"
	"slices"
)

// A kind says what a statement is.
type kind uint8

const (
	calls   kind = iota // a call or system call
	leaving             // a tail call
	returns             // the step that ends the function otherwise: a return of something
	quits               // return
	jump                // goto the label
	breaks
	continues
	label
	branch
	loop
	table // a jump to one of the arms
)

// A stmt is a statement of a skeleton.
type stmt struct {
	kind  kind
	step  int // of calls, leaving and returns
	times int // of calls: how often, one after the other; 1 if 0
	block int // of jump and label
	ends  bool
	cond  *condition // of branch; of loop what it goes on for: nil for ever
	do    bool       // of loop: the condition stands at the end
	then  []*stmt    // of branch and loop
	other []*stmt    // of branch
	arms  [][]*stmt  // of table
	ways  []int      // of table: the blocks that the arms begin with
}

// shaper puts the blocks of a graph into each other, along the tree of
// dominators: a block to which one edge leads stands where that edge is, one
// where ways meet stands behind the block that they all come from. After
// Ramsey, "Beyond Relooper", with jumps where blocks alone would not do.
type shaper struct {
	g      *graph
	idom   []int
	behind []int   // nearest block that all ways to the end go through
	inside [][]int // by block: the heads of the loops around it, outermost first
	head   []bool
	placed map[int][]int // by block: the blocks that stand behind it
	moved  []bool        // blocks that stand behind another
	outer  map[int][]int // by head of a loop: the blocks that stand behind the loop
}

// A frame is what stands around a block.
type frame struct {
	head int // of the loop around it, or -1
	brk  int // block that a break leads to, or -1
}

// shape returns the statements of a graph.
func (g *graph) shape() []*stmt {
	n := len(g.blocks)
	s := &shaper{
		g: g, behind: g.after(), inside: make([][]int, n), head: make([]bool, n), moved: make([]bool, n),
		placed: map[int][]int{}, outer: map[int][]int{},
	}
	s.idom = dominators(n, entry, g.order, func(b int) []int { return g.preds[b] })
	s.findLoops()
	s.place()
	return s.tree(entry, out, frame{head: -1, brk: -1})
}

// dominates reports whether every way to b goes through a.
func (s *shaper) dominates(a, b int) bool {
	for b >= 0 && b != a && s.g.at[b] > s.g.at[a] {
		b = s.idom[b]
	}
	return a == b
}

// before compares blocks by their place in the order.
func (s *shaper) before(a, b int) int { return cmp.Compare(s.g.at[a], s.g.at[b]) }

// findLoops finds the natural loops.
func (s *shaper) findLoops() {
	g := s.g
	body := make([]int, len(g.blocks))
	for _, h := range g.order {
		var queue []int
		for _, p := range g.preds[h] {
			if s.dominates(h, p) {
				queue = append(queue, p)
			}
		}
		if len(queue) == 0 {
			continue
		}
		s.head[h] = true
		mark := h + 1
		body[h] = mark
		s.inside[h] = append(s.inside[h], h)
		for len(queue) > 0 {
			b := queue[len(queue)-1]
			queue = queue[:len(queue)-1]
			if body[b] == mark {
				continue
			}
			body[b] = mark
			s.inside[b] = append(s.inside[b], h)
			queue = append(queue, g.preds[b]...)
		}
	}
}

// place decides where the blocks stand.
func (s *shaper) place() {
	g := s.g
	exits := map[int][]int{} // by head of a loop: blocks outside that its blocks dominate
	for _, y := range g.order {
		if y == entry || y == out {
			continue
		}
		ahead := 0
		for _, p := range g.preds[y] {
			if !s.dominates(y, p) {
				ahead++
			}
		}
		x := s.idom[y]
		left := -1 // outermost loop around x that y is not in
		for _, h := range s.inside[x] {
			if _, ok := slices.BinarySearchFunc(s.inside[y], h, s.before); !ok {
				left = h
				break
			}
		}
		switch {
		case left >= 0 && ahead > 1:
			s.outer[left], s.moved[y] = append(s.outer[left], y), true
		case left >= 0:
			exits[left] = append(exits[left], y)
		case ahead > 1:
			s.placed[x], s.moved[y] = append(s.placed[x], y), true
		}
	}
	// Of the blocks that one edge out of a loop leads to, that one stands behind
	// the loop where control usually goes on.
	for h, list := range exits {
		if main := s.mainExit(h, list); main >= 0 {
			s.outer[h], s.moved[main] = append(s.outer[h], main), true
		}
	}
	for _, of := range []map[int][]int{s.placed, s.outer} {
		for _, list := range of {
			slices.SortFunc(list, s.before)
		}
	}
}

func (s *shaper) mainExit(h int, list []int) int {
	b := s.behind[h]
	for b > out && slices.Contains(s.inside[b], h) {
		b = s.behind[b]
	}
	if b > out {
		if slices.Contains(list, b) {
			return b
		}
		return -1
	}
	if len(s.outer[h]) > 0 {
		return -1
	}
	for _, y := range list { // where the head leads, as in while
		if s.idom[y] == h {
			return y
		}
	}
	for _, y := range list { // where the end leads, as in do
		if slices.Contains(s.g.blocks[s.idom[y]].to, h) {
			return y
		}
	}
	return -1
}

// tree writes a block and what it dominates; next is the block behind it.
func (s *shaper) tree(x, next int, f frame) []*stmt {
	list := []*stmt{{kind: label, block: x}}
	if !s.head[x] {
		return append(list, s.sequence(x, s.placed[x], next, f)...)
	}
	after := s.outer[x]
	brk := next
	if len(after) > 0 {
		brk = after[0]
	}
	body := s.sequence(x, s.placed[x], x, frame{head: x, brk: brk})
	list = append(list, &stmt{kind: loop, then: body})
	return append(list, s.chain(after, next, f)...)
}

// sequence writes a block and those that are placed behind it.
func (s *shaper) sequence(x int, behind []int, next int, f frame) []*stmt {
	to := next
	if len(behind) > 0 {
		to = behind[0]
	}
	return append(s.block(x, to, f), s.chain(behind, next, f)...)
}

// chain writes blocks that stand one behind the other.
func (s *shaper) chain(list []int, next int, f frame) (stmts []*stmt) {
	for i, y := range list {
		to := next
		if i+1 < len(list) {
			to = list[i+1]
		}
		stmts = append(stmts, s.tree(y, to, f)...)
	}
	return stmts
}

// block writes a block, and what stands at the edges out of it.
func (s *shaper) block(x, next int, f frame) []*stmt {
	b := &s.g.blocks[x]
	var list []*stmt
	for _, i := range b.calls {
		list = append(list, &stmt{kind: calls, step: i})
	}
	switch b.end {
	case stops:
		if len(list) > 0 {
			list[len(list)-1].ends = true
		}
	case ends:
		end := returns
		if b.tail {
			end = leaving
		}
		list = append(list, &stmt{kind: end, step: b.last})
	case goes:
		list = append(list, s.edge(x, b.to[0], next, f)...)
	case forks:
		cond, yes, no := b.cond, b.to[0], b.to[1]
		if yes == out || no != out && s.g.blocks[no].first < s.g.blocks[yes].first {
			cond, yes, no = cond.when(false), no, yes // in the order in which they stand
		}
		list = append(list, &stmt{kind: branch, cond: cond, then: s.edge(x, yes, next, f), other: s.edge(x, no, next, f)})
	case spread:
		t := &stmt{kind: table}
		inner := f
		inner.brk = next
		for _, y := range b.to {
			arm := s.edge(x, y, next, inner)
			if len(arm) == 0 {
				continue
			}
			t.arms = append(t.arms, arm)
			t.ways = append(t.ways, y)
		}
		list = append(list, t)
	}
	return list
}

// edge writes how control comes from x to y.
func (s *shaper) edge(x, y, next int, f frame) []*stmt {
	switch {
	case y == next:
		return nil
	case y == f.brk:
		return []*stmt{{kind: breaks}}
	case y == f.head:
		return []*stmt{{kind: continues}}
	case y == out:
		return []*stmt{{kind: quits}}
	case s.moved[y] || s.dominates(y, x):
		return []*stmt{{kind: jump, block: y}}
	}
	return s.tree(y, next, f)
}
