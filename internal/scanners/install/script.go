package install

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/rules"
)

var (
	scriptConnects   = rules.Get("install/script-connects")
	scriptDownloads  = rules.Get("install/script-downloads")
	scriptRuns       = rules.Get("install/script-runs-programs")
	scriptDecodes    = rules.Get("install/script-decodes-and-runs")
	scriptSecrets    = rules.Get("install/script-reads-secrets")
	scriptDropSite   = rules.Get("install/script-names-drop-site")
	scriptObfuscated = rules.Get("install/script-obfuscated")
)

// Bounds on what is read of the scripts of one package.
const (
	maxScripts     = 32      // files
	maxScript      = 1 << 20 // bytes of one
	maxScriptBytes = 4 << 20 // bytes of all
	maxFollow      = 2       // levels of files that a script loads
	maxMatches     = 2000    // of one pattern in one file
	nearby         = 300     // bytes between two calls that belong together
)

var (
	secretFile = pattern.New(`\.npmrc\b|\.ssh\b|\.aws\b|\.netrc\b|\.git-credentials\b|\.docker/config|\.kube\b|\.pypirc\b|\.gnupg\b|\bid_(?:rsa|ed25519)\b|/etc/shadow\b|\.config/gcloud|\bwallet\.dat\b|\bLogin Data\b`)
	readsFile  = pattern.New(`\breadFile(?:Sync)?\b|\bcreateReadStream\b|\breaddir(?:Sync)?\b|\bopen\s*\(|\bread_text\b|\bread_bytes\b|\bhomedir\b|\bexpanduser\b|\bPath\.home\b|\bHOME\b|\bUSERPROFILE\b|(?:\bcat|\bcp|\btar|\bzip|@|-T)\s*~?/?\S*\.`)
	dropSite   = pattern.New(`(?i)discord(?:app)?\.com/api/webhooks/|api\.telegram\.org/bot|hooks\.slack\.com/services/[A-Z0-9$%{]|(?:^|[^a-z0-9-])(?:webhook\.site|(?:[a-z0-9-]+\.)*(?:pipedream\.net|requestbin\.[a-z]+|oastify\.com|oast\.(?:fun|pro|live|site|online|me)|burpcollaborator\.net|interact\.sh|ngrok\.io|ngrok-free\.app|trycloudflare\.com))\b|https?://(?:[a-z0-9-]+\.)*(?:transfer\.sh|gofile\.io|file\.io|temp\.sh|dpaste\.com/api|pastebin\.com/(?:api|raw))`)
	wholeEnv   = pattern.New(`\bprocess\.env\s*(?:[,})]|$)`)
	hexName    = pattern.New(`\b_0x[0-9a-fA-F]{4,}\b`)
	escape     = pattern.New(`\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}`)
	assigns    = pattern.New(`([A-Za-z_$][\w$]*)\s*=(?:[^=>]|$)`)
	identifier = pattern.New(`[A-Za-z_$][\w$]*`)
)

// An act is something that a script does, and where.
type act struct {
	rule *rule.Rule
	at   int // offset in the script
}

// acts returns what a script does, by its text without comments: at most one
// act of a rule, the first.
func acts(l *language, code string) []act {
	var out []act
	add := func(r *rule.Rule, at int) {
		if at >= 0 {
			out = append(out, act{r, at})
		}
	}
	downloads, connects := first(l.downloads, code), first(l.connects, code)
	programs, evaluates := first(l.programs, code), first(l.evaluates, code)
	switch {
	case downloads >= 0 && (programs >= 0 || evaluates >= 0 || first(l.keeps, code) >= 0):
		add(scriptDownloads, downloads)
	case downloads >= 0:
		add(scriptConnects, downloads)
	default:
		add(scriptConnects, connects)
	}
	add(scriptRuns, programs)
	add(scriptDecodes, decodesAndRuns(l, code))
	if downloads >= 0 || connects >= 0 {
		add(scriptSecrets, readsSecrets(l, code))
	}
	add(scriptDropSite, first(dropSite, code))
	if l == javaScript {
		add(scriptObfuscated, obfuscated(code))
	}
	return out
}

// first returns the offset of the first match, or -1.
func first(p *pattern.Pattern, text string) int {
	if p == nil {
		return -1
	}
	at := p.FindStringIndex(text)
	if at == nil {
		return -1
	}
	// A pattern may begin with the character before the call.
	for at[0] < at[1]-1 && strings.IndexByte(" \t\r\n;", text[at[0]]) >= 0 {
		at[0]++
	}
	return at[0]
}

