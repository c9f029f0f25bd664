package signature

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/binary"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Magic numbers of blobs (Apple's xnu, <kern/cs_blobs.h>).
const (
	magicSuper       = 0xfade0cc0
	magicDirectory   = 0xfade0c02
	magicWrapper     = 0xfade0b01
	lcCodeSignature  = 0x1d
	flagAdHoc        = 0x2
	flagHardened     = 0x10000
	flagLinkerSigned = 0x20000
)

// Slots of a superblob, by the same header. Those below slotAlternate are also
// slots of code directories, which hold their hashes.
const (
	slotDirectory       = 0
	slotInfo            = 1
	slotRequirements    = 2
	slotResources       = 3
	slotEntitlements    = 5
	slotDERentitlements = 7
	slotAlternate       = 0x1000
	slotAlternateEnd    = 0x1005
	slotSignature       = 0x10000
)

// Attributes of Apple's signatures that name every code directory.
const (
	oidDirectoryList = "1.2.840.113635.100.9.1" // a property list with hashes cut to 20 bytes
	oidDirectoryHash = "1.2.840.113635.100.9.2" // of each an algorithm and a hash
)

// Limits on a superblob.
const (
	maxBlobs     = 100 // parts; Apple defines less than twenty
	maxPart      = 4 << 20
	minHash      = 16 // bytes: a shorter one is no hash
	minPageShift = 8  // real pages have 4 or 16 KiB; tiny ones are there to take time
	maxPageShift = 30
)

// A blob is a part of the signature, with its header of magic and length.
type blob struct {
	slot uint32
	data []byte
}

// A directory is a code directory (CS_CodeDirectory): one hash for each page
// of the file and one for each other part of the signature.
type directory struct {
	data       []byte
	flags      uint32
	hash       crypto.Hash
	size       int // of a hash, which may be cut
	special    []byte
	pages      []byte
	limit      uint64 // bytes of the file that are covered
	pageSize   uint64
	scattered  bool
	identifier string
	team       string
}

// readMachO reads the superblob that LC_CODE_SIGNATURE points to.
func readMachO(m *image.Image) *Signature {
	at, ok := findSignature(m)
	if !ok {
		return nil
	}
	data, whole := cursor.Slice(m.Data, at.Offset, at.Size)
	if len(data) < 12 || binary.BigEndian.Uint32(data) != magicSuper || binary.BigEndian.Uint32(data[8:]) == 0 {
		return nil
	}
	s := &Signature{Kind: MachO}
	if !whole {
		s.problem("the signature is cut off: %d of %d bytes are there", len(data), at.Size)
	}
	length := uint64(binary.BigEndian.Uint32(data[4:]))
	if length < 12 || length > uint64(len(data)) {
		s.problem("the signature says that it has %d bytes, and %d are there", length, len(data))
		length = uint64(len(data))
	}
	if n := notZero(data[length:]); n > leftover(at) {
		s.Unhashed += n
	}
	if end := at.Offset + at.Size; end < uint64(len(m.Data)) {
		s.Unhashed += notZero(m.Data[end:])
	}
	blobs, lost := s.readBlobs(data[:length])
	s.readDirectories(m, blobs, at, lost)
	s.Entitlements = entitlements(blobs)
	return s
}

// leftover is how much of an earlier, larger signature may lie behind the one
// in its place: hashes of 64 bytes for each page of 4 KiB, and certificates.
// Tools that sign again do not clear the room that they do not need.
func leftover(at image.Range) int { return int(at.Offset/4096)*64 + 64<<10 }

// findSignature walks the load commands.
func findSignature(m *image.Image) (image.Range, bool) {
	c := cursor.New(m.Data, m.BigEndian)
	c.Skip(16)
	count := c.U32()
	c.Skip(8) // size of commands, flags
	if m.Bits == 64 {
		c.Skip(4)
	}
	for range count {
		start := c.Offset()
		cmd, size := c.U32(), c.U32()
		if c.Err() != nil || size < 8 {
			break
		}
		if cmd == lcCodeSignature {
			r := image.Range{Offset: uint64(c.U32()), Size: uint64(c.U32())}
			return r, c.Err() == nil
		}
		c.Seek(uint64(start) + uint64(size))
	}
	return image.Range{}, false
}

