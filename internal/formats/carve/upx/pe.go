package upx

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// A packed PE file has three sections: one that is empty in the file and where
// the program is unpacked to, one with the packed data behind a PackHeader, and
// one for what the system reads: imports of the loader, some resources. Behind
// the unpacked image lie the original headers.

// findPE looks for a PackHeader of a PE file between its headers and its
// packed data.
func findPE(data []byte) (header, error) {
	head := data[:min(len(data), 64<<10)]
	for at := 0; ; {
		i := bytes.Index(head[at:], []byte(magic))
		if i < 0 {
			return header{}, errNot
		}
		if h, ok := readHeader(data, at+i); ok && h.packedSize > 0 && h.packedSize <= len(data)-h.end && h.size > 256 && likely(h.size, h.packedSize) {
			return h, nil
		}
		at += i + len(magic)
	}
}

// A peFile is the headers of a PE file, packed or original.
type peFile struct {
	at       int // of "PE\0\0"
	wide     bool
	size     int // of headers from there to the section table
	sections []peSection
	base     uint64
	dirs     int // offset of the directories in the headers
}

type peSection struct{ addr, size, off, raw uint32 }

// readPEFile reads headers at an offset. The section table follows them there,
// whatever the size of the optional header says.
func readPEFile(b []byte, at int) (f peFile, ok bool) {
	c := cursor.New(b, false)
	if c.Seek(uint64(at)).U32() != 0x4550 {
		return f, false
	}
	count := int(c.Seek(uint64(at) + 6).U16())
	f.at = at
	switch c.Seek(uint64(at) + 24).U16() {
	case 0x10b:
		f.size, f.dirs = 0xf8, 24+96
		f.base = uint64(c.Seek(uint64(at) + 24 + 28).U32())
	case 0x20b:
		f.wide, f.size, f.dirs = true, 0x108, 24+112
		f.base = c.Seek(uint64(at) + 24 + 24).U64()
	default:
		return f, false
	}
	if count == 0 || count > 96 {
		return f, false
	}
	c.Seek(uint64(at + f.size))
	for range count {
		c.Skip(8)
		size, addr, raw, off := c.U32(), c.U32(), c.U32(), c.U32()
		c.Skip(16)
		f.sections = append(f.sections, peSection{addr, size, off, raw})
	}
	return f, c.Err() == nil
}

// dir returns an entry of the directories.
func (f *peFile) dir(b []byte, i int) (addr, size uint32) {
	c := cursor.New(b, false).Seek(uint64(f.at + f.dirs + 8*i))
	return c.U32(), c.U32()
}

func unpackPE(data []byte) ([]byte, error) {
	h, err := findPE(data)
	if err != nil {
		return nil, err
	}
	packed, ok := readPEFile(data, int(binary.LittleEndian.Uint32(data[0x3c:])))
	if !ok || len(packed.sections) < 2 {
		return nil, errDamaged
	}
	src := data[h.end : h.end+h.packedSize]
	memory, err := decompress(h.method, src, h.size)
	if err != nil {
		return nil, err
	}
	if adler32.Checksum(src) != h.packed || adler32.Checksum(memory) != h.unpacked {
		return nil, errDamaged
	}
	at := int(binary.LittleEndian.Uint32(memory[len(memory)-4:]))
	if at < 0 || at > len(memory) {
		return nil, errDamaged
	}
	original, ok := readPEFile(memory, at)
	if !ok {
		return nil, errDamaged
	}
	p := &peImage{data: data, packed: packed, memory: memory, original: original, low: original.sections[0].addr}
	if err := p.unfilter(h); err != nil {
		return nil, err
	}
	p.imports()
	return p.file()
}

// A peImage is the unpacked memory of a PE file, from its lowest section on,
// with the original headers at its end.
type peImage struct {
	data             []byte
	packed, original peFile
	memory           []byte
	low              uint32
}

// unfilter undoes the filter on the section of code.
func (p *peImage) unfilter(h header) error {
	c := cursor.New(p.memory, false)
	size := c.Seek(uint64(p.original.at) + 24 + 4).U32() // SizeOfCode
	code := c.Seek(uint64(p.original.at) + 24 + 20).U32()
	if h.filter == 0 {
		return nil
	}
	if code < p.low || int(code-p.low) > len(p.memory) || int(size) > len(p.memory)-int(code-p.low) {
		return errDamaged
	}
	return unfilter(h.filter, h.cto, p.memory[code-p.low:code-p.low+size], code-p.low)
}

