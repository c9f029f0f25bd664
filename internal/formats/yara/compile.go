package yara

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Set is the rules of some files, ready to be tried. It is safe for
// concurrent use.
type Set struct {
	rules  []*Rule
	slots  []slot
	units  []unit
	finder *finder
	files  int

	strings  int // of all rules
	automata int
	memories sync.Pool
}

// A Rule is a rule that can be tried.
type Rule struct {
	File, Name      string
	Line            int
	Private, Global bool
	Tags            []string
	Meta            []Meta
	Text            string // as it is written

	file      int
	strings   []str
	first     int // number of the first string among those of all rules
	condition *node
	variables int
}

// Rules returns the rules of the set in the order of their files.
func (s *Set) Rules() []*Rule { return s.rules }

// Bounds of what is looked for, beyond which the tables would fill the memory.
const (
	maxUnits  = 400_000
	maxPlaces = 2 << 20
	maxCode   = 2 << 20 // instructions of automata
)

// Compile makes a set of the rules of files. Each file is a namespace: its
// rules see each other, and its global rules bind its rules only. A rule that
// is not of the subset is refused alone, and with it the rules that need it.
func Compile(files ...*File) (*Set, []Refusal) {
	c := &compiler{set: &Set{finder: newFinder(), files: len(files)}}
	for i, f := range files {
		c.refused = append(c.refused, f.refused...)
		c.file(i, f)
	}
	c.set.finder.build()
	return c.set, c.refused
}

type compiler struct {
	set     *Set
	refused []Refusal
	places  int // entries in the tables of atoms
	code    int // instructions
}

func (c *compiler) file(number int, f *File) {
	kept := len(c.set.rules)
	known := map[string]int{} // rules of this file; refused ones are -1
	var wall string           // a global rule that is refused: all others depend on it
	for _, src := range f.rules {
		r, d, err := c.rule(f, src, known)
		if err == nil {
			err = c.room(d)
		}
		if _, twice := known[src.name]; twice {
			err = errors.New("there is another rule of that name before it")
		} else {
			known[src.name] = -1
		}
		if err != nil {
			c.refused = append(c.refused, Refusal{f.Name, src.line, src.name, err.Error()})
			if src.global {
				wall = src.name
			}
			continue
		}
		known[src.name] = len(c.set.rules)
		r.file = number
		c.adopt(r, d)
	}
	if wall == "" {
		return
	}
	for _, r := range c.set.rules[kept:] {
		c.refused = append(c.refused, Refusal{f.Name, r.Line, r.Name, fmt.Sprintf("the global rule %s of this file is refused", wall)})
	}
	c.set.rules = c.set.rules[:kept]
}

// rule compiles one rule without touching the set.
func (c *compiler) rule(f *File, src *source, known map[string]int) (*Rule, *draft, error) {
	r := &Rule{
		File: f.Name, Name: src.name, Line: src.line, Private: src.private, Global: src.global,
		Tags: src.tags, Meta: src.meta, Text: src.text, condition: src.condition,
	}
	if len(src.strings) > maxStrings {
		return nil, nil, fmt.Errorf("%d strings are more than %d", len(src.strings), maxStrings)
	}
	res := &resolver{file: f, rule: r, known: known, names: map[string]int{}, fixed: map[int]int64{}, other: map[int]bool{}}
	for i, s := range src.strings {
		if _, twice := res.names[s.name]; twice {
			return nil, nil, fmt.Errorf("there are two strings %s", s.name)
		}
		res.names[s.name] = i
		res.order = append(res.order, s.name)
	}
	if err := res.resolve(src.condition); err != nil {
		return nil, nil, err
	}
	d := &draft{}
	for i := range src.strings {
		if err := d.add(&src.strings[i]); err != nil {
			name, _, _ := strings.Cut(src.strings[i].name, " ")
			return nil, nil, fmt.Errorf("string %s in line %d: %w", name, src.strings[i].line, err)
		}
		if at, ok := res.fixed[i]; ok && !res.other[i] {
			d.fix(at)
		}
	}
	return r, d, nil
}

// room checks that a rule still fits.
func (c *compiler) room(d *draft) error {
	places, code := c.places, c.code
	for _, u := range d.units {
		for _, a := range u.atoms {
			places += a.places()
		}
		if u.fwd != nil {
			code += len(u.fwd.code) + len(u.bwd.code)
		}
	}
	if len(c.set.units)+len(d.units) > maxUnits || places > maxPlaces || code > maxCode {
		return errors.New("with the rules before it there is too much to look for: use fewer in one scan")
	}
	c.places, c.code = places, code
	return nil
}

