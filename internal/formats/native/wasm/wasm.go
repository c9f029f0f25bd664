// Package wasm reads WebAssembly binaries: modules, relocatable objects,
// dynamic libraries, and components with the modules inside of them.
//
// The layout is that of the WebAssembly Core Specification, chapter 5 "Binary
// Format"; of the tool conventions "Linking.md", "DynamicLinking.md",
// "ProducersSection.md" and "BuildId.md"; and of the component model's
// "Binary.md".
//
// It refuses to validate modules and to look into instructions. Addresses are
// offsets in the file, as in the stack traces of engines.
package wasm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const (
	magic = "\x00asm"

	headerSize      = 8 // bytes: magic, version of 16 bits, layer of 16 bits
	moduleVersion   = 1
	layerModule     = 0
	layerComponent  = 1
	componentFormat = 0x0d

	// The WebAssembly JavaScript Interface, "Implementation Limits", allows
	// engines to refuse modules with more functions, imports or exports.
	maxItems = 1_000_000
	maxName  = 1 << 16 // bytes

	maxSections = 1 << 16
	maxDepth    = 16 // of components inside components
)

// Is says whether head, the first bytes of a file, starts a WebAssembly binary.
func Is(head []byte) bool { return bytes.HasPrefix(head, []byte(magic)) }

// Parse reads a WebAssembly binary. It fails if nothing can be made sense of;
// otherwise what could not be read is in the notes of the image. The functions
// and imports of modules inside a component are those of the one image.
func Parse(data []byte) (*image.Image, error) {
	if !Is(data) || len(data) < headerSize {
		return nil, fmt.Errorf("wasm: not a WebAssembly binary")
	}
	size := uint64(len(data))
	p := &parser{
		Image: &image.Image{
			Format: image.Wasm, Arch: image.Wasm32, Bits: 32, Kind: image.Module, Data: data, Linkage: image.Static,
			Segments:  []image.Segment{{Size: size, FileSize: size, Access: image.Read | image.Execute}},
			Functions: image.Functions{Method: "code-section"},
		},
		data: data,
	}
	p.binary(0, size, "", 0)
	p.finish()
	return p.Image, nil
}

// A parser fills one image from a file.
type parser struct {
	*image.Image
	data     []byte
	codeSize uint64 // bytes of code sections
	covered  uint64 // bytes of function bodies
	hasNames bool
	unlisted int  // sections behind maxSections
	full     bool // there were more than maxItems of something
}

// binary reads the module or component in data[start:end]. The names of its
// sections get the prefix.
func (p *parser) binary(start, end uint64, prefix string, depth int) {
	c := cursor.New(p.data[:end], false).Seek(start)
	if string(c.Bytes(4)) != magic {
		p.Notef("no WebAssembly magic at offset %#x", start)
		return
	}
	version, layer := c.U16(), c.U16()
	switch {
	case c.Err() != nil:
		p.Notef("header at offset %#x: %v", start, c.Err())
	case layer == layerComponent:
		if version != componentFormat {
			p.Notef("component format %#x is not known; read as %#x", version, componentFormat)
		}
		p.component(c, prefix, depth)
	default:
		if version != moduleVersion || layer != layerModule {
			p.Notef("version %d of layer %d is not known; read as a module of version %d", version, layer, moduleVersion)
		}
		p.module(c, prefix)
	}
}

// A span is a section, in offsets of the file.
type span struct {
	id         uint8
	name       string // of a custom section
	start, end uint64 // of the content; of a custom section, behind the name
}

// sections reads the frames of sections from c to its end, lists them in the
// image, and gives each to visit.
func (p *parser) sections(c *cursor.Cursor, prefix string, names []string, code uint8, visit func(span)) {
	for c.Len() > 0 {
		at := uint64(c.Offset())
		s := span{id: c.U8()}
		size := c.Uleb()
		s.start = uint64(c.Offset())
		if c.Err() != nil || size > uint64(c.Len()) {
			p.Notef("section %d at offset %#x: %d of %d bytes are there", s.id, at, c.Len(), size)
			if c.Err() != nil || int(s.id) >= len(names) {
				if prefix == "" {
					p.Overlay = image.Range{Offset: at, Size: uint64(len(p.data)) - at}
				}
				return
			}
			size = uint64(c.Len())
		}
		s.end = s.start + size
		if s.id == 0 {
			n := p.at(s)
			s.name = p.text(n)
			s.start = uint64(n.Offset())
			if n.Err() != nil {
				p.Notef("custom section at offset %#x: %v", at, n.Err())
				s.start = s.end
			}
		}
		p.list(s, prefix, names, s.id == code)
		visit(s)
		c.Skip(size)
	}
}

// list adds a section to the image.
func (p *parser) list(s span, prefix string, names []string, code bool) {
	if code {
		p.codeSize += s.end - s.start
	}
	if len(p.Sections) >= maxSections {
		p.unlisted++
		return
	}
	name := s.name
	switch {
	case s.id == 0 && slices.Contains(names[1:], name):
		name = "custom " + name // must not pass for the section of that name
	case s.id == 0:
	case int(s.id) < len(names):
		name = names[s.id]
	default:
		name = fmt.Sprintf("section-%d", s.id)
		p.Notef("section %d at offset %#x is not known", s.id, s.start)
	}
	section := image.Section{
		Name: prefix + name, Addr: s.start, Size: s.end - s.start, Offset: s.start, FileSize: s.end - s.start,
		Access: image.Read, Code: code,
	}
	if code {
		section.Access |= image.Execute
	}
	p.Sections = append(p.Sections, section)
}

// at returns a cursor over a section.
func (p *parser) at(s span) *cursor.Cursor {
	return cursor.New(p.data[:s.end], false).Seek(s.start)
}

// text reads a name: its length in bytes, then UTF-8.
func (p *parser) text(c *cursor.Cursor) string {
	n := c.Uleb()
	if n > maxName {
		p.Notef("name of %d bytes at offset %#x is cut off", n, c.Offset())
		s := string(c.Bytes(maxName))
		c.Skip(n - maxName)
		return s
	}
	return string(c.Bytes(n))
}

// room says whether one more fits into a list of n.
func (p *parser) room(n int) bool {
	if n < maxItems {
		return true
	}
	p.full = true
	return false
}

// finish fills what follows from the whole file.
func (p *parser) finish() {
	p.Stripped = !p.hasNames
	if p.codeSize > 0 {
		p.Functions.Coverage = min(1, float64(p.covered)/float64(p.codeSize))
	}
	if p.full {
		p.Notef("more than %d functions, imports or exports; the rest is not read", maxItems)
	}
	if p.unlisted > 0 {
		p.Notef("%d sections behind the first %d are not listed", p.unlisted, maxSections)
	}
	for _, i := range p.Imports {
		if os := host(i); os != "" {
			p.OS = os
			break
		}
	}
	p.finishPointers()
	p.Finish()
	p.Functions.Count = len(p.Functions.List)
}

// host names the system that an import stands for.
func host(i image.Import) string {
	switch {
	case i.Library == "wasi_snapshot_preview1", i.Library == "wasi_unstable",
		strings.HasPrefix(i.Library, "wasi:"), strings.HasPrefix(i.Name, "wasi:"):
		return "wasi"
	case i.Library == "gojs", i.Library == "go" && strings.HasPrefix(i.Name, "syscall/js."):
		return "js" // as Go calls the browser
	}
	return ""
}
