package skeleton

import (
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

// A condition is one comparison, or several.
type condition struct {
	one  value.Cond
	list []*condition // if any: all of them hold, or, without and, at least one
	and  bool
	not  bool // of one: it does not hold
}

// maxTerms is how many comparisons a condition shows.
const maxTerms = 4

// when returns a condition, or its opposite if it is not to hold.
func (c *condition) when(holds bool) *condition {
	if holds {
		return c
	}
	if c.list == nil {
		return &condition{one: c.one, not: !c.not}
	}
	d := &condition{and: !c.and}
	for _, t := range c.list {
		d.list = append(d.list, t.when(false))
	}
	return d
}

// tidy puts lists of one kind together, and leaves out what is said twice or
// says nothing. A condition with too many terms becomes one that nobody can
// read.
func (c *condition) tidy() *condition {
	var list []*condition
	hidden, terms := false, 0
	add := func(t *condition) {
		if !t.says() {
			hidden = true
			return
		}
		if !slices.ContainsFunc(list, t.equal) {
			list = append(list, t)
			terms += t.terms()
		}
	}
	for _, t := range c.list {
		if t.list != nil && t.and == c.and {
			for _, u := range t.list {
				add(u)
			}
			continue
		}
		add(t)
	}
	switch {
	case terms == 0 || terms > maxTerms:
		return &condition{}
	case hidden:
		list = append(list, &condition{})
	}
	if len(list) == 1 {
		return list[0]
	}
	return &condition{list: list, and: c.and}
}

func (c *condition) terms() int {
	n := 0
	for _, t := range c.list {
		n += t.terms()
	}
	return max(n, 1)
}

func (c *condition) equal(d *condition) bool {
	if c.list == nil && d.list == nil {
		return c.not == d.not && c.one.Op == d.one.Op && c.one.Not == d.one.Not && c.one.Left == d.one.Left && c.one.Right == d.one.Right
	}
	return c.and == d.and && slices.EqualFunc(c.list, d.list, (*condition).equal)
}

// alike reports whether two conditions read the same.
func (c *condition) alike(d *condition) bool {
	return !c.says() && !d.says() || c.equal(d)
}

// says reports whether a reader learns something from it.
func (c *condition) says() bool {
	if c.list != nil {
		return slices.ContainsFunc(c.list, (*condition).says)
	}
	l, r := c.one.Left.Kind, c.one.Right.Kind
	return c.one.Op != "" && l != value.Unknown && r != value.Unknown && (l != value.Const || r != value.Const)
}

// each calls f with the values that it shows.
func (c *condition) each(f func(value.Value)) {
	for _, t := range c.list {
		t.each(f)
	}
	if c.list == nil && c.says() {
		f(c.one.Left)
		f(c.one.Right)
	}
}

var opposite = map[string]string{"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}

var turned = map[string]string{"==": "==", "!=": "!=", "<": ">", ">=": "<=", ">": "<", "<=": ">="}

// condition writes a condition.
func (w *writer) condition(c *condition) string {
	if !c.says() {
		return "..."
	}
	if c.list == nil {
		return w.comparison(c.one, c.not)
	}
	var parts []string
	for _, t := range c.list {
		text := w.condition(t)
		if t.list != nil {
			text = "(" + text + ")"
		}
		parts = append(parts, text)
	}
	if c.and {
		return strings.Join(parts, " && ")
	}
	return strings.Join(parts, " || ")
}

func (w *writer) comparison(c value.Cond, not bool) string {
	left, right := w.text(c.Left), w.text(c.Right)
	if left == "?" || right == "?" {
		return "..."
	}
	if c.Left.Kind == value.Const && c.Op != "&" {
		left, right, c.Op = right, left, turned[c.Op]
	}
	switch {
	case c.Op == "&" && c.Not != not:
		return "!(" + left + " & " + right + ")"
	case c.Op == "&":
		return left + " & " + right
	case not && opposite[c.Op] == "":
		return "..."
	case not:
		return left + " " + opposite[c.Op] + " " + right
	}
	return left + " " + c.Op + " " + right
}
