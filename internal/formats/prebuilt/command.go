package prebuilt

import (
	"slices"
	"strings"
)

// maxLine bounds a command line in bytes; longer ones are cut.
const maxLine = 64 << 10

// A Command is a simple command of a command line.
type Command struct {
	Words []string
	Op    string // what stands before it: "", ";", "&&", "||", "|" or "&"
}

// Commands splits a command line as a shell does, as far as quotes go, into
// the simple commands of which it is made (POSIX Shell Command Language, 2.3
// Token Recognition). Parentheses group and are left out.
func Commands(line string) []Command {
	line = line[:min(len(line), maxLine)]
	var out []Command
	var command []string
	var word strings.Builder
	inWord, quote, op := false, byte(0), ""
	endWord := func() {
		if inWord {
			command = append(command, word.String())
		}
		word.Reset()
		inWord = false
	}
	endCommand := func(next string) {
		endWord()
		if len(command) > 0 {
			out = append(out, Command{command, op})
			command, op = nil, ""
		}
		if next != "" {
			op = next
		}
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
		case c == '|' || c == '&':
			if i+1 < len(line) && line[i+1] == c {
				i++
				endCommand(string(c) + string(c))
			} else {
				endCommand(string(c))
			}
		case c == ';' || c == '\n':
			endCommand(";")
		case c == '(' || c == ')':
			endCommand("")
		case c == ' ' || c == '\t' || c == '\r':
			endWord()
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	endCommand("")
	return out
}

// fallbacks returns, for each command of a line, what runs if it fails: what
// stands behind the next "||", up to one more.
func fallbacks(list []Command) []string {
	out := make([]string, len(list))
	next := len(list) // where the "||" behind stands
	text := ""
	for i := range slices.Backward(list) {
		out[i] = text
		if list[i].Op == "||" {
			text = runs(list[i:next])
			next = i
		}
	}
	return out
}

// runs writes commands as one line, without what stands before the first.
func runs(list []Command) string {
	var out strings.Builder
	for n, c := range list {
		if n > 0 {
			out.WriteString(" " + c.Op + " ")
		}
		out.WriteString(strings.Join(c.Words, " "))
	}
	return out.String()
}

// wrappers are programs that run the rest of their words as a command.
var wrappers = []string{"cross-env", "cross-env-shell", "npx", "pnpx", "bunx", "exec", "env", "sudo", "nohup", "time"}

// unwrap takes off what stands before the program of a command: assignments,
// wrappers and their flags.
func unwrap(words []string) []string {
	wrapped := false
	for len(words) > 0 {
		name := words[0]
		switch {
		case strings.Contains(name, "=") && !strings.HasPrefix(name, "-"):
		case slices.Contains(wrappers, name):
			wrapped = true
		case wrapped && strings.HasPrefix(name, "-"):
		default:
			return words
		}
		words = words[1:]
	}
	return nil
}

// flags are the options of a command line: text, or "true" for one without a
// value.
type flags map[string]string

// minimist reads options as the package of that name does without being told
// any of them: a word behind an option that does not begin with a dash is its
// value. aliases maps short names to long ones.
func minimist(args []string, aliases map[string]string) flags {
	out := flags{}
	set := func(name, value string) {
		if long := aliases[name]; long != "" {
			name = long
		}
		out[name] = value
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			break
		}
		name, long := strings.CutPrefix(arg, "--")
		if !long {
			var short bool
			if name, short = strings.CutPrefix(arg, "-"); !short || name == "" {
				continue
			}
			if len(name) > 1 && name[1] != '=' { // -rnapi
				set(name[:1], name[1:])
				continue
			}
		}
		if key, value, ok := strings.Cut(name, "="); ok {
			set(key, value)
			continue
		}
		if no, ok := strings.CutPrefix(name, "no-"); ok && long {
			set(no, "false")
			continue
		}
		if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			i++
			set(name, args[i])
			continue
		}
		set(name, "true")
	}
	return out
}

// nopt reads options as the package of that name does for node-pre-gyp: one
// that is not declared has a value only behind "=". What is no option is
// returned in order.
func nopt(args []string) (opts flags, rest []string) {
	opts = flags{}
	valued := map[string]bool{"arch": true, "directory": true, "proxy": true, "loglevel": true}
	short := map[string]string{"-C": "directory", "-j": "jobs"}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		name, long := strings.CutPrefix(arg, "--")
		if s := short[arg]; s != "" {
			name, long = s, true
		}
		if !long {
			if !strings.HasPrefix(arg, "-") {
				rest = append(rest, arg)
			}
			continue
		}
		if key, value, ok := strings.Cut(name, "="); ok {
			opts[key] = value
			continue
		}
		if no, ok := strings.CutPrefix(name, "no-"); ok {
			opts[no] = "false"
			continue
		}
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		if valued[name] && next != "" || next == "true" || next == "false" {
			opts[name] = next
			i++
			continue
		}
		opts[name] = "true"
	}
	return opts, rest
}
