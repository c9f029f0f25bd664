package native

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/formats/carve"
	measure "github.com/loupe-sec/loupe/internal/formats/native/entropy"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// maxShown is how many pieces of evidence one rule keeps for one binary: what
// a person reads, and no more.
const maxShown = 8

// maxMatched is how many names of one binary the globs of a condition find:
// more than are shown, as conditions are counted and put together.
const maxMatched = 4 * maxShown

// A proof is a piece of evidence, and the places in code that use it.
type proof struct {
	finding.Evidence
	uses []uint64 // in own code if there is any; empty if the code does not tell
}

// match reports whether a condition holds of s, and what proves it, sorted.
// A condition that holds because something is absent has no evidence.
func (s *subject) match(c *condition) (bool, []proof) {
	switch c.op {
	case opAll:
		var all []proof
		for i := range c.children {
			ok, ev := s.match(&c.children[i])
			if !ok {
				return false, nil
			}
			all = append(all, ev...)
		}
		return true, all
	case opAny:
		held := false
		var all []proof
		for i := range c.children {
			ok, ev := s.match(&c.children[i])
			held = held || ok
			all = append(all, ev...)
		}
		return held, all
	case opNot:
		ok, _ := s.match(&c.children[0])
		return !ok, nil
	case opAtLeast:
		_, ev := s.match(&condition{op: opAny, children: c.children})
		distinct := map[string]bool{}
		for _, e := range ev {
			distinct[e.Kind+" "+e.Value] = true
		}
		if len(distinct) < c.n {
			return false, nil
		}
		return true, ev
	case opNear:
		return s.matchNear(c)
	}
	if test := tests[c.op]; test != nil {
		return test(s, c.names), nil
	}
	ev := s.leaf(c)
	return len(ev) > 0, ev
}

// tests are the conditions that only narrow a rule down: they prove nothing
// about what a binary does, so they leave no evidence.
var tests = map[operator]func(*subject, names) bool{
	opFormat: func(s *subject, n names) bool { return n.match(string(s.bin.Format)) },
	opOS:     func(s *subject, n names) bool { return n.match(s.bin.OS) },
	opArch:   func(s *subject, n names) bool { return n.match(string(s.bin.Arch)) },
	opLang:   func(s *subject, n names) bool { return n.match(s.bin.Language) },
	opKind:   func(s *subject, n names) bool { return n.match(string(s.bin.Kind)) },
	opFact: func(s *subject, n names) bool {
		return slices.ContainsFunc(facts, func(f fact) bool { return n.match(f.name) && f.holds(s) })
	},
}

// leaf returns what a condition without children finds.
func (s *subject) leaf(c *condition) []proof {
	switch c.op {
	case opImport:
		return s.matchImports(c)
	case opSymbol:
		return s.called(c, "symbol", s.symbols())
	case opGo:
		return s.called(c, "go function", s.goNames())
	case opCrate:
		return c.names.among("crate", &s.crates)
	case opLibrary:
		return c.names.among("library", s.libraries())
	case opExport:
		return c.names.among("export", s.exports())
	case opString, opWord:
		return s.matchLiterals(c, "string")
	case opBytes:
		return s.matchLiterals(c, "constant")
	case opText:
		return s.matchText(c)
	case opEncoded:
		return s.matchEncoded(c)
	case opSection:
		return s.matchSections(c.section)
	}
	panic("native: no evaluation of " + string(c.op)) // the compiler lets nothing else through
}

// A nameTable maps names to addresses.
type nameTable struct {
	at    map[string]uint64
	names []string // each once; faster to go through than the map
}

func newNameTable(size int) *nameTable {
	return &nameTable{make(map[string]uint64, size), make([]string, 0, size)}
}

func (t *nameTable) add(name string, addr uint64) {
	if _, ok := t.at[name]; !ok {
		t.names = append(t.names, name)
	}
	t.at[name] = addr
}

