package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/loupe-sec/loupe/internal/faces/cli"
)

// A fakeAPI answers as a server does, from a description in JSON.
type fakeAPI struct {
	DefaultFailOn string
	Key           string
	Throttled     int // of submissions, before the first is taken
	Broken        int // connections that break after that
	Polls         int // before a scan is complete
	Packages      map[string]struct {
		Score    int
		Level    string
		Error    string
		Parts    []string
		Findings []struct{ Rule, Severity, Title, Detail, Place string }
	}

	mu   sync.Mutex
	log  string         // file of what was asked
	jobs map[string]int // by name of package: how often it was asked for
	keys map[string]int // Idempotency-Keys of broken connections
}

// api starts a server that FILE describes, sets LOUPE_SERVER to its address, and
// writes what is asked of it to requests.log.
func api(ts *testscript.TestScript, _ bool, args []string) {
	f := &fakeAPI{jobs: map[string]int{}, keys: map[string]int{}, log: ts.MkAbs("requests.log")}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), f))
	ts.Check(os.WriteFile(f.log, nil, 0o644))
	server := httptest.NewServer(f)
	ts.Defer(server.Close)
	ts.Setenv("LOUPE_SERVER", server.URL)
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var body bytes.Buffer
	_, _ = body.ReadFrom(r.Body)
	out, err := os.OpenFile(f.log, os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		fmt.Fprintf(out, "%s %s %s\n", r.Method, r.URL.EscapedPath(), body.String())
		out.Close()
	}
	fail := func(status int, text string) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"error": text})
	}
	if r.URL.Path == "/health" {
		json.NewEncoder(w).Encode(map[string]any{"ok": true, "service": "binshield-api", "defaultFailOn": f.DefaultFailOn})
		return
	}
	if r.Header.Get("x-binshield-api-key") != f.Key {
		fail(401, "Invalid API key")
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/scans/")
	switch rest, sbom := strings.CutSuffix(r.URL.Path, "/sbom"); {
	case sbom:
		parts := strings.Split(strings.TrimPrefix(rest, "/packages/"), "/versions/")
		eco, pkg, _ := strings.Cut(parts[0], "/")
		f.sbom(w, eco+":"+pkg+"@"+parts[1])
	case name == "packages" && f.Throttled > 0:
		f.Throttled--
		w.Header().Set("Retry-After", "1")
		fail(429, "Rate limit exceeded")
	case name == "packages" && f.Broken > 0:
		f.Broken--
		f.keys[r.Header.Get("Idempotency-Key")]++
		panic(http.ErrAbortHandler)
	case name == "packages":
		var req struct{ Ecosystem, PackageName, Version string }
		_ = json.Unmarshal(body.Bytes(), &req)
		key := r.Header.Get("Idempotency-Key")
		if key == "" || len(f.keys) > 0 && f.keys[key] == 0 {
			fail(400, "the request that was lost came back with another Idempotency-Key")
			return
		}
		clear(f.keys)
		name := req.Ecosystem + ":" + req.PackageName + "@" + req.Version
		f.job(w, name)
	default:
		f.jobs[name]++
		f.job(w, name)
	}
}

func (f *fakeAPI) job(w http.ResponseWriter, name string) {
	pkg, known := f.Packages[name]
	job := map[string]any{"id": name, "status": "queued", "stage": "ingest"}
	switch {
	case f.jobs[name] < f.Polls:
	case !known || pkg.Error != "":
		job["status"], job["error"] = "failed", pkg.Error
	default:
		eco, rest, _ := strings.Cut(name, ":")
		at := strings.LastIndex(rest, "@")
		parts := []map[string]string{}
		for _, p := range pkg.Parts {
			parts = append(parts, map[string]string{"purl": p})
		}
		job["status"], job["cacheHit"] = "complete", f.Polls == 0
		job["result"] = map[string]any{
			"ecosystem": eco, "packageName": rest[:at], "version": rest[at+1:], "riskScore": pkg.Score, "riskLevel": pkg.Level, "binaryCount": 1, "parts": parts,
		}
	}
	json.NewEncoder(w).Encode(job)
}

func (f *fakeAPI) sbom(w http.ResponseWriter, name string) {
	list := []any{}
	for _, x := range f.Packages[name].Findings {
		list = append(list, map[string]any{
			"id": x.Rule, "ratings": []any{map[string]string{"severity": x.Severity}}, "description": x.Title, "detail": x.Detail,
			"properties": []any{map[string]string{"name": "loupe:rule", "value": x.Rule}, map[string]string{"name": "loupe:location", "value": x.Place}},
		})
	}
	json.NewEncoder(w).Encode(map[string]any{"bomFormat": "CycloneDX", "vulnerabilities": list})
}

// An action is a composite action of GitHub (GitHub documentation, "Metadata
// syntax reference").
type action struct {
	Name, Description string
	Author            string
	Branding          struct{ Icon, Color string }
	Inputs            map[string]struct{ Description, Default string }
	Outputs           map[string]struct{ Description, Value string }
	Runs              struct {
		Using string
		Steps []struct {
			Name, If, Uses, Shell, Run string
			With, Env                  map[string]string
		}
	}
}

