package hidden

import (
	"encoding/binary"
	"math"
	"sort"
	"sync"

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
	pageSize  = 4096
	maxPages  = 256  // that one run may touch
	mostPages = 4096 // that are kept from run to run
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

// A page is a piece of memory.
type page struct {
	at     uint64
	clean  []byte   // what it holds before a run
	data   []byte   // the same until something is written
	wrote  *written // what and by whom; nil as long as nothing is
	lo, hi int      // what was written since it was last looked at
	from   int      // all that was written in this run
	to     int
	run    int // the last run that touched it
}

// Written is what a page holds once something is written to it. What is not in
// use holds no trails.
type written struct {
	data  [pageSize]byte
	by    [pageSize]int32 // number of the site that wrote the byte, plus 1
	trail [pageSize]trail
}

// spare holds what no page needs any more.
var spare = sync.Pool{New: func() any { return new(written) }}

var zeros [pageSize]byte

// memory is what a run sees: the image, as the loader leaves it, and what the
// run wrote.
type memory struct {
	m      *image.Image
	word   int              // bytes of an address
	slots  map[uint64]int32 // imports by where their addresses stand
	low    uint64           // address of the first slot or pointer
	high   uint64           // and of the last
	pages  map[uint64]*page
	recent [8]*page // that this run touched, by the lowest bits of their number
	turned []*page  // that were written to in this run
	dirty  []*page  // since the last look
	run    int
	used   int // pages that this run touched
	heap   uint64
	failed bool // more was touched than may be
	work   int  // what was done beside instructions, in as many of them

	outcomes int // bytes that were written by themselves
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
	mem.low = math.MaxUint64
	for at := range mem.slots {
		mem.low, mem.high = min(mem.low, at), max(mem.high, at)
	}
	if n := len(m.Pointers); n > 0 {
		mem.low, mem.high = min(mem.low, m.Pointers[0].At), max(mem.high, m.Pointers[n-1].At)
	}
	return mem
}

// reset forgets what was written.
func (mem *memory) reset() {
	for _, p := range mem.turned {
		w := p.wrote
		clear(w.by[p.from:p.to])
		clear(w.trail[p.from:p.to])
		spare.Put(w)
		p.data, p.wrote, p.lo, p.hi = p.clean, nil, 0, 0
	}
	if len(mem.pages) > mostPages {
		clear(mem.pages)
	}
	mem.run++
	mem.turned, mem.dirty, mem.recent, mem.used = mem.turned[:0], mem.dirty[:0], [8]*page{}, 0
	mem.failed, mem.work, mem.outcomes = false, 0, 0
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
	recent := &mem.recent[addr/pageSize%uint64(len(mem.recent))]
	if p := *recent; p != nil && p.at == base {
		return p
	}
	return mem.touch(base, recent)
}

// touch returns the page at an address and keeps it among the recent ones.
func (mem *memory) touch(base uint64, recent **page) *page {
	p := mem.pages[base]
	if p == nil {
		p = &page{at: base}
		p.clean = mem.image(base)
		p.data = p.clean
		mem.pages[base] = p
	}
	if p.run != mem.run {
		if mem.used == maxPages {
			mem.failed = true
			return nil
		}
		p.run = mem.run
		mem.used++
	}
	*recent = p
	return p
}

// image returns what the image has at a page.
func (mem *memory) image(base uint64) []byte {
	at := uint64(0)
	if base == 0 {
		at = headers // what a pointer to nothing leads to is not the file's header
	} else if b := mem.m.At(base); len(b) >= pageSize {
		return b[:pageSize]
	}
	data := zeros[:]
	s := mem.m.Segments
	for at < pageSize {
		if b := mem.m.At(base + at); len(b) > 0 {
			if &data[0] == &zeros[0] {
				data = make([]byte, pageSize)
			}
			at += uint64(copy(data[at:], b))
			continue
		}
		next := sort.Search(len(s), func(i int) bool { return s[i].Addr > base+at })
		if next == len(s) || s[next].Addr-base >= pageSize {
			break
		}
		at = s[next].Addr - base
	}
	return data
}

// turn makes a page one that is written to.
func (mem *memory) turn(p *page, o int) {
	p.wrote = spare.Get().(*written)
	copy(p.wrote.data[:], p.clean)
	p.data, p.from, p.to = p.wrote.data[:], o, o+1
	mem.turned = append(mem.turned, p)
}

// load reads size bytes, at most 8, and what they were before.
func (mem *memory) load(addr uint64, size int) (uint64, trail) {
	if size == mem.word && addr >= mem.low && addr <= mem.high {
		if i, ok := mem.slots[addr]; ok {
			return mem.place(imports) + uint64(i)*16, given
		}
		p := mem.m.Pointers
		if i := sort.Search(len(p), func(i int) bool { return p[i].At >= addr }); i < len(p) && p[i].At == addr {
			if _, _, who := mem.peek(addr); who == 0 {
				return p[i].To, given
			}
		}
	}
	if o := addr % pageSize; o+8 <= pageSize {
		p := mem.page(addr)
		if p == nil {
			return 0, given
		}
		t := given
		if p.wrote != nil {
			for i := range size {
				t = max(t, p.wrote.trail[o+uint64(i)])
			}
		}
		return binary.LittleEndian.Uint64(p.data[o:]) & ones(size), t
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
		if p.wrote != nil {
			t = max(t, p.wrote.trail[o])
		}
	}
	return binary.LittleEndian.Uint64(b[:]), t
}

// store writes size bytes, at most 8.
func (mem *memory) store(addr uint64, v uint64, size int, t trail, by int32) {
	t = max(t, copied)
	if size == 1 {
		mem.outcomes++
	}
	o := int(addr % pageSize)
	if o+size > pageSize {
		for i := range size {
			mem.put(addr+uint64(i), byte(v>>(8*i)), t, by)
		}
		return
	}
	mem.work += size
	p := mem.page(addr)
	if p == nil {
		return
	}
	w := mem.written(p, o, o+size)
	for i := range size {
		w.data[o+i], w.trail[o+i], w.by[o+i] = byte(v>>(8*i)), t, by
	}
}

// written notes that the bytes from one offset up to before another are written
// to, and returns where they are.
func (mem *memory) written(p *page, from, to int) *written {
	if p.wrote == nil {
		mem.turn(p, from)
	}
	p.from, p.to = min(p.from, from), max(p.to, to)
	if p.lo == p.hi {
		p.lo, p.hi = from, to
		mem.dirty = append(mem.dirty, p)
	} else {
		p.lo, p.hi = min(p.lo, from), max(p.hi, to)
	}
	return p.wrote
}

func (mem *memory) put(addr uint64, b byte, t trail, by int32) {
	mem.work++
	p := mem.page(addr)
	if p == nil {
		return
	}
	o := int(addr % pageSize)
	w := mem.written(p, o, o+1)
	w.data[o], w.trail[o], w.by[o] = b, t, by
}

// peek reads a byte and who wrote it.
func (mem *memory) peek(addr uint64) (byte, trail, int32) {
	p := mem.page(addr)
	if p == nil {
		return 0, given, 0
	}
	o := addr % pageSize
	if p.wrote == nil {
		return p.data[o], given, 0
	}
	return p.data[o], p.wrote.trail[o], p.wrote.by[o]
}

// take returns room on the heap.
func (mem *memory) take(size uint64) uint64 {
	at := mem.heap
	mem.heap += (min(size, 1<<16) + 31) &^ 15
	return at
}
