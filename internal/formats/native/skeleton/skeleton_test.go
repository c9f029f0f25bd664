package skeleton_test

import (
	"flag"
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
	"github.com/loupe-sec/loupe/internal/formats/native/skeleton"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

var update = flag.Bool("update", false, "rewrite what is expected in testdata")

// source is compiled and read, and never run.
const source = `
#ifdef _WIN32
#define FROM __declspec(dllimport)
#define OUT __declspec(dllexport)
#else
#define FROM extern
#define OUT __attribute__((visibility("default")))
#endif
FROM void *dlsym(void *, const char *);
FROM int open(const char *, int, int);
FROM int close(int);
FROM long read(int, void *, long);
FROM int sink(const void *, long);
FROM int check(int);
int _fltused;

OUT int napi_register_module_v1(void *env, int n) {
	int (*run)(const char *) = (int (*)(const char *))dlsym(env, "system");
	if (!run) return -1;
	int fd = open("/etc/passwd", 0, 0);
	if (fd < 0) {
		sink("cannot open", fd);
	} else {
		char buffer[64];
		while (read(fd, buffer, 64) > 0)
			if (check(buffer[0])) sink(buffer, 64);
		close(fd);
	}
	for (int i = 0; i < n; i++) {
		if (check(i) == 7) break;
		run("id");
	}
	return run("a text that is so long that nobody wants to see all of it on one line, \xc3\xa4 \x1b[31m \"quoted\"");
}
`

type target struct {
	name, triple string
	flags        []string
	link         []string
}

var targets = []target{
	{"elf-x86_64", "x86_64-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"elf-x86", "i686-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"elf-aarch64", "aarch64-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"elf-arm", "armv7-linux-gnueabihf", []string{"-fPIC", "-marm"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"elf-thumb", "armv7-linux-gnueabihf", []string{"-fPIC", "-mthumb"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"elf-riscv64", "riscv64-linux-gnu", []string{"-fPIC", "-march=rv64gc", "-mabi=lp64d", "-mno-relax"}, []string{"ld.lld-16", "-shared", "-z", "undefs"}},
	{"pe-x86_64", "x86_64-pc-windows-msvc", nil, []string{"lld-link-16", "/dll", "/noentry", "/machine:x64"}},
	{"pe-x86", "i686-pc-windows-msvc", nil, []string{"lld-link-16", "/dll", "/noentry", "/machine:x86", "/safeseh:no"}},
	{"macho-aarch64", "arm64-apple-macos12", nil, []string{"ld64.lld-16", "-dylib", "-arch", "arm64", "-platform_version", "macos", "12.0", "12.0", "-undefined", "dynamic_lookup"}},
}

// run runs a program, which must succeed, and skips the test without it.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s, which is not installed", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// build compiles text into a library.
func build(t testing.TB, m target, text, optimize string) *image.Image {
	t.Helper()
	dir := t.TempDir()
	src, obj, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.o"), filepath.Join(dir, "a.out")
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-target", m.triple, optimize, "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-w", "-c", "-o", obj, src}, m.flags...)
	run(t, "clang-16", args...)
	if strings.HasPrefix(m.name, "pe-") {
		lib := filepath.Join(dir, "other")
		def := "LIBRARY other.dll\nEXPORTS\ndlsym\nopen\nclose\nread\nsink\ncheck\n"
		if err := os.WriteFile(lib+".def", []byte(def), 0o600); err != nil {
			t.Fatal(err)
		}
		kind := "i386:x86-64"
		if m.name == "pe-x86" {
			kind = "i386"
		}
		run(t, "llvm-dlltool-16", "-m", kind, "-d", lib+".def", "-l", lib+".lib")
		run(t, m.link[0], append(m.link[1:], "/out:"+out, obj, lib+".lib")...)
	} else {
		run(t, m.link[0], append(m.link[1:], "-o", out, obj)...)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var im *image.Image
	switch {
	case elf.Is(data):
		im, err = elf.Parse(data)
	case pe.Is(data):
		im, err = pe.Parse(data)
	default:
		var all []*image.Image
		if all, err = macho.Parse(data); len(all) > 0 {
			im = all[0]
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// balanced reports whether every block that is opened is closed, and nothing
// else.
func balanced(text string) bool {
	depth := 0
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "//") {
			continue
		}
		if strings.HasPrefix(l, "}") {
			depth--
		}
		if depth < 0 {
			return false
		}
		if strings.HasSuffix(l, "{") {
			depth++
		}
	}
	return depth == 0
}

func TestWrite(t *testing.T) {
	for _, m := range targets {
		for _, o := range []string{"-O0", "-O2"} {
			t.Run(m.name+o, func(t *testing.T) {
				c := code.Read(build(t, m, source, o))
				fn := skeleton.Telling(c)
				got := skeleton.Write(c, value.New(c), fn, skeleton.Options{})
				golden := filepath.Join("testdata", m.name+o+".txt")
				if *update {
					if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				if !balanced(got) {
					t.Errorf("not balanced:\n%s", got)
				}
			})
		}
	}
}

// TestLong cuts a function that has far more to say than there is room.
func TestLong(t *testing.T) {
	var body strings.Builder
	for i := range 60 {
		fmt.Fprintf(&body, "if (check(%d)) sink(\"number %d\", %d);\n", i, i, i)
	}
	text := "extern int check(int), sink(const char *, long);\n__attribute__((visibility(\"default\"))) void many(int n) { while (check(n)) { if (check(1)) { if (check(2)) {\n" + body.String() + "} } } }\n"
	c := code.Read(build(t, targets[0], text, "-O0"))
	r := value.New(c)
	whole := skeleton.Write(c, r, skeleton.Telling(c), skeleton.Options{Lines: 1000})
	if n := strings.Count(whole, "sink("); n != 60 || strings.Contains(whole, "left out") {
		t.Errorf("%d of 60 calls in\n%s", n, whole)
	}
	for _, most := range []int{0, 1, 8, 9, 13, 20, 40, 100} {
		got := skeleton.Write(c, r, skeleton.Telling(c), skeleton.Options{Lines: most})
		limit := max(most, 8)
		if most == 0 {
			limit = 40
		}
		if n := strings.Count(got, "\n"); n > limit {
			t.Errorf("%d lines with a limit of %d:\n%s", n, limit, got)
		}
		if !balanced(got) {
			t.Errorf("not balanced:\n%s", got)
		}
		var calls int
		i := strings.Index(got, "// ...")
		if i < 0 {
			t.Fatalf("nothing says what was left out:\n%s", got)
		}
		if _, err := fmt.Sscanf(got[i:], "// ... all branches and loops, and %d more calls, are left out", &calls); err != nil {
			t.Error(err)
		}
		if shown := strings.Count(got, "check(") + strings.Count(got, "sink("); shown+calls != 123 {
			t.Errorf("%d calls are shown and %d said to be left out, of 123:\n%s", shown, calls, got)
		}
	}
}

func TestNames(t *testing.T) {
	text := "extern int sink(const char *, long);\n__attribute__((noinline, visibility(\"hidden\"))) int inner(int n) { return sink(\"x\", n); }\n" +
		"__attribute__((visibility(\"default\"))) int outer(int n) { return inner(n) + 1; }\n"
	c := code.Read(build(t, targets[0], text, "-O1"))
	r := value.New(c)
	fn := skeleton.Telling(c)
	if got := skeleton.Write(c, r, fn, skeleton.Options{}); !strings.Contains(got, "\nouter() {\n") || !strings.Contains(got, "\tinner(") {
		t.Errorf("no names of symbols:\n%s", got)
	}
	names := func(addr uint64) string {
		if addr == c.Functions[fn].Addr {
			return "outer::f(int, \xc3\xa4\x1b)"
		}
		return "inner<char>(long) const"
	}
	if got := skeleton.Write(c, r, fn, skeleton.Options{Name: names}); !strings.Contains(got, "\nouter::f(int, ??) {\n") || !strings.Contains(got, "\tinner<char>(a0)") && !strings.Contains(got, "\tinner<char>()") {
		t.Errorf("names that were asked for are not there:\n%s", got)
	}
	if got := skeleton.Write(c, r, len(c.Functions), skeleton.Options{}); got != "" {
		t.Errorf("a function that is not there is %q", got)
	}
}

func TestTelling(t *testing.T) {
	hook := "__attribute__((visibility(\"default\"))) "
	for _, test := range []struct{ name, text, want string }{
		{"registration", hook + "int busy(int n) { return sink(\"a\", n) + sink(\"b\", n); }\n" + hook + "int napi_register_module_v1(int n) { return sink(\"c\", n); }", "napi_register_module_v1"},
		{"busiest export", hook + "int idle(int n) { return n; }\n" + hook + "int busy(int n) { return sink(\"a\", n) + sink(\"b\", n); }\n" + hook + "int other(int n) { return sink(\"c\", n); }", "busy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := code.Read(build(t, targets[0], "extern int sink(const char *, long);\n"+test.text, "-O1"))
			if fn := skeleton.Telling(c); fn < 0 || c.Functions[fn].Name != test.want {
				t.Errorf("Telling = %d, want that of %s", fn, test.want)
			}
		})
	}
	if fn := skeleton.Telling(&code.Code{Image: &image.Image{}}); fn != -1 {
		t.Errorf("of nothing, Telling = %d", fn)
	}
}

// TestUnread writes the skeleton of instructions that are not followed.
func TestUnread(t *testing.T) {
	c := &code.Code{
		Image:     &image.Image{Format: image.Wasm, Arch: image.Wasm32, Imports: []image.Import{{Name: "fd_write"}}},
		Functions: []image.Function{{Addr: 16, Size: 16, Name: "first"}, {Addr: 32, Size: 8, Name: "second"}},
		Refs:      []code.Ref{{Addr: 18, Import: 0, Kind: code.Call}, {Addr: 20, Target: 32, Import: -1, Kind: code.Call}},
	}
	want := "// call skeleton of sub_10 (wasm32 Wasm), not source code: what it calls, and with what\nfirst() {\n\tfd_write(...);\n\tsecond(...);\n}\n"
	if got := skeleton.Write(c, value.New(c), 0, skeleton.Options{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func FuzzWrite(f *testing.F) {
	f.Add(uint8(0), []byte("\x85\xff\x74\x05\xe8\x00\x00\x00\x00\xeb\x02\x75\xf5\xff\xd0\xff\xcf\x75\xef\xc3"))
	f.Add(uint8(1), []byte("\x55\x89\xe5\x74\x05\x6a\x05\xe8\x00\x00\x00\x00\xff\x15\x10\x00\x01\x00\xeb\xee\xc2\x08\x00"))
	f.Add(uint8(2), []byte("\x40\x00\x00\x34\x03\x00\x00\x94\xc1\xff\xff\x54\x02\x00\x00\x14\x00\x00\x3f\xd6\xc0\x03\x5f\xd6"))
	f.Add(uint8(3), []byte("\x00\x00\x50\xe3\x01\x00\x00\x0a\x00\x00\x00\xeb\xfc\xff\xff\x1a\x1e\xff\x2f\xe1"))
	f.Add(uint8(4), []byte("\x01\xc1\xef\x00\x40\x00\x75\xfd\x02\x95\x82\x80"))
	arches := []image.Arch{image.X86_64, image.X86, image.AArch64, image.ARM, image.RISCV64}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		if len(b) > 4096 {
			return
		}
		const base = 0x10000
		im := &image.Image{
			Format: image.ELF, Arch: arches[int(which)%len(arches)], Bits: 64, Data: b,
			Segments:  []image.Segment{{Addr: base, Size: uint64(len(b)), FileSize: uint64(len(b)), Access: image.Read | image.Execute}},
			Functions: image.Functions{List: []image.Function{{Addr: base, Size: uint64(len(b))}}},
			Imports:   []image.Import{{Name: "na\nme{", Stub: base + 9}},
		}
		c := &code.Code{Image: im, Functions: im.Functions.List, Read: true}
		got := skeleton.Write(c, value.New(c), 0, skeleton.Options{})
		if bad := wrong(got, 40); bad != "" || !strings.HasSuffix(got, "\n}\n") {
			t.Fatalf("%s:\n%s", bad, got)
		}
		for i := range len(got) {
			if c := got[i]; c != '\n' && c != '\t' && (c < ' ' || c > '~') {
				t.Fatalf("byte %#x in\n%s", c, got)
			}
		}
		if again := skeleton.Write(c, value.New(c), 0, skeleton.Options{}); again != got {
			t.Fatalf("got\n%s\nthen\n%s", got, again)
		}
	})
}
