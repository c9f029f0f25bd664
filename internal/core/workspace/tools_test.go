package workspace_test

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// tool finds a program or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// run runs a command in a folder and returns what it prints.
func run(t *testing.T, dir string, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, &stderr)
	}
	return out
}

// digests returns the digest of each file in a folder.
func digests(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	out := map[string][32]byte{}
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		out[path] = sha256.Sum256(data)
		return err
	}))
	return out
}

// shown returns the digest of each member of an archive, without those of
// archives in it, and its type.
func shown(t *testing.T, data []byte) (members map[string][32]byte, kind string) {
	t.Helper()
	w := open(t, workspace.Limits{}, "x", data)
	members = map[string][32]byte{}
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
		if e.Depth == 0 {
			kind = e.Archive
			return nil
		}
		if e.Depth == 1 {
			members[strings.TrimPrefix(e.Path, "x!/")] = sha256.Sum256(read(t, e))
		}
		return nil
	}))
	expectNotes(t, w)
	return members, kind
}

// tree makes a folder with files of many sizes and names.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for path, data := range map[string]string{
		"empty":         "",
		"one":           "1",
		"block":         strings.Repeat("b", 512),
		"a b/ü/日本語.txt": "names",
		"big/noise":     noise(700_000),
		"big/zeros":     strings.Repeat("\x00", 600_000),
		"bin/tool":      "#!/bin/sh\n",
		strings.Repeat("long/", 30) + strings.Repeat("n", 120): "long",
	} {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o777))
		must(t, os.WriteFile(filepath.Join(dir, path), []byte(data), 0o666))
	}
	must(t, os.Symlink("one", filepath.Join(dir, "link")))
	must(t, os.Mkdir(filepath.Join(dir, "no-files"), 0o777))
	return dir
}

// What tools pack is shown as it was.
func TestTools(t *testing.T) {
	dir := tree(t)
	want := digests(t, dir)
	for _, test := range []struct {
		name, kind string
		pack       func(t *testing.T) []byte
	}{
		{"tar gnu", "tar", func(t *testing.T) []byte { return run(t, dir, nil, "tar", "--format=gnu", "-cf", "-", ".") }},
		{"tar pax", "tar", func(t *testing.T) []byte { return run(t, dir, nil, "tar", "--format=posix", "-cf", "-", ".") }},
		{"tar gzip", "tar.gz", func(t *testing.T) []byte { return run(t, dir, nil, "tar", "-czf", "-", ".") }},
		{"tar bzip2", "tar.bz2", func(t *testing.T) []byte { tool(t, "bzip2"); return run(t, dir, nil, "tar", "-cjf", "-", ".") }},
		{"tar xz", "tar.xz", func(t *testing.T) []byte { tool(t, "xz"); return run(t, dir, nil, "tar", "-cJf", "-", ".") }},
		{"tar zstd", "tar.zst", func(t *testing.T) []byte { tool(t, "zstd"); return run(t, dir, nil, "tar", "--zstd", "-cf", "-", ".") }},
		{"tar xz blocks", "tar.xz", func(t *testing.T) []byte {
			return run(t, dir, run(t, dir, nil, "tar", "-cf", "-", "."), "xz", "-c", "-T2", "--block-size=200000", "--check=sha256")
		}},
		{"tar zstd long", "tar.zst", func(t *testing.T) []byte {
			return run(t, dir, run(t, dir, nil, "tar", "-cf", "-", "."), "zstd", "-c", "-3", "--long=27")
		}},
		{"zip", "zip", func(t *testing.T) []byte { return zipTool(t, dir, "-qry") }},
		{"zip stored", "zip", func(t *testing.T) []byte { return zipTool(t, dir, "-qry0") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, kind := shown(t, test.pack(t))
			if kind != test.kind {
				t.Errorf("archive type %q, want %q", kind, test.kind)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// zipTool packs a folder.
func zipTool(t *testing.T, dir, flags string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "x.zip")
	run(t, dir, nil, "zip", flags, out, ".")
	data, err := os.ReadFile(out)
	must(t, err)
	return data
}

func TestArTool(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.o", "a-name-longer-than-sixteen.o", "odd"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o666))
	}
	want := digests(t, dir)
	run(t, dir, nil, "ar", "rcD", "x.a", "a.o", "a-name-longer-than-sixteen.o", "odd")
	data, err := os.ReadFile(filepath.Join(dir, "x.a"))
	must(t, err)
	got, kind := shown(t, data)
	if diff := cmp.Diff(want, got); diff != "" || kind != "ar" {
		t.Error(kind, diff)
	}
}

// A Debian package is shown as dpkg-deb extracts it.
func TestDpkg(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "DEBIAN"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "DEBIAN/control"), []byte("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@registry.example>\nDescription: x\n"), 0o644))
	must(t, os.MkdirAll(filepath.Join(dir, "usr/lib/x"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "usr/lib/x/x.so"), []byte(noise(100_000)), 0o644))
	for _, method := range []string{"gzip", "xz", "zstd"} {
		deb := filepath.Join(out, method+".deb")
		run(t, dir, nil, "dpkg-deb", "-Z"+method, "--root-owner-group", "-b", dir, deb)
		extracted := filepath.Join(out, method)
		run(t, dir, nil, "dpkg-deb", "-x", deb, extracted)
		data, err := os.ReadFile(deb)
		must(t, err)
		w := open(t, workspace.Limits{}, "x.deb", data)
		got := map[string][32]byte{}
		must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
			if e.Depth == 0 && e.Archive != "deb" {
				t.Errorf("archive type %q", e.Archive)
			}
			if inner, path, ok := strings.Cut(strings.TrimPrefix(e.Path, "x.deb!/"), "!/"); ok && strings.HasPrefix(inner, "data.tar") {
				got[path] = sha256.Sum256(read(t, e))
			}
			return nil
		}))
		if diff := cmp.Diff(digests(t, extracted), got); diff != "" {
			t.Errorf("%s: %s", method, diff)
		}
		expectNotes(t, w)
	}
}

// A sparse file is refused, and what follows it is read.
func TestSparseTool(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "a-sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte("end"), 10<<20)
	must(t, err)
	must(t, f.Close())
	must(t, os.WriteFile(filepath.Join(dir, "b"), []byte("b"), 0o666))
	for _, format := range []string{"gnu", "posix"} {
		data := run(t, dir, nil, "tar", "-S", "--format="+format, "-cf", "-", "a-sparse", "b")
		w := open(t, workspace.Limits{}, "x.tar", data)
		if diff := cmp.Diff(map[string]string{"x.tar!/b": "b"}, contents(t, w)); diff != "" {
			t.Errorf("%s: %s", format, diff)
		}
		notes := strings.Join(lines(w.Notes()), "\n")
		if !strings.Contains(notes, "a sparse file") || len(w.Notes()) != 1 {
			t.Errorf("%s: notes %s", format, notes)
		}
	}
}

// No 7z, encrypted zip or other archive goes by unnoticed.
func TestRefusedTools(t *testing.T) {
	dir := tree(t)
	encrypted := filepath.Join(t.TempDir(), "x.zip")
	run(t, dir, nil, "zip", "-qP", "password", encrypted, "one")
	data, err := os.ReadFile(encrypted)
	must(t, err)
	w := open(t, workspace.Limits{}, "x.zip", data)
	paths(t, w)
	expectNotes(t, w, "x.zip!/one: not looked at: it is encrypted")
}
