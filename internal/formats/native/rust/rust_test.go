package rust_test

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/rust"
)

const (
	index  = "index.registry.example-6f17d22bba15001f"
	commit = "59807616e1fa2540724bfbac14d7976d7e4a3860"
)

func names(crates []rust.Crate) []string {
	var out []string
	for _, c := range crates {
		out = append(out, strings.TrimRight(fmt.Sprintf("%s %s %s%s %s", c.Name, c.Version, c.Origin, c.Revision, c.Source), " "))
	}
	return out
}

func TestPaths(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     []string
	}{
		{"registry", "/root/.cargo/registry/src/" + index + "/serde-1.0.219/src/de/mod.rs", []string{"serde 1.0.219 registry panic-path"}},
		{"outside of src", "/root/.cargo/registry/src/" + index + "/serde-1.0.219/lib.rs", []string{"serde 1.0.219 registry panic-path"}},
		{"remapped", "oops" + index + "/serde-1.0.219/src/lib.rs", []string{"serde 1.0.219 registry panic-path"}},
		{"Windows", `C:\Users\x\.cargo\registry\src\` + index + `\windows-sys-0.59.0\src\core.rs`, []string{"windows-sys 0.59.0 registry panic-path"}},
		{"names with digits", "/registry/src/i-1/md-5-0.10.6/src/lib.rs/registry/src/i-1/base64-0.13.1/src/x/registry/src/i-1/sha-1-0.10.0/src/a", []string{"base64 0.13.1 registry panic-path", "md-5 0.10.6 registry panic-path", "sha-1 0.10.0 registry panic-path"}},
		{"pre-release and build", "/registry/src/i-1/wasi-0.11.0+wasi-snapshot-preview1/src/l.rs /registry/src/i-1/rand-0.9.0-beta.1/src/l.rs /registry/src/i-1/zstd-sys-2.0.9+zstd.1.5.5/src/l.rs", []string{"rand 0.9.0-beta.1 registry panic-path", "wasi 0.11.0+wasi-snapshot-preview1 registry panic-path", "zstd-sys 2.0.9+zstd.1.5.5 registry panic-path"}},
		{"a version that looks like two", "/registry/src/i-1/a-1.2.3-4.5.6/src/l.rs", []string{"a 1.2.3-4.5.6 registry panic-path"}},
		{"glued and repeated", "oops/a/registry/src/i-1/aa-1.0.0/src/lib.rscalled/a/registry/src/i-1/aa-1.0.0/src/b.rs/a/registry/src/i-1/aa-1.0.1/src/lib.rs", []string{"aa 1.0.0 registry panic-path", "aa 1.0.1 registry panic-path"}},
		{"git", "/c/git/checkouts/react-549f6ffe9c42f86b/78c2d37/compiler/crates/react_compiler/src/a.rs/c/git/checkouts/tool-549f6ffe9c42f86b/78c2d37/src/lib.rs", []string{"react_compiler  git78c2d37 panic-path", "tool  git78c2d37 panic-path"}},
		{"git on Windows", `\git\checkouts\tool-549f6ffe9c42f86b\78c2d37\src\lib.rs`, []string{"tool  git78c2d37 panic-path"}},
		{"vendored", "/build/vendor/itoa-1.0.9/src/lib.rs", []string{"itoa 1.0.9 registry panic-path"}},
		{"of the standard library", "/rust/deps/hashbrown-0.15.4/src/raw.rs", []string{"hashbrown 0.15.4 std panic-path"}},
		{"other folders", "/usr/local/src/openssl-3.0.1/src/x.c /home/x-1.2.3/src/ //src/src/ /registry/src//x-1.0.0/src/ /registry/src/i/x-1.0/lib.rs", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			info := rust.Read(&image.Image{Data: []byte("\x00" + test.in + "\x00")})
			if info == nil {
				info = new(rust.Info)
			}
			if got := names(info.Crates); !slices.Equal(got, test.want) {
				t.Errorf("crates %q; want %q", got, test.want)
			}
		})
	}
}

func TestCompiler(t *testing.T) {
	for _, test := range []struct {
		name            string
		m               image.Image
		version, commit string
	}{
		{".comment", image.Image{Compilers: []string{"GCC: (Debian) 12.2.0", "rustc version 1.95.0 (59807616e 2026-04-14)"}}, "1.95.0", "59807616e"},
		{"producers", image.Image{Compilers: []string{"processed-by rustc 1.90.0-nightly (b56aaec52 2025-07-24)"}}, "1.90.0-nightly", "b56aaec52"},
		{"path", image.Image{Data: []byte("x/rustc/" + commit + "/library/core/src/fmt/mod.rsy")}, "", commit},
		{"path on Windows", image.Image{Data: []byte("x/rustc/" + commit + "\\library\\core\\src\\fmt\\mod.rsy")}, "", commit},
		{"both", image.Image{Compilers: []string{"rustc version 1.95.0 (59807616e 2026-04-14)"}, Data: []byte("/rustc/" + commit + "/library/")}, "1.95.0", commit},
		{"a distribution's", image.Image{Data: []byte("/usr/src/rustc-1.63.0/library/std/src/panic.rs")}, "1.63.0", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			info := rust.Read(&test.m)
			if info == nil || info.Version != test.version || info.Commit != test.commit {
				t.Errorf("read %+v; want version %q, commit %q", info, test.version, test.commit)
			}
		})
	}
}

func TestMangled(t *testing.T) {
	for name, want := range map[string]bool{
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE":          true,
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.123": true,
		"_RNvCs1234_7mycrate3foo":                                 true,
		"__RNvCs1234_7mycrate3foo":                                true,
		"_RNG_bytes_out":                                          false,
		"RNvCs1234_7mycrate3foo":                                  false,
		"_ZN4core3fmt9FormatterE":                                 false,
		"_ZN3foo17hxyz3456789abcdefE":                             false,
		"main":                                                    false,
		"":                                                        false,
	} {
		if got := rust.Mangled(name); got != want {
			t.Errorf("Mangled(%q) = %v", name, got)
		}
	}
}

func TestNotRust(t *testing.T) {
	for name, m := range map[string]image.Image{
		"empty":          {},
		"C":              {Data: []byte("/build/src/main.c\x00rustc is a compiler\x00/rustc/none/library"), Compilers: []string{"GCC: (Debian) 12.2.0"}},
		"an empty audit": {Sections: []image.Section{{Name: ".dep-v0"}}},
	} {
		if info := rust.Read(&m); info != nil {
			t.Errorf("%s: read %+v; want nothing", name, info)
		}
	}
}

func packed(text string) []byte {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.Bytes()
}

const audit = `{"format":1,"packages":[
	{"name":"planted","version":"0.1.0","source":"local","root":true,"dependencies":[1,2]},
	{"name":"adler2","version":"2.0.1","source":"index.registry.example"},
	{"name":"cc","version":"1.2.0","source":"git","kind":"build"}],"future":{"a":[1,2]}}`

// TestAudit has both kinds of evidence: what audit data tells is not repeated.
func TestAudit(t *testing.T) {
	data := packed(audit)
	size := uint64(len(data))
	data = append(data, "/registry/src/i-1/adler2-2.0.1/src/lib.rs/registry/src/i-1/other-1.0.0/src/lib.rs"...)
	for _, section := range []string{".dep-v0", "__DATA,.dep-v0"} {
		info := rust.Read(&image.Image{Data: data, Sections: []image.Section{{Name: section, FileSize: size}}})
		want := []rust.Crate{
			{Name: "adler2", Version: "2.0.1", Origin: "registry", Source: rust.Audit},
			{Name: "cc", Version: "1.2.0", Origin: "git", Source: rust.Audit, Build: true},
			{Name: "other", Version: "1.0.0", Origin: "registry", Source: rust.PanicPath},
			{Name: "planted", Version: "0.1.0", Origin: "local", Source: rust.Audit, Root: true},
		}
		if info == nil || !reflect.DeepEqual(info.Crates, want) || len(info.Notes) > 0 {
			t.Errorf("%s: read %+v; want %+v", section, info, want)
		}
	}
}

func TestBrokenAudit(t *testing.T) {
	bomb := packed(`{"packages":[{"name":"` + strings.Repeat("a", 64<<20) + `"}]}`)
	many := packed(`{"packages":[` + strings.Repeat(`{},`, 30000) + `{}]}`)
	for name, data := range map[string][]byte{
		"not packed": []byte("{}"),
		"cut off":    packed(audit)[:60],
		"a list":     packed("[]"),
		"a bomb":     bomb,
		"too many":   many,
	} {
		info := rust.Read(&image.Image{Data: data, Sections: []image.Section{{Name: ".dep-v0", FileSize: uint64(len(data))}}})
		if info == nil || len(info.Notes) != 1 || len(info.Crates) > 20000 {
			t.Errorf("%s: no note in %+v", name, info)
		}
	}
}

// TestBuilt has rustc build a program with a crate in a cargo-like folder, and
// objcopy put audit data into it.
func TestBuilt(t *testing.T) {
	rustc, err := exec.LookPath("rustc")
	if err != nil {
		t.Skip("needs rustc")
	}
	objcopy, err := exec.LookPath("objcopy")
	if err != nil {
		t.Skip("needs objcopy")
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "registry", "src", index, "planted-crate-1.2.3", "src")
	if err := os.MkdirAll(src, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) string {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	lib := write(filepath.Join(src, "lib.rs"), "#[inline(never)]\npub fn planted(v: &[u32], i: usize) -> u32 { v[i] + v.iter().sum::<u32>() }\n")
	bin := write(filepath.Join(dir, "main.rs"), "fn main() { let v: Vec<u32> = std::env::args().map(|a| a.len() as u32).collect(); println!(\"{}\", planted_crate::planted(&v, v.len() - 1)); }\n")
	run(rustc, "--crate-type=rlib", "--crate-name=planted_crate", "-O", lib)
	run(rustc, "-O", "-Cstrip=symbols", "--extern=planted_crate=libplanted_crate.rlib", "-o", "plain", bin)
	write(filepath.Join(dir, "audit"), string(packed(audit)))
	run(objcopy, "--add-section=.dep-v0=audit", "plain", "audited")

	want := strings.Fields(run(rustc, "--version"))[1]
	for _, file := range []string{"plain", "audited"} {
		info := rust.Read(load(t, filepath.Join(dir, file)))
		if info == nil {
			t.Fatalf("%s: no Rust seen", file)
		}
		if info.Version != want {
			t.Errorf("%s: rustc %q; want %q", file, info.Version, want)
		}
		if got := names(info.Crates); !slices.Contains(got, "planted-crate 1.2.3 registry panic-path") {
			t.Errorf("%s: crates %q; want planted-crate 1.2.3 among them", file, got)
		}
		if got := slices.ContainsFunc(info.Crates, func(c rust.Crate) bool { return c.Source == rust.Audit && c.Name == "adler2" }); got != (file == "audited") {
			t.Errorf("%s: crates of audit data seen: %v", file, got)
		}
	}
}

// load makes an image with what this package reads of it.
func load(t *testing.T, path string) *image.Image {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	m := &image.Image{Data: data}
	for _, s := range f.Sections {
		m.Sections = append(m.Sections, image.Section{Name: s.Name, Offset: s.Offset, FileSize: s.FileSize})
		if s.Name == ".comment" {
			b, _ := s.Data()
			m.Compilers = strings.Split(string(b), "\x00")
		}
	}
	return m
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("/root/.cargo/registry/src/"+index+"/md-5-0.10.6+b/src/lib.rs/rustc/"+commit+"/library/"), "rustc version 1.95.0 (59807616e 2026-04-14)", "_RNvCs1234_7mycrate3foo")
	f.Add([]byte(`\git\checkouts\tool-549f6ffe9c42f86b\78c2d37\src\lib.rs`), "rustc", "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE")
	f.Add(packed(audit), "", "")
	f.Fuzz(func(t *testing.T, data []byte, compiler, symbol string) {
		info := rust.Read(&image.Image{
			Data:      data,
			Compilers: []string{compiler},
			Symbols:   []image.Symbol{{Name: symbol}},
			Sections:  []image.Section{{Name: ".dep-v0", FileSize: uint64(len(data))}},
		})
		if info == nil {
			return
		}
		for _, c := range info.Crates {
			if c.Source == rust.PanicPath && (c.Name == "" || c.Version == "" && c.Revision == "" || strings.ContainsAny(c.Name+c.Version, "/\\\x00 ")) {
				t.Errorf("crate %+v", c)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	path := []byte("/root/.cargo/registry/src/" + index + "/serde-1.0.219/src/de/mod.rs")
	data := bytes.Repeat(append(make([]byte, 4096), path...), 4096)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		rust.Read(&image.Image{Data: data})
	}
}
