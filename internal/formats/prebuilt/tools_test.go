package prebuilt_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/formats/prebuilt"
)

// published are packages whose installation calls one of the tools, of several
// years, with the tools in the versions that they ask for.
var published = []string{
	"bcrypt@3.0.8", "bcrypt@5.0.1", "bcrypt@5.1.0", "bcrypt@5.1.1", "sqlite3@4.2.0", "sqlite3@5.0.2", "sqlite3@5.1.6", "sqlite3@5.1.7",
	"argon2@0.28.7", "argon2@0.31.2", "better-sqlite3@7.6.2", "better-sqlite3@12.11.1", "keytar@7.9.0", "drivelist@9.2.4", "drivelist@12.0.2",
	"isolated-vm@5.0.4", "re2@1.17.7", "re2@1.20.9", "re2@1.24.0", "canvas@2.11.2", "canvas@3.2.0", "grpc@1.24.11", "sharp@0.29.3", "sharp@0.32.6",
	"@serialport/bindings@9.2.8", "leveldown@4.0.2", "farmhash@3.3.1", "farmhash@4.0.2", "snappy@6.3.5", "kerberos@1.1.7", "kerberos@2.2.2",
	"mongodb-client-encryption@2.9.1", "mongodb-client-encryption@6.3.0", "gl@6.0.2", "gl@8.1.6", "node-hid@2.2.0", "robotjs@0.6.0",
	"libxmljs@0.19.10", "libxmljs2@0.33.0", "iltorb@2.4.5", "gdal@0.11.1", "mapnik@4.5.9", "@mapbox/mapbox-gl-native@5.0.2", "fs-admin@0.19.0",
	"integer@4.0.0", "node-datachannel@0.5.4", "node-libcurl@2.3.4", "node-libcurl@3.0.0", "registry-js@1.15.1", "tree-sitter@0.20.6",
	"@abandonware/bluetooth-hci-socket@0.5.3-10", "@discordjs/opus@0.9.0", "nodegit@0.27.0", "v8-profiler-next@1.9.0", "wrtc@0.4.7", "@tensorflow/tfjs-node@4.22.0",
}

// redirect is loaded before a tool: it sends what would go out over https or
// http to the address in MIRROR, whose path is then the whole address.
const redirect = `
const http = require('http'), https = require('https'), mirror = new URL(process.env.MIRROR)
const request = http.request
function asked(protocol, args) {
  let url = '', options = {}, done
  for (const a of args) {
    if (typeof a === 'string') url = a
    else if (a instanceof URL) url = a.href
    else if (typeof a === 'function') done = a
    else if (a) options = a
  }
  if (!url) url = (options.protocol || protocol) + '//' + (options.hostname || options.host) + (options.port ? ':' + options.port : '') + (options.path || '/')
  return request({ host: mirror.hostname, port: mirror.port, method: 'GET', path: '/?' + encodeURIComponent(url.replace(/:(443|80)\//, '/')), headers: options.headers, agent: false }, done)
}
for (const [module, protocol] of [[http, 'http:'], [https, 'https:']]) {
  module.request = (...args) => asked(protocol, args)
  module.get = (...args) => { const r = asked(protocol, args); r.end(); return r }
}
require('module').syncBuiltinESMExports()
`

// TestAgainstTools runs the real tools, over the package.json of published
// packages, against a server on this machine, and compares what they ask for.
// Of the packages themselves nothing is run.
func TestAgainstTools(t *testing.T) {
	if os.Getenv("LOUPE_PREBUILT_TOOLS") == "" {
		t.Skip("LOUPE_PREBUILT_TOOLS is not set: this fetches the tools and some packages from the npm registry")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node to run the tools")
	}
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("there is no npm to fetch the tools")
	}
	h := newHarness(t, node)
	equal, compared := 0, 0
	for _, spec := range published {
		for _, target := range []prebuilt.Target{{Platform: "linux", Arch: "x64", Libc: "glibc"}, {Platform: "linux", Arch: "arm64", Libc: "musl"}, {Platform: "darwin", Arch: "arm64"}, {Platform: "win32", Arch: "x64"}} {
			want, got := h.compare(t, spec, h.fetch(t, spec), target)
			compared++
			if slices.Equal(want, got) {
				equal++
				continue
			}
			t.Errorf("%s on %v:\n tool asks for %q\n we say       %q", spec, target, got, want)
		}
	}
	t.Logf("%d of %d equal, %d published packages", equal, compared, len(published))
	equal, compared = 0, 0
	for _, c := range craftedPackages() {
		dir := t.TempDir()
		for name, text := range c.files {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		want, got := h.compare(t, c.name, dir, c.target)
		compared++
		if slices.Equal(want, got) {
			equal++
			continue
		}
		t.Errorf("%s:\n tool asks for %q\n we say       %q", c.name, got, want)
	}
	t.Logf("%d of %d equal, made for tests", equal, compared)
}

