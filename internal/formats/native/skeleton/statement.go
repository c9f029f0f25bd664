package skeleton

// simplify puts statements as people would: no else behind what does not go on,
// loops with their conditions, and no jump to what comes next anyway.
func simplify(list []*stmt) []*stmt {
	var result []*stmt
	for len(list) > 0 {
		s := list[0]
		list = list[1:]
		switch s.kind {
		case branch:
			s.then, s.other = simplify(s.then), simplify(s.other)
			if len(list) > 0 && len(s.other) == 0 {
				s.then = unled(s.then, list[0])
			}
			if len(s.then) == 0 {
				s.cond, s.then, s.other = s.cond.when(false), s.other, nil
			}
			if len(s.then) == 0 {
				continue
			}
			if len(s.other) > 0 && (!goesOn(s.then) || !goesOn(s.other)) {
				if goesOn(s.then) || !goesOn(s.other) && size(s.other) < size(s.then) {
					s.cond, s.then, s.other = s.cond.when(false), s.other, s.then
				}
				result = append(result, s)
				result = append(result, s.other...)
				s.other = nil
				continue
			}
			s.merge()
		case loop:
			s.then = simplify(s.then)
			if n := len(s.then); n > 0 && s.then[n-1].kind == continues {
				s.then = s.then[:n-1]
			}
			s.give()
			if calling(s.then) == 0 && !labelled(s.then) {
				continue
			}
		case table:
			n := 0
			for i, arm := range s.arms {
				if arm = simplify(arm); len(arm) == 0 || len(arm) == 1 && arm[0].kind == breaks {
					continue
				}
				if goesOn(arm) {
					arm = append(arm, &stmt{kind: breaks})
				}
				s.arms[n], s.ways[n] = arm, s.ways[i]
				n++
			}
			if s.arms, s.ways = s.arms[:n], s.ways[:n]; n == 0 {
				continue
			}
		}
		result = append(result, s)
	}
	return result
}

// unled drops the jump at the end of a list that leads to where control comes
// anyway: what stands next is its label, or the same jump.
func unled(list []*stmt, next *stmt) []*stmt {
	n := len(list)
	if n == 0 {
		return list
	}
	switch last := list[n-1]; last.kind {
	case jump, quits, breaks, continues:
		if next.kind == last.kind && next.block == last.block || last.kind == jump && next.kind == label && next.block == last.block {
			return list[:n-1]
		}
	}
	return list
}

// merge makes one branch of two that stand directly inside of each other, if
// their conditions read the same.
func (s *stmt) merge() {
	for len(s.other) == 0 && len(s.then) > 0 {
		in := s.then[0]
		if in.kind != branch || len(in.other) > 0 || !in.cond.alike(s.cond) {
			return
		}
		if rest := s.then[1:]; !goesOn(in.then) && len(rest) > 0 && rest[0].kind != label {
			return
		}
		s.then = append(in.then[:len(in.then):len(in.then)], s.then[1:]...)
	}
}

// give gives a loop the condition that its first or last statement leaves it
// on.
func (s *stmt) give() {
	if s.cond != nil {
		return
	}
	leaves := func(t *stmt) bool {
		return t.kind == branch && len(t.other) == 0 && len(t.then) == 1 && t.then[0].kind == breaks
	}
	n := len(s.then)
	if n < 2 {
		return
	}
	if first := s.then[0]; leaves(first) {
		s.cond, s.then = first.cond.when(false), s.then[1:]
	} else if last := s.then[n-1]; leaves(last) && !holds(s.then, continues) {
		s.cond, s.do, s.then = last.cond.when(false), true, s.then[:n-1]
	}
}

// each calls f with the lists inside of a statement.
func (s *stmt) each(f func([]*stmt)) {
	f(s.then)
	f(s.other)
	for _, arm := range s.arms {
		f(arm)
	}
}

// holds reports whether a list has a break or continue of the loop around it.
func holds(list []*stmt, what kind) bool {
	for _, s := range list {
		if s.kind == what {
			return true
		}
		if s.kind == loop || s.kind == table && what == breaks {
			continue
		}
		found := false
		s.each(func(l []*stmt) { found = found || holds(l, what) })
		if found {
			return true
		}
	}
	return false
}

// goesOn reports whether control comes to the end of a list.
func goesOn(list []*stmt) bool {
	if len(list) == 0 {
		return true
	}
	switch s := list[len(list)-1]; s.kind {
	case calls:
		return !s.ends
	case leaving, returns, quits, jump, breaks, continues:
		return false
	case branch:
		return len(s.other) == 0 || goesOn(s.then) || goesOn(s.other)
	case loop:
		return s.cond != nil || holds(s.then, breaks)
	}
	return true
}

// size is how many statements there are in a list.
func size(list []*stmt) (n int) {
	for _, s := range list {
		if s.kind != label {
			n++
		}
		s.each(func(l []*stmt) { n += size(l) })
	}
	return n
}

// calling is how many calls there are in a list, and returns of something.
func calling(list []*stmt) (n int) {
	for _, s := range list {
		if s.kind == calls || s.kind == leaving {
			n++
		}
		s.each(func(l []*stmt) { n += calling(l) })
	}
	return n
}

func labelled(list []*stmt) bool {
	for _, s := range list {
		found := s.kind == label
		s.each(func(l []*stmt) { found = found || labelled(l) })
		if found {
			return true
		}
	}
	return false
}

