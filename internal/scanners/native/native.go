// Package native says what the native binaries of a target are and do. It
// recognises them by content, reads them with the parsers of formats/native,
// and tries the rules of internal/rules/native on what it read.
//
// A rule's evidence is what the binary itself holds: imports, symbols,
// strings, constants, sections. What a compiler's runtime brings along is
// taken off first (internal/rules/runtime), so that a binary is not said to do
// what every binary of its toolchain can.
package native

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/golang"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/pair"
	"github.com/loupe-sec/loupe/internal/formats/native/rust"
	"github.com/loupe-sec/loupe/internal/rules"
)

// Scanner looks at every native binary with the built-in rules.
var Scanner = &scan.Scanner{
	Name:    "native",
	Doc:     "say what native binaries are and do",
	Version: 1,
	Rules:   rules.Area("native"),
	Gives:   []scan.Fact{inventory.Binaries},
	Wants:   wants,
	File: func(ctx context.Context, p *scan.Pass, f *scan.File) error {
		set, err := builtin()
		if err != nil {
			return err
		}
		return set.file(ctx, p, f)
	},
	Pure: &scan.Pure{Place: placeBinary},
}

// placeBinary says of a binary where it was found.
func placeBinary(value any, f *scan.File) {
	b := value.(*inventory.Binary)
	b.Path, b.Part, b.Origin = f.Path, f.Part.Label, inventory.OriginOf(f.Part.Origin)
	if f.Embedded {
		b.Origin = inventory.FromEmbedded
	}
}

var builtin = sync.OnceValues(func() (*ruleset, error) { return compileTested(rules.Area("native"), rules.Runtimes()) })

// Prepare gets the built-in rules ready, so that a program that fetches
// something first need not wait for them later.
func Prepare() {
	if set, err := builtin(); err == nil { // what is wrong with them, the scan will say
		set.secrets()
	}
}

// New returns a scanner like [Scanner] with rules of the user's instead of the
// built-in ones, or an error that names every rule that cannot be used.
func New(set []*rule.Rule) (*scan.Scanner, error) {
	compiled, err := compile(set, rules.Runtimes())
	if err != nil {
		return nil, err
	}
	s := *Scanner
	s.Rules, s.File = set, compiled.file
	return &s, nil
}

// marking is the key of a context in which the marks of functions are kept.
type marking struct{}

// Marking returns a scanner like s, which is [Scanner] or one of [New], that
// also keeps what it takes to find the functions of a binary in another version.
func Marking(s *scan.Scanner) *scan.Scanner {
	out := *s
	out.Pure = &scan.Pure{Variant: "marks", Place: placeBinary}
	out.File = func(ctx context.Context, p *scan.Pass, f *scan.File) error {
		return s.File(context.WithValue(ctx, marking{}, true), p, f)
	}
	return &out
}

// wants chooses binaries by their content. Static libraries are archives, whose
// members come as files of their own.
func wants(f *scan.File) bool { return f.Archive == "" && native.Identify(f.Head()).Native() }

// maxImages bounds the slices of a fat file.
const maxImages = 200

func (set *ruleset) file(ctx context.Context, p *scan.Pass, f *scan.File) error {
	opened, err := scan.Share(f, native.Open)
	if err != nil {
		return err
	}
	binaries, notes := opened.Begun()
	note(p, f, notes)
	if len(binaries) > maxImages {
		p.Note(f.Path, "not looked at: %d of %d binaries in this file", len(binaries)-maxImages, len(binaries))
		binaries = binaries[:maxImages]
	}
	like := map[image.Arch]int{} // slices so far
	for _, b := range binaries {
		note(p, f, b.Notes)
		like[b.Arch]++
		if err := set.binary(ctx, p, f, b, like[b.Arch]); err != nil {
			return err
		}
	}
	return nil
}

func note(p *scan.Pass, f *scan.File, notes []string) {
	for _, n := range notes {
		p.Note(f.Path, "%s", n)
	}
}

