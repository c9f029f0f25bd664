package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"unique"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// A Found is a package that a search found, in its highest version that was
// looked at.
type Found struct {
	Ecosystem   target.Ecosystem
	Name        string
	Version     string
	RiskScore   int
	RiskLevel   string
	Summary     string
	BinaryCount int
}

// SearchPackages returns the packages whose names hold a text, in letters of
// any case, and how many there are in all: first the one of that name, then
// those that begin with it, then the others, each by their names. An empty text
// is in all names.
//
// Names are searched in memory. What any server saved before the call is found.
func (s *Store) SearchPackages(ctx context.Context, text string, page Page) (found []Found, total int, err error) {
	if err := s.refreshNames(ctx); err != nil {
		return nil, 0, err
	}
	limit, offset := page.bounds()
	found, total = s.names.find(strings.ToLower(text), int(limit), int(offset))
	return found, total, s.addSummaries(ctx, found)
}

// loadedAtOnce is how many packages are read by one query.
const loadedAtOnce = 5000

// refreshNames takes up what was saved since the last time, or finds by a query
// of one row that there is nothing.
func (s *Store) refreshNames(ctx context.Context) error {
	var last int64
	if err := s.db.NewRaw("SELECT coalesce(max(seq), 0) FROM package").Scan(ctx, &last); err != nil {
		return failed(err)
	}
	if last <= s.names.upTo() {
		return nil
	}
	s.names.loading.Lock()
	defer s.names.loading.Unlock()
	for {
		rows, err := s.PackageChanges(ctx, s.names.upTo(), loadedAtOnce)
		if err != nil || len(rows) == 0 {
			return err
		}
		s.names.add(rows)
		if len(rows) < loadedAtOnce {
			return nil
		}
	}
}

// addSummaries reads the summaries that are not kept in memory.
func (s *Store) addSummaries(ctx context.Context, found []Found) error {
	without := map[target.Ecosystem][]string{}
	for _, f := range found {
		if f.Summary == "" {
			without[f.Ecosystem] = append(without[f.Ecosystem], f.Name)
		}
	}
	for eco, names := range without {
		var rows []Package
		err := s.db.NewSelect().Model(&rows).Column("name", "summary").Where("ecosystem = ?", eco).Where("name IN (?)", bun.List(names)).Scan(ctx)
		if err != nil {
			return failed(err)
		}
		summary := map[string]string{}
		for _, r := range rows {
			summary[r.Name] = r.Summary
		}
		for i := range found {
			if f := &found[i]; f.Ecosystem == eco && f.Summary == "" {
				f.Summary = summary[f.Name]
			}
		}
	}
	return nil
}

// summaryBytes is how much of the summaries an index keeps in memory; others are
// read when they are shown. Besides them, a package takes some 200 bytes.
const summaryBytes = 64 << 20

// An index holds the names of packages in order, each with a signature that
// tells most names without a text from those with it, so that a search looks at
// few of the names themselves. That takes 16 bytes for a name and one pass over
// them, where an index of all parts of names would take hundreds and have to be
// kept in order.
type index struct {
	loading sync.Mutex // held by the one who reads changes

	mu        sync.RWMutex
	seq       int64 // of the last change that was taken up
	marks     []signature
	names     []named
	at        map[packageKey]*Found
	summaries int // bytes
}

type packageKey struct {
	ecosystem target.Ecosystem
	name      string
}

type named struct {
	folded string // in small letters
	*Found
}

