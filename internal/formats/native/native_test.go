package native_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/text"
)

func TestIdentify(t *testing.T) {
	mz := func(at uint32, signature string) string {
		b := make([]byte, 0x100)
		copy(b, "MZ")
		binary.LittleEndian.PutUint32(b[0x3c:], at)
		if int(at)+len(signature) <= len(b) {
			copy(b[at:], signature)
		}
		return string(b)
	}
	coff := func(section string, flags uint32) string {
		b := append([]byte("\x64\x86\x01\x00"), make([]byte, 56)...)
		copy(b[20:], section)
		binary.LittleEndian.PutUint32(b[56:], flags)
		return string(b)
	}
	for _, test := range []struct {
		name, in string
		want     native.Kind
	}{
		{"empty", "", native.Unknown},
		{"text", "#!/bin/sh\nexec true\n", native.Unknown},
		{"ELF", "\x7fELF\x02\x01\x01\x00", native.ELF},
		{"PE", mz(0x80, "PE\x00\x00"), native.PE},
		{"PE far away", mz(0x200, ""), native.PE},
		{"NE", mz(0x80, "NE\x01\x02"), native.DOS},
		{"short MZ", "MZ\x90\x00", native.DOS},
		{"Mach-O, 64 bits", "\xcf\xfa\xed\xfe\x07\x00\x00\x01", native.MachO},
		{"Mach-O, 32 bits", "\xce\xfa\xed\xfe\x07\x00\x00\x00", native.MachO},
		{"Mach-O, big-endian", "\xfe\xed\xfa\xce\x00\x00\x00\x12", native.MachO},
		{"fat Mach-O", "\xca\xfe\xba\xbe\x00\x00\x00\x02\x01\x00\x00\x07", native.FatMachO},
		{"fat Mach-O, 64 bits", "\xca\xfe\xba\xbf\x00\x00\x00\x02\x01\x00\x00\x07", native.FatMachO},
		{"Java class", "\xca\xfe\xba\xbe\x00\x00\x00\x34\x00\x1d", native.JavaClass},
		{"Java class of the first version", "\xca\xfe\xba\xbe\x00\x03\x00\x2d\x00\x1d", native.JavaClass},
		{"Wasm", "\x00asm\x01\x00\x00\x00", native.Wasm},
		{"COFF object", coff(".text", 0x60000020), native.COFF},
		{"COFF object for link-time code generation", "\x00\x00\xff\xff\x01\x00\x64\x86\x00\x00\x00\x00\x38\xfe\xb3\x0c\xa5\xd9\xab\x4d\xac\x9b\xd6\xb6\x22\x26\x53\xc2\x00\x00\x00\x00", native.COFF},
		{"a number of a machine, and text", "\x64\x86" + strings.Repeat("text ", 800), native.Unknown},
		{"a number of a machine, and zeros", "\x64\x86" + strings.Repeat("\x00", 4094), native.Unknown},
		{"import of a name", "\x00\x00\xff\xff\x00\x00\x64\x86\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x04\x00one\x00a.dll\x00", native.Import},
		{"part of an import directory", coff(".idata$5", 0xc0000040), native.Import},
		{"static library", "!<arch>\n/               ", native.Archive},
		{"thin library", "!<thin>\n", native.Archive},
		{"Dalvik", "dex\n035\x00\x01\x02", native.Dex},
		{"bitcode", "BC\xc0\xde\x35\x14\x00\x00", native.Bitcode},
		{"bitcode in its wrapper", "\xde\xc0\x17\x0b\x00\x00\x00\x00", native.Bitcode},
		{"Python 3.11", "\xa7\x0d\r\n\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08", native.Python},
		{"Python 2.7", "\x03\xf3\r\n\x01\x02\x03\x04\x01\x02\x03\x04\x05\x06\x07\x08", native.Python},
		{"a text of two letters and a line", "ab\r\ncdefghijklmnopq", native.Unknown},
		{"Lua", "\x1bLua\x54\x00\x19\x93", native.Lua},
		{"Hermes", "\xc6\x1f\xbc\x03\xc1\x03\x19\x1f", native.Hermes},
		{"XCOFF", "\x01\xf7\x00\x05\x00\x00\x00\x00", native.XCOFF},
		{"UF2", "UF2\n\x57\x51\x5d\x9e", native.UF2},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := native.Identify([]byte(test.in)); got != test.want {
				t.Errorf("Identify = %q; want %q", got, test.want)
			}
		})
	}
}

