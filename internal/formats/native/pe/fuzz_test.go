package pe_test

import (
	"bytes"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
)

// seeds are files with every table that is read, for each kind of machine.
func seeds() [][]byte {
	x86 := craft{
		machine: i386, base: 0x400000, entry: codeRVA, code: []byte{
			0x55, 0x8b, 0xec, 0xe8, 0x0a, 0, 0, 0, // a frame and a call
			0xff, 0x24, 0x85, 0x00, 0x20, 0x40, 0, // a switch
			0x8b, 0xe5, 0x5d, 0xc3, 0xcc, 0xcc,
			0x68, 0x00, 0x10, 0x40, 0, 0xe9, 0xe0, 0xff, 0xff, 0xff,
			0xff, 0x25, 0x10, 0x20, 0x40, 0, 0x0f, 0x85, 0xf0, 0xff, 0xff, 0xff,
			0xb8, 0x08, 0x10, 0x40, 0, 0xc3, 0x66, 0x90, 0x8d, 0x76, 0, 0xc5, 0xf8, 0x77, 0x62, 0xf1, 0x7c, 0x48, 0x10, 0,
		},
	}
	d := &tables{}
	d.u32(0x401008, 0x401010, 0)
	reloc := d.u32(0x2000, 12, 0x30043000)
	x86.data, x86.dirs = d.b, map[int][2]uint32{5: {reloc, 12}}

	a := &tables{wide: true, b: []byte{8, 0, 0x20, 8, 0xd0, 0x10, 0xe5, 0xe4}}
	at := a.u32(codeRVA, dataRVA, codeRVA+8, 1|4<<2)
	arm := craft{machine: arm64, wide: true, base: 0x140000000, code: make([]byte, 64), data: a.b, dirs: map[int][2]uint32{3: {at, 16}}}

	d = &tables{}
	names := d.pointers(uint64(0x400000+d.hint("late")), 1<<31|7, 0)
	delay := d.u32(0, 0x400000+d.text("late.dll"), 0, 0x400000+d.pointers(0, 0, 0), 0x400000+names, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	old := craft{machine: i386, base: 0x400000, align: 0x20, data: d.b, dirs: map[int][2]uint32{13: {delay, 64}}}
	return [][]byte{everything(), x86.bytes(), arm.bytes(), old.bytes(), craftedSymbols(), enlarge(craftedSymbols())}
}

// read parses an image or an object.
func read(data []byte) (*image.Image, error) {
	if m, err := pe.ParseObject(data); err == nil {
		return m, nil
	}
	return pe.Parse(data)
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := read(data)
		if err != nil {
			return
		}
		if !pe.Is(data) && !pe.IsObject(data) {
			t.Error("Parse reads what Is does not know")
		}
		size := uint64(len(data))
		for _, s := range m.Segments {
			if s.Offset+s.FileSize > size && s.FileSize > 0 {
				t.Errorf("segment %+v in a file of %d bytes", s, size)
			}
		}
		for i := range m.Sections {
			if s := &m.Sections[i]; uint64(len(m.Bytes(s))) != s.FileSize {
				t.Errorf("section %+v has %d bytes in a file of %d", s, len(m.Bytes(s)), size)
			}
		}
		if m.Overlay.Offset+m.Overlay.Size > size {
			t.Errorf("overlay %+v in a file of %d bytes", m.Overlay, size)
		}
		names := 0
		for _, i := range m.Imports {
			names += len(i.Name)
		}
		for _, e := range m.Exports {
			names += len(e.Name) + len(e.Forward)
		}
		// Names of ordinals are ours.
		if most := 3*len(data) + 1<<17 + 40*len(m.Imports); names > most {
			t.Errorf("%d bytes of names from a file of %d", names, size)
		}
		if c := m.Functions.Coverage; !(c >= 0 && c <= 1) {
			t.Errorf("coverage %v", c)
		}
		for i := 1; i < len(m.Functions.List); i++ {
			if m.Functions.List[i-1].Addr >= m.Functions.List[i].Addr {
				t.Fatalf("functions are not in order: %+v", m.Functions.List[i-1:i+1])
			}
		}
		again, _ := read(bytes.Clone(data))
		if len(again.Functions.List) != len(m.Functions.List) || len(again.Notes) != len(m.Notes) || len(again.Imports) != len(m.Imports) {
			t.Error("the same bytes give another image")
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, bench := range []struct {
		name string
		data []byte
	}{
		{"pdata", manyEntries()},
		{"x86", manyCalls()},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.data)))
			for b.Loop() {
				if _, err := pe.Parse(bench.data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// manyEntries makes an x86_64 file of 8 MB of code in 64 thousand functions.
func manyEntries() []byte {
	const n = 1 << 16
	d := &tables{wide: true, b: []byte{1, 0, 0, 0}}
	const base = 0x1000000
	var list []uint32
	for i := range uint32(n) {
		list = append(list, base+128*i, base+128*i+120, dataRVA)
	}
	at := d.u32(list...)
	c := craft{machine: amd64, wide: true, data: d.b, dirs: map[int][2]uint32{3: {at, 12 * n}}}
	c.extra = []craftSection{{"code", 128 * n, base, 128 * n, uint32(len(c.bytes())), codeFlags, make([]byte, 128*n)}}
	return c.bytes()
}

// manyCalls makes an x86 file of 4 MB of code: frames, calls, branches.
func manyCalls() []byte {
	fn := []byte{0x55, 0x8b, 0xec, 0x8b, 0x45, 8, 0x85, 0xc0, 0x74, 6, 0xe8, 0xe1, 0xff, 0xff, 0xff, 0x90, 0x33, 0xc0, 0x5d, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc}
	code := bytes.Repeat(fn, 4<<20/len(fn))
	c := craft{machine: i386, entry: 0x1000000, data: []byte{0}}
	c.extra = []craftSection{{"code", uint32(len(code)), 0x1000000, uint32(len(code)), uint32(len(c.bytes())), codeFlags, code}}
	return c.bytes()
}
