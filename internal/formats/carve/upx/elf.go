package upx

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// A packed ELF file is a loader and blocks. Each block has a b_info of 12
// bytes: its size before and after, method, filter, the mark of the filter. The
// first holds the original headers; the others follow its segments.
const blockInfo = 12

// An elfPack is where the blocks of a packed ELF file lie.
type elfPack struct {
	order   binary.ByteOrder
	blocks  int // offset of the first
	size    int // of the original file
	largest int // of the blocks, before they were packed
}

// findELF looks for p_info: at the offset that the end of the file names, or
// behind the first mark.
func findELF(data []byte) (elfPack, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if len(data) > 5 && data[5] == 2 {
		order = binary.BigEndian
	}
	const trailer = 36
	tail := max(0, len(data)-trailer-64)
	if i := bytes.LastIndex(data[tail:], []byte(magic)); i >= 0 && tail+i+trailer <= len(data) {
		if p, ok := readPack(data, order, int(order.Uint32(data[tail+i+32:]))); ok {
			return p, nil
		}
	}
	head := data[:min(len(data), 8<<10)]
	for at := 0; ; {
		i := bytes.Index(head[at:], []byte(magic))
		if i < 0 {
			return elfPack{}, errNot
		}
		if p, ok := readPack(data, order, at+i+8); ok { // l_info ends 8 bytes behind its mark
			return p, nil
		}
		at += i + len(magic)
	}
}

// readPack reads a p_info: a number of the program, the size of the file and of
// the largest block.
func readPack(data []byte, order binary.ByteOrder, at int) (elfPack, bool) {
	const packInfo = 12
	if at < 0 || at+packInfo+blockInfo > len(data) {
		return elfPack{}, false
	}
	p := elfPack{order: order, size: int(order.Uint32(data[at+4:])), blocks: at + packInfo}
	p.largest = int(order.Uint32(data[at+8:]))
	first := data[p.blocks:]
	n, packed := int(order.Uint32(first)), int(order.Uint32(first[4:]))
	ok := p.size >= 52 && likely(p.size, len(data)) && p.largest > 0 && n >= 52 && n <= 64<<10 && n <= p.size && packed > 0 && packed <= n && knownMethod(first[8])
	return p, ok
}

// A blockReader reads one block after the other.
type blockReader struct {
	data  []byte
	order binary.ByteOrder
	at    int
}

// next returns the next block; nil at the end of them.
func (r *blockReader) next() ([]byte, error) {
	if r.at+blockInfo > len(r.data) {
		return nil, errDamaged
	}
	b := r.data[r.at:]
	n, packed := int(r.order.Uint32(b)), int(r.order.Uint32(b[4:]))
	method, filter, cto := b[8], b[9], b[10]
	if n == 0 {
		return nil, nil
	}
	if packed > n || packed > len(b)-blockInfo {
		return nil, errDamaged
	}
	src := b[blockInfo : blockInfo+packed]
	r.at += blockInfo + packed
	if packed == n {
		return src, nil
	}
	out, err := decompress(method, src, n)
	if err == nil {
		err = unfilter(filter, cto, out, 0)
	}
	return out, err
}

// A load is a segment of the original file.
type load struct{ off, size int }

func unpackELF(data []byte) ([]byte, error) {
	p, err := findELF(data)
	if err != nil {
		return nil, err
	}
	r := &blockReader{data, p.order, p.blocks}
	head, err := r.next()
	if err != nil {
		return nil, err
	}
	loads, err := readLoads(head, p.size)
	if err != nil {
		return nil, err
	}
	r.at = p.blocks // the first block is the beginning of the first segment too
	out := &image{most: p.size}
	for i, extent := range loads {
		if err := out.fill(r, extent); err != nil {
			if i > 0 {
				break // what comes later may have another form: what there is is worth showing
			}
			return nil, err
		}
	}
	for _, extent := range gaps(loads, p.size) {
		if !r.seek(min(extent.size, p.largest)) || out.fill(r, extent) != nil {
			break
		}
	}
	if short := p.size - len(out.data); short > 0 && short < 1<<20 {
		out.data = append(out.data, make([]byte, short)...)
	}
	return out.data, nil
}

// seek passes over the loader, which lies between the blocks of segments and
// those of what is between them and of unknown size, to a block that holds n
// bytes.
func (r *blockReader) seek(n int) bool {
	tries := 0
	for at := r.at; at+blockInfo <= len(r.data) && tries < 64; at++ {
		b := r.data[at:]
		if int(r.order.Uint32(b)) != n || int(r.order.Uint32(b[4:])) > min(n, len(b)-blockInfo) || !knownMethod(b[8]) || b[11] != 0 {
			continue
		}
		tries++
		probe := &blockReader{r.data, r.order, at}
		if _, err := probe.next(); err == nil {
			r.at = at
			return true
		}
	}
	return false
}

// readLoads returns the PT_LOAD segments of the original headers.
func readLoads(head []byte, size int) ([]load, error) {
	if !bytes.HasPrefix(head, []byte("\x7fELF")) || len(head) < 52 {
		return nil, errDamaged
	}
	wide := head[4] == 2
	c := cursor.New(head, head[5] == 2)
	var at uint64
	var phnum int
	phsize := uint64(32)
	if wide {
		at, phsize = c.Seek(32).U64(), 56
		phnum = int(c.Seek(56).U16())
	} else {
		at = uint64(c.Seek(28).U32())
		phnum = int(c.Seek(44).U16())
	}
	var loads []load
	for i := range phnum {
		c.Seek(at + uint64(i)*phsize)
		kind := c.U32()
		if wide {
			c.U32()
		}
		off := c.Word(wide)
		c.Word(wide)
		c.Word(wide)
		n := c.Word(wide)
		if c.Err() != nil {
			break
		}
		if kind != 1 {
			continue
		}
		if off > uint64(size) || n > uint64(size)-off {
			return nil, errDamaged
		}
		if n > 0 {
			loads = append(loads, load{int(off), int(n)})
		}
	}
	if len(loads) == 0 || len(loads) > 1000 {
		return nil, errDamaged
	}
	return loads, nil
}

// gaps returns what lies in the file behind each segment and before the next.
func gaps(loads []load, size int) []load {
	var out []load
	for _, l := range loads {
		from, to := l.off+l.size, size
		for _, o := range loads {
			if o.off >= from && o != l {
				to = min(to, o.off)
			}
		}
		if to > from {
			out = append(out, load{from, to - from})
		}
	}
	return out
}

// An image is a file that is put together from blocks.
type image struct {
	data []byte
	most int
}

// fill writes blocks to a place until that is full.
func (m *image) fill(r *blockReader, to load) error {
	for off, left := to.off, to.size; left > 0; {
		block, err := r.next()
		if err != nil {
			return err
		}
		if len(block) == 0 || len(block) > left || off+len(block) > m.most {
			return errDamaged
		}
		if grow := off - len(m.data); grow > 64<<20 {
			return fmt.Errorf("UPX: a segment lies %d bytes behind the others", grow)
		} else if grow > 0 {
			m.data = append(m.data, make([]byte, grow)...)
		}
		n := copy(m.data[off:], block)
		m.data = append(m.data, block[n:]...)
		off += len(block)
		left -= len(block)
	}
	return nil
}
