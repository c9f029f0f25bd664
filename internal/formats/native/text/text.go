// Package text finds the texts in a binary, and among them those that tell
// most about what it does: addresses it talks to, files it opens, commands it
// runs, and what it says to its user.
//
// It keeps places, not copies: a binary of 100 MB has hundreds of thousands of
// texts, of which a report shows two hundred.
package text

import (
	"cmp"
	"slices"
	"sort"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Run is a sequence of printable characters in a binary: ASCII or, if Wide,
// the ASCII part of UTF-16, little-endian.
type Run struct {
	Offset uint64 // in image.Data
	Size   int    // in bytes of the file
	Wide   bool
}

// Limits.
const (
	shortest     = 5       // characters of a run in data
	shortestCode = 8       // the same in code, where five printable bytes mean nothing
	maxRuns      = 4 << 20 // of a table; each takes eight bytes
	maxOffset    = 1<<32 - 1
)

// A Table holds the runs of a binary by offset.
type Table struct {
	image    *image.Image
	segments []image.Segment // by offset
	regions  []region        // by offset, without overlap
	runs     []packed

	Cut   bool // there are more runs than a table holds
	Glued bool // set by the caller, before Telling: the program was written in Go or Rust, which put no mark between texts
}

// packed is a run in eight bytes.
type packed struct {
	offset uint32
	size   uint32 // the lowest bit tells that it is wide
}

func (p packed) run() Run {
	return Run{Offset: uint64(p.offset), Size: int(p.size >> 1), Wide: p.size&1 != 0}
}

// Extract finds the runs of m.
func Extract(m *image.Image) *Table {
	t := &Table{image: m, segments: slices.Clone(m.Segments)}
	slices.SortStableFunc(t.segments, func(a, b image.Segment) int { return cmp.Compare(a.Offset, b.Offset) })
	t.divide()
	for _, r := range t.regions {
		if r.role == skipped {
			continue
		}
		s := scanner{data: m.Data[r.from:r.to], base: r.from, table: t}
		s.least = shortest
		if r.role == code {
			s.least = shortestCode
		}
		s.scan()
	}
	t.Cut = t.Cut || uint64(len(m.Data)) > maxOffset
	if !slices.IsSortedFunc(t.runs, byOffset) { // wide runs are found late
		slices.SortFunc(t.runs, byOffset)
	}
	return t
}

func byOffset(a, b packed) int { return cmp.Compare(a.offset, b.offset) }

// Len returns the number of runs.
func (t *Table) Len() int { return len(t.runs) }

// Run returns the run of that number, in the order of the file.
func (t *Table) Run(i int) Run { return t.runs[i].run() }

// At returns the run that covers an offset in image.Data.
func (t *Table) At(offset uint64) (Run, bool) {
	i := sort.Search(len(t.runs), func(i int) bool { return uint64(t.runs[i].offset) > offset }) - 1
	if i < 0 {
		return Run{}, false
	}
	r := t.runs[i].run()
	return r, offset-r.Offset < uint64(r.Size)
}

// Text returns the characters of a run.
func (t *Table) Text(r Run) string {
	if r.Offset > uint64(len(t.image.Data)) || uint64(r.Size) > uint64(len(t.image.Data))-r.Offset {
		return ""
	}
	b := t.image.Data[r.Offset:][:r.Size]
	if r.Wide {
		return string(narrow(nil, b))
	}
	return string(b)
}

// narrow appends the low bytes of UTF-16 to buf.
func narrow(buf, wide []byte) []byte {
	for i := 0; i < len(wide); i += 2 {
		buf = append(buf, wide[i])
	}
	return buf
}

// A role is what a region of a file is for.
type role uint8

const (
	plain   role = iota
	code         // instructions and tables, where runs are mostly accidents
	aside        // headers, signatures and what follows the end: no messages for people
	names        // of symbols: the report has them elsewhere
	skipped      // debug information and what linkers and loaders read: tables of names, opcodes, signatures
)

// A region is a part of the file with one role.
type region struct {
	from, to uint64
	section  int // index in image.Sections, -1 for what belongs to none
	role     role
}

// divide makes regions of the sections, the first one deciding where they
// overlap, and of what lies between them, by segments.
func (t *Table) divide() {
	m := t.image
	size := min(uint64(len(m.Data)), maxOffset)
	pos := uint64(0)
	next := 0 // segment
	gap := func(to uint64) {
		for pos < to {
			for next < len(t.segments) && t.segments[next].Offset <= pos {
				next++
			}
			end := to
			if next < len(t.segments) {
				end = min(end, t.segments[next].Offset)
			}
			t.regions = append(t.regions, region{from: pos, to: end, section: -1, role: t.roleOfGap(pos, end)})
			pos = end
		}
	}
	order := make([]int, 0, len(m.Sections))
	for i := range m.Sections {
		if s := &m.Sections[i]; s.FileSize > 0 && s.Offset < size {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.Sections[a].Offset, m.Sections[b].Offset) })
	for _, i := range order {
		s := &m.Sections[i]
		end := s.Offset + min(s.FileSize, size-s.Offset)
		if end <= pos {
			continue
		}
		gap(s.Offset)
		t.regions = append(t.regions, region{from: max(pos, s.Offset), to: end, section: i, role: roleOf(m, s)})
		pos = end
	}
	gap(size)
}

