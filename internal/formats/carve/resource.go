package carve

import (
	"encoding/binary"
	"fmt"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// maxResources bounds a tree that may point at itself.
const maxResources = 10_000

// pictures are types of resources that hold what Windows shows ("Resource
// Types", WinUser.h): cursors, bitmaps, icons, their groups, version, manifest.
var pictures = map[uint32]bool{1: true, 2: true, 3: true, 12: true, 14: true, 16: true, 24: true}

// resources returns the resources of a PE file as regions ("PE Format", The
// .rsrc Section). Types and names that are texts are shown by their text.
func resources(m *image.Image) []region {
	if len(m.Data) < 0x40 {
		return nil
	}
	c := cursor.New(m.Data, false)
	at := uint64(binary.LittleEndian.Uint32(m.Data[0x3c:]))
	c.Seek(at + 24)
	dirs := at + 24 + 96
	if c.U16() == 0x20b {
		dirs += 16
	}
	if c.Seek(dirs - 4); c.U32() < 3 {
		return nil
	}
	c.Seek(dirs + 2*8)
	rva := uint64(c.U32())
	if c.Err() != nil || rva == 0 {
		return nil
	}
	base, ok := m.FileOffset(m.Base + rva)
	if !ok {
		return nil
	}
	t := &resourceTree{m: m, data: m.Data[base:]}
	t.walk(0, nil)
	return t.out
}

type resourceTree struct {
	m    *image.Image
	data []byte // from the root on
	out  []region
	seen int
}

func (t *resourceTree) walk(at uint64, names []string) {
	c := cursor.New(t.data, false)
	c.Seek(at + 12)
	count := int(c.U16()) + int(c.U16())
	for range count {
		id, to := c.U32(), c.U32()
		if t.seen++; c.Err() != nil || t.seen > maxResources {
			return
		}
		if len(names) == 0 && pictures[id] {
			continue
		}
		name := append(names[:len(names):len(names)], t.name(id))
		switch {
		case to&(1<<31) == 0:
			t.leaf(uint64(to), name)
		case len(name) < 3:
			t.walk(uint64(to&^(1<<31)), name)
		}
	}
}

// name returns a number, or the text that it points to.
func (t *resourceTree) name(id uint32) string {
	if id&(1<<31) == 0 {
		return fmt.Sprint(id)
	}
	c := cursor.New(t.data, false)
	c.Seek(uint64(id &^ (1 << 31)))
	text := make([]rune, min(c.U16(), 64))
	for i := range text {
		if text[i] = rune(c.U16()); text[i] < ' ' || text[i] == '/' || text[i] > 0xd7ff {
			text[i] = '_'
		}
	}
	return string(text)
}

func (t *resourceTree) leaf(at uint64, names []string) {
	c := cursor.New(t.data, false)
	c.Seek(at)
	rva, size := uint64(c.U32()), uint64(c.U32())
	off, ok := t.m.FileOffset(t.m.Base + rva)
	if c.Err() != nil || !ok || size == 0 || off+size > uint64(len(t.m.Data)) {
		return
	}
	name := names[0]
	if len(names) > 1 {
		name += "-" + names[1]
	}
	t.out = append(t.out, region{name: "resource:" + name, place: "resource " + name, off: int(off), end: int(off + size), whole: true})
}
