// Package toolchain tells in which languages a binary was written and which
// compilers and linkers made it, from what they leave behind: notes, the way
// they mangle names, and the libraries that their programs need.
//
// Where the evidence fits several languages it says so ("C/C++") and does not
// choose.
package toolchain

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/golang"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/rust"
)

// The names of languages in reports.
const (
	Go         = "Go"
	Rust       = "Rust"
	C          = "C"
	CPP        = "C++"
	COrCPP     = "C/C++"
	Swift      = "Swift"
	ObjectiveC = "Objective-C"
	Zig        = "Zig"
	Nim        = "Nim"
	D          = "D"
	Fortran    = "Fortran"
	Haskell    = "Haskell"
	OCaml      = "OCaml"
	Pascal     = "Pascal"
	Ada        = "Ada"
	Crystal    = "Crystal"
	Kotlin     = "Kotlin"
	Java       = "Java"
	DotNet     = ".NET"
	Assembly   = "Assembly"
)

// Info is how a binary was made.
type Info struct {
	Language  string   // the main one; empty if nothing tells
	Languages []string // all that left something, the main one first
	Tools     []string // "GCC 12.2.0", "MSVC 14.29 (Visual Studio 2019)", "rustc 1.95.0 (59807616e)", "go1.22.3"
}

// Read returns how m was made. What packages golang and rust found in it may
// be nil.
func Read(m *image.Image, g *golang.Info, r *rust.Info) Info {
	e := gather(m)
	e.judge(m, g, r)
	languages := e.ranked()
	info := Info{Languages: languages, Tools: tools(m, g, r)}
	if len(languages) > 0 {
		info.Language = languages[0]
	}
	return info
}

// evidence is how much speaks for each language.
type evidence struct {
	score map[string]int
	names map[string]int // of symbols, exports and imports, by the language that mangled them
	c     bool           // some compiler of C or C++ was there
}

// A trait is a name that only programs of one language have.
var traits = map[string]string{
	"swift_retain": Swift, "swift_release": Swift, "swift_allocObject": Swift,
	"objc_msgSend": ObjectiveC, "objc_alloc": ObjectiveC, "objc_retain": ObjectiveC, "objc_release": ObjectiveC, "objc_msg_lookup": ObjectiveC, "objc_autoreleasePoolPush": ObjectiveC, "objc_getClass": ObjectiveC,
	"__gxx_personality_v0": CPP, "__gxx_personality_sj0": CPP, "__gxx_personality_seh0": CPP, "__cxa_throw": CPP, "__cxa_begin_catch": CPP, "__CxxFrameHandler": CPP, "__CxxFrameHandler3": CPP, "__CxxFrameHandler4": CPP, "_CxxThrowException": CPP, "__cxa_pure_virtual": CPP,
	"_d_run_main": D, "_d_run_main2": D, "_d_throw_exception": D, "_d_dso_registry": D, "_d_eh_personality": D, "_Dmain": D,
	"NimMain": Nim, "NimMainModule": Nim, "NimMainInner": Nim, "nimGC_setStackBottom": Nim,
	"_gfortran_set_args": Fortran, "_gfortran_st_write": Fortran, "_gfortran_stop_string": Fortran, "for_main": Fortran, "_FortranAProgramStart": Fortran, "MAIN__": Fortran,
	"hs_main": Haskell, "stg_ap_0_fast": Haskell, "hs_init_ghc": Haskell, "stg_upd_frame_info": Haskell,
	"caml_startup": OCaml, "caml_main": OCaml, "caml_alloc_string": OCaml, "caml_call_gc": OCaml,
	"FPC_INITIALIZEUNITS": Pascal, "fpc_initializeunits": Pascal, "FPC_LIBC_INIT_MAIN": Pascal, "__dbk_fcall_wrapper": Pascal, "dbkFCallWrapperAddr": Pascal,
	"__gnat_initialize": Ada, "__gnat_rcheck_CE_Explicit_Raise": Ada, "ada_main": Ada, "__gnat_raise_exception": Ada, "__gnat_personality_v0": Ada,
	"__crystal_main": Crystal, "__crystal_raise": Crystal, "__crystal_malloc64": Crystal,
	"Konan_main": Kotlin, "InitMainThread_konan": Kotlin, "graal_create_isolate": Java, "graal_tear_down_isolate": Java,
	"rust_eh_personality": Rust, "rust_panic": Rust, "__rust_alloc": Rust,
}

// libraries that only programs of one language need, by what their file names
// begin with.
var libraries = []struct{ prefix, language string }{
	{"libstdc++", CPP}, {"libc++", CPP}, {"msvcp", CPP}, {"concrt", CPP}, {"vcomp", CPP}, {"libqt5", CPP}, {"libqt6", CPP}, {"qt5", CPP}, {"qt6", CPP},
	{"libswift", Swift}, {"swiftcore", Swift},
	{"libobjc", ObjectiveC}, {"libphobos", D}, {"libdruntime", D}, {"libgfortran", Fortran}, {"libgnat", Ada}, {"libgnarl", Ada},
	{"libhs", Haskell}, {"libasmrun", OCaml}, {"mscoree.dll", DotNet}, {"libnimrtl", Nim}, {"libstd-", Rust},
}

