// Package value says what a function passes to what it calls: the constants,
// texts, addresses and own parameters that stand in the argument registers and
// on the stack when a call or a system call is reached.
//
// It follows one function at a time, over its registers and its stack frame,
// and nothing else: no memory that others may write, no callee. What two ways
// to the same instruction leave in a register counts only if it is the same.
// Nothing is ever run.
package value

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"sync"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Kind says what is known of a value.
type Kind uint8

// The kinds.
const (
	Unknown   Kind = iota
	Const          // a number that is no address of the binary
	String         // the address of text
	Address        // an address of data without text
	Stack          // an address in the caller's own stack frame
	Function       // the address of a function of the binary
	Import         // the address of a function or variable from elsewhere
	Parameter      // what the function itself was given
	Result         // what a call before this one returned
)

func (k Kind) String() string {
	names := [...]string{"unknown", "const", "string", "address", "stack", "function", "import", "parameter", "result"}
	if int(k) < len(names) {
		return names[k]
	}
	return "invalid"
}

// A Value is what is known of an argument.
type Value struct {
	Kind Kind

	// Const is the number, with zeros above the width of the register or the
	// memory that it was last written to: -1 of 32 bits is 0xffffffff.
	Const int64

	Text   string // of String, in UTF-8; of Stack, the bytes that are known to lie there, up to the first that is not
	Addr   uint64 // of String (0 if it was put together on the stack), Address and Function; of Result the site of the call
	Param  int    // of Parameter: from 0; on x86, where arguments are on the stack, from 12 on those in registers
	Import int    // of Import: index into the image's Imports
	Offset int64  // of Stack: from the stack pointer at the function's entry; of a Parameter that is the number of a system call: what is added to it

	From uint64 // site of the caller that passes it, if Through looked there
}

// String returns the value in the words of C, or ? if nothing is known. Imports
// are numbers here; their names are in the image.
func (v Value) String() string {
	switch v.Kind {
	case Const:
		return strconv.FormatInt(v.Const, 10)
	case String:
		return strconv.QuoteToASCII(v.Text)
	case Address:
		return fmt.Sprintf("data_%x", v.Addr)
	case Stack:
		return fmt.Sprintf("&stack[%d]", v.Offset)
	case Function:
		return fmt.Sprintf("sub_%x", v.Addr)
	case Import:
		return fmt.Sprintf("import_%d", v.Import)
	case Parameter:
		return fmt.Sprintf("a%d", v.Param)
	case Result:
		return fmt.Sprintf("result_%x", v.Addr)
	}
	return "?"
}

// A Reader reads the values of one binary. It keeps what it learned of the
// functions it was last asked about, and is not for use by several at once.
type Reader struct {
	c       *code.Code
	m       *image.Image
	machine *machine // nil if the instructions are not read
	conv    *convention
	foreign *convention // of functions from elsewhere: C's
	packed  func() bool // texts lie side by side without a NUL, and go with their length: Go, Rust
	fixed   bool        // plain numbers can be addresses

	codes   []span            // where instructions are, apart from each other
	imports map[uint64]int32  // slots and stubs
	exports map[uint64]uint64 // slots and stubs of the binary's own exports
	pops    map[uint64]int64  // by function of x86: bytes that it takes off the stack when it returns
	thumbs  map[uint64]bool   // by function of ARM

	thunks  map[uint64]val
	inThunk int
	truths  map[int64]flags // of the function that is followed
	room    *room           // of the last

	followed uint64 // bytes of code, again and again
	spent    bool   // there was more to follow than is allowed

	kept  map[run]*flow
	steps int // in kept
}

// maxKept bounds the steps that a Reader keeps between calls.
const maxKept = 20_000

// maxFollowed is how many bytes of code are followed for one binary, besides as
// many as it has: real ones need a fraction of that, and a hostile one asks for
// the same functions over and over.
const maxFollowed = 24 << 20

// Spent reports whether code was left out because too much of it was asked for.
func (r *Reader) Spent() bool { return r.spent }

