// Package deploy_test keeps the files of this folder true to the program.
package deploy_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"github.com/loupe-sec/loupe/internal/config"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// variables are the names of the environment that Loupe, and what it stands on,
// knows.
func variables() []string {
	names := []string{"PGPASSWORD", "POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB"}
	for f := range reflect.TypeFor[config.Config]().Fields() {
		names = append(names, f.Tag.Get("env"))
	}
	return names
}

func checkVariable(t *testing.T, where, name string) {
	t.Helper()
	if !slices.Contains(variables(), name) {
		t.Errorf("%s sets %s, which nobody reads", where, name)
	}
}

// checkCommand checks the arguments with which Loupe is started.
func checkCommand(t *testing.T, where string, args []string) {
	t.Helper()
	if len(args) == 0 || !slices.Contains([]string{"serve", "worker", "health"}, args[0]) {
		t.Errorf("%s starts loupe %v", where, args)
		return
	}
	flags := pflag.NewFlagSet(args[0], pflag.ContinueOnError)
	config.Flags(flags)
	if err := flags.Parse(args[1:]); err != nil {
		t.Errorf("%s: %v", where, err)
	}
	none := func(string) (string, bool) { return "", false }
	if _, err := config.Load(flags, none, nil); err != nil {
		t.Errorf("%s: %v", where, err)
	}
}

type compose struct {
	Name     string
	Services map[string]struct {
		Image       string
		Build       struct{ Context, Dockerfile string }
		Command     []string
		EnvFile     string `yaml:"env_file"`
		Environment map[string]string
		Volumes     []string
		Healthcheck struct {
			Test    []string
			Disable bool
		}
		DependsOn map[string]struct{ Condition string } `yaml:"depends_on"`
	}
	Volumes map[string]any
}

func TestCompose(t *testing.T) {
	var c compose
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Services) != 3 {
		t.Errorf("%d services, want 3", len(c.Services))
	}
	for name, s := range c.Services {
		for variable := range s.Environment {
			checkVariable(t, name, variable)
		}
		if s.EnvFile != "loupe.env" {
			t.Errorf("%s has its secrets from %q", name, s.EnvFile)
		}
		for _, v := range s.Volumes {
			if volume, _, _ := strings.Cut(v, ":"); !contains(c.Volumes, volume) {
				t.Errorf("%s: there is no volume %s", name, volume)
			}
		}
		for on, how := range s.DependsOn {
			other, ok := c.Services[on]
			if !ok || how.Condition == "service_healthy" && other.Healthcheck.Disable {
				t.Errorf("%s waits for %s, which is not there or never healthy", name, on)
			}
		}
		if s.Image != "loupe" {
			continue
		}
		checkCommand(t, name, s.Command)
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.Environment["LOUPE_DATABASE_URL"] == "" {
			t.Errorf("%s has no Postgres", name)
		}
	}
	for line := range strings.Lines(read(t, "loupe.env.example")) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "# ")
		if name, _, ok := strings.Cut(line, "="); ok && !strings.Contains(name, " ") {
			checkVariable(t, "loupe.env.example", name)
		}
	}
}

func contains(m map[string]any, name string) bool { _, ok := m[name]; return ok }

func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))[1]
	if !strings.Contains(text, "FROM golang:"+goVersion+" ") {
		t.Errorf("it is not built by Go %s, which go.mod asks for", goVersion)
	}
	for line := range strings.Lines(text) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "ENV":
			for _, pair := range strings.Fields(rest) {
				name, _, _ := strings.Cut(pair, "=")
				checkVariable(t, "Dockerfile", name)
			}
		case "CMD", "HEALTHCHECK":
			_, list, _ := strings.Cut(rest, "[")
			var args []string
			if err := yaml.Unmarshal([]byte("["+list), &args); err != nil {
				t.Fatal(err)
			}
			if len(args) > 0 && args[0] == "/loupe" {
				args = args[1:]
			}
			checkCommand(t, "Dockerfile: "+verb, args)
		case "USER":
			if rest == "0" || strings.HasPrefix(rest, "0:") || strings.HasPrefix(rest, "root") {
				t.Error("it runs as root")
			}
		}
	}
	for _, need := range []string{"\nUSER ", "\nHEALTHCHECK ", "CGO_ENABLED=0", "ca-certificates.crt", "\nFROM scratch\n"} {
		if !strings.Contains(text, need) {
			t.Errorf("%q is missing", strings.TrimSpace(need))
		}
	}
	// What -X sets must exist, or the version is lost without an error.
	found := regexp.MustCompile(`-X github\.com/loupe-sec/loupe/(\S+)\.(\w+)=`).FindStringSubmatch(text)
	if found == nil {
		t.Fatal("it sets no version")
	}
	files, err := filepath.Glob(filepath.Join("..", found[1], "*.go"))
	if err != nil || !slices.ContainsFunc(files, func(name string) bool { return strings.Contains(read(t, name), "\nvar "+found[2]+" string") }) {
		t.Errorf("%s has no variable %s (%v)", found[1], found[2], err)
	}
}

func TestUnit(t *testing.T) {
	text := read(t, "loupe.service")
	set := map[string][]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			set[name] = append(set[name], value)
		}
	}
	for _, start := range set["ExecStart"] {
		checkCommand(t, "loupe.service", strings.Fields(start)[1:])
	}
	for _, pair := range set["Environment"] {
		name, _, _ := strings.Cut(pair, "=")
		checkVariable(t, "loupe.service", name)
	}
	for name, want := range map[string]string{"NoNewPrivileges": "yes", "ProtectSystem": "strict", "StateDirectory": "loupe", "UMask": "0077"} {
		if !slices.Equal(set[name], []string{want}) {
			t.Errorf("%s is %q, want %s", name, set[name], want)
		}
	}
	if calls := strings.Join(set["SystemCallFilter"], " "); !strings.Contains(calls, "landlock_restrict_self") || !strings.Contains(calls, "seccomp") {
		t.Error("the sandbox could not lock itself up")
	}
}

// TestUnitBySystemd has systemd read the unit, with a program that exists.
func TestUnitBySystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	program, err := exec.LookPath("true")
	if err != nil {
		t.Skip("there is no program true")
	}
	if _, err := os.Stat("/etc/passwd"); errors.Is(err, fs.ErrNotExist) {
		t.Skip("there are no users")
	}
	text := strings.Replace(read(t, "loupe.service"), "/usr/local/bin/loupe", program, 1)
	text = strings.NewReplacer("User=loupe", "User=root", "Group=loupe", "Group=root").Replace(text)
	name := filepath.Join(t.TempDir(), "loupe.service")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", name).CombinedOutput()
	if err != nil || strings.Contains(string(out), "loupe.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
