package code

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// x86 is the scan of one run of code of x86-64 or x86.
type x86 struct {
	*reader
	wide    bool
	addr    uint64
	code    []byte
	entries []int  // offsets of bytes that would enter the kernel, if an instruction begins there
	sets    []set  // where position-independent code of x86 gets the address of its global offset table, in order
	top     uint64 // in each byte, the bits of the highest byte of a distance that equal the one before, if it leads into the image
}

func scanX86_64(r *reader, addr uint64, code []byte) {
	s := &x86{reader: r, wide: true, addr: addr, code: code}
	s.scan()
}

func scanX86(r *reader, addr uint64, code []byte) {
	s := &x86{reader: r, addr: addr, code: code}
	s.scan()
}

// scan goes over the code in windows, each of them once for what is relative to
// the instruction and once for absolute addresses, so that references come
// nearly in order.
func (s *x86) scan() {
	s.findStubs(s.wide)
	s.findTop()
	abs := s.newAbsolute()
	const window = 64 << 10
	for lo := 0; lo < len(s.code); lo += window {
		hi := min(lo+window, len(s.code))
		first := len(s.c.Refs)
		s.distances(lo, hi)
		s.findEntries(lo, hi)
		if second := len(s.c.Refs); abs != nil {
			s.first = second
			abs.scan(lo, hi)
			s.dropWithin(first, second)
			mergeRefs(s.c.Refs[first:], second-first)
			for i := max(first, 1); i < len(s.c.Refs) && s.c.Refs[i-1].Addr > s.c.Refs[i].Addr; i++ {
				s.c.sink(0, i) // an instruction that begins in the window before
			}
			s.first = 0
		}
	}
	s.systemCalls()
}

// dropWithin drops references from second on that begin within an instruction
// of those from first up to second: the bytes of a distance are no operand.
func (s *x86) dropWithin(first, second int) {
	const shortest = 5
	sure, kept := s.c.Refs[first:second], second
	for _, ref := range s.c.Refs[second:] {
		for len(sure) > 0 && sure[0].Addr+shortest <= ref.Addr {
			sure = sure[1:]
		}
		if len(sure) == 0 || ref.Addr <= sure[0].Addr {
			s.c.Refs[kept] = ref
			kept++
		}
	}
	s.c.Refs = s.c.Refs[:kept]
}

// findTop sets top. What is relative leads to a mapped address from an address
// of this run, so that the highest bits of the distance are all the same.
func (s *x86) findTop() {
	mem := &s.targets.memory
	far := max(s.addr+uint64(len(s.code))+8-min(mem.lo, s.addr), max(mem.hi, s.addr)-s.addr)
	same := uint64(0xfe)
	for n := far >> 24; n > 0; n >>= 1 {
		same = same << 1 & 0xff
	}
	s.top = same * ones
	if !s.wide {
		s.top = 0 // addresses wrap
	}
}

// Words of eight equal bytes.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// zeros returns a word with the high bit set in each byte of x that is zero. It
// may be set as well in a 01 above such a byte.
func zeros(x uint64) uint64 { return (x - ones) & ^x & highs }

// distances looks at code from lo up to before hi for what is relative to the
// instruction, eight bytes at a time: CALL and JMP rel32 (E8, E9), the ModRM
// byte of an operand that is a displacement of 32 bits without a register, and
// Jcc rel32 (0F 80 to 0F 8F), if the four bytes behind may be a distance in
// the image (Intel 64 and IA-32 Architectures Software Developer's Manual,
// volume 2, tables 2-2, A-2 and A-3).
func (s *x86) distances(lo, hi int) {
	code := s.code
	modrm := uint64(0x05 * ones)
	if !s.wide {
		modrm = ^uint64(0) // no byte less some of its bits is this
	}
	i := lo
	for ; i < hi && i+16 <= len(code); i += 8 {
		b := code[i : i+16 : i+16]
		at0 := binary.LittleEndian.Uint64(b)
		at1 := binary.LittleEndian.Uint64(b[1:])
		at4 := binary.LittleEndian.Uint64(b[4:])
		at5 := binary.LittleEndian.Uint64(b[5:])
		near := (at4 ^ at4<<1) & s.top
		call := at0&(0xfe*ones) ^ 0xe8*ones | near
		operand := at0&(0xc7*ones) ^ modrm | near
		branch := at0 ^ 0x0f*ones | at1&(0xf0*ones) ^ 0x80*ones | (at5^at5<<1)&s.top
		found := zeros(call) | zeros(operand) | zeros(branch)
		for ; found != 0; found &= found - 1 {
			s.candidate(i + bits.TrailingZeros64(found)/8)
		}
	}
	for ; i < min(hi, len(code)-4); i++ {
		s.candidate(i)
	}
}

