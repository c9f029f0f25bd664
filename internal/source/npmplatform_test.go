package source_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/source"
)

// one returns a package with a single version.
func one(name, version string, manifest object) npmPackage {
	return npmPackage{name, object{"latest": version}, map[string]object{version: manifest}}
}

func list(s ...string) []string { return s }

// publishFast publishes a package with binaries in all kinds of dependencies.
func publishFast(s *server) {
	s.publish("", one("fast", "1.0.0", object{"optionalDependencies": object{
		"@fast/linux-x64":      "1.0.0",
		"@fast/linux-x64-musl": "^1.0.0",
		"@fast/darwin-arm64":   "1.0.0",
		"@fast/win32":          "npm:@other/win32-x64@1.2.3",
		"@fast/gone":           "1.0.0",
		"plain":                "1.0.0",
		"from-git":             "git+https://git.test/x",
	}}))
	s.publish("", one("@fast/linux-x64", "1.0.0", object{"os": list("linux"), "cpu": list("x64"), "libc": list("glibc"),
		"optionalDependencies": object{"@fast/lib-linux-x64": "2.0.0", "@fast/linux-x64-musl": "1.0.0"}}))
	s.publish("", one("@fast/linux-x64-musl", "1.0.0", object{"os": "linux", "cpu": list("x64"), "libc": list("musl")}))
	s.publish("", one("@fast/darwin-arm64", "1.0.0", object{"os": list("darwin"), "cpu": list("arm64")}))
	s.publish("", one("@fast/lib-linux-x64", "2.0.0", object{"os": list("linux"), "cpu": list("x64"), "libc": list("glibc"),
		"optionalDependencies": object{"@fast/too-deep": "1.0.0"}}))
	s.publish("", one("@fast/too-deep", "1.0.0", object{"os": list("linux")}))
	s.publish("", one("@other/win32-x64", "1.2.3", object{"os": list("win32"), "cpu": list("!arm64")}))
	s.publish("", one("plain", "1.0.0", object{}))
}

