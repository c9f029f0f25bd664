package pe_test

import (
	"debug/pe"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A toolchain compiles for Windows without its SDK.
type toolchain struct {
	t                         *testing.T
	dir                       string
	clang, link, dlltool, obj string
}

func newToolchain(t *testing.T) toolchain {
	t.Helper()
	tc := toolchain{t: t, dir: t.TempDir()}
	for _, tool := range []struct {
		path *string
		name string
	}{{&tc.clang, "clang-16"}, {&tc.link, "lld-link-16"}, {&tc.dlltool, "llvm-dlltool-16"}, {&tc.obj, "llvm-readobj-16"}} {
		path, err := exec.LookPath(tool.name)
		if err != nil {
			t.Skipf("%s is not installed", tool.name)
		}
		*tool.path = path
	}
	return tc
}

func (tc toolchain) path(name string) string { return filepath.Join(tc.dir, name) }

func (tc toolchain) write(name, text string) string {
	tc.t.Helper()
	if err := os.WriteFile(tc.path(name), []byte(text), 0o600); err != nil {
		tc.t.Fatal(err)
	}
	return tc.path(name)
}

func (tc toolchain) run(name string, args ...string) string {
	tc.t.Helper()
	out, err := exec.CommandContext(tc.t.Context(), name, args...).CombinedOutput()
	if err != nil {
		tc.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

const importingProgram = `
__declspec(dllimport) int connect(int, void *, int);
__declspec(dllimport) void *SysAllocString(const void *);
__declspec(dllimport) int numbered(int);
__declspec(dllimport) int named(int);
__declspec(dllimport) int late(int);
__declspec(dllimport) int lateNumbered(int);
void *__stdcall __delayLoadHelper2(void *a, void *b) { return 0; }
int _fltused;
__declspec(dllexport) int shared = 3;
int leaf(int x) { return x * 3; }
__declspec(dllexport) int work(int x) {
	char buf[64];
	volatile char *p = buf;
	for (int i = 0; i < 64; i++) p[i] = (char)x;
	return connect(x, buf, 64) + numbered(x) + named(x) + late(x) + lateNumbered(x) + (SysAllocString(buf) != 0) + leaf(p[3]);
}
int start(void *a, int b, void *c) { return work(b); }
`

// buildImporting links a library that imports by name and by number, at once
// and delayed.
func (tc toolchain) buildImporting(target string, extra ...string) string {
	tc.t.Helper()
	machine := map[string]string{"x86_64": "i386:x86-64", "i686": "i386", "aarch64": "arm64", "thumbv7": "arm"}[target]
	source := tc.write("importing.c", importingProgram)
	object := tc.path(target + ".obj")
	tc.run(tc.clang, "-target", target+"-windows-msvc", "-O1", "-fno-builtin", "-Wno-everything", "-c", "-o", object, source)
	libs := []string{}
	for library, exports := range map[string]string{
		"ws2_32.dll":   "connect @4 NONAME",
		"oleaut32.dll": "SysAllocString @2 NONAME",
		"other.dll":    "numbered @1234 NONAME\nnamed",
		"late.dll":     "late\nlateNumbered @77 NONAME",
	} {
		def := tc.write(library+".def", "LIBRARY "+library+"\nEXPORTS\n"+exports+"\n")
		lib := tc.path(target + "-" + library + ".lib")
		tc.run(tc.dlltool, "-m", machine, "-d", def, "-l", lib)
		libs = append(libs, lib)
	}
	slices.Sort(libs)
	// Two more exports: one without a name, one that is elsewhere.
	out := tc.path(target + ".dll")
	args := append([]string{"/dll", "/entry:start", "/safeseh:no", "/delayload:late.dll", "/export:leaf,@50,NONAME", "/export:away=kernel32.Sleep",
		"/debug", "/out:" + out, object}, libs...)
	if target == "i686" {
		args = append(args, "/alternatename:___delayLoadHelper2@8=___delayLoadHelper2")
	}
	tc.run(tc.link, append(args, extra...)...)
	return out
}

func TestBuiltAgainstPefile(t *testing.T) {
	tc := newToolchain(t)
	var paths []string
	for _, target := range []string{"x86_64", "i686", "aarch64"} {
		paths = append(paths, tc.buildImporting(target))
	}
	compareWithPefile(t, paths)
	for _, p := range paths {
		m := parseFile(t, p)
		for _, name := range []string{"connect", "SysAllocString", "#1234", "named", "late", "#77"} {
			if !slices.ContainsFunc(m.Imports, func(i image.Import) bool {
				return i.Name == name && i.Delay == (i.Library == "late.dll") && i.Slot != 0
			}) {
				t.Errorf("%s: no import %s in %+v", filepath.Base(p), name, m.Imports)
			}
		}
		for name, want := range map[string]bool{"work": false, "shared": true} {
			if i := slices.IndexFunc(m.Exports, func(e image.Export) bool { return e.Name == name }); i < 0 || m.Exports[i].Data != want {
				t.Errorf("%s: export %s: %+v", filepath.Base(p), name, m.Exports)
			}
		}
		if m.Kind != image.Library || m.OS != "windows" || !m.Stripped || m.BuildID == "" {
			t.Errorf("%s: %s for %s, stripped %v, build id %q", filepath.Base(p), m.Kind, m.OS, m.Stripped, m.BuildID)
		}
	}
}

func TestBuiltAgainstReadobj(t *testing.T) {
	tc := newToolchain(t)
	for _, target := range []string{"x86_64", "i686", "aarch64"} {
		path := tc.buildImporting(target)
		m := parseFile(t, path)
		want := readobjNames(tc.run(tc.obj, "--coff-imports", "--coff-exports", path))
		var got []string
		for _, i := range m.Imports {
			if i.Ordinal > 0 {
				got = append(got, fmt.Sprintf("import %s %d", i.Library, i.Ordinal))
			} else {
				got = append(got, fmt.Sprintf("import %s %s", i.Library, i.Name))
			}
		}
		for _, e := range m.Exports {
			got = append(got, fmt.Sprintf("export %s %d", e.Name, e.Ordinal))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, llvm-readobj says %q", target, got, want)
		}
	}
}

// readobjNames reads llvm-readobj's lists of imports and exports.
func readobjNames(out string) []string {
	var list []string
	library, ordinal, name, export := "", "", "", false
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.HasSuffix(line, "{"):
			export = line == "Export {"
		case key == "Name" && export:
			name = value
		case key == "RVA" && value != "0x0", key == "ForwardedTo":
			list = append(list, fmt.Sprintf("export %s %s", name, ordinal))
		case key == "Name":
			library = value
		case key == "Ordinal":
			ordinal = value
		case key == "Symbol":
			// "name (hint)", or "(ordinal)" alone.
			name, number, _ := strings.Cut(strings.TrimSuffix(value, ")"), "(")
			if name = strings.TrimSpace(name); name == "" {
				name = number
			}
			list = append(list, fmt.Sprintf("import %s %s", library, name))
		}
	}
	slices.Sort(list)
	return list
}

func TestBuiltKinds(t *testing.T) {
	tc := newToolchain(t)
	source := tc.write("nothing.c", "int start(void *a, void *b) { return 0; }")
	object := tc.path("nothing.obj")
	tc.run(tc.clang, "-target", "x86_64-windows-msvc", "-c", "-o", object, source)
	for _, test := range []struct {
		flags []string
		kind  image.Kind
		os    string
	}{
		{[]string{"/subsystem:efi_application"}, image.Executable, "uefi"},
		{[]string{"/subsystem:efi_runtime_driver"}, image.Driver, "uefi"},
		{[]string{"/subsystem:native", "/driver"}, image.Driver, "windows"},
		{[]string{"/subsystem:native", "/driver", "/align:64"}, image.Driver, "windows"},
		{[]string{"/subsystem:console"}, image.Executable, "windows"},
	} {
		out := tc.path("nothing.exe")
		tc.run(tc.link, append([]string{"/entry:start", "/out:" + out, object}, test.flags...)...)
		m := parseFile(t, out)
		if m.Kind != test.kind || m.OS != test.os || m.Linkage != image.Static || len(m.Notes) > 0 {
			t.Errorf("%q: %s for %s, %s, notes %q", test.flags, m.Kind, m.OS, m.Linkage, m.Notes)
		}
		if code := m.At(m.Entry); len(code) < 3 || m.Functions.Count == 0 {
			t.Errorf("%q: %d bytes of code at the entry, %d functions", test.flags, len(code), m.Functions.Count)
		}
	}
}

func parseFile(t *testing.T, path string) *image.Image {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, data)
}

