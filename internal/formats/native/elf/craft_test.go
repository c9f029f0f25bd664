package elf_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// base is the address of the first byte of a crafted file, all of which is
// mapped.
const base = 0x10000

// A crafted file is written part by part. Each part is a section.
type crafted struct {
	wide, big    bool
	osabi        byte
	typ, machine uint16
	flags        uint32
	entry        uint64

	body  []byte
	parts []part
	progs []segment
}

type part struct {
	name       string
	typ, flags uint32
	off, size  uint64
	link       uint32
}

type segment struct {
	typ, flags  uint32
	off, filesz uint64
	addr, memsz uint64
}

func craft(wide, big bool, typ, machine uint16) *crafted {
	c := &crafted{wide: wide, big: big, typ: typ, machine: machine}
	c.body = make([]byte, 64)
	c.parts = []part{{}}
	return c
}

func (c *crafted) order() binary.AppendByteOrder {
	if c.big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func (c *crafted) u16(b []byte, v ...uint64) []byte {
	for _, v := range v {
		b = c.order().AppendUint16(b, uint16(v))
	}
	return b
}

func (c *crafted) u32(b []byte, v ...uint64) []byte {
	for _, v := range v {
		b = c.order().AppendUint32(b, uint32(v))
	}
	return b
}

func (c *crafted) word(b []byte, v ...uint64) []byte {
	for _, v := range v {
		if c.wide {
			b = c.order().AppendUint64(b, v)
		} else {
			b = c.order().AppendUint32(b, uint32(v))
		}
	}
	return b
}

// next is the address of the part that is added next.
func (c *crafted) next() uint64 { return base + uint64(len(c.body)+15)&^15 }

// add appends a section and returns its address.
func (c *crafted) add(name string, typ, flags uint32, data []byte) uint64 {
	at := c.next()
	c.body = append(c.body, make([]byte, at-base-uint64(len(c.body)))...)
	c.body = append(c.body, data...)
	c.parts = append(c.parts, part{name: name, typ: typ, flags: flags, off: at - base, size: uint64(len(data))})
	return at
}

// cover adds a program header for the last part.
func (c *crafted) cover(typ uint32) {
	p := c.parts[len(c.parts)-1]
	c.progs = append(c.progs, segment{typ, 4, p.off, p.size, base + p.off, p.size})
}

// bytes returns the file. extended puts the numbers that belong into the header
// into section header 0.
func (c *crafted) bytes(extended bool) []byte {
	var names []byte
	offsets := make([]uint64, len(c.parts)+1)
	for i, p := range c.parts {
		offsets[i] = uint64(len(names))
		names = append(append(names, p.name...), 0)
	}
	offsets[len(c.parts)] = uint64(len(names))
	names = append(names, ".shstrtab\x00"...)
	c.add(".shstrtab", 3, 0, names)
	progs := append([]segment{{1, 7, 0, 0, base, 0}}, c.progs...)
	progs[0].filesz, progs[0].memsz = uint64(len(c.body)), uint64(len(c.body))
	count := len(c.parts)
	phnum, shnum, shstrndx := uint64(len(progs)), uint64(count), uint64(count-1)
	zero := part{}
	if extended {
		zero.size, zero.link = shnum, uint32(shstrndx)
		phnum, shnum, shstrndx = 0xffff, 0, 0xffff
	}
	out := slices.Clone(c.body)
	shoff := uint64(len(out))
	for i, p := range c.parts {
		info := uint64(0)
		if i == 0 {
			p = zero
			if extended {
				info = uint64(len(progs))
			}
		}
		addr := uint64(0)
		if p.flags&2 != 0 {
			addr = base + p.off
		}
		out = c.u32(out, offsets[i], uint64(p.typ))
		out = c.word(out, uint64(p.flags), addr, p.off, p.size)
		out = c.u32(out, uint64(p.link), info)
		out = c.word(out, 1, 0)
	}
	phoff := uint64(len(out))
	for _, p := range progs {
		if c.wide {
			out = c.u32(out, uint64(p.typ), uint64(p.flags))
			out = c.word(out, p.off, p.addr, p.addr, p.filesz, p.memsz, 16)
		} else {
			out = c.u32(out, uint64(p.typ), p.off, p.addr, p.addr, p.filesz, p.memsz, uint64(p.flags), 16)
		}
	}
	class, order, sizes := byte(1), byte(1), []uint64{52, 32, 40}
	if c.wide {
		class, sizes = 2, []uint64{64, 56, 64}
	}
	if c.big {
		order = 2
	}
	head := append([]byte(elf.Magic), class, order, 1, c.osabi)
	head = append(head, make([]byte, 8)...)
	head = c.u16(head, uint64(c.typ), uint64(c.machine))
	head = c.u32(head, 1)
	head = c.word(head, c.entry, phoff, shoff)
	head = c.u32(head, uint64(c.flags))
	head = c.u16(head, sizes[0], sizes[1], phnum, sizes[2], shnum, shstrndx)
	copy(out, head)
	return out
}

// layouts are the four ways to store integers.
var layouts = []struct{ wide, big bool }{{false, false}, {false, true}, {true, false}, {true, true}}

func TestIdentification(t *testing.T) {
	whole := craft(true, false, 2, 62).bytes(false)
	change := func(at int, b ...byte) []byte {
		out := slices.Clone(whole)
		copy(out[at:], b)
		return out
	}
	for _, test := range []struct {
		name  string
		data  []byte
		fails bool
		notes bool
	}{
		{"nothing", nil, true, false},
		{"half of the magic", []byte("\x7fE"), true, false},
		{"another format", []byte("MZ\x90\x00\x03\x00\x00\x00"), true, false},
		{"magic alone", []byte(elf.Magic), true, false},
		{"class without order", []byte("\x7fELF\x02"), true, false},
		{"class and order alone", []byte("\x7fELF\x02\x01"), false, true},
		{"no class", []byte("\x7fELF\x00\x01\x01\x00"), true, false},
		{"no order", append([]byte("\x7fELF\x02\x00"), make([]byte, 100)...), true, false},
		{"whole", whole, false, false},
		{"class forged", change(4, 1), false, true},
		{"class not known", change(4, 9), false, true},
		{"order forged", change(5, 2), false, true},
		{"order not known", change(5, 0), false, true},
		{"both forged", change(4, 1, 2), false, true},
		{"file type not known", change(16, 0x77, 0x77), false, true},
		{"half of the header", whole[:40], false, true},
		{"without tables", whole[:64], false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := elf.Parse(test.data)
			if (err != nil) != test.fails {
				t.Fatalf("error %v, want one: %v", err, test.fails)
			}
			if err != nil {
				return
			}
			if len(m.Notes) > 0 != test.notes {
				t.Errorf("notes %q, want some: %v", m.Notes, test.notes)
			}
			if len(test.data) == len(whole) && (m.Arch != image.X86_64 || m.Bits != 64 || m.BigEndian || len(m.Segments) != 1 || len(m.Sections) != 1) {
				t.Errorf("%s, %d bits, big-endian %v, %d segments, %d sections", m.Arch, m.Bits, m.BigEndian, len(m.Segments), len(m.Sections))
			}
		})
	}
	if elf.Is([]byte("\x7fEL")) || !elf.Is([]byte("\x7fELF")) || elf.Is(nil) {
		t.Error("Is does not know the magic")
	}
}

