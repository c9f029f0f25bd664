package install

import (
	"encoding/json"
	"path"
	"strings"
)

// words splits a command line as a shell does, as far as quotes go, into the
// simple commands of which it is made.
func words(line string) [][]string {
	var out [][]string
	var command []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	endWord := func() {
		if inWord {
			command = append(command, word.String())
		}
		word.Reset()
		inWord = false
	}
	endCommand := func() {
		endWord()
		if len(command) > 0 {
			out = append(out, command)
		}
		command = nil
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && i+1 < len(line) && quote != '\'' && strings.IndexByte("\"'\\ $`", line[i+1]) >= 0:
			i++
			word.WriteByte(line[i])
			inWord = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case strings.IndexByte(";&|\n()", c) >= 0:
			endCommand()
		case c == ' ' || c == '\t':
			endWord()
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	endCommand()
	return out
}

// maxCommands bounds the command lines of one package, in bytes: scripts can
// run each other thousands of times.
const maxCommands = 1 << 20

// command reads the files that a command line runs. scripts are those of
// package.json, which "npm run" names.
func (r *reading) command(line, by string, scripts map[string]json.RawMessage, depth int) {
	if depth > 4 || r.lines > maxCommands {
		return
	}
	if r.lines += len(line); r.lines > maxCommands {
		r.p.Note(r.file, "not all looked at: its scripts run each other, with more than %d MB of commands", maxCommands>>20)
		return
	}
	defer func(dir string) { r.dir = dir }(r.dir)
	for _, w := range words(line) {
		for len(w) > 0 && (strings.Contains(w[0], "=") || w[0] == "cross-env" || w[0] == "cross-env-shell" || w[0] == "npx" || w[0] == "exec" || w[0] == "env" || w[0] == "sudo" || w[0] == "nohup") {
			w = w[1:]
		}
		if len(w) == 0 {
			continue
		}
		program := path.Base(strings.ReplaceAll(w[0], `\`, "/"))
		switch l := interpreterOf(program); {
		case program == "cd" && len(w) > 1:
			if to := path.Join(r.dir, w[1]); r.contains(to) {
				r.dir = to
			}
		case l != nil || w[0] == ".":
			if l == nil {
				l = shell
			}
			r.interpreter(l, w[1:], by, scripts, depth)
		case program == "npm" || program == "yarn" || program == "pnpm":
			name := ""
			for _, arg := range w[1:] {
				if arg != "run" && arg != "run-script" && !strings.HasPrefix(arg, "-") {
					name = arg
					break
				}
			}
			for _, stage := range []string{"pre" + name, name, "post" + name} {
				var script string
				if name != "" && r.lines <= maxCommands && json.Unmarshal(scripts[stage], &script) == nil {
					r.command(script, by, scripts, depth+1)
				}
			}
		case strings.ContainsAny(w[0], "/.") && !strings.Contains(w[0], ":"):
			if s, ok := r.find(r.dir, w[0], shell); ok {
				s.lang = nil // what it is must stand in its name or first line
				r.run(s, by, 0)
			}
		}
	}
}

// interpreter reads what an interpreter runs with the given arguments.
func (r *reading) interpreter(l *language, args []string, by string, scripts map[string]json.RawMessage, depth int) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		name, value, _ := strings.Cut(arg, "=")
		if value == "" {
			value = next
		}
		switch {
		case l == javaScript && (name == "-r" || name == "--require" || name == "--import" || name == "--loader"):
			r.start(value, l, by)
			if name == arg {
				i++
			}
		case l == javaScript && (name == "-e" || name == "--eval" || name == "-p" || name == "--print" || name == "-pe"):
			for _, s := range r.loads(l, value, r.dir) {
				r.run(s, by, 0)
			}
			return
		case l == python && arg == "-m":
			r.start(strings.ReplaceAll(next, ".", "/"), l, by)
			return
		case l == python && arg == "-c":
			return
		case l == shell && strings.HasPrefix(arg, "-") && strings.HasSuffix(arg, "c"):
			r.command(next, by, scripts, depth+1)
			return
		case strings.HasPrefix(arg, "-"):
		case l == javaScript && arg == "run":
		default:
			r.start(arg, l, by)
			return
		}
	}
}

func (r *reading) start(name string, l *language, by string) {
	if s, ok := r.find(r.dir, name, l); ok {
		r.run(s, by, 0)
	}
}
