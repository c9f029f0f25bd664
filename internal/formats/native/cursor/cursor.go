// Package cursor reads integers and strings from hostile bytes without ever
// leaving them. A Cursor remembers its first failure and returns zeros after
// it, so that a parser reads a whole structure and asks once whether it was
// there.
//
// It refuses to panic, to allocate on the word of the input, and to guess.
package cursor

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A Cursor is a position in data with a byte order. The zero value is an
// empty little-endian cursor; a Cursor is copied freely and is not safe for
// concurrent use.
type Cursor struct {
	data []byte
	off  int
	big  bool
	err  error
}

// New returns a cursor at the start of data; big selects big-endian integers.
func New(data []byte, big bool) *Cursor { return &Cursor{data: data, big: big} }

// An OutOfBoundsError says which bytes were asked for and how many there are.
type OutOfBoundsError struct {
	Offset, Length uint64
	Size           int
}

func (e *OutOfBoundsError) Error() string {
	return fmt.Sprintf("%d bytes at offset %#x lie outside of %d bytes", e.Length, e.Offset, e.Size)
}

// Err returns the first failure, or nil.
func (c *Cursor) Err() error { return c.err }

// Offset returns the position in bytes from the start.
func (c *Cursor) Offset() int { return c.off }

// Len returns how many bytes are left.
func (c *Cursor) Len() int { return len(c.data) - c.off }

// Seek moves to an absolute offset; the end itself is allowed.
func (c *Cursor) Seek(off uint64) *Cursor {
	if c.err == nil {
		if off > uint64(len(c.data)) {
			c.err = &OutOfBoundsError{Offset: off, Size: len(c.data)}
			return c
		}
		c.off = int(off)
	}
	return c
}

// Skip moves n bytes forward.
func (c *Cursor) Skip(n uint64) *Cursor { c.take(n); return c }

// Align moves forward to a multiple of n, which must be a power of two.
func (c *Cursor) Align(n int) *Cursor {
	if rest := c.off & (n - 1); rest != 0 {
		c.take(uint64(n - rest))
	}
	return c
}

func (c *Cursor) take(n uint64) []byte {
	if c.err != nil {
		return nil
	}
	if n > uint64(len(c.data)-c.off) {
		c.err = &OutOfBoundsError{Offset: uint64(c.off), Length: n, Size: len(c.data)}
		return nil
	}
	b := c.data[c.off : c.off+int(n) : c.off+int(n)]
	c.off += int(n)
	return b
}

// Bytes returns the next n bytes, which share memory with the input.
func (c *Cursor) Bytes(n uint64) []byte { return c.take(n) }

// U8 reads one byte.
func (c *Cursor) U8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads a 16-bit integer.
func (c *Cursor) U16() uint16 {
	b := c.take(2)
	if b == nil {
		return 0
	}
	if c.big {
		return binary.BigEndian.Uint16(b)
	}
	return binary.LittleEndian.Uint16(b)
}

// U32 reads a 32-bit integer.
func (c *Cursor) U32() uint32 {
	b := c.take(4)
	if b == nil {
		return 0
	}
	if c.big {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

// U64 reads a 64-bit integer.
func (c *Cursor) U64() uint64 {
	b := c.take(8)
	if b == nil {
		return 0
	}
	if c.big {
		return binary.BigEndian.Uint64(b)
	}
	return binary.LittleEndian.Uint64(b)
}

// Word reads a 64-bit integer if wide, else a 32-bit one.
func (c *Cursor) Word(wide bool) uint64 {
	if wide {
		return c.U64()
	}
	return uint64(c.U32())
}

// Uleb reads an unsigned LEB128 integer of at most 64 bits.
func (c *Cursor) Uleb() uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		b := c.U8()
		if c.err != nil {
			return 0
		}
		if shift > 63 || shift == 63 && b > 1 {
			c.err = fmt.Errorf("LEB128 integer at offset %#x is longer than 64 bits", c.off)
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return v
		}
	}
}

// Sleb reads a signed LEB128 integer of at most 64 bits.
func (c *Cursor) Sleb() int64 {
	var v int64
	for shift := uint(0); ; {
		b := c.U8()
		if c.err != nil {
			return 0
		}
		if shift > 63 {
			c.err = fmt.Errorf("LEB128 integer at offset %#x is longer than 64 bits", c.off)
			return 0
		}
		v |= int64(b&0x7f) << shift
		shift += 7
		if b&0x80 == 0 {
			if shift < 64 && b&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
}

// CString reads up to and over the next zero byte, at most limit bytes.
func (c *Cursor) CString(limit int) string {
	if c.err != nil {
		return ""
	}
	rest := c.data[c.off:]
	n := bytes.IndexByte(rest[:min(len(rest), limit+1)], 0)
	if n < 0 {
		c.err = &OutOfBoundsError{Offset: uint64(c.off), Length: uint64(limit), Size: len(c.data)}
		return ""
	}
	c.off += n + 1
	return string(rest[:n])
}

// Slice returns data[off:off+n], or what of it there is, and whether it was
// all there. It is how parsers cut tables out of files.
func Slice(data []byte, off, n uint64) ([]byte, bool) {
	if off > uint64(len(data)) {
		return nil, n == 0
	}
	rest := data[off:]
	if n > uint64(len(rest)) {
		return rest, false
	}
	return rest[:n:n], true
}

// String returns the zero-terminated string at off in a string table, at most
// limit bytes long, and whether there was one.
func String(table []byte, off uint64, limit int) (string, bool) {
	if off >= uint64(len(table)) {
		return "", false
	}
	rest := table[off:]
	n := bytes.IndexByte(rest[:min(len(rest), limit+1)], 0)
	if n < 0 {
		return "", false
	}
	return string(rest[:n]), true
}