// among returns the members of a table that are in n, each as evidence with its
// address.
func (n names) among(kind string, t *nameTable) []proof {
	var exact, hits []string
	for name := range n.exact {
		if _, ok := t.at[name]; ok {
			exact = append(exact, name)
		}
	}
	if len(n.globs) > 0 {
		for _, name := range t.names {
			if slices.ContainsFunc(n.globs, func(g string) bool { return glob(g, name) }) {
				hits = append(hits, name)
			}
		}
	}
	slices.Sort(exact)
	slices.Sort(hits)
	var out []proof
	for _, name := range append(exact, hits[:min(len(hits), maxMatched)]...) {
		e := finding.NewEvidence(kind, name)
		e.Address = address(t.at[name])
		out = append(out, proof{Evidence: e})
	}
	return out
}

func address(a uint64) string {
	if a == 0 {
		return ""
	}
	return fmt.Sprintf("%#x", a)
}

// matchImports returns each name that is taken from elsewhere once: a hostile
// file repeats an import as often as it likes.
func (s *subject) matchImports(c *condition) []proof {
	first := map[string]*imported{}
	add := func(i *imported) {
		if !s.counts(c, i) || c.from != "" && !glob(c.from, strings.ToLower(i.library)) {
			return
		}
		if old := first[i.name]; old == nil || i.compare(old) < 0 {
			first[i.name] = i
		}
	}
	for name := range c.names.exact {
		for _, at := range s.importIndex[name] {
			add(&s.imports[at])
		}
	}
	if len(c.names.globs) > 0 {
		for i := range s.imports {
			if slices.ContainsFunc(c.names.globs, func(g string) bool { return glob(g, s.imports[i].name) }) {
				add(&s.imports[i])
			}
		}
	}
	names := slices.Sorted(maps.Keys(first))
	var out []proof
	for _, name := range names[:min(len(names), maxMatched+len(c.names.exact))] {
		i := first[name]
		e := finding.NewEvidence(sourceKinds[i.source], cmp.Or(i.shown, name))
		e.From, e.Address = cmp.Or(i.how, finding.Printable(i.library, finding.MaxEvidence)), address(i.place)
		uses := i.own
		if len(uses) == 0 {
			uses = s.program.climb(i.shared)
		}
		out = append(out, proof{e, uses})
	}
	return out
}

// counts reports whether a name from elsewhere counts for a condition: own code
// must use it, as far as code can be read.
func (s *subject) counts(c *condition, i *imported) bool {
	switch {
	case c.runtime:
		return true
	case i.source != fromTable, !s.program.reliable, i.place == 0:
		return !i.explained
	case len(i.own) > 0 && len(i.shared) > 0 && !i.wholly && s.program.calledByOwn(i.own):
		return true // the runtime's own use was recognised: the others are real
	}
	if len(i.own) == 0 && len(i.shared) > 0 && s.program.standard(i.shared) {
		return false // what a standard library can do and nobody asks of it
	}
	return !i.explained && (i.used || s.loose)
}

// compare orders names by what is best shown: with a use, from the first
// library in alphabetical order.
func (i *imported) compare(o *imported) int {
	return cmp.Or(cmp.Compare(min(len(o.own), 1), min(len(i.own), 1)), cmp.Compare(i.source, o.source),
		cmp.Compare(i.library, o.library), cmp.Compare(i.place, o.place))
}

func (s *subject) matchLiterals(c *condition, kind string) []proof {
	var out []proof
	for _, l := range c.literals {
		at := s.hits[l]
		if len(at) == 0 {
			continue
		}
		value := s.set.literals[l].bytes
		if kind == "constant" {
			value = fmt.Sprintf("%x", value)
		}
		out = append(out, s.used(finding.NewEvidence(kind, value), at))
	}
	return out
}

// used adds to evidence the first of its places that code refers to, or the
// first of all.
func (s *subject) used(e finding.Evidence, at []hit) proof {
	first := s.at(e, at[0])
	for _, h := range at {
		if p := s.at(e, h); len(p.uses) > 0 {
			return p
		}
	}
	return first
}

