package workspace_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// rawTar writes members with any name, as pax records, which hold all bytes.
func rawTar(t testing.TB, members ...member) []byte {
	t.Helper()
	var out []byte
	for _, m := range members {
		out = append(out, tarBlock(tar.TypeXHeader, "pax", paxRecord("path", m.name))...)
		out = append(out, tarBlock(tar.TypeReg, "x", m.data)...)
	}
	return append(out, make([]byte, 1024)...)
}

func paxRecord(key, value string) string {
	n := len(key) + len(value) + 3
	for len(fmt.Sprint(n))+len(key)+len(value)+3 != n {
		n = len(fmt.Sprint(n)) + len(key) + len(value) + 3
	}
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

// tarBlock writes a header and its padded data.
func tarBlock(kind byte, name, data string) []byte {
	block := make([]byte, 512, 512+len(data)+511)
	copy(block, name)
	copy(block[100:], "0000644\x00")
	copy(block[124:], fmt.Sprintf("%011o\x00", len(data)))
	copy(block[148:], "        ")
	block[156] = kind
	copy(block[257:], "ustar\x0000")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	block = append(block, data...)
	return append(block, make([]byte, -len(data)&511)...)
}

func TestNames(t *testing.T) {
	for _, test := range []struct {
		raw, want, note string
	}{
		{"a/b.txt", "a/b.txt", ""},
		{"./a//b/./c", "a/b/c", ""},
		{"../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd", "leads out of its folder"},
		{"a/../b", "a/%2E%2E/b", "leads out of its folder"},
		{"/etc/passwd", "etc/passwd", "is absolute"},
		{`C:\Windows\x.dll`, "C%3A%5CWindows%5Cx.dll", "starts with a drive letter"},
		{"c:/x", "c%3A/x", "starts with a drive letter"},
		{`..\..\x`, "..%5C..%5Cx", "leads out of its folder"},
		{`a\b`, "a%5Cb", "has characters that are shown as %XX"},
		{"nul\x00byte", "nul%00byte", "has characters that are shown as %XX"},
		{"tab\tnl\n", "tab%09nl%0A", "has characters that are shown as %XX"},
		{"latin\xe9", "latin%E9", "has characters that are shown as %XX"},
		{"überall/日本", "überall/日本", ""},
		{"x.tgz!/y", "x.tgz%21/y", "has characters that are shown as %XX"},
		{"100%25", "100%25", ""},
		{"..", "%2E%2E", "leads out of its folder"},
		{"...", "...", ""},
		{" ", " ", ""},
	} {
		files := []member{{test.raw, "hostile"}, {"last", "fine"}}
		archives := map[string][]byte{"x.tar": rawTar(t, files...)}
		if test.raw != "nul\x00byte" {
			archives["x.zip"] = zipOf(t, files...)
		}
		for name, data := range archives {
			w := open(t, workspace.Limits{}, name, data)
			want := map[string]string{name + "!/" + test.want: "hostile", name + "!/last": "fine"}
			if diff := cmp.Diff(want, contents(t, w)); diff != "" {
				t.Errorf("%q: %s", test.raw, diff)
			}
			if !fs.ValidPath(test.want) {
				t.Errorf("%q is no valid path", test.want)
			}
			if got, err := fs.ReadFile(w.FS(), name+"!/"+test.want); string(got) != "hostile" {
				t.Errorf("ReadFile(%s) = %q, %v", test.want, got, err)
			}
			if test.note == "" {
				expectNotes(t, w)
			} else {
				expectNotes(t, w, name+"!/"+test.want+": its name in the archive "+test.note)
			}
		}
	}
}

func TestEmptyNames(t *testing.T) {
	w := open(t, workspace.Limits{}, "x.tar", rawTar(t, member{".", "dot"}))
	if diff := cmp.Diff(map[string]string{"x.tar!/unnamed": "dot"}, contents(t, w)); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w, `its name in the archive is empty: "."`)
}

func TestDuplicates(t *testing.T) {
	files := []member{
		{"a", "first"}, {"a~1", "named so"}, {"a", "second"}, {"a", "last"},
		{"d", "file"}, {"d/e", "in folder"}, {"f/g", "in folder"}, {"f", "file"},
	}
	for name, data := range map[string][]byte{"x.tar": tarOf(t, files...), "x.zip": zipOf(t, files...)} {
		w := open(t, workspace.Limits{}, name, data)
		want := map[string]string{}
		for path, data := range map[string]string{
			"a": "last", "a~1": "named so", "a~2": "first", "a~3": "second",
			"d~1": "file", "d/e": "in folder", "f/g": "in folder", "f~1": "file",
		} {
			want[name+"!/"+path] = data
		}
		if diff := cmp.Diff(want, contents(t, w)); diff != "" {
			t.Error(diff)
		}
		expectNotes(t, w, "folder has this name", "/a: an earlier member of this name is shown as a~2",
			"/a: an earlier member of this name is shown as a~3", "/f: shown as f~1: a folder has this name")
		must(t, fs.WalkDir(w.FS(), ".", func(path string, d fs.DirEntry, err error) error { return err }))
	}
}

