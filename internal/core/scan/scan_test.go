package scan_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

var longLine = &rule.Rule{
	ID: "test/long-line", Title: "A long line", ScanType: finding.SAST, Text: "Why.", Fix: "Break it.",
	Severity: finding.Low, Confidence: finding.Likely, CWE: []int{1},
}

// tree makes a workspace of a folder with the files.
func tree(t *testing.T, files map[string]string) *workspace.Workspace {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, t.TempDir())
	t.Cleanup(func() { ws.Close() })
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		t.Fatal(err)
	}
	return ws
}

func many(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("d%d/f%d.txt", i%7, i)] = fmt.Sprint("text ", i)
	}
	return files
}

var words = scan.NewFact[string]("words")

// lister reports every file and makes its text known; counter needs the texts.
func lister() *scan.Scanner {
	return &scan.Scanner{
		Name: "lister", Rules: []*rule.Rule{longLine}, Gives: []scan.Fact{words},
		Wants: func(f *scan.File) bool { return strings.HasPrefix(string(f.Head()), "text") },
		File: func(_ context.Context, p *scan.Pass, f *scan.File) error {
			data, err := f.Data()
			if err != nil {
				return err
			}
			words.Add(p, string(data))
			p.Report(longLine, finding.Finding{Location: finding.Location{Path: f.Path}})
			return nil
		},
	}
}

func TestResultDoesNotDependOnScheduling(t *testing.T) {
	ws := tree(t, many(60))
	counter := &scan.Scanner{
		Name: "counter", Needs: []scan.Fact{words}, Rules: []*rule.Rule{longLine},
		Run: func(_ context.Context, p *scan.Pass) error {
			p.Report(longLine, finding.Finding{Description: strings.Join(words.All(p), "|")})
			return nil
		},
	}
	var first *scan.Result
	for workers := 1; workers <= 16; workers++ {
		res, err := scan.Run(t.Context(), []*scan.Scanner{counter, lister()}, ws, nil, scan.Options{Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = res
			if len(res.Findings) != 61 || res.Files != 60 || len(words.Of(res)) != 60 {
				t.Fatalf("%d findings, %d files, %d words; want 61, 60, 60", len(res.Findings), res.Files, len(words.Of(res)))
			}
			continue
		}
		if diff := cmp.Diff(first, res, cmpopts.IgnoreUnexported(scan.Result{})); diff != "" {
			t.Fatalf("%d workers (-1 worker +got):\n%s", workers, diff)
		}
	}
	if got := first.Findings[0]; got.Remediation != "Break it." || got.Severity != finding.Low || got.Tool == "" || got.Fingerprint == "" {
		t.Errorf("the rule did not complete the finding: %+v", got)
	}
}

func TestFailureIsANote(t *testing.T) {
	for _, test := range []struct {
		name string
		file func(context.Context, *scan.Pass, *scan.File) error
		want string
	}{
		{"error", func(context.Context, *scan.Pass, *scan.File) error { return errors.New("no such table") }, "no such table"},
		{"panic", func(context.Context, *scan.Pass, *scan.File) error { panic("index out of range") }, "scan/scan_test.go:"},
		{"foreign rule", func(_ context.Context, p *scan.Pass, _ *scan.File) error {
			p.Report(&rule.Rule{ID: "x/y"}, finding.Finding{})
			return nil
		}, "not one of its rules"},
		{"too slow", func(ctx context.Context, _ *scan.Pass, _ *scan.File) error { <-ctx.Done(); return context.Cause(ctx) }, "20ms were not enough"},
		{"deaf", func(context.Context, *scan.Pass, *scan.File) error { time.Sleep(300 * time.Millisecond); return nil }, "20ms were not enough"},
	} {
		synctest.Test(t, func(t *testing.T) {
			broken := &scan.Scanner{Name: "broken", Wants: func(*scan.File) bool { return true }, File: test.file}
			opt := scan.Options{Workers: 1, Limits: scan.Limits{FileTime: 20 * time.Millisecond}, Grace: 20 * time.Millisecond}
			res, err := scan.Run(t.Context(), []*scan.Scanner{broken, lister()}, tree(t, many(2)), nil, opt)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Notes) != 2 || !strings.Contains(res.Notes[0].Text, test.want) || res.Notes[0].Scanner != "broken" {
				t.Errorf("%s: notes %+v; want two of broken that speak of %q", test.name, res.Notes, test.want)
			}
			if len(res.Findings) != 2 {
				t.Errorf("%s: %d findings of the other scanner; want 2", test.name, len(res.Findings))
			}
			time.Sleep(time.Second) // calls that were left behind end
		})
	}
}

func TestLateReportsAreDropped(t *testing.T) { synctest.Test(t, dropsLateReports) }

func dropsLateReports(t *testing.T) {
	var wg sync.WaitGroup
	late := lister()
	late.File = func(_ context.Context, p *scan.Pass, f *scan.File) error {
		wg.Add(1)
		defer wg.Done()
		p.Report(longLine, finding.Finding{Description: "early"})
		time.Sleep(100 * time.Millisecond)
		p.Report(longLine, finding.Finding{Description: "late"})
		return nil
	}
	opt := scan.Options{Limits: scan.Limits{FileTime: time.Millisecond}, Grace: time.Millisecond}
	res, err := scan.Run(t.Context(), []*scan.Scanner{late}, tree(t, many(1)), nil, opt)
	wg.Wait()
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Description != "early" {
		t.Errorf("findings %+v, %v; want the early one", res.Findings, err)
	}
}

