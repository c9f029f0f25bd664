package workspace_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// A member is a file for the archives that the tests make.
type member struct{ name, data string }

func tarOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		must(t, w.WriteHeader(&tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.data)), Typeflag: tar.TypeReg}))
		_, err := io.WriteString(w, m.data)
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

func zipOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, m := range members {
		f, err := w.Create(m.name)
		must(t, err)
		_, err = io.WriteString(f, m.data)
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

func arOf(members ...member) []byte {
	out := []byte("!<arch>\n")
	for _, m := range members {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", m.name, 0, 0, 0, 0o100644, len(m.data), m.data)
		if len(m.data)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out
}

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	pack(t, w, data)
	return buf.Bytes()
}

func zstdOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf)
	must(t, err)
	pack(t, w, data)
	return buf.Bytes()
}

func xzOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := xz.NewWriter(&buf)
	must(t, err)
	pack(t, w, data)
	return buf.Bytes()
}

func pack(t testing.TB, w io.WriteCloser, data []byte) {
	t.Helper()
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
}

// helloBz2 is "hello\n" by bzip2.
var helloBz2 = []byte("BZh91AY&SY\xc1\xc0\x80\xe2\x00\x00\x01\x41\x00\x00\x10\x02\x44\xa0\x00\x30\xcd\x00\xc3\x46\x29\x97\x17\x72\x45\x38\x50\x90\xc1\xc0\x80\xe2")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open returns a workspace of one file.
func open(t testing.TB, limits workspace.Limits, name string, data []byte) *workspace.Workspace {
	t.Helper()
	w := workspace.New(limits, t.TempDir())
	t.Cleanup(func() { must(t, w.Close()) })
	must(t, w.MountFile(workspace.Part{}, name, bytes.NewReader(data), int64(len(data)), nil))
	return w
}

// paths returns the paths of all files in the order of the walk.
func paths(t testing.TB, w *workspace.Workspace) []string {
	t.Helper()
	var out []string
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
		out = append(out, e.Path)
		return nil
	}))
	return out
}

// contents returns what all files hold that are no archives.
func contents(t testing.TB, w *workspace.Workspace) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
		if e.Archive == "" {
			out[e.Path] = string(read(t, e))
		}
		return nil
	}))
	return out
}

func read(t testing.TB, e workspace.Entry) []byte {
	t.Helper()
	f, err := e.Open()
	must(t, err)
	defer f.Close()
	data, err := f.Bytes()
	must(t, err)
	return bytes.Clone(data)
}

// lines returns notes as text.
func lines(notes []workspace.Note) []string {
	var out []string
	for _, n := range notes {
		out = append(out, n.Path+": "+n.Text)
	}
	return out
}

// expectNotes checks that there are as many notes as wanted, each of which
// contains what is wanted, in order.
func expectNotes(t testing.TB, w *workspace.Workspace, want ...string) {
	t.Helper()
	got := lines(w.Notes())
	if len(got) != len(want) {
		t.Errorf("%d notes, want %d: %s", len(got), len(want), strings.Join(got, "\n"))
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("note %d is %q, want %q in it", i, got[i], want[i])
		}
	}
}

