package native

import (
	"strconv"
	"strings"

	"github.com/ianlancetaylor/demangle"

	"github.com/loupe-sec/loupe/internal/formats/native/rust"
)

const (
	maxMangled   = 4096 // characters
	maxDemangled = 12   // 4096 characters, as a power of two
)

// Demangle returns a symbol's name as its source has it: of C++ in the Itanium
// ABI's form, of Rust in both forms, of D and Microsoft's C++ as far as the
// qualified name goes. Any other name, Swift's among them, is returned as it
// stands.
func Demangle(name string) (out string) {
	if len(name) < 4 || len(name) > maxMangled {
		return name
	}
	defer func() {
		if recover() != nil { // a name is hostile input like any other
			out = name
		}
	}()
	switch {
	case strings.HasPrefix(name, "_Z"), strings.HasPrefix(name, "__Z"), strings.HasPrefix(name, "_R"), strings.HasPrefix(name, "__R"):
		mangled := name
		if name[1] == '_' {
			mangled = name[1:]
		}
		options := []demangle.Option{demangle.NoClones, demangle.MaxLength(maxDemangled)}
		if !rust.Mangled(mangled) {
			options = append(options, demangle.NoRust)
		}
		if s, err := demangle.ToString(mangled, options...); err == nil && s != "" {
			return s
		}
	case strings.HasPrefix(name, "_D"):
		return dName(name)
	case strings.HasPrefix(name, "?"):
		return microsoftName(name)
	}
	return name
}

// dName reads the qualified name at the start of a mangled name of D: each
// part with its length in front ("D Language Specification", Application Binary
// Interface, Name Mangling). What a part refers back to is not resolved.
func dName(name string) string {
	rest := name[len("_D"):]
	var parts []string
	for len(rest) > 0 && rest[0] >= '1' && rest[0] <= '9' {
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || n > len(rest)-digits {
			return name
		}
		part := rest[digits : digits+n]
		if strings.HasPrefix(part, "__T") || !identifier(part) {
			return name // a template
		}
		parts = append(parts, part)
		rest = rest[digits+n:]
	}
	if len(parts) == 0 || len(rest) == 0 {
		return name
	}
	return strings.Join(parts, ".")
}

func identifier(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// operators are Microsoft's codes for special names, without constructors and
// destructors, which take the name of their class.
var operators = map[string]string{
	"2": "operator new", "3": "operator delete", "4": "operator=", "5": "operator>>", "6": "operator<<", "7": "operator!", "8": "operator==", "9": "operator!=",
	"A": "operator[]", "C": "operator->", "D": "operator*", "E": "operator++", "F": "operator--", "G": "operator-", "H": "operator+", "I": "operator&",
	"K": "operator/", "L": "operator%", "M": "operator<", "N": "operator<=", "O": "operator>", "P": "operator>=", "Q": "operator,", "R": "operator()",
	"S": "operator~", "T": "operator^", "U": "operator|", "V": "operator&&", "W": "operator||", "X": "operator*=", "Y": "operator+=", "Z": "operator-=",
	"_0": "operator/=", "_1": "operator%=", "_2": "operator>>=", "_3": "operator<<=", "_4": "operator&=", "_5": "operator|=", "_6": "operator^=",
	"_7": "`vftable'", "_8": "`vbtable'", "_D": "`vbase destructor'", "_E": "`vector deleting destructor'", "_G": "`scalar deleting destructor'",
	"_R4": "`RTTI Complete Object Locator'", "_R3": "`RTTI Class Hierarchy Descriptor'", "_R2": "`RTTI Base Class Array'", "_U": "operator new[]", "_V": "operator delete[]",
}

// microsoftName reads the qualified name of Microsoft's form: ?name@inner@outer@@
// and the type, which is left out. Names with template arguments are returned
// as they stand. A digit stands for an earlier part.
func microsoftName(name string) string {
	rest := name[1:]
	special := ""
	if code, ok := strings.CutPrefix(rest, "?"); ok {
		n := 1
		switch {
		case strings.HasPrefix(code, "_R"):
			n = 3
		case strings.HasPrefix(code, "_"):
			n = 2
		}
		if len(code) < n {
			return name
		}
		special, rest = code[:n], code[n:]
		if special != "0" && special != "1" && operators[special] == "" {
			return name
		}
	}
	var parts []string // the innermost first
	for {
		if strings.HasPrefix(rest, "@") {
			rest = rest[1:]
			break
		}
		if rest == "" || len(parts) > 64 {
			return name
		}
		if c := rest[0]; c >= '0' && c <= '9' {
			if int(c-'0') >= len(parts) {
				return name
			}
			parts = append(parts, parts[c-'0'])
			rest = rest[1:]
			continue
		}
		var part string
		if hash, ok := strings.CutPrefix(rest, "?A"); ok {
			_, after, found := strings.Cut(hash, "@")
			if !found {
				return name
			}
			part, rest = "`anonymous namespace'", after
		} else {
			var found bool
			part, rest, found = strings.Cut(rest, "@")
			if !found || !identifier(part) {
				return name
			}
		}
		parts = append(parts, part)
	}
	if rest == "" || len(parts) == 0 && special == "" {
		return name // the type is missing
	}
	switch {
	case (special == "0" || special == "1") && len(parts) == 0:
		return name
	case special == "0":
		parts = append([]string{parts[0]}, parts...)
	case special == "1":
		parts = append([]string{"~" + parts[0]}, parts...)
	case special != "":
		parts = append([]string{operators[special]}, parts...)
	}
	out := make([]string, 0, len(parts))
	for i := len(parts) - 1; i >= 0; i-- {
		out = append(out, parts[i])
	}
	return strings.Join(out, "::")
}
