package native

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

// This file says what the code of a binary makes use of: which names from
// elsewhere it calls, from where, and whether that is code of its own or of a
// library that every binary of its kind carries.

// A source says how a binary comes by a name from elsewhere.
type source uint8

const (
	fromTable  source = iota // the loader's import table
	fromLookup               // it asks for the name while it runs: dlsym, GetProcAddress
	fromKernel               // a system call of its own
	fromSymbol               // linked in statically, under its name
	fromHidden               // its name is encoded
)

var sourceKinds = [...]string{fromTable: "import", fromLookup: "dynamic import", fromKernel: "system call", fromSymbol: "symbol", fromHidden: "encoded import"}

// imported is a name that a binary takes from elsewhere, and who uses it.
type imported struct {
	name, library string
	shown         string // instead of the name, if it goes by another there: "unlinkat"
	how           string // the name is encoded
	source        source
	explained     bool // a runtime of this binary takes it for itself
	wholly        bool // and the binary is that runtime
	place         uint64
	used          bool     // some code refers to it
	own           []uint64 // uses in own code, if it is wanted
	shared        []uint64 // uses in known code of a library, likewise
}

// program is the code of a subject.
type program struct {
	*code.Code
	bin        *native.Binary
	marks      []known.Mark // by function: the library that it belongs to
	values     *value.Reader
	section    int             // that held the last address of which packed was asked
	stop       func() bool     // the time is up; nil for never
	understood int             // what complete says: more than 0 if so, less if not; 0 if nobody asked
	byTo       []image.Pointer // p.Pointers by where they point, once asked for
	reliable   bool            // references to imports are found as a rule, so that their absence means something
}

func newProgram(b *native.Binary) *program {
	c := code.Read(b.Image)
	return &program{Code: c, bin: b, marks: known.Label(c, b.Language), values: value.New(c)}
}

// stopped reports whether the time for the binary is up.
func (p *program) stopped() bool { return p.stop != nil && p.stop() }

// reliably is the share of the imported functions that code must be found to
// refer to before the others count as unused.
const reliably = 0.8

// fewRefs is up to how many references are looked at sooner than it is said
// whether they are wanted.
const fewRefs = 4

// stubSize is how far into a stub the use of its own import can stand, in bytes.
const stubSize = 24

// imports returns what the import table names, with the uses of what is wanted.
func (p *program) imports(wanted func(name string) bool) []imported {
	out := make([]imported, 0, len(p.bin.Imports))
	functions, found := 0, 0
	for i := range p.bin.Imports {
		imp := &p.bin.Imports[i]
		one := imported{name: imp.Name, library: imp.Library, place: cmp.Or(imp.Stub, imp.Slot)}
		refs := p.ImportRefs(i)
		all := refs.Len() <= fewRefs || wanted(imp.Name)
		for _, r := range refs.All() {
			if p.Func(r.Addr) < 0 && r.Kind == code.Jump || imp.Stub != 0 && r.Addr-imp.Stub < stubSize {
				continue // the stub itself
			}
			one.used = true
			if !all {
				break
			}
			if p.isOwn(r.Addr) {
				one.own = append(one.own, r.Addr)
			} else {
				one.shared = append(one.shared, r.Addr)
			}
			if len(one.own) == maxSites {
				break
			}
		}
		if one.place != 0 && !imp.Data {
			functions++
			if one.used {
				found++
			}
		}
		out = append(out, one)
	}
	p.reliable = p.Read && p.bin.Kind != image.Object && functions > 0 && float64(found) >= reliably*float64(functions)
	return out
}

