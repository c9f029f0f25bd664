// Package carve finds what is packed inside other files: programs and archives
// in sections, resources and overlays of binaries, plain, compressed or under
// a key of one byte, programs packed by UPX, and those written as literals in
// source text.
//
// It finds and decodes, and judges nothing. What it calls a program has a
// header that was read and makes sense, not only the right first bytes:
// linkers and scanners are full of those. What it calls compressed has been
// decoded, at least its beginning. Pictures, symbols for debuggers and
// signatures are left alone.
package carve

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// An Encoding is one layer around a payload.
type Encoding string

// The encodings.
const (
	Gzip    Encoding = "gzip"    // RFC 1952
	Zlib    Encoding = "zlib"    // RFC 1950
	Deflate Encoding = "deflate" // RFC 1951
	Zstd    Encoding = "zstd"    // RFC 8878
	XZ      Encoding = "xz"      // "The .xz File Format" 1.2.1
	LZMA    Encoding = "lzma"    // of LZMA Utils: properties, size, data
	Bzip2   Encoding = "bzip2"
	LZ4     Encoding = "lz4"    // "LZ4 Frame Format Description" 1.6
	Brotli  Encoding = "brotli" // RFC 7932
	UPX     Encoding = "UPX"
	XOR     Encoding = "xor" // with one byte

	Base64  Encoding = "base64"         // RFC 4648, both alphabets
	Hex     Encoding = "hex"            // two digits a byte
	Numbers Encoding = "numbers"        // a list of the values of bytes
	Escapes Encoding = "escaped string" // a string literal with \x00
)

// Compression reports whether e makes data smaller, as honest software does.
func (e Encoding) Compression() bool {
	switch e {
	case Gzip, Zlib, Deflate, Zstd, XZ, LZMA, Bzip2, LZ4, Brotli:
		return true
	}
	return false
}

// A Payload is something packed inside a file. It holds no bytes of it.
type Payload struct {
	Name   string        // unique in the file: "section:.data", "overlay", "resource:10-101", "offset:0x1234", "base64:1", "upx"
	Place  string        // the same for people: "section .data"
	Line   int           // of source text, from 1; 0 in binaries
	Range  image.Range   // where in the file it lies
	Pieces []image.Range // of it, if only these hold it: the parts of a text; nil if all does
	Chain  []Encoding    // from outside in; empty if it lies there as it is
	Key    byte          // for XOR
	Kind   Kind          // what comes out
}

// Packed returns how many bytes of the file hold the payload.
func (p *Payload) Packed() int64 {
	if p.Pieces == nil {
		return int64(p.Range.Size)
	}
	n := uint64(0)
	for _, piece := range p.Pieces {
		n += piece.Size
	}
	return int64(n)
}

// Encoded describes the layers: "base64, gzip"; "plain" if there are none.
func (p *Payload) Encoded() string {
	if len(p.Chain) == 0 {
		return "plain"
	}
	names := make([]string, len(p.Chain))
	for i, e := range p.Chain {
		names[i] = string(e)
		if e == XOR {
			names[i] = fmt.Sprintf("xor 0x%02x", p.Key)
		}
	}
	return strings.Join(names, ", ")
}

// Odd reports whether the layers are such as hide something from those who
// look, rather than save space: a key, text inside a binary, one compression
// around another.
func (p *Payload) Odd(inBinary bool) bool {
	compressions := 0
	for _, e := range p.Chain {
		switch {
		case e == XOR:
			return true
		case e.Compression():
			compressions++
		case e != UPX && inBinary:
			return true
		}
	}
	return compressions > 1
}

// maxChain is how many layers are taken off: more are for the walk that shows
// what came out.
const maxChain = 5

// Open returns the decoded payload from the file that it was found in. It
// streams; only UPX holds what it unpacks.
func (p *Payload) Open(file io.ReaderAt, size int64) (io.ReadCloser, error) {
	c := &chain{Reader: p.raw(file, size)}
	for _, e := range p.Chain {
		if err := c.add(e, p.Key); err != nil {
			c.Close()
			return nil, fmt.Errorf("%s: %w", e, err)
		}
	}
	return c, nil
}

func (p *Payload) raw(file io.ReaderAt, size int64) io.Reader {
	if p.Pieces == nil {
		off := min(int64(p.Range.Offset), size)
		return io.NewSectionReader(file, off, min(int64(p.Range.Size), size-off))
	}
	return &pieces{file: file, left: p.Pieces}
}

// pieces reads parts of a file one after the other.
type pieces struct {
	file io.ReaderAt
	left []image.Range
	done uint64 // of the first
}

func (r *pieces) Read(b []byte) (int, error) {
	total := 0
	for len(b) > 0 && len(r.left) > 0 {
		piece := r.left[0]
		want := min(uint64(len(b)), piece.Size-r.done)
		n, err := r.file.ReadAt(b[:want], int64(piece.Offset+r.done))
		total += n
		b = b[n:]
		if r.done += uint64(n); r.done == piece.Size {
			r.left, r.done = r.left[1:], 0
		} else if err != nil {
			return total, err
		}
	}
	if total == 0 && len(r.left) == 0 {
		return 0, io.EOF
	}
	return total, nil
}

// resolve takes compressions off what p gives so far, as long as it can tell
// them, and says what is inside. It reports false if the layers that p has
// cannot be decoded.
func (p *Payload) resolve(file io.ReaderAt, size int64, known []byte) bool {
	head := known
	for {
		if head == nil {
			if head = p.head(file, size); head == nil {
				return false
			}
		}
		p.Kind, _ = identify(head, unlimited)
		if p.Kind != Data || len(p.Chain) >= maxChain {
			return true
		}
		inner := compression(head)
		if inner == "" {
			return true
		}
		deeper := *p
		deeper.Chain = append(slices.Clip(p.Chain), inner)
		if head = deeper.head(file, size); head == nil {
			return true // it only looked like that
		}
		*p = deeper
	}
}

// headSize is how much of a payload tells what it is.
const headSize = 16 << 10

// head decodes the beginning. It returns nil if that fails before there is
// enough to tell.
func (p *Payload) head(file io.ReaderAt, size int64) []byte {
	r, err := p.Open(file, size)
	if err != nil {
		return nil
	}
	defer r.Close()
	buf := make([]byte, headSize)
	n, err := io.ReadFull(r, buf)
	if n == 0 || err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return buf[:n]
}
