package nativedep

import (
	"bytes"
	"iter"
	"strconv"
	"strings"
)

// A line is one line of an indented text.
type line struct {
	number int      // from 1
	under  []string // the keys below which it stands, from the outermost; good until the next line
	key    string
	value  string // behind the key, without its quotes
}

// maxDepth is how deep an outline goes. Lock files need four; what lies deeper
// is passed over.
const maxDepth = 16

// outline yields the lines of an indented text, each with the keys that it
// stands under. It is as much of YAML 1.2 as package managers write: maps by
// indentation, with keys and values on a line. It never looks back, so that no
// input takes it longer than its length.
func outline(data []byte, cut func(text string) (key, value string)) iter.Seq[line] {
	return func(yield func(line) bool) {
		var keys []string
		var indents []int
		for number := 1; len(data) > 0; number++ {
			raw, rest, _ := bytes.Cut(data, []byte("\n"))
			data = rest
			trimmed := bytes.TrimLeft(raw, " ")
			indent := len(raw) - len(trimmed)
			text := strings.TrimRight(string(trimmed[:min(len(trimmed), maxLine)]), " \r")
			if text == "" || text[0] == '#' || text == ":" {
				continue
			}
			if strings.HasPrefix(text, ": ") { // what belongs to the "? key" above
				indent, text = indent+2, strings.TrimLeft(text[2:], " ")
			}
			for len(indents) > 0 && indents[len(indents)-1] >= indent {
				keys, indents = keys[:len(keys)-1], indents[:len(indents)-1]
			}
			if strings.HasPrefix(text, "- ") || text == "-" || text == "---" {
				continue // an element of a list, or a document
			}
			l := line{number: number, under: keys}
			l.key, l.value = cut(text)
			if !yield(l) {
				return
			}
			if len(keys) < maxDepth {
				keys, indents = append(keys, l.key), append(indents, indent)
			}
		}
	}
}

// maxLine is how much of a line is read, in bytes. Keys of yarn name every range
// that is asked for, and those of pnpm every peer.
const maxLine = 64 << 10

// cutYAML cuts a line into its key and value.
func cutYAML(text string) (key, value string) {
	text = strings.TrimPrefix(text, "? ") // a key that is too long to be followed by its value
	if key, rest, ok := cutQuoted(text); ok {
		rest = strings.TrimSpace(strings.TrimPrefix(rest, ":"))
		return key, unquote(rest)
	}
	if key, ok := strings.CutSuffix(text, ":"); ok && !strings.Contains(key, ": ") {
		return key, ""
	}
	key, value, _ = strings.Cut(text, ": ")
	return key, unquote(strings.TrimSpace(value))
}

// cutClassic cuts a line of yarn's own format of old: key "value".
func cutClassic(text string) (key, value string) {
	if head, ok := strings.CutSuffix(text, ":"); ok {
		return head, ""
	}
	if key, rest, ok := cutQuoted(text); ok {
		return key, unquote(strings.TrimSpace(rest))
	}
	key, value, _ = strings.Cut(text, " ")
	return key, unquote(strings.TrimSpace(value))
}

// cutQuoted cuts a quoted text off the beginning of a line.
func cutQuoted(text string) (inside, rest string, ok bool) {
	if text == "" || text[0] != '"' && text[0] != '\'' {
		return "", text, false
	}
	for i := 1; i < len(text); i++ {
		switch {
		case text[0] == '"' && text[i] == '\\':
			i++
		case text[0] == '\'' && strings.HasPrefix(text[i:], "''"):
			i++
		case text[i] == text[0]:
			return unescape(text[:i+1]), text[i+1:], true
		}
	}
	return "", text, false
}

// unquote takes the quotes off a value that has some.
func unquote(value string) string {
	if inside, _, ok := cutQuoted(value); ok {
		return inside
	}
	return value
}

// unescape reads a text with its quotes.
func unescape(quoted string) string {
	inside := quoted[1 : len(quoted)-1]
	if quoted[0] == '\'' {
		return strings.ReplaceAll(inside, "''", "'")
	}
	if plain, err := strconv.Unquote(quoted); err == nil {
		return plain
	}
	return inside
}
