package sourcetext

import (
	"bytes"
	"encoding/binary"
)

// An Index finds many literals in bytes at once.
type Index struct {
	literals []string
	first    map[uint64][]int32 // by the first keySize bytes: literals
	filter   []uint64           // bits of the keys that occur, by hash
}

// keySize is how many first bytes of a literal are hashed: all have so many.
const keySize = MinLiteral

const filterBits = 20

// NewIndex returns an index of literals of at least MinLiteral bytes; shorter
// ones are never found.
func NewIndex(literals []string) *Index {
	x := &Index{literals: literals, first: map[uint64][]int32{}, filter: make([]uint64, 1<<filterBits/64)}
	for i, l := range literals {
		if len(l) < keySize {
			continue
		}
		k := key([]byte(l[:keySize]))
		x.first[k] = append(x.first[k], int32(i))
		h := hash(k)
		x.filter[h/64] |= 1 << (h % 64)
	}
	return x
}

func key(b []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint16(b[4:]))<<32
}

func hash(k uint64) uint64 { return k * 0x9e3779b97f4a7c15 >> (64 - filterBits) }

// maxTries bounds the comparisons with literals that begin alike, for each byte
// that is looked at.
const maxTries = 64

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
		list := x.first[k]
		for _, l := range list[:min(len(list), maxTries)] {
			if !found[l] && bytes.HasPrefix(data[i:], []byte(x.literals[l])) {
				found[l] = true
			}
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
