package macho_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
)

const program = `
extern int connect(int, const void *, unsigned);
extern int optional(int) __attribute__((weak_import));
extern int variable;
_Thread_local int per_thread = 3;
static int hidden(int x) { return x * 3 + connect(x, 0, 0); }
__attribute__((weak)) int coalesced(int x) { return x + 1; }
__attribute__((visibility("hidden"))) int inner(int x) { return hidden(x) ^ coalesced(x); }
int (*const table[])(int) = { hidden, optional, coalesced };
void *pointers[] = { (void *)connect, &variable };
int offered = 7;
int api(int x) { return table[x & 1](x) + inner(x) + variable + per_thread + (optional ? optional(x) : 0); }
int main(void) { return api(offered) + (int)(long)pointers[1]; }
`

// base is what program takes from elsewhere, the loader's own names too.
const base = `
int connect(void) { return 1; }
int optional(void) { return 2; }
int variable = 3;
void _tlv_bootstrap(void) {}
void binder(void) __asm__("dyld_stub_binder");
void binder(void) {}
`

// tools skips the test if one of the programs is missing.
func tools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s", name)
		}
	}
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
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

// TestAgainstLLVM links one program in many ways and compares with what LLVM's
// tools say of the files.
func TestAgainstLLVM(t *testing.T) {
	tools(t, "clang-16", "ld64.lld-16", "llvm-nm-16", "llvm-objdump-16", "llvm-readobj-16", "llvm-strip-16", "llvm-lipo-16")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.c"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []struct{ arch, triple, platform, version string }{
		{"x86_64", "x86_64-apple-macos11", "macos", "11.0"},
		{"arm64", "arm64-apple-macos11", "macos", "11.0"},
		{"arm64", "arm64-apple-ios14", "ios", "14.0"},
		{"arm64_32", "arm64_32-apple-watchos8", "watchos", "8.0"},
		{"armv7", "armv7-apple-ios9", "ios", "9.0"},
	} {
		name := target.triple
		run(t, dir, "clang-16", "-target", target.triple, "-O1", "-c", "p.c", "-o", name+".o")
		compare(t, dir, name+".o", "")
		if target.arch == "armv7" {
			continue // the linker of this version has no 32-bit arm
		}
		for _, kind := range []string{"-dylib", "-bundle", "-execute"} {
			for _, fixups := range []string{"-fixup_chains", "-no_fixup_chains", "-flat_namespace"} {
				if target.arch == "arm64_32" && fixups == "-fixup_chains" || target.platform == "ios" && kind != "-dylib" {
					continue // the first the linker of this version cannot do; the second is as on macOS
				}
				out := name + kind + fixups
				args := []string{"-arch", target.arch, "-platform_version", target.platform, target.version, target.version,
					"-undefined", "dynamic_lookup", "-rpath", "@loader_path", "-o", out, name + ".o", kind, fixups}
				run(t, dir, "ld64.lld-16", args...)
				compare(t, dir, out, "")
				if kind == "-dylib" {
					run(t, dir, "llvm-strip-16", "-x", out, "-o", out+"-stripped")
					compare(t, dir, out+"-stripped", "")
				}
			}
		}
	}

	// A library that links against another one has real ordinals.
	for _, triple := range []string{"x86_64-apple-macos11", "arm64-apple-macos11"} {
		arch, _, _ := strings.Cut(triple, "-")
		link := func(out string, args ...string) {
			run(t, dir, "ld64.lld-16", append([]string{"-arch", arch, "-platform_version", "macos", "11.0", "11.0", "-dylib", "-o", out}, args...)...)
			compare(t, dir, out, "")
		}
		run(t, dir, "clang-16", "-target", triple, "-c", "-xc", "-o", arch+".base.o", source(t, dir, "base.c", base))
		link(arch+".base.dylib", arch+".base.o", "-install_name", "@rpath/base.dylib")
		link(arch+".user.dylib", triple+".o", arch+".base.dylib")
		link(arch+".weak.dylib", triple+".o", "-weak_library", arch+".base.dylib")
		link(arch+".reexport.dylib", triple+".o", "-reexport_library", arch+".base.dylib", "-fixup_chains")
	}

	// Fat files of both slices.
	for _, kind := range []string{"-dylib-fixup_chains", "-execute-no_fixup_chains"} {
		out := "fat" + kind
		run(t, dir, "llvm-lipo-16", "-create", "-output", out, "x86_64-apple-macos11"+kind, "arm64-apple-macos11"+kind)
		compare(t, dir, out, "x86_64", "arm64")
	}
}