func TestDemangle(t *testing.T) {
	for name, want := range map[string]string{
		"_ZN3foo3barEi":                                          "foo::bar(int)",
		"_ZNSt6vectorIiSaIiEE9push_backEOi":                      "std::vector<int, std::allocator<int> >::push_back(int&&)",
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE":         "core::fmt::Formatter::pad",
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.12": "core::fmt::Formatter::pad",
		"_RNvCs1234_7mycrate3foo":                                "mycrate::foo",
		"_D3std5stdio7writelnFZv":                                "std.stdio.writeln",
		"_D3std":                                                 "_D3std",
		"_D9999999999x":                                          "_D9999999999x",
		"?f@ns@@YAHXZ":                                           "ns::f",
		"?f@inner@outer@@QEAAXXZ":                                "outer::inner::f",
		"??0Foo@bar@@QEAA@XZ":                                    "bar::Foo::Foo",
		"??1Foo@bar@@QEAA@XZ":                                    "bar::Foo::~Foo",
		"??_7Foo@@6B@":                                           "Foo::`vftable'",
		"??2@YAPEAX_K@Z":                                         "operator new",
		"??4Foo@@QEAAAEAV0@AEBV0@@Z":                             "Foo::operator=",
		"?f@?A0x12345678@@YAXXZ":                                 "`anonymous namespace'::f",
		"?g@5@YAXXZ":                                             "?g@5@YAXXZ",
		"?a@b@1@@YAXXZ":                                          "b::b::a",
		"??$make@H@ns@@YAXXZ":                                    "??$make@H@ns@@YAXXZ",
		"?f@?$vector@H@std@@QEAAXXZ":                             "?f@?$vector@H@std@@QEAAXXZ",
		"?":                                                      "?",
		"??":                                                     "??",
		"???":                                                    "???",
		"$s4main3fooyyF":                                         "$s4main3fooyyF",
		"main":                                                   "main",
		"":                                                       "",
		"_Z":                                                     "_Z",
		"_ZN":                                                    "_ZN",
		"_Z" + strings.Repeat("N", 5000):                         "_Z" + strings.Repeat("N", 5000),
	} {
		if got := native.Demangle(name); got != want {
			t.Errorf("Demangle(%q) = %q; want %q", name, got, want)
		}
	}
}

