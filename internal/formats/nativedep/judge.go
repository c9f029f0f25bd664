package nativedep

import (
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// tools are the packages of npm that others depend on to build, find or fetch
// native code when they are installed or loaded.
var tools = map[string]string{
	// that compile
	"node-gyp": "builds", "cmake-js": "builds", "nan": "builds", "node-addon-api": "builds", "node-api-headers": "builds",
	"napi-macros": "builds", "buildcheck": "builds", "neon-cli": "builds", "cargo-cp-artifact": "builds",
	// that look for what is there, and else compile
	"bindings": "loads", "node-gyp-build": "loads", "node-gyp-build-optional-packages": "loads", "pkg-prebuilds": "loads",
	"prebuildify": "loads", "prebuildify-cross": "loads", "detect-libc": "loads", "@neon-rs/load": "loads", "require-addon": "loads",
	"@napi-rs/wasm-runtime": "loads", "ffi-napi": "loads", "ref-napi": "loads", "koffi": "loads",
	// that download
	"node-pre-gyp": "downloads", "@mapbox/node-pre-gyp": "downloads", "@discordjs/node-pre-gyp": "downloads", "prebuild-install": "downloads", "prebuild": "downloads",
	"install-artifact-from-github": "downloads", "node-pre-gyp-github": "downloads", "@electron/get": "downloads", "electron-download": "downloads",
	"@puppeteer/browsers": "downloads", "bin-wrapper": "downloads", "bin-build": "downloads", "@xhmikosr/bin-wrapper": "downloads",
	"binary-install": "downloads", "@cloudflare/binary-install": "downloads", "go-npm": "downloads", "@go-task/go-npm": "downloads",
}

// What is said of a package of npm.
const (
	runsScript    = "runs a script when it is installed"
	somePlatform  = "is for some platforms only"
	bundlesNative = "holds other packages inside, which may hold native code"
	hasBuilds     = "has a package for each platform"
	isOptional    = "is optional, as what must be built or is for some platforms only"
)

// judge returns the packages that may hold native code.
func (d *draft) judge() []Package {
	optional := d.optional()
	at := map[target.Target]int{}
	builds := map[string]bool{} // names that packages of the list have for single platforms
	var out []Package
	for _, e := range d.entries {
		why := d.why(e, optional)
		if why == "" {
			continue
		}
		for _, name := range e.needs {
			builds[name] = true
		}
		if i, ok := at[e.target]; ok { // that one version stands in many places is how npm nests
			out[i].Line = min(out[i].Line, e.line)
			out[i].Build = out[i].Build && single(e)
			continue
		}
		at[e.target] = len(out)
		out = append(out, Package{Target: e.target, Line: e.line, Why: why, Build: single(e)})
	}
	for i := range out {
		out[i].Build = out[i].Build && builds[out[i].Target.Name]
	}
	slices.SortStableFunc(out, func(a, b Package) int { return a.Line - b.Line })
	return out
}

// optional returns the names of packages that somebody names as one to do
// without. Where the format only marks all that such a package brings along, it
// is those that others need, or that nobody of their kind does.
func (d *draft) optional() map[string]bool {
	out, needed := map[string]bool{}, map[string]bool{}
	marked := map[string]bool{}
	for _, e := range d.entries {
		for _, name := range e.options {
			out[name] = true
		}
		if e.optional {
			marked[e.target.Name] = true
			for _, name := range e.needs {
				needed[name] = true
			}
		}
	}
	for _, e := range d.entries {
		if e.optional && !needed[e.target.Name] {
			out[e.target.Name] = true
		}
		for _, name := range e.needs {
			if !e.optional && marked[name] {
				out[name] = true
			}
		}
	}
	return out
}

// why says why a package may hold native code, or nothing.
func (d *draft) why(e entry, optional map[string]bool) string {
	if e.target.Ecosystem == target.PyPI {
		return e.why
	}
	switch {
	case e.platform || forPlatform(e.target.Name, false):
		return somePlatform
	case slices.ContainsFunc(e.needs, func(name string) bool { return optional[name] && forPlatform(name, true) }):
		return hasBuilds
	}
	for _, name := range e.needs {
		if how := tools[name]; how != "" && tools[e.target.Name] == "" { // one tool uses another to look around
			return "depends on " + name + ", which " + how + " native code"
		}
	}
	switch {
	case e.why != "":
		return e.why
	case e.script:
		return runsScript
	case d.blind && optional[e.target.Name]:
		return isOptional
	}
	return ""
}

// single says whether a package is for single platforms.
func single(e entry) bool {
	return e.target.Ecosystem == target.NPM && (e.platform || forPlatform(e.target.Name, true))
}

// The words by which names of packages say for what platform they are, after
// process.platform and process.arch of Node.js, the triples of Rust, and the
// GOOS and GOARCH of Go.
var (
	systems = words("linux linuxmusl darwin win32 windows win macos mac osx android freebsd openbsd netbsd sunos solaris aix openharmony musl alpine")
	cpus    = words("x64 x86 ia32 i386 i686 64 32 amd64 386 arm arm64 aarch64 armv6 armv6l armv7 armv7l armhf gnueabihf musleabihf ppc64 ppc64le powerpc64le s390x riscv64 riscv64gc loong64 loongarch64 mips mipsel mips64el universal wasm32")
)

func words(list string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		out[w] = true
	}
	return out
}

// forPlatform says whether the name of a package is that of what another one
// needs on one platform, as @esbuild/linux-x64. Where it is known to be
// optional, the system or wasm32 alone at its end is enough.
func forPlatform(name string, known bool) bool {
	var system, cpu bool
	last := ""
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return strings.ContainsRune("@/-_.", r) }) {
		system, cpu, last = system || systems[part], cpu || cpus[part], part
	}
	return system && cpu || known && (systems[last] || last == "wasm32")
}
