package forge

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

var (
	idDirectoryList = oid(1, 2, 840, 113635, 100, 9, 1)
	idDirectoryHash = oid(1, 2, 840, 113635, 100, 9, 2)
)

// Slots of the superblob and magic numbers (Apple's xnu, <kern/cs_blobs.h>).
const (
	slotInfo         = 1
	slotRequirements = 2
	slotEntitlements = 5
	slotDER          = 7
	slotAlternate    = 0x1000
	slotSignature    = 0x10000
	slots            = 7 // special slots of a code directory

	magicSuper        = 0xfade0cc0
	magicDirectory    = 0xfade0c02
	magicEntitlements = 0xfade7171
	magicDER          = 0xfade7172
	magicWrapper      = 0xfade0b01

	pageSize = 4096
)

// A part is a blob in its slot.
type part struct {
	slot uint32
	data []byte
}

// hashTypes are CS_HASHTYPE_SHA1, _SHA256, _SHA384 and, reserved, SHA-512.
var hashTypes = map[crypto.Hash]byte{crypto.SHA1: 1, crypto.SHA256: 2, crypto.SHA384: 4, crypto.SHA512: 5}

// MachO signs a 64-bit little-endian Mach-O file for one machine, in place of
// the signature that it must have.
func MachO(data []byte, o Order) ([]byte, error) {
	le := binary.LittleEndian
	if len(data) < 32 || le.Uint32(data) != 0xfeedfacf {
		return nil, errUnsupported
	}
	out := bytes.Clone(data)
	var command, linkedit []byte
	for at, i := 32, uint32(0); i < le.Uint32(out[16:]); i++ {
		if at+8 > len(out) || le.Uint32(out[at+4:]) < 8 || at+int(le.Uint32(out[at+4:])) > len(out) {
			return nil, errUnsupported
		}
		c := out[at : at+int(le.Uint32(out[at+4:]))]
		switch {
		case le.Uint32(c) == 0x1d && len(c) >= 16:
			command = c
		case le.Uint32(c) == 0x19 && len(c) >= 72 && bytes.HasPrefix(c[8:], []byte("__LINKEDIT\x00")):
			linkedit = c
		}
		at += len(c)
	}
	if command == nil || linkedit == nil || int(le.Uint32(command[8:])) > len(out) {
		return nil, errUnsupported
	}
	out = out[:le.Uint32(command[8:])]
	blob, err := superblob(out, o)
	if err != nil {
		return nil, err
	}
	// The size of the signature is part of what is signed. A signature of the
	// same parts differs by a few bytes at most.
	size := (len(blob) + 64 + 15) &^ 15
	le.PutUint32(command[12:], uint32(size))
	end := uint64(len(out)+size) - le.Uint64(linkedit[40:])
	le.PutUint64(linkedit[48:], end)
	le.PutUint64(linkedit[32:], (end+0x3fff)&^0x3fff)
	if blob, err = superblob(out, o); err != nil {
		return nil, err
	}
	if len(blob) > size {
		return nil, fmt.Errorf("the signature grew to %d bytes", len(blob))
	}
	return append(append(append(out, blob...), make([]byte, size-len(blob))...), o.hidden()...), nil
}

// wrapped is a blob: magic, length, content.
func wrapped(magic uint32, content ...[]byte) []byte {
	body := slices.Concat(content...)
	b := binary.BigEndian.AppendUint32(nil, magic)
	return append(binary.BigEndian.AppendUint32(b, uint32(8+len(body))), body...)
}

// superblob makes the whole signature for code.
func superblob(code []byte, o Order) ([]byte, error) {
	var parts []part
	if o.Requirements != nil {
		parts = append(parts, part{slotRequirements, o.Requirements})
	}
	if o.Entitlements != "" {
		parts = append(parts, part{slotEntitlements, wrapped(magicEntitlements, []byte(o.Entitlements))})
	}
	if o.DER != nil {
		parts = append(parts, part{slotDER, wrapped(magicDER, o.DER)})
	}
	hashes := append([]crypto.Hash{o.digest()}, o.More...)
	var directories [][]byte
	for _, h := range hashes {
		if hashTypes[h] == 0 {
			return nil, fmt.Errorf("there is no code directory with %s", h)
		}
		directories = append(directories, directory(code, h, parts, o))
	}
	parts = append([]part{{0, directories[0]}}, parts...)
	for i, d := range directories[1:] {
		parts = append(parts, part{slotAlternate + uint32(i), d})
	}
	message := []byte{}
	var err error
	switch {
	case o.Message != nil:
		if message, err = o.Message(directories[0]); err != nil {
			return nil, err
		}
	case o.Signer != "":
		c := content{id: idData, signed: directories[0], attrs: listDirectories(hashes, directories)}
		if message, err = sign(o, c, idTimestamp); err != nil {
			return nil, err
		}
	}
	parts = append(parts, part{slotSignature, wrapped(magicWrapper, message)})

	var index, body []byte
	index = binary.BigEndian.AppendUint32(index, uint32(len(parts)))
	for _, p := range parts {
		index = binary.BigEndian.AppendUint32(index, p.slot)
		index = binary.BigEndian.AppendUint32(index, uint32(12+8*len(parts)+len(body)))
		body = append(body, p.data...)
	}
	return wrapped(magicSuper, index, body), nil
}

// directory makes a code directory of version 0x20400.
func directory(code []byte, h crypto.Hash, parts []part, o Order) []byte {
	const header = 88
	flags := o.Flags
	if o.Signer == "" && o.Message == nil {
		flags |= 2
	}
	identifier := o.Identifier
	if identifier == "" {
		identifier = "binary"
	}
	names := append([]byte(identifier), 0)
	team := uint32(0)
	if o.Team != "" {
		team = uint32(header + len(names))
		names = append(append(names, o.Team...), 0)
	}
	special := make([]byte, slots*h.Size())
	if o.Info != nil {
		copy(special[(slots-slotInfo)*h.Size():], hashed(h, o.Info))
	}
	for _, p := range parts {
		copy(special[(slots-int(p.slot))*h.Size():], hashed(h, p.data))
	}
	var pages []byte
	for page := range slices.Chunk(code, pageSize) {
		pages = append(pages, hashed(h, page)...)
	}
	var b []byte
	put := func(v ...uint32) {
		for _, v := range v {
			b = binary.BigEndian.AppendUint32(b, v)
		}
	}
	put(0x20400, flags, uint32(header+len(names)+len(special)), header, slots, uint32(len(pages)/h.Size()), uint32(len(code)))
	b = append(b, byte(h.Size()), hashTypes[h], 0, 12)
	put(0, 0, team, 0, 0, 0)              // spare, scatter, team, spare, 64-bit limit
	put(0, 0, 0, uint32(len(code)), 0, 0) // executable segment
	return wrapped(magicDirectory, b, names, special, pages)
}

// listDirectories makes the signed attributes that name every code directory.
func listDirectories(hashes []crypto.Hash, directories [][]byte) [][]byte {
	var values [][]byte
	var list strings.Builder
	for i, d := range directories {
		sum := hashed(hashes[i], d)
		values = append(values, element(sequence, digests[hashes[i]], element(octets, sum)))
		list.WriteString("<data>" + base64.StdEncoding.EncodeToString(sum[:20]) + "</data>")
	}
	plist := "<plist version=\"1.0\"><dict><key>cdhashes</key><array>" + list.String() + "</array></dict></plist>"
	slices.SortFunc(values, bytes.Compare)
	return [][]byte{attribute(idDirectoryList, element(octets, []byte(plist))), attribute(idDirectoryHash, values...)}
}
