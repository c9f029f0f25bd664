package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// This reads tar files as POSIX.1-2017 describes them under pax (ustar and pax
// interchange formats), with the extensions of GNU tar's manual ("Basic Tar
// Format") and the v7 format before them. Unlike most readers it does not stop
// at the zero blocks that end an archive, nor at a block that is no header:
// some installers do not either, so what follows is shown.

const blockSize = 512

var zeroBlock [blockSize]byte

// maxExtension is how long an extended header or long name may be.
const maxExtension = 1 << 20

// tarHeader is one header block.
type tarHeader [blockSize]byte

func isTarHeader(block *[blockSize]byte) bool {
	want, ok := parseNumber(block[148:156])
	if !ok {
		return false
	}
	unsigned, signed := int64(8*' '), int64(8*' ')
	for i, c := range block {
		if i < 148 || i >= 156 {
			unsigned += int64(c)
			signed += int64(int8(c))
		}
	}
	if want != unsigned && want != signed {
		return false
	}
	return *block != zeroBlock
}

// parseNumber reads a number as octal digits, or as GNU's binary of 255 bits of
// which 63 are used. Empty fields are zero.
func parseNumber(field []byte) (int64, bool) {
	if field[0]&0x80 != 0 {
		if field[0]&0x40 != 0 {
			return 0, false // negative
		}
		n := uint64(field[0] & 0x3f)
		for _, c := range field[1:] {
			if n>>55 != 0 {
				return 0, false
			}
			n = n<<8 | uint64(c)
		}
		return int64(n), true
	}
	digits := strings.Trim(cString(field), " ")
	if digits == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(digits, 8, 63)
	return int64(n), err == nil
}

// cString is a field up to its first zero byte.
func cString(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}

func (h *tarHeader) name() string {
	name := cString(h[:100])
	if string(h[257:263]) != "ustar\x00" { // GNU tar has times where the prefix would be
		return name
	}
	prefix := h[345:500]
	if string(h[508:512]) == "tar\x00" {
		prefix = prefix[:131] // star
	}
	if p := cString(prefix); p != "" {
		return p + "/" + name
	}
	return name
}

// readTar reads a tar file to the end of its input.
func readTar(b *builder, in tarInput) error {
	r := tarReader{b: b, in: in}
	err := r.read()
	if r.stray > 0 {
		b.note("", "%d blocks between the members are no headers", r.stray)
	}
	return err
}

// A tarReader holds what earlier headers say about the next member.
type tarReader struct {
	b  *builder
	in tarInput

	longName, longLink string
	pax                paxRecords

	members int
	blocks  int
	ended   bool // two zero blocks have been seen
	zeros   int
	stray   int
}

type paxRecords struct {
	path, linkpath string
	size           int64
	hasSize        bool
	sparse         bool
}

func (r *tarReader) read() error {
	for {
		var h tarHeader
		switch err := r.in.next((*[blockSize]byte)(&h)); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF): // less than a block
			if h == zeroBlock {
				return nil
			}
			return errEnds
		case err != nil:
			return err
		}
		if err := r.block(&h); err != nil {
			return err
		}
	}
}

// block handles one header and what belongs to it.
func (r *tarReader) block(h *tarHeader) error {
	if r.blocks++; r.blocks%1024 == 0 {
		if err := r.b.proceed(); err != nil {
			return err
		}
	}
	if *h == zeroBlock {
		if r.zeros++; r.zeros == 2 && r.members > 0 {
			r.ended = true
		}
		return nil
	}
	r.zeros = 0
	if !isTarHeader((*[blockSize]byte)(h)) {
		r.stray++
		return nil
	}
	size, ok := parseNumber(h[124:136])
	if !ok {
		r.stray++
		return nil
	}
	if h[124] == 0 && size == 0 && strings.Trim(string(h[124:136]), "\x00 ") != "" {
		r.b.note(h.name(), "its size begins with a zero byte, which readers take for no size or pass over")
	}
	switch h[156] {
	case 'x', 'X', 'g', 'L', 'K':
		return r.extension(h[156], size)
	}
	if r.ended {
		r.ended = false
		r.b.note("", "members follow the mark that ends the archive, where some readers stop")
	}
	r.members++
	err := r.member(h, size)
	r.longName, r.longLink, r.pax = "", "", paxRecords{}
	return err
}

// extension reads a header that describes the next member.
func (r *tarReader) extension(kind byte, size int64) error {
	if size > maxExtension {
		r.b.note("", "an extended header of %d bytes is not read", size)
		return r.skip(size)
	}
	data, err := r.bytes(size)
	if err != nil {
		return err
	}
	switch kind {
	case 'L':
		r.longName = cString(data)
	case 'K':
		r.longLink = cString(data)
	case 'g': // of all members: nothing that may be there concerns one file's name or size
	default:
		if r.pax, err = parsePAX(data); err != nil {
			r.b.note("", "an extended header is not read to its end: %v", err)
		}
	}
	return nil
}

func (r *tarReader) bytes(size int64) ([]byte, error) {
	data := make([]byte, 0, size+blockSize)
	for int64(len(data)) < size {
		var block [blockSize]byte
		if err := r.in.next(&block); err != nil {
			return nil, trimmed(err)
		}
		data = append(data, block[:]...)
	}
	return data[:size], nil
}

