package hidden

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Text is a word that code decodes or puts together.
type Text struct {
	Word    int    // index into the words
	Addr    uint64 // of the instruction that writes it, or of the call to the function that has it
	How     string // "decoded by code", "put together by code"
	Decoded string // the printable run that holds the word, at most 300 bytes
	Alone   bool   // as in Find
	Encoded bool   // it is the outcome of arithmetic and stands nowhere in plain
}

// Limits of what is carried out for one binary.
const (
	maxRuns     = 150    // functions
	maxSteps    = 20_000 // instructions of one run
	mostSteps   = 12_000 // of all runs
	moreSteps   = 5000   // for each text that was decoded
	allSteps    = 250_000
	maxDepth    = 6   // of calls
	maxIdle     = 600 // instructions in which fewer than minOutcomes bytes are computed, after which a run ends
	minOutcomes = 3
	maxCached   = 1 << 12 // decoded instructions; a power of two
	maxTexts    = 500
	shortRun    = 1200 // instructions of the first run, so that a few functions do not use up what all have
	lookedTwice = 600  // functions of a binary in which imports that fail are tried as well
)

// Code returns the words that code decodes or puts together, by address. It
// carries out functions for which wanted holds of their address: those that
// hold one of the places in uses, where texts may go to, and those that call
// them; without uses all. They have to look like decoding something, or call one
// that does, and to get at what they decode. Only x86-64, x86 and AArch64 are
// read.
func (f *Finder) Code(c *code.Code, wanted func(addr uint64) bool, uses []uint64) []Text {
	m := newRunner(f, c)
	if m == nil {
		return nil
	}
	list := m.candidates(wanted, uses)
	long, asked := m.round(list, true, shortRun, mostSteps*2/3)
	m.round(long, true, maxSteps, mostSteps)
	m.turned(list)
	if len(c.Functions) <= lookedTwice {
		m.round(asked, false, maxSteps, mostSteps)
	}
	m.mem.reset()
	m.cpu.end()
	return m.settled()
}

// turned carries out functions once more for each of their branches of which
// one side was not seen, and goes there: what is hidden stands behind a
// condition as often as not.
func (r *runner) turned(list []int) {
	for _, fn := range list {
		for _, b := range r.unseen[fn] {
			if r.spent > min(mostSteps+r.decoded*moreSteps, allSteps) || len(r.texts) >= maxTexts {
				return
			}
			r.turn = b.site
			r.run(fn, true, shortRun)
		}
	}
	r.turn = 0
}

// A branch is one that was met, and the side that was not taken.
type branch struct{ site, other uint64 }

// mostBranches is how many branches of a function are tried the other way.
const mostBranches = 2

// branched remembers a branch of the function that is run, or turns it once if
// that is what the run is for.
func (r *runner) branched(e event) {
	if len(r.calls) > 1 {
		return
	}
	if e.site == r.turn {
		r.turn = 0
		r.cpu.leap(e.to)
		return
	}
	here := r.cpu.where()
	r.branches = slices.DeleteFunc(r.branches, func(b branch) bool { return b.other == here })
	if len(r.branches) < mostBranches && !slices.ContainsFunc(r.branches, func(b branch) bool { return b.site == e.site }) && !r.seen[here] {
		r.branches = append(r.branches, branch{e.site, e.to})
	}
	r.seen[here] = true
}

// round carries out functions, for most instructions each and up to a total. It
// returns those that it broke off, and those whose way depends on what
// functions from elsewhere answer.
func (r *runner) round(list []int, answer bool, most, total int) (long, asked []int) {
	for _, fn := range list {
		if r.spent > min(total+r.decoded*moreSteps, allSteps) || len(r.texts) >= maxTexts {
			break
		}
		broken := r.run(fn, answer, most)
		if broken {
			long = append(long, fn)
		}
		if r.asked {
			asked = append(asked, fn)
		}
	}
	return long, asked
}

// A machine is what the instruction sets have in common: memory, and what runs
// in it.
type machine struct {
	mem     *memory
	sites   []site // that wrote something, in the order of the run
	via     uint64 // where the function that runs was called; 0 for the first
	windows bool
}

// A site is an instruction, and where its function was called.
type site struct{ addr, via uint64 }

// site returns the number by which memory knows an instruction that writes,
// plus 1.
func (m *machine) site(addr uint64) int32 {
	s := site{addr, m.via}
	if n := len(m.sites); n == 0 || m.sites[n-1] != s {
		m.sites = append(m.sites, s)
	}
	return int32(len(m.sites))
}

// A cpu carries out the instructions of one instruction set.
type cpu interface {
	start(at uint64)
	step() event
	where() uint64
	leap(to uint64) // goes on elsewhere
	returns()       // goes back to the caller, as the end of a function does
	result(v uint64)
	argument(n int) uint64
	end() // of all runs
}