// readBlobs cuts the superblob into its parts, and reports whether some are
// lost.
func (s *Signature) readBlobs(data []byte) (blobs []blob, lost bool) {
	count := binary.BigEndian.Uint32(data[8:])
	if count > maxBlobs {
		s.problem("not looked at: %d of %d parts of the signature", count-maxBlobs, count)
		count = maxBlobs
	}
	c := cursor.New(data, true)
	c.Skip(12)
	for range count {
		slot, off := c.U32(), uint64(c.U32())
		if c.Err() != nil {
			s.problem("the index of the signature is cut off")
			return blobs, true
		}
		head, ok := cursor.Slice(data, off, 8)
		if !ok {
			s.problem("part %#x of the signature lies outside of it", slot)
			lost = true
			continue
		}
		b, ok := cursor.Slice(data, off, uint64(binary.BigEndian.Uint32(head[4:])))
		if !ok || len(b) < 8 {
			s.problem("part %#x of the signature is cut off", slot)
			lost = true
			continue
		}
		if find(blobs, slot) != nil {
			s.problem("the signature has part %#x twice", slot)
			continue
		}
		blobs = append(blobs, blob{slot, b})
	}
	return blobs, lost
}

func find(blobs []blob, slot uint32) []byte {
	i := slices.IndexFunc(blobs, func(b blob) bool { return b.slot == slot })
	if i < 0 {
		return nil
	}
	return blobs[i].data
}

// readDirectories checks every code directory against the file, and the
// signature of the first.
func (s *Signature) readDirectories(m *image.Image, blobs []blob, at image.Range, lost bool) {
	var all []*directory
	for _, b := range blobs {
		if b.slot == slotDirectory || b.slot >= slotAlternate && b.slot < slotAlternateEnd {
			if d := s.readDirectory(b.data); d != nil {
				all = append(all, d)
			} else {
				lost = true
			}
		}
	}
	first := find(blobs, slotDirectory)
	if first == nil || len(all) == 0 {
		s.problem("the signature has no code directory that could be read")
		return
	}
	best := slices.MaxFunc(all, func(a, b *directory) int { return a.strength() - b.strength() })
	s.Algorithm = best.hash.String()
	s.Identifier, s.Team = best.identifier, best.team
	s.Hardened = best.flags&flagHardened != 0
	s.checkDirectories(m, blobs, all, best, at)
	if lost && s.Digest == Good {
		s.Digest = Unchecked
	}

	message := find(blobs, slotSignature)
	if len(message) <= 8 || binary.BigEndian.Uint32(message) != magicWrapper {
		if lost {
			return // perhaps somebody did sign it
		}
		s.AdHoc = true
		s.Linker = best.flags&flagLinkerSigned != 0
		if best.flags&flagAdHoc == 0 {
			s.problem("nobody signed it, though it is not marked as ad hoc")
		}
		return
	}
	s.checkMessage(message[8:], first, all)
}

// readDirectory reads a code directory of any version: fields were appended.
func (s *Signature) readDirectory(b []byte) *directory {
	const scatter, team, limit64 = 0x20100, 0x20200, 0x20300
	c := cursor.New(b, true)
	magic := c.U32()
	c.Skip(4)
	version := c.U32()
	d := &directory{data: b, flags: c.U32()}
	hashes, name := uint64(c.U32()), uint64(c.U32())
	specials, pages := uint64(c.U32()), uint64(c.U32())
	d.limit = uint64(c.U32())
	size, kind := uint64(c.U8()), c.U8()
	c.Skip(1) // platform
	shift := c.U8()
	c.Skip(4)
	if version >= scatter {
		d.scattered = c.U32() != 0
	}
	teamAt := uint64(0)
	if version >= team {
		teamAt = uint64(c.U32())
	}
	if version >= limit64 {
		c.Skip(4)
		if l := c.U64(); l != 0 {
			d.limit = l
		}
	}
	if c.Err() != nil || magic != magicDirectory {
		s.problem("a code directory cannot be read")
		return nil
	}
	d.hash = directoryHashes[kind]
	if d.hash == 0 || size < minHash || size > uint64(d.hash.Size()) {
		s.problem("hashes of type %d and %d bytes are not known", kind, size)
		return nil
	}
	if specials > hashes/size || pages > uint64(len(b))/size {
		s.problem("the hashes of a code directory lie outside of it")
		return nil
	}
	if shift > maxPageShift || shift != 0 && shift < minPageShift {
		s.problem("not looked at: hashes of pages of %d bytes", uint64(1)<<min(shift, 63))
		return nil
	}
	var ok1, ok2 bool
	d.size = int(size)
	d.special, ok1 = cursor.Slice(b, hashes-specials*size, specials*size)
	d.pages, ok2 = cursor.Slice(b, hashes, pages*size)
	if !ok1 || !ok2 {
		s.problem("the hashes of a code directory lie outside of it")
		return nil
	}
	if d.pageSize = 1 << shift; shift == 0 { // one page without an end
		d.pageSize = max(d.limit, 1)
	}
	d.identifier, _ = cursor.String(b, name, maxName)
	if teamAt != 0 {
		d.team, _ = cursor.String(b, teamAt, maxName)
	}
	return d
}

