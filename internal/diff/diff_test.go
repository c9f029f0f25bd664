package diff_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/diff"
	"github.com/loupe-sec/loupe/internal/report"
)

// release makes the report of a version with binaries.
func release(version string, binaries ...*inventory.Binary) *report.Report {
	return &report.Report{
		Target:   target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "a", Version: version},
		Release:  &inventory.Release{Ecosystem: target.NPM, Name: "a", Version: version},
		Binaries: binaries,
	}
}

// binary makes one for Linux whose bytes, imports and rules are named.
func binary(path, content string, imports []string, rules ...string) *inventory.Binary {
	b := &inventory.Binary{Path: path, SHA256: content, Size: 1000, Format: "ELF", Arch: "x86_64", Slice: "x86_64", OS: "linux", Imports: imports, Behaviors: inventory.Behaviors{}}
	for _, r := range rules {
		b.Behaviors[inventory.Network] = append(b.Behaviors[inventory.Network], inventory.Detail{Rule: r, Text: "Does " + r + " (import x; in sub_1a20, reached from export run)."})
	}
	return b
}

// TestCounts shows functions as scans count them, and names as people write
// them.
func TestCounts(t *testing.T) {
	a, b := binary("x.node", "a", []string{"connect"}), binary("x.node", "b", []string{"_ZN3net4sendEv"})
	a.Functions.Count, b.Functions.Count = 2, 1
	body := func(n uint64) inventory.Mark { return inventory.Mark{Addr: 16 * n, Size: 16, Body: 1000 + n} }
	a.Marks = &inventory.Marks{Functions: []inventory.Mark{body(1), body(2), body(3)}}
	b.Marks = &inventory.Marks{Functions: []inventory.Mark{body(1), body(2)}}
	d := diff.Compare(release("1.0.0", a), release("1.0.1", b))
	f := d.Binaries[0].Functions
	if f.From != 2 || f.To != 1 || f.Paired != 2 || f.Removed != 1 {
		t.Errorf("%+v; want 2 and 1 functions, 2 of 3 paired", f)
	}
	if want := "(2 of 3 functions paired: 0 changed, 0 new, 1 gone)"; !strings.Contains(d.Summary, want) {
		t.Errorf("summary %q; want %q", d.Summary, want)
	}
	if got, want := d.Binaries[0].Demangled, []report.Name{{Name: "_ZN3net4sendEv", Readable: "net::send()"}}; !slices.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
}

func TestPairing(t *testing.T) {
	names := []string{"connect", "send", "recv", "close", "open"}
	musl := binary("prebuilds/linux-x64/x.musl.node", "c", names)
	musl.Libraries = []string{"libc.musl-x86_64.so.1"}
	for _, test := range []struct {
		name     string
		from, to *inventory.Binary
		want     report.PairedBy
	}{
		{"same path", binary("x.node", "a", names), binary("x.node", "b", nil), report.ByPath},
		{"moved", binary("x.node", "a", names), binary("lib/y.node", "a", names), report.ByContent},
		{"version in the path", binary("a-1.0.0.whl!/x.so", "a", nil), binary("a-1.0.1.whl!/x.so", "b", nil), report.ByVersion},
		{"another ABI", binary("bin/abi93/x.node", "a", nil), binary("bin/abi115/x.node", "b", nil), report.ByVersion},
		{"another Python", binary("a/x.cpython-312-x86_64-linux-gnu.so", "a", nil), binary("a/x.cpython-313-x86_64-linux-gnu.so", "b", nil), report.ByVersion},
		{"another system in the tag", binary("a-1.0.0-cp36-abi3-manylinux2014_x86_64.whl!/x.so", "a", nil), binary("a-1.0.1-cp36-abi3-manylinux_2_17_x86_64.whl!/x.so", "b", nil), report.ByVersion},
		{"another folder", binary("build/Release/x.node", "a", nil), binary("prebuilds/linux-x64/x.node", "b", nil), report.ByPlatform},
		{"alone in its folder", binary("prebuilds/linux-x64/node.napi.node", "a", nil), binary("prebuilds/linux-x64/a.node", "b", []string{"puts"}), report.ByPlatform},
		{"another name", binary("lib/old.node", "a", names), binary("native/new.node", "b", names), report.BySimilarity},
		{"nothing in common", binary("lib/old.node", "a", names), binary("native/new.node", "b", []string{"puts"}), ""},
		{"another C library", binary("prebuilds/linux-x64/x.glibc.node", "a", nil), musl, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := diff.Compare(release("1.0.0", test.from), release("1.0.1", test.to))
			want := 1
			if test.want == "" {
				want = 2
			}
			if len(d.Binaries) != want || d.Binaries[0].PairedBy != test.want {
				t.Errorf("%d binaries, paired by %q; want %q", len(d.Binaries), d.Binaries[0].PairedBy, test.want)
			}
		})
	}
}

