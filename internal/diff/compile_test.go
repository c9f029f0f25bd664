package diff_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/diff"
	"github.com/loupe-sec/loupe/internal/enrich"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/scanners/native"
)

// A program is C source of which everything is known: its functions, what they
// call, and what they do to the machine.
type program struct {
	workers int
	without []int          // workers that are left out
	renamed map[int]string // workers that go by another name
	edited  map[int]bool   // workers of which a line is different
	calls   map[int]string // workers that also call a name
	extra   []string       // features that are added, by the name that they call
	lacks   []string       // features that are left out
}

// features are what the program does: names of the system, what they take in C,
// and the rule that tells it.
var features = map[string]struct{ unix, windows, rule string }{
	"network": {"connect", "connect", "native/connects-out"},
	"list":    {"opendir", "FindFirstFileA", "native/lists-folders"},
	"delete":  {"unlink", "DeleteFileA", "native/deletes-files"},
	"process": {"execve", "CreateProcessA", "native/starts-programs"},
}

// base is the program before any edit.
func base() program { return program{workers: 40, extra: []string{"network", "list"}} }

func (p program) name(i int) string {
	if n := p.renamed[i]; n != "" {
		return n
	}
	return fmt.Sprintf("worker_%d", i)
}

// source writes the program. The body of a worker depends on its number alone.
func (p program) source() string {
	var b strings.Builder
	b.WriteString(`
#ifdef _WIN32
#define IMPORT extern __declspec(dllimport)
#define EXPORT __declspec(dllexport)
int _DllMainCRTStartup(void) { return 1; }
#else
#define IMPORT extern
#define EXPORT __attribute__((visibility("default")))
#endif
#define NOINLINE __attribute__((noinline))
#if defined(__clang__)
#define APART NOINLINE
#else
#define APART __attribute__((noipa))
#endif
static volatile int state[64];
NOINLINE static int note(const char *s) { while (*s) state[1] += *s++; return state[1]; }
`)
	var names []string
	for _, f := range features {
		names = append(names, fmt.Sprintf("#ifdef _WIN32\nIMPORT int %s(const void *, const void *, int);\n#else\nIMPORT int %s(const void *, const void *, int);\n#endif\n", f.windows, f.unix))
	}
	slices.Sort(names)
	b.WriteString(strings.Join(names, ""))
	call := func(feature string) string {
		f := features[feature]
		return fmt.Sprintf("\n#ifdef _WIN32\n%s(s, (void *)state, x)\n#else\n%s(s, (void *)state, x)\n#endif\n", f.windows, f.unix)
	}
	for i := range p.workers {
		if slices.Contains(p.without, i) {
			continue
		}
		r := rand.New(rand.NewPCG(7, uint64(i)))
		fmt.Fprintf(&b, "APART static int %s(int x, const char *s) {\n\tint y = x ^ %d;\n", p.name(i), r.IntN(100000))
		if p.edited[i] {
			fmt.Fprintf(&b, "\ty += state[%d] * 77 + note(\"an edit of %d\");\n", r.IntN(64), i)
		}
		for range 2 + r.IntN(4) {
			switch r.IntN(6) {
			case 0:
				fmt.Fprintf(&b, "\tfor (int i = 0; i < x; i++) { y += state[(i + %d) & 63] * %d; state[i & 63] ^= y; }\n", r.IntN(64), 3+r.IntN(50))
			case 1:
				fmt.Fprintf(&b, "\ty += note(\"worker %d says %d\");\n", i, r.IntN(1000))
			case 2:
				fmt.Fprintf(&b, "\tif (y > %d) { state[%d] = y; y = y / %d; } else y *= %d;\n", r.IntN(5000), r.IntN(64), 3+r.IntN(20), 3+r.IntN(9))
			case 3:
				fmt.Fprintf(&b, "\tswitch (y & 7) { case 0: y += %d; break; case 1: y ^= %d; break; case 2: state[%d]++; break; case 3: y -= x; break; case 4: y *= %d; }\n", r.IntN(999), r.IntN(9999), r.IntN(64), 3+r.IntN(77))
			case 4:
				fmt.Fprintf(&b, "\twhile (*s && y > %d) { y -= *s++; state[%d] += y; }\n", r.IntN(300), r.IntN(64))
			case 5:
				to := -1
				if i > 0 {
					to = r.IntN(i)
				}
				if to >= 0 && !slices.Contains(p.without, to) {
					fmt.Fprintf(&b, "\ty += %s(y + %d, s);\n", p.name(to), r.IntN(999))
				}
			}
		}
		if f := p.calls[i]; f != "" {
			fmt.Fprintf(&b, "\ty += %s;\n", call(f))
		}
		b.WriteString("\treturn y;\n}\n")
	}
	var used []string
	for _, f := range p.extra {
		if slices.Contains(p.lacks, f) {
			continue
		}
		used = append(used, f)
		fmt.Fprintf(&b, "APART static int feature_%s(int x, const char *s) {\n\tif (x > 3 && note(\"a feature called %s\") > x) return %s + 1;\n\tstate[3] = x;\n\treturn 0;\n}\n", f, f, call(f))
	}
	b.WriteString("EXPORT int run_all(int x, const char *s) {\n")
	for i := range p.workers {
		if !slices.Contains(p.without, i) {
			fmt.Fprintf(&b, "\tx += %s(x, s);\n", p.name(i))
		}
	}
	for _, f := range used {
		fmt.Fprintf(&b, "\tx += feature_%s(x, s);\n", f)
	}
	b.WriteString("\treturn x;\n}\nEXPORT int reset(int x) { state[0] = x; return note(\"reset\"); }\n")
	return b.String()
}

