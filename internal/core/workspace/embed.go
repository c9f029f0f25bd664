package workspace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"time"
)

// An Embedded is a file that lies inside another in a form that only its finder
// can read: a compressed section of a program, a base64 text in a script.
type Embedded struct {
	Name   string // one component of a path, such as "section:.data" or "overlay"
	Packed int64  // bytes of the outer file that it is made from; the limit on the ratio is about them
	About  any    // what its finder knows of it; its Entry says it again

	// Open returns its bytes, made from those of the outer file. It is called
	// again when they are needed again, and must give the same then.
	Open func(outer io.ReaderAt, size int64) (io.ReadCloser, error)
}

// Embed shows files that were found inside the file outer, as if that were an
// archive: below "outer!". It unpacks them under the limits of the workspace,
// then calls fn as Walk does, for each of them and for what is in those that
// are archives. From then on Walk and FS show them as well.
//
// Limits that concern the whole target are used up in the order of calls.
func (w *Workspace) Embed(ctx context.Context, outer Entry, files []Embedded, fn func(Entry) error) error {
	shown := outer.Path + "!"
	var added []node
	for _, in := range files {
		if err := w.alive(ctx); err != nil {
			return err
		}
		if outer.file.depth >= w.budget.limits.Depth {
			w.notes.addf(outer.Path, "not unpacked: files lie more than %d deep in each other", w.budget.limits.Depth)
			break
		}
		n, err := w.embed(ctx, outer, in)
		switch limit := (limitError{}); {
		case w.alive(ctx) != nil:
			return w.alive(ctx)
		case errors.As(err, &limit):
			w.notes.addf(outer.Path, "not looked at to the end: what is embedded in it: %v", limit)
		case err != nil:
			w.notes.addf(outer.Path, "not unpacked: %s: %v", brief(in.Name), reason(trimmed(err)))
		default:
			added = append(added, n)
		}
	}
	for _, n := range outer.file.adopt(added) {
		err := w.visit(ctx, n.file, shown+"/"+n.name, fn)
		if errors.Is(err, fs.SkipDir) || errors.Is(err, fs.SkipAll) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// embed unpacks one embedded file for the first time, which tells its size.
func (w *Workspace) embed(ctx context.Context, outer Entry, in Embedded) (node, error) {
	if err := w.budget.takeEntry(); err != nil {
		return node{}, err
	}
	c := &made{w: w, from: outer.file.content, in: in, keep: math.MaxInt64}
	s, err := c.make(ctx, true)
	if err != nil {
		return node{}, err
	}
	c.keep = s.size
	c.spool = s
	w.spools.release(s)
	return node{name: quote(cmp.Or(in.Name, "unnamed")), file: &file{
		part: outer.Part, size: s.size, mode: outer.Mode & modeBits, depth: outer.file.depth + 1, content: c, embedded: true,
	}}, nil
}

// adopt adds nodes to those that are shown below the file, and returns them by
// the names that they got.
func (f *file) adopt(added []node) []node {
	f.inside.mu.Lock()
	defer f.inside.mu.Unlock()
	var d builtDir
	if old := f.inside.dir.Load(); old != nil {
		for _, n := range old.nodes {
			d.put(n)
		}
	}
	for i := range added {
		added[i].name = d.put(added[i])
	}
	if len(added) > 0 {
		d.finish()
		f.inside.dir.Store(&d)
	}
	slices.SortFunc(added, byName)
	return added
}

// members returns the folder of what is in the file: the members of an
// archive, what was found embedded, or both. It is nil if there is nothing.
func (f *file) members() folder {
	a, d := f.archive.Load(), f.inside.dir.Load()
	switch {
	case a != nil && d != nil:
		return join([]folder{d, a})
	case a != nil:
		return a
	case d != nil:
		return d
	}
	return nil
}

// made is content that its finder makes from other content.
type made struct {
	w    *Workspace
	from content
	in   Embedded
	keep int64 // its size, once that is known

	flight  flight
	spool   *spool
	problem string
}

func (m *made) open(ctx context.Context) (handle, error) {
	if err := m.flight.enter(ctx); err != nil {
		return handle{}, err
	}
	defer m.flight.leave()
	if m.spool == nil || !m.w.spools.retain(m.spool) {
		s, err := m.make(ctx, false)
		if err != nil {
			return handle{}, err
		}
		m.spool = s
	}
	h := m.spool.handle()
	h.problem = m.problem
	return h, nil
}

// make unpacks the content into a spool, and charges the budget for it if it
// is the first time.
func (m *made) make(ctx context.Context, first bool) (*spool, error) {
	began := time.Now()
	if err := m.w.proceed(ctx, began); err != nil {
		return nil, err
	}
	defer func() { m.w.budget.spend(began) }()
	outer, err := m.from.open(ctx)
	if err != nil {
		return nil, err
	}
	defer outer.close()
	expect := m.keep
	if first {
		expect = 2 * m.in.Packed
	}
	out := m.w.spools.start(expect)
	err = m.decode(ctx, outer, out, began, first)
	if stop := m.w.alive(ctx); stop != nil {
		err = stop
	} else if _, ok := errors.AsType[spoolError](err); !ok && err != nil && out.size > 0 {
		if first {
			m.problem = fmt.Sprintf("cut off after %d bytes: %v", out.size, trimmed(err))
		}
		err = nil
	}
	if err != nil {
		out.abort()
		return nil, err
	}
	return out.finish()
}

// decode has the finder's decoder fill the spool. A panic in it is an error
// like any other.
func (m *made) decode(ctx context.Context, outer handle, out *spooler, began time.Time, first bool) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("reading it failed: %v", v)
		}
	}()
	r, err := m.in.Open(outer, outer.size)
	if err != nil {
		return err
	}
	defer r.Close()
	return m.fill(ctx, r, out, began, first)
}

// fill reads until the end, a limit or an error.
func (m *made) fill(ctx context.Context, r io.Reader, out *spooler, began time.Time, first bool) error {
	limits := &m.w.budget.limits
	for idle := 0; out.size < m.keep; {
		if err := m.w.proceed(ctx, began); err != nil {
			return err
		}
		most := min(step, m.keep-out.size)
		if first {
			switch {
			case out.size >= limits.FileBytes:
				return limitError{"more than one file may have"}
			case out.size >= limits.RatioFrom && out.size/limits.Ratio >= max(m.in.Packed, 1):
				return limitError{fmt.Sprintf("it unpacks to more than %d times its packed size", limits.Ratio)}
			}
			most = min(most, limits.FileBytes-out.size)
		}
		before := out.size
		err := out.fill(r, most)
		if first && out.size > before {
			if got, limit := m.w.budget.takeBytes(out.size - before); limit != nil {
				out.cut(out.size - before - got)
				err = limit
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if idle++; out.size > before {
			idle = 0
		}
		if idle > 100_000 {
			return io.ErrNoProgress
		}
	}
	return nil
}
