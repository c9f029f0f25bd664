package yara

import (
	"fmt"
	"slices"
)

// MaxSize bounds a file of rules, in bytes: the largest public collections in
// one file stay below it.
const MaxSize = 16 << 20

// maxDepth bounds the nesting of conditions and expressions: deeper ones are a
// mistake or an attack.
const maxDepth = 200

// Parse reads a file of rules. Its error names the line of the first thing
// that is no YARA. What is YARA but not of the subset is left to [Compile].
func Parse(name string, text []byte) (f *File, err error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%s: the file is larger than %d bytes", name, MaxSize)
	}
	defer func() {
		switch v := recover().(type) {
		case nil:
		case *syntaxError:
			f, err = nil, fmt.Errorf("%s:%d: %s", name, v.line, v.reason)
		default:
			panic(v)
		}
	}()
	p := &parser{lexer: lexer{src: text, line: 1}, file: &File{Name: name}}
	p.advance()
	for p.tok.kind != tokEnd {
		p.top()
	}
	return p.file, nil
}

// A parser reads by recursive descent. It leaves through a panic with a
// syntaxError, which [Parse] catches.
type parser struct {
	lexer lexer
	file  *File
	tok   token   // the next one
	peek  []token // those after it that were looked at
	depth int
}

func (p *parser) advance() token {
	t := p.tok
	if len(p.peek) > 0 {
		p.tok, p.peek = p.peek[0], p.peek[1:]
	} else {
		p.tok = p.lexer.next()
	}
	return t
}

// after returns the token after the next one.
func (p *parser) after() token {
	if len(p.peek) == 0 {
		p.peek = append(p.peek, p.lexer.next())
	}
	return p.peek[0]
}

func (p *parser) fail(format string, args ...any) {
	panic(&syntaxError{p.tok.line, fmt.Sprintf(format, args...)})
}

func (p *parser) accept(text string) bool {
	if p.tok.is(text) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) expect(text string) {
	if !p.accept(text) {
		p.fail("unexpected %v, want %q", p.tok, text)
	}
}

// keywords cannot be names.
var keywords = []string{
	"all", "and", "any", "ascii", "at", "base64", "base64wide", "condition", "contains", "defined",
	"endswith", "entrypoint", "false", "filesize", "for", "fullword", "global", "icontains",
	"iendswith", "iequals", "import", "in", "include", "int16", "int16be", "int32", "int32be",
	"int8", "int8be", "istartswith", "matches", "meta", "nocase", "none", "not", "of", "or",
	"private", "rule", "startswith", "strings", "them", "true", "uint16", "uint16be", "uint32",
	"uint32be", "uint8", "uint8be", "wide", "xor",
}

func (p *parser) name(what string) string {
	if p.tok.kind != tokName || slices.Contains(keywords, p.tok.text) {
		p.fail("unexpected %v, want the name of a %s", p.tok, what)
	}
	return p.advance().text
}

func (p *parser) text(what string) string {
	if p.tok.kind != tokText {
		p.fail("unexpected %v, want %s in quotes", p.tok, what)
	}
	return p.advance().text
}

// top reads an import, an include or a rule.
func (p *parser) top() {
	line := p.tok.line
	switch {
	case p.accept("import"):
		p.file.Imports = append(p.file.Imports, p.text("a module"))
	case p.accept("include"):
		p.file.refused = append(p.file.refused, Refusal{File: p.file.Name, Line: line, Reason: fmt.Sprintf("include %q is not supported: name the folder of both files instead", p.text("a file"))})
	default:
		p.rule()
	}
}

func (p *parser) rule() {
	r, from := &source{}, p.tok.at
	for {
		if p.accept("private") {
			r.private = true
		} else if p.accept("global") {
			r.global = true
		} else {
			break
		}
	}
	p.expect("rule")
	r.line = p.tok.line
	r.name = p.name("rule")
	if p.accept(":") {
		r.tags = append(r.tags, p.name("tag"))
		for !p.tok.is("{") {
			r.tags = append(r.tags, p.name("tag"))
		}
	}
	p.expect("{")
	if p.accept("meta") {
		p.meta(r)
	}
	if p.accept("strings") {
		p.strings(r)
	}
	p.expect("condition")
	p.expect(":")
	r.condition = p.expression()
	r.text = string(p.lexer.src[from:p.tok.at])
	p.expect("}")
	r.text += "}"
	p.file.rules = append(p.file.rules, r)
}

