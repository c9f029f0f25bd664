package known_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
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
	if (!s) { per_thread = 22; return -1; }
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
int (*lib_pointer(int n))(const char *, int) { table[0] = n; hidden[1] = n * 2; lib_calls("a pointer", hidden[7]); for (int i = 0; i < n; i++) table[i] *= hidden[i & 7] + 5; return n > 3 && outside[2] + table[3] ? lib_calls : elsewhere; }
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
					t.Errorf("%s of "+test.name+": key %#x in the object, %#x when linked", name, before[name], after[name])
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

// TestInstructionSizes compares the sizes of instructions with what x86asm says,
// as far as it knows them.
func TestInstructionSizes(t *testing.T) {
	const enough = 120_000
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
			data, err := os.ReadFile(test.path)
			if err != nil {
				t.Skipf("%s is not there", test.path)
			}
			m, err := elf.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			compared, wrong := 0, 0
			for _, e := range known.Extents(m, m.Functions.List) {
				for code := e.Code; len(code) > 0 && wrong < 20 && compared < enough; {
					got := known.InstructionSize(test.arch, code)
					inst, err := x86asm.Decode(code, test.mode)
					if err == nil && inst.Op != 0 && !beyond(code, test.mode) {
						compared++
						if inst.Len != got {
							wrong++
							t.Errorf("% x: %d bytes, x86asm says %d (%v)", code[:min(len(code), 15)], got, inst.Len, inst)
						}
					}
					if got == 0 {
						break
					}
					code = code[got:]
				}
			}
			if t.Logf("%d instructions compared", compared); compared < 50_000 {
				t.Errorf("only %d instructions compared", compared)
			}
		})
	}
}

// beyond reports whether an instruction has a VEX or EVEX prefix, which x86asm
// takes for something else.
func beyond(code []byte, mode int) bool {
	return (code[0] == 0xc4 || code[0] == 0xc5 || code[0] == 0x62) && (mode == 64 || len(code) > 1 && code[1] >= 0xc0)
}

// TestVectorInstructionSizes compares the sizes of instructions of AVX and
// AVX-512 with those that an assembler makes.
func TestVectorInstructionSizes(t *testing.T) {
	lines := []string{
		"vzeroupper", "vmovdqu 0x12345(%rip), %ymm3", "vpaddd %xmm1, %xmm2, %xmm3", "vpshufd $0x1b, 64(%rsp), %ymm9", "vpinsrq $1, %rax, %xmm1, %xmm2",
		"vinserti128 $1, (%r8,%r9,8), %ymm1, %ymm2", "andn %eax, %ebx, %ecx", "rorx $7, %eax, %ebx", "vgatherdps %ymm1, (%rax,%ymm2,4), %ymm3",
		"vaesenc %xmm1, %xmm2, %xmm3", "vpternlogd $0x96, %zmm1, %zmm2, %zmm3{%k1}", "vmovdqu64 0x40(%rdi), %zmm17", "vpermb %zmm1, %zmm2, %zmm3",
		"vcvtph2psx (%rax), %zmm1", "vaddph %zmm1, %zmm2, %zmm3", "kmovq %k1, %rax", "vpcmpgtb 0x1000(%rax), %xmm1, %k2", "bextr %eax, (%rbx,%rcx,2), %edx",
		"crc32q %rax, %rbx", "pshufb 0x20(%rsp), %xmm1", "palignr $8, %xmm1, %xmm2", "movabs $0x1122334455667788, %r11", "movabs 0x1122334455667788, %al", "lock cmpxchg16b (%rdi)",
		"testb $1, 0x10(%rax)", "testl $0x12345678, (%rax)", "notl (%rax)", "enter $16, $1", "call *%rax", "data16 lea 0(%rip), %rdi", "rdrand %eax", "xbegin 1f\n1:", "endbr64", "pause",
	}
	text := strings.Join(lines, "\n") + "\n"
	labels := ""
	for i, line := range strings.Split(strings.ReplaceAll(text, "xbegin 1f\n1:", "xbegin 1f"), "\n") {
		if line != "" {
			labels += fmt.Sprintf(".globl at%d\n.type at%d, @function\nat%d: %s\n", i, i, i, line)
		}
		if line == "xbegin 1f" {
			labels += "1:\n"
		}
	}
	m := open(t, build(t, "gcc", map[string]string{"v.s": labels + ".globl atend\n.type atend, @function\natend: ret\n"}, "-c", "v.s"))
	for i, f := range m.Functions.List[:len(m.Functions.List)-1] {
		want := int(m.Functions.List[i+1].Addr - f.Addr)
		if got := known.InstructionSize(image.X86_64, m.At(f.Addr)); got != want {
			t.Errorf("%s: % x has %d bytes, not %d", lines[i], m.At(f.Addr)[:want], want, got)
		}
	}
}

