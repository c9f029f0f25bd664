package pe

import (
	"unicode/utf16"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// versionInfo reads the strings of the version resource: the first language of
// the first resource of type 16 ("The .rsrc Section").
func (f *file) versionInfo() {
	const version = 16
	root := f.dirs[dirResource].rva
	if root == 0 {
		return
	}
	var at uint64
	for level := range 3 {
		want := uint32(version)
		if level > 0 {
			want = anyID
		}
		next, leaf := f.resource(root, at, want)
		if next == 0 || leaf != (level == 2) {
			return
		}
		at = next
	}
	entry := f.table(root+at, 16)
	if len(entry) < 16 {
		return
	}
	f.versionStrings(f.table(uint64(le32(entry)), uint64(le32(entry[4:]))))
}

const anyID = 0xffffffff

// resource finds an entry of the resource directory at root+at by its number
// and returns where it leads, relative to root, and whether that is data. It
// returns 0 if there is no such entry.
func (f *file) resource(root, at uint64, want uint32) (uint64, bool) {
	const entry = 8
	head := f.table(root+at, 16)
	if len(head) < 16 {
		return 0, false
	}
	n := uint64(le16(head[12:])) + uint64(le16(head[14:]))
	for b := f.table(root+at+16, n*entry); len(b) >= entry; b = b[entry:] {
		if id := le32(b); id == want || want == anyID {
			to := le32(b[4:])
			return uint64(to &^ (1 << 31)), to>>31 == 0
		}
	}
	return 0, false
}

// versionStrings reads VS_VERSIONINFO ("VS_VERSIONINFO structure"), a tree of
// blocks: length, length of the value, type, name, value, children, all aligned
// to 4 bytes. The strings are below StringFileInfo, one table for each language.
func (f *file) versionStrings(b []byte) {
	const most = 64
	root, ok := versionBlock(b)
	if !ok {
		f.m.Notef("version resource is damaged")
		return
	}
	for info := range root.blocks {
		if info.name != "StringFileInfo" {
			continue
		}
		for table := range info.blocks {
			for s := range table.blocks {
				value := utf16Text(s.value)
				if value == "" || s.name == "" || len(f.m.VersionInfo) >= most {
					continue
				}
				if f.m.VersionInfo == nil {
					f.m.VersionInfo = make(map[string]string)
				}
				if _, dup := f.m.VersionInfo[s.name]; !dup {
					f.m.VersionInfo[s.name] = value
				}
			}
		}
	}
}

// A block is one node of a version resource.
type block struct {
	name     string
	value    []byte
	children []byte
}

func versionBlock(b []byte) (block, bool) {
	const longest = 256
	c := cursor.New(b, false)
	size, valueSize, text := uint64(c.U16()), uint64(c.U16()), c.U16() == 1
	if c.Err() != nil || size < 6 || size > uint64(len(b)) {
		return block{}, false
	}
	c = cursor.New(b[:size], false).Skip(6)
	var name []uint16
	for {
		u := c.U16()
		if u == 0 || len(name) == longest {
			break
		}
		name = append(name, u)
	}
	if c.Len() > 3 {
		c.Align(4)
	}
	if text {
		valueSize *= 2 // counted in characters
	}
	value := c.Bytes(min(valueSize, uint64(c.Len())))
	if c.Len() > 3 {
		c.Align(4)
	}
	return block{string(utf16.Decode(name)), value, c.Bytes(uint64(c.Len()))}, c.Err() == nil
}

// blocks yields the children of a block.
func (b block) blocks(yield func(block) bool) {
	for rest := b.children; len(rest) >= 6; {
		child, ok := versionBlock(rest)
		if !ok || !yield(child) {
			return
		}
		next := (int(le16(rest)) + 3) &^ 3
		rest = rest[min(next, len(rest)):]
	}
}

// utf16Text decodes up to the first zero.
func utf16Text(b []byte) string {
	const longest = 1024
	var units []uint16
	for ; len(b) >= 2 && len(units) < longest; b = b[2:] {
		u := le16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