// directoryHashes are the types of hashes: CS_HASHTYPE_SHA1, _SHA256,
// _SHA256_TRUNCATED, _SHA384, and SHA-512, which is reserved.
var directoryHashes = map[uint8]crypto.Hash{1: crypto.SHA1, 2: crypto.SHA256, 3: crypto.SHA256, 4: crypto.SHA384, 5: crypto.SHA512}

// strength orders directories as the system prefers them.
func (d *directory) strength() int { return d.hash.Size()*100 + d.size }

// is compares a hash, which may be cut.
func (d *directory) is(want, content []byte) bool {
	return bytes.Equal(want, sum(d.hash, content)[:d.size])
}

// checkDirectories compares all hashes.
func (s *Signature) checkDirectories(m *image.Image, blobs []blob, all []*directory, best *directory, at image.Range) {
	for _, d := range all {
		switch {
		case len(m.Data) > maxHashed:
			s.problem("not looked at: the hashes of a file of %d bytes", len(m.Data))
			return
		case d.scattered:
			s.problem("not looked at: hashes of scattered pages")
			return
		}
		pages, parts := s.checkPages(d, m.Data, at), s.checkParts(d, m, blobs)
		switch {
		case !pages || !parts:
			s.Digest = Bad
		case s.Digest == Unchecked:
			s.Digest = Good
		}
	}
	if end := min(at.Offset, uint64(len(m.Data))); best.limit < end {
		s.Unhashed += notZero(m.Data[best.limit:end])
	}
	for _, b := range blobs {
		if part(b.slot) && notZero(best.slot(b.slot)) == 0 {
			s.problem("part %#x of the signature is not covered by it", b.slot)
			s.Unhashed += notZero(b.data)
		}
	}
}

// part reports whether directories hold the hash of what is in a slot.
func part(slot uint32) bool {
	return slot != slotDirectory && slot != slotInfo && slot != slotResources && slot < slotAlternate
}

// checkPages compares the hash of each page.
func (s *Signature) checkPages(d *directory, data []byte, at image.Range) bool {
	if d.limit > uint64(len(data)) {
		s.problem("%d bytes were signed, and %d are there", d.limit, len(data))
		return false
	}
	if d.limit > at.Offset {
		s.problem("the signature covers itself")
		return false
	}
	count := (d.limit + d.pageSize - 1) / d.pageSize
	if have := uint64(len(d.pages) / d.size); have != count {
		s.problem("there are hashes for %d pages, and %d pages", have, count)
		return false
	}
	wrong, firstAt := 0, uint64(0)
	h := d.hash.New()
	var got []byte
	for i := range count {
		h.Reset()
		cursor.Hash(h, data[i*d.pageSize:min((i+1)*d.pageSize, d.limit)])
		got = h.Sum(got[:0])
		if !bytes.Equal(got[:d.size], d.pages[i*uint64(d.size):(i+1)*uint64(d.size)]) {
			if wrong == 0 {
				firstAt = i * d.pageSize
			}
			wrong++
		}
	}
	if wrong > 0 {
		s.problem("%d of %d pages are not what was signed, the first at offset %#x (%s)", wrong, count, firstAt, d.hash)
	}
	return wrong == 0
}

