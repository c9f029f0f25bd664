package workspace_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// manyArchives makes a folder of archives of every kind, and returns the digest
// of each member by its path.
func manyArchives(t testing.TB, n int) (dir string, want map[string][32]byte) {
	t.Helper()
	dir, want = t.TempDir(), map[string][32]byte{}
	for i := range n {
		var files []member
		for j := range 5 {
			data := fmt.Sprintf("%d %d ", i, j) + noise(1000+i*37+j*20_000)
			files = append(files, member{fmt.Sprintf("d/%d", j), data})
		}
		kinds := map[string]func() []byte{
			"tgz": func() []byte { return gzipOf(t, tarOf(t, files...)) },
			"zip": func() []byte { return zipOf(t, files...) },
			"tar": func() []byte { return tarOf(t, files...) },
			"zst": func() []byte { return zstdOf(t, tarOf(t, files...)) },
		}
		kind := []string{"tgz", "zip", "tar", "zst"}[i%4]
		name := fmt.Sprintf("%02d.%s", i, kind)
		outer := zipOf(t, member{"inner", string(kinds[kind]())})
		must(t, os.WriteFile(filepath.Join(dir, name), outer, 0o666))
		for _, f := range files {
			want[name+"!/inner!/"+f.name] = sha256.Sum256([]byte(f.data))
		}
	}
	return dir, want
}

// With little memory, everything still comes out right, from many goroutines at
// once, during the walk and after it; temporary files stay where they should.
func TestSpools(t *testing.T) {
	dir, want := manyArchives(t, 12)
	root, err := os.OpenRoot(dir)
	must(t, err)
	temp, elsewhere := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", elsewhere)
	w := workspace.New(workspace.Limits{Memory: 150_000}, temp)
	must(t, w.MountDir(workspace.Part{}, root, nil))

	entries := make(chan workspace.Entry)
	var kept []workspace.Entry
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for e := range entries {
				checkEntry(t, e, want)
			}
		})
	}
	var open []*workspace.File
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
		if e.Archive == "" {
			kept = append(kept, e)
			if f, err := e.Open(); err == nil && len(kept)%10 == 0 {
				open = append(open, f) // stays open while others make room
			} else if err == nil {
				f.Close()
			}
		}
		entries <- e
		return nil
	}))
	close(entries)
	wg.Wait()
	if len(kept) != len(want) {
		t.Errorf("%d members, want %d", len(kept), len(want))
	}
	for i := range kept { // in an order that lets nothing be found unpacked
		wg.Go(func() { checkEntry(t, kept[(i*41)%len(kept)], want) })
	}
	wg.Go(func() {
		fs.WalkDir(w.FS(), ".", func(path string, d fs.DirEntry, err error) error {
			if sum, ok := want[path]; ok {
				if data, err := fs.ReadFile(w.FS(), path); err != nil || sha256.Sum256(data) != sum {
					t.Errorf("ReadFile(%s): %v", path, err)
				}
			}
			return err
		})
	})
	wg.Wait()
	for i, f := range open {
		data, err := io.ReadAll(f)
		if e := kept[i*10+9]; err != nil || sha256.Sum256(data) != want[e.Path] {
			t.Errorf("what stayed open of %s is not its content: %v", e.Path, err)
		}
		must(t, f.Close())
		must(t, f.Close())
	}
	if runtime.GOOS != "windows" {
		expectEmpty(t, temp) // the files have lost their names
	}
	must(t, w.Close())
	expectEmpty(t, temp)
	expectEmpty(t, elsewhere)
	expectNotes(t, w)
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	must(t, err)
	if len(names) > 0 {
		t.Errorf("%s holds %v", dir, names)
	}
}

func checkEntry(t *testing.T, e workspace.Entry, want map[string][32]byte) {
	f, err := e.Open()
	if err != nil {
		t.Errorf("%s: %v", e.Path, err)
		return
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Errorf("%s: %v", e.Path, err)
	}
	if e.Archive == "" && [32]byte(sum.Sum(nil)) != want[e.Path] {
		t.Errorf("%s: wrong content", e.Path)
	}
	if f.Size() != e.Size {
		t.Errorf("%s: %d bytes, want %d", e.Path, f.Size(), e.Size)
	}
	tail := make([]byte, 10)
	if n, err := f.ReadAt(tail, f.Size()-5); n != 5 || err != io.EOF {
		t.Errorf("%s: ReadAt at the end = %d, %v", e.Path, n, err)
	}
}

func TestCloseWhileReading(t *testing.T) {
	dir, _ := manyArchives(t, 8)
	root, err := os.OpenRoot(dir)
	must(t, err)
	temp := t.TempDir()
	w := workspace.New(workspace.Limits{Memory: 100_000}, temp)
	must(t, w.MountDir(workspace.Part{}, root, nil))
	var wg sync.WaitGroup
	n := 0
	err = w.Walk(t.Context(), func(e workspace.Entry) error {
		wg.Go(func() {
			if f, err := e.Open(); err == nil {
				io.Copy(io.Discard, f)
				f.Close()
			}
		})
		if n++; n == 20 {
			return w.Close()
		}
		return nil
	})
	if !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Walk = %v", err)
	}
	wg.Wait()
	expectEmpty(t, temp)
}

// Where no temporary files can be made, what needs them is noted.
func TestNoRoom(t *testing.T) {
	data := gzipOf(t, tarOf(t, member{"a", "small"}, member{"b", noise(500_000)}, member{"c", "late"}))
	w := workspace.New(workspace.Limits{Memory: 100_000}, filepath.Join(t.TempDir(), "gone"))
	must(t, w.MountFile(workspace.Part{}, "x.tgz", bytes.NewReader(data), int64(len(data)), nil))
	after := "fine"
	must(t, w.MountFile(workspace.Part{}, "y", strings.NewReader(after), int64(len(after)), nil))
	got := contents(t, w)
	if got["x.tgz!/a"] != "small" || got["y"] != "fine" {
		t.Errorf("what fits is lost: %d files", len(got))
	}
	notes := lines(w.Notes())
	if len(notes) == 0 || !strings.HasPrefix(notes[0], "x.tgz: not looked at to the end: no room for temporary files") {
		t.Errorf("notes %q", notes)
	}
	must(t, w.Close())
}

// Two walks at once, and others afterwards, show the same.
func TestWalks(t *testing.T) {
	dir, _ := manyArchives(t, 8)
	root, err := os.OpenRoot(dir)
	must(t, err)
	w := workspace.New(workspace.Limits{}, t.TempDir())
	defer w.Close()
	must(t, w.MountDir(workspace.Part{}, root, nil))
	lists := make([]string, 4)
	var wg sync.WaitGroup
	for i := range lists {
		wg.Go(func() { lists[i] = strings.Join(paths(t, w), "\n") })
	}
	wg.Wait()
	for _, list := range lists {
		if list != lists[0] || list == "" {
			t.Error("two walks differ")
		}
	}
}
