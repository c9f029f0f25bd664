package text

import (
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Ranked is a telling text.
type Ranked struct {
	Value   string // printable ASCII, at most 200 characters
	Kind    Kind
	Address uint64 // where it is mapped; 0 if it is not
	Offset  uint64 // in image.Data
	Section string // name of its section or segment; may be empty
	Score   int    // 0 to 100
}

// Telling returns the n texts of a table that tell most, the most telling
// first. No kind crowds out the others: each further text of a kind counts for
// a little less, and each further one about the same host or folder for less
// still. The result depends on the bytes alone.
func Telling(t *Table, n int) []Ranked {
	s := &search{table: t, piles: make(map[Kind]*pile)}
	s.list, s.words = dictionary()
	s.texts(s.look)

	for _, kind := range []Kind{Word, Message, Path} {
		if p := s.piles[kind]; p != nil {
			p.dropNames(t)
		}
	}
	var all []Ranked
	for kind, p := range s.piles {
		all = append(all, p.ranked(kind, n)...)
	}
	slices.SortFunc(all, func(a, b Ranked) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), strings.Compare(a.Value, b.Value), strings.Compare(string(a.Kind), string(b.Kind)))
	})
	seen := make(map[string]bool)
	all = slices.DeleteFunc(all, func(r Ranked) bool {
		dup := seen[r.Value]
		seen[r.Value] = true
		return dup
	})
	all = all[:min(n, len(all))]
	for i := range all {
		all[i].Address, all[i].Section = t.place(all[i].Offset)
	}
	return slices.Clip(all)
}

// keep puts b[from:to] on the pile of its kind.
func (s *search) keep(kind Kind, score int, b []byte, from, to int) {
	if from < 0 || from >= to || to > len(b) {
		return
	}
	to = min(to, from+longest)
	edge := " \t"
	if kind != Message && kind != Command {
		edge = " \t\"'`"
	}
	for from < to && strings.IndexByte(edge, b[from]) >= 0 {
		from++
	}
	for to > from && strings.IndexByte(edge, b[to-1]) >= 0 {
		to--
	}
	if to-from < shortest-1 || score <= 0 {
		return
	}
	s.covered = max(s.covered, to-from)
	p := s.piles[kind]
	if p == nil {
		p = &pile{index: make(map[string]int)}
		s.piles[kind] = p
	}
	p.add(b[from:to], score, s.origin+uint64(from*s.step))
}

// maxPile bounds the texts of one kind that are kept while searching.
const maxPile = 4096

// A pile holds the candidates of one kind.
type pile struct {
	index map[string]int // by value, place in list
	list  []candidate
	floor int // candidates of a lower score are of no use any more
}

type candidate struct {
	value  string
	score  int
	offset uint64
}

func (p *pile) add(value []byte, score int, offset uint64) {
	if score < p.floor {
		return
	}
	if i, ok := p.index[string(value)]; ok {
		p.list[i].score = max(p.list[i].score, score)
		return
	}
	if len(p.list) >= maxPile {
		slices.SortFunc(p.list, candidate.compare)
		p.list = p.list[:maxPile/2]
		p.floor = p.list[len(p.list)-1].score
		clear(p.index)
		for i, c := range p.list {
			p.index[c.value] = i
		}
	}
	v := strings.ReplaceAll(string(value), "\t", " ")
	p.index[v] = len(p.list)
	p.list = append(p.list, candidate{v, score, offset})
}

// compare puts the higher score first.
func (c candidate) compare(o candidate) int {
	return cmp.Or(cmp.Compare(o.score, c.score), strings.Compare(c.value, o.value))
}

