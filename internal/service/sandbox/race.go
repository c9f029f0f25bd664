//go:build race

package sandbox

// shadowed says that the race detector is at work, which maps far more memory
// for itself than any limit allows.
const shadowed = true
