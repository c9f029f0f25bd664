package value

import "math/bits"

var machineARM = machine{
	decode: func(d *decoder, code []byte, addr uint64) (inst, bool) {
		if d.thumb {
			return decodeThumb(d, code, addr)
		}
		return decodeA32(d, code, addr)
	},
	step: 2, word: 4, sp: 13, fp: 11,
	names: [32]string{"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", "pc"},
}

// thumb tells Thumb from ARM code, most of whose instructions are
// unconditional: their words begin with 14.
func (r *Reader) thumb(addr uint64, b []byte) bool {
	if r.machine != &machineARM {
		return false
	}
	if addr&2 != 0 {
		return true
	}
	words, always := 0, 0
	for ; len(b) >= 4 && words < 64; b = b[4:] {
		words++
		if b[3]>>4 == 14 {
			always++
		}
	}
	return always*2 < words || words == 0
}

const (
	armLR = 14
	armPC = 15
)

// decodeA32 decodes one ARM instruction. Encodings are those of the Arm
// Architecture Reference Manual, ARMv7-A and ARMv7-R edition, A5.
func decodeA32(d *decoder, code []byte, addr uint64) (inst, bool) {
	if len(code) < 4 {
		return inst{}, false
	}
	w := uint32(little(code[:4]))
	in := inst{size: 4, via: none, a: none, b: none}
	pc := addr + 8
	if w>>28 == 15 {
		switch {
		case w>>25 == 0x7d: // BLX to Thumb
			in.flow, in.target = Call, pc+uint64(signed(w, 24)<<2|int64(w>>24&1)<<1)
		case w>>24 == 0xf4:
			d.elements(w)
		}
		return in, true
	}
	first := len(d.ops)
	switch w >> 25 & 7 {
	case 0, 1:
		d.dataA32(w, pc, &in)
	case 2, 3:
		d.memoryA32(w, pc, &in)
	case 4:
		d.multiple(w, &in)
	case 5:
		in.flow, in.target = Jump, pc+uint64(signed(w, 24)<<2)
		if w>>24&1 != 0 {
			in.flow = Call
		}
	case 6, 7:
		if w>>24&15 == 15 {
			in.flow = Syscall
		} else {
			d.coprocessor(w, pc)
		}
	}
	if c := w >> 28; c < 14 {
		d.doubt(first, &in, armConditions[c])
	}
	return in, true
}

// doubt makes an instruction conditional: of what it writes nothing is known
// behind it, and where it leaves the code, it may as well not.
func (d *decoder) doubt(first int, in *inst, c cond) {
	for i := first; i < len(d.ops); i++ {
		switch o := &d.ops[i]; o.kind {
		case opStore:
			o.b = unset
		case opCompare, opTest, opOutcome:
			o.kind = opUnflag
		case opUnflag:
		default:
			if o.dst < vector+32 {
				o.kind = opKill
			}
		}
	}
	switch in.flow {
	case Jump:
		in.flow, in.cond = Branch, c
		if in.via != none {
			in.flow, in.via = Next, none
		}
	case Return, Stop:
		in.flow = Next
	}
}

// source returns a register to read, where 15 is the place of the instruction.
func (d *decoder) source(reg uint32, pc uint64, spare uint8) uint8 {
	if reg &= 15; reg == armPC {
		d.address(spare, pc)
		return spare
	}
	return uint8(reg)
}

// expandA32 is ARMExpandImm.
func expandA32(n uint32) int64 { return int64(bits.RotateLeft32(n&0xff, -int(n>>8&15)*2)) }

func (d *decoder) dataA32(w uint32, pc uint64, in *inst) {
	rd, immediate := uint8(w>>12&15), w>>25&1 != 0
	switch {
	case w&0x0ff00000 == 0x03000000: // MOVW
		d.set(rd, int64(w>>4&0xf000|w&0xfff), 4)
		return
	case w&0x0ff00000 == 0x03400000: // MOVT
		d.add(op{kind: opInsert, dst: rd, size: 2, imm: 16<<32 | int64(w>>4&0xf000|w&0xfff)})
		return
	case w&0x0fffffd0 == 0x012fff10: // BX, BLX
		d.exchange(uint8(w&15), w>>5&1 != 0, in)
		return
	case !immediate && w&0x90 == 0x90:
		d.extraA32(w, pc)
		return
	case w>>23&3 == 2 && w>>20&1 == 0: // miscellaneous
		d.kill(rd)
		return
	}
	rn := d.source(w>>16, pc, temp)
	rm, imm := none8, int64(0)
	if immediate {
		imm = expandA32(w)
	} else {
		rm = d.source(w, pc, temp2)
		if w&0xff0 != 0 {
			if w&0xf0>>4 == 0 && w>>4&1 == 0 { // LSL
				d.alu(opShl, temp2, rm, none, int64(w>>7&31), 4)
			} else {
				d.kill(temp2)
			}
			rm = temp2
		}
	}
	d.data(dataOps[w>>21&15], rd, rn, rm, imm, w>>20&1 != 0, in)
}

