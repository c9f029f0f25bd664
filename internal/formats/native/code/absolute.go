package code

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// absolute finds operands of 32 bits that are addresses: those of code that is
// linked for a fixed place, or, in position-independent code of x86, distances
// from the global offset table, which a register holds.
type absolute struct {
	*x86
	lo, hi uint32 // what an operand may be: from lo up to hi
	based  bool   // operands are relative to a register that holds base
	base   uint32
	held   [8]uint64 // by register: where it was last set to base
	next   int       // of x86.sets, the first that is not in held

	// Words of equal bytes, to look at eight operands at a time.
	same  uint64 // the bits of the highest byte that all operands have in common
	high  uint64 // what they are
	third uint64 // if the highest byte is 0: bits of the one below of which one is set
}

// A set is where code puts the address of the global offset table in a register.
type set struct {
	addr uint64
	reg  uint8
}

// newAbsolute returns nil if the code has no such operands.
func (s *x86) newAbsolute() *absolute {
	mem := &s.targets.memory
	a := &absolute{x86: s}
	switch {
	case mem.hi == 0 || mem.lo >= 1<<32 || s.wide && mem.hi > 1<<31:
		return nil
	case mem.lo >= 0x1000:
	case s.wide || s.c.Image.Format != image.ELF:
		return nil
	default:
		base, ok := s.reader.base()
		if !ok {
			return nil
		}
		a.base, a.based = base, true
	}
	a.lo, a.hi = uint32(mem.lo), uint32(min(mem.hi, 1<<32)-1)
	a.findWords()
	return a
}

// findWords sets same, high and third.
func (a *absolute) findWords() {
	const ff = 0xff
	if a.based { // a distance of either sign
		same := uint64(0xfe)
		for n := max(a.base-a.lo, a.hi-a.base) >> 24; n > 0; n >>= 1 {
			same = same << 1 & ff
		}
		a.same = same * ones
		return
	}
	lo, hi := uint64(a.lo>>24), uint64(a.hi>>24)
	same := uint64(ff) << bits.Len64(lo^hi) & ff
	a.same, a.high = same*ones, lo&same*ones
	a.third = ff * ones
	if third := uint64(a.lo >> 16 & ff); lo == 0 && third > 0 {
		a.third = ff << (bits.Len64(third) - 1) & ff * ones
	}
}

// scan looks at operands from lo up to before hi.
func (a *absolute) scan(lo, hi int) {
	code := a.code
	i := max(lo, 2)
	for ; i < hi && i+11 <= len(code); i += 8 {
		b := code[i-2 : i+11 : i+11]
		highest := binary.LittleEndian.Uint64(b[5:])
		var found uint64
		if a.based {
			far := (highest ^ highest<<1) & a.same
			modrm := binary.LittleEndian.Uint64(b[1:])
			indexed := binary.LittleEndian.Uint64(b) // a ModRM byte before the byte of an index
			found = zeros(far|modrm&(0xc0*ones)^0x80*ones) | zeros(far|indexed&(0xc7*ones)^0x84*ones)
		} else {
			below := binary.LittleEndian.Uint64(b[4:]) & a.third
			either := highest | below
			found = zeros(highest&a.same^a.high) & ((either&^highs + (highs - ones)) | either)
		}
		for ; found != 0; found &= found - 1 {
			j := i + bits.TrailingZeros64(found)/8
			a.candidate(j, le32(code[j:]))
		}
	}
	for ; i < min(hi, len(code)-3); i++ {
		a.candidate(i, le32(code[i:]))
	}
}