func TestMachines(t *testing.T) {
	for _, test := range []struct {
		machine   uint16
		wide, big bool
		flags     uint32
		want      image.Arch
	}{
		{62, true, false, 0, image.X86_64},
		{62, false, false, 0, image.X86_64}, // x32
		{3, false, false, 0, image.X86},
		{6, false, false, 0, image.X86},
		{183, true, false, 0, image.AArch64},
		{183, true, true, 0, image.AArch64},
		{40, false, false, 0, image.ARM},
		{40, false, true, 0, image.ARM},
		{243, true, false, 0, image.RISCV64},
		{243, false, false, 0, image.RISCV32},
		{20, false, true, 0, image.PPC},
		{21, true, true, 0, image.PPC64},
		{21, true, false, 0, image.PPC64LE},
		{22, true, true, 0, image.S390X},
		{22, false, true, 0, "elf-machine-22"},
		{8, false, true, 0, image.MIPS},
		{8, false, true, 0x20, image.MIPS64},
		{8, true, false, 0, image.MIPS64},
		{10, false, false, 0, image.MIPS},
		{258, true, false, 0, image.LoongArch},
		{258, false, false, 0, "elf-machine-258"},
		{43, true, true, 0, image.SPARC64},
		{50, true, false, 0, image.IA64},
		{2, false, true, 0, "elf-machine-2"},
		{94, false, false, 0, "elf-machine-94"},
		{0, true, false, 0, "elf-machine-0"},
	} {
		c := craft(test.wide, test.big, 2, test.machine)
		c.flags = test.flags
		m := parse(t, c.bytes(false))
		bits := 32
		if test.wide {
			bits = 64
		}
		if m.Arch != test.want || m.Bits != bits || m.BigEndian != test.big || len(m.Notes) > 0 {
			t.Errorf("machine %d: %s, %d bits, big-endian %v, notes %q; want %s", test.machine, m.Arch, m.Bits, m.BigEndian, m.Notes, test.want)
		}
	}
}

