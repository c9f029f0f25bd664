package carve

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

// compression returns the compression that head begins with, if its header
// makes sense.
func compression(head []byte) Encoding {
	switch {
	case len(head) < 16:
		return ""
	case head[0] == 0x1f && head[1] == 0x8b && head[2] == 8 && head[3]&0xe0 == 0:
		return Gzip
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")) && head[4]&0x08 == 0:
		return Zstd
	case bytes.HasPrefix(head, []byte(xzMagic)) && head[6] == 0 && head[7] < 16:
		return XZ
	case bytes.HasPrefix(head, []byte("\x04\x22\x4d\x18")) && head[4]>>6 == 1 && head[5]&0x8f == 0:
		return LZ4
	case bytes.HasPrefix(head, []byte("BZh")) && head[3] >= '1' && head[3] <= '9' && string(head[4:10]) == "1AY&SY":
		return Bzip2
	case isZlib(head):
		return Zlib
	case isLZMA(head):
		return LZMA
	}
	return ""
}

// isZlib checks the two bytes of RFC 1950, 2.2, for a window of 32 kB and no
// dictionary, which is what everybody writes.
func isZlib(b []byte) bool {
	return b[0] == 0x78 && b[1]&0x20 == 0 && binary.BigEndian.Uint16(b)%31 == 0 && b[2]&6 != 6
}

// isLZMA checks the thirteen bytes of LZMA Utils: properties, size of the
// dictionary, size of the data.
func isLZMA(b []byte) bool {
	if b[0] != 0x5d || b[13] != 0 { // others than lc 3, lp 0, pb 2 are unheard of
		return false
	}
	dict, size := binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint64(b[5:])
	round := dict&(dict-1) == 0 || dict&(dict-1)&(dict&(dict-1)-1) == 0 && dict>>1&dict != 0
	return dict >= 4096 && dict <= maxWindow && round && (size == 1<<64-1 || size >= 64 && size < 1<<34)
}

// extent returns how many bytes of b a compressed stream takes that begins
// there, and how many come out of it, as far as that is known; -1 if not. It
// reports false if it is none. spent is how much had to be decoded to tell.
func (s *search) extent(e Encoding, b []byte, most int64) (packed int, out, spent int64, ok bool) {
	switch e {
	case Zstd:
		packed, out, spent = zstdExtent(b)
		return packed, out, spent, packed > 0
	case LZ4:
		packed, spent = lz4Extent(b)
		return packed, -1, spent, packed > 0
	}
	in := bytes.NewReader(b)
	var r io.Reader
	var err error
	switch e {
	case Gzip:
		var z *gzip.Reader
		if z, err = gzip.NewReader(in); err == nil {
			z.Multistream(false)
			r = z
		}
	case Zlib:
		r, err = s.inflate(in)
	case XZ:
		r, err = newXZ(in)
	case LZMA:
		if !probeLZMA(b) {
			return 0, 0, 16 << 10, false
		}
		r, err = newLZMA(in)
	case Bzip2:
		r = bzip2.NewReader(in)
	default:
		return 0, 0, 0, false
	}
	if err != nil {
		return 0, 0, 0, false
	}
	if e == XZ || e == LZMA {
		spent = historyCost
	}
	out, err = io.Copy(io.Discard, io.LimitReader(r, most+1))
	return len(b) - in.Len(), out, out + spent, err == nil && out <= most
}

// inflate reads a zlib stream, with the memory of the one before.
func (s *search) inflate(in io.Reader) (io.Reader, error) {
	if s.zlib != nil {
		return s.zlib, s.zlib.(zlib.Resetter).Reset(in, nil)
	}
	var err error
	s.zlib, err = zlib.NewReader(in)
	return s.zlib, err
}

// historyCost is what a decoder that makes room for a long history is taken to
// cost, in bytes decoded.
const historyCost = 8 << 20

// probeLZMA decodes the beginning with a history that is no longer than that.
func probeLZMA(b []byte) bool {
	const most = 4 << 10
	head := bytes.Clone(b[:13])
	binary.LittleEndian.PutUint32(head[1:], most)
	r, err := newLZMA(io.MultiReader(bytes.NewReader(head), bytes.NewReader(b[13:])))
	if err != nil {
		return false
	}
	n, err := io.CopyN(io.Discard, r, most)
	return n >= 64 && (err == nil || errors.Is(err, io.EOF))
}

// perBlock is what it costs to look at the header of a block that may be
// anywhere, in bytes decoded.
const perBlock = 16

