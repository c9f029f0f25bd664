package pe_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const pointingProgram = `
typedef int (*fn)(void);
static int one(void) { return 1; }
static int two(void) { return 2; }
int numbers[4] = {1, 2, 3, 4};
fn volatile table[] = {one, two};
int *volatile inside = &numbers[2];
static void __stdcall early(void *a, unsigned long b, void *c) { numbers[0]++; }
int _tls_index;
static char first, last;
#pragma section(".CRT$XLB", read)
__declspec(allocate(".CRT$XLB")) void (__stdcall *callbacks[])(void *, unsigned long, void *) = {early, 0};
const struct { void *first, *last, *index, *callbacks; unsigned size, flags; } _tls_used = {&first, &last, &_tls_index, callbacks, 0, 0};
__declspec(dllexport) int used(int n) { return table[n]() + *inside; }
`

// TestPointers compares with what llvm-readobj says of base relocations.
func TestPointers(t *testing.T) {
	tc := newToolchain(t)
	source := tc.write("p.c", pointingProgram)
	for _, target := range []struct{ triple, machine string }{
		{"x86_64-pc-windows-msvc", "x64"}, {"i686-pc-windows-msvc", "x86"}, {"aarch64-pc-windows-msvc", "arm64"},
	} {
		t.Run(target.machine, func(t *testing.T) {
			object, out := tc.path(target.machine+".obj"), tc.path(target.machine+".dll")
			tc.run(tc.clang, "-target", target.triple, "-O1", "-ffreestanding", "-fms-extensions", "-c", source, "-o", object)
			tc.run(tc.link, "/dll", "/noentry", "/nodefaultlib", "/machine:"+target.machine, "/debug:symtab", "/out:"+out, object)
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			m := parse(t, data)
			var want []uint64
			kind := ""
			for line := range strings.Lines(tc.run(tc.obj, "--coff-basereloc", out)) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				if name == "Type" {
					kind = value
				} else if name == "Address" && (kind == "DIR64" || kind == "HIGHLOW") {
					at, err := strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 64)
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, m.Base+at)
				}
			}
			slices.Sort(want)
			var got []uint64
			to := map[uint64]bool{}
			for _, p := range m.Pointers {
				got = append(got, p.At)
				to[p.To] = true
			}
			if !slices.Equal(got, want) || len(want) < 6 {
				t.Errorf("pointers at %#x, want %#x", got, want)
			}
			symbol := map[string]uint64{}
			for _, s := range m.Symbols {
				symbol[strings.TrimPrefix(s.Name, "_")] = s.Addr
			}
			for name, addr := range map[string]uint64{"one": symbol["one"], "two": symbol["two"], "inside": symbol["numbers"] + 8} {
				if !to[addr] || addr < m.Base {
					t.Errorf("nothing points to %s at %#x", name, addr)
				}
			}
			if want := []uint64{symbol["early"]}; target.machine != "x86" && !slices.Equal(m.Initializers, want) {
				t.Errorf("initializers %#x, want %#x", m.Initializers, want)
			}
		})
	}
}

// TestPointersCrafted reads blocks of relocations of all kinds, some of which
// lead nowhere.
func TestPointersCrafted(t *testing.T) {
	const base = 0x400000
	d := &tables{wide: true}
	d.b = le.AppendUint64(d.b, base+codeRVA)   // 0x2000
	d.b = le.AppendUint64(d.b, base+dataRVA+8) // 0x2008
	d.b = le.AppendUint64(d.b, base+0x123456)  // 0x2010: nothing is there
	d.b = le.AppendUint64(d.b, base+codeRVA+4) // 0x2018
	callbacks := d.pointers(base+codeRVA+4, base+codeRVA, 0)
	tls := d.pointers(0, 0, 0, base+uint64(callbacks))
	reloc := d.rva()
	block := func(page uint32, entries ...uint16) {
		d.b = le.AppendUint32(le.AppendUint32(d.b, page), uint32(8+2*len(entries)))
		for _, e := range entries {
			d.b = le.AppendUint16(d.b, e)
		}
	}
	block(0x2000, 0xa018, 0xa000, 0xa000, 0xa010, 0x3008, 0x0000)
	block(0x9000, 0xa000, 0xa008) // not mapped
	end := d.rva()
	c := craft{machine: arm64, wide: true, base: base, code: make([]byte, 64), data: d.b, dirs: map[int][2]uint32{5: {reloc, end - reloc}, 9: {tls, 40}}}
	m := parse(t, c.bytes())
	want := []image.Pointer{{At: 0x402000, To: 0x401000}, {At: 0x402008, To: 0x402008}, {At: 0x402018, To: 0x401004}}
	if !slices.Equal(m.Pointers, want) {
		t.Errorf("pointers %#x, want %#x", m.Pointers, want)
	}
	if want := []uint64{0x401000, 0x401004}; !slices.Equal(m.Initializers, want) {
		t.Errorf("initializers %#x, want %#x", m.Initializers, want)
	}
}
