package synth_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"debug/gosym"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/formats/native/synth"
)

func build(t testing.TB, description string) []byte {
	t.Helper()
	data, err := synth.FromYAML([]byte(description))
	if err != nil {
		t.Fatalf("%v in\n%s", err, description)
	}
	return data
}

// A sample is a rich description and what must be found in the file.
type sample struct {
	name, yaml                  string
	libraries, imports, exports []string
	functions                   int
}

const elfSample = `
format: elf
arch: %s
kind: %s
name: libsample.so.1
libraries: [libm.so.6]
imports:
  - connect@libc.so.6
  - "memcpy@GLIBC_2.14"
  - {name: environ, version: GLIBC_2.17, data: true}
  - {name: __cxa_finalize, weak: true}
exports:
  - name: napi_register_module_v1
    calls: [{name: connect, args: [3, "10.0.0.1", 16]}, {name: memcpy, args: [1, -2, 0x12345678]}, helper]
  - {name: table, data: true, size: 12}
symbols: [helper, {name: counter, data: true}]
code: [c3, {loads: [curl -s]}]
strings: [/etc/shadow, é]
wide: [Überweisung]
bytes: ["00 0a dead BEEF"]
sections:
  - {name: UPX1, random: 6000, flags: rwx}
  - {name: .zero, size: 65536, flags: rw}
  - {name: .extra, text: not mapped, flags: "-"}
rpath: [$ORIGIN/lib, /opt/lib]
comment: ["GCC: (GNU) 12.2.0"]
overlay: {random: 100}
`

const peSample = `
format: pe
arch: %s
kind: %s
name: sample.dll
libraries: [ADVAPI32.dll]
imports:
  - RegOpenKeyA
  - connect@WS2_32.dll
  - {name: bind, ordinal: 2, library: WS2_32.dll}
  - {name: napi_create_function, library: node.exe, delay: true}
  - {name: napi_get_undefined, library: node.exe, delay: true}
  - {ordinal: 7, library: OLEAUT32.dll, delay: true}
exports:
  - name: napi_register_module_v1
    calls: [{name: connect, args: [3, "10.0.0.1", 4, 5, 6, 7]}, napi_create_function, {name: bind, args: [1]}, helper]
  - {name: number, ordinal: 9}
  - {name: forwarded, forward: NTDLL.RtlAllocateHeap}
  - {name: table, data: true, size: 12}
symbols: [helper, {name: a_longer_counter, data: true}]
strings: [/etc/shadow, é]
wide: [Überweisung]
bytes: ["00 0a dead BEEF"]
sections: [{name: .zero, size: 65536, flags: rw}, {name: .packed, random: 5000}]
overlay: {random: 100}
signed: true
`

const machoSample = `
format: macho
arch: %s
kind: %s
imports:
  - connect@/usr/lib/libSystem.B.dylib
  - {name: environ, library: /usr/lib/libSystem.B.dylib, data: true}
  - {name: deflate, library: /usr/lib/libz.1.dylib, weak: true}
  - napi_create_function
exports:
  - name: napi_register_module_v1
    calls: [{name: connect, args: [3, "10.0.0.1", 16]}, napi_create_function, helper]
  - {name: napi_table, data: true, size: 12}
symbols: [helper, {name: counter, data: true}]
strings: [/etc/shadow, é]
wide: [Überweisung]
bytes: ["00 0a dead BEEF"]
sections: [{name: "__DATA,__zero", size: 65536, flags: rw}, {name: "__UPX,__packed", random: 5000, flags: rx}]
rpath: ["@loader_path/lib"]
overlay: {random: 100}
signed: true
`

const wasmSample = `
format: wasm
name: sample
imports: [fd_write@wasi_snapshot_preview1, log, {name: base, data: true}]
exports:
  - {name: run, loads: [curl -s], calls: [{name: fd_write, args: [1, "10.0.0.1", -5, 300]}, log, helper]}
  - {name: table, data: true}
symbols: [helper]
strings: [/etc/shadow, é]
wide: [Überweisung]
bytes: ["00 0a dead BEEF"]
comment: [clang]
sections: [{name: packed, random: 5000}]
rust: true
`

