package yara_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/scanners/yara"
)

// run scans files with rules.
func run(t *testing.T, rules string, files map[string]string) *scan.Result {
	t.Helper()
	scanner, refused, err := yara.New([]yara.Source{{Name: "mine.yar", Stem: "mine", Text: []byte(rules)}})
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, t.TempDir())
	t.Cleanup(func() { ws.Close() })
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		t.Fatal(err)
	}
	res, err := scan.Run(context.Background(), []*scan.Scanner{scanner}, ws, nil, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestFindings(t *testing.T) {
	res := run(t, `
rule Greets : high {
  meta:
    description = "Greets people."
    author = "A. Person"
    reference = "https://rules.example/greets, https://rules.example/b"
    mitre_attack = "T1059.004 and T1027"
  strings:
    $hello = "hello" nocase wide ascii
    $key = /password=[a-z0-9]{8,}/
  condition: any of them
}
private rule unseen { condition: true }
rule no_strings { meta: severity = "low" condition: filesize == 3 and unseen }
`, map[string]string{
		"a.txt":  "one\ntwo hello\npassword=abcdefgh12",
		"b.bin":  "\x00\x01H\x00e\x00l\x00l\x00o\x00",
		"c.txt":  "abc",
		"d.none": "nothing",
	})
	if len(res.Findings) != 3 || len(res.Notes) != 0 {
		t.Fatalf("%d findings, notes %v; want 3 and none", len(res.Findings), res.Notes)
	}
	text, bin, small := res.Findings[0], res.Findings[1], res.Findings[2]
	if text.Rule != "yara/mine/Greets" || text.Severity != finding.High || text.Title != "Greets people" || text.Tool != "yara" ||
		!strings.Contains(text.Description, "Rule by A. Person.") ||
		!slices.Equal(text.Attack, []string{"T1027", "T1059.004"}) ||
		!slices.Equal(text.References, []string{"https://rules.example/greets", "https://rules.example/b"}) {
		t.Errorf("%+v", text)
	}
	if want := (finding.Location{Path: "a.txt", Line: 2}); text.Location != want {
		t.Errorf("place %+v; want %+v", text.Location, want)
	}
	evidence := []finding.Evidence{
		{Kind: "string", Value: "hello", From: "$hello", Address: "0x8"},
		{Kind: "string", Value: "password=[redacted]", From: "$key", Address: "0xe"},
	}
	if diff := cmp.Diff(evidence, text.Evidence); diff != "" {
		t.Error(diff)
	}
	if want := (finding.Location{Path: "b.bin"}); bin.Location != want || bin.Evidence[0].Value != "Hello" || bin.Evidence[0].Address != "0x2" {
		t.Errorf("%+v; want it at %+v, with a readable text at 0x2", bin, want)
	}
	if small.Rule != "yara/mine/no_strings" || small.Severity != finding.Low || small.Location.Path != "c.txt" || len(small.Evidence) != 0 {
		t.Errorf("%+v", small)
	}
}

func TestSeverity(t *testing.T) {
	for head, want := range map[string]finding.Severity{
		"":                                    finding.Medium,
		": t CRITICAL":                        finding.Critical,
		": harmless":                          finding.Info,
		`{ meta: severity = "High"`:           finding.High,
		`{ meta: severity = 3`:                finding.Low,
		`{ meta: risk = "9"`:                  finding.Critical,
		`{ meta: score = 75`:                  finding.High,
		`{ meta: score = 5`:                   finding.Low,
		`{ meta: score = 40`:                  finding.Medium,
		`{ meta: threat_level = 0`:            finding.Info,
		`{ meta: severity = "who knows"`:      finding.Medium,
		`: low { meta: severity = "critical"`: finding.Critical,
	} {
		text := "rule r " + head
		if !strings.Contains(head, "{") {
			text += "{"
		}
		scanner, _, err := yara.New([]yara.Source{{Name: "x.yar", Stem: "x", Text: []byte(text + " condition: true }")}})
		if err != nil {
			t.Fatal(err)
		}
		if got := scanner.Rules[0].Severity; got != want {
			t.Errorf("%s: %v; want %v", head, got, want)
		}
	}
}

func TestNew(t *testing.T) {
	scanner, refused, err := yara.New([]yara.Source{
		{Name: "a/x.yar", Stem: "a b/x", Text: []byte(`rule one { condition: true } rule two { condition: pe.x }`)},
		{Name: "b/x.yar", Stem: "a b/x", Text: []byte(`rule one { condition: true }`)},
	})
	if err != nil || len(scanner.Rules) != 1 || scanner.Rules[0].ID != "yara/a-b/x/one" || len(refused) != 2 {
		t.Fatalf("%v, %v", refused, err)
	}
	if got := refused[1].Error(); got != "b/x.yar:1: rule one is refused: the id yara/a-b/x/one is taken by a/x.yar" {
		t.Error(got)
	}
	if scanner, refused, err := yara.New([]yara.Source{{Name: "x.yar", Text: []byte(`rule r { condition: pe.x }`)}}); scanner != nil || len(refused) != 1 || err != nil {
		t.Errorf("a scanner without rules: %v, %v, %v", scanner, refused, err)
	}
	if _, _, err := yara.New([]yara.Source{{Name: "x.yar", Text: []byte("rule")}}); err == nil {
		t.Error("what is no rule was read")
	}
}
