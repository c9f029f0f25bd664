package pe

import "github.com/loupe-sec/loupe/internal/formats/native/cursor"

const maxTable = 1 << 20 // entries of a table of addresses

// guardAddresses reads where the load configuration says that code may be
// entered: the exception handlers of x86 and the targets of indirect calls
// ("The Load Configuration Structure").
func (f *file) guardAddresses() []uint64 {
	b := f.at(f.dirs[dirConfig].rva)
	if f.dirs[dirConfig].rva == 0 || len(b) < 4 {
		return nil
	}
	// The structure grows with each version of Windows; it says its own size.
	b = b[:min(uint64(len(b)), uint64(le32(b)))]
	field := func(narrow, wide uint64) uint64 {
		if f.wide {
			narrow = wide
		}
		return cursor.New(b, false).Skip(narrow).Word(f.wide)
	}
	flags := cursor.New(b, false).Skip(88)
	if f.wide {
		flags = cursor.New(b, false).Skip(144)
	}
	// Each entry of the call table has that many more bytes than its RVA.
	extra := uint64(flags.U32() >> 28)

	if f.wide && field(0, 200) != 0 {
		f.m.Notef("holds code for both x86_64 and aarch64 (ARM64EC or ARM64X): only functions of its main table are listed")
	}
	var list []uint64
	add := func(table, count, stride uint64) {
		if table == 0 {
			return
		}
		n := min(count, maxTable)
		entries := f.table(table-f.m.Base, n*stride)
		if uint64(len(entries)) < count*stride {
			f.m.Notef("load configuration: table at %#x has %d of %d entries", table, uint64(len(entries))/stride, count)
		}
		for ; uint64(len(entries)) >= stride; entries = entries[stride:] {
			list = append(list, f.m.Base+uint64(le32(entries)))
		}
	}
	if f.machine == machineI386 {
		add(field(64, 96), field(68, 104), 4)
	}
	add(field(80, 128), field(84, 136), 4+extra)
	return list
}

// callbacks reads the functions that run for each thread before the entry
// point ("The .tls Section").
func (f *file) callbacks() []uint64 {
	const most = 1024
	dir := f.dirs[dirTLS]
	if dir.rva == 0 {
		return nil
	}
	size := f.pointerSize()
	at := cursor.New(f.at(dir.rva), false).Skip(3 * size).Word(f.wide)
	if at == 0 {
		return nil
	}
	var list []uint64
	for b := f.m.At(at); uint64(len(b)) >= size && len(list) < most; b = b[size:] {
		addr := f.pointer(b)
		if addr == 0 {
			break
		}
		list = append(list, addr)
	}
	return list
}
