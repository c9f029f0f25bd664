package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
)

// A ciWatch tells how far the packages are: a bar on a terminal, a line for each
// package in a log, and one now and then while nothing gets done.
type ciWatch struct {
	s     Streams
	quiet bool

	mu          sync.Mutex
	did, of     int
	last        time.Time
	waited      time.Time // when it was last said that a request waits
	dirty       bool      // a line of the terminal is to be cleared
	currentText string
}

// aSign is how often a log says that something is still going on: some services
// end jobs that are silent for long.
const aSign = 30 * time.Second

func newWatch(s Streams, quiet bool) *ciWatch { return &ciWatch{s: s, quiet: quiet, last: time.Now()} }

// expect adds packages to those that are waited for.
func (w *ciWatch) expect(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of += n
}

// now says what goes on.
func (w *ciWatch) now(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.currentText = text
	if w.s.ErrTerminal {
		w.frame()
		return
	}
	if time.Since(w.last) >= aSign {
		w.line(fmt.Sprintf("[%d/%d] %s", w.did, w.of, text))
	}
}

// done says that a package is done.
func (w *ciWatch) done(p *ciPackage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did++
	w.line(fmt.Sprintf("[%d/%d] %s: %s", w.did, w.of, p.target.Short(), p.result()))
	if w.s.ErrTerminal {
		w.frame()
	}
}

// waits says that a request is sent again after a while.
func (w *ciWatch) waits(wait time.Duration, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wait >= time.Second && time.Since(w.waited) >= time.Second { // one line for all that wait together
		w.waited = time.Now()
		w.line(fmt.Sprintf("%s; asking again in %s", why, wait.Round(100*time.Millisecond)))
	}
}

// line writes a line of its own.
func (w *ciWatch) line(text string) {
	if w.quiet {
		return
	}
	w.clear()
	w.last = time.Now()
	fmt.Fprintln(w.s.Err, logged(text))
}

// frame draws the line that changes.
func (w *ciWatch) frame() {
	if w.quiet || w.of == 0 || w.dirty && time.Since(w.last) < perFrame {
		return
	}
	w.last, w.dirty = time.Now(), true
	text := []rune(fmt.Sprintf("%s %d of %d  %s", bar(int64(w.did), int64(w.of)), w.did, w.of, logged(w.currentText)))
	if width := max(w.s.Width, 60) - 1; len(text) > width {
		text = append(text[:width-1], '…')
	}
	fmt.Fprintf(w.s.Err, "\r\x1b[K%s", string(text))
}

func (w *ciWatch) clear() {
	if w.dirty {
		fmt.Fprint(w.s.Err, "\r\x1b[K")
		w.dirty = false
	}
}

// end clears the line.
func (w *ciWatch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clear()
}

// result says in a phrase what came of a package.
func (p *ciPackage) result() string {
	if p.err != nil {
		_, text := fault.Of(p.err)
		return "not looked at: " + text
	}
	text := fmt.Sprintf("risk %d %s", p.score, p.level)
	if len(p.findings) > 0 {
		text += ", " + p.counts()
	}
	return text
}

// counts says how many findings of which severity there are.
func (p *ciPackage) counts() string {
	n := map[finding.Severity]int{}
	for _, f := range p.findings {
		n[f.Severity]++
	}
	var parts []string
	for _, s := range finding.Severities() {
		if n[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

// logged makes a text fit for the log of a job: on one line, and with nothing in
// it that the runner of GitHub Actions takes for a command of its older form,
// which may stand anywhere in a line.
func logged(text string) string {
	text = finding.Printable(strings.Join(strings.Fields(text), " "), 2000)
	return strings.ReplaceAll(text, "##[", "## [")
}
