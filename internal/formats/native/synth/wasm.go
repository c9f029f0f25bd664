package synth

import (
	"errors"
	"fmt"
	"slices"
)

// wasmData is where the strings are in linear memory.
const wasmData = 1024

// wasmBuilder is a WebAssembly module in the making.
//
// Layout follows the WebAssembly core specification, chapter 5 (binary
// format), its appendix on the name section, and the tool conventions for
// the producers section.
type wasmBuilder struct {
	*plan
	types   []int       // number of i32 parameters, by type index
	params  map[any]int // of *imported, by calls of it
	index   map[any]int // of functions and globals, imported first
	globals []*imported
	funcsOf []*imported
}

func buildWasm(p *plan) ([]byte, error) {
	b := &wasmBuilder{plan: p, params: map[any]int{}, index: map[any]int{}}
	from := map[string]bool{}
	for _, i := range p.imports {
		from[i.Library] = true
		if i.Data {
			b.globals = append(b.globals, i)
		} else {
			b.funcsOf = append(b.funcsOf, i)
		}
	}
	for _, lib := range p.libs {
		if !from[lib] {
			return nil, fmt.Errorf("wasm names a library only with an import: %q", lib)
		}
	}
	if err := b.typeCalls(); err != nil {
		return nil, err
	}
	for n, i := range b.funcsOf {
		b.index[i] = n
	}
	for n, f := range p.funcs {
		b.index[f] = len(b.funcsOf) + n
	}
	for n, v := range p.vars {
		b.index[v] = len(b.globals) + n
	}
	return b.module()
}

// typeCalls gives imports as many parameters as calls pass.
func (b *wasmBuilder) typeCalls() error {
	b.types = []int{0}
	called := map[any]bool{}
	for _, f := range b.funcs {
		for _, c := range f.Calls {
			to := b.callees[c.Name]
			if _, ok := to.(*definition); ok && len(c.Args) > 0 {
				return fmt.Errorf("call of %q: functions of the module have no parameters", c.Name)
			}
			if called[to] && b.params[to] != len(c.Args) {
				return fmt.Errorf("calls of %q differ in their number of arguments", c.Name)
			}
			called[to], b.params[to] = true, len(c.Args)
			if !slices.Contains(b.types, len(c.Args)) { // never more than nine
				b.types = append(b.types, len(c.Args))
			}
		}
	}
	return nil
}

// Section numbers of the binary format.
const (
	wasmCustom, wasmTypes, wasmImports, wasmFunctions = 0, 1, 2, 3
	wasmMemory, wasmGlobals, wasmExports              = 5, 6, 7
	wasmCode, wasmSegments                            = 10, 11
)

// sized writes the length of a string and the string.
func (w *writer) sized(s string) {
	w.uleb(uint64(len(s)))
	w.bytes([]byte(s))
}

// sleb writes a number in signed LEB128.
func (w *writer) sleb(v int64) {
	for {
		b := byte(v & 0x7f)
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			w.u8(b)
			return
		}
		w.u8(b | 0x80)
	}
}

// i32 writes an i32.const of an argument.
func (w *writer) i32(v int64) {
	w.u8(0x41)
	w.sleb(int64(int32(v)))
}