func TestArchives(t *testing.T) {
	files := []member{{"package/a.txt", "alpha"}, {"package/lib/b.txt", strings.Repeat("beta", 1000)}}
	want := func(prefix string) map[string]string {
		return map[string]string{prefix + "package/a.txt": files[0].data, prefix + "package/lib/b.txt": files[1].data}
	}
	plain := tarOf(t, files...)
	for _, test := range []struct {
		name string
		data []byte
		kind string
		want map[string]string
	}{
		{"x.tar", plain, "tar", want("x.tar!/")},
		{"x.tgz", gzipOf(t, plain), "tar.gz", want("x.tgz!/")},
		{"no-suffix", gzipOf(t, plain), "tar.gz", want("no-suffix!/")},
		{"x.txt", xzOf(t, plain), "tar.xz", want("x.txt!/")},
		{"x.tar.zst", zstdOf(t, plain), "tar.zst", want("x.tar.zst!/")},
		{"x.whl", zipOf(t, files...), "zip", want("x.whl!/")},
		{"zeros-first.tgz", gzipOf(t, slices.Concat(make([]byte, 1024), plain)), "tar.gz", want("zeros-first.tgz!/")},
		{"hello.bz2", helloBz2, "bzip2", map[string]string{"hello.bz2!/hello": "hello\n"}},
		{"hello.gz", gzipOf(t, []byte("hello\n")), "gzip", map[string]string{"hello.gz!/hello": "hello\n"}},
		{"hello.txt.XZ", xzOf(t, []byte("hello\n")), "xz", map[string]string{"hello.txt.XZ!/hello.txt": "hello\n"}},
		{"hello.zst", zstdOf(t, []byte("hello\n")), "zstd", map[string]string{"hello.zst!/hello": "hello\n"}},
		{"empty.gz", gzipOf(t, nil), "gzip", map[string]string{"empty.gz!/empty": ""}},
		{"two.gz", slices.Concat(gzipOf(t, []byte("one ")), gzipOf(t, []byte("two")), make([]byte, 100)), "gzip",
			map[string]string{"two.gz!/two": "one two"}},
		{"two.xz", slices.Concat(xzOf(t, []byte("one ")), make([]byte, 8), xzOf(t, []byte("two"))), "xz",
			map[string]string{"two.xz!/two": "one two"}},
		{"two.zst", slices.Concat(zstdOf(t, []byte("one ")), zstdOf(t, []byte("two"))), "zstd",
			map[string]string{"two.zst!/two": "one two"}},
		{"two.bz2", slices.Concat(helloBz2, helloBz2), "bzip2", map[string]string{"two.bz2!/two": "hello\nhello\n"}},
		{"x.a", arOf(member{"/", "symbols"}, member{"//", "a-very-long-name-of-a-member.o/\n"}, member{"/0", "long"}, member{"b.o/", "odd"}, member{"#1/8", "bsd.o\x00\x00\x00bsd"}),
			"ar", map[string]string{"x.a!/a-very-long-name-of-a-member.o": "long", "x.a!/b.o": "odd", "x.a!/bsd.o": "bsd"}},
		{"x.deb", arOf(member{"debian-binary", "2.0\n"}, member{"data.tar.gz", string(gzipOf(t, plain))}), "deb",
			map[string]string{"x.deb!/debian-binary": "2.0\n", "x.deb!/data.tar.gz!/package/a.txt": files[0].data, "x.deb!/data.tar.gz!/package/lib/b.txt": files[1].data}},
		{"nest.zip", zipOf(t, member{"b.tar.xz", string(xzOf(t, tarOf(t, member{"c.so", "elf"})))}), "zip",
			map[string]string{"nest.zip!/b.tar.xz!/c.so": "elf"}},
		{"empty.zip", zipOf(t), "zip", map[string]string{}},
		{"notes.txt", []byte("PK is no archive"), "", map[string]string{"notes.txt": "PK is no archive"}},
		{"elf+zip", append([]byte("\x7fELF"), zipOf(t, files...)...), "", map[string]string{"elf+zip": "\x7fELF" + string(zipOf(t, files...))}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, workspace.Limits{}, test.name, test.data)
			if diff := cmp.Diff(test.want, contents(t, w)); diff != "" {
				t.Error(diff)
			}
			expectNotes(t, w)
			must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
				if e.Path == test.name && e.Archive != test.kind {
					t.Errorf("archive type %q, want %q", e.Archive, test.kind)
				}
				return nil
			}))
			for path := range test.want {
				got, err := fs.ReadFile(w.FS(), path)
				if err != nil || string(got) != test.want[path] {
					t.Errorf("ReadFile(%s) = %.40q, %v", path, got, err)
				}
			}
		})
	}
}

