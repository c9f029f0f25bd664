package golang

import (
	"encoding/binary"
	"iter"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// textStart returns the address that a relative table counts from, and whether
// it fits the code. Until Go 1.25 the header has it, unless the loader was to
// fill it in; a symbol, the entry point, the runtime's module data and the code
// section are the other places to learn it from, none of which every binary
// has. So each is tried on the code: at the true start, many functions open
// with the same instruction, which tests for room on the stack.
func (t *table) textStart(m *image.Image, list []Function) (uint64, bool) {
	const enough = 0.2 // true starts reach 0.4 and more, wrong ones stay below 0.1
	best, bestShare := uint64(0), -1.0
	tried := make(map[uint64]bool)
	for start := range t.textStarts(m, list) {
		if tried[start] || len(tried) > 32 {
			continue
		}
		tried[start] = true
		share := sameOpening(m, list, start)
		if share > bestShare {
			best, bestShare = start, share
		}
		if share >= enough {
			break
		}
	}
	return best, bestShare >= enough
}

// textStarts yields what may be the start of text, the likeliest first.
func (t *table) textStarts(m *image.Image, list []Function) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if t.text != 0 && !yield(t.text) {
			return
		}
		for _, s := range m.Symbols {
			if s.Name == "runtime.text" && !yield(s.Addr) {
				return
			}
		}
		for _, f := range list {
			// cmd/link enters at _rt0_GOARCH_GOOS unless C code was linked in.
			if strings.HasPrefix(f.Name, "_rt0_") && m.Entry >= f.Addr && !yield(m.Entry-f.Addr) {
				return
			}
		}
		for start := range t.moduleTexts(m) {
			if !yield(start) {
				return
			}
		}
		for _, s := range m.Sections {
			if (s.Name == ".text" || s.Name == "__TEXT,__text") && !yield(s.Addr) {
				return
			}
		}
		for _, s := range m.Segments {
			if s.Access&image.Execute != 0 && !yield(s.Addr) {
				return
			}
		}
	}
}

// sameOpening returns how large a share of functions begins with the most
// common four bytes, among at most a thousand of them.
func sameOpening(m *image.Image, list []Function, start uint64) float64 {
	const sample = 1000
	step := max(len(list)/sample, 1)
	seen := make(map[uint32]int)
	most, total := 0, 0
	for i := 0; i < len(list); i += step {
		total++
		code := m.At(start + list[i].Addr)
		if len(code) < 4 {
			continue
		}
		word := binary.LittleEndian.Uint32(code)
		if word == 0 || word == 0xcccccccc { // padding
			continue
		}
		seen[word]++
		most = max(most, seen[word])
	}
	if total < 8 { // too few to tell
		return 0
	}
	return float64(most) / float64(total)
}

// moduleTexts yields the text field of what looks like the runtime's module
// data (runtime.moduledata): it opens with the address of the function table.
// The address is in the data itself, or in a relocation with addend (ELF RELA),
// or behind a chained fixup of Mach-O, which keeps it in the low bits.
func (t *table) moduleTexts(m *image.Image) iter.Seq[uint64] {
	const textField = 22 // words: one pointer, six slices, three addresses
	word := uint64(4)
	if t.wide {
		word = 8
	}
	return func(yield func(uint64) bool) {
		if t.Addr == 0 {
			return
		}
		places := make(map[uint64]bool)
		for place, addend := range relativeAddends(m) {
			if addend == t.Addr && len(places) < maxAttempts {
				places[place] = true
			}
		}
		if len(places) > 0 {
			for place, text := range relativeAddends(m) {
				if places[place-textField*word] && !yield(text) {
					return
				}
			}
		}
		want := make([]byte, 4) // the low half is enough to find it, and all of it on 32 bits
		offset := uint64(0)
		if t.big && t.wide {
			offset = 4
		}
		order(t.big).PutUint32(want, uint32(t.Addr))
		attempts := 0
		for region := range dataRegions(m) {
			for at := 0; attempts < maxAttempts; {
				i := cursor.Index(region[at:], want)
				if i < 0 {
					break
				}
				place := uint64(at + i)
				at += i + 1
				if place < offset || (place-offset)%4 != 0 {
					continue
				}
				attempts++
				c := cursor.New(region, t.big).Seek(place - offset)
				if c.Word(t.wide)&fixupTarget != t.Addr&fixupTarget {
					continue
				}
				text := c.Seek(place-offset+textField*word).Word(t.wide)&fixupTarget | t.Addr&^fixupTarget
				if c.Err() == nil && !yield(text) {
					return
				}
			}
		}
	}
}

// fixupTarget are the bits of a pointer that a chained fixup leaves in place
// (DYLD_CHAINED_PTR_64: 36 bits of target).
const fixupTarget = 1<<36 - 1

// relativeAddends yields place and addend of the entries of an ELF file's RELA
// sections, for 64-bit machines.
func relativeAddends(m *image.Image) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		if m.Format != image.ELF || m.Bits != 64 {
			return
		}
		left := len(m.Data) // a hostile section table may name the same bytes again and again
		for i := range m.Sections {
			if !strings.HasPrefix(m.Sections[i].Name, ".rela") {
				continue
			}
			b := m.Bytes(&m.Sections[i])
			if left -= len(b); left < 0 {
				return
			}
			for ; len(b) >= 24; b = b[24:] {
				if !yield(order(m.BigEndian).Uint64(b), order(m.BigEndian).Uint64(b[16:])) {
					return
				}
			}
		}
	}
}

func order(big bool) binary.ByteOrder {
	if big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}
