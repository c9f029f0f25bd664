package yara

// A File is one file of rules as it is written.
type File struct {
	Name    string
	Imports []string // modules
	rules   []*source
	refused []Refusal // includes
}

// A source is one rule as it is written.
type source struct {
	name            string
	line            int
	private, global bool
	tags            []string
	meta            []Meta
	strings         []stringSource
	condition       *node
	text            string
}

// A Meta is one line of the meta section of a rule: a string, an int64 or a
// bool under a name.
type Meta struct {
	Name  string
	Value any
}

// A stringSource is one line of the strings section.
type stringSource struct {
	name  string // with its $; unique, so an anonymous one has a number after it
	line  int
	value token
	mods  []modifier
}

// A modifier is a word after a string, with what stands in brackets after it.
type modifier struct {
	name     string
	args     bool
	from, to int64  // xor
	alphabet string // base64
}

// A node is a part of a condition.
type node struct {
	op   op
	line int
	kids []*node
	num  int64
	real float64
	text string // a text, a name, the source of a regex, an operator as it is written
	mods string
	deep int // operators below it

	typ   valueType
	set   []int      // strings or rules, by index
	slot  int        // of a variable
	regex *automaton // of matches
}

type op uint8

const (
	opBool op = iota
	opNumber
	opFloat
	opText
	opRegex
	opFilesize
	opEntrypoint
	opName   // a variable or a rule
	opMember // of a module: refused
	opRead   // uint8(…) and its kin, by text
	opNot
	opDefined
	opAnd
	opOr
	opBinary // by text
	opMinus
	opInvert
	opFound   // $a
	opFoundAt // $a at kid
	opFoundIn // $a in (kid..kid)
	opCount   // #a, or #a in (kid..kid)
	opOffset  // @a[kid]
	opLength  // !a[kid]
	opOf      // quantifier of set, with at or in
	opForOf   // for quantifier of set : (body)
	opForIn   // for quantifier names in items : (body)
	opQuantity
	opSet
	opRange
	opItems
	opRule     // resolved from opName
	opVariable // resolved from opName
)

// The parts of opOf: quantity, set, and then at, or from and to. Those of
// opForOf: quantity, set, body. Those of opForIn: quantity, items, body.
const (
	partQuantity = iota
	partSet
	partRest
)

// The texts of opQuantity: else it has a kid, and % in its text for a
// percentage.
const (
	quantityAll  = "all"
	quantityAny  = "any"
	quantityNone = "none"
	percentage   = "%"
)
