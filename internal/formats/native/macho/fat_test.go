package macho_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
)

func object(cpu uint32) []byte {
	b := &build{wide: true, cpu: cpu, kind: 1}
	b.symtab(nil, sym{name: "_f", kind: 0x01})
	return b.bytes()
}

func TestFat(t *testing.T) {
	x64, arm := executable(false, true, cpuX64), executable(false, true, cpuARM64)
	for _, wide := range []bool{false, true} {
		data := fat(wide, []uint32{cpuX64, cpuARM64}, x64, arm)
		images, err := macho.Parse(data)
		if err != nil || len(images) != 2 {
			t.Fatalf("wide %v: %d images, %v; want 2", wide, len(images), err)
		}
		for i, want := range []image.Arch{image.X86_64, image.AArch64} {
			m := images[i]
			if m.Arch != want || m.Offset%0x1000 != 0 || string(m.Data) != string(data[m.Offset:][:len(m.Data)]) || len(m.Data) != len(x64) || len(m.Notes) > 0 {
				t.Errorf("wide %v, slice %d: %s at %#x with %d bytes, notes %q", wide, i, m.Arch, m.Offset, len(m.Data), m.Notes)
			}
		}
	}
}

func TestFatDamage(t *testing.T) {
	x64 := executable(false, true, cpuX64)
	whole := fat(false, []uint32{cpuX64, cpuX64}, x64, x64)
	put := func(at int, v uint32) []byte {
		data := append([]byte(nil), whole...)
		binary.BigEndian.PutUint32(data[at:], v)
		return data
	}
	for _, test := range []struct {
		name   string
		data   []byte
		images int
		want   string // in a note of the first image
	}{
		{"slice outside of the file", put(8+20+8, 0xffff_0000), 1, "0 of"},
		{"slice cut off", whole[:len(whole)-100], 2, ""},
		{"slice that is no Mach-O file", put(8+20+8, 0x100), 1, "no Mach-O magic"},
		{"other machine than the header says", put(8, cpuARM64), 2, "fat header says aarch64"},
		{"bytes behind the slices", append(append([]byte(nil), whole...), "payload"...), 2, "7 bytes behind"},
		{"zeros behind the slices", append(append([]byte(nil), whole...), 0, 0, 0), 2, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			images, err := macho.Parse(test.data)
			if err != nil || len(images) != test.images {
				t.Fatalf("%d images, %v; want %d", len(images), err, test.images)
			}
			if notes := strings.Join(images[0].Notes, "\n"); !strings.Contains(notes, test.want) {
				t.Errorf("notes %q; want one with %q", notes, test.want)
			}
		})
	}
	if images, err := macho.Parse(whole[:0x100]); err == nil {
		t.Errorf("without slices: %d images; want an error", len(images))
	}
	// All slices on the same bytes must not multiply the work.
	cpus := make([]uint32, 40)
	slices := make([][]byte, 40)
	for i := range cpus {
		cpus[i] = cpuX64
	}
	slices[0] = x64
	data := fat(false, cpus, slices...)
	for i := range cpus {
		copy(data[8+20*i:][8:16], data[8+8:][:8])
	}
	images, err := macho.Parse(data)
	if err != nil || len(images) > 20 || !strings.Contains(strings.Join(images[0].Notes, "\n"), "overlap") {
		t.Errorf("overlapping slices: %d images, %v; want few and a note", len(images), err)
	}
}

// TestFatStaticLibrary reads the objects of an archive in a slice.
func TestFatStaticLibrary(t *testing.T) {
	archive := "!<arch>\n"
	for _, member := range []struct {
		name string
		data []byte
	}{{"one.o", object(cpuARM64)}, {"readme", []byte("text")}, {"two.o", object(cpuARM64)}} {
		archive += fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", member.name, 0, 0, 0, 0o644, len(member.data), member.data)
	}
	data := fat(false, []uint32{cpuX64, cpuARM64}, executable(false, true, cpuX64), []byte(archive))
	images, err := macho.Parse(data)
	if err != nil || len(images) != 3 {
		t.Fatalf("%d images, %v; want 3", len(images), err)
	}
	for i, want := range []string{"one.o", "two.o"} {
		m := images[i+1]
		if m.Name != want || m.Kind != image.Object || binary.LittleEndian.Uint32(data[m.Offset:]) != 0xfeedfacf {
			t.Errorf("object %d: %q, %s at %#x; want %q", i, m.Name, m.Kind, m.Offset, want)
		}
		equal(t, "imports", m.ImportNames(), []string{"f"})
	}
	if n := images[1].Notes; len(n) != 1 || !strings.Contains(n[0], "1 members") {
		t.Errorf("notes %q; want one on the member that is no object", n)
	}
}
