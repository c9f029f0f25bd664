package yara_test

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/yara"
)

// oracle returns what the yara program finds: by file and rule, the places of
// its strings as "0x1a:$a", sorted. Lengths are left out: where alternatives of
// several lengths begin at one offset, yara's depends on how it cut the string
// into atoms.
func oracle(t *testing.T, rules string, files ...string) map[string]map[string][]string {
	t.Helper()
	program, err := exec.LookPath("yara")
	if err != nil {
		t.Skip("there is no yara to compare with")
	}
	out := map[string]map[string][]string{}
	for _, name := range files {
		var stderr bytes.Buffer
		cmd := exec.Command(program, "-w", "-s", rules, name)
		cmd.Stderr = &stderr
		text, err := cmd.Output()
		if strings.HasSuffix(strings.TrimSpace(stderr.String()), "caused error: 46") {
			continue // too many fibers: yara gives this file up
		}
		if err != nil || stderr.Len() > 0 {
			t.Fatalf("yara %s %s: %v: %s", rules, name, err, stderr.String())
		}
		out[name] = read(text, name)
	}
	return out
}

// read reads the output of yara -s for one file.
func read(text []byte, name string) map[string][]string {
	out := map[string][]string{}
	var rule string
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		line := lines.Text()
		if r, ok := strings.CutSuffix(line, " "+name); ok {
			rule = r
			out[rule] = []string{}
			continue
		}
		if p := strings.SplitN(line, ":", 3); strings.HasPrefix(line, "0x") && len(p) == 3 {
			out[rule] = append(out[rule], p[0]+":"+p[1])
		}
	}
	for _, places := range out {
		slices.Sort(places)
	}
	return out
}

// ours returns the same from this package.
func ours(t *testing.T, set *yara.Set, data []byte) map[string][]string {
	t.Helper()
	matches, notes, err := set.Match(t.Context(), data)
	if err != nil || len(notes) > 0 {
		t.Fatalf("Match: %v, %v", notes, err)
	}
	out := map[string][]string{}
	for _, m := range matches {
		places := []string{}
		for _, f := range m.Strings {
			for _, at := range f.At {
				places = append(places, fmt.Sprintf("%#x:%s", at.Offset, f.Name))
			}
		}
		slices.Sort(places)
		out[m.Rule.Name] = places
	}
	return out
}

func compile(t *testing.T, text string) *yara.Set {
	t.Helper()
	f, err := yara.Parse("test.yar", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	set, refused := yara.Compile(f)
	for _, r := range refused {
		t.Errorf("%v", r)
	}
	return set
}

// compare holds what we say of files against what yara says.
func compare(t *testing.T, text string, files []string) (pairs, held int) {
	t.Helper()
	rules := filepath.Join(t.TempDir(), "test.yar")
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := oracle(t, rules, files...)
	set := compile(t, text)
	for _, name := range files {
		if want[name] == nil {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := ours(t, set, data)
		for _, r := range set.Rules() {
			pairs++
			g, ok := got[r.Name]
			w, ok2 := want[name][r.Name]
			if ok != ok2 || !slices.Equal(g, w) {
				t.Errorf("%s on %q:\n held %v %v\n yara %v %v", source(text, r.Name), data, ok, g, ok2, w)
			}
			if ok {
				held++
			}
		}
		if extra := slices.Collect(maps.Keys(want[name])); len(extra) > len(set.Rules()) {
			t.Errorf("yara reports %v", extra)
		}
	}
	return pairs, held
}

// source returns the line of a rule; generated rules have one line each.
func source(text, name string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, "rule "+name+" ") {
			return line
		}
	}
	return name
}

// A maker makes random rules whose strings have a chance to be in random files.
type maker struct{ *rand.Rand }

func (m maker) pick(list ...string) string { return list[m.IntN(len(list))] }

const letters = "abAB01 _\n\x00"

func (m maker) data() []byte {
	out := make([]byte, m.IntN(700))
	for i := range out {
		switch {
		case i > 0 && m.IntN(4) == 0:
			out[i] = 0
		case i > 1 && m.IntN(12) == 0:
			n := copy(out[i:], "YWJhYmFi")
			out[min(i+n, len(out)-1)] = 'a'
		default:
			out[i] = letters[m.IntN(len(letters))]
		}
	}
	return out
}

