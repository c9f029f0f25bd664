package code

// maxCases bounds the entries of a table of distances.
const maxCases = 1 << 12

// narrow handles an instruction of T32 of one halfword.
func (s *sweepARM) narrow(at uint64, a uint32) {
	pc, next := at+4, at+2
	low, mid, high := a&7, a>>3&7, a>>8&7
	switch a >> 12 {
	case 0, 1: // shifts, ADD, SUB
		switch {
		case a>>9 == 0x0c: // ADD
			s.sum(at, pc, low, mid, a>>6&7)
		case a>>9 == 0x0e: // ADD immediate
			s.offset(at, pc, low, mid, uint64(a>>6&7))
		case a>>6 == 0: // MOV
			s.copy(low, mid)
		default:
			s.regs.forget(low)
		}
	case 2, 3: // MOV, CMP, ADD, SUB of a byte
		switch a >> 11 & 3 {
		case 0:
			s.regs.set(high, constantValue, uint64(a&0xff))
		case 1:
			s.cases = int(a&0xff) + 1
		case 2:
			s.offset(at, pc, high, high, uint64(a&0xff))
		case 3:
			s.offset(at, pc, high, high, -uint64(a&0xff))
		}
	case 4:
		s.special(at, pc, next, a)
	case 5: // register offset
		load := a>>9&7 >= 3
		if from, ok := s.added(pc, mid, a>>6&7); ok {
			s.access(at, low, from, load, a>>9&7 == 4)
		} else if load {
			s.regs.forget(low)
		}
	case 6, 7, 8: // immediate offset: words, bytes, halfwords
		n, load := uint64(a>>6&31), a>>11&1 != 0
		switch a >> 12 {
		case 6:
			n <<= 2
		case 8:
			n <<= 1
		}
		if to, ok := s.base(mid); ok {
			s.access(at, low, to+n, load, a>>12 == 6)
		} else {
			if s.regs.is(mid) == nearValue {
				s.indexed(at, s.regs.value[mid], n)
			}
			if load {
				s.regs.forget(low)
			}
		}
	case 9: // to the stack
		n := int64(a & 0xff << 2)
		if a>>11&1 == 0 {
			s.frame.store(&s.regs, high, 31, n)
		} else {
			s.regs.forget(high)
			s.frame.load(&s.regs, high, 31, n)
		}
	case 10:
		if a>>11&1 == 0 { // ADR
			s.place(at, high, pc&^3+uint64(a&0xff<<2))
		} else {
			s.regs.forget(high)
		}
	case 11:
		s.miscellaneous(at, next, a)
	case 12: // STM, LDM
		s.regs.forget(high)
		if a>>11&1 != 0 {
			s.forgetList(a & 0xff)
		}
	case 13:
		switch condition := a >> 8 & 15; {
		case condition == 15:
			s.enter(at, a&0xff)
		case condition < 14:
			s.direct(at, pc+uint64(int64(int32(a<<24)>>23)), Jump)
		}
	case 14:
		s.direct(at, pc+uint64(int64(int32(a<<21)>>20)), Jump)
		s.leave(next)
	}
}

// special handles data processing between registers, and what names high ones.
func (s *sweepARM) special(at, pc, next uint64, a uint32) {
	low := a & 7
	rd, rm := a>>4&8|low, a>>3&15
	switch {
	case a>>11 == 9: // LDR (literal)
		s.constantAt(at, a>>8&7, pc&^3+uint64(a&0xff<<2))
	case a>>10 == 0x10:
		if op := a >> 6 & 15; op != 8 && op != 10 && op != 11 { // TST, CMP, CMN
			s.regs.forget(low)
		}
	case a>>8 == 0x44: // ADD
		s.sum(at, pc, rd, rd, rm)
		if rd == pcARM {
			s.scatter()
			s.leave(next)
		}
	case a>>8 == 0x46: // MOV
		s.copy(rd, rm)
		if rd == pcARM {
			s.indirect(at, next, rm, Jump)
		}
	case a>>7 == 0x8e: // BX
		if rm == pcARM { // on to A32 code
			s.leave(next)
			return
		}
		s.indirect(at, next, rm, Jump)
	case a>>7 == 0x8f: // BLX
		s.indirect(at, next, rm, Call)
	}
}

func (s *sweepARM) miscellaneous(at, next uint64, a uint32) {
	switch {
	case a&0xf500 == 0xb100: // CBZ, CBNZ
		s.direct(at, at+4+uint64(a>>9&1<<6|a>>3&31<<1), Jump)
	case a>>8 == 0xb2, a>>8 == 0xba: // SXTH …, REV …
		s.regs.forget(a)
	case a>>9 == 0x5e: // POP
		s.forgetList(a & 0xff)
		if a>>8&1 != 0 {
			s.returned(next)
		}
	}
}

