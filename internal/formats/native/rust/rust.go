// Package rust reads what a Rust build leaves in a binary: which compiler made
// it and which crates went in. Crates are told in full by audit data, which a
// build must ask for, and else in part by the source paths that panics name.
//
// It refuses to guess versions: a crate without one in the file has none here.
package rust

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Info is what a binary tells of its Rust parts.
type Info struct {
	Version string  // of rustc: "1.95.0", "1.90.0-nightly"; empty if not told
	Commit  string  // of rustc, 40 or fewer hex digits; empty if not told
	Crates  []Crate // by name, version and revision
	Symbols int     // names that rustc mangled, among symbols and exports
	Notes   []string
}

// A Source says where a crate was learned from.
type Source string

// The sources.
const (
	Audit     Source = "audit"      // data that the build embedded: complete
	PanicPath Source = "panic-path" // a source path: only crates that can panic or log
)

// A Crate is one that is linked in.
type Crate struct {
	Name     string
	Version  string // "1.2.3-beta.1+build"; empty if from a git checkout
	Revision string // of a git checkout, abbreviated
	Origin   string // "registry", "git", "local", or "std" for what the standard library brings
	Source   Source
	Root     bool // the program itself; audit data only
	Build    bool // needed to build only; audit data only
}

// Read returns what m tells of its Rust parts, or nil if it has none.
func Read(m *image.Image) *Info {
	info := new(Info)
	info.countSymbols(m)
	told := info.readCompilers(m.Compilers)
	audited := info.readAudit(m)
	paths := info.readPaths(m.Data)
	if !told && !audited && !paths && info.Symbols == 0 && !personality(m) {
		return nil
	}
	slices.SortFunc(info.Crates, func(a, b Crate) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version), strings.Compare(a.Revision, b.Revision), strings.Compare(string(a.Source), string(b.Source)))
	})
	return info
}

func (i *Info) countSymbols(m *image.Image) {
	for _, s := range m.Symbols {
		if Mangled(s.Name) {
			i.Symbols++
		}
	}
	for _, e := range m.Exports {
		if Mangled(e.Name) {
			i.Symbols++
		}
	}
}

// Mangled reports whether rustc made the name: in the legacy scheme an Itanium
// name that ends in a hash, in the v0 scheme (RFC 2603) one that starts with _R
// and names a crate with its disambiguator.
func Mangled(name string) bool {
	name, underscore := strings.CutPrefix(name, "_")
	name = strings.TrimPrefix(name, "_") // Mach-O and 32-bit Windows may keep one more
	if !underscore || len(name) < 8 {
		return false
	}
	if name[0] == 'R' {
		return strings.IndexByte("CMXYNI", name[1]) >= 0 && strings.Contains(name, "Cs")
	}
	name, _, _ = strings.Cut(name, ".llvm.")
	const hash = "17h0123456789abcdefE"
	if !strings.HasPrefix(name, "ZN") || len(name) < len("ZN1a")+len(hash) {
		return false
	}
	end := name[len(name)-len(hash):]
	return strings.HasPrefix(end, "17h") && end[len(end)-1] == 'E' && hexDigits([]byte(end[3:19])) == 16
}

// personality looks for the function that unwinding of Rust frames goes
// through.
func personality(m *image.Image) bool {
	for _, s := range m.Symbols {
		if s.Name == "rust_eh_personality" || s.Name == "rust_panic" {
			return true
		}
	}
	for _, e := range m.Exports {
		if e.Name == "rust_eh_personality" {
			return true
		}
	}
	return false
}

// readCompilers takes "rustc version 1.95.0 (59807616e 2026-04-14)" out of
// compiler notes (.comment) or "rustc 1.95.0 (…)" out of WebAssembly producers.
func (i *Info) readCompilers(lines []string) bool {
	for _, line := range lines {
		at := strings.Index(line, "rustc")
		if at < 0 {
			continue
		}
		rest := strings.TrimLeft(strings.TrimPrefix(strings.TrimLeft(line[at+len("rustc"):], " :"), "version"), " :")
		version, rest, _ := strings.Cut(rest, " ")
		if !isVersion([]byte(version)) {
			continue
		}
		i.Version = version
		commit := strings.TrimPrefix(rest, "(")
		if n := hexDigits([]byte(commit)); n >= 7 && n <= 40 && i.Commit == "" {
			i.Commit = commit[:n]
		}
		return true
	}
	return false
}

// hexDigits counts the lower-case hexadecimal digits at the start of b.
func hexDigits(b []byte) int {
	n := 0
	for n < len(b) && (b[n] >= '0' && b[n] <= '9' || b[n] >= 'a' && b[n] <= 'f') {
		n++
	}
	return n
}

// splitCrate divides "md-5-0.10.6" into name and version: the version starts at
// the first hyphen behind which there is nothing else. Crate names hold no dots.
func splitCrate(b []byte) (name, version []byte, ok bool) {
	for i, c := range b {
		switch {
		case c == '-' && i > 0 && i+1 < len(b) && b[i+1] >= '0' && b[i+1] <= '9' && isVersion(b[i+1:]):
			return b[:i], b[i+1:], true
		case c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		default:
			return nil, nil, false
		}
	}
	return nil, nil, false
}

// isVersion reports whether all of b is a version of three numbers as in
// Semantic Versioning 2.0.0, section 2, 9 and 10.
func isVersion(b []byte) bool {
	for part := range 3 {
		n := 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		if n == 0 || n > 10 {
			return false
		}
		b = b[n:]
		if part < 2 {
			if len(b) == 0 || b[0] != '.' {
				return false
			}
			b = b[1:]
		}
	}
	if len(b) > 0 && b[0] == '-' {
		n := identifiers(b[1:])
		if n == 0 {
			return false
		}
		b = b[1+n:]
	}
	if len(b) > 0 && b[0] == '+' {
		n := identifiers(b[1:])
		if n == 0 {
			return false
		}
		b = b[1+n:]
	}
	return len(b) == 0
}

func identifiers(b []byte) int {
	n := 0
	for n < len(b) && (b[n] == '-' || b[n] == '.' || b[n] >= '0' && b[n] <= '9' || b[n] >= 'a' && b[n] <= 'z' || b[n] >= 'A' && b[n] <= 'Z') {
		n++
	}
	return n
}

// add keeps a crate that a path tells, unless audit data or another path did.
func (i *Info) add(c Crate, seen map[string]bool) {
	key := c.Name + "\x00" + c.Version + "\x00" + c.Revision
	if seen[key] || len(i.Crates) >= maxCrates {
		return
	}
	seen[key] = true
	i.Crates = append(i.Crates, c)
}

const (
	maxCrates = 20000
	maxNotes  = 20
)

func (i *Info) notef(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if len(i.Notes) < maxNotes && !slices.Contains(i.Notes, note) {
		i.Notes = append(i.Notes, note)
	}
}

// lastComponent returns the path component before the separator that data
// ends with, and what lies before it, its own separator included.
func lastComponent(data []byte) (component, before []byte, ok bool) {
	const longest = 160
	if len(data) == 0 {
		return nil, nil, false
	}
	data = data[:len(data)-1]
	window := data[max(0, len(data)-longest):]
	i := bytes.LastIndexAny(window, `/\`)
	if i < 0 || i+1 == len(window) {
		return nil, nil, false
	}
	start := len(data) - len(window) + i + 1
	return data[start:], data[:start], true
}
