package code

import "math/bits"

// What a register is known to hold.
const (
	unknownValue  = iota
	pageValue     // the address of a page, by ADRP
	addressValue  // an address
	loadedValue   // the pointer that was loaded from an address
	constantValue // a number
	nearValue     // an address to which something that is not known was added
)

// A registerFile is what the registers hold at one point of the code.
type registerFile struct {
	known uint32 // registers of which something is known; bit 31 is never set
	kind  [32]uint8
	value [32]uint64
}

func (f *registerFile) set(reg uint32, kind uint8, value uint64) {
	if reg &= 31; reg != 31 {
		f.known |= 1 << reg
		f.kind[reg], f.value[reg] = kind, value
	}
}

func (f *registerFile) forget(reg uint32) { f.known &^= 1 << (reg & 31) }

// is returns what a register is known to hold, unknownValue if nothing.
func (f *registerFile) is(reg uint32) uint8 {
	if f.known>>(reg&31)&1 == 0 {
		return unknownValue
	}
	return f.kind[reg&31]
}

// meet forgets what o does not know too.
func (f *registerFile) meet(o *registerFile) {
	f.known &= o.known
	for k := f.known; k != 0; k &= k - 1 {
		if i := bits.TrailingZeros32(k); f.kind[i] != o.kind[i] || f.value[i] != o.value[i] {
			f.known &^= 1 << i
		}
	}
}

// A snapshot is what registers hold where a branch goes to, as far as there is
// room.
type snapshot struct {
	addr  uint64
	known uint32
	kind  [snapshotSize]uint8
	value [snapshotSize]uint64
}

const (
	snapshotSize = 10      // registers
	maxSnapshots = 1024    // targets ahead
	maxReach     = 1 << 16 // instructions
)

// snapshots are those of targets that lie ahead. One may displace another.
type snapshots struct {
	unit  uint       // bits of an address below the smallest instruction's size
	marks []uint64   // by address in instructions: there is one; a power of two of them
	list  []snapshot // a power of two of them
}

// newSnapshots makes room for those of so many bytes of code.
func newSnapshots(unit uint, size int) snapshots {
	power := func(n, most int) int { return 1 << bits.Len(uint(min(n, most-1))) }
	return snapshots{
		unit:  unit,
		marks: make([]uint64, power(size>>unit/64, maxReach/64)),
		list:  make([]snapshot, power(size>>unit/32, maxSnapshots)),
	}
}

func (t *snapshots) at(i uint64) *snapshot { return &t.list[i&uint64(len(t.list)-1)] }

func (t *snapshots) mark(i uint64) *uint64 { return &t.marks[i/64&uint64(len(t.marks)-1)] }

// save keeps what registers hold for the target of a branch. What an earlier
// branch to it left stays.
func (t *snapshots) save(at, to uint64, f *registerFile) bool {
	i := to >> t.unit
	s := t.at(i)
	if f.known == 0 || to <= at || i-at>>t.unit >= uint64(len(t.marks))*64 || s.addr == to {
		return false
	}
	*t.mark(i) |= 1 << (i & 63)
	s.addr, s.known = to, 0
	n := 0
	for k := f.known; k != 0 && n < snapshotSize; k &= k - 1 {
		i := bits.TrailingZeros32(k)
		s.known |= 1 << i
		s.kind[n], s.value[n] = f.kind[i], f.value[i]
		n++
	}
	return true
}

// next returns the first address behind at and before end that may have a
// snapshot, or one up to which there is none.
func (t *snapshots) next(at, end uint64) uint64 {
	i := at>>t.unit + 1
	for words := min((end-at)>>t.unit/64+1, 64, uint64(len(t.marks))); words > 0; words-- {
		if w := *t.mark(i) >> (i & 63); w != 0 {
			i += uint64(bits.TrailingZeros64(w))
			break
		}
		i = i&^63 + 64
	}
	return min(i<<t.unit, end)
}

// marked reports whether there may be a snapshot for addr.
func (t *snapshots) marked(addr uint64) bool {
	i := addr >> t.unit
	return *t.mark(i)>>(i&63)&1 != 0
}

