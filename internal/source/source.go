// Package source turns a target into a workspace: it finds the registry that
// the user's own settings name, picks a version as the ecosystem's package
// manager would, downloads within caps, checks every hash that the registry
// gives before anything is opened, and says what the release is. It runs no
// package manager and no code of a package.
package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// A Source is one way to get a target.
type Source struct {
	Name  string // one word
	Doc   string // what it gets, a phrase
	Takes func(target.Target) bool
	Open  func(context.Context, Request) (*Opened, error)
}

// A Request says what to get and how. Only Target is needed for a path; a
// package also needs Egress.
type Request struct {
	Target     target.Target
	Platform   string         // builds wanted: all, host, none, or names separated by commas; "" for what the source finds best
	Egress     *egress.Client // offline, it makes a source use the cache alone
	CacheDir   string         // keeps downloads and documents for the next time; "" keeps nothing
	TempDir    string         // "" means the system's
	ProjectDir string         // whose .npmrc counts; "" for none
	Limits     workspace.Limits
	Prebuilt   Prebuilt

	// Progress, if not nil, is told how many bytes of a file have arrived, of
	// how many (-1 if unknown). It is never called twice at once.
	Progress func(done, total int64, what string)
}

// Opened is a target made ready for scanners. Close it after its workspace was
// used.
type Opened struct {
	Target    target.Target // as asked for, with the version that was found
	Workspace *workspace.Workspace
	Release   *inventory.Release // nil if the target is no published package
	Digest    string             // of the files of the release together; empty for what was not packed as one

	// Fetched is what the installation of the package would fetch, if the
	// request asked for it.
	Fetched []*inventory.Fetched

	// Notes are about getting the target; those about unpacking it are the
	// workspace's.
	Notes []finding.Note

	fetcher *fetcher
	sums    []string // of the parts: algorithm, hash and file name
}

// Open gets a target from the first source that takes it. Errors are meant for
// the user: each is a *fault.Error with one sentence.
func Open(ctx context.Context, req Request) (*Opened, error) {
	i := slices.IndexFunc(All, func(s *Source) bool { return s.Takes(req.Target) })
	if i < 0 {
		return nil, fault.New(fault.Invalid, "there is no way to get %s", req.Target.Short()).
			Try("name a package as npm:NAME or pypi:NAME, or a file or a folder")
	}
	o, err := All[i].Open(ctx, req)
	if err != nil {
		return nil, explain(ctx, err)
	}
	if o.fetcher != nil {
		if text := o.fetcher.cacheNote(); text != "" {
			o.inform("", "%s", text)
		}
	}
	o.Notes = finding.ArrangeNotes(o.Notes)
	return o, nil
}

// explain makes sure that the user sees a sentence.
func explain(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	if ctx.Err() != nil {
		return fault.New(fault.Unavailable, "getting the target was cancelled").Try("try again").Because(err)
	}
	return err
}

func newOpened(req Request, f *fetcher) *Opened {
	return &Opened{Target: req.Target, Workspace: workspace.New(req.Limits, req.TempDir), fetcher: f}
}

// Close ends all reading of the target and removes what was kept for it.
func (o *Opened) Close() error {
	err := o.Workspace.Close()
	if o.fetcher != nil {
		o.fetcher.close()
	}
	return err
}

func (o *Opened) note(path, format string, args ...any) {
	o.Notes = append(o.Notes, finding.Note{Path: path, Text: fmt.Sprintf(format, args...)})
}

// add records a part of the release, and what its bytes are, verified or not.
func (o *Opened) add(part inventory.Part, b *blob) {
	o.Release.Parts = append(o.Release.Parts, part)
	o.sums = append(o.sums, hexDigest(b.algorithm, b.sum)+" "+part.Filename+"\n")
	o.Digest = part.Digest
	if len(o.sums) > 1 || part.Digest == "" {
		all := sha256.Sum256([]byte(strings.Join(o.sums, "")))
		o.Digest = hexDigest("sha256", all[:])
	}
}

// inform records what is good to know of a target that was looked at.
func (o *Opened) inform(path, format string, args ...any) {
	o.Notes = append(o.Notes, finding.Note{Path: path, Text: fmt.Sprintf(format, args...), Informs: true})
}

// mountArchive shows the members of a part's archive at its path, without the
// first strip folders of their names.
func (o *Opened) mountArchive(part inventory.Part, b *blob, strip int) error {
	at := workspace.Part{Prefix: part.Path, Label: part.PURL}
	return o.Workspace.MountArchive(at, part.Filename, b.ReaderAt, b.size, nil, strip)
}

// checkReadable refuses an archive of which nothing at all could be read.
func (o *Opened) checkReadable(dir, name string) error {
	entries, err := fs.ReadDir(o.Workspace.FS(), dir)
	if err == nil && len(entries) > 0 {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	why := ""
	if notes := o.Workspace.Notes(); len(notes) > 0 {
		why = notes[0].Text
	}
	return broken(name, why).Because(err)
}

func broken(name, why string) *fault.Error {
	if why != "" {
		why = " (" + oneLine(why) + ")"
	}
	return fault.New(fault.Corrupt, "the archive %s is broken or empty%s", name, why).Try("get it again")
}
