package cli

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Most commands are done before the heap is large, and with the default
// setting the garbage collector spends a quarter of their time on heaps of a
// few MB. So it starts lazy and becomes its usual self once there is something
// to collect.
const (
	lazyPercent = 400
	largeHeap   = 32 << 20 // live bytes
)

// relaxGC makes the garbage collector lazy while the heap is small, unless the
// user has said in GOGC what it should do.
func relaxGC(env func(string) string) {
	if env("GOGC") == "" {
		debug.SetGCPercent(lazyPercent)
		watchGC()
	}
}

// watchGC looks at the heap after each collection: an object that nobody holds
// is finalized by each.
func watchGC() {
	type sentinel struct{ _ [16]byte }
	runtime.SetFinalizer(new(sentinel), func(*sentinel) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if live[0].Value.Kind() == metrics.KindUint64 && live[0].Value.Uint64() > largeHeap {
			debug.SetGCPercent(100)
			return
		}
		watchGC()
	})
}