// compile runs a compiler in a fresh folder and returns the file out.
func compile(t *testing.T, files map[string]string, command string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(command); err != nil {
		t.Skipf("needs %s", command)
	}
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), command, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOPROXY=off", "GOTOOLCHAIN=local", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil { // MinGW adds to the name
		data, err = os.ReadFile(filepath.Join(dir, "out.exe"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const source = "#include <stdio.h>\nint planted(void) { return puts(\"go to https://planted.example.test/a\"); }\nint main(void) { return planted(); }\n"

func one(t *testing.T, data []byte) *native.Binary {
	t.Helper()
	list, notes := native.Parse(data)
	if len(list) != 1 || len(notes) != 0 {
		t.Fatalf("%d images with notes %q; want one without", len(list), notes)
	}
	if len(list[0].Notes) != 0 {
		t.Fatalf("notes %q", list[0].Notes)
	}
	return list[0]
}

func hasURL(b *native.Binary) bool {
	return slices.ContainsFunc(b.Strings, func(r text.Ranked) bool {
		return r.Kind == text.URL && r.Value == "https://planted.example.test/a" && r.Address != 0 && r.Section != ""
	})
}

func TestC(t *testing.T) {
	for _, compiler := range []string{"gcc", "clang-16", "x86_64-w64-mingw32-gcc"} {
		t.Run(compiler, func(t *testing.T) {
			b := one(t, compile(t, map[string]string{"a.c": source}, compiler, "-o", "out", "a.c"))
			if b.Language != "C" && b.Language != "C/C++" {
				t.Errorf("language %q", b.Language)
			}
			if !hasURL(b) {
				t.Errorf("the planted address is not among %+v", b.Strings)
			}
			for i := range b.Sections {
				if b.Sections[i].Name == ".text" && (b.Entropy(i) < 3 || b.Entropy(i) > 8) {
					t.Errorf("entropy of .text is %v", b.Entropy(i))
				}
			}
			if b.GoInfo != nil || b.RustInfo != nil || b.UserFunctions != 0 {
				t.Error("Go or Rust seen")
			}
			if slices.Contains(b.Flags, native.Stripped) {
				t.Errorf("flags %v; it is not stripped", b.Flags)
			}
		})
	}
}

func TestGo(t *testing.T) {
	files := map[string]string{
		"go.mod":  "module example.test/planted\n\ngo 1.21\n",
		"main.go": "package main\n\n//go:noinline\nfunc planted() { println(\"go to https://planted.example.test/a\") }\n\nfunc main() { planted() }\n",
	}
	b := one(t, compile(t, files, "go", "build", "-o", "out", "-ldflags=-s -w", "."))
	if b.Language != "Go" || b.GoInfo == nil || len(b.Toolchain) == 0 || b.Toolchain[0] != b.GoInfo.Version {
		t.Fatalf("language %q, tools %q", b.Language, b.Toolchain)
	}
	if b.Functions.Method != "pclntab" || b.Functions.Count != len(b.GoInfo.Functions) || b.UserFunctions < 2 || b.UserFunctions > 10 || b.Functions.Coverage < 0.9 {
		t.Errorf("functions %s, %d, %d of the user, coverage %v", b.Functions.Method, b.Functions.Count, b.UserFunctions, b.Functions.Coverage)
	}
	if !slices.ContainsFunc(b.Functions.List, func(f image.Function) bool { return f.Name == "main.planted" && f.Size > 0 }) {
		t.Error("no main.planted")
	}
	if !hasURL(b) {
		t.Errorf("the planted address is not among %+v", b.Strings)
	}
}

func TestStaticLibrary(t *testing.T) {
	files := map[string]string{"a.c": "int one(void) { return 1; }\n", "b.c": "int two(void) { return 2; }\n", "readme": "text\n"}
	data := compile(t, files, "sh", "-c", "gcc -c a.c b.c && ar rcs out a.o b.o readme")
	list, notes := native.Parse(data)
	var members, exports []string
	for _, b := range list {
		members = append(members, b.Member)
		for _, s := range b.Symbols {
			if s.Func {
				exports = append(exports, s.Name)
			}
		}
		if string(b.Data) != string(data[b.Offset:][:len(b.Data)]) {
			t.Errorf("%s is not at offset %d", b.Member, b.Offset)
		}
	}
	if want := []string{"a.o", "b.o"}; !slices.Equal(members, want) {
		t.Errorf("members %q; want %q", members, want)
	}
	if want := []string{"one", "two"}; !slices.Equal(exports, want) {
		t.Errorf("functions %q; want %q", exports, want)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "1 of 3") {
		t.Errorf("notes %q; want one about the member that is no object", notes)
	}
}

// TestWindowsLibrary has objects of Windows in a static library, next to one
// that no machine runs yet and the import of a name.
func TestWindowsLibrary(t *testing.T) {
	files := map[string]string{
		"a.c":      strings.ReplaceAll(source, "#include <stdio.h>", "int puts(const char *);"),
		"b.c":      "int two(void) { return 2; }\n",
		"late.obj": "\x00\x00\xff\xff\x01\x00\x64\x86\x00\x00\x00\x00\x38\xfe\xb3\x0c\xa5\xd9\xab\x4d\xac\x9b\xd6\xb6\x22\x26\x53\xc2\x00\x00\x00\x00",
		"one.obj":  "\x00\x00\xff\xff\x00\x00\x64\x86\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x04\x00one\x00a.dll\x00",
	}
	needs(t, "clang-16", "llvm-ar-16")
	data := compile(t, files, "sh", "-c", "for s in a b; do clang-16 -target x86_64-windows-msvc -c -o $s.obj $s.c || exit; done; llvm-ar-16 rcs out a.obj b.obj late.obj one.obj")
	list, notes := native.Parse(data)
	if len(list) != 2 || list[0].Member != "a.obj" || list[1].Member != "b.obj" {
		t.Fatalf("%d objects with notes %q; want two", len(list), notes)
	}
	want := []string{"late.obj: not looked at: an object for link-time code generation, which has no machine code yet", "import library: 1 names of a.dll"}
	if !slices.Equal(notes, want) {
		t.Errorf("notes %q; want %q", notes, want)
	}
	a := list[0]
	if a.Format != image.PE || a.Kind != image.Object || a.OS != "windows" || a.Functions.Count != 2 || !slices.Equal(a.ImportNames(), []string{"puts"}) || len(a.Notes) > 0 {
		t.Errorf("%s %s of %s with %d functions, imports %q, notes %q", a.Format, a.Kind, a.OS, a.Functions.Count, a.ImportNames(), a.Notes)
	}
	if !hasURL(a) {
		t.Errorf("the planted address is not among %+v", a.Strings)
	}
	if string(a.Data) != string(data[a.Offset:][:len(a.Data)]) {
		t.Errorf("a.obj is not at offset %d", a.Offset)
	}
}

// needs skips a test without the commands.
func needs(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			t.Skipf("needs %s", c)
		}
	}
}

