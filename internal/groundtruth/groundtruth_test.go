package groundtruth_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/groundtruth"
)

var (
	full = flag.Bool("full", os.Getenv("GROUNDTRUTH_FULL") != "", "build and scan thousands of programs, not hundreds")
	show = flag.Bool("misses", false, "list each program of which something was missed")
)

// floors are what must be found, at least, of the programs of each variant.
var floors = []struct {
	variant groundtruth.Variant
	recall  float64
}{
	{groundtruth.Direct, 0.98},
	{groundtruth.Wrapper, 0.95},
	{groundtruth.Dynamic, 0.95},
	{groundtruth.Syscall, 0.90},
	{groundtruth.Encoded, 0.80},
}

const (
	precision = 0.99 // of all that is detected
	address   = 0.97 // of what is detected, with evidence that lies in the plant
	dead      = 0.90 // of the dead plants that are detected, said to be dead
	buried    = 0.01 // of the others, said to be dead, at most
)

// TestPlanted builds programs with planted behaviours and holds what is
// detected against what was planted. With -full it builds thousands.
func TestPlanted(t *testing.T) {
	if testing.Short() {
		t.Skip("building hundreds of programs takes long")
	}
	folder := t.TempDir()
	share, systems := 0.026, 0
	if *full {
		share, systems = 0.3, 4
	}
	truths, err := groundtruth.Build(t.Context(), folder, groundtruth.Options{Share: share})
	if errors.Is(err, groundtruth.ErrNoTools) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	inGo, err := groundtruth.BuildGo(t.Context(), folder, systems)
	if err != nil {
		t.Fatal(err)
	}
	inRust, err := groundtruth.BuildRust(t.Context(), folder, *full)
	if err != nil {
		t.Fatal(err)
	}
	truths = slices.Concat(truths, inGo, inRust)
	outcomes, err := groundtruth.Score(t.Context(), folder, truths)
	if err != nil {
		t.Fatal(err)
	}
	for i := range outcomes {
		if m := outcomes[i].Miss(); *show && m != "" {
			t.Log(m)
		}
	}
	t.Logf("%d programs\n%s", len(truths), groundtruth.Report(outcomes))
	rows := map[string]groundtruth.Row{}
	for _, r := range groundtruth.Rows(outcomes, func(t *groundtruth.Truth) string { return string(t.Variant) }) {
		rows[r.Name] = r
	}
	for _, f := range floors {
		r := rows[string(f.variant)]
		if r.Programs == 0 {
			t.Errorf("%s: no program was built", f.variant)
		}
		if r.Recall.Part() < f.recall {
			t.Errorf("%s: recall is %s, want %.2f", f.variant, r.Recall, f.recall)
		}
	}
	all := groundtruth.Rows(outcomes, func(*groundtruth.Truth) string { return "all" })[0]
	if all.Precision.Part() < precision {
		t.Errorf("precision is %s, want %.2f", all.Precision, precision)
	}
	if all.Address.Part() < address {
		t.Errorf("evidence points to the plant of %s, want %.2f", all.Address, address)
	}
	if all.Dead.Part() < dead {
		t.Errorf("said to be dead are %s of the dead plants, want %.2f", all.Dead, dead)
	}
	if all.Buried.Part() > buried {
		t.Errorf("said to be dead are %s of the others, want %.2f", all.Buried, buried)
	}
}

// TestSameAgain holds that the same programs are made on every run.
func TestSameAgain(t *testing.T) {
	var sources [2]map[string]string
	for i := range sources {
		folder := t.TempDir()
		_, err := groundtruth.Build(t.Context(), folder, groundtruth.Options{Share: 0.01, Only: []string{"elf-aarch64"}, Keep: true})
		if errors.Is(err, groundtruth.ErrNoTools) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		sources[i] = map[string]string{}
		err = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".o") {
				return err
			}
			data, err := os.ReadFile(path)
			sources[i][strings.TrimPrefix(path, folder)] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(sources[0]) < 6 {
		t.Fatalf("%d files were made", len(sources[0]))
	}
	for name, text := range sources[0] {
		if sources[1][name] != text {
			t.Errorf("%s differs from run to run", name)
		}
	}
}
