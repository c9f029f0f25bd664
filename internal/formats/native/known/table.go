package known

import (
	"embed"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// The data are made by the program in generate; data/SOURCES.txt says from what.
//
//go:embed data/*.keys
var data embed.FS

// tables are read when they are first wanted.
var tables = map[image.Arch]func() *bodyTable{
	image.X86_64:  load(image.X86_64),
	image.X86:     load(image.X86),
	image.AArch64: load(image.AArch64),
}

// bodies returns the table for an instruction set, or nil.
func bodies(arch image.Arch) *bodyTable {
	if t := tables[arch]; t != nil {
		return t()
	}
	return nil
}

func load(arch image.Arch) func() *bodyTable {
	return sync.OnceValue(func() *bodyTable {
		b, err := data.ReadFile("data/" + string(arch) + ".keys")
		if err != nil {
			return nil
		}
		t, err := newTable(b)
		if err != nil {
			panic("known: data of " + string(arch) + ": " + err.Error())
		}
		return t
	})
}

// Encode writes keys by their libraries: how many there are in all, and for
// each library its number, how many keys it has, and the keys in ascending
// order as differences, all as unsigned varints of encoding/binary. The same
// keys give the same bytes.
func Encode(keys map[Library][]Key) []byte {
	total := 0
	for _, list := range keys {
		total += len(list)
	}
	out := binary.AppendUvarint(nil, uint64(total))
	for n := range libraries {
		list := slices.Sorted(slices.Values(keys[Library(n)]))
		if len(list) == 0 {
			continue
		}
		out = binary.AppendUvarint(out, uint64(n))
		out = binary.AppendUvarint(out, uint64(len(list)))
		last := Key(0)
		for _, k := range list {
			out = binary.AppendUvarint(out, uint64(k-last))
			last = k
		}
	}
	return out
}

// beginBits is how many bits of how bodies begin the filter tells apart.
const beginBits = 22

// A bodyTable holds known bodies.
type bodyTable struct {
	slots  []uint64 // a key and in the low byte its library; 0 if free; open addressing
	filter []uint64 // bits: which beginnings there are
}

var errData = errors.New("not what Encode writes")

func newTable(b []byte) (*bodyTable, error) {
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		b = b[max(n, 0):]
		return v
	}
	left := min(next(), uint64(len(b)))
	size := int(left + left/2 + 1) // two of three are taken
	t := &bodyTable{slots: make([]uint64, size), filter: make([]uint64, 1<<beginBits/64)}
	clear(t.slots) // or memory comes in twice: once when it is read, and once when it is written
	for len(b) > 0 {
		l, count := next(), next()
		if l == 0 || l >= uint64(len(libraries)) || count > left {
			return nil, errData
		}
		left -= count
		key := Key(0)
		for range count {
			if len(b) == 0 {
				return nil, errData
			}
			key += Key(next())
			t.add(key, byte(l))
		}
	}
	return t, nil
}

func (t *bodyTable) add(k Key, library byte) {
	b := k >> (keyBits - beginBits)
	t.filter[b/64] |= 1 << (b % 64)
	for i := t.slot(k); ; i = t.behind(i) {
		switch {
		case t.slots[i] == 0:
			t.slots[i] = uint64(k)<<8 | uint64(library)
			return
		case t.slots[i]>>8 == uint64(k):
			return
		}
	}
}

// slot is where the search for a key begins. Keys are hashes already.
func (t *bodyTable) slot(k Key) int {
	return int(uint64(uint32(k)) * uint64(len(t.slots)) >> wholeBits)
}

// behind is where it goes on.
func (t *bodyTable) behind(i int) int {
	if i++; i == len(t.slots) {
		return 0
	}
	return i
}

// begins reports whether a known body may begin so.
func (t *bodyTable) begins(b uint32) bool {
	b >>= keyBits - wholeBits - beginBits
	return t.filter[b/64]>>(b%64)&1 != 0
}

// library returns what a body belongs to; [Own] if it is not known.
func (t *bodyTable) library(body []byte) Library {
	if !t.begins(begin(body)) {
		return Own
	}
	k := keyOf(body)
	for i := t.slot(k); t.slots[i] != 0; i = t.behind(i) {
		if t.slots[i]>>8 == uint64(k) {
			return Library(t.slots[i])
		}
	}
	return Own
}