// manyFunctions writes a C program with functions of all sorts: some that are
// called, some only pointed to, some only reached by a tail call, with
// switches, loops and frames.
func manyFunctions(n int) string {
	var b strings.Builder
	b.WriteString("volatile int sink; int use(int *); typedef int (*fn)(int);\n")
	for i := range n {
		fmt.Fprintf(&b, "static int f%d(int x);\n", i)
	}
	b.WriteString("static const fn tab[] = {")
	for i := 0; i < n; i += 3 {
		fmt.Fprintf(&b, "f%d,", i)
	}
	b.WriteString("};\n__attribute__((noinline)) int use(int *p) { return sink + *p; }\n")
	for i := range n {
		next := (i*7 + 1) % n
		fmt.Fprintf(&b, "static __attribute__((noinline)) int f%d(int x) {\n", i)
		switch i % 6 {
		case 0:
			b.WriteString("\tswitch (x) {\n")
			for c := range 9 {
				fmt.Fprintf(&b, "\tcase %d: sink += x * %d; break;\n", c, c*i+1)
			}
			fmt.Fprintf(&b, "\tdefault: return f%d(x + 1);\n\t}\n\treturn x;\n", next)
		case 1:
			fmt.Fprintf(&b, "\tif (x > %d) return f%d(x - 1);\n\treturn f%d(x) ^ %d;\n", i, next, next, 1000+i*257)
		case 2:
			fmt.Fprintf(&b, "\tint a[16]; for (int k = 0; k < 16; k++) a[k] = x + k + %d;\n\treturn use(a);\n", i)
		case 3:
			fmt.Fprintf(&b, "\treturn tab[(unsigned)x %% %d](x);\n", (n+2)/3)
		case 4:
			fmt.Fprintf(&b, "\twhile (x < %d) { sink += x; x = x * 3 + f%d(x); }\n\treturn x;\n", i*100, next)
		case 5:
			fmt.Fprintf(&b, "\tsink = %d;\n\treturn x + %d;\n", i, 0xe8+i)
		}
		b.WriteString("}\n")
	}
	b.WriteString("__declspec(dllexport) int start(int x) { int s = 0;\n")
	for i := 1; i < n; i += 2 {
		fmt.Fprintf(&b, "\ts += f%d(x);\n", i)
	}
	b.WriteString("\treturn s;\n}\n")
	return b.String()
}

