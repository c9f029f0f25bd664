package code

import (
	"bytes"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A held is what is known of a register.
type held struct {
	kind  heldKind
	value uint32 // the number, or the register that it came in
}

type heldKind uint8

const (
	heldNothing heldKind = iota
	heldNumber
	heldArgument // what a register held when the function was entered
)

// A trace follows one function from its start, instruction by instruction, and
// knows which numbers registers hold. It is meant for the few places that need
// it, and goes forward only.
type trace struct {
	*x86
	begun bool
	fn    uint64 // start of the function; 0 if no function is known there
	at    int    // offset of the next instruction
	regs  [16]held
	stack []held          // pushed
	kept  map[uint32]held // on the stack, by distance from the stack pointer
}

// follow goes on to the instruction at addr. It reports whether one begins
// there, which is not so for bytes within an instruction.
func (t *trace) follow(addr uint64) bool {
	const (
		far  = 8 << 10 // bytes to decode for one place
		near = 128     // from where code falls into step, wherever one begins
	)
	to := int(addr - t.addr)
	fn, ok := t.functionStart(addr)
	switch goOn := t.begun && t.fn == fn && t.at <= to; {
	case goOn && to-t.at <= far:
	case ok && addr-fn <= far:
		t.begin(fn, int(fn-t.addr), true)
	default:
		t.begin(fn, max(to-near, 0), false)
	}
	for t.at < to {
		in, ok := decode(t.code[t.at:], t.wide)
		if !ok {
			t.forget()
			t.at++
			continue
		}
		t.step(in, t.code[t.at:t.at+in.size])
		t.at += in.size
	}
	return t.at == to
}

// functionStart returns the start of the function that holds addr, in this run.
func (t *trace) functionStart(addr uint64) (uint64, bool) {
	list := t.c.Functions
	i := sort.Search(len(list), func(i int) bool { return list[i].Addr > addr }) - 1
	if i < 0 || list[i].Addr < t.addr || list[i].Size > 0 && addr-list[i].Addr >= list[i].Size {
		return 0, false
	}
	return list[i].Addr, true
}

func (t *trace) begin(fn uint64, at int, entry bool) {
	t.begun, t.fn, t.at = true, fn, at
	t.forget()
	if entry {
		for r := range t.regs {
			t.regs[r] = held{heldArgument, uint32(r)}
		}
	}
}

// forget is for where the way here is not known.
func (t *trace) forget() {
	t.regs = [16]held{}
	t.stack = t.stack[:0]
	clear(t.kept)
}

// The numbers of registers in instructions.
const (
	rax = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
)

// step follows one instruction (SDM volume 2, chapters 3 to 5). Whatever may
// write a register and is not understood makes it unknown.
func (t *trace) step(in insn, b []byte) {
	regs := &t.regs
	var reg, rm, mod int
	if in.modrm > 0 {
		m := b[in.modrm]
		mod, reg, rm = int(m>>6), int(m>>3&7)|int(in.rex&4)<<1, int(m&7)|int(in.rex&1)<<3
	}
	low := in.op&7 | int(in.rex&1)<<3
	switch op := in.op; {
	case op >= 0xb8 && op <= 0xbf: // MOV r, imm
		regs[low] = held{heldNumber, t.imm32(in, b)}
	case op == 0xb0: // MOV AL, imm8
		if regs[rax].kind == heldNumber {
			regs[rax].value = regs[rax].value&^0xff | uint32(b[in.imm])
		}
	case op > 0xb0 && op < 0xb8:
		regs[low], regs[low&3] = held{}, held{}
	case op == 0xc7 && mod == 3:
		regs[rm] = held{heldNumber, t.imm32(in, b)}
	case (op == 0x31 || op == 0x33 || op == 0x29 || op == 0x2b) && mod == 3 && reg == rm: // XOR r, r
		regs[rm] = held{heldNumber, 0}
	case op == 0x89 && mod == 3:
		regs[rm] = regs[reg]
	case op == 0x8b && mod == 3:
		regs[reg] = regs[rm]
	case op == 0x89: // to memory
		if d, ok := stackPlace(in, b, mod); ok {
			if t.kept == nil {
				t.kept = map[uint32]held{}
			}
			const most = 64
			if len(t.kept) < most {
				t.kept[d] = regs[reg]
			} else {
				delete(t.kept, d)
			}
		}
	case op == 0x8b:
		d, ok := stackPlace(in, b, mod)
		regs[reg] = held{}
		if ok {
			regs[reg] = t.kept[d]
		}
	case op == 0x8d && mod == 1 && rm != rsp && regs[rm].kind == heldNumber: // LEA r, [r+n]
		regs[reg] = held{heldNumber, regs[rm].value + uint32(int32(int8(b[in.modrm+1])))}
	case op == 0x83 && mod == 3 && reg&7 == 0 && regs[rm].kind == heldNumber: // ADD r, n
		regs[rm].value += uint32(int32(int8(b[in.imm])))
	case op == 0x83 && mod == 3 && reg&7 == 1 && b[in.imm] == 0xff: // OR r, -1
		regs[rm] = held{heldNumber, 0xffffffff}
	case op == 0x81 && mod == 3 && reg&7 == 0 && regs[rm].kind == heldNumber && !in.small:
		regs[rm].value += le32(b[in.imm:])
	case op == 0x6a:
		t.push(held{heldNumber, uint32(int32(int8(b[in.imm])))})
	case op == 0x68:
		t.push(held{heldNumber, t.imm32(in, b)})
	case op >= 0x50 && op <= 0x57:
		t.push(regs[low])
	case op >= 0x58 && op <= 0x5f:
		regs[low] = held{}
		if n := len(t.stack); n > 0 {
			regs[low], t.stack = t.stack[n-1], t.stack[:n-1]
		}
	case op == 0xff && mod == 3 && reg&7 == 0 && regs[rm].kind == heldNumber: // INC
		regs[rm].value++
	case !t.wide && op >= 0x40 && op <= 0x47:
		regs[op&7] = next(regs[op&7], 1)
	case !t.wide && op >= 0x48 && op <= 0x4f:
		regs[op&7] = next(regs[op&7], ^uint32(0))
	case op == 0xe8 || op == 0xff && reg&7 == 2 || op == 0x105 || op == 0x134 || op == 0xcd: // CALL, SYSCALL
		result := regs[rax]
		for r := range regs {
			if r != rbx && (r < rsp || r > rbp && r < 12) && (op == 0xe8 || op == 0xff || r == rax || r == rcx || r == 11) {
				regs[r] = held{}
			}
		}
		if op == 0xe8 && in.size == 5 && le32(b[1:]) == 0 { // of the next instruction: it is to be popped
			t.push(held{})
			regs[rax] = result
		}
	case op == 0xe9 || op == 0xeb || op == 0xc3 || op == 0xc2 || op == 0xff && reg&7 == 4: // what follows is come to from elsewhere
		t.forget()
	case op == 0x99: // CDQ
		regs[rdx] = held{}
	case op == 0xf7 && reg&7 >= 4 || op == 0xf6 && reg&7 >= 4 || op == 0x1a2 || op == 0x131: // MUL, DIV, CPUID, RDTSC
		regs[rax], regs[rdx] = held{}, held{}
		if op == 0x1a2 {
			regs[rbx], regs[rcx] = held{}, held{}
		}
	case op >= 0x90 && op <= 0x97 && op != 0x90: // XCHG
		regs[rax], regs[low] = regs[low], regs[rax]
	case op&0xc7 == 0x04 || op&0xc7 == 0x05 || op >= 0xa0 && op <= 0xa3 || op == 0xac || op == 0xad || op >= 0xe4 && op <= 0xe5:
		if op != 0x3c && op != 0x3d {
			regs[rax] = held{}
		}
	case in.modrm > 0 && op < 0x100 && mod == 3 && writesRM[op]:
		if op != 0x83 && op != 0x81 && op != 0x80 || reg&7 != 7 { // CMP
			regs[rm] = held{}
		}
	case in.modrm > 0 && (op < 0x100 && writesReg[op] || op >= 0x140 && op < 0x150 || op >= 0x1af && op <= 0x1bf || op == 0x12c || op == 0x12d || op == 0x150 || op == 0x1d7):
		regs[reg] = held{}
	case in.modrm > 0 && mod == 3 && (op >= 0x190 && op < 0x1a0 || op == 0x17e || op == 0x1c0 || op == 0x1c1 || op == 0x1b0 || op == 0x1b1):
		regs[rm] = held{}
	case op >= 0x1c8 && op <= 0x1cf: // BSWAP
		regs[low] = held{}
	case op >= 0x400 && in.modrm > 0: // VEX and EVEX have registers that are told otherwise
		if space := op >> 8 & 3; space == 2 && op&0xff >= 0xf2 {
			*regs = [16]held{}
		}
	}
}

func next(h held, n uint32) held {
	if h.kind != heldNumber {
		return held{}
	}
	return held{heldNumber, h.value + n}
}

func (t *trace) push(h held) {
	const most = 64
	if len(t.stack) == most {
		t.stack = t.stack[:0]
	}
	t.stack = append(t.stack, h)
}

// imm32 returns the low 32 bits of an immediate.
func (t *trace) imm32(in insn, b []byte) uint32 {
	if len(b)-in.imm < 4 {
		return uint32(b[in.imm])
	}
	return le32(b[in.imm:])
}

// stackPlace returns the distance of an operand from the stack pointer.
func stackPlace(in insn, b []byte, mod int) (uint32, bool) {
	m := in.modrm
	if mod == 3 || b[m]&7 != rsp || in.rex&1 != 0 || b[m+1] != 0x24 {
		return 0, false
	}
	switch mod {
	case 1:
		return uint32(int32(int8(b[m+2]))), true
	case 2:
		return le32(b[m+2:]), true
	}
	return 0, true
}

// writesReg and writesRM are the one-byte opcodes that write the register in
// the reg or the r/m field of their ModRM byte.
var writesReg, writesRM = func() (reg, rm [256]bool) {
	for op := 0; op < 0x38; op += 8 {
		rm[op], rm[op+1], reg[op+2], reg[op+3] = true, true, true, true
	}
	for _, op := range []int{0x63, 0x69, 0x6b, 0x86, 0x87, 0x8a, 0x8b, 0x8d} {
		reg[op] = true
	}
	for _, op := range []int{0x80, 0x81, 0x83, 0x88, 0x89, 0x8f, 0xc0, 0xc1, 0xc6, 0xd0, 0xd1, 0xd2, 0xd3, 0xf6, 0xf7, 0xfe, 0xff} {
		rm[op] = true
	}
	return reg, rm
}()

// findEntries notes the instructions from lo up to before hi that enter the
// kernel: SYSCALL (0F 05), SYSENTER (0F 34) and INT 80 (CD 80), and the call of
// the function that Linux offers 32-bit programs, whose address the C library
// keeps behind the thread pointer (65 FF 15 10 00 00 00).
func (s *x86) findEntries(lo, hi int) {
	first := len(s.entries)
	find := func(second byte, before ...byte) {
		b := s.code[lo:hi]
		for at := lo; ; {
			n := cursor.IndexByte(b, second)
			if n < 0 {
				return
			}
			at, b = at+n+1, b[n+1:]
			if start := at - 1 - len(before); start >= 0 && bytes.HasPrefix(s.code[start:], before) {
				s.entries = append(s.entries, start)
			}
		}
	}
	// JMP rel8 to a function that is near: a tail call within one source file.
	jumps := s.code[lo:hi]
	for at := 0; ; at++ {
		n := cursor.IndexByte(jumps[at:], 0xeb)
		if at += n; n < 0 || lo+at+1 >= len(s.code) {
			break
		}
		if s.shortJump(lo+at) != 0 {
			s.entries = append(s.entries, lo+at)
		}
	}
	switch os := s.c.Image.OS; {
	case s.wide:
		find(0x05, 0x0f)
	case os != "windows":
		find(0x34, 0x0f)
		find(0x15, 0x65, 0xff)
	}
	if os := s.c.Image.OS; os != "windows" && os != "uefi" {
		b := s.code[lo:min(hi+1, len(s.code))]
		for at := 0; ; at++ {
			n := cursor.IndexByte(b[at:], 0xcd)
			if at += n; n < 0 || at+1 >= len(b) {
				break
			}
			if b[at+1] == 0x80 {
				s.entries = append(s.entries, lo+at)
			}
		}
	}
	slices.Sort(s.entries[first:])
}

// shortJump returns the target of a jump of two bytes at i, if it is a function
// or stub and the jump leaves another; 0 if not.
func (s *x86) shortJump(i int) uint64 {
	to := s.target(i+2, uint32(int8(s.code[i+1])))
	if s.targets.marks.get(to) == 0 || to <= s.addr+uint64(i) && !s.targets.between(to, s.addr+uint64(i)) {
		return 0
	}
	return to
}

// systemCalls looks at what findEntries noted. Two bytes are soon found by
// accident, so that each place is checked by decoding the function from its
// start.
func (s *x86) systemCalls() {
	t := &trace{x86: s}
	for _, i := range s.entries {
		if b := s.code[i:]; b[0] == 0x65 && !bytes.HasPrefix(b, []byte{0x65, 0xff, 0x15, 0x10, 0, 0, 0}) {
			continue
		}
		addr := s.addr + uint64(i)
		if !t.follow(addr) {
			continue
		}
		if s.code[i] == 0xeb {
			s.late = append(s.late, s.reference(i, s.shortJump(i), Jump))
			continue
		}
		switch h := t.regs[rax]; {
		case h.kind == heldNumber:
			m := s.c.Image
			if s.code[i] == 0xcd && s.wide { // INT 80 has the numbers of 32-bit programs everywhere
				m = &image.Image{OS: m.OS, Arch: image.X86}
			}
			s.c.Syscalls = append(s.c.Syscalls, Syscall{addr, int(h.value), syscallName(m, int(h.value))})
		case h.kind == heldArgument && t.fn != 0 && s.wide:
			s.syscall(addr, -1)
			s.wraps(t.fn, h.value)
		default:
			s.syscall(addr, -1)
		}
	}
}

// wraps notes that a function makes the system call whose number it is given in
// a register.
func (r *reader) wraps(fn uint64, reg uint32) {
	const most = 1000
	if r.wrappers == nil {
		r.wrappers = map[uint64]uint32{}
	}
	if _, ok := r.wrappers[fn]; !ok && len(r.wrappers) < most {
		r.wrappers[fn] = reg
	}
}

// wrappedCalls finds the system calls that are made through functions that take
// the number as an argument: the C library's syscall, Go's Syscall6. What calls
// such a function with an argument of its own is one of them in turn.
func (r *reader) wrappedCalls() {
	if r.c.Image.Arch != image.X86_64 {
		return
	}
	libc := int32(-1)
	for i := range r.c.Image.Imports {
		if r.c.Image.Imports[i].Name == "syscall" && r.c.Image.Format == image.ELF {
			libc = int32(i)
		}
	}
	const depth = 4
	traces := make([]*trace, len(r.parts))
	for range depth {
		wrappers := r.wrappers
		if len(wrappers) == 0 && libc < 0 {
			return
		}
		r.wrappers = nil
		var some uint64 // a bit for each of them, by what few addresses have in common
		for fn := range wrappers {
			some |= 1 << (fn >> 4 & 63)
		}
		for i := range r.c.Refs {
			ref := &r.c.Refs[i]
			if ref.Kind > Jump {
				continue
			}
			reg, ok := uint32(rdi), libc >= 0 && ref.Import == libc
			if ref.Import < 0 && some>>(ref.Target>>4&63)&1 != 0 {
				reg, ok = wrappers[ref.Target]
			}
			if ok {
				r.wrappedCall(traces, ref.Addr, reg)
			}
		}
		for fn := range r.wrappers {
			if _, ok := wrappers[fn]; ok {
				delete(r.wrappers, fn) // calls itself
			}
		}
		libc = -1
	}
	r.wrappers = nil
}

func (r *reader) wrappedCall(traces []*trace, addr uint64, reg uint32) {
	i := sort.Search(len(r.parts), func(i int) bool { return r.parts[i].end() > addr })
	if i == len(r.parts) || addr < r.parts[i].addr {
		return
	}
	t := traces[i]
	if t == nil {
		t = &trace{x86: &x86{reader: r, wide: true, addr: r.parts[i].addr, code: r.parts[i].bytes}}
		traces[i] = t
	}
	if !t.follow(addr) {
		return
	}
	switch h := t.regs[reg]; {
	case h.kind == heldNumber:
		r.syscall(addr, int(h.value))
	case h.kind == heldArgument && t.fn != 0:
		r.wraps(t.fn, h.value)
	}
}