func (b *wasmBuilder) module() ([]byte, error) {
	const i32, immutable, function = 0x7f, 0, 0x60
	w := &writer{}
	w.bytes([]byte("\x00asm\x01\x00\x00\x00"))
	section := func(id byte, count int, body func(w *writer)) {
		if count == 0 {
			return
		}
		s := &writer{}
		s.uleb(uint64(count))
		body(s)
		w.u8(id)
		w.uleb(uint64(s.len()))
		w.bytes(s.b)
	}
	section(wasmTypes, len(b.types), func(w *writer) {
		for _, n := range b.types {
			w.u8(function)
			w.uleb(uint64(n))
			w.bytes(slices.Repeat([]byte{i32}, n))
			w.u8(0)
		}
	})
	section(wasmImports, len(b.imports), func(w *writer) {
		for _, i := range b.imports {
			w.sized(i.Library)
			w.sized(i.Name)
			if i.Data {
				w.u8(3, i32, immutable)
			} else {
				w.u8(0)
				w.uleb(uint64(slices.Index(b.types, b.params[i])))
			}
		}
	})
	section(wasmFunctions, len(b.funcs), func(w *writer) {
		for range b.funcs {
			w.u8(0)
		}
	})
	data := b.readOnly()
	section(wasmMemory, min(len(data), 1), func(w *writer) {
		w.u8(0)
		w.uleb(up(uint64(wasmData+len(data)), 1<<16) >> 16)
	})
	section(wasmGlobals, len(b.vars), func(w *writer) {
		for range b.vars {
			w.u8(i32, immutable)
			w.i32(0)
			w.u8(0x0b)
		}
	})
	section(wasmExports, len(b.exports), func(w *writer) {
		for _, e := range b.exports {
			w.sized(e.Name)
			if e.Data {
				w.u8(3)
			} else {
				w.u8(0)
			}
			w.uleb(uint64(b.index[e]))
		}
	})
	section(wasmCode, len(b.funcs), func(w *writer) {
		for _, f := range b.funcs {
			body := b.body(f)
			w.uleb(uint64(len(body)))
			w.bytes(body)
		}
	})
	section(wasmSegments, min(len(data), 1), func(w *writer) {
		w.u8(0)
		w.i32(wasmData)
		w.u8(0x0b)
		w.uleb(uint64(len(data)))
		w.bytes(data)
	})
	custom := func(name string, body []byte) {
		s := &writer{}
		s.sized(name)
		s.bytes(body)
		w.u8(wasmCustom)
		w.uleb(uint64(s.len()))
		w.bytes(s.b)
	}
	if names := b.names(); len(names) > 0 {
		custom("name", names)
	}
	if len(b.notes) > 0 {
		custom("producers", b.producers())
	}
	for _, x := range b.Sections {
		if x.size() == 0 && x.Size > 0 {
			return nil, errors.New("a custom section has no memory; give it content")
		}
		custom(x.Name, x.data())
	}
	return w.b, nil
}

// body writes the code of a function.
func (b *wasmBuilder) body(f *definition) []byte {
	w := &writer{}
	w.u8(0) // no locals
	w.bytes(f.Code)
	for _, s := range f.Loads {
		w.i32(int64(wasmData + b.offsets[s]))
		w.u8(0x1a) // drop
	}
	for _, c := range f.Calls {
		for _, a := range c.Args {
			if a.IsNumber {
				w.i32(a.Number)
			} else {
				w.i32(int64(wasmData + b.offsets[a.Text]))
			}
		}
		w.u8(0x10)
		w.uleb(uint64(b.index[b.callees[c.Name]]))
	}
	w.u8(0x0b) // end
	return w.b
}

// names writes the name section: the module's, and if there are symbols those
// of functions.
func (b *wasmBuilder) names() []byte {
	w := &writer{}
	sub := func(id byte, body []byte) {
		w.u8(id)
		w.uleb(uint64(len(body)))
		w.bytes(body)
	}
	if b.Name != "" {
		s := &writer{}
		s.sized(b.Name)
		sub(0, s.b)
	}
	if len(b.symbols) > 0 {
		type named struct {
			index int
			name  string
		}
		var list []named
		for _, i := range b.funcsOf {
			list = append(list, named{b.index[i], i.Name})
		}
		inTable := map[*definition]bool{}
		for _, d := range b.symbols {
			inTable[d] = true
		}
		for _, f := range b.funcs {
			if inTable[f] {
				list = append(list, named{b.index[f], f.Name})
			}
		}
		s := &writer{}
		s.uleb(uint64(len(list)))
		for _, n := range list {
			s.uleb(uint64(n.index))
			s.sized(n.name)
		}
		sub(1, s.b)
	}
	return w.b
}

// producers writes the compiler notes, each as a tool without a version, and
// rustc as itself.
func (b *wasmBuilder) producers() []byte {
	w := &writer{}
	fields := uint64(1)
	if b.Rust {
		fields = 2
	}
	w.uleb(fields)
	if b.Rust {
		w.sized("language")
		w.uleb(1)
		w.sized("Rust")
		w.sized("")
	}
	w.sized("processed-by")
	w.uleb(uint64(len(b.notes)))
	for n, note := range b.notes {
		if b.Rust && n == len(b.notes)-1 {
			w.sized("rustc")
			w.sized(rustVersion)
			continue
		}
		w.sized(note)
		w.sized("")
	}
	return w.b
}
