package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/formats/nativedep"
)

// A ciPackage is one version of a package, and what came of looking at it.
type ciPackage struct {
	target target.Target
	places []finding.Location // in lock files; none if it was named itself
	why    string             // it may hold native code
	build  bool               // another one needs it on one platform

	covered  bool // another one's scan looked at it
	err      error
	score    int
	level    finding.RiskLevel
	summary  string
	binaries int
	cached   bool              // the server knew it before
	parts    []string          // package URLs of what was looked at with it
	findings []finding.Finding // grouped: one for each rule
	notes    []finding.Note
}

// worst is the severity of its worst finding, or of its risk if that is worse.
func (p *ciPackage) worst() (worst finding.Severity) {
	if p.level != finding.RiskNone {
		_ = worst.UnmarshalText([]byte(p.level)) // a word that is unknown has findings to speak for it
	}
	for _, f := range p.findings {
		worst = max(worst, f.Severity)
	}
	return worst
}

// collect puts together what is to be looked at.
func (r *ciRun) collect(names []string) error {
	index := map[target.Target]*ciPackage{}
	add := func(p ciPackage) {
		if known := index[p.target]; known != nil {
			known.places, known.build = append(known.places, p.places...), known.build && p.build
			return
		}
		index[p.target] = &p
		r.packages = append(r.packages, &p)
	}
	for _, name := range names {
		t, err := target.Parse(name)
		if err != nil {
			return usageError{err}
		}
		if t.Kind != target.Package {
			return usageError{fmt.Errorf("%q is no package: write npm:NAME@VERSION or pypi:NAME@VERSION, and name lock files with --lockfile", name)}
		}
		add(ciPackage{target: t})
	}
	if err := checkPatterns(r.f.skip); err != nil {
		return err
	}
	files, err := r.lockFiles(len(names) == 0)
	if err != nil {
		return err
	}
	for _, file := range files {
		lock, err := readLock(file)
		at := relative(r.root, file)
		r.locks, r.locked = append(r.locks, at), r.locked+lock.Total
		for _, n := range lock.Notes {
			n.Path = at
			r.notes = append(r.notes, n)
		}
		if err != nil {
			r.broken++
			_, text := fault.Of(err)
			r.notes = append(r.notes, finding.Note{Path: at, Text: text})
		}
		for _, p := range lock.Packages {
			if !r.skipped(p.Target) {
				add(ciPackage{target: p.Target, places: []finding.Location{{Path: at, Line: p.Line}}, why: p.Why, build: p.Build})
			}
		}
	}
	return nil
}

// readLock reads a lock file from disk.
func readLock(name string) (*nativedep.Lock, error) {
	f, err := os.Open(name)
	if err != nil {
		return &nativedep.Lock{}, fault.New(fault.Unavailable, "%s cannot be opened", name).Because(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, nativedep.MaxSize+1))
	if err != nil {
		return &nativedep.Lock{}, fault.New(fault.Unavailable, "%s cannot be read", name).Because(err)
	}
	return nativedep.Read(filepath.ToSlash(name), data)
}

// lockFiles returns the lock files that were named, or, if nothing was, those of
// this folder.
func (r *ciRun) lockFiles(look bool) ([]string, error) {
	var out []string
	for _, pattern := range r.f.locks {
		found := []string{pattern}
		if _, err := os.Stat(pattern); err != nil {
			if found, err = filepath.Glob(pattern); err != nil || len(found) == 0 {
				return nil, usageError{fmt.Errorf("--lockfile %s: there is no such file", pattern)}
			}
		}
		for _, name := range found {
			if !nativedep.Known(filepath.ToSlash(name)) {
				return nil, usageError{fmt.Errorf("--lockfile %s is none that is known: %s", name, strings.Join(nativedep.Names(), ", "))}
			}
			out = append(out, name)
		}
	}
	if len(out) == 0 && look {
		entries, err := os.ReadDir(".")
		if err != nil {
			return nil, fault.New(fault.Unavailable, "this folder cannot be read").Because(err)
		}
		for _, e := range entries {
			if nativedep.Known(e.Name()) && !e.IsDir() {
				out = append(out, e.Name())
			}
		}
		if len(out) == 0 {
			return nil, usageError{errors.New("there is nothing to look at: name packages, or lock files with --lockfile; this folder has no lock file")}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return usageError{fmt.Errorf("--skip %q is no pattern", p)}
		}
	}
	return nil
}

func (r *ciRun) skipped(t target.Target) bool {
	whole := string(t.Ecosystem) + ":" + t.Name
	return slices.ContainsFunc(r.f.skip, func(p string) bool {
		name, _ := path.Match(p, whole)
		version, _ := path.Match(p, t.Short())
		return name || version
	})
}

// relative returns a path as it is from the root, if it is below that.
func relative(root, name string) string {
	base, err1 := filepath.Abs(root)
	full, err2 := filepath.Abs(name)
	if cmp.Or(err1, err2) == nil {
		if rel, err := filepath.Rel(base, full); err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel)
		}
	}
	return filepath.ToSlash(name)
}