// New returns a Reader of the values in c.
func New(c *code.Code) *Reader {
	m := c.Image
	r := &Reader{
		c: c, m: m, machine: machines[m.Arch],
		imports: map[uint64]int32{}, exports: map[uint64]uint64{}, pops: map[uint64]int64{}, thumbs: map[uint64]bool{},
		thunks: map[uint64]val{}, kept: map[run]*flow{},
	}
	if m.BigEndian {
		r.machine = nil
	}
	isGo := r.machine != nil && madeByGo(m)
	r.conv, r.foreign = conventionOf(m, isGo), conventionOf(m, false)
	r.packed = sync.OnceValue(func() bool { return isGo || cursor.Index(m.Data, []byte("/rustc/")) >= 0 })
	r.fixed = len(m.Segments) > 0 && m.Segments[0].Addr >= minFixed
	r.codes = codeSpans(m)
	for i := range m.Imports {
		imp := &m.Imports[i]
		for _, at := range append([]uint64{imp.Slot, imp.Stub}, imp.MoreSlots...) {
			if at != 0 {
				r.imports[at] = int32(i)
			}
		}
	}
	for i := range m.Exports {
		e := &m.Exports[i]
		for _, at := range []uint64{e.Slot, e.Stub} {
			if at != 0 && e.Addr != 0 {
				r.exports[at] = e.Addr
			}
		}
	}
	return r
}

// minFixed is the least address at which a binary that is linked for one place
// begins. One that may lie anywhere begins at 0, and its plain numbers are
// never addresses.
const minFixed = 0x8000

// madeByGo reports whether the functions of a binary pass arguments as Go does:
// it has what Go's linker writes down about a build, or Go's table of functions.
func madeByGo(m *image.Image) bool {
	if m.Functions.Method == "pclntab" {
		return true
	}
	all := uint64(0)
	for i := range m.Sections {
		if s := &m.Sections[i]; !s.Code {
			all += min(s.FileSize, uint64(len(m.Data)))
		}
	}
	if all == 0 || all > uint64(len(m.Data)) {
		return buildMark(m.Data)
	}
	for i := range m.Sections {
		if s := &m.Sections[i]; !s.Code && buildMark(m.Bytes(s)) {
			return true
		}
	}
	return false
}

// buildMark reports whether what Go's linker writes down about a build begins in
// some bytes.
func buildMark(data []byte) bool {
	// Without its first bytes, which are common in code, it is found faster.
	mark := []byte("\xff Go buildinf:")
	for at := 0; ; at++ {
		i := cursor.Index(data[at:], mark[2:])
		if i < 0 {
			return false
		}
		if at += i; at >= 2 && bytes.Equal(data[at-2:at], mark[:2]) {
			return true
		}
	}
}

// Args returns the first n integer arguments of the call, tail call or system
// call at site, as the calling convention of the binary's system has them. It
// returns nil if no call was found there; what is not known is Unknown.
func (r *Reader) Args(site uint64, n int) []Value {
	s := r.Step(site)
	if s == nil || n < 0 {
		return nil
	}
	out := slices.Clone(s.Args[:min(n, len(s.Args))])
	for len(out) < min(n, maxArgs) {
		out = append(out, Value{})
	}
	return out
}

// Number returns the number of the system call at site.
func (r *Reader) Number(site uint64) Value {
	if s := r.Step(site); s != nil && s.Flow == Syscall {
		return s.Callee
	}
	return Value{}
}

// maxCallers bounds the callers that Through looks at.
const maxCallers = 64

// Through returns what the argument at the site can be, counted from 0. Where
// the function passes on a parameter of its own, that is what its callers pass,
// one level up, each with the site From where; else it is the one value of the
// site itself.
func (r *Reader) Through(site uint64, arg int) []Value {
	if arg < 0 || arg >= maxArgs {
		return nil
	}
	if v, ok := r.near(site, arg); ok {
		return []Value{v}
	}
	args := r.Args(site, arg+1)
	if args == nil {
		return nil
	}
	return r.through(site, args[arg])
}

// ThroughNumber is Through for the number of a system call.
func (r *Reader) ThroughNumber(site uint64) []Value {
	if r.Step(site) == nil {
		return nil
	}
	return r.through(site, r.Number(site))
}

func (r *Reader) through(site uint64, v Value) []Value {
	fn := r.c.Func(site)
	if v.Kind != Parameter || fn < 0 {
		return []Value{v}
	}
	var out []Value
	for _, ref := range r.c.Callers(fn).All() {
		if len(out) == maxCallers {
			break
		}
		if ref.Kind != code.Call && ref.Kind != code.Jump || ref.Kind == code.Jump && r.c.Func(ref.Addr) < 0 {
			continue // an address taken; a stub, whose own callers are among these
		}
		if up, ok := r.passed(ref.Addr, v.Param); ok {
			if v.Offset != 0 {
				if up.Kind != Const {
					continue
				}
				up.Const = (up.Const + v.Offset) & math.MaxUint32
			}
			up.From = ref.Addr
			out = append(out, up)
		}
	}
	if out == nil {
		return []Value{v}
	}
	return out
}

