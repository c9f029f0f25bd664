package elf

import (
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// Tags of the dynamic table (gABI, "Dynamic Section"; the others from the GNU,
// Android, MIPS and PowerPC supplements).
const (
	tagNeeded        = 1
	tagPltRelSz      = 2
	tagPltGot        = 3
	tagHash          = 4
	tagStrtab        = 5
	tagSymtab        = 6
	tagRela          = 7
	tagRelaSz        = 8
	tagStrSz         = 10
	tagInit          = 12
	tagFini          = 13
	tagSoname        = 14
	tagRpath         = 15
	tagRel           = 17
	tagRelSz         = 18
	tagPltRel        = 20
	tagJmpRel        = 23
	tagInitArray     = 25
	tagFiniArray     = 26
	tagInitArraySz   = 27
	tagFiniArraySz   = 28
	tagRunpath       = 29
	tagPreinit       = 32
	tagPreinitSz     = 33
	tagRelrSz        = 35
	tagRelr          = 36
	tagAndroidRel    = 0x6000000f
	tagAndroidRelSz  = 0x60000010
	tagAndroidRela   = 0x60000011
	tagAndroidRelaSz = 0x60000012
	tagAndroidRelr   = 0x6fffe000
	tagAndroidRelrSz = 0x6fffe001
	tagGNUHash       = 0x6ffffef5
	tagVersym        = 0x6ffffff0
	tagFlags1        = 0x6ffffffb
	tagVerneed       = 0x6ffffffe
	tagVerdef        = 0x6ffffffc
	tagMIPSLocalGot  = 0x7000000a
	tagMIPSSymtabNo  = 0x70000011
	tagMIPSGotSym    = 0x70000013
	tagPPC64Opd      = 0x70000001
	tagPPC64OpdSz    = 0x70000002

	flag1PIE          = 0x08000000 // in DT_FLAGS_1: an executable
	maxDynamicEntries = 1 << 16
)

// dynamic is what the loader reads.
type dynamic struct {
	present   bool
	values    map[uint64]uint64 // by tag; of tags that repeat, the last one, as loaders have it
	needed    []uint64          // offsets of names
	names     names             // its string table
	entry     uint64            // bytes of a symbol
	maxSymbol uint32            // largest symbol index that a relocation names
}

// readDynamic reads the dynamic table and finds its strings and symbols.
func (f *file) readDynamic() {
	d := &f.dynamic
	table := f.programBytes(f.program(progDynamic))
	if table == nil {
		table = f.sectionBytes(f.sectionOfType(sectDynamic))
	}
	d.values = make(map[uint64]uint64, 32)
	word := f.size()
	for n := 0; len(table) >= 2*word && n < maxDynamicEntries; n++ {
		tag, value := f.word(table), f.word(table[word:])
		table = table[2*word:]
		if tag == 0 {
			break
		}
		d.present = true
		if tag == tagNeeded {
			d.needed = append(d.needed, value)
			continue
		}
		d.values[tag] = value
	}
	d.names = f.names(f.dynamicStrings())
	f.nameLibraries()
}

// table returns the mapped bytes of the table that a tag points to; size is
// that of its length, 0 if there is none.
func (f *file) table(tag, size uint64) []byte {
	addr, ok := f.dynamic.values[tag]
	if !ok {
		return nil
	}
	b := f.m.At(addr)
	if size == 0 {
		return b
	}
	n := f.dynamic.values[size]
	if n > uint64(len(b)) {
		f.m.Notef("dynamic table: %d bytes at address %#x, of which the file has %d", n, addr, len(b))
	}
	return b[:min(n, uint64(len(b)))]
}

// dynamicStrings returns the string table of the dynamic table, or else that of
// the section of dynamic symbols.
func (f *file) dynamicStrings() []byte {
	if b := f.table(tagStrtab, tagStrSz); len(b) > 0 {
		return b
	}
	if s := f.linked(f.sectionOfType(sectDynsym)); s != nil {
		return f.sectionBytes(s)
	}
	return f.sectionBytes(f.linked(f.sectionOfType(sectDynamic)))
}

// nameLibraries fills in what the dynamic table says by name.
func (f *file) nameLibraries() {
	d, m := &f.dynamic, f.m
	for _, off := range d.needed {
		if name, ok := d.names.at(off); ok {
			m.Libraries = append(m.Libraries, name)
		} else {
			m.Notef("needed library: no name at offset %#x", off)
		}
	}
	if off, ok := d.values[tagSoname]; ok {
		m.Name, _ = d.names.at(off)
	}
	for _, tag := range []uint64{tagRpath, tagRunpath} {
		off, ok := d.values[tag]
		if !ok {
			continue
		}
		if paths, _ := d.names.at(off); paths != "" {
			m.RunPaths = append(m.RunPaths, strings.Split(paths, ":")...)
		}
	}
}

// dynamicSymbols returns the dynamic symbol table. Nothing states its length
// but the hash tables, which need not cover all of it; then the section header
// does, and without one its neighbours and its users do.
func (f *file) dynamicSymbols() []byte {
	d := &f.dynamic
	d.entry = f.symbolSize()
	section := f.sectionOfType(sectDynsym)
	b := f.table(tagSymtab, 0)
	if len(b) == 0 {
		return f.sectionBytes(section)
	}
	if n, ok := f.hashedSymbols(); ok {
		if want := n * d.entry; want > uint64(len(b)) {
			f.m.Notef("dynamic symbols: %d promised, %d read", n, uint64(len(b))/d.entry)
		}
		return b[:min(n*d.entry, uint64(len(b)))]
	}
	if section != nil && section.addr == d.values[tagSymtab] {
		return f.sectionBytes(section)
	}
	return b[:f.guessedSymbols(b)*d.entry]
}

// hashedSymbols returns the number of dynamic symbols where a hash table or
// the MIPS supplement tells it.
func (f *file) hashedSymbols() (uint64, bool) {
	d := &f.dynamic
	if n, ok := d.values[tagMIPSSymtabNo]; ok && f.isMIPS() {
		return n & 0xffffffff, true
	}
	b := f.table(tagHash, 0) // its second word is the number of chain entries, one for each symbol
	if f.machine == machineAlpha || f.machine == machineS390 && f.wide {
		if len(b) >= 16 {
			return f.u64(b[8:]) & 0xffffffff, true
		}
	} else if len(b) >= 8 {
		return uint64(f.u32(b[4:])), true
	}
	return f.gnuHashedSymbols(f.table(tagGNUHash, 0))
}

// gnuHashedSymbols follows the chain of the last bucket to its end. Empty
// tables say nothing about symbols that are not hashed.
func (f *file) gnuHashedSymbols(b []byte) (uint64, bool) {
	if len(b) < 16 {
		return 0, false
	}
	buckets, first, bloom := uint64(f.u32(b)), uint64(f.u32(b[4:])), uint64(f.u32(b[8:]))
	at := 16 + bloom*uint64(f.size())
	list, ok := cursor.Slice(b, at, 4*buckets)
	if !ok {
		return 0, false
	}
	last := uint64(0)
	for ; len(list) >= 4; list = list[4:] {
		last = max(last, uint64(f.u32(list)))
	}
	if last < first || last == 0 {
		return 0, false
	}
	for chain := at + 4*buckets + 4*(last-first); chain+4 <= uint64(len(b)); chain += 4 {
		last++
		if f.u32(b[chain:])&1 != 0 {
			return last, true
		}
	}
	return 0, false
}

// guessedSymbols takes the symbols that relocations name, and goes on as long
// as entries look like symbols and no other table begins.
func (f *file) guessedSymbols(b []byte) uint64 {
	d := &f.dynamic
	limit := uint64(len(b)) / d.entry
	start := d.values[tagSymtab]
	for _, tag := range []uint64{tagHash, tagStrtab, tagRela, tagRel, tagJmpRel, tagGNUHash, tagVersym,
		tagVerneed, tagVerdef, tagRelr, tagAndroidRel, tagAndroidRela, tagInit, tagPltGot} {
		if addr := d.values[tag]; addr > start {
			limit = min(limit, (addr-start)/d.entry)
		}
	}
	n := min(uint64(d.maxSymbol)+1, limit)
	for ; n < limit; n++ {
		s := f.symbol(b[n*d.entry:])
		known := s.bind() == bindGlobal || s.bind() == bindWeak || s.bind() == bindUnique
		if !known || s.nameOff == 0 || uint64(s.nameOff) >= uint64(len(d.names.table)) {
			break
		}
	}
	return n
}

func (f *file) isMIPS() bool { return f.machine == machineMIPS || f.machine == machineMIPSRS3LE }

// maxName bounds one name. Mangled names of templates reach a few thousand
// bytes.
const maxName = 1 << 16

// names is a string table (gABI, "String Table") whose strings share memory.
type names struct {
	table string
	left  *int
}

func (f *file) names(b []byte) names { return names{string(b), &f.nameLeft} }

// at returns the string at off and whether there is one.
func (n names) at(off uint64) (string, bool) {
	if off >= uint64(len(n.table)) || *n.left <= 0 {
		return "", false
	}
	rest := n.table[off:]
	end := strings.IndexByte(rest[:min(len(rest), maxName+1)], 0)
	if end < 0 {
		*n.left -= min(len(rest), maxName+1)
		return "", false
	}
	*n.left -= end + 1
	return rest[:end], true
}