func TestExtendedNumbers(t *testing.T) {
	for _, l := range layouts {
		c := craft(l.wide, l.big, 2, 8)
		c.add(".text", 1, 6, make([]byte, 32))
		c.add(".data", 1, 3, make([]byte, 8))
		m := parse(t, c.bytes(true))
		if len(m.Segments) != 1 || len(m.Sections) != 3 || m.Section(".text") == nil || !m.Section(".text").Code || m.Section(".data") == nil || len(m.Notes) > 0 {
			t.Errorf("%+v: %d segments, sections %+v, notes %q", l, len(m.Segments), m.Sections, m.Notes)
		}
	}
}

// TestPromises takes counts and offsets that the file does not keep.
func TestPromises(t *testing.T) {
	for _, test := range []struct {
		name     string
		forge    func(b []byte)
		sections int
		segments int
	}{
		{"more sections", func(b []byte) { binary.LittleEndian.PutUint16(b[60:], 0xff00) }, 2, 1},
		{"sections outside", func(b []byte) { binary.LittleEndian.PutUint64(b[40:], 1<<40) }, 0, 1},
		{"sections at the end of all", func(b []byte) { binary.LittleEndian.PutUint64(b[40:], math.MaxUint64) }, 0, 1},
		{"small section headers", func(b []byte) { binary.LittleEndian.PutUint16(b[58:], 1) }, 2, 1},
		{"names outside", func(b []byte) { binary.LittleEndian.PutUint16(b[62:], 0x4000) }, 2, 1},
		{"more segments", func(b []byte) { binary.LittleEndian.PutUint16(b[56:], 0xff00) }, 2, 1},
		{"segments outside", func(b []byte) { binary.LittleEndian.PutUint64(b[32:], 1<<40) }, 2, 2},
		{"small program headers", func(b []byte) { binary.LittleEndian.PutUint16(b[54:], 8) }, 2, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := craft(true, false, 2, 62)
			c.add(".text", 1, 6, make([]byte, 32))
			data := c.bytes(false)
			test.forge(data)
			m := parse(t, data)
			if len(m.Notes) == 0 {
				t.Error("no note")
			}
			// without program headers what is mapped are the sections
			if want := test.segments; len(m.Sections) != test.sections || want == 1 && len(m.Segments) != 1 {
				t.Errorf("%d sections, %d segments; want %d, %d", len(m.Sections), len(m.Segments), test.sections, want)
			}
		})
	}
}

