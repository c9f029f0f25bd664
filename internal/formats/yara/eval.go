package yara

import (
	"context"
	"slices"
	"strings"
)

// A value is what an expression comes to. Undefined is what has no value: a
// read outside the data, the place of a string that is not there.
type value struct {
	kind valueKind
	i    int64
	f    float64
	s    string
}

type valueKind uint8

const (
	undefined valueKind = iota
	integer             // also true and false
	fraction
	textual
)

func boolean(b bool) value {
	if b {
		return value{kind: integer, i: 1}
	}
	return value{kind: integer}
}

func number(i int64) value { return value{kind: integer, i: i} }

// holds is the value as a condition; undefined does not hold.
func (v value) holds() bool {
	switch v.kind {
	case integer:
		return v.i != 0
	case fraction:
		return v.f != 0
	case textual:
		return v.s != ""
	}
	return false
}

func (v value) float() float64 {
	if v.kind == fraction {
		return v.f
	}
	return float64(v.i)
}

// An evaluator tries the conditions of a set on some data.
type evaluator struct {
	set     *Set
	data    []byte
	ctx     context.Context
	strings [][]Span // by string, over all rules
	results []bool   // by rule, as far as they have been tried

	// Of the rule at hand:
	first   int // of its strings
	vars    []value
	current int // the string of the loop
	steps   int
	stopped bool // there is no more time: what is said from now on does not count
}

// rule tries a rule. Those that it needs stand before it and have been tried.
func (e *evaluator) rule(i int) bool {
	r := e.set.rules[i]
	e.first, e.vars = r.first, make([]value, r.variables)
	e.results[i] = e.eval(r.condition).holds() && !e.stopped
	return e.results[i]
}

// shown returns the strings of a rule that a report may show.
func (e *evaluator) shown(r *Rule) (out []Found) {
	for i, s := range r.strings {
		if at := e.strings[r.first+i]; len(at) > 0 && !s.private {
			out = append(out, Found{s.name, slices.Clone(at)})
		}
	}
	return out
}

// spans returns the places of the string that a node names.
func (e *evaluator) spans(n *node) []Span {
	if n.set == nil {
		return e.strings[e.first+e.current]
	}
	return e.strings[e.first+n.set[0]]
}

func (e *evaluator) eval(n *node) value {
	switch n.op {
	case opBool, opNumber:
		return number(n.num)
	case opFloat:
		return value{kind: fraction, f: n.real}
	case opText:
		return value{kind: textual, s: n.text}
	case opFilesize:
		return number(int64(len(e.data)))
	case opVariable:
		return e.vars[n.slot]
	case opRule:
		return boolean(e.results[n.set[0]])
	case opRead:
		return read(e.data, n.text, e.eval(n.kids[0]))
	case opNot:
		if v := e.eval(n.kids[0]); v.kind != undefined {
			return boolean(!v.holds())
		}
		return value{}
	case opDefined:
		return boolean(e.eval(n.kids[0]).kind != undefined)
	case opAnd:
		for _, k := range n.kids {
			if !e.eval(k).holds() {
				return boolean(false)
			}
		}
		return boolean(true)
	case opOr:
		for _, k := range n.kids {
			if e.eval(k).holds() {
				return boolean(true)
			}
		}
		return boolean(false)
	case opMinus:
		v := e.eval(n.kids[0])
		v.i, v.f = -v.i, -v.f
		return v
	case opInvert:
		v := e.eval(n.kids[0])
		v.i = ^v.i
		return v
	case opBinary:
		return e.binary(n)
	case opFound:
		return boolean(len(e.spans(n)) > 0)
	case opFoundAt:
		v := e.eval(n.kids[0])
		return boolean(v.kind != undefined && within(e.spans(n), v.i, v.i) > 0)
	case opFoundIn, opCount:
		return e.count(n)
	case opOffset, opLength:
		return e.place(n)
	case opOf:
		return e.of(n)
	case opForOf:
		return e.forOf(n)
	case opForIn:
		return e.forIn(n)
	}
	return value{}
}

// within counts the spans that begin from one offset to another, both
// included.
func within(list []Span, from, to int64) int64 {
	return first(list, to+1) - first(list, from)
}

