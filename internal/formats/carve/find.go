package carve

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/carve/upx"
	"github.com/loupe-sec/loupe/internal/formats/native/entropy"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Limits of one file.
const (
	maxPayloads = 256     // programs and archives that are shown; more leave a note
	maxData     = 64      // the same for other data
	minData     = 512     // bytes of what is neither program nor archive to be worth showing
	minWeak     = 4 << 10 // the same where only two bytes said that it is compressed
	maxOut      = 1 << 30 // decoded to find the end of one stream
)

// Find finds what is packed inside a binary, by place. The images are those in
// the file; their Data are parts of it, and their Offset says where. The notes
// say what was not looked for.
func Find(data []byte, images []*image.Image) ([]Payload, []string) {
	s := &search{data: data, file: bytes.NewReader(data), work: 8*int64(len(data)) + 64<<20}
	if p, ok := s.packed(); ok {
		s.found = append(s.found, p)
	}
	for _, r := range regions(data, images) {
		s.region(r)
	}
	s.limit()
	unique(s.found)
	return s.found, s.notes
}

// Blob finds programs and archives in a file of another kind: behind a
// picture, in a container of its own, or in the whole of it under a key or a
// compression that nothing marks. Compressed data of the file's own format is
// left alone.
func Blob(data []byte) ([]Payload, []string) {
	s := &search{data: data, file: bytes.NewReader(data), work: 8*int64(len(data)) + 64<<20}
	s.region(region{name: "data", place: "the file", end: len(data), whole: true})
	s.found = slices.DeleteFunc(s.found, func(p Payload) bool {
		return p.Kind == Data || p.Range.Offset == 0 && len(p.Chain) == 0 // the latter is the file itself
	})
	s.limit()
	unique(s.found)
	return s.found, s.notes
}

// Covers reports whether what was found makes up most of a range of the file,
// so that nobody need wonder why that looks like noise.
func Covers(list []Payload, r image.Range) bool {
	covered := uint64(0)
	for _, p := range list {
		from, to := max(p.Range.Offset, r.Offset), min(p.Range.Offset+p.Range.Size, r.Offset+r.Size)
		if from < to {
			covered += to - from
		}
	}
	return covered >= r.Size-r.Size/8
}

// Picture reports whether a file begins like a picture, a font, a sound or
// another document that nobody expects a program in.
func Picture(head []byte) bool { return shown(head) }

// limit puts what was found into the order of the file. If it is too much, it
// keeps programs and archives before data, and of that what is large: nobody
// shall hide a program behind many small things.
func (s *search) limit() {
	worth := func(p *Payload) uint64 {
		if p.Kind != Data {
			return 1 << 62
		}
		return p.Range.Size
	}
	offset := func(a, b Payload) int { return cmp.Compare(a.Range.Offset, b.Range.Offset) }
	slices.SortStableFunc(s.found, offset)
	slices.SortStableFunc(s.found, func(a, b Payload) int { return cmp.Compare(worth(&b), worth(&a)) })
	data := slices.IndexFunc(s.found, func(p Payload) bool { return p.Kind == Data })
	if data < 0 {
		data = len(s.found)
	}
	keep := min(len(s.found), min(data, maxPayloads)+maxData)
	if data > maxPayloads {
		keep = maxPayloads
	}
	if left := len(s.found) - keep; left > 0 {
		s.notes = append(s.notes, fmt.Sprintf("not looked at: %d more things that are packed in it", left))
		s.found = s.found[:keep]
	}
	slices.SortStableFunc(s.found, offset)
	if s.work < 0 {
		s.notes = append(s.notes, "not looked at to the end: too much in it looks packed and is not")
	}
}

// unique makes names unique, in their order.
func unique(list []Payload) {
	seen := map[string]int{}
	for i := range list {
		name := list[i].Name
		if n := seen[name]; n > 0 {
			list[i].Name = fmt.Sprintf("%s~%d", name, n)
		}
		seen[name]++
	}
}

// A region is a part of a file to look through.
type region struct {
	name, place string // of the whole
	off, end    int
	whole       bool // it is one thing: a resource, a section of its own
	code        bool // it holds instructions
}

