package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// What many ask for at the same time is made once, and what failed again.
func TestShared(t *testing.T) {
	s := newShared[int]()
	var made atomic.Int64
	started, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			v, err := s.get(t.Context(), "a", func(context.Context) (int, error) {
				if made.Add(1) == 1 {
					close(started)
				}
				<-release
				return 7, nil
			})
			if v != 7 || err != nil {
				t.Errorf("get = %d, %v", v, err)
			}
		})
	}
	<-started
	close(release)
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times; want once", made.Load())
	}
	failed := errors.New("no")
	for range 2 {
		if _, err := s.get(t.Context(), "b", func(context.Context) (int, error) { made.Add(1); return 0, failed }); !errors.Is(err, failed) {
			t.Errorf("get = %v", err)
		}
	}
	if made.Load() != 3 {
		t.Errorf("what failed was kept: made %d times", made.Load())
	}
	for i := range 2 * maxShared {
		if _, err := s.get(t.Context(), fmt.Sprint(i), func(context.Context) (int, error) { return i, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.order.Len(); n != maxShared || len(s.known) != n {
		t.Errorf("%d answers are kept; want %d", n, maxShared)
	}
}

// Who leaves does not take the answer from the others.
func TestSharedLeft(t *testing.T) {
	s := newShared[int]()
	ctx, leave := context.WithCancel(t.Context())
	started, release := make(chan struct{}), make(chan struct{})
	left := make(chan error, 1)
	go func() {
		_, err := s.get(ctx, "a", func(ctx context.Context) (int, error) {
			close(started)
			<-release
			return 1, ctx.Err()
		})
		left <- err
	}()
	<-started
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	close(release)
	if v, err := s.get(t.Context(), "a", func(context.Context) (int, error) { return 2, nil }); v != 1 || err != nil {
		t.Errorf("get = %d, %v; want what was made", v, err)
	}
}
