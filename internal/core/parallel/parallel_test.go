package parallel_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/parallel"
)

func TestForCallsEachOnce(t *testing.T) {
	for _, n := range []int{0, 1, 2, 1000} {
		calls := make([]atomic.Int32, n)
		parallel.For(n, func(i int) { calls[i].Add(1) })
		for i := range calls {
			if c := calls[i].Load(); c != 1 {
				t.Errorf("For(%d) called f(%d) %d times", n, i, c)
			}
		}
	}
}

func TestDoRaisesThePanic(t *testing.T) {
	var ended atomic.Int32
	defer func() {
		if v := recover(); v != "second" || ended.Load() != 2 {
			t.Errorf("raised %v with %d others at their end", v, ended.Load())
		}
	}()
	parallel.Do(
		func() { ended.Add(1) },
		func() { panic("second") },
		func() { time.Sleep(time.Millisecond); ended.Add(1) },
	)
	t.Error("no panic")
}
