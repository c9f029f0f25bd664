package store

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"unique"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// summaryBytes is how much of the summaries an index keeps in memory; others are
// read when they are shown. Besides them, a package takes some 300 bytes.
const summaryBytes = 64 << 20

// An index finds packages by parts of their names. It keeps them on two shelves,
// each in order: nearly all on a large one, and those that came since it was
// made on a small one, which is cheap to make anew for each that comes.
type index struct {
	loading sync.Mutex // held by the one who reads changes

	mu        sync.RWMutex
	seq       int64 // of the last change that was taken up
	at        map[packageKey]*Found
	summaries int // bytes
	large     shelf
	small     shelf
}

type packageKey struct {
	ecosystem target.Ecosystem
	name      string
}

// smallShelf is how many names the small shelf holds before they are moved to
// the large one, unless that is so large that a share of it is more.
const (
	smallShelf = 1000
	smallShare = 50
)

func (x *index) upTo() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.seq
}

// add takes up changes, the last of which has the highest Seq.
func (x *index) add(rows []Package) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.at == nil {
		x.at = map[packageKey]*Found{}
	}
	var fresh []named
	for _, r := range rows {
		key := packageKey{unique.Make(r.Ecosystem).Value(), r.Name}
		f := x.at[key]
		if f == nil {
			f = &Found{Ecosystem: key.ecosystem, Name: r.Name}
			x.at[key] = f
			fresh = append(fresh, named{strings.ToLower(r.Name), f})
		}
		x.summaries -= len(f.Summary)
		f.Version, f.RiskScore, f.RiskLevel, f.Summary, f.BinaryCount = r.Version, r.RiskScore, unique.Make(r.RiskLevel).Value(), r.Summary, r.BinaryCount
		if x.summaries+len(f.Summary) > summaryBytes {
			f.Summary = ""
		}
		x.summaries += len(f.Summary)
	}
	x.seq = rows[len(rows)-1].Seq
	if len(fresh) == 0 {
		return
	}
	slices.SortFunc(fresh, named.compare)
	all := merge(x.small.names, fresh, named.compare)
	if len(all) <= max(smallShelf, len(x.large.names)/smallShare) {
		x.small = newShelf(all)
		return
	}
	x.large, x.small = newShelf(merge(x.large.names, all, named.compare)), shelf{}
}

// find returns a page of the packages whose names hold a text in small letters,
// and how many there are: first those that begin with it, the shortest of them
// first, then the others.
func (x *index) find(text string, offset, limit int) (page []Found, total int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	page = []Found{}
	large, small := x.large.search(text), x.small.search(text)
	total = large.total + small.total
	if offset >= total {
		return page, total
	}
	skip := 0
	if small.total == 0 { // so that a page far behind costs no more than the first
		skip, offset = offset, 0
	}
	up := func(a, b match) int {
		if a.begins != b.begins {
			if a.begins {
				return -1
			}
			return 1
		}
		return a.compare(b.named)
	}
	for i, m := range merge(large.page(skip, offset+limit), small.page(0, offset+limit), up) {
		if i >= offset && len(page) < limit {
			page = append(page, *m.Found)
		}
	}
	return page, total
}

// merge returns the elements of two sorted slices in order.
func merge[T any](a, b []T, compare func(a, b T) int) []T {
	all := make([]T, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if compare(a[0], b[0]) <= 0 {
			all, a = append(all, a[0]), a[1:]
		} else {
			all, b = append(all, b[0]), b[1:]
		}
	}
	return append(append(all, a...), b...)
}

type named struct {
	folded string // in small letters
	*Found
}

func (a named) compare(b named) int {
	return cmp.Or(cmp.Compare(a.folded, b.folded), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Ecosystem, b.Ecosystem))
}

// A shelf holds names in order, and of each letter and each two letters that
// follow each other which names they are in.
type shelf struct {
	names []named
	in    []places // by gram
}

// places are those of some names on a shelf: a list of few, a set of many.
type places struct {
	few  []uint32
	many set
}

// A set has a bit for each name of a shelf.
type set []uint64

// Letters are numbered; those that are seldom in names share a number.
const (
	usualLetters = "abcdefghijklmnopqrstuvwxyz0123456789-_.@/"
	letters      = len(usualLetters) + 1
	otherLetter  = letters - 1
	grams        = letters + letters*letters
)

