package pe_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
)

const objectProgram = `
extern int undefined(int), weakly(void) __attribute__((weak));
extern int __stdcall decorated(int);
__declspec(dllimport) int imported(int);
__declspec(dllimport) extern int importedValue;
int tentative, zero[10] = {0}, data = 3;
const char *where = "https://planted.example.test/a";
__attribute__((weak)) int replaceable(int x) { return x + 1; }
static __attribute__((noinline)) int hidden(int x) { return x * 3 + undefined(x); }
int a_function_with_a_long_name(int x) {
	return hidden(x) + imported(x) + importedValue + decorated(x) + (weakly ? weakly() : 0) + replaceable(x);
}
`

// compileObject compiles objectProgram for a target.
func (tc toolchain) compileObject(target string, flags ...string) []byte {
	tc.t.Helper()
	out := tc.path(target + ".obj")
	tc.run(tc.clang, append([]string{"-target", target, "-O1", "-Wno-everything", "-c", "-o", out, tc.write("object.c", objectProgram)}, flags...)...)
	data, err := os.ReadFile(out)
	if err != nil {
		tc.t.Fatal(err)
	}
	return data
}

// bigClass is the class of big objects.
var bigClass = []byte{0xc7, 0xa1, 0xba, 0xd1, 0xee, 0xba, 0xa9, 0x4b, 0xaf, 0x20, 0xfa, 0xf6, 0x6a, 0xa4, 0xdc, 0xb8}

// anonymousObject makes the header of an anonymous object.
func anonymousObject(version, machine uint16, class []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xffff0000)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, machine)
	b = append(append(b, 0, 0, 0, 0), class...)
	return append(b, make([]byte, 16)...)
}

// enlarge makes a big object of an ordinary one. Relocations are not moved.
func enlarge(b []byte) []byte {
	le := binary.LittleEndian
	n, symbols, count := uint32(le.Uint16(b[2:])), le.Uint32(b[8:]), le.Uint32(b[12:])
	out := anonymousObject(2, le.Uint16(b), bigClass)
	for _, v := range []uint32{n, symbols + 36, count} {
		out = le.AppendUint32(out, v)
	}
	out = append(out, b[20:symbols]...)
	for i := range n {
		for _, at := range []uint32{20, 24} {
			if field := out[56+40*i+at:]; le.Uint32(field) != 0 {
				le.PutUint32(field, le.Uint32(field)+36)
			}
		}
	}
	aux := 0
	for i := range count {
		s := b[symbols+18*i:][:18]
		if aux > 0 {
			aux--
			out = append(append(out, s...), 0, 0)
			continue
		}
		aux = int(s[17])
		out = append(out, s[:12]...)
		out = le.AppendUint32(out, uint32(int32(int16(le.Uint16(s[12:])))))
		out = append(out, s[14:]...)
	}
	return append(out, b[symbols+18*count:]...)
}

// readobjSymbols lists what llvm-readobj says of sections and symbols, as
// listObject does.
func readobjSymbols(out string) []string {
	var list []string
	weakDefault := make(map[string]string)
	defined := make(map[string]bool)
	var name, section, class, kind, value, linked string
	sections, aux := false, false
	for line := range strings.Lines(out) {
		trimmed := strings.TrimSpace(line)
		key, val, _ := strings.Cut(trimmed, ": ")
		switch {
		case trimmed == "Sections [":
			sections = true
		case trimmed == "Symbols [":
			sections = false
		case sections && key == "Name":
			name, _, _ = strings.Cut(val, " (")
		case sections && key == "RawDataSize":
			list = append(list, "section "+name+" "+val)
		case sections:
		case trimmed == "Symbol {":
			name, section, class, kind, value, linked, aux = "", "", "", "", "", "", false
		case strings.HasSuffix(trimmed, "{"):
			aux = true
		case key == "Linked":
			linked, _, _ = strings.Cut(val, " (")
		case aux && key != "StorageClass":
		case key == "Name":
			name = val
		case key == "Value":
			value = val
		case key == "Section":
			section, _, _ = strings.Cut(val, " (")
		case key == "ComplexType":
			kind = val
		case key == "StorageClass":
			class = val
		}
		if line != "  }\n" || sections || name == "" {
			continue
		}
		switch {
		case strings.HasPrefix(class, "WeakExternal"):
			weakDefault[name] = linked
		case strings.HasPrefix(section, "IMAGE_SYM_UNDEFINED"):
			if value == "0" {
				list = append(list, "import "+strings.TrimPrefix(name, "__imp_"))
			} // else a common block
		case strings.HasPrefix(section, "IMAGE_SYM"), strings.HasPrefix(class, "Static") && strings.HasPrefix(kind, "Null") && section == name:
		default:
			defined[name] = true
			list = append(list, "symbol "+name)
			if strings.HasPrefix(kind, "Function") {
				list = append(list, "function "+name)
			}
		}
	}
	for name, other := range weakDefault {
		if defined[other] {
			list = append(list, "symbol "+name)
			list = append(list, "function "+name)
		} else {
			list = append(list, "import "+name)
		}
	}
	slices.Sort(list)
	return list
}

