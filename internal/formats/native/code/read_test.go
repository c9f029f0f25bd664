package code_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
)

// Where craft puts things.
const (
	textAddr = 0x401000
	dataAddr = 0x500000
	dataSize = 0x1000
)

// craft makes an image of code, with functions at the given offsets that go on
// to the next, and data behind it.
func craft(arch image.Arch, text []byte, starts ...int) *image.Image {
	data := append(slices.Clone(text), make([]byte, dataSize)...)
	m := &image.Image{
		Format: image.ELF, OS: "linux", Arch: arch, Bits: 64, Kind: image.Executable, Data: data,
		Segments: []image.Segment{
			{Addr: textAddr, Size: uint64(len(text)), FileSize: uint64(len(text)), Access: image.Read | image.Execute},
			{Addr: dataAddr, Size: dataSize, Offset: uint64(len(text)), FileSize: dataSize, Access: image.Read | image.Write},
		},
		Sections: []image.Section{
			{Name: ".text", Addr: textAddr, Size: uint64(len(text)), FileSize: uint64(len(text)), Code: true},
			{Name: ".data", Addr: dataAddr, Size: dataSize, Offset: uint64(len(text)), FileSize: dataSize},
		},
	}
	if arch == image.X86 || arch == image.ARM {
		m.Bits = 32
	}
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		m.Functions.List = append(m.Functions.List, image.Function{Addr: textAddr + uint64(at), Size: uint64(end - at)})
	}
	m.Finish()
	return m
}

