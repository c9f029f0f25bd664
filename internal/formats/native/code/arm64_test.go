package code_test

import (
	"path/filepath"
	"slices"
	"testing"
)

var (
	callsARM64 = []string{"bl"}
	jumpsARM64 = []string{"b"}
)

// TestARM64Linked compares with the disassembly and the relocations of programs
// that hold a good part of a C library.
func TestARM64Linked(t *testing.T) {
	for name, path := range crossLinked(t, "aarch64-linux-gnu-gcc") {
		t.Run(name, func(t *testing.T) {
			c := read(t, path)
			list, _ := disassembled(t, path, callsARM64, jumpsARM64)
			compareBranches(t, c, list)
			// R_AARCH64_ADD_ABS_LO12_NC, ADR_PREL_LO21, LDST{8,16,32,64,128}_ABS_LO12_NC
			compareAddresses(t, c, relocated(t, path, 277, 274, 278, 284, 285, 286, 299), 0.98, 0.995)
		})
	}
}

// TestARM64System compares with the disassembly of the libraries of a cross
// compiler.
func TestARM64System(t *testing.T) {
	for _, path := range samples(2, "/usr/aarch64-linux-gnu/lib/*.so*") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c := read(t, path)
			list, _ := disassembled(t, path, callsARM64, jumpsARM64)
			compareBranches(t, c, list)
		})
	}
}

func BenchmarkARM64(b *testing.B) {
	paths := samples(1, "/usr/aarch64-linux-gnu/lib/*.so*")
	if len(paths) == 0 {
		b.Skip("needs the libraries of a cross compiler for aarch64")
	}
	benchmark(b, paths[0])
}

// plainProgram needs no headers.
const plainProgram = `
#ifdef _WIN32
#define TAKEN extern __declspec(dllimport)
#define OFFERED __declspec(dllexport)
#else
#define TAKEN extern
#define OFFERED
#endif
typedef unsigned long size;
TAKEN int connect(int, const void *, unsigned);
TAKEN void *memory(size);
TAKEN int variable;
static const char *volatile words[] = {"one word", "another word", "a third"};
const char text[] = "text that is referred to";
int counts[16];
OFFERED __attribute__((noinline)) int leaf(int n) { return counts[n & 15] += n; }
int (*volatile chosen)(int);
OFFERED __attribute__((noinline)) int weigh(const char *s) { int n = 0; while (*s) n += leaf(*s++); return n; }
OFFERED int ends(int n) { return connect(n, text, sizeof text); }
OFFERED int start(int n) {
	char *p = memory(64);
	for (int i = 0; i < 3; i++) n += weigh(words[i]) + connect(i, p, 64);
	chosen = leaf;
	return n + weigh(text) + variable;
}
`

// TestARM64Others compares with the disassembly of Mach-O and PE files, and
// looks for what the program is known to refer to.
func TestARM64Others(t *testing.T) {
	for _, test := range []struct {
		name    string
		compile []string
		link    []string
	}{
		{"mach-o", []string{"-target", "arm64-apple-macos11"},
			[]string{"ld64.lld-16", "-arch", "arm64", "-platform_version", "macos", "11.0", "11.0", "-dylib", "-undefined", "dynamic_lookup"}},
		{"mach-o opcodes", []string{"-target", "arm64-apple-macos11"},
			[]string{"ld64.lld-16", "-arch", "arm64", "-platform_version", "macos", "11.0", "11.0", "-dylib", "-undefined", "dynamic_lookup", "-no_fixup_chains"}},
		{"pe", []string{"-target", "aarch64-pc-windows-msvc"},
			[]string{"lld-link-16", "/dll", "/noentry", "/nodefaultlib", "/machine:arm64", "/out:out", "other.lib"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "p.c", plainProgram)
			cross(t, dir, "clang-16", append(test.compile, "-O2", "-ffreestanding", "-c", "p.c", "-o", "p.o")...)
			if test.name == "pe" {
				write(t, dir, "other.def", "LIBRARY other.dll\nEXPORTS\nconnect\nmemory\nvariable DATA\n")
				cross(t, dir, "llvm-dlltool-16", "-m", "arm64", "-d", "other.def", "-l", "other.lib")
				cross(t, dir, test.link[0], append(test.link[1:], "p.o")...)
			} else {
				cross(t, dir, test.link[0], append(test.link[1:], "p.o", "-o", "out")...)
			}
			path := filepath.Join(dir, "out")
			c := read(t, path)
			list, _ := disassembled(t, path, callsARM64, jumpsARM64)
			compareBranches(t, c, list)
			expectRefs(t, c, "start calls connect", "ends jumps connect", "start calls memory", "start address variable",
				"start calls weigh", "weigh calls leaf", "start address leaf", `start data "text that is referred to"`)
			if len(c.Pointers) < 3 {
				t.Errorf("%d pointers", len(c.Pointers))
			}
		})
	}
}

// TestARM64Syscalls reads numbers of system calls, which code puts together in
// several ways.
func TestARM64Syscalls(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "p.s", `
	.globl _start
_start:	mov x8, #198
	svc #0
	mov w8, #0x1
	movk w8, #0, lsl #16
	mov x0, x8
	svc #0
	mov x8, #63
	cbz x0, 1f
	mov x1, #4
1:	svc #0
	mov x8, x2
	svc #0
	mov x8, #0x3f00
	bl other
	svc #0
	ret
other:	mov x8, #93
	b 2f
	.word 0
2:	svc #0
	.size _start, . - _start
`)
	cross(t, dir, "clang-16", "-target", "aarch64-linux-gnu", "-nostdlib", "-static", "-fuse-ld=lld-16", "p.s", "-o", "out")
	c := read(t, filepath.Join(dir, "out"))
	var got []int
	for _, s := range c.Syscalls {
		got = append(got, s.Number)
	}
	if want := []int{198, 1, 63, -1, -1, 93}; !slices.Equal(got, want) {
		t.Errorf("numbers %v, want %v", got, want)
	}
}
