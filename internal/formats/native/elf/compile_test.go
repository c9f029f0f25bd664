package elf_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const librarySource = `
int dep_data = 1;
int dep_call(int x) { return x + dep_data; }
`

const userSource = `
extern int dep_data;
extern int dep_call(int);
extern int elsewhere(int);
extern int missing(void) __attribute__((weak));
static volatile int counter;
int exported_data = 7;
int (*pointer)(int) = dep_call;
__attribute__((noinline)) static int helper(int x) { counter += x; return counter * 3; }
__attribute__((noinline, visibility("hidden"))) int hidden_one(int x) { return elsewhere(x) + 1; }
__attribute__((constructor)) void started(void) { counter++; }
__attribute__((weak)) int weak_one(int x) { return x + counter; }
int exported_one(int x) {
	if (missing) x += missing();
	return dep_call(x) + helper(x) + hidden_one(dep_data) + pointer(x);
}
void _start(void) { exported_one(weak_one(1)); for (;;) ; }
`

// A target is a machine that a compiler makes files for.
type target struct {
	name, triple string
	arch         image.Arch
	flags        []string
}

var targets = []target{
	{"x86_64", "x86_64-linux-gnu", image.X86_64, nil},
	{"i686", "i686-linux-gnu", image.X86, nil},
	{"aarch64", "aarch64-linux-gnu", image.AArch64, nil},
	{"armv7 thumb", "armv7-linux-gnueabihf", image.ARM, []string{"-mthumb", "-funwind-tables"}},
	{"armv7 arm", "armv7-linux-gnueabihf", image.ARM, []string{"-marm", "-funwind-tables"}},
	{"riscv64", "riscv64-linux-gnu", image.RISCV64, []string{"-march=rv64gc", "-mno-relax"}},
	{"ppc64le", "powerpc64le-linux-gnu", image.PPC64LE, nil},
	{"ppc64", "powerpc64-linux-gnu", image.PPC64, []string{"-mabi=elfv2"}},
	{"mips64", "mips64-linux-gnuabi64", image.MIPS64, nil},
	{"mips64el", "mips64el-linux-gnuabi64", image.MIPS64, nil},
	{"mips", "mips-linux-gnu", image.MIPS, nil},
}

// built is a folder with libdep.so.1 and user.o for one target.
type built struct {
	t   *testing.T
	dir string
	target
}

// builder compiles for each target once.
type builder map[string]string

func (all builder) build(t *testing.T, m target) built {
	t.Helper()
	if dir, ok := all[m.name]; ok {
		return built{t, dir, m}
	}
	clang, _ := tool(t, "clang-16"), tool(t, "ld.lld-16")
	dir, err := os.MkdirTemp(all[""], "")
	if err != nil {
		t.Fatal(err)
	}
	all[m.name] = dir
	b := built{t, dir, m}
	b.writeSources()
	args := append([]string{"-target", m.triple, "-O1", "-fPIC", "-ffreestanding", "-fasynchronous-unwind-tables", "-c"}, m.flags...)
	for _, name := range []string{"dep", "user"} {
		run(t, clang, append(args, b.path(name+".c"), "-o", b.path(name+".o"))...)
	}
	b.link("libdep.so.1", "-shared", "-soname", "libdep.so.1", "--version-script", b.path("dep.map"), b.path("dep.o"))
	return b
}

func newBuilder(t *testing.T) builder { return builder{"": t.TempDir()} }

