package report

import (
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// A Diff is what is different between two reports: the JSON of the BinShield
// API, with our additions after the published fields. Every field is always
// written, and a list is never null. Whatever is added from one version to
// another is removed from the other to the one, in the same words.
type Diff struct {
	Schema           string           `json:"schema"` // "loupe-diff/v1"
	PackageName      string           `json:"packageName"`
	Ecosystem        target.Ecosystem `json:"ecosystem"` // empty for files
	FromVersion      string           `json:"fromVersion"`
	ToVersion        string           `json:"toVersion"`
	RiskDelta        int              `json:"riskDelta"`        // to less from, -100 to 100
	Summary          string           `json:"summary"`          // a paragraph
	AddedBehaviors   []string         `json:"addedBehaviors"`   // sentences, sorted
	RemovedBehaviors []string         `json:"removedBehaviors"` // sentences, sorted

	From       DiffSide         `json:"from"`
	To         DiffSide         `json:"to"`
	Tool       Tool             `json:"tool"`
	Binaries   []BinaryDiff     `json:"binaries"` // those that are not the same first
	Install    InstallDiff      `json:"install"`
	Components ComponentDiff    `json:"components"`
	Findings   FindingDiff      `json:"findings"`
	Release    []PropertyChange `json:"release"` // of what the registry says
}

// DiffSchema names the form of a [Diff] as JSON.
const DiffSchema = "loupe-diff/v1"

// A DiffSide is one of the two things that are compared.
type DiffSide struct {
	Target          string            `json:"target"`
	RiskScore       int               `json:"riskScore"`
	RiskLevel       finding.RiskLevel `json:"riskLevel"`
	BinaryCount     int               `json:"binaryCount"`
	TotalBinarySize int64             `json:"totalBinarySize"` // in bytes
	FindingCount    int               `json:"findingCount"`
	Notes           []finding.Note    `json:"notes"` // what was not looked at on this side only
}

// A DiffStatus says what became of something.
type DiffStatus string

// The states.
const (
	DiffAdded   DiffStatus = "added"
	DiffRemoved DiffStatus = "removed"
	DiffChanged DiffStatus = "changed"
	DiffSame    DiffStatus = "same" // byte for byte
)

// A PairedBy says how a binary was found in the other version.
type PairedBy string

// The ways, the surest first.
const (
	ByPath       PairedBy = "path"
	ByContent    PairedBy = "content"    // the same bytes in another place
	ByVersion    PairedBy = "version"    // the same path but for version numbers
	ByPlatform   PairedBy = "platform"   // the same name for the same platform
	ByOuter      PairedBy = "outer"      // the same place inside of files that are paired
	BySimilarity PairedBy = "similarity" // it names and holds much of the same
)

// A BinaryDiff is what became of one binary. What is "from" is empty for one
// that was added, what is "to" for one that was removed.
type BinaryDiff struct {
	Status       DiffStatus `json:"status"`
	FromPath     string     `json:"fromPath"`
	ToPath       string     `json:"toPath"`
	PairedBy     PairedBy   `json:"pairedBy"`
	Similarity   float64    `json:"similarity"` // 0 to 1; of those paired by it
	Format       string     `json:"format"`
	Architecture string     `json:"architecture"`
	OS           string     `json:"os"`
	FromSize     int64      `json:"fromSize"` // in bytes
	ToSize       int64      `json:"toSize"`
	SizeDelta    int64      `json:"sizeDelta"`
	FromSHA256   string     `json:"fromSha256"`
	ToSHA256     string     `json:"toSha256"`
	FromRisk     int        `json:"fromRisk"`
	ToRisk       int        `json:"toRisk"`

	Functions  FunctionDiff     `json:"functions"`
	Imports    NameDiff         `json:"imports"`
	Exports    NameDiff         `json:"exports"`
	Demangled  []Name           `json:"demangled"` // those of imports and exports that read otherwise, and of what functions name; sorted
	Libraries  NameDiff         `json:"libraries"`
	Strings    StringDiff       `json:"strings"` // addresses, hosts, paths and commands
	Behaviors  BehaviorDiff     `json:"behaviors"`
	Signature  *SignatureDiff   `json:"signature"`  // null if nothing about it changed
	Properties []PropertyChange `json:"properties"` // what else is different
}

// A FunctionDiff is what became of the functions of a binary. Those that are
// compared may be more than a scan counts: what only jumps or data lead to is
// held against the other side as well.
type FunctionDiff struct {
	From    int `json:"from"`    // how many there are, as a scan counts them
	To      int `json:"to"`      //
	Paired  int `json:"paired"`  // of those that are compared: found on both sides
	Same    int `json:"same"`    // of those: the same instructions, as far as they can be read, and the same names
	Changed int `json:"changed"` // of those: the others
	Added   int `json:"added"`
	Removed int `json:"removed"`

	ChangedNames []FunctionChange `json:"changedNames"` // the most telling ones, first those that name other imports
	AddedNames   []FunctionChange `json:"addedNames"`   // the most telling ones
	RemovedNames []FunctionChange `json:"removedNames"`
}

// A FunctionChange is what became of one function.
type FunctionChange struct {
	From           string   `json:"from"` // its name, or sub_1a20 by its address
	To             string   `json:"to"`
	FromSize       uint64   `json:"fromSize"` // in bytes
	ToSize         uint64   `json:"toSize"`
	AddedImports   []string `json:"addedImports"` // that it calls or names
	RemovedImports []string `json:"removedImports"`
}

// A NameDiff is what is new in a list of names and what is gone, sorted.
type NameDiff struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
}

