package source_test

import (
	"testing"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/source"
)

func TestCheckPlatform(t *testing.T) {
	for list, good := range map[string][2]bool{ // for npm, for PyPI
		"": {true, true}, "all": {true, true}, "host": {true, true}, "none": {true, true},
		"linux-x64": {true, true}, "linux-x64-musl, darwin-arm64": {true, true}, "win32-x64,": {true, true}, "linux/amd64/gnu": {true, true},
		"manylinux_2_17_x86_64": {false, true}, "manylinux2014_aarch64": {false, true}, "manylinux": {false, true},
		"musllinux_1_2_armv7l": {false, true}, "macosx_11_0_arm64": {false, true}, "macosx_10_9_universal2": {false, true},
		"win_amd64": {true, true}, "any": {false, true}, "pyodide_2025_0_wasm32": {false, true}, "linux-x64,any": {false, true},
		"foo": {}, "linux-x64,foo": {}, "all,linux-x64": {}, ",": {}, "linux-x46": {}, "manylinux_2_17_x86_46": {},
		"manylinx_2_17_x86_64": {}, "win64": {}, "manylinux5_x86_64": {}, "musllinux…": {}, "linux-x64;win32": {},
	} {
		for i, eco := range []target.Ecosystem{target.NPM, target.PyPI} {
			err := source.CheckPlatform(eco, list)
			if good[i] != (err == nil) {
				t.Errorf("CheckPlatform(%s, %q) = %v", eco, list, err)
			}
		}
	}
	oneSentence(t, source.CheckPlatform(target.NPM, "foo"), fault.Invalid, `"foo" is not a platform; use all, host, none or names like linux-x64, linux-x64-musl, darwin-arm64 and win32-x64`)
	oneSentence(t, source.CheckPlatform(target.PyPI, "foo"), fault.Invalid, "manylinux_2_17_x86_64", "win_amd64 and any")
}

// A platform that there is not is refused before anybody is asked.
func TestPlatformFirst(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	t.Setenv("npm_config_registry", s.URL)
	t.Setenv("PIP_INDEX_URL", s.URL)
	for _, name := range []string{"npm:a", "pypi:a"} {
		_, err := open(t, name, func(r *source.Request) { r.Platform = "foo"; r.Egress = newClient(egress.Options{}) })
		oneSentence(t, err, fault.Invalid, `"foo" is not a platform`)
	}
	if len(s.asked()) > 0 {
		t.Errorf("asked for %v", s.asked())
	}
}

// A package without platform packages says so when some are named.
func TestPlatformOfNone(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	s.publish("", one("pure", "1.0.0", object{}))
	s.publish("", one("bound", "1.0.0", object{"os": list("linux"), "cpu": list("x64")}))
	t.Setenv("npm_config_registry", s.URL)
	platform := func(r *source.Request) { r.Platform = "linux-x64" }
	if got := noteTexts(mustOpen(t, "npm:pure", platform)); got != "this release has no platform package for linux-x64, as chosen by --platform; looked at: the package itself" {
		t.Errorf("notes = %q", got)
	}
	if got := noteTexts(mustOpen(t, "npm:bound", platform)); got != "" {
		t.Errorf("notes = %q", got)
	}
}
