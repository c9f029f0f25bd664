package elf_test

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// readelfPointers returns what readelf says that the loader puts where, as far
// as it is an address of the file itself. Words whose relocations have no
// addend of their own are read from the file.
func readelfPointers(t *testing.T, m *image.Image, path string) map[uint64]uint64 {
	t.Helper()
	word := func(addr uint64) uint64 {
		b := m.At(addr)
		if len(b) < m.Bits/8 {
			return 0
		}
		if m.Bits == 64 {
			return binary.LittleEndian.Uint64(b)
		}
		return uint64(binary.LittleEndian.Uint32(b))
	}
	imported := map[string]bool{}
	for _, i := range m.Imports {
		imported[i.Name] = true
	}
	mapped := func(addr uint64) bool {
		return slices.ContainsFunc(m.Segments, func(s image.Segment) bool { return addr >= s.Addr && addr-s.Addr < s.Size })
	}
	want := map[uint64]uint64{}
	packed := false
	for line := range strings.Lines(output(t, "readelf", "-rW", path)) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(line, "Relocation section") {
			packed = strings.Contains(line, "relr")
			continue
		}
		at, err := strconv.ParseUint(f[0], 16, 64)
		if err != nil {
			continue
		}
		var to uint64
		switch {
		case packed && len(f) == 1:
			to = word(at)
		case len(f) < 3:
			continue
		case strings.HasSuffix(f[2], "_RELATIVE") || strings.HasSuffix(f[2], "_IRELATIV"), strings.HasSuffix(f[2], "_IRELATIVE"):
			to = word(at)
			if len(f) > 3 {
				to, _ = strconv.ParseUint(f[len(f)-1], 16, 64)
			}
		case len(f) >= 5 && slices.Contains([]string{"R_X86_64_64", "R_386_32", "R_AARCH64_ABS64", "R_ARM_ABS32", "R_RISCV_64"}, f[2]),
			len(f) >= 5 && strings.Contains(f[2], "GLOB_DA"):
			name, _, _ := strings.Cut(f[4], "@")
			if to, _ = strconv.ParseUint(f[3], 16, 64); to == 0 || imported[name] {
				continue
			}
			switch {
			case len(f) >= 7:
				addend, _ := strconv.ParseInt(f[6], 16, 64)
				if f[5] == "-" {
					addend = -addend
				}
				to += uint64(addend)
			case !strings.Contains(f[2], "GLOB_DA"):
				to += word(at)
			}
			if m.Bits == 32 {
				to &= 0xffffffff
			}
		default:
			continue
		}
		if m.Arch == image.ARM && to&1 != 0 && slices.ContainsFunc(m.Sections, func(s image.Section) bool { return s.Code && to >= s.Addr && to < s.Addr+s.Size }) {
			to &^= 1
		}
		if mapped(to) {
			want[at] = to
		}
	}
	return want
}

// comparePointers compares with readelf.
func comparePointers(t *testing.T, path string) int {
	t.Helper()
	tool(t, "readelf")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := parse(t, data)
	want := readelfPointers(t, m, path)
	got := map[uint64]uint64{}
	for i, p := range m.Pointers {
		if i > 0 && m.Pointers[i-1].At >= p.At {
			t.Fatalf("pointer %d at %#x is not behind %#x", i, p.At, m.Pointers[i-1].At)
		}
		got[p.At] = p.To
		if to, ok := want[p.At]; !ok || to != p.To {
			t.Errorf("%#x holds %#x; readelf has %#x, %v", p.At, p.To, to, ok)
			return 0
		}
	}
	for at, to := range want {
		if got[at] != to {
			t.Errorf("%#x holds %#x of readelf's %#x", at, got[at], to)
			return 0
		}
	}
	return len(got)
}

// TestPointersOfSystem compares files of the system and of cross compilers.
func TestPointersOfSystem(t *testing.T) {
	for _, pattern := range []string{
		"/usr/lib/x86_64-linux-gnu/lib[a-c]*.so.*", "/usr/aarch64-linux-gnu/lib/*.so*", "/usr/arm-linux-gnueabihf/lib/*.so*",
		"/usr/riscv64-linux-gnu/lib/*.so*", "/usr/i686-linux-gnu/lib/*.so*",
	} {
		paths, _ := filepath.Glob(pattern)
		total := 0
		for _, path := range paths[:min(len(paths), 40)] {
			if isELF(path) {
				total += comparePointers(t, path)
			}
		}
		t.Logf("%s: %d pointers", pattern, total)
	}
}

const pointerSource = `
typedef int (*fn)(void);
static int one(void) { return 1; }
int two(void) { return 2; }
int elsewhere(void);
extern int variable;
int numbers[4] = {1, 2, 3, 4};
fn table[] = {one, two, elsewhere};
int *inside = &numbers[2], *other = &variable;
static int three(void) { return 3; }
static fn choose(void) { return three; }
int chosen(void) __attribute__((ifunc("choose")));
__attribute__((constructor)) static void begin(void) { __asm__ volatile(""); }
__attribute__((constructor(200))) void early(void) { __asm__ volatile(""); numbers[1]++; }
int used(void) { return chosen() + *inside + table[numbers[3]](); }
`