// listObject lists what the package says.
func listObject(m *image.Image) []string {
	var list []string
	for _, s := range m.Sections {
		list = append(list, fmt.Sprintf("section %s %d", s.Name, s.Size))
	}
	for _, i := range m.Imports {
		list = append(list, "import "+i.Name)
	}
	for _, s := range m.Symbols {
		list = append(list, "symbol "+s.Name)
		if s.Func {
			list = append(list, "function "+s.Name)
		}
	}
	slices.Sort(list)
	return list
}

// decoration is what compilers for x86 add to the names of C.
var decoration = regexp.MustCompile(`^import _(.*?)(@\d+)?$`)

func TestObjectAgainstReadobj(t *testing.T) {
	tc := newToolchain(t)
	for target, arch := range map[string]image.Arch{
		"x86_64-windows-msvc": image.X86_64, "i686-windows-msvc": image.X86, "aarch64-windows-msvc": image.AArch64, "thumbv7-windows-msvc": image.ARM, "x86_64-windows-gnu": image.X86_64,
	} {
		for _, big := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, big %v", target, big), func(t *testing.T) {
				data := tc.compileObject(target, "-ffunction-sections")
				if big {
					data = enlarge(data)
				}
				if !pe.IsObject(data) || !pe.IsObject(data[:min(len(data), 4096)]) || pe.IsImport(data) {
					t.Fatal("not taken for an object")
				}
				m, err := pe.ParseObject(data)
				if err != nil {
					t.Fatal(err)
				}
				if m.Format != image.PE || m.Kind != image.Object || m.OS != "windows" || m.Arch != arch || len(m.Notes) > 0 || len(m.Exports) > 0 {
					t.Errorf("%s %s of %s for %s with %d exports, notes %q", m.Format, m.Kind, m.OS, m.Arch, len(m.Exports), m.Notes)
				}
				path := tc.write("seen.obj", string(data))
				want := readobjSymbols(tc.run(tc.obj, "--sections", "--symbols", path))
				if arch == image.X86 { // imports are shown without what the compiler adds
					for i := range want {
						want[i] = decoration.ReplaceAllString(want[i], "import $1")
					}
					slices.Sort(want)
				}
				if diff := cmp.Diff(want, listObject(m)); diff != "" {
					t.Errorf("llvm-readobj -, here +:\n%s", diff)
				}
				var names []string
				for _, f := range m.Functions.List {
					if s := m.Bytes(section(m, f.Addr)); len(s) == 0 {
						t.Errorf("function %s at %#x is in no section", f.Name, f.Addr)
					}
					names = append(names, strings.TrimPrefix(f.Name, "_"))
				}
				slices.Sort(names)
				if m.Functions.Method != "symbols" || m.Functions.Count != 3 || !slices.Contains(names, "a_function_with_a_long_name") || !slices.Contains(names, "hidden") {
					t.Errorf("%d functions by %s: %q; want three", m.Functions.Count, m.Functions.Method, names)
				}
			})
		}
	}
}

