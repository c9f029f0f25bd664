package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// The types of this file are the JSON of the BinShield API, with our additions
// after the published fields. The JSON report and that API share them. Every
// field is always written, and a list is never null. The tag "doc" is for the
// description of the API.

// An Analysis is what BinShield says of one version of a package, less its
// binaries.
type Analysis struct {
	ID                    string            `json:"id" doc:"names the analysis"`
	Ecosystem             target.Ecosystem  `json:"ecosystem" doc:"npm or pypi" enum:"npm,pypi"`
	PackageName           string            `json:"packageName" doc:"with its scope"`
	Version               string            `json:"version" doc:"exactly this one"`
	Status                string            `json:"status" enum:"complete" doc:"a report is made of a complete analysis"`
	RiskScore             int               `json:"riskScore" minimum:"0" maximum:"100" doc:"0 is none"`
	RiskLevel             finding.RiskLevel `json:"riskLevel" enum:"none,low,medium,high,critical" doc:"none is 0, low up to 29, medium up to 59, high up to 79"`
	Summary               string            `json:"summary" doc:"what it is and does, in a few sentences"`
	SourceMatchConfidence string            `json:"sourceMatchConfidence" doc:"of the binary that goes with the published source least"`
	BinaryCount           int               `json:"binaryCount" doc:"how many binaries there are"`
	TotalBinarySize       int64             `json:"totalBinarySize" doc:"in bytes, the sum of fileSize"`
	AIModel               string            `json:"aiModel" doc:"who wrote the explanations; loupe-rules where no model did"`
	CreatedAt             string            `json:"createdAt" format:"date-time" doc:"when it was analysed"`

	Description string `json:"description" doc:"the package's own"`
	License     string `json:"license" doc:"the package's own words"`
	Repository  string `json:"repository" doc:"where the package says its source is"`
	Deprecated  string `json:"deprecated" doc:"the registry's message"`
	Yanked      string `json:"yanked" doc:"the registry's reason"`
	PublishedAt string `json:"publishedAt" doc:"empty if the registry does not say"`
	Provenance  string `json:"provenance" doc:"type of the registry's statement of how it was built, which is not verified; empty if there is none"`
	Parts       []Part `json:"parts" doc:"the archives of the release"`
}

// A Part is one archive of a release.
type Part struct {
	PURL     string `json:"purl" doc:"package URL"`
	Path     string `json:"path" doc:"where it stands among the files that were looked at"`
	Filename string `json:"filename" doc:"name of the file"`
	Digest   string `json:"digest" doc:"as verified: sha512- or sha256- and the digest; empty if the registry gave none"`
	Size     int64  `json:"size" doc:"in bytes"`
	Platform string `json:"platform" doc:"as in linux-x64-musl; empty for any"`
}

