package pe

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// exceptionTable reads the exception directory ("The .pdata Section"). It
// returns the functions and, merged, the addresses that they and their
// fragments hold, and gives the image the fragments.
func (f *file) exceptionTable() ([]image.Function, []span) {
	dir := f.dirs[dirException]
	if dir.rva == 0 || dir.size == 0 {
		return nil, nil
	}
	var entry uint64
	var read func(b []byte) (addr, size uint64, fragment bool)
	switch f.machine {
	case machineAMD64:
		entry, read = 12, f.entryAMD64
	case machineIA64:
		entry, read = 12, func(b []byte) (uint64, uint64, bool) {
			return uint64(le32(b)), uint64(le32(b[4:])) - uint64(le32(b)), false
		}
	case machineARM64, machineARM64EC, machineARM64X:
		entry, read = 8, f.entryARM64
	case machineARMNT:
		entry, read = 8, f.entryARM
	default:
		return nil, nil
	}
	b := f.table(dir.rva, dir.size)
	if uint64(len(b)) < dir.size {
		f.m.Notef("exception directory is cut off: %d of %d entries are there", uint64(len(b))/entry, dir.size/entry)
	}
	list := make([]image.Function, 0, uint64(len(b))/entry)
	covered := make([]span, 0, uint64(len(b))/entry)
	outside := 0
	for ; uint64(len(b)) >= entry; b = b[entry:] {
		rva, size, fragment := read(b[:entry])
		if rva == 0 {
			continue // unused
		}
		addr := f.m.Base + rva
		if !holds(f.code, addr) {
			outside++
			continue
		}
		if size > 1<<32-1 {
			size = 0 // ends before it starts
		}
		if size > 0 && addr+size > addr {
			covered = append(covered, span{addr, addr + size})
		}
		switch {
		case !fragment:
			list = append(list, image.Function{Addr: addr, Size: size})
		case size > 0:
			if of := f.ownerOf(b[:entry], list); of != 0 {
				f.m.Functions.Fragments = append(f.m.Functions.Fragments, image.Fragment{Addr: addr, Size: size, Of: of})
			}
		}
	}
	slices.SortFunc(f.m.Functions.Fragments, func(a, b image.Fragment) int { return cmp.Compare(a.Addr, b.Addr) })
	if outside > 0 {
		f.m.Notef("exception directory: %d entries lie outside of code", outside)
	}
	return list, merge(covered)
}

// ownerOf returns the start of the function that a fragment belongs to: on x64
// its unwind information says so, elsewhere it is taken to be the one before it.
// It returns 0 if there is none.
func (f *file) ownerOf(entry []byte, before []image.Function) uint64 {
	if f.machine == machineAMD64 {
		const steps = 32 // fragments of fragments
		for range steps {
			unwind := uint64(le32(entry[8:]))
			var next []byte
			if unwind&1 != 0 {
				next = f.at(unwind &^ 1)
			} else {
				info := f.at(unwind)
				if len(info) < 4 {
					return 0
				}
				if info[0]>>3&unwindChained == 0 {
					return f.m.Base + uint64(le32(entry))
				}
				codes := (int(info[2]) + 1) &^ 1 // two bytes each, an even number of them
				if 4+2*codes > len(info) {
					return 0
				}
				next = info[4+2*codes:]
			}
			if len(next) < 12 {
				return 0
			}
			entry = next[:12]
		}
		return 0
	}
	if n := len(before); n > 0 {
		return before[n-1].Addr
	}
	return 0
}

// unwindChained is the flag UNW_FLAG_CHAININFO, above three bits of version.
const unwindChained = 4

// entryAMD64 reads start, end and unwind information ("x64 exception
// handling"). A fragment's unwind information is chained to that of its
// function, or is, with the lowest bit set, the function's own entry.
func (f *file) entryAMD64(b []byte) (addr, size uint64, fragment bool) {
	start, end, unwind := le32(b), le32(b[4:]), uint64(le32(b[8:]))
	if unwind&1 != 0 {
		return uint64(start), uint64(end) - uint64(start), true
	}
	info := f.at(unwind)
	return uint64(start), uint64(end) - uint64(start), len(info) > 0 && info[0]>>3&unwindChained != 0
}

// entryARM64 reads a start and either packed unwind data or where it is ("ARM64
// exception handling"). A packed fragment says so. In unwind codes, end_c closes
// what this part of a function does and is followed by the prologue that ran
// before it: such a part is a fragment, too.
func (f *file) entryARM64(b []byte) (addr, size uint64, fragment bool) {
	const end, endC = 0xe4, 0xe5
	start, data := uint64(le32(b)), le32(b[4:])
	if flag := data & 3; flag != 0 {
		return start, uint64(data>>2&0x7ff) * 4, flag == 2
	}
	c := cursor.New(f.at(uint64(data)), false)
	header := c.U32()
	size = uint64(header&0x3ffff) * 4
	epilogues, words := header>>22&0x1f, header>>27
	if epilogues == 0 && words == 0 {
		more := c.U32()
		epilogues, words = more&0xffff, more>>16&0xff
	}
	if single := header>>21&1 != 0; !single {
		c.Skip(4 * uint64(epilogues))
	}
	codes := c.Bytes(min(4*uint64(words), uint64(c.Len())))
	for len(codes) > 0 && codes[0] != end {
		if codes[0] == endC {
			return start, size, true
		}
		codes = codes[min(unwindCodeSize(codes[0]), len(codes)):]
	}
	return start, size, false
}

// unwindCodeSize returns the bytes of an ARM64 unwind code that starts with b.
func unwindCodeSize(b byte) int {
	switch {
	case b < 0xc0:
		return 1
	case b < 0xe0, b == 0xe2, b == 0xf8:
		return 2
	case b == 0xe7, b == 0xf9:
		return 3
	case b == 0xe0, b == 0xfa:
		return 4
	case b == 0xfb:
		return 5
	}
	return 1
}

// entryARM reads a start and either packed unwind data or where it is ("ARM
// exception handling"). Both forms have a mark for fragments.
func (f *file) entryARM(b []byte) (addr, size uint64, fragment bool) {
	start, data := uint64(le32(b)&^1), le32(b[4:])
	if flag := data & 3; flag != 0 {
		return start, uint64(data>>2&0x7ff) * 2, flag == 2
	}
	header := cursor.New(f.at(uint64(data)), false).U32()
	return start, uint64(header&0x3ffff) * 2, header>>22&1 != 0
}