func TestLimits(t *testing.T) {
	ws := tree(t, map[string]string{"big.txt": "text" + strings.Repeat("x", 1000), "small.txt": "text"})
	t.Run("file size", func(t *testing.T) {
		res, err := scan.Run(t.Context(), []*scan.Scanner{lister()}, ws, nil, scan.Options{Limits: scan.Limits{FileSize: 100}})
		if err != nil || len(res.Findings) != 1 || len(res.Notes) != 1 || res.Notes[0].Path != "big.txt" {
			t.Errorf("%+v, %v; want one finding and a note about big.txt", res, err)
		}
	})
	t.Run("memory", func(t *testing.T) {
		var held, most atomic.Int64
		greedy := lister()
		greedy.File = func(_ context.Context, p *scan.Pass, f *scan.File) error {
			data, err := f.Data()
			if n := held.Add(int64(len(data))); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Millisecond)
			held.Add(-int64(len(data)))
			return err
		}
		files := map[string]string{}
		for i := range 20 {
			files[fmt.Sprint(i)] = "text" + strings.Repeat("x", 996)
		}
		res, err := scan.Run(t.Context(), []*scan.Scanner{greedy}, tree(t, files), nil, scan.Options{Workers: 8, Limits: scan.Limits{Memory: 2500}})
		if err != nil || len(res.Notes) != 0 || most.Load() > 2000 {
			t.Errorf("%d bytes were held at once, notes %v, %v; want at most 2000", most.Load(), res.Notes, err)
		}
	})
	t.Run("whole time", func(t *testing.T) {
		slow := lister()
		slow.File = func(ctx context.Context, _ *scan.Pass, _ *scan.File) error { <-ctx.Done(); return context.Cause(ctx) }
		res, err := scan.Run(t.Context(), []*scan.Scanner{slow}, ws, nil, scan.Options{Limits: scan.Limits{Time: 20 * time.Millisecond}})
		if err != nil || len(res.Notes) == 0 || !strings.Contains(res.Notes[0].Text, "time for a scan") {
			t.Errorf("%+v, %v; want a note that the time was used up", res, err)
		}
	})
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stuck := lister()
	stuck.File = func(ctx context.Context, _ *scan.Pass, _ *scan.File) error { cancel(); <-ctx.Done(); return ctx.Err() }
	began := time.Now()
	_, err := scan.Run(ctx, []*scan.Scanner{stuck}, tree(t, many(50)), nil, scan.Options{})
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v; want a fault because of context.Canceled", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to stop", took)
	}
}

func TestPlan(t *testing.T) {
	a, b := scan.NewFact[int]("a"), scan.NewFact[int]("b")
	gives := &scan.Scanner{Name: "gives", Gives: []scan.Fact{a}}
	needs := &scan.Scanner{Name: "needs", Needs: []scan.Fact{a}, Gives: []scan.Fact{b}}
	last := &scan.Scanner{Name: "last", Needs: []scan.Fact{a, b}}
	files := &scan.Scanner{Name: "files", File: func(context.Context, *scan.Pass, *scan.File) error { return nil }}
	ring := &scan.Scanner{Name: "ring", Needs: []scan.Fact{b}, Gives: []scan.Fact{a}}
	for _, test := range []struct {
		name     string
		scanners []*scan.Scanner
		given    []scan.Fact
		want     string
	}{
		{"by needs", []*scan.Scanner{last, needs, gives}, nil, "[[gives] [needs] [last]] []"},
		{"a source gives the fact", []*scan.Scanner{last, needs}, []scan.Fact{a}, "[[needs] [last]] []"},
		{"nobody gives it", []*scan.Scanner{last, needs}, nil, "[] [last needs]"},
		{"no files", []*scan.Scanner{files, gives}, nil, "[[gives]] [files]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			stages, left, err := scan.Plan(test.scanners, false, test.given)
			if got := fmt.Sprint(stages, left); err != nil || got != test.want {
				t.Errorf("Plan = %s, %v; want %s", got, err, test.want)
			}
		})
	}
	if _, _, err := scan.Plan([]*scan.Scanner{needs, ring}, false, nil); err == nil {
		t.Error("a ring of needs was planned")
	}
	if _, err := scan.Choose([]*scan.Scanner{gives}, []string{"gvies"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("an unknown name gives %v", err)
	}
}

func TestEvents(t *testing.T) {
	var findings, files int
	_, err := scan.Run(t.Context(), []*scan.Scanner{lister()}, tree(t, many(10)), nil, scan.Options{Event: func(e scan.Event) {
		switch {
		case e.Finding != nil:
			findings++
		case e.Progress != nil:
			files = max(files, e.Progress.Files)
		}
	}})
	if err != nil || findings != 10 || files != 10 {
		t.Errorf("watched %d findings and %d files, %v; want 10 and 10", findings, files, err)
	}
}
