package elf_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// goRoot is where the Go distribution of the running go command is.
func goRoot() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// isELF reports whether a regular file begins like an ELF file.
func isELF(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 16)
	n, _ := f.Read(head)
	return elf.Is(head[:n])
}

// largest returns the largest ELF file that a pattern matches.
func largest(pattern string) string {
	paths, _ := filepath.Glob(pattern)
	best, size := "", int64(0)
	for _, p := range paths {
		if info, err := os.Lstat(p); err == nil && info.Size() > size && isELF(p) {
			best, size = p, info.Size()
		}
	}
	return best
}

// tool returns the path of a program, and skips the test without it.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s, which is not installed", name)
	}
	return path
}

// lookTool returns the path of a program, or nothing.
func lookTool(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// output returns what a program prints, even if it complains.
func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if _, complained := errors.AsType[*exec.ExitError](err); err != nil && !complained {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

// run runs a program, which must succeed, and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// parse reads data, which must be an ELF file.
func parse(t testing.TB, data []byte) *image.Image {
	t.Helper()
	m, err := elf.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
