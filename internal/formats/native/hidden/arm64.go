package hidden

import (
	"encoding/binary"
	"math/bits"
)

// arm64 carries out instructions of AArch64, as far as compilers use them to
// move, compare and combine bytes (Arm Architecture Reference Manual for
// A-profile, C4.1, whose tables the order here follows).
type arm64 struct {
	*machine
	regs  [32]uint64 // 31 is the stack pointer
	trail [32]trail
	vec   [32][2]uint64
	vtr   [32]trail
	pc    uint64

	negative, zero, carry, over bool
}

func newARM64(m *machine) cpu { return &arm64{machine: m} }

func (a *arm64) start(at uint64) {
	a.regs, a.trail, a.vec, a.vtr = [32]uint64{}, [32]trail{}, [32][2]uint64{}, [32]trail{}
	a.pc = at
	a.regs[31], a.regs[30] = stackTop, home
}

func (a *arm64) end()                  {}
func (a *arm64) where() uint64         { return a.pc }
func (a *arm64) returns()              { a.pc = a.regs[30] }
func (a *arm64) leap(to uint64)        { a.pc = to }
func (a *arm64) result(v uint64)       { a.regs[0], a.trail[0] = v, given }
func (a *arm64) argument(n int) uint64 { return a.regs[n] }

// x reads a register of which 31 is zero.
func (a *arm64) x(n uint32) uint64 {
	if n == 31 {
		return 0
	}
	return a.regs[n]
}

func (a *arm64) tr(n uint32) trail {
	if n == 31 {
		return given
	}
	return a.trail[n]
}

// put writes a register of which 31 is none.
func (a *arm64) put(n uint32, v uint64, wide bool, t trail) {
	if n == 31 {
		return
	}
	if !wide {
		v &= 0xffff_ffff
	}
	a.regs[n], a.trail[n] = v, t
}

// field returns bits lo to hi of an instruction.
func field(w uint32, hi, lo int) uint32 { return w >> lo & (1<<(hi-lo+1) - 1) }

// signed returns bits lo to hi as a signed number.
func signed(w uint32, hi, lo int) int64 {
	n := hi - lo + 1
	return int64(uint64(field(w, hi, lo))<<(64-n)) >> (64 - n)
}

func (a *arm64) step() event {
	b := a.mem.m.At(a.pc)
	if len(b) < 4 || a.pc&3 != 0 {
		return event{kind: stopped}
	}
	w := binary.LittleEndian.Uint32(b)
	known := false
	switch op := field(w, 28, 25); {
	case op>>1 == 0b100:
		known = a.immediate(w)
	case op>>1 == 0b101:
		return a.branch(w)
	case op&0b101 == 0b100:
		known = a.memory(w)
	case op&0b111 == 0b101:
		known = a.register(w)
	case op&0b111 == 0b111:
		known = a.vector(w)
	}
	if !known {
		return event{kind: stopped}
	}
	a.pc += 4
	return event{}
}

// immediate carries out what has a constant in it (C4.1.93).
func (a *arm64) immediate(w uint32) bool {
	wide := w>>31 == 1
	rd, rn := field(w, 4, 0), field(w, 9, 5)
	switch field(w, 28, 23) >> 1 {
	case 0b10000: // ADR, ADRP
		n := signed(w, 23, 5)<<2 | int64(field(w, 30, 29))
		if wide {
			a.put(rd, a.pc&^0xfff+uint64(n<<12), true, given)
		} else {
			a.put(rd, a.pc+uint64(n), true, given)
		}
		return true
	case 0b10001: // ADD, SUB
		n := uint64(field(w, 21, 10))
		if w>>22&1 == 1 {
			n <<= 12
		}
		t := a.trail[rn]
		if n != 0 {
			t = reached
		}
		a.addition(w, rd, a.regs[rn], n, t, true)
		return true
	}
	switch field(w, 28, 23) {
	case 0b100100: // AND, ORR, EOR, ANDS
		n, ok := bitmask(w>>22&1, field(w, 15, 10), field(w, 21, 16))
		if !ok {
			return false
		}
		a.logic(w, rd, rn, a.x(rn), n, a.tr(rn), given, true)
		return true
	case 0b100101: // MOVN, MOVZ, MOVK
		shift := 16 * field(w, 22, 21)
		n := uint64(field(w, 20, 5)) << shift
		switch field(w, 30, 29) {
		case 0b00:
			a.put(rd, ^n, wide, given)
		case 0b10:
			a.put(rd, n, wide, given)
		case 0b11:
			a.put(rd, a.x(rd)&^(0xffff<<shift)|n, wide, a.tr(rd))
		default:
			return false
		}
		return true
	case 0b100110: // SBFM, BFM, UBFM
		return a.bitfield(w, wide, rd, rn)
	case 0b100111: // EXTR
		rm, lsb := field(w, 20, 16), field(w, 15, 10)
		t := reached
		if wide {
			v := a.x(rm) >> lsb
			if lsb > 0 {
				v |= a.x(rn) << (64 - lsb)
			}
			a.put(rd, v, true, t)
		} else {
			a.put(rd, (a.x(rn)<<32|a.x(rm)&0xffff_ffff)>>lsb, false, t)
		}
		return true
	}
	return false
}

