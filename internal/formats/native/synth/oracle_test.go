package synth_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tool runs a program on a file and returns what it prints; any complaint
// fails the test.
func tool(t *testing.T, data []byte, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var out, complaints bytes.Buffer
	c := exec.CommandContext(t.Context(), path, append(args, file)...)
	c.Stdout, c.Stderr = &out, &complaints
	if err := c.Run(); err != nil || complaints.Len() > 0 {
		t.Errorf("%s %v: %v\n%s", name, args, err, complaints.Bytes())
	}
	return out.String()
}

// find returns what the group of an expression matches, in order.
func find(text, expression string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?m)"+expression).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

func check(t *testing.T, what string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// of runs a test for the samples of a format.
func of(t *testing.T, format string, run func(t *testing.T, s sample)) {
	for _, s := range samples() {
		if strings.HasPrefix(s.name, format) {
			t.Run(s.name, func(t *testing.T) { run(t, s) })
		}
	}
}

func TestReadelf(t *testing.T) {
	of(t, "elf", func(t *testing.T, s sample) {
		out := tool(t, build(t, s.yaml), "readelf", "-aW")
		check(t, "libraries", s.libraries, find(out, `Shared library: \[(.*)\]`))
		dynamic, rest, _ := strings.Cut(out[strings.Index(out, "'.dynsym'"):], "'.symtab'")
		check(t, "imports", s.imports, sorted(find(dynamic, `UND (\w+)`)))
		check(t, "exports", s.exports, sorted(find(dynamic, `DEFAULT +\d+ (\w+)`)))
		check(t, "symbols", []string{"counter", "helper", "napi_register_module_v1", "table"}, sorted(find(rest, `DEFAULT +\d+ (\w+)`)))
		check(t, "versions", []string{"GLIBC_2.14", "GLIBC_2.17"}, find(out, `Name: (GLIBC\S+) `))
	})
	for _, arch := range []string{"x86_64", "x86", "aarch64", "arm", "riscv64"} {
		for _, rest := range []string{
			"kind: object, imports: [printf, {name: w, weak: true}], symbols: [f, {name: v, data: true}], sections: [{name: .note.GNU-stack, flags: '-'}]",
			"kind: executable, os: freebsd, go: [main.main]",
			"os: android, rust: true",
		} {
			tool(t, build(t, "{format: elf, arch: "+arch+", "+rest+"}"), "readelf", "-aW")
		}
	}
}

// TestStubs has the disassembler name the stubs of imports.
func TestStubs(t *testing.T) {
	of(t, "elf", func(t *testing.T, s sample) {
		out := tool(t, build(t, s.yaml), "llvm-objdump-16", "-d")
		if strings.Contains(s.name, "arm") || strings.Contains(s.name, "riscv") {
			return // it knows the stubs of x86 and AArch64 alone
		}
		check(t, "stubs", []string{"connect", "memcpy", "__cxa_finalize"}, find(out, `<(\w+)@plt>:`))
		calls := find(out, `(?:call|callq|calll|bl)\t0x[0-9a-f]+ <([\w@]+)>`) // but for those by which x86 learns its address
		check(t, "calls", []string{"connect@plt", "memcpy@plt", "helper"}, calls)
	})
	of(t, "macho", func(t *testing.T, s sample) {
		out := tool(t, build(t, s.yaml), "llvm-objdump-16", "--macho", "-d")
		check(t, "stubs", []string{"_connect", "_napi_create_function"}, find(out, `symbol stub for: (\w+)`))
		check(t, "strings", []string{"10.0.0.1"}, find(out, `literal pool for: "(.*)"`))
	})
}

func TestUnwind(t *testing.T) {
	for _, s := range samples() {
		if strings.HasPrefix(s.name, "elf/") && !strings.Contains(s.name, "/arm/") {
			frames := tool(t, build(t, s.yaml), "llvm-dwarfdump-16", "--eh-frame")
			// Two functions take no frame, the others 8 or 16 bytes.
			if n := len(find(frames, `(FDE) cie=`)); n != s.functions {
				t.Errorf("%s: %d functions in .eh_frame; want %d", s.name, n, s.functions)
			}
		}
	}
}

func TestLLVM(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			data := build(t, s.yaml)
			out := tool(t, data, "llvm-readobj-16", "--all")
			switch format, _, _ := strings.Cut(s.name, "/"); format {
			case "pe":
				out = tool(t, data, "llvm-readobj-16", "--coff-imports", "--coff-exports", "--coff-basereloc", "--unwind")
				check(t, "libraries", s.libraries, find(out, `^ +Name: (\w+\.\w+)$`)[:4])
				check(t, "exports", s.exports, sorted(find(out, `^  Name: (\w+)$`)))
				check(t, "imports", s.imports, sorted(find(out, `^ +Symbol: (\w+) \(0\)$`)))
				check(t, "forwards", []string{"NTDLL.RtlAllocateHeap"}, find(out, `ForwardedTo: (.*)`))
			case "macho":
				out = tool(t, data, "llvm-objdump-16", "--macho", "--bind", "--exports-trie", "--function-starts", "--dylibs-used", "--rpaths", "--private-headers", "--indirect-symbols")
				used := find(out, `^\t(.*) \(compat`)
				check(t, "libraries", s.libraries, slices.DeleteFunc(used, func(l string) bool { return l == "@rpath/library.dylib" })) // itself
				check(t, "imports", s.imports, sorted(find(out, `^__DATA .* _(\w+)(?: \(weak_import\))?$`)))
				check(t, "exports", s.exports, sorted(find(out, `^0x[0-9A-F]+  _(\w+)$`)))
				if n := len(find(out, `^([0-9a-f]{16})$`)); n != s.functions {
					t.Errorf("%d function starts; want %d", n, s.functions)
				}
			default:
				if out == "" {
					t.Error("nothing read")
				}
			}
		})
	}
	t.Run("fat", func(t *testing.T) {
		tool(t, build(t, strings.ReplaceAll(strings.Replace(machoSample, "%s", "[x86_64, aarch64]", 1), "%s", "bundle")), "llvm-readobj-16", "--all")
	})
}

