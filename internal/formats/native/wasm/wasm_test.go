package wasm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/wasm"
)

const (
	moduleHeader    = "\x00asm\x01\x00\x00\x00"
	componentHeader = "\x00asm\x0d\x00\x01\x00"
)

// uleb, text, vec and section write what a module is made of.
func uleb(v uint64) string { return string(binary.AppendUvarint(nil, v)) }

func text(s string) string { return uleb(uint64(len(s))) + s }

func vec(items ...string) string { return uleb(uint64(len(items))) + strings.Join(items, "") }

func section(id byte, content string) string {
	return string(id) + uleb(uint64(len(content))) + content
}

func custom(name, content string) string { return section(0, text(name)+content) }

// sub writes a subsection.
func sub(id byte, content string) string { return section(id, content) }

// module has two imported and three defined functions.
func module(extra ...string) string {
	return moduleHeader +
		section(1, vec("\x60\x00\x00")) +
		section(2, vec(
			text("env")+text("log")+"\x00\x00",
			text("wasi_snapshot_preview1")+text("fd_write")+"\x00\x00",
			text("env")+text("memory")+"\x02\x01\x01\x02",
			text("env")+text("table")+"\x01\x70\x00\x01",
			text("env")+text("__stack_pointer")+"\x03\x7f\x01",
			text("env")+text("error")+"\x04\x00\x00",
			text("env")+text("refs")+"\x01\x63\x6e\x00\x01",
		)) +
		section(3, vec("\x00", "\x00", "\x00")) +
		section(7, vec(
			text("run")+"\x00\x03",
			text("again")+"\x00\x01",
			text("mem")+"\x02\x00",
			text("_start")+"\x00\x02",
		)) +
		section(10, vec("\x02\x00\x0b", "\x04\x00\x01\x01\x0b", "\x02\x00\x0b")) +
		strings.Join(extra, "")
}

