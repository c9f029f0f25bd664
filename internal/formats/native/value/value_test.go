package value_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

// source calls functions that are never there, with arguments of every kind. It
// is compiled and read, and never run.
const source = `
#ifdef _WIN32
#define FROM __declspec(dllimport)
#define OUT __declspec(dllexport)
typedef unsigned short wide;
#define L(s) ((const wide *)L##s)
#else
#define FROM extern
#define OUT __attribute__((visibility("default")))
#endif
typedef __SIZE_TYPE__ size;
FROM void *dlsym(void *, const char *);
FROM int open(const char *, int);
FROM int sink(const void *, long);
FROM int three(const void *, long, const void *);
FROM int six(int, const char *, int, int, const char *, int, const char *, int);
FROM long syscall(long, const void *, long);
FROM int number(void);
static const char *volatile pointed = "behind a pointer";
OUT void *find(void *h) { return dlsym(h, "connect"); }
OUT int file(void) { return open("/etc/passwd", 0) + 1; }
OUT int many(void) { return six(1, "two", 3, 4, "five", 6, "seven", 0x12345678) + 1; }
__attribute__((noinline)) static void *wrapper(void *h, const char *name, int extra) {
	if (number() == extra) return 0;
	return dlsym(h, name);
}
OUT size wrapped(void *h) { return (size)wrapper(h, "getaddrinfo", number()) ^ (size)wrapper(h, "execve", number()); }
OUT long enter(void) { return syscall(319, "memfd", 1) + 1; }
OUT int loop(const char *s, int n) {
	int got = 0;
	for (int i = 0; i < n; i++) got += three(s, i, "in a loop");
	return got + sink("behind it", n);
}
OUT int built(void) {
	volatile char s[16];
	s[0] = 's'; s[1] = 'e'; s[2] = 'c'; s[3] = 'r'; s[4] = 'e'; s[5] = 't'; s[6] = 0;
	return sink((const void *)s, 0) + 1;
}
OUT int array(int n) {
	char s[] = "/bin/sh -c built as an array";
	return sink(s, n) + 1;
}
OUT int either(int n) { return sink(n ? "first" : "other", 7) + 1; }
OUT int pass(const char *a, int b, const char *c) { number(); return three(c, b, a) + 1; }
OUT int indirect(void *h) { int (*f)(const char *) = (int (*)(const char *))dlsym(h, "system"); return f("id") + 1; }
#ifdef _WIN32
OUT int wider(void) { return sink(L("wide text"), 1) + 1; }
#endif
`

// A target is a machine and system to compile for.
type target struct {
	name, triple string
	flags        []string
	link         []string
}

var targets = []target{
	{"x86_64 ELF", "x86_64-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"x86_64 ELF without PLT", "x86_64-linux-gnu", []string{"-fPIC", "-fno-plt", "-fcf-protection=full"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"x86_64 ELF with AVX", "x86_64-linux-gnu", []string{"-fPIC", "-mavx2"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"aarch64 ELF", "aarch64-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"x86 ELF", "i686-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"arm ELF", "armv7-linux-gnueabihf", []string{"-fPIC", "-marm"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"thumb ELF", "armv7-linux-gnueabihf", []string{"-fPIC", "-mthumb"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"riscv64 ELF", "riscv64-linux-gnu", []string{"-fPIC", "-march=rv64gc", "-mabi=lp64d"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"x86_64 PE", "x86_64-pc-windows-msvc", nil, []string{"lld-link-16", "/dll", "/noentry", "/machine:x64"}},
	{"x86 PE", "i686-pc-windows-msvc", nil, []string{"lld-link-16", "/dll", "/noentry", "/machine:x86", "/safeseh:no"}},
	{"aarch64 Mach-O", "arm64-apple-macos12", nil, []string{"ld64.lld-16", "-dylib", "-arch", "arm64", "-platform_version", "macos", "12.0", "12.0", "-undefined", "dynamic_lookup"}},
	{"x86_64 Mach-O", "x86_64-apple-macos12", nil, []string{"ld64.lld-16", "-dylib", "-arch", "x86_64", "-platform_version", "macos", "12.0", "12.0", "-undefined", "dynamic_lookup"}},
}

// tool returns the path of a program, and skips the test without it.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s, which is not installed", name)
	}
	return path
}

