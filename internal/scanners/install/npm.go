package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/rules"
)

var (
	npmScript   = rules.Get("install/npm-script")
	npmBuild    = rules.Get("install/npm-build")
	npmFetches  = rules.Get("install/npm-script-fetches")
	npmHides    = rules.Get("install/npm-script-hides")
	npmNotSaid  = rules.Get("install/npm-implicit-build")
	lifecycle   = []string{"preinstall", "install", "postinstall"} // in the order in which npm runs them for a dependency
	callsBuild  = pattern.New(`^\s*((npx\s+)?(node-gyp(-build)?|node-gyp-build-optional-packages|cmake-js|napi|prebuildify|node-pre-gyp|@mapbox/node-pre-gyp|pkg-prebuilds-verify)\b[^|;&]*)(\|\|\s*(node-gyp|npm run|exit 0|true|echo)\b[^|;&]*)*$`)
	callsGyp    = pattern.New(`gyp|prebuild|\bnapi\b|\bnpm (run|rebuild)\b`) // may end in node-gyp
	callsFetch  = pattern.New(`(?i)\b(curl|wget|invoke-webrequest|iwr|certutil|bitsadmin|fetch)\b.*https?://|https?://[^\s"']+.*\|\s*(ba|z|da)?sh\b|\b(curl|wget)\b[^|;&]*[|;&]`)
	callsHidden = pattern.New(`(?i)\b(node|python3?|perl|ruby|bash|sh|deno|bun)\s+(-e|-c|--eval|-p|--print|-r)\b.*(eval|atob|base64|fromcharcode|\\x[0-9a-f]{2}|child_process|https?\.|exec\(|unescape|decodeuricomponent)|powershell.*-e(nc|ncodedcommand)?\b|base64\s+(-d|--decode)`)
)

// packageJSON reports the scripts that npm runs when a package is installed.
func packageJSON(p *scan.Pass, f *scan.File, data []byte) error {
	var m struct{ Gypfile, Scripts json.RawMessage }
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), &m); err != nil {
		return fmt.Errorf("not looked at: package.json is not JSON: %w", err)
	}
	var scripts map[string]json.RawMessage
	if len(m.Scripts) > 0 && json.Unmarshal(m.Scripts, &scripts) != nil {
		p.Note(f.Path, "not looked at: scripts is not an object")
	}
	npmPurpose(p, f, data)
	ran, builds := false, false
	reading := newReading(p, f)
	reading.manifest, reading.scripts = data, scripts
	downloads := reading.downloads(data)
	tools := toolStages(downloads, f.Path)
	for _, stage := range lifecycle {
		var script string
		if raw, ok := scripts[stage]; ok && json.Unmarshal(raw, &script) != nil {
			p.Note(f.Path, "not looked at: scripts.%s is not a string", stage)
		}
		if strings.TrimSpace(script) == "" {
			continue
		}
		if stage != "postinstall" {
			ran = true
		}
		line := keyLine(data, "scripts", stage)
		for _, d := range downloads {
			if d.Stage == stage {
				reading.reportDownload(d, line)
			}
		}
		// A call of a tool is told by what it fetches, unless there is worse to tell.
		if kind := classify(script); kind == npmHides || kind == npmFetches || !slices.Contains(tools, stage) {
			p.Report(kind, finding.Finding{
				Description: fmt.Sprintf("npm runs the script %q when the package is installed: %s", stage, finding.NewEvidence("script", script).Value),
				Location:    finding.Location{Path: f.Path, Line: line, Symbol: "scripts." + stage},
				PURL:        f.Part.Label,
				Evidence:    append([]finding.Evidence{finding.NewEvidence("script", script)}, scriptFiles(p, f, script)...),
				Anchor:      stage,
			})
		}
		reading.command(script, "scripts."+stage, scripts, 0)
		builds = builds || callsGyp.MatchString(script)
	}
	if !hasFile(p, path.Join(path.Dir(f.Path), "binding.gyp")) {
		return nil
	}
	implicit := !ran && string(m.Gypfile) != "false"
	if implicit {
		p.Report(npmNotSaid, finding.Finding{
			Description: "The package has a binding.gyp and no install script of its own, so npm runs \"node-gyp rebuild\" when it is installed.",
			Location:    finding.Location{Path: f.Path, Line: 1, Symbol: "scripts.install"},
			PURL:        f.Part.Label,
			Evidence:    []finding.Evidence{finding.NewEvidence("script", "node-gyp rebuild")},
		})
	}
	if implicit || builds || reading.gyp {
		reading.bindingGyp()
	}
	return nil
}

// classify chooses the rule for a script: the most serious that fits.
func classify(script string) *rule.Rule {
	switch {
	case callsHidden.MatchString(script):
		return npmHides
	case callsFetch.MatchString(script):
		return npmFetches
	case callsBuild.MatchString(script):
		return npmBuild
	}
	return npmScript
}

var scriptFile = pattern.New(`\b(?:node|sh|bash|python3?|cmd /c)\s+((?:\./)?[\w@./-]+)`)

// scriptFiles returns the files of the package that a script runs, as far as
// they exist.
func scriptFiles(p *scan.Pass, f *scan.File, script string) []finding.Evidence {
	var out []finding.Evidence
	for _, m := range scriptFile.FindAllStringSubmatch(script, 5) {
		base := path.Join(path.Dir(f.Path), m[1])
		for _, name := range []string{base, base + ".js", base + ".cjs", base + ".mjs", path.Join(base, "index.js")} {
			if hasFile(p, name) {
				e := finding.NewEvidence("file", name)
				if !slices.ContainsFunc(out, func(o finding.Evidence) bool { return o.Value == e.Value }) {
					out = append(out, e)
				}
				break
			}
		}
	}
	return out
}

func hasFile(p *scan.Pass, name string) bool {
	info, err := fs.Stat(p.FS, name)
	return err == nil && info.Mode().IsRegular()
}

// keyLine returns the line of a key of an object below the top object of a
// JSON text, or 0.
func keyLine(data []byte, object, key string) int {
	dec := json.NewDecoder(bytes.NewReader(data))
	var at []string // keys of the objects around, "" for arrays
	wantKey := false
	for {
		tok, err := dec.Token()
		if err != nil {
			return 0
		}
		switch t := tok.(type) {
		case json.Delim:
			switch t {
			case '{':
				at = append(at, "")
				wantKey = true
				continue
			case '[':
				at = append(at, "[")
				wantKey = false
				continue
			}
			at = at[:len(at)-1]
		case string:
			if wantKey {
				at[len(at)-1] = t
				if len(at) == 2 && at[0] == object && t == key {
					return lineOf(data, int(dec.InputOffset()))
				}
				wantKey = false
				continue
			}
		}
		wantKey = len(at) > 0 && at[len(at)-1] != "["
	}
}