// bitmask decodes the constants of logical instructions (J1.1,
// DecodeBitMasks).
func bitmask(n, imms, immr uint32) (uint64, bool) {
	length := bits.Len32(n<<6|^imms&0x3f) - 1
	if length < 1 {
		return 0, false
	}
	size := uint32(1) << length
	s, r := imms&(size-1), immr&(size-1)
	if s == size-1 {
		return 0, false
	}
	v := uint64(1)<<(s+1) - 1
	if r > 0 {
		v = v>>r | v<<(size-r)
	}
	if size < 64 {
		v &= 1<<size - 1
		for ; size < 64; size *= 2 {
			v |= v << size
		}
	}
	return v, true
}

// addition is ADD, ADDS, SUB and SUBS; pointer says that register 31 is the
// stack pointer.
func (a *arm64) addition(w, rd uint32, x, y uint64, t trail, pointer bool) {
	wide := w>>31 == 1
	sub, flags := w>>30&1 == 1, w>>29&1 == 1
	r := a.sum(x, y, sub, wide, flags)
	if rd == 31 && pointer && !flags {
		a.regs[31] = r
		return
	}
	a.put(rd, r, wide, t)
}

func (a *arm64) sum(x, y uint64, sub, wide, flags bool) uint64 {
	size := 64
	if !wide {
		x, y, size = x&0xffff_ffff, y&0xffff_ffff, 32
	}
	mask := ^uint64(0) >> (64 - size)
	r := (x + y) & mask
	if sub {
		r = (x - y) & mask
	}
	if flags {
		top := uint64(1) << (size - 1)
		a.negative, a.zero = r&top != 0, r == 0
		if sub {
			a.carry, a.over = x >= y, (x^y)&(x^r)&top != 0
		} else {
			a.carry, a.over = r < x, (x^r)&(y^r)&top != 0
		}
	}
	return r
}

// logic is AND, ORR, EOR and ANDS.
func (a *arm64) logic(w, rd, rn uint32, x, y uint64, t, u trail, pointer bool) {
	wide := w>>31 == 1
	var r uint64
	switch field(w, 30, 29) {
	case 0b00, 0b11:
		r, t = x&y, max(t, u)
	case 0b01:
		r, t = x|y, max(t, u)
		if rn != 31 && x != 0 && y != 0 {
			t = reached
		}
	case 0b10:
		r, t = x^y, reached
	}
	if !wide {
		r &= 0xffff_ffff
	}
	if field(w, 30, 29) == 0b11 {
		a.negative, a.zero, a.carry, a.over = r>>63 == 1 || !wide && r>>31 == 1, r == 0, false, false
	} else if rd == 31 && pointer {
		a.regs[31] = r
		return
	}
	a.put(rd, r, wide, t)
}

func (a *arm64) bitfield(w uint32, wide bool, rd, rn uint32) bool {
	r, s := field(w, 21, 16), field(w, 15, 10)
	size := uint32(32)
	x := a.x(rn)
	if wide {
		size = 64
	} else {
		x &= 0xffff_ffff
	}
	if r >= size || s >= size {
		return false
	}
	var v, mask uint64
	if s >= r { // the bits from r to s, moved to the bottom
		n := s - r + 1
		mask = ^uint64(0) >> (64 - n)
		v = x >> r & mask
	} else { // the lowest s+1 bits, moved up
		n := s + 1
		mask = ^uint64(0) >> (64 - n) << (size - r)
		v = x << (size - r) & mask
	}
	top := bits.Len64(mask)
	t := a.tr(rn)
	if r != 0 {
		t = reached
	}
	switch field(w, 30, 29) {
	case 0b00:
		v = uint64(int64(v<<(64-top)) >> (64 - top))
	case 0b01:
		v = a.x(rd)&^mask | v
		t = max(t, a.tr(rd))
	case 0b10:
	default:
		return false
	}
	a.put(rd, v, wide, t)
	return true
}

// holds reports whether a condition is true (C1.2.4).
func (a *arm64) holds(cond uint32) bool {
	var v bool
	switch cond >> 1 {
	case 0:
		v = a.zero
	case 1:
		v = a.carry
	case 2:
		v = a.negative
	case 3:
		v = a.over
	case 4:
		v = a.carry && !a.zero
	case 5:
		v = a.negative == a.over
	case 6:
		v = a.negative == a.over && !a.zero
	default:
		return true
	}
	return v != (cond&1 == 1)
}

// branch carries out branches and hints (C4.1.94).
func (a *arm64) branch(w uint32) event {
	at := a.pc
	jump := func(taken bool, off int64) event {
		to, next := at+uint64(off*4), at+4
		if taken {
			to, next = next, to
		}
		a.pc = next
		return event{branched, to, at}
	}
	switch {
	case field(w, 30, 26) == 0b00101: // B, BL
		a.pc = at + uint64(signed(w, 25, 0)*4)
		if w>>31 == 1 {
			a.regs[30] = at + 4
			return event{called, a.pc, at}
		}
		return event{kind: jumped, to: a.pc}
	case w>>24 == 0b01010100 && w>>4&1 == 0:
		return jump(a.holds(w&15), signed(w, 23, 5))
	case field(w, 30, 25) == 0b011010: // CBZ, CBNZ
		v := a.x(w & 31)
		if w>>31 == 0 {
			v &= 0xffff_ffff
		}
		return jump((v == 0) == (w>>24&1 == 0), signed(w, 23, 5))
	case field(w, 30, 25) == 0b011011: // TBZ, TBNZ
		bit := w>>31<<5 | field(w, 23, 19)
		return jump(a.x(w&31)>>bit&1 == uint64(w>>24&1), signed(w, 18, 5))
	case w>>25 == 0b1101011: // BR, BLR, RET
		to := a.x(field(w, 9, 5))
		a.pc = to
		switch field(w, 24, 21) & 3 {
		case 0:
			return event{kind: jumped, to: to}
		case 1:
			a.regs[30] = at + 4
			return event{called, to, at}
		case 2:
			return event{kind: returned}
		}
	case w&0xfffff01f == 0xd503201f, w&0xfffff01f == 0xd503301f: // hints, barriers
		a.pc += 4
		return event{}
	case w&0xfff00000 == 0xd5300000: // MRS
		a.put(w&31, 0, true, given)
		a.pc += 4
		return event{}
	}
	return event{kind: stopped}
}

