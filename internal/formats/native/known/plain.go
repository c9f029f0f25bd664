package known

import (
	"encoding/binary"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// This file reads the instructions that a table tells all about: of which every
// byte lasts, or all but four at the end. Most are of that kind. The others are
// left to [stream.step], which knows every one.

// advance reads one instruction or more, up to where control may not go on or
// the body has enough bytes, and says how control goes on there.
func (s *stream) advance(enough int) flow {
	f := on
	switch s.arch {
	case image.X86_64:
		f = s.plainX86(&plain64, enough)
	case image.X86:
		f = s.plainX86(&plain32, enough)
	case image.AArch64:
		s.plainARM64(enough)
	}
	if f != on || len(s.body) >= enough || s.at == len(s.code) {
		return f
	}
	return s.step()
}

// What stands behind the opcode of a plain instruction of x86: in the lowest
// three bits how many bytes of an immediate that lasts, and
const (
	isPlain  = 1 << (iota + 3)
	stops    // nothing: control does not go on
	hasPlace // ModRM
	forgets  // four bytes that a linker may fill in
	links    // and linkers turn it into something else if its address has four
)

// The tables of opcodes, as bits: whether 0F stands before the opcode, and by
// prefixes.
const (
	escaped  = 1 << iota
	mandated // 66, F2 or F3, which belong to the opcode behind 0F
	rexW
)

// A plainTable says what stands behind the opcodes of plain instructions in one
// mode, and which bytes are a REX prefix there.
type plainTable struct {
	behind [8][256]uint8 // 0 if an instruction is not plain
	rex    [256]bool
}

var plain64, plain32 = newPlain(true), newPlain(false)

// newPlain makes the table of a mode. Opcodes of a list are left out: prefixes,
// padding, and what says elsewhere what it is.
func newPlain(wide bool) (t plainTable) {
	const odd = "0f 26 2e 36 3e 62 64-67 81 90 c4-c5 c7-c8 ca-cc cf f0 f2-f4 f6-f7 fe-ff"
	for i := range t.behind {
		what, out := &oneByte, table([]opcodes{{1, odd}})
		if i&escaped != 0 {
			what, out = &twoByte, table([]opcodes{{1, "0b 1f 38 3a"}})
		} else if i&mandated != 0 {
			continue
		}
		for op, w := range what {
			switch {
			case out[op] != 0, w&(undefined|hasOffset) != 0, w&hasWide != 0 && i&rexW != 0, w&hasRel != 0 && i&mandated != 0,
				wide && w&only32 != 0, !wide && op == 0x8d && i&escaped == 0, op == 0x9a || op == 0xea:
				continue
			}
			t.behind[i][op] = behind(w)
			if i&escaped == 0 {
				switch op {
				case 0xc2, 0xc3, 0xe9, 0xeb:
					t.behind[i][op] |= stops
				case 0x03, 0x8b, 0x8d:
					t.behind[i][op] |= links
				}
			}
		}
	}
	if wide {
		for b := 0x40; b < 0x50; b++ {
			t.rex[b] = true
			for i := range t.behind {
				if i&escaped == 0 {
					t.behind[i][b] = 0
				}
			}
		}
	}
	return t
}

// behind says it of an opcode of which the manual's map says what follows.
func behind(what uint16) uint8 {
	n := uint8(isPlain)
	if what&hasModRM != 0 {
		n |= hasPlace
	}
	if what&hasImm8 != 0 {
		n++
	}
	if what&hasImm16 != 0 {
		n += 2
	}
	switch {
	case what&(hasWide|hasRel) != 0, what&hasImm != 0 && what&hides != 0:
		n |= forgets
	case what&hasImm != 0:
		n += 4
	}
	return n
}

// placeSize is how many bytes ModRM, SIB and displacement have that last, by the
// base in SIB and ModRM. To those behind which four more stand far is added.
var placeSize = func() (t [8 << 8]uint8) {
	for i := range t {
		switch mod, rm, base := i>>6&3, i&7, i>>8&7; {
		case mod == 3, mod == 0 && rm != 4 && rm != 5:
			t[i] = 1
		case mod == 1 && rm != 4, mod == 0 && rm == 4 && base != 5:
			t[i] = 2
		case mod == 1:
			t[i] = 3
		case mod == 2 && rm == 4 && base == 4: // into the stack
			t[i] = 6
		case rm == 4:
			t[i] = far | 2
		default:
			t[i] = far | 1
		}
	}
	return t
}()

const far = 1 << 3

// stride is how many bytes are copied for an instruction, of whatever size.
const stride = 16

// plainX86 reads plain instructions of x86, and says how control goes on.
func (s *stream) plainX86(t *plainTable, enough int) flow {
	room := s.code[:min(cap(s.code), len(s.code)+stride)] // what is copied may go on behind the end
	body, pos, f := s.body, s.at, on
	for f == on && len(body) < enough && len(room)-pos >= stride {
		b := (*[stride]byte)(room[pos:])
		op, at, kind := b[0], 1, 0
		if op == 0x66 || op == 0xf2 || op == 0xf3 {
			op, at, kind = b[1], 2, mandated
		}
		if t.rex[op] {
			kind |= int(op >> 1 & rexW)
			op = b[at]
			at++
		}
		if op == 0x0f {
			kind |= escaped
			op = b[at]
			at++
		}
		what := t.behind[kind][op]
		if what == 0 {
			break
		}
		rest := int(what>>4) & 4
		if what&hasPlace != 0 {
			size := placeSize[int(b[at+1]&7)<<8|int(b[at])]
			if size&far != 0 {
				if what&(links|forgets|7) != 0 || s.slots != nil {
					break
				}
				size &^= far
				rest = 4
			}
			at += int(size)
		}
		at += int(what & 7)
		if at+rest > len(s.code)-pos {
			break
		}
		n := len(body)
		if cap(body)-n < stride {
			body = slices.Grow(body, stride)
		}
		*(*[stride]byte)(body[n : n+stride]) = *b
		body = body[:n+at]
		pos += at + rest
		if what&stops != 0 {
			f = stop
		}
	}
	s.body, s.at = body, pos
	return f
}

// What the upper eleven bits tell of an instruction of AArch64.
const (
	special  = iota // ask stepARM64
	ordinary        // it is plain
	unpaged         // it is if its base register holds no page
)

var plainA64 = func() (t [1 << 11]uint8) {
	for i := range t {
		in := uint32(i) << 21
		switch {
		case i == 0, in&0x7c000000 == 0x14000000, in&0x1f000000 == 0x10000000, in&0x3b000000 == 0x18000000,
			in&0xffc00000 == 0x91400000, in&0xffe00000 == 0xd2a00000, in>>24 >= 0xd4 && in>>24 <= 0xd6:
			t[i] = special
		case in&0xffc00000 == 0x91000000, in&0x3b000000 == 0x39000000:
			t[i] = unpaged
		default:
			t[i] = ordinary
		}
	}
	return t
}()

// plainARM64 reads plain instructions of AArch64.
func (s *stream) plainARM64(enough int) {
	body, pos := s.body, s.at
	for ; len(body) < enough && len(s.code)-pos >= 4; pos += 4 {
		in := binary.LittleEndian.Uint32(s.code[pos:])
		if kind := plainA64[in>>21]; kind == special || kind == unpaged && s.pages[in>>5&31].step != 0 {
			break
		}
		body = binary.LittleEndian.AppendUint32(body, in)
	}
	s.steps += (pos - s.at) / 4
	s.body, s.at = body, pos
}
