package code

import (
	"cmp"
	"slices"
	"sort"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// targets answers what lies at an address. It is asked for every candidate, so
// that nothing in it may search where a table will do.
type targets struct {
	image  *image.Image
	marks  marks
	places places // slots and stubs
	memory memory

	index    index // of the image's functions
	complete bool  // functions without a size reach to the next one
}

// newTargets is for code whose functions are still those of its image, and
// indexed.
func newTargets(c *Code, parts []part, s *scratch) *targets {
	m := c.Image
	t := &targets{image: m, memory: newMemory(m, parts)}
	t.marks = newMarks(parts, s)
	t.index = c.index
	for i := range m.Functions.List {
		t.marks.set(m.Functions.List[i].Addr, markStart)
	}
	n := 0
	for i := range m.Imports {
		n += 2 + len(m.Imports[i].MoreSlots)
	}
	for i := range m.Exports {
		if e := &m.Exports[i]; e.Slot|e.Stub != 0 {
			n += 2
		}
	}
	t.places = newPlaces(n)
	for i := range m.Imports {
		imp := &m.Imports[i]
		t.place(imp.Slot, int32(i))
		t.place(imp.Stub, int32(i))
		for _, at := range imp.MoreSlots {
			t.place(at, int32(i))
		}
	}
	for i := range m.Exports {
		if e := &m.Exports[i]; e.Slot|e.Stub != 0 {
			t.place(e.Slot, ^int32(i))
			t.place(e.Stub, ^int32(i))
		}
	}
	t.addTables()
	switch m.Functions.Method {
	case "function-starts", "methoddef", "code-section", "pclntab":
		t.complete = true
	}
	return t
}

// function reports whether a function starts at addr.
func (t *targets) function(addr uint64) bool { return t.marks.get(addr)&markStart != 0 }

// place notes that the slot or stub of an import, or of what else is named by
// index, is at addr.
func (t *targets) place(addr uint64, index int32) {
	if addr == 0 {
		return
	}
	t.places.put(addr, index)
	if !t.marks.set(addr, markPlace) {
		t.places.lo, t.places.hi = min(t.places.lo, addr), max(t.places.hi, addr)
	}
}

// at returns what place noted.
func (t *targets) at(addr uint64) (int32, bool) {
	if t.marks.has(addr) {
		if t.marks.get(addr)&markPlace == 0 {
			return 0, false
		}
	} else if addr < t.places.lo || addr > t.places.hi {
		return 0, false
	}
	return t.places.get(addr)
}

// through returns what is meant by the slot or stub at addr: an import, with
// addr itself as the target, or, with -1 for the import, the address of what
// the binary offers itself and uses as others would, or what it reaches through
// its own table.
func (t *targets) through(addr uint64) (target uint64, imp int32, ok bool) {
	i, ok := t.at(addr)
	if ok && i < 0 {
		if i = ^i; int(i) < len(t.image.Exports) {
			return t.image.Exports[i].Addr, -1, true
		}
		return t.image.Pointers[int(i)-len(t.image.Exports)].To, -1, true
	}
	return addr, i, ok
}

// addTables adds the pointers to the binary's own functions and data that the
// linker put in the global offset table: nothing else is ever put there.
func (t *targets) addTables() {
	p := t.image.Pointers
	for i := range t.image.Sections {
		s := &t.image.Sections[i]
		if s.Name != ".got" && s.Name != ".got.plt" && !strings.HasSuffix(s.Name, ",__got") {
			continue
		}
		k := sort.Search(len(p), func(k int) bool { return p[k].At >= s.Addr })
		for ; k < len(p) && p[k].At-s.Addr < s.Size; k++ {
			if p[k].To != 0 && len(t.image.Exports)+k < 1<<31-1 {
				t.place(p[k].At, ^int32(len(t.image.Exports)+k))
			}
		}
	}
}

// before returns the last function that starts at addr or before it, or nil.
func (t *targets) before(addr uint64) *image.Function {
	list := t.image.Functions.List
	from, to := t.index.near(addr)
	i := from + sort.Search(to-from, func(i int) bool { return list[from+i].Addr > addr }) - 1
	if i < 0 {
		return nil
	}
	return &list[i]
}

// between reports whether a function starts behind lo, up to hi.
func (t *targets) between(lo, hi uint64) bool {
	f := t.before(hi)
	return f != nil && f.Addr > lo
}

// data reports whether addr is mapped and holds no instructions.
func (t *targets) data(addr uint64) bool { return t.memory.at(addr) == mappedData }

// code reports whether addr holds instructions.
func (t *targets) code(addr uint64) bool { return t.memory.at(addr) == mappedCode }

// covered reports whether addr lies in a function that is known.
func (t *targets) covered(addr uint64) bool {
	f := t.before(addr)
	switch {
	case f == nil:
		return false
	case f.Size > 0:
		return addr-f.Addr < f.Size
	}
	return t.complete
}

// marks has two bits for each byte of code: whether a function starts there,
// and whether a stub or a slot does. They stand in one word, since most targets
// are asked for both. Code that lies far apart has no bitmap but a map.
type marks struct {
	lo, size uint64
	words    []uint64 // each of 32 addresses: starts in the lower half, places in the upper
	far      map[uint64]uint8
}

const (
	markStart = 1 << iota
	markPlace
)

func newMarks(parts []part, s *scratch) marks {
	if len(parts) == 0 {
		return marks{}
	}
	total := uint64(0)
	for _, p := range parts {
		total += uint64(len(p.bytes))
	}
	m := marks{lo: parts[0].addr, size: parts[len(parts)-1].end() - parts[0].addr}
	if m.size > 8*total+1<<20 {
		return marks{far: map[uint64]uint8{}}
	}
	m.words = s.words(m.size/32 + 1)
	return m
}

// set adds a mark. Not ok means that addr is not among the code.
func (m *marks) set(addr uint64, mark uint8) (ok bool) {
	if off := addr - m.lo; off < m.size {
		m.words[off/32] |= (uint64(mark&1) | uint64(mark>>1)<<32) << (off % 32)
		return true
	}
	if m.far != nil {
		m.far[addr] |= mark
	}
	return m.far != nil
}

// get returns the marks of addr.
func (m *marks) get(addr uint64) uint8 {
	if off := addr - m.lo; off < m.size {
		w := m.words[off/32] >> (off % 32)
		return uint8(w&1 | w>>31&2)
	}
	if m.far != nil {
		return m.far[addr]
	}
	return 0
}

// has reports whether addr would have marks, if there were any.
func (m *marks) has(addr uint64) bool { return addr-m.lo < m.size || m.far != nil }

// places is a hash table from addresses to indexes: of imports, or, as their
// complement, of exports and behind them of pointers. 0 is no address.
type places struct {
	lo, hi uint64 // of the addresses in it that are not among code
	shift  uint
	used   int
	addrs  []uint64
	index  []int32
}

func newPlaces(n int) places {
	bits := uint(4)
	for 1<<bits < 2*n {
		bits++
	}
	return places{lo: ^uint64(0), shift: 64 - bits, addrs: make([]uint64, 1<<bits), index: make([]int32, 1<<bits)}
}

// find returns where addr is, or the free place where it would be.
func (p *places) find(addr uint64) int {
	i := int(addr * 0x9e3779b97f4a7c15 >> p.shift)
	for p.addrs[i] != addr && p.addrs[i] != 0 {
		i = (i + 1) & (len(p.addrs) - 1)
	}
	return i
}

// put adds an address, which is not 0, unless it is there.
func (p *places) put(addr uint64, index int32) {
	i := p.find(addr)
	if p.addrs[i] == addr {
		return
	}
	p.addrs[i], p.index[i] = addr, index
	if p.used++; 2*p.used > len(p.addrs) {
		old := *p
		*p = newPlaces(2 * p.used)
		p.lo, p.hi = old.lo, old.hi
		for i, addr := range old.addrs {
			if addr != 0 {
				p.put(addr, old.index[i])
			}
		}
	}
}

func (p *places) get(addr uint64) (int32, bool) {
	if i := p.find(addr); p.addrs[i] == addr {
		return p.index[i], addr != 0
	}
	return 0, false
}

// What is mapped at an address.
const (
	unmapped = iota
	mappedData
	mappedCode
	mixed // in a table of blocks: more than one of these
)

// memory tells code from data. It has a table of blocks, each of which is one
// kind of memory or mixed; only what is mixed needs a search.
type memory struct {
	lo, hi uint64
	shift  uint
	blocks []uint8
	spans  []span // by address, without overlap
}

type span struct {
	lo, hi uint64
	kind   uint8
}

func newMemory(m *image.Image, parts []part) memory {
	var mem memory
	k := 0
	add := func(lo, hi uint64, kind uint8) {
		if lo < hi {
			mem.spans = append(mem.spans, span{lo, hi, kind})
		}
	}
	var end uint64
	for _, s := range m.Segments {
		lo := max(s.Addr, end)
		hi := s.Addr + max(s.Size, s.FileSize)
		if hi < s.Addr {
			hi = ^uint64(0)
		}
		for ; k < len(parts) && parts[k].end() <= lo; k++ { // code that no segment maps
			add(max(parts[k].addr, end), parts[k].end(), mappedCode)
			end = max(end, parts[k].end())
		}
		for lo < hi {
			if k == len(parts) || parts[k].addr >= hi {
				add(lo, hi, mappedData)
				lo = hi
				break
			}
			add(lo, parts[k].addr, mappedData)
			add(max(lo, parts[k].addr), parts[k].end(), mappedCode)
			lo = max(lo, parts[k].end())
			k++
		}
		end = max(end, lo)
	}
	for ; k < len(parts); k++ {
		add(max(parts[k].addr, end), parts[k].end(), mappedCode)
	}
	mem.index()
	return mem
}

// index makes the table of blocks.
func (m *memory) index() {
	if len(m.spans) == 0 {
		return
	}
	const most = 1 << 16 // blocks
	m.lo, m.hi = m.spans[0].lo, m.spans[len(m.spans)-1].hi
	for m.shift = 8; (m.hi-m.lo)>>m.shift >= most; m.shift++ {
	}
	m.blocks = make([]uint8, (m.hi-m.lo)>>m.shift+1)
	filled := uint64(0) // addresses that spans up to here fill without a gap
	for i, s := range m.spans {
		first, last := (s.lo-m.lo)>>m.shift, (s.hi-1-m.lo)>>m.shift
		for b := first; b <= last; b++ {
			m.blocks[b] = s.kind
		}
		// The blocks at its ends are its own only if it fills them.
		if s.lo != m.lo+first<<m.shift {
			m.blocks[first] = mixed
		}
		if s.hi != m.lo+(last+1)<<m.shift && i < len(m.spans)-1 {
			m.blocks[last] = mixed
		}
		filled = s.hi
	}
	if filled != m.lo+uint64(len(m.blocks))<<m.shift {
		m.blocks[len(m.blocks)-1] = mixed
	}
}

func (m *memory) at(addr uint64) uint8 {
	if addr < m.lo || addr >= m.hi {
		return unmapped
	}
	kind := m.blocks[(addr-m.lo)>>m.shift]
	if kind == mixed {
		return m.search(addr)
	}
	return kind
}

func (m *memory) search(addr uint64) uint8 {
	i := sort.Search(len(m.spans), func(i int) bool { return m.spans[i].hi > addr })
	if i == len(m.spans) || addr < m.spans[i].lo {
		return unmapped
	}
	return m.spans[i].kind
}

// inTable reports whether addr is in a section of nothing but stubs.
func inTable(tables []span, addr uint64) bool {
	return slices.ContainsFunc(tables, func(s span) bool { return addr >= s.lo && addr < s.hi })
}

// stubTables returns the sections that hold nothing but stubs.
func stubTables(m *image.Image) []span {
	var out []span
	for i := range m.Sections {
		if s := &m.Sections[i]; s.Code && s.Size > 0 && (strings.HasPrefix(s.Name, ".plt") || s.Name == ".iplt") {
			out = append(out, span{lo: s.Addr, hi: s.Addr + min(s.Size, -s.Addr-1)})
		}
	}
	slices.SortFunc(out, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	return out
}
