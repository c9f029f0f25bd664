package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
)

// A request asks a child of these tests to try something.
type request struct{ Try, With string }

// A message is what came of it.
type message struct {
	Text   string
	Number int
	Err    string
	Denied bool // the error is one of permission
}

// TestMain is also what the children run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Command {
		os.Exit(sandbox.Main(os.Args[2:], func(dir string) bool { return dir == "skipped" }, try))
	}
	if len(os.Args) > 1 && os.Args[1] == "be-a-parent" {
		os.Exit(beParent())
	}
	os.Exit(m.Run())
}

// attempts are what a child can be asked to try, by name.
var attempts = map[string]func(ws *workspace.Workspace, with string) (string, error){
	"read": func(_ *workspace.Workspace, with string) (string, error) {
		data, err := os.ReadFile(with)
		return string(data), err
	},
	"list": func(_ *workspace.Workspace, with string) (string, error) {
		entries, err := os.ReadDir(with)
		return fmt.Sprint(entries), err
	},
	"write":   func(_ *workspace.Workspace, with string) (string, error) { return "", os.WriteFile(with, nil, 0o600) },
	"remove":  func(_ *workspace.Workspace, with string) (string, error) { return "", os.Remove(with) },
	"execute": func(_ *workspace.Workspace, with string) (string, error) { return "", exec.Command(with).Run() },
	"dial": func(_ *workspace.Workspace, with string) (string, error) {
		network, address, _ := strings.Cut(with, " ")
		c, err := net.DialTimeout(network, address, time.Second)
		if err == nil {
			_, err = c.Write([]byte("x"))
		}
		return "", err
	},
	"listen": func(*workspace.Workspace, string) (string, error) {
		_, err := net.Listen("tcp", "127.0.0.1:0")
		return "", err
	},
	"signal": func(_ *workspace.Workspace, with string) (string, error) {
		pid, err := strconv.Atoi(with)
		if err == nil {
			err = syscall.Kill(pid, 0)
		}
		return "", err
	},
	"tgkill": func(_ *workspace.Workspace, with string) (string, error) {
		pid, _ := strconv.Atoi(with)
		_, _, errno := syscall.Syscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(pid), 0)
		if errno != 0 {
			return "", errno
		}
		return "", nil
	},
	"descriptors": func(*workspace.Workspace, string) (string, error) {
		// Each file that is open for writing, but for pipes, is a way out.
		var open []string
		for fd := range 64 {
			flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0)
			var st syscall.Stat_t
			if errno == 0 && syscall.Fstat(fd, &st) == nil && flags&syscall.O_ACCMODE != syscall.O_RDONLY && st.Mode&syscall.S_IFMT == syscall.S_IFREG {
				open = append(open, strconv.Itoa(fd))
			}
		}
		return strings.Join(open, " "), nil
	},
	"environment": func(*workspace.Workspace, string) (string, error) { return strings.Join(os.Environ(), " "), nil },
	"memory": func(_ *workspace.Workspace, with string) (string, error) {
		mb, err := strconv.Atoi(with)
		var kept [][]byte
		for range mb {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
		}
		return fmt.Sprint(len(kept)), err
	},
	"walk": func(ws *workspace.Workspace, _ string) (string, error) {
		var out []string
		err := ws.Walk(context.Background(), func(e workspace.Entry) error {
			f, err := e.Open()
			if err != nil {
				return err
			}
			defer f.Close()
			data, err := io.ReadAll(f)
			out = append(out, fmt.Sprintf("%s=%s of %s", e.Path, data, e.Part.Label))
			return err
		})
		return strings.Join(out, "\n"), err
	},
	"panic": func(*workspace.Workspace, string) (string, error) { panic("at the \x1b[2Jdisco") },
	"hang":  func(*workspace.Workspace, string) (string, error) { select {} },
}