// memory carries out loads and stores (C4.1.95).
func (a *arm64) memory(w uint32) bool {
	rt, rn := field(w, 4, 0), field(w, 9, 5)
	vector := w>>26&1 == 1
	switch {
	case field(w, 29, 27) == 0b011 && field(w, 25, 24) == 0: // LDR of a literal
		size := 4 << (w >> 30)
		at := a.pc + uint64(signed(w, 23, 5)*4)
		if vector {
			a.loadVector(rt, at, size)
		} else if w>>30 == 3 {
			return true
		} else {
			v, t := a.mem.load(at, min(size, 8))
			if w>>30 == 2 {
				v, size = extend(v&0xffff_ffff, 4), 4
			}
			a.put(rt, v, true, t)
		}
		return true
	case field(w, 29, 27) == 0b101: // pairs
		return a.pair(w, vector, rt, rn)
	case field(w, 29, 27) == 0b111:
		return a.single(w, vector, rt, rn)
	case field(w, 31, 31) == 0 && field(w, 29, 23) == 0b0011000 && field(w, 21, 16) == 0, // LD1, ST1 of whole registers
		field(w, 31, 31) == 0 && field(w, 29, 23) == 0b0011001 && w>>21&1 == 0:
		n := map[uint32]int{0b0111: 1, 0b1010: 2, 0b0110: 3, 0b0010: 4}[field(w, 15, 12)]
		size := 8 << (w >> 30 & 1)
		at := a.regs[rn]
		for i := range n {
			r := (rt + uint32(i)) & 31
			if w>>22&1 == 1 {
				a.loadVector(r, at, size)
			} else {
				a.storeVector(r, at, size)
			}
			at += uint64(size)
		}
		if w>>23&1 == 1 {
			a.after(w, rn, uint64(n*size))
		}
		return n > 0
	case field(w, 31, 31) == 0 && field(w, 29, 24) == 0b001101 && field(w, 15, 12) == 0b1100 && field(w, 22, 21) == 0b10: // LD1R
		size := 1 << field(w, 11, 10)
		v, t := a.mem.load(a.regs[rn], size)
		a.duplicate(rt, v, size, w>>30&1 == 1, t)
		if w>>23&1 == 1 {
			a.after(w, rn, uint64(size))
		}
		return true
	}
	return false
}

// after moves a base register on behind what was read.
func (a *arm64) after(w, rn uint32, n uint64) {
	if rm := field(w, 20, 16); rm != 31 {
		n = a.x(rm)
	}
	a.regs[rn] += n
}

func (a *arm64) pair(w uint32, vector bool, rt, rn uint32) bool {
	rt2 := field(w, 14, 10)
	size := 4
	switch opc := w >> 30; {
	case vector:
		size = 4 << opc
	case opc == 2:
		size = 8
	}
	off := uint64(signed(w, 21, 15) * int64(size))
	at := a.regs[rn]
	mode := field(w, 24, 23)
	if mode != 1 {
		at += off
	}
	load := w>>22&1 == 1
	for i, r := range []uint32{rt, rt2} {
		to := at + uint64(i*size)
		switch {
		case vector && load:
			a.loadVector(r, to, size)
		case vector:
			a.storeVector(r, to, size)
		case load:
			v, t := a.mem.load(to, size)
			if w>>30 == 1 {
				v = extend(v, 4)
			}
			a.put(r, v, true, t)
		default:
			a.mem.store(to, a.x(r), size, a.tr(r), a.site(a.pc))
		}
	}
	if mode == 1 || mode == 3 {
		a.regs[rn] += off
	}
	return true
}

func (a *arm64) single(w uint32, vector bool, rt, rn uint32) bool {
	scale := w >> 30
	opc := field(w, 23, 22)
	size := 1 << scale
	if vector && opc >= 2 {
		size = 16
		scale = 4
	}
	at := a.regs[rn]
	write := at
	switch {
	case w>>24&1 == 1:
		at += uint64(field(w, 21, 10)) << scale
	case w>>21&1 == 1:
		if field(w, 11, 10) != 0b10 {
			return false
		}
		shift := uint32(0)
		if w>>12&1 == 1 {
			shift = scale
		}
		at += extended(a.x(field(w, 20, 16)), field(w, 15, 13)) << shift
	default:
		off := uint64(signed(w, 20, 12))
		switch field(w, 11, 10) {
		case 0b00:
			at += off
		case 0b01:
			write = at + off
		case 0b11:
			at += off
			write = at
		default:
			return false
		}
	}
	if w>>24&1 == 0 && w>>21&1 == 0 && w>>10&1 == 1 {
		defer func() { a.regs[rn] = write }()
	}
	switch {
	case vector && opc&1 == 1:
		a.loadVector(rt, at, size)
	case vector:
		a.storeVector(rt, at, size)
	case opc == 0:
		a.mem.store(at, a.x(rt), size, a.tr(rt), a.site(a.pc))
	case opc == 1:
		v, t := a.mem.load(at, size)
		a.put(rt, v, true, t)
	case size == 8: // prefetch
	default:
		v, t := a.mem.load(at, size)
		a.put(rt, extend(v, size), opc == 2, t)
	}
	return true
}

