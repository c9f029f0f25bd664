package groundtruth

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// A program is what is to be built.
type program struct {
	target   *target
	behavior *behavior // nil: a control
	variant  Variant
	opt      string // "O0"
	stripped bool
	seed     uint64

	// Drawn from the seed.
	way   string
	root  string // who enters: "export", "napi", "python", "start", "main"
	reach Reach
	wide  int // fillers
}

// roots are who enters a program, by what is linked. A library in Wasm or with
// a C library of its own has fewer.
func (p *program) draw() *rand.Rand {
	rng := rand.New(rand.NewPCG(p.seed, 0x10be))
	switch {
	case p.target.hosted:
		p.root = "main"
	case p.target.os == "wasi":
		p.root = "export"
	default:
		p.root = []string{"export", "export", "napi", "python", "start"}[rng.IntN(5)]
	}
	p.reach = []Reach{Called, Called, Called, Called, Called, Called, Called, Pointed, Pointed, Pointed, Dead, Pointed}[rng.IntN(12)]
	p.wide = 32 + rng.IntN(16)
	return rng
}

// variadic are the functions of C that take more arguments than they name, and
// how many they name: on some machines the others are passed in another way.
var variadic = map[string]int{"open": 2, "curl_easy_setopt": 2, "syscall": 1}

// source is C in the making.
type source struct {
	*program
	rng     *rand.Rand
	externs map[string]call // what is taken from elsewhere, by name
	before  strings.Builder // what the plant needs
	plant   strings.Builder // its body
	others  []string        // calls that fillers make, so that a wrapper has more than one caller
	texts   int
}

// code returns the C of a program, and the functions that it takes from
// elsewhere.
func (p *program) code() (string, []call) {
	s := &source{program: p, rng: p.draw(), externs: map[string]call{}}
	for _, c := range benign[p.target.os] {
		s.take(c)
	}
	if p.behavior != nil {
		s.write()
	}
	return s.whole()
}

func (s *source) take(c call) { s.externs[c.name] = c }

// symbol is the plant's name in C.
func (b *behavior) symbol() string {
	return "plant_" + strings.NewReplacer(" ", "_", "-", "_").Replace(b.name)
}

// write writes the plant and what it needs.
func (s *source) write() {
	switch {
	case s.behavior.table != "":
		s.computes()
	case s.variant == Direct, s.variant == Static:
		s.calls(s.behavior.calls[s.target.os], s.direct)
	case s.variant == Dynamic:
		s.way = "literal name"
		s.calls(s.behavior.calls[s.target.os], func(c call, args []string) string { return s.found(c, s.lookup(quoted(c.name)), args) })
	case s.variant == Wrapper:
		s.wrapped()
	case s.variant == Syscall:
		s.kernels()
	case s.variant == Encoded:
		s.encoded()
	}
}

func quoted(name string) string { return strconv.Quote(name) }

// calls writes the calls of a behaviour, each as one says.
func (s *source) calls(list []call, one func(c call, args []string) string) {
	for i, c := range list {
		args := make([]string, len(c.args))
		for j, a := range c.args {
			args[j] = s.arg(a)
		}
		fmt.Fprintf(&s.plant, "	word r%d = %s;\n", i, one(c, args))
		if i+1 < len(list) && s.rng.IntN(2) == 0 {
			fmt.Fprintf(&s.plant, "	if (r%d == -1) return sum;\n", i)
		}
	}
	fmt.Fprintf(&s.plant, "	sum += r%d;\n", len(list)-1)
}

// arg returns an argument in C.
func (s *source) arg(a string) string {
	switch {
	case a[0] == '$':
		return "r" + a[1:]
	case a == "addr":
		return "(word)address"
	case a == "buf", a == "argv", a[0] == '"', a[0] == 'L':
		return "(word)" + a
	}
	return "(word)" + a
}

func (s *source) direct(c call, args []string) string {
	s.take(c)
	return c.name + "(" + strings.Join(args, ", ") + ")"
}

