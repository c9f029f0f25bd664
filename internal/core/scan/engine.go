package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// Run runs the scanners over the files of ws, which may be nil, and the facts
// that are already known. A scanner that fails, panics or runs out of time
// leaves a note and does not stop the others. Run returns an error only if the
// scan as a whole could not be done: ctx was cancelled, or the scanners do not
// fit together.
func Run(ctx context.Context, scanners []*Scanner, ws *workspace.Workspace, given []Known, opt Options) (*Result, error) {
	opt = opt.withDefaults()
	r := &run{opt: opt, memory: newPool(opt.Limits.Memory), recipes: map[*Scanner]*recipe{}}
	for _, s := range scanners {
		r.recipes[s] = new(recipe)
	}
	if ws != nil {
		r.fs = ws.FS()
	}
	stages, err := r.plan(scanners, ws != nil, given)
	if err != nil {
		return nil, err
	}
	timed, cancel := context.WithTimeoutCause(ctx, opt.Limits.Time, errTime)
	defer cancel()
	for _, stage := range stages {
		r.stage(timed, stage, ws)
		if ctx.Err() != nil {
			return nil, fault.New(fault.Unavailable, "the scan was cancelled").Because(ctx.Err())
		}
	}
	if timed.Err() != nil {
		r.note(finding.Note{Text: fmt.Sprintf("not looked at to the end: the time for a scan, %v, was used up", opt.Limits.Time)})
	}
	if ws != nil {
		for _, n := range ws.Notes() {
			r.note(finding.Note{Path: n.Path, Text: n.Text})
		}
	}
	r.res.arrange()
	return &r.res, nil
}

var errTime = errors.New("the time for the scan was used up")

// run is one scan at work.
type run struct {
	opt    Options
	fs     fs.FS
	memory *pool

	recipes map[*Scanner]*recipe
	memo    memo

	mu       sync.Mutex
	res      Result
	walked   bool        // every file was counted
	embedded []embedding // found in the walk at hand, not shown yet
	events   sync.Mutex
}

func (r *run) plan(scanners []*Scanner, files bool, given []Known) ([][]*Scanner, error) {
	var facts []Fact
	for _, k := range given {
		facts = append(facts, k.fact)
		r.res.addFact(k.fact, k.values...)
	}
	chosen, err := Choose(scanners, r.opt.Only)
	if err != nil {
		return nil, err
	}
	stages, left, err := Plan(chosen, files, facts)
	for _, s := range left {
		if len(r.opt.Only) > 0 { // it was asked for by name
			r.note(finding.Note{Scanner: s.Name, Text: "not run: this target has nothing for it"})
		}
	}
	return stages, err
}

// Choose returns the scanners of those names; no names mean all.
func Choose(scanners []*Scanner, names []string) ([]*Scanner, error) {
	if len(names) == 0 {
		return scanners, nil
	}
	var known []string
	for _, s := range scanners {
		known = append(known, s.Name)
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fault.New(fault.Invalid, "there is no scanner %q", n).Try("choose from %s", strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(scanners), func(s *Scanner) bool { return !slices.Contains(names, s.Name) }), nil
}

// stage runs scanners that do not wait for each other: first their shared walk,
// then what each does with the whole.
func (r *run) stage(ctx context.Context, stage []*Scanner, ws *workspace.Workspace) {
	var walkers []*Scanner
	var names []string
	for _, s := range stage {
		names = append(names, s.Name)
		if s.File != nil {
			walkers = append(walkers, s)
		}
	}
	r.res.Ran = append(r.res.Ran, names...)
	r.event(Event{Stage: names})
	if len(walkers) > 0 {
		r.walk(ctx, walkers, ws)
		r.walked = true
	}
	var wg sync.WaitGroup
	for _, s := range stage {
		if s.Run != nil {
			wg.Go(func() {
				r.task(ctx, s, &task{}, r.opt.Limits.Time, func(ctx context.Context, p *Pass) error { return s.Run(ctx, p) })
			})
		}
	}
	wg.Wait()
}

// walk shows every file once to all scanners that want it: first those of the
// workspace, then what the scanners found inside them, then what they found
// inside that. The order does not depend on who finds something first, so that
// limits are met at the same places each time.
func (r *run) walk(ctx context.Context, walkers []*Scanner, ws *workspace.Workspace) {
	r.show(ctx, walkers, func(fn func(workspace.Entry) error) error { return ws.Walk(ctx, fn) })
	for ctx.Err() == nil {
		found := r.found()
		if len(found) == 0 {
			return
		}
		r.show(ctx, walkers, func(fn func(workspace.Entry) error) error {
			for outer, list := range byOuter(found) {
				err := ws.Embed(ctx, outer, list, fn)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					r.note(finding.Note{Path: outer.Path, Text: err.Error()})
				}
			}
			return nil
		})
	}
}

