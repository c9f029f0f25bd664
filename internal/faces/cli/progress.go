package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/enrich"
)

// A progress tells a person who waits what goes on: one line that changes on a
// terminal, a line for each file that is fetched and every few seconds of
// scanning in a pipe.
type progress struct {
	s     Streams
	quiet bool

	mu    sync.Mutex
	last  time.Time // of the last line
	what  string    // that was said last in a pipe
	dirty bool      // a line of the terminal is to be cleared
}

// How often a line appears: on a terminal as fast as an eye follows, in a pipe
// so that a log stays short.
const (
	perFrame = 80 * time.Millisecond
	perLine  = 5 * time.Second
)

func newProgress(s Streams, quiet bool) *progress {
	return &progress{s: s, quiet: quiet, last: time.Now()}
}

func (p *progress) event(e scan.Event) {
	if p.quiet || e.Progress == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.ErrTerminal {
		p.frame(e.Progress)
		return
	}
	p.line(e.Progress)
}

// frame draws over the last line.
func (p *progress) frame(now *scan.Progress) {
	if time.Since(p.last) < perFrame {
		return
	}
	p.last, p.dirty = time.Now(), true
	width := max(p.s.Width, 60) - 1
	text := []rune(words(now))
	if len(text) > width {
		text = append(text[:width-1], '…')
	}
	fmt.Fprintf(p.s.Err, "\r\x1b[K%s", string(text))
}

// line prints a line if there is something new to say.
func (p *progress) line(now *scan.Progress) {
	fetched := now.Phase == scan.Acquire && now.What != p.what
	if !fetched && time.Since(p.last) < perLine {
		return
	}
	p.last, p.what = time.Now(), now.What
	fmt.Fprintln(p.s.Err, words(now))
}

func words(now *scan.Progress) string {
	what := finding.Printable(now.What, 120)
	if now.Phase == scan.Acquire {
		if now.Total > 0 {
			return fmt.Sprintf("fetching %s %s %s of %s", what, bar(now.Done, now.Total), enrich.Bytes(now.Done), enrich.Bytes(now.Total))
		}
		return fmt.Sprintf("fetching %s %s", what, enrich.Bytes(now.Done))
	}
	return fmt.Sprintf("scanning %s: %d files, %s", what, now.Files, enrich.Bytes(now.Done))
}

// bar is ten cells, as full as done is of total.
func bar(done, total int64) string {
	n := int(min(done, total) * 10 / total)
	return "[" + strings.Repeat("=", n) + strings.Repeat(" ", 10-n) + "]"
}

// done clears the line.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dirty {
		fmt.Fprint(p.s.Err, "\r\x1b[K")
	}
}
