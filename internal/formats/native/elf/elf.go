// Package elf reads ELF files of every machine, width and byte order into an
// image.Image. It follows the System V Application Binary Interface, generic
// part ("gABI"), chapters 4 and 5, and the supplements of the processors.
//
// What the loader sees decides: the dynamic table, found through the program
// headers, is preferred to section headers, which a file may lack or forge.
//
// It refuses to trust: each count, offset and link is checked against bytes
// that exist, each table is read at most once, and what cannot be read leaves
// a note beside what can.
package elf

import (
	"bytes"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Magic is how every ELF file begins (gABI, "ELF Identification").
const Magic = "\x7fELF"

// Is reports whether head, the first bytes of a file, begins an ELF file.
func Is(head []byte) bool { return bytes.HasPrefix(head, []byte(Magic)) }

// Parse reads one ELF file. The image keeps data and shares its memory. An
// error means that the identification makes no sense; whatever else is wrong
// becomes a note in the image.
//
// A relocatable object states no addresses. Its sections are laid out at their
// offsets in the file, and those that occupy no bytes of it behind its end.
func Parse(data []byte) (*image.Image, error) {
	f, err := open(data)
	if err != nil {
		return nil, err
	}
	f.readHeader()
	f.readSections()
	f.readPrograms()
	f.mapSegments()
	f.listSections()
	f.readDynamic()
	f.readRelocations()
	f.readVersions()
	f.readSymbols()
	f.joinSlots()
	f.sortPointers()
	f.listInitializers()
	f.findStubs()
	f.findFunctions()
	f.readNotes()
	f.describe()
	f.findOverlay()
	f.m.Finish()
	return f.m, nil
}

// A file is an ELF file while it is read.
type file struct {
	layout
	m    *image.Image
	data []byte
	header
	progs  []prog
	sects  []sect
	code   ranges // addresses of instructions
	mapped ranges // all addresses of segments

	debugOnly bool // the file was split off, its code is elsewhere
	opd       span // function descriptors of 64-bit PowerPC

	dynamic  dynamic
	relative map[uint64]uint64 // what RELATIVE relocations put where, within function descriptors
	rebased  []uint64          // where RELATIVE relocations apply, 32-bit ARM only
	slots    []slot            // pointers that the loader fills with the address of a symbol
	needs    map[uint16]need   // needed symbol versions, by version index
	outer    []int32           // by index in the dynamic symbol table: 1 + index in m.Imports, or -1 - index in m.Exports; 0 for others

	fromNote string // operating system that a note names
	scanLeft uint64 // bytes of code that may still be gone through
	nameLeft int    // bytes of names that may still be read: tables may name the same long string again and again
}

// A layout says how integers are stored.
type layout struct{ wide, big bool }

func (l layout) u16(b []byte) uint16 {
	if l.big {
		return uint16(b[1]) | uint16(b[0])<<8
	}
	return uint16(b[0]) | uint16(b[1])<<8
}

func (l layout) u32(b []byte) uint32 {
	_ = b[3]
	if l.big {
		return uint32(b[3]) | uint32(b[2])<<8 | uint32(b[1])<<16 | uint32(b[0])<<24
	}
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func (l layout) u64(b []byte) uint64 {
	_ = b[7]
	if l.big {
		return uint64(l.u32(b))<<32 | uint64(l.u32(b[4:]))
	}
	return uint64(l.u32(b[4:]))<<32 | uint64(l.u32(b))
}

// word reads an address of the file's width.
func (l layout) word(b []byte) uint64 {
	if l.wide {
		return l.u64(b)
	}
	return uint64(l.u32(b))
}

// size is the number of bytes of an address.
func (l layout) size() int {
	if l.wide {
		return 8
	}
	return 4
}

// address wraps a computed address to the file's width.
func (l layout) address(v uint64) uint64 {
	if l.wide {
		return v
	}
	return v & 0xffffffff
}
