//go:build unix

package workspace_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// TestBytesOfLargeFiles reads files that are large enough to be mapped, from
// all the places where they can lie.
func TestBytesOfLargeFiles(t *testing.T) {
	want := strings.Repeat("0123456789abcde", 200_000) // 3 MB, no multiple of a page
	packed := tarOf(t, member{"small", "x"}, member{"stored", want})
	dir := t.TempDir()
	for name, data := range map[string]string{"plain": want, "a.tar": string(packed), "b.tar.gz": string(gzipOf(t, packed))} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644))
	}
	root, err := os.OpenRoot(dir)
	must(t, err)
	w := workspace.New(workspace.Limits{Memory: 1 << 20}, t.TempDir()) // too little for what is unpacked
	t.Cleanup(func() { w.Close() })
	must(t, w.MountDir(workspace.Part{}, root, nil))
	seen := 0
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
		if e.Size != int64(len(want)) {
			return nil
		}
		seen++
		f, err := e.Open()
		if err != nil {
			return err
		}
		defer f.Close()
		for range 2 {
			data, err := f.Bytes()
			if err != nil || string(data) != want || cap(data) != len(data) {
				return fmt.Errorf("Bytes of %s: %d bytes, %v; want %d", e.Path, len(data), err, len(want))
			}
		}
		if !f.Unchanged() {
			t.Errorf("%s has changed", e.Path)
		}
		return nil
	}))
	if seen != 3 {
		t.Errorf("saw %d files; want one in the folder and one in each archive", seen)
	}
}

// TestFaulted cuts off a file that is mapped.
func TestFaulted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(name, make([]byte, 4<<20), 0o644))
	root, err := os.OpenRoot(filepath.Dir(name))
	must(t, err)
	w := workspace.New(workspace.Limits{}, t.TempDir())
	t.Cleanup(func() { w.Close() })
	must(t, w.MountDir(workspace.Part{}, root, nil))
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
		f, err := e.Open()
		if err != nil {
			return err
		}
		defer f.Close()
		data, err := f.Bytes()
		if err != nil {
			return err
		}
		must(t, os.Truncate(name, 1))
		if f.Unchanged() {
			t.Error("a file that was cut off is said to be unchanged")
		}
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() {
			if v := recover(); v == nil || !f.Faulted(v) {
				t.Errorf("recovered %v; want a fault of this file", v)
			}
			if f.Faulted("something else") {
				t.Error("every panic is taken for a fault")
			}
		}()
		bytes.Count(data, []byte{1})
		return nil
	}))
}