// A Binary is what BinShield says of one binary.
type Binary struct {
	ID                string            `json:"id" doc:"the same for the same bytes"`
	Filename          string            `json:"filename" doc:"the last part of path"`
	Architecture      string            `json:"architecture" doc:"x86_64, aarch64 and so on"`
	Format            string            `json:"format" doc:"ELF, PE, Mach-O, Wasm"`
	FileSize          int64             `json:"fileSize" doc:"in bytes"`
	FunctionCount     int               `json:"functionCount" doc:"see functionCountMethod"`
	ImportCount       int               `json:"importCount" doc:"length of imports"`
	RiskScore         int               `json:"riskScore" minimum:"0" maximum:"100" doc:"0 is none"`
	RiskLevel         finding.RiskLevel `json:"riskLevel" enum:"none,low,medium,high,critical" doc:"as that of the analysis"`
	DecompiledPreview string            `json:"decompiledPreview" doc:"see previewKind"`
	AIExplanation     string            `json:"aiExplanation" doc:"what it does, in a few sentences"`
	Imports           []string          `json:"imports" doc:"names in its import table"`
	Strings           []string          `json:"strings" doc:"texts in it that say something"`
	Behaviors         Behaviors         `json:"behaviors" doc:"what it can do"`
	Findings          []BinaryFinding   `json:"findings" doc:"findings of the rules in its file"`

	Path                string           `json:"path" doc:"in the package"`
	Offset              int64            `json:"offset" doc:"of the slice in a fat file, in bytes"`
	SHA256              string           `json:"sha256" doc:"of its bytes, in hex"`
	Origin              inventory.Origin `json:"origin" enum:"package,install-download,embedded" doc:"whether it was in the package, or what brought it"`
	Part                string           `json:"part" doc:"the archive that holds it"`
	OS                  string           `json:"os" doc:"empty if the file does not say"`
	Kind                string           `json:"kind" doc:"shared library, executable and so on"`
	Libraries           []string         `json:"libraries" doc:"that it needs"`
	Exports             []string         `json:"exports" doc:"names that others may call"`
	Demangled           []Name           `json:"demangled" doc:"readable forms of names"`
	FunctionCountMethod string           `json:"functionCountMethod" doc:"how functions were counted"`
	FunctionCoverage    float64          `json:"functionCoverage" minimum:"0" maximum:"1" doc:"share of the code that is in functions"`
	Sections            []Section        `json:"sections" doc:"its named parts"`
	Linkage             string           `json:"linkage" doc:"how it is linked"`
	Stripped            bool             `json:"stripped" doc:"it has no symbol table"`
	Signed              bool             `json:"signed" doc:"it carries a signature"`
	Signature           *Signature       `json:"signature" doc:"null if there is none that is read"`
	Language            string           `json:"language" doc:"it was written in, as far as that shows"`
	Toolchain           []string         `json:"toolchain" doc:"that it says it was built with"`
	BuildID             string           `json:"buildId" doc:"given by its linker"`
	Taken               []Taken          `json:"taken" doc:"names from elsewhere that are not in its import table"`
	RiskTerms           []finding.Term   `json:"riskTerms" doc:"of which the score is the sum"`
	SourceMatch         SourceMatch      `json:"sourceMatch" doc:"how much of the published source is in it"`
	PreviewKind         string           `json:"previewKind" doc:"call-skeleton: what a function calls, and no source; empty without a preview"`
}

// A Taken is a name that a binary looks up while it runs, calls the kernel for,
// or carries along from a library.
type Taken struct {
	Name    string `json:"name" doc:"what is used"`
	Kind    string `json:"kind" doc:"dynamic import, system call, encoded import, symbol, go package"`
	Address string `json:"address" doc:"of a use in its code; empty if none is known"`
}

func newTaken(list []inventory.Taken) []Taken {
	out := make([]Taken, 0, len(list))
	for _, t := range list {
		out = append(out, Taken(t))
	}
	return out
}

// A SourceMatch says how much of the published source is found in a binary.
type SourceMatch struct {
	Confidence inventory.MatchLevel `json:"confidence" enum:"unknown,low,medium,high" doc:"unknown where nothing can be said"`
	Score      float64              `json:"score" minimum:"0" maximum:"1" doc:"share of texts that were found"`
	Found      int                  `json:"found" doc:"texts of the source that are in the binary"`
	Of         int                  `json:"of" doc:"texts of those files of source that seem to be part of it"`
	Reason     string               `json:"reason" doc:"why it is so"`
}

// callSkeleton is the kind of preview that there is.
const callSkeleton = "call-skeleton"

func previewKind(preview string) string {
	if preview == "" {
		return ""
	}
	return callSkeleton
}

func newSourceMatch(m *inventory.SourceMatch) SourceMatch {
	if m == nil {
		return SourceMatch{Confidence: inventory.MatchUnknown, Reason: "No source was published beside it."}
	}
	return SourceMatch{Confidence: m.Level, Score: round(m.Score, 3), Found: m.Found, Of: m.Of, Reason: m.Reason}
}

