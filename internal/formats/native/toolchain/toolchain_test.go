package toolchain_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/golang"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/rust"
	"github.com/loupe-sec/loupe/internal/formats/native/toolchain"
)

func TestTools(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []string
		want []string
	}{
		{"GCC", []string{"GCC: (Debian 12.2.0-14+deb12u1) 12.2.0"}, []string{"GCC 12.2.0"}},
		{"GCC with parentheses inside", []string{"GCC: (crosstool-NG (x) 1.24.0) 4.8.5 20150623"}, []string{"GCC 4.8.5"}},
		{"clang of a distribution, and its linker", []string{"Debian clang version 16.0.6 (15~deb12u1)", "Linker: Ubuntu LLD 14.0.0"}, []string{"clang 16.0.6", "LLD 14.0.0"}},
		{"clang of Android", []string{"Android (12285214, +pgo) clang version 18.0.2 (https://example.test/x)"}, []string{"clang 18.0.2"}},
		{"Rust", []string{"rustc version 1.95.0 (59807616e 2026-04-14)"}, []string{"rustc 1.95.0 (59807616e)"}},
		{"MSVC", []string{"MSVC linker 14.29", "rich:257.30154 ×5 MSVC import library", "rich:261.30154 ×12 MSVC C++", "rich:260.30034 ×3 MSVC C"}, []string{"MSVC 14.29.30154 (Visual Studio 2019)"}},
		{"MSVC of 2022", []string{"MSVC linker 14.44"}, []string{"MSVC 14.44 (Visual Studio 2022)"}},
		{"MSVC of 2017", []string{"MSVC linker 14.16"}, []string{"MSVC 14.16 (Visual Studio 2017)"}},
		{"MSVC of 2013", []string{"MSVC linker 12.00"}, []string{"MSVC 12.00 (Visual Studio 2013)"}},
		{"another linker", []string{"linker 2.40", "pdb:C:\\x.pdb"}, []string{"linker 2.40"}},
		{"Mach-O", []string{"ld 1053.12", "source version 1.2", "swift"}, []string{"ld 1053.12"}},
		{"WebAssembly", []string{"language Rust", "rustc 1.90.0 (1159e78c4 2025-09-14)", "walrus 0.23.3"}, []string{"rustc 1.90.0 (1159e78c4)", "walrus 0.23.3"}},
		{"twice", []string{"GCC: (a) 12.2.0", "GCC: (b) 12.2.0"}, []string{"GCC 12.2.0"}},
		{"something else", []string{"My Compiler 3", "GCC: nothing"}, []string{"My Compiler 3", "GCC: nothing"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &image.Image{Compilers: test.in}
			if got := toolchain.Read(m, nil, rust.Read(m)).Tools; !slices.Equal(got, test.want) {
				t.Errorf("tools %q; want %q", got, test.want)
			}
		})
	}
}

func TestGoVersions(t *testing.T) {
	for want, info := range map[string]*golang.Info{"go1.22.3": {Version: "go1.22.3", AtLeast: "go1.20"}, "go1.20 or later": {AtLeast: "go1.20"}} {
		if got := toolchain.Read(&image.Image{}, info, nil).Tools; !slices.Equal(got, []string{want}) {
			t.Errorf("tools %q; want %q", got, want)
		}
	}
}

func symbols(names ...string) (out []image.Symbol) {
	for _, n := range names {
		out = append(out, image.Symbol{Name: n})
	}
	return out
}

func imports(names ...string) (out []image.Import) {
	for _, n := range names {
		out = append(out, image.Import{Name: n})
	}
	return out
}

