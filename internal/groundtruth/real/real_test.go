// Package real holds what Loupe finds in binaries of published packages
// against what people found out about them by hand. README.md says how.
package real

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// most is the share of cells that may be wrong, in percent.
const most = 3

// A verdict is what a cell of the table says.
type verdict string

const (
	yes    verdict = "yes"
	no     verdict = "no"
	either verdict = "either" // honestly debatable: not counted
)

// A row is one binary of the table.
type row struct {
	line         int
	release      string // package URL without qualifiers
	wheel        string // file of the release that holds the binary; empty for npm
	path         string // in the package, or in the wheel
	arch, format string
	sha256       string
	cells        map[inventory.BehaviorName]verdict
	evidence     string
}

// columns of the table before and after those of the cells.
const before, after = 5, 1

// read reads table.tsv.
func read(t *testing.T) []row {
	t.Helper()
	data, err := os.ReadFile("table.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var out []row
	line := 0
	for text := range strings.Lines(string(data)) {
		line++
		if strings.HasPrefix(text, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(text, "\n"), "\t")
		if len(f) != before+len(inventory.BehaviorNames)+after {
			t.Fatalf("line %d has %d columns", line, len(f))
		}
		r := row{line: line, path: f[1], arch: f[2], format: f[3], sha256: f[4], evidence: f[len(f)-1], cells: map[inventory.BehaviorName]verdict{}}
		var query string
		r.release, query, _ = strings.Cut(f[0], "?")
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("line %d: %v", line, err)
		}
		r.wheel = values.Get("file_name")
		for i, b := range inventory.BehaviorNames {
			r.cells[b] = verdict(f[before+i])
		}
		out = append(out, r)
	}
	return out
}

// TestTable holds the table to its own rules.
func TestTable(t *testing.T) {
	rows := read(t)
	releases, hashes := map[string]bool{}, map[string]bool{}
	cells, open := 0, 0
	for _, r := range rows {
		if sum, err := hex.DecodeString(r.sha256); err != nil || len(sum) != 32 || hashes[r.sha256] {
			t.Errorf("line %d: SHA-256 %q is none, or the second of its kind", r.line, r.sha256)
		}
		hashes[r.sha256] = true
		if _, err := target.Parse(r.release); err != nil || (r.wheel != "") != strings.HasPrefix(r.release, "pkg:pypi/") {
			t.Errorf("line %d: %s, file %q: %v", r.line, r.release, r.wheel, err)
		}
		releases[r.release] = true
		for b, v := range r.cells {
			if v != yes && v != no && v != either {
				t.Errorf("line %d: %s = %q", r.line, b, v)
			}
			cells++
			if v == either {
				open++
			}
		}
		if len(r.evidence) < 20 {
			t.Errorf("line %d: evidence = %q", r.line, r.evidence)
		}
	}
	if len(rows) < 120 || len(releases) < 45 {
		t.Errorf("%d binaries of %d packages; want at least 120 of 45", len(rows), len(releases))
	}
	if open*20 > cells {
		t.Errorf("%d of %d cells are debatable; want at most 5 %%", open, cells)
	}
}

// TestReal fetches the packages with the settings that npm and pip have on
// this machine, scans them and counts the cells that differ.
//
//	LOUPE_LIVE_TESTS=1 go test -run TestReal -v -timeout 60m ./internal/groundtruth/real
//
// LOUPE_LIVE_DATA names a folder that keeps what was fetched.
func TestReal(t *testing.T) {
	if os.Getenv("LOUPE_LIVE_TESTS") == "" {
		t.Skip("LOUPE_LIVE_TESTS is not set: needs the network")
	}
	rows := read(t)
	groups := map[string][]row{}
	for _, r := range rows {
		groups[r.release] = append(groups[r.release], r)
	}
	a := app.New(app.Options{Version: "test", DataDir: cmp.Or(os.Getenv("LOUPE_LIVE_DATA"), t.TempDir())})
	var all score
	for _, release := range slices.Sorted(maps.Keys(groups)) {
		t.Run(strings.TrimPrefix(release, "pkg:"), func(t *testing.T) {
			for r, b := range scan(t, a, release, groups[release]) {
				all.add(t, r, b)
			}
		})
	}
	all.report(t)
}

