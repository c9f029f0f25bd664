// Package signature judges the code signatures of a package's binaries: those
// that do not fit their binary any more, and binaries that are not signed as
// those beside them are.
//
// It does not judge signers. Whether one deserves trust takes a root store and
// lists of what was revoked, neither of which is asked.
package signature

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/rules"
)

var (
	invalid          = rules.Get("signature/invalid")
	missing          = rules.Get("signature/missing")
	differentSigner  = rules.Get("signature/different-signer")
	unhashedData     = rules.Get("signature/unhashed-data")
	selfSigned       = rules.Get("signature/self-signed")
	withoutTimestamp = rules.Get("signature/without-timestamp")
)

// Scanner looks at the signatures of all binaries together.
var Scanner = &scan.Scanner{
	Name:    "signature",
	Doc:     "find broken, missing and odd code signatures",
	Version: 1,
	Rules:   rules.Area("signature"),
	Needs:   []scan.Fact{inventory.Binaries},
	Run:     run,
}

func run(_ context.Context, p *scan.Pass) error {
	folders := map[folder][]*inventory.Binary{}
	var order []folder
	for _, b := range inventory.Binaries.All(p) {
		if b.Signature != nil {
			judge(p, b)
		}
		if b.Format != "PE" && b.Format != "Mach-O" || b.Kind == "object" {
			continue // nothing else is signed by anybody
		}
		f := folder{b.Part, path.Dir(b.Path), b.Format}
		if folders[f] == nil {
			order = append(order, f)
		}
		folders[f] = append(folders[f], b)
	}
	for _, f := range order {
		compare(p, folders[f])
	}
	return nil
}

// A folder holds siblings: binaries of one format in one place of one package.
type folder struct{ part, path, format string }

// judge looks at one signature by itself.
func judge(p *scan.Pass, b *inventory.Binary) {
	s := b.Signature
	switch {
	case s.State == inventory.SignatureBroken && s.AdHoc:
		report(p, invalid, b, finding.Low, fmt.Sprintf("The hashes in the binary's ad-hoc signature are not its own: %s. "+
			"Nobody vouched for them, and tools that change a binary after it was linked often leave them behind; macOS refuses to run it on Apple silicon.", problems(s)))
	case s.State == inventory.SignatureBroken:
		report(p, invalid, b, finding.Unrated, fmt.Sprintf("The signature by %s does not fit the binary: %s.", by(s), problems(s)))
	case s.Real():
		vouch(p, b)
	}
	if n := s.Unhashed; n > 0 && !s.AdHoc && s.State != inventory.SignatureUnchecked {
		severity := finding.Unrated
		if n < few {
			severity = finding.Low
		}
		report(p, unhashedData, b, severity, fmt.Sprintf("The signature by %s leaves %d bytes uncovered that are not padding: they can be changed without breaking it.", by(s), n))
	}
}

// few bytes are more likely a tool's carelessness than a payload.
const few = 64

// vouch says what a valid signature is worth.
func vouch(p *scan.Pass, b *inventory.Binary) {
	s := b.Signature
	if s.SelfSigned {
		report(p, selfSigned, b, finding.Unrated, fmt.Sprintf("The binary is signed by %s with a certificate that nobody else issued.", by(s)))
	}
	if s.Time.IsZero() && !s.NotAfter.IsZero() {
		report(p, withoutTimestamp, b, finding.Unrated, fmt.Sprintf("The signature by %s has no time stamp. It counts until the certificate expires on %s.", by(s), s.NotAfter.Format(time.DateOnly)))
	}
}

// compare holds siblings against each other.
func compare(p *scan.Pass, siblings []*inventory.Binary) {
	files := map[string][]*inventory.Binary{} // slices of fat files
	var paths []string
	for _, b := range siblings {
		if files[b.Path] == nil {
			paths = append(paths, b.Path)
		}
		files[b.Path] = append(files[b.Path], b)
	}
	signers := map[string]int{} // files by who signed all of their slices
	signed := 0
	for _, name := range paths {
		if compareSlices(p, files[name]) {
			signers[identity(files[name][0].Signature)]++
			signed++
		}
	}
	for _, name := range paths {
		b := files[name][0]
		switch {
		case b.Signature.Real():
			compareSigner(p, b, signers, signed)
		case !slices.ContainsFunc(files[name], attempted):
			compareMissing(p, b, signers, signed, len(paths))
		}
	}
}