func TestLanguages(t *testing.T) {
	gcc := []string{"GCC: (Debian) 12.2.0"}
	for _, test := range []struct {
		name string
		m    image.Image
		want []string
	}{
		{"nothing", image.Image{}, nil},
		{"C", image.Image{Format: image.ELF, Compilers: gcc, Imports: imports("printf"), Linkage: image.Dynamic}, []string{"C"}},
		{"C or C++, static and stripped", image.Image{Format: image.ELF, Compilers: gcc, Linkage: image.Static, Stripped: true}, []string{"C/C++"}},
		{"C++ by imports", image.Image{Format: image.ELF, Compilers: gcc, Imports: imports("_ZSt4cout")}, []string{"C++"}},
		{"C++ by library", image.Image{Format: image.ELF, Compilers: gcc, Libraries: []string{"libstdc++.so.6"}}, []string{"C++"}},
		{"C++ by type names", image.Image{Format: image.ELF, Compilers: gcc, Data: []byte("\x00St9exception\x00")}, []string{"C++"}},
		{"C++ of Microsoft by exports", image.Image{Format: image.PE, Exports: []image.Export{{Name: "?f@ns@@YAHXZ"}}}, []string{"C++"}},
		{"C++ of Microsoft by type names", image.Image{Format: image.PE, Data: []byte(".?AVtype_info@@\x00.?AVMine@@")}, []string{"C++"}},
		{"the CRT of Microsoft", image.Image{Format: image.PE, Data: []byte(".?AVtype_info@@\x00.?AVbad_alloc@std@@"), Imports: imports("ExitProcess")}, []string{"C/C++"}},
		{"Swift", image.Image{Format: image.MachO, Sections: []image.Section{{Name: "__TEXT,__swift5_types"}, {Name: "__DATA,__objc_classlist"}}}, []string{"Swift", "Objective-C"}},
		{"Objective-C", image.Image{Format: image.MachO, Imports: imports("objc_msgSend"), Sections: []image.Section{{Name: "__DATA,__objc_classlist"}}}, []string{"Objective-C"}},
		{"D", image.Image{Format: image.ELF, Compilers: gcc, Symbols: symbols("_Dmain", "_D3std5stdio", "_D4core6thread", "_D3foo3barFZv")}, []string{"D"}},
		{"Nim", image.Image{Format: image.ELF, Compilers: gcc, Symbols: symbols("NimMain", "NimMainModule")}, []string{"Nim"}},
		{"Zig", image.Image{Format: image.ELF, Symbols: symbols("builtin.default_panic", "start.callMainWithArgs", "std.builtin.x")}, []string{"Zig"}},
		{"Zig, stripped", image.Image{Format: image.ELF, Data: []byte("/opt/lib/zig/std/start.zig")}, []string{"Zig"}},
		{"Fortran", image.Image{Format: image.ELF, Compilers: gcc, Libraries: []string{"libgfortran.so.5"}, Imports: imports("_gfortran_st_write")}, []string{"Fortran"}},
		{"Haskell", image.Image{Format: image.ELF, Compilers: append(gcc, "GHC 9.2.4"), Imports: imports("hs_main")}, []string{"Haskell"}},
		{"Pascal", image.Image{Format: image.ELF, Compilers: []string{"FPC 3.2.2 [2021/05/19] for x86_64 - Linux"}}, []string{"Pascal"}},
		{"Ada", image.Image{Format: image.ELF, Compilers: gcc, Imports: imports("__gnat_initialize"), Libraries: []string{"libgnat-12.so"}}, []string{"Ada"}},
		{".NET", image.Image{Format: image.PE, Compilers: []string{".NET CLR v4.0.30319"}, Libraries: []string{"mscoree.dll"}}, []string{".NET"}},
		{"Rust", image.Image{Format: image.ELF, Compilers: append(gcc, "rustc version 1.95.0 (59807616e 2026-04-14)")}, []string{"Rust"}},
		{"a Rust library in C++", image.Image{Format: image.ELF, Compilers: append(gcc, "rustc version 1.95.0 (59807616e 2026-04-14)"), Symbols: symbols(manyCPP()...)}, []string{"C++", "Rust"}},
		{"WebAssembly of Rust", image.Image{Format: image.Wasm, Compilers: []string{"language Rust", "rustc 1.90.0"}}, []string{"Rust"}},
		{"WebAssembly of C++", image.Image{Format: image.Wasm, Compilers: []string{"language C_plus_plus_14", "clang 16.0.6"}}, []string{"C++"}},
		{"Assembly", image.Image{Format: image.ELF, Linkage: image.Static, Sections: []image.Section{{Name: ".text", FileSize: 100, Code: true}}}, []string{"Assembly"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := toolchain.Read(&test.m, nil, rust.Read(&test.m))
			if !slices.Equal(got.Languages, test.want) || len(test.want) > 0 && got.Language != test.want[0] {
				t.Errorf("%q, %q; want %q", got.Language, got.Languages, test.want)
			}
		})
	}
}