// TestNoSymbolNames builds binaries whose symbols have names that would tell
// much, if they were texts.
func TestNoSymbolNames(t *testing.T) {
	const program = `extern int encrypt_session_password(int), inject_shell_payload(int);
const char *where = "go to https://planted.example.test/a";
int download_credential_token(int x) { return encrypt_session_password(x) + inject_shell_payload(x); }
`
	const windows = "clang-16 -target x86_64-windows-msvc -c -o a.obj a.c && llvm-dlltool-16 -m i386:x86-64 -d a.def -l b.lib && lld-link-16 /dll /noentry /export:download_credential_token /out:out a.obj b.lib"
	for name, command := range map[string]string{
		"Mach-O with opcodes":    "clang-16 -target x86_64-apple-macos10.14 -c -o a.o a.c && ld64.lld-16 -arch x86_64 -platform_version macos 10.14 10.14 -dylib -undefined dynamic_lookup -o out a.o",
		"Mach-O with chains":     "clang-16 -target arm64-apple-macos13 -c -o a.o a.c && ld64.lld-16 -arch arm64 -platform_version macos 13.0 13.0 -dylib -undefined dynamic_lookup -fixup_chains -adhoc_codesign -o out a.o",
		"ELF":                    "clang-16 -target x86_64-linux-gnu -fPIC -c -o a.o a.c && ld.lld-16 -shared -o out a.o",
		"ELF object":             "clang-16 -target x86_64-linux-gnu -c -o out a.c",
		"COFF object":            "clang-16 -target x86_64-windows-msvc -g -gcodeview -c -o out a.c",
		"PE":                     windows,
		"PE with a symbol table": windows + " /debug:symtab",
	} {
		t.Run(name, func(t *testing.T) {
			needs(t, "clang-16", "ld64.lld-16", "ld.lld-16", "lld-link-16", "llvm-dlltool-16")
			b := one(t, compile(t, map[string]string{"a.c": program, "a.def": "LIBRARY b.dll\nEXPORTS\n encrypt_session_password\n inject_shell_payload\n"}, "sh", "-c", command))
			if !slices.ContainsFunc(b.Strings, func(r text.Ranked) bool { return r.Value == "https://planted.example.test/a" }) {
				t.Errorf("the planted address is not among %+v", b.Strings)
			}
			for _, r := range b.Strings {
				if strings.Contains(r.Value, "_session_") || strings.Contains(r.Value, "_shell_") || strings.Contains(r.Value, "_credential_") {
					t.Errorf("%q in %q tells nothing", r.Value, r.Section)
				}
			}
			texts := text.Extract(b.Image)
			for i := range texts.Len() {
				r := texts.Run(i)
				for _, s := range b.Segments {
					if s.Name == "__LINKEDIT" && r.Offset >= s.Offset {
						t.Errorf("%q is extracted from what the loader reads", texts.Text(r))
					}
				}
			}
		})
	}
}

func TestImportLibrary(t *testing.T) {
	files := map[string]string{"a.def": "LIBRARY planted.dll\nEXPORTS\n one\n two\n"}
	data := compile(t, files, "llvm-dlltool-16", "-m", "i386:x86-64", "-d", "a.def", "-l", "out")
	list, notes := native.Parse(data)
	if len(list) != 0 || !slices.Contains(notes, "import library: 2 names of planted.dll") {
		t.Errorf("%d images with notes %q; want none, and a note about two names of planted.dll", len(list), notes)
	}
}

func TestFat(t *testing.T) {
	const page = 0x1000
	var slices [][]byte
	for _, arch := range []string{"x86_64", "arm64"} {
		slices = append(slices, compile(t, map[string]string{"a.c": "int planted(void) { return 1; }\n"}, "clang-16", "-target", arch+"-apple-macos11", "-c", "-o", "out", "a.c"))
	}
	fat := binary.BigEndian.AppendUint32([]byte("\xca\xfe\xba\xbe"), 2)
	for i, s := range slices {
		head := binary.LittleEndian.Uint64(s[4:]) // type and subtype of the processor
		for _, v := range []uint32{uint32(head), uint32(head >> 32), uint32((i + 1) * page), uint32(len(s)), 12} {
			fat = binary.BigEndian.AppendUint32(fat, v)
		}
	}
	for i, s := range slices {
		fat = append(append(fat, make([]byte, (i+1)*page-len(fat))...), s...)
	}
	list, notes := native.Parse(fat)
	if len(list) != 2 || len(notes) != 0 {
		t.Fatalf("%d images with notes %q; want two without", len(list), notes)
	}
	for i, want := range []image.Arch{image.X86_64, image.AArch64} {
		if b := list[i]; b.Arch != want || b.Offset != int64((i+1)*page) || !bytes.Equal(b.Data, slices[i]) {
			t.Errorf("slice %d is %s at %#x with %d bytes; want %s", i, b.Arch, b.Offset, len(b.Data), want)
		}
	}
}

