package pe_test

import (
	"encoding/binary"
	"unicode/utf16"
)

// A craft describes a PE file to be made: one code section at RVA 0x1000 and
// one of data at RVA 0x2000, which holds all the tables.
type craft struct {
	machine   uint16
	wide      bool // PE32+
	flags     uint16
	subsystem uint16
	base      uint64
	entry     uint32
	align     uint32 // of sections in memory; 0x1000 if 0
	dirs      map[int][2]uint32
	dirCount  uint32 // 16 if 0
	code      []byte
	data      []byte
	extra     []craftSection
	stub      []byte // between the DOS header and the PE header
	symbols   []byte // COFF symbols with their strings, behind the sections
	tail      []byte // behind all
}

type craftSection struct {
	name                string
	virtual, rva        uint32
	rawSize, rawPointer uint32
	flags               uint32
	contents            []byte // put at rawPointer
}

const (
	codeRVA, dataRVA = 0x1000, 0x2000
	codeFlags        = 0x60000020
	dataFlags        = 0xc0000040
)

var le = binary.LittleEndian

func (c craft) bytes() []byte {
	head := make([]byte, 0x40)
	copy(head, "MZ")
	head = append(head, c.stub...)
	for len(head)%8 != 0 {
		head = append(head, 0)
	}
	le.PutUint32(head[0x3c:], uint32(len(head)))
	head = append(head, "PE\x00\x00"...)

	raw := func(b []byte) uint32 { return uint32((len(b) + 0x1ff) &^ 0x1ff) }
	codeAt := uint32(0x400)
	dataAt := codeAt + raw(c.code)
	end := dataAt + raw(c.data)
	sections := append([]craftSection{
		{".text", uint32(len(c.code)), codeRVA, raw(c.code), codeAt, codeFlags, c.code},
		{".data", uint32(len(c.data)), dataRVA, raw(c.data), dataAt, dataFlags, c.data},
	}, c.extra...)
	for _, s := range c.extra {
		end = max(end, s.rawPointer&^0x1ff+uint32(len(s.contents)))
	}

	var opt []byte
	magic := uint16(0x10b)
	if c.wide {
		magic = 0x20b
	}
	word := func(v uint64) {
		if c.wide {
			opt = le.AppendUint64(opt, v)
		} else {
			opt = le.AppendUint32(opt, uint32(v))
		}
	}
	dirCount, align := c.dirCount, c.align
	if dirCount == 0 {
		dirCount = 16
	}
	if align == 0 {
		align = 0x1000
	}
	opt = le.AppendUint16(opt, magic)
	opt = append(opt, 14, 29)
	opt = append(opt, make([]byte, 12)...)
	opt = le.AppendUint32(opt, c.entry)
	opt = le.AppendUint32(opt, codeRVA)
	if !c.wide {
		opt = le.AppendUint32(opt, dataRVA)
	}
	word(c.base)
	opt = le.AppendUint32(opt, align)
	opt = le.AppendUint32(opt, 0x200)
	opt = append(opt, make([]byte, 16)...)
	opt = le.AppendUint32(opt, 0x100000)
	opt = le.AppendUint32(opt, 0x400)
	opt = le.AppendUint32(opt, 0)
	opt = le.AppendUint16(opt, c.subsystem)
	opt = le.AppendUint16(opt, 0)
	for range 4 {
		word(0x1000)
	}
	opt = le.AppendUint32(opt, 0)
	opt = le.AppendUint32(opt, dirCount)
	for i := range int(min(dirCount, 16)) {
		opt = le.AppendUint32(opt, c.dirs[i][0])
		opt = le.AppendUint32(opt, c.dirs[i][1])
	}

	head = le.AppendUint16(head, c.machine)
	head = le.AppendUint16(head, uint16(len(sections)))
	head = le.AppendUint32(head, 0)
	if len(c.symbols) > 0 {
		head = le.AppendUint32(head, end)
		head = le.AppendUint32(head, symbolCount(c.symbols))
	} else {
		head = le.AppendUint64(head, 0)
	}
	head = le.AppendUint16(head, uint16(len(opt)))
	head = le.AppendUint16(head, c.flags)
	head = append(head, opt...)
	for _, s := range sections {
		name := make([]byte, 8)
		copy(name, s.name)
		head = append(head, name...)
		for _, v := range []uint32{s.virtual, s.rva, s.rawSize, s.rawPointer, 0, 0, 0, s.flags} {
			head = le.AppendUint32(head, v)
		}
	}
	out := make([]byte, end)
	copy(out, head)
	for _, s := range sections {
		if int(s.rawPointer&^0x1ff) < len(out) {
			copy(out[s.rawPointer&^0x1ff:], s.contents)
		}
	}
	out = append(out, c.symbols...)
	return append(out, c.tail...)
}

