package code

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Limits of the code that is separated into functions. Larger programs come
// with unwind data, or have so much that is not understood that a function
// more or less makes no difference.
const (
	mostSeparated = 512 << 10 // bytes of code
	wellCovered   = 0.8       // share of the code in functions of known size
)

// A leap is a jump that leaves its function.
type leap struct{ at, to uint64 }

// separate adds the functions that nothing refers to, in a small binary without
// symbols and unwind data: where one ends, as no jump within it leads further,
// another begins. Without them their code would be taken for that of the
// function before. It returns the jumps from one function to the start of
// another that the scan took for jumps within one.
func (r *reader) separate() []leap {
	m := r.c.Image
	if r.total > mostSeparated || m.Functions.Coverage >= wellCovered || len(r.c.Functions) == 0 || bends[m.Arch] == nil || m.BigEndian {
		return nil
	}
	s := &separation{reader: r, bend: bends[m.Arch]}
	for _, p := range r.parts {
		if !r.hasStubs(p) {
			s.part(p)
		}
	}
	r.c.addFunctions(s.starts)
	return slices.DeleteFunc(s.leaps, func(l leap) bool {
		fn, ok := r.c.start(l.to)
		return !ok || r.c.Func(l.at) == fn
	})
}

// addLeaps records jumps, unless there is a reference from the same place.
func (r *reader) addLeaps(leaps []leap) {
	if len(leaps) == 0 {
		return
	}
	c := r.c
	slices.SortFunc(leaps, func(a, b leap) int { return cmp.Compare(a.at, b.at) })
	n := len(c.Refs)
	for _, l := range leaps {
		_, found := slices.BinarySearchFunc(c.Refs[:n], l.at, func(ref Ref, at uint64) int { return cmp.Compare(ref.Addr, at) })
		if !found {
			c.Refs = append(c.Refs, Ref{l.at, l.to, -1, Jump})
		}
	}
	mergeRefs(c.Refs, n)
}

// hasStubs reports whether a part holds the stubs of imports, and nothing else.
func (r *reader) hasStubs(p part) bool {
	for i := range r.c.Image.Sections {
		if s := &r.c.Image.Sections[i]; s.Addr <= p.addr && p.addr-s.Addr < s.Size {
			return s.Name == ".plt" || s.Name == ".iplt" || strings.HasPrefix(s.Name, ".plt.") || strings.HasSuffix(s.Name, "stubs")
		}
	}
	return false
}

// separation is the state of separate.
type separation struct {
	*reader
	bend   func(code []byte, addr uint64) bend
	starts []image.Function
	leaps  []leap
}

// A bend is what an instruction does to the way through the code.
type bend struct {
	size int // bytes; 0: there is no instruction
	kind bendKind
	to   uint64 // where a jump or branch leads; 0: not known
}

type bendKind uint8

const (
	bendNone   bendKind = iota
	bendFill            // does nothing: it may stand between functions
	bendBranch          // may lead to another place
	bendEnd             // always does, or returns
	bendTable           // leads to places that are not known
)

// bends tell of an instruction of each machine whether it bends the way.
var bends = map[image.Arch]func(code []byte, addr uint64) bend{
	image.X86_64:  func(code []byte, addr uint64) bend { return bendX86(code, addr, true) },
	image.X86:     func(code []byte, addr uint64) bend { return bendX86(code, addr, false) },
	image.AArch64: bendARM64,
	image.RISCV64: bendRISCV,
}

// part goes through one run of code, function by function.
func (s *separation) part(p part) {
	list := s.c.Functions
	i, _ := slices.BinarySearchFunc(list, p.addr, func(f image.Function, addr uint64) int { return cmp.Compare(f.Addr, addr) })
	for at := p.addr; at < p.end(); {
		for i < len(list) && list[i].Addr < at {
			i++
		}
		next := p.end()
		if i < len(list) && list[i].Addr > at {
			next = min(next, list[i].Addr)
		} else if i+1 < len(list) {
			next = min(next, list[i+1].Addr)
		}
		known := i < len(list) && list[i].Addr == at
		if known && list[i].Size > 0 && list[i].Size < next-at {
			next = at + list[i].Size
		}
		code := p.bytes[at-p.addr : next-p.addr]
		if !known {
			n := s.fill(code, at)
			if n == len(code) {
				at = next
				continue
			}
			code, at = code[n:], at+uint64(n)
			if !s.begins(code, at) {
				at = next
				continue
			}
			s.starts = append(s.starts, image.Function{Addr: at})
		}
		at += max(1, s.body(code, at, known && list[i].Size > 0)) // of two functions at one address, the first is empty
	}
}