// A Name is a symbol and its readable form.
type Name struct {
	Name     string `json:"name" doc:"as it is in the file"`
	Readable string `json:"readable" doc:"as people write it"`
}

// A Section is a named part of a binary.
type Section struct {
	Name    string  `json:"name" doc:"as it is in the file"`
	Size    uint64  `json:"size" doc:"in bytes"`
	Access  string  `json:"access" doc:"in memory: rwx, - for each that is not"`
	Entropy float64 `json:"entropy" minimum:"0" maximum:"8" doc:"bits per byte"`
}

// Behaviors are the six things that a binary can do.
type Behaviors struct {
	Network          Behavior `json:"network" doc:"talks to others"`
	Filesystem       Behavior `json:"filesystem" doc:"reads and writes files"`
	Process          Behavior `json:"process" doc:"starts and meddles with programs"`
	Crypto           Behavior `json:"crypto" doc:"encrypts, hashes, draws random numbers"`
	Obfuscation      Behavior `json:"obfuscation" doc:"hides what it is"`
	DataExfiltration Behavior `json:"dataExfiltration" doc:"sends away what is not its own"`
}

// A Behavior is detected exactly if it has details.
type Behavior struct {
	Detected bool               `json:"detected" doc:"there are details"`
	Details  []string           `json:"details" doc:"what it does, a sentence each"`
	Evidence []BehaviorEvidence `json:"evidence" doc:"what proves the details"`
}

// BehaviorEvidence is what proves the detail at index Detail.
type BehaviorEvidence struct {
	Detail  int            `json:"detail" doc:"index of the detail that it proves"`
	Rule    string         `json:"rule" doc:"that found it"`
	Tier    inventory.Tier `json:"tier" enum:"capability,use,intent" doc:"how sure it is"`
	Kind    string         `json:"kind" doc:"import, text, code and so on"`
	Value   string         `json:"value" doc:"what was found"`
	From    string         `json:"from" doc:"where it comes from"`
	Address string         `json:"address" doc:"of the use in code, if one was found"`

	Function      string   `json:"function" doc:"that holds the address; empty if it is not in known code"`
	Callers       []string `json:"callers" doc:"functions that call it"`
	ReachableFrom string   `json:"reachableFrom" doc:"export f, entry point and so on, or nothing; empty if not known"`
}

// A BinaryFinding is a finding in BinShield's words.
type BinaryFinding struct {
	Severity       finding.Severity   `json:"severity" doc:"how bad it is" enum:"info,low,medium,high,critical"`
	Title          string             `json:"title" doc:"what it is"`
	Description    string             `json:"description" doc:"what was found, and what that means"`
	Location       string             `json:"location" doc:"the most exact place known: a function, an address, a line, the file"`
	Recommendation string             `json:"recommendation" doc:"what to do about it"`
	RuleID         string             `json:"ruleId" doc:"of the rule that found it"`
	Confidence     finding.Confidence `json:"confidence" doc:"how sure it is"`
}

// NewAnalysis returns the analysis of a package, or nil if the target of r is
// no package.
func NewAnalysis(r *Report) *Analysis {
	r = settled(r)
	rel := release(r)
	if rel == nil {
		return nil
	}
	a := &Analysis{
		ID:                    "pkg_" + digest(rel.PURL()),
		Ecosystem:             rel.Ecosystem,
		PackageName:           rel.Name,
		Version:               rel.Version,
		Status:                "complete",
		RiskScore:             r.Risk.Score,
		RiskLevel:             r.Risk.Level(),
		Summary:               r.Summary,
		SourceMatchConfidence: string(sourceMatch(r.Binaries)),
		BinaryCount:           len(r.Binaries),
		AIModel:               r.AIModel,
		CreatedAt:             stamp(r.CompletedAt),
		Description:           rel.Description,
		License:               rel.License,
		Repository:            rel.Repository,
		Deprecated:            rel.Deprecated,
		Yanked:                rel.Yanked,
		Provenance:            rel.Provenance,
		Parts:                 make([]Part, 0, len(rel.Parts)),
	}
	if !rel.Published.IsZero() {
		a.PublishedAt = stamp(rel.Published)
	}
	for _, b := range r.Binaries {
		a.TotalBinarySize += b.Size
	}
	for _, p := range rel.Parts {
		a.Parts = append(a.Parts, Part(p))
	}
	return a
}