var letterNumber = func() (numbers [256]int) {
	for b := range numbers {
		numbers[b] = otherLetter
	}
	for i := range len(usualLetters) {
		numbers[usualLetters[i]] = i
	}
	return numbers
}()

// pairGram is the number of two letters that follow each other; that of a letter
// is its own.
func pairGram(a, b byte) int { return letters + letterNumber[a]*letters + letterNumber[b] }

func newShelf(names []named) shelf {
	s := shelf{names, make([]places, grams)}
	note := func(gram, place int) {
		p := &s.in[gram]
		if n := len(p.few); n == 0 || p.few[n-1] != uint32(place) {
			p.few = append(p.few, uint32(place))
		}
	}
	for place, name := range names {
		for i := range len(name.folded) {
			note(letterNumber[name.folded[i]], place)
			if i > 0 {
				note(pairGram(name.folded[i-1], name.folded[i]), place)
			}
		}
	}
	for gram := range s.in {
		p := &s.in[gram]
		if len(p.few) <= len(names)/32 { // a list of these is smaller than a set
			p.few = slices.Clip(p.few)
			continue
		}
		p.many = make(set, (len(names)+63)/64)
		p.many.add(p.few)
		p.few = nil
	}
	return s
}

func (s set) add(list []uint32) {
	for _, place := range list {
		s[place/64] |= 1 << (place % 64)
	}
}

func (s set) and(with set) {
	for i := range s {
		s[i] &= with[i]
	}
}

// matches are the names of a shelf that hold a text: all from first to last,
// which begin with it, and those others that are in the set.
type matches struct {
	names       []named
	first, last int
	others      set
	total       int
}

type match struct {
	named
	begins bool
}

func (s *shelf) search(text string) (m matches) {
	m.names = s.names
	m.first, _ = slices.BinarySearchFunc(s.names, text, func(n named, text string) int { return cmp.Compare(n.folded, text) })
	n, _ := slices.BinarySearchFunc(s.names[m.first:], text, func(n named, text string) int {
		if strings.HasPrefix(n.folded, text) {
			return -1
		}
		return 1
	})
	m.last, m.total = m.first+n, n
	if n == len(s.names) {
		return m
	}
	m.others = s.candidates(text)
	for place := m.first; place < m.last; place++ {
		m.others[place/64] &^= 1 << (place % 64)
	}
	certain := len(text) <= 2 && !strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune(usualLetters, r) })
	for i := range m.others {
		if !certain {
			for rest := m.others[i]; rest != 0; rest &= rest - 1 {
				if bit := bits.TrailingZeros64(rest); !strings.Contains(s.names[i*64+bit].folded, text) {
					m.others[i] &^= 1 << bit
				}
			}
		}
		m.total += bits.OnesCount64(m.others[i])
	}
	return m
}

// candidates returns the names that hold all letters of a text, and all pairs of
// them.
func (s *shelf) candidates(text string) set {
	all := make(set, (len(s.names)+63)/64)
	if len(text) == 1 {
		s.in[letterNumber[text[0]]].copyTo(all)
		return all
	}
	s.in[pairGram(text[0], text[1])].copyTo(all)
	var few set
	for i := 2; i < len(text); i++ {
		p := &s.in[pairGram(text[i-1], text[i])]
		if p.many != nil {
			all.and(p.many)
			continue
		}
		if few == nil {
			few = make(set, len(all))
		}
		clear(few)
		few.add(p.few)
		all.and(few)
	}
	return all
}

func (p *places) copyTo(s set) {
	copy(s, p.many)
	s.add(p.few)
}

// page returns up to limit matches in order, after leaving out some.
func (m *matches) page(skip, limit int) (page []match) {
	for place := m.first + skip; place < m.last && len(page) < limit; place++ {
		page = append(page, match{m.names[place], true})
	}
	skip = max(0, skip-(m.last-m.first))
	for i, rest := range m.others {
		if len(page) >= limit {
			break
		}
		if n := bits.OnesCount64(rest); n <= skip {
			skip -= n
			continue
		}
		for ; rest != 0 && len(page) < limit; rest &= rest - 1 {
			if skip > 0 {
				skip--
				continue
			}
			page = append(page, match{m.names[i*64+bits.TrailingZeros64(rest)], false})
		}
	}
	return page
}
