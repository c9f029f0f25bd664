package macho_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
)

const pointerSource = `
typedef int (*fn)(void);
int elsewhere(void);
static int one(void) { return 1; }
__attribute__((weak)) int two(void) { return 2; }
int numbers[4] = {1, 2, 3, 4};
fn table[] = {one, two, elsewhere};
int *inside = &numbers[2];
static const char *volatile words[] = {"first", "second", "third"};
__attribute__((constructor)) static void begin(void) { words[0] = 0; }
int used(int n) { return table[n]() + *inside + words[n][0] + two(); }
`

// rebased matches a line of llvm-objdump's table of fixups that are rebases.
var rebased = regexp.MustCompile(`^\S+\s+\S+\s+0x([0-9A-Fa-f]+)\s+0x[0-9A-Fa-f]+\s+rebase\s+0x([0-9A-Fa-f]+)`)

// opcode matches a line of its table of rebases by opcodes.
var opcode = regexp.MustCompile(`^\S+\s+\S+\s+0x([0-9A-Fa-f]+)\s+pointer`)

// TestPointersAgainstLLVM links pointers in both ways of relocating them.
func TestPointersAgainstLLVM(t *testing.T) {
	tools(t, "clang-16", "ld64.lld-16", "llvm-objdump-16")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.c"), []byte(pointerSource), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"x86_64", "arm64"} {
		run(t, dir, "clang-16", "-target", arch+"-apple-macos11", "-O1", "-c", "p.c", "-o", arch+".o")
		for _, how := range []string{"-fixup_chains", "-no_fixup_chains", "-init_offsets"} {
			out := arch + how
			run(t, dir, "ld64.lld-16", "-arch", arch, "-platform_version", "macos", "11.0", "11.0", "-undefined", "dynamic_lookup",
				"-dylib", how, arch+".o", "-o", out)
			data, err := os.ReadFile(filepath.Join(dir, out))
			if err != nil {
				t.Fatal(err)
			}
			list, err := macho.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			m := list[0]
			have := map[uint64]uint64{}
			for _, p := range m.Pointers {
				have[p.At] = p.To
			}
			rows := 0
			for line := range strings.Lines(run(t, dir, "llvm-objdump-16", "--macho", "--dyld-info", "--rebase", out)) {
				if f := rebased.FindStringSubmatch(line); f != nil {
					rows++
					at, _ := strconv.ParseUint(f[1], 16, 64)
					to, _ := strconv.ParseUint(f[2], 16, 64)
					if have[at] != to {
						t.Errorf("%s: the word at %#x holds %#x, want %#x", out, at, have[at], to)
					}
				} else if f := opcode.FindStringSubmatch(line); f != nil {
					rows++
					at, _ := strconv.ParseUint(f[1], 16, 64)
					if _, ok := have[at]; !ok {
						t.Errorf("%s: no pointer at %#x", out, at)
					}
				}
			}
			if rows < 5 {
				t.Errorf("%s: llvm-objdump shows %d rebases", out, rows)
			}
			symbol := map[string]uint64{}
			for _, s := range m.Symbols {
				symbol[s.Name] = s.Addr
			}
			for at, want := range map[uint64]uint64{
				symbol["table"]:     symbol["one"],
				symbol["table"] + 8: symbol["two"], // weak: bound by name, to itself
				symbol["inside"]:    symbol["numbers"] + 8,
			} {
				if have[at] != want || want == 0 {
					t.Errorf("%s: the word at %#x holds %#x, want %#x", out, at, have[at], want)
				}
			}
			if want := []uint64{symbol["begin"]}; !slices.Equal(m.Initializers, want) {
				t.Errorf("%s: initializers %#x, want %#x", out, m.Initializers, want)
			}
			i := slices.IndexFunc(m.Exports, func(e image.Export) bool { return e.Name == "two" })
			if i < 0 || m.Exports[i].Slot == 0 || m.Exports[i].Stub == 0 {
				t.Errorf("%s: two is used through a pointer and a stub: %+v", out, m.Exports)
			}
		}
	}
}

func pointers(m *image.Image) (out []string) {
	for _, p := range m.Pointers {
		out = append(out, fmt.Sprintf("%#x %#x", p.At, p.To))
	}
	return out
}

