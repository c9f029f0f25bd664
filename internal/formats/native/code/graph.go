package code

import (
	"iter"
	"sort"
	"sync"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// graph is what is derived from the references once somebody asks.
type graph struct {
	makeFirst sync.Once
	first     []int32 // by function: where its references begin in Refs

	makeLinks sync.Once
	links     links

	makePieces sync.Once
	pieces     map[int][]image.Fragment
}

// links are the references by what they lead to. That has a number: first come
// the functions, then the places of data, then the imports.
type links struct {
	places  addressSet // of data, that code or pointers name
	imports int        // the number of the first import
	to      []int32    // by reference: what it leads to; -1 if that has no number
	via     []int32    // by pointer: what it leads to
	first   []int32    // by number: where what leads to it begins in refs
	refs    []int32    // references, by number and address
}

// linked numbers what references lead to, and groups them by it.
func (c *Code) linked() *links {
	c.graph.makeLinks.Do(func() {
		l := &c.graph.links
		l.places, l.via = c.places()
		l.imports = len(c.Functions) + len(l.places.list)
		l.to = make([]int32, len(c.Refs))
		l.first = make([]int32, l.imports+len(c.Image.Imports)+2)
		for i := range c.Refs {
			n := c.number(&c.Refs[i])
			l.to[i] = int32(n)
			if n >= 0 {
				l.first[n+2]++
			}
		}
		for i := 2; i < len(l.first); i++ {
			l.first[i] += l.first[i-1]
		}
		l.refs = make([]int32, l.first[len(l.first)-1])
		for i, n := range l.to {
			if n >= 0 {
				l.refs[l.first[n+1]] = int32(i)
				l.first[n+1]++
			}
		}
		l.first = l.first[:len(l.first)-1]
	})
	return &c.graph.links
}

// number returns that of what a reference leads to, or -1. It needs places.
func (c *Code) number(r *Ref) int {
	l := &c.graph.links
	if r.Import >= 0 {
		if int(r.Import) < len(c.Image.Imports) {
			return l.imports + int(r.Import)
		}
		return -1
	}
	if r.Kind == Data {
		i, _ := l.places.search(r.Target)
		return len(c.Functions) + i
	}
	if fn, ok := c.start(r.Target); ok {
		return fn
	}
	return -1
}

// places numbers the addresses of data that code names or pointers lead to: what
// lies between two of them is a block, for who has the address of a table can
// read all of it. It returns as well what each pointer leads to.
func (c *Code) places() (s addressSet, via []int32) {
	const data = -1
	via = make([]int32, len(c.Pointers))
	for i := range c.Pointers {
		via[i] = data
		if fn, ok := c.start(c.Pointers[i].To); ok {
			via[i] = int32(fn)
		} else {
			s.expect(c.Pointers[i].To)
		}
	}
	for i := range c.Refs {
		if r := &c.Refs[i]; r.Kind == Data && r.Import < 0 {
			s.expect(r.Target)
		}
	}
	for i := range c.Image.Exports {
		if e := &c.Image.Exports[i]; e.Data {
			s.expect(e.Addr)
		}
	}
	s.begin()
	for i, fn := range via {
		if fn == data {
			s.add(c.Pointers[i].To)
		}
	}
	for i := range c.Refs {
		if r := &c.Refs[i]; r.Kind == Data && r.Import < 0 {
			s.add(r.Target)
		}
	}
	for i := range c.Image.Exports {
		if e := &c.Image.Exports[i]; e.Data {
			s.add(e.Addr)
		}
	}
	s.end()
	for i, fn := range via {
		if fn == data {
			n, _ := s.search(c.Pointers[i].To)
			via[i] = int32(len(c.Functions) + n)
		}
	}
	return s, via
}

// A Group is references that lead to the same.
type Group struct {
	refs []Ref // of the code
	in   []int32
}

// Len returns how many there are.
func (g Group) Len() int { return len(g.in) }

// At returns the one at index i.
func (g Group) At(i int) Ref { return g.refs[g.in[i]] }

// All yields them with their indices.
func (g Group) All() iter.Seq2[int, Ref] {
	return func(yield func(int, Ref) bool) {
		for i, n := range g.in {
			if !yield(i, g.refs[n]) {
				return
			}
		}
	}
}

// between returns the references to what is numbered from n up to before m.
func (c *Code) between(n, m int) Group {
	l := &c.graph.links
	return Group{c.Refs, l.refs[l.first[n]:l.first[m]]}
}

// From returns the references that stand in function fn, by address.
func (c *Code) From(fn int) []Ref {
	lo, hi := c.within(fn)
	refs := c.Refs[lo:hi:hi]
	if len(c.Image.Functions.Fragments) > 0 {
		for _, piece := range c.pieces()[fn] {
			lo, hi := c.among(piece.Addr, piece.Size)
			refs = append(refs, c.Refs[lo:hi]...)
		}
	}
	return refs
}

// within returns the references that stand in function fn, without its
// fragments: from lo up to before hi.
func (c *Code) within(fn int) (lo, hi int) {
	c.graph.makeFirst.Do(func() {
		c.graph.first = make([]int32, len(c.Functions)+1)
		i := 0
		for n := range c.Functions {
			for ; i < len(c.Refs) && c.Refs[i].Addr < c.Functions[n].Addr; i++ {
			}
			c.graph.first[n] = int32(i)
		}
		c.graph.first[len(c.Functions)] = int32(len(c.Refs))
	})
	lo, hi = int(c.graph.first[fn]), int(c.graph.first[fn+1])
	if lo == hi {
		return lo, hi
	}
	if _, end := c.span(fn); c.Refs[hi-1].Addr >= end {
		hi = lo + sort.Search(hi-lo, func(i int) bool { return c.Refs[lo+i].Addr >= end })
	}
	return lo, hi
}

// Callers returns the places that call, jump to or take the address of function
// fn, in code, by address. Tables of pointers that hold it are [Code.Pointers].
func (c *Code) Callers(fn int) Group {
	if fn < 0 || fn >= len(c.Functions) {
		return Group{}
	}
	c.linked()
	return c.between(fn, fn+1)
}

// ImportRefs returns the references to an import, by its index in the image's
// Imports, by address.
func (c *Code) ImportRefs(i int) Group {
	if i < 0 || i >= len(c.Image.Imports) {
		return Group{}
	}
	n := c.linked().imports + i
	return c.between(n, n+1)
}

// DataRefs returns the references to addresses from lo up to before hi, by the
// address that they name, then by their own.
func (c *Code) DataRefs(lo, hi uint64) Group {
	l := c.linked()
	i, _ := l.places.search(lo)
	j, _ := l.places.search(max(lo, hi))
	return c.between(len(c.Functions)+i, len(c.Functions)+j)
}

// Func returns the index of the function that holds addr, or -1. Where sizes
// are unknown, a function goes on to the next one or the end of its section.
func (c *Code) Func(addr uint64) int {
	i, ok := c.start(addr)
	if !ok {
		i--
	}
	if i < 0 {
		return -1
	}
	if _, hi := c.span(i); addr >= hi {
		return c.pieceAt(addr)
	}
	return i
}

// start returns the function that begins at addr, or the first behind it.
func (c *Code) start(addr uint64) (int, bool) {
	if c.indexed != len(c.Functions) {
		i := sort.Search(len(c.Functions), func(i int) bool { return c.Functions[i].Addr >= addr })
		return i, i < len(c.Functions) && c.Functions[i].Addr == addr
	}
	return c.index.search(addr)
}

// indexFunctions makes the index that start uses.
func (c *Code) indexFunctions() {
	c.index, c.indexed = newIndex(starts(c.Functions)), len(c.Functions)
}

// starts returns the addresses of functions.
func starts(list []image.Function) []uint64 {
	out := make([]uint64, len(list))
	for i := range list {
		out[i] = list[i].Addr
	}
	return out
}

// span returns the addresses that function fn takes up: lo up to before hi.
func (c *Code) span(fn int) (lo, hi uint64) {
	f := &c.Functions[fn]
	hi = ^uint64(0)
	if fn+1 < len(c.Functions) {
		hi = c.Functions[fn+1].Addr
	}
	if f.Size > 0 {
		return f.Addr, min(hi, f.Addr+min(f.Size, ^uint64(0)-f.Addr))
	}
	if i := sort.Search(len(c.parts), func(i int) bool { return c.parts[i].hi > f.Addr }); i < len(c.parts) {
		hi = min(hi, c.parts[i].hi)
	}
	return f.Addr, hi
}