// sample is a workspace of three parts with all there is in them.
func sample(t testing.TB) *workspace.Workspace {
	t.Helper()
	dir := t.TempDir()
	for path, data := range map[string]string{
		"src/main.go":         "package main\n",
		"src/vendor/v.zip":    string(zipOf(t, member{"in/side.txt", "deep"}, member{"inner.tgz", string(gzipOf(t, tarOf(t, member{"x/y", "z"})))})),
		"README":              "read me",
		".git/config":         "[core]",
		"node_modules/a/a.js": "a",
		"deep/a/b/c/d.txt":    "d",
	} {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o777))
		must(t, os.WriteFile(filepath.Join(dir, path), []byte(data), 0o666))
	}
	must(t, os.Chmod(filepath.Join(dir, "src/main.go"), 0o755))
	root, err := os.OpenRoot(dir)
	must(t, err)
	w := workspace.New(workspace.Limits{}, t.TempDir())
	t.Cleanup(func() { must(t, w.Close()) })
	must(t, w.MountDir(workspace.Part{}, root, func(dir string) bool { return dir == ".git" }))
	tgz := gzipOf(t, tarOf(t, member{"odd-root/package.json", "{}"}, member{"odd-root/bin/tool", "\x7fELF"}))
	must(t, w.MountArchive(workspace.Part{Prefix: "node_modules/@p/linux-x64", Origin: "platform", Label: "pkg:npm/%40p/linux-x64@1.0.0"},
		"linux-x64-1.0.0.tgz", bytes.NewReader(tgz), int64(len(tgz)), nil, 1))
	whl := zipOf(t, member{"pkg/__init__.py", ""})
	must(t, w.MountArchive(workspace.Part{Prefix: "pkg-1.0-py3-none-any.whl!"}, "pkg-1.0-py3-none-any.whl", bytes.NewReader(whl), int64(len(whl)), nil, 0))
	return w
}

var samplePaths = []string{
	"README",
	"deep/a/b/c/d.txt",
	"node_modules/@p/linux-x64/bin/tool",
	"node_modules/@p/linux-x64/package.json",
	"node_modules/a/a.js",
	"pkg-1.0-py3-none-any.whl!/pkg/__init__.py",
	"src/main.go",
	"src/vendor/v.zip",
	"src/vendor/v.zip!/in/side.txt",
	"src/vendor/v.zip!/inner.tgz",
	"src/vendor/v.zip!/inner.tgz!/x/y",
}

func TestParts(t *testing.T) {
	w := sample(t)
	var got []string
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
		got = append(got, e.Path)
		platform := strings.HasPrefix(e.Path, "node_modules/@p/")
		if want := map[bool]string{true: "platform", false: "package"}[platform]; e.Part.Origin != want {
			t.Errorf("%s has origin %q, want %q", e.Path, e.Part.Origin, want)
		}
		if want := map[bool]string{true: "pkg:npm/%40p/linux-x64@1.0.0", false: ""}[platform]; e.Part.Label != want {
			t.Errorf("%s has label %q, want %q", e.Path, e.Part.Label, want)
		}
		if want := strings.Count(e.Path, "!/"); !platform && e.Depth != want {
			t.Errorf("%s has depth %d, want %d", e.Path, e.Depth, want)
		}
		if want := e.Path == "src/main.go"; e.Mode&0o100 != 0 != want {
			t.Errorf("%s has mode %v", e.Path, e.Mode)
		}
		return nil
	}))
	if diff := cmp.Diff(samplePaths, got); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w)
}

