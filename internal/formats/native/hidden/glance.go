package hidden

import (
	"encoding/binary"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A glance is what the instructions of one function show without being carried
// out.
type glance struct {
	grams *grams
	m     *image.Image

	// Where the last instruction stands that reads bytes, that writes some, and
	// that combines some; -1 for none.
	reads, writes, combines int

	outcomes int // bytes in a row that were written behind something that combines

	values [32]uint32 // AArch64: constants in registers
	known  uint32     // which ones
	pages  [32]uint64 // and addresses of pages
	paged  uint32

	run    [8]byte // constants that were written one behind the other
	filled int
	last   int // where the last of them stands
	bytes  int // of different constants that came in a row

	found evidence
}

// Evidence is what speaks for carrying out a function.
type evidence uint8

const (
	decodes   evidence = 1 << iota // it reads, combines and writes bytes, in a loop or many in a row
	resemble                       // it has constants that may be part of a word, under a key of one byte or none
	constants                      // it has constants that may be an encoded text
	encoded                        // it names data that may be one
	looked                         // it was looked at
)

// look goes through a function.
func (g *glance) look(b []byte, at uint64) evidence {
	g.reads, g.writes, g.combines, g.known, g.filled, g.bytes, g.found = -1, -1, -1, 0, 0, 0, 0
	g.outcomes, g.paged, g.last = 0, 0, 0
	switch g.m.Arch {
	case image.AArch64:
		g.arm64(b, at)
	case image.X86:
		g.x86(b, at, 32)
	default:
		g.x86(b, at, 64)
	}
	return g.found
}

// jump looks at a branch from one offset to another: those back are loops.
func (g *glance) jump(from, to int) {
	if to < 0 || to >= from || from-to > maxLoop {
		return
	}
	if g.reads >= to && g.writes >= to && g.combines >= to {
		g.found |= decodes
	}
}

// wrote looks at an instruction that writes bytes. Compilers unroll loops whose
// ends they know, so that many in a row tell the same.
func (g *glance) wrote(at, n int) {
	if g.combines > g.writes && g.reads > g.writes {
		if g.outcomes += n; g.outcomes >= fewBytes {
			g.found |= decodes
		}
	} else if g.combines < g.writes {
		g.outcomes = 0
	}
	g.writes = at
}

// Limits of constants.
const (
	nearBytes = 24 // of code between constants of one text
	fewBytes  = 6  // constants of one byte in a row that may be a text
)

// constant looks at one that is written, or put into a register.
func (g *glance) constant(at int, b []byte) {
	if at-g.last > nearBytes {
		g.filled, g.bytes = 0, 0
	}
	g.last = at
	switch {
	case len(b) == 1 && b[0] != 0 && (g.filled == 0 || b[0] != g.run[g.filled-1]):
		g.bytes++
	case len(b) > 1 && len(b) < 8 && !slices.Contains(b, 0) && distinct(string(b)) == len(b):
		g.bytes += len(b)
	}
	if g.bytes >= fewBytes {
		g.found |= constants
	}
	if len(b) > len(g.run)-g.filled {
		n := copy(g.run[:], g.run[max(0, g.filled-3):g.filled])
		g.filled = n
	}
	if len(b) == 8 {
		g.filled = 0
	}
	from := max(0, g.filled-3)
	g.filled += copy(g.run[g.filled:], b)
	g.text(g.run[from:g.filled], len(b) == 8)
}

// text looks at constants that may be part of a text.
func (g *glance) text(b []byte, whole bool) {
	if whole && texty(b) {
		g.found |= constants
	}
	streak := 0
	for i := 0; i+4 <= len(b); i++ {
		v := binary.LittleEndian.Uint32(b[i:])
		if !g.grams.has(v) {
			streak = 0
			continue
		}
		if streak++; streak == 2 || len(b) < 5 {
			g.found |= resemble | constants
		}
	}
}

// loaded looks at data that is loaded at once.
func (g *glance) loaded(addr uint64, size int) {
	if b := g.m.At(addr); len(b) >= size {
		g.text(b[:size], false)
	}
}

// grams tells whether four bytes may be part of a word, whatever one byte all
// of them were combined with by exclusive or.
type grams [1 << 20 / 64]uint64

func (s *grams) at(v uint32) uint32 {
	return (v ^ v>>8) & 0xff_ffff * 2654435761 >> 12
}

func (s *grams) add(word string) {
	for i := range len(word) - 3 {
		h := s.at(binary.LittleEndian.Uint32([]byte(word[i : i+4])))
		s[h>>6] |= 1 << (h & 63)
	}
}

func (s *grams) has(v uint32) bool {
	h := s.at(v)
	return s[h>>6]>>(h&63)&1 != 0
}