// binary tries the rules on one binary, the nth of its architecture in the
// file, and makes it known.
func (set *ruleset) binary(ctx context.Context, p *scan.Pass, f *scan.File, b *native.Binary, n int) error {
	noted := len(b.Notes)
	s := newSubject(set, b, func() bool { return ctx.Err() != nil })
	note(p, f, b.Notes[noted:])
	known := describe(f, b)
	known.Slice = known.Arch
	if n > 1 {
		known.Slice = fmt.Sprintf("%s %d", known.Arch, n)
	}
	known.Silent = s.silent()
	known.Partial = s.partial()
	known.Taken = s.taken()
	known.Behaviors = inventory.Behaviors{}
	var telling *shown
	var cut error // what came before the rules were through; what they found until then is kept
	for i := range set.rules {
		if cut = context.Cause(ctx); cut != nil {
			break // a hostile file makes rules slow
		}
		r := &set.rules[i]
		v, held := s.try(r)
		if !held {
			continue
		}
		if c, ok := v.candidate(cmp.Or(v.severity, r.rule.Severity)); ok && (telling == nil || c.better(*telling)) {
			telling = &c
		}
		if r.behavior != "" && !v.unused {
			known.Behaviors[r.behavior] = append(known.Behaviors[r.behavior], inventory.Detail{
				Rule: r.rule.ID, Tier: v.tier, Text: v.text, Evidence: v.evidence,
			})
		}
		p.Report(r.rule, finding.Finding{
			Severity:    v.severity,
			Confidence:  v.confidence,
			Description: v.text,
			Location:    place(known, v.evidence),
			PURL:        known.Part,
			Evidence:    v.evidence,
			Anchor:      known.Slice,
		})
	}
	if cut == nil {
		known.Preview = s.program.preview(telling)
	}
	if cut == nil && ctx.Value(marking{}) != nil {
		known.Marks = pair.Marks(s.program.Code, s.program.marks)
	}
	for _, details := range known.Behaviors {
		slices.SortStableFunc(details, func(a, b inventory.Detail) int { return cmp.Compare(rank(b.Tier), rank(a.Tier)) })
	}
	if s.program.values.Spent() {
		p.Note(f.Path, "not looked at to the end: what is passed to its calls, of which there are too many")
	}
	if known.Silent {
		p.Note(f.Path, "not looked at: the calls of a statically linked program, which takes nothing from elsewhere that could be named")
	}
	inventory.Binaries.Add(p, known)
	return cut
}

// silent reports whether a binary shows nothing of what it calls: it is linked
// statically, without names. Go's own table names functions all the same.
func (s *subject) silent() bool {
	return len(s.imports) == 0 && s.bin.Linkage != image.Dynamic && len(s.bin.Imports) == 0 && s.bin.GoInfo == nil &&
		s.bin.Format != image.Wasm && s.bin.Kind != image.Object && len(s.bin.Symbols) == 0 && s.bin.Functions.Count > 20
}

// partial reports whether a binary is cut off or broken so early that neither
// its imports nor its functions could be read.
func (s *subject) partial() bool {
	return len(s.bin.Notes) > 0 && len(s.bin.Imports) == 0 && s.bin.Functions.Count == 0
}

// rank orders tiers by what they prove.
func rank(t inventory.Tier) int {
	return slices.Index([]inventory.Tier{inventory.Capability, inventory.Use, inventory.Intent}, t)
}

// place points to the first evidence that has a place of its own.
func place(b *inventory.Binary, ev []finding.Evidence) finding.Location {
	at := finding.Location{Path: b.Path}
	for _, e := range ev {
		if e.Kind == "import" || e.Kind == "dynamic import" || e.Kind == "encoded import" || e.Kind == "system call" || e.Kind == "symbol" || e.Kind == "go function" || e.Kind == "export" {
			at.Symbol, at.Address = e.Value, e.Address
			return at
		}
	}
	for _, e := range ev {
		if e.Address != "" {
			at.Address = e.Address
			return at
		}
	}
	return at
}

// maxDemangled bounds the readable names of one binary: C++ libraries export
// tens of thousands.
const maxDemangled = 500

// describe turns what the parsers read into what reports show, less where the
// file lies.
func describe(f *scan.File, b *native.Binary) *inventory.Binary {
	out := &inventory.Binary{
		Offset:    b.Offset,
		Size:      int64(len(b.Data)),
		SHA256:    hash(f, b),
		Format:    string(b.Format),
		Arch:      string(b.Arch),
		OS:        b.OS,
		Kind:      string(b.Kind),
		Libraries: b.Libraries,
		Imports:   b.ImportNames(),
		Exports:   b.ExportNames(),
		Functions: inventory.Functions{Count: b.Functions.Count, Method: b.Functions.Method, Coverage: b.Functions.Coverage},
		Stripped:  b.Stripped,
		Linkage:   string(b.Linkage),
		Signed:    b.Signed,
		Signature: signed(b.Image),
		Language:  b.Language,
		Toolchain: b.Toolchain,
		BuildID:   b.BuildID,
	}
	for i, s := range b.Sections {
		if s.FileSize > 0 {
			out.Sections = append(out.Sections, inventory.Section{Name: s.Name, Size: s.FileSize, Access: s.Access.String(), Entropy: b.Entropy(i)})
		}
	}
	for _, s := range b.Strings {
		out.Strings = append(out.Strings, inventory.String{Value: s.Value, Kind: string(s.Kind)})
	}
	out.Modules = modules(b)
	out.Demangled = readable(out.Imports, out.Exports)
	return out
}

// hash returns the SHA-256 of a binary, which of a whole file is known.
func hash(f *scan.File, b *native.Binary) string {
	if data, err := f.Data(); err == nil && len(data) == len(b.Data) {
		if sum, err := f.SHA256(); err == nil {
			return sum
		}
	}
	h := sha256.New()
	cursor.Hash(h, b.Data)
	return hex.EncodeToString(h.Sum(nil))
}

