package yara

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
)

// A Match is a rule that holds for some data, and where its strings are.
type Match struct {
	Rule    *Rule
	Strings []Found // those that are there and not private, as the rule lists them
}

// Found is a string of a rule and all of its places, by offset.
type Found struct {
	Name string // "$a"; "$" of an anonymous one
	At   []Span
}

// A Span is a place in the data, in bytes.
type Span struct{ Offset, Length int32 }

func (s Span) end() int { return int(s.Offset) + int(s.Length) }

// MaxMatches is how many places of one string are kept, and counted. YARA's
// own limit is a million; a rule that needs more than these tells nothing.
const MaxMatches = 100_000

// MaxData bounds the data that rules are tried on, in bytes.
const MaxData = 1<<31 - 1

// Match tries the rules on data, and returns those that hold and are not
// private, in their order. Notes say what was cut short. The error is that of
// ctx.
func (s *Set) Match(ctx context.Context, data []byte) (out []Match, notes []string, err error) {
	if len(data) > MaxData {
		return nil, nil, fmt.Errorf("%d bytes are more than rules can be tried on", len(data))
	}
	m := &matcher{set: s, ctx: ctx, data: data, found: make([][]Span, len(s.slots)), full: make([]bool, len(s.slots))}
	if m.mem, _ = s.memories.Get().(*memory); m.mem == nil {
		m.mem = &memory{lazy: make([]*lazy, s.automata)}
	}
	s.finder.scan(data, m.hit)
	s.memories.Put(m.mem)
	for i := range m.found {
		m.settle(i)
	}
	e := &evaluator{set: s, data: data, ctx: ctx, results: make([]bool, len(s.rules))}
	for _, r := range s.rules {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		e.strings = append(e.strings, m.strings(r))
	}
	unmet := make([]bool, s.files) // by file: a global rule does not hold
	for i, r := range s.rules {
		held := e.rule(i)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if r.Global && !held {
			unmet[r.file] = true
		}
	}
	for i, r := range s.rules {
		if e.results[i] && !r.Private && !unmet[r.file] {
			out = append(out, Match{r, e.shown(i)})
		}
		notes = append(notes, m.cut(r)...)
	}
	return out, notes, nil
}

// A matcher looks for the strings of a set in some data.
type matcher struct {
	set   *Set
	ctx   context.Context
	data  []byte
	mem   *memory
	found [][]Span // by slot
	full  []bool   // by slot: there are more
	hits  int
}

// hit is called for each atom. It returns false once there is no more time.
func (m *matcher) hit(p *place, pos int) bool {
	if m.hits++; m.hits&255 == 0 && m.ctx.Err() != nil {
		return false
	}
	u := &m.set.units[p.unit]
	if m.full[u.slot] {
		return true
	}
	if u.fwd != nil {
		m.program(u, p, pos)
		return true
	}
	if start := pos - int(p.offset); start >= 0 && u.equal(m.data[start:]) {
		m.add(u, start, start+u.length())
	}
	return true
}

func (u *unit) length() int { return max(len(u.exact), len(u.fold), len(u.sets)) }

// equal reports whether data begins with the sequence.
func (u *unit) equal(data []byte) bool {
	if len(data) < u.length() {
		return false
	}
	switch {
	case u.exact != nil:
		return string(data[:len(u.exact)]) == string(u.exact)
	case u.fold != nil:
		for i, c := range u.fold {
			if lower[data[i]] != c {
				return false
			}
		}
		return true
	}
	for i := range u.sets {
		if !u.sets[i].has(data[i]) {
			return false
		}
	}
	return true
}

// program runs a pattern forward from its atom, to one end, and backward to
// every start.
func (m *matcher) program(u *unit, p *place, pos int) {
	end := -1
	longest := m.set.slots[u.slot].longest
	m.mem.run(m.data, u.fwd, p.fwd, pos, true, func(at int) bool {
		end = at
		return longest
	})
	if end < 0 {
		return
	}
	m.mem.run(m.data, u.bwd, p.bwd, pos, false, func(start int) bool {
		m.add(u, start, end)
		return true
	})
}

