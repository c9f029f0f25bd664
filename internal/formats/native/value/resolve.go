package value

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// memory returns what size bytes at an address hold when the function runs:
// pointers that the loader puts there, and what nobody may write.
func (r *Reader) memory(base val, addr uint64, size int64) val {
	if r.machine.word == 4 {
		addr &= 1<<32 - 1
	}
	if !base.at && !r.fixed {
		return val{}
	}
	if size == r.machine.word {
		if i, ok := r.imports[addr]; ok {
			return val{kind: imported, n: int64(i)}
		}
		if to, ok := r.exports[addr]; ok {
			return val{kind: num, n: int64(to), at: true}
		}
		p := r.m.Pointers
		if i := sort.Search(len(p), func(i int) bool { return p[i].At >= addr }); i < len(p) && p[i].At == addr {
			return val{kind: num, n: int64(p[i].To), at: true}
		}
	}
	b := r.m.At(addr)
	if int64(len(b)) < size || size <= 0 {
		return val{}
	}
	if size > 8 {
		if r.writable(addr) {
			return val{}
		}
		return val{kind: blob, n: int64(addr), at: true}
	}
	v := val{kind: num, n: little(b[:size])}
	if r.writable(addr) {
		// A variable: only a pointer is likely to stay what it was.
		if !r.fixed || size != r.machine.word || !r.mapped(uint64(v.n)) {
			return val{}
		}
	}
	return v
}

// writable reports whether what is mapped at an address may be changed by the
// program.
func (r *Reader) writable(addr uint64) bool {
	s := r.segment(addr)
	return s == nil || s.Access&image.Write != 0
}

// mapped reports whether a number is an address of the binary.
func (r *Reader) mapped(addr uint64) bool { return addr >= minFixed && r.segment(addr) != nil }

func (r *Reader) segment(addr uint64) *image.Segment {
	s := r.m.Segments
	i := sort.Search(len(s), func(i int) bool { return s[i].Addr > addr }) - 1
	if i < 0 || addr-s[i].Addr >= max(s[i].Size, s[i].FileSize) {
		return nil
	}
	return &s[i]
}

// incoming returns the parameter that a caller left on the stack, at an offset
// from the stack pointer at entry.
func (r *Reader) incoming(off int64, gone uint64) val {
	off -= r.conv.callee
	at := off + r.conv.callee
	if off < 0 || off%r.machine.word != 0 || at < 0 || at >= 256 || gone&(1<<(at/4)) != 0 {
		return val{}
	}
	n := int64(len(r.conv.args)) + off/r.machine.word
	if n >= maxArgs || r.conv == &goX86_64 || r.conv == &goARM64 {
		return val{}
	}
	return val{kind: param, n: n}
}

// code returns what a direct call of an address calls: an import behind its
// stub, or a function.
func (r *Reader) code(addr uint64) val {
	if i, ok := r.imports[addr]; ok {
		return val{kind: imported, n: int64(i)}
	}
	if to, ok := r.exports[addr]; ok {
		return val{kind: num, n: int64(to), at: true}
	}
	return r.thunk(addr)
}

// thunk returns where the code at an address leads, if all it does is to jump
// on: import libraries and linkers make such stubs. Else it returns
// the address.
func (r *Reader) thunk(addr uint64) val {
	self := val{kind: num, n: int64(addr), at: true}
	if r.inThunk > 2 {
		return self
	}
	if v, ok := r.thunks[addr]; ok && r.inThunk == 0 {
		return v
	}
	v := self
	if r.jumpsOn(addr) {
		r.inThunk++
		if f := r.follow(run{addr, addr + longestThunk, true}); len(f.steps) > 0 && f.steps[0].Flow == Tail {
			switch to := f.steps[0].Callee; to.Kind {
			case Import:
				v = val{kind: imported, n: int64(to.Import)}
			case Function:
				v = val{kind: num, n: int64(to.Addr), at: true}
			}
		}
		r.inThunk--
	}
	if r.inThunk == 0 { // what is seen from inside of others ends sooner
		r.thunks[addr] = v
	}
	return v
}

const longestThunk = 20 // bytes: four instructions, or a jump with a landing pad

// jumpsOn reports whether code does no more than to jump elsewhere: it leaves
// arguments as they are, and the stack.
func (r *Reader) jumpsOn(addr uint64) bool {
	b := r.m.At(addr)
	b = b[:min(len(b), longestThunk)]
	d := &decoder{r: r, entry: addr, thumb: r.thumb(addr, b)}
	for len(b) > 0 {
		in, ok := r.machine.decode(d, b, addr)
		if !ok || in.size == 0 || int(in.size) > len(b) {
			return false
		}
		for i := range d.ops {
			o := &d.ops[i]
			if o.kind == opStore || o.kind <= opLoad && (o.dst == r.machine.sp || slices.Contains(r.conv.args, o.dst)) {
				return false
			}
		}
		if in.flow != Next {
			return in.flow == Jump
		}
		d.ops = d.ops[:0]
		b, addr = b[in.size:], addr+uint64(in.size)
	}
	return false
}

