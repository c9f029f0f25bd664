package code_test

import (
	"bufio"
	"debug/elf"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	elffile "github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/wasm"
)

// cross runs a program in a folder, and skips the test without it.
func cross(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s, which is not installed", name)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		var detail []byte
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			detail = exit.Stderr
		}
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, detail)
	}
	return string(out)
}

// crossProgram draws in a good part of a C library when it is linked with one.
const crossProgram = `
#include <math.h>
#include <netdb.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
static int order(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static int (*volatile pick)(const void *, const void *) = order;
int counts[4] = {1, 2, 3, 4};
static const char *const names[] = {"first name", "second name"};
__attribute__((noinline)) int total(int n) { int s = 0; for (int i = 0; i < n; i++) s += counts[i & 3]++; return s; }
__attribute__((constructor)) static void begin(void) { counts[0]++; }
int main(int argc, char **argv) {
	qsort(argv, argc, sizeof *argv, pick);
	regex_t r;
	if (regcomp(&r, argv[0], REG_EXTENDED) == 0) puts("compiled");
	struct addrinfo *list;
	if (getaddrinfo(argv[0], "http", 0, &list) == 0) connect(socket(list->ai_family, SOCK_STREAM, 0), list->ai_addr, list->ai_addrlen);
	printf("%s %f %ld %d\n", names[argc & 1], pow(strtod(argv[0], 0), 2.5), (long)time(0), total(argc));
	syscall(SYS_getpid);
	return system(argv[0]);
}
`

// A branch is a call or jump of a disassembly.
type branch struct {
	at, to   uint64
	call     bool
	label    string // of the target: a name, with +n inside of a function
	mnemonic string
}

// disassembled returns the branches that llvm-objdump shows, and the addresses
// of all instructions.
func disassembled(t *testing.T, path string, call, jump []string, args ...string) (list []branch, at map[uint64]bool) {
	t.Helper()
	out := cross(t, "", "llvm-objdump-16", append([]string{"-d", "--no-show-raw-insn", "--no-print-imm-hex", path}, args...)...)
	at = map[uint64]bool{}
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		addr, text, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			continue
		}
		a, err := strconv.ParseUint(strings.TrimSpace(addr), 16, 64)
		f := strings.Fields(text)
		if err != nil || len(f) == 0 {
			continue
		}
		at[a] = true
		isCall := slices.Contains(call, f[0])
		if !isCall && !slices.Contains(jump, f[0]) || len(f) < 2 {
			continue
		}
		operands, label, _ := strings.Cut(text, "<")
		o := strings.Fields(operands)
		to, err := strconv.ParseUint(strings.TrimPrefix(o[len(o)-1], "0x"), 16, 64)
		if err != nil {
			continue
		}
		list = append(list, branch{a, to, isCall, strings.TrimSuffix(strings.TrimSpace(label), ">"), f[0]})
	}
	return list, at
}

