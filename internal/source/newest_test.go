package source_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/source"
)

// newest asks for the newest version of a package.
func newest(t *testing.T, ctx context.Context, name, cache string) (string, error) {
	t.Helper()
	tgt, err := target.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return source.Newest(ctx, source.Request{Target: tgt, Egress: newClient(egress.Options{}), CacheDir: cache})
}

// The newest version is what an installation takes, and no file is fetched for it.
func TestNewest(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	s.publish("", leftPad())
	s.index("", "v", false, dist{name: "v-1.0.tar.gz"}, dist{name: "v-1.4.tar.gz"}, dist{name: "v-1.5.tar.gz", yanked: true}, dist{name: "v-2.0rc1.tar.gz"})
	s.index("", "pre", false, dist{name: "pre-1.0a1.tar.gz"}, dist{name: "pre-1.0b1.tar.gz"})
	t.Setenv("npm_config_registry", s.URL)
	t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
	for name, want := range map[string]string{"npm:left-pad": "1.3.0", "pypi:V": "1.4", "pypi:pre": "1.0b1"} {
		if got, err := newest(t, t.Context(), name, ""); err != nil || got != want {
			t.Errorf("Newest(%s) = %q, %v; want %s", name, got, err, want)
		}
	}
	for _, path := range s.asked() {
		if strings.Contains(path, ".tgz") || strings.Contains(path, ".tar.gz") {
			t.Errorf("%s was fetched", path)
		}
	}
	for _, name := range []string{"npm:missing", "pypi:missing"} {
		if got, err := newest(t, t.Context(), name, ""); !fault.Is(err, fault.NotFound) || got != "" {
			t.Errorf("Newest(%s) = %q, %v; want that there is none", name, got, err)
		}
	}
	if _, err := source.Newest(t.Context(), source.Request{Target: target.Target{Kind: target.Path, Name: "."}, Egress: newClient(egress.Options{})}); !fault.Is(err, fault.Invalid) {
		t.Errorf("Newest of a folder = %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newest(t, ended, "npm:left-pad", ""); !fault.Is(err, fault.Unavailable) && !errors.Is(err, context.Canceled) {
		t.Errorf("Newest that was cancelled = %v", err)
	}
}

// A version that was published since is seen, whatever is kept of the last time.
func TestNewestIsNew(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	t.Setenv("npm_config_registry", s.URL)
	cache := t.TempDir()
	for _, version := range []string{"1.0.0", "1.1.0", "1.0.0"} { // the last one was taken back
		s.publish("", npmPackage{name: "a", tags: object{"latest": version}, versions: map[string]object{"1.0.0": {}, "1.1.0": {}}})
		if got, err := newest(t, t.Context(), "npm:a", cache); err != nil || got != version {
			t.Errorf("Newest = %q, %v; want %s", got, err, version)
		}
	}
}