// isStart reports whether a function starts at an address.
func (r *Reader) isStart(addr uint64) bool {
	fn := r.c.Func(addr)
	return fn >= 0 && r.c.Functions[fn].Addr == addr
}

// calleeName returns the name of an import that is called, or nothing.
func (r *Reader) calleeName(callee val) string {
	if callee.kind == imported && int(callee.n) < len(r.m.Imports) {
		return r.m.Imports[callee.n].Name
	}
	return ""
}

// arguments returns those of a call.
func (r *Reader) arguments(s *state, callee val, flow Flow) []Value {
	name := r.calleeName(callee)
	conv := r.conv
	if name != "" {
		conv = r.foreign
	}
	vals := make([]val, 0, maxArgs)
	for _, reg := range conv.args {
		if len(vals) < maxArgs {
			vals = append(vals, s.regs[reg])
		}
	}
	if sp := s.regs[r.machine.sp]; sp.kind == frame {
		off := sp.n + conv.stack
		if flow == Tail {
			off += conv.callee - conv.stack // the return address is its caller's
		}
		for ; len(vals) < maxArgs && (flow == Tail || off < 0); off += r.machine.word {
			v := s.get(off, r.machine.word, r)
			if v.kind == unknown && r.machine.word == 8 && flow != Tail {
				v = s.get(off, 4, r)
			}
			if v.kind == unknown {
				v = r.incoming(off, s.gone)
			}
			vals = append(vals, v)
		}
	}
	return r.values(vals, s, name)
}

func (r *Reader) registers(s *state, regs []uint8, name string) []Value {
	vals := make([]val, 0, maxArgs)
	for _, reg := range regs {
		vals = append(vals, s.regs[reg])
	}
	return r.values(vals, s, name)
}

// values resolves arguments. Texts without an end of their own take it from the
// argument behind them.
func (r *Reader) values(vals []val, s *state, name string) []Value {
	// What was written is an argument as long as those before it were written
	// too; else it is what some other use left.
	given := 0
	for given < len(vals) && vals[given].kind != unknown {
		given++
	}
	for len(vals) > given && (vals[len(vals)-1].kind == unknown || vals[len(vals)-1].kind == some || vals[len(vals)-1].kind == moved) {
		vals = vals[:len(vals)-1]
	}
	out := make([]Value, len(vals))
	for i, v := range vals {
		out[i] = r.resolve(v, s, name)
		if i+1 < len(vals) && vals[i+1].kind == num && !vals[i+1].at {
			r.measure(&out[i], vals[i+1].n, name != "")
		}
	}
	return out
}

// measure cuts a text to its length, if it goes with one. In Go and Rust that
// is so between functions of the binary; what comes from elsewhere speaks C.
func (r *Reader) measure(v *Value, n int64, foreign bool) {
	if n <= 0 || n > maxText {
		return
	}
	switch v.Kind {
	case String:
		if v.Addr == 0 || !r.packed() || foreign || n > int64(len(v.Text)) {
			return
		}
	case Address:
		if n < 2 && !r.packed() {
			return
		}
	case Stack:
		if n < minBuilt || int64(len(v.Text)) < n {
			return
		}
		if t := v.Text[:n]; printable(t) {
			*v = Value{Kind: String, Text: t}
		}
		return
	default:
		return
	}
	b := r.m.At(v.Addr)
	if int64(len(b)) < n {
		return
	}
	if t := string(b[:n]); printable(t) {
		*v = Value{Kind: String, Text: t, Addr: v.Addr}
	}
}

// resolve turns a val into what is known of it to others. name is that of the
// import that it is passed to.
func (r *Reader) resolve(v val, s *state, name string) Value {
	switch v.kind {
	case num:
		return r.number(v, name)
	case frame:
		b := s.bytes(v.n, maxText, r)
		if len(b) >= minBuilt {
			if t, ok := r.textOf(b, name); ok && len(t) >= minBuilt {
				return Value{Kind: String, Text: t}
			}
		}
		return Value{Kind: Stack, Offset: v.n, Text: string(b[:min(len(b), 64)])}
	case param:
		return Value{Kind: Parameter, Param: int(v.n)}
	case result:
		return Value{Kind: Result, Addr: uint64(v.n)}
	case imported:
		return Value{Kind: Import, Import: int(v.n)}
	}
	return Value{}
}