// fill returns the length of what fills the space before the next function.
func (s *separation) fill(code []byte, addr uint64) int {
	n := 0
	for n < len(code) {
		b := s.bend(code[n:], addr+uint64(n))
		if b.kind != bendFill || b.size == 0 {
			break
		}
		n += b.size
	}
	return n
}

// begins reports whether code may be the beginning of a function.
func (s *separation) begins(code []byte, addr uint64) bool {
	if _, ok := s.targets.at(addr); ok {
		return false // a stub
	}
	for range 4 {
		b := s.bend(code, addr)
		if b.size == 0 {
			return false
		}
		if b.kind == bendEnd {
			break
		}
		code, addr = code[b.size:], addr+uint64(b.size)
		if len(code) == 0 {
			break
		}
	}
	return true
}

// body goes through the function at the start of code, and returns how long it
// is: all of the code, unless it ends before that.
func (s *separation) body(code []byte, start uint64, whole bool) uint64 {
	end := start + uint64(len(code))
	reach := start // the furthest that a jump leads
	for at := start; at < end; {
		b := s.bend(code[at-start:], at)
		if b.size == 0 {
			break
		}
		here := at
		at += uint64(b.size)
		switch {
		case b.to > here && b.to < end && !whole:
			reach = max(reach, b.to)
		case b.to != 0 && (b.to < start || b.to >= end):
			s.leaps = append(s.leaps, leap{here, b.to})
		}
		switch {
		case b.kind == bendTable && !whole:
			return end - start
		case b.kind == bendEnd && at > reach && !whole:
			if n := s.fill(code[at-start:], at); s.begins(code[at-start+uint64(n):], at+uint64(n)) {
				return at - start
			}
			return end - start
		}
	}
	return end - start
}

// bendX86 reads an instruction of x86 (SDM volume 2, appendix A).
func bendX86(code []byte, addr uint64, wide bool) bend {
	in, ok := decode(code, wide)
	if !ok {
		return bend{}
	}
	b := code[:in.size]
	next := addr + uint64(in.size)
	out := bend{size: in.size}
	relative := func() uint64 {
		to := next
		if in.size-in.imm == 1 {
			to += uint64(int64(int8(b[in.imm])))
		} else if in.size-in.imm == 4 {
			to += uint64(int64(int32(le32(b[in.imm:]))))
		}
		if !wide {
			to &= 1<<32 - 1
		}
		return to
	}
	switch op := in.op; {
	case op == 0x90 || op == 0xcc || op == 0x11f || !wide && fillsX86(b[max(in.modrm-1, 0):], op):
		out.kind = bendFill
	case op >= 0x70 && op <= 0x7f || op >= 0xe0 && op <= 0xe3 || op >= 0x180 && op <= 0x18f:
		out.kind, out.to = bendBranch, relative()
	case op == 0xe9 || op == 0xeb:
		out.kind, out.to = bendEnd, relative()
	case op == 0xc3 || op == 0xc2 || op == 0xcb || op == 0xca || op == 0xf4 || op == 0x10b:
		out.kind = bendEnd
	case op == 0xff && b[in.modrm]>>3&7 == 4:
		out.kind = bendTable
		if b[in.modrm]&0xc7 == 5 { // through a pointer that no register takes part in
			out.kind = bendEnd
		}
	case op == 0 && in.modrm > 0 && b[in.modrm] == 0: // zeros
		return bend{}
	}
	return out
}

// fillsX86 reports whether an instruction, from its opcode on, moves a register
// to itself, as compilers fill gaps where NOP has no operands.
func fillsX86(b []byte, op int) bool {
	if op == 0x89 || op == 0x8b {
		return b[1]&0xc0 == 0xc0 && b[1]>>3&7 == b[1]&7
	}
	if op != opLEA {
		return false
	}
	rest := b[2:]
	base := b[1] & 7
	if base == 4 {
		if len(rest) == 0 || rest[0]&0xf8 != 0x20 { // no index
			return false
		}
		base, rest = rest[0]&7, rest[1:]
	}
	return b[1]&0xc0 != 0xc0 && base == b[1]>>3&7 && len(bytes.Trim(rest, "\x00")) == 0
}

