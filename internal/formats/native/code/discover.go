package code

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// discover decides which of the places that code refers to, and that no known
// function covers, are functions: leaf functions of Windows x64, which need no
// unwind data, hand-written assembly, stubs that no table names. It adds them to
// the functions and returns the references that then count.
func (r *reader) discover() []Ref {
	if len(r.pending) == 0 {
		return nil
	}
	sortBy(r.pending, func(ref *Ref) uint64 { return ref.Target })
	refs := r.pending[:0]
	var starts []image.Function
	for i := 0; i < len(r.pending); {
		to := r.pending[i].Target
		j := i
		calls, taken := 0, 0
		for ; j < len(r.pending) && r.pending[j].Target == to; j++ {
			switch r.pending[j].Kind {
			case Call:
				calls++
			case Taken:
				taken++
			}
		}
		group := r.pending[i:j]
		i = j
		likely := calls+taken > 0 && r.startsLike(to, calls)
		if few := len(group) < 3; few && (likely || taken > 0) {
			calls, taken = 0, 0
			for k := range group {
				switch ref := &group[k]; {
				case !r.inStep(ref.Addr):
					ref.Kind = Data // bytes of another instruction
				case ref.Kind == Call:
					calls++
				case ref.Kind == Taken:
					taken++
				}
			}
			likely = likely && calls+taken > 0 && r.startsLike(to, calls)
		}
		switch {
		case likely:
			starts = append(starts, image.Function{Addr: to})
			for _, ref := range group {
				if ref.Kind != Data {
					refs = append(refs, ref)
				}
			}
		case taken > 0: // a table among the code
			for _, ref := range group {
				if ref.Kind == Taken {
					ref.Kind = Data
					refs = append(refs, ref)
				}
			}
		}
	}
	if cap(r.pending) <= maxScratchRefs {
		r.scratch.pending = r.pending
	}
	r.pending = nil
	r.c.addFunctions(starts)
	// A jump within a function that was found does not leave it.
	return slices.DeleteFunc(refs, func(ref Ref) bool {
		if ref.Kind != Jump {
			return false
		}
		fn := r.c.Func(ref.Addr)
		return fn >= 0 && r.c.Functions[fn].Addr == ref.Target
	})
}

// pointed adds the functions that only pointers in data lead to: in a binary
// without symbols and unwind data nothing else shows them.
func (r *reader) pointed() {
	var starts []image.Function
	for _, p := range r.c.Image.Pointers {
		to := p.To
		if r.c.Image.Arch == image.ARM {
			to &^= 1
		}
		if r.part(to) != nil && !r.targets.function(to) && !r.targets.covered(to) && r.startsBehind(to) {
			starts = append(starts, image.Function{Addr: to})
		}
	}
	if len(starts) > 0 {
		cases := r.cases()
		starts = slices.DeleteFunc(starts, func(f image.Function) bool {
			_, found := slices.BinarySearch(cases, f.Addr)
			return found
		})
	}
	r.c.addFunctions(starts)
}

// cases returns the places in code of x86 to which the tables of switches lead,
// in order: what a jump that adds a register to the address of a table may load
// from it.
func (r *reader) cases() []uint64 {
	m := r.c.Image
	if m.Arch != image.X86 && m.Arch != image.X86_64 {
		return nil
	}
	var named addressSet
	var tables []uint64
	parts := r.parts
	for i := range r.c.Refs {
		ref := &r.c.Refs[i]
		if ref.Kind != Data || ref.Import >= 0 {
			continue
		}
		named.expect(ref.Target)
		for len(parts) > 1 && parts[0].end() <= ref.Addr {
			parts = parts[1:]
		}
		if off := ref.Addr - parts[0].addr; off < uint64(len(parts[0].bytes)) && jumpsBy(parts[0].bytes[off:]) {
			tables = append(tables, ref.Target)
		}
	}
	if len(tables) == 0 {
		return nil
	}
	named.begin()
	for i := range r.c.Refs {
		if ref := &r.c.Refs[i]; ref.Kind == Data && ref.Import < 0 {
			named.add(ref.Target)
		}
	}
	named.end()
	slices.Sort(tables)
	var out []uint64
	for _, table := range slices.Compact(tables) {
		k, _ := slices.BinarySearchFunc(m.Pointers, table, func(p image.Pointer, at uint64) int { return cmp.Compare(p.At, at) })
		for at := table; k < len(m.Pointers) && m.Pointers[k].At == at; k++ {
			if _, other := named.search(at); other && at != table {
				break
			}
			out = append(out, m.Pointers[k].To)
			at += uint64(m.Bits / 8)
		}
	}
	slices.Sort(out)
	return out
}