// craftedPackages are the packages of the other tests whose tools can be called
// by their install script alone.
func craftedPackages() []crafted {
	var out []crafted
	linux := prebuilt.Targets[0]
	for _, p := range preGypPackages {
		if !strings.Contains(p.want, "{") { // else only this machine knows
			out = append(out, crafted{"node-pre-gyp: " + p.name, map[string]string{"package.json": p.manifest}, linux, p.want})
		}
	}
	for _, p := range prebuildPackages {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(p.files)), func(name string) bool { return path.Ext(name) == ".js" }) {
			p.name = "prebuild-install: " + p.name
			out = append(out, p)
		}
	}
	for _, p := range cachePackages {
		out = append(out, crafted{"install-from-cache: " + p.name, map[string]string{"package.json": p.manifest}, linux, p.want})
	}
	return out
}

// A harness keeps the tools and packages that were fetched.
type harness struct {
	node, dir, bin string
	abi            prebuilt.Node
	libcVersion    string
	mirror         *httptest.Server
	mu             sync.Mutex
	asked          []string
	tools          map[string]string // folder of node_modules by what was asked for
}

func newHarness(t *testing.T, node string) *harness {
	h := &harness{node: node, dir: t.TempDir(), tools: map[string]string{}}
	h.mirror = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if q, err := unescape(r.URL.RawQuery); err == nil {
			h.asked = append(h.asked, q)
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(h.mirror.Close)
	out, err := exec.Command(node, "-p", "process.versions.modules + ' ' + process.versions.napi + ' ' + (process.report.getReport().header.glibcVersionRuntime || '')").Output()
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(out))
	napi, _ := strconv.Atoi(fields[1])
	h.abi = prebuilt.Node{ABI: fields[0], NAPI: napi}
	if len(fields) > 2 {
		h.libcVersion = fields[2]
	}
	// Programs that a tool may start to build from source do nothing.
	h.bin = filepath.Join(h.dir, "bin")
	must(t, os.MkdirAll(h.bin, 0o700))
	for _, name := range []string{"npm", "node-gyp", "make", "python3"} {
		must(t, os.WriteFile(filepath.Join(h.bin, name), []byte("#!/bin/sh\nexit 1\n"), 0o700))
	}
	must(t, os.Symlink(node, filepath.Join(h.bin, "node")))
	must(t, os.WriteFile(filepath.Join(h.dir, "redirect.js"), []byte(redirect), 0o600))
	return h
}