// pointer is the C type of a pointer to a function with as many arguments.
func (s *source) pointer(c call) string {
	n := len(c.args)
	if v, ok := variadic[c.name]; ok && v < n && s.target.os != "windows" {
		return "(word (*)(" + strings.Repeat("word, ", v) + "...))"
	}
	return "(word (STDCALL *)(" + strings.TrimSuffix(strings.Repeat("word, ", n), ", ") + "))"
}

// lookup asks the loader for a function by a name, C that gives a text.
func (s *source) lookup(name string) string {
	if s.target.os == "windows" {
		s.take(fn("GetProcAddress", "0", "0"))
		s.take(fn("LoadLibraryA", "0"))
		return "GetProcAddress(LoadLibraryA(LIBRARY), (word)" + name + ")"
	}
	s.take(fn("dlsym", "0", "0"))
	handle := "0"
	if s.rng.IntN(3) == 0 {
		s.take(fn("dlopen", "0", "0"))
		handle = `dlopen(LIBRARY, 2)`
	}
	return "dlsym(" + handle + ", (word)" + name + ")"
}

// found calls a function that C in from found.
func (s *source) found(c call, from string, args []string) string {
	library := s.target.fileName(c.library)
	return "(" + s.pointer(c) + strings.ReplaceAll(from, "LIBRARY", "(word)"+quoted(library)) + ")(" + strings.Join(args, ", ") + ")"
}

// wrapped plants a behaviour behind a function of the program's own.
func (s *source) wrapped() {
	calls, number := s.behavior.calls[s.target.os], s.behavior.kernel[s.target.os]
	ways := []string{"call", "name"}
	if s.target.os == "wasi" {
		ways = ways[:1]
	}
	if len(number) > 0 && s.machine() != nil {
		ways = append(ways, "kernel")
	}
	switch s.way = ways[s.rng.IntN(len(ways))]; s.way {
	case "call":
		s.calls(calls, func(c call, args []string) string {
			s.take(c)
			params, passed := make([]string, len(args)), make([]string, len(args))
			for i := range args {
				params[i], passed[i] = fmt.Sprintf("word p%d", i), fmt.Sprintf("p%d", i)
			}
			if len(params) == 0 {
				params = []string{"void"}
			}
			name := fmt.Sprintf("wrap_%s", c.name)
			if !strings.Contains(s.before.String(), name+"(") {
				fmt.Fprintf(&s.before, "static NOINLINE word %s(%s) {\n	word r = %s(%s);\n	if (r == -1) failed++;\n	return r;\n}\n", name, strings.Join(params, ", "), c.name, strings.Join(passed, ", "))
			}
			return name + "(" + strings.Join(args, ", ") + ")"
		})
	case "name":
		look := s.found(call{name: "", library: "c"}, s.lookup("name"), nil)
		look = strings.TrimSuffix(look[strings.Index(look, "))")+2:], ")()")
		fmt.Fprintf(&s.before, "static NOINLINE word wrap_find(const char *name) {\n	word r = %s;\n	if (!r) failed++;\n	return r;\n}\n", look)
		s.others = append(s.others, `wrap_find("`+harmless[s.target.os][0]+`")`, `wrap_find("`+harmless[s.target.os][1]+`")`)
		s.calls(calls, func(c call, args []string) string {
			return "(" + s.pointer(c) + "wrap_find(" + quoted(c.name) + "))(" + strings.Join(args, ", ") + ")"
		})
	case "kernel":
		s.enter("wrap_kernel", "static NOINLINE")
		s.others = append(s.others, fmt.Sprintf("wrap_kernel(%d, 0, 0, 0, 0, 0, 0)", s.machine()["getpid"]))
		s.calls(number, func(c call, args []string) string { return s.number("wrap_kernel", c, args) })
	}
}

// harmless are functions that others ask for by name.
var harmless = map[string][2]string{"linux": {"qsort", "strtol"}, "darwin": {"qsort", "strtol"}, "windows": {"GetTickCount", "lstrcmpA"}}

// machine returns the numbers of system calls, nil if they are not for programs
// to use.
func (s *source) machine() map[string]int { return numbers[s.target.os+"/"+s.target.arch] }

