// Package image is the one model of a native binary that every format's parser
// fills in and everything above reads: what it is, where its bytes are mapped,
// what it takes from elsewhere, what it offers, and where its functions start.
//
// It holds facts of the file alone and no judgement of them.
package image

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// A Format is a family of executable file formats.
type Format string

// The formats with a parser.
const (
	ELF   Format = "ELF"
	PE    Format = "PE"
	MachO Format = "Mach-O"
	Wasm  Format = "Wasm"
)

// An Arch is an instruction set, in the words of reports.
type Arch string

// The instruction sets that have a name of their own; a parser names others
// by their number, as in "elf-machine-94".
const (
	X86_64    Arch = "x86_64"
	X86       Arch = "x86"
	AArch64   Arch = "aarch64"
	ARM       Arch = "arm"
	RISCV64   Arch = "riscv64"
	RISCV32   Arch = "riscv32"
	PPC64     Arch = "ppc64"
	PPC64LE   Arch = "ppc64le"
	PPC       Arch = "ppc"
	S390X     Arch = "s390x"
	MIPS      Arch = "mips"
	MIPS64    Arch = "mips64"
	LoongArch Arch = "loongarch64"
	SPARC64   Arch = "sparc64"
	IA64      Arch = "ia64"
	Wasm32    Arch = "wasm32"
	Wasm64    Arch = "wasm64"
)

// A Kind says what a binary is for.
type Kind string

// The kinds.
const (
	Executable Kind = "executable"
	Library    Kind = "shared library" // .so .dll .dylib, and Mach-O bundles
	Object     Kind = "object"         // relocatable, not linked
	Driver     Kind = "driver"
	Core       Kind = "core dump"
	Module     Kind = "module" // WebAssembly
)

// An Image is one binary for one machine. A fat Mach-O file holds several.
//
// Addresses are virtual addresses as the file states them: for PE the image
// base is included, for Wasm they are offsets in the file.
type Image struct {
	Format    Format
	Arch      Arch
	OS        string // linux freebsd android darwin ios windows uefi wasi …; empty if the file does not say
	Bits      int    // 32 or 64
	BigEndian bool
	Kind      Kind

	Offset int64  // of this image in its file; not 0 in a fat file
	Data   []byte // the bytes of this image; all file offsets below are into it

	Entry        uint64   // address of the entry point; 0 if none
	Initializers []uint64 // functions that the loader calls before it: DT_INIT, .init_array, TLS callbacks, __mod_init_func, the start function of a Wasm module; by address
	Base         uint64   // preferred load address

	Segments []Segment // what is mapped, by address
	Sections []Section // in the order of the file

	Interp    string   // ELF PT_INTERP, Mach-O dylinker
	Name      string   // SONAME, LC_ID_DYLIB, PE export name, Wasm module name
	BuildID   string   // hex: ELF build id, Mach-O UUID, PE CodeView GUID+age
	RunPaths  []string // RPATH, RUNPATH, LC_RPATH
	Libraries []string // needed, in order of the file, without repeats
	Versions  []string // needed symbol versions, "GLIBC_2.17", sorted; ELF only

	Imports []Import
	Exports []Export
	Symbols []Symbol // defined symbols of every table, by address then name

	Functions Functions
	Modes     []Mode       // of 32-bit ARM alone, by Addr
	Modules   []WasmModule // of Wasm alone: its module, or those of a component, by address
	Pointers  []Pointer    // words of data that hold an address of the image itself, by At

	Stripped bool    // no symbol table beyond what dynamic linking needs
	Linkage  Linkage // how it gets its libraries

	Compilers []string // compiler notes as they stand: .comment, Rich header products, LC_BUILD_VERSION tools, producers
	Signed    bool     // it carries a code signature; whether that is valid is not said here
	Overlay   Range    // bytes behind the end of the image proper; zero length if none

	// VersionInfo holds the strings of a PE version resource, by their names:
	// CompanyName, ProductName, FileDescription, OriginalFilename …
	VersionInfo map[string]string

	Notes []string // what could not be read and why; a truncated file has at least one
}

// A Range is a part of the file.
type Range struct{ Offset, Size uint64 }

// A Linkage says how a binary gets its libraries.
type Linkage string

