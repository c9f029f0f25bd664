package hidden

import (
	"math/bits"
	"sync"

	"golang.org/x/arch/x86/x86asm"
)

// x86 carries out instructions of x86-64 and x86, as far as compilers use them
// to move, compare and combine bytes (Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 2).
type x86 struct {
	*machine
	mode  int // bits
	cache *cache
	regs  [16]uint64
	trail [16]trail
	vec   [16][2]uint64
	vtr   [16]trail
	pc    uint64

	zero, sign, carry, over, parity bool
}

func newX86(m *machine, mode int) *x86 {
	x := &x86{machine: m, mode: mode, cache: decodeds.Get().(*cache)}
	x.cache.round++
	return x
}

func (x *x86) start(at uint64) {
	x.regs, x.trail, x.vec, x.vtr = [16]uint64{}, [16]trail{}, [16][2]uint64{}, [16]trail{}
	x.zero, x.sign, x.carry, x.over = false, false, false, false
	x.pc = at
	x.regs[4] = x.mem.place(stackTop)
	x.push(x.mem.place(home))
}

func (x *x86) end()            { decodeds.Put(x.cache) }
func (x *x86) where() uint64   { return x.pc }
func (x *x86) leap(to uint64)  { x.pc = to }
func (x *x86) result(v uint64) { x.regs[0], x.trail[0] = v, given }
func (x *x86) returns()        { x.pc = x.pop() }
func (x *x86) size() int       { return x.mode / 8 }
func (x *x86) push(v uint64)   { x.pushed(v, given) }
func (x *x86) mask(v uint64) uint64 {
	if x.mode == 32 {
		return v & 0xffff_ffff
	}
	return v
}

func (x *x86) pushed(v uint64, t trail) {
	x.regs[4] = x.mask(x.regs[4] - uint64(x.size()))
	x.mem.store(x.regs[4], v, x.size(), t, x.site(x.pc))
}

func (x *x86) pop() uint64 {
	v, _ := x.mem.load(x.regs[4], x.size())
	x.regs[4] = x.mask(x.regs[4] + uint64(x.size()))
	return v
}

// argument returns that of a function that was just entered, counted from 0: the
// return address is on the stack already.
func (x *x86) argument(n int) uint64 {
	if x.mode == 64 {
		order := [...]int{7, 6, 2, 1}
		if x.windows {
			order = [...]int{1, 2, 8, 9}
		}
		return x.regs[order[n]]
	}
	v, _ := x.mem.load(x.mask(x.regs[4]+uint64(4*n)+4), 4)
	return v
}

// decoded is an instruction at an address; one without length is none.
type decoded struct {
	at    uint64
	in    x86asm.Inst
	cond  int8 // number of its condition, plus 1
	round int  // of the cache
}

// A cache holds instructions of one binary, then of another.
type cache struct {
	list  [maxCached]decoded
	round int
}

var decodeds = sync.Pool{New: func() any { return new(cache) }}

func (x *x86) decode(at uint64) *decoded {
	d := &x.cache.list[at%maxCached]
	if d.round == x.cache.round && d.at == at {
		return d
	}
	d.at, d.round, d.cond, d.in.Len = at, x.cache.round, 0, 0
	b := x.mem.m.At(at)
	if len(b) >= 4 && b[0] == 0xf3 && b[1] == 0x0f && b[2] == 0x1e && (b[3] == 0xfa || b[3] == 0xfb) {
		d.in = x86asm.Inst{Op: x86asm.NOP, Len: 4} // ENDBR
	} else if in, err := x86asm.Decode(b[:min(len(b), 15)], x.mode); err == nil {
		d.in = in
		if int(in.Op) < len(conditions) {
			d.cond = conditions[in.Op]
		}
	}
	return d
}

// register returns the number, size and shift of an integer register; size 0 of
// another.
func register(r x86asm.Reg) (n, size int, high bool) {
	switch {
	case r >= x86asm.AL && r <= x86asm.BL:
		return int(r - x86asm.AL), 1, false
	case r >= x86asm.AH && r <= x86asm.BH:
		return int(r - x86asm.AH), 1, true
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return int(r-x86asm.SPB) + 4, 1, false
	case r >= x86asm.AX && r <= x86asm.R15W:
		return int(r - x86asm.AX), 2, false
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return int(r - x86asm.EAX), 4, false
	case r >= x86asm.RAX && r <= x86asm.R15:
		return int(r - x86asm.RAX), 8, false
	}
	return 0, 0, false
}

