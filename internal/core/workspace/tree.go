package workspace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// The tree is made of folders, which list nodes, each a folder or a file.
// A file that is an archive has a folder of its own, shown beside it.

// A folder knows what is in it once it has been asked. shown is its path in
// the target, which is the same at each call.
type folder interface {
	list(ctx context.Context, w *Workspace, shown string) ([]node, error)
}

// A node is an entry of a folder: one of dir and file is set.
type node struct {
	name string
	dir  folder
	file *file
}

func byName(a, b node) int { return cmp.Compare(a.name, b.name) }

// find returns the node of that name in a sorted list.
func find(nodes []node, name string) (node, bool) {
	i, ok := slices.BinarySearchFunc(nodes, name, func(n node, name string) int { return cmp.Compare(n.name, name) })
	if !ok {
		return node{}, false
	}
	return nodes[i], true
}

// A file is a regular file.
type file struct {
	part    *Part
	size    int64
	mode    fs.FileMode // of modeBits
	depth   int         // archives around it
	content content

	kind    atomic.Uint32 // as far as known
	archive atomic.Pointer[archive]
	late    atomic.Bool // to be looked at for disk images once it is open

	embedded bool   // it, or an archive around it, was found inside a file that is none
	inside   inside // what was found inside it
}

// inside is what was found embedded in a file.
type inside struct {
	mu  sync.Mutex // of who adds to it
	dir atomic.Pointer[builtDir]
}

// modeBits are what is kept of a file's mode.
const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// open opens the content and notes what is wrong with it.
func (f *file) open(ctx context.Context, w *Workspace, shown string) (handle, error) {
	if err := w.alive(ctx); err != nil {
		return handle{}, err
	}
	h, err := f.content.open(ctx)
	if err != nil {
		if w.alive(ctx) == nil {
			w.notes.addf(shown, "not looked at: %v", reason(err))
		}
		return handle{}, err
	}
	if h.problem != "" {
		w.notes.addf(shown, "%s", h.problem)
	}
	if f.late.CompareAndSwap(true, false) {
		f.settle(w, shown, identifyImage(h, h.size))
	}
	return h, nil
}

// reason is the part of an error that is the same on each machine.
func reason(err error) error {
	if e, ok := errors.AsType[spoolError](err); ok {
		return e
	}
	return pathless(err)
}

