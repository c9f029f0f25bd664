package elf

import (
	"bytes"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// findStubs finds the jumps through slots that calls of imports go to, and calls
// of functions that another file may offer first: the procedure linkage table
// in its many shapes. Where there are sections of such tables, only those are
// looked at; otherwise all code is.
func (f *file) findStubs() {
	find := f.stubFinder()
	if find == nil || len(f.slots) == 0 {
		return
	}
	target := make(map[uint64]slot, len(f.slots))
	for _, s := range f.slots {
		if s.kind != pointerSlot {
			target[s.addr] = s
		}
	}
	tables := f.stubTables()
	known := len(tables) > 0
	if !known {
		tables = f.code
	}
	for _, t := range tables {
		find(f.scan(t), t.lo, func(stub, to uint64, sure bool) {
			s, ok := target[to]
			if !ok || !known && !sure && s.kind != jumpSlot {
				return
			}
			in, out := f.joined(s)
			switch {
			case in != nil && in.Stub == 0:
				in.Stub = stub
			case out != nil && out.Stub == 0:
				out.Stub = stub
			}
		})
	}
}

// stubTables are the addresses of sections that hold stubs and nothing else.
func (f *file) stubTables() ranges {
	var r ranges
	for i := range f.sects {
		s := &f.sects[i]
		if s.flags&flagExecute != 0 && (strings.HasPrefix(s.name, ".plt") || s.name == ".iplt") {
			r = append(r, span{s.addr, s.addr + min(s.size, -s.addr-1)})
		}
	}
	return r.merge()
}

// scan returns the bytes of a range, to be gone through. Segments may show the
// same ones at many addresses, so that the file sets a limit to their sum.
func (f *file) scan(s span) []byte {
	code := f.m.At(s.lo)
	n := min(uint64(len(code)), s.hi-s.lo)
	if n > f.scanLeft {
		f.m.Notef("code: %d bytes at address %#x not looked at, segments overlap in the file", n, s.lo)
		return nil
	}
	f.scanLeft -= n
	return code[:n]
}

// A stubFinder calls found with the address of each stub in code and that of
// the slot it jumps through; sure tells that nothing else looks like that.
type stubFinder func(code []byte, addr uint64, found func(stub, slot uint64, sure bool))

func (f *file) stubFinder() stubFinder {
	switch f.machine {
	case machineX86_64:
		return stubsX86_64
	case machine386:
		return f.stubs386
	case machineAArch64:
		return f.stubsAArch64
	case machineARM:
		return f.stubsARM
	case machineRISCV:
		return f.stubsRISCV
	}
	return nil
}

const (
	endbr64 = "\xf3\x0f\x1e\xfa"
	endbr32 = "\xf3\x0f\x1e\xfb"
)

// startX86 steps back from a jump over the prefixes that belong to its stub:
// bnd, and endbr64 or endbr32 (System V ABI for x86-64, "Procedure Linkage
// Table" with indirect branch tracking).
func startX86(code []byte, at int, endbr string) int {
	if at >= 1 && code[at-1] == 0xf2 {
		at--
	}
	if at >= 4 && string(code[at-4:at]) == endbr {
		at -= 4
	}
	return at
}

// amongStubs tells a stub from a function that ends in a jump to an import: a
// stub is aligned, and another one is before it.
func amongStubs(code []byte, start int, endbr string) bool {
	jump := func(at int) bool { // or the push that the table begins with
		return at >= 0 && code[at] == 0xff && bytes.IndexByte([]byte{0x25, 0x35, 0xa3, 0xb3}, code[at+1]) >= 0
	}
	switch {
	case start%8 != 0:
		return false
	case code[start] == 0xff:
		return jump(start-8) || jump(start-16)
	}
	return start >= 16 && string(code[start-16:start-12]) == endbr
}

// stubsX86_64 finds jmp *slot(%rip), and mov slot(%rip),%r11 of tables that
// guard against branch target injection.
func stubsX86_64(code []byte, addr uint64, found func(stub, slot uint64, sure bool)) {
	for i := 0; ; i++ {
		n := cursor.Index(code[i:], []byte{0xff, 0x25})
		if n < 0 || i+n+6 > len(code) {
			break
		}
		i += n
		start := startX86(code, i, endbr64)
		found(addr+uint64(start), relative32(code[i+2:], addr+uint64(i)+6), amongStubs(code, start, endbr64))
	}
	for i := 0; ; i++ {
		n := cursor.Index(code[i:], []byte{0x4c, 0x8b, 0x1d})
		if n < 0 || i+n+8 > len(code) {
			break
		}
		i += n
		if code[i+7] == 0xe8 || code[i+7] == 0xe9 {
			found(addr+uint64(i), relative32(code[i+3:], addr+uint64(i)+7), false)
		}
	}
}

// relative32 adds a little-endian 32-bit distance to an address.
func relative32(b []byte, next uint64) uint64 {
	return next + uint64(int64(int32(uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16|uint32(b[3])<<24)))
}

// stubs386 finds jmp *slot and, in position-independent code, jmp *slot(%ebx)
// with %ebx at the global offset table (System V ABI, Intel386 supplement,
// "Procedure Linkage Table").
func (f *file) stubs386(code []byte, addr uint64, found func(stub, slot uint64, sure bool)) {
	got := f.dynamic.values[tagPltGot]
	for i := 0; ; i++ {
		n := cursor.IndexByte(code[i:], 0xff)
		if n < 0 || i+n+6 > len(code) {
			return
		}
		i += n
		base := uint64(0)
		switch code[i+1] {
		case 0x25:
		case 0xa3:
			base = got
		default:
			continue
		}
		start := startX86(code, i, endbr32)
		found(addr+uint64(start), f.address(relative32(code[i+2:], base)), amongStubs(code, start, endbr32))
	}
}

// stubsAArch64 finds adrp x16; ldr x17, [x16, #n] with bti c before it where
// branch targets are marked (ELF for the Arm 64-bit Architecture, "Procedure
// Linkage Table"). Instructions are little-endian in every file.
func (f *file) stubsAArch64(code []byte, addr uint64, found func(stub, slot uint64, sure bool)) {
	var insn layout
	for i := 0; i+8 <= len(code); i += 4 {
		adrp := insn.u32(code[i:])
		if adrp&0x9f00001f != 0x90000010 {
			continue
		}
		ldr := insn.u32(code[i+4:])
		var scale int
		switch ldr & 0xffc003ff {
		case 0xf9400211: // ldr x17, [x16, #n]
			scale = 3
		case 0xb9400211: // ldr w17, [x16, #n]
			scale = 2
		default:
			continue
		}
		pages := int64(int32(adrp>>5&0x7ffff<<2|adrp>>29&3)<<11>>11) << 12
		at := addr + uint64(i)
		stub := at
		if i >= 4 && insn.u32(code[i-4:]) == 0xd503245f { // bti c
			stub -= 4
		}
		found(stub, f.address(at&^0xfff+uint64(pages)+uint64(ldr>>10&0xfff)<<scale), true)
	}
}

// stubsRISCV finds auipc t3, n; ld t3, n(t3); jalr t1, t3 (RISC-V ELF psABI,
// "Procedure Linkage Table").
func (f *file) stubsRISCV(code []byte, addr uint64, found func(stub, slot uint64, sure bool)) {
	insn := layout{}
	load := uint32(0x000e2e03) // lw
	if f.wide {
		load = 0x000e3e03
	}
	for i := 0; i+12 <= len(code); i += 4 {
		auipc, ld := insn.u32(code[i:]), insn.u32(code[i+4:])
		if auipc&0xfff != 0xe17 || ld&0xfffff != load || insn.u32(code[i+8:]) != 0x000e0367 {
			continue
		}
		at := addr + uint64(i)
		found(at, f.address(at+uint64(int64(int32(auipc&0xfffff000)))+uint64(int64(int32(ld)>>20))), true)
	}
}

// codeLayout is how instructions are stored.
func (f *file) codeLayout() layout {
	return layout{big: f.big && !(f.machine == machineARM && f.flags&flagARMBE8 != 0) && f.machine != machineAArch64}
}

// stubsARM finds the three ways in which linkers add the distance of a slot to
// the program counter (ELF for the Arm Architecture, "Procedure Linkage
// Table"): immediates in ARM code, a word behind ARM code, a pair of moves in
// Thumb code.
func (f *file) stubsARM(code []byte, addr uint64, found func(stub, slot uint64, sure bool)) {
	insn := f.codeLayout()
	for i := 0; i+12 <= len(code); i += 4 {
		pc := addr + uint64(i)
		switch w := insn.u32(code[i:]); {
		case w&0xfffff000 == 0xe28fc000: // add ip, pc, #n
			to := pc + 8 + uint64(immediateARM(w))
			j := i + 4
			for ; j+8 <= len(code) && j < i+12 && insn.u32(code[j:])&0xfffff000 == 0xe28cc000; j += 4 { // add ip, ip, #n
				to += uint64(immediateARM(insn.u32(code[j:])))
			}
			if w := insn.u32(code[j:]); w&0xfffff000 == 0xe5bcf000 { // ldr pc, [ip, #n]!
				found(pc, f.address(to+uint64(w&0xfff)), true)
			}
		case w == 0xe59fc004 && i+16 <= len(code): // ldr ip, [pc, #4]
			add, ldr := insn.u32(code[i+4:]), insn.u32(code[i+8:])
			if (add == 0xe08cc00f || add == 0xe08fc00c) && ldr == 0xe59cf000 { // add ip, pc; ldr pc, [ip]
				found(pc, f.address(pc+12+uint64(f.u32(code[i+12:]))), true)
			}
		}
	}
	for i := 0; i+14 <= len(code); i += 2 {
		h := func(n int) uint32 { return uint32(insn.u16(code[i+2*n:])) }
		if h(0)&0xfbf0 == 0xf240 && h(1)&0x8f00 == 0x0c00 && // movw ip, #n
			h(2)&0xfbf0 == 0xf2c0 && h(3)&0x8f00 == 0x0c00 && // movt ip, #n
			h(4) == 0x44fc && h(5) == 0xf8dc && h(6) == 0xf000 { // add ip, pc; ldr.w pc, [ip]
			distance := immediateThumb(h(0), h(1)) | immediateThumb(h(2), h(3))<<16
			pc := addr + uint64(i)
			found(pc, f.address(pc+8+4+uint64(distance)), true)
		}
	}
}

// immediateARM decodes a rotated 8-bit immediate.
func immediateARM(w uint32) uint32 {
	v, turn := w&0xff, w>>8&15*2
	return v>>turn | v<<(32-turn)
}

// immediateThumb decodes the 16-bit immediate of a Thumb move.
func immediateThumb(a, b uint32) uint32 {
	return a&15<<12 | a>>10&1<<11 | b>>12&7<<8 | b&0xff
}