func (x *x86) address(in *x86asm.Inst, m x86asm.Mem) uint64 {
	a := uint64(m.Disp)
	if m.Base != 0 || m.Index != 0 {
		a = uint64(int64(int32(m.Disp))) // the decoder leaves some without their sign
	}
	if m.Base == x86asm.RIP || m.Base == x86asm.EIP {
		a += x.pc + uint64(in.Len)
	} else if n, size, _ := register(m.Base); size != 0 {
		a += x.regs[n]
	}
	if n, size, _ := register(m.Index); size != 0 {
		a += x.regs[n] * uint64(m.Scale)
	}
	if in.AddrSize == 32 {
		a &= 0xffff_ffff
	}
	return a
}

func widthOf(in *x86asm.Inst, a x86asm.Arg) int {
	switch a := a.(type) {
	case x86asm.Reg:
		if _, size, _ := register(a); size != 0 {
			return size
		}
		return 16
	case x86asm.Mem:
		return in.MemBytes
	}
	return in.DataSize / 8
}

// get reads an integer operand of a size.
func (x *x86) get(in *x86asm.Inst, a x86asm.Arg, size int) (uint64, trail) {
	switch a := a.(type) {
	case x86asm.Reg:
		n, own, high := register(a)
		if own == 0 {
			if a >= x86asm.X0 && a <= x86asm.X15 {
				return x.vec[a-x86asm.X0][0], x.vtr[a-x86asm.X0]
			}
			return 0, given
		}
		v := x.regs[n]
		if high {
			v >>= 8
		}
		return v & ones(own), x.trail[n]
	case x86asm.Mem:
		return x.mem.load(x.address(in, a), min(size, 8))
	case x86asm.Imm:
		return uint64(a) & ones(size), given
	}
	return 0, given
}

func ones(size int) uint64 {
	if size >= 8 {
		return ^uint64(0)
	}
	return 1<<(8*size) - 1
}

// set writes an integer operand.
func (x *x86) set(in *x86asm.Inst, a x86asm.Arg, v uint64, size int, t trail) {
	switch a := a.(type) {
	case x86asm.Reg:
		n, own, high := register(a)
		switch {
		case own == 0:
		case high:
			x.regs[n] = x.regs[n]&^0xff00 | v&0xff<<8
			x.trail[n] = max(x.trail[n], t)
		case own >= 4:
			x.regs[n], x.trail[n] = v&ones(own), t
		default:
			x.regs[n] = x.regs[n]&^ones(own) | v&ones(own)
			x.trail[n] = t
		}
	case x86asm.Mem:
		x.mem.store(x.address(in, a), v, min(size, 8), t, x.site(x.pc))
	}
}

// flagged sets the flags of a result.
func (x *x86) flagged(v uint64, size int) {
	v &= ones(size)
	x.zero, x.sign, x.parity = v == 0, v>>(8*size-1)&1 == 1, bits.OnesCount8(uint8(v))%2 == 0
}

// holds reports whether the condition of a jump, move or set is true.
func (x *x86) holds(cond int) bool {
	var v bool
	switch cond >> 1 {
	case 0:
		v = x.over
	case 1:
		v = x.carry
	case 2:
		v = x.zero
	case 3:
		v = x.carry || x.zero
	case 4:
		v = x.sign
	case 5:
		v = x.parity
	case 6:
		v = x.sign != x.over
	case 7:
		v = x.zero || x.sign != x.over
	}
	return v != (cond&1 == 1)
}

// conditions are the numbers of conditions in instruction encodings, plus 1, by
// operation; 0 where there is none.
var conditions = func() (out [x86asm.XTEST + 1]int8) {
	for n, ops := range [][3]x86asm.Op{
		{x86asm.JO, x86asm.SETO, x86asm.CMOVO}, {x86asm.JNO, x86asm.SETNO, x86asm.CMOVNO},
		{x86asm.JB, x86asm.SETB, x86asm.CMOVB}, {x86asm.JAE, x86asm.SETAE, x86asm.CMOVAE},
		{x86asm.JE, x86asm.SETE, x86asm.CMOVE}, {x86asm.JNE, x86asm.SETNE, x86asm.CMOVNE},
		{x86asm.JBE, x86asm.SETBE, x86asm.CMOVBE}, {x86asm.JA, x86asm.SETA, x86asm.CMOVA},
		{x86asm.JS, x86asm.SETS, x86asm.CMOVS}, {x86asm.JNS, x86asm.SETNS, x86asm.CMOVNS},
		{x86asm.JP, x86asm.SETP, x86asm.CMOVP}, {x86asm.JNP, x86asm.SETNP, x86asm.CMOVNP},
		{x86asm.JL, x86asm.SETL, x86asm.CMOVL}, {x86asm.JGE, x86asm.SETGE, x86asm.CMOVGE},
		{x86asm.JLE, x86asm.SETLE, x86asm.CMOVLE}, {x86asm.JG, x86asm.SETG, x86asm.CMOVG},
	} {
		for _, op := range ops {
			out[op] = int8(n + 1)
		}
	}
	return out
}()

