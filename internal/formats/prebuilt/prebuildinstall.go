package prebuilt

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
)

const defaultPrebuildName = "{name}-v{version}-{runtime}-v{abi}-{platform}{libc}-{arch}.tar.gz"

var prebuildAliases = map[string]string{
	"t": "target", "r": "runtime", "h": "help", "a": "arch", "p": "path", "v": "version", "d": "download", "T": "token", "build-from-source": "buildFromSource",
}

// prebuildInstall resolves a call of prebuild-install: a release of the
// package's repository at GitHub, unless binary.host or --download says
// something else (prebuild-install, README, "Custom binaries" and "Help").
// Options come, weakest first, from config in package.json, from the file
// .prebuild-installrc and from the command. What is fetched is unpacked as it
// comes.
func (r *resolver) prebuildInstall(c call) *inventory.Download {
	opts := flags{"runtime": "node", "tag-prefix": "v"}
	for _, key := range []string{"target", "runtime", "arch"} {
		if s := scalar(r.config[key]); s != "" {
			opts[key] = s
		}
	}
	for key, value := range r.prebuildFile() {
		opts[key] = value
	}
	for key, value := range minimist(c.args, prebuildAliases) {
		opts[key] = value
	}
	if opts["buildFromSource"] == "true" || opts["compile"] == "true" || opts["help"] == "true" || opts["version"] == "true" {
		return nil
	}
	d := &inventory.Download{
		Path: c.file, Line: c.line, Resolver: PrebuildInstall, Tool: r.toolName([]string{"prebuild-install"}), Fallback: c.fallback, NAPI: r.napi(),
		Overrides: r.prebuildMirrors(),
	}
	template := r.prebuildTemplate(opts)
	if template == "" {
		d.Problem = "prebuild-install finds no repository of GitHub in package.json"
		return r.judge(d)
	}
	d.Assets = r.rows(func(t Target, n Node) (inventory.Asset, bool) { return r.prebuildAsset(template, opts, t, n), true })
	return r.judge(d)
}

// prebuildTemplate returns the template of the address, or nothing if there is
// no repository to ask.
func (r *resolver) prebuildTemplate(opts flags) string {
	if s := opts["download"]; s != "" && s != "true" && s != "false" {
		return s
	}
	if host := text(r.binary["host"]); host != "" {
		var parts []string
		for _, s := range []string{host, text(r.binary["remote_path"]), or(text(r.binary["package_name"]), defaultPrebuildName)} {
			if s = trimSlashes(s); s != "" {
				parts = append(parts, s)
			}
		}
		return strings.Join(parts, "/")
	}
	repository := r.github()
	if repository == "" {
		return ""
	}
	return repository + "/releases/download/{tag_prefix}{version}/" + defaultPrebuildName
}

// trimSlashes takes one "./" or "/" from the front and one "/" from the end.
func trimSlashes(s string) string {
	if rest, ok := strings.CutPrefix(s, "./"); ok {
		s = rest
	} else {
		s = strings.TrimPrefix(s, "/")
	}
	return strings.TrimSuffix(s, "/")
}

var (
	scopeOld = pattern.New(`^@\w+/`)
	scopeNew = pattern.New(`^@[a-zA-Z0-9_\-.~]+/`)
	inBraces = pattern.New(`\{\s*\w+\s*\}`)
	notWord  = pattern.New(`[^a-zA-Z0-9]`)
)

// prebuildAsset is the asset for one machine.
func (r *resolver) prebuildAsset(template string, opts flags, t Target, n Node) inventory.Asset {
	scope := scopeNew
	if spec := r.depends("prebuild-install"); spec != "" && !atLeast(spec, 6, 0) {
		scope = scopeOld
	}
	name := scope.ReplaceAllString(r.text("name"), "")
	number := r.text("version")
	runtime, napi := opts["runtime"], 0
	abi := n.ABI
	switch target := opts["target"]; {
	case runtime == "napi" && target != "":
		abi = target
		napi, _ = strconv.Atoi(target)
	case runtime == "napi":
		if napi = best(r.napi(), n); napi > 0 {
			abi = strconv.Itoa(napi)
		}
	case target != "":
		if abi = abiFor(target); abi == "" || runtime != "node" {
			abi = "{abi}"
		}
	}
	platform, arch, libc := or(opts["platform"], t.Platform), or(opts["arch"], t.Arch), opts["libc"]
	if libc == "" && t.Libc != "glibc" {
		libc = t.Libc
	}
	if platform != "linux" || libc == "glibc" {
		libc = ""
	}
	configuration := "Release"
	if opts["debug"] == "true" {
		configuration = "Debug"
	}
	values := [][2]string{
		{"name", name}, {"package_name", name}, {"version", number},
		{"major", field(number, ".", 0)}, {"minor", field(number, ".", 1)}, {"patch", field(number, ".", 2)},
		{"prerelease", field(number, "-", 1)}, {"build", field(number, "+", 1)},
		{"abi", abi}, {"node_abi", n.ABI}, {"runtime", runtime}, {"platform", platform}, {"arch", arch}, {"libc", libc},
		{"configuration", configuration}, {"module_name", or(text(r.binary["module_name"]), "undefined")}, {"tag_prefix", opts["tag-prefix"]},
	}
	left := maxLine - len(template) // what values may add
	address := inBraces.ReplaceAllStringFunc(template, func(found string) string {
		key := strings.TrimSpace(found[1 : len(found)-1])
		for _, v := range values {
			if v[0] == key && len(v[1]) <= left {
				left -= len(v[1])
				return v[1]
			}
		}
		return found
	})
	address, _, _ = strings.Cut(address[:min(len(address), maxLine)], "#") // which is never sent
	return inventory.Asset{URL: address, Open: strings.ContainsAny(address, "{}"), NAPI: napi}
}

// field is an element of what JavaScript's split gives, which is undefined
// beyond the end.
func field(s, separator string, i int) string {
	if list := strings.Split(s, separator); i < len(list) {
		return list[i]
	}
	return "undefined"
}

// prebuildMirrors are the variables that lead prebuild-install to another host.
func (r *resolver) prebuildMirrors() []string {
	name := "npm_config_" + strings.TrimPrefix(notWord.ReplaceAllString(r.text("name"), "_"), "_") + "_binary_host"
	return []string{name, name + "_mirror", "npm_config_download"}
}

// prebuildFile reads .prebuild-installrc of the package, which is JSON or lines
// of keys and values (rc, README, "Configuration File Formats").
func (r *resolver) prebuildFile() flags {
	if r.open == nil {
		return nil
	}
	data, ok := r.open(".prebuild-installrc")
	if !ok {
		return nil
	}
	out := flags{}
	if strings.HasPrefix(strings.TrimSpace(string(data)), "{") {
		var fields map[string]json.RawMessage
		if json.Unmarshal(data, &fields) == nil {
			for key, raw := range fields {
				if s := scalar(raw); s != "" {
					out[key] = s
				}
			}
		}
		return out
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		if line == "" || strings.ContainsAny(line[:1], ";#[") || !ok {
			continue
		}
		out[strings.TrimSpace(key)] = strings.Trim(strings.TrimSpace(value), `"'`)
	}
	return out
}