// A search is one file being looked through.
type search struct {
	data  []byte
	file  io.ReaderAt
	found []Payload
	notes []string
	work  int64         // bytes that may still be decoded in vain
	zlib  io.ReadCloser // used again for every stream that only looks like one; nil at first
}

// packed finds a program packed by UPX.
func (s *search) packed() (Payload, bool) {
	if !upx.Is(s.data) {
		return Payload{}, false
	}
	p := Payload{Name: "upx", Place: "the program as it was before UPX", Range: image.Range{Size: uint64(len(s.data))}, Chain: []Encoding{UPX}}
	unpacked, err := upx.Unpack(s.data)
	if err != nil {
		s.notes = append(s.notes, "not unpacked: "+err.Error())
		return p, false
	}
	p.Kind, _ = identify(unpacked, unlimited)
	return p, true
}

// boring are beginnings of names of sections that hold nothing packed, or only
// what compilers and linkers pack.
var boring = []string{
	".debug", ".zdebug", ".gnu_debug", ".gnu.debug", ".gnu.lto", ".symtab", ".strtab", ".shstrtab", ".dynsym", ".dynstr", ".eh_frame", ".rel", ".gnu.hash",
	".gnu.version", ".pdata", ".xdata", ".gopclntab", ".typelink", ".note", ".comment", ".idata", ".edata", "__TEXT,__eh_frame",
	"__TEXT,__unwind_info", "__DWARF", "__LINKEDIT", "__LLVM", "name", "producers", "code",
}

// regions returns what to look through: sections with bytes in the file, the
// overlay, and what no section covers. No byte is in two of them.
func regions(data []byte, images []*image.Image) []region {
	var out []region
	for _, m := range images {
		prefix, in := "", ""
		if len(images) > 1 {
			prefix, in = string(m.Arch)+":", " for "+string(m.Arch)
		}
		add := func(r region) {
			if r.off < r.end && r.end <= len(m.Data) {
				r.off, r.end = r.off+int(m.Offset), r.end+int(m.Offset)
				r.name, r.place = prefix+r.name, r.place+in
				if r.end <= len(data) {
					out = append(out, r)
				}
			}
		}
		imageRegions(m, add)
	}
	if len(images) == 0 && len(data) > 64 {
		out = append(out, region{name: "data", place: "the file", off: 1, end: len(data)})
	}
	return disjoint(out)
}

func imageRegions(m *image.Image, add func(region)) {
	size := uint64(len(m.Data))
	overlay := m.Overlay
	if overlay.Size > 0 && overlay.Offset < size {
		add(region{name: "overlay", place: "the overlay", off: int(overlay.Offset), end: int(min(size, overlay.Offset+min(overlay.Size, size))), whole: true})
	}
	if m.Format == image.PE {
		for _, r := range resources(m) {
			add(r)
		}
	}
	for i := range m.Sections {
		sec := &m.Sections[i]
		b := m.Bytes(sec)
		if len(b) == 0 {
			continue
		}
		end := sec.Offset + uint64(len(b))
		if m.Format == image.PE && sec.Size > 0 && sec.Size < uint64(len(b)) && zero(b[sec.Size:]) {
			end = sec.Offset + sec.Size // the rest fills up the file
		}
		if slices.ContainsFunc(boring, func(p string) bool { return strings.HasPrefix(sec.Name, p) }) {
			continue
		}
		add(region{name: "section:" + sec.Name, place: "section " + sec.Name, off: int(sec.Offset), end: int(end), whole: !sec.Code, code: sec.Code})
	}
	if m.Format == image.ELF || m.Format == image.PE {
		for _, gap := range gaps(m) {
			add(gap)
		}
	}
}

