package app

import (
	"container/list"
	"context"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// shared keeps answers that take long to make and never change: each is made
// once for all who ask at the same time, and no more of them at once than there
// are processors, as making one takes memory too.
type shared[T any] struct {
	flights singleflight.Group
	free    chan struct{}

	mu    sync.Mutex
	order *list.List // of *answer[T], the latest first
	known map[string]*list.Element
}

type answer[T any] struct {
	key   string
	value T
}

// maxShared is how many answers are kept.
const maxShared = 256

// waitTime is how long somebody waits for a processor before they are sent away.
const waitTime = 10 * time.Second

func newShared[T any]() *shared[T] {
	return &shared[T]{free: make(chan struct{}, runtime.GOMAXPROCS(0)), order: list.New(), known: map[string]*list.Element{}}
}

// get returns the answer for a key, and has it made if it is not known.
func (s *shared[T]) get(ctx context.Context, key string, make func(context.Context) (T, error)) (T, error) {
	var none T
	if v, ok := s.find(key); ok {
		return v, nil
	}
	done := s.flights.DoChan(key, func() (any, error) {
		if v, ok := s.find(key); ok { // it was made since
			return v, nil
		}
		select {
		case s.free <- struct{}{}:
		case <-time.After(waitTime):
			return nil, fault.New(fault.Unavailable, "too many comparisons at once").Try("try again in some seconds")
		}
		defer func() { <-s.free }()
		v, err := make(context.WithoutCancel(ctx)) // others wait for it too
		if err == nil {
			s.keep(key, v)
		}
		return v, err
	})
	select {
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case r := <-done:
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(T), nil
	}
}

func (s *shared[T]) find(key string) (v T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.known[key]
	if !ok {
		return v, false
	}
	s.order.MoveToFront(e)
	return e.Value.(*answer[T]).value, true
}

func (s *shared[T]) keep(key string, v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[key]; ok {
		return
	}
	s.known[key] = s.order.PushFront(&answer[T]{key, v})
	if s.order.Len() > maxShared {
		delete(s.known, s.order.Remove(s.order.Back()).(*answer[T]).key)
	}
}
