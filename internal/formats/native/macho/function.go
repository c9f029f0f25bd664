package macho

import (
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// readFunctions finds where functions start: the linker's table of them if
// there is one, else compact unwind information together with symbols.
func (f *file) readFunctions() {
	var starts []uint64
	if len(f.functionStarts) > 0 {
		f.Functions.Method = "function-starts"
		starts = f.readFunctionStarts()
	} else {
		starts = f.unwindStarts()
		if len(starts) > 0 {
			f.Functions.Method = "unwind-info"
		}
		if more := f.symbolStarts(); len(more) > 0 {
			f.Functions.Method = strings.TrimPrefix(f.Functions.Method+"+symbols", "+")
			starts = append(starts, more...)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	f.fillFunctions(starts)
}

// room says whether the file is large enough for one more function. A start
// takes a byte to state, and an entry in our list much more.
func (f *file) room(starts []uint64) bool {
	most := len(f.data)/8 + 4096
	if len(starts) == most {
		f.Notef("functions: more than %d starts in a file of %d bytes; the rest is not read", most, len(f.data))
	}
	return len(starts) < most
}

// readFunctionStarts reads LC_FUNCTION_STARTS: distances from one start to the
// next, the first from the load address, up to a zero. On arm, the lowest bit
// of an address says that the function is of Thumb instructions.
func (f *file) readFunctionStarts() []uint64 {
	starts := make([]uint64, 0, min(len(f.functionStarts)/2, len(f.data)/8))
	c := cursor.New(f.functionStarts, false)
	addr := f.Base
	for c.Len() > 0 {
		delta := c.Uleb()
		if c.Err() != nil {
			f.Notef("function starts: %v", c.Err())
			break
		}
		if delta == 0 || !f.room(starts) {
			break
		}
		addr += delta
		if f.cpu == cpuARM {
			starts = append(starts, addr&^1)
			f.Modes = append(f.Modes, image.Mode{Addr: addr &^ 1, Thumb: addr&1 != 0, Start: true})
		} else {
			starts = append(starts, addr)
		}
	}
	return starts
}

// Kinds of second-level pages of compact unwind information.
const (
	unwindRegular    = 2
	unwindCompressed = 3
)

// unwindStarts reads __TEXT,__unwind_info, struct
// unwind_info_section_header. Neighbours that unwind alike share one entry, so
// there can be more functions than entries.
func (f *file) unwindStarts() []uint64 {
	b := f.Bytes(f.Section("__TEXT,__unwind_info"))
	if len(b) == 0 || f.kind == typeObject {
		return nil
	}
	c := cursor.New(b, f.big)
	version := c.U32()
	c.Skip(16) // common encodings, personalities
	index, count := c.U32(), c.U32()
	if c.Err() != nil || version != 1 {
		f.Notef("unwind info: version %d, %d bytes", version, len(b))
		return nil
	}
	var starts []uint64
	left := len(b) / 4 // entries have at least 4 bytes
	c.Seek(uint64(index))
	for i := range count {
		function, page := c.U32(), c.U32()
		c.U32() // lsdaIndexArraySectionOffset
		if c.Err() != nil {
			f.Notef("unwind info: %d of %d index entries are there", i, count)
			break
		}
		if page == 0 {
			continue // the last entry holds the end
		}
		p := cursor.New(b, f.big).Seek(uint64(page))
		kind, first, entries := p.U32(), p.U16(), p.U16()
		p.Seek(uint64(page) + uint64(first))
		for range entries {
			var offset uint32
			switch kind {
			case unwindRegular:
				offset = p.U32()
				p.U32() // encoding
			case unwindCompressed:
				offset = function + p.U32()&0xff_ffff
			default:
				f.Notef("unwind info: page of kind %d", kind)
				return starts
			}
			if left--; left < 0 {
				f.Notef("unwind info: pages overlap")
				return starts
			}
			if !f.room(starts) {
				return starts
			}
			if p.Err() != nil {
				f.Notef("unwind info: %v", p.Err())
				break
			}
			starts = append(starts, f.Base+uint64(offset))
		}
	}
	return starts
}

// symbolStarts takes the symbols and exports in code, and the entry point.
func (f *file) symbolStarts() []uint64 {
	code := f.pick(func(s *section) bool { return s.code && s.kind != sectionStubs })
	var starts []uint64
	inside := map[uint64]bool{} // names inside of functions
	for i := range f.symbols {
		s := &f.symbols[i]
		switch {
		case !s.code || !s.defined() || code.find(s.value) == nil:
		case s.desc&nAltEntry != 0:
			inside[s.value] = true
		default:
			starts = append(starts, s.value)
			if f.cpu == cpuARM {
				f.Modes = append(f.Modes, image.Mode{Addr: s.value, Thumb: s.desc&nThumb != 0, Start: true})
			}
		}
	}
	for i := range f.Exports {
		if e := &f.Exports[i]; !e.Data && e.Forward == "" && !inside[e.Addr] && code.find(e.Addr) != nil {
			starts = append(starts, e.Addr)
		}
	}
	if code.find(f.Entry) != nil {
		starts = append(starts, f.Entry)
	}
	return starts
}

// fillFunctions gives functions their names, and sizes up to the next start or
// the end of the section. Stubs are jumps that the linker made, of which no
// table lists the starts; they do not count as code to be covered.
func (f *file) fillFunctions(starts []uint64) {
	code := f.pick(func(s *section) bool { return s.code })
	list := make([]image.Function, len(starts))
	outside := 0
	var covered, total uint64
	for i, addr := range starts {
		list[i].Addr = addr
		s := code.find(addr)
		if s == nil {
			outside++
			continue
		}
		end := s.addr + s.size
		if i+1 < len(starts) {
			end = min(end, starts[i+1])
		}
		list[i].Size = end - addr
		if s.kind != sectionStubs {
			covered += list[i].Size
		}
	}
	for i := range f.Sections {
		if s := &f.sections[i]; s.code && s.kind != sectionStubs && !strings.HasSuffix(f.Sections[i].Name, ",__stub_helper") {
			total += s.size
		}
	}
	if outside > 0 {
		f.Notef("functions: %d of %d starts lie outside of code", outside, len(starts))
	}
	f.nameFunctions(list)
	f.Functions.List, f.Functions.Count = list, len(list)
	if total > 0 {
		f.Functions.Coverage = min(1, float64(covered)/float64(total))
	}
}

// nameFunctions names functions by the symbols at their starts. Of several,
// external ones go first, then those that do not look like an assembler's
// labels, then the order of the alphabet. The export trie names what a
// stripped symbol table does not.
func (f *file) nameFunctions(list []image.Function) {
	var named []*symbol
	for i := range f.symbols {
		if s := &f.symbols[i]; s.code && s.defined() && s.name != "" {
			named = append(named, s)
		}
	}
	slices.SortFunc(named, func(a, b *symbol) int {
		return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(b.kind&nExt, a.kind&nExt),
			cmp.Compare(label(a.name), label(b.name)), cmp.Compare(a.name, b.name))
	})
	for i := range list {
		for len(named) > 0 && named[0].value < list[i].Addr {
			named = named[1:]
		}
		if len(named) > 0 && named[0].value == list[i].Addr {
			list[i].Name = named[0].name
		}
	}
	if !f.hasTrie {
		return // exports are of the same table
	}
	exported := map[uint64]string{}
	for i := range f.Exports {
		if e := &f.Exports[i]; !e.Data && e.Forward == "" && exported[e.Addr] == "" {
			exported[e.Addr] = e.Name
		}
	}
	for i := range list {
		if list[i].Name == "" {
			list[i].Name = exported[list[i].Addr]
		}
	}
}

// label is 1 for the name that an assembler gives to the start of a section,
// 0 for others.
func label(name string) int {
	if strings.HasPrefix(name, "ltmp") {
		return 1
	}
	return 0
}
