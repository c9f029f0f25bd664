package code

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// syscallText has the tables of system calls. A line with a colon begins a
// table; the others have a number and the names from that number on. The test
// of this file makes it.
//
//go:embed syscalls.txt
var syscallText string

// syscallTables are the names by table and number.
var syscallTables = sync.OnceValue(func() map[string]map[int]string {
	out := map[string]map[int]string{}
	var table map[int]string
	for line := range strings.Lines(syscallText) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutSuffix(line, ":"); ok {
			table = map[int]string{}
			out[name] = table
			continue
		}
		first, names, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		for name := range strings.FieldsSeq(names) {
			table[n] = name
			n++
		}
	}
	return out
})

// syscallName returns the name of a system call, by the system of the image and
// its instruction set; empty if that is not known.
func syscallName(m *image.Image, number int) string {
	switch m.OS {
	case "darwin", "macos", "ios":
		// On x86-64 the class of a call stands in the upper byte, and 2 is that of
		// Unix (xnu, osfmk/mach/i386/syscall_sw.h).
		const class, unix = 24, 2
		if m.Arch == image.X86_64 && number>>class == unix {
			number &= 1<<class - 1
		}
		return syscallTables()["darwin"][number]
	case "freebsd":
		return syscallTables()["freebsd"][number]
	case "linux", "android", "":
		return syscallTables()["linux/"+string(m.Arch)][number]
	}
	return ""
}
