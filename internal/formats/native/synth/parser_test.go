package synth_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/golang"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/wasm"
)

// parse reads a file with the project's own parser.
func parse(t *testing.T, data []byte) []*image.Image {
	t.Helper()
	one := func(m *image.Image, err error) []*image.Image {
		if err != nil {
			t.Fatal(err)
		}
		return []*image.Image{m}
	}
	switch {
	case elf.Is(data):
		return one(elf.Parse(data))
	case pe.Is(data):
		return one(pe.Parse(data))
	case wasm.Is(data):
		return one(wasm.Parse(data))
	}
	all, err := macho.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestParsers has the project's parsers see what was described.
func TestParsers(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			m := parse(t, build(t, s.yaml))[0]
			if len(m.Notes) > 0 {
				t.Errorf("notes %q", m.Notes)
			}
			if m.Format != image.Wasm { // its modules stand with the imports alone
				check(t, "libraries", s.libraries, m.Libraries)
			}
			check(t, "exports", s.exports, m.ExportNames())
			names := slices.DeleteFunc(m.ImportNames(), func(n string) bool {
				return strings.HasPrefix(s.name, "pe") && (n == "bind" || n == "SysStringLen") // by ordinal
			})
			check(t, "imports", s.imports, names)
			for _, i := range m.Imports {
				if m.Format != image.Wasm && i.Slot == 0 {
					t.Errorf("import %s has no slot", i.Name)
				}
				stubs := (m.Format == image.ELF || m.Format == image.MachO) && m.Arch != image.RISCV64
				if stubs && i.Name != "environ" && i.Stub == 0 {
					t.Errorf("import %s has no stub", i.Name)
				}
			}
			var symbols []string
			for _, y := range m.Symbols {
				symbols = append(symbols, y.Name)
			}
			if !slices.Contains(symbols, "helper") || m.Stripped {
				t.Errorf("symbols %q, stripped %v", symbols, m.Stripped)
			}
			if m.Functions.Method == "symbols" {
				s.functions = min(s.functions, 3) // PE for x86 has no other table, and the entry point has no symbol
			}
			if m.Functions.Count != s.functions {
				t.Errorf("%d functions by %s; want %d", m.Functions.Count, m.Functions.Method, s.functions)
			}
			if m.Format != image.Wasm && m.Format != image.MachO && m.Overlay.Size < 100 {
				t.Errorf("overlay %+v", m.Overlay)
			}
			if want := strings.Contains(s.yaml, "signed"); m.Signed != want {
				t.Errorf("signed %v", m.Signed)
			}
		})
	}
}

func TestParseFat(t *testing.T) {
	all := parse(t, build(t, fmt.Sprintf(machoSample, "[aarch64, x86_64]", "library")))
	if len(all) != 2 || all[0].Arch != image.AArch64 || all[1].Arch != image.X86_64 {
		t.Fatalf("%d images", len(all))
	}
	check(t, "exports", all[0].ExportNames(), all[1].ExportNames())
}

func TestParseGo(t *testing.T) {
	for _, arch := range []string{"x86_64", "x86", "aarch64", "arm", "riscv64"} {
		m := parse(t, build(t, "{format: elf, kind: executable, arch: "+arch+", go: [main.main, net.Dial]}"))[0]
		info := golang.Read(m)
		if info == nil {
			t.Errorf("%s: not seen as Go", arch)
			continue
		}
		var names []string
		for _, f := range info.Functions {
			names = append(names, f.Name)
		}
		check(t, arch, []string{"main.main", "net.Dial"}, names)
	}
}

// TestSystems has parsers tell for which system and kind a file is.
func TestSystems(t *testing.T) {
	for _, test := range []struct {
		yaml, system string
		kind         image.Kind
	}{
		{"{format: elf}", "linux", image.Library},
		{"{format: elf, kind: executable, os: freebsd, imports: [exit@libc.so.7]}", "freebsd", image.Executable},
		{"{format: elf, os: android}", "android", image.Library},
		{"{format: elf, os: netbsd}", "netbsd", image.Library},
		{"{format: elf, os: openbsd}", "openbsd", image.Library},
		{"{format: elf, kind: object, symbols: [f]}", "", image.Object},
		{"{format: pe}", "windows", image.Library},
		{"{format: pe, kind: executable}", "windows", image.Executable},
		{"{format: pe, kind: driver}", "windows", image.Driver},
		{"{format: pe, kind: executable, os: uefi}", "uefi", image.Executable},
		{"{format: macho}", "darwin", image.Library},
		{"{format: macho, os: ios, kind: executable}", "ios", image.Executable},
		{"{format: macho, kind: bundle}", "darwin", image.Library},
		{"{format: wasm, imports: [fd_write@wasi_snapshot_preview1]}", "wasi", image.Module},
	} {
		m := parse(t, build(t, test.yaml))[0]
		if m.OS != test.system || m.Kind != test.kind {
			t.Errorf("%s: %s for %q; want %s for %q", test.yaml, m.Kind, m.OS, test.kind, test.system)
		}
	}
}

// TestCode finds the code and the random bytes where the parsers say they are.
func TestCode(t *testing.T) {
	for _, format := range []string{"elf", "pe", "macho"} {
		m := parse(t, build(t, "{format: "+format+", exports: [{name: f, code: 0f05c3}], symbols: [f]}"))[0]
		if got := m.At(m.Exports[0].Addr); !bytes.HasPrefix(got, []byte{0x0f, 0x05, 0xc3}) {
			t.Errorf("%s: f does not hold its code", format)
		}
	}
}