func manyCPP() (out []string) {
	for c := 'a'; c <= 'z'; c++ {
		out = append(out, "_ZN3foo3ba"+string(c)+"Ev", "_ZN3boo3ba"+string(c)+"Ev")
	}
	return out
}

// TestCompiled has compilers make a program each.
func TestCompiled(t *testing.T) {
	const (
		c   = "#include <stdio.h>\nint main(void) { puts(\"x\"); return 0; }\n"
		cpp = "#include <string>\n#include <stdexcept>\nint main(int n, char **v) { std::string s(v[0]); if (n > 9) throw std::runtime_error(s); return s.size(); }\n"
		rs  = "fn main() { println!(\"{:?}\", std::env::args().nth(1)); }\n"
		s   = ".globl _start\n_start: mov $60, %eax\n xor %edi, %edi\n syscall\n"
	)
	for _, test := range []struct {
		name, compiler, file, source string
		args                         []string
		language, tool               string
	}{
		{"C by GCC", "gcc", "a.c", c, nil, "C", "GCC "},
		{"C by GCC, stripped", "gcc", "a.c", c, []string{"-s"}, "C", "GCC "},
		{"C by clang", "clang-16", "a.c", c, nil, "C", "clang 16."},
		{"C++ by GCC", "g++", "a.cc", cpp, []string{"-s"}, "C++", "GCC "},
		{"C++ by GCC, static and stripped", "g++", "a.cc", cpp, []string{"-s", "-static"}, "C++", "GCC "},
		{"C by MinGW", "x86_64-w64-mingw32-gcc", "a.c", c, nil, "C", "GCC "},
		{"C++ by MinGW, static and stripped", "x86_64-w64-mingw32-g++", "a.cc", cpp, []string{"-s", "-static"}, "C++", "GCC "},
		{"Rust", "rustc", "a.rs", rs, nil, "Rust", "rustc 1."},
		{"Rust, stripped", "rustc", "a.rs", rs, []string{"-O", "-Cstrip=symbols"}, "Rust", "rustc 1."},
		{"Assembly", "gcc", "a.s", s, []string{"-nostdlib", "-static", "-s"}, "Assembly", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := exec.LookPath(test.compiler); err != nil {
				t.Skipf("needs %s", test.compiler)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, test.file), []byte(test.source), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), test.compiler, append([]string{"-o", "out", test.file}, test.args...)...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Skipf("%s cannot make it here: %v\n%s", test.compiler, err, out)
			}
			path := filepath.Join(dir, "out")
			if _, err := os.Stat(path); err != nil {
				path += ".exe"
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			parse := elf.Parse
			if pe.Is(data) {
				parse = pe.Parse
			}
			m, err := parse(data)
			if err != nil {
				t.Fatal(err)
			}
			got := toolchain.Read(m, golang.Read(m), rust.Read(m))
			if got.Language != test.language && !(test.language == "C" && got.Language == "C/C++" && pe.Is(data)) {
				t.Errorf("language %q of %q; want %q", got.Language, got.Languages, test.language)
			}
			if test.tool != "" && !slices.ContainsFunc(got.Tools, func(s string) bool { return strings.HasPrefix(s, test.tool) }) {
				t.Errorf("tools %q; want one that begins with %q", got.Tools, test.tool)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add("GCC: (Debian (x) 12.2.0-14) 12.2.0", "_ZN3fooEv")
	f.Add("MSVC linker 14.29", "?f@ns@@YAHXZ")
	f.Add("rich:261.30154 ×12 MSVC C++", "_D3std5stdio")
	f.Add("language Rust", "$s4main")
	f.Fuzz(func(t *testing.T, line, name string) {
		m := &image.Image{Format: image.PE, Compilers: []string{line, "MSVC linker 14.29"}, Symbols: symbols(name), Imports: imports(name), Libraries: []string{line}, Data: []byte(name)}
		got := toolchain.Read(m, nil, rust.Read(m))
		for _, tool := range got.Tools {
			if tool == "" || len(tool) > 120 {
				t.Errorf("tool %q", tool)
			}
		}
	})
}