// gaps returns what no section covers: what is mapped without one, and what is
// not mapped and in front of the overlay.
func gaps(m *image.Image) []region {
	const least = 1 << 10
	var taken []image.Range
	for i := range m.Sections {
		if n := len(m.Bytes(&m.Sections[i])); n > 0 {
			taken = append(taken, image.Range{Offset: m.Sections[i].Offset, Size: uint64(n)})
		}
	}
	if m.Overlay.Size > 0 {
		taken = append(taken, m.Overlay)
	}
	slices.SortFunc(taken, func(a, b image.Range) int { return cmp.Compare(a.Offset, b.Offset) })
	const header = 64 // which is the program itself
	pos := uint64(header)
	var out []region
	gap := func(end uint64) {
		if end > pos && end-pos >= least && !zero(m.Data[pos:end]) {
			out = append(out, region{name: fmt.Sprintf("offset:0x%x", pos), place: "bytes that no section covers", off: int(pos), end: int(end)})
		}
	}
	for _, r := range taken {
		gap(min(r.Offset, uint64(len(m.Data))))
		pos = max(pos, r.Offset+r.Size)
	}
	gap(uint64(len(m.Data)))
	return out
}

// disjoint cuts off regions what earlier ones of the list have: what says more
// about a place comes first.
func disjoint(list []region) []region {
	type point struct{ off, end int }
	var taken []point
	var out []region
	for _, r := range list {
		i, _ := slices.BinarySearchFunc(taken, r.off, func(p point, off int) int {
			if p.end <= off {
				return -1
			}
			return 1
		})
		at := r.off
		cut := false
		for j := i; at < r.end; j++ {
			next := r.end
			if j < len(taken) {
				next = min(next, taken[j].off)
			}
			if next > at {
				part := r
				part.off, part.end = at, next
				part.whole = r.whole && at == r.off && next == r.end
				out = append(out, part)
				if cut = cut || part.off != r.off || part.end != r.end; len(out) > 100_000 {
					return out
				}
			}
			if j >= len(taken) {
				break
			}
			at = max(at, taken[j].end)
		}
		taken = slices.Insert(taken, i, point{r.off, r.end})
		// Merge with those that it overlaps.
		k := i + 1
		for k < len(taken) && taken[k].off <= taken[i].end {
			taken[i].off = min(taken[i].off, taken[k].off)
			taken[i].end = max(taken[i].end, taken[k].end)
			k++
		}
		taken = slices.Delete(taken, i+1, k)
	}
	return out
}

// region looks through one region.
func (s *search) region(r region) {
	b := s.data[r.off:r.end]
	before := len(s.found)
	at := 0
	if n := s.begins(r); n > 0 {
		at = n
	}
	if len(b) <= 1<<20 || high(b) {
		s.weak(r, at)
	}
	s.scan(r, at)
	s.texts(r)
	s.drop(before)
}

// high reports whether samples of b are as even as compressed data.
func high(b []byte) bool { return sampled(b) >= 7 }

// sampled returns the entropy of some of b.
func sampled(b []byte) float64 {
	const piece, pieces = 4 << 10, 8
	if len(b) <= piece*pieces {
		return entropy.Of(b)
	}
	var sample []byte
	for i := range pieces {
		off := i * (len(b) - piece) / (pieces - 1)
		sample = append(sample, b[off:off+piece]...)
	}
	return entropy.Of(sample)
}

// begins looks at what a region begins with, which may be what has no mark of
// its own. It returns how much it found.
func (s *search) begins(r region) int {
	b := s.data[r.off:r.end]
	if len(b) < 16 {
		return 0
	}
	if n := s.candidate(r, 0); n > 0 {
		return n
	}
	if r.whole {
		for _, off := range [...]int{4, 8} { // a length may stand in front
			if n := s.candidate(r, off); n > 0 {
				return off + n
			}
		}
		if len(b) >= minData && high(b) {
			return s.unmarked(r)
		}
	}
	return 0
}

// unmarked tries compressions that nothing marks, on all of a region.
func (s *search) unmarked(r region) int {
	b := s.data[r.off:r.end]
	for _, e := range []Encoding{Brotli, Deflate} {
		p := s.payload(r, 0, len(b))
		p.Chain = []Encoding{e}
		if !p.resolve(s.file, int64(len(s.data)), nil) || p.Kind == Data {
			continue
		}
		p.Range.Size = uint64(len(bytes.TrimRight(b, "\x00"))) + 1
		p.Range.Size = min(p.Range.Size, uint64(len(b)))
		if !s.whole(&p) {
			p.Range.Size = uint64(len(b))
			if !s.whole(&p) {
				continue
			}
		}
		s.found = append(s.found, p)
		return len(b)
	}
	return 0
}

