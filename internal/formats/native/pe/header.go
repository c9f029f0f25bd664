package pe

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Bits of the file header's characteristics.
const fileDLL = 0x2000

// Bits of a section's characteristics.
const (
	sectionCode    = 0x00000020
	sectionExecute = 0x20000000
	sectionRead    = 0x40000000
	sectionWrite   = 0x80000000
)

const page = 0x1000

// An optional header, as far as it is used.
type optional struct {
	sectionAlign uint64
	imageSize    uint64
	subsystem    uint16
}

// headers reads the file header, whose bytes are coff and whose offset is at,
// the optional header and the section table.
func (f *file) headers(at uint64, coff []byte) {
	c := cursor.New(coff, false)
	f.machine = c.U16()
	sections := uint64(c.U16())
	c.Skip(4) // time stamp
	symbols, count := uint64(c.U32()), uint64(c.U32())
	size := uint64(c.U16())
	flags := c.U16()

	f.locateSymbols(symbols, count, symbolSize)
	f.setMachine()
	opt := f.optional(at+20, size)
	f.setKind(flags, opt.subsystem)
	f.sections(at+20+size, sections, opt)
}

// setMachine fills in what the machine field says ("Machine Types"; the codes
// of system-specific .NET images are in the runtime's "ReadyToRun Overview").
func (f *file) setMachine() {
	f.m.OS = "windows"
	machine := f.machine
	if arch, bits := architecture(machine); arch != "" {
		f.m.Arch, f.m.Bits = arch, bits
		return
	}
	// A precompiled .NET image for another system has its machine code XORed
	// with a constant, so that Windows refuses it.
	for _, other := range []struct {
		os  string
		key uint16
	}{{"linux", 0x7b79}, {"darwin", 0x4644}, {"freebsd", 0xadc4}, {"netbsd", 0x1993}} {
		switch m := machine ^ other.key; m {
		case machineI386, machineAMD64, machineARM64, machineARMNT:
			f.machine, f.m.OS = m, other.os
			f.m.Arch, f.m.Bits = architecture(m)
			return
		}
	}
	f.m.Arch, f.m.Bits = image.Arch(fmt.Sprintf("pe-machine-%d", machine)), 32
}

// Machine types that decide more than a name.
const (
	machineI386    = 0x14c
	machineARM     = 0x1c0
	machineThumb   = 0x1c2
	machineARMNT   = 0x1c4
	machineIA64    = 0x200
	machineAMD64   = 0x8664
	machineARM64   = 0xaa64
	machineARM64EC = 0xa641
	machineARM64X  = 0xa64e
)

func architecture(machine uint16) (image.Arch, int) {
	switch machine {
	case machineI386:
		return image.X86, 32
	case machineAMD64:
		return image.X86_64, 64
	case machineARM64, machineARM64EC, machineARM64X:
		return image.AArch64, 64
	case machineARM, machineThumb, machineARMNT:
		return image.ARM, 32
	case machineIA64:
		return image.IA64, 64
	case 0x1f0, 0x1f1:
		return image.PPC, 32
	case 0x162, 0x166, 0x168, 0x169, 0x266, 0x366, 0x466:
		return image.MIPS, 32
	case 0x5032:
		return image.RISCV32, 32
	case 0x5064:
		return image.RISCV64, 64
	case 0x6264:
		return image.LoongArch, 64
	}
	return "", 0
}

// optional reads the optional header, of which size bytes are said to be there.
// The loader goes by the fixed layout and not by that size, so this does too.
func (f *file) optional(at, size uint64) optional {
	var opt optional
	c := cursor.New(f.m.Data, false).Seek(at)
	if size == 0 {
		f.m.Notef("no optional header: addresses and directories are unknown")
		return opt
	}
	switch magic := c.U16(); magic {
	case 0x10b:
		f.m.Bits = 32
	case 0x20b:
		f.wide, f.m.Bits = true, 64
	case 0x107:
		f.m.Notef("a ROM image: its header has no directories")
		return opt
	default:
		f.m.Notef("optional header has magic %#x, neither PE32 nor PE32+", magic)
		return opt
	}
	f.linker = [2]byte{c.U8(), c.U8()}
	c.Skip(12) // sizes of code and data
	entry := uint64(c.U32())
	c.Skip(4) // base of code
	if !f.wide {
		c.Skip(4) // base of data
	}
	f.m.Base = c.Word(f.wide)
	if entry != 0 {
		f.m.Entry = f.m.Base + entry
	}
	opt.sectionAlign = uint64(c.U32())
	c.Skip(20) // file alignment, versions
	opt.imageSize = uint64(c.U32())
	f.header = uint64(c.U32())
	c.Skip(4) // checksum
	opt.subsystem = c.U16()
	c.Skip(2)
	for range 4 { // stack and heap
		c.Word(f.wide)
	}
	c.Skip(4) // loader flags
	n := c.U32()
	for i := range min(n, uint32(len(f.dirs))) {
		f.dirs[i] = directory{uint64(c.U32()), uint64(c.U32())}
	}
	if c.Err() != nil {
		f.m.Notef("optional header is cut off: %v", c.Err())
	}
	return opt
}

