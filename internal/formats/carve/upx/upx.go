// Package upx unpacks programs that UPX packed: ELF executables and libraries
// back to the file that they were, PE files back to the image that they unpack
// themselves to, with headers, sections and imports put back in place.
//
// It follows what UPX's documentation and the headers of its stubs say of
// l_info, p_info, b_info and PackHeader, and reads nothing but these and the
// packed data: it runs nothing.
package upx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const magic = "UPX!"

// MaxSize is of the packed and of the unpacked program.
const MaxSize = 1 << 30

// likely reports whether n bytes may come out of that many packed ones: real
// programs stay below a tenth of it, and a few bytes can promise anything.
func likely(n, packed int) bool { return n >= 0 && n <= MaxSize && (n <= 32<<20 || n/100 <= packed) }

var (
	errNot     = errors.New("UPX: nothing of it is known here")
	errDamaged = errors.New("UPX: the packed data is damaged")
)

// Is reports whether a file looks as if UPX packed it, by marks that are no
// more than text: only Unpack can tell.
func Is(data []byte) bool {
	switch {
	case bytes.HasPrefix(data, []byte("\x7fELF")):
		_, err := findELF(data)
		return err == nil
	case bytes.HasPrefix(data, []byte("MZ")):
		_, err := findPE(data)
		return err == nil
	}
	return false
}

// Unpack returns the program as it was before it was packed.
func Unpack(data []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(data, []byte("\x7fELF")):
		return unpackELF(data)
	case bytes.HasPrefix(data, []byte("MZ")):
		return unpackPE(data)
	}
	return nil, errNot
}

// NewReader unpacks the program that r gives, all at once.
func NewReader(r io.Reader) (io.Reader, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("UPX: more than %d bytes", MaxSize)
	}
	out, err := Unpack(data)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(out), nil
}

// A header is a PackHeader, as far as it is used.
type header struct {
	format, method, filter, cto byte
	unpacked, packed            uint32 // adler32 of both
	size, packedSize            int
	end                         int // offset behind it
}

// readHeader reads a PackHeader at an offset; its last byte is a sum of the
// others.
func readHeader(data []byte, at int) (header, bool) {
	const size = 32
	if at < 0 || at+size > len(data) || string(data[at:at+4]) != magic {
		return header{}, false
	}
	b := data[at : at+size]
	sum := 0
	for _, c := range b[4 : size-1] {
		sum += int(c)
	}
	if byte(sum%251) != b[size-1] || b[4] < 10 || !knownMethod(b[6]) {
		return header{}, false
	}
	return header{
		format: b[5], method: b[6], filter: b[28], cto: b[29],
		unpacked: binary.LittleEndian.Uint32(b[8:]), packed: binary.LittleEndian.Uint32(b[12:]),
		size: int(binary.LittleEndian.Uint32(b[16:])), packedSize: int(binary.LittleEndian.Uint32(b[20:])),
		end: at + size,
	}, true
}
