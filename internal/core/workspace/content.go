package workspace

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// content is bytes that can be had again and again.
type content interface {
	// open makes them readable until the handle is closed.
	open(ctx context.Context) (handle, error)
}

// A handle is content that can be read now, by several goroutines.
type handle struct {
	io.ReaderAt
	size    int64
	mem     []byte   // all of it if it lies in memory, else nil
	host    *os.File // the file of the host that holds all of it, from hostOff on; nil if none does
	hostOff int64
	problem string // what was found wrong with it, for a note
	free    func() // nil if there is nothing to give back
}

func (h handle) close() {
	if h.free != nil {
		h.free()
	}
}

// A flight is a job that one goroutine at a time does while others wait for it
// or for the end of their context.
type flight struct {
	mu   sync.Mutex
	busy chan struct{} // closed when the job is left; nil if nobody is at it
}

func (f *flight) enter(ctx context.Context) error {
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		f.mu.Lock()
		busy := f.busy
		if busy == nil {
			f.busy = make(chan struct{})
			f.mu.Unlock()
			return nil
		}
		f.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
		}
	}
}

func (f *flight) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.busy)
	f.busy = nil
}

// given is content that its owner keeps open for the life of the workspace.
type given struct {
	r     io.ReaderAt
	size  int64
	taped atomic.Pointer[tape]
}

func (g *given) open(context.Context) (handle, error) {
	h := handle{ReaderAt: g.r, size: g.size}
	h.host, _ = g.r.(*os.File)
	return h, nil
}

// hostFile is a file of a host folder.
type hostFile struct {
	dir  *hostDir
	name string // as the host has it
}

func (h hostFile) open(context.Context) (handle, error) {
	f, err := h.dir.open(h.name)
	if err != nil {
		return handle{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: h.name, Err: errIrregular}
	}
	if err != nil {
		f.Close()
		return handle{}, err
	}
	return handle{ReaderAt: f, size: info.Size(), host: f, free: func() { f.Close() }}, nil
}

// openRegular opens a file that was a regular one when the folder was listed.
// Should it have become a FIFO since, the flag keeps the open from waiting.
func openRegular(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// section is a part of other content.
type section struct {
	of     content
	off, n int64
}

func (s section) open(ctx context.Context) (handle, error) {
	h, err := s.of.open(ctx)
	if err != nil {
		return handle{}, err
	}
	off := min(s.off, h.size)
	n := min(s.n, h.size-off)
	cut := handle{size: n, free: h.free, host: h.host, hostOff: h.hostOff + off}
	if h.mem != nil {
		cut.mem = h.mem[off : off+n : off+n]
		cut.ReaderAt = bytes.NewReader(cut.mem)
	} else {
		cut.ReaderAt = io.NewSectionReader(h, off, n)
	}
	return cut, nil
}

// shared is content that stays open while anybody reads it, for the many
// members of one archive.
type shared struct {
	of content

	flight flight
	mu     sync.Mutex
	h      handle
	refs   int
}

func (s *shared) open(ctx context.Context) (handle, error) {
	if err := s.flight.enter(ctx); err != nil {
		return handle{}, err
	}
	defer s.flight.leave()
	s.mu.Lock()
	if s.refs > 0 {
		s.refs++
		s.mu.Unlock()
		return s.handle(), nil
	}
	s.mu.Unlock()
	h, err := s.of.open(ctx)
	if err != nil {
		return handle{}, err
	}
	s.mu.Lock()
	s.h, s.refs = h, 1
	s.mu.Unlock()
	return s.handle(), nil
}

// handle is called with a reference held, which keeps s.h as it is.
func (s *shared) handle() handle {
	h := s.h
	h.free = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refs--; s.refs == 0 {
			s.h.close()
			s.h = handle{}
		}
	}
	return h
}
