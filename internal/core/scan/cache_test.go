package scan_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// A word is a value of a fact with all kinds of fields.
type word struct {
	Path     string
	Embedded bool
	Text     string
	None     []string
	Empty    []string
	Map      map[string][]float64
	Next     *word
	When     time.Time
	Counts   []int32
}

var spoken = scan.NewFact[*word]("spoken")

// reader is a pure scanner that reports each file, makes it known and leaves a
// note. It counts how often it does.
func reader(calls *atomic.Int32) *scan.Scanner {
	return &scan.Scanner{
		Name: "reader", Rules: []*rule.Rule{longLine}, Gives: []scan.Fact{spoken},
		Wants: func(f *scan.File) bool { return f.Size > 0 },
		File: func(_ context.Context, p *scan.Pass, f *scan.File) error {
			calls.Add(1)
			data, err := f.Data()
			if err != nil {
				return err
			}
			if f.Path != "" || f.Embedded {
				return errors.New("a pure scanner is told where its file lies")
			}
			p.Report(longLine, finding.Finding{Description: string(data), Anchor: "anchor"})
			spoken.Add(p, &word{
				Text: string(data) + "\xff", Empty: []string{}, Map: map[string][]float64{"pi": {3.14}, "none": nil},
				Next: &word{Text: "next"}, When: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Counts: []int32{-1, 0, 1 << 30},
			})
			p.Note("", "a note about %s", data)
			return nil
		},
		Pure: &scan.Pure{Place: func(value any, f *scan.File) {
			w := value.(*word)
			w.Path, w.Embedded = f.Path, f.Embedded
		}},
	}
}

// found is what came out of a scan.
type found struct {
	Findings []finding.Finding
	Notes    []finding.Note
	Words    []*word
}

