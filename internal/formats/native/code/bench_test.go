package code_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
)

// BenchmarkRead measures bytes of code per second on large files of the system.
func BenchmarkRead(b *testing.B) {
	for _, file := range []struct{ name, path string }{
		{"library", largest("/usr/lib/x86_64-linux-gnu/*.so*")},
		{"executable", largest("/usr/bin/*")},
	} {
		b.Run(file.name, func(b *testing.B) {
			data, err := os.ReadFile(file.path)
			if err != nil || !elf.Is(data) {
				b.Skip("no such ELF file on this system")
			}
			images, notes := native.Parse(data)
			if len(images) != 1 {
				b.Fatal(notes)
			}
			m := images[0].Image
			size := uint64(0)
			for _, s := range m.Sections {
				if s.Code {
					size += s.FileSize
				}
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				code.Read(m)
			}
		})
	}
}

// largest returns the largest file that a pattern matches.
func largest(pattern string) string {
	files, _ := filepath.Glob(pattern)
	best, most := "", int64(0)
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() && info.Size() > most {
			best, most = f, info.Size()
		}
	}
	return best
}