// A dataOp is an operation of the Arm instruction sets for 32 bits.
type dataOp uint8

const (
	andOp dataOp = iota
	eorOp
	subOp
	rsbOp
	addOp
	tstOp
	cmpOp
	cmnOp
	orrOp
	movOp
	bicOp
	mvnOp
	anyOp // with a result that is not followed
	teqOp
)

// dataOps are those of ARM code, by their number.
var dataOps = [16]dataOp{andOp, eorOp, subOp, rsbOp, addOp, anyOp, anyOp, anyOp, tstOp, teqOp, cmpOp, cmnOp, orrOp, movOp, bicOp, mvnOp}

// data gives the ops of rd = rn kind rm, or imm if rm is none.
func (d *decoder) data(kind dataOp, rd, rn, rm uint8, imm int64, flags bool, in *inst) {
	switch kind {
	case tstOp:
		d.add(op{kind: opTest, a: rn, b: rm, imm: imm})
		return
	case cmpOp:
		d.add(op{kind: opCompare, a: rn, b: rm, imm: imm})
		return
	case cmnOp:
		if rm == none {
			d.add(op{kind: opCompare, a: rn, b: none, imm: cut(-imm, 4)})
			return
		}
		d.unflag()
		return
	case teqOp:
		d.unflag()
		return
	}
	if rd == armPC { // a jump to a computed place
		in.flow = Jump
		if kind == movOp && rm == armLR {
			in.flow = Return
			return
		}
		d.kill(temp)
		in.via = temp
		if kind == movOp && rm != none {
			in.via = rm
		}
		return
	}
	switch kind {
	case andOp:
		d.alu(opAnd, rd, rn, rm, imm, 4)
	case eorOp:
		d.alu(opXor, rd, rn, rm, imm, 4)
	case orrOp:
		d.alu(opOr, rd, rn, rm, imm, 4)
	case addOp:
		d.alu(opAdd, rd, rn, rm, addend(rm, imm), 4)
	case subOp:
		if rm == none {
			d.offset(rd, rn, -imm, 4)
		} else {
			d.alu(opSub, rd, rn, rm, 0, 4)
		}
	case rsbOp:
		if rm == none {
			d.set(temp2, imm, 4)
			rm = temp2
		}
		d.alu(opSub, rd, rm, rn, 0, 4)
	case movOp:
		if rm == none {
			d.set(rd, imm, 4)
		} else {
			d.copy(rd, rm, 4)
		}
	case mvnOp:
		if rm == none {
			d.set(rd, ^imm, 4)
		} else {
			d.kill(rd)
		}
	case bicOp:
		if rm == none {
			d.alu(opAnd, rd, rn, none, ^imm, 4)
		} else {
			d.kill(rd)
		}
	default:
		d.kill(rd)
	}
	if flags {
		d.add(op{kind: opOutcome, a: rd})
	}
}

// addend returns the immediate of an addition: of registers it is a shift.
func addend(rm uint8, imm int64) int64 {
	if rm == none {
		return imm
	}
	return 0
}

// exchange is BX and BLX.
func (d *decoder) exchange(rm uint8, link bool, in *inst) {
	in.via = rm
	switch {
	case link:
		in.flow = Call
	case rm == armLR:
		in.flow, in.via = Return, none
	case rm == armPC: // to ARM code behind it: a veneer
		in.flow = Stop
		in.via = none
	default:
		in.flow = Jump
	}
}

