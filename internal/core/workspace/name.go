package workspace

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Names come from archives and file systems that allow anything, and are shown
// as paths that io/fs, reports and people can rely on: valid UTF-8 without
// control characters, separated by slashes, never absolute, never upwards, and
// with "!/" only where an archive begins. What does not fit is written as the
// %XX of its bytes.

// quote returns one component of a name as it is shown.
func quote(name string) string {
	if plain(name) {
		return name
	}
	if name == "." || name == ".." {
		return strings.Repeat("%2E", len(name))
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRuneInString(name[i:])
		bad := r == utf8.RuneError && size == 1 || r < ' ' || r == 0x7f || r == '\\' || r == '/' ||
			r == '!' && i == len(name)-1
		if bad {
			fmt.Fprintf(&b, "%%%02X", name[i])
		} else {
			b.WriteString(name[i : i+size])
		}
		i += size
	}
	return b.String()
}

// plain reports whether quote would leave the name alone.
func plain(name string) bool {
	if name == "." || name == ".." || strings.HasSuffix(name, "!") {
		return false
	}
	ascii := true
	for i := range len(name) {
		switch c := name[i]; {
		case c < ' ' || c == 0x7f || c == '\\' || c == '/':
			return false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return ascii || utf8.ValidString(name)
}

// splitName returns the components of an archive member's name as they are
// shown, and what is wrong with it, if anything. An empty name gives none.
func splitName(raw string) (parts []string, wrong string) {
	if strings.HasPrefix(raw, "/") {
		wrong = "is absolute"
	}
	for part := range strings.SplitSeq(raw, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			wrong = "leads out of its folder"
		case len(parts) == 0 && len(part) >= 2 && part[1] == ':' && isLetter(part[0]):
			wrong = "starts with a drive letter"
			parts = append(parts, part[:1]+"%3A"+quote(part[2:]))
			continue
		case !plain(part) && wrong == "":
			wrong = "has characters that are shown as %XX"
		}
		if strings.Contains(part, `..\`) {
			wrong = "leads out of its folder"
		}
		parts = append(parts, quote(part))
	}
	return parts, wrong
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// leaves reports whether a link called name that points to target leads out
// of the tree both are in, going by the text alone.
func leaves(name, target string) bool {
	target = strings.ReplaceAll(target, `\`, "/")
	if strings.HasPrefix(target, "/") || len(target) >= 2 && target[1] == ':' && isLetter(target[0]) {
		return true
	}
	depth := -1 // the link's own name
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			depth++
		}
	}
	depth = max(depth, 0)
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

// brief shortens hostile text for a note and makes it printable.
func brief(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