// TestPointers links the ways in which pointers are relocated: with addends in
// the table or in the words, packed, as bitmaps, and by symbol.
func TestPointers(t *testing.T) {
	clang, lld := tool(t, "clang-16"), tool(t, "ld.lld-16")
	for _, m := range targets {
		if m.arch != image.X86_64 && m.arch != image.X86 && m.arch != image.AArch64 && m.arch != image.ARM && m.arch != image.RISCV64 {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			path := func(name string) string { return filepath.Join(dir, name) }
			if err := os.WriteFile(path("p.c"), []byte(pointerSource), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, clang, append([]string{"-target", m.triple, "-O1", "-fPIC", "-ffreestanding", "-c", path("p.c"), "-o", path("p.o")}, m.flags...)...)
			for name, flags := range map[string][]string{
				"plain":   {"-shared"},
				"rel":     {"-shared", "-z", "rel"},
				"rela":    {"-shared", "-z", "rela"},
				"relr":    {"-shared", "--pack-dyn-relocs=relr"},
				"android": {"-shared", "--pack-dyn-relocs=android"},
				"both":    {"-shared", "--pack-dyn-relocs=android+relr", "--use-android-relr-tags"},
				"own":     {"-shared", "-Bsymbolic"},
			} {
				run(t, lld, append(flags, "-z", "undefs", "-z", "notext", path("p.o"), "-o", path(name))...)
				data, err := os.ReadFile(path(name))
				if err != nil {
					t.Fatal(err)
				}
				x := parse(t, data)
				if n := comparePointersUnlessPacked(t, name, path(name)); n == 0 {
					continue
				}
				symbol := symbols(t, path(name))
				to := map[uint64]uint64{}
				for _, p := range x.Pointers {
					to[p.At] = p.To
				}
				word := uint64(x.Bits / 8)
				for at, want := range map[uint64]uint64{
					symbol["table"]:        symbol["one"],
					symbol["table"] + word: symbol["two"],
					symbol["inside"]:       symbol["numbers"] + 8,
				} {
					if to[at] != want || want == 0 {
						t.Errorf("%s: the word at %#x holds %#x, want %#x", name, at, to[at], want)
					}
				}
				want := []uint64{symbol["begin"], symbol["early"]}
				slices.Sort(want)
				if !slices.Equal(x.Initializers, want) {
					t.Errorf("%s: initializers %#x, want %#x", name, x.Initializers, want)
				}
				for in, at := range map[string]uint64{"elsewhere": symbol["table"] + 2*word, "variable": symbol["other"]} {
					if !slices.ContainsFunc(x.Imports, func(i image.Import) bool {
						return i.Name == in && (i.Slot == at || slices.Contains(i.MoreSlots, at))
					}) {
						t.Errorf("%s: no import %s with a slot at %#x: %+v", name, in, at, x.Imports)
					}
				}
			}
		})
	}
}

// comparePointersUnlessPacked compares with readelf what it can read.
func comparePointersUnlessPacked(t *testing.T, name, path string) int {
	if name == "android" || name == "both" {
		return 1
	}
	return comparePointers(t, path)
}

// symbols returns the addresses of the symbols of a file.
func symbols(t *testing.T, path string) map[string]uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, s := range list {
		out[s.Name] = s.Value
		if f.Machine == elf.EM_ARM && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			out[s.Name] &^= 1
		}
	}
	return out
}

// TestPointersOfStatic looks at a static executable, which has no dynamic table
// and calls what chooses between functions itself.
func TestPointersOfStatic(t *testing.T) {
	clang, lld := tool(t, "clang-16"), tool(t, "ld.lld-16")
	dir := t.TempDir()
	source, object, out := filepath.Join(dir, "p.c"), filepath.Join(dir, "p.o"), filepath.Join(dir, "p")
	text := strings.ReplaceAll(pointerSource, "int elsewhere(void);", "int elsewhere(void) { return 4; }")
	text = strings.ReplaceAll(text, "extern int variable;", "int variable; int used(void); int _start(void) { return used(); }")
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, clang, "-target", "x86_64-linux-gnu", "-O1", "-fno-pic", "-ffreestanding", "-c", source, "-o", object)
	run(t, lld, "-static", object, "-o", out)
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	m, symbol := parse(t, data), symbols(t, out)
	if !slices.ContainsFunc(m.Pointers, func(p image.Pointer) bool { return p.To == symbol["choose"] }) {
		t.Errorf("nothing points to %#x: %+v", symbol["choose"], m.Pointers)
	}
	if want := []uint64{symbol["begin"], symbol["early"]}; !slices.Equal(m.Initializers, slices.Sorted(slices.Values(want))) {
		t.Errorf("initializers %#x, want %#x", m.Initializers, want)
	}
}
