package ruletest_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/ruletest"
	"github.com/loupe-sec/loupe/internal/core/scan"
)

// check runs the examples of rules with a scanner that reports every line that
// holds "evil" by every rule.
func check(t *testing.T, texts ...string) []string {
	t.Helper()
	var set []*rule.Rule
	for _, text := range texts {
		id, examples, _ := strings.Cut(text, "\n")
		r, err := rule.Parse([]byte("---\nid: " + id + "\ntitle: X\ntype: SAST\nseverity: low\nconfidence: likely\nfix: Do.\n---\nText.\n\n" + examples))
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, r)
	}
	s := &scan.Scanner{
		Name: "grep", Rules: set, Wants: func(*scan.File) bool { return true },
		File: func(_ context.Context, p *scan.Pass, f *scan.File) error {
			data, err := f.Data()
			for i, line := range bytes.Split(data, []byte("\n")) {
				if bytes.Contains(line, []byte("evil")) {
					for _, r := range set {
						p.Report(r, finding.Finding{Location: finding.Location{Path: f.Path, Line: i + 1}})
					}
				}
			}
			return err
		},
	}
	wrong, err := ruletest.Check(t.Context(), t.TempDir(), []*scan.Scanner{s}, set, map[string]ruletest.Maker{".made": upper})
	if err != nil {
		t.Fatal(err)
	}
	return wrong
}

// upper is a maker whose files the scanner does not report.
func upper(data []byte) ([]byte, error) { return bytes.ToUpper(data), nil }

func TestCheck(t *testing.T) {
	for _, test := range []struct{ name, examples, want string }{
		{"as they say", "a/b\n-- bad/x:2 --\n\nevil\n-- good/x --\nfine\n", ""},
		{"another line", "a/b\n-- bad/x:1 --\n\nevil\n-- good/x --\nfine\n", "a/b: bad/x: x is reported on lines [2], want [1]"},
		{"not reported", "a/b\n-- bad/x --\nfine\n-- good/x --\nfine\n", "a/b: bad/x: not reported"},
		{"reported", "a/b\n-- bad/x --\nevil\n-- good/x --\nevil\n", "a/b: good/x: reported in x, which is good"},
		{"one kind", "a/b\n-- bad/x --\nevil\n", "a/b: 1 bad and 0 good examples: want at least one of each"},
		{"made files", "a/b\n-- bad/x --\nevil\n-- good/x.made --\nevil\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(check(t, test.examples), "\n"); got != test.want {
				t.Errorf("wrong %q; want %q", got, test.want)
			}
		})
	}
}

// TestFoldersAreApart runs rules whose IDs differ in a slash alone.
func TestFoldersAreApart(t *testing.T) {
	if wrong := check(t,
		"a/b/c\n-- bad/x --\nevil\n-- good/y --\nfine\n",
		"a/b-c\n-- good/z --\nfine\n-- bad/y --\nevil\n",
	); len(wrong) > 0 {
		t.Errorf("examples get into each other's way: %q", wrong)
	}
}

func TestExpand(t *testing.T) {
	one := string(ruletest.Expand("a", []byte("x${alnum:32}-${hex:4}${digit:3}")))
	if len(one) != 41 || one == string(ruletest.Expand("b", []byte("x${alnum:32}-${hex:4}${digit:3}"))) || one != string(ruletest.Expand("a", []byte("x${alnum:32}-${hex:4}${digit:3}"))) {
		t.Errorf("expanded to %q", one)
	}
}
