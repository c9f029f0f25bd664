package yara

import (
	"encoding/binary"
	"slices"
)

// A lazy is an automaton made deterministic as far as some data need it: a
// state stands for a set of threads, and is worked out when it is first
// entered. Assertions wait in a state until the next byte is known, so a match
// shows one byte late. It is for one goroutine.
type lazy struct {
	a       *automaton
	forward bool
	stride  int     // symbols: the classes of bytes, and the end of the data
	next    []int32 // by state and symbol: the next state times two, plus one if there is a match before the symbol; -1 if not known
	sets    [][]int32
	behind  []before
	index   map[string]int32
	starts  []int32 // by instruction and what is behind; -1 if not known
	kept    int     // threads in all sets

	mark  []uint32
	gen   uint32
	stack []int32
	list  []int32
	key   []byte
}

// before is what stands behind a run at a position, as assertions ask for it.
type before uint8

const (
	beforeEdge before = iota // nothing
	beforeWord
	beforeOther
	behinds // how many there are
)

// maxCells and maxKept bound the states of one automaton, beyond which it
// forgets them all: entries of its table, and threads in its states.
const (
	maxCells = 1 << 16
	maxKept  = 1 << 16
)

func newLazy(a *automaton, forward bool) *lazy {
	l := &lazy{a: a, forward: forward, stride: len(a.samples) + 1, mark: make([]uint32, len(a.code))}
	l.forget()
	return l
}

func (l *lazy) forget() {
	l.next, l.sets, l.behind = l.next[:0], l.sets[:0], l.behind[:0]
	l.index, l.kept = map[string]int32{}, 0
	l.starts = slices.Repeat([]int32{-1}, len(l.a.code)*int(behinds))
}

// run does what [runner.run] does.
func (l *lazy) run(data []byte, pc int32, pos int, found func(pos int) bool) {
	s := l.start(data, pc, pos)
	end := l.stride - 1
	for n := 0; ; n++ {
		symbol := end
		if l.forward && pos < len(data) {
			symbol = int(l.a.class[data[pos]])
		} else if !l.forward && pos > 0 {
			symbol = int(l.a.class[data[pos-1]])
		}
		to := l.next[int(s)*l.stride+symbol]
		if to < 0 {
			to = l.step(s, symbol)
		}
		if to&1 != 0 && !found(pos) {
			return
		}
		if s = to >> 1; s == 0 || n == reach {
			return
		}
		if l.forward {
			pos++
		} else {
			pos--
		}
	}
}

// start returns the state in which a run begins.
func (l *lazy) start(data []byte, pc int32, pos int) int32 {
	behind := beforeEdge
	if i := pos - 1; l.a.asserts {
		if !l.forward {
			i = pos
		}
		if i >= 0 && i < len(data) {
			behind = contextOf(data[i])
		}
	}
	at := int(pc)*int(behinds) + int(behind)
	if s := l.starts[at]; s >= 0 {
		return s
	}
	l.begin()
	l.close(pc)
	s := l.state(behind)
	l.starts[at] = s
	return s
}

func contextOf(c byte) before {
	if wordBytes.has(c) {
		return beforeWord
	}
	return beforeOther
}

func (l *lazy) begin() {
	l.list = l.list[:0]
	if l.gen++; l.gen == 0 {
		clear(l.mark)
		l.gen = 1
	}
}

// close adds to the list what is reached from pc without a byte, up to
// assertions, which are added themselves.
func (l *lazy) close(pc int32) {
	stack := append(l.stack[:0], pc)
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if l.mark[pc] == l.gen {
			continue
		}
		l.mark[pc] = l.gen
		switch in := &l.a.code[pc]; in.op {
		case instJump:
			stack = append(stack, in.x)
		case instSplit:
			stack = append(stack, in.y, in.x)
		default:
			l.list = append(l.list, pc)
		}
	}
	l.stack = stack
}

// state returns the state of the list. Zero is that of no threads.
func (l *lazy) state(behind before) int32 {
	if len(l.sets) == 0 {
		l.intern(nil, beforeEdge)
	}
	if len(l.list) == 0 {
		return 0
	}
	return l.intern(l.list, behind)
}

func (l *lazy) intern(list []int32, behind before) int32 {
	if !l.a.asserts {
		behind = beforeEdge
	}
	l.key = append(l.key[:0], byte(behind))
	for _, pc := range list {
		l.key = binary.LittleEndian.AppendUint32(l.key, uint32(pc))
	}
	if s, ok := l.index[string(l.key)]; ok {
		return s
	}
	if len(l.next) >= maxCells || l.kept > maxKept {
		l.forget()
		return l.state(behind)
	}
	s := int32(len(l.sets))
	l.sets, l.behind = append(l.sets, append([]int32(nil), list...)), append(l.behind, behind)
	for range l.stride {
		l.next = append(l.next, -1)
	}
	l.index[string(l.key)] = s
	l.kept += len(list)
	return s
}

// step works out where a state goes with a symbol.
func (l *lazy) step(s int32, symbol int) int32 {
	end := symbol == l.stride-1
	var c byte
	if !end {
		c = l.a.samples[symbol]
	}
	matched := int32(0)
	threads := l.resolve(l.sets[s], l.behind[s], c, end)
	l.begin()
	for _, pc := range threads {
		switch in := &l.a.code[pc]; {
		case in.op == instMatch:
			matched = 1
		case in.op == instByte && !end && in.set.has(c):
			l.close(in.x)
		}
	}
	states := len(l.sets)
	to := l.state(contextOf(c))<<1 | matched
	if len(l.sets) >= states { // else all was forgotten, s with it
		l.next[int(s)*l.stride+symbol] = to
	}
	return to
}

// resolve replaces assertions by what follows those that hold.
func (l *lazy) resolve(set []int32, behind before, c byte, end bool) []int32 {
	if !l.a.asserts {
		return set
	}
	l.begin()
	for _, pc := range set {
		if in := &l.a.code[pc]; in.op != instAssert && l.mark[pc] != l.gen {
			l.mark[pc] = l.gen
			l.list = append(l.list, pc)
		}
	}
	for _, pc := range set {
		l.assert(pc, behind, c, end)
	}
	return append([]int32(nil), l.list...)
}

// assert follows an assertion if it holds, and those that come right after it.
func (l *lazy) assert(pc int32, behind before, c byte, end bool) {
	in := &l.a.code[pc]
	if in.op != instAssert || !l.holds(in.assert, behind, c, end) {
		return
	}
	from := len(l.list)
	l.close(in.x)
	for i := from; i < len(l.list); i++ {
		if next := l.list[i]; l.a.code[next].op == instAssert {
			l.assert(next, behind, c, end)
		}
	}
}

// holds does what [runner.holds] does.
func (l *lazy) holds(a assertion, behind before, c byte, end bool) bool {
	switch a {
	case atStart:
		return l.forward && behind == beforeEdge || !l.forward && end
	case atEnd:
		return l.forward && end || !l.forward && behind == beforeEdge
	}
	edge := end || behind == beforeEdge || behind != contextOf(c)
	return edge == (a == wordEdge)
}
