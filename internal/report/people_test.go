package report_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/report"
)

func TestTableSays(t *testing.T) {
	unread := pack()
	unread.Binaries, unread.Findings = nil, nil
	quiet := pack()
	quiet.Binaries, quiet.Findings, quiet.Notes = nil, nil, nil
	for _, test := range []struct {
		name string
		r    *report.Report
		want []string
	}{
		{"one problem in many binaries", platformParts(), []string{
			"in 30 binaries: node_modules/@swift/{press-android-arm64, press-android-ia32,", "and 22 more}/bin/press", "Deprecated: use swiftpress instead"}},
		{"a long list", folder(200), []string{"200 native binaries in vendor/lib/deep/folder/", "… and 170 more (--format json shows all)",
			"GHSA-x84v-xcm2-53pg · CVE-2018-18074"}},
		{"no binaries but a script", empty(), []string{"No native binaries in 31 files.", "At installation it runs: node-gyp-build"}},
		{"no binaries and no script", quiet, []string{"No native binaries in 31 files.\nNothing was found to run at installation.", "No findings · 31 files"}},
		{"silence with a note", unread, []string{"Notes\n", "not looked at", "No findings · 1 note on what was not looked at"}},
		{"both slices of a fat file", pack(), []string{"Mach-O x86_64", "Mach-O aarch64", "risk 48/100 medium"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := write(t, "table", test.r, report.Options{})
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
		})
	}
}

// What has not been looked for is not said to be absent.
func TestTableClaimsNoMoreThanItKnows(t *testing.T) {
	r := pack()
	r.Binaries, r.Findings, r.Rules = nil, nil, r.Rules[1:]
	if got := write(t, "table", r, report.Options{}); strings.Contains(got, "installation") {
		t.Errorf("says something of install scripts that no rule looked for:\n%s", got)
	}
}

func TestTableExplains(t *testing.T) {
	got := write(t, "table", pack(), report.Options{Explain: true})
	for _, want := range []string{"Why 48\n   +40  prebuilds/linux-x64/bcrypt.node connects to a host (native/connects-out)", "\n    -4  symbols are kept",
		"Why 12: {darwin-x64+arm64, linux-arm, linux-arm64, win32-x64}/bcrypt.node"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if plain := write(t, "table", pack(), report.Options{}); strings.Contains(plain, "Why ") {
		t.Error("explains without being asked")
	}
}

// Text of a language model is labelled.
func TestAuthorIsNamed(t *testing.T) {
	for _, format := range []string{"table", "markdown"} {
		r := pack()
		if text := strings.ToLower(write(t, format, r, report.Options{})); strings.Contains(text, "written by") {
			t.Errorf("%s: the text of rules is labelled as another's", format)
		}
		r.AIModel = "some-model"
		if text := strings.ToLower(write(t, format, r, report.Options{})); !strings.Contains(text, "written by") || !strings.Contains(text, "some-model") {
			t.Errorf("%s: does not name the author of the summary", format)
		}
	}
}

// TestMarkdownIsInert looks for markup that the target could have brought in.
func TestMarkdownIsInert(t *testing.T) {
	tag := regexp.MustCompile(`<[^>]*>?`)
	span := regexp.MustCompile("`[^`\n]*`")
	ours := map[string]bool{"<details>": true, "<details open>": true, "</details>": true, "<summary>": true, "</summary>": true, "<b>": true, "</b>": true,
		"<code>": true, "</code>": true, "<sub>": true, "</sub>": true, "<!-- -->": true}
	for sample, make := range samples {
		t.Run(sample, func(t *testing.T) {
			text := span.ReplaceAllString(write(t, "markdown", make(), report.Options{}), "CODE")
			for _, s := range tag.FindAllString(text, -1) {
				if !ours[s] {
					t.Errorf("holds the tag %s", s)
				}
			}
			for _, pair := range []string{"details", "summary", "code", "b", "sub"} {
				if n, m := strings.Count(text, "<"+pair), strings.Count(text, "</"+pair+">"); n != m {
					t.Errorf("%d of <%s> are opened and %d closed", n, pair, m)
				}
			}
			text = strings.ReplaceAll(text, "[Loupe](https://github.com/loupe-sec/loupe)", "")
			text = strings.ReplaceAll(text, "> [!WARNING]", "")
			for _, bad := range []string{"[", "]", "`", "://", "\\", "~", "$", "@"} {
				if i := strings.Index(text, bad); i >= 0 {
					t.Errorf("holds %q: %q", bad, text[max(0, i-20):min(len(text), i+20)])
				}
			}
			for line := range strings.Lines(text) {
				if n := strings.Count(line, "|"); n != 0 && n != 8 {
					t.Errorf("a row of %d cells: %q", n-1, line)
				}
			}
		})
	}
}

// TestMarkdownForGitHub renders with GitHub's own parser. The module is
// cmarkgfm.
func TestMarkdownForGitHub(t *testing.T) {
	python(t, "cmarkgfm", `
import sys, cmarkgfm
from cmarkgfm.cmark import Options
from html.parser import HTMLParser
allowed = set("h2 h3 p strong b sub code details summary table thead tbody tr th td ul li a blockquote".split())
bad = 0
class Check(HTMLParser):
    cells = 0
    def handle_starttag(self, tag, attrs):
        global bad
        link = dict(attrs).get("href", "https://github.com/loupe-sec/loupe")
        if tag not in allowed or link != "https://github.com/loupe-sec/loupe":
            bad = 1
            print(f, "renders", tag, attrs)
        if tag == "tr":
            self.cells = 0
        self.cells += tag in ("td", "th")
    def handle_endtag(self, tag):
        global bad
        if tag == "tr" and self.cells != 7:
            bad = 1
            print(f, "has a row of", self.cells)
for f in sys.argv[1:]:
    text = open(f, encoding="utf-8").read()
    Check().feed(cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE))
sys.exit(bad)
`, written(t, "markdown"))
}

// A comment of GitHub holds 65,536 characters.
func TestMarkdownFitsAComment(t *testing.T) {
	r := &report.Report{}
	for i := range 3000 {
		long := strings.Repeat("a|`", 1500)
		r.Findings = append(r.Findings, finding.Finding{
			Rule: fmt.Sprint("a/b", i), Title: long, Description: long, Remediation: long, Severity: finding.High,
			Location: finding.Location{Path: fmt.Sprint(i, long)}, Evidence: []finding.Evidence{{Kind: "string", Value: long}},
		})
		r.Notes = append(r.Notes, finding.Note{Path: long, Text: long})
		r.Binaries = append(r.Binaries, &inventory.Binary{Path: fmt.Sprint(i, long), Format: long})
	}
	text := write(t, "markdown", r, report.Options{})
	if len(text) > 65_000 || !strings.Contains(text, "more findings") {
		t.Errorf("%d bytes", len(text))
	}
}
