package value

import (
	"bytes"

	"golang.org/x/arch/x86/x86asm"
)

var machineX86_64 = machine{
	decode: func(d *decoder, code []byte, addr uint64) (inst, bool) { return decodeX86(d, code, addr, 64) },
	step:   1, word: 8, sp: rsp, fp: rbp,
	names: [32]string{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"},
}

var machineX86 = machine{
	decode: func(d *decoder, code []byte, addr uint64) (inst, bool) { return decodeX86(d, code, addr, 32) },
	step:   1, word: 4, sp: rsp, fp: rbp,
	names: [32]string{"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"},
}

// x86 is one instruction on its way to ops.
type x86 struct {
	*decoder
	x    x86asm.Inst
	next uint64 // address of the instruction behind it
	word uint8  // bytes of an address
}

// decodeX86 decodes one instruction. Encodings are those of the Intel 64 and
// IA-32 Architectures Software Developer's Manual, volume 2.
func decodeX86(d *decoder, code []byte, addr uint64, bits int) (inst, bool) {
	in := inst{via: none, a: none, b: none}
	if bytes.HasPrefix(code, []byte("\xf3\x0f\x1e")) && len(code) >= 4 && code[3]|1 == 0xfb { // ENDBR64, ENDBR32
		in.size = 4
		return in, true
	}
	l := x86{decoder: d, word: uint8(bits / 8)}
	if !common(&l.x, code, bits) {
		x, err := x86asm.Decode(code[:min(len(code), 15)], bits)
		if err != nil || x.Len <= 0 {
			return in, false
		}
		l.x = x
	}
	in.size = uint8(l.x.Len)
	l.next = addr + uint64(l.x.Len)
	if bits == 32 {
		l.next &= 1<<32 - 1
	}
	l.lift(&in)
	return in, true
}

// reg returns the register that holds r, and the bytes of it that r is.
func (l *x86) reg(r x86asm.Reg) (n, size uint8) {
	switch {
	case r >= x86asm.RAX && r <= x86asm.R15:
		return uint8(r - x86asm.RAX), 8
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return uint8(r - x86asm.EAX), 4
	case r >= x86asm.AX && r <= x86asm.R15W:
		return uint8(r - x86asm.AX), 2
	case r >= x86asm.AL && r <= x86asm.BL:
		return uint8(r - x86asm.AL), 1
	case r >= x86asm.AH && r <= x86asm.BH:
		return uint8(r - x86asm.AH), 0
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return uint8(r-x86asm.SPB) + rsp, 1
	case r >= x86asm.X0 && r <= x86asm.X31:
		return vector + uint8(r-x86asm.X0), 16
	case r >= x86asm.Y0 && r <= x86asm.Y31:
		return vector + uint8(r-x86asm.Y0), 32
	case r >= x86asm.Z0 && r <= x86asm.Z31:
		return vector + uint8(r-x86asm.Z0), 64
	}
	return none, 0
}

// place puts the address of a memory operand into registers: a base, and an
// offset from it.
func (l *x86) place(m x86asm.Mem) (base uint8, off int64) {
	if m.Segment == x86asm.FS || m.Segment == x86asm.GS {
		l.kill(temp)
		return temp, 0
	}
	disp := int64(int32(m.Disp))
	if m.Base == 0 && m.Index == 0 && l.word == 8 {
		disp = m.Disp // MOV of AL to RAX has all 64 bits of an address
	}
	if p := l.x.Prefix[0]; m.Base == 0 && m.Index == 0 && l.word == 8 && (p.IsVEX() || p.IsEVEX()) {
		m.Base = x86asm.RIP // which the decoder leaves out there
	}
	switch m.Base {
	case x86asm.RIP, x86asm.EIP, x86asm.IP:
		l.address(temp, l.next+uint64(disp))
		return temp, 0
	case 0:
		if l.word == 4 {
			disp &= 1<<32 - 1
		}
		l.set(temp, disp, 0)
		base, disp = temp, 0
	default:
		base, _ = l.reg(m.Base)
		if base == none {
			l.kill(temp)
			base = temp
		}
	}
	if m.Index != 0 {
		index, _ := l.reg(m.Index)
		if index == none {
			l.kill(temp)
			return temp, 0
		}
		l.alu(opAdd, temp, base, index, shiftOf(m.Scale), 0)
		base = temp
	}
	return base, disp
}

func shiftOf(scale uint8) int64 {
	switch scale {
	case 2:
		return 1
	case 4:
		return 2
	case 8:
		return 3
	}
	return 0
}

// get puts an operand into a register, and returns which, and its bytes.
func (l *x86) get(a x86asm.Arg, spare uint8) (reg, size uint8) {
	switch a := a.(type) {
	case x86asm.Reg:
		reg, size = l.reg(a)
		if reg == none || size == 0 {
			l.kill(spare)
			return spare, 1
		}
		return reg, size
	case x86asm.Imm:
		size = uint8(l.x.DataSize / 8)
		l.set(spare, int64(a), 0)
		return spare, size
	case x86asm.Mem:
		size = uint8(min(l.x.MemBytes, 64))
		base, off := l.place(a)
		l.load(spare, base, off, size)
		return spare, size
	}
	l.kill(spare)
	return spare, 0
}

// put writes a register to an operand.
func (l *x86) put(to x86asm.Arg, from, size uint8) {
	switch to := to.(type) {
	case x86asm.Reg:
		dst, size := l.reg(to)
		switch {
		case dst == none:
		case size == 0: // AH to BH
			l.kill(dst)
		case size < 4:
			l.add(op{kind: opLow, dst: dst, a: from, size: size})
		default:
			l.copy(dst, from, size)
		}
	case x86asm.Mem:
		base, off := l.place(to)
		l.store(base, off, from, size)
	}
}

// spoil forgets what an operand held.
func (l *x86) spoil(a x86asm.Arg) {
	switch a := a.(type) {
	case x86asm.Reg:
		if dst, _ := l.reg(a); dst != none {
			l.kill(dst)
		}
	case x86asm.Mem:
		base, off := l.place(a)
		l.kill(temp2)
		l.store(base, off, temp2, uint8(min(max(l.x.MemBytes, 1), 64)))
	}
}

// maxOp is above all that are looked up in the tables by operation.
const maxOp = x86asm.XTEST + 1

// conditions are those of Jcc.
var conditions = [maxOp]cond{
	x86asm.JE: equal, x86asm.JNE: unequal,
	x86asm.JL: less, x86asm.JLE: lessEqual, x86asm.JG: greater, x86asm.JGE: greaterEqual,
	x86asm.JB: less, x86asm.JBE: lessEqual, x86asm.JA: greater, x86asm.JAE: greaterEqual,
	x86asm.JO: other, x86asm.JNO: other, x86asm.JP: other, x86asm.JNP: other, x86asm.JS: negative, x86asm.JNS: positive,
	x86asm.JCXZ: other, x86asm.JECXZ: other, x86asm.JRCXZ: other,
	x86asm.LOOP: other, x86asm.LOOPE: other, x86asm.LOOPNE: other,
}

// truths are the conditions of SETcc.
var truths = [maxOp]cond{
	x86asm.SETE: equal, x86asm.SETNE: unequal,
	x86asm.SETL: less, x86asm.SETLE: lessEqual, x86asm.SETG: greater, x86asm.SETGE: greaterEqual,
	x86asm.SETB: less, x86asm.SETBE: lessEqual, x86asm.SETA: greater, x86asm.SETAE: greaterEqual,
	x86asm.SETS: negative, x86asm.SETNS: positive,
}

// arithmetic are the instructions on two operands that ops can say.
var arithmetic = [maxOp]opKind{
	x86asm.ADD: opAdd, x86asm.SUB: opSub, x86asm.AND: opAnd, x86asm.OR: opOr, x86asm.XOR: opXor,
	x86asm.SHL: opShl, x86asm.SHR: opShr,
}

// lift gives the ops of an instruction.
func (l *x86) lift(in *inst) {
	x := &l.x
	a, b := x.Args[0], x.Args[1]
	of := x.Op
	if of >= maxOp {
		of = 0
	}
	if c := conditions[of]; c != always {
		in.flow, in.cond = Branch, c
		in.target = l.relative(a)
		return
	}
	if c := truths[of]; c != always {
		if r, isReg := a.(x86asm.Reg); isReg {
			if dst, size := l.reg(r); dst != none && size == 1 {
				l.add(op{kind: opTruth, dst: dst, imm: int64(l.next<<4) | int64(c)})
				return
			}
		}
		l.spoil(a)
		return
	}
	if kind := arithmetic[of]; kind != opSet {
		l.arithmetic(kind, a, b, in)
		return
	}
	switch x.Op {
	case x86asm.NOP, x86asm.PAUSE, x86asm.LFENCE, x86asm.MFENCE, x86asm.SFENCE, x86asm.PREFETCHT0, x86asm.PREFETCHNTA:
	case x86asm.CALL:
		l.call(in, a)
	case x86asm.JMP:
		in.flow = Jump
		l.to(in, a)
	case x86asm.RET:
		in.flow = Return
		if n, ok := a.(x86asm.Imm); ok {
			in.imm = int64(n)
		}
	case x86asm.LRET, x86asm.IRET, x86asm.IRETD, x86asm.IRETQ:
		in.flow = Return
	case x86asm.SYSCALL, x86asm.SYSENTER:
		in.flow = Syscall
	case x86asm.INT:
		switch n, _ := a.(x86asm.Imm); byte(n) {
		case 0x80, 0x2e:
			in.flow = Syscall
		case 3, 0x29:
			in.flow = Stop
		}
	case x86asm.HLT, x86asm.UD2:
		in.flow = Stop
	case x86asm.MOV, x86asm.MOVAPS, x86asm.MOVUPS, x86asm.MOVAPD, x86asm.MOVUPD, x86asm.MOVDQA, x86asm.MOVDQU, x86asm.MOVQ, x86asm.MOVD, x86asm.LDDQU,
		x86asm.VMOVAPS, x86asm.VMOVUPS, x86asm.VMOVAPD, x86asm.VMOVUPD, x86asm.VMOVDQA, x86asm.VMOVDQU, x86asm.MOVNTI, x86asm.MOVNTDQ, x86asm.MOVNTPS:
		l.move(a, b)
	case x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD:
		l.widen(a, b)
	case x86asm.LEA:
		l.lea(a, b)
	case x86asm.PUSH:
		l.push(in, a)
	case x86asm.POP:
		l.load(temp2, rsp, 0, l.word)
		l.offset(rsp, rsp, int64(l.word), 0)
		if r, ok := a.(x86asm.Reg); ok {
			if dst, size := l.reg(r); dst != none && size == l.word {
				l.copy(dst, temp2, 0)
				return
			}
		}
		l.spoil(a)
	case x86asm.LEAVE:
		l.copy(rsp, rbp, 0)
		l.load(rbp, rsp, 0, l.word)
		l.offset(rsp, rsp, int64(l.word), 0)
	case x86asm.INC, x86asm.DEC:
		n := int64(1)
		if x.Op == x86asm.DEC {
			n = -1
		}
		reg, size := l.get(a, temp2)
		l.offset(temp2, reg, n, size)
		l.put(a, temp2, size)
		l.outcome(a)
	case x86asm.CMP, x86asm.TEST:
		kind := opCompare
		if x.Op == x86asm.TEST {
			kind = opTest
		}
		reg, _ := l.get(a, temp2)
		if n, ok := b.(x86asm.Imm); ok {
			l.add(op{kind: kind, a: reg, b: none, imm: int64(n)})
			return
		}
		other, _ := l.get(b, temp)
		l.add(op{kind: kind, a: reg, b: other})
	case x86asm.XORPS, x86asm.XORPD, x86asm.PXOR, x86asm.VXORPS, x86asm.VXORPD, x86asm.VPXOR:
		last := a
		for _, arg := range x.Args[1:] {
			if arg != nil {
				last = arg
			}
		}
		source := x.Args[len(operands(x))-2]
		if dst, ok := a.(x86asm.Reg); ok && source == last {
			if n, _ := l.reg(dst); n != none {
				l.set(n, 0, 0)
				return
			}
		}
		l.spoil(a)
	case x86asm.XCHG:
		if a == b && l.word == 4 { // NOP of two bytes
			return
		}
		l.spoil(a)
		l.spoil(b)
	case x86asm.CDQ, x86asm.CQO, x86asm.CWD:
		l.kill(rdx)
	case x86asm.CBW, x86asm.CWDE, x86asm.CDQE, x86asm.LAHF, x86asm.CMPXCHG:
		l.kill(rax)
		if x.Op == x86asm.CMPXCHG {
			l.spoil(a)
			l.unflag()
		}
	case x86asm.CPUID, x86asm.RDTSC, x86asm.RDTSCP, x86asm.XGETBV, x86asm.CMPXCHG16B, x86asm.CMPXCHG8B:
		l.kill(rax)
		l.kill(rcx)
		l.kill(rdx)
		l.kill(rbx)
		l.unflag()
	case x86asm.MUL, x86asm.DIV, x86asm.IDIV:
		l.kill(rax)
		l.kill(rdx)
		l.unflag()
	case x86asm.IMUL:
		if b == nil {
			l.kill(rax)
			l.kill(rdx)
		} else {
			l.spoil(a)
		}
		l.unflag()
	case x86asm.MOVSB, x86asm.MOVSW, x86asm.MOVSD, x86asm.MOVSQ, x86asm.STOSB, x86asm.STOSW, x86asm.STOSD, x86asm.STOSQ,
		x86asm.LODSB, x86asm.LODSW, x86asm.LODSD, x86asm.LODSQ, x86asm.SCASB, x86asm.SCASW, x86asm.SCASD, x86asm.SCASQ,
		x86asm.CMPSB, x86asm.CMPSW, x86asm.CMPSD, x86asm.CMPSQ:
		l.strings(a)
	case x86asm.FLD, x86asm.FILD, x86asm.COMISS, x86asm.COMISD, x86asm.UCOMISS, x86asm.UCOMISD, x86asm.BT, x86asm.PTEST:
		l.unflag()
	default:
		l.spoil(a)
		if !keepsFlags(x.Op) {
			l.unflag()
		}
	}
}

// operands returns the arguments that an instruction has.
func operands(x *x86asm.Inst) []x86asm.Arg {
	n := 0
	for n < len(x.Args) && x.Args[n] != nil {
		n++
	}
	return x.Args[:max(n, 2)]
}

// keepsFlags reports whether an instruction is of those behind a compare that
// compilers like to put before its branch.
func keepsFlags(o x86asm.Op) bool {
	return o >= x86asm.CMOVA && o <= x86asm.CMOVS || o >= x86asm.SETA && o <= x86asm.SETS || o == x86asm.NOT
}

// relative returns the target of a jump.
func (l *x86) relative(a x86asm.Arg) uint64 {
	rel, ok := a.(x86asm.Rel)
	if !ok {
		return 0
	}
	to := l.next + uint64(int64(rel))
	if l.word == 4 {
		to &= 1<<32 - 1
	}
	return to
}

// to fills in where a call or jump goes.
func (l *x86) to(in *inst, a x86asm.Arg) {
	if _, ok := a.(x86asm.Rel); ok {
		in.target = l.relative(a)
		return
	}
	in.via, _ = l.get(a, temp)
}

func (l *x86) call(in *inst, a x86asm.Arg) {
	in.flow = Call
	l.to(in, a)
	if in.via != none || l.word == 8 {
		return
	}
	if in.target == l.next { // to have the address: popped next
		in.flow = Next
		l.offset(rsp, rsp, -4, 0)
		l.address(temp2, l.next)
		l.store(rsp, 0, temp2, 4)
		return
	}
	if reg, ok := l.r.givesPC(in.target); ok {
		in.flow = Next
		l.address(reg, l.next)
	}
}

// givesPC returns the register into which a function of x86 loads its return
// address, if it does nothing else. Compilers call it to learn where they are.
func (r *Reader) givesPC(addr uint64) (reg uint8, ok bool) {
	b := r.m.At(addr)
	if len(b) < 4 || b[0] != 0x8b || b[1]&0xc7 != 0x04 || b[2] != 0x24 || b[3] != 0xc3 {
		return 0, false
	}
	return b[1] >> 3 & 7, true
}

// popsOf returns how many bytes of arguments a function of x86 takes off the
// stack: what its first return says.
func (r *Reader) popsOf(addr uint64) int64 {
	if n, ok := r.pops[addr]; ok {
		return n
	}
	n := int64(0)
	if r.isStart(addr) {
		n = returnPops(r.m.At(addr))
	}
	r.pops[addr] = n
	return n
}

// returnPops returns the operand of the first RET in code.
func returnPops(b []byte) int64 {
	for range 512 {
		x, err := x86asm.Decode(b[:min(len(b), 15)], 32)
		if err != nil {
			return 0
		}
		if x.Op == x86asm.RET {
			n, _ := x.Args[0].(x86asm.Imm)
			return int64(n)
		}
		b = b[x.Len:]
	}
	return 0
}

func (l *x86) move(a, b x86asm.Arg) {
	if a == b && l.word == 4 {
		return
	}
	if dst, ok := a.(x86asm.Reg); ok {
		if n, size := l.reg(dst); n != none && size >= 4 {
			switch b := b.(type) {
			case x86asm.Imm:
				l.set(n, int64(b), size)
				return
			case x86asm.Mem:
				base, off := l.place(b)
				l.load(n, base, off, uint8(min(max(l.x.MemBytes, 1), 64)))
				return
			}
		}
	}
	from, size := l.get(b, temp2)
	if m, ok := a.(x86asm.Mem); ok {
		if l.x.MemBytes > 0 {
			size = uint8(min(l.x.MemBytes, 64))
		}
		base, off := l.place(m)
		l.store(base, off, from, size)
		return
	}
	l.put(a, from, size)
}

func (l *x86) widen(a, b x86asm.Arg) {
	from, size := l.get(b, temp2)
	if size == 0 {
		l.spoil(a)
		return
	}
	dst, wide := none8, uint8(0)
	if r, ok := a.(x86asm.Reg); ok {
		dst, wide = l.reg(r)
	}
	if dst == none || wide < 4 {
		l.spoil(a)
		return
	}
	l.copy(temp2, from, size)
	if l.x.Op != x86asm.MOVZX {
		l.add(op{kind: opSigned, dst: temp2, size: size})
	}
	l.copy(dst, temp2, wide)
}

const none8 uint8 = none

func (l *x86) lea(a, b x86asm.Arg) {
	m, ok := b.(x86asm.Mem)
	r, isReg := a.(x86asm.Reg)
	dst, size := none8, uint8(0)
	if isReg {
		dst, size = l.reg(r)
	}
	if !ok || dst == none {
		l.spoil(a)
		return
	}
	m.Segment = 0
	if l.word == 4 && m.Base == r && m.Index == 0 && m.Disp == 0 {
		return // fills the space before a target
	}
	base, off := l.place(m)
	if size < 4 {
		l.kill(dst)
		return
	}
	l.offset(dst, base, off, size)
}

func (l *x86) push(in *inst, a x86asm.Arg) {
	from, _ := l.get(a, temp2)
	if from == rsp {
		l.copy(temp2, rsp, 0)
		from = temp2
	}
	l.offset(rsp, rsp, -int64(l.word), 0)
	l.store(rsp, 0, from, l.word)
	in.imm = int64(l.word)
}

func (l *x86) arithmetic(kind opKind, a, b x86asm.Arg, in *inst) {
	r, isReg := a.(x86asm.Reg)
	if isReg {
		dst, size := l.reg(r)
		if dst != none && size >= 4 {
			if n, ok := b.(x86asm.Imm); ok {
				imm := int64(n)
				if kind == opSub {
					kind, imm = opAdd, -imm
				}
				l.alu(kind, dst, dst, none, imm, size)
				if dst == rsp && kind == opAdd && imm > 0 {
					in.imm = -imm
				}
			} else {
				from, _ := l.get(b, temp2)
				l.alu(kind, dst, dst, from, 0, size)
			}
			l.outcome(a)
			return
		}
	}
	// Compilers set a byte register to 0 with XOR too.
	if isReg && kind == opXor && a == b {
		if dst, size := l.reg(r); dst != none && size > 0 {
			l.add(op{kind: opLow, dst: dst, a: zero, size: size})
			l.outcome(a)
			return
		}
	}
	if _, ok := a.(x86asm.Mem); ok {
		l.spoil(a)
		l.unflag()
		return
	}
	l.spoil(a)
	l.outcome(a)
}

// outcome makes the flags those of what an operand now holds.
func (l *x86) outcome(a x86asm.Arg) {
	if r, ok := a.(x86asm.Reg); ok {
		if reg, size := l.reg(r); reg != none && size > 0 {
			l.add(op{kind: opOutcome, a: reg})
			return
		}
	}
	l.unflag()
}

// strings forgets what the string instructions use. The MOVSD and CMPSD of
// vectors, which have the same names, have other operands.
func (l *x86) strings(a x86asm.Arg) {
	if r, ok := a.(x86asm.Reg); ok {
		if n, _ := l.reg(r); n >= vector && n != none {
			l.kill(n)
			return
		}
	}
	if m, ok := a.(x86asm.Mem); ok && m.Base != x86asm.RDI && m.Base != x86asm.EDI && m.Base != x86asm.RSI && m.Base != x86asm.ESI {
		l.spoil(a)
		return
	}
	l.kill(rsi)
	l.kill(rdi)
	for _, p := range l.x.Prefix {
		if p == 0 {
			break
		}
		if p&0xff == x86asm.PrefixREP || p&0xff == x86asm.PrefixREPN {
			l.kill(rcx)
		}
	}
	if l.x.Op == x86asm.LODSB || l.x.Op == x86asm.LODSW || l.x.Op == x86asm.LODSD || l.x.Op == x86asm.LODSQ {
		l.kill(rax)
	}
	l.unflag()
}
