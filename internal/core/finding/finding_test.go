package finding_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/core/finding"
)

func TestSeverityText(t *testing.T) {
	var s finding.Severity
	if err := s.UnmarshalText([]byte("HIGH")); err != nil || s != finding.High {
		t.Errorf("HIGH = %v, %v; want high", s, err)
	}
	err := s.UnmarshalText([]byte("shiny"))
	if err == nil || !strings.Contains(err.Error(), "info, low, medium, high, critical") {
		t.Errorf("error %v does not list what is allowed", err)
	}
}

func TestFingerprintIgnoresLines(t *testing.T) {
	a := finding.Finding{Rule: "a/b", Location: finding.Location{Path: "x.js", Line: 3}, Anchor: "connect"}
	b := a
	b.Location.Line, b.Title, b.Severity = 90, "another title", finding.High
	if finding.Identify(a, 0) != finding.Identify(b, 0) {
		t.Error("a line number, title or severity changed the fingerprint")
	}
	moved := a
	moved.Rule, moved.Location.Path = "a", "b/x.js"
	for name, other := range map[string]finding.Finding{"moved": moved} {
		if finding.Identify(a, 0) == finding.Identify(other, 0) {
			t.Errorf("%s: two places share a fingerprint", name)
		}
	}
	if !strings.HasPrefix(string(finding.Identify(a, 0)), "1:") {
		t.Error("the fingerprint does not name its scheme")
	}
}

func TestArrangeDoesNotDependOnOrder(t *testing.T) {
	var fs []finding.Finding
	for i := range 40 {
		fs = append(fs, finding.Finding{
			Rule: fmt.Sprint("r/", i%3), Severity: finding.Severity(1 + i%5),
			Location: finding.Location{Path: fmt.Sprint("f", i%4)}, Description: fmt.Sprint(i / 20),
		})
	}
	print := func() string {
		rand.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
		finding.Arrange(fs)
		out, err := json.Marshal(fs)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	want := print()
	for range 20 {
		if got := print(); got != want {
			t.Fatal("the order of discovery shows in the result")
		}
	}
	seen := map[finding.Fingerprint]bool{}
	for _, f := range fs {
		if seen[f.Fingerprint] {
			t.Fatalf("fingerprint %s is used twice", f.Fingerprint)
		}
		seen[f.Fingerprint] = true
	}
}

func TestRedact(t *testing.T) {
	long := strings.Repeat("a1B2", 8)
	for _, test := range []struct{ in, want string }{
		{"https://user:" + long + "@host/x", "https://user:[redacted]@host/x"},
		{"Authorization: Bearer " + long, "Authorization: Bearer [redacted]"},
		{"//registry.example/:_authToken=" + long, "//registry.example/:_authToken=[redacted]"},
		{"ghp_" + long + "a1B2", "ghp_[redacted]"},
		{"npm_" + long + "a1B2", "npm_[redacted]"},
		{`setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI", 1)`, `setenv("AWS_SECRET_ACCESS_KEY", "[redacted]", 1)`},
		{"curl -u admin:s3cr3tpass https://host/", "curl -u admin:[redacted] https://host/"},
		{"mysql --password=hunter22 db", "mysql --password=[redacted] db"},
		{"PA\u017fSWORD=" + long, "PA\u017fSWORD=[redacted]"},
		{"x-API-\u212aEY: " + long, "x-API-\u212aEY: [redacted]"},
		{"Proxy-AUTHORIZATION: basic " + long, "Proxy-AUTHORIZATION: basic [redacted]"},
		{"tool --token-file x --pass", "tool --token-file x --pass"},
		{"check npm_config_registry_and_more", "check npm_config_registry_and_more"},
		{"node install.js --fallback", "node install.js --fallback"},
		{"https://host/a/b:c@d", "https://host/a/b:c@d"},
	} {
		if got := finding.Redact(test.in); got != test.want {
			t.Errorf("Redact(%q) = %q; want %q", test.in, got, test.want)
		}
	}
}

func TestEvidenceIsCut(t *testing.T) {
	e := finding.NewEvidence("string", "password="+strings.Repeat("x", 1<<24)+"\x1b[2J")
	if e.Value != "password=[redacted]" {
		t.Errorf("value %q", e.Value)
	}
	if e := finding.NewEvidence("string", strings.Repeat("é ", 1<<20)); len(e.Value) > finding.MaxEvidence+len("…") || !strings.HasSuffix(e.Value, "…") {
		t.Errorf("%d bytes are kept", len(e.Value))
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[31mred\u202eevil\xff", 20)
	f.Add(strings.Repeat("é", 100), 9)
	f.Fuzz(func(t *testing.T, in string, limit int) {
		limit = min(max(limit, 0), 1000)
		out := finding.Printable(in, limit)
		if len(out) > limit+len("…") || !utf8.ValidString(out) {
			t.Fatalf("Printable(%q, %d) = %q", in, limit, out)
		}
		for _, r := range out {
			if r < 0x20 || r == 0x7f || r == 0x202e {
				t.Fatalf("Printable(%q) let %U through", in, r)
			}
		}
	})
}
