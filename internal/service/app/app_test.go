package app_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// tarball writes an npm package with binaries for several platforms, each of
// about size bytes, and returns its path.
func tarball(t testing.TB, size int) string {
	t.Helper()
	files := map[string][]byte{"package.json": []byte(`{"name": "a", "version": "1.0.0", "scripts": {"install": "node-gyp-build"}}`)}
	for _, p := range []struct{ dir, format, arch string }{
		{"linux-x64", "elf", "x86_64"}, {"linux-arm64", "elf", "aarch64"}, {"linux-arm", "elf", "arm"},
		{"win32-x64", "pe", "x86_64"}, {"win32-ia32", "pe", "x86"}, {"darwin-x64", "macho", "x86_64"}, {"darwin-arm64", "macho", "aarch64"},
	} {
		data, err := synth.FromYAML(fmt.Appendf(nil, "format: %s\narch: %s\nimports: [connect]\nsections:\n- {name: .extra, random: %d}\n", p.format, p.arch, size))
		if err != nil {
			t.Fatal(err)
		}
		files["prebuilds/"+p.dir+"/a.node"] = data
	}
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: "package/" + name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "a-1.0.0.tgz")
	if err := os.WriteFile(name, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestScan(t *testing.T) {
	var phases []scan.Phase
	rep, err := app.New(app.Options{}).Scan(t.Context(), app.ScanRequest{
		Target: target.Target{Kind: target.Path, Name: tarball(t, 100)},
		Event: func(e scan.Event) {
			if e.Progress != nil {
				phases = append(phases, e.Progress.Phase)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Binaries) != 7 || rep.Release == nil || rep.Release.Name != "a" || len(rep.Components) != 1 {
		t.Errorf("%d binaries, release %+v, components %v; want 7 of a@1.0.0", len(rep.Binaries), rep.Release, rep.Components)
	}
	if len(rep.Notes) != 0 {
		t.Errorf("notes %v; want none", rep.Notes)
	}
	for _, b := range rep.Binaries {
		if b.Risk.Score == 0 || b.Explanation == "" || len(b.Behaviors["network"]) == 0 || b.Part != "pkg:npm/a@1.0.0" {
			t.Errorf("%s is not assessed: %+v", b.Path, b)
		}
	}
	if len(phases) == 0 {
		t.Error("nobody was told of any progress")
	}
}

// TestScanIsDeterministic asks for the same bytes again and again.
func TestScanIsDeterministic(t *testing.T) {
	name := tarball(t, 1000)
	var first []byte
	for range 10 {
		rep, err := app.New(app.Options{}).Scan(t.Context(), app.ScanRequest{
			Target: target.Target{Kind: target.Path, Name: name}, Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := report.JSON.Write(&out, rep, report.Options{}); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = out.Bytes()
			if !json.Valid(first) {
				t.Fatal("the report is not JSON")
			}
		}
		if !bytes.Equal(first, out.Bytes()) {
			t.Fatal("two scans of the same bytes differ")
		}
	}
}

func TestDefaultDataDir(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems have places of their own")
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, test := range []struct{ data, config, want string }{
		{"", "", filepath.Join(home, ".local", "share", "loupe")},
		{"", "/settings", filepath.Join(home, ".local", "share", "loupe")},
		{"/data", "", "/data/loupe"},
		{"relative", "", filepath.Join(home, ".local", "share", "loupe")}, // which the specification says to ignore
	} {
		t.Setenv("XDG_DATA_HOME", test.data)
		t.Setenv("XDG_CONFIG_HOME", test.config)
		if got := app.DefaultDataDir(); got != test.want {
			t.Errorf("with %q and %q: %s; want %s", test.data, test.config, got, test.want)
		}
	}
}

func TestScanRefuses(t *testing.T) {
	a := app.New(app.Options{})
	for _, test := range []struct {
		name string
		req  app.ScanRequest
		want fault.Kind
	}{
		{"no such file", app.ScanRequest{Target: target.Target{Kind: target.Path, Name: "no/such"}}, fault.NotFound},
		{"no such scanner", app.ScanRequest{Target: target.Target{Kind: target.Path, Name: "."}, Scanners: []string{"x"}}, fault.Invalid},
		{"no source", app.ScanRequest{Target: target.Target{Kind: target.Host, Name: "https://host.example"}}, fault.Invalid},
		{"offline without a cache", app.ScanRequest{Target: target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "a"}, Offline: true}, fault.Unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := a.Scan(t.Context(), test.req); !fault.Is(err, test.want) {
				t.Errorf("Scan = %v; want a fault that is %v", err, test.want)
			}
		})
	}
}

// TestRulesProveThemselves runs the examples of all built-in rules, as `loupe
// rules test` does.
func TestRulesProveThemselves(t *testing.T) {
	n, wrong, err := app.New(app.Options{}).TestRules(t.Context(), "")
	if err != nil || n < 60 {
		t.Fatalf("%d rules, %v", n, err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

func BenchmarkScan(b *testing.B) {
	a := app.New(app.Options{})
	req := app.ScanRequest{Target: target.Target{Kind: target.Path, Name: tarball(b, 100_000)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Scan(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}
