package scan

import (
	"context"
	"sync"
)

// maxMemo bounds what a scan without a cache remembers, in bytes: target
// folders with copies of the same binaries have few different ones.
const maxMemo = 16 << 20

// A memo remembers within one scan, and has one goroutine at a time work on a
// key while others wait for what it finds.
type memo struct {
	mu    sync.Mutex
	busy  map[Key]chan struct{}
	texts map[Key][]byte
	size  int
}

// enter waits until nobody else works on k or ctx ends.
func (m *memo) enter(ctx context.Context, k Key) (leave func(), err error) {
	for {
		m.mu.Lock()
		busy := m.busy[k]
		if busy == nil {
			if m.busy == nil {
				m.busy = map[Key]chan struct{}{}
			}
			own := make(chan struct{})
			m.busy[k] = own
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.busy, k)
				close(own)
			}, nil
		}
		m.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (m *memo) get(k Key) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	packed, ok := m.texts[k]
	if !ok {
		return nil, false
	}
	text, err := unpack(packed)
	return text, err == nil
}

func (m *memo) put(k Key, text []byte) {
	packed := pack(text)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.texts[k]; ok || m.size+len(packed) > maxMemo {
		return
	}
	if m.texts == nil {
		m.texts = map[Key][]byte{}
	}
	m.texts[k] = packed
	m.size += len(packed)
}
