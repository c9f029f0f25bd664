package skeleton_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/skeleton"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

var (
	leaves  = regexp.MustCompile(`^\t*(return\b|goto |break;|continue;)`)
	landing = regexp.MustCompile(`^\t*(?:case )?(at_[0-9a-f]+):$`)
	gone    = regexp.MustCompile(`goto (at_[0-9a-f]+);`)
)

// wrong returns what is wrong with a skeleton of up to that many lines, or
// nothing.
func wrong(text string, most int) string {
	if !balanced(text) {
		return "not balanced"
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > most {
		return fmt.Sprintf("%d lines", len(lines))
	}
	labels := map[string]int{}
	body := lines[2:]
	var before string
	for _, l := range body {
		bare := strings.TrimSpace(l)
		if strings.HasPrefix(bare, "//") {
			continue
		}
		m := landing.FindStringSubmatch(l)
		if m != nil && !strings.HasPrefix(bare, "case ") {
			labels[m[1]]++
		}
		closes := strings.HasPrefix(bare, "}")
		if leaves.MatchString(before) && m == nil && !closes {
			return "reached by nothing: " + l
		}
		if strings.HasSuffix(before, "{") && closes {
			return "an empty block before " + l
		}
		before = l
	}
	used := map[string]bool{}
	for _, m := range gone.FindAllStringSubmatch(text, -1) {
		used[m[1]] = true
		if labels[m[1]] != 1 {
			return fmt.Sprintf("%d places for %s", labels[m[1]], m[0])
		}
	}
	for l := range labels {
		if !used[l] {
			return "no goto for " + l
		}
	}
	if n, m := len(regexp.MustCompile(`(?m)^\t*do \{$`).FindAllString(text, -1)), strings.Count(text, "} while ("); n != m {
		return fmt.Sprintf("%d do and %d while", n, m)
	}
	if len(body) == 1 {
		return "says nothing"
	}
	return ""
}

// program writes functions at random: branches, loops, switches and jumps
// around calls that are numbered.
type program struct {
	*rand.Rand
	text  strings.Builder
	calls int
}

func (p *program) condition() string {
	switch p.IntN(5) {
	case 0:
		return fmt.Sprintf("n == %d", p.IntN(9))
	case 1:
		p.calls++
		return fmt.Sprintf("check(%d)", 1000+p.calls)
	case 2:
		return "*(volatile int *)env"
	case 3:
		return fmt.Sprintf("n > %d && *(volatile int *)env == %d", p.IntN(9), p.IntN(9))
	}
	return fmt.Sprintf("n & %d || x", 1<<p.IntN(8))
}

func (p *program) body(depth int, loop bool) {
	for range 1 + p.IntN(3) {
		kind := p.IntN(10)
		if depth == 0 {
			kind = p.IntN(3)
		}
		switch kind {
		case 0, 1:
			p.calls++
			fmt.Fprintf(&p.text, "sink(\"call %d\", %d);\n", p.calls, 1000+p.calls)
		case 2:
			switch p.IntN(5) {
			case 0:
				if loop {
					fmt.Fprintf(&p.text, "if (%s) break;\n", p.condition())
				}
			case 1:
				if loop {
					fmt.Fprintf(&p.text, "if (%s) continue;\n", p.condition())
				}
			case 2:
				fmt.Fprintf(&p.text, "if (%s) return %d;\n", p.condition(), p.IntN(5))
			case 3:
				fmt.Fprintf(&p.text, "if (%s) goto l%d;\n", p.condition(), p.IntN(3))
			default:
				p.text.WriteString("x += n;\n")
			}
		case 3, 4:
			fmt.Fprintf(&p.text, "if (%s) {\n", p.condition())
			p.body(depth-1, loop)
			p.text.WriteString("}\n")
		case 5:
			fmt.Fprintf(&p.text, "if (%s) {\n", p.condition())
			p.body(depth-1, loop)
			p.text.WriteString("} else {\n")
			p.body(depth-1, loop)
			p.text.WriteString("}\n")
		case 6:
			fmt.Fprintf(&p.text, "while (%s) {\n", p.condition())
			p.body(depth-1, true)
			p.text.WriteString("}\n")
		case 7:
			p.text.WriteString("do {\n")
			p.body(depth-1, true)
			fmt.Fprintf(&p.text, "} while (%s);\n", p.condition())
		case 8:
			fmt.Fprintf(&p.text, "for (int i = 0; i < n; i++) {\n")
			p.body(depth-1, true)
			p.text.WriteString("}\n")
		case 9:
			p.text.WriteString("switch (n) {\n")
			for k := range 3 + p.IntN(5) {
				fmt.Fprintf(&p.text, "case %d:\n", k)
				p.body(depth-1, loop)
				if p.IntN(3) > 0 {
					p.text.WriteString("break;\n")
				}
			}
			p.text.WriteString("}\n")
		}
	}
}

func (p *program) function(i int) {
	fmt.Fprintf(&p.text, "OUT int f%d(void *env, int n) {\nint x = n * 3;\nl0:;\n", i)
	p.body(3, false)
	p.text.WriteString("l1:;\n")
	p.body(2, false)
	p.text.WriteString("l2:;\n")
	p.body(1, false)
	p.text.WriteString("return x;\n}\n")
}

// TestRandom writes the skeletons of functions with all kinds of control flow.
// Without a limit of lines, every text that the code passes must be in them.
func TestRandom(t *testing.T) {
	head := source[:strings.Index(source, "OUT int napi_")]
	most := 25
	if testing.Short() {
		most = 10
	}
	for i, m := range targets {
		for _, o := range []string{"-O0", "-O2"} {
			t.Run(m.name+o, func(t *testing.T) {
				p := &program{Rand: rand.New(rand.NewPCG(uint64(i), uint64(len(o))))}
				for k := range most {
					p.function(k)
				}
				c := code.Read(build(t, m, head+p.text.String(), o))
				r := value.New(c)
				for fn := range c.Functions {
					whole := skeleton.Write(c, r, fn, skeleton.Options{Lines: 5000})
					if bad := wrong(whole, 5000); bad != "" {
						t.Fatalf("%s\n%s", bad, whole)
					}
					steps, _ := r.Steps(fn)
					for s := range steps {
						// What lies behind the first on the stack can be left from another call.
						for _, a := range steps[s].Args[:min(1, len(steps[s].Args))] {
							if a.Kind == value.String && !strings.Contains(whole, fmt.Sprintf("%q", a.Text)) {
								t.Errorf("%q is not in\n%s", a.Text, whole)
							}
						}
					}
					for _, most := range []int{8, 20, 40} {
						got := skeleton.Write(c, r, fn, skeleton.Options{Lines: most})
						if bad := wrong(got, most); bad != "" {
							t.Fatalf("%s, of up to %d lines\n%s", bad, most, got)
						}
					}
					if again := skeleton.Write(c, value.New(c), fn, skeleton.Options{Lines: 5000}); again != whole {
						t.Fatalf("got\n%s\nthen\n%s", whole, again)
					}
				}
			})
		}
	}
}

func TestSilent(t *testing.T) {
	text := "static int table[9];\n__attribute__((visibility(\"default\"))) int quiet(int n) { for (int i = 0; i < n; i++) if (n == 77) table[i & 7] = i; return table[n & 7] == 1234 ? 5 : 6; }\n"
	c := code.Read(build(t, targets[0], text, "-O0"))
	got := skeleton.Write(c, value.New(c), skeleton.Telling(c), skeleton.Options{})
	if lines := strings.Split(got, "\n"); len(lines) != 5 || !strings.HasPrefix(lines[2], "\t// calls nothing; ") || !strings.Contains(lines[2], " bytes of code; refers to data_") || !strings.Contains(lines[2], "compares with 77") {
		t.Errorf("got\n%s", got)
	}
}

func TestBareNames(t *testing.T) {
	text := "extern int sink(const char *, long);\n__attribute__((noinline, visibility(\"hidden\"))) int inner(int n) { return sink(\"x\", n); }\n" +
		"__attribute__((visibility(\"default\"))) int outer(int n) { return inner(n) + 1; }\n"
	c := code.Read(build(t, targets[0], text, "-O1"))
	r := value.New(c)
	for _, test := range []struct{ name, call, title string }{
		{"internal/sync.(*Mutex).Lock", "internal/sync.(*Mutex).Lock(", "internal/sync.(*Mutex).Lock() {"},
		{"main.(*T[go.shape.int]).Run.func1", "main.(*T[go.shape.int]).Run.func1(", "main.(*T[go.shape.int]).Run.func1() {"},
		{"a::b<void (*)(int)>::c(std::function<void (int)>, int) const", "a::b<void (*)(int)>::c(", "a::b<void (*)(int)>::c(std::function<void (int)>, int) const {"},
		{"(anonymous namespace)::f(int)", "(anonymous namespace)::f(", "(anonymous namespace)::f(int) {"},
		{"a::operator()(int) &&", "a::operator()(", "a::operator()(int) && {"},
		{"<(A, B) as core::fmt::Debug>::fmt", "<(A, B) as core::fmt::Debug>::fmt(", "<(A, B) as core::fmt::Debug>::fmt() {"},
		{"f(int) [clone .cold]", "f(", "f(int) [clone .cold] {"},
	} {
		got := skeleton.Write(c, r, skeleton.Telling(c), skeleton.Options{Name: func(uint64) string { return test.name }})
		if !strings.Contains(got, "\n"+test.title+"\n") || !strings.Contains(got, "\t"+test.call) && !strings.Contains(got, "= "+test.call) {
			t.Errorf("%s:\n%s", test.name, got)
		}
	}
}
