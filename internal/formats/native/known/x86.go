package known

import "encoding/binary"

// What follows an opcode, as bits.
const (
	hasModRM  = 1 << iota
	hasImm8   // one byte
	hasImm16  // two bytes
	hasImm    // four bytes, or two after an operand-size prefix
	hasWide   // as hasImm, or eight bytes with REX.W
	hasRel    // how far away another instruction is
	hasOffset // an address, as wide as addresses are
	hides     // its immediate may be an address, which a linker fills in
	only32    // not an instruction in 64-bit mode
	undefined
)

// An opcodes says what follows the opcodes of a list, in hexadecimal.
type opcodes struct {
	what uint16
	list string
}

// oneByte and twoByte say what follows the opcodes of the one-byte map and of
// that after 0F (Intel 64 and IA-32 Architectures Software Developer's Manual,
// volume 2, appendix A, "Opcode Map").
var (
	oneByte = table([]opcodes{
		{hasModRM, "00-03 08-0b 10-13 18-1b 20-23 28-2b 30-33 38-3b 63 84-8f d0-d3 d8-df f6-f7 fe-ff"},
		{hasModRM | only32, "62 c4-c5"},
		{hasModRM | hasImm8, "6b 80 83 c0-c1 c6"},
		{hasModRM | hasImm8 | only32, "82"},
		{hasModRM | hasImm, "69"},
		{hasModRM | hasImm | hides, "81 c7"},
		{hasImm8, "04 0c 14 1c 24 2c 34 3c 6a 70-7f a8 b0-b7 cd e0-e7 eb"},
		{hasImm8 | only32, "d4-d5"},
		{hasImm, "a9"},
		{hasImm | hides, "05 0d 15 1d 25 2d 35 3d 68"},
		{hasWide | hides, "b8-bf"},
		{hasRel, "e8-e9"},
		{hasOffset, "a0-a3"},
		{hasImm16, "c2 ca"},
		{hasImm16 | hasImm8, "c8"},
		{hasImm16 | hasImm | only32, "9a ea"},
		{only32, "06-07 0e 16-17 1e-1f 27 2f 37 3f 60-61 ce"},
		{undefined, "d6"},
	})
	twoByte = table([]opcodes{
		{hasModRM, "00-03 0d 10-23 28-2f 40-6f 74-76 78-7f 90-9f a3 a5-a7 ab ad-b9 bb-c1 c3 c7 d0-ff"},
		{hasModRM | hasImm8, "0f 70-73 a4 ac ba c2 c4-c6"},
		{hasRel, "80-8f"},
		{undefined, "04 0a 0c 24-27 36 39 3b-3f"},
	})
)

func table(rows []opcodes) (t [256]uint16) {
	digit := func(c byte) int {
		if c >= 'a' {
			return int(c-'a') + 10
		}
		return int(c - '0')
	}
	for _, row := range rows {
		for i := 0; i < len(row.list); i += 3 {
			from := digit(row.list[i])<<4 | digit(row.list[i+1])
			to := from
			if i+2 < len(row.list) && row.list[i+2] == '-' {
				i += 3
				to = digit(row.list[i])<<4 | digit(row.list[i+1])
			}
			for op := from; op <= to; op++ {
				t[op] = row.what
			}
		}
	}
	return t
}

// An x86 is one instruction of x86-64, or of x86 in 32-bit mode, taken apart as
// far as it takes to tell its operands from the rest.
type x86 struct {
	size    int // in bytes
	prefix  int // how many bytes of prefixes stand before REX and the opcode
	rex     byte
	short   bool // it has an operand-size prefix
	space   byte // 0: the one-byte map; 1: after 0F; 2, 3: after 0F 38 and 0F 3A; more: of EVEX
	vector  bool // VEX or EVEX
	op      byte
	what    uint16
	modrm   int // offsets, 0 if there is none
	disp    int
	dispLen int // in bytes: 1, 2, 4
	imm     int // of the first immediate, displacement to another instruction, or address
	immLen  int // of all immediates together
}

// prefixes are the legacy prefixes (the manual's volume 2, section 2.1.1).
var prefixes = [256]bool{
	0x26: true, 0x2e: true, 0x36: true, 0x3e: true, 0x64: true, 0x65: true, // segments, hints of branches
	0x66: true, 0x67: true, // sizes of operands and addresses
	0xf0: true, 0xf2: true, 0xf3: true, // lock, repetition
}