// A machine is one kind of binary.
type machine struct {
	name, triple string
	compile      []string
	link         []string
	gcc          string // that makes the same, if there is one
	levels       int    // of optimization at which edits are tried
}

var machines = []machine{
	{"ELF x86_64", "x86_64-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "--eh-frame-hdr"}, "gcc", 2},
	{"ELF aarch64", "aarch64-linux-gnu", []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "--eh-frame-hdr"}, "aarch64-linux-gnu-gcc", 1},
	{"PE x86_64", "x86_64-pc-windows-msvc", nil, []string{"lld-link-16", "/dll", "/entry:_DllMainCRTStartup", "/nodefaultlib", "/debug:symtab"}, "", 2},
	{"Mach-O x86_64", "x86_64-apple-macos11", nil, []string{"ld64.lld-16", "-arch", "x86_64", "-platform_version", "macos", "11.0", "11.0", "-dylib", "-undefined", "dynamic_lookup"}, "", 1},
	{"Mach-O aarch64", "arm64-apple-macos11", nil, []string{"ld64.lld-16", "-arch", "arm64", "-platform_version", "macos", "11.0", "11.0", "-dylib", "-undefined", "dynamic_lookup"}, "", 1},
}

// system is the library for Windows from which the program imports.
const system = `
int _DllMainCRTStartup(void) { return 1; }
#define E(n) __declspec(dllexport) int n(const void *a, const void *b, int c) { return c; }
E(connect) E(FindFirstFileA) E(DeleteFileA) E(CreateProcessA)
`

// build compiles and links a program with a compiler, "" for clang.
func (m machine) build(t testing.TB, dir, out string, p program, compiler string, flags ...string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in(out+".c"), p.source())
	args := append([]string{"-w", "-ffreestanding", "-fno-stack-protector", "-c", in(out + ".c"), "-o", in(out + ".o")}, flags...)
	args = append(args, m.compile...)
	if compiler == "" {
		compiler, args = "clang-16", append([]string{"-target", m.triple}, args...)
	}
	run(t, compiler, args...)
	if !strings.Contains(m.triple, "windows") {
		run(t, m.link[0], append(slices.Clone(m.link[1:]), "-o", in(out), in(out+".o"))...)
		return
	}
	if _, err := os.Stat(in("system.lib")); err != nil {
		write(t, in("system.c"), system)
		run(t, "clang-16", "-target", m.triple, "-w", "-c", in("system.c"), "-o", in("system.o"))
		run(t, m.link[0], append(slices.Clone(m.link[1:]), "/out:"+in("system.dll"), "/implib:"+in("system.lib"), in("system.o"))...)
	}
	run(t, m.link[0], append(slices.Clone(m.link[1:]), "/out:"+in(out), in(out+".o"), in("system.lib"))...)
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// look scans one file as the command line would, under a name of its own.
func look(t testing.TB, file, as string) *report.Report {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, as), string(data))
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, "")
	defer ws.Close()
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		t.Fatal(err)
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{native.Marking(native.Scanner)}, ws, nil, scan.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := &report.Report{Binaries: inventory.Binaries.Of(res), Findings: res.Findings, Notes: res.Notes}
	r.Risk, r.Summary = enrich.Assess(nil, r.Binaries, r.Findings, r.Notes)
	if len(r.Binaries) != 1 || r.Binaries[0].Marks == nil {
		t.Fatalf("%d binaries in %s: %+v", len(r.Binaries), file, r.Notes)
	}
	return r
}

