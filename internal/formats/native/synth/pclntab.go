package synth

// pclntab writes the table by which the Go runtime of version 1.20 and later
// finds functions (cmd/link/internal/ld/pcln.go, runtime/symtab.go): a
// header, function names, compilation units, files, tables of values by
// program counter, and an entry for each function.
func pclntab(funcs []*definition, text uint64, wide bool, arch string) []byte {
	const headerWords, entrySize = 8, 44
	w := &writer{wide: wide}
	quantum, pointer := byte(4), byte(4)
	if arch == "x86" || arch == "x86_64" {
		quantum = 1
	}
	if wide {
		pointer = 8
	}
	w.u32(0xfffffff1)
	w.u8(0, 0, quantum, pointer)
	header := w.len()
	w.bytes(make([]byte, headerWords*int(pointer)))

	names := w.len()
	var nameOffsets []uint32
	for _, f := range funcs {
		nameOffsets = append(nameOffsets, uint32(w.len()-names))
		w.cstring(f.Name)
	}
	w.pad(4)
	units := w.len()
	w.u32(0) // the first file of the only unit
	files := w.len()
	w.cstring("main.go")

	// Each table is pairs of a zigzag difference of the value, which starts
	// at -1, and a difference of the program counter; a zero ends it.
	tables := w.len()
	w.u8(0)
	var stack, file, line []uint32
	table := func(value, size uint64) uint32 {
		at := uint32(w.len() - tables)
		w.uleb(2 * (value + 1))
		w.uleb(max(size/uint64(quantum), 1))
		w.u8(0)
		return at
	}
	for n, f := range funcs {
		stack = append(stack, table(0, f.size))
		file = append(file, table(0, f.size))
		line = append(line, table(uint64(n+1), f.size))
	}
	w.pad(int(pointer))

	entries := w.len()
	index := 4 * (2*len(funcs) + 1)
	first := (index + 3) &^ 3
	end := uint64(0)
	for n, f := range funcs {
		w.u32(uint32(f.addr-text), uint32(first+n*entrySize))
		end = f.addr + f.size - text
	}
	w.u32(uint32(end))
	for n, f := range funcs {
		w.u32(uint32(f.addr-text), nameOffsets[n], 0, 0, stack[n], file[n], line[n], 0, 0, uint32(n+1))
		w.u32(0) // function id, flags, no further data
	}

	h := &writer{wide: wide}
	h.word(uint64(len(funcs)), 1, text)
	for _, at := range []int{names, units, files, tables, entries} {
		h.word(uint64(at))
	}
	copy(w.b[header:], h.b)
	return w.b
}
