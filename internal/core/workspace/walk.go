package workspace

import (
	"context"
	"errors"
	"io/fs"
	"path"
)

// An Entry is one regular file of the target.
type Entry struct {
	Path  string
	Size  int64       // in bytes; of a member of a zip file, as its directory says
	Mode  fs.FileMode // permissions, setuid, setgid and sticky bits
	Part  *Part       // where it comes from; not to be changed
	Depth int         // archives around it

	// Archive is the type of archive that the file is by its content, such as
	// "zip", "tar.gz", "deb" or "7z"; empty if it is none. Its members follow it
	// in a walk, unless a note says why not.
	Archive string

	// Embedded tells files that a scanner found inside another one, and the
	// members of archives among them, from those that lie in the target as
	// files or members of its archives.
	Embedded bool
	About    any // what the finder of an embedded file said about it; nil for all else

	w    *Workspace
	file *file
}

// Walk calls fn for every regular file once, in the lexical order of paths as
// fs.WalkDir has it, the members of an archive directly after the archive. It
// stops at the first error, which it returns, except for fs.SkipAll, which just
// ends it, and fs.SkipDir, which passes over the members of an archive or, for
// any other file, over the rest of its folder. What cannot be read is no error
// but leaves a note.
//
// The entries can be opened from other goroutines, meanwhile and later.
func (w *Workspace) Walk(ctx context.Context, fn func(Entry) error) error {
	err := w.walk(ctx, w.tree(), "", fn)
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func (w *Workspace) walk(ctx context.Context, dir folder, shown string, fn func(Entry) error) error {
	if p, ok := dir.(pinner); ok {
		p.pin()
		defer p.unpin()
	}
	nodes, err := dir.list(ctx, w, shown)
	if err != nil {
		return err
	}
	if a, ok := dir.(*archive); ok && len(nodes) > 0 {
		// Its members are about to be opened one by one: stay open meanwhile.
		if h, err := a.base.open(ctx); err == nil {
			defer h.close()
		}
	}
	for _, n := range nodes {
		if err := w.alive(ctx); err != nil {
			return err
		}
		at := path.Join(shown, n.name)
		if n.dir != nil {
			err = w.walk(ctx, n.dir, at, fn)
		} else {
			err = w.visit(ctx, n.file, at, fn)
		}
		if errors.Is(err, fs.SkipDir) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// visit shows a file and what is in it.
func (w *Workspace) visit(ctx context.Context, f *file, shown string, fn func(Entry) error) error {
	if err := f.look(ctx, w, shown); err != nil {
		return err
	}
	members := f.members()
	if members == nil {
		return fn(f.entry(w, shown))
	}
	if _, err := members.list(ctx, w, shown+"!"); err != nil {
		return err
	}
	switch err := fn(f.entry(w, shown)); {
	case errors.Is(err, fs.SkipDir):
		return nil
	case err != nil:
		return err
	}
	return w.walk(ctx, members, shown+"!", fn)
}

// entry describes a file as far as it is known.
func (f *file) entry(w *Workspace, shown string) Entry {
	e := Entry{Path: shown, Size: f.size, Mode: f.mode, Part: f.part, Depth: f.depth, Embedded: f.embedded, w: w, file: f}
	if m, ok := f.content.(*made); ok {
		e.About = m.in.About
	}
	if k := kind(f.kind.Load()); k > plainFile {
		e.Archive = k.String()
	}
	if a := f.archive.Load(); a != nil {
		if name := a.name.Load(); name != nil {
			e.Archive = *name
		}
	}
	return e
}
