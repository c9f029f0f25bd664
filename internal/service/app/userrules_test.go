package app_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// nativeRule is a rule of a user's for native binaries, with a match section.
func nativeRule(id, when string) string {
	return "---\nid: " + id + "\ntitle: Names our server\nseverity: high\nconfidence: likely\nfix: Ask why.\n---\nWhy.\n\n" +
		"-- match --\nbehavior: network\ntier: use\nsays: Names our server\nwhen:\n  " + when + "\n"
}

// folder writes files and returns where.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOwnRules(t *testing.T) {
	a := app.New(app.Options{})
	dir := folder(t, map[string]string{
		"native/names-server.rule": nativeRule("native/names-server", "string: [connect]"),
		"native/broken.rule":       nativeRule("native/broken", "strnig: [connect]"),
		"native/connects-out.rule": nativeRule("native/connects-out", "import: [connect]"),
		"install/other.rule":       nativeRule("install/other", "string: [connect]"),
		"more/words.yar":           `rule gyp { strings: $a = "node-gyp-build" condition: $a } rule pe_only { condition: pe.is_dll() }`,
	})
	set, err := a.LoadRules([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Refused) != 3 || !strings.Contains(strings.Join(set.Refused, "\n"), "native/broken") ||
		!strings.Contains(strings.Join(set.Refused, "\n"), "words.yar:1: rule pe_only is refused: module pe is not supported") {
		t.Errorf("refused: %q", set.Refused)
	}
	if want := []string{"rule native/connects-out replaces the built-in one"}; !slices.Equal(set.Notices, want) {
		t.Errorf("notices %q; want %q", set.Notices, want)
	}
	if n := len(set.Rules) - len(a.Rules()); n != 2 {
		t.Errorf("%d more rules than built-in ones; want 2", n)
	}
	if r, err := set.Find("yara/more/words/gyp"); err != nil || r.Severity != finding.Medium {
		t.Errorf("Find: %+v, %v", r, err)
	}
	rep, err := a.Scan(t.Context(), app.ScanRequest{Target: target.Target{Kind: target.Path, Name: tarball(t, 100)}, Rules: set})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, f := range rep.Findings {
		count[f.Rule]++
		if f.Rule == "native/connects-out" && f.Title != "Names our server" {
			t.Errorf("the built-in rule reported: %+v", f)
		}
	}
	if count["yara/more/words/gyp"] != 1 || count["native/names-server"] != 7 || count["native/connects-out"] != 7 {
		t.Errorf("findings by rule: %v", count)
	}
	if n := finding.CountUnread(rep.Notes); n != 3 {
		t.Errorf("%d notes about what was refused; want 3: %v", n, rep.Notes)
	}
	if rep.Tool.Rules == a.Tool().Rules || !slices.Contains(rep.Ran, "yara") {
		t.Errorf("the report does not name the rules: %+v, %v", rep.Tool, rep.Ran)
	}
	if !slices.ContainsFunc(rep.Rules, func(r *rule.Rule) bool { return r.ID == "yara/more/words/gyp" }) {
		t.Error("the report does not describe the rules")
	}
}

func TestLoadRulesRefuses(t *testing.T) {
	a := app.New(app.Options{})
	for _, test := range []struct {
		name  string
		files map[string]string
		want  fault.Kind
		text  string
	}{
		{"nothing", map[string]string{"a.txt": ""}, fault.NotFound, "there are no .rule, .yar or .yara files"},
		{"no YARA", map[string]string{"a.yar": "rule x {\n"}, fault.Invalid, `a.yar:2: unexpected the end of the file`},
		{"no rule", map[string]string{"a.rule": "x"}, fault.Invalid, "no front matter"},
		{"nothing usable", map[string]string{"a.yara": "rule x { condition: pe.x }"}, fault.Invalid, "module pe is not supported"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := a.LoadRules([]string{folder(t, test.files)})
			if !fault.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v; want %v, %s", err, test.want, test.text)
			}
		})
	}
	if _, err := a.LoadRules([]string{"no/such"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a folder that is not there: %v", err)
	}
	twice := folder(t, map[string]string{"native/a.rule": nativeRule("native/a", "string: [abcd]")})
	set, err := a.LoadRules([]string{twice, filepath.Join(twice, "native", "a.rule")})
	if err != nil || len(set.Refused) != 1 || !strings.Contains(set.Refused[0], "a second rule native/a is refused") {
		t.Errorf("a rule that is there twice: %+v, %v", set, err)
	}
	if set, err := a.LoadRules(nil); err != nil || len(set.Rules) != len(a.Rules()) {
		t.Errorf("without a place: %v", err)
	}
}

