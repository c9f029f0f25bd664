package synth

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf16"
)

// What a Rust compiler leaves in its binaries.
const (
	rustVersion     = "1.84.0 (9fc6b4312 2025-01-07)"
	rustPanicPath   = "/rustc/9fc6b43126469e3858e2fe86cafb4f0fd5068869/library/core/src/panicking.rs"
	rustPersonality = "rust_eh_personality"
)

// A plan is a description made ready for one format and machine: names are
// resolved to libraries, definitions sorted into functions and variables.
//
// Layout is a fixed point: everything is written, addresses are taken from
// where it landed, and it is written again. No size but that of the tables
// at the end of a Mach-O file depends on an address.
type plan struct {
	Description
	arch string

	libs    []string
	imports []*imported
	funcs   []*definition // in the order of the text section
	vars    []*definition
	exports []*definition  // in the order of the description
	symbols []*definition  // the symbol table; empty if stripped
	callees map[string]any // *imported or *definition, by name

	notes   []string // compiler notes
	strings []byte   // NUL-terminated, one after the other
	offsets map[string]int
	utf16   []byte // the same in UTF-16LE
	blob    []byte // each part from a multiple of 16
}

// settle lays a file out again until nothing changes. The first time gives
// the sizes, the next ones the addresses that parts hand to each other.
func settle(layout func() (changed bool)) error {
	for range 8 {
		if !layout() {
			return nil
		}
	}
	return errors.New("layout does not settle")
}

// imported is an import with the place of its pointer and jump.
type imported struct {
	Import
	slot, stub uint64 // addresses
}

// definition is a function or variable and where it landed.
type definition struct {
	Definition
	addr, size uint64
}

func newPlan(d Description, arch string) (*plan, error) {
	p := &plan{Description: d, arch: arch, callees: map[string]any{}, offsets: map[string]int{}, notes: slices.Clone(d.Comment)}
	if d.Rust {
		p.notes = append(p.notes, "rustc version "+rustVersion)
		p.string(rustPanicPath)
	}
	for _, s := range d.Strings {
		p.string(s)
	}
	for _, s := range d.Wide {
		for _, u := range utf16.Encode([]rune(s)) {
			p.utf16 = binary.LittleEndian.AppendUint16(p.utf16, u)
		}
		p.utf16 = append(p.utf16, 0, 0)
	}
	for _, b := range d.Bytes {
		p.blob = append(pad(p.blob, 16), b...)
	}
	if err := p.resolveImports(); err != nil {
		return nil, err
	}
	if err := p.define(); err != nil {
		return nil, err
	}
	return p, p.checkCalls()
}

// string puts s into the read-only strings, once.
func (p *plan) string(s string) {
	if _, ok := p.offsets[s]; !ok {
		p.offsets[s] = len(p.strings)
		p.strings = append(append(p.strings, s...), 0)
	}
}

// readOnly returns strings, wide strings and bytes in one piece; the strings
// come first.
func (p *plan) readOnly() []byte {
	b := slices.Clone(p.strings)
	if len(p.utf16) > 0 {
		b = append(pad(b, 2), p.utf16...)
	}
	if len(p.blob) > 0 {
		b = append(pad(b, 16), p.blob...)
	}
	return b
}

// gnuLibraries are where symbol versions live if the description does not say.
var gnuLibraries = map[string]string{
	"GLIBC": "libc.so.6", "GLIBCXX": "libstdc++.so.6", "CXXABI": "libstdc++.so.6", "GCC": "libgcc_s.so.1",
}

// splitName takes "name@library" or "name@version" apart.
func splitName(format string, i *Import) {
	at := strings.LastIndexByte(i.Name, '@')
	if i.Library != "" || i.Version != "" || at <= 0 || at == len(i.Name)-1 || i.Name[0] == '?' {
		return // the last is a C++ name of Microsoft's, which holds many
	}
	name, rest := i.Name[:at], i.Name[at+1:]
	switch {
	case format == "pe" && !strings.Contains(rest, "."):
		return // _stdcall@8
	case format == "elf" && !strings.Contains(rest, ".so"):
		i.Name, i.Version = strings.TrimRight(name, "@"), rest
	default:
		i.Name, i.Library = name, rest
	}
}

