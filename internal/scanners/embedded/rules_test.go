package embedded_test

import (
	"testing"

	"github.com/loupe-sec/loupe/internal/core/ruletest"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/scanners/embedded"
)

func TestRules(t *testing.T) {
	makers := map[string]ruletest.Maker{".binary": synth.FromYAML}
	wrong, err := ruletest.Check(t.Context(), t.TempDir(), []*scan.Scanner{embedded.Scanner}, embedded.Scanner.Rules, makers)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}
