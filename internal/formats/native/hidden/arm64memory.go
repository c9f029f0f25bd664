package hidden

// memory carries out loads and stores (C4.1.95).
func (a *arm64) memory(w uint32) bool {
	rt, rn := field(w, 4, 0), field(w, 9, 5)
	vector := w>>26&1 == 1
	switch {
	case field(w, 29, 27) == 0b011 && field(w, 25, 24) == 0: // LDR of a literal
		size := 4 << (w >> 30)
		at := a.pc + uint64(signed(w, 23, 5)*4)
		if vector {
			a.loadVector(rt, at, size)
		} else if w>>30 == 3 {
			return true
		} else {
			v, t := a.mem.load(at, min(size, 8))
			if w>>30 == 2 {
				v, size = extend(v&0xffff_ffff, 4), 4
			}
			a.put(rt, v, true, t)
		}
		return true
	case field(w, 29, 27) == 0b101: // pairs
		return a.pair(w, vector, rt, rn)
	case field(w, 29, 27) == 0b111:
		return a.single(w, vector, rt, rn)
	case field(w, 31, 31) == 0 && field(w, 29, 23) == 0b0011000 && field(w, 21, 16) == 0, // LD1, ST1 of whole registers
		field(w, 31, 31) == 0 && field(w, 29, 23) == 0b0011001 && w>>21&1 == 0:
		n := map[uint32]int{0b0111: 1, 0b1010: 2, 0b0110: 3, 0b0010: 4}[field(w, 15, 12)]
		size := 8 << (w >> 30 & 1)
		at := a.regs[rn]
		for i := range n {
			r := (rt + uint32(i)) & 31
			if w>>22&1 == 1 {
				a.loadVector(r, at, size)
			} else {
				a.storeVector(r, at, size)
			}
			at += uint64(size)
		}
		if w>>23&1 == 1 {
			a.after(w, rn, uint64(n*size))
		}
		return n > 0
	case field(w, 31, 31) == 0 && field(w, 29, 24) == 0b001101 && field(w, 15, 12) == 0b1100 && field(w, 22, 21) == 0b10: // LD1R
		size := 1 << field(w, 11, 10)
		v, t := a.mem.load(a.regs[rn], size)
		a.duplicate(rt, v, size, w>>30&1 == 1, t)
		if w>>23&1 == 1 {
			a.after(w, rn, uint64(size))
		}
		return true
	}
	return false
}

// after moves a base register on behind what was read.
func (a *arm64) after(w, rn uint32, n uint64) {
	if rm := field(w, 20, 16); rm != 31 {
		n = a.x(rm)
	}
	a.regs[rn] += n
}

func (a *arm64) pair(w uint32, vector bool, rt, rn uint32) bool {
	rt2 := field(w, 14, 10)
	size := 4
	switch opc := w >> 30; {
	case vector:
		size = 4 << opc
	case opc == 2:
		size = 8
	}
	off := uint64(signed(w, 21, 15) * int64(size))
	at := a.regs[rn]
	mode := field(w, 24, 23)
	if mode != 1 {
		at += off
	}
	load := w>>22&1 == 1
	for i, r := range []uint32{rt, rt2} {
		to := at + uint64(i*size)
		switch {
		case vector && load:
			a.loadVector(r, to, size)
		case vector:
			a.storeVector(r, to, size)
		case load:
			v, t := a.mem.load(to, size)
			if w>>30 == 1 {
				v = extend(v, 4)
			}
			a.put(r, v, true, t)
		default:
			a.mem.store(to, a.x(r), size, a.tr(r), a.site(a.pc))
		}
	}
	if mode == 1 || mode == 3 {
		a.regs[rn] += off
	}
	return true
}

func (a *arm64) single(w uint32, vector bool, rt, rn uint32) bool {
	scale := w >> 30
	opc := field(w, 23, 22)
	size := 1 << scale
	if vector && opc >= 2 {
		size = 16
		scale = 4
	}
	at := a.regs[rn]
	write := at
	switch {
	case w>>24&1 == 1:
		at += uint64(field(w, 21, 10)) << scale
	case w>>21&1 == 1:
		if field(w, 11, 10) != 0b10 {
			return false
		}
		shift := uint32(0)
		if w>>12&1 == 1 {
			shift = scale
		}
		at += extended(a.x(field(w, 20, 16)), field(w, 15, 13)) << shift
	default:
		off := uint64(signed(w, 20, 12))
		switch field(w, 11, 10) {
		case 0b00:
			at += off
		case 0b01:
			write = at + off
		case 0b11:
			at += off
			write = at
		default:
			return false
		}
	}
	if w>>24&1 == 0 && w>>21&1 == 0 && w>>10&1 == 1 {
		defer func() { a.regs[rn] = write }()
	}
	switch {
	case vector && opc&1 == 1:
		a.loadVector(rt, at, size)
	case vector:
		a.storeVector(rt, at, size)
	case opc == 0:
		a.mem.store(at, a.x(rt), size, a.tr(rt), a.site(a.pc))
	case opc == 1:
		v, t := a.mem.load(at, size)
		a.put(rt, v, true, t)
	case size == 8: // prefetch
	default:
		v, t := a.mem.load(at, size)
		a.put(rt, extend(v, size), opc == 2, t)
	}
	return true
}

// extended is a register as an offset or operand (J1.1, ExtendReg).
func extended(v uint64, kind uint32) uint64 {
	switch kind {
	case 0, 1, 2:
		return v & ones(1<<kind)
	case 4, 5, 6:
		return extend(v, 1<<(kind-4))
	}
	return v
}

func (a *arm64) loadVector(r uint32, at uint64, size int) {
	lo, t := a.mem.load(at, min(size, 8))
	var hi uint64
	if size > 8 {
		var u trail
		hi, u = a.mem.load(at+8, 8)
		t = max(t, u)
	}
	a.vec[r], a.vtr[r] = [2]uint64{lo, hi}, t
}

func (a *arm64) storeVector(r uint32, at uint64, size int) {
	a.mem.store(at, a.vec[r][0], min(size, 8), a.vtr[r], a.site(a.pc))
	if a.vtr[r] == reached {
		a.mem.outcomes += size
	}
	if size > 8 {
		a.mem.store(at+8, a.vec[r][1], 8, a.vtr[r], a.site(a.pc))
	}
}
