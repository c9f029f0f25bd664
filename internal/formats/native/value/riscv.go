package value

var machineRISCV = machine{
	decode: decodeRISCV,
	step:   2, word: 8, sp: 2, fp: 8,
	names: [32]string{"zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2", "s3", "s4",
		"s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6"},
}

// xreg returns an integer register, of which the first is always 0.
func xreg(n uint32) uint8 {
	if n &= 31; n == 0 {
		return zero
	}
	return uint8(n)
}

// bitsOf moves bits of w: for each pair, the bit at the first place to the
// second.
func bitsOf(w uint32, pairs ...uint8) uint32 {
	out := uint32(0)
	for i := 0; i+1 < len(pairs); i += 2 {
		out |= w >> pairs[i] & 1 << pairs[i+1]
	}
	return out
}

// decodeRISCV decodes one instruction. Encodings are those of The RISC-V
// Instruction Set Manual, volume I, of RV64I and of the extensions M and C.
func decodeRISCV(d *decoder, code []byte, addr uint64) (inst, bool) {
	in := inst{size: 4, via: none, a: none, b: none}
	if len(code) < 2 {
		return in, false
	}
	if code[0]&3 != 3 {
		in.size = 2
		d.compressed(uint32(little(code[:2])), addr, &in)
		return in, true
	}
	if len(code) < 4 {
		return in, false
	}
	w := uint32(little(code[:4]))
	rd, rs1, rs2 := xreg(w>>7), xreg(w>>15), xreg(w>>20)
	imm := signed(w>>20, 12)
	f3 := w >> 12 & 7
	switch w & 0x7f {
	case 0x37: // LUI
		d.set(rd, signed(w&^0xfff, 32), 0)
	case 0x17: // AUIPC
		d.address(rd, addr+uint64(signed(w&^0xfff, 32)))
	case 0x6f: // JAL
		in.target = addr + uint64(signed(bitsOf(w, 31, 20)|w&0xff000|bitsOf(w, 20, 11)|w>>20&0x7fe, 21))
		in.flow = Jump
		if rd != zero {
			in.flow = Call
		}
	case 0x67: // JALR
		d.jumpTo(rd, rs1, imm, &in)
	case 0x63:
		d.branchRISCV(f3, rs1, rs2, &in)
		in.target = addr + uint64(signed(bitsOf(w, 31, 12, 7, 11)|w>>20&0x7e0|w>>7&0x1e, 13))
	case 0x03: // loads
		d.loadRISCV(rd, rs1, imm, f3)
	case 0x23: // stores
		d.store(rs1, signed(w>>20&0xfe0|w>>7&0x1f, 12), rs2, 1<<(f3&3))
	case 0x13, 0x1b:
		size := uint8(8)
		if w&0x7f == 0x1b {
			size = 4
		}
		d.immediateRISCV(rd, rs1, imm, f3, w>>30&1 != 0, size)
	case 0x33, 0x3b:
		size := uint8(8)
		if w&0x7f == 0x3b {
			size = 4
		}
		d.registerRISCV(rd, rs1, rs2, f3, w>>25, size)
	case 0x73:
		switch {
		case w == 0x73: // ECALL
			in.flow = Syscall
		case w == 0x100073: // EBREAK
			in.flow = Stop
		case f3 != 0:
			d.kill(rd)
		}
	case 0x0f, 0x07: // FENCE, loads of floating-point registers
	case 0x27:
		d.store(rs1, signed(w>>20&0xfe0|w>>7&0x1f, 12), unset, 1<<(f3&3))
	case 0x2f:
		d.kill(rd)
	case 0x53: // floating point; some give integers
		d.kill(rd)
	}
	return in, true
}

// jumpTo is JALR, which returns when it goes to the return address.
func (d *decoder) jumpTo(rd, rs1 uint8, imm int64, in *inst) {
	switch {
	case rd == 1 || rd == 5: // the registers of return addresses
		in.flow = Call
	case rs1 == 1 && rd == zero:
		in.flow = Return
		return
	default:
		in.flow = Jump
	}
	in.via = temp
	d.offset(temp, rs1, imm, 0)
	if in.flow == Jump {
		d.kill(rd)
	}
}

func (d *decoder) branchRISCV(f3 uint32, a, b uint8, in *inst) {
	in.flow, in.a, in.b = Branch, a, b
	in.cond = [8]cond{equal, unequal, other, other, less, greaterEqual, less, greaterEqual}[f3]
}

func (d *decoder) loadRISCV(rd, base uint8, off int64, f3 uint32) {
	size := uint8(1) << (f3 & 3)
	d.load(rd, base, off, size)
	if f3&4 == 0 && size < 8 {
		d.add(op{kind: opSigned, dst: rd, size: size})
	}
}

// immediateRISCV is OP-IMM and OP-IMM-32.
func (d *decoder) immediateRISCV(rd, a uint8, imm int64, f3 uint32, arithmetic bool, size uint8) {
	shift := imm & 63
	switch f3 {
	case 0:
		d.offset(rd, a, imm, 0)
	case 1:
		d.alu(opShl, rd, a, none, shift, 0)
	case 4:
		d.alu(opXor, rd, a, none, imm, 0)
	case 5:
		if arithmetic {
			d.kill(rd)
		} else {
			d.alu(opShr, rd, a, none, shift, 0)
		}
	case 6:
		d.alu(opOr, rd, a, none, imm, 0)
	case 7:
		d.alu(opAnd, rd, a, none, imm, 0)
	default:
		d.kill(rd)
	}
	d.word(rd, size)
}

// word extends the sign of results of 32 bits.
func (d *decoder) word(rd, size uint8) {
	if size == 4 {
		d.add(op{kind: opSigned, dst: rd, size: 4})
	}
}

