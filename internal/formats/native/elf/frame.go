package elf

import (
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Pointer encodings (Linux Standard Base Core, "DWARF Extensions": DWARF
// Exception Header Encoding).
const (
	encAbs      = 0x00
	encUleb     = 0x01
	encUdata2   = 0x02
	encUdata4   = 0x03
	encUdata8   = 0x04
	encSleb     = 0x09
	encSdata2   = 0x0a
	encSdata4   = 0x0b
	encSdata8   = 0x0c
	encPCRel    = 0x10
	encTextRel  = 0x20
	encDataRel  = 0x30
	encAligned  = 0x50
	encIndirect = 0x80
	encOmit     = 0xff
)

// frames are the call frame descriptions of a file: one for each function that
// an exception or a debugger may have to walk out of (Linux Standard Base Core,
// "Exception Frames").
type frames struct {
	f    *file
	data []byte // .eh_frame, or the segment around it
	addr uint64 // of data
	cies map[int]cie
	last int // of cies: where the one that was used last stands; 0 for none
	info cie // that one
	list []image.Function
}

// A cie is what a common information entry says about its descriptions.
type cie struct {
	encoding uint8
	ok       bool
}

// readFrames returns the functions with frame descriptions, by address. The
// section holds them all; without it the segment of the search table leads to
// them.
func (f *file) readFrames() []image.Function {
	s := f.section(func(s *sect) bool { return s.name == ".eh_frame" && s.typ != sectNobits })
	if b := f.sectionBytes(s); len(b) > 0 && f.typ != typeRel {
		fr := frames{f: f, data: b, addr: s.addr, cies: map[int]cie{}}
		fr.walk(0, false)
		if len(fr.list) > 0 {
			return fr.list
		}
	}
	if p := f.program(progEhFrame); p != nil && !f.debugOnly {
		return f.searchFrames(p)
	}
	return nil
}

// searchFrames reads the search table of the frame descriptions (Linux
// Standard Base Core, "Exception Frame Header").
func (f *file) searchFrames(p *prog) []image.Function {
	table := f.m.At(p.vaddr)
	table = table[:min(uint64(len(table)), p.memsz)]
	c := f.cursor(table)
	version, frameEnc, countEnc, tableEnc := c.U8(), c.U8(), c.U8(), c.U8()
	if c.Err() != nil || version != 1 {
		f.m.Notef("frame search table: version %d", version)
		return nil
	}
	start, ok := f.pointer(c, frameEnc, p.vaddr, p.vaddr)
	if !ok {
		f.m.Notef("frame search table: no address of the frames")
		return nil
	}
	i := len(f.m.Segments) - 1
	for i >= 0 && f.m.Segments[i].Addr > start {
		i--
	}
	if i < 0 || len(f.m.At(start)) == 0 {
		f.m.Notef("frame search table: frames at %#x are not in the file", start)
		return nil
	}
	base := f.m.Segments[i].Addr
	fr := frames{f: f, data: f.m.At(base), addr: base, cies: map[int]cie{}}
	count, ok := f.pointer(c, countEnc, p.vaddr, p.vaddr)
	if !ok || tableEnc == encOmit {
		fr.walk(int(start-base), true)
		return fr.list
	}
	for ; count > 0; count-- {
		f.pointer(c, tableEnc, p.vaddr, p.vaddr)
		at, ok := f.pointer(c, tableEnc, p.vaddr, p.vaddr)
		if !ok {
			f.m.Notef("frame search table: %d entries are missing", count)
			break
		}
		if at -= base; at < uint64(len(fr.data)) {
			fr.entry(int(at))
		}
	}
	return fr.list
}

// walk reads one entry behind the other. A zero length ends what one object
// file brought; only where nothing else tells the end it ends all.
func (fr *frames) walk(off int, stop bool) {
	for off < len(fr.data) {
		next, ok := fr.entry(off)
		if next == off+4 && stop {
			return
		}
		if !ok {
			fr.f.m.Notef("frames: entry at address %#x is cut off", fr.addr+uint64(off))
			return
		}
		off = next
	}
}

// entry reads the entry at an offset and returns the offset behind it, and
// whether there is an entry.
func (fr *frames) entry(off int) (next int, ok bool) {
	c, length := fr.open(off)
	if length == 0 {
		return c.Offset(), c.Err() == nil
	}
	body := c.Offset()
	if c.Err() != nil || length > uint64(c.Len()) {
		return 0, false
	}
	next = body + int(length)
	back := uint64(c.U32())
	if back == 0 || c.Err() != nil || back > uint64(body) {
		return next, c.Err() == nil
	}
	owner := body - int(back)
	info := fr.info
	if owner != fr.last || owner == 0 {
		known := false
		if info, known = fr.cies[owner]; !known {
			info = fr.readCIE(owner)
			fr.cies[owner] = info
		}
		fr.last, fr.info = owner, info
	}
	if !info.ok {
		return next, true
	}
	f := fr.f
	got := f.dynamic.values[tagPltGot]
	start, ok1 := f.pointer(&c, info.encoding, fr.addr, got)
	size, ok2 := f.pointer(&c, info.encoding&0x0f, fr.addr, 0)
	if start = f.codeAddr(start); ok1 && ok2 && c.Offset() <= next && f.code.has(start) && len(fr.list) < maxFunctions {
		fr.list = append(fr.list, image.Function{Addr: start, Size: size})
	}
	return next, true
}

// open reads the length of an entry.
func (fr *frames) open(off int) (cursor.Cursor, uint64) {
	c := *fr.f.cursor(fr.data)
	c.Seek(uint64(off))
	length := uint64(c.U32())
	if length == 0xffffffff {
		length = c.U64()
	}
	return c, length
}

// readCIE reads what a common information entry says about the encoding of
// addresses.
func (fr *frames) readCIE(off int) cie {
	c, _ := fr.open(off)
	id, version := c.U32(), c.U8()
	augmentation := c.CString(32)
	if c.Err() != nil || id != 0 {
		return cie{}
	}
	if version == 4 {
		c.Skip(2) // sizes of addresses and of segment selectors
	}
	if augmentation == "eh" { // of GCC 2: a word of its own
		c.Skip(uint64(fr.f.size()))
		return cie{encAbs, c.Err() == nil}
	}
	c.Uleb() // code alignment
	c.Sleb() // data alignment
	if version == 1 {
		c.U8() // return address register
	} else {
		c.Uleb()
	}
	info := cie{encoding: encAbs, ok: true}
	if augmentation == "" || augmentation[0] != 'z' {
		return info
	}
	c.Uleb() // length of what follows
	for _, a := range augmentation[1:] {
		switch a {
		case 'R':
			info.encoding = c.U8()
			return cie{info.encoding, c.Err() == nil}
		case 'L':
			c.U8()
		case 'P':
			fr.f.pointer(&c, c.U8()&^encIndirect, fr.addr, 0)
		}
	}
	return info
}

// pointer reads an encoded pointer. addr is that of the cursor's first byte,
// data what encodings relative to data count from.
func (f *file) pointer(c *cursor.Cursor, encoding uint8, addr, data uint64) (uint64, bool) {
	if encoding == encOmit {
		return 0, false
	}
	if encoding == encAligned {
		at := addr + uint64(c.Offset())
		c.Skip(-at & uint64(f.size()-1))
		v := c.Word(f.wide)
		return v, c.Err() == nil
	}
	at := addr + uint64(c.Offset())
	var v uint64
	switch encoding & 0x0f {
	case encAbs:
		v = c.Word(f.wide)
	case encUleb:
		v = c.Uleb()
	case encUdata2:
		v = uint64(c.U16())
	case encUdata4:
		v = uint64(c.U32())
	case encUdata8, encSdata8:
		v = c.U64()
	case encSleb:
		v = uint64(c.Sleb())
	case encSdata2:
		v = uint64(int64(int16(c.U16())))
	case encSdata4:
		v = uint64(int64(int32(c.U32())))
	default:
		return 0, false
	}
	if c.Err() != nil {
		return 0, false
	}
	switch encoding & 0x70 {
	case encAbs, encTextRel: // loaders count text from 0
	case encPCRel:
		v += at
	case encDataRel:
		v += data
	default:
		return 0, false
	}
	v = f.address(v)
	if encoding&encIndirect != 0 {
		b := f.m.At(v)
		if len(b) < f.size() {
			return 0, false
		}
		v = f.word(b)
	}
	return v, true
}
