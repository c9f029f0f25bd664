package elf_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/elf"
)

// BenchmarkParse measures bytes of file per second on large files of the
// system: a library, an unstripped executable, and the Go command, whose
// functions only symbols tell.
func BenchmarkParse(b *testing.B) {
	goCommand, _ := filepath.EvalSymlinks(goRoot() + "/bin/go")
	for _, file := range []struct{ name, path string }{
		{"library", largest("/usr/lib/x86_64-linux-gnu/*.so*")},
		{"executable", largest("/usr/bin/*")},
		{"go", goCommand},
	} {
		b.Run(file.name, func(b *testing.B) {
			data, err := os.ReadFile(file.path)
			if err != nil || !elf.Is(data) {
				b.Skip("no such ELF file on this system")
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := elf.Parse(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
