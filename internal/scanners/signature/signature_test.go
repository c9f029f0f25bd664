package signature_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/ruletest"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/scanners/native"
	"github.com/loupe-sec/loupe/internal/scanners/signature"
)

func TestRules(t *testing.T) {
	makers := map[string]ruletest.Maker{".binary": synth.FromYAML}
	wrong, err := ruletest.Check(t.Context(), t.TempDir(), []*scan.Scanner{native.Scanner, signature.Scanner}, signature.Scanner.Rules, makers)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

// findings scans a folder of described binaries and returns what the scanner
// reports.
func findings(t *testing.T, files map[string]string) (out []finding.Finding) {
	t.Helper()
	dir := t.TempDir()
	for name, yaml := range files {
		data, err := synth.FromYAML([]byte(yaml))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, "")
	defer ws.Close()
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		t.Fatal(err)
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{native.Scanner, signature.Scanner}, ws, nil, scan.Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Findings {
		if strings.HasPrefix(f.Rule, "signature/") {
			out = append(out, f)
		}
	}
	return out
}

const (
	unsigned  = "{format: pe}"
	contoso   = "{format: pe, signer: {name: Contoso, timestamp: true}}"
	fabrikam  = "{format: pe, signer: {name: Fabrikam, timestamp: true}}"
	imitated  = "{format: pe, signer: {name: Contoso, timestamp: true, itself: true}}"
	signedMac = "{format: macho, signer: {name: Contoso, timestamp: true}}"
	adHocMac  = "{format: macho, signed: true}"
)

// TestSeverity holds how bad each mixture of signatures is.
func TestSeverity(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"all signed", map[string]string{"a.dll": contoso, "b.dll": contoso, "c.dll": contoso}, nil},
		{"none signed", map[string]string{"a.dll": unsigned, "b.dll": unsigned, "c.dylib": adHocMac}, nil},
		{"one of three is not", map[string]string{"a.dll": contoso, "b.dll": fabrikam, "c.dll": unsigned}, []string{"low missing c.dll"}},
		{"one signer signed nearly all", map[string]string{"a.dll": contoso, "b.dll": contoso, "c.dll": contoso, "d.dll": contoso, "e.dll": unsigned}, []string{"medium missing e.dll"}},
		{"most are not", map[string]string{"a.dll": contoso, "b.dll": contoso, "c.dll": unsigned, "d.dll": unsigned, "e.dll": unsigned}, nil},
		{"signed ones have a folder of their own", map[string]string{"x64/conpty/a.dll": contoso, "x64/conpty/b.exe": contoso, "x64/c.node": unsigned, "x64/d.node": unsigned}, nil},
		{"objects are never signed", map[string]string{"a.dll": contoso, "b.dll": contoso, "c.o": "{format: elf, kind: object}", "d.so": "{format: elf}"}, nil},
		{"ad hoc among signed", map[string]string{"a.dylib": signedMac, "b.dylib": signedMac, "c.dylib": adHocMac}, []string{"low missing c.dylib"}},
		{"a runtime of others", map[string]string{"a.dll": contoso, "b.dll": contoso, "c.dll": contoso, "d.dll": fabrikam}, []string{"low different-signer d.dll"}},
		{"an imitated name", map[string]string{"a.dll": contoso, "b.dll": contoso, "c.dll": contoso, "d.dll": imitated}, []string{"low self-signed d.dll", "medium different-signer d.dll"}},
		{"two signers", map[string]string{"a.dll": contoso, "b.dll": contoso, "c.dll": fabrikam, "d.dll": fabrikam}, nil},
		{"broken beside valid", map[string]string{"a.dll": contoso, "b.dll": contoso, "c.dll": "{format: pe, signer: {name: Contoso, changed: true}}"}, []string{"high invalid c.dll"}},
		{"broken by nobody", map[string]string{"a.dylib": "{format: macho, signed: true, signer: {changed: true}}"}, []string{"low invalid a.dylib"}},
		{"a few odd bytes", map[string]string{"a.dll": "{format: pe, signer: {name: Contoso, timestamp: true, hidden: 9}}"}, []string{"low unhashed-data a.dll"}},
		{"a payload", map[string]string{"a.dll": "{format: pe, signer: {name: Contoso, timestamp: true, hidden: 900}}"}, []string{"medium unhashed-data a.dll"}},
		{"no time", map[string]string{"a.dll": "{format: pe, signer: Contoso}"}, []string{"info without-timestamp a.dll"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, f := range findings(t, test.files) {
				got = append(got, fmt.Sprintf("%s %s %s", f.Severity, strings.TrimPrefix(f.Rule, "signature/"), f.Location.Path))
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("%q; want %q", got, test.want)
			}
		})
	}
}

// TestSlices finds the slice of a universal file that is not signed as the
// other is.
func TestSlices(t *testing.T) {
	fat := "{format: macho, arch: [x86_64, aarch64], signer: {name: Contoso, timestamp: true}}"
	if got := findings(t, map[string]string{"a.dylib": fat}); len(got) > 0 {
		t.Errorf("both signed: %+v", got)
	}
	got := findings(t, map[string]string{"a.dylib": "{format: macho, arch: [x86_64, aarch64], signer: {name: Contoso, timestamp: true, only: aarch64}}"})
	if len(got) != 1 || got[0].Rule != "signature/missing" || got[0].Severity != finding.Medium || !strings.Contains(got[0].Description, `for x86_64 is not signed, while that for aarch64 is signed by "Contoso"`) {
		t.Errorf("one signed: %+v", got)
	}
}

// TestText says who signed and what is wrong.
func TestText(t *testing.T) {
	got := findings(t, map[string]string{
		"a.dll": contoso, "b.dll": contoso, "c.dll": fabrikam, "d.dll": unsigned,
	})
	if len(got) != 1 || got[0].Description != `The binary is not signed, while 3 of the 3 files beside it are signed by "Contoso", "Fabrikam".` {
		t.Errorf("%+v", got)
	}
	got = findings(t, map[string]string{"a.dll": "{format: pe, signer: {name: Contoso, organization: Contoso Ltd, changed: true}}"})
	if len(got) != 1 || got[0].Description != `The signature by "Contoso Ltd" does not fit the binary: the file is not what was signed (its SHA-256 digest differs).` {
		t.Fatalf("%+v", got)
	}
	var ev []string
	for _, e := range got[0].Evidence {
		ev = append(ev, e.Kind)
	}
	if want := []string{"signature", "signer", "issuer", "serial", "sha256"}; !slices.Equal(ev, want) {
		t.Errorf("evidence %q; want %q", ev, want)
	}
}