func try(_ context.Context, ws *workspace.Workspace, q request, tell func(*message) error) error {
	switch q.Try {
	case "talk": // without end
		for n := 0; ; n++ {
			if err := tell(&message{Number: n}); err != nil {
				return err
			}
		}
	case "flood":
		return tell(&message{Text: strings.Repeat("x", 200<<20)})
	case "garbage":
		_, err := os.NewFile(3, "").Write([]byte{0xff, 0xff, 0xff, 0x7f, 1, 2, 3})
		return err
	case "fail":
		return errors.New("it is Monday")
	}
	if err := tell(&message{Text: "begun", Number: os.Getpid()}); err != nil {
		return err
	}
	text, err := attempts[q.Try](ws, q.With)
	m := message{Text: text, Denied: errors.Is(err, fs.ErrPermission)}
	if err != nil {
		m.Err = err.Error()
	}
	return tell(&m)
}

// run has a child try something, and returns the last it said.
func run(t *testing.T, opt sandbox.Options, q request, mounts ...workspace.Mount) (message, sandbox.Outcome) {
	t.Helper()
	var last message
	out, err := sandbox.Run(t.Context(), opt, sandbox.Job[request]{Mounts: mounts, Request: q}, func(m *message) error {
		last = *m
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last, out
}

// closed skips a test where nothing can be closed off.
func closed(t *testing.T) {
	t.Helper()
	if err := sandbox.Check(sandbox.On); err != nil {
		t.Skipf("needs Landlock: %v", err)
	}
}

func TestNothingIsLeftToTheChild(t *testing.T) {
	closed(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	dir := t.TempDir()
	unix, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	here := filepath.Join(dir, "mine")
	if err := os.WriteFile(here, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	filtered := runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"
	for _, test := range []struct {
		try, with string
		needs     bool
	}{
		{"read", "/etc/passwd", true},
		{"read", here, true},
		{"read", "/proc/self/environ", true},
		{"read", "/proc/" + strconv.Itoa(os.Getpid()) + "/environ", true},
		{"list", "/", true},
		{"list", "/proc/self/fd", true},
		{"write", here, true},
		{"write", filepath.Join(dir, "new"), true},
		{"write", "/dev/null", true},
		{"remove", here, true},
		{"execute", "/bin/true", true},
		{"execute", self, filtered},
		{"dial", "tcp " + tcp.Addr().String(), true},
		{"dial", "udp " + udp.LocalAddr().String(), filtered},
		{"dial", "unix " + filepath.Join(dir, "s"), filtered},
		{"listen", "", true},
		{"signal", strconv.Itoa(os.Getpid()), filtered},
		{"tgkill", strconv.Itoa(os.Getpid()), true},
	} {
		if !test.needs {
			continue
		}
		got, out := run(t, sandbox.Options{Mode: sandbox.On}, request{test.try, test.with})
		if !got.Denied {
			t.Errorf("%s %s: %+v; want that it is denied", test.try, test.with, got)
		}
		if out.Ended != "" {
			t.Errorf("%s %s: ended: %s", test.try, test.with, out.Ended)
		}
	}
	if _, err := os.Stat(here); err != nil {
		t.Error(err)
	}
}

// TestTheSameIsAllowedOutside shows that the attempts can succeed at all.
func TestTheSameIsAllowedOutside(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, q := range []request{
		{"read", "/etc/passwd"}, {"list", "/"}, {"execute", "/bin/true"}, {"dial", "tcp " + tcp.Addr().String()}, {"listen", ""},
		{"write", filepath.Join(t.TempDir(), "new")}, {"signal", strconv.Itoa(os.Getpid())}, {"tgkill", strconv.Itoa(os.Getpid())},
	} {
		if _, err := attempts[q.Try](nil, q.With); err != nil {
			t.Errorf("%s %s: %v", q.Try, q.With, err)
		}
	}
}

func TestEnvironmentIsEmpty(t *testing.T) {
	t.Setenv("LOUPE_TEST_TOKEN", "secret")
	got, _ := run(t, sandbox.Options{Mode: sandbox.Auto}, request{Try: "environment"})
	for word := range strings.FieldsSeq(got.Text) {
		if !slices.Contains([]string{"GOMAXPROCS", "GOTRACEBACK", "GOMEMLIMIT"}, strings.Split(word, "=")[0]) {
			t.Errorf("the environment of the child holds %s", word)
		}
	}
}

// mounts makes a workspace of a folder, a file, something in memory and a file
// that is gone, and returns its mounts.
func mounts(t *testing.T) []workspace.Mount {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"folder/a/b": "ab", "folder/skipped/c": "c", "file": "f", "gone": "g"} {
		name = filepath.Join(dir, name)
		if err := cmpErr(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(filepath.Join(dir, "folder"))
	if err != nil {
		t.Fatal(err)
	}
	file, err1 := os.OpenFile(filepath.Join(dir, "file"), os.O_RDWR, 0)
	gone, err2 := os.OpenFile(filepath.Join(dir, "gone"), os.O_RDWR, 0)
	if err := cmpErr(err1, err2, os.Remove(filepath.Join(dir, "gone"))); err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, "")
	t.Cleanup(func() { ws.Close() })
	if err := cmpErr(
		ws.MountDir(workspace.Part{Label: "one"}, root, func(d string) bool { return d == "skipped" }),
		ws.MountFile(workspace.Part{Prefix: "p", Label: "two"}, "file", file, 1, file),
		ws.MountFile(workspace.Part{Prefix: "p", Label: "three"}, "gone", gone, 1, gone),
		ws.MountFile(workspace.Part{Label: "four"}, "memory", strings.NewReader("m"), 1, nil),
	); err != nil {
		t.Fatal(err)
	}
	return ws.Mounts()
}

func cmpErr(errs ...error) error { return errors.Join(errs...) }

func TestMounts(t *testing.T) {
	for _, mode := range []sandbox.Mode{sandbox.Auto, sandbox.On} {
		if mode == sandbox.On && sandbox.Check(mode) != nil {
			continue
		}
		got, out := run(t, sandbox.Options{Mode: mode}, request{Try: "walk"}, mounts(t)...)
		want := "a/b=ab of one\nmemory=m of four\np/file=f of two\np/gone=g of three"
		if got.Text != want || got.Err != "" || out.Ended != "" {
			t.Errorf("%s: %+v, %+v; want %s", mode, got, out, want)
		}
	}
}

func TestFilesAreHandedOverToBeRead(t *testing.T) {
	if got, _ := run(t, sandbox.Options{Mode: sandbox.Auto}, request{Try: "descriptors"}, mounts(t)...); got.Text != "" {
		t.Errorf("the child can write to the descriptors %s", got.Text)
	}
}

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		name, try, with string
		opt             sandbox.Options
		want            string
		talks           bool // there are messages before the end
	}{
		{"panic", "panic", "", sandbox.Options{}, `it failed: panic: at the \x1b[2Jdisco`, true},
		{"time", "hang", "", sandbox.Options{Time: 300 * time.Millisecond}, "its time, 300ms, was used up", true},
		{"error", "fail", "", sandbox.Options{}, "it is Monday", false},
		{"flood", "flood", "", sandbox.Options{}, "a message of 200 MB is longer than the limit of 128 MB", false},
		{"garbage", "garbage", "", sandbox.Options{}, "a message of 2047 MB is longer than the limit of 128 MB", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opt.Mode = sandbox.Auto
			got, out := run(t, test.opt, request{test.try, test.with})
			if out.Ended != test.want {
				t.Errorf("ended: %q; want %q", out.Ended, test.want)
			}
			if talks := got.Text == "begun"; talks != test.talks {
				t.Errorf("last message %+v", got)
			}
		})
	}
}

func TestMemoryLimit(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector maps more memory than any limit allows")
	}
	opt := sandbox.Options{Mode: sandbox.Auto, Memory: 256 << 20}
	if got, out := run(t, opt, request{"memory", "100"}); got.Text != "100" || out.Ended != "" {
		t.Errorf("100 MB of 256: %+v, %+v; want them", got, out)
	}
	if got, out := run(t, opt, request{"memory", "1000"}); got.Text != "begun" || out.Ended != "it needed more than 256 MB of memory" {
		t.Errorf("1000 MB of 256: %+v, %+v; want the end", got, out)
	}
}

