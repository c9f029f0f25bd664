package pe_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
)

const (
	i386, amd64, arm64, armnt = 0x14c, 0x8664, 0xaa64, 0x1c4
)

func parse(t *testing.T, data []byte) *image.Image {
	t.Helper()
	m, err := pe.Parse(data)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return m
}

func TestIs(t *testing.T) {
	whole := craft{machine: amd64, wide: true}.bytes()
	noSignature := bytes.Replace(whole, []byte("PE\x00\x00"), []byte("NE\x00\x00"), 1)
	for _, test := range []struct {
		name string
		head []byte
		want bool
	}{
		{"whole", whole, true},
		{"signature behind the head", whole[:0x40], true},
		{"two bytes", whole[:2], true},
		{"one byte", whole[:1], false},
		{"another signature", noSignature, false},
		{"ELF", []byte("\x7fELF"), false},
		{"nothing", nil, false},
	} {
		if got := pe.Is(test.head); got != test.want {
			t.Errorf("%s: Is = %v, want %v", test.name, got, test.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	whole := craft{machine: amd64, wide: true}.bytes()
	dos := slices.Clone(whole[:0x40])
	le.PutUint32(dos[0x3c:], 0)
	ne := append(slices.Clone(whole[:0x40]), "NE\x05\x3c"...)
	for _, test := range []struct {
		name, want string
		data       []byte
	}{
		{"empty", "no MZ", nil},
		{"ELF", "no MZ", []byte("\x7fELF\x02\x01\x01")},
		{"DOS program", "DOS program", dos},
		{"short DOS program", "DOS program", []byte("MZ\x90")},
		{"Windows 3", "16-bit", ne},
		{"cut in the header", "cut off", whole[:0x50]},
	} {
		if m, err := pe.Parse(test.data); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Parse = %v, %v; want an error with %q", test.name, m, err, test.want)
		}
	}
}

func TestMachines(t *testing.T) {
	for _, test := range []struct {
		machine uint16
		arch    image.Arch
		os      string
	}{
		{i386, image.X86, "windows"},
		{amd64, image.X86_64, "windows"},
		{arm64, image.AArch64, "windows"},
		{0xa641, image.AArch64, "windows"},
		{0xa64e, image.AArch64, "windows"},
		{0x1c0, image.ARM, "windows"},
		{armnt, image.ARM, "windows"},
		{0x200, image.IA64, "windows"},
		{0x5064, image.RISCV64, "windows"},
		{0x6264, image.LoongArch, "windows"},
		{0x166, image.MIPS, "windows"},
		{0xebc, "pe-machine-3772", "windows"},
		{amd64 ^ 0x7b79, image.X86_64, "linux"},
		{arm64 ^ 0x4644, image.AArch64, "darwin"},
	} {
		m := parse(t, craft{machine: test.machine, wide: true, subsystem: 3}.bytes())
		if m.Arch != test.arch || m.OS != test.os || m.Format != image.PE || m.Bits != 64 {
			t.Errorf("machine %#x: %s %s %s %d bits, want %s %s", test.machine, m.Format, m.Arch, m.OS, m.Bits, test.arch, test.os)
		}
	}
}

func TestKinds(t *testing.T) {
	for _, test := range []struct {
		flags, subsystem uint16
		kind             image.Kind
		os               string
	}{
		{0x22, 3, image.Executable, "windows"},
		{0x2022, 2, image.Library, "windows"},
		{0x22, 1, image.Driver, "windows"},
		{0x22, 10, image.Executable, "uefi"},
		{0x2022, 11, image.Driver, "uefi"},
		{0x22, 12, image.Driver, "uefi"},
	} {
		m := parse(t, craft{machine: amd64, wide: true, flags: test.flags, subsystem: test.subsystem}.bytes())
		if m.Kind != test.kind || m.OS != test.os {
			t.Errorf("flags %#x, subsystem %d: %s on %s, want %s on %s", test.flags, test.subsystem, m.Kind, m.OS, test.kind, test.os)
		}
	}
}

// A section is found where the loader finds it: the raw pointer is rounded
// down, and memory behind the raw data is there but empty.
func TestLayout(t *testing.T) {
	c := craft{
		machine: i386, base: 0x400000, entry: 0x1000, code: []byte{0xc3}, data: []byte("data"),
		extra: []craftSection{
			{"odd", 4, 0x3000, 0x200, 0x8ff, dataFlags, []byte("rounded down")},
			{"bss", 0x5000, 0x4000, 0, 0, dataFlags, nil},
			{"wide", 0x2000, 0x9000, 0x200, 0xa00, dataFlags, []byte("head")},
			{"tight", 4, 0xc000, 0x3000, 0xc00, dataFlags, bytes.Repeat([]byte("t"), 0x3000)},
		},
	}
	m := parse(t, c.bytes())
	if m.Entry != 0x401000 || m.Base != 0x400000 {
		t.Errorf("entry %#x, base %#x", m.Entry, m.Base)
	}
	if got := m.At(0x400000); !bytes.HasPrefix(got, []byte("MZ")) || len(got) != 0x400 {
		t.Errorf("at the base are %d bytes, want the header", len(got))
	}
	if got := m.At(0x403000); !bytes.HasPrefix(got, []byte("rounded down")) {
		t.Errorf("at the section with an odd raw pointer is %.12q", got)
	}
	if got := m.At(0x404000); got != nil {
		t.Errorf("the section without data has %d bytes", len(got))
	}
	if got := m.At(0x409000); !bytes.HasPrefix(got, []byte("head")) || len(got) != 0x200 {
		t.Errorf("the half-filled section has %d bytes, want 512", len(got))
	}
	if got := m.At(0x40c000); len(got) != 0x1000 {
		t.Errorf("a section of 4 bytes maps %d bytes, want a page", len(got))
	}
	if s := m.Section(".text"); s == nil || !s.Code || s.Access != image.Read|image.Execute || s.Addr != 0x401000 || s.Size != 1 {
		t.Errorf(".text is %+v", s)
	}
	if s := m.Section("bss"); s == nil || s.FileSize != 0 || s.Size != 0x5000 || s.Access != image.Read|image.Write {
		t.Errorf("bss is %+v", s)
	}
	if len(m.Notes) > 0 {
		t.Errorf("notes: %q", m.Notes)
	}

	c.align = 0x20
	c.extra = []craftSection{{"flat", 16, 0x8ff, 16, 0x8ff, dataFlags, nil}}
	data := append(c.bytes(), make([]byte, 0x200)...)
	copy(data[0x8ff:], "not rounded")
	if got := parse(t, data).At(0x4008ff); !bytes.HasPrefix(got, []byte("not rounded")) {
		t.Errorf("below the page size raw pointers stay as they are: %.12q", got)
	}
}

func TestSectionNames(t *testing.T) {
	symbols := coffSymbols(map[string]uint32{"a_long_function_name": 0}, []string{"a_long_function_name"})
	at := len(symbols) - 18 // the string table's size so far
	symbols = append(symbols, ".debug_info\x00"...)
	le.PutUint32(symbols[18:], uint32(len(symbols)-18))
	c := craft{machine: amd64, wide: true, code: []byte{0xc3}, symbols: symbols, extra: []craftSection{
		{name: fmt.Sprintf("/%d", at), flags: 0x42000040},
		{name: "//AAAAAZ", flags: 0x42000040}, // 25 in base64
		{name: "/999999", flags: 0x42000040},
	}}
	m := parse(t, c.bytes())
	var names []string
	for _, s := range m.Sections {
		names = append(names, s.Name)
	}
	if want := []string{".text", ".data", ".debug_info", ".debug_info", "/999999"}; at != 25 || !slices.Equal(names, want) {
		t.Errorf("sections %q, want %q (string at %d)", names, want, at)
	}
	if m.Stripped {
		t.Error("a file with symbols is not stripped")
	}
	if want := []image.Symbol{{Name: "a_long_function_name", Addr: codeRVA, Func: true}}; !slices.Equal(m.Symbols, want) {
		t.Errorf("symbols %+v", m.Symbols)
	}
	if m.Overlay != (image.Range{}) {
		t.Errorf("the symbol table is taken for overlay: %+v", m.Overlay)
	}
}

func TestImports(t *testing.T) {
	for _, wide := range []bool{false, true} {
		for _, old := range []bool{false, true} { // delay imports by address
			base, ordinal := uint64(0x400000), uint64(1)<<31
			if wide {
				ordinal = 1 << 63
			}
			d := &tables{wide: wide}
			lookup := d.pointers(uint64(d.hint("CreateFileW")), ordinal|777, 0)
			slots := d.pointers(1, 2, 0)
			sockets := d.pointers(ordinal|4, ordinal|10, uint64(d.hint("WSASocketW")), 0)
			old1 := d.pointers(ordinal|10, 0)
			automation := d.pointers(ordinal|2, ordinal|350, 0)
			imports := d.u32(
				lookup, 0, 0, d.text("KERNEL32.dll"), slots,
				0, 0, 0, d.text("WS2_32.dll"), sockets,
				0, 0, 0, d.text("wsock32.DLL"), old1,
				0, 0, 0, d.text("OLEAUT32"), automation,
				0, 0, 0, 0, 0)
			bias := uint64(0)
			attributes := uint32(1)
			if old {
				bias, attributes = base, 0
			}
			names := d.pointers(uint64(d.hint("napi_throw"))+bias, ordinal|3, 0)
			delaySlots := d.pointers(0, 0, 0)
			delay := d.u32(attributes, d.text("node.exe")+uint32(bias), 0, delaySlots+uint32(bias), names+uint32(bias), 0, 0, 0,
				0, 0, 0, 0, 0, 0, 0, 0)
			c := craft{machine: amd64, wide: wide, base: base, data: d.b, dirs: map[int][2]uint32{1: {imports, 1}, 13: {delay, 1}}}
			if !wide {
				c.machine = i386
			}
			m := parse(t, c.bytes())
			step := uint64(4)
			if wide {
				step = 8
			}
			at := func(rva uint32, i uint64) uint64 { return base + uint64(rva) + i*step }
			want := []image.Import{
				{Name: "CreateFileW", Library: "KERNEL32.dll", Slot: at(slots, 0)},
				{Name: "#777", Library: "KERNEL32.dll", Ordinal: 777, Slot: at(slots, 1)},
				{Name: "connect", Library: "WS2_32.dll", Ordinal: 4, Slot: at(sockets, 0)},
				{Name: "ioctlsocket", Library: "WS2_32.dll", Ordinal: 10, Slot: at(sockets, 1)},
				{Name: "WSASocketW", Library: "WS2_32.dll", Slot: at(sockets, 2)},
				{Name: "inet_addr", Library: "wsock32.DLL", Ordinal: 10, Slot: at(old1, 0)},
				{Name: "SysAllocString", Library: "OLEAUT32", Ordinal: 2, Slot: at(automation, 0)},
				{Name: "#350", Library: "OLEAUT32", Ordinal: 350, Slot: at(automation, 1)},
				{Name: "napi_throw", Library: "node.exe", Slot: at(delaySlots, 0), Delay: true},
				{Name: "#3", Library: "node.exe", Ordinal: 3, Slot: at(delaySlots, 1), Delay: true},
			}
			if diff := cmp.Diff(want, m.Imports); diff != "" {
				t.Errorf("wide %v, old %v: imports (-want +got)\n%s", wide, old, diff)
			}
			if want := []string{"KERNEL32.dll", "WS2_32.dll", "wsock32.DLL", "OLEAUT32", "node.exe"}; !slices.Equal(m.Libraries, want) {
				t.Errorf("libraries %q", m.Libraries)
			}
			if m.Linkage != image.Dynamic || len(m.Notes) > 0 {
				t.Errorf("linkage %s, notes %q", m.Linkage, m.Notes)
			}
		}
	}
}

func TestFewDirectories(t *testing.T) {
	d := &tables{}
	imports := d.u32(0, 0, 0, d.text("a.dll"), d.pointers(1<<31|5, 0), 0, 0, 0, 0, 0)
	c := craft{machine: i386, data: d.b, dirs: map[int][2]uint32{1: {imports, 40}}, dirCount: 2}
	if m := parse(t, c.bytes()); len(m.Imports) != 1 || len(m.Sections) != 2 || len(m.Notes) > 0 {
		t.Errorf("two directories: %d imports, %d sections, notes %q", len(m.Imports), len(m.Sections), m.Notes)
	}
	c.dirCount = 1
	if m := parse(t, c.bytes()); len(m.Imports) != 0 || len(m.Sections) != 2 || m.Linkage != image.Static {
		t.Errorf("one directory: %d imports, %d sections, %s", len(m.Imports), len(m.Sections), m.Linkage)
	}
}

func TestExports(t *testing.T) {
	d := &tables{}
	d.u32(0, 0)
	dir := d.u32()
	strings := dir + 200
	// Exports 5 to 9: a function with two names, a variable, a gap, one
	// forwarded, one without a name.
	copyAt := func(at uint32, s string) uint32 {
		for d.rva() < at {
			d.b = append(d.b, 0)
		}
		return d.text(s)
	}
	d.u32(0, 0, 0, dir+200, 5, 5, 4, dir+40, dir+60, dir+80)
	for _, v := range []uint32{codeRVA, dataRVA, 0, dir + 240, codeRVA + 1, dir + 210, dir + 214, dir + 218, dir + 224} {
		d.b = le.AppendUint32(d.b, v)
	}
	d.b = append(d.b, 0, 0, 0, 0)
	for _, v := range []uint16{0, 0, 1, 3} {
		d.b = le.AppendUint16(d.b, v)
	}
	copyAt(strings, "me.dll")
	copyAt(dir+210, "run")
	copyAt(dir+214, "Run")
	copyAt(dir+218, "state")
	copyAt(dir+224, "elsewhere")
	copyAt(dir+240, "other.thing")
	c := craft{machine: amd64, wide: true, base: 0x180000000, flags: 0x2000, code: []byte{0xc3, 0xc3}, data: d.b, dirs: map[int][2]uint32{0: {dir, 260}}}
	m := parse(t, c.bytes())
	want := []image.Export{
		{Name: "Run", Addr: 0x180001000, Ordinal: 5},
		{Name: "run", Addr: 0x180001000, Ordinal: 5},
		{Name: "state", Addr: 0x180002000, Ordinal: 6, Data: true},
		{Name: "elsewhere", Ordinal: 8, Forward: "other.thing"},
		{Addr: 0x180001001, Ordinal: 9},
	}
	if diff := cmp.Diff(want, m.Exports); diff != "" || m.Name != "me.dll" {
		t.Errorf("name %q, exports (-want +got)\n%s", m.Name, diff)
	}
}

func TestToolchain(t *testing.T) {
	const key = 0x5ac31f07
	var stub []byte
	for _, v := range []uint32{0x536e6144 ^ key, key, key, key, (0x105<<16 | 30795) ^ key, 12 ^ key, (0x93<<16 | 7) ^ key, 1 ^ key} {
		stub = le.AppendUint32(stub, v)
	}
	stub = le.AppendUint32(append(stub, "Rich"...), key)

	d := &tables{}
	record := append([]byte("RSDS"), 0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8)
	record = append(le.AppendUint32(record, 10), "C:\\x\\y.pdb\x00"...)
	info := d.bytes(record)
	debug := d.u32(
		0, 0, 0, 16, 4, 0, 0,
		0, 0, 0, 2, uint32(len(record)), info, info-dataRVA+0x400)
	m := parse(t, craft{machine: i386, stub: stub, data: d.b, dirs: map[int][2]uint32{6: {debug, 56}}}.bytes())
	want := []string{"MSVC linker 14.29", "rich:261.30795 ×12 MSVC C++", "rich:147.7 ×1", `pdb:C:\x\y.pdb`}
	if !slices.Equal(m.Compilers, want) {
		t.Errorf("compilers %q, want %q", m.Compilers, want)
	}
	if want := "123456789abcdef00102030405060708a"; m.BuildID != want {
		t.Errorf("build id %s, want %s", m.BuildID, want)
	}
}

func TestOldCodeView(t *testing.T) {
	d := &tables{}
	record := le.AppendUint32(le.AppendUint32(append([]byte("NB10"), 0, 0, 0, 0), 0x3d0a1b2c), 3)
	info := d.bytes(append(record, "old.pdb\x00"...))
	c := craft{machine: i386, dirs: map[int][2]uint32{6: {d.u32(0, 0, 0, 2, uint32(len(record))+8, info, 0), 28}}}
	c.data = d.b
	m := parse(t, c.bytes())
	if m.BuildID != "3d0a1b2c3" || !slices.Contains(m.Compilers, "pdb:old.pdb") {
		t.Errorf("build id %q, compilers %q", m.BuildID, m.Compilers)
	}
}

func TestEndOfFile(t *testing.T) {
	c := craft{machine: i386, code: []byte{0xc3}}
	end := uint32(len(c.bytes()))
	signature := append([]byte{24, 0, 0, 0, 0, 2, 2, 0}, make([]byte, 16)...)
	for _, test := range []struct {
		name    string
		tail    string
		cert    uint32 // offset
		size    uint32
		signed  bool
		overlay image.Range
		note    bool
	}{
		{"nothing", "", 0, 0, false, image.Range{}, false},
		{"payload", "payload!!", 0, 0, false, image.Range{Offset: uint64(end), Size: 9}, false},
		{"signature", string(signature), end, 24, true, image.Range{}, false},
		{"payload and signature", "payload!" + string(signature), end + 8, 24, true, image.Range{Offset: uint64(end), Size: 8}, false},
		{"gap and signature", "\x00\x00\x00\x00" + string(signature), end + 4, 24, true, image.Range{}, false},
		{"signature and payload", string(signature) + "payload", end, 24, true, image.Range{Offset: uint64(end) + 24, Size: 7}, false},
		{"signature gone", "", end, 24, false, image.Range{}, true},
	} {
		c.tail = []byte(test.tail)
		c.dirs = map[int][2]uint32{4: {test.cert, test.size}}
		m := parse(t, c.bytes())
		if m.Signed != test.signed || m.Overlay != test.overlay || len(m.Notes) > 0 != test.note {
			t.Errorf("%s: signed %v, overlay %+v, notes %q", test.name, m.Signed, m.Overlay, m.Notes)
		}
	}
}

func TestVersionInfo(t *testing.T) {
	d := &tables{}
	at := d.u32()
	d.b = append(d.b, versionResource(at, "CompanyName", "Größe AG", "ProductName", "Thing", "Comments", "", "FileDescription", "does things")...)
	m := parse(t, craft{machine: i386, data: d.b, dirs: map[int][2]uint32{2: {at, uint32(len(d.b))}}}.bytes())
	want := map[string]string{"CompanyName": "Größe AG", "ProductName": "Thing", "FileDescription": "does things"}
	if diff := cmp.Diff(want, m.VersionInfo); diff != "" {
		t.Errorf("version info (-want +got)\n%s", diff)
	}
}

// dotnet makes metadata with two methods of which one has code.
func dotnet() []byte {
	strings := "\x00<Module>\x00Main\x00Outside\x00"
	var tables []byte
	tables = append(tables, 0, 0, 0, 0, 2, 0, 0, 1)
	tables = le.AppendUint64(tables, 1|1<<2|1<<6) // Module, TypeDef, MethodDef
	tables = le.AppendUint64(tables, 0)
	for _, rows := range []uint32{1, 1, 2} {
		tables = le.AppendUint32(tables, rows)
	}
	tables = append(tables, make([]byte, 10+14)...)
	for _, method := range [][2]uint32{{codeRVA, 10}, {0, 15}} {
		tables = le.AppendUint32(tables, method[0])
		tables = le.AppendUint32(tables, 0)
		tables = le.AppendUint16(tables, uint16(method[1]))
		tables = append(tables, 0, 0, 0, 0)
	}
	b := append([]byte("BSJB\x01\x00\x01\x00\x00\x00\x00\x00\x0c\x00\x00\x00v4.0.30319\x00\x00"), 0, 0, 2, 0)
	at := uint32(len(b)) + 12 + 20
	b = le.AppendUint32(le.AppendUint32(b, at), uint32(len(tables)))
	b = append(b, "#~\x00\x00"...)
	b = le.AppendUint32(le.AppendUint32(b, at+uint32(len(tables))), uint32(len(strings)))
	b = append(b, "#Strings\x00\x00\x00\x00"...)
	return append(append(b, tables...), strings...)
}

func TestDotNet(t *testing.T) {
	d := &tables{}
	metadata := dotnet()
	header := d.u32(72, 0x50002, d.bytes(metadata), uint32(len(metadata)), 1)
	c := craft{machine: i386, base: 0x400000, code: make([]byte, 64), data: d.b, dirs: map[int][2]uint32{14: {header, 72}}}
	m := parse(t, c.bytes())
	if !slices.Contains(m.Compilers, ".NET CLR v4.0.30319") {
		t.Errorf("compilers %q", m.Compilers)
	}
	want := image.Functions{List: []image.Function{{Addr: 0x401000, Name: "Main"}}, Count: 1, Method: "methoddef"}
	if diff := cmp.Diff(want, m.Functions); diff != "" {
		t.Errorf("functions (-want +got)\n%s", diff)
	}
}

func TestUnwindTables(t *testing.T) {
	code := make([]byte, 0x100)
	fn := func(at, size uint64) image.Function { return image.Function{Addr: 0x400000 + at, Size: size} }
	for _, test := range []struct {
		name    string
		machine uint16
		xdata   []byte // at the start of the data section
		table   []uint32
		count   int
		list    []image.Function
	}{
		{
			"x86_64", amd64,
			[]byte{1, 0, 0, 0, 1 | 4<<3, 0, 0, 0},
			[]uint32{0x1000, 0x1040, dataRVA, 0x1040, 0x1060, dataRVA + 4, 0x1060, 0x1080, dataRVA, 0x1080, 0x1090, dataRVA + 1, 0, 0, 0},
			2, []image.Function{fn(0x1000, 0x40), fn(0x1060, 0x20), fn(0x10f0, 0)},
		},
		{
			"aarch64", arm64,
			[]byte{
				8, 0, 0x20, 8, 0x81, 0xe4, 0xe4, 0xe4, // one word of codes, none of them end_c
				8, 0, 0x20, 8, 0xe5, 0x81, 0xe4, 0xe4, // a fragment without a prologue
				8, 0, 0x20, 8, 0xd0, 0xe5, 0xe4, 0xe4, // the operand of a code is no code
				8, 0, 0x20, 8, 0xd0, 0x10, 0xe5, 0xe4, // a part that saves registers of its own
			},
			[]uint32{0x1000, dataRVA, 0x1020, dataRVA + 8, 0x1040, 1 | 4<<2, 0x1050, 2 | 4<<2, 0x1060, dataRVA + 16, 0x1080, dataRVA + 24},
			3, []image.Function{fn(0x1000, 32), fn(0x1040, 16), fn(0x1060, 32), fn(0x10f0, 0)},
		},
		{
			"arm", armnt,
			[]byte{8, 0, 0, 0x10, 8, 0, 0x40, 0x10},
			[]uint32{0x1001, dataRVA, 0x1021, dataRVA + 4, 0x1041, 1 | 4<<2, 0x1051, 2 | 4<<2},
			2, []image.Function{fn(0x1000, 16), fn(0x1040, 8), fn(0x10f0, 0)},
		},
		{
			"ia64", 0x200, nil, []uint32{0x1000, 0x1040, 0, 0x1040, 0x1060, 0},
			2, []image.Function{fn(0x1000, 0x40), fn(0x1040, 0x20), fn(0x10f0, 0)},
		},
	} {
		d := &tables{wide: true, b: slices.Clone(test.xdata)}
		at := d.u32(test.table...)
		c := craft{machine: test.machine, wide: true, base: 0x400000, entry: 0x10f0, code: code, data: d.b, dirs: map[int][2]uint32{3: {at, uint32(4 * len(test.table))}}}
		m := parse(t, c.bytes())
		got := m.Functions
		if got.Method != "pdata" || got.Count != test.count || !slices.Equal(got.List, test.list) {
			t.Errorf("%s: %s, %d functions, %+v; want %d, %+v (notes %q)", test.name, got.Method, got.Count, got.List, test.count, test.list, m.Notes)
		}
		if got.Coverage <= 0 || got.Coverage > 1 {
			t.Errorf("%s: coverage %v", test.name, got.Coverage)
		}
	}
}

func TestStartsFromLoadConfig(t *testing.T) {
	code := bytes.Repeat([]byte{0xcc}, 0x200)
	for _, at := range []int{0x10, 0x21, 0x33, 0x45, 0x57} {
		code[at] = 0xc3
	}
	for _, wide := range []bool{false, true} {
		const base = 0x400000
		d := &tables{wide: wide}
		handlers := uint64(base + d.u32(0x1021, 0x1033))
		d.u32()
		guard := uint64(base + d.rva())
		for _, v := range []uint32{0x1010, 0x1045} {
			d.b = append(le.AppendUint32(d.b, v), 0)
		}
		callbacks := uint64(base + d.pointers(base+0x1057, 0))
		tls := d.pointers(0, 0, 0, callbacks)
		config := d.u32()
		var b []byte
		word := func(offset int, v uint64) {
			b = append(b, make([]byte, max(0, offset+8-len(b)))...)
			if wide {
				le.PutUint64(b[offset:], v)
			} else {
				le.PutUint32(b[offset:], uint32(v))
			}
		}
		if wide {
			word(128, guard)
			word(136, 2)
			word(144, 1<<28)
		} else {
			word(64, handlers)
			word(68, 2)
			word(80, guard)
			word(84, 2)
			word(88, 1<<28)
		}
		le.PutUint32(b, uint32(len(b)))
		d.b = append(d.b, b...)
		c := craft{machine: i386, wide: wide, base: base, code: code, data: d.b, dirs: map[int][2]uint32{9: {tls, 24}, 10: {config, uint32(len(b))}}}
		want := []uint64{0x401010, 0x401021, 0x401033, 0x401045, 0x401057}
		if wide {
			c.machine = arm64
			want = []uint64{0x401010, 0x401045, 0x401057}
		}
		m := parse(t, c.bytes())
		var got []uint64
		for _, f := range m.Functions.List {
			got = append(got, f.Addr)
		}
		if !slices.Equal(got, want) {
			t.Errorf("wide %v: functions at %#x, want %#x (notes %q)", wide, got, want, m.Notes)
		}
	}
}

func TestHybrid(t *testing.T) {
	d := &tables{wide: true}
	config := d.u32(208)
	d.b = append(d.b, make([]byte, 204)...)
	le.PutUint64(d.b[200:], 0x180002100)
	m := parse(t, craft{machine: amd64, wide: true, base: 0x180000000, data: d.b, dirs: map[int][2]uint32{10: {config, 208}}}.bytes())
	if !slices.ContainsFunc(m.Notes, func(n string) bool { return strings.Contains(n, "ARM64EC") }) {
		t.Errorf("notes %q", m.Notes)
	}
}

// Every cut of a file gives an error or an image that says what is missing.
func TestTruncated(t *testing.T) {
	whole := everything()
	for n := range len(whole) {
		m, err := pe.Parse(whole[:n])
		if err == nil && len(m.Notes) == 0 {
			t.Fatalf("%d of %d bytes: no error and no note", n, len(whole))
		}
	}
	if m := parse(t, whole); len(m.Notes) > 0 {
		t.Errorf("the whole file has notes: %q", m.Notes)
	}
}

// everything makes a file with all the tables that are read.
func everything() []byte {
	d := &tables{wide: true}
	const base = 0x140000000
	imports := d.u32(0, 0, 0, d.text("KERNEL32.dll"), d.pointers(uint64(d.hint("Sleep")), 1<<63|9, 0), 0, 0, 0, 0, 0)
	delay := d.u32(1, d.text("node.exe"), 0, d.pointers(0, 0), d.pointers(uint64(d.hint("napi_throw")), 0), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	exports := d.u32(0, 0, 0, d.text("x.dll"), 1, 1, 1, d.u32(codeRVA), d.u32(d.text("run")), d.u32(0))
	pdata := d.u32(codeRVA, codeRVA+16, d.bytes([]byte{1, 0, 0, 0}))
	record := append(append([]byte("RSDS"), make([]byte, 20)...), "x.pdb\x00"...)
	debug := d.u32(0, 0, 0, 2, uint32(len(record)), d.bytes(record), 0)
	tls := d.pointers(0, 0, 0, base+uint64(d.pointers(base+codeRVA, 0)))
	metadata := dotnet()
	clr := d.u32(72, 0x50002, d.bytes(metadata), uint32(len(metadata)), 1)
	config := d.u32(148)
	d.b = append(d.b, make([]byte, 144)...)
	version := d.u32()
	resource := versionResource(version, "ProductName", "x")
	d.b = append(d.b, resource...)
	c := craft{
		machine: amd64, wide: true, flags: 0x2022, subsystem: 2, base: base, entry: codeRVA, code: bytes.Repeat([]byte{0xc3}, 64), data: d.b,
		symbols: coffSymbols(map[string]uint32{"run": 0}, []string{"run"}),
		dirs: map[int][2]uint32{
			0: {exports, 40}, 1: {imports, 40}, 2: {version, uint32(len(resource))}, 3: {pdata, 12},
			6: {debug, 28}, 9: {tls, 40}, 10: {config, 148}, 13: {delay, 64}, 14: {clr, 72},
		},
	}
	size := uint32(len(c.bytes()))
	c.dirs[4] = [2]uint32{size, 16}
	c.tail = append([]byte{16, 0, 0, 0, 0, 2, 2, 0}, "pkcs7..."...)
	return c.bytes()
}

// Tables that overlap must not make a small file into a large image.
func TestOverlappingNames(t *testing.T) {
	d := &tables{wide: true}
	long := d.hint(strings.Repeat("A", 16000))
	var thunks []uint64
	for i := range uint64(8000) {
		thunks = append(thunks, uint64(long)+i)
	}
	table := d.pointers(append(thunks, 0)...)
	var imports []uint32
	name := d.text("a.dll")
	for range 200 {
		imports = append(imports, table, 0, 0, name, table)
	}
	dir := d.u32(append(imports, 0, 0, 0, 0, 0)...)
	data := craft{machine: amd64, wide: true, data: d.b, dirs: map[int][2]uint32{1: {dir, 20}}}.bytes()
	m := parse(t, data)
	total := 0
	for _, i := range m.Imports {
		total += len(i.Name)
	}
	if total > 3*len(data) || len(m.Notes) == 0 {
		t.Errorf("%d bytes of names from a file of %d, notes %q", total, len(data), m.Notes)
	}
}
