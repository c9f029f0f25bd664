package workspace

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

// A tarInput is where the blocks of a tar file come from: the file itself, or a
// decompressor.
type tarInput interface {
	// next reads one block of headers. At the end it returns io.EOF.
	next(*[blockSize]byte) error

	// take reads n bytes of the member called raw and returns those that are
	// kept of them as content, and their number. It leaves a note if a limit
	// keeps some away, and may return some together with an error.
	take(raw string, n int64) (c content, kept int64, err error)

	// skip passes over n bytes.
	skip(n int64) error
}

// stream is a decompressed stream whose kept parts go to a spool.
type stream struct {
	b    *builder
	r    *bufio.Reader // of run; only for looking ahead
	run  *run
	out  *spooler
	into *unpacked
}

// lookAhead is how much of a stream is looked at to see whether it is a tar
// file: those may begin with zeros.
const lookAhead = inputBuffer

// readStream reads a compressed file: a tar file in it, or the one file it is.
func (b *builder) readStream() error {
	a := b.archive
	own, _ := a.file.content.(*given)
	if own != nil {
		if t := own.taped.Load(); t != nil {
			return b.play(t)
		}
	}
	src, err := a.file.content.open(b.ctx)
	if err != nil {
		return err
	}
	defer src.close()
	r, err := b.w.newRun(b.ctx, a.kind, src, true)
	if err != nil {
		return err
	}
	defer r.end()
	u := &unpacked{w: b.w, from: a.file.content, kind: a.kind}
	a.base = u
	ahead := inputs.Get().(*bufio.Reader)
	ahead.Reset(r)
	defer func() { ahead.Reset(nil); inputs.Put(ahead) }()
	s := &stream{b: b, run: r, r: ahead, out: b.w.spools.start(4 * src.size), into: u}
	tar := recorder{tarInput: s, spoilt: own == nil}
	if s.startsTar() {
		b.name = "tar." + short[a.kind]
		err = readTar(b, &tar)
	} else {
		tar.spoilt = true
		err = s.single()
	}
	b.bytes += r.charged
	spool, spoolErr := s.out.finish()
	if spoolErr != nil {
		return cmp.Or(err, spoolErr)
	}
	u.keep(spool)
	if err == nil && !tar.spoilt {
		own.taped.Store(&tape{b.name, u, r.charged, tar.moves})
	}
	return err
}

var short = map[kind]string{gzipKind: "gz", bzip2Kind: "bz2", xzKind: "xz", zstdKind: "zst"}

// startsTar reports whether the first block that is not zero is a tar header.
func (s *stream) startsTar() bool {
	for n := blockSize; n <= lookAhead; n += blockSize {
		head, _ := s.r.Peek(n)
		if len(head) < n {
			return false
		}
		if block := (*[blockSize]byte)(head[n-blockSize:]); *block != zeroBlock {
			return isTarHeader(block)
		}
	}
	return false
}

// single reads a stream that is one file.
func (s *stream) single() error {
	name := s.run.name
	if name != "" {
		name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	}
	if name == "" || name == "." || name == "/" {
		name = s.b.archive.inner(s.b.shown)
	}
	c, n, err := s.take(name, math.MaxInt64)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(s.b.file(member{name: name, mode: s.b.archive.file.mode &^ 0o111, size: n, content: c}), err)
}

// inner is the name of what was packed, as the tools that unpack it choose it.
func (a *archive) inner(shown string) string {
	name := cmp.Or(a.label, strings.TrimSuffix(path.Base(shown), "!"))
	for _, suffix := range [...]struct{ packed, plain string }{
		{".tgz", ".tar"}, {".tbz2", ".tar"}, {".tbz", ".tar"}, {".txz", ".tar"}, {".tzst", ".tar"}, {".svgz", ".svg"},
		{".gz", ""}, {".bz2", ""}, {".xz", ""}, {".zst", ""}, {".zstd", ""},
	} {
		if len(name) > len(suffix.packed) && strings.EqualFold(name[len(name)-len(suffix.packed):], suffix.packed) {
			return name[:len(name)-len(suffix.packed)] + suffix.plain
		}
	}
	return name
}

// Read reads what was looked at ahead, then the stream.
func (s *stream) Read(p []byte) (int, error) {
	if n := s.r.Buffered(); n > 0 {
		return s.r.Read(p[:min(len(p), n)])
	}
	return s.run.Read(p)
}

// pos is how much of the stream has been read.
func (s *stream) pos() int64 { return s.run.out - int64(s.r.Buffered()) }

func (s *stream) next(block *[blockSize]byte) error {
	_, err := io.ReadFull(s, block[:])
	return err
}

func (s *stream) take(raw string, n int64) (content, int64, error) {
	limits := &s.b.w.budget.limits
	var (
		begin   = s.pos()
		used    = s.run.used()
		off     = s.out.size
		keep    = min(n, limits.FileBytes)
		why     string
		readErr error
	)
	for got := int64(0); got < keep && readErr == nil; got = s.pos() - begin {
		if s.bomb(begin, used) {
			why = s.ratioText()
			break
		}
		if s.hopeless() {
			readErr = limitError{s.ratioText()}
			break
		}
		readErr = s.out.fill(s, min(keep-got, step))
	}
	kept := s.out.size - off
	if kept > 0 {
		s.into.spans = append(s.into.spans, span{begin, kept})
	}
	c := section{s.into, off, kept}
	if readErr != nil && kept < n {
		return c, kept, readErr
	}
	if kept == n {
		return c, kept, nil
	}
	if why == "" {
		why = "more than one file may have"
	}
	err := s.skip(n - kept)
	if total := s.pos() - begin; total > kept {
		s.b.note(raw, "cut off after %d of %d bytes: %s", kept, total, why)
	}
	return c, kept, err
}

// bomb reports whether the member that began there unpacks to too much, in an
// archive that has done so as a whole. Small members go unsuspected, as
// decompressors work ahead of what they give; hopeless is for too many of them.
func (s *stream) bomb(begin, used int64) bool {
	limits := &s.b.w.budget.limits
	out := s.pos() - begin
	return out > unsuspected && out/limits.Ratio > s.run.used()-used && s.out.size >= limits.RatioFrom && s.aboveRatio()
}

func (s *stream) hopeless() bool {
	return s.out.size/hopelessFactor >= s.b.w.budget.limits.RatioFrom && s.aboveRatio()
}

func (s *stream) aboveRatio() bool { return s.pos()/s.b.w.budget.limits.Ratio >= s.run.used() }

func (s *stream) ratioText() string {
	return fmt.Sprintf("it unpacks to more than %d times its packed size", s.b.w.budget.limits.Ratio)
}

// unsuspected is as much as the blocks of most decompressors hold.
const unsuspected = 1 << 20

// hopelessFactor is how many times RatioFrom is kept of an archive above the
// ratio, whatever it consists of.
const hopelessFactor = 8

func (s *stream) skip(n int64) error {
	if ahead := min(n, int64(s.r.Buffered())); ahead > 0 {
		if _, err := s.r.Discard(int(ahead)); err != nil {
			return err
		}
		n -= ahead
	}
	return s.run.skip(n)
}
