package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// program is this program, even if it was replaced on disk since it started.
const program = "/proc/self/exe"

func itself() (string, error) {
	if _, err := os.Stat(program); err != nil {
		return os.Executable()
	}
	return program, nil
}

// attributes are of the process of a child: it ends with its parent, and belongs
// to no terminal.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
}

// descriptor is the path by which a process finds what it has open (proc(5)).
func descriptor(fd uintptr) string { return "/proc/self/fd/" + strconv.FormatUint(uint64(fd), 10) }

// reopen opens a file once more, to be read only, also one without a name.
func reopen(f *os.File) (*os.File, error) { return os.Open(descriptor(f.Fd())) }

func folderPath(h handed) string { return descriptor(uintptr(h.FD)) }

// signalled says which signal ended a process, or nothing.
func signalled(state *os.ProcessState) string {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return ""
	}
	if status.Signal() == syscall.SIGKILL {
		return "it was killed, as happens when a system runs out of memory"
	}
	return fmt.Sprintf("it was ended by a signal (%v)", status.Signal())
}

// lockUp gives up what the cell does not allow, and starts this program anew
// with what is left. It returns only if it fails.
func lockUp(c cell) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	missing, err := closeOff(c)
	if err != nil {
		if c.Strict {
			return err
		}
		missing = append(missing, err.Error())
	}
	missing = append(missing, limit(c)...)
	self, err := itself()
	if err != nil {
		return err
	}
	return fmt.Errorf("exec: %w", syscall.Exec(self, append([]string{os.Args[0], Command, lockedUp}, missing...), os.Environ()))
}

// limit sets the limits of the process (setrlimit(2)), and returns what could
// not be limited. Data is what a program writes to in memory, and not the
// address space, of which Go reserves much more than it uses, nor mapped files.
func limit(c cell) (missing []string) {
	for _, l := range []struct {
		name     string
		resource int
		most     uint64
	}{
		{"memory", unix.RLIMIT_DATA, uint64(max(c.Memory, 0))},
		{"the time of processors", unix.RLIMIT_CPU, c.CPU},
		{"the size of files", unix.RLIMIT_FSIZE, uint64(c.File)},
		{"open files", unix.RLIMIT_NOFILE, maxOpen},
		{"core dumps", unix.RLIMIT_CORE, 0},
	} {
		if l.resource == unix.RLIMIT_DATA && (c.Memory < 0 || shadowed) {
			continue
		}
		var now unix.Rlimit
		err := unix.Getrlimit(l.resource, &now)
		if err == nil {
			most := min(l.most, now.Max)
			err = unix.Setrlimit(l.resource, &unix.Rlimit{Cur: most, Max: most})
		}
		if err != nil {
			missing = append(missing, fmt.Sprintf("a limit on %s (%v)", l.name, err))
		}
	}
	return missing
}

// maxOpen is more files than a scan has open at once.
const maxOpen = 4096

// Landlock, by the kernel's Documentation/userspace-api/landlock.rst: a ruleset
// handles accesses, which are denied from then on but for what its rules allow.
// Each version of its ABI can handle more.

const (
	readFolder = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	runFile    = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	useTemp    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
)

// landlockABI returns the version that the kernel has.
func landlockABI() (int, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(abi), nil
	case unix.ENOSYS:
		return 0, errors.New("this kernel has no Landlock")
	case unix.EOPNOTSUPP:
		return 0, errors.New("Landlock is turned off in this kernel")
	}
	return 0, fmt.Errorf("Landlock cannot be used here (%w)", errno)
}

// closable says why the file system cannot be closed off.
func closable() error {
	_, err := landlockABI()
	return err
}

// handledBy returns what a version of the ABI can handle, and what it cannot yet.
func handledBy(abi int) (attr unix.LandlockRulesetAttr, missing []string) {
	attr.Handled_access_fs = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // all of version 1
	if abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	} else {
		missing = append(missing, "Landlock for the network (Linux 6.7)")
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	} else {
		missing = append(missing, "Landlock for signals (Linux 6.12)")
	}
	return attr, missing
}

// closeOff denies this thread all files but those of the cell and those that
// this program consists of, and the network.
func closeOff(c cell) (missing []string, err error) {
	abi, err := landlockABI()
	if err != nil {
		return nil, err
	}
	attr, missing := handledBy(abi)
	size := unsafe.Offsetof(attr.Quiet_access_fs)
	switch {
	case abi < 4: // whose kernels know a shorter structure
		size = unsafe.Offsetof(attr.Handled_access_net)
	case abi < 6:
		size = unsafe.Offsetof(attr.Scoped)
	}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return missing, fmt.Errorf("Landlock cannot be used here (%w)", errno)
	}
	defer unix.Close(int(set))
	allow := func(path string, access uint64) error {
		return beneath(int(set), path, access&attr.Handled_access_fs)
	}
	if err := allow(c.Temp, useTemp); err != nil {
		return missing, err
	}
	for _, fd := range c.Folders {
		if err := allow(descriptor(uintptr(fd)), readFolder); err != nil {
			return missing, err
		}
	}
	for _, name := range ownFiles() {
		if err := allow(name, runFile); err != nil {
			return missing, err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return missing, fmt.Errorf("Landlock cannot be used here (%w)", errno)
	}
	return missing, nil
}

// beneath adds a rule: access is allowed to a file, or below a folder.
func beneath(set int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	// The kernel's structure is packed: eight bytes, four bytes.
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("Landlock cannot be used here (%w)", errno)
	}
	return nil
}

// ownFiles lists what this program was started from: itself, and if it is linked
// dynamically, the linker and the libraries, as /proc/self/maps has them.
func ownFiles() []string {
	out := []string{program}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(maps)) {
		if _, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " /"); ok {
			if info, err := os.Stat("/" + path); err == nil && info.Mode().IsRegular() && !slices.Contains(out, "/"+path) {
				out = append(out, "/"+path)
			}
		}
	}
	return out
}
