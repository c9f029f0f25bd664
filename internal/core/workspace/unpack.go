package workspace

import (
	"bufio"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the memory that the history of one decompressor may take. It is
// what xz -9 and zstd --ultra need; only deliberate settings need more.
const maxWindow = 128 << 20

const inputBuffer = 32 << 10

// A decoder is one decompressor at work. It knows how many packed bytes it has
// used, which the ratio is about.
type decoder struct {
	io.Reader
	name  string // that the stream gives its content; gzip only
	in    *bufio.Reader
	taken int64 // bytes read from the source, those in the buffer included
	src   io.Reader
	check func() error // whether to go on
	done  func()
}

// source counts what a decoder reads, and stops it in the midst of whatever it
// does with much input and little output.
type source struct{ d *decoder }

func (c source) Read(p []byte) (int, error) {
	if err := c.d.check(); err != nil {
		return 0, err
	}
	n, err := c.d.src.Read(p)
	c.d.taken += int64(n)
	return n, err
}

func (d *decoder) used() int64 { return d.taken - int64(d.in.Buffered()) }

func (d *decoder) close() {
	if d.done != nil {
		d.done()
	}
	d.in.Reset(nil) // a pooled reader must not keep the source alive
	inputs.Put(d.in)
}

var (
	inputs   = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, inputBuffer) }}
	gzips    = sync.Pool{New: func() any { return new(gzip.Reader) }}
	inflates = sync.Pool{New: func() any { return flate.NewReader(nil) }}
)

// newDecoder returns a decompressor of kind k that reads src as long as check
// does not fail.
func newDecoder(k kind, src handle, check func() error) (*decoder, error) {
	d := &decoder{in: inputs.Get().(*bufio.Reader), src: io.NewSectionReader(src, 0, src.size), check: check}
	d.in.Reset(source{d})
	var err error
	switch k {
	case gzipKind:
		z := gzips.Get().(*gzip.Reader)
		d.done = func() { gzips.Put(z) }
		if err = z.Reset(d.in); err == nil {
			z.Multistream(false)
			d.Reader, d.name = &gzipMembers{z: z, in: d.in}, z.Name
		}
	case deflateKind:
		z := inflates.Get().(io.ReadCloser)
		d.done = func() { inflates.Put(z) }
		err = z.(flate.Resetter).Reset(d.in, nil)
		d.Reader = z
	case bzip2Kind:
		d.Reader = bzip2.NewReader(d.in)
	case xzKind:
		d.Reader, err = newXZReader(d, src)
	case zstdKind:
		var z *zstd.Decoder
		z, err = zstd.NewReader(d.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			d.Reader, d.done = z, z.Close
		}
	}
	if err != nil {
		d.close()
		return nil, fmt.Errorf("%s: %w", k, trimmed(err))
	}
	return d, nil
}

// gzipMembers reads the members of a gzip file one after the other (RFC 1952,
// 2.2) and says what else follows them.
type gzipMembers struct {
	z  *gzip.Reader
	in *bufio.Reader
}

func (g *gzipMembers) Read(p []byte) (int, error) {
	n, err := g.z.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	switch next, perr := g.in.Peek(2); {
	case len(next) == 2 && next[0] == 0x1f && next[1] == 0x8b:
		if err = g.z.Reset(g.in); err == nil {
			g.z.Multistream(false)
		}
		return n, err
	case perr != nil && !errors.Is(perr, io.EOF):
		return n, perr
	}
	if c, err := firstNonZero(g.in); err == nil && c != 0 {
		return n, errors.New("other data follows the packed data")
	}
	return n, io.EOF
}

// firstNonZero skips padding.
func firstNonZero(r *bufio.Reader) (byte, error) {
	for {
		if c, err := r.ReadByte(); c != 0 || err != nil {
			return c, err
		}
	}
}

// trimmed makes the ends of streams sound alike.
func trimmed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errEnds
	}
	return err
}

var errEnds = errors.New("the data ends early")

// A run is one decompression, under the limits of the workspace.
type run struct {
	*decoder
	ctx     context.Context
	w       *Workspace
	began   time.Time
	charge  bool  // to the budget; false for what was charged before
	charged int64 // bytes
	out     int64 // bytes that came out
	idle    int   // reads in a row that gave nothing
	err     error // what ended it
}

func (w *Workspace) newRun(ctx context.Context, k kind, src handle, charge bool) (*run, error) {
	r := &run{ctx: ctx, w: w, began: time.Now(), charge: charge}
	if err := r.proceed(); err != nil {
		return nil, err
	}
	var err error
	r.decoder, err = newDecoder(k, src, r.proceed)
	return r, err
}

func (r *run) proceed() error { return r.w.proceed(r.ctx, r.began) }

func (r *run) end() {
	r.w.budget.spend(r.began)
	r.decoder.close()
}

// step is how much is unpacked between two looks at context, clock and ratio.
const step = 256 << 10

func (r *run) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.read(p)
	r.err = err
	return n, err
}

