// Package macho reads Mach-O files, the executables, libraries and objects of
// Apple's systems: thin and fat ones, of 32 and 64 bits, in both byte orders.
//
// The layout is that of <mach-o/loader.h>, <mach-o/nlist.h>, <mach-o/fat.h>,
// <mach-o/fixup-chains.h> and <mach-o/compact_unwind_encoding.h> in Apple's
// cctools and dyld; comments name the structures there.
//
// It refuses to apply fixups, to check signatures and to read Objective-C or
// Swift metadata.
package macho

import (
	"encoding/binary"
	"fmt"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Where the loader looks for a name that comes from no particular library:
// values of image.Import.Library.
const (
	ThisImage      = "this-image"
	MainExecutable = "main-executable"
	FlatNamespace  = "flat-namespace" // any image that is loaded
	WeakLookup     = "weak"           // the first definition among all images
)

const (
	magic32    = 0xfeedface
	magic64    = 0xfeedfacf
	fatMagic   = 0xcafebabe
	fatMagic64 = 0xcafebabf
)

// Is says whether head, the first bytes of a file, starts a Mach-O file. Java
// class files share the magic of fat ones; like file(1), it takes a fat file
// for one if the number of slices is small and, when head reaches that far, the
// first slice is for a known kind of machine.
func Is(head []byte) bool {
	if _, _, ok := thinMagic(head); ok {
		return true
	}
	if len(head) < 12 {
		return false
	}
	m := binary.BigEndian.Uint32(head)
	n := binary.BigEndian.Uint32(head[4:])
	return (m == fatMagic || m == fatMagic64) && n > 0 && n <= maxSlices && knownCPU(binary.BigEndian.Uint32(head[8:]))
}

func thinMagic(head []byte) (big, wide, ok bool) {
	if len(head) < 4 {
		return false, false, false
	}
	switch binary.LittleEndian.Uint32(head) {
	case magic32:
		return false, false, true
	case magic64:
		return false, true, true
	}
	switch binary.BigEndian.Uint32(head) {
	case magic32:
		return true, false, true
	case magic64:
		return true, true, true
	}
	return false, false, false
}

// Parse returns one image for a thin file and one for each slice of a fat one,
// in the order of the file; a slice that is a static library gives one for
// each of its objects. It fails if nothing can be made sense of; otherwise
// what could not be read is in the notes of the images.
func Parse(data []byte) ([]*image.Image, error) {
	if _, _, ok := thinMagic(data); ok {
		m, err := parseThin(data, 0)
		if err != nil {
			return nil, fmt.Errorf("macho: %w", err)
		}
		return []*image.Image{m}, nil
	}
	if !Is(data) {
		return nil, fmt.Errorf("macho: not a Mach-O file")
	}
	return parseFat(data)
}
