package layout_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/scanners/layout"
)

// zipped makes an archive of one file.
func zipped(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	f, err := w.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestArchives reports archives by their names, but not the one that was asked
// for, nor those that are deep inside others.
func TestArchives(t *testing.T) {
	inner := zipped(t, "a.txt", []byte("text"))
	deep := inner
	for i := range 4 {
		deep = zipped(t, fmt.Sprintf("%d.dat", 3-i), deep)
	}
	// A scanner that gives the binaries, so that layout runs.
	none := &scan.Scanner{Name: "none", Gives: []scan.Fact{inventory.Binaries}, Run: func(context.Context, *scan.Pass) error { return nil }}
	for _, test := range []struct {
		name, file, origin string
		data               []byte
		want               string
	}{
		{"plain", "a.zip", "", inner, "[layout/nested-archive a.zip]"},
		{"capitals", "A.ZIP", "", inner, "[layout/nested-archive A.ZIP]"},
		{"hidden by a dot", ".a.zip", "", inner, "[layout/hidden-archive .a.zip]"},
		{"hidden by its extension", "a.png", "", inner, "[layout/hidden-archive a.png]"},
		{"no extension", "a", "", inner, "[layout/hidden-archive a]"},
		{"what was asked for", "a.png", inventory.WholeFile, inner, "[]"},
		{"in what was asked for", "a.zip", inventory.WholeFile, zipped(t, "b.png", inner), "[layout/hidden-archive a.zip!/b.png]"},
		{"static library", "a.a", "", []byte("!<arch>\na.o/            0           0     0     644     4         `\ntext"), "[]"},
		{"text", "a.zip", "", []byte("text"), "[]"},
		{"deep", "a.zip", inventory.WholeFile, deep, "[layout/hidden-archive a.zip!/0.dat layout/hidden-archive a.zip!/0.dat!/1.dat]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ws := workspace.New(workspace.Limits{}, t.TempDir())
			defer ws.Close()
			if err := ws.MountFile(workspace.Part{Origin: test.origin}, test.file, bytes.NewReader(test.data), int64(len(test.data)), nil); err != nil {
				t.Fatal(err)
			}
			res, err := scan.Run(t.Context(), []*scan.Scanner{none, layout.Scanner}, ws, nil, scan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := []string{}
			for _, f := range res.Findings {
				got = append(got, f.Rule+" "+f.Location.Path)
			}
			if fmt.Sprint(got) != test.want {
				t.Errorf("%v; want %s", got, test.want)
			}
		})
	}
}