// target is where a distance leads from the instruction that ends at end.
func (s *x86) target(end int, distance uint32) uint64 {
	to := s.addr + uint64(end) + uint64(int64(int32(distance)))
	if !s.wide {
		to = uint64(uint32(to))
	}
	return to
}

// candidate looks at the byte at i, behind which there are at least four more.
func (s *x86) candidate(i int) {
	b := s.code[i:]
	switch op := b[0]; {
	case op == 0xe8:
		to := s.target(i+5, le32(b[1:]))
		if to == s.addr+uint64(i)+5 { // of the next instruction, which pops its own address
			if !s.wide {
				s.ownsAddress(i)
			}
			return
		}
		if !s.wide {
			s.ownsAddress(i)
		}
		if marks := s.targets.marks.get(to); marks != 0 {
			s.transfer(i, to, Call, marks)
		} else if s.targets.code(to) && !s.targets.covered(to) {
			s.wait(Ref{s.addr + uint64(i), to, -1, Call})
		}
	case op == 0xe9:
		to := s.target(i+5, le32(b[1:]))
		if marks := s.targets.marks.get(to); marks != 0 {
			s.jump(i, to, marks)
		} else if s.targets.code(to) && !s.targets.covered(to) {
			s.wait(Ref{s.addr + uint64(i), to, -1, Jump})
		}
	case op == 0x0f:
		if len(b) >= 6 && b[1]&0xf0 == 0x80 {
			to := s.target(i+6, le32(b[2:]))
			if marks := s.targets.marks.get(to); marks != 0 {
				s.jump(i, to, marks)
			}
		}
	case op&0xc7 == 0x05 && s.wide && i > 0:
		s.relativeOperand(i, le32(b[1:]))
	}
}

// ownsAddress notes that the call at i is of a function that returns its own address,
// from which code gets that of the global offset table.
func (s *x86) ownsAddress(i int) {
	if i+16 < len(s.code) {
		if reg, _, ok := s.ownAddress(i); ok {
			s.sets = append(s.sets, set{s.addr + uint64(i), reg})
		}
	}
}

// transfer records a call or jump to a function or stub. A stub that is among
// the image's functions too stands for what it leads to.
func (s *x86) transfer(i int, to uint64, kind Kind, marks uint8) {
	if marks&markPlace != 0 {
		s.add(s.reference(i, to, kind))
		return
	}
	s.add(Ref{s.addr + uint64(i), to, -1, kind})
}

func (s *x86) reference(i int, to uint64, kind Kind) Ref {
	imp := int32(-1)
	if target, n, ok := s.targets.through(to); ok {
		to, imp = target, n
	}
	return Ref{s.addr + uint64(i), to, imp, kind}
}

// jump records a jump to a function or stub, if it leaves the function that it
// stands in.
func (s *x86) jump(i int, to uint64, marks uint8) {
	at := s.addr + uint64(i)
	if to > at || s.targets.between(to, at) {
		s.transfer(i, to, Jump, marks)
	}
}

// relativeOperand looks at the ModRM byte at i of an operand that is relative
// to the instruction (SDM volume 2, section 2.2.1.6). What counts is what loads
// or takes an address, calls or jumps through a pointer, or reads a vector;
// numbers in variables do not.
func (s *x86) relativeOperand(i int, distance uint32) {
	op := s.code[i-1]
	switch op {
	case opLEA, opLoad:
		if i >= 2 && s.code[i-2]&0xf8 == 0x48 {
			s.operand(i-2, op, 0, s.target(i+4+1, distance))
		}
	case opGroup5:
		if reg := s.code[i] >> 3; reg == 2 || reg == 4 || reg == 6 {
			at := i - 1
			if s.before(at, 1) == 0x48 && (reg == 4 || reg == 2 && bytes.HasPrefix(s.code[min(i+5, len(s.code)):], importPadding)) {
				at--
			}
			s.operand(at, op, reg, s.target(i+5, distance))
		}
	default:
		if n, immediate, scalar := vectorOperand(s.code[max(0, i-6):i]); n > 0 {
			to := s.target(i+5+immediate, distance)
			if _, _, ok := s.targets.through(to); ok || !scalar {
				s.operand(i-n, op, 0, to)
			}
		}
	}
}

// importPadding is what compilers for Windows put behind the call of an import,
// which has a REX prefix then, so that both can be rewritten as one.
var importPadding = []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}

