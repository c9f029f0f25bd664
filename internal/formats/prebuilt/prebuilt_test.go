package prebuilt_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/formats/prebuilt"
)

// resolve resolves the files of a package for one machine with Node 22.
func resolve(t testing.TB, files map[string]string, targets ...prebuilt.Target) []*inventory.Download {
	t.Helper()
	if len(targets) == 0 {
		targets = []prebuilt.Target{{Platform: "linux", Arch: "x64", Libc: "glibc"}}
	}
	found, err := prebuilt.Resolve(prebuilt.Package{
		Manifest: []byte(files["package.json"]),
		Open:     func(name string) ([]byte, bool) { s, ok := files[name]; return []byte(s), ok },
	}, prebuilt.Options{Targets: targets, Nodes: []prebuilt.Node{{ABI: "127", NAPI: 10}}})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// addresses writes downloads as "resolver address…".
func addresses(found []*inventory.Download) []string {
	var out []string
	for _, d := range found {
		line := d.Resolver
		for _, a := range d.Assets {
			line += " " + a.URL
		}
		if d.Problem != "" {
			line += " (" + d.Problem + ")"
		}
		out = append(out, line)
	}
	return out
}

// preGyp is a manifest that node-pre-gyp takes, with more in its binary.
func preGyp(script, binary string) string {
	return fmt.Sprintf(`{"name": "@s/a-b", "version": "1.2.3-rc.1+b.5", "main": "x.js", "scripts": {"install": %q},
		"binary": {"module_name": "a_b", "module_path": "lib/{node_napi_label}", %s}}`, script, binary)
}

// A crafted package is one that was made for a test. What its tool should ask
// for is also compared with what the tool does ask for, where tools can be run.
type crafted struct {
	name   string
	files  map[string]string
	target prebuilt.Target
	want   string // the first address, with Node 22
}

func plainPreGyp(script, binary string) string {
	return strings.Replace(preGyp(script, binary), "lib/{node_napi_label}", "lib", 1)
}

const (
	anyHost    = `"host": "https://registry.example"`
	preGypName = "a_b-v1.2.3-rc.1-node-v127-linux-x64.tar.gz"
)

var preGypPackages = []struct{ name, manifest, want string }{
	{"defaults", plainPreGyp("node-pre-gyp install", anyHost), "https://registry.example/" + preGypName},
	{"a host with a path", plainPreGyp("node-pre-gyp install", `"host": "https://registry.example/x/y"`), "https://registry.example/x/y/" + preGypName},
	{"relative and absolute paths", plainPreGyp("node-pre-gyp install", `"host": "https://registry.example/x", "remote_path": "/z/../{version}//"`), "https://registry.example/1.2.3-rc.1/" + preGypName},
	{"dots", plainPreGyp("node-pre-gyp install", `"host": "https://registry.example/x", "remote_path": "./{name}/v{major}.{minor}.{patch}/"`), "https://registry.example/x/@s/a-b/v1.2.3/" + preGypName},
	{"all keys", plainPreGyp("node-pre-gyp install", anyHost+`, "package_name": "{configuration}_{prerelease}_{build}_{runtime}_{node_abi_napi}_{napi_version}_{target_platform}_{target_arch}_{libc}_{module_main}_{toolset}_{bucket}.gz"`),
		"https://registry.example/Release_rc.1_b.5_node_napi_10_linux_x64_glibc_x.js__undefined.gz"},
	{"Node-API", preGyp("node-pre-gyp install", anyHost+`, "package_name": "{napi_build_version}-{node_napi_label}", "napi_versions": [3, 9, 99]`), "https://registry.example/9-napi-v9"},
	{"a toolset and a configuration", plainPreGyp("node-pre-gyp install --toolset=v141 --debug", anyHost+`, "remote_path": "{toolset}/{configuration}"`), "https://registry.example/v141/Debug/" + preGypName},
	{"another machine", plainPreGyp("node-pre-gyp install --target_arch=ia32 --target_platform=win32 --target_libc=musl --target=20.1.0", anyHost+`, "package_name": "{platform}-{arch}-{libc}-{node_abi}"`),
		"https://registry.example/win32-ia32-musl-node-v115"},
	{"a staging host", plainPreGyp("node-pre-gyp install", `"host": "", "staging_host": "https://staging.example", "production_host": "https://registry.example"`), "https://registry.example/" + preGypName},
	{"what only the machine knows", plainPreGyp("node-pre-gyp install", anyHost+`, "package_name": "{libc_version}.gz"`), "https://registry.example/{libc_version}.gz"},
	{"a plus", plainPreGyp("node-pre-gyp install", anyHost+`, "package_name": "a+b+c"`), "https://registry.example/a%2Bb+c"},
	{"another word for it", plainPreGyp("node-pre-gyp reinstall", anyHost), "https://registry.example/" + preGypName},
	{"through npx and the shell", plainPreGyp("sh -c 'FOO=1 npx --yes node-pre-gyp install' || true", anyHost), "https://registry.example/" + preGypName},
	{"by its file", plainPreGyp("node ./node_modules/@mapbox/node-pre-gyp/bin/node-pre-gyp install", anyHost), "https://registry.example/" + preGypName},
}

func TestNodePreGyp(t *testing.T) {
	for _, test := range preGypPackages {
		t.Run(test.name, func(t *testing.T) {
			got := addresses(resolve(t, map[string]string{"package.json": test.manifest}))
			if !slices.Equal(got, []string{"node-pre-gyp " + test.want}) {
				t.Errorf("got %q; want %q", got, test.want)
			}
		})
	}
}

func TestNodePreGypThatAsksForNothing(t *testing.T) {
	for _, test := range []struct{ name, manifest, want string }{
		{"build", preGyp("node-pre-gyp build", `"host": "https://registry.example"`), ""},
		{"from source", preGyp("node-pre-gyp install --build-from-source", `"host": "https://registry.example"`), ""},
		{"no host", preGyp("node-pre-gyp install", `"x": 1`), "node-pre-gyp (node-pre-gyp refuses a package.json without binary.host)"},
		{"no main", `{"name": "a", "version": "1.0.0", "scripts": {"install": "node-pre-gyp install"}, "binary": {"module_name": "a", "module_path": "b", "host": "https://registry.example"}}`,
			"node-pre-gyp (node-pre-gyp refuses a package.json without main)"},
		{"versions that nothing names", strings.Replace(preGyp("node-pre-gyp install", `"host": "https://registry.example", "napi_versions": [3]`), "lib/{node_napi_label}", "lib", 1),
			"node-pre-gyp (node-pre-gyp refuses binary.napi_versions without {napi_build_version} in module_path and in remote_path or package_name)"},
		{"a host that is none", preGyp("node-pre-gyp install", `"host": "https://", "package_name": "{napi_build_version}", "napi_versions": [3]`), "node-pre-gyp (its addresses cannot be read)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(addresses(resolve(t, map[string]string{"package.json": test.manifest})), "\n")
			if got != test.want {
				t.Errorf("got %q; want %q", got, test.want)
			}
		})
	}
}

