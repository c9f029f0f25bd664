package yara

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A regexReader reads YARA's regular expressions (Writing YARA rules, "Regular
// expressions"), which are about bytes: no text encoding, no captures.
type regexReader struct {
	src          string
	at, depth    int
	fold, dotAll bool
	greedy, lazy bool // quantifiers of the kind were seen
}

// parseRegex reads a regular expression with its modifiers i and s. Greedy is
// whether it wants the longest match.
func parseRegex(src, mods string, nocase bool) (p *pattern, greedy bool, err error) {
	r := &regexReader{src: src, fold: nocase || strings.Contains(mods, "i"), dotAll: strings.Contains(mods, "s")}
	p, err = r.alternatives()
	switch {
	case err != nil:
		return nil, false, err
	case r.at < len(src):
		return nil, false, errors.New("a bracket closes that was not opened")
	case r.greedy && r.lazy:
		return nil, false, errors.New("greedy and lazy quantifiers cannot be mixed")
	}
	return p, r.greedy, nil
}

func (r *regexReader) more() bool { return r.at < len(r.src) }

func (r *regexReader) accept(c byte) bool {
	if r.more() && r.src[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *regexReader) alternatives() (*pattern, error) {
	if r.depth++; r.depth > maxDepth {
		return nil, fmt.Errorf("groups are nested deeper than %d", maxDepth)
	}
	defer func() { r.depth-- }()
	alt := &pattern{kind: patAlt}
	for {
		cat, err := r.concatenation()
		if err != nil {
			return nil, err
		}
		alt.kids = append(alt.kids, cat)
		if !r.accept('|') {
			break
		}
	}
	if len(alt.kids) == 1 {
		return alt.kids[0], nil
	}
	return alt, nil
}

func (r *regexReader) concatenation() (*pattern, error) {
	cat := &pattern{kind: patCat}
	for r.more() && r.src[r.at] != '|' && r.src[r.at] != ')' {
		one, err := r.single()
		if err != nil {
			return nil, err
		}
		if one, err = r.repeated(one); err != nil {
			return nil, err
		}
		cat.kids = append(cat.kids, one)
	}
	return cat, nil
}

func (r *regexReader) single() (*pattern, error) {
	c := r.src[r.at]
	r.at++
	switch c {
	case '(':
		if r.more() && r.src[r.at] == '?' {
			return nil, errors.New("groups that begin with (? are not YARA's")
		}
		p, err := r.alternatives()
		if err == nil && !r.accept(')') {
			err = errors.New("a group does not end")
		}
		return p, err
	case '[':
		set, err := r.class()
		return &pattern{kind: patByte, set: set}, err
	case '.':
		if r.dotAll {
			return &pattern{kind: patByte, set: anyByte}, nil
		}
		return &pattern{kind: patByte, set: notNewline}, nil
	case '^':
		return &pattern{kind: patAssert, assert: atStart}, nil
	case '$':
		return &pattern{kind: patAssert, assert: atEnd}, nil
	case '*', '+', '?':
		return nil, fmt.Errorf("there is nothing before %q to repeat", c)
	case '\\':
		return r.escaped()
	}
	return r.byte(c), nil
}

func (r *regexReader) byte(c byte) *pattern {
	set := setOf(c)
	if r.fold {
		set = set.fold()
	}
	return &pattern{kind: patByte, set: set}
}

// classes are the escapes that stand for several bytes.
var classes = map[byte]byteSet{
	'w': wordBytes, 'W': wordBytes.not(), 's': spaces, 'S': spaces.not(), 'd': digits, 'D': digits.not(),
}

func (r *regexReader) escaped() (*pattern, error) {
	if !r.more() {
		return nil, errors.New("it ends with a backslash")
	}
	c := r.src[r.at]
	switch {
	case digit(c):
		return nil, errors.New("backreferences are not YARA's")
	case c == 'b' || c == 'B':
		r.at++
		if c == 'b' {
			return &pattern{kind: patAssert, assert: wordEdge}, nil
		}
		return &pattern{kind: patAssert, assert: noWordEdge}, nil
	}
	if set, ok := classes[c]; ok {
		r.at++
		return &pattern{kind: patByte, set: set}, nil
	}
	c, err := r.escapedByte()
	return r.byte(c), err
}

// escapedByte reads what follows a backslash and means one byte.
func (r *regexReader) escapedByte() (byte, error) {
	if !r.more() {
		return 0, errors.New("it ends with a backslash")
	}
	c := r.src[r.at]
	r.at++
	switch c {
	case 'n':
		return '\n', nil
	case 't':
		return '\t', nil
	case 'r':
		return '\r', nil
	case 'f':
		return '\f', nil
	case 'a':
		return '\a', nil
	case 'x':
		if r.at+2 <= len(r.src) {
			if n, err := strconv.ParseUint(r.src[r.at:r.at+2], 16, 8); err == nil {
				r.at += 2
				return byte(n), nil
			}
		}
		return 0, errors.New(`\x wants two hexadecimal digits`)
	}
	return c, nil
}

// class reads a class after its opening bracket.
func (r *regexReader) class() (set byteSet, err error) {
	negated := r.accept('^')
	for first := true; ; first = false {
		if !r.more() {
			return set, errors.New("a class does not end")
		}
		if r.src[r.at] == ']' && !first {
			r.at++
			break
		}
		if err := r.classItem(&set); err != nil {
			return set, err
		}
	}
	if r.fold {
		set = set.fold()
	}
	if negated {
		set = set.not()
	}
	if set == (byteSet{}) {
		return set, errors.New("a class that no byte is in")
	}
	return set, nil
}

func (r *regexReader) classItem(set *byteSet) error {
	if r.src[r.at] == '\\' && r.at+1 < len(r.src) {
		if s, ok := classes[r.src[r.at+1]]; ok {
			r.at += 2
			set.addSet(s)
			return nil
		}
	}
	from, err := r.classByte()
	if err != nil {
		return err
	}
	to := from
	if r.at+1 < len(r.src) && r.src[r.at] == '-' && r.src[r.at+1] != ']' {
		r.at++
		if to, err = r.classByte(); err != nil {
			return err
		}
		if to < from {
			return errors.New("a range of a class runs backwards")
		}
	}
	set.addSet(setRange(from, to))
	return nil
}

func (r *regexReader) classByte() (byte, error) {
	c := r.src[r.at]
	r.at++
	if c == '\\' {
		return r.escapedByte()
	}
	return c, nil
}

// maxRepeat bounds a counted repetition.
const maxRepeat = 32767

// repeated reads a quantifier, if there is one.
func (r *regexReader) repeated(one *pattern) (*pattern, error) {
	from, to := 0, -1
	switch {
	case r.accept('*'):
	case r.accept('+'):
		from = 1
	case r.accept('?'):
		to = 1
	default:
		var ok bool
		var err error
		if from, to, ok, err = r.counts(); !ok || err != nil {
			return one, err
		}
	}
	if r.accept('?') {
		r.lazy = true
	} else {
		r.greedy = true
	}
	if one.kind == patAssert {
		return nil, errors.New("an assertion cannot be repeated")
	}
	if r.more() && slices.Contains([]byte("*+?"), r.src[r.at]) {
		return nil, errors.New("a quantifier follows a quantifier")
	}
	return &pattern{kind: patRepeat, kids: []*pattern{one}, min: from, max: to}, nil
}

// counts reads {n}, {n,}, {,m} or {n,m}. Any other brace stands for itself.
func (r *regexReader) counts() (from, to int, ok bool, err error) {
	if !r.more() || r.src[r.at] != '{' {
		return 0, 0, false, nil
	}
	body, _, ok := strings.Cut(r.src[r.at+1:], "}")
	low, high, pair := strings.Cut(body, ",")
	if !ok || body == "" || strings.Trim(low+high, "0123456789") != "" {
		return 0, 0, false, nil
	}
	r.at += len(body) + 2
	if !pair {
		high = low
	}
	to = -1
	if low != "" {
		from, err = strconv.Atoi(low)
	}
	if high != "" && err == nil {
		to, err = strconv.Atoi(high)
	}
	if err != nil || from > maxRepeat || to > maxRepeat || to >= 0 && from > to {
		return 0, 0, false, fmt.Errorf("the repetition {%s} is not possible", body)
	}
	return from, to, true, nil
}
