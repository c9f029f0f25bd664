package code

import (
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// scanWasm reads the code section of a module (WebAssembly Core Specification,
// "Instructions", with the proposals for threads, exceptions, garbage
// collection and tail calls). Instructions name functions by number, and
// addresses in the module's memory, of which references have the place in the
// file. What a number is for, the instruction behind it tells.
func scanWasm(r *reader, addr uint64, code []byte) {
	m := r.c.Image
	i := sort.Search(len(m.Modules), func(i int) bool { return m.Modules[i].Code.Offset >= addr })
	if i == len(m.Modules) || m.Modules[i].Code.Offset != addr {
		return
	}
	s := &sweepWasm{reader: r, module: &m.Modules[i], addr: addr, code: code, memory: m.Modules[i].Memory}
	list := m.Functions.List
	lo := sort.Search(len(list), func(i int) bool { return list[i].Addr >= addr })
	hi := sort.Search(len(list), func(i int) bool { return list[i].Addr >= addr+uint64(len(code)) })
	s.bodies = list[lo:hi]
	s.table = s.firstElement(i)
	if len(s.module.Passive) > 0 {
		s.filling = true
		s.run()
		s.filling = false
		sort.SliceStable(s.memory, func(i, j int) bool { return s.memory[i].Addr < s.memory[j].Addr })
	}
	s.run()
}

// A sweepWasm goes through the functions of a module.
type sweepWasm struct {
	*reader
	module  *image.WasmModule
	addr    uint64
	code    []byte
	bodies  []image.Function
	memory  []image.Segment
	table   uint64 // where the first function of its tables is named, 0 if they have none
	filling bool   // only what puts data into memory is looked for

	chosen bool // this function has called through a table

	i   int // offset in code
	end int // of the function
	bad bool

	// The last numbers on the stack, and what was before them: only of
	// instructions that follow each other.
	numbers [3]number
	count   int
	global  int64 // that the instruction before read, -1 if it did not
}

// A number is a constant that an instruction put on the stack.
type number struct {
	at, value uint64
	global    int64 // read by the instruction before, -1 if none
}

func (s *sweepWasm) run() {
	for i := range s.bodies {
		f := &s.bodies[i]
		s.i = int(f.Addr - s.addr)
		s.end = s.i + int(min(f.Size, uint64(len(s.code)-s.i)))
		s.bad, s.count, s.global, s.chosen = false, 0, -1, false
		s.locals()
		for s.i < s.end && !s.bad {
			s.instruction()
		}
	}
}

// firstElement returns where the element section of module i has its first
// function: in front of the code, and behind that of the module before.
func (s *sweepWasm) firstElement(i int) uint64 {
	from := uint64(0)
	if i > 0 {
		before := &s.c.Image.Modules[i-1].Code
		from = before.Offset + before.Size
	}
	p := s.c.Image.Pointers
	k := sort.Search(len(p), func(k int) bool { return p[k].At >= from })
	if k == len(p) || p[k].At >= s.addr {
		return 0
	}
	return p[k].At
}

// throughTable records a call of a function that a table holds: it may be any.
func (s *sweepWasm) throughTable(at uint64) {
	if s.table != 0 && !s.chosen && !s.filling {
		s.add(Ref{at, s.table, -1, Data})
		s.chosen = true
	}
}

func (s *sweepWasm) byte() byte {
	if s.i >= s.end {
		s.bad = true
		return 0
	}
	b := s.code[s.i]
	s.i++
	return b
}

// unsigned reads an unsigned LEB128 integer.
func (s *sweepWasm) unsigned() uint64 {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		b := s.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	s.bad = true
	return 0
}

// signed reads a signed LEB128 integer.
func (s *sweepWasm) signed() int64 {
	var v int64
	for shift := uint(0); shift < 64; {
		b := s.byte()
		v |= int64(b&0x7f) << shift
		shift += 7
		if b < 0x80 {
			if b&0x40 != 0 && shift < 64 {
				v |= -1 << shift
			}
			return v
		}
	}
	s.bad = true
	return 0
}

func (s *sweepWasm) skip(n int) {
	if n > s.end-s.i {
		s.bad = true
		return
	}
	s.i += n
}

// valueType skips a type: a byte, or a reference with what it refers to.
func (s *sweepWasm) valueType() {
	if b := s.byte(); b == 0x63 || b == 0x64 {
		s.signed()
	}
}

// locals skips the local variables that a body begins with.
func (s *sweepWasm) locals() {
	for n := s.unsigned(); n > 0 && !s.bad; n-- {
		s.unsigned()
		s.valueType()
	}
}

// blockType skips the type of a block.
func (s *sweepWasm) blockType() {
	if s.i < s.end && (s.code[s.i] == 0x63 || s.code[s.i] == 0x64) {
		s.i++
	}
	s.signed()
}

// address reads the operands of a load or store, and returns its distance from
// the address on the stack.
func (s *sweepWasm) address() uint64 {
	if s.unsigned()&0x40 != 0 {
		s.unsigned() // memory
	}
	return s.unsigned()
}

// place returns where in the file is what stands at an address in memory.
func (s *sweepWasm) place(addr uint64) (uint64, bool) {
	i := sort.Search(len(s.memory), func(i int) bool { return s.memory[i].Addr > addr }) - 1
	if i < 0 || addr-s.memory[i].Addr >= s.memory[i].FileSize {
		return 0, false
	}
	return s.memory[i].Offset + (addr - s.memory[i].Addr), true
}

// name records a reference to an address in memory.
func (s *sweepWasm) name(at, addr uint64) {
	if to, ok := s.place(addr); ok && !s.filling {
		s.add(Ref{at, to, -1, Data})
	}
}

// function records a reference to the function of a number.
func (s *sweepWasm) function(at, index uint64, kind Kind) {
	if s.bad || s.filling {
		return
	}
	if index < uint64(len(s.module.Imported)) {
		s.add(Ref{at, 0, s.module.Imported[index], kind})
		return
	}
	if index -= uint64(len(s.module.Imported)); index < uint64(len(s.bodies)) {
		s.add(Ref{at, s.bodies[index].Addr, -1, kind})
	}
}

// push notes a constant.
func (s *sweepWasm) push(n number) {
	if s.count == len(s.numbers) {
		copy(s.numbers[:], s.numbers[1:])
		s.count--
	}
	s.numbers[s.count] = n
	s.count++
}

// settle decides what the constants are, before an instruction that is none.
// One that is calculated or compared with is a number; the others may be
// addresses. Where data counts from a global, only what is added to it is.
func (s *sweepWasm) settle(op byte) {
	n := s.count
	s.count = 0
	if s.filling || s.bad {
		return
	}
	if op >= 0x45 && op <= 0xc4 && op != 0x6a && op != 0x7c && op != 0xad && op != 0xac && op != 0xa7 {
		n-- // ADD may be of an address, and changes of width
	}
	for _, c := range s.numbers[:max(n, 0)] {
		if s.module.Base < 0 || c.global == s.module.Base {
			s.name(c.at, c.value)
		}
	}
}

// instruction reads one.
func (s *sweepWasm) instruction() {
	at := s.addr + uint64(s.i)
	op := s.byte()
	global := s.global
	s.global = -1
	switch op {
	case 0x41: // i32.const
		s.push(number{at, uint64(s.signed()) & 0xffffffff, global})
		return
	case 0x42: // i64.const
		s.push(number{at, uint64(s.signed()), global})
		return
	case 0x23: // global.get
		s.settle(op)
		s.global = int64(s.unsigned())
		return
	}
	if op >= 0x28 && op <= 0x3e {
		s.access(at, op)
		return
	}
	if op == 0xfc || op == 0xfd || op == 0xfe {
		s.prefixed(at, op)
		return
	}
	s.settle(op)
	switch op {
	case 0x02, 0x03, 0x04, 0x06: // block, loop, if, try
		s.blockType()
	case 0x07, 0x08, 0x09, 0x0c, 0x0d, 0x18, // catch, throw, rethrow, br, br_if, delegate
		0x20, 0x21, 0x22, 0x24, 0x25, 0x26, // local, global.set, table
		0x14, 0x15, 0x3f, 0x40, 0xd5, 0xd6: // call_ref, return_call_ref, memory, br_on_null, br_on_non_null
		s.unsigned()
	case 0x0e: // br_table
		for n := s.unsigned(); n > 0 && !s.bad; n-- {
			s.unsigned()
		}
		s.unsigned()
	case 0x10: // call
		s.function(at, s.unsigned(), Call)
	case 0x12: // return_call
		s.function(at, s.unsigned(), Jump)
	case 0xd2: // ref.func
		s.function(at, s.unsigned(), Taken)
	case 0x11, 0x13: // call_indirect, return_call_indirect
		s.throughTable(at)
		s.unsigned()
		s.unsigned()
	case 0x1c: // select
		for n := s.unsigned(); n > 0 && !s.bad; n-- {
			s.valueType()
		}
	case 0x1f: // try_table
		s.blockType()
		for n := s.unsigned(); n > 0 && !s.bad; n-- {
			if s.byte() < 2 {
				s.unsigned() // tag
			}
			s.unsigned()
		}
	case 0x43: // f32.const
		s.skip(4)
	case 0x44: // f64.const
		s.skip(8)
	case 0xd0: // ref.null
		s.signed()
	case 0xfb:
		s.collected()
	case 0x00, 0x01, 0x05, 0x0a, 0x0b, 0x0f, 0x19, 0x1a, 0x1b, 0xd1, 0xd3, 0xd4:
	default:
		if op < 0x45 || op > 0xc4 {
			s.bad = true // not known, so nobody knows how long it is
		}
	}
}

// access handles a load or store at the address on the stack, which for a
// store stands below the value. Its distance may be the address, and what is on
// the stack an index.
func (s *sweepWasm) access(at uint64, op byte) {
	distance := s.address()
	if s.bad || s.filling {
		s.count = 0
		return
	}
	store := op >= 0x36
	n := s.count
	below := n - 1
	if store {
		below--
	}
	if below >= 0 && n > 0 {
		c := s.numbers[below]
		if s.module.Base < 0 || c.global == s.module.Base {
			s.name(at, c.value+distance)
		}
		copy(s.numbers[below:], s.numbers[below+1:n])
		s.count--
	} else if s.module.Base < 0 && distance > 0 {
		s.name(at, distance)
	}
	s.settle(0)
}

// prefixed handles instructions of two opcodes.
func (s *sweepWasm) prefixed(at uint64, prefix byte) {
	op := s.unsigned()
	switch prefix {
	case 0xfc:
		if op == 8 {
			s.fill()
			return
		}
		s.settle(0)
		switch {
		case op < 8, op >= 19 && op <= 22: // conversions, wide arithmetic
		case op == 10, op == 12, op == 14: // copies; table.init
			s.unsigned()
			s.unsigned()
		case op <= 18:
			s.unsigned()
		default:
			s.bad = true
		}
	case 0xfd:
		switch {
		case op <= 11, op == 92, op == 93: // loads and stores
			store := byte(0x28)
			if op == 11 {
				store = 0x36
			}
			s.access(at, store)
		case op >= 84 && op <= 91: // of a lane
			s.settle(0)
			s.address()
			s.skip(1)
		case op == 12, op == 13: // v128.const, i8x16.shuffle
			s.settle(0)
			s.skip(16)
		case op >= 21 && op <= 34: // lanes
			s.settle(0)
			s.skip(1)
		default:
			s.settle(0)
			if op > 0x1ff {
				s.bad = true
			}
		}
	case 0xfe:
		switch {
		case op == 3: // atomic.fence
			s.settle(0)
			s.skip(1)
		case op >= 0x10 && op <= 0x16: // loads
			s.access(at, 0x28)
		case op <= 2, op >= 0x17 && op <= 0x4e: // with operands above the address
			s.settle(0)
			s.address()
		default:
			s.bad = true
		}
	}
}

// fill handles memory.init, which puts passive data into memory: to, from and
// size are on the stack.
func (s *sweepWasm) fill() {
	index, memory := s.unsigned(), s.unsigned()
	if s.bad || !s.filling || memory != 0 || s.count < 3 || index >= uint64(len(s.module.Passive)) {
		s.settle(0)
		return
	}
	to, from, size := s.numbers[0], s.numbers[1].value, s.numbers[2].value
	s.count = 0
	d := s.module.Passive[index]
	if from >= d.FileSize || size > d.FileSize-from || size == 0 || len(s.memory) >= 2*len(s.module.Passive)+len(s.module.Memory) {
		return
	}
	if s.module.Base >= 0 && to.global != s.module.Base {
		return
	}
	s.memory = append(s.memory[:len(s.memory):len(s.memory)], image.Segment{Addr: to.value, Size: size, Offset: d.Offset + from, FileSize: size})
}

// collected handles the instructions of garbage collection.
func (s *sweepWasm) collected() {
	switch op := s.unsigned(); {
	case op <= 1, op == 6, op == 7, op >= 11 && op <= 14, op == 16:
		s.unsigned()
	case op >= 2 && op <= 5, op >= 8 && op <= 10, op >= 17 && op <= 19:
		s.unsigned()
		s.unsigned()
	case op >= 20 && op <= 23:
		s.signed()
	case op == 24, op == 25: // br_on_cast, br_on_cast_fail
		s.skip(1)
		s.unsigned()
		s.signed()
		s.signed()
	case op == 15, op >= 26 && op <= 30:
	default:
		s.bad = true
	}
}