// sameAs names the library functions whose work a system call does under
// another name.
var sameAs = map[string]string{
	"openat2": "openat", "getdents": "readdir", "getdents64": "readdir", "unlinkat": "unlink", "renameat": "rename", "renameat2": "rename",
	"mkdirat": "mkdir", "fchmodat": "chmod", "fchmodat2": "chmod", "fchownat": "chown", "linkat": "link", "symlinkat": "symlink",
	"rt_sigqueueinfo": "sigqueue", "tgkill": "kill", "tkill": "kill", "sendmmsg": "sendmsg", "recvmmsg": "recvmsg",
	"pwrite64": "pwrite", "pread64": "pread", "mmap2": "mmap", "vfork": "fork", "clone3": "fork",
	"execve_nocancel": "execve", "open_nocancel": "open", "connect_nocancel": "connect",
}

// socketCalls are what the first argument of socketcall asks for, by
// linux/net.h: on some machines Linux had one system call for all of them.
var socketCalls = [...]string{
	"", "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv", "sendto",
	"recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
}

// kernel returns the system calls that own code makes itself.
func (p *program) kernel() []imported {
	var out []imported
	index := map[string]int{}
	add := func(name string, at uint64) {
		if name == "" || !p.isOwn(at) {
			return
		}
		i, ok := index[name]
		if !ok {
			i = len(out)
			index[name] = i
			out = append(out, imported{name: cmp.Or(sameAs[name], name), shown: name, source: fromKernel, used: true})
		}
		out[i].own = append(out[i].own, at)
	}
	for i, c := range p.Syscalls {
		if p.packed(c.Addr) {
			continue
		}
		if c.Number >= 0 {
			add(c.Name, c.Addr)
			if c.Name == "socketcall" && i < maxAsked {
				for _, v := range p.values.Through(c.Addr, 0) {
					if v.Kind == value.Const && v.Const > 0 && v.Const < int64(len(socketCalls)) {
						add(socketCalls[v.Const], cmp.Or(v.From, c.Addr))
					}
				}
			}
			continue
		}
		if i >= maxAsked || p.stopped() {
			break
		}
		for _, v := range p.values.ThroughNumber(c.Addr) {
			if v.Kind == value.Const {
				add(p.SyscallName(int(v.Const)), cmp.Or(v.From, c.Addr))
			}
		}
	}
	return out
}

// packed reports whether an address lies in a section that holds no readable
// code but noise, in which any instruction occurs by chance.
func (p *program) packed(addr uint64) bool {
	const most = 7.4 // bits per byte; code has 5.5 to 6.8
	if len(p.bin.Sections) == 0 {
		return p.bin.Measured.Whole >= most
	}
	in := func(i int) bool {
		s := &p.bin.Sections[i]
		return s.Addr != 0 && addr >= s.Addr && addr-s.Addr < s.FileSize
	}
	if p.section >= len(p.bin.Sections) || !in(p.section) { // system calls come by address
		if p.section = slices.IndexFunc(p.bin.Sections, func(s image.Section) bool {
			return s.Addr != 0 && addr >= s.Addr && addr-s.Addr < s.FileSize
		}); p.section < 0 {
			p.section = 0
			return false
		}
	}
	return p.bin.Entropy(p.section) >= most
}

// linked returns the functions of libraries, as far as asked for, that are
// linked into the binary and that own code calls.
func (p *program) linked(wanted func(name string) bool) []imported {
	var out []imported
	for fn := range p.Functions {
		if p.marks[fn].Own() || p.Functions[fn].Name == "" {
			continue
		}
		name := strings.TrimPrefix(strings.TrimLeft(p.Functions[fn].Name, "_"), "libc_")
		if !wanted(name) {
			continue
		}
		one := imported{name: name, source: fromSymbol, used: true, place: p.Functions[fn].Addr}
		for _, r := range p.Callers(fn).All() {
			if p.isOwn(r.Addr) {
				one.own = append(one.own, r.Addr)
			}
		}
		if len(one.own) > 0 {
			out = append(out, one)
		}
	}
	return out
}

// isOwn reports whether the code at an address is not of a known library.
func (p *program) isOwn(addr uint64) bool {
	fn := p.Func(addr)
	return fn < 0 || p.marks[fn].Own()
}