// places is how many entries an atom has in the tables.
func (a atom) places() int {
	n := 1
	for _, l := range a.leaves {
		n *= l.set.size()
	}
	if len(a.leaves) == 1 {
		n *= 256
	}
	return n
}

// adopt makes a draft a part of the set.
func (c *compiler) adopt(r *Rule, d *draft) {
	base := len(c.set.slots)
	for i := range d.strings {
		for j := range d.strings[i].slots {
			d.strings[i].slots[j] += base
		}
	}
	r.strings, r.first = d.strings, c.set.strings
	c.set.strings += len(d.strings)
	c.set.slots = append(c.set.slots, d.slots...)
	for _, u := range d.units {
		u.slot += base
		p := place{unit: int32(len(c.set.units))}
		for _, a := range u.atoms {
			if first := a.leaves[0]; u.fwd != nil {
				p.fwd, p.bwd, p.run = u.fwd.at[first], u.bwd.at[first]+1, int32(len(u.runs))
				around := run{first: a.first}
				for _, l := range a.run {
					around.sets = append(around.sets, l.set)
				}
				u.runs = append(u.runs, around)
			} else {
				p.offset = int32(first.min)
			}
			c.set.finder.add(a, p)
		}
		u.atoms = nil
		if u.fwd != nil {
			u.fwd.at, u.bwd.at = nil, nil
			u.fwd.number, u.bwd.number = c.set.automata, c.set.automata+1
			c.set.automata += 2
		}
		c.set.units = append(c.set.units, u)
	}
	c.set.rules = append(c.set.rules, r)
}

// A resolver gives the names of one condition their meaning and checks types.
type resolver struct {
	file  *File
	rule  *Rule
	known map[string]int
	names map[string]int // strings
	order []string
	fixed map[int]int64 // strings of which one offset is asked, and nothing else
	other map[int]bool  // strings of which something else is asked
	vars  []variable
	inOf  bool // in the body of a loop over strings, where $ alone has a meaning
}

type variable struct {
	name string
	slot int
	typ  valueType
}

type valueType uint8

const (
	typeBool valueType = iota
	typeInt
	typeFloat
	typeText
	typeRegex
)

var typeNames = [...]string{"true or false", "an integer", "a fraction", "a text", "a regular expression"}

// modules are those of YARA 4.
var modules = []string{"pe", "elf", "cuckoo", "magic", "hash", "math", "macho", "dex", "dotnet", "lnk", "time", "console", "string", "vt", "test_proto2"}

func (r *resolver) resolve(n *node) (err error) {
	n.typ, err = r.node(n)
	if err == nil && n.typ == typeRegex {
		err = errRegex
	}
	return err
}

var errRegex = errors.New("a regular expression stands alone: it goes with matches only")

