package text

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Rust and Go put texts one behind the other without a mark between them, and
// tell by pairs of address and length where each begins and ends. Such pairs
// stand in data (slices, panic locations) and, for most texts of a program, in
// code: an instruction that forms the address, next to one that loads the
// length. Here they are collected for the runs that hold several texts.

const (
	shortGlue = 64      // characters of a run that is worth taking apart
	maxPiece  = 4096    // characters of a piece
	maxPieces = 1 << 20 // of a binary; each takes eight bytes
)

// A piece is one text of a run, by offset in the file.
type piece struct{ offset, size uint32 }

type pieces []piece

// within returns the pieces that begin in a part of the file.
func (p pieces) within(from, to uint64) pieces {
	i := sort.Search(len(p), func(i int) bool { return uint64(p[i].offset) >= from })
	n := sort.Search(len(p)-i, func(n int) bool { return uint64(p[i+n].offset) >= to })
	return p[i : i+n]
}

// A collector gathers pieces that lie in long runs.
type collector struct {
	table  *Table
	bounds []span // addresses of runs worth taking apart, sorted
	low    uint64
	high   uint64
	found  pieces
}

// A span is where a long run is mapped.
type span struct {
	addr, end uint64
	offset    uint32
}

// pieces finds the pieces of all long runs, by offset, the longest first where
// several begin together.
func (t *Table) pieces() pieces {
	m := t.image
	if !t.Glued || m.Format == image.Wasm {
		return nil
	}
	c := collector{table: t, low: ^uint64(0)}
	region := 0
	for _, p := range t.runs {
		r := p.run()
		if r.Wide || r.Size <= shortGlue {
			continue
		}
		for r.Offset >= t.regions[region].to {
			region++
		}
		if t.regions[region].role != plain {
			continue
		}
		if addr, _ := t.place(r.Offset); addr != 0 {
			c.bounds = append(c.bounds, span{addr, addr + uint64(r.Size), p.offset})
			c.low, c.high = min(c.low, addr), max(c.high, addr+uint64(r.Size))
		}
	}
	if len(c.bounds) == 0 {
		return nil
	}
	slices.SortFunc(c.bounds, func(a, b span) int { return cmp.Compare(a.addr, b.addr) })
	c.data()
	c.relocations()
	switch m.Arch {
	case image.X86_64:
		c.code(c.amd64)
	case image.AArch64:
		c.code(c.arm64)
	}
	slices.SortFunc(c.found, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(b.size, a.size))
	})
	c.found = slices.CompactFunc(c.found, func(a, b piece) bool { return a.offset == b.offset })
	return c.found
}

// add keeps the piece at an address if a long run holds all of it, or all up
// to the end of a line: lines are runs of their own, and each is a piece.
func (c *collector) add(addr, size uint64) {
	if addr < c.low || addr >= c.high || size < shortest || size > maxPiece || len(c.found) >= maxPieces {
		return
	}
	i := sort.Search(len(c.bounds), func(i int) bool { return c.bounds[i].addr > addr }) - 1
	if i < 0 || addr >= c.bounds[i].end {
		return
	}
	s := c.bounds[i]
	offset := uint64(s.offset) + (addr - s.addr)
	data := c.table.image.Data
	for end := offset + size; offset < end; {
		line := min(end, uint64(s.offset)+(s.end-s.addr)) - offset
		if offset+line < end && (offset+line >= uint64(len(data)) || data[offset+line] != '\n' && data[offset+line] != '\r') {
			return // not a text, to its end
		}
		if line >= shortest {
			c.found = append(c.found, piece{uint32(offset), uint32(line)})
		}
		// On with the next line, if that is a long run as well.
		for offset += line; offset < end && (data[offset] == '\n' || data[offset] == '\r'); offset++ {
		}
		if i++; i == len(c.bounds) || uint64(c.bounds[i].offset) != offset {
			return
		}
		s = c.bounds[i]
	}
}

// data looks at every aligned word of the data for an address with a length
// behind it.
func (c *collector) data() {
	m := c.table.image
	order := binary.ByteOrder(binary.LittleEndian)
	if m.BigEndian {
		order = binary.BigEndian
	}
	for _, r := range c.table.regions {
		if r.role != plain || r.section >= 0 && strings.HasPrefix(m.Sections[r.section].Name, ".rodata") && m.Kind == image.Library {
			continue
		}
		b := m.Data[r.from:r.to]
		if m.Bits == 32 {
			for b = b[min(-r.from&3, uint64(len(b))):]; len(b) >= 8; b = b[4:] {
				if v := uint64(order.Uint32(b)); v >= c.low && v < c.high {
					c.add(v, uint64(order.Uint32(b[4:])))
				}
			}
			continue
		}
		b = b[min(-r.from&7, uint64(len(b))):]
		if m.BigEndian {
			for ; len(b) >= 16; b = b[8:] {
				if v := order.Uint64(b); v-c.low < c.high-c.low {
					c.add(v, order.Uint64(b[8:]))
				}
			}
			continue
		}
		chained := m.Format == image.MachO // fixups keep the target in the low bits
		for ; len(b) >= 16; b = b[8:] {
			v := binary.LittleEndian.Uint64(b)
			if chained && v>>36 != 0 {
				v &= 1<<36 - 1
				if v < c.low {
					v += m.Base
				}
			}
			if v-c.low < c.high-c.low {
				c.add(v, binary.LittleEndian.Uint64(b[8:]))
			}
		}
	}
}