func section(m *image.Image, addr uint64) *image.Section {
	for i := range m.Sections {
		if s := &m.Sections[i]; s.Code && addr-s.Addr < s.Size {
			return s
		}
	}
	return nil
}

// A craftSymbol is an entry of a crafted object's symbol table.
type craftSymbol struct {
	name    string // at most eight bytes
	value   uint32
	section int16
	kind    uint16
	class   byte
	aux     []byte // 18 bytes, if any
}

// craftObject makes an x86_64 object with 16 bytes of code and 32 of zeros.
func craftObject(symbols ...craftSymbol) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, amd64)
	b = append(b, 2, 0, 0, 0, 0, 0)
	count := uint32(0)
	for _, s := range symbols {
		count += 1 + uint32(len(s.aux)/18)
	}
	b = le.AppendUint32(b, 20+2*40+16)
	b = append(le.AppendUint32(b, count), 0, 0, 0, 0)
	entry := func(name string, raw, offset, flags uint32) {
		b = append(b, (name + "\x00\x00\x00\x00\x00\x00\x00\x00")[:8]...)
		for _, v := range []uint32{0, 0, raw, offset, 0, 0, 0, flags} {
			b = le.AppendUint32(b, v)
		}
	}
	entry(".text", 16, 20+2*40, 0x60500020)
	entry(".bss", 32, 0, 0xc0300080)
	b = append(b, make([]byte, 16)...)
	for _, s := range symbols {
		b = append(b, (s.name + "\x00\x00\x00\x00\x00\x00\x00\x00")[:8]...)
		b = le.AppendUint32(b, s.value)
		b = le.AppendUint16(b, uint16(s.section))
		b = le.AppendUint16(b, s.kind)
		b = append(append(b, s.class, byte(len(s.aux)/18)), s.aux...)
	}
	return le.AppendUint32(b, 4)
}

// craftedSymbols has a symbol of each sort.
func craftedSymbols() []byte {
	weak := func(n byte) []byte { return append([]byte{n}, make([]byte, 17)...) }
	return craftObject(
		craftSymbol{name: "start", section: 1, value: 4, kind: 0x20, class: 2},
		craftSymbol{name: "zeros", section: 2, value: 8, class: 2},
		craftSymbol{name: ".text", section: 1, class: 3, aux: make([]byte, 18)},
		craftSymbol{name: "local", section: 1, value: 8, kind: 0x20, class: 3},
		craftSymbol{name: "common", value: 64, class: 2},
		craftSymbol{name: "far", class: 2},
		craftSymbol{name: "__imp_f", class: 2},
		craftSymbol{name: "f", class: 2},
		craftSymbol{name: "weak", class: 105, aux: weak(0)},
		craftSymbol{name: "gone", class: 105, aux: weak(5)},
		craftSymbol{name: "lost", class: 105, aux: weak(200)},
		craftSymbol{name: "@comp.id", value: 261<<16 | 30154, section: -1, class: 3},
		craftSymbol{name: "outside", section: 9, class: 2},
		craftSymbol{name: ".file", section: -2, class: 103, aux: make([]byte, 18)},
	)
}

func TestObjectSymbols(t *testing.T) {
	for name, data := range map[string][]byte{"ordinary": craftedSymbols(), "big": enlarge(craftedSymbols())} {
		m, err := pe.ParseObject(data)
		if err != nil {
			t.Fatal(err)
		}
		text, bss := m.Sections[0], m.Sections[1]
		if text.Addr != text.Offset || text.FileSize != 16 || bss.Addr != uint64(len(data)) || bss.FileSize != 0 || bss.Size != 32 {
			t.Errorf("%s: sections %+v", name, m.Sections)
		}
		symbols := []image.Symbol{
			{Name: "start", Addr: text.Addr + 4, Func: true},
			{Name: "weak", Addr: text.Addr + 4, Func: true, Weak: true},
			{Name: "local", Addr: text.Addr + 8, Func: true},
			{Name: "zeros", Addr: bss.Addr + 8},
		}
		imports := []image.Import{{Name: "far"}, {Name: "f"}, {Name: "gone", Weak: true}, {Name: "lost", Weak: true}}
		functions := image.Functions{Method: "symbols", Count: 2, List: []image.Function{{Addr: text.Addr + 4, Name: "start"}, {Addr: text.Addr + 8, Name: "local"}}}
		if diff := cmp.Diff(symbols, m.Symbols) + cmp.Diff(imports, m.Imports) + cmp.Diff(functions, m.Functions); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", name, diff)
		}
		if want := []string{"rich:261.30154 ×1 MSVC C++"}; !slices.Equal(m.Compilers, want) || len(m.Notes) > 0 {
			t.Errorf("%s: compilers %q, notes %q", name, m.Compilers, m.Notes)
		}
	}
}

