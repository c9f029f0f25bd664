package upx_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/formats/carve/upx"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
)

func build(t testing.TB, d synth.Description) []byte {
	t.Helper()
	data, err := synth.Build(d)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// program is an ELF file with calls and jumps of all kinds in it.
func program(t testing.TB) []byte {
	var code []byte
	for i := range 900 {
		op := []string{"\xe8", "\xe9", "\x0f\x84", "\x0f\x8d", "\x90\x90\x48", "\x55\xe8"}[i*7%6]
		code = append(code, op...)
		code = binary.LittleEndian.AppendUint32(code, uint32(i*13%2000-len(code)+300))
		code = append(code, "\x90\xc3"...)
	}
	return build(t, synth.Description{
		Format: "elf", Kind: "executable", Strings: []string{strings.Repeat("text ", 500)},
		Sections: []synth.Section{{Name: ".extra", Flags: "rx", Content: synth.Content{Hex: code}}, {Name: ".noise", Content: synth.Content{Random: 9000}}},
	})
}

var methods = []byte{2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16}

func TestELF(t *testing.T) {
	file := program(t)
	for _, method := range methods {
		for _, id := range []byte{0, 0x11, 0x13, 0x16, 0x24, 0x26, 0x36, 0x46, 0x49} {
			packed := packELF(t, method, id, file)
			if !upx.Is(packed) {
				t.Fatalf("method %d, filter %#x: not recognised", method, id)
			}
			got, err := upx.Unpack(packed)
			if err != nil || !bytes.Equal(got, file) {
				t.Errorf("method %d, filter %#x: %d of %d bytes, %v", method, id, len(got), len(file), err)
			}
		}
	}
}

// TestELFWithoutTrailer finds the blocks behind the first mark.
func TestELFWithoutTrailer(t *testing.T) {
	file := program(t)
	packed := packELF(t, 8, 0x49, file)
	got, err := upx.Unpack(packed[:len(packed)-36])
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("%d of %d bytes, %v", len(got), len(file), err)
	}
}

// TestPE packs a PE file as UPX does: its memory, then its headers, then the
// list of imports whose names were taken out of it.
func TestPE(t *testing.T) {
	for _, arch := range []string{"x86_64", "x86"} {
		for _, method := range methods {
			t.Run(fmt.Sprint(arch, " ", method), func(t *testing.T) {
				file := build(t, synth.Description{
					Format: "pe", Arch: synth.List{arch}, Strings: []string{strings.Repeat("text ", 500)},
					Imports: []synth.Import{{Name: "CreateFileW", Library: "KERNEL32.dll"}, {Name: "ReadFile", Library: "KERNEL32.dll"}, {Name: "connect", Library: "WS2_32.dll"}},
				})
				packed := packPE(t, method, file)
				if !upx.Is(packed) {
					t.Fatal("not recognised")
				}
				got, err := upx.Unpack(packed)
				if err != nil {
					t.Fatal(err)
				}
				want, err := pe.Parse(file)
				if err != nil {
					t.Fatal(err)
				}
				m, err := pe.Parse(got)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want.Imports, m.Imports); diff != "" || len(m.Imports) != 3 {
					t.Errorf("imports (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(want.Sections, m.Sections); diff != "" {
					t.Errorf("sections (-want +got):\n%s", diff)
				}
				for i := range want.Sections {
					if name := want.Sections[i].Name; !bytes.Equal(want.Bytes(&want.Sections[i]), m.Bytes(&m.Sections[i])) {
						t.Errorf("section %s differs", name)
					}
				}
			})
		}
	}
}

