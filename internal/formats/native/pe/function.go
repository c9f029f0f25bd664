package pe

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// functions finds where functions start, by what the machine's binaries have:
//
//   - "pdata": the exception directory, which x86_64, ARM and IA64 binaries
//     need. Count is its functions without fragments; the list also has starts
//     that are known otherwise, such as leaf functions, which need no entry.
//   - "methoddef": the methods with code of a .NET image.
//   - "symbols": a COFF symbol table, or, on machines whose code is not
//     searched, whatever has a name or is an entry point.
//   - "heuristic": x86 and, if it has no table, x86_64 without symbols; see
//     heuristic.go.
func (f *file) functions() {
	m := f.m
	fn := &m.Functions
	known := f.knownStarts()
	table, covered := f.exceptionTable()
	named := f.symbolStarts()

	switch {
	case f.managed != nil && f.managed.ilOnly && len(table) == 0:
		fn.Method, fn.List = "methoddef", f.methods()
		fn.Count = len(fn.List)
		return
	case len(table) > 0:
		fn.Method, fn.Count = "pdata", len(table)
		// A start within a function of the table is a label or a fragment.
		for _, addr := range append(known, named...) {
			if !holds(covered, addr) {
				table = append(table, image.Function{Addr: addr})
			}
		}
		fn.List = table
	default:
		fn.Method = "symbols"
		if f.machine == machineI386 || f.machine == machineAMD64 {
			known = f.guessStarts(known)
			// A symbol table that names few of these only adds to them.
			if len(named) > 0 && len(named) >= len(known)/2 {
				known = nil
			} else {
				fn.Method = "heuristic"
			}
		} else if len(named) == 0 && len(f.code) > 0 {
			f.m.Notef("no table of functions for %s: only entry points and exports are listed", f.m.Arch)
		}
		fn.List = make([]image.Function, 0, len(known)+len(named))
		for _, addr := range append(known, named...) {
			fn.List = append(fn.List, image.Function{Addr: addr})
		}
	}
	f.nameFunctions()
	if fn.Method != "pdata" {
		fn.Count = len(fn.List)
	}
	if total := length(f.code); total > 0 {
		fn.Coverage = float64(overlap(covered, f.code)) / float64(total)
	}
}

// knownStarts returns the addresses in code at which the file itself says that
// something starts.
func (f *file) knownStarts() []uint64 {
	list := append(f.guardAddresses(), f.callbacks()...)
	if f.m.Entry != 0 {
		list = append(list, f.m.Entry)
	}
	for _, e := range f.m.Exports {
		if e.Forward == "" && !e.Data {
			list = append(list, e.Addr)
		}
	}
	return f.starts(list)
}

// symbolStarts returns the addresses of function symbols.
func (f *file) symbolStarts() []uint64 {
	var list []uint64
	for _, s := range f.m.Symbols {
		if s.Func {
			list = append(list, s.Addr)
		}
	}
	return f.starts(list)
}

// starts returns which addresses lie in code, sorted, without repeats. An
// address of Thumb code has its lowest bit set.
func (f *file) starts(list []uint64) []uint64 {
	if f.m.Arch == image.ARM {
		for i := range list {
			list[i] &^= 1
		}
	}
	list = slices.DeleteFunc(list, func(a uint64) bool { return !holds(f.code, a) })
	slices.Sort(list)
	return slices.Compact(list)
}

// nameFunctions sorts the list and gives its functions the names of symbols
// and exports.
func (f *file) nameFunctions() {
	list := f.m.Functions.List
	slices.SortFunc(list, func(a, b image.Function) int {
		return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(b.Size, a.Size))
	})
	list = slices.CompactFunc(list, func(a, b image.Function) bool { return a.Addr == b.Addr })
	f.m.Functions.List = list
	name := func(addr uint64, name string) {
		i, ok := slices.BinarySearchFunc(list, addr, func(fn image.Function, addr uint64) int { return cmp.Compare(fn.Addr, addr) })
		if ok && list[i].Name == "" {
			list[i].Name = name
		}
	}
	for _, s := range f.m.Symbols {
		if s.Func {
			name(s.Addr, s.Name)
		}
	}
	for _, e := range f.m.Exports {
		if e.Forward == "" {
			name(e.Addr, e.Name)
		}
	}
	for _, s := range f.m.Symbols {
		name(s.Addr, s.Name)
	}
}