func TestIsObject(t *testing.T) {
	le := binary.LittleEndian
	for _, test := range []struct {
		name   string
		change func(b []byte) []byte
		want   bool
	}{
		{"as it is", func(b []byte) []byte { return b }, true},
		{"flags of an assembler", func(b []byte) []byte { b[18] = 0x04; b[19] = 0x01; return b }, true},
		{"no symbols", func(b []byte) []byte { clear(b[8:16]); return b }, true},
		{"cut off behind its table", func(b []byte) []byte { return b[:104] }, true},
		{"empty", func([]byte) []byte { return nil }, false},
		{"cut off in its header", func(b []byte) []byte { return b[:19] }, false},
		{"cut off in its table", func(b []byte) []byte { return b[:99] }, false},
		{"no machine", func(b []byte) []byte { clear(b[:2]); return b }, false},
		{"unknown machine", func(b []byte) []byte { le.PutUint16(b, 0x1234); return b }, false},
		{"no sections", func(b []byte) []byte { clear(b[2:4]); return b }, false},
		{"more sections than fit", func(b []byte) []byte { b[2] = 200; return b }, false},
		{"more sections than symbols can name", func(b []byte) []byte {
			le.PutUint16(b[2:], 0xff00)
			le.PutUint32(b[8:], 20+40*0xff00)
			return append(b, make([]byte, 4096)...)
		}, false},
		{"an optional header", func(b []byte) []byte { b[16] = 0xf0; return b }, false},
		{"an executable's flags", func(b []byte) []byte { b[18] = 0x22; return b }, false},
		{"a library's flags", func(b []byte) []byte { b[19] = 0x20; return b }, false},
		{"symbols without a place", func(b []byte) []byte { clear(b[8:12]); return b }, false},
		{"symbols in the header", func(b []byte) []byte { le.PutUint32(b[8:], 50); return b }, false},
		{"symbols behind 4 GB", func(b []byte) []byte { le.PutUint32(b[12:], 1<<31); return b }, false},
		{"a section without a name", func(b []byte) []byte { clear(b[20:28]); return b }, false},
		{"a name with a zero in it", func(b []byte) []byte { b[22] = 0; return b }, false},
		{"a section in the header", func(b []byte) []byte { b[20+20] = 20; return b }, false},
		{"relocations in the header", func(b []byte) []byte { b[20+24] = 20; return b }, false},
		{"an alignment that there is not", func(b []byte) []byte { b[20+38] = 0xf0; return b }, false},
		{"big", enlarge, true},
		{"big of version 1", func(b []byte) []byte { b = enlarge(b); b[4] = 1; return b }, false},
		{"big without sections", func(b []byte) []byte { b = enlarge(b); clear(b[44:48]); return b }, false},
		{"big with more sections than fit", func(b []byte) []byte { b = enlarge(b); b[47] = 1; return b }, false},
		{"big, cut off in its header", func(b []byte) []byte { return enlarge(b)[:55] }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := test.change(craftedSymbols())
			if got := pe.IsObject(data); got != test.want {
				t.Errorf("IsObject = %v; want %v", got, test.want)
			}
			if m, err := pe.ParseObject(data); (err == nil) != test.want || (m != nil) != test.want {
				t.Errorf("ParseObject = %v, %v", m, err)
			}
		})
	}
}