func gather(m *image.Image) *evidence {
	e := &evidence{score: make(map[string]int), names: make(map[string]int)}
	seen := func(name string) {
		if l, ok := traits[name]; ok {
			e.score[l] += 5
		} else if l := mangled(name); l != "" {
			e.names[l]++
		}
	}
	for _, s := range m.Symbols {
		seen(s.Name)
	}
	for _, x := range m.Exports {
		seen(x.Name)
	}
	for _, i := range m.Imports {
		seen(i.Name)
	}
	for _, l := range m.Libraries {
		base := strings.ToLower(l[strings.LastIndexAny(l, `/\`)+1:])
		for _, known := range libraries {
			if strings.HasPrefix(base, known.prefix) {
				e.score[known.language] += 5
			}
		}
		if strings.HasSuffix(l, "/Foundation") || strings.HasSuffix(l, "/AppKit") || strings.HasSuffix(l, "/UIKit") {
			e.score[ObjectiveC] += 2
		}
	}
	for i := range m.Sections {
		switch name := m.Sections[i].Name; {
		case strings.Contains(name, ",__swift5_"):
			e.score[Swift] += 10
		case strings.Contains(name, ",__objc_classlist"), strings.Contains(name, ",__objc_msgrefs"), strings.Contains(name, ",__objc_selrefs"):
			e.score[ObjectiveC] += 5
		case name == ".note.go.buildid":
			e.score[Go] += 20
		case name == ".minfo", name == ".dmdm":
			e.score[D] += 10
		case name == ".eh_frame_hs":
			e.score[Haskell] += 5
		}
	}
	for _, line := range m.Compilers {
		e.compiler(line)
	}
	return e
}

// compiler takes what a compiler's own note says of the language.
func (e *evidence) compiler(line string) {
	lower := strings.ToLower(line)
	switch {
	case strings.HasPrefix(lower, "language "):
		switch name := strings.Fields(line + " ?")[1]; {
		case name == "Rust" || name == "Go" || name == "Swift" || name == "Zig":
			e.score[name] += 30
		case strings.HasPrefix(name, "C_plus_plus") || strings.HasPrefix(name, "C++"):
			e.score[CPP] += 30
		case strings.HasPrefix(name, "C1") || strings.HasPrefix(name, "C9") || name == "C":
			e.score[C] += 30
		}
	case strings.Contains(lower, "rustc "):
		e.score[Rust] += 4
	case strings.HasPrefix(lower, "tinygo"):
		e.score[Go] += 40
	case strings.HasPrefix(lower, "swift"), strings.Contains(lower, "swift version"):
		e.score[Swift] += 10
	case strings.HasPrefix(lower, ".net clr"):
		e.score[DotNet] += 50
	case strings.HasPrefix(lower, "ghc "):
		e.score[Haskell] += 50
	case strings.HasPrefix(lower, "fpc "):
		e.score[Pascal] += 50
	case strings.HasPrefix(lower, "zig "):
		e.score[Zig] += 20
	case strings.Contains(lower, "ldc version"), strings.HasPrefix(lower, "ldc "):
		e.score[D] += 30
	case strings.HasPrefix(line, "GCC:"), strings.Contains(lower, "clang"), strings.Contains(line, "MSVC C"), strings.HasPrefix(lower, "emscripten"):
		e.c = true
	}
}

// mangled returns the language whose compilers mangle names like this one.
func mangled(name string) string {
	switch {
	case len(name) < 4:
		return ""
	case rust.Mangled(name):
		return Rust
	case strings.HasPrefix(name, "_Z"), strings.HasPrefix(name, "__Z"), strings.HasPrefix(name, "?") && strings.Contains(name, "@@"):
		return CPP
	case strings.HasPrefix(name, "$s"), strings.HasPrefix(name, "_$s"), strings.HasPrefix(name, "$S"), strings.HasPrefix(name, "_$S"), strings.HasPrefix(name, "_T0"):
		return Swift
	case strings.HasPrefix(name, "OBJC_CLASS_$"), strings.HasPrefix(name, "_OBJC_CLASS_$"), strings.HasPrefix(name, "OBJC_METACLASS_$"), strings.HasPrefix(name, "-["), strings.HasPrefix(name, "+["):
		return ObjectiveC
	case strings.HasPrefix(name, "_D") && name[2] >= '1' && name[2] <= '9':
		return D
	case strings.HasPrefix(name, "_gfortran_"):
		return Fortran
	case strings.HasPrefix(name, "__gnat_"):
		return Ada
	case strings.HasPrefix(name, "caml") && (strings.HasPrefix(name, "caml_") || strings.Contains(name, "__")):
		return OCaml
	case strings.HasPrefix(name, "stg_"), strings.HasSuffix(name, "_con_info"):
		return Haskell
	case strings.HasPrefix(name, "kfun:"), strings.HasPrefix(name, "kclass:"):
		return Kotlin
	case strings.HasPrefix(name, "builtin.") && (name == "builtin.panic" || strings.HasPrefix(name, "builtin.default_panic")), strings.HasPrefix(name, "std.builtin."), strings.HasPrefix(name, "start.callMain"), strings.HasPrefix(name, "debug.panicExtra"):
		return Zig
	case strings.HasPrefix(name, "nim") && strings.Contains(name, "__"), strings.HasSuffix(name, "Init000"), strings.HasPrefix(name, "eqdestroy_"):
		return Nim
	case strings.HasPrefix(name, "FPC_"), strings.HasPrefix(name, "SYSTEM_$$_"), strings.HasPrefix(name, "P$PROGRAM_"):
		return Pascal
	}
	return ""
}

// judge weighs all evidence.
func (e *evidence) judge(m *image.Image, g *golang.Info, r *rust.Info) {
	if g != nil {
		e.score[Go] += 40
		if len(g.Functions) > 0 {
			e.score[Go] += 1000
		}
	}
	for l, n := range e.names {
		// One name may be an accident or belong to a library that was linked in.
		if n >= 3 || l == CPP || l == Rust {
			e.score[l] += 2 + min(n, 100)/5
		}
	}
	if r != nil {
		e.score[Rust] += 4
		// Crates and the standard library's paths speak for a program in
		// Rust, unless most names say that it is one library among others.
		if e.names[CPP] <= e.names[Rust]+20 {
			if len(r.Crates) > 0 {
				e.score[Rust] += 30
			} else if r.Commit != "" {
				e.score[Rust] += 10
			}
		}
	}
	if e.score[Swift] > 0 { // every Swift program on Apple's systems has some
		e.score[ObjectiveC] /= 2
	}
	switch {
	case total(e.score) == 0:
		e.plain(m)
	case e.c && g == nil && r == nil && e.score[CPP] == 0 && typeInformation(m):
		e.score[CPP] += 4
	}
}

func total(scores map[string]int) (n int) {
	for _, v := range scores {
		n += v
	}
	return n
}

// plain decides between C, C++ and less for a binary without mangled names.
func (e *evidence) plain(m *image.Image) {
	switch {
	case typeInformation(m):
		e.score[CPP] += 4
	case contains(m, "lib/zig/std/"), contains(m, `lib\zig\std\`):
		e.score[Zig] += 10
	case contains(m, "fatal.nim\x00"), contains(m, "@iterators.nim("):
		e.score[Nim] += 10
	case !e.c && len(m.Imports) == 0 && len(m.Libraries) == 0 && codeSize(m) > 0:
		if codeSize(m) < 4096 && m.Format != image.Wasm && m.Kind != image.Object {
			e.score[Assembly] += 3
		}
	case m.Format == image.PE || m.Format == image.Wasm || m.Linkage == image.Static && m.Stripped:
		// A static C++ library leaves nothing that a C program could not have.
		if e.c || len(m.Imports) > 0 {
			e.score[COrCPP]++
		}
	case e.c || len(m.Imports) > 0 || len(m.Symbols) > 0:
		e.score[C]++
	}
}

// typeInformation looks for the type names that C++ keeps at run time: of the
// Itanium ABI's own classes, and of classes in MSVC's form that are not its
// library's.
func typeInformation(m *image.Image) bool {
	if contains(m, "N10__cxxabiv1") || contains(m, "St9exception") || contains(m, "St9type_info") {
		return true
	}
	for rest := m.Data; m.Format == image.PE; {
		i := cursor.Index(rest, []byte(".?AV"))
		if i < 0 {
			return false
		}
		rest = rest[i+4:]
		if !bytes.HasPrefix(rest, []byte("type_info@@")) && !bytes.HasPrefix(rest[:min(len(rest), 64)], []byte("bad_")) && !bytes.Contains(rest[:min(len(rest), 40)], []byte("@std@@")) {
			return true
		}
	}
	return false
}

func contains(m *image.Image, text string) bool { return cursor.Index(m.Data, []byte(text)) >= 0 }

func codeSize(m *image.Image) (n uint64) {
	for _, s := range m.Sections {
		if s.Code {
			n += s.FileSize
		}
	}
	if n > 0 {
		return n
	}
	for _, s := range m.Segments {
		if s.Access&image.Execute != 0 {
			n += s.FileSize
		}
	}
	return n
}

// ranked returns the languages by evidence.
func (e *evidence) ranked() []string {
	var out []string
	for l, n := range e.score {
		if n > 0 {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(e.score[b], e.score[a]), strings.Compare(a, b))
	})
	return out
}