// sourceMatch returns the lowest level of those binaries of which anything can
// be said.
func sourceMatch(bs []*inventory.Binary) inventory.MatchLevel {
	lowest := inventory.MatchUnknown
	for _, b := range bs {
		if b.SourceMatch == nil || b.SourceMatch.Level == inventory.MatchUnknown {
			continue
		}
		if lowest == inventory.MatchUnknown || slices.Index(inventory.MatchLevels, b.SourceMatch.Level) < slices.Index(inventory.MatchLevels, lowest) {
			lowest = b.SourceMatch.Level
		}
	}
	return lowest
}

// release returns the release that r is about. A package of which no more than
// its name is known is a release of that name.
func release(r *Report) *inventory.Release {
	if r.Release == nil && r.Target.Kind == target.Package {
		return &inventory.Release{Ecosystem: r.Target.Ecosystem, Name: r.Target.Name, Version: r.Target.Version}
	}
	return r.Release
}

// NewBinaries returns the binaries of r in its order, each with the findings
// in its file. The slices of a fat file share those.
func NewBinaries(r *Report) []Binary {
	r = settled(r)
	findings := findingsByPath(r.Findings)
	ids := binaryIDs(r.Binaries)
	bs := make([]Binary, len(r.Binaries))
	for i, b := range r.Binaries {
		bs[i] = newBinary(b, ids[i], findings[b.Path])
	}
	return bs
}

func newBinary(b *inventory.Binary, id string, findings []finding.Finding) Binary {
	w := Binary{
		ID:                  id,
		Filename:            path.Base(b.Path),
		Architecture:        b.Arch,
		Format:              b.Format,
		FileSize:            b.Size,
		FunctionCount:       b.Functions.Count,
		ImportCount:         len(b.Imports),
		RiskScore:           b.Risk.Score,
		RiskLevel:           b.Risk.Level(),
		DecompiledPreview:   b.Preview,
		AIExplanation:       b.Explanation,
		Imports:             list(b.Imports),
		Strings:             make([]string, 0, len(b.Strings)),
		Behaviors:           newBehaviors(b.Behaviors),
		Findings:            make([]BinaryFinding, 0, len(findings)),
		Path:                b.Path,
		Offset:              b.Offset,
		SHA256:              b.SHA256,
		Origin:              b.Origin,
		Part:                b.Part,
		OS:                  b.OS,
		Kind:                b.Kind,
		Libraries:           list(b.Libraries),
		Exports:             list(b.Exports),
		Demangled:           make([]Name, 0, len(b.Demangled)),
		FunctionCountMethod: b.Functions.Method,
		FunctionCoverage:    round(b.Functions.Coverage, 4),
		Sections:            make([]Section, 0, len(b.Sections)),
		Linkage:             b.Linkage,
		Stripped:            b.Stripped,
		Signed:              b.Signed,
		Signature:           newSignature(b.Signature),
		Language:            b.Language,
		Toolchain:           list(b.Toolchain),
		BuildID:             b.BuildID,
		RiskTerms:           list(b.Risk.Terms),
		Taken:               newTaken(b.Taken),
		SourceMatch:         newSourceMatch(b.SourceMatch),
		PreviewKind:         previewKind(b.Preview),
	}
	for _, s := range b.Strings {
		w.Strings = append(w.Strings, s.Value)
	}
	for _, n := range b.Demangled {
		w.Demangled = append(w.Demangled, Name{Name: n.Mangled, Readable: n.Readable})
	}
	for _, s := range b.Sections {
		w.Sections = append(w.Sections, Section{Name: s.Name, Size: s.Size, Access: s.Access, Entropy: round(s.Entropy, 3)})
	}
	for _, f := range findings {
		w.Findings = append(w.Findings, BinaryFinding{
			Severity: f.Severity, Title: f.Title, Description: f.Description, Location: place(f.Location),
			Recommendation: f.Remediation, RuleID: f.Rule, Confidence: f.Confidence,
		})
	}
	return w
}

