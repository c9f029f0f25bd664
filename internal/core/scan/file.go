package scan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
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
	*content
}

// content is what all that see a file have in common.
type content struct {
	entry  workspace.Entry
	limit  int64
	memory *pool
	ctx    context.Context

	mu     sync.Mutex
	handle *workspace.File
	head   []byte
	data   []byte
	sum    string
	taken  int64 // bytes of memory held
	err    error // of opening or reading: the same for every scanner

	users  int  // calls that may be using data
	closed bool // by the engine; handle is closed once the last user is gone

	shared shared
}

func newFile(ctx context.Context, e workspace.Entry, limit int64, memory *pool) *File {
	return &File{Entry: e, content: &content{entry: e, limit: limit, memory: memory, ctx: ctx}}
}

// nameless returns the file without anything that depends on where it lies.
func (f *File) nameless() *File {
	return &File{Entry: workspace.Entry{Size: f.Size, Part: &workspace.Part{}}, content: f.content}
}

// Head returns the first bytes of the file, at most [HeadSize]; none if the
// file cannot be read. The caller must not change them.
func (f *content) Head() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head == nil && f.open() == nil {
		f.head = make([]byte, min(f.entry.Size, HeadSize))
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
// bytes, nor keep them after it returns, nor hand them to other goroutines: a
// file that is cut off while it is looked at makes them fault, which the
// engine's own goroutines survive.
func (f *content) Data() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.data != nil || f.open() != nil {
		return f.data, f.err
	}
	if f.entry.Size > f.limit {
		f.err = fmt.Errorf("not looked at: %d MB are more than the limit of %d MB a file", f.entry.Size>>20, f.limit>>20)
		return nil, f.err
	}
	if err := f.memory.take(f.ctx, f.entry.Size); err != nil {
		return nil, err
	}
	f.taken = f.entry.Size
	data, err := f.handle.Bytes() // a file that shrank meanwhile is scanned as far as it goes
	if err != nil {
		f.err = fmt.Errorf("not looked at: %w", err)
		return nil, f.err
	}
	f.data = data
	return f.data, nil
}

// SHA256 returns the hash of the whole file in hex, and fails as Data does.
func (f *content) SHA256() (string, error) {
	data, err := f.Data()
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	sum := f.sum
	f.mu.Unlock()
	if sum == "" { // two that ask at once get the same
		sum = digest(data)
		f.mu.Lock()
		f.sum = sum
		f.mu.Unlock()
	}
	return sum, nil
}

// digest returns the SHA-256 of data in hex. It goes in steps: the routine of
// the library cannot be interrupted, not even for a collection of garbage that
// everybody waits for.
func digest(data []byte) string {
	const step = 256 << 10
	h := sha256.New()
	for part := range slices.Chunk(data, step) {
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// unchanged reports whether the bytes that Data returned are still the same.
func (f *content) unchanged() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.closed && f.handle != nil && f.handle.Unchanged()
}

// open opens the file once. The caller holds the lock.
func (f *content) open() error {
	if f.handle == nil && f.err == nil {
		if f.handle, f.err = f.entry.OpenContext(f.ctx); f.err != nil {
			f.err = fmt.Errorf("not looked at: %w", f.err)
		}
	}
	return f.err
}

// use keeps the bytes of the file where they are until leave.
func (f *content) use() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users++
}

func (f *content) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users--
	f.release()
}

// close gives back what the file holds. A call that was left behind may go on
// with the bytes that it has; they go when it ends.
func (f *content) close() {
	f.shared.drop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.memory.give(f.taken)
	f.head, f.data, f.taken = nil, nil, 0
	if f.err == nil {
		f.err = errors.New("not looked at: the file was closed")
	}
	f.release()
}

// release closes the handle if nobody needs it. The caller holds the lock.
func (f *content) release() {
	if f.closed && f.users == 0 && f.handle != nil {
		f.handle.Close()
		f.handle = nil
	}
}

// faulted reports whether a panic came from bytes that are no longer there.
func (f *content) faulted(recovered any) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handle != nil && f.handle.Faulted(recovered)
}
