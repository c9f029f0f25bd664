package code_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

var corpus = flag.String("corpus", "", "a `folder` of binaries for the benchmarks of many")

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

// BenchmarkCorpus measures bytes of code per second over a folder of binaries:
// reading the code, and each kind of question about it for the first time.
func BenchmarkCorpus(b *testing.B) {
	images, size := load(b)
	read := func() (all []*code.Code) {
		for _, m := range images {
			all = append(all, code.Read(m))
		}
		return all
	}
	ask := func(question func(*code.Code)) func(*testing.B) {
		return func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				all := read()
				b.StartTimer()
				for _, c := range all {
					if c.Read && len(c.Functions) > 0 {
						question(c)
					}
				}
			}
		}
	}
	b.Run("read", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			for _, m := range images {
				code.Read(m)
			}
		}
	})
	b.Run("callers", ask(func(c *code.Code) { c.Callers(0) }))
	b.Run("imports", ask(func(c *code.Code) { c.ImportRefs(0) }))
	b.Run("data", ask(func(c *code.Code) { c.DataRefs(0, 1) }))
	b.Run("reached", ask(func(c *code.Code) { c.Reached(0) }))
}

// load returns the images of the corpus, and how many bytes of code they have.
func load(b *testing.B) (images []*image.Image, size int64) {
	if *corpus == "" {
		b.Skip("no -corpus")
	}
	err := filepath.WalkDir(*corpus, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		parsed, _ := native.Parse(data)
		for _, p := range parsed {
			images = append(images, p.Image)
			for _, s := range p.Image.Sections {
				if s.Code {
					size += int64(s.FileSize)
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return images, size
}