func (p *parser) meta(r *source) {
	p.expect(":")
	for !p.tok.is("strings") && !p.tok.is("condition") {
		m := Meta{Name: p.metaName()}
		p.expect("=")
		switch {
		case p.tok.kind == tokText:
			m.Value = p.advance().text
		case p.tok.kind == tokNumber:
			m.Value = p.advance().num
		case p.accept("-") && p.tok.kind == tokNumber:
			m.Value = -p.advance().num
		case p.accept("true"):
			m.Value = true
		case p.accept("false"):
			m.Value = false
		default:
			p.fail("unexpected %v, want a text, a number, true or false", p.tok)
		}
		r.meta = append(r.meta, m)
	}
}

func (p *parser) metaName() string { return p.name("line of meta") }

func (p *parser) strings(r *source) {
	p.expect(":")
	for p.tok.kind == tokString {
		s := stringSource{line: p.tok.line, name: p.tok.text}
		if s.name[0] != '$' || s.name[len(s.name)-1] == '*' {
			p.fail("%q is no name of a string", s.name)
		}
		p.advance()
		if s.name == "$" {
			s.name = fmt.Sprintf("$ %d", len(r.strings)) // no written name has a space
		}
		if !p.tok.is("=") {
			p.expect("=")
		}
		if hex, ok := p.lexer.hex(); ok {
			s.value = hex
			p.advance()
		} else {
			p.advance()
			s.value = p.advance()
			if s.value.kind != tokText && s.value.kind != tokRegex {
				panic(&syntaxError{s.value.line, fmt.Sprintf("unexpected %v, want a text, a regular expression or a hexadecimal string", s.value)})
			}
		}
		p.modifiers(&s)
		r.strings = append(r.strings, s)
	}
}

var modifierNames = []string{"nocase", "wide", "ascii", "fullword", "private", "xor", "base64", "base64wide"}

func (p *parser) modifiers(s *stringSource) {
	for p.tok.kind == tokName && slices.Contains(modifierNames, p.tok.text) {
		m := modifier{name: p.advance().text, to: 255}
		switch {
		case m.name == "xor" && p.accept("("):
			m.args = true
			m.from = p.byteValue()
			m.to = m.from
			if p.accept("-") {
				m.to = p.byteValue()
			}
			p.expect(")")
		case (m.name == "base64" || m.name == "base64wide") && p.accept("("):
			m.args = true
			m.alphabet = p.text("an alphabet")
			p.expect(")")
		}
		s.mods = append(s.mods, m)
	}
}

func (p *parser) byteValue() int64 {
	if p.tok.kind != tokNumber || p.tok.num > 255 {
		p.fail("unexpected %v, want a number up to 255", p.tok)
	}
	return p.advance().num
}

// nest counts how deep the reading is.
func (p *parser) nest() func() {
	if p.depth++; p.depth > maxDepth {
		p.fail("nested deeper than %d", maxDepth)
	}
	return func() { p.depth-- }
}

// expression reads a condition: or binds least, then and, then not.
func (p *parser) expression() *node {
	defer p.nest()()
	return p.joined(opOr, "or", func() *node {
		return p.joined(opAnd, "and", p.negation)
	})
}

func (p *parser) joined(op op, word string, operand func() *node) *node {
	first := operand()
	if !p.tok.is(word) {
		return first
	}
	n := &node{op: op, line: first.line, kids: []*node{first}}
	for p.accept(word) {
		n.kids = append(n.kids, operand())
	}
	return n
}

func (p *parser) negation() *node {
	defer p.nest()()
	line := p.tok.line
	switch {
	case p.accept("not"):
		return &node{op: opNot, line: line, kids: []*node{p.negation()}}
	case p.accept("defined"):
		return &node{op: opDefined, line: line, kids: []*node{p.negation()}}
	}
	return p.binary(0)
}

