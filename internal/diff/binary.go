package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/report"
)

// binaryDiffs describes what became of each binary: those that are new or gone
// first, then those that changed, then the rest.
func (c *comparison) binaryDiffs() []report.BinaryDiff {
	out := make([]report.BinaryDiff, 0, len(c.pairs))
	for _, p := range c.pairs {
		out = append(out, c.binary(p))
	}
	slices.SortStableFunc(out, func(a, b report.BinaryDiff) int { return cmp.Compare(weight(a), weight(b)) })
	return out
}

// weight orders binaries by what became of them, the same from either side.
func weight(b report.BinaryDiff) int {
	switch {
	case b.Status == report.DiffAdded, b.Status == report.DiffRemoved:
		return 0
	case len(b.Behaviors.Added)+len(b.Behaviors.Removed) > 0:
		return 1
	case b.Status == report.DiffChanged:
		return 2
	case b.FromPath != b.ToPath:
		return 3
	}
	return 4
}

var none = &inventory.Binary{}

func (c *comparison) binary(p pairing) report.BinaryDiff {
	a, b, known := cmp.Or(p.from, none), cmp.Or(p.to, none), cmp.Or(p.to, p.from)
	d := report.BinaryDiff{
		Status: report.DiffChanged, FromPath: a.Path, ToPath: b.Path, PairedBy: p.by, Similarity: float64(int(p.alike*1000)) / 1000,
		Format: known.Format, Architecture: known.Arch, OS: known.OS,
		FromSize: a.Size, ToSize: b.Size, SizeDelta: b.Size - a.Size, FromSHA256: a.SHA256, ToSHA256: b.SHA256, FromRisk: a.Risk.Score, ToRisk: b.Risk.Score,
		Properties: []report.PropertyChange{},
	}
	switch {
	case p.from == nil:
		d.Status = report.DiffAdded
	case p.to == nil:
		d.Status = report.DiffRemoved
	case a.SHA256 == b.SHA256 && a.SHA256 != "" || a == b:
		d.Status = report.DiffSame
	}
	d.Functions = functions(a, b, d.Status)
	if d.Status == report.DiffSame {
		a, b = none, none // there is nothing to tell
	}
	d.Imports, d.Exports, d.Libraries = names(a.Imports, b.Imports), names(a.Exports, b.Exports), names(a.Libraries, b.Libraries)
	d.Demangled = demangled(d)
	d.Strings = c.texts(a, b)
	d.Behaviors = report.BehaviorDiff{Added: behaviors(b, a), Removed: behaviors(a, b)}
	if p.from != nil && p.to != nil {
		if x, y := signature(a), signature(b); x != y && d.Status != report.DiffSame {
			d.Signature = &report.SignatureDiff{From: x, To: y}
		}
		d.Properties = properties(d.Properties,
			[3]string{"format", a.Format, b.Format}, [3]string{"architecture", a.Arch, b.Arch}, [3]string{"os", a.OS, b.OS}, [3]string{"kind", a.Kind, b.Kind},
			[3]string{"linkage", a.Linkage, b.Linkage}, [3]string{"language", a.Language, b.Language}, [3]string{"toolchain", strings.Join(a.Toolchain, "; "), strings.Join(b.Toolchain, "; ")},
			[3]string{"symbols", stripped(a), stripped(b)}, [3]string{"origin", string(a.Origin), string(b.Origin)}, [3]string{"sourceMatch", matched(a), matched(b)})
	}
	return d
}

func stripped(b *inventory.Binary) string {
	if b.Stripped {
		return "stripped"
	}
	return "kept"
}

func matched(b *inventory.Binary) string {
	if b.SourceMatch == nil {
		return string(inventory.MatchUnknown)
	}
	return string(b.SourceMatch.Level)
}