func newBehaviors(bs inventory.Behaviors) Behaviors {
	return Behaviors{
		Network:          newBehavior(bs[inventory.Network]),
		Filesystem:       newBehavior(bs[inventory.Filesystem]),
		Process:          newBehavior(bs[inventory.Process]),
		Crypto:           newBehavior(bs[inventory.Crypto]),
		Obfuscation:      newBehavior(bs[inventory.Obfuscation]),
		DataExfiltration: newBehavior(bs[inventory.DataExfiltration]),
	}
}

func newBehavior(details []inventory.Detail) Behavior {
	b := Behavior{Detected: len(details) > 0, Details: []string{}, Evidence: []BehaviorEvidence{}}
	for i, d := range details {
		b.Details = append(b.Details, d.Text)
		for _, e := range d.Evidence {
			b.Evidence = append(b.Evidence, BehaviorEvidence{
				Detail: i, Rule: d.Rule, Tier: d.Tier, Kind: e.Kind, Value: e.Value, From: e.From, Address: e.Address,
				Function: e.Function, Callers: list(e.Callers), ReachableFrom: e.Reachable,
			})
		}
	}
	return b
}

// binaryIDs returns an id for each binary, made from what it holds, so that a
// binary keeps its id from release to release. Copies are numbered.
func binaryIDs(bs []*inventory.Binary) []string {
	ids := make([]string, len(bs))
	taken := make(names)
	for i, b := range bs {
		ids[i] = taken.unique("bin_"+short(b), "_")
	}
	return ids
}

// names are those that a document has given away, each with how often it was
// asked for.
type names map[string]int

// unique returns s, or s with the separator and a number if s is taken.
func (n names) unique(s, separator string) string {
	for {
		n[s]++
		if n[s] == 1 {
			return s
		}
		if numbered := fmt.Sprintf("%s%s%d", s, separator, n[s]); n[numbered] == 0 {
			n[numbered] = 1
			return numbered
		}
	}
}

// short returns 16 hex digits of the digest of b, or of its place if it has none.
func short(b *inventory.Binary) string {
	if isHex(b.SHA256, sha256.Size) {
		return strings.ToLower(b.SHA256[:16])
	}
	return digest(fmt.Sprintf("%s\x00%d", b.Path, b.Offset))
}

// isHex reports whether s is n bytes in hex.
func isHex(s string, n int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == n
}

// digest returns 16 hex digits that stand for s in an id.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// place returns the most exact place that l knows, in words.
func place(l finding.Location) string {
	file := l.Path
	if l.Path != "" && l.Line > 0 {
		file = fmt.Sprintf("%s:%d", l.Path, l.Line)
	}
	return cmp.Or(l.Symbol, l.Address, file, l.URL)
}

// stamp returns t in UTC with milliseconds: "2026-03-20T12:00:00.000Z".
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// round returns x with so many digits after the point, so that the last bits
// of a processor's arithmetic do not show. What is no number is zero.
func round(x float64, digits int) float64 {
	scale := math.Pow10(digits)
	if y := math.Round(x*scale) / scale; !math.IsNaN(y) && !math.IsInf(y, 0) {
		return y
	}
	return 0
}

// list returns s as a list that JSON does not write as null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
