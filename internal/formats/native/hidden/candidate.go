package hidden

import (
	"encoding/binary"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Limits of the search for functions that are worth to be carried out.
const (
	maxCode    = 12 << 20 // bytes of code that are looked at
	maxLength  = 16 << 10 // of a function
	maxLoop    = 400      // bytes of a loop that decodes
	maxCallers = 12       // of a function that decodes
)

// candidates returns the functions to carry out, callers of those that decode
// first: they know what is decoded.
func (r *runner) candidates(wanted func(addr uint64) bool) []int {
	var loops, builders, rest []int
	left := maxCode
	for fn := range r.c.Functions {
		at := r.c.Functions[fn].Addr
		if !wanted(at) || left <= 0 {
			continue
		}
		b := r.body(fn)
		left -= len(b)
		loop, built := r.judge(b)
		switch {
		case loop:
			loops = append(loops, fn)
		case built:
			builders = append(builders, fn)
		default:
			rest = append(rest, fn)
		}
	}
	var callers []int
	for _, fn := range loops[:min(len(loops), maxRuns)] {
		n := 0
		for _, ref := range r.c.Callers(fn) {
			if by := r.c.Func(ref.Addr); by >= 0 && by != fn && ref.Kind != code.Data && wanted(ref.Addr) {
				callers = append(callers, by)
				n++
			}
			if n == maxCallers {
				break
			}
		}
	}
	out := slices.Concat(callers, loops, builders)
	if len(r.c.Functions) <= fewEnough {
		out = append(out, rest...)
	}
	seen := map[int]bool{}
	out = slices.DeleteFunc(out, func(fn int) bool {
		old := seen[fn]
		seen[fn] = true
		return old
	})
	return out[:min(len(out), maxRuns)]
}

// body returns the bytes of a function.
func (r *runner) body(fn int) []byte {
	f := &r.c.Functions[fn]
	b := r.mem.m.At(f.Addr)
	n := uint64(len(b))
	if f.Size > 0 {
		n = min(n, f.Size)
	}
	if fn+1 < len(r.c.Functions) {
		n = min(n, r.c.Functions[fn+1].Addr-f.Addr)
	}
	return b[:min(n, maxLength)]
}

// judge reports whether a function has a loop that may decode bytes, and
// whether it writes constants that may be text.
func (r *runner) judge(b []byte) (loop, built bool) {
	if r.mem.m.Arch == image.AArch64 {
		return judgeARM64(b)
	}
	return judgeX86(b)
}

// judgeX86 goes by what bytes may be instructions.
func judgeX86(b []byte) (loop, built bool) {
	texts := 0
	for i := 0; i+8 < len(b); i++ {
		switch c := b[i]; {
		case c>>4 == 7 && b[i+1] >= 0x80: // a short branch back
			loop = loop || decodesX86(upTo(b, i, i+2-(256-int(b[i+1]))))
		case c == 0x0f && b[i+1]>>4 == 8: // a long one
			loop = loop || decodesX86(upTo(b, i, i+6+int(int32(binary.LittleEndian.Uint32(b[i+2:])))))
		case c == 0xeb && b[i+1] >= 0x80: // a jump back, as unoptimised loops end
			loop = loop || decodesX86(upTo(b, i, i+2-(256-int(b[i+1]))))
		case c == 0xe9:
			loop = loop || decodesX86(upTo(b, i, i+5+int(int32(binary.LittleEndian.Uint32(b[i+1:])))))
		case c == 0x48 && b[i+1]>>3 == 0x17 && i+10 <= len(b) && texty(b[i+2:i+10]): // mov r64, imm64
			built = true
		case c == 0xc6 && b[i+1]>>6 < 3, c == 0xc7 && b[i+1]>>6 < 3: // mov [m], imm
			texts++
		}
	}
	return loop, built || texts >= 4
}

// upTo returns the body of a loop that ends before one offset and begins at
// another; nothing if that is none.
func upTo(b []byte, end, from int) []byte {
	if from < 0 || from >= end || end-from > maxLoop {
		return nil
	}
	return b[from:end]
}

// decodesX86 reports whether the bytes of a loop may hold an instruction that
// combines bytes and one that writes them.
func decodesX86(b []byte) bool {
	combines, writes := false, false
	for i := 0; i+1 < len(b); i++ {
		mem := b[i+1]>>6 < 3
		switch b[i] {
		case 0x30, 0x28, 0x00: // xor, sub, add of a byte
			combines = true
			writes = writes || mem
		case 0x31, 0x32, 0x33, 0x34, 0x35, 0x2a, 0x29, 0x2b, 0x02, 0x01, 0x03, 0xc0, 0xd0, 0xd2, 0xf6, 0xf7, 0x80, 0x83:
			combines = true
			writes = writes || b[i] == 0x80 && mem || b[i] == 0xf6 && mem || b[i] == 0xc0 && mem
		case 0x88: // mov [m8], r8
			writes = writes || mem
		case 0x0f:
			switch b[i+1] {
			case 0x57, 0xef, 0xfc, 0xf8, 0xeb: // xorps, pxor, paddb, psubb, por
				combines = true
			case 0x11, 0x29, 0x7f, 0xd6, 0x7e: // moves to memory
				writes = true
			}
		}
	}
	return combines && writes
}

// texty reports whether a constant may be text: all of its bytes are printable,
// or under one key.
func texty(b []byte) bool { return !slices.Contains(b, 0) && distinct(string(b)) >= 4 }
