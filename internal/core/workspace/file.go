package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// A File is the content of an Entry, open. ReadAt and Bytes may be called
// concurrently, Read and Seek may not.
type File struct {
	handle handle
	r      *io.SectionReader
	maps   *mappings

	mu     sync.Mutex
	data   []byte   // of Bytes; nil before
	mapped *mapping // nil if data is no mapping
	asOf   stamp    // of the file when it was mapped
	closed bool
}

// Open opens the content for reading at any offset, unpacking it if need be.
func (e Entry) Open() (*File, error) { return e.OpenContext(context.Background()) }

// OpenContext is Open, and gives up unpacking when ctx ends. Its errors are
// reasons without the path, in the words of the workspace's notes.
func (e Entry) OpenContext(ctx context.Context) (*File, error) {
	h, err := e.file.open(ctx, e.w, e.Path)
	if err != nil {
		return nil, reason(err)
	}
	return &File{handle: h, r: io.NewSectionReader(h, 0, h.size), maps: &e.w.maps}, nil
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
// memory, and as a mapping where a larger file of the host holds it. The caller
// must not change it, nor use it after Close.
//
// Should a mapped file be cut off while it is used, or fail to be read, touching
// the bytes faults: a goroutine that does so must have called
// [runtime/debug.SetPanicOnFault], and finds out by [File.Faulted].
func (f *File) Bytes() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, fs.ErrClosed
	case f.data != nil:
		return f.data, nil
	case f.handle.mem != nil:
		f.data = f.handle.mem
		return f.data, nil
	}
	if f.handle.host != nil {
		f.asOf = stampOf(f.handle.host)
		if f.mapped = f.maps.add(f.handle.host, f.handle.hostOff, f.handle.size); f.mapped != nil {
			f.data = f.mapped.data
			return f.data, nil
		}
	}
	data, err := f.copy()
	if err == nil {
		f.data = data
	}
	return data, err
}

// copy reads the whole content, which is the caller's.
func (f *File) copy() ([]byte, error) {
	if f.handle.size > maxRead {
		return nil, fmt.Errorf("%d MB are more than are read into memory", f.handle.size>>20)
	}
	data := make([]byte, f.handle.size)
	n, err := f.r.ReadAt(data, 0)
	if n == len(data) || errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}

// A stamp tells whether a file was changed, as far as the host knows.
type stamp struct {
	size int64
	time time.Time
	err  error
}

func stampOf(host *os.File) stamp {
	info, err := host.Stat()
	if err != nil {
		return stamp{err: err}
	}
	return stamp{size: info.Size(), time: info.ModTime()}
}

// Unchanged reports whether what Bytes returned is still what it was then, as
// far as size and time of the file tell: a mapping shows what others write.
func (f *File) Unchanged() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mapped == nil {
		return !f.closed
	}
	now := stampOf(f.handle.host)
	return f.asOf.err == nil && now.err == nil && now.size == f.asOf.size && now.time.Equal(f.asOf.time)
}

// Faulted reports whether a panic was a fault of touching what Bytes returned.
func (f *File) Faulted(recovered any) bool {
	fault, ok := recovered.(interface{ Addr() uintptr })
	if !ok {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mapped != nil && f.mapped.holds(fault.Addr())
}

// Close lets go of the content.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	if f.mapped != nil {
		f.maps.remove(f.mapped)
	}
	f.data, f.mapped = nil, nil
	f.handle.close()
	return nil
}