// maxText is how many bytes around a literal a regular expression sees.
const maxText = 400

func (s *subject) matchText(c *condition) []proof {
	var out []proof
	for _, l := range c.literals {
		for _, h := range s.hits[l] {
			if m := c.like.FindString(s.textAround(h)); m != "" {
				out = append(out, s.at(finding.NewEvidence("string", m), h))
				break
			}
		}
	}
	return out
}

// at adds to evidence where in the binary it lies.
func (s *subject) at(e finding.Evidence, h hit) proof {
	p := proof{Evidence: e}
	if h.uses != nil {
		p.From, p.uses = h.how, h.uses
		return p
	}
	if sec := s.sectionAt(h.offset); sec != nil {
		p.From = finding.Printable(sec.Name, finding.MaxEvidence)
		if sec.Addr != 0 {
			at := sec.Addr + h.offset - sec.Offset
			p.Address, p.uses = address(at), s.program.usesOf(at, e.Kind == "constant" || h.how != "")
		}
	}
	if h.how != "" {
		p.From = h.how
	}
	return p
}

func (s *subject) sectionAt(offset uint64) *image.Section {
	for i := range s.bin.Sections {
		if sec := &s.bin.Sections[i]; offset >= sec.Offset && offset-sec.Offset < sec.FileSize {
			return sec
		}
	}
	return nil
}

func (s *subject) matchSections(t sectionTest) []proof {
	var out []proof
	sections, entropies := s.sections()
	for i := range sections {
		if len(out) == maxMatched {
			break // a hostile file has as many as it likes
		}
		sec := &sections[i]
		if t.name != "" && !glob(t.name, sec.Name) || sec.FileSize < t.size {
			continue
		}
		if strings.ContainsFunc(t.access, func(r rune) bool { return !strings.ContainsRune(s.access(sec), r) }) {
			continue
		}
		if t.entropy > 0 && debugging(sec.Name) {
			continue
		}
		entropy := max(entropies[i], 0)
		if entropy < t.entropy {
			continue
		}
		if t.entropy > 0 && !strings.Contains(t.access, "x") && t.entropy >= noise && s.unpacks(sec) {
			continue
		}
		value := sec.Name
		if t.entropy > 0 {
			value = fmt.Sprintf("%s (entropy %.2f, %d bytes)", sec.Name, entropy, sec.FileSize)
		}
		e := finding.NewEvidence("section", value)
		e.Address = address(sec.Addr)
		out = append(out, proof{Evidence: e})
	}
	return out
}

// noise is from how many bits a byte on a rule speaks of bytes that tell nothing.
const noise = 7.9

// unpacks reports whether a section is packed in a way that is understood: what
// it holds is looked at as a file of its own, and it is no mere noise.
func (s *subject) unpacks(sec *image.Section) bool {
	if !s.carved {
		s.carved = true
		alone := *s.bin.Image
		alone.Offset = 0 // its data are all of the file
		s.payloads, _ = carve.Find(alone.Data, []*image.Image{&alone})
	}
	return carve.Covers(s.payloads, image.Range{Offset: sec.Offset, Size: sec.FileSize})
}

// access returns what a section's bytes may be used for. All sections of a
// Mach-O segment share its access, so constants next to code count as code
// only if they are marked as instructions.
func (s *subject) access(sec *image.Section) string {
	a := sec.Access
	if s.bin.Format == image.MachO && !sec.Code {
		a &^= image.Execute
	}
	return a.String()
}

// sections returns the sections with their entropies. Segments stand in for
// those of a file without any, which is how packers leave an ELF file.
func (s *subject) sections() ([]image.Section, []float64) {
	if n := len(s.bin.Sections); n > 0 {
		measured := s.bin.Measured.Sections
		if len(measured) < n { // what follows from the image could not be worked out
			measured = make([]float64, n)
		}
		return s.bin.Sections, measured
	}
	if s.cachedSegments == nil {
		like := *s.bin.Image
		for _, g := range s.bin.Segments {
			like.Sections = append(like.Sections, image.Section{Name: "segment " + g.Access.String(), Addr: g.Addr, Size: g.Size, Offset: g.Offset, FileSize: g.FileSize, Access: g.Access})
		}
		s.cachedSegments, s.cachedEntropies = like.Sections, measure.Image(&like).Sections
	}
	return s.cachedSegments, s.cachedEntropies
}

