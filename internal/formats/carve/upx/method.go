package upx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

// The methods of compression that headers name. Each NRV algorithm comes with
// its bits in words of 32 bits, in bytes, and in words of 16 bits.
const (
	nrv2b   = 2
	nrv2d   = 5
	nrv2e   = 8
	lzmaRaw = 14
	deflate = 15
	zstdRaw = 16
)

func knownMethod(m byte) bool { return m >= nrv2b && m < nrv2e+3 || m >= lzmaRaw && m <= zstdRaw }

// decompress returns the n bytes that src was packed from.
func decompress(method byte, src []byte, n int) ([]byte, error) {
	if !likely(n, len(src)) {
		return nil, errDamaged
	}
	var out []byte
	var err error
	switch {
	case method >= nrv2b && method < nrv2e+3:
		out, err = decompressNRV(method, src, n)
	case method == lzmaRaw:
		out, err = decompressLZMA(src, n)
	case method == deflate:
		out, err = readAll(flate.NewReader(bytes.NewReader(src)), len(src), n)
	case method == zstdRaw:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20)); err == nil {
			out, err = readAll(z, len(src), n)
			z.Close()
		}
	default:
		return nil, fmt.Errorf("UPX: method %d is not known", method)
	}
	if err == nil && len(out) != n {
		err = errDamaged
	}
	return out, err
}

// room is how much memory to start with for n bytes from a packed number: a
// header may promise anything.
func room(packed, n int) int { return min(n, 16*packed+4096) }

func readAll(r io.Reader, packed, n int) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, room(packed, n)))
	_, err := io.Copy(out, io.LimitReader(r, int64(n)))
	return out.Bytes(), err
}

// decompressLZMA reads what follows two bytes of properties, which are lc+lp
// and pb, lp and lc.
func decompressLZMA(src []byte, n int) ([]byte, error) {
	if len(src) < 8 {
		return nil, errDamaged
	}
	pb, lp, lc := src[0]&7, src[1]>>4, src[1]&15
	if src[0]>>3 != lc+lp || pb > 4 || lp > 4 || lc > 8 {
		return nil, errDamaged
	}
	head := make([]byte, 13)
	head[0] = (pb*5+lp)*9 + lc
	binary.LittleEndian.PutUint32(head[1:], uint32(max(n, lzma.MinDictCap)))
	binary.LittleEndian.PutUint64(head[5:], uint64(n))
	r, err := lzma.ReaderConfig{DictCap: max(min(n, MaxSize), lzma.MinDictCap)}.NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(src[2:])))
	if err != nil {
		return nil, err
	}
	return readAll(r, len(src), n)
}

// decompressNRV reads the three algorithms of the UCL library. They share
// literals, the coding of offsets and the use of the last one again, and differ
// in how lengths are coded.
func decompressNRV(method byte, src []byte, n int) ([]byte, error) {
	b := bits{src: src, width: [3]uint{32, 8, 16}[(method-nrv2b)%3]}
	kind := nrv2b + (method-nrv2b)/3*3
	far := 0x500
	if kind == nrv2b {
		far = 0xd00
	}
	out := make([]byte, 0, room(len(src), n))
	last := 1
	for {
		for b.bit() == 1 {
			if out = append(out, b.byte()); len(out) > n || b.bad {
				return nil, errDamaged
			}
		}
		off := 1
		for {
			off = off*2 + b.bit()
			if b.bit() == 1 {
				break
			}
			if kind != nrv2b {
				off = (off-1)*2 + b.bit()
			}
			if off > 0xffffff+3 || b.bad {
				return nil, errDamaged
			}
		}
		var size, odd int
		if off == 2 {
			if off = last; kind != nrv2b {
				odd = b.bit()
			}
		} else {
			word := uint32(off-3)<<8 | uint32(b.byte())
			if word == 1<<32-1 {
				break
			}
			if kind != nrv2b {
				odd = int(^word & 1)
				word >>= 1
			}
			off = int(word) + 1
			last = off
		}
		switch kind {
		case nrv2b:
			if size = b.bit()*2 + b.bit(); size == 0 {
				size = b.long() + 2
			}
		case nrv2d:
			if size = odd*2 + b.bit(); size == 0 {
				size = b.long() + 2
			}
		default:
			switch {
			case odd == 1:
				size = 1 + b.bit()
			case b.bit() == 1:
				size = 3 + b.bit()
			default:
				size = b.long() + 3
			}
		}
		if size++; off > far {
			size++
		}
		if b.bad || off > len(out) || len(out)+size > n {
			return nil, errDamaged
		}
		for from := len(out) - off; size > 0; { // what is copied may be made on the way
			piece := out[from:min(len(out), from+size)]
			out = append(out, piece...)
			from += len(piece)
			size -= len(piece)
		}
	}
	return out, nil
}

// bits reads single bits and whole bytes from one stream: bits come from words
// that are read when they are needed.
type bits struct {
	src   []byte
	at    int
	width uint
	word  uint32
	left  uint
	bad   bool // it ended early
}

func (b *bits) bit() int {
	if b.left == 0 {
		b.word = 0
		for i := uint(0); i < b.width; i += 8 {
			b.word |= uint32(b.byte()) << i
		}
		b.left = b.width
	}
	b.left--
	return int(b.word>>b.left) & 1
}

func (b *bits) byte() byte {
	if b.at >= len(b.src) {
		b.bad = true
		return 0
	}
	b.at++
	return b.src[b.at-1]
}

// long reads a length that begins with 1 and gets longer while zeros follow.
func (b *bits) long() int {
	n := 1
	for {
		n = n*2 + b.bit()
		if b.bit() == 1 || b.bad || n > MaxSize {
			return n
		}
	}
}
