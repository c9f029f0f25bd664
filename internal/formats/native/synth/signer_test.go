package synth_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/signature"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
)

func TestSigner(t *testing.T) {
	for _, test := range []struct {
		yaml    string
		valid   bool
		by      string
		stamped bool
		hidden  int
	}{
		{"{format: pe, signer: Contoso}", true, "Contoso", false, 0},
		{"{format: pe, arch: x86, signer: {name: A, organization: Contoso, timestamp: true}}", true, "Contoso", true, 0},
		{"{format: pe, signer: {name: Contoso, hidden: 7}}", true, "Contoso", false, 7},
		{"{format: pe, signer: {name: Contoso, changed: true}}", false, "Contoso", false, 0},
		{"{format: macho, signer: Contoso}", true, "Contoso", false, 0},
		{"{format: macho, arch: aarch64, kind: executable, signer: {name: Contoso, timestamp: true, hidden: 7}}", true, "Contoso", true, 7},
		{"{format: macho, signer: {name: Contoso, changed: true}}", false, "Contoso", false, 0},
		{"{format: macho, signed: true, signer: {changed: true}}", false, "", false, 0},
	} {
		data, err := synth.FromYAML([]byte(test.yaml))
		if err != nil {
			t.Fatalf("%s: %v", test.yaml, err)
		}
		again, err := synth.FromYAML([]byte(test.yaml))
		if err != nil || !bytes.Equal(data, again) {
			t.Errorf("%s: equal descriptions differ (%v)", test.yaml, err)
		}
		m := parse(t, data)[0]
		s := signature.Read(m)
		if s == nil || s.Valid() != test.valid || s.Organization != test.by || !s.Time.IsZero() != test.stamped || s.Unhashed != test.hidden {
			t.Errorf("%s: %+v", test.yaml, s)
		}
		if len(m.Notes) > 0 {
			t.Errorf("%s: notes %q", test.yaml, m.Notes)
		}
	}
	for yaml, want := range map[string]string{
		"{format: elf, signer: Contoso}":                         "cannot express signer",
		"{format: wasm, signer: {changed: true}}":                "cannot express signer",
		"{format: pe, signer: {name: Contoso, hidden: -1}}":      "hidden",
		"{format: pe, signer: {name: Contoso, hidden: 9000000}}": "hidden",
	} {
		if _, err := synth.FromYAML([]byte(yaml)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", yaml, err, want)
		}
	}
}