// quieter drops the branches that only say that on a condition control goes
// elsewhere: those whose condition nobody can read, or all. A jump stays if it
// is all that leads to its label.
type quieter struct {
	all  bool
	refs map[int]int  // by label: jumps to it
	open map[int]bool // labels that control comes to without a jump
}

func quiet(list []*stmt, all bool) []*stmt {
	q := &quieter{all: all, refs: jumps(list), open: map[int]bool{}}
	q.find(list)
	return settle(q.drop(list))
}

// jumps counts the jumps to each label.
func jumps(list []*stmt) map[int]int {
	refs := map[int]int{}
	var count func([]*stmt)
	count = func(list []*stmt) {
		for _, s := range list {
			if s.kind == jump {
				refs[s.block]++
			}
			s.each(count)
		}
	}
	count(list)
	return refs
}

func (q *quieter) find(list []*stmt) {
	for i, s := range list {
		if s.kind == label && goesOn(list[:i]) {
			q.open[s.block] = true
		}
		s.each(q.find)
	}
}

func (q *quieter) drop(list []*stmt) []*stmt {
	var result []*stmt
	for i, s := range list {
		if s.kind == branch && len(s.other) == 0 && len(s.then) == 1 && (q.all || !s.cond.says()) {
			switch t := s.then[0]; t.kind {
			case quits, continues:
				continue
			case jump:
				if q.open[t.block] || q.refs[t.block] > 1 || i+1 < len(list) && list[i+1].kind == label && list[i+1].block == t.block {
					q.refs[t.block]--
					continue
				}
			}
		}
		if s.kind == loop {
			s.then = q.leave(s, s.then)
		}
		s.then, s.other = q.drop(s.then), q.drop(s.other)
		for k := range s.arms {
			s.arms[k] = q.drop(s.arms[k])
		}
		result = append(result, s)
	}
	return result
}

// leave drops the breaks of a loop on conditions that nobody can read, and says
// once that there are some.
func (q *quieter) leave(loop *stmt, list []*stmt) []*stmt {
	var result []*stmt
	for _, t := range list {
		if t.kind == branch {
			if len(t.other) == 0 && len(t.then) == 1 && t.then[0].kind == breaks && (q.all || !t.cond.says()) {
				if loop.cond == nil {
					loop.cond = &condition{}
				}
				continue
			}
			t.then, t.other = q.leave(loop, t.then), q.leave(loop, t.other)
		}
		result = append(result, t)
	}
	return result
}

// settle simplifies a list until there is nothing left to do.
func settle(list []*stmt) []*stmt {
	for {
		n := weight(list)
		if list = simplify(unlabel(mend(list))); weight(list) >= n {
			return list
		}
	}
}

// weight is how many statements and labels there are in a list.
func weight(list []*stmt) (n int) {
	for _, s := range list {
		n++
		s.each(func(l []*stmt) { n += weight(l) })
	}
	return n
}

// mend takes away what would keep control from what stands behind it, where the
// jumps that led there are left out.
func mend(list []*stmt) []*stmt {
	var result []*stmt
	for i, s := range list {
		s.then, s.other = mend(s.then), mend(s.other)
		for k := range s.arms {
			s.arms[k] = mend(s.arms[k])
		}
		if i+1 < len(list) && list[i+1].kind != label && !goesOn(list[i:i+1]) {
			switch s.kind {
			case jump, quits, breaks, continues, returns:
				continue
			case leaving:
				s.kind = calls
			case loop:
				s.cond = &condition{}
			}
		}
		result = append(result, s)
	}
	return result
}

// unlabel drops the labels that nothing refers to.
func unlabel(list []*stmt) []*stmt {
	refs := jumps(list)
	var drop func([]*stmt) []*stmt
	drop = func(list []*stmt) []*stmt {
		var result []*stmt
		for _, s := range list {
			if s.kind == label && refs[s.block] == 0 {
				continue
			}
			s.then, s.other = drop(s.then), drop(s.other)
			for k := range s.arms {
				s.arms[k] = drop(s.arms[k])
			}
			result = append(result, s)
		}
		return result
	}
	return drop(list)
}

// flatten returns a list in which branches and loops deeper than depth are
// replaced by the calls in them. The list itself stays as it is.
func flatten(list []*stmt, depth int) []*stmt {
	var result []*stmt
	for _, s := range list {
		switch s.kind {
		case branch, loop, table:
			if depth > 0 {
				t := *s
				t.then, t.other, t.arms = flatten(s.then, depth-1), flatten(s.other, depth-1), nil
				for _, arm := range s.arms {
					t.arms = append(t.arms, flatten(arm, depth-1))
				}
				t.ways = append([]int(nil), s.ways...)
				result = append(result, &t)
			} else {
				result = append(result, plain(s)...)
			}
		default:
			t := *s
			result = append(result, &t)
		}
	}
	return result
}

// plain returns the calls in a statement, and the labels.
func plain(s *stmt) (result []*stmt) {
	switch s.kind {
	case calls, label:
		t := *s
		t.ends = false
		return []*stmt{&t}
	case leaving:
		return []*stmt{{kind: calls, step: s.step}}
	}
	s.each(func(l []*stmt) {
		for _, t := range l {
			result = append(result, plain(t)...)
		}
	})
	return result
}
