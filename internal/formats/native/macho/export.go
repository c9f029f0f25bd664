package macho

import (
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Flags of a terminal node of the export trie (EXPORT_SYMBOL_FLAGS_* of
// <mach-o/loader.h>).
const (
	exportKind     = 0x3
	exportThread   = 0x1
	exportAbsolute = 0x2
	exportReexport = 0x8
	exportResolver = 0x10
)

const (
	// A trie shares what names have in common, so their bytes are more than
	// its own, but not without bound.
	trieFactor = 64
	maxTrie    = 64 << 20 // bytes of names
)

// readExports takes the export trie, which the loader goes by, or in older
// files and in objects the external symbols that are defined.
func (f *file) readExports() {
	code := f.pick(func(s *section) bool { return s.code })
	if f.hasTrie {
		f.exportTrie(code)
		return
	}
	offered := func(s *symbol) bool {
		return s.kind&nExt != 0 && s.kind&nPrivate == 0 && s.defined() && s.name != ""
	}
	count := 0
	for i := range f.symbols {
		if offered(&f.symbols[i]) {
			count++
		}
	}
	f.Exports = make([]image.Export, 0, count)
	for i := range f.symbols {
		s := &f.symbols[i]
		if !offered(s) {
			continue
		}
		e := image.Export{Name: s.name, Addr: s.value, Data: !s.code}
		switch {
		case s.common():
			e.Addr = 0
		case s.kind&nType == nIndirect:
			name, _ := f.names.at(s.value)
			e.Addr, e.Data, e.Forward = 0, false, FlatNamespace+"."+bare(name)
		}
		f.Exports = append(f.Exports, e)
	}
}

// exportTrie walks the export trie. A node is the size of its terminal part,
// that part, the number of its children, and for each the next part of the
// name and the offset of its node. No node of a sound trie has two parents;
// here none is visited twice.
func (f *file) exportTrie(code ranges) {
	if len(f.trie) == 0 {
		return
	}
	type node struct {
		off  uint64
		name string
	}
	visited := make([]uint64, len(f.trie)/64+1)
	left := min(trieFactor*len(f.trie)+maxName, maxTrie)
	stack := []node{{}}
	var children []node
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n.off >= uint64(len(f.trie)) {
			f.Notef("exports trie: node at %#x is outside of %d bytes", n.off, len(f.trie))
			continue
		}
		if visited[n.off/64]&(1<<(n.off%64)) != 0 {
			f.Notef("exports trie: node at %#x has two parents", n.off)
			continue
		}
		visited[n.off/64] |= 1 << (n.off % 64)

		c := cursor.New(f.trie, false).Seek(n.off)
		if size := c.Uleb(); size > 0 {
			terminal := c.Bytes(size)
			if c.Err() == nil {
				f.export(n.name, cursor.New(terminal, false), code)
			}
		}
		children = children[:0]
		for range c.U8() {
			edge := c.CString(maxName)
			off := c.Uleb()
			if c.Err() != nil {
				break
			}
			if left -= len(n.name) + len(edge) + 1; left < 0 {
				f.Notef("exports trie: names are too long in all; the rest is not read")
				return
			}
			children = append(children, node{off, n.name + edge})
		}
		if c.Err() != nil {
			f.Notef("exports trie: node at %#x: %v", n.off, c.Err())
		}
		for i := len(children) - 1; i >= 0; i-- {
			stack = append(stack, children[i])
		}
	}
}

// export reads the terminal part of a node.
func (f *file) export(name string, c *cursor.Cursor, code ranges) {
	e := image.Export{Name: bare(name)}
	flags := c.Uleb()
	switch {
	case flags&exportReexport != 0:
		ordinal := int(min(c.Uleb(), 1<<20))
		target := e.Name
		if c.Len() > 0 {
			if s := bare(c.CString(maxName)); s != "" {
				target = s
			}
		}
		library, _ := f.boundLibrary(ordinal)
		e.Forward = library + "." + target
	case flags&exportKind == exportAbsolute:
		e.Addr, e.Data = c.Uleb(), true
	default:
		// Of a resolver, the first number is its stub, the second itself.
		e.Addr = f.Base + c.Uleb()
		e.Data = flags&exportKind == exportThread || code.find(e.Addr) == nil
	}
	if c.Err() != nil {
		f.Notef("exports trie: %q: %v", name, c.Err())
		return
	}
	if e.Name != "" {
		f.Exports = append(f.Exports, e)
	}
}