func (s *source) enter(name, storage string) {
	fmt.Fprintf(&s.before, "%s word %s(word n, word a, word b, word c, word d, word e, word f) {\n%s\n}\n", storage, name, enter[s.target.os+"/"+s.target.arch])
}

// number returns C that calls the kernel through a function.
func (s *source) number(through string, c call, args []string) string {
	table := s.machine()
	name := c.name
	if o, ok := older[name]; ok && table[o] != 0 && s.rng.IntN(2) == 0 {
		name, args = o, args[1:]
		if o == "unlink" {
			args = args[:1]
		}
	}
	n, ok := table[name]
	if !ok {
		panic("groundtruth: no number of " + name + " for " + s.target.name)
	}
	args = append([]string{strconv.Itoa(n)}, args...)
	for len(args) < 7 {
		args = append(args, "0")
	}
	return through + "(" + strings.Join(args[:7], ", ") + ")"
}

// kernels plants a behaviour that calls the kernel itself.
func (s *source) kernels() {
	list := s.behavior.kernel[s.target.os]
	ways := []string{"instruction", "instruction", "instruction"}
	if s.target.os == "linux" {
		ways = append(ways, "library")
	}
	if s.target.arch == "x86" && slices.ContainsFunc(list, func(c call) bool { return c.name == "socket" }) {
		ways = append(ways, "socketcall")
	}
	switch s.way = ways[s.rng.IntN(len(ways))]; s.way {
	case "instruction":
		s.enter("enter", "static inline __attribute__((always_inline))")
		s.calls(list, func(c call, args []string) string { return s.number("enter", c, args) })
	case "library":
		s.calls(list, func(c call, args []string) string {
			s.take(fn("syscall", "0", "0", "0", "0", "0", "0", "0"))
			return s.number("syscall", c, args)
		})
	case "socketcall":
		s.enter("enter", "static inline __attribute__((always_inline))")
		s.calls(list, func(c call, args []string) string {
			sub, ok := socketCalls[strings.TrimSuffix(c.name, "4")]
			if !ok {
				return s.number("enter", c, args)
			}
			s.texts++
			fmt.Fprintf(&s.plant, "	word v%d[] = {%s};\n", s.texts, strings.Join(args, ", "))
			return fmt.Sprintf("enter(102, %d, (word)v%d, 0, 0, 0, 0)", sub, s.texts)
		})
	}
}

// encoded plants a behaviour of which the names, or the text that tells the
// purpose, are unreadable.
func (s *source) encoded() {
	d := disguises[s.rng.IntN(len(disguises))]
	inline := d.c != "" && s.rng.IntN(3) == 0
	s.way = d.name
	if d.c != "" {
		storage := "static NOINLINE"
		if inline {
			storage = "static inline __attribute__((always_inline))"
		}
		fmt.Fprintf(&s.before, "%s void wrap_decode(char *out, const byte *in, word n) {\n%s}\n", storage, d.c)
	}
	hide := func(text string) string {
		s.texts++
		v := fmt.Sprintf("t%d", s.texts)
		fmt.Fprintf(&s.plant, "	char %s[%d];\n", v, len(text)+4)
		if d.c == "" {
			for i := range len(text) {
				fmt.Fprintf(&s.plant, "	%s[%d] = %d;\n", v, i, text[i])
			}
			fmt.Fprintf(&s.plant, "	%s[%d] = 0;\n", v, len(text))
			return v
		}
		worn := d.wear([]byte(text))
		fmt.Fprintf(&s.before, "static const byte worn_%s[] = {", v)
		for _, c := range worn {
			fmt.Fprintf(&s.before, "%d,", c)
		}
		s.before.WriteString("};\n")
		fmt.Fprintf(&s.plant, "	wrap_decode(%s, worn_%s, %d);\n", v, v, len(worn))
		return v
	}
	calls := s.behavior.calls[s.target.os]
	if s.behavior.through {
		s.way += ", text"
		s.calls(calls, func(c call, args []string) string {
			for i, a := range args {
				if t, ok := strings.CutPrefix(a, `(word)"`); ok && len(t) > 5 {
					plain, err := strconv.Unquote(`"` + t)
					if err != nil {
						panic("groundtruth: " + err.Error())
					}
					args[i] = "(word)" + hide(plain)
				}
			}
			return s.direct(c, args)
		})
		return
	}
	s.way += ", name"
	s.calls(calls, func(c call, args []string) string { return s.found(c, s.lookup(hide(c.name)), args) })
}