// samples returns the rich descriptions for each machine and each kind.
func samples() []sample {
	var out []sample
	add := func(s sample, arch, kind string) {
		s.name += "/" + arch + "/" + kind
		s.yaml = fmt.Sprintf(s.yaml, arch, kind)
		out = append(out, s)
	}
	kinds := func(first string, arches []string, other ...string) (pairs [][2]string) {
		for _, arch := range arches {
			pairs = append(pairs, [2]string{arch, first})
		}
		for n, kind := range other {
			pairs = append(pairs, [2]string{arches[n], kind})
		}
		return pairs
	}
	for _, p := range kinds("library", []string{"x86_64", "x86", "aarch64", "arm", "riscv64"}, "executable", "executable") {
		add(sample{"elf", elfSample, []string{"libm.so.6", "libc.so.6"},
			[]string{"__cxa_finalize", "connect", "environ", "memcpy"},
			[]string{"napi_register_module_v1", "table"}, 4}, p[0], p[1])
	}
	for _, p := range kinds("library", []string{"x86_64", "x86", "aarch64"}, "driver", "executable", "executable") {
		functions := 3
		if p[1] == "library" {
			functions = 4 // it has an entry point of its own
		}
		add(sample{"pe", peSample, []string{"ADVAPI32.dll", "WS2_32.dll", "node.exe", "OLEAUT32.dll"},
			[]string{"RegOpenKeyA", "connect", "napi_create_function", "napi_get_undefined"},
			[]string{"forwarded", "napi_register_module_v1", "number", "table"}, functions}, p[0], p[1])
	}
	for _, p := range kinds("library", []string{"x86_64", "aarch64"}, "bundle", "executable") {
		add(sample{"macho", machoSample, []string{"/usr/lib/libSystem.B.dylib", "/usr/lib/libz.1.dylib"},
			[]string{"connect", "deflate", "environ", "napi_create_function"},
			[]string{"napi_register_module_v1", "napi_table"}, 2}, p[0], p[1])
	}
	out = append(out, sample{"wasm", wasmSample, []string{"wasi_snapshot_preview1", "env"},
		[]string{"base", "fd_write", "log"}, []string{"run", "table"}, 3})
	return out
}

// TestBytes looks for what is described in the bytes of the file, and builds
// it twice.
func TestBytes(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			data := build(t, s.yaml)
			for _, want := range []string{"/etc/shadow\x00", "\x00é\x00", "\xdc\x00b\x00e\x00r\x00", "\x00\x0a\xde\xad\xbe\xef", "10.0.0.1\x00"} {
				if !bytes.Contains(data, []byte(want)) {
					t.Errorf("no %q in the file", want)
				}
			}
			if !bytes.Equal(data, build(t, s.yaml)) {
				t.Error("not the same bytes again")
			}
		})
	}
}

