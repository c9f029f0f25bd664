package cli_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/faces/cli"
)

// scanInto scans an empty folder into a file with -o.
func scanInto(t *testing.T, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	s := cli.Streams{Out: &stdout, Err: &stderr, Env: func(string) string { return "" }}
	if code := cli.Main([]string{"scan", t.TempDir(), "--quiet", "--data", t.TempDir(), "--format", "json", "-o", out}, s); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
}

// TestOutputSparesWhatStandsThere writes a report where a link, a file with
// narrow rights and a pipe stand: the first must stay a link, the second keep
// its rights, and the third pass the report on.
func TestOutputSparesWhatStandsThere(t *testing.T) {
	dir := t.TempDir()
	narrow := filepath.Join(dir, "narrow.json")
	if err := os.WriteFile(narrow, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.json")
	if err := os.Symlink(narrow, link); err != nil {
		t.Skipf("this system makes no links: %v", err)
	}
	scanInto(t, link)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(narrow); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the rights are %v, %v; want 0600", info.Mode(), err)
	}
	if data, err := os.ReadFile(narrow); err != nil || !strings.Contains(string(data), "loupe-report/v1") {
		t.Errorf("the file behind the link holds %.40q, %v", data, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOutputIntoPipe(t *testing.T) {
	mkfifo, err := exec.LookPath("mkfifo")
	if err != nil {
		t.Skip("mkfifo is not installed")
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if out, err := exec.Command(mkfifo, pipe).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := os.OpenFile(pipe, os.O_RDWR, 0) // a reader that is there already
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scanInto(t, pipe)
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Fatalf("the pipe was replaced: %v, %v", info.Mode(), err)
	}
	head := make([]byte, 40)
	if _, err := io.ReadFull(f, head); err != nil || !strings.Contains(string(head), "loupe-report/v1") {
		t.Errorf("the reader got %q, %v", head, err)
	}
}