// decodesAndRuns returns where a script runs what it has decoded, or -1: the
// two calls lie on the same line or on adjacent ones, or the name that the
// decoded text was given stands in the call that runs it.
func decodesAndRuns(l *language, code string) int {
	runs := l.evaluates.FindAllStringIndex(code, maxMatches)
	if len(runs) == 0 {
		return -1
	}
	decodes := l.decodes.FindAllStringIndex(code, maxMatches)
	for _, r := range runs {
		i, _ := slices.BinarySearchFunc(decodes, r[0]-nearby, func(d []int, at int) int { return d[1] - at })
		for ; i < len(decodes) && decodes[i][0] <= r[1]+nearby; i++ {
			d := decodes[i]
			between := code[min(r[1], d[1]):max(min(r[1], d[1]), r[0], d[0])]
			if strings.Count(between, "\n") <= 1 {
				return skipSpace(code, r[0])
			}
		}
	}
	named := map[string]int{}
	for _, d := range decodes {
		before := code[max(0, d[0]-nearby):d[0]]
		before = before[1+strings.LastIndexAny(before, "\n;"):]
		for _, m := range assigns.FindAllStringSubmatch(before, 5) {
			named[m[1]] = d[0] // the padding of Base64 looks like one too
		}
	}
	return runsNamed(code, runs, named)
}

// runsNamed returns the first of the calls whose arguments name one of the
// given variables, or -1. One-letter names mean something only near their
// assignment: scripts that were made small use them again and again.
func runsNamed(code string, runs [][]int, named map[string]int) int {
	if len(named) == 0 {
		return -1
	}
	for _, r := range runs {
		args, _, _ := strings.Cut(code[r[1]:min(len(code), r[1]+nearby)], "\n")
		args, _, _ = strings.Cut(args, ";")
		for _, name := range identifier.FindAllString(args, 20) {
			at, ok := named[name]
			if ok && at < r[1] && (len(name) > 2 || r[0]-at < 10*nearby) {
				return skipSpace(code, r[0])
			}
		}
	}
	return -1
}

func skipSpace(code string, at int) int {
	return at + len(code[at:]) - len(strings.TrimLeft(code[at:], " \t\r\n;"))
}

// readsSecrets returns where a script takes in the whole environment, or names
// a file of credentials near something that reads, or -1.
func readsSecrets(l *language, code string) int {
	if at := first(l.secrets, code); at >= 0 {
		return at
	}
	if l.makesText != nil {
		for _, m := range l.makesText.FindAllStringIndex(code, maxMatches) {
			if wholeEnv.MatchString(balanced(code[m[1]:])) {
				return m[0]
			}
		}
	}
	for _, m := range secretFile.FindAllStringIndex(code, maxMatches) {
		from := strings.LastIndexByte(code[:m[0]], '\n')
		if from > 0 {
			from = strings.LastIndexByte(code[:from], '\n')
		}
		to := len(code)
		if n := strings.IndexByte(code[m[1]:], '\n'); n >= 0 {
			to = m[1] + n
		}
		if readsFile.MatchString(code[max(from+1, m[0]-nearby):min(to, m[1]+nearby)]) {
			return m[0]
		}
	}
	return -1
}

// obfuscated returns where a script begins to look like the output of a tool
// that hides what code does, or -1: many names like _0x3fa2, or a long line of
// escaped characters.
func obfuscated(code string) int {
	if names := hexName.FindAllStringIndex(code, 40); len(names) == 40 {
		return names[0][0]
	}
	at := 0
	for line := range strings.Lines(code) {
		if len(line) > 5000 {
			if m := escape.FindAllStringIndex(line, len(line)); len(m) >= 100 && len(m)*20 >= len(line) {
				return at + m[0][0]
			}
		}
		at += len(line)
	}
	return -1
}

// A reading is the files of one package that its installation runs: each is
// read once.
type reading struct {
	p     *scan.Pass
	purl  string
	file  string // its manifest
	root  string // folder of the package
	dir   string // folder in which the command runs that is read
	seen  map[string]bool
	bytes int64
	lines int // bytes of command lines, each as often as it is run
	full  bool
	gyp   bool // some script calls node-gyp

	manifest []byte // package.json; nil if there is none
	scripts  map[string]json.RawMessage
	counted  bool // held is known
	held     int  // add-ons for Node in the package
}

// script returns a script of package.json.
func (r *reading) script(name string) string {
	var s string
	if json.Unmarshal(r.scripts[name], &s) != nil {
		return ""
	}
	return s
}

func newReading(p *scan.Pass, f *scan.File) *reading {
	return &reading{p: p, purl: f.Part.Label, file: f.Path, root: path.Dir(f.Path), dir: path.Dir(f.Path), seen: map[string]bool{}}
}

// A step is a file that something runs, and the language in which the file is
// run if it does not say itself.
type step struct {
	path string
	lang *language
}