// jumpsBy reports whether code begins with a jump through a table, or with what
// loads from one or names it and a jump to what that gives.
func jumpsBy(code []byte) bool {
	const near = 16
	code = code[:min(len(code), near)]
	if len(code) >= 3 && (code[0] == 0xff && code[1] == 0x24 || code[0] == 0x3e && code[1] == 0xff && code[2] == 0x24) {
		return true
	}
	for i := 4; i+1 < len(code); i++ {
		n := bytes.IndexByte(code[i:], 0xff)
		if i += n; n < 0 || i+1 == len(code) {
			return false
		}
		if code[i+1]&0xf8 == 0xe0 { // JMP r
			return true
		}
	}
	return false
}

// startsBehind reports whether something ends before addr and the code at addr
// is that of a function. Tables of a switch point to code as well.
func (r *reader) startsBehind(addr uint64) bool {
	p := r.part(addr)
	at := int(addr - p.addr)
	code := p.bytes[at:]
	switch r.c.Image.Arch {
	case image.X86_64, image.X86:
		wide := r.c.Image.Arch == image.X86_64
		s := &x86{reader: r, wide: wide, addr: p.addr, code: p.bytes}
		return (addr%16 == 0 || prologue(code)) && s.behindCode(at) && decodes(code, wide)
	case image.AArch64:
		if addr%4 != 0 || len(code) < 4 || at < 4 {
			return addr%4 == 0 && at == 0
		}
		before := binary.LittleEndian.Uint32(p.bytes[at-4:])
		return before == 0xd65f03c0 || before>>26 == 5 || before == 0xd503201f || before == 0 || before&0xfffffc1f == 0xd61f0000 || before>>21 == 0x6a1 || before == 0xd65f0bff || before == 0xd65f0fff
	case image.RISCV64, image.RISCV32:
		if addr%2 != 0 || len(code) < 4 || at < 4 {
			return addr%2 == 0 && at == 0
		}
		half := binary.LittleEndian.Uint16(p.bytes[at-2:])
		whole := binary.LittleEndian.Uint32(p.bytes[at-4:])
		return half == 0x8082 || half == 0x0001 || half == 0 || half&0xe003 == 0xa001 || whole == 0x00008067 || whole&0xfff == 0x06f || whole&0xfff == 0x067
	case image.ARM:
		return addr%2 == 0 && len(code) >= 4
	}
	return false
}

// prologue reports whether code of x86 begins by saving a register or making
// room on the stack, or with the mark for indirect branches.
func prologue(code []byte) bool {
	if len(code) <= 4 {
		return false
	}
	switch b := code[0]; {
	case b&0xf8 == 0x50:
		return true
	case b == 0x41:
		return code[1]&0xf8 == 0x50
	case b == 0x83:
		return code[1] == 0xec
	case b == 0x48:
		return code[1] == 0x83 && code[2] == 0xec
	}
	return code[0] == 0xf3 && code[1] == 0x0f && code[2] == 0x1e
}

// addFunctions adds functions, in order of address.
func (c *Code) addFunctions(starts []image.Function) {
	if len(starts) == 0 {
		return
	}
	sortBy(starts, func(f *image.Function) uint64 { return f.Addr })
	all := make([]image.Function, 0, len(c.Functions)+len(starts))
	for known := c.Functions; len(known)+len(starts) > 0; {
		var next image.Function
		if len(starts) == 0 || len(known) > 0 && known[0].Addr <= starts[0].Addr {
			next, known = known[0], known[1:]
		} else {
			next, starts = starts[0], starts[1:]
		}
		if n := len(all); n == 0 || all[n-1].Addr != next.Addr {
			all = append(all, next)
		}
	}
	c.Functions = all
}

