package native

import (
	"bytes"
	"encoding/binary"

	"github.com/loupe-sec/loupe/internal/formats/native/ar"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/wasm"
)

// A Kind is what a file is, by its first bytes.
type Kind string

// The kinds. Parse reads those of the first group; the others have a name so
// that a report can say what was not looked into.
const (
	ELF      Kind = "ELF"
	PE       Kind = "PE"          // .NET assemblies as well
	COFF     Kind = "COFF object" // of Windows, alone or in a static library
	MachO    Kind = "Mach-O"
	FatMachO Kind = "fat Mach-O"
	Wasm     Kind = "Wasm"
	Archive  Kind = "static library" // import libraries of Windows as well

	JavaClass Kind = "Java class"
	Dex       Kind = "Dalvik bytecode"
	Bitcode   Kind = "LLVM bitcode"
	Python    Kind = "Python bytecode"
	Lua       Kind = "Lua bytecode"
	Hermes    Kind = "Hermes bytecode"
	DOS       Kind = "DOS program"   // MZ without a PE header: 16-bit Windows and OS/2 as well
	Import    Kind = "import object" // of an import library: names, no code
	XCOFF     Kind = "XCOFF"
	UF2       Kind = "UF2 firmware"
	Unknown   Kind = ""
)

// Native reports whether Parse reads files of this kind.
func (k Kind) Native() bool {
	switch k {
	case ELF, PE, COFF, MachO, FatMachO, Wasm, Archive:
		return true
	}
	return false
}

// Identify tells what a file is from its first bytes, of which 4 KB are enough.
// Names and extensions say nothing: add-ons are called .node, .bare, .so, or
// nothing at all.
func Identify(head []byte) Kind {
	switch {
	case elf.Is(head):
		return ELF
	case bytes.HasPrefix(head, []byte("MZ")):
		if pe.Is(head) && len(head) >= 0x40 {
			return PE
		}
		return DOS
	case macho.Is(head):
		if head[0] == 0xca || head[3] == 0xca {
			return FatMachO
		}
		return MachO
	case wasm.Is(head):
		return Wasm
	case ar.Is(head):
		return Archive
	case len(head) < 8:
		return Unknown
	}
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) && (m.check == nil || m.check(head)) {
			return m.kind
		}
	}
	switch {
	case pyc(head):
		return Python
	case pe.IsImport(head):
		return Import
	case pe.IsObject(head):
		return COFF
	}
	return Unknown
}

var magics = []struct {
	magic string
	kind  Kind
	check func(head []byte) bool
}{
	// The number that fat Mach-O files share is followed by a version of
	// Java's format, 45 and up ("The class File Format", JVMS 4.1), or by a
	// number of slices.
	{"\xca\xfe\xba\xbe", JavaClass, func(h []byte) bool { return binary.BigEndian.Uint16(h[6:]) >= 45 }},
	{"dex\n", Dex, func(h []byte) bool { return h[7] == 0 }},
	{"cdex", Dex, nil},
	{"BC\xc0\xde", Bitcode, nil},
	{"\xde\xc0\x17\x0b", Bitcode, nil}, // in its wrapper
	{"\x1bLua", Lua, nil},
	{"\x1bLJ", Lua, nil},
	{"\xc6\x1f\xbc\x03\xc1\x03\x19\x1f", Hermes, nil},
	{"\x01\xdf", XCOFF, func(h []byte) bool { return binary.BigEndian.Uint16(h[2:]) <= 256 }},
	{"\x01\xf7", XCOFF, func(h []byte) bool { return binary.BigEndian.Uint16(h[2:]) <= 256 }},
	{"UF2\n\x57\x51\x5d\x9e", UF2, nil},
}

// pyc recognises CPython's bytecode: a version number that ends in CR LF
// (Lib/importlib/_bootstrap_external.py), then flags of which two bits are
// used, or the time of the source.
func pyc(head []byte) bool {
	if len(head) < 16 || head[2] != '\r' || head[3] != '\n' {
		return false
	}
	version := binary.LittleEndian.Uint16(head)
	switch {
	case version >= 3390 && version < 4000: // 3.7 and later
		return binary.LittleEndian.Uint32(head[4:]) <= 3
	case version >= 3000 && version < 3390, version >= 62011 && version <= 62211:
		return true
	}
	return false
}
