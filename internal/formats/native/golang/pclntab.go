package golang

import (
	"bytes"
	"encoding/binary"
	"iter"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Table says where the function table of a Go binary is.
type Table struct {
	Addr   uint64 // of its header
	Offset uint64 // in image.Data; 0 where it is not one run of the file (WebAssembly)
	Count  int    // of functions, as its header says
}

// A layout is one generation of the table, as package debug/gosym of the Go
// distribution and "Go 1.2 Runtime Symbol Information" (golang.org/s/go12symtab)
// describe it.
type layout struct {
	magic    uint32
	since    string
	names    int // header word with the offset of the name table; -1: names count from the header
	funcs    int // header word with the offset of the function table; -1: it follows the header
	relative bool
}

var layouts = []layout{
	{0xfffffff1, "go1.20", 3, 7, true},
	{0xfffffff0, "go1.18", 3, 7, true},
	{0xfffffffa, "go1.16", 2, 6, false},
	{0xfffffffb, "go1.2", -1, -1, false},
}

// table is a header whose parts were found to lie inside of data.
type table struct {
	Table
	layout *layout
	data   []byte // from the header to the end of the region it was found in
	big    bool
	wide   bool   // pointers of 8 bytes
	names  []byte // name table
	funcs  []byte // the function table and all behind it
	text   uint64 // start of text as the header has it, often 0
}

const (
	minHeader   = 16
	minRecord   = 32 // bytes of what the runtime keeps of a function (struct _func), in all generations
	maxName     = 4096
	maxAttempts = 256 // headers that look right and are not
)

// findTable looks for the function table where the linker's names say, then at
// every place in the data that starts like one.
func findTable(m *image.Image) (*table, bool) {
	for i := range m.Sections {
		s := &m.Sections[i]
		if strings.HasSuffix(s.Name, "gopclntab") {
			if t, ok := readHeader(m.Bytes(s), m.BigEndian); ok {
				t.Addr, t.Offset = s.Addr, s.Offset
				return t, true
			}
		}
	}
	for _, s := range m.Symbols {
		if s.Name == "runtime.pclntab" {
			if t, ok := readHeader(m.At(s.Addr), m.BigEndian); ok {
				t.Addr = s.Addr
				t.Offset, _ = m.FileOffset(s.Addr)
				return t, true
			}
		}
	}
	if m.Format == image.Wasm {
		return findInMemory(m)
	}
	attempts := 0
	for region, where := range dataRegions(m) {
		for off := range headers(region, m.BigEndian) {
			if attempts++; attempts > maxAttempts {
				return nil, false
			}
			if t, ok := readHeader(region[off:], m.BigEndian); ok {
				t.Addr, t.Offset = where.Addr+uint64(off), where.Offset+uint64(off)
				return t, true
			}
		}
	}
	return nil, false
}

// dataRegions yields the bytes of all segments: first those without code, then
// the others, where Windows and stripped binaries may keep their data, and the
// whole file if nothing is mapped.
func dataRegions(m *image.Image) iter.Seq2[[]byte, image.Segment] {
	return func(yield func([]byte, image.Segment) bool) {
		if len(m.Segments) == 0 {
			yield(m.Data, image.Segment{})
			return
		}
		left := 2 * uint64(len(m.Data)) // a hostile file may map the same bytes again and again
		for _, code := range []bool{false, true} {
			for _, s := range m.Segments {
				if (s.Access&image.Execute != 0) != code {
					continue
				}
				b, _ := cursor.Slice(m.Data, s.Offset, s.FileSize)
				if len(b) == 0 || uint64(len(b)) > left {
					continue
				}
				left -= uint64(len(b))
				if !yield(b, s) {
					return
				}
			}
		}
	}
}

// headers yields the offsets in data where a header may start: the magic
// number, two zero bytes, the size of an instruction, the size of a pointer.
func headers(data []byte, big bool) iter.Seq[int] {
	mark := []byte{0xff, 0xff, 0xff, 0, 0} // little-endian magic numbers behind their first byte
	before := 1
	if big {
		mark, before = []byte{0xff, 0xff, 0xff}, 0
	}
	return func(yield func(int) bool) {
		for at := 0; ; {
			i := cursor.Index(data[at:], mark)
			if i < 0 {
				return
			}
			start := at + i - before
			at += i + 1
			if start < 0 || len(data)-start < minHeader {
				continue
			}
			h := data[start : start+8]
			low := h[0]
			if big {
				low = h[3]
			}
			if low >= 0xf0 && h[4] == 0 && h[5] == 0 && (h[6] == 1 || h[6] == 2 || h[6] == 4) && (h[7] == 4 || h[7] == 8) && !yield(start) {
				return
			}
		}
	}
}

// readHeader reads the table that starts at data. Its byte order is the
// magic's; prefer says which to try first.
func readHeader(data []byte, prefer bool) (*table, bool) {
	if len(data) < minHeader {
		return nil, false
	}
	for _, big := range []bool{prefer, !prefer} {
		order := binary.ByteOrder(binary.LittleEndian)
		if big {
			order = binary.BigEndian
		}
		for i := range layouts {
			if l := &layouts[i]; order.Uint32(data) == l.magic {
				t := &table{layout: l, data: data, big: big}
				return t, t.locate()
			}
		}
	}
	return nil, false
}

// locate reads the header's words and checks them against the bytes there are.
func (t *table) locate() bool {
	c := cursor.New(t.data, t.big).Seek(4)
	pad, quantum, pointer := c.U16(), c.U8(), c.U8()
	if pad != 0 || quantum == 0 || quantum > 4 || pointer != 4 && pointer != 8 {
		return false
	}
	t.wide = pointer == 8
	var words [8]uint64
	n := max(t.layout.funcs+1, 1)
	for i := range n {
		words[i] = c.Word(t.wide)
	}
	if c.Err() != nil {
		return false
	}
	count := words[0]
	if t.layout.funcs < 0 {
		t.names, t.funcs = t.data, t.data[c.Offset():]
	} else {
		var ok1, ok2 bool
		names, funcs := words[t.layout.names], words[t.layout.funcs]
		t.names, ok1 = behind(t.data, names)
		t.funcs, ok2 = behind(t.data, funcs)
		if !ok1 || !ok2 || names >= funcs {
			return false
		}
		t.names = t.data[names:funcs] // other tables lie between; what matters is the bound
		if t.layout.relative {
			t.text = words[2]
		}
	}
	// Each function has an entry and a record.
	if count == 0 || count > uint64(len(t.funcs))/(2*t.field()+minRecord) {
		return false
	}
	t.Count = int(count)
	_, _, ok := t.entry(0)
	return ok
}

func behind(data []byte, off uint64) ([]byte, bool) {
	if off < minHeader || off >= uint64(len(data)) {
		return nil, false
	}
	return data[off:], true
}

// field is the size of one half of an entry of the function table.
func (t *table) field() uint64 {
	if t.layout.relative || !t.wide {
		return 4
	}
	return 8
}

// entry returns where function i starts (relative to text in a relative
// table) and its name.
func (t *table) entry(i int) (pc uint64, name []byte, ok bool) {
	wide := t.field() == 8
	c := cursor.New(t.funcs, t.big).Seek(uint64(i) * 2 * t.field())
	pc, off := c.Word(wide), c.Word(wide)
	if c.Err() != nil {
		return 0, nil, false
	}
	record := t.funcs
	if t.layout.funcs < 0 {
		record = t.data
	}
	// struct _func: its entry, then the offset of its name.
	f := cursor.New(record, t.big).Seek(off)
	f.Word(t.wide && !t.layout.relative)
	at := f.U32()
	if f.Err() != nil || uint64(at) >= uint64(len(t.names)) {
		return pc, nil, false
	}
	rest := t.names[at:]
	n := bytes.IndexByte(rest[:min(len(rest), maxName)], 0)
	if n <= 0 {
		return pc, nil, false
	}
	return pc, rest[:n], printable(rest[:n])
}

func printable(name []byte) bool {
	for _, c := range name {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// functions reads the whole table.
func (t *table) functions(m *image.Image, info *Info) []Function {
	list := make([]Function, 0, t.Count)
	bad := 0
	var arena strings.Builder // one allocation for names instead of one each
	lengths := make([]uint16, 0, t.Count)
	last := uint64(0)
	for i := range t.Count {
		pc, name, ok := t.entry(i)
		// What a table sorts by cannot go backwards; names beyond the file's
		// own size were counted again and again.
		if !ok || len(list) > 0 && pc < last || arena.Len()+len(name) > len(t.data) {
			bad++
			continue
		}
		last = pc
		list = append(list, Function{Addr: pc})
		lengths = append(lengths, uint16(len(name)))
		arena.Write(name)
	}
	names := arena.String()
	for i := range list {
		list[i].Name, names = names[:lengths[i]], names[lengths[i]:]
	}
	if bad > 0 {
		info.notef("%d of %d functions of the Go function table could not be read", bad, t.Count)
	}
	end, _ := t.end()
	text := uint64(0)
	if t.layout.relative && m.Format != image.Wasm {
		var sure bool
		if text, sure = t.textStart(m, list); !sure {
			info.notef("the start of the Go code is not told: function addresses may be off by the same amount")
		}
	}
	for i := range list {
		next := end
		if i+1 < len(list) {
			next = list[i+1].Addr
		}
		if next >= list[i].Addr {
			list[i].Size = next - list[i].Addr
		}
	}
	for i := range list {
		list[i].Addr += text
	}
	if m.Format == image.Wasm {
		placeInCode(m, list)
	}
	return list
}

// end returns where the last function ends.
func (t *table) end() (uint64, bool) {
	c := cursor.New(t.funcs, t.big).Seek(uint64(t.Count) * 2 * t.field())
	pc := c.Word(t.field() == 8)
	return pc, c.Err() == nil
}
