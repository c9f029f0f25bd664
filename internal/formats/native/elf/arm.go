package elf

import (
	mathbits "math/bits"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// gatherARM lists the functions of 32-bit ARM, which has no frame descriptions.
// Its index of exceptions merges neighbours, so a file without symbols is gone
// through for calls, and its relocations for pointers to code.
func (f *file) gatherARM() ([]image.Function, string) {
	list := append(f.readExidx(), f.symbolFunctions()...)
	list = append(list, f.startFunctions()...)
	if !f.m.Stripped {
		return order(list), "exidx+symbols"
	}
	stubs := f.stubTables()
	if len(stubs) == 0 {
		stubs = f.stubRun()
	}
	text := f.code.without(stubs)
	list = order(append(list, f.pointedARM(text)...))
	return order(append(list, f.calledARM(text, list)...)), "exidx+symbols+calls"
}

// readExidx returns the functions of the exception index table (Exception
// Handling ABI for the Arm Architecture, "Index table entries"). Linkers merge
// neighbours that unwind alike, and close the table with an entry that cannot
// be unwound and is no function.
func (f *file) readExidx() []image.Function {
	var b []byte
	var addr uint64
	if s := f.sectionOfType(sectARMExidx); s != nil {
		b, addr = f.sectionBytes(s), s.addr
	} else if p := f.program(progARMExidx); p != nil {
		b, addr = f.programBytes(p), p.vaddr
	}
	var list []image.Function
	for i := 0; i+8 <= len(b); i += 8 {
		start, how := f.u32(b[i:]), f.u32(b[i+4:])
		if start>>31 != 0 || how == 1 && i+16 > len(b) {
			continue
		}
		at := f.address(addr+uint64(i)+uint64(int64(int32(start<<1)>>1))) &^ 1
		if f.code.has(at) {
			list = append(list, image.Function{Addr: at})
		}
	}
	return list
}

// pointedARM returns the code that relocated data points to: tables of virtual
// functions, callbacks. Jump tables are not relocated.
func (f *file) pointedARM(text ranges) []image.Function {
	var list []image.Function
	for _, at := range f.rebased {
		b := f.m.At(at)
		if len(b) < 4 {
			continue
		}
		if to := uint64(f.u32(b)); text.has(to&^1) && to&3 != 2 {
			list = append(list, image.Function{Addr: to &^ 1})
		}
	}
	return list
}

// calledARM goes through code for calls and for functions that open behind the
// end of another, and returns where they start. The pieces between known
// functions are ARM or Thumb code throughout.
func (f *file) calledARM(text ranges, known []image.Function) []image.Function {
	var starts []uint64
	for _, t := range text {
		code := f.scan(t)
		w := sweepARM{
			insn: f.codeLayout(), code: code, addr: t.lo,
			jumped: newBits(len(code)), pool: newBits(len(code)), starts: starts,
		}
		i, _ := slices.BinarySearchFunc(known, t.lo+1, func(fn image.Function, a uint64) int { return compare(fn.Addr, a) })
		for from := 0; from < len(code); {
			to := len(code)
			if i < len(known) && known[i].Addr-t.lo < uint64(to) {
				to = int(known[i].Addr - t.lo)
				i++
			}
			if w.isThumb(from, to) {
				w.thumb(from, to)
			} else {
				w.arm(from, to)
			}
			from = to
		}
		starts = w.starts
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	var list []image.Function
	for _, at := range starts {
		if text.has(at) {
			list = append(list, image.Function{Addr: at})
		}
	}
	return list
}

// stubRun is where the stubs that were found stand, with what leads to them: a
// common head before them, and a way in from Thumb code before each.
func (f *file) stubRun() ranges {
	const head, long = 32, 12 // bytes
	var r ranges
	add := func(stub uint64) {
		if stub > head {
			r = append(r, span{stub - 4, stub + long})
		}
	}
	for i := range f.m.Imports {
		add(f.m.Imports[i].Stub)
	}
	for i := range f.m.Exports {
		add(f.m.Exports[i].Stub)
	}
	if r = r.merge(); len(r) > 0 {
		r[0].lo -= head - 4
	}
	return r
}

// bits is a set of even offsets.
type bits []uint64

func newBits(n int) bits { return make(bits, n/128+1) }

func (b bits) set(off uint64) {
	if i := off / 128; i < uint64(len(b)) {
		b[i] |= 1 << (off / 2 % 64)
	}
}

func (b bits) has(off int) bool { return b[off/128]&(1<<(off/2%64)) != 0 }

// A sweepARM goes through code in its order (Arm Architecture Reference Manual
// for A-profile, AArch32, "A32 and T32 instruction set encoding"). Constants
// stand between functions; the loads that read them tell where.
type sweepARM struct {
	insn   layout
	code   []byte
	addr   uint64
	jumped bits     // offsets that a branch goes to
	pool   bits     // offsets of words that a load reads
	starts []uint64 // addresses where functions start
}

// call records the target of a call, as a distance from an offset.
func (w *sweepARM) call(from int, distance int32) {
	w.start((w.addr + uint64(from) + uint64(int64(distance))) & 0xffffffff)
}

func (w *sweepARM) start(at uint64) {
	if len(w.starts) < maxFunctions {
		w.starts = append(w.starts, at)
	}
}

// jump records the target of a branch.
func (w *sweepARM) jump(from int, distance int32) {
	w.jumped.set(uint64(from) + uint64(int64(distance)))
}

// load records the constant that a load reads.
func (w *sweepARM) load(from int, distance, up uint32, double bool) {
	off := uint64(from) + uint64(distance)
	if up == 0 {
		off = uint64(from) - uint64(distance)
	}
	w.pool.set(off)
	if double {
		w.pool.set(off + 4)
	}
}

// isThumb tells Thumb from ARM code, most of whose instructions are
// unconditional: their words begin with 14.
func (w *sweepARM) isThumb(from, to int) bool {
	words, always := 0, 0
	for i := (from + 3) &^ 3; i+4 <= to; i += 4 {
		words++
		if w.insn.u32(w.code[i:])>>28 == 14 {
			always++
		}
	}
	return always*2 < words
}

// arm goes through ARM code.
func (w *sweepARM) arm(from, to int) {
	over := false // nothing may run on to here: the end of a function, or a call that does not return
	for i := (from + 3) &^ 3; i+4 <= to; i += 4 {
		v := w.insn.u32(w.code[i:])
		if over {
			if w.pool.has(i) || v == 0xe1a00000 || v == 0xe320f000 { // mov r0, r0; nop
				continue
			}
			if saves := v&0xffff4000 == 0xe92d4000 || v == 0xe52de004; saves && !w.jumped.has(i) { // push {…, lr}
				w.start(w.addr + uint64(i))
			}
			over = false
		}
		distance := int32(v<<8) >> 6
		always := v>>28 == 14
		switch {
		case v>>25 == 0x7d: // blx
			w.call(i+8, distance+int32(v>>24&1<<1))
			over = true
		case v>>28 == 15:
		case v>>24&15 == 11: // bl
			w.call(i+8, distance)
			over = true
		case v>>24&15 == 10: // b
			w.jump(i+8, distance)
			over = always
		case v&0x0f7f0000 == 0x051f0000: // ldr r, [pc, #n]
			w.load(i+8, v&0xfff, v>>23&1, false)
		case v&0x0f3f0e00 == 0x0d1f0a00: // vldr d, [pc, #n]
			w.load(i+8, v&0xff<<2, v>>23&1, v>>8&1 != 0)
		case v == 0xe12fff1e, v&0xffff8000 == 0xe8bd8000, v == 0xe49df004: // bx lr; pop {…, pc}
			over = true
		}
	}
}

// thumb goes through Thumb code.
func (w *sweepARM) thumb(from, to int) {
	over := false    // nothing may run on to here: the end of a function, or a call that does not return
	conditional := 0 // instructions of an IT block that are left
	cases := to      // of a switch, as the last comparison has it; at most, if there was none
	for i := from; i+4 <= to; i += 2 {
		a, b := uint32(w.insn.u16(w.code[i:])), uint32(w.insn.u16(w.code[i+2:]))
		pc := i + 4
		base := int((w.addr+uint64(pc))&^3 - w.addr)
		if over {
			switch {
			case w.pool.has(i):
				i += 2
				continue
			case a == 0xbf00, a == 0x46c0, a == 0: // nop
				continue
			}
			saves := a&0xff00 == 0xb500 || a == 0xe92d && b&0x4000 != 0 || a == 0xf84d && b == 0xed04 // push {…, lr}
			if saves && !w.jumped.has(i) {
				w.start(w.addr + uint64(i))
			}
			over = false
		}
		always := conditional == 0
		if conditional > 0 {
			conditional--
		}
		if a>>11 < 0x1d {
			switch {
			case a&0xff00 == 0xbf00 && a&15 != 0: // it
				conditional = 4 - mathbits.TrailingZeros32(a&15)
			case a&0xf000 == 0xd000 && a>>8&15 < 14: // b<c>
				w.jump(pc, int32(a<<24)>>23)
			case a&0xf800 == 0x2800: // cmp r, #n
				cases = int(a&0xff) + 1
			case a&0xf800 == 0xe000: // b
				w.jump(pc, int32(a<<21)>>20)
				over = always
			case a&0xf500 == 0xb100: // cbz, cbnz
				w.jump(pc, int32(a>>9&1<<6|a>>3&31<<1))
			case a&0xf800 == 0x4800: // ldr r, [pc, #n]
				w.load(base, a&0xff<<2, 1, false)
			case a == 0x4770, a&0xff00 == 0xbd00: // bx lr; pop {…, pc}
				over = always
			}
			continue
		}
		switch far := int32((a>>10&1<<24|^(b>>13^a>>10)&1<<23|^(b>>11^a>>10)&1<<22|a&0x3ff<<12|b&0x7ff<<1)<<7) >> 7; {
		case a>>11 == 0x1e && b&0xd000 == 0xd000: // bl
			w.call(pc, far)
			over = true
		case a>>11 == 0x1e && b&0xd001 == 0xc000: // blx
			w.call(base, far)
			over = true
		case a>>11 == 0x1e && b&0xd000 == 0x9000: // b.w
			w.jump(pc, far)
			over = always
		case a>>11 == 0x1e && b&0xd000 == 0x8000 && a>>6&15 < 14: // b<c>.w
			w.jump(pc, int32((a>>10&1<<20|b>>11&1<<19|b>>13&1<<18|a&63<<12|b&0x7ff<<1)<<11)>>11)
		case a&0xff7f == 0xf85f: // ldr.w r, [pc, #n]
			w.load(base, b&0xfff, a>>7&1, false)
		case a&0xff3f == 0xed1f && b&0x0e00 == 0x0a00: // vldr d, [pc, #n]
			w.load(base, b&0xff<<2, a>>7&1, b>>8&1 != 0)
		case a&0xff7f == 0xe95f: // ldrd r, r, [pc, #n]
			w.load(base, b&0xff<<2, a>>7&1, true)
		case a == 0xe8df && b&0xffe0 == 0xf000: // tbb, tbh
			i = w.branchTable(pc, min(to, pc+cases<<(b>>4&1)), int(b>>4&1)+1) - 4
		case a == 0xe8bd && b&0x8000 != 0, a == 0xf85d && b == 0xfb04: // pop.w {…, pc}
			over = always
		}
		i += 2
	}
}

// branchTable records the targets in a table of distances, of size bytes each,
// and returns where it ends: all of them lie behind it.
func (w *sweepARM) branchTable(from, to, size int) int {
	first := to
	i := from
	for ; i+size <= first; i += size {
		distance := int(w.code[i])
		if size == 2 {
			distance = int(w.insn.u16(w.code[i:]))
		}
		w.jump(from, int32(2*distance))
		first = min(first, max(i+size, from+2*distance))
	}
	return (i + 1) &^ 1
}
