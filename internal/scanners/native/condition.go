package native

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// A match section of a native rule, as YAML:
//
//	behavior: network          # one of inventory.BehaviorNames; none for a finding that is no behaviour
//	tier: use                  # capability, use or intent
//	says: Connects to other hosts
//	when:
//	  any:
//	  - import: [connect, WSAConnect]
//	  - go: net.(*Dialer).DialContext
//
// A condition is a map with one of these keys, or a list, of which any holds:
//
//	all, any: [conditions]     not: condition
//	atleast: {n: 3, of: [conditions]}
//	near: {within: 1, of: [conditions]}, all of which hold of code that is at most so many calls apart
//	import: names or globs; from: a glob of the library, runtime: true to count what a runtime takes for itself
//	symbol, go, crate, library, export: names or globs; own: true for symbol and go to count only what own code calls
//	string: literals in mapped data, ASCII or UTF-16; word: the same with no letter or digit around
//	text: {has: literals, like: regular expression}, on the printable run around the literal
//	encoded: names or globs of words that imports, string, word, text or the list in hidden.go ask for, and that stand encoded
//	bytes: hexadecimal constants
//	section: {name: glob, entropy: at least, size: at least, access: rwx}
//	format, os, arch, language, kind: names
//	fact: names of the table facts in match.go
type condition struct {
	op       operator
	children []condition // all, any, not, atleast
	n        int         // atleast, near: calls apart

	names   names  // import, symbol, …: what to look for
	from    string // import: glob of the library
	runtime bool   // import: also what a runtime takes for itself
	own     bool   // symbol, go: own code must call it

	literals []int            // string, word, text, bytes: indexes into the set's literals
	like     *pattern.Pattern // text
	section  sectionTest
}

type operator string

const (
	opAll     operator = "all"
	opAny     operator = "any"
	opNot     operator = "not"
	opAtLeast operator = "atleast"
	opNear    operator = "near"
	opImport  operator = "import"
	opSymbol  operator = "symbol"
	opGo      operator = "go"
	opCrate   operator = "crate"
	opLibrary operator = "library"
	opExport  operator = "export"
	opString  operator = "string"
	opWord    operator = "word"
	opText    operator = "text"
	opEncoded operator = "encoded"
	opBytes   operator = "bytes"
	opSection operator = "section"
	opFormat  operator = "format"
	opOS      operator = "os"
	opArch    operator = "arch"
	opLang    operator = "language"
	opKind    operator = "kind"
	opFact    operator = "fact"
)

type sectionTest struct {
	name, access string
	entropy      float64
	size         uint64
}

// names is a set of exact names and globs.
type names struct {
	exact map[string]bool
	globs []string
}

func (n names) match(name string) bool {
	if n.exact[name] {
		return true
	}
	return slices.ContainsFunc(n.globs, func(g string) bool { return glob(g, name) })
}

// glob matches a pattern in which * stands for any run of characters, also of
// slashes, and everything else for itself.
func glob(pattern, s string) bool {
	if pattern != "" && pattern[0] != '*' && (s == "" || s[0] != pattern[0]) {
		return false // nearly always
	}
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		part, more, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}

// maxDepth bounds the nesting of conditions: deeper ones are a mistake or an
// attack.
const maxDepth = 12

// compiler turns YAML into conditions and collects the literals of all rules.
type compiler struct {
	pattern  func(text string) (*pattern.Pattern, error)
	literals []literal
	index    map[literal]int
}

// A literal is something to look for in the bytes of a binary.
type literal struct {
	bytes string
	word  bool // no letter or digit may stand around it
	text  bool // also looked for as UTF-16
}

func (c *compiler) literal(l literal) int {
	if i, ok := c.index[l]; ok {
		return i
	}
	if c.index == nil {
		c.index = map[literal]int{}
	}
	c.index[l] = len(c.literals)
	c.literals = append(c.literals, l)
	return len(c.literals) - 1
}

// condition compiles one YAML node.
func (c *compiler) condition(node any, depth int) (condition, error) {
	if depth > maxDepth {
		return condition{}, fmt.Errorf("conditions are nested deeper than %d", maxDepth)
	}
	switch node := node.(type) {
	case []any:
		return c.list(opAny, node, depth)
	case map[string]any:
		return c.operator(node, depth)
	}
	return condition{}, fmt.Errorf("%v is not a condition", node)
}

