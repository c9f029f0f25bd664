package hidden

import "encoding/binary"

// What follows the opcode of an instruction of x86 (Intel 64 and IA-32
// Architectures Software Developer's Manual, volume 2, appendix A).
const (
	modRM  = 1 << iota // operands in a byte of their own
	imm8               // a constant of one byte
	imm16              // of two
	immZ               // of four; of two behind the prefix 66
	immV               // the same; of eight behind REX.W
	immA               // an address
	prefix             // it is no opcode yet
	unknown
)

// opcodes and opcodes0F say what follows each opcode of one byte, and of two.
var opcodes, opcodes0F = func() (one, two [256]uint8) {
	set := func(t *[256]uint8, what uint8, list ...int) {
		for _, op := range list {
			t[op] |= what
		}
	}
	span := func(t *[256]uint8, what uint8, lo, hi int) {
		for op := lo; op <= hi; op++ {
			t[op] |= what
		}
	}
	for op := 0; op < 0x40; op += 8 {
		span(&one, modRM, op, op+3)
		set(&one, imm8, op+4)
		set(&one, immZ, op+5)
	}
	set(&one, prefix, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3)
	set(&one, modRM, 0x63, 0x69, 0x6b, 0xc0, 0xc1, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff)
	span(&one, modRM, 0x80, 0x8f)
	span(&one, modRM, 0xd0, 0xd3)
	span(&one, modRM, 0xd8, 0xdf)
	set(&one, imm8, 0x6a, 0x6b, 0x80, 0x82, 0x83, 0xa8, 0xc0, 0xc1, 0xc6, 0xc8, 0xcd, 0xd4, 0xd5, 0xeb)
	span(&one, imm8, 0x70, 0x7f)
	span(&one, imm8, 0xb0, 0xb7)
	span(&one, imm8, 0xe0, 0xe7)
	set(&one, imm16, 0xc2, 0xc8, 0xca)
	set(&one, immZ, 0x68, 0x69, 0x81, 0xa9, 0xc7, 0xe8, 0xe9)
	span(&one, immV, 0xb8, 0xbf)
	span(&one, immA, 0xa0, 0xa3)
	set(&one, unknown, 0x62, 0x9a, 0xc4, 0xc5, 0xea)
	span(&two, modRM, 0, 0xff)
	for _, r := range [][2]int{{0x05, 0x09}, {0x0b, 0x0b}, {0x0e, 0x0e}, {0x30, 0x37}, {0x77, 0x77}, {0x80, 0x8f}, {0xa0, 0xa2}, {0xa8, 0xaa}, {0xc8, 0xcf}} {
		for op := r[0]; op <= r[1]; op++ {
			two[op] = 0
		}
	}
	span(&two, immZ, 0x80, 0x8f)
	span(&two, imm8, 0x70, 0x73)
	set(&two, imm8, 0xa4, 0xac, 0xba, 0xc2, 0xc4, 0xc5, 0xc6)
	return one, two
}()

// glanceX86 goes through the instructions of a function as far as their length
// and kind, without what they do.
func (g *glance) x86(b []byte, at uint64, mode int) {
	for i := 0; i+1 < len(b); {
		n := g.instruction(b, i, at, mode)
		i += max(n, 1)
	}
}

