package sourcetext

import (
	"encoding/binary"
	"slices"
	"sort"
	"strings"
)

// An Index finds many literals in bytes at once.
type Index struct {
	literals []string
	first    map[uint64]group // by the first keySize bytes
	filter   []uint64         // bits of the keys that occur, by hash
}

// A group holds the literals that begin alike, in order.
type group struct {
	texts   []string
	numbers []int32 // in the Index
	shorter []int32 // in texts: the longest other one that the text begins with, or -1
}

// keySize is how many first bytes of a literal are hashed: all have so many.
const keySize = MinLiteral

const filterBits = 20

// NewIndex returns an index of literals of at least MinLiteral bytes; shorter
// ones are never found.
func NewIndex(literals []string) *Index {
	x := &Index{literals: literals, first: map[uint64]group{}, filter: make([]uint64, 1<<filterBits/64)}
	order := make([]int32, 0, len(literals))
	for i, l := range literals {
		if len(l) >= keySize {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(literals[a], literals[b]) })
	for len(order) > 0 {
		k := key([]byte(literals[order[0]]))
		n := 1
		for n < len(order) && key([]byte(literals[order[n]])) == k {
			n++
		}
		x.first[k] = newGroup(literals, order[:n])
		h := hash(k)
		x.filter[h/64] |= 1 << (h % 64)
		order = order[n:]
	}
	return x
}

func newGroup(literals []string, numbers []int32) group {
	g := group{numbers: numbers, texts: make([]string, len(numbers)), shorter: make([]int32, len(numbers))}
	for i, n := range numbers {
		g.texts[i] = literals[n]
		at := int32(i) - 1
		for at >= 0 && !strings.HasPrefix(g.texts[i], g.texts[at]) {
			at = g.shorter[at]
		}
		g.shorter[i] = at
	}
	return g
}

// find marks the texts that data begins with. The last that comes before data in
// their order begins with all of them.
func (g *group) find(data []byte, found []bool) {
	next := sort.Search(len(g.texts), func(i int) bool { return g.texts[i] > string(data) })
	at := int32(next) - 1
	for at >= 0 && string(data[:min(len(data), len(g.texts[at]))]) != g.texts[at] {
		at = g.shorter[at]
	}
	for ; at >= 0 && !found[g.numbers[at]]; at = g.shorter[at] {
		found[g.numbers[at]] = true
	}
}

func key(b []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint16(b[4:]))<<32
}

func hash(k uint64) uint64 { return k * 0x9e3779b97f4a7c15 >> (64 - filterBits) }

// Find reports which literals occur in data, as they are or, if wide is set,
// with a zero behind each byte, which is UTF-16 for plain letters.
func (x *Index) Find(data []byte, wide bool) []bool {
	found := make([]bool, len(x.literals))
	x.find(data, found)
	if wide {
		for from := range 2 { // what lies at even and at odd places
			x.find(narrow(data[min(from, len(data)):]), found)
		}
	}
	return found
}

func (x *Index) find(data []byte, found []bool) {
	for i := 0; i+8 <= len(data); i++ {
		k := binary.LittleEndian.Uint64(data[i:]) & (1<<48 - 1)
		h := hash(k)
		if x.filter[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		if g, ok := x.first[k]; ok {
			g.find(data[i:], found)
		}
	}
}

// narrow returns the letters of UTF-16 text, with a zero for everything else.
func narrow(data []byte) []byte {
	out := make([]byte, 0, len(data)/2)
	for i := 0; i+1 < len(data); i += 2 {
		if data[i+1] == 0 {
			out = append(out, data[i])
		} else {
			out = append(out, 0)
		}
	}
	return out
}

// A Match is how much of some source is found again in a binary.
type Match struct {
	Found int     // different literals of the units that are in it
	Of    int     // different literals of those units
	Score float64 // Found of Of, less where little was found; 0 to 1
}

// A unit counts as part of a binary from so many literals, and so much of its
// own: units for other systems and tests are not in it, and that is no sign
// against the source.
const (
	minFound = 2
	minShare = 0.25
)

// enough is how many literals make a match sure: with fewer, the score is lower.
const enough = 8

// Compare says how much of the units is found again. has says whether a literal
// is in the binary.
func Compare(units []Unit, has func(literal string) bool) Match {
	found, all := map[string]bool{}, map[string]bool{}
	for _, u := range units {
		n := 0
		for _, l := range u.Literals {
			if has(l) {
				n++
			}
		}
		if n < minFound || float64(n) < minShare*float64(len(u.Literals)) {
			continue
		}
		for _, l := range u.Literals {
			all[l] = true
			if has(l) {
				found[l] = true
			}
		}
	}
	m := Match{Found: len(found), Of: len(all)}
	if m.Of > 0 {
		m.Score = float64(m.Found) / float64(m.Of) * float64(m.Found) / float64(m.Found+enough)
	}
	return m
}