// zstdExtent walks the blocks of a frame and of those that follow it (RFC
// 8878, 3.1.1).
func zstdExtent(b []byte) (packed int, out, spent int64) {
	for at := 0; ; {
		n, size, blocks := zstdFrame(b[at:])
		spent += perBlock * int64(blocks)
		if n == 0 {
			return at, out, spent
		}
		if at += n; size < 0 || out < 0 {
			out = -1
		} else {
			out += size
		}
	}
}

// zstdFrame returns the size of one frame, 0 if there is none, of its content if
// it says so, and how many blocks were looked at.
func zstdFrame(b []byte) (n int, out int64, blocks int) {
	if len(b) < 9 || binary.LittleEndian.Uint32(b) != 0xfd2fb528 || b[4]&8 != 0 {
		return 0, 0, blocks
	}
	flags := b[4]
	single := flags&0x20 != 0
	at := 5
	if !single {
		at++ // window
	}
	at += [4]int{0, 1, 2, 4}[flags&3] // dictionary
	field := [4]int{0, 2, 4, 8}[flags>>6]
	if field == 0 && single {
		field = 1
	}
	out = -1
	if at+field <= len(b) && field > 0 {
		var le [8]byte
		copy(le[:], b[at:at+field])
		if out = int64(binary.LittleEndian.Uint64(le[:])); field == 2 {
			out += 256
		}
		if out < 0 {
			return 0, 0, blocks
		}
	}
	at += field
	for ; ; blocks++ {
		if at+3 > len(b) {
			return 0, 0, blocks
		}
		h := uint32(b[at]) | uint32(b[at+1])<<8 | uint32(b[at+2])<<16
		size := int(h >> 3)
		switch h >> 1 & 3 {
		case 1: // one byte, repeated
			size = 1
		case 3:
			return 0, 0, blocks
		}
		if h>>3 > 128<<10 {
			return 0, 0, blocks
		}
		if at += 3 + size; at > len(b) {
			return 0, 0, blocks
		}
		if h&1 != 0 {
			break
		}
	}
	if flags&4 != 0 {
		at += 4
	}
	if at > len(b) {
		return 0, 0, blocks
	}
	return at, out, blocks
}

// lz4Extent walks the blocks of a frame ("LZ4 Frame Format Description").
func lz4Extent(b []byte) (packed int, spent int64) {
	if len(b) < 11 || binary.LittleEndian.Uint32(b) != 0x184d2204 || b[4]>>6 != 1 || b[4]&2 != 0 || b[5]&0x8f != 0 || b[5]>>4 < 4 {
		return 0, spent
	}
	flags, most := b[4], 1<<(8+2*(b[5]>>4))
	at := 7
	if flags&8 != 0 {
		at += 8 // content size
	}
	if flags&1 != 0 {
		at += 4 // dictionary
	}
	if at > len(b) || lz4HeaderSum(b[4:at-1]) != b[at-1] {
		return 0, spent
	}
	for ; ; spent += perBlock {
		if at+4 > len(b) {
			return 0, spent
		}
		size := int(binary.LittleEndian.Uint32(b[at:]) &^ (1 << 31))
		at += 4
		if size == 0 {
			break
		}
		if size > most {
			return 0, spent
		}
		if at += size; flags&0x10 != 0 {
			at += 4
		}
		if at > len(b) {
			return 0, spent
		}
	}
	if flags&4 != 0 {
		at += 4
	}
	if at > len(b) {
		return 0, spent
	}
	return at, spent
}

// lz4HeaderSum is the second byte of the xxHash32 of the descriptor, which is
// shorter than the 16 bytes of that sum's blocks.
func lz4HeaderSum(b []byte) byte {
	const (
		p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	)
	h := uint32(p5) + uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		h += binary.LittleEndian.Uint32(b) * p3
		h = (h<<17 | h>>15) * p4
	}
	for _, c := range b {
		h += uint32(c) * p5
		h = (h<<11 | h>>21) * p1
	}
	h ^= h >> 15
	h *= p2
	h ^= h >> 13
	h *= p3
	h ^= h >> 16
	return byte(h >> 8)
}

// counted is a reader of bytes that knows how many were taken.
type counted struct {
	r io.Reader
	b io.ByteReader
	n int64
}

func count(r io.Reader) *counted {
	b, ok := r.(io.ByteReader)
	if !ok {
		buf := bufio.NewReaderSize(r, 32<<10)
		r, b = buf, buf
	}
	return &counted{r: r, b: b}
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	v, err := c.b.ReadByte()
	if err == nil {
		c.n++
	}
	return v, err
}
