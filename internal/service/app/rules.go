package app

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/ruletest"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/rules"
	"github.com/loupe-sec/loupe/internal/scanners/all"
	"github.com/loupe-sec/loupe/internal/scanners/native"
	"github.com/loupe-sec/loupe/internal/scanners/yara"
)

// Makers turn the described files of examples into real ones.
var Makers = map[string]ruletest.Maker{
	".binary":  synth.FromYAML,
	".archive": ruletest.Archive,
}

// TestRules runs the examples of rules: the built-in ones if path is empty,
// else those of the rule file or folder at path. YARA's rules have no examples:
// of them it says which cannot be used. It returns how many rules there were
// and what is wrong with them, a line each.
func (a *App) TestRules(ctx context.Context, path string) (tested int, wrong []string, err error) {
	set, scanners := rules.All(), all.Scanners
	if path != "" {
		var sources []yara.Source
		if set, sources, wrong, err = readRules([]string{path}); err != nil {
			return 0, nil, err
		}
		n, refused := testYARA(sources)
		tested, wrong = len(wrong)+n, append(wrong, refused...)
		if len(set) == 0 {
			return tested, wrong, nil
		}
		if scanners, err = scannersFor(set); err != nil {
			return 0, nil, err
		}
	}
	dir, err := os.MkdirTemp("", "loupe-rules-")
	if err != nil {
		return 0, nil, fault.New(fault.Unavailable, "there is no room for temporary files").Because(err)
	}
	defer os.RemoveAll(dir)
	failed, err := ruletest.Check(ctx, dir, scanners, set, Makers)
	if err != nil {
		return 0, nil, fault.New(fault.Invalid, "%v", err)
	}
	return tested + len(set), append(wrong, failed...), nil
}

// testYARA says which YARA rules cannot be used.
func testYARA(sources []yara.Source) (tested int, wrong []string) {
	if len(sources) == 0 {
		return 0, nil
	}
	scanner, wrong, _ := newYARA(sources)
	if scanner != nil {
		tested = len(scanner.Rules)
	}
	return tested + len(wrong), wrong
}

// scannersFor returns scanners that know the rules of a set: for matches as
// data a scanner of their own, and the coded checks as they are.
func scannersFor(set []*rule.Rule) ([]*scan.Scanner, error) {
	var matches []*rule.Rule
	for _, r := range set {
		switch {
		case r.Match == nil && !slices.ContainsFunc(rules.All(), func(b *rule.Rule) bool { return b.ID == r.ID }):
			return nil, fault.New(fault.Invalid, "the rule %s has no match section, and there is no built-in check of that name", r.ID)
		case r.Match != nil && !strings.HasPrefix(r.ID, "native/"):
			return nil, fault.New(fault.Invalid, "the rule %s is of an area whose checks are code", r.ID).Try("put rules with a match section into native/")
		case r.Match != nil:
			matches = append(matches, r)
		}
	}
	own, err := native.New(matches)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%v", fmt.Errorf("a rule cannot be used: %w", err))
	}
	out := slices.Clone(all.Scanners)
	for i, s := range out {
		if s == native.Scanner {
			out[i] = own
		}
	}
	return out, nil
}