// TestIsObjectRandom has random data that starts with a machine's number, as
// no small part of other files does.
func TestIsObjectRandom(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	head := make([]byte, 4096)
	for i := range 5000 {
		_, _ = random.Read(head)
		for _, machine := range []uint16{i386, amd64, arm64, 0x1c4, 0x200} {
			binary.LittleEndian.PutUint16(head, machine)
			if i%2 == 1 { // the likeliest words are zeros
				clear(head[4:8])
				clear(head[16:20])
			}
			if pe.IsObject(head) || pe.IsImport(head) {
				t.Fatalf("% x is taken for an object", head[:64])
			}
		}
	}
}

func TestAnonymousObjects(t *testing.T) {
	lto := []byte{0x38, 0xfe, 0xb3, 0x0c, 0xa5, 0xd9, 0xab, 0x4d, 0xac, 0x9b, 0xd6, 0xb6, 0x22, 0x26, 0x53, 0xc2}
	other := slices.Clone(lto)
	other[0]++
	for _, test := range []struct {
		name string
		data []byte
		is   bool
		want string // in the error
	}{
		{"link-time code generation", anonymousObject(1, amd64, lto), true, "not looked at: an object for link-time code generation"},
		{"another class", anonymousObject(1, 0, other), true, "not looked at: an anonymous object of class"},
		{"another machine", anonymousObject(1, 0x1234, lto), false, "not a COFF object"},
		{"another version", anonymousObject(3, amd64, lto), false, "not a COFF object"},
		{"no class", anonymousObject(1, amd64, make([]byte, 16)), false, "not a COFF object"},
		{"cut off", anonymousObject(1, amd64, lto)[:27], false, "not a COFF object"},
	} {
		if got := pe.IsObject(test.data); got != test.is || pe.IsImport(test.data) {
			t.Errorf("%s: IsObject = %v; want %v", test.name, got, test.is)
		}
		if _, err := pe.ParseObject(test.data); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v; want %q", test.name, err, test.want)
		}
	}
}

func TestIsImport(t *testing.T) {
	short := func(machine, kind uint16) []byte {
		b := binary.LittleEndian.AppendUint32(nil, 0xffff0000)
		b = append(b, 0, 0, byte(machine), byte(machine>>8), 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, byte(kind), byte(kind>>8))
		return append(b, "one\x00a.dll\x00"...)
	}
	part := func(name string, flags uint32) []byte {
		b := craftObject()
		for i := range 2 {
			copy(b[20+40*i:], name)
			binary.LittleEndian.PutUint32(b[20+40*i+36:], flags)
		}
		return b
	}
	for _, test := range []struct {
		name string
		data []byte
		want bool
	}{
		{"a name", short(amd64, 4), true},
		{"a name for no machine", short(0x1234, 4), false},
		{"a kind that there is not", short(amd64, 3), false},
		{"bits that nothing uses", short(amd64, 0x40), false},
		{"a name without its end", short(amd64, 4)[:19], false},
		{"a part of the directory", part(".idata$5", 0xc0300040), true},
		{"a part with a jump", func() []byte {
			b := part(".idata$5", 0xc0300040)
			copy(b[20:], ".text\x00\x00\x00")
			b[20+36], b[20+39] = 0x20, 0x60
			return b
		}(), true},
		{"with more code than a jump", func() []byte { b := part(".idata$5", 0xc0300040); b[20+16], b[20+36] = 17, 0x20; return b }(), false},
		{"with code in two sections", part(".idata$5", 0x60300020), false},
		{"with data", func() []byte { b := part(".idata$5", 0xc0300040); copy(b[20:], ".data\x00\x00\x00"); return b }(), false},
		{"debug information alone", part(".debug$S", 0x42100040), false},
		{"an object", craftObject(), false},
	} {
		if got := pe.IsImport(test.data); got != test.want {
			t.Errorf("%s: %v; want %v", test.name, got, test.want)
		}
	}
}

func TestObjectTruncated(t *testing.T) {
	for _, data := range [][]byte{craftedSymbols(), enlarge(craftedSymbols())} {
		for n := range data {
			m, err := pe.ParseObject(data[:n])
			if err == nil && len(m.Notes) == 0 && n < len(data)-4 {
				t.Fatalf("%d of %d bytes are read without a note", n, len(data))
			}
		}
	}
}