// TestStandardLibrary reads the files with debug/elf, debug/pe, debug/macho.
func TestStandardLibrary(t *testing.T) {
	for _, s := range samples() {
		if s.name == "wasm" {
			continue // which the standard library does not read
		}
		t.Run(s.name, func(t *testing.T) {
			data := build(t, s.yaml)
			var libraries, imports []string
			switch format, _, _ := strings.Cut(s.name, "/"); format {
			case "elf":
				f, err := elf.NewFile(bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				libraries, _ = f.ImportedLibraries()
				symbols, err := f.DynamicSymbols() // ImportedSymbols leaves out weak ones
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range symbols {
					if i.Section == elf.SHN_UNDEF {
						imports = append(imports, i.Name)
					}
				}
				if runPath, _ := f.DynString(elf.DT_RUNPATH); !slices.Equal(runPath, []string{"$ORIGIN/lib:/opt/lib"}) {
					t.Errorf("run path %q", runPath)
				}
				if b, err := f.Section("UPX1").Data(); err != nil || len(b) != 6000 {
					t.Errorf("section UPX1: %d bytes, %v", len(b), err)
				}
			case "pe":
				f, err := pe.NewFile(bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				symbols, err := f.ImportedSymbols()
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range symbols { // without what is delayed
					imports = append(imports, strings.Split(i, ":")[0])
				}
				libraries, s.imports = s.libraries, []string{"RegOpenKeyA", "connect"}
				if got, want := f.Symbols[1].Name, "a_longer_counter"; len(f.Symbols) != 5 || got != want {
					t.Errorf("%d symbols, the second is %q; want 5, %q", len(f.Symbols), got, want)
				}
			case "macho":
				f, err := macho.NewFile(bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				libraries, _ = f.ImportedLibraries()
				symbols, err := f.ImportedSymbols()
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range symbols {
					imports = append(imports, strings.TrimPrefix(i, "_"))
				}
			}
			slices.Sort(imports)
			if diff := cmp.Diff(s.imports, imports); diff != "" {
				t.Errorf("imports (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(s.libraries, libraries); diff != "" {
				t.Errorf("libraries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFat(t *testing.T) {
	data := build(t, fmt.Sprintf(machoSample, "[arm64, amd64]", "library"))
	f, err := macho.NewFatFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if got := []macho.Cpu{f.Arches[0].Cpu, f.Arches[1].Cpu}; !slices.Equal(got, []macho.Cpu{macho.CpuArm64, macho.CpuAmd64}) {
		t.Errorf("machines %v", got)
	}
}

// TestSignature checks the page hashes of an ad-hoc signature.
func TestSignature(t *testing.T) {
	const pageSize, hash = 4096, sha256.Size
	data := build(t, "{format: macho, arch: arm64, kind: executable, signed: true, name: signed, sections: [{name: __big, random: 50000}]}")
	f, err := macho.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	pages := 0
	for _, l := range f.Loads {
		raw := l.Raw()
		if binary.LittleEndian.Uint32(raw) != 0x1d { // LC_CODE_SIGNATURE
			continue
		}
		at := binary.LittleEndian.Uint32(raw[8:])
		blob := data[at:][:binary.LittleEndian.Uint32(raw[12:])]
		directory := blob[binary.BigEndian.Uint32(blob[16:]):]
		hashes := directory[binary.BigEndian.Uint32(directory[16:]):]
		if got := binary.BigEndian.Uint32(directory[32:]); got != at {
			t.Errorf("%d bytes are signed; want all %d in front of the signature", got, at)
		}
		if got := string(directory[binary.BigEndian.Uint32(directory[20:]):][:7]); got != "signed\x00" {
			t.Errorf("identifier %q", got)
		}
		for page := range slices.Chunk(data[:at], pageSize) {
			if want := sha256.Sum256(page); !bytes.Equal(hashes[pages*hash:][:hash], want[:]) {
				t.Errorf("page %d has another hash", pages)
			}
			pages++
		}
	}
	if pages < 50000/pageSize {
		t.Errorf("%d pages", pages)
	}
}

// TestGo finds functions through the table of the Go runtime.
func TestGo(t *testing.T) {
	for _, arch := range []string{"x86_64", "x86", "aarch64", "arm", "riscv64"} {
		t.Run(arch, func(t *testing.T) {
			data := build(t, "{format: elf, kind: executable, code: ['909090c300000000'], go: [main.main, net.(*Dialer).Dial, os/exec.Command], arch: "+arch+"}")
			f, err := elf.NewFile(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			section, err := f.Section(".gopclntab").Data()
			if err != nil {
				t.Fatal(err)
			}
			table, err := gosym.NewTable(nil, gosym.NewLineTable(section, f.Section(".text").Addr))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, fn := range table.Funcs {
				file, line, _ := table.PCToLine(fn.Entry)
				got = append(got, fmt.Sprintf("%s %s:%d", fn.Name, file, line))
			}
			want := []string{"main.main main.go:1", "net.(*Dialer).Dial main.go:2", "os/exec.Command main.go:3"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("functions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRust(t *testing.T) {
	for _, format := range []string{"elf", "pe", "macho", "wasm"} {
		data := build(t, "{format: "+format+", rust: true}")
		for _, want := range []string{"library/core/src/panicking.rs\x00", "rust_eh_personality", "1.84.0 (9fc6b4312 2025-01-07)"} {
			if !bytes.Contains(data, []byte(want)) {
				t.Errorf("%s: no %q", format, want)
			}
		}
	}
}

// TestLoad has the dynamic linker of this system load a library and calls it.
func TestLoad(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil || runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("needs python3 on linux/amd64")
	}
	path := filepath.Join(t.TempDir(), "lib.so")
	data := build(t, `
format: elf
imports: [dprintf@libc.so.6, "getpid@GLIBC_2.2.5", {name: environ, data: true, library: libc.so.6}, {name: nowhere, weak: true}]
exports: [{name: hello, calls: [{name: dprintf, args: [1, "%s %d\n", answer, 42]}, getpid]}]
`)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, "-c", "import ctypes, os, sys; sys.exit(ctypes.CDLL(sys.argv[1]).hello() != os.getpid())", path).CombinedOutput()
	if got := string(out); err != nil || got != "answer 42\n" {
		t.Errorf("hello() printed %q, %v; want %q and the process id", got, err, "answer 42\n")
	}
}

func TestShortForms(t *testing.T) {
	for _, test := range []struct{ name, short, long string }{
		{"library", "{format: pe, imports: [connect@WS2_32.dll]}", "{format: pe, imports: [{name: connect, library: WS2_32.dll}]}"},
		{"default library", "{format: pe, imports: [Sleep]}", "{format: pe, libraries: [KERNEL32.dll], imports: [{name: Sleep, library: KERNEL32.dll}]}"},
		{"first library", "{format: pe, libraries: [A.dll], imports: [f]}", "{format: pe, imports: [f@A.dll]}"},
		{"decorated", `{format: pe, arch: x86, imports: ["_f@8@A.dll"]}`, `{format: pe, arch: i386, imports: [{name: "_f@8", library: A.dll}]}`},
		{"mangled", `{format: pe, imports: ["?f@@YAXH@Z"]}`, `{format: pe, imports: [{name: "?f@@YAXH@Z", library: KERNEL32.dll}]}`},
		{"version", `{format: elf, imports: ["f@GLIBCXX_3.4"]}`, "{format: elf, imports: [{name: f, version: GLIBCXX_3.4, library: libstdc++.so.6}]}"},
		{"elf library", "{format: elf, imports: [SSL_read@libssl.so.3]}", "{format: elf, libraries: [libssl.so.3], imports: [SSL_read]}"},
		{"module", "{format: wasm, imports: [f]}", "{format: wasm, imports: [f@env]}"},
		{"code", "{format: elf, code: 0102}", `{format: elf, code: [{code: "01 02"}]}`},
		{"several codes", "{format: elf, code: [90, c3]}", "{format: elf, code: [{code: 90}, {code: c3}]}"},
		{"architecture", "{format: macho, arch: arm64}", "{format: macho, arch: [aarch64]}"},
		{"symbol of an export", "{format: elf, exports: [f], symbols: [g]}", "{format: elf, exports: [f], symbols: [g, f]}"},
		{"call", "{format: elf, imports: [f], code: {calls: [f]}}", "{format: elf, imports: [f], code: [{calls: [{name: f}]}]}"},
		{"the usual", "{format: elf}", "{format: elf, arch: x86_64, kind: library, os: linux, code: c3}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !bytes.Equal(build(t, test.short), build(t, test.long)) {
				t.Errorf("%s and %s differ", test.short, test.long)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	for _, test := range []struct{ name, yaml, want string }{
		{"nothing", "", "is none of elf, pe, macho, wasm"},
		{"format", "format: coff", `"coff" is none of`},
		{"field", "{format: elf, import: [a]}", `unknown field "import"`},
		{"nested field", "{format: elf, imports: [{nam: a}]}", `unknown field "nam"`},
		{"machine", "{format: pe, arch: riscv64}", "none of x86_64, x86, aarch64"},
		{"kind", "{format: pe, kind: object}", "none of library, executable, driver"},
		{"system", "{format: elf, os: windows}", "none of linux"},
		{"two machines", "{format: elf, arch: [x86, arm]}", "cannot express several architectures"},
		{"same machine", "{format: macho, arch: [arm64, aarch64]}", "twice"},
		{"delay", "{format: elf, imports: [{name: a, delay: true}]}", "cannot express delay import"},
		{"signed", "{format: elf, signed: true}", "cannot express signed"},
		{"overlay", "{format: wasm, overlay: {hex: 00}}", "cannot express overlay"},
		{"go", "{format: pe, go: [main.main]}", "cannot express go"},
		{"library of an object", "{format: elf, kind: object, imports: [a@libc.so.6]}", "object has no libraries"},
		{"wasm library", "{format: wasm, libraries: [env]}", "only with an import"},
		{"version without library", `{format: elf, imports: ["f@OPENSSL_3.0"]}`, "of which library"},
		{"import twice", "{format: elf, imports: [a, a]}", "twice"},
		{"export twice", "{format: elf, exports: [a, {name: a, data: true}]}", "twice"},
		{"ordinal twice", "{format: pe, exports: [{name: a, ordinal: 3}, {name: b, ordinal: 3}]}", "twice"},
		{"callee", "{format: elf, code: {calls: [f]}}", "neither imported nor defined"},
		{"arguments", "{format: elf, imports: [f], code: {calls: [{name: f, args: [1, 2, 3, 4, 5, 6, 7]}]}}", "more than 6 arguments"},
		{"argument", "{format: elf, imports: [f], code: {calls: [{name: f, args: [4294967296]}]}}", "32 bits"},
		{"argument list", "{format: elf, imports: [f], code: {calls: [{name: f, args: [[]]}]}}", "line 1: an argument is"},
		{"hex", "{format: elf, bytes: [0g]}", "line 1: encoding/hex"},
		{"name", `{format: elf, imports: ["a\0b"]}`, "is no name"},
		{"flags", "{format: elf, sections: [{name: a, flags: q}]}", "not of r, w and x"},
		{"section name", "{format: pe, sections: [{name: .gnu_debuglink, size: 1}]}", "longer than 8 bytes"},
		{"data with code", "{format: elf, exports: [{name: a, data: true, code: c3}]}", "has code"},
		{"anchor", "{format: elf, imports: &a [f]}", "no anchors"},
		{"nesting", "format: " + strings.Repeat("[", 1000), "nested too deeply"},
		{"nesting of lists", strings.Repeat("- ", 1000), "nested too deeply"},
		{"tokens", "{format: elf, strings: [" + strings.Repeat("a,", 10000) + "]}", "too many"},
		{"unknown machine", "{format: elf, arch: vax}", `arch "vax" is none of`},
		{"complex key", "? a", "complex keys"},
		{"large section", "{format: elf, sections: [{name: a, random: 67108864}]}", "larger than 64 MB"},
		{"negative size", "{format: elf, sections: [{name: a, random: -1}]}", "larger than 64 MB"},
		{"large memory", "{format: elf, sections: [{name: a, size: 9999999999}]}", "larger than 64 MB"},
		{"large in sum", "{format: pe, sections: [{name: a, random: 40000000}], overlay: {random: 40000000}}", "larger than 64 MB"},
		{"large when fat", "{format: macho, arch: [arm64, x86_64], sections: [{name: a, random: 40000000}]}", "larger than 64 MB"},
		{"large variable", "{format: elf, symbols: [{name: a, data: true, size: 70000000}]}", "larger than 64 MB"},
		{"long description", strings.Repeat("#\n", synth.MaxYAML), "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, err := synth.FromYAML([]byte(test.yaml))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%d bytes, error %v; want one with %q", len(data), err, test.want)
			}
		})
	}
}

// TestMany builds files whose tables are long.
func TestMany(t *testing.T) {
	const many = 10000
	for _, format := range []string{"elf", "pe", "macho", "wasm"} {
		d := synth.Description{Format: format}
		for n := range many {
			library := "A.dll"
			if format == "elf" {
				library = fmt.Sprintf("l%d.so", n)
			}
			d.Imports = append(d.Imports, synth.Import{Name: fmt.Sprintf("i%d", n), Library: library})
			d.Exports = append(d.Exports, synth.Definition{Name: fmt.Sprintf("e%d", n)})
			d.Symbols = append(d.Symbols, synth.Definition{Name: fmt.Sprintf("s%d", n)})
		}
		data, err := synth.Build(d)
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		m := parse(t, data)[0]
		if len(m.Imports) != many || len(m.Exports) != many || len(m.Symbols) < 2*many {
			t.Errorf("%s: %d imports, %d exports, %d symbols of %d", format, len(m.Imports), len(m.Exports), len(m.Symbols), many)
		}
	}
}

func FuzzFromYAML(f *testing.F) {
	for _, s := range samples() {
		f.Add([]byte(s.yaml))
	}
	f.Add([]byte("{format: elf, kind: object, symbols: [a], imports: [b], go: [], sections: [{name: x, size: 3}]}"))
	f.Add([]byte("{format: elf, kind: executable, go: [main.main], rust: true, os: freebsd}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := synth.FromYAML(data)
		if err == nil && (len(out) == 0 || len(out) > synth.MaxSize) {
			t.Errorf("%d bytes", len(out))
		}
	})
}

func Example() {
	data, err := synth.FromYAML([]byte(`
format: elf
imports: [connect@libc.so.6]
exports:
  - name: napi_register_module_v1
    calls: [{name: connect, args: [3, "10.0.0.1"]}]
`))
	if err != nil {
		panic(err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		panic(err)
	}
	imports, err := f.ImportedSymbols()
	fmt.Println(imports[0].Name, err)
	// Output: connect <nil>
}
