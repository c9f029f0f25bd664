//go:build unix && !linux

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

func itself() (string, error) { return os.Executable() }

// attributes are of the process of a child: it belongs to no terminal. That it
// ends with its parent, it finds out by its standard input.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// reopen hands a file over as it is: there is no way to open it anew.
func reopen(f *os.File) (*os.File, error) {
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func folderPath(h handed) string { return h.Name }

func closable() error { return errors.New("Landlock is Linux's") }

// signalled says which signal ended a process, or nothing.
func signalled(state *os.ProcessState) string {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Sprintf("it was ended by a signal (%v)", status.Signal())
	}
	return ""
}

// lockUp sets limits, and starts this program anew. It returns only if it fails.
func lockUp(c cell) error {
	missing := []string{"Landlock, which is Linux's"}
	for _, l := range []struct {
		name     string
		resource int
		most     uint64
	}{
		{"memory", syscall.RLIMIT_DATA, uint64(max(c.Memory, 0))},
		{"the time of processors", syscall.RLIMIT_CPU, c.CPU},
		{"the size of files", syscall.RLIMIT_FSIZE, uint64(c.File)},
		{"core dumps", syscall.RLIMIT_CORE, 0},
	} {
		if l.resource == syscall.RLIMIT_DATA && (c.Memory < 0 || shadowed) {
			continue
		}
		var now syscall.Rlimit
		err := syscall.Getrlimit(l.resource, &now)
		now.Max = least(now.Max, l.most)
		now.Cur = now.Max
		if err != nil || syscall.Setrlimit(l.resource, &now) != nil {
			missing = append(missing, "a limit on "+l.name)
		}
	}
	self, err := itself()
	if err != nil {
		return err
	}
	return fmt.Errorf("exec: %w", syscall.Exec(self, append([]string{os.Args[0], Command, lockedUp}, missing...), os.Environ()))
}

// least returns the lower of two limits; systems count with signs or without.
func least[N int64 | uint64](now N, most uint64) N {
	if uint64(now) < most {
		return now
	}
	return N(most)
}
