package macho_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
)

const (
	cpuX86   = 7
	cpuX64   = 0x0100_0007
	cpuARM   = 12
	cpuARM64 = 0x0100_000c
	cpuPPC   = 18
)

// one parses a thin file.
func one(t *testing.T, data []byte) *image.Image {
	t.Helper()
	images, err := macho.Parse(data)
	if err != nil || len(images) != 1 {
		t.Fatalf("Parse: %d images, %v; want one", len(images), err)
	}
	return images[0]
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// imports prints imports as "name library slot stub weak".
func imports(m *image.Image) []string {
	var list []string
	for _, i := range m.Imports {
		s := fmt.Sprintf("%s %s %#x %#x", i.Name, i.Library, i.Slot, i.Stub)
		for _, more := range i.MoreSlots {
			s += fmt.Sprintf(" +%#x", more)
		}
		if i.Weak {
			s += " weak"
		}
		list = append(list, s)
	}
	return list
}

func exports(m *image.Image) []string {
	var list []string
	for _, e := range m.Exports {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %#x %v %s", e.Name, e.Addr, e.Data, e.Forward)))
	}
	return list
}

func functions(m *image.Image) []string {
	var list []string
	for _, f := range m.Functions.List {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%#x+%#x %s", f.Addr, f.Size, f.Name)))
	}
	return list
}

func TestIs(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     bool
	}{
		{"64-bit", "\xcf\xfa\xed\xfe", true},
		{"32-bit", "\xce\xfa\xed\xfe\x00\x00", true},
		{"32-bit big-endian", "\xfe\xed\xfa\xce", true},
		{"64-bit big-endian", "\xfe\xed\xfa\xcf", true},
		{"fat", "\xca\xfe\xba\xbe\x00\x00\x00\x02\x01\x00\x00\x07", true},
		{"fat with 64-bit offsets", "\xca\xfe\xba\xbf\x00\x00\x00\x01\x01\x00\x00\x0c", true},
		{"Java 1.1", "\xca\xfe\xba\xbe\x00\x03\x00\x2d\x00\x10\x0a\x00", false},
		{"Java 17", "\xca\xfe\xba\xbe\x00\x00\x00\x3d\x00\x10\x0a\x00", false},
		{"fat without slices", "\xca\xfe\xba\xbe\x00\x00\x00\x00\x01\x00\x00\x07", false},
		{"fat for no machine", "\xca\xfe\xba\xbe\x00\x00\x00\x02\x00\x00\x00\x63", false},
		{"fat, too short to say", "\xca\xfe\xba\xbe\x00\x00\x00\x02", false},
		{"ELF", "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00", false},
		{"empty", "", false},
	} {
		if got := macho.Is([]byte(test.in)); got != test.want {
			t.Errorf("%s: Is = %v, want %v", test.name, got, test.want)
		}
	}
}