// The linkages.
const (
	Dynamic   Linkage = "dynamic"
	Static    Linkage = "static"
	StaticPIE Linkage = "static-pie"
)

// Access says what mapped bytes may be used for.
type Access uint8

// The bits of Access.
const (
	Read Access = 1 << iota
	Write
	Execute
)

func (a Access) String() string {
	b := []byte("---")
	for i, c := range []byte("rwx") {
		if a&(1<<i) != 0 {
			b[i] = c
		}
	}
	return string(b)
}

// A Segment is a run of the file that is mapped into memory.
type Segment struct {
	Name     string // Mach-O segment, PE section; empty for ELF
	Addr     uint64
	Size     uint64 // in memory
	Offset   uint64
	FileSize uint64
	Access   Access
}

// A Section is a named part of a binary.
type Section struct {
	Name     string // ".text", "__TEXT,__text", "code"
	Addr     uint64 // 0 if it is not mapped
	Size     uint64 // in memory, or in the file if it is not mapped
	Offset   uint64
	FileSize uint64 // 0 for zero-filled sections
	Access   Access
	Code     bool // holds instructions
}

// An Import is a name that the binary takes from elsewhere.
type Import struct {
	Name      string   // bare: without version, decoration of stubs or leading Mach-O underscore
	Library   string   // where it is looked for, if the file says so
	Version   string   // ELF symbol version
	Ordinal   int      // PE, if imported by number; Name is then the known name or "#n"
	Slot      uint64   // address of the pointer that the loader fills (GOT, IAT); 0 if unknown
	Stub      uint64   // address of the jump that calls it (PLT, __stubs); 0 if none
	MoreSlots []uint64 // further pointers to it that the loader fills, where calls may use those too
	Weak      bool
	Delay     bool // PE delay-load
	Data      bool // known to be a variable, not a function
}

// An Export is a name that the binary offers.
type Export struct {
	Name    string
	Addr    uint64
	Ordinal int
	Forward string // "library.name", for an export that is somewhere else
	Data    bool
	Slot    uint64 // ELF: pointer that the loader fills with the address of whoever offers the name first, for the binary's own use; 0 if none
	Stub    uint64 // ELF: jump through Slot, which the binary's own calls of it go to; 0 if none
}

// A Symbol is a defined name of a symbol table.
type Symbol struct {
	Name string // as it stands, mangled; without the leading underscore of Mach-O
	Addr uint64
	Size uint64 // 0 if unknown
	Func bool
	Weak bool
}

// A WasmModule is what the instructions of a Wasm module go by: its functions have
// numbers, first those imported, then its bodies in their order; and its data
// has addresses in a memory, which are not those of the image.
type WasmModule struct {
	Code     Range     // its code section
	Imported []int32   // indexes of functions in Imports
	Memory   []Segment // data with its address there, by it; its bytes are at Offset, which is the image's address of them
	Passive  []Segment // data that instructions put into memory, by number; of others, FileSize is 0
	Base     int64     // global that addresses in Memory count from, -1 if none
}

// A Mode says how 32-bit ARM bytes are to be read, from an address on.
type Mode struct {
	Addr  uint64
	Thumb bool // T32 instructions, not A32
	Data  bool // no instructions, although it stands among them
	Start bool // it is the start of a function, and says nothing of what follows that
}

// A Pointer is a word of data that holds, once the binary is loaded, an address
// of the same image: what relative relocations, base relocations and rebases
// say, which on 32-bit x86 are operands of instructions too. A binary for fixed
// addresses may have none though its data holds many.
type Pointer struct{ At, To uint64 }

// Functions are the places where code starts, and how they were found.
type Functions struct {
	List      []Function // sorted by address, no repeats
	Count     int        // what to report: as the method counts; len(List) unless said otherwise in a note
	Method    string     // "eh_frame", "symbols", "exidx+symbols", "pdata", "function-starts", "code-section", "pclntab", …
	Fragments []Fragment // pieces that lie apart from their functions, by address
	Coverage  float64    // bytes of functions with known size over bytes of code sections, 0 to 1
}

// A Function is a start address, with its size where it is known.
type Function struct {
	Addr uint64
	Size uint64 // 0 if unknown
	Name string // from a symbol at that address, mangled as in the file
}