func (p *plan) resolveImports() error {
	seenLib := map[string]bool{}
	needs := func(lib string) {
		if lib != "" && !seenLib[lib] {
			seenLib[lib] = true
			p.libs = append(p.libs, lib)
		}
	}
	for _, l := range p.Libraries {
		needs(l)
	}
	listed := len(p.libs)
	type key struct {
		name, library string
		ordinal       int
	}
	seen := map[key]bool{}
	for _, given := range p.Description.Imports {
		i := &imported{Import: given}
		splitName(p.Format, &i.Import)
		if i.Library == "" {
			switch {
			case p.Format == "pe" && listed == 0:
				i.Library = "KERNEL32.dll"
			case p.Format == "pe":
				i.Library = p.libs[0]
			case p.Format == "wasm":
				i.Library = "env"
			case i.Version != "":
				family, _, _ := strings.Cut(i.Version, "_")
				if i.Library = gnuLibraries[family]; i.Library == "" {
					return fmt.Errorf("import %q: of which library is version %q?", i.Name, i.Version)
				}
			}
		}
		k := key{i.Name, i.Library, i.Ordinal}
		if i.Ordinal != 0 {
			k.name = ""
		}
		if p.Format == "elf" {
			k.library = "" // names are looked up in all libraries
		}
		if i.Ordinal == 0 && i.Name == "" || seen[k] {
			return fmt.Errorf("import %q of %q twice", i.Name, i.Library)
		}
		seen[k] = true
		needs(i.Library)
		p.imports = append(p.imports, i)
		if _, ok := p.callees[i.Name]; !ok && i.Name != "" && !i.Data {
			p.callees[i.Name] = i
		}
	}
	return nil
}

// define sorts exports, symbols, code and Go functions into functions and
// variables. A file without any gets one function.
func (p *plan) define() error {
	byName := map[string]*definition{}
	add := func(f Definition) *definition {
		d := &definition{Definition: f}
		switch {
		case f.Forward != "":
		case f.Data:
			p.vars = append(p.vars, d)
			if d.size = uint64(f.Size); f.Size == 0 {
				d.size = 8
			}
		default:
			p.funcs = append(p.funcs, d)
			if _, ok := p.callees[f.Name]; !ok && f.Name != "" {
				p.callees[f.Name] = d
			}
		}
		if f.Name != "" {
			byName[f.Name] = d
		}
		return d
	}
	for _, f := range p.Code {
		add(f)
	}
	for _, f := range p.Description.Exports {
		if byName[f.Name] != nil {
			return fmt.Errorf("export %q twice", f.Name)
		}
		p.exports = append(p.exports, add(f))
	}
	inTable := map[string]bool{}
	for _, f := range p.Description.Symbols {
		if inTable[f.Name] {
			return fmt.Errorf("symbol %q twice", f.Name)
		}
		inTable[f.Name] = true
		if d := byName[f.Name]; d == nil {
			p.symbols = append(p.symbols, add(f))
		} else if f.Data != d.Data || f.Size != 0 || len(f.Code)+len(f.Loads)+len(f.Calls) > 0 {
			return fmt.Errorf("symbol %q is described as an export as well", f.Name)
		}
	}
	if p.Rust && byName[rustPersonality] == nil {
		p.symbols = append(p.symbols, add(Definition{Name: rustPersonality}))
		inTable[rustPersonality] = true
	}
	for _, f := range p.Go {
		if byName[f] != nil {
			return fmt.Errorf("function %q twice", f)
		}
		add(Definition{Name: f})
	}
	if len(p.funcs) == 0 {
		add(Definition{})
	}
	if len(inTable) > 0 { // a file that is not stripped has its exports there too
		for _, d := range p.exports {
			if d.Forward == "" {
				p.symbols = append(p.symbols, d)
			}
		}
	}
	return nil
}