func TestOperatingSystems(t *testing.T) {
	note := func(owner string, typ uint64, desc ...uint64) func(c *crafted) {
		return func(c *crafted) {
			b := c.u32(nil, uint64(len(owner)+1), uint64(4*len(desc)), typ)
			b = append(append(b, owner...), 0)
			for len(b)%4 != 0 {
				b = append(b, 0)
			}
			c.add(".note", 7, 2, c.u32(b, desc...))
			c.cover(4)
		}
	}
	interp := func(path string) func(c *crafted) {
		return func(c *crafted) {
			c.add(".interp", 1, 2, []byte(path+"\x00"))
			c.cover(3)
		}
	}
	osabi := func(n byte) func(c *crafted) { return func(c *crafted) { c.osabi = n } }
	needs := func(libraries ...string) func(c *crafted) { return func(c *crafted) { c.dynamic(libraries) } }
	for _, test := range []struct {
		name string
		with func(c *crafted)
		want string
	}{
		{"nothing", func(*crafted) {}, ""},
		{"GNU note", note("GNU", 1, 0, 3, 2, 0), "linux"},
		{"GNU note of Hurd", note("GNU", 1, 1, 0, 0, 0), "hurd"},
		{"GNU note of another kind", note("GNU", 5, 0, 0), ""},
		{"Android note", note("Android", 1, 21), "android"},
		{"FreeBSD note", note("FreeBSD", 1, 1300000), "freebsd"},
		{"NetBSD note", note("NetBSD", 1, 900000000), "netbsd"},
		{"OpenBSD note", note("OpenBSD", 1, 0), "openbsd"},
		{"DragonFly note", note("DragonFly", 1, 500000), "dragonfly"},
		{"note of Go", note("Go\x00", 4, 1), ""},
		{"ABI of FreeBSD", osabi(9), "freebsd"},
		{"ABI of Solaris", osabi(6), "solaris"},
		{"ABI of GNU", osabi(3), "linux"},
		{"ABI of ARM", osabi(97), ""},
		{"glibc loader", interp("/lib64/ld-linux-x86-64.so.2"), "linux"},
		{"musl loader", interp("/lib/ld-musl-aarch64.so.1"), "linux"},
		{"Android loader", interp("/system/bin/linker64"), "android"},
		{"FreeBSD loader", interp("/libexec/ld-elf.so.1"), "freebsd"},
		{"NetBSD loader", interp("/usr/libexec/ld.elf_so"), "netbsd"},
		{"OpenBSD loader", interp("/usr/libexec/ld.so"), "openbsd"},
		{"unknown loader", interp("/opt/loader"), ""},
		{"glibc", needs("libm.so.6", "libc.so.6"), "linux"},
		{"musl", needs("libc.musl-x86_64.so.1"), "linux"},
		{"musl by its own name", needs("libstdc++.so.6", "libc.so"), "linux"},
		{"some libc", needs("libc.so"), ""},
		{"Android libraries", needs("libc.so", "liblog.so"), "android"},
	} {
		for _, l := range layouts {
			c := craft(l.wide, l.big, 3, 62)
			test.with(c)
			if m := parse(t, c.bytes(false)); m.OS != test.want {
				t.Errorf("%s: %+v: %q, want %q; notes %q", test.name, l, m.OS, test.want, m.Notes)
			}
		}
	}
}

// dynamic adds a dynamic table with the needed libraries and other entries.
func (c *crafted) dynamic(libraries []string, entries ...uint64) {
	strs := []byte{0}
	var table []byte
	for _, l := range libraries {
		table = c.word(table, 1, uint64(len(strs)))
		strs = append(append(strs, l...), 0)
	}
	at := c.add(".dynstr", 3, 2, strs)
	table = c.word(table, 5, at, 10, uint64(len(strs)))
	c.add(".dynamic", 6, 3, c.word(c.word(table, entries...), 0, 0))
	c.cover(2)
}