const (
	prebuildRepository = `"repository": {"type": "git", "url": "git+https://github.com/o/r.git"}`
	prebuildFrom       = "https://github.com/o/r/releases/download/"
)

var alpine = prebuilt.Target{Platform: "linux", Arch: "arm64", Libc: "musl"}

func prebuildManifest(name, script, more string) string {
	return fmt.Sprintf(`{"name": %q, "version": "1.2.3-rc.1", "scripts": {"install": %q}, %s}`, name, script, more)
}

var prebuildPackages = []crafted{
	{"defaults", map[string]string{"package.json": prebuildManifest("a", "prebuild-install || node-gyp rebuild", prebuildRepository)}, prebuilt.Targets[0], prebuildFrom + "v1.2.3-rc.1/a-v1.2.3-rc.1-node-v127-linux-x64.tar.gz"},
	{"musl", map[string]string{"package.json": prebuildManifest("a", "prebuild-install", prebuildRepository)}, alpine, prebuildFrom + "v1.2.3-rc.1/a-v1.2.3-rc.1-node-v127-linuxmusl-arm64.tar.gz"},
	{"Node-API", map[string]string{"package.json": prebuildManifest("a", "prebuild-install -r napi", prebuildRepository+`, "binary": {"napi_versions": [3, 6, 99]}`)}, prebuilt.Targets[0], prebuildFrom + "v1.2.3-rc.1/a-v1.2.3-rc.1-napi-v6-linux-x64.tar.gz"},
	{"Node-API without versions", map[string]string{"package.json": prebuildManifest("a", "prebuild-install --runtime=napi", prebuildRepository)}, prebuilt.Targets[0], prebuildFrom + "v1.2.3-rc.1/a-v1.2.3-rc.1-napi-v127-linux-x64.tar.gz"},
	{"config", map[string]string{"package.json": prebuildManifest("a", "prebuild-install", prebuildRepository+`, "config": {"runtime": "napi", "target": 4}`)}, prebuilt.Targets[0], prebuildFrom + "v1.2.3-rc.1/a-v1.2.3-rc.1-napi-v4-linux-x64.tar.gz"},
	{"a target of Node", map[string]string{"package.json": prebuildManifest("a", "prebuild-install -t 18.0.0 --arch arm --platform linux --libc musl", prebuildRepository)}, prebuilt.Targets[0], prebuildFrom + "v1.2.3-rc.1/a-v1.2.3-rc.1-node-v108-linuxmusl-arm.tar.gz"},
	{"a prefix and a scope", map[string]string{"package.json": prebuildManifest("@s-c/a", "prebuild-install --tag-prefix @s/a@", prebuildRepository)}, prebuilt.Targets[0], prebuildFrom + "@s/a@1.2.3-rc.1/a-v1.2.3-rc.1-node-v127-linux-x64.tar.gz"},
	{"a scope with a hyphen, before version 6", map[string]string{"package.json": prebuildManifest("@s-c/a", "prebuild-install", prebuildRepository+`, "dependencies": {"prebuild-install": "^5.3.0"}`)}, prebuilt.Targets[0], prebuildFrom + "v1.2.3-rc.1/@s-c/a-v1.2.3-rc.1-node-v127-linux-x64.tar.gz"},
	{"a file of options", map[string]string{"package.json": prebuildManifest("a", "prebuild-install", prebuildRepository), ".prebuild-installrc": `{"tag-prefix": "x"}`}, prebuilt.Targets[0], prebuildFrom + "x1.2.3-rc.1/a-v1.2.3-rc.1-node-v127-linux-x64.tar.gz"},
	{"lines of options", map[string]string{"package.json": prebuildManifest("a", "prebuild-install", prebuildRepository), ".prebuild-installrc": "; a\ntag-prefix = \"x\"\n"}, prebuilt.Targets[0], prebuildFrom + "x1.2.3-rc.1/a-v1.2.3-rc.1-node-v127-linux-x64.tar.gz"},
	{"a repository named elsewhere", map[string]string{"package.json": prebuildManifest("a", "prebuild-install", `"repository": "github:o/r", "homepage": "https:\/\/github.com/o/h#readme"`)}, prebuilt.Targets[0], "https://github.com/o/h"},
	{"a host", map[string]string{"package.json": prebuildManifest("a", "prebuild-install", `"binary": {"host": "https://registry.example/x/", "remote_path": "./{ name }/{prerelease}/", "package_name": "/{module_name}-{abi}-{build}.tar.gz", "module_name": "m"}`)}, prebuilt.Targets[0],
		"https://registry.example/x/a/rc.1/m-127-undefined.tar.gz"},
	{"an address", map[string]string{"package.json": prebuildManifest("a", "prebuild-install -d https://registry.example/{name}/{major}/{minor}/{patch}", prebuildRepository)}, prebuilt.Targets[0], "https://registry.example/a/1/2/3-rc"},
	{"a script that runs it", map[string]string{"package.json": prebuildManifest("a", "node tools/install", prebuildRepository+`, "binary": {"napi_versions": [3]}`), "tools/install.js": "// 'prebuild-install'\nspawn('prebuild-install', ['--runtime', 'napi'])"}, prebuilt.Targets[0],
		prebuildFrom + "v1.2.3-rc.1/a-v1.2.3-rc.1-napi-v3-linux-x64.tar.gz"},
	{"a script that loads it", map[string]string{"package.json": prebuildManifest("a", "node install.js", prebuildRepository), "install.js": "require('./lib/get')", "lib/get.js": "const dl = require('prebuild-install/download')"}, prebuilt.Targets[0], prebuildFrom + "v1.2.3-rc.1/a-v1.2.3-rc.1-node-v127-linux-x64.tar.gz"},
	{"another script of npm", map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"install": "npm run -s get", "get": "cd . && prebuild-install"}, ` + prebuildRepository + `}`}, prebuilt.Targets[0], prebuildFrom + "v1.0.0/a-v1.0.0-node-v127-linux-x64.tar.gz"},
	{"behind node-gyp-build", map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"install": "node-gyp-build \"prebuild-install\""}, ` + prebuildRepository + `}`}, prebuilt.Targets[0], prebuildFrom + "v1.0.0/a-v1.0.0-node-v127-linux-x64.tar.gz"},
}