// attempted reports whether somebody signed a binary, be it in vain: that is
// reported by itself.
func attempted(b *inventory.Binary) bool { return b.Signature != nil && !b.Signature.AdHoc }

// compareSlices reports slices of a fat file that are not signed though others
// are, and returns whether all are.
func compareSlices(p *scan.Pass, slice []*inventory.Binary) bool {
	i := slices.IndexFunc(slice, func(b *inventory.Binary) bool { return b.Signature.Real() })
	if i < 0 {
		return false
	}
	all := true
	for _, b := range slice {
		if b.Signature.Real() {
			continue
		}
		all = false
		if !attempted(b) {
			report(p, missing, b, finding.Medium, fmt.Sprintf("The part of the file for %s is not signed, while that for %s is signed by %s.", b.Arch, slice[i].Arch, by(slice[i].Signature)))
		}
	}
	return all
}

// compareMissing reports a binary without a signature among signed ones: two
// at least, and half of all. Packages ship signed libraries of others beside
// what they built themselves, so that this alone tells little; it tells more if
// one signer signed nearly everything.
func compareMissing(p *scan.Pass, b *inventory.Binary, signers map[string]int, signed, all int) {
	if signed < 2 || signed*2 < all {
		return
	}
	severity, how := finding.Unrated, "is not signed"
	if len(signers) == 1 && signed >= 4 && signed*4 >= all*3 {
		severity = finding.Medium
	}
	if b.Signature != nil {
		how = "has only an ad-hoc signature, which names nobody"
	}
	report(p, missing, b, severity, fmt.Sprintf("The binary %s, while %d of the %d files beside it are signed by %s.", how, signed, all-1, list(signers)))
}

// compareSigner reports a signer who signed one file where another signed at
// least three and three quarters.
func compareSigner(p *scan.Pass, b *inventory.Binary, signers map[string]int, signed int) {
	own := identity(b.Signature)
	for other, n := range signers {
		if other == own || n < 3 || n*4 < signed*3 {
			continue
		}
		severity := finding.Unrated
		if b.Signature.SelfSigned {
			severity = finding.Medium
		}
		report(p, differentSigner, b, severity, fmt.Sprintf("The binary is signed by %s, while %d of the %d signed files in its folder are signed by %s.", by(b.Signature), n, signed, other))
		return
	}
}

// identity tells signers apart. A company has many certificates; one that
// nobody else issued is nobody's.
func identity(s *inventory.Signature) string {
	if s.SelfSigned {
		return s.By() + " (self-signed)"
	}
	return s.By()
}

func by(s *inventory.Signature) string {
	if s.By() == "" {
		return "somebody whose certificate cannot be read"
	}
	return fmt.Sprintf("%q", s.By())
}

// list names signers, those of most files first.
func list(signers map[string]int) string {
	names := make([]string, 0, len(signers))
	for n := range signers {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if signers[a] != signers[b] {
			return signers[b] - signers[a]
		}
		return strings.Compare(a, b)
	})
	for i, n := range names {
		names[i] = fmt.Sprintf("%q", n)
	}
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("%s and %d others", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// problems are what is wrong, in one clause.
func problems(s *inventory.Signature) string {
	if len(s.Problems) == 0 {
		return "its digest differs"
	}
	const most = 3
	return strings.Join(s.Problems[:min(len(s.Problems), most)], "; ")
}

func report(p *scan.Pass, r *rule.Rule, b *inventory.Binary, severity finding.Severity, text string) {
	p.Report(r, finding.Finding{
		Description: text,
		Severity:    severity,
		Location:    finding.Location{Path: b.Path},
		PURL:        b.Part,
		Evidence:    evidence(b),
		Anchor:      b.Slice,
	})
}

// evidence is what there is of a signature, and what it is about.
func evidence(b *inventory.Binary) (out []finding.Evidence) {
	if s := b.Signature; s != nil {
		add := func(kind, value string) {
			if value != "" {
				out = append(out, finding.NewEvidence(kind, value))
			}
		}
		add("signature", fmt.Sprintf("%s, %s", s.Kind, s.State))
		add("signer", s.Signer)
		add("issuer", s.Issuer)
		add("serial", s.Serial)
		if !s.Time.IsZero() {
			add("time stamp", s.Time.Format(time.RFC3339))
		}
	}
	return append(out, finding.NewEvidence("sha256", b.SHA256))
}
