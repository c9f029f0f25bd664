// Package parallel spreads work over the processors.
package parallel

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// For calls f for each i from 0 to n-1, from as many goroutines as there are
// processors, and returns when all calls have.
func For(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}

// Do calls all functions at the same time and returns when all have. If some
// panic, it does so with what the first of them did. They may touch the bytes
// of mapped files: what is no longer there is a panic.
func Do(all ...func()) {
	raised := make([]any, len(all))
	var wg sync.WaitGroup
	for i, f := range all[1:] {
		wg.Go(func() { raised[i+1] = caught(f) })
	}
	raised[0] = caught(all[0])
	wg.Wait()
	for _, v := range raised {
		if v != nil {
			panic(v)
		}
	}
}

// caught calls f and returns its panic.
func caught(f func()) (raised any) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { raised = recover() }()
	f()
	return nil
}
