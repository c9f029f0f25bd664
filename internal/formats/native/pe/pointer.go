package pe

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// pointers lists the words that a base relocation moves with the image ("The
// .reloc Section"). On x86 these are operands of instructions too.
func (f *file) pointers() {
	const absolute32, absolute64 = 3, 10
	dir := f.dirs[dirReloc]
	if dir.rva == 0 {
		return
	}
	mapped := make([]span, 0, len(f.m.Segments))
	for _, s := range f.m.Segments {
		if size := max(s.Size, s.FileSize); s.Addr+size > s.Addr {
			mapped = append(mapped, span{s.Addr, s.Addr + size})
		}
	}
	mapped = merge(mapped)
	list := []image.Pointer{}
	left := uint64(len(f.m.Data))/4 + 64 // each moves a pointer of its own
	for b := f.table(dir.rva, dir.size); len(b) >= 8; {
		base, size := uint64(le32(b)), uint64(le32(b[4:]))
		if size < 8 {
			break
		}
		size = min(size, uint64(len(b)))
		entries := b[8:size]
		b = b[size:]
		target := f.at(base)
		for ; len(entries) >= 2 && left > 0; entries = entries[2:] {
			e := le16(entries)
			kind, off := e>>12, uint64(e&0xfff)
			if kind != absolute32 && kind != absolute64 {
				continue
			}
			left--
			f.relocated = true
			c := cursor.New(target, false).Skip(off)
			to := c.Word(kind == absolute64)
			if c.Err() != nil {
				continue
			}
			if f.m.Arch == image.ARM && to&1 != 0 && holds(f.code, to) {
				to &^= 1 // a function of Thumb code
			}
			if holds(mapped, to) {
				list = append(list, image.Pointer{At: f.m.Base + base + off, To: to})
			}
		}
	}
	if left == 0 {
		f.m.Notef("base relocations: more than the file has room for")
	}
	order := func(a, b image.Pointer) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.To, b.To)) }
	if !slices.IsSortedFunc(list, order) {
		slices.SortFunc(list, order)
	}
	f.m.Pointers = slices.CompactFunc(list, func(a, b image.Pointer) bool { return a.At == b.At })
}

// initializers lists the functions that the loader calls before the entry
// point: the callbacks of thread-local storage.
func (f *file) initializers() { f.m.Initializers = f.starts(f.callbacks()) }