func unescape(s string) (string, error) {
	var out string
	err := json.Unmarshal([]byte(`"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(percent(s))+`"`), &out)
	return out, err
}

// percent undoes encodeURIComponent.
func percent(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compare returns what Resolve says and what the tool asks for.
func (h *harness) compare(t *testing.T, spec, dir string, target prebuilt.Target) (want, got []string) {
	open := func(name string) ([]byte, bool) {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		return data, err == nil
	}
	manifest, _ := open("package.json")
	downloads, err := prebuilt.Resolve(prebuilt.Package{Manifest: manifest, Open: open}, prebuilt.Options{Targets: []prebuilt.Target{target}, Nodes: []prebuilt.Node{h.abi}})
	must(t, err)
	i := slices.IndexFunc(downloads, func(d *inventory.Download) bool {
		return slices.Contains([]string{prebuilt.NodePreGyp, prebuilt.PrebuildInstall, prebuilt.InstallArtifact}, d.Resolver)
	})
	if i < 0 {
		return []string{"no tool found"}, nil
	}
	d := downloads[i]
	for _, a := range d.Assets {
		// The fork that puts it into addresses takes it from the machine that it runs on.
		want = append(want, strings.ReplaceAll(a.URL, "{libc_version}", h.libcVersion))
		want = append(want, a.Then...)
	}
	return want, h.run(t, spec, dir, d, target)
}

// run runs the tool in a folder that holds nothing but package.json.
func (h *harness) run(t *testing.T, spec, dir string, d *inventory.Download, target prebuilt.Target) []string {
	name, wanted, _ := strings.Cut(d.Tool, " ")
	modules := h.tool(t, name, wanted)
	scratch := t.TempDir()
	data, err := os.ReadFile(filepath.Join(dir, "package.json"))
	must(t, err)
	// npm wrote _from until version 6, and old tools look at it.
	data = bytes.Replace(data, []byte("{"), []byte(`{"_from": "registry", `), 1)
	must(t, os.WriteFile(filepath.Join(scratch, "package.json"), data, 0o600))
	if rc, err := os.ReadFile(filepath.Join(dir, ".prebuild-installrc")); err == nil {
		must(t, os.WriteFile(filepath.Join(scratch, ".prebuild-installrc"), rc, 0o600))
	}
	args := []string{"--require", filepath.Join(h.dir, "redirect.js")}
	env := []string{"PATH=" + h.bin + ":/usr/bin:/bin", "HOME=" + scratch, "npm_config_cache=" + filepath.Join(scratch, "cache"), "MIRROR=" + h.mirror.URL, "npm_package_json=" + filepath.Join(scratch, "package.json"), "npm_execpath=" + filepath.Join(h.bin, "npm")}
	called := commandOf(d)
	switch d.Resolver {
	case prebuilt.NodePreGyp:
		args = append(args, filepath.Join(modules, filepath.FromSlash(name), "bin", "node-pre-gyp"))
		for _, option := range []string{"--target_platform=" + target.Platform, "--target_arch=" + target.Arch, "--target_libc=" + cmp.Or(target.Libc, "unknown")} {
			name, _, _ := strings.Cut(option, "=")
			if !strings.Contains(d.Command, name+"=") { // what is said twice would become a list
				args = append(args, option)
			}
		}
		if called == nil {
			called = []string{"install"}
		}
		args = append(append(args, called...), "--fallback-to-build=false")
	case prebuilt.PrebuildInstall:
		args = append(args, filepath.Join(modules, name, "bin.js"))
		args = append(args, called...)
		env = append(env, "npm_config_platform="+target.Platform, "npm_config_arch="+target.Arch)
		if target.Libc == "musl" {
			env = append(env, "LIBC=musl")
		}
	case prebuilt.InstallArtifact:
		args = append(args, filepath.Join(modules, name, "bin", "install-from-cache.js"))
		args = append(args, called...)
		platform := target.Platform
		if target.Libc == "musl" {
			platform += "-musl"
		}
		env = append(env, "npm_config_platform="+platform, "npm_config_platform_arch="+target.Arch)
	}
	h.mu.Lock()
	h.asked = nil
	h.mu.Unlock()
	cmd := exec.CommandContext(t.Context(), h.node, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = scratch, env, 20*time.Second
	out, err := cmd.CombinedOutput() // it fails, for there is nothing to be had
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.asked) == 0 {
		t.Logf("%s: %v\n%s", spec, err, out)
	}
	return slices.Clone(h.asked)
}

// commandOf returns the arguments of a tool in the script that calls it.
func commandOf(d *inventory.Download) []string {
	for _, c := range prebuilt.Commands(d.Command) {
		if i := slices.IndexFunc(c.Words, func(w string) bool {
			return w == "prebuild-install" || w == "install-from-cache" || w == "node-pre-gyp"
		}); i >= 0 {
			return c.Words[i+1:]
		}
	}
	return nil
}

// tool installs a tool without running anything, and returns node_modules.
func (h *harness) tool(t *testing.T, name, wanted string) string {
	spec := name + "@" + wanted
	if dir := h.tools[spec]; dir != "" {
		return dir
	}
	dir := filepath.Join(h.dir, "tools", strconv.Itoa(len(h.tools)))
	must(t, os.MkdirAll(dir, 0o700))
	cmd := exec.CommandContext(t.Context(), "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", dir, spec)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", spec, err, out)
	}
	h.tools[spec] = filepath.Join(dir, "node_modules")
	return h.tools[spec]
}

// fetch gets a package and unpacks its manifest and scripts.
func (h *harness) fetch(t *testing.T, spec string) string {
	dir := filepath.Join(h.dir, "packages", strings.ReplaceAll(spec, "/", "+"))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	must(t, os.MkdirAll(dir, 0o700))
	cmd := exec.CommandContext(t.Context(), "npm", "pack", "--silent", "--pack-destination", h.dir, spec)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("npm pack %s: %v", spec, err)
	}
	f, err := os.Open(filepath.Join(h.dir, strings.TrimSpace(string(out))))
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	for r := tar.NewReader(z); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		must(t, err)
		_, name, _ := strings.Cut(path.Clean(head.Name), "/")
		if !slices.Contains([]string{".js", ".json", ".cjs", ".mjs"}, path.Ext(name)) && path.Base(name) != ".prebuild-installrc" || head.Size > 1<<20 || !filepath.IsLocal(name) {
			continue
		}
		data, err := io.ReadAll(r)
		must(t, err)
		at := filepath.Join(dir, filepath.FromSlash(name))
		must(t, os.MkdirAll(filepath.Dir(at), 0o700))
		must(t, os.WriteFile(at, data, 0o600))
	}
}
