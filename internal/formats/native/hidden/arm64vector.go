package hidden

import "math/bits"

// vector carries out what combines vectors (C4.1.97).
func (a *arm64) vector(w uint32) bool {
	rd, rn, rm := field(w, 4, 0), field(w, 9, 5), field(w, 20, 16)
	whole := w>>30&1 == 1
	v, u := a.vec[rn], a.vec[rm]
	switch {
	case w&0x7f3ffc00 == 0x1e260000, w&0x7f3ffc00 == 0x1e270000: // FMOV to and from integer registers
		wide := w>>31 == 1
		if w>>16&1 == 0 {
			a.put(rd, v[0], wide, a.vtr[rn])
		} else if x := a.x(rn); wide {
			a.give(rd, [2]uint64{x}, false, a.tr(rn))
		} else {
			a.give(rd, [2]uint64{x & 0xffff_ffff}, false, a.tr(rn))
		}
		return true
	case w&0x9ff80400 == 0x0f000400: // MOVI, MVNI, ORR, BIC
		return a.constant(w, rd, whole)
	case w&0x9f800400 == 0x0f000400, w&0xdf800400 == 0x5f000400: // shifts by a constant
		return a.shiftVector(w, rd, rn, whole)
	case w&0xbfe0fc00 == 0x0e000c00: // DUP of an integer register
		size := 1 << bits.TrailingZeros32(rm|16)
		a.duplicate(rd, a.x(rn), size, whole, a.tr(rn))
		return true
	case w&0xbfe0fc00 == 0x0e000400, w&0xffe0fc00 == 0x5e000400: // DUP of an element
		size := 1 << bits.TrailingZeros32(rm|16)
		e := element(v, size, int(rm)>>bits.Len(uint(size)))
		if w>>28&1 == 1 {
			a.give(rd, [2]uint64{e}, false, a.vtr[rn])
		} else {
			a.duplicate(rd, e, size, whole, a.vtr[rn])
		}
		return true
	case w&0xbfe0fc00 == 0x0e003c00, w&0xbfe0fc00 == 0x0e002c00: // UMOV, SMOV
		size := 1 << bits.TrailingZeros32(rm|16)
		e := element(v, size, int(rm)>>bits.Len(uint(size)))
		if w>>12&1 == 0 {
			e = extend(e, size)
		}
		a.put(rd, e, whole, a.vtr[rn])
		return true
	case w&0xffe0fc00 == 0x4e001c00: // INS of an integer register
		size := 1 << bits.TrailingZeros32(rm|16)
		a.vec[rd] = insert(a.vec[rd], size, int(rm)>>bits.Len(uint(size)), a.x(rn))
		a.vtr[rd] = max(a.vtr[rd], a.tr(rn))
		return true
	case w&0xffe08400 == 0x6e000400: // INS of an element
		size := 1 << bits.TrailingZeros32(rm|16)
		e := element(v, size, int(field(w, 14, 11))/size)
		a.vec[rd] = insert(a.vec[rd], size, int(rm)>>bits.Len(uint(size)), e)
		a.vtr[rd] = max(a.vtr[rd], a.vtr[rn])
		return true
	case w&0xbfe08400 == 0x2e000000: // EXT
		a.give(rd, a.extract(v, u, int(field(w, 14, 11)), whole), whole, max(a.vtr[rn], a.vtr[rm]))
		return true
	case w&0xbfe08c00 == 0x0e000000: // TBL
		return a.lookUp(w, rd, rn, rm, whole)
	case w&0xbf208c00 == 0x0e000800: // UZP, TRN, ZIP
		return a.permute(w, rd, v, u, whole, max(a.vtr[rn], a.vtr[rm]))
	case w&0x9f3e0c00 == 0x0e200800: // two registers
		return a.twoRegisters(w, rd, rn, whole)
	case w&0x9f200400 == 0x0e200400: // three of the same
		return a.threeSame(w, rd, rn, rm, whole)
	}
	return false
}

// duplicate fills a vector with a value.
func (a *arm64) duplicate(rd uint32, v uint64, size int, whole bool, t trail) {
	v &= ones(size)
	for n := size; n < 8; n *= 2 {
		v |= v << (8 * n)
	}
	a.give(rd, [2]uint64{v, v}, whole, t)
}

// give writes a vector register, or its lower half and zeros.
func (a *arm64) give(rd uint32, v [2]uint64, whole bool, t trail) {
	if !whole {
		v[1] = 0
	}
	a.vec[rd], a.vtr[rd] = v, t
}

func element(v [2]uint64, size, i int) uint64 {
	at := i * size % 16
	return v[at/8] >> (8 * (at % 8)) & ones(size)
}

func insert(v [2]uint64, size, i int, e uint64) [2]uint64 {
	at := i * size % 16
	shift := 8 * (at % 8)
	v[at/8] = v[at/8]&^(ones(size)<<shift) | e&ones(size)<<shift
	return v
}

