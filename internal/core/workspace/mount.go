package workspace

import (
	"io"
	"os"
	"slices"
)

// A Mount is a part of a workspace as it was mounted, so that another workspace
// can be put together in the same way.
type Mount struct {
	Part Part
	Kind MountKind

	Root *os.Root              // of a folder
	Skip func(dir string) bool // of a folder; may be nil

	Name    string      // of a file or an archive
	Content io.ReaderAt // of a file or an archive, open as long as the workspace
	Size    int64       // of Content, in bytes
	Strip   int         // of an archive: folders that its names lose
}

// A MountKind says which of MountDir, MountFile and MountArchive made a mount.
type MountKind uint8

// The kinds.
const (
	FolderMount MountKind = iota
	FileMount
	ArchiveMount
)

// Mounts returns the parts, in the order in which they were mounted. What they
// refer to belongs to the workspace and ends with it.
func (w *Workspace) Mounts() []Mount {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.parts)
}

// Limits returns what unpacking may cost, with the defaults filled in.
func (w *Workspace) Limits() Limits { return w.budget.limits }

// Add mounts a part as it was mounted in another workspace. The workspace closes
// Root in the end, and closer if it is not nil.
func (w *Workspace) Add(m Mount, closer io.Closer) error {
	switch m.Kind {
	case FileMount:
		return w.MountFile(m.Part, m.Name, m.Content, m.Size, closer)
	case ArchiveMount:
		return w.MountArchive(m.Part, m.Name, m.Content, m.Size, closer, m.Strip)
	}
	return w.MountDir(m.Part, m.Root, m.Skip)
}