func look(t *testing.T, s *scan.Scanner, ws *workspace.Workspace, cache scan.Cache) found {
	t.Helper()
	res, err := scan.Run(t.Context(), []*scan.Scanner{opener(), s}, ws, nil, scan.Options{Cache: cache, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	return found{res.Findings, res.Notes, spoken.Of(res)}
}

func openCache(t *testing.T, dir, program string, size int64) *scan.DiskCache {
	t.Helper()
	c, err := scan.OpenCache(dir, program, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// entries returns the files of a cache.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var copies = map[string]string{"a.txt": "same", "b/c.txt": "same", "outer.txt": "x(same)(other)", "empty.txt": ""}

// different is how many contents there are among and inside the copies.
const different = 3

func TestCache(t *testing.T) {
	var calls atomic.Int32
	run := func(s *scan.Scanner, cache scan.Cache) (found, int) {
		calls.Store(0)
		out := look(t, s, tree(t, copies), cache)
		return out, int(calls.Load())
	}
	want, n := run(reader(&calls), nil)
	if n != different {
		t.Errorf("without a cache, %d contents were looked at %d times", different, n)
	}
	places := map[string]bool{}
	for _, w := range want.Words {
		places[w.Path] = w.Embedded
	}
	if diff := cmp.Diff(map[string]bool{"a.txt": false, "b/c.txt": false, "outer.txt": false, "outer.txt!/at:2": true, "outer.txt!/at:8": true}, places); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	impure := reader(&calls)
	impure.Pure, impure.File = nil, func(_ context.Context, p *scan.Pass, f *scan.File) error {
		data, err := f.Data()
		p.Note(f.Path, "a note about %s", data)
		return err
	}
	if got, _ := run(impure, nil); !cmp.Equal(got.Notes, want.Notes) {
		t.Errorf("notes of a scanner that knows the places differ:\n%s", cmp.Diff(want.Notes, got.Notes))
	}

	dir := t.TempDir()
	cache := openCache(t, dir, "1", scan.CacheSize)
	for i, looks := range []int{different, 0, 0} {
		got, n := run(reader(&calls), cache)
		if n != looks {
			t.Errorf("scan %d with a cache looked %d times; want %d", i, n, looks)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("scan %d with a cache (-want +got):\n%s", i, diff)
		}
	}

	newer, variant, rules := reader(&calls), reader(&calls), reader(&calls)
	newer.Version++
	variant.Pure = &scan.Pure{Variant: "other", Place: variant.Pure.Place}
	changed := *longLine
	changed.Source = []byte("another text")
	rules.Rules = append(rules.Rules, &changed)
	for name, s := range map[string]*scan.Scanner{"a newer scanner": newer, "a variant": variant, "other rules": rules} {
		if _, n := run(s, cache); n != different {
			t.Errorf("%s looked %d times; want %d", name, n, different)
		}
	}
	if _, n := run(reader(&calls), openCache(t, dir, "2", scan.CacheSize)); n != different {
		t.Errorf("another program looked %d times; want %d", n, different)
	}
}

func TestCacheIsBroken(t *testing.T) {
	for name, harm := range map[string]func(data []byte) []byte{
		"cut":     func(data []byte) []byte { return data[:len(data)/2] },
		"changed": func(data []byte) []byte { data[len(data)-1] ^= 1; return data },
		"foreign": func([]byte) []byte { return []byte("something else") },
		"empty":   func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cache := openCache(t, dir, "1", scan.CacheSize)
			var calls atomic.Int32
			want := look(t, reader(&calls), tree(t, copies), cache)
			for _, file := range entries(t, dir) {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%v, %v: others can read the cache", info.Mode(), err)
				}
				if err := os.WriteFile(file, harm(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for i, looks := range []int32{different, 0} { // the first writes what was broken anew
				calls.Store(0)
				got := look(t, reader(&calls), tree(t, copies), cache)
				if calls.Load() != looks {
					t.Errorf("scan %d looked %d times; want %d", i, calls.Load(), looks)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("scan %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

// TestCacheKeepsWhatIsWhole looks for results of calls that failed.
func TestCacheKeepsWhatIsWhole(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("broken") },
		"panic": func() error { panic("broken") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var calls atomic.Int32
			s := reader(&calls)
			whole := s.File
			s.File = func(ctx context.Context, p *scan.Pass, f *scan.File) error {
				if err := whole(ctx, p, f); err != nil {
					return err
				}
				return fail()
			}
			out := look(t, s, tree(t, map[string]string{"a": "text", "b": "text"}), openCache(t, dir, "1", scan.CacheSize))
			if n := len(entries(t, dir)); n != 0 || calls.Load() != 2 {
				t.Errorf("%d results were kept of %d calls; want 0 of 2", n, calls.Load())
			}
			if len(out.Words) != 2 || out.Words[0].Path != "a" || len(out.Notes) != 4 {
				t.Errorf("what was found before is %+v; want two words and four notes", out)
			}
		})
	}
}

func TestCacheStaysSmall(t *testing.T) {
	dir := t.TempDir()
	cache := openCache(t, dir, "1", 256*4<<10)
	text := strings.Repeat("x", 100) // packs to little, with a header of more than 100 bytes
	for i := range 200 {
		cache.Put(scan.Key{Content: strings.Repeat("0", 64), Recipe: string(rune('a' + i))}, []byte(text))
	}
	var size int64
	for _, name := range entries(t, dir) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size == 0 || size > 4<<10 {
		t.Errorf("one folder holds %d bytes; want some, and no more than its share of 4096", size)
	}
	last := scan.Key{Content: strings.Repeat("0", 64), Recipe: string(rune('a' + 199))}
	if got, ok := cache.Get(last); !ok || string(got) != text {
		t.Errorf("what was kept last is gone: %q, %v", got, ok)
	}
	if cache.Put(scan.Key{Content: strings.Repeat("1", 64)}, []byte(noise(8<<10))) {
		t.Error("an entry as large as a folder was kept")
	}
}

// noise is text that does not pack.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

func TestCacheIsShared(t *testing.T) {
	dir := t.TempDir()
	want := look(t, reader(new(atomic.Int32)), tree(t, copies), nil)
	var wg sync.WaitGroup
	for range 4 {
		cache := openCache(t, dir, "1", scan.CacheSize)
		var targets []*workspace.Workspace
		for range 5 {
			targets = append(targets, tree(t, copies))
		}
		wg.Go(func() {
			for _, ws := range targets {
				if diff := cmp.Diff(want, look(t, reader(new(atomic.Int32)), ws, cache)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
					return
				}
			}
		})
	}
	wg.Wait()
}
