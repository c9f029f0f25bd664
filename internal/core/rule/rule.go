// Package rule holds rules: what can be wrong, why it matters, what to do
// about it, and examples that prove that the rule finds it.
//
// A rule is one text file in txtar form. The front matter says what the rule
// is, the prose after it explains, a "match" section says what to look for,
// and every other section is an example:
//
//	---
//	id: secrets/acme-token
//	title: Acme API token in source
//	severity: high
//	confidence: confirmed
//	fix: Roll the token and read it from the environment.
//	---
//	Why it matters, in Markdown.
//
//	-- match --
//	regexp: 'acme_[0-9a-z]{32}'
//	-- bad/config.py:2 --
//	import acme
//	acme.connect("acme_${alnum:32}")
//	-- good/config.py --
//	acme.connect(os.environ["ACME_TOKEN"])
//
// A bad example must be reported, on exactly the lines that it names; a good
// one must not. An example of several files names itself in brackets:
// bad[hook]/package.json and bad[hook]/install.js make one. Package ruletest
// runs them.
package rule

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/txtar"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/parallel"
)

// A Rule is one kind of problem. Its ID is for ever: a rule that is no longer
// wanted is marked Deprecated, and one that is renamed keeps its old ID as an
// alias, so that suppressions and saved searches go on working.
type Rule struct {
	ID         string
	Title      string // a phrase without a full stop
	ScanType   finding.ScanType
	Severity   finding.Severity
	Confidence finding.Confidence
	CWE        []int
	Attack     []string // MITRE ATT&CK technique ids: "T1071", "T1027.002"
	References []string
	Aliases    []string
	Fix        string // what to do, one imperative sentence
	Deprecated bool

	Text     string    // the explanation, Markdown
	Match    []byte    // YAML for the scanner that owns the area; empty if the check is code
	Examples []Example // run as tests, shown as documentation
	Source   []byte    // the file as it was read
}

// An Example is a small tree of files that the rule must, or must not, report on.
type Example struct {
	Name  string // as the section names it: "bad/x.js" or "bad[hook]"
	Bad   bool
	Files []File
}

// A File is one file of an example.
type File struct {
	Path  string
	Lines []int // where a bad example must be reported; none means anywhere
	Data  []byte
}

// MaxSize bounds a rule file in bytes: room for prose and examples, none for
// a data set.
const MaxSize = 256 << 10

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
)

// only reports whether text is not empty and made of these characters.
func only(text, chars string) bool { return text != "" && strings.Trim(text, chars) == "" }

// validID reports whether an ID is an area and one or more names behind
// slashes.
func validID(id string) bool {
	area, names, ok := strings.Cut(id, "/")
	if !ok || !only(area, lower+digits) || !only(area[:1], lower) {
		return false
	}
	for name := range strings.SplitSeq(names, "/") {
		if !only(name, lower+digits+"-") || name[0] == '-' {
			return false
		}
	}
	return true
}

// validAttack reports whether a technique has the form T1027 or T1027.002.
func validAttack(id string) bool {
	technique, sub, ok := strings.Cut(id, ".")
	return len(technique) == 5 && technique[0] == 'T' && only(technique[1:], digits) && (!ok || len(sub) == 3 && only(sub, digits))
}

// Parse reads one rule file.
func Parse(data []byte) (*Rule, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the file is larger than %d bytes", MaxSize)
	}
	ar := txtar.Parse(data)
	r, err := parseHead(ar.Comment)
	if err != nil {
		return nil, err
	}
	r.Source = data
	for _, f := range ar.Files {
		if f.Name == "match" {
			if r.Match != nil {
				return nil, errors.New("two match sections")
			}
			r.Match = f.Data
			continue
		}
		if err := r.addExample(f); err != nil {
			return nil, err
		}
	}
	return r, r.check()
}

// parseHead reads the front matter and the explanation.
func parseHead(text []byte) (*Rule, error) {
	_, rest, ok := bytes.Cut(text, []byte("---\n"))
	head, prose, ok2 := bytes.Cut(rest, []byte("\n---\n"))
	if !ok || !ok2 {
		return nil, errors.New("no front matter between two lines of ---")
	}
	var h struct {
		ID, Title, Severity, Confidence, Fix string
		Type                                 string
		CWE                                  []int
		Attack, References, Aliases          []string
		Deprecated                           bool
	}
	if err := Decode(head, &h); err != nil {
		return nil, fmt.Errorf("front matter: %w", err)
	}
	r := &Rule{
		ID: h.ID, Title: h.Title, ScanType: finding.ScanType(cmp.Or(h.Type, areaType[area(h.ID)])),
		CWE: h.CWE, Attack: h.Attack, References: h.References, Aliases: h.Aliases,
		Fix: h.Fix, Deprecated: h.Deprecated, Text: strings.TrimSpace(string(prose)),
	}
	return r, errors.Join(
		r.Severity.UnmarshalText([]byte(h.Severity)),
		r.Confidence.UnmarshalText([]byte(h.Confidence)),
	)
}

// areaType is the scan type of an area's rules, where the rule names none.
var areaType = map[string]string{
	"native":   string(finding.Binary),
	"layout":   string(finding.Binary),
	"embedded": string(finding.Binary),
	"install":  string(finding.Binary),
}

func area(id string) string { a, _, _ := strings.Cut(id, "/"); return a }