func TestPrebuildInstall(t *testing.T) {
	for _, test := range prebuildPackages {
		t.Run(test.name, func(t *testing.T) {
			got := addresses(resolve(t, test.files, test.target))
			if !slices.Equal(got, []string{"prebuild-install " + test.want}) {
				t.Errorf("got %q; want %q", got, test.want)
			}
		})
	}
	got := addresses(resolve(t, map[string]string{"package.json": prebuildManifest("a", "prebuild-install", `"x": 1`)}))
	if want := []string{"prebuild-install (prebuild-install finds no repository of GitHub in package.json)"}; !slices.Equal(got, want) {
		t.Errorf("without a repository: %q; want %q", got, want)
	}
}

const (
	cacheRepository = `"repository": {"type": "git", "url": "git://github.com/o/r.git"}`
	cacheSlot       = "https://github.com/o/r/releases/download/1.0.0/linux-x64-127"
)

func cacheManifest(script, more string) string {
	return fmt.Sprintf(`{"name": "a", "version": "1.0.0", "scripts": {"install": %q, "rebuild": "node-gyp rebuild"}, %s}`, "install-from-cache "+script, more)
}

var cachePackages = []struct {
	name, manifest, want string
	pin                  inventory.Pin
	hash                 string
}{
	{"plain", cacheManifest("--artifact a.node", cacheRepository), cacheSlot, inventory.Unpinned, ""},
	{"hashes", cacheManifest("--artifact a.node", cacheRepository+`, "artifactHashes": {"linux-x64-127": "sha256:aa"}`), cacheSlot, inventory.PinnedPackage, "sha256:aa"},
	{"hashes that its version does not read", cacheManifest("--artifact a.node", cacheRepository+`, "artifactHashes": {"linux-x64-127": "sha256:aa"}, "dependencies": {"install-artifact-from-github": "1.4.0"}`), cacheSlot, inventory.Unpinned, ""},
	{"hashes, but of another host", cacheManifest("--artifact a.node --host https://registry.example/", cacheRepository+`, "artifactHashes": {"linux-x64-127": "sha256:aa"}`), "https://registry.example/o/r/releases/download/1.0.0/linux-x64-127", inventory.Unpinned, "sha256:aa"},
	{"parts of names", cacheManifest("--artifact a.node --prefix p- --suffix -s --napi 8 --skip-path --skip-ver", cacheRepository), "https://github.com/p-linux-x64-napi-v8-s", inventory.Unpinned, ""},
	{"a short name", cacheManifest("--artifact a.node", `"github": "o/r"`), cacheSlot, inventory.Unpinned, ""},
}

