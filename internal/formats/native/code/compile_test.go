package code_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// The program that is compiled for each machine: its calls, tail calls,
// addresses and texts are known.
const (
	programSource = `
#if defined(_WIN32) && !defined(THUNKS)
#define IMPORT extern __declspec(dllimport)
#else
#define IMPORT extern
#endif
#ifdef _WIN32
#define EXPORT __declspec(dllexport)
int _DllMainCRTStartup(void) { return 1; }
#else
#define EXPORT
#endif
#define NOINLINE __attribute__((noinline))
#ifdef __clang__
#define OPTNONE __attribute__((optnone))
#else
#define OPTNONE __attribute__((noipa))
#endif
IMPORT int ext_call(int);
IMPORT int ext_taken(int);
static volatile int counter;
static const char *volatile table[] = {"first of the table", "second of the table"};
NOINLINE static int helper(int x) { counter += x; return counter * 3; }
NOINLINE static int callback(int x) { counter -= x; return counter; }
NOINLINE static int say(const char *s) { while (*s) counter += *s++; return counter; }
NOINLINE OPTNONE static int keep(int (*f)(int)) { return f(counter); }
NOINLINE static int tail(int x) { return ext_call(x + 1); }
NOINLINE static int tail_own(int x) { return helper(x + 1); }
NOINLINE static int handler(int x) { counter = x; return 7; }
int (*volatile handlers[])(int) = {handler, handler};
NOINLINE EXPORT int offered(int x) { counter ^= x; return counter; }
EXPORT int uses_all(int x) {
	x += helper(x) + say("named by uses_all");
	x += keep(callback);
	x += keep(ext_taken);
	x += tail(x) + tail_own(x) + offered(x);
	x += say(table[x & 1]) + handlers[x & 1](x);
	return x * ext_call(x);
}
int unused(int x) { return x * 5 + counter; }
void _start(void) { uses_all(1); for (;;) ; }
`
	librarySource = `
#ifdef _WIN32
#define EXPORT __declspec(dllexport)
int _DllMainCRTStartup(void) { return 1; }
#else
#define EXPORT
#endif
EXPORT int ext_call(int x) { return x; }
EXPORT int ext_taken(int x) { return x + 1; }
`
)

// A build is one way to make the program.
type build struct {
	name, triple string
	compile      []string
	link         []string // program and arguments; @ is the folder
	stubs        bool     // the address of an import may be that of its stub
}

// x86Builds are those for x86-64 and x86.
var x86Builds = []build{
	{"x86_64 ELF library", "x86_64-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared"}, false},
	{"x86_64 ELF library without lazy binding", "x86_64-linux-gnu", []string{"-fPIC", "-fno-plt"}, []string{"ld.lld-16", "-shared", "-z", "now"}, false},
	{"x86_64 ELF pie", "x86_64-linux-gnu", []string{"-fPIE"}, []string{"ld.lld-16", "-pie"}, false},
	{"x86_64 ELF fixed", "x86_64-linux-gnu", []string{"-fno-pic"}, []string{"ld.lld-16"}, true},
	{"x86 ELF library", "i686-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared"}, false},
	{"x86 ELF library without lazy binding", "i686-linux-gnu", []string{"-fPIC", "-fno-plt"}, []string{"ld.lld-16", "-shared", "-z", "now"}, false},
	{"x86 ELF pie", "i686-linux-gnu", []string{"-fPIE"}, []string{"ld.lld-16", "-pie"}, false},
	{"x86 ELF fixed", "i686-linux-gnu", []string{"-fno-pic"}, []string{"ld.lld-16"}, true},
	{"x86_64 PE", "x86_64-pc-windows-msvc", nil, []string{"lld-link-16", "/dll", "/entry:_DllMainCRTStartup"}, false},
	{"x86_64 PE with thunks", "x86_64-pc-windows-msvc", []string{"-DTHUNKS"}, []string{"lld-link-16", "/dll", "/entry:_DllMainCRTStartup"}, true},
	{"x86 PE", "i686-pc-windows-msvc", nil, []string{"lld-link-16", "/dll", "/entry:_DllMainCRTStartup", "/safeseh:no"}, false},
	{"x86 PE with thunks", "i686-pc-windows-msvc", []string{"-DTHUNKS"}, []string{"lld-link-16", "/dll", "/entry:_DllMainCRTStartup", "/safeseh:no"}, true},
	{"x86_64 Mach-O", "x86_64-apple-macos11", nil, []string{"ld64.lld-16", "-arch", "x86_64", "-platform_version", "macos", "11.0", "11.0", "-dylib", "-undefined", "dynamic_lookup"}, false},
}

// TestCompiled compiles the program in each way and compares what its code
// refers to with its source.
func TestCompiled(t *testing.T) {
	for _, b := range x86Builds {
		for _, level := range []string{"-O0", "-O2"} {
			t.Run(b.name+" "+level, func(t *testing.T) {
				checkProgram(t, b, level)
			})
		}
	}
}