// TestTruncated cuts a file off at every place: what is left is read, and a
// note says that there was more.
func TestTruncated(t *testing.T) {
	for _, l := range layouts {
		c := craft(l.wide, l.big, 3, 62)
		c.add(".text", 1, 6, make([]byte, 32))
		c.dynamic([]string{"libc.so.6"})
		data := c.bytes(false)
		for n := 6; n < len(data); n++ {
			if m := parse(t, data[:n]); len(m.Notes) == 0 {
				t.Errorf("%+v: %d of %d bytes: no note", l, n, len(data))
			}
		}
		if m := parse(t, data); len(m.Notes) != 0 {
			t.Errorf("%+v: whole file: notes %q", l, m.Notes)
		}
	}
}

func TestOverlay(t *testing.T) {
	for _, l := range layouts {
		c := craft(l.wide, l.big, 2, 62)
		c.add(".text", 1, 6, make([]byte, 32))
		data := c.bytes(false)
		if m := parse(t, data); m.Overlay.Size != 0 {
			t.Errorf("%+v: overlay %+v, want none", l, m.Overlay)
		}
		want := image.Range{Offset: uint64(len(data)), Size: 5}
		if m := parse(t, append(data, "extra"...)); m.Overlay != want {
			t.Errorf("%+v: overlay %+v, want %+v", l, m.Overlay, want)
		}
	}
}

func TestSignedModule(t *testing.T) {
	c := craft(true, false, 1, 62)
	c.add(".gnu.linkonce.this_module", 1, 3, make([]byte, 32))
	m := parse(t, append(c.bytes(false), "signature~Module signature appended~\n"...))
	if !m.Signed || m.Kind != image.Driver || m.OS != "linux" {
		t.Errorf("signed %v, %s, %s", m.Signed, m.Kind, m.OS)
	}
}

