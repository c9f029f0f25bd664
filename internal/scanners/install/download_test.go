package install_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/scanners/install"
)

// run scans a folder of files, with facts that a source would give.
func run(t testing.TB, files map[string]string, known ...scan.Known) *scan.Result {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, "")
	t.Cleanup(func() { ws.Close() })
	if err := ws.MountDir(workspace.Part{Label: "pkg:npm/a@1.0.0"}, root, nil); err != nil {
		t.Fatal(err)
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{install.Scanner, install.Fetched}, ws, known, scan.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// preGyp is a package whose add-on comes from a host.
func preGyp(host string) string {
	return fmt.Sprintf(`{"name": "a", "version": "1.0.0", "main": "a.js", "repository": "https://github.com/o/a",
"scripts": {"install": "node-pre-gyp install --fallback-to-build"},
"binary": {"module_name": "a", "module_path": "lib", "host": %q, "package_name": "{platform}-{arch}.tar.gz"}}`, host)
}

func TestDownloads(t *testing.T) {
	const repository = `"repository": {"type": "git", "url": "https://github.com/o/a.git"}`
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string   // "severity rule path:line"
		says  []string // in the description
	}{
		{"the author's own", map[string]string{"package.json": preGyp("https://github.com/o/a/releases/download/v1")}, "medium npm-prebuilt package.json:2",
			[]string{"There is no binary in the package.", "node-pre-gyp fetches one from https://github.com/o/a/releases/download/v1/linux-x64.tar.gz or from the address of another platform (5 in all)", "Nothing checks its hash, and what lies there can be replaced at any time.", "If that fails, node-gyp rebuild runs."}},
		{"beside binaries in the package", map[string]string{"package.json": preGyp("https://github.com/o/a/releases/download/v1"), "prebuilds/x.node": "x", "prebuilds/y.node": "x"}, "medium npm-prebuilt package.json:2",
			[]string{"The package holds 2 add-ons for Node, and more can come from elsewhere."}},
		{"somebody else's", map[string]string{"package.json": preGyp("https://github.com/p/a/releases/download/v1")}, "high npm-prebuilt package.json:2",
			[]string{"The address belongs to somebody else than the package's repository."}},
		{"nobody knows whose", map[string]string{"package.json": preGyp("https://a.s3.amazonaws.com")}, "medium npm-prebuilt package.json:2",
			[]string{"The address does not say whether it belongs to the package's author."}},
		{"plain http", map[string]string{"package.json": preGyp("http://github.com/o/a/releases/download/v1")}, "high npm-prebuilt package.json:2",
			[]string{"It travels over plain HTTP, so that anyone on the way can change it."}},
		{"a hash in the package", map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"install": "install-from-cache --artifact a.node"}, "artifactHashes": {"linux-x64-127": "sha256:aa"}, ` + repository + `}`}, "info npm-prebuilt package.json:1",
			[]string{"It is checked against a hash that stands in the package."}},
		{"no address", map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"install": "prebuild-install"}}`}, "low npm-prebuilt package.json:1",
			[]string{"prebuild-install is called to fetch one, but finds no address: prebuild-install finds no repository of GitHub in package.json."}},
		{"a script over plain http", map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"postinstall": "node x.js"}}`, "x.js": "const fs = require('fs')\nconst http = require('http')\nhttp.get('http://registry.example/a.gz', r => r.pipe(fs.createWriteStream('a')))"}, "high script-downloads x.js:2",
			[]string{"It can fetch http://registry.example/a.gz.", "plain HTTP"}},
		{"a script with a hash", map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"postinstall": "node x.js"}}`, "x.js": "fetch(`https://registry.example/${pkg.version}.gz`).then(b => { if (createHash('sha256').update(b).digest('hex') !== sum) throw 1; fs.writeFileSync('a', b) })"}, "low script-downloads x.js:1",
			[]string{"It can fetch https://registry.example/1.0.0.gz.", "The script seems to compare a hash, by its text."}},
		{"a script whose address is elsewhere", map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"postinstall": "node x.js"}}`, "x.js": "fetch(process.argv[2]).then(b => fs.writeFileSync('a', b))"}, "medium script-downloads x.js:1", nil},
		{"a package manager", map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"postinstall": "npm i b@1"}}`}, "low npm-installs-more package.json:1",
			[]string{"package.json installs further packages while the package is installed: b@1."}},
		{"Python", map[string]string{"setup.py": "import requests\nd = requests.get('https://registry.example/a.so').content\nassert sha256(d) == X\n"}, "low python-build-downloads setup.py:2",
			[]string{"setup.py can fetch https://registry.example/a.so. The script seems to compare a hash"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := run(t, test.files)
			rule, _, _ := strings.Cut(strings.SplitN(test.want, " ", 2)[1], " ")
			var found []finding.Finding
			for _, f := range res.Findings {
				if f.Rule == "install/"+rule {
					found = append(found, f)
				}
			}
			if len(found) != 1 {
				t.Fatalf("%d findings of %s; want one", len(found), rule)
			}
			f := found[0]
			if got := fmt.Sprintf("%s %s %s:%d", f.Severity, rule, f.Location.Path, f.Location.Line); got != test.want {
				t.Errorf("got %s; want %s", got, test.want)
			}
			for _, s := range test.says {
				if !strings.Contains(f.Description, s) {
					t.Errorf("description %q; want %q in it", f.Description, s)
				}
			}
			if facts := inventory.Downloads.Of(res); len(facts) != 1 || facts[0].Part != "pkg:npm/a@1.0.0" || facts[0].Path != f.Location.Path {
				t.Errorf("facts: %+v", facts)
			}
		})
	}
}