// checkParts compares the hashes of the other parts of the signature and of an
// Info.plist inside the binary. Resources and an Info.plist beside it are
// files of a bundle, which are not here.
func (s *Signature) checkParts(d *directory, m *image.Image, blobs []blob) bool {
	good := true
	for _, b := range blobs {
		want := d.slot(b.slot)
		switch {
		case !part(b.slot) || notZero(want) == 0:
		case len(b.data) > maxPart:
			s.problem("not looked at: part %#x of the signature, which has %d bytes", b.slot, len(b.data))
			good = false
		case !d.is(want, b.data):
			s.problem("part %#x of the signature is not what was signed", b.slot)
			good = false
		}
	}
	for _, slot := range []uint32{slotRequirements, slotEntitlements, slotDERentitlements} {
		if notZero(d.slot(slot)) > 0 && find(blobs, slot) == nil {
			s.problem("part %#x of the signature was taken away", slot)
			good = false
		}
	}
	info := m.Bytes(m.Section("__TEXT,__info_plist"))
	if want := d.slot(slotInfo); len(info) > 0 && notZero(want) > 0 && !d.is(want, info) {
		s.problem("the Info.plist in the binary is not what was signed")
		good = false
	}
	return good
}

// slot returns the hash of a part; they lie backwards in front of those of the
// pages.
func (d *directory) slot(n uint32) []byte {
	at := len(d.special) - int(n)*d.size
	if n == 0 || int(n) > len(d.special)/d.size {
		return nil
	}
	return d.special[at : at+d.size]
}

// checkMessage verifies who signed the first code directory.
func (s *Signature) checkMessage(b, signed []byte, all []*directory) {
	if len(b) > maxMessage {
		s.problem("not looked at: a signature of %d bytes", len(b))
		return
	}
	m, _, err := readMessage(b)
	if err != nil {
		s.problem("the signature cannot be read: %v", err)
		return
	}
	if len(m.signers) == 0 {
		s.problem("nobody signed it")
		return
	}
	si := &m.signers[0]
	s.describe(m, si)
	if m.content != nil && !bytes.Equal(m.content, signed) {
		s.Signature = Bad
		s.problem("what was signed is not the code directory")
	} else if err := m.verify(si, signed); err != nil {
		s.Signature = verdict(err)
		s.problem("the signature is not good: %v", err)
	} else {
		s.Signature = Good
	}
	s.checkList(si, all)
	s.stamp(m, si)
	if c := m.certificate(si); c != nil && s.Team != "" {
		if unit := attribute(c.subject, oidUnit); unit != "" && unit != s.Team {
			s.problem("it says that it is of team %q, and the certificate is of %q", s.Team, unit)
		}
	}
}

// checkList asks whether the signer knew of every code directory: the system
// uses the strongest, which need not be the one that is signed.
func (s *Signature) checkList(si *signer, all []*directory) {
	var known [][]byte
	for _, a := range si.signed {
		for _, v := range a.values {
			switch a.oid {
			case oidDirectoryHash:
				p := v.elements()
				p.want(universal, tagOID)
				known = append(known, p.want(universal, tagOctets).octets())
			case oidDirectoryList:
				known = append(known, listed(v.octets())...)
			}
		}
	}
	if len(known) == 0 && len(all) == 1 {
		return
	}
	for _, d := range all {
		hash := sum(d.hash, d.data)
		if !slices.ContainsFunc(known, func(k []byte) bool { return len(k) >= 20 && bytes.HasPrefix(hash, k) }) {
			s.problem("the signer does not vouch for the %s code directory", d.hash)
			if len(known) > 0 {
				s.Signature = Bad
			}
		}
	}
}

// listed returns the values of a property list of hashes.
func listed(plist []byte) (out [][]byte) {
	for part := range bytes.SplitSeq(plist, []byte("<data>")) {
		text, _, ok := bytes.Cut(part, []byte("</data>"))
		if !ok || len(out) > maxBlobs {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
		if err == nil {
			out = append(out, b)
		}
	}
	return out
}
