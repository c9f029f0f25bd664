// Package inventory describes what a target is made of: the published release
// that it is, the packages it holds, the native binaries in it. These are the
// facts that sources and scanners hand to each other.
package inventory

import (
	"time"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// A Release is one published version of a package, as its registry and its own
// metadata describe it.
type Release struct {
	Ecosystem   target.Ecosystem
	Name        string
	Version     string
	Description string
	Keywords    []string
	License     string
	Homepage    string
	Repository  string
	Published   time.Time // zero if the registry does not say
	Deprecated  string    // the registry's message; empty if it is not deprecated
	Yanked      string    // the reason, or "yanked" without one; empty if it is not
	Provenance  string    // type of the statement, with the registry, of where and from what it was built: "https://slsa.dev/provenance/v1"; not verified here, and empty if there is none
	Parts       []Part    // what was fetched, in the order of the workspace
}

// PURL returns the package URL of the release.
func (r *Release) PURL() string {
	return target.Target{Kind: target.Package, Ecosystem: r.Ecosystem, Name: r.Name, Version: r.Version}.PURL()
}

// A Part is one archive of a release: the npm tarball, one of its platform
// packages, a wheel, a source distribution.
type Part struct {
	PURL     string // of the package it belongs to
	Path     string // the folder of the workspace that shows it; empty for the root
	Filename string // as the registry names it
	Digest   string // "sha512-<base64>" or "sha256-<hex>", as verified; empty if the registry gave none
	Size     int64  // packed, in bytes
	Platform string // "linux-x64-musl", "manylinux_2_28_x86_64"; empty for any
}

// WholeFile is the origin of a workspace's part that shows the archive itself
// before its members: what was asked for, and not something inside it.
const WholeFile = "file"
