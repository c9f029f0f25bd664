package known_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
)

// build runs a compiler over sources, which are written to files first, and
// returns the path of what it made. A missing compiler skips the test.
func build(t testing.TB, compiler string, sources map[string]string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(compiler)
	if err != nil {
		t.Skipf("%s is not installed", compiler)
	}
	dir := t.TempDir()
	for name, text := range sources {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, append([]string{"-o", "out.bin"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "cannot find") || strings.Contains(string(out), "No such file") {
			t.Skipf("%s has no libraries for this: %s", compiler, out)
		}
		t.Fatalf("%s %q: %v\n%s", compiler, args, err, out)
	}
	return filepath.Join(dir, "out.bin")
}

// strip takes the symbols out of a program, with the tool that belongs to the
// compiler.
func strip(t testing.TB, compiler, path string) string {
	t.Helper()
	tool := "strip"
	if i := strings.LastIndex(compiler, "-"); i >= 0 && !strings.HasPrefix(compiler, "musl") {
		tool = compiler[:i+1] + tool
	}
	out := path + ".stripped"
	if text, err := exec.Command(tool, "-o", out, path).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", tool, err, text)
	}
	return out
}

// open parses a file that holds one binary.
func open(t testing.TB, path string) *native.Binary {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found, notes := native.Parse(data)
	if len(found) != 1 {
		t.Fatalf("%s: %d binaries, %q", path, len(found), notes)
	}
	return found[0]
}

// version returns what a compiler says of itself.
func version(compiler string) string {
	out, err := exec.Command(compiler, "-dumpfullversion").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// names maps addresses to the names of functions.
func names(m *image.Image) map[uint64]string {
	out := map[uint64]string{}
	for _, f := range m.Functions.List {
		name := f.Name
		if m.Format == image.PE && m.Arch == image.X86 {
			name = strings.TrimPrefix(name, "_")
		}
		out[f.Addr] = name
	}
	return out
}

func label(b *native.Binary) (*code.Code, []known.Mark) {
	c := code.Read(b.Image)
	return c, known.Label(c, b.Language)
}