// longest is the size of the longest instruction in bytes.
const longest = 15

// read reads the instruction at the start of b; wide selects 64-bit mode. It is
// false where there is none.
func (x *x86) read(b []byte, wide bool) bool {
	*x = x86{}
	b = b[:min(len(b), longest)]
	at, near := 0, false // near: addresses have half the size
	for ; at < len(b) && prefixes[b[at]]; at++ {
		x.short = x.short || b[at] == 0x66
		near = near || b[at] == 0x67
	}
	if at == len(b) {
		return false
	}
	x.prefix = at
	if wide && b[at]&0xf0 == 0x40 {
		x.rex = b[at]
		if at++; at == len(b) {
			return false
		}
	}
	at, ok := x.opcode(b, at, wide)
	if !ok || x.what&undefined != 0 || wide && x.what&only32 != 0 {
		return false
	}
	if x.what&hasModRM != 0 {
		if at, ok = x.address(b, at, near && !wide); !ok {
			return false
		}
		reg := b[x.modrm] >> 3 & 7
		if x.space == 0 && !x.vector && x.op&0xfe == 0xf6 && reg < 2 { // test
			x.what |= hasImm8
			if x.op == 0xf7 {
				x.what ^= hasImm8 | hasImm
			}
		}
		if x.space == 0 && !x.vector && (x.op == 0xfe && reg > 1 || x.op == 0xff && reg == 7) {
			return false
		}
	}
	x.imm, x.immLen = at, x.immediate(wide, near)
	x.size = at + x.immLen
	return x.size <= len(b)
}

// opcode reads the opcode in all its encodings and returns where it ends.
func (x *x86) opcode(b []byte, at int, wide bool) (int, bool) {
	x.op = b[at]
	at++
	if at < len(b) && (x.op == 0xc4 || x.op == 0xc5 || x.op == 0x62) && (wide || b[at] >= 0xc0) {
		return x.vectorOpcode(b, at)
	}
	if x.op != 0x0f {
		x.what = oneByte[x.op]
		return at, true
	}
	if at == len(b) {
		return at, false
	}
	x.op, x.space = b[at], 1
	at++
	if x.op != 0x38 && x.op != 0x3a {
		x.what = twoByte[x.op]
		return at, true
	}
	x.space, x.what = 2, hasModRM
	if x.op == 0x3a {
		x.space, x.what = 3, hasModRM|hasImm8
	}
	if at == len(b) {
		return at, false
	}
	x.op = b[at]
	return at + 1, true
}

// vectorOpcode reads what follows the first byte of a VEX or EVEX prefix (the
// manual's volume 2, sections 2.3 and 2.7).
func (x *x86) vectorOpcode(b []byte, at int) (int, bool) {
	x.vector, x.space = true, 1
	switch x.op {
	case 0xc4:
		x.space = b[at] & 0x1f
		at++
	case 0x62:
		x.space = b[at] & 7
		at += 2
	}
	at++
	if at >= len(b) || x.space == 0 || x.space > 6 {
		return at, false
	}
	x.op = b[at]
	x.what = hasModRM
	switch {
	case x.space == 3:
		x.what |= hasImm8
	case x.space == 1:
		x.what |= twoByte[x.op] & hasImm8
		if x.op == 0x77 { // vzeroupper
			x.what = 0
		}
	}
	return at + 1, true
}

// address reads ModRM, SIB and displacement and returns where they end.
func (x *x86) address(b []byte, at int, short bool) (int, bool) {
	if at >= len(b) {
		return at, false
	}
	x.modrm = at
	mod, base := b[at]>>6, b[at]&7
	at++
	if mod == 3 {
		return at, true
	}
	if short { // the addresses of 16-bit mode
		if mod == 1 {
			x.dispLen = 1
		} else if mod == 2 || base == 6 {
			x.dispLen = 2
		}
		x.disp = at
		return at + x.dispLen, true
	}
	if base == 4 {
		if at >= len(b) {
			return at, false
		}
		base = b[at] & 7
		at++
	}
	switch {
	case mod == 1:
		x.dispLen = 1
	case mod == 2, base == 5:
		x.dispLen = 4
	}
	x.disp = at
	return at + x.dispLen, true
}

