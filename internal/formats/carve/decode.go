package carve

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"

	"github.com/loupe-sec/loupe/internal/formats/carve/upx"
)

// maxWindow is the memory that the history of one decompressor may take: what
// xz -9 needs, and zstd --ultra.
const maxWindow = 128 << 20

// A chain is a reader through layers, with what has to be closed.
type chain struct {
	io.Reader
	closers []func()
}

func (c *chain) Close() error {
	for _, f := range slices.Backward(c.closers) {
		f()
	}
	c.closers = nil
	return nil
}

// add takes one more layer off.
func (c *chain) add(e Encoding, key byte) error {
	in := c.Reader
	var err error
	switch e {
	case Gzip:
		var z *gzip.Reader
		if z, err = gzip.NewReader(buffered(in)); err == nil {
			z.Multistream(false)
			c.Reader = z
		}
	case Zlib:
		c.Reader, err = zlib.NewReader(buffered(in))
	case Deflate:
		c.Reader = flate.NewReader(buffered(in))
	case Zstd:
		var z *zstd.Decoder
		z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			c.Reader = z
			c.closers = append(c.closers, z.Close)
		}
	case XZ:
		c.Reader, err = newXZ(in)
	case LZMA:
		c.Reader, err = newLZMA(in)
	case Bzip2:
		c.Reader = bzip2.NewReader(in)
	case LZ4:
		c.Reader = lz4.NewReader(in)
	case Brotli:
		c.Reader = &brotliReader{brotli.NewReader(in)}
	case UPX:
		c.Reader, err = upx.NewReader(in)
	case XOR:
		c.Reader = &xorReader{in, key}
	case Base64:
		c.Reader = &textReader{in: bufio.NewReader(in), unit: readBase64}
	case Hex:
		c.Reader = &textReader{in: bufio.NewReader(in), unit: readHex}
	case Numbers:
		c.Reader = &textReader{in: bufio.NewReader(in), unit: readNumber}
	case Escapes:
		c.Reader = &textReader{in: bufio.NewReader(in), unit: readEscape}
	default:
		err = fmt.Errorf("no such encoding")
	}
	return err
}

// buffered returns r as a reader of bytes, so that decoders take no more of it
// than they need.
func buffered(r io.Reader) io.Reader {
	if _, ok := r.(io.ByteReader); ok {
		return r
	}
	return bufio.NewReaderSize(r, 32<<10)
}

// brotliReader ends where the stream does, though padding follows.
type brotliReader struct{ r *brotli.Reader }

func (b *brotliReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err.Error() == "brotli: excessive input" { // which has no other mark
		err = io.EOF
	}
	return n, err
}

// An xorReader undoes a key of one byte.
type xorReader struct {
	in  io.Reader
	key byte
}

func (x *xorReader) Read(p []byte) (int, error) {
	n, err := x.in.Read(p)
	for i := range p[:n] {
		p[i] ^= x.key
	}
	return n, err
}

// newLZMA reads the format of LZMA Utils after looking at what its header asks
// for: five bytes of properties and eight of size.
func newLZMA(in io.Reader) (io.Reader, error) {
	return lzma.ReaderConfig{DictCap: maxWindow}.NewReader(buffered(in))
}

// A textReader decodes text, some characters at a time.
type textReader struct {
	in   *bufio.Reader
	unit func(in *bufio.Reader, out []byte) (int, error)
	err  error
	left [8]byte
	n    int // of left
}

func (t *textReader) Read(p []byte) (int, error) {
	total := 0
	for total < len(p) {
		if t.n > 0 {
			n := copy(p[total:], t.left[:t.n])
			copy(t.left[:], t.left[n:t.n])
			t.n -= n
			total += n
			continue
		}
		if t.err != nil {
			break
		}
		t.n, t.err = t.unit(t.in, t.left[:])
	}
	if total == 0 && t.err != nil {
		return 0, t.err
	}
	return total, nil
}

// base64Digits maps both alphabets to values; others are 0xff, what may stand
// between is 0xfe.
var base64Digits = digits("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", "-_")

var hexDigits = func() (t [256]byte) {
	t = digits("0123456789abcdef", "")
	for c := byte('A'); c <= 'F'; c++ {
		t[c] = c - 'A' + 10
	}
	return t
}()