// parsePAX reads the records of an extended header, "length key=value\n" each.
func parsePAX(data []byte) (paxRecords, error) {
	var p paxRecords
	for len(data) > 0 {
		digits, rest, ok := bytes.Cut(data, []byte(" "))
		n, err := strconv.Atoi(string(digits[:min(len(digits), 10)]))
		if !ok || err != nil || n <= len(digits)+1 || n > len(data) || data[n-1] != '\n' {
			return p, errors.New("a record has no valid length")
		}
		key, value, ok := strings.Cut(string(rest[:n-len(digits)-2]), "=")
		if !ok {
			return p, errors.New("a record has no key")
		}
		data = data[n:]
		switch {
		case key == "path":
			p.path = value
		case key == "linkpath":
			p.linkpath = value
		case key == "size":
			size, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return p, fmt.Errorf("its size is %s", brief(value))
			}
			p.size, p.hasSize = int64(size), true
		case strings.HasPrefix(key, "GNU.sparse."):
			p.sparse = true
		}
	}
	return p, nil
}

// member handles the header of a file, folder, link or device.
func (r *tarReader) member(h *tarHeader, size int64) error {
	name, link := h.name(), cString(h[157:257])
	if r.longName != "" {
		name = r.longName
	}
	if r.longLink != "" {
		link = r.longLink
	}
	if r.pax.path != "" {
		name = r.pax.path
	}
	if r.pax.linkpath != "" {
		link = r.pax.linkpath
	}
	if r.pax.hasSize {
		size = r.pax.size
	}
	mode, _ := parseNumber(h[100:108])
	switch kind := h[156]; kind {
	case '1', '2':
		r.b.link(name, link, kind == '1')
		return nil
	case '3', '4', '6':
		r.b.refuse(name, "a device or pipe")
		return nil
	case '5':
		return r.b.folder(name)
	case 'S':
		if err := r.sparseMap(h); err != nil {
			return err
		}
		r.b.refuse(name, "a sparse file")
		return r.skip(size)
	case 'D', 'M', 'V', 'N': // GNU: listings, continuations, labels
		r.b.refuse(name, "a tar member of type %q", kind)
		return r.skip(size)
	}
	if r.pax.sparse {
		r.b.refuse(name, "a sparse file")
		return r.skip(size)
	}
	if strings.HasSuffix(name, "/") && size == 0 { // v7 has no other sign of a folder
		return r.b.folder(name)
	}
	return r.regular(name, unixMode(mode), size)
}

// regular reads a file. Types that are not known are files too, as POSIX asks.
func (r *tarReader) regular(name string, mode fs.FileMode, size int64) error {
	c, kept, err := r.in.take(name, size)
	if err == nil || kept > 0 {
		if err := r.b.file(member{name: name, mode: mode, size: kept, content: c}); err != nil {
			return err
		}
	}
	if err == nil {
		err = r.in.skip(padding(size))
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil // the last padding may be missing
		}
		return err
	}
	if kept < size && errors.Is(trimmed(err), errEnds) {
		r.b.note(name, "cut off after %d of %d bytes: the archive ends", kept, size)
	}
	return trimmed(err)
}

// sparseMap passes over the blocks that continue an old GNU sparse header.
func (r *tarReader) sparseMap(h *tarHeader) error {
	more := h[482] != 0
	for more {
		var block [blockSize]byte
		if err := r.in.next(&block); err != nil {
			return trimmed(err)
		}
		more = block[504] != 0
	}
	return nil
}

func (r *tarReader) skip(size int64) error {
	if size > 1<<62 {
		return errEnds
	}
	return trimmed(r.in.skip(size + padding(size)))
}

// padding is how many bytes fill up the last block.
func padding(size int64) int64 { return -size & (blockSize - 1) }

// unixMode turns the permission bits of Unix into Go's.
func unixMode(m int64) fs.FileMode {
	mode := fs.FileMode(m) & fs.ModePerm
	if m&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if m&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if m&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

// tarFile is a tar file that lies there unpacked. Its members are parts of it.
type tarFile struct {
	b   *builder
	src handle
	off int64
}

func (t *tarFile) next(block *[blockSize]byte) error {
	n, err := t.src.ReadAt(block[:min(blockSize, max(t.src.size-t.off, 0))], t.off)
	t.off += int64(n)
	switch {
	case n == blockSize:
		return nil
	case n > 0:
		return io.ErrUnexpectedEOF
	case err == nil:
		return io.EOF
	}
	return err
}

func (t *tarFile) take(raw string, n int64) (content, int64, error) {
	there := min(n, max(t.src.size-t.off, 0))
	keep, err := t.b.takeBytes(raw, there)
	c := section{t.b.archive.base, t.off, keep}
	if err == nil && there < n {
		err = errEnds
	}
	if err != nil {
		return c, keep, err
	}
	return c, keep, t.skip(n)
}

func (t *tarFile) skip(n int64) error {
	if n > t.src.size-t.off {
		t.off = t.src.size
		return io.EOF
	}
	t.off += n
	return nil
}
