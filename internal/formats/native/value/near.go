package value

import "sort"

// maxNear is how many instructions before a call near looks at.
const maxNear = 256

// near returns the argument of a call of an import where the instructions right
// before it put a number or a text there, whatever came before them. The whole
// function would show the same.
func (r *Reader) near(site uint64, arg int) (Value, bool) {
	if r.machine == nil || arg >= len(r.foreign.args) {
		return Value{}, false
	}
	at := r.around(site)
	if at.hi <= at.lo || r.kept[at] != nil {
		return Value{}, false
	}
	m := r.enter()
	defer func() {
		r.truths = nil
		r.leave(m)
	}()
	if m.of != at {
		if !r.pay(at) {
			return Value{}, false
		}
		m.list(r, at)
	}
	last := sort.Search(len(m.insts), func(i int) bool { return m.insts[i].addr >= site })
	if last == len(m.insts) || m.insts[last].addr != site {
		return Value{}, false
	}
	call := &m.insts[last]
	if call.flow != Call && call.flow != Tail {
		return Value{}, false
	}
	first := last
	for first > 0 && last-first < maxNear && !m.insts[first].joins && (m.insts[first-1].flow == Next || m.insts[first-1].flow == Branch) {
		first--
	}
	// What follows from a state of which nothing is known holds in any other.
	s := m.fresh()
	defer m.drop(s)
	s.regs[zero] = val{kind: num}
	from := m.insts[first].ops
	for i := range m.ops[from : call.ops+int32(call.n)] {
		s.do(&m.ops[from+int32(i)], r)
	}
	var callee val
	switch {
	case call.via != none:
		callee = s.regs[call.via]
	case call.target != 0:
		callee = r.code(call.target)
	}
	name := r.calleeName(callee)
	if v := s.regs[r.foreign.args[arg]]; name != "" && v.kind == num {
		out := r.number(v, name)
		return out, out.Kind != Address // the length of which may stand in the next argument
	}
	return Value{}, false
}