func TestInstallFromCache(t *testing.T) {
	for _, test := range cachePackages {
		t.Run(test.name, func(t *testing.T) {
			found := resolve(t, map[string]string{"package.json": test.manifest})
			if len(found) != 1 || len(found[0].Assets) != 1 {
				t.Fatalf("got %q", addresses(found))
			}
			d := found[0]
			if a := d.Assets[0]; a.URL != test.want+".br" || !slices.Equal(a.Then, []string{test.want + ".gz", test.want}) || d.Pin != test.pin || a.Hash != test.hash || d.Fallback != "node-gyp rebuild" {
				t.Errorf("got %+v; want %s, %s, %q", d, test.want, test.pin, test.hash)
			}
		})
	}
	for _, script := range []string{"--force-build --artifact a.node"} {
		if found := resolve(t, map[string]string{"package.json": cacheManifest(script, cacheRepository)}); len(found) != 0 {
			t.Errorf("%s: %q", script, addresses(found))
		}
	}
}

// What is said of a download as a whole.
func TestDownload(t *testing.T) {
	got := resolve(t, map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "main": "a.js", "repository": "git+https://github.com/O/a.git",
		"dependencies": {"@mapbox/node-pre-gyp": "^1.0.0"}, "scripts": {"install": "node-pre-gyp install --fallback-to-build"},
		"binary": {"module_name": "a-b", "module_path": "lib/{napi_build_version}", "host": "https://github.com/o/a/releases/download/", "package_name": "{platform}-{arch}-v{napi_build_version}.tar.gz", "napi_versions": [3, 6]}}`},
		prebuilt.Targets[:4]...)
	want := []*inventory.Download{{
		Path: "package.json", Resolver: prebuilt.NodePreGyp, Tool: "@mapbox/node-pre-gyp ^1.0.0", Stage: "install", Command: "node-pre-gyp install --fallback-to-build",
		Assets: []inventory.Asset{
			{URL: "https://github.com/o/a/releases/download/linux-x64-v6.tar.gz", Platform: "linux", Arch: "x64", ABI: "127", NAPI: 6},
			{URL: "https://github.com/o/a/releases/download/linux-arm64-v6.tar.gz", Platform: "linux", Arch: "arm64", ABI: "127", NAPI: 6},
		},
		Pin: inventory.Unpinned, Owner: inventory.SameOwner, Mutable: true, Fallback: "node-gyp rebuild", Overrides: []string{"npm_config_a_b_binary_host_mirror"}, NAPI: []int{3, 6},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestOwner(t *testing.T) {
	for _, test := range []struct {
		about, host string
		want        inventory.Owner
	}{
		{`"repository": "o/r"`, "https://github.com/o/other/", inventory.SameOwner},
		{`"repository": "git@github.com:O/r.git"`, "https://github.com/o/r/", inventory.SameOwner},
		{`"repository": {"url": "git+ssh://git@github.com/o/r.git"}`, "https://raw.githubusercontent.com/o/r/", inventory.SameOwner},
		{`"repository": "o/r"`, "https://github.com/other/r/", inventory.OtherOwner},
		{`"repository": "gitlab:o/r"`, "https://github.com/o/r/", inventory.OtherOwner},
		{`"homepage": "https://github.com/o/r#readme"`, "https://github.com/o/r/", inventory.SameOwner},
		{`"x": 1`, "https://github.com/o/r/", inventory.UnknownOwner},
		{`"repository": "o/r"`, "https://o.github.io/r/", inventory.SameOwner},
		{`"repository": "o/r"`, "https://other.github.io/r/", inventory.UnknownOwner},
		{`"repository": "o/r"`, "https://bucket.s3.amazonaws.com/", inventory.UnknownOwner},
		{`"repository": "o/r", "homepage": "https://www.addon.example/docs"`, "https://files.addon.example/x/", inventory.SameOwner},
		{`"repository": "o/r", "homepage": "https://mine.s3.amazonaws.com/"`, "https://mine.s3.amazonaws.com/x/", inventory.UnknownOwner},
		{`"repository": "https://git.addon.example/o/r"`, "https://git.addon.example/o/r/", inventory.SameOwner},
	} {
		found := resolve(t, map[string]string{"package.json": fmt.Sprintf(`{"name": "a", "version": "1.0.0", "main": "a", "scripts": {"install": "node-pre-gyp install"}, "binary": {"module_name": "a", "module_path": "a", "host": %q}, %s}`, test.host, test.about)})
		if len(found) != 1 || found[0].Owner != test.want {
			t.Errorf("%s and %s: %v; want %s", test.about, test.host, found[0].Owner, test.want)
		}
	}
}

func TestScripts(t *testing.T) {
	for _, test := range []struct {
		name, code string
		want       []string // addresses
		pin        inventory.Pin
	}{
		{"a plain address", "const https = require('https')\nhttps.get('https://registry.example/a/b.gz', r => r.pipe(x))", []string{"https://registry.example/a/b.gz"}, inventory.Unpinned},
		{"nothing that fetches", "console.log('https://registry.example/a/b.gz')", nil, ""},
		{"pages", "const got = require('got')\nlog('https://github.com/o/r/issues')\nlog('see https://registry.example/x for more')\nfetch('https://registry.example/docs/x.html'); a = 'https://github.com/o/r'", nil, ""},
		{"a template", "const pkg = require('./package.json')\nfetch(`https://registry.example/v${pkg.version}/a-${process.platform}-${process.arch}-${name}.gz`)", []string{"https://registry.example/v1.0.0/a-linux-x64-${name}.gz"}, inventory.Unpinned},
		{"constants", "const host = process.env.A_MIRROR || 'https://registry.example'\nconst base = `${host}/releases`\nconst platform = process.env.npm_config_platform || os.platform()\nfetch(`${base}/a-${platform}.gz`)",
			[]string{"https://registry.example/releases/a-linux.gz"}, inventory.Unpinned},
		{"sums", "const base = 'https://registry.example/v' + pkg.version + '/'\nrequest(base + 'a-' + process.arch + '.gz')\nvar request = require('request')", []string{"https://registry.example/v1.0.0/a-x64.gz"}, inventory.Unpinned},
		{"a name with two values", "let base = 'https://registry.example/a/'\nbase = 'https://registry.example/b/'\nfetch(base + 'x.gz')", []string{"https://registry.example/a/", "https://registry.example/b/"}, inventory.Unpinned},
		{"a hash", "fetch('https://registry.example/a.gz').then(b => {\n const sum = crypto.createHash('sha256').update(b).digest('hex')\n if (sum !== expected) throw 1 })", []string{"https://registry.example/a.gz"}, inventory.PinnedScript},
		{"a hash that nothing compares", "fetch('https://registry.example/a.gz'); log(createHash('sha256').update(b).digest('hex'))", []string{"https://registry.example/a.gz"}, inventory.Unpinned},
		{"a hash for a name of the cache", "fetch('https://registry.example/a.gz'); createHash('md5').update(url); a === b", []string{"https://registry.example/a.gz"}, inventory.Unpinned},
		{"a comment", "fetch(x)\n// https://registry.example/a.gz\n/*\n 'https://registry.example/a.gz' */", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := resolve(t, map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"postinstall": "node install"}}`, "install.js": test.code})
			var got []string
			pin := inventory.Pin("")
			for _, d := range found {
				pin = d.Pin
				for _, a := range d.Assets {
					got = append(got, a.URL)
				}
			}
			if !slices.Equal(got, test.want) || pin != test.pin {
				t.Errorf("got %q, %s; want %q, %s", got, pin, test.want, test.pin)
			}
		})
	}
}

func TestFetchesOfOtherLanguages(t *testing.T) {
	for _, test := range []struct {
		name     string
		language prebuilt.Language
		code     string
		want     prebuilt.Found
	}{
		{"Python", prebuilt.Python, "import urllib.request\nV = '1.0'\nBASE = 'https://registry.example/' + V\nurllib.request.urlretrieve(f\"{BASE}/a-{arch}.so\", 'a')",
			prebuilt.Found{URLs: []string{"https://registry.example/1.0/a-{arch}.so"}, Line: 4}},
		{"Python, in pieces", prebuilt.Python, "VERSION = '1.0'\nurl = (\n  f'https://registry.example/a/'\n  f'v{VERSION}/a-{name}.tar.xz'\n)\nurlopen(url)",
			prebuilt.Found{URLs: []string{"https://registry.example/a/v1.0/a-{name}.tar.xz"}, Line: 3}},
		{"Python with a hash", prebuilt.Python, "import requests, hashlib\nd = requests.get('https://registry.example/a.so').content\nassert hashlib.sha256(d).hexdigest() == SUM",
			prebuilt.Found{URLs: []string{"https://registry.example/a.so"}, Line: 2, Hash: true}},
		{"shell", prebuilt.Shell, "V=1.0\ncurl -sLo a https://registry.example/$V/a.gz && sha256sum -c sums",
			prebuilt.Found{URLs: []string{"https://registry.example/$V/a.gz"}, Line: 2, Hash: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, prebuilt.Fetches(test.language, test.code)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestNPMInstalls(t *testing.T) {
	got := addresses(resolve(t, map[string]string{
		"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"preinstall": "npm install --no-save b@2 ./c", "postinstall": "node x.js"}}`,
		"x.js":         "execSync(`npm install --loglevel=error @s/d@${pkg.version}`)",
	}))
	if want := []string{"npm npm:b@2", "npm npm:@s/d@1.0.0"}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}