func (c *compiler) list(op operator, nodes []any, depth int) (condition, error) {
	if len(nodes) == 0 {
		return condition{}, fmt.Errorf("%s: an empty list", op)
	}
	out := condition{op: op}
	for _, n := range nodes {
		child, err := c.condition(n, depth+1)
		if err != nil {
			return condition{}, err
		}
		out.children = append(out.children, child)
	}
	return out, nil
}

// options are keys that go with an operator instead of being one.
var options = map[string][]operator{"from": {opImport}, "runtime": {opImport}, "own": {opSymbol, opGo}}

func (c *compiler) operator(node map[string]any, depth int) (condition, error) {
	var op operator
	for key := range node {
		if options[key] != nil {
			continue
		}
		if op != "" {
			return condition{}, fmt.Errorf("%s and %s in one condition: put them in a list of all", min(op, operator(key)), max(op, operator(key)))
		}
		op = operator(key)
	}
	for key, of := range options {
		if _, has := node[key]; has && !slices.Contains(of, op) {
			return condition{}, fmt.Errorf("%s goes with %s only", key, joined(of, " or "))
		}
	}
	value := node[string(op)]
	switch op {
	case opAll, opAny:
		list, ok := value.([]any)
		if !ok {
			return condition{}, fmt.Errorf("%s wants a list", op)
		}
		return c.list(op, list, depth)
	case opNot:
		child, err := c.condition(value, depth+1)
		return condition{op: opNot, children: []condition{child}}, err
	case opAtLeast:
		return c.atLeast(value, depth)
	case opNear:
		return c.near(value, depth)
	case opImport, opSymbol, opGo, opCrate, opLibrary, opExport, opEncoded, opFormat, opOS, opArch, opLang, opKind:
		return c.named(op, node)
	case opFact:
		return c.fact(node)
	case opString, opWord, opBytes:
		return c.literalsOf(op, value)
	case opText:
		return c.text(value)
	case opSection:
		return sectionOf(value)
	case "":
		return condition{}, errors.New("an empty condition")
	}
	return condition{}, fmt.Errorf("unknown condition %q", op)
}

func (c *compiler) atLeast(value any, depth int) (condition, error) {
	v, err := object(value, "n", "of")
	if err != nil {
		return condition{}, fmt.Errorf("atleast: %w", err)
	}
	n, _ := v["n"].(uint64)
	of, _ := v["of"].([]any)
	out, err := c.list(opAtLeast, of, depth)
	if err == nil && (n < 1 || n > uint64(count(out.children))) {
		err = fmt.Errorf("atleast: n is %v of %d", v["n"], count(out.children))
	}
	out.n = int(n)
	return out, err
}

func joined(ops []operator, sep string) string {
	var out []string
	for _, o := range ops {
		out = append(out, string(o))
	}
	return strings.Join(out, sep)
}

// maxApart bounds how many calls apart near may look: beyond it, everything is
// near to everything.
const maxApart = 4

func (c *compiler) near(value any, depth int) (condition, error) {
	v, err := object(value, "within", "of")
	if err != nil {
		return condition{}, fmt.Errorf("near: %w", err)
	}
	of, _ := v["of"].([]any)
	out, err := c.list(opNear, of, depth)
	within, ok := v["within"].(uint64)
	if err == nil && (!ok || within > maxApart) {
		err = fmt.Errorf("near: within is %v: want 0 to %d calls", v["within"], maxApart)
	}
	out.n = int(within)
	return out, err
}

// count returns how many things atleast can count: each name and literal is one.
func count(list []condition) (n int) {
	for _, c := range list {
		n += max(1, len(c.names.exact)+len(c.names.globs)*1000, len(c.literals))
	}
	return n
}

