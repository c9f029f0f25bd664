package skeleton_test

import (
	"flag"
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

const longSource = `
extern int check(int), sink(const char *, long);
__attribute__((visibility("default"))) void many(int n) {
	while (check(n)) { if (check(1)) { if (check(2)) {
` + "@" + `
	} } }
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
