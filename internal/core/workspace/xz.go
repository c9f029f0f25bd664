package workspace

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// This reads the .xz file format 1.2.1. The module decompresses LZMA2; the
// container is read here because a block's header asks for memory, and has to
// be refused before it gets it.

const (
	xzMagic      = "\xfd7zXZ\x00"
	xzFooter     = "YZ"
	xzLZMA2      = 0x21 // filter, 5.3.1
	xzHeaderSize = 12
)

// Each block has its own history, which costs time to clear. Blocks of 16 kB at
// the usual 8 MB stay within these.
const (
	maxAsked      = 4 << 30
	maxAskedRatio = 512
)

var (
	errXZ     = errors.New("it is damaged")
	crc64ECMA = crc64.MakeTable(crc64.ECMA)
)

// An xzReader reads the blocks of an .xz file.
type xzReader struct {
	d     *decoder
	total int64 // what the whole file unpacks to; 0 if not known

	check byte // type, 3.4
	block *lzma.Reader2
	begin int64 // of the block's packed data
	sum   hash.Hash
	out   int64 // bytes that came out
	asked int64 // memory that blocks have asked for
}

func newXZReader(d *decoder, src handle) (io.Reader, error) {
	x := &xzReader{d: d, total: xzTotal(src)}
	return x, x.stream()
}

func (x *xzReader) Read(p []byte) (int, error) {
	if x.block == nil {
		if err := x.nextBlock(); err != nil || x.block == nil {
			return 0, err
		}
	}
	n, err := x.block.Read(p)
	x.out += int64(n)
	if x.sum != nil {
		x.sum.Write(p[:n])
	}
	if errors.Is(err, io.EOF) {
		err = x.endBlock()
	}
	return n, err
}

func (x *xzReader) full(p []byte) error {
	_, err := io.ReadFull(x.d.in, p)
	return trimmed(err)
}

// stream reads the header of a stream (2.1.1).
func (x *xzReader) stream() error {
	var h [xzHeaderSize]byte
	if err := x.full(h[:]); err != nil {
		return err
	}
	if string(h[:6]) != xzMagic || h[6] != 0 || h[7] > 15 || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return errXZ
	}
	x.check = h[7]
	return nil
}

// nextBlock reads a block's header (3.1) or, after the last block, what ends the
// stream and begins another. At the end of the file it returns io.EOF.
func (x *xzReader) nextBlock() error {
	size, err := x.d.in.ReadByte()
	if err != nil {
		return trimmed(err)
	}
	if size == 0 {
		if err := x.index(); err != nil {
			return err
		}
		return x.nextStream()
	}
	h := make([]byte, (int(size)+1)*4)
	h[0] = size
	if err := x.full(h[1:]); err != nil {
		return err
	}
	body, crc := h[:len(h)-4], binary.LittleEndian.Uint32(h[len(h)-4:])
	if crc32.ChecksumIEEE(body) != crc {
		return errXZ
	}
	window, err := x.window(body)
	if err != nil {
		return err
	}
	if x.asked += window; x.asked > maxAsked+maxAskedRatio*x.out {
		return errors.New("its many small blocks ask for too much memory")
	}
	x.begin = x.d.used()
	if x.block, err = (lzma.Reader2Config{DictCap: int(window)}).NewReader2(x.d.in); err != nil {
		return trimmed(err)
	}
	x.sum = newXZCheck(x.check)
	return nil
}

// window returns how much history a block needs by its header.
func (x *xzReader) window(h []byte) (int64, error) {
	flags := h[1]
	r := bytes.NewReader(h[2:])
	for _, present := range []bool{flags&0x40 != 0, flags&0x80 != 0} { // sizes
		if present {
			if _, err := xzNumber(r); err != nil {
				return 0, err
			}
		}
	}
	id, err := xzNumber(r)
	if err != nil {
		return 0, err
	}
	if flags&3 != 0 || id != xzLZMA2 {
		return 0, fmt.Errorf("filter %#x of xz is not read", id)
	}
	n, err := xzNumber(r)
	if err != nil || n != 1 {
		return 0, errXZ
	}
	bits, err := r.ReadByte()
	if err != nil || bits > 40 {
		return 0, errXZ
	}
	window := int64(2|bits&1) << (bits/2 + 11)
	if x.total > 0 {
		window = min(window, x.total)
	}
	if window > maxWindow {
		return 0, fmt.Errorf("it needs %d MB of memory, more than %d", window>>20, maxWindow>>20)
	}
	return max(window, lzma.MinDictCap), nil
}

