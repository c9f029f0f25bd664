package workspace

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// FS returns the tree of the target as it is now, for fs.ReadFile, fs.WalkDir
// and their like. An archive x.tgz is a file there and, beside it, a folder
// x.tgz!. Files implement io.ReaderAt and io.Seeker, and the Sys method of
// their fs.FileInfo returns an Entry. There are no modification times.
func (w *Workspace) FS() fs.FS { return tree{w, w.tree()} }

// tree implements fs.FS. Its operations end with the workspace.
type tree struct {
	w    *Workspace
	root folder
}

var (
	_ fs.StatFS     = tree{}
	_ fs.ReadDirFS  = tree{}
	_ fs.ReadFileFS = tree{}
)

// find returns the node at a path, and names it as the path does.
func (t tree) find(op, name string) (node, error) {
	if !fs.ValidPath(name) {
		return node{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	at, shown := node{name: ".", dir: t.root}, ""
	if name == "." {
		return at, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		next, err := t.child(at.dir, shown, part)
		if err != nil {
			return node{}, &fs.PathError{Op: op, Path: name, Err: reason(err)}
		}
		at, shown = next, path.Join(shown, part)
	}
	return at, nil
}

func (t tree) child(dir folder, shown, name string) (node, error) {
	if dir == nil {
		return node{}, fs.ErrNotExist
	}
	nodes, err := dir.list(context.Background(), t.w, shown)
	if err != nil {
		return node{}, err
	}
	if n, ok := find(nodes, name); ok {
		return n, nil
	}
	packed, ok := strings.CutSuffix(name, "!")
	if !ok {
		return node{}, fs.ErrNotExist
	}
	n, ok := find(nodes, packed)
	if !ok || n.file == nil {
		return node{}, fs.ErrNotExist
	}
	if err := n.file.look(context.Background(), t.w, path.Join(shown, packed)); err != nil {
		return node{}, err
	}
	if d := n.file.members(); d != nil {
		return node{name: name, dir: d}, nil
	}
	return node{}, fs.ErrNotExist
}

// Open implements fs.FS.
func (t tree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	info := t.info(n, name)
	if n.dir != nil {
		return &openDir{t: t, info: info, name: name}, nil
	}
	f, err := info.entry().Open()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{File: f, info: info}, nil
}

// Stat implements fs.StatFS.
func (t tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return t.info(n, name), nil
}

// ReadFile implements fs.ReadFileFS.
func (t tree) ReadFile(name string) ([]byte, error) {
	n, err := t.find("read", name)
	if err != nil {
		return nil, err
	}
	if n.dir != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errIsFolder}
	}
	f, err := t.info(n, name).entry().Open()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer f.Close()
	return f.copy()
}

// ReadDir implements fs.ReadDirFS.
func (t tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if n.dir == nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errIsFile}
	}
	shown := name
	if name == "." {
		shown = ""
	}
	nodes, err := n.dir.list(context.Background(), t.w, shown)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: reason(err)}
	}
	entries := make([]fs.DirEntry, 0, len(nodes))
	for _, n := range nodes {
		at := path.Join(shown, n.name)
		entries = append(entries, fs.FileInfoToDirEntry(t.info(n, at)))
		if n.file == nil {
			continue
		}
		if err := n.file.look(context.Background(), t.w, at); err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: name, Err: reason(err)}
		}
		if d := n.file.members(); d != nil {
			entries = append(entries, fs.FileInfoToDirEntry(t.info(node{name: n.name + "!", dir: d}, at+"!")))
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (t tree) info(n node, name string) info { return info{t.w, n, name} }

// info implements fs.FileInfo.
type info struct {
	w    *Workspace
	node node
	path string
}

func (i info) Name() string       { return i.node.name }
func (i info) IsDir() bool        { return i.node.dir != nil }
func (i info) ModTime() time.Time { return time.Time{} }

func (i info) Size() int64 {
	if i.node.file == nil {
		return 0
	}
	return i.node.file.size
}

func (i info) Mode() fs.FileMode {
	if i.node.file == nil {
		return fs.ModeDir | 0o555
	}
	return i.node.file.mode
}

func (i info) Sys() any {
	if i.node.file == nil {
		return nil
	}
	return i.entry()
}

func (i info) entry() Entry {
	return i.node.file.entry(i.w, i.path)
}

// openFile is a file of a tree.
type openFile struct {
	*File
	info info
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// openDir is a folder of a tree.
type openDir struct {
	t       tree
	info    info
	name    string
	entries []fs.DirEntry
	read    bool
}

var (
	errIsFolder = reasonError("it is a folder")
	errIsFile   = reasonError("it is not a folder")
)

type reasonError string

func (r reasonError) Error() string { return string(r) }

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errIsFolder}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		entries, err := d.t.ReadDir(d.name)
		if err != nil {
			return nil, err
		}
		d.entries, d.read = entries, true
	}
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	out := d.entries[:n:n]
	d.entries = d.entries[n:]
	return out, nil
}