// extended is a register as an offset or operand (J1.1, ExtendReg).
func extended(v uint64, kind uint32) uint64 {
	switch kind {
	case 0, 1, 2:
		return v & ones(1<<kind)
	case 4, 5, 6:
		return extend(v, 1<<(kind-4))
	}
	return v
}

func (a *arm64) loadVector(r uint32, at uint64, size int) {
	lo, t := a.mem.load(at, min(size, 8))
	var hi uint64
	if size > 8 {
		var u trail
		hi, u = a.mem.load(at+8, 8)
		t = max(t, u)
	}
	a.vec[r], a.vtr[r] = [2]uint64{lo, hi}, t
}

func (a *arm64) storeVector(r uint32, at uint64, size int) {
	a.mem.store(at, a.vec[r][0], min(size, 8), a.vtr[r], a.site(a.pc))
	if a.vtr[r] == reached {
		a.mem.outcomes += size
	}
	if size > 8 {
		a.mem.store(at+8, a.vec[r][1], 8, a.vtr[r], a.site(a.pc))
	}
}

// register carries out what combines registers (C4.1.96).
func (a *arm64) register(w uint32) bool {
	wide := w>>31 == 1
	rd, rn, rm := field(w, 4, 0), field(w, 9, 5), field(w, 20, 16)
	switch {
	case field(w, 28, 24) == 0b01010: // logical, shifted
		y := a.shifted(w, rm, wide)
		if w>>21&1 == 1 {
			y = ^y
		}
		t := a.tr(rm)
		if field(w, 15, 10) != 0 || w>>21&1 == 1 {
			t = reached
		}
		if rn == rm && field(w, 30, 29) == 0b10 && field(w, 15, 10) == 0 {
			a.put(rd, 0, wide, given)
			return true
		}
		a.logic(w, rd, rn, a.x(rn), y, a.tr(rn), t, false)
	case field(w, 28, 24) == 0b01011 && w>>21&1 == 0:
		a.addition(w, rd, a.x(rn), a.shifted(w, rm, wide), reached, false)
	case field(w, 28, 24) == 0b01011:
		a.addition(w, rd, a.regs[rn], extended(a.x(rm), field(w, 15, 13))<<field(w, 12, 10), reached, true)
	case field(w, 28, 21) == 0b11010010: // CCMP, CCMN
		if !a.holds(field(w, 15, 12)) {
			a.negative, a.zero, a.carry, a.over = w>>3&1 == 1, w>>2&1 == 1, w>>1&1 == 1, w&1 == 1
			return true
		}
		y := uint64(rm)
		if w>>11&1 == 0 {
			y = a.x(rm)
		}
		a.sum(a.x(rn), y, w>>30&1 == 1, wide, true)
	case field(w, 28, 21) == 0b11010100: // CSEL and its like
		v, t := a.x(rn), a.tr(rn)
		if !a.holds(field(w, 15, 12)) {
			v, t = a.x(rm), a.tr(rm)
			if w>>30&1 == 1 {
				v = ^v
			}
			if w>>10&1 == 1 {
				v++
			}
		}
		a.put(rd, v, wide, t)
	case field(w, 30, 21) == 0b0011010110:
		return a.binary(w, wide, rd, rn, rm)
	case field(w, 30, 21) == 0b1011010110:
		return a.unary(w, wide, rd, rn)
	case field(w, 28, 24) == 0b11011:
		return a.product(w, wide, rd, rn, rm)
	default:
		return false
	}
	return true
}

func (a *arm64) shifted(w, rm uint32, wide bool) uint64 {
	return shiftBy(a.x(rm), field(w, 23, 22), uint64(field(w, 15, 10)), wide)
}

func shiftBy(v uint64, kind uint32, n uint64, wide bool) uint64 {
	if !wide {
		v &= 0xffff_ffff
		n &= 31
	}
	switch kind {
	case 0:
		return v << (n & 63)
	case 1:
		return v >> (n & 63)
	case 2:
		if !wide {
			v = extend(v, 4)
		}
		return uint64(int64(v) >> (n & 63))
	}
	if !wide {
		return uint64(bits.RotateLeft32(uint32(v), -int(n)))
	}
	return bits.RotateLeft64(v, -int(n))
}

func (a *arm64) binary(w uint32, wide bool, rd, rn, rm uint32) bool {
	x, y := a.x(rn), a.x(rm)
	if !wide {
		x, y = x&0xffff_ffff, y&0xffff_ffff
	}
	var v uint64
	switch op := field(w, 15, 10); op {
	case 2: // UDIV
		if y != 0 {
			v = x / y
		}
	case 3: // SDIV
		if !wide {
			x, y = extend(x, 4), extend(y, 4)
		}
		switch int64(y) {
		case 0:
		case -1:
			v = -x
		default:
			v = uint64(int64(x) / int64(y))
		}
	case 8, 9, 10, 11:
		n := y & 63
		if !wide {
			n = y & 31
		}
		v = shiftBy(x, op-8, n, wide)
	default:
		return false
	}
	a.put(rd, v, wide, reached)
	return true
}

