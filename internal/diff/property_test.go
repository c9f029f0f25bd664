package diff_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/diff"
	"github.com/loupe-sec/loupe/internal/report"
)

// arbitrary makes a report with everything that a diff looks at, from few
// values, so that two of them have much in common.
func arbitrary(r *rand.Rand) *report.Report {
	pick, some := pickers(r)
	version := pick("1.0.0", "1.0.1", "1.1.0", "2.0.0-rc.1")
	rep := &report.Report{
		Target:  target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "a", Version: version},
		Release: &inventory.Release{Ecosystem: target.NPM, Name: "a", Version: version, License: pick("MIT", ""), Provenance: pick("", "slsa")},
		Risk:    finding.NewRisk([]finding.Term{{Points: r.IntN(100)}}),
	}
	for range r.IntN(6) {
		b := content(r.IntN(30))
		b.Path = pick("build/x.node", "build/y.node", "prebuilds/linux-x64/x.node", "abi"+pick("93", "108", "115")+"/x.node", "a-"+version+"/z.so", "x.node!/section:.data", "deep/"+pick("p", "q")+".so")
		rep.Binaries = append(rep.Binaries, b)
		if r.IntN(2) == 0 {
			rep.Findings = append(rep.Findings, finding.Finding{Rule: pick("native/a", "native/b"), Title: "A", Severity: finding.Severity(1 + r.IntN(5)), Location: finding.Location{Path: b.Path}, Anchor: b.Slice})
		}
	}
	for range r.IntN(3) {
		d := &inventory.Download{Path: "package.json", Stage: pick("install", "postinstall"), Resolver: pick("node-pre-gyp", "prebuild-install"), Tool: pick("prebuild-install ^7", "node-pre-gyp"), Command: "fetch " + version}
		for range r.IntN(3) {
			a := inventory.Asset{URL: "https://" + pick("registry", "other") + ".example/" + pick(version, "x")}
			if r.IntN(2) == 0 {
				a.Fetched = &inventory.Fetched{URL: a.URL, SHA256: pick("aa", "bb")}
			}
			d.Assets = append(d.Assets, a)
		}
		rep.Downloads = append(rep.Downloads, d)
	}
	for _, stage := range some("install", "postinstall") {
		rep.Findings = append(rep.Findings, finding.Finding{Rule: "install/npm-script", Severity: finding.Low, Location: finding.Location{Path: "package.json", Symbol: "scripts." + stage}, Evidence: []finding.Evidence{{Kind: "script", Value: pick("node a.js", "node b.js")}}})
	}
	for _, p := range some("pkg:npm/b@1.0.0", "pkg:npm/b@2.0.0", "pkg:golang/c@v1.0.0", "pkg:npm/a@"+version) {
		rep.Components = append(rep.Components, report.Component{PURL: p, Name: p[:len(p)-6]})
	}
	for _, text := range some("not looked at: a", "not looked at: b") {
		rep.Notes = append(rep.Notes, finding.Note{Text: text})
	}
	return rep
}

// content makes a binary without a place: that of the same number is the same,
// down to its bytes.
func content(number int) *inventory.Binary {
	r := rand.New(rand.NewPCG(uint64(number), 3))
	pick, some := pickers(r)
	b := &inventory.Binary{
		SHA256: fmt.Sprintf("%064x", number), Size: int64(r.IntN(9000)), Format: pick("ELF", "ELF", "PE"), Arch: pick("x86_64", "aarch64"), OS: pick("linux", "linux", "windows"),
		Imports: some("connect", "read", "write", "open", "close"), Exports: some("run", "init"), Libraries: some("libc.so.6", "libm.so.6"),
		Signed: r.IntN(2) == 0, Stripped: r.IntN(2) == 0, Language: pick("C", "Rust"), Behaviors: inventory.Behaviors{},
	}
	b.Slice = b.Arch
	for _, name := range some(string(inventory.Network), string(inventory.Process), string(inventory.Crypto)) {
		rule := pick("native/a", "native/b")
		b.Behaviors[inventory.BehaviorName(name)] = []inventory.Detail{{Rule: rule, Text: "Does " + rule + " (import " + pick("x", "y") + ")."}}
	}
	for _, s := range some("https://registry.example/1.2.3/x", "https://registry.example/y", "/etc/passwd") {
		b.Strings = append(b.Strings, inventory.String{Kind: "url", Value: s})
	}
	if r.IntN(4) > 0 {
		b.Marks = marks(r, b.Imports)
	}
	return b
}

