package prebuilt

import (
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// Bounds on what is read of a script.
const (
	maxScript   = 1 << 20 // bytes
	maxLiterals = 4000    // strings that are looked at
	maxURLs     = 24      // addresses of one script
	maxURL      = 1000    // bytes of one
	maxVersion  = 256     // bytes of a version, as npm has it
)

// file reads a script of the package and what it loads.
func (r *resolver) file(name, fallback string, level int) {
	if r.open == nil || !isPath(name) || len(r.read) >= maxScripts {
		return
	}
	for _, suffix := range []string{"", ".js", ".cjs", ".mjs", "/index.js"} {
		at := path.Clean(name + suffix)
		data, ok := r.open(at)
		if !ok {
			continue
		}
		if !r.read[at] && len(data) <= maxScript {
			r.read[at] = true
			r.source(string(data), path.Dir(at), at, fallback, level)
		}
		return
	}
}

// isPath reports whether a name stays in the package.
func isPath(name string) bool {
	return name != "" && !path.IsAbs(name) && name != ".." && !strings.HasPrefix(name, "../")
}

var (
	loads     = pattern.New(`(?:\brequire\s*\(|\bimport\s*\(?|\bfrom|\bfork\s*\()\s*['"\x60](\.{1,2}/[^'"\x60\n]*)['"\x60]|__dirname\s*,\s*['"\x60]([^'"\x60\n]+\.[cm]?js)['"\x60]`)
	callsTool = pattern.New(`['"\x60](?:[\w@./\\-]*/)?(node-pre-gyp|prebuild-install|install-from-cache)(?:\.cmd)?(?:\s+([^'"\x60\n]*))?['"\x60]`)
	loadsTool = pattern.New(`\brequire\s*\(\s*['"\x60](prebuild-install)/(?:download|util|bin)(?:\.js)?['"\x60]`)
	callsNPM  = pattern.New("['\"`](?:npm|yarn|pnpm) +(?:install|i|add) +([^'\"`\\n]*)['\"`]")
	listed    = pattern.New(`['"\x60]([^'"\x60\n]*)['"\x60]`)
)

// source looks at the text of a script: for calls of the tools, for what it
// fetches itself, and for what it loads. dir is the folder that what it loads
// is relative to.
func (r *resolver) source(text, dir, file, fallback string, level int) {
	code := withoutComments(text, "//")
	for _, m := range callsTool.FindAllStringSubmatchIndex(code, 20) {
		c := call{file: file, fallback: fallback, line: lineOf(code, m[0])}
		if m[4] >= 0 {
			for _, command := range Commands(code[m[4]:m[5]]) {
				c.args = append(c.args, command.Words...)
				break
			}
		}
		if m[4] < 0 || len(c.args) == 0 {
			c.args = listBehind(code[m[1]:])
		}
		program := code[m[2]:m[3]]
		if program == "node-pre-gyp" && !slices.Contains(c.args, "install") && !requires(code, m[0]) {
			c.args = append(c.args, "install") // arguments that are put together elsewhere
		} else if requires(code, m[0]) {
			continue
		}
		r.tool(program, c)
	}
	if m := loadsTool.FindStringIndex(code); m != nil {
		r.tool("prebuild-install", call{file: file, fallback: fallback, line: lineOf(code, m[0])})
	}
	for _, m := range callsNPM.FindAllStringSubmatchIndex(code, 10) {
		var names []string
		for _, command := range Commands(code[m[2]:m[3]]) {
			for _, w := range command.Words {
				if !strings.HasPrefix(w, "-") {
					names = append(names, w)
				}
			}
			break
		}
		r.npmInstall(names, call{file: file, fallback: fallback, line: lineOf(code, m[0])})
	}
	r.add(r.fetches(Fetches(JavaScript, code), file, fallback))
	if level >= maxFollow {
		return
	}
	for _, m := range loads.FindAllStringSubmatch(code, maxScripts) {
		r.file(path.Join(dir, m[1]+m[2]), fallback, level+1)
	}
}

// lineOf returns the line, from one, of an offset.
func lineOf(code string, at int) int { return 1 + strings.Count(code[:at], "\n") }

// requires reports whether the string at an offset is the argument of require.
func requires(code string, at int) bool {
	before := strings.TrimRight(code[max(0, at-20):at], " \t")
	return strings.HasSuffix(before, "require(") || strings.HasSuffix(before, "require.resolve(") || strings.HasSuffix(before, "from")
}

// listBehind returns the strings of the list that follows an argument:
// , ['install', '--fallback-to-build'].
func listBehind(code string) []string {
	code = strings.TrimLeft(code[:min(len(code), 400)], " \t\r\n,")
	if !strings.HasPrefix(code, "[") {
		return nil
	}
	list, _, _ := strings.Cut(code[1:], "]")
	var out []string
	for _, m := range listed.FindAllStringSubmatch(list, 50) {
		out = append(out, m[1])
	}
	return out
}

// fetches turns what a script fetches into a download, an asset for each
// address and machine that it tells apart.
func (r *resolver) fetches(found Found, file, fallback string) *inventory.Download {
	if len(found.URLs) == 0 {
		return nil
	}
	d := &inventory.Download{Path: file, Line: found.Line, Resolver: Script, Fallback: fallback, Overrides: found.Variables, Pin: inventory.Unpinned}
	if found.Hash {
		d.Pin = inventory.PinnedScript
	}
	for _, address := range found.URLs {
		d.Assets = append(d.Assets, r.rows(func(t Target, n Node) (inventory.Asset, bool) {
			s := machine(r.expand(address), t, n)
			return inventory.Asset{URL: s, Open: strings.Contains(s, "${")}, true
		})...)
	}
	return r.judge(d)
}

// OfScript returns what a script fetches by itself, or nil if its text names no
// address. The manifest, which may be missing, says whose the package is.
func OfScript(manifest []byte, l Language, code, file string) *inventory.Download {
	m, err := readManifest(manifest)
	if err != nil {
		m = &manifestOfNobody
	}
	r := &resolver{manifest: m, opt: Options{Targets: Targets, Nodes: Nodes}}
	return r.fetches(Fetches(l, code), file, "")
}

var manifestOfNobody manifest

var ownVersion = pattern.New(`\$\{\s*(?:(?:\w*[pP](?:ac)?k(?:a)?g(?:e)?\w*|\w*[mM]anifest\w*|require\([^)}]*package(?:\.json)?['"]\))\.version|process\.env\.npm_package_version|process\.env\[['"]npm_package_version['"]\])\s*\}`)

// expand fills in the version of the package where a script names it.
func (r *resolver) expand(address string) string {
	version := r.text("version")
	return ownVersion.ReplaceAllLiteralString(address, version[:min(len(version), maxVersion)])
}

var (
	namesPlatform = pattern.New(`\$\{\s*(?:(?:process|os)\.platform(?:\(\))?|platform\(\))\s*\}`)
	namesArch     = pattern.New(`\$\{\s*(?:(?:process|os)\.arch(?:\(\))?|arch\(\))\s*\}`)
	namesABI      = pattern.New(`\$\{\s*process\.versions\.modules\s*\}`)
)

// machine fills in what Node says of the machine.
func machine(address string, t Target, n Node) string {
	address = namesPlatform.ReplaceAllLiteralString(address, t.Platform)
	address = namesArch.ReplaceAllLiteralString(address, t.Arch)
	return namesABI.ReplaceAllLiteralString(address, n.ABI)
}

// A Language is what a script is written in.
type Language int

// The languages.
const (
	JavaScript Language = iota
	Python
	Shell
)

// Found is what a script fetches, by its text.
type Found struct {
	URLs      []string // with ${…} or {…} for what the text does not say
	Line      int      // of the first, from one
	Hash      bool     // it makes a hash and compares something near
	Variables []string // of the environment, that stand before an address as its alternative
}

var (
	getsJS = pattern.New(`(?:\brequire\s*\(|\bfrom|\bimport\s*\(?)\s*['"\x60](?:node:)?(?:https?|http2|axios|got|request|request-promise(?:-native)?|node-fetch|cross-fetch|undici|needle|superagent|phin|bent|download|nugget|follow-redirects|make-fetch-happen|simple-get|minipass-fetch|@derhuerst/http-basic|http-basic|node-downloader-helper|nodejs-file-downloader|download-file|wget-improved|@electron/get)['"\x60]|(?:^|[^.\w$])fetch\s*\(|\bglobalThis\.fetch\b|\bXMLHttpRequest\b|\b(?:curl|wget|Invoke-WebRequest|DownloadFile)\b`)
	getsPy = pattern.New(`\burllib\.request\b|\burllib2\b|\burlopen\s*\(|\burlretrieve\s*\(|\b(?:import|from)\s+(?:requests|httpx|aiohttp|urllib3|wget|pycurl)\b|\brequests\.(?:get|post|request)\s*\(|\bhttp\.client\b|\b(?:curl|wget)\b`)
	getsSh = pattern.New(`(?m)(?:^|[\s;&|($"'\x60])(?:curl|wget|aria2c)\s`)

	hashJS = pattern.New(`\bcreateHash\s*\(\s*['"\x60](?:sha|SHA|blake|ripemd|RSA-SHA)|\bssri\b|\bsubtle\.digest\b|\bverifyArtifactSignature\b|\bchecksums?\s*:`)
	hashPy = pattern.New(`\bhashlib\.(?:sha|blake|new)|\bsha(?:256|512|1)\s*\(`)
	hashSh = pattern.New(`\b(?:sha(?:1|256|384|512)sum|shasum)\b[^\n|]*(?:-c|--check|-\s)|\bgpg\b[^\n]*--verify`)

	compares = pattern.New(`[!=]==?|\.equals\s*\(|\btimingSafeEqual\b|\bcompare_digest\b|\bassert\b|\bchecksums?\s*:|\bssri\b`)
)

// Fetches returns the addresses in a script that has a way to fetch something:
// its strings that begin with http:// or https://, with the constants of the
// same file put in where the text joins them. Comments should have been taken
// out.
func Fetches(l Language, code string) Found {
	gets, hash := getsJS, hashJS
	switch l {
	case Python:
		gets, hash = getsPy, hashPy
	case Shell:
		gets, hash = getsSh, hashSh
	}
	if len(code) > maxScript || !gets.MatchString(code) {
		return Found{}
	}
	var out Found
	constants, offsets := constantsOf(l, code), map[string]int{}
	for _, s := range addresses(l, code) {
		address := s.text
		if len(address) > maxURL {
			continue
		}
		for range 4 { // constants that are made of constants
			next := fill(l, address, constants)
			if next == address || len(next) > maxURL {
				break // nothing more to put in, or constants that make each other long
			}
			address = next
		}
		if !fetchable(address) || slices.Contains(out.URLs, address) {
			continue
		}
		if len(out.URLs) == maxURLs {
			break
		}
		out.URLs = append(out.URLs, address)
		offsets[address] = s.at
		out.Variables = append(out.Variables, variablesBefore(code, s.at)...)
	}
	if out.URLs = longest(out.URLs); len(out.URLs) > 0 {
		out.Line = lineOf(code, offsets[out.URLs[0]])
	}
	out.Variables = distinct(out.Variables)
	for _, m := range hash.FindAllStringIndex(code, 20) {
		if l == Shell || compares.MatchString(code[m[0]:min(len(code), m[1]+1500)]) {
			out.Hash = true
			break
		}
	}
	return out
}

// A literal is a string of a script, with what is joined to it.
type literal struct {
	text string
	at   int // offset
}

var (
	httpString  = pattern.New("(?i)['\"](https?://[^'\"`\\s]{2,})['\"]|`(https?://(?:\\$\\{[^}`\\n]*\\}|[^`\\s$]|\\$)+)`")
	joinedStart = pattern.New("([A-Za-z_$][\\w$]*)\\s*\\+\\s*['\"`]|`(\\$\\{\\s*[A-Za-z_$][\\w$.]*\\s*\\}[^`\\s]*)`|\\bf(?:\"|')(\\{[A-Za-z_]\\w*\\}[^\"'\\s]*)[\"']")
	shellURL    = pattern.New(`https?://[^\s"'\x60;|&)<>]+`)
	behindPlus  = pattern.New("^\\s*\\+\\s*(?:(['\"`])([^'\"`\\n]*)['\"`]|([A-Za-z_$][\\w$.]*(?:\\(\\))?))")
	assignment  = pattern.New(`(?m)(?:^|[\s;,{(])(?:const\s+|let\s+|var\s+)?([A-Za-z_$][\w$]*)\s*=\s*([^=\n][^\n;]*)`)
	asDefault   = pattern.New(`^[^"'\x60]*(?:\|\||\?\?|,|\bor\b)\s*`)
	nodeSays    = pattern.New(`^(?:.*(?:\|\||\?\?)\s*)?((?:process|os)\.(?:platform|arch)(?:\(\))?|process\.versions\.modules|[\w.]*\.version|require\([^)]*package(?:\.json)?['"]\)\.version|process\.env\.npm_package_version)\s*,?\s*$`)
	placeholder = pattern.New(`\$\{\s*([A-Za-z_$][\w$]*)\s*\}`)
	pyHolder    = pattern.New(`\{([A-Za-z_]\w*)\}`)
	shHolder    = pattern.New(`\$\{?([A-Za-z_]\w*)\}?`)
	environment = pattern.New(`(?:process\.env\.(\w+)|process\.env\[['"](\w+)['"]\]|os\.environ(?:\.get)?[\[(]\s*['"](\w+)['"])`)
)

// addresses returns the strings of a script that are or begin with an address,
// and those that begin with a name.
func addresses(l Language, code string) []literal {
	var out []literal
	if l == Shell {
		for _, m := range shellURL.FindAllStringIndex(code, maxLiterals) {
			out = append(out, literal{code[m[0]:m[1]], m[0]})
		}
		return out
	}
	for _, m := range httpString.FindAllStringSubmatchIndex(code, maxLiterals) {
		if m[2] < 0 {
			m[2], m[3] = m[4], m[5]
		}
		rest := joined(code[m[1]:])
		if l == Python && rest == "" {
			rest = adjacent(code[m[1]:])
		}
		out = append(out, literal{code[m[2]:m[3]] + rest, m[0]})
	}
	for _, m := range joinedStart.FindAllStringSubmatchIndex(code, maxLiterals) {
		switch {
		case m[2] >= 0: // name + 'text'
			out = append(out, literal{"${" + code[m[2]:m[3]] + "}" + joined(code[m[3]:]), m[0]})
		case m[4] >= 0:
			out = append(out, literal{code[m[4]:m[5]] + joined(code[m[1]:]), m[0]})
		case m[6] >= 0 && l == Python:
			out = append(out, literal{code[m[6]:m[7]] + joined(code[m[1]:]), m[0]})
		}
	}
	slices.SortStableFunc(out, func(a, b literal) int { return a.at - b.at })
	return out
}

// joined returns what "+" adds to a string: texts, and names in braces.
func joined(code string) string {
	var out strings.Builder
	for range 20 {
		m := behindPlus.FindStringSubmatch(code[:min(len(code), 500)])
		if m == nil {
			break
		}
		if m[1] != "" {
			out.WriteString(m[2])
		} else {
			out.WriteString("${" + m[3] + "}")
		}
		code = code[len(m[0]):]
	}
	return out.String()
}

// adjacent returns the strings that stand behind a string of Python, which are
// joined to it (The Python Language Reference, 2.4.2 String literal
// concatenation).
func adjacent(code string) string {
	var out strings.Builder
	code = code[:min(len(code), maxURL)]
	for range 10 {
		m := behindSpace.FindStringSubmatch(code)
		if m == nil {
			break
		}
		out.WriteString(m[1] + m[2])
		code = code[len(m[0]):]
	}
	return out.String()
}

var behindSpace = pattern.New(`^\s+[frbuFRBU]{0,2}(?:'([^'\n]*)'|"([^"\n]*)")`)

// constantsOf returns the names of a script that stand for an address, a short
// text, or what Node says of the machine. A name that is given two values
// stands for none.
func constantsOf(l Language, code string) map[string]string {
	out := map[string]string{}
	for _, m := range assignment.FindAllStringSubmatchIndex(code, maxLiterals) {
		name, value := code[m[2]:m[3]], strings.TrimSpace(code[m[4]:m[5]])
		if value == "(" { // what it holds stands on the next lines
			value, _, _ = strings.Cut(code[m[5]:min(len(code), m[5]+maxURL)], ")")
			value = strings.TrimSpace(value)
		}
		if says := nodeSays.FindStringSubmatch(value); says != nil && l == JavaScript {
			value = "${" + says[1] + "}"
		} else {
			value = constant(value)
		}
		if value == "" || len(value) > maxURL {
			continue
		}
		if have, ok := out[name]; ok && have != value {
			value = ""
		}
		out[name] = value
	}
	return out
}

// constant returns the text that an expression stands for: a string, joined to
// others, that may be the alternative to something before it.
func constant(value string) string {
	if at := asDefault.FindString(value); at != "" && at != value {
		value = value[len(at):]
	}
	value = strings.TrimLeft(value, "(frb ")
	if value == "" {
		return ""
	}
	quote := value[0]
	if quote != '\'' && quote != '"' && quote != '`' {
		if m := identifierStart.FindStringSubmatch(value); m != nil {
			if rest := joined(value[len(m[0]):]); rest != "" {
				return "${" + m[0] + "}" + rest
			}
		}
		return ""
	}
	end := strings.IndexByte(value[1:], quote)
	if end < 0 || strings.ContainsAny(value[1:1+end], " \t") {
		return ""
	}
	return value[1:1+end] + joined(value[2+end:])
}

var identifierStart = pattern.New(`^[A-Za-z_$][\w$.]*`)

// fill puts constants in where an address names them.
func fill(l Language, address string, constants map[string]string) string {
	holder := placeholder
	switch {
	case l == Shell:
		holder = shHolder
	case l == Python && !placeholder.MatchString(address):
		holder = pyHolder
	}
	return holder.ReplaceAllStringFunc(address, func(found string) string {
		name := holder.FindStringSubmatch(found)[1]
		if value := constants[name]; value != "" && !strings.Contains(value, found) {
			return value
		}
		return found
	})
}

var (
	hostPart = pattern.New(`(?i)^https?://(?:[^/@]*@)?([^/:?#]+)`)
	project  = pattern.New(`(?i)^https?://(?:www\.)?(?:github|gitlab|bitbucket)\.\w+/[^/]+/[^/]+/?$`)
	signed   = pattern.New(`[?&](?:X-Amz-|response-content-disposition=)`) // runs out in minutes: an example
	document = pattern.New(`(?i)\.(?:html?|md|txt)(?:[?#]|$)|#[\w-]*$|/(?:issues|wiki|blob|discussions|pull|tree|docs?|documentation|licenses?)(?:/|$)|/releases/?$`)
)

// fetchable reports whether an address looks like one of a file: it has a host
// and something behind it, and is no page that a message sends people to.
func fetchable(address string) bool {
	m := hostPart.FindStringSubmatch(address)
	if m == nil || len(address) > maxURL || document.MatchString(address) || project.MatchString(address) || signed.MatchString(address) {
		return false
	}
	host := strings.ToLower(m[1])
	if host == "localhost" || strings.HasPrefix(host, "127.") || slices.Contains([]string{"example.com", "example.org", "example.net", "www.w3.org"}, host) || !strings.ContainsAny(host, ".$") {
		return false
	}
	rest := strings.Trim(address[len(m[0]):], "/")
	return rest != "" || strings.Contains(host, "$")
}

// longest leaves out addresses that are only the beginning of another one.
func longest(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool {
		return slices.ContainsFunc(list, func(o string) bool { return o != s && strings.HasPrefix(o, s) })
	})
}

// variablesBefore returns the variables of the environment that are used
// instead of the string at an offset if they are set.
func variablesBefore(code string, at int) []string {
	line := code[max(0, at-300):at]
	line = line[1+strings.LastIndexAny(line, ";\n"):]
	if !strings.Contains(line, "||") && !strings.Contains(line, "??") && !strings.Contains(line, "environ") {
		return nil
	}
	var out []string
	for _, m := range environment.FindAllStringSubmatch(line, 5) {
		out = append(out, m[1]+m[2]+m[3])
	}
	return out
}

// withoutComments blanks the comments of a text that begin a line, so that
// offsets and lines stay.
func withoutComments(text, mark string) string {
	var out strings.Builder
	out.Grow(len(text))
	block := false
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case block || mark == "//" && strings.HasPrefix(trimmed, "/*"):
			end := strings.Index(line, "*/")
			block = end < 0
			if block {
				end = len(strings.TrimRight(line, "\r\n"))
			} else {
				end += 2
			}
			out.WriteString(strings.Repeat(" ", end) + line[end:])
		case strings.HasPrefix(trimmed, mark):
			body := strings.TrimRight(line, "\r\n")
			out.WriteString(strings.Repeat(" ", len(body)) + line[len(body):])
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}
