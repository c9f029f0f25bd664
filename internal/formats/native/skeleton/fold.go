package skeleton

import "slices"

// fold takes out of a graph the branches and loops that hold no call: structure
// exists to say when something is called, and nothing else.
func (g *graph) fold() {
	const rounds = 12
	for range rounds {
		changed := g.thread()
		g.sort()
		changed = g.loosen() || changed
		g.sort()
		changed = g.skip() || changed
		g.sort()
		changed = g.combine() || changed
		g.sort()
		if !changed {
			break
		}
	}
}

// point makes a block go on at another, and nowhere else.
func (b *block) point(to int) {
	b.end, b.to, b.cond = goes, []int{to}, nil
}

// thread leads edges past blocks in which nothing happens.
func (g *graph) thread() bool {
	changed := false
	past := func(y int) int {
		start := y
		for n := 0; y != out; n++ {
			b := &g.blocks[y]
			if b.end != goes || len(b.calls) > 0 {
				break
			}
			if y = b.to[0]; n > len(g.blocks) {
				return start // round and round
			}
		}
		return y
	}
	for _, x := range g.order {
		b := &g.blocks[x]
		for i, y := range b.to {
			if z := past(y); z != y {
				b.to[i], changed = z, true
			}
		}
		switch b.end {
		case forks:
			switch dead := [2]bool{g.trap(b.to[0]), g.trap(b.to[1])}; {
			case b.to[0] == b.to[1], dead[1]:
				b.point(b.to[0])
				changed = true
			case dead[0]:
				b.point(b.to[1])
				changed = true
			}
		case spread:
			n := len(b.to)
			slices.Sort(b.to)
			if b.to = slices.Compact(b.to); len(b.to) == 1 {
				b.point(b.to[0])
			}
			changed = changed || len(b.to) != n
		}
	}
	return changed
}

// trap reports whether a block only stops the program.
func (g *graph) trap(b int) bool {
	return b != out && g.blocks[b].end == stops && len(g.blocks[b].calls) == 0
}

// loosen ends loops that call nothing, and drops returns on conditions that
// nobody can read.
func (g *graph) loosen() bool {
	of, count := g.loops()
	busy := make([]bool, count+1)
	for _, b := range g.order {
		busy[of[b]] = busy[of[b]] || g.interesting(b)
	}
	changed := false
	var behind []int
	for _, x := range g.order {
		b := &g.blocks[x]
		loop := of[x]
		if loop == 0 {
			if b.end == forks && !b.cond.says() && b.to[0] != b.to[1] {
				if i := slices.Index(b.to, out); i >= 0 {
					b.point(b.to[1-i])
					changed = true
				}
			}
			continue
		}
		if busy[loop] {
			continue
		}
		for i, y := range b.to {
			if of[y] != loop || g.at[y] > g.at[x] {
				continue
			}
			if behind == nil {
				behind = g.after()
			}
			z := behind[x]
			for z > 0 && of[z] == loop {
				z = behind[z]
			}
			b.to[i], changed = max(z, out), true
		}
	}
	return changed
}

// skip drops branches between which and the place where their ways meet again
// nothing is called.
func (g *graph) skip() bool {
	behind := g.after()
	seen := make([]int, len(g.blocks))
	changed := false
	for round, x := range g.order {
		b := &g.blocks[x]
		if b.end != forks && b.end != spread {
			continue
		}
		meet := behind[x]
		if meet < 0 {
			continue
		}
		idle := true
		for queue := slices.Clone(b.to); idle && len(queue) > 0; {
			y := queue[len(queue)-1]
			queue = queue[:len(queue)-1]
			if y == meet || seen[y] == round+1 {
				continue
			}
			seen[y] = round + 1
			if y == x && len(b.calls) > 0 || y != x && g.worth(y) {
				idle = false
			}
			queue = append(queue, g.blocks[y].to...)
		}
		if idle {
			b.point(meet)
			changed = true
		}
	}
	return changed
}

// worth reports whether a block is worth a branch. A constant that is returned
// is not.
func (g *graph) worth(b int) bool {
	p := &g.blocks[b]
	return len(p.calls) > 0 || p.end == ends && !p.dull
}

// combine makes one block of two that always follow each other, and one
// condition of two that lead to the same place.
func (g *graph) combine() bool {
	changed := false
	for _, x := range g.order {
		if g.at[x] < 0 {
			continue
		}
		b := &g.blocks[x]
		for b.end == goes {
			y := b.to[0]
			if y == out || y == x || y == entry || len(g.preds[y]) != 1 || g.at[y] < 0 {
				break
			}
			g.absorb(x, y)
			changed = true
		}
		for b.end == forks && g.join(x) {
			changed = true
		}
	}
	return changed
}

// absorb puts block y, to which only x leads, at the end of x.
func (g *graph) absorb(x, y int) {
	a, b := &g.blocks[x], &g.blocks[y]
	a.calls = append(a.calls, b.calls...)
	a.end, a.cond, a.to, a.last, a.tail, a.dull = b.end, b.cond, b.to, b.last, b.tail, b.dull
	g.inherit(x, y)
}

// inherit says that the edges of y, which is no more, are those of x.
func (g *graph) inherit(x, y int) {
	for _, z := range g.blocks[y].to {
		g.preds[z] = slices.DeleteFunc(g.preds[z], func(p int) bool { return p == y || p == x })
		g.preds[z] = append(g.preds[z], x)
	}
	g.at[y] = -1
	g.blocks[y].to = nil
	g.preds[y] = nil
}

// join makes one condition of that of x and that of a block behind it, if that
// does nothing else and one way of both is the same.
func (g *graph) join(x int) bool {
	a := &g.blocks[x]
	for side, y := range a.to {
		b := &g.blocks[y]
		if y == out || y == x || y == entry || g.at[y] < 0 || len(g.preds[y]) != 1 || b.end != forks || len(b.calls) > 0 || slices.Contains(b.to, y) {
			continue
		}
		other := a.to[1-side]
		i := slices.Index(b.to, other)
		if i < 0 || other == y {
			continue
		}
		// Control comes to the far way of b if a's condition is as it was on
		// that side, and b's too.
		both := &condition{and: true, list: []*condition{a.cond.when(side == 0), b.cond.when(i == 1)}}
		far := b.to[1-i]
		if far == x || far == other {
			continue
		}
		g.inherit(x, y)
		a.cond, a.to = both.tidy(), []int{far, other}
		return true
	}
	return false
}
