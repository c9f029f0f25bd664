package pair

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// Functions pairs the functions of two versions: for each of a the index of its
// counterpart in b, or -1. No function of b is used twice.
//
// What is unique on both sides is paired first: by name, by body, by what a
// function names. From there pairs spread: a function is known by those that it
// calls and that call it, and by standing between two that are paired, since
// compilers and linkers keep the order of the source. What goes with nothing by
// any of these stays alone.
func Functions(a, b *inventory.Marks) []int32 {
	if a == nil || b == nil {
		return nil
	}
	m := &matching{a: newSide(a), b: newSide(b)}
	m.unique(func(s *side, i int) uint64 { return mix(0, s.name[i]) })
	m.unique(func(s *side, i int) uint64 { return mix(0, s.plain[i]) })
	m.unique((*side).whole)
	m.unique((*side).longBody)
	m.unique((*side).telling)
	for range rounds {
		before := m.pairs
		m.unique((*side).placed)
		m.along()
		m.between()
		if m.pairs == before {
			break
		}
	}
	return m.a.of
}

// rounds bounds how far pairs spread.
const rounds = 16

// A side is one of the two versions.
type side struct {
	*inventory.Marks
	of      []int32    // in the other side; -1 for none
	id      []uint64   // equal for the two of a pair; 0 for none
	callers [][]int32  // by function, in order
	name    []uint64   // hash; 0 for none
	plain   []uint64   // the same without what changes from build to build
	named   [][]uint64 // by function: hashes of the names of its imports, sorted
	says    []uint64   // by function: of imports and texts; 0 for none
}

func newSide(m *inventory.Marks) *side {
	n := len(m.Functions)
	s := &side{Marks: m, of: slices.Repeat([]int32{-1}, n), id: make([]uint64, n), callers: make([][]int32, n), name: make([]uint64, n), plain: make([]uint64, n)}
	for i := range m.Functions {
		f := &m.Functions[i]
		if f.Name != "" {
			s.name[i], s.plain[i] = word(f.Name), word(plain(f.Name))
		}
		for _, to := range f.Calls {
			if to >= 0 && int(to) < n {
				s.callers[to] = append(s.callers[to], int32(i))
			}
		}
	}
	s.hear()
	return s
}

// hear hashes what functions say, by names, so that both sides have the same
// hashes for the same.
func (s *side) hear() {
	hashes := make([]uint64, len(s.Marks.Imports))
	for i, name := range s.Marks.Imports {
		hashes[i] = word(name)
	}
	s.says, s.named = make([]uint64, len(s.Functions)), make([][]uint64, len(s.Functions))
	for i := range s.Functions {
		f := &s.Functions[i]
		for _, k := range f.Imports {
			if k >= 0 && int(k) < len(hashes) {
				s.named[i] = append(s.named[i], hashes[k])
				s.says[i] += mix(1, hashes[k])
			}
		}
		slices.Sort(s.named[i])
		for _, t := range f.Texts {
			s.says[i] += mix(2, uint64(t))
		}
	}
}

// word hashes a name with FNV-1a.
func word(name string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return h
}

// mix stirs values into one (the finalizer of SplitMix64). It is 0 exactly for
// a last value of 0.
func mix(seed, v uint64) uint64 {
	if v == 0 {
		return 0
	}
	v += seed * 0x9e3779b97f4a7c15
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return (v ^ v>>31) | 1
}

// whole is the body of a function with what it names.
func (s *side) whole(i int) uint64 {
	f := &s.Functions[i]
	if f.Body == 0 || f.Short && s.says[i] == 0 {
		return 0
	}
	return mix(3, f.Body) + mix(4, s.says[i])
}

func (s *side) longBody(i int) uint64 {
	if s.Functions[i].Short {
		return 0
	}
	return mix(5, s.Functions[i].Body)
}

// telling is what a function names, if that is enough to tell it from others.
func (s *side) telling(i int) uint64 {
	if f := &s.Functions[i]; len(f.Texts) == 0 && len(f.Imports) < 2 {
		return 0
	}
	return mix(6, s.says[i])
}