// read reads a file with its code; of a fat file, that for AArch64.
func read(t *testing.T, path string) *code.Code {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m *image.Image
	switch {
	case elffile.Is(data):
		m, err = elffile.Parse(data)
	case pe.Is(data):
		m, err = pe.Parse(data)
	case wasm.Is(data):
		m, err = wasm.Parse(data)
	default:
		var list []*image.Image
		list, err = macho.Parse(data)
		for _, one := range list {
			if m == nil || one.Arch == image.AArch64 {
				m = one
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return code.Read(m)
}

// stands returns what a branch to an address goes to, as references state it:
// the address of a function, or the name of an import.
func stands(m *image.Image) func(addr uint64) (to uint64, name string) {
	stubs, own := map[uint64]string{}, map[uint64]uint64{}
	for _, i := range m.Imports {
		if i.Stub != 0 {
			stubs[i.Stub] = i.Name
		}
	}
	for _, e := range m.Exports {
		if e.Stub != 0 {
			own[e.Stub] = e.Addr
		}
	}
	return func(addr uint64) (uint64, string) {
		if to, ok := own[addr]; ok {
			return to, ""
		}
		if name, ok := stubs[addr+4]; ok && m.Arch == image.ARM && stubs[addr] == "" {
			return addr + 4, name // from Thumb code
		}
		if to, ok := own[addr+4]; ok && m.Arch == image.ARM {
			return to, ""
		}
		return addr, stubs[addr]
	}
}

// compareBranches compares direct calls with those of a disassembly: of those
// that are found, 99.5 % must be there, and of those that are there, 98 %
// must be found. It returns how many there are.
func compareBranches(t *testing.T, c *code.Code, list []branch) int {
	t.Helper()
	stand := stands(c.Image)
	starts := map[uint64]bool{}
	for _, f := range c.Functions {
		starts[f.Addr] = true
	}
	found := map[uint64]code.Ref{}
	for _, r := range c.Refs {
		if r.Kind == code.Call || r.Kind == code.Jump {
			found[r.Addr] = r
		}
	}
	total, missed, direct, wrong := 0, 0, 0, 0
	at := map[uint64]branch{}
	complain := func(n int, format string, args ...any) {
		if n < 8 {
			t.Logf(format, args...)
		}
	}
	for _, b := range list {
		at[b.at] = b
		to, name := stand(b.to)
		if !b.call || !starts[to] && name == "" {
			continue
		}
		total++
		if r, ok := found[b.at]; !ok || r.Import < 0 && r.Target != to {
			complain(missed, "missed: %#x %s %#x <%s>", b.at, b.mnemonic, b.to, b.label)
			missed++
		}
	}
	for _, r := range found {
		b, ok := at[r.Addr]
		if !ok || inStubs(c.Image, r.Addr) {
			continue // through a pointer
		}
		direct++
		to, name := stand(b.to)
		if r.Import < 0 && (to != r.Target || name != "") || r.Import >= 0 && c.Image.Imports[r.Import].Name != name || b.call != (r.Kind == code.Call) {
			complain(wrong, "wrong: %+v; the disassembly has %#x <%s>", r, b.to, b.label)
			wrong++
		}
	}
	t.Logf("%d direct calls, %d missed; %d found branches, %d wrong", total, missed, direct, wrong)
	if total == 0 || float64(missed) > 0.02*float64(total) || float64(wrong) > 0.005*float64(direct) {
		t.Errorf("%d of %d calls are missed, %d of %d branches are wrong", missed, total, wrong, direct)
	}
	return total
}

// inStubs reports whether an address is in the linker's stubs, of which a
// disassembler does not know the instruction set.
func inStubs(m *image.Image, addr uint64) bool {
	s := m.Section(".plt")
	return s != nil && addr-s.Addr < s.Size
}

// A made is an address that the linker put into instructions.
type made struct {
	at, to  uint64
	size    uint64 // of the symbol
	section bool   // a distance into it, which only Rela tables keep, would have to be added
}

// relocated returns the addresses that relocations of these types say which
// the linker kept (--emit-relocs).
func relocated(t *testing.T, path string, types ...uint32) []made {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	var list []made
	for _, s := range f.Sections {
		if s.Type != elf.SHT_RELA && s.Type != elf.SHT_REL || int(s.Info) >= len(f.Sections) || f.Sections[s.Info].Flags&elf.SHF_EXECINSTR == 0 {
			continue
		}
		b, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		word := 8
		if f.Class == elf.ELFCLASS32 {
			word = 4
		}
		get := func(b []byte) uint64 {
			if word == 8 {
				return f.ByteOrder.Uint64(b)
			}
			return uint64(f.ByteOrder.Uint32(b))
		}
		for size := int(s.Entsize); len(b) >= size && size > 0; b = b[size:] {
			info := get(b[word:])
			typ, sym := uint32(info), info>>32
			if word == 4 {
				typ, sym = uint32(info&0xff), info>>8
			}
			if sym == 0 || sym > uint64(len(symbols)) || !slices.Contains(types, typ) {
				continue
			}
			x := symbols[sym-1]
			if x.Section == elf.SHN_UNDEF || elf.ST_TYPE(x.Info) == elf.STT_TLS {
				continue
			}
			to := x.Value
			if s.Type == elf.SHT_RELA {
				to += get(b[2*word:])
			}
			list = append(list, made{get(b), to, x.Size, s.Type == elf.SHT_REL && elf.ST_TYPE(x.Info) == elf.STT_SECTION})
		}
	}
	return list
}

// compareAddresses compares addresses that code makes with what the linker put
// there. Only those of data and of functions count.
func compareAddresses(t *testing.T, c *code.Code, list []made, recall, precision float64) {
	t.Helper()
	type place struct{ at, to uint64 }
	found := map[place]bool{}
	places := map[uint64][]uint64{}
	for _, r := range c.Refs {
		if r.Kind == code.Data || r.Kind == code.Taken || r.Import < 0 {
			found[place{r.Addr, r.Target}] = true
			places[r.Addr] = append(places[r.Addr], r.Target)
		}
	}
	inData := func(addr uint64) bool {
		for _, s := range c.Image.Sections {
			if s.Addr != 0 && addr >= s.Addr && addr < s.Addr+s.Size {
				return !s.Code
			}
		}
		return false
	}
	starts := map[uint64]bool{}
	for _, f := range c.Functions {
		starts[f.Addr] = true
	}
	total, missed, there, wrong := 0, 0, 0, 0
	for _, m := range list {
		if !inData(m.to) && !starts[m.to] {
			continue
		}
		total++
		if !found[place{m.at, m.to}] {
			if missed++; missed < 8 {
				t.Logf("missed: %#x makes %#x", m.at, m.to)
			}
		}
		if others := places[m.at]; len(others) > 0 {
			if there++; !slices.Contains(others, m.to) {
				if wrong++; wrong < 8 {
					t.Logf("wrong: %#x makes %#x and not %#x", m.at, m.to, others)
				}
			}
		}
	}
	t.Logf("%d addresses, %d missed; %d found, %d wrong", total, missed, there, wrong)
	if total == 0 || float64(missed) > (1-recall)*float64(total) || float64(wrong) > (1-precision)*float64(there) {
		t.Errorf("%d of %d addresses are missed, %d of %d are wrong", missed, total, wrong, there)
	}
}

// crossLinked builds the program in several ways, with the relocations kept.
func crossLinked(t *testing.T, compiler string, flags ...string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.c"), []byte(crossProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for name, args := range map[string][]string{
		"static":     {"-O2", "-static", "-no-pie"},
		"static-pie": {"-O2", "-static-pie", "-fPIE"},
		"dynamic":    {"-O1", "-fPIC", "-pie"},
		"library":    {"-O2", "-fPIC", "-shared"},
	} {
		args = append(args, flags...)
		if name == "static-pie" && !strings.HasPrefix(compiler, "aarch64-") {
			continue // Debian's C library has no startup code for these
		}
		cross(t, dir, compiler, append(args, "-w", "-Wl,-q", "p.c", "-lm", "-o", name)...)
		out[name] = filepath.Join(dir, name)
	}
	return out
}

// samples returns files of the system that match, largest first, at most n.
func samples(n int, pattern string) []string {
	paths, _ := filepath.Glob(pattern)
	size := map[string]int64{}
	paths = slices.DeleteFunc(paths, func(p string) bool {
		info, err := os.Lstat(p)
		if err != nil || !info.Mode().IsRegular() {
			return true
		}
		b := make([]byte, 4)
		f, err := os.Open(p)
		if err != nil {
			return true
		}
		defer f.Close()
		f.Read(b)
		size[p] = info.Size()
		return string(b) != elffile.Magic
	})
	slices.SortFunc(paths, func(a, b string) int { return int(size[b] - size[a]) })
	return paths[:min(n, len(paths))]
}

// benchmark measures bytes of code per second.
func benchmark(b *testing.B, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	m, err := elffile.Parse(data)
	if err != nil {
		b.Fatal(err)
	}
	size := uint64(0)
	for _, s := range m.Sections {
		if s.Code {
			size += s.FileSize
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		code.Read(m)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// expectRefs fails for each reference that code does not have. One is said as
// function, kind, and what it refers to: a function, an import, or a string in
// quotes.
func expectRefs(t *testing.T, c *code.Code, want ...string) {
	t.Helper()
	names := map[uint64]string{}
	for _, f := range c.Functions {
		names[f.Addr] = f.Name
	}
	for _, s := range c.Image.Symbols {
		if names[s.Addr] == "" {
			names[s.Addr] = s.Name
		}
	}
	for _, e := range c.Image.Exports {
		names[e.Addr] = e.Name
	}
	have := map[string]bool{}
	for _, r := range c.Refs {
		from := ""
		if fn := c.Func(r.Addr); fn >= 0 {
			from = names[c.Functions[fn].Addr]
		}
		kind := map[code.Kind]string{code.Call: "calls", code.Jump: "jumps", code.Taken: "address", code.Data: "data"}[r.Kind]
		to := names[r.Target]
		if r.Import >= 0 {
			to = c.Image.Imports[r.Import].Name
		} else if b := c.Image.At(r.Target); r.Kind == code.Data && len(b) > 0 {
			text, _, _ := strings.Cut(string(b[:min(len(b), 64)]), "\x00")
			have[from+" "+kind+" "+strconv.Quote(text)] = true
		}
		have[from+" "+kind+" "+to] = true
	}
	for _, w := range want {
		if !have[w] {
			t.Errorf("no reference %s; there are %q", w, slices.Sorted(maps.Keys(have)))
		}
	}
}

// comparePool looks at the symbols that relocations of these types name: the
// function around must refer to them.
func comparePool[T ~int](t *testing.T, c *code.Code, path string, types ...T) {
	t.Helper()
	found := map[int][]uint64{}
	starts := map[uint64]bool{}
	for _, f := range c.Functions {
		starts[f.Addr] = true
	}
	for _, r := range c.Refs {
		fn := c.Func(r.Addr)
		found[fn] = append(found[fn], r.Target)
	}
	var numbers []uint32
	for _, typ := range types {
		numbers = append(numbers, uint32(typ))
	}
	total, missed := 0, 0
	for _, m := range relocated(t, path, numbers...) {
		fn := c.Func(m.at)
		if m.section || fn < 0 || c.Functions[fn].Size == 0 || m.at-c.Functions[fn].Addr >= c.Functions[fn].Size {
			continue
		}
		if starts[m.to&^1] {
			m.to &^= 1
		}
		total++
		if !slices.ContainsFunc(found[fn], func(to uint64) bool { return to == m.to || to-m.to < m.size }) {
			if missed++; missed < 8 {
				t.Logf("missed: %s does not refer to %#x of %#x", c.Functions[fn].Name, m.to, m.at)
			}
		}
	}
	t.Logf("%d addresses, %d missed", total, missed)
	if total > 100 && float64(missed) > 0.02*float64(total) {
		t.Errorf("%d of %d addresses are missed", missed, total)
	}
}

// FuzzSweep reads any bytes as the code of each machine: references stand in
// order and in code, and what is called is there.
func FuzzSweep(f *testing.F) {
	for _, seed := range [][]byte{
		{0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x40, 0xf9, 0x00, 0x00, 0x3f, 0xd6, 0xc0, 0x03, 0x5f, 0xd6, 0x01, 0x00, 0x00, 0xd4},
		{0x04, 0x00, 0x9f, 0xe5, 0x00, 0x00, 0x8f, 0xe0, 0xfe, 0xff, 0xff, 0xeb, 0x1e, 0xff, 0x2f, 0xe1, 0x00, 0x10, 0x00, 0x00},
		{0x02, 0x4b, 0x7b, 0x44, 0xdf, 0xe8, 0x13, 0xf0, 0x01, 0x00, 0x02, 0x00, 0x00, 0xdf, 0x70, 0x47},
		{0x17, 0x15, 0x00, 0x00, 0x03, 0x35, 0x05, 0x00, 0x02, 0x95, 0x73, 0x00, 0x00, 0x00, 0x82, 0x80},
		{0x01, 0x01, 0x7f, 0x41, 0x80, 0x08, 0x10, 0x00, 0xfc, 0x08, 0x00, 0x00, 0xfd, 0x0c, 0x0b},
	} {
		for machine := range byte(6) {
			f.Add(seed, machine, uint8(8), false)
		}
	}
	machines := []image.Arch{image.AArch64, image.ARM, image.RISCV64, image.RISCV32, image.Wasm32, image.Wasm64}
	f.Fuzz(func(t *testing.T, text []byte, machine, step uint8, big bool) {
		const base, data = 0x10000, 0x20000
		file := append(slices.Clone(text), make([]byte, 0x200)...)
		size := uint64(len(text))
		m := &image.Image{
			Format: image.ELF, Arch: machines[int(machine)%len(machines)], Bits: 64, BigEndian: big, Data: file,
			Segments: []image.Segment{
				{Addr: base, Size: size, FileSize: size, Access: image.Read | image.Execute},
				{Addr: data, Size: 0x200, FileSize: 0x200, Offset: size, Access: image.Read | image.Write},
			},
			Sections: []image.Section{
				{Name: ".text", Addr: base, Size: size, FileSize: size, Code: true},
				{Name: ".got", Addr: data, Size: 0x100, Offset: size, FileSize: 0x100},
			},
			Imports:  []image.Import{{Name: "taken", Slot: data + 8, Stub: base + 4}},
			Exports:  []image.Export{{Name: "offered", Addr: base, Slot: data + 16, Stub: base + 8}},
			Pointers: []image.Pointer{{At: data, To: base}, {At: data + 24, To: data + 0x100}},
			Modules: []image.WasmModule{{
				Code: image.Range{Offset: base, Size: size}, Imported: []int32{0}, Base: -1,
				Memory:  []image.Segment{{Addr: 1024, Size: 64, FileSize: 64, Offset: data}},
				Passive: []image.Segment{{Size: 64, FileSize: 64, Offset: data}},
			}},
			Modes: []image.Mode{{Addr: base + uint64(step)/2, Thumb: step&1 != 0, Start: step&2 != 0}, {Addr: base + 64, Data: true}, {Addr: base + 72, Thumb: true}},
		}
		if strings.HasSuffix(string(m.Arch), "32") || m.Arch == image.ARM {
			m.Bits = 32
		}
		if step&4 != 0 {
			m.Base = base
		}
		for at := uint64(0); at < size; at += max(uint64(step), 2) {
			m.Functions.List = append(m.Functions.List, image.Function{Addr: base + at, Size: uint64(step)})
		}
		c := code.Read(m)
		for i, r := range c.Refs {
			if r.Addr < base || r.Addr >= base+size || i > 0 && c.Refs[i-1].Addr > r.Addr || r.Import > 0 {
				t.Fatalf("reference %d of %d: %+v", i, len(c.Refs), r)
			}
		}
		for _, s := range c.Syscalls {
			if s.Addr < base || s.Addr >= base+size || s.Number < -1<<31 {
				t.Fatalf("system call %+v", s)
			}
		}
	})
}
