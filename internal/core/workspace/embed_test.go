package workspace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// mounted returns a workspace of one file, and its entry.
func mounted(t *testing.T, limits workspace.Limits, name string, data []byte) (*workspace.Workspace, workspace.Entry) {
	t.Helper()
	ws := workspace.New(limits, t.TempDir())
	t.Cleanup(func() { ws.Close() })
	if err := ws.MountFile(workspace.Part{Label: "pkg:npm/x@1"}, name, bytes.NewReader(data), int64(len(data)), nil); err != nil {
		t.Fatal(err)
	}
	var outer workspace.Entry
	if err := ws.Walk(t.Context(), func(e workspace.Entry) error { outer = e; return fs.SkipAll }); err != nil {
		t.Fatal(err)
	}
	return ws, outer
}

// part is an embedded file that lies in the outer one as it is.
func part(name string, off, n int64) workspace.Embedded {
	return workspace.Embedded{Name: name, Packed: n, About: name, Open: func(outer io.ReaderAt, size int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(outer, off, min(n, size-off))), nil
	}}
}

// stream is an embedded file of that content.
func stream(name string, packed int64, r func() io.Reader) workspace.Embedded {
	return workspace.Embedded{Name: name, Packed: packed, Open: func(io.ReaderAt, int64) (io.ReadCloser, error) { return io.NopCloser(r()), nil }}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func embed(t *testing.T, ws *workspace.Workspace, outer workspace.Entry, files ...workspace.Embedded) (shown []workspace.Entry) {
	t.Helper()
	if err := ws.Embed(t.Context(), outer, files, func(e workspace.Entry) error { shown = append(shown, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return shown
}

func pathsOf(entries []workspace.Entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Path)
	}
	return all
}

func texts(ws *workspace.Workspace) (all []string) {
	for _, n := range ws.Notes() {
		all = append(all, n.Path+": "+n.Text)
	}
	return all
}

// TestEmbed shows what was found in a file, with the members of archives, in
// the walk at hand, in later ones and in the file system.
func TestEmbed(t *testing.T) {
	zipped := zipOf(t, member{name: "a/b.txt", data: "in the archive"})
	data := slices.Concat([]byte("HEAD"), []byte("first part"), zipped)
	ws, outer := mounted(t, workspace.Limits{}, "x.node", data)
	shown := embed(t, ws, outer, part("section:.data", 4, 10), part("overlay", 14, int64(len(zipped))), part("section:.data", 4, 5))
	want := []string{"x.node!/overlay", "x.node!/overlay!/a/b.txt", "x.node!/section:.data", "x.node!/section:.data~1"}
	if got := pathsOf(shown); !slices.Equal(got, want) {
		t.Fatalf("%q; want %q", got, want)
	}
	for _, e := range shown {
		if !e.Embedded || e.Part.Label != "pkg:npm/x@1" {
			t.Errorf("%s: %+v", e.Path, e)
		}
	}
	if shown[0].Archive != "zip" || shown[0].About != "overlay" || shown[1].About != nil || shown[2].Size != 10 || shown[2].Depth != 1 {
		t.Errorf("%+v", shown)
	}
	var walked []string
	if err := ws.Walk(t.Context(), func(e workspace.Entry) error { walked = append(walked, e.Path); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := append([]string{"x.node"}, want...); !slices.Equal(walked, want) {
		t.Errorf("a later walk: %q; want %q", walked, want)
	}
	for name, want := range map[string]string{"x.node!/section:.data": "first part", "x.node!/section:.data~1": "first", "x.node!/overlay!/a/b.txt": "in the archive"} {
		if got, err := fs.ReadFile(ws.FS(), name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if n := texts(ws); len(n) > 0 {
		t.Errorf("notes %q", n)
	}
}

// TestEmbedInEmbedded finds files in files until they lie too deep.
func TestEmbedInEmbedded(t *testing.T) {
	ws, at := mounted(t, workspace.Limits{Depth: 3}, "x", []byte("abcdefgh"))
	for i := range 3 {
		shown := embed(t, ws, at, part("y", 1, int64(7-i)))
		if len(shown) != 1 {
			t.Fatalf("%d: %q", i, pathsOf(shown))
		}
		at = shown[0]
	}
	if at.Path != "x!/y!/y!/y" || at.Depth != 3 {
		t.Errorf("%s, depth %d", at.Path, at.Depth)
	}
	if shown := embed(t, ws, at, part("y", 1, 1)); len(shown) > 0 {
		t.Errorf("%q", pathsOf(shown))
	}
	if n := texts(ws); len(n) != 1 || !strings.Contains(n[0], "more than 3 deep") {
		t.Errorf("notes %q", n)
	}
}

func TestEmbedLimits(t *testing.T) {
	endless := func() io.Reader { return zeros{} }
	fails := func() io.Reader {
		return io.MultiReader(strings.NewReader("some"), readerFunc(func([]byte) (int, error) { return 0, errors.New("damaged block") }))
	}
	for _, test := range []struct {
		name   string
		limits workspace.Limits
		in     workspace.Embedded
		size   int64 // of what is shown; -1 for nothing
		note   string
	}{
		{"ratio", workspace.Limits{Ratio: 10, RatioFrom: 1 << 20}, stream("z", 1000, endless), 1 << 20, "cut off after 1048576 bytes: it unpacks to more than 10 times its packed size"},
		{"small ratio goes on", workspace.Limits{Ratio: 10, RatioFrom: 1 << 20}, stream("z", 10, func() io.Reader { return io.LimitReader(zeros{}, 5000) }), 5000, ""},
		{"size of one", workspace.Limits{FileBytes: 3000}, stream("z", 1<<30, endless), 3000, "cut off after 3000 bytes: more than one file may have"},
		{"size of all", workspace.Limits{Bytes: 5000}, stream("z", 1<<30, endless), 5000, "cut off after 5000 bytes: archives unpack to more than 5000 bytes"},
		{"count", workspace.Limits{Entries: -1}, stream("z", 1, endless), -1, "archives hold more than -1 files"},
		{"error in the middle", workspace.Limits{}, stream("z", 100, fails), 4, "cut off after 4 bytes: damaged block"},
		{"error at once", workspace.Limits{}, workspace.Embedded{Name: "z", Open: func(io.ReaderAt, int64) (io.ReadCloser, error) { return nil, errors.New("no such method") }}, -1, "not unpacked: \"z\": no such method"},
		{"idle", workspace.Limits{}, stream("z", 1, func() io.Reader { return readerFunc(func([]byte) (int, error) { return 0, nil }) }), -1, io.ErrNoProgress.Error()},
		{"empty", workspace.Limits{}, stream("z", 1, func() io.Reader { return strings.NewReader("") }), 0, ""},
		{"a name of folders", workspace.Limits{}, stream("../z/!", 1, func() io.Reader { return strings.NewReader("z") }), 1, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			ws, outer := mounted(t, test.limits, "x", []byte("outer"))
			shown := embed(t, ws, outer, test.in)
			if len(shown) == 0 && test.size >= 0 || len(shown) == 1 && shown[0].Size != test.size || len(shown) > 1 {
				t.Fatalf("shown %+v; want %d bytes", shown, test.size)
			}
			for _, e := range shown {
				f, err := e.Open()
				if err != nil {
					t.Fatal(err)
				}
				if f.Size() != test.size || strings.Count(e.Path, "/") != 1 {
					t.Errorf("%s of %d bytes; want %d", e.Path, f.Size(), test.size)
				}
				f.Close()
			}
			if n := strings.Join(texts(ws), "\n"); !strings.Contains(n, test.note) || test.note == "" && n != "" {
				t.Errorf("notes %q; want %q", n, test.note)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestEmbedIsMadeAgain reads an embedded file after its memory was taken for
// others.
func TestEmbedIsMadeAgain(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	ws, outer := mounted(t, workspace.Limits{Memory: 200 << 10}, "x", data)
	var files []workspace.Embedded
	for i := range 8 {
		files = append(files, part(fmt.Sprint(i), int64(i), 40<<10))
	}
	shown := embed(t, ws, outer, files...)
	for round := range 2 {
		for i, e := range shown {
			f, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := f.Bytes(); err != nil || !bytes.Equal(got, data[i:i+40<<10]) {
				t.Errorf("round %d: %s differs: %d bytes, %v", round, e.Path, len(got), err)
			}
			f.Close()
		}
	}
}

func TestEmbedStops(t *testing.T) {
	ws, outer := mounted(t, workspace.Limits{}, "x", []byte("outer"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	files := []workspace.Embedded{part("a", 0, 1), part("b", 0, 2)}
	if err := ws.Embed(ctx, outer, files, func(workspace.Entry) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	sentinel := errors.New("enough")
	if err := ws.Embed(t.Context(), outer, files, func(workspace.Entry) error { return sentinel }); !errors.Is(err, sentinel) {
		t.Errorf("an error of the visitor: %v", err)
	}
	ws.Close()
	if err := ws.Embed(t.Context(), outer, files, func(workspace.Entry) error { return nil }); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
