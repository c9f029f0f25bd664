package install_test

import (
	"testing"

	"github.com/loupe-sec/loupe/internal/core/ruletest"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/scanners/install"
)

func TestRules(t *testing.T) {
	wrong, err := ruletest.Check(t.Context(), t.TempDir(), []*scan.Scanner{install.Scanner}, install.Scanner.Rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}
