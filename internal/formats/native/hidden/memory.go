package hidden

import (
	"encoding/binary"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Where a run has its own memory, far from what binaries are linked for.
const (
	stackTop  = 0x7ff0_0000_0800
	heapStart = 0x7fe0_0000_0000
	imports   = 0x7fd0_0000_0000 // addresses that stand for imports, 16 apart
	home      = 0x7fc0_0000_0000 // the return address of the function that is run
)

// The same for machines of 32 bits, above what Linux and Windows give programs.
const narrow = 0xfff0_0000

const (
	pageSize = 4096
	maxPages = 256 // that one run may touch
)

// headers is how much of a file that is linked for address 0 is kept out of
// sight, in bytes.
const headers = 0x240

// A trail says what a byte was before it was written.
type trail uint8

const (
	given   trail = iota // by the image, or nobody
	copied               // as it stood in an instruction or in memory
	reached              // by arithmetic
)

// A page is a piece of memory, and who wrote what of it.
type page struct {
	at    uint64
	data  [pageSize]byte
	by    [pageSize]int32 // number of the site that wrote the byte, plus 1
	trail [pageSize]trail
	lo    int // what was written since it was last looked at
	hi    int
}

// memory is what a run sees: the image, as the loader leaves it, and what the
// run wrote.
type memory struct {
	m      *image.Image
	word   int // bytes of an address
	slots  map[uint64]int32
	pages  map[uint64]*page
	last   *page
	free   []*page
	dirty  []*page
	heap   uint64
	failed bool // more was touched than may be
	work   int  // what was done beside instructions, in as many of them
}

func newMemory(m *image.Image) *memory {
	mem := &memory{m: m, word: m.Bits / 8, slots: map[uint64]int32{}, pages: map[uint64]*page{}}
	for i := range m.Imports {
		imp := &m.Imports[i]
		if imp.Slot != 0 {
			mem.slots[imp.Slot] = int32(i)
		}
		for _, at := range imp.MoreSlots {
			mem.slots[at] = int32(i)
		}
	}
	return mem
}

// reset forgets what was written.
func (mem *memory) reset() {
	for _, p := range mem.pages {
		mem.free = append(mem.free, p)
	}
	clear(mem.pages)
	mem.last, mem.dirty, mem.failed, mem.work = nil, mem.dirty[:0], false, 0
	mem.heap = mem.place(heapStart)
}

// place returns where something of the run's own lies on this machine.
func (mem *memory) place(addr uint64) uint64 {
	if mem.word == 8 {
		return addr
	}
	switch addr {
	case stackTop:
		return narrow + 0x8_0800
	case heapStart:
		return narrow + 0x9_0000
	case home:
		return narrow + 0x1_0000
	}
	return narrow + 0x2_0000
}

// page returns that which holds an address; nil if there are too many.
func (mem *memory) page(addr uint64) *page {
	base := addr &^ (pageSize - 1)
	if mem.last != nil && mem.last.at == base {
		return mem.last
	}
	p := mem.pages[base]
	if p == nil {
		if len(mem.pages) >= maxPages {
			mem.failed = true
			return nil
		}
		if n := len(mem.free); n > 0 {
			p, mem.free = mem.free[n-1], mem.free[:n-1]
			*p = page{at: base}
		} else {
			p = &page{at: base}
		}
		mem.fill(p)
		mem.work += pageSize / 16
		mem.pages[base] = p
	}
	mem.last = p
	return p
}

// fill copies what the image has at a page.
func (mem *memory) fill(p *page) {
	s := mem.m.Segments
	at := uint64(0)
	if p.at == 0 {
		at = headers // what a pointer to nothing leads to is not the file's header
	}
	for at < pageSize {
		if b := mem.m.At(p.at + at); len(b) > 0 {
			at += uint64(copy(p.data[at:], b))
			continue
		}
		next := sort.Search(len(s), func(i int) bool { return s[i].Addr > p.at+at })
		if next == len(s) || s[next].Addr-p.at >= pageSize {
			return
		}
		at = s[next].Addr - p.at
	}
}

// load reads size bytes, at most 8, and what they were before.
func (mem *memory) load(addr uint64, size int) (uint64, trail) {
	if size == mem.word {
		if i, ok := mem.slots[addr]; ok {
			return mem.place(imports) + uint64(i)*16, given
		}
		p := mem.m.Pointers
		if i := sort.Search(len(p), func(i int) bool { return p[i].At >= addr }); i < len(p) && p[i].At == addr {
			if mem.pages[addr&^(pageSize-1)] == nil || mem.page(addr).by[addr%pageSize] == 0 {
				return p[i].To, given
			}
		}
	}
	var b [8]byte
	var t trail
	for i := range size {
		p := mem.page(addr + uint64(i))
		if p == nil {
			break
		}
		o := (addr + uint64(i)) % pageSize
		b[i] = p.data[o]
		t = max(t, p.trail[o])
	}
	return binary.LittleEndian.Uint64(b[:]), t
}

// store writes size bytes, at most 8.
func (mem *memory) store(addr uint64, v uint64, size int, t trail, by int32) {
	t = max(t, copied)
	for i := range size {
		mem.put(addr+uint64(i), byte(v>>(8*i)), t, by)
	}
}

func (mem *memory) put(addr uint64, b byte, t trail, by int32) {
	mem.work++
	p := mem.page(addr)
	if p == nil {
		return
	}
	o := int(addr % pageSize)
	p.data[o], p.trail[o], p.by[o] = b, t, by
	if p.lo == p.hi {
		p.lo, p.hi = o, o+1
		mem.dirty = append(mem.dirty, p)
		return
	}
	p.lo, p.hi = min(p.lo, o), max(p.hi, o+1)
}

// peek reads a byte and who wrote it.
func (mem *memory) peek(addr uint64) (byte, trail, int32) {
	p := mem.page(addr)
	if p == nil {
		return 0, given, 0
	}
	o := addr % pageSize
	return p.data[o], p.trail[o], p.by[o]
}

// take returns room on the heap.
func (mem *memory) take(size uint64) uint64 {
	at := mem.heap
	mem.heap += (min(size, 1<<16) + 31) &^ 15
	return at
}