// imports puts back the tables of imports, which the packer turned into a list
// of its own: by library, the offset of its name in the packed file's imports,
// the offset of its table, then names (1, text, 0), numbers (FF and 16 bits)
// and places in the packed file's table.
func (p *peImage) imports() {
	table, size := p.original.dir(p.memory, 1)
	if table == 0 || size <= 20 || len(p.packed.sections) < 3 {
		return
	}
	extra := p.original.at + p.original.size + 40*len(p.original.sections)
	c := cursor.New(p.memory, false).Seek(uint64(extra))
	list, names := c.U32(), c.U32()
	if c.Err() != nil {
		return
	}
	loader, _ := p.packed.dir(p.data, 1)
	at := uint64(list)
	nameAt := names
	descriptor := table
	var hints []hint
	for {
		c.Seek(at)
		library, iat := c.U32(), c.U32()
		if c.Err() != nil || library == 0 {
			break
		}
		name := p.packedString(loader + library)
		if names != 0 {
			p.put32(descriptor+12, nameAt+p.low)
			p.put(nameAt+p.low, append([]byte(name), 0))
			nameAt += uint32(len(name)) + 1
		} else if at, ok := p.get32(descriptor + 12); ok {
			p.put(at, append([]byte(name), 0))
		}
		p.put32(descriptor+16, iat+p.low)
		slot := iat + p.low
		next, ok := p.thunks(c, slot, loader, names != 0, &hints)
		if !ok {
			return
		}
		at = next
		descriptor += 20
	}
	nameAt += nameAt & 1
	for _, h := range hints {
		nameAt += nameAt & 1
		p.put(nameAt+p.low, append([]byte{0, 0}, h.name+"\x00"...))
		p.putSlot(h.slot, uint64(nameAt+p.low))
		nameAt += uint32(len(h.name)) + 3
	}
}

// A hint is a name that is still to be put somewhere, and who points to it.
type hint struct {
	slot uint32
	name string
}

// thunks fills the table of one library, and returns where the next begins.
func (p *peImage) thunks(c *cursor.Cursor, slot, loader uint32, move bool, hints *[]hint) (uint64, bool) {
	step, ordinal := uint32(4), uint64(1)<<31
	if p.original.wide {
		step, ordinal = 8, 1<<63
	}
	for ; ; slot += step {
		switch kind := c.U8(); {
		case c.Err() != nil:
			return 0, false
		case kind == 0:
			p.putSlot(slot, 0)
			return uint64(c.Offset()), true
		case kind == 1:
			name := c.CString(4096)
			if move {
				*hints = append(*hints, hint{slot, name})
			} else if at, ok := p.get32(slot); ok {
				p.put(at+2, append([]byte(name), 0))
			}
		case kind == 0xff:
			p.putSlot(slot, uint64(c.U16())|ordinal)
		default:
			b := p.packedAt(loader + c.U32())
			if len(b) < 8 {
				return 0, false
			}
			v := binary.LittleEndian.Uint64(b)
			if !p.original.wide {
				v = uint64(uint32(v))
			}
			p.putSlot(slot, v)
		}
	}
}

// packedAt returns the bytes of the packed file from an address on.
func (p *peImage) packedAt(addr uint32) []byte {
	for _, s := range p.packed.sections {
		if addr >= s.addr && addr-s.addr < s.raw && uint64(s.off)+uint64(addr-s.addr) < uint64(len(p.data)) {
			return p.data[s.off+addr-s.addr:]
		}
	}
	return nil
}

func (p *peImage) packedString(addr uint32) string {
	b := p.packedAt(addr)
	name, _, _ := bytes.Cut(b[:min(len(b), 256)], []byte{0})
	return string(name)
}

func (p *peImage) put(addr uint32, b []byte) {
	if off := int64(addr) - int64(p.low); off >= 0 && off+int64(len(b)) <= int64(p.original.at) {
		copy(p.memory[off:], b)
	}
}

func (p *peImage) put32(addr, v uint32) { p.put(addr, binary.LittleEndian.AppendUint32(nil, v)) }

func (p *peImage) putSlot(addr uint32, v uint64) {
	b := binary.LittleEndian.AppendUint64(nil, v)
	if !p.original.wide {
		b = b[:4]
	}
	p.put(addr, b)
}

func (p *peImage) get32(addr uint32) (uint32, bool) {
	off := int64(addr) - int64(p.low)
	if off < 0 || off+4 > int64(p.original.at) {
		return 0, false
	}
	return binary.LittleEndian.Uint32(p.memory[off:]), true
}

// file puts headers and sections together. Base relocations stay in the form
// of the packer, so that their directory entry is cleared.
func (p *peImage) file() ([]byte, error) {
	o := p.original
	heads := p.memory[o.at : o.at+o.size+40*len(o.sections)]
	out := append(bytes.Clone(p.data[:p.packed.at]), heads...)
	clear(out[p.packed.at+o.dirs+5*8 : p.packed.at+o.dirs+6*8])
	for _, s := range o.sections {
		if s.off == 0 || s.raw == 0 || s.addr < p.low {
			continue
		}
		from := int(s.addr - p.low)
		size := min(int(s.raw), max(0, o.at-from))
		if size == 0 {
			continue
		}
		if grow := int(s.off) - len(out); int(s.off) > len(p.memory)+1<<20 {
			return nil, errDamaged
		} else if grow > 0 {
			out = append(out, make([]byte, grow)...)
		}
		n := copy(out[s.off:], p.memory[from:from+size])
		out = append(out, p.memory[from+n:from+size]...)
		if short := int(s.raw) - size; short > 0 && short < 1<<20 && len(out) == int(s.off)+size {
			out = append(out, make([]byte, short)...)
		}
	}
	return out, nil
}
