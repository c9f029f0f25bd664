// Package sandbox does work on hostile bytes in a process of its own: a copy of
// this program that has given up, before it sees the first of these bytes,
// whatever the system lets it give up. On Linux that is all of the file system
// but the files and folders that it is handed, the network, starting programs,
// and memory, time and file sizes beyond limits.
//
// The parent hands over open files, and takes what comes back for hostile: the
// child may have been taken over. A child that dies leaves what it has said so
// far. It has no opinion on what the work is.
package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// Command is the argument by which a copy of this program knows that it is to
// call [Main]. It is no command for people.
const Command = "sandboxed-analysis"

// A Mode says whether to use a sandbox.
type Mode string

// The modes.
const (
	Off  Mode = "off"  // work in this process
	Auto Mode = "auto" // use as much as this system offers
	On   Mode = "on"   // refuse to work where the file system cannot be closed off
)

// Modes lists the modes.
var Modes = []Mode{Off, Auto, On}

// ParseMode reads a mode; an empty text is Off.
func ParseMode(text string) (Mode, error) {
	for _, m := range Modes {
		if string(m) == cmp.Or(text, string(Off)) {
			return m, nil
		}
	}
	return Off, fmt.Errorf("there is no sandbox %q: choose from off, auto, on", text)
}

// Options bound a child. Zero fields mean the defaults.
type Options struct {
	Mode   Mode
	Memory int64         // of the child, in bytes, without files of the host that it maps
	Time   time.Duration // after which the child is ended
	File   int64         // of one temporary file, in bytes
}

// Defaults are for a machine with a few GiB of memory.
var Defaults = Options{Memory: 4 << 30, Time: time.Hour, File: 8 << 30}

func (o Options) orDefaults() Options {
	return Options{
		Mode:   cmp.Or(o.Mode, Off),
		Memory: cmp.Or(o.Memory, Defaults.Memory),
		Time:   cmp.Or(o.Time, Defaults.Time),
		File:   cmp.Or(o.File, Defaults.File),
	}
}

// cpu returns how many seconds of all processors together a child may use:
// more than its time allows, so that this limit is only for a parent that is
// gone.
func (o Options) cpu() uint64 {
	return uint64((o.Time + time.Minute).Seconds()) * uint64(runtime.GOMAXPROCS(0))
}

// Check refuses a mode that this system cannot serve.
func Check(m Mode) error {
	if m != On {
		return nil
	}
	if err := closable(); err != nil {
		return fault.New(fault.Unavailable, "there is no sandbox: %v", err).Try("use --sandbox auto for what this system offers")
	}
	return nil
}

// A Job is what a child is to do.
type Job[Request any] struct {
	Mounts  []workspace.Mount // what it may read; the functions that skip folders stay here
	Limits  workspace.Limits
	TempDir string // in which the child gets a folder; the system's if empty
	Request Request
}

// An Outcome says how a child worked.
type Outcome struct {
	Missing []string // restrictions that this system does not offer, phrases
	Ended   string   // why it ended before it was done, a phrase; empty if it was done
}

// errNotReady is why a child never began to work.
var errNotReady = errors.New("the sandboxed process did not start")

// Run has a child do a job, and calls tell, which may be nil, for each of its
// messages in order. Messages are the sender's word: only their sizes have been
// checked. An error of tell ends the child. Run fails if the child could not
// begin, and if ctx ended; everything else is an Outcome.
func Run[Request, Message any](ctx context.Context, opt Options, job Job[Request], tell func(*Message) error) (Outcome, error) {
	opt = opt.orDefaults()
	temp, err := os.MkdirTemp(job.TempDir, "loupe-sandbox-")
	if err != nil {
		return Outcome{}, err
	}
	defer os.RemoveAll(temp)
	if temp, err = filepath.Abs(temp); err != nil {
		return Outcome{}, err
	}
	files, mounts, err := hand(job.Mounts, temp)
	defer closeAll(files)
	if err != nil {
		return Outcome{}, err
	}
	p, err := start(ctx, opt, files)
	if err != nil {
		return Outcome{}, err
	}
	defer p.end()
	p.say(cell{Temp: temp, Folders: folders(mounts), Memory: opt.Memory, CPU: opt.cpu(), File: opt.File, Strict: opt.Mode == On},
		order[Request]{Temp: temp, Mounts: mounts, Limits: job.Limits, Request: job.Request})
	out, err := listen(p, tell)
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	return out, err
}