// expandThumb decodes the modified immediate of T32 data processing.
func expandThumb(a, b uint32) uint64 {
	n := a>>10&1<<11 | b>>12&7<<8 | b&0xff
	v := n & 0xff
	switch n >> 8 {
	case 0:
	case 1:
		v |= v << 16
	case 2:
		v = v<<8 | v<<24
	case 3:
		v |= v<<8 | v<<16 | v<<24
	default:
		turn := n >> 7
		v = n&0x7f | 0x80
		v = v>>turn | v<<(32-turn)
	}
	return uint64(v)
}

// wide handles an instruction of T32 of two halfwords, and returns where the
// next one is.
func (s *sweepARM) wide(at uint64, i int, a, b uint32) int {
	pc, next := at+4, at+4
	rn, rt, rd := a&15, b>>12&15, b>>8&15
	switch {
	case a>>11 == 0x1e && b>>15 != 0:
		s.control(at, next, a, b)
	case a>>11 == 0x1e:
		s.immediate(at, pc, a, b, rn, rd)
	case a>>9 == 0x74: // loads and stores of many registers and pairs, table branches
		return s.many(at, i, a, b, rn, rt, rd)
	case a>>9 == 0x75: // shifted registers
		switch {
		case a>>4 == 0xea4 && rn == 15 && b&0x70f0 == 0: // MOV
			s.copy(rd, b&15)
		case a>>4 == 0xeb0 && b&0x70f0 == 0: // ADD
			s.sum(at, pc, rd, rn, b&15)
		case a>>4 == 0xeb0: // ADD of a shifted register
			s.index(rd, rn, b&15)
		case rd != 15: // not tests
			s.regs.forget(rd)
		}
	case a>>9 == 0x7c: // single loads and stores
		s.singleThumb(at, next, a, b, rn, rt)
	case a>>8 == 0xfa || a>>8 == 0xfb: // registers, multiplications
		s.regs.forget(rd)
		if a>>7 == 0x1f7 {
			s.regs.forget(rt)
		}
	case a>>10&3 == 3:
		s.coprocessor(at, pc, a<<16|b, rn, rt)
	}
	return i + 4
}

// control handles branches.
func (s *sweepARM) control(at, next uint64, a, b uint32) {
	pc := at + 4
	sign := a >> 10 & 1
	far := uint64(int64(int32((sign<<24|^(b>>13^a>>10)&1<<23|^(b>>11^a>>10)&1<<22|a&0x3ff<<12|b&0x7ff<<1)<<7) >> 7))
	switch {
	case b&0xd000 == 0xd000: // BL
		s.direct(at, pc+far, Call)
	case b&0xd001 == 0xc000: // BLX
		s.direct(at, pc&^3+far, Call)
	case b&0xd000 == 0x9000: // B
		s.direct(at, pc+far, Jump)
		s.leave(next)
	case a>>6&15 < 14: // B<c>
		s.direct(at, pc+uint64(int64(int32((sign<<20|b>>11&1<<19|b>>13&1<<18|a&63<<12|b&0x7ff<<1)<<11)>>11)), Jump)
	case a == 0xf3ef || a>>4 == 0xf3e: // MRS
		s.regs.forget(b >> 8)
	}
}

// immediate handles data processing with an immediate.
func (s *sweepARM) immediate(at, pc uint64, a, b, rn, rd uint32) {
	plain := uint64(a>>10&1<<11 | b>>12&7<<8 | b&0xff)
	half := uint64(rn<<12) | plain
	if a>>9&1 != 0 {
		switch a >> 4 & 31 {
		case 0x00: // ADDW, ADR
			s.offset(at, pc, rd, rn, plain)
		case 0x0a: // SUBW, ADR
			s.offset(at, pc, rd, rn, -plain)
		case 0x04: // MOVW
			s.number32(at, rd, half, false)
		case 0x0c: // MOVT
			if s.regs.is(rd) == constantValue {
				s.number32(at, rd, s.regs.value[rd]&0xffff|half<<16, true)
			} else {
				s.regs.forget(rd)
			}
		default:
			s.regs.forget(rd)
		}
		return
	}
	n := expandThumb(a, b)
	switch op := a >> 5 & 15; {
	case op == 8 && rd != 15: // ADD
		s.offset(at, pc, rd, rn, n)
	case op == 13 && rd != 15: // SUB
		s.offset(at, pc, rd, rn, -n)
	case op == 2 && rn == 15: // MOV
		s.regs.set(rd, constantValue, n)
	case op == 3 && rn == 15: // MVN
		s.regs.set(rd, constantValue, mask(^n))
	case rd != 15:
		s.regs.forget(rd)
	case op == 13: // CMP
		s.cases = int(min(n+1, maxCases))
	}
}

