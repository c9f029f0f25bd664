package elf

import (
	"errors"
	"fmt"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Object file types (gABI, "ELF Header", e_type).
const (
	typeRel  = 1
	typeExec = 2
	typeDyn  = 3
	typeCore = 4
)

// Machines (gABI, "ELF Header", e_machine) that this package treats specially.
const (
	machine386       = 3
	machineIAMCU     = 6
	machineMIPS      = 8
	machineMIPSRS3LE = 10
	machinePPC       = 20
	machinePPC64     = 21
	machineS390      = 22
	machineARM       = 40
	machineSPARCV9   = 43
	machineIA64      = 50
	machineX86_64    = 62
	machineAArch64   = 183
	machineRISCV     = 243
	machineLoongArch = 258
	machineAlpha     = 0x9026
)

// Flags of machines, in e_flags.
const (
	flagMIPSABI2 = 0x20       // the n32 convention of 64-bit machines
	flagARMBE8   = 0x00800000 // big-endian data, little-endian code
)

const (
	identificationSize = 16
	headerSize32       = 52
	headerSize64       = 64

	extendedNumber = 0xffff // in e_phnum and e_shstrndx: section header 0 has the true number
)

// A header holds what of the ELF header is needed later.
type header struct {
	typ, machine         uint16
	osabi                uint8
	flags                uint32
	entry, phoff, shoff  uint64
	phentsize, shentsize uint64
	phnum, shnum         uint64 // as the header says, extended numbering resolved by readSections
	shstrndx             uint64
}

// open reads the identification. Loaders look at the machine only, so files
// exist whose class or byte order is forged to mislead tools: a header that
// makes sense in another layout alone is read in that one.
func open(data []byte) (*file, error) {
	if !Is(data) {
		return nil, errors.New("not an ELF file")
	}
	if len(data) < 6 {
		return nil, errors.New("ELF identification is cut off")
	}
	class, order := data[4], data[5]
	stated := layout{wide: class == 2, big: order == 2}
	valid := (class == 1 || class == 2) && (order == 1 || order == 2)
	f := &file{
		layout:   stated,
		m:        &image.Image{Format: image.ELF, Data: data},
		data:     data,
		nameLeft: 1<<20 + 4*len(data),
		scanLeft: 3 * uint64(len(data)),
	}
	if !valid || !coherent(data, stated) {
		var others []layout
		for _, l := range []layout{{false, false}, {true, false}, {false, true}, {true, true}} {
			if coherent(data, l) && (!valid || l != stated) {
				others = append(others, l)
			}
		}
		switch {
		case len(others) == 1:
			f.layout = others[0]
			f.m.Notef("identification says class %d and byte order %d, which the header contradicts", class, order)
		case !valid:
			return nil, fmt.Errorf("ELF identification has class %d and byte order %d", class, order)
		}
	}
	return f, nil
}

// coherent reports whether the header's own sizes are right in that layout.
func coherent(data []byte, l layout) bool {
	size := headerSize32
	if l.wide {
		size = headerSize64
	}
	if len(data) < size {
		return false
	}
	if l.wide {
		return l.u32(data[20:]) == 1 && l.u16(data[52:]) == headerSize64 &&
			(l.u16(data[54:]) == programSize64 || l.u16(data[58:]) == sectionSize64)
	}
	return l.u32(data[20:]) == 1 && l.u16(data[40:]) == headerSize32 &&
		(l.u16(data[42:]) == programSize32 || l.u16(data[46:]) == sectionSize32)
}

func (f *file) cursor(data []byte) *cursor.Cursor { return cursor.New(data, f.big) }

// readHeader reads the ELF header (gABI, "ELF Header").
func (f *file) readHeader() {
	m := f.m
	m.Bits, m.BigEndian = 32, f.big
	if f.wide {
		m.Bits = 64
	}
	if len(f.data) > 7 {
		f.osabi = f.data[7]
	}
	c := f.cursor(f.data).Skip(identificationSize)
	h := &f.header
	h.typ = c.U16()
	h.machine = c.U16()
	c.U32() // e_version
	h.entry = c.Word(f.wide)
	h.phoff = c.Word(f.wide)
	h.shoff = c.Word(f.wide)
	h.flags = c.U32()
	c.U16() // e_ehsize
	h.phentsize = uint64(c.U16())
	h.phnum = uint64(c.U16())
	h.shentsize = uint64(c.U16())
	h.shnum = uint64(c.U16())
	h.shstrndx = uint64(c.U16())
	if err := c.Err(); err != nil {
		m.Notef("header: %v", err)
	}
	m.Arch = f.arch()
	switch h.typ {
	case typeRel:
		m.Kind = image.Object
	case typeExec:
		m.Kind = image.Executable
	case typeDyn:
		m.Kind = image.Library
	case typeCore:
		m.Kind = image.Core
	default:
		m.Notef("header: unknown file type %d", h.typ)
	}
}

// arch names the machine.
func (f *file) arch() image.Arch {
	switch f.machine {
	case machineX86_64:
		return image.X86_64
	case machine386, machineIAMCU:
		return image.X86
	case machineAArch64:
		return image.AArch64
	case machineARM:
		return image.ARM
	case machineRISCV:
		if f.wide {
			return image.RISCV64
		}
		return image.RISCV32
	case machinePPC:
		return image.PPC
	case machinePPC64:
		if f.big {
			return image.PPC64
		}
		return image.PPC64LE
	case machineS390:
		if f.wide {
			return image.S390X
		}
	case machineMIPS, machineMIPSRS3LE:
		if f.wide || f.flags&flagMIPSABI2 != 0 {
			return image.MIPS64
		}
		return image.MIPS
	case machineLoongArch:
		if f.wide {
			return image.LoongArch
		}
	case machineSPARCV9:
		return image.SPARC64
	case machineIA64:
		return image.IA64
	}
	return image.Arch(fmt.Sprintf("elf-machine-%d", f.machine))
}

// findOverlay finds the bytes behind everything that a header speaks of.
func (f *file) findOverlay() {
	size := uint64(len(f.data))
	end := uint64(headerSize32)
	if f.wide {
		end = headerSize64
	}
	reach := func(off, n uint64) {
		if n == 0 {
			return
		}
		if off+n < off {
			off, n = size, 0
		}
		end = max(end, off+n)
	}
	reach(f.phoff, f.phentsize*uint64(len(f.progs)))
	reach(f.shoff, f.shentsize*uint64(len(f.sects)))
	for i := range f.sects {
		if s := &f.sects[i]; s.typ != sectNull && s.typ != sectNobits {
			reach(s.off, s.size)
		}
	}
	if !f.debugOnly {
		for i := range f.progs {
			reach(f.progs[i].off, f.progs[i].filesz)
		}
	}
	if end < size {
		f.m.Overlay = image.Range{Offset: end, Size: size - end}
	}
}
