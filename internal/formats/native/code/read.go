package code

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Read reads the code of an image.
func Read(m *image.Image) *Code {
	c := &Code{Image: m, Functions: m.Functions.List, Pointers: m.Pointers}
	scan := scans[m.Arch]
	if scan == nil {
		return c
	}
	c.Read = true
	r := &reader{c: c, targets: newTargets(m)}
	for _, p := range codeParts(m) {
		scan(r, p.addr, p.bytes)
	}
	slices.SortStableFunc(c.Refs, func(a, b Ref) int { return cmp.Compare(a.Addr, b.Addr) })
	return c
}

// scans are the instruction sets that are read. A scan looks through the bytes
// of one run of code, which are mapped at addr, and calls the reader's add and
// syscall for what it finds, in ascending order.
var scans = map[image.Arch]func(r *reader, addr uint64, code []byte){}

// A part is a run of code.
type part struct {
	addr  uint64
	bytes []byte
}

// codeParts returns the sections that hold instructions, or the executable
// segments of a file without sections.
func codeParts(m *image.Image) []part {
	var out []part
	for i := range m.Sections {
		if s := &m.Sections[i]; s.Code && s.Addr != 0 {
			if b := m.Bytes(s); len(b) > 0 {
				out = append(out, part{s.Addr, b})
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, s := range m.Segments {
		if s.Access&image.Execute != 0 {
			if b := m.At(s.Addr); len(b) > 0 {
				out = append(out, part{s.Addr, b})
			}
		}
	}
	return out
}

// reader collects what the scan of one image finds.
type reader struct {
	c       *Code
	targets *targets
}

// add records a reference. What the target is, the scan has asked targets.
func (r *reader) add(ref Ref) { r.c.Refs = append(r.c.Refs, ref) }

// syscall records a system call; number is -1 if it is not known.
func (r *reader) syscall(addr uint64, number int) {
	r.c.Syscalls = append(r.c.Syscalls, Syscall{Addr: addr, Number: number})
}

// targets answers what lies at an address.
type targets struct {
	image   *image.Image
	starts  map[uint64]bool
	imports map[uint64]int32 // slots and stubs
}

func newTargets(m *image.Image) *targets {
	t := &targets{image: m, starts: make(map[uint64]bool, len(m.Functions.List)), imports: map[uint64]int32{}}
	for _, f := range m.Functions.List {
		t.starts[f.Addr] = true
	}
	for i := range m.Imports {
		imp := &m.Imports[i]
		for _, at := range append([]uint64{imp.Slot, imp.Stub}, imp.MoreSlots...) {
			if at != 0 {
				t.imports[at] = int32(i)
			}
		}
	}
	return t
}

// function reports whether a function starts at addr.
func (t *targets) function(addr uint64) bool { return t.starts[addr] }

// imported returns the import whose slot or stub is at addr.
func (t *targets) imported(addr uint64) (int32, bool) {
	i, ok := t.imports[addr]
	return i, ok
}

// data reports whether addr is mapped and holds no instructions.
func (t *targets) data(addr uint64) bool {
	for _, s := range t.image.Segments {
		if addr >= s.Addr && addr-s.Addr < max(s.Size, s.FileSize) {
			return s.Access&image.Execute == 0
		}
	}
	return false
}