// listen reads what a child says until it is done or dead.
func listen[Message any](p *process, tell func(*Message) error) (Outcome, error) {
	var out Outcome
	ready, budget := false, int64(maxAnswer)
	for {
		var a answer[Message]
		err := readFrame(p.answers, &a, &budget)
		if err == nil && a.Message != nil && ready {
			err = tell(a.Message)
		}
		switch {
		case err != nil && !ready:
			return out, fmt.Errorf("%w: %s", errNotReady, p.end().reason(err))
		case err != nil:
			out.Ended = p.end().reason(err)
			return out, nil
		case a.Ready != nil && !ready:
			ready, out.Missing = true, a.Ready.Missing
		case a.Done != nil:
			out.Ended = finding.Printable(*a.Done, maxReason)
			return out, nil
		case a.Message == nil || !ready:
			out.Ended = p.end().reason(errors.New("it does not keep to the order of messages"))
			return out, nil
		}
	}
}

// A cell is what a child needs to know to lock itself up.
type cell struct {
	Temp    string // folder in which it may make files
	Folders []int  // descriptors of the folders that it may read
	Memory  int64  // bytes
	CPU     uint64 // seconds
	File    int64  // bytes
	Strict  bool   // it must not go on without the file system closed off
}

// An order is what it then is told to do.
type order[Request any] struct {
	Temp    string
	Mounts  []handed
	Limits  workspace.Limits
	Request Request
}

// A handed mount is a part of a workspace on its way to the child.
type handed struct {
	Part  workspace.Part
	Kind  workspace.MountKind
	FD    int    // of the file or folder
	Name  string // of a file or an archive; of a folder, on systems that cannot open it by its descriptor, its path
	Size  int64
	Strip int
	Skip  bool
}

// An answer is what comes back: first that the child is ready, then messages,
// then that it is done.
type answer[Message any] struct {
	Ready   *readiness
	Message *Message
	Done    *string // what ended the work early; empty if nothing did
}

// A readiness says what of the sandbox this system does not offer.
type readiness struct{ Missing []string }

// Descriptors of the child: its orders are on its standard input, and then there
// are
const (
	answersFD = 3
	firstFD   = 4 // of the mounts
)

// hand opens the files and folders of mounts for the child, read-only.
func hand(mounts []workspace.Mount, temp string) (files []*os.File, out []handed, err error) {
	for _, m := range mounts {
		h := handed{Part: m.Part, Kind: m.Kind, FD: firstFD + len(files), Name: m.Name, Size: m.Size, Strip: m.Strip, Skip: m.Skip != nil}
		var f *os.File
		switch file, isFile := m.Content.(*os.File); {
		case m.Kind == workspace.FolderMount:
			f, err = m.Root.Open(".")
			h.Name = m.Root.Name()
		case isFile:
			f, err = reopen(file)
		default:
			f, err = copyOf(m.Content, m.Size, temp)
		}
		if err != nil {
			return files, nil, err
		}
		files, out = append(files, f), append(out, h)
	}
	return files, out, nil
}

