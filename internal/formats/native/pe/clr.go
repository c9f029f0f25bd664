package pe

import (
	"math/bits"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A clrHeader is what a .NET image says of itself (ECMA-335, II.25.3.3).
type clrHeader struct {
	ilOnly   bool
	metadata []byte
}

// clr reads the header of a .NET image and the version that its metadata
// asks for.
func (f *file) clr() {
	const ilOnly = 1
	dir := f.dirs[dirCLR]
	if dir.rva == 0 {
		return
	}
	c := cursor.New(f.at(dir.rva), false).Skip(8)
	rva, size := uint64(c.U32()), uint64(c.U32())
	flags := c.U32()
	if c.Err() != nil {
		f.m.Notef(".NET header is cut off: %v", c.Err())
		return
	}
	metadata := f.table(rva, size)
	f.managed = &clrHeader{ilOnly: flags&ilOnly != 0, metadata: metadata}
	if len(metadata) < 16 || string(metadata[:4]) != "BSJB" {
		f.m.Notef(".NET metadata at RVA %#x has no root", rva)
		return
	}
	version, _ := cursor.String(metadata, 16, 255)
	f.m.Compilers = append(f.m.Compilers, ".NET CLR "+version)
}

// methods reads the methods that have code from the metadata tables (ECMA-335,
// II.24.2.6 and II.22). Tables are in order of their numbers, so that those
// before MethodDef must be measured.
func (f *file) methods() []image.Function {
	const (
		module, typeRef, typeDef, fieldPtr, field, methodPtr, methodDef, param = 0, 1, 2, 3, 4, 5, 6, 8
		moduleRef, typeSpec, assemblyRef                                       = 26, 27, 35
	)
	tables, names := f.streams()
	if tables == nil {
		f.m.Notef(".NET metadata has no tables")
		return nil
	}
	c := cursor.New(tables, false).Skip(6)
	wide := c.U8()
	c.Skip(1)
	valid := c.U64()
	c.Skip(8)
	var rows [64]uint64
	for v := valid; v != 0; v &= v - 1 {
		rows[bits.TrailingZeros64(v)] = uint64(c.U32())
	}
	if wide&0x40 != 0 {
		c.Skip(4) // "extra data", of edit-and-continue
	}
	size := func(large bool) uint64 {
		if large {
			return 4
		}
		return 2
	}
	index := func(table int) uint64 { return size(rows[table] > 0xffff) }
	coded := func(tagBits int, tables ...int) uint64 {
		var most uint64
		for _, t := range tables {
			most = max(most, rows[t])
		}
		return size(most >= 1<<(16-tagBits))
	}
	text, guid, blob := size(wide&1 != 0), size(wide&2 != 0), size(wide&4 != 0)
	row := [...]uint64{
		module:    2 + text + 3*guid,
		typeRef:   coded(2, module, moduleRef, assemblyRef, typeRef) + 2*text,
		typeDef:   4 + 2*text + coded(2, typeDef, typeRef, typeSpec) + index(field) + index(methodDef),
		fieldPtr:  index(field),
		field:     2 + text + blob,
		methodPtr: index(methodDef),
		methodDef: 8 + text + blob + index(param),
	}
	for t := range methodDef {
		c.Skip(rows[t] * row[t])
	}
	var list []image.Function
	for range rows[methodDef] {
		rva := uint64(c.U32())
		c.Skip(4) // implementation and method flags
		name := uint64(c.U16())
		if text == 4 {
			name |= uint64(c.U16()) << 16
		}
		c.Skip(row[methodDef] - 8 - text)
		if c.Err() != nil {
			f.m.Notef(".NET method table is cut off: %v", c.Err())
			break
		}
		if rva == 0 {
			continue // abstract, or implemented elsewhere
		}
		fn := image.Function{Addr: f.m.Base + rva}
		fn.Name, _ = f.string(names, name)
		list = append(list, fn)
	}
	return list
}

// streams returns the metadata's tables and its strings (ECMA-335, II.24.2.1).
func (f *file) streams() (tables, names []byte) {
	c := cursor.New(f.managed.metadata, false).Skip(12)
	c.Skip(uint64(c.U32())) // version, padded
	c.Skip(2)
	for range c.U16() {
		offset, size := uint64(c.U32()), uint64(c.U32())
		name := c.CString(32)
		c.Align(4)
		if c.Err() != nil {
			break
		}
		b, _ := cursor.Slice(f.managed.metadata, offset, size)
		switch name {
		case "#~", "#-":
			tables = b
		case "#Strings":
			names = b
		}
	}
	return tables, names
}
