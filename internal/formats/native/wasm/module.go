package wasm

import (
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Sections of a module by number.
const (
	sectionCustom   = 0
	sectionImport   = 2
	sectionFunction = 3
	sectionMemory   = 5
	sectionExport   = 7
	sectionStart    = 8
	sectionElement  = 9
	sectionCode     = 10
	sectionData     = 11
)

var moduleSections = []string{
	"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "datacount", "tag",
}

// Kinds of imports and exports.
const (
	kindFunction = 0
	kindTable    = 1
	kindMemory   = 2
	kindGlobal   = 3
	kindTag      = 4
)

// A module is a core module while it is read. Functions have one space of
// numbers: first those imported, then those defined.
type module struct {
	*parser
	imported []int // places in Imports of functions
	declared uint64
	bodies   []image.Function
	exports  []export
	start    int64 // number of the function; -1 if there is none
	object   bool
	weak     map[[2]string]bool // module and name of imports, from dylink.0
	names    []named            // of functions
	imports  int                // place in Imports of its first one
	elements []element
	data     []segment
	code     image.Range
}

type named struct {
	index uint64
	name  string
}

type export struct {
	name  string
	kind  uint8
	index uint64
}

// module reads the sections of a core module behind its header.
func (p *parser) module(c *cursor.Cursor, prefix string) {
	m := &module{parser: p, start: -1, imports: len(p.Imports)}
	p.sections(c, prefix, moduleSections, sectionCode, m.section)
	if m.declared != uint64(len(m.bodies)) {
		p.Notef("%d functions are declared, %d have a body", m.declared, len(m.bodies))
	}
	m.finish(prefix == "")
}

func (m *module) section(s span) {
	c := m.at(s)
	switch s.id {
	case sectionCustom:
		m.custom(s, c)
	case sectionImport:
		m.importSection(c)
	case sectionFunction:
		m.declared = c.Uleb()
	case sectionMemory:
		for range c.Uleb() {
			m.limits(c, true)
			if c.Err() != nil {
				break
			}
		}
	case sectionExport:
		m.exportSection(c)
	case sectionStart:
		m.start = int64(c.Uleb())
	case sectionElement:
		m.elementSection(c)
	case sectionCode:
		m.code = image.Range{Offset: s.start, Size: s.end - s.start}
		m.codeSection(c)
	case sectionData:
		m.dataSection(c)
	}
	if c.Err() != nil {
		name := s.name
		if s.id != sectionCustom {
			name = moduleSections[min(int(s.id), len(moduleSections)-1)]
		}
		m.Notef("section %q: %v", name, c.Err())
	}
}

func (m *module) importSection(c *cursor.Cursor) {
	for range c.Uleb() {
		i := image.Import{Library: m.text(c), Name: m.text(c)}
		kind := c.U8()
		// Emscripten imports the address of a function as a global of this module.
		i.Data = kind != kindFunction && i.Library != "GOT.func"
		if !m.importType(c, kind) {
			if c.Err() == nil {
				m.Notef("import %q.%q is of kind %d, which is not known; the rest is not read", i.Library, i.Name, kind)
			}
			return
		}
		if !m.room(len(m.Imports)) {
			return
		}
		if kind == kindFunction {
			m.imported = append(m.imported, len(m.Imports))
		}
		m.Imports = append(m.Imports, i)
	}
}

// importType skips the type of an import.
func (m *module) importType(c *cursor.Cursor, kind uint8) bool {
	switch kind {
	case kindFunction:
		c.Uleb()
	case kindTable:
		valueType(c)
		m.limits(c, false)
	case kindMemory:
		m.limits(c, true)
	case kindGlobal:
		valueType(c)
		c.U8() // mutability
	case kindTag:
		c.U8() // attribute
		c.Uleb()
	default:
		return false
	}
	return c.Err() == nil
}

// valueType skips a value type: one byte, or for a reference with a heap type
// (0x63, 0x64) that behind it.
func valueType(c *cursor.Cursor) {
	if b := c.U8(); b == 0x63 || b == 0x64 {
		c.Sleb()
	}
}

// Bits of limits.
const (
	limitMax      = 0x1
	limit64       = 0x4 // addresses are of 64 bits
	limitPageSize = 0x8
)

// limits skips the limits of a table or memory, and sees whether the memory
// has addresses of 64 bits.
func (m *module) limits(c *cursor.Cursor, memory bool) {
	flags := c.U8()
	c.Uleb()
	if flags&limitMax != 0 {
		c.Uleb()
	}
	if flags&limitPageSize != 0 {
		c.Uleb()
	}
	if memory && flags&limit64 != 0 {
		m.Arch, m.Bits = image.Wasm64, 64
	}
}

func (m *module) exportSection(c *cursor.Cursor) {
	for range c.Uleb() {
		e := export{name: m.text(c), kind: c.U8(), index: c.Uleb()}
		if c.Err() != nil || !m.room(len(m.exports)) {
			return
		}
		m.exports = append(m.exports, e)
	}
}

// codeSection reads where function bodies are. A body starts behind its size,
// with its local variables.
func (m *module) codeSection(c *cursor.Cursor) {
	count := c.Uleb()
	for i := range count {
		size := c.Uleb()
		at := uint64(c.Offset())
		if c.Err() != nil {
			m.Notef("code section: %d of %d functions are there", i, count)
			return
		}
		if left := uint64(c.Len()); size > left {
			m.Notef("code section: function %d has %d of %d bytes", i, left, size)
			size = left
		}
		c.Skip(size)
		if !m.room(len(m.Functions.List) + len(m.bodies)) {
			return
		}
		m.bodies = append(m.bodies, image.Function{Addr: at, Size: size})
		m.covered += size
	}
}

// body returns the defined function of a number, or nil.
func (m *module) body(index uint64) *image.Function {
	i := index - uint64(len(m.imported))
	if i >= uint64(len(m.bodies)) {
		return nil
	}
	return &m.bodies[i]
}

// finish connects numbers with functions. What a module inside a component
// exports is for its neighbours and no export of the file.
func (m *module) finish(outer bool) {
	for _, n := range m.names {
		if f := m.body(n.index); f != nil {
			f.Name = n.name
			m.Symbols = append(m.Symbols, image.Symbol{Name: n.name, Addr: f.Addr, Size: f.Size, Func: true})
		}
	}
	for _, e := range m.exports {
		x := image.Export{Name: e.name, Data: e.kind != kindFunction}
		if e.kind == kindFunction {
			if f := m.body(e.index); f != nil {
				x.Addr = f.Addr
				if f.Name == "" {
					f.Name = e.name
				}
				if e.name == "_start" && m.Entry == 0 {
					m.Entry = f.Addr // where a WASI command begins
				}
			} else if e.index < uint64(len(m.imported)) {
				i := m.Imports[m.imported[e.index]]
				x.Forward = i.Library + "." + i.Name
			} else {
				m.Notef("export %q: there is no function %d", e.name, e.index)
			}
		}
		if outer && m.room(len(m.Exports)) {
			m.Exports = append(m.Exports, x)
		}
	}
	if m.start >= 0 {
		if f := m.body(uint64(m.start)); f != nil {
			m.Entry = f.Addr
			m.Initializers = append(m.Initializers, f.Addr)
		} else {
			m.Notef("there is no body of the start function %d", m.start)
		}
	}
	for i := m.imports; i < len(m.Imports); i++ {
		m.Imports[i].Weak = m.Imports[i].Weak || m.weak[[2]string{m.Imports[i].Library, m.Imports[i].Name}]
	}
	if m.object && outer {
		m.Kind, m.Linkage = image.Object, ""
	}
	m.Functions.List = append(m.Functions.List, m.bodies...)
	m.finishData()
}
