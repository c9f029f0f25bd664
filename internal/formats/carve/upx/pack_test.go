package upx_test

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"
	"io"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

// This is a packer as simple as can be, for the tests: it writes what the
// documents of UPX describe.

// bits writes bits into words that lie where the reader will need them.
type bits struct {
	out   []byte
	width uint // of a word
	word  uint32
	used  uint
	at    int // of the open word in out
}

func (b *bits) bit(v int) {
	if b.used == 0 {
		b.at = len(b.out)
		b.out = append(b.out, make([]byte, b.width/8)...)
	}
	b.used++
	b.word |= uint32(v&1) << (b.width - b.used)
	for i := uint(0); i < b.width; i += 8 {
		b.out[b.at+int(i/8)] = byte(b.word >> i)
	}
	if b.used == b.width {
		b.used, b.word = 0, 0
	}
}

// long writes a number of at least 2 after its leading one, two bits a digit.
func (b *bits) long(n int) {
	top := 0
	for n>>(top+1) > 0 {
		top++
	}
	for i := top - 1; i >= 0; i-- {
		b.bit(n >> i)
		if i > 0 {
			b.bit(0)
		}
	}
	b.bit(1)
}

// offset writes the upper part of an offset, which is at least 2.
func (b *bits) offset(kind, n int) {
	if kind == 2 {
		b.long(n)
		return
	}
	b.digits(n)
	b.bit(1)
}

// digits writes a number of at least 2 by its last digit and, in front of it,
// half of the rest and one more, a sign that it goes on, the next digit.
func (b *bits) digits(n int) {
	if rest := n >> 1; rest > 1 {
		b.digits(rest>>1 + 1)
		b.bit(0)
		b.bit(rest)
	}
	b.bit(n)
}

// nrv packs with one of the three algorithms: kind 2, 5 or 8.
func nrv(kind int, width uint, data []byte) []byte {
	b := &bits{width: width}
	last := 1
	seen := map[[4]byte]int{}
	far := 0x500
	if kind == 2 {
		far = 0xd00
	}
	for at := 0; at < len(data); {
		off, size := 0, 0
		if at+4 <= len(data) {
			key := [4]byte(data[at:])
			if from, ok := seen[key]; ok {
				off = at - from
				for size < len(data)-at && data[from+size] == data[at+size] {
					size++
				}
			}
			seen[key] = at
		}
		if size < 4 {
			b.bit(1)
			b.out = append(b.out, data[at])
			at++
			continue
		}
		at += size
		b.bit(0)
		n := size - 1
		if off > far {
			n--
		}
		odd := 0 // the part of the length that goes with the offset
		if kind != 2 {
			if kind == 8 && n <= 2 || kind == 5 && n >= 2 && n <= 3 {
				odd = 1
			}
		}
		if off == last {
			b.offset(kind, 2)
			if kind != 2 {
				b.bit(odd)
			}
		} else {
			word := off - 1
			if kind != 2 {
				word = word<<1 | (1 - odd)
			}
			b.offset(kind, word>>8+3)
			b.out = append(b.out, byte(word))
			last = off
		}
		switch {
		case kind == 2 && n <= 3:
			b.bit(n >> 1)
			b.bit(n)
		case kind == 2:
			b.bit(0)
			b.bit(0)
			b.long(n - 2)
		case kind == 5 && n <= 3:
			b.bit(n & 1)
		case kind == 5:
			b.bit(0)
			b.long(n - 2)
		case n <= 2:
			b.bit(n - 1)
		case n <= 4:
			b.bit(1)
			b.bit(n - 3)
		default:
			b.bit(0)
			b.long(n - 3)
		}
	}
	b.bit(0)
	b.offset(kind, 0xffffff+3)
	b.out = append(b.out, 0xff)
	return b.out
}