func (m maker) text(least, most int) string {
	var b strings.Builder
	for range least + m.IntN(most-least+1) {
		b.WriteByte("abAB01 _"[m.IntN(8)])
	}
	return b.String()
}

func (m maker) textString() string {
	s := fmt.Sprintf("%q", m.text(1, 5))
	switch m.IntN(7) {
	case 0:
		return s + m.pick(" nocase", " nocase wide", " wide ascii nocase", " nocase fullword")
	case 1:
		return s + m.pick(" wide", " wide ascii", " ascii", " private")
	case 2:
		return s + m.pick(" fullword", " wide fullword", " wide ascii fullword")
	case 3:
		return s + m.pick(" xor", " xor(1-3)", " xor(0-1)", " xor(32)", " xor wide", " xor(0x20-0x21) wide ascii")
	case 4:
		return fmt.Sprintf("%q", m.text(3, 6)) + m.pick(" base64", " base64wide", " base64 base64wide", " base64 wide", " base64 wide ascii")
	}
	return s
}

func (m maker) hexByte() string {
	c := letters[m.IntN(len(letters))]
	s := fmt.Sprintf("%02X", c)
	switch m.IntN(8) {
	case 0:
		return "??"
	case 1:
		return s[:1] + "?"
	case 2:
		return "?" + s[1:]
	}
	return s
}

func (m maker) hexItems(n, depth int) string {
	sure := func() string { return fmt.Sprintf("%02X", "abAB01"[m.IntN(6)]) }
	items := []string{sure(), sure()}
	for range n {
		switch k := m.IntN(10); {
		case k == 0:
			items = append(items, m.pick("[1]", "[0-3]", "[2-5]", "[1-20]"), sure())
		case k == 1 && depth == 0:
			items = append(items, m.pick("[3-]", "[-]", "[250-400]", "[5-300]"), sure(), sure())
		case k == 2 && depth < 2:
			items = append(items, fmt.Sprintf("(%s|%s)", m.hexItems(m.IntN(2), depth+1), m.hexItems(m.IntN(2), depth+1)))
		default:
			items = append(items, m.hexByte())
		}
	}
	return strings.Join(append(items, sure()), " ")
}

func (m maker) regexItem(lazy string, depth int) string {
	item := m.pick("a", "b", "A", "1", "0", "ab", `\x00`, ".", "[ab]", "[^ab]", `\w`, `\d`, `\W`, "[A-Z0-9]", "[^\\s]", `\n`, "_", " ")
	if m.IntN(5) == 0 && depth < 2 {
		item = "(" + m.regexItem(lazy, depth+1) + m.regexItem(lazy, depth+1) + "|" + m.regexItem(lazy, depth+1) + ")"
	}
	if m.IntN(4) == 0 {
		q := m.pick("*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}")
		if item == "." && q == "{2,}" && lazy != "" {
			q = "+" // yara cuts .{2,}? out of the expression, and then it matches line ends
		}
		item += q + lazy
	}
	return item
}

func (m maker) regexString() string {
	lazy := m.pick("", "?")
	var b strings.Builder
	if m.IntN(10) == 0 {
		b.WriteString(m.pick("^", `\b`, `\B`))
	}
	n := m.IntN(4)
	for range n {
		b.WriteString(m.regexItem(lazy, 0))
	}
	b.WriteString(m.pick("ab", "a0", "1b", "ABa", "0 ", "a[ab]", "(ab|10)"))
	for range m.IntN(4) {
		b.WriteString(m.regexItem(lazy, 0))
	}
	if m.IntN(10) == 0 {
		b.WriteString(m.pick("$", `\b`, `\B`))
	}
	if m.IntN(8) == 0 { // where several ends or forms are possible, yara asks fullword of one of them
		return "/" + m.pick("[ab]A", "a[01]b", "ab?", `\d+`) + "/" + m.pick("", "i") + m.pick(" fullword", " wide fullword")
	}
	return "/" + b.String() + "/" + m.pick("", "", "i", "s", "is") + m.pick("", "", "", " wide", " wide ascii", " nocase")
}

