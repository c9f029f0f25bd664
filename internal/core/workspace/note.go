package workspace

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// A Note says what of a target could not be looked at as it is: cut off,
// refused, broken, or shown under another name. Path is that of the file, or
// of the archive if it concerns all of it.
type Note struct {
	Path string
	Text string
}

// notes is a set, so that what is seen twice is said once.
type notes struct {
	mu  sync.Mutex
	set map[Note]struct{}
}

func (n *notes) add(all ...Note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.set == nil {
		n.set = map[Note]struct{}{}
	}
	for _, note := range all {
		n.set[note] = struct{}{}
	}
}

func (n *notes) addf(path, format string, args ...any) {
	n.add(Note{path, fmt.Sprintf(format, args...)})
}

func (n *notes) clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set = nil
}

// Notes returns what has been noted so far, sorted by path and text. They are
// complete once a Walk has ended, save for members that nobody opened.
func (w *Workspace) Notes() []Note {
	w.notes.mu.Lock()
	defer w.notes.mu.Unlock()
	return slices.SortedFunc(maps.Keys(w.notes.set), func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text))
	})
}
