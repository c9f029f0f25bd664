package code

import (
	"math/bits"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// scanARM reads 32-bit ARM code: A32 instructions, which are words, and T32
// instructions (Thumb), of one or two halfwords (Arm Architecture Reference
// Manual for A-profile, chapters F3 "T32 Instruction Set Encoding" and F4 "A32
// Instruction Set Encoding").
//
// An address comes from a word beside the code or from a pair of moves, and in
// code for any address is the distance from an instruction that adds the
// program counter. So the scan keeps what registers hold.
func scanARM(r *reader, addr uint64, code []byte) {
	s := &sweepARM{sweep: newSweep(r), flow: newFlow(1, code), addr: addr, code: code, pool: make([]uint64, len(code)/256+1)}
	s.swapped = r.c.Image.BigEndian && !littleCode(r.c.Image)
	s.modes = r.c.Image.Modes
	s.number = 7
	if r.c.Image.Format == image.MachO {
		s.number = 12
	}
	s.begin(s.sweep, addr)
	s.run()
	s.sort(s.first)
}

// littleCode reports whether a big-endian ELF file has little-endian code: the
// flag EF_ARM_BE8 of its header (AAELF32, "ELF Header").
func littleCode(m *image.Image) bool {
	return m.Format == image.ELF && len(m.Data) >= 40 && m.Data[37]&0x80 != 0
}

// Registers with a part of their own.
const (
	stackARM = 13
	linkARM  = 14
	pcARM    = 15

	// preservedARM are the registers that a function which is called keeps
	// (Procedure Call Standard for the Arm Architecture, "Core registers"): R4
	// to R11.
	preservedARM = 0xff0
)

// A sweepARM goes through code in its order.
type sweepARM struct {
	*sweep
	flow
	addr     uint64
	code     []byte
	first    int      // reference
	swapped  bool     // big-endian instructions
	pool     []uint64 // words that a load reads, by their number
	modes    []image.Mode
	mapped   bool // modes tell of all code, not of starts of functions alone
	thumb    bool // what is at the place that the sweep has come to
	data     bool
	usual    bool // Thumb, where nothing tells
	number   uint32
	literals [16]int // references that numbers left, by the register
	cases    int     // of a switch, as the last comparison has it
}

func (s *sweepARM) half(i int) uint32 {
	if s.swapped {
		return uint32(s.code[i])<<8 | uint32(s.code[i+1])
	}
	return uint32(s.code[i]) | uint32(s.code[i+1])<<8
}

func (s *sweepARM) full(i int) uint32 {
	if s.swapped {
		return s.half(i)<<16 | s.half(i+2)
	}
	return s.half(i) | s.half(i+2)<<16
}

func (s *sweepARM) run() {
	s.first = len(s.c.Refs)
	s.usual = s.looksThumb(0, min(len(s.code), 1<<16))
	// Of starts of functions, some may stand in front of the section.
	i := sort.Search(len(s.modes), func(i int) bool { return s.modes[i].Addr >= s.addr })
	for k := i; k < len(s.modes) && k-i < 4096 && !s.mapped; k++ {
		s.mapped = !s.modes[k].Start
	}
	if i > 0 && !s.modes[i-1].Start {
		s.mapped = true
		s.setMode(&s.modes[i-1])
	}
	s.modes = s.modes[i:]
	for i := 0; i+2 <= len(s.code); {
		at := s.addr + uint64(i)
		if at >= s.stop {
			s.come(at, i)
		}
		switch {
		case s.data:
			i = int(min(s.stop-s.addr, uint64(len(s.code))))
		case i&3 == 0 && s.pooled(i):
			i += 4
		case s.thumb:
			a := s.half(i)
			if a>>11 < 0x1d {
				s.narrow(at, a)
				i += 2
			} else if i+4 <= len(s.code) {
				i = s.wide(at, i, a, s.half(i+2))
			} else {
				return
			}
		case i&3 != 0:
			i += 2
		case i+4 <= len(s.code):
			s.instruction(at, s.full(i))
			i += 4
		default:
			return
		}
	}
}

func (s *sweepARM) setMode(m *image.Mode) { s.thumb, s.data = m.Thumb, m.Data }

// come handles what begins at an address, and finds out the instruction set.
func (s *sweepARM) come(at uint64, i int) {
	begins := s.arrive(at)
	if begins {
		s.cases = maxCases
	}
	told := false
	for len(s.modes) > 0 && s.modes[0].Addr <= at {
		if m := &s.modes[0]; !m.Start || m.Addr == at && !s.mapped {
			s.setMode(m)
			told = true
		}
		s.modes = s.modes[1:]
	}
	if begins && !told && !s.mapped {
		end := len(s.code)
		if s.area.hi-s.addr < uint64(end) {
			end = int(s.area.hi - s.addr)
		}
		s.data, s.thumb = false, s.usual
		if end-i >= 16 {
			s.thumb = s.looksThumb(i, min(end, i+4096))
		}
	}
	if len(s.modes) > 0 {
		s.stop = min(s.stop, s.modes[0].Addr)
	}
}

// looksThumb tells Thumb from A32 code, most of whose instructions are
// unconditional: their words begin with 14.
func (s *sweepARM) looksThumb(from, to int) bool {
	words, always := 0, 0
	for i := (from + 3) &^ 3; i+4 <= to; i += 4 {
		words++
		if s.full(i)>>28 == 14 {
			always++
		}
	}
	return always*2 < words
}

// read marks a word that a load reads as no instructions.
func (s *sweepARM) read(addr uint64) {
	if off := addr - s.addr; off < uint64(len(s.code)) {
		s.pool[off/256] |= 1 << (off / 4 & 63)
	}
}

func (s *sweepARM) pooled(i int) bool { return s.pool[i/256]>>(i/4&63)&1 != 0 }

// mask keeps an address within 32 bits.
func mask(v uint64) uint64 { return v & 0xffffffff }

// value returns the address that a number stands for, if it is one: as a
// pointer to a function it has bit 0 set for Thumb code.
func (s *sweepARM) value(n uint64) (uint64, bool) {
	switch {
	case s.targets.data(n):
		return n, true
	case s.targets.function(n &^ 1):
		return n &^ 1, true
	}
	return 0, false
}

// place records that an instruction makes an address, and puts it into a
// register.
func (s *sweepARM) place(at uint64, rd uint32, to uint64) {
	to = mask(to)
	if v, ok := s.value(to); ok {
		to = v
	}
	s.address(at, to)
	s.regs.set(rd, addressValue, to)
}

// number32 puts a number into a register. In a file for fixed addresses it may
// be one, unless it turns out to be a distance.
func (s *sweepARM) number32(at uint64, rd uint32, n uint64, whole bool) {
	n = mask(n)
	s.regs.set(rd, constantValue, n)
	if v, ok := s.fixed(n); ok && whole {
		if s.address(at, v) {
			s.literals[rd&15] = len(s.c.Refs) - 1
		}
	}
}

// fixed returns the address that a number is in a file for fixed addresses.
func (s *sweepARM) fixed(n uint64) (uint64, bool) {
	if s.m.Base == 0 || n>>16 == 0 {
		return 0, false
	}
	return s.value(n)
}

// base returns the address that a register holds.
func (s *sweepARM) base(rn uint32) (uint64, bool) {
	switch n := s.regs.value[rn]; s.regs.is(rn) {
	case addressValue:
		return n, true
	case constantValue:
		return s.fixed(n)
	}
	return 0, false
}

// constantAt loads a word beside the code.
func (s *sweepARM) constantAt(at uint64, rd uint32, from uint64) {
	from = mask(from)
	s.read(from)
	if p, ok := s.pointer(from); ok {
		s.place(at, rd, p)
		return
	}
	off := from - s.addr
	if off > uint64(len(s.code)) || uint64(len(s.code))-off < 4 {
		if s.address(at, from) {
			s.fetched(at, rd, from)
		} else {
			s.regs.forget(rd)
		}
		return
	}
	s.number32(at, rd, s.word(s.code[off:]), true)
}

// sum puts the sum of two registers into a third: an address that is made in
// two steps. pc is what the program counter reads as.
func (s *sweepARM) sum(at, pc uint64, rd, rn, rm uint32) {
	to, ok := s.added(pc, rn, rm)
	if !ok {
		s.index(rd, rn, rm)
		return
	}
	s.place(at, rd, to)
}

// index puts into a register the sum of two, one of which may be an index.
func (s *sweepARM) index(rd, rn, rm uint32) {
	if s.regs.is(rn) != addressValue {
		rn, rm = rm, rn
	}
	if s.regs.is(rn) == addressValue && s.regs.is(rm) == unknownValue && rn != pcARM && rm != pcARM && rd != pcARM {
		s.regs.set(rd, nearValue, s.regs.value[rn])
	} else {
		s.regs.forget(rd)
	}
}

// added returns the sum of two registers if it is an address.
func (s *sweepARM) added(pc uint64, rn, rm uint32) (uint64, bool) {
	if rm == pcARM || s.regs.is(rm) == addressValue {
		rn, rm = rm, rn
	}
	if s.regs.is(rm) != constantValue {
		return 0, false
	}
	n := s.regs.value[rm]
	if rn == pcARM {
		s.distance(rm)
		return mask(pc + n), true
	}
	if to, ok := s.base(rn); ok {
		return mask(to + n), true
	}
	if to, ok := s.base(rm); ok && s.regs.is(rn) == constantValue {
		return mask(to + s.regs.value[rn]), true
	}
	return 0, false
}

// distance takes back that the number in a register is an address.
func (s *sweepARM) distance(rn uint32) {
	const near = 16 // references
	i := s.literals[rn&15]
	if v, ok := s.fixed(s.regs.value[rn]); !ok || i < s.first || i >= len(s.c.Refs) || len(s.c.Refs)-i > near || s.c.Refs[i].Target != v {
		return
	}
	s.c.Refs = slices.Delete(s.c.Refs, i, i+1)
	for r := range s.literals {
		if s.literals[r] >= i {
			s.literals[r]--
		}
	}
}

// access handles a load or store of a word or less at a known address.
func (s *sweepARM) access(at uint64, rt uint32, from uint64, load, word bool) {
	from = mask(from)
	if load && word {
		s.fetch(at, from)
		s.fetched(at, rt, from)
		return
	}
	s.address(at, from)
	if load {
		s.regs.forget(rt)
	}
}

// fetched notes that a register holds the pointer at an address.
func (s *sweepARM) fetched(at uint64, rt uint32, from uint64) {
	s.regs.forget(rt)
	if s.slot(from) {
		if p, ok := s.global(from); ok && !s.targets.function(p) {
			s.regs.set(rt, addressValue, p)
			return
		}
		s.regs.set(rt, loadedValue, from)
		s.note(at, from)
	}
}

// indirect handles a branch to the address in a register.
func (s *sweepARM) indirect(at, next uint64, rm uint32, kind Kind) {
	if s.regs.is(rm) == loadedValue {
		s.through(at, s.regs.value[rm], kind)
	} else if to, ok := s.base(rm); ok {
		s.branch(at, to, kind)
	}
	switch {
	case kind == Call:
		s.called(preservedARM)
	case rm == linkARM:
		s.returned(next)
	default:
		s.leave(next)
	}
}

// direct handles a branch to a known place. From Thumb code, a stub may have a
// way in of its own before it: BX PC.
func (s *sweepARM) direct(at, to uint64, kind Kind) {
	to = mask(to)
	if s.thumb && !s.targets.function(to) {
		if b := s.m.At(to); len(b) >= 4 && b[0] == 0x78 && b[1] == 0x47 {
			if _, _, ok := s.targets.through(to + 4); ok {
				to += 4
			}
		}
	}
	if kind == Call {
		s.branch(at, to, Call)
		s.called(preservedARM)
		return
	}
	s.jump(s.sweep, at, to)
}

// enter records a system call.
func (s *sweepARM) enter(at uint64, old uint32) {
	number := -1
	if s.m.Format == image.PE { // breakpoints, assertions
		return
	}
	switch {
	case old>>20 == 9: // the number is in the instruction, before EABI
		number = int(old & 0xfffff)
	case s.regs.is(s.number) == constantValue:
		if n := int64(int32(s.regs.value[s.number])); n < 1<<20 {
			number = int(n)
		}
	}
	if s.m.Format != image.MachO && number < 0 {
		number = -1
	}
	s.syscall(at, number)
	s.regs.forget(0)
}

// forgetList forgets the registers of a list.
func (s *sweepARM) forgetList(list uint32) { s.regs.known &^= list & 0xffff }

// expandARM decodes the immediate of A32 data processing.
func expandARM(v uint32) uint64 {
	return uint64(bits.RotateLeft32(v&0xff, -int(v>>8&15*2)))
}

// signedBy returns distance, or minus distance if up is 0.
func signedBy(distance, up uint32) uint64 {
	if up == 0 {
		return -uint64(distance)
	}
	return uint64(distance)
}

// instruction handles one of A32.
func (s *sweepARM) instruction(at uint64, v uint32) {
	next := at + 4
	always := v>>28 == 14
	rn, rd, rm := v>>16&15, v>>12&15, v&15
	distance := uint64(int64(int32(v<<8) >> 6))
	if v>>28 == 15 {
		if v>>25 == 0x7d { // BLX
			s.direct(at, at+8+distance+uint64(v>>24&1<<1), Call)
		} else {
			s.regs.forget(rn) // base of vector loads
		}
		return
	}
	switch v >> 25 & 7 {
	case 0:
		switch {
		case v&0x0ffffff0 == 0x012fff10: // BX
			if always {
				s.indirect(at, next, rm, Jump)
			}
		case v&0x0ffffff0 == 0x012fff30: // BLX
			s.indirect(at, next, rm, Call)
		case v&0x90 == 0x90: // multiplications, loads and stores of other sizes
			s.other(at, v, rn, rd)
		case v&0x0fef0ff0 == 0x01a00000: // MOV
			s.copy(rd, rm)
			if rd == pcARM && always {
				s.indirect(at, next, rm, Jump)
			}
		case v&0x0fe00ff0 == 0x00800000: // ADD
			s.sum(at, at+8, rd, rn, rm)
			if rd == pcARM && always {
				s.scatter()
				s.leave(next)
			}
		case v&0x0fe00010 == 0x00800000: // ADD of a shifted register
			s.index(rd, rn, rm)
		case v>>23&3 == 2 && v>>20&1 != 0: // TST, TEQ, CMP, CMN
		default:
			s.regs.forget(rd)
		}
	case 1:
		switch n := expandARM(v); v >> 20 & 31 {
		case 0x10: // MOVW
			s.number32(at, rd, uint64(rn<<12|v&0xfff), false)
		case 0x14: // MOVT
			if s.regs.is(rd) == constantValue {
				s.number32(at, rd, s.regs.value[rd]&0xffff|uint64(rn<<12|v&0xfff)<<16, true)
			} else {
				s.regs.forget(rd)
			}
		case 0x1a, 0x1b: // MOV
			s.regs.set(rd, constantValue, n)
		case 0x1e, 0x1f: // MVN
			s.regs.set(rd, constantValue, mask(^n))
		case 8, 9: // ADD
			s.offset(at, at+8, rd, rn, n)
		case 4, 5: // SUB
			s.offset(at, at+8, rd, rn, -n)
		case 0x11, 0x13, 0x15, 0x17, 0x12, 0x16: // tests; MSR
		default:
			s.regs.forget(rd)
		}
	case 2, 3:
		if v>>25&1 != 0 && v>>4&1 != 0 { // media
			s.regs.forget(rd)
			s.regs.forget(rn)
			return
		}
		s.single(at, next, v, rn, rd, rm, always)
	case 4:
		if v>>21&1 != 0 {
			s.regs.forget(rn)
		}
		if v>>20&1 != 0 {
			s.forgetList(v)
			if v>>15&1 != 0 && always {
				s.returned(next)
			}
		}
	case 5:
		if v>>24&1 != 0 {
			s.direct(at, at+8+distance, Call)
			return
		}
		s.direct(at, at+8+distance, Jump)
		if always {
			s.leave(next)
		}
	case 6, 7:
		if v>>24&15 == 15 {
			s.enter(at, v&0xffffff)
			return
		}
		s.coprocessor(at, at+8, v, rn, rd)
	}
}

// copy moves one register to another.
func (s *sweepARM) copy(rd, rm uint32) {
	if k := s.regs.is(rm); k != unknownValue && rd != pcARM {
		s.regs.set(rd, k, s.regs.value[rm])
	} else {
		s.regs.forget(rd)
	}
}

// offset adds a number to a register: a part of an address, or ADR.
func (s *sweepARM) offset(at, pc uint64, rd, rn uint32, n uint64) {
	switch {
	case rn == pcARM:
		s.place(at, rd, pc&^3+n)
	default:
		if to, ok := s.base(rn); ok {
			s.place(at, rd, to+n)
		} else {
			s.regs.forget(rd)
		}
	}
}

// other handles multiplications and the loads and stores of halfwords and
// pairs of A32.
func (s *sweepARM) other(at uint64, v, rn, rd uint32) {
	if v>>5&3 == 0 { // multiplications, exclusive
		s.regs.forget(rn)
		s.regs.forget(rd)
		return
	}
	load := v>>20&1 != 0
	pair := !load && v>>6&1 != 0
	if v>>22&1 != 0 && v>>24&1 != 0 {
		n := signedBy(v>>4&0xf0|v&15, v>>23&1)
		if rn == pcARM {
			s.read(mask(at + 8 + n))
			if pair {
				s.read(mask(at + 12 + n))
			}
		} else if to, ok := s.base(rn); ok {
			s.address(at, mask(to+n))
		}
	}
	if load || pair && v>>5&1 == 0 {
		s.regs.forget(rd)
		if pair {
			s.regs.forget(rd + 1)
		}
	}
	if v>>24&1 == 0 || v>>21&1 != 0 {
		s.regs.forget(rn)
	}
}

// single handles loads and stores of a word or a byte of A32.
func (s *sweepARM) single(at, next uint64, v, rn, rd, rm uint32, always bool) {
	load, word := v>>20&1 != 0, v>>22&1 == 0
	before, back := v>>24&1 != 0, v>>24&1 == 0 || v>>21&1 != 0
	known := false
	var from uint64
	switch {
	case v>>25&1 == 0:
		n := signedBy(v&0xfff, v>>23&1)
		if !before {
			n = 0
		}
		switch {
		case rn == pcARM && load && word && rd != pcARM:
			s.constantAt(at, rd, at+8+n)
			return
		case rn == pcARM:
			from, known = at+8+n, true
		case rn == stackARM && before && !back && word:
			if load {
				s.regs.forget(rd)
				s.frame.load(&s.regs, rd, 31, int64(n))
			} else {
				s.frame.store(&s.regs, rd, 31, int64(n))
			}
		default:
			if from, known = s.base(rn); known {
				from += n
			} else if s.regs.is(rn) == nearValue && before {
				s.indexed(at, s.regs.value[rn], n)
			}
		}
	case v>>4&0xff == 0 && v>>23&1 != 0 && before:
		from, known = s.added(at+8, rn, rm)
	}
	if known {
		s.access(at, rd, from, load, word)
	} else if load && (rn != stackARM || v>>25&1 != 0) {
		s.regs.forget(rd)
	}
	if back {
		s.regs.forget(rn)
	}
	if load && rd == pcARM {
		switch {
		case known:
			s.through(at, mask(from), Jump)
			fallthrough
		default:
			if rn != stackARM && !known {
				s.scatter()
			}
			if always {
				if rn == stackARM {
					s.returned(next)
				} else {
					s.leave(next)
				}
			}
		}
	}
}

// coprocessor handles vector loads and stores, and moves to core registers.
func (s *sweepARM) coprocessor(at, pc uint64, v, rn, rd uint32) {
	if v>>25&1 != 0 { // operations, moves
		if v>>4&1 != 0 && v>>20&1 != 0 {
			s.regs.forget(rd)
		}
		return
	}
	if v>>21&0xf == 2 { // two core registers
		if v>>20&1 != 0 {
			s.regs.forget(rd)
			s.regs.forget(rn)
		}
		return
	}
	if v>>24&1 != 0 && v>>21&1 == 0 {
		n := signedBy(v&0xff<<2, v>>23&1)
		if rn == pcARM {
			from := mask(pc&^3 + n)
			s.read(from)
			if v>>8&1 != 0 {
				s.read(from + 4)
			}
			s.address(at, from)
		} else if to, ok := s.base(rn); ok {
			s.address(at, mask(to+n))
		}
		return
	}
	if v>>21&1 != 0 {
		s.regs.forget(rn)
	}
}
