package wasm

import (
	"encoding/hex"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// custom reads the custom sections that say something of the module as a whole.
func (m *module) custom(s span, c *cursor.Cursor) {
	switch s.name {
	case "name":
		m.nameSection(c)
	case "producers":
		m.producers(c)
	case "dylink.0":
		m.Kind, m.Linkage = image.Library, image.Dynamic
		m.dylink(c)
	case "dylink": // before there were subsections
		m.Kind, m.Linkage = image.Library, image.Dynamic
		for range 4 { // size and alignment of memory and table
			c.Uleb()
		}
		m.Libraries = append(m.Libraries, m.texts(c)...)
	case "linking":
		m.object = true
		m.linking(c)
	case "build_id":
		m.BuildID = hex.EncodeToString(c.Bytes(c.Uleb()))
	case "signature":
		m.Signed = c.Len() > 0
	}
}

// subsections gives each subsection of c, a number and a size before its
// bytes, to visit.
func (m *module) subsections(what string, c *cursor.Cursor, visit func(id uint8, c *cursor.Cursor)) {
	for c.Len() > 0 && c.Err() == nil {
		id := c.U8()
		sub := cursor.New(c.Bytes(c.Uleb()), false)
		if c.Err() != nil {
			return
		}
		visit(id, sub)
		if sub.Err() != nil {
			m.Notef("section %q, subsection %d: %v", what, id, sub.Err())
		}
	}
}

// texts reads a vector of names.
func (m *module) texts(c *cursor.Cursor) []string {
	var list []string
	for range c.Uleb() {
		s := m.text(c)
		if c.Err() != nil || len(list) == maxItems {
			break
		}
		list = append(list, s)
	}
	return list
}

// Subsections of the name section.
const (
	nameModule   = 0
	nameFunction = 1
)

func (m *module) nameSection(c *cursor.Cursor) {
	m.subsections("name", c, func(id uint8, c *cursor.Cursor) {
		switch id {
		case nameModule:
			if name := m.text(c); m.Name == "" {
				m.Name = name
			}
		case nameFunction:
			for range c.Uleb() {
				index, name := c.Uleb(), m.text(c)
				if c.Err() != nil || !m.room(len(m.names)) {
					return
				}
				m.name(index, name)
			}
		}
	})
}

func (m *module) name(index uint64, name string) {
	m.names = append(m.names, named{index, name})
	m.hasNames = true
}

// producers reads which languages, tools and SDKs made the module.
func (m *module) producers(c *cursor.Cursor) {
	for range c.Uleb() {
		field := m.text(c)
		for range c.Uleb() {
			s := strings.TrimSpace(m.text(c) + " " + m.text(c))
			if c.Err() != nil || len(m.Compilers) == maxProducers {
				return
			}
			if field == "language" {
				s = "language " + s
			}
			m.Compilers = append(m.Compilers, s)
		}
		if c.Err() != nil {
			return
		}
	}
}

const maxProducers = 1000

// Subsections of dylink.0.
const (
	dylinkNeeded     = 2
	dylinkImportInfo = 4
	dylinkRunPath    = 5

	symbolBinding   = 0x3 // flags of a symbol, also in the linking section
	symbolWeak      = 0x1
	symbolLocal     = 0x2
	symbolUndefined = 0x10
	symbolExplicit  = 0x40 // an undefined symbol has a name of its own
)

func (m *module) dylink(c *cursor.Cursor) {
	m.subsections("dylink.0", c, func(id uint8, c *cursor.Cursor) {
		switch id {
		case dylinkNeeded:
			m.Libraries = append(m.Libraries, m.texts(c)...)
		case dylinkRunPath:
			m.RunPaths = append(m.RunPaths, m.texts(c)...)
		case dylinkImportInfo:
			for range c.Uleb() {
				key := [2]string{m.text(c), m.text(c)}
				flags := c.Uleb()
				if c.Err() != nil || !m.room(len(m.weak)) {
					return
				}
				if flags&symbolBinding == symbolWeak {
					if m.weak == nil {
						m.weak = map[[2]string]bool{}
					}
					m.weak[key] = true
				}
			}
		}
	})
}

const (
	linkingVersion = 2
	linkingSymbols = 8 // the subsection WASM_SYMBOL_TABLE

	linkFunction = 0
	linkData     = 1
	linkGlobal   = 2
	linkSection  = 3
	linkTag      = 4
	linkTable    = 5
)

// linking reads the symbol table of an object: its functions have their names
// there, and variables of other objects are not in the import section.
func (m *module) linking(c *cursor.Cursor) {
	if v := c.Uleb(); v != linkingVersion {
		m.Notef("linking section: version %d is not known", v)
		return
	}
	m.subsections("linking", c, func(id uint8, c *cursor.Cursor) {
		if id != linkingSymbols {
			return
		}
		for range c.Uleb() {
			if !m.symbol(c) {
				return
			}
		}
	})
}

// symbol reads one entry of the symbol table, and says whether to go on.
func (m *module) symbol(c *cursor.Cursor) bool {
	kind, flags := c.U8(), c.Uleb()
	undefined := flags&symbolUndefined != 0
	switch kind {
	case linkFunction, linkGlobal, linkTag, linkTable:
		index := c.Uleb()
		if undefined && flags&symbolExplicit == 0 {
			break // the import has the name
		}
		name := m.text(c)
		if c.Err() != nil || undefined {
			break
		}
		if kind == linkFunction && m.room(len(m.names)) {
			m.name(index, name)
		}
		if flags&symbolBinding != symbolLocal && kind <= kindTag && m.room(len(m.exports)) {
			m.exports = append(m.exports, export{name, exportKinds[kind], index})
		}
	case linkData:
		name := m.text(c)
		if !undefined {
			c.Uleb() // segment
			c.Uleb() // offset
			c.Uleb() // size
		}
		switch {
		case c.Err() != nil:
		case undefined && m.room(len(m.Imports)):
			m.Imports = append(m.Imports, image.Import{Name: name, Data: true, Weak: flags&symbolBinding == symbolWeak})
		case !undefined && flags&symbolBinding != symbolLocal && m.room(len(m.exports)):
			m.exports = append(m.exports, export{name, kindMemory, 0})
		}
	case linkSection:
		c.Uleb()
	default:
		if c.Err() == nil {
			m.Notef("linking section: symbol of kind %d is not known; the rest is not read", kind)
		}
		return false
	}
	return c.Err() == nil
}

// exportKinds translates kinds of symbols to kinds of exports.
var exportKinds = map[uint8]uint8{linkFunction: kindFunction, linkGlobal: kindGlobal, linkTag: kindTag, linkTable: kindTable}