// candidate looks at the operand v at i.
func (a *absolute) candidate(i int, v uint32) {
	if a.based {
		a.fromBase(i, v)
		return
	}
	if v < a.lo || v > a.hi {
		return
	}
	to := uint64(v)
	if at, ok := a.stored(i); ok {
		a.immediate(at, to)
		return
	}
	if at, op, reg, indexed := a.memory(i); at >= 0 {
		switch {
		case op == opLEA:
			a.immediate(at, to)
		case !indexed:
			a.operand(at, op, reg, to)
		case a.targets.data(to):
			a.add(Ref{a.addr + uint64(at), to, -1, Data})
		}
		return
	}
	switch p, q := a.code[i-1], a.before(i, 2); {
	case p >= 0xb8 && p <= 0xbf: // MOV r, imm
		switch {
		case !a.wide || q&0xf8 != 0x48:
			a.immediate(a.prefixed(i-1), to)
		case i+8 <= len(a.code) && le32(a.code[i+4:]) == 0: // of 64 bits
			a.immediate(i-2, to)
		}
	case p == 0x68: // PUSH imm32
		a.immediate(i-1, to)
	case q == 0x81 && p >= 0xc0: // ADD, CMP, … r, imm32
		a.immediate(a.prefixed(i-2), to)
	case !a.wide && (p == 0xa1 || p == 0xa3): // MOV EAX, [n]
		a.operand(a.prefixed(i-1), opLoad, 0, to)
	case !a.wide && (p == 0x05 || p == 0x2d || p == 0x3d): // ADD, SUB, CMP EAX, imm32; of 64-bit code these are ModRM bytes
		a.immediate(a.prefixed(i-1), to)
	}
}

// stored returns where the instruction begins that moves the number of 32 bits
// at i: MOV r/m, imm32 in its forms.
func (a *absolute) stored(i int) (at int, ok bool) {
	const op = 0xc7
	p, q := a.code[i-1], a.before(i, 2)
	switch {
	case q == op && (p < 8 && p != 4 && p != 5 || p&0xf8 == 0xc0): // [r], or r
		at = i - 2
	case a.before(i, 3) == op && (q == 0x04 || q&0xf8 == 0x40 && q != 0x44): // [r+s], [r+n]
		at = i - 3
	case a.before(i, 4) == op && a.before(i, 3) == 0x44: // [r+s+n]
		at = i - 4
	case a.before(i, 6) == op && (a.before(i, 5) == 0x05 || a.before(i, 5)&0xf8 == 0x80 && a.before(i, 5) != 0x84): // [n], [r+n]
		at = i - 6
	case a.before(i, 7) == op && a.before(i, 6) == 0x84: // [r+s+n]
		at = i - 7
	default:
		return 0, false
	}
	return a.prefixed(at), true
}

// memory returns where the instruction begins that has the displacement at i,
// its opcode, 0 for those that only read and write, the reg field of its ModRM
// byte, and whether a register is added; -1 if there is none.
func (a *absolute) memory(i int) (at int, op, reg byte, indexed bool) {
	p, q := a.code[i-1], a.before(i, 2)
	modrm := i - 1
	switch {
	case p&0xc7 == 0x05 && !a.wide: // [n]
	case p&0xc0 == 0x80 && p&7 != 4: // [r+n]
		indexed = true
	default:
		modrm = -1
	}
	if modrm >= 0 {
		if at, op := a.opcode(modrm, indexed); at >= 0 {
			return at, op, p >> 3 & 7, indexed
		}
	}
	if p&7 == 5 && q&0xc7 == 0x04 || q&0xc7 == 0x84 { // [s*r+n], [r+s*r+n]
		if at, op := a.opcode(i-2, true); at >= 0 {
			return at, op, q >> 3 & 7, p != 0x25 // which is no register at all
		}
	}
	return -1, 0, 0, false
}

