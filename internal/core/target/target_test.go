package target_test

import (
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/target"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     target.Target
		str      string
	}{
		{"npm", "npm:bcrypt@6.0.0", target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "bcrypt", Version: "6.0.0"}, "pkg:npm/bcrypt@6.0.0"},
		{"npm without version", "npm:bcrypt", target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "bcrypt"}, "pkg:npm/bcrypt"},
		{"npm scope", "npm:@swc/core@1.2.3", target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "@swc/core", Version: "1.2.3"}, "pkg:npm/%40swc/core@1.2.3"},
		{"npm range", "npm:left@^1.2 || >=3", target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "left", Version: "^1.2 || >=3"}, "pkg:npm/left@%5E1.2%20%7C%7C%20%3E%3D3"},
		{"pypi is normalised", "pypi:Foo_.Bar@1.0", target.Target{Kind: target.Package, Ecosystem: target.PyPI, Name: "foo-bar", Version: "1.0"}, "pkg:pypi/foo-bar@1.0"},
		{"purl", "pkg:npm/%40swc/core@1.2.3?arch=x#lib", target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "@swc/core", Version: "1.2.3"}, "pkg:npm/%40swc/core@1.2.3"},
		{"folder", "./app", target.Target{Kind: target.Path, Name: "./app"}, "./app"},
		{"drive", `C:\app`, target.Target{Kind: target.Path, Name: `C:\app`}, `C:\app`},
		{"dot", ".", target.Target{Kind: target.Path, Name: "."}, "."},
		{"path with a colon", "./npm:x", target.Target{Kind: target.Path, Name: "./npm:x"}, "./npm:x"},
		{"host", "https://Example.test", target.Target{Kind: target.Host, Name: "https://example.test"}, "https://example.test"},
		{"branch with a slash", "git+https://git.test/a/b#feature/login", target.Target{Kind: target.Repo, Name: "https://git.test/a/b", Rev: "feature/login"}, "git+https://git.test/a/b#feature/login"},
		{"local repository", "git+file:///srv/r.git", target.Target{Kind: target.Repo, Name: "file:///srv/r.git"}, "git+file:///srv/r.git"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := target.Parse(test.in)
			if err != nil || got != test.want {
				t.Fatalf("Parse(%q) = %+v, %v; want %+v", test.in, got, err, test.want)
			}
			if got.String() != test.str {
				t.Errorf("String = %q; want %q", got.String(), test.str)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"empty":                 "",
		"no name":               "npm:",
		"climbing name":         "npm:../../etc/passwd",
		"hidden name":           "npm:.git",
		"name with a space":     "npm:a b",
		"unknown scheme":        "maven:a:b:1",
		"unknown purl type":     "pkg:maven/a/b@1",
		"credentials":           "https://u:secret@host",
		"repository credential": "git+https://token@host/a",
		"password without host": "git+ssh://u:secret@",
		"no slashes":            "https:u:secret@host",
		"option as branch":      "git+https://host/a#--upload-pack=x",
		"zero byte":             "a\x00b",
		"bad escape":            "pkg:npm/%zz@1",
		"too long":              strings.Repeat("a", target.MaxLength+1),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := target.Parse(in)
			if err == nil {
				t.Fatalf("Parse(%q) = %+v; want an error", in, got)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error repeats a password: %v", err)
			}
		})
	}
}

func TestPURL(t *testing.T) {
	for _, test := range []struct{ typ, name, version, want string }{
		{"golang", "github.com/a/b", "v1.2.3+incompatible", "pkg:golang/github.com/a/b@v1.2.3%2Bincompatible"},
		{"cargo", "serde", "1.0.0", "pkg:cargo/serde@1.0.0"},
		{"npm", "@a/b", "", "pkg:npm/%40a/b"},
	} {
		if got := target.PURL(test.typ, test.name, test.version); got != test.want {
			t.Errorf("PURL = %q; want %q", got, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"npm:@a/b@^1.2", "pypi:A_b@1!2.0+x", "pkg:npm/%40a/b@1", "git+ssh://git@h/a#b/c",
		"https://h:1/p?q#f", "./npm:x", `C:\x`, "git+file:///a", "http://[::1]:80/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, err := target.Parse(s)
		if err != nil {
			return
		}
		for _, form := range []string{first.String(), first.Short()} {
			again, err := target.Parse(form)
			if err != nil || again != first {
				t.Fatalf("Parse(%q) = %+v, but its form %q parses to %+v, %v", s, first, form, again, err)
			}
		}
	})
}
