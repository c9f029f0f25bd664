package toolchain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/golang"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/rust"
)

const (
	maxTools = 20
	maxTool  = 120 // characters
)

// tools puts compiler notes into one form: name, version, and what else tells
// builds apart.
func tools(m *image.Image, g *golang.Info, r *rust.Info) []string {
	var out []string
	add := func(tool string) {
		tool = strings.ToValidUTF8(tool[:min(len(tool), maxTool)], "")
		if tool != "" && len(out) < maxTools && !slices.Contains(out, tool) {
			out = append(out, tool)
		}
	}
	if g != nil {
		switch {
		case g.Version != "":
			add(g.Version)
		case g.AtLeast != "":
			add(g.AtLeast + " or later")
		}
	}
	if r != nil {
		add(rustc(r))
	}
	add(visualStudio(m.Compilers))
	for _, line := range m.Compilers {
		add(tool(line))
	}
	return out
}

func rustc(r *rust.Info) string {
	const short = 9 // digits of a commit, as rustc prints them
	commit := r.Commit[:min(len(r.Commit), short)]
	switch {
	case r.Version != "" && commit != "":
		return fmt.Sprintf("rustc %s (%s)", r.Version, commit)
	case r.Version != "":
		return "rustc " + r.Version
	case commit != "":
		return fmt.Sprintf("rustc (%s)", commit)
	}
	return ""
}

// tool reads one compiler note; it returns "" for those that others say
// better.
func tool(line string) string {
	if rest, ok := strings.CutPrefix(line, "GCC: "); ok {
		// GCC: (Debian 12.2.0-14) 12.2.0
		if i := closing(rest); i >= 0 {
			rest = rest[i+1:]
		}
		if v := firstVersion(rest); v != "" {
			return "GCC " + v
		}
		return line
	}
	lower := strings.ToLower(line)
	for _, known := range []struct{ mark, name string }{
		{"clang version ", "clang"}, {"lld ", "LLD"}, {"mold ", "mold"}, {"ldc version ", "LDC"}, {"gnu fortran", "GNU Fortran"},
	} {
		if i := strings.Index(lower, known.mark); i >= 0 {
			if v := firstVersion(line[i+len(known.mark):]); v != "" {
				return known.name + " " + v
			}
		}
	}
	for _, skip := range []string{"rustc", "rich:", "msvc linker", "source version", "pdb:", "language ", "swift\x00"} {
		if strings.HasPrefix(lower, skip) {
			return ""
		}
	}
	if v, ok := strings.CutPrefix(line, "linker "); ok {
		return "linker " + v
	}
	if strings.Contains(lower, "rustc version") || lower == "swift" {
		return ""
	}
	return line
}

// closing returns the place of the parenthesis that closes the one s begins
// with, or -1.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
		if depth == 0 {
			return -1
		}
	}
	return -1
}

// firstVersion returns the first word of s that begins with a digit.
func firstVersion(s string) string {
	for word := range strings.FieldsSeq(s) {
		if word = strings.Trim(word, "(),"); word != "" && word[0] >= '0' && word[0] <= '9' {
			return word
		}
	}
	return ""
}

// visualStudio names Microsoft's tool set from the linker's version and the
// newest build of a C or C++ compiler in the Rich header.
func visualStudio(lines []string) string {
	major, minor, found := 0, 0, false
	build := 0
	for _, line := range lines {
		if v, ok := strings.CutPrefix(line, "MSVC linker "); ok {
			a, b, _ := strings.Cut(v, ".")
			var err1, err2 error
			major, err1 = strconv.Atoi(a)
			minor, err2 = strconv.Atoi(b)
			found = err1 == nil && err2 == nil
		}
		if strings.HasPrefix(line, "rich:") && (strings.Contains(line, "MSVC C++") || strings.HasSuffix(line, "MSVC C") || strings.Contains(line, "MSVC C ")) {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "rich:"), " ")
			if _, number, ok := strings.Cut(id, "."); ok {
				if n, err := strconv.Atoi(number); err == nil {
					build = max(build, n)
				}
			}
		}
	}
	if !found {
		return ""
	}
	name := fmt.Sprintf("MSVC %d.%02d", major, minor)
	// The compilers' builds have been those of the tool set since 2017.
	if build > 0 && major == 14 && minor >= 10 {
		name += "." + strconv.Itoa(build)
	}
	if year := studio(major, minor); year != "" {
		name += " (Visual Studio " + year + ")"
	}
	return name
}

func studio(major, minor int) string {
	switch {
	case major == 14 && minor < 10:
		return "2015"
	case major == 14 && minor < 20:
		return "2017"
	case major == 14 && minor < 30:
		return "2019"
	case major == 14 && minor < 50:
		return "2022"
	case major == 14:
		return "2026"
	}
	return map[int]string{12: "2013", 11: "2012", 10: "2010", 9: "2008", 8: "2005", 7: "2003", 6: "6.0"}[major]
}
