package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// HeadSize is how many first bytes of a file [File.Head] shows: enough for
// every magic number, and for the header that a DOS stub points to.
const HeadSize = 4 << 10

// A File is one regular file of the target, opened and read at most once for
// all scanners that want it. Its methods are safe for concurrent use.
type File struct {
	workspace.Entry

	limit  int64
	memory *pool
	ctx    context.Context

	mu     sync.Mutex
	handle *workspace.File
	head   []byte
	data   []byte
	taken  int64 // bytes of memory held
	err    error // of opening or reading: the same for every scanner
}

// Head returns the first bytes of the file, at most [HeadSize]; none if the
// file cannot be read. The caller must not change them.
func (f *File) Head() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head == nil && f.open() == nil {
		f.head = make([]byte, min(f.Size, HeadSize))
		n, err := f.handle.ReadAt(f.head, 0)
		f.head = f.head[:n]
		if err != nil && !errors.Is(err, io.EOF) {
			f.err = fmt.Errorf("not looked at: %w", err)
		}
	}
	return f.head
}

// Data returns the whole file. It waits until there is memory for it, and
// fails if the file is larger than the limit. The caller must not change the
// bytes, nor keep them after it returns.
func (f *File) Data() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.data != nil || f.open() != nil {
		return f.data, f.err
	}
	if f.Size > f.limit {
		f.err = fmt.Errorf("not looked at: %d MB are more than the limit of %d MB a file", f.Size>>20, f.limit>>20)
		return nil, f.err
	}
	if err := f.memory.take(f.ctx, f.Size); err != nil {
		return nil, err
	}
	f.taken = f.Size
	data, err := f.handle.Bytes() // a file that shrank meanwhile is scanned as far as it goes
	if err != nil {
		f.err = fmt.Errorf("not looked at: %w", err)
		return nil, f.err
	}
	f.data = data
	return f.data, nil
}

// open opens the file once. The caller holds the lock.
func (f *File) open() error {
	if f.handle == nil && f.err == nil {
		if f.handle, f.err = f.OpenContext(f.ctx); f.err != nil {
			f.err = fmt.Errorf("not looked at: %w", f.err)
		}
	}
	return f.err
}

// close gives back what the file holds.
func (f *File) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handle != nil {
		f.handle.Close()
	}
	f.memory.give(f.taken)
	f.handle, f.head, f.data, f.taken = nil, nil, nil, 0
	if f.err == nil {
		f.err = errors.New("not looked at: the file was closed")
	}
}