// executable builds a file with most of what a linker writes, in the given
// width and byte order.
func executable(big, wide bool, cpu uint32) []byte {
	b := &build{big: big, wide: wide, cpu: cpu, kind: 2, flags: 0x200085}
	code := b.put(make([]byte, 64))
	ptrs := b.put(make([]byte, 32))
	b.segment("__PAGEZERO", 0, 0x10000, 0, 0, 0)
	b.segment("__TEXT", 0x10000, 0x2000, 0, blobs+96, 5,
		sect{name: "__text", segment: "__TEXT", addr: 0x11000, size: 48, off: code, flags: 0x80000400},
		sect{name: "__stubs", segment: "__TEXT", addr: 0x11030, size: 16, off: code + 48, flags: 0x80000408, r1: 0, r2: 8})
	b.segment("__DATA", 0x20000, 0x1000, uint(ptrs), 32, 3,
		sect{name: "__la_symbol_ptr", segment: "__DATA", addr: 0x20000, size: 16, off: ptrs, flags: 7, r1: 2},
		sect{name: "__bss", segment: "__DATA", addr: 0x20100, size: 64, off: 0, flags: 1})
	b.dylib(0xc, "/usr/lib/libSystem.B.dylib")
	b.dylib(0x80000018, "@rpath/libweak.dylib")
	b.dylib(0xd, "@rpath/self.dylib")
	b.str(0xe, "/usr/lib/dyld")
	b.str(0x8000001c, "@loader_path/../lib")
	b.command(0x1b, []byte("0123456789abcdef"))
	b.command(0x32, uint32(1), uint32(0xb0000), uint32(0xc0000), uint32(2), uint32(3), uint32(0x2b60301), uint32(1), uint32(0x5dc0300))
	b.command(0x2a, uint64(1<<40|2<<30|3<<20))
	b.command(0x80000028, uint64(0x1010), uint64(0))
	b.symtab([]uint32{3, 4, 3, 4},
		sym{name: "/src/main.c", kind: 0x64},
		sym{name: "_local", kind: 0x0e, sect: 1, value: 0x11000},
		sym{name: "_main", kind: 0x0f, sect: 1, value: 0x11010},
		sym{name: "_connect", kind: 0x01, desc: 0x0101},
		sym{name: "_maybe", kind: 0x01, desc: 0x0240},
		sym{name: "_host", kind: 0x01, desc: 0xff00},
		sym{name: "_any", kind: 0x01, desc: 0xfe00},
	)
	b.linkedit(0x26, append(uleb(0x1000, 0x10, 0x14), 0))
	b.linkedit(0x1d, []byte("\xfa\xde\x0c\xc0\x00\x00\x00\x14\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x14"))
	return b.bytes()
}

// TestExecutable reads the same file in every width and byte order.
func TestExecutable(t *testing.T) {
	for _, test := range []struct {
		name      string
		big, wide bool
		cpu       uint32
		arch      image.Arch
	}{
		{"little 64", false, true, cpuX64, image.X86_64},
		{"little 32", false, false, cpuX86, image.X86},
		{"big 32", true, false, cpuPPC, image.PPC},
		{"big 64", true, true, 0x0100_0012, image.PPC64},
		{"unknown machine", false, true, 99, "macho-cpu-99"},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := executable(test.big, test.wide, test.cpu)
			m := one(t, data)
			bits, pointer := 32, 4
			if test.wide {
				bits, pointer = 64, 8
			}
			if m.Format != image.MachO || m.Arch != test.arch || m.Bits != bits || m.BigEndian != test.big || m.Kind != image.Executable || m.OS != "darwin" {
				t.Errorf("%s %s %d big=%v %s %s", m.Format, m.Arch, m.Bits, m.BigEndian, m.Kind, m.OS)
			}
			if m.Base != 0x10000 || m.Entry != 0x11010 || m.Interp != "/usr/lib/dyld" || m.Name != "@rpath/self.dylib" || m.BuildID != "30313233343536373839616263646566" {
				t.Errorf("base %#x, entry %#x, interp %q, name %q, build id %q", m.Base, m.Entry, m.Interp, m.Name, m.BuildID)
			}
			if m.Stripped || !m.Signed || m.Linkage != image.Dynamic || m.Overlay.Size != 0 || len(m.Notes) > 0 {
				t.Errorf("stripped %v, signed %v, linkage %q, overlay %v, notes %q", m.Stripped, m.Signed, m.Linkage, m.Overlay, m.Notes)
			}
			equal(t, "libraries", m.Libraries, []string{"/usr/lib/libSystem.B.dylib", "@rpath/libweak.dylib"})
			equal(t, "run paths", m.RunPaths, []string{"@loader_path/../lib"})
			equal(t, "compilers", m.Compilers, []string{"ld 694.3.1", "clang 1500.3", "source version 1.2.3"})
			equal(t, "imports", imports(m), []string{
				"connect /usr/lib/libSystem.B.dylib 0x20000 0x11030",
				fmt.Sprintf("maybe @rpath/libweak.dylib %#x 0x11038 weak", 0x20000+pointer),
				"host main-executable 0x0 0x0",
				"any flat-namespace 0x0 0x0",
			})
			equal(t, "exports", exports(m), []string{"main 0x11010 false"})
			equal(t, "functions", functions(m), []string{"0x11000+0x10 local", "0x11010+0x14 main", "0x11024+0xc"})
			if m.Functions.Method != "function-starts" || m.Functions.Count != 3 || m.Functions.Coverage != 1 {
				t.Errorf("functions: %q, %d, coverage %v", m.Functions.Method, m.Functions.Count, m.Functions.Coverage)
			}
			equal(t, "symbols", m.Symbols, []image.Symbol{{Name: "local", Addr: 0x11000, Func: true}, {Name: "main", Addr: 0x11010, Func: true}})
			var sections []string
			for _, s := range m.Sections {
				sections = append(sections, fmt.Sprintf("%s %s %v %#x", s.Name, s.Access, s.Code, s.FileSize))
			}
			equal(t, "sections", sections, []string{
				"__TEXT,__text r-x true 0x30", "__TEXT,__stubs r-x true 0x10", "__DATA,__la_symbol_ptr rw- false 0x10", "__DATA,__bss rw- false 0x0",
			})
			if off, ok := m.FileOffset(0x11000); !ok || off != blobs {
				t.Errorf("FileOffset(0x11000) = %#x, %v; want %#x", off, ok, blobs)
			}
		})
	}
}