// opcode reads the opcode before the ModRM byte at i.
func (a *absolute) opcode(i int, indexed bool) (at int, op byte) {
	if i < 1 {
		return -1, 0
	}
	modrm := a.code[i]
	op = a.code[i-1]
	switch {
	case a.before(i, 2) == 0x0f && op >= 0x10 && opcodes0F[op]&hasModRM != 0:
		return a.prefixed(i - 2), 0
	case a.before(i, 3) == 0x0f && (a.before(i, 2) == 0x38 || a.before(i, 2) == 0x3a):
		return a.prefixed(i - 3), 0
	case !operandOp[op]:
		return -1, 0
	case op == opGroup5 && modrm == 0x15: // CALL [n]; else what follows adds an address with carry
		return i - 1, op
	case op >= 0x80 && op != 0x89 && op != opLoad && op != opLEA && takesOperand[a.before(i, 2)]: // or itself a ModRM byte
		return -1, 0
	case (op == 0xc6 || op == 0xc7) && modrm&0x38 != 0: // which are none
		return -1, 0
	case op == opGroup5 && modrm&0x38 == 0x38: // which is none
		return -1, 0
	case indexed && modrm >= 0xb8 && (op < 0x38 || op >= 0xc0): // more often MOV r, imm32
		return -1, 0
	case op == opGroup5 && (modrm&0x38 == 0x10 || modrm&0x38 == 0x20 || modrm&0x38 == 0x30):
		return i - 1, op
	case op == opLoad || op == opLEA:
		return a.prefixed(i - 1), op
	}
	return a.prefixed(i - 1), 0
}

// prefixed steps back from an opcode over the prefixes before it.
func (s *x86) prefixed(at int) int {
	if p := s.before(at, 1); s.wide && p&0xf0 == 0x40 {
		at--
	}
	for range 2 {
		switch s.before(at, 1) {
		case 0x66, 0xf0, 0xf2, 0xf3:
			at--
		}
	}
	return at
}

// operandOp are the one-byte opcodes with a ModRM byte that compilers give
// operands in memory.
var operandOp = func() (t [256]bool) {
	for _, op := range []int{
		0x01, 0x03, 0x09, 0x0b, 0x21, 0x23, 0x29, 0x2b, 0x31, 0x33, 0x38, 0x39, 0x3a, 0x3b, 0x63, 0x69, 0x6b, 0x80, 0x81, 0x83, 0x84, 0x85,
		0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0xc6, 0xc7, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xf6, 0xf7, 0xff,
	} {
		t[op] = true
	}
	return t
}()

// before returns the byte n before offset i, or 0.
func (s *x86) before(i, n int) byte {
	if i < n {
		return 0
	}
	return s.code[i-n]
}

// immediate records an address that is a number of the instruction.
func (a *absolute) immediate(at int, to uint64) { a.operand(at, opLEA, 0, to) }

// takesOperand are those of them whose ModRM byte is most often met.
var takesOperand = [256]bool{
	0x01: true, 0x29: true, 0x31: true, 0x39: true, 0x85: true, 0x89: true, 0x8b: true, 0x8d: true, 0xc7: true, 0xd9: true, 0xdb: true, 0xdd: true,
}

// fromBase looks at the displacement v at i from a register that holds the
// address of the global offset table (System V ABI, Intel386 supplement,
// "Position-Independent Function Prologue").
func (a *absolute) fromBase(i int, v uint32) {
	modrm := a.code[i-1]
	base := modrm & 7
	at, op := -1, byte(0)
	if a.before(i, 2)&0xc7 == 0x84 { // [r+s*r+n]
		at, op = a.opcode(i-2, true)
	}
	if at < 0 && modrm&0xc0 == 0x80 && base != 4 { // [r+n]
		at, op = a.opcode(i-1, true)
	}
	if at < 0 {
		return
	}
	addr := a.addr + uint64(at)
	for ; a.next < len(a.sets) && a.sets[a.next].addr < addr; a.next++ {
		a.held[a.sets[a.next].reg] = a.sets[a.next].addr
	}
	if to := v + a.base; to < a.lo || to > a.hi {
		return
	}
	if held := a.held[base]; (held == 0 || a.targets.between(held, addr)) && !a.reloaded(base, at) {
		return
	}
	to := uint64(v + a.base)
	if _, _, ok := a.targets.through(to); ok && op == 0 {
		return // a test whether it is there
	}
	a.operand(at, op, modrm>>3&7, to)
}