// A memory is what a set's automata need to run: it is kept from one file to
// the next, with the states that they have been in.
type memory struct {
	runner runner
	lazy   []*lazy // by automaton
}

func (m *memory) run(data []byte, a *automaton, pc int32, pos int, forward bool, found func(pos int) bool) {
	if a.wide {
		m.runner.data = data
		m.runner.run(a, pc, pos, forward, found)
		m.runner.data = nil
		return
	}
	l := m.lazy[a.number]
	if l == nil {
		l = newLazy(a, forward)
		m.lazy[a.number] = l
	}
	l.run(data, pc, pos, found)
}

func (m *matcher) add(u *unit, start, end int) {
	s := &m.set.slots[u.slot]
	if s.fullword && m.inWord(u.wide, start, end) {
		return
	}
	list := append(m.found[u.slot], Span{int32(start), int32(end - start)})
	if len(list) >= 2*MaxMatches {
		if list = tidy(list, s.longest); len(list) > MaxMatches {
			list = list[:MaxMatches]
			m.full[u.slot] = true
		}
	}
	m.found[u.slot] = list
}

// inWord reports whether a letter or digit stands directly before or after.
func (m *matcher) inWord(wide bool, start, end int) bool {
	d := m.data
	if wide {
		return start >= 2 && d[start-1] == 0 && alnum(d[start-2]) || end+1 < len(d) && d[end+1] == 0 && alnum(d[end])
	}
	return start >= 1 && alnum(d[start-1]) || end < len(d) && alnum(d[end])
}

func alnum(c byte) bool { return c != '_' && letter(c) || digit(c) }

// tidy sorts spans and keeps one for each offset.
func tidy(list []Span, longest bool) []Span {
	slices.SortFunc(list, func(a, b Span) int {
		if longest {
			return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(b.Length, a.Length))
		}
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Length, b.Length))
	})
	return slices.CompactFunc(list, func(a, b Span) bool { return a.Offset == b.Offset })
}

func (m *matcher) settle(i int) {
	if len(m.found[i]) == 0 {
		return
	}
	m.found[i] = tidy(m.found[i], m.set.slots[i].longest)
	if len(m.found[i]) > MaxMatches {
		m.found[i], m.full[i] = m.found[i][:MaxMatches], true
	}
}

// strings returns the places of each string of a rule.
func (m *matcher) strings(r *Rule) [][]Span {
	out := make([][]Span, len(r.strings))
	for i := range r.strings {
		s := &r.strings[i]
		out[i] = m.found[s.slots[len(s.slots)-1]]
		for part := len(s.slots) - 2; part >= 0 && len(out[i]) > 0; part-- {
			out[i] = join(m.found[s.slots[part]], out[i], s.gaps[part])
		}
	}
	return out
}

// join returns the spans from each head to the nearest tail that lies within
// the gap after it.
func join(heads, tails []Span, g gap) (out []Span) {
	for _, h := range heads {
		least := h.end() + g.min
		i := sort.Search(len(tails), func(i int) bool { return int(tails[i].Offset) >= least })
		if i < len(tails) && (g.max < 0 || int(tails[i].Offset) <= h.end()+g.max) {
			out = append(out, Span{h.Offset, int32(tails[i].end() - int(h.Offset))})
		}
	}
	return out
}

// cut says which strings of a rule have more places than are kept.
func (m *matcher) cut(r *Rule) (notes []string) {
	for i := range r.strings {
		for _, slot := range r.strings[i].slots {
			if m.full[slot] {
				notes = append(notes, fmt.Sprintf("rule %s: %s is there more than %d times; the others are not counted", r.Name, r.strings[i].name, MaxMatches))
				break
			}
		}
	}
	return notes
}