// levels are the operators between two operands, loosest first, all of them
// left to right.
var levels = [][]string{
	{"==", "!=", "contains", "icontains", "startswith", "istartswith", "endswith", "iendswith", "iequals", "matches"},
	{"<", "<=", ">", ">="},
	{"|"},
	{"^"},
	{"&"},
	{"<<", ">>"},
	{"+", "-"},
	{"*", "\\", "%"},
}

// quantified is the level below which a quantifier of "of" ends.
const quantified = 2

func (p *parser) binary(level int) *node {
	if level == len(levels) {
		return p.unary()
	}
	left := p.binary(level + 1)
	for (p.tok.kind == tokMark || p.tok.kind == tokName) && slices.Contains(levels[level], p.tok.text) && !p.percent() {
		t := p.advance()
		right := p.binary(level + 1)
		left = &node{op: opBinary, line: t.line, text: t.text, kids: []*node{left, right}, deep: max(left.deep, right.deep) + 1}
		if left.deep > maxDepth {
			p.fail("an expression has more than %d operators in a row", maxDepth)
		}
	}
	if level == quantified {
		return p.maybeOf(left)
	}
	return left
}

// percent reports whether what follows is "% of".
func (p *parser) percent() bool { return p.tok.is("%") && p.after().is("of") }

// maybeOf makes an operand the quantifier of a set if "of" follows.
func (p *parser) maybeOf(n *node) *node {
	if !p.tok.is("of") && !p.percent() {
		return n
	}
	q := &node{op: opQuantity, line: n.line, kids: []*node{n}}
	if p.accept("%") {
		q.text = percentage
	}
	return p.of(q)
}

func (p *parser) unary() *node {
	defer p.nest()()
	line := p.tok.line
	switch {
	case p.accept("-"):
		return &node{op: opMinus, line: line, kids: []*node{p.unary()}}
	case p.accept("~"):
		return &node{op: opInvert, line: line, kids: []*node{p.unary()}}
	}
	return p.primary()
}

// readers are the functions that read an integer of the file.
var readers = []string{
	"int8", "int16", "int32", "uint8", "uint16", "uint32",
	"int8be", "int16be", "int32be", "uint8be", "uint16be", "uint32be",
}

func (p *parser) primary() *node {
	t := p.advance()
	n := &node{line: t.line, text: t.text, num: t.num, real: t.real, mods: t.mods}
	switch {
	case t.kind == tokNumber:
		n.op = opNumber
	case t.kind == tokFloat:
		n.op = opFloat
	case t.kind == tokText:
		n.op = opText
	case t.kind == tokRegex:
		n.op = opRegex
	case t.kind == tokString:
		return p.stringUse(t)
	case t.is("("):
		n = p.expression()
		p.expect(")")
	case t.is("true") || t.is("false"):
		n.op = opBool
		if t.text == "true" {
			n.num = 1
		}
	case t.is("filesize"):
		n.op = opFilesize
	case t.is("entrypoint"):
		n.op = opEntrypoint
	case t.is(quantityAll) || t.is(quantityAny) || t.is(quantityNone):
		n.op = opQuantity
		return p.of(n)
	case t.is("for"):
		return p.loop(t)
	case t.kind == tokName && slices.Contains(readers, t.text):
		n.op = opRead
		p.expect("(")
		n.kids = []*node{p.expression()}
		p.expect(")")
	case t.kind == tokName && !slices.Contains(keywords, t.text):
		n.op = opName
		p.members(n)
	default:
		panic(&syntaxError{t.line, fmt.Sprintf("unexpected %v in a condition", t)})
	}
	return n
}

// members reads what follows a name that is a module: fields, indexes, calls.
func (p *parser) members(n *node) {
	for {
		switch {
		case p.accept("."):
			p.name("field")
		case p.accept("["):
			p.expression()
			p.expect("]")
		case p.accept("("):
			for !p.accept(")") {
				p.expression()
				if !p.tok.is(")") {
					p.expect(",")
				}
			}
		default:
			return
		}
		n.op = opMember
	}
}

