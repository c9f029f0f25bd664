package value

import (
	"math"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Flow is how an instruction goes on.
type Flow uint8

// The flows.
const (
	Next    Flow = iota // to the instruction behind it
	Call                // to a function, and back
	Tail                // to another function, not back
	Jump                // to Target, or to one of several places if that is 0
	Branch              // to Target if the condition holds
	Return              // to the caller
	Syscall             // into the kernel, and back
	Stop                // nowhere: a trap
)

func (f Flow) String() string {
	names := [...]string{"next", "call", "tail call", "jump", "branch", "return", "system call", "stop"}
	if int(f) < len(names) {
		return names[f]
	}
	return "invalid"
}

// A Step is an instruction that does not just go on to the next.
type Step struct {
	Addr   uint64
	Next   uint64  // address of the instruction behind it
	Flow   Flow    // never Next
	Target uint64  // of a jump or branch inside the function
	Callee Value   // of Call and Tail what is called; of Syscall the number
	Args   []Value // of Call, Tail and Syscall, without those at the end that nothing was put in; of Return what is in the register of results, if that is known
	Cond   Cond    // of Branch

	local []Value // of Call and Tail what is in the registers that are for local functions, if one is called
}

// A Cond is the condition on which a branch is taken.
type Cond struct {
	Op          string // == != < <= > >= &; empty if it is not evident
	Left, Right Value
	Register    string // that holds Left
	Other       string // register that holds Right; empty for a number
	Not         bool   // of &: taken if no bit is set
}

// Limits of the code that is followed at once.
const (
	maxBytes  = 64 << 10
	maxInsts  = 16 << 10
	maxPasses = 6
	maxStored = 1 << 16 // slots in the states that wait at branch targets
)

// flow is the outcome for one function.
type flow struct {
	steps []Step
	whole bool
}

// follower follows one run of code.
type follower struct {
	r *Reader
	*room
	stored int    // slots in ahead and back
	lost   bool   // in this pass, a loop brought less than was assumed
	calm   *state // how the stack last was in the body of the function
	out    *flow  // nil while loops are not settled
}

// A listing is a run of code, decoded.
type listing struct {
	of    run // with nothing in it: none
	insts []inst
	ops   []op
	at    []int32 // by byte of the code: index of the instruction there, plus 1, if a jump leads to it; see link
	steps int     // instructions that do not just go on to the next
	loops bool    // some jumps go backwards
	whole bool    // all of it could be decoded
}

// room is memory that is used for one function after the other.
type room struct {
	listing
	ahead []*state // by instruction: what comes from branches before it
	back  []*state // the same, from branches behind it: loops
	heads []int32  // instructions with something in back
	free  []*state
}

// mostKept is up to which size a listing makes room for the next, in
// instructions.
const mostKept = 4 << 10

// enter takes the room of r, which follows functions that a function calls
// while it follows that.
func (r *Reader) enter() *room {
	m := r.room
	if r.room = nil; m == nil {
		m = &room{}
	}
	return m
}

// leave gives it back.
func (r *Reader) leave(m *room) {
	for _, i := range m.heads {
		m.back[i] = nil
	}
	m.heads = m.heads[:0]
	m.free = m.free[:min(len(m.free), 64)]
	r.room = m
}

// fresh returns a state of which nothing is known.
func (m *room) fresh() *state {
	n := len(m.free)
	if n == 0 {
		return &state{}
	}
	s := m.free[n-1]
	m.free = m.free[:n-1]
	*s = state{slots: s.slots[:0]}
	return s
}

// clone copies a state.
func (m *room) clone(s *state) *state {
	n := len(m.free)
	if n == 0 {
		return s.clone()
	}
	c := m.free[n-1]
	m.free = m.free[:n-1]
	slots := append(c.slots[:0], s.slots...)
	*c = *s
	c.slots = slots
	return c
}

// drop says that a state is not used any more.
func (m *room) drop(s *state) {
	if s != nil {
		m.free = append(m.free, s)
	}
}

// follow goes through a run of code, forward. A loop is taken at first to
// change nothing; what its end then shows to be changed is forgotten at its head
// in the next pass, until that changes nothing.
func (r *Reader) follow(at run) *flow {
	out := &flow{}
	if at.hi <= at.lo {
		return out
	}
	defer func(old map[int64]flags) { r.truths = old }(r.truths)
	r.truths = nil
	f := &follower{r: r, room: r.enter()}
	defer r.leave(f.room)
	f.list(r, at)
	f.ahead, f.back = resized(f.ahead, len(f.insts)), resized(f.back, len(f.insts))
	out.whole = f.whole
	start := f.fresh()
	r.start(start, at.entry)
	for pass := 0; f.loops; pass++ {
		f.lost = false
		f.pass(f.clone(start))
		if !f.lost {
			break
		}
		if pass == maxPasses {
			for _, i := range f.heads {
				f.forget(f.back[i])
			}
			break
		}
	}
	f.out = out
	out.steps = make([]Step, 0, f.steps)
	f.pass(start)
	return out
}

// forget leaves of a state only where the stack is.
func (f *follower) forget(s *state) {
	m := f.r.machine
	sp, fp := s.regs[m.sp], s.regs[m.fp]
	*s = state{gone: math.MaxUint64, pushed: s.pushed, slots: s.slots[:0]}
	s.regs[m.sp] = sp
	if fp.kind == frame {
		s.regs[m.fp] = fp
	}
	s.regs[zero] = val{kind: num}
}

// start puts into a state what is known at the start of a function, or in the
// middle of one.
func (r *Reader) start(s *state, entry bool) {
	s.regs[zero] = val{kind: num}
	s.regs[r.machine.sp] = val{kind: frame}
	if !entry {
		s.regs[r.machine.sp].n = -farBelow
		return
	}
	for _, reg := range r.conv.saved {
		if reg != r.machine.sp {
			s.regs[reg] = val{kind: initial, n: int64(reg)}
		}
	}
	for i, reg := range r.conv.args {
		s.regs[reg] = val{kind: param, n: int64(i)}
	}
	for i, reg := range r.conv.local {
		s.regs[reg] = val{kind: param, n: maxArgs + int64(i)}
	}
}

// list decodes a run of code, if that is not what the listing is of.
func (l *listing) list(r *Reader, at run) {
	if l.of == at {
		return
	}
	if cap(l.insts) > mostKept {
		*l = listing{}
	}
	b := r.m.At(at.lo)
	b = b[:min(uint64(len(b)), at.hi-at.lo, maxBytes)]
	d := decoder{r: r, entry: at.lo, thumb: r.thumb(at.lo, b), ops: l.ops[:0]}
	l.of, l.whole = at, uint64(len(b)) == at.hi-at.lo
	if !l.decode(&d, b, at.lo) {
		l.whole = false
	}
	l.ops = d.ops
	l.link()
}

// decode turns bytes into instructions. It returns false if it had to leave
// some out.
func (l *listing) decode(d *decoder, b []byte, addr uint64) bool {
	m, whole := d.r.machine, true
	l.insts = l.insts[:0]
	for len(b) > 0 {
		if len(l.insts) == maxInsts {
			return false
		}
		first := len(d.ops)
		in, ok := m.decode(d, b, addr)
		if !ok || in.size == 0 || int(in.size) > len(b) {
			d.ops = d.ops[:first]
			step := min(m.step, len(b))
			in = inst{flow: Stop, size: uint8(step), via: none, a: none, b: none}
			whole = false
		}
		in.addr, in.ops, in.n = addr, int32(first), uint8(len(d.ops)-first)
		l.insts = append(l.insts, in)
		b, addr = b[in.size:], addr+uint64(in.size)
	}
	return whole
}

// link marks the instructions that are targets of jumps and branches. A jump out
// of the code is a tail call.
func (l *listing) link() {
	l.loops, l.steps = false, 0
	n := len(l.insts)
	if n == 0 {
		l.at = l.at[:0]
		return
	}
	// Until the instructions are marked, -1 is a target, and -2 that of a loop.
	lo, hi := l.insts[0].addr, l.insts[n-1].addr
	l.at = resized(l.at, int(hi-lo)+1)
	for i := range l.insts {
		in := &l.insts[i]
		if in.flow != Next {
			l.steps++
		}
		if in.flow != Jump && in.flow != Branch || in.via != none {
			continue
		}
		if in.target < lo || in.target > hi {
			if in.flow == Jump {
				in.flow = Tail
			}
			continue
		}
		to := &l.at[in.target-lo]
		if in.target <= in.addr {
			*to, l.loops = -2, true
		} else if *to == 0 {
			*to = -1
		}
	}
	for i := range l.insts {
		in := &l.insts[i]
		if to := &l.at[in.addr-lo]; *to != 0 {
			in.joins, in.head = true, *to == -2
			*to = int32(i) + 1
		}
	}
}

// resized returns n zeros, in list if there is room.
func resized[T any](list []T, n int) []T {
	if cap(list) < n {
		return make([]T, n, n+n/4)
	}
	list = list[:n]
	clear(list)
	return list
}

// pass goes through all instructions in order.
func (f *follower) pass(cur *state) {
	clear(f.ahead)
	f.drop(f.calm)
	f.calm, f.stored = nil, 0
	for _, i := range f.heads {
		f.stored += len(f.back[i].slots)
	}
	live, dead := true, false
	for i := range f.insts {
		in := &f.insts[i]
		target := in.joins
		if dead && !target || !live && !target && in.flow == Next && in.n == 0 {
			continue // not reached, or padding
		}
		if target || !live {
			next := f.join(int32(i), cur, live)
			if next == nil {
				dead = true
				continue
			}
			cur, dead = next, false
		}
		live = f.step(in, cur, int32(i))
	}
	f.drop(cur)
}

// join returns what is known at a place where ways meet. Where no way is known
// to lead, only the stack is taken to be as it was. While loops are not settled
// it returns nil where the way leads that is not gone yet: through a branch
// behind.
func (f *follower) join(i int32, cur *state, live bool) *state {
	sp := f.r.machine.sp
	for _, s := range [2]*state{f.ahead[i], f.back[i]} {
		switch {
		case s == nil:
		case live:
			cur.meet(s, sp)
		default:
			f.drop(cur)
			cur = f.clone(s)
			live = true
		}
	}
	if ahead := f.ahead[i]; ahead != nil {
		f.stored -= len(ahead.slots)
		f.ahead[i] = nil
		f.drop(ahead)
	}
	if live {
		return cur
	}
	if f.out == nil && f.insts[i].head {
		return nil
	}
	if f.calm != nil {
		f.drop(cur)
		cur = f.clone(f.calm)
	}
	f.forget(cur)
	return cur
}

// branch brings the state at instruction i to the target of its branch.
func (f *follower) branch(i int32, target uint64, cur *state) {
	lo := f.of.lo
	if target < lo || target-lo >= uint64(len(f.at)) {
		return
	}
	to := f.at[target-lo] - 1
	if to < 0 {
		return
	}
	states := f.ahead
	if to <= i {
		states = f.back
	}
	if s := states[to]; s != nil {
		if s.meet(cur, f.r.machine.sp) && to <= i {
			f.lost = true
		}
		return
	}
	s := f.clone(cur)
	if f.stored += len(s.slots); f.stored > maxStored {
		f.stored -= len(s.slots)
		s.slots, s.gone = s.slots[:0], math.MaxUint64
	}
	states[to] = s
	if to <= i {
		f.heads = append(f.heads, to)
		f.lost = true
	}
}

// step carries out one instruction, and reports whether the next one follows
// it.
func (f *follower) step(in *inst, cur *state, i int32) bool {
	r := f.r
	for k := range f.ops[in.ops : in.ops+int32(in.n)] {
		cur.do(&f.ops[in.ops+int32(k)], r)
	}
	if r.m.Arch == image.X86 {
		cur.pushed = max(0, cur.pushed+f.pushed(in, cur))
	}
	switch in.flow {
	case Next:
		return true
	case Call, Syscall:
		var callee val
		f.emit(in, cur, &callee)
		f.called(in, cur, callee, i)
		return true
	case Tail:
		f.emit(in, cur, new(val))
	case Jump:
		if in.via != none {
			if r.leaves(cur.regs[in.via]) {
				tail := *in
				tail.flow = Tail
				f.emit(&tail, cur, new(val))
				break
			}
		}
		f.emit(in, cur, nil)
		f.branch(i, in.target, cur)
	case Branch:
		f.emit(in, cur, nil)
		f.branch(i, in.target, cur)
		return true
	default:
		f.emit(in, cur, nil)
	}
	if in.flow == Jump && f.calm == nil {
		f.calm = f.clone(cur)
	}
	return false
}

// leaves reports whether a jump to a place leaves the function.
func (r *Reader) leaves(to val) bool {
	switch to.kind {
	case imported, result, param:
		return true
	case num:
		return to.at && (r.isStart(uint64(to.n)) || r.code(uint64(to.n)).kind == imported)
	}
	return false
}

// pushed returns by how much an instruction of x86 lowers the stack for
// arguments. What a function pushes to keep it for its caller is none.
func (f *follower) pushed(in *inst, s *state) int64 {
	if in.flow != Next || in.imm == 0 {
		return 0
	}
	if in.imm > 0 && in.n > 0 {
		if o := &f.ops[in.ops+int32(in.n)-1]; o.kind == opStore && s.regs[o.b].kind == initial {
			return 0
		}
	}
	return in.imm
}

// called leaves of a state what a call leaves of it.
func (f *follower) called(in *inst, s *state, callee val, i int32) {
	r := f.r
	m, conv := r.machine, r.conv
	if f.calm == nil || s.regs[m.sp].kind == frame && s.regs[m.sp].n < f.calm.regs[m.sp].n {
		f.drop(f.calm)
		f.calm = f.clone(s)
		f.calm.slots = f.calm.slots[:0]
	}
	if in.flow == Syscall {
		s.regs[conv.result] = val{kind: result, n: int64(in.addr)}
		if r.m.Arch == image.X86_64 {
			s.regs[rcx], s.regs[r11] = val{}, val{}
		}
		s.flags = flags{}
		return
	}
	r.written(s, callee)
	var kept [32]val
	for _, reg := range conv.saved {
		kept[reg] = s.regs[reg]
	}
	clear(s.regs[:])
	copy(s.regs[:], kept[:])
	s.regs[zero] = val{kind: num}
	s.regs[conv.result] = val{kind: result, n: int64(in.addr)}
	s.flags = flags{}
	if r.m.Arch == image.X86 {
		if sp := &s.regs[m.sp]; sp.kind == frame {
			sp.n += f.popped(s, callee, i)
		}
		s.pushed = 0
	}
}

// popped returns how many bytes the callee of instruction i takes off the stack
// of x86.
func (f *follower) popped(s *state, callee val, i int32) int64 {
	r := f.r
	if callee.kind == num {
		return r.popsOf(uint64(callee.n))
	}
	if !r.conv.clears || callee.kind == imported && cRuntime(r.m.Imports[callee.n].Library) {
		return 0
	}
	if s.pushed > 0 {
		if int(i)+1 < len(f.insts) && f.insts[i+1].imm < 0 && f.insts[i+1].flow == Next && f.raisesStack(i+1) {
			return 0 // the caller does
		}
		return s.pushed
	}
	// Compilers that store arguments instead of pushing them take the stack
	// back where they need it.
	if int(i)+1 < len(f.insts) {
		if n := f.lowersStack(i + 1); n > 0 {
			return n
		}
	}
	return 0
}

// raisesStack reports whether an instruction adds to the stack pointer.
func (f *follower) raisesStack(i int32) bool { return f.movesStack(i) > 0 }

// lowersStack returns what an instruction takes from the stack pointer.
func (f *follower) lowersStack(i int32) int64 { return -min(0, f.movesStack(i)) }

func (f *follower) movesStack(i int32) int64 {
	in, sp := &f.insts[i], f.r.machine.sp
	if in.n == 0 {
		return 0
	}
	if o := f.ops[in.ops]; o.kind == opAdd && o.dst == sp && o.a == sp && o.b == none && in.n == 2 {
		return o.imm
	}
	return 0
}

// emit records a step. Of calls it also gives what is called.
func (f *follower) emit(in *inst, s *state, callee *val) {
	r := f.r
	if callee != nil && in.flow != Syscall {
		switch {
		case in.via != none:
			*callee = s.regs[in.via]
			if callee.kind == num && callee.at {
				*callee = r.code(uint64(callee.n))
			}
		case in.target != 0:
			*callee = r.code(in.target)
		}
	}
	if f.out == nil {
		return
	}
	st := Step{Addr: in.addr, Next: in.addr + uint64(in.size), Flow: in.flow}
	switch in.flow {
	case Call, Tail:
		if st.Callee = r.resolve(*callee, s, ""); callee.kind == num && callee.at {
			st.Callee = Value{Kind: Function, Addr: uint64(callee.n)}
			st.local = r.registers(s, r.conv.local, "")
		}
		st.Args = r.arguments(s, *callee, in.flow)
	case Syscall:
		number := s.regs[r.conv.number]
		if st.Callee = r.resolve(number, s, ""); number.kind == moved {
			st.Callee = Value{Kind: Parameter, Param: int(number.n & 255), Offset: number.n >> 8}
		}
		st.Args = r.registers(s, r.conv.syscall, "")
	case Return:
		st.Args = r.registers(s, []uint8{r.conv.result}, "")
	case Jump:
		if in.via == none {
			st.Target = in.target
		}
	case Branch:
		st.Target = in.target
		st.Cond = f.condition(in, s)
	}
	f.out.steps = append(f.out.steps, st)
}

// condition returns on what a branch depends.
func (f *follower) condition(in *inst, s *state) Cond {
	r := f.r
	name := r.machine.name
	side := func(v val) Value { return r.resolve(v, s, "") }
	switch {
	case (in.bit && in.imm == 0 || in.a != none && in.b == zero) && s.regs[in.a].kind == truth:
		return f.truth(s.regs[in.a], in.cond)
	case in.bit:
		return Cond{Op: "&", Left: side(s.regs[in.a]), Right: Value{Kind: Const, Const: 1 << uint(in.imm&63)}, Register: name(in.a), Not: in.cond == equal}
	case in.a != none:
		c := Cond{Op: in.cond.String(), Left: side(s.regs[in.a]), Right: Value{Kind: Const, Const: in.imm}, Register: name(in.a)}
		if in.b == zero {
			c.Right.Const = 0
		} else if in.b != none {
			c.Right, c.Other = side(s.regs[in.b]), name(in.b)
		}
		return c
	}
	return f.compare(&s.flags, in.cond, s)
}

// compare returns the condition that a compare makes.
func (f *follower) compare(g *flags, on cond, s *state) Cond {
	r := f.r
	if g.kind == noFlags || on == other || on == always {
		return Cond{}
	}
	if g.a.kind == truth && (on == equal || on == unequal) && (g.kind != tested && g.b == (val{kind: num}) || g.kind == tested && (g.ra == g.rb || g.b == (val{kind: num, n: 1}))) {
		return f.truth(g.a, on)
	}
	c := Cond{Op: on.String(), Left: r.resolve(g.a, s, ""), Right: r.resolve(g.b, s, ""), Register: r.machine.name(g.ra), Other: r.machine.name(g.rb)}
	withZero := g.kind == outcome || g.kind == compared && g.b == (val{kind: num})
	if g.kind == tested {
		if g.ra != g.rb {
			if on != equal && on != unequal {
				return Cond{}
			}
			c.Op, c.Not = "&", on == equal
			return c
		}
		c.Right, c.Other, withZero = Value{Kind: Const}, "", true
	}
	if !withZero && (on == negative || on == positive) || g.kind == outcome && on != equal && on != unequal && on != negative && on != positive {
		return Cond{}
	}
	return c
}

// truth returns the condition that a register holds the outcome of, or its
// opposite if it is found to be zero.
func (f *follower) truth(v val, on cond) Cond {
	t, ok := f.r.truths[v.n]
	if !ok || on != equal && on != unequal {
		return Cond{}
	}
	c := cond(v.n & 15)
	if on == equal {
		c = c.opposite()
	}
	none := &state{}
	return f.compare(&t, c, none)
}