// step carries out one instruction.
func (x *x86) step() event {
	d := x.decode(x.pc)
	in := &d.in
	if in.Len == 0 {
		return event{kind: stopped}
	}
	next := x.mask(x.pc + uint64(in.Len))
	a, b := in.Args[0], in.Args[1]
	size := 0
	if a != nil {
		size = widthOf(in, a)
	}
	if d.cond > 0 {
		cond := int(d.cond - 1)
		rel, jump := a.(x86asm.Rel)
		switch {
		case jump:
			e := event{branched, x.mask(next + uint64(int64(rel))), x.pc}
			if x.pc = next; x.holds(cond) {
				x.pc, e.to = e.to, next
			}
			return e
		case b != nil: // a move
			v, t := x.get(in, b, size)
			if !x.holds(cond) {
				v, t = x.get(in, a, size)
			}
			x.set(in, a, v, size, t)
		case x.holds(cond):
			x.set(in, a, 1, 1, given)
		default:
			x.set(in, a, 0, 1, given)
		}
		x.pc = next
		return event{}
	}
	switch in.Op {
	case x86asm.CALL:
		to := x.target(in, a, next)
		x.push(next)
		site := x.pc
		x.pc = to
		return event{kind: called, to: to, site: site}
	case x86asm.JMP:
		x.pc = x.target(in, a, next)
		return event{kind: jumped, to: x.pc}
	case x86asm.RET:
		x.pc = x.pop()
		if imm, ok := a.(x86asm.Imm); ok {
			x.regs[4] = x.mask(x.regs[4] + uint64(imm))
		}
		return event{kind: returned}
	}
	if !x.integer(in, a, b, size) && !x.vector(in, a, b) {
		return event{kind: stopped}
	}
	x.pc = next
	return event{}
}

func (x *x86) target(in *x86asm.Inst, a x86asm.Arg, next uint64) uint64 {
	if rel, ok := a.(x86asm.Rel); ok {
		return x.mask(next + uint64(int64(rel)))
	}
	v, _ := x.get(in, a, x.size())
	return v
}

// integer carries out an instruction on integer registers; false if it is none.
func (x *x86) integer(in *x86asm.Inst, a, b x86asm.Arg, size int) bool {
	switch in.Op {
	case x86asm.NOP, x86asm.CLD, x86asm.PAUSE, x86asm.FWAIT, x86asm.PREFETCHT0, x86asm.PREFETCHNTA, x86asm.MFENCE, x86asm.LFENCE, x86asm.SFENCE:
	case x86asm.MOV:
		v, t := x.get(in, b, size)
		x.set(in, a, v, size, t)
	case x86asm.MOVZX:
		v, t := x.get(in, b, widthOf(in, b))
		x.set(in, a, v, size, t)
	case x86asm.MOVSX, x86asm.MOVSXD:
		n := widthOf(in, b)
		v, t := x.get(in, b, n)
		x.set(in, a, extend(v, n), size, t)
	case x86asm.LEA:
		m, _ := b.(x86asm.Mem)
		t := given
		for _, r := range []x86asm.Reg{m.Base, m.Index} {
			if n, s, _ := register(r); s != 0 && x.trail[n] != given {
				t = reached
			}
		}
		x.set(in, a, x.address(in, m), size, t)
	case x86asm.PUSH:
		v, t := x.get(in, a, x.size())
		if imm, ok := a.(x86asm.Imm); ok {
			v = uint64(imm)
		}
		x.pushed(v, t)
	case x86asm.POP:
		_, t := x.mem.load(x.regs[4], x.size())
		x.set(in, a, x.pop(), x.size(), t)
	case x86asm.LEAVE:
		x.regs[4] = x.regs[5]
		x.regs[5] = x.pop()
	case x86asm.XCHG:
		v, t := x.get(in, a, size)
		w, u := x.get(in, b, size)
		x.set(in, a, w, size, u)
		x.set(in, b, v, size, t)
	case x86asm.ADD, x86asm.SUB, x86asm.XOR, x86asm.AND, x86asm.OR, x86asm.CMP, x86asm.TEST, x86asm.ADC, x86asm.SBB:
		x.combine(in, a, b, size)
	case x86asm.INC, x86asm.DEC, x86asm.NEG, x86asm.NOT, x86asm.BSWAP:
		v, _ := x.get(in, a, size)
		carry := x.carry
		switch in.Op {
		case x86asm.INC:
			v++
			x.over = v&ones(size) == 1<<(8*size-1)
		case x86asm.DEC:
			v--
			x.over = v&ones(size) == 1<<(8*size-1)-1
		case x86asm.NEG:
			carry, v = v != 0, -v
		case x86asm.NOT:
			x.set(in, a, ^v, size, reached)
			return true
		case x86asm.BSWAP:
			x.set(in, a, bits.ReverseBytes64(v)>>(64-8*size), size, reached)
			return true
		}
		x.set(in, a, v, size, reached)
		x.flagged(v, size)
		x.carry = carry
	case x86asm.SHL, x86asm.SHR, x86asm.SAR, x86asm.ROL, x86asm.ROR:
		x.shift(in, a, b, size)
	case x86asm.IMUL, x86asm.MUL, x86asm.DIV, x86asm.IDIV:
		return x.multiply(in, a, size)
	case x86asm.CDQ:
		x.set(in, x86asm.EDX, uint64(int64(extend(x.regs[0], 4))>>63), 4, given)
	case x86asm.CQO:
		x.regs[2], x.trail[2] = uint64(int64(x.regs[0])>>63), given
	case x86asm.CDQE:
		x.regs[0] = extend(x.regs[0], 4)
	case x86asm.CWDE:
		x.set(in, x86asm.EAX, extend(x.regs[0], 2), 4, x.trail[0])
	case x86asm.CBW:
		x.set(in, x86asm.AX, extend(x.regs[0], 1), 2, x.trail[0])
	case x86asm.BT:
		v, _ := x.get(in, a, size)
		w, _ := x.get(in, b, size)
		x.carry = v>>(w%uint64(8*size))&1 == 1
	case x86asm.MOVSB, x86asm.MOVSD, x86asm.MOVSQ, x86asm.STOSB, x86asm.STOSD, x86asm.STOSQ, x86asm.LODSB:
		x.repeated(in)
	default:
		return false
	}
	return true
}