// whole reports whether a payload decodes to its end.
func (s *search) whole(p *Payload) bool {
	r, err := p.Open(s.file, int64(len(s.data)))
	if err != nil {
		return false
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxOut))
	s.work -= n
	return err == nil && n < maxOut
}

// payload describes a part of a region.
func (s *search) payload(r region, off, n int) Payload {
	p := Payload{Name: r.name, Place: r.place, Range: image.Range{Offset: uint64(r.off + off), Size: uint64(n)}}
	if whole := r.end - r.off; (off > 8 || !r.whole && off > 0) && n < whole-whole/10 {
		p.Name = fmt.Sprintf("offset:0x%x", r.off+off)
		p.Place = fmt.Sprintf("offset 0x%x, in %s", r.off+off, r.place)
	}
	return p
}

// candidate looks whether something begins at an offset of a region, and
// returns how long that is.
func (s *search) candidate(r region, off int) int {
	b := s.data[r.off+off : r.end]
	if len(b) < 16 || s.work < 0 {
		return 0
	}
	if kind, n := identify(b, int64(len(b))); kind != Data && kind != Script && (n > 0 || off == 0 && r.whole && kind != Class) {
		if n == 0 {
			n = int64(len(b))
		}
		p := s.payload(r, off, int(n))
		p.Kind = kind
		if kind == Zip { // found from its end, which says where it is
			return 0
		}
		if r.whole && off == 0 && strings.HasPrefix(r.name, "resource:") {
			p.Range.Size = uint64(len(b)) // which says exactly how long it is
		}
		s.found = append(s.found, p)
		return int(p.Range.Size)
	}
	s.work -= looked(b)
	e := compression(b)
	if e == "" || e == Zlib && off >= 4 && string(s.data[r.off+off-4:r.off+off]) == "IDAT" {
		return 0
	}
	n, out, spent, ok := s.extent(e, b, min(maxOut, s.work))
	if !ok {
		s.work -= spent + 64
		return 0
	}
	p := s.payload(r, off, n)
	p.Chain = []Encoding{e}
	if !p.resolve(s.file, int64(len(s.data)), nil) {
		s.work -= 64 << 10
		return 0
	}
	if p.Kind == Data {
		if out < 0 {
			out = int64(len(p.head(s.file, int64(len(s.data)))))
		}
		if out < minData || out < minWeak && (e == Zlib || e == LZMA) {
			s.work -= spent + minWeak
			return 0
		}
	}
	s.found = append(s.found, p)
	return n
}

// weak looks for streams that only two bytes mark, where compressed data is.
func (s *search) weak(r region, from int) {
	b := s.data[r.off:r.end]
	next := [2]int{-1, -1} // where each of the bytes that they begin with stands next
	for at := from; at+16 < len(b) && s.work >= 0; at++ {
		for i, first := range [2]byte{0x78, 0x5d} {
			if next[i] < at {
				next[i] = len(b)
				if n := bytes.IndexByte(b[at:], first); n >= 0 {
					next[i] = at + n
				}
			}
		}
		if at = min(next[0], next[1]); at+16 >= len(b) {
			break
		}
		if c := b[at:]; !isZlib(c) && !isLZMA(c) {
			continue
		}
		if n := s.candidate(r, at); n > 0 {
			at += n - 1
		}
	}
}

// A mark is what is searched for: the pair of bytes at anchor, or the one
// behind it, whichever lies at an even offset.
type mark struct {
	text   string
	anchor int // where the pairs lie in it that are rarest, in code as in text
	off    int // of the mark in what it marks
}