func digits(alphabet, last string) (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(alphabet) {
		t[alphabet[i]] = byte(i)
	}
	for i := range len(last) {
		t[last[i]] = byte(len(alphabet) - len(last) + i)
	}
	for _, c := range " \t\r\n" {
		t[c] = 0xfe
	}
	return t
}

var errNotText = errors.New("not a text of this encoding")

// readBase64 decodes four characters, or less at the end.
func readBase64(in *bufio.Reader, out []byte) (int, error) {
	word, n := uint32(0), 0
	for n < 4 {
		c, err := in.ReadByte()
		if errors.Is(err, io.EOF) || err == nil && c == '=' {
			if n < 2 {
				return 0, io.EOF
			}
			word <<= 6 * (4 - n)
			out[0], out[1] = byte(word>>16), byte(word>>8)
			return n - 1, io.EOF
		}
		if err != nil {
			return 0, err
		}
		switch d := base64Digits[c]; d {
		case 0xfe:
		case 0xff:
			return 0, errNotText
		default:
			word = word<<6 | uint32(d)
			n++
		}
	}
	out[0], out[1], out[2] = byte(word>>16), byte(word>>8), byte(word)
	return 3, nil
}

func readHex(in *bufio.Reader, out []byte) (int, error) {
	n := 0
	for n < 2 {
		c, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		switch d := hexDigits[c]; d {
		case 0xfe:
		case 0xff:
			return 0, errNotText
		default:
			out[0] = out[0]<<4 | d
			n++
		}
	}
	return 1, nil
}

// readNumber decodes one number of a list, decimal or hexadecimal; negative
// ones are signed bytes.
func readNumber(in *bufio.Reader, out []byte) (int, error) {
	value, count, base, negative := 0, 0, 10, false
	for {
		c, err := in.ReadByte()
		switch {
		case count > 0 && errors.Is(err, io.EOF), err == nil && count > 0 && hexDigits[c] >= 0xfe && c != 'x' && c != 'X':
			if negative {
				value = -value
			}
			out[0] = byte(value)
			return 1, nil
		case err != nil:
			return 0, err
		case c == '-' && count == 0:
			negative = true
		case (c == 'x' || c == 'X') && count == 1 && value == 0:
			base, count = 16, 0
		case hexDigits[c] < byte(base):
			value = min(value*base+int(hexDigits[c]), 1<<16)
			count++
		}
	}
}

// readEscape decodes one character of a string literal.
func readEscape(in *bufio.Reader, out []byte) (int, error) {
	c, err := in.ReadByte()
	if err != nil {
		return 0, err
	}
	if c != '\\' {
		return latin(c, in, out)
	}
	if c, err = in.ReadByte(); err != nil {
		return 0, err
	}
	switch c {
	case 'n':
		out[0] = '\n'
	case 'r':
		out[0] = '\r'
	case 't':
		out[0] = '\t'
	case 'b':
		out[0] = '\b'
	case 'f':
		out[0] = '\f'
	case 'v':
		out[0] = '\v'
	case 'a':
		out[0] = '\a'
	case '\n':
		return 0, nil
	case 'x':
		return readHex(in, out)
	case 'u':
		if n, err := readHex(in, out); err != nil || out[0] != 0 {
			return n, errors.Join(err, errNotText)
		}
		out[0] = 0
		return readHex(in, out)
	case '0', '1', '2', '3', '4', '5', '6', '7':
		value := int(c - '0')
		for range 2 {
			next, err := in.Peek(1)
			if err != nil || next[0] < '0' || next[0] > '7' || value*8+int(next[0]-'0') > 255 {
				break
			}
			value = value*8 + int(next[0]-'0')
			_, _ = in.Discard(1) // which was peeked at
		}
		out[0] = byte(value)
	default:
		out[0] = c
	}
	return 1, nil
}

// latin decodes a character that stands for itself. In UTF-8, those of the
// second half of Latin-1 take two bytes.
func latin(c byte, in *bufio.Reader, out []byte) (int, error) {
	out[0] = c
	if c == 0xc2 || c == 0xc3 {
		if next, err := in.Peek(1); err == nil && next[0]&0xc0 == 0x80 {
			out[0] = c<<6 | next[0]&0x3f
			_, _ = in.Discard(1) // which was peeked at
		}
	}
	return 1, nil
}