func extend(v uint64, size int) uint64 {
	shift := 64 - 8*size
	return uint64(int64(v<<shift) >> shift)
}

func (x *x86) combine(in *x86asm.Inst, a, b x86asm.Arg, size int) {
	v, t := x.get(in, a, size)
	w, u := x.get(in, b, size)
	carry := uint64(0)
	if x.carry && (in.Op == x86asm.ADC || in.Op == x86asm.SBB) {
		carry = 1
	}
	top := uint64(1) << (8*size - 1)
	v, w = v&ones(size), w&ones(size)
	var r uint64
	switch in.Op {
	case x86asm.ADD, x86asm.ADC:
		r = (v + w + carry) & ones(size)
		x.carry = r < v || carry == 1 && r == v
		x.over = (v^r)&(w^r)&top != 0
	case x86asm.SUB, x86asm.CMP, x86asm.SBB:
		r = (v - w - carry) & ones(size)
		x.carry = v < w || carry == 1 && v == w
		x.over = (v^w)&(v^r)&top != 0
	case x86asm.XOR:
		r = v ^ w
		x.carry, x.over = false, false
	case x86asm.OR:
		r = v | w
		x.carry, x.over = false, false
	default:
		r = v & w
		x.carry, x.over = false, false
	}
	x.flagged(r, size)
	switch {
	case in.Op == x86asm.CMP || in.Op == x86asm.TEST:
		return
	case in.Op == x86asm.XOR && a == b:
		x.set(in, a, 0, size, given)
		return
	case in.Op == x86asm.AND:
		t = max(t, u) // narrowed
	default:
		t = reached
	}
	x.set(in, a, r, size, t)
}

func (x *x86) shift(in *x86asm.Inst, a, b x86asm.Arg, size int) {
	v, t := x.get(in, a, size)
	n := uint64(1)
	if b != nil {
		n, _ = x.get(in, b, 1)
	}
	width := uint64(8 * size)
	if n &= 31; size == 8 {
		v2, _ := x.get(in, b, 1)
		if n = v2 & 63; b == nil {
			n = 1
		}
	}
	if n == 0 {
		return
	}
	v &= ones(size)
	r := v
	switch in.Op {
	case x86asm.SHL:
		r = v << n
		x.carry = v>>(width-min(n, width))&1 == 1
	case x86asm.SHR:
		r = v >> n
		x.carry = v>>(n-1)&1 == 1
	case x86asm.SAR:
		r = uint64(int64(extend(v, size)) >> n)
		x.carry = v>>(n-1)&1 == 1
	case x86asm.ROL:
		n %= width
		r = v<<n | v>>(width-n)
	case x86asm.ROR:
		n %= width
		r = v>>n | v<<(width-n)
	}
	if in.Op != x86asm.ROL && in.Op != x86asm.ROR {
		x.flagged(r, size)
		x.over = false
	}
	if in.Op == x86asm.SHL {
		t = max(t, reached)
	}
	x.set(in, a, r, size, max(t, reached))
}