// sameBody asks that what tables tell about instructions is what reading each of
// them says.
func sameBody(t *testing.T, arch image.Arch, code []byte, slots known.Slots) {
	t.Helper()
	want, stops, whole := known.Read(arch, code, slots, true)
	got, ends, ok := known.Read(arch, code, slots, false)
	if ok != whole || !bytes.Equal(got, want) || !slices.Equal(ends, stops) {
		t.Errorf("%s: % x: body % x with ends %d, %t; by steps % x with ends %d, %t", arch, code, got, ends, ok, want, stops, whole)
	}
}

// TestPlainX86 reads every opcode with every prefix that matters and every way to
// name an operand.
func TestPlainX86(t *testing.T) {
	slots := func(int, uint64) string { return "name" }
	for _, prefix := range []string{"", "\x48", "\x41", "\x66", "\xf3", "\x66\x48", "\xf2\x44", "\x0f", "\x48\x0f", "\x66\x0f", "\xf3\x4d\x0f", "\x66\x66", "\x48\x48"} {
		for op := range 256 {
			for place := range 256 {
				for _, base := range []byte{0x24, 0x25, 0x8b} {
					if base != 0x24 && (place&7 != 4 || place >= 0xc0) {
						continue // there is no SIB to hold it
					}
					code := append([]byte(prefix), byte(op), byte(place), base)
					code = append(code, "\x11\x22\x33\x44\x50\x51\x52\x53\xc3\xcc\x50\x50\x50\x50\x50\x50"...)
					for _, arch := range []image.Arch{image.X86_64, image.X86} {
						if sameBody(t, arch, code, nil); place&0xc7 == 5 {
							sameBody(t, arch, code, slots)
						}
						if t.Failed() {
							return
						}
					}
				}
			}
		}
	}
}

// TestPlainARM64 reads instructions of every kind behind one that makes the page
// of an address.
func TestPlainARM64(t *testing.T) {
	for kind := range uint32(1 << 11) {
		for _, rest := range []uint32{0, 0x03ff, 0x1ff, 0x0c0020, 0x1f0000, 0x1fffff} {
			code := binary.LittleEndian.AppendUint32(nil, 0x90000000) // adrp x0
			for _, in := range []uint32{kind<<21 | rest, kind<<21 | rest&^0x3e0, 0xf2800000 | rest&31, 0xd63f0000} {
				code = binary.LittleEndian.AppendUint32(code, in)
			}
			sameBody(t, image.AArch64, code, nil)
			sameBody(t, image.AArch64, code, func(int, uint64) string { return "name" })
		}
	}
}

func FuzzKeyOf(f *testing.F) {
	for _, arch := range []image.Arch{image.X86_64, image.X86, image.AArch64} {
		f.Add(string(arch), uint64(0x1000), []byte("\x55\x48\x89\xe5\x48\x8b\x05\x10\x00\x00\x00\xff\x15\x20\x00\x00\x00\x5d\xc3\xcc\x0f\x1f\x44\x00\x00"))
		f.Add(string(arch), uint64(1<<63), []byte("\x00\x00\x00\x90\x00\x00\x40\xf9\x00\x00\x3f\xd6\xc0\x03\x5f\xd6\xc4\xe2\x7d\x62\xf1\x7c\x48"))
	}
	f.Fuzz(func(t *testing.T, arch string, addr uint64, code []byte) {
		asked := 0
		slots := func(offset int, _ uint64) string {
			if asked++; offset < 0 || offset >= len(code) {
				t.Errorf("operand at %d of %d bytes", offset, len(code))
			}
			return "name"
		}
		k, n := known.KeyOf(image.Arch(arch), addr, code, slots)
		again, m := known.KeyOf(image.Arch(arch), addr, bytes.Clone(code), slots)
		if k != again || n != m || asked > 2*len(code) {
			t.Errorf("key %#x of %d bytes, then %#x of %d", k, n, again, m)
		}
		sameBody(t, image.Arch(arch), code, slots)
		sameBody(t, image.Arch(arch), code, nil)
		for _, a := range []image.Arch{image.X86_64, image.X86} {
			if size := known.InstructionSize(a, code); size > len(code) || size > 15 {
				t.Errorf("%s: an instruction of %d bytes in %d", a, size, len(code))
			}
		}
	})
}