// An event is what an instruction did beyond registers and memory.
type event struct {
	kind eventKind
	to   uint64
	site uint64 // of a call
}

type eventKind uint8

const (
	nothing eventKind = iota
	called
	jumped
	returned
	branched // with a condition, not to to
	stopped  // it is not known, or a trap
)

// A runner carries out functions of one binary.
type runner struct {
	*machine
	f       *Finder
	c       *code.Code
	cpu     cpu
	stubs   map[uint64]int32 // imports by their stubs
	calls   []call           // that are under way
	asked   bool             // in this run, an import gave an answer
	answer  bool
	spent   int
	decoded int    // texts
	lower   []byte // the image's bytes in small letters, once asked for
	texts   map[textKey]Text

	glance glance
	shown  []evidence // by function
	left   int        // bytes of code that may be glanced at

	inPlain map[plainKey]bool
	buffer  []byte

	branches []branch        // of the function that is run: one side of them was not seen
	seen     map[uint64]bool // the sides that were
	unseen   map[int][]branch
	turn     uint64 // site of the branch to turn; 0 for none
}

// A call is one that has not returned.
type call struct {
	site uint64
	fn   int
}

type textKey struct {
	word int
	addr uint64
}

func newRunner(f *Finder, c *code.Code) *runner {
	im := c.Image
	if im.BigEndian || !c.Read {
		return nil
	}
	m := &machine{mem: newMemory(im), windows: im.Format == image.PE}
	r := &runner{machine: m, f: f, c: c, stubs: map[uint64]int32{}, texts: map[textKey]Text{}, inPlain: map[plainKey]bool{}, seen: map[uint64]bool{}, unseen: map[int][]branch{}}
	switch im.Arch {
	case image.X86_64:
		r.cpu = newX86(m, 64)
	case image.X86:
		r.cpu = newX86(m, 32)
	case image.AArch64:
		r.cpu = newARM64(m)
	default:
		return nil
	}
	for i := range im.Imports {
		if at := im.Imports[i].Stub; at != 0 {
			r.stubs[at] = int32(i)
		}
	}
	return r
}

// run carries out function fn from its start. Imports answer with an address of
// empty memory, or with 0. It reports whether it broke off behind most
// instructions.
func (r *runner) run(fn int, answer bool, most int) bool {
	r.mem.reset()
	r.sites, r.asked, r.answer = r.sites[:0], false, answer
	r.calls, r.via = append(r.calls[:0], call{fn: fn}), 0
	r.branches = r.branches[:0]
	clear(r.seen)
	r.cpu.start(r.c.Functions[fn].Addr)
	end := r.mem.place(home)
	n := 0
	idle, outcomes := maxIdle, 0
	for ; n+r.mem.work/8 < most && !r.mem.failed; n++ {
		if n == idle {
			if r.mem.outcomes-outcomes < minOutcomes {
				break
			}
			idle, outcomes = n+maxIdle, r.mem.outcomes
		}
		if ok := r.after(r.cpu.step()); !ok || r.cpu.where() == end {
			break
		}
	}
	r.look()
	r.spent += n + r.mem.work/8
	if _, ok := r.unseen[fn]; !ok && answer {
		r.unseen[fn] = slices.DeleteFunc(slices.Clone(r.branches), func(b branch) bool { return r.seen[b.other] })
	}
	return n+r.mem.work/8 >= most
}

// after goes on behind an instruction; false ends the run.
func (r *runner) after(e event) bool {
	switch e.kind {
	case stopped:
		return false
	case called:
		if i, ok := r.foreign(e.to); ok {
			r.look()
			return r.imported(i)
		}
		fn := r.c.Func(e.to)
		if fn < 0 || len(r.calls) > maxDepth || len(r.mem.m.At(e.to)) == 0 {
			r.look()
			r.asked = true
			r.cpu.result(r.reply())
			r.cpu.returns()
			return true
		}
		r.calls, r.via = append(r.calls, call{e.site, fn}), e.site
	case jumped:
		if i, ok := r.foreign(e.to); ok {
			r.look()
			ok := r.imported(i)
			r.leave()
			return ok
		}
	case branched:
		r.branched(e)
	case returned:
		r.leave()
	}
	return true
}

// leave goes back from a function to the one that called it.
func (r *runner) leave() {
	if n := len(r.calls); n > 1 {
		r.calls = r.calls[:n-1]
		r.via = r.calls[n-2].site
	}
}

// foreign returns the import that an address stands for.
func (r *runner) foreign(addr uint64) (int32, bool) {
	if i, ok := r.stubs[addr]; ok {
		return i, true
	}
	base := r.mem.place(imports)
	if n := addr - base; addr >= base && n%16 == 0 && n/16 < uint64(len(r.mem.m.Imports)) {
		return int32(n / 16), true
	}
	return 0, false
}