func (x *x86) multiply(in *x86asm.Inst, a x86asm.Arg, size int) bool {
	v, _ := x.get(in, a, size)
	if in.Op == x86asm.IMUL && in.Args[1] != nil {
		w, _ := x.get(in, in.Args[1], size)
		if imm, ok := in.Args[2].(x86asm.Imm); ok {
			v = uint64(imm)
		}
		x.set(in, a, v*w, size, reached)
		return true
	}
	lo, hi := x86asm.Arg(x86asm.RAX), x86asm.Arg(x86asm.RDX)
	switch size {
	case 1:
		low := x.regs[0] & 0xff
		switch in.Op {
		case x86asm.MUL:
			x.set(in, x86asm.AX, low*v, 2, reached)
		case x86asm.IMUL:
			x.set(in, x86asm.AX, extend(low, 1)*extend(v, 1), 2, reached)
		default:
			if v == 0 {
				return false
			}
			d := x.regs[0] & 0xffff
			if in.Op == x86asm.IDIV {
				s, w := int64(extend(d, 2)), int64(extend(v, 1))
				x.set(in, x86asm.AX, uint64(s/w)&0xff|uint64(s%w)&0xff<<8, 2, reached)
			} else {
				x.set(in, x86asm.AX, d/v&0xff|d%v<<8, 2, reached)
			}
		}
		return true
	case 2:
		lo, hi = x86asm.AX, x86asm.DX
	case 4:
		lo, hi = x86asm.EAX, x86asm.EDX
	}
	low, _ := x.get(in, lo, size)
	high, _ := x.get(in, hi, size)
	switch in.Op {
	case x86asm.MUL, x86asm.IMUL:
		h, l := bits.Mul64(low, v)
		if in.Op == x86asm.IMUL {
			l = extend(low, size) * extend(v, size)
			h, _ = bits.Mul64(extend(low, size), extend(v, size))
			h -= uint64(int64(extend(low, size))>>63)&extend(v, size) + uint64(int64(extend(v, size))>>63)&extend(low, size)
		}
		if size < 8 {
			h = l >> (8 * size)
		}
		x.set(in, lo, l, size, reached)
		x.set(in, hi, h, size, reached)
	case x86asm.DIV:
		if size < 8 {
			low, high = high<<(8*size)|low, 0
		}
		if v == 0 || high >= v {
			return false
		}
		q, r := bits.Div64(high, low, v)
		x.set(in, lo, q, size, reached)
		x.set(in, hi, r, size, reached)
	case x86asm.IDIV:
		d := int64(low)
		if size < 8 {
			d = int64(extend(high<<(8*size)|low, min(2*size, 8)))
		}
		w := int64(extend(v, size))
		if w == 0 || w == -1 {
			return false
		}
		x.set(in, lo, uint64(d/w), size, reached)
		x.set(in, hi, uint64(d%w), size, reached)
	}
	return true
}

// repeated carries out MOVS, STOS and LODS, with and without REP.
func (x *x86) repeated(in *x86asm.Inst) {
	size := 1
	switch in.Op {
	case x86asm.MOVSD, x86asm.STOSD:
		size = 4
	case x86asm.MOVSQ, x86asm.STOSQ:
		size = 8
	}
	n := uint64(1)
	for _, p := range in.Prefix {
		if p&0xff == 0xf3 {
			n = min(x.regs[1], 4096)
			x.regs[1] = 0
		}
	}
	for range n {
		v, t := x.regs[0], x.trail[0]
		if in.Op == x86asm.MOVSB || in.Op == x86asm.MOVSD || in.Op == x86asm.MOVSQ || in.Op == x86asm.LODSB {
			v, t = x.mem.load(x.regs[6], size)
			x.regs[6] = x.mask(x.regs[6] + uint64(size))
		}
		if in.Op == x86asm.LODSB {
			x.set(in, x86asm.AL, v, 1, t)
			continue
		}
		x.mem.store(x.regs[7], v, size, t, x.site(x.pc))
		x.regs[7] = x.mask(x.regs[7] + uint64(size))
	}
}
