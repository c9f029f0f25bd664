package code

import (
	"encoding/binary"
	"math/bits"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// scanARM64 reads AArch64 code, whose instructions are words of 32 bits in
// little-endian order on every system (Arm Architecture Reference Manual for
// A-profile, chapter C4, "A64 Instruction Set Encoding").
//
// An address takes two instructions: ADRP for its page, and one that adds the
// rest. They need not be neighbours, so the scan keeps what each register
// holds.
func scanARM64(r *reader, addr uint64, code []byte) {
	s := &sweepARM64{sweep: newSweep(r), flow: newFlow(2, code), number: 8}
	s.narrow = s.m.Bits == 32
	if s.m.Format == image.MachO {
		s.number = 16
	}
	s.run(addr, code)
}

// preservedARM64 are the registers that a function which is called keeps
// (Procedure Call Standard for the Arm 64-bit Architecture, "General-purpose
// Registers"): X19 to X29.
const preservedARM64 = 0x3ff80000

// A sweepARM64 goes through code in its order.
type sweepARM64 struct {
	*sweep
	flow
	addr   uint64
	code   []byte
	number uint32 // register with the number of a system call
	narrow bool   // pointers have 32 bits
}

// Classes of instructions, by their highest byte.
const (
	otherARM64     = iota // changes no register that is of interest
	plainARM64            // 1: writes the register that its lowest bits say
	immediateARM64        // data processing with an immediate
	moveARM64             // ORR of registers
	controlARM64
	memoryARM64
	literalARM64
	vectorARM64 // may write a general register
)

// classesARM64 is the manual's "A64 instruction index by encoding".
var classesARM64 = func() (t [256]uint8) {
	for b := range t {
		switch b >> 1 & 15 {
		case 8, 9:
			t[b] = immediateARM64
			if b&31 == 0x13 { // bit fields, EXTR
				t[b] = plainARM64
			}
		case 10, 11:
			t[b] = controlARM64
		case 4, 6, 12, 14:
			t[b] = memoryARM64
			if b&0x3b == 0x18 {
				t[b] = literalARM64
			}
		case 2, 5, 13: // SVE: counts of elements
			t[b] = plainARM64
			if b&0x7f == 0x2a {
				t[b] = moveARM64
			}
		case 7, 15:
			if b&0x5f == 0x1e || b&0xbf == 0x0e {
				t[b] = vectorARM64
			}
		}
	}
	return t
}()

func (s *sweepARM64) run(addr uint64, code []byte) {
	first := len(s.c.Refs)
	s.addr, s.code = addr, code
	s.begin(s.sweep, addr)
	for i := 0; i+4 <= len(code); i += 4 {
		at := addr + uint64(i)
		if at >= s.stop {
			s.arrive(at)
		}
		v := binary.LittleEndian.Uint32(code[i:])
		class := classesARM64[v>>24]
		if class <= plainARM64 {
			if s.regs.known>>(v&31)&uint32(class) != 0 {
				s.regs.forget(v)
			}
			continue
		}
		switch class {
		case memoryARM64:
			s.memory(at, v)
		case immediateARM64:
			s.immediate(at, v)
		case moveARM64:
			s.move(v)
		case controlARM64:
			s.control(at, v)
		case literalARM64:
			s.literal(at, v)
		case vectorARM64:
			if v&0x5f20fc00 == 0x1e200000 || v&0xbfe0ec00 == 0x0e002c00 { // FCVT*, FMOV; SMOV, UMOV
				s.regs.forget(v)
			}
		}
	}
	s.sort(first)
}

// immediate handles "Data Processing -- Immediate".
func (s *sweepARM64) immediate(at uint64, v uint32) {
	rd, rn := v&31, v>>5&31
	switch v >> 23 & 7 {
	case 0, 1: // ADR, ADRP
		distance := int64(int32(v>>5&0x7ffff<<2|v>>29&3) << 11 >> 11)
		if v>>31 != 0 {
			s.regs.set(rd, pageValue, at&^0xfff+uint64(distance<<12))
			return
		}
		to := at + uint64(distance)
		s.address(at, to)
		s.regs.set(rd, addressValue, to)
	case 2: // ADD, SUB
		if s.regs.known == 0 {
			return
		}
		n := uint64(v >> 10 & 0xfff)
		if v>>22&1 != 0 {
			n <<= 12
		}
		kind, wide := s.regs.is(rn), v>>31 != 0
		switch {
		case (kind == pageValue || kind == addressValue) && v>>29&3 == 0 && (wide || s.narrow):
			to := s.regs.value[rn] + n
			if v>>22&1 != 0 && kind == pageValue { // of a large offset, the upper half
				s.regs.set(rd, pageValue, to)
				return
			}
			s.address(at, to)
			s.regs.set(rd, addressValue, to)
		case kind == loadedValue && n == 0 && v>>29&3 == 0:
			s.regs.set(rd, kind, s.regs.value[rn])
		default:
			s.regs.forget(rd)
		}
	case 4: // AND, ORR, EOR, ANDS
		s.regs.forget(rd)
		if n, ok := bitmaskARM64(v); ok && v>>29&3 == 1 && rn == 31 && rd == s.number { // MOV
			s.constantTo(rd, n)
		}
	case 5: // MOVN, MOVZ, MOVK
		n := uint64(v >> 5 & 0xffff)
		shift := v >> 21 & 3 * 16
		switch v >> 29 & 3 {
		case 0:
			n = ^(n << shift)
			if v>>31 == 0 {
				n &= 0xffffffff
			}
			s.constantTo(rd, n)
		case 2:
			s.constantTo(rd, n<<shift)
		case 3:
			if s.regs.is(rd) != constantValue {
				s.regs.forget(rd)
			} else {
				s.constantTo(rd, s.regs.value[rd]&^(0xffff<<shift)|n<<shift)
			}
		}
	default: // bit fields, EXTR
		s.regs.forget(rd)
	}
}

// constantTo puts a number into a register. Only one register's numbers count.
func (s *sweepARM64) constantTo(rd uint32, n uint64) {
	if rd == s.number {
		s.regs.set(rd, constantValue, n)
	} else {
		s.regs.forget(rd)
	}
}

// bitmaskARM64 decodes the immediate of a logical instruction (the manual's
// DecodeBitMasks).
func bitmaskARM64(v uint32) (uint64, bool) {
	n, rotate, ones := v>>22&1, v>>16&63, v>>10&63
	size := 31 - bits.LeadingZeros32(n<<6|^ones&63)
	if size < 1 || v>>31 == 0 && n != 0 {
		return 0, false
	}
	width := uint32(1) << size
	ones &= width - 1
	rotate &= width - 1
	if ones == width-1 {
		return 0, false
	}
	element := uint64(1)<<(ones+1) - 1
	if rotate > 0 {
		element = element>>rotate | element<<(width-rotate)
	}
	if width < 64 {
		element &= 1<<width - 1
	}
	for ; width < 64; width *= 2 {
		element |= element << width
	}
	if v>>31 == 0 {
		element &= 0xffffffff
	}
	return element, true
}

// control handles "Branches, Exception Generating and System instructions".
func (s *sweepARM64) control(at uint64, v uint32) {
	switch {
	case v>>31 != 0 && v>>26&31 == 5: // BL
		s.branch(at, at+uint64(int64(int32(v<<6)>>4)), Call)
		s.called(preservedARM64)
	case v>>26 == 5: // B
		to := at + uint64(int64(int32(v<<6)>>4))
		s.jump(s.sweep, at, to)
		s.leave(at + 4)
	case v>>24 == 0x54, v&0x7e000000 == 0x34000000: // B.cond, CBZ, CBNZ
		s.jump(s.sweep, at, at+uint64(int64(int32(v<<8)>>13)<<2))
	case v&0x7e000000 == 0x36000000: // TBZ, TBNZ
		s.jump(s.sweep, at, at+uint64(int64(int32(v<<13)>>18)<<2))
	case v>>25 == 0x6b: // to the address in a register
		s.indirect(at, v)
	case v&0xffe0001f == 0xd4000001: // SVC
		s.enter(at, v)
	case v&0xffe0001f == 0xd4200000: // BRK
		s.leave(at + 4)
	case v&0xfff00000 == 0xd5300000: // MRS
		s.regs.forget(v)
	}
}

// indirect handles BR, BLR, RET and their forms that authenticate the address.
func (s *sweepARM64) indirect(at uint64, v uint32) {
	rn := v >> 5 & 31
	op := v >> 21 & 15
	kind := s.regs.is(rn)
	switch op &^ 8 {
	case 0: // BR
		switch kind {
		case loadedValue:
			s.through(at, s.regs.value[rn], Jump)
		case addressValue:
			s.branch(at, s.regs.value[rn], Jump)
		}
		if kind == unknownValue {
			s.scatter()
		}
		s.leave(at + 4)
	case 1: // BLR
		switch kind {
		case loadedValue:
			s.through(at, s.regs.value[rn], Call)
		case addressValue:
			s.branch(at, s.regs.value[rn], Call)
		}
		s.called(preservedARM64)
	case 2, 4, 5: // RET, ERET, DRPS
		s.returned(at + 4)
	}
}

// enter records a system call. The kernel keeps the registers, but those of
// results.
func (s *sweepARM64) enter(at uint64, v uint32) {
	number := -1
	switch n := v >> 5 & 0xffff; {
	case s.m.Format == image.PE:
		// The number is in the instruction, and what the system library offers
		// returns at once. Compilers put others where nothing comes by.
		next := at - s.addr + 4
		if uint64(len(s.code)) < next+4 || binary.LittleEndian.Uint32(s.code[next:]) != 0xd65f03c0 {
			return
		}
		number = int(n)
	case s.regs.is(s.number) == constantValue:
		if n := int64(s.regs.value[s.number]); s.number == 16 {
			number = int(int32(n)) // of a Mach trap, negative
		} else if n >= 0 && n < 1<<16 {
			number = int(n)
		}
	}
	s.syscall(at, number)
	s.regs.forget(0)
	s.regs.forget(1)
}

// memory handles "Loads and Stores".
func (s *sweepARM64) memory(at uint64, v uint32) {
	rt, rn := v&31, v>>5&31
	vector := v>>26&1 != 0
	if v>>29&1 != 0 && s.regs.known>>rn&1 == 0 && (rn < 29 || !s.frame.used && s.regs.known>>rt&1 == 0) {
		// Pairs and single registers, most of which have a base of which
		// nothing is known and only write to registers.
		switch {
		case vector:
		case v>>28&1 == 0:
			if v>>22&1 != 0 {
				s.regs.known &^= 1<<rt | 1<<(v>>10&31)
			} else if rn >= 29 && s.regs.known>>(v>>10&31)&1 != 0 {
				break
			}
			return
		default:
			if s.regs.known>>rt&1 != 0 && (v>>22&3 != 0 || v>>24&1 == 0 && v>>21&1 != 0 && v>>10&3 == 0) { // not stores
				s.regs.forget(rt)
			}
			return
		}
		if vector {
			return
		}
	}
	switch v >> 28 & 3 {
	case 0: // vectors; exclusive, atomic
		if !vector {
			s.regs.forget(v >> 16) // status
			if v>>22&1 != 0 {
				s.regs.forget(rt)
				s.regs.forget(v >> 10)
			}
		} else if v>>23&1 != 0 {
			s.regs.forget(rn)
		}
	case 2: // pairs
		scale := 2 + v>>31
		if vector {
			scale = 2 + v>>30
		}
		distance := int64(int32(v<<10)>>25) << scale
		mode := v >> 23 & 3
		if mode == 1 {
			distance = 0 // added later
		}
		base := s.base(rn)
		to := base + uint64(distance)
		if base != 0 {
			s.address(at, to)
		}
		rt2 := v >> 10 & 31
		whole := !vector && v>>30 == 2 && mode == 2
		if v>>22&1 == 0 && whole {
			s.frame.store(&s.regs, rt, rn, distance)
			s.frame.store(&s.regs, rt2, rn, distance+8)
		}
		if v>>22&1 != 0 && !vector {
			s.regs.forget(rt)
			s.regs.forget(rt2)
			if whole {
				s.frame.load(&s.regs, rt, rn, distance)
				s.frame.load(&s.regs, rt2, rn, distance+8)
			}
			if base != 0 && v>>30 == 2 {
				s.load(at, rt, to)
				s.address(at, to+8)
				s.load(at, rt2, to+8)
			}
		}
		if mode&1 != 0 {
			s.regs.forget(rn)
		}
	case 3:
		s.single(at, v, rt, rn, vector)
	default:
		s.regs.forget(rt)
	}
}

// base returns the address that a register holds, or 0.
func (s *sweepARM64) base(rn uint32) uint64 {
	if k := s.regs.is(rn); k == pageValue || k == addressValue {
		return s.regs.value[rn]
	}
	return 0
}

// single handles loads and stores of one register.
func (s *sweepARM64) single(at uint64, v, rt, rn uint32, vector bool) {
	size, op := v>>30, v>>22&3
	base := s.base(rn)
	loads := !vector && op != 0 && !(size == 3 && op == 2) // not stores, not PRFM
	var distance int64
	writes := false
	switch {
	case v>>24&1 != 0: // unsigned offset
		scale := size
		if vector && op&2 != 0 {
			scale = 4
		}
		distance = int64(v>>10&0xfff) << scale
		if size == 3 && !vector && rn >= 29 && op < 2 {
			if op == 0 {
				s.frame.store(&s.regs, rt, rn, distance)
			} else {
				s.regs.forget(rt)
				s.frame.load(&s.regs, rt, rn, distance)
			}
			return
		}
	case v>>21&1 == 0: // unscaled, or with the base written before or after
		mode := v >> 10 & 3
		if mode != 1 {
			distance = int64(int32(v<<11) >> 23)
		}
		writes = mode&1 != 0
	case v>>10&3 == 0: // atomic
		loads, base = !vector, 0
	case v>>10&3 == 2: // register offset
		base = 0
	default: // LDRAA, LDRAB
		loads, base, writes = true, 0, v>>11&1 != 0
		if b := s.base(rn); b != 0 {
			base, distance = b, int64(int32(v<<11)>>23)<<3
		}
	}
	if base != 0 {
		to := base + uint64(distance)
		pointer := loads && op == 1 && (size == 3 || size == 2 && s.narrow)
		if pointer {
			s.fetch(at, to)
		} else {
			s.address(at, to)
		}
		if loads {
			s.regs.forget(rt)
		}
		if pointer {
			s.load(at, rt, to)
		}
	} else if loads {
		s.regs.forget(rt)
	}
	if writes {
		s.regs.forget(rn)
	}
}

// load notes that a register holds the pointer at an address.
func (s *sweepARM64) load(at uint64, rt uint32, from uint64) {
	if s.slot(from) {
		s.regs.set(rt, loadedValue, from)
		s.note(at, from)
	}
}

// literal handles a load from beside the code.
func (s *sweepARM64) literal(at uint64, v uint32) {
	to := at + uint64(int64(int32(v<<8)>>13)<<2)
	s.address(at, to)
	if v>>26&1 != 0 || v>>30 == 3 { // PRFM
		return
	}
	s.regs.forget(v)
	if v>>30 != 1 {
		return
	}
	if p, ok := s.constant(to); ok {
		s.address(at, p)
		s.regs.set(v&31, addressValue, p)
		return
	}
	s.load(at, v&31, to)
}

// move handles ORR of registers, which moves one to another if the first is
// none.
func (s *sweepARM64) move(v uint32) {
	rd, rm := v&31, v>>16&31
	if v&0x7fe0ffe0 == 0x2a0003e0 { // MOV
		if k := s.regs.is(rm); k != unknownValue && (v>>31 != 0 || k == constantValue || s.narrow) {
			s.regs.set(rd, k, s.regs.value[rm])
			return
		}
	}
	s.regs.forget(rd)
}
