package install

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/rules"
)

var (
	pySetup     = rules.Get("install/python-setup")
	pySetupRuns = rules.Get("install/python-setup-runs")
	pySetupHide = rules.Get("install/python-setup-hides")
	pySetupGets = rules.Get("install/python-setup-fetches")
	pyPth       = rules.Get("install/python-pth")
	pyCustomize = rules.Get("install/python-customize")
	pyBackend   = rules.Get("install/python-build-backend")
)

// What a setup.py does beyond describing the package, by the text of a line.
// A line that is a comment does not count.
var (
	setupRuns = pattern.New(`\b(subprocess\.(run|call|check_call|check_output|Popen|getoutput)|os\.(system|popen|exec[lv]p?e?|spawn[lv]p?e?|startfile)|urllib\.request\.(urlopen|urlretrieve)|urlopen|urlretrieve|requests\.(get|post|put)|http\.client\.|socket\.(socket|create_connection)|ctypes\.(CDLL|WinDLL|windll|cdll))\s*\(?`)
	setupHide = pattern.New(`\b(exec|eval)\s*\(.*(b64decode|decompress|fromhex|unhexlify|decode\(|urlopen|requests\.get|marshal\.loads|__import__|chr\()|marshal\.loads|__import__\(\s*['"](os|subprocess|socket|base64|urllib)|(b64decode|unhexlify|fromhex|decompress)\s*\(.{60,}|(\\x[0-9a-fA-F]{2}){20,}|getattr\(\s*__builtins__`)
)

// setupPy reports the setup.py of a source distribution, which runs when no
// wheel fits and pip builds one.
func setupPy(p *scan.Pass, f *scan.File, data []byte) error {
	rule, line, what := pySetup, 1, ""
	for n, text := range lines(data) {
		code, _, _ := strings.Cut(text, " #")
		switch {
		case strings.HasPrefix(strings.TrimSpace(code), "#"):
		case setupHide.MatchString(code):
			rule, line, what = pySetupHide, n, code
		case rule == pySetup && setupRuns.MatchString(code):
			rule, line, what = pySetupRuns, n, code
		}
		if rule == pySetupHide {
			break
		}
	}
	code := python.code(data)
	if at := setupFetches(code); at >= 0 && rule != pySetupHide {
		rule, line, what = pySetupGets, 1+strings.Count(code[:at], "\n"), excerpt(code, at)
	} else if at := decodesAndRuns(python, code); at >= 0 && rule != pySetupHide {
		rule, line, what = pySetupHide, 1+strings.Count(code[:at], "\n"), excerpt(code, at)
	}
	for _, a := range acts(python, code) {
		if a.rule == scriptSecrets || a.rule == scriptDropSite {
			reportAct(p, a, f.Path, f.Part.Label, code, "pip")
		}
	}
	buildDownloads(p, f.Part.Label, f.Path, code)
	description := "pip runs setup.py when it builds this source distribution."
	evidence := []finding.Evidence{finding.NewEvidence("file", f.Path)}
	if what != "" {
		description = fmt.Sprintf("pip runs setup.py when it builds this source distribution, and line %d does more than describe the package: %s",
			line, finding.NewEvidence("code", strings.TrimSpace(what)).Value)
		evidence = []finding.Evidence{finding.NewEvidence("code", strings.TrimSpace(what)), evidence[0]}
	}
	p.Report(rule, finding.Finding{
		Description: description,
		Location:    finding.Location{Path: f.Path, Line: line},
		PURL:        f.Part.Label,
		Evidence:    evidence,
		Anchor:      strings.TrimSpace(what),
	})
	return nil
}

var (
	setupStarts = pattern.New(`\b(?:os\.(?:system|popen|exec[lv]p?e?|spawn[lv]p?e?|startfile)|subprocess\.\w+|(?:check_call|check_output|Popen|getoutput|run|call|system))\s*\(|(?:^|[^.\w])(?:exec|eval|compile)\s*\(`)
	setupTool   = pattern.New(`(?i)(?:^|[\s"'(;&|/])(?:curl|wget|powershell|pwsh|invoke-webrequest|iwr|bitsadmin)(?:\.exe)?(?:["'\s])|\bcertutil\b.*-urlcache`)
	setupGets   = pattern.New(`\b(?:urlopen|urlretrieve|requests\.get|httpx\.get)\s*\(`)
	setupOpens  = pattern.New(`\bopen\s*\(\s*(\w+)[^\n]*\)\s*as\s+(\w+)|^\s*(\w+)\s*=\s*open\s*\(\s*(\w+)`)
	setupNames  = pattern.New(`^\s*(\w+)\s*=[^=]|\bopen\s*\(\s*(\w+)|\burlretrieve\s*\([^,\n]+,\s*(\w+)`)
)

