package pe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// toolchain notes what the file says about the tools that made it: the linker's
// version, the products of a Rich header, and GCC's own mark.
func (f *file) toolchain() {
	rich := f.rich()
	if f.linker != [2]byte{} {
		by := "linker"
		if len(rich) > 0 {
			by = "MSVC linker"
		}
		f.m.Compilers = append(f.m.Compilers, fmt.Sprintf("%s %d.%02d", by, f.linker[0], f.linker[1]))
	}
	f.m.Compilers = append(f.m.Compilers, rich...)
	if len(rich) == 0 {
		f.m.Compilers = append(f.m.Compilers, f.gcc()...)
	}
}

// rich decodes the Rich header, which Microsoft's linker writes between the DOS
// program and the PE header: pairs of product and build, and how many objects
// came from them. It is not in "PE Format"; "DanS", three words of padding, the
// pairs, "Rich" and the key, all but the last two XORed with that key.
func (f *file) rich() []string {
	const most = 64 // a linker merges equal products, so there are never many
	head, _ := cursor.Slice(f.m.Data, 0, uint64(le32(f.m.Data[0x3c:])))
	end := bytes.LastIndex(head, []byte("Rich"))
	if end < 0x40 || len(head) < end+8 {
		return nil
	}
	key := le32(head[end+4:])
	start := binary.LittleEndian.AppendUint32(nil, 0x536e6144^key) // "DanS"
	from := bytes.LastIndex(head[:end], start)
	if from < 0 {
		return nil
	}
	var list []string
	for b := head[from:end]; len(b) >= 24 && len(list) < most; b = b[8:] {
		id, n := le32(b[16:])^key, le32(b[20:])^key
		list = append(list, product(id, n))
	}
	return list
}

// product prints what made n objects: a product's number, and its build in the
// lower half.
func product(id, n uint32) string {
	line := fmt.Sprintf("rich:%d.%d ×%d", id>>16, id&0xffff, n)
	if name := richProducts[uint16(id>>16)]; name != "" {
		line += " " + name
	}
	return line
}

// richProducts names the products that current files have. The numbers are
// those of Visual C++ 2015 and later, which share them and differ in the build.
var richProducts = map[uint16]string{
	0x001: "imports",
	0x00d: "Visual Basic 6",
	0x0ff: "MSVC resource converter",
	0x100: "MSVC export file",
	0x101: "MSVC import library",
	0x102: "MSVC linker",
	0x103: "MSVC assembler",
	0x104: "MSVC C",
	0x105: "MSVC C++",
	0x106: "MSVC C of .NET code",
	0x107: "MSVC C++ of .NET code",
	0x108: "MSVC C with link-time code generation",
	0x109: "MSVC C++ with link-time code generation",
	0x10a: ".NET code with link-time code generation",
	0x10b: "MSVC C instrumented for profiling",
	0x10c: "MSVC C++ instrumented for profiling",
	0x10d: "MSVC C optimised by profile",
	0x10e: "MSVC C++ optimised by profile",
}

// gcc finds the mark "GCC: (…" that GCC's objects bring into .rdata, at its end.
func (f *file) gcc() []string {
	const gnuLinker = 2
	if f.linker[0] != gnuLinker {
		return nil
	}
	return gccMarks(f.m.Bytes(f.m.Section(".rdata")))
}

// gccMarks returns the versions of GCC in b, as they stand.
func gccMarks(b []byte) []string {
	const most, longest = 8, 128
	var list []string
	for len(list) < most {
		at := cursor.Index(b, []byte("GCC: ("))
		if at < 0 {
			break
		}
		b = b[at:]
		mark, _, _ := bytes.Cut(b[:min(len(b), longest)], []byte{0})
		if !slices.Contains(list, string(mark)) {
			list = append(list, string(mark))
		}
		b = b[len(mark):]
	}
	return list
}

// debug reads the debug directory ("The .debug Section") for the identity that
// links the image to its symbols elsewhere.
func (f *file) debug() {
	const entry, codeView, most = 28, 2, 256
	dir := f.dirs[dirDebug]
	if dir.rva == 0 {
		return
	}
	b := f.table(dir.rva, min(dir.size, most*entry))
	for ; len(b) >= entry; b = b[entry:] {
		if le32(b[12:]) != codeView {
			continue
		}
		size, rva, offset := uint64(le32(b[16:])), uint64(le32(b[20:])), uint64(le32(b[24:]))
		info, _ := cursor.Slice(f.m.Data, offset, size)
		if offset == 0 {
			info = f.table(rva, size)
		}
		if f.codeView(info) {
			return
		}
	}
}

// codeView reads a CodeView record: a signature and an age, together the name
// under which symbol servers keep the PDB file, and its path.
func (f *file) codeView(b []byte) bool {
	var path []byte
	switch {
	case len(b) >= 24 && string(b[:4]) == "RSDS":
		guid := b[4:20]
		f.m.BuildID = fmt.Sprintf("%08x%04x%04x%x%x", le32(guid), le16(guid[4:]), le16(guid[6:]), guid[8:], le32(b[20:]))
		path = b[24:]
	case len(b) >= 16 && string(b[:4]) == "NB10":
		f.m.BuildID = fmt.Sprintf("%08x%x", le32(b[8:]), le32(b[12:]))
		path = b[16:]
	default:
		return false
	}
	const longest = 4096
	path, _, _ = bytes.Cut(path[:min(len(path), longest)], []byte{0})
	if len(path) > 0 {
		f.m.Compilers = append(f.m.Compilers, "pdb:"+string(path))
	}
	return true
}

// certificate finds the attribute certificate table ("The Attribute Certificate
// Table"), the one directory that is given by its offset in the file, and with
// it settles what of the end of the file belongs to nothing.
func (f *file) certificate() {
	dir, size := f.dirs[dirSecurity], uint64(len(f.m.Data))
	if dir.rva != 0 && dir.size != 0 {
		b, whole := cursor.Slice(f.m.Data, dir.rva, dir.size)
		f.m.Signed = len(b) > 8
		if !whole {
			f.m.Notef("certificate table is cut off: %d of %d bytes are there", len(b), dir.size)
		}
	}
	start := min(f.m.Overlay.Offset, size)
	// A symbol table that follows the sections is part of the image.
	if end := f.symtab.Offset + f.symtab.Size; f.symtab.Size > 0 && f.symtab.Offset >= start && f.symtab.Offset-start < page {
		start = min(max(start, end), size)
	}
	before, after := image.Range{Offset: start, Size: size - start}, image.Range{}
	if f.m.Signed && dir.rva >= start {
		before.Size = dir.rva - start
		end := min(dir.rva+dir.size, size)
		after = image.Range{Offset: end, Size: size - end}
	}
	// The table is aligned to 8 bytes; what fills the gap is not content.
	f.m.Overlay = image.Range{}
	for _, r := range []image.Range{after, before} {
		if content := bytes.Trim(f.m.Data[r.Offset:r.Offset+r.Size], "\x00"); len(content) > 0 || r.Size >= 8 {
			f.m.Overlay = r
		}
	}
}