func (m maker) number(depth int) string {
	if depth > 2 || m.IntN(2) == 0 {
		return m.pick("0", "1", "2", "3", "7", "20", "300", "filesize", "#a", "#b", "#c", "@a", "@b[2]", "@a[#a]", "!a", "!b[1]", "uint8(3)", "uint16(1)", "int8(0)", "uint32be(2)", "int16be(filesize-2)", "#a in (0..100)", "uint16(@a)", "1KB")
	}
	op, right := m.pick("+", "-", "*", "\\", "%", "&", "|", "^", "<<", ">>"), m.number(depth+1)
	switch op {
	case "\\", "%", "<<", ">>": // which yara refuses for some constants
		right = m.pick("1", "2", "7", "#a", "@a[#a]", "uint8(3)", "-#b")
	}
	return fmt.Sprintf("(%s %s %s)", m.number(depth+1), op, right)
}

func (m maker) condition(depth int) string {
	if depth < 3 && m.IntN(3) > 0 {
		return fmt.Sprintf("(%s %s %s)", m.condition(depth+1), m.pick("and", "or", "and not", "or not"), m.condition(depth+1))
	}
	set := m.pick("them", "($a,$b)", "($*)", "($a*)", "($b,$c)")
	quantity := m.pick("any", "all", "none", "1", "2", "3", "50%", "66%", "#c", "0")
	switch m.IntN(9) {
	case 0:
		return m.pick("$a", "$b", "$c")
	case 1:
		return fmt.Sprintf("%s at %s", m.pick("$a", "$b", "$c"), m.number(1))
	case 2:
		return fmt.Sprintf("%s in (%s..%s)", m.pick("$a", "$b", "$c"), m.number(1), m.number(1))
	case 3:
		return quantity + " of " + set
	case 4:
		return fmt.Sprintf("%s of %s in (%s..%s)", m.pick("any", "all", "none", "2"), set, m.number(2), m.number(2))
	case 5:
		return fmt.Sprintf("for %s of %s : (%s)", m.pick("any", "all", "1", "2"), set, m.pick("$", "# > 1", "@ < 9", "$ at @a", "! > 2", "@[2] > 10", "$ in (0..50)"))
	case 6:
		return fmt.Sprintf("for %s i in (%s) : (%s)", m.pick("any", "all", "1", "2"), m.pick("1..#a", "1..3", "1,2,9", "0..filesize", "3..#b"), m.pick("@a[i] > 3", "uint8(i) == 0x61", "@b[i] < @a[i] + 9", "i % 3 == 1", "#a > i", "$a at i"))
	case 7:
		return "defined " + m.number(1)
	}
	return fmt.Sprintf("%s %s %s", m.number(0), m.pick("==", "!=", "<", ">", "<=", ">="), m.number(0))
}

func (m maker) rule(name string) string {
	str := func() string {
		switch m.IntN(3) {
		case 0:
			return m.textString()
		case 1:
			return "{ " + m.hexItems(1+m.IntN(4), 0) + " }"
		}
		return m.regexString()
	}
	condition := m.condition(0)
	if m.IntN(2) == 0 {
		condition = "any of them"
	}
	return fmt.Sprintf("rule %s { strings: $a = %s $b = %s $c = %s condition: (%s) or (#a + #b + #c == 1000000) }\n", name, str(), str(), str(), condition)
}

// TestAgainstYARA compares random rules on random files with the yara program:
// the rules that hold, and every place of every string.
func TestAgainstYARA(t *testing.T) {
	seed := uint64(1)
	if s := os.Getenv("YARA_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	m := maker{rand.New(rand.NewPCG(seed, 0))}
	dir := t.TempDir()
	var files []string
	for i := range 12 {
		name := filepath.Join(dir, fmt.Sprint("data", i))
		if err := os.WriteFile(name, m.data(), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	var pairs, held, left int
	for range 4 {
		var text strings.Builder
		for i := 0; i < 60; i++ {
			rule := m.rule(fmt.Sprint("r", i))
			f, err := yara.Parse("", []byte(rule))
			if err != nil {
				t.Fatalf("%v in %s", err, rule)
			}
			if _, refused := yara.Compile(f); len(refused) > 0 {
				if left++; left < 10 {
					t.Log(refused[0], rule)
				}
				continue
			}
			text.WriteString(rule)
		}
		p, h := compare(t, text.String(), files)
		pairs, held = pairs+p, held+h
	}
	if pairs < 2000 || held < 500 || left > 40 {
		t.Errorf("%d pairs, %d rules held, %d were refused: the rules test too little", pairs, held, left)
	}
	t.Logf("%d pairs of rule and file, %d rules held, %d were refused", pairs, held, left)
}