func (r *Rule) addExample(f txtar.File) error {
	s, ok := readSection(f.Name)
	if !ok {
		return fmt.Errorf("section %q is neither match, good/PATH nor bad/PATH", f.Name)
	}
	file := File{Path: s.path, Data: f.Data}
	if !fs.ValidPath(file.Path) {
		return fmt.Errorf("section %q: not a relative path", f.Name)
	}
	for _, line := range s.lines {
		n, err := strconv.Atoi(line)
		if err != nil {
			return fmt.Errorf("section %q: %w", f.Name, err)
		}
		file.Lines = append(file.Lines, n)
	}
	if !s.shared {
		r.Examples = append(r.Examples, Example{Name: s.example + "/" + file.Path, Bad: s.bad, Files: []File{file}})
		return nil
	}
	i := slices.IndexFunc(r.Examples, func(e Example) bool { return e.Name == s.example })
	if i < 0 {
		i = len(r.Examples)
		r.Examples = append(r.Examples, Example{Name: s.example, Bad: s.bad})
	}
	r.Examples[i].Files = append(r.Examples[i].Files, file)
	return nil
}

// A sectionName is the name of an example's section, taken apart.
type sectionName struct {
	example string // "bad" or "bad[hook]"
	bad     bool
	shared  bool // the example may have other sections
	path    string
	lines   []string // of digits
}

// readSection takes the name of a section apart: good or bad, perhaps a word in
// brackets, a path, and perhaps lines behind a colon.
func readSection(name string) (s sectionName, ok bool) {
	var rest, list string
	s.example, rest, ok = strings.Cut(name, "/")
	kind, word, shared := strings.Cut(s.example, "[")
	s.bad, s.shared = kind == "bad", shared
	if !ok || kind != "good" && kind != "bad" {
		return s, false
	}
	if word, closed := strings.CutSuffix(word, "]"); shared && !(closed && only(word, lower+digits+"-")) {
		return s, false
	}
	if s.path, list, ok = strings.Cut(rest, ":"); ok {
		s.lines = strings.Split(list, ",")
	}
	return s, s.path != "" && !slices.ContainsFunc(s.lines, func(line string) bool { return !only(line, digits) })
}

func (r *Rule) check() error {
	switch {
	case !validID(r.ID):
		return fmt.Errorf("id %q is not of the form area/name", r.ID)
	case r.Title == "" || strings.HasSuffix(r.Title, "."):
		return fmt.Errorf("%s: the title must be a phrase without a full stop", r.ID)
	case r.ScanType == "":
		return fmt.Errorf("%s: no type, and its area has none", r.ID)
	case r.Severity == finding.Unrated:
		return fmt.Errorf("%s: no severity", r.ID)
	case r.Confidence == finding.Unsure:
		return fmt.Errorf("%s: no confidence", r.ID)
	case r.Fix == "":
		return fmt.Errorf("%s: no fix", r.ID)
	case r.Text == "":
		return fmt.Errorf("%s: no explanation", r.ID)
	}
	for _, id := range r.Attack {
		if !validAttack(id) {
			return fmt.Errorf("%s: %q is not a technique id of MITRE ATT&CK", r.ID, id)
		}
	}
	return nil
}

// Load reads every .rule file under fsys, sorted by ID, and reports all that
// is wrong with them at once. A file is named for its rule's ID.
func Load(fsys fs.FS) ([]*Rule, error) {
	rules, refused, err := LoadUsable(fsys)
	return rules, errors.Join(append(refused, err)...)
}

// LoadUsable reads every .rule file under fsys, sorted by ID, and says of each
// that is not among them why, beginning with the name of the file. Of two that
// claim one ID it takes the first. Files are parsed in parallel: every start of
// the program waits for the built-in ones.
func LoadUsable(fsys fs.FS) (rules []*Rule, refused []error, err error) {
	names, err := ruleFiles(fsys)
	if err != nil {
		return nil, nil, err
	}
	rules = make([]*Rule, len(names))
	errs := make([]error, len(names))
	parallel.For(len(names), func(i int) {
		r, err := load(fsys, names[i])
		if err != nil {
			errs[i] = fmt.Errorf("%s: %w", names[i], err)
			return
		}
		rules[i] = r
	})
	dropDuplicates(rules, names, errs)
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	rules = slices.DeleteFunc(rules, func(r *Rule) bool { return r == nil })
	slices.SortFunc(rules, func(a, b *Rule) int { return strings.Compare(a.ID, b.ID) })
	return rules, errs, nil
}

func ruleFiles(fsys fs.FS) (names []string, err error) {
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Ext(name) == ".rule" {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

func load(fsys fs.FS, name string) (*Rule, error) {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	r, err := Parse(data)
	if err != nil {
		return nil, err
	}
	if base := path.Base(r.ID) + ".rule"; path.Base(name) != base {
		return nil, fmt.Errorf("rule %s belongs in a file named %s", r.ID, base)
	}
	return r, nil
}

// dropDuplicates takes out rules with an ID or alias that a file before claims.
func dropDuplicates(rules []*Rule, names []string, errs []error) {
	taken := map[string]string{}
	for i, r := range rules {
		if r == nil {
			continue
		}
		ids := append([]string{r.ID}, r.Aliases...)
		for _, id := range ids {
			if old, dup := taken[id]; dup {
				rules[i], errs[i] = nil, fmt.Errorf("%s: the id %s is taken by %s", names[i], id, old)
				break
			}
		}
		if rules[i] != nil {
			for _, id := range ids {
				taken[id] = names[i]
			}
		}
	}
}