func source(t *testing.T, dir, name, text string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// compare parses a file with one slice for each of archs, or a thin one.
func compare(t *testing.T, dir, name string, archs ...string) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		images, err := macho.Parse(data)
		if err != nil || len(images) != len(archs) {
			t.Fatalf("%d images, %v; want %d", len(images), err, len(archs))
		}
		for i, arch := range archs {
			o := oracle{t: t, dir: dir, name: name, m: images[i]}
			if arch != "" {
				o.arch = []string{"--arch=" + arch}
			}
			o.header()
			o.imports()
			o.exports()
			o.functions()
			o.binds()
			o.stubs()
		}
	})
}

// An oracle asks LLVM's tools about one image.
type oracle struct {
	t         *testing.T
	dir, name string
	arch      []string // option that picks a slice
	m         *image.Image
}

func (o *oracle) objdump(options ...string) []string {
	args := slices.Concat([]string{"--macho"}, options, o.arch, []string{o.name})
	return strings.Split(run(o.t, o.dir, "llvm-objdump-16", args...), "\n")
}

func (o *oracle) set(what string, got, want []string) {
	o.t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	equal(o.t, what, slices.Compact(got), slices.Compact(want))
}

func bare(name string) string { return strings.TrimPrefix(name, "_") }

func (o *oracle) header() {
	for _, n := range o.m.Notes {
		if !strings.HasPrefix(n, "arm64_32:") {
			o.t.Errorf("note %q", n)
		}
	}
	if o.m.Kind == image.Object {
		return
	}
	var libraries []string
	for _, line := range o.objdump("--dylibs-used")[1:] {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), " ("); ok && name != o.m.Name {
			libraries = append(libraries, name)
		}
	}
	equal(o.t, "libraries", o.m.Libraries, slices.Compact(libraries)) // without repeats
	uuid := strings.Join(o.objdump("--private-headers"), "\n")
	if m := regexp.MustCompile(`uuid ([0-9A-F-]+)`).FindStringSubmatch(uuid); m == nil || o.m.BuildID != strings.ToLower(strings.ReplaceAll(m[1], "-", "")) {
		o.t.Errorf("build id %q, want that in %q", o.m.BuildID, m)
	}
}

func (o *oracle) imports() {
	var want []string
	for line := range strings.SplitSeq(run(o.t, o.dir, "llvm-nm-16", slices.Concat([]string{"-j", "--undefined-only"}, o.arch, []string{o.name})...), "\n") {
		if line != "" && !strings.HasSuffix(line, ":") {
			want = append(want, bare(line))
		}
	}
	o.set("imports", o.m.ImportNames(), want)
}

func (o *oracle) exports() {
	var want []string
	if o.m.Kind == image.Object {
		for line := range strings.SplitSeq(run(o.t, o.dir, "llvm-nm-16", "-j", "--extern-only", "--defined-only", o.name), "\n") {
			// nm takes private external names for external ones.
			if name := bare(line); name != "" && name != "inner" {
				want = append(want, name)
			}
		}
		o.set("exports", o.m.ExportNames(), want)
		return
	}
	line := regexp.MustCompile(`^(0x[0-9A-F]+)\s+(\S+)`)
	for _, l := range o.objdump("--exports-trie") {
		if m := line.FindStringSubmatch(l); m != nil {
			addr, _ := strconv.ParseUint(m[1], 0, 64)
			want = append(want, fmt.Sprintf("%s %#x", bare(m[2]), addr))
		}
	}
	var got []string
	for _, e := range o.m.Exports {
		got = append(got, fmt.Sprintf("%s %#x", e.Name, e.Addr))
	}
	o.set("exports", got, want)
}

func (o *oracle) functions() {
	if o.m.Kind == image.Object {
		return
	}
	var want, got []string
	for _, line := range o.objdump("--function-starts") {
		if addr, err := strconv.ParseUint(line, 16, 64); err == nil {
			want = append(want, fmt.Sprintf("%#x", addr))
		}
	}
	for _, f := range o.m.Functions.List {
		got = append(got, fmt.Sprintf("%#x", f.Addr))
		if f.Size == 0 {
			o.t.Errorf("function %#x has no size", f.Addr)
		}
	}
	equal(o.t, "functions", got, want)
	if f := o.m.Functions; f.Method != "function-starts" || f.Coverage < 0.9 || f.Count != len(f.List) {
		o.t.Errorf("method %q, count %d, coverage %v", f.Method, f.Count, f.Coverage)
	}
}