func parse(t *testing.T, in string) *image.Image {
	t.Helper()
	m, err := wasm.Parse([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func imports(m *image.Image) []string {
	var list []string
	for _, i := range m.Imports {
		s := i.Library + "." + i.Name
		if i.Data {
			s += " data"
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
		s := e.Name
		if e.Addr != 0 {
			s += fmt.Sprintf(" %x", m.Data[e.Addr])
		}
		if e.Data {
			s += " data"
		}
		if e.Forward != "" {
			s += " -> " + e.Forward
		}
		list = append(list, s)
	}
	return list
}

func functions(m *image.Image) []string {
	var list []string
	for _, f := range m.Functions.List {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%d %x %s", f.Size, m.Data[f.Addr:f.Addr+f.Size], f.Name)))
	}
	return list
}

func sections(m *image.Image) []string {
	var list []string
	for _, s := range m.Sections {
		list = append(list, s.Name)
	}
	return list
}

func TestModule(t *testing.T) {
	m := parse(t, module(
		custom("name", sub(0, text("demo"))+sub(1, vec("\x00"+text("log"), "\x02"+text("begin"), "\x03"+text("middle")))+sub(7, "skipped")),
		custom("producers", vec(
			text("language")+vec(text("C11")+text("")),
			text("processed-by")+vec(text("clang")+text("16.0.6"), text("wasm-opt")+text("108")),
		)),
		custom("build_id", text("\x12\xab")),
		custom("code", "not code"),
		custom("target_features", "\x00"),
	))
	if m.Format != image.Wasm || m.Arch != image.Wasm32 || m.Bits != 32 || m.OS != "wasi" || m.Kind != image.Module || m.Name != "demo" || m.BuildID != "12ab" || m.Linkage != image.Static {
		t.Errorf("%s %s %d %s %s %q %q %s", m.Format, m.Arch, m.Bits, m.OS, m.Kind, m.Name, m.BuildID, m.Linkage)
	}
	if m.Stripped || len(m.Notes) > 0 || m.Overlay.Size != 0 || m.Entry != m.Functions.List[0].Addr {
		t.Errorf("stripped %v, notes %q, overlay %v, entry %#x", m.Stripped, m.Notes, m.Overlay, m.Entry)
	}
	equal(t, "compilers", m.Compilers, []string{"language C11", "clang 16.0.6", "wasm-opt 108"})
	equal(t, "sections", sections(m), []string{"type", "import", "function", "export", "code", "name", "producers", "build_id", "custom code", "target_features"})
	equal(t, "imports", imports(m), []string{
		"env.log", "wasi_snapshot_preview1.fd_write", "env.memory data", "env.table data", "env.__stack_pointer data", "env.error data", "env.refs data",
	})
	equal(t, "exports", exports(m), []string{"run 0", "again -> wasi_snapshot_preview1.fd_write", "mem data", "_start 0"})
	equal(t, "functions", functions(m), []string{"2 000b begin", "4 0001010b middle", "2 000b"})
	if f := m.Functions; f.Method != "code-section" || f.Count != 3 || f.Coverage < 0.5 || f.Coverage > 1 {
		t.Errorf("method %q, count %d, coverage %v", f.Method, f.Count, f.Coverage)
	}
	equal(t, "symbols", m.Symbols, []image.Symbol{
		{Name: "begin", Addr: m.Functions.List[0].Addr, Size: 2, Func: true}, {Name: "middle", Addr: m.Functions.List[1].Addr, Size: 4, Func: true},
	})
	for _, s := range m.Sections {
		if s.Code != (s.Name == "code") || s.Offset != s.Addr {
			t.Errorf("section %q: code %v, offset %#x, address %#x", s.Name, s.Code, s.Offset, s.Addr)
		}
	}
	if got := m.At(0); string(got) != string(m.Data) {
		t.Errorf("At(0) has %d bytes, want the whole file", len(got))
	}
}

func TestVariants(t *testing.T) {
	for _, test := range []struct {
		name, in string
		check    func(m *image.Image) any
		want     any
	}{
		{"start goes before _start", module(section(8, "\x03")), func(m *image.Image) any { return m.Entry == m.Functions.List[1].Addr }, true},
		{"name of an export", module(), func(m *image.Image) any { return m.Functions.List[1].Name }, "run"},
		{"no names", module(), func(m *image.Image) any { return m.Stripped }, true},
		{"memory of 64 bits", moduleHeader + section(5, vec("\x05\x01\x02")), func(m *image.Image) any { return m.Arch }, image.Wasm64},
		{"imported memory of 64 bits", moduleHeader + section(2, vec(text("a")+text("m")+"\x02\x04\x01")), func(m *image.Image) any { return m.Bits }, 64},
		{"memory with own pages", moduleHeader + section(5, vec("\x08\x01\x00", "\x04\x01")), func(m *image.Image) any { return m.Arch }, image.Wasm64},
		{"old WASI", moduleHeader + section(2, vec(text("wasi_unstable")+text("fd_read")+"\x00\x00")), func(m *image.Image) any { return m.OS }, "wasi"},
		{"WASI interface", moduleHeader + section(2, vec(text("wasi:cli/run@0.2.0")+text("run")+"\x00\x00")), func(m *image.Image) any { return m.OS }, "wasi"},
		{"Go in a browser", moduleHeader + section(2, vec(text("gojs")+text("runtime.wasmExit")+"\x00\x00")), func(m *image.Image) any { return m.OS }, "js"},
		{"no system", moduleHeader + section(2, vec(text("env")+text("f")+"\x00\x00")), func(m *image.Image) any { return m.OS }, ""},
		{"signed", module(custom("signature", "\x01")), func(m *image.Image) any { return m.Signed }, true},
		{"old dynamic library", moduleHeader + custom("dylink", "\x00\x00\x00\x00"+vec(text("libc.so"))) + module()[8:], func(m *image.Image) any { return m.Libraries[0] }, "libc.so"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := parse(t, test.in)
			if got := test.check(m); got != test.want || len(m.Notes) > 0 {
				t.Errorf("got %v, notes %q; want %v", got, m.Notes, test.want)
			}
		})
	}
}

func TestDynamicLibrary(t *testing.T) {
	m := parse(t, moduleHeader+
		custom("dylink.0", sub(1, "\x00\x00\x00\x00")+sub(2, vec(text("libc.so"), text("libm.so")))+sub(4, vec(text("env")+text("maybe")+"\x01"))+sub(5, vec(text("$ORIGIN"))))+
		section(2, vec(text("env")+text("maybe")+"\x00\x00", text("GOT.func")+text("callback")+"\x03\x7f\x01", text("GOT.mem")+text("variable")+"\x03\x7f\x01")))
	equal(t, "libraries", m.Libraries, []string{"libc.so", "libm.so"})
	equal(t, "run paths", m.RunPaths, []string{"$ORIGIN"})
	equal(t, "imports", imports(m), []string{"env.maybe weak", "GOT.func.callback", "GOT.mem.variable data"})
	if m.Kind != image.Library || m.Linkage != image.Dynamic || len(m.Notes) > 0 {
		t.Errorf("%s, %s, notes %q", m.Kind, m.Linkage, m.Notes)
	}
}

func TestObject(t *testing.T) {
	symbols := vec(
		"\x00\x10\x00",                         // the import "log"
		"\x00\x00\x02"+text("f"),               // defined function
		"\x00\x02\x03"+text("local"),           // local function
		"\x01\x11"+text("elsewhere"),           // weak variable of another object
		"\x01\x00"+text("here")+"\x00\x04\x08", // variable
		"\x02\x50\x00"+text("__stack_pointer"), // explicitly named global
		"\x03\x02\x01",                         // section
	)
	m := parse(t, module(custom("linking", "\x02"+sub(8, symbols))))
	if m.Kind != image.Object || m.Stripped || len(m.Notes) > 0 {
		t.Errorf("%s, stripped %v, notes %q", m.Kind, m.Stripped, m.Notes)
	}
	equal(t, "functions", functions(m), []string{"2 000b f", "4 0001010b local", "2 000b"})
	if got := imports(m); !slices.Contains(got, ".elsewhere data weak") {
		t.Errorf("imports %q; want the weak variable among them", got)
	}
	equal(t, "exports", exports(m)[4:], []string{"f 0", "here data"})
}

func TestComponent(t *testing.T) {
	inner := componentHeader + section(1, module(custom("name", sub(1, vec("\x02"+text("deep"))))))
	m := parse(t, componentHeader+
		custom("producers", vec(text("processed-by")+vec(text("wit-component")+text("0.219.1"))))+
		section(1, module())+
		section(4, inner)+
		section(10, vec(
			"\x00"+text("wasi:cli/environment@0.2.0")+"\x05\x00",
			"\x01"+text("f")+"\x01\x00",
			"\x00"+text("t")+"\x03\x01",
			"\x00"+text("u")+"\x03\x00\x07",
			"\x00"+text("m")+"\x00\x11\x00",
			"\x02"+text("v")+text("1.2")+"\x02\x01\x79",
		))+
		section(11, vec("\x00"+text("wasi:cli/run@0.2.0")+"\x05\x00\x00", "\x00"+text("core")+"\x00\x11\x00\x01\x00\x11\x00", "\x00"+text("g")+"\x01\x00\x00")))
	if m.OS != "wasi" || m.Functions.Count != 6 || len(m.Notes) > 0 || m.Stripped {
		t.Errorf("OS %q, %d functions, stripped %v, notes %q", m.OS, m.Functions.Count, m.Stripped, m.Notes)
	}
	var own []string
	for _, i := range m.Imports {
		if i.Library == "" {
			own = append(own, i.Name)
		}
	}
	equal(t, "imports of the component", own, []string{"wasi:cli/environment@0.2.0", "f", "t", "u", "m", "v"})
	equal(t, "exports", exports(m), []string{"wasi:cli/run@0.2.0", "core", "g"})
	equal(t, "compilers", m.Compilers, []string{"wit-component 0.219.1"})
	equal(t, "sections", sections(m), []string{
		"producers", "core module", "0/type", "0/import", "0/function", "0/export", "0/code",
		"component", "1/core module", "1/0/type", "1/0/import", "1/0/function", "1/0/export", "1/0/code", "1/0/name", "import", "export",
	})
	if got := functions(m); got[3] != "2 000b deep" {
		t.Errorf("functions %q; want the name of one inside a component inside", got)
	}
}

func TestNestedWithoutEnd(t *testing.T) {
	in := module()
	for range 100 {
		in = componentHeader + section(4, in)
	}
	if m := parse(t, in); len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "nested deeper") {
		t.Errorf("notes %q; want one on depth", m.Notes)
	}
}

func TestDamage(t *testing.T) {
	whole := module()
	for _, test := range []struct {
		name, in, want string
		functions      int
	}{
		{"cut in the code", whole[:len(whole)-4], "function 1 has 3 of 4 bytes", 2},
		{"cut in a size", whole + "\x0b\xff", "section 11", 3},
		{"section longer than the file", whole + "\x0b\x70", "0 of 112 bytes", 3},
		{"no section", whole + "\x99\x70text", "section 153", 3},
		{"unknown section", whole + "\x63\x01x", "is not known", 3},
		{"unknown version", strings.Replace(whole, "asm\x01", "asm\x07", 1), "version 7", 3},
		{"unknown component format", strings.Replace(componentHeader, "\x0d", "\x0c", 1), "component format 0xc", 0},
		{"unknown kind of import", moduleHeader + section(2, vec(text("a")+text("b")+"\x09\x00")), "kind 9", 0},
		{"more imports than there are", moduleHeader + section(2, "\xff\xff\xff\xff\x0f"+text("a")+text("b")+"\x00\x00"), "section \"import\"", 0},
		{"more functions than there are", moduleHeader + section(10, "\xff\xff\xff\xff\x0f\x02\x00\x0b"), "1 of 4294967295", 1},
		{"functions without bodies", moduleHeader + section(3, vec("\x00")), "1 functions are declared, 0 have", 0},
		{"export of no function", moduleHeader + section(7, vec(text("x")+"\x00\x05")), "no function 5", 0},
		{"start of no function", moduleHeader + section(8, "\x05"), "start function 5", 0},
		{"name section cut", whole + custom("name", "\x01\x20\x01"), "section \"name\"", 3},
		{"name subsection cut", whole + custom("name", sub(1, "\x09\x02")), "subsection 1", 3},
		{"custom section without a name", whole + section(0, "\x50"), "custom section", 3},
		{"long name", whole + custom(strings.Repeat("n", 70_000), ""), "is cut off", 3},
		{"old linking section", whole + custom("linking", "\x01"), "version 1", 3},
		{"unknown symbol", whole + custom("linking", "\x02"+sub(8, vec("\x09\x00"))), "kind 9", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := parse(t, test.in)
			if !slices.ContainsFunc(m.Notes, func(n string) bool { return strings.Contains(n, test.want) }) || m.Functions.Count != test.functions {
				t.Errorf("%d functions, notes %q; want %d and a note with %q", m.Functions.Count, m.Notes, test.functions, test.want)
			}
		})
	}
	if m := parse(t, whole+"\x99\x70text"); m.Overlay != (image.Range{Offset: uint64(len(whole)), Size: 6}) {
		t.Errorf("overlay %v, want the 6 bytes at %d", m.Overlay, len(whole))
	}
	for _, in := range []string{"", "\x00asm", "\x00asm\x01\x00\x00", "\x7fELF\x01\x00\x00\x00"} {
		if m, err := wasm.Parse([]byte(in)); err == nil {
			t.Errorf("Parse(%q) = %v; want an error", in, m)
		}
	}
}

func TestIs(t *testing.T) {
	for in, want := range map[string]bool{moduleHeader: true, componentHeader: true, "\x00as": false, "": false, "(module)": false} {
		if got := wasm.Is([]byte(in)); got != want {
			t.Errorf("Is(%q) = %v, want %v", in, got, want)
		}
	}
}

// TestManySections must not list each of a million empty sections.
func TestManySections(t *testing.T) {
	m := parse(t, moduleHeader+strings.Repeat(custom("", ""), 1_000_000))
	if len(m.Sections) > 100_000 || len(m.Notes) != 1 {
		t.Errorf("%d sections, notes %q; want fewer and one note", len(m.Sections), m.Notes)
	}
}

const program = `
__attribute__((import_module("host"), import_name("log"))) void host_log(int);
extern int other(int);
extern int variable;
static int hidden(int x) { return x * 3; }
int (*pointer)(int) = hidden;
__attribute__((visibility("default"))) int api(int a) { host_log(a); return other(a) + variable + pointer(a); }
void _start(void) { api(2); }
`

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var detail []byte
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			detail = exit.Stderr
		}
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, detail)
	}
	return string(out)
}