// A tables builds the contents of the data section.
type tables struct {
	b    []byte
	wide bool
}

// rva returns where the next byte will be.
func (t *tables) rva() uint32 { return dataRVA + uint32(len(t.b)) }

// u32 appends words and returns the RVA of the first.
func (t *tables) u32(values ...uint32) uint32 {
	for len(t.b)%8 != 0 {
		t.b = append(t.b, 0)
	}
	at := t.rva()
	for _, v := range values {
		t.b = le.AppendUint32(t.b, v)
	}
	return at
}

// pointers appends pointers of the file's size and returns the RVA of the first.
func (t *tables) pointers(values ...uint64) uint32 {
	at := t.u32()
	for _, v := range values {
		if t.wide {
			t.b = le.AppendUint64(t.b, v)
		} else {
			t.b = le.AppendUint32(t.b, uint32(v))
		}
	}
	return at
}

// text appends a zero-terminated string and returns its RVA.
func (t *tables) text(s string) uint32 {
	at := t.rva()
	t.b = append(append(t.b, s...), 0)
	return at
}

// hint appends a hint and a name, as import tables point to.
func (t *tables) hint(name string) uint32 {
	t.u32()
	at := t.rva()
	t.b = append(t.b, 0, 0)
	t.text(name)
	return at
}

// bytes appends raw bytes, aligned, and returns their RVA.
func (t *tables) bytes(b []byte) uint32 {
	at := t.u32()
	t.b = append(t.b, b...)
	return at
}

// coffSymbols makes a symbol table of function symbols in section 1 with long
// names, and its string table.
func coffSymbols(names map[string]uint32, order []string) []byte {
	var table []byte
	text := []byte{0, 0, 0, 0}
	for _, n := range order {
		table = le.AppendUint32(table, 0)
		table = le.AppendUint32(table, uint32(len(text)))
		table = le.AppendUint32(table, names[n])
		table = le.AppendUint16(table, 1)
		table = le.AppendUint16(table, 0x20)
		table = append(table, 2, 0)
		text = append(append(text, n...), 0)
	}
	le.PutUint32(text, uint32(len(text)))
	return append(table, text...)
}

// symbolCount finds how many symbols stand before the string table that
// coffSymbols made.
func symbolCount(b []byte) uint32 {
	for n := uint32(0); int(18*n+4) <= len(b); n++ {
		if le.Uint32(b[18*n:]) == uint32(len(b))-18*n {
			return n
		}
	}
	return 0
}

// versionResource makes a resource directory at rva with one version resource.
func versionResource(rva uint32, pairs ...string) []byte {
	block := func(name string, text bool, value []byte, children ...[]byte) []byte {
		b := make([]byte, 6)
		for _, u := range utf16.Encode([]rune(name + "\x00")) {
			b = le.AppendUint16(b, u)
		}
		pad := func() {
			for len(b)%4 != 0 {
				b = append(b, 0)
			}
		}
		pad()
		b = append(b, value...)
		for _, c := range children {
			pad()
			b = append(b, c...)
		}
		le.PutUint16(b, uint16(len(b)))
		n := len(value)
		if text {
			n /= 2
			b[4] = 1
		}
		le.PutUint16(b[2:], uint16(n))
		return b
	}
	wide := func(s string) (b []byte) {
		for _, u := range utf16.Encode([]rune(s + "\x00")) {
			b = le.AppendUint16(b, u)
		}
		return b
	}
	var list [][]byte
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, block(pairs[i], true, wide(pairs[i+1])))
	}
	info := block("VS_VERSION_INFO", false, make([]byte, 52),
		block("StringFileInfo", true, nil, block("040904b0", true, nil, list...)))

	var b []byte
	for level, id := range []uint32{16, 1, 0x409} {
		b = append(b, make([]byte, 14)...)
		b = le.AppendUint16(b, 1) // entries by number
		b = le.AppendUint32(b, id)
		next := uint32(24 * (level + 1))
		if level < 2 {
			next |= 1 << 31
		}
		b = le.AppendUint32(b, next)
	}
	b = le.AppendUint32(b, rva+uint32(len(b))+16)
	b = le.AppendUint32(b, uint32(len(info)))
	b = append(b, make([]byte, 8)...)
	return append(b, info...)
}
