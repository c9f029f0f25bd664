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

import "github.com/loupe-sec/loupe/internal/formats/native/image"

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

	index   index // of Functions, if there are indexed of them
	indexed int
	parts   []span // of the code that was read, by address
	graph   graph
	reach   reach
}