func TestCommands(t *testing.T) {
	for _, test := range []struct {
		line string
		want []prebuilt.Command
	}{
		{`a "b c" && (d || e 'f"') ; g | h & i`, []prebuilt.Command{{[]string{"a", "b c"}, ""}, {[]string{"d"}, "&&"}, {[]string{"e", `f"`}, "||"}, {[]string{"g"}, ";"}, {[]string{"h"}, "|"}, {[]string{"i"}, "&"}}},
		{`a\ b "c\"d" 'e\f' ""`, []prebuilt.Command{{[]string{"a b", `c"d`, `e\f`, ""}, ""}}},
		{"&&||()", nil},
	} {
		if diff := cmp.Diff(test.want, prebuilt.Commands(test.line)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.line, diff)
		}
	}
}

func TestBounds(t *testing.T) {
	loop := map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"install": "npm run a; node a.js", "a": "npm run b && npm run b", "b": "npm run a && npm run a"}}`, "a.js": "require('./b.js')", "b.js": "require('./a.js')"}
	if found := resolve(t, loop); len(found) != 0 {
		t.Errorf("scripts that run each other: %q", addresses(found))
	}
	many := map[string]string{"package.json": `{"name": "a", "version": "1.0.0", "scripts": {"install": "node a.js"}}`}
	for i := range 100 {
		many["a.js"] += fmt.Sprintf("fetch('https://registry.example/a%d.gz'); fetch(`https://registry.example/b%d-${process.platform}-${process.arch}`)\n", i, i)
	}
	found := resolve(t, many, prebuilt.Targets...)
	if len(found) != 1 || len(found[0].Assets) != 64 || found[0].Omitted == 0 {
		t.Errorf("%d downloads, %d assets, %d omitted", len(found), len(found[0].Assets), found[0].Omitted)
	}
	if _, err := prebuilt.Resolve(prebuilt.Package{Manifest: []byte("[")}, prebuilt.Options{}); err == nil {
		t.Error("a manifest that is no JSON has no error")
	}
}