// TestBrokenFilesAlone refuses files that are no rules one by one, whatever is
// wrong with them, and uses the others.
func TestBrokenFilesAlone(t *testing.T) {
	a := app.New(app.Options{})
	good := nativeRule("native/names-server", "string: [connect]")
	dir := folder(t, map[string]string{
		"native/names-server.rule": good,
		"native/misnamed.rule":     nativeRule("native/other-name", "string: [connect]"),
		"native/grave.rule":        strings.Replace(nativeRule("native/grave", "string: [connect]"), "severity: high", "severity: grave", 1),
		"native/yaml.rule":         strings.Replace(nativeRule("native/yaml", "string: [connect]"), "title: ", "title: [", 1),
		"native/prose.rule":        "no rule",
		"more/names-server.rule":   good,
		"words.yar":                `rule gyp { condition: filesize > 10 }`,
		"broken.yar":               "rule a {\n  oops\n}",
	})
	set, err := a.LoadRules([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"native/misnamed.rule", "native/grave.rule", "native/yaml.rule", "native/prose.rule", "native/names-server.rule", "broken.yar:2"} {
		if !slices.ContainsFunc(set.Refused, func(line string) bool {
			return strings.HasPrefix(line, "a file is refused: ") && strings.Contains(line, file+": ") && !strings.Contains(line, "\n")
		}) {
			t.Errorf("nothing says that %s is refused: %q", file, set.Refused)
		}
	}
	if len(set.Refused) != 6 || len(set.Rules) != len(a.Rules())+2 {
		t.Errorf("%d lines, %d more rules; want 6 and 2: %q", len(set.Refused), len(set.Rules)-len(a.Rules()), set.Refused)
	}
	n, wrong, err := a.TestRules(t.Context(), dir)
	if err != nil || n != 8 || len(wrong) < 6 {
		t.Errorf("%d rules are tested, %v: %q", n, err, wrong)
	}
	delete := filepath.Join(dir, "native", "names-server.rule")
	if err := os.Remove(delete); err != nil {
		t.Fatal(err)
	}
	if _, err := a.LoadRules([]string{filepath.Join(dir, "native")}); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "grave.rule") {
		t.Errorf("where nothing can be used: %v", err)
	}
}

// TestDocumentedRule tries the rule that docs/yara.md shows.
func TestDocumentedRule(t *testing.T) {
	page, err := os.ReadFile("../../../docs/yara.md")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(page)) {
		if rest, ok := strings.CutPrefix(line, "    "); ok && (rest == "---\n" || text.Len() > 0) {
			text.WriteString(rest)
		} else if strings.TrimSpace(line) != "" && text.Len() > 0 {
			break
		} else if text.Len() > 0 {
			text.WriteString("\n")
		}
	}
	dir := folder(t, map[string]string{"names-server.rule": text.String()})
	n, wrong, err := app.New(app.Options{}).TestRules(t.Context(), dir)
	if err != nil || n != 1 || len(wrong) > 0 {
		t.Errorf("%d rules, %q, %v", n, wrong, err)
	}
}

// TestRulesOfYARA says of YARA's rules which cannot be used.
func TestRulesOfYARA(t *testing.T) {
	dir := folder(t, map[string]string{"a.yar": "rule one { condition: true }\nrule two { condition: pe.x }"})
	n, wrong, err := app.New(app.Options{}).TestRules(t.Context(), dir)
	if err != nil || n != 2 || len(wrong) != 1 || !strings.HasSuffix(wrong[0], "a.yar:2: rule two is refused: module pe is not supported") {
		t.Errorf("%d rules, %q, %v", n, wrong, err)
	}
}