// extraA32 is A5.2.8 "Extra load/store instructions", and multiplications.
func (d *decoder) extraA32(w uint32, pc uint64) {
	rd := uint8(w >> 12 & 15)
	if w&0x60 == 0 { // multiply, swap, exclusive
		d.kill(rd)
		d.kill(uint8(w >> 16 & 15))
		return
	}
	off := int64(w>>4&0xf0 | w&15)
	if w>>22&1 == 0 {
		d.kill(temp)
		off = 0
		if w>>20&1 != 0 || w&0x60 == 0x40 {
			d.kill(rd)
		}
		return
	}
	size, load, sign := uint8(2), w>>20&1 != 0, w>>6&1 != 0
	if load && w&0x60 == 0x40 {
		size = 1
	}
	if !load && sign { // LDRD, STRD
		base := d.source(w>>16, pc, temp)
		at := d.index(w, base, off)
		if w>>5&1 == 0 {
			d.copy(temp2, base, 0)
			d.load(rd, temp2, at, 4)
			d.load(rd|1, temp2, at+4, 4)
		} else {
			d.store(base, at, rd, 4)
			d.store(base, at+4, rd|1, 4)
		}
		d.after(w, base, off)
		return
	}
	d.access(w, d.source(w>>16, pc, temp), rd, off, size, load, sign)
}

// index returns the offset at which a load or store with the usual P, U and W
// bits of ARM code works, and moves its base first where it does.
func (d *decoder) index(w uint32, base uint8, off int64) int64 {
	if w>>23&1 == 0 {
		off = -off
	}
	switch {
	case w>>24&1 == 0: // post-indexed
		return 0
	case w>>21&1 != 0: // pre-indexed
		d.offset(base, base, off, 0)
		return 0
	}
	return off
}

// after moves the base of a load or store behind it where it does.
func (d *decoder) after(w uint32, base uint8, off int64) {
	if w>>24&1 == 0 {
		if w>>23&1 == 0 {
			off = -off
		}
		d.offset(base, base, off, 0)
	}
}

func (d *decoder) access(w uint32, base, rd uint8, off int64, size uint8, load, sign bool) {
	at := d.index(w, base, off)
	if load {
		if rd == base {
			d.load(rd, base, at, size)
			d.extend(rd, size, sign)
			return
		}
		d.load(rd, base, at, size)
		d.extend(rd, size, sign)
	} else {
		d.store(base, at, rd, size)
	}
	d.after(w, base, off)
}

func (d *decoder) extend(rd, size uint8, sign bool) {
	if sign && size < 4 {
		d.add(op{kind: opSigned, dst: rd, size: size})
	}
}

// memoryA32 is A5.3 "Load/store word and unsigned byte".
func (d *decoder) memoryA32(w uint32, pc uint64, in *inst) {
	rd, load := uint8(w>>12&15), w>>20&1 != 0
	if w>>25&1 != 0 && w>>4&1 != 0 { // media
		if w&0x0ff000f0 == 0x07f000f0 { // UDF
			in.flow = Stop
			return
		}
		d.kill(rd)
		d.kill(uint8(w >> 16 & 15))
		return
	}
	size := uint8(4)
	if w>>22&1 != 0 {
		size = 1
	}
	base := d.source(w>>16, pc, temp)
	off := int64(w & 0xfff)
	if w>>25&1 != 0 { // a register
		if w>>24&1 == 0 || w>>21&1 != 0 || w>>23&1 == 0 || w>>5&3 != 0 {
			d.kill(temp)
			d.kill(base)
		} else {
			d.alu(opAdd, temp, base, d.source(w, pc, temp2), int64(w>>7&31), 4)
		}
		base, off = temp, 0
		w |= 1<<24 | 1<<23
		w &^= 1 << 21
	}
	if load && rd == armPC {
		d.access(w, base, temp2, off, 4, true, false)
		in.flow, in.via = Jump, temp2
		if base == 13 {
			in.flow, in.via = Return, none
		}
		return
	}
	d.access(w, base, rd, off, size, load, false)
}

// multiple is LDM, STM, PUSH and POP.
func (d *decoder) multiple(w uint32, in *inst) {
	rn, list := uint8(w>>16&15), w&0xffff
	n := int64(bits.OnesCount32(list)) * 4
	at := int64(0)
	if w>>23&1 == 0 {
		at = -n
	}
	if w>>24&1 == w>>23&1 { // increment before, decrement after
		at += 4
	}
	load := w>>20&1 != 0
	base := rn
	if load && list>>rn&1 != 0 {
		d.copy(temp, rn, 0)
		base = temp
	}
	if w>>21&1 != 0 && rn == 13 && w>>23&1 == 0 { // PUSH: the stack is lowered first
		d.offset(rn, rn, -n, 0)
		at += n
	}
	for reg := range uint8(16) {
		if list>>reg&1 == 0 {
			continue
		}
		switch {
		case load && reg == armPC:
			in.flow = Return
		case load:
			d.load(reg, base, at, 4)
		default:
			d.store(base, at, reg, 4)
		}
		at += 4
	}
	if w>>21&1 == 0 || rn == 13 && w>>23&1 == 0 {
		return
	}
	if w>>23&1 == 0 {
		n = -n
	}
	d.offset(rn, rn, n, 0)
}