// run runs a program, which must succeed.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// imported are the functions that the source takes from a library.
var imported = []string{"dlsym", "open", "sink", "three", "six", "syscall", "number", "memcpy"}

// build compiles the source into a library.
func build(t testing.TB, m target, text, optimize string) *image.Image {
	t.Helper()
	dir := t.TempDir()
	src, obj, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.o"), filepath.Join(dir, "a.out")
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-target", m.triple, optimize, "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fshort-wchar", "-w", "-c", "-o", obj, src}, m.flags...)
	run(t, "clang-16", args...)
	switch {
	case strings.HasSuffix(m.name, "PE"):
		def := "LIBRARY other.dll\nEXPORTS\n"
		for _, name := range imported {
			def += name + "\n"
		}
		lib := filepath.Join(dir, "other")
		if err := os.WriteFile(lib+".def", []byte(def), 0o600); err != nil {
			t.Fatal(err)
		}
		kind := "i386:x86-64"
		if strings.HasPrefix(m.name, "x86 ") {
			kind = "i386"
		}
		run(t, "llvm-dlltool-16", "-m", kind, "-d", lib+".def", "-l", lib+".lib")
		run(t, m.link[0], append(m.link[1:], "/out:"+out, obj, lib+".lib")...)
	default:
		run(t, m.link[0], append(m.link[1:], "-o", out, obj)...)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, data)
}

func parse(t testing.TB, data []byte) *image.Image {
	t.Helper()
	var m *image.Image
	var err error
	switch {
	case elf.Is(data):
		m, err = elf.Parse(data)
	case pe.Is(data):
		m, err = pe.Parse(data)
	default:
		var all []*image.Image
		if all, err = macho.Parse(data); len(all) > 0 {
			m = all[0]
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// call is a call to find: in the function of that export, or in any if it is
// empty, the call of that import, and its arguments.
type call struct{ in, import_, args string }

// calls returns those of a binary in the order of their addresses, written as
// in C. Trailing arguments that nobody gave are cut off by want.
func calls(im *image.Image, r *value.Reader, c *code.Code) []string {
	names := map[uint64]string{}
	for _, e := range im.Exports {
		names[e.Addr] = e.Name
	}
	var out []string
	for i, f := range c.Functions {
		steps, _ := r.Steps(i)
		for _, s := range steps {
			if s.Flow != value.Call && s.Flow != value.Tail && s.Flow != value.Syscall {
				continue
			}
			callee := s.Callee.String()
			if s.Callee.Kind == value.Import {
				callee = im.Imports[s.Callee.Import].Name
			}
			args := make([]string, len(s.Args))
			for k, a := range s.Args {
				args[k] = a.String()
			}
			out = append(out, fmt.Sprintf("%s: %s(%s)", names[f.Addr], callee, strings.Join(args, ", ")))
		}
	}
	return out
}

const wrapperCall = `: dlsym(a0, a1`

var wantCalls = []string{
	`find: dlsym(a0, "connect"`,
	`file: open("/etc/passwd", 0`,
	`many: six(1, "two", 3, 4, "five", 6, "seven", 305419896`,
	wrapperCall,
	`enter: syscall(319, "memfd", 1`,
	`loop: three(a0, ?, "in a loop"`,
	`loop: sink("behind it", a1`,
	`built: sink("secret", 0`,
	`array: sink("/bin/sh -c built as an array", a0`,
	`pass: three(a2, a1, a0`,
	`indirect: dlsym(a0, "system"`,
	`("id"`,
}

func TestCalls(t *testing.T) {
	for _, m := range targets {
		for _, o := range []string{"-O0", "-O1", "-O2", "-Os"} {
			t.Run(m.name+" "+o, func(t *testing.T) {
				im := build(t, m, source, o)
				c := code.Read(im)
				got := strings.Join(calls(im, value.New(c), c), "\n") + "\n"
				for _, want := range wantCalls {
					if want == wrapperCall && strings.HasPrefix(m.name, "x86 ") && o != "-O0" {
						continue // there, calls inside a file go by a convention of the compiler's own
					}
					if !strings.Contains(got, want+")") && !strings.Contains(got, want+",") {
						t.Errorf("no call %s", want)
					}
				}
				if t.Failed() {
					t.Log(got)
				}
			})
		}
	}
}