var marks = []mark{
	{"\x7fELF", 1, 0},
	{"\xcf\xfa\xed\xfe", 0, 0}, {"\xce\xfa\xed\xfe", 0, 0}, {"\xfe\xed\xfa\xce", 0, 0}, {"\xfe\xed\xfa\xcf", 0, 0}, {"\xca\xfe\xba\xbe", 0, 0},
	{"\x00asm\x01", 2, 0},
	{"dex\n0", 2, 0},
	{"ustar", 0, 257},
	{"7z\xbc\xaf", 1, 0},
	{"MSCF\x00", 1, 0},
	{"\x1f\x8b\x08", 0, 0},
	{"\x28\xb5\x2f\xfd", 0, 0},
	{"\xfd7zX", 0, 0},
	{"\x04\x22\x4d\x18", 0, 0},
	{"1AY&SY", 2, 4},
	{"PK\x05\x06", 0, 0},
	{"MZ\x90", 0, 0}, {"MZ\x00", 0, 0}, {"MZP", 0, 0}, {"MZA", 0, 0}, {"MZR", 0, 0}, {"MZE", 0, 0}, {"MZ\x78", 0, 0}, {"MZ\x80", 0, 0}, {"MZ\x01", 0, 0}, {"MZ\x0a", 0, 0},
}

// headers are what programs begin with. The differences of neighbours in them
// are the same under every key of one byte.
var headers = []string{"\x7fELF", "MZ\x90\x00", "MZ\x00\x00"}

// pairs is a set of pairs of bytes: 1 for those that are in it. A byte for each
// is looked up in half the time that a bit takes.
type pairs [1 << 16]uint8

func (p *pairs) add(a, b byte) { p[uint16(a)|uint16(b)<<8] = 1 }

// plainPairs are those of the marks, keyedPairs the differences in headers.
var plainPairs, keyedPairs = func() (plain, keyed pairs) {
	for _, m := range marks {
		plain.add(m.text[m.anchor], m.text[m.anchor+1])
		plain.add(m.text[m.anchor+1], m.text[m.anchor+2])
	}
	for _, h := range headers {
		keyed.add(h[0]^h[1], h[1]^h[2])
		keyed.add(h[1]^h[2], h[2]^h[3])
	}
	return plain, keyed
}()

// codePairs leave out the second pair of gzip, which is an instruction, and
// keys: nobody hides a program under one among instructions.
var codePairs = func() pairs {
	code := plainPairs
	code[0x088b] = 0
	return code
}()

// marksOf lists, by pair, the marks that have it.
var marksOf = func() map[uint16][]mark {
	all := map[uint16][]mark{}
	for _, m := range marks {
		for i := range 2 {
			at := m.anchor + i
			v := uint16(m.text[at]) | uint16(m.text[at+1])<<8
			all[v] = append(all[v], mark{m.text, at, m.off})
		}
	}
	return all
}()

// scan goes over a region once and looks where two bytes are those of a mark.
// Most of the time of a search is spent here: eight bytes are tried at a time.
func (s *search) scan(r region, from int) {
	b := s.data[r.off:r.end]
	at := from
	for at+9 <= len(b) {
		if r.code {
			at += quiet(b[at:], &codePairs)
		} else {
			at += quietData(b[at:])
		}
		if at+9 <= len(b) {
			at = s.hits(r, at, at+8)
		}
	}
	s.hits(r, at, len(b)-3)
}

// quiet returns how many bytes of b, a multiple of eight, have none of the
// pairs; or that fewer than nine are left.
func quiet(b []byte, set *pairs) int {
	rest := b
	for ; len(rest) >= 9; rest = rest[8:] {
		w := binary.LittleEndian.Uint64(rest)
		if set[uint16(w)]|set[uint16(w>>16)]|set[uint16(w>>32)]|set[uint16(w>>48)] != 0 {
			break
		}
	}
	return len(b) - len(rest)
}

// quietData is quiet for pairs of marks and those of headers under a key.
func quietData(b []byte) int {
	plain, keyed := &plainPairs, &keyedPairs
	rest := b
	for ; len(rest) >= 9; rest = rest[8:] {
		w := binary.LittleEndian.Uint64(rest)
		d := w ^ binary.LittleEndian.Uint64(rest[1:])
		if plain[uint16(w)]|plain[uint16(w>>16)]|plain[uint16(w>>32)]|plain[uint16(w>>48)]|
			keyed[uint16(d)]|keyed[uint16(d>>16)]|keyed[uint16(d>>32)]|keyed[uint16(d>>48)] != 0 {
			break
		}
	}
	return len(b) - len(rest)
}

