// Package pe reads PE/COFF images, which are the executables, libraries and
// drivers of Windows and UEFI programs, and the COFF objects that they are
// linked from. It reads an image as the Windows loader would map it, not as a
// linker would have written it, and nothing that it reads is believed before
// the bytes are there.
//
// It follows Microsoft's "PE Format" document; what that leaves out is cited
// where it is read. It does not verify signatures, follow forwarders, or judge
// what it finds.
package pe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

var (
	errNotMZ = errors.New("not a PE file: no MZ header")
	errDOS   = errors.New("a DOS program without a PE header")
)

// Is says whether a file that starts with head may be a PE file: it starts
// with an MZ header, and where the PE signature lies within head, it is there.
func Is(head []byte) bool {
	if len(head) < 2 || head[0] != 'M' || head[1] != 'Z' {
		return false
	}
	if len(head) < 0x40 {
		return true
	}
	at := uint64(binary.LittleEndian.Uint32(head[0x3c:]))
	if at+4 > uint64(len(head)) {
		return true
	}
	return string(head[at:at+4]) == "PE\x00\x00"
}

// Parse reads a PE file. It fails only where there is no PE header to read;
// whatever is missing or wrong after that is left out and has a note.
func Parse(data []byte) (*image.Image, error) {
	at, err := signature(data)
	if err != nil {
		return nil, err
	}
	header, whole := cursor.Slice(data, at+4, 20)
	if !whole {
		return nil, fmt.Errorf("PE header at offset %#x is cut off", at)
	}
	f := &file{
		m:    &image.Image{Format: image.PE, Data: data},
		text: 2*len(data) + 1<<16,
	}
	f.headers(at+4, header)
	f.imports()
	f.delayImports()
	f.exports()
	f.symbols()
	f.toolchain()
	f.debug()
	f.clr()
	f.versionInfo()
	f.certificate()
	f.pointers()
	f.initializers()
	f.functions()

	f.m.Linkage = image.Static
	if len(f.m.Imports) > 0 || len(f.m.Libraries) > 0 {
		f.m.Linkage = image.Dynamic
	}
	f.m.Finish()
	return f.m, nil
}

// signature returns the offset of the PE signature.
func signature(data []byte) (uint64, error) {
	if len(data) < 2 || data[0] != 'M' || data[1] != 'Z' {
		return 0, errNotMZ
	}
	if len(data) < 0x40 {
		return 0, errDOS
	}
	at := uint64(binary.LittleEndian.Uint32(data[0x3c:]))
	sig, whole := cursor.Slice(data, at, 4)
	switch {
	case whole && string(sig) == "PE\x00\x00":
		return at, nil
	case len(sig) >= 2 && at > 0:
		switch string(sig[:2]) {
		case "NE", "LE", "LX":
			return 0, fmt.Errorf("a 16-bit or OS/2 program (%s), not a PE file", sig[:2])
		}
	}
	return 0, errDOS
}

// A file is the state of one Parse.
type file struct {
	m       *image.Image
	machine uint16
	wide    bool // PE32+: 8-byte pointers
	strings []byte
	dirs    [16]directory
	header  uint64 // size of all headers
	linker  [2]byte
	code    []span      // where instructions may be
	symtab  image.Range // COFF symbols with their strings
	text    int         // bytes of names that may still be read, so that names that overlap cannot multiply the file
	managed *clrHeader

	relocated bool // there is at least one base relocation of a pointer
}

// A directory is an entry of the optional header's data directories.
type directory struct{ rva, size uint64 }

// Data directories, by index ("Optional Header Data Directories").
const (
	dirExport    = 0
	dirImport    = 1
	dirResource  = 2
	dirException = 3
	dirSecurity  = 4
	dirReloc     = 5
	dirDebug     = 6
	dirTLS       = 9
	dirConfig    = 10
	dirDelay     = 13
	dirCLR       = 14
)

// at returns the bytes that are mapped at an RVA, to the end of what the file
// has of their section.
func (f *file) at(rva uint64) []byte { return f.m.At(f.m.Base + rva) }

// table returns size bytes at an RVA, or what of them there is.
func (f *file) table(rva, size uint64) []byte {
	b := f.at(rva)
	return b[:min(uint64(len(b)), size)]
}

// zeroFilled says whether an RVA is mapped but not backed by the file, so that
// a program sees zeros there.
func (f *file) zeroFilled(rva uint64) bool {
	addr := f.m.Base + rva
	i, _ := slices.BinarySearchFunc(f.m.Segments, addr, func(s image.Segment, addr uint64) int {
		if s.Addr <= addr {
			return -1
		}
		return 1
	})
	if i == 0 {
		return false
	}
	s := f.m.Segments[i-1]
	return addr-s.Addr < s.Size && addr-s.Addr >= s.FileSize
}

const maxName = 1 << 14 // bytes; decorated C++ names of several thousand are ordinary

// name returns the zero-terminated string at an RVA.
func (f *file) name(rva uint64) (string, bool) { return f.string(f.at(rva), 0) }

// string returns the zero-terminated string at off in table. Looking in vain
// costs as much as it looked at.
func (f *file) string(table []byte, off uint64) (string, bool) {
	s, ok := cursor.String(table, off, min(maxName, f.text))
	switch {
	case ok:
		f.text -= len(s)
	case off < uint64(len(table)):
		f.text -= int(min(uint64(len(table))-off, maxName, uint64(f.text)))
	}
	return s, ok
}

// pointerSize returns the size of a pointer in bytes.
func (f *file) pointerSize() uint64 {
	if f.wide {
		return 8
	}
	return 4
}

// pointer reads a pointer at the start of b; 0 if b is too short.
func (f *file) pointer(b []byte) uint64 {
	return cursor.New(b, false).Word(f.wide)
}
