//go:build unix

package workspace_test

import (
	"path/filepath"
	"syscall"
	"testing"
)

// irregular makes a FIFO in the folder. Opening it would wait for ever.
func irregular(t *testing.T, dir string) {
	t.Helper()
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666))
}
