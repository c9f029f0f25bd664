package value

import "math/bits"

// decodeThumb decodes one Thumb instruction. Encodings are those of the Arm
// Architecture Reference Manual, ARMv7-A and ARMv7-R edition, A6.
func decodeThumb(d *decoder, code []byte, addr uint64) (inst, bool) {
	if len(code) < 2 {
		return inst{}, false
	}
	h := uint32(little(code[:2]))
	in := inst{size: 2, via: none, a: none, b: none}
	first, conditional := len(d.ops), d.it > 0
	if conditional {
		d.it--
	}
	if h>>11 >= 0x1d {
		if len(code) < 4 {
			return inst{}, false
		}
		in.size = 4
		d.wide(h, uint32(little(code[2:4])), addr+4, &in)
	} else {
		d.narrow(h, addr+4, &in)
	}
	if conditional {
		d.doubt(first, &in, other)
	}
	return in, true
}

// narrow is A6.2 "16-bit Thumb instruction encoding".
func (d *decoder) narrow(h uint32, pc uint64, in *inst) {
	low := uint8(h & 7)
	mid := uint8(h >> 3 & 7)
	high := uint8(h >> 8 & 7)
	imm5 := int64(h >> 6 & 31)
	switch h >> 11 {
	case 0: // LSL, and MOV as LSL by 0
		if imm5 == 0 {
			d.copy(low, mid, 4)
		} else {
			d.alu(opShl, low, mid, none, imm5, 4)
		}
		d.outcomeOf(low)
	case 1: // LSR
		d.alu(opShr, low, mid, none, imm5, 4)
		d.outcomeOf(low)
	case 2: // ASR
		d.kill(low)
		d.outcomeOf(low)
	case 3: // ADD, SUB
		n := uint8(h >> 6 & 7)
		switch h >> 9 & 3 {
		case 0:
			d.alu(opAdd, low, mid, n, 0, 4)
		case 1:
			d.alu(opSub, low, mid, n, 0, 4)
		case 2:
			d.offset(low, mid, int64(n), 4)
		case 3:
			d.offset(low, mid, -int64(n), 4)
		}
		d.outcomeOf(low)
	case 4: // MOV
		d.set(high, int64(h&0xff), 4)
	case 5: // CMP
		d.add(op{kind: opCompare, a: high, b: none, imm: int64(h & 0xff)})
	case 6: // ADD
		d.offset(high, high, int64(h&0xff), 4)
		d.outcomeOf(high)
	case 7: // SUB
		d.offset(high, high, -int64(h&0xff), 4)
		d.outcomeOf(high)
	case 8:
		if h>>10&1 == 0 {
			d.narrowData(h, low, mid, in)
		} else {
			d.special(h, pc, in)
		}
	case 9: // LDR literal
		d.address(temp, pc&^3+uint64(h&0xff)*4)
		d.load(high, temp, 0, 4)
	case 10, 11: // with a register
		kinds := [8]struct {
			size       uint8
			load, sign bool
		}{{4, false, false}, {2, false, false}, {1, false, false}, {1, true, true}, {4, true, false}, {2, true, false}, {1, true, false}, {2, true, true}}
		k := kinds[h>>9&7]
		d.alu(opAdd, temp, mid, uint8(h>>6&7), 0, 4)
		d.plain(low, temp, 0, k.size, k.load, k.sign)
	case 12, 13:
		d.plain(low, mid, imm5*4, 4, h>>11&1 != 0, false)
	case 14, 15:
		d.plain(low, mid, imm5, 1, h>>11&1 != 0, false)
	case 16, 17:
		d.plain(low, mid, imm5*2, 2, h>>11&1 != 0, false)
	case 18, 19:
		d.plain(high, 13, int64(h&0xff)*4, 4, h>>11&1 != 0, false)
	case 20: // ADR
		d.address(high, pc&^3+uint64(h&0xff)*4)
	case 21: // ADD to SP
		d.offset(high, 13, int64(h&0xff)*4, 4)
	case 22, 23:
		d.miscellaneous(h, pc, in)
	case 24, 25: // STM, LDM
		w := 1<<23 | uint32(high)<<16 | h&0xff
		if h>>11&1 != 0 {
			w |= 1 << 20
		}
		if h>>11&1 == 0 || h>>high&1 == 0 {
			w |= 1 << 21
		}
		d.multiple(w, in)
	case 26, 27:
		switch c := h >> 8 & 15; c {
		case 14:
			in.flow = Stop
		case 15:
			in.flow = Syscall
		default:
			in.flow, in.cond, in.target = Branch, armConditions[c], pc+uint64(signed(h, 8)<<1)
		}
	case 28:
		in.flow, in.target = Jump, pc+uint64(signed(h, 11)<<1)
	}
}