func (r *run) read(p []byte) (int, error) {
	if err := r.proceed(); err != nil {
		return 0, err
	}
	n, err := r.decoder.Read(p[:min(len(p), step)])
	if errors.Is(err, io.ErrUnexpectedEOF) { // which readers of blocks would take for their own
		err = errEnds
	}
	if n == 0 && err == nil && len(p) > 0 {
		if r.idle++; r.idle > 1_000_000 { // empty blocks are legal, but there is no use in so many
			return 0, io.ErrNoProgress
		}
		return 0, nil
	}
	r.idle = 0
	if r.charge {
		got, limit := r.w.budget.takeBytes(int64(n))
		r.charged += got
		if limit != nil {
			n, err = int(got), limit
		}
	}
	r.out += int64(n)
	return n, err
}

// skip discards n bytes.
func (r *run) skip(n int64) error {
	buf := scratch.Get().(*[firstRoom]byte)
	defer scratch.Put(buf)
	for n > 0 {
		got, err := r.Read(buf[:min(n, firstRoom)])
		n -= int64(got)
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}

var scratch = sync.Pool{New: func() any { return new([firstRoom]byte) }}

// A span is a part of a stream.
type span struct{ off, n int64 }

// unpacked is content that a decompressor makes from other content. It is
// unpacked into a spool when it is read, and again should the spool have had
// to make room.
type unpacked struct {
	w    *Workspace
	from content
	kind kind

	// spans of the stream are what the spool holds, in order.
	spans []span

	// check is for content that is unpacked when first opened: what comes out
	// may be less, or wrong, and a note tells. Otherwise the spans have been
	// seen to be there.
	check *checksum

	flight  flight
	spool   *spool
	problem string
}

// A checksum is what a zip directory promises about a member.
type checksum struct {
	crc   uint32
	whole bool // the span is all of the member, not cut by a limit
}

func (u *unpacked) open(ctx context.Context) (handle, error) {
	if err := u.flight.enter(ctx); err != nil {
		return handle{}, err
	}
	defer u.flight.leave()
	if u.spool == nil || !u.w.spools.retain(u.spool) {
		s, err := u.unpack(ctx)
		if err != nil {
			return handle{}, err
		}
		u.spool = s
	}
	h := u.spool.handle()
	h.problem = u.problem
	return h, nil
}

// keep hands over a spool made while the spans were found, and its reference.
func (u *unpacked) keep(s *spool) {
	u.spool = s
	u.w.spools.release(s)
}

func (u *unpacked) unpack(ctx context.Context) (*spool, error) {
	src, err := u.from.open(ctx)
	if err != nil {
		return nil, err
	}
	defer src.close()
	total := int64(0)
	for _, s := range u.spans {
		total += s.n
	}
	out := u.w.spools.start(u.expect(total, src.size))
	if u.check != nil {
		out.sum = crc32.NewIEEE()
	}
	err = u.fill(ctx, src, out)
	if stop := u.w.alive(ctx); stop != nil {
		err = stop
	} else if spoolErr := (spoolError{}); errors.As(err, &spoolErr) {
	} else if err != nil && u.check != nil {
		u.problem, err = fmt.Sprintf("cut off after %d of %d bytes: %v", out.size, total, trimmed(err)), nil
	}
	if err != nil {
		out.abort()
		return nil, err
	}
	return out.finish()
}

// expect returns how much memory to start with: what was promised, but no more
// than the packed bytes make likely.
func (u *unpacked) expect(total, packed int64) int64 {
	if u.check == nil {
		return total
	}
	return min(total, packed*20+firstRoom)
}

// fill unpacks the spans into out.
func (u *unpacked) fill(ctx context.Context, src handle, out *spooler) error {
	r, err := u.w.newRun(ctx, u.kind, src, false)
	if err != nil {
		return err
	}
	defer r.end()
	for _, s := range u.spans {
		if err := r.skip(s.off - r.out); err != nil {
			return err
		}
		for end := s.off + s.n; r.out < end; {
			if err := out.fill(r, end-r.out); err != nil && r.out < end {
				return err
			}
		}
	}
	if u.check != nil && u.check.whole {
		u.verify(r, out)
	}
	return nil
}

// verify compares what a whole member of a zip file has unpacked to with its
// directory. The content stays either way.
func (u *unpacked) verify(r *run, out *spooler) {
	var more [1]byte
	if n, _ := r.Read(more[:]); n > 0 {
		u.problem = "cut off: it unpacks to more bytes than the archive's directory says"
		return
	}
	if out.sum.Sum32() != u.check.crc {
		u.problem = "its checksum is not the one in the archive's directory"
	}
}

// head unpacks the first bytes into p without keeping them.
func (u *unpacked) head(ctx context.Context, p []byte) (int, error) {
	src, err := u.from.open(ctx)
	if err != nil {
		return 0, err
	}
	defer src.close()
	r, err := u.w.newRun(ctx, u.kind, src, false)
	if err != nil {
		return 0, err
	}
	defer r.end()
	return io.ReadFull(r, p)
}
