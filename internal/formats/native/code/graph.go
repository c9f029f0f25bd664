package code

import (
	"sort"
	"sync"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// graph is what is derived from the references once somebody asks.
type graph struct {
	makeFirst sync.Once
	first     []int32 // by function: where its references begin in Refs

	makeCallers sync.Once
	callers     grouped // by function

	makeUses sync.Once
	uses     grouped // by import

	makePieces sync.Once
	pieces     map[int][]image.Fragment

	makeData sync.Once
	data     []Ref // data references, by Target
}

// grouped are references by what they refer to.
type grouped struct {
	first []int32 // by group: where it begins in refs
	refs  []Ref
}

// group counts, then files: two passes. groupOf returns -1 for what is left out.
func group(refs []Ref, groups int, groupOf func(*Ref) int) grouped {
	of := make([]int32, len(refs))
	g := grouped{first: make([]int32, groups+2)}
	for i := range refs {
		n := groupOf(&refs[i])
		of[i] = int32(n)
		if n >= 0 {
			g.first[n+2]++
		}
	}
	for i := 2; i < len(g.first); i++ {
		g.first[i] += g.first[i-1]
	}
	g.refs = make([]Ref, g.first[groups+1])
	for i, n := range of {
		if n >= 0 {
			g.refs[g.first[n+1]] = refs[i]
			g.first[n+1]++
		}
	}
	g.first = g.first[:groups+1]
	return g
}

func (g *grouped) of(i int) []Ref {
	if i < 0 || i+1 >= len(g.first) {
		return nil
	}
	lo, hi := g.first[i], g.first[i+1]
	return g.refs[lo:hi:hi]
}

// From returns the references that stand in function fn, by address.
func (c *Code) From(fn int) []Ref {
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
	refs := c.Refs[c.graph.first[fn]:c.graph.first[fn+1]]
	_, hi := c.span(fn)
	if n := len(refs); n > 0 && refs[n-1].Addr >= hi {
		refs = refs[:sort.Search(n, func(i int) bool { return refs[i].Addr >= hi })]
	}
	refs = refs[:len(refs):len(refs)]
	if len(c.Image.Functions.Fragments) > 0 {
		for _, piece := range c.pieces()[fn] {
			refs = append(refs, c.within(piece.Addr, piece.Size)...)
		}
	}
	return refs
}

// Callers returns the places that call, jump to or take the address of function
// fn, in code, by address. Tables of pointers that hold it are [Code.Pointers].
func (c *Code) Callers(fn int) []Ref {
	c.graph.makeCallers.Do(func() {
		c.graph.callers = group(c.Refs, len(c.Functions), func(r *Ref) int {
			if r.Import >= 0 || r.Kind == Data {
				return -1
			}
			if n, ok := c.start(r.Target); ok {
				return n
			}
			return -1
		})
	})
	return c.graph.callers.of(fn)
}

// ImportRefs returns the references to an import, by its index in the image's
// Imports, by address.
func (c *Code) ImportRefs(i int) []Ref {
	c.graph.makeUses.Do(func() {
		n := len(c.Image.Imports)
		c.graph.uses = group(c.Refs, n, func(r *Ref) int {
			if int(r.Import) >= n {
				return -1
			}
			return int(r.Import)
		})
	})
	return c.graph.uses.of(i)
}

// Uses returns the references to each import that has any, by its index in the
// image's Imports.
func (c *Code) Uses() map[int][]Ref {
	out := map[int][]Ref{}
	for i := range c.Image.Imports {
		if refs := c.ImportRefs(i); len(refs) > 0 {
			out[i] = refs
		}
	}
	return out
}

// DataRefs returns the references to addresses from lo up to before hi, by the
// address that they name, then by their own.
func (c *Code) DataRefs(lo, hi uint64) []Ref {
	c.graph.makeData.Do(func() { c.graph.data = c.sortData() })
	refs := c.graph.data
	i := sort.Search(len(refs), func(i int) bool { return refs[i].Target >= lo })
	j := i + sort.Search(len(refs)-i, func(k int) bool { return refs[i+k].Target >= hi })
	return refs[i:j:j]
}

// sortData sorts the data references by their target: it numbers the targets,
// which are far fewer, and groups the references by that number.
func (c *Code) sortData() []Ref {
	var targets addressSet
	for i := range c.Refs {
		if r := &c.Refs[i]; r.Kind == Data && r.Import < 0 {
			targets.add(r.Target)
		}
	}
	list := targets.sorted()
	x := newIndex(list)
	return group(c.Refs, len(list), func(r *Ref) int {
		if r.Kind != Data || r.Import >= 0 {
			return -1
		}
		i, _ := x.search(r.Target)
		return i
	}).refs
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