func (a *arm64) unary(w uint32, wide bool, rd, rn uint32) bool {
	x := a.x(rn)
	var v uint64
	switch op := field(w, 15, 10); {
	case op == 0 && wide:
		v = bits.Reverse64(x)
	case op == 0:
		v = uint64(bits.Reverse32(uint32(x)))
	case op == 1:
		v = x&0x00ff00ff00ff00ff<<8 | x>>8&0x00ff00ff00ff00ff
	case op == 2 && wide:
		v = uint64(bits.ReverseBytes32(uint32(x))) | uint64(bits.ReverseBytes32(uint32(x>>32)))<<32
	case op == 2:
		v = uint64(bits.ReverseBytes32(uint32(x)))
	case op == 3:
		v = bits.ReverseBytes64(x)
	case op == 4 && wide:
		v = uint64(bits.LeadingZeros64(x))
	case op == 4:
		v = uint64(bits.LeadingZeros32(uint32(x)))
	default:
		return false
	}
	a.put(rd, v, wide, reached)
	return true
}

func (a *arm64) product(w uint32, wide bool, rd, rn, rm uint32) bool {
	ra := field(w, 14, 10)
	x, y := a.x(rn), a.x(rm)
	switch field(w, 23, 21) {
	case 0b000:
	case 0b001:
		x, y = extend(x, 4), extend(y, 4)
	case 0b101:
		x, y = x&0xffff_ffff, y&0xffff_ffff
	case 0b110: // UMULH
		h, _ := bits.Mul64(x, y)
		a.put(rd, h, true, reached)
		return true
	default:
		return false
	}
	if w>>15&1 == 1 {
		a.put(rd, a.x(ra)-x*y, wide, reached)
	} else {
		a.put(rd, a.x(ra)+x*y, wide, reached)
	}
	return true
}

// duplicate fills a vector with a value.
func (a *arm64) duplicate(rd uint32, v uint64, size int, whole bool, t trail) {
	v &= ones(size)
	for n := size; n < 8; n *= 2 {
		v |= v << (8 * n)
	}
	a.give(rd, [2]uint64{v, v}, whole, t)
}

// give writes a vector register, or its lower half and zeros.
func (a *arm64) give(rd uint32, v [2]uint64, whole bool, t trail) {
	if !whole {
		v[1] = 0
	}
	a.vec[rd], a.vtr[rd] = v, t
}

// vector carries out what combines vectors (C4.1.97).
func (a *arm64) vector(w uint32) bool {
	rd, rn, rm := field(w, 4, 0), field(w, 9, 5), field(w, 20, 16)
	whole := w>>30&1 == 1
	v, u := a.vec[rn], a.vec[rm]
	switch {
	case w&0x7f3ffc00 == 0x1e260000, w&0x7f3ffc00 == 0x1e270000: // FMOV to and from integer registers
		wide := w>>31 == 1
		if w>>16&1 == 0 {
			a.put(rd, v[0], wide, a.vtr[rn])
		} else if x := a.x(rn); wide {
			a.give(rd, [2]uint64{x}, false, a.tr(rn))
		} else {
			a.give(rd, [2]uint64{x & 0xffff_ffff}, false, a.tr(rn))
		}
		return true
	case w&0x9ff80400 == 0x0f000400: // MOVI, MVNI, ORR, BIC
		return a.constant(w, rd, whole)
	case w&0x9f800400 == 0x0f000400, w&0xdf800400 == 0x5f000400: // shifts by a constant
		return a.shiftVector(w, rd, rn, whole)
	case w&0xbfe0fc00 == 0x0e000c00: // DUP of an integer register
		size := 1 << bits.TrailingZeros32(rm|16)
		a.duplicate(rd, a.x(rn), size, whole, a.tr(rn))
		return true
	case w&0xbfe0fc00 == 0x0e000400, w&0xffe0fc00 == 0x5e000400: // DUP of an element
		size := 1 << bits.TrailingZeros32(rm|16)
		e := element(v, size, int(rm)>>bits.Len(uint(size)))
		if w>>28&1 == 1 {
			a.give(rd, [2]uint64{e}, false, a.vtr[rn])
		} else {
			a.duplicate(rd, e, size, whole, a.vtr[rn])
		}
		return true
	case w&0xbfe0fc00 == 0x0e003c00, w&0xbfe0fc00 == 0x0e002c00: // UMOV, SMOV
		size := 1 << bits.TrailingZeros32(rm|16)
		e := element(v, size, int(rm)>>bits.Len(uint(size)))
		if w>>12&1 == 0 {
			e = extend(e, size)
		}
		a.put(rd, e, whole, a.vtr[rn])
		return true
	case w&0xffe0fc00 == 0x4e001c00: // INS of an integer register
		size := 1 << bits.TrailingZeros32(rm|16)
		a.vec[rd] = insert(a.vec[rd], size, int(rm)>>bits.Len(uint(size)), a.x(rn))
		a.vtr[rd] = max(a.vtr[rd], a.tr(rn))
		return true
	case w&0xffe08400 == 0x6e000400: // INS of an element
		size := 1 << bits.TrailingZeros32(rm|16)
		e := element(v, size, int(field(w, 14, 11))/size)
		a.vec[rd] = insert(a.vec[rd], size, int(rm)>>bits.Len(uint(size)), e)
		a.vtr[rd] = max(a.vtr[rd], a.vtr[rn])
		return true
	case w&0xbfe08400 == 0x2e000000: // EXT
		a.give(rd, a.extract(v, u, int(field(w, 14, 11)), whole), whole, max(a.vtr[rn], a.vtr[rm]))
		return true
	case w&0xbfe08c00 == 0x0e000000: // TBL
		return a.lookUp(w, rd, rn, rm, whole)
	case w&0xbf208c00 == 0x0e000800: // UZP, TRN, ZIP
		return a.permute(w, rd, v, u, whole, max(a.vtr[rn], a.vtr[rm]))
	case w&0x9f3e0c00 == 0x0e200800: // two registers
		return a.twoRegisters(w, rd, rn, whole)
	case w&0x9f200400 == 0x0e200400: // three of the same
		return a.threeSame(w, rd, rn, rm, whole)
	}
	return false
}