// copyOf returns a file without a name that holds what lies in memory.
func copyOf(content io.ReaderAt, size int64, temp string) (*os.File, error) {
	f, err := os.CreateTemp(temp, "part-*")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if _, err := io.Copy(f, io.NewSectionReader(content, 0, size)); err != nil {
		return nil, err
	}
	return os.Open(f.Name())
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func folders(mounts []handed) (fds []int) {
	for _, m := range mounts {
		if m.Kind == workspace.FolderMount {
			fds = append(fds, m.FD)
		}
	}
	return fds
}

// A process is a child at work.
type process struct {
	ctx     context.Context // ends with its time, or when it is no longer wanted
	stop    context.CancelFunc
	orders  *os.File
	answers *os.File
	errors  *beginning
	opt     Options

	ended chan struct{}
	state *os.ProcessState // once ended
}

var errTimeUp = errors.New("the time for it was used up")

// start starts a child.
func start(ctx context.Context, opt Options, files []*os.File) (*process, error) {
	self, err := itself()
	if err != nil {
		return nil, err
	}
	ordersIn, orders, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	answers, answersOut, err := os.Pipe()
	if err != nil {
		closeAll([]*os.File{ordersIn, orders})
		return nil, err
	}
	defer closeAll([]*os.File{ordersIn, answersOut})
	limited, stopTimer := context.WithTimeoutCause(ctx, opt.Time, errTimeUp)
	killable, cancel := context.WithCancel(limited)
	p := &process{
		ctx: limited, stop: func() { cancel(); stopTimer() },
		orders: orders, answers: answers, errors: &beginning{}, opt: opt, ended: make(chan struct{}),
	}
	cmd := exec.CommandContext(killable, self, Command)
	cmd.Args[0] = os.Args[0]
	cmd.Env = environment(opt)
	cmd.Stdin, cmd.Stderr = ordersIn, p.errors
	cmd.ExtraFiles = append([]*os.File{answersOut}, files...)
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = attributes()
	started := make(chan error, 1)
	go func() {
		// Linux ends the child when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the state tells
			p.state = cmd.ProcessState
		}
		close(p.ended)
	}()
	if err := <-started; err != nil {
		p.stop()
		closeAll([]*os.File{orders, answers})
		return nil, fmt.Errorf("%w: %w", errNotReady, err)
	}
	return p, nil
}

// environment is all that the child has of one: how it is to use memory and
// processors, which it cannot find out by itself.
func environment(opt Options) []string {
	env := []string{"GOMAXPROCS=" + strconv.Itoa(runtime.GOMAXPROCS(0)), "GOTRACEBACK=single"}
	if opt.Memory > 0 {
		env = append(env, fmt.Sprintf("GOMEMLIMIT=%d", opt.Memory/5*4))
	}
	return env
}

// say writes orders while the child reads them. The pipe stays open: its end
// tells the child that nobody waits for it any more.
func (p *process) say(c, o any) {
	go func() {
		if err := cmp.Or(writeFrame(p.orders, c), writeFrame(p.orders, o)); err != nil {
			p.stop() // it died, or the order cannot be written: listen says so
		}
	}()
}

// end ends the child if it still works, and waits for that. It may be called
// again.
func (p *process) end() *process {
	select {
	case <-p.ended:
	case <-time.After(grace):
	}
	p.stop()
	<-p.ended
	closeAll([]*os.File{p.orders, p.answers})
	return p
}

// grace is how long a child that is done, or that broke off, may take to exit.
const grace = 200 * time.Millisecond

// maxReason bounds the words of a child that go into a note, in bytes.
const maxReason = 300

// reason says why the child ended, whose answers ended with err.
func (p *process) reason(err error) string {
	said := p.errors.String()
	switch {
	case errors.Is(context.Cause(p.ctx), errTimeUp):
		return fmt.Sprintf("its time, %v, was used up", p.opt.Time)
	case strings.Contains(said, "out of memory"), strings.Contains(said, "cannot allocate memory"):
		return fmt.Sprintf("it needed more than %d MB of memory", p.opt.Memory>>20)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, os.ErrClosed):
		return err.Error()
	case p.state == nil:
		return "it ended for no known reason"
	}
	if text := signalled(p.state); text != "" {
		return text
	}
	first, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	if first == "" {
		return fmt.Sprintf("it failed (%v)", p.state)
	}
	return "it failed: " + finding.Printable(finding.Redact(first), maxReason)
}

// beginning keeps the first bytes that are written to it. Later ones are
// dropped: what killed a program stands at the beginning of what it prints.
type beginning struct {
	mu   sync.Mutex
	text []byte
}

const maxBeginning = 8 << 10

func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p[:min(len(p), maxBeginning-len(b.text))]...)
	return len(p), nil
}

func (b *beginning) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}
