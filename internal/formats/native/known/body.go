package known

import (
	"crypto/sha256"
	"encoding/binary"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Key stands for the body of a function: what of its instructions no linker
// changes. 56 bits: 24 of how it begins, 32 of all of it.
type Key uint64

const (
	keyBits   = 56
	wholeBits = 32

	least   = 32       // bytes of a body: shorter ones are like others by chance
	opening = 48       // bytes of a body by which it is looked up first: more than what functions begin with to save registers
	most    = 64 << 10 // bytes of a function that are looked at
	maxEnds = 24       // places where a function of unknown size may end
)

// Slots names the import whose pointer an instruction uses, or nothing. The
// operand that says so is at that offset in the function; addr is what it says,
// which in an object means nothing yet.
type Slots func(offset int, addr uint64) string

// KeyOf returns the key of the function whose code is given, up to its end or to
// padding behind it, and how many bytes the key stands for. They are none if
// the function cannot be told by its body: it is too short or too long, or not
// made of instructions alone.
func KeyOf(arch image.Arch, addr uint64, code []byte, slots Slots) (Key, int) {
	s := stream{arch: arch, addr: addr, code: code[:min(len(code), most)], slots: slots}
	for s.at < len(s.code) {
		if s.step() == broken {
			return 0, 0
		}
	}
	if len(code) > most || len(s.body) < least {
		return 0, 0
	}
	return s.key(len(s.body)), len(s.body)
}

// A flow says how control goes on behind an instruction.
type flow uint8

const (
	on flow = iota
	stop
	padding
	broken // not an instruction
)

// A stream is the reading of one function.
type stream struct {
	arch  image.Arch
	addr  uint64
	code  []byte
	slots Slots

	at    int // in code
	body  []byte
	steps int
	pages [32]pageRef // by register; AArch64
	x86   x86         // the instruction at hand
}

func (s *stream) step() flow {
	switch s.arch {
	case image.X86_64:
		return s.stepX86(true)
	case image.X86:
		return s.stepX86(false)
	case image.AArch64:
		return s.stepARM64()
	}
	return broken
}

// name puts the name of an import into the body.
func (s *stream) name(name string) {
	if name == "" {
		return
	}
	sum := sha256.Sum256([]byte(name))
	s.body = append(append(s.body, markSlot), sum[:3]...)
}

// key is that of the first n bytes of the body.
func (s *stream) key(n int) Key {
	sum := sha256.Sum256(s.body[:n])
	return Key(begin(s.body[:n]))<<wholeBits | Key(binary.BigEndian.Uint32(sum[:]))
}

// begin returns 24 bits of how a body begins.
func begin(body []byte) uint32 {
	const odd = 0x9e3779b97f4a7c15
	body = body[:min(len(body), opening)]
	h := uint64(len(body))
	for ; len(body) >= 8; body = body[8:] {
		h = (h ^ binary.LittleEndian.Uint64(body)) * odd
		h ^= h >> 29
	}
	for _, c := range body {
		h = (h ^ uint64(c)) * odd
	}
	return uint32(h >> (64 - (keyBits - wholeBits)))
}

// byBody marks the functions whose bodies are known.
func byBody(c *code.Code, marks []Mark) {
	t := bodies(c.Image.Arch)
	if t == nil {
		return
	}
	slots := SlotNames(c.Image)
	s := stream{arch: c.Image.Arch, slots: slots}
	for i, e := range Extents(c.Image, c.Functions) {
		if l := s.find(t, e); l != "" {
			marks[i] = Mark{l, Body}
		}
	}
}

// An Extent is where the code of a function may lie.
type Extent struct {
	Addr  uint64
	Code  []byte
	Sized bool // it ends there, not only at most there
}

// Extents returns the bytes of functions, which are sorted by address. One whose
// size is not known goes on to the next, or to the end of its section.
func Extents(m *image.Image, functions []image.Function) []Extent {
	ends := sectionEnds(m)
	out := make([]Extent, 0, len(functions))
	for i := range functions {
		f := &functions[i]
		b := m.At(f.Addr)
		size := uint64(len(b))
		if i+1 < len(functions) {
			size = min(size, functions[i+1].Addr-f.Addr)
		}
		if f.Size > 0 {
			size = min(size, f.Size)
		}
		if k := sort.Search(len(ends), func(k int) bool { return ends[k] > f.Addr }); k < len(ends) {
			size = min(size, ends[k]-f.Addr)
		}
		out = append(out, Extent{f.Addr, b[:size], f.Size > 0})
	}
	return out
}

func sectionEnds(m *image.Image) []uint64 {
	var out []uint64
	for i := range m.Sections {
		if s := &m.Sections[i]; s.Code && s.Addr != 0 {
			out = append(out, s.Addr+s.Size)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// SlotNames names the slots of a linked binary for Windows. Elsewhere the same
// call of a library may or may not go through a slot, as its linker liked.
func SlotNames(m *image.Image) Slots {
	if m.Format != image.PE {
		return nil
	}
	at := make(map[uint64]string, len(m.Imports))
	for i := range m.Imports {
		if imp := &m.Imports[i]; imp.Slot != 0 {
			at[imp.Slot] = imp.Name
		}
	}
	return func(_ int, addr uint64) string { return at[addr] }
}

// find looks a function up. Few functions begin as known ones do, so most are
// read no further than their beginning.
func (s *stream) find(t *bodyTable, e Extent) Library {
	s.addr, s.code, s.at, s.body, s.steps = e.Addr, e.Code[:min(len(e.Code), most)], 0, s.body[:0], 0
	clear(s.pages[:])
	var ends []int // of the body, where a function of unknown size may end
	checked, whole := false, true
	for s.at < len(s.code) {
		n := len(s.body)
		f := s.step()
		if f == broken {
			whole = false
			break
		}
		if !checked && len(s.body) >= opening {
			if checked = true; !t.begins(begin(s.body)) {
				whole = false
				break
			}
		}
		if !e.Sized && len(s.body) >= least && (f == stop || f == padding && n >= least) && len(ends) < maxEnds {
			ends = append(ends, len(s.body))
		}
	}
	if whole && len(e.Code) <= most && len(s.body) >= least {
		if l := t.library(s.key(len(s.body))); l != "" {
			return l
		}
	}
	for i, n := range ends {
		if i == 0 || n != ends[i-1] {
			if l := t.library(s.key(n)); l != "" {
				return l
			}
		}
	}
	return ""
}
