package known

import (
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
)

// Linkers put the objects of a library next to one another. So a function is of
// a library if most of those before it and most of those behind it are, unless
// code close by that is not known refers to it: that would be the program's own,
// between two libraries. Code far away may well, for that is what libraries are
// for.
const (
	window = 16   // functions on either side that are looked at
	many   = 50   // percent of each side that have to be known
	nearby = 32   // functions: closer ones that refer to it must be known
	bulk   = 8192 // bytes of a function that may become known so
	rounds = 4    // what has become known counts for others
)

// byNeighbours marks functions by what stands and refers around them.
func byNeighbours(c *code.Code, marks []Mark) {
	if !c.Read || !slices.ContainsFunc(marks, func(m Mark) bool { return m.By == Body }) {
		return
	}
	n := newNeighbours(c, marks)
	for range rounds {
		if !n.round() {
			return
		}
	}
}

// neighbours is the state of the search.
type neighbours struct {
	c     *code.Code
	marks []Mark
	root  []bool // by function: entered from outside
	start []bool // by function: runs before the program's own code, and calls it
	count []int  // by function: how many before it are surely of a library's own objects

	may []Library // by function: what it belongs to if all others here do
}

func newNeighbours(c *code.Code, marks []Mark) *neighbours {
	n := &neighbours{
		c: c, marks: marks,
		root:  make([]bool, len(marks)),
		start: make([]bool, len(marks)),
		count: make([]int, len(marks)+1),
		may:   make([]Library, len(marks)),
	}
	for _, r := range c.Roots() {
		if fn := c.Func(r.Addr); fn >= 0 {
			n.root[fn] = true
			if r.Kind == code.Entry {
				n.starts(fn)
			}
		}
	}
	return n
}

// starts marks the entry point and what it refers to in two steps: the start-up
// code of a runtime, which calls main or DllMain.
func (n *neighbours) starts(entry int) {
	const steps, widest = 2, 256
	level := []int{entry}
	n.start[entry] = true
	for range steps {
		var further []int
		for _, fn := range level {
			for _, r := range n.c.From(fn) {
				if to := n.c.Func(r.Target); r.Import < 0 && r.Kind != code.Data && to >= 0 && !n.start[to] && len(further) < widest {
					n.start[to] = true
					further = append(further, to)
				}
			}
		}
		level = further
	}
}

// round marks what has become clear, and reports whether anything has.
func (n *neighbours) round() bool {
	n.candidates()
	n.drop()
	found := false
	for i, l := range n.may {
		if l != Own {
			n.marks[i] = Mark{l, Neighbour}
			found = true
		}
	}
	return found
}

// candidates collects the functions between known ones of one library.
func (n *neighbours) candidates() {
	clear(n.may)
	for i, m := range n.marks {
		n.count[i+1] = n.count[i]
		if m.By == Body || m.By == Neighbour || m.By == Symbol && !mangled(n.c.Functions[i].Name) {
			n.count[i+1]++
		}
	}
	last := -1 // the last known function
	for i, m := range n.marks {
		if m.Library == Own {
			continue
		}
		if last >= 0 && i-last <= window && n.marks[last].Library == m.Library {
			n.between(last+1, i, m.Library)
		}
		last = i
	}
}

// mangled reports whether a name has its scope in it. Templates of a library
// have such names, but stand in the objects of the programs that use them.
func mangled(name string) bool { return hasAny(name, "_Z", "_R", "?") }

// between makes the functions from lo up to before hi candidates. One that is
// entered from outside, or by start-up code alone, as main is, or that has the
// name of something else is the program's own, and then its neighbours are.
func (n *neighbours) between(lo, hi int, l Library) {
	fits := func(i int) bool {
		return n.c.Functions[i].Size <= bulk && n.share(i-window, i) >= many && n.share(i+1, i+1+window) >= many
	}
	first := lo
	for first < hi && !fits(first) {
		first++
	}
	if first == hi {
		return
	}
	for i := lo; i < hi; i++ {
		if name := n.c.Functions[i].Name; n.root[i] || mangled(name) && !hasAny(name, "_Zn", "_Zd") || n.started(i) {
			return
		}
	}
	for i := first; i < hi; i++ {
		if fits(i) {
			n.may[i] = l
		}
	}
}

// started reports whether start-up code refers to a function, and no other
// known code.
func (n *neighbours) started(i int) bool {
	found := false
	for _, r := range n.c.Callers(i).All() {
		from := n.c.Func(r.Addr)
		if from < 0 || from == i || n.marks[from].Library == Own && !n.start[from] {
			continue
		}
		if !n.start[from] {
			return false
		}
		found = true
	}
	return found
}

// share returns how many percent of the functions from lo up to before hi are
// known to be of a library's own objects.
func (n *neighbours) share(lo, hi int) int {
	lo, hi = max(lo, 0), min(hi, len(n.marks))
	if lo >= hi {
		return 0
	}
	return 100 * (n.count[hi] - n.count[lo]) / (hi - lo)
}

// drop takes out what unknown code close by refers to, and then what that
// refers to.
func (n *neighbours) drop() {
	var out []int
	for i, l := range n.may {
		if l != Own && !n.private(i) {
			out = append(out, i)
		}
	}
	for len(out) > 0 {
		i := out[len(out)-1]
		out = out[:len(out)-1]
		if n.may[i] == Own {
			continue
		}
		n.may[i] = Own
		for _, r := range n.c.From(i) {
			if to := n.c.Func(r.Target); r.Import < 0 && to >= 0 && near(i, to) {
				out = append(out, to)
			}
		}
	}
}

// private reports whether all code close by that refers to a function is known,
// or may be.
func (n *neighbours) private(i int) bool {
	for _, r := range n.c.Callers(i).All() {
		from := n.c.Func(r.Addr)
		if from >= 0 && (n.marks[from].Library != Own || n.may[from] != Own) {
			continue
		}
		if from < 0 {
			from = n.behind(r.Addr)
		}
		if near(i, from) {
			return false
		}
	}
	return true
}

func near(a, b int) bool { return max(a-b, b-a) <= nearby }

// behind returns the last function that starts before addr.
func (n *neighbours) behind(addr uint64) int {
	f := n.c.Functions
	return sort.Search(len(f), func(i int) bool { return f[i].Addr > addr }) - 1
}