func (a named) compare(b named) int {
	return cmp.Or(cmp.Compare(a.folded, b.folded), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Ecosystem, b.Ecosystem))
}

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
	var news []named
	for _, r := range rows {
		key := packageKey{unique.Make(r.Ecosystem).Value(), r.Name}
		f := x.at[key]
		if f == nil {
			f = &Found{Ecosystem: key.ecosystem, Name: r.Name}
			x.at[key] = f
			news = append(news, named{strings.ToLower(r.Name), f})
		}
		x.summaries -= len(f.Summary)
		f.Version, f.RiskScore, f.RiskLevel, f.Summary, f.BinaryCount = r.Version, r.RiskScore, unique.Make(r.RiskLevel).Value(), r.Summary, r.BinaryCount
		if x.summaries+len(f.Summary) > summaryBytes {
			f.Summary = ""
		}
		x.summaries += len(f.Summary)
	}
	x.seq = rows[len(rows)-1].Seq
	if len(news) > 0 {
		x.insert(news)
	}
}

// insert puts new names in their places, from the last to the first, so that
// each that is there moves once.
func (x *index) insert(news []named) {
	slices.SortFunc(news, named.compare)
	old := len(x.names)
	x.names = append(x.names, news...)
	x.marks = append(x.marks, make([]signature, len(news))...)
	free := len(x.names)
	for _, n := range slices.Backward(news) {
		i, _ := slices.BinarySearchFunc(x.names[:old], n, named.compare)
		moved := old - i
		copy(x.names[free-moved:free], x.names[i:old])
		copy(x.marks[free-moved:free], x.marks[i:old])
		old, free = i, free-moved-1
		x.names[free], x.marks[free] = n, sign(n.folded)
	}
}

// find returns the names that hold a text in small letters. Names with the same
// beginning lie together, the shortest first, and so in the order that is asked
// for; the others come after them.
func (x *index) find(text string, limit, offset int) (found []Found, total int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	found = []Found{}
	first, _ := slices.BinarySearchFunc(x.names, text, func(n named, text string) int { return cmp.Compare(n.folded, text) })
	last, _ := slices.BinarySearchFunc(x.names[first:], text, func(n named, text string) int {
		if strings.HasPrefix(n.folded, text) {
			return -1
		}
		return 1
	})
	last += first
	for i := first + offset; i < last && len(found) < limit; i++ {
		found = append(found, *x.names[i].Found)
	}
	total = last - first
	if total == len(x.names) {
		return found, total
	}
	take := func(i int) {
		if total >= offset && len(found) < limit {
			found = append(found, *x.names[i].Found)
		}
		total++
	}
	want, exact := sign(text), signsAll(text)
	for _, part := range [][2]int{{0, first}, {last, len(x.names)}} {
		for i, m := range x.marks[part[0]:part[1]] {
			if m.letters&want.letters == want.letters && m.pairs[0]&want.pairs[0] == want.pairs[0] && m.pairs[1]&want.pairs[1] == want.pairs[1] &&
				(exact || strings.Contains(x.names[part[0]+i].folded, text)) {
				take(part[0] + i)
			}
		}
	}
	return found, total
}

// A signature is made of what stands in a name: of each letter, a bit of its own
// as long as it is a usual one, and of each two that follow each other, one that
// they share with others. What holds a text has all bits of the text.
type signature struct {
	letters uint64
	pairs   [2]uint64
}

const usualLetters = "abcdefghijklmnopqrstuvwxyz0123456789-_.@/"

var letterBit = func() (bits [256]uint8) {
	for b := range bits {
		bits[b] = uint8(len(usualLetters) + b%(64-len(usualLetters)))
	}
	for i := range len(usualLetters) {
		bits[usualLetters[i]] = uint8(i)
	}
	return bits
}()

func sign(text string) (s signature) {
	for i := range len(text) {
		s.letters |= 1 << letterBit[text[i]]
		if i > 0 {
			pair := (uint32(text[i-1])*0x9e3779b1 + uint32(text[i])*0x85ebca6b) >> 20 // which spreads them evenly
			s.pairs[pair>>6%2] |= 1 << (pair % 64)
		}
	}
	return s
}

// signsAll says whether the signature of a text tells exactly which names hold
// it.
func signsAll(text string) bool {
	return len(text) == 1 && int(letterBit[text[0]]) < len(usualLetters)
}
