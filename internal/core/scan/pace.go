package scan

import "time"

// pace is how long a scanner may take for one MB (2^20 bytes) of a file, where
// that comes to more than [Limits].FileTime. Analysis of code takes about a
// tenth of it on a slow machine.
const pace = 3 * time.Second

// fileTime returns how long one scanner may look at a file of that size.
func (l Limits) fileTime(size int64) time.Duration {
	return max(l.FileTime, time.Duration(min(size, l.FileSize)>>10)*(pace>>10))
}