func FuzzResolve(f *testing.F) {
	f.Add(preGyp("node-pre-gyp install", `"host": "https://registry.example", "package_name": "{name}{libc}", "napi_versions": [3]`), "", "")
	f.Add(`{"name": "@s/a", "version": "1.0.0", "scripts": {"install": "prebuild-install -r napi || (a && node x.js)"}, "repository": "github.com/o/r"}`, "fetch(`https://x.example/${a}` + b + 'c')", "tag-prefix=x")
	f.Add(`{"scripts": {"install": "install-from-cache --artifact a --prefix"}, "github": "o/r", "artifactHashes": {}}`, "a = a + 'b'; https://", "{")
	f.Add(`{"version": "1.0.0", "main": "{main}", "name": "{name}{version}", "scripts": {"preinstall": "node-pre-gyp install"}, "binary": {"module_name": "{host}", "module_path": "{module_path}", "host": "https://{host}", "package_name": "../../{remote_path}:"}}`, "require('./x')", "")
	f.Fuzz(func(t *testing.T, manifest, script, rc string) {
		found, err := prebuilt.Resolve(prebuilt.Package{Manifest: []byte(manifest), Open: func(name string) ([]byte, bool) {
			if name == ".prebuild-installrc" {
				return []byte(rc), true
			}
			return []byte(script), strings.HasSuffix(name, ".js")
		}}, prebuilt.Options{})
		if err != nil {
			return
		}
		for _, d := range found {
			if len(d.Assets) > 64 || d.Resolver == "" || d.Pin == "" || d.Owner == "" || len(d.Assets) == 0 && d.Problem == "" {
				t.Errorf("%+v", d)
			}
			for _, a := range d.Assets {
				if a.URL == "" {
					t.Errorf("an asset without an address: %+v", d)
				}
			}
		}
	})
}

