// Package golang reads what the Go toolchain leaves in every program it
// builds: the table of functions (pclntab), which survives stripping because
// the runtime itself needs it, and the build information with the modules that
// went in.
//
// It does not read DWARF or the symbol table, which a release rarely has.
package golang

import (
	"bytes"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Info is what a Go binary tells of itself. Any field may be empty: each part
// is found on its own.
type Info struct {
	Version  string    // as in runtime.Version: "go1.22.3"; empty if not told
	AtLeast  string    // "go1.20", from the layout of the tables; empty without a function table
	Path     string    // package path of the main package
	Main     Module    // the main module
	Deps     []Module  // the modules that are linked in, in the order of the file
	Settings []Setting // build settings: -ldflags, GOOS, vcs.revision …

	Functions []Function // of the function table, by address
	Table     Table      // where the function table is

	Notes []string // what could not be read and why
}

// A Module is one line of the build information.
type Module struct {
	Path    string
	Version string // "v1.2.3", "(devel)"
	Sum     string // "h1:…"
	Replace *Module
}

// A Setting is one build setting.
type Setting struct{ Key, Value string }

// A Function is an entry of the function table.
type Function struct {
	Name string // as the linker has it: "net/http.(*Client).Do"
	Addr uint64 // in the terms of image.Image
	Size uint64 // up to the next function
}

// Read returns what m tells as a Go binary, or nil if it is none.
func Read(m *image.Image) *Info {
	info := new(Info)
	table, found := findTable(m)
	if found {
		info.AtLeast = table.layout.since
		info.Functions = table.functions(m, info)
		info.Table = table.Table
	}
	told := info.readBuild(m)
	if !found && !told {
		return nil
	}
	if info.Version == "" {
		info.Version = embeddedVersion(m)
	}
	return info
}

// Setting returns the value of a build setting, or "".
func (i *Info) Setting(key string) string {
	for _, s := range i.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// A Package is a Go package that has functions in the binary.
type Package struct {
	Path      string
	Functions int
	Standard  bool // part of the Go distribution
}

// Packages returns the packages of the functions, by path. What the linker
// makes itself belongs to none.
func (i *Info) Packages() []Package {
	index := make(map[string]int)
	var out []Package
	for _, f := range i.Functions {
		p := f.Package()
		if p == "" {
			continue
		}
		n, ok := index[p]
		if !ok {
			n = len(out)
			index[p] = n
			out = append(out, Package{Path: p, Standard: Standard(p)})
		}
		out[n].Functions++
	}
	slices.SortFunc(out, func(a, b Package) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// UserFunctions counts the functions of packages outside of the distribution.
func (i *Info) UserFunctions() int {
	n := 0
	for _, f := range i.Functions {
		if p := f.Package(); p != "" && !Standard(p) {
			n++
		}
	}
	return n
}

// Package returns the import path of the package that f is declared in, or ""
// for what the toolchain or a C compiler made.
func (f Function) Package() string {
	name := f.Name
	if i := strings.IndexByte(name, '['); i >= 0 {
		name = name[:i] // type arguments have paths of their own
	}
	if strings.HasPrefix(name, "_") || strings.HasPrefix(name, "type:") || strings.HasPrefix(name, "type..") || strings.HasPrefix(name, "go:") || strings.HasPrefix(name, "go.") && !strings.Contains(name, "/") {
		return ""
	}
	slash := strings.LastIndexByte(name, '/')
	dot := strings.IndexByte(name[slash+1:], '.')
	if dot <= 0 {
		return ""
	}
	// The linker escapes dots in the last element: cmd/internal/objabi.PathToPrefix.
	return strings.ReplaceAll(name[:slash+1+dot], "%2e", ".")
}

// Standard reports whether a package is part of the Go distribution's library.
func Standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	_, ok := slices.BinarySearch(distribution, first)
	return ok
}

// distribution holds the first path elements of the standard library's
// packages, past and present, sorted.
var distribution = []string{
	"archive", "arena", "bufio", "bytes", "cmp", "compress", "container", "context", "crypto",
	"database", "debug", "embed", "encoding", "errors", "expvar", "flag", "fmt", "go", "hash",
	"html", "image", "index", "internal", "io", "iter", "log", "maps", "math", "mime", "net",
	"os", "path", "plugin", "reflect", "regexp", "runtime", "simd", "slices", "sort", "strconv",
	"strings", "structs", "sync", "syscall", "testing", "text", "time", "unicode", "unique",
	"unsafe", "uuid", "vendor", "weak",
}

// embeddedVersion looks for the text of runtime.buildVersion, which is in the
// read-only data among thousands of other strings without an end mark. The
// longest version is taken, because "go1.2" may be the start of an older one
// that an error message names.
func embeddedVersion(m *image.Image) string {
	for _, s := range m.Symbols {
		if s.Name == "runtime.buildVersion.str" {
			if v := versionAt(m.At(s.Addr)); v != "" {
				return v
			}
		}
	}
	best := ""
	for region := range dataRegions(m) {
		for len(region) > 0 {
			i := cursor.Index(region, []byte("go1."))
			if i < 0 {
				break
			}
			region = region[i:]
			if v := versionAt(region); compareVersions(v, best) > 0 {
				best = v
			}
			region = region[4:]
		}
	}
	return best
}

// versionAt reads "go1.N.M" at the start of b. A version that names no patch
// release is too easily found in texts to be believed.
func versionAt(b []byte) string {
	if !bytes.HasPrefix(b, []byte("go1.")) {
		return ""
	}
	digits := func(i int) int {
		n := 0
		for i+n < len(b) && n < 3 && b[i+n] >= '0' && b[i+n] <= '9' {
			n++
		}
		return n
	}
	minor := digits(4)
	if minor == 0 || minor == 3 {
		return ""
	}
	end := 4 + minor
	if end >= len(b) || b[end] != '.' {
		return ""
	}
	patch := digits(end + 1)
	if patch == 0 || patch == 3 {
		return ""
	}
	return string(b[:end+1+patch])
}

func compareVersions(a, b string) int {
	number := func(v string) (n int) {
		minor, patch, _ := strings.Cut(strings.TrimPrefix(v, "go1."), ".")
		for _, part := range []string{minor, patch} {
			d := 0
			for _, c := range []byte(part) {
				d = d*10 + int(c-'0')
			}
			n = n*1000 + d
		}
		return n
	}
	if b == "" {
		return len(a)
	}
	if a == "" {
		return -1
	}
	return number(a) - number(b)
}
