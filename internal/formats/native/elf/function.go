package elf

import (
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// maxFunctions bounds the functions that one method finds.
const maxFunctions = 1 << 22

// findFunctions lists where functions start. Frame descriptions tell it best.
// Code that has few of them, such as hand-written assembly, is completed with
// symbols; code that has none, with everything that names an address of code.
func (f *file) findFunctions() {
	if f.typ == typeCore || f.debugOnly && len(f.m.Symbols) == 0 {
		return
	}
	list, method := f.gatherFunctions()
	f.nameFunctions(list)
	f.m.Functions = image.Functions{List: list, Count: len(list), Method: method}
	if len(list) == 0 {
		f.m.Functions.Method = ""
	}
	if total := f.code.total(); total > 0 {
		f.m.Functions.Coverage = float64(f.code.covered(list)) / float64(total)
	}
}

func (f *file) gatherFunctions() (list []image.Function, method string) {
	if f.machine == machineARM && f.typ != typeRel {
		return f.gatherARM()
	}
	framed := order(f.readFrames())
	var covered ranges
	for _, fn := range framed {
		covered = append(covered, span{fn.Addr, fn.Addr + max(1, min(fn.Size, -fn.Addr-1))})
	}
	covered = covered.merge()
	var others []image.Function
	for _, fn := range append(f.symbolFunctions(), f.startFunctions()...) {
		if !covered.has(fn.Addr) {
			others = append(others, fn)
		}
	}
	if len(framed) == 0 {
		return order(others), "symbols"
	}
	all := merge(framed, order(others))
	const (
		few  = 0.5  // of the code is described: the rest cannot be a detail
		gain = 0.05 // of the code that only symbols describe
	)
	total := float64(f.code.total())
	by, with := float64(f.code.covered(framed)), float64(f.code.covered(all))
	if len(all) > len(framed) && (by < few*total || with-by > gain*total) {
		return all, "eh_frame+symbols"
	}
	return framed, "eh_frame"
}

// order sorts functions by address and keeps the longest of each.
func order(list []image.Function) []image.Function {
	ascending := true
	for i := 1; i < len(list) && ascending; i++ {
		ascending = list[i-1].Addr < list[i].Addr
	}
	if ascending {
		return list
	}
	slices.SortFunc(list, func(a, b image.Function) int {
		if a.Addr != b.Addr {
			return compare(a.Addr, b.Addr)
		}
		return cmp.Compare(b.Size, a.Size)
	})
	return slices.CompactFunc(list, func(a, b image.Function) bool { return a.Addr == b.Addr })
}

// merge puts two lists that are in order into one. They have no address in
// common.
func merge(a, b []image.Function) []image.Function {
	out := make([]image.Function, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].Addr < b[0].Addr {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// symbolFunctions returns the functions that symbols tell.
func (f *file) symbolFunctions() []image.Function {
	var list []image.Function
	for i := range f.m.Symbols {
		if s := &f.m.Symbols[i]; s.Func && f.code.has(s.Addr) {
			list = append(list, image.Function{Addr: s.Addr, Size: s.Size})
		}
	}
	return list
}

// startFunctions returns the functions that the loader calls: the entry point
// and those that initialise and finish.
func (f *file) startFunctions() []image.Function {
	var list []image.Function
	add := func(addr uint64) {
		if addr = f.codeAddr(addr); addr != 0 && f.code.has(addr) {
			list = append(list, image.Function{Addr: addr})
		}
	}
	if f.typ != typeRel {
		add(f.entry)
	}
	d := f.dynamic.values
	add(d[tagInit])
	add(d[tagFini])
	for _, t := range []struct{ at, size uint64 }{
		{tagPreinit, tagPreinitSz}, {tagInitArray, tagInitArraySz}, {tagFiniArray, tagFiniArraySz},
	} {
		if d[t.size] != 0 {
			f.eachPointer(d[t.at], f.table(t.at, t.size), add)
		}
	}
	return list
}

// nameFunctions names each function by a symbol at its address. Where several
// stand there, a strong one is better than a weak one and a short one better
// than a long one.
func (f *file) nameFunctions(list []image.Function) {
	symbols := f.m.Symbols
	i := 0
	for n := range list {
		fn := &list[n]
		for i < len(symbols) && symbols[i].Addr < fn.Addr {
			i++
		}
		var best *image.Symbol
		for ; i < len(symbols) && symbols[i].Addr == fn.Addr; i++ {
			s := &symbols[i]
			if s.Func && (best == nil || better(s, best)) {
				best = s
			}
		}
		if best != nil {
			fn.Name = best.Name
		}
	}
}

func better(a, b *image.Symbol) bool {
	if a.Weak != b.Weak {
		return b.Weak
	}
	return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), strings.Compare(a.Name, b.Name)) < 0
}
