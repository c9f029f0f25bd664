//go:build unix

package workspace

import (
	"os"

	"golang.org/x/sys/unix"
)

func mapFile(f *os.File, off int64, n int) (pages []byte, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if failed := raw.Control(func(fd uintptr) {
		pages, err = unix.Mmap(int(fd), off, n, unix.PROT_READ, unix.MAP_PRIVATE)
	}); failed != nil {
		return nil, failed
	}
	return pages, err
}

func unmap(pages []byte) {
	_ = unix.Munmap(pages) // fails only for what is not mapped
}