// reply is what functions from elsewhere return.
func (r *runner) reply() uint64 {
	if !r.answer {
		return 0
	}
	return r.mem.take(256)
}

// mostCopied bounds what one call of memcpy and its like moves, in bytes.
const mostCopied = 4096

// imported does what a function from elsewhere would, as far as it matters, and
// returns from it. It reports whether the run goes on.
func (r *runner) imported(i int32) bool {
	name := strings.TrimPrefix(r.mem.m.Imports[i].Name, "__")
	name = strings.TrimSuffix(name, "_chk")
	arg := r.cpu.argument
	for n := range 4 {
		r.passed(arg(n))
	}
	switch name {
	case "exit", "_exit", "abort", "stack_chk_fail", "ExitProcess", "TerminateProcess", "longjmp", "_cxa_throw", "cxa_throw":
		return false
	case "malloc", "_Znwm", "_Znam", "_Znwj", "_Znaj", "valloc":
		r.cpu.result(r.mem.take(arg(0)))
	case "calloc":
		r.cpu.result(r.mem.take(arg(0) * arg(1)))
	case "realloc", "LocalAlloc", "GlobalAlloc", "VirtualAlloc", "mmap":
		r.cpu.result(r.mem.take(arg(1)))
	case "HeapAlloc":
		r.cpu.result(r.mem.take(arg(2)))
	case "memcpy", "memmove":
		r.copy(arg(0), arg(1), int(min(arg(2), mostCopied)))
		r.cpu.result(arg(0))
	case "memset":
		by := r.site(r.at())
		for k := range min(arg(2), mostCopied) {
			r.mem.put(arg(0)+k, byte(arg(1)), copied, by)
		}
		r.cpu.result(arg(0))
	case "strcpy", "lstrcpyA", "stpcpy":
		r.copy(arg(0), arg(1), r.length(arg(1))+1)
		r.cpu.result(arg(0))
	case "strcat", "lstrcatA":
		r.copy(arg(0)+uint64(r.length(arg(0))), arg(1), r.length(arg(1))+1)
		r.cpu.result(arg(0))
	case "strncpy":
		r.copy(arg(0), arg(1), min(r.length(arg(1))+1, int(min(arg(2), mostCopied))))
		r.cpu.result(arg(0))
	case "strlen", "lstrlenA":
		r.cpu.result(uint64(r.length(arg(0))))
	default:
		r.asked = true
		r.cpu.result(r.reply())
	}
	r.cpu.returns()
	return true
}

// passed keeps a word that was written and is passed to a function from
// elsewhere: there short ones count as well, as they have a beginning and an end.
func (r *runner) passed(at uint64) {
	if p := r.mem.pages[at&^(pageSize-1)]; p == nil || p.wrote == nil {
		return // nothing was written there
	}
	if b, _, who := r.mem.peek(at); who == 0 || !printable(b) {
		return
	}
	n := 0
	for ; n < fullWord; n++ {
		b, _, who := r.mem.peek(at + uint64(n))
		if who == 0 || !printable(b) {
			if b != 0 {
				return
			}
			break
		}
	}
	text := make([]byte, n)
	for i := range text {
		text[i], _, _ = r.mem.peek(at + uint64(i))
	}
	if word, ok := r.f.short[string(text)]; ok {
		r.found(word, at, 1)
	}
}

// at returns the place in the function that runs from which it left for another.
func (r *runner) at() uint64 { return r.c.Functions[r.calls[len(r.calls)-1].fn].Addr }

func (r *runner) copy(to, from uint64, n int) {
	by := r.site(r.at())
	for k := range uint64(n) {
		b, t, _ := r.mem.peek(from + k)
		r.mem.put(to+k, b, max(t, copied), by)
	}
}

func (r *runner) length(at uint64) int {
	for n := range mostCopied {
		r.mem.work++
		if b, _, _ := r.mem.peek(at + uint64(n)); b == 0 {
			return n
		}
	}
	return mostCopied
}

// look searches what was written since the last look.
func (r *runner) look() {
	const around = 64 // a word may have begun earlier
	for _, p := range r.mem.dirty {
		lo, hi := p.at+uint64(p.lo), p.at+uint64(p.hi)+around
		if lo -= min(lo, around); hi < lo {
			hi = lo // at the end of all addresses
		}
		p.lo, p.hi = 0, 0
		b := r.bytes(p, lo, hi)
		r.mem.work += len(b) / 4
		r.f.texts.finder.scan(b, func(l, start int) bool {
			r.found(int(r.f.texts.literals[l].word), lo+uint64(start), 1)
			return true
		})
		if r.windows { // letters of two bytes
			for odd := range 2 {
				thin := make([]byte, 0, len(b)/2)
				for i := odd; i < len(b); i += 2 {
					thin = append(thin, b[i])
				}
				r.f.texts.finder.scan(thin, func(l, start int) bool {
					r.found(int(r.f.texts.literals[l].word), lo+uint64(odd+2*start), 2)
					return true
				})
			}
		}
	}
	r.mem.dirty = r.mem.dirty[:0]
}