func (r *Reader) number(v val, name string) Value {
	addr := uint64(v.n)
	if !v.at && (!r.fixed || addr < minFixed) || r.segment(addr) == nil {
		return Value{Kind: Const, Const: v.n}
	}
	if i, ok := r.imports[addr]; ok && r.m.Imports[i].Stub == addr {
		return Value{Kind: Import, Import: int(i)}
	}
	if r.isStart(addr) {
		return Value{Kind: Function, Addr: addr}
	}
	if r.m.Arch == image.ARM && addr&1 != 0 && r.isStart(addr-1) {
		return Value{Kind: Function, Addr: addr - 1}
	}
	inCode := r.inCode(addr)
	if t, ok := r.textOf(r.m.At(addr), name); ok && (!inCode || len(t) >= 4) {
		return Value{Kind: String, Text: t, Addr: addr}
	}
	if !v.at && inCode {
		return Value{Kind: Const, Const: v.n}
	}
	return Value{Kind: Address, Addr: addr}
}

// span is a run of addresses, up to before hi.
type span struct{ lo, hi uint64 }

// codeSpans returns where the sections with instructions are, by address and
// without overlaps.
func codeSpans(m *image.Image) []span {
	var all []span
	for i := range m.Sections {
		if s := &m.Sections[i]; s.Code && s.Addr != 0 && s.Addr+s.Size > s.Addr {
			all = append(all, span{s.Addr, s.Addr + s.Size})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	var out []span
	for _, s := range all {
		if n := len(out); n > 0 && s.lo <= out[n-1].hi {
			out[n-1].hi = max(out[n-1].hi, s.hi)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// inCode reports whether an address lies among instructions.
func (r *Reader) inCode(addr uint64) bool {
	i := sort.Search(len(r.codes), func(i int) bool { return r.codes[i].hi > addr })
	return i < len(r.codes) && addr >= r.codes[i].lo
}

// readers are functions of the C library and of Windows that leave what their
// arguments point to as it is. Others may write where they get an address of
// the stack.
var readers = setOf(`access atoi atol chdir chmod chown connect bind creat dlopen dlsym execl execlp execv execve execvp
		fopen fopen64 fprintf fputs fwrite getaddrinfo gethostbyname getenv inet_addr inet_aton kill link lstat mkdir mknod open open64 openat opendir
		perror popen posix_spawn posix_spawnp printf puts putenv readlink remove rename rmdir send sendto setenv stat strchr strcmp strcasecmp strdup
		strlen strncmp strncasecmp strrchr strstr symlink syslog system unlink unsetenv write wcslen wcscmp memcmp
		CreateFileA CreateFileW CreateProcessA DeleteFileA DeleteFileW FindWindowA FindWindowW GetModuleHandleA GetModuleHandleW GetProcAddress
		LoadLibraryA LoadLibraryExA LoadLibraryExW LoadLibraryW MessageBoxA MessageBoxW OutputDebugStringA RegCreateKeyA RegCreateKeyExA RegCreateKeyExW
		RegOpenKeyExA RegOpenKeyExW RegSetValueExA RegSetValueExW ShellExecuteA ShellExecuteW WinExec WriteFile lstrlenA lstrlenW lstrcmpA lstrcmpiA
		InternetOpenA InternetOpenW InternetConnectA InternetConnectW HttpOpenRequestA WinHttpOpen WinHttpConnect WinHttpOpenRequest`)

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}

// written does to the stack what a callee may do to it: nothing if it is known
// only to read, a copy if it is known to copy, and else it changes the numbers
// and texts from where it got an address.
func (r *Reader) written(s *state, callee val) {
	name := r.calleeName(callee)
	if readers[name] {
		return
	}
	vals := make([]val, 0, maxArgs)
	for _, reg := range r.conv.args {
		vals = append(vals, s.regs[reg])
	}
	if sp := s.regs[r.machine.sp]; sp.kind == frame {
		for k := int64(0); len(vals) < 6; k++ {
			vals = append(vals, s.get(sp.n+r.conv.stack+k*r.machine.word, r.machine.word, r))
		}
	}
	if r.copied(s, name, vals) {
		return
	}
	for _, v := range vals[:min(len(vals), 6)] {
		if v.kind != frame {
			continue
		}
		if n := len(s.bytes(v.n, 256, r)); n > 0 {
			s.clear(v.n, int64(n))
		}
	}
}

// copied carries out the functions of C that copy what is known to the stack.
func (r *Reader) copied(s *state, name string, vals []val) bool {
	if len(vals) < 3 || vals[0].kind != frame {
		return false
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "__"), "_chk")
	var n int64
	switch name {
	case "memcpy", "memmove":
		if vals[2].kind != num {
			return false
		}
		n = vals[2].n
	case "strcpy":
		if vals[1].kind != num {
			return false
		}
		b := r.m.At(uint64(vals[1].n))
		n = int64(bytes.IndexByte(b[:min(len(b), maxBlob)], 0) + 1)
	}
	if n <= 0 || n > maxBlob {
		return false
	}
	v := r.memory(vals[1], uint64(vals[1].n), n)
	if vals[1].kind != num || v.kind != blob && v.kind != num {
		return false
	}
	s.put(vals[0].n, n, v)
	return true
}