func TestNotRead(t *testing.T) {
	for name, in := range map[string]string{
		"empty": "", "text": "hello there", "Java class": "\xca\xfe\xba\xbe\x00\x00\x00\x34\x00\x1d", "ELF without a header": "\x7fELF", "PE without a header": "MZ" + strings.Repeat("\x00", 100), "empty library": "!<arch>\ngarbage",
	} {
		list, notes := native.Parse([]byte(in))
		if len(list) != 0 || len(notes) == 0 {
			t.Errorf("%s: %d images with notes %q; want a note alone", name, len(list), notes)
		}
	}
}

func TestFlags(t *testing.T) {
	b := one(t, compile(t, map[string]string{"a.c": source}, "gcc", "-g", "-static", "-o", "out", "a.c"))
	if want := []native.Flag{native.DebugInformation, native.StaticallyLinked}; !reflect.DeepEqual(b.Flags, want) {
		t.Errorf("flags %q; want %q", b.Flags, want)
	}
	start := map[string]string{"a.s": ".globl _start\n_start: ret\n.data\n.long 1\n"}
	b = one(t, compile(t, start, "gcc", "-s", "-static", "-nostdlib", "-Wl,--omagic", "-o", "out", "a.s"))
	if want := []native.Flag{native.Stripped, native.StaticallyLinked, native.WritableCode}; !reflect.DeepEqual(b.Flags, want) {
		t.Errorf("flags %q; want %q", b.Flags, want)
	}
}

// TestDeterministic parses the same bytes again.
func TestDeterministic(t *testing.T) {
	path, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := native.Parse(data)
	second, _ := native.Parse(data)
	if len(first) != 1 || !reflect.DeepEqual(first[0].Strings, second[0].Strings) || !reflect.DeepEqual(first[0].Languages, second[0].Languages) || !reflect.DeepEqual(first[0].GoInfo, second[0].GoInfo) {
		t.Error("the second time, something else")
	}
	if len(first[0].Strings) != 200 {
		t.Errorf("%d telling texts; want 200", len(first[0].Strings))
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"\x7fELF\x02\x01\x01\x00", "MZ", "\xcf\xfa\xed\xfe\x07\x00\x00\x01", "\xca\xfe\xba\xbe\x00\x00\x00\x02", "\x00asm\x01\x00\x00\x00", "!<arch>\na.o/            0           0     0     644     4         `\n\x7fELF",
	} {
		f.Add([]byte(seed))
	}
	for _, path := range []string{"/usr/x86_64-w64-mingw32/lib/crt2.o", "/usr/bin/true", "/usr/lib/x86_64-linux-gnu/crti.o", "/usr/x86_64-w64-mingw32/lib/libm.a", "/usr/lib/x86_64-linux-gnu/libdl.a"} {
		if data, err := os.ReadFile(path); err == nil && len(data) < 64<<10 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, notes := native.Parse(data)
		for _, n := range notes {
			if strings.Contains(n, "failed:") {
				t.Fatal(n) // a parser panicked
			}
		}
		for _, b := range list {
			for _, n := range b.Notes {
				if strings.Contains(n, "what follows from it failed") {
					t.Fatal(n)
				}
			}
			if len(b.Strings) > 200 || len(b.Measured.Sections) != len(b.Sections) {
				t.Fatalf("%d texts, %d entropies for %d sections", len(b.Strings), len(b.Measured.Sections), len(b.Sections))
			}
		}
	})
}

func FuzzDemangle(f *testing.F) {
	for _, seed := range []string{"_ZN3foo3barEi", "_RNvCs1234_7mycrate3foo", "?f@ns@@YAHXZ", "??_7Foo@@6B@", "_D3std5stdio7writelnFZv", "_ZNSt6vectorIiSaIiEE9push_backEOi"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if got := native.Demangle(name); len(got) > max(len(name), 16<<10) {
			t.Fatalf("%d characters out of %d", len(got), len(name))
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for name, command := range map[string]string{"Go": "go", "C": "bash"} {
		path, err := exec.LookPath(command)
		if err != nil {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				native.Parse(data)
			}
		})
	}
}
