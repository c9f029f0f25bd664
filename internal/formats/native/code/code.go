// Package code reads the instructions of a binary as far as it takes to say
// which function calls, loads or names what: calls and tail calls, uses of
// imports through their slots (GOT, IAT) and stubs (PLT, __stubs), references
// to data, and system calls.
//
// It does not disassemble. Every instruction set has a scan over the bytes for
// the few encodings that name a place, and a candidate counts only if the place
// is one that is known otherwise: the start of a function, a stub, a slot, or
// mapped data. That is linear, fast, and leaves almost no false edges.
package code

import (
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Kind says how a place in code refers to another.
type Kind uint8

// The kinds.
const (
	Call  Kind = iota // calls a function, a stub, or through a slot
	Jump              // leaves the function for another: a tail call
	Taken             // takes the address of a function, or loads the pointer in an import's slot
	Data              // names an address of data
)

func (k Kind) String() string { return [...]string{"call", "jump", "address", "data"}[k&3] }

// A Ref is a place in code that refers to something by its address.
type Ref struct {
	Addr   uint64 // of the instruction; where it takes two (ADRP and ADD), of the last
	Target uint64 // start of a function, address of data; of an import its stub or slot
	Import int32  // index into the image's Imports; -1 if Target is in the binary itself
	Kind   Kind
}

// A Syscall is an instruction that enters the kernel.
type Syscall struct {
	Addr   uint64
	Number int    // -1 if the code before it does not say
	Name   string // by the table of the system and instruction set; empty if unknown
}

// Code is what the instructions of one image say.
type Code struct {
	Image     *image.Image
	Functions []image.Function // by address: those of the image, and those that only calls show
	Refs      []Ref            // by Addr
	Syscalls  []Syscall        // by Addr
	Pointers  []image.Pointer  // by At: tables of functions, vtables, …
	Read      bool             // false: the instructions of this machine are not read, so absence says nothing
	Partial   bool             // a limit was met: some of the code was not read, or some of what it says is left out

	callers  callers
	byTarget []Ref   // data references, by Target
	reach    []int32 // by function: the index of the root that reaches it first, or -1
	roots    []Root
}

// Func returns the index of the function that holds addr, or -1. Where sizes
// are unknown, a function goes on to the next one or the end of its section.
func (c *Code) Func(addr uint64) int {
	i := sort.Search(len(c.Functions), func(i int) bool { return c.Functions[i].Addr > addr }) - 1
	if i < 0 {
		return -1
	}
	if f := &c.Functions[i]; f.Size > 0 && addr-f.Addr >= f.Size {
		return -1
	}
	return i
}

// From returns the references that stand in function fn.
func (c *Code) From(fn int) []Ref {
	lo, hi := c.span(fn)
	i := sort.Search(len(c.Refs), func(i int) bool { return c.Refs[i].Addr >= lo })
	j := i + sort.Search(len(c.Refs)-i, func(k int) bool { return c.Refs[i+k].Addr >= hi })
	return c.Refs[i:j]
}

// span returns the addresses that function fn takes up: lo up to before hi.
func (c *Code) span(fn int) (lo, hi uint64) {
	f := &c.Functions[fn]
	hi = ^uint64(0)
	if fn+1 < len(c.Functions) {
		hi = c.Functions[fn+1].Addr
	}
	if f.Size > 0 {
		hi = min(hi, f.Addr+f.Size)
	}
	return f.Addr, hi
}
