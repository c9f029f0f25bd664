package workspace

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
)

// This reads zip files as PKWARE's APPNOTE.TXT 6.3.10 describes them, by their
// central directory (4.3.12), as installers do. What that does not list is not
// shown but noted.

const (
	zipLocalMagic  = "PK\x03\x04"
	zipEntryMagic  = "PK\x01\x02"
	zipEndMagic    = "PK\x05\x06"
	zip64EndMagic  = "PK\x06\x06"
	zip64AtMagic   = "PK\x06\x07"
	zipLocalSize   = 30
	zipEntrySize   = 46
	zipEndSize     = 22
	zip64EndSize   = 56
	zip64AtSize    = 20
	zipMaxComment  = 1<<16 - 1
	zip64Extra     = 0x0001
	zipEncrypted   = 1 << 0
	zipDeflated    = 8
	zipMadeByUnix  = 3
	zipMadeByMacOS = 19
)

// zipMethods are the compression methods that are read (APPNOTE 4.4.5).
var zipMethods = map[uint16]kind{zipDeflated: deflateKind, 12: bzip2Kind, 93: zstdKind, 95: xzKind}

// maxInflation is the most bytes that deflate makes of one (zlib's technical
// notes, "Maximum Compression Factor").
const maxInflation = 1032

var errNoDirectory = errors.New("it has no readable directory")

// zipDirectory is where a central directory lies, and what is added to the
// offsets in it because of data before the archive.
type zipDirectory struct {
	off, size int64
	shift     int64
	count     uint64
}

// zipEntry is a record of the central directory, and where it leads.
type zipEntry struct {
	name         string
	flags        uint16
	method       uint16
	crc          uint32
	packed, size int64
	mode         fs.FileMode
	off          int64 // of the local header
	data         int64 // of the packed bytes
}

func readZip(b *builder, src handle) error {
	dir, err := findZipDirectory(src)
	if err != nil {
		return err
	}
	z := zipReader{b: b, src: src}
	if err := z.directory(dir); err != nil {
		return err
	}
	z.gaps(dir)
	return nil
}

// findZipDirectory looks for the end record (4.3.16), the last that is
// complete, and for that of ZIP64 (4.3.14) before it.
func findZipDirectory(src handle) (zipDirectory, error) {
	tailSize := min(src.size, zipEndSize+zipMaxComment)
	tail := make([]byte, tailSize)
	if n, err := src.ReadAt(tail, src.size-tailSize); n < len(tail) {
		return zipDirectory{}, cmp.Or(err, errNoDirectory)
	}
	at := bytes.LastIndex(tail, []byte(zipEndMagic))
	for at >= 0 && (at+zipEndSize > len(tail) || at+zipEndSize+int(binary.LittleEndian.Uint16(tail[at+20:])) > len(tail)) {
		at = bytes.LastIndex(tail[:at], []byte(zipEndMagic))
	}
	if at < 0 {
		return zipDirectory{}, errNoDirectory
	}
	end, endOff := tail[at:], src.size-tailSize+int64(at)
	d := zipDirectory{
		count: uint64(binary.LittleEndian.Uint16(end[10:])),
		size:  int64(binary.LittleEndian.Uint32(end[12:])),
		off:   int64(binary.LittleEndian.Uint32(end[16:])),
	}
	if d.count == 0xffff || d.size == 0xffffffff || d.off == 0xffffffff {
		if d64, off, ok := findZip64(src, endOff); ok {
			d, endOff = d64, off
		}
	}
	if d.size < 0 || d.off < 0 || d.size > endOff {
		return d, errNoDirectory
	}
	if shift := endOff - d.size - d.off; shift != 0 && startsWith(src, endOff-d.size, zipEntryMagic) {
		d.shift = shift
	}
	d.off += d.shift
	if d.off < 0 || d.off > endOff {
		return d, errNoDirectory
	}
	d.size = endOff - d.off // the stated size is not needed, and may lie
	return d, nil
}