func (b built) writeSources() {
	b.t.Helper()
	for name, text := range map[string]string{"dep.c": librarySource, "user.c": userSource, "dep.map": "V1 { global: *; };"} {
		if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b built) path(name string) string { return filepath.Join(b.dir, name) }

func (b built) link(name string, args ...string) []byte {
	b.t.Helper()
	run(b.t, tool(b.t, "ld.lld-16"), append(args, "-o", b.path(name))...)
	return b.bytes(name)
}

// user links the library that is tested.
func (b built) user(args ...string) []byte {
	b.t.Helper()
	return b.link("libuser.so", append([]string{"-shared", "-z", "undefs", "-soname", "libuser.so", "-rpath", "$ORIGIN:/opt/lib", "--build-id=0x0123abcd", "--eh-frame-hdr",
		b.path("user.o"), b.path("libdep.so.1")}, args...)...)
}

func (b built) bytes(name string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// TestCompiledLibraries compares what is known of the source, and what readelf
// prints, with the image of a library for each machine: as linked, stripped,
// and without section headers.
func TestCompiledLibraries(t *testing.T) {
	all := newBuilder(t)
	for _, m := range targets {
		t.Run(m.name, func(t *testing.T) {
			b := all.build(t, m)
			data := b.user()
			whole := parse(t, data)
			checkUser(t, m, whole)
			if whole.Stripped {
				t.Error("stripped")
			}
			run(t, tool(t, "llvm-strip-16"), b.path("libuser.so"), "-o", b.path("stripped.so"))
			stripped := parse(t, b.bytes("stripped.so"))
			checkUser(t, m, stripped)
			if !stripped.Stripped {
				t.Error("not stripped")
			}
			bare := parse(t, withoutSections(data))
			checkUser(t, m, bare)
			compareSectionless(t, m.name, whole, bare)
			if n := otherStubs(whole, bare); n > 0 {
				t.Errorf("%d imports have another stub without sections", n)
			}

			view := viewOfImage(whole)
			view.compare(t, m.name, "readelf", viewOfReadelf(output(t, tool(t, "readelf"), "-W", "-d", "--dyn-syms", "-V", b.path("libuser.so"))))
			b.checkSlots("libuser.so", whole)
		})
	}
}

func checkUser(t *testing.T, m target, got *image.Image) {
	t.Helper()
	if got.Arch != m.arch || got.Kind != image.Library || got.Linkage != image.Dynamic {
		t.Errorf("%s %s %s, want %s", got.Arch, got.Kind, got.Linkage, m.arch)
	}
	if got.Name != "libuser.so" || got.BuildID != "0123abcd" || !slices.Equal(got.RunPaths, []string{"$ORIGIN", "/opt/lib"}) {
		t.Errorf("name %q, build id %q, run paths %q", got.Name, got.BuildID, got.RunPaths)
	}
	if !slices.Equal(got.Libraries, []string{"libdep.so.1"}) || !slices.Equal(got.Versions, []string{"V1"}) {
		t.Errorf("libraries %q, versions %q", got.Libraries, got.Versions)
	}
	want := []string{
		"dep_call version=V1 weak=false data=false", "dep_data version=V1 weak=false data=true",
		"elsewhere version= weak=false data=false", "missing version= weak=true data=false",
	}
	unwinder := func(line string) bool { return strings.HasPrefix(line, "__aeabi_unwind_cpp_pr") } // ARM tables name it
	if v := viewOfImage(got); !slices.Equal(slices.DeleteFunc(v.imports, unwinder), want) {
		t.Errorf("imports %q, want %q", v.imports, want)
	}
	if want := []string{"_start", "exported_data", "exported_one", "pointer", "started", "weak_one"}; !slices.Equal(got.ExportNames(), want) {
		t.Errorf("exports %q, want %q", got.ExportNames(), want)
	}
	for _, in := range got.Imports {
		if want := map[string]string{"V1": "libdep.so.1"}[in.Version]; in.Library != want {
			t.Errorf("import %s from %q, want %q", in.Name, in.Library, want)
		}
		if in.Slot == 0 && in.Name != "missing" && !unwinder(in.Name) {
			t.Errorf("import %s has no slot", in.Name)
		}
		hasStubs := slices.Contains([]image.Arch{image.X86_64, image.X86, image.AArch64, image.ARM}, m.arch)
		if called := in.Name == "dep_call" || in.Name == "elsewhere"; called && hasStubs && in.Stub == 0 {
			t.Errorf("import %s has no stub", in.Name)
		}
	}
	for _, e := range got.Exports {
		usesItself := e.Name == "weak_one" // which another file may offer first
		if usesItself && m.arch != image.MIPS && m.arch != image.MIPS64 && e.Slot == 0 {
			t.Errorf("export %s has no slot", e.Name)
		}
		if usesItself && e.Stub == 0 && slices.Contains([]image.Arch{image.X86_64, image.X86, image.AArch64, image.ARM}, m.arch) {
			t.Errorf("export %s has no stub", e.Name)
		}
	}
	functions := map[uint64]bool{}
	for _, f := range got.Functions.List {
		functions[f.Addr] = true
		if len(got.At(f.Addr)) == 0 {
			t.Errorf("function at %#x has no code", f.Addr)
		}
	}
	for _, e := range got.Exports {
		if !e.Data && !functions[e.Addr] {
			t.Errorf("no function at %#x, which is %s", e.Addr, e.Name)
		}
	}
	made := 0 // by the linker: ways to imports on PowerPC
	for _, f := range got.Functions.List {
		if strings.HasPrefix(f.Name, "__plt_") {
			made++
		}
	}
	if n := got.Functions.Count; n-made != 6 || n != len(got.Functions.List) {
		t.Errorf("%d functions by %s, want 6: %x", n, got.Functions.Method, got.Functions.List)
	}
	if len(got.Notes) > 0 {
		t.Errorf("notes %q", got.Notes)
	}
}

var jumpSlotLine = regexp.MustCompile(`(?m)^([0-9a-f]+) +[0-9a-f]+ +R_\w+_JU?MP_SLOT? +[0-9a-f]+ +(\w+)`)

// checkSlots compares the slots of functions with what readelf prints of
// relocations.
func (b built) checkSlots(name string, m *image.Image) {
	b.t.Helper()
	want := map[string]string{}
	for _, l := range jumpSlotLine.FindAllStringSubmatch(output(b.t, tool(b.t, "readelf"), "-W", "-r", b.path(name)), -1) {
		want[l[2]] = strings.TrimLeft(l[1], "0")
	}
	for _, in := range m.Imports {
		if w := want[in.Name]; w != "" && w != strconv.FormatUint(in.Slot, 16) {
			b.t.Errorf("slot of %s at %x, want %s", in.Name, in.Slot, w)
		}
	}
}

// TestLinkerOptions checks the encodings that linkers choose between.
func TestLinkerOptions(t *testing.T) {
	all := newBuilder(t)
	for _, test := range []struct {
		machine string
		options []string
	}{
		{"x86_64", []string{"-z", "now"}},
		{"x86_64", []string{"-z", "retpolineplt"}},
		{"x86_64", []string{"-z", "force-ibt"}},
		{"x86_64", []string{"--hash-style=gnu"}},
		{"x86_64", []string{"--hash-style=sysv"}},
		{"x86_64", []string{"--pack-dyn-relocs=android"}},
		{"x86_64", []string{"--pack-dyn-relocs=android+relr"}},
		{"x86_64", []string{"-z", "separate-code"}},
		{"x86_64", []string{"--no-rosegment"}},
		{"x86_64", []string{"--image-base=0x10000"}},
		{"i686", []string{"--hash-style=gnu"}},
		{"i686", []string{"-z", "now"}},
		{"i686", []string{"--pack-dyn-relocs=android"}},
		{"aarch64", []string{"-z", "force-bti"}},
		{"aarch64", []string{"-z", "pac-plt"}},
		{"aarch64", []string{"--hash-style=gnu"}},
		{"aarch64", []string{"--pack-dyn-relocs=relr"}},
		{"armv7 thumb", []string{"--pack-dyn-relocs=android"}},
		{"armv7 thumb", []string{"--pack-dyn-relocs=relr"}},
		{"armv7 arm", []string{"--hash-style=gnu"}},
		{"riscv64", []string{"--hash-style=gnu"}},
	} {
		t.Run(test.machine+" "+strings.Join(test.options, " "), func(t *testing.T) {
			i := slices.IndexFunc(targets, func(m target) bool { return m.name == test.machine })
			b := all.build(t, targets[i])
			data := b.user(test.options...)
			whole := parse(t, data)
			checkUser(t, targets[i], whole)
			b.checkSlots("libuser.so", whole)
			checkUser(t, targets[i], parse(t, withoutSections(data)))
		})
	}
}

// TestCompiledKinds checks what a file is taken for.
func TestCompiledKinds(t *testing.T) {
	b := newBuilder(t).build(t, targets[0])
	user, dep := b.path("user.o"), b.path("libdep.so.1")
	stubs := filepath.Join(b.dir, "rest.c")
	if err := os.WriteFile(stubs, []byte("int elsewhere(int x) { return x; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	rest := b.path("rest.o")
	run(t, tool(t, "clang-16"), "-target", "x86_64-linux-gnu", "-fPIC", "-c", stubs, "-o", rest)
	interp := "--dynamic-linker=/lib64/ld-linux-x86-64.so.2"
	for _, test := range []struct {
		name    string
		args    []string
		kind    image.Kind
		linkage image.Linkage
		os      string
		imports []string
	}{
		{"position-independent executable", []string{"-pie", interp, user, rest, dep}, image.Executable, image.Dynamic, "linux", []string{"dep_call", "dep_data", "missing"}},
		{"executable", []string{"-no-pie", interp, user, rest, dep}, image.Executable, image.Dynamic, "linux", []string{"dep_call", "dep_data", "missing"}},
		{"static executable", []string{"-static", user, rest, b.path("dep.o")}, image.Executable, image.Static, "", nil},
		{"static and position-independent", []string{"-pie", "--no-dynamic-linker", "-static", user, rest, b.path("dep.o")}, image.Executable, image.StaticPIE, "", nil},
		{"relocatable", []string{"-r", user}, image.Object, "", "", []string{"dep_call", "dep_data", "elsewhere", "missing"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := parse(t, b.link("out", test.args...))
			if m.Kind != test.kind || m.Linkage != test.linkage || m.OS != test.os {
				t.Errorf("%q %q %q, want %q %q %q", m.Kind, m.Linkage, m.OS, test.kind, test.linkage, test.os)
			}
			got := slices.DeleteFunc(m.ImportNames(), func(s string) bool { return s == "missing" && test.kind == image.Executable })
			want := slices.DeleteFunc(slices.Clone(test.imports), func(s string) bool { return s == "missing" && test.kind == image.Executable })
			if !slices.Equal(got, want) {
				t.Errorf("imports %q, want %q", got, want)
			}
			if m.Functions.Count < 6 || m.Functions.Coverage < 0.5 {
				t.Errorf("%d functions cover %.2f", m.Functions.Count, m.Functions.Coverage)
			}
			if i := slices.IndexFunc(m.Functions.List, func(f image.Function) bool { return f.Name == "exported_one" }); i < 0 {
				t.Errorf("no function is exported_one: %v", m.Functions.List)
			}
			if start := slices.ContainsFunc(m.Functions.List, func(f image.Function) bool { return f.Addr == m.Entry && f.Name == "_start" }); !start && test.kind == image.Executable {
				t.Errorf("entry %#x is not _start", m.Entry)
			}
		})
	}
}

// TestObjectAddresses checks that an object, which has no addresses, gets some
// at which its functions can be told apart and read.
func TestObjectAddresses(t *testing.T) {
	all := newBuilder(t)
	for _, m := range targets {
		t.Run(m.name, func(t *testing.T) {
			b := all.build(t, m)
			run(t, tool(t, "clang-16"), append(append([]string{"-target", m.triple, "-O1", "-fPIC", "-ffunction-sections", "-ffreestanding"}, m.flags...),
				"-c", b.path("user.c"), "-o", b.path("sections.o"))...)
			got := parse(t, b.bytes("sections.o"))
			if got.Kind != image.Object || got.Arch != m.arch || len(got.Notes) > 0 {
				t.Errorf("%s %s %q", got.Kind, got.Arch, got.Notes)
			}
			names := map[string]bool{}
			for _, f := range got.Functions.List {
				names[f.Name] = true
				if f.Size == 0 || uint64(len(got.At(f.Addr))) < f.Size {
					t.Errorf("function %s has %d bytes of %d", f.Name, len(got.At(f.Addr)), f.Size)
				}
			}
			want := []string{"_start", "exported_one", "helper", "hidden_one", "started", "weak_one"}
			if have := slices.Sorted(maps.Keys(names)); !slices.Equal(have, want) {
				t.Errorf("functions %q, want %q", have, want)
			}
			imports := slices.DeleteFunc(got.ImportNames(), func(s string) bool { return strings.HasPrefix(s, "_") || s == ".TOC." }) // of ABIs
			if want := []string{"dep_call", "dep_data", "elsewhere", "missing"}; !slices.Equal(imports, want) {
				t.Errorf("imports %q, want %q", imports, want)
			}
		})
	}
}

// TestCrossCompilers builds with GCC and GNU ld, whose tables differ from
// those of LLVM.
func TestCrossCompilers(t *testing.T) {
	compilers := 0
	for _, m := range []struct {
		prefix string
		arch   image.Arch
		flags  []string
	}{
		{"", image.X86_64, nil},
		{"", image.X86_64, []string{"-fcf-protection=full", "-Wl,-z,ibtplt"}},
		{"", image.X86_64, []string{"-Wl,-z,now"}},
		{"aarch64-linux-gnu-", image.AArch64, nil},
		{"aarch64-linux-gnu-", image.AArch64, []string{"-mbranch-protection=standard", "-Wl,-z,force-bti"}},
		{"arm-linux-gnueabihf-", image.ARM, nil},
		{"arm-linux-gnueabihf-", image.ARM, []string{"-marm"}},
		{"riscv64-linux-gnu-", image.RISCV64, nil},
		{"powerpc64le-linux-gnu-", image.PPC64LE, nil},
		{"powerpc64-linux-gnu-", image.PPC64, nil},
		{"s390x-linux-gnu-", image.S390X, nil},
	} {
		if lookTool(m.prefix+"gcc") == "" {
			continue
		}
		compilers++
		t.Run(strings.ReplaceAll(m.prefix+"gcc "+strings.Join(m.flags, " "), ",", " "), func(t *testing.T) {
			dir := t.TempDir()
			b := built{t, dir, target{arch: m.arch}}
			b.writeSources()
			common := append([]string{"-O1", "-fPIC", "-nostdlib", "-shared", "-fasynchronous-unwind-tables"}, m.flags...)
			run(t, m.prefix+"gcc", append(common, b.path("dep.c"), "-Wl,-soname,libdep.so.1,--version-script,"+b.path("dep.map"), "-o", b.path("libdep.so.1"))...)
			run(t, m.prefix+"gcc", append(common, b.path("user.c"), b.path("libdep.so.1"),
				"-Wl,-soname,libuser.so,-rpath,$ORIGIN:/opt/lib,--build-id=0x0123abcd", "-o", b.path("libuser.so"))...)
			whole := parse(t, b.bytes("libuser.so"))
			bare := parse(t, withoutSections(b.bytes("libuser.so")))
			for _, got := range []*image.Image{whole, bare} {
				imports := slices.DeleteFunc(got.ImportNames(), func(s string) bool { return strings.HasPrefix(s, "_") }) // of ABIs
				if got.Arch != m.arch || got.BuildID != "0123abcd" || !slices.Equal(imports, []string{"dep_call", "dep_data", "elsewhere", "missing"}) {
					t.Errorf("%s, build id %s, imports %q", got.Arch, got.BuildID, imports)
				}
			}
			compareSectionless(t, m.prefix, whole, bare)
			viewOfImage(whole).compare(t, m.prefix, "readelf", viewOfReadelf(output(t, tool(t, "readelf"), "-W", "-d", "--dyn-syms", "-V", b.path("libuser.so"))))
			b.checkSlots("libuser.so", whole)
			for _, name := range []string{"_start", "exported_one", "helper", "hidden_one", "started", "weak_one"} {
				if !slices.ContainsFunc(whole.Functions.List, func(f image.Function) bool { return f.Name == name }) {
					t.Errorf("no function %s", name)
				}
			}
		})
	}
	if compilers == 0 {
		t.Skip("needs gcc for some machine, none is installed")
	}
}

// TestStrippedARM compares the functions that are found in stripped 32-bit ARM
// libraries with the symbols that they had.
func TestStrippedARM(t *testing.T) {
	clang, ld, strip := tool(t, "clang-16"), tool(t, "ld.lld-16"), tool(t, "llvm-strip-16")
	dir := t.TempDir()
	source, object := filepath.Join(dir, "many.c"), filepath.Join(dir, "many.o")
	if err := os.WriteFile(source, []byte(manyFunctions(300)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"-mthumb", "-marm"} {
		for _, level := range []string{"-O2", "-Os"} {
			for _, unwind := range []string{"-fno-unwind-tables", "-funwind-tables"} {
				t.Run(strings.Join([]string{mode, level, unwind}, " "), func(t *testing.T) {
					library := filepath.Join(dir, "many.so")
					run(t, clang, "-target", "armv7-linux-gnueabihf", mode, level, unwind, "-fPIC", "-ffreestanding", "-fno-inline", "-c", source, "-o", object)
					run(t, ld, "-shared", "-z", "undefs", object, "-o", library)
					truth := map[uint64]bool{}
					for _, s := range read(t, library).Symbols {
						if s.Func {
							truth[s.Addr] = true
						}
					}
					run(t, strip, library)
					m := read(t, library)
					right := 0
					for _, f := range m.Functions.List {
						if truth[f.Addr] {
							right++
						}
					}
					f1 := 2 * float64(right) / float64(len(truth)+m.Functions.Count)
					if f1 < 0.95 {
						t.Errorf("found %d functions, %d right of %d: F1 %.3f", m.Functions.Count, right, len(truth), f1)
					}
				})
			}
		}
	}
}

// manyFunctions returns C source of functions that call one another, loop,
// switch, use constants from memory, and stand in a table.
func manyFunctions(n int) string {
	var b strings.Builder
	b.WriteString("extern int out(int, const char *); extern void stop(void) __attribute__((noreturn));\n")
	for i := range n {
		fmt.Fprintf(&b, "static int f%d(int x) {\n", i)
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, "return x * %d + 1; }\n", i+3)
		case 1:
			fmt.Fprintf(&b, "int s = 0; for (int i = 0; i < x; i++) s += f%d(i) ^ 0x%x; return s; }\n", i-1, 0x12345678+i*7919)
		case 2:
			fmt.Fprintf(&b, "switch (x & 7) { case 0: return out(1, \"a%d\"); case 1: return f%d(x); case 2: return x / 3; case 5: stop(); case 6: return f%d(2); } return out(x, \"z\"); }\n", i, i-1, i-2)
		case 3:
			fmt.Fprintf(&b, "if (x < 0) return 0; double d = x * 1.%d + 0.5; return (int)d + f%d(x - 1) + f%d(x); }\n", i+1, i-1, i-3)
		default:
			fmt.Fprintf(&b, "return out(f%d(x) + 0x%x, \"some text %d\"); }\n", i-1, 0x7654321+i*104729, i)
		}
	}
	b.WriteString("int (*const table[])(int) = {")
	for i := 4; i < n; i += 10 {
		fmt.Fprintf(&b, "f%d, ", i)
	}
	b.WriteString("};\nint all(int x) { int s = 0;\n")
	for i := 9; i < n; i += 10 {
		fmt.Fprintf(&b, "s += f%d(x);\n", i)
	}
	b.WriteString("return s; }\n")
	return b.String()
}
