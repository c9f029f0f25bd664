package known

import (
	"bytes"
	"encoding/binary"
)

// stepARM64 appends the lasting part of the instruction at s.at to the body and
// moves on behind it (Arm Architecture Reference Manual for A-profile, part C,
// "A64 Instruction Set Encoding"). What linkers rewrite (ELF for the Arm 64-bit
// Architecture, "Relocation optimization") looks the same before and after:
// ADRP and ADR, and that which adds the rest to the same register or loads it
// from the GOT; and the two that load an offset into thread-local storage from
// there, which may become two moves.
func (s *stream) stepARM64() flow {
	if len(s.code)-s.at < 4 {
		return broken
	}
	in := binary.LittleEndian.Uint32(s.code[s.at:])
	at := s.at
	s.at += 4
	s.steps++
	rd, rn := in&31, in>>5&31
	page, isPaged := s.pages[rn], s.pages[rn].step != 0
	switch {
	case in == 0xd503201f, in == 0, in == 0xd43e0000: // NOP, what fills gaps
		return padding
	case in&0x7c000000 == 0x14000000: // B, BL
		s.word(in & 0xfc000000)
		if in>>31 == 0 {
			return stop
		}
		return on
	case in&0x1f000000 == 0x10000000: // ADR, ADRP
		s.word(0x10000000 | rd)
		far := int64(int32(in<<8)>>13)<<2 | int64(in>>29&3)
		if in>>31 != 0 {
			s.pages[rd] = pageRef{s.steps, (s.addr+uint64(at))&^0xfff + uint64(far<<12)}
		} else {
			s.pages[rd] = pageRef{s.steps, s.addr + uint64(at) + uint64(far)}
		}
		return on
	case in&0x3b000000 == 0x18000000: // loads of a literal
		s.word(in &^ 0x00ffffe0)
		return on
	case isPaged && (in&0xffc00000 == 0x91000000 || in&0xffc00000 == 0xf9400000): // ADD, LDR of 64 bits
		if rd != rn {
			s.word(0x91000000 | rn<<5 | rd)
		}
		if in&0xffc00000 == 0xf9400000 && s.slots != nil && page.step > 0 && s.steps-page.step <= usual {
			s.name(s.slots(at, page.addr+uint64(in>>10&0xfff)*8))
		}
		return on
	case in&0xffc00000 == 0x91400000: // ADD of a multiple of 4096: the upper half of an offset
		s.word(in &^ 0x003ffc00)
		s.pages[rd] = pageRef{step: -1}
		return on
	case in&0xffe00000 == 0xd2a00000 && s.peek()&0xffe0001f == 0xf2800000|rd: // MOVZ and MOVK of 32 bits
		s.word(0x10000000 | rd)
		s.at += 4
		return on
	case isPaged && in&0x3b000000 == 0x39000000: // loads and stores with an unsigned offset
		s.word(in &^ 0x003ffc00)
		return on
	case in&0xfffffc1f == 0xd63f0000 && bytes.HasSuffix(s.body, []byte{0, 0, 0, 0x10, byte(rn), 0, 0, 0x91}): // BLR
		// What is left of a call that asks for the address of a variable of the
		// thread: ADRP of X0, and LDR of the register. Linkers that know the
		// address keep the first alone.
		s.body = s.body[:len(s.body)-4]
		return on
	case in&0xfffffc1f == 0xd65f0000, in&0xfffffc1f == 0xd61f0000, in&0xffe0001f == 0xd4200000: // RET, BR, BRK
		s.word(in)
		return stop
	}
	s.word(in)
	return on
}

// A pageRef is what ADRP put into a register: where, and the step at which.
type pageRef struct {
	step int // 0 if it has not, -1 if it holds the upper half of an offset
	addr uint64
}

// usual is how many instructions after ADRP its page is used at most to load the
// pointer to an import.
const usual = 8

// peek returns the next instruction.
func (s *stream) peek() uint32 {
	if len(s.code)-s.at < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(s.code[s.at:])
}

func (s *stream) word(w uint32) { s.body = binary.LittleEndian.AppendUint32(s.body, w) }