// immediate returns how many bytes of immediates there are.
func (x *x86) immediate(wide, near bool) (n int) {
	usual := 4
	if x.short && x.rex&8 == 0 {
		usual = 2
	}
	switch {
	case x.what == 0:
		return 0
	case x.what&hasRel != 0:
		if wide {
			return 4
		}
		return usual
	case x.what&hasOffset != 0:
		switch {
		case wide && !near:
			return 8
		case !wide && near:
			return 2
		}
		return 4
	case x.what&hasWide != 0:
		if x.rex&8 != 0 {
			return 8
		}
		return usual
	}
	if x.what&hasImm8 != 0 {
		n++
	}
	if x.what&hasImm16 != 0 {
		n += 2
	}
	if x.what&hasImm != 0 {
		n += usual
	}
	return n
}

// Marks that stand for instructions that a linker may turn into one another
// (System V ABI, AMD64 supplement, section B.2 "Optimize GOTPCRELX
// Relocations"; ELF Handling For Thread-Local Storage, section 5, "TLS Linker
// Optimization").
const (
	markLoad = 0xd6 // of an address, or of a pointer to it in the GOT, to a register
	markAdd  = 0x0e // of such a value to a register
	markSlot = 0x06 // of a pointer that the loader fills; a hash of its name follows
)

// stepX86 appends the lasting part of the instruction at s.at to the body and
// moves on behind it.
func (s *stream) stepX86(wide bool) flow {
	b := s.code[s.at:]
	if b[0] == 0xcc { // much padding is made of it
		s.at++
		return padding
	}
	if s.local(b, wide) {
		return on
	}
	x := &s.x86
	if !x.read(b, wide) {
		return broken
	}
	at := s.at
	s.at += x.size
	flow := x.flow(b, wide)
	if flow == padding {
		return flow
	}
	plain := !x.vector && x.space == 0
	rip := wide && x.modrm > 0 && b[x.modrm]&0xc7 == 5 // relative to the next instruction
	if plain && x.linked(s, b, wide, rip) {
		s.slot(at, x, b, wide, rip)
		return flow
	}
	if plain && !wide && x.op == 0xa1 && x.prefix == 0 { // may become a move of what stands there
		s.body = append(s.body, 0xb8)
		return flow
	}
	end := x.size
	if x.dispLen > 0 {
		end = x.disp
	} else if x.immLen > 0 {
		end = x.imm
	}
	s.body = append(s.body, b[:end]...)
	if x.dispLen > 0 && (x.dispLen < 4 || x.modrm > 0 && b[x.modrm]&7 == 4 && b[x.modrm] >= 0x40 && b[x.modrm+1]&7 == 4) {
		s.body = append(s.body, b[x.disp:x.disp+x.dispLen]...) // into the stack, or too short for an address
	}
	if x.immLen > 0 && !x.hidden(b) {
		s.body = append(s.body, b[x.imm:x.size]...)
	}
	s.slot(at, x, b, wide, rip)
	return flow
}

// local reads what linkers make of a call that asks for the address of a
// variable of the thread, where they know how far it is from the thread's
// pointer (ELF Handling For Thread-Local Storage, sections 5.4 and 5.6), and
// appends what it was.
func (s *stream) local(b []byte, wide bool) bool {
	const (
		narrow  = "\x65\xa1\x00\x00\x00\x00\x81\xe8"     // mov %gs:0, %eax; sub
		pointer = "\x64\x48\x8b\x04\x25\x00\x00\x00\x00" // mov %fs:0, %rax
		module  = "\x66\x66\x66" + pointer
		general = len(pointer) + 7 // then lea or add
	)
	if !wide {
		if b[0] != 0x65 || len(b) < len(narrow)+4 || string(b[:len(narrow)]) != narrow {
			return false
		}
		s.body = append(s.body, 0x8d, 0x04, 0x1d, 0xe8)
		s.at += len(narrow) + 4
		return true
	}
	if b[0] == 0x66 && len(b) >= len(module) && string(b[:len(module)]) == module {
		s.body = append(s.body, markLoad, 7, 0xe8)
		s.at += len(module)
		return true
	}
	if b[0] != 0x64 || len(b) < general || string(b[:len(pointer)]) != pointer {
		return false
	}
	if then := string(b[len(pointer) : len(pointer)+3]); then != "\x48\x8d\x80" && then != "\x48\x03\x05" {
		return false
	}
	s.body = append(s.body, markLoad, 7, 0x66, 0x66, 0x48, 0xe8)
	s.at += general
	return true
}

