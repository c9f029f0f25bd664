package value

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
)

// A val is what a register or a place on the stack holds.
type val struct {
	n    int64
	kind valKind
	at   bool // n is an address for certain
}

type valKind uint8

const (
	unknown  valKind = iota
	some             // not known, but put there since the last call
	num              // n
	frame            // the stack pointer at the entry of the function, plus n
	param            // the function's own parameter n
	result           // of the call at address n
	imported         // import n
	truth            // 1 if a condition holds, else 0: n is the key of truths
	low              // the low byte is that of n, or the low two if at; the rest is not known
	initial          // what a register that callees keep held at entry
	blob             // bytes of the image from address n on; in vector registers
	moved            // the function's own parameter n&255, plus n>>8
)

// A slot is a place on the stack with something in it.
type slot struct {
	off  int64 // from the stack pointer at entry
	size int64
	val  val
}

// flags are what the last compare compared.
type flags struct {
	kind flagKind
	a, b val
	ra   uint8
	rb   uint8
}

type flagKind uint8

const (
	noFlags  flagKind = iota
	compared          // a with b
	tested            // a & b
	outcome           // a with 0
)

// A state is what is known at one place of a function.
type state struct {
	regs   [registers]val
	slots  []slot // by offset, apart from each other
	flags  flags
	pushed int64  // bytes pushed since the last call, on x86
	gone   uint64 // own parameters on the stack that were overwritten: a bit for each word
}

const (
	maxSlots  = 512
	maxBlob   = 4096 // bytes copied to the stack at once
	farBelow  = 1 << 20
	maxOffset = 1 << 30 // of the stack
)

func (s *state) clone() *state {
	c := *s
	c.slots = slices.Clone(s.slots)
	return &c
}

// meet leaves in s what holds in o as well, and reports whether it lost
// something. Stack pointers that differ are the doing of callees that this
// package misjudged; s keeps its own.
func (s *state) meet(o *state, sp uint8) bool {
	lost := false
	for i := range s.regs {
		if s.regs[i] == o.regs[i] || s.regs[i].kind == unknown {
			continue
		}
		if uint8(i) == sp && s.regs[i].kind == frame && o.regs[i].kind == frame {
			continue
		}
		s.regs[i], lost = val{}, true
	}
	kept := s.slots[:0]
	j := 0
	for _, a := range s.slots {
		for j < len(o.slots) && o.slots[j].off < a.off {
			j++
		}
		if j < len(o.slots) && o.slots[j] == a {
			kept = append(kept, a)
			continue
		}
		lost = true
	}
	s.slots = kept
	if s.flags != o.flags {
		s.flags = flags{}
	}
	s.pushed = min(s.pushed, o.pushed)
	lost = lost || s.gone|o.gone != s.gone
	s.gone |= o.gone
	return lost
}

// find returns the index of the first slot that ends behind off.
func (s *state) find(off int64) int {
	return sort.Search(len(s.slots), func(i int) bool { return s.slots[i].off+s.slots[i].size > off })
}

// clear forgets size bytes of the stack from off on. Of numbers and texts, what
// lies outside is kept.
func (s *state) clear(off, size int64) {
	i := s.find(off)
	j := i
	var rest [2]slot
	n := 0
	for ; j < len(s.slots) && s.slots[j].off < off+size; j++ {
		old := s.slots[j]
		if left, ok := old.part(0, off-old.off); ok {
			rest[n] = left
			n++
		}
		if right, ok := old.part(off+size-old.off, old.size); ok && n < len(rest) {
			rest[n] = right
			n++
		}
	}
	if i != j || n > 0 {
		s.slots = slices.Replace(s.slots, i, j, rest[:n]...)
	}
}

// part returns the bytes of a slot from one offset in it up to before another.
func (p slot) part(from, to int64) (slot, bool) {
	from, to = max(from, 0), min(to, p.size)
	if from >= to {
		return slot{}, false
	}
	v := p.val
	switch v.kind {
	case num:
		if from >= 8 {
			v = val{kind: num}
		} else {
			v = val{kind: num, n: int64(uint64(v.n) >> (8 * from))}
		}
		v.n = cut(v.n, to-from)
	case blob:
		v.n += from
	default:
		return slot{}, false
	}
	return slot{p.off + from, to - from, v}, true
}

// put writes a value of size bytes to the stack.
func (s *state) put(off, size int64, v val) {
	if off < -maxOffset || off > maxOffset || size <= 0 {
		return
	}
	s.clear(off, size)
	if off >= 0 && off < 256 {
		s.gone |= 1 << (off / 4)
	}
	if v.kind == unknown || v.kind == some || len(s.slots) >= maxSlots {
		return
	}
	if v.kind == num {
		v.n = cut(v.n, size)
	}
	s.slots = slices.Insert(s.slots, s.find(off), slot{off, size, v})
}

