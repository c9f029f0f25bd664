package sourcematch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/scanners/native"
	"github.com/loupe-sec/loupe/internal/scanners/sourcematch"
)

// texts are different texts that a program could hold.
func texts(of string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%s: cannot open the file number %d: %%s", of, i))
	}
	return out
}

// TestLevels says "low" only of what a host loads as the package's own, and
// never where the numbers say otherwise.
func TestLevels(t *testing.T) {
	own, others := texts("own", 40), texts("other", 40)
	node := []synth.Definition{{Name: "napi_register_module_v1"}}
	for _, test := range []struct {
		name    string
		exports []synth.Definition
		imports []synth.Import
		holds   []string
		level   inventory.MatchLevel
		reason  string
	}{
		{"built from it", node, nil, own, inventory.MatchHigh, "Of the 40 texts of the files of source that seem to be part of it, 40 are found"},
		{"a library built from it", nil, nil, own, inventory.MatchHigh, "40 are found"},
		{"an add-on of something else", node, nil, others, inventory.MatchLow, "Of the 43 texts of the source beside it, hardly any is found"},
		{"an extension of Python", []synth.Definition{{Name: "PyInit_a"}}, nil, others, inventory.MatchLow, "hardly any"},
		{"a library of Java", []synth.Definition{{Name: "JNI_OnLoad"}}, nil, others, inventory.MatchLow, "hardly any"},
		{"known by what it takes", nil, []synth.Import{{Name: "napi_create_function"}}, others, inventory.MatchLow, "hardly any"},
		{"known by Python's functions", nil, []synth.Import{{Name: "_Py_NoneStruct"}}, others, inventory.MatchLow, "hardly any"},
		{"somebody else's library", []synth.Definition{{Name: "Pyramid"}, {Name: "SSL_new"}}, []synth.Import{{Name: "Pythagoras"}, {Name: "malloc"}}, others, inventory.MatchUnknown, "no add-on that a host loads"},
		{"a few texts", node, nil, append(others, texts("header", 3)...), inventory.MatchUnknown, "Only 3 texts of the source beside it are found in the binary, too few to say"},
		{"next to none", node, nil, others[:2], inventory.MatchUnknown, "too few texts"},
	} {
		t.Run(test.name, func(t *testing.T) {
			binary, err := synth.Build(synth.Description{Format: "elf", Exports: test.exports, Imports: test.imports, Strings: test.holds})
			if err != nil {
				t.Fatal(err)
			}
			m := matchOf(t, map[string][]byte{"a.node": binary, "src/a.c": printing(own), "src/a.h": printing(texts("header", 3))})
			if m.Level != test.level || !strings.Contains(m.Reason, test.reason) {
				t.Errorf("%s: %s (%d of %d); want %s: %s", m.Level, m.Reason, m.Found, m.Of, test.level, test.reason)
			}
		})
	}
}

// printing is a file of C that names texts.
func printing(texts []string) []byte {
	var b strings.Builder
	for _, text := range texts {
		fmt.Fprintf(&b, "puts(%q);\n", text)
	}
	return []byte(b.String())
}

// matchOf scans files of which one is a binary.
func matchOf(t *testing.T, files map[string][]byte) inventory.SourceMatch {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, t.TempDir())
	defer ws.Close()
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		t.Fatal(err)
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{native.Scanner, sourcematch.Sources, sourcematch.Scanner}, ws, nil, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	matches := inventory.SourceMatches.Of(res)
	if len(matches) != 1 {
		t.Fatalf("%d matches: %v", len(matches), res.Notes)
	}
	return matches[0]
}
