package workspace

import (
	"bufio"
	"bytes"
	"container/list"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"
)

// A spool is unpacked content that can be read at any offset: in memory while
// that is small, else in a temporary file without a name. A spool that nobody
// reads is kept for the next reader until its room is needed, and can be made
// again from what it was unpacked from.
type spool struct {
	pool *spools
	mem  []byte   // all of it, or
	file *os.File // nil if in memory
	size int64

	// Under the pool's lock:
	refs int
	idle *list.Element // in pool.idle while refs is 0 and the spool is alive
	dead bool
}

const (
	// maxIdleFiles keeps descriptors free, which are scarcer than disk.
	maxIdleFiles = 32

	// memoryShare is the part of the pool's memory that one spool may take.
	memoryShare = 4

	firstRoom = 64 << 10
)

// spools holds all spools of a workspace and their common limits.
type spools struct {
	dir    string // of temporary files
	memory int64  // that spools may hold together, in bytes

	mu        sync.Mutex
	used      int64      // memory held, in use and idle
	idle      *list.List // of *spool; the one that rested longest is first
	idleFiles int
	files     map[*os.File]struct{}
	closed    bool
}

func newSpools(dir string, memory int64) *spools {
	return &spools{dir: dir, memory: memory, idle: list.New(), files: map[*os.File]struct{}{}}
}

// close drops everything; files still being read fail from now on.
func (p *spools) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for e := p.idle.Front(); e != nil; e = p.idle.Front() {
		p.drop(e.Value.(*spool))
	}
	var first error
	for f := range p.files {
		if err := p.remove(f); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// retain takes a reference to s and reports whether s still exists.
func (p *spools) retain(s *spool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.dead || p.closed {
		return false
	}
	if s.idle != nil {
		p.idle.Remove(s.idle)
		s.idle = nil
		if s.file != nil {
			p.idleFiles--
		}
	}
	s.refs++
	return true
}

func (p *spools) release(s *spool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.refs--; s.refs > 0 {
		return
	}
	s.idle = p.idle.PushBack(s)
	if s.file != nil {
		p.idleFiles++
	}
	if p.closed {
		p.drop(s)
		return
	}
	for e := p.idle.Front(); e != nil && p.idleFiles > maxIdleFiles; {
		next := e.Next()
		if s := e.Value.(*spool); s.file != nil {
			p.drop(s)
		}
		e = next
	}
}

// drop ends an idle spool. The caller holds the lock.
func (p *spools) drop(s *spool) {
	p.idle.Remove(s.idle)
	s.idle, s.dead = nil, true
	if s.file != nil {
		p.idleFiles--
		_ = p.remove(s.file) // nobody wants it any more
	} else {
		p.used -= int64(cap(s.mem))
		s.mem = nil
	}
}

// reserve takes n bytes of the memory, from idle spools if need be, and
// reports whether there are as many.
func (p *spools) reserve(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.idle.Front(); e != nil && p.used+n > p.memory; {
		next := e.Next()
		if s := e.Value.(*spool); s.file == nil {
			p.drop(s)
		}
		e = next
	}
	if p.used+n > p.memory {
		return false
	}
	p.used += n
	return true
}

func (p *spools) unreserve(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used -= n
}

// create opens a temporary file. Its name is gone at once where the system
// allows it, so that not even a kill leaves it behind; elsewhere remove does.
func (p *spools) create() (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fs.ErrClosed
	}
	f, err := os.CreateTemp(p.dir, "loupe-*")
	if err != nil {
		return nil, err
	}
	os.Remove(f.Name())
	p.files[f] = struct{}{}
	return f, nil
}

// remove closes a temporary file. The caller holds the lock.
func (p *spools) remove(f *os.File) error {
	delete(p.files, f)
	err := f.Close()
	os.Remove(f.Name())
	return err
}

// A spooler writes one spool.
type spooler struct {
	pool *spools
	mem  []byte // its capacity is reserved
	file *os.File
	out  *bufio.Writer // to file
	size int64
	room []byte      // where fill reads to once there is a file
	sum  hash.Hash32 // of what was written; nil if nobody asks
}

// start returns a writer for about expect bytes, if that is known.
func (p *spools) start(expect int64) *spooler {
	w := &spooler{pool: p}
	if expect = min(expect, p.memory/memoryShare); expect > 0 && p.reserve(expect) {
		w.mem = make([]byte, 0, expect)
	}
	return w
}

// fill reads once from r, at most n bytes. An error of the spool itself is a
// spoolError.
func (w *spooler) fill(r io.Reader, n int64) error {
	if w.file == nil && len(w.mem) == cap(w.mem) {
		if err := w.grow(); err != nil {
			return err
		}
	}
	room := w.room
	if w.file == nil {
		room = w.mem[len(w.mem):cap(w.mem)]
	}
	got, err := r.Read(room[:min(int64(len(room)), n)])
	w.size += int64(got)
	if w.sum != nil {
		w.sum.Write(room[:got])
	}
	if w.file == nil {
		w.mem = w.mem[:len(w.mem)+got]
	} else if _, werr := w.out.Write(room[:got]); werr != nil {
		return spoolError{werr}
	}
	return err
}

// cut takes back the last n bytes written, which no sum was asked of.
func (w *spooler) cut(n int64) {
	w.size -= n
	if w.file == nil {
		w.mem = w.mem[:w.size]
	} // readers of a file go by the size
}

// grow makes room: more memory, or a file.
func (w *spooler) grow() error {
	size := max(firstRoom, 2*int64(cap(w.mem)))
	if size <= max(w.pool.memory/memoryShare, firstRoom) && w.pool.reserve(size-int64(cap(w.mem))) {
		mem := make([]byte, len(w.mem), size)
		copy(mem, w.mem)
		w.mem = mem
		return nil
	}
	f, err := w.pool.create()
	if err != nil {
		return spoolError{err}
	}
	w.file, w.out = f, bufio.NewWriterSize(f, firstRoom)
	if _, err := w.out.Write(w.mem); err != nil {
		return spoolError{err}
	}
	w.pool.unreserve(int64(cap(w.mem)))
	w.mem, w.room = nil, make([]byte, firstRoom)
	return nil
}

// finish returns the spool with one reference.
func (w *spooler) finish() (*spool, error) {
	if w.file != nil {
		if err := w.out.Flush(); err != nil {
			w.abort()
			return nil, spoolError{err}
		}
	}
	return &spool{pool: w.pool, mem: w.mem, file: w.file, size: w.size, refs: 1}, nil
}

func (w *spooler) abort() {
	if w.file != nil {
		w.pool.mu.Lock()
		defer w.pool.mu.Unlock()
		_ = w.pool.remove(w.file) // the error that led here matters more
		return
	}
	w.pool.unreserve(int64(cap(w.mem)))
}

// A spoolError is a failure to keep what was unpacked: a full disk, mostly.
type spoolError struct{ err error }

func (e spoolError) Error() string {
	return fmt.Sprintf("no room for temporary files: %v", pathless(e.err))
}
func (e spoolError) Unwrap() error { return e.err }

// handle returns s as readable bytes; the reference goes with it.
func (s *spool) handle() handle {
	if s.file != nil {
		return handle{ReaderAt: s.file, size: s.size, host: s.file, free: func() { s.pool.release(s) }}
	}
	return handle{ReaderAt: bytes.NewReader(s.mem), size: s.size, mem: s.mem, free: func() { s.pool.release(s) }}
}