// findZip64 follows the locator (4.3.15) before the end record.
func findZip64(src handle, endOff int64) (d zipDirectory, off int64, ok bool) {
	var at [zip64AtSize]byte
	if endOff < zip64AtSize || !readFull(src, at[:], endOff-zip64AtSize) || string(at[:4]) != zip64AtMagic {
		return d, 0, false
	}
	off = int64(binary.LittleEndian.Uint64(at[8:]))
	if !startsWith(src, off, zip64EndMagic) { // data before the archive moves it
		off = endOff - zip64AtSize - zip64EndSize
	}
	var end [zip64EndSize]byte
	if off < 0 || !readFull(src, end[:], off) || string(end[:4]) != zip64EndMagic {
		return d, 0, false
	}
	return zipDirectory{
		count: binary.LittleEndian.Uint64(end[32:]),
		size:  int64(binary.LittleEndian.Uint64(end[40:])),
		off:   int64(binary.LittleEndian.Uint64(end[48:])),
	}, off, true
}

func readFull(src handle, p []byte, off int64) bool {
	if off < 0 {
		return false
	}
	n, _ := src.ReadAt(p, off)
	return n == len(p)
}

func startsWith(src handle, off int64, magic string) bool {
	p := make([]byte, len(magic))
	return readFull(src, p, off) && string(p) == magic
}

type zipReader struct {
	b   *builder
	src handle

	used   []span // of the file, by the members
	kept   int64  // bytes all members unpack to
	packed int64  // bytes they take in the file
}

// directory reads the records one by one, as far as they are records.
func (z *zipReader) directory(d zipDirectory) error {
	r := bufio.NewReaderSize(io.NewSectionReader(z.src, d.off, d.size), inputBuffer)
	n := uint64(0)
	for ; ; n++ {
		e, err := readZipEntry(r)
		if err != nil {
			return err
		}
		if e == nil {
			break
		}
		e.off += d.shift
		if n%1024 == 0 {
			if err := z.b.proceed(); err != nil {
				return err
			}
		}
		if err := z.member(e); err != nil {
			return err
		}
	}
	if n != d.count && n&0xffff != d.count { // some writers count modulo 2^16
		z.b.note("", "its directory has %d members but says %d", n, d.count)
	}
	return nil
}

// readZipEntry reads one record, or returns nil at what is none.
func readZipEntry(r *bufio.Reader) (*zipEntry, error) {
	if magic, _ := r.Peek(4); string(magic) != zipEntryMagic {
		return nil, nil
	}
	var h [zipEntrySize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, trimmed(err)
	}
	le := binary.LittleEndian
	nameLen, extraLen, commentLen := int(le.Uint16(h[28:])), int(le.Uint16(h[30:])), int(le.Uint16(h[32:]))
	rest := make([]byte, nameLen+extraLen)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, trimmed(err)
	}
	if _, err := r.Discard(commentLen); err != nil {
		return nil, trimmed(err)
	}
	e := &zipEntry{
		name:   string(rest[:nameLen]),
		flags:  le.Uint16(h[8:]),
		method: le.Uint16(h[10:]),
		crc:    le.Uint32(h[16:]),
		packed: int64(le.Uint32(h[20:])),
		size:   int64(le.Uint32(h[24:])),
		off:    int64(le.Uint32(h[42:])),
		mode:   zipMode(h[5], le.Uint32(h[38:])),
	}
	e.zip64(rest[nameLen:])
	return e, nil
}

// zipMode reads the attributes, which hold a mode if a Unix wrote them.
func zipMode(madeBy byte, attributes uint32) fs.FileMode {
	if madeBy != zipMadeByUnix && madeBy != zipMadeByMacOS || attributes>>16 == 0 {
		return 0o644
	}
	const typeMask, link, folder = 0o170000, 0o120000, 0o040000
	mode := unixMode(int64(attributes >> 16))
	switch attributes >> 16 & typeMask {
	case link:
		mode |= fs.ModeSymlink
	case folder:
		mode |= fs.ModeDir
	case 0, 0o100000:
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}

// zip64 takes the sizes and offset that did not fit (4.5.3).
func (e *zipEntry) zip64(extra []byte) {
	le := binary.LittleEndian
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if extra = extra[4:]; n > len(extra) {
			return
		}
		if id == zip64Extra {
			field := extra[:n]
			for _, v := range []*int64{&e.size, &e.packed, &e.off} {
				if *v == 0xffffffff && len(field) >= 8 {
					*v, field = int64(le.Uint64(field)), field[8:]
				}
			}
			return
		}
		extra = extra[n:]
	}
}

