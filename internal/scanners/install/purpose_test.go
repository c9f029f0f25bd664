package install_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

func TestPurposes(t *testing.T) {
	res := run(t, map[string]string{
		"package.json":                `{"name": "a", "description": "A hash", "keywords": ["hash", 1]}`,
		"binding.gyp":                 `{'libraries': ['-lssl', "-lcurl"]}`,
		"node_modules/b/package.json": `{"name": 1, "keywords": "alone"}`,
		"lib/c-1.dist-info/METADATA":  "Metadata-Version: 2.1\nName: c\nSummary: A client\nKeywords: http,client\n\nText.",
		"d-1/PKG-INFO":                "Name: d\nSummary: Sums",
		"d-1/d.egg-info/PKG-INFO":     "Name: d\nSummary: Sums",
	})
	got := inventory.Purposes.Of(res)
	want := []inventory.Purpose{
		{Folder: "d-1", Name: "d", Description: "Sums"},
		{Folder: "d-1", Name: "d", Description: "Sums"},
		{Folder: "lib", Name: "c", Description: "A client", Keywords: []string{"http", "client"}},
		{Folder: "node_modules/b", Keywords: []string{"alone"}},
		{Name: "a", Description: "A hash", Keywords: []string{"hash"}, Links: []string{"ssl", "curl"}},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}