func TestFS(t *testing.T) {
	w := sample(t)
	if err := fstest.TestFS(w.FS(), append(samplePaths, "src/vendor/v.zip!", "src/vendor/v.zip!/inner.tgz!/x")...); err != nil {
		t.Error(err)
	}
	sub, err := fs.Sub(w.FS(), "src/vendor/v.zip!")
	must(t, err)
	if got, err := fs.ReadFile(sub, "in/side.txt"); string(got) != "deep" || err != nil {
		t.Errorf("ReadFile = %q, %v", got, err)
	}
	f, err := w.FS().Open("src/vendor/v.zip!/in/side.txt")
	must(t, err)
	defer f.Close()
	var b [2]byte
	if _, err := f.(io.ReaderAt).ReadAt(b[:], 2); err != nil || string(b[:]) != "ep" {
		t.Errorf("ReadAt = %q, %v", b, err)
	}
	info, err := f.Stat()
	must(t, err)
	if e, ok := info.Sys().(workspace.Entry); !ok || e.Path != "src/vendor/v.zip!/in/side.txt" || e.Depth != 1 {
		t.Errorf("Sys() = %+v", info.Sys())
	}
	for _, name := range []string{".git/config", "src/main.go!", "src/main.go/x", "nothing", "src/vendor/v.zip!/nothing", "src/vendor!"} {
		if _, err := w.FS().Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%s) = %v, want that it does not exist", name, err)
		}
	}
}

func TestEmpty(t *testing.T) {
	w := workspace.New(workspace.Limits{}, t.TempDir())
	defer w.Close()
	if got := paths(t, w); got != nil {
		t.Errorf("walk of nothing shows %v", got)
	}
	must(t, fstest.TestFS(w.FS()))
}

func TestSkips(t *testing.T) {
	for _, test := range []struct {
		at   string
		err  error
		want []string
	}{
		{"src/vendor/v.zip", fs.SkipDir, samplePaths[:8]},
		{"node_modules/@p/linux-x64/bin/tool", fs.SkipAll, samplePaths[:3]},
		{"src/vendor/v.zip!/in/side.txt", fs.SkipDir, samplePaths},
		{"node_modules/@p/linux-x64/package.json", fs.SkipDir, samplePaths},
	} {
		var got []string
		must(t, sample(t).Walk(t.Context(), func(e workspace.Entry) error {
			got = append(got, e.Path)
			if e.Path == test.at {
				return test.err
			}
			return nil
		}))
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%v at %s: %s", test.err, test.at, diff)
		}
	}
	stop := errors.New("stop")
	if err := sample(t).Walk(t.Context(), func(workspace.Entry) error { return stop }); err != stop {
		t.Errorf("Walk = %v, want the error of the function", err)
	}
}

// Parts may overlap: a package can bring the folder along in which a platform
// package is shown. Nothing gets hidden.
func TestOverlap(t *testing.T) {
	w := workspace.New(workspace.Limits{}, t.TempDir())
	defer w.Close()
	outer := gzipOf(t, tarOf(t, member{"package/m/p/index.js", "bundled"}, member{"package/m/p/evil.node", "evil"}, member{"package/m/q", "q"}))
	inner := gzipOf(t, tarOf(t, member{"package/index.js", "real"}, member{"package/q.js", ""}))
	must(t, w.MountArchive(workspace.Part{}, "o.tgz", bytes.NewReader(outer), int64(len(outer)), nil, 1))
	if got := paths(t, w); len(got) != 3 {
		t.Errorf("before the second mount: %v", got)
	}
	must(t, w.MountArchive(workspace.Part{Prefix: "m/p"}, "i.tgz", bytes.NewReader(inner), int64(len(inner)), nil, 1))
	want := map[string]string{"m/p/evil.node": "evil", "m/p/index.js": "real", "m/p/index.js~1": "bundled", "m/p/q.js": "", "m/q": "q"}
	if diff := cmp.Diff(want, contents(t, w)); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w, "m/p/index.js: shown as index.js~1")
	must(t, fstest.TestFS(w.FS(), "m/p/index.js~1", "m/p/evil.node"))
}

func TestStrip(t *testing.T) {
	data := gzipOf(t, tarOf(t, member{"package.json", "decoy"}, member{"other/lib/a.js", "a"}, member{"package/package.json", "real"}, member{"stray", "s"}))
	w := workspace.New(workspace.Limits{}, t.TempDir())
	defer w.Close()
	must(t, w.MountArchive(workspace.Part{}, "x.tgz", bytes.NewReader(data), int64(len(data)), nil, 1))
	want := map[string]string{"package.json": "real", "package.json~1": "decoy", "lib/a.js": "a", "stray": "s"}
	if diff := cmp.Diff(want, contents(t, w)); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w, "package.json~1: lies outside of the folder", "stray: lies outside of the folder")
}