func (d *decoder) outcomeOf(reg uint8) { d.add(op{kind: opOutcome, a: reg}) }

// plain is a load or store that does not move its base.
func (d *decoder) plain(rt, base uint8, off int64, size uint8, load, sign bool) {
	if !load {
		d.store(base, off, rt, size)
		return
	}
	d.load(rt, base, off, size)
	d.extend(rt, size, sign)
}

func (d *decoder) narrowData(h uint32, low, mid uint8, in *inst) {
	kinds := [16]dataOp{andOp, eorOp, anyOp, anyOp, anyOp, anyOp, anyOp, anyOp, tstOp, rsbOp, cmpOp, cmnOp, orrOp, anyOp, bicOp, mvnOp}
	kind := kinds[h>>6&15]
	if kind == rsbOp { // from 0
		d.alu(opSub, low, zero, mid, 0, 4)
		d.outcomeOf(low)
		return
	}
	d.data(kind, low, low, mid, 0, kind != tstOp && kind != cmpOp && kind != cmnOp, in)
}

// special is A6.2.3 "Special data instructions and branch and exchange".
func (d *decoder) special(h uint32, pc uint64, in *inst) {
	rd, rm := uint8(h>>4&8|h&7), h>>3&15
	switch h >> 8 & 3 {
	case 0:
		b := d.source(rm, pc, temp2)
		if rd == armPC {
			in.flow = Jump
			d.kill(temp)
			in.via = temp
			return
		}
		d.alu(opAdd, rd, rd, b, 0, 4)
	case 1:
		d.add(op{kind: opCompare, a: rd, b: uint8(rm)})
	case 2:
		d.data(movOp, rd, none, d.source(rm, pc, temp2), 0, false, in)
	case 3:
		d.exchange(uint8(rm), h>>7&1 != 0, in)
	}
}

// miscellaneous is A6.2.5 "Miscellaneous 16-bit instructions".
func (d *decoder) miscellaneous(h uint32, pc uint64, in *inst) {
	switch {
	case h>>8 == 0xb0: // ADD, SUB to SP
		n := int64(h&0x7f) * 4
		if h>>7&1 != 0 {
			n = -n
		}
		d.offset(13, 13, n, 4)
	case h&0xf500 == 0xb100: // CBZ, CBNZ
		in.flow, in.cond, in.a, in.b = Branch, equal, uint8(h&7), zero
		if h>>11&1 != 0 {
			in.cond = unequal
		}
		in.target = pc + uint64(h>>3&0x40|h>>2&0x3e)
	case h&0xfe00 == 0xb400: // PUSH
		d.multiple(1<<24|1<<21|13<<16|h&0xff|h>>8&1<<14, in)
	case h&0xfe00 == 0xbc00: // POP
		d.multiple(1<<23|1<<21|1<<20|13<<16|h&0xff|h>>8&1<<15, in)
	case h&0xff00 == 0xbf00: // IT, hints
		if mask := h & 15; mask != 0 {
			d.it = 4 - bits.TrailingZeros32(mask)
		}
	case h&0xff00 == 0xbe00: // BKPT
		in.flow = Stop
	case h&0xff00 == 0xb200: // SXTH, SXTB, UXTH, UXTB
		size := uint8(2)
		if h>>6&1 != 0 {
			size = 1
		}
		d.copy(temp, uint8(h>>3&7), size)
		d.extend(temp, size, h>>7&1 == 0)
		d.copy(uint8(h&7), temp, 4)
	case h&0xff00 == 0xba00: // REV
		d.kill(uint8(h & 7))
	}
}

// thumbOps are the operations on a modified immediate or a shifted register, by
// their number.
var thumbOps = [16]dataOp{andOp, bicOp, orrOp, anyOp, eorOp, anyOp, anyOp, anyOp, addOp, anyOp, anyOp, anyOp, anyOp, subOp, rsbOp, anyOp}