func TestPlatforms(t *testing.T) {
	for _, test := range []struct {
		cmd, platform, cpu uint32
		want               string
	}{
		{0x32, 1, cpuX64, "darwin"},
		{0x32, 2, cpuARM64, "ios"},
		{0x32, 6, cpuARM64, "maccatalyst"},
		{0x32, 7, cpuARM64, "ios-simulator"},
		{0x32, 11, cpuARM64, "visionos"},
		{0x32, 77, cpuARM64, "macho-platform-77"},
		{0x24, 0xa0000, cpuX64, "darwin"},
		{0x25, 0xa0000, cpuARM64, "ios"},
		{0x25, 0xa0000, cpuX64, "ios-simulator"},
		{0x2f, 0xa0000, cpuARM64, "tvos"},
		{0x30, 0xa0000, cpuX86, "watchos-simulator"},
		{0x1b, 0, cpuX64, ""},
	} {
		b := &build{wide: test.cpu&0x0100_0000 != 0, cpu: test.cpu, kind: 6}
		b.command(test.cmd, test.platform, uint32(0xb0000), uint32(0), uint32(0))
		if got := one(t, b.bytes()).OS; got != test.want {
			t.Errorf("command %#x, platform %#x: OS %q, want %q", test.cmd, test.platform, got, test.want)
		}
	}
}

func TestKindsAndLinkage(t *testing.T) {
	for _, test := range []struct {
		kind, flags uint32
		dynamic     bool
		want        image.Kind
		linkage     image.Linkage
		notes       int
	}{
		{1, 0, false, image.Object, "", 0},
		{2, 0, false, image.Executable, image.Static, 0},
		{2, 0x200000, false, image.Executable, image.StaticPIE, 0},
		{2, 0x200000, true, image.Executable, image.Dynamic, 0},
		{4, 0, false, image.Core, "", 0},
		{6, 0, false, image.Library, image.Dynamic, 0},
		{8, 0, false, image.Library, image.Dynamic, 0},
		{11, 0, false, image.Driver, image.Dynamic, 0},
		{55, 0, false, image.Object, "", 1},
	} {
		b := &build{wide: true, cpu: cpuX64, kind: test.kind, flags: test.flags}
		if test.dynamic {
			b.str(0xe, "/usr/lib/dyld")
		}
		m := one(t, b.bytes())
		if m.Kind != test.want || m.Linkage != test.linkage || len(m.Notes) != test.notes {
			t.Errorf("type %d: %q, %q, notes %q; want %q, %q and %d notes", test.kind, m.Kind, m.Linkage, m.Notes, test.want, test.linkage, test.notes)
		}
	}
}