// compress packs with the method of that number.
func compress(t testing.TB, method byte, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch {
	case method < 11:
		return nrv(2+int(method-2)/3*3, [3]uint{32, 8, 16}[(method-2)%3], data)
	case method == 14:
		w, err = lzma.WriterConfig{Properties: &lzma.Properties{LC: 3, LP: 0, PB: 2}, Size: int64(len(data)), SizeInHeader: true}.NewWriter(&out)
	case method == 15:
		w, err = flate.NewWriter(&out, 9)
	default:
		w, err = zstd.NewWriter(&out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if method == 14 {
		return append([]byte{3<<3 | 2, 3}, out.Bytes()[13:]...)
	}
	return out.Bytes()
}

// changes reports whether a filter changes an instruction at that place. last
// is where the one before ended.
func changes(id byte, code []byte, at, last int) bool {
	switch c := code[at]; {
	case c == 0xe8:
		return id > 0x30 || (id&15)%3 != 2
	case c == 0xe9:
		return id > 0x30 || (id&15)%3 != 1
	default:
		return id == 0x49 && at > 0 && at != last && code[at-1] == 0x0f && c >= 0x80 && c <= 0x8f
	}
}

// filter does to x86 code what the filters of UPX do. Those that mark what they
// change choose a mark that no other call begins with.
func filter(id byte, code []byte) (out []byte, cto byte) {
	if id == 0 {
		return code, 0
	}
	out = bytes.Clone(code)
	target := func(at int) uint32 { return binary.LittleEndian.Uint32(code[at+1:]) + uint32(at) + 1 }
	var taken [256]bool
	for at := 0; at+5 < len(code); at++ {
		if changes(id, code, at, -1) && target(at) >= uint32(len(code)) {
			taken[code[at+1]] = true
		}
	}
	for taken[cto] {
		cto++
	}
	last, elsewhere := 0, -9
	for at := 0; at+5 < len(out); at++ {
		if !changes(id, out, at, last) {
			continue
		}
		word, v := out[at+1:at+5], binary.LittleEndian.Uint32(out[at+1:])+uint32(at)+1
		switch {
		case id < 0x14:
			binary.LittleEndian.PutUint32(word, v)
		case id < 0x20:
			binary.BigEndian.PutUint32(word, v)
		case v >= uint32(len(out)):
			elsewhere = at
			continue
		default:
			before := bytes.Clone(word)
			binary.BigEndian.PutUint32(word, v+uint32(cto)<<24)
			misread := false // as the mark of something in front that was not changed
			for k := 1; k <= 4 && at-elsewhere < 5; k++ {
				misread = misread || changes(id, out, at-k, last) && out[at-k+1] == cto
			}
			if misread {
				copy(word, before)
				elsewhere = at
				continue
			}
		}
		at += 4
		last = at + 1
	}
	return out, cto
}

// block is a b_info with its data.
func block(t testing.TB, method, id byte, data []byte) []byte {
	filtered, cto := filter(id, data)
	packed := compress(t, method, filtered)
	if len(packed) >= len(data) {
		packed, id, cto = data, 0, 0
	}
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(data)))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(packed)))
	return append(append(out, method, id, cto, 0), packed...)
}

// packELF packs a 64-bit program of one segment or more: headers, a block for
// the headers, one or more for each segment, the loader, what is behind.
func packELF(t testing.TB, method, id byte, file []byte) []byte {
	t.Helper()
	head := 64 + 56*int(binary.LittleEndian.Uint16(file[56:]))
	out := bytes.Clone(file[:64+56])
	binary.LittleEndian.PutUint16(out[56:], 1)
	overlay := len(out) + 12
	out = append(out, "\x00\x00\x00\x00UPX!\x00\x01\x0d\x16"...) // l_info
	out = binary.LittleEndian.AppendUint32(out, 0)               // p_info
	out = binary.LittleEndian.AppendUint32(out, uint32(len(file)))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(file)))
	out = append(out, block(t, method, 0, file[:head])...)
	end := 0
	var behind []byte
	for at := 64; at < head; at += 56 {
		if binary.LittleEndian.Uint32(file[at:]) != 1 {
			continue
		}
		off, size := int(binary.LittleEndian.Uint64(file[at+8:])), int(binary.LittleEndian.Uint64(file[at+32:]))
		if size == 0 {
			continue
		}
		if off > end && end > 0 {
			behind = append(behind, block(t, method, 0, file[end:off])...)
		}
		end = off + size
		if off == 0 {
			off, size = head, size-head
		}
		out = append(out, block(t, method, id, file[off:off+size])...)
	}
	out = append(out, "here is the loader, which nobody runs\x00\x90\x90"...)
	if end < len(file) {
		behind = append(behind, block(t, method, 0, file[end:])...)
	}
	out = append(append(out, behind...), "\x00\x00\x00\x00UPX!\x00\x00\x00\x00"...)
	out = append(out, packHeader(method, nil, nil)...)
	return binary.LittleEndian.AppendUint32(out, uint32(overlay))
}

// packHeader is a PackHeader for data and what it was packed to.
func packHeader(method byte, data, packed []byte) []byte {
	out := []byte{'U', 'P', 'X', '!', 13, 36, method, 8}
	out = binary.LittleEndian.AppendUint32(out, adler32.Checksum(data))
	out = binary.LittleEndian.AppendUint32(out, adler32.Checksum(packed))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(packed)))
	out = binary.LittleEndian.AppendUint32(out, 0)
	out = append(out, 0, 0, 0) // no filter
	sum := 0
	for _, c := range out[4:] {
		sum += int(c)
	}
	return append(out, byte(sum%251))
}
