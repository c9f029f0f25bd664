// Package workspace is the read-only view of everything a target consists of:
// host folders, single files and archives, put together as one tree with
// archives as folders, under limits, and with the provenance of each file.
//
// Paths are slash-separated and relative to the target. The members of an
// archive follow "!/": "x.tgz!/lib/y.node", and in an archive of that archive
// "a.zip!/x.tgz!/lib/y.node". What a file is, is told by its content and never
// by its name. Names that are no valid paths are shown with the %XX of their
// bytes; of members with one name, the last has it, as after an installation,
// and the earlier ones are shown as name~1, name~2.
//
// The package takes every byte for hostile. It follows no links, opens nothing
// but regular files, writes nowhere but to temporary files, and leaves a note
// wherever something was cut off, refused or broken.
package workspace

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// A Part is one of the things that a target is put together from. Each of its
// files reports it.
type Part struct {
	Prefix string // the folder that shows it; empty for the root
	Origin string // how it came to the target; "package" if empty
	Label  string // what it is: a package URL, mostly
}

// A Workspace is what a target consists of. Its methods are safe for
// concurrent use.
//
// Archives are unpacked when they are first reached. Limits that concern the
// whole target are used up in that order, so that a Walk before all else meets
// them at the same places each time.
type Workspace struct {
	budget budget
	spools *spools
	maps   mappings
	notes  notes
	closed atomic.Bool

	mu      sync.Mutex
	mounts  []folder // each as it appears from the root
	parts   []Mount  // what made each
	files   []*given // that were mounted, also before Clear
	root    folder   // of all mounts; nil if there is a new one
	closers []io.Closer
}

// New returns an empty workspace. Temporary files, which have no names where
// the system allows that, are made in tempDir, or in the system's folder for
// them if it is empty.
func New(limits Limits, tempDir string) *Workspace {
	limits = limits.orDefaults()
	return &Workspace{budget: budget{limits: limits}, spools: newSpools(tempDir, limits.Memory)}
}

// MountDir shows a folder of the host at part.Prefix. The workspace closes root
// in the end. skip, if it is not nil, names folders, by their slash-separated
// path below root, that do not belong to the target.
func (w *Workspace) MountDir(part Part, root *os.Root, skip func(dir string) bool) error {
	p, err := w.part(part)
	if err != nil {
		return err
	}
	return w.mount(Mount{Part: *p, Kind: FolderMount, Root: root, Skip: skip}, &hostDir{part: p, root: root, rel: ".", skip: skip}, root)
}

// MountFile shows one file, which may be an archive, under that name at
// part.Prefix. The workspace closes closer in the end, if it is not nil.
func (w *Workspace) MountFile(part Part, name string, r io.ReaderAt, size int64, closer io.Closer) error {
	p, err := w.part(part)
	if err != nil {
		return err
	}
	parts, _ := splitName(name)
	if len(parts) != 1 || size < 0 {
		return fault.New(fault.Invalid, "%q is not the name of a file", name)
	}
	f := &file{part: p, size: size, mode: 0o644, content: w.given(r, size)}
	m := Mount{Part: *p, Kind: FileMount, Name: name, Content: r, Size: size}
	return w.mount(m, &builtDir{nodes: []node{{name: parts[0], file: f}}}, closer)
}

// MountArchive shows the members of an archive at part.Prefix, each without the
// first strip folders of its name, and not the archive itself. The name serves
// for notes. An npm tarball is shown at the root with one folder stripped,
// whatever that is called, as npm does. A zip file may have data before it. The
// workspace closes closer in the end, if it is not nil.
func (w *Workspace) MountArchive(part Part, name string, r io.ReaderAt, size int64, closer io.Closer, strip int) error {
	p, err := w.part(part)
	if err != nil {
		return err
	}
	src := w.given(r, size)
	kind, err := identifyWhole(handle{ReaderAt: r, size: size})
	if err != nil {
		return err
	}
	if !kind.readable() {
		return fault.New(fault.Corrupt, "%s is not an archive that can be read", name)
	}
	f := &file{part: p, size: size, content: src}
	m := Mount{Part: *p, Kind: ArchiveMount, Name: name, Content: r, Size: size, Strip: strip}
	return w.mount(m, &archive{file: f, kind: kind, label: name, strip: max(strip, 0)}, closer)
}

// Clear takes all parts off again, as if nothing had been mounted nor read, for
// who has to look into a file before knowing how to show it. What was unpacked is
// there for the file that is mounted again.
func (w *Workspace) Clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mounts, w.parts, w.root = nil, nil, nil
	w.notes.clear()
	w.budget.clear()
}

// given returns the content that a mounted file has, which is the same each time.
func (w *Workspace) given(r io.ReaderAt, size int64) *given {
	w.mu.Lock()
	defer w.mu.Unlock()
	if reflect.TypeOf(r).Comparable() {
		for _, g := range w.files {
			if g.r == r && g.size == size {
				return g
			}
		}
	}
	g := &given{r: r, size: size}
	w.files = append(w.files, g)
	return g
}

// identifyWhole tells the kind of a file that should be an archive.
func identifyWhole(h handle) (kind, error) {
	if h.size < 0 {
		return unknown, fault.New(fault.Invalid, "the archive has no size")
	}
	head := make([]byte, min(h.size, headSize))
	if n, err := h.ReadAt(head, 0); n < len(head) {
		return unknown, fault.New(fault.Unavailable, "the archive cannot be read").Because(cmp.Or(err, io.ErrUnexpectedEOF))
	}
	if k := identify(head); k.readable() {
		return k, nil
	}
	if d, err := findZipDirectory(h); err == nil && startsWith(h, d.off, zipEntryMagic) {
		return zipKind, nil
	}
	return plainFile, nil
}

func (w *Workspace) part(p Part) (*Part, error) {
	if p.Prefix == "." {
		p.Prefix = ""
	}
	if p.Prefix != "" && !fs.ValidPath(p.Prefix) || strings.Contains(p.Prefix, `\`) {
		return nil, fault.New(fault.Invalid, "%q is not the path of a folder in the target", p.Prefix)
	}
	p.Origin = cmp.Or(p.Origin, "package")
	return &p, nil
}

// mount adds a part. What is being walked already does not see it.
func (w *Workspace) mount(m Mount, f folder, closer io.Closer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed.Load() {
		return fs.ErrClosed
	}
	w.mounts, w.parts = append(w.mounts, under(m.Part.Prefix, f)), append(w.parts, m)
	w.root = nil
	if closer != nil {
		w.closers = append(w.closers, closer)
	}
	return nil
}

// tree returns the root of all parts.
func (w *Workspace) tree() folder {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.root == nil {
		w.root = &builtDir{}
		if len(w.mounts) > 0 {
			w.root = join(slices.Clone(w.mounts))
		}
	}
	return w.root
}

// Close ends all reading and removes the temporary files.
func (w *Workspace) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed.Swap(true) {
		return nil
	}
	errs := []error{w.spools.close()}
	for _, c := range slices.Backward(w.closers) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
