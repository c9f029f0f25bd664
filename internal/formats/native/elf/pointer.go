package elf

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// maxPointers bounds the pointers of a file.
const maxPointers = 1 << 23

// point records that the loader puts an address of the file into the word at
// an address.
func (f *file) point(at, to uint64) {
	if f.machine == machineARM && to&1 != 0 && f.code.has(to&^1) {
		to &^= 1 // a function of Thumb code
		if len(f.m.Modes) < maxPointers {
			f.m.Modes = append(f.m.Modes, image.Mode{Addr: to, Thumb: true, Start: true})
		}
	}
	if len(f.m.Pointers) < maxPointers && f.mapped.has(to) {
		f.m.Pointers = append(f.m.Pointers, image.Pointer{At: at, To: to})
	}
}

// pointRelative records a relocation that names no symbol: the address is the
// addend, which stands in the word itself if not in the table.
func (f *file) pointRelative(r relocation) {
	if r.explicit {
		f.point(r.addr, f.address(uint64(r.addend)))
	} else if b := f.m.At(r.addr); len(b) >= f.size() {
		f.point(r.addr, f.word(b))
	}
}

// pointSymbols records the pointers to symbols that the file defines itself.
func (f *file) pointSymbols(t symtab) {
	size := f.symbolSize()
	for _, s := range f.slots {
		at := uint64(s.sym) * size
		if s.kind == jumpSlot || at+size > uint64(len(t.bytes)) {
			continue
		}
		sym := f.symbol(t.bytes[at:])
		if sym.shndx == indexUndef || sym.typ() == symTLS {
			continue
		}
		if to, ok := f.place(t, s.sym, &sym); ok {
			f.point(s.addr, f.address(to+uint64(s.addend)))
		}
	}
}

// sortPointers puts pointers into the order that the image promises. Linkers
// sort all but a few.
func (f *file) sortPointers() {
	order := func(a, b image.Pointer) int { return cmp.Or(compare(a.At, b.At), compare(a.To, b.To)) }
	p := f.m.Pointers
	if len(p) == maxPointers {
		f.m.Notef("relocations: more than %d pointers, the rest is left out", maxPointers)
	}
	if !slices.IsSortedFunc(p, order) {
		slices.SortFunc(p, order)
	}
	f.m.Pointers = slices.CompactFunc(p, func(a, b image.Pointer) bool { return a.At == b.At })
}

// pointerAt returns what the loader puts into the word at an address, whose bytes
// are b.
func (f *file) pointerAt(at uint64, b []byte) uint64 {
	p := f.m.Pointers
	if i, ok := slices.BinarySearchFunc(p, at, func(p image.Pointer, at uint64) int { return compare(p.At, at) }); ok {
		return p[i].To
	}
	return f.word(b)
}

// listInitializers lists what the loader calls before the entry point (gABI,
// "Initialization and Termination Functions").
func (f *file) listInitializers() {
	d := f.dynamic.values
	var list []uint64
	add := func(addr uint64) {
		if addr = f.codeAddr(addr); addr != 0 && f.code.has(addr) {
			list = append(list, addr)
		}
	}
	add(d[tagInit])
	for _, t := range []struct{ at, size uint64 }{{tagPreinit, tagPreinitSz}, {tagInitArray, tagInitArraySz}} {
		if d[t.size] != 0 {
			f.eachPointer(d[t.at], f.table(t.at, t.size), add)
		}
	}
	if !f.dynamic.present && f.typ != typeRel { // of a static executable, whose startup code calls them
		for i := range f.sects {
			if s := &f.sects[i]; s.typ == sectInitArray || s.typ == sectPreinitArray {
				f.eachPointer(s.addr, f.sectionBytes(s), add)
			}
		}
	}
	slices.Sort(list)
	f.m.Initializers = slices.Compact(list)
}

// eachPointer goes through a table of pointers to code, whose bytes are b.
func (f *file) eachPointer(at uint64, b []byte, visit func(uint64)) {
	size := f.size()
	for ; len(b) >= size; b = b[size:] {
		visit(f.pointerAt(at, b))
		at += uint64(size)
	}
}
