package macho_test

import (
	"encoding/binary"
)

// A build is a Mach-O file that a test puts together: first the bytes that
// load commands point at, from offset blobs on, then the commands.
type build struct {
	big, wide             bool
	cpu, sub, kind, flags uint32
	blobs                 []byte
	commands              []byte
	count                 uint32
	segments              int
}

const blobs = 0x1000 // offset of the first blob; header and commands lie before

func (b *build) order() binary.AppendByteOrder {
	if b.big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// put adds bytes, aligned to 8, and returns their offset in the file.
func (b *build) put(data []byte) uint32 {
	for len(b.blobs)%8 != 0 {
		b.blobs = append(b.blobs, 0)
	}
	off := blobs + len(b.blobs)
	b.blobs = append(b.blobs, data...)
	return uint32(off)
}

// pack appends values: integers in their width, byte slices as they are, and
// uint as an integer of the width of the file.
func (b *build) pack(values ...any) []byte {
	var out []byte
	for _, v := range values {
		switch v := v.(type) {
		case uint8:
			out = append(out, v)
		case uint16:
			out = b.order().AppendUint16(out, v)
		case uint32:
			out = b.order().AppendUint32(out, v)
		case uint64:
			out = b.order().AppendUint64(out, v)
		case uint:
			if b.wide {
				out = b.order().AppendUint64(out, uint64(v))
			} else {
				out = b.order().AppendUint32(out, uint32(v))
			}
		case []byte:
			out = append(out, v...)
		case string:
			out = append(out, v...)
		default:
			panic("no such value")
		}
	}
	return out
}

// command adds a load command, filled up to a multiple of 8 bytes.
func (b *build) command(cmd uint32, values ...any) {
	body := b.pack(values...)
	for len(body)%8 != 0 {
		body = append(body, 0)
	}
	b.commands = append(b.commands, b.pack(cmd, uint32(len(body)+8), body)...)
	b.count++
}

// linkedit adds a command that points at its data.
func (b *build) linkedit(cmd uint32, data []byte) {
	b.command(cmd, b.put(data), uint32(len(data)))
}

// dylib adds a command that names a library, and its like.
func (b *build) dylib(cmd uint32, name string) {
	b.command(cmd, uint32(24), uint32(2), uint32(0x10000), uint32(0x10000), name, uint8(0))
}

// str adds a command whose body is one string.
func (b *build) str(cmd uint32, s string) { b.command(cmd, uint32(12), s, uint8(0)) }

type sect struct {
	name, segment string
	addr, size    uint
	off           uint32
	flags, r1, r2 uint32
}

func name16(s string) []byte { return append([]byte(s), make([]byte, 16-len(s))...) }

func (b *build) segment(name string, addr, size, off, fileSize uint, access uint32, sections ...sect) {
	values := []any{name16(name), addr, size, off, fileSize, uint32(7), access, uint32(len(sections)), uint32(0)}
	for _, s := range sections {
		values = append(values, name16(s.name), name16(s.segment), s.addr, s.size, s.off, uint32(0), uint32(0), uint32(0), s.flags, s.r1, s.r2)
		if b.wide {
			values = append(values, uint32(0))
		}
	}
	if b.wide {
		b.command(0x19, values...)
	} else {
		b.command(0x1, values...)
	}
	b.segments++
}

type sym struct {
	name  string
	kind  uint8
	sect  uint8
	desc  uint16
	value uint
}

// symtab adds a symbol table, and its dynamic part with the indirect symbols.
func (b *build) symtab(indirect []uint32, syms ...sym) {
	var table, strings []byte
	strings = append(strings, 0)
	for _, s := range syms {
		table = append(table, b.pack(uint32(len(strings)), s.kind, s.sect, s.desc, s.value)...)
		strings = append(append(strings, s.name...), 0)
	}
	b.command(0x2, b.put(table), uint32(len(syms)), b.put(strings), uint32(len(strings)))
	var list []byte
	for _, i := range indirect {
		list = append(list, b.pack(i)...)
	}
	values := make([]any, 18)
	for i := range values {
		values[i] = uint32(0)
	}
	values[12], values[13] = b.put(list), uint32(len(indirect))
	b.command(0xb, values...)
}

// bytes returns the file.
func (b *build) bytes() []byte {
	magic := uint32(0xfeedface)
	if b.wide {
		magic = 0xfeedfacf
	}
	out := b.pack(magic, b.cpu, b.sub, b.kind, b.count, uint32(len(b.commands)), b.flags)
	if b.wide {
		out = append(out, 0, 0, 0, 0)
	}
	out = append(out, b.commands...)
	if len(out) > blobs {
		panic("too many load commands")
	}
	return append(append(out, make([]byte, blobs-len(out))...), b.blobs...)
}

// fat joins slices, with 64-bit offsets if wide.
func fat(wide bool, cpus []uint32, slices ...[]byte) []byte {
	be := binary.BigEndian
	magic := uint32(0xcafebabe)
	if wide {
		magic = 0xcafebabf
	}
	out := be.AppendUint32(nil, magic)
	out = be.AppendUint32(out, uint32(len(slices)))
	off := 0x1000
	for i, s := range slices {
		out = be.AppendUint32(be.AppendUint32(out, cpus[i]), 0)
		if wide {
			out = be.AppendUint64(be.AppendUint64(out, uint64(off)), uint64(len(s)))
			out = be.AppendUint32(be.AppendUint32(out, 12), 0)
		} else {
			out = be.AppendUint32(be.AppendUint32(out, uint32(off)), uint32(len(s)))
			out = be.AppendUint32(out, 12)
		}
		off += (len(s) + 0xfff) &^ 0xfff
	}
	for _, s := range slices {
		for len(out)%0x1000 != 0 {
			out = append(out, 0)
		}
		out = append(out, s...)
	}
	return out
}

func uleb(values ...uint64) []byte {
	var out []byte
	for _, v := range values {
		out = binary.AppendUvarint(out, v)
	}
	return out
}