// instruction looks at the one at b[i:] and returns its length; 0 if it is none.
func (g *glance) instruction(b []byte, i int, at uint64, mode int) int {
	start := i
	wide, short, narrow := false, false, false
	var op byte
	for {
		if i >= len(b) {
			return 0
		}
		op = b[i]
		if opcodes[op]&prefix != 0 {
			short = short || op == 0x66
			narrow = narrow || op == 0x67
			i++
			continue
		}
		if mode == 64 && op>>4 == 4 {
			wide = op&8 != 0
			i++
			continue
		}
		break
	}
	i++
	what, two := opcodes[op], false
	if op == 0x0f && i < len(b) {
		op, two = b[i], true
		what = opcodes0F[op]
		i++
		switch op {
		case 0x38:
			i++
		case 0x3a:
			i, what = i+1, modRM|imm8
		}
	} else if what&unknown != 0 {
		return g.vex(b, start, op, mode)
	}
	var modrm byte
	rip := -1 // where a displacement from the next instruction stands
	if what&modRM != 0 {
		if i >= len(b) {
			return 0
		}
		modrm = b[i]
		n, relative := operands(b, i, mode, narrow)
		if relative {
			rip = i + 1
		}
		i += n
		if !two && (op == 0xf6 || op == 0xf7) && modrm>>3&7 < 2 {
			what |= imm8
			if op == 0xf7 {
				what ^= imm8 | immZ
			}
		}
	}
	constant := i
	switch {
	case what&imm8 != 0:
		i++
	case what&immZ != 0 && short && !(two && op>>4 == 8), what&immV != 0 && short:
		i += 2
	case what&immV != 0 && wide:
		i += 8
	case what&(immZ|immV) != 0:
		i += 4
	case what&immA != 0:
		i += mode / 8
	}
	if what&imm16 != 0 {
		i += 2
	}
	if i > len(b) {
		return 0
	}
	memory := what&modRM != 0 && modrm>>6 < 3
	if two {
		g.two(b, start, i, constant, at, op, modrm, memory, rip)
	} else {
		if rip >= 0 && op|1 == 0x8b && g.found&encoded == 0 && mayBeEncoded(g.m, at+uint64(i)+uint64(int64(int32(binary.LittleEndian.Uint32(b[rip:])))), true) {
			g.found |= encoded
		}
		g.one(b, start, i, constant, op, modrm, memory, wide)
	}
	return i - start
}

// operands returns how many bytes the operands of an instruction take, and
// whether one is given relative to the next instruction.
func operands(b []byte, i, mode int, narrow bool) (int, bool) {
	mod, rm := b[i]>>6, b[i]&7
	switch {
	case mod == 3:
		return 1, false
	case mode == 32 && narrow: // addresses of 16 bits
		if mod == 0 && rm != 6 {
			return 1, false
		}
		return 1 + max(int(mod&1), 1) + int(1-mod&1), false
	}
	n := 1
	if rm == 4 {
		n = 2
		if mod == 0 && i+1 < len(b) && b[i+1]&7 == 5 {
			return 6, false
		}
	}
	switch {
	case mod == 0 && rm == 5:
		return 5, mode == 64
	case mod == 1:
		return n + 1, false
	case mod == 2:
		return n + 4, false
	}
	return n, false
}

// vex returns the length of an instruction with one of the longer prefixes. In
// 32-bit code they are instructions of their own if what follows is an address.
func (g *glance) vex(b []byte, start int, op byte, mode int) int {
	i := start
	for opcodes[b[i]]&prefix != 0 {
		i++
	}
	if i+4 >= len(b) || op == 0x9a || op == 0xea || mode == 32 && b[i+1] < 0xc0 {
		return 0
	}
	table, n := byte(1), 2
	switch op {
	case 0xc4:
		table, n = b[i+1]&31, 3
	case 0x62:
		table, n = b[i+1]&7, 4
	}
	code := b[i+n]
	i += n + 1
	if i >= len(b) {
		return 0
	}
	if code == 0x77 && table == 1 {
		return i - start
	}
	memory := b[i]>>6 < 3
	n, _ = operands(b, i, mode, false)
	i += n
	if table == 3 || table == 1 && opcodes0F[code]&imm8 != 0 {
		i++
	}
	if table == 1 {
		g.vector(start, code, memory)
	}
	return min(i, len(b)) - start
}

