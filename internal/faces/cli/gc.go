package cli

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Most commands are done before the heap is large, and with the default
// setting the garbage collector spends a quarter of their time on heaps of a
// few MB. So it first looks at one of 64 MB. Heaps that are large hold the
// analysis of large binaries, which is quick to collect, as there are few
// pointers in it: they are given less room than usual, for the sake of the peak.
const (
	first        = 64 << 20 // bytes of the heap that may always be
	room         = 32 << 20 // bytes of garbage that may come together beyond them
	lazyPercent  = 100 * first / runtimeFirst
	leastPercent = 30

	// runtimeFirst is when the runtime collects for the first time, at 100 %.
	runtimeFirst = 4 << 20
)

// tuneGC makes the garbage collector lazy while the heap is small and strict
// once it is large, unless the user has said in GOGC what it should do.
func tuneGC(env func(string) string) {
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
		if live[0].Value.Kind() == metrics.KindUint64 {
			heap := max(live[0].Value.Uint64(), 1)
			percent := (max(heap+room, first) - heap) * 100 / heap
			debug.SetGCPercent(int(min(max(percent, leastPercent), lazyPercent)))
		}
		watchGC()
	})
}
