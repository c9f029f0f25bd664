package scan

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// Options bound the work and watch it. Zero values mean the defaults.
type Options struct {
	Workers int           // files looked at at once; one a processor
	Event   func(Event)   // called from one goroutine at a time; may be nil
	Limits  Limits        // what the scan may use
	Cache   Cache         // what earlier scans found out; nil for none
	Only    []string      // names of the scanners that may run; none means all
	Grace   time.Duration // how long a scanner may go on after its time is up before it is left behind
}

// Limits are what a scan may use. What does not fit leaves a note.
type Limits struct {
	FileSize int64         // of one file, in bytes; where files cannot be mapped, 1 GiB is the most
	Memory   int64         // of files looked at at once, in bytes: what is made of one may be as large; one file may exceed it alone
	FileTime time.Duration // of one scanner on one file: a hostile file must not starve the others
	Time     time.Duration // of the whole scan: a scan that never ends is no answer
}

// DefaultLimits suit a machine with a few GiB of memory.
var DefaultLimits = Limits{
	FileSize: 4 << 30,
	Memory:   2 * memoryEach,
	FileTime: 2 * time.Minute,
	Time:     30 * time.Minute,
}

// memoryEach is how much [Limits].Memory is for one worker, if nothing else is
// said: most files are smaller, and larger ones had better wait for each other.
const memoryEach = 24 << 20

func (o Options) withDefaults() Options {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Limits.FileSize <= 0 {
		o.Limits.FileSize = DefaultLimits.FileSize
	}
	if o.Limits.Memory <= 0 {
		o.Limits.Memory = max(DefaultLimits.Memory, int64(o.Workers)*memoryEach)
	}
	if o.Limits.FileTime <= 0 {
		o.Limits.FileTime = DefaultLimits.FileTime
	}
	if o.Limits.Time <= 0 {
		o.Limits.Time = DefaultLimits.Time
	}
	if o.Grace <= 0 {
		o.Grace = 2 * time.Second
	}
	return o
}

// A pool hands out bytes of memory. A request larger than the whole waits
// until it is alone.
type pool struct {
	mu   sync.Mutex
	free *sync.Cond
	used int64
	size int64
}

func newPool(size int64) *pool {
	p := &pool{size: size}
	p.free = sync.NewCond(&p.mu)
	return p
}

// take waits for n bytes or for the end of ctx.
func (p *pool) take(ctx context.Context, n int64) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.free.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.used > 0 && p.used+n > p.size {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.free.Wait()
	}
	p.used += n
	return nil
}

func (p *pool) give(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used -= n
	p.free.Broadcast()
}