func checkProgram(t *testing.T, b build, level string) {
	c := b.make(t, level)
	for _, want := range []struct {
		fn    string
		edges []string // alternatives are separated by a bar
	}{
		{"uses_all", []string{
			"call helper", "call say", "call keep", "call tail", "call tail_own", "call offered", "call import ext_call|jump import ext_call",
			"address callback", "address import ext_taken", `data "named by uses_all"`,
		}},
		{"tail", []string{"call import ext_call|jump import ext_call"}},
		{"tail_own", []string{"call helper|jump helper"}},
		{"helper", nil},
		{"unused", nil},
	} {
		fn := function(c, want.fn)
		if fn < 0 {
			t.Errorf("no function %s", want.fn)
			continue
		}
		got := edges(c, fn)
		for _, edge := range want.edges {
			if !slices.ContainsFunc(strings.Split(edge, "|"), func(e string) bool { return slices.Contains(got, e) }) {
				t.Errorf("%s: no %s; only %q", want.fn, edge, got)
			}
		}
		for _, edge := range got { // and nothing that the source does not have
			if strings.HasPrefix(edge, "data") || strings.Contains(edge, "_GLOBAL_OFFSET") || strings.Contains(edge, "stack_chk") {
				continue
			}
			if !slices.ContainsFunc(want.edges, func(e string) bool { return slices.Contains(strings.Split(e, "|"), edge) }) {
				t.Errorf("%s: %s, which it does not", want.fn, edge)
			}
		}
	}
	for _, name := range []string{"helper", "callback", "say", "keep", "handler"} {
		if fn := function(c, name); fn >= 0 {
			if r, ok := c.Reached(fn); !ok || r.Kind != code.Exported {
				t.Errorf("%s is reached from %+v, %v; want an export", name, r, ok)
			}
		}
	}
	texts := 0
	for _, p := range c.Pointers {
		if s := cString(c, p.To); s == "first of the table" || s == "second of the table" {
			texts++
		}
	}
	if texts < 2 {
		t.Errorf("%d of 2 pointers to texts in %d pointers", texts, len(c.Pointers))
	}
}

// make compiles and links the program, and reads its code.
func (b build) make(t *testing.T, level string) *code.Code {
	t.Helper()
	dir := t.TempDir()
	windows, mac := strings.Contains(b.triple, "windows"), strings.Contains(b.triple, "apple")
	clang, linker := tool(t, "clang-16"), tool(t, b.link[0])
	for name, text := range map[string]string{"program": programSource, "library": librarySource} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file+".c", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"-target", b.triple, level, "-ffreestanding", "-fno-stack-protector", "-w"}, b.compile...)
		run(t, clang, append(args, "-c", file+".c", "-o", file+".o")...)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	var library string
	switch {
	case windows:
		library = in("library.lib")
		run(t, linker, append(slices.Clone(b.link[1:]), "/nodefaultlib", "/out:"+in("library.dll"), "/implib:"+library, in("library.o"))...)
		run(t, linker, append(slices.Clone(b.link[1:]), "/nodefaultlib", "/debug:symtab", "/out:"+in("program"), in("program.o"), library)...)
	case mac:
		library = in("liblibrary.dylib")
		run(t, linker, append(slices.Clone(b.link[1:]), "-o", library, in("library.o"))...)
		run(t, linker, append(slices.Clone(b.link[1:]), "-o", in("program"), in("program.o"), library)...)
	default:
		library = in("liblibrary.so")
		run(t, linker, "-shared", "-soname", "liblibrary.so", "-o", library, in("library.o"))
		run(t, linker, append(slices.Clone(b.link[1:]), "--export-dynamic", "-o", in("program"), in("program.o"), library)...)
	}
	data, err := os.ReadFile(in("program"))
	if err != nil {
		t.Fatal(err)
	}
	list, notes := native.Parse(data)
	if len(list) != 1 {
		t.Fatalf("%d images: %v", len(list), notes)
	}
	return code.Read(list[0].Image)
}

// function returns the function of that name, or -1.
func function(c *code.Code, name string) int {
	for _, s := range c.Image.Symbols {
		if strings.TrimPrefix(s.Name, "_") == name {
			if i, ok := slices.BinarySearchFunc(c.Functions, s.Addr, func(f image.Function, addr uint64) int {
				switch {
				case f.Addr < addr:
					return -1
				case f.Addr > addr:
					return 1
				}
				return 0
			}); ok {
				return i
			}
		}
	}
	return -1
}

// edges returns what function fn refers to, in words.
func edges(c *code.Code, fn int) []string {
	names := map[uint64]string{}
	for _, s := range c.Image.Symbols {
		names[s.Addr] = strings.TrimPrefix(s.Name, "_")
	}
	var out []string
	for _, r := range c.From(fn) {
		switch {
		case r.Import >= 0:
			out = append(out, fmt.Sprintf("%s import %s", r.Kind, c.Image.Imports[r.Import].Name))
		case r.Kind == code.Data:
			out = append(out, fmt.Sprintf("data %q", cString(c, r.Target)))
		default:
			out = append(out, fmt.Sprintf("%s %s", r.Kind, names[r.Target]))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func cString(c *code.Code, addr uint64) string {
	text, _, _ := bytes.Cut(c.Image.At(addr), []byte{0})
	return string(text[:min(len(text), 40)])
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