// textSymbols returns the addresses of what a COFF symbol table, as the standard
// library reads it, names in .text.
func textSymbols(t *testing.T, data []byte, base uint64) []uint64 {
	t.Helper()
	f, err := pe.NewFile(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	var list []uint64
	for _, s := range f.Symbols {
		if s.SectionNumber < 1 || int(s.SectionNumber) > len(f.Sections) || s.StorageClass != 2 && s.StorageClass != 3 {
			continue
		}
		sec := f.Sections[s.SectionNumber-1]
		// Names with a dot are sections and split-off cold parts, and the
		// lists of constructors are data.
		if sec.Name != ".text" || strings.Contains(s.Name, ".") || strings.Contains(s.Name, "TOR_LIST__") || strings.HasPrefix(s.Name, "__fu") {
			continue
		}
		list = append(list, base+uint64(sec.VirtualAddress)+uint64(s.Value))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// compareGuess parses a file without its symbols, and expects the functions
// that these name: their number within 10 %, and nine of ten the same.
func compareGuess(t *testing.T, name string, data []byte) {
	t.Helper()
	full := parse(t, data)
	truth := textSymbols(t, data, full.Base)
	at := le.Uint32(data[0x3c:]) + 4
	clear(data[at+8 : at+16]) // where the symbols are, and how many
	m := parse(t, data)
	text := m.Section(".text")
	found, right := 0, 0
	for _, f := range m.Functions.List {
		if f.Addr < text.Addr || f.Addr >= text.Addr+text.Size {
			continue
		}
		found++
		if _, ok := slices.BinarySearch(truth, f.Addr); ok {
			right++
		}
	}
	precision, recall := float64(right)/float64(found), float64(right)/float64(len(truth))
	t.Logf("%s: %d functions, found %d, precision %.3f, recall %.3f", name, len(truth), found, precision, recall)
	if m.Functions.Method != "heuristic" || math.Abs(float64(found-len(truth))) > 0.1*float64(len(truth)) || precision < 0.9 || recall < 0.9 {
		t.Errorf("%s: by %s found %d functions of %d, precision %.3f, recall %.3f", name, m.Functions.Method, found, len(truth), precision, recall)
	}
}

func TestGuessClang(t *testing.T) {
	tc := newToolchain(t)
	source := tc.write("many.c", manyFunctions(300))
	for _, level := range []string{"-O0", "-O1", "-O2", "-Os"} {
		for _, flags := range [][]string{{"/dynamicbase"}, {"/fixed"}} {
			object, out := tc.path("many.obj"), tc.path("many.exe")
			tc.run(tc.clang, "-target", "i686-windows-msvc", level, "-Wno-everything", "-c", "-o", object, source)
			tc.run(tc.link, append([]string{"/entry:start", "/subsystem:console", "/safeseh:no", "/debug:symtab", "/out:" + out, object}, flags...)...)
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			compareGuess(t, "clang "+level+" "+flags[0], data)
		}
	}
}

func TestGuessGCC(t *testing.T) {
	gcc, err := exec.LookPath("i686-w64-mingw32-gcc")
	if err != nil {
		t.Skip("i686-w64-mingw32-gcc is not installed")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "many.c")
	if err := os.WriteFile(source, []byte(manyFunctions(300)+"int main(int c, char **v) { return start(c); }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, level := range []string{"-O0", "-O2", "-Os"} {
		out := filepath.Join(dir, "many.exe")
		if text, err := exec.CommandContext(t.Context(), gcc, level, "-g", "-w", "-o", out, source).CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, text)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		m := parse(t, data)
		if m.Functions.Method != "symbols" || m.Stripped || !slices.ContainsFunc(m.Compilers, func(c string) bool { return strings.HasPrefix(c, "GCC: (") }) {
			t.Errorf("with symbols: by %s, stripped %v, compilers %q", m.Functions.Method, m.Stripped, m.Compilers)
		}
		if i := slices.IndexFunc(m.Functions.List, func(f image.Function) bool { return f.Name == "_main" }); i < 0 {
			t.Error("with symbols: no function _main")
		}
		if m.Section(".debug_info") == nil {
			t.Error("with -g: no section .debug_info")
		}
		compareGuess(t, "gcc "+level, data)
	}
}

// The 32-bit libraries of mingw have their symbols.
func TestGuessSystem(t *testing.T) {
	files, _ := filepath.Glob("/usr/lib/gcc/i686-w64-mingw32/*-win32/*.dll")
	if len(files) == 0 {
		t.Skip("gcc-mingw-w64-i686 is not installed")
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if at := le.Uint32(data[0x3c:]) + 4; le.Uint32(data[at+12:]) > 0 {
			compareGuess(t, filepath.Base(f), data)
		}
	}
}