// member adds what a record stands for.
func (z *zipReader) member(e *zipEntry) error {
	if !z.locate(e) {
		return nil
	}
	if strings.HasSuffix(e.name, "/") && e.size == 0 {
		return z.b.folder(e.name)
	}
	if e.mode&fs.ModeIrregular != 0 {
		z.b.refuse(e.name, "a device or pipe")
		return nil
	}
	keep, limit := z.take(e)
	if limit != nil && keep == 0 {
		return limit
	}
	c := z.content(e, keep)
	if c == nil {
		return limit
	}
	if e.mode&fs.ModeSymlink != 0 {
		z.link(e, c)
		return limit
	}
	if s, ok := c.(section); ok {
		keep = s.n
	}
	if err := z.b.file(member{name: e.name, mode: e.mode, size: keep, content: c}); err != nil {
		return err
	}
	return limit
}

// content returns what a member holds, or nil if that cannot be read.
func (z *zipReader) content(e *zipEntry, keep int64) content {
	packed, readable := zipMethods[e.method]
	switch {
	case e.flags&zipEncrypted != 0:
		if c := z.disguised(e, keep); c != nil {
			z.b.note(e.name, "it is marked as encrypted and is not")
			return c
		}
		z.b.refuse(e.name, "it is encrypted")
		return nil
	case e.method == 0 && e.size != e.packed:
		if c := z.disguised(e, keep); c != nil {
			z.b.note(e.name, "it is marked as stored and is packed")
			return c
		}
		z.b.note(e.name, "stored with two sizes: %d and %d bytes", e.packed, e.size)
		return z.stored(e, keep)
	case e.method == 0:
		return z.stored(e, keep)
	case readable:
		return z.unpacked(e, packed, keep)
	}
	if c := z.disguised(e, keep); c != nil {
		z.b.note(e.name, "it is marked as packed by method %d and is not", e.method)
		return c
	}
	z.b.refuse(e.name, "zip's compression method %d is not read", e.method)
	return nil
}

func (z *zipReader) stored(e *zipEntry, keep int64) content {
	return section{z.b.archive.base, e.data, min(keep, e.packed)}
}

func (z *zipReader) unpacked(e *zipEntry, k kind, keep int64) *unpacked {
	return &unpacked{
		w: z.b.w, from: section{z.b.archive.base, e.data, e.packed}, kind: k,
		spans: []span{{0, keep}}, check: &checksum{e.crc, keep == e.size},
	}
}

// disguised returns the content of a member that is marked as what it is not,
// if its checksum proves that this is it. Some installers, Android's above all,
// do not heed the marks, and malware counts on scanners that do.
func (z *zipReader) disguised(e *zipEntry, keep int64) content {
	if keep < e.size || e.size == 0 {
		return nil
	}
	c := z.unpacked(e, deflateKind, keep)
	if h, err := c.open(z.b.ctx); err == nil {
		h.close()
		if h.problem == "" {
			return c
		}
	}
	if e.packed != e.size {
		return nil
	}
	sum := crc32.NewIEEE()
	if _, err := io.Copy(sum, io.NewSectionReader(z.src, e.data, e.size)); err != nil || sum.Sum32() != e.crc {
		return nil
	}
	return z.stored(e, keep)
}