// TestFrames reads call frame descriptions in each encoding.
func TestFrames(t *testing.T) {
	pad := func(b []byte, n int) []byte {
		for len(b)%n != 0 {
			b = append(b, 0)
		}
		return b
	}
	// entries returns one common entry and two descriptions, at address at, of
	// functions at text+8 and text+24 with 5 and 7 bytes.
	entries := func(c *crafted, at, text, pointer uint64, augmentation string, encoding byte, long bool) []byte {
		entry := func(out, body []byte) []byte {
			body = pad(body, 8)
			if long {
				out = c.u32(out, 0xffffffff)
				out = c.order().AppendUint64(out, uint64(len(body)))
			} else {
				out = c.u32(out, uint64(len(body)))
			}
			return append(out, body...)
		}
		cie := c.u32(nil, 0)
		cie = append(append(cie, 1), augmentation...)
		cie = append(cie, 0)
		if augmentation == "eh" {
			cie = c.word(cie, 0)
		}
		cie = append(cie, 1, 0x78, 16)
		if strings.HasPrefix(augmentation, "z") {
			var data []byte
			for _, a := range augmentation[1:] {
				switch a {
				case 'P':
					data = c.u32(append(data, 0x1b), 0x1234)
				case 'L':
					data = append(data, 0x1b)
				case 'R':
					data = append(data, encoding)
				}
			}
			cie = append(append(cie, byte(len(data))), data...)
		}
		out := entry(nil, cie)
		lead := uint64(4)
		if long {
			lead = 12
		}
		for i, f := range []struct{ start, size uint64 }{{text + 8, 5}, {text + 24, 7}} {
			field := at + uint64(len(out)) + lead + 4
			v := f.start
			switch encoding & 0x70 {
			case 0x10:
				v -= field
			case 0x50:
				v = f.start
			}
			if encoding&0x80 != 0 {
				v = pointer + uint64(i)*8 - field
			}
			body := c.u32(nil, uint64(len(out))+lead)
			for n, v := range []uint64{v, f.size} {
				switch encoding & 0x0f {
				case 0:
					if encoding&0x70 == 0x50 && n == 0 {
						for (at+uint64(len(out))+lead+uint64(len(body)))%uint64(len(c.word(nil, 0))) != 0 {
							body = append(body, 0)
						}
					}
					body = c.word(body, v)
				case 1:
					body = binary.AppendUvarint(body, v)
				case 9:
					body = append(body, byte(v&0x7f|0x80), byte(v>>7&0x7f|0x80), byte(v>>14&0x7f|0x80), byte(v>>21&0x7f))
				case 2, 10:
					body = c.u16(body, v)
				case 3, 11:
					body = c.u32(body, v)
				case 4, 12:
					body = c.order().AppendUint64(body, v)
				}
			}
			out = entry(out, append(body, 0))
			if i == 0 {
				out = c.u32(out, 0) // as linkers leave between files
			}
		}
		return out
	}
	for _, test := range []struct {
		augmentation string
		encoding     byte
		long         bool
	}{
		{"", 0, false}, {"eh", 0, false}, {"zR", 0, false}, {"zR", 0x1b, false}, {"zR", 0x10, false}, {"zR", 0x1b, true},
		{"zPLR", 0x1b, false}, {"zPLR", 0x03, false}, {"zR", 0x0b, false}, {"zR", 0x04, false}, {"zR", 0x0c, false}, {"zR", 0x1c, false},
		{"zR", 0x01, false}, {"zR", 0x19, false}, {"zR", 0x1a, false}, {"zR", 0x50, false}, {"zR", 0x9b, false}, {"zRS", 0x1b, false}, {"zRB", 0x1b, false},
	} {
		for _, l := range layouts {
			t.Run(fmt.Sprintf("%s %#x long %v %+v", test.augmentation, test.encoding, test.long, l), func(t *testing.T) {
				c := craft(l.wide, l.big, 3, 62)
				text := c.add(".text", 1, 6, make([]byte, 64))
				pointer := c.add(".data", 1, 3, pad(c.word(pad(c.word(nil, text+8), 8), text+24), 8))
				at := c.next()
				c.add(".eh_frame", 1, 2, append(entries(c, at, text, pointer, test.augmentation, test.encoding, test.long), 0, 0, 0, 0))
				head := c.next()
				c.add(".eh_frame_hdr", 1, 2, c.u32([]byte{1, 0x1b, 0xff, 0xff}, at-head-4))
				c.cover(0x6474e550)
				m := parse(t, c.bytes(false))
				want := []image.Function{{Addr: text + 8, Size: 5}, {Addr: text + 24, Size: 7}}
				if !slices.Equal(m.Functions.List, want) || m.Functions.Method != "eh_frame" || m.Functions.Count != 2 {
					t.Errorf("functions %+v by %s, want %+v; notes %q", m.Functions.List, m.Functions.Method, want, m.Notes)
				}
				if want := 12.0 / 64; m.Functions.Coverage != want {
					t.Errorf("coverage %v, want %v", m.Functions.Coverage, want)
				}
				// Without a search table and sections the first terminator ends it.
				if m := parse(t, withoutSections(c.bytes(false))); len(m.Functions.List) != 1 || m.Functions.List[0] != want[0] {
					t.Errorf("without sections: functions %+v, want %+v; notes %q", m.Functions.List, want[:1], m.Notes)
				}
			})
		}
	}
}

// TestDescriptors follows the function descriptors of the first ABI of 64-bit
// PowerPC.
func TestDescriptors(t *testing.T) {
	c := craft(true, true, 2, 21)
	text := c.add(".text", 1, 6, make([]byte, 64))
	opd := c.add(".opd", 1, 3, c.word(nil, text+16, 0, 0, text+32, 0, 0))
	strs := c.add(".strtab", 3, 0, []byte("\x00main\x00"))
	link := uint32(len(c.parts) - 1)
	symbol := c.u32(nil, 1)
	symbol = append(symbol, 0x12, 0)
	symbol = c.word(c.u16(symbol, 1), opd+24, 16)
	c.add(".symtab", 2, 0, append(make([]byte, 24), symbol...))
	c.parts[len(c.parts)-1].link = link
	c.entry = opd
	m := parse(t, c.bytes(false))
	if m.Entry != text+16 {
		t.Errorf("entry %#x, want %#x (strings at %#x)", m.Entry, text+16, strs)
	}
	if want := (image.Symbol{Name: "main", Addr: text + 32, Size: 16, Func: true}); len(m.Symbols) != 1 || m.Symbols[0] != want {
		t.Errorf("symbols %+v, want %+v", m.Symbols, want)
	}
	if n := len(m.Functions.List); n != 2 || m.Functions.List[1].Name != "main" {
		t.Errorf("functions %+v", m.Functions.List)
	}
}

