package macho

import (
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// Opcodes of bind information, the upper half of a byte; the lower half is an
// immediate value (BIND_OPCODE_* of <mach-o/loader.h>).
const (
	bindDone            = 0x00
	bindOrdinalImm      = 0x10
	bindOrdinalUleb     = 0x20
	bindSpecialImm      = 0x30
	bindSymbol          = 0x40
	bindType            = 0x50
	bindAddend          = 0x60
	bindSegment         = 0x70
	bindAddAddr         = 0x80
	bindDo              = 0x90
	bindDoAddAddr       = 0xa0
	bindDoAddAddrScaled = 0xb0
	bindDoTimesSkipping = 0xc0
	bindThreaded        = 0xd0

	bindThreadedTable = 0
	bindThreadedApply = 1

	bindWeakImport = 0x1 // flag of a symbol

	minPointer = 4 // bytes
)

// A binder runs the opcodes of bind information.
type binder struct {
	f    *file
	m    *imports
	left int // fixups; there cannot be more than the file has pointers

	name     string
	place    int32 // of name in m, or unset
	ordinal  int
	weak     bool
	segment  uint64
	offset   uint64
	threaded bool
	table    []int32 // places, by ordinal of a threaded bind
}

const unset = -2

// bindOpcodes runs the three programs of LC_DYLD_INFO.
func (f *file) bindOpcodes(m *imports) {
	budget := len(f.data)/minPointer + 64
	for _, program := range []struct {
		what    string
		code    []byte
		ordinal int
		lazy    bool
	}{
		{"bind", f.bind, 0, false},
		{"lazy bind", f.lazy, 0, true},
		{"weak bind", f.weakBind, -3, false},
	} {
		b := &binder{f: f, m: m, left: budget, place: unset, ordinal: program.ordinal}
		c := cursor.New(program.code, false)
		b.run(c, program.lazy)
		switch {
		case c.Err() != nil:
			f.Notef("%s opcodes: %v", program.what, c.Err())
		case b.left < 0:
			f.Notef("%s opcodes: more fixups than the file has room for", program.what)
		}
		budget = max(b.left, 0)
	}
}

// run executes opcodes to their end, which for lazy binding is that of the
// table: there, "done" ends the program of one symbol.
func (b *binder) run(c *cursor.Cursor, lazy bool) {
	pointer := uint64(b.f.Bits / 8)
	for c.Len() > 0 && c.Err() == nil && b.left >= 0 {
		op := c.U8()
		imm := int(op & 0xf)
		switch op & 0xf0 {
		case bindDone:
			if !lazy {
				return
			}
		case bindOrdinalImm:
			b.setOrdinal(imm)
		case bindOrdinalUleb:
			b.setOrdinal(int(min(c.Uleb(), 1<<20)))
		case bindSpecialImm:
			if imm != 0 {
				imm -= 16 // a negative number of 4 bits
			}
			b.setOrdinal(imm)
		case bindSymbol:
			b.name, b.weak, b.place = bare(c.CString(maxName)), imm&bindWeakImport != 0, unset
		case bindType:
		case bindAddend:
			c.Sleb()
		case bindSegment:
			b.segment, b.offset = uint64(imm), c.Uleb()
		case bindAddAddr:
			b.offset += c.Uleb()
		case bindDo:
			b.do(pointer)
		case bindDoAddAddr:
			b.do(pointer + c.Uleb())
		case bindDoAddAddrScaled:
			b.do(pointer + uint64(imm)*pointer)
		case bindDoTimesSkipping:
			count, skip := c.Uleb(), c.Uleb()
			for ; count > 0 && b.left >= 0 && c.Err() == nil; count-- {
				b.do(pointer + skip)
			}
		case bindThreaded:
			b.thread(c, imm)
		default:
			b.f.Notef("bind opcode %#x is not known", op)
			return
		}
	}
}

func (b *binder) setOrdinal(n int) { b.ordinal, b.place = n, unset }

// do binds the current symbol at the current place, or in threaded mode gives
// it the next ordinal, and moves on.
func (b *binder) do(step uint64) {
	b.left--
	if b.place == unset {
		if b.place = b.m.get(b.name); b.place >= 0 {
			library, r := b.f.boundLibrary(b.ordinal)
			b.m.from(b.place, library, r, b.weak)
		}
	}
	if b.threaded {
		b.table = append(b.table, b.place)
		return
	}
	if addr, ok := b.f.segmentAddr(b.segment, b.offset); ok && b.place >= 0 {
		b.m.bind(b.place, addr)
	}
	b.offset += step
}

// thread handles the binds of arm64e from before chained fixups: a table of
// symbols, then chains of pointers that refer to it.
func (b *binder) thread(c *cursor.Cursor, op int) {
	switch op {
	case bindThreadedTable:
		c.Uleb() // size of the table, which is filled by what follows
		b.threaded, b.table = true, nil
	case bindThreadedApply:
		if b.segment < uint64(len(b.f.segments)) {
			w := walker{f: b.f, m: b.m, places: b.table, left: b.left, format: chainFormats[chainARM64E]}
			w.chain(&b.f.segments[b.segment], b.offset, ^uint64(0))
			b.left = w.left
		}
	default:
		b.f.Notef("threaded bind opcode %d is not known", op)
	}
}

func (f *file) segmentAddr(segment, offset uint64) (uint64, bool) {
	if segment >= uint64(len(f.segments)) || offset >= f.segments[segment].Size {
		return 0, false
	}
	return f.segments[segment].Addr + offset, true
}