func tools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s", name)
		}
	}
}

// TestAgainstTools compiles a program in many ways and compares with what
// wasm-objdump and llvm-nm say.
func TestAgainstTools(t *testing.T) {
	tools(t, "clang-16", "wasm-ld-16", "wasm-objdump", "llvm-nm-16")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.c"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bits := range []string{"32", "64"} {
		object := "p" + bits + ".o"
		run(t, dir, "clang-16", "--target=wasm"+bits, "-O1", "-c", "p.c", "-o", object)
		link := func(name string, args ...string) {
			run(t, dir, "wasm-ld-16", append(args, "-mwasm"+bits, "--allow-undefined", "-o", name, object)...)
			m := compare(t, dir, name)
			if want := image.Arch("wasm" + bits); m.Arch != want {
				t.Errorf("%s: %s, want %s", name, m.Arch, want)
			}
		}
		link("exe"+bits, "--export-dynamic")
		link("stripped"+bits, "--strip-all", "--export-all")
		link("memory"+bits, "--import-memory", "--shared-memory", "--no-check-features", "--max-memory=131072")
		link("reactor"+bits, "--no-entry", "--export-table")

		m := compare(t, dir, object)
		var want []string
		for line := range strings.SplitSeq(run(t, dir, "llvm-nm-16", "-j", "--undefined-only", object), "\n") {
			if line != "" {
				want = append(want, line)
			}
		}
		// nm prints the symbol's own name where an import has another.
		for i, name := range want {
			if name == "host_log" {
				want[i] = "log"
			}
		}
		got := slices.DeleteFunc(m.ImportNames(), func(name string) bool { return strings.HasPrefix(name, "__") })
		want = slices.DeleteFunc(want, func(name string) bool { return strings.HasPrefix(name, "__") })
		slices.Sort(want)
		equal(t, object+": undefined symbols", got, want)
		equal(t, object+": exports", m.ExportNames(), []string{"_start", "api", "pointer"})
	}
	run(t, dir, "clang-16", "--target=wasm32-unknown-emscripten", "-fPIC", "-O1", "-c", "p.c", "-o", "pic.o")
	run(t, dir, "wasm-ld-16", "-shared", "--experimental-pic", "--allow-undefined", "-o", "base.so", "pic.o")
	run(t, dir, "wasm-ld-16", "-shared", "--experimental-pic", "--allow-undefined", "-o", "user.so", "pic.o", "base.so")
	if m := compare(t, dir, "user.so"); m.Kind != image.Library || !slices.Equal(m.Libraries, []string{"base.so"}) {
		t.Errorf("user.so: %s, libraries %q", m.Kind, m.Libraries)
	}
}

