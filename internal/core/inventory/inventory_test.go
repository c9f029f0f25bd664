package inventory_test

import (
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
)

func TestPURL(t *testing.T) {
	release := &inventory.Release{Ecosystem: target.NPM, Name: "@a/b", Version: "1.0.0"}
	for _, test := range []struct{ got, want string }{
		{release.PURL(), "pkg:npm/%40a/b@1.0.0"},
		{inventory.Module{Type: "golang", Name: "github.com/a/b", Version: "v1.2.3+incompatible"}.PURL(), "pkg:golang/github.com/a/b@v1.2.3%2Bincompatible"},
		{inventory.Module{Type: "cargo", Name: "serde", Version: "1.0.0"}.PURL(), "pkg:cargo/serde@1.0.0"},
		{inventory.Module{Type: "cargo", Name: "serde"}.PURL(), "pkg:cargo/serde"},
	} {
		if test.got != test.want {
			t.Errorf("PURL = %s; want %s", test.got, test.want)
		}
	}
}