// roleOf tells a section's role by its name, unless it is mapped while such a
// section never is: texts must not hide behind a name.
func roleOf(m *image.Image, s *image.Section) role {
	name := strings.ToLower(s.Name)
	_, last, macho := strings.Cut(name, ",")
	mapped := s.Addr != 0 && m.Format != image.Wasm
	switch {
	case strings.HasPrefix(name, ".debug_") || strings.HasPrefix(name, ".zdebug_") || strings.HasPrefix(name, "__dwarf,"):
		if mapped && m.Format == image.ELF {
			return plain
		}
		return skipped
	case strings.HasPrefix(name, ".debug$") && !mapped, linking(m, s, name):
		return skipped
	case s.Code || s.Access&image.Execute != 0 && m.Format != image.MachO: // there, it is the segment's
		return code
	case strings.HasSuffix(name, "gopclntab"), name == "name" && m.Format == image.Wasm, m.Format == image.PE && (name == ".edata" || name == ".idata" || strings.HasPrefix(name, ".idata$")):
		return names
	case strings.HasPrefix(name, ".eh_frame"), strings.HasPrefix(name, ".rel"), name == ".gcc_except_table",
		strings.HasPrefix(name, ".gnu."), name == ".pdata", name == ".xdata", name == ".arm.exidx", name == ".arm.extab",
		macho && (last == "__eh_frame" || last == "__unwind_info" || last == "__gcc_except_tab"):
		return code
	}
	return plain
}

// linking tells whether a section is for the linker and the loader alone. One
// that the program may change or run is not, nor is a mapped one of a kind that
// never is: texts must not hide behind a name.
func linking(m *image.Image, s *image.Section, name string) bool {
	mapped := s.Addr != 0
	if s.Access&(image.Write|image.Execute) != 0 {
		return false
	}
	switch m.Format {
	case image.ELF:
		switch name {
		case ".strtab", ".symtab", ".shstrtab", ".symtab_shndx":
			return !mapped
		case ".dynstr", ".dynsym", ".hash":
			return true
		}
		return strings.HasPrefix(name, ".gnu.version") || name == ".gnu.hash" || strings.HasPrefix(name, ".rel.") || strings.HasPrefix(name, ".rela.") || name == ".relr.dyn"
	case image.PE:
		return name == ".reloc"
	case image.MachO:
		return strings.HasPrefix(name, "__linkedit,")
	}
	return false
}

// roleOfGap gives bytes without a section the role of the segment they are in.
func (t *Table) roleOfGap(from, to uint64) role {
	m := t.image
	if m.Kind == image.Object && m.Format == image.PE && from > 0 && t.segmentOf(from) == nil {
		return names // relocations, symbols, and their names
	}
	if len(t.segments) == 0 {
		return plain
	}
	switch s := t.segmentOf(from); {
	case s == nil || from == 0:
		return aside
	case s.Name == "__LINKEDIT" && m.Format == image.MachO && s.Access&(image.Write|image.Execute) == 0:
		return skipped
	case s.Access&image.Execute != 0 && to-from > 4096:
		return code
	}
	return plain
}

// segmentOf returns the segment that holds an offset, the one that begins last
// if there are several.
func (t *Table) segmentOf(offset uint64) *image.Segment {
	i := sort.Search(len(t.segments), func(i int) bool { return t.segments[i].Offset > offset }) - 1
	if i < 0 || offset-t.segments[i].Offset >= t.segments[i].FileSize {
		return nil
	}
	return &t.segments[i]
}

// regionOf returns the region that holds an offset.
func (t *Table) regionOf(offset uint64) region {
	i := sort.Search(len(t.regions), func(i int) bool { return t.regions[i].from > offset }) - 1
	if i < 0 {
		return region{section: -1}
	}
	return t.regions[i]
}

// place returns the address of an offset and the name of its section.
func (t *Table) place(offset uint64) (addr uint64, section string) {
	m := t.image
	if r := t.regionOf(offset); r.section >= 0 {
		s := &m.Sections[r.section]
		if s.Addr != 0 {
			addr = s.Addr + (offset - s.Offset)
		}
		return addr, s.Name
	}
	if s := t.segmentOf(offset); s != nil {
		return s.Addr + (offset - s.Offset), s.Name
	}
	return 0, ""
}
