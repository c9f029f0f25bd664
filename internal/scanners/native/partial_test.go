package native_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/scanners/native"
)

// TestTimeUpKeepsTheBinary gives the rules no time at all. The file is cut below
// one KB, as the time for a file grows by the KB.
func TestTimeUpKeepsTheBinary(t *testing.T) {
	data, err := synth.FromYAML([]byte("format: elf\nimports: [connect]\n"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.so"), data[:min(len(data), 1023)], 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, t.TempDir())
	defer ws.Close()
	if err := ws.MountDir(workspace.Part{Label: "pkg:npm/a@1.0.0"}, root, nil); err != nil {
		t.Fatal(err)
	}
	native.Prepare()
	res, err := scan.Run(t.Context(), []*scan.Scanner{native.Scanner}, ws, nil, scan.Options{Limits: scan.Limits{FileTime: 1}, Grace: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	found := inventory.Binaries.Of(res)
	if len(found) != 1 || found[0].Path != "x.so" || found[0].Part != "pkg:npm/a@1.0.0" || found[0].Format != "ELF" || found[0].SHA256 == "" {
		t.Errorf("binaries %+v; want what was read of x.so", found)
	}
	if !slices.ContainsFunc(res.Notes, func(n finding.Note) bool {
		return n.Path == "x.so" && strings.HasPrefix(n.Text, "not looked at to the end")
	}) {
		t.Errorf("notes %v; want that x.so was not looked at to the end", res.Notes)
	}
}
