package golang_test

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/gosym"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/golang"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// program is a module with a dependency, small enough to be linked for any
// system in a moment: of the library it takes the runtime alone.
var program = map[string]string{
	"go.mod":          "module example.test/planted\n\ngo 1.21\n\nrequire example.test/dep v1.2.3\n\nreplace example.test/dep => ./dep\n",
	"main.go":         "package main\n\nimport \"example.test/dep/sub.v2\"\n\n//go:noinline\nfunc planted(n int) int { return sub.Twice(n) + len(label) }\n\nvar label = \"unset\"\n\nfunc main() { println(planted(len(label))) }\n",
	"dep/go.mod":      "module example.test/dep\n\ngo 1.21\n",
	"dep/sub.v2/a.go": "package sub\n\n//go:noinline\nfunc Twice[T int | int8](n T) T { return double(n) }\n\n//go:noinline\nfunc double[T int | int8](n T) T { return n * 2 }\n",
}

// build links the program and returns the file.
func build(t testing.TB, target string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	dir := t.TempDir()
	for name, text := range program {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	system, arch, _ := strings.Cut(target, "/")
	out := filepath.Join(dir, "out")
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-o", out}, args...), ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOPROXY=off", "GOTOOLCHAIN=local", "GOWORK=off", "GOEXPERIMENT=")
	if strings.Contains(strings.Join(args, " "), "-linkmode=external") {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build for %s: %v\n%s", target, err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// symbols returns the addresses of the functions as the symbol table has them.
func symbols(t *testing.T, data []byte) map[string]uint64 {
	path := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "tool", "nm", path).Output()
	if err != nil {
		t.Fatalf("go tool nm: %v", err)
	}
	found := make(map[string]uint64)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != "T" && f[1] != "t" {
			continue
		}
		addr := uint64(0)
		for _, c := range f[0] {
			addr = addr<<4 | uint64(strings.IndexRune("0123456789abcdef", c))
		}
		found[strings.Join(f[2:], " ")] = addr
	}
	return found
}

func TestBuiltPrograms(t *testing.T) {
	for _, target := range []string{"linux/amd64", "darwin/arm64", "windows/386", "linux/s390x"} {
		t.Run(target, func(t *testing.T) {
			whole := build(t, target)
			want := symbols(t, whole)
			info := golang.Read(load(t, whole))
			if info == nil {
				t.Fatal("not seen as a Go binary")
			}
			checkBuild(t, info, whole)
			for _, name := range []string{"main.main", "main.planted", "runtime.mallocgc", "example.test/dep/sub%2ev2.double[go.shape.int]"} {
				i := slices.IndexFunc(info.Functions, func(f golang.Function) bool { return f.Name == name })
				if i < 0 {
					t.Fatalf("no function %s", name)
				}
				if f := info.Functions[i]; f.Addr != want[name] || f.Size == 0 {
					t.Errorf("%s at %#x with size %d; want %#x", name, f.Addr, f.Size, want[name])
				}
			}

			stripped := golang.Read(load(t, build(t, target, "-trimpath", "-ldflags=-s -w")))
			if stripped == nil {
				t.Fatal("stripped: not seen as a Go binary")
			}
			if len(stripped.Functions) != len(info.Functions) {
				t.Errorf("stripped: %d functions; want %d", len(stripped.Functions), len(info.Functions))
			}
			for i, f := range stripped.Functions {
				if f.Name != info.Functions[i].Name || f.Addr != info.Functions[i].Addr {
					t.Fatalf("stripped: function %d is %+v; want %+v", i, f, info.Functions[i])
				}
			}
		})
	}
}

// checkBuild compares the build information with debug/buildinfo.
func checkBuild(t *testing.T, info *golang.Info, data []byte) {
	t.Helper()
	want, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if info.Version != want.GoVersion || info.Path != want.Path || info.Main.Path != want.Main.Path || info.Main.Version != want.Main.Version {
		t.Errorf("built by %s from %s in %+v; want %s, %s, %+v", info.Version, info.Path, info.Main, want.GoVersion, want.Path, want.Main)
	}
	if len(info.Deps) != len(want.Deps) || len(info.Deps) != 1 {
		t.Fatalf("dependencies %+v; want %+v", info.Deps, want.Deps)
	}
	got, dep := info.Deps[0], want.Deps[0]
	if got.Path != dep.Path || got.Version != dep.Version || got.Replace == nil || got.Replace.Path != dep.Replace.Path {
		t.Errorf("dependency %+v; want %+v", got, dep)
	}
	if len(info.Settings) != len(want.Settings) {
		t.Errorf("settings %v; want %v", info.Settings, want.Settings)
	}
	for _, s := range want.Settings {
		if got := info.Setting(s.Key); got != s.Value {
			t.Errorf("setting %s is %q; want %q", s.Key, got, s.Value)
		}
	}
}