func TestMountFaults(t *testing.T) {
	w := workspace.New(workspace.Limits{}, t.TempDir())
	junk := strings.NewReader("no archive")
	selfExtracting := append([]byte("MZ stub"), zipOf(t, member{"a", "b"})...)
	if err := w.MountArchive(workspace.Part{}, "setup.exe", bytes.NewReader(selfExtracting), int64(len(selfExtracting)), nil, 0); err != nil {
		t.Errorf("a zip file behind other data: %v", err)
	}
	if got := contents(t, w)["a"]; got != "b" {
		t.Errorf("its member holds %q", got)
	}
	for name, test := range map[string]struct {
		err  error
		kind fault.Kind
	}{
		"no archive": {w.MountArchive(workspace.Part{}, "x.tgz", junk, junk.Size(), nil, 0), fault.Corrupt},
		"too short":  {w.MountArchive(workspace.Part{}, "x.tgz", junk, 100, nil, 0), fault.Unavailable},
		"no size":    {w.MountArchive(workspace.Part{}, "x.tgz", junk, -1, nil, 0), fault.Invalid},
		"prefix":     {w.MountFile(workspace.Part{Prefix: "../x"}, "y", junk, junk.Size(), nil), fault.Invalid},
		"name":       {w.MountFile(workspace.Part{}, "y/z", junk, junk.Size(), nil), fault.Invalid},
	} {
		if !fault.Is(test.err, test.kind) {
			t.Errorf("%s: %v, want a fault of kind %v", name, test.err, test.kind)
		}
	}
	must(t, w.Close())
	if err := w.MountFile(workspace.Part{}, "y", junk, junk.Size(), nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("mounting after Close: %v", err)
	}
}

// closer counts.
type closer int

func (c *closer) Close() error { *c++; return nil }

func TestClose(t *testing.T) {
	var closed closer
	data := gzipOf(t, tarOf(t, member{"a", "b"}))
	w := workspace.New(workspace.Limits{}, t.TempDir())
	must(t, w.MountFile(workspace.Part{}, "x.tgz", bytes.NewReader(data), int64(len(data)), &closed))
	var last workspace.Entry
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error { last = e; return nil }))
	if got := string(read(t, last)); got != "b" {
		t.Errorf("after the walk %s holds %q", last.Path, got)
	}
	must(t, w.Close())
	must(t, w.Close())
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
	if _, err := last.Open(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Open after Close: %v", err)
	}
	if err := w.Walk(context.Background(), func(workspace.Entry) error { return nil }); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Walk after Close: %v", err)
	}
	if _, err := fs.ReadDir(w.FS(), "x.tgz!"); err == nil {
		t.Error("ReadDir after Close works")
	}
}

func TestHostFolder(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o666))
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o777))
	must(t, os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("f"), 0o666))
	must(t, os.WriteFile(filepath.Join(dir, "bang!"), []byte("!"), 0o666))
	must(t, os.WriteFile(filepath.Join(dir, "bad\xff\\"), []byte("quoted"), 0o666))
	must(t, os.WriteFile(filepath.Join(dir, "bad%FF%5C"), []byte("literal"), 0o666))
	for link, target := range map[string]string{
		"out": filepath.Join(outside, "secret"), "up": "../x", "loop": "a", "a/back": "..", "in": "a/b/f", "a/b/self": "self",
	} {
		must(t, os.Symlink(target, filepath.Join(dir, link)))
	}
	odd := irregular(t, dir)
	root, err := os.OpenRoot(dir)
	must(t, err)
	w := workspace.New(workspace.Limits{}, t.TempDir())
	defer w.Close()
	must(t, w.MountDir(workspace.Part{Prefix: "top"}, root, nil))
	want := map[string]string{"top/a/b/f": "f", "top/bang%21": "!", "top/bad%FF%5C": "literal", "top/bad%FF%5C~1": "quoted"}
	if diff := cmp.Diff(want, contents(t, w)); diff != "" {
		t.Error(diff)
	}
	notes := []string{"top/out: not looked at: a link that leads out of the folder"}
	for _, n := range odd {
		notes = append(notes, "top/"+n)
	}
	expectNotes(t, w, append(notes, "top/up: not looked at: a link")...)
	for _, name := range []string{"top/out", "top/in", "top/loop/b/f", "top/pipe"} {
		if _, err := w.FS().Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%s) = %v", name, err)
		}
	}
	must(t, fstest.TestFS(w.FS(), "top/bang%21"))
}