// get reads size bytes of the stack.
func (s *state) get(off, size int64, r *Reader) val {
	i := s.find(off)
	if i == len(s.slots) || s.slots[i].off > off {
		return val{}
	}
	p := s.slots[i]
	if p.off == off && size == p.size {
		return p.val
	}
	if p.off == off && size < p.size && (p.val.kind == param || p.val.kind == result || p.val.kind == truth) {
		return p.val // the low half of a wider register
	}
	if size > 8 {
		return val{}
	}
	b := s.bytes(off, int(size), r)
	if int64(len(b)) < size {
		return val{}
	}
	return val{kind: num, n: little(b)}
}

// bytes returns what is known to lie on the stack from off on, at most n bytes.
func (s *state) bytes(off int64, n int, r *Reader) []byte {
	var out []byte
	for i := s.find(off); i < len(s.slots) && len(out) < n; i++ {
		p := s.slots[i]
		at := off + int64(len(out)) - p.off
		if at < 0 {
			break
		}
		switch p.val.kind {
		case num:
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], uint64(p.val.n))
			for k := at; k < p.size; k++ {
				if k < 8 {
					out = append(out, b[k])
				} else {
					out = append(out, 0)
				}
			}
		case blob:
			from := r.m.At(uint64(p.val.n + at))
			have := min(int64(len(from)), p.size-at)
			out = append(out, from[:have]...)
			if have < p.size-at {
				return out[:min(n, len(out))]
			}
		default:
			return out
		}
	}
	return out[:min(n, len(out))]
}

// little reads up to eight bytes as a number.
func little(b []byte) int64 {
	var w [8]byte
	copy(w[:], b)
	return int64(binary.LittleEndian.Uint64(w[:]))
}

// cut returns the low size bytes of n.
func cut(n, size int64) int64 {
	if size <= 0 || size >= 8 {
		return n
	}
	return n & (1<<(8*size) - 1)
}

// do carries out one op.
func (s *state) do(o *op, r *Reader) {
	size := int64(o.size)
	switch o.kind {
	case opSet:
		s.write(o.dst, val{kind: num, n: o.imm}, size, r)
	case opAddress:
		s.write(o.dst, val{kind: num, n: o.imm, at: true}, size, r)
	case opCopy:
		s.write(o.dst, s.regs[o.a], size, r)
	case opAdd:
		s.write(o.dst, s.sum(o), size, r)
	case opSub, opAnd, opOr, opXor, opShl, opShr:
		s.write(o.dst, s.combine(o), size, r)
	case opInsert:
		v := s.regs[o.dst]
		if v.kind == num {
			shift := uint(o.imm >> 32)
			mask := uint64(1)<<(8*o.size) - 1
			v.n = int64(uint64(v.n)&^(mask<<shift) | (uint64(o.imm)&mask)<<shift)
		} else {
			v = val{}
		}
		s.write(o.dst, v, 0, r)
	case opLow:
		v, old := s.regs[o.a], s.regs[o.dst]
		switch {
		case v.kind == low && v.at == (size == 2):
		case v.kind != num:
			v = val{}
		case old.kind == num:
			v = val{kind: num, n: old.n - cut(old.n, size) + cut(v.n, size)}
		default:
			v = val{kind: low, n: cut(v.n, size), at: size == 2}
		}
		s.write(o.dst, v, 0, r)
	case opSigned:
		if v := s.regs[o.dst]; v.kind == num && size > 0 && size < 8 {
			v.n = v.n << (64 - 8*size) >> (64 - 8*size)
			s.write(o.dst, v, 0, r)
		}
	case opLoad:
		s.write(o.dst, s.read(s.regs[o.a], o.imm, size, r), 0, r)
	case opStore:
		if base := s.regs[o.a]; base.kind == frame {
			v := s.regs[o.b]
			if v.kind == low && (size == 1 || size == 2 && v.at) {
				v = val{kind: num, n: v.n}
			}
			if size > 0 && size < r.machine.word && v.kind != num && v.kind != blob && (size < 4 || v.kind != param && v.kind != result) && v.kind != truth {
				v = val{}
			}
			s.put(base.n+o.imm, size, v)
		}
	case opKill:
		s.write(o.dst, val{}, 0, r)
	case opCompare, opTest:
		kind := compared
		if o.kind == opTest {
			kind = tested
		}
		b := val{kind: num, n: o.imm}
		if o.b != none {
			b = s.regs[o.b]
		}
		s.flags = flags{kind, s.regs[o.a], b, o.a, o.b}
	case opOutcome:
		s.flags = flags{outcome, s.regs[o.a], val{kind: num}, o.a, none}
	case opTruth:
		if r.truths == nil {
			r.truths = map[int64]flags{}
		}
		r.truths[o.imm] = s.flags
		s.write(o.dst, val{kind: truth, n: o.imm}, 0, r)
	case opUnflag:
		s.flags = flags{}
	}
}