// run reads a file that by, such as "scripts.postinstall", runs, and the files
// that it loads, and reports what they do.
func (r *reading) run(s step, by string, level int) {
	if r.seen[s.path] || r.full {
		return
	}
	info, err := fs.Stat(r.p.FS, s.path)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	r.seen[s.path] = true
	if info.Size() > maxScript {
		r.p.Note(s.path, "not looked at: it runs at installation, and %d kB are more than the limit of %d kB for such a file", info.Size()>>10, maxScript>>10)
		return
	}
	if len(r.seen) > maxScripts || r.bytes+info.Size() > maxScriptBytes {
		r.full = true
		r.p.Note(r.file, "not all looked at: more than %d files or %d MB run at installation", maxScripts, maxScriptBytes>>20)
		return
	}
	data, err := fs.ReadFile(r.p.FS, s.path)
	if err != nil {
		r.p.Note(s.path, "not looked at: %v", err)
		return
	}
	r.bytes += info.Size()
	l := languageOf(s.path, data, s.lang)
	if l == nil {
		return
	}
	code := l.code(data)
	r.gyp = r.gyp || strings.Contains(code, "node-gyp")
	for _, a := range acts(l, code) {
		if a.rule == scriptDownloads {
			d := r.scriptDownload(l, code, s.path, by)
			reportScriptDownload(r.p, a, d, code, by)
			continue
		}
		reportAct(r.p, a, s.path, r.purl, code, by)
	}
	if level < maxFollow {
		for _, next := range r.loads(l, code, path.Dir(s.path)) {
			r.run(next, by, level+1)
		}
	}
}

// loads returns the files of the package that code in a folder loads or runs.
func (r *reading) loads(l *language, code, dir string) []step {
	var out []step
	for _, m := range l.follows.FindAllStringSubmatch(code, maxMatches) {
		name := ""
		for _, group := range m[1:] {
			name += group // one of them matched
		}
		if l == python && strings.HasPrefix(name, ".") {
			name = strings.TrimLeft(name, ".")
		}
		for _, from := range []string{dir, r.root} {
			if s, ok := r.find(from, name, l); ok {
				if !slices.Contains(out, s) {
					out = append(out, s)
				}
				break
			}
		}
		if len(out) >= maxScripts {
			break
		}
	}
	return out
}

// find returns the script that a name means in a folder of the package.
func (r *reading) find(dir, name string, l *language) (step, bool) {
	base := path.Join(dir, strings.ReplaceAll(name, `\`, "/"))
	if path.IsAbs(name) || !r.contains(base) {
		return step{}, false
	}
	if hasFile(r.p, base) {
		switch path.Ext(base) {
		case ".json", ".node", ".md", ".txt", ".wasm", ".exe", ".h":
			return step{}, false
		}
		return step{base, l}, true
	}
	for _, suffix := range l.suffixes {
		if hasFile(r.p, base+suffix) {
			return step{base + suffix, l}, true
		}
	}
	return step{}, false
}

// contains reports whether a path lies in the package.
func (r *reading) contains(name string) bool {
	return fs.ValidPath(name) && (r.root == "." || name == r.root || strings.HasPrefix(name, r.root+"/"))
}

// reportAct reports what a script does, with its line as evidence.
func reportAct(p *scan.Pass, a act, file, purl, code, by string) {
	p.Report(a.rule, actFinding(a, file, purl, code, by))
}

func actFinding(a act, file, purl, code, by string) finding.Finding {
	shown := excerpt(code, a.at)
	return finding.Finding{
		Description: fmt.Sprintf("%s runs %s when the package is installed. %s", by, file, a.rule.Text),
		Location:    finding.Location{Path: file, Line: 1 + strings.Count(code[:a.at], "\n")},
		PURL:        purl,
		Evidence:    []finding.Evidence{finding.NewEvidence("code", shown), finding.NewEvidence("file", file)},
		Anchor:      finding.Digest(shown),
	}
}

// reportScriptDownload reports a script that downloads, with the addresses that
// stand in it.
func reportScriptDownload(p *scan.Pass, a act, d *inventory.Download, code, by string) {
	f := actFinding(a, d.Path, d.Part, code, by)
	f.Severity = scriptSeverity(d)
	text := a.rule.Text
	if len(d.Assets) > 0 {
		text = fmt.Sprintf("It can fetch %s%s. %s", printable(d.Assets[0].URL), others(len(d.Assets)-1), guard(d))
		f.Evidence = append(f.Evidence, urlEvidence(d)...)
	} else if d.Pin == inventory.PinnedScript {
		text = guard(d)
	}
	f.Description = fmt.Sprintf("%s runs %s when the package is installed, which downloads. %s", by, d.Path, text)
	p.Report(a.rule, f)
}

// excerpt returns the line around an offset, or what of a long line is near.
func excerpt(code string, at int) string {
	from := 1 + strings.LastIndexByte(code[:at], '\n')
	to := len(code)
	if n := strings.IndexByte(code[at:], '\n'); n >= 0 {
		to = at + n
	}
	return strings.TrimSpace(strings.ToValidUTF8(code[max(from, at-100):min(to, at+180)], ""))
}
