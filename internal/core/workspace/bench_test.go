package workspace_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// smallPackage is an npm tarball with some native add-ons: about 0.5 MB packed,
// 1.2 MB unpacked.
func smallPackage(b *testing.B) []byte {
	files := []member{{"package/package.json", `{"name":"x"}`}}
	for i := range 8 {
		half := noise(50_000 + i)
		files = append(files, member{fmt.Sprintf("package/prebuilds/%d/x.node", i), half + half + bytesOf(50_000)})
	}
	return gzipOf(b, tarOf(b, files...))
}

// bytesOf is data that packs well, as tables and padding do.
func bytesOf(n int) string {
	return string(bytes.Repeat([]byte("\x00\x01\x00\x02\x48\x89\xe5\x00"), n/8))
}

// BenchmarkOpen opens, walks and reads all of a small package. The target is
// 15 ms on one core.
func BenchmarkOpen(b *testing.B) {
	data := smallPackage(b)
	temp := b.TempDir()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		w := workspace.New(workspace.Limits{}, temp)
		must(b, w.MountArchive(workspace.Part{}, "x.tgz", bytes.NewReader(data), int64(len(data)), nil, 1))
		must(b, w.Walk(b.Context(), func(e workspace.Entry) error {
			f, err := e.Open()
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.Bytes()
			return err
		}))
		must(b, w.Close())
	}
}

// BenchmarkGzip is what the decompressor alone takes for the same: the baseline
// of BenchmarkOpen.
func BenchmarkGzip(b *testing.B) {
	data := smallPackage(b)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		z, err := gzip.NewReader(bytes.NewReader(data))
		must(b, err)
		_, err = io.Copy(io.Discard, z)
		must(b, err)
	}
}

// BenchmarkJar walks a zip file of many small members.
func BenchmarkJar(b *testing.B) {
	var files []member
	for i := range 2000 {
		files = append(files, member{fmt.Sprintf("com/example/p%d/C%d.class", i%50, i), "\xca\xfe\xba\xbe" + bytesOf(2000+i)})
	}
	data := zipOf(b, files...)
	temp := b.TempDir()
	for b.Loop() {
		w := workspace.New(workspace.Limits{}, temp)
		must(b, w.MountFile(workspace.Part{}, "x.jar", bytes.NewReader(data), int64(len(data)), nil))
		must(b, w.Walk(b.Context(), func(e workspace.Entry) error {
			f, err := e.Open()
			if err != nil {
				return err
			}
			return f.Close()
		}))
		must(b, w.Close())
	}
}