// TestRebaseOpcodes runs every opcode.
func TestRebaseOpcodes(t *testing.T) {
	pack := (&build{}).pack
	data := []byte{}
	for i := range 32 {
		data = append(data, pack(uint64(0x4000+i*16))...)
	}
	b := library(true, cpuX64, nil, data)
	rebase := slices.Concat(
		[]byte{0x11, 0x21}, uleb(0x1000), []byte{0x52}, // two at 0x9000
		[]byte{0x30}, uleb(8), []byte{0x60}, // over one
		uleb(1), []byte{0x42, 0x51}, // one at 0x9018, over two, one at 0x9030
		[]byte{0x70}, uleb(8), []byte{0x51}, // one at 0x9038, over one, one at 0x9048
		[]byte{0x80}, uleb(3, 8), // at 0x9050, 0x9060, 0x9070
		[]byte{0x29}, uleb(0), []byte{0x51}, // in no segment
		[]byte{0x00, 0x51},
	)
	b.command(0x80000022, b.put(rebase), uint32(len(rebase)), uint64(0), uint64(0), uint64(0), uint64(0))
	m := one(t, b.bytes())
	equal(t, "pointers", pointers(m), []string{
		"0x9000 0x4000", "0x9008 0x4010", "0x9018 0x4030", "0x9030 0x4060", "0x9038 0x4070", "0x9048 0x4090",
		"0x9050 0x40a0", "0x9060 0x40c0", "0x9070 0x40e0",
	})
	if len(m.Notes) > 0 {
		t.Errorf("notes %q", m.Notes)
	}

	b = library(true, cpuX64, nil, data)
	endless := slices.Concat([]byte{0x21}, uleb(0), []byte{0x80}, uleb(1<<63, 1<<64-8))
	b.command(0x80000022, b.put(endless), uint32(len(endless)), uint64(0), uint64(0), uint64(0), uint64(0))
	if m = one(t, b.bytes()); len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "more fixups") {
		t.Errorf("notes %q; want one on too many fixups", m.Notes)
	}
}

// TestChainedRebases reads the pointers that each format of chains holds.
func TestChainedRebases(t *testing.T) {
	pack := (&build{wide: true}).pack
	for _, test := range []struct {
		name   string
		format uint16
		data   []byte
		want   []string
	}{
		{"64", 2, slices.Concat(pack(uint64(2<<51|0x80<<36|0x4100)), pack(uint64(0x8010))), []string{"0x8000 0x4100", "0x8008 0x8010"}},
		{"64 offset", 6, slices.Concat(pack(uint64(2<<51|0x100)), pack(uint64(0x4010))), []string{"0x8000 0x4100", "0x8008 0x8010"}},
		{"arm64e", 1, slices.Concat(pack(uint64(1<<51|0x4100)), pack(uint64(1<<63|3<<49|0xbeef<<32|0x180))), []string{"0x8000 0x4100", "0x8008 0x4180"}},
		{"arm64e userland", 9, slices.Concat(pack(uint64(1<<51|0x100)), pack(uint64(1<<63|0xbeef<<32|0x180))), []string{"0x8000 0x4100", "0x8008 0x4180"}},
		{"arm64e userland 24", 12, slices.Concat(pack(uint64(1<<51|0x7f<<43|0x100)), pack(uint64(1<<63|0xbeef<<32|0x180))), []string{"0x8000 0x4100", "0x8008 0x4180"}},
		{"arm64e kernel", 7, slices.Concat(pack(uint64(2<<51|0x100)), pack(uint64(1<<63|0xbeef<<32|0x180))), []string{"0x8000 0x4100", "0x8008 0x4180"}},
		{"arm64e firmware", 10, slices.Concat(pack(uint64(2<<51|0x4100)), pack(uint64(1<<63|0xbeef<<32|0x180))), []string{"0x8000 0x4100", "0x8008 0x4180"}},
		{"outside of the image", 2, slices.Concat(pack(uint64(2<<51|0x1000000)), pack(uint64(0x4010))), []string{"0x8008 0x4010"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := library(true, cpuARM64, test.data, make([]byte, 8))
			fix := chains(b, 1, 0, nil, "\x00", test.format, 0, 0xffff)
			b.command(0x80000034, b.put(fix), uint32(len(fix)))
			equal(t, "pointers", pointers(one(t, b.bytes())), test.want)
		})
	}
	b := library(false, 7, pack(uint32(1<<26|0x4100), uint32(0x8010)), make([]byte, 8))
	fix := chains(b, 1, 0, nil, "\x00", 3, 0, 0xffff)
	b.command(0x80000034, b.put(fix), uint32(len(fix)))
	equal(t, "pointers", pointers(one(t, b.bytes())), []string{"0x8000 0x4100", "0x8004 0x8010"})
}