// setKind fills in what the characteristics and the subsystem say ("Windows
// Subsystem").
func (f *file) setKind(flags, subsystem uint16) {
	const native, efiApplication, efiBootDriver, efiRuntimeDriver, efiROM = 1, 10, 11, 12, 13
	switch {
	case subsystem == native, subsystem == efiBootDriver, subsystem == efiRuntimeDriver:
		f.m.Kind = image.Driver
	case flags&fileDLL != 0:
		f.m.Kind = image.Library
	default:
		f.m.Kind = image.Executable
	}
	if subsystem >= efiApplication && subsystem <= efiROM {
		f.m.OS = "uefi"
	}
}

// sections reads the section table and lays the file out in memory as the
// loader does.
func (f *file) sections(at, count uint64, opt optional) {
	const entry = 40
	table, whole := cursor.Slice(f.m.Data, at, count*entry)
	if !whole {
		f.m.Notef("section table is cut off: %d of %d sections are there", len(table)/entry, count)
	}
	// Below the size of a page the loader maps the file as it is, without
	// rounding.
	flat := opt.sectionAlign < page
	size := uint64(len(f.m.Data))
	end := uint64(0) // of the last section's bytes in the file
	first := opt.imageSize
	cut := 0
	for ; len(table) >= entry; table = table[entry:] {
		c := cursor.New(table[:entry], false)
		name := f.sectionName(c.Bytes(8))
		virtual, rva := uint64(c.U32()), uint64(c.U32())
		raw, offset := uint64(c.U32()), uint64(c.U32())
		c.Skip(12) // relocations and line numbers of object files
		flags := c.U32()

		if virtual == 0 {
			virtual = raw
		}
		if !flat {
			offset &^= 0x1ff
		}
		if offset == 0 || raw == 0 { // zero-filled
			offset, raw = 0, 0
		}
		stored := raw
		if offset > size || raw > size-offset {
			stored = size - min(offset, size)
			cut++
			f.m.Notef("section %q is cut off: %d of %d bytes are in the file", name, stored, raw)
		}
		end = max(end, offset+stored)
		if rva < first {
			first = rva
		}
		access := sectionAccess(flags)
		f.m.Sections = append(f.m.Sections, image.Section{
			Name: name, Addr: f.m.Base + rva, Size: virtual, Offset: offset, FileSize: stored,
			Access: access, Code: flags&(sectionCode|sectionExecute) != 0,
		})
		f.m.Segments = append(f.m.Segments, image.Segment{
			Name: name, Addr: f.m.Base + rva, Size: virtual, Offset: offset,
			FileSize: min(stored, (virtual+page-1)&^(page-1)), Access: access,
		})
	}
	if whole && cut == 0 {
		f.m.Overlay = image.Range{Offset: end}
	} else {
		f.m.Overlay = image.Range{Offset: size}
	}
	f.m.Overlay.Offset = max(f.m.Overlay.Offset, min(f.header, size))

	mapped := min(f.header, size)
	if flat {
		mapped = size
	}
	if len(f.m.Segments) > 0 {
		mapped = min(mapped, first)
	}
	f.m.Segments = append(f.m.Segments, image.Segment{
		Name: "header", Addr: f.m.Base, Size: mapped, FileSize: mapped, Access: image.Read,
	})
	slices.SortStableFunc(f.m.Segments, func(a, b image.Segment) int { return cmp.Compare(a.Addr, b.Addr) })
	f.code = codeSpans(f.m.Sections)
	if f.m.Arch == image.ARM { // Windows has T32 instructions alone
		f.m.Modes = []image.Mode{{Addr: f.m.Base, Thumb: true}}
	}
}

func sectionAccess(flags uint32) image.Access {
	var a image.Access
	if flags&sectionRead != 0 {
		a |= image.Read
	}
	if flags&sectionWrite != 0 {
		a |= image.Write
	}
	if flags&sectionExecute != 0 {
		a |= image.Execute
	}
	return a
}

// sectionName reads the eight bytes of a section's name. A longer name is "/"
// and its decimal offset in the string table, or "//" and the offset in base64
// as LLVM writes it for large tables.
func (f *file) sectionName(b []byte) string {
	name := strings.TrimRight(string(b), "\x00")
	ref, long := strings.CutPrefix(name, "/")
	if !long {
		return name
	}
	var off uint64
	if digits, big := strings.CutPrefix(ref, "/"); big {
		raw, err := base64.RawStdEncoding.DecodeString("AA" + digits)
		if err != nil {
			return name
		}
		for _, b := range raw {
			off = off<<8 | uint64(b)
		}
	} else {
		n, err := strconv.ParseUint(ref, 10, 32)
		if err != nil {
			return name
		}
		off = n
	}
	if s, ok := f.string(f.strings, off); ok && s != "" {
		return s
	}
	return name
}
