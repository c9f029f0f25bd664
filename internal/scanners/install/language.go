package install

import (
	"path"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// A language is what a script is written in, as far as its text is read: each
// pattern finds calls by how they are commonly written. A nil pattern finds
// nothing.
type language struct {
	comment   string           // what begins a comment at the start of a line
	blocks    bool             // comments between /* and */
	downloads *pattern.Pattern // names a way to fetch something
	connects  *pattern.Pattern // names another way to use the network
	keeps     *pattern.Pattern // writes to a file, or hands a stream on
	programs  *pattern.Pattern // starts a program
	evaluates *pattern.Pattern // runs text as code; ends behind the parenthesis
	decodes   *pattern.Pattern // makes text out of something unreadable
	secrets   *pattern.Pattern // takes in the whole environment
	makesText *pattern.Pattern // makes text of its arguments; ends behind the parenthesis
	follows   *pattern.Pattern // names another file of the package, in one of its groups
	suffixes  []string         // that may be left out of a file's name
}

var javaScript = &language{
	comment:   "//",
	blocks:    true,
	downloads: pattern.New(`(?:\brequire\s*\(|\bfrom|\bimport\s*\(?)\s*['"\x60](?:node:)?(?:https?|http2|axios|got|request|request-promise|node-fetch|cross-fetch|undici|needle|superagent|phin|bent|download|follow-redirects|make-fetch-happen|simple-get|minipass-fetch|request-promise-native|nugget|(?:@derhuerst/)?http-basic|node-downloader-helper|nodejs-file-downloader|download-file|wget-improved|@electron/get|@cypress/request)['"\x60]|(?:^|[^.\w$])fetch\s*\(|\bglobalThis\.fetch\b|\bXMLHttpRequest\b|['"\x60\s](?:curl|wget)(?:\.exe)?(?:['"\x60]|\s+['"\x60$h-])|\b(?:Invoke-WebRequest|DownloadString|DownloadFile)\b`),
	connects:  pattern.New(`(?:\brequire\s*\(|\bfrom|\bimport\s*\(?)\s*['"\x60](?:node:)?(?:net|tls|dgram|dns|dns/promises|ws|socket\.io-client)['"\x60]|\bnew\s+WebSocket\b`),
	keeps:     pattern.New(`\b(?:writeFile|writeFileSync|createWriteStream|appendFile|appendFileSync|writeSync|pipeline|pipe|outputFile|extract|downloadArtifact|copyFile|copyFileSync)\s*\(|\.write\s*\(\s*fd`),
	programs:  pattern.New(`['"\x60](?:node:)?child_process['"\x60]|(?:^|[^.\w$])(?:exec|execSync|spawn|spawnSync|execFile|execFileSync)\s*\(|\.(?:execSync|spawn|spawnSync|execFile|execFileSync)\s*\(|\b(?:cp|child_process|childProcess)\.(?:exec|fork)\s*\(|['"](?:execa|cross-spawn|shelljs)['"]|process\.binding\s*\(\s*['"]spawn_sync`),
	evaluates: pattern.New(`(?:^|[^.\w$])eval\s*\(|\(\s*0\s*,\s*eval\s*\)\s*\(|\b(?:globalThis|global|window)(?:\.eval|\[\s*['"]eval['"]\s*\])\s*\(|(?:^|[^.\w$])Function\s*\(|\.constructor\.constructor\s*\(|\b(?:runInThisContext|runInNewContext|runInContext|compileFunction|vm\.Script)\s*\(|\._compile\s*\(|\b(?:cp|child_process|childProcess)['"]?\s*\)?\s*\.exec\s*\(|(?:^|[^.\w$])(?:exec|execSync|spawn|spawnSync)\s*\(|\.(?:execSync|spawn|spawnSync)\s*\(`),
	decodes:   pattern.New(`\bBuffer(?:\.from)?\s*\(\s*['"\x60][A-Za-z0-9+/=_-]{60}|,\s*['"\x60](?:base64|base64url|hex)['"\x60]\s*\)|Buffer\.from\s*\(\s*\[[\d\s,x]{60}|\batob\s*\(|\bString(?:\.fromCharCode|\[\s*['"]fromCharCode['"]\s*\])|(?:^|[^.\w$])unescape\s*\(|(?:\\x[0-9a-fA-F]{2}){15}|(?:\\u00[0-9a-fA-F]{2}){10}|\b(?:inflateSync|gunzipSync|inflateRawSync|brotliDecompressSync)\s*\(\s*Buffer`),
	secrets:   pattern.New(`\bObject\.entries\s*\(\s*process\.env\s*\)|\.(?:write|send|end|post)\s*\(\s*process\.env\s*\)|\bdata\s*:\s*process\.env\s*[,}]`),
	makesText: pattern.New(`\bJSON\.stringify\s*\(|\butil\.inspect\s*\(`),
	follows:   pattern.New(`(?:\brequire(?:\.resolve)?\s*\(|\bimport\s*\(?|\bfrom|\bfork\s*\(|\bWorker\s*\()\s*['"\x60](\.{1,2}(?:/[^'"\x60\n]*)?)['"\x60]|__dirname\s*(?:,|\+)\s*['"\x60]/?([^'"\x60\n]+)['"\x60]|\b(?:fork|Worker)\s*\(\s*['"\x60]([^'"\x60\n]+)['"\x60]|['"\x60]([\w./-]+\.(?:[cm]?js|sh|py))['"\x60]\s*\]|\b(?:node|sh|bash|python3?)\s+((?:\./)?[\w./-]+\.(?:[cm]?js|sh|py))\b`),
	suffixes:  []string{".js", ".cjs", ".mjs", ".ts", "/index.js", "/index.cjs", "/index.mjs"},
}

var python = &language{
	comment:   "#",
	downloads: pattern.New(`\burllib\.request\b|\burllib2\b|\burlopen\s*\(|\burlretrieve\s*\(|\b(?:import|from)\s+(?:requests|httpx|aiohttp|urllib3|wget|pycurl)\b|\brequests\.(?:get|post|request)\s*\(|\bhttp\.client\b|['"\s](?:curl|wget)['"\s]`),
	connects:  pattern.New(`\bsocket\.(?:socket|create_connection|gethostbyname)\b|\b(?:requests|httpx)\.\w+\s*\(|\b(?:smtplib|ftplib|paramiko)\b`),
	keeps:     pattern.New(`\.write(?:_bytes|_text)?\s*\(|\bopen\s*\([^)\n]*['"][wax]b?\+?['"]|\burlretrieve\s*\(|\bcopyfileobj\b|\bextractall\b`),
	programs:  pattern.New(`\b(?:subprocess\.(?:run|call|check_call|check_output|Popen|getoutput)|os\.(?:system|popen|exec[lv]p?e?|spawn[lv]p?e?|startfile)|pty\.spawn)\s*\(`),
	evaluates: pattern.New(`(?:^|[^.\w])(?:exec|eval)\s*\(|\b(?:os\.(?:system|popen)|subprocess\.(?:run|call|check_call|check_output|Popen|getoutput))\s*\(`),
	decodes:   pattern.New(`\bb(?:64|32|85|16)decode\s*\(|\bunhexlify\s*\(|\bfromhex\s*\(|\bmarshal\.loads\s*\(|\bzlib\.decompress\s*\(|\bcodecs\.decode\s*\(|(?:\\x[0-9a-fA-F]{2}){15}`),
	secrets:   pattern.New(`\b(?:dict|str|repr|json\.dumps)\s*\((?:dict\s*\()?\s*os\.environ\s*\)|\bos\.environ\.items\s*\(\s*\)|\b(?:data|json|params)\s*=\s*(?:dict\s*\(\s*)?os\.environ\b`),
	follows:   pattern.New(`(?m)^\s*from\s+(\.?\w+)\s+import\b|^\s*import\s+(\w+)\s*$|['"]([\w./-]+\.(?:py|sh))['"]`),
	suffixes:  []string{".py", "/__init__.py", "/__main__.py"},
}

var shell = &language{
	comment:   "#",
	downloads: pattern.New(`(?m)(?:^|[\s;&|($"'\x60])(?:curl|wget|aria2c)\s`),
	connects:  pattern.New(`/dev/tcp/|(?m)(?:^|[\s;&|(])(?:nc|ncat|socat|scp|rsync|nslookup|dig)\s`),
	keeps:     pattern.New(`\s`), // what a shell script fetches, it keeps or runs
	evaluates: pattern.New(`\|\s*(?:sudo\s+)?(?:/bin/|/usr/bin/env\s+)?(?:ba|z|da|k)?sh\b|\beval\s|\b(?:ba|z|da)?sh\s+-c\s|\|\s*(?:node|python3?|perl)\b|\b(?:ba)?sh\s+<\(`),
	decodes:   pattern.New(`\bbase64\s+(?:-d|-D|--decode)|\bxxd\s+-r|\bopenssl\s+(?:enc\s+)?-?(?:base64|aes\S*)\s[^\n]*-d\b|(?:\\x[0-9a-fA-F]{2}){15}`),
	secrets:   pattern.New(`(?m)(?:^|[\s;&|($])(?:printenv|env)\s*(?:\||>|\)|$|;)|\$\(\s*env\s*\)`),
	follows:   pattern.New(`(?m)(?:^|[;&|]\s*)(?:source|\.|(?:ba|z|da)?sh|node|python3?|exec)\s+["']?(?:\$\(dirname[^)]*\)"?/|\$\{?\w+\}?"?/)?([\w./-]+)|(?:^|[;&|]\s*)(\./[\w./-]+)`),
	suffixes:  []string{".sh", ".js"},
}

// languageOf returns the language of a file by its name, else by its first
// line, else the one of the interpreter that was called for it.
func languageOf(name string, data []byte, called *language) *language {
	switch path.Ext(name) {
	case ".js", ".cjs", ".mjs", ".ts", ".mts", ".cts", ".jsx":
		return javaScript
	case ".py":
		return python
	case ".sh", ".bash":
		return shell
	}
	first, _, _ := strings.Cut(string(data[:min(len(data), 200)]), "\n")
	if interpreter, ok := strings.CutPrefix(first, "#!"); ok {
		for field := range strings.FieldsSeq(interpreter) {
			if l := interpreterOf(path.Base(field)); l != nil {
				return l
			}
		}
	}
	return called
}

// interpreterOf returns the language that a program runs, or nil.
func interpreterOf(program string) *language {
	program = strings.TrimSuffix(strings.ToLower(program), ".exe")
	switch strings.TrimRight(program, "0123456789.") {
	case "node", "nodejs", "bun", "deno", "tsx", "ts-node":
		return javaScript
	case "python", "py", "pypy":
		return python
	case "sh", "bash", "zsh", "dash", "ksh", "source":
		return shell
	}
	return nil
}

// code returns a text with its comments blanked, so that offsets and lines
// stay. Only comments that begin a line are taken out: finding the others needs
// a parser, and a wrong guess would hide code.
func (l *language) code(data []byte) string {
	out := strings.Builder{}
	out.Grow(len(data))
	inBlock, ticks := false, 0
	for line := range strings.Lines(string(data)) {
		trimmed := strings.TrimSpace(line)
		if l.blocks && !inBlock && ticks%2 == 0 && strings.HasPrefix(trimmed, "/*") {
			inBlock = true
		}
		if inBlock {
			end := strings.Index(line, "*/")
			if end < 0 {
				blank(&out, line)
				continue
			}
			inBlock = false
			blank(&out, line[:end+2])
			line = line[end+2:]
		} else if strings.HasPrefix(trimmed, l.comment) {
			blank(&out, line)
			continue
		}
		ticks += strings.Count(line, "`")
		out.WriteString(line)
	}
	return out.String()
}

func blank(out *strings.Builder, line string) {
	text := strings.TrimRight(line, "\r\n")
	out.WriteString(strings.Repeat(" ", len(text)))
	out.WriteString(line[len(text):])
}