// calledByOwn reports whether code of the binary's own leads to one of these
// places: functions of a runtime that were not recognised are called by those
// that were.
func (p *program) calledByOwn(uses []uint64) bool {
	for _, at := range uses[:min(len(uses), maxUses)] {
		fn := p.Func(at)
		if fn < 0 {
			return true
		}
		if root, ok := p.Reached(fn); ok && root.Addr == p.Functions[fn].Addr {
			return true
		}
		for _, r := range p.Callers(fn).All() {
			if by := p.Func(r.Addr); by >= 0 && by != fn && p.isOwn(r.Addr) {
				return true
			}
		}
	}
	return false
}

// standard reports whether all of these places lie in the standard libraries of
// C and C++, to which no call from own code leads: templates and whole objects
// are linked in with what a program needs of them.
func (p *program) standard(uses []uint64) bool {
	for _, at := range uses[:min(len(uses), maxUses)] {
		fn := p.Func(at)
		if fn < 0 {
			return false
		}
		switch p.marks[fn].Library {
		case known.Libstdcxx, known.Libcxx, known.Libgcc, known.CompilerRT:
		default:
			return false
		}
	}
	return !slices.ContainsFunc(p.climb(uses), p.isOwn)
}

// maxUses bounds the uses that are looked at one by one.
const maxUses = 64

// maxSites bounds the places that are looked at one by one: what is called from
// more is called, and that is enough to know.
const maxSites = 4096

// maxCallers is how many callers evidence names.
const maxCallers = 4

// locate adds to evidence where in the code it is used.
func (p *program) locate(e finding.Evidence, at uint64) finding.Evidence {
	e.Address = address(at)
	fn := p.Func(at)
	if fn < 0 {
		return e
	}
	e.Function = p.functionName(fn)
	var callers []int
	for i, r := range p.Callers(fn).All() {
		if len(callers) == maxCallers || i == maxSites {
			break
		}
		if by := p.Func(r.Addr); by >= 0 && by != fn && !slices.Contains(callers, by) {
			callers = append(callers, by)
			e.Callers = append(e.Callers, p.functionName(by))
		}
	}
	if root, ok := p.Reached(fn); ok {
		e.Reachable = rootName(root)
	} else if p.complete() {
		e.Reachable = finding.Unreached
	}
	return e
}

// complete reports whether so much of the code is understood that a function
// which nothing leads to is worth a word: ways to almost all of the others were
// found.
func (p *program) complete() bool {
	if p.understood == 0 {
		p.understood = -1
		if p.Read && p.led() {
			p.understood = 1
		}
	}
	return p.understood > 0
}

// led reports whether ways were found to almost all functions of the binary's
// own, stubs aside. To tell these takes to read their instructions, so they are
// looked at only as long as they make a difference.
func (p *program) led() bool {
	reached := 1
	var others []int
	for fn := range p.Functions {
		if !p.marks[fn].Own() {
			continue
		}
		if _, ok := p.Reached(fn); ok {
			reached++
		} else {
			others = append(others, fn)
		}
	}
	unled := 0
	for i, fn := range others {
		if p.mostLed(reached, unled+len(others)-i) {
			return true
		}
		if !p.mostLed(reached, unled) {
			return false
		}
		if unled >= 4*fewUnled || !p.isStub(fn) {
			unled++
		}
	}
	return p.mostLed(reached, unled)
}

// mostLed reports whether functions that are reached are almost all, beside
// those that nothing leads to. If some of the latter are too many, more are.
func (p *program) mostLed(reached, unled int) bool {
	own := reached + unled
	share := float64(reached) / float64(own)
	sized := p.bin.Functions.Coverage >= 0.8
	switch {
	case !sized && own > several:
		return false // much of the code may be that of functions not found
	case unled <= min(fewUnled, own/8):
		return true
	case sized && own <= small:
		share *= 2 // one function makes a great difference
	}
	return share >= 0.95
}

