package source_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/source"
)

// TestLive gets packages from the registries of the machine's own npm and pip
// settings, then once more without the network from what was kept.
//
//	LOUPE_LIVE_TESTS=1 go test -run TestLive -v ./internal/source
//
// LOUPE_LIVE_TARGETS names other packages than the default ones.
func TestLive(t *testing.T) {
	if os.Getenv("LOUPE_LIVE_TESTS") == "" {
		t.Skip("LOUPE_LIVE_TESTS is not set: needs the network")
	}
	names := strings.Fields(os.Getenv("LOUPE_LIVE_TARGETS"))
	if len(names) == 0 {
		names = []string{"npm:bcrypt@6.0.0", "npm:@types/node@^20", "npm:esbuild", "pypi:cryptography@43.0.0", "pypi:requests"}
	}
	cache := t.TempDir()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			tgt, err := target.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			var first string
			for _, offline := range []bool{false, true} {
				start := time.Now()
				o, err := source.Open(t.Context(), source.Request{
					Target: tgt, CacheDir: cache, TempDir: t.TempDir(), Platform: os.Getenv("LOUPE_LIVE_PLATFORM"),
					Egress: egress.New(egress.Options{Offline: offline}),
				})
				if err != nil {
					t.Fatal(err)
				}
				defer o.Close()
				took := time.Since(start)
				files := 0
				if err := o.Workspace.Walk(t.Context(), func(workspace.Entry) error { files++; return nil }); err != nil {
					t.Error(err)
				}
				if files == 0 || o.Release == nil || len(o.Release.Parts) == 0 || o.Release.Version == "" {
					t.Errorf("%d files of %+v", files, o.Release)
				}
				var size int64
				for _, p := range o.Release.Parts {
					size += p.Size
					if p.Digest == "" {
						t.Errorf("%s was not verified", p.Filename)
					}
					if !offline {
						t.Logf("  %-55s %-45s %9d %s", p.Path, p.Platform, p.Size, p.Filename)
					}
				}
				t.Logf("%s offline=%v: %d parts, %d bytes, %d files; open %v, walk %v", o.Target.Short(), offline, len(o.Release.Parts), size, files, took.Round(time.Millisecond), (time.Since(start) - took).Round(time.Millisecond))
				for _, n := range o.Notes {
					t.Logf("  note %s: %s", n.Path, n.Text)
				}
				t.Logf("  %d notes about unpacking", len(o.Workspace.Notes()))
				if !offline {
					r := o.Release
					t.Logf("  %q %v %q %q %q %v", r.Description, r.Keywords, r.License, r.Homepage, r.Repository, r.Published)
					first = o.Digest
				} else if o.Digest != first {
					t.Errorf("digest = %s offline; want %s", o.Digest, first)
				}
			}
		})
	}
}
