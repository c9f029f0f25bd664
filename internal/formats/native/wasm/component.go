package wasm

import (
	"fmt"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Sections of a component by number.
const (
	componentModule    = 1
	componentComponent = 4
	componentImport    = 10
	componentExport    = 11
)

var componentSections = []string{
	"custom", "core module", "core instance", "core type", "component", "instance", "alias", "type", "canon", "start", "import", "export", "value",
}

// component reads a component behind its header, and what it holds. Its code
// is that of the modules inside; what the file takes and offers is what the
// outermost component imports and exports.
func (p *parser) component(c *cursor.Cursor, prefix string, depth int) {
	nested := 0
	p.sections(c, prefix, componentSections, noCode, func(s span) {
		c := p.at(s)
		switch s.id {
		case sectionCustom:
			m := module{parser: p}
			if s.name == "producers" {
				m.producers(c)
			}
		case componentModule, componentComponent:
			if depth == maxDepth {
				p.Notef("components are nested deeper than %d; the rest is not read", maxDepth)
				return
			}
			p.binary(s.start, s.end, fmt.Sprintf("%s%d/", prefix, nested), depth+1)
			nested++
		case componentImport:
			if depth == 0 {
				p.componentImports(c)
			}
		case componentExport:
			if depth == 0 {
				p.componentExports(c)
			}
		}
		if c.Err() != nil {
			p.Notef("component section %d at offset %#x: %v", s.id, s.start, c.Err())
		}
	})
}

const noCode = 0xff // components have no section of code themselves

// externName reads the name of an import or export of a component.
func (p *parser) externName(c *cursor.Cursor) string {
	kind := c.U8()
	name := p.text(c)
	if kind == 2 { // with a version suffix of its own
		p.text(c)
	}
	return name
}

func (p *parser) componentImports(c *cursor.Cursor) {
	for range c.Uleb() {
		name := p.externName(c)
		kind := externType(c)
		if c.Err() != nil || !p.room(len(p.Imports)) {
			return
		}
		p.Imports = append(p.Imports, image.Import{Name: name, Data: kind == externValue || kind == externBound})
	}
}

// Sorts of what components import and export.
const (
	externCore  = 0
	externValue = 2
	externBound = 3 // a type
)

func (p *parser) componentExports(c *cursor.Cursor) {
	for range c.Uleb() {
		name := p.externName(c)
		sort := c.U8()
		if sort == externCore {
			c.U8() // sort of a core item
		}
		c.Uleb() // index
		if c.U8() == 1 {
			externType(c)
		}
		if c.Err() != nil || !p.room(len(p.Exports)) {
			return
		}
		p.Exports = append(p.Exports, image.Export{Name: name, Data: sort == externValue || sort == externBound})
	}
}

// externType skips an externdesc and returns its sort.
func externType(c *cursor.Cursor) uint8 {
	kind := c.U8()
	switch kind {
	case externCore:
		c.U8() // 0x11, a core module
		c.Uleb()
	case externValue:
		if c.U8() == 0 {
			c.Uleb()
		} else {
			c.Sleb() // a value type: a byte, or an index of 33 bits
		}
	case externBound:
		if c.U8() == 0 {
			c.Uleb()
		}
	default:
		c.Uleb()
	}
	return kind
}