// TestInner pairs what is packed inside of binaries that are paired, wherever it
// lies there.
func TestInner(t *testing.T) {
	d := diff.Compare(
		release("1.0.0", binary("old.exe", "a", []string{"a", "b", "c"}), binary("old.exe!/at:4096", "b", nil)),
		release("1.0.1", binary("new.exe", "c", []string{"a", "b", "c"}), binary("new.exe!/at:8192", "d", nil)))
	if len(d.Binaries) != 2 || d.Binaries[1].PairedBy != report.ByOuter {
		t.Errorf("binaries %+v", d.Binaries)
	}
}

func TestBehaviors(t *testing.T) {
	const network = "native/connects-out"
	one, two := "prebuilds/linux-x64/x.node", "prebuilds/linux-arm64/x.node"
	for _, test := range []struct {
		name           string
		from, to       *report.Report
		added, removed []string
	}{
		{"new", release("1.0.0", binary(one, "a", nil)), release("1.0.1", binary(one, "b", nil, network)),
			[]string{"Does native/connects-out (import x) in prebuilds/linux-x64/x.node."}, nil},
		{"in all", release("1.0.0", binary(one, "a", nil), binary(two, "b", nil)), release("1.0.1", binary(one, "c", nil, network), binary(two, "d", nil, network)),
			[]string{"Does native/connects-out (import x) in 2 binaries."}, nil},
		{"in one more", release("1.0.0", binary(one, "a", nil, network), binary(two, "b", nil)), release("1.0.1", binary(one, "c", nil, network), binary(two, "d", nil, network)),
			[]string{"Does native/connects-out (import x) in prebuilds/linux-arm64/x.node."}, nil},
		{"moved", release("1.0.0", binary(one, "a", nil, network), binary(two, "b", nil)), release("1.0.1", binary(one, "c", nil), binary(two, "d", nil, network)), nil, nil},
		{"a further build", release("1.0.0", binary(one, "a", nil, network)), release("1.0.1", binary(one, "c", nil, network), binary(two, "d", nil, network)), nil, nil},
		{"gone", release("1.0.0", binary(one, "a", nil, network)), release("1.0.1", binary(one, "c", nil)),
			nil, []string{"Does native/connects-out (import x) in prebuilds/linux-x64/x.node."}},
		{"the same bytes elsewhere", release("1.0.0", binary(one, "a", nil, network)), release("1.0.1", binary("y.node", "a", nil, network)), nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := diff.Compare(test.from, test.to)
			if !slices.Equal(d.AddedBehaviors, test.added) || !slices.Equal(d.RemovedBehaviors, test.removed) {
				t.Errorf("added %q, removed %q; want %q, %q", d.AddedBehaviors, d.RemovedBehaviors, test.added, test.removed)
			}
		})
	}
}

// installing adds to a report how its installation downloads.
func installing(r *report.Report, resolver, command, url, sum string) *report.Report {
	d := &inventory.Download{Path: "package.json", Stage: "install", Resolver: resolver, Tool: resolver + " ^7.1.1", Command: command, Assets: []inventory.Asset{{URL: url}}, Pin: inventory.Unpinned}
	if sum != "" {
		d.Assets[0].Fetched = &inventory.Fetched{URL: url, SHA256: sum}
	}
	r.Downloads = append(r.Downloads, d)
	r.Findings = append(r.Findings, finding.Finding{
		Rule: "install/npm-prebuilt", Severity: finding.Medium, Location: finding.Location{Path: "package.json", Symbol: "scripts.install"}, Anchor: "install " + resolver,
		Evidence: []finding.Evidence{finding.NewEvidence("script", command)},
	})
	return r
}

func TestInstall(t *testing.T) {
	old := func() *report.Report {
		return installing(release("5.1.6"), "node-pre-gyp", "node-pre-gyp install", "https://registry.example/v5.1.6/x.tar.gz", "")
	}
	d := diff.Compare(old(), installing(release("5.1.7"), "prebuild-install", "prebuild-install -r napi", "https://other.example/x-v5.1.7.tar.gz", ""))
	for _, want := range []string{
		"Installing version 5.1.7, a patch release, now downloads with prebuild-install from https://other.example/x-v5.1.7.tar.gz instead of with node-pre-gyp from registry.example",
		"nothing checks its hash", "a patch release rarely changes that",
	} {
		if !strings.Contains(d.Summary, want) {
			t.Errorf("summary lacks %q:\n%s", want, d.Summary)
		}
	}
	want := []string{
		"Downloads with prebuild-install from https://other.example/x-v5.1.7.tar.gz at installation, without a check of its hash.",
		`Runs "prebuild-install -r napi" at installation (install).`,
	}
	if !slices.Equal(d.AddedBehaviors, want) || len(d.RemovedBehaviors) != 2 {
		t.Errorf("added %q, removed %q", d.AddedBehaviors, d.RemovedBehaviors)
	}
	if len(d.Findings.Added)+len(d.Findings.Removed) > 0 {
		t.Errorf("a finding of the same rule in the same place is new: %+v", d.Findings)
	}

	same := diff.Compare(old(), installing(release("5.1.7"), "node-pre-gyp", "node-pre-gyp install", "https://registry.example/v5.1.7/x.tar.gz", ""))
	if !same.Empty() {
		t.Errorf("an address of which only the version changed is a difference: %+v", same.Install)
	}
}

