package pe

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// guessStarts finds functions of x86 code that no table lists. It decodes each
// code section once from its start and takes as functions
//
//   - what is known to start one,
//   - what is called directly,
//   - what a pointer points to, if it looks like a start,
//   - what follows the end of a function, if nothing in that function jumps
//     there and it is aligned behind padding, opens a frame, or is the stub of
//     an import.
//
// The result is sorted, without repeats.
func (f *file) guessStarts(known []uint64) []uint64 {
	areas := f.areas()
	var operands []uint64
	for _, a := range areas {
		a.sweep()
		operands = append(operands, a.operands...)
	}
	slices.Sort(operands)
	operands = slices.Compact(operands)
	for _, a := range areas {
		a.followTables(operands)
	}
	f.markPointers(areas, operands)
	list := known
	for _, a := range areas {
		list = append(list, a.functions(known)...)
	}
	return f.starts(list)
}

// An area is one code section as it is swept.
type area struct {
	addr     uint64
	code     []byte
	wide     bool
	marks    []mark   // one for each byte of code
	jumps    []jumped // unconditional, and through tables
	tables   []jumpTable
	operands []uint64 // of instructions, where they are addresses of the image
	cases    int      // of jump tables that may still be read
	whole    span     // addresses of the image
	at       func(uint64) []byte
}

// A jumpTable is a table of addresses and the jump that uses it.
type jumpTable struct {
	addr uint64
	from int
}

// A jumped is a jump that was decoded, as offsets in its area.
type jumped struct{ from, to int32 }

// A mark is what is known of one byte.
type mark = byte

const (
	begins  mark = 1 << iota // an instruction begins here
	called                   // by a direct call
	reached                  // by a branch, or by a jump within the function
	pointed                  // to, by data or an operand
	ends                     // the instruction before, less padding, does not go on
	padded                   // there is padding before
	data                     // not code: part of a jump table
	stub                     // jumps to an import
)

// areas returns the code sections by address. No linker makes sections that
// overlap in memory, or so many of the same bytes that they add up to more than
// the file: such are left out.
func (f *file) areas() []*area {
	var sections []image.Section
	for _, s := range f.m.Sections {
		if s.Code && s.Size > 0 {
			sections = append(sections, s)
		}
	}
	slices.SortStableFunc(sections, func(a, b image.Section) int { return cmp.Compare(a.Addr, b.Addr) })
	var list []*area
	var end uint64
	whole := span{f.m.Base, f.m.Base}
	for _, s := range f.m.Sections {
		whole.end = max(whole.end, s.Addr+s.Size)
	}
	left := len(f.m.Data)
	for _, s := range sections {
		code := f.m.Bytes(&s)
		code = code[:min(uint64(len(code)), s.Size)]
		if s.Addr < end || len(code) > left || len(code) > math.MaxInt32 {
			f.m.Notef("section %q overlaps others or is too large: its code is not searched for functions", s.Name)
			continue
		}
		end = s.Addr + s.Size
		left -= len(code)
		list = append(list, &area{
			addr: s.Addr, code: code, wide: f.wide, marks: make([]mark, len(code)), cases: 1<<16 + len(code)/16, whole: whole, at: f.m.At,
		})
	}
	return list
}

// index returns the offset of an address in the area, and whether it lies there.
func (a *area) index(addr uint64) (int, bool) {
	i := addr - a.addr
	return int(i), addr >= a.addr && i < uint64(len(a.code))
}

// mark adds to what is known of the byte at i, if that is in the area.
func (a *area) mark(i int, m mark) {
	if i >= 0 && i < len(a.marks) {
		a.marks[i] |= m
	}
}

// sweep decodes the area from start to end. Where there is no instruction it
// goes on with the next byte: x86 code falls into step again by itself.
func (a *area) sweep() {
	const recent = 8
	ended, gap := true, false
	var operand uint64 // the last absolute one
	since := recent    // instructions since then
	for i := 0; i < len(a.code); {
		if a.marks[i]&data != 0 {
			ended, gap = true, true
			i++
			continue
		}
		if ended && a.code[i] == 0 && zero(a.code[i:min(i+4, len(a.code))]) { // zeros fill gaps too
			gap = true
			i++
			continue
		}
		if c := a.code[i]; c == 0xcc || c == 0x90 { // int3 and nop, the commonest by far
			ended, gap = ended || c == 0xcc, true
			i++
			continue
		}
		ins := decode(a.code[i:], a.wide)
		switch {
		case ins.size == 0:
			i++
			continue
		case ins.flow == padding:
			gap = true
			i += ins.size
			continue
		}
		a.marks[i] |= begins
		if ended {
			a.marks[i] |= ends
		}
		if gap {
			a.marks[i] |= padded
		}
		ended, gap = false, false
		end := i + ins.size
		to := end + ins.to
		switch ins.flow {
		case call:
			if ins.to != 0 { // else it only asks where it is
				a.mark(to, called)
			}
		case branch:
			a.mark(to, reached)
		case jump:
			a.jump(i, to)
			ended = true
		case leave:
			// A catch block of Microsoft's compiler returns where its
			// function goes on.
			if ins.size == 1 && since == 1 && i >= 5 && a.code[i-5] == 0xb8 && operand >= a.addr {
				a.jump(i, int(operand-a.addr))
			}
			ended = true
		case slot:
			a.marks[i] |= stub
			ended = true
		}
		if addr := uint64(ins.addr); addr >= a.whole.start && addr < a.whole.end && addr != 0 {
			operand, since = addr, 0
			a.operands = append(a.operands, addr)
		}
		if ins.flow == through {
			if since < recent {
				a.table(operand, i)
			}
			ended = true
		}
		since++
		i = end
	}
}