// lanes applies f to all elements.
func lanes(v, u [2]uint64, size int, f func(a, b uint64) uint64) [2]uint64 {
	var out [2]uint64
	for i := range 16 / size {
		out = insert(out, size, i, f(element(v, size, i), element(u, size, i)))
	}
	return out
}

// constant is MOVI and MVNI (J1.1, AdvSIMDExpandImm).
func (a *arm64) constant(w, rd uint32, whole bool) bool {
	n := uint64(field(w, 18, 16)<<5 | field(w, 9, 5))
	cmode, op := field(w, 15, 12), w>>29&1
	var v uint64
	switch {
	case cmode < 8:
		v = n << (8 * (cmode >> 1))
		v |= v << 32
	case cmode < 12:
		v = n << (8 * (cmode >> 1 & 1))
		v |= v << 16
		v |= v << 32
	case cmode == 12 || cmode == 13:
		v = n<<(8<<(cmode&1)) | 1<<(8<<(cmode&1)) - 1
		v |= v << 32
	case cmode == 14 && op == 0:
		v = n * 0x0101010101010101
	case cmode == 14:
		for i := range 8 {
			if n>>i&1 == 1 {
				v |= 0xff << (8 * i)
			}
		}
		op = 0
	default:
		return false
	}
	if cmode < 12 && cmode&1 == 1 { // ORR, BIC
		old := a.vec[rd]
		if op == 1 {
			a.give(rd, [2]uint64{old[0] &^ v, old[1] &^ v}, whole, reached)
		} else {
			a.give(rd, [2]uint64{old[0] | v, old[1] | v}, whole, reached)
		}
		return true
	}
	if op == 1 {
		v = ^v
	}
	a.give(rd, [2]uint64{v, v}, whole, given)
	return true
}

func (a *arm64) shiftVector(w, rd, rn uint32, whole bool) bool {
	imm := field(w, 22, 16)
	if imm < 8 {
		return false
	}
	size := 1 << (bits.Len32(imm) - 4)
	width := 8 * size
	left, right := int(imm)-width, 2*width-int(imm)
	v, old := a.vec[rn], a.vec[rd]
	unsigned := w>>29&1 == 1
	down := func(x uint64, n int) uint64 {
		if unsigned {
			return x >> n
		}
		return uint64(int64(extend(x, size)) >> min(n, 63))
	}
	var out [2]uint64
	switch op := field(w, 15, 11); {
	case op == 0b00000: // SSHR, USHR
		out = lanes(v, v, size, func(x, _ uint64) uint64 { return down(x, right) })
	case op == 0b00010: // SSRA, USRA
		out = lanes(v, old, size, func(x, y uint64) uint64 { return y + down(x, right) })
	case op == 0b01000 && unsigned: // SRI
		out = lanes(v, old, size, func(x, y uint64) uint64 { return y&^(ones(size)>>right) | x>>right })
	case op == 0b01010 && unsigned: // SLI
		out = lanes(v, old, size, func(x, y uint64) uint64 { return y&^(ones(size)<<left) | x<<left })
	case op == 0b01010: // SHL
		out = lanes(v, v, size, func(x, _ uint64) uint64 { return x << left })
	case op == 0b10100 && size < 8: // SSHLL, USHLL
		from := 0
		if whole {
			from = 8 / size
		}
		for i := range 8 / size {
			x := element(v, size, from+i)
			if !unsigned {
				x = extend(x, size)
			}
			out = insert(out, 2*size, i, x<<left)
		}
		t := a.vtr[rn]
		if left != 0 {
			t = reached
		}
		a.give(rd, out, true, t)
		return true
	case op == 0b10000 && size < 8 && !unsigned: // SHRN
		if whole {
			out = old
		}
		for i := range 8 / size {
			at := i
			if whole {
				at += 8 / size
			}
			out = insert(out, size, at, element(v, 2*size, i)>>right)
		}
		a.give(rd, out, whole, reached)
		return true
	default:
		return false
	}
	if w>>28&1 == 1 { // of one element
		whole, out[1] = false, 0
	}
	a.give(rd, out, whole, reached)
	return true
}

func (a *arm64) extract(v, u [2]uint64, from int, whole bool) [2]uint64 {
	size := 8
	if whole {
		size = 16
	}
	vb, ub := bytesOf(v), bytesOf(u)
	both := append(append([]byte{}, vb[:size]...), ub[:size]...)
	var out [16]byte
	copy(out[:size], both[from:])
	return fromBytes(out)
}

func (a *arm64) lookUp(w, rd, rn, rm uint32, whole bool) bool {
	var table []byte
	for i := range field(w, 14, 13) + 1 {
		b := bytesOf(a.vec[(rn+i)&31])
		table = append(table, b[:]...)
	}
	var out [16]byte
	if w>>12&1 == 1 { // TBX
		out = bytesOf(a.vec[rd])
	}
	for i, n := range bytesOf(a.vec[rm]) {
		if int(n) < len(table) {
			out[i] = table[n]
		} else if w>>12&1 == 0 {
			out[i] = 0
		}
	}
	a.give(rd, fromBytes(out), whole, max(a.vtr[rn], a.vtr[rm]))
	return true
}

