package enrich_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/enrich"
)

// found makes one finding of each of n rules.
func found(sev finding.Severity, n int) []finding.Finding {
	var fs []finding.Finding
	for i := range n {
		fs = append(fs, finding.Finding{
			Rule: fmt.Sprintf("native/%s-%d", sev, i), Title: "Does things", Severity: sev, Confidence: finding.Likely,
			Location: finding.Location{Path: "a.node"}, Tool: "native", Anchor: "x86_64",
		})
	}
	return fs
}

func TestLevels(t *testing.T) {
	for _, test := range []struct {
		name     string
		findings []finding.Finding
		want     finding.RiskLevel
	}{
		{"native code alone", nil, finding.RiskLow},
		{"any number of infos", found(finding.Info, 100), finding.RiskLow},
		{"any number of lows", append(found(finding.Low, 100), found(finding.Info, 100)...), finding.RiskLow},
		{"one medium", found(finding.Medium, 1), finding.RiskLow},
		{"any number of mediums", append(found(finding.Medium, 100), append(found(finding.Low, 100), found(finding.Info, 100)...)...), finding.RiskMedium},
		{"one high", found(finding.High, 1), finding.RiskMedium},
		{"two highs", found(finding.High, 2), finding.RiskHigh},
		{"one critical", found(finding.Critical, 1), finding.RiskCritical},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &inventory.Binary{Path: "a.node", Arch: "x86_64", Slice: "x86_64", Format: "ELF"}
			risk, _ := enrich.Assess(nil, []*inventory.Binary{b}, test.findings, nil)
			if risk.Level() != test.want {
				t.Errorf("level %s (%d); want %s", risk.Level(), risk.Score, test.want)
			}
			sum := 0
			for _, term := range risk.Terms {
				sum += term.Points
			}
			if risk.Score != min(sum, 100) || b.Risk.Score != risk.Score {
				t.Errorf("score %d, of the binary %d, is not the sum of its terms %d", risk.Score, b.Risk.Score, sum)
			}
		})
	}
}

func TestRepeatsCountOnce(t *testing.T) {
	fs := found(finding.Medium, 1)
	var many []finding.Finding
	for range 10 {
		many = append(many, fs...)
	}
	one, _ := enrich.Assess(nil, nil, fs, nil)
	ten, _ := enrich.Assess(nil, nil, many, nil)
	if one.Score != ten.Score {
		t.Errorf("one place scores %d, ten places of the same rule %d", one.Score, ten.Score)
	}
	if nothing, _ := enrich.Assess(nil, nil, nil, nil); nothing.Level() != finding.RiskNone {
		t.Errorf("nothing at all has level %s", nothing.Level())
	}
}

// TestSlices keeps the findings of a fat file apart.
func TestSlices(t *testing.T) {
	fs := found(finding.High, 1)
	fs[0].Anchor = "aarch64 2"
	layout := found(finding.Low, 1)[0] // it is about the file as a whole
	layout.Tool, layout.Anchor = "layout", ""
	fs = append(fs, layout)
	var binaries []*inventory.Binary
	for _, slice := range []string{"aarch64", "aarch64 2"} {
		binaries = append(binaries, &inventory.Binary{Path: "a.node", Arch: "aarch64", Slice: slice, Format: "Mach-O"})
	}
	elsewhere := &inventory.Binary{Path: "b.node", Arch: "aarch64", Slice: "aarch64 2"} // of no known format
	enrich.Assess(nil, append(binaries, elsewhere), fs, nil)
	if got := fmt.Sprint(len(binaries[0].Risk.Terms), len(binaries[1].Risk.Terms), len(elsewhere.Risk.Terms)); got != "2 3 1" {
		t.Errorf("%s terms; want 2 3 1", got)
	}
}

// TestManyBinaries assesses more than a scan of each against all would bear.
func TestManyBinaries(t *testing.T) {
	var binaries []*inventory.Binary
	var fs []finding.Finding
	for i := range 50_000 {
		name := fmt.Sprint(i)
		binaries = append(binaries, &inventory.Binary{Path: name, Arch: "x86_64", Slice: "x86_64", Format: "ELF"})
		fs = append(fs, finding.Finding{Rule: "native/x", Title: "X", Severity: finding.Low, Tool: "native", Anchor: "x86_64", Location: finding.Location{Path: name}})
	}
	began := time.Now()
	enrich.Assess(nil, binaries, fs, nil)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestHosts tells what loads a binary.
func TestHosts(t *testing.T) {
	for name, want := range map[string]string{
		"_ZN2v86String3NewEv": "speaks to V8", "?New@String@v8@@SAXXZ": "speaks to V8", "napi_create_function": "Node-API",
		"?New@Thing@@SAXXZ": "", "connect": "",
	} {
		b := &inventory.Binary{Format: "PE", Imports: []string{name}}
		enrich.Assess(nil, []*inventory.Binary{b}, nil, nil)
		if want == "" && strings.Contains(b.Explanation, "add-on") || !strings.Contains(b.Explanation, want) {
			t.Errorf("import %s: %s; want %q", name, b.Explanation, want)
		}
	}
}

// TestSilence keeps a static program from being called harmless.
func TestSilence(t *testing.T) {
	b := &inventory.Binary{Path: "a", Arch: "x86_64", Slice: "x86_64", Format: "ELF", Silent: true, Functions: inventory.Functions{Count: 900}}
	_, summary := enrich.Assess(nil, []*inventory.Binary{b}, nil, nil)
	for _, text := range []string{summary, b.Explanation} {
		if strings.Contains(text, "no network") || strings.Contains(text, "Nothing") || !strings.Contains(text, "statically") {
			t.Errorf("a program that names nothing is cleared: %s", text)
		}
	}
}

func TestSummary(t *testing.T) {
	b := &inventory.Binary{
		Path: "a.node", Arch: "x86_64", Slice: "x86_64", Format: "ELF", Kind: "shared library", OS: "linux", Language: "C++", Size: 2048,
		Imports: []string{"connect", "napi_create_function"}, Functions: inventory.Functions{Count: 1},
		Behaviors: inventory.Behaviors{inventory.Network: {{Text: "Opens connections to other hosts (import connect)."}}},
	}
	rel := &inventory.Release{Ecosystem: target.NPM, Name: "a", Version: "1.0.0", Deprecated: "use b"}
	script := finding.Finding{Rule: "install/npm-script", Title: "Runs a script", Severity: finding.High, Evidence: []finding.Evidence{{Kind: "script", Value: "node x"}}}
	_, summary := enrich.Assess(rel, []*inventory.Binary{b}, []finding.Finding{script}, []finding.Note{{Text: "not looked at: x"}, {Text: "deprecated", Informs: true}})
	for _, want := range []string{
		"a 1.0.0 holds 1 native binary (1 ELF; for x86_64) of 2 kB", "It shows network access, and no file access",
		`Installing it runs "node x".`, "The most serious finding is high: runs a script.", "deprecated", "1 part was not looked at", "The risk is",
	} {
		if !strings.Contains(summary, want) {
			t.Errorf("summary lacks %q:\n%s", want, summary)
		}
	}
	for _, want := range []string{
		"An ELF shared library for x86_64 on linux, written in C++, with 1 function, 2 imports and its symbol table.",
		"Node-API", "Opens connections to other hosts (import connect).", "Nothing shows file access",
	} {
		if !strings.Contains(b.Explanation, want) {
			t.Errorf("explanation lacks %q:\n%s", want, b.Explanation)
		}
	}
}
