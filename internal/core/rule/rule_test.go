package rule_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
)

const good = `---
id: native/connects-out
title: Connects to another host
severity: low
confidence: likely
cwe: [506]
attack: [T1071, T1027.002]
fix: Check that the package is meant to use the network.
---
A binary that opens connections can send what it reads.

-- match --
behavior: network
-- bad/x.js:2,3 --
one
-- bad[two]/package.json --
{}
-- bad[two]/lib/a.js --
2
-- good/y.js --
`

func TestParse(t *testing.T) {
	r, err := rule.Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	want := &rule.Rule{
		ID: "native/connects-out", Title: "Connects to another host", ScanType: finding.Binary,
		Severity: finding.Low, Confidence: finding.Likely, CWE: []int{506}, Attack: []string{"T1071", "T1027.002"},
		Fix: "Check that the package is meant to use the network.", Text: "A binary that opens connections can send what it reads.",
		Match: []byte("behavior: network\n"), Source: []byte(good),
		Examples: []rule.Example{
			{Name: "bad/x.js", Bad: true, Files: []rule.File{{Path: "x.js", Lines: []int{2, 3}, Data: []byte("one\n")}}},
			{Name: "bad[two]", Bad: true, Files: []rule.File{{Path: "package.json", Data: []byte("{}\n")}, {Path: "lib/a.js", Data: []byte("2\n")}}},
			{Name: "good/y.js", Files: []rule.File{{Path: "y.js", Data: []byte{}}}},
		},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"unknown key", "cwe: [506]", "cew: [506]", "cew"},
		{"no severity", "severity: low\n", "", "severity"},
		{"title with a full stop", "another host", "another host.", "full stop"},
		{"bad technique", "T1071", "1071", "ATT&CK"},
		{"bad id", "native/connects-out", "Connects", "area/name"},
		{"climbing example", "bad/x.js:2,3", "bad/../x.js", "relative path"},
		{"unknown section", "good/y.js", "fine/y.js", "neither"},
		{"two matches", "-- good/y.js --", "-- match --", "two match"},
		{"no front matter", "---\n", "", "front matter"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := rule.Parse([]byte(strings.ReplaceAll(good, test.old, test.new)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not speak of %q", err, test.want)
			}
		})
	}
}

func TestLoadReportsEverything(t *testing.T) {
	_, err := rule.Load(fstest.MapFS{
		"native/connects-out.rule": {Data: []byte(good)},
		"native/other.rule":        {Data: []byte(good)},
		"native/broken.rule":       {Data: []byte("x")},
		"again/connects-out.rule":  {Data: []byte(good)},
	})
	for _, want := range []string{"belongs in a file named connects-out.rule", "no front matter", "is taken by again/connects-out.rule"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("---\nid: a/b\n---\n-- match --\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := rule.Parse(data); err == nil && (r.ID == "" || r.Fix == "" || r.Severity == 0) {
			t.Fatalf("an incomplete rule was accepted: %+v", r)
		}
	})
}