func (a *arm64) permute(w, rd uint32, v, u [2]uint64, whole bool, t trail) bool {
	size := 1 << field(w, 23, 22)
	n := 8 / size
	if whole {
		n *= 2
	}
	var out [2]uint64
	second := int(w >> 14 & 1)
	both := func(i int) uint64 {
		if i < n {
			return element(v, size, i)
		}
		return element(u, size, i-n)
	}
	for i := range n {
		var e uint64
		switch field(w, 13, 12) {
		case 0b01: // UZP
			e = both(2*i + second)
		case 0b10: // TRN
			e = both(i/2*2 + second + i%2*n)
		case 0b11: // ZIP
			e = both(i/2 + second*n/2 + i%2*n)
		default:
			return false
		}
		out = insert(out, size, i, e)
	}
	a.give(rd, out, whole, t)
	return true
}

func (a *arm64) twoRegisters(w, rd, rn uint32, whole bool) bool {
	size := 1 << field(w, 23, 22)
	v := a.vec[rn]
	var out [2]uint64
	switch op := w>>29&1<<5 | field(w, 16, 12); {
	case op == 0b000000, op == 0b100000, op == 0b000001: // REV64, REV32, REV16
		group := map[uint32]int{0b000000: 8, 0b100000: 4, 0b000001: 2}[op] / size
		for i := range 16 / size {
			out = insert(out, size, i/group*group+group-1-i%group, element(v, size, i))
		}
		a.give(rd, out, whole, a.vtr[rn])
		return true
	case op == 0b100101 && size == 1: // NOT
		out = lanes(v, v, 8, func(x, _ uint64) uint64 { return ^x })
	case op == 0b100101: // RBIT
		out = lanes(v, v, 1, func(x, _ uint64) uint64 { return uint64(bits.Reverse8(uint8(x))) })
	case op == 0b101011: // NEG
		out = lanes(v, v, size, func(x, _ uint64) uint64 { return -x })
	case op == 0b010010 && size < 8: // XTN
		at := 0
		if whole {
			out, at = a.vec[rd], 8/size
		}
		for i := range 8 / size {
			out = insert(out, size, at+i, element(v, 2*size, i))
		}
		a.give(rd, out, whole, a.vtr[rn])
		return true
	default:
		return false
	}
	a.give(rd, out, whole, reached)
	return true
}

func (a *arm64) threeSame(w, rd, rn, rm uint32, whole bool) bool {
	size := 1 << field(w, 23, 22)
	v, u, old := a.vec[rn], a.vec[rm], a.vec[rd]
	t := reached
	var out [2]uint64
	each := func(f func(x, y, z uint64) uint64) {
		out = [2]uint64{f(v[0], u[0], old[0]), f(v[1], u[1], old[1])}
	}
	upper := w>>29&1 == 1
	switch op := field(w, 15, 11); {
	case op == 0b00011 && !upper:
		each(func(x, y, _ uint64) uint64 {
			switch size {
			case 1:
				return x & y
			case 2:
				return x &^ y
			case 4:
				return x | y
			}
			return x | ^y
		})
		if t = max(a.vtr[rn], a.vtr[rm]); size == 8 || size == 4 && rn != rm {
			t = reached
		}
	case op == 0b00011:
		each(func(x, y, z uint64) uint64 {
			switch size {
			case 1:
				return x ^ y
			case 2: // BSL
				return y ^ (y^x)&z
			case 4: // BIT
				return z ^ (z^x)&y
			}
			return z ^ (z^x)&^y // BIF
		})
	case op == 0b10000 && upper:
		out = lanes(v, u, size, func(x, y uint64) uint64 { return x - y })
	case op == 0b10000:
		out = lanes(v, u, size, func(x, y uint64) uint64 { return x + y })
	case op == 0b10011 && !upper:
		out = lanes(v, u, size, func(x, y uint64) uint64 { return x * y })
	case op == 0b10010 && !upper: // MLA
		part := lanes(v, u, size, func(x, y uint64) uint64 { return x * y })
		out = lanes(part, old, size, func(x, y uint64) uint64 { return x + y })
	case op == 0b01000: // SSHL, USHL
		out = lanes(v, u, size, func(x, y uint64) uint64 {
			n := int8(y)
			switch {
			case n >= 0:
				return x << n
			case upper:
				return x >> -int(n)
			}
			return uint64(int64(extend(x, size)) >> min(-int(n), 63))
		})
	case op == 0b10001 && upper: // CMEQ
		out = lanes(v, u, size, func(x, y uint64) uint64 {
			if x == y {
				return ^uint64(0)
			}
			return 0
		})
	case op == 0b00110 && upper, op == 0b00111 && upper: // CMHI, CMHS
		out = lanes(v, u, size, func(x, y uint64) uint64 {
			if x > y || op&1 == 1 && x == y {
				return ^uint64(0)
			}
			return 0
		})
	default:
		return false
	}
	a.give(rd, out, whole, t)
	return true
}
