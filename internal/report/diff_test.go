package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/report"
)

// diffs are the diffs that every format is tested with, by name.
var diffs = map[string]func() *report.Diff{
	"telling": telling,
	"nothing": func() *report.Diff { return bare("1.0.0", "1.0.1") },
	"hostile": func() *report.Diff {
		d := telling()
		evil := "\x1b[2J@everyone <img src=x> [a](http://evil.example) |\u202e" + strings.Repeat("x", 3000)
		d.PackageName, d.Summary = evil, evil
		d.AddedBehaviors = []string{evil}
		d.Binaries[0].ToPath, d.Binaries[1].FromPath = evil, evil
		d.Binaries[1].Imports.Added = []string{evil}
		d.Binaries[1].Functions.ChangedNames[0].To = evil
		d.Install.Assets[0].URL = evil
		d.Findings.Added[0].Title, d.Findings.Added[0].Location.Path = evil, evil
		d.To.Notes = []finding.Note{{Path: evil, Text: evil}}
		d.Release = []report.PropertyChange{{Name: evil, From: evil, To: evil}}
		return d
	},
}

// bare makes a diff in which nothing is different.
func bare(from, to string) *report.Diff {
	d := &report.Diff{
		Schema: report.DiffSchema, PackageName: "bcrypt", Ecosystem: target.NPM, FromVersion: from, ToVersion: to, Tool: tool,
		Summary:        "Nothing that was looked at is different between " + from + " and " + to + "; neither holds native binaries.",
		AddedBehaviors: []string{}, RemovedBehaviors: []string{}, Binaries: []report.BinaryDiff{}, Release: []report.PropertyChange{},
		Install:    report.InstallDiff{Scripts: []report.ScriptChange{}, Downloads: []report.DownloadChange{}, Assets: []report.AssetChange{}},
		Components: report.ComponentDiff{Added: []report.Component{}, Removed: []report.Component{}, Changed: []report.ComponentVersion{}},
		Findings:   report.FindingDiff{Added: []finding.Finding{}, Removed: []finding.Finding{}, Changed: []report.SeverityChange{}},
	}
	for side, version := range map[*report.DiffSide]string{&d.From: from, &d.To: to} {
		*side = report.DiffSide{Target: "pkg:npm/bcrypt@" + version, RiskLevel: finding.RiskNone, Notes: []finding.Note{}}
	}
	return d
}

// telling makes a diff with something of everything.
func telling() *report.Diff {
	d := bare("6.0.0", "6.0.1")
	d.RiskDelta = 45
	d.Summary = "Version 6.0.1, a patch release, newly opens connections to other hosts in prebuilds/linux-x64/bcrypt.node; a patch release is the last place to expect that. One binary was rebuilt (83 of 84 functions paired: 3 changed, 1 new, 0 gone). The risk rises from low (12 of 100) to medium (57)."
	d.AddedBehaviors = []string{"Opens connections to other hosts (import connect) in prebuilds/linux-x64/bcrypt.node.", `Runs "node install.js" at installation (install).`}
	d.RemovedBehaviors = []string{`Runs "node-gyp-build" at installation (install).`}
	d.From.RiskScore, d.From.RiskLevel, d.To.RiskScore, d.To.RiskLevel = 12, finding.RiskLow, 57, finding.RiskMedium
	none := report.NameDiff{Added: []string{}, Removed: []string{}}
	binary := func(status report.DiffStatus, from, to, arch string) report.BinaryDiff {
		b := report.BinaryDiff{
			Status: status, FromPath: from, ToPath: to, PairedBy: report.ByPath, Format: "ELF", Architecture: arch, OS: "linux", FromSize: 84_992, ToSize: 86_100, SizeDelta: 1108,
			Imports: none, Exports: none, Libraries: none, Strings: report.StringDiff{Added: []report.Text{}, Removed: []report.Text{}}, Demangled: []report.Name{},
			Behaviors: report.BehaviorDiff{Added: []report.BehaviorChange{}, Removed: []report.BehaviorChange{}}, Properties: []report.PropertyChange{},
			Functions: report.FunctionDiff{ChangedNames: []report.FunctionChange{}, AddedNames: []report.FunctionChange{}, RemovedNames: []report.FunctionChange{}},
		}
		switch status {
		case report.DiffAdded:
			b.FromSize, b.SizeDelta, b.PairedBy = 0, b.ToSize, ""
		case report.DiffSame:
			b.ToSize, b.SizeDelta = b.FromSize, 0
		}
		return b
	}
	fresh := binary(report.DiffAdded, "", "prebuilds/linux-riscv64/bcrypt.node", "riscv64")
	fresh.Functions.To, fresh.Functions.Added = 80, 80
	changed := binary(report.DiffChanged, "prebuilds/linux-x64/bcrypt.node", "prebuilds/linux-x64/bcrypt.node", "x86_64")
	changed.Behaviors.Added = []report.BehaviorChange{{Behavior: inventory.Network, Rule: "native/connects-out", Tier: inventory.Use, Text: "Opens connections to other hosts (import connect; in init, reached from export run)."}}
	changed.Imports = report.NameDiff{Added: []string{"_ZN3net4sendEv", "connect", "socket"}, Removed: []string{"getpid"}}
	changed.Exports = report.NameDiff{Added: []string{}, Removed: []string{"a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"}}
	changed.Demangled = []report.Name{{Name: "_ZN3net4sendEv", Readable: "net::send()"}}
	changed.Strings.Added = []report.Text{{Kind: "url", Value: "https://collector.example/v1"}}
	changed.Functions = report.FunctionDiff{
		From: 80, To: 81, Paired: 83, Same: 80, Changed: 3, Added: 1,
		ChangedNames: []report.FunctionChange{{From: "init", To: "init", FromSize: 100, ToSize: 160, AddedImports: []string{"connect", "socket"}, RemovedImports: []string{}}},
		AddedNames:   []report.FunctionChange{{To: "send_all", ToSize: 90, AddedImports: []string{"send"}, RemovedImports: []string{}}}, RemovedNames: []report.FunctionChange{},
	}
	changed.Signature = &report.SignatureDiff{From: "Authenticode by Example Ltd, valid", To: "none"}
	changed.Properties = []report.PropertyChange{{Name: "toolchain", From: "GCC 12", To: "clang 16"}, {Name: "sourceMatch", From: "high", To: "low"}}
	moved := binary(report.DiffSame, "build/x.node", "lib/x.node", "x86_64")
	moved.PairedBy = report.ByContent
	d.Binaries = []report.BinaryDiff{fresh, changed, moved, binary(report.DiffSame, "a.node", "a.node", "aarch64")}
	d.Install.Scripts = []report.ScriptChange{{Status: report.DiffChanged, Path: "package.json", Stage: "install", From: "node-gyp-build", To: "node install.js"}}
	d.Install.Assets = []report.AssetChange{{Severity: finding.Critical, URL: "https://registry.example/x.tar.gz", FromSHA256: strings.Repeat("a", 64), ToSHA256: strings.Repeat("b", 64)}}
	d.Components.Changed = []report.ComponentVersion{{Name: "serde", From: "pkg:cargo/serde@1.0.0", To: "pkg:cargo/serde@1.0.1"}}
	d.Components.Added = []report.Component{{PURL: "pkg:cargo/ureq@2.0.0", Name: "ureq", Version: "2.0.0", Locations: []string{"a.node"}}}
	one := finding.Finding{Rule: "native/connects-out", ScanType: finding.Binary, Severity: finding.High, Confidence: finding.Likely, Title: "Opens connections to other hosts", CWE: []int{}, Attack: []string{}, References: []string{}, Aliases: []string{}, FixedVersions: []string{}, Evidence: []finding.Evidence{}, Location: finding.Location{Path: "prebuilds/linux-x64/bcrypt.node"}}
	d.Findings.Added = []finding.Finding{one}
	worse := one
	worse.Rule, worse.Title, worse.Location.Path, worse.Location.Line = "install/npm-script", "Runs a script when it is installed", "package.json", 12
	d.Findings.Changed = []report.SeverityChange{{From: finding.Info, Finding: worse}}
	d.To.Notes = []finding.Note{{Scanner: "native", Path: "lib/y.node", Text: "not looked at: cut off"}}
	d.Release = []report.PropertyChange{{Name: "provenance", From: "https://slsa.dev/provenance/v1", To: ""}}
	return d
}

