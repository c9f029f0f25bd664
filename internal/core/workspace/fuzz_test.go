package workspace_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// fuzzLimits keep one run short, and are met by mutated archives.
var fuzzLimits = workspace.Limits{
	Depth: 3, Entries: 500, Bytes: 4 << 20, FileBytes: 1 << 20, RatioFrom: 1 << 20, Memory: 32 << 20, Time: 20 * time.Second,
}

// examine looks at everything in a hostile file, checks what always holds, and
// returns the members' contents by path.
func examine(t *testing.T, name string, data []byte) (map[string][]byte, []workspace.Note) {
	t.Helper()
	w := workspace.New(fuzzLimits, "") // nothing here is large enough for a temporary file
	defer w.Close()
	must(t, w.MountFile(workspace.Part{}, name, bytes.NewReader(data), int64(len(data)), nil))
	seen := map[string][]byte{}
	var total int64
	err := w.Walk(t.Context(), func(e workspace.Entry) error {
		if !fs.ValidPath(e.Path) || strings.ContainsAny(e.Path, "\\\x00\n") {
			t.Errorf("path %q", e.Path)
		}
		if _, twice := seen[e.Path]; twice {
			t.Errorf("%q is shown twice", e.Path)
		}
		f, err := e.Open()
		if err != nil {
			if len(w.Notes()) == 0 {
				t.Errorf("%q cannot be opened and nothing says so: %v", e.Path, err)
			}
			seen[e.Path] = nil
			return nil
		}
		defer f.Close()
		content, err := f.Bytes()
		if err != nil {
			t.Errorf("%q: %v", e.Path, err)
		}
		if f.Size() > e.Size || f.Size() < e.Size && len(w.Notes()) == 0 || int64(len(content)) != f.Size() {
			t.Errorf("%q has %d bytes of %d, and %d can be read", e.Path, f.Size(), e.Size, len(content))
		}
		if e.Depth > 0 {
			total += e.Size
		}
		seen[e.Path] = bytes.Clone(content)
		return nil
	})
	must(t, err)
	if total > fuzzLimits.Bytes || len(seen) > fuzzLimits.Entries+1 {
		t.Errorf("%d bytes in %d files", total, len(seen))
	}
	for path, content := range seen {
		if got, err := fs.ReadFile(w.FS(), path); content != nil && (err != nil || !bytes.Equal(got, content)) {
			t.Errorf("ReadFile(%q): %v", path, err)
		}
	}
	must(t, fs.WalkDir(w.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if _, ok := seen[path]; !ok {
				t.Errorf("the walk does not show %q", path)
			}
		}
		return err
	}))
	return seen, w.Notes()
}

// expectContent checks that one of the members has that content.
func expectContent(t *testing.T, seen map[string][]byte, name string, want []byte) {
	t.Helper()
	for _, content := range seen {
		if bytes.Equal(content, want) {
			return
		}
	}
	t.Errorf("the %d bytes that another reader finds in %q are not shown", len(want), name)
}

// readAll reads as much as the limits allow, or fails.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, fuzzLimits.FileBytes))
	if err == nil && int64(len(data)) == fuzzLimits.FileBytes {
		err = errors.New("too much")
	}
	return data, err
}

// repairTar corrects the checksums of headers, which few mutations would leave
// right.
func repairTar(data []byte) []byte {
	data = bytes.Clone(data)
	for block := data; len(block) >= 512; block = block[512:] {
		if string(block[257:262]) == "ustar" {
			copy(block[148:], fmt.Sprintf("%06o\x00 ", tarSum(block)))
		}
	}
	return data
}

// repairXZ corrects the checksums of the first headers of an .xz file.
func repairXZ(data []byte) []byte {
	data = bytes.Clone(data)
	if len(data) < 16 {
		return data
	}
	binary.LittleEndian.PutUint32(data[8:], crc32.ChecksumIEEE(data[6:8]))
	if n := (int(data[12]) + 1) * 4; n >= 8 && len(data) >= 12+n {
		header := data[12 : 12+n]
		binary.LittleEndian.PutUint32(header[n-4:], crc32.ChecksumIEEE(header[:n-4]))
	}
	return data
}