const pefileScript = `
import json, sys
try:
    import pefile
except ImportError:
    print("null"); sys.exit()
p = pefile.PE(sys.argv[1])
tables = p.DIRECTORY_ENTRY_IMPORT + p.DIRECTORY_ENTRY_DELAY_IMPORT
print(json.dumps({
  "Warnings": p.get_warnings(),
  "Checksum": p.verify_checksum(),
  "Imports": [e.dll.decode() + ":" + (i.name.decode() if not i.import_by_ordinal else str(i.ordinal)) for e in tables for i in e.imports],
  "Exports": [s.name.decode() + ":" + str(s.ordinal) + ":" + (s.forwarder or b"").decode() for s in p.DIRECTORY_ENTRY_EXPORT.symbols],
  "Overlay": len(p.get_overlay() or b""),
}))
`

func TestPefile(t *testing.T) {
	type view struct {
		Warnings, Imports, Exports []string
		Checksum                   bool
		Overlay                    int
	}
	of(t, "pe", func(t *testing.T, s sample) {
		var got *view
		if err := json.Unmarshal([]byte(tool(t, build(t, s.yaml), "/usr/bin/python3", "-c", pefileScript)), &got); err != nil {
			t.Fatal(err)
		}
		if got == nil {
			t.Skip("python3 has no pefile")
		}
		// The overlay is symbols, 100 bytes and the certificate table.
		want := &view{
			Warnings: []string{}, Checksum: true, Overlay: got.Overlay,
			Imports: []string{"ADVAPI32.dll:RegOpenKeyA", "WS2_32.dll:connect", "WS2_32.dll:2", "node.exe:napi_create_function", "node.exe:napi_get_undefined", "OLEAUT32.dll:7"},
			Exports: []string{"forwarded:2:NTDLL.RtlAllocateHeap", "napi_register_module_v1:1:", "number:9:", "table:3:"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pefile (-want +got):\n%s", diff)
		}
		if got.Overlay < 100 {
			t.Errorf("overlay of %d bytes", got.Overlay)
		}
	})
}

func TestWabt(t *testing.T) {
	data := build(t, wasmSample)
	tool(t, data, "wasm-validate")
	out := tool(t, data, "wasm-objdump", "-x")
	check(t, "imports", []string{"wasi_snapshot_preview1.fd_write", "env.log", "env.base"}, find(out, `<- (\S+)$`))
	check(t, "exports", []string{"run", "table"}, find(out, `-> "(.*)"$`))
	check(t, "names", []string{"fd_write", "log", "run", "helper", "rust_eh_personality"}, find(out, `^ - func\[\d+\] <(.*)>$`)[:5])
	check(t, "custom", []string{"name", "producers", "packed"}, find(out, `name: "(.*)"`))
}