const (
	small    = 30  // functions that make no statistics
	several  = 300 // functions, up to which those without a known size are told apart well
	fewUnled = 5   // functions that nothing leads to, up to which they are no sign of ways not found
)

// isStub reports whether a function does no more than to call imports for
// others. Calls of it count as those of the import.
func (p *program) isStub(fn int) bool {
	f := &p.Functions[fn]
	for i := range p.bin.Imports {
		if at := p.bin.Imports[i].Stub; at != 0 && at-f.Addr < max(f.Size, 1) {
			return true
		}
	}
	return p.values.JumpsOn(fn, stubSize)
}

func rootName(r code.Root) string {
	if r.Name == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + " " + finding.Printable(native.Demangle(r.Name), maxFunctionName)
}

// maxFunctionName bounds the name of a function in evidence, in bytes: those of
// C++ templates go on for pages.
const maxFunctionName = 120

// functionName returns the readable name of a function, or sub_ and its address.
func (p *program) functionName(fn int) string {
	f := &p.Functions[fn]
	if f.Name == "" {
		return fmt.Sprintf("sub_%x", f.Addr)
	}
	return finding.Printable(native.Demangle(f.Name), maxFunctionName)
}

// best returns the use to show: one that is reached, and of those the first.
func (p *program) best(uses []uint64) uint64 {
	for _, at := range uses[:min(len(uses), 64)] {
		if fn := p.Func(at); fn >= 0 {
			if _, ok := p.Reached(fn); ok {
				return at
			}
		}
	}
	return uses[0]
}

// maxBefore is how far before a find the text or table that holds it may begin,
// in bytes: a table of constants goes on for pages.
const maxBefore = 4200

// usesOf returns the places in code that name the text or table which holds
// addr, own code first. A text begins behind the last zero before it; of a
// table, and where texts do not end in zeros, what code names decides.
func (p *program) usesOf(addr uint64, table bool) []uint64 {
	start := p.startOf(addr, table)
	if uses := p.naming(start, addr); len(uses) > 0 {
		return uses
	}
	for _, at := range p.pointersTo(start, addr) { // a list of texts
		if uses := p.naming(at-min(at, maxBefore), at); len(uses) > 0 {
			return uses
		}
	}
	return nil
}

// naming returns the places that name the last address up to addr that any
// names, own code first.
func (p *program) naming(start, addr uint64) []uint64 {
	refs := p.DataRefs(start, addr+1)
	if refs.Len() == 0 {
		return nil
	}
	last := refs.At(refs.Len() - 1).Target
	var own, others []uint64
	for _, r := range refs.All() {
		switch {
		case r.Target != last:
		case p.isOwn(r.Addr):
			own = append(own, r.Addr)
		default:
			others = append(others, r.Addr)
		}
	}
	if len(own) > 0 {
		return own
	}
	return others
}

func (p *program) startOf(addr uint64, table bool) uint64 {
	off, ok := p.bin.FileOffset(addr)
	if !ok {
		return addr
	}
	n := min(off, maxBefore)
	if before := p.bin.Data[off-n : off]; !table {
		if i := bytes.LastIndexByte(before, 0); i >= 0 {
			return addr - uint64(len(before)-i-1)
		}
	}
	return addr - min(n, addr)
}

// maxPointers bounds the pointers to one text that are looked at.
const maxPointers = 4

// pointersTo returns where the addresses from lo up to hi stand in data.
func (p *program) pointersTo(lo, hi uint64) []uint64 {
	if p.byTo == nil {
		p.byTo = byTo(p.Pointers)
	}
	var out []uint64
	i, _ := slices.BinarySearchFunc(p.byTo, lo, func(p image.Pointer, to uint64) int { return cmp.Compare(p.To, to) })
	for ; i < len(p.byTo) && p.byTo[i].To <= hi && len(out) < maxPointers; i++ {
		out = append(out, p.byTo[i].At)
	}
	return out
}

