package golang_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/golang"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const (
	textAt = 0x1000 // of the crafted binaries' code
	dataAt = 0x8000 // of their data
)

// pclntab writes a table of functions 16 bytes apart, as the linkers of the
// generation that magic stands for did.
func pclntab(magic uint32, order binary.AppendByteOrder, pointer int, names ...string) []byte {
	word := func(b []byte, v int) []byte {
		if pointer == 4 {
			return order.AppendUint32(b, uint32(v))
		}
		return order.AppendUint64(b, uint64(v))
	}
	relative := magic == 0xfffffff0 || magic == 0xfffffff1
	field := func(b []byte, v int) []byte {
		if relative {
			return order.AppendUint32(b, uint32(v))
		}
		return word(b, v)
	}
	pc := func(i int) int {
		if relative {
			return i * 16
		}
		return textAt + i*16
	}
	head := order.AppendUint32(nil, magic)
	head = append(head, 0, 0, 1, byte(pointer))
	head = word(head, len(names))

	var nameTable []byte
	var at []int
	for _, n := range names {
		at = append(at, len(nameTable))
		nameTable = append(append(nameTable, n...), 0)
	}
	// funcs writes the function table and the records behind it; offsets in
	// it count from base bytes before it, names from shift.
	funcs := func(base, shift int) []byte {
		size := len(field(nil, 0)) * (2*len(names) + 1)
		const record = 40
		var b, records []byte
		for i := range names {
			b = field(b, pc(i))
			b = field(b, base+size+i*record)
			records = field(records, pc(i))
			records = order.AppendUint32(records, uint32(shift+at[i]))
			records = append(records, make([]byte, (i+1)*record-len(records))...)
		}
		return append(field(b, pc(len(names))), records...)
	}
	if magic == 0xfffffffb {
		table := funcs(len(head), 0)
		return append(append(head, funcs(len(head), len(head)+len(table))...), nameTable...)
	}
	words := 7 // 1.16
	if relative {
		words = 8
	}
	size := 8 + words*pointer
	head = word(head, 1) // files
	if relative {
		head = word(head, textAt)
	}
	head = word(head, size) // names
	for range 3 {           // compilation units, files, pc tables
		head = word(head, size+len(nameTable))
	}
	head = word(head, size+len(nameTable))
	return append(append(head, nameTable...), funcs(0, 0)...)
}

// crafted maps data behind a page of code.
func crafted(data []byte, big bool) *image.Image {
	code := bytes.Repeat([]byte{0x90}, 0x100)
	m := &image.Image{Format: image.ELF, Data: append(code, data...), BigEndian: big, Segments: []image.Segment{
		{Addr: textAt, Size: 0x100, FileSize: 0x100, Access: image.Read | image.Execute},
		{Addr: dataAt, Offset: 0x100, Size: uint64(len(data)), FileSize: uint64(len(data)), Access: image.Read},
	}}
	m.Finish()
	return m
}

func TestEveryGeneration(t *testing.T) {
	for magic, since := range map[uint32]string{0xfffffffb: "go1.2", 0xfffffffa: "go1.16", 0xfffffff0: "go1.18", 0xfffffff1: "go1.20"} {
		for _, big := range []bool{false, true} {
			for _, pointer := range []int{4, 8} {
				name := fmt.Sprintf("%s, %d bytes, big-endian %v", since, pointer, big)
				t.Run(name, func(t *testing.T) {
					order := binary.AppendByteOrder(binary.LittleEndian)
					if big {
						order = binary.BigEndian
					}
					// Padding in front, and something that only begins like a table.
					data := append(bytes.Repeat([]byte{0xff}, 64), make([]byte, 16)...)
					data = append(data, pclntab(magic, order, pointer, "a.b", "main.main", "c/d.e")...)
					info := golang.Read(crafted(data, big))
					if info == nil {
						t.Fatal("not seen as a Go binary")
					}
					want := []golang.Function{{Name: "a.b", Addr: textAt, Size: 16}, {Name: "main.main", Addr: textAt + 16, Size: 16}, {Name: "c/d.e", Addr: textAt + 32, Size: 16}}
					if info.AtLeast != since || !reflect.DeepEqual(info.Functions, want) {
						t.Errorf("%s, %+v; want %s, %+v", info.AtLeast, info.Functions, since, want)
					}
					if table := (golang.Table{Addr: dataAt + 80, Offset: 0x100 + 80, Count: 3}); info.Table != table {
						t.Errorf("table at %+v; want %+v", info.Table, table)
					}
				})
			}
		}
	}
}