// join adds to f what the snapshot for addr knows of other registers: a register
// that is used holds something on every way to that place, the same if it is
// an address that the code itself makes.
func (t *snapshots) join(addr uint64, f *registerFile) {
	i := addr >> t.unit
	*t.mark(i) &^= 1 << (i & 63)
	s := t.at(i)
	if s.addr != addr {
		return
	}
	n := 0
	for k := s.known; k != 0; k &= k - 1 {
		if i := bits.TrailingZeros32(k); f.known>>i&1 == 0 {
			f.known |= 1 << i
			f.kind[i], f.value[i] = s.kind[n], s.value[n]
		}
		n++
	}
}

// has reports whether there is a snapshot for addr.
func (t *snapshots) has(addr uint64) bool {
	return t.marked(addr) && t.at(addr>>t.unit).addr == addr
}

// A spill is what a function keeps of a register in its frame.
type spill struct {
	place uint32 // in the frame: by which register, at what distance
	kind  uint8  // unknownValue after different values
	value uint64
}

// spills are those of one function, as far as there is room.
type spills struct {
	used bool
	list [32]spill
}

// at returns where the spill for a place in the frame is, that rn and distance
// say, or nil if it is no such place.
func (t *spills) at(rn uint32, distance int64) (*spill, uint32) {
	if rn != 31 && rn != 29 || distance < 0 || distance >= 1<<15 {
		return nil, 0
	}
	place := uint32(distance)<<5 | rn
	return &t.list[(uint32(distance)>>3^rn)&31], place
}

// store keeps what is known of a register. Compilers use a place for several
// values, one after the other; then nothing is known of it.
func (t *spills) store(f *registerFile, rt, rn uint32, distance int64) {
	kind := f.is(rt)
	if kind == unknownValue && !t.used {
		return
	}
	s, place := t.at(rn, distance)
	switch {
	case s == nil:
	case kind == pageValue || kind == addressValue:
		if s.place != place {
			*s, t.used = spill{place, kind, f.value[rt]}, true
		} else if s.kind != kind || s.value != f.value[rt] {
			s.kind = unknownValue
		}
	case s.place == place:
		s.kind = unknownValue
	}
}

// load fills a register with what was kept.
func (t *spills) load(f *registerFile, rt, rn uint32, distance int64) {
	if !t.used {
		return
	}
	if s, place := t.at(rn, distance); s != nil && s.place == place && s.kind != unknownValue {
		f.set(rt, s.kind, s.value)
	}
}

// A flow is what is known at the place that a sweep has come to.
type flow struct {
	area     area
	regs     registerFile
	ahead    snapshots
	frame    spills
	fallback registerFile // what registers hold at the last jump whose targets are not known
	jumped   bool         // there was such a jump in this function
	stop     uint64       // the next address at which something begins
}

func newFlow(unit uint, code []byte) flow { return flow{ahead: newSnapshots(unit, len(code))} }

// begin starts a run of code.
func (f *flow) begin(s *sweep, addr uint64) {
	f.area = s.areas()
	f.area.hi = addr
	f.stop = addr
}

// arrive handles what begins at an address, which is not below stop: a function,
// or the target of a branch. It reports whether it is a function.
func (f *flow) arrive(at uint64) bool {
	begins := at >= f.area.hi
	if begins {
		f.area.advance(at)
		f.regs.known, f.jumped = 0, false
		if f.frame.used {
			f.frame = spills{}
		}
	}
	if f.ahead.marked(at) {
		f.ahead.join(at, &f.regs)
	}
	f.stop = f.ahead.next(at, f.area.hi)
	return begins
}

// called forgets what a function that is called may change.
func (f *flow) called(preserved uint32) { f.regs.known &= preserved }

// jump handles a branch to a known place.
func (f *flow) jump(s *sweep, at, to uint64) {
	if !f.area.holds(to) {
		s.branch(at, to, Jump)
		return
	}
	if f.ahead.save(at, to, &f.regs) {
		f.stop = min(f.stop, to)
	}
}

// scatter handles a jump to places that are not known.
func (f *flow) scatter() { f.fallback, f.jumped = f.regs, true }

// leave goes on behind an instruction that nothing runs on from. What
// registers hold there, a branch has told. If none has, it is in the middle of
// a loop, to whose end the last jump goes, or a case of a jump by table.
func (f *flow) leave(next uint64) {
	switch {
	case f.ahead.has(next):
		f.regs.known = 0
	case f.jumped:
		f.regs.meet(&f.fallback)
	}
}

// returned goes on behind the end of a function.
func (f *flow) returned(next uint64) {
	if f.jumped && !f.ahead.has(next) {
		f.regs = f.fallback
	} else {
		f.regs.known = 0
	}
}