// The opcodes with operands that count.
const (
	opStore  = 0x89
	opLoad   = 0x8b
	opLEA    = 0x8d
	opGroup5 = 0xff // CALL /2, JMP /4, PUSH /6
)

// operand records an operand in memory, of the instruction at offset at.
func (s *x86) operand(at int, op, reg byte, to uint64) {
	ref := Ref{s.addr + uint64(at), to, -1, Data}
	if target, imp, ok := s.targets.through(to); ok {
		ref.Target, ref.Import = target, imp
		switch {
		case op == opGroup5 && reg == 2:
			ref.Kind = Call
		case op == opGroup5 && reg == 4:
			if s.inStub(at) {
				return
			}
			ref.Kind = Jump
		case imp >= 0 || s.targets.function(target):
			if op == opLoad && s.inStub(at) {
				return
			}
			ref.Kind = Taken
		}
		s.add(ref)
		return
	}
	switch {
	case op == opLEA && s.targets.function(to):
		ref.Kind = Taken
		s.add(ref)
	case s.targets.data(to):
		s.add(ref)
	case op == opLEA && s.targets.code(to) && !s.targets.covered(to):
		ref.Kind = Taken
		s.wait(ref)
	}
}

// inStub reports whether the instruction at offset at is that of a stub: it
// stands at its start, or behind the marks that may stand there.
func (s *x86) inStub(at int) bool {
	addr := s.addr + uint64(at)
	if _, ok := s.targets.at(addr); ok {
		return true
	}
	_, ok := s.targets.at(s.addr + uint64(s.stubStart(at)))
	return ok
}

// vectorOperand reads backwards what stands before a ModRM byte: an SSE, AVX or
// AVX-512 opcode that reads memory. It returns how far before it the
// instruction starts, or 0 if there is none, how many bytes of immediate stand
// behind, and whether only a number is read.
func vectorOperand(b []byte) (n, immediate int, scalar bool) {
	if len(b) < 3 {
		return 0, 0, false
	}
	op := b[len(b)-1]
	prefixed := func(n int) (int, byte) { // n bytes and a REX and a mandatory prefix before them
		if k := len(b) - n - 1; k >= 0 && b[k]&0xf0 == 0x40 {
			n++
		}
		if k := len(b) - n - 1; k >= 0 && (b[k] == 0x66 || b[k] == 0xf3 || b[k] == 0xf2) {
			return n + 1, b[k]
		}
		return n, 0
	}
	var prefix byte
	space := byte(1)
	switch b2, b3 := b[len(b)-2], b[len(b)-3]; {
	case b2 == 0x0f:
		n, prefix = prefixed(2)
	case b3 == 0x0f && b2 == 0x38:
		n, prefix = prefixed(3)
		space = 2
	case b3 == 0x0f && b2 == 0x3a:
		n, prefix = prefixed(3)
		space = 3
	case b3 == 0xc5 && (len(b) < 4 || !testsOrMoves[b[len(b)-4]]): // or it is a ModRM byte itself
		n, prefix = 3, mandatory[b2&3]
	case len(b) >= 4 && b[len(b)-4] == 0xc4 && b3&0x60 == 0x60 && b3&0x1f-1 < 3:
		n, prefix, space = 4, mandatory[b2&3], b3&0x1f
	case len(b) >= 5 && b[len(b)-5] == 0x62 && b[len(b)-4]&0x68 == 0x60 && b[len(b)-4]&7-1 < 3 && b3&4 != 0:
		n, prefix, space = 5, mandatory[b3&3], b[len(b)-4]&7
	default:
		return 0, 0, false
	}
	switch space {
	case 1:
		switch {
		case op == 0x10 || op == 0x12 || op >= 0x14 && op <= 0x16 || op == 0x28 || op >= 0x51 && op <= 0x6f || op == 0x74 || op == 0x75 || op == 0x76 || op == 0x7e || op >= 0xd0:
		case op == 0x70 || op == 0xc2 || op == 0xc6:
			immediate = 1
		default:
			return 0, 0, false
		}
		scalar = prefix == 0xf2 || prefix == 0xf3 && op != 0x6f || op == 0x7e
	case 3:
		immediate = 1
	}
	return n, immediate, scalar
}

// testsOrMoves are the opcodes behind which C5 is most often met as a ModRM byte.
var testsOrMoves = [256]bool{0x84: true, 0x85: true, 0x88: true, 0x89: true, 0x8a: true, 0x8b: true, 0xf6: true, 0xf7: true}

// mandatory are the prefixes that the pp field of VEX and EVEX stands for.
var mandatory = [4]byte{0, 0x66, 0xf3, 0xf2}
