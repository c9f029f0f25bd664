package code

import (
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// scanRISCV reads 64-bit and 32-bit RISC-V code, whose instructions are of one
// or two halfwords in little-endian order (The RISC-V Instruction Set Manual,
// volume I, chapters "RV32I", "RV64I", and "C" for the short ones).
//
// An address takes two instructions, of which the first adds the upper part to
// the program counter: AUIPC, or to nothing: LUI.
func scanRISCV(r *reader, addr uint64, code []byte) {
	s := &sweepRISCV{sweep: newSweep(r), flow: newFlow(1, code), wide: r.c.Image.Bits == 64}
	if s.anchors == nil {
		s.anchors = []uint64{globalPointer(r.c.Image)}
	}
	s.anchor = s.anchors[0]
	s.run(addr, code)
}

// Registers with a part of their own (RISC-V ELF psABI, "Integer Register
// Convention").
const (
	linkRISCV      = 1
	stackRISCV     = 2
	otherLinkRISCV = 5
	numberRISCV    = 17 // of a system call

	// preservedRISCV are the registers that a function which is called keeps: gp,
	// tp, s0 to s11.
	preservedRISCV = 1<<3 | 1<<4 | 1<<8 | 1<<9 | 0xffc0000
)

// A sweepRISCV goes through code in its order.
type sweepRISCV struct {
	*sweep
	flow
	wide   bool
	anchor uint64 // what gp holds, 0 if that is not known
}

func (s *sweepRISCV) run(addr uint64, code []byte) {
	first := len(s.c.Refs)
	s.begin(s.sweep, addr)
	for i := 0; i+2 <= len(code); {
		at := addr + uint64(i)
		if at >= s.stop {
			s.arrive(at)
		}
		v := uint32(code[i]) | uint32(code[i+1])<<8
		if v&3 != 3 {
			s.short(at, v)
			i += 2
			continue
		}
		if i+4 > len(code) {
			break
		}
		s.long(at, v|uint32(code[i+2])<<16|uint32(code[i+3])<<24)
		i += 4
	}
	s.sort(first)
}

// globalPointer returns what gp holds, which only a symbol tells. Linkers put
// it 0x800 bytes behind the start of small data, of which a file need not have
// any, so nothing else stands for it.
func globalPointer(m *image.Image) uint64 {
	const most = 1 << 16
	i := slices.IndexFunc(m.Symbols[:min(len(m.Symbols), most)], func(s image.Symbol) bool { return s.Name == "__global_pointer$" })
	if i < 0 {
		return 0
	}
	return m.Symbols[i].Addr
}

// wrap keeps an address within the width of the machine.
func (s *sweepRISCV) wrap(v uint64) uint64 {
	if s.wide {
		return v
	}
	return v & 0xffffffff
}

// base returns the address that a register holds.
func (s *sweepRISCV) base(r uint32) (uint64, bool) {
	switch s.regs.is(r) {
	case pageValue, addressValue:
		return s.regs.value[r], true
	}
	if r == 3 && s.anchor != 0 {
		return s.anchor, true
	}
	return 0, false
}

func (s *sweepRISCV) forget(r uint32) { s.regs.known &^= 1 << r }

// long handles an instruction of 32 bits.
func (s *sweepRISCV) long(at uint64, v uint32) {
	rd, rs := v>>7&31, v>>15&31
	near := uint64(int64(int32(v) >> 20))
	switch v & 0x7f {
	case 0x17: // AUIPC
		s.regs.set(rd, pageValue, s.wrap(at+uint64(int64(int32(v&0xfffff000)))))
		s.clear(rd)
	case 0x37: // LUI
		s.number(at, rd, uint64(int64(int32(v&0xfffff000))), false)
	case 0x13: // ADDI …
		if v>>12&7 == 0 {
			s.add(at, rd, rs, near)
		} else {
			s.forget(rd)
		}
	case 0x1b: // ADDIW
		if s.regs.is(rs) == constantValue && v>>12&7 == 0 {
			s.number(at, rd, uint64(int64(int32(s.regs.value[rs]+near))), true)
		} else {
			s.forget(rd)
		}
	case 0x03: // loads
		word := v>>12&7 == 3 && s.wide || v>>12&7 == 2 && !s.wide
		s.load(at, rd, rs, near, word, true)
	case 0x07: // of floating point
		s.load(at, rd, rs, near, false, false)
	case 0x23, 0x27: // stores
		n := uint64(int64(int32(v)>>25<<5 | int32(v>>7&31)))
		whole := v>>12&7 == 3 && v&0x7f == 0x23
		s.store(at, v>>20&31, rs, n, whole)
	case 0x6f: // JAL
		to := s.wrap(at + uint64(int64(int32(v&0x80000000)>>11|int32(v&0xff000)|int32(v>>9&0x800)|int32(v>>20&0x7fe))))
		s.leap(at, at+4, rd, to)
	case 0x67: // JALR
		s.indirect(at, at+4, rd, rs, near)
	case 0x63: // branches
		to := at + uint64(int64(int32(v&0x80000000)>>19|int32(v<<4&0x800)|int32(v>>20&0x7e0)|int32(v>>7&0x1e)))
		s.jump(s.sweep, at, s.wrap(to))
	case 0x73:
		switch {
		case v == 0x73: // ECALL
			s.enter(at)
		case v == 0x100073: // EBREAK
			s.leave(at + 4)
		default:
			s.forget(rd)
		}
	case 0x33:
		switch v>>25<<3 | v>>12&7 {
		case 0, 0x10<<3 | 2, 0x10<<3 | 4, 0x10<<3 | 6: // ADD, SH1ADD, SH2ADD, SH3ADD
			s.sum(rd, rs, v>>20&31)
		default:
			s.forget(rd)
		}
	case 0x53, 0x57: // of floating point and vectors, some to integers
		s.forget(rd)
	case 0x0f, 0x43, 0x47, 0x4b, 0x4f:
	default:
		s.forget(rd)
	}
}

// clear keeps x0, which is always zero, unknown.
func (s *sweepRISCV) clear(rd uint32) {
	if rd == 0 {
		s.forget(0)
	}
}

// number puts a number into a register. In a file for fixed addresses it may be
// one.
func (s *sweepRISCV) number(at uint64, rd uint32, n uint64, whole bool) {
	n = s.wrap(n)
	s.regs.set(rd, constantValue, n)
	s.clear(rd)
	if whole && s.m.Base != 0 && n>>12 != 0 && (s.targets.data(n) || s.targets.function(n)) {
		s.address(at, n)
		s.regs.set(rd, addressValue, n)
	}
}

// add handles the sum of a register and a number: the lower part of an address,
// a move, or a number alone.
func (s *sweepRISCV) add(at uint64, rd, rs uint32, n uint64) {
	if rd == 0 {
		return
	}
	if rs == 0 {
		s.regs.set(rd, constantValue, s.wrap(n))
		return
	}
	switch kind := s.regs.is(rs); {
	case kind == constantValue:
		s.number(at, rd, s.regs.value[rs]+n, n != 0)
	case kind == loadedValue && n == 0:
		s.regs.set(rd, kind, s.regs.value[rs])
	default:
		to, ok := s.base(rs)
		if !ok {
			s.forget(rd)
			return
		}
		to = s.wrap(to + n)
		if n != 0 || kind == pageValue {
			s.address(at, to)
			kind = addressValue
		}
		s.regs.set(rd, kind, to)
	}
}

// sum handles the sum of two registers, one of which may be an index.
func (s *sweepRISCV) sum(rd, rs, rt uint32) {
	to, ok := s.base(rs)
	if other, both := s.base(rt); both {
		to, ok = other, !ok
	}
	if !ok {
		s.forget(rd)
		return
	}
	s.regs.set(rd, nearValue, to)
	s.clear(rd)
}

// load handles a load; integer says that it is to an integer register.
func (s *sweepRISCV) load(at uint64, rd, rs uint32, n uint64, pointer, integer bool) {
	from, ok := s.base(rs)
	if !ok && s.m.Base != 0 && s.regs.is(rs) == constantValue {
		from, ok = s.regs.value[rs], s.targets.data(s.wrap(s.regs.value[rs]+n))
	}
	from = s.wrap(from + n)
	if ok {
		if pointer {
			s.fetch(at, from)
		} else {
			s.address(at, from)
		}
	} else if s.regs.is(rs) == nearValue {
		s.indexed(at, s.regs.value[rs], n)
	}
	if !integer {
		return
	}
	s.forget(rd)
	if rd == 0 {
		return
	}
	switch {
	case ok && pointer && s.slot(from):
		if p, found := s.global(from); found && !s.targets.function(p) {
			s.regs.set(rd, addressValue, p)
			return
		}
		s.regs.set(rd, loadedValue, from)
		s.note(at, from)
	case rs == stackRISCV && pointer:
		s.frame.load(&s.regs, rd, 31, int64(n))
	}
}

func (s *sweepRISCV) store(at uint64, rt, rs uint32, n uint64, whole bool) {
	to, ok := s.base(rs)
	if !ok && s.m.Base != 0 && s.regs.is(rs) == constantValue {
		to, ok = s.regs.value[rs], s.targets.data(s.wrap(s.regs.value[rs]+n))
	}
	switch {
	case ok:
		s.address(at, s.wrap(to+n))
	case rs == stackRISCV && whole:
		s.frame.store(&s.regs, rt, 31, int64(n))
	}
}

// leap handles a jump to a known place, which is a call if it links.
func (s *sweepRISCV) leap(at, next uint64, rd uint32, to uint64) {
	if rd != 0 {
		s.branch(at, to, Call)
		s.called(preservedRISCV)
		return
	}
	s.jump(s.sweep, at, to)
	s.leave(next)
}

// indirect handles a jump to the address in a register and a distance from it.
func (s *sweepRISCV) indirect(at, next uint64, rd, rs uint32, n uint64) {
	kind := Jump
	if rd == linkRISCV || rd == otherLinkRISCV {
		kind = Call
	}
	if to, ok := s.base(rs); ok {
		to = s.wrap(to + n)
		if kind == Call {
			s.branch(at, to, Call)
		} else {
			s.jump(s.sweep, at, to)
		}
	} else if s.regs.is(rs) == loadedValue && n == 0 {
		s.through(at, s.regs.value[rs], kind)
	} else if kind == Jump && rs != linkRISCV && rs != otherLinkRISCV {
		s.scatter()
	}
	switch {
	case kind == Call:
		s.called(preservedRISCV)
	case rs == linkRISCV:
		s.returned(next)
	default:
		s.leave(next)
	}
}

func (s *sweepRISCV) enter(at uint64) {
	number := -1
	if s.regs.is(numberRISCV) == constantValue {
		if n := s.regs.value[numberRISCV]; n < 1<<16 {
			number = int(n)
		}
	}
	s.syscall(at, number)
	s.forget(10)
}

// short handles an instruction of 16 bits.
func (s *sweepRISCV) short(at uint64, v uint32) {
	rd, rs := v>>7&31, v>>2&31
	high, low := 8+v>>7&7, 8+v>>2&7 // of the eight that short encodings name
	six := uint64(int64(int32(v<<19)>>31<<5 | int32(v>>2&31)))
	switch v&3<<3 | v>>13 {
	case 0: // C.ADDI4SPN
		s.forget(low)
	case 1: // C.FLD
		s.load(at, low, high, uint64(v>>7&0x38|v<<1&0xc0), false, false)
	case 2: // C.LW
		s.load(at, low, high, uint64(v>>7&0x38|v>>4&4|v<<1&0x40), !s.wide, true)
	case 3: // C.LD; C.FLW of 32-bit machines
		if s.wide {
			s.load(at, low, high, uint64(v>>7&0x38|v<<1&0xc0), true, true)
		} else {
			s.load(at, low, high, uint64(v>>7&0x38|v>>4&4|v<<1&0x40), false, false)
		}
	case 5: // C.FSD
		s.store(at, low, high, uint64(v>>7&0x38|v<<1&0xc0), false)
	case 6: // C.SW
		s.store(at, low, high, uint64(v>>7&0x38|v>>4&4|v<<1&0x40), false)
	case 7: // C.SD
		if s.wide {
			s.store(at, low, high, uint64(v>>7&0x38|v<<1&0xc0), true)
		} else {
			s.store(at, low, high, uint64(v>>7&0x38|v>>4&4|v<<1&0x40), false)
		}
	case 8: // C.ADDI
		s.add(at, rd, rd, six)
	case 9: // C.ADDIW; C.JAL of 32-bit machines
		if !s.wide {
			s.leap(at, at+2, linkRISCV, s.wrap(at+jumpRISCV(v)))
		} else if s.regs.is(rd) == constantValue {
			s.number(at, rd, uint64(int64(int32(s.regs.value[rd]+six))), six != 0)
		} else {
			s.forget(rd)
		}
	case 10: // C.LI
		s.add(at, rd, 0, six)
	case 11: // C.LUI; C.ADDI16SP
		if rd == stackRISCV {
			s.forget(rd)
		} else {
			s.number(at, rd, six<<12, false)
		}
	case 12:
		s.forget(high)
	case 13: // C.J
		s.leap(at, at+2, 0, s.wrap(at+jumpRISCV(v)))
	case 14, 15: // C.BEQZ, C.BNEZ
		n := int32(v<<19)>>31<<8 | int32(v<<1&0xc0|v<<3&0x20|v>>7&0x18|v>>2&6)
		s.jump(s.sweep, at, s.wrap(at+uint64(int64(n))))
	case 16: // C.SLLI
		s.forget(rd)
	case 18: // C.LWSP
		s.load(at, rd, stackRISCV, uint64(v>>7&0x20|v>>2&0x1c|v<<4&0xc0), !s.wide, true)
	case 19: // C.LDSP
		if s.wide {
			s.load(at, rd, stackRISCV, uint64(v>>7&0x20|v>>2&0x18|v<<4&0x1c0), true, true)
		}
	case 20:
		s.between(at, v, rd, rs)
	case 23: // C.SDSP
		if s.wide {
			s.store(at, rs, stackRISCV, uint64(v>>7&0x38|v>>1&0x1c0), true)
		}
	}
}

// between handles C.JR, C.MV, C.JALR, C.ADD and C.EBREAK.
func (s *sweepRISCV) between(at uint64, v, rd, rs uint32) {
	link := v >> 12 & 1
	switch {
	case rs == 0 && rd == 0:
		s.leave(at + 2)
	case rs == 0:
		s.indirect(at, at+2, link, rd, 0)
	case link == 0 && rd != 0:
		if k := s.regs.is(rs); k != unknownValue {
			s.regs.set(rd, k, s.regs.value[rs])
		} else {
			s.forget(rd)
		}
	default:
		s.sum(rd, rd, rs)
	}
}

// jumpRISCV decodes the distance of C.J and C.JAL.
func jumpRISCV(v uint32) uint64 {
	n := int32(v<<19)>>31<<11 | int32(v<<2&0x400|v>>1&0x300|v<<1&0x80|v>>1&0x40|v<<3&0x20|v>>7&0x10|v>>2&0xe)
	return uint64(int64(n))
}