// relocations looks at what an ELF loader will fill in: the addend is the
// address, and the length stands behind the place.
func (c *collector) relocations() {
	m := c.table.image
	if m.Format != image.ELF || m.Bits != 64 || m.BigEndian {
		return
	}
	left := len(m.Data) // a hostile section table may name the same bytes again and again
	for i := range m.Sections {
		s := &m.Sections[i]
		if !strings.HasPrefix(s.Name, ".rela") || s.Addr == 0 {
			continue
		}
		b := m.Bytes(s)
		if left -= len(b); left < 0 {
			return
		}
		for ; len(b) >= 24; b = b[24:] {
			addend := binary.LittleEndian.Uint64(b[16:])
			if addend-c.low >= c.high-c.low {
				continue
			}
			if length := m.At(binary.LittleEndian.Uint64(b) + 8); len(length) >= 8 {
				c.add(addend, binary.LittleEndian.Uint64(length))
			}
		}
	}
}

// code has each part of the file with instructions looked at by scan.
func (c *collector) code(scan func(code []byte, addr uint64)) {
	for _, r := range c.table.regions {
		if r.role != code {
			continue
		}
		if addr, _ := c.table.place(r.from); addr != 0 {
			scan(c.table.image.Data[r.from:r.to], addr)
		}
	}
}

// amd64 looks for LEA of an address relative to the next instruction (REX.W 8D,
// ModRM 00 reg 101; Intel SDM volume 2) with MOV of a constant into a register
// close by.
func (c *collector) amd64(b []byte, addr uint64) {
	for i := 1; i+6 <= len(b); i++ {
		next := cursor.IndexByte(b[i:len(b)-5], 0x8d)
		if next < 0 {
			return
		}
		if i += next; b[i+1]&0xc7 != 0x05 || b[i-1]&0xf8 != 0x48 {
			continue
		}
		disp := int32(binary.LittleEndian.Uint32(b[i+2:]))
		target := addr + uint64(i) + 6 + uint64(int64(disp))
		if target-c.low >= c.high-c.low {
			continue
		}
		if n, ok := lengthNear(b, i-1, i+6); ok {
			c.add(target, n)
		}
	}
}

// arm64 looks for ADRP with ADD of the rest of the address to the same
// register, and MOVZ of a constant close by (Arm Architecture Reference Manual,
// C6.2).
func (c *collector) arm64(b []byte, addr uint64) {
	const near = 5 // instructions
	at := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	count := len(b) / 4
	for i := range count {
		adrp := at(i)
		if adrp&0x9f000000 != 0x90000000 {
			continue
		}
		page := int64(int32(adrp<<8)>>13)<<2 | int64(adrp>>29&3) // 21 bits with sign
		base := (addr+uint64(4*i))&^0xfff + uint64(page<<12)
		if base+0xfff < c.low || base >= c.high {
			continue
		}
		for j := i + 1; j < min(i+near, count); j++ {
			add := at(j)
			if add&0xffc00000 != 0x91000000 || add>>5&31 != adrp&31 {
				continue
			}
			target := base + uint64(add>>10&0xfff)
			for _, k := range []int{j + 1, j + 2, j + 3, j + 4, i - 1, i - 2, i + 1} {
				if k < 0 || k >= count {
					continue
				}
				if movz := at(k); movz&0x7fe00000 == 0x52800000 && movz>>5&0xffff >= shortest {
					c.add(target, uint64(movz>>5&0xffff))
					break
				}
			}
			break
		}
	}
}

// lengthNear reads the constant that is moved to a register or the stack right
// behind the instruction at start to end, a few instructions further, or right
// before it.
func lengthNear(b []byte, start, end int) (uint64, bool) {
	const window = 20
	for i := end; i < min(end+window, len(b)-4); i++ {
		if n, ok := constantAt(b, i); ok {
			return n, true
		}
		if i > end && b[i] == 0x8d && b[i-1]&0xf8 == 0x48 { // the next address
			break
		}
	}
	for _, back := range []int{5, 6, 9} {
		if i := start - back; i >= 0 {
			if n, ok := constantAt(b, i); ok {
				return n, true
			}
		}
	}
	return 0, false
}

// constantAt reads MOV r32, imm32 (B8+r) or MOV [rsp+disp8], imm32.
func constantAt(b []byte, i int) (uint64, bool) {
	var n uint32
	switch {
	case b[i]&0xf8 == 0xb8 && i+5 <= len(b):
		n = binary.LittleEndian.Uint32(b[i+1:])
	case i+9 <= len(b) && b[i] == 0x48 && b[i+1] == 0xc7 && b[i+2] == 0x44 && b[i+3] == 0x24:
		n = binary.LittleEndian.Uint32(b[i+5:])
	default:
		return 0, false
	}
	return uint64(n), n >= shortest && n <= maxPiece
}