// debugging reports whether a section holds debug information, which compilers
// compress.
func debugging(section string) bool {
	return slices.ContainsFunc([]string{".debug_", ".zdebug_", "__DWARF,", ".gnu_debug"}, func(p string) bool { return strings.HasPrefix(section, p) })
}

// A fact is what a rule may ask of a binary as a whole.
type fact struct {
	name  string
	holds func(*subject) bool
}

var facts = []fact{
	{"signed", func(s *subject) bool { return s.bin.Signed }},
	{"stripped", func(s *subject) bool { return s.bin.Stripped }},
	{"static", func(s *subject) bool { return s.bin.Linkage != image.Dynamic }},
	{"overlay", func(s *subject) bool { return s.bin.Overlay.Size >= 4096 }},
	{"writable-code", func(s *subject) bool {
		return s.bin.Kind != image.Object && slices.ContainsFunc(s.bin.Segments, func(g image.Segment) bool {
			return g.Access&(image.Write|image.Execute) == image.Write|image.Execute
		})
	}},
	{"small", func(s *subject) bool {
		return s.bin.Functions.Count <= 120 && len(s.bin.Imports) <= 80 && len(s.bin.Data) < 1<<19
	}},
	{"large", func(s *subject) bool { return len(s.bin.Data) >= 96<<10 }},
	{"broad", func(s *subject) bool { return s.bin.Functions.Count > 3000 }},
	{"huge", func(s *subject) bool { return len(s.bin.Data) >= 48<<20 }},
	{"needs-nothing", func(s *subject) bool { return len(s.bin.Libraries) == 0 }},
	{"few-imports", func(s *subject) bool { return len(s.bin.Imports) < 12 }},
	{"no-functions", func(s *subject) bool { return s.bin.Functions.Count == 0 }},
}

// called returns the functions of the binary itself that a condition names, with
// where own code calls them, and leaves out the others if it wants own code to.
func (s *subject) called(c *condition, kind string, t *nameTable) []proof {
	list := c.names.among(kind, t)
	for i := range list {
		list[i].uses = s.program.callsOf(t.at[list[i].Value])
	}
	if !c.own || !s.program.Read {
		for i := range list {
			if addr := t.at[list[i].Value]; len(list[i].uses) == 0 && addr != 0 {
				list[i].uses = s.program.leading(addr)
			}
		}
		return list
	}
	return slices.DeleteFunc(list, func(p proof) bool { return len(p.uses) == 0 })
}

// matchNear holds if all children do, of code that is close together. Evidence
// whose place in code is not known is near to everything.
func (s *subject) matchNear(c *condition) (bool, []proof) {
	found := make([][]proof, len(c.children))
	for i := range c.children {
		var ok bool
		if ok, found[i] = s.match(&c.children[i]); !ok {
			return false, nil
		}
	}
	slices.SortStableFunc(found, func(a, b []proof) int { return cmp.Compare(places(a), places(b)) })
	from := slices.IndexFunc(found, func(list []proof) bool { return places(list) > 0 })
	if from < 0 {
		return true, slices.Concat(found...)
	}
	for _, start := range found[from] {
		for _, at := range start.uses[:min(len(start.uses), maxStarts)] {
			around := s.program.around(at, c.n)
			if kept, ok := within(found, around, s.program); ok {
				return true, kept
			}
		}
	}
	return false, nil
}

// maxStarts is from how many uses of one piece of evidence near looks around.
const maxStarts = 64