func pathless(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

var errIrregular = errors.New("it is no longer a regular file")

// wholeHead is up to which size a member is unpacked as a whole to see what it
// is: the next who asks for it, which is soon, finds it unpacked.
const wholeHead = 64 << 10

// look finds out what kind of container the file is.
func (f *file) look(ctx context.Context, w *Workspace, shown string) error {
	if kind(f.kind.Load()) != unknown {
		return nil
	}
	k, late := plainFile, false
	var buf [headSize]byte
	var n int
	if u, ok := f.content.(*unpacked); ok && f.size > wholeHead {
		var err error
		if n, err = u.head(ctx, buf[:]); err != nil {
			if stop := w.alive(ctx); stop != nil {
				return stop
			}
		}
		k, late = identify(buf[:n]), true
	} else {
		h, err := f.open(ctx, w, shown)
		if err == nil {
			defer h.close()
			n, err = h.ReadAt(buf[:min(h.size, headSize)], 0)
			if err != nil && !errors.Is(err, io.EOF) {
				w.notes.addf(shown, "not looked at: %v", reason(err))
			}
			if k = identify(buf[:n]); k == plainFile {
				k = identifyImage(h, h.size)
			}
		} else if stop := w.alive(ctx); stop != nil {
			return stop
		}
	}
	if late && k == plainFile {
		f.late.Store(true)
	}
	f.settle(w, shown, k)
	return nil
}

// settle records what the file is, and says so if its members stay unseen.
func (f *file) settle(w *Workspace, shown string, k kind) {
	f.kind.Store(uint32(k))
	switch {
	case k.readable() && f.depth >= w.budget.limits.Depth:
		w.notes.addf(shown, "not unpacked: archives lie more than %d deep in each other", w.budget.limits.Depth)
	case k.readable():
		f.archive.CompareAndSwap(nil, &archive{file: f, kind: k})
	case k > unread:
		w.notes.addf(shown, "not unpacked: %s archives are not read", k)
	}
}

// builtDir is a folder that is known whole: of an archive, or on the way to
// where a part is mounted.
type builtDir struct {
	nodes []node // sorted, once built

	// While an archive is being read:
	children map[string]*node
	copies   map[string]int // how many of one name there have been
}

func (d *builtDir) list(context.Context, *Workspace, string) ([]node, error) { return d.nodes, nil }

// put adds a node, and returns the name it got: its own, or one with ~1, ~2 …
// if that was taken.
func (d *builtDir) put(n node) string {
	if d.children == nil {
		d.children = map[string]*node{}
	}
	if _, taken := d.children[n.name]; taken {
		n.name = d.free(n.name)
	}
	d.children[n.name] = &n
	return n.name
}

// displace gives the node of that name another, so that a later one can have it.
func (d *builtDir) displace(name string) string {
	old := d.children[name]
	delete(d.children, name)
	old.name = d.free(name)
	d.children[old.name] = old
	return old.name
}

func (d *builtDir) free(name string) string {
	if d.copies == nil {
		d.copies = map[string]int{}
	}
	for {
		d.copies[name]++
		other := fmt.Sprintf("%s~%d", name, d.copies[name])
		if _, taken := d.children[other]; !taken {
			return other
		}
	}
}

// finish sorts the folder and those below.
func (d *builtDir) finish() {
	d.nodes = make([]node, 0, len(d.children))
	for _, n := range d.children {
		if sub, ok := n.dir.(*builtDir); ok {
			sub.finish()
		}
		d.nodes = append(d.nodes, *n)
	}
	slices.SortFunc(d.nodes, byName)
	d.children, d.copies = nil, nil
}

// A pinner can be made ready for many of its files being opened.
type pinner interface {
	pin()
	unpin()
}

// union is the folder that several parts of a target have in common. Of files
// with the same name, the one mounted last keeps it.
type union struct {
	layers []folder // the one mounted last is last

	mu     sync.Mutex
	listed bool
	nodes  []node
}

func (u *union) list(ctx context.Context, w *Workspace, shown string) ([]node, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.listed {
		return u.nodes, nil
	}
	all := make([][]node, len(u.layers))
	for i, layer := range u.layers {
		var err error
		if all[i], err = layer.list(ctx, w, shown); err != nil {
			return nil, err
		}
	}
	dirs := map[string][]folder{}
	for _, nodes := range all {
		for _, n := range nodes {
			if n.dir != nil {
				dirs[n.name] = append(dirs[n.name], n.dir)
			}
		}
	}
	var built builtDir
	for name, layers := range dirs {
		built.put(node{name: name, dir: join(layers)})
	}
	for _, nodes := range slices.Backward(all) {
		for _, n := range nodes {
			if n.file == nil {
				continue
			}
			if name := built.put(n); name != n.name {
				w.notes.addf(path.Join(shown, n.name), "shown as %s: several parts of the target have this name", name)
			}
		}
	}
	for _, n := range built.children {
		u.nodes = append(u.nodes, *n)
	}
	slices.SortFunc(u.nodes, byName)
	u.listed = true
	return u.nodes, nil
}

func (u *union) pin() {
	for _, layer := range u.layers {
		if p, ok := layer.(pinner); ok {
			p.pin()
		}
	}
}

func (u *union) unpin() {
	for _, layer := range u.layers {
		if p, ok := layer.(pinner); ok {
			p.unpin()
		}
	}
}

func join(layers []folder) folder {
	if len(layers) == 1 {
		return layers[0]
	}
	return &union{layers: layers}
}

// under returns the folder that shows f at a path below it.
func under(prefix string, f folder) folder {
	if prefix == "" {
		return f
	}
	parts := strings.Split(prefix, "/")
	for _, name := range slices.Backward(parts) {
		f = &builtDir{nodes: []node{{name: name, dir: f}}}
	}
	return f
}

// hostDir is a folder of the host, listed when first needed. Nothing in it is
// opened but regular files and folders; what links point to is listed where it
// lies.
type hostDir struct {
	part *Part
	root *os.Root
	rel  string // below the root, as the host has it
	up   int    // folders between it and the root
	skip func(dir string) bool

	mu     sync.Mutex
	listed bool
	nodes  []node
	pinned *os.Root // the folder itself, while it is being walked
	pins   int
}

// pin keeps the folder open until unpin, which makes its files cheaper to open.
func (d *hostDir) pin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pins++; d.pins == 1 {
		d.pinned, _ = d.root.OpenRoot(d.rel)
	}
}

