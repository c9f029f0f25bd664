//go:build unix

package workspace_test

import (
	"path/filepath"
	"syscall"
	"testing"
)

// irregular makes a FIFO in the folder, and returns the note about it. Opening
// it would wait for ever.
func irregular(t *testing.T, dir string) []string {
	t.Helper()
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666))
	return []string{"pipe: not looked at: it is a named pipe"}
}
