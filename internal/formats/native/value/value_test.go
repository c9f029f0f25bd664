package value_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/golang"
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

// fixed links a program that is always at the same addresses.
var fixed = []string{"ld.lld-16", "--no-pie", "--export-dynamic", "-e", "find"}

var targets = []target{
	{"x86_64 ELF", "x86_64-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"x86_64 ELF without PLT", "x86_64-linux-gnu", []string{"-fPIC", "-fno-plt", "-fcf-protection=full"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"x86_64 ELF with AVX", "x86_64-linux-gnu", []string{"-fPIC", "-mavx2"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"aarch64 ELF", "aarch64-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"x86 ELF", "i686-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"arm ELF", "armv7-linux-gnueabihf", []string{"-fPIC", "-marm"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"thumb ELF", "armv7-linux-gnueabihf", []string{"-fPIC", "-mthumb"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"riscv64 ELF", "riscv64-linux-gnu", []string{"-fPIC", "-march=rv64gc", "-mabi=lp64d"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"x86_64 ELF at a fixed place", "x86_64-linux-gnu", []string{"-fno-pic"}, fixed},
	{"x86 ELF at a fixed place", "i686-linux-gnu", []string{"-fno-pic"}, fixed},
	{"aarch64 ELF at a fixed place", "aarch64-linux-gnu", []string{"-fno-pic"}, fixed},
	{"arm ELF at a fixed place", "armv7-linux-gnueabihf", []string{"-fno-pic", "-marm"}, fixed},
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

// builds are the images that tests share. Nothing changes them.
var builds = map[[3]string]*image.Image{}

// build compiles the source into a library, once.
func build(t testing.TB, m target, text, optimize string) *image.Image {
	t.Helper()
	key := [3]string{m.name, text, optimize}
	if builds[key] == nil {
		builds[key] = compile(t, m, text, optimize)
	}
	return builds[key]
}

func compile(t testing.TB, m target, text, optimize string) *image.Image {
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
	case m.link[1] == "--no-pie":
		// Without a library that has them, the functions would be nowhere.
		dep := filepath.Join(dir, "libdep")
		text := ""
		for _, name := range imported {
			text += "void " + name + "(void) {}\n"
		}
		if err := os.WriteFile(dep+".c", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "clang-16", "-target", m.triple, "-fPIC", "-ffreestanding", "-w", "-c", "-o", dep+".o", dep+".c")
		run(t, m.link[0], "-shared", "-o", dep+".so", dep+".o")
		run(t, m.link[0], append(m.link[1:], "-o", out, obj, dep+".so")...)
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
		for _, o := range []string{"-O0", "-O2", "-Os"} {
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

// find returns the site of the first call of a callee, by its name.
func find(t testing.TB, im *image.Image, c *code.Code, r *value.Reader, callee string, n int) uint64 {
	t.Helper()
	for i := range c.Functions {
		steps, _ := r.Steps(i)
		for _, s := range steps {
			if s.Callee.Kind == value.Import && im.Imports[s.Callee.Import].Name == callee {
				if n == 0 {
					return s.Addr
				}
				n--
			}
		}
	}
	t.Fatalf("no call %d of %s", n, callee)
	return 0
}

// TestThrough follows a parameter to what callers pass: on x86, where compilers
// pass the arguments of functions of their own in registers, in these.
func TestThrough(t *testing.T) {
	for _, m := range targets {
		for _, o := range []string{"-O0", "-O2"} {
			t.Run(m.name+" "+o, func(t *testing.T) {
				im := build(t, m, source, o)
				c := code.Read(im)
				if !c.Read {
					return // who calls whom is not known
				}
				r := value.New(c)
				var wrapper uint64
				for n := range 3 {
					site := find(t, im, c, r, "dlsym", n)
					if args := r.Args(site, 2); args[1].Kind == value.Parameter {
						wrapper = site
					} else if got := r.Through(site, 1); len(got) != 1 || got[0] != args[1] {
						t.Errorf("Through(%#x) = %v, want %v", site, got, args[1:])
					}
				}
				var names []string
				for _, v := range r.Through(wrapper, 1) {
					names = append(names, v.Text)
					if s := r.Step(v.From); s == nil || s.Callee.Kind != value.Function {
						t.Errorf("%v is not from a call of the wrapper: %#x", v, v.From)
					}
				}
				slices.Sort(names)
				if got := strings.Join(names, " "); got != "execve getaddrinfo" {
					t.Errorf("callers of the wrapper pass %q, want getaddrinfo and execve", got)
				}
			})
		}
	}
}

// classSource enters the kernel through a function that adds the class of its
// system calls to their numbers, as it is on macOS.
const classSource = `
static long __attribute__((noinline)) enter(long n, long a) {
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n + 0x2000000), "D"(a) : "rcx", "r11", "memory");
	return r;
}
__attribute__((visibility("default"))) long run(long a) { return enter(59, a) + enter(37, 1); }
`

func TestNumberOfClass(t *testing.T) {
	m := targets[slices.IndexFunc(targets, func(m target) bool { return m.name == "x86_64 Mach-O" })]
	for _, o := range []string{"-O0", "-O2"} {
		im := build(t, m, classSource, o)
		c := code.Read(im)
		if len(c.Syscalls) != 1 {
			t.Fatalf("%s: %d system calls, want one", o, len(c.Syscalls))
		}
		var got []int64
		for _, v := range value.New(c).ThroughNumber(c.Syscalls[0].Addr) {
			got = append(got, v.Const)
		}
		slices.Sort(got)
		if want := []int64{0x2000000 + 37, 0x2000000 + 59}; !slices.Equal(got, want) {
			t.Errorf("%s: numbers %#x, want %#x", o, got, want)
		}
	}
}

// wideSource passes texts of UTF-16.
const wideSource = `
typedef unsigned short wide;
__declspec(dllimport) int sink(const wide *, long);
__declspec(dllimport) int three(const wide *, long, const void *);
__declspec(dllexport) int one(void) { return sink((const wide *)L"w", 1) + sink((const wide *)L"C:\\Pfad\\\x00e4.txt", 2); }
__declspec(dllexport) int built(void) {
	volatile wide s[8];
	s[0] = 'h'; s[1] = 'i'; s[2] = 'd'; s[3] = 'd'; s[4] = 'e'; s[5] = 'n'; s[6] = 0;
	return three((const wide *)s, 0, "narrow") + 1;
}
`

func TestWide(t *testing.T) {
	for _, m := range targets {
		if !strings.HasSuffix(m.name, "PE") {
			continue
		}
		for _, o := range []string{"-O0", "-O2"} {
			t.Run(m.name+o, func(t *testing.T) {
				im := build(t, m, wideSource, o)
				c := code.Read(im)
				got := strings.Join(calls(im, value.New(c), c), "\n")
				for _, want := range []string{`sink("w", 1`, `sink("C:\\Pfad\\\u00e4.txt", 2`, `three("hidden", 0, "narrow"`} {
					if !strings.Contains(got, want) {
						t.Errorf("no %s in\n%s", want, got)
					}
				}
			})
		}
	}
}

// kernels are system calls by hand.
var kernels = []struct {
	target, call string
}{
	{"x86_64 ELF", `register long a __asm__("rax") = n; register long b __asm__("rdi") = x; register const char *c __asm__("rsi") = s; __asm__ volatile("syscall" : "+r"(a) : "r"(b), "r"(c) : "rcx", "r11", "memory"); return a;`},
	{"aarch64 ELF", `register long a __asm__("x8") = n; register long b __asm__("x0") = x; register const char *c __asm__("x1") = s; __asm__ volatile("svc #0" : "+r"(b) : "r"(a), "r"(c) : "memory"); return b;`},
	{"x86 ELF", `register long a __asm__("eax") = n; register long b __asm__("ebx") = x; register const char *c __asm__("ecx") = s; __asm__ volatile("int $0x80" : "+r"(a) : "r"(b), "r"(c) : "memory"); return a;`},
	{"arm ELF", `register long a __asm__("r7") = n; register long b __asm__("r0") = x; register const char *c __asm__("r1") = s; __asm__ volatile("svc #0" : "+r"(b) : "r"(a), "r"(c) : "memory"); return b;`},
	{"riscv64 ELF", `register long a __asm__("a7") = n; register long b __asm__("a0") = x; register const char *c __asm__("a1") = s; __asm__ volatile("ecall" : "+r"(b) : "r"(a), "r"(c) : "memory"); return b;`},
}

func TestSyscall(t *testing.T) {
	for _, k := range kernels {
		m := targets[slices.IndexFunc(targets, func(m target) bool { return m.name == k.target })]
		t.Run(m.name, func(t *testing.T) {
			text := "static inline long enter(long n, long x, const char *s) {" + k.call + "}\n" +
				`__attribute__((visibility("default"))) long direct(void) { return enter(257, -100, "/etc/shadow"); }` + "\n" +
				`__attribute__((visibility("hidden"), noinline)) long wrapper(long n, const char *s) { return enter(n, 3, s); }` + "\n" +
				`__attribute__((visibility("default"))) long user(void) { return wrapper(319, "name") + 1; }`
			im := build(t, m, text, "-O1")
			c := code.Read(im)
			r := value.New(c)
			var got []string
			for i := range c.Functions {
				steps, _ := r.Steps(i)
				for _, s := range steps {
					if s.Flow != value.Syscall {
						continue
					}
					if !c.Read && r.Number(s.Addr).Kind == value.Parameter {
						got = append(got, "319 3 name") // who calls whom is not known
						continue
					}
					for _, v := range r.ThroughNumber(s.Addr) {
						got = append(got, v.String())
					}
					got = append(got, r.Args(s.Addr, 2)[0].String())
					for _, v := range r.Through(s.Addr, 1) {
						got = append(got, v.Text)
					}
				}
			}
			minus := "4294967196" // of 32 bits
			if im.Bits == 64 {
				minus = "-100"
			}
			if got, want := strings.Join(got, " "), "257 "+minus+" /etc/shadow 319 3 name"; got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}

// goSource passes texts as Go does, with their length.
const goSource = `package main

//go:noinline
func take(s string, n int) int { return len(s) + n }

//go:noinline
func pass(s string) int { return take(s, 2) }

func main() { println(take("one text", 42) + pass("another text")) }
`

func TestGo(t *testing.T) {
	for _, m := range []struct{ os, arch string }{{"linux", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"}, {"darwin", "arm64"}} {
		t.Run(m.os+" "+m.arch, func(t *testing.T) {
			dir := t.TempDir()
			src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "out")
			if err := os.WriteFile(src, []byte(goSource), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(tool(t, "go"), "build", "-o", out, src)
			cmd.Env = append(os.Environ(), "GOOS="+m.os, "GOARCH="+m.arch, "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
			cmd.Dir = dir
			if b, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, b)
			}
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			im := parse(t, data)
			c := code.Read(im)
			r := value.New(c)
			var got []string
			var main uint64
			for _, f := range golang.Read(im).Functions {
				if f.Name == "main.main" {
					main = f.Addr
				}
			}
			for i, f := range c.Functions {
				if f.Addr != main {
					continue
				}
				steps, _ := r.Steps(i)
				for _, s := range steps {
					for _, a := range s.Args {
						if a.Kind == value.String {
							got = append(got, a.Text)
						}
					}
				}
			}
			if got := strings.Join(got, "|"); !strings.Contains(got, "one text") || !strings.Contains(got, "another text") || len(got) > 60 {
				t.Errorf("got %q, want both texts and nothing around them", got)
			}
		})
	}
}

// raw is an image of nothing but code, with some data behind it.
func raw(arch image.Arch, b []byte) *image.Image {
	bits := 64
	if arch == image.X86 || arch == image.ARM {
		bits = 32
	}
	const base = 0x10000
	data := append(append(make([]byte, 0, len(b)+64), b...), "\x00a text\x00w\x00i\x00d\x00e\x00\x00\x00"...)
	return &image.Image{
		Format: image.PE, Arch: arch, Bits: bits, Data: data,
		Segments:  []image.Segment{{Addr: base, Size: uint64(len(data)), FileSize: uint64(len(data)), Access: image.Read | image.Execute}},
		Sections:  []image.Section{{Name: ".text", Addr: base, Size: uint64(len(b)), FileSize: uint64(len(b)), Code: true}},
		Functions: image.Functions{List: []image.Function{{Addr: base, Size: uint64(len(b) / 2)}, {Addr: base + uint64(len(b)/2)}}},
		Imports:   []image.Import{{Name: "memcpy", Slot: base + uint64(len(b)/2) + 1, Library: "KERNEL32.dll"}},
	}
}

var arches = []image.Arch{image.X86_64, image.X86, image.AArch64, image.ARM, image.RISCV64}

func FuzzArgs(f *testing.F) {
	f.Add(uint8(0), []byte("\x55\x48\x89\xe5\x48\x8d\x3d\x04\x00\x00\x00\xe8\x00\x00\x00\x00\x75\xf0\xc3"))
	f.Add(uint8(1), []byte("\x55\x89\xe5\x6a\x05\xe8\x00\x00\x00\x00\x58\xff\x15\x10\x00\x01\x00\x83\xec\x04\xc2\x08\x00"))
	f.Add(uint8(2), []byte("\xfd\x7b\xbf\xa9\x00\x00\x00\x90\x00\x40\x00\x91\x02\x00\x00\x94\xfd\x7b\xc1\xa8\xc0\x03\x5f\xd6"))
	f.Add(uint8(3), []byte("\x10\x40\x2d\xe9\x00\x00\x9f\xe5\x00\x00\x00\xeb\x10\x80\xbd\xe8"))
	f.Add(uint8(3), []byte("\x10\xb5\x00\x48\x78\x44\x00\xf0\x02\xf8\x08\xbf\x10\xbd"))
	f.Add(uint8(4), []byte("\x41\x11\x06\xe4\x17\x05\x00\x00\xef\x00\x40\x00\xa2\x60\x82\x80"))
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		if len(b) > 4096 {
			return
		}
		im := raw(arches[int(which)%len(arches)], b)
		c := &code.Code{Image: im, Functions: im.Functions.List, Read: true}
		r := value.New(c)
		for i := range c.Functions {
			steps, _ := r.Steps(i)
			for k, s := range steps {
				if k > 0 && s.Addr <= steps[k-1].Addr {
					t.Fatalf("steps out of order at %#x", s.Addr)
				}
				if s.Next <= s.Addr {
					t.Fatalf("a step without length at %#x", s.Addr)
				}
				for _, a := range r.Args(s.Addr, 12) {
					if a.Kind == value.String && a.Text == "" {
						t.Fatalf("an empty text at %#x", s.Addr)
					}
				}
				r.Through(s.Addr, k%12)
			}
		}
		again, _ := value.New(c).Steps(0)
		first, _ := r.Steps(0)
		if fmt.Sprint(again) != fmt.Sprint(first) {
			t.Fatal("a second reading differs")
		}
	})
}

func BenchmarkSteps(b *testing.B) {
	im := build(b, targets[0], source, "-O2")
	c := code.Read(im)
	b.ReportAllocs()
	for b.Loop() {
		r := value.New(c)
		for i := range c.Functions {
			r.Steps(i)
		}
	}
}
