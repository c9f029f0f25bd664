package code

import (
	"cmp"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Read reads the code of an image. It takes time linear in the bytes of code
// and never fails: what stands in no known place leaves no reference.
func Read(m *image.Image) *Code {
	c := &Code{Image: m, Functions: m.Functions.List, Pointers: m.Pointers}
	scan := scans[m.Arch]
	if scan == nil {
		return c
	}
	parts, all := codeParts(m)
	c.Read, c.Partial = len(parts) > 0, !all
	for _, p := range parts {
		c.parts = append(c.parts, span{lo: p.addr, hi: p.end(), kind: mappedCode})
	}
	c.indexFunctions()
	r := newReader(c, parts)
	if m.Arch == image.AArch64 {
		r.findThunks()
	}
	for _, p := range parts {
		r.scanned = p
		scan(r, p.addr, p.bytes)
		r.done += len(p.bytes)
	}
	r.finish()
	r.release()
	return c
}

// scans are the instruction sets that are read. A scan looks through the bytes
// of one run of code, which are mapped at addr, and calls the reader's add and
// syscall for what it finds, as far as it can in ascending order.
var scans = map[image.Arch]func(r *reader, addr uint64, code []byte){
	image.X86_64:  scanX86_64,
	image.X86:     scanX86,
	image.AArch64: scanARM64,
	image.ARM:     scanARM,
	image.RISCV64: scanRISCV,
	image.RISCV32: scanRISCV,
	image.Wasm32:  scanWasm,
	image.Wasm64:  scanWasm,
}

// A part is a run of code.
type part struct {
	addr  uint64
	bytes []byte
}

func (p part) end() uint64 { return p.addr + uint64(len(p.bytes)) }

// codeParts returns the sections that hold instructions, or the executable
// segments of a file without sections, by address. Of parts that overlap, the
// first has the bytes; a file whose parts add up to more than itself is read in
// part only.
func codeParts(m *image.Image) (parts []part, all bool) {
	var list []part
	for i := range m.Sections {
		if s := &m.Sections[i]; s.Code && s.Addr != 0 {
			if b := m.Bytes(s); len(b) > 0 {
				list = append(list, part{s.Addr, b[:min(uint64(len(b)), max(s.Size, 1))]})
			}
		}
	}
	if len(list) == 0 {
		for _, s := range m.Segments {
			if s.Access&image.Execute != 0 {
				if b := m.At(s.Addr); len(b) > 0 {
					list = append(list, part{s.Addr, b})
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b part) int { return cmp.Compare(a.addr, b.addr) })
	all = true
	left := len(m.Data)
	var end uint64
	for _, p := range list {
		if n := ^uint64(0) - p.addr; uint64(len(p.bytes)) > n { // wraps
			p.bytes = p.bytes[:n]
		}
		if p.addr < end {
			skip := min(end-p.addr, uint64(len(p.bytes)))
			p.addr, p.bytes = p.addr+skip, p.bytes[skip:]
		}
		if len(p.bytes) > left {
			p.bytes, all = p.bytes[:left], false
		}
		if len(p.bytes) > 0 {
			left -= len(p.bytes)
			end = p.end()
			parts = append(parts, p)
		}
	}
	return parts, all
}

// Limits on what one image may say.
const (
	maxRefs    = 16 << 20
	maxPending = 4 << 20
)

// reader collects what the scan of one image finds.
type reader struct {
	c        *Code
	scratch  *scratch
	targets  *targets
	parts    []part
	late     []Ref             // that count, but were found later than others
	pending  []Ref             // to places in code that no known function starts at or covers
	first    int               // of the references that are to be in order
	most     int               // references
	total    int               // bytes of code
	done     int               // of total, in parts that were scanned
	scanned  part              // that is scanned
	stubs    bool              // of x86, were looked for
	got      *uint32           // address of the global offset table of x86, 0 if there is none; nil if it was not looked for
	wrappers map[uint64]uint32 // functions that make the system call whose number is in a register, by their start
	sweep    *sweep            // of the scans that know what registers hold
}

func newReader(c *Code, parts []part) *reader {
	r := &reader{c: c, parts: parts, scratch: scratches.Get().(*scratch)}
	for _, p := range parts {
		r.total += len(p.bytes)
	}
	r.most = min(maxRefs, r.total/4+16)
	c.Refs = r.scratch.refs[:0:min(cap(r.scratch.refs), r.most)]
	r.pending = r.scratch.pending[:0]
	r.targets = newTargets(c, parts, r.scratch)
	return r
}

// add records a reference. What the target is, the scan has asked targets.
func (r *reader) add(ref Ref) {
	if len(r.c.Refs) == cap(r.c.Refs) && !r.grow() {
		return
	}
	n := len(r.c.Refs)
	r.c.Refs = append(r.c.Refs, ref)
	if n > r.first && r.c.Refs[n-1].Addr > ref.Addr {
		r.c.sink(r.first, n)
	}
}

// sink moves the reference at i, which is out of order, to its place behind
// first, if that is near.
func (c *Code) sink(first, i int) {
	const near = 16
	ref := c.Refs[i]
	for n := 0; i > first && c.Refs[i-1].Addr > ref.Addr && n < near; n++ {
		c.Refs[i] = c.Refs[i-1]
		i--
	}
	c.Refs[i] = ref
}

// grow makes room for as many references as there will be, if they are as
// frequent in the rest of the code as in what was read: doubling a slice of
// that size would cost more memory than anything else.
func (r *reader) grow() bool {
	n := len(r.c.Refs)
	if n >= r.most {
		r.c.Partial = true
		return false
	}
	room := r.total/128 + 64
	if n > 0 {
		done := r.done + int(min(r.c.Refs[n-1].Addr-r.scanned.addr, uint64(len(r.scanned.bytes))))
		rest := int(float64(n) * float64(r.total-done) / float64(done+1))
		room = n + n/32 + min(rest+rest/8, 3*n) + 64
	}
	room = max(min(room, r.most), n+1)
	r.c.Refs = append(make([]Ref, 0, room), r.c.Refs...)
	return true
}

// wait records a reference to a place in code where no known function is. It
// counts if there is reason enough to say that one starts there.
func (r *reader) wait(ref Ref) {
	if len(r.pending) < maxPending {
		r.pending = append(r.pending, ref)
	} else {
		r.c.Partial = true
	}
}

// syscall records a system call; number is -1 if it is not known.
func (r *reader) syscall(addr uint64, number int) {
	s := Syscall{Addr: addr, Number: number}
	if number >= 0 {
		s.Name = syscallName(r.c.Image, number)
	}
	r.c.Syscalls = append(r.c.Syscalls, s)
}

// finish puts everything into the promised order.
func (r *reader) finish() {
	c := r.c
	r.pointed()
	found := append(r.discover(), r.late...)
	leaps := r.separate()
	if c.indexed != len(c.Functions) {
		c.indexFunctions()
	}
	sortBy(c.Refs, addrOf)
	if len(found) > 0 {
		sortBy(found, addrOf)
		n := len(c.Refs)
		c.Refs = append(c.Refs, found...)
		mergeRefs(c.Refs, n)
	}
	r.addLeaps(leaps)
	r.wrappedCalls()
	slices.SortStableFunc(c.Syscalls, func(a, b Syscall) int { return cmp.Compare(a.Addr, b.Addr) })
	c.Syscalls = slices.CompactFunc(c.Syscalls, func(a, b Syscall) bool { return a.Addr == b.Addr })
	r.findPointers()
}

// mergeRefs merges refs[:n] and refs[n:], each of which is in order.
func mergeRefs(refs []Ref, n int) {
	if n == 0 || n == len(refs) || refs[n-1].Addr <= refs[n].Addr {
		return
	}
	tail := slices.Clone(refs[n:])
	i, j, k := n-1, len(tail)-1, len(refs)-1
	for ; j >= 0; k-- {
		if i >= 0 && refs[i].Addr > tail[j].Addr {
			refs[k] = refs[i]
			i--
		} else {
			refs[k] = tail[j]
			j--
		}
	}
}

// bytes returns the code at addr, to the end of its part.
func (r *reader) bytes(addr uint64) []byte {
	i := sort.Search(len(r.parts), func(i int) bool { return r.parts[i].end() > addr })
	if i == len(r.parts) || addr < r.parts[i].addr {
		return nil
	}
	return r.parts[i].bytes[addr-r.parts[i].addr:]
}
