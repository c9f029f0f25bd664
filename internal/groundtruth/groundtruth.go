// Package groundtruth makes programs of which it is known what they can do, and
// counts how much of it is found.
//
// Each program is built from generated source: dozens of functions that only
// compute, and one among them, the plant, that holds one behaviour. Where the
// plant lies in the finished binary is read from the linker's own list of
// symbols before these are taken off, so that it can be told not only whether
// a behaviour was detected but whether the evidence points to the code that
// has it. Programs without a plant tell what is detected where nothing is.
//
// The programs are inert: the plant returns at once unless a variable is set
// that nothing sets, and what it would do then is harmless. Nothing that is
// built is ever run.
package groundtruth

import (
	"slices"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A Variant says how a plant comes by the functions that it calls.
type Variant string

// The variants.
const (
	Direct  Variant = "direct"  // the import table names them
	Dynamic Variant = "dynamic" // it asks the loader for them by name
	Wrapper Variant = "wrapper" // a function of the program's own does either for it
	Syscall Variant = "syscall" // it calls the kernel itself
	Encoded Variant = "encoded" // the name or text is unreadable until the program decodes it
	Static  Variant = "static"  // the C library is linked in, and its names are taken off
	Control Variant = "control" // nothing is planted
)

// Variants lists the variants in the order of reports.
var Variants = []Variant{Direct, Wrapper, Dynamic, Syscall, Encoded, Static, Control}

// A Reach says what leads to the plant.
type Reach string

// The ways.
const (
	Called  Reach = "called"  // functions that an entry calls
	Pointed Reach = "pointed" // a table of functions
	Dead    Reach = "dead"    // nothing
)

// A Range is where a function lies in a binary: addresses from Low up to High,
// without High.
type Range struct {
	Name      string
	Low, High uint64
}

// A Truth is a program and what is known about it.
type Truth struct {
	File     string // below the corpus' folder, with slashes
	Target   string // "elf-x86_64"
	Compiler string // "clang"
	Opt      string // "O2"
	Stripped bool
	Behavior string // by the name in the plan; empty: a control
	Variant  Variant
	Way      string // which of the variant's ways: "xor", "socketcall"
	Reach    Reach
	Want     []inventory.BehaviorName // that must be detected
	May      []inventory.BehaviorName // that honestly come along
	Rule     string                   // that is to report it, with native/ left out; empty: none is
	Plant    []Range                  // the plant and its wrappers; nil: not known where
}

// in reports whether an address lies in the plant or one of its wrappers.
func (t *Truth) in(addr uint64) bool {
	return slices.ContainsFunc(t.Plant, func(r Range) bool { return r.Low <= addr && addr < r.High })
}
