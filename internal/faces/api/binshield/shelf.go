package binshield

import (
	"container/list"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
)

// shelfSize bounds what a shelf holds, in bytes.
const shelfSize = 32 << 20

// A shelf keeps answers that were asked for lately and never change: an
// analysis, under its id, is what it is.
type shelf struct {
	flights singleflight.Group

	mu      sync.Mutex
	order   *list.List // of *volume, the latest first
	volumes map[string]*list.Element
	size    int
}

type volume struct {
	id  string
	raw *dialect.Raw
}

func newShelf() *shelf { return &shelf{order: list.New(), volumes: map[string]*list.Element{}} }

// get returns the answer for an id, and makes it if it is not on the shelf.
func (s *shelf) get(id string, make func() (*dialect.Raw, error)) (*dialect.Raw, error) {
	s.mu.Lock()
	if e, ok := s.volumes[id]; ok {
		s.order.MoveToFront(e)
		s.mu.Unlock()
		return e.Value.(*volume).raw, nil
	}
	s.mu.Unlock()
	made, err, _ := s.flights.Do(id, func() (any, error) { // once for all who ask at the same time
		raw, err := make()
		if err == nil {
			s.put(id, raw)
		}
		return raw, err
	})
	if err != nil {
		return nil, err
	}
	return made.(*dialect.Raw), nil
}

func (s *shelf) put(id string, raw *dialect.Raw) {
	weight := func(r *dialect.Raw) int { return cap(r.Data) + cap(r.Gzip) }
	if weight(raw) > shelfSize/4 {
		return // rather than throw everything else out
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.volumes[id]; ok {
		return
	}
	s.volumes[id] = s.order.PushFront(&volume{id, raw})
	for s.size += weight(raw); s.size > shelfSize; {
		v := s.order.Remove(s.order.Back()).(*volume)
		delete(s.volumes, v.id)
		s.size -= weight(v.raw)
	}
}