// startsLike reports whether the code at addr looks like the start of a
// function that is called from so many places.
func (r *reader) startsLike(addr uint64, calls int) bool {
	code := r.bytes(addr)
	switch r.c.Image.Arch {
	case image.X86_64, image.X86:
	case image.RISCV64, image.RISCV32: // compressed instructions
		return (calls > 0 || r.startsBehind(addr)) && addr%2 == 0 && len(code) >= 4 && binary.LittleEndian.Uint32(code) != 0
	default:
		return (calls > 0 || r.c.Image.Arch == image.AArch64 && r.startsBehind(addr) && !r.isCase(addr)) && addr%4 == 0 && len(code) >= 4 && binary.LittleEndian.Uint32(code) != 0
	}
	wide := r.c.Image.Arch == image.X86_64
	if !decodes(code, wide) {
		return false
	}
	if calls >= 3 {
		return true
	}
	p := r.part(addr)
	if p == nil {
		return false
	}
	s := &x86{reader: r, wide: wide, addr: p.addr, code: p.bytes}
	behind := s.behindCode(int(addr - p.addr))
	return calls >= 1 && (behind || addr%16 == 0) || addr%16 == 0 && behind
}

// isCase reports whether the address at which code of A64 begins is taken for a
// jump by distances from it, which stands before it: BR.
func (r *reader) isCase(addr uint64) bool {
	p := r.part(addr)
	at := int(addr - p.addr)
	return at >= 4 && binary.LittleEndian.Uint32(p.bytes[at-4:])&0xfffffc1f == 0xd61f0000
}

// inStep reports whether an instruction begins at addr, as far as that shows
// from the bytes before, which decode into step soon. Code of other machines
// than x86 is always in step.
func (r *reader) inStep(addr uint64) bool {
	wide := r.c.Image.Arch == image.X86_64
	p := r.part(addr)
	if p == nil || !wide && r.c.Image.Arch != image.X86 {
		return true
	}
	const before = 96
	to := int(addr - p.addr)
	at := max(0, to-before)
	if f := r.targets.before(addr); f != nil && f.Addr >= p.addr+uint64(at) {
		at = int(f.Addr - p.addr)
	}
	for at < to {
		at += max(1, size(p.bytes[at:], wide))
	}
	return at == to
}

// behindCode reports whether what stands before offset at does not go on there:
// a known function, a return, a jump, or what fills gaps.
func (s *x86) behindCode(at int) bool {
	if at == 0 || s.targets.covered(s.addr+uint64(at)-1) {
		return true
	}
	switch s.code[at-1] {
	case 0xc3, 0xcc, 0x90:
		return true
	}
	if s.code[at-1] == 0 { // NOP of three, four and five bytes, or zeros
		b, c, d, e := s.before(at, 2), s.before(at, 3), s.before(at, 4), s.before(at, 5)
		if b == 0x1f && c == 0x0f || b == 0x40 && c == 0x1f && d == 0x0f || b == 0 && c == 0x44 && d == 0x1f && e == 0x0f || b == 0 && c == 0 && at >= 3 {
			return true
		}
	}
	return s.before(at, 5) == 0xe9 || s.before(at, 2) == 0xeb || s.before(at, 3) == 0xc2 || // JMP, RET n
		s.before(at, 6) == 0xff && s.before(at, 5) == 0x25 // JMP [n]
}

// part returns the part of the code that holds addr, or nil.
func (r *reader) part(addr uint64) *part {
	i := sort.Search(len(r.parts), func(i int) bool { return r.parts[i].end() > addr })
	if i == len(r.parts) || addr < r.parts[i].addr {
		return nil
	}
	return &r.parts[i]
}

