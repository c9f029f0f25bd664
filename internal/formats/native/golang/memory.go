package golang

import (
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// In WebAssembly the table lies in linear memory, which the data section
// describes in pieces with the zeros left out, so it has to be put together
// before it can be read.

// maxMemory bounds the linear memory that is put together, in bytes. Go places
// its data at the start of memory; 64 MiB hold the tables of any program that
// a browser would load.
const maxMemory = 64 << 20

// findInMemory finds the table in the initial memory of a WebAssembly module.
func findInMemory(m *image.Image) (*table, bool) {
	data := section(m, "data")
	if data == nil {
		return nil, false
	}
	memory := initialMemory(data)
	attempts := 0
	for off := range headers(memory, false) {
		if attempts++; attempts > maxAttempts {
			break
		}
		if t, ok := readHeader(memory[off:], false); ok {
			t.Addr = uint64(off)
			return t, true
		}
	}
	return nil, false
}

func section(m *image.Image, name string) []byte { return m.Bytes(m.Section(name)) }

// initialMemory reads the active segments of a data section (WebAssembly Core
// Specification 2.0, section 5.5.14). Segments whose offset is not a constant
// are passed over; reading ends where the section cannot be understood.
func initialMemory(data []byte) []byte {
	type piece struct {
		at   uint64
		data []byte
	}
	var pieces []piece
	end := uint64(0)
	c := cursor.New(data, false)
	count := c.Uleb()
	for range min(count, uint64(len(data))) {
		flag := c.Uleb()
		var at uint64
		var active bool
		switch flag {
		case 2:
			c.Uleb() // memory
			fallthrough
		case 0:
			at, active = constant(c)
		case 1: // passive
		default:
			return nil
		}
		b := c.Bytes(c.Uleb())
		if c.Err() != nil {
			break
		}
		if stop := at + uint64(len(b)); active && at <= maxMemory && stop <= maxMemory {
			pieces = append(pieces, piece{at, b})
			end = max(end, stop)
		}
	}
	// Memory that is nearly all zeros is not made on the word of one segment.
	if end > 16*uint64(len(data))+1<<16 {
		return nil
	}
	memory := make([]byte, end)
	for _, p := range pieces {
		copy(memory[p.at:], p.data)
	}
	return memory
}

// constant reads "i32.const n end".
func constant(c *cursor.Cursor) (uint64, bool) {
	const i32Const, i64Const, end = 0x41, 0x42, 0x0b
	op := c.U8()
	v := c.Sleb()
	return uint64(uint32(v)), (op == i32Const || op == i64Const) && c.U8() == end
}

// placeInCode turns program counters into addresses. They are numbers of
// functions in the order of the code section, counted from 0x1000 (the
// linker's funcValueOffset) or from the first one, and before Go 1.26 shifted
// left by 16 to leave room for the place in the function (cmd/link/internal/wasm).
func placeInCode(m *image.Image, list []Function) {
	const offset, shift = 0x1000, 16
	shifted := !slices.ContainsFunc(list, func(f Function) bool { return f.Addr%(1<<shift) != 0 })
	first := uint64(0)
	if len(list) > 0 && list[0].Addr != 0 {
		first = offset
	}
	for i := range list {
		n := list[i].Addr
		if shifted {
			n >>= shift
		}
		n -= first
		list[i] = Function{Name: list[i].Name}
		if n < uint64(len(m.Functions.List)) {
			list[i].Addr, list[i].Size = m.Functions.List[n].Addr, m.Functions.List[n].Size
		}
	}
}
