package app

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/rules"
	"github.com/loupe-sec/loupe/internal/scanners/all"
	"github.com/loupe-sec/loupe/internal/scanners/native"
	"github.com/loupe-sec/loupe/internal/scanners/yara"
)

// A RuleSet is what rules there are: the built-in ones, or those and a user's.
type RuleSet struct {
	Rules   []*rule.Rule // sorted by ID
	Refused []string     // what of the user's is not used and why, a line each
	Notices []string     // built-in rules that the user's replace, a line each

	scanners []*scan.Scanner
	own      int // rules of the user's that are used
	texts    ruleTexts
}

// ruleTexts are a user's rules as they were read, from which the set can be
// made again elsewhere.
type ruleTexts struct {
	Rules [][]byte // .rule files
	YARA  []yara.Source
}

// load makes the set.
func (t ruleTexts) load() (*RuleSet, error) {
	var own []*rule.Rule
	for _, text := range t.Rules {
		r, err := rule.Parse(text)
		if err != nil {
			return nil, err
		}
		own = append(own, r)
	}
	return newRuleSet(own, t.YARA), nil
}

// builtin is the rules without a user's.
func builtin() *RuleSet { return &RuleSet{Rules: rules.All(), scanners: all.Scanners} }

// Find returns the rule of that ID, or of which it is an old ID.
func (s *RuleSet) Find(id string) (*rule.Rule, error) {
	for _, r := range s.Rules {
		if r.ID == id || slices.Contains(r.Aliases, id) {
			return r, nil
		}
	}
	return nil, fault.New(fault.NotFound, "there is no rule %q", id).Try("`loupe rules list` shows all of them")
}

// notes say in a report what of the user's rules is not used.
func (s *RuleSet) notes() (out []finding.Note) {
	for _, r := range s.Refused {
		out = append(out, finding.Note{Text: "not looked at: " + r})
	}
	return out
}

// LoadRules reads a user's rules, .rule, .yar and .yara files and folders of
// them, and returns them with the built-in ones. A place without any is an
// error, and so are rules of which none can be used; else what cannot be used
// is refused alone. A rule with the ID of a built-in one replaces it.
func (a *App) LoadRules(places []string) (*RuleSet, error) {
	if len(places) == 0 {
		return builtin(), nil
	}
	own, sources, refused, err := readRules(places)
	if err != nil {
		return nil, err
	}
	set := newRuleSet(own, sources)
	set.Refused = append(refused, set.Refused...)
	if set.own == 0 {
		return nil, fault.New(fault.Invalid, "no rule of %s can be used: %s", strings.Join(places, ", "), strings.Join(set.Refused, "; ")).
			Try("`loupe rules test` tries a rule, and docs/yara.md says what one needs")
	}
	return set, nil
}

// newRuleSet adds a user's rules to the built-in ones.
func newRuleSet(own []*rule.Rule, sources []yara.Source) *RuleSet {
	set := builtin()
	for _, r := range own {
		set.texts.Rules = append(set.texts.Rules, r.Source)
	}
	if len(own) > 0 {
		set.addNative(own)
	}
	set.addYARA(sources)
	slices.SortFunc(set.Rules, func(a, b *rule.Rule) int { return strings.Compare(a.ID, b.ID) })
	return set
}

// addNative gives the scanner of native binaries the rules that it can use.
func (s *RuleSet) addNative(own []*rule.Rule) {
	var usable []*rule.Rule
	for _, r := range own {
		switch {
		case !strings.HasPrefix(r.ID, "native/"):
			s.refuse("rule %s is refused: the checks of its area are code; rules with a match section belong into native/", r.ID)
		case r.Match == nil:
			s.refuse("rule %s is refused: it has no match section", r.ID)
		default:
			usable = append(usable, r)
		}
	}
	if _, err := native.New(usable); err != nil { // some are broken: which?
		usable = slices.DeleteFunc(usable, func(r *rule.Rule) bool {
			_, err := native.New([]*rule.Rule{r})
			if err != nil {
				s.refuse("rule %s is refused: %s", r.ID, strings.TrimPrefix(err.Error(), r.ID+": "))
			}
			return err != nil
		})
	}
	merged := s.merge(usable)
	scanner, err := native.New(slices.DeleteFunc(slices.Clone(merged), func(r *rule.Rule) bool { return !strings.HasPrefix(r.ID, "native/") }))
	if err != nil {
		s.refuse("the .rule files are refused: %v", err)
		return
	}
	s.Rules, s.own = merged, s.own+len(usable)
	s.scanners = slices.Clone(s.scanners)
	s.scanners[slices.Index(s.scanners, native.Scanner)] = scanner
}

func (s *RuleSet) refuse(format string, args ...any) {
	s.Refused = append(s.Refused, fmt.Sprintf(format, args...))
}

