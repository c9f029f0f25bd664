package forge

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unicode/utf16"
)

var (
	idIndirect = oid(1, 3, 6, 1, 4, 1, 311, 2, 1, 4)
	idPEImage  = oid(1, 3, 6, 1, 4, 1, 311, 2, 1, 15)
	idOpus     = oid(1, 3, 6, 1, 4, 1, 311, 2, 1, 12)
	idNested   = oid(1, 3, 6, 1, 4, 1, 311, 2, 4, 1)
)

// PE signs a PE file ("Windows Authenticode Portable Executable Signature
// Format"), in place of signatures that it has.
func PE(data []byte, o Order) ([]byte, error) {
	le := binary.LittleEndian
	if len(data) < 0x40 {
		return nil, errUnsupported
	}
	optional := int(le.Uint32(data[0x3c:])) + 24
	if optional+2 > len(data) {
		return nil, errUnsupported
	}
	entry := optional + 96 + 4*8
	if le.Uint16(data[optional:]) == 0x20b {
		entry += 16
	}
	if entry+8 > len(data) {
		return nil, errUnsupported
	}
	out := bytes.Clone(data)
	if at := le.Uint32(out[entry:]); at != 0 && int(at) <= len(out) {
		out = out[:at]
	}
	out = append(out, make([]byte, -len(out)&7)...)
	message, err := authenticode(out, optional+64, entry, o)
	if err != nil {
		return nil, err
	}
	message = append(message, o.hidden()...)
	size := (8 + len(message) + 7) &^ 7
	le.PutUint32(out[entry:], uint32(len(out)))
	le.PutUint32(out[entry+4:], uint32(size))
	out = le.AppendUint32(out, uint32(size))
	out = append(out, 0, 2, 2, 0) // revision 2.0, PKCS #7
	out = append(out, message...)
	return append(out, make([]byte, size-8-len(message))...), nil
}

// authenticode makes the message about the digest of a file.
func authenticode(file []byte, checksum, entry int, o Order) ([]byte, error) {
	h := o.digest()
	covered := slices.Concat(file[:checksum], file[checksum+4:entry], file[entry+8:])
	if o.Hashed != nil {
		covered = o.Hashed(file)
	}
	image := element(sequence, element(bitString, []byte{0}), element(context(0, true), element(context(2, true), element(context(0, false)))))
	parts := slices.Concat(
		element(sequence, idPEImage, image),
		element(sequence, element(sequence, digests[h], null), element(octets, hashed(h, covered))))
	c := content{id: idIndirect, inside: element(sequence, parts), signed: parts}
	if o.Program != "" || o.URL != "" {
		var name []byte
		for _, u := range utf16.Encode([]rune(o.Program)) {
			name = binary.BigEndian.AppendUint16(name, u)
		}
		c.attrs = append(c.attrs, attribute(idOpus, element(sequence,
			element(context(0, true), element(context(0, false), name)),
			element(context(1, true), element(context(0, false), []byte(o.URL))))))
	}
	var nested [][]byte
	for _, n := range o.Nested {
		m, err := authenticode(file, checksum, entry, n)
		if err != nil {
			return nil, err
		}
		nested = append(nested, attribute(idNested, m))
	}
	return sign(o, c, idTimestampMS, nested...)
}