// binds compares where the loader writes imports.
func (o *oracle) binds() {
	if o.m.Kind == image.Object {
		return
	}
	imported := map[string]bool{}
	var got []string
	for _, i := range o.m.Imports {
		imported[i.Name] = true
		for _, slot := range append([]uint64{i.Slot}, i.MoreSlots...) {
			if slot != 0 {
				got = append(got, fmt.Sprintf("%#x %s", slot, i.Name))
			}
		}
	}
	var want []string
	line := regexp.MustCompile(`^__\S+ +__\S+ +(0x[0-9A-F]+).* ([\w$]+)(?: \(weak.import\))?$`)
	for _, l := range o.objdump("--bind", "--lazy-bind", "--weak-bind", "--dyld-info") {
		if m := line.FindStringSubmatch(l); m != nil && imported[bare(m[2])] {
			addr, _ := strconv.ParseUint(m[1], 0, 64)
			want = append(want, fmt.Sprintf("%#x %s", addr, bare(m[2])))
		}
	}
	if len(want) == 0 && len(imported) > 0 {
		o.t.Errorf("llvm-objdump shows no binds")
	}
	o.set("binds", got, want)
}

func (o *oracle) stubs() {
	imported := map[string]bool{}
	var got, want []string
	for _, i := range o.m.Imports {
		imported[i.Name] = true
		if i.Stub != 0 {
			got = append(got, fmt.Sprintf("%#x %s", i.Stub, i.Name))
		}
	}
	inStubs := false
	for _, l := range o.objdump("--indirect-symbols") {
		if strings.HasPrefix(l, "Indirect symbols for") {
			inStubs = strings.Contains(l, "stub")
		}
		if f := strings.Fields(l); inStubs && len(f) == 3 && imported[bare(f[2])] {
			addr, _ := strconv.ParseUint(f[0], 0, 64)
			want = append(want, fmt.Sprintf("%#x %s", addr, bare(f[2])))
		}
	}
	if len(want) == 0 && len(imported) > 0 && o.m.Kind != image.Object {
		o.t.Errorf("llvm-objdump shows no stubs")
	}
	o.set("stubs", got, want)
}

