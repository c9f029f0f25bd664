package code_test

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// separateSource has a function that nothing leads to, beside others that
// something does: a call, a jump, a table, a switch.
const separateSource = `
#define NOINLINE __attribute__((noinline))
#define KEPT __attribute__((noinline, used))
int out(int);
static volatile int counter;
static const unsigned before[40] = {7, 5, 3};
static const unsigned constants[64] = {0x98765432, 0x23456789, 0x3456789a};
NOINLINE static int called(int x) { for (int i = 0; i < x; i++) counter += i; return out(counter); }
KEPT static int dead(int x) { if (x > 3) return out(x * 3); counter++; return called(x + 1); }
NOINLINE static int jumped(int x) { if (x & 1) return out(x); return called(x ^ 5); }
NOINLINE static int listed(int x) { return counter - x; }
NOINLINE static int other(int x) { return counter + x; }
static int (*const list[])(int) = {other, listed};
NOINLINE static int named(int x) { for (int i = 0; i < 9; i++) x = (x << 3) ^ constants[(x + i) & 63]; return x; }
NOINLINE static int mixed(int x) { for (int i = 0; i < 9; i++) x = (x << 3) ^ before[(x + i) & 31]; return x; }
NOINLINE static int chooses(int x) {
	switch (x) {
	case 0: return out(5); case 1: return out(x * counter); case 2: return counter * 3; case 3: return out(9) + 1;
	case 4: return x ^ counter; case 5: return out(counter) * 7; case 6: return counter / 3; case 7: return out(1) - counter;
	}
	return 3;
}
__attribute__((visibility("default"))) int compute(int x) {
	counter += called(x) + list[x & 1](x) + chooses(x) + named(x) + mixed(x);
	return jumped(x);
}
`

// TestSeparate compiles a library, takes its symbols off, and looks which of
// its functions are told apart, and which of them are reached.
func TestSeparate(t *testing.T) {
	clang := func(triple string, flags ...string) []string {
		return append([]string{"clang-16", "-target", triple, "-fPIC", "-ffreestanding", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-w", "-nostdlib", "-shared", "-fuse-ld=lld-16", "-Wl,-z,undefs"}, flags...)
	}
	gcc := func(name string, flags ...string) []string {
		return append([]string{name, "-fPIC", "-ffreestanding", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-w", "-nostdlib", "-shared"}, flags...)
	}
	for _, test := range []struct {
		name    string
		command []string
		apart   bool // functions are told apart without symbols
	}{
		{"x86_64", clang("x86_64-linux-gnu"), true},
		{"x86", clang("i686-linux-gnu"), true},
		{"aarch64", clang("aarch64-linux-gnu"), true},
		{"riscv64", clang("riscv64-linux-gnu", "-march=rv64gc", "-mabi=lp64d"), true},
		{"arm by gcc", gcc("arm-linux-gnueabihf-gcc"), false},
		// Behind a jump by a table, nothing is told apart up to the next function that is known.
		{"riscv64 by gcc", gcc("riscv64-linux-gnu-gcc", "-fno-jump-tables"), true},
	} {
		for _, level := range []string{"-O0", "-O2", "-Os"} {
			t.Run(test.name+level, func(t *testing.T) {
				dir := t.TempDir()
				write(t, dir, "p.c", separateSource)
				cross(t, dir, test.command[0], append(test.command[1:], level, "-o", "p.so", "p.c")...)
				at := map[string]uint64{}
				for line := range strings.Lines(cross(t, dir, "llvm-nm-16", "p.so")) {
					if f := strings.Fields(line); len(f) == 3 {
						name, _, _ := strings.Cut(f[2], ".")
						at[name], _ = strconv.ParseUint(f[0], 16, 64)
					}
				}
				if test.apart {
					cross(t, dir, "llvm-strip-16", "p.so")
				}
				c := read(t, filepath.Join(dir, "p.so"))
				thumb := uint64(0)
				if c.Image.Arch == image.ARM {
					thumb = 1
				}
				for _, name := range []string{"called", "jumped", "listed", "other", "named", "mixed", "chooses", "compute", "dead"} {
					fn := c.Func(at[name] &^ thumb)
					if fn < 0 || c.Functions[fn].Addr != at[name]&^thumb {
						t.Errorf("no function begins at %s, %#x", name, at[name])
						continue
					}
					if _, ok := c.Reached(fn); ok != (name != "dead") {
						t.Errorf("%s is reached: %v", name, ok)
					}
				}
				names := func(table, by string) {
					fn := c.Func(at[by] &^ thumb)
					if !slices.ContainsFunc(list(c.DataRefs(at[table], at[table]+1)), func(r code.Ref) bool { return c.Func(r.Addr) == fn }) {
						t.Errorf("%s, %#x, is not named in %s", table, at[table], by)
					}
				}
				names("constants", "named")
				names("before", "mixed")
				if n := len(c.Functions); test.apart && n > 24 {
					t.Errorf("%d functions, of 10 and some stubs", n)
				}
			})
		}
	}
}

// TestSeparateTwins gives code whose functions, against what parsers promise,
// lie at one address.
func TestSeparateTwins(t *testing.T) {
	for _, arch := range []image.Arch{image.X86_64, image.X86, image.AArch64, image.RISCV64} {
		m := &image.Image{
			Format: image.ELF, Arch: arch, Bits: 64, Kind: image.Executable, Data: []byte{0xc3},
			Segments: []image.Segment{{Addr: 0x1000, Size: 1, FileSize: 1, Access: image.Read | image.Execute}},
			Sections: []image.Section{{Name: ".text", Addr: 0x1000, Size: 1, FileSize: 1, Code: true, Access: image.Read | image.Execute}},
		}
		m.Functions.List = []image.Function{{Addr: 0x1000}, {Addr: 0x1000}}
		if c := code.Read(m); len(c.Functions) == 0 {
			t.Errorf("%s: no function is left", arch)
		}
	}
}