// One call of a tool is one finding, and its script is not reported again.
func TestDownloadIsReportedOnce(t *testing.T) {
	res := run(t, map[string]string{"package.json": preGyp("https://github.com/o/a")})
	if len(res.Findings) != 1 {
		t.Fatalf("%d findings; want 1: %+v", len(res.Findings), res.Findings)
	}
	var urls []string
	for _, e := range res.Findings[0].Evidence {
		if e.Kind == "url" {
			urls = append(urls, e.From+" "+e.Value)
		}
	}
	want := []string{
		"linux-x64 https://github.com/o/a/linux-x64.tar.gz", "linux-arm64 https://github.com/o/a/linux-arm64.tar.gz",
		"darwin-x64 https://github.com/o/a/darwin-x64.tar.gz", "darwin-arm64 https://github.com/o/a/darwin-arm64.tar.gz", "win32-x64 https://github.com/o/a/win32-x64.tar.gz",
	}
	if !slices.Equal(urls, want) {
		t.Errorf("evidence %q; want %q", urls, want)
	}
}

// What was fetched is compared with what was promised and what was before.
func TestFetched(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	good := &inventory.Fetched{URL: "https://registry.example/a", SHA256: strings.Repeat("a", 64), Path: "install-download/a", Part: "pkg:npm/a@1.0.0", Since: since}
	broken := &inventory.Fetched{URL: "https://registry.example/b", SHA256: strings.Repeat("b", 64), Path: "install-download/b", Promise: "sha256:cc", Broken: true, Since: since}
	changed := &inventory.Fetched{URL: "https://registry.example/c", SHA256: strings.Repeat("c", 64), Path: "install-download/c", Since: since, Before: strings.Repeat("d", 64)}
	res := run(t, map[string]string{"package.json": preGyp("https://registry.example")}, inventory.Fetches.Given(good, broken, changed))
	var got []string
	for _, f := range res.Findings {
		if strings.HasPrefix(f.Rule, "download/") {
			got = append(got, fmt.Sprintf("%s %s %s %s", f.Severity, f.Rule, f.Location.URL, f.Description))
		}
	}
	want := []string{
		"critical download/asset-not-promised https://registry.example/b The package promises sha256:cc for what its installation downloads from https://registry.example/b, but the file there has another hash.",
		"critical download/asset-changed https://registry.example/c The file behind https://registry.example/c, which the installation downloads, changed since 2026-01-02: its SHA-256 was dddddddddddd… and is now cccccccccccc….",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}