// TestLibraries checks where names come from, which LLVM's tools print in
// forms that differ with the kind of fixups.
func TestLibraries(t *testing.T) {
	tools(t, "clang-16", "ld64.lld-16")
	dir := t.TempDir()
	run(t, dir, "clang-16", "-target", "arm64-apple-macos11", "-c", "-o", "base.o", source(t, dir, "base.c", "int a(void){return 1;}"))
	run(t, dir, "clang-16", "-target", "arm64-apple-macos11", "-c", "-o", "user.o", source(t, dir, "user.c", "int a(void); int b(void); int c(void) __attribute__((weak_import)); int f(void){return a()+b()+(c?c():0);}"))
	link := func(args ...string) {
		run(t, dir, "ld64.lld-16", append([]string{"-arch", "arm64", "-platform_version", "macos", "11.0", "11.0", "-dylib", "-undefined", "dynamic_lookup"}, args...)...)
	}
	link("-o", "base.dylib", "-install_name", "@rpath/base.dylib", "base.o")
	for _, fixups := range []string{"-fixup_chains", "-no_fixup_chains"} {
		link("-o", "user.dylib", "user.o", "base.dylib", fixups)
		data, err := os.ReadFile(filepath.Join(dir, "user.dylib"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range one(t, data).Imports {
			if i.Name != "dyld_stub_binder" {
				got = append(got, fmt.Sprintf("%s %s %v", i.Name, i.Library, i.Weak))
			}
		}
		equal(t, fixups, got, []string{"a @rpath/base.dylib false", "b flat-namespace false", "c flat-namespace true"})
	}
}

// TestGo reads what Go's own linker writes.
func TestGo(t *testing.T) {
	tools(t, "go", "llvm-nm-16", "llvm-objdump-16")
	dir := t.TempDir()
	source(t, dir, "go.mod", "module tiny\n\ngo 1.26\n")
	source(t, dir, "main.go", "package main\n\nfunc main() { println(\"tiny\") }\n")
	for _, arch := range []string{"amd64", "arm64"} {
		t.Setenv("GOOS", "darwin")
		t.Setenv("GOARCH", arch)
		t.Setenv("CGO_ENABLED", "0")
		run(t, dir, "go", "build", "-o", arch, ".")
		t.Run(arch, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, arch))
			if err != nil {
				t.Fatal(err)
			}
			o := oracle{t: t, dir: dir, name: arch, m: one(t, data)}
			o.header()
			o.imports()
			o.binds()
			o.stubs()
			m := o.m
			if m.OS != "darwin" || m.Kind != image.Executable || m.Stripped || m.Linkage != image.Dynamic || m.Signed != (arch == "arm64") {
				t.Errorf("%s %s, stripped %v, %s, signed %v", m.OS, m.Kind, m.Stripped, m.Linkage, m.Signed)
			}
			if m.Functions.Method != "symbols" || m.Functions.Count < 500 || m.Functions.Coverage < 0.95 {
				t.Errorf("functions: %q, %d, coverage %v", m.Functions.Method, m.Functions.Count, m.Functions.Coverage)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(executable(false, true, cpuX64))
	f.Add(executable(true, false, cpuPPC))
	f.Add(object(cpuARM64))
	f.Add(fat(false, []uint32{cpuX64, cpuARM64}, object(cpuX64), object(cpuARM64)))
	b := library(true, cpuARM64, nil, make([]byte, 64))
	b.linkedit(0x80000034, chains(b, 1, 1, b.pack(uint32(1|1<<9)), "\x00_a\x00", 6, 0, 0x8001))
	b.linkedit(0x80000033, []byte{0, 1, '_', 'a', 0, 6, 3, 0, 0x10, 0, 0})
	f.Add(b.bytes())
	b = library(false, cpuX86, nil, make([]byte, 64))
	b.dyldInfo(slices.Concat([]byte{0x11, 0x40}, []byte("_a\x00"), []byte{0x71, 0x00, 0x90, 0xc0, 2, 4}), []byte{0x40, 'w', 0, 0x90}, []byte{0x71, 8, 0x40, 'l', 0, 0x90, 0}, []byte{0, 0})
	f.Add(b.bytes())
	b = &build{wide: true, cpu: cpuX64, kind: 6}
	info := unwind(b)
	off := b.put(info)
	b.segment("__TEXT", 0x4000, 0x2000, 0, uint(off)+uint(len(info)), 5,
		sect{name: "__text", segment: "__TEXT", addr: 0x5000, size: 0x40, off: off, flags: 0x80000400},
		sect{name: "__unwind_info", segment: "__TEXT", addr: 0x5040, size: uint(len(info)), off: off})
	f.Add(b.bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		images, err := macho.Parse(data)
		if err == nil && len(images) == 0 {
			t.Fatal("neither images nor an error")
		}
		for _, m := range images {
			if m.Offset < 0 || m.Offset+int64(len(m.Data)) > int64(len(data)) {
				t.Fatalf("image at %d of %d bytes in a file of %d", m.Offset, len(m.Data), len(data))
			}
			if !slices.IsSortedFunc(m.Functions.List, func(a, b image.Function) int { return int(int64(a.Addr>>1) - int64(b.Addr>>1)) }) {
				t.Fatal("functions are not in order")
			}
			if c := m.Functions.Coverage; c < 0 || c > 1 {
				t.Fatalf("coverage %v", c)
			}
			for i := range m.Sections {
				m.Bytes(&m.Sections[i])
				m.At(m.Sections[i].Addr)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	const functions = 50_000
	f := &build{wide: true, cpu: cpuX64, kind: 6, flags: 0x80}
	code := f.put(make([]byte, 64*functions))
	f.segment("__TEXT", 0x4000, 0x1000+64*functions, 0, blobs+64*functions, 5,
		sect{name: "__text", segment: "__TEXT", addr: 0x5000, size: 64 * functions, off: code, flags: 0x80000400})
	starts := uleb(0x1000)
	var syms []sym
	for i := range uint(functions) {
		starts = append(starts, 64)
		syms = append(syms, sym{name: fmt.Sprintf("__ZN4demo8function%dEv", i), kind: 0x0f, sect: 1, value: 0x5000 + 64*i})
	}
	f.linkedit(0x26, append(starts[:len(starts)-1], 0))
	f.symtab(nil, syms...)
	data := f.bytes()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := macho.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