func TestKilledChild(t *testing.T) {
	n := 0
	out, err := sandbox.Run(t.Context(), sandbox.Options{Mode: sandbox.Auto}, sandbox.Job[request]{Request: request{Try: "hang"}}, func(m *message) error {
		n++
		return syscall.Kill(m.Number, syscall.SIGKILL)
	})
	if err != nil || n != 1 || !strings.Contains(out.Ended, "killed") {
		t.Errorf("%d messages, %+v, %v; want one and that it was killed", n, out, err)
	}
}

func TestCancelledRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pid := 0
	began := time.Now()
	_, err := sandbox.Run(ctx, sandbox.Options{Mode: sandbox.Auto}, sandbox.Job[request]{Request: request{Try: "hang"}}, func(m *message) error {
		pid = m.Number
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v; want that it was cancelled, soon", err, time.Since(began))
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the child %d is still there: %v", pid, err)
	}
}

func TestUnwantedMessageEndsTheChild(t *testing.T) {
	n := 0
	out, err := sandbox.Run(t.Context(), sandbox.Options{Mode: sandbox.Auto}, sandbox.Job[request]{Request: request{Try: "talk"}}, func(m *message) error {
		if n++; n == 100 {
			return errors.New("enough")
		}
		return nil
	})
	if err != nil || n != 100 || out.Ended != "enough" {
		t.Errorf("%d messages, %+v, %v", n, out, err)
	}
}