// locate finds the packed bytes behind the local header (4.3.7), and reports
// whether they are there.
func (z *zipReader) locate(e *zipEntry) bool {
	h := make([]byte, zipLocalSize+len(e.name))
	n := 0
	if e.off >= 0 && e.packed >= 0 && e.size >= 0 {
		n, _ = z.src.ReadAt(h, e.off)
	}
	if n < zipLocalSize || string(h[:4]) != zipLocalMagic {
		z.b.refuse(e.name, "there is no member where the directory says")
		return false
	}
	le := binary.LittleEndian
	nameLen := int64(le.Uint16(h[26:]))
	e.data = e.off + zipLocalSize + nameLen + int64(le.Uint16(h[28:]))
	if e.packed > z.src.size-e.data {
		there := max(z.src.size-e.data, 0)
		z.b.note(e.name, "%d of its %d packed bytes are missing", e.packed-there, e.packed)
		e.packed = there
	}
	if string(h[zipLocalSize:n]) != e.name || nameLen != int64(len(e.name)) {
		other := make([]byte, min(nameLen, z.src.size-e.off-zipLocalSize))
		readFull(z.src, other, e.off+zipLocalSize)
		z.b.note(e.name, "the member itself has another name: %s", brief(string(other)))
	}
	if e.flags&zipEncrypted != le.Uint16(h[6:])&zipEncrypted || e.method != le.Uint16(h[8:]) {
		z.b.note(e.name, "the member and the directory disagree on how it is packed")
	}
	z.used = append(z.used, span{e.off, e.data + e.packed - e.off})
	return true
}

// take applies the limits to what a member says it unpacks to, and returns how
// much of it is kept.
func (z *zipReader) take(e *zipEntry) (int64, error) {
	limits := &z.b.w.budget.limits
	keep := e.size
	if most := times(maxInflation, e.packed+1); e.method == zipDeflated && keep > most {
		keep = most
		z.b.note(e.name, "cut off after %d bytes: it cannot unpack to the %d that the directory says", keep, e.size)
	}
	z.packed += e.packed
	if e.size > e.packed {
		most := max(limits.RatioFrom, times(limits.Ratio, min(z.packed, z.src.size))) - z.kept
		if z.packed <= z.src.size { // else members share bytes, and none has a right of its own
			most = max(most, times(limits.Ratio, e.packed))
		}
		if keep > max(most, 0) {
			keep = max(most, 0)
			z.b.note(e.name, "cut off after %d of %d bytes: it unpacks to more than %d times its packed size",
				keep, e.size, limits.Ratio)
		}
	}
	keep, err := z.b.takeBytes(e.name, keep)
	z.kept += keep
	return keep, err
}

// times multiplies without overflow.
func times(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64/b {
		return math.MaxInt64
	}
	return a * b
}

// link notes a symbolic link, whose content is its target, if it leads out.
func (z *zipReader) link(e *zipEntry, c content) {
	h, err := c.open(z.b.ctx)
	if err != nil {
		z.b.refuse(e.name, "a link: %v", reason(err))
		return
	}
	defer h.close()
	target := make([]byte, min(h.size, int64(z.b.w.budget.limits.NameBytes)))
	n, _ := h.ReadAt(target, 0)
	z.b.link(e.name, string(target[:n]), false)
}

// gaps notes what lies between the members: parts that several of them use, and
// members that the directory does not list but a reader that starts from the
// front would find.
func (z *zipReader) gaps(d zipDirectory) {
	slices.SortFunc(z.used, func(a, b span) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.n, b.n)) })
	overlaps, unlisted, end := 0, 0, d.shift
	for _, s := range append(z.used, span{d.off, 0}) {
		if s.off < end {
			overlaps++
		} else if s.off > end && z.memberIn(end, s.off) {
			unlisted++
		}
		end = max(end, s.off+s.n)
	}
	if overlaps > 0 {
		z.b.note("", "%d members share bytes with others", overlaps)
	}
	if unlisted > 0 {
		z.b.note("", "not looked at: members in %d places that the directory does not list", unlisted)
	}
}

// memberIn reports whether a local header stands between two members, perhaps
// behind the data descriptor (4.3.9) of the first.
func (z *zipReader) memberIn(from, to int64) bool {
	var gap [24 + zipLocalSize]byte
	p := gap[:min(int64(len(gap)), to-from)]
	if !readFull(z.src, p, from) {
		return false
	}
	i := bytes.Index(p, []byte(zipLocalMagic))
	return i >= 0 && i+zipLocalSize <= len(p)
}