// bendARM64 reads an instruction of A64 (Arm Architecture Reference Manual,
// C4.1 "A64 instruction set encoding").
func bendARM64(code []byte, addr uint64) bend {
	if len(code) < 4 || addr%4 != 0 {
		return bend{}
	}
	v := binary.LittleEndian.Uint32(code)
	distance := func(shift, bits uint) uint64 {
		return addr + uint64(int64(int32(v<<(32-shift-bits))>>(32-bits))*4)
	}
	switch {
	case v == 0xd503201f:
		return bend{size: 4, kind: bendFill}
	case v>>16 == 0: // UDF, or nothing
		return bend{}
	case v>>26 == 5: // B
		return bend{4, bendEnd, distance(0, 26)}
	case v&0xff000010 == 0x54000000, v&0x7e000000 == 0x34000000: // B.cond, CBZ, CBNZ
		return bend{4, bendBranch, distance(5, 19)}
	case v&0x7e000000 == 0x36000000: // TBZ, TBNZ
		return bend{4, bendBranch, distance(5, 14)}
	case v&0xfffffc1f == 0xd65f0000, v == 0xd65f0bff, v == 0xd65f0fff, v&0xffe0001f == 0xd4200000: // RET, BRK
		return bend{size: 4, kind: bendEnd}
	case v&0xfe9ff000 == 0xd61f0000: // BR
		return bend{size: 4, kind: bendTable}
	}
	return bend{size: 4}
}

// bendRISCV reads an instruction of RISC-V (The RISC-V Instruction Set Manual,
// volume I, chapters "RV32I" and "C").
func bendRISCV(code []byte, addr uint64) bend {
	if len(code) < 2 || addr%2 != 0 {
		return bend{}
	}
	half := uint32(binary.LittleEndian.Uint16(code))
	if half&3 != 3 {
		out := bend{size: 2}
		switch {
		case half == 0:
			return bend{}
		case half == 1:
			out.kind = bendFill
		case half&0xe003 == 0xa001: // C.J
			out.kind, out.to = bendEnd, addr+jumpRISCV(half)
		case half&0xc003 == 0xc001: // C.BEQZ, C.BNEZ
			n := int32(half<<19)>>31<<8 | int32(half<<1&0xc0|half<<3&0x20|half>>7&0x18|half>>2&6)
			out.kind, out.to = bendBranch, addr+uint64(int64(n))
		case half == 0x8082 || half == 0x9002: // RET, EBREAK
			out.kind = bendEnd
		case half&0xf07f == 0x8002: // C.JR
			out.kind = bendTable
		}
		return out
	}
	if len(code) < 4 {
		return bend{}
	}
	v := binary.LittleEndian.Uint32(code)
	out := bend{size: 4}
	switch v & 0x7f {
	case 0x13:
		if v == 0x13 {
			out.kind = bendFill
		}
	case 0x17: // AUIPC, and a jump by it
		if len(code) >= 8 {
			if w := binary.LittleEndian.Uint32(code[4:]); w&0x7fff == 0x67 && w>>15&31 == v>>7&31 {
				return bend{8, bendEnd, addr + uint64(int64(int32(v&0xfffff000))+int64(int32(w)>>20))}
			}
		}
	case 0x63: // branches
		out.kind = bendBranch
		out.to = addr + uint64(int64(int32(v&0x80000000)>>19|int32(v<<4&0x800)|int32(v>>20&0x7e0)|int32(v>>7&0x1e)))
	case 0x6f: // JAL
		if v>>7&31 == 0 {
			out.kind = bendEnd
			out.to = addr + uint64(int64(int32(v&0x80000000)>>11|int32(v&0xff000)|int32(v>>9&0x800)|int32(v>>20&0x7fe)))
		}
	case 0x67: // JALR
		if v>>7&31 == 0 {
			out.kind = bendTable
			if v>>15&31 == linkRISCV {
				out.kind = bendEnd
			}
		}
	case 0x73:
		if v == 0x00100073 || v == 0xc0001073 { // EBREAK, UNIMP
			out.kind = bendEnd
		}
	}
	return out
}
