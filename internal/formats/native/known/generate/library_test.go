package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
)

const source = `
#include <windows.h>
__attribute__((noinline)) int checks(int n, HMODULE m) {
	if (IsDebuggerPresent()) n += (int)GetTickCount() * 3;
	for (int i = 0; i < n; i++) Sleep(i * 3 + n);
	FARPROC p = GetProcAddress(m, "name");
	return p ? (int)p() + n : (int)GetLastError() * 7;
}
int main(int argc, char **argv) { return checks(argc, GetModuleHandleA(argv[0])); }
`

// TestObjectsNameImports asks that a function that calls imports has the same
// key in an object, where relocations name them, and in a program, where the
// import table does, and that the names are in it.
func TestObjectsNameImports(t *testing.T) {
	for _, compiler := range []string{"x86_64-w64-mingw32-gcc", "i686-w64-mingw32-gcc"} {
		t.Run(compiler, func(t *testing.T) {
			path, err := exec.LookPath(compiler)
			if err != nil {
				t.Skipf("%s is not installed", compiler)
			}
			dir := t.TempDir()
			for name, text := range map[string]string{"a.c": source} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, args := range [][]string{{"-O2", "-c", "a.c", "-o", "a.o"}, {"a.o", "-o", "a.exe"}} {
				cmd := exec.Command(path, args...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			c := newCollection()
			if err := c.library(known.MinGW, filepath.Join(dir, "a.o")); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(dir, "a.exe"))
			if err != nil {
				t.Fatal(err)
			}
			m, err := pe.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			named, unnamed := key(t, m, known.SlotNames(m)), key(t, m, nil)
			table := c.keys[m.Arch]
			if _, ok := table[named]; !ok || len(table) != 1 {
				t.Errorf("key %#x of the program is not among the %d of the object", named, len(table))
			}
			if named == unnamed {
				t.Error("the key does not depend on the names of imports")
			}
		})
	}
}

// key returns the key of the function checks.
func key(t *testing.T, m *image.Image, slots known.Slots) known.Key {
	for i, e := range known.Extents(m, m.Functions.List) {
		if name := m.Functions.List[i].Name; name == "checks" || name == "_checks" {
			k, _ := known.KeyOf(m.Arch, e.Addr, e.Code, slots)
			return k
		}
	}
	t.Fatal("the function is not there")
	return 0
}
