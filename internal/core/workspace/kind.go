package workspace

import (
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
)

// A kind is what a file is as a container, told by its content alone.
type kind uint8

const (
	unknown   kind = iota // not looked at yet
	plainFile             // no archive
	gzipKind
	bzip2Kind
	xzKind
	zstdKind
	deflateKind // never told from content: a method of zip
	tarKind
	zipKind
	arKind

	// Those after this are known but not read.
	unread
	sevenZip
	rar
	cab
	iso
	dmg
	rpm
	cpio
	lz4
	lzip
	xar
	squashfs
	thinAr
)

var kindNames = [...]string{
	gzipKind: "gzip", bzip2Kind: "bzip2", xzKind: "xz", zstdKind: "zstd", deflateKind: "deflate",
	tarKind: "tar", zipKind: "zip", arKind: "ar",
	sevenZip: "7z", rar: "rar", cab: "cab", iso: "iso", dmg: "dmg", rpm: "rpm", cpio: "cpio",
	lz4: "lz4", lzip: "lzip", xar: "xar", squashfs: "squashfs", thinAr: "thin ar",
}

func (k kind) String() string { return kindNames[k] }

// readable reports whether the members of such an archive can be shown.
func (k kind) readable() bool { return k > plainFile && k < unread }

// compressed reports whether k is one compressed stream.
func (k kind) compressed() bool { return k >= gzipKind && k <= deflateKind }

// headSize is how many first bytes identify needs.
const headSize = blockSize

var magics = []struct {
	kind  kind
	magic string
	sure  func(head []byte) bool // nil if the magic is long enough to be sure
}{
	{gzipKind, "\x1f\x8b\x08", func(h []byte) bool { return len(h) >= 10 && h[3]&0xe0 == 0 }}, // RFC 1952
	{bzip2Kind, "BZh", isBzip2},
	{xzKind, "\xfd7zXZ\x00", nil},
	{zstdKind, "\x28\xb5\x2f\xfd", nil}, // RFC 8878
	{zipKind, "PK\x03\x04", nil},
	{zipKind, "PK\x05\x06", nil},           // an empty one
	{zipKind, "PK\x07\x08PK\x03\x04", nil}, // the marker of a split one that was not split
	{arKind, "!<arch>\n", nil},
	{thinAr, "!<thin>\n", nil},
	{sevenZip, "7z\xbc\xaf\x27\x1c", nil},
	{rar, "Rar!\x1a\x07", nil},
	{cab, "MSCF\x00\x00\x00\x00", nil},
	{rpm, "\xed\xab\xee\xdb", func(h []byte) bool { return len(h) >= 96 && (h[4] == 3 || h[4] == 4) }},
	{cpio, "070707", isOctal}, {cpio, "070701", isHex}, {cpio, "070702", isHex},
	{lz4, "\x04\x22\x4d\x18", nil},
	{lzip, "LZIP\x01", nil},
	{xar, "xar!\x00\x1c", nil},
	{squashfs, "hsqs", func(h []byte) bool { return len(h) >= 96 && h[28] == 4 && h[29] == 0 }},
}

// identify tells from the first bytes of a file, up to headSize, what it is.
func identify(head []byte) kind {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) && (m.sure == nil || m.sure(head)) {
			return m.kind
		}
	}
	if len(head) >= blockSize && isTarHeader((*[blockSize]byte)(head)) {
		return tarKind
	}
	return plainFile
}

// identifyImage tells disk images, whose marks are not at their beginning.
func identifyImage(r io.ReaderAt, size int64) kind {
	const volume = 0x8001 // ECMA-119 8.1: a descriptor in the 16th sector
	var mark [5]byte
	if size > volume+int64(len(mark)) {
		if _, err := r.ReadAt(mark[:], volume); err == nil && string(mark[:]) == "CD001" {
			return iso
		}
	}
	const trailer = 512
	if size >= trailer {
		var koly [12]byte // magic, version 4, header size 512
		if _, err := r.ReadAt(koly[:], size-trailer); err == nil && string(koly[:4]) == "koly" &&
			binary.BigEndian.Uint32(koly[8:]) == trailer {
			return dmg
		}
	}
	return plainFile
}

func isBzip2(h []byte) bool {
	if len(h) < 10 || h[3] < '1' || h[3] > '9' {
		return false
	}
	block, end := "\x31\x41\x59\x26\x53\x59", "\x17\x72\x45\x38\x50\x90"
	return string(h[4:10]) == block || string(h[4:10]) == end
}

func isOctal(h []byte) bool {
	if len(h) < 76 {
		return false
	}
	_, err := strconv.ParseUint(string(h[6:24]), 8, 64)
	return err == nil
}

func isHex(h []byte) bool {
	if len(h) < 110 {
		return false
	}
	_, err := strconv.ParseUint(string(h[6:22]), 16, 64)
	return err == nil
}
