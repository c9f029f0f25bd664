package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// Path opens a folder, a single file or an archive of this machine. An npm
// tarball and a wheel are shown as they are once installed; any other archive
// is a file with its members behind it.
var Path = &Source{
	Name:  "path",
	Doc:   "a folder, a file or an archive of this machine",
	Takes: func(t target.Target) bool { return t.Kind == target.Path },
	Open:  openPath,
}

func openPath(ctx context.Context, req Request) (*Opened, error) {
	// Links on the way to the target are the user's own; within it none is
	// followed.
	name, err := filepath.EvalSymlinks(req.Target.Name)
	if err != nil {
		if _, loop := os.Stat(req.Target.Name); errors.Is(loop, syscall.ELOOP) { // which EvalSymlinks has no value for
			err = loop
		}
		return nil, pathFault(req.Target.Name, err)
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, pathFault(req.Target.Name, err)
	case info.IsDir():
		return openDir(req, name)
	case info.Mode().IsRegular():
		return openFile(ctx, req, name)
	}
	return nil, fault.New(fault.Unavailable, "%q is neither a file nor a folder", req.Target.Name).Try("name a file or a folder")
}

func pathFault(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "there is no file or folder %q", name).Try("check the path, or write npm:NAME or pypi:NAME for a package").Because(err)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Forbidden, "%q may not be read", name).Try("run as a user who may read it").Because(err)
	case errors.Is(err, syscall.ELOOP):
		return fault.New(fault.Unavailable, "%q is a link that leads back to itself", name).Try("name the file or the folder that is meant").Because(err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Unavailable, "reading %q was cancelled", name).Try("try again").Because(err)
	}
	return fault.New(fault.Unavailable, "%q cannot be read", name).Try("check the path").Because(err)
}

func openDir(req Request, name string) (*Opened, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, pathFault(req.Target.Name, err)
	}
	o := newOpened(req, nil)
	if err := o.Workspace.MountDir(workspace.Part{}, root, GitStorage); err != nil {
		root.Close()
		o.Close()
		return nil, err
	}
	o.Release = releaseIn(o.Workspace.FS(), ".")
	return o, nil
}

// GitStorage names the folders in which git packs what the work tree shows
// already; history is another scanner's matter.
func GitStorage(dir string) bool {
	parent, base := path.Split(dir)
	return path.Base(parent) == ".git" && (base == "objects" || base == "lfs" || base == "modules")
}

// releaseIn says what published package a folder is, by the metadata at its
// top: of npm, of an unpacked source distribution, of an unpacked wheel.
func releaseIn(files fs.FS, dir string) *inventory.Release {
	if r := npmRelease(files, dir); r != nil {
		return r
	}
	if r := pythonRelease(files, path.Join(dir, "PKG-INFO")); r != nil {
		return r
	}
	return pythonRelease(files, wheelMetadata(files, dir))
}

// wheelMetadata returns the path of the METADATA of the one wheel that was
// unpacked in dir; with several of them, as in site-packages, or none, it
// returns nothing.
func wheelMetadata(files fs.FS, dir string) string {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return ""
	}
	found := ""
	for _, e := range entries {
		if e.IsDir() && strings.HasSuffix(e.Name(), ".dist-info") {
			if found != "" {
				return ""
			}
			found = path.Join(dir, e.Name(), "METADATA")
		}
	}
	return found
}