// packPE packs a PE file.
func packPE(t testing.TB, method byte, file []byte) []byte {
	t.Helper()
	le := binary.LittleEndian
	at := int(le.Uint32(file[0x3c:]))
	size, dirs := 0x108, 24+112
	step := 8
	if le.Uint16(file[at+24:]) == 0x10b {
		size, dirs, step = 0xf8, 24+96, 4
	}
	count := int(le.Uint16(file[at+6:]))
	table := at + size
	low := le.Uint32(file[table+12:])
	var memory []byte
	for i := range count {
		s := file[table+40*i:]
		addr, raw, off := int(le.Uint32(s[12:])), int(le.Uint32(s[16:])), int(le.Uint32(s[20:]))
		memory = append(memory, make([]byte, addr-int(low)-len(memory))...)
		memory = append(memory, file[off:off+raw]...)
	}
	// Take the names of imports out of the memory, and put them into a list.
	text := func(addr uint32) string {
		name, _, _ := strings.Cut(string(memory[addr-low:]), "\x00")
		clear(memory[addr-low : int(addr-low)+len(name)])
		return name
	}
	var list, names []byte
	descriptors := le.Uint32(file[at+dirs+8:])
	for d := descriptors - low; descriptors != 0 && le.Uint32(memory[d+12:]) != 0; d += 20 {
		list = le.AppendUint32(list, 0x400+uint32(len(names)))
		names = append(append(names, text(le.Uint32(memory[d+12:]))...), 0)
		iat := le.Uint32(memory[d+16:]) - low
		list = le.AppendUint32(list, iat)
		for slot := iat; le.Uint32(memory[slot:]) != 0 || memory[int(slot)+step-1] != 0; slot += uint32(step) {
			v := le.Uint32(memory[slot:])
			if memory[int(slot)+step-1]&0x80 != 0 {
				list = append(list, 0xff, byte(v), byte(v>>8))
				clear(memory[slot : int(slot)+step])
				continue
			}
			list = append(append(append(list, 1), text(v+2)...), 0)
		}
		list = append(list, 0)
	}
	listAt := uint32(len(memory))
	memory = append(append(memory, list...), 0, 0, 0, 0)
	headers := uint32(len(memory))
	memory = append(memory, file[at:at+size+40*count]...)
	memory = le.AppendUint32(memory, listAt)
	memory = le.AppendUint32(memory, 0) // names go back to where they were
	memory = le.AppendUint32(memory, headers)

	// The packed file: headers with three sections, PackHeader, data, imports.
	packed := compress(t, method, memory)
	out := bytes.Clone(file[:at+size])
	le.PutUint16(out[at+6:], 3)
	data := uint32(len(out) + 3*40 + 32)
	third := data + uint32(len(packed))
	rva := low + uint32(len(memory)+0xfff)&^0xfff
	section := func(name string, addr, raw, off uint32) {
		s := make([]byte, 40)
		copy(s, name)
		le.PutUint32(s[8:], raw)
		le.PutUint32(s[12:], addr)
		le.PutUint32(s[16:], raw)
		le.PutUint32(s[20:], off)
		out = append(out, s...)
	}
	imports := rva + uint32(len(packed)+0xfff)&^0xfff
	section("UPX0", low, 0, 0)
	section("UPX1", rva, uint32(len(packed)), data)
	section(".rsrc", imports, uint32(0x400+len(names)), third)
	le.PutUint32(out[at+dirs+8:], imports)
	out = append(out, packHeader(method, memory, packed)...)
	out = append(append(out, packed...), make([]byte, 0x400)...)
	return append(out, names...)
}

// TestDamaged cuts and changes packed files: nothing may be made of them that
// looks whole, or at worst something else.
func TestDamaged(t *testing.T) {
	file := program(t)
	elf := packELF(t, 8, 0x49, file)
	exe := packPE(t, 8, build(t, synth.Description{Format: "pe", Strings: []string{strings.Repeat("text ", 500)}}))
	for _, packed := range [][]byte{elf, exe} {
		for n := 0; n < len(packed); n += 1 + len(packed)/200 {
			if got, err := upx.Unpack(packed[:n]); err == nil && bytes.Equal(got, file) && n < len(packed)-36-12 {
				t.Errorf("%d of %d bytes are enough", n, len(packed))
			}
			changed := bytes.Clone(packed)
			changed[n] ^= 0x55
			upx.Unpack(changed)
		}
	}
	changed := bytes.Clone(exe)
	changed[len(changed)-0x480] ^= 1
	if _, err := upx.Unpack(changed); err == nil {
		t.Error("a wrong checksum went unseen")
	}
	huge := bytes.Clone(elf)
	binary.LittleEndian.PutUint32(huge[64+56+12+4:], 1<<29) // p_filesize
	if _, err := upx.Unpack(huge[:len(huge)-36]); err == nil {
		t.Error("a small file unpacks to 512 MB")
	}
	for _, plain := range [][]byte{nil, file, []byte("UPX!"), []byte("MZ UPX!"), []byte("\x7fELF UPX!")} {
		if upx.Is(plain) {
			t.Errorf("%.20q is taken for packed", plain)
		}
		if _, err := upx.Unpack(plain); err == nil {
			t.Errorf("%.20q was unpacked", plain)
		}
	}
}

func TestNewReader(t *testing.T) {
	file := program(t)
	r, err := upx.NewReader(bytes.NewReader(packELF(t, 14, 0, file)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, file) {
		t.Errorf("%d of %d bytes, %v", len(got), len(file), err)
	}
	if _, err := upx.NewReader(strings.NewReader("nothing")); err == nil {
		t.Error("nothing was unpacked")
	}
}

func FuzzUnpack(f *testing.F) {
	file := program(f)
	for _, method := range methods {
		f.Add(packELF(f, method, 0x49, file))
	}
	f.Add(packPE(f, 8, build(f, synth.Description{Format: "pe", Imports: []synth.Import{{Name: "ReadFile", Library: "KERNEL32.dll"}}})))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := upx.Unpack(data); err == nil && len(got) == 0 {
			t.Error("nothing came out, without an error")
		}
	})
}
