package known_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
)

// planted are programs' own functions, all of whose names begin with "own":
// called, taken by address, in a table, and referred to by nothing.
const planted = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#define WATCHED IsDebuggerPresent()
#else
#include <dlfcn.h>
#include <signal.h>
#define WATCHED (dlsym(0, "ptrace") != 0)
#endif
#define OWN __attribute__((noinline, used))

OWN int own_watched(int n) {
	if (WATCHED) { printf("watched %d\n", n); exit(3); }
	return n * 7 + 1;
}
OWN static int own_compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
OWN void own_at_exit(void) { puts("bye from the program"); fflush(stdout); }
OWN int own_in_table(int n) { return own_watched(n) + (int)strlen("in a table"); }
OWN int own_unused(int n) { return own_watched(n - 1) ^ 0x55; }
int (*volatile own_table[])(int) = {own_in_table, own_unused};
OWN char *own_copy(const char *s) {
	char *p = malloc(strlen(s) + 1);
	if (!p) { perror("malloc"); exit(1); }
	return strcpy(p, s);
}
int main(int argc, char **argv) {
	atexit(own_at_exit);
	qsort(argv, argc, sizeof *argv, own_compare);
	double d = argc > 1 ? strtod(argv[1], 0) : 2.5;
	printf("%s %f\n", own_copy(argv[0]), d);
	return own_table[argc & 1](argc);
}
`

const plantedCXX = `
#include <algorithm>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>
extern "C" int own_watched(int);
struct own_widget { std::string name; int size; virtual ~own_widget() {} virtual int area() const { return size * own_watched(size); } };
struct own_box : own_widget { int area() const override { return size + (int)name.size(); } };
int __attribute__((noinline)) own_sum(std::vector<own_widget *> &v, std::function<int(int)> f) {
	std::sort(v.begin(), v.end(), [](own_widget *a, own_widget *b) { return a->name < b->name; });
	int n = 0;
	for (auto w : v) n += f(w->area());
	return n;
}
extern "C" int own_cxx(int argc) {
	std::map<std::string, int> m; m["a"] = argc;
	std::ifstream in("file"); std::string line;
	while (std::getline(in, line)) m[line]++;
	std::vector<own_widget *> v{new own_box, new own_widget};
	try { std::cout << own_sum(v, [argc](int x) { return own_watched(x) + argc; }) << m.size() << std::endl; }
	catch (std::exception &e) { std::cerr << e.what(); }
	return m.at("a");
}
`

// A program is a way to build planted functions into one.
type program struct {
	name, compiler string
	args           []string
	share          int // percent of all other functions that are to be known in the stripped program, with the compiler of the data
}

const dataCompiler = "12.2.0"

func TestPlanted(t *testing.T) {
	for _, p := range []program{
		{"glibc", "gcc", []string{"-static"}, 85},
		{"glibc without PIE", "gcc", []string{"-static", "-no-pie", "-O0"}, 85},
		{"glibc static PIE", "gcc", []string{"-static-pie", "-fPIE"}, 85},
		{"musl", "musl-gcc", []string{"-static"}, 75},
		{"glibc x86", "gcc", []string{"-m32", "-static"}, 80},
		{"glibc aarch64", "aarch64-linux-gnu-gcc", []string{"-static"}, 80},
		{"mingw", "x86_64-w64-mingw32-gcc", []string{"-static"}, 80},
		{"mingw x86", "i686-w64-mingw32-gcc", []string{"-static"}, 80},
	} {
		for _, order := range []string{"first", "last"} {
			if order == "last" && p.name != "glibc" && p.name != "mingw" {
				continue
			}
			t.Run(p.name+" "+order, func(t *testing.T) {
				t.Parallel()
				args := slices.Concat([]string{"-O2"}, p.args, []string{"own.c"})
				if order == "last" {
					// The C library's code comes before the program's.
					args = append(slices.Concat([]string{"-O2"}, p.args), "-Wl,--start-group", "-lc", "-lgcc", "-Wl,--end-group", "-Wl,-u,printf", "own.c")
					if strings.Contains(p.compiler, "mingw") {
						args = append(slices.Concat([]string{"-O2"}, p.args), "-lmingwex", "-lmsvcrt", "own.c")
					}
				}
				check(t, p, map[string]string{"own.c": planted}, args)
			})
		}
	}
	for _, p := range []program{
		{"libstdc++", "g++", []string{"-static"}, 65},
		{"libstdc++ and libgcc alone", "g++", []string{"-static-libstdc++", "-static-libgcc"}, 70},
		{"libstdc++ mingw", "x86_64-w64-mingw32-g++", []string{"-static"}, 75},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			source := strings.Replace(planted, "int main(", "extern \"C\" int own_cxx(int);\nint main(", 1)
			source = strings.Replace(source, "return own_table", "argc += own_cxx(argc);\n\treturn own_table", 1)
			source = "extern \"C\" int own_watched(int);\n" + strings.Replace(source, "char *p = malloc", "char *p = (char *)malloc", 1)
			check(t, p, map[string]string{"own.cc": source, "cxx.cc": plantedCXX}, slices.Concat([]string{"-O2", "-fpermissive", "-w"}, p.args, []string{"own.cc", "cxx.cc"}))
		})
	}
}

// check builds a program with and without symbols and asks that none of its own
// functions is taken for a library's in either, and that what is not its own is.
func check(t *testing.T, p program, sources map[string]string, args []string) {
	path := build(t, p.compiler, sources, args...)
	whole := open(t, path)
	bare := open(t, strip(t, p.compiler, path))
	called := names(whole.Image)
	for _, b := range []struct {
		name string
		of   func() (*code.Code, []known.Mark)
	}{
		{"with symbols", func() (*code.Code, []known.Mark) { return label(whole) }},
		{"stripped", func() (*code.Code, []known.Mark) { return label(bare) }},
	} {
		c, marks := b.of()
		if len(marks) != len(c.Functions) {
			t.Fatalf("%s: %d marks for %d functions", b.name, len(marks), len(c.Functions))
		}
		own, others, found := 0, 0, 0
		missing := map[string]bool{}
		for i, f := range c.Functions {
			name := called[f.Addr]
			switch {
			case name == "", isThunk(c, i):
			case isOwn(name):
				own++
				if marks[i].Library != known.Own {
					t.Errorf("%s: %s is marked as %s by %s", b.name, name, marks[i].Library, marks[i].By)
				}
			default:
				others++
				if marks[i].Library != known.Own {
					found++
				} else {
					missing[name] = true
				}
			}
		}
		t.Logf("%s: %d own, %d of %d others known", b.name, own, found, others)
		if own < 5 && b.name == "with symbols" {
			t.Errorf("%s: only %d own functions are there", b.name, own)
		}
		if v := version(p.compiler); v != dataCompiler && !strings.HasPrefix(v, "12-") {
			continue // the data are of other versions
		}
		if found*100 < p.share*others {
			list := slices.Sorted(maps.Keys(missing))
			t.Errorf("%s: %d of %d functions of libraries are known, less than %d %%: not %q", b.name, found, others, p.share, list[:min(len(list), 60)])
		}
	}
}

// isOwn reports whether a function is of the planted sources: by the scope of
// its name, or because it is a template that holds one of their closures.
func isOwn(name string) bool {
	scope := strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(name, "_Z"), "Z"), "NK")
	return name == "main" || strings.HasPrefix(strings.TrimLeft(scope, "0123456789"), "own_") || strings.Contains(name, "own_") && strings.Contains(name, "EUl")
}

// isThunk reports whether a function does nothing but jump to an import, as
// import libraries of Windows have it.
func isThunk(c *code.Code, fn int) bool {
	b := c.Image.At(c.Functions[fn].Addr)
	return c.Image.Format == image.PE && len(b) > 6 && b[0] == 0xff && b[1] == 0x25
}

// FuzzLabel asks for marks of whatever looks like code, laid out as functions.
func FuzzLabel(f *testing.F) {
	seed := []byte("\x55\x48\x89\xe5\xe8\x00\x00\x00\x00\x48\x8b\x05\x10\x00\x00\x00\xff\x15\x20\x00\x00\x00\x5d\xc3\xcc\xcc")
	f.Add(seed, []byte{8, 8, 2, 200}, uint8(0))
	f.Add(seed, []byte{0, 1, 255, 3}, uint8(1))
	f.Add(seed, []byte{4, 4, 4, 4, 4}, uint8(2))
	f.Fuzz(func(t *testing.T, text, layout []byte, kind uint8) {
		m := &image.Image{
			Format: []image.Format{image.ELF, image.PE, image.MachO}[kind%3], Arch: []image.Arch{image.X86_64, image.X86, image.AArch64}[kind/3%3],
			Bits: 64, Data: text, Base: 0x1000, Entry: 0x1000,
			Segments: []image.Segment{{Addr: 0x1000, Size: uint64(len(text)), FileSize: uint64(len(text)), Access: image.Read | image.Execute}},
			Imports:  []image.Import{{Name: "IsDebuggerPresent", Slot: 0x1010}},
		}
		if m.Arch == image.X86 {
			m.Bits = 32
		}
		addr := uint64(0x1000)
		for _, b := range layout {
			m.Functions.List = append(m.Functions.List, image.Function{Addr: addr, Size: uint64(b >> 2), Name: []string{"", "_start", "_ZNSt1aE", "main"}[b&3]})
			addr += uint64(b>>1) + 1
		}
		m.Finish()
		c := code.Read(m)
		if marks := known.Label(c, ""); len(marks) != len(c.Functions) {
			t.Errorf("%d marks for %d functions", len(marks), len(c.Functions))
		}
	})
}