// anonymous takes the names off the functions, as strip does.
func anonymous(r *report.Report) (names map[uint64]string) {
	names = map[uint64]string{}
	for i := range r.Binaries[0].Marks.Functions {
		f := &r.Binaries[0].Marks.Functions[i]
		names[f.Addr] = strings.TrimPrefix(f.Name, "_")
		f.Name = ""
	}
	return names
}

// An edit makes another version of the program.
type edit struct {
	name           string
	make           func(p *program)
	added, removed []string // rules
	touched        []string // functions that are not the same any more
}

var edits = []edit{
	{"nothing", func(*program) {}, nil, nil, nil},
	{"a function more", func(p *program) { p.extra = append(p.extra, "process") }, []string{"native/starts-programs"}, nil, []string{"run_all"}},
	{"a function less", func(p *program) { p.lacks = []string{"network"} }, nil, []string{"native/connects-out"}, []string{"run_all"}},
	{"a call more", func(p *program) { p.calls = map[int]string{17: "delete"} }, []string{"native/deletes-files"}, nil, []string{"worker_17"}},
	{"another name", func(p *program) { p.renamed = map[int]string{5: "labour", 23: "toil"} }, nil, nil, []string{"labour", "toil"}},
	{"a few lines", func(p *program) { p.edited = map[int]bool{3: true, 19: true, 30: true} }, nil, nil, []string{"worker_3", "worker_19", "worker_30"}},
	{"workers gone", func(p *program) { p.without = []int{11, 28} }, nil, nil, nil},
	{"one for another", func(p *program) { p.lacks = []string{"list"}; p.extra = append(p.extra, "process", "delete") },
		[]string{"native/deletes-files", "native/starts-programs"}, []string{"native/lists-folders"}, []string{"run_all"}},
}

// TestEdits compiles versions of a program with known edits and asks for
// exactly those behaviours, and for the functions that were not touched, by
// name or without any.
func TestEdits(t *testing.T) {
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			total, right := 0, 0
			for _, level := range []string{"-O2", "-O0"}[:m.levels] {
				m.build(t, dir, "old", base(), "", level)
				for _, e := range edits {
					p := base()
					e.make(&p)
					m.build(t, dir, "new", p, "", level)
					n, ok := checkEdit(t, e, level, look(t, filepath.Join(dir, "old"), "x.node"), look(t, filepath.Join(dir, "new"), "x.node"))
					total, right = total+n, right+ok
				}
			}
			share := float64(right) / float64(total)
			t.Logf("%d of %d functions without names are found again: %.4f", right, total, share)
			if share < 0.97 {
				t.Errorf("%.4f of the functions are found again; want 0.97", share)
			}
		})
	}
}