func TestThread(t *testing.T) {
	for _, test := range []struct {
		name        string
		wide        bool
		cpu, flavor uint32
		words, at   int // size of the state and place of the program counter, in words of 32 bits
	}{
		{"x86_64", true, cpuX64, 4, 42, 32},
		{"i386", false, cpuX86, 1, 16, 10},
		{"arm", false, cpuARM, 1, 17, 15},
		{"arm64", true, cpuARM64, 6, 68, 64},
	} {
		b := &build{wide: test.wide, cpu: test.cpu, kind: 2}
		state := make([]byte, 4*test.words)
		copy(state[4*test.at:], []byte{0x78, 0x56, 0x34, 0x12})
		b.command(0x5, uint32(99), uint32(1), uint32(0), test.flavor, uint32(test.words), state)
		if m := one(t, b.bytes()); m.Entry != 0x12345678 || len(m.Notes) > 0 {
			t.Errorf("%s: entry %#x, notes %q", test.name, m.Entry, m.Notes)
		}
	}
}

func TestVariantsAreNoted(t *testing.T) {
	for _, test := range []struct {
		name     string
		cpu, sub uint32
		wide     bool
		want     string
	}{
		{"arm64e", cpuARM64, 0x8000_0002, true, "arm64e"},
		{"arm64_32", 0x0200_000c, 1, false, "arm64_32"},
	} {
		b := &build{wide: test.wide, cpu: test.cpu, sub: test.sub, kind: 6}
		m := one(t, b.bytes())
		if m.Arch != image.AArch64 || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], test.want) {
			t.Errorf("%s: %s, notes %q", test.name, m.Arch, m.Notes)
		}
	}
}

func TestEncryptionOverlayAndSignature(t *testing.T) {
	b := &build{wide: true, cpu: cpuARM64, kind: 2}
	b.segment("__TEXT", 0x1000, 0x1000, 0, blobs, 5)
	b.command(0x2c, uint32(0), uint32(0x1000), uint32(1), uint32(0))
	b.linkedit(0x1d, make([]byte, 16))
	data := append(b.bytes(), "payload"...)
	m := one(t, data)
	if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "encrypted") {
		t.Errorf("notes %q; want one on encryption", m.Notes)
	}
	if want := (image.Range{Offset: uint64(len(data)) - 7, Size: 7}); m.Overlay != want {
		t.Errorf("overlay %v, want %v", m.Overlay, want)
	}
	if m.Signed || !m.Stripped {
		t.Errorf("signed %v, stripped %v; want an empty signature to be none, and no symbols to be stripped", m.Signed, m.Stripped)
	}
}

func TestObject(t *testing.T) {
	b := &build{wide: true, cpu: cpuX64, kind: 1}
	code := b.put(make([]byte, 32))
	b.segment("", 0, 32, uint(code), 32, 7, sect{name: "__text", segment: "__TEXT", size: 32, off: code, flags: 0x80000400})
	b.symtab(nil,
		sym{name: "ltmp0", kind: 0x0e, sect: 1},
		sym{name: "_f", kind: 0x0f, sect: 1},
		sym{name: "_alt", kind: 0x0f, sect: 1, desc: 0x200, value: 8},
		sym{name: "_hidden", kind: 0x1f, sect: 1, value: 16},
		sym{name: "_common", kind: 0x01, value: 40},
		sym{name: "_needed", kind: 0x01},
	)
	m := one(t, b.bytes())
	equal(t, "imports", imports(m), []string{"needed  0x0 0x0"})
	equal(t, "exports", exports(m), []string{"f 0x0 false", "alt 0x8 false", "common 0x0 true"})
	equal(t, "functions", functions(m), []string{"0x0+0x10 f", "0x10+0x10 hidden"})
	if m.Functions.Method != "symbols" || m.Kind != image.Object {
		t.Errorf("method %q, kind %q", m.Functions.Method, m.Kind)
	}
}

