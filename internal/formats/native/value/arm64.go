package value

var machineARM64 = machine{
	decode: decodeARM64,
	step:   4, word: 8, sp: 31, fp: 29,
	names: [32]string{"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19",
		"x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "sp"},
}

// signed returns the low bits of n as a signed number.
func signed(n uint32, bits int) int64 { return int64(int32(n<<(32-bits)) >> (32 - bits)) }

// pageOf returns the address that an ADRP or ADR at addr forms.
func pageOf(w uint32, addr uint64) int64 {
	imm := signed(w>>5&0x7ffff<<2|w>>29&3, 21)
	if w>>31 != 0 {
		return int64(addr&^0xfff) + imm<<12
	}
	return int64(addr) + imm
}

// gpr returns a register where 31 stands for zero.
func gpr(n uint32) uint8 {
	if n &= 31; n == 31 {
		return zero
	}
	return uint8(n)
}

// conditions of the Arm instruction sets, by their number.
var armConditions = [16]cond{equal, unequal, greaterEqual, less, negative, positive, other, other, greater, lessEqual, greaterEqual, less, greater, lessEqual, always, always}

// decodeARM64 decodes one instruction. Encodings are those of the Arm
// Architecture Reference Manual for A-profile, C4.1 "A64 instruction set
// encoding".
func decodeARM64(d *decoder, code []byte, addr uint64) (inst, bool) {
	if len(code) < 4 {
		return inst{}, false
	}
	w := uint32(little(code[:4]))
	in := inst{size: 4, via: none, a: none, b: none}
	switch w >> 25 & 15 {
	case 8, 9:
		d.immediateARM64(w, addr)
	case 10, 11:
		d.branchARM64(w, addr, &in)
	case 4, 6, 12, 14:
		d.memoryARM64(w, addr)
	case 5, 13:
		d.registerARM64(w, addr)
	case 7, 15:
		d.vectorARM64(w)
	default:
		if w == 0 || w>>16 == 0 { // UDF
			in.flow = Stop
		}
	}
	return in, true
}

// width returns the bytes of the registers that an instruction works on.
func width(w uint32) uint8 {
	if w>>31 != 0 {
		return 8
	}
	return 4
}

// immediateARM64 is C4.1 "Data processing -- immediate".
func (d *decoder) immediateARM64(w uint32, addr uint64) {
	size := width(w)
	switch w >> 23 & 7 {
	case 0, 1: // ADR, ADRP
		d.address(gpr(w), uint64(pageOf(w, addr)))
	case 2: // ADD, SUB, ADDS, SUBS
		imm := int64(w >> 10 & 0xfff)
		if w>>22&1 != 0 {
			imm <<= 12
		}
		rn := uint8(w >> 5 & 31)
		if w>>29&1 != 0 { // sets flags
			if w>>30&1 != 0 {
				d.add(op{kind: opCompare, a: rn, b: none, imm: imm})
			} else {
				d.add(op{kind: opCompare, a: rn, b: none, imm: -imm})
			}
			if w&31 == 31 {
				return
			}
		}
		if w>>30&1 != 0 {
			imm = -imm
		}
		d.offset(uint8(w&31), rn, imm, size)
	case 4: // AND, ORR, EOR, ANDS
		d.logicalARM64(w, size)
	case 5: // MOVN, MOVZ, MOVK
		shift := w >> 21 & 3 * 16
		imm := int64(uint64(w>>5&0xffff) << shift)
		switch w >> 29 & 3 {
		case 0:
			d.set(gpr(w), ^imm, size)
		case 2:
			d.set(gpr(w), imm, size)
		case 3:
			d.add(op{kind: opInsert, dst: gpr(w), size: 2, imm: int64(shift)<<32 | int64(w>>5&0xffff)})
		}
	case 6: // SBFM, BFM, UBFM
		d.bitfieldARM64(w, size)
	default:
		d.kill(gpr(w))
	}
}

func (d *decoder) logicalARM64(w uint32, size uint8) {
	mask, ok := bitmask(w>>22&1, w>>10&63, w>>16&63)
	if !ok {
		d.kill(gpr(w))
		return
	}
	mask = cut(mask, int64(size))
	dst := uint8(w & 31)
	switch w >> 29 & 3 {
	case 0:
		d.alu(opAnd, dst, gpr(w>>5), none, mask, size)
	case 1:
		d.alu(opOr, dst, gpr(w>>5), none, mask, size)
	case 2:
		d.alu(opXor, dst, gpr(w>>5), none, mask, size)
	case 3:
		d.add(op{kind: opTest, a: gpr(w >> 5), b: none, imm: mask})
		if dst != 31 {
			d.alu(opAnd, dst, gpr(w>>5), none, mask, size)
		}
	}
}

// bitmask is DecodeBitMasks of the manual's shared pseudocode: a run of ones,
// rotated, repeated.
func bitmask(n, imms, immr uint32) (int64, bool) {
	length := 6
	if n == 0 {
		length = 5
		for ; length >= 1 && imms>>length&1 != 0; length-- {
		}
		if length < 1 {
			return 0, false
		}
	}
	size := uint(1) << length
	levels := uint32(size - 1)
	if imms&levels == levels {
		return 0, false
	}
	ones, turn := uint(imms&levels)+1, uint(immr&levels)
	run := uint64(1)<<ones - 1
	all := ^uint64(0) >> (64 - size)
	run = (run>>turn | run<<(size-turn)) & all
	for ; size < 64; size *= 2 {
		run |= run << size
	}
	return int64(run), true
}

func (d *decoder) bitfieldARM64(w uint32, size uint8) {
	bits := uint32(size) * 8
	immr, imms := w>>16&63, w>>10&63
	dst, src := gpr(w), gpr(w>>5)
	switch {
	case w>>29&3 == 2 && imms+1 == immr && imms != bits-1: // LSL
		d.alu(opShl, dst, src, none, int64(bits-immr), size)
	case w>>29&3 == 2 && imms == bits-1: // LSR
		d.copy(temp, src, size)
		d.alu(opShr, dst, temp, none, int64(immr), size)
	case w>>29&3 != 1 && immr == 0 && (imms == 7 || imms == 15 || imms == 31): // UXTB … SXTW
		n := uint8(imms+1) / 8
		d.copy(temp, src, n)
		if w>>29&3 == 0 {
			d.add(op{kind: opSigned, dst: temp, size: n})
		}
		d.copy(dst, temp, size)
	default:
		d.kill(dst)
	}
}

// branchARM64 is C4.1 "Branches, exception generating and system instructions".
func (d *decoder) branchARM64(w uint32, addr uint64, in *inst) {
	switch {
	case w&0x7c000000 == 0x14000000: // B, BL
		in.flow, in.target = Jump, addr+uint64(signed(w, 26)<<2)
		if w>>31 != 0 {
			in.flow = Call
		}
	case w&0xfe000000 == 0x54000000: // B.cond
		in.flow, in.cond = Branch, armConditions[w&15]
		if in.cond == always {
			in.flow = Jump
		}
		in.target = addr + uint64(signed(w>>5, 19)<<2)
	case w&0x7e000000 == 0x34000000: // CBZ, CBNZ
		in.flow, in.cond, in.a, in.b = Branch, equal, gpr(w), zero
		if w>>24&1 != 0 {
			in.cond = unequal
		}
		in.target = addr + uint64(signed(w>>5, 19)<<2)
	case w&0x7e000000 == 0x36000000: // TBZ, TBNZ
		in.flow, in.cond, in.a, in.bit = Branch, equal, gpr(w), true
		in.imm = int64(w>>31<<5 | w>>19&31)
		if w>>24&1 != 0 {
			in.cond = unequal
		}
		in.target = addr + uint64(signed(w>>5, 14)<<2)
	case w&0xfe000000 == 0xd6000000: // BR, BLR, RET and their authenticating forms
		in.via = gpr(w >> 5)
		switch w >> 21 & 7 {
		case 0:
			in.flow = Jump
		case 1:
			in.flow = Call
		default:
			in.flow, in.via = Return, none
		}
	case w&0xffe0001f == 0xd4000001: // SVC
		in.flow = Syscall
	case w&0xffe0001f == 0xd4200000: // BRK
		in.flow = Stop
	case w&0xfff00000 == 0xd5300000: // MRS
		d.kill(gpr(w))
	case w&0xffff0000 == 0xd5030000: // hints, barriers; among them PACIBSP
	}
}

// memoryARM64 is C4.1 "Loads and stores".
func (d *decoder) memoryARM64(w uint32, addr uint64) {
	simd := w>>26&1 != 0
	rn, rt := uint8(w>>5&31), gpr(w)
	if simd {
		rt = vector + uint8(w&31)
	}
	switch {
	case w>>27&7 == 3 && w>>24&1 == 0: // literal
		size := uint8(4) << (w >> 30)
		if w>>30 == 3 || w>>30 == 2 && !simd { // PRFM, LDRSW
			d.kill(rt)
			return
		}
		d.address(temp, addr+uint64(signed(w>>5, 19)<<2))
		d.load(rt, temp, 0, size)
	case w>>27&7 == 5: // pairs
		d.pairARM64(w, simd)
	case w>>27&7 == 7 && w>>24&1 != 0: // unsigned offset
		size, load, sign := accessARM64(w, simd)
		d.accessARM64(rt, rn, int64(w>>10&0xfff)*int64(size), size, load, sign)
	case w>>27&7 == 7 && w>>21&1 == 0: // unscaled, pre- and post-indexed
		size, load, sign := accessARM64(w, simd)
		off := signed(w>>12, 9)
		switch w >> 10 & 3 {
		case 1:
			d.accessARM64(rt, rn, 0, size, load, sign)
			d.offset(rn, rn, off, 0)
		case 3:
			d.offset(rn, rn, off, 0)
			d.accessARM64(rt, rn, 0, size, load, sign)
		default:
			d.accessARM64(rt, rn, off, size, load, sign)
		}
	case w>>27&7 == 7 && w>>10&3 == 2: // register offset
		size, load, sign := accessARM64(w, simd)
		shift := int64(0)
		if w>>12&1 != 0 {
			for n := size; n > 1; n >>= 1 {
				shift++
			}
		}
		d.alu(opAdd, temp, rn, gpr(w>>16), shift, 0)
		d.accessARM64(rt, temp, 0, size, load, sign)
	case w>>27&7 == 7: // atomics
		if !simd {
			d.kill(rt)
		}
	case !simd: // exclusive, ordered
		if w>>22&1 != 0 {
			d.kill(rt)
			if w>>21&1 != 0 {
				d.kill(gpr(w >> 10))
			}
		} else {
			d.kill(temp2)
			d.store(rn, 0, temp2, 8)
			d.kill(gpr(w >> 16))
		}
	default:
		d.kill(rt)
	}
}

// accessARM64 returns the bytes that a load or store moves, whether it loads,
// and to how many bytes it extends the sign, 0 if it does not.
func accessARM64(w uint32, simd bool) (size uint8, load bool, sign uint8) {
	opc := w >> 22 & 3
	size = 1 << (w >> 30)
	if simd {
		if opc >= 2 {
			size = 16
		}
		return size, opc&1 != 0, 0
	}
	switch opc {
	case 2:
		return size, true, 8
	case 3:
		return size, true, 4
	}
	return size, opc == 1, 0
}

func (d *decoder) accessARM64(rt, base uint8, off int64, size uint8, load bool, sign uint8) {
	if !load {
		d.store(base, off, rt, size)
		return
	}
	d.load(rt, base, off, size)
	if sign != 0 {
		d.add(op{kind: opSigned, dst: rt, size: size})
		d.copy(rt, rt, sign)
	}
}

func (d *decoder) pairARM64(w uint32, simd bool) {
	rn := uint8(w >> 5 & 31)
	first, second := gpr(w), gpr(w>>10)
	size := uint8(4) << (w >> 31)
	if simd {
		first, second = vector+uint8(w&31), vector+uint8(w>>10&31)
		size = 4 << (w >> 30)
	}
	off := signed(w>>15, 7) * int64(size)
	mode := w >> 23 & 3
	if mode == 3 { // pre-indexed
		d.offset(rn, rn, off, 0)
	}
	at := off
	if mode == 1 || mode == 3 {
		at = 0
	}
	if w>>22&1 != 0 {
		base := rn
		if first == rn { // which is overwritten first
			d.copy(temp, rn, 0)
			base = temp
		}
		d.load(first, base, at, size)
		d.load(second, base, at+int64(size), size)
	} else {
		d.store(rn, at, first, size)
		d.store(rn, at+int64(size), second, size)
	}
	if mode == 1 {
		d.offset(rn, rn, off, 0)
	}
}

// registerARM64 is C4.1 "Data processing -- register".
func (d *decoder) registerARM64(w uint32, addr uint64) {
	size := width(w)
	dst, a, b := gpr(w), gpr(w>>5), gpr(w>>16)
	shift := int64(w >> 10 & 63)
	switch {
	case w>>24&31 == 10: // logical, shifted register
		if w>>29&3 == 3 {
			if w>>21&1 == 0 && shift == 0 {
				d.add(op{kind: opTest, a: a, b: b})
			} else {
				d.unflag()
			}
			if dst == zero {
				return
			}
		}
		if w>>21&1 != 0 || w>>22&3 != 0 {
			d.kill(dst)
			return
		}
		if shift != 0 {
			d.alu(opShl, temp, b, none, shift, size)
			b = temp
		}
		d.alu([]opKind{opAnd, opOr, opXor, opAnd}[w>>29&3], dst, a, b, 0, size)
	case w>>24&31 == 11: // ADD, SUB with a register
		extended := w>>21&1 != 0
		if extended {
			shift = int64(w >> 10 & 7)
			a = uint8(w >> 5 & 31)
			if w>>29&1 == 0 {
				dst = uint8(w & 31)
			}
		}
		if w>>29&1 != 0 {
			if w>>30&1 != 0 && shift == 0 {
				d.add(op{kind: opCompare, a: a, b: b})
			} else {
				d.unflag()
			}
			if dst == zero {
				return
			}
		}
		if !extended && w>>22&3 != 0 {
			d.kill(dst)
			return
		}
		if w>>30&1 != 0 {
			if shift != 0 {
				d.alu(opShl, temp, b, none, shift, size)
				b = temp
			}
			d.alu(opSub, dst, a, b, 0, size)
			return
		}
		d.alu(opAdd, dst, a, b, shift, size)
	case w&0x7fff0fe0 == 0x1a9f07e0: // CSET
		d.add(op{kind: opTruth, dst: dst, imm: int64(addr<<4) | int64(armConditions[w>>12&15].opposite())})
	case w>>21&0xff == 0xd2: // conditional compare
		d.unflag()
	case w>>24&31 == 26 && w>>29&1 != 0 && w>>21&15 != 6: // ADCS, SBCS, RMIF
		d.kill(dst)
		d.unflag()
	default:
		d.kill(dst)
	}
}

// vectorARM64 is C4.1 "Data processing -- scalar floating-point and Advanced
// SIMD", of which it knows zeroing, copies, and moves to and from integers.
func (d *decoder) vectorARM64(w uint32) {
	dst := vector + uint8(w&31)
	switch {
	case w&0x9ff8fc00 == 0x0f00e400 && w>>16&7 == 0 && w>>5&31 == 0 || w&0xfffffc00 == 0x6f00e400 && w>>5&31 == 0: // MOVI #0
		d.set(dst, 0, 0)
	case w&0xbfe0fc00 == 0x0ea01c00 && w>>5&31 == w>>16&31: // MOV
		d.copy(dst, vector+uint8(w>>5&31), 0)
	case w&0x7f3ffc00 == 0x1e260000 || w&0x7f3ffc00 == 0x1e270000: // FMOV
		if w>>16&1 == 0 {
			d.copy(gpr(w), vector+uint8(w>>5&31), width(w))
		} else {
			d.copy(dst, gpr(w>>5), width(w))
		}
	case w&0x5f20fc00 == 0x1e202000 || w&0x5f200c00 == 0x1e200400: // FCMP, FCCMP
		d.unflag()
	case w&0x5f20fc00 == 0x1e200000: // to integers
		d.kill(gpr(w))
	case w&0xbfe0fc00 == 0x0e003c00 || w&0xbfe0fc00 == 0x0e002c00: // UMOV, SMOV
		d.kill(gpr(w))
	default:
		d.kill(dst)
	}
}