// decodes reports whether code begins with instructions that a function may
// begin with, up to one that ends it or for as many as tell.
func decodes(code []byte, wide bool) bool {
	const enough = 8
	for n := range enough {
		in, ok := decode(code, wide)
		if !ok {
			return false
		}
		b := code[:in.size]
		switch op := in.op; {
		case op == 0 && in.modrm > 0 && b[in.modrm] == 0: // ADD [EAX], AL: zeros
			return false
		case op == 0xcc || op == 0xf4 || op >= 0x6c && op <= 0x6f || op >= 0xe4 && op <= 0xe7 || op >= 0xec && op <= 0xef: // INT3, HLT, IN, OUT
			return n > 0 && op == 0xcc
		case op == 0xc3 || op == 0xc2 || op == 0xe9 || op == 0xeb || op == 0x10b:
			return true
		case op == 0xff && b[in.modrm]>>3&7 == 4:
			return true
		case op == 0xff && b[in.modrm]>>3&7 == 7:
			return false
		}
		code = code[in.size:]
	}
	return true
}

// findStubs adds the jumps through slots that the parser does not name: the
// import thunks of PE files, and, in sections of stubs, second ones for the same
// slot. It does so once for all runs of code, before any is scanned.
func (r *reader) findStubs(wide bool) {
	if r.stubs {
		return
	}
	r.stubs = true
	tables := stubTables(r.c.Image)
	for _, p := range r.parts {
		s := &x86{reader: r, wide: wide, addr: p.addr, code: p.bytes}
		if r.c.Image.Format != image.PE && !inTable(tables, p.addr) {
			continue
		}
		s.eachJump(0x25, func(at int, n uint32) {
			slot := uint64(n)
			if wide {
				slot = s.target(at+6, n)
			}
			s.stub(tables, at, slot)
		})
		if base, ok := r.base(); ok && !wide {
			s.eachJump(0xa3, func(at int, n uint32) { s.stub(tables, at, uint64(n+base)) })
		}
	}
}

// findThunks adds the import thunks of PE files for ARM64: ADRP, LDR and BR of
// the same register.
func (r *reader) findThunks() {
	if r.stubs || r.c.Image.Format != image.PE {
		return
	}
	r.stubs = true
	for _, p := range r.parts {
		for i := 0; i+12 <= len(p.bytes); i += 4 {
			page, load, jump := binary.LittleEndian.Uint32(p.bytes[i:]), binary.LittleEndian.Uint32(p.bytes[i+4:]), binary.LittleEndian.Uint32(p.bytes[i+8:])
			if page&0x9f00001f != 0x90000010 || load&0xffc003ff != 0xf9400210 || jump != 0xd61f0200 {
				continue
			}
			off := int64(page>>29&3|page>>3&0x1ffffc) << 43 >> 31
			slot := (p.addr+uint64(i))&^0xfff + uint64(off) + uint64(load>>10&0xfff)<<3
			if index, ok := r.targets.at(slot); ok {
				r.targets.place(p.addr+uint64(i), index)
			}
		}
	}
}

// eachJump calls f for each JMP with that ModRM byte, with its offset and the
// four bytes behind.
func (s *x86) eachJump(modrm byte, f func(at int, n uint32)) {
	for i := 1; i+5 <= len(s.code); i++ {
		n := cursor.IndexByte(s.code[i:], modrm)
		if i += n; n < 0 || i+5 > len(s.code) {
			return
		}
		if s.code[i-1] == 0xff {
			f(i-1, le32(s.code[i+1:]))
		}
	}
}

// stub notes that the jump at offset at is a stub, if slot is known and nothing
// runs into the jump.
func (s *x86) stub(tables []span, at int, slot uint64) {
	index, ok := s.targets.at(slot)
	if !ok {
		return
	}
	start := s.stubStart(at)
	addr := s.addr + uint64(start)
	if s.targets.function(addr) || inTable(tables, addr) || !s.targets.covered(addr) && s.behindCode(start) {
		s.targets.place(addr, index)
	}
}

// stubStart steps back from a jump over the prefix and the mark for indirect
// branches that its stub may begin with.
func (s *x86) stubStart(at int) int {
	if p := s.before(at, 1); p == 0xf2 || s.wide && p == 0x48 {
		at--
	}
	if s.before(at, 4) == 0xf3 && s.before(at, 3) == 0x0f && s.before(at, 2) == 0x1e && s.before(at, 1)&0xfe == 0xfa {
		at -= 4
	}
	return at
}