// many handles loads and stores of many registers and of pairs, and jumps by
// tables, which stand behind the instruction.
func (s *sweepARM) many(at uint64, i int, a, b, rn, rt, rd uint32) int {
	next := at + 4
	load := a>>4&1 != 0
	switch {
	case a == 0xe8df && b&0xffe0 == 0xf000: // TBB, TBH
		return s.table(i+4, int(b>>4&1)+1)
	case a>>6&1 == 0: // LDM, STM
		if a>>5&1 != 0 {
			s.regs.forget(rn)
		}
		if load {
			s.forgetList(b)
			if b>>15 != 0 {
				s.returned(next)
			}
		}
	case a>>8&1 == 0 && a>>5&1 == 0: // exclusive
		s.regs.forget(rt)
		s.regs.forget(rd)
		s.regs.forget(b)
	default: // pairs
		n := signedBy(b&0xff<<2, a>>7&1)
		if a>>8&1 == 0 {
			n = 0
		}
		from, known := uint64(0), false
		if rn == pcARM {
			from, known = mask((at+4)&^3+n), true
			s.read(from)
			s.read(from + 4)
		} else if from, known = s.base(rn); known {
			from = mask(from + n)
		}
		if known {
			s.address(at, from)
		}
		if load {
			s.regs.forget(rt)
			s.regs.forget(rd)
		}
		if a>>5&1 != 0 {
			s.regs.forget(rn)
		}
	}
	return i + 4
}

// table skips a table of distances of size bytes each, and returns where it
// ends: before what they lead to, and with as many as the comparison before the
// jump allows.
func (s *sweepARM) table(from, size int) int {
	first := min(len(s.code), from+s.cases*size)
	if s.mapped {
		first = min(len(s.code), from+maxCases*size)
		for i := range s.modes[:min(len(s.modes), 4)] {
			if m := &s.modes[i]; !m.Data && !m.Start && m.Addr > s.addr+uint64(from) {
				first = min(first, int(m.Addr-s.addr))
				break
			}
		}
	}
	i := from
	for ; i+size <= first; i += size {
		distance := int(s.code[i])
		if size == 2 {
			distance = int(s.half(i))
		}
		to := from + 2*distance
		s.ahead.save(s.addr+uint64(from), s.addr+uint64(to), &s.regs)
		first = min(first, max(i+size, to))
	}
	s.stop = min(s.stop, s.addr+uint64(i))
	return (i + 1) &^ 1
}

// singleThumb handles loads and stores of one register.
func (s *sweepARM) singleThumb(at, next uint64, a, b, rn, rt uint32) {
	load, word := a>>4&1 != 0, a>>5&3 == 2
	if a>>8&1 != 0 { // sign-extended
		word = false
	}
	known, back := false, false
	var from uint64
	stack := false
	switch {
	case rn == pcARM && load: // literal
		from = mask((at+4)&^3 + signedBy(b&0xfff, a>>7&1))
		if word && rt != pcARM {
			s.constantAt(at, rt, from)
			return
		}
		s.read(from)
		known = true
	case a>>7&1 != 0: // 12 bits
		stack = rn == stackARM && word
		if from, known = s.base(rn); known {
			from += uint64(b & 0xfff)
		} else if s.regs.is(rn) == nearValue {
			s.indexed(at, s.regs.value[rn], uint64(b&0xfff))
		}
	case b>>11&1 == 0: // register
		if b>>4&3 == 0 {
			from, known = s.added(at+4, rn, b&15)
		}
	default: // 8 bits
		back = b>>8&1 != 0
		n := signedBy(b&0xff, b>>9&1)
		if b>>10&1 == 0 {
			n = 0
		}
		if from, known = s.base(rn); known {
			from += n
		}
	}
	switch {
	case known:
		s.access(at, rt, from, load, word)
	case stack && load:
		s.regs.forget(rt)
		s.frame.load(&s.regs, rt, 31, int64(b&0xfff))
	case stack:
		s.frame.store(&s.regs, rt, 31, int64(b&0xfff))
	case load:
		s.regs.forget(rt)
	}
	if back {
		s.regs.forget(rn)
	}
	if load && rt == pcARM && word {
		switch {
		case rn == stackARM:
			s.returned(next)
		case known:
			s.through(at, mask(from), Jump)
			s.leave(next)
		default:
			s.scatter()
			s.leave(next)
		}
	}
}