func checkEdit(t *testing.T, e edit, level string, from, to *report.Report) (total, right int) {
	t.Helper()
	d := diff.Compare(from, to)
	b := d.Binaries[0]
	if got := rules(b.Behaviors.Added); !slices.Equal(got, e.added) {
		t.Errorf("%s %s: added %q; want %q", e.name, level, got, e.added)
	}
	if got := rules(b.Behaviors.Removed); !slices.Equal(got, e.removed) {
		t.Errorf("%s %s: removed %q; want %q", e.name, level, got, e.removed)
	}
	if len(d.AddedBehaviors) != len(e.added) || len(d.RemovedBehaviors) != len(e.removed) {
		t.Errorf("%s %s: sentences %q, %q", e.name, level, d.AddedBehaviors, d.RemovedBehaviors)
	}
	was, is := anonymous(from), anonymous(to)
	present := map[string]bool{}
	for _, name := range is {
		present[name] = true
	}
	pairs := diff.Functions(from.Binaries[0], to.Binaries[0])
	for i, f := range from.Binaries[0].Marks.Functions {
		name := was[f.Addr]
		if name == "" || !present[name] || slices.Contains(e.touched, name) {
			continue
		}
		total++
		if j := pairs[i]; j >= 0 && is[to.Binaries[0].Marks.Functions[j].Addr] == name {
			right++
		}
	}
	if total < 30 {
		t.Errorf("%s %s: only %d functions to compare", e.name, level, total)
	}
	return total, right
}

func rules(list []report.BehaviorChange) []string {
	var out []string
	for _, c := range list {
		out = append(out, c.Rule)
	}
	slices.Sort(out)
	return out
}

// TestRecompiled compiles the same source otherwise, and asks that no behaviour
// is new or gone.
func TestRecompiled(t *testing.T) {
	type way struct {
		compiler string
		flags    []string
	}
	total, same := 0, 0
	t.Run("all", func(t *testing.T) {
		for _, m := range machines {
			t.Run(m.name, func(t *testing.T) {
				dir := t.TempDir()
				p := base()
				p.extra = append(p.extra, "process", "delete")
				m.build(t, dir, "old", p, "", "-O2")
				old := look(t, filepath.Join(dir, "old"), "x.node")
				ways := []way{{"", []string{"-O0"}}, {"", []string{"-O1"}}, {"", []string{"-Os"}}}
				if m.gcc != "" {
					ways = append(ways, way{m.gcc, []string{"-O0"}}, way{m.gcc, []string{"-O2"}}, way{m.gcc, []string{"-O3"}})
				}
				for _, w := range ways {
					m.build(t, dir, "new", p, w.compiler, w.flags...)
					d := diff.Compare(old, look(t, filepath.Join(dir, "new"), "x.node"))
					total++
					if len(d.AddedBehaviors)+len(d.RemovedBehaviors) == 0 {
						same++
					} else {
						t.Logf("%s %v: + %q − %q", w.compiler, w.flags, d.AddedBehaviors, d.RemovedBehaviors)
					}
					f := d.Binaries[0].Functions
					if paired := float64(f.Paired) / float64(max(f.Paired+f.Removed, 1)); paired < 0.9 {
						t.Errorf("%s %v: %.2f of the functions are found by name: %+v", w.compiler, w.flags, paired, f)
					}
				}
			})
		}
	})
	if total == 0 {
		t.Skip("no compiler is installed")
	}
	t.Logf("%d of %d recompiled binaries show no difference in behaviour", same, total)
	if float64(same) < 0.95*float64(total) {
		t.Errorf("%d of %d recompiled binaries show no difference in behaviour; want 95 %%", same, total)
	}
}

// TestStripped compares a binary with itself without its symbols.
func TestStripped(t *testing.T) {
	m := machines[0]
	dir := t.TempDir()
	m.build(t, dir, "old", base(), "", "-O2")
	run(t, "strip", "-o", filepath.Join(dir, "new"), filepath.Join(dir, "old"))
	d := diff.Compare(look(t, filepath.Join(dir, "old"), "x.node"), look(t, filepath.Join(dir, "new"), "x.node"))
	b := d.Binaries[0]
	if len(d.AddedBehaviors)+len(d.RemovedBehaviors) > 0 || b.Functions.Changed+b.Functions.Added+b.Functions.Removed > 0 || b.Functions.Same < 40 {
		t.Errorf("stripping changed behaviours %q, %q, functions %+v", d.AddedBehaviors, d.RemovedBehaviors, b.Functions)
	}
	if !slices.Contains(b.Properties, report.PropertyChange{Name: "symbols", From: "kept", To: "stripped"}) {
		t.Errorf("properties %+v do not say that it was stripped", b.Properties)
	}
}