// demangled returns the readable forms of the names in a diff that differ from
// them.
func demangled(d report.BinaryDiff) []report.Name {
	all := slices.Concat(d.Imports.Added, d.Imports.Removed, d.Exports.Added, d.Exports.Removed)
	for _, f := range slices.Concat(d.Functions.ChangedNames, d.Functions.AddedNames, d.Functions.RemovedNames) {
		all = append(all, slices.Concat(f.AddedImports, f.RemovedImports)...)
	}
	slices.Sort(all)
	out := []report.Name{}
	for _, name := range slices.Compact(all) {
		if readable := native.Demangle(name); readable != name {
			out = append(out, report.Name{Name: name, Readable: printable(readable)})
		}
	}
	return out
}

// names returns what only one of two lists holds, sorted.
func names(from, to []string) report.NameDiff {
	return report.NameDiff{Added: lacking(to, from), Removed: lacking(from, to)}
}

// lacking returns what is in a list and not in another, sorted, each once.
func lacking(list, other []string) []string {
	has := make(map[string]bool, len(other))
	for _, s := range other {
		has[s] = true
	}
	out := []string{}
	for _, s := range list {
		if !has[s] {
			has[s] = true
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// telling are the kinds of texts that a diff shows: those that say where a
// program reaches and what it runs, as formats/native/text names them.
var telling = []string{"url", "ip", "host", "onion", "email", "wallet", "key", "command", "registry", "path", "user-agent"}

// outward are those of them that no list of texts leaves out for lack of room.
var outward = []string{"url", "ip", "onion", "wallet", "key"}

// Limits of the texts that are compared.
const (
	maxTexts  = 60  // of one binary that are shown, on either side
	fullTexts = 150 // a list this long may have left some out
	unended   = 12  // bytes by which texts without an end mark are compared
)

// texts compares the telling texts of two binaries. Versions in them do not
// count, nor what stands behind a text by chance where it has no end mark.
func (c *comparison) texts(a, b *inventory.Binary) report.StringDiff {
	bare := func(x *inventory.Binary, text string) string {
		if text = c.paths.bare(text); x.Language == "Go" || x.Language == "Rust" {
			return text[:min(len(text), unended)]
		}
		return text
	}
	only := func(mine, other *inventory.Binary) []report.Text {
		kinds := telling
		if len(other.Strings) >= fullTexts {
			kinds = outward
		}
		has := make(map[string]bool, len(other.Strings))
		for _, s := range other.Strings {
			has[bare(mine, s.Value)] = true
		}
		out := []report.Text{}
		for _, s := range mine.Strings {
			if k := bare(mine, s.Value); slices.Contains(kinds, s.Kind) && !has[k] && len(out) < maxTexts && (s.Kind != "url" || strings.Contains(s.Value, ".")) {
				has[k] = true
				out = append(out, report.Text{Kind: s.Kind, Value: printable(s.Value)})
			}
		}
		return out
	}
	return report.StringDiff{Added: only(b, a), Removed: only(a, b)}
}

// signature describes the signature of a binary in a phrase.
func signature(b *inventory.Binary) string {
	s := b.Signature
	switch {
	case s == nil && b.Signed:
		return "signed"
	case s == nil:
		return "none"
	case s.AdHoc:
		return fmt.Sprintf("%s, ad hoc, %s", s.Kind, s.State)
	}
	text := fmt.Sprintf("%s by %s", s.Kind, cmp.Or(printable(s.By()), "somebody without a name"))
	if s.SelfSigned {
		text += ", self-signed"
	}
	return fmt.Sprintf("%s, %s", text, s.State)
}

// behaviors returns the behaviours of b whose rules do not hold of the other.
func behaviors(b, other *inventory.Binary) []report.BehaviorChange {
	out := []report.BehaviorChange{}
	for _, name := range inventory.BehaviorNames {
		for _, d := range b.Behaviors[name] {
			same := func(o inventory.Detail) bool { return o.Rule == d.Rule }
			if slices.ContainsFunc(other.Behaviors[name], same) || slices.ContainsFunc(out, func(c report.BehaviorChange) bool { return c.Behavior == name && c.Rule == d.Rule }) {
				continue
			}
			out = append(out, report.BehaviorChange{Behavior: name, Rule: d.Rule, Tier: d.Tier, Text: d.Text})
		}
	}
	return out
}