// A StringDiff is what is new among telling texts and what is gone.
type StringDiff struct {
	Added   []Text `json:"added"`
	Removed []Text `json:"removed"`
}

// A Text is a text of a binary.
type Text struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
}

// A BehaviorDiff is which behaviours are new and which are gone.
type BehaviorDiff struct {
	Added   []BehaviorChange `json:"added"`
	Removed []BehaviorChange `json:"removed"`
}

// A BehaviorChange is a behaviour that only one side has.
type BehaviorChange struct {
	Behavior inventory.BehaviorName `json:"behavior"`
	Rule     string                 `json:"rule"`
	Tier     inventory.Tier         `json:"tier"`
	Text     string                 `json:"text"`
}

// A SignatureDiff is what became of a binary's signature.
type SignatureDiff struct {
	From string `json:"from"` // a phrase: "Authenticode by Example Ltd, valid"
	To   string `json:"to"`
}

// A PropertyChange is a property that has another value.
type PropertyChange struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// An InstallDiff is what became of what happens at installation.
type InstallDiff struct {
	Scripts   []ScriptChange   `json:"scripts"`
	Downloads []DownloadChange `json:"downloads"`
	Assets    []AssetChange    `json:"assets"`
}

// A ScriptChange is what became of a script that runs at installation.
type ScriptChange struct {
	Status DiffStatus `json:"status"`
	Path   string     `json:"path"`
	Stage  string     `json:"stage"` // "install"
	From   string     `json:"from"`  // the command
	To     string     `json:"to"`
}

// A DownloadChange is what became of something that is fetched at installation.
type DownloadChange struct {
	Status DiffStatus    `json:"status"`
	Stage  string        `json:"stage"`
	From   *DownloadSide `json:"from"` // null if it was added
	To     *DownloadSide `json:"to"`   // null if it was removed
}

// A DownloadSide is what one side fetches.
type DownloadSide struct {
	Tool    string          `json:"tool"`
	Command string          `json:"command"`
	URL     string          `json:"url"`    // the first address
	Assets  int             `json:"assets"` // how many addresses there are
	Pin     inventory.Pin   `json:"pin"`
	Owner   inventory.Owner `json:"owner"`
}

// An AssetChange is an address that both sides fetch and behind which other
// bytes were found.
type AssetChange struct {
	Severity   finding.Severity `json:"severity"`
	URL        string           `json:"url"`
	FromSHA256 string           `json:"fromSha256"`
	ToSHA256   string           `json:"toSha256"`
}

// A ComponentDiff is what became of the packages of which a target is made.
type ComponentDiff struct {
	Added   []Component        `json:"added"`
	Removed []Component        `json:"removed"`
	Changed []ComponentVersion `json:"changed"`
}

// A ComponentVersion is a package of which there is another version.
type ComponentVersion struct {
	Name string `json:"name"`
	From string `json:"from"` // package URLs
	To   string `json:"to"`
}

// A FindingDiff is what became of the findings.
type FindingDiff struct {
	Added   []finding.Finding `json:"added"`
	Removed []finding.Finding `json:"removed"`
	Changed []SeverityChange  `json:"changed"`
}

// A SeverityChange is a finding that is rated otherwise.
type SeverityChange struct {
	From    finding.Severity `json:"from"`
	Finding finding.Finding  `json:"finding"` // as it is now
}

// Empty reports whether nothing is different.
func (d *Diff) Empty() bool {
	for _, b := range d.Binaries {
		if b.Status != DiffSame || b.FromPath != b.ToPath {
			return false
		}
	}
	return d.RiskDelta == 0 && len(d.AddedBehaviors)+len(d.RemovedBehaviors) == 0 &&
		len(d.Install.Scripts)+len(d.Install.Downloads)+len(d.Install.Assets) == 0 &&
		len(d.Components.Added)+len(d.Components.Removed)+len(d.Components.Changed) == 0 &&
		len(d.Findings.Added)+len(d.Findings.Removed)+len(d.Findings.Changed) == 0 && len(d.Release) == 0
}
