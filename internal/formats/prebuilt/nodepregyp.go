package prebuilt

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// preGypNames are node-pre-gyp and its forks.
var preGypNames = []string{"@mapbox/node-pre-gyp", "node-pre-gyp", "@discordjs/node-pre-gyp", "@julusian/node-pre-gyp", "@acheronfail/node-pre-gyp"}

const defaultPreGypName = "{module_name}-v{version}-{node_abi}-{platform}-{arch}.tar.gz"

// preGyp resolves a call of node-pre-gyp: binary.host, binary.remote_path and
// binary.package_name are templates whose results are resolved against each
// other as URLs (node-pre-gyp, README, "The `binary` property"). What is fetched is
// unpacked as it comes: no version has a hash to check.
func (r *resolver) preGyp(c call) *inventory.Download {
	opts, rest := nopt(c.args)
	if !slices.Contains(rest, "install") && !slices.Contains(rest, "reinstall") || opts["build-from-source"] == "true" {
		return nil
	}
	d := &inventory.Download{Path: c.file, Line: c.line, Resolver: NodePreGyp, Tool: r.toolName(preGypNames), Fallback: c.fallback, NAPI: r.napi()}
	if f := opts["fallback-to-build"]; f == "true" || f != "" && f == r.text("name") {
		d.Fallback = "node-gyp rebuild"
	}
	if problem := r.preGypProblem(); problem != "" {
		d.Problem = problem
		return r.judge(d)
	}
	module := text(r.binary["module_name"])
	d.Overrides = []string{"npm_config_" + strings.Replace(module, "-", "_", 1) + "_binary_host_mirror"}
	d.Assets = r.rows(func(t Target, n Node) (inventory.Asset, bool) { return r.preGypAsset(opts, t, n) })
	if len(d.Assets) == 0 {
		d.Problem = "its addresses cannot be read"
	}
	return r.judge(d)
}

// preGypHost returns binary.host, or the production host where that stands
// instead.
func (r *resolver) preGypHost() string {
	if host := text(r.binary["host"]); host != "" {
		return host
	}
	if text(r.binary["staging_host"]) != "" {
		return text(r.binary["production_host"])
	}
	return ""
}

// preGypProblem says why node-pre-gyp would fail before it asks for anything.
func (r *resolver) preGypProblem() string {
	var missing []string
	for _, key := range []string{"main", "version", "name"} {
		if r.text(key) == "" {
			missing = append(missing, key)
		}
	}
	for _, key := range []string{"module_name", "module_path"} {
		if text(r.binary[key]) == "" {
			missing = append(missing, "binary."+key)
		}
	}
	if r.preGypHost() == "" {
		missing = append(missing, "binary.host")
	}
	if len(missing) > 0 {
		return "node-pre-gyp refuses a package.json without " + strings.Join(missing, ", ")
	}
	if _, ok := parseVersion(r.text("version")); !ok {
		return "its version is none"
	}
	inPath, inRemote := namesNAPI(text(r.binary["module_path"])), namesNAPI(text(r.binary["remote_path"])) || namesNAPI(text(r.binary["package_name"]))
	switch has := len(r.napi()) > 0; {
	case has && (!inPath || !inRemote):
		return "node-pre-gyp refuses binary.napi_versions without {napi_build_version} in module_path and in remote_path or package_name"
	case !has && (inPath || inRemote):
		return "node-pre-gyp refuses {napi_build_version} without binary.napi_versions"
	}
	return ""
}

func namesNAPI(template string) bool {
	return strings.Contains(template, "{napi_build_version}") || strings.Contains(template, "{node_napi_label}")
}

