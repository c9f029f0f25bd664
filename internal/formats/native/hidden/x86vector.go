package hidden

import (
	"encoding/binary"

	"golang.org/x/arch/x86/x86asm"
)

// vector carries out an instruction on vector registers; false if it is none
// that is known.
func (x *x86) vector(in *x86asm.Inst, a, b x86asm.Arg) bool {
	switch in.Op {
	case x86asm.MOVAPS, x86asm.MOVUPS, x86asm.MOVAPD, x86asm.MOVUPD, x86asm.MOVDQA, x86asm.MOVDQU, x86asm.LDDQU, x86asm.MOVNTDQ, x86asm.MOVNTPS:
		v, t := x.wide(in, b)
		x.keep(in, a, v, 16, t)
		return true
	case x86asm.MOVD, x86asm.MOVQ, x86asm.MOVSS, x86asm.MOVSD_XMM:
		size := 8
		if in.Op == x86asm.MOVD && in.DataSize != 64 || in.Op == x86asm.MOVSS {
			size = 4
		}
		v, t := x.wide(in, b)
		v[0], v[1] = v[0]&ones(size), 0
		ra, toVector := a.(x86asm.Reg)
		if _, from := b.(x86asm.Reg); from && toVector && (in.Op == x86asm.MOVSS || in.Op == x86asm.MOVSD_XMM) {
			old := x.vec[(ra-x86asm.X0)&15]
			v = [2]uint64{old[0]&^ones(size) | v[0], old[1]}
		}
		x.keep(in, a, v, size, t)
		return true
	case x86asm.MOVLPS, x86asm.MOVLPD, x86asm.MOVHPS, x86asm.MOVHPD:
		half := 0
		if in.Op == x86asm.MOVHPS || in.Op == x86asm.MOVHPD {
			half = 1
		}
		if r, ok := a.(x86asm.Reg); ok {
			v, t := x.wide(in, b)
			x.vec[(r-x86asm.X0)&15][half] = v[0]
			x.vtr[(r-x86asm.X0)&15] = max(x.vtr[(r-x86asm.X0)&15], t)
			return true
		}
		v, t := x.wide(in, b)
		x.keep(in, a, [2]uint64{v[half]}, 8, t)
		return true
	}
	v, t := x.wide(in, a)
	w, u := x.wide(in, b)
	out, ok := vectorOp(in, v, w)
	if !ok {
		return false
	}
	t = max(t, u)
	switch in.Op {
	case x86asm.PXOR, x86asm.XORPS, x86asm.XORPD:
		if t = reached; a == b {
			t = given
		}
	case x86asm.POR, x86asm.ORPS, x86asm.PUNPCKLBW, x86asm.PUNPCKLWD, x86asm.PUNPCKLDQ, x86asm.PUNPCKLQDQ, x86asm.PSHUFD, x86asm.PAND, x86asm.ANDPS:
	default:
		t = reached
	}
	x.keep(in, a, out, 16, t)
	return true
}

// wide reads an operand of a vector instruction.
func (x *x86) wide(in *x86asm.Inst, a x86asm.Arg) ([2]uint64, trail) {
	switch a := a.(type) {
	case x86asm.Reg:
		if a >= x86asm.X0 && a <= x86asm.X15 {
			return x.vec[a-x86asm.X0], x.vtr[a-x86asm.X0]
		}
		v, t := x.get(in, a, 8)
		return [2]uint64{v}, t
	case x86asm.Mem:
		at := x.address(in, a)
		lo, t := x.mem.load(at, min(in.MemBytes, 8))
		var hi uint64
		u := given
		if in.MemBytes > 8 {
			hi, u = x.mem.load(at+8, 8)
		}
		return [2]uint64{lo, hi}, max(t, u)
	case x86asm.Imm:
		return [2]uint64{uint64(a)}, given
	}
	return [2]uint64{}, given
}

