package embedded_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/scanners/embedded"
)

func build(t testing.TB, d synth.Description) []byte {
	t.Helper()
	data, err := synth.Build(d)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func holder(t testing.TB, section []byte) []byte {
	return build(t, synth.Description{Format: "elf", Sections: []synth.Section{{Name: ".payload", Content: synth.Content{Hex: section}}}})
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func zipped(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for name, data := range files {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// mounted returns a workspace that shows one archive of the files.
func mounted(t testing.TB, files map[string][]byte) *workspace.Workspace {
	t.Helper()
	data := zipped(t, files)
	ws := workspace.New(workspace.Limits{}, t.TempDir())
	t.Cleanup(func() { ws.Close() })
	if err := ws.MountArchive(workspace.Part{Label: "pkg:npm/x@1.0.0"}, "x.zip", bytes.NewReader(data), int64(len(data)), nil, 0); err != nil {
		t.Fatal(err)
	}
	return ws
}

// TestNested digs through layers: a program in a section, an archive behind it,
// a script in that, WebAssembly in the script.
func TestNested(t *testing.T) {
	wasm := build(t, synth.Description{Format: "wasm", Sections: []synth.Section{{Name: "noise", Content: synth.Content{Random: 2000}}}})
	script := []byte("const code = '" + base64.StdEncoding.EncodeToString(wasm) + "';\n")
	inner := append(build(t, synth.Description{Format: "elf", Kind: "executable"}), zipped(t, map[string][]byte{"lib/run.js": script})...)
	ws := mounted(t, map[string][]byte{"addon.node": holder(t, zstded(t, inner)), "README.md": []byte("Nothing to see.")})
	shown := map[string]string{}
	watch := &scan.Scanner{
		Name:  "watch",
		Gives: []scan.Fact{seen},
		Wants: func(f *scan.File) bool { return f.Embedded },
		File: func(_ context.Context, p *scan.Pass, f *scan.File) error {
			data, err := f.Data()
			seen.Add(p, [2]string{f.Path, sum(data)})
			return err
		},
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{embedded.Scanner, watch}, ws, nil, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range seen.Of(res) {
		shown[s[0]] = s[1]
	}
	want := map[string]string{
		"addon.node!/section:.payload":                                sum(inner),
		"addon.node!/section:.payload!/overlay":                       sum(inner[len(inner)-zipSize(inner):]),
		"addon.node!/section:.payload!/overlay!/lib/run.js":           sum(script),
		"addon.node!/section:.payload!/overlay!/lib/run.js!/base64:1": sum(wasm),
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	var got []string
	for _, f := range res.Findings {
		got = append(got, fmt.Sprintf("%s %s %s:%d %s", f.Severity, f.Rule, f.Location.Path, f.Location.Line, f.Location.Symbol))
		if f.PURL != "pkg:npm/x@1.0.0" {
			t.Errorf("%s: of %q", f.Title, f.PURL)
		}
		for _, e := range f.Evidence {
			if e.Kind == "sha256" && e.Value != shown[f.Location.Path+"!/"+f.Location.Symbol] {
				t.Errorf("%s: %s", f.Title, e.Value)
			}
		}
	}
	wantFindings := []string{
		"info embedded/packed-program addon.node:0 section:.payload",
		"info embedded/packed-archive addon.node!/section:.payload:0 overlay",
		"info embedded/packed-program addon.node!/section:.payload!/overlay!/lib/run.js:1 base64:1",
	}
	if diff := cmp.Diff(wantFindings, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if len(res.Notes) > 0 {
		t.Errorf("notes %+v", res.Notes)
	}
}

var seen = scan.NewFact[[2]string]("seen")

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// zipSize returns how long the archive at the end is.
func zipSize(data []byte) int { return len(data) - bytes.Index(data, []byte("PK\x03\x04")) }

// TestSeverity is info for what packs to save space, and medium, never more,
// for what hides.
func TestSeverity(t *testing.T) {
	elf := build(t, synth.Description{Format: "elf", Sections: []synth.Section{{Name: ".noise", Content: synth.Content{Random: 2000}}}})
	keyed := bytes.Clone(elf)
	for i := range keyed {
		keyed[i] ^= 0x5a
	}
	text := base64.StdEncoding.EncodeToString(elf)
	png := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"), make([]byte, 1200)...)
	for _, test := range []struct {
		name, file string
		data       []byte
		want       finding.Severity
	}{
		{"compressed section", "a.node", holder(t, zstded(t, elf)), finding.Info},
		{"behind a program", "a.node", slices.Concat(elf, elf), finding.Info},
		{"text in a script", "a.py", []byte("x = '" + text + "'"), finding.Info},
		{"text in a binary", "a.node", holder(t, []byte(text)), finding.Medium},
		{"compressed twice", "a.node", holder(t, zstded(t, zstded(t, elf))), finding.Medium},
		{"under a key", "a.node", holder(t, keyed), finding.Medium},
		{"under a key in a file", "a.dat", keyed, finding.Medium},
		{"behind a picture", "a.png", slices.Concat(png, elf), finding.Medium},
		{"in a container", "a.pak", slices.Concat([]byte("PACK\x00\x01"), elf, []byte("\x00\xff\x00"), elf), finding.Info},
		{"data", "a.node", holder(t, zstded(t, []byte(strings.Repeat("text that says nothing, ", 900)))), finding.Unrated},
		{"a short text", "a.js", []byte("x = '" + text[:600] + "'"), finding.Unrated},
		{"a picture", "a.png", png, finding.Unrated},
	} {
		t.Run(test.name, func(t *testing.T) {
			res, err := scan.Run(t.Context(), []*scan.Scanner{embedded.Scanner}, mounted(t, map[string][]byte{test.file: test.data}), nil, scan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := finding.Unrated
			for _, f := range res.Findings {
				got = max(got, f.Severity)
			}
			if got != test.want || len(res.Notes) > 0 {
				t.Errorf("%v, notes %+v; want %v", got, res.Notes, test.want)
			}
		})
	}
}

// The name of a section is anything, also what moves a terminal's cursor.
func TestHostileName(t *testing.T) {
	program := build(t, synth.Description{Format: "elf", Kind: "executable", Sections: []synth.Section{{Name: ".x", Content: synth.Content{Random: 2000}}}})
	outer := build(t, synth.Description{Format: "elf", Sections: []synth.Section{{Name: ".a\x1b]0;b\a\u202e", Content: synth.Content{Hex: program}}}})
	res, err := scan.Run(t.Context(), []*scan.Scanner{embedded.Scanner}, mounted(t, map[string][]byte{"addon.node": outer}), nil, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Findings) == 0 {
		t.Fatal("nothing was found")
	}
	for _, f := range res.Findings {
		if text := f.Title + f.Description + f.Location.Symbol + f.Anchor; strings.ContainsAny(text, "\x1b\a\u202e") {
			t.Errorf("%q", text)
		}
	}
}