// show has the files that source yields looked at by several goroutines.
func (r *run) show(ctx context.Context, walkers []*Scanner, source func(fn func(workspace.Entry) error) error) {
	files := make(chan *File)
	var wg sync.WaitGroup
	for range r.opt.Workers {
		wg.Go(func() {
			for f := range files {
				r.file(ctx, walkers, f)
			}
		})
	}
	err := source(func(e workspace.Entry) error {
		f := newFile(ctx, e, r.opt.Limits.FileSize, r.memory)
		select {
		case files <- f:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(files)
	wg.Wait()
	if err != nil && ctx.Err() == nil {
		r.note(finding.Note{Text: fmt.Sprintf("not looked at to the end: %v", err)})
	}
}

// An embedding is a file that a scanner found inside another.
type embedding struct {
	outer   workspace.Entry
	scanner string
	file    workspace.Embedded
}

// found takes what was found embedded since the last time, in order.
func (r *run) found() []embedding {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.embedded
	r.embedded = nil
	slices.SortStableFunc(found, func(a, b embedding) int {
		return cmp.Or(cmp.Compare(a.outer.Path, b.outer.Path), cmp.Compare(a.scanner, b.scanner))
	})
	return found
}

// byOuter yields each outer file with what was found in it. The list is sorted.
func byOuter(found []embedding) iter.Seq2[workspace.Entry, []workspace.Embedded] {
	return func(yield func(workspace.Entry, []workspace.Embedded) bool) {
		for len(found) > 0 {
			n := 0
			var list []workspace.Embedded
			for n < len(found) && found[n].outer.Path == found[0].outer.Path {
				list = append(list, found[n].file)
				n++
			}
			if !yield(found[0].outer, list) {
				return
			}
			found = found[n:]
		}
	}
}

func (r *run) file(ctx context.Context, walkers []*Scanner, f *File) {
	defer f.close()
	var wanted atomic.Bool
	for _, s := range walkers {
		if ctx.Err() != nil {
			return
		}
		f.use()
		r.task(ctx, s, &task{path: f.Path, file: f.content}, r.opt.Limits.fileTime(f.Size), func(ctx context.Context, p *Pass) error {
			if !s.Wants(f) {
				return nil
			}
			wanted.Store(true)
			if s.Pure != nil {
				return r.pure(ctx, p, f)
			}
			return s.File(ctx, p, f)
		})
	}
	r.looked(f, wanted.Load())
	if err := f.failed(); err != nil && !wanted.Load() {
		r.note(finding.Note{Path: f.Path, Text: err.Error()})
	}
}

// failed returns why the file could not be read, if it could not.
func (f *File) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// looked counts a file in the first walk, and tells watchers if a scanner wanted
// it. The members of an archive stand for its bytes.
func (r *run) looked(f *File, wanted bool) {
	r.mu.Lock()
	if !r.walked {
		r.res.Files++
		if f.Archive == "" {
			r.res.Bytes += f.Size
		}
	}
	p := &Progress{Phase: Inspect, What: f.Path, Done: r.res.Bytes, Files: r.res.Files}
	r.mu.Unlock()
	if wanted {
		r.event(Event{Progress: p})
	}
}

func (r *run) event(e Event) {
	if r.opt.Event != nil {
		r.events.Lock()
		defer r.events.Unlock()
		r.opt.Event(e)
	}
}

func (r *run) note(n finding.Note) {
	r.mu.Lock()
	r.res.Notes = append(r.res.Notes, n)
	r.mu.Unlock()
	r.event(Event{Note: &n})
}

// output is what one task found out.
type output struct {
	findings []finding.Finding
	notes    []finding.Note
	facts    []factValue
	embedded []embedding
}

type factValue struct {
	fact  Fact
	value known
}

// A task is one call of one scanner. What it reports is kept apart until it
// ends, so that a call that is left behind cannot add to the result later;
// closed keeps such a call from filling memory that nobody reads.
type task struct {
	path string
	file *content // of the file that is looked at; nil after the walk

	mu     sync.Mutex
	at     *File // where it lies, if the scanner is not told
	closed bool
	out    output
}

func (t *task) add(f func(*output)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		f(&t.out)
	}
}

// task calls a scanner and keeps its failure from being everyone's. A call
// that does not heed the end of its time is left behind, with what it reported
// so far.
func (r *run) task(ctx context.Context, s *Scanner, t *task, limit time.Duration, f func(context.Context, *Pass) error) {
	limited, cancel := context.WithTimeoutCause(ctx, limit, errTime)
	defer cancel()
	pass := &Pass{Scanner: s, FS: r.fs, run: r, task: t}
	done := make(chan error, 1)
	go func() {
		err := t.guard(func() error { return f(limited, pass) })
		t.end()
		done <- err
	}()
	var err error
	select {
	case err = <-done:
	case <-limited.Done():
		select {
		case err = <-done:
		case <-time.After(r.opt.Grace):
			err = context.Cause(limited)
		}
	}
	if errors.Is(err, errTime) || errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("not looked at to the end: %v were not enough", limit)
	}
	if err != nil && ctx.Err() == nil {
		pass.Note(t.path, "%v", err)
	}
	r.commit(s, t)
}

// guard turns a panic into an error that names it. To touch bytes of a file
// that is shorter by now, or that the disk does not give, is a panic as well.
func (t *task) guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			if t.faulted(v) {
				err = errFault
				return
			}
			err = fmt.Errorf("not looked at to the end: the scanner failed: %v at %s", v, place(debug.Stack()))
		}
	}()
	return f()
}

