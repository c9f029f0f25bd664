package yara

import "slices"

// An automaton is a pattern as a program after Thompson (Regular Expression
// Search Algorithm, 1968), for one direction of reading. All threads of it step
// together, so that its time is bounded by its size for each byte.
type automaton struct {
	code    []inst
	at      map[*pattern]int32 // where each leaf stands
	asserts bool               // there are assertions
	wide    bool               // there are some about wide characters

	number  int       // among those of a set
	class   [256]byte // of each byte: bytes of a class go the same way
	samples []byte    // one byte of each class
}

type inst struct {
	op     instOp
	assert assertion
	x, y   int32 // where to go on
	set    byteSet
}

type instOp uint8

const (
	instByte instOp = iota
	instSplit
	instJump
	instAssert
	instMatch
)

// assemble returns the program of a plain pattern, read backwards if reverse is
// set.
func assemble(p *pattern, reverse bool) *automaton {
	a := &automaton{at: map[*pattern]int32{}}
	a.emit(p, reverse)
	a.code = append(a.code, inst{op: instMatch})
	a.classify()
	return a
}

// classify puts the bytes into classes: two are of one class if no instruction
// tells them apart.
func (a *automaton) classify() {
	cuts := []byteSet{}
	seen := map[byteSet]bool{}
	cut := func(s byteSet) {
		if !seen[s] {
			seen[s] = true
			cuts = append(cuts, s)
		}
	}
	for i := range a.code {
		switch in := &a.code[i]; in.op {
		case instByte:
			cut(in.set)
		case instAssert:
			a.asserts = true
			a.wide = a.wide || in.assert == wideWordEdge || in.assert == noWideWordEdge
			cut(wordBytes)
		}
	}
	known := []byteSet{anyByte}
	for _, s := range cuts {
		for _, k := range known[:len(known):len(known)] {
			in, out := byteSet{}, byteSet{}
			for i := range k {
				in[i], out[i] = k[i]&s[i], k[i]&^s[i]
			}
			if in == (byteSet{}) || out == (byteSet{}) {
				continue
			}
			known[slices.Index(known, k)] = in
			known = append(known, out)
		}
	}
	for i, k := range known {
		first := true
		for c := range k.all {
			if first {
				a.samples = append(a.samples, c)
				first = false
			}
			a.class[c] = byte(i)
		}
	}
}

func (a *automaton) emit(p *pattern, reverse bool) {
	switch p.kind {
	case patByte:
		a.at[p] = int32(len(a.code))
		a.code = append(a.code, inst{op: instByte, set: p.set, x: int32(len(a.code)) + 1})
	case patAssert:
		a.code = append(a.code, inst{op: instAssert, assert: p.assert, x: int32(len(a.code)) + 1})
	case patCat:
		for i := range p.kids {
			if reverse {
				i = len(p.kids) - 1 - i
			}
			a.emit(p.kids[i], reverse)
		}
	case patAlt:
		var jumps []int
		for i, k := range p.kids {
			if i == len(p.kids)-1 {
				a.emit(k, reverse)
				break
			}
			split := len(a.code)
			a.code = append(a.code, inst{op: instSplit, x: int32(split) + 1})
			a.emit(k, reverse)
			jumps = append(jumps, len(a.code))
			a.code = append(a.code, inst{op: instJump})
			a.code[split].y = int32(len(a.code))
		}
		for _, j := range jumps {
			a.code[j].x = int32(len(a.code))
		}
	case patStar:
		split := len(a.code)
		a.code = append(a.code, inst{op: instSplit, x: int32(split) + 1})
		a.emit(p.kids[0], reverse)
		a.code = append(a.code, inst{op: instJump, x: int32(split)})
		a.code[split].y = int32(len(a.code))
	}
}

// reach is how far from its atom a match may extend in either direction, in
// bytes, as in YARA (YR_RE_SCAN_LIMIT).
const reach = 4096

// A runner is the memory that automata run in. It is for one goroutine.
type runner struct {
	data      []byte
	mark      []uint32 // by instruction: the generation that added it
	gen       uint32
	cur, next []int32
	stack     []int32
	matched   bool
}

// run steps the threads that begin at pc and at a position of the data, forward
// or backward, and calls found with each position at which the program matches,
// nearest first, until found returns false.
func (r *runner) run(a *automaton, pc int32, pos int, forward bool, found func(pos int) bool) {
	if len(r.mark) < len(a.code) {
		r.mark = make([]uint32, len(a.code))
		r.gen = 0
	}
	r.cur = r.cur[:0]
	r.begin()
	r.cur = r.add(r.cur, a, pc, pos)
	for n := 0; ; n++ {
		if r.matched && !found(pos) || len(r.cur) == 0 || n == reach {
			return
		}
		var c byte
		if forward {
			if pos == len(r.data) {
				return
			}
			c = r.data[pos]
			pos++
		} else {
			if pos == 0 {
				return
			}
			pos--
			c = r.data[pos]
		}
		r.begin()
		r.next = r.next[:0]
		for _, t := range r.cur {
			if in := &a.code[t]; in.set.has(c) {
				r.next = r.add(r.next, a, in.x, pos)
			}
		}
		r.cur, r.next = r.next, r.cur
	}
}

// begin starts a new set of threads.
func (r *runner) begin() {
	r.matched = false
	if r.gen++; r.gen == 0 {
		clear(r.mark)
		r.gen = 1
	}
}

// add adds the threads that are reached from pc without a byte.
func (r *runner) add(list []int32, a *automaton, pc int32, pos int) []int32 {
	stack := append(r.stack[:0], pc)
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if r.mark[pc] == r.gen {
			continue
		}
		r.mark[pc] = r.gen
		switch in := &a.code[pc]; in.op {
		case instByte:
			list = append(list, pc)
		case instMatch:
			r.matched = true
		case instJump:
			stack = append(stack, in.x)
		case instSplit:
			stack = append(stack, in.y, in.x)
		case instAssert:
			if r.holds(in.assert, pos) {
				stack = append(stack, in.x)
			}
		}
	}
	r.stack = stack
	return list
}

// holds reports whether an assertion holds before data[pos]. Like YARA's, a
// word's edge is at both ends of the data whatever stands there.
func (r *runner) holds(a assertion, pos int) bool {
	switch a {
	case atStart:
		return pos == 0
	case atEnd:
		return pos == len(r.data)
	}
	size := 1
	if a == wideWordEdge || a == noWideWordEdge {
		size = 2
	}
	edge := pos < size || pos+size > len(r.data) || r.word(pos, size) != r.word(pos-size, size)
	return edge == (a == wordEdge || a == wideWordEdge)
}

// word reports whether a character of size bytes is a letter, digit or
// underscore.
func (r *runner) word(pos, size int) bool {
	return wordBytes.has(r.data[pos]) && (size == 1 || r.data[pos+1] == 0)
}
