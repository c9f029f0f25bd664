package native

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/parallel"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/formats/native/hidden"
	"github.com/loupe-sec/loupe/internal/formats/needle"
)

// A ruleset is all rules and runtimes, compiled into one condition each and one
// finder for the literals of all of them.
type ruleset struct {
	rules    []compiled
	runtimes []runtime
	literals []literal
	finder   *needle.Finder
	origin   []int // literal of each text of the finder: a literal is looked for as ASCII and as UTF-16
	imports  names // that any rule asks for
	telling  names // imports that any runtime is told by

	makeSecrets  sync.Once
	secretFinder *hidden.Finder
	secretWords  []string
	secretList   []secret // by word
}

// asksFor reports whether any rule asks for an import of that name.
func (set *ruleset) asksFor(name string) bool { return set.imports.match(name) }

// follows reports whether it matters where an import of that name is used:
// to a rule, to what tells runtimes, or for what is asked by name through it.
func (set *ruleset) follows(name string) bool {
	_, asks := asking[name]
	return asks || calling(name) || set.asksFor(name) || set.telling.match(name)
}

// compiled is a rule ready to be tried.
type compiled struct {
	rule     *rule.Rule
	behavior inventory.BehaviorName // empty: a finding that is no behaviour
	tier     inventory.Tier
	says     string
	when     condition
}

// A runtime is what a compiler or language links into everything that it
// builds. What it imports for itself is no evidence of what the program does.
type runtime struct {
	name    string
	when    condition
	imports names
	whole   bool // the binary is the runtime: all of its code is
}

// maxLiterals bounds the finder: beyond it, every other byte would be a
// candidate.
const maxLiterals = 20_000

// compile compiles the match sections of rules, and the runtimes of fsys.
func compile(rules []*rule.Rule, fsys fs.FS) (*ruleset, error) {
	return (&compiler{pattern: pattern.Compile}).ruleset(rules, fsys)
}

// compileTested does so for rules and runtimes that tests have compiled: their
// regular expressions wait until they are used.
func compileTested(rules []*rule.Rule, fsys fs.FS) (*ruleset, error) {
	lazy := func(text string) (*pattern.Pattern, error) { return pattern.New(text), nil }
	return (&compiler{pattern: lazy}).ruleset(rules, fsys)
}

func (c *compiler) ruleset(rules []*rule.Rule, fsys fs.FS) (*ruleset, error) {
	s := &ruleset{}
	var errs []error
	for i, m := range matches(rules) {
		one, err := c.rule(rules[i], m)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: match: %w", rules[i].ID, err))
		}
		s.rules = append(s.rules, one)
	}
	runtimes, err := c.runtimes(fsys)
	s.runtimes, s.literals = runtimes, c.literals
	if len(s.literals) > maxLiterals {
		errs = append(errs, fmt.Errorf("%d literals are more than %d", len(s.literals), maxLiterals))
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	s.build()
	s.imports = names{exact: map[string]bool{}}
	for i := range s.rules {
		s.imports.gather(&s.rules[i].when)
	}
	s.telling = names{exact: map[string]bool{}}
	for i := range s.runtimes {
		s.telling.gather(&s.runtimes[i].when)
	}
	return s, nil
}

// gather adds the imports that a condition asks for.
func (n *names) gather(c *condition) {
	if c.op == opImport {
		maps.Copy(n.exact, c.names.exact)
		n.globs = append(n.globs, c.names.globs...)
	}
	for i := range c.children {
		n.gather(&c.children[i])
	}
}

// A match is the match section of a rule, decoded.
type match struct {
	Behavior inventory.BehaviorName
	Tier     inventory.Tier
	Says     string
	When     any

	err error
}

// matches decodes match sections in parallel: every start of the program waits
// for them.
func matches(rules []*rule.Rule) []match {
	out := make([]match, len(rules))
	parallel.For(len(rules), func(i int) {
		out[i].err = rule.Decode(rules[i].Match, &out[i])
	})
	return out
}

func (c *compiler) rule(r *rule.Rule, m match) (compiled, error) {
	if m.err != nil {
		return compiled{}, m.err
	}
	switch {
	case m.Behavior != "" && !slices.Contains(inventory.BehaviorNames, m.Behavior):
		return compiled{}, fmt.Errorf("unknown behavior %q: want one of %v", m.Behavior, inventory.BehaviorNames)
	case m.Tier != inventory.Capability && m.Tier != inventory.Use && m.Tier != inventory.Intent:
		return compiled{}, fmt.Errorf("tier is %q: want capability, use or intent", m.Tier)
	case m.Says == "" || strings.HasSuffix(m.Says, "."):
		return compiled{}, errors.New("says must be a sentence without its full stop")
	}
	when, err := c.condition(m.When, 0)
	if err != nil {
		return compiled{}, fmt.Errorf("when: %w", err)
	}
	return compiled{r, m.Behavior, m.Tier, m.Says, when}, nil
}

// runtimes reads every .runtime file: YAML with a name, when it is there, and
// the imports that it explains.
func (c *compiler) runtimes(fsys fs.FS) ([]runtime, error) {
	var out []runtime
	var errs []error
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".runtime" {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		one, err := c.oneRuntime(data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		out = append(out, one)
		return nil
	})
	return out, errors.Join(append(errs, err)...)
}

func (c *compiler) oneRuntime(data []byte) (runtime, error) {
	var r struct {
		Name    string
		When    any
		Imports []string
		Whole   bool
	}
	if err := rule.Decode(data, &r); err != nil {
		return runtime{}, err
	}
	when, err := c.condition(r.When, 0)
	if err != nil {
		return runtime{}, fmt.Errorf("when: %w", err)
	}
	if r.Name == "" || len(r.Imports) == 0 {
		return runtime{}, errors.New("a runtime needs a name and imports")
	}
	out := runtime{name: r.Name, when: when, whole: r.Whole, imports: names{exact: map[string]bool{}}}
	for _, i := range r.Imports {
		if strings.Contains(i, "*") {
			out.imports.globs = append(out.imports.globs, i)
		} else {
			out.imports.exact[i] = true
		}
	}
	return out, nil
}

// build makes the finder. Texts are looked for as they are and as UTF-16,
// which is how Windows programs hold them.
func (set *ruleset) build() {
	var texts [][]byte
	for i, l := range set.literals {
		texts = append(texts, []byte(l.bytes))
		set.origin = append(set.origin, i)
		if l.text {
			wide := make([]byte, 0, 2*len(l.bytes))
			for _, c := range []byte(l.bytes) {
				wide = append(wide, c, 0)
			}
			texts = append(texts, wide)
			set.origin = append(set.origin, i)
		}
	}
	set.finder = needle.New(texts)
}