// beParent starts a child that never ends, and tells its number.
func beParent() int {
	_, err := sandbox.Run(context.Background(), sandbox.Options{Mode: sandbox.Auto}, sandbox.Job[request]{Request: request{Try: "hang"}}, func(m *message) error {
		_, err := fmt.Println(m.Number)
		return err
	})
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestNoOrphans kills a parent and waits for its child to go.
func TestNoOrphans(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self, "be-a-parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	parent.Env = append(os.Environ(), "TMPDIR="+temp)
	parent.Stderr = os.Stderr
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("the child is not there: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	for range 100 {
		if err := syscall.Kill(child, 0); errors.Is(err, syscall.ESRCH) || zombie(child) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the child %d outlives its parent", child)
}

// zombie reports whether a process has ended and only waits to be asked how.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	return err == nil && strings.HasPrefix(after, "Z")
}

func TestTemporaryFilesAreGone(t *testing.T) {
	temp := t.TempDir()
	_, err := sandbox.Run(t.Context(), sandbox.Options{Mode: sandbox.Auto}, sandbox.Job[request]{TempDir: temp, Mounts: mounts(t), Request: request{Try: "walk"}}, func(*message) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left", left, err)
	}
}

func TestParseMode(t *testing.T) {
	for text, want := range map[string]sandbox.Mode{"": sandbox.Off, "off": sandbox.Off, "auto": sandbox.Auto, "on": sandbox.On} {
		if got, err := sandbox.ParseMode(text); got != want || err != nil {
			t.Errorf("ParseMode(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	if _, err := sandbox.ParseMode("max"); err == nil {
		t.Error("there is a mode max")
	}
}

func TestCheck(t *testing.T) {
	for _, m := range []sandbox.Mode{sandbox.Off, sandbox.Auto} {
		if err := sandbox.Check(m); err != nil {
			t.Errorf("Check(%s) = %v", m, err)
		}
	}
	if err := sandbox.Check(sandbox.On); err != nil && !fault.Is(err, fault.Unavailable) {
		t.Errorf("Check(on) = %v; want a fault", err)
	}
}