func TestPlatformPackages(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	publishFast(s)
	t.Setenv("npm_config_registry", s.URL)
	all := []string{
		" fast-1.0.0.tgz  pkg:npm/fast@1.0.0",
		"node_modules/@fast/darwin-arm64 darwin-arm64-1.0.0.tgz darwin-arm64 pkg:npm/%40fast/darwin-arm64@1.0.0",
		"node_modules/@fast/lib-linux-x64 lib-linux-x64-2.0.0.tgz linux-x64-glibc pkg:npm/%40fast/lib-linux-x64@2.0.0",
		"node_modules/@fast/linux-x64 linux-x64-1.0.0.tgz linux-x64-glibc pkg:npm/%40fast/linux-x64@1.0.0",
		"node_modules/@fast/linux-x64-musl linux-x64-musl-1.0.0.tgz linux-x64-musl pkg:npm/%40fast/linux-x64-musl@1.0.0",
		"node_modules/@fast/win32 win32-x64-1.2.3.tgz win32-!arm64 pkg:npm/%40other/win32-x64@1.2.3",
	}
	pick := func(i ...int) []string {
		var s []string
		for _, n := range i {
			s = append(s, all[n])
		}
		return s
	}
	for _, test := range []struct {
		platform string
		want     []string
	}{
		{"", all},
		{"all", all},
		{"none", pick(0)},
		{"linux-x64", pick(0, 2, 3, 4)},
		{"linux-x64-musl", pick(0, 4)},
		{"linux/amd64/gnu", pick(0, 2, 3)},
		{"darwin-arm64,win32-x64", pick(0, 1, 5)},
		{"windows-arm64", pick(0)},
	} {
		t.Run(test.platform, func(t *testing.T) {
			o := mustOpen(t, "npm:fast", func(r *source.Request) { r.Platform = test.platform })
			var got []string
			for _, p := range o.Release.Parts {
				got = append(got, fmt.Sprint(p.Path, " ", p.Filename, " ", p.Platform, " ", p.PURL))
				if p.Digest == "" || p.Size == 0 {
					t.Errorf("part %+v", p)
				}
				if _, err := o.Workspace.FS().Open(strings.TrimPrefix(p.Path+"/package.json", "/")); err != nil {
					t.Error(err)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("parts (-want +got):\n%s", diff)
			}
			notes := noteTexts(o)
			if none := strings.Contains(notes, "this release has no platform package for windows-arm64, as chosen by --platform"); none != (test.platform == "windows-arm64") {
				t.Errorf("notes = %q", notes)
			}
			if test.platform == "none" {
				if !strings.Contains(notes, "not looked at: its optional dependencies") {
					t.Errorf("notes = %q", notes)
				}
				return
			}
			if left := strings.Contains(notes, "not looked at: packages for other platforms than those chosen by --platform: "); left == (test.platform == "" || test.platform == "all") {
				t.Errorf("notes = %q", notes)
			}
			for _, says := range []string{
				"not looked at: optional dependencies that the registry does not have: @fast/gone@1.0.0",
				"not looked at: the optional dependency from-git, which is no package of a registry",
			} {
				if !strings.Contains(notes, says) {
					t.Errorf("notes = %q; want %q", notes, says)
				}
			}
		})
	}
	_, err := open(t, "npm:fast", func(r *source.Request) { r.Platform = "beos-x64" })
	oneSentence(t, err, fault.Invalid, `"beos-x64" is not a platform; use all, host, none or names like linux-x64`)

	o := mustOpen(t, "npm:fast", func(r *source.Request) { r.Platform = "host" })
	for _, p := range o.Release.Parts[1:] {
		if strings.Contains(p.Platform, "musl") && strings.Contains(fmt.Sprint(o.Release.Parts), "glibc") {
			t.Errorf("this machine has two C libraries: %+v", o.Release.Parts)
		}
	}
}

// A package that has native code itself is complete without the others, unless
// they are asked for; a note says that they are there.
func TestPlatformPackagesOfNativeParent(t *testing.T) {
	for _, test := range []struct {
		name, path, content string
		native              bool
	}{
		{"ELF", "a.node", "\x7fELF" + strings.Repeat("\x00", 100), true},
		{"PE", "a.dll", "MZ" + strings.Repeat("\x00", 58) + "\x80\x00\x00\x00" + strings.Repeat("\x00", 100), true},
		{"Mach-O", "a.dylib", "\xcf\xfa\xed\xfe" + strings.Repeat("\x00", 100), true},
		{"fat Mach-O", "a.dylib", "\xca\xfe\xba\xbe\x00\x00\x00\x02" + strings.Repeat("\x00", 100), true},
		{"WebAssembly", "a.wasm", "\x00asm\x01\x00\x00\x00" + strings.Repeat("\x00", 100), true},
		{"Java class", "A.class", "\xca\xfe\xba\xbe\x00\x00\x00\x34" + strings.Repeat("\x00", 100), false},
		{"text", "MZ.txt", "MZ" + strings.Repeat("abc", 100), false},
		{"inside an archive", "inner.tgz", string(tgz(map[string]string{"a.node": "\x7fELF" + strings.Repeat("\x00", 100)})), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			isolate(t)
			s := newServer(t, "registry.example")
			m := object{"optionalDependencies": object{"@p/linux": "1.0.0"}}
			m["dist"] = s.tarball("", "p", "1.0.0", tgz(map[string]string{"package/package.json": "{}", "package/" + test.path: test.content}))
			s.publish("", one("p", "1.0.0", m))
			s.publish("", one("@p/linux", "1.0.0", object{"os": list("linux")}))
			t.Setenv("npm_config_registry", s.URL)
			o := mustOpen(t, "npm:p")
			if alone := len(o.Release.Parts) == 1; alone != test.native {
				t.Errorf("parts = %+v", o.Release.Parts)
			}
			if noted := strings.Contains(noteTexts(o), "(--platform all looks at them): @p/linux"); noted != test.native {
				t.Errorf("notes = %v", o.Notes)
			}
			if o = mustOpen(t, "npm:p", func(r *source.Request) { r.Platform = "all" }); len(o.Release.Parts) != 2 {
				t.Errorf("parts with all = %+v", o.Release.Parts)
			}
		})
	}
}