// coprocessor is A7.6 "Extension register load/store instructions" and A7.8
// "8, 16, and 32-bit transfer between ARM core and extension registers"; the
// rest of the floating-point instructions change no integers.
func (d *decoder) coprocessor(w uint32, pc uint64) {
	if w>>9&7 != 5 { // not VFP
		if w&0x0f100010 == 0x0e100010 && w>>12&15 != 15 { // MRC
			d.kill(uint8(w >> 12 & 15))
		}
		return
	}
	double := w>>8&1 != 0
	vd := vector + uint8(w>>18&16|w>>12&15)
	rn := d.source(w>>16, pc, temp)
	off := int64(w&0xff) * 4
	switch {
	case w&0x0f200000 == 0x0d000000: // VLDR, VSTR
		if w>>23&1 == 0 {
			off = -off
		}
		switch load := w>>20&1 != 0; {
		case double && load:
			d.load(vd, rn, off, 8)
		case double:
			d.store(rn, off, vd, 8)
		case load:
			d.kill(vector + uint8(w>>12&15)>>1)
		default:
			d.store(rn, off, unset, 4)
		}
	case w&0x0fe00000 == 0x0d200000, w&0x0f800000 == 0x0c800000: // VLDM, VSTM, VPUSH, VPOP
		d.several(w, rn, vd, off, double)
	case w&0x0fe00000 == 0x0c400000: // VMOV of two registers
		if w>>20&1 != 0 {
			d.kill(uint8(w >> 12 & 15))
			d.kill(uint8(w >> 16 & 15))
		} else {
			d.kill(vector + uint8(w>>1&16|w&15))
		}
	case w&0x0f000010 == 0x0e000010: // VMOV, VMRS
		if w>>20&1 == 0 {
			d.kill(vector + uint8(w>>3&16|w>>16&15))
		} else if w>>12&15 == 15 {
			d.unflag()
		} else {
			d.kill(uint8(w >> 12 & 15))
		}
	case w&0x0f000010 == 0x0e000000: // arithmetic
		if double {
			d.kill(vd)
		} else {
			d.kill(vector + uint8(w>>12&15)>>1)
		}
	}
}

// several is VLDM, VSTM, VPUSH and VPOP.
func (d *decoder) several(w uint32, rn, vd uint8, off int64, double bool) {
	down, load := w>>24&1 != 0, w>>20&1 != 0
	if down {
		d.offset(rn, rn, -off, 0)
	}
	for i := int64(0); i+8 <= off && double && vd < vector+32; i += 8 {
		if load {
			d.load(vd, rn, i, 8)
		} else {
			d.store(rn, i, vd, 8)
		}
		vd++
	}
	if !down && w>>21&1 != 0 {
		d.offset(rn, rn, off, 0)
	}
}

// elements is VLD1 and VST1 of A7.7 "Advanced SIMD element or structure
// load/store instructions", with all elements of up to four registers.
func (d *decoder) elements(w uint32) {
	load, rn, rm := w>>21&1 != 0, uint8(w>>16&15), w&15
	vd := vector + uint8(w>>18&16|w>>12&15)
	n := 0
	if w>>23&1 == 0 {
		n = map[uint32]int{7: 1, 10: 2, 6: 3, 2: 4}[w>>8&15]
	}
	if n == 0 {
		for i := range uint8(4) {
			if load && vd+i < vector+32 {
				d.kill(vd + i)
			}
		}
		if !load {
			d.store(rn, 0, unset, 32)
		}
	}
	for i := range n {
		if v := vd + uint8(i); v < vector+32 {
			if load {
				d.load(v, rn, int64(i)*8, 8)
			} else {
				d.store(rn, int64(i)*8, v, 8)
			}
		}
	}
	switch {
	case rm == 15:
	case rm == 13 && n > 0:
		d.offset(rn, rn, int64(n)*8, 0)
	default:
		d.kill(rn)
	}
}
