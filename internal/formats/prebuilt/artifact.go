package prebuilt

import (
	"encoding/json"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
)

var (
	artifactURL   = pattern.New(`(?i)^(?:https?|git|git\+ssh|git\+https?)://(?:[^@/]*@)?([^/]+)/([^/]+)/([^/.]+)(?:/|\.git\b|$)`)
	artifactShort = []*pattern.Pattern{pattern.New(`(?i)^github:([^/]+)/([^#]+)(?:#|$)`), pattern.New(`^([^:/]+)/([^#]+)(?:#|$)`)}
)

// installFromCache resolves a call of install-from-cache, of the package
// install-artifact-from-github: a file of the release that has the name of the
// version, compressed with Brotli, with gzip, or not at all, whichever is there
// first (its wiki, "install-from-cache"). Since 1.7.0 it compares what it
// unpacked with artifactHashes of package.json and refuses all that is not
// listed, but only what comes from the package's own releases.
func (r *resolver) installFromCache(c call) *inventory.Download {
	opts := artifactOptions(c.args)
	d := &inventory.Download{Path: c.file, Line: c.line, Resolver: InstallArtifact, Tool: r.toolName([]string{InstallArtifact}), Fallback: or(c.fallback, r.scripts["rebuild"])}
	hostVariable := or(opts["host-var"], "DOWNLOAD_HOST")
	d.Overrides = []string{hostVariable, or(opts["skip-path-var"], "DOWNLOAD_SKIP_PATH"), or(opts["skip-ver-var"], "DOWNLOAD_SKIP_VER"), or(opts["agent-var"], "DOWNLOAD_AGENT")}
	if opts["force-build"] != "" {
		return nil
	}
	own, path, ok := r.artifactRepository()
	switch {
	case opts["artifact"] == "":
		d.Problem = "install-from-cache does nothing without --artifact"
		return r.judge(d)
	case !ok:
		d.Problem = "install-from-cache finds no repository in package.json"
		return r.judge(d)
	}
	hashes := r.artifactHashes()
	d.Assets = r.rows(func(t Target, n Node) (inventory.Asset, bool) {
		return r.artifactAsset(opts, own, path, hashes, t, n), true
	})
	if hashes != nil && len(d.Assets) > 0 && strings.HasPrefix(strings.ToLower(d.Assets[0].URL), strings.ToLower(own+path)) {
		d.Pin = inventory.PinnedPackage
	}
	return r.judge(d)
}

// artifactOptions reads --name value; the word behind an option is its value,
// whatever it is.
func artifactOptions(args []string) flags {
	out := flags{}
	for i, arg := range args {
		name, ok := strings.CutPrefix(arg, "--")
		if !ok || out[name] != "" {
			continue
		}
		switch name {
		case "skip-path", "skip-ver", "force-build":
			out[name] = "true"
		default:
			if i+1 < len(args) {
				out[name] = args[i+1]
			}
		}
	}
	return out
}

// artifactRepository returns the host of the repository and the path of its
// releases.
func (r *resolver) artifactRepository() (host, path string, ok bool) {
	address := r.text("github")
	if repository := object(r.fields["repository"]); address == "" && text(repository["type"]) == "git" {
		address = text(repository["url"])
	}
	if m := artifactURL.FindStringSubmatch(address); m != nil {
		host = "https://" + m[1]
		if strings.HasPrefix(strings.ToLower(address), "http://") {
			host = "http://" + m[1]
		}
		return host, "/" + m[2] + "/" + m[3] + "/releases/download", true
	}
	for _, re := range artifactShort {
		if m := re.FindStringSubmatch(address); m != nil {
			return "https://github.com", "/" + m[1] + "/" + m[2] + "/releases/download", true
		}
	}
	return "", "", false
}

// artifactHashes returns the hashes that are compared, or nil if none are.
func (r *resolver) artifactHashes() map[string]json.RawMessage {
	if !atLeast(r.depends(InstallArtifact), 1, 7) {
		return nil
	}
	return object(r.fields["artifactHashes"])
}

// artifactAsset is the asset for one machine.
func (r *resolver) artifactAsset(opts flags, own, path string, hashes map[string]json.RawMessage, t Target, n Node) inventory.Asset {
	platform := t.Platform
	if t.Libc == "musl" {
		platform += "-musl"
	}
	slot := n.ABI
	if opts["napi"] != "" {
		slot = "napi-v" + opts["napi"]
	}
	slot = platform + "-" + t.Arch + "-" + slot
	address := strings.TrimRight(or(opts["host"], own), "/")
	if opts["skip-path"] == "" {
		address += path
	}
	if opts["skip-ver"] == "" {
		address += "/" + r.text("version")
	}
	address += "/" + opts["prefix"] + slot + opts["suffix"]
	a := inventory.Asset{URL: address + ".br", Then: []string{address + ".gz", address}}
	if hashes != nil {
		a.Hash = text(hashes[slot])
	}
	return a
}
