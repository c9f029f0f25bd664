package scan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/loupe-sec/loupe/internal/core/finding"
)

// Pure says of a scanner that what its File reports follows from the bytes of
// the file and the scanner's rules alone, so that it can be kept: files with
// the same bytes are looked at once, in a target and, with [Options.Cache],
// from scan to scan.
//
// The engine keeps the promise for it. File is shown the file without its path,
// its part and whether it was embedded, and cannot embed anything; the engine
// then puts the path into findings and notes that have none, the label of the
// part into findings without a package URL, and calls Place for facts.
type Pure struct {
	// Variant tells apart scanners of the same name, version and rules that
	// report different things.
	Variant string

	// Place completes a value of one of the scanner's facts, which are pointers,
	// with where the file lies.
	Place func(value any, f *File)
}

// remembered is what is kept of a call.
type remembered struct {
	Findings []finding.Finding
	Notes    []finding.Note
}

// A recipe is the digest of what the results of a scanner depend on besides
// content, and of how they are written.
type recipe struct {
	once   sync.Once
	digest string // hex
	err    error
}

// of digests a scanner: its name, version, variant and rules, and the types of
// what it gives. It is an error if the values of those cannot be kept.
func (r *recipe) of(s *Scanner) (string, error) {
	r.once.Do(func() {
		types := []reflect.Type{reflect.TypeFor[remembered]()}
		for _, f := range s.Gives {
			types = append(types, f.values())
		}
		h := sha256.New()
		if r.err = describeTypes(h, types...); r.err != nil {
			return
		}
		fmt.Fprintf(h, "%q %d %q\n", s.Name, s.Version, s.Pure.Variant)
		for _, rule := range s.Rules {
			fmt.Fprintf(h, "%q %d\n", rule.ID, len(rule.Source))
			h.Write(rule.Source)
		}
		r.digest = hex.EncodeToString(h.Sum(nil))
	})
	return r.digest, r.err
}

// pure has a pure scanner look at a file, or remembers what it reported of the
// same bytes before.
func (r *run) pure(ctx context.Context, p *Pass, f *File) error {
	p.task.add(func(*output) { p.task.at = f })
	digest, err := r.recipes[p.Scanner].of(p.Scanner)
	if err != nil {
		return p.Scanner.File(ctx, p, f.nameless())
	}
	sum, err := f.SHA256()
	if err != nil {
		return err
	}
	k := Key{sum, digest}
	leave, err := r.memo.enter(ctx, k)
	if err != nil {
		return err
	}
	defer leave()
	if text, ok := r.recall(k); ok && p.restore(text) {
		return nil
	}
	if err := p.Scanner.File(ctx, p, f.nameless()); err != nil || ctx.Err() != nil {
		return err
	}
	if text, ok := p.keep(); ok && f.unchanged() {
		r.remember(k, text)
	}
	return nil
}

// recall returns what was kept under a key.
func (r *run) recall(k Key) ([]byte, bool) {
	if text, ok := r.memo.get(k); ok {
		return text, true
	}
	if r.opt.Cache == nil {
		return nil, false
	}
	return r.opt.Cache.Get(k)
}

// remember keeps it in the cache, or for this scan if there is none.
func (r *run) remember(k Key, text []byte) {
	if r.opt.Cache == nil || !r.opt.Cache.Put(k, text) {
		r.memo.put(k, text)
	}
}

// keep returns what a call has reported so far, in a form that restore reads.
func (p *Pass) keep() ([]byte, bool) {
	t := p.task
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false // the engine may be completing it
	}
	b := appendValue(nil, reflect.ValueOf(remembered{t.out.findings, t.out.notes}))
	for _, v := range t.out.facts {
		i := slices.Index(p.Scanner.Gives, v.fact)
		b = appendValue(append(b, byte(i)), reflect.ValueOf(v.value.value))
	}
	return b, true
}

// restore reports what keep has kept, or nothing if that cannot be read.
func (p *Pass) restore(text []byte) bool {
	d := decoder{rest: string(text)}
	var old remembered
	d.value(reflect.ValueOf(&old).Elem(), 0)
	out := output{findings: old.Findings, notes: old.Notes}
	for len(d.rest) > 0 {
		i := int(d.take(1)[0])
		if i >= len(p.Scanner.Gives) {
			return false
		}
		fact := p.Scanner.Gives[i]
		v := reflect.New(fact.values()).Elem()
		d.value(v, 0)
		out.facts = append(out.facts, factValue{fact, known{p.task.path, p.Scanner.Name, v.Interface()}})
	}
	if d.bad {
		return false
	}
	p.task.add(func(o *output) { *o = out })
	return true
}

// place completes what a pure scanner reported with where the file lies.
func (out *output) place(s *Scanner, f *File) {
	for i := range out.findings {
		if at := &out.findings[i].Location.Path; *at == "" {
			*at = f.Path
		}
		if purl := &out.findings[i].PURL; *purl == "" {
			*purl = f.Part.Label
		}
	}
	for i := range out.notes {
		if out.notes[i].Path == "" {
			out.notes[i].Path = f.Path
		}
	}
	if s.Pure.Place != nil {
		for _, v := range out.facts {
			s.Pure.Place(v.value.value, f)
		}
	}
}
