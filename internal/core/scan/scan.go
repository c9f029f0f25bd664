// Package scan defines a Scanner and runs a set of them over a target.
//
// A Scanner is a value: a name, a sentence of documentation, what it needs to
// know, what it makes known, and functions. It holds no state, opens no files,
// dials no hosts and registers itself nowhere. All that it may use comes to it
// in a [Pass].
package scan

import (
	"context"
	"fmt"
	"io/fs"
	"slices"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// A Scanner looks at one kind of thing and reports findings about it.
type Scanner struct {
	// Name is unique, lower-case and one word: "native", "install". It appears
	// in results, notes and on command lines.
	Name string

	// Doc is the documentation. Its first line is a phrase.
	Doc string

	// Version changes when the same input would give different output.
	Version int

	// Rules are the only rules that the scanner may report.
	Rules []*rule.Rule

	// Needs and Gives are the edges of the plan: a scanner runs once all that
	// gives what it needs has finished, and not at all if nothing gives it.
	Needs, Gives []Fact

	// Wants chooses files by path, size, mode or first bytes. File is called
	// for each of them, in a walk that all scanners share, from several
	// goroutines at once.
	Wants func(f *File) bool
	File  func(ctx context.Context, p *Pass, f *File) error

	// Pure is set if what File reports can be kept for files with the same
	// bytes; nil if it cannot.
	Pure *Pure

	// Run is called once, after the walk.
	Run func(ctx context.Context, p *Pass) error
}

func (s *Scanner) String() string { return s.Name }

// A Pass is one scanner at work on one target, or on one file of it: its
// inputs, and where its outputs go.
type Pass struct {
	Scanner *Scanner
	FS      fs.FS // the files of the target; nil if it has none

	run  *run
	task *task
}

// Report records a finding of rule r at a place. It fills in from the rule
// what f leaves out. Reporting a rule that the scanner does not list is a
// mistake of the program and panics.
func (p *Pass) Report(r *rule.Rule, f finding.Finding) {
	if !slices.Contains(p.Scanner.Rules, r) {
		panic(fmt.Sprintf("scan: %s reported %s, which is not one of its rules", p.Scanner, r.ID))
	}
	p.task.add(func(out *output) { out.findings = append(out.findings, Complete(p.Scanner, r, f)) })
}

// Complete returns f as a finding of rule r by scanner s, with what it leaves
// out filled in from the rule.
func Complete(s *Scanner, r *rule.Rule, f finding.Finding) finding.Finding {
	f.Rule, f.ScanType, f.Tool = r.ID, r.ScanType, s.Name
	if f.Title == "" {
		f.Title = r.Title
	}
	if f.Description == "" {
		f.Description = r.Text
	}
	if f.Remediation == "" {
		f.Remediation = r.Fix
	}
	if f.Severity == finding.Unrated {
		f.Severity = r.Severity
	}
	if f.Confidence == finding.Unsure {
		f.Confidence = r.Confidence
	}
	f.CWE, f.Attack, f.References = r.CWE, r.Attack, r.References
	return f
}

// Embed adds a file that the scanner found inside f to the walk. It is shown as
// if f were an archive, with its members if it is one itself, to all scanners
// of this stage once they have seen the files around it, and to those of later
// stages. What was found in it is shown in turn.
func (p *Pass) Embed(f *File, in workspace.Embedded) {
	if p.Scanner.Pure != nil {
		panic(fmt.Sprintf("scan: %s is pure and cannot embed", p.Scanner))
	}
	p.task.add(func(out *output) { out.embedded = append(out.embedded, embedding{f.Entry, p.Scanner.Name, in}) })
}

// Note records something that was not looked at, or not to the end.
func (p *Pass) Note(path, format string, args ...any) {
	note := finding.Note{Scanner: p.Scanner.Name, Path: path, Text: fmt.Sprintf(format, args...)}
	p.task.add(func(out *output) { out.notes = append(out.notes, note) })
}