// write changes a register.
func (s *state) write(dst uint8, v val, size int64, r *Reader) {
	if dst >= unset || dst == zero {
		return
	}
	if dst == r.machine.sp && v.kind != frame {
		// A frame of unknown size begins here, well apart from the rest.
		if old := s.regs[dst]; old.kind == frame && old.n > -maxOffset {
			v = val{kind: frame, n: old.n - farBelow}
		}
	}
	if v.kind == unknown {
		v.kind = some
	}
	if v.kind == num {
		if r.machine.word == 4 && dst < vector {
			size = 4
		}
		v.n = cut(v.n, size)
	}
	s.regs[dst] = v
}

func (s *state) sum(o *op) val {
	a := s.regs[o.a]
	if o.b == none {
		switch a.kind {
		case num, frame:
			a.n += o.imm
			return a
		}
		if o.imm == 0 {
			return a
		}
		return a.plus(o.imm)
	}
	b := s.regs[o.b]
	if b.kind == num {
		b.n <<= uint(o.imm & 63)
	} else if o.imm != 0 {
		return val{}
	}
	switch {
	case a.kind == num && b.kind == num:
		return val{kind: num, n: a.n + b.n, at: a.at || b.at}
	case a.kind == frame && b.kind == num:
		return val{kind: frame, n: a.n + b.n}
	case a.kind == num && b.kind == frame:
		return val{kind: frame, n: a.n + b.n}
	case a == (val{kind: num}):
		return b
	case b == (val{kind: num}):
		return a
	case b.kind == num && !b.at:
		return a.plus(b.n)
	case a.kind == num && !a.at:
		return b.plus(a.n)
	}
	return val{}
}

// plus returns a parameter with a number added, unknown of all else.
func (v val) plus(n int64) val {
	if v.kind != param || int64(int32(n)) != n {
		return val{}
	}
	return val{kind: moved, n: v.n | n<<8}
}

func (s *state) combine(o *op) val {
	a, b := s.regs[o.a], val{kind: num, n: o.imm}
	if o.b != none {
		b = s.regs[o.b]
		if o.a == o.b && (o.kind == opXor || o.kind == opSub) {
			return val{kind: num}
		}
		if o.a == o.b && (o.kind == opAnd || o.kind == opOr) {
			return a
		}
		if a.kind == num && a.n == 0 && o.kind == opOr {
			return b
		}
	}
	if b == (val{kind: num}) && (o.kind == opOr || o.kind == opSub || o.kind == opXor || o.kind == opShl || o.kind == opShr) {
		return a
	}
	if b.kind != num {
		return val{}
	}
	if a.kind == frame {
		switch o.kind {
		case opSub:
			return val{kind: frame, n: a.n - b.n}
		case opAnd: // aligns it
			return val{kind: frame, n: a.n & b.n}
		case opOr:
			return val{kind: frame, n: a.n | b.n}
		}
		return val{}
	}
	if a.kind != num {
		if o.kind == opAnd && b.n == 0 {
			return b
		}
		if o.kind == opAnd && (b.n == 1 && a.kind == truth || b.n == math.MaxUint32 || b.n == math.MaxUint8 || b.n == math.MaxUint16) {
			return a // narrowed, as an int, short or bool parameter is
		}
		if o.kind == opOr {
			return a.plus(b.n) // the bits of a class, above those of any number
		}
		return val{}
	}
	out := val{kind: num}
	switch o.kind {
	case opSub:
		out.n, out.at = a.n-b.n, a.at && !b.at
	case opAnd:
		out.n, out.at = a.n&b.n, a.at && b.n < 0
	case opOr:
		out.n, out.at = a.n|b.n, a.at
	case opXor:
		out.n = a.n ^ b.n
	case opShl:
		out.n = int64(uint64(a.n) << uint(b.n&63))
	case opShr:
		out.n = int64(uint64(a.n) >> uint(b.n&63))
	}
	return out
}

// read returns what size bytes at base+off hold when the function runs.
func (s *state) read(base val, off, size int64, r *Reader) val {
	switch base.kind {
	case frame:
		at := base.n + off
		if v := s.get(at, size, r); v.kind != unknown {
			return v
		}
		return r.incoming(at, s.gone)
	case num:
		return r.memory(base, uint64(base.n+off), size)
	}
	return val{}
}
