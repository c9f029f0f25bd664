package signature

import (
	"bytes"
	"cmp"
	"crypto"
	"encoding/binary"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Identifiers of Microsoft's "Windows Authenticode Portable Executable
// Signature Format".
const (
	oidIndirect = "1.3.6.1.4.1.311.2.1.4"  // SPC_INDIRECT_DATA
	oidPEImage  = "1.3.6.1.4.1.311.2.1.15" // SPC_PE_IMAGE_DATA
	oidOpus     = "1.3.6.1.4.1.311.2.1.12" // SPC_SP_OPUS_INFO
	oidNested   = "1.3.6.1.4.1.311.2.4.1"  // SPC_NESTED_SIGNATURE
)

// Limits on a certificate table.
const (
	maxEntries = 16
	maxNested  = 8
	maxDepth   = 1 // of signatures inside signatures
)

// A peFile is what of a PE file the hash depends on. Offsets are into data.
type peFile struct {
	data     []byte
	checksum uint64 // of 4 bytes
	entry    uint64 // of 8 bytes: the certificate table's data directory
	headers  uint64 // size
	sections []image.Range
	table    image.Range // certificate table
	digests  map[crypto.Hash][]byte
	gaps     map[crypto.Hash][]byte // digests by the sections alone
}

// readPE reads the attribute certificate table ("PE Format", The Attribute
// Certificate Table) and the signatures in it.
func readPE(m *image.Image) *Signature {
	f, ok := layout(m.Data)
	if !ok {
		return nil
	}
	table, whole := cursor.Slice(m.Data, f.table.Offset, f.table.Size)
	if len(table) <= 8 {
		return nil
	}
	s := &Signature{Kind: Authenticode}
	if !whole {
		s.problem("the certificate table is cut off: %d of %d bytes are there", len(table), f.table.Size)
	}
	found := f.readTable(s, table)
	if len(found) == 0 {
		if len(s.Problems) == 0 {
			s.problem("the certificate table holds no signature")
		}
		return s
	}
	first := found[0]
	first.Nested = append(first.Nested, found[1:]...)
	first.Unhashed += s.Unhashed
	for _, p := range s.Problems {
		first.problem("%s", p)
	}
	if end := f.table.Offset + f.table.Size; end < uint64(len(m.Data)) {
		first.problem("%d bytes follow the certificate table", uint64(len(m.Data))-end)
	}
	return first
}

// layout finds the places that the hash leaves out.
func layout(data []byte) (*peFile, bool) {
	c := cursor.New(data, false)
	pe := uint64(c.Seek(0x3c).U32())
	c.Seek(pe).Skip(4 + 2) // signature, machine
	count := c.U16()
	c.Skip(12)
	optional := uint64(c.U16())
	c.Skip(2)
	start := pe + 24
	directories := start + 96
	if c.U16() == 0x20b {
		directories += 16
	}
	f := &peFile{data: data, checksum: start + 64, entry: directories + 4*8, digests: map[crypto.Hash][]byte{}, gaps: map[crypto.Hash][]byte{}}
	f.headers = uint64(c.Seek(start + 60).U32())
	number := c.Seek(directories - 4).U32()
	c.Seek(f.entry)
	f.table = image.Range{Offset: uint64(c.U32()), Size: uint64(c.U32())}
	if c.Err() != nil || number <= 4 || f.table.Offset == 0 || f.table.Size == 0 || f.table.Offset < f.entry+8 || f.table.Offset >= uint64(len(data)) {
		return nil, false
	}
	for i := range uint64(count) {
		c.Seek(start + optional + 40*i + 16)
		size, off := c.U32(), c.U32()
		if c.Err() != nil {
			break
		}
		if size > 0 {
			f.sections = append(f.sections, image.Range{Offset: uint64(off), Size: uint64(size)})
		}
	}
	return f, true
}

// readTable reads the entries of the table: each has a header, a signature and
// a gap to a multiple of eight bytes. What else lies between is added to
// s.Unhashed: the signature covers none of the table (CVE-2013-3900).
func (f *peFile) readTable(s *Signature, table []byte) (found []*Signature) {
	const header, pkcs = 8, 2
	for range maxEntries {
		if len(table) <= header {
			break
		}
		size := uint64(binary.LittleEndian.Uint32(table))
		kind := binary.LittleEndian.Uint16(table[6:])
		if size <= header || size > uint64(len(table)) {
			s.problem("an entry of the certificate table says that it has %d bytes, and %d are there", size, len(table))
			size = uint64(len(table))
		}
		entry := table[header:size]
		if kind == pkcs {
			one, rest := f.read(entry, 0)
			s.Unhashed += notZero(rest)
			found = append(found, one)
		} else if n := notZero(entry); n > 0 {
			s.problem("the certificate table holds an entry of type %d, which is not read", kind)
			s.Unhashed += n
		}
		table = table[min((size+7)&^7, uint64(len(table))):]
	}
	s.Unhashed += notZero(table)
	return found
}

// notZero counts the bytes that are not zero.
func notZero(b []byte) int { return len(b) - bytes.Count(b, []byte{0}) }

// read reads one signature, and returns what follows it.
func (f *peFile) read(b []byte, depth int) (s *Signature, rest []byte) {
	s = &Signature{Kind: Authenticode}
	if len(b) > maxMessage {
		s.problem("not looked at: a signature of %d bytes", len(b))
		return s, nil
	}
	m, rest, err := readMessage(b)
	switch {
	case err != nil:
		s.problem("the signature cannot be read: %v", err)
		return s, rest
	case len(m.signers) == 0:
		s.problem("nobody signed it")
		return s, rest
	case len(m.signers) > 1:
		s.problem("it has %d signers, of whom the first counts", len(m.signers))
	}
	si := &m.signers[0]
	s.describe(m, si)
	f.check(s, m, si)
	s.stamp(m, si)
	s.opus(si)
	for _, a := range si.unsigned {
		switch a.oid {
		case oidNested:
			for _, v := range a.values {
				if depth < maxDepth && len(s.Nested) < maxNested {
					nested, _ := f.read(v.full, depth+1)
					s.Nested = append(s.Nested, nested)
				}
			}
		case oidCounter, oidTimestamp, oidTimestampMS:
		default:
			s.Unhashed += a.size
		}
	}
	return s, rest
}

// check compares the digest that was signed with that of the file, and verifies
// the signature.
func (f *peFile) check(s *Signature, m *message, si *signer) {
	if m.contentType != oidIndirect || m.content == nil {
		s.Signature = Bad
		s.problem("what is signed (%q) is not the digest of a binary", m.contentType)
		return
	}
	if err := m.verify(si, m.content); err != nil {
		s.Signature = verdict(err)
		s.problem("the signature is not good: %v", err)
	} else if typ, ok := first(si.signed, oidContentType); ok && typ.oid() != oidIndirect {
		s.Signature = Bad
		s.problem("what was signed (%q) is not the digest of a binary", typ.oid())
	} else {
		s.Signature = Good
	}
	f.checkDigest(s, m.element)
}

// checkDigest reads SpcIndirectDataContent: a kind of data, and its digest.
func (f *peFile) checkDigest(s *Signature, indirect element) {
	parts := indirect.elements()
	data := parts.want(universal, tagSequence)
	info := parts.want(universal, tagSequence).elements()
	oid, _ := readAlgorithm(info.want(universal, tagSequence))
	want := info.want(universal, tagOctets).octets()
	if parts.err != nil || info.err != nil {
		s.problem("the signed digest cannot be read")
		return
	}
	if kind, err := data.first(); err == nil && kind.oid() != oidPEImage {
		s.Digest = Bad
		s.problem("the signature is for another kind of file")
		return
	}
	h, err := hashOf(oid)
	if err != nil {
		s.problem("%v", err)
		return
	}
	s.Algorithm = h.String()
	if len(f.data) > maxHashed {
		s.problem("not looked at: the digest of a file of %d bytes", len(f.data))
		return
	}
	s.Digest = Good
	if bytes.Equal(want, f.digest(h)) {
		return
	}
	if left := f.between(); left > 0 && bytes.Equal(want, f.sectionDigest(h)) {
		s.Unhashed += left
		return
	}
	s.Digest = Bad
	s.problem("the file is not what was signed (its %s digest differs)", h)
}

// digest hashes the file without the checksum, the directory entry of the
// certificate table, and the table ("Calculating the PE Image Hash").
func (f *peFile) digest(h crypto.Hash) []byte {
	if d := f.digests[h]; d != nil {
		return d
	}
	size := uint64(len(f.data))
	end := min(f.table.Offset+f.table.Size, size)
	w := h.New()
	cursor.Hash(w, f.data[:f.checksum])
	cursor.Hash(w, f.data[f.checksum+4:f.entry])
	cursor.Hash(w, f.data[f.entry+8:f.table.Offset])
	cursor.Hash(w, f.data[end:])
	f.digests[h] = w.Sum(nil)
	return f.digests[h]
}

// ordered returns the sections by their places, as far as the file holds them
// before the certificate table.
func (f *peFile) ordered() []image.Range {
	sections := slices.DeleteFunc(slices.Clone(f.sections), func(r image.Range) bool {
		return r.Offset+r.Size > f.table.Offset
	})
	slices.SortFunc(sections, func(a, b image.Range) int { return cmp.Compare(a.Offset, b.Offset) })
	return sections
}

// between counts the bytes that are not zero between the sections, which a hash
// by the letter of the document leaves out.
func (f *peFile) between() (n int) {
	end := f.headers
	for _, r := range f.ordered() {
		if r.Offset > end {
			n += notZero(f.data[end:r.Offset])
		}
		end = max(end, r.Offset+r.Size)
	}
	return n
}

// sectionDigest hashes headers and sections one after the other, then what
// follows as many bytes as they have: the letter of the document. For a file
// without gaps that is the same as [peFile.digest].
func (f *peFile) sectionDigest(h crypto.Hash) []byte {
	if d, ok := f.gaps[h]; ok {
		return d
	}
	f.gaps[h] = nil // unless all sections are there
	if f.headers < f.entry+8 || f.headers > f.table.Offset {
		return nil
	}
	w := h.New()
	cursor.Hash(w, f.data[:f.checksum])
	cursor.Hash(w, f.data[f.checksum+4:f.entry])
	cursor.Hash(w, f.data[f.entry+8:f.headers])
	hashed := f.headers
	for _, r := range f.ordered() {
		if hashed+r.Size > uint64(len(f.data)) {
			return nil // sections overlap, and a few bytes would be hashed for ever
		}
		cursor.Hash(w, f.data[r.Offset:r.Offset+r.Size])
		hashed += r.Size
	}
	if hashed < f.table.Offset {
		cursor.Hash(w, f.data[hashed:f.table.Offset])
	}
	f.gaps[h] = w.Sum(nil)
	return f.gaps[h]
}

// opus reads SpcSpOpusInfo: what the signer says that the program is.
func (s *Signature) opus(si *signer) {
	v, ok := first(si.signed, oidOpus)
	if !ok {
		return
	}
	parts := v.elements()
	if p, ok := parts.maybe(context, 0); ok {
		if name, err := p.first(); err == nil {
			if s.Program = cut(string(name.body[:min(len(name.body), maxName)])); name.is(context, 0) {
				s.Program = bmp(name.body)
			}
		}
	}
	if p, ok := parts.maybe(context, 1); ok {
		if link, err := p.first(); err == nil && link.is(context, 0) {
			s.URL = cut(string(link.body[:min(len(link.body), maxName)]))
		}
	}
}