// jump notes a jump within the area.
func (a *area) jump(from, to int) {
	if to >= 0 && to < len(a.code) {
		a.jumps = append(a.jumps, jumped{int32(from), int32(to)})
	}
}

// table notes a jump table. One that lies between the code is not code itself.
func (a *area) table(addr uint64, from int) {
	a.tables = append(a.tables, jumpTable{addr, from})
	start, inside := a.index(addr)
	if !inside {
		return
	}
	for at := start; at+4 <= len(a.code) && a.cases > 0; at += 4 {
		a.cases--
		if _, near := a.near(uint64(le32(a.code[at:])), from); !near {
			return
		}
		for i := at; i < at+4; i++ {
			a.marks[i] |= data
		}
	}
}

// near returns the offset of an address, and whether a jump could lead there
// without leaving its function.
func (a *area) near(addr uint64, from int) (int, bool) {
	const far = 1 << 16
	i, ok := a.index(addr)
	return i, ok && i-from < far && from-i < far
}

// followTables notes the cases of switches as jumps. Nothing says how long a
// table is: it ends at the latest where an entry does not lead to code nearby,
// or where something begins that an operand refers to. Operands are sorted.
func (a *area) followTables(operands []uint64) {
	for _, t := range a.tables {
		b := a.at(t.addr)
		if next, _ := slices.BinarySearch(operands, t.addr+1); next < len(operands) {
			b = b[:min(uint64(len(b)), operands[next]-t.addr)]
		}
		for ; len(b) >= 4 && a.cases > 0; b = b[4:] {
			a.cases--
			to, near := a.near(uint64(le32(b)), t.from)
			if !near {
				break
			}
			a.jump(t.from, to)
		}
	}
}

// functions returns the addresses of the area at which functions start.
func (a *area) functions(known []uint64) []uint64 {
	var starts []int // sorted
	for i := 0; i < len(a.marks); i++ {
		if i = a.skip(i, called|pointed); i == len(a.marks) {
			break
		}
		if m := a.marks[i]; m&(begins|data) == begins && (m&called != 0 || m&(pointed|ends|reached) == pointed|ends && a.opensFrame(i)) {
			starts = append(starts, i)
		}
	}
	for _, addr := range known {
		if i, ok := a.index(addr); ok {
			starts = append(starts, i)
		}
	}
	slices.Sort(starts)
	a.markReached(starts)
	var list []uint64
	for _, i := range starts {
		list = append(list, a.addr+uint64(i))
	}
	for i := 0; i < len(a.marks); i++ {
		if i = a.skip(i, ends); i == len(a.marks) {
			break
		}
		m := a.marks[i]
		if m&(begins|data|ends|reached) != begins|ends {
			continue
		}
		addr := a.addr + uint64(i)
		if m&(pointed|stub) != 0 || m&padded != 0 && addr%16 == 0 || a.opensFrame(i) {
			list = append(list, addr)
		}
	}
	return list
}

// skip returns the first offset from i on that has one of these marks, or one
// soon before it.
func (a *area) skip(i int, any mark) int {
	all := uint64(any) * 0x0101010101010101
	for ; i+8 <= len(a.marks) && binary.LittleEndian.Uint64(a.marks[i:])&all == 0; i += 8 {
	}
	return i
}

// markReached marks where jumps within a function lead. A jump over the start
// of another function leaves its own: it is the last call of a function, made
// into a jump.
func (a *area) markReached(starts []int) {
	for _, j := range a.jumps {
		low, high := j.from+1, j.to // starts behind the jump and before the target
		if j.to < j.from {
			low, high = j.to+1, j.from+1 // behind the target, up to the jump
		}
		i, _ := slices.BinarySearch(starts, int(low))
		if i == len(starts) || starts[i] >= int(high) {
			a.marks[j.to] |= reached
		}
	}
}

// frames are how functions open a stack frame: push ebp; mov ebp, esp in both
// encodings, with and without room for a hook before, and the same of 64 bits.
var frames = [][]byte{
	{0x55, 0x8b, 0xec},
	{0x55, 0x89, 0xe5},
	{0x8b, 0xff, 0x55, 0x8b, 0xec},
	{0x55, 0x48, 0x89, 0xe5},
	{0x55, 0x48, 0x8b, 0xec},
}

func (a *area) opensFrame(i int) bool {
	for _, f := range frames {
		if bytes.HasPrefix(a.code[i:], f) {
			return true
		}
	}
	return false
}

// markPointers marks the addresses of code that the image holds: where it has
// relocations, what these relocate; else the operands of instructions and the
// aligned words of data.
func (f *file) markPointers(areas []*area, operands []uint64) {
	mark := func(addr uint64) {
		i, _ := slices.BinarySearchFunc(areas, addr, func(a *area, addr uint64) int {
			if a.addr <= addr {
				return -1
			}
			return 1
		})
		if i > 0 {
			if at, ok := areas[i-1].index(addr); ok {
				areas[i-1].marks[at] |= pointed
			}
		}
	}
	if f.relocated {
		for _, p := range f.m.Pointers {
			mark(p.To)
		}
		return
	}
	for _, addr := range operands {
		mark(addr)
	}
	left, size := len(f.m.Data), int(f.pointerSize())
	for _, s := range f.m.Sections {
		b := f.m.Bytes(&s)
		if s.Code || len(b) > left {
			continue
		}
		left -= len(b)
		for ; len(b) >= size; b = b[size:] {
			mark(f.pointer(b))
		}
	}
}