func TestPlatformPackagesCap(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	dependencies := object{}
	for i := range 150 {
		name := fmt.Sprintf("@many/p%03d", i)
		dependencies[name] = "1.0.0"
		s.publish("", one(name, "1.0.0", object{"os": list("linux")}))
	}
	s.publish("", one("many", "1.0.0", object{"optionalDependencies": dependencies}))
	t.Setenv("npm_config_registry", s.URL)
	o := mustOpen(t, "npm:many")
	if n := len(o.Release.Parts); n != 33 || o.Release.Parts[32].Path != "node_modules/@many/p031" {
		t.Errorf("%d parts; the last is %+v", n, o.Release.Parts[n-1])
	}
	notes := noteTexts(o)
	for _, says := range []string{"22 further optional dependencies, beyond the first 128: @many/p128", "96 platform packages beyond the caps of 32 and 500 MiB: @many/p032, @many/p033", "@many/p127"} {
		if !strings.Contains(notes, says) {
			t.Errorf("notes = %q; want %q", notes, says)
		}
	}
}

// What the package brings along in node_modules is not fetched again, and
// another version of what is there already goes below the one that wants it.
func TestPlatformPackagesInPlace(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	m := object{"optionalDependencies": object{"@p/bundled": "1.0.0", "@p/a": "1.0.0", "@p/lib": "1.0.0"}}
	m["dist"] = s.tarball("", "p", "1.0.0", tgz(map[string]string{"package/package.json": "{}", "package/node_modules/@p/bundled/package.json": "{}"}))
	s.publish("", one("p", "1.0.0", m))
	s.publish("", one("@p/a", "1.0.0", object{"os": list("linux"), "optionalDependencies": object{"@p/lib": "^2"}}))
	s.publish("", npmPackage{"@p/lib", object{"latest": "2.0.0"}, map[string]object{"1.0.0": {"os": list("linux")}, "2.0.0": {"os": list("linux")}}})
	t.Setenv("npm_config_registry", s.URL)
	got := map[string]string{}
	for _, p := range mustOpen(t, "npm:p").Release.Parts {
		got[p.Path] = p.Filename
	}
	want := map[string]string{
		"": "p-1.0.0.tgz", "node_modules/@p/a": "a-1.0.0.tgz", "node_modules/@p/lib": "lib-1.0.0.tgz",
		"node_modules/@p/a/node_modules/@p/lib": "lib-2.0.0.tgz",
	}
	if !maps.Equal(got, want) {
		t.Errorf("parts = %v", got)
	}
	if slices.Contains(s.asked(), "/@p%2fbundled/1.0.0") {
		t.Error("a bundled package was asked for")
	}
}

// A tampered platform package is no detail.
func TestPlatformPackageCorrupt(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	publishFast(s)
	s.serve("/@fast/darwin-arm64/-/darwin-arm64-1.0.0.tgz", "", tgz(map[string]string{"package/evil": ""}))
	t.Setenv("npm_config_registry", s.URL)
	_, err := open(t, "npm:fast")
	oneSentence(t, err, fault.Corrupt, "darwin-arm64-1.0.0.tgz is not what the registry promised")
}

// Without the network a scan goes on with the parts that were kept.
func TestPlatformPackagesOffline(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	publishFast(s)
	t.Setenv("npm_config_registry", s.URL)
	dir := t.TempDir()
	mustOpen(t, "npm:fast", func(r *source.Request) { r.CacheDir = dir; r.Platform = "darwin-arm64" })
	o := mustOpen(t, "npm:fast", func(r *source.Request) {
		r.CacheDir = dir
		r.Egress = newClient(egress.Options{Offline: true})
	})
	if len(o.Release.Parts) != 2 || !strings.Contains(noteTexts(o), "--offline is set") || !strings.Contains(noteTexts(o), "not kept for a run with --offline, or that the registry does not have: @fast/lib-linux-x64@2.0.0") {
		t.Errorf("parts = %+v, notes = %v", o.Release.Parts, o.Notes)
	}
}