// computes plants a constant of a cipher or hash, and code that works with it.
func (s *source) computes() {
	data := tables()[s.behavior.table]
	element, format := "u32", "0x%08x,"
	if s.behavior.table == "aes" || s.behavior.table == "chacha" {
		element, format = "byte", "%d,"
	}
	fmt.Fprintf(&s.before, "static const %s constants[] = {", element)
	count := len(data)
	if element == "byte" {
		for _, c := range data {
			fmt.Fprintf(&s.before, format, c)
		}
	} else {
		count /= 4
		for i := 0; i < len(data); i += 4 {
			fmt.Fprintf(&s.before, format, uint32(data[i])|uint32(data[i+1])<<8|uint32(data[i+2])<<16|uint32(data[i+3])<<24)
		}
	}
	s.before.WriteString("};\n")
	mask := 1
	for mask*2 <= count {
		mask *= 2
	}
	work := fmt.Sprintf("	for (word i = 0; i < %d; i++) { u32 t = (u32)%%s[(u32)(sum + i) & %d]; sum = (sum << 3) ^ (sum >> 5) ^ (word)t; }\n", count, mask-1)
	if s.variant == Wrapper {
		s.way = "table"
		fmt.Fprintf(&s.before, "static NOINLINE word wrap_mix(const %s *table, word sum) {\n%s	return sum;\n}\n", element, fmt.Sprintf(work, "table"))
		fmt.Fprintf(&s.before, "static const %s room[%d] = {1, 2, 3};\n", element, count)
		s.others = append(s.others, "wrap_mix(room, x)")
		s.plant.WriteString("	sum = wrap_mix(constants, sum);\n")
		return
	}
	fmt.Fprintf(&s.plant, work, "constants")
}

// whole puts the program together.
func (s *source) whole() (string, []call) {
	var b strings.Builder
	b.WriteString(head)
	if s.target.os == "windows" {
		if s.target.arch == "x86" {
			b.WriteString("#define STDCALL __attribute__((stdcall))\n")
		} else {
			b.WriteString("#define STDCALL\n")
		}
	} else {
		b.WriteString("#define STDCALL\n")
	}
	entry := s.entry()
	for _, name := range slices.Sorted(maps.Keys(s.externs)) {
		b.WriteString(s.extern(s.externs[name]))
	}
	b.WriteString(`static const byte address[16] = {2, 0, 1, 187, 192, 0, 2, 1};
static volatile word armed, failed;
static char *argv[] = {"/bin/sh", "-c", "id > /dev/null", 0};
`)
	n := s.wide
	for i := range n {
		fmt.Fprintf(&b, "static NOINLINE word fill_%d(word, word);\n", i)
	}
	b.WriteString(s.before.String())
	callees := make([][]string, n)
	for i := 1; i < n; i++ {
		by := max(0, i-1-s.rng.IntN(6))
		callees[by] = append(callees[by], fmt.Sprintf("fill_%d", i))
	}
	for i, c := range s.others {
		at := (n / 2) + i
		fmt.Fprintf(&b, "static NOINLINE word other_%d(word x, word b) { return x ^ %s; }\n", i, c)
		callees[at] = append(callees[at], fmt.Sprintf("other_%d", i))
	}
	at := n + 1
	if s.behavior != nil {
		at = s.rng.IntN(n)
		name := s.behavior.symbol()
		fmt.Fprintf(&b, "HIDDEN NOINLINE word %s(word, word);\n", name)
		by := s.rng.IntN(n)
		switch s.reach {
		case Called:
			callees[by] = append(callees[by], name)
		case Pointed:
			fmt.Fprintf(&b, "static word (*const steps[4])(word, word) = {fill_1, fill_2, %s, fill_3};\n", name)
			fmt.Fprintf(&b, "static NOINLINE word step(word a, word b) { return steps[a & 3](a, b); }\n")
			callees[by] = append(callees[by], "step")
		}
	}
	for i := range n {
		if i == at {
			fmt.Fprintf(&b, "HIDDEN NOINLINE word %s(word a, word b) {\n	word sum = a;\n	byte buf[64];\n	if (!armed) return sum;\n%s	return sum + b;\n}\n", s.behavior.symbol(), s.plant.String())
		}
		filler(&b, s.rng, i, callees[i], s.target.os)
	}
	b.WriteString(entry)
	externs := make([]call, 0, len(s.externs))
	for _, name := range slices.Sorted(maps.Keys(s.externs)) {
		externs = append(externs, s.externs[name])
	}
	return b.String(), externs
}