// merge returns the rules with some of the user's among them.
func (s *RuleSet) merge(own []*rule.Rule) []*rule.Rule {
	merged := slices.Clone(s.Rules)
	for _, r := range own {
		if i := slices.IndexFunc(merged, func(b *rule.Rule) bool { return b.ID == r.ID }); i >= 0 {
			merged[i] = r
			s.Notices = append(s.Notices, fmt.Sprintf("rule %s replaces the built-in one", r.ID))
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

func (s *RuleSet) addYARA(sources []yara.Source) {
	if len(sources) == 0 {
		return
	}
	scanner, refused, sources := newYARA(sources)
	s.texts.YARA = sources
	s.Refused = append(s.Refused, refused...)
	if scanner != nil {
		s.scanners = append(slices.Clone(s.scanners), scanner)
		s.Rules = append(s.Rules, scanner.Rules...)
		s.own += len(scanner.Rules)
	}
}

// newYARA returns a scanner for the rules of files, without those files that
// are no rules; refused says what is not used and why, a line each. The scanner
// is nil if nothing is used.
func newYARA(sources []yara.Source) (scanner *scan.Scanner, refused []string, usable []yara.Source) {
	usable = slices.DeleteFunc(slices.Clone(sources), func(src yara.Source) bool {
		_, _, err := yara.New([]yara.Source{src})
		if err != nil {
			refused = append(refused, refusal(err))
		}
		return err != nil
	})
	scanner, rules, err := yara.New(usable)
	if err != nil { // each can be read, but not all together
		return nil, append(refused, err.Error()), nil
	}
	for _, r := range rules {
		refused = append(refused, r.Error())
	}
	return scanner, refused, usable
}

// readRules reads the rule files at places. refused says of files that are no
// rules why, a line each.
func readRules(places []string) (own []*rule.Rule, sources []yara.Source, refused []string, err error) {
	for _, p := range places {
		if p == "" {
			continue
		}
		info, err := os.Stat(p)
		if err != nil {
			return nil, nil, nil, fault.New(fault.NotFound, "there is no rule file or folder %q", p).Because(err)
		}
		read := readRuleFile
		if info.IsDir() {
			read = readRuleFolder
		}
		r, s, not, err := read(p)
		if err != nil {
			return nil, nil, nil, err
		}
		if len(r)+len(s)+len(not) == 0 {
			return nil, nil, nil, fault.New(fault.NotFound, "there are no .rule, .yar or .yara files in %q", p)
		}
		own, sources, refused = append(own, r...), append(sources, s...), append(refused, not...)
	}
	slices.SortStableFunc(own, func(a, b *rule.Rule) int { return strings.Compare(a.ID, b.ID) })
	own = slices.CompactFunc(own, func(a, b *rule.Rule) bool {
		if a.ID == b.ID {
			refused = append(refused, fmt.Sprintf("a second rule %s is refused: the first of them is used", a.ID))
		}
		return a.ID == b.ID
	})
	return own, sources, refused, nil
}

// isYARA tells files of YARA rules by their extension.
func isYARA(name string) bool { return slices.Contains([]string{".yar", ".yara"}, path.Ext(name)) }

func readRuleFile(name string) ([]*rule.Rule, []yara.Source, []string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, nil, nil, unreadable(name, err)
	}
	if isYARA(name) {
		return nil, []yara.Source{{Name: name, Stem: stem(filepath.Base(name)), Text: text}}, nil, nil
	}
	r, err := rule.Parse(text)
	if err != nil {
		return nil, nil, []string{refusal(fmt.Errorf("%s: %w", filepath.Base(name), err))}, nil
	}
	return []*rule.Rule{r}, nil, nil, nil
}

func readRuleFolder(dir string) (own []*rule.Rule, sources []yara.Source, refused []string, err error) {
	fsys := os.DirFS(dir)
	own, wrong, err := rule.LoadUsable(fsys)
	if err != nil {
		return nil, nil, nil, unreadable(dir, err)
	}
	for _, err := range wrong {
		refused = append(refused, refusal(err))
	}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isYARA(name) {
			return err
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			refused = append(refused, refusal(fmt.Errorf("%s: %w", name, err)))
			return nil
		}
		sources = append(sources, yara.Source{Name: filepath.Join(dir, filepath.FromSlash(name)), Stem: stem(name), Text: text})
		return nil
	})
	if err != nil {
		return nil, nil, nil, unreadable(dir, err)
	}
	return own, sources, refused, nil
}

// refusal is the line about a file that is no rule.
func refusal(err error) string {
	return "a file is refused: " + strings.ReplaceAll(err.Error(), "\n", "; ")
}

func stem(name string) string { return strings.TrimSuffix(name, path.Ext(name)) }

func unreadable(name string, err error) error {
	return fault.New(fault.Unavailable, "the rules in %q cannot be read", name).Because(err)
}