// registerRISCV is OP and OP-32.
func (d *decoder) registerRISCV(rd, a, b uint8, f3, f7 uint32, size uint8) {
	switch {
	case f7 == 0 && f3 == 0:
		d.alu(opAdd, rd, a, b, 0, 0)
	case f7 == 0x20 && f3 == 0:
		d.alu(opSub, rd, a, b, 0, 0)
	case f7 == 0 && f3 == 4:
		d.alu(opXor, rd, a, b, 0, 0)
	case f7 == 0 && f3 == 6:
		d.alu(opOr, rd, a, b, 0, 0)
	case f7 == 0 && f3 == 7:
		d.alu(opAnd, rd, a, b, 0, 0)
	default:
		d.kill(rd)
	}
	d.word(rd, size)
}

// compressed is the extension C.
func (d *decoder) compressed(h uint32, addr uint64, in *inst) {
	rd, rs2 := xreg(h>>7), xreg(h>>2)
	low, mid := uint8(h>>2&7)+8, uint8(h>>7&7)+8
	imm6 := signed(h>>7&0x20|h>>2&0x1f, 6)
	jump := func() uint64 {
		return addr + uint64(signed(bitsOf(h, 12, 11, 11, 4, 10, 9, 9, 8, 8, 10, 7, 6, 6, 7, 5, 3, 4, 2, 3, 1, 2, 5), 12))
	}
	word := int64(bitsOf(h, 12, 5, 11, 4, 10, 3, 6, 2, 5, 6))
	twin := int64(bitsOf(h, 12, 5, 11, 4, 10, 3, 6, 7, 5, 6))
	switch h&3<<3 | h>>13 {
	case 0: // C.ADDI4SPN
		if h == 0 {
			in.flow = Stop
			return
		}
		d.offset(low, 2, int64(bitsOf(h, 12, 5, 11, 4, 10, 9, 9, 8, 8, 7, 7, 6, 6, 2, 5, 3)), 0)
	case 2:
		d.loadRISCV(low, mid, word, 2)
	case 3:
		d.loadRISCV(low, mid, twin, 3)
	case 5:
		d.store(mid, twin, unset, 8)
	case 6:
		d.store(mid, word, low, 4)
	case 7:
		d.store(mid, twin, low, 8)
	case 8: // C.ADDI
		d.offset(rd, rd, imm6, 0)
	case 9: // C.ADDIW
		d.offset(rd, rd, imm6, 0)
		d.word(rd, 4)
	case 10: // C.LI
		d.set(rd, imm6, 0)
	case 11:
		if rd == 2 { // C.ADDI16SP
			d.offset(2, 2, signed(bitsOf(h, 12, 9, 6, 4, 5, 6, 4, 8, 3, 7, 2, 5), 10), 0)
		} else {
			d.set(rd, imm6<<12, 0)
		}
	case 12:
		d.compressedData(h, mid, low, imm6)
	case 13:
		in.flow, in.target = Jump, jump()
	case 14, 15:
		in.flow, in.cond, in.a, in.b = Branch, equal, mid, zero
		if h>>13&1 != 0 {
			in.cond = unequal
		}
		in.target = addr + uint64(signed(bitsOf(h, 12, 8, 11, 4, 10, 3, 6, 7, 5, 6, 4, 2, 3, 1, 2, 5), 9))
	case 16: // C.SLLI
		d.alu(opShl, rd, rd, none, imm6&63, 0)
	case 18: // C.LWSP
		d.loadRISCV(rd, 2, int64(bitsOf(h, 12, 5, 6, 4, 5, 3, 4, 2, 3, 7, 2, 6)), 2)
	case 19: // C.LDSP
		d.loadRISCV(rd, 2, int64(bitsOf(h, 12, 5, 6, 4, 5, 3, 4, 8, 3, 7, 2, 6)), 3)
	case 20:
		switch {
		case h>>12&1 == 0 && rs2 == zero: // C.JR
			d.jumpTo(zero, rd, 0, in)
		case h>>12&1 == 0: // C.MV
			d.copy(rd, rs2, 0)
		case rs2 == zero && rd == zero: // C.EBREAK
			in.flow = Stop
		case rs2 == zero: // C.JALR
			d.jumpTo(1, rd, 0, in)
		default:
			d.alu(opAdd, rd, rd, rs2, 0, 0)
		}
	case 21:
		d.store(2, int64(bitsOf(h, 12, 5, 11, 4, 10, 3, 9, 8, 8, 7, 7, 6)), unset, 8)
	case 22: // C.SWSP
		d.store(2, int64(bitsOf(h, 12, 5, 11, 4, 10, 3, 9, 2, 8, 7, 7, 6)), rs2, 4)
	case 23: // C.SDSP
		d.store(2, int64(bitsOf(h, 12, 5, 11, 4, 10, 3, 9, 8, 8, 7, 7, 6)), rs2, 8)
	}
}

func (d *decoder) compressedData(h uint32, rd, rs2 uint8, imm int64) {
	switch h >> 10 & 3 {
	case 0:
		d.alu(opShr, rd, rd, none, imm&63, 0)
	case 1:
		d.kill(rd)
	case 2:
		d.alu(opAnd, rd, rd, none, imm, 0)
	case 3:
		switch {
		case h>>12&1 == 0:
			d.alu([]opKind{opSub, opXor, opOr, opAnd}[h>>5&3], rd, rd, rs2, 0, 0)
		case h>>5&3 < 2: // C.SUBW, C.ADDW
			d.alu([]opKind{opSub, opAdd}[h>>5&3], rd, rd, rs2, 0, 0)
			d.word(rd, 4)
		default:
			d.kill(rd)
		}
	}
}