func TestThumb(t *testing.T) {
	b := &build{cpu: cpuARM, kind: 6, flags: 0x80}
	code := b.put(make([]byte, 32))
	b.segment("__TEXT", 0x4000, 0x2000, 0, blobs+32, 5, sect{name: "__text", segment: "__TEXT", addr: 0x5000, size: 32, off: code, flags: 0x80000400})
	b.symtab(nil, sym{name: "_thumb", kind: 0x0f, sect: 1, desc: 8, value: 0x5001}, sym{name: "_arm", kind: 0x0f, sect: 1, value: 0x5010})
	b.linkedit(0x26, append(uleb(0x1001, 0xf), 0))
	m := one(t, b.bytes())
	equal(t, "functions", functions(m), []string{"0x5000+0x10 thumb", "0x5010+0x10 arm"})
}

// unwind builds __unwind_info with a regular and a compressed page.
func unwind(b *build) []byte {
	u := b.pack(uint32(1), uint32(28), uint32(0), uint32(28), uint32(0), uint32(28), uint32(3))
	u = append(u, b.pack(uint32(0x1000), uint32(64), uint32(0), uint32(0x1020), uint32(88), uint32(0), uint32(0x1040), uint32(0), uint32(0))...)
	u = append(u, b.pack(uint32(2), uint16(8), uint16(2), uint32(0x1000), uint32(0), uint32(0x1010), uint32(0))...)
	return append(u, b.pack(uint32(3), uint16(12), uint16(2), uint16(0), uint16(0), uint32(0), uint32(0x01000008))...)
}

func TestUnwindInfo(t *testing.T) {
	b := &build{wide: true, cpu: cpuX64, kind: 6, flags: 0x80}
	code := b.put(make([]byte, 0x40))
	info := unwind(b)
	off := b.put(info)
	b.segment("__TEXT", 0x4000, 0x2000, 0, uint(off)+uint(len(info)), 5,
		sect{name: "__text", segment: "__TEXT", addr: 0x5000, size: 0x40, off: code, flags: 0x80000400},
		sect{name: "__unwind_info", segment: "__TEXT", addr: 0x5040, size: uint(len(info)), off: off})
	stripped := *b
	m := one(t, stripped.bytes())
	equal(t, "functions", functions(m), []string{"0x5000+0x10", "0x5010+0x10", "0x5020+0x8", "0x5028+0x18"})
	if m.Functions.Method != "unwind-info" || len(m.Notes) > 0 {
		t.Errorf("method %q, notes %q", m.Functions.Method, m.Notes)
	}
	b.symtab(nil, sym{name: "_more", kind: 0x0f, sect: 1, value: 0x5018}, sym{name: "_data", kind: 0x0f, sect: 2, value: 0x5040})
	m = one(t, b.bytes())
	equal(t, "functions", functions(m), []string{"0x5000+0x10", "0x5010+0x8", "0x5018+0x8 more", "0x5020+0x8", "0x5028+0x18"})
	if m.Functions.Method != "unwind-info+symbols" {
		t.Errorf("method %q", m.Functions.Method)
	}
}

// TestDebugSymbols reads a file of debug symbols, which has the headers of
// another file's code.
func TestDebugSymbols(t *testing.T) {
	b := &build{wide: true, cpu: cpuX64, kind: 10}
	b.segment("__TEXT", 0x4000, 0x2000, 0, 0, 5, sect{name: "__text", segment: "__TEXT", addr: 0x5000, size: 32, off: 0x1000, flags: 0x80000400})
	b.symtab(nil, sym{name: "_f", kind: 0x0f, sect: 1, value: 0x5000})
	m := one(t, b.bytes())
	if len(m.Symbols) != 1 || len(m.Exports) > 0 || m.Functions.Count > 0 || len(m.Notes) != 1 || m.Sections[0].FileSize != 0 {
		t.Errorf("%d symbols, %d exports, %d functions, notes %q; want one symbol and one note", len(m.Symbols), len(m.Exports), m.Functions.Count, m.Notes)
	}
}

// TestIndirectSymbol reads a name that an old library passes on.
func TestIndirectSymbol(t *testing.T) {
	b := &build{wide: true, cpu: cpuX64, kind: 6}
	b.symtab(nil, sym{name: "_alias", kind: 0x0b, value: 8}, sym{name: "_real", kind: 0x01})
	m := one(t, b.bytes())
	equal(t, "exports", exports(m), []string{"alias 0x0 false flat-namespace.real"})
	equal(t, "imports", imports(m), []string{"real flat-namespace 0x0 0x0"})
}