func element(v [2]uint64, size, i int) uint64 {
	at := i * size % 16
	return v[at/8] >> (8 * (at % 8)) & ones(size)
}

func insert(v [2]uint64, size, i int, e uint64) [2]uint64 {
	at := i * size % 16
	shift := 8 * (at % 8)
	v[at/8] = v[at/8]&^(ones(size)<<shift) | e&ones(size)<<shift
	return v
}

// lanes applies f to all elements.
func lanes(v, u [2]uint64, size int, f func(a, b uint64) uint64) [2]uint64 {
	var out [2]uint64
	for i := range 16 / size {
		out = insert(out, size, i, f(element(v, size, i), element(u, size, i)))
	}
	return out
}

// constant is MOVI and MVNI (J1.1, AdvSIMDExpandImm).
func (a *arm64) constant(w, rd uint32, whole bool) bool {
	n := uint64(field(w, 18, 16)<<5 | field(w, 9, 5))
	cmode, op := field(w, 15, 12), w>>29&1
	var v uint64
	switch {
	case cmode < 8:
		v = n << (8 * (cmode >> 1))
		v |= v << 32
	case cmode < 12:
		v = n << (8 * (cmode >> 1 & 1))
		v |= v << 16
		v |= v << 32
	case cmode == 12 || cmode == 13:
		v = n<<(8<<(cmode&1)) | 1<<(8<<(cmode&1)) - 1
		v |= v << 32
	case cmode == 14 && op == 0:
		v = n * 0x0101010101010101
	case cmode == 14:
		for i := range 8 {
			if n>>i&1 == 1 {
				v |= 0xff << (8 * i)
			}
		}
		op = 0
	default:
		return false
	}
	if cmode < 12 && cmode&1 == 1 { // ORR, BIC
		old := a.vec[rd]
		if op == 1 {
			a.give(rd, [2]uint64{old[0] &^ v, old[1] &^ v}, whole, reached)
		} else {
			a.give(rd, [2]uint64{old[0] | v, old[1] | v}, whole, reached)
		}
		return true
	}
	if op == 1 {
		v = ^v
	}
	a.give(rd, [2]uint64{v, v}, whole, given)
	return true
}

func (a *arm64) shiftVector(w, rd, rn uint32, whole bool) bool {
	imm := field(w, 22, 16)
	if imm < 8 {
		return false
	}
	size := 1 << (bits.Len32(imm) - 4)
	width := 8 * size
	left, right := int(imm)-width, 2*width-int(imm)
	v, old := a.vec[rn], a.vec[rd]
	unsigned := w>>29&1 == 1
	down := func(x uint64, n int) uint64 {
		if unsigned {
			return x >> n
		}
		return uint64(int64(extend(x, size)) >> min(n, 63))
	}
	var out [2]uint64
	switch op := field(w, 15, 11); {
	case op == 0b00000: // SSHR, USHR
		out = lanes(v, v, size, func(x, _ uint64) uint64 { return down(x, right) })
	case op == 0b00010: // SSRA, USRA
		out = lanes(v, old, size, func(x, y uint64) uint64 { return y + down(x, right) })
	case op == 0b01000 && unsigned: // SRI
		out = lanes(v, old, size, func(x, y uint64) uint64 { return y&^(ones(size)>>right) | x>>right })
	case op == 0b01010 && unsigned: // SLI
		out = lanes(v, old, size, func(x, y uint64) uint64 { return y&^(ones(size)<<left) | x<<left })
	case op == 0b01010: // SHL
		out = lanes(v, v, size, func(x, _ uint64) uint64 { return x << left })
	case op == 0b10100 && size < 8: // SSHLL, USHLL
		from := 0
		if whole {
			from = 8 / size
		}
		for i := range 8 / size {
			x := element(v, size, from+i)
			if !unsigned {
				x = extend(x, size)
			}
			out = insert(out, 2*size, i, x<<left)
		}
		t := a.vtr[rn]
		if left != 0 {
			t = reached
		}
		a.give(rd, out, true, t)
		return true
	case op == 0b10000 && size < 8 && !unsigned: // SHRN
		if whole {
			out = old
		}
		for i := range 8 / size {
			at := i
			if whole {
				at += 8 / size
			}
			out = insert(out, size, at, element(v, 2*size, i)>>right)
		}
		a.give(rd, out, whole, reached)
		return true
	default:
		return false
	}
	if w>>28&1 == 1 { // of one element
		whole, out[1] = false, 0
	}
	a.give(rd, out, whole, reached)
	return true
}

