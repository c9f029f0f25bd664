package scan_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// opener finds the texts in brackets in a file and embeds them: "a(b(c))".
func opener() *scan.Scanner {
	return &scan.Scanner{
		Name:  "opener",
		Wants: func(f *scan.File) bool { return bytes.IndexByte(f.Head(), '(') >= 0 },
		File: func(_ context.Context, p *scan.Pass, f *scan.File) error {
			data, err := f.Data()
			if err != nil {
				return err
			}
			depth, from := 0, 0
			for i, c := range data {
				switch c {
				case '(':
					if depth++; depth == 1 {
						from = i + 1
					}
				case ')':
					if depth--; depth == 0 {
						from := from
						p.Embed(f, workspace.Embedded{Name: fmt.Sprintf("at:%d", from), Packed: int64(i - from), Open: func(outer io.ReaderAt, _ int64) (io.ReadCloser, error) {
							return io.NopCloser(io.NewSectionReader(outer, int64(from), int64(i-from))), nil
						}})
					}
				}
			}
			return nil
		},
	}
}

// seer reports each file that it is shown, in this stage or a later one.
func seer(name string, needs ...scan.Fact) *scan.Scanner {
	return &scan.Scanner{
		Name: name, Rules: []*rule.Rule{longLine}, Needs: needs,
		Wants: func(*scan.File) bool { return true },
		File: func(_ context.Context, p *scan.Pass, f *scan.File) error {
			data, err := f.Data()
			p.Report(longLine, finding.Finding{Location: finding.Location{Path: f.Path}, Description: fmt.Sprintf("%s %v", data, f.Embedded)})
			return err
		},
	}
}

// TestEmbed shows what scanners find inside of files to all of them, what is
// found inside that as well, and to those of later stages; the same way
// whatever is done at once.
func TestEmbed(t *testing.T) {
	files := map[string]string{"a.txt": "one(two(three)(four))five(six)", "b.txt": "text (more)", "c/d.txt": "text"}
	for i := range 20 {
		files[fmt.Sprintf("z%d", i)] = fmt.Sprintf("x(y%d(z))", i)
	}
	ws := tree(t, files)
	var first *scan.Result
	for _, workers := range []int{1, 2, 7} {
		late := seer("late", words)
		early := seer("early")
		res, err := scan.Run(t.Context(), []*scan.Scanner{late, early, opener(), lister()}, ws, nil, scan.Options{Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = res
		} else {
			ignore := cmpopts.IgnoreUnexported(scan.Result{})
			if diff := cmp.Diff(first, res, ignore); diff != "" && workers > 1 {
				t.Fatalf("%d workers (-1 worker +got):\n%s", workers, diff)
			}
		}
		ws = tree(t, files)
	}
	for _, tool := range []string{"early", "late"} {
		got := map[string]string{}
		for _, f := range first.Findings {
			if f.Tool == tool {
				got[f.Location.Path] = f.Description
			}
		}
		for path, want := range map[string]string{
			"a.txt": files["a.txt"] + " false", "a.txt!/at:4": "two(three)(four) true", "a.txt!/at:4!/at:4": "three true", "a.txt!/at:4!/at:11": "four true",
			"a.txt!/at:26": "six true", "b.txt!/at:6": "more true", "z3!/at:2!/at:3": "z true",
		} {
			if got[path] != want {
				t.Errorf("%s: %s is %q; want %q", tool, path, got[path], want)
			}
		}
		if len(got) != 23+4+1+40 {
			t.Errorf("%s saw %d files", tool, len(got))
		}
	}
	if len(first.Notes) > 0 {
		t.Errorf("notes %+v", first.Notes)
	}
}

// TestEmbedEnds stops files that contain themselves at the depth of the
// workspace, and outlives a finder that fails.
func TestEmbedEnds(t *testing.T) {
	again := &scan.Scanner{
		Name:  "again",
		Wants: func(*scan.File) bool { return true },
		File: func(_ context.Context, p *scan.Pass, f *scan.File) error {
			p.Embed(f, workspace.Embedded{Name: "self", Packed: f.Size, Open: func(outer io.ReaderAt, size int64) (io.ReadCloser, error) {
				return io.NopCloser(io.NewSectionReader(outer, 0, size)), nil
			}})
			if f.Depth == 2 {
				p.Embed(f, workspace.Embedded{Name: "panics", Open: func(io.ReaderAt, int64) (io.ReadCloser, error) { panic("index out of range") }})
			}
			return nil
		},
	}
	var mu sync.Mutex
	var seen []string
	watch := &scan.Scanner{Name: "watch", Wants: func(f *scan.File) bool {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, f.Path)
		return false
	}, File: func(context.Context, *scan.Pass, *scan.File) error { return nil }}
	res, err := scan.Run(t.Context(), []*scan.Scanner{again, watch}, tree(t, map[string]string{"x": "text"}), nil, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1+workspace.Defaults.Depth && len(seen) != 3 || !slices.Contains(seen, "x!/self!/self") {
		t.Errorf("saw %q", seen)
	}
	var notes []string
	for _, n := range res.Notes {
		notes = append(notes, n.Text)
	}
	if all := strings.Join(notes, "\n"); !strings.Contains(all, "index out of range") {
		t.Errorf("notes %q", all)
	}
}