// placed is where a function stands among those that are paired: who calls it,
// whom it calls, and what it names. One such neighbour must be known.
func (s *side) placed(i int) uint64 {
	f := &s.Functions[i]
	around := uint64(0)
	for _, to := range f.Calls[:min(len(f.Calls), maxNear)] {
		if to >= 0 && int(to) < len(s.id) {
			around += mix(7, s.id[to])
		}
	}
	for _, by := range s.callers[i][:min(len(s.callers[i]), maxNear)] {
		around += mix(8, s.id[by])
	}
	if around == 0 {
		return 0
	}
	around += mix(9, s.says[i])
	if f.Short {
		around += mix(10, f.Body)
	}
	return around
}

// maxNear is how many callers and callees tell a function: more cost time and
// add nothing.
const maxNear = 64

type matching struct {
	a, b  *side
	pairs int
	work  int // done on comparing functions one by one
}

// maxWork bounds how often two functions are held against each other: a second
// or two, so that no binary can be made to take forever.
const maxWork = 20_000_000

func (m *matching) pair(i, j int) {
	m.a.of[i], m.b.of[j] = int32(j), int32(i)
	m.pairs++
	m.a.id[i], m.b.id[j] = mix(11, uint64(m.pairs)), mix(11, uint64(m.pairs))
}

// unique pairs what only one function of either side has. of returns 0 for a
// function that cannot be told so.
func (m *matching) unique(of func(*side, int) uint64) {
	left, right := single(m.a, of), single(m.b, of)
	found := make([][2]int, 0, len(left))
	for k, i := range left {
		if j, ok := right[k]; ok && i >= 0 && j >= 0 && m.allowed(i, j) {
			found = append(found, [2]int{i, j})
		}
	}
	slices.SortFunc(found, func(x, y [2]int) int { return cmp.Compare(x[0], y[0]) })
	for _, p := range found {
		m.pair(p[0], p[1])
	}
}

// allowed refuses to pair functions of different names unless their body or
// what they name says that one was renamed.
func (m *matching) allowed(i, j int) bool {
	f, g := &m.a.Functions[i], &m.b.Functions[j]
	if m.a.plain[i] == 0 || m.b.plain[j] == 0 || m.a.plain[i] == m.b.plain[j] {
		return true
	}
	return f.Body != 0 && f.Body == g.Body || len(f.Texts) > 0 && m.a.says[i] == m.b.says[j]
}

// single returns the functions without a counterpart by their key, -1 for a key
// that several have.
func single(s *side, of func(*side, int) uint64) map[uint64]int {
	out := make(map[uint64]int)
	for i := range s.Functions {
		if s.of[i] >= 0 {
			continue
		}
		k := of(s, i)
		if k == 0 {
			continue
		}
		if _, twice := out[k]; twice {
			out[k] = -1
		} else {
			out[k] = i
		}
	}
	return out
}

// along pairs what paired functions call, and what calls them, in order.
func (m *matching) along() {
	for i := range m.a.Functions {
		if j := m.a.of[i]; j >= 0 {
			m.align(m.a.free(m.a.Functions[i].Calls), m.b.free(m.b.Functions[j].Calls), near)
			m.align(m.a.free(m.a.callers[i]), m.b.free(m.b.callers[j]), near)
		}
	}
}

// between pairs functions that lie between two neighbouring pairs, in the order
// of their addresses.
func (m *matching) between() {
	last := -1
	for i := range m.a.Functions {
		if m.a.of[i] < 0 {
			continue
		}
		if i-last > 1 {
			from, to := int32(0), m.a.of[i]
			if last >= 0 {
				from = m.a.of[last] + 1
			}
			m.gap(last+1, i, from, to)
		}
		last = i
	}
	if last >= 0 {
		m.gap(last+1, len(m.a.Functions), m.a.of[last]+1, int32(len(m.b.Functions)))
	}
}

// gap aligns the functions without a counterpart in two ranges.
func (m *matching) gap(from, to int, otherFrom, otherTo int32) {
	if otherFrom >= otherTo || to-from > maxAlign || otherTo-otherFrom > maxAlign {
		return
	}
	var left, right []int32
	for k := from; k < to; k++ {
		if m.a.of[k] < 0 {
			left = append(left, int32(k))
		}
	}
	for k := otherFrom; k < otherTo; k++ {
		if m.b.of[k] < 0 {
			right = append(right, k)
		}
	}
	m.align(left, right, near)
}