// pickers return functions that choose one of a list, and some of it.
func pickers(r *rand.Rand) (pick func(...string) string, some func(...string) []string) {
	pick = func(list ...string) string { return list[r.IntN(len(list))] }
	some = func(list ...string) (out []string) {
		for _, s := range list {
			if r.IntN(2) == 0 {
				out = append(out, s)
			}
		}
		return out
	}
	return pick, some
}

func marks(r *rand.Rand, imports []string) *inventory.Marks {
	m := &inventory.Marks{Imports: imports}
	n := 1 + r.IntN(12)
	for i := range n {
		f := inventory.Mark{Addr: uint64(0x1000 + 64*i), Size: uint64(16 + r.IntN(100)), Body: uint64(r.IntN(8)), Short: r.IntN(3) == 0, Known: r.IntN(5) == 0}
		if r.IntN(2) == 0 {
			f.Name = fmt.Sprintf("f%d", r.IntN(10))
		}
		if len(imports) > 0 && r.IntN(2) == 0 {
			f.Imports = []int32{int32(r.IntN(len(imports)))}
		}
		if r.IntN(3) == 0 {
			f.Texts = []uint32{uint32(r.IntN(5))}
		}
		for range r.IntN(3) {
			f.Calls = append(f.Calls, int32(r.IntN(n)))
		}
		m.Functions = append(m.Functions, f)
	}
	return m
}

// TestMirror asks that whatever is added from one report to another is removed
// from the other to the one, and that nothing is different from a report to
// itself.
func TestMirror(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 800 {
		a, b := arbitrary(r), arbitrary(r)
		if d := diff.Compare(a, a); !d.Empty() || d.Summary == "" {
			t.Fatalf("a report differs from itself: %+v", d)
		}
		there, back := diff.Compare(a, b), diff.Compare(b, a)
		there.Summary = ""
		for _, d := range []*report.Diff{there, back} {
			for i := range d.Findings.Changed {
				f := d.Findings.Changed[i].Finding // as it is on the side that is called new
				d.Findings.Changed[i].Finding = finding.Finding{Rule: f.Rule, Severity: f.Severity}
			}
		}
		if got := cmp.Diff(there, mirrored(back), cmpopts.SortSlices(func(x, y report.SeverityChange) bool { return key(x) < key(y) }), cmpopts.SortSlices(func(x, y report.DownloadChange) bool { return fmt.Sprint(x.From, x.To) < fmt.Sprint(y.From, y.To) })); got != "" {
			t.Fatalf("(-there +back mirrored)\n%s", got)
		}
	}
}

func key(c report.SeverityChange) string {
	return fmt.Sprint(c.From, c.Finding.Severity, c.Finding.Rule)
}