func (d *hostDir) unpin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pins--; d.pins == 0 && d.pinned != nil {
		d.pinned.Close()
		d.pinned = nil
	}
}

func (d *hostDir) open(name string) (*os.File, error) {
	d.mu.Lock()
	pinned := d.pinned
	d.mu.Unlock()
	if pinned != nil {
		if f, err := openRegular(pinned, name); !errors.Is(err, os.ErrClosed) {
			return f, err
		}
	}
	return openRegular(d.root, path.Join(d.rel, name))
}

func (d *hostDir) list(ctx context.Context, w *Workspace, shown string) ([]node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listed {
		return d.nodes, nil
	}
	if err := w.alive(ctx); err != nil {
		return nil, err
	}
	self := d.pinned
	if self == nil {
		var err error
		if self, err = d.root.OpenRoot(d.rel); err != nil {
			return nil, d.unreadable(w, shown, err)
		}
		defer self.Close()
	}
	names, err := dirNames(self)
	if err != nil {
		return nil, d.unreadable(w, shown, err)
	}
	var built builtDir
	for _, quoted := range []bool{false, true} { // whoever has a name as it is shown keeps it
		for _, name := range names {
			if quoted == plain(name) {
				continue
			}
			n, ok := d.node(w, self, name, shown)
			if !ok {
				continue
			}
			built.put(n)
		}
	}
	built.finish()
	d.nodes, d.listed = built.nodes, true
	return d.nodes, nil
}

func (d *hostDir) unreadable(w *Workspace, shown string, err error) error {
	if w.closed.Load() {
		return fs.ErrClosed
	}
	d.listed = true
	w.notes.addf(shown, "not looked at: %v", reason(err))
	return nil
}

func dirNames(root *os.Root) ([]string, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// node returns what a name in the folder stands for, if it is shown.
func (d *hostDir) node(w *Workspace, self *os.Root, name, shown string) (node, bool) {
	at := path.Join(shown, quote(name))
	info, err := self.Lstat(name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.notes.addf(at, "not looked at: %v", reason(err))
		}
		return node{}, false
	}
	rel := path.Join(d.rel, name)
	switch {
	case info.Mode().IsRegular():
		return node{name: quote(name), file: &file{
			part: d.part, size: info.Size(), mode: info.Mode() & modeBits, content: hostFile{d, name},
		}}, true
	case info.IsDir():
		if d.skip != nil && d.skip(rel) {
			return node{}, false
		}
		if d.up+1 > w.budget.limits.PathDepth {
			w.notes.addf(at, "not looked at: folders lie more than %d deep", w.budget.limits.PathDepth)
			return node{}, false
		}
		return node{name: quote(name), dir: &hostDir{part: d.part, root: d.root, rel: rel, up: d.up + 1, skip: d.skip}}, true
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err := self.Readlink(name); err == nil && leaves(rel, target) {
			w.notes.addf(at, "not looked at: a link that leads out of the folder, to %s", brief(target))
		}
	default:
		w.notes.addf(at, "not looked at: it is %s", kindOf(info.Mode()))
	}
	return node{}, false
}

// kindOf names what is neither a file nor a folder nor a link.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "neither a file nor a folder"
}
