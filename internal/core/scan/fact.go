package scan

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// A Fact is a kind of thing that can become known about a target: its
// packages, its native binaries, its endpoint. Sources give the first facts;
// scanners turn facts into more facts and into findings.
type Fact interface {
	name() string
	values() reflect.Type
}

// A FactOf is a Fact whose values have type T. Many scanners may give it.
type FactOf[T any] struct{ text string }

// NewFact declares a fact. Call it once, for a package-level variable.
func NewFact[T any](name string) *FactOf[T] { return &FactOf[T]{name} }

func (f *FactOf[T]) name() string         { return f.text }
func (f *FactOf[T]) values() reflect.Type { return reflect.TypeFor[T]() }

// known is one value of a fact, with what puts it in order.
type known struct {
	path, scanner string
	value         any
}

// Add makes values known. The scanner must list f in Gives.
func (f *FactOf[T]) Add(p *Pass, values ...T) {
	if !slices.Contains(p.Scanner.Gives, Fact(f)) {
		panic(fmt.Sprintf("scan: %s does not give %s", p.Scanner, f.text))
	}
	p.task.add(func(out *output) {
		for _, v := range values {
			out.facts = append(out.facts, factValue{f, known{p.task.path, p.Scanner.Name, v}})
		}
	})
}

// All returns every value known, by the path of the file that it came from.
// The scanner must list f in Needs.
func (f *FactOf[T]) All(p *Pass) []T {
	if !slices.Contains(p.Scanner.Needs, Fact(f)) {
		panic(fmt.Sprintf("scan: %s does not need %s", p.Scanner, f.text))
	}
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	return values[T](p.run.res.facts[f])
}

// Of returns every value that became known in a finished scan.
func (f *FactOf[T]) Of(r *Result) []T { return values[T](r.facts[f]) }

// Given returns f with values, for a source to hand to [Run].
func (f *FactOf[T]) Given(values ...T) Known {
	k := Known{fact: f}
	for _, v := range values {
		k.values = append(k.values, known{value: v})
	}
	return k
}

// Known is a fact with the values that were known before the scan.
type Known struct {
	fact   Fact
	values []known
}

func values[T any](list []known) []T {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b known) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.scanner, b.scanner))
	})
	out := make([]T, len(sorted))
	for i, k := range sorted {
		out[i] = k.value.(T)
	}
	return out
}
