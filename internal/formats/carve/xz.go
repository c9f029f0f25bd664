package carve

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// This reads "The .xz File Format" 1.2.1. The module decompresses LZMA2; the
// container is read here, because its blocks ask for memory each, and the sum
// of that is to be bounded.

const (
	xzMagic  = "\xfd7zXZ\x00"
	xzHeader = 12
	xzLZMA2  = 0x21

	// maxAsked is how much memory blocks may ask for beyond 512 times of what
	// came out of them: each history costs time to clear.
	maxAsked = 4 << 30
)

var errXZ = errors.New("the data is damaged")

// An xzReader reads one stream of an .xz file.
type xzReader struct {
	in    *counted
	check byte
	block *lzma.Reader2
	begin int64 // of the block's data
	sum   hash.Hash
	out   int64
	asked int64
	ended bool
}

func newXZ(in io.Reader) (*xzReader, error) {
	x := &xzReader{in: count(in)}
	head := make([]byte, xzHeader)
	if _, err := io.ReadFull(x.in, head); err != nil {
		return nil, err
	}
	if string(head[:6]) != xzMagic || head[6] != 0 || head[7] > 15 || crc32.ChecksumIEEE(head[6:8]) != binary.LittleEndian.Uint32(head[8:]) {
		return nil, errXZ
	}
	x.check = head[7]
	return x, nil
}

func (x *xzReader) Read(p []byte) (int, error) {
	for {
		if x.ended {
			return 0, io.EOF
		}
		if x.block == nil {
			if err := x.next(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := x.block.Read(p)
		x.out += int64(n)
		if x.sum != nil {
			x.sum.Write(p[:n])
		}
		if errors.Is(err, io.EOF) {
			err = x.finish()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next reads the header of a block (3.1), or the index.
func (x *xzReader) next() error {
	first, err := x.in.ReadByte()
	if err != nil {
		return unexpected(err)
	}
	if first == 0 {
		x.ended = true
		return x.index()
	}
	size := (int(first) + 1) * 4
	head := make([]byte, size)
	head[0] = first
	if _, err := io.ReadFull(x.in, head[1:]); err != nil {
		return unexpected(err)
	}
	body := head[:size-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(head[size-4:]) || body[1]&^0xc0 != 0 {
		return errXZ // more than one filter, too
	}
	r := bytes.NewReader(body[2:])
	for _, flag := range []byte{0x40, 0x80} {
		if body[1]&flag != 0 {
			if _, err := binary.ReadUvarint(r); err != nil {
				return errXZ
			}
		}
	}
	id, _ := r.ReadByte()
	n, _ := r.ReadByte()
	bits, err := r.ReadByte()
	if err != nil || id != xzLZMA2 || n != 1 || bits > 40 {
		return errXZ
	}
	dict := int64(2|bits&1) << (bits/2 + 11)
	x.asked += dict
	if dict > maxWindow || x.asked > maxAsked && x.asked/512 > x.out {
		return errors.New("it asks for too much memory")
	}
	x.begin = x.in.n
	switch x.check {
	case 1:
		x.sum = crc32.NewIEEE()
	case 4:
		x.sum = crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		x.sum = sha256.New()
	}
	x.block, err = lzma.Reader2Config{DictCap: max(int(dict), lzma.MinDictCap)}.NewReader2(x.in)
	return err
}

// finish reads the padding and the check behind a block.
func (x *xzReader) finish() error {
	x.block = nil
	pad := int(-(x.in.n - x.begin) & 3)
	size := 0
	if x.check > 0 {
		size = 4 << ((x.check - 1) / 3)
	}
	tail := make([]byte, pad+size)
	if _, err := io.ReadFull(x.in, tail); err != nil {
		return unexpected(err)
	}
	if x.sum == nil {
		return nil
	}
	want := x.sum.Sum(nil)
	if x.check != 10 { // sums of numbers are little-endian
		for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
			want[i], want[j] = want[j], want[i]
		}
	}
	if !bytes.Equal(want, tail[pad:]) {
		return errors.New("a checksum is wrong")
	}
	return nil
}

// index passes over the index (4), whose first byte has been read, and the
// footer (2.1.2).
func (x *xzReader) index() error {
	begin := x.in.n - 1
	records, err := binary.ReadUvarint(x.in)
	if err != nil {
		return unexpected(err)
	}
	for range records {
		for range 2 {
			if _, err := binary.ReadUvarint(x.in); err != nil {
				return unexpected(err)
			}
		}
	}
	rest := make([]byte, -(x.in.n-begin)&3+4+xzHeader)
	if _, err := io.ReadFull(x.in, rest); err != nil {
		return unexpected(err)
	}
	if string(rest[len(rest)-2:]) != "YZ" {
		return errXZ
	}
	return nil
}

// unexpected makes the end of the input an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