// TestBrokenTable has one function's name point out of the table: the others
// must survive, and the loss be told.
func TestBrokenTable(t *testing.T) {
	table := pclntab(0xfffffff1, binary.LittleEndian, 8, "a.b", "main.main", "c/d.e")
	binary.LittleEndian.PutUint32(table[len(table)-2*40+4:], 1<<30)
	info := golang.Read(crafted(table, false))
	if info == nil || len(info.Functions) != 2 || info.Functions[1].Name != "c/d.e" {
		t.Fatalf("read %+v; want two functions", info)
	}
	if len(info.Notes) == 0 || !strings.Contains(info.Notes[0], "1 of 3") {
		t.Errorf("notes %q do not tell of the third function", info.Notes)
	}
}

func TestNotGo(t *testing.T) {
	for name, data := range map[string][]byte{
		"nothing":                  nil,
		"a header alone":           []byte("\xf1\xff\xff\xff\x00\x00\x01\x08"),
		"a count beyond the bytes": append([]byte("\xf1\xff\xff\xff\x00\x00\x01\x08\xff\xff\xff\xff\xff\xff\xff\xff"), make([]byte, 200)...),
		"the magic in a text":      []byte("\xff Go buildinf: is what the linker writes in front of everything else, they say"),
		"marks without an end":     []byte("\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6path\tx\n"),
	} {
		if info := golang.Read(crafted(data, false)); info != nil {
			t.Errorf("%s: read %+v; want nothing", name, info)
		}
	}
}

const modules = "path\texample.test/a/cmd\nmod\texample.test/a\tv1.0.0\th1:a=\ndep\texample.test/b\tv0.1.0\th1:b=\n=>\texample.test/c\tv0.2.0\th1:c=\ndep\texample.test/d\tv3.0.0\th1:d=\nbuild\t-ldflags=\"-s -w \\\"x\\\"\"\nbuild\tvcs.revision=0123abcd\nbuild\t\"a=b\"=c\n"

func marked() []byte {
	return []byte("\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6" + modules + "\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2")
}

// buildInfo writes the pointer format of Go 1.13 to 1.17.
func buildInfo(order binary.AppendByteOrder, pointer int, flags byte) []byte {
	b := append([]byte("\xff Go buildinf:"), byte(pointer), flags)
	word := func(b []byte, v int) []byte {
		if pointer == 4 {
			return order.AppendUint32(b, uint32(v))
		}
		return order.AppendUint64(b, uint64(v))
	}
	text := marked()
	b = word(word(b, dataAt+32), dataAt+64)
	b = append(b, make([]byte, 32-len(b))...)
	b = word(word(b, dataAt+96), len("go1.16.5"))
	b = append(b, make([]byte, 64-len(b))...)
	b = word(word(b, dataAt+112), len(text))
	b = append(b, make([]byte, 96-len(b))...)
	b = append(append(b, "go1.16.5"...), make([]byte, 8)...)
	return append(b, text...)
}

func TestBuildInformation(t *testing.T) {
	inline := append([]byte("\xff Go buildinf:\x08\x02"), make([]byte, 16)...)
	inline = append(binary.AppendUvarint(inline, 8), "go1.16.5"...)
	inline = append(binary.AppendUvarint(inline, uint64(len(marked()))), marked()...)
	for name, m := range map[string]*image.Image{
		"inline":              crafted(inline, false),
		"pointers, 64 bits":   crafted(buildInfo(binary.LittleEndian, 8, 0), false),
		"pointers, 32 bits":   crafted(buildInfo(binary.LittleEndian, 4, 0), false),
		"pointers, big":       crafted(buildInfo(binary.BigEndian, 8, 1), true),
		"marks and a version": crafted(append([]byte("xgo1.16.5y go1.2 go1.4.1 "), marked()...), false),
	} {
		t.Run(name, func(t *testing.T) {
			got := golang.Read(m)
			want := &golang.Info{
				Version: "go1.16.5",
				Path:    "example.test/a/cmd",
				Main:    golang.Module{Path: "example.test/a", Version: "v1.0.0", Sum: "h1:a="},
				Deps: []golang.Module{
					{Path: "example.test/b", Version: "v0.1.0", Sum: "h1:b=", Replace: &golang.Module{Path: "example.test/c", Version: "v0.2.0", Sum: "h1:c="}},
					{Path: "example.test/d", Version: "v3.0.0", Sum: "h1:d="},
				},
				Settings: []golang.Setting{{"-ldflags", `-s -w "x"`}, {"vcs.revision", "0123abcd"}, {"a=b", "c"}},
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("read %+v; want %+v", got, want)
			}
		})
	}
}