// scan yields each row of a release with the binary that it is about.
func scan(t *testing.T, a *app.App, release string, rows []row) iter.Seq2[row, *inventory.Binary] {
	t.Helper()
	tgt, err := target.Parse(release)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := a.Scan(t.Context(), app.ScanRequest{Target: tgt, Platform: platforms(rows), Scanners: []string{"native"}})
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(row, *inventory.Binary) bool) {
		for _, r := range rows {
			want := r.path
			if r.wheel != "" {
				want = r.wheel + "!/" + r.path
			}
			at := slices.IndexFunc(rep.Binaries, func(b *inventory.Binary) bool { return b.Path == want && b.SHA256 == r.sha256 })
			if at < 0 {
				t.Errorf("line %d: no binary %s with the SHA-256 %s", r.line, want, r.sha256)
				continue
			}
			if b := rep.Binaries[at]; b.Arch != r.arch || b.Format != r.format {
				t.Errorf("line %d: %s is %s %s; want %s %s", r.line, r.path, b.Format, b.Arch, r.format, r.arch)
			}
			if !yield(r, rep.Binaries[at]) {
				return
			}
		}
	}
}

// platforms names those of the wheels of a release that hold the rows; npm
// packages need no other than themselves.
func platforms(rows []row) string {
	var tags []string
	for _, r := range rows {
		if r.wheel == "" {
			return "none"
		}
		name := strings.TrimSuffix(r.wheel, ".whl")
		set := name[strings.LastIndexByte(name, '-')+1:]
		tag, _, _ := strings.Cut(set, ".")
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return strings.Join(slices.Compact(tags), ",")
}

// A score counts cells.
type score struct {
	judged          int
	falsely         map[inventory.BehaviorName]int // reported, and not there
	missed          map[inventory.BehaviorName]int
	nFalse, nMissed int
}

func (s *score) add(t *testing.T, r row, b *inventory.Binary) {
	if s.falsely == nil {
		s.falsely, s.missed = map[inventory.BehaviorName]int{}, map[inventory.BehaviorName]int{}
	}
	for _, name := range inventory.BehaviorNames {
		details := b.Behaviors[name]
		want := r.cells[name]
		if want == either {
			continue
		}
		s.judged++
		switch {
		case want == no && len(details) > 0:
			s.falsely[name]++
			s.nFalse++
			t.Logf("line %d: %s %s: reports %s: %s", r.line, r.path, r.arch, name, describe(details))
		case want == yes && len(details) == 0:
			s.missed[name]++
			s.nMissed++
			t.Logf("line %d: %s %s: misses %s: %s", r.line, r.path, r.arch, name, r.evidence)
		}
	}
}

// describe puts the rules and their first evidence on a line.
func describe(details []inventory.Detail) string {
	var out []string
	for _, d := range details {
		text := d.Rule
		if len(d.Evidence) > 0 {
			e := d.Evidence[0]
			text += fmt.Sprintf(" (%s %q at %s)", e.Kind, e.Value, e.Address)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (s *score) report(t *testing.T) {
	wrong := s.nFalse + s.nMissed
	if s.judged == 0 {
		t.Fatal("nothing was judged")
	}
	for _, name := range inventory.BehaviorNames {
		t.Logf("%-17s falsely reported %3d, missed %3d", name, s.falsely[name], s.missed[name])
	}
	t.Logf("%d of %d cells are wrong (%.2f %%): %d falsely reported, %d missed", wrong, s.judged, 100*float64(wrong)/float64(s.judged), s.nFalse, s.nMissed)
	if wrong*100 > most*s.judged {
		t.Errorf("%.2f %% of the cells are wrong; want at most %d %%", 100*float64(wrong)/float64(s.judged), most)
	}
}