// one looks at an instruction with an opcode of one byte.
func (g *glance) one(b []byte, start, end, constant int, op, modrm byte, memory, wide bool) {
	reg := modrm >> 3 & 7
	same := !memory && modrm>>6 == 3 && reg == modrm&7
	switch op {
	case 0x30, 0x28, 0x00, 0x32, 0x2a, 0x02, 0x10, 0x12, 0x18, 0x1a: // xor, sub, add, adc, sbb of a byte
		if memory {
			g.reads = start
		}
		if !same {
			g.combines = start
		}
		if memory && op&2 == 0 {
			g.wrote(start, 1)
		}
	case 0x34, 0x2c, 0x04, 0x35, 0x2d, 0x05:
		g.combines = start
	case 0x31, 0x29, 0x01, 0x33, 0x2b, 0x03:
		if !wide && !same {
			g.combines = start
		}
		if op == 0x31 && memory {
			g.reads, g.combines = start, start
			g.wrote(start, 4)
		}
	case 0x80, 0x82, 0x83, 0x81:
		if reg == 7 || reg == 1 || reg == 4 { // compare, or, and
			return
		}
		if small := constant < len(b) && (b[constant] == 1 || b[constant] == 0xff) && op != 0x81; !small && !wide || reg == 6 {
			g.combines = start
		}
		if op == 0x83 && (reg == 0 && b[constant] == 0xff || reg == 5 && b[constant] == 1) {
			g.combines = start // a step down, as of texts that are turned round
		}
		if memory && (op == 0x80 || reg == 6) {
			g.reads = start
			g.wrote(start, 1)
		}
	case 0xf6:
		if reg == 2 || reg == 3 {
			g.combines = start
			if memory {
				g.reads = start
				g.wrote(start, 1)
			}
		}
	case 0xf7:
		if reg == 2 || reg == 3 {
			g.combines = start
		}
	case 0xff:
		if reg == 1 {
			g.combines = start
		}
	case 0xc0, 0xd0, 0xd2:
		g.combines = start
		if memory {
			g.reads = start
			g.wrote(start, 1)
		}
	case 0xc1, 0xd1, 0xd3:
		g.combines = start
	case 0x8d: // an address that is a sum of constants and registers
		if !wide && memory {
			g.combines = start
		}
	case 0x88:
		if memory {
			g.wrote(start, 1)
		}
	case 0x8a:
		if memory {
			g.reads = start
		}
	case 0xaa:
		g.wrote(start, 1)
	case 0xac:
		g.reads = start
	case 0xc6:
		if memory && reg == 0 {
			g.constant(start, b[constant:constant+1])
		}
	case 0xc7:
		if memory && reg == 0 {
			g.constant(start, b[constant:end])
		}
	case 0xb8, 0xb9, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf:
		if end-constant >= 4 {
			g.constant(start, b[constant:end])
		}
	case 0x68:
		if end-constant == 4 {
			g.constant(start, b[constant:end])
		}
	case 0xeb:
		g.jump(start, end+int(int8(b[end-1])))
	case 0xe9:
		if end-constant == 4 {
			g.jump(start, end+int(int32(binary.LittleEndian.Uint32(b[constant:]))))
		}
	default:
		switch op >> 4 {
		case 4: // INC and DEC of 32-bit code
			if op&8 != 0 {
				g.combines = start
			}
		case 7:
			g.jump(start, end+int(int8(b[end-1])))
		}
	}
}

// two looks at an instruction with an opcode of two bytes.
func (g *glance) two(b []byte, start, end, constant int, at uint64, op, modrm byte, memory bool, rip int) {
	switch {
	case op>>4 == 8:
		if end-constant == 4 {
			g.jump(start, end+int(int32(binary.LittleEndian.Uint32(b[constant:]))))
		}
	case op == 0xb6, op == 0xbe:
		if memory {
			g.reads = start
		}
	case op == 0xaf:
		g.combines = start
	default:
		if same := !memory && modrm>>3&7 == modrm&7; !same {
			g.vector(start, op, memory)
		}
		if rip >= 0 && (op == 0x10 || op == 0x28 || op == 0x6f || op == 0x7e) {
			g.loaded(at+uint64(end)+uint64(int64(int32(binary.LittleEndian.Uint32(b[rip:])))), 16)
		}
	}
}

// vector looks at an instruction on vectors.
func (g *glance) vector(start int, op byte, memory bool) {
	switch op {
	case 0x10, 0x28, 0x6f, 0x6e, 0x7e:
		if memory {
			g.reads = start
			if op == 0x7e {
				g.wrote(start, 8)
			}
		}
	case 0x57, 0xef, 0xfc, 0xf8, 0xd4, 0xfa, 0xfe, 0xfb, 0x71, 0x72, 0x73:
		g.combines = start
		if memory {
			g.reads = start
		}
	case 0x11, 0x29, 0x7f, 0xd6:
		if memory {
			g.wrote(start, 8)
		}
	}
}
