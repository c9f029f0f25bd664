package workspace

import (
	"bytes"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// canDrop says that dropPages works.
const canDrop = true

// A resident tells how much of the memory of the process belongs to files, by
// the third number of /proc/self/statm (proc_pid_statm(5)).
type resident struct{ statm *os.File }

func openResident() resident {
	f, err := os.Open("/proc/self/statm")
	if err != nil {
		return resident{}
	}
	return resident{f}
}

// bytes returns a number above all others if the system does not tell, as in a
// sandbox without /proc.
func (r resident) bytes() int64 {
	if r.statm == nil {
		return math.MaxInt64
	}
	var buf [128]byte
	n, _ := r.statm.ReadAt(buf[:], 0) // ends with EOF
	fields := bytes.Fields(buf[:n])
	if len(fields) < 3 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[2]), 10, 64) // 0 if it is no number
	return pages * int64(os.Getpagesize())
}

func (r resident) close() {
	if r.statm != nil {
		r.statm.Close()
	}
}

// dropPages takes pages out of the memory of the process. They are never
// written to, so nothing is lost.
func dropPages(pages []byte) {
	_ = unix.Madvise(pages, unix.MADV_DONTNEED) // advice may go unheard
}