func (a *arm64) extract(v, u [2]uint64, from int, whole bool) [2]uint64 {
	size := 8
	if whole {
		size = 16
	}
	vb, ub := bytesOf(v), bytesOf(u)
	both := append(append([]byte{}, vb[:size]...), ub[:size]...)
	var out [16]byte
	copy(out[:size], both[from:])
	return fromBytes(out)
}

func (a *arm64) lookUp(w, rd, rn, rm uint32, whole bool) bool {
	var table []byte
	for i := range field(w, 14, 13) + 1 {
		b := bytesOf(a.vec[(rn+i)&31])
		table = append(table, b[:]...)
	}
	var out [16]byte
	if w>>12&1 == 1 { // TBX
		out = bytesOf(a.vec[rd])
	}
	for i, n := range bytesOf(a.vec[rm]) {
		if int(n) < len(table) {
			out[i] = table[n]
		} else if w>>12&1 == 0 {
			out[i] = 0
		}
	}
	a.give(rd, fromBytes(out), whole, max(a.vtr[rn], a.vtr[rm]))
	return true
}

func (a *arm64) permute(w, rd uint32, v, u [2]uint64, whole bool, t trail) bool {
	size := 1 << field(w, 23, 22)
	n := 8 / size
	if whole {
		n *= 2
	}
	var out [2]uint64
	second := int(w >> 14 & 1)
	both := func(i int) uint64 {
		if i < n {
			return element(v, size, i)
		}
		return element(u, size, i-n)
	}
	for i := range n {
		var e uint64
		switch field(w, 13, 12) {
		case 0b01: // UZP
			e = both(2*i + second)
		case 0b10: // TRN
			e = both(i/2*2 + second + i%2*n)
		case 0b11: // ZIP
			e = both(i/2 + second*n/2 + i%2*n)
		default:
			return false
		}
		out = insert(out, size, i, e)
	}
	a.give(rd, out, whole, t)
	return true
}

func (a *arm64) twoRegisters(w, rd, rn uint32, whole bool) bool {
	size := 1 << field(w, 23, 22)
	v := a.vec[rn]
	var out [2]uint64
	switch op := w>>29&1<<5 | field(w, 16, 12); {
	case op == 0b000000, op == 0b100000, op == 0b000001: // REV64, REV32, REV16
		group := map[uint32]int{0b000000: 8, 0b100000: 4, 0b000001: 2}[op] / size
		for i := range 16 / size {
			out = insert(out, size, i/group*group+group-1-i%group, element(v, size, i))
		}
		a.give(rd, out, whole, a.vtr[rn])
		return true
	case op == 0b100101 && size == 1: // NOT
		out = lanes(v, v, 8, func(x, _ uint64) uint64 { return ^x })
	case op == 0b100101: // RBIT
		out = lanes(v, v, 1, func(x, _ uint64) uint64 { return uint64(bits.Reverse8(uint8(x))) })
	case op == 0b101011: // NEG
		out = lanes(v, v, size, func(x, _ uint64) uint64 { return -x })
	case op == 0b010010 && size < 8: // XTN
		at := 0
		if whole {
			out, at = a.vec[rd], 8/size
		}
		for i := range 8 / size {
			out = insert(out, size, at+i, element(v, 2*size, i))
		}
		a.give(rd, out, whole, a.vtr[rn])
		return true
	default:
		return false
	}
	a.give(rd, out, whole, reached)
	return true
}

func (a *arm64) threeSame(w, rd, rn, rm uint32, whole bool) bool {
	size := 1 << field(w, 23, 22)
	v, u, old := a.vec[rn], a.vec[rm], a.vec[rd]
	t := reached
	var out [2]uint64
	each := func(f func(x, y, z uint64) uint64) {
		out = [2]uint64{f(v[0], u[0], old[0]), f(v[1], u[1], old[1])}
	}
	upper := w>>29&1 == 1
	switch op := field(w, 15, 11); {
	case op == 0b00011 && !upper:
		each(func(x, y, _ uint64) uint64 {
			switch size {
			case 1:
				return x & y
			case 2:
				return x &^ y
			case 4:
				return x | y
			}
			return x | ^y
		})
		if t = max(a.vtr[rn], a.vtr[rm]); size == 8 || size == 4 && rn != rm {
			t = reached
		}
	case op == 0b00011:
		each(func(x, y, z uint64) uint64 {
			switch size {
			case 1:
				return x ^ y
			case 2: // BSL
				return y ^ (y^x)&z
			case 4: // BIT
				return z ^ (z^x)&y
			}
			return z ^ (z^x)&^y // BIF
		})
	case op == 0b10000 && upper:
		out = lanes(v, u, size, func(x, y uint64) uint64 { return x - y })
	case op == 0b10000:
		out = lanes(v, u, size, func(x, y uint64) uint64 { return x + y })
	case op == 0b10011 && !upper:
		out = lanes(v, u, size, func(x, y uint64) uint64 { return x * y })
	case op == 0b10010 && !upper: // MLA
		part := lanes(v, u, size, func(x, y uint64) uint64 { return x * y })
		out = lanes(part, old, size, func(x, y uint64) uint64 { return x + y })
	case op == 0b01000: // SSHL, USHL
		out = lanes(v, u, size, func(x, y uint64) uint64 {
			n := int8(y)
			switch {
			case n >= 0:
				return x << n
			case upper:
				return x >> -int(n)
			}
			return uint64(int64(extend(x, size)) >> min(-int(n), 63))
		})
	case op == 0b10001 && upper: // CMEQ
		out = lanes(v, u, size, func(x, y uint64) uint64 {
			if x == y {
				return ^uint64(0)
			}
			return 0
		})
	case op == 0b00110 && upper, op == 0b00111 && upper: // CMHI, CMHS
		out = lanes(v, u, size, func(x, y uint64) uint64 {
			if x > y || op&1 == 1 && x == y {
				return ^uint64(0)
			}
			return 0
		})
	default:
		return false
	}
	a.give(rd, out, whole, t)
	return true
}