// A Fragment is a piece of a function that does not follow on its beginning.
type Fragment struct {
	Addr, Size uint64
	Of         uint64 // where the function starts
}

// Notef records that something could not be read.
func (m *Image) Notef(format string, args ...any) {
	const most = 50 // a hostile file must not fill the report
	if len(m.Notes) < most {
		m.Notes = append(m.Notes, fmt.Sprintf(format, args...))
	}
}

// FileOffset translates an address to an offset in Data.
func (m *Image) FileOffset(addr uint64) (uint64, bool) {
	s := m.segment(addr)
	if s == nil || addr-s.Addr >= s.FileSize {
		return 0, false
	}
	off := s.Offset + (addr - s.Addr)
	return off, off < uint64(len(m.Data))
}

// At returns the bytes that are mapped at addr, to the end of their segment in
// the file; none if addr is not backed by the file.
func (m *Image) At(addr uint64) []byte {
	s := m.segment(addr)
	if s == nil || addr-s.Addr >= s.FileSize {
		return nil
	}
	off := s.Offset + (addr - s.Addr)
	if off < s.Offset || off >= uint64(len(m.Data)) {
		return nil
	}
	rest := m.Data[off:]
	return rest[:min(uint64(len(rest)), s.FileSize-(addr-s.Addr))]
}

// segment finds the segment that holds addr. Segments are sorted by address,
// but a hostile file may overlap them; the last one that starts at or before
// addr decides.
func (m *Image) segment(addr uint64) *Segment {
	i := sort.Search(len(m.Segments), func(i int) bool { return m.Segments[i].Addr > addr }) - 1
	if i < 0 || addr-m.Segments[i].Addr >= max(m.Segments[i].Size, m.Segments[i].FileSize) {
		return nil
	}
	return &m.Segments[i]
}

// Section returns the section of that name, or nil.
func (m *Image) Section(name string) *Section {
	for i := range m.Sections {
		if m.Sections[i].Name == name {
			return &m.Sections[i]
		}
	}
	return nil
}

// Bytes returns what of a section's bytes is in the file.
func (m *Image) Bytes(s *Section) []byte {
	if s == nil || s.Offset >= uint64(len(m.Data)) {
		return nil
	}
	rest := m.Data[s.Offset:]
	return rest[:min(uint64(len(rest)), s.FileSize)]
}

// Finish puts what a parser collected into the order that this package
// promises: segments, symbols and functions by address, needed libraries
// without repeats. A parser calls it once, last.
func (m *Image) Finish() {
	slices.SortStableFunc(m.Segments, func(a, b Segment) int { return cmp.Compare(a.Addr, b.Addr) })
	slices.SortFunc(m.Symbols, func(a, b Symbol) int {
		return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.Name, b.Name), cmp.Compare(b.Size, a.Size))
	})
	m.Symbols = slices.CompactFunc(m.Symbols, func(a, b Symbol) bool { return a.Addr == b.Addr && a.Name == b.Name })
	slices.SortFunc(m.Functions.List, func(a, b Function) int {
		return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(b.Size, a.Size))
	})
	m.Functions.List = slices.CompactFunc(m.Functions.List, func(a, b Function) bool { return a.Addr == b.Addr })
	seen := make(map[string]bool, len(m.Libraries))
	m.Libraries = slices.DeleteFunc(m.Libraries, func(l string) bool {
		dup := seen[l] || l == ""
		seen[l] = true
		return dup
	})
	slices.Sort(m.Versions)
	m.Versions = slices.Compact(m.Versions)
	if len(m.Modes) > 0 {
		slices.SortStableFunc(m.Modes, func(a, b Mode) int { return cmp.Compare(a.Addr, b.Addr) })
		m.Modes = slices.Compact(m.Modes)
	}
}

// ImportNames returns the names of all imports, sorted, without repeats.
func (m *Image) ImportNames() []string {
	return names(m.Imports, func(i Import) string { return i.Name })
}

// ExportNames returns the names of all exports, sorted, without repeats.
func (m *Image) ExportNames() []string {
	return names(m.Exports, func(e Export) string { return e.Name })
}

func names[T any](list []T, name func(T) string) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		if n := name(v); n != "" {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