// wasm makes an image of a WebAssembly module's sections.
func wasm(t testing.TB, data []byte) *image.Image {
	t.Helper()
	names := map[uint8]string{10: "code", 11: "data"}
	m := &image.Image{Format: image.Wasm, Data: data}
	c := cursor.New(data, false).Seek(8)
	for c.Err() == nil && c.Len() > 0 {
		id := c.U8()
		size := c.Uleb()
		start := uint64(c.Offset())
		m.Sections = append(m.Sections, image.Section{Name: names[id], Addr: start, Offset: start, Size: size, FileSize: size})
		if id == 10 {
			for range c.Uleb() {
				n := c.Uleb()
				m.Functions.List = append(m.Functions.List, image.Function{Addr: uint64(c.Offset()), Size: n})
				c.Skip(n)
			}
		}
		c.Seek(start + size)
	}
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	return m
}

func TestWebAssembly(t *testing.T) {
	m := wasm(t, build(t, "js/wasm", "-ldflags=-s -w"))
	info := golang.Read(m)
	if info == nil {
		t.Fatal("not seen as a Go binary")
	}
	if info.Path != "example.test/planted" || !strings.HasPrefix(info.Version, "go1.") {
		t.Errorf("built by %q from %q", info.Version, info.Path)
	}
	named := map[string]golang.Function{}
	addrs := map[uint64]bool{}
	for _, f := range info.Functions {
		named[f.Name] = f
		addrs[f.Addr] = true
	}
	if f := named["main.planted"]; f.Addr == 0 || f.Size == 0 {
		t.Errorf("main.planted at %#x with size %d", f.Addr, f.Size)
	}
	if len(info.Functions) < 500 || len(addrs) < len(info.Functions)*9/10 {
		t.Errorf("%d functions at %d places; want hundreds, each at its own", len(info.Functions), len(addrs))
	}
}

func FuzzRead(f *testing.F) {
	for _, magic := range []uint32{0xfffffffb, 0xfffffffa, 0xfffffff0, 0xfffffff1} {
		for _, pointer := range []int{4, 8} {
			f.Add(pclntab(magic, binary.LittleEndian, pointer, "a.b", "main.main", "c/d.e"), uint8(0))
			f.Add(pclntab(magic, binary.BigEndian, pointer, "a.b", "main.main", "c/d.e"), uint8(1))
		}
	}
	f.Add(buildInfo(binary.LittleEndian, 8, 0), uint8(0))
	f.Add(buildInfo(binary.BigEndian, 4, 1), uint8(3))
	f.Add(marked(), uint8(2))
	f.Add(append([]byte("\x01\x00\x41\x10\x0b\x7f"), pclntab(0xfffffff1, binary.LittleEndian, 8, "a.b")...), uint8(4))
	f.Fuzz(func(t *testing.T, data []byte, shape uint8) {
		m := crafted(data, shape&1 != 0)
		if shape&2 != 0 {
			m.Bits = 64
			m.Sections = []image.Section{
				{Name: ".gopclntab", Addr: dataAt, Offset: 0x100, FileSize: uint64(len(data))},
				{Name: ".rela.dyn", Offset: 0x100, FileSize: uint64(len(data))},
			}
		}
		if shape&4 != 0 {
			m.Format = image.Wasm
			m.Sections = []image.Section{{Name: "data", Offset: 0x100, FileSize: uint64(len(data))}}
		}
		info := golang.Read(m)
		if info == nil {
			return
		}
		size := 0
		for _, f := range info.Functions {
			size += len(f.Name)
		}
		if len(info.Functions) > len(data) || size > 3*len(data)+8192 {
			t.Errorf("%d functions with %d bytes of names out of %d bytes", len(info.Functions), size, len(data))
		}
		info.Packages()
	})
}
