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