// endBlock checks what follows a block's data: padding and checksum.
func (x *xzReader) endBlock() error {
	x.block = nil
	var pad [4]byte
	if n := -(x.d.used() - x.begin) & 3; n > 0 {
		if err := x.full(pad[:n]); err != nil {
			return err
		}
	}
	stated := make([]byte, xzCheckSize(x.check))
	if err := x.full(stated); err != nil {
		return err
	}
	if x.sum == nil {
		return nil
	}
	sum := x.sum.Sum(nil)
	if x.check != xzSHA256 { // which alone is stored as it is written
		for i, j := 0, len(sum)-1; i < j; i, j = i+1, j-1 {
			sum[i], sum[j] = sum[j], sum[i]
		}
	}
	if !bytes.Equal(sum, stated) {
		return errors.New("its checksum is wrong")
	}
	return nil
}

// The types of checks (2.1.1.2) that are checked.
const (
	xzCRC32  = 1
	xzCRC64  = 4
	xzSHA256 = 10
)

func newXZCheck(check byte) hash.Hash {
	switch check {
	case xzCRC32:
		return crc32.NewIEEE()
	case xzCRC64:
		return crc64.New(crc64ECMA)
	case xzSHA256:
		return sha256.New()
	}
	return nil
}

func xzCheckSize(check byte) int {
	if check == 0 {
		return 0
	}
	return 4 << ((check - 1) / 3)
}

// index passes over the index (4.1), whose first byte has been read, and the
// footer (2.1.2).
func (x *xzReader) index() error {
	begin := x.d.used() - 1
	count, err := xzNumber(x.d.in)
	if err != nil {
		return err
	}
	for range count {
		for range 2 {
			if _, err := xzNumber(x.d.in); err != nil {
				return err
			}
		}
	}
	rest := make([]byte, -(x.d.used()-begin)&3+4+xzHeaderSize)
	if err := x.full(rest); err != nil {
		return err
	}
	if string(rest[len(rest)-2:]) != xzFooter {
		return errXZ
	}
	return nil
}

// nextStream looks for another stream behind padding (2.2).
func (x *xzReader) nextStream() error {
	c, err := firstNonZero(x.d.in)
	if err != nil {
		return err
	}
	if err := x.d.in.UnreadByte(); err != nil {
		return err
	}
	if c != xzMagic[0] {
		return errors.New("other data follows the packed data")
	}
	return x.stream()
}

// xzNumber reads a number of up to 63 bits (1.2).
func xzNumber(r io.ByteReader) (uint64, error) {
	var n uint64
	for shift := 0; shift < 63; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			return 0, trimmed(err)
		}
		n |= uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			return n, nil
		}
	}
	return 0, errXZ
}

// xzTotal returns what a file of one stream unpacks to by its index, which
// saves memory where that is less than the window. Should the index lie, the
// data turns out to be damaged. It returns 0 if it cannot tell.
func xzTotal(src handle) int64 {
	var foot [xzHeaderSize]byte
	if src.size < 3*xzHeaderSize || !readFull(src, foot[:], src.size-xzHeaderSize) || string(foot[10:]) != xzFooter {
		return 0
	}
	size := (int64(binary.LittleEndian.Uint32(foot[4:])) + 1) * 4
	const most = 64 << 10
	if size > most || size > src.size-2*xzHeaderSize {
		return 0
	}
	index := make([]byte, size)
	if !readFull(src, index, src.size-xzHeaderSize-size) || index[0] != 0 {
		return 0
	}
	r := bytes.NewReader(index[1:])
	count, err := xzNumber(r)
	var packed, total uint64
	for i := uint64(0); i < count && err == nil; i++ {
		var p, n uint64
		if p, err = xzNumber(r); err == nil {
			n, err = xzNumber(r)
		}
		packed += (p + 3) &^ 3
		total += n
		if packed > uint64(src.size) || total > 1<<60 {
			return 0
		}
	}
	if err != nil || int64(packed)+size+2*xzHeaderSize != src.size {
		return 0
	}
	return int64(total)
}
