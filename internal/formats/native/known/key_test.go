package known_test

import (
	"bytes"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
)

// library is code whose bytes linkers change in every way that they do: calls
// of functions here and elsewhere, data by address and through the GOT, texts,
// jump tables, thread-local storage.
const library = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
extern int elsewhere(const char *, int);
extern int outside[64];
int table[300];
static int hidden[100] = {1, 2, 3};
static __thread int per_thread;
__attribute__((noinline)) int lib_data(int n) {
	for (int i = 0; i < n; i++) { table[i] += hidden[i] * 3; outside[i & 63] ^= table[i] + 0x1234; }
	per_thread += n;
	return table[n] + hidden[n / 2] + outside[n & 63] + per_thread;
}
__attribute__((noinline)) int lib_calls(const char *s, int n) {
	if (!s) { errno = EINVAL; return -1; }
	char *p = malloc(strlen(s) + 300);
	if (!p) return elsewhere("no memory for the text", n);
	strcpy(p, s);
	fprintf(stderr, "the text is %s, number %d\n", p, n);
	int r = elsewhere(p, n) + lib_data(n);
	free(p);
	return r;
}
__attribute__((noinline)) const char *lib_switch(int n) {
	switch (n) {
	case 0: return "zero"; case 1: return "one"; case 2: return "two"; case 3: return "three";
	case 4: return lib_calls("four", n) ? "4" : "four"; case 5: return "five"; case 6: return "six";
	case 17: return getenv("SEVENTEEN"); default: return lib_data(n) ? "some" : "none";
	}
}
int (*lib_pointer(int n))(const char *, int) { table[0] = n; hidden[1] = n * 2; return n > 3 && outside[2] ? lib_calls : elsewhere; }
`

const rest = `
int outside[64];
int (*lib_pointer(int n))(const char *, int);
const char *lib_switch(int n);
char padding[100000];
int elsewhere(const char *s, int n) { return s[0] + n + padding[n]; }
int main(int argc, char **argv) { return lib_pointer(argc)(lib_switch(argc), argc); }
`

// TestKeysOutliveLinking asks that a function has the same key in the object
// that the compiler made and in what linkers made of it.
func TestKeysOutliveLinking(t *testing.T) {
	for _, test := range []struct {
		name, compiler string
		object, link   []string
	}{
		{"x86_64 static", "gcc", []string{"-fno-pie"}, []string{"-static", "-no-pie"}},
		{"x86_64 position-independent in static", "gcc", []string{"-fPIC"}, []string{"-static"}},
		{"x86_64 PIE", "gcc", []string{"-fPIE"}, []string{"-pie"}},
		{"x86_64 shared", "gcc", []string{"-fPIC"}, []string{"-shared"}},
		{"x86_64 lld", "clang-16", []string{"-fPIC"}, []string{"-fuse-ld=lld-16"}},
		{"x86", "gcc", []string{"-m32", "-fno-pie"}, []string{"-m32", "-static"}},
		{"x86 position-independent in static", "gcc", []string{"-m32", "-fPIC"}, []string{"-m32", "-static"}},
		{"x86 shared", "gcc", []string{"-m32", "-fPIC"}, []string{"-m32", "-shared"}},
		{"aarch64 static", "aarch64-linux-gnu-gcc", []string{"-fno-pie"}, []string{"-static"}},
		{"aarch64 position-independent in static", "aarch64-linux-gnu-gcc", []string{"-fPIC"}, []string{"-static"}},
		{"aarch64 shared", "aarch64-linux-gnu-gcc", []string{"-fPIC"}, []string{"-shared"}},
		{"mingw", "x86_64-w64-mingw32-gcc", nil, []string{"-static"}},
		{"mingw x86", "i686-w64-mingw32-gcc", nil, []string{"-static"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			object := build(t, test.compiler, map[string]string{"lib.c": library}, append([]string{"-O2", "-c", "lib.c"}, test.object...)...)
			program := build(t, test.compiler, map[string]string{"rest.c": rest}, append([]string{"-O2", object, "rest.c"}, append(test.link, test.object...)...)...)
			before, after := keys(open(t, object)), keys(open(t, program))
			for _, name := range []string{"lib_data", "lib_calls", "lib_switch", "lib_pointer"} {
				if before[name] == 0 || before[name] != after[name] {
					t.Errorf("%s: key %#x in the object, %#x when linked", name, before[name], after[name])
				}
			}
		})
	}
}

// keys returns the keys of the functions that have a name.
func keys(b *native.Binary) map[string]known.Key {
	out := map[string]known.Key{}
	called := names(b.Image)
	for _, e := range known.Extents(b.Image, b.Functions.List) {
		if k, size := known.KeyOf(b.Arch, e.Addr, e.Code, nil); size > 0 {
			out[called[e.Addr]] = k
		}
	}
	return out
}

func TestKeyTellsImportsApart(t *testing.T) {
	// push rbx; sub rsp,0x20; mov rbx,rcx; call [rip+0x1000]; test eax,eax; … as two functions that call different imports
	code := bytes.Repeat([]byte{0x48, 0x8d, 0x44, 0x24, 0x08, 0xff, 0x15, 0x00, 0x10, 0x00, 0x00, 0x85, 0xc0}, 8)
	slots := func(name string) known.Slots {
		return func(int, uint64) string { return name }
	}
	a, n := known.KeyOf(image.X86_64, 0x1000, code, slots("IsDebuggerPresent"))
	b, _ := known.KeyOf(image.X86_64, 0x9000, code, slots("GetTickCount"))
	c, _ := known.KeyOf(image.X86_64, 0x5000, code, slots("IsDebuggerPresent"))
	if n == 0 || a == b || a != c {
		t.Errorf("keys are %#x and %#x for different imports, %#x for the same", a, b, c)
	}
}

func TestShortFunctionsHaveNoKey(t *testing.T) {
	code := []byte{0x48, 0x83, 0xec, 0x28, 0xff, 0x15, 0, 0, 0, 0, 0x85, 0xc0, 0x74, 0x05, 0xe8, 0, 0, 0, 0, 0x48, 0x83, 0xc4, 0x28, 0xc3}
	if _, n := known.KeyOf(image.X86_64, 0, code, nil); n != 0 {
		t.Errorf("%d bytes stand for a function of %d", n, len(code))
	}
}

// TestInstructionSizes compares, through keys, where instructions end with what
// x86asm says: behind each instruction, the rest of a function must give the
// same key as when it is read from there on.
func TestInstructionSizes(t *testing.T) {
	for _, test := range []struct {
		path string
		arch image.Arch
		mode int
	}{
		{"/usr/lib/x86_64-linux-gnu/libc.so.6", image.X86_64, 64},
		{"/usr/lib/x86_64-linux-gnu/libcrypto.so.3", image.X86_64, 64},
		{"/usr/lib32/libc.so.6", image.X86, 32},
	} {
		t.Run(test.path, func(t *testing.T) {
			b := tryOpen(t, test.path)
			compared, wrong := 0, 0
			for _, e := range known.Extents(b.Image, b.Functions.List) {
				if compared > 400_000 {
					break
				}
				for code := e.Code; len(code) > 0 && wrong < 20; {
					inst, err := x86asm.Decode(code, test.mode)
					got := known.InstructionSize(test.arch, code)
					if err != nil || vector(code, test.mode) {
						if got == 0 {
							break
						}
						code = code[got:] // x86asm knows fewer instructions
						continue
					}
					compared++
					if inst.Len != got && !quirk(code) {
						wrong++
						t.Errorf("% x: %d bytes, x86asm says %d (%v)", code[:min(len(code), 15)], got, inst.Len, inst)
						break
					}
					code = code[max(got, 1):]
				}
			}
			t.Logf("%d instructions compared", compared)
			if compared < 100_000 {
				t.Errorf("only %d instructions compared", compared)
			}
		})
	}
}