// places counts the proofs that have a place in code; of a list with one that
// has none, nothing.
func places(list []proof) (n int) {
	for _, p := range list {
		if len(p.uses) == 0 {
			return 0
		}
		n += len(p.uses)
	}
	return n
}

// within keeps of each list what lies in one of the functions, and reports
// whether something of each does.
func within(found [][]proof, around map[int]bool, p *program) ([]proof, bool) {
	var kept []proof
	for _, list := range found {
		before := len(kept)
		for _, one := range list {
			if len(one.uses) > 0 {
				if one.uses = slices.DeleteFunc(slices.Clone(one.uses), func(at uint64) bool { return !around[p.Func(at)] }); len(one.uses) == 0 {
					continue
				}
			}
			kept = append(kept, one)
		}
		if len(kept) == before && len(list) > 0 {
			return nil, false
		}
	}
	return kept, true
}

// evidence returns what a report shows of proofs, each with its place in code.
func (s *subject) evidence(proofs []proof) []finding.Evidence {
	proofs = prune(proofs)
	out := make([]finding.Evidence, len(proofs))
	for i, p := range proofs {
		out[i] = p.Evidence
		if len(p.uses) > 0 {
			out[i] = s.program.locate(p.Evidence, s.program.best(p.uses))
		}
	}
	return out
}

// prune sorts evidence, drops repeats and keeps the first few. Each kind gets
// its share: the functions that a rule wants must not crowd out the text that
// tells what for.
func prune(ev []proof) []proof {
	slices.SortFunc(ev, func(a, b proof) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value), cmp.Compare(a.From, b.From), cmp.Compare(a.Address, b.Address))
	})
	ev = slices.CompactFunc(ev, func(a, b proof) bool { return a.Kind == b.Kind && a.Value == b.Value })
	if len(ev) <= maxShown {
		return ev
	}
	of := map[string]int{}
	for _, e := range ev {
		of[e.Kind]++
	}
	spare := maxShown
	for _, n := range of {
		spare -= min(n, maxShown/len(of))
	}
	shown := map[string]int{}
	return slices.DeleteFunc(ev, func(e proof) bool {
		shown[e.Kind]++
		if shown[e.Kind] <= maxShown/len(of) {
			return false
		}
		spare--
		return spare < 0
	})
}

// sentence puts what a rule says and its evidence into one sentence.
func sentence(says string, ev []finding.Evidence) string {
	var parts []string
	for _, kind := range []string{"import", "dynamic import", "encoded import", "system call", "go function", "symbol", "export", "crate", "library", "string", "encoded string", "constant", "section"} {
		var values []string
		for _, e := range ev {
			if e.Kind == kind {
				values = append(values, e.Value)
			}
		}
		if len(values) > 0 {
			parts = append(parts, phrase(kind, values))
		}
	}
	if len(parts) == 0 {
		return says + "."
	}
	if where := whereabouts(ev); where != "" {
		parts = append(parts, where)
	}
	return says + " (" + strings.Join(parts, "; ") + ")."
}

// whereabouts says which function makes use of the first evidence that has one,
// and who leads there.
func whereabouts(ev []finding.Evidence) string {
	i := slices.IndexFunc(ev, inCode)
	if i < 0 {
		return ""
	}
	text := "in " + ev[i].Function
	if r := ev[i].Reachable; r != "" && r != finding.Unreached && !strings.HasSuffix(r, " "+ev[i].Function) {
		text += ", reached from " + r
	}
	return text
}

// maxNamed is how many values of one kind a sentence names before it counts.
const maxNamed = 4

var plural = map[string]string{"library": "libraries"}

func phrase(kind string, values []string) string {
	more := len(values) - maxNamed
	switch kind {
	case "string", "encoded string":
		for i := range values {
			values[i] = fmt.Sprintf("%q", values[i])
		}
	case "constant":
		return "by its constants"
	}
	if len(values) > 1 {
		kind = cmp.Or(plural[kind], kind+"s")
	}
	text := kind + " " + strings.Join(values[:min(len(values), maxNamed)], ", ")
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