func TestDamage(t *testing.T) {
	whole := executable(false, true, cpuX64)
	for _, test := range []struct {
		name string
		data []byte
		want string // in a note
	}{
		{"cut in the load commands", whole[:0x100], "load commands"},
		{"cut in the code", whole[:blobs+10], "are not all in the file"},
		{"cut in the string table", whole[:len(whole)-60], "are not all in the file"},
		{"load command without size", patch(whole, 32+4, 0), "0 of 16"},
		{"load command longer than all", patch(whole, 32+4, 0xffff_ffff), "0 of 16"},
		{"more load commands than there are", patch(whole, 16, 0xffff_ffff), "16 of 4294967295"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := one(t, test.data)
			if !slices.ContainsFunc(m.Notes, func(n string) bool { return strings.Contains(n, test.want) }) {
				t.Errorf("notes %q; want one with %q", m.Notes, test.want)
			}
		})
	}
	for n := range 32 {
		if images, err := macho.Parse(whole[:n]); err == nil {
			t.Errorf("%d bytes: %d images; want an error", n, len(images))
		}
	}
}

// patch returns data with a 32-bit little-endian integer replaced.
func patch(data []byte, at int, v uint32) []byte {
	data = slices.Clone(data)
	(&build{}).order().AppendUint32(data[:at], v)
	return data
}

// TestLongNames gives many symbols the same long name, which must not be
// copied or looked through for each.
func TestLongNames(t *testing.T) {
	b := &build{wide: true, cpu: cpuX64, kind: 1}
	const count = 200_000
	table := make([]byte, 0, 16*count)
	for range count {
		table = append(table, b.pack(uint32(1), uint8(0x0f), uint8(1), uint16(0), uint64(0))...)
	}
	strings := append([]byte{0}, slices.Repeat([]byte{'a'}, 60_000)...)
	strings = append(strings, 0)
	b.command(0x2, b.put(table), uint32(count), b.put(strings), uint32(len(strings)))
	m := one(t, b.bytes())
	if len(m.Notes) == 0 || len(m.Exports) > 100 {
		t.Errorf("%d exports, notes %q; want few and a note", len(m.Exports), m.Notes)
	}
}

// TestHostileCounts has tables that state much in few bytes; none may take
// memory out of proportion.
func TestHostileCounts(t *testing.T) {
	dense := &build{wide: true, cpu: cpuX64, kind: 6}
	dense.segment("__TEXT", 0x4000, 1<<40, 0, blobs, 5, sect{name: "__text", segment: "__TEXT", addr: 0x4000, size: 1 << 40, flags: 0x80000400})
	dense.linkedit(0x26, slices.Repeat([]byte{1}, 1<<20))

	// Load commands of 8 bytes, which mean nothing, in a file of only those.
	empty := &build{wide: true, cpu: cpuX64, kind: 6}
	header := empty.bytes()[:32]
	commands := patch(patch(header, 16, 200_000), 20, 200_000*8)
	for range 200_000 {
		commands = append(commands, 0x99, 0, 0, 0, 8, 0, 0, 0)
	}

	built := &build{wide: true, cpu: cpuX64, kind: 6}
	built.command(0x32, uint32(1), uint32(0), uint32(0), uint32(300), slices.Repeat([]byte{1, 0, 0, 0, 0, 0, 1, 0}, 300))
	for _, test := range []struct {
		name, want string
		data       []byte
	}{
		{"function starts", "functions: more than", dense.bytes()},
		{"load commands", "load commands: more than", commands},
		{"tools", "", built.bytes()},
	} {
		m := one(t, test.data)
		if !strings.Contains(strings.Join(m.Notes, "\n"), test.want) || m.Functions.Count > len(test.data)/8+4096 || len(m.Compilers) > 100 {
			t.Errorf("%s: %d functions, %d compilers, notes %q; want a note with %q", test.name, m.Functions.Count, len(m.Compilers), m.Notes, test.want)
		}
	}
}
