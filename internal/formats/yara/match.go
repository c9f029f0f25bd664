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
	mem, _ := s.memories.Get().(*memory)
	if mem == nil {
		mem = s.newMemory()
	}
	defer func() { // not after a panic, which may leave anything in it
		mem.reset()
		s.memories.Put(mem)
	}()
	m := &matcher{set: s, ctx: ctx, data: data, memory: mem}
	s.finder.scan(data, m.hit)
	for _, i := range m.touched {
		m.settle(i)
	}
	m.assemble()
	e := &evaluator{set: s, data: data, ctx: ctx, strings: m.strings, results: make([]bool, len(s.rules))}
	unmet := make([]bool, s.files) // by file: a global rule does not hold
	for i, r := range s.rules {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if held := e.rule(i); r.Global && !held {
			unmet[r.file] = true
		}
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	for i, r := range s.rules {
		if e.results[i] && !r.Private && !unmet[r.file] {
			out = append(out, Match{r, e.shown(r)})
		}
		notes = append(notes, m.cut(r)...)
	}
	return out, notes, nil
}

// A memory is what a set needs to try its rules on some data. It is kept from
// one call to the next, with the states that the automata have been in. It is
// for one goroutine at a time.
type memory struct {
	found   [][]Span // by slot
	full    []bool   // by slot: there are more
	touched []int    // slots that have matches
	strings [][]Span // by string, over all rules
	runner  runner
	lazy    []*lazy // by automaton
}

func (s *Set) newMemory() *memory {
	return &memory{
		found: make([][]Span, len(s.slots)), full: make([]bool, len(s.slots)),
		strings: make([][]Span, s.strings), lazy: make([]*lazy, s.automata),
	}
}

// maxKeptSpans is the room for matches that a slot keeps for the next data.
const maxKeptSpans = 64

func (m *memory) reset() {
	for _, i := range m.touched {
		m.found[i], m.full[i] = m.found[i][:0], false
		if cap(m.found[i]) > maxKeptSpans {
			m.found[i] = nil
		}
	}
	m.touched = m.touched[:0]
	clear(m.strings)
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

// A matcher looks for the strings of a set in some data.
type matcher struct {
	*memory
	set  *Set
	ctx  context.Context
	data []byte
	hits int
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
		if u.runs[p.run].fits(m.data, pos) {
			m.program(u, p, pos)
		}
		return true
	}
	if start := pos - int(p.offset); start >= 0 && m.allowed(u, start) && u.equal(m.data[start:]) {
		m.add(u, start, start+u.length())
	}
	return true
}

// allowed reports whether a match at an offset counts.
func (m *matcher) allowed(u *unit, start int) bool {
	s := &m.set.slots[u.slot]
	return !s.fixed || s.offset == int64(start)
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
	m.run(m.data, u.fwd, p.fwd, pos, true, func(at int) bool {
		end = at
		return longest
	})
	if end < 0 {
		return
	}
	m.run(m.data, u.bwd, p.bwd, pos, false, func(start int) bool {
		m.add(u, start, end)
		return true
	})
}

func (m *matcher) add(u *unit, start, end int) {
	s := &m.set.slots[u.slot]
	if !m.allowed(u, start) || s.fullword && m.inWord(u.wide, start, end) {
		return
	}
	if len(m.found[u.slot]) == 0 {
		m.touched = append(m.touched, u.slot)
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

func (m *matcher) settle(slot int) {
	m.found[slot] = tidy(m.found[slot], m.set.slots[slot].longest)
	if len(m.found[slot]) > MaxMatches {
		m.found[slot], m.full[slot] = m.found[slot][:MaxMatches], true
	}
}

// assemble puts together the places of each string from those of its parts.
func (m *matcher) assemble() {
	for _, r := range m.set.rules {
		for i := range r.strings {
			s := &r.strings[i]
			at := m.found[s.slots[len(s.slots)-1]]
			for part := len(s.slots) - 2; part >= 0 && len(at) > 0; part-- {
				at = join(m.found[s.slots[part]], at, s.gaps[part])
			}
			m.strings[r.first+i] = at
		}
	}
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