// free returns those of a list that have no counterpart, at most maxAlign+1.
func (s *side) free(list []int32) []int32 {
	var out []int32
	for _, f := range list {
		if int(f) < len(s.of) && f >= 0 && s.of[f] < 0 {
			if out = append(out, f); len(out) > maxAlign {
				break
			}
		}
	}
	return out
}

// maxAlign is how many functions are aligned with as many: the work grows with
// the square.
const maxAlign = 150

// near is how alike two functions must be that stand in the same place.
const near = 3

// align pairs two short lists of functions in order, passing over those on
// either side that go with none: the heaviest common subsequence (Needleman and
// Wunsch, J. Mol. Biol. 48, 1970), by what is alike.
func (m *matching) align(left, right []int32, least int32) {
	n, k := len(left), len(right)
	if n == 0 || k == 0 || n > maxAlign || k > maxAlign || m.work > maxWork {
		return
	}
	m.work += n * k
	weight := make([]int32, n*k)
	for i := range left {
		for j := range right {
			if s := m.alike(int(left[i]), int(right[j])); s >= least {
				weight[i*k+j] = s
			}
		}
	}
	best := make([]int32, (n+1)*(k+1))
	at := func(i, j int) *int32 { return &best[i*(k+1)+j] }
	for i := n - 1; i >= 0; i-- {
		for j := k - 1; j >= 0; j-- {
			*at(i, j) = max(*at(i+1, j), *at(i, j+1))
			if w := weight[i*k+j]; w > 0 {
				*at(i, j) = max(*at(i, j), *at(i+1, j+1)+w)
			}
		}
	}
	for i, j := 0, 0; i < n && j < k; {
		w := weight[i*k+j]
		switch {
		case w > 0 && *at(i, j) == *at(i+1, j+1)+w:
			m.pair(int(left[i]), int(right[j]))
			i, j = i+1, j+1
		case *at(i, j) == *at(i+1, j):
			i++
		default:
			j++
		}
	}
}

// alike says how much two functions have in common, from 0 to 16.
func (m *matching) alike(i, j int) int32 {
	if !m.allowed(i, j) {
		return 0
	}
	f, g := &m.a.Functions[i], &m.b.Functions[j]
	if m.a.plain[i] != 0 && m.a.plain[i] == m.b.plain[j] {
		return 16
	}
	s := int32(0)
	switch {
	case f.Body != 0 && f.Body == g.Body && !f.Short:
		s += 6
	case f.Body != 0 && f.Body == g.Body:
		s += 4
	}
	s += m.shared(i, j)
	if m.sameCalls(f, g) {
		s += 2
	}
	if nearSize(f.Size, g.Size) {
		s += 2
	}
	return max(s, 0)
}

// shared says how much of what two functions name is the same: 4 for all of it,
// less than 0 for nothing.
func (m *matching) shared(i, j int) int32 {
	f, g := &m.a.Functions[i], &m.b.Functions[j]
	total := len(f.Imports) + len(f.Texts) + len(g.Imports) + len(g.Texts)
	if total == 0 {
		return 0
	}
	m.work += total / 8
	same := common(f.Texts, g.Texts) + common(m.a.named[i], m.b.named[j])
	return int32(2*same*6/total) - 2
}

// common counts what two sorted lists share.
func common[T cmp.Ordered](a, b []T) (n int) {
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch cmp.Compare(a[i], b[j]) {
		case 0:
			n, i, j = n+1, i+1, j+1
		case -1:
			i++
		default:
			j++
		}
	}
	return n
}

// sameCalls reports whether two functions call as many, none of which are known
// to be different.
func (m *matching) sameCalls(f, g *inventory.Mark) bool {
	if len(f.Calls) != len(g.Calls) {
		return false
	}
	for n := range f.Calls {
		x, y := f.Calls[n], g.Calls[n]
		if int(x) >= len(m.a.of) || int(y) >= len(m.b.of) || x < 0 || y < 0 {
			return false
		}
		if m.a.of[x] != y && (m.a.of[x] >= 0 || m.b.of[y] >= 0) {
			return false
		}
	}
	return true
}

// nearSize reports whether two sizes differ by no more than a third, which another
// version of a compiler makes of the same source.
func nearSize(a, b uint64) bool {
	lo, hi := min(a, b), max(a, b)
	return hi-lo <= 16 || hi-lo <= lo/2
}