// What keeps a file from being opened is said in the words of the notes, so that
// nobody says it in others.
func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o666))
	root, err := os.OpenRoot(dir)
	must(t, err)
	w := workspace.New(workspace.Limits{}, t.TempDir())
	defer w.Close()
	must(t, w.MountDir(workspace.Part{}, root, nil))
	var entry workspace.Entry
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
		entry = e
		return nil
	}))
	must(t, os.Remove(filepath.Join(dir, "f")))
	_, err = entry.Open()
	if _, named := errors.AsType[*fs.PathError](err); named || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
	_, err = w.FS().Open("f")
	if e, ok := errors.AsType[*fs.PathError](err); !ok || e.Path != "f" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of the file system: %v", err)
	}
}

// A file that is swapped for something else after it was listed is not read.
func TestSwapped(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o666))
	for _, name := range []string{"gone", "link", "pipe"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o666))
	}
	root, err := os.OpenRoot(dir)
	must(t, err)
	w := workspace.New(workspace.Limits{}, t.TempDir())
	defer w.Close()
	must(t, w.MountDir(workspace.Part{}, root, nil))
	var entries []workspace.Entry
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error { entries = append(entries, e); return nil }))
	for _, e := range entries {
		must(t, os.Remove(filepath.Join(dir, e.Path)))
	}
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "link")))
	irregular(t, dir)
	for _, e := range entries {
		if f, err := e.Open(); err == nil {
			t.Errorf("%s can still be opened, %d bytes", e.Path, f.Size())
		}
	}
	if got := len(w.Notes()); got != len(entries) {
		t.Errorf("%d notes, want %d", got, len(entries))
	}
}

func TestNotRead(t *testing.T) {
	isoImage := make([]byte, 0x9000)
	copy(isoImage[0x8001:], "CD001")
	dmgImage := make([]byte, 2048)
	copy(dmgImage[1536:], "koly\x00\x00\x00\x04\x00\x00\x02\x00")
	cpioFile := "070701" + strings.Repeat("0", 104) + "TRAILER!!!"
	for kind, data := range map[string]string{
		"7z": "7z\xbc\xaf\x27\x1c\x00\x04", "rar": "Rar!\x1a\x07\x01\x00", "cab": "MSCF\x00\x00\x00\x00xx",
		"iso": string(isoImage), "dmg": string(dmgImage), "cpio": cpioFile,
		"rpm": "\xed\xab\xee\xdb\x03\x00" + strings.Repeat("\x00", 90), "lz4": "\x04\x22\x4d\x18\x64\x40\xa7", "thin ar": "!<thin>\n",
	} {
		w := open(t, workspace.Limits{}, "x.bin", []byte(data))
		must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
			if e.Archive != kind {
				t.Errorf("archive type %q, want %q", e.Archive, kind)
			}
			return nil
		}))
		expectNotes(t, w, "x.bin: not unpacked: "+kind+" archives are not read")
	}
	// In a zip file a disk image is recognised once it is opened.
	big := append(isoImage, make([]byte, 100<<10)...)
	w := open(t, workspace.Limits{}, "x.zip", zipOf(t, member{"cd", string(big)}))
	contents(t, w)
	expectNotes(t, w, "x.zip!/cd: not unpacked: iso archives are not read")
	// The names alone say nothing.
	for _, name := range []string{"a.7z", "a.rar", "a.iso", "a.zip", "a.tgz"} {
		expectNotes(t, open(t, workspace.Limits{}, name, []byte("plain text")))
	}
}

