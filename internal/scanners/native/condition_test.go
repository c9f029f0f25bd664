package native

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/loupe-sec/loupe/internal/core/rule"
)

// parse makes a rule with a condition.
func parse(t *testing.T, when string) *rule.Rule {
	t.Helper()
	text := "---\nid: native/x\ntitle: X\nseverity: low\nconfidence: likely\nfix: Do.\n---\nText.\n\n-- match --\ntier: use\nsays: Does\nwhen:\n"
	for line := range strings.Lines(when) {
		text += "  " + line
	}
	r, err := rule.Parse([]byte(text + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCompileRefuses(t *testing.T) {
	deep := strings.Repeat("{not: ", maxDepth+2) + "{import: connect}" + strings.Repeat("}", maxDepth+2)
	for _, test := range []struct{ name, when, want string }{
		{"unknown operator", "imports: connect", `unknown condition "imports"`},
		{"two operators", "{import: connect, string: /bin/sh}", "put them in a list of all"},
		{"option of another", "{string: abcd, from: libc}", "from goes with import only"},
		{"short literal", "string: abc", "shorter than 4"},
		{"bad hexadecimal", "bytes: zzzzzzzz", "bytes"},
		{"bad expression", "text: {has: curl, like: '('}", "like"},
		{"unknown key", "section: {names: x}", `unknown key "names"`},
		{"empty section", "section: {}", "nothing is asked"},
		{"wrong type", "section: {size: big}", "does not fit"},
		{"empty list", "any: []", "empty list"},
		{"too many wanted", "atleast: {n: 3, of: [{import: [a, b]}]}", "n is 3 of 2"},
		{"misspelt fact", "fact: smal", `no fact "smal"`},
		{"number as name", "import: [1]", "put it in quotes"},
		{"too deep", deep, "nested deeper"},
		{"nothing", "{}", "empty condition"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := compile([]*rule.Rule{parse(t, test.when)}, fstest.MapFS{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not speak of %q", err, test.want)
			}
		})
	}
}

func TestCompileNamesEveryBrokenRule(t *testing.T) {
	_, err := compile([]*rule.Rule{parse(t, "import: a"), parse(t, "imports: b"), parse(t, "fact: c")}, fstest.MapFS{
		"x.runtime": {Data: []byte("name: x\nwhen: {import: y}\n")},
	})
	for _, want := range []string{`"imports"`, `"c"`, "x.runtime: a runtime needs"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %s", err, want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"EVP_*", "EVP_sha256", true}, {"EVP_*", "xEVP_sha256", false}, {"*", "", true}, {"a*c", "abc", true}, {"a*c", "ac", true},
		{"a*c", "acx", false}, {"*/libz*", "/usr/lib/libz.so", true}, {"a*b*c", "axbxbxc", true}, {"a*b", "ab", true}, {"ab*b", "ab", false}, {"x", "x", true}, {"x", "xy", false},
	} {
		if got := glob(test.pattern, test.s); got != test.want {
			t.Errorf("glob(%q, %q) = %v", test.pattern, test.s, got)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("any:\n- import: connect\n- text: {has: curl, like: 'a+'}")
	f.Add("atleast: {n: 1, of: [{section: {entropy: 7.1}}]}")
	f.Fuzz(func(t *testing.T, when string) {
		if len(when) > 2000 {
			t.Skip("the YAML library is slow on long nonsense")
		}
		var text strings.Builder
		fmt.Fprint(&text, "tier: use\nsays: Does\nwhen:\n")
		for line := range strings.Lines(when) {
			text.WriteString("  " + line)
		}
		r := &rule.Rule{ID: "native/x", Match: []byte(text.String())}
		set, err := compile([]*rule.Rule{r}, fstest.MapFS{})
		if err == nil && set.rules[0].when.op == "" {
			t.Fatalf("an empty condition was compiled from %q", when)
		}
	})
}
