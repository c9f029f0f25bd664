// Package internal_test keeps the floors and walls of docs/ARCHITECTURE.md.
package internal_test

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/loupe-sec/loupe/"

// floors lists the packages from the bottom up. A package imports packages of
// the same line only if that line begins with "together"; otherwise those of
// the lines above its own.
var floors = [][]string{
	{"internal/core/pattern"},
	{"internal/core/finding", "internal/core/target", "internal/core/fault", "internal/core/parallel"},
	{"internal/core/rule", "internal/core/workspace", "internal/core/egress", "internal/config"},
	{"internal/core/scan"},
	{"internal/core/inventory", "internal/core/ruletest"},
	{"together", "internal/formats/...", "internal/rules"},
	{"internal/source"},
	{"internal/scanners/native", "internal/scanners/install", "internal/scanners/layout", "internal/scanners/signature", "internal/scanners/sourcematch", "internal/scanners/embedded", "internal/scanners/yara"},
	{"internal/scanners/all"},
	{"internal/enrich", "internal/report"},
	{"internal/diff"},
	{"internal/service/sandbox"},
	{"internal/service/store"},
	{"internal/service/storetest"},
	{"internal/service/jobs"},
	{"internal/service/jobstest"},
	{"internal/service/account", "internal/service/notify"},
	{"internal/service/monitor", "internal/service/billing"},
	{"internal/service/app"},
	{"internal/faces/api/dialect"},
	{"internal/faces/api/dialect/dialecttest"},
	{"internal/faces/api/binshield", "internal/faces/httpd"},
	{"internal/client"},
	{"internal/faces/cli"},
	{"together", "internal/groundtruth/...", "internal/endurance"},
	{"cmd/loupe"},
}

// A wall forbids packages to some others.
type wall struct {
	of     string   // packages behind the wall
	except []string // doors
	not    []string // what they must not import
	why    string
}

var walls = []wall{
	{
		of:  "internal/scanners/...",
		not: []string{"os", "os/exec", "net", "net/http", "syscall", "unsafe", "database/sql", "plugin"},
		why: "a scanner reads hostile input and reaches the world only through its Pass",
	},
	{
		of: "internal/formats/...", except: []string{"internal/formats/native/known/generate"},
		not: []string{"os", "os/exec", "net", "net/http", "syscall", "unsafe"},
		why: "a parser is a pure function of bytes",
	},
	{
		of: "...", except: []string{"internal/core/egress", "internal/source", "internal/service/notify", "internal/faces/httpd", "internal/faces/api/...", "internal/faces/cli", "internal/client"},
		not: []string{"net", "net/http", "crypto/tls"},
		why: "only egress dials; sources, messages and the client of the API speak through it, and faces listen",
	},
	{
		of: "...", except: []string{"internal/formats/native/synth"},
		not: []string{"debug/elf", "debug/pe", "debug/macho", "debug/buildinfo", "debug/gosym", "debug/dwarf"},
		why: "they are not hardened against hostile input; tests may use them as oracles, and synth, which only writes, their constants",
	},
	{
		of: "...", except: []string{"internal/source", "internal/service/sandbox", "internal/formats/native/known/generate", "internal/groundtruth"},
		not: []string{"os/exec"},
		why: "nothing that is scanned is ever run, nor any package manager; source looks for npm on the path, to read the settings beside it, sandbox runs Loupe itself, and generators run compilers",
	},
	{
		of: "internal/enrich", not: []string{"os", "time"},
		why: "the same findings give the same text",
	},
	{
		of: "internal/report", not: []string{"os"},
		why: "a format writes to the writer that it is given",
	},
}

// A pkg is what `go list` says of a package.
type pkg struct {
	ImportPath, Dir string
	Imports         []string
	GoFiles         []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", module+"...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) > 0 {
			pkgs = append(pkgs, p)
		}
	}
}

func TestFloors(t *testing.T) {
	for _, p := range list(t) {
		own := floor(p.ImportPath)
		if own < 0 {
			t.Errorf("%s is on no floor: put it on one in this test, and into docs/ARCHITECTURE.md", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			dep, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			together := floors[own][0] == "together"
			if f := floor(dep); f > own || f == own && !together {
				t.Errorf("%s imports %s, which is not below it", p.ImportPath, dep)
			}
		}
	}
}

func TestWalls(t *testing.T) {
	for _, p := range list(t) {
		for _, w := range walls {
			if !under(w.of, p.ImportPath) || slices.ContainsFunc(w.except, func(door string) bool { return under(door, p.ImportPath) }) {
				continue
			}
			for _, imp := range p.Imports {
				if slices.Contains(w.not, imp) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imp, w.why)
				}
			}
		}
	}
}

// TestPackageComments asks each package to say what it is for.
func TestPackageComments(t *testing.T) {
	for _, p := range list(t) {
		said := slices.ContainsFunc(p.GoFiles, func(name string) bool {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			return err == nil && f.Doc != nil
		})
		if !said {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// TestNoMagic keeps the program explained by its values: nothing registers
// itself, nothing is imported for its side effects, and no program is started.
func TestNoMagic(t *testing.T) {
	for _, p := range list(t) {
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"\nfunc init()", "\n\t_ \"" + module, "exec.Command(", "os.StartProcess("} {
				if strings.Contains(string(text), bad) {
					t.Errorf("%s/%s holds %q", p.ImportPath, name, strings.TrimSpace(bad))
				}
			}
		}
	}
}

// TestLinks checks that links between the documents lead somewhere.
func TestLinks(t *testing.T) {
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".git") {
			return cmpErr(err, fs.SkipDir)
		}
		if d.IsDir() || path.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for link := range links(string(text)) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), link)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, link)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// links yields the relative links of a Markdown text.
func links(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(text, "](") {
			link, _, ok := strings.Cut(part, ")")
			link, _, _ = strings.Cut(link, "#")
			if ok && link != "" && !strings.ContainsAny(link, ": \n") && !yield(link) {
				return
			}
		}
	}
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func floor(name string) int {
	return slices.IndexFunc(floors, func(f []string) bool {
		return slices.ContainsFunc(f, func(pattern string) bool { return under(pattern, name) })
	})
}

// under matches as the go command does: x/... is x and all below it.
func under(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == base || strings.HasPrefix(name, base+"/")
	}
	return name == pattern
}
