package endurance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

var given = flag.String("program", "", "a `file` to test, rather than what is built of this source")

// program is where the program is, which is built once.
var program = sync.OnceValues(func() (string, error) {
	if *given != "" {
		return filepath.Abs(*given)
	}
	name := filepath.Join(folder, "loupe")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", name, "../../cmd/loupe").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return name, nil
})

var folder string // of the program

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if folder, err = os.MkdirTemp("", "endurance"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	return m.Run()
}

// A site is a database, and how to start processes on it.
type site struct {
	t        testing.TB
	data     string // folder
	database store.Options
	env      []string
	registry *registry
	receiver *receiver
}

// each runs a test on a new site with each engine.
func each(t *testing.T, binaries int, slow time.Duration, f func(t *testing.T, s *site)) {
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		t.Run(string(engine), func(t *testing.T) { f(t, newSite(t, engine, binaries, slow)) })
	}
}

func newSite(t testing.TB, engine store.Engine, binaries int, slow time.Duration) *site {
	t.Helper()
	s := &site{t: t, data: t.TempDir(), registry: newRegistry(t, binaries, slow), receiver: newReceiver(t)}
	s.database = store.Options{Path: filepath.Join(s.data, "loupe.db")}
	if engine == store.Postgres {
		s.database = storetest.Options(t, engine)
	}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		s.env = append(s.env, name+"="+os.Getenv(name))
	}
	s.env = append(s.env, "npm_config_registry="+s.registry.URL, "LOUPE_ALLOW_PRIVATE_NETWORKS=true", "LOUPE_DATA="+s.data)
	if s.database.URL != "" {
		s.env = append(s.env, "LOUPE_DATABASE_URL="+s.database.URL)
	}
	return s
}

// store opens the database beside the processes.
func (s *site) store() *store.Store { return storetest.Open(s.t, s.database) }

// command runs the program to its end and reads the JSON that it prints.
func (s *site) command(out any, args ...string) {
	s.t.Helper()
	name, err := program()
	if err != nil {
		s.t.Fatal(err)
	}
	c := exec.CommandContext(s.t.Context(), name, args...)
	var said bytes.Buffer
	c.Env, c.Stderr = s.env, &said
	text, err := c.Output()
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		s.t.Fatalf("loupe %s: %v\n%s", strings.Join(args, " "), err, said.Bytes())
	}
}

// A tenant is an organisation and a key of it.
type tenant struct{ id, key string }

func (s *site) tenant(slug string) tenant {
	s.t.Helper()
	var org, key struct {
		ID  string `json:"id"`
		Key string `json:"key"`
	}
	s.command(&org, "org", "create", "--name", slug, "--slug", slug, "--json")
	s.command(&key, "key", "create", "--org", slug, "--label", "endurance", "--json")
	return tenant{org.ID, key.Key}
}

// A process is a server or a worker.
type process struct {
	site  *site
	args  []string
	addr  string // of a server
	cmd   *exec.Cmd
	log   string        // file with what it says on its standard error
	ended chan struct{} // closed when it has
	err   error         // how it did
}

// server returns a server that has an address and is not started. Its port is none
// of those that systems give to outgoing connections, so that it is still there
// after a restart.
func (s *site) server(args ...string) *process {
	s.t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err != nil {
			continue // somebody has it
		}
		addr := l.Addr().String()
		l.Close()
		return &process{site: s, args: append([]string{"serve", "--listen", addr}, args...), addr: addr, log: filepath.Join(s.t.TempDir(), "log")}
	}
	s.t.Fatal("no port is free")
	return nil
}

func (s *site) worker(args ...string) *process {
	return &process{site: s, args: append([]string{"worker"}, args...), log: filepath.Join(s.t.TempDir(), "log")}
}

// start starts a process. It is killed when the test ends.
func (p *process) start() {
	t := p.site.t
	t.Helper()
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // it has the file by then
	p.cmd = exec.CommandContext(context.Background(), name, p.args...)
	p.cmd.Env, p.cmd.Stderr = p.site.env, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	p.ended = ended
	cmd := p.cmd
	go func() {
		p.err = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
}

// ready waits until a server answers.
func (p *process) ready() time.Duration {
	t := p.site.t
	t.Helper()
	began := time.Now()
	for time.Since(began) < time.Minute {
		resp, err := http.Get("http://" + p.addr + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(began)
			}
		}
		select {
		case <-p.ended:
			said := p.said()
			if bytes.Contains(said, []byte("is taken")) && time.Since(began) < 10*time.Second {
				time.Sleep(50 * time.Millisecond) // a child that was just being started may still hold the address of who was killed
				p.start()
				continue
			}
			t.Fatalf("loupe %s ended: %v\n%s", strings.Join(p.args, " "), p.err, said)
		case <-time.After(2 * time.Millisecond):
		}
	}
	t.Fatalf("loupe %s does not answer", strings.Join(p.args, " "))
	return 0
}

// said returns the end of what a process said since it was started.
func (p *process) said() []byte {
	text, _ := os.ReadFile(p.log) // or nothing, beside the failure that is told
	return text[max(0, len(text)-2000):]
}

// kill ends a process as a failing machine would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// stop asks a process to end, and returns how long that took.
func (p *process) stop() time.Duration {
	t := p.site.t
	t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("loupe %s does not end", strings.Join(p.args, " "))
	}
	if p.err != nil {
		t.Errorf("loupe %s: %v\n%s", strings.Join(p.args, " "), p.err, p.said())
	}
	return time.Since(began)
}

// cpu returns the processor time that a process and its ended children took
// (proc_pid_stat(5), fields 14 to 17, in ticks of 10 ms).
func (p *process) cpu() (own, children time.Duration) {
	p.site.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if errors.Is(err, os.ErrNotExist) {
		p.site.t.Skip("there is no /proc, which tells what processes take")
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	ticks := func(i int) time.Duration {
		n, _ := strconv.Atoi(fields[i-3])
		return time.Duration(n) * 10 * time.Millisecond
	}
	return ticks(14) + ticks(15), ticks(16) + ticks(17)
}

// resident returns what a process has in memory, in bytes.
func (p *process) resident() int {
	p.site.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.site.t.Skip("there is no /proc, which tells what processes take")
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n, _ := strconv.Atoi(strings.Fields(rest)[0])
	return n << 10
}

// machine says how busy the machine is, and with how many processors.
func machine() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load unknown"
	}
	return "load " + strings.Fields(string(text))[0]
}