// keep writes the result of a vector instruction, size bytes of it.
func (x *x86) keep(in *x86asm.Inst, a x86asm.Arg, v [2]uint64, size int, t trail) {
	switch a := a.(type) {
	case x86asm.Reg:
		if a >= x86asm.X0 && a <= x86asm.X15 {
			x.vec[a-x86asm.X0], x.vtr[a-x86asm.X0] = v, t
			return
		}
		x.set(in, a, v[0], min(size, 8), t)
	case x86asm.Mem:
		at := x.address(in, a)
		x.mem.store(at, v[0], min(size, 8), t, x.site(x.pc))
		if t == reached {
			x.mem.outcomes += size
		}
		if size > 8 {
			x.mem.store(at+8, v[1], 8, t, x.site(x.pc))
		}
	}
}

// vectorOp computes what is done to two vectors without regard to where they
// come from.
func vectorOp(in *x86asm.Inst, v, w [2]uint64) ([2]uint64, bool) {
	each := func(f func(a, b uint64) uint64) ([2]uint64, bool) {
		return [2]uint64{f(v[0], w[0]), f(v[1], w[1])}, true
	}
	lanes := func(size int, f func(a, b uint64) uint64) ([2]uint64, bool) {
		return each(func(a, b uint64) uint64 {
			var r uint64
			for s := 0; s < 64; s += 8 * size {
				r |= f(a>>s&ones(size), b>>s&ones(size)) & ones(size) << s
			}
			return r
		})
	}
	shifted := func(size int, f func(a, n uint64) uint64) ([2]uint64, bool) {
		n := w[0]
		w = [2]uint64{n, n}
		return each(func(a, _ uint64) uint64 {
			var r uint64
			for s := 0; s < 64; s += 8 * size {
				r |= f(a>>s&ones(size), n) & ones(size) << s
			}
			return r
		})
	}
	imm := uint64(0)
	for _, arg := range in.Args {
		if i, ok := arg.(x86asm.Imm); ok {
			imm = uint64(i)
		}
	}
	add := func(a, b uint64) uint64 { return a + b }
	sub := func(a, b uint64) uint64 { return a - b }
	left := func(a, n uint64) uint64 { return a << n }
	right := func(a, n uint64) uint64 { return a >> n }
	switch in.Op {
	case x86asm.PXOR, x86asm.XORPS, x86asm.XORPD:
		return each(func(a, b uint64) uint64 { return a ^ b })
	case x86asm.POR, x86asm.ORPS, x86asm.ORPD:
		return each(func(a, b uint64) uint64 { return a | b })
	case x86asm.PAND, x86asm.ANDPS, x86asm.ANDPD:
		return each(func(a, b uint64) uint64 { return a & b })
	case x86asm.PANDN, x86asm.ANDNPS, x86asm.ANDNPD:
		return each(func(a, b uint64) uint64 { return ^a & b })
	case x86asm.PADDB:
		return lanes(1, add)
	case x86asm.PADDW:
		return lanes(2, add)
	case x86asm.PADDD:
		return lanes(4, add)
	case x86asm.PADDQ:
		return each(add)
	case x86asm.PSUBB:
		return lanes(1, sub)
	case x86asm.PSUBW:
		return lanes(2, sub)
	case x86asm.PSUBD:
		return lanes(4, sub)
	case x86asm.PSUBQ:
		return each(sub)
	case x86asm.PMULLW:
		return lanes(2, func(a, b uint64) uint64 { return a * b })
	case x86asm.PMULUDQ:
		return each(func(a, b uint64) uint64 { return (a & ones(4)) * (b & ones(4)) })
	case x86asm.PSLLW:
		return shifted(2, left)
	case x86asm.PSLLD:
		return shifted(4, left)
	case x86asm.PSLLQ:
		return shifted(8, left)
	case x86asm.PSRLW:
		return shifted(2, right)
	case x86asm.PSRLD:
		return shifted(4, right)
	case x86asm.PSRLQ:
		return shifted(8, right)
	case x86asm.PSRAW:
		return shifted(2, func(a, n uint64) uint64 { return uint64(int64(extend(a, 2)) >> min(n, 63)) })
	case x86asm.PSRAD:
		return shifted(4, func(a, n uint64) uint64 { return uint64(int64(extend(a, 4)) >> min(n, 63)) })
	case x86asm.PCMPEQB, x86asm.PCMPEQW, x86asm.PCMPEQD:
		size := map[x86asm.Op]int{x86asm.PCMPEQB: 1, x86asm.PCMPEQW: 2, x86asm.PCMPEQD: 4}[in.Op]
		return lanes(size, func(a, b uint64) uint64 {
			if a == b {
				return ^uint64(0)
			}
			return 0
		})
	}
	vb, wb := bytesOf(v), bytesOf(w)
	var out [16]byte
	interleave := func(size, from int) ([2]uint64, bool) {
		for i := 0; i < 8/size; i++ {
			copy(out[2*i*size:(2*i+1)*size], vb[from+i*size:])
			copy(out[(2*i+1)*size:(2*i+2)*size], wb[from+i*size:])
		}
		return fromBytes(out), true
	}
	switch in.Op {
	case x86asm.PUNPCKLBW:
		return interleave(1, 0)
	case x86asm.PUNPCKLWD:
		return interleave(2, 0)
	case x86asm.PUNPCKLDQ, x86asm.UNPCKLPS:
		return interleave(4, 0)
	case x86asm.PUNPCKLQDQ, x86asm.UNPCKLPD, x86asm.MOVLHPS:
		return [2]uint64{v[0], w[0]}, true
	case x86asm.PUNPCKHBW:
		return interleave(1, 8)
	case x86asm.PUNPCKHWD:
		return interleave(2, 8)
	case x86asm.PUNPCKHDQ, x86asm.UNPCKHPS:
		return interleave(4, 8)
	case x86asm.PUNPCKHQDQ, x86asm.UNPCKHPD:
		return [2]uint64{v[1], w[1]}, true
	case x86asm.PACKUSWB:
		for i := range 8 {
			out[i] = saturate(int16(binary.LittleEndian.Uint16(vb[2*i:])))
			out[8+i] = saturate(int16(binary.LittleEndian.Uint16(wb[2*i:])))
		}
		return fromBytes(out), true
	case x86asm.PSHUFD:
		for i := range 4 {
			copy(out[4*i:4*i+4], wb[4*(imm>>(2*i)&3):])
		}
		return fromBytes(out), true
	case x86asm.PSHUFLW, x86asm.PSHUFHW:
		out = wb
		base := 0
		if in.Op == x86asm.PSHUFHW {
			base = 8
		}
		for i := range 4 {
			copy(out[base+2*i:base+2*i+2], wb[base+2*int(imm>>(2*i)&3):])
		}
		return fromBytes(out), true
	case x86asm.SHUFPS:
		for i := range 4 {
			src := vb
			if i > 1 {
				src = wb
			}
			copy(out[4*i:4*i+4], src[4*(imm>>(2*i)&3):])
		}
		return fromBytes(out), true
	case x86asm.PSHUFB:
		for i := range 16 {
			if wb[i] < 128 {
				out[i] = vb[wb[i]&15]
			}
		}
		return fromBytes(out), true
	case x86asm.PSRLDQ:
		copy(out[:], vb[min(imm, 16):])
		return fromBytes(out), true
	case x86asm.PSLLDQ:
		copy(out[min(imm, 16):], vb[:])
		return fromBytes(out), true
	case x86asm.PINSRW:
		out = vb
		binary.LittleEndian.PutUint16(out[2*(imm&7):], uint16(w[0]))
		return fromBytes(out), true
	}
	return v, false
}

func bytesOf(v [2]uint64) (b [16]byte) {
	binary.LittleEndian.PutUint64(b[:], v[0])
	binary.LittleEndian.PutUint64(b[8:], v[1])
	return b
}

func fromBytes(b [16]byte) [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])}
}

func saturate(v int16) byte { return byte(min(max(v, 0), 255)) }