// stringUse reads what is asked of a string.
func (p *parser) stringUse(t token) *node {
	n := &node{line: t.line, text: "$" + t.text[1:]}
	if t.text[len(t.text)-1] == '*' {
		panic(&syntaxError{t.line, fmt.Sprintf("%q stands for several strings: it belongs in a set", t.text)})
	}
	switch t.text[0] {
	case '$':
		n.op = opFound
		if p.accept("at") {
			n.op, n.kids = opFoundAt, []*node{p.binary(quantified)}
		} else if p.accept("in") {
			n.op, n.kids = opFoundIn, p.bounds()
		}
	case '#':
		n.op = opCount
		if p.accept("in") {
			n.kids = p.bounds()
		}
	case '@', '!':
		n.op = opOffset
		if t.text[0] == '!' {
			n.op = opLength
		}
		if p.accept("[") {
			n.kids = []*node{p.binary(0)}
			p.expect("]")
		}
	}
	return n
}

// bounds reads (from..to).
func (p *parser) bounds() []*node {
	p.expect("(")
	from := p.binary(quantified)
	p.expect("..")
	to := p.binary(quantified)
	p.expect(")")
	return []*node{from, to}
}

// of reads what follows a quantifier.
func (p *parser) of(quantity *node) *node {
	p.expect("of")
	n := &node{op: opOf, line: quantity.line, kids: []*node{quantity, p.set()}}
	if p.accept("in") {
		n.kids = append(n.kids, p.bounds()...)
	} else if p.accept("at") {
		n.kids = append(n.kids, p.binary(quantified))
	}
	return n
}

// set reads them, ($a, $b*) or (rule, rules*).
func (p *parser) set() *node {
	n := &node{op: opSet, line: p.tok.line}
	if p.accept("them") {
		n.text = "them"
		return n
	}
	p.expect("(")
	for {
		k := &node{op: opFound, line: p.tok.line, text: p.tok.text}
		switch {
		case p.tok.kind == tokString && p.tok.text[0] == '$':
			p.advance()
		case p.tok.is("them"):
			p.fail("them is a set of its own: it needs no brackets")
		default:
			k.op, k.text = opRule, p.name("string or rule")
			if p.accept("*") {
				k.text += "*"
			}
		}
		n.kids = append(n.kids, k)
		if !p.accept(",") {
			break
		}
	}
	p.expect(")")
	return n
}

// loop reads what follows for.
func (p *parser) loop(t token) *node {
	q := &node{op: opQuantity, line: p.tok.line}
	if p.tok.is(quantityAll) || p.tok.is(quantityAny) || p.tok.is(quantityNone) {
		q.text = p.advance().text
	} else {
		q.kids = []*node{p.binary(quantified + 1)}
		if p.accept("%") {
			q.text = percentage
		}
	}
	n := &node{line: t.line}
	if p.accept("of") {
		n.op, n.kids = opForOf, []*node{q, p.set()}
	} else {
		n.op, n.text = opForIn, p.name("variable")
		if p.accept(",") {
			n.mods = p.name("variable")
		}
		p.expect("in")
		n.kids = []*node{q, p.items()}
	}
	p.expect(":")
	p.expect("(")
	n.kids = append(n.kids, p.expression())
	p.expect(")")
	return n
}

// items reads what a variable goes through: a range, a list, or a member of a
// module.
func (p *parser) items() *node {
	line := p.tok.line
	if p.tok.kind == tokName {
		n := &node{op: opName, line: line, text: p.name("module")}
		p.members(n)
		n.op = opMember
		return n
	}
	p.expect("(")
	first := p.binary(quantified)
	if p.accept("..") {
		n := &node{op: opRange, line: line, kids: []*node{first, p.binary(quantified)}}
		p.expect(")")
		return n
	}
	n := &node{op: opItems, line: line, kids: []*node{first}}
	for p.accept(",") {
		n.kids = append(n.kids, p.binary(quantified))
	}
	p.expect(")")
	return n
}

// A Refusal is a rule, or a part of a file, that is YARA but is not used, and
// why.
type Refusal struct {
	File   string
	Line   int
	Rule   string // empty: of the file itself
	Reason string // a phrase without a full stop
}

func (r Refusal) Error() string {
	if r.Rule == "" {
		return fmt.Sprintf("%s:%d: %s", r.File, r.Line, r.Reason)
	}
	return fmt.Sprintf("%s:%d: rule %s is refused: %s", r.File, r.Line, r.Rule, r.Reason)
}