// TestPackages looks at whose functions they are.
func TestPackages(t *testing.T) {
	info := golang.Read(load(t, build(t, "linux/amd64", "-ldflags=-X=main.label=ab")))
	users := []string{}
	total, user := 0, 0
	for _, p := range info.Packages() {
		total += p.Functions
		if !p.Standard {
			users = append(users, p.Path)
			user += p.Functions
		}
	}
	if want := []string{"example.test/dep/sub.v2", "main"}; !slices.Equal(users, want) {
		t.Errorf("packages outside of the library: %v; want %v", users, want)
	}
	if user != info.UserFunctions() || user < 3 || total < 500 || total > len(info.Functions) {
		t.Errorf("%d functions of %d in packages are the user's, UserFunctions says %d of %d", user, total, info.UserFunctions(), len(info.Functions))
	}
	for name, want := range map[string]string{
		"net/http.(*Client).Do":                          "net/http",
		"main.main":                                      "main",
		"gopkg.in/yaml%2ev3.Unmarshal":                   "gopkg.in/yaml.v3",
		"slices.SortFunc[go.shape.[]a/b.C,go.shape.int]": "slices",
		"type:.eq.a/b.T":                                 "",
		"go:textfipsstart":                               "",
		"_cgo_sys_thread_start":                          "",
		"__x86.get_pc_thunk.ax":                          "",
		"vendor/golang.org/x/net/idna.New":               "vendor/golang.org/x/net/idna",
	} {
		if got := (golang.Function{Name: name}).Package(); got != want {
			t.Errorf("%s is of package %q; want %q", name, got, want)
		}
	}
}

// TestTextStart takes away, one after the other, what says where code starts.
func TestTextStart(t *testing.T) {
	data := build(t, "linux/amd64")
	want := symbols(t, data)["main.planted"]
	for _, test := range []struct {
		name   string
		change func(m *image.Image)
	}{
		{"everything there", func(*image.Image) {}},
		{"no symbols", func(m *image.Image) { m.Symbols = nil }},
		{"no symbols, sections", func(m *image.Image) { m.Symbols, m.Sections = nil, nil }},
		{"no symbols, sections, entry", func(m *image.Image) { m.Symbols, m.Sections, m.Entry = nil, nil, 0 }},
		{"a wrong symbol", func(m *image.Image) { m.Symbols = []image.Symbol{{Name: "runtime.text", Addr: 0x401010}} }},
		{"only the section", func(m *image.Image) {
			m.Symbols, m.Entry = nil, 0
			m.Sections = slices.DeleteFunc(m.Sections, func(s image.Section) bool { return s.Name != ".text" && s.Name != ".gopclntab" })
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := load(t, data)
			test.change(m)
			info := golang.Read(m)
			if info == nil {
				t.Fatal("not seen as a Go binary")
			}
			for _, f := range info.Functions {
				if f.Name == "main.planted" {
					if f.Addr != want {
						t.Errorf("main.planted at %#x; want %#x", f.Addr, want)
					}
					return
				}
			}
			t.Error("no main.planted")
		})
	}
}

// TestExternallyLinked has a C compiler link in front of the Go code, as
// position-independent code, where neither header, entry point nor section
// tells the start.
func TestExternallyLinked(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil || runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("needs gcc for linux/amd64")
	}
	whole := build(t, "linux/amd64", "-buildmode=pie", "-ldflags=-linkmode=external")
	want := symbols(t, whole)["main.planted"]
	stripped := golang.Read(load(t, build(t, "linux/amd64", "-buildmode=pie", "-ldflags=-linkmode=external -s -w")))
	for name, info := range map[string]*golang.Info{"whole": golang.Read(load(t, whole)), "stripped": stripped} {
		if info == nil {
			t.Errorf("%s: not seen as a Go binary", name)
			continue
		}
		for _, f := range info.Functions {
			if f.Name == "main.planted" && f.Addr != want {
				t.Errorf("%s: main.planted at %#x; want %#x", name, f.Addr, want)
			}
		}
	}
}

// TestGoCommand compares with debug/gosym on a program of some size.
func TestGoCommand(t *testing.T) {
	path, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil || f.Section(".gopclntab") == nil {
		t.Skip("the go command is not an ELF file with .gopclntab here")
	}
	pclntab, err := f.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	want, err := gosym.NewTable(nil, gosym.NewLineTable(pclntab, f.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	info := golang.Read(load(t, data))
	if info == nil || len(info.Functions) != len(want.Funcs) {
		t.Fatalf("read %+v; want %d functions", info, len(want.Funcs))
	}
	for i, fn := range want.Funcs {
		if got := info.Functions[i]; got.Name != fn.Name || got.Addr != fn.Entry || i+1 < len(want.Funcs) && got.Size != fn.End-fn.Entry {
			t.Fatalf("function %d is %+v; want %s at %#x to %#x", i, got, fn.Name, fn.Entry, fn.End)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	path, err := exec.LookPath("go")
	if err != nil {
		b.Skip("needs the go command")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	m := load(b, data)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if golang.Read(m) == nil {
			b.Fatal("not seen as a Go binary")
		}
	}
}