// TestGo reads what Go's own linker writes.
func TestGo(t *testing.T) {
	tools(t, "go", "wasm-objdump")
	dir := t.TempDir()
	for name, content := range map[string]string{"go.mod": "module tiny\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { println(\"tiny\") }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for system, want := range map[string]string{"wasip1": "wasi", "js": "js"} {
		t.Setenv("GOOS", system)
		t.Setenv("GOARCH", "wasm")
		run(t, dir, "go", "build", "-o", system, ".")
		m := compare(t, dir, system)
		if m.OS != want || m.Stripped || m.Functions.Count < 500 || m.Functions.Coverage < 0.95 || !slices.ContainsFunc(m.Compilers, func(c string) bool { return strings.HasPrefix(c, "language Go") }) {
			t.Errorf("%s: OS %q, stripped %v, %d functions, coverage %v, compilers %q", system, m.OS, m.Stripped, m.Functions.Count, m.Functions.Coverage, m.Compilers)
		}
	}
}

// compare checks sections, imports, exports and functions against wasm-objdump.
func compare(t *testing.T, dir, name string) *image.Image {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	m := parse(t, string(data))
	if len(m.Notes) > 0 {
		t.Errorf("%s: notes %q", name, m.Notes)
	}

	var wantImports, wantExports, wantFunctions []string
	item := regexp.MustCompile(`^ - \w+\[\d+\].* (<- |-> ")(.*)$`)
	for line := range strings.SplitSeq(run(t, dir, "wasm-objdump", "-x", name), "\n") {
		if f := item.FindStringSubmatch(line); f != nil && f[1] == "<- " {
			wantImports = append(wantImports, f[2])
		} else if f != nil {
			wantExports = append(wantExports, strings.TrimSuffix(f[2], `"`))
		}
	}
	body := regexp.MustCompile(`(?m)^([0-9a-f]+) func\[\d+\](?: <(.*)>)?:`)
	for _, f := range body.FindAllStringSubmatch(run(t, dir, "wasm-objdump", "-d", name), -1) {
		wantFunctions = append(wantFunctions, strings.TrimLeft(f[1], "0")+" "+f[2])
	}

	var gotImports, gotExports, gotFunctions []string
	for _, i := range m.Imports {
		if m.Kind != image.Object || i.Library != "" {
			gotImports = append(gotImports, i.Library+"."+i.Name)
		}
	}
	if m.Kind != image.Object { // whose exports are in the linking section
		for _, e := range m.Exports {
			gotExports = append(gotExports, e.Name)
		}
	}
	for _, f := range m.Functions.List {
		gotFunctions = append(gotFunctions, strconv.FormatUint(f.Addr, 16)+" "+f.Name)
	}
	equal(t, name+": imports", gotImports, wantImports)
	equal(t, name+": exports", gotExports, wantExports)
	equal(t, name+": functions", gotFunctions, wantFunctions)

	var wantSections, gotSections []string
	head := regexp.MustCompile(`(?m)^ *\w+ start=0x[0-9a-f]+ end=0x([0-9a-f]+)`)
	for _, s := range head.FindAllStringSubmatch(run(t, dir, "wasm-objdump", "-h", name), -1) {
		wantSections = append(wantSections, strings.TrimLeft(s[1], "0"))
	}
	for _, s := range m.Sections {
		gotSections = append(gotSections, strconv.FormatUint(s.Offset+s.FileSize, 16))
	}
	equal(t, name+": ends of sections", gotSections, wantSections)
	return m
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(module(custom("name", sub(0, text("demo"))+sub(1, vec("\x02"+text("begin")))), custom("producers", vec(text("sdk")+vec(text("a")+text("b")))))))
	f.Add([]byte(module(section(8, "\x03"), section(5, vec("\x05\x01\x02")))))
	f.Add([]byte(module(custom("linking", "\x02"+sub(8, vec("\x00\x00\x02"+text("f"), "\x01\x11"+text("e"), "\x01\x00"+text("h")+"\x00\x04\x08"))))))
	f.Add([]byte(moduleHeader + custom("dylink.0", sub(2, vec(text("libc.so")))+sub(4, vec(text("env")+text("maybe")+"\x01")))))
	f.Add([]byte(componentHeader + section(1, module()) + section(10, vec("\x00"+text("wasi:cli/run")+"\x05\x00")) + section(11, vec("\x00"+text("r")+"\x05\x00\x00"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := wasm.Parse(data)
		if err != nil {
			return
		}
		if c := m.Functions.Coverage; c < 0 || c > 1 || m.Functions.Count != len(m.Functions.List) {
			t.Fatalf("coverage %v, count %d of %d", c, m.Functions.Count, len(m.Functions.List))
		}
		for _, f := range m.Functions.List {
			if f.Addr+f.Size > uint64(len(data)) {
				t.Fatalf("function at %#x of %d bytes in %d", f.Addr, f.Size, len(data))
			}
		}
		for _, s := range m.Sections {
			if s.Offset+s.FileSize > uint64(len(data)) {
				t.Fatalf("section %q at %#x of %d bytes in %d", s.Name, s.Offset, s.FileSize, len(data))
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	const count = 20_000
	var names, bodies []string
	for i := range uint64(count) {
		names = append(names, uleb(i)+text(fmt.Sprintf("_ZN4demo8function%dEv", i)))
		bodies = append(bodies, uleb(100)+strings.Repeat("\x01", 99)+"\x0b")
	}
	data := []byte(moduleHeader + section(3, vec(slices.Repeat([]string{"\x00"}, count)...)) + section(10, vec(bodies...)) + custom("name", sub(1, vec(names...))))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wasm.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
