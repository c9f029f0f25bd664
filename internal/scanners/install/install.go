// Package install finds what runs when a package is installed, before anybody
// uses it: the life-cycle scripts of npm, the builds of Python, and the .pth
// files that Python executes whenever it starts.
//
// It reads; nothing is run. Scripts are judged by their text, two levels deep
// into what they load. What they download is resolved to addresses
// (formats/prebuilt) and made known.
package install

import (
	"context"
	"path"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/rules"
)

// Scanner reads the manifests and scripts that package managers obey.
var Scanner = &scan.Scanner{
	Name:    "install",
	Doc:     "find what runs when a package is installed",
	Version: 3,
	Rules:   rules.Area("install"),
	Gives:   []scan.Fact{inventory.Downloads, inventory.Purposes},
	Wants:   func(f *scan.File) bool { return reader(f) != nil },
	File: func(_ context.Context, p *scan.Pass, f *scan.File) error {
		data, err := f.Data()
		if err != nil {
			return err
		}
		return reader(f)(p, f, data)
	},
}

// maxManifest bounds the files that are read, in bytes: real manifests are
// small, and one that is not is left with a note.
const maxManifest = 4 << 20

// reader returns the function for a file, or nil if package managers do not
// obey files of that name at that place.
func reader(f *scan.File) func(*scan.Pass, *scan.File, []byte) error {
	name := path.Base(f.Path)
	switch {
	case f.Size > maxManifest || f.Part.Origin == string(inventory.FromDownload):
		return nil // no package manager looks for manifests in what was fetched
	case name == "package.json" && isRoot(f):
		return packageJSON
	case name == "METADATA" && strings.HasSuffix(path.Dir(f.Path), ".dist-info"), name == "PKG-INFO":
		return metadata
	case name == "setup.py" && isRoot(f):
		return setupPy
	case name == "pyproject.toml" && isRoot(f):
		return pyproject
	case strings.HasSuffix(name, ".pth") && isSite(f):
		return pth
	case name == "sitecustomize.py" || name == "usercustomize.py":
		if isSite(f) {
			return customize
		}
	}
	return nil
}

// isRoot reports whether a file lies where a package manager looks for a
// manifest: at the root of the target or of a part of it, of an archive (below
// one folder that holds all, as tarballs and source distributions have it) or
// of an installed package.
func isRoot(f *scan.File) bool {
	dir := path.Dir(f.Path)
	if dir == "." || dir == f.Part.Prefix {
		return true
	}
	if strings.HasSuffix(dir, "!") || strings.HasSuffix(path.Dir(dir), "!") {
		return true
	}
	parent := path.Dir(dir)
	if strings.HasPrefix(path.Base(parent), "@") {
		parent = path.Dir(parent)
	}
	return path.Base(parent) == "node_modules"
}

// isSite reports whether a file lies where Python's site module looks: at the
// root of a wheel, in its purelib and platlib data, or in site-packages.
func isSite(f *scan.File) bool {
	dir := path.Dir(f.Path)
	base := path.Base(dir)
	return dir == "." || dir == f.Part.Prefix || strings.HasSuffix(dir, "!") ||
		base == "site-packages" || base == "dist-packages" || base == "purelib" || base == "platlib"
}

// lineOf returns the line, from one, of an offset in data.
func lineOf(data []byte, offset int) int {
	return 1 + strings.Count(string(data[:min(max(offset, 0), len(data))]), "\n")
}