// Compilers of Windows name the members of a library by the path that each was
// built at, and several may end alike.
func TestWindowsLibrary(t *testing.T) {
	table := "x64\\Release\\a-long-folder\\c.obj/\n"
	w := open(t, workspace.Limits{}, "x.lib", arOf(
		member{"/", "symbols"}, member{"//", table}, member{"/0", "c"},
		member{`D:\a\Rel\a.obj/`, "first"}, member{`x64\a.obj/`, "second"}, member{`D:/o/b.obj/`, "b"}, member{`C:d.obj/`, "d"},
		member{`..\e.obj/`, "e"}, member{`x\/`, "no base"}, member{"plain.o/", "plain"}))
	want := map[string]string{
		"x.lib!/c.obj": "c", "x.lib!/a.obj": "second", "x.lib!/a.obj~1": "first", "x.lib!/b.obj": "b", "x.lib!/d.obj": "d",
		"x.lib!/e.obj": "e", "x.lib!/x%5C": "no base", "x.lib!/plain.o": "plain",
	}
	if diff := cmp.Diff(want, contents(t, w)); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w, `x.lib!/x%5C: its name in the archive has characters that are shown as %XX`)
}

// Notes about members are limited, and the limit is noted.
func TestManyNotes(t *testing.T) {
	var files []member
	for i := range 250 {
		files = append(files, member{fmt.Sprintf("../%d", i), ""})
	}
	w := open(t, workspace.Limits{}, "x.tar", rawTar(t, files...))
	if got := len(contents(t, w)); got != 250 {
		t.Errorf("%d files", got)
	}
	notes := w.Notes()
	if len(notes) != 101 || notes[0].Text != "150 more notes about its members are left out" {
		t.Errorf("%d notes, the first is %v", len(notes), notes[0])
	}
}

// The forms of tar differ in where they put long names and large sizes.
func TestTarForms(t *testing.T) {
	long := strings.Repeat("long/", 40) + "name.txt"
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU} {
		name := long
		if format == tar.FormatUSTAR {
			name = strings.Repeat("u", 90) + "/" + strings.Repeat("v", 90)
		}
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, n := range []string{name, "short"} {
			must(t, w.WriteHeader(&tar.Header{Name: n, Mode: 0o4755, Size: 4, Format: format, Typeflag: tar.TypeReg}))
			_, err := io.WriteString(w, "data")
			must(t, err)
		}
		must(t, w.Close())
		ws := open(t, workspace.Limits{}, "x", buf.Bytes())
		if diff := cmp.Diff(map[string]string{"x!/" + name: "data", "x!/short": "data"}, contents(t, ws)); diff != "" {
			t.Errorf("%v: %s", format, diff)
		}
		must(t, ws.Walk(t.Context(), func(e workspace.Entry) error {
			if e.Depth == 1 && e.Mode != fs.ModeSetuid|0o755 {
				t.Errorf("mode %v", e.Mode)
			}
			return nil
		}))
		expectNotes(t, ws)
	}
	v7 := tarBlock(0, "old", "data") // v7 has neither magic nor type
	copy(v7[257:], make([]byte, 8))
	copy(v7[148:], fmt.Sprintf("%06o\x00 ", tarSum(v7)))
	binarySize := tarBlock('0', "binary", "data")
	copy(binarySize[124:], "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04")
	copy(binarySize[148:], fmt.Sprintf("%06o\x00 ", tarSum(binarySize)))
	w := open(t, workspace.Limits{}, "x", append(v7, binarySize...))
	if diff := cmp.Diff(map[string]string{"x!/old": "data", "x!/binary": "data"}, contents(t, w)); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w)
}

func tarSum(block []byte) int {
	sum := 8 * int(' ')
	for i, c := range block[:512] {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	return sum
}

func TestSparseTar(t *testing.T) {
	old := tarBlock('S', "old", strings.Repeat("x", 700))
	old[482] = 1
	copy(old[148:], fmt.Sprintf("%06o\x00 ", tarSum(old)))
	old = append(old[:512:512], append(make([]byte, 512), old[512:]...)...)
	pax := append(tarBlock('x', "pax", paxRecord("GNU.sparse.major", "1")), tarBlock('0', "new", "map and data")...)
	w := open(t, workspace.Limits{}, "x", append(append(old, pax...), tarBlock('0', "plain", "p")...))
	if diff := cmp.Diff(map[string]string{"x!/plain": "p"}, contents(t, w)); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w, "x!/new: not looked at: a sparse file", "x!/old: not looked at: a sparse file")
}

// Zip files with 64-bit fields, data before them, and each method that is read.
func TestZipForms(t *testing.T) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for method, data := range map[uint16][]byte{0: []byte("hello\n"), 12: helloBz2, 93: zstdOf(t, []byte("hello\n")), 95: xzOf(t, []byte("hello\n"))} {
		f, err := z.CreateRaw(&zip.FileHeader{
			Name: fmt.Sprint(method), Method: method, CRC32: 0x363a3020, CompressedSize64: uint64(len(data)), UncompressedSize64: 6,
		})
		must(t, err)
		f.Write(data)
	}
	must(t, z.Close())
	want := map[string]string{"0": "hello\n", "12": "hello\n", "93": "hello\n", "95": "hello\n"}
	for name, data := range map[string][]byte{"plain": buf.Bytes(), "shifted": append([]byte("#!/bin/sh\n"), buf.Bytes()...)} {
		w := workspace.New(workspace.Limits{}, t.TempDir())
		must(t, w.MountArchive(workspace.Part{}, name, bytes.NewReader(data), int64(len(data)), nil, 0))
		if diff := cmp.Diff(want, contents(t, w)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		expectNotes(t, w)
		must(t, w.Close())
	}

	buf.Reset()
	z = zip.NewWriter(&buf)
	const many = 66_000 // needs the end record of ZIP64
	for i := range many {
		_, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%d/%d", i%100, i)})
		must(t, err)
	}
	must(t, z.Close())
	w := open(t, workspace.Limits{}, "x.zip", buf.Bytes())
	if got := len(paths(t, w)); got != many+1 {
		t.Errorf("%d files", got)
	}
	expectNotes(t, w)
}