// reloaded reports whether the register was loaded, shortly before offset at,
// from the place in the frame where the function keeps the address of the
// global offset table: code that is not optimised does so for each use.
func (a *absolute) reloaded(reg byte, at int) bool {
	const (
		soon = 40 // bytes until it is stored
		near = 64 // from the load to the use
	)
	if a.next == 0 || a.targets.between(a.sets[a.next-1].addr, a.addr+uint64(at)) {
		return false
	}
	from := &a.sets[a.next-1]
	begin := int(from.addr-a.addr) + 5
	for i := begin; i < min(begin+soon, at-3); i++ {
		modrm := a.code[i+1]
		if a.code[i] != opStore || modrm>>3&7 != from.reg || modrm&0xc7 != 0x45 && modrm&0xc7 != 0x85 { // [EBP+n]
			continue
		}
		place := a.code[i+2 : i+3]
		if modrm&0x80 != 0 {
			place = a.code[i+2 : min(i+6, len(a.code))]
		}
		load := append([]byte{opLoad, modrm&0xc7 | reg<<3}, place...)
		return bytes.Contains(a.code[max(i+2, at-near):at], load)
	}
	return false
}

// base returns the address of the global offset table: what most of the first
// functions that ask for their own address add to it.
func (r *reader) base() (base uint32, ok bool) {
	if r.c.Image.Arch != image.X86 || r.c.Image.Format != image.ELF {
		return 0, false
	}
	if r.got == nil {
		const enough = 64
		votes := map[uint32]int{}
		n := 0
		for _, p := range r.parts {
			s := &x86{reader: r, addr: p.addr, code: p.bytes}
			for i := 0; i+16 < len(s.code) && n < enough; i++ {
				if s.code[i] == 0xe8 {
					if _, to, ok := s.ownAddress(i); ok && r.targets.memory.at(uint64(to)) != unmapped {
						votes[to]++
						n++
					}
				}
			}
		}
		r.got = new(uint32)
		for to, v := range votes {
			if v > votes[*r.got] || v == votes[*r.got] && to < *r.got {
				*r.got = to
			}
		}
	}
	return *r.got, *r.got != 0
}

// ownAddress reads a call at i of a function that returns its return address,
// or of the next instruction, which pops it, and the addition to the register
// that follows. It returns the register and what is then in it.
func (s *x86) ownAddress(i int) (reg uint8, to uint32, ok bool) {
	back := uint32(s.addr) + uint32(i) + 5
	called := s.target(i+5, le32(s.code[i+1:])) - s.addr
	j := i + 5
	switch {
	case called == uint64(j):
		if s.code[j]&0xf8 != 0x58 {
			return 0, 0, false
		}
		reg = s.code[j] & 7
		j++
	case called < uint64(len(s.code)-4) && s.code[called] == 0x8b && s.code[called+1]&0xc7 == 0x04 && s.code[called+2] == 0x24 && s.code[called+3] == 0xc3:
		reg = s.code[called+1] >> 3 & 7
	default:
		return 0, 0, false
	}
	const near = 24 // what compilers move in between
	for k := j; k < j+near && k+6 <= len(s.code); k++ {
		switch {
		case s.code[k] == 0x81 && s.code[k+1] == 0xc0|reg:
			return reg, back + le32(s.code[k+2:]), true
		case k == j && reg == 0 && s.code[k] == 0x05:
			return reg, back + le32(s.code[k+1:]), true
		case reg == 0 && s.code[k] == 0x05 && s.targets.data(uint64(back+le32(s.code[k+1:]))):
			return reg, back + le32(s.code[k+1:]), true
		}
	}
	return 0, 0, false
}
