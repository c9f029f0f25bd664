package inventory

import (
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// Binaries is the fact that a target holds a native binary.
var Binaries = scan.NewFact[*Binary]("binaries")

// Releases is the fact that a target is a published release of a package.
var Releases = scan.NewFact[*Release]("releases")

// An Origin says how a binary comes to be on the machine of a user.
type Origin string

// The origins.
const (
	FromPackage  Origin = "package"          // it lies in what was scanned
	FromDownload Origin = "install-download" // an install script fetches it
	FromEmbedded Origin = "embedded"         // it is packed inside another file
)

// A Binary is one native binary of the target and what is known about it. A
// fat Mach-O file is one Binary a slice. Names come from the file as they
// stand; whoever prints them makes them printable.
type Binary struct {
	Path   string // relative to the target, "prebuilds/linux-x64/x.node"
	Offset int64  // of the slice in a fat file
	Slice  string // tells the slices of a file apart, in findings' anchors: Arch, and for the second of the same a number
	Size   int64  // in bytes
	SHA256 string // hex, of the slice
	Origin Origin
	Part   string // package URL of the part that holds it; empty outside of packages

	Format string // "ELF", "PE", "Mach-O", "Wasm"
	Arch   string
	OS     string // empty if the file does not say
	Kind   string // "shared library", "executable", …

	Libraries []string // in the order of the file
	Imports   []string // bare names, sorted
	Exports   []string // sorted
	Demangled []Name   // imports and exports whose readable form differs, sorted, capped
	Functions Functions
	Sections  []Section

	Silent    bool // linked statically, without names: what it calls is not known
	Partial   bool // so much of it could not be read that nothing it lacks means anything
	Stripped  bool
	Linkage   string
	Signed    bool
	Signature *Signature // nil if it has none that is read
	Language  string
	Toolchain []string
	BuildID   string
	Modules   []Module // Go modules and Rust crates that it names, sorted
	Taken     []Taken  // names that it takes from elsewhere past its import table, sorted

	Strings   []String // the most telling ones, best first, capped
	Behaviors Behaviors

	SourceMatch *SourceMatch // nil if it was not held against any source
	Marks       *Marks       // nil unless a comparison asked for them

	// What is made of the above after detection.
	Risk        finding.Risk
	Explanation string // a paragraph
	Preview     string // of the most telling function; empty until code is analysed
}

// A Module is a package of another ecosystem that was compiled into a binary.
type Module struct {
	Type    string // of the package URL: "golang", "cargo"
	Name    string
	Version string // "v1.2.3" for Go, "1.2.3" for Rust; empty if only its name is known

	Source     string // what names it: "build information", "audit data", "source paths", "function names"
	Confidence finding.Confidence
}

// PURL returns the package URL of the module.
func (m Module) PURL() string {
	return target.PURL(m.Type, m.Name, m.Version)
}

// A Taken is a name that a binary takes from elsewhere without an import.
type Taken struct {
	Name    string
	Kind    string // "dynamic import", "system call", "encoded import", "symbol", "go package"
	Address string // of a use in its code; empty if none is known
}

// A Name is a symbol in both its forms.
type Name struct{ Mangled, Readable string }

// Functions says how many functions were found, how, and how much of the code
// they cover.
type Functions struct {
	Count    int
	Method   string
	Coverage float64 // 0 to 1
}

// A Section is a named part of a binary.
type Section struct {
	Name    string
	Size    uint64 // in the file
	Access  string // "r-x"
	Entropy float64
}

// A String is a text found in a binary.
type String struct {
	Value string
	Kind  string // "url", "path", "command", …
}

// A BehaviorName is one of the six things that a binary can do, by the words
// of the BinShield API.
type BehaviorName string

// The behaviours.
const (
	Network          BehaviorName = "network"
	Filesystem       BehaviorName = "filesystem"
	Process          BehaviorName = "process"
	Crypto           BehaviorName = "crypto"
	Obfuscation      BehaviorName = "obfuscation"
	DataExfiltration BehaviorName = "dataExfiltration"
)

// BehaviorNames lists the behaviours in the order of reports.
var BehaviorNames = []BehaviorName{Network, Filesystem, Process, Crypto, Obfuscation, DataExfiltration}

// Behaviors are the behaviours that were detected, with what proves them. A
// behaviour without details was not detected.
type Behaviors map[BehaviorName][]Detail

// A Detail is one line of a behaviour: a sentence and the evidence behind it.
type Detail struct {
	Rule     string
	Tier     Tier
	Text     string
	Evidence []finding.Evidence
}

// A Tier says how much a piece of evidence proves.
type Tier string

// The tiers.
const (
	Capability Tier = "capability" // the binary has what it takes
	Use        Tier = "use"        // code of its own makes use of it
	Intent     Tier = "intent"     // it is used together with what shows the purpose
)