// byTo returns pointers, which are sorted by where they stand, sorted by where
// they point first. It files them by one digit of that after the other, the
// lowest first, which compares nothing.
func byTo(list []image.Pointer) []image.Pointer {
	const digit = 11 // bits
	out, spare := slices.Clone(list), make([]image.Pointer, len(list))
	lowest, all := ^uint64(0), uint64(0)
	for _, p := range list {
		lowest = min(lowest, p.To)
	}
	for _, p := range list {
		all |= p.To - lowest
	}
	for shift := 0; all>>shift > 0; shift += digit {
		var first [1<<digit + 1]int
		for _, p := range out {
			first[(p.To-lowest)>>shift%(1<<digit)+1]++
		}
		for i := 1; i < len(first); i++ {
			first[i] += first[i-1]
		}
		for _, p := range out {
			at := &first[(p.To-lowest)>>shift%(1<<digit)]
			spare[*at] = p
			*at++
		}
		out, spare = spare, out
	}
	return out
}

// callsOf returns where own code calls, jumps to or names the function at addr.
func (p *program) callsOf(addr uint64) []uint64 {
	fn := p.Func(addr)
	if fn < 0 || p.Functions[fn].Addr != addr {
		return nil
	}
	var out []uint64
	for _, r := range p.Callers(fn).All() {
		if p.isOwn(r.Addr) {
			out = append(out, r.Addr)
		}
	}
	return out
}

// Limits of the way up from the code of a library to who calls it.
const (
	maxClimb   = 8 // calls
	maxClimbed = 500
)

// climb returns where own code calls into a library from which these places are
// reached; the places themselves if no such call is found. The standard
// libraries of Rust and C++ are linked into a program with as much of them as
// it needs.
func (p *program) climb(uses []uint64) []uint64 {
	seen := map[int]bool{}
	var layer, out []int
	var sites []uint64
	for _, at := range uses {
		if fn := p.Func(at); fn >= 0 && !seen[fn] {
			seen[fn] = true
			layer = append(layer, fn)
		}
	}
	for step := 0; step < maxClimb && len(layer) > 0 && len(sites) == 0; step++ {
		out = out[:0]
		for _, fn := range layer {
			for _, r := range p.Callers(fn).All() {
				by := p.Func(r.Addr)
				switch {
				case by < 0 || seen[by] || len(seen) > maxClimbed:
				case p.isOwn(r.Addr):
					sites = append(sites, r.Addr)
				default:
					seen[by] = true
					out = append(out, by)
				}
			}
		}
		layer = slices.Clone(out)
	}
	if len(sites) == 0 {
		return uses
	}
	return sites
}

// leading returns where own code calls into a library from which the function
// at addr is reached, nothing if no such call is found.
func (p *program) leading(addr uint64) []uint64 {
	if uses := p.climb([]uint64{addr}); len(uses) != 1 || uses[0] != addr {
		return uses
	}
	return nil
}

// maxAround bounds the functions that are looked at around one place.
const maxAround = 2000

// around returns the functions that are at most so many calls away from the one
// that holds addr, up or down.
func (p *program) around(addr uint64, calls int) map[int]bool {
	seen := map[int]bool{p.Func(addr): true}
	layer := []int{p.Func(addr)}
	for ; calls > 0 && len(layer) > 0; calls-- {
		var next []int
		visit := func(fn int) {
			if fn >= 0 && !seen[fn] && p.marks[fn].Own() && len(seen) < maxAround {
				seen[fn] = true
				next = append(next, fn)
			}
		}
		for _, fn := range layer {
			if fn < 0 {
				continue
			}
			for _, r := range p.From(fn) {
				if r.Import < 0 && r.Kind != code.Data {
					visit(p.Func(r.Target))
				}
			}
			for _, r := range p.Callers(fn).All() {
				visit(p.Func(r.Addr))
			}
		}
		layer = next
	}
	return seen
}