// FuzzTar checks that what archive/tar reads is shown, and more if need be.
func FuzzTar(f *testing.F) {
	f.Add(tarOf(f, member{"a/b", "data"}, member{"../c", ""}, member{strings.Repeat("long/", 40) + "f", "x"}))
	f.Add(rawTar(f, member{"pax\xff", "data"}))
	f.Add(append(tarBlock('L', "././@LongLink", strings.Repeat("l", 150)), tarBlock('0', "x", "data")...))
	f.Add(append(tarBlock('S', "sparse", "data"), tarBlock('1', "hard", "")...))
	f.Add(tarOf(f, member{"in.zip", string(zipOf(f, member{"x", "y"}))}, member{"in.gz", string(gzipOf(f, []byte("z")))}))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = repairTar(data)
		seen, notes := examine(t, "x.tar", data)
		if len(notes) > 0 || len(seen) < 2 {
			return
		}
		r := tar.NewReader(bytes.NewReader(data))
		for {
			h, err := r.Next()
			if err != nil {
				return
			}
			content, err := readAll(r)
			if err == nil && h.Typeflag == tar.TypeReg && len(content) > 0 {
				expectContent(t, seen, h.Name, content)
			}
		}
	})
}

// FuzzZip checks that what archive/zip reads is shown.
func FuzzZip(f *testing.F) {
	f.Add(zipOf(f, member{"a/b", "data"}, member{"../c", ""}, member{"z", strings.Repeat("z", 10_000)}))
	f.Add(zipOf(f, member{"in.tar", string(tarOf(f, member{"x", "y"}))}, member{"in.zip", string(zipOf(f))}))
	f.Add(patchZip(zipOf(f, member{"a", "data"}), 0, zipSize, 0xfffffff0))
	f.Add(patchZip(zipOf(f, member{"a", "data"}, member{"b", "data"}), 1, zipOffset, 0))
	f.Add(patchZip(zipOf(f, member{"a", "data"}), 0, zipFlags, 1<<0|1<<3|uint32(zip.Deflate)<<16))
	f.Fuzz(func(t *testing.T, data []byte) {
		seen, notes := examine(t, "x.zip", data)
		if len(notes) > 0 || len(seen) < 2 {
			return
		}
		r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		for _, file := range r.File {
			if !file.Mode().IsRegular() {
				continue
			}
			if rc, err := file.Open(); err == nil {
				if content, err := readAll(rc); err == nil && len(content) > 0 {
					expectContent(t, seen, file.Name, content)
				}
				rc.Close()
			}
		}
	})
}

// FuzzGzip checks that what compress/gzip reads is shown.
func FuzzGzip(f *testing.F) {
	f.Add(gzipOf(f, []byte("hello")))
	f.Add(gzipOf(f, tarOf(f, member{"a", "b"}, member{"c", strings.Repeat("d", 2000)})))
	f.Add(append(gzipOf(f, []byte("one")), gzipOf(f, []byte(noise(3000)))...))
	f.Fuzz(func(t *testing.T, data []byte) {
		seen, notes := examine(t, "x", data)
		if len(notes) > 0 || len(seen) != 2 {
			return
		}
		r, err := stdgzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		if content, err := readAll(r); err == nil && len(content) < 512 {
			expectContent(t, seen, "x", content)
		}
	})
}

// FuzzCompressed is for bzip2, xz and zstd.
func FuzzCompressed(f *testing.F) {
	f.Add(helloBz2)
	for _, data := range [][]byte{[]byte("hello"), []byte(noise(3000)), []byte(strings.Repeat("repeat", 1000)), tarOf(f, member{"a", "b"})} {
		f.Add(xzOf(f, data))
		f.Add(zstdOf(f, data))
		f.Add(append(xzOf(f, data), xzOf(f, data)...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.HasPrefix(data, []byte("\xfd7zXZ\x00")) {
			data = repairXZ(data)
		}
		examine(t, "x", data)
	})
}

// FuzzAr is for ar files and Debian packages.
func FuzzAr(f *testing.F) {
	f.Add(arOf(member{"debian-binary", "2.0\n"}, member{"data.tar.gz", string(gzipOf(f, tarOf(f, member{"./usr/bin/x", "y"})))}))
	f.Add(arOf(member{"/", "symbols"}, member{"//", "a-very-long-name.o/\n"}, member{"/0", "data"}, member{"#1/4", "bsd\x00data"}))
	f.Fuzz(func(t *testing.T, data []byte) { examine(t, "x.a", data) })
}
