package elf

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A slot is a pointer that the loader fills with the address of a symbol.
type slot struct {
	addr   uint64
	addend int64
	sym    uint32 // index in the dynamic symbol table
	kind   slotKind
}

// A slotKind says what a slot is for, the best for calls first.
type slotKind uint8

const (
	jumpSlot    slotKind = iota // of the procedure linkage table
	globalSlot                  // of the global offset table
	pointerSlot                 // in other data
)

// kinds are the numbers of the relocations of one machine that matter here; 0
// where it has none.
type kinds struct{ jump, global, pointer, relative, indirect uint32 }

// relocationKinds returns the numbers from the processor's supplement.
func (f *file) relocationKinds() kinds {
	pick := func(wide, narrow kinds) kinds {
		if f.wide {
			return wide
		}
		return narrow
	}
	switch f.machine {
	case machineX86_64:
		return pick(kinds{7, 6, 1, 8, 37}, kinds{7, 6, 10, 8, 37})
	case machine386, machineIAMCU:
		return kinds{7, 6, 1, 8, 42}
	case machineAArch64:
		return pick(kinds{1026, 1025, 257, 1027, 1032}, kinds{182, 181, 1, 183, 188})
	case machineARM:
		return kinds{22, 21, 2, 23, 160}
	case machineRISCV:
		return pick(kinds{5, 0, 2, 3, 58}, kinds{5, 0, 1, 3, 58})
	case machinePPC64:
		return kinds{21, 20, 38, 22, 248}
	case machinePPC:
		return kinds{21, 20, 1, 22, 248}
	case machineS390:
		return pick(kinds{11, 10, 22, 12, 61}, kinds{11, 10, 4, 12, 61})
	case machineMIPS, machineMIPSRS3LE:
		return kinds{127, 51, 3, 0, 128} // R_MIPS_REL32 is relative without a symbol
	case machineLoongArch:
		return pick(kinds{5, 0, 2, 3, 12}, kinds{5, 0, 1, 3, 12})
	case machineSPARCV9:
		return kinds{0, 20, 32, 22, 249} // R_SPARC_JMP_SLOT rewrites code
	}
	return kinds{}
}

// A relocation is one entry of a relocation table.
type relocation struct {
	addr     uint64
	typ, sym uint32
	addend   int64
	explicit bool // the addend stands in the table, not at the address
}

