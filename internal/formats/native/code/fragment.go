package code

import (
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// pieceAt returns the function that holds addr in a piece that lies apart from
// its beginning, or -1.
func (c *Code) pieceAt(addr uint64) int {
	list := c.Image.Functions.Fragments
	i := sort.Search(len(list), func(i int) bool { return list[i].Addr > addr }) - 1
	if i < 0 || addr-list[i].Addr >= list[i].Size {
		return -1
	}
	fn, ok := c.start(list[i].Of)
	if !ok {
		return -1
	}
	return fn
}

// pieces returns the pieces of each function that has any, by its index.
func (c *Code) pieces() map[int][]image.Fragment {
	c.graph.makePieces.Do(func() {
		c.graph.pieces = map[int][]image.Fragment{}
		for _, f := range c.Image.Functions.Fragments {
			if fn, ok := c.start(f.Of); ok {
				c.graph.pieces[fn] = append(c.graph.pieces[fn], f)
			}
		}
	})
	return c.graph.pieces
}

// among returns the references that stand in a run of addresses: from lo up to
// before hi.
func (c *Code) among(addr, size uint64) (lo, hi int) {
	lo = sort.Search(len(c.Refs), func(i int) bool { return c.Refs[i].Addr >= addr })
	hi = lo + sort.Search(len(c.Refs)-lo, func(i int) bool { return c.Refs[lo+i].Addr-addr >= size })
	return lo, hi
}