// checkCalls refuses calls of what is not there and puts the strings that
// functions use among the others.
func (p *plan) checkCalls() error {
	for _, f := range p.funcs {
		for _, s := range f.Loads {
			p.string(s)
		}
		for _, c := range f.Calls {
			if p.callees[c.Name] == nil {
				return fmt.Errorf("call of %q, which is neither imported nor defined", c.Name)
			}
			if len(c.Args) > maxArgs(p.arch) {
				return fmt.Errorf("call of %q with more than %d arguments", c.Name, maxArgs(p.arch))
			}
			for _, a := range c.Args {
				if !a.IsNumber {
					p.string(a.Text)
				} else if a.Number < -1<<31 || a.Number >= 1<<32 {
					return fmt.Errorf("call of %q: %d does not fit into 32 bits", c.Name, a.Number)
				}
			}
		}
		if f.Size != 0 {
			return fmt.Errorf("function %q has a size; that is for data", f.Name)
		}
		if p.Kind == "object" && len(f.Calls)+len(f.Loads) > 0 {
			return errors.New("functions of an object have code, but no calls or loads")
		}
	}
	for _, v := range p.vars {
		if len(v.Code)+len(v.Loads)+len(v.Calls) > 0 {
			return fmt.Errorf("variable %q has code", v.Name)
		}
	}
	return nil
}

// text writes all functions to addr, notes where they land, and returns the
// bytes. loads is the address of the strings.
func (p *plan) text(a *assembler, loads uint64) []byte {
	for _, f := range p.funcs {
		a.pad(16)
		start := len(a.code)
		f.addr = a.addr + uint64(start)
		p.function(a, f, loads)
		f.size = uint64(len(a.code) - start)
	}
	return a.code
}

func (p *plan) function(a *assembler, f *definition, loads uint64) {
	if !f.frame() {
		if a.bytes(f.Code...); len(f.Code) == 0 {
			a.ret()
		}
		return
	}
	a.prologue()
	a.bytes(f.Code...)
	a.pad(a.unit())
	for _, s := range f.Loads {
		a.args([]value{{isAddr: true, v: loads + uint64(p.offsets[s])}})
	}
	for _, c := range f.Calls {
		var values []value
		for _, arg := range c.Args {
			if arg.IsNumber {
				values = append(values, value{v: uint64(arg.Number)})
			} else {
				values = append(values, value{isAddr: true, v: loads + uint64(p.offsets[arg.Text])})
			}
		}
		a.args(values)
		switch to := p.callees[c.Name].(type) {
		case *definition:
			a.call(to.addr)
		case *imported:
			if a.windows {
				a.callIndirect(to.slot)
			} else {
				a.call(to.stub)
			}
		}
	}
	a.epilogue()
}

// frame says whether the function makes a stack frame.
func (d *definition) frame() bool { return len(d.Loads)+len(d.Calls) > 0 }

// random returns n bytes of high entropy that depend on name and n alone.
func random(name string, n int) []byte {
	b := make([]byte, max(n, 0))
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(b) // never fails
	return b
}

// pad appends zeros up to a multiple of n.
func pad(b []byte, n int) []byte { return append(b, make([]byte, (n-len(b)%n)%n)...) }

// up rounds v up to a multiple of n.
func up(v, n uint64) uint64 { return (v + n - 1) / n * n }

// A writer appends little-endian integers and strings.
type writer struct {
	b    []byte
	wide bool // words are of 64 bits
}

func (w *writer) u8(v ...byte) { w.b = append(w.b, v...) }
func (w *writer) u16(v uint16) { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v ...uint32) {
	for _, v := range v {
		w.b = binary.LittleEndian.AppendUint32(w.b, v)
	}
}
func (w *writer) u64(v uint64)     { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) uleb(v uint64)    { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) cstring(s string) { w.b = append(append(w.b, s...), 0) }
func (w *writer) pad(n int)        { w.b = pad(w.b, n) }
func (w *writer) bytes(b []byte)   { w.b = append(w.b, b...) }
func (w *writer) len() int         { return len(w.b) }

// word writes integers of the size of an address.
func (w *writer) word(v ...uint64) {
	for _, v := range v {
		if w.wide {
			w.u64(v)
		} else {
			w.u32(uint32(v))
		}
	}
}

// name writes s into n bytes.
func (w *writer) name(s string, n int) {
	b := make([]byte, n)
	copy(b, s)
	w.bytes(b)
}

// A stringTable is NUL-terminated strings, found by their offset; the empty
// one is at 0.
type stringTable struct {
	b  []byte
	at map[string]uint32
}

func (t *stringTable) add(s string) uint32 {
	if t.at == nil {
		t.b, t.at = []byte{0}, map[string]uint32{"": 0}
	}
	off, ok := t.at[s]
	if !ok {
		off = uint32(len(t.b))
		t.at[s] = off
		t.b = append(append(t.b, s...), 0)
	}
	return off
}
