// Package parallel spreads a loop over the processors.
package parallel

import (
	"runtime"
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
