package native

import (
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/parallel"
	"github.com/loupe-sec/loupe/internal/formats/carve"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A subject is one binary as conditions see it: its tables as sets, and where
// each literal of the rules occurs.
type subject struct {
	set     *ruleset
	bin     *native.Binary
	program *program
	loose   bool // names count that no code was found to use

	imports     []imported
	importIndex map[string][]int
	crates      nameTable
	hits        [][]hit // by literal
	disclosed   []disclosed

	// Made when a condition first asks for them.
	cachedSymbols, cachedGo, cachedExports, cachedLibraries *nameTable
	cachedSegments                                          []image.Section
	cachedEntropies                                         []float64
	payloads                                                []carve.Payload // once carved
	carved                                                  bool
}

// A hit is an occurrence of a literal.
type hit struct {
	offset uint64 // in the image's data
	size   uint64
	wide   bool // as UTF-16

	// Of what does not stand in plain:
	text string   // that holds it, decoded
	how  string   // it is encoded
	uses []uint64 // places in code, where no data holds it
}

// maxHits is how many occurrences of one literal are kept: an expression may
// want another than the first.
const maxHits = 16

// large is from which size on, in bytes, one binary is worth two processors.
const large = 4 << 20

// newSubject finishes a binary that was begun and reads what it consists of.
func newSubject(set *ruleset, bin *native.Binary, stop func() bool) *subject {
	s := &subject{set: set, bin: bin, importIndex: map[string][]int{}, crates: *newNameTable(0)}
	read := func() { s.program = newProgram(bin) }
	measure := func() {
		bin.Finish()
		s.search()
	}
	if len(bin.Data) < large {
		measure()
		read()
	} else {
		parallel.Do(read, measure)
	}
	s.program.stop = stop
	table := s.program.imports(set.follows)
	s.imports = slices.Concat(table, s.program.lookups(table), s.program.kernel(), s.program.linked(set.asksFor))
	for i := range s.imports {
		s.importIndex[s.imports[i].name] = append(s.importIndex[s.imports[i].name], i)
	}
	for _, c := range bin.Crates {
		s.crates.add(c.Name, 0)
	}
	if !s.program.stopped() {
		s.unhide()
	}
	s.explain()
	return s
}

// search finds every literal of the rules in what the binary maps into memory.
func (s *subject) search() {
	s.hits = make([][]hit, len(s.set.literals))
	for _, part := range s.mapped() {
		data := s.bin.Data[part.Offset : part.Offset+part.Size]
		s.set.finder.Scan(data, func(text, start int) bool {
			l := s.set.origin[text]
			lit := s.set.literals[l]
			h := hit{offset: part.Offset + uint64(start), size: uint64(len(lit.bytes))}
			if h.wide = text > 0 && s.set.origin[text-1] == l; h.wide {
				h.size *= 2
			}
			if len(s.hits[l]) < maxHits && (!lit.word || s.alone(h)) {
				s.hits[l] = append(s.hits[l], h)
			}
			return true
		})
	}
}

// mapped returns the parts of the file that are mapped, or all of it where the
// file does not say, without overlaps.
func (s *subject) mapped() []image.Range {
	size := uint64(len(s.bin.Data))
	var out []image.Range
	end := uint64(0)
	for _, g := range segmentsByOffset(s.bin.Segments) {
		from, to := max(g.Offset, end), min(g.Offset+g.FileSize, size)
		if g.Offset+g.FileSize < g.Offset {
			to = size // a hostile size that wraps around
		}
		if from < to {
			out = append(out, image.Range{Offset: from, Size: to - from})
			end = to
		}
	}
	if len(out) == 0 && size > 0 {
		return []image.Range{{Size: size}}
	}
	return out
}

// unended is how long a text must be to count as a word where nothing shows
// where texts end.
const unended = 8

// alone reports whether no letter or digit stands around a hit. Go and Rust put
// their texts next to each other without an end mark, so there the neighbours
// of all but short ones tell nothing.
func (s *subject) alone(h hit) bool {
	if !h.wide && h.size >= unended && (s.bin.Language == "Go" || s.bin.Language == "Rust") {
		return true
	}
	step := uint64(1)
	if h.wide {
		step = 2
	}
	before := h.offset >= step && letter(s.bin.Data[h.offset-step])
	after := h.offset+h.size < uint64(len(s.bin.Data)) && letter(s.bin.Data[h.offset+h.size])
	return !before && !after
}

func letter(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}

// textAround returns the printable run that holds a hit, as ASCII, cut to
// maxText bytes on either side.
func (s *subject) textAround(h hit) string {
	if h.how != "" {
		return h.text
	}
	data, step := s.bin.Data, uint64(1)
	if h.wide {
		step = 2
	}
	printable := func(at uint64) bool {
		c := data[at]
		return (c == '\t' || 0x20 <= c && c < 0x7f) && (step == 1 || data[at+1] == 0)
	}
	from, to := h.offset, h.offset+h.size
	for from >= step && h.offset-from < maxText && printable(from-step) {
		from -= step
	}
	for to+step <= uint64(len(data)) && to-h.offset < maxText && printable(to) {
		to += step
	}
	var b strings.Builder
	for at := from; at < to; at += step {
		b.WriteByte(data[at])
	}
	return b.String()
}

// explain marks the imports that the runtimes of this binary take for
// themselves. All runtimes are recognised first: they do not see each other's
// work.
func (s *subject) explain() {
	var found []*runtime
	for i := range s.set.runtimes {
		if ok, _ := s.match(&s.set.runtimes[i].when); ok {
			found = append(found, &s.set.runtimes[i])
		}
	}
	for i := range s.imports {
		imp := &s.imports[i]
		if imp.source != fromTable && imp.source != fromKernel {
			continue
		}
		for _, r := range found {
			if r.imports.match(imp.name) {
				imp.explained = true
				imp.wholly = imp.wholly || r.whole
			}
		}
	}
}

func (s *subject) symbols() *nameTable {
	if s.cachedSymbols == nil {
		s.cachedSymbols = newNameTable(len(s.bin.Symbols))
		for _, sym := range s.bin.Symbols {
			s.cachedSymbols.add(sym.Name, sym.Addr)
		}
	}
	return s.cachedSymbols
}

func (s *subject) libraries() *nameTable {
	if s.cachedLibraries == nil {
		s.cachedLibraries = newNameTable(len(s.bin.Libraries))
		for _, l := range s.bin.Libraries {
			s.cachedLibraries.add(l, 0)
		}
	}
	return s.cachedLibraries
}

func (s *subject) exports() *nameTable {
	if s.cachedExports == nil {
		s.cachedExports = newNameTable(len(s.bin.Exports))
		for _, e := range s.bin.Exports {
			s.cachedExports.add(e.Name, e.Addr)
		}
	}
	return s.cachedExports
}

func (s *subject) goNames() *nameTable {
	if s.cachedGo == nil {
		s.cachedGo = newNameTable(0)
		if s.bin.GoInfo != nil {
			for _, f := range s.bin.GoInfo.Functions {
				s.cachedGo.add(f.Name, f.Addr)
			}
		}
	}
	return s.cachedGo
}

// segmentsByOffset returns segments in the order of the file.
func segmentsByOffset(list []image.Segment) []image.Segment {
	out := slices.Clone(list)
	slices.SortStableFunc(out, func(a, b image.Segment) int { return cmp.Compare(a.Offset, b.Offset) })
	return out
}