func readAction(t *testing.T) (a action, text string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(data, &a, yaml.DisallowUnknownField()); err != nil {
		t.Fatal(err)
	}
	return a, string(data)
}

// help returns what `loupe ci --help` says.
func help(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	if code := cli.Main([]string{"ci", "--help"}, cli.Streams{Out: &out, Err: &out, Env: func(string) string { return "" }}); code != 0 {
		t.Fatal(code, out.String())
	}
	return out.String()
}

// TestAction holds action.yml to what it says and to the command that it runs.
func TestAction(t *testing.T) {
	a, text := readAction(t)
	if a.Runs.Using != "composite" || a.Name == "" || a.Description == "" {
		t.Errorf("%+v is no composite action", a)
	}
	for name, in := range a.Inputs {
		if in.Description == "" {
			t.Errorf("the input %s has no description", name)
		}
		if !strings.Contains(text, "inputs."+name+" ") {
			t.Errorf("the input %s is used nowhere", name)
		}
	}
	for _, m := range regexp.MustCompile(`inputs\.([a-z-]+)`).FindAllStringSubmatch(text, -1) {
		if _, ok := a.Inputs[m[1]]; !ok {
			t.Errorf("%s is no input", m[1])
		}
	}
	flags := help(t)
	for _, step := range a.Runs.Steps {
		if strings.Contains(step.Run, "${{") {
			t.Errorf("%s: an expression stands in a script, where it is read as a part of it", step.Name)
		}
		if (step.Run == "") == (step.Uses == "") || step.Run != "" && step.Shell != "bash" {
			t.Errorf("%s%s: neither a script of bash nor an action", step.Name, step.Uses)
		}
		if step.Uses != "" && !regexp.MustCompile(`^[a-z-]+/[a-z-]+@v\d+`).MatchString(step.Uses) {
			t.Errorf("%s is not fixed to a version", step.Uses)
		}
		for name := range step.Env {
			flag, ok := strings.CutPrefix(name, "LOUPE_")
			flag = "--" + strings.ToLower(strings.ReplaceAll(flag, "_", "-")) + " "
			if ok && name != "LOUPE_KEY" && !strings.Contains(flags, flag) {
				t.Errorf("%s sets no flag of loupe ci", name)
			}
			if !strings.Contains(step.Run, name) && !ok && name != "CGO_ENABLED" {
				t.Errorf("%s: the variable %s is used nowhere", step.Name, name)
			}
		}
		for flag := range strings.FieldsSeq(step.Run) {
			if f := regexp.MustCompile(`--[a-z][a-z-]+`).FindString(flag); f != "" && !strings.Contains(flags, f+" ") {
				t.Errorf("%s: loupe ci has no flag %s", step.Name, f)
			}
		}
	}
}

// TestActionScript runs the last step with inputs that want to be commands.
func TestActionScript(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash, in which the steps of an action run")
	}
	a, _ := readAction(t)
	step := a.Runs.Steps[len(a.Runs.Steps)-1]
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "loupe"), 0o755); err != nil {
		t.Fatal(err)
	}
	program := "#!" + bash + "\nprintf '%s\\n' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "loupe", "loupe"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bash, "--noprofile", "--norc", "-eo", "pipefail", "-c", step.Run)
	cmd.Dir = dir
	cmd.Env = []string{
		"RUNNER_TEMP=" + dir, "PATH=" + os.Getenv("PATH"), "ACTION_PATH=",
		"ACTION_LOCKFILES=package-lock.json\r\n\n  a folder/*.lock  \n$(touch pwned)", "ACTION_PACKAGES=npm:a@1\n--server=https://evil.example\n;touch pwned",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := []string{"ci", "--lockfile=package-lock.json", "--lockfile=a folder/*.lock", "--lockfile=$(touch pwned)", "--", "npm:a@1", "--server=https://evil.example", ";touch pwned"}
	if got := strings.Split(strings.TrimSpace(string(out)), "\n"); !slices.Equal(got, want) {
		t.Errorf("loupe was run with %q; want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
		t.Error("an input was run")
	}
}

// TestCIPage checks that docs/ci.md names only flags and inputs that there are.
func TestCIPage(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "ci.md"))
	if err != nil {
		t.Fatal(err)
	}
	flags := help(t)
	for _, line := range strings.Split(string(data), "\n") {
		if strings.Contains(line, "loupe key create") {
			continue
		}
		for _, f := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(line, -1) {
			if !strings.Contains(flags, f+" ") {
				t.Errorf("loupe ci has no flag %s: %s", f, line)
			}
		}
	}
	a, _ := readAction(t)
	var page struct {
		Jobs map[string]struct {
			Steps []struct {
				Uses string
				With map[string]string
			}
		}
	}
	_, example, _ := strings.Cut(string(data), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	if err := yaml.Unmarshal([]byte(example), &page); err != nil {
		t.Fatal(err)
	}
	for _, step := range page.Jobs["native-dependencies"].Steps {
		for name := range step.With {
			if _, ok := a.Inputs[name]; strings.HasPrefix(step.Uses, "loupe-sec/loupe@") && !ok {
				t.Errorf("the action has no input %s", name)
			}
		}
	}
}