// readRelocations goes once over the tables of the loader (gABI, "Relocation").
func (f *file) readRelocations() {
	f.relative = map[uint64]uint64{}
	if f.machine == machinePPC64 && f.big {
		f.opd = f.descriptors()
	}
	k := f.relocationKinds()
	got := f.sectionNamed(".got")
	rebase := f.machine == machineARM
	for _, s := range f.m.Segments {
		f.mapped = append(f.mapped, span{s.Addr, s.Addr + min(max(s.Size, s.FileSize), -s.Addr-1)})
	}
	f.mapped = f.mapped.merge()
	visit := func(r relocation) {
		if r.sym == 0 {
			if r.typ != 0 && (r.typ == k.relative || r.typ == k.indirect || f.isMIPS() && r.typ == k.pointer) {
				f.pointRelative(r)
			}
			if rebase && r.typ == k.relative && len(f.rebased) < maxSlots {
				f.rebased = append(f.rebased, r.addr)
			}
			if r.explicit && r.typ == k.relative && r.addr >= f.opd.lo && r.addr < f.opd.hi {
				f.relative[r.addr] = f.address(uint64(r.addend))
			}
			return
		}
		f.dynamic.maxSymbol = max(f.dynamic.maxSymbol, r.sym)
		if r.typ == 0 || len(f.slots) == maxSlots {
			return
		}
		switch r.typ {
		case k.jump:
			f.slots = append(f.slots, slot{r.addr, r.addend, r.sym, jumpSlot})
		case k.global:
			f.slots = append(f.slots, slot{r.addr, r.addend, r.sym, globalSlot})
		case k.pointer:
			kind := pointerSlot
			if b := f.m.At(r.addr); !r.explicit && len(b) >= f.size() {
				r.addend = f.signed(f.word(b))
			}
			if got != nil && r.addr-got.addr < got.size {
				kind = globalSlot
			}
			f.slots = append(f.slots, slot{r.addr, r.addend, r.sym, kind})
		}
	}
	for _, t := range []struct{ at, size uint64 }{{tagRela, tagRelaSz}, {tagRel, tagRelSz}, {tagJmpRel, tagPltRelSz}} {
		explicit := t.at == tagRela || t.at == tagJmpRel && f.dynamic.values[tagPltRel] == tagRela
		f.eachRelocation(f.table(t.at, t.size), explicit, visit)
	}
	f.eachPacked(f.table(tagAndroidRel, tagAndroidRelSz), false, visit)
	f.eachPacked(f.table(tagAndroidRela, tagAndroidRelaSz), true, visit)
	f.eachRelative(f.table(tagRelr, tagRelrSz), visit)
	f.eachRelative(f.table(tagAndroidRelr, tagAndroidRelrSz), visit)
	if !f.dynamic.present && f.typ != typeRel { // a static executable applies its own, which choose between variants of functions
		for i := range f.sects {
			if s := &f.sects[i]; s.flags&flagAlloc != 0 && (s.typ == sectRela || s.typ == sectRel) {
				f.eachRelocation(f.sectionBytes(s), s.typ == sectRela, visit)
			}
		}
	}
	f.globalMIPS()
}

// eachRelocation reads Rel or Rela entries.
func (f *file) eachRelocation(b []byte, explicit bool, visit func(relocation)) {
	word := f.size()
	size := 2 * word
	if explicit {
		size = 3 * word
	}
	for ; len(b) >= size; b = b[size:] {
		r := relocation{addr: f.word(b), explicit: explicit}
		r.typ, r.sym = f.relocationInfo(f.word(b[word:]))
		if explicit {
			r.addend = f.signed(f.word(b[2*word:]))
		}
		visit(r)
	}
}

func (f *file) signed(v uint64) int64 {
	if f.wide {
		return int64(v)
	}
	return int64(int32(v))
}

// relocationInfo splits r_info. 64-bit MIPS has three types in it, the first of
// which in little-endian files comes last; SPARC V9 has data beside the type.
func (f *file) relocationInfo(v uint64) (typ, sym uint32) {
	switch {
	case !f.wide:
		return uint32(v & 0xff), uint32(v >> 8)
	case f.isMIPS() && !f.big:
		return uint32(v >> 56), uint32(v)
	case f.isMIPS() || f.machine == machineSPARCV9:
		return uint32(v & 0xff), uint32(v >> 32)
	}
	return uint32(v), uint32(v >> 32)
}

// eachRelative reads Relr entries, which name no symbol (gABI, "Relocation":
// "Relative Relocation Table"): an even word is an address, an odd one a bitmap
// of the words behind the last address.
func (f *file) eachRelative(b []byte, visit func(relocation)) {
	r := relocation{typ: f.relocationKinds().relative}
	word := uint64(f.size())
	var next uint64
	left := len(f.data) / f.size() // each entry fills a pointer of its own
	for ; uint64(len(b)) >= word && left > 0; b = b[word:] {
		v := f.word(b)
		if v&1 == 0 {
			r.addr = v
			visit(r)
			left--
			next = v + word
			continue
		}
		for i := uint64(0); v > 1; i++ {
			if v >>= 1; v&1 != 0 {
				r.addr = f.address(next + i*word)
				visit(r)
				left--
			}
		}
		next += (8*word - 1) * word
	}
}