func FuzzFetches(f *testing.F) {
	f.Add("const a = b || 'https://x.example/'\nfetch(a + `${c}`)")
	f.Add("a = `https://${a}${a}${a}`; fetch(a); a = (\n'x' + a)")
	f.Add("import requests\nb = f'{a}{a}'; a = '{b}https://x.example/{b}'\ncurl https://x.example/$a")
	f.Fuzz(func(t *testing.T, code string) {
		for _, l := range []prebuilt.Language{prebuilt.JavaScript, prebuilt.Python, prebuilt.Shell} {
			if found := prebuilt.Fetches(l, code); len(found.URLs) > 24 || len(found.URLs) > 0 && found.Line < 1 {
				t.Errorf("%+v", found)
			}
		}
	})
}

// A pattern that looks to the end of the text at each of thousands of places
// would take minutes.
func TestHostileScript(t *testing.T) {
	code := "fetch(x)\n" + strings.Repeat("a = (\n", 80_000)
	began := time.Now()
	prebuilt.Fetches(prebuilt.JavaScript, code)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("%d kB take %v", len(code)>>10, took)
	}
}

// Scripts that run each other, and values that stand in each other, grow with
// every level.
func TestHostileManifest(t *testing.T) {
	const times = 4000
	scripts := `"d": "prebuild-install"`
	for _, s := range [][2]string{{"install", "a"}, {"a", "b"}, {"b", "c"}, {"c", "d"}} {
		scripts += fmt.Sprintf(`, %q: %q`, s[0], strings.Repeat("npm run "+s[1]+";", times))
	}
	long := strings.Repeat("n", 300_000)
	holders := strings.Repeat("{name}", 50_000)
	for _, test := range []struct{ name, manifest string }{
		{"scripts that run each other", `{"name": "a", "version": "1.0.0", "scripts": {` + scripts + `}}`},
		{"tools without end", `{"name": "a", "version": "1.0.0", "scripts": {"install": "` + strings.Repeat("prebuild-install;", times) + `"}}`},
		{"a name in every place of node-pre-gyp", strings.Replace(preGyp("node-pre-gyp install", `"host": "https://registry.example/`+holders+`", "package_name": "{name}"`), "@s/a-b", long, 1)},
		{"a name in every place of prebuild-install", `{"name": "` + long + `", "version": "1.0.0", "scripts": {"install": "prebuild-install"}, "binary": {"host": "https://registry.example/` + holders + `"}}`},
		{"no fallback", `{"name": "a", "version": "1.0.0", "scripts": {"install": "` + strings.Repeat("a;", 16_000) + "||" + strings.Repeat("b;", 16_000) + `"}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := prebuilt.Resolve(prebuilt.Package{Manifest: []byte(test.manifest)}, prebuilt.Options{}); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if took, room := time.Since(began), after.TotalAlloc-before.TotalAlloc; took > 10*time.Second || room > 1<<30 {
				t.Errorf("%d kB take %v and %d MB", len(test.manifest)>>10, took, room>>20)
			}
		})
	}
}