// kids resolves all parts of a node that are values.
func (r *resolver) kids(list []*node) error {
	for _, k := range list {
		if err := r.resolve(k); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) node(n *node) (valueType, error) {
	switch n.op {
	case opBool:
		return typeBool, nil
	case opNumber, opFilesize:
		return typeInt, nil
	case opFloat:
		return typeFloat, nil
	case opText:
		return typeText, nil
	case opRegex:
		return typeRegex, nil
	case opEntrypoint:
		return 0, errors.New("entrypoint is deprecated and not supported")
	case opName:
		return r.name(n)
	case opMember:
		if slices.Contains(modules, n.text) || slices.Contains(r.file.Imports, n.text) {
			return 0, fmt.Errorf("module %s is not supported", n.text)
		}
		return 0, fmt.Errorf("%s is not a module", n.text)
	case opRead:
		return typeInt, r.integers(n.kids)
	case opNot, opDefined, opAnd, opOr:
		return typeBool, r.kids(n.kids)
	case opMinus, opInvert:
		return r.sign(n)
	case opBinary:
		return r.binary(n)
	case opFound, opFoundAt, opFoundIn:
		return typeBool, r.use(n)
	case opCount, opOffset, opLength:
		return typeInt, r.use(n)
	case opOf:
		return typeBool, r.of(n)
	case opForOf:
		return typeBool, r.forOf(n)
	case opForIn:
		return typeBool, r.forIn(n)
	}
	return 0, fmt.Errorf("line %d: this is not supported", n.line)
}

func (r *resolver) name(n *node) (valueType, error) {
	for _, v := range slices.Backward(r.vars) {
		if v.name == n.text {
			n.op, n.slot = opVariable, v.slot
			return v.typ, nil
		}
	}
	if i, ok := r.known[n.text]; ok {
		if i < 0 {
			return 0, fmt.Errorf("it needs the rule %s, which is refused", n.text)
		}
		n.op, n.set = opRule, []int{i}
		return typeBool, nil
	}
	if slices.ContainsFunc(r.file.rules, func(s *source) bool { return s.name == n.text }) {
		return 0, fmt.Errorf("it needs the rule %s, which does not stand before it", n.text)
	}
	if slices.Contains(modules, n.text) {
		return 0, fmt.Errorf("module %s is not supported", n.text)
	}
	return 0, fmt.Errorf("%s is neither a rule of this file nor a variable: external variables are not supported", n.text)
}

func (r *resolver) integers(list []*node) error {
	for _, k := range list {
		if err := r.resolve(k); err != nil {
			return err
		}
		if k.typ != typeInt {
			return fmt.Errorf("line %d: %s where an integer is wanted", k.line, typeNames[k.typ])
		}
	}
	return nil
}

func (r *resolver) sign(n *node) (valueType, error) {
	if err := r.kids(n.kids); err != nil {
		return 0, err
	}
	t := n.kids[0].typ
	if t != typeInt && (t != typeFloat || n.op == opInvert) {
		return 0, fmt.Errorf("line %d: %s has no sign and no bits", n.line, typeNames[t])
	}
	return t, nil
}

func (r *resolver) binary(n *node) (valueType, error) {
	left, right := n.kids[0], n.kids[1]
	if err := r.resolve(left); err != nil {
		return 0, err
	}
	if n.text == "matches" {
		return typeBool, r.matches(n, left, right)
	}
	if err := r.resolve(right); err != nil {
		return 0, err
	}
	texts := left.typ == typeText && right.typ == typeText
	ints := left.typ == typeInt && right.typ == typeInt
	numbers := (left.typ == typeInt || left.typ == typeFloat) && (right.typ == typeInt || right.typ == typeFloat)
	wrong := fmt.Errorf("line %d: %s and %s do not go with %s", n.line, typeNames[left.typ], typeNames[right.typ], n.text)
	switch n.text {
	case "==", "!=", "<", "<=", ">", ">=":
		if texts || numbers {
			return typeBool, nil
		}
	case "+", "-", "*", "\\":
		if ints {
			return typeInt, nil
		}
		if numbers {
			return typeFloat, nil
		}
	case "|", "^", "&", "<<", ">>", "%":
		if ints {
			return typeInt, nil
		}
	default:
		if texts {
			return typeBool, nil
		}
	}
	return 0, wrong
}

func (r *resolver) matches(n, left, right *node) error {
	if left.typ != typeText || right.op != opRegex {
		return fmt.Errorf("line %d: matches wants a text and a regular expression", n.line)
	}
	p, _, err := parseRegex(right.text, right.mods, false)
	if err == nil {
		p, err = p.plain(false)
	}
	if err != nil {
		return fmt.Errorf("line %d: %w", n.line, err)
	}
	n.regex = assemble(p, false)
	return nil
}

// use resolves a string and what is asked of it.
func (r *resolver) use(n *node) error {
	if n.text == "$" {
		if !r.inOf {
			return fmt.Errorf("line %d: $ alone has a meaning in a loop over strings only", n.line)
		}
	} else if i, ok := r.names[n.text]; ok {
		n.set = []int{i}
		r.asked(i, n)
	} else {
		return fmt.Errorf("there is no string %s", n.text)
	}
	return r.integers(n.kids)
}

// asked keeps in mind whether a string is asked for at one offset only.
func (r *resolver) asked(i int, n *node) {
	at, before := r.fixed[i]
	if n.op != opFoundAt || n.kids[0].op != opNumber || before && at != n.kids[0].num {
		r.other[i] = true
		return
	}
	r.fixed[i] = n.kids[0].num
}

// quantity resolves how many of a set are wanted.
func (r *resolver) quantity(n *node) error {
	if err := r.integers(n.kids); err != nil {
		return err
	}
	if len(n.kids) > 0 && n.kids[0].op == opNumber && n.text == percentage && (n.kids[0].num < 1 || n.kids[0].num > 100) {
		return fmt.Errorf("line %d: a percentage is from 1 to 100", n.line)
	}
	return nil
}

// set resolves a set of strings or of rules, which has at least one member.
func (r *resolver) set(n *node) error {
	if n.text == "them" {
		for i := range r.order {
			n.set = append(n.set, i)
			r.other[i] = true
		}
		if len(n.set) == 0 {
			return fmt.Errorf("line %d: them are no strings: the rule has none", n.line)
		}
		return nil
	}
	rules := n.kids[0].op == opRule
	defer func() {
		for _, i := range n.set {
			r.other[i] = r.other[i] || !rules
		}
	}()
	for _, k := range n.kids {
		if rules != (k.op == opRule) {
			return fmt.Errorf("line %d: strings and rules in one set", k.line)
		}
		found, err := r.members(k)
		if err != nil {
			return err
		}
		n.set = append(n.set, found...)
	}
	if rules {
		n.text = "rules"
	}
	return nil
}

// members returns what a part of a set stands for.
func (r *resolver) members(k *node) (out []int, err error) {
	prefix, many := strings.CutSuffix(k.text, "*")
	switch {
	case k.op == opRule && !many:
		_, err = r.name(k)
		return k.set, err
	case k.op == opRule:
		for _, s := range r.file.rules {
			if i, ok := r.known[s.name]; ok && strings.HasPrefix(s.name, prefix) && !slices.Contains(out, i) {
				if i < 0 {
					return nil, fmt.Errorf("it needs the rule %s, which is refused", s.name)
				}
				out = append(out, i)
			}
		}
	case k.text == "$":
		err = fmt.Errorf("line %d: $ alone in a set", k.line)
	default:
		for i, name := range r.order {
			if name == k.text || many && strings.HasPrefix(name, prefix) {
				out = append(out, i)
			}
		}
	}
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("nothing is called %s", k.text)
	}
	return out, err
}