// TestReplacedAsset finds that an address holds other bytes than before.
func TestReplacedAsset(t *testing.T) {
	at := func(sum string) *report.Report {
		return installing(release("1.0.0"), "prebuild-install", "prebuild-install", "https://registry.example/x.tar.gz", sum)
	}
	d := diff.Compare(at(strings.Repeat("a", 64)), at(strings.Repeat("b", 64)))
	if len(d.Install.Assets) != 1 || d.Install.Assets[0].Severity != finding.Critical || !strings.HasPrefix(d.Summary, "What installation downloads from https://registry.example/x.tar.gz was replaced") {
		t.Errorf("assets %+v, summary %s", d.Install.Assets, d.Summary)
	}
	if d := diff.Compare(at("a"), at("a")); !d.Empty() {
		t.Errorf("the same asset is different: %+v", d.Install)
	}
}

func TestSummary(t *testing.T) {
	const one = "x.node"
	risky := func(r *report.Report, score int) *report.Report {
		r.Risk = finding.NewRisk([]finding.Term{{Points: score}})
		return r
	}
	for _, test := range []struct {
		name     string
		from, to *report.Report
		want     string
	}{
		{"nothing", release("1.0.0", binary(one, "a", nil)), release("1.0.1", binary(one, "a", nil)), "Nothing that was looked at is different between 1.0.0 and 1.0.1: the binary is the same, and so is what happens at installation."},
		{"recompiled", release("1.0.0", binary(one, "a", nil)), release("1.0.1", binary(one, "b", nil)), "In version 1.0.1, a patch release, the binaries do what they did before: no behaviour is new and none is gone. One binary was rebuilt."},
		{"network in a patch", release("1.0.0", binary(one, "a", nil)), risky(release("1.0.1", binary(one, "b", nil, "net")), 65),
			"Version 1.0.1, a patch release, newly does net in x.node; a patch release is the last place to expect that. One binary was rebuilt. The risk rises from none (0 of 100) to high (65)."},
		{"network in a major release", release("1.0.0", binary(one, "a", nil)), release("2.0.0", binary(one, "b", nil, "net")), "Version 2.0.0, a major release, newly does net in x.node. One binary was rebuilt."},
		{"back again", release("2.0.0", binary(one, "a", nil, "net")), release("1.0.0", binary(one, "b", nil)), "Version 1.0.0, an older release, no longer does net in x.node, and its binaries do nothing that they did not do before. One binary was rebuilt."},
		{"a pre-release", release("1.0.0", binary(one, "a", nil)), release("1.1.0rc1", binary(one, "b", nil, "net")), "Version 1.1.0rc1, a pre-release, newly does net in x.node. One binary was rebuilt."},
	} {
		t.Run(test.name, func(t *testing.T) {
			if d := diff.Compare(test.from, test.to); d.Summary != test.want {
				t.Errorf("got  %s\nwant %s", d.Summary, test.want)
			}
		})
	}
}

// TestUnread keeps a summary from clearing what was not read.
func TestUnread(t *testing.T) {
	a, b := release("1.0.0"), release("1.0.1")
	b.Notes = []finding.Note{{Path: "x.node", Text: "not looked at: cut off"}}
	if d := diff.Compare(a, b); !strings.Contains(d.Summary, "not looked at to the end") || len(d.To.Notes) != 1 {
		t.Errorf("summary %q, notes %+v", d.Summary, d.To.Notes)
	}
}

func TestFindings(t *testing.T) {
	at := func(version, path string, s finding.Severity) *report.Report {
		r := release(version, binary(path, version, []string{"a", "b"}))
		r.Findings = []finding.Finding{{Rule: "native/a", Severity: s, Location: finding.Location{Path: path}}}
		return r
	}
	d := diff.Compare(at("1.0.0", "a-1.0.0/x.node", finding.Low), at("1.0.1", "a-1.0.1/x.node", finding.High))
	if len(d.Findings.Added)+len(d.Findings.Removed) > 0 || len(d.Findings.Changed) != 1 || d.Findings.Changed[0].From != finding.Low {
		t.Errorf("findings %+v; want one of another severity", d.Findings)
	}
	if d := diff.Compare(release("1.0.0"), at("1.0.1", "x.node", finding.High)); len(d.Findings.Added) != 1 {
		t.Errorf("findings %+v; want one that is new", d.Findings)
	}
}

// TestMany compares more binaries than a search of each against all would bear.
func TestMany(t *testing.T) {
	var from, to []*inventory.Binary
	for i := range 5000 {
		from = append(from, binary(fmt.Sprintf("old/%d/x", i), fmt.Sprint("a", i), nil))
		to = append(to, binary(fmt.Sprintf("new/%d/y%d", i, i%7), fmt.Sprint("b", i), nil))
	}
	if d := diff.Compare(release("1.0.0", from...), release("1.0.1", to...)); len(d.Binaries) < 5000 {
		t.Errorf("%d binaries", len(d.Binaries))
	}
}