// eachPacked reads Android's packed relocations: signed LEB128 numbers in
// groups of entries that have offset distance, info or addend in common
// (Bionic, "Android changes for NDK developers": relocation packing).
func (f *file) eachPacked(b []byte, explicit bool, visit func(relocation)) {
	if len(b) == 0 {
		return
	}
	const (
		sameInfo = 1 << iota
		sameStep
		sameAddend
		hasAddend
	)
	if !bytes.HasPrefix(b, []byte("APS2")) {
		f.m.Notef("packed relocations: unknown encoding")
		return
	}
	c := f.cursor(b).Skip(4)
	// Entries may take no bytes at all, but each fills a pointer of its own.
	left := min(c.Sleb(), int64(len(f.data)/f.size()))
	r := relocation{addr: uint64(c.Sleb()), explicit: explicit}
	for left > 0 && c.Err() == nil {
		count, flags := c.Sleb(), c.Sleb()
		if count <= 0 {
			break
		}
		var step int64
		if flags&sameStep != 0 {
			step = c.Sleb()
		}
		if flags&sameInfo != 0 {
			r.typ, r.sym = f.relocationInfo(uint64(c.Sleb()))
		}
		if flags&(hasAddend|sameAddend) == hasAddend|sameAddend {
			r.addend += c.Sleb()
		} else if flags&hasAddend == 0 {
			r.addend = 0
		}
		for ; count > 0 && left > 0 && c.Err() == nil; count-- {
			left--
			if flags&sameStep == 0 {
				step = c.Sleb()
			}
			r.addr = f.address(r.addr + uint64(step))
			if flags&sameInfo == 0 {
				r.typ, r.sym = f.relocationInfo(uint64(c.Sleb()))
			}
			if flags&(hasAddend|sameAddend) == hasAddend {
				r.addend += c.Sleb()
			}
			if c.Err() == nil {
				visit(r)
			}
		}
	}
	if err := c.Err(); err != nil {
		f.m.Notef("packed relocations: %v", err)
	}
}

// globalMIPS lists the global part of the MIPS global offset table, whose
// entries stand for the last symbols in their order (MIPS ABI supplement,
// "Global Offset Table").
func (f *file) globalMIPS() {
	d := f.dynamic.values
	got, first, count := d[tagPltGot], d[tagMIPSGotSym], d[tagMIPSSymtabNo]
	if !f.isMIPS() || got == 0 || first == 0 || count > math.MaxUint32 {
		return
	}
	at := got + d[tagMIPSLocalGot]*uint64(f.size())
	room := uint64(len(f.m.At(at)) / f.size())
	for i := first; i < count && i-first < room; i++ {
		f.slots = append(f.slots, slot{addr: at + (i-first)*uint64(f.size()), sym: uint32(i), kind: globalSlot})
	}
}

const (
	maxSlots     = 1 << 21 // of a file
	maxMoreSlots = 1 << 16 // of an import
)

// joinSlots gives imports their slots, and exports those through which the file
// uses them itself.
func (f *file) joinSlots() {
	f.slots = slices.DeleteFunc(f.slots, func(s slot) bool { return s.sym >= uint32(len(f.outer)) || f.outer[s.sym] == 0 })
	slices.SortStableFunc(f.slots, func(a, b slot) int { return cmp.Compare(a.kind, b.kind) })
	for _, s := range f.slots {
		in, out := f.joined(s)
		switch {
		case out != nil && out.Slot == 0 && s.kind != pointerSlot:
			out.Slot = s.addr
		case out != nil:
		case in.Slot == 0:
			in.Slot = s.addr
		case in.Slot != s.addr && len(in.MoreSlots) < maxMoreSlots:
			in.MoreSlots = append(in.MoreSlots, s.addr)
		}
	}
}

// joined returns the import or the export that a slot is for.
func (f *file) joined(s slot) (*image.Import, *image.Export) {
	n := f.outer[s.sym]
	if n < 0 {
		return nil, &f.m.Exports[-n-1]
	}
	return &f.m.Imports[n-1], nil
}
