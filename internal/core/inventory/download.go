package inventory

import (
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/scan"
)

// Downloads is the fact that the installation of a package fetches something
// that its registry does not serve.
var Downloads = scan.NewFact[*Download]("downloads")

// Fetches is the fact that a source fetched what an installation would fetch.
var Fetches = scan.NewFact[*Fetched]("fetches")

// A Download is one way in which the installation of a package fetches
// something: one call of a tool, or one script that fetches by itself. Texts
// come from the package as they stand; whoever prints them makes them
// printable.
type Download struct {
	Path      string  // the file that asks for it, relative to the target: package.json, or a script
	Line      int     // in Path, from one; 0 if it is not known
	Part      string  // package URL of the part that holds it; empty outside of packages
	Resolver  string  // "node-pre-gyp", "prebuild-install", "install-artifact-from-github", "script", "npm", "setup.py"
	Tool      string  // the package that fetches, with the range that is asked for: "prebuild-install ^7.1.1"; empty for a script
	Stage     string  // the life-cycle script: "install"; empty for Python
	Command   string  // the text of that script
	Assets    []Asset // what is fetched, for the platforms that were asked about
	Omitted   int     // more assets that are not listed
	Pin       Pin
	Owner     Owner
	Mutable   bool     // whoever holds the address can put other bytes there
	Fallback  string   // the command that runs if nothing can be fetched; empty if there is none
	Overrides []string // variables of the environment that lead to another address
	NAPI      []int    // all Node-API versions that the package offers
	Problem   string   // why there is no address, or why the tool would refuse; empty if nothing is wrong
}

// A Pin says what an asset is checked against after it was fetched.
type Pin string

// The pins.
const (
	Unpinned       Pin = "none"
	PinnedPackage  Pin = "package"  // a hash that stands in the package
	PinnedScript   Pin = "script"   // the script seems to compare a hash
	PinnedRegistry Pin = "registry" // npm fetches it, and compares the hash that its registry gives
)

// An Owner says who serves an asset, as far as addresses tell.
type Owner string

// The owners.
const (
	SameOwner    Owner = "same"    // whom the package's own repository or site belongs to
	OtherOwner   Owner = "other"   // somebody else on a host that names its users
	UnknownOwner Owner = "unknown" // the address does not say
)

// An Asset is a file that an installation fetches. An empty field of the
// platform means that the address is the same for all.
type Asset struct {
	URL      string
	Then     []string // addresses that are tried if URL has nothing
	Open     bool     // parts in braces are known only on the machine that installs
	Platform string   // in Node's words: "linux", "darwin", "win32"
	Arch     string   // "x64", "arm64"
	Libc     string   // "glibc", "musl"
	ABI      string   // NODE_MODULE_VERSION: "127"
	NAPI     int      // Node-API version; 0 where it does not matter
	Hash     string   // what the package promises: "sha256:<hex>" of the unpacked file; empty if nothing

	Fetched *Fetched // nil if it was not fetched for this scan
}

// A Fetched is an asset as it was found behind its address.
type Fetched struct {
	URL     string
	SHA256  string // hex, of the bytes as they were sent
	Size    int64  // in bytes
	Path    string // where the workspace shows it; empty if it could not be opened
	Part    string // package URL of the package that fetches it
	Promise string // the hash that the package promises; empty if none
	Broken  bool   // it does not have that hash

	Since  time.Time // when this address was first fetched
	Before string    // the SHA-256 that it had then; empty if it has not changed
}

// Insecure reports whether an asset travels without protection.
func (d *Download) Insecure() bool {
	for _, a := range d.Assets {
		if len(a.URL) > 7 && strings.EqualFold(a.URL[:7], "http://") {
			return true
		}
	}
	return false
}

// Join puts what was fetched beside the addresses that it came from.
func Join(downloads []*Download, fetched []*Fetched) {
	by := map[string]*Fetched{}
	for _, f := range fetched {
		by[f.URL] = f
	}
	for _, d := range downloads {
		for i, a := range d.Assets {
			for _, url := range append([]string{a.URL}, a.Then...) {
				if f := by[url]; f != nil {
					d.Assets[i].Fetched = f
					break
				}
			}
		}
	}
}

// OriginOf returns how the binaries of a part of the workspace come to a
// machine, by the origin of the part.
func OriginOf(part string) Origin {
	if Origin(part) == FromDownload {
		return FromDownload
	}
	return FromPackage
}