// dropNames removes what the report has elsewhere: names of imports, exports,
// libraries and sections.
func (p *pile) dropNames(t *Table) {
	drop := func(name string) {
		if i, ok := p.index[name]; ok {
			p.list[i].score = 0
		}
	}
	m := t.image
	imports := make(map[string]bool)
	for _, i := range m.Imports {
		drop(i.Name)
		if m.Format == image.PE {
			imports[i.Name] = true
		}
	}
	for i, c := range p.list {
		// In PE files a number of two bytes stands before the name.
		if len(imports) > 0 && len(c.value) > 2 && (imports[c.value[1:]] || imports[c.value[2:]]) {
			p.list[i].score = 0
		}
	}
	for _, e := range m.Exports {
		drop(e.Name)
	}
	for _, l := range m.Libraries {
		drop(l)
	}
	for _, s := range m.Sections {
		drop(s.Name)
	}
	for _, v := range m.Versions {
		drop(v)
	}
	drop(m.Name)
	drop(m.Interp)
	for _, c := range m.Compilers {
		drop(c)
	}
}

// steps are what each further text of a kind costs, in hundredths of a point.
var steps = map[Kind]int{
	Key: 100, Wallet: 100, Onion: 50, Command: 60, Registry: 90, Path: 80, URL: 60, IP: 60, Host: 100, Email: 150,
	UserAgent: 150, Environment: 80, Analysis: 150, BuildPath: 120, Message: 6, Word: 6,
}

// ranked returns the n best of a pile with what is left of their score.
func (p *pile) ranked(kind Kind, n int) []Ranked {
	var out []Ranked
	for i, c := range p.best(kind, n) {
		out = append(out, Ranked{Value: c.value, Kind: kind, Offset: c.offset, Score: max(c.score-i*steps[kind]/100, 1)})
	}
	return out
}

// best returns the n best of a pile, in order, after each further one of a group
// was lowered. It goes from the highest score down, and no further than until n
// are left with more than the rest has to begin with.
func (p *pile) best(kind Kind, n int) []candidate {
	list := slices.DeleteFunc(p.list, func(c candidate) bool { return c.score == 0 })
	if len(list) == 0 || n <= 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
	groups := make(map[string]int)
	left := make([]int, list[0].score+1) // how many have so much left
	done := 0
	for done < len(list) {
		score := list[done].score
		if atLeast(left, n) > score {
			break
		}
		same := list[done:]
		if next := slices.IndexFunc(same, func(c candidate) bool { return c.score < score }); next >= 0 {
			same = same[:next]
		}
		slices.SortFunc(same, func(a, b candidate) int { return strings.Compare(a.value, b.value) })
		for i := range same {
			g := group(kind, same[i].value)
			same[i].score = max(score-groups[g], 1)
			left[same[i].score]++
			groups[g] += groupStep(kind)
		}
		done += len(same)
	}
	lowest := atLeast(left, n)
	list = slices.DeleteFunc(list[:done], func(c candidate) bool { return c.score < lowest })
	slices.SortFunc(list, candidate.compare)
	return list[:min(len(list), n)]
}

// atLeast returns the highest score that n have at least; 0 if there are not so
// many.
func atLeast(count []int, n int) int {
	score := len(count) - 1
	for ; score > 0; score-- {
		if n -= count[score]; n <= 0 {
			break
		}
	}
	return score
}

func groupStep(kind Kind) int {
	switch kind {
	case Message, Word:
		return 1
	case BuildPath:
		return 6
	}
	return 5
}

// group names what several texts of a kind are about: a host, a folder, a
// crate, the first words.
func group(kind Kind, v string) string {
	switch kind {
	case URL:
		_, v, _ = strings.Cut(v, "://")
		v, _, _ = strings.Cut(v, "/")
		fallthrough
	case Host:
		v, _, _ = strings.Cut(v, ":")
		labels := strings.Split(v, ".")
		return strings.Join(labels[max(0, len(labels)-2):], ".")
	case Email:
		_, host, _ := strings.Cut(v, "@")
		return host
	case Path, Registry:
		return first(v, `/\`, 3)
	case BuildPath:
		return first(v, `/\`, 4)
	case Message, Command:
		return first(v, " ", 2)
	case Word:
		return first(v, "_.-", 1)
	}
	return v
}

// first returns v up to the nth separator.
func first(v, separators string, n int) string {
	for i := range len(v) {
		if i > 0 && strings.IndexByte(separators, v[i]) >= 0 {
			if n--; n == 0 {
				return v[:i]
			}
		}
	}
	return v
}
