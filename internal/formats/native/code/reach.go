package code

import (
	"cmp"
	"slices"
	"sort"
	"strings"

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
	Initial      RootKind = "initializer" // .init_array, TLS callbacks, static constructors
)

var rootKinds = []RootKind{Registration, Exported, Entry, Initial}

// registrations are the beginnings of names that hosts call when they load an
// add-on: Node-API, Node's own, CPython, JNI, Bare, Lua, Ruby, PostgreSQL.
var registrations = []string{
	"napi_register_module", "node_register_module", "node_api_module_get_api_version", "PyInit_", "JNI_OnLoad",
	"bare_register_module", "luaopen_", "_PG_init", "DllRegisterServer",
}

// Roots returns where the code is entered, by kind and address.
func (c *Code) Roots() []Root {
	c.makeReach()
	return c.roots
}

// Reached returns the root from which function fn is reached first, following
// calls, addresses taken, and pointers in data that is itself reached. Not ok
// means that no way was found, which is not proof that there is none.
func (c *Code) Reached(fn int) (Root, bool) {
	c.makeReach()
	if r := c.reach[fn]; r >= 0 {
		return c.roots[r], true
	}
	return Root{}, false
}

func (c *Code) findRoots() []Root {
	var out []Root
	for _, e := range c.Image.Exports {
		if e.Addr == 0 && c.Image.Format != image.Wasm {
			continue
		}
		kind := Exported
		if slices.ContainsFunc(registrations, func(p string) bool { return strings.HasPrefix(e.Name, p) }) {
			kind = Registration
		}
		out = append(out, Root{kind, e.Name, e.Addr})
	}
	if c.Image.Entry != 0 {
		out = append(out, Root{Entry, "", c.Image.Entry})
	}
	for _, addr := range c.Image.Initializers {
		out = append(out, Root{Initial, "", addr})
	}
	slices.SortStableFunc(out, func(a, b Root) int {
		return cmp.Or(cmp.Compare(slices.Index(rootKinds, a.Kind), slices.Index(rootKinds, b.Kind)), cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// makeReach walks from the roots over functions and blocks of data. A block is
// what lies between two addresses that something refers to: who has the address
// of a table can read all of it.
func (c *Code) makeReach() {
	if c.reach != nil {
		return
	}
	w := &walk{c: c, blocks: c.blocks()}
	w.funcs = slices.Repeat([]int32{-1}, len(c.Functions))
	w.data = slices.Repeat([]int32{-1}, len(w.blocks))
	c.roots = c.findRoots()
	for i, r := range c.roots {
		w.root = int32(i)
		w.visit(r.Addr)
		w.drain()
	}
	c.reach = w.funcs
}

// blocks returns the addresses where blocks of data begin.
func (c *Code) blocks() []uint64 {
	var out []uint64
	for _, r := range c.Refs {
		if r.Kind == Data {
			out = append(out, r.Target)
		}
	}
	for _, p := range c.Pointers {
		out = append(out, p.To)
	}
	for _, e := range c.Image.Exports {
		if e.Data {
			out = append(out, e.Addr)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// maxBlock bounds a block of data in bytes: beyond it, what follows is taken for
// something else.
const maxBlock = 64 << 10

// walk is one traversal. What is found first stays with its root.
type walk struct {
	c      *Code
	blocks []uint64
	root   int32
	funcs  []int32 // by function: its root
	data   []int32 // by block: its root
	queue  []int32 // functions as they are, blocks as ^index
}

func (w *walk) visit(addr uint64) {
	if fn, ok := w.c.start(addr); ok {
		w.function(fn)
		return
	}
	if fn := w.c.Func(addr); fn >= 0 { // into the middle: a fragment, an alternate entry
		w.function(fn)
	}
	if i, ok := slices.BinarySearch(w.blocks, addr); ok && w.data[i] < 0 {
		w.data[i] = w.root
		w.queue = append(w.queue, ^int32(i))
	}
}

func (w *walk) function(fn int) {
	if w.funcs[fn] < 0 {
		w.funcs[fn] = w.root
		w.queue = append(w.queue, int32(fn))
	}
}

func (w *walk) drain() {
	for len(w.queue) > 0 {
		next := w.queue[len(w.queue)-1]
		w.queue = w.queue[:len(w.queue)-1]
		if next >= 0 {
			for _, r := range w.c.From(int(next)) {
				if r.Import < 0 {
					w.visit(r.Target)
				}
			}
			continue
		}
		w.block(int(^next))
	}
}

// block follows the pointers in a block of data.
func (w *walk) block(i int) {
	lo := w.blocks[i]
	hi := lo + maxBlock
	if i+1 < len(w.blocks) {
		hi = min(hi, w.blocks[i+1])
	}
	p := w.c.Pointers
	for k := sort.Search(len(p), func(k int) bool { return p[k].At >= lo }); k < len(p) && p[k].At < hi; k++ {
		w.visit(p[k].To)
	}
}