// hidden reports whether the immediate may be what a linker fills in.
func (x *x86) hidden(b []byte) bool {
	switch {
	case x.what&(hasRel|hasOffset) != 0:
		return true
	case x.what&hides == 0 || x.immLen < 4:
		return false
	}
	return x.op != 0x81 || b[x.modrm]&0xc7 != 0xc4 // not what is added to the stack pointer
}

// linked appends a mark for an instruction that linkers rewrite, and says
// whether it is one.
func (x *x86) linked(s *stream, b []byte, wide, rip bool) bool {
	if x.modrm == 0 {
		return false
	}
	m := b[x.modrm]
	reg, rm := m>>3&7|x.rex&4<<1, m&7|x.rex&1<<3
	long := x.rex&8 != 0
	switch {
	case x.op == 0xff && m>>3&7 == 2 && (rip || !wide && x.dispLen == 4): // call through a pointer
		s.body = append(s.body, 0xe8)
	case x.op == 0xff && m>>3&7 == 4 && (rip || !wide && m == 0x25): // jump through a pointer
		s.body = append(s.body, 0xe9)
	case !wide && (x.op == 0x8b || x.op == 0x8d) && m>>6 == 2 && m&7 != 4,
		!wide && x.op == 0x8b && m&0xc7 == 5:
		s.body = append(s.body, markLoad, reg)
	case !wide && x.op == 0xc7 && m&0xf8 == 0xc0:
		s.body = append(s.body, markLoad, rm)
	case !wide && x.op == 0x03 && (m>>6 == 2 && m&7 != 4 || m&0xc7 == 5):
		s.body = append(s.body, markAdd, reg)
	case !wide && x.op == 0x81 && m&0xf8 == 0xc0 && rm != 4:
		s.body = append(s.body, markAdd, rm)
	case (x.op == 0x8b || x.op == 0x8d) && rip && long:
		s.body = append(s.body, markLoad, reg)
	case x.op == 0xc7 && m&0xf8 == 0xc0 && long:
		s.body = append(s.body, markLoad, rm)
	case x.op == 0x03 && rip && long:
		s.body = append(s.body, markAdd, reg)
	case x.op == 0x8d && long && m>>6 == 2 && m&7 != 4 && reg == rm:
		s.body = append(s.body, markAdd, reg)
	case x.op == 0x81 && m&0xf8 == 0xc0 && long && rm != 4:
		s.body = append(s.body, markAdd, rm)
	default:
		return false
	}
	return true
}

// slot appends the name of the import whose pointer the instruction uses.
func (s *stream) slot(at int, x *x86, b []byte, wide, rip bool) {
	if s.slots == nil || x.dispLen != 4 {
		return
	}
	addr := uint64(binary.LittleEndian.Uint32(b[x.disp:]))
	switch {
	case rip:
		addr = s.addr + uint64(at+x.size) + uint64(int64(int32(addr)))
	case wide || b[x.modrm]&0xc7 != 5:
		return
	}
	s.name(s.slots(at+x.disp, addr))
}

// flow says how control goes on after the instruction.
func (x *x86) flow(b []byte, wide bool) flow {
	if x.vector {
		return on
	}
	if x.space == 1 {
		switch x.op {
		case 0x0b: // ud2
			return stop
		case 0x1f: // nop
			return padding
		}
		return on
	}
	if x.space > 1 {
		return on
	}
	switch x.op {
	case 0xc2, 0xc3, 0xca, 0xcb, 0xcf, 0xe9, 0xeb, 0xf4:
		return stop
	case 0xcc:
		return padding
	case 0x90:
		if x.rex&1 == 0 && (x.prefix == 0 || b[x.prefix-1] != 0xf3) { // else an exchange, or pause
			return padding
		}
	case 0xff:
		if r := b[x.modrm] >> 3 & 7; r == 4 || r == 5 {
			return stop
		}
	case 0x8d:
		// lea of a register to itself, with which GNU tools fill gaps in 32-bit
		// code.
		m := b[x.modrm]
		base := m & 7
		if base == 4 && m < 0xc0 {
			if b[x.modrm+1]&0x38 != 0x20 { // it has an index
				return on
			}
			base = b[x.modrm+1] & 7
		}
		if !wide && m>>6 > 0 && m>>3&7 == base && allZero(b[x.disp:x.disp+x.dispLen]) {
			return padding
		}
	}
	return on
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