func TestDamaged(t *testing.T) {
	noise := noise(300_000)
	plain := tarOf(t, member{"one", "1"}, member{"two", noise}, member{"three", "3"})
	packed := gzipOf(t, plain)
	zipped := zipOf(t, member{"one", "1"}, member{"two", noise}, member{"three", "3"})
	badCRC := bytes.Clone(zipped)
	binary.LittleEndian.PutUint32(badCRC[bytes.Index(badCRC, []byte("PK\x01\x02"))+16:], 1)
	badData := bytes.Clone(zipped)
	badData[len(badData)/2] ^= 0xff
	garbage := slices.Concat(tarOf(t, member{"one", "1"}), bytes.Repeat([]byte("junk"), 128), tarOf(t, member{"late", "!"}))
	for _, test := range []struct {
		name  string
		data  []byte
		want  map[string]int
		notes []string
	}{
		{"short.tar", plain[:200_000], map[string]int{"one": 1, "two": 200_000 - 1536},
			[]string{"short.tar: not looked at to the end: the data ends early", "short.tar!/two: cut off after 198464 of 300000 bytes"}},
		{"short.tgz", packed[:len(packed)/2], map[string]int{"one": 1, "two": -1},
			[]string{"short.tgz: not looked at to the end: the data ends early", "short.tgz!/two: cut off after"}},
		{"trailer.tgz", append(bytes.Clone(packed), "more"...), map[string]int{"one": 1, "two": 300_000, "three": 1},
			[]string{"trailer.tgz: not looked at to the end: other data follows"}},
		{"sum.tgz", slices.Concat(packed[:len(packed)-8], make([]byte, 8)), map[string]int{"one": 1, "two": 300_000, "three": 1},
			[]string{"sum.tgz: not looked at to the end: gzip: invalid checksum"}},
		{"short.zip", zipped[:len(zipped)-30], map[string]int{}, []string{"short.zip: not looked at to the end: it has no readable directory"}},
		{"crc.zip", badCRC, map[string]int{"one": 1, "two": 300_000, "three": 1}, []string{"crc.zip!/one: its checksum is not the one"}},
		{"data.zip", badData, map[string]int{"one": 1, "two": -1, "three": 1}, []string{"data.zip!/two: "}},
		{"garbage.tar", garbage, map[string]int{"one": 1, "late": 1},
			[]string{"garbage.tar!: 1 blocks between the members are no headers", "garbage.tar!: members follow the mark that ends"}},
		{"short.a", arOf(member{"a", "1"}, member{"b", "22"})[:8+60+2+60+1], map[string]int{"a": 1, "b": 1}, []string{"short.a!/b: cut off after 1 of 2 bytes"}},
		{"bad.a", append(arOf(member{"a", "1"}), strings.Repeat("x", 60)...), map[string]int{"a": 1}, []string{"bad.a: not looked at to the end: what should be a header at offset 70 is not"}},
		{"short.xz", xzOf(t, plain)[:200_000], map[string]int{"one": 1, "two": -1},
			[]string{"short.xz: not looked at to the end: the data ends early", "short.xz!/two: cut off after"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, workspace.Limits{}, test.name, test.data)
			got := map[string]int{}
			for path, data := range contents(t, w) {
				name := strings.TrimPrefix(path, test.name+"!/")
				got[name] = len(data)
				if test.want[name] == -1 && 0 < len(data) && len(data) <= 300_000 {
					got[name] = -1
				}
				if name == "two" && test.name != "data.zip" && !strings.HasPrefix(noise, data) {
					t.Error("what is left of the member is not its beginning")
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			expectNotes(t, w, test.notes...)
		})
	}
}

// noise is data that does not pack, the same each time.
func noise(n int) string {
	out := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(out)
	return string(out)
}