// preGypAsset is the asset for one machine.
func (r *resolver) preGypAsset(opts flags, t Target, n Node) (inventory.Asset, bool) {
	v, _ := parseVersion(r.text("version"))
	napi := best(r.napi(), n)
	runtime := or(opts["runtime"], "node")
	abi := runtime + "-v" + n.ABI
	if target := opts["target"]; target != "" {
		abi = "{node_abi}"
		if known := abiFor(target); known != "" && runtime == "node" {
			abi = "node-v" + known
		}
	}
	build, label := "", abi
	if napi > 0 {
		build = strconv.Itoa(napi)
		label = "napi-v" + build
	}
	platform, arch := or(opts["target_platform"], t.Platform), or(opts["target_arch"], t.Arch)
	configuration := "Release"
	if opts["debug"] == "true" {
		configuration = "Debug"
	}
	values := [][2]string{
		{"name", r.text("name")}, {"configuration", configuration}, {"debug", or(opts["debug"], "undefined")},
		{"module_name", text(r.binary["module_name"])},
		{"version", v.text}, {"prerelease", v.prerelease}, {"build", v.build}, {"major", v.major}, {"minor", v.minor}, {"patch", v.patch},
		{"runtime", runtime}, {"node_abi", abi}, {"node_abi_napi", "napi"}, {"napi_version", strconv.Itoa(n.NAPI)},
		{"napi_build_version", build}, {"node_napi_label", label}, {"target", opts["target"]},
		{"platform", platform}, {"target_platform", platform}, {"arch", arch}, {"target_arch", arch},
		{"libc", or(opts["target_libc"], or(t.Libc, "unknown"))},
		{"module_main", r.text("main")}, {"toolset", opts["toolset"]},
		{"bucket", or(scalar(r.binary["bucket"]), "undefined")}, {"region", or(scalar(r.binary["region"]), "undefined")},
		{"s3ForcePathStyle", or(scalar(r.binary["s3ForcePathStyle"]), "false")},
	}
	host := withSlash(evaluate(r.preGypHost(), values))
	values = append(values, [2]string{"host", host}, [2]string{"module_path", evaluate(text(r.binary["module_path"]), values)})
	remote := ""
	if s := text(r.binary["remote_path"]); s != "" {
		remote = strings.ReplaceAll(withSlash(evaluate(s, values)), "//", "/")
	}
	values = append(values, [2]string{"remote_path", remote})
	name := evaluate(or(text(r.binary["package_name"]), defaultPreGypName), values)
	if scalar(r.binary["s3ForcePathStyle"]) == "true" && r.preGypVersion2() {
		remote = strings.ReplaceAll(scalar(r.binary["bucket"])+"/"+remote, "//", "/")
	}
	folder, ok := resolveURL(host, remote)
	if !ok {
		return inventory.Asset{}, false
	}
	address, ok := resolveURL(folder, name)
	address = strings.Replace(address, "+", "%2B", 1)
	return inventory.Asset{URL: address, Open: strings.ContainsAny(address, "{}"), NAPI: napi}, ok
}

// preGypVersion2 reports whether the node-pre-gyp that is asked for puts the
// bucket into the path.
func (r *resolver) preGypVersion2() bool {
	spec := r.depends("@mapbox/node-pre-gyp")
	return spec != "" && atLeast(spec, 2, 0)
}

// toolName returns the package of a tool, under one of its names, with the
// range that is asked for.
func (r *resolver) toolName(names []string) string {
	for _, name := range names {
		if spec := r.depends(name); spec != "" {
			return name + " " + spec
		}
	}
	return names[0]
}

// evaluate replaces {key} by values in their order, each as often as it
// occurs, as long as the result is no longer than maxLine. A value that brings
// back its own key is used once.
func evaluate(template string, values [][2]string) string {
	for _, v := range values {
		key := "{" + v[0] + "}"
		if more := len(v[1]) - len(key); more > 0 && strings.Count(template, key)*more > maxLine-len(template) {
			return template
		}
		template = strings.ReplaceAll(template, key, v[1])
	}
	return template
}

func withSlash(s string) string {
	if strings.HasSuffix(s, "/") {
		return s
	}
	return s + "/"
}

func or(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// resolveURL resolves a reference as Node's url.resolve does for addresses of
// the web (RFC 3986, section 5.2). Braces, which stand for what is not known,
// stay readable.
func resolveURL(base, ref string) (string, bool) {
	b, err := url.Parse(hide(base))
	if err != nil || b.Host == "" {
		return "", false
	}
	u, err := url.Parse(hide(ref))
	if err != nil {
		return "", false
	}
	return show(b.ResolveReference(u).String()), true
}

// Braces in an address are hidden from the parser behind letters.
const openMark, closeMark = "loupe0open0", "loupe0close0"

func hide(s string) string {
	return strings.NewReplacer("{", openMark, "}", closeMark, `\`, "/", "'", "%27").Replace(s)
}

func show(s string) string {
	return strings.NewReplacer(openMark, "{", closeMark, "}").Replace(s)
}
