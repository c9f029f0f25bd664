package workspace

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
)

// A File is the content of an Entry, open. ReadAt and Bytes may be called
// concurrently, Read and Seek may not.
type File struct {
	handle handle
	r      *io.SectionReader
	once   sync.Once
}

// Open opens the content for reading at any offset, unpacking it if need be.
func (e Entry) Open() (*File, error) { return e.OpenContext(context.Background()) }

// OpenContext is Open, and gives up unpacking when ctx ends.
func (e Entry) OpenContext(ctx context.Context) (*File, error) {
	h, err := e.file.open(ctx, e.w, e.Path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: e.Path, Err: reason(err)}
	}
	return &File{handle: h, r: io.NewSectionReader(h, 0, h.size)}, nil
}

// Size returns how many bytes there are. For a damaged archive that may be
// fewer than the Entry says.
func (f *File) Size() int64 { return f.handle.size }

// Read implements io.Reader.
func (f *File) Read(p []byte) (int, error) { return f.r.Read(p) }

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.r.ReadAt(p, off) }

// Seek implements io.Seeker, for Read.
func (f *File) Seek(offset int64, whence int) (int64, error) { return f.r.Seek(offset, whence) }

// Bytes returns the whole content, without a copy where it lies unpacked in
// memory. The caller must not change it, nor use it after Close.
func (f *File) Bytes() ([]byte, error) {
	if f.handle.mem != nil {
		return f.handle.mem, nil
	}
	data := make([]byte, f.handle.size)
	n, err := f.r.ReadAt(data, 0)
	if n == len(data) || errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}

// Close lets go of the content.
func (f *File) Close() error {
	f.once.Do(f.handle.close)
	return nil
}
