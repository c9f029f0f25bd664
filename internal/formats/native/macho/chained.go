package macho

import (
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Pointer formats that bind (DYLD_CHAINED_PTR_* of <mach-o/fixup-chains.h>).
// The others, of kernels and their caches, only rebase.
const (
	chainARM64E           = 1
	chain64               = 2
	chain32               = 3
	chain64Offset         = 6
	chainARM64EKernel     = 7
	chainARM64EUserland   = 9
	chainARM64EFirmware   = 10
	chainARM64EUserland24 = 12
)

// A chainFormat says where in a pointer the chain goes on and what it binds.
type chainFormat struct {
	size     uint64 // bytes of a pointer
	stride   uint64 // bytes that the distance to the next pointer counts in
	next     uint   // lowest bit of that distance
	nextBits uint
	bind     uint // the bit that says whether it binds
	ordinal  uint // bits, from the lowest, of the import's number
	target   uint // bits, from the lowest, of the address of a pointer that does not bind
	fromBase bool // that counts from the load address
	signed   bool // the highest bit says whether the pointer is to be signed (authenticated)
}

var chainFormats = map[uint16]chainFormat{
	chainARM64E:           {size: 8, stride: 8, next: 51, nextBits: 11, bind: 62, ordinal: 16, target: 43, signed: true},
	chain64:               {size: 8, stride: 4, next: 51, nextBits: 12, bind: 63, ordinal: 24, target: 36},
	chain32:               {size: 4, stride: 4, next: 26, nextBits: 5, bind: 31, ordinal: 20, target: 26},
	chain64Offset:         {size: 8, stride: 4, next: 51, nextBits: 12, bind: 63, ordinal: 24, target: 36, fromBase: true},
	chainARM64EKernel:     {size: 8, stride: 4, next: 51, nextBits: 11, bind: 62, ordinal: 16, target: 43, fromBase: true, signed: true},
	chainARM64EUserland:   {size: 8, stride: 8, next: 51, nextBits: 11, bind: 62, ordinal: 16, target: 43, fromBase: true, signed: true},
	chainARM64EFirmware:   {size: 8, stride: 4, next: 51, nextBits: 11, bind: 62, ordinal: 16, target: 43, signed: true},
	chainARM64EUserland24: {size: 8, stride: 8, next: 51, nextBits: 11, bind: 62, ordinal: 24, target: 43, fromBase: true, signed: true},
}

// rebaseOnly are the formats of kernels and of the shared cache, in which no
// pointer binds: 32_CACHE, 32_FIRMWARE, 64_KERNEL_CACHE, X86_64_KERNEL_CACHE,
// ARM64E_SHARED_CACHE, ARM64E_SEGMENTED.
var rebaseOnly = map[uint16]bool{4: true, 5: true, 8: true, 11: true, 13: true, 14: true}

const (
	pageStartNone  = 0xffff
	pageStartMulti = 0x8000 // the rest is an index of several starts
	pageStartLast  = 0x8000 // of several starts, the last one
)

// chainedFixups reads struct dyld_chained_fixups_header: the imports, then in
// each page of each segment the chains of pointers that refer to them.
func (f *file) chainedFixups(m *imports) {
	c := cursor.New(f.chains, f.big)
	version, starts, importsOff, symbols := c.U32(), c.U32(), c.U32(), c.U32()
	count, format, compressed := c.U32(), c.U32(), c.U32()
	if c.Err() != nil {
		f.Notef("chained fixups: %v", c.Err())
		return
	}
	if version != 0 || compressed != 0 {
		f.Notef("chained fixups: version %d with symbols of format %d is not known", version, compressed)
		return
	}
	w := walker{f: f, m: m, left: len(f.data)/minPointer + 64, pages: len(f.chains) / 2}
	w.places = f.chainedImports(m, importsOff, symbols, count, format)

	c.Seek(uint64(starts))
	segments := c.U32()
	for i := range segments {
		off := c.U32()
		if c.Err() != nil {
			f.Notef("chained fixups: %v", c.Err())
			return
		}
		if off == 0 {
			continue
		}
		if i >= uint32(len(f.segments)) {
			f.Notef("chained fixups: starts for %d segments, there are %d", segments, len(f.segments))
			return
		}
		w.segment(&f.segments[i], uint64(starts)+uint64(off))
	}
	if w.left < 0 {
		f.Notef("chained fixups: more than the file has room for")
	}
}

// chainedImports reads the table of imports, struct dyld_chained_import (1),
// _addend (2) or _addend64 (3), and returns their places.
func (f *file) chainedImports(m *imports, off, symbols, count, format uint32) []int32 {
	var size uint64
	switch format {
	case 1:
		size = 4
	case 2:
		size = 8
	case 3:
		size = 16
	default:
		f.Notef("chained fixups: imports of format %d are not known", format)
		return nil
	}
	table, whole := cursor.Slice(f.chains, uint64(off), uint64(count)*size)
	if !whole {
		f.Notef("chained fixups: %d of %d imports are there", uint64(len(table))/size, count)
	}
	text, _ := cursor.Slice(f.chains, uint64(symbols), uint64(len(f.chains)))
	names := newNames(text)
	c := cursor.New(table, f.big)
	places := make([]int32, 0, uint64(len(table))/size)
	lost := 0
	for uint64(c.Len()) >= size {
		var ordinal int
		var weak bool
		var at uint64
		if format == 3 {
			v := c.U64()
			c.U64() // addend
			ordinal, weak, at = signed(v&0xffff, 16), v>>16&1 != 0, v>>32
		} else {
			v := c.U32()
			if format == 2 {
				c.U32() // addend
			}
			ordinal, weak, at = signed(uint64(v&0xff), 8), v>>8&1 != 0, uint64(v>>9)
		}
		name, ok := names.at(at)
		place := int32(-1)
		if ok {
			place = m.get(bare(name))
		} else {
			lost++
		}
		if place >= 0 {
			library, r := f.boundLibrary(ordinal)
			m.from(place, library, r, weak)
		}
		places = append(places, place)
	}
	if lost > 0 {
		f.Notef("chained fixups: %d of %d imports have no name", lost, len(places))
	}
	return places
}

// signed gives a library ordinal its sign: the highest 15 values of its width
// are the special, negative ones.
func signed(v uint64, bits uint) int {
	if v > 1<<bits-16 {
		return int(v) - 1<<bits
	}
	return int(v)
}

// A walker follows chains of fixups.
type walker struct {
	f      *file
	m      *imports
	places []int32 // by number of the import
	format chainFormat
	left   int // pointers; there cannot be more than the file has room for
	pages  int // starts of pages; there cannot be more than the fixups have room for
}

// segment reads struct dyld_chained_starts_in_segment at off in the fixups.
func (w *walker) segment(seg *image.Segment, off uint64) {
	c := cursor.New(w.f.chains, w.f.big).Seek(off)
	c.U32() // size
	pageSize, format := uint64(c.U16()), c.U16()
	c.U64() // segment_offset
	c.U32() // max_valid_pointer
	pages := c.U16()
	table := c.Offset()
	var known bool
	w.format, known = chainFormats[format]
	switch {
	case c.Err() != nil:
		w.f.Notef("chained fixups of segment %s: %v", seg.Name, c.Err())
		return
	case rebaseOnly[format]:
		return
	case !known || pageSize == 0:
		w.f.Notef("chained fixups of segment %s: pointer format %d with pages of %d bytes is not known", seg.Name, format, pageSize)
		return
	}
	for i := range pages {
		start := c.U16()
		if w.pages--; c.Err() != nil || w.pages < 0 {
			w.f.Notef("chained fixups of segment %s: %d of %d pages are there", seg.Name, i, pages)
			return
		}
		page := uint64(i) * pageSize
		switch {
		case start == pageStartNone:
		case start&pageStartMulti == 0:
			w.chain(seg, page+uint64(start), page+pageSize)
		default:
			more := cursor.New(w.f.chains, w.f.big).Seek(uint64(table) + 2*uint64(start&^pageStartMulti))
			for w.left >= 0 {
				v := more.U16()
				if more.Err() != nil {
					w.f.Notef("chained fixups of segment %s: %v", seg.Name, more.Err())
					break
				}
				w.chain(seg, page+uint64(v&^pageStartLast), page+pageSize)
				if v&pageStartLast != 0 {
					break
				}
			}
		}
		if w.left < 0 {
			return
		}
	}
}

// chain follows one chain from off in its segment, to at most end.
func (w *walker) chain(seg *image.Segment, off, end uint64) {
	data := w.f.fileBytes(seg)
	end = min(end, uint64(len(data)))
	for {
		if w.left--; w.left < 0 || off >= end || uint64(len(data))-off < w.format.size {
			return
		}
		v := cursor.New(data, w.f.big).Seek(off).Word(w.format.size == 8)
		if v>>w.format.bind&1 != 0 {
			n := v & (1<<w.format.ordinal - 1)
			if n < uint64(len(w.places)) && w.places[n] >= 0 {
				w.m.bind(w.places[n], seg.Addr+off)
			}
		} else {
			w.f.point(seg.Addr+off, w.rebased(v))
		}
		next := v >> w.format.next & (1<<w.format.nextBits - 1)
		if next == 0 {
			return
		}
		off += next * w.format.stride
	}
}