// expandThumb is ThumbExpandImm.
func expandThumb(n uint32) int64 {
	b := n & 0xff
	switch n >> 8 & 15 {
	case 0:
		return int64(b)
	case 1:
		return int64(b | b<<16)
	case 2:
		return int64(b<<8 | b<<24)
	case 3:
		return int64(b | b<<8 | b<<16 | b<<24)
	}
	return int64(bits.RotateLeft32(b|0x80, -int(n>>7&31)))
}

// wide is A6.3 "32-bit Thumb instruction encoding".
func (d *decoder) wide(h, g uint32, pc uint64, in *inst) {
	rn, rd := uint8(h&15), uint8(g>>8&15)
	imm12 := h>>10&1<<11 | g>>4&0x700 | g&0xff
	switch {
	case h>>11 == 0x1e && g>>15 != 0:
		d.wideBranch(h, g, pc, in)
	case h>>11 == 0x1e && h>>9&1 == 0:
		d.wideData(thumbOps[h>>5&15], rd, rn, none, expandThumb(imm12), h>>4&1 != 0, h>>5&15, in)
	case h>>11 == 0x1e:
		d.binary(h, g, pc, rn, rd, imm12)
	case h>>9 == 0x74 && h>>6&1 == 0: // LDM, STM
		d.multiple(h<<16&0x01bf0000|g, in)
	case h>>9 == 0x74:
		d.double(h, g, pc, in)
	case h>>9 == 0x75: // shifted register
		rm := uint8(g & 15)
		if shift := g>>10&0x1c | g>>6&3; shift != 0 || g>>4&3 != 0 {
			if g>>4&3 == 0 {
				d.alu(opShl, temp2, rm, none, int64(shift), 4)
			} else {
				d.kill(temp2)
			}
			rm = temp2
		}
		d.wideData(thumbOps[h>>5&15], rd, rn, rm, 0, h>>4&1 != 0, h>>5&15, in)
	case h>>10 == 0x3b || h>>10 == 0x3f: // coprocessor
		w := h<<16 | g
		if h>>12&1 == 0 {
			d.coprocessor(w, pc&^3)
		}
	case h>>8 == 0xf9 && h>>4&1 == 0 && h>>9 == 0x7c: // VLD1, VST1
		d.elements(h<<16 | g)
	case h>>9 == 0x7c:
		if h>>8&1 != 0 && h>>4&1 == 0 {
			d.elements(h<<16 | g)
			return
		}
		d.single(h, g, pc, in)
	case h>>8 == 0xfa: // extend, shift by a register
		if g&0xf0c0 == 0xf080 && h>>7&1 == 0 && rn == 15 && g>>4&3 == 0 { // SXTH … UXTB
			size := uint8(2)
			if h>>5&3 == 2 {
				size = 1
			}
			d.copy(temp, uint8(g&15), size)
			d.extend(temp, size, h>>4&1 == 0)
			d.copy(rd, temp, 4)
			return
		}
		d.kill(rd)
		if h>>4&1 != 0 && h>>7&1 == 0 {
			d.unflag()
		}
	default: // multiply, divide
		d.kill(rd)
		if g>>12&15 != 15 {
			d.kill(uint8(g >> 12 & 15))
		}
	}
}

// wideData is an operation on a modified immediate or a shifted register, with
// the forms that have names of their own.
func (d *decoder) wideData(kind dataOp, rd, rn, rm uint8, imm int64, flags bool, number uint32, in *inst) {
	switch {
	case number == 2 && rn == 15:
		kind = movOp
	case number == 3 && rn == 15:
		kind = mvnOp
	case rd == 15 && flags:
		switch number {
		case 0:
			kind = tstOp
		case 4:
			kind = teqOp
		case 8:
			kind = cmnOp
		case 13:
			kind = cmpOp
		}
	}
	if rd == armPC && kind != tstOp && kind != teqOp && kind != cmnOp && kind != cmpOp {
		return // unpredictable
	}
	d.data(kind, rd, rn, rm, imm, flags, in)
}

