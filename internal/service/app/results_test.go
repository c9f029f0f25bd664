package app_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// TestResultsAreKept scans copies of binaries, in archives and embedded, with
// and without what an earlier scan has found out: reports are the same.
func TestResultsAreKept(t *testing.T) {
	build := func(text string) []byte {
		data, err := synth.FromYAML([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	elf := build("format: elf\narch: x86_64\nimports: [connect, ptrace]\nsections:\n- {name: .extra, random: 3000}\n")
	fat := build("format: macho\narch: [x86_64, aarch64]\nimports: [connect]\n")
	var packed bytes.Buffer
	z := zip.NewWriter(&packed)
	for name, data := range map[string][]byte{"in/a.node": elf, "fat.node": fat} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, data := range map[string][]byte{
		"a.node": elf, "copy.node": elf, "fat.node": fat, "all.zip": packed.Bytes(),
		"script.js": []byte(`const b = "` + base64.StdEncoding.EncodeToString(elf) + `";`),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	to, err := target.Parse(folder)
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	scan := func(dir string, anew bool) string {
		rep, err := app.New(app.Options{DataDir: dir}).Scan(t.Context(), app.ScanRequest{Target: to, NoCache: anew, Now: time.Unix(1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Binaries) < 8 { // two copies and one embedded, two slices, and both once more in the archive
			t.Fatalf("found %d binaries", len(rep.Binaries))
		}
		var buf bytes.Buffer
		format, _ := report.Find("json")
		if err := format.Write(&buf, rep, report.Options{}); err != nil {
			t.Fatal(err)
		}
		return buf.String()
	}
	want := scan("", false)
	for _, test := range []struct {
		name string
		anew bool
	}{{"first", false}, {"second", false}, {"anew", true}} {
		if diff := cmp.Diff(want, scan(data, test.anew)); diff != "" {
			t.Errorf("%s scan (-want +got):\n%s", test.name, diff)
		}
	}
	kept, err := filepath.Glob(filepath.Join(data, "cache", "results", "*", "*"))
	if err != nil || len(kept) != 2 {
		t.Errorf("the cache holds %q, %v; want one file for each content", kept, err)
	}
}