// bytes returns memory from lo to hi, most of which is in page p, up to the next
// call.
func (r *runner) bytes(p *page, lo, hi uint64) []byte {
	if lo >= p.at && hi <= p.at+pageSize {
		return p.data[lo-p.at : hi-p.at]
	}
	r.buffer = r.buffer[:0]
	for a := lo; a < hi; a++ {
		var b byte
		if a&^(pageSize-1) == p.at {
			b = p.data[a%pageSize]
		} else if other := r.mem.pages[a&^(pageSize-1)]; other != nil {
			b = other.data[a%pageSize]
		}
		r.buffer = append(r.buffer, b)
	}
	return r.buffer
}

// found keeps a word in memory, if all of it was written.
func (r *runner) found(word int, at uint64, step int) {
	w := r.f.words[word]
	most := given
	var by int32
	for i := range len(w) {
		_, t, who := r.mem.peek(at + uint64(i*step))
		if who == 0 {
			return
		}
		if step == 2 {
			if b, _, _ := r.mem.peek(at + uint64(i*step+1)); b != 0 {
				return
			}
		}
		most, by = max(most, t), who
	}
	text, alone := r.around(at, len(w), step)
	if r.plain(text, most == reached) {
		return
	}
	t := Text{Word: word, Addr: r.place(r.sites[by-1]), How: "put together by code", Decoded: text, Alone: alone}
	if most == reached {
		t.How, t.Encoded = "decoded by code", true
	}
	key := textKey{word, t.Addr}
	if old, ok := r.texts[key]; !ok || t.Encoded && !old.Encoded {
		r.texts[key] = t
		if t.Encoded {
			r.decoded++
		}
	}
}

// around returns the printable run that holds what was found.
func (r *runner) around(at uint64, size, step int) (string, bool) {
	var before, behind []byte
	for i := 1; i <= maxAround; i++ {
		b, _, who := r.mem.peek(at - uint64(i*step))
		if who == 0 || !printable(b) {
			break
		}
		before = append(before, b)
	}
	for i := size; i <= size+maxAround; i++ {
		b, _, who := r.mem.peek(at + uint64(i*step))
		if who == 0 || !printable(b) {
			break
		}
		behind = append(behind, b)
	}
	slices.Reverse(before)
	word := make([]byte, 0, size)
	for i := range size {
		b, _, _ := r.mem.peek(at + uint64(i*step))
		word = append(word, b)
	}
	alone := (len(before) == 0 || !wordly(before[len(before)-1])) && (len(behind) == 0 || !wordly(behind[0]))
	return string(slices.Concat(before, word, behind)), alone
}

// plain reports whether a text stands in the image as it is; if computed, but
// for capitals: programs that turn capitals into small letters hide nothing.
func (r *runner) plain(text string, computed bool) bool {
	key := plainKey{text, computed}
	known, ok := r.inPlain[key]
	if ok {
		return known
	}
	data := r.mem.m.Data
	known = holds(data, []byte(text))
	if !known && computed && len(data) <= mostLowered {
		if r.lower == nil {
			r.lower = bytes.ToLower(data)
		}
		known = holds(r.lower, bytes.ToLower([]byte(text)))
	}
	r.inPlain[key] = known
	return known
}

// holds reports whether a text stands in data, with no letter or digit around.
func holds(data, text []byte) bool {
	for tries := 0; tries < 1000; tries++ {
		i := cursor.Index(data, text)
		if i < 0 {
			return false
		}
		end := i + len(text)
		if (i == 0 || !wordly(data[i-1])) && (end == len(data) || !wordly(data[end])) {
			return true
		}
		data = data[i+1:]
	}
	return true
}

// mostLowered is the largest image whose text is compared without regard to
// capitals, in bytes.
const mostLowered = 32 << 20

type plainKey struct {
	text     string
	computed bool
}

// place returns where in the code a find is shown: where it was written, or if
// a function did that for another, where that called it.
func (r *runner) place(s site) uint64 { return cmp.Or(s.via, s.addr) }

// settled returns what was found, by address.
func (r *runner) settled() []Text {
	out := make([]Text, 0, len(r.texts))
	for _, t := range r.texts {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Text) int { return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.Word, b.Word)) })
	return out
}
