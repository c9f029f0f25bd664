// Package yara tries a user's YARA rules on every file of a target. It has no
// rules of its own: without a user's there is no such scanner.
package yara

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/formats/yara"
)

// MaxFile is the largest file that rules are tried on, in bytes. Larger ones
// leave a note.
const MaxFile = 256 << 20

// A Source is a file of YARA rules.
type Source struct {
	Name string // for messages
	Stem string // its path below the folder that was named, without extension: a part of the IDs
	Text []byte
}

// New returns a scanner for the rules of files, and the rules that are not of
// the subset, each with its reason. The scanner is nil if there are no others.
// The error names the line that is no YARA.
func New(sources []Source) (*scan.Scanner, []yara.Refusal, error) {
	var files []*yara.File
	stems := map[string]string{}
	for _, s := range sources {
		f, err := yara.Parse(s.Name, s.Text)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, f)
		stems[s.Name] = s.Stem
	}
	set, refused := yara.Compile(files...)
	t := &try{set: set, as: map[*yara.Rule]*rule.Rule{}}
	taken := map[string]string{}
	var rules []*rule.Rule
	for _, r := range set.Rules() {
		if r.Private {
			continue
		}
		as := Rule(stems[r.File], r)
		if file, twice := taken[as.ID]; twice {
			refused = append(refused, yara.Refusal{File: r.File, Line: r.Line, Rule: r.Name, Reason: fmt.Sprintf("the id %s is taken by %s", as.ID, file)})
			continue
		}
		taken[as.ID] = r.File
		t.as[r] = as
		rules = append(rules, as)
	}
	if len(rules) == 0 {
		return nil, refused, nil
	}
	return &scan.Scanner{
		Name:    "yara",
		Doc:     "try a user's YARA rules on every file",
		Version: 1,
		Rules:   rules,
		Wants:   func(f *scan.File) bool { return f.Size > 0 },
		File:    t.file,
	}, refused, nil
}

// try is a set of rules with what a report calls them.
type try struct {
	set *yara.Set
	as  map[*yara.Rule]*rule.Rule
}

func (t *try) file(ctx context.Context, p *scan.Pass, f *scan.File) error {
	if f.Size > MaxFile {
		return fmt.Errorf("not looked at: %d MB are more than the limit of %d MB", f.Size>>20, MaxFile>>20)
	}
	data, err := f.Data()
	if err != nil {
		return err
	}
	matches, notes, err := t.set.Match(ctx, data)
	if err != nil {
		return err
	}
	for _, n := range notes {
		p.Note(f.Path, "not looked at to the end: %s", n)
	}
	for _, m := range matches {
		if r := t.as[m.Rule]; r != nil {
			p.Report(r, finding.Finding{
				Location: place(f.Path, data, m),
				PURL:     f.Part.Label,
				Evidence: evidence(data, m),
			})
		}
	}
	return nil
}

// place points to the line of the first string that was found in a text. Of any
// other file the evidence says where: an offset is no address of a program.
func place(name string, data []byte, m yara.Match) finding.Location {
	at := finding.Location{Path: name}
	if len(m.Strings) == 0 || bytes.IndexByte(data[:min(len(data), scan.HeadSize)], 0) >= 0 {
		return at
	}
	first := slices.MinFunc(m.Strings, func(a, b yara.Found) int { return cmp.Compare(a.At[0].Offset, b.At[0].Offset) }).At[0].Offset
	at.Line = 1 + bytes.Count(data[:first], []byte("\n"))
	return at
}

// maxEvidence and maxPlaces bound what a finding shows: of all strings, and of
// one.
const (
	maxEvidence = 12
	maxPlaces   = 3
)

// evidence shows the strings that were found. Addresses are offsets in the
// file.
func evidence(data []byte, m yara.Match) (out []finding.Evidence) {
	for _, s := range m.Strings {
		for _, at := range s.At[:min(len(s.At), maxPlaces)] {
			if len(out) == maxEvidence {
				return out
			}
			e := finding.NewEvidence("string", text(data[at.Offset:at.Offset+at.Length]))
			e.From, e.Address = s.Name, fmt.Sprintf("%#x", at.Offset)
			out = append(out, e)
		}
	}
	return out
}

// text returns what was found as a text: of wide characters every other byte.
func text(found []byte) string {
	found = found[:min(len(found), 16*finding.MaxEvidence)]
	if len(found) < 4 || len(found)%2 != 0 {
		return string(found)
	}
	var b strings.Builder
	for i := 0; i < len(found); i += 2 {
		if found[i] == 0 || found[i+1] != 0 {
			return string(found)
		}
		b.WriteByte(found[i])
	}
	return b.String()
}