const head = `typedef __INTPTR_TYPE__ word;
typedef unsigned char byte;
typedef unsigned u32;
#define NOINLINE __attribute__((noinline))
#ifdef _WIN32
#define HIDDEN
#define EXPORT __declspec(dllexport)
#else
#define HIDDEN __attribute__((visibility("hidden")))
#define EXPORT __attribute__((visibility("default")))
#endif
`

// extern declares a function from elsewhere.
func (s *source) extern(c call) string {
	attribute, convention := "", "STDCALL "
	switch {
	case s.target.os == "wasi":
		attribute = fmt.Sprintf(`__attribute__((import_module("wasi_snapshot_preview1"), import_name("%s"))) `, c.name)
	case slices.Contains([]string{"msvcrt", "node", "python"}, c.library):
		convention = ""
	}
	if s.target.os == "windows" && s.seed&1 == 0 { // otherwise through a jump
		attribute = "__declspec(dllimport) "
	}
	n := len(c.args)
	params := strings.TrimSuffix(strings.Repeat("word, ", n), ", ")
	if v, ok := variadic[c.name]; ok && v < n && s.target.os != "windows" {
		params, convention = strings.Repeat("word, ", v)+"...", ""
	}
	if n == 0 {
		params = "void"
	}
	return fmt.Sprintf("%sextern word %s%s(%s);\n", attribute, convention, c.name, params)
}

// entry is where the program is entered.
func (s *source) entry() string {
	switch s.root {
	case "napi":
		s.take(call{"napi_create_function", "node", []string{"0", "0", "0", "0", "0", "0"}})
		s.take(call{"napi_set_named_property", "node", []string{"0", "0", "0", "0"}})
		return `static word compute(word env, word info) { return fill_0(env, info); }
EXPORT word napi_register_module_v1(word env, word exports) {
	word f = 0;
	napi_create_function(env, (word)"compute", -1, (word)compute, 0, (word)&f);
	napi_set_named_property(env, exports, (word)"compute", f);
	return exports;
}
`
	case "python":
		s.take(call{"PyModule_Create2", "python", []string{"0", "0"}})
		return `static word compute(word self, word args) { return fill_0(self, args); }
static struct { const char *name; word (*f)(word, word); int flags; const char *doc; } methods[] = {{"compute", compute, 1, "Compute."}, {0}};
static struct { word base[5]; const char *name, *doc; word size; void *methods; void *rest[4]; } module = {{1}, "sample", "Computes.", -1, methods};
EXPORT word PyInit_sample(void) { return PyModule_Create2((word)&module, 1013); }
`
	case "start":
		leave := "exit"
		if s.target.os == "windows" {
			leave = "ExitProcess"
		}
		s.take(fn(leave, "0"))
		return "EXPORT void start(void) { " + leave + "(fill_0(1, 2)); for (;;) {} }\n"
	case "main":
		return "int main(int argc, char **args) { return (int)fill_0(argc, (word)args); }\n"
	}
	return "EXPORT word compute(word a, word b) { return fill_0(a, b); }\n"
}