// hits looks at the pairs of a few bytes one by one, and returns where to go on.
func (s *search) hits(r region, at, end int) int {
	b := s.data[r.off:r.end]
	for ; at < end && at+4 <= len(b); at += 2 {
		w := binary.LittleEndian.Uint32(b[at:])
		if plainPairs[uint16(w)] != 0 {
			if next := s.hit(r, at, uint16(w)); next > at {
				return next
			}
		}
		if !r.code && keyedPairs[uint16(w^w>>8)] != 0 {
			for _, begin := range [2]int{at, at - 1} {
				if n := s.keyed(r, begin); n > 0 {
					return begin + n
				}
			}
		}
	}
	return max(at, end)
}

// hit looks at a pair that marks have, and returns where to go on.
func (s *search) hit(r region, at int, pair uint16) int {
	b := s.data[r.off:r.end]
	for _, m := range marksOf[pair] {
		begin := at - m.anchor
		if begin < 0 || begin+len(m.text) > len(b) || string(b[begin:begin+len(m.text)]) != m.text {
			continue
		}
		if m.text == "PK\x05\x06" {
			return s.zip(r, begin)
		}
		if begin -= m.off; begin < 0 {
			continue
		}
		if n := s.candidate(r, begin); n > 0 {
			return begin + n
		}
	}
	return 0
}

// zip looks for the archive that ends at an offset.
func (s *search) zip(r region, end int) int {
	if s.work < 0 {
		return 0
	}
	from, to, spent, ok := zipAt(s.data[r.off:r.end], end)
	if s.work -= spent; !ok {
		return 0
	}
	p := s.payload(r, from, to-from)
	p.Kind = Zip
	s.found = append(s.found, p)
	return to
}

// keyed looks for a program under a key.
func (s *search) keyed(r region, off int) int {
	const least = 64
	if off < 0 || r.off+off+least > r.end || s.work < 0 {
		return 0
	}
	b := s.data[r.off+off : r.end]
	i := slices.IndexFunc(headers, func(h string) bool { return b[0]^b[1] == h[0]^h[1] && b[1]^b[2] == h[1]^h[2] })
	if i < 0 {
		return 0
	}
	key := b[0] ^ headers[i][0]
	if key == 0 || !keyedHeader(b, key) {
		return 0
	}
	s.work -= int64(len(b))
	plain := make([]byte, len(b))
	for i := range plain {
		plain[i] = b[i] ^ key
	}
	kind, n := identify(plain, int64(len(plain)))
	if n == 0 {
		return 0
	}
	p := s.payload(r, off, int(n))
	p.Chain, p.Key, p.Kind = []Encoding{XOR}, key, kind
	s.found = append(s.found, p)
	return int(n)
}

// keyedHeader looks at a little more of what may be the header of a program
// under a key, so that few have to be decoded.
func keyedHeader(b []byte, key byte) bool {
	if b[0]^key == 0x7f {
		return (b[4]^key)-1 < 2 && (b[5]^key)-1 < 2 && b[6]^key == 1
	}
	at := int(binary.LittleEndian.Uint32(b[60:]) ^ uint32(key)*0x01010101)
	return at < 1<<12 && at+4 <= len(b) && b[at]^key == 'P' && b[at+1]^key == 'E' && b[at+2] == key && b[at+3] == key
}

// drop removes what lies inside of something else that was found since.
func (s *search) drop(since int) {
	list := s.found[since:]
	slices.SortStableFunc(list, func(a, b Payload) int {
		return cmp.Or(cmp.Compare(a.Range.Offset, b.Range.Offset), cmp.Compare(b.Range.Size, a.Range.Size))
	})
	end := uint64(0)
	list = slices.DeleteFunc(list, func(p Payload) bool {
		if p.Range.Offset < end {
			return true
		}
		end = p.Range.Offset + p.Range.Size
		return false
	})
	s.found = s.found[:since+len(list)]
}
