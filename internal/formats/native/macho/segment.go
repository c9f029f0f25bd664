package macho

import (
	"bytes"
	"cmp"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Types of sections, the low byte of their flags, and attributes.
const (
	sectionType         = 0xff
	sectionZeroFill     = 0x1
	sectionPointers     = 0x6 // S_NON_LAZY_SYMBOL_POINTERS
	sectionLazy         = 0x7
	sectionStubs        = 0x8
	sectionInit         = 0x9 // S_MOD_INIT_FUNC_POINTERS
	sectionHugeZeroFill = 0xc
	sectionLazyDylib    = 0x10
	sectionThreadZero   = 0x12
	sectionThreadPtrs   = 0x14
	sectionInitOffsets  = 0x16 // S_INIT_FUNC_OFFSETS

	attrCode     = 0x8000_0000 // S_ATTR_PURE_INSTRUCTIONS
	attrSomeCode = 0x400       // S_ATTR_SOME_INSTRUCTIONS
)

// A section is what symbols need to know of one.
type section struct {
	addr, size           uint64
	kind                 uint32 // type, without attributes
	reserved1, reserved2 uint32
	code                 bool
}

func (s *section) holds(addr uint64) bool { return addr-s.addr < s.size }

// segment reads the rest of struct segment_command or segment_command_64 and
// the sections behind it.
func (f *file) segment(c *cursor.Cursor, wide bool) {
	name := fixedString(c.Bytes(16))
	s := image.Segment{Name: name, Addr: c.Word(wide), Size: c.Word(wide), Offset: c.Word(wide), FileSize: c.Word(wide)}
	c.U32() // maxprot
	s.Access = image.Access(c.U32() & 7)
	count := c.U32()
	c.U32() // flags
	if c.Err() != nil {
		return
	}
	f.reach("segment "+name, s.Offset, s.FileSize)
	f.segments = append(f.segments, s)
	if s.Size > 0 || s.FileSize > 0 {
		f.Segments = append(f.Segments, s)
	}
	for range count {
		f.section(c, &s, wide)
		if c.Err() != nil {
			return
		}
	}
}

// section reads struct section or section_64.
func (f *file) section(c *cursor.Cursor, seg *image.Segment, wide bool) {
	name, segment := fixedString(c.Bytes(16)), fixedString(c.Bytes(16))
	s := image.Section{Addr: c.Word(wide), Size: c.Word(wide), Offset: uint64(c.U32()), Access: seg.Access}
	c.U32() // align
	relocs, relocCount := c.U32(), c.U32()
	flags := c.U32()
	r1, r2 := c.U32(), c.U32()
	if wide {
		c.U32() // reserved3
	}
	if c.Err() != nil {
		return
	}
	s.Name = segment + "," + name
	s.Code = flags&(attrCode|attrSomeCode) != 0
	s.FileSize = s.Size
	switch kind := flags & sectionType; {
	case kind == sectionZeroFill, kind == sectionHugeZeroFill, kind == sectionThreadZero,
		seg.FileSize == 0: // as in a file of debug symbols, which keeps the headers alone
		s.Offset, s.FileSize = 0, 0
	}
	f.reach("section "+s.Name, s.Offset, s.FileSize)
	f.reach("relocations", uint64(relocs), uint64(relocCount)*8)
	f.Sections = append(f.Sections, s)
	f.sections = append(f.sections, section{
		addr: s.Addr, size: s.Size, kind: flags & sectionType, reserved1: r1, reserved2: r2, code: s.Code,
	})
}

// fixedString returns a name of a fixed field, filled up with zeros.
func fixedString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// base sets the load address: where the header itself is mapped, which most
// offsets of load commands count from.
func (f *file) base() {
	if f.kind == typeObject {
		return
	}
	for _, s := range f.segments {
		if s.Name == "__TEXT" || s.Offset == 0 && s.FileSize > 0 {
			f.Base = s.Addr
			return
		}
	}
}

// ranges are sections of one sort, for finding the one that holds an address.
type ranges []section

// pick returns the sections for which keep is true, by address.
func (f *file) pick(keep func(s *section) bool) ranges {
	var r ranges
	for i := range f.sections {
		if s := &f.sections[i]; s.size > 0 && keep(s) {
			r = append(r, *s)
		}
	}
	slices.SortStableFunc(r, func(a, b section) int { return cmp.Compare(a.addr, b.addr) })
	return r
}

func (r ranges) find(addr uint64) *section {
	i := sort.Search(len(r), func(i int) bool { return r[i].addr > addr }) - 1
	if i < 0 || !r[i].holds(addr) {
		return nil
	}
	return &r[i]
}

// fileBytes returns what of a segment is in the file.
func (f *file) fileBytes(s *image.Segment) []byte {
	b, _ := cursor.Slice(f.data, s.Offset, s.FileSize)
	return b
}