func TestDiffGolden(t *testing.T) {
	for _, test := range []struct {
		diff, file string
		options    report.Options
	}{
		{"telling", "telling.txt", report.Options{Width: 100}},
		{"telling", "telling.color.txt", report.Options{Width: 72, Color: true}},
		{"telling", "telling.json", report.Options{}},
		{"telling", "telling.md", report.Options{}},
		{"nothing", "nothing.txt", report.Options{}},
		{"nothing", "nothing.json", report.Options{}},
		{"nothing", "nothing.md", report.Options{}},
		{"hostile", "hostile.txt", report.Options{Width: 80}},
		{"hostile", "hostile.md", report.Options{}},
	} {
		t.Run(test.file, func(t *testing.T) {
			ext := test.file[strings.LastIndexByte(test.file, '.'):]
			var out bytes.Buffer
			for _, f := range report.DiffFormats {
				if f.Ext == ext {
					if err := f.Write(&out, diffs[test.diff](), test.options); err != nil {
						t.Fatal(err)
					}
				}
			}
			file := filepath.Join("testdata", "diff", test.file)
			if *update {
				if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("differs from %s (run go test -update and review):\n%s", file, diff)
			}
		})
	}
}

// TestDiffJSON keeps the fields that the BinShield API publishes, first and by
// their names, and no list null.
func TestDiffJSON(t *testing.T) {
	for name, diff := range diffs {
		var out bytes.Buffer
		if err := report.DiffFormats[1].Write(&out, diff(), report.Options{}); err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(out.Bytes(), &fields); err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"packageName", "ecosystem", "fromVersion", "toVersion", "riskDelta", "summary", "addedBehaviors", "removedBehaviors"} {
			if fields[field] == nil {
				t.Errorf("%s: no field %s", name, field)
			}
		}
		if null := regexp.MustCompile(`"(\w+)": null`).FindAllStringSubmatch(out.String(), -1); len(null) > 0 {
			for _, m := range null {
				if m[1] != "signature" && m[1] != "from" && m[1] != "to" {
					t.Errorf("%s: %s is null", name, m[1])
				}
			}
		}
	}
}

// TestDiffIsSafe keeps what steers a terminal, and what GitHub would read as
// markup, out of what people see.
func TestDiffIsSafe(t *testing.T) {
	for _, f := range report.DiffFormats {
		var out bytes.Buffer
		if err := f.Write(&out, diffs["hostile"](), report.Options{Width: 80}); err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"\x1b", "\u202e"} {
			if strings.Contains(out.String(), bad) {
				t.Errorf("%s lets %q through", f.Name, bad)
			}
		}
		if f.Name == "markdown" {
			for _, bad := range []string{"@everyone", "<img", "](http"} {
				if strings.Contains(out.String(), bad) {
					t.Errorf("markdown lets %q through", bad)
				}
			}
		}
	}
}
