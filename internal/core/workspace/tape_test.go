package workspace_test

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// TestClear holds a file that was looked into and is mounted again against one
// that is mounted for the first time.
func TestClear(t *testing.T) {
	long := "package/" + strings.Repeat("long/", 30) + "name"
	usual := tarOf(t, member{"package/package.json", `{"name": "x"}`}, member{long, strings.Repeat("y", 70_000)}, member{"package/a", "1"}, member{"package/a", "2"}, member{"outside", "3"})
	for name, data := range map[string][]byte{
		"npm tarball":       gzipOf(t, usual),
		"zstd":              zstdOf(t, usual),
		"cut off":           gzipOf(t, usual)[:300],
		"no end":            gzipOf(t, usual[:len(usual)-1024]),
		"half a block":      gzipOf(t, usual[:len(usual)-700]),
		"stray blocks":      gzipOf(t, append(bytes.Clone(usual), bytes.Repeat([]byte("x"), 2048)...)),
		"second archive":    gzipOf(t, append(bytes.Clone(usual), usual...)),
		"above the limit":   gzipOf(t, tarOf(t, member{"package/big", strings.Repeat("z", 300_000)}, member{"package/c", "4"})),
		"archive in it":     gzipOf(t, tarOf(t, member{"package/in.tgz", string(gzipOf(t, usual))})),
		"one packed file":   gzipOf(t, []byte("text")),
		"zip":               zipOf(t, member{"package/a", "1"}),
		"plain tar":         usual,
		"trailing garbage":  append(gzipOf(t, usual), "garbage"...),
		"twice compressed":  gzipOf(t, gzipOf(t, usual)),
		"nothing in it":     gzipOf(t, nil),
		"only zero blocks":  gzipOf(t, make([]byte, 10_240)),
		"many small files":  gzipOf(t, tarOf(t, many(10_000)...)),
		"fewer small files": gzipOf(t, tarOf(t, many(500)...)),
	} {
		t.Run(name, func(t *testing.T) {
			limits := workspace.Limits{FileBytes: 200_000}
			r := bytes.NewReader(data)
			mount := func(w *workspace.Workspace) {
				must(t, w.MountArchive(workspace.Part{Label: "pkg:npm/x"}, "x.tgz", r, int64(len(data)), nil, 1))
			}
			fresh := workspace.New(limits, t.TempDir())
			defer fresh.Close()
			mount(fresh)

			again := workspace.New(limits, t.TempDir())
			defer again.Close()
			must(t, again.MountFile(workspace.Part{}, "x.tgz", r, int64(len(data)), nil))
			everything(t, again)
			again.Clear()
			if got := everything(t, again); len(got) != 0 {
				t.Errorf("after Clear: %v", got)
			}
			mount(again)

			if diff := cmp.Diff(everything(t, fresh), everything(t, again)); diff != "" {
				t.Errorf("files (-fresh +again):\n%s", diff)
			}
			if diff := cmp.Diff(fresh.Notes(), again.Notes()); diff != "" {
				t.Errorf("notes (-fresh +again):\n%s", diff)
			}
		})
	}
}

func many(n int) (out []member) {
	for i := range n {
		out = append(out, member{"package/" + strings.Repeat("d", i%7+1) + "/" + string(rune('a'+i%26)), strings.Repeat("x", i%3)})
	}
	return out
}

// everything returns what a walk shows, and which part it belongs to.
func everything(t *testing.T, w *workspace.Workspace) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
		data, err := fs.ReadFile(w.FS(), e.Path)
		if err != nil {
			return err
		}
		out[e.Path] = e.Part.Label + " " + e.Archive + " " + string(data)
		return nil
	}))
	return out
}
