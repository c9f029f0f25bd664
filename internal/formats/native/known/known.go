// Package known tells the functions of a binary that its makers did not write:
// those of the runtimes and libraries that are linked into it.
//
// A function is known by its name where the binary has one; by its bytes, less
// the operands that a linker fills in, where they are those of a library that
// was looked at beforehand; or because it stands among such functions and
// nothing but they refer to it.
//
// None of this resists somebody who wants to be taken for a library: names can
// be given, and neighbours chosen. What a rule takes off for a function that is
// known should depend on the [Method].
package known

import (
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/golang"
)

// A Library is what a function belongs to.
type Library uint8

// The libraries, by their numbers in the data: append only.
const (
	Own Library = iota // none: the program's own code
	Glibc
	Musl
	MinGW
	VisualC // its runtime, and what programs for Windows of several publishers share
	Libgcc
	Libstdcxx
	Libcxx
	CompilerRT
	RustStd // and what programs in Rust of several publishers share
	GoStd
	OpenSSL
	Zlib
	SQLite
	Libuv
	Mimalloc
	Shared // what else programs of two publishers or more share
)

var libraries = [...]string{
	Own:        "",
	Glibc:      "glibc",
	Musl:       "musl",
	MinGW:      "mingw-crt",
	VisualC:    "msvc-crt",
	Libgcc:     "libgcc",
	Libstdcxx:  "libstdc++",
	Libcxx:     "libc++",
	CompilerRT: "compiler-rt",
	RustStd:    "rust-std",
	GoStd:      "go-std",
	OpenSSL:    "openssl",
	Zlib:       "zlib",
	SQLite:     "sqlite",
	Libuv:      "libuv",
	Mimalloc:   "mimalloc",
	Shared:     "shared",
}

func (l Library) String() string { return libraries[l] }

// A Method says how a function is known, the surest last.
type Method uint8

// The methods.
const (
	Unknown   Method = iota
	Neighbour        // it stands among known functions, and only they refer to it
	Symbol           // its name
	Body             // its bytes
)

func (m Method) String() string { return [...]string{"", "neighbour", "symbol", "body"}[m&3] }

// A Mark says what a function belongs to, and how that is known. The zero Mark
// is that of the program's own code.
type Mark struct {
	Library Library
	By      Method
}

// Own reports whether a function is the program's own.
func (m Mark) Own() bool { return m.Library == Own }

// Label returns a mark for each of c.Functions. The language is the main one of
// the binary, as in native.Binary.
func Label(c *code.Code, language string) []Mark {
	marks := make([]Mark, len(c.Functions))
	if language == "Go" && c.Image.Functions.Method == "pclntab" {
		for i := range c.Functions {
			if goLibrary(c.Functions[i].Name) {
				marks[i] = Mark{GoStd, Symbol}
			}
		}
		return marks
	}
	for i := range c.Functions {
		if l := Named(c.Image, c.Functions[i].Name); l != Own {
			marks[i] = Mark{l, Symbol}
		}
	}
	byBody(c, marks)
	byNeighbours(c, marks)
	return marks
}

// goLibrary reports whether a function of Go's table belongs to the Go
// distribution, or to nobody: what the linker and the compiler make.
func goLibrary(name string) bool {
	pkg := golang.Function{Name: name}.Package()
	if pkg == "" {
		return name != "" && !hasAny(name, "_cgo")
	}
	return golang.Standard(pkg)
}