func (c *compiler) named(op operator, node map[string]any) (condition, error) {
	list, err := stringsOf(node[string(op)])
	if err != nil {
		return condition{}, fmt.Errorf("%s: %w", op, err)
	}
	out := condition{op: op, names: names{exact: map[string]bool{}}}
	for _, s := range list {
		if strings.Contains(s, "*") {
			out.names.globs = append(out.names.globs, s)
		} else {
			out.names.exact[s] = true
		}
	}
	if from, ok := node["from"]; ok {
		if out.from, ok = from.(string); !ok {
			return condition{}, errors.New("from wants a glob")
		}
		out.from = strings.ToLower(out.from)
	}
	if own, ok := node["own"]; ok {
		if out.own, ok = own.(bool); !ok {
			return condition{}, errors.New("own wants true or false")
		}
	}
	if runtime, ok := node["runtime"]; ok {
		if out.runtime, ok = runtime.(bool); !ok {
			return condition{}, errors.New("runtime wants true or false")
		}
	}
	return out, nil
}

// fact compiles a test of facts, which must all be known: a misspelt one would
// never hold.
func (c *compiler) fact(node map[string]any) (condition, error) {
	out, err := c.named(opFact, node)
	for name := range out.names.exact {
		if !slices.ContainsFunc(facts, func(f fact) bool { return f.name == name }) {
			err = errors.Join(err, fmt.Errorf("there is no fact %q", name))
		}
	}
	return out, err
}

// minLiteral keeps a rule from matching by chance: shorter text occurs in any
// large binary.
const minLiteral = 4

func (c *compiler) literalsOf(op operator, value any) (condition, error) {
	list, err := stringsOf(value)
	if err != nil {
		return condition{}, fmt.Errorf("%s: %w", op, err)
	}
	out := condition{op: op}
	for _, s := range list {
		l := literal{bytes: s, word: op == opWord, text: op != opBytes}
		if op == opBytes {
			raw, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
			if err != nil {
				return condition{}, fmt.Errorf("bytes %q: %w", s, err)
			}
			l.bytes = string(raw)
		}
		if len(l.bytes) < minLiteral {
			return condition{}, fmt.Errorf("%s %q is shorter than %d bytes", op, s, minLiteral)
		}
		out.literals = append(out.literals, c.literal(l))
	}
	return out, nil
}

func (c *compiler) text(value any) (condition, error) {
	v, err := object(value, "has", "like")
	if err != nil {
		return condition{}, fmt.Errorf("text: %w", err)
	}
	out, err := c.literalsOf(opString, v["has"])
	if err != nil {
		return condition{}, fmt.Errorf("text: has: %w", err)
	}
	like, _ := v["like"].(string)
	if like == "" {
		return condition{}, errors.New("text: like wants a regular expression")
	}
	out.op = opText
	if out.like, err = c.pattern(like); err != nil {
		return condition{}, fmt.Errorf("text: like: %w", err)
	}
	return out, nil
}

func sectionOf(value any) (condition, error) {
	v, err := object(value, "name", "access", "entropy", "size")
	if err != nil {
		return condition{}, fmt.Errorf("section: %w", err)
	}
	var t sectionTest
	for key, value := range v {
		var ok bool
		switch key {
		case "name":
			t.name, ok = value.(string)
		case "access":
			t.access, ok = value.(string)
		case "entropy":
			t.entropy, ok = number(value)
		case "size":
			t.size, ok = value.(uint64)
		}
		if !ok {
			return condition{}, fmt.Errorf("section: %s: %v does not fit", key, value)
		}
	}
	if t == (sectionTest{}) {
		return condition{}, errors.New("section: nothing is asked of it")
	}
	return condition{op: opSection, section: t}, nil
}

// object reads a map that may have only these keys.
func object(value any, keys ...string) (map[string]any, error) {
	m, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%v is not a map", value)
	}
	for k := range m {
		if !slices.Contains(keys, k) {
			return nil, fmt.Errorf("unknown key %q: want %s", k, strings.Join(keys, ", "))
		}
	}
	return m, nil
}

func number(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case uint64:
		return float64(v), true
	}
	return 0, false
}

// stringsOf reads one string or a list of them.
func stringsOf(value any) ([]string, error) {
	switch v := value.(type) {
	case string:
		return []string{v}, nil
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok || s == "" {
				return nil, fmt.Errorf("%v is not a text: put it in quotes", e)
			}
			out = append(out, s)
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%v is neither a text nor a list of them", value)
}
