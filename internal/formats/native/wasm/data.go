package wasm

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// An element is an entry of a table that is a function.
type element struct {
	at    uint64 // offset in the file
	index uint32 // number of the function
}

// A segment is data that goes into memory.
type segment struct {
	image.Segment
	passive bool
	base    int64 // global that its address counts from, -1 if none
}

// An expression is the value of a constant expression (Core Specification,
// "Expressions"): a number, a function, or a global with a number added to it.
type expression struct {
	value    uint64
	function int64 // -1 if it is none
	global   int64
	known    bool
}

// constant reads a constant expression to its end.
func constant(c *cursor.Cursor) (e expression) {
	e = expression{function: -1, global: -1}
	for n := 0; c.Err() == nil; n++ {
		switch op := c.U8(); op {
		case 0x0b:
			e.known = e.known && n > 0
			return e
		case 0x23: // global.get
			e.global, e.known = int64(c.Uleb()), n == 0
		case 0x41, 0x42:
			v := uint64(c.Sleb())
			if op == 0x41 {
				v &= 0xffffffff
			}
			e.value, e.known = v, n == 0 || n == 1 && e.global >= 0
		case 0x43:
			c.Skip(4)
			e.known = false
		case 0x44:
			c.Skip(8)
			e.known = false
		case 0x6a, 0x7c: // add, of a global and a number
			e.known = e.known && n == 2 && e.global >= 0
		case 0x6b, 0x6c, 0x7d, 0x7e:
			e.known = false
		case 0xd0: // ref.null
			c.Sleb()
			e.known = false
		case 0xd2: // ref.func
			e.function, e.known = int64(c.Uleb()), n == 0
		case 0xfb: // of garbage collection
			e.known = false
			switch c.Uleb() {
			case 0, 1, 6, 7:
				c.Uleb()
			case 8:
				c.Uleb()
				c.Uleb()
			case 26, 27, 28:
			default:
				c.Seek(^uint64(0))
			}
		case 0xfd:
			c.Uleb()
			c.Skip(16)
			e.known = false
		default:
			c.Seek(^uint64(0)) // not known: what follows cannot be read
		}
	}
	return expression{function: -1, global: -1}
}

// elementSection reads what tables hold (Core Specification, "Element
// Section").
func (m *module) elementSection(c *cursor.Cursor) {
	const (
		inactive    = 1 // passive, or declared only
		explicit    = 2 // a number of a table; of inactive ones, declared only
		expressions = 4
	)
	for range c.Uleb() {
		flags := c.Uleb()
		if c.Err() != nil {
			return
		}
		if flags > 7 {
			m.Notef("element segment of kind %d is not known; the rest is not read", flags)
			return
		}
		if flags&inactive == 0 {
			if flags&explicit != 0 {
				c.Uleb()
			}
			constant(c)
		}
		if flags&(inactive|explicit) != 0 {
			valueType(c) // or the kind of the elements, a byte
		}
		count := c.Uleb()
		if c.Err() != nil {
			return
		}
		for range count {
			at := uint64(c.Offset())
			index := int64(-1)
			if flags&expressions != 0 {
				index = constant(c).function
			} else {
				index = int64(min(c.Uleb(), 1<<32))
			}
			if c.Err() != nil || !m.room(len(m.Pointers)+len(m.elements)) {
				return
			}
			if declared := flags&(inactive|explicit) == inactive|explicit; !declared && index >= 0 && index < 1<<32 {
				m.elements = append(m.elements, element{at, uint32(index)})
			}
		}
	}
}

// dataSection reads what goes into memory (Core Specification, "Data Section").
func (m *module) dataSection(c *cursor.Cursor) {
	const maxSegments = 100_000 // as engines have it
	for range c.Uleb() {
		flags := c.Uleb()
		s := segment{passive: flags&1 != 0, base: -1}
		memory := uint64(0)
		known := false
		if flags&2 != 0 {
			memory = c.Uleb()
		}
		if !s.passive {
			e := constant(c)
			s.Addr, s.base, known = e.value, e.global, e.known
		}
		s.FileSize = c.Uleb()
		s.Offset = uint64(c.Offset())
		s.Size = s.FileSize
		c.Skip(s.FileSize)
		if c.Err() != nil || len(m.data) == maxSegments {
			return
		}
		if !s.passive && (!known || memory != 0) {
			s.FileSize = 0
		}
		m.data = append(m.data, s)
	}
}

// finishData lists the module with its memory, and its tables' functions as
// pointers.
func (m *module) finishData() {
	for _, e := range m.elements {
		if f := m.body(uint64(e.index)); f != nil {
			m.Pointers = append(m.Pointers, image.Pointer{At: e.at, To: f.Addr})
		}
	}
	if m.code.Size == 0 {
		return
	}
	out := image.WasmModule{Code: m.code, Base: -1}
	for _, i := range m.imported {
		out.Imported = append(out.Imported, int32(i))
	}
	passive := slices.ContainsFunc(m.data, func(s segment) bool { return s.passive })
	for i := range m.data {
		s := &m.data[i]
		if !s.passive && s.FileSize > 0 {
			if len(out.Memory) > 0 && out.Base != s.base {
				continue // some count from a global and some do not: linkers make no such thing
			}
			out.Base = s.base
			out.Memory = append(out.Memory, s.Segment)
		}
		if !s.passive {
			s.FileSize = 0
		}
		if passive {
			out.Passive = append(out.Passive, s.Segment)
		}
	}
	slices.SortStableFunc(out.Memory, func(a, b image.Segment) int { return cmp.Compare(a.Addr, b.Addr) })
	m.Modules = append(m.Modules, out)
}

// finishPointers puts pointers into the order that the image promises. A module
// has its sections in one order, but a component any of modules.
func (p *parser) finishPointers() {
	slices.SortFunc(p.Pointers, func(a, b image.Pointer) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.To, b.To)) })
	p.Pointers = slices.CompactFunc(p.Pointers, func(a, b image.Pointer) bool { return a.At == b.At })
	slices.SortStableFunc(p.Modules, func(a, b image.WasmModule) int { return cmp.Compare(a.Code.Offset, b.Code.Offset) })
	slices.Sort(p.Initializers)
}
