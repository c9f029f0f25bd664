package code

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Root is a place from where code is entered.
type Root struct {
	Kind RootKind
	Name string // of the export, or empty
	Addr uint64
}

// A RootKind says who enters.
type RootKind string

// The kinds of root, in the order in which they claim what they reach.
const (
	Registration RootKind = "registration" // what a host calls when it loads an add-on: napi_register_module_v1, PyInit_x, JNI_OnLoad
	Exported     RootKind = "export"
	Entry        RootKind = "entry point"
	Initial      RootKind = "initializer" // .init_array, .fini_array, TLS callbacks, static constructors
)

// registrations are the beginnings of names that hosts call when they load an
// add-on: Node-API, Node's own, CPython, JNI, Bare, Lua, Ruby, PostgreSQL, COM.
var registrations = []string{
	"napi_register_module", "node_register_module", "node_api_module_get_api_version", "PyInit_", "JNI_OnLoad",
	"bare_register_module", "luaopen_", "Init_", "_PG_init", "DllRegisterServer",
}

// registers reports whether a host calls an export of that name.
func registers(name string) bool {
	for _, p := range registrations {
		if name != "" && name[0] == p[0] && strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// reach is what is reached from where, once somebody asks.
type reach struct {
	makeRoots sync.Once
	roots     []Root

	makeWalk sync.Once
	walk     walk
}

// Roots returns where the code is entered, by kind and address.
func (c *Code) Roots() []Root {
	c.reach.makeRoots.Do(func() { c.reach.roots = c.findRoots() })
	return c.reach.roots
}

// Reached returns the root from which function fn is reached first, following
// calls, addresses taken, and pointers in data that is itself reached. Not ok
// means that no way was found, which is not proof that there is none.
func (c *Code) Reached(fn int) (Root, bool) {
	c.makeReach()
	if r := c.reach.walk.funcs[fn].root; r >= 0 {
		return c.reach.roots[r], true
	}
	return Root{}, false
}

// Chain returns the functions of the shortest way on which function fn is
// reached from its root, from the root's own to fn; none if no way was found.
// Where the way leads through tables in data, these are left out. Of a chain
// longer than most, what is left out is in the middle.
func (c *Code) Chain(fn, most int) []int {
	c.makeReach()
	w := &c.reach.walk
	if w.funcs[fn].root < 0 || most <= 0 {
		return nil
	}
	var chain []int
	for at := int32(fn); ; {
		var from int32
		if at >= 0 {
			chain = append(chain, int(at))
			from = w.funcs[at].from
		} else {
			from = w.data[^at].from
		}
		if from == rooted {
			break
		}
		at = from
	}
	slices.Reverse(chain)
	if len(chain) > most {
		head := (most + 1) / 2
		chain = slices.Delete(chain, head, head+len(chain)-most)
	}
	return chain
}

func (c *Code) findRoots() []Root {
	var registered, exported, entry, initial []Root
	for i := range c.Image.Exports {
		e := &c.Image.Exports[i]
		switch {
		case e.Forward != "" || e.Addr == 0 && (e.Data || c.Image.Format != image.Wasm):
			// somewhere else, or nowhere: a global of Wasm has no address
		case !e.Data && registers(e.Name):
			registered = append(registered, Root{Registration, e.Name, e.Addr})
		default:
			exported = append(exported, Root{Exported, e.Name, e.Addr})
		}
	}
	if c.Image.Entry != 0 {
		entry = append(entry, Root{Entry, "", c.Image.Entry})
	}
	for _, addr := range c.Image.Initializers {
		initial = append(initial, Root{Initial, "", addr})
	}
	for i := range c.Image.Sections { // functions that run at the end
		s := &c.Image.Sections[i]
		if c.Image.Format != image.ELF || s.Name != ".fini_array" {
			continue
		}
		p := c.Pointers
		k, _ := slices.BinarySearchFunc(p, s.Addr, func(p image.Pointer, at uint64) int { return cmp.Compare(p.At, at) })
		for ; k < len(p) && p[k].At-s.Addr < s.Size; k++ {
			initial = append(initial, Root{Initial, "", p[k].To})
		}
	}
	for _, list := range [][]Root{registered, exported, initial} {
		sortBy(list, func(r *Root) uint64 { return r.Addr })
		for i := 0; i < len(list); {
			j := i + 1
			for ; j < len(list) && list[j].Addr == list[i].Addr; j++ {
			}
			if j-i > 1 {
				slices.SortFunc(list[i:j], func(a, b Root) int { return strings.Compare(a.Name, b.Name) })
			}
			i = j
		}
	}
	return slices.Compact(slices.Concat(registered, exported, entry, initial))
}

// makeReach walks from the roots over functions and blocks of data.
func (c *Code) makeReach() {
	c.reach.makeWalk.Do(func() {
		w := walk{c: c, links: c.linked()}
		none := step{root: -1}
		w.funcs = slices.Repeat([]step{none}, len(c.Functions))
		w.data = slices.Repeat([]step{none}, len(w.links.places.list))
		for i, r := range c.Roots() {
			w.root = int32(i)
			w.visit(r.Addr, rooted)
			w.drain()
		}
		w.queue, w.links = nil, nil
		c.reach.walk = w
	})
}

// maxBlock bounds a block of data in bytes: beyond it, what follows is taken for
// something else.
const maxBlock = 64 << 10

// A step says how something was reached: from which root, and from what just
// before: a function as it is, a block as ^index, or the root itself.
type step struct{ root, from int32 }

const rooted = -1 << 31

// walk is one traversal, breadth first from each root. What is found first stays
// with its root.
type walk struct {
	c     *Code
	links *links
	root  int32
	funcs []step
	data  []step  // by block
	queue []int32 // functions as they are, blocks as ^index
}

// visit goes to what is at addr, if nobody has been there.
func (w *walk) visit(addr uint64, from int32) {
	if fn, ok := w.c.start(addr); ok {
		w.function(fn, from)
	} else if i, ok := w.links.places.search(addr); ok {
		w.block(i, from)
	} else if fn := w.c.Func(addr); fn >= 0 { // into the middle: a fragment, an alternate entry
		w.function(fn, from)
	}
}

func (w *walk) function(fn int, from int32) {
	if w.funcs[fn].root < 0 {
		w.funcs[fn] = step{w.root, from}
		w.queue = append(w.queue, int32(fn))
	}
}

func (w *walk) block(i int, from int32) {
	if w.data[i].root < 0 {
		w.data[i] = step{w.root, from}
		w.queue = append(w.queue, ^int32(i))
	}
}

func (w *walk) drain() {
	for i := 0; i < len(w.queue); i++ {
		at := w.queue[i]
		if at < 0 {
			w.follow(at)
			continue
		}
		lo, hi := w.c.within(int(at))
		w.leave(lo, hi, at)
		if len(w.c.Image.Functions.Fragments) > 0 {
			for _, piece := range w.c.pieces()[int(at)] {
				lo, hi := w.c.among(piece.Addr, piece.Size)
				w.leave(lo, hi, at)
			}
		}
	}
	w.queue = w.queue[:0]
}

// leave goes where the references from lo up to before hi lead to.
func (w *walk) leave(lo, hi int, from int32) {
	for i, n := range w.links.to[lo:hi] {
		if n >= 0 {
			w.number(int(n), from)
		} else if r := &w.c.Refs[lo+i]; r.Import < 0 {
			w.visit(r.Target, from)
		}
	}
}

// number goes to what has that number, but not to an import.
func (w *walk) number(n int, from int32) {
	if n < len(w.funcs) {
		w.function(n, from)
		return
	}
	if n >= w.links.imports {
		return
	}
	if n -= len(w.funcs); w.data[n].root >= 0 {
		return
	}
	if fn, ok := w.c.start(w.links.places.list[n]); ok {
		w.function(fn, from)
	} else {
		w.block(n, from)
	}
}

// follow goes to what the pointers in a block of data lead to.
func (w *walk) follow(at int32) {
	i := int(^at)
	places := w.links.places.list
	lo := places[i]
	hi := lo + min(maxBlock, ^uint64(0)-lo)
	if i+1 < len(places) {
		hi = min(hi, places[i+1])
	}
	p := w.c.Pointers
	for k := sort.Search(len(p), func(k int) bool { return p[k].At >= lo }); k < len(p) && p[k].At < hi; k++ {
		w.number(int(w.links.via[k]), at)
	}
}
