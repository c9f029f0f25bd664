package code

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// discover decides which of the places that code refers to, and that no known
// function covers, are functions: leaf functions of Windows x64, which need no
// unwind data, hand-written assembly, stubs that no table names. It adds them to
// the functions and returns the references that then count, by address.
func (r *reader) discover() []Ref {
	if len(r.pending) == 0 {
		return nil
	}
	slices.SortFunc(r.pending, func(a, b Ref) int {
		if a.Target != b.Target {
			return cmp.Compare(a.Target, b.Target)
		}
		return cmp.Compare(a.Addr, b.Addr)
	})
	var refs []Ref
	var starts []image.Function
	for i := 0; i < len(r.pending); {
		j := i
		calls, taken := 0, 0
		to := r.pending[i].Target
		few := i+3 > len(r.pending) || r.pending[i+2].Target != to
		for ; j < len(r.pending) && r.pending[j].Target == to; j++ {
			switch ref := &r.pending[j]; {
			case few && !r.inStep(ref.Addr):
				ref.Kind = Data // bytes of another instruction
			case ref.Kind == Call:
				calls++
			case ref.Kind == Taken:
				taken++
			}
		}
		switch {
		case calls+taken > 0 && r.startsLike(to, calls):
			starts = append(starts, image.Function{Addr: to})
			for _, ref := range r.pending[i:j] {
				if ref.Kind != Data {
					refs = append(refs, ref)
				}
			}
		case taken > 0: // a table among the code
			for _, ref := range r.pending[i:j] {
				if ref.Kind == Taken {
					ref.Kind = Data
					refs = append(refs, ref)
				}
			}
		}
		i = j
	}
	r.pending = nil
	r.c.addFunctions(starts)
	// A jump within a function that was found does not leave it.
	refs = slices.DeleteFunc(refs, func(ref Ref) bool {
		fn := r.c.Func(ref.Addr)
		return ref.Kind == Jump && fn >= 0 && r.c.Functions[fn].Addr == ref.Target
	})
	slices.SortFunc(refs, func(a, b Ref) int { return cmp.Compare(a.Addr, b.Addr) })
	return refs
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
		starts = slices.DeleteFunc(starts, func(f image.Function) bool { return cases[f.Addr] })
	}
	r.c.addFunctions(starts)
}

// cases returns the places in code of x86 to which the tables of switches lead:
// what a jump that adds a register to the address of a table may load from it.
func (r *reader) cases() map[uint64]bool {
	m := r.c.Image
	if m.Arch != image.X86 && m.Arch != image.X86_64 {
		return nil
	}
	named := map[uint64]bool{}
	var tables []uint64
	for i := range r.c.Refs {
		ref := &r.c.Refs[i]
		if ref.Kind != Data || ref.Import >= 0 {
			continue
		}
		named[ref.Target] = true
		if jumpsBy(r.bytes(ref.Addr)) {
			tables = append(tables, ref.Target)
		}
	}
	out := map[uint64]bool{}
	for _, table := range tables {
		k, _ := slices.BinarySearchFunc(m.Pointers, table, func(p image.Pointer, at uint64) int { return cmp.Compare(p.At, at) })
		for at := table; k < len(m.Pointers) && m.Pointers[k].At == at && (at == table || !named[at]); k++ {
			out[m.Pointers[k].To] = true
			at += uint64(m.Bits / 8)
		}
	}
	return out
}

// jumpsBy reports whether code begins with a jump through a table, or with what
// loads from one or names it and a jump to what that gives.
func jumpsBy(code []byte) bool {
	const near = 16
	code = code[:min(len(code), near)]
	if bytes.HasPrefix(code, []byte{0xff, 0x24}) || bytes.HasPrefix(code, []byte{0x3e, 0xff, 0x24}) {
		return true
	}
	for i := 4; i+1 < len(code); i++ {
		if code[i] == 0xff && code[i+1]&0xf8 == 0xe0 { // JMP r
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
		if !decodes(code, wide) || !s.behindCode(at) {
			return false
		}
		return addr%16 == 0 || len(code) > 4 && (code[0]&0xf8 == 0x50 || code[0] == 0x41 && code[1]&0xf8 == 0x50 || code[0] == 0x83 && code[1] == 0xec || code[0] == 0x48 && code[1] == 0x83 && code[2] == 0xec || code[0] == 0xf3 && code[1] == 0x0f && code[2] == 0x1e)
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

// addFunctions adds functions, in order of address.
func (c *Code) addFunctions(starts []image.Function) {
	if len(starts) == 0 {
		return
	}
	all := make([]image.Function, 0, len(c.Functions)+len(starts))
	all = append(append(all, c.Functions...), starts...)
	slices.SortStableFunc(all, func(a, b image.Function) int { return cmp.Compare(a.Addr, b.Addr) })
	c.Functions = slices.CompactFunc(all, func(a, b image.Function) bool { return a.Addr == b.Addr })
	c.indexFunctions()
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
		if in, ok := decode(p.bytes[at:], wide); ok {
			at += in.size
		} else {
			at++
		}
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
	before := s.code[:at]
	for _, nop := range []string{"\x0f\x1f\x00", "\x0f\x1f\x40\x00", "\x0f\x1f\x44\x00\x00"} {
		if bytes.HasSuffix(before, []byte(nop)) {
			return true
		}
	}
	return s.before(at, 5) == 0xe9 || s.before(at, 2) == 0xeb || s.before(at, 3) == 0xc2 || // JMP, RET n
		s.before(at, 6) == 0xff && s.before(at, 5) == 0x25 || // JMP [n]
		at >= 3 && s.code[at-1] == 0 && s.code[at-2] == 0 && s.code[at-3] == 0
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
		n := bytes.IndexByte(s.code[i:], modrm)
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
