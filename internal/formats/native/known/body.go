package known

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"

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
		if s.advance(math.MaxInt) == broken {
			return 0, 0
		}
	}
	if len(code) > most || len(s.body) < least {
		return 0, 0
	}
	return keyOf(s.body), len(s.body)
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
	ends  []int // of the body, where a function of unknown size may end
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

// keyOf is the key of a body.
func keyOf(body []byte) Key {
	sum := sha256.Sum256(body)
	return Key(begin(body))<<wholeBits | Key(binary.BigEndian.Uint32(sum[:]))
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
	x := newCutter(c.Image)
	for i := range c.Functions {
		if l := s.find(t, x.cut(c.Functions, i)); l != Own {
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
	out := make([]Extent, len(functions))
	x := newCutter(m)
	for i := range functions {
		out[i] = x.cut(functions, i)
	}
	return out
}

// A cutter cuts code into functions, one after the other.
type cutter struct {
	m    *image.Image
	ends []uint64 // of sections, those behind the last function
}

func newCutter(m *image.Image) *cutter { return &cutter{m, sectionEnds(m)} }

// cut returns the extent of function i.
func (x *cutter) cut(functions []image.Function, i int) Extent {
	f := &functions[i]
	b := x.m.At(f.Addr)
	size := uint64(len(b))
	if i+1 < len(functions) {
		size = min(size, functions[i+1].Addr-f.Addr)
	}
	if f.Size > 0 {
		size = min(size, f.Size)
	}
	for len(x.ends) > 0 && x.ends[0] <= f.Addr {
		x.ends = x.ends[1:]
	}
	if len(x.ends) > 0 {
		size = min(size, x.ends[0]-f.Addr)
	}
	return Extent{f.Addr, b[:size], f.Size > 0}
}

func sectionEnds(m *image.Image) []uint64 {
	var out []uint64
	for i := range m.Sections {
		if s := &m.Sections[i]; s.Code && s.Addr != 0 {
			out = append(out, s.Addr+s.Size)
		}
	}
	slices.Sort(out)
	return out
}

// SlotNames names the slots of a linked binary for Windows. Elsewhere the same
// call of a library may or may not go through a slot, as its linker liked.
func SlotNames(m *image.Image) Slots {
	if m.Format != image.PE {
		return nil
	}
	at := make(map[uint64]string, len(m.Imports))
	first, last := ^uint64(0), uint64(0)
	for i := range m.Imports {
		if imp := &m.Imports[i]; imp.Slot != 0 {
			at[imp.Slot] = imp.Name
			first, last = min(first, imp.Slot), max(last, imp.Slot)
		}
	}
	return func(_ int, addr uint64) string {
		if addr < first || addr > last {
			return ""
		}
		return at[addr]
	}
}

// find looks a function up. Few functions begin as known ones do, so most are
// read no further than their beginning.
func (s *stream) find(t *bodyTable, e Extent) Library {
	if len(e.Code) < least && (s.arch != image.AArch64 || s.slots == nil) {
		return Own // only there a body can be longer than the code, by the names of imports
	}
	s.addr, s.code, s.at, s.body, s.steps = e.Addr, e.Code[:min(len(e.Code), most)], 0, s.body[:0], 0
	clear(s.pages[:])
	s.ends = s.ends[:0]
	enough, whole := opening, true
	for s.at < len(s.code) {
		f := s.advance(enough)
		if f == broken {
			whole = false
			break
		}
		if len(s.body) >= enough {
			if enough = math.MaxInt; !t.begins(begin(s.body)) {
				whole = false
				break
			}
		}
		if !e.Sized && (f == stop || f == padding) && len(s.body) >= least && len(s.ends) < maxEnds {
			s.ends = append(s.ends, len(s.body))
		}
	}
	if whole && len(e.Code) <= most && len(s.body) >= least {
		if l := t.library(s.body); l != Own {
			return l
		}
	}
	for i, n := range s.ends {
		if i == 0 || n != s.ends[i-1] {
			if l := t.library(s.body[:n]); l != Own {
				return l
			}
		}
	}
	return Own
}
