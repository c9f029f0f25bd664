package code

import "encoding/binary"

// An insn is an x86 instruction as far as it is told apart here: its length, its
// opcode, and where its operands stand.
type insn struct {
	size  int
	op    int  // opcode, and its map in the bits above: 0x1xx 0F, 0x2xx 0F 38, 0x3xx 0F 3A; 0x400 is set for VEX, EVEX and XOP
	rex   byte // prefix, 0 if none
	small bool // operand-size prefix
	modrm int  // offset of the ModRM byte, 0 if none
	imm   int  // offset of the immediate or of the distance of a branch, 0 if none
	disp  int  // offset of a displacement of 4 bytes, 0 if none
}

// What follows an opcode, as bits.
const (
	hasModRM = 1 << iota
	hasByte
	hasWord
	hasLong // four bytes, or two after an operand-size prefix
	invalid
	only32 // not in 64-bit mode
)

// opcodes says what follows each one-byte opcode (Intel 64 and IA-32
// Architectures Software Developer's Manual, volume 2, table A-2).
var opcodes = func() (t [256]uint8) {
	set := func(v uint8, from, to int) {
		for op := from; op <= to; op++ {
			t[op] = v
		}
	}
	for op := 0; op < 0x40; op += 8 {
		set(hasModRM, op, op+3)
		t[op+4], t[op+5], t[op+6], t[op+7] = hasByte, hasLong, only32, only32
	}
	set(only32, 0x60, 0x61)
	t[0x62], t[0x63] = hasModRM|only32, hasModRM
	t[0x68], t[0x69], t[0x6a], t[0x6b] = hasLong, hasModRM|hasLong, hasByte, hasModRM|hasByte
	set(hasByte, 0x70, 0x7f)
	t[0x80], t[0x81], t[0x82], t[0x83] = hasModRM|hasByte, hasModRM|hasLong, hasModRM|hasByte|only32, hasModRM|hasByte
	set(hasModRM, 0x84, 0x8f)
	t[0x9a] = hasLong | hasWord | only32
	t[0xa8], t[0xa9] = hasByte, hasLong
	set(hasByte, 0xb0, 0xb7)
	set(hasLong, 0xb8, 0xbf)
	t[0xc0], t[0xc1], t[0xc2] = hasModRM|hasByte, hasModRM|hasByte, hasWord
	set(hasModRM|only32, 0xc4, 0xc5)
	t[0xc6], t[0xc7], t[0xc8] = hasModRM|hasByte, hasModRM|hasLong, hasWord|hasByte
	t[0xca], t[0xcd], t[0xce] = hasWord, hasByte, only32
	set(hasModRM, 0xd0, 0xd3)
	t[0xd4], t[0xd5], t[0xd6] = hasByte|only32, hasByte|only32, invalid
	set(hasModRM, 0xd8, 0xdf)
	set(hasByte, 0xe0, 0xe7)
	t[0xe8], t[0xe9], t[0xea], t[0xeb] = hasLong, hasLong, hasLong|hasWord|only32, hasByte
	set(hasModRM, 0xf6, 0xf7)
	set(hasModRM, 0xfe, 0xff)
	return t
}()

// opcodes0F says the same of the opcodes after 0F (table A-3).
var opcodes0F = func() (t [256]uint8) {
	for op := range t {
		t[op] = hasModRM
	}
	for _, op := range []int{0x05, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x0e, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37, 0x77, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa} {
		t[op] = 0
	}
	for op := 0xc8; op <= 0xcf; op++ {
		t[op] = 0
	}
	for _, op := range []int{0x04, 0x0a, 0x0c, 0x24, 0x25, 0x26, 0x27, 0x36, 0x39, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f} {
		t[op] = invalid
	}
	for op := 0x80; op < 0x90; op++ {
		t[op] = hasLong
	}
	for _, op := range []int{0x0f, 0x70, 0x71, 0x72, 0x73, 0xa4, 0xac, 0xba, 0xc2, 0xc4, 0xc5, 0xc6} {
		t[op] = hasModRM | hasByte
	}
	return t
}()

// plainSizes are how many bytes an opcode and its immediate have, of those
// one-byte opcodes that are followed by the same whatever stands before and
// behind; 0 of the others.
var plainSizes = func() (t [256]uint8) {
	for op, follows := range opcodes {
		switch {
		case follows&(hasWord|only32|invalid) != 0:
		case follows&hasLong != 0:
			t[op] = 5
		case follows&hasByte != 0:
			t[op] = 2
		default:
			t[op] = 1
		}
	}
	for _, op := range []int{
		0x0f, 0xa0, 0xa1, 0xa2, 0xa3, 0xc4, 0xc5, 0x62, 0x8f, 0xf6, 0xf7,
		operandSize, addressSize, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65,
	} {
		t[op] = 0
	}
	clear(t[0x40:0x50])
	return t
}()

// modrmSizes are how many bytes a ModRM byte, its SIB byte and displacement
// have; 0 where the SIB byte decides.
var modrmSizes = func() (t [256]uint8) {
	for m := range t {
		mod, rm := m>>6, m&7
		t[m] = 1
		switch {
		case mod == 3:
			continue
		case mod == 1:
			t[m] += 1
		case mod == 2 || rm == 5:
			t[m] += 4
		}
		if rm == 4 {
			t[m]++
			if mod == 0 {
				t[m] = 0
			}
		}
	}
	return t
}()

const (
	operandSize = 0x66
	addressSize = 0x67
)

