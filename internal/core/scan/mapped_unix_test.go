//go:build unix

package scan_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// large mounts a folder with one file of 4 MiB, large enough to be mapped.
func large(t *testing.T) (ws *workspace.Workspace, name string) {
	t.Helper()
	dir := t.TempDir()
	name = filepath.Join(dir, "large.txt")
	if err := os.WriteFile(name, bytes.Repeat([]byte("text456789abcdef"), 4<<20/16), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	ws = workspace.New(workspace.Limits{}, t.TempDir())
	t.Cleanup(func() { ws.Close() })
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		t.Fatal(err)
	}
	return ws, name
}

// TestFileIsCutOff shortens a file while a scanner looks at it.
func TestFileIsCutOff(t *testing.T) {
	ws, name := large(t)
	s := lister()
	s.File = func(_ context.Context, _ *scan.Pass, f *scan.File) error {
		data, err := f.Data()
		if err != nil {
			return err
		}
		if err := os.Truncate(name, 10); err != nil {
			return err
		}
		bytes.Count(data, []byte("a"))
		return nil
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{s}, ws, nil, scan.Options{})
	if err != nil || len(res.Notes) != 1 || !strings.Contains(res.Notes[0].Text, "cut off") {
		t.Errorf("%+v, %v; want a note that the file was cut off", res, err)
	}
}

// TestLeftBehind has a scanner go on with its bytes when everything is over.
func TestLeftBehind(t *testing.T) {
	ws, _ := large(t)
	over, count := make(chan struct{}), make(chan int)
	s := lister()
	s.File = func(_ context.Context, _ *scan.Pass, f *scan.File) error {
		data, err := f.Data()
		if err != nil {
			close(count)
			return err
		}
		<-over
		if _, err := f.Data(); err == nil {
			t.Error("a file can be read after the scan")
		}
		count <- bytes.Count(data, []byte("a"))
		return nil
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{s}, ws, nil, scan.Options{
		Limits: scan.Limits{FileTime: time.Millisecond, Time: 300 * time.Millisecond}, Grace: time.Millisecond,
	})
	if err != nil || len(res.Notes) == 0 {
		t.Errorf("%+v, %v; want a note", res, err)
	}
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
	close(over)
	if n := <-count; n != 4<<20/16 {
		t.Errorf("it counted %d; want %d", n, 4<<20/16)
	}
}