// mirrored turns a diff around.
func mirrored(d *report.Diff) *report.Diff {
	m := *d
	m.Summary = "" // it has a direction
	m.FromVersion, m.ToVersion = d.ToVersion, d.FromVersion
	m.RiskDelta = -d.RiskDelta
	m.AddedBehaviors, m.RemovedBehaviors = d.RemovedBehaviors, d.AddedBehaviors
	m.From, m.To = d.To, d.From
	m.Binaries = make([]report.BinaryDiff, len(d.Binaries))
	for i, b := range d.Binaries {
		b.Status = turned(b.Status)
		b.FromPath, b.ToPath = b.ToPath, b.FromPath
		b.FromSize, b.ToSize, b.SizeDelta = b.ToSize, b.FromSize, -b.SizeDelta
		b.FromSHA256, b.ToSHA256 = b.ToSHA256, b.FromSHA256
		b.FromRisk, b.ToRisk = b.ToRisk, b.FromRisk
		b.Imports, b.Exports, b.Libraries = swapped(b.Imports), swapped(b.Exports), swapped(b.Libraries)
		b.Strings.Added, b.Strings.Removed = b.Strings.Removed, b.Strings.Added
		b.Behaviors.Added, b.Behaviors.Removed = b.Behaviors.Removed, b.Behaviors.Added
		f := &b.Functions
		f.From, f.To, f.Added, f.Removed = f.To, f.From, f.Removed, f.Added
		f.AddedNames, f.RemovedNames = turn(f.RemovedNames), turn(f.AddedNames)
		f.ChangedNames = turn(f.ChangedNames)
		if b.Signature != nil {
			b.Signature = &report.SignatureDiff{From: b.Signature.To, To: b.Signature.From}
		}
		b.Properties = back(b.Properties)
		for _, p := range b.Properties { // these are of the side that is called new
			for name, value := range map[string]*string{"format": &b.Format, "architecture": &b.Architecture, "os": &b.OS} {
				if p.Name == name {
					*value = p.To
				}
			}
		}
		m.Binaries[i] = b
	}
	m.Release = back(d.Release)
	m.Install.Scripts = []report.ScriptChange{}
	for _, s := range d.Install.Scripts {
		m.Install.Scripts = append(m.Install.Scripts, report.ScriptChange{Status: turned(s.Status), Path: s.Path, Stage: s.Stage, From: s.To, To: s.From})
	}
	m.Install.Downloads = []report.DownloadChange{}
	for _, s := range d.Install.Downloads {
		m.Install.Downloads = append(m.Install.Downloads, report.DownloadChange{Status: turned(s.Status), Stage: s.Stage, From: s.To, To: s.From})
	}
	m.Install.Assets = []report.AssetChange{}
	for _, a := range d.Install.Assets {
		a.FromSHA256, a.ToSHA256 = a.ToSHA256, a.FromSHA256
		m.Install.Assets = append(m.Install.Assets, a)
	}
	m.Components.Added, m.Components.Removed = d.Components.Removed, d.Components.Added
	m.Components.Changed = []report.ComponentVersion{}
	for _, c := range d.Components.Changed {
		m.Components.Changed = append(m.Components.Changed, report.ComponentVersion{Name: c.Name, From: c.To, To: c.From})
	}
	m.Findings.Added, m.Findings.Removed = d.Findings.Removed, d.Findings.Added
	m.Findings.Changed = []report.SeverityChange{}
	for _, c := range d.Findings.Changed {
		from := c.Finding.Severity
		c.Finding.Severity, c.From = c.From, from
		m.Findings.Changed = append(m.Findings.Changed, c)
	}
	return &m
}

func turned(s report.DiffStatus) report.DiffStatus {
	switch s {
	case report.DiffAdded:
		return report.DiffRemoved
	case report.DiffRemoved:
		return report.DiffAdded
	}
	return s
}

func swapped(n report.NameDiff) report.NameDiff {
	return report.NameDiff{Added: n.Removed, Removed: n.Added}
}

func turn(list []report.FunctionChange) []report.FunctionChange {
	out := []report.FunctionChange{}
	for _, c := range list {
		out = append(out, report.FunctionChange{From: c.To, To: c.From, FromSize: c.ToSize, ToSize: c.FromSize, AddedImports: c.RemovedImports, RemovedImports: c.AddedImports})
	}
	return out
}

func back(list []report.PropertyChange) []report.PropertyChange {
	out := []report.PropertyChange{}
	for _, p := range list {
		out = append(out, report.PropertyChange{Name: p.Name, From: p.To, To: p.From})
	}
	return out
}