// passed returns what the call at a site passes as a parameter, by the number
// that the function which is called knows it by.
func (r *Reader) passed(site uint64, param int) (Value, bool) {
	s := r.Step(site)
	if s == nil {
		return Value{}, false
	}
	list := s.Args
	if param >= maxArgs {
		list, param = s.local, param-maxArgs
	}
	if param >= len(list) {
		return Value{}, true
	}
	return list[param], true
}

// Step returns the step at an address, or nil if there is none.
func (r *Reader) Step(site uint64) *Step {
	if r.machine == nil {
		return nil
	}
	f := r.flow(r.around(site))
	i := sort.Search(len(f.steps), func(i int) bool { return f.steps[i].Addr >= site })
	if i == len(f.steps) || f.steps[i].Addr != site {
		return nil
	}
	return &f.steps[i]
}

// Steps returns the calls, system calls, jumps, branches and returns of function
// fn in the order of their addresses, and whether that is all of it. It holds
// for functions of up to 64 KB.
func (r *Reader) Steps(fn int) (steps []Step, whole bool) {
	if fn < 0 || fn >= len(r.c.Functions) || r.machine == nil {
		return nil, false
	}
	lo, hi := r.span(fn)
	f := r.flow(run{lo, hi, true})
	return f.steps, f.whole
}

// JumpsOn reports whether function fn begins with a tail call of an import: an
// instruction in its first size bytes, with none before it that does not just go
// on to the next.
func (r *Reader) JumpsOn(fn int, size uint64) bool {
	if fn < 0 || fn >= len(r.c.Functions) || r.machine == nil {
		return false
	}
	lo, hi := r.span(fn)
	b := r.m.At(lo)
	b = b[:min(uint64(len(b)), hi-lo, maxBytes)]
	d := decoder{r: r, entry: lo, thumb: r.thumb(lo, b)}
	for addr := lo; len(b) > 0 && addr-lo < size; {
		in, ok := r.machine.decode(&d, b, addr)
		if !ok || in.size == 0 || int(in.size) > len(b) {
			return false
		}
		switch in.flow {
		case Next:
			b, addr, d.ops = b[in.size:], addr+uint64(in.size), d.ops[:0]
		case Jump:
			steps, _ := r.Steps(fn)
			return len(steps) > 0 && steps[0].Addr == addr && steps[0].Flow == Tail && steps[0].Callee.Kind == Import
		default:
			return false
		}
	}
	return false
}

// span returns the addresses of function fn, as far as they are in the file.
func (r *Reader) span(fn int) (lo, hi uint64) {
	f := &r.c.Functions[fn]
	lo = f.Addr
	hi = lo + uint64(len(r.m.At(lo)))
	if f.Size > 0 && f.Size < hi-lo {
		hi = lo + f.Size
	}
	if fn+1 < len(r.c.Functions) {
		hi = min(hi, r.c.Functions[fn+1].Addr)
	}
	return lo, hi
}

// around returns the function that holds a site, or as much of it before the
// site as is worth it.
func (r *Reader) around(site uint64) run {
	lo, hi := uint64(0), ^uint64(0)
	if fn := r.c.Func(site); fn >= 0 {
		if lo, hi = r.span(fn); site-lo < maxBytes/2 {
			return run{lo, hi, true}
		}
	}
	from := max(lo, (site-min(site, window))&^(window-1))
	return run{r.firstRef(from, site), min(hi, from+3*window), false}
}

// window is how far before a site the decoding begins, at least, where the
// beginning of its function is unknown or too far away. Sites near each other
// share it.
const window = 4096

// firstRef returns the first place from lo up to a site where an instruction is
// known to begin.
func (r *Reader) firstRef(lo, site uint64) uint64 {
	refs := r.c.Refs
	i := sort.Search(len(refs), func(i int) bool { return refs[i].Addr >= lo })
	if i < len(refs) && refs[i].Addr < site {
		return refs[i].Addr
	}
	return site
}

// A run is code from lo up to before hi; entry says that a function begins at
// lo.
type run struct {
	lo, hi uint64
	entry  bool
}

// flow follows a run of code, and keeps the outcome.
func (r *Reader) flow(at run) *flow {
	if f := r.kept[at]; f != nil {
		return f
	}
	if !r.pay(at) {
		return &flow{}
	}
	f := r.follow(at)
	if r.steps += len(f.steps) + 1; r.steps > maxKept {
		clear(r.kept)
		r.steps = len(f.steps) + 1
	}
	r.kept[at] = f
	return f
}

// pay reports whether a run may be followed, or whether there was too much to.
func (r *Reader) pay(at run) bool {
	if r.followed += min(at.hi-at.lo, maxBytes); r.followed > maxFollowed+uint64(len(r.m.Data)) {
		r.spent = true
		return false
	}
	return true
}