// first returns the index of the first span at an offset or after it.
func first(list []Span, offset int64) int64 {
	low, high := 0, len(list)
	for low < high {
		if mid := (low + high) / 2; int64(list[mid].Offset) < offset {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return int64(low)
}

func (e *evaluator) count(n *node) value {
	if len(n.kids) == 0 {
		return number(int64(len(e.spans(n))))
	}
	from, to := e.eval(n.kids[0]), e.eval(n.kids[1])
	if from.kind == undefined || to.kind == undefined {
		return value{}
	}
	c := int64(0)
	if from.i <= to.i && to.i < 1<<62 {
		c = within(e.spans(n), from.i, to.i)
	} else if from.i <= to.i {
		c = within(e.spans(n), from.i, 1<<62)
	}
	if n.op == opFoundIn {
		return boolean(c > 0)
	}
	return number(c)
}

// place returns the offset or length of a match, which are counted from one.
func (e *evaluator) place(n *node) value {
	i := int64(1)
	if len(n.kids) > 0 {
		v := e.eval(n.kids[0])
		if v.kind == undefined {
			return v
		}
		i = v.i
	}
	list := e.spans(n)
	if i < 1 || i > int64(len(list)) {
		return value{}
	}
	if n.op == opOffset {
		return number(int64(list[i-1].Offset))
	}
	return number(int64(list[i-1].Length))
}

// read reads an integer of the data: "uint16be" and its kin.
func read(data []byte, what string, at value) value {
	name, big := strings.CutSuffix(what, "be")
	unsigned := strings.HasPrefix(name, "u")
	size := 1
	if strings.HasSuffix(name, "16") {
		size = 2
	} else if strings.HasSuffix(name, "32") {
		size = 4
	}
	if at.kind == undefined || at.i < 0 || at.i > int64(len(data)-size) {
		return value{}
	}
	var v uint64
	for i := range size {
		c := uint64(data[at.i+int64(i)])
		if big {
			v = v<<8 | c
		} else {
			v |= c << (8 * i)
		}
	}
	if !unsigned {
		shift := 64 - 8*size
		return number(int64(v<<shift) >> shift)
	}
	return number(int64(v))
}

func (e *evaluator) binary(n *node) value {
	a := e.eval(n.kids[0])
	if n.regex != nil {
		return boolean(a.kind != undefined && search(n.regex, a.s))
	}
	b := e.eval(n.kids[1])
	switch {
	case a.kind == undefined || b.kind == undefined:
		return value{}
	case a.kind == textual:
		return texts(n.text, a.s, b.s)
	case a.kind == fraction || b.kind == fraction:
		return fractions(n.text, a.float(), b.float())
	}
	return integers(n.text, a.i, b.i)
}

// search reports whether a program matches anywhere in a text.
func search(a *automaton, text string) bool {
	r := runner{data: []byte(text)}
	for at := 0; at <= len(text); at++ {
		held := false
		r.run(a, 0, at, true, func(int) bool { held = true; return false })
		if held {
			return true
		}
	}
	return false
}

func texts(op, a, b string) value {
	switch op {
	case "contains":
		return boolean(strings.Contains(a, b))
	case "startswith":
		return boolean(strings.HasPrefix(a, b))
	case "endswith":
		return boolean(strings.HasSuffix(a, b))
	}
	if strings.HasPrefix(op, "i") {
		return texts(map[string]string{
			"icontains": "contains", "istartswith": "startswith", "iendswith": "endswith", "iequals": "==",
		}[op], lowerText(a), lowerText(b))
	}
	return compare(op, strings.Compare(a, b))
}

func lowerText(s string) string {
	out := []byte(s)
	for i, c := range out {
		out[i] = lower[c]
	}
	return string(out)
}

// compare turns the order of two values into that of an operator.
func compare(op string, c int) value {
	switch op {
	case "==":
		return boolean(c == 0)
	case "!=":
		return boolean(c != 0)
	case "<":
		return boolean(c < 0)
	case "<=":
		return boolean(c <= 0)
	case ">":
		return boolean(c > 0)
	}
	return boolean(c >= 0)
}

func fractions(op string, a, b float64) value {
	out := value{kind: fraction}
	switch op {
	case "+":
		out.f = a + b
	case "-":
		out.f = a - b
	case "*":
		out.f = a * b
	case "\\":
		out.f = a / b
	case "==":
		return boolean(a == b)
	case "!=":
		return boolean(a != b)
	case "<":
		return boolean(a < b)
	case "<=":
		return boolean(a <= b)
	case ">":
		return boolean(a > b)
	case ">=":
		return boolean(a >= b)
	}
	return out
}

func integers(op string, a, b int64) value {
	switch op {
	case "+":
		return number(a + b)
	case "-":
		return number(a - b)
	case "*":
		return number(a * b)
	case "\\", "%":
		if b == 0 || b == -1 && a == -1<<63 {
			return value{}
		}
		if op == "%" {
			return number(a % b)
		}
		return number(a / b)
	case "&":
		return number(a & b)
	case "|":
		return number(a | b)
	case "^":
		return number(a ^ b)
	case "<<", ">>":
		switch {
		case b < 0:
			return value{}
		case b >= 64:
			return number(0)
		case op == "<<":
			return number(a << b)
		}
		return number(a >> b)
	}
	switch {
	case a < b:
		return compare(op, -1)
	case a > b:
		return compare(op, 1)
	}
	return compare(op, 0)
}

// enough reports whether so many of all are as many as a quantity wants.
func (e *evaluator) enough(q *node, held, all int64) value {
	if len(q.kids) == 0 {
		switch q.text {
		case quantityAll:
			return boolean(held == all)
		case quantityAny:
			return boolean(held > 0)
		}
		return boolean(held == 0)
	}
	want := e.eval(q.kids[0])
	switch {
	case want.kind == undefined: // which is all to YARA
		return boolean(held == all)
	case q.text == percentage:
		return boolean(all > 0 && float64(held)/float64(all)*100 >= float64(want.i))
	case want.i == 0:
		return boolean(held == 0)
	}
	return boolean(held >= want.i)
}

func (e *evaluator) of(n *node) value {
	set := n.kids[partSet]
	held := int64(0)
	var bounds []int64
	for _, k := range n.kids[partRest:] {
		v := e.eval(k)
		if v.kind == undefined {
			return value{}
		}
		bounds = append(bounds, v.i)
	}
	for _, i := range set.set {
		switch {
		case set.text == "rules":
			if e.results[i] {
				held++
			}
		case bounds == nil:
			if len(e.strings[e.first+i]) > 0 {
				held++
			}
		case within(e.strings[e.first+i], bounds[0], bounds[len(bounds)-1]) > 0:
			held++
		}
	}
	return e.enough(n.kids[partQuantity], held, int64(len(set.set)))
}

func (e *evaluator) forOf(n *node) value {
	set := n.kids[partSet].set
	outer, held := e.current, int64(0)
	for _, i := range set {
		e.current = i
		if e.alive() && e.eval(n.kids[partRest]).holds() {
			held++
		}
	}
	e.current = outer
	return e.enough(n.kids[partQuantity], held, int64(len(set)))
}

func (e *evaluator) forIn(n *node) value {
	items := n.kids[partSet]
	held, all := int64(0), int64(0)
	try := func(v value) bool {
		e.vars[n.slot] = v
		all++
		if e.eval(n.kids[partRest]).holds() {
			held++
		}
		return e.alive()
	}
	if items.op == opRange {
		from, to := e.eval(items.kids[0]), e.eval(items.kids[1])
		if from.kind == undefined || to.kind == undefined {
			return boolean(false)
		}
		for i := from.i; i <= to.i && try(number(i)) && i < 1<<63-1; i++ {
		}
	} else {
		for _, k := range items.kids {
			if !try(e.eval(k)) {
				break
			}
		}
	}
	if all == 0 { // nothing to go through holds for nobody, not even for none
		return boolean(false)
	}
	return e.enough(n.kids[partQuantity], held, all)
}

// alive looks at the time now and then.
func (e *evaluator) alive() bool {
	if e.steps++; e.steps&1023 == 0 && e.ctx.Err() != nil {
		e.stopped = true
	}
	return !e.stopped
}