func openFile(ctx context.Context, req Request, name string) (o *Opened, err error) {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, pathFault(req.Target.Name, err)
	}
	defer root.Close()
	base := filepath.Base(name)
	// Should the file have become a FIFO since, the flag keeps the open from
	// waiting.
	f, err := root.OpenFile(base, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, pathFault(req.Target.Name, err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err = cmp.Or(err, ctx.Err()); err == nil && !info.Mode().IsRegular() {
		err = errIrregular
	}
	if err != nil {
		return nil, pathFault(req.Target.Name, err)
	}
	part := inventory.Part{Filename: base, Size: info.Size()}

	o = newOpened(req, nil)
	if err := o.Workspace.MountFile(workspace.Part{Origin: inventory.WholeFile}, base, f, part.Size, nil); err != nil {
		o.Close()
		return nil, err
	}
	release, strip, unpack := insideOf(o.Workspace.FS(), base)
	err = o.checkArchive(base)
	if err != nil {
		o.Close()
		return nil, err
	}
	// Now that it is known what it is, it is mounted as it is to be shown.
	o.Workspace.Clear()
	o.Release = release
	at := workspace.Part{}
	if o.Release != nil {
		if part.Digest, err = digestOf(ctx, f); err != nil {
			o.Close()
			return nil, pathFault(req.Target.Name, err)
		}
		o.Digest = part.Digest
		part.PURL = o.Release.PURL()
		at.Label = part.PURL
	}
	if unpack {
		err = o.Workspace.MountArchive(at, base, f, part.Size, f, strip)
	} else {
		part.Path = base + "!"
		at.Origin = inventory.WholeFile
		err = o.Workspace.MountFile(at, base, f, part.Size, f)
	}
	if err != nil {
		o.Close()
		return nil, err
	}
	if o.Release != nil {
		o.Release.Parts = []inventory.Part{part}
	}
	return o, nil
}

var errIrregular = errors.New("it is no longer a regular file")

// digestOf returns the SHA-256 of a file, as PyPI writes it.
func digestOf(ctx context.Context, f io.ReaderAt) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, &patient{ctx, io.NewSectionReader(f, 0, math.MaxInt64)}); err != nil {
		return "", err
	}
	return hexDigest("sha256", sum.Sum(nil)), nil
}

// archiveNames lists the endings of names that promise an archive.
var archiveNames = []string{".zip", ".whl", ".egg", ".jar", ".apk", ".aar", ".tgz", ".tar", ".gz", ".bz2", ".xz", ".zst"}

// checkArchive refuses an archive that is damaged or that nothing can be read
// of, and a file that only promises to be one. What a limit cut off, or what
// follows the archive in the same file, is no damage.
func (o *Opened) checkArchive(base string) error {
	_, err := fs.ReadDir(o.Workspace.FS(), base+"!")
	if errors.Is(err, fs.ErrNotExist) {
		if slices.Contains(archiveNames, strings.ToLower(path.Ext(base))) {
			return fault.New(fault.Corrupt, "%q is named like an archive but cannot be read as one", base).Try("get it again")
		}
		return nil
	}
	for _, n := range o.Workspace.Notes() {
		why, early := strings.CutPrefix(n.Text, "not looked at to the end: ")
		if n.Path == base && early && !harmless.MatchString(why) {
			return broken(base, why)
		}
	}
	return nil
}

// harmless matches the workspace's words for limits and for what follows.
var harmless = pattern.New(`more than|longer than|follows`)

// insideOf says what the file called base is, judged by the members it has if
// it is an archive: the release, and whether and with how many folders stripped
// it is to be shown unpacked.
func insideOf(files fs.FS, base string) (release *inventory.Release, strip int, unpack bool) {
	members := base + "!"
	entries, err := fs.ReadDir(files, members)
	if err != nil {
		return nil, 0, false
	}
	if metadata := wheelMetadata(files, members); metadata != "" {
		if r := pythonRelease(files, metadata); r != nil {
			return r, 0, true
		}
	}
	if len(entries) != 1 || !entries[0].IsDir() {
		return nil, 0, false
	}
	// "npm pack" calls the one folder "package", and other tools that make
	// such tarballs keep npm's file name extension.
	top := path.Join(members, entries[0].Name())
	if r := npmRelease(files, top); r != nil {
		if entries[0].Name() == "package" || strings.HasSuffix(base, ".tgz") {
			return r, npmStrip, true
		}
		return r, 0, false
	}
	return pythonRelease(files, path.Join(top, "PKG-INFO")), 0, false
}

// patient is a reader that ends with its context.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}
