package install

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/rules"
)

var gypCommand = rules.Get("install/gyp-command")

const maxGypCommands = 50 // of one package

var (
	gypExpands = pattern.New(`[<>^]!@?(?:pymod_do_main)?\(`)
	gypAction  = pattern.New(`['"]action['"]\s*:\s*\[`)
	gypString  = pattern.New(`'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)"`)
	gypInclude = pattern.New(`['"]([\w./-]+\.gypi)['"]`)
	gypEscape  = pattern.New(`__(?:class|base|bases|subclasses|globals|builtins|import|mro)__`)
	gypUsual   = pattern.New(`^\s*(?:\S*/)?(?:node|nodejs)\s+(?:-p|-e|-pe|--print|--eval)\s*["']?\s*(?:console\.log\(|process\.stdout\.write\()?\s*(?:(?:require\(\s*["'\x60]?[\w@./-]+["'\x60]?\s*\)|path|process)(?:\.\w+|\[\d+\]|\(\s*\\?["']?[\w./@-]*\\?["']?\s*\))*[\s+|]*)+\)?\s*;?\s*["']?\s*$|^\s*(?:\S*/)?(?:pkg-config|pkgconf)\b[^|;&\x60$]*(?:\|\|\s*(?:true|echo)\b[^|;&\x60$]*)?$|node_modules/\.bin/[^|;&\x60$]*$`)
	gypScript  = pattern.New(`^\s*(?:\S*/)?(?:node|python[23]?|<\(python\)|<\(node\)|<\(PYTHON\))\s+(?:-\w\s+)?["']?(?:<\(module_root_dir\)/|<\(PRODUCT_DIR\)/)?([\w@./-]+)["']?(?:[^|;&\x60$]*)$`)
	pipesShell = pattern.New(`\|\s*(?:sudo\s+)?(?:/bin/)?(?:ba|z|da|k)?sh\b|\|\s*(?:node|python3?|perl)\b`)
	fetchTool  = pattern.New(`(?i)(?:^|[\s"'(;&|])(?:curl|wget|invoke-webrequest|iwr|bitsadmin)(?:\.exe)?\s|\bcertutil\b.*-urlcache|\bDownload(?:String|File)\b`)
)

// A gypCall is a command that gyp runs, and where it stands.
type gypCall struct {
	command string
	at      int
}

// gypCalls returns the commands in a .gyp or .gypi file, which are Python
// literals: expansions <!(…) and <!@(…), which run while the file is read, and
// actions, which run with the build (GYP Input Format Reference, Command
// Expansions; GYP User Documentation, Actions).
func gypCalls(text string) []gypCall {
	var out []gypCall
	for _, m := range gypExpands.FindAllStringIndex(text, maxMatches) {
		out = append(out, gypCall{strings.NewReplacer(`\"`, `"`, `\'`, `'`, `\\`, `\`).Replace(balanced(text[m[1]:])), m[0]})
	}
	for _, m := range gypAction.FindAllStringIndex(text, maxMatches) {
		// The list ends at the first bracket that no string holds.
		rest := text[m[1]:min(len(text), m[1]+4096)]
		var list []string
		at := 0
		for _, s := range gypString.FindAllStringSubmatchIndex(rest, 200) {
			if strings.Contains(rest[at:max(at, s[0])], "]") {
				break
			}
			list = append(list, strings.Trim(rest[s[0]:s[1]], `'"`))
			at = s[1]
		}
		if len(list) > 0 {
			out = append(out, gypCall{strings.Join(list, " "), m[0]})
		}
	}
	for _, m := range gypEscape.FindAllStringIndex(text, 1) {
		out = append(out, gypCall{excerpt(text, m[0]), m[0]})
	}
	return out
}

// balanced returns the text up to the parenthesis that closes one before it.
func balanced(text string) string {
	text = text[:min(len(text), 4096)]
	open := 1
	for i := range len(text) {
		switch text[i] {
		case '(':
			open++
		case ')':
			if open--; open == 0 {
				return text[:i]
			}
		}
	}
	return text
}

// bindingGyp reports the commands of a binding.gyp and of the files that it
// includes, and reads the scripts that they run.
func (r *reading) bindingGyp() {
	files := []string{path.Join(r.root, "binding.gyp")}
	reported := map[string]bool{}
	for i := 0; i < len(files) && i < 8; i++ {
		file := files[i]
		info, err := fs.Stat(r.p.FS, file)
		if err != nil {
			continue
		}
		if info.Size() > maxScript {
			r.p.Note(file, "not looked at: it can run commands at installation, and %d kB are more than the limit of %d kB for such a file", info.Size()>>10, maxScript>>10)
			continue
		}
		data, err := fs.ReadFile(r.p.FS, file)
		if err != nil {
			r.p.Note(file, "not looked at: %v", err)
			continue
		}
		text := python.code(data) // gyp files have Python's comments
		for _, call := range gypCalls(text) {
			if reported[call.command] || strings.TrimSpace(call.command) == "" {
				continue
			}
			if len(reported) >= maxGypCommands {
				r.p.Note(file, "not all looked at: more than %d commands", maxGypCommands)
				return
			}
			reported[call.command] = true
			r.reportGyp(file, text, call)
		}
		for _, m := range gypInclude.FindAllStringSubmatch(text, 20) {
			next := path.Join(path.Dir(file), m[1])
			if r.contains(next) && !slices.Contains(files, next) {
				files = append(files, next)
			}
		}
	}
}

func (r *reading) reportGyp(file, text string, call gypCall) {
	severity := finding.Low
	switch {
	case callsHidden.MatchString(call.command) && !gypUsual.MatchString(call.command),
		callsFetch.MatchString(call.command), fetchTool.MatchString(call.command),
		pipesShell.MatchString(call.command), gypEscape.MatchString(call.command):
		severity = finding.High
	case gypUsual.MatchString(call.command), r.isOwnScript(call.command):
		severity = finding.Info
	}
	shown := finding.NewEvidence("code", strings.TrimSpace(call.command))
	r.p.Report(gypCommand, finding.Finding{
		Severity:    severity,
		Description: fmt.Sprintf("node-gyp runs a command of %s when it builds the package: %s", path.Base(file), shown.Value),
		Location:    finding.Location{Path: file, Line: 1 + strings.Count(text[:call.at], "\n")},
		PURL:        r.purl,
		Evidence:    []finding.Evidence{shown, finding.NewEvidence("file", file)},
		Anchor:      finding.Digest(call.command),
	})
	r.command(strings.NewReplacer("<(module_root_dir)/", "", "<(python)", "python", "<(PYTHON)", "python", "<(node)", "node").Replace(call.command), path.Base(file), nil, 0)
}

// isOwnScript reports whether a command runs one script of the package.
func (r *reading) isOwnScript(command string) bool {
	m := gypScript.FindStringSubmatch(command)
	if m == nil {
		return false
	}
	for _, l := range []*language{javaScript, python} {
		if _, ok := r.find(r.root, m[1], l); ok {
			return true
		}
	}
	return false
}
