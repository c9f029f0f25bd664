package code

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// maxPointers bounds the pointers that are found without relocations.
const maxPointers = 1 << 20

// findPointers fills Pointers for a binary that is linked for a fixed place and
// has no relocations: aligned words of its data that hold the start of a
// function or the address of data. Since numbers of 32 bits are soon such an
// address, that has to be one that code names, or the start of a text.
func (r *reader) findPointers() {
	m := r.c.Image
	lo := r.targets.memory.lo
	switch {
	case m.Format == image.Wasm || len(r.parts) == 0 || lo < 0x1000: // linked for no place in particular
		return
	case m.Format == image.ELF: // relocations of one that is linked for a place are those of its IFUNCs
	case len(m.Pointers) > 0:
		return
	}
	word := uint64(m.Bits / 8)
	if word != 4 && word != 8 {
		return
	}
	var order binary.ByteOrder = binary.LittleEndian
	if m.BigEndian {
		order = binary.BigEndian
	}
	size := r.targets.memory.hi - lo
	named := r.namedData(lo, size)
	found := slices.Clone(m.Pointers)
	left := uint64(len(m.Data))
	for _, s := range r.targets.memory.spans {
		if s.kind != mappedData {
			continue
		}
		skip := -s.lo % word
		b := m.At(s.lo + skip)
		b = b[:min(uint64(len(b)), s.hi-s.lo-min(skip, s.hi-s.lo), left)]
		left -= uint64(len(b))
		at := s.lo + skip
		for ; uint64(len(b)) >= word; b, at = b[word:], at+word {
			var v uint64
			if word == 8 {
				v = order.Uint64(b)
			} else {
				v = uint64(order.Uint32(b))
			}
			if v-lo >= size {
				continue
			}
			if m.Arch == image.ARM && r.targets.function(v&^1) {
				v &^= 1 // of Thumb code
			}
			if _, begins := r.c.start(v); !begins && !r.targets.function(v) && !(r.targets.data(v) && (word == 8 || r.named(named, v-lo) || r.startsText(v))) {
				continue
			}
			if len(found) == maxPointers {
				r.c.Partial = true
				break
			}
			found = append(found, image.Pointer{At: at, To: v})
		}
	}
	slices.SortStableFunc(found, func(a, b image.Pointer) int { return cmp.Compare(a.At, b.At) })
	r.c.Pointers = slices.CompactFunc(found, func(a, b image.Pointer) bool { return a.At == b.At })
}

// namedData returns a bitmap of the addresses of data that code names, from lo
// on; none if that would be far more than the file.
func (r *reader) namedData(lo, size uint64) []uint64 {
	if size/32 > uint64(len(r.c.Image.Data)) {
		return nil
	}
	named := make([]uint64, size/64+1)
	for i := range r.c.Refs {
		if ref := &r.c.Refs[i]; ref.Kind == Data && ref.Target-lo < size {
			off := ref.Target - lo
			named[off/64] |= 1 << (off % 64)
		}
	}
	return named
}

func (r *reader) named(bitmap []uint64, off uint64) bool {
	return off/64 < uint64(len(bitmap)) && bitmap[off/64]>>(off%64)&1 != 0
}

// startsText reports whether a zero-terminated text starts at addr.
func (r *reader) startsText(addr uint64) bool {
	const short = 4
	b := r.c.Image.At(addr - 1)
	if len(b) < 1+short || b[0] != 0 {
		return false
	}
	for _, c := range b[1 : 1+short] {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return true
}