// modules returns the Go modules and Rust crates that a binary names. Crates of
// the standard library come with the compiler and are left out.
func modules(b *native.Binary) []inventory.Module {
	var out []inventory.Module
	if b.GoInfo != nil {
		for _, m := range append([]golang.Module{b.GoInfo.Main}, b.GoInfo.Deps...) {
			if m.Replace != nil {
				m = *m.Replace
			}
			if m.Path != "" && m.Version != "(devel)" && m.Version != "" {
				out = append(out, inventory.Module{Type: "golang", Name: m.Path, Version: m.Version, Source: "build information", Confidence: finding.Confirmed})
			}
		}
		if len(b.GoInfo.Deps) == 0 && b.GoInfo.Main.Path == "" {
			out = append(out, goModules(b.GoInfo)...)
		}
	}
	for _, c := range b.Crates {
		if c.Origin == "registry" && !c.Build {
			m := inventory.Module{Type: "cargo", Name: c.Name, Version: c.Version, Source: "source paths", Confidence: finding.Likely}
			if c.Source == rust.Audit {
				m.Source, m.Confidence = "audit data", finding.Confirmed
			}
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b inventory.Module) int { return strings.Compare(a.PURL(), b.PURL()) })
	return slices.Compact(out)
}

// goModules returns the modules that the functions of a binary belong to, as far
// as the paths of their packages tell, for a binary whose build information was
// taken off. Their versions are not known.
func goModules(info *golang.Info) []inventory.Module {
	seen := map[string]bool{}
	var out []inventory.Module
	for _, f := range info.Functions {
		pkg := f.Package()
		if pkg == "" || golang.Standard(pkg) {
			continue
		}
		if m := moduleOf(pkg); m != "" && !seen[m] {
			seen[m] = true
			out = append(out, inventory.Module{Type: "golang", Name: m, Source: "function names", Confidence: finding.Likely})
		}
	}
	return out
}

// moduleOf returns the module that a package most likely belongs to: hosts of
// repositories have two elements behind their name, others mostly one.
func moduleOf(pkg string) string {
	parts := strings.Split(pkg, "/")
	if !strings.Contains(parts[0], ".") || len(parts) < 2 {
		return "" // a command's own packages
	}
	n := 2
	switch parts[0] {
	case "github.com", "gitlab.com", "bitbucket.org", "golang.org", "codeberg.org", "google.golang.org":
		n = 3
	case "gopkg.in":
		if !strings.Contains(parts[1], ".v") {
			n = 3
		}
	}
	if parts[0] == "google.golang.org" {
		n = 2
	}
	if len(parts) > n && len(parts[n]) > 1 && parts[n][0] == 'v' && strings.Trim(parts[n][1:], "0123456789") == "" {
		n++ // a major version
	}
	return strings.Join(parts[:min(n, len(parts))], "/")
}

// taken returns the names that a binary takes from elsewhere past its import
// table.
func (s *subject) taken() []inventory.Taken {
	var out []inventory.Taken
	for i := range s.imports {
		imp := &s.imports[i]
		if imp.source == fromTable || len(out) == maxTaken {
			continue
		}
		t := inventory.Taken{Name: finding.Printable(cmp.Or(imp.shown, imp.name), maxFunctionName), Kind: sourceKinds[imp.source]}
		if len(imp.own) > 0 {
			t.Address = address(imp.own[0])
		}
		out = append(out, t)
	}
	if s.bin.GoInfo != nil {
		for _, pkg := range goPackages(s.bin.GoInfo) {
			out = append(out, inventory.Taken{Name: finding.Printable(pkg, maxFunctionName), Kind: "go package"})
		}
	}
	slices.SortFunc(out, func(a, b inventory.Taken) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Address, b.Address))
	})
	return slices.CompactFunc(out, func(a, b inventory.Taken) bool { return a.Kind == b.Kind && a.Name == b.Name })
}

// maxTaken bounds the names of one binary.
const maxTaken = 2000

// goPackages returns the packages of Go's library of which functions are in the
// binary.
func goPackages(info *golang.Info) []string {
	seen := map[string]bool{}
	for _, f := range info.Functions {
		if pkg := f.Package(); pkg != "" && golang.Standard(pkg) && !strings.Contains(pkg, "internal") && !strings.HasPrefix(pkg, "vendor/") {
			seen[pkg] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// readable returns the names of two sorted lists whose readable form differs,
// sorted.
func readable(a, b []string) []inventory.Name {
	var out []inventory.Name
	for last := ""; len(out) < maxDemangled && len(a)+len(b) > 0; {
		next := &a
		if len(a) == 0 || len(b) > 0 && b[0] < a[0] {
			next = &b
		}
		m := (*next)[0]
		*next = (*next)[1:]
		if m == last {
			continue
		}
		last = m
		if r := native.Demangle(m); r != m {
			out = append(out, inventory.Name{Mangled: m, Readable: finding.Printable(r, 500)})
		}
	}
	return out
}