// decode reads the instruction at the start of b; not ok means that there is
// none, or not all of it.
func decode(b []byte, wide bool) (in insn, ok bool) {
	const longest = 15
	b = b[:min(len(b), longest)]
	i := 0
	address := false
prefixes:
	for ; i < len(b); i++ {
		switch c := b[i]; c {
		case operandSize:
			in.small = true
		case addressSize:
			address = true
		case 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65:
		default:
			if !wide || c&0xf0 != 0x40 {
				break prefixes
			}
			in.rex = c
			i++
			break prefixes // REX stands last
		}
	}
	if i >= len(b) {
		return in, false
	}
	in.op = int(b[i])
	i++
	follows := opcodes[in.op]
	switch {
	case in.op == 0x0f:
		if i >= len(b) {
			return in, false
		}
		in.op = 0x100 | int(b[i])
		follows = opcodes0F[b[i]]
		i++
		if in.op == 0x138 || in.op == 0x13a {
			if i >= len(b) {
				return in, false
			}
			follows = hasModRM
			if in.op == 0x13a {
				follows |= hasByte
			}
			in.op = (in.op&0xf-8)/2<<8 + 0x200 | int(b[i])
			i++
		}
	case in.op == 0xc4 || in.op == 0xc5 || in.op == 0x62 || in.op == 0x8f:
		if n, op, ok := vector(b[i-1:], wide); ok {
			in.op = op | 0x400
			i += n - 1
			follows = hasModRM
			if op>>8 == 1 {
				follows = opcodes0F[op&0xff] &^ hasLong
				if op == 0x177 { // vzeroupper
					follows = 0
				} else {
					follows |= hasModRM
				}
			} else if op>>8 == 3 {
				follows |= hasByte
			}
		}
	}
	if follows&invalid != 0 || follows&only32 != 0 && wide {
		return in, false
	}
	if in.op >= 0xa0 && in.op <= 0xa3 { // moves of an address
		n := 4
		if wide {
			n = 8
		}
		if address {
			n /= 2
		}
		in.imm = i
		in.size = i + n
		return in, in.size <= len(b)
	}
	if follows&hasModRM != 0 {
		if i >= len(b) {
			return in, false
		}
		in.modrm = i
		m := b[i]
		i++
		mod, rm := m>>6, m&7
		switch {
		case mod == 3:
		case address && !wide: // 16-bit addressing
			if mod == 1 {
				i++
			} else if mod == 2 || rm == 6 {
				i += 2
			}
		default:
			if rm == 4 {
				if i >= len(b) {
					return in, false
				}
				if mod == 0 && b[i]&7 == 5 {
					in.disp = i + 1
				}
				i++
			}
			switch {
			case mod == 1:
				i++
			case mod == 2 || mod == 0 && rm == 5:
				in.disp = i
			}
			if in.disp > 0 {
				i += 4
			}
		}
		if in.op == 0xf6 && m>>3&7 < 2 {
			follows |= hasByte
		} else if in.op == 0xf7 && m>>3&7 < 2 {
			follows |= hasLong
		}
	}
	if follows&(hasByte|hasWord|hasLong) != 0 {
		in.imm = i
		if follows&hasWord != 0 {
			i += 2
		}
		if follows&hasByte != 0 {
			i++
		}
		if follows&hasLong != 0 {
			branch := in.op == 0xe8 || in.op == 0xe9 || in.op>>4 == 0x18
			switch {
			case in.op >= 0xb8 && in.op <= 0xbf && in.rex&8 != 0:
				i += 8
			case in.small && in.rex&8 == 0 && !(branch && wide):
				i += 2
			default:
				i += 4
			}
		}
	}
	in.size = i
	return in, i <= len(b)
}

// size returns the length of the instruction at the start of b, or 0 if there is
// none. Most have no prefix but REX, and a plain opcode.
func size(b []byte, wide bool) int {
	const longest = 12
	if len(b) >= longest {
		at, rex := 0, byte(0)
		if wide && b[0]&0xf0 == 0x40 {
			at, rex = 1, b[0]
		}
		op := b[at]
		if n := int(plainSizes[op]); n > 0 && (rex&8 == 0 || op>>3 != 0xb8>>3) {
			if opcodes[op]&hasModRM == 0 {
				return at + n
			}
			if m := int(modrmSizes[b[at+1]]); m > 0 {
				return at + n + m
			}
		}
	}
	if in, ok := decode(b, wide); ok {
		return in.size
	}
	return 0
}

// vector reads a VEX, EVEX or XOP prefix at the start of b and the opcode
// behind it (volume 2, sections 2.3 and 2.7): n bytes in all.
func vector(b []byte, wide bool) (n, op int, ok bool) {
	if len(b) < 4 || !wide && b[0] != 0x8f && b[1] < 0xc0 { // LES, LDS, BOUND
		return 0, 0, false
	}
	var space byte
	switch b[0] {
	case 0xc5:
		space, n = 1, 3
	case 0xc4:
		space, n = b[1]&0x1f, 4
	case 0x62:
		space, n = b[1]&7, 6
	case 0x8f:
		if space = b[1] & 0x1f; space < 8 { // pop
			return 0, 0, false
		}
		space, n = 2+space&1, 4
		if b[1]&0x1f == 8 { // with an immediate
			space = 3
		}
	}
	if space == 0 || space > 6 || len(b) < n {
		return 0, 0, false
	}
	return n, int(space)<<8 | int(b[n-1]), true
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