// setupFetches returns where a setup.py starts a program that fetches, or runs
// what it has fetched under the same name, or -1.
func setupFetches(code string) int {
	runs := setupStarts.FindAllStringIndex(code, maxMatches)
	for _, r := range runs {
		if args := balanced(code[r[1]:min(len(code), r[1]+1000)]); setupTool.MatchString(args) {
			return skipSpace(code, r[0])
		}
	}
	named, opened := map[string]int{}, map[string]string{} // offsets; the names of files by those of their handles
	at := 0
	for line := range strings.Lines(code) {
		if m := setupOpens.FindStringSubmatch(line); m != nil && len(opened) < 100 {
			opened[m[2]+m[3]] = m[1] + m[4]
		}
		if setupGets.MatchString(line) || mentions(line, named) {
			for _, m := range setupNames.FindAllStringSubmatch(line, 10) {
				if name := m[1] + m[2] + m[3]; len(named) < 100 {
					named[name] = at
				}
			}
			for _, name := range identifier.FindAllString(line, 50) {
				if file := opened[name]; file != "" {
					named[file] = at
				}
			}
		}
		at += len(line)
	}
	return runsNamed(code, runs, named)
}

// mentions reports whether a line that assigns or writes names a variable.
func mentions(line string, named map[string]int) bool {
	return len(named) > 0 && slices.ContainsFunc(identifier.FindAllString(line, 50), func(name string) bool {
		_, ok := named[name]
		return ok
	})
}

// pth reports the lines of a .pth file that Python executes: those that begin
// with "import" and a space or tab (documentation of the module site).
func pth(p *scan.Pass, f *scan.File, data []byte) error {
	for n, text := range lines(data) {
		if !strings.HasPrefix(text, "import ") && !strings.HasPrefix(text, "import\t") {
			continue
		}
		p.Report(pyPth, finding.Finding{
			Description: "Python executes this line of the .pth file whenever it starts: " + finding.NewEvidence("code", text).Value,
			Location:    finding.Location{Path: f.Path, Line: n},
			PURL:        f.Part.Label,
			Evidence:    []finding.Evidence{finding.NewEvidence("code", text)},
			Anchor:      finding.Digest(text),
		})
	}
	return nil
}

// customize reports a module that Python imports whenever it starts.
func customize(p *scan.Pass, f *scan.File, data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	p.Report(pyCustomize, finding.Finding{
		Description: fmt.Sprintf("Python imports %s whenever it starts.", path.Base(f.Path)),
		Location:    finding.Location{Path: f.Path, Line: 1},
		PURL:        f.Part.Label,
		Evidence:    []finding.Evidence{finding.NewEvidence("file", f.Path)},
	})
	return nil
}

// knownBackends are the build backends that the Python packaging guide names,
// and those of large projects: they are no news to anybody.
var knownBackends = []string{
	"setuptools", "flit_core", "flit_scm", "hatchling", "poetry", "pdm", "maturin", "scikit_build_core", "mesonpy", "uv_build", "jupyter_packaging", "sipbuild", "whey", "enscons", "py_build_cmake",
}

var (
	backendLine = pattern.New(`^\s*build-backend\s*=\s*["']([^"']*)["']`)
	pathLine    = pattern.New(`^\s*backend-path\s*=`)
)

// pyproject reports a build backend that lies in the package itself, or that
// is not one of the well-known ones: its code runs when pip builds the package.
func pyproject(p *scan.Pass, f *scan.File, data []byte) error {
	inBuild, local, backend, line := false, false, "", 0
	for n, text := range lines(data) {
		trimmed := strings.TrimSpace(text)
		if strings.HasPrefix(trimmed, "[") {
			inBuild = strings.HasPrefix(trimmed, "[build-system]")
		}
		if !inBuild {
			continue
		}
		if m := backendLine.FindStringSubmatch(text); m != nil {
			backend, line = m[1], n
		}
		if pathLine.MatchString(text) {
			local = true
			if line == 0 {
				line = n
			}
		}
	}
	name, _, _ := strings.Cut(backend, ".")
	if name, _, _ = strings.Cut(name, ":"); line == 0 || !local && slices.Contains(knownBackends, name) {
		return nil
	}
	where := "the package " + name
	if local {
		where = "this package itself"
	}
	p.Report(pyBackend, finding.Finding{
		Description: fmt.Sprintf("pip runs the build backend %q from %s when it builds this source distribution.", backend, where),
		Location:    finding.Location{Path: f.Path, Line: line, Symbol: "build-system.build-backend"},
		PURL:        f.Part.Label,
		Evidence:    backendEvidence(p, f, backend, local),
		Anchor:      backend,
	})
	return nil
}

func backendEvidence(p *scan.Pass, f *scan.File, backend string, local bool) []finding.Evidence {
	out := []finding.Evidence{finding.NewEvidence("script", backend)}
	if local {
		module, _, _ := strings.Cut(backend, ":")
		name := strings.ReplaceAll(module, ".", "/") + ".py"
		dir := path.Dir(f.Path)
		found, _ := fs.Glob(p.FS, path.Join(dir, "*", name))
		for _, at := range append([]string{path.Join(dir, name)}, found...) {
			if hasFile(p, at) {
				if data, err := fs.ReadFile(p.FS, at); err == nil && len(data) <= maxScript {
					buildDownloads(p, f.Part.Label, at, python.code(data))
				}
				out = append(out, finding.NewEvidence("file", at))
				break
			}
		}
	}
	return out
}

// lines numbers the lines of a text from one.
func lines(data []byte) func(func(int, string) bool) {
	return func(yield func(int, string) bool) {
		n := 0
		for text := range strings.Lines(string(data)) {
			n++
			if !yield(n, strings.TrimRight(text, "\r\n")) {
				return
			}
		}
	}
}