// unhex reads hexadecimal bytes; what stands behind a semicolon is for people.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	var clean strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, ";")
		clean.WriteString(strings.Join(strings.Fields(line), ""))
	}
	var b []byte
	if _, err := fmt.Sscanf(clean.String(), "%x", &b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSyscalls(t *testing.T) {
	for _, test := range []struct {
		name string
		arch image.Arch
		os   string
		code string
		want []string
	}{
		{"mov", image.X86_64, "linux", "b8 29 00 00 00 0f 05 c3", []string{"5 41 socket"}},
		{"mov of 64 bits", image.X86_64, "linux", "48 c7 c0 3b 00 00 00 0f 05 c3", []string{"7 59 execve"}},
		{"xor", image.X86_64, "linux", "31 c0 31 ff 0f 05 c3", []string{"4 0 read"}},
		{"push and pop", image.X86_64, "linux", "6a 3b 58 99 0f 05 c3", []string{"4 59 execve"}},
		{"lea", image.X86_64, "linux", "31 f6 8d 46 2a 0f 05 c3", []string{"5 42 connect"}},
		{"mov of a byte", image.X86_64, "linux", "31 c0 b0 29 0f 05 c3", []string{"4 41 socket"}},
		{"unknown number", image.X86_64, "linux", "8b 07 0f 05 c3", []string{"2 -1 "}},
		{"after another", image.X86_64, "linux", "b8 29 00 00 00 0f 05 89 c7 b8 2a 00 00 00 0f 05 c3", []string{"5 41 socket", "14 42 connect"}},
		{"result is not a number", image.X86_64, "linux", "b8 29 00 00 00 0f 05 0f 05 c3", []string{"5 41 socket", "7 -1 "}},
		{"kept on the stack", image.X86_64, "linux", "b8 29 00 00 00 48 89 44 24 08 31 c0 48 8b 44 24 08 0f 05 c3", []string{"17 41 socket"}},
		{"within an instruction", image.X86_64, "linux", "b8 0f 05 00 00 b9 00 0f 05 00 c3", nil},
		{"int 80", image.X86_64, "linux", "b8 04 00 00 00 cd 80 c3", []string{"5 4 write"}},
		{"freebsd", image.X86_64, "freebsd", "b8 62 00 00 00 0f 05 c3", []string{"5 98 connect"}},
		{"darwin", image.X86_64, "macos", "b8 62 00 00 02 0f 05 c3", []string{"5 33554530 connect"}},
		{"x86 int 80", image.X86, "linux", "b8 66 00 00 00 cd 80 c3", []string{"5 102 socketcall"}},
		{"x86 sysenter", image.X86, "linux", "6a 0b 58 99 0f 34", []string{"4 11 execve"}},
		{"x86 vdso", image.X86, "linux", "b8 05 00 00 00 65 ff 15 10 00 00 00 c3", []string{"5 5 open"}},
		{"not on Windows", image.X86, "windows", "b8 05 00 00 00 cd 80 c3", nil},
		{"Windows", image.X86_64, "windows", "4c 8b d1 b8 18 00 00 00 0f 05 c3", []string{"8 24 "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := craft(test.arch, append(unhex(t, test.code), make([]byte, 16)...), 0)
			m.OS = test.os
			var got []string
			for _, s := range code.Read(m).Syscalls {
				got = append(got, fmt.Sprintf("%d %d %s", s.Addr-textAddr, s.Number, s.Name))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%q; want %q", got, test.want)
			}
		})
	}
}

// TestWrappedSyscalls has a function that makes the call whose number it is
// given, one that passes its own on, and callers of both and of the C library's.
func TestWrappedSyscalls(t *testing.T) {
	text := unhex(t, `
		48 89 f8  48 89 f7  0f 05  c3                ; 00: mov rax, rdi; mov rdi, rsi; syscall; ret
		90 90 90 90 90 90 90
		90  e8 ea ff ff ff  c3                       ; 10: nop; call 00; ret
		90 90 90 90 90 90 90 90 90
		bf 29 00 00 00  e8 d6 ff ff ff  c3           ; 20: mov edi, 41; call 00; ret
		90 90 90 90 90
		bf 2a 00 00 00  e8 d6 ff ff ff  c3           ; 30: mov edi, 42; call 10; ret
		90 90 90 90 90
		bf 3f 01 00 00  ff 15 b5 ef 0f 00  c3        ; 40: mov edi, 319; call [slot]; ret
		90 90 90 90
	`)
	m := craft(image.X86_64, text, 0, 0x10, 0x20, 0x30, 0x40)
	m.Imports = []image.Import{{Name: "syscall", Slot: dataAddr}}
	var got []string
	for _, s := range code.Read(m).Syscalls {
		got = append(got, fmt.Sprintf("%x %s", s.Addr-textAddr, s.Name))
	}
	if want := []string{"6 ", "25 socket", "35 connect", "45 memfd_create"}; !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
}

// TestDiscover has functions that no table lists.
func TestDiscover(t *testing.T) {
	text := unhex(t, `
		e8 1b 00 00 00  e8 26 00 00 00  e8 29 00 00 00 c3 ; 00: call 20, 30, 38; ret
		e8 2b 00 00 00 c3 cc cc cc cc cc cc cc cc cc cc ; 10: call 40
		8d 04 0f c3 cc cc cc cc cc cc cc cc cc cc cc cc ; 20: lea eax, [rdi+rcx]; ret
		00 00 00 00 00 00 00 00                         ; 30: zeros
		0f 04 0f 0a cc cc cc cc                         ; 38: no instructions
		e9 db ff ff ff cc cc cc cc cc cc cc cc cc cc cc ; 40: jmp 20
	`)
	m := craft(image.X86_64, text, 0)
	m.Functions.List[0].Size = 0x10
	c := code.Read(m)
	var got []uint64
	for _, f := range c.Functions {
		got = append(got, f.Addr-textAddr)
	}
	if want := []uint64{0, 0x10, 0x20, 0x40}; !slices.Equal(got, want) {
		t.Errorf("functions %x; want %x", got, want)
	}
	var refs []string
	for _, r := range c.Refs {
		refs = append(refs, fmt.Sprintf("%x %s %x", r.Addr-textAddr, r.Kind, r.Target-textAddr))
	}
	if want := []string{"0 call 20", "10 call 40", "40 jump 20"}; !slices.Equal(refs, want) {
		t.Errorf("%q; want %q", refs, want)
	}
}

// TestNearTailCall has a jump of two bytes to another function, and one within.
func TestNearTailCall(t *testing.T) {
	text := unhex(t, `
		90 eb 0d 90 90 90 90 90 90 90 90 90 90 90 90 90 ; 00: nop; jmp 10
		90 eb fd 90 90 90 90 90 90 90 90 90 90 90 90 90 ; 10: nop; jmp 10
		b8 00 eb dc 00 c3 90 90 90 90 90 90 90 90 90 90 ; 20: mov eax, n; ret
	`)
	var refs []string
	for _, r := range code.Read(craft(image.X86_64, text, 0, 0x10, 0x20)).Refs {
		refs = append(refs, fmt.Sprintf("%x %s %x", r.Addr-textAddr, r.Kind, r.Target-textAddr))
	}
	if want := []string{"1 jump 10"}; !slices.Equal(refs, want) {
		t.Errorf("%q; want %q", refs, want)
	}
}

// TestDistanceIsNoAddress has distances that would be addresses of data, were
// they not relative to the instruction.
func TestDistanceIsNoAddress(t *testing.T) {
	text := unhex(t, `
		48 8b 05 40 00 50 00     ; mov rax, [rip+0x500040]
		83 3d 80 00 50 00 00     ; cmp dword [rip+0x500080], 0
		bf 40 00 50 00 c3        ; mov edi, 0x500040; ret
	`)
	var refs []string
	for _, r := range code.Read(craft(image.X86_64, text, 0)).Refs {
		refs = append(refs, fmt.Sprintf("%x %s %x", r.Addr-textAddr, r.Kind, r.Target))
	}
	if want := []string{"e data 500040"}; !slices.Equal(refs, want) {
		t.Errorf("%q; want %q", refs, want)
	}
}

// reachable is an image of five functions: the first calls the second and takes
// the address of data, whose pointer leads to the third, which calls the
// fourth; nothing leads to the fifth.
func reachable(t *testing.T) *image.Image {
	text := unhex(t, `
		e8 0b 00 00 00  48 8d 05 f4 ef 0f 00  c3 90 90 90 ; 00: call 10; lea rax, [data]; ret
		c3 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90   ; 10
		e9 0b 00 00 00 90 90 90 90 90 90 90 90 90 90 90   ; 20: jmp 30
		c3 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90   ; 30
		e8 bb ff ff ff c3 90 90 90 90 90 90 90 90 90 90   ; 40: call 00
	`)
	m := craft(image.X86_64, text, 0, 0x10, 0x20, 0x30, 0x40)
	m.Pointers = []image.Pointer{{At: dataAddr + 8, To: textAddr + 0x20}}
	return m
}

func TestReach(t *testing.T) {
	m := reachable(t)
	m.Exports = []image.Export{{Name: "other", Addr: textAddr + 0x10}, {Name: "napi_register_module_v1", Addr: textAddr}}
	c := code.Read(m)
	registration := code.Root{Kind: code.Registration, Name: "napi_register_module_v1", Addr: textAddr}
	for fn, want := range []bool{true, true, true, true, false} {
		got, ok := c.Reached(fn)
		if ok != want || ok && got != registration {
			t.Errorf("function %d is reached from %+v, %v; want %v", fn, got, ok, want)
		}
	}
	for _, test := range []struct {
		fn, most int
		want     []int
	}{{0, 9, []int{0}}, {3, 9, []int{0, 2, 3}}, {3, 2, []int{0, 3}}, {3, 1, []int{0}}, {4, 9, nil}, {3, 0, nil}} {
		if got := c.Chain(test.fn, test.most); !slices.Equal(got, test.want) {
			t.Errorf("Chain(%d, %d) = %v; want %v", test.fn, test.most, got, test.want)
		}
	}
	if got := c.Roots(); len(got) != 2 || got[0] != registration || got[1].Kind != code.Exported {
		t.Errorf("roots %+v", got)
	}
}

func TestRootsByKind(t *testing.T) {
	m := reachable(t)
	m.Entry = textAddr + 0x40
	m.Initializers = []uint64{textAddr + 0x20}
	c := code.Read(m)
	for fn, want := range []code.RootKind{code.Entry, code.Entry, code.Entry, code.Entry, code.Entry} {
		if got, _ := c.Reached(fn); got.Kind != want {
			t.Errorf("function %d is reached from %q; want %q", fn, got.Kind, want)
		}
	}
	if roots := c.Roots(); len(roots) != 2 || roots[1].Kind != code.Initial {
		t.Errorf("roots %+v", roots)
	}
}

func list(g code.Group) (out []code.Ref) {
	for i, r := range g.All() {
		if r != g.At(i) || i >= g.Len() {
			panic("All and At differ")
		}
		out = append(out, r)
	}
	return out
}

func TestGraph(t *testing.T) {
	m := reachable(t)
	m.Imports = []image.Import{{Name: "none"}, {Name: "some", Slot: dataAddr}}
	c := code.Read(m)
	if refs := list(c.ImportRefs(1)); len(refs) != 1 || refs[0].Addr != textAddr+5 || refs[0].Kind != code.Taken {
		t.Errorf("references to the import: %+v", refs)
	}
	if refs := list(c.ImportRefs(0)); len(refs) != 0 {
		t.Errorf("references to an import without a slot: %+v", refs)
	}
	m = reachable(t)
	c = code.Read(m)
	if refs := list(c.Callers(0)); len(refs) != 1 || refs[0].Addr != textAddr+0x40 {
		t.Errorf("callers of the first function: %+v", refs)
	}
	if refs := list(c.Callers(4)); len(refs) != 0 {
		t.Errorf("callers of the last function: %+v", refs)
	}
	if refs := list(c.DataRefs(dataAddr, dataAddr+1)); len(refs) != 1 || refs[0].Addr != textAddr+5 {
		t.Errorf("references to the data: %+v", refs)
	}
	if refs := list(c.DataRefs(dataAddr+1, ^uint64(0))); len(refs) != 0 {
		t.Errorf("references to other data: %+v", refs)
	}
	if refs := c.From(0); len(refs) != 2 {
		t.Errorf("references from the first function: %+v", refs)
	}
	for addr, want := range map[uint64]int{textAddr - 1: -1, textAddr: 0, textAddr + 0x1f: 1, textAddr + 0x4f: 4, textAddr + 0x50: -1, dataAddr: -1} {
		if got := c.Func(addr); got != want {
			t.Errorf("Func(%#x) = %d; want %d", addr, got, want)
		}
	}
}

// TestOverlap has a thousand sections that show the same bytes.
func TestOverlap(t *testing.T) {
	text := bytes.Repeat(unhex(t, "e8 00 10 00 00 c3 90 90"), 1<<13)
	m := craft(image.X86_64, text, 0, 0x1005)
	for i := range 1000 {
		s := m.Sections[0]
		s.Addr += uint64(i) * 8
		m.Sections = append(m.Sections, s)
	}
	for i := range 1000 {
		s := m.Sections[0]
		s.Addr = 0x10000000 + uint64(i)<<20
		m.Sections = append(m.Sections, s)
	}
	began := time.Now()
	c := code.Read(m)
	if !c.Partial {
		t.Error("code of many times the file was read whole")
	}
	if len(c.Refs) > len(m.Data) {
		t.Errorf("%d references in %d bytes", len(c.Refs), len(m.Data))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestReferencesAreBounded has code that is nothing but references.
func TestReferencesAreBounded(t *testing.T) {
	text := bytes.Repeat([]byte{0xe8}, 1<<20)
	target := uint64(0xe8e8e8e8)
	m := craft(image.X86_64, text, 0)
	for i := range uint64(len(text)) {
		m.Functions.List = append(m.Functions.List, image.Function{Addr: textAddr + i + 5 + uint64(int64(int32(target)))})
	}
	m.Finish()
	m.Sections = append(m.Sections, image.Section{Addr: m.Functions.List[0].Addr, Size: 1, FileSize: 1, Code: true})
	if c := code.Read(m); len(c.Refs) > len(text)/2 {
		t.Errorf("%d references in %d bytes", len(c.Refs), len(text))
	}
}

func TestUnreadMachine(t *testing.T) {
	m := craft(image.S390X, make([]byte, 64), 0, 16)
	m.Entry = textAddr + 16
	c := code.Read(m)
	if c.Read || len(c.Refs) != 0 {
		t.Errorf("read %v, %d references", c.Read, len(c.Refs))
	}
	if _, ok := c.Reached(1); !ok {
		t.Error("the entry point is not reached")
	}
	if _, ok := c.Reached(0); ok {
		t.Error("what nothing refers to is reached")
	}
}

// TestFixedPointers has pointers in data without relocations.
func TestFixedPointers(t *testing.T) {
	text := unhex(t, "bf 40 00 50 00 c3 90 90 90 90 90 90 90 90 90 90 c3") // mov edi, data+0x40; ret
	m := craft(image.X86_64, text, 0, 0x10)
	data := m.Data[len(text):]
	for at, to := range map[int]uint64{0: textAddr + 0x10, 8: dataAddr + 0x40, 16: textAddr + 1, 24: 12345, 33: dataAddr} {
		binary.LittleEndian.PutUint64(data[at:], to)
	}
	c := code.Read(m)
	want := []image.Pointer{{At: dataAddr, To: textAddr + 0x10}, {At: dataAddr + 8, To: dataAddr + 0x40}}
	if !slices.Equal(c.Pointers, want) {
		t.Errorf("pointers %x; want %x", c.Pointers, want)
	}
}

// check calls everything that there is and compares what has to agree.
func check(t *testing.T, c *code.Code) {
	t.Helper()
	if !slices.IsSortedFunc(c.Refs, func(a, b code.Ref) int { return compareAddr(a.Addr, b.Addr) }) {
		t.Error("references are not in order")
	}
	if !slices.IsSortedFunc(c.Syscalls, func(a, b code.Syscall) int { return compareAddr(a.Addr, b.Addr) }) {
		t.Error("system calls are not in order")
	}
	if !slices.IsSortedFunc(c.Pointers, func(a, b image.Pointer) int { return compareAddr(a.At, b.At) }) {
		t.Error("pointers are not in order")
	}
	for i := range c.Functions {
		if i > 0 && c.Functions[i-1].Addr >= c.Functions[i].Addr {
			t.Error("functions are not in order")
		}
	}
	uses, callers, from := 0, 0, 0
	for _, r := range c.Refs {
		if int(r.Import) >= len(c.Image.Imports) || r.Import < -1 {
			t.Errorf("no import %d", r.Import)
		}
		if r.Import >= 0 {
			uses++
		}
	}
	for i := range c.Image.Imports {
		uses -= c.ImportRefs(i).Len()
	}
	if uses != 0 {
		t.Errorf("uses differ by %d", uses)
	}
	for fn := range c.Functions {
		callers += c.Callers(fn).Len()
		from += len(c.From(fn))
		c.Reached(fn)
		chain := c.Chain(fn, 4)
		if _, ok := c.Reached(fn); ok != (len(chain) > 0) || len(chain) > 4 {
			t.Errorf("function %d: chain %v, reached %v", fn, chain, ok)
		}
	}
	if callers > len(c.Refs) || from > len(c.Refs) {
		t.Errorf("%d callers, %d in functions, of %d references", callers, from, len(c.Refs))
	}
	data := list(c.DataRefs(0, ^uint64(0)))
	if !slices.IsSortedFunc(data, func(a, b code.Ref) int { return compareAddr(a.Target, b.Target) }) {
		t.Error("data references are not in order")
	}
}

func compareAddr(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// seeds are small binaries of every format and machine.
func seeds(f testing.TB) [][]byte {
	var out [][]byte
	for _, s := range []string{
		"elf x86_64", "elf x86", "elf aarch64", "elf arm", "elf riscv64", "pe x86_64", "pe x86", "pe aarch64", "macho x86_64", "macho aarch64", "wasm wasm32",
	} {
		format, arch, _ := strings.Cut(s, " ")
		data, err := synth.FromYAML(fmt.Appendf(nil, `
format: %s
arch: %s
imports: [connect, puts]
exports:
  - name: offered
    loads: [a text]
    calls: [{name: connect, args: [3, "10.0.0.1"]}, {name: inner}]
symbols:
  - name: inner
    calls: [{name: puts, args: ["hello"]}]
`, format, arch))
		if err != nil {
			f.Fatalf("%s: %v", s, err)
		}
		out = append(out, data)
	}
	return out
}

// TestSynthetic reads the same program for every format and machine.
func TestSynthetic(t *testing.T) {
	for _, data := range seeds(t) {
		images, _ := native.Parse(data)
		if len(images) != 1 {
			t.Fatalf("%d images", len(images))
		}
		c := code.Read(images[0].Image)
		check(t, c)
		name := fmt.Sprintf("%s %s", c.Image.Format, c.Image.Arch)
		if c.Image.Arch != image.X86_64 && c.Image.Arch != image.X86 {
			continue
		}
		for i, imp := range c.Image.Imports {
			calls := 0
			for _, r := range c.ImportRefs(i).All() {
				if r.Kind == code.Call {
					calls++
				}
			}
			if calls != 1 {
				t.Errorf("%s: %d calls of %s", name, calls, imp.Name)
			}
		}
		texts := 0
		for _, r := range c.DataRefs(0, ^uint64(0)).All() {
			if s := cString(c, r.Target); s == "10.0.0.1" || s == "hello" || s == "a text" {
				texts++
			}
		}
		if texts != 3 {
			t.Errorf("%s: %d of 3 texts named", name, texts)
		}
	}
}

// FuzzRead reads the code of whatever the parsers make of a file.
func FuzzRead(f *testing.F) {
	for _, data := range seeds(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		images, _ := native.Parse(data)
		for _, b := range images {
			check(t, code.Read(b.Image))
		}
	})
}

// FuzzCode reads any bytes as code of a machine.
func FuzzCode(f *testing.F) {
	archs := []image.Arch{image.X86_64, image.X86, image.AArch64, image.ARM, image.RISCV64}
	f.Add(uint8(0), unhex(f, "e8 0b 00 00 00 48 8d 05 f4 ef 0f 00 c3 ff 15 00 ef 0f 00 b8 29 00 00 00 0f 05 0f 84 00 00 00 00"), uint16(16), false)
	f.Add(uint8(1), unhex(f, "e8 00 00 00 00 5b 81 c3 00 00 10 00 8d 83 10 00 00 00 ff 93 08 00 00 00 cd 80 68 00 00 50 00 c3"), uint16(8), true)
	f.Add(uint8(1), unhex(f, "c7 44 24 04 00 00 50 00 a1 00 00 50 00 ff 15 04 00 50 00 8b 04 85 00 00 50 00 0f b6 80 00 00 50 00"), uint16(4), false)
	f.Fuzz(func(t *testing.T, arch uint8, text []byte, start uint16, relocate bool) {
		if len(text) > 1<<16 {
			return
		}
		m := craft(archs[int(arch)%len(archs)], text, 0, min(int(start), len(text)))
		m.Imports = []image.Import{{Name: "one", Slot: dataAddr}, {Name: "two", Stub: textAddr + uint64(start)}}
		m.Entry = textAddr
		m.Pointers = []image.Pointer{{At: dataAddr + 16, To: textAddr + uint64(start)}}
		if relocate { // as a library, which may be loaded anywhere
			for i := range m.Segments {
				m.Segments[i].Addr -= textAddr - 0x100
			}
			for i := range m.Sections {
				m.Sections[i].Addr -= textAddr - 0x100
			}
			for i := range m.Functions.List {
				m.Functions.List[i].Addr -= textAddr - 0x100
			}
		}
		check(t, code.Read(m))
	})
}