func (r *resolver) of(n *node) error {
	if err := r.quantity(n.kids[partQuantity]); err != nil {
		return err
	}
	if err := r.set(n.kids[partSet]); err != nil {
		return err
	}
	if n.kids[partSet].text == "rules" && len(n.kids) > partRest {
		return fmt.Errorf("line %d: rules have no place", n.line)
	}
	return r.integers(n.kids[partRest:])
}

func (r *resolver) forOf(n *node) error {
	if err := r.quantity(n.kids[partQuantity]); err != nil {
		return err
	}
	if err := r.set(n.kids[partSet]); err != nil {
		return err
	}
	if n.kids[partSet].text == "rules" {
		return fmt.Errorf("line %d: a loop over rules", n.line)
	}
	outer := r.inOf
	r.inOf = true
	err := r.resolve(n.kids[partRest])
	r.inOf = outer
	return err
}

// maxLoops bounds the nesting of loops over values, as YARA does.
const maxLoops = 4

func (r *resolver) forIn(n *node) error {
	items := n.kids[partSet]
	switch {
	case items.op == opMember:
		_, err := r.node(items)
		return err
	case n.mods != "":
		return fmt.Errorf("line %d: two variables go through modules only", n.line)
	case len(r.vars) == maxLoops:
		return fmt.Errorf("line %d: loops are nested deeper than %d", n.line, maxLoops)
	}
	if err := r.quantity(n.kids[partQuantity]); err != nil {
		return err
	}
	if err := r.kids(items.kids); err != nil {
		return err
	}
	typ := items.kids[0].typ
	for _, k := range items.kids {
		if k.typ != typ || typ != typeInt && (typ != typeText || items.op == opRange) {
			return fmt.Errorf("line %d: a loop goes through integers or through texts", k.line)
		}
	}
	if slices.ContainsFunc(r.vars, func(v variable) bool { return v.name == n.text }) {
		return fmt.Errorf("line %d: there is a variable %s already", n.line, n.text)
	}
	n.slot = len(r.vars)
	r.vars = append(r.vars, variable{n.text, n.slot, typ})
	r.rule.variables = max(r.rule.variables, len(r.vars))
	err := r.resolve(n.kids[partRest])
	r.vars = r.vars[:n.slot]
	return err
}