// arm64 goes through the instructions of a function of AArch64 by their kind.
func (g *glance) arm64(b []byte, at uint64) {
	for i := 0; i+4 <= len(b); i += 4 {
		w := binary.LittleEndian.Uint32(b[i:])
		switch w >> 24 & 0x1f {
		case 0x14, 0x15, 0x16, 0x17, 0x10, 0x11, 0x12, 0x13, 0x0a, 0x0b, 0x18, 0x19, 0x08, 0x09, 0x0d, 0x0c, 0x0e, 0x0f, 0x1b, 0x1c, 0x1d:
		default:
			continue
		}
		rt := w & 31
		switch {
		case w&0xff000010 == 0x54000000, w&0x7e000000 == 0x34000000: // B.cond, CBZ, CBNZ
			g.jump(i, i+int(signed(w, 23, 5))*4)
		case w&0x7e000000 == 0x36000000: // TBZ, TBNZ
			g.jump(i, i+int(signed(w, 18, 5))*4)
		case w>>26 == 0b000101:
			g.jump(i, i+int(signed(w, 25, 0))*4)
		case w&0x9f000000 == 0x90000000: // ADRP
			g.pages[rt], g.paged = (at+uint64(i))&^0xfff+uint64((signed(w, 23, 5)<<2|int64(field(w, 30, 29)))<<12), g.paged|1<<rt
		case w&0x7f800000 == 0x52800000: // MOVZ
			g.values[rt], g.known = uint32(uint64(w>>5&0xffff)<<(16*(w>>21&1))), g.known|1<<rt
		case w&0x7f800000 == 0x72800000: // MOVK
			shift := 16 * (w >> 21 & 1)
			g.values[rt] = g.values[rt]&^(0xffff<<shift) | w>>5&0xffff<<shift
			if shift > 0 {
				g.constant(i, binary.LittleEndian.AppendUint32(nil, g.values[rt]))
			}
		case w&0xfec00000 == 0x38000000: // STRB
			g.wrote(i, 1)
			if g.known>>rt&1 != 0 {
				g.constant(i, []byte{byte(g.values[rt])})
			}
		case w&0xfec00000 == 0x78000000: // STRH
			if g.known>>rt&1 != 0 {
				g.constant(i, []byte{byte(g.values[rt]), byte(g.values[rt] >> 8)})
			}
		case w&0xfe400000 == 0x38400000, w&0xfe800000 == 0x38800000: // LDRB, LDRSB
			if w&0xff600c00 == 0x38400c00 || w&0xff600c00 == 0x38400400 { // that steps down
				if w>>20&1 != 0 {
					g.combines = i
				}
			}
			g.reads = i
		case w&0x3e400000 == 0x2c000000, w&0x3e400000 == 0x3c000000: // stores of vectors
			g.wrote(i, 8)
		case w&0x3e400000 == 0x2c400000, w&0x3e400000 == 0x3c400000: // loads of vectors
			g.reads = i
			if rn := w >> 5 & 31; w>>24&1 == 1 && w>>28&3 == 3 && g.paged>>rn&1 != 0 {
				size := 1 << (w>>30 | w>>23&1<<2)
				g.loaded(g.pages[rn]+uint64(w>>10&0xfff)*uint64(size), size)
			}
		case w&0x7f200000 == 0x4a000000 && w>>16&31 != w>>5&31, w&0x7f800000 == 0x52000000, // EOR
			w&0x7f200000 == 0x4a200000, w&0x7f200000 == 0x2a200000, // EON, ORN
			w&0xbf000000 == 0x0b000000, // ADD, SUB of 32 bits
			w&0xbf000000 == 0x11000000 && w>>10&0xfff != 1, w&0x7f000000 == 0x51000000,
			w&0xfffffc00 == 0xd1000400, // and those of 64 bits that step down
			w&0x7f800000 == 0x53000000 && w>>16&63 != 0, w&0x7f800000 == 0x13000000 && w>>16&63 != 0, w&0x7f800000 == 0x33000000,
			w&0x7fa00000 == 0x13800000, // EXTR
			w&0x7fe0f000 == 0x1ac02000, // shifts
			w&0x9f200400 == 0x0e200400, w&0x9f800400 == 0x0f000400, w&0x9f3e0c00 == 0x0e200800:
			g.combines = i
		}
	}
}