// faulted reports whether a panic came from the bytes of a file.
func (t *task) faulted(recovered any) bool {
	return t.file != nil && t.file.faulted(recovered)
}

// end lets go of the bytes that the call has used.
func (t *task) end() {
	if t.file != nil {
		t.file.leave()
	}
}

var errFault = errors.New("not looked at to the end: the file was cut off meanwhile, or cannot be read")

func (r *run) commit(s *Scanner, t *task) {
	t.mu.Lock()
	t.closed = true
	out, at := t.out, t.at
	t.mu.Unlock()
	if at != nil {
		out.place(s, at)
	}
	r.mu.Lock()
	r.res.Findings = append(r.res.Findings, out.findings...)
	r.res.Notes = append(r.res.Notes, out.notes...)
	r.embedded = append(r.embedded, out.embedded...)
	for _, v := range out.facts {
		r.res.addFact(v.fact, v.value)
	}
	r.mu.Unlock()
	slices.SortStableFunc(out.findings, func(a, b finding.Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	for i := range out.findings {
		r.event(Event{Finding: &out.findings[i]})
	}
	for i := range out.notes {
		r.event(Event{Note: &out.notes[i]})
	}
	for _, v := range out.facts {
		r.event(Event{Value: &Value{v.fact, v.value.path, v.value.scanner, v.value.value}})
	}
}