// binary is A6.3.3 "Data-processing (plain binary immediate)".
func (d *decoder) binary(h, g uint32, pc uint64, rn, rd uint8, imm12 uint32) {
	imm16 := h&15<<12 | imm12
	switch h >> 4 & 31 {
	case 0, 10: // ADD, SUB, ADR
		n := int64(imm12)
		if h>>4&31 == 10 {
			n = -n
		}
		if rn == 15 {
			d.address(rd, pc&^3+uint64(n))
		} else {
			d.offset(rd, rn, n, 4)
		}
	case 4:
		d.set(rd, int64(imm16), 4)
	case 12:
		d.add(op{kind: opInsert, dst: rd, size: 2, imm: 16<<32 | int64(imm16)})
	default:
		d.kill(rd)
	}
}

// wideBranch is A6.3.4 "Branches and miscellaneous control".
func (d *decoder) wideBranch(h, g uint32, pc uint64, in *inst) {
	s, j1, j2 := h>>10&1, g>>13&1, g>>11&1
	long := signed(s<<24|(j1^s^1)<<23|(j2^s^1)<<22|h&0x3ff<<12|g&0x7ff<<1, 25)
	switch {
	case g>>12&5 == 5: // BL
		in.flow, in.target = Call, pc+uint64(long)
	case g>>12&5 == 4: // BLX
		in.flow, in.target = Call, (pc&^3+uint64(long))&^3
	case g>>12&5 == 1: // B
		in.flow, in.target = Jump, pc+uint64(long)
	case h>>7&7 != 7: // B<c>
		in.flow, in.cond = Branch, armConditions[h>>6&15]
		in.target = pc + uint64(signed(s<<20|j2<<19|j1<<18|h&0x3f<<12|g&0x7ff<<1, 21))
	case h == 0xf3ef: // MRS
		d.kill(uint8(g >> 8 & 15))
	case h>>4 == 0xf7f: // UDF
		in.flow = Stop
	}
}

// double is A6.3.6 "Load/store dual, load/store exclusive, table branch".
func (d *decoder) double(h, g uint32, pc uint64, in *inst) {
	rt, rt2 := uint8(g>>12&15), uint8(g>>8&15)
	switch {
	case h>>4 == 0xe8d && g>>5&7 == 0: // TBB, TBH
		in.flow = Jump
		d.kill(temp)
		in.via = temp
	case h>>8&1 == 0 && h>>5&1 == 0: // exclusive
		if h>>4&1 != 0 {
			d.kill(rt)
		} else {
			d.kill(uint8(g & 15))
			d.kill(rt2)
		}
	default: // LDRD, STRD
		w := h << 16
		off := int64(g&0xff) * 4
		base := d.source(h, pc&^3, temp)
		at := d.index(w, base, off)
		if h>>4&1 != 0 {
			d.copy(temp2, base, 0)
			d.load(rt, temp2, at, 4)
			d.load(rt2, temp2, at+4, 4)
		} else {
			d.store(base, at, rt, 4)
			d.store(base, at+4, rt2, 4)
		}
		d.after(w, base, off)
	}
}

// single is A6.3.7 to A6.3.10: loads and stores of one register.
func (d *decoder) single(h, g uint32, pc uint64, in *inst) {
	rt := uint8(g >> 12 & 15)
	size, load, sign := uint8(1)<<(h>>5&3), h>>4&1 != 0, h>>8&1 != 0
	if size > 4 {
		d.kill(rt)
		return
	}
	base, off := d.source(h, pc&^3, temp), int64(0)
	w := uint32(1<<24 | 1<<23) // an offset, upwards
	switch {
	case h&15 == 15: // literal
		off = int64(g & 0xfff)
		w = 1<<24 | h>>7&1<<23
	case h>>7&1 != 0:
		off = int64(g & 0xfff)
	case g>>11&1 != 0:
		off = int64(g & 0xff)
		w = g>>10&1<<24 | g>>9&1<<23 | g>>8&1<<21
		if w>>24&1 != 0 && w>>21&1 == 0 && w>>23&1 != 0 { // unprivileged
			w = 1<<24 | 1<<23
		}
	default:
		d.alu(opAdd, temp, base, uint8(g&15), int64(g>>4&3), 4)
		base = temp
	}
	if load && rt == armPC {
		if size < 4 {
			return // a preload
		}
		d.access(w, base, temp2, off, 4, true, false)
		in.flow, in.via = Jump, temp2
		if base == 13 {
			in.flow, in.via = Return, none
		}
		return
	}
	d.access(w, base, rt, off, size, load, sign)
}
