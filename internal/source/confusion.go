package source

import (
	"bytes"
	"path"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// installScripts are what npm runs when it installs a package.
var installScripts = []string{"preinstall", "install", "postinstall"}

// compareManifest notes where the manifest that a registry shows for a package,
// by which npm decides and people judge, is not the package.json that is
// installed with it into dir.
func (o *Opened) compareManifest(dir string, published *manifest) {
	at := path.Join(dir, "package.json")
	data, err := readBounded(o.Workspace.FS(), at)
	if err != nil {
		return // the workspace says why, or the archive is refused
	}
	packed, err := parseManifest(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err != nil {
		o.note(at, "the registry's manifest and package.json in the tarball disagree: the latter cannot be read")
		return
	}
	native := false
	if f, err := o.Workspace.FS().Open(path.Join(dir, "binding.gyp")); err == nil {
		f.Close()
		native = true
	}
	if all := published.differences(packed, native); len(all) > 0 {
		o.inform(at, "the registry's manifest and package.json in the tarball disagree: %s", strings.Join(all, ", "))
	}
}

// differences names the fields in which a manifest and the package.json in the
// tarball differ, and what each says. native says that the package has a
// binding.gyp, for which npm adds a script when it publishes.
func (m *manifest) differences(packed *manifest, native bool) []string {
	var all []string
	differ := func(field, registry, tarball string) {
		if registry != tarball {
			all = append(all, field+" ("+said(registry)+" and "+said(tarball)+")")
		}
	}
	differ("name", string(m.Name), strings.TrimSpace(string(packed.Name)))
	differ("version", plainVersion(m.Version), plainVersion(packed.Version))
	if !m.whole { // the short document has no scripts
		return all
	}
	for _, name := range installScripts {
		registry, tarball := plainScript(m.Scripts[name]), plainScript(packed.Scripts[name])
		if name == "install" && native && tarball == "" && packed.Scripts["preinstall"] == "" && registry == "node-gyp rebuild" {
			continue
		}
		differ("scripts."+name, registry, tarball)
	}
	return all
}

func said(s string) string {
	if s == "" {
		return "none"
	}
	const most = 80
	if r := []rune(oneLine(s)); len(r) > most {
		return `"` + string(r[:most]) + `…"`
	}
	return `"` + oneLine(s) + `"`
}

// plainVersion writes a version as npm does when it publishes.
func plainVersion(v text) string {
	if exact, ok := exactVersion(string(v)); ok {
		return exact
	}
	return strings.TrimSpace(string(v))
}

var localBin = pattern.New(`^(\.[/\\])?node_modules[/\\]\.bin[/\\]`)

// plainScript writes a script as npm does when it publishes: without the folder
// that is searched anyway.
func plainScript(s string) string { return strings.TrimSpace(localBin.ReplaceAllString(s, "")) }