// TestHostile takes files made to cost much, and limits what they may cost.
func TestHostile(t *testing.T) {
	const size = 2 << 20
	for _, test := range []struct {
		name string
		make func() []byte
	}{
		{"many segments of the same notes", func() []byte {
			c := craft(true, false, 2, 62)
			c.add(".note", 7, 2, make([]byte, size))
			for range 60000 {
				c.cover(4)
			}
			return c.bytes(false)
		}},
		{"many segments of the same code", func() []byte {
			c := craft(false, false, 3, 40)
			c.add(".text", 1, 6, slices.Repeat([]byte{0x00, 0xf0, 0x00, 0xf8}, size/4))
			for i := range 60000 {
				c.progs = append(c.progs, segment{1, 5, 0, size, uint64(i+1) << 16, size})
			}
			return withoutSections(c.bytes(false))
		}},
		{"many sections of stubs", func() []byte {
			c := craft(false, false, 3, 40)
			c.add(".plt", 1, 6, slices.Repeat([]byte{0x00, 0xc6, 0x8f, 0xe2}, size/4))
			for range 60000 {
				c.parts = append(c.parts, c.parts[len(c.parts)-1])
			}
			return c.bytes(false)
		}},
		{"long names of many symbols", func() []byte {
			c := craft(true, false, 2, 62)
			c.add(".text", 1, 6, make([]byte, 64))
			c.add(".strtab", 3, 0, append(slices.Repeat([]byte("a"), size), 0))
			link := uint32(len(c.parts) - 1)
			symbol := append(c.u32(nil, size-60000), 0x12, 0)
			symbol = c.word(c.u16(symbol, 1), base+64, 1)
			c.add(".symtab", 2, 0, slices.Repeat(symbol, size/len(symbol)))
			c.parts[len(c.parts)-1].link = link
			return c.bytes(false)
		}},
		{"packed relocations without end", func() []byte {
			c := craft(true, false, 3, 62)
			at := c.add(".rela.dyn", 1, 2, append([]byte("APS2"), slices.Concat(
				[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0}, // relocations, offset
				[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f},    // in this group
				[]byte{3, 8, 6})...))
			c.dynamic(nil, 0x60000011, at, 0x60000012, 30)
			return c.bytes(false)
		}},
		{"versions in a circle", func() []byte {
			c := craft(true, false, 3, 62)
			at := c.add(".gnu.version_r", 1, 2, slices.Repeat(c.u32(c.u16(nil, 1, 0xffff), 1, 1, 1), size/16))
			c.dynamic([]string{"a"}, 0x6ffffffe, at, 0x6fffffff, 1<<32-1)
			return c.bytes(false)
		}},
		{"descriptions of one common entry after another", func() []byte {
			c := craft(true, false, 3, 62)
			c.add(".text", 1, 6, make([]byte, 64))
			c.add(".eh_frame", 1, 2, slices.Repeat(c.u32(nil, 16, 4, 0, 0, 0), size/20))
			return c.bytes(false)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := test.make()
			start := time.Now()
			m := parse(t, data)
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("%d bytes took %v", len(data), d)
			}
			if len(m.Symbols) > len(data)/16 || len(m.Functions.List) > len(data) || len(m.Versions) > 1<<15 {
				t.Errorf("%d symbols, %d functions, %d versions from %d bytes", len(m.Symbols), len(m.Functions.List), len(m.Versions), len(data))
			}
		})
	}
}
