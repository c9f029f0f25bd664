package report_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/report"
)

// object returns the JSON that a format writes.
func object(t *testing.T, format, sample string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(write(t, format, samples[sample](), report.Options{})), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// objects returns a list of objects at key of v.
func objects(t *testing.T, v map[string]any, key string) []map[string]any {
	t.Helper()
	list, ok := v[key].([]any)
	if !ok {
		t.Fatalf("%s is %T; want a list", key, v[key])
	}
	var out []map[string]any
	for _, e := range list {
		out = append(out, e.(map[string]any))
	}
	return out
}

func hasKeys(t *testing.T, what string, v any, keys string) {
	t.Helper()
	m, _ := v.(map[string]any)
	for _, k := range strings.Fields(keys) {
		if _, ok := m[k]; !ok {
			t.Errorf("%s has no %s", what, k)
		}
	}
}

func TestJSONHasEveryField(t *testing.T) {
	for sample := range samples {
		t.Run(sample, func(t *testing.T) {
			d := object(t, "json", sample)
			hasKeys(t, "report", d, "schema target startedAt completedAt tool summary package binaries components findings notes")
			hasKeys(t, "tool", d["tool"], "name version rules")
			hasKeys(t, "summary", d["summary"], "total critical high medium low info riskScore riskLevel")
			if d["package"] != nil {
				hasKeys(t, "package", d["package"], `id ecosystem packageName version status riskScore riskLevel summary sourceMatchConfidence
					binaryCount totalBinarySize aiModel createdAt description license repository deprecated`)
			}
			for _, b := range objects(t, d, "binaries") {
				hasKeys(t, "binary", b, `id filename architecture format fileSize functionCount importCount riskScore riskLevel decompiledPreview
					aiExplanation imports strings behaviors findings path sha256 origin libraries exports functionCountMethod functionCoverage
					os kind part linkage stripped signed language toolchain buildId sections demangled riskTerms signature sourceMatch previewKind`)
				for _, f := range objects(t, b, "findings") {
					hasKeys(t, "binary's finding", f, "severity title description location recommendation ruleId confidence")
				}
			}
			for _, f := range objects(t, d, "findings") {
				hasKeys(t, "finding", f, `fingerprint rule scanType severity confidence title description remediation cwe attack references location
					purl advisory aliases fixedVersions evidence tool`)
				hasKeys(t, "location", f["location"], "path line endLine url symbol address")
			}
			noNull(t, "report", d)
		})
	}
}

// noNull fails for every null below v, but for a package that is none and a
// signature that is not there.
func noNull(t *testing.T, at string, v any) {
	t.Helper()
	switch v := v.(type) {
	case nil:
		if at != "report.package" && !strings.HasSuffix(at, ".signature") {
			t.Errorf("%s is null", at)
		}
	case map[string]any:
		for k, e := range v {
			noNull(t, at+"."+k, e)
		}
	case []any:
		for _, e := range v {
			noNull(t, at+"[]", e)
		}
	}
}

func TestJSONAddsUp(t *testing.T) {
	for sample, make := range samples {
		t.Run(sample, func(t *testing.T) {
			d := report.NewDocument(make())
			s := d.Summary
			if s.Total != len(d.Findings) || s.Total != s.Critical+s.High+s.Medium+s.Low+s.Info {
				t.Errorf("summary %+v does not add up to %d findings", s, len(d.Findings))
			}
			ids := map[string]bool{}
			var size int64
			for _, b := range d.Binaries {
				if b.ImportCount != len(b.Imports) {
					t.Errorf("%q: importCount is %d; want %d", b.Path, b.ImportCount, len(b.Imports))
				}
				if ids[b.ID] || !strings.HasPrefix(b.ID, "bin_") {
					t.Errorf("id %q is taken or no id of a binary", b.ID)
				}
				ids[b.ID] = true
				size += b.FileSize
				for _, h := range []report.Behavior{b.Behaviors.Network, b.Behaviors.Filesystem, b.Behaviors.Process, b.Behaviors.Crypto, b.Behaviors.Obfuscation, b.Behaviors.DataExfiltration} {
					if h.Detected != (len(h.Details) > 0) {
						t.Errorf("%q: detected is %v with %d details", b.Path, h.Detected, len(h.Details))
					}
					for _, e := range h.Evidence {
						if e.Detail >= len(h.Details) {
							t.Errorf("%q: evidence for detail %d of %d", b.Path, e.Detail, len(h.Details))
						}
					}
				}
			}
			if p := d.Package; p != nil && (p.BinaryCount != len(d.Binaries) || p.TotalBinarySize != size) {
				t.Errorf("package counts %d binaries of %d bytes; want %d of %d", p.BinaryCount, p.TotalBinarySize, len(d.Binaries), size)
			}
		})
	}
}

func TestJSONSaysWhatIsKnown(t *testing.T) {
	d := report.NewDocument(pack())
	if d.Target != "pkg:npm/bcrypt@6.0.0" || d.CompletedAt != "2026-03-20T12:00:00.412Z" || d.Package.CreatedAt != d.CompletedAt {
		t.Errorf("target %q, completed %q, created %q", d.Target, d.CompletedAt, d.Package.CreatedAt)
	}
	i := slices.IndexFunc(d.Binaries, func(b report.Binary) bool { return b.Path == "prebuilds/linux-x64/bcrypt.node" })
	if i < 0 {
		t.Fatal("a binary is missing")
	}
	b := d.Binaries[i]
	if b.Filename != "bcrypt.node" || b.Behaviors.Network.Evidence[0].Value != "connect" || len(b.Findings) != 2 || b.Findings[0].Location != "init" {
		t.Errorf("binary is %+v", b)
	}
	if d.Binaries[0].Path != d.Binaries[1].Path || d.Binaries[0].ID == d.Binaries[1].ID {
		t.Error("the slices of a fat file are not two binaries of one path")
	}
	if report.NewDocument(folder(1)).Package != nil {
		t.Error("a folder is reported as a package")
	}
}

// Copies of a file keep ids apart, and a binary keeps its id when others join.
func TestBinaryIDs(t *testing.T) {
	r := pack()
	before := report.NewBinaries(r)
	twin := *r.Binaries[0]
	twin.Path = "copy.node"
	r.Binaries = append(r.Binaries, &twin)
	after := report.NewBinaries(r)
	if after[len(after)-1].ID != before[0].ID+"_2" {
		t.Errorf("the copy's id is %s", after[len(after)-1].ID)
	}
	for i := range before {
		if before[i].ID != after[i].ID {
			t.Errorf("id %s became %s", before[i].ID, after[i].ID)
		}
	}
	unknown := &inventory.Binary{Path: "x"}
	if id := report.NewBinaries(&report.Report{Binaries: []*inventory.Binary{unknown}})[0].ID; len(id) != len("bin_")+16 {
		t.Errorf("a binary without a digest has the id %q", id)
	}
}
