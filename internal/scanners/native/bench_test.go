package native

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/rules"
)

var (
	yara   = flag.String("yara", "", "write the literals of the rules as YARA rules to this `file`, for comparisons of speed")
	corpus = flag.String("corpus", "", "a `folder` of binaries for the benchmark; without one, the Go toolchain's own")
)

// TestYARA writes what docs/performance.md compares with: a YARA rule for each
// of ours, with its literals as ASCII and UTF-16 strings and its names of
// imports as strings, of which any matches.
func TestYARA(t *testing.T) {
	set, err := builtin()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	n := 0
	for i := range set.rules {
		var lines []string
		collect(set, &set.rules[i].when, &lines)
		if len(lines) > 0 {
			n += len(lines)
			name := strings.NewReplacer("/", "_", "-", "_").Replace(set.rules[i].rule.ID)
			fmt.Fprintf(&b, "rule %s {\n  strings:\n", name)
			for j, l := range lines {
				fmt.Fprintf(&b, "    $s%d = %s\n", j, l)
			}
			b.WriteString("  condition: any of them\n}\n")
		}
	}
	if n < 500 {
		t.Errorf("only %d strings: the comparison would be unfair", n)
	}
	if *yara != "" {
		if err := os.WriteFile(*yara, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func collect(set *ruleset, c *condition, lines *[]string) {
	for _, l := range c.literals {
		lit := set.literals[l]
		if lit.text {
			*lines = append(*lines, fmt.Sprintf("%q ascii wide", lit.bytes))
		} else {
			*lines = append(*lines, fmt.Sprintf("{ % x }", lit.bytes))
		}
	}
	for name := range c.names.exact {
		if len(name) >= minLiteral && (c.op == opImport || c.op == opSymbol || c.op == opGo) {
			*lines = append(*lines, fmt.Sprintf("%q ascii", name))
		}
	}
	for i := range c.children {
		collect(set, &c.children[i], lines)
	}
}

// BenchmarkScan analyses binaries one after the other: parsing, all derived
// facts, all rules. The figure is bytes of binaries a second on one core.
func BenchmarkScan(b *testing.B) {
	set, err := builtin()
	if err != nil {
		b.Fatal(err)
	}
	files, size := load(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for _, data := range files {
			found, _ := native.Parse(data)
			for _, bin := range found {
				s := newSubject(set, bin, nil)
				for i := range set.rules {
					s.match(&set.rules[i].when)
				}
			}
		}
	}
}

// BenchmarkCompile is what every start of the program pays for the rules.
func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := compile(rules.Area("native"), rules.Runtimes()); err != nil {
			b.Fatal(err)
		}
	}
}

func load(b *testing.B) (files [][]byte, size int64) {
	b.Helper()
	dir := *corpus
	if dir == "" {
		dir = filepath.Join(goroot(b), "bin")
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err == nil && native.Identify(data[:min(len(data), 4096)]).Native() {
			files = append(files, data)
			size += int64(len(data))
		}
		return err
	})
	if err != nil || len(files) == 0 {
		b.Skipf("no binaries in %s: %v", dir, err)
	}
	return files, size
}

// goroot is where the toolchain that runs the benchmark lies.
func goroot(b *testing.B) string {
	b.Helper()
	if dir := os.Getenv("GOROOT"); dir != "" {
		return dir
	}
	exe, err := filepath.EvalSymlinks("/usr/local/go")
	if err != nil {
		b.Skip("the Go toolchain is not in /usr/local/go: use -corpus")
	}
	return exe
}
