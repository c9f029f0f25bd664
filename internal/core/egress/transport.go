package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// buildTransports makes the transports: an open one for trusted origins and for
// what a proxy reaches, one whose dialer is the guard, and one whose guard lets
// private networks pass. They share no connections. The caller holds the lock
// or is New.
func (c *Client) buildTransports() {
	c.open = &http.Transport{
		Proxy:                  func(r *http.Request) (*url.URL, error) { return c.proxy(r.URL) },
		DialContext:            c.dialOpen,
		TLSClientConfig:        &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    c.opts.DialTime,
		ResponseHeaderTimeout:  c.opts.HeaderTime,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    c.opts.PerHost,
		MaxResponseHeaderBytes: 256 << 10,
		ForceAttemptHTTP2:      true,
	}
	c.guarded = c.open.Clone()
	c.guarded.Proxy = nil
	c.guarded.DialContext = c.Dial
	c.vouched = c.guarded.Clone()
	c.vouched.DialContext = c.dialVouched
}

// RoundTrip sends one request, without redirects or retries.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	if c.opts.Offline {
		return nil, offline(req.URL.Host)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "%q is not a scheme of the web", req.URL.Scheme).Try("use https")
	}
	if err := checkOnly(req); err != nil {
		return nil, err
	}
	release, err := c.acquire(req.Context(), req.URL.Host)
	if err != nil {
		return nil, err
	}
	transport, err := c.route(req)
	if err != nil {
		release()
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	req = req.Clone(ctx)
	req.Header.Set("User-Agent", c.agent)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		cancel(nil)
		release()
		return nil, err
	}
	b := &body{
		inner: resp.Body, ctx: ctx, idle: c.opts.IdleTime, left: c.opts.MaxBytes, max: c.opts.MaxBytes, host: req.URL.Host,
		pace: pace{over: c.opts.RateTime, min: c.opts.MinRate},
	}
	b.timer = time.AfterFunc(c.opts.IdleTime, func() { cancel(errIdle) })
	b.timer.Stop() // it runs while a read waits
	b.done = sync.OnceFunc(func() { b.timer.Stop(); cancel(nil); release() })
	resp.Body = b
	return resp, nil
}

// route picks the transport for a request.
func (c *Client) route(req *http.Request) (*http.Transport, error) {
	c.mu.Lock()
	trusted, open, direct := c.trusted[origin(req.URL)], c.open, c.guarded
	allowed := c.allowed
	if isVouched(req.Context()) {
		direct, allowed = c.vouched, c.allowedAnywhere
	}
	c.mu.Unlock()
	if trusted {
		return open, nil
	}
	via, err := c.proxy(req.URL)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the proxy setting of the environment is not a URL").Try("correct HTTP_PROXY or HTTPS_PROXY")
	}
	if via == nil {
		return direct, nil
	}
	// The proxy resolves the name, and where there is a proxy this machine
	// often can't. What can be judged from here is judged.
	host := hostname(req.URL)
	addrs, err := allowed(req.Context(), host)
	if fault.Is(err, fault.Forbidden) {
		return nil, err
	}
	if a, perr := netip.ParseAddr(host); perr == nil && !slices.Contains(addrs, a.Unmap()) {
		return nil, c.refused(host, errors.New("an address that cannot be judged"))
	}
	return open, nil
}

// slots holds what counts the requests to each host.
type slots struct {
	mu     sync.Mutex
	byHost map[string]*slot
}

// A slot counts the requests to one host.
type slot struct {
	tokens chan struct{}
	users  int // who hold or wait for a token; at zero the slot is forgotten
}

// acquire waits until there may be one more request to host, and returns what
// ends it.
func (c *Client) acquire(ctx context.Context, host string) (release func(), err error) {
	c.slots.mu.Lock()
	s := c.slots.byHost[host]
	if s == nil {
		s = &slot{tokens: make(chan struct{}, c.opts.PerHost)}
		c.slots.byHost[host] = s
	}
	s.users++
	c.slots.mu.Unlock()
	leave := func() {
		c.slots.mu.Lock()
		defer c.slots.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(c.slots.byHost, host)
		}
	}
	select {
	case s.tokens <- struct{}{}:
		return func() { <-s.tokens; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

var errIdle = errors.New("no byte for too long")

// body is a response's body with an idle timer, a lowest rate and a cap.
type body struct {
	inner io.ReadCloser
	ctx   context.Context
	timer *time.Timer
	idle  time.Duration
	pace  pace
	left  int64
	max   int64
	host  string
	done  func()
	err   error // the first failure of the network or the cap
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.timer.Reset(b.idle)
	defer b.timer.Stop()
	if b.left == 0 { // is there one more byte?
		var probe [1]byte
		n, err := io.ReadFull(b.inner, probe[:])
		if n > 0 {
			b.err = tooBig(b.host, b.max)
		} else {
			b.err = b.cause(err)
		}
		return 0, b.err
	}
	began := time.Now()
	n, err := b.inner.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case err != nil:
		b.err = b.cause(err)
	case b.pace.tooSlow(int64(n), time.Since(began)):
		b.err = errSlow
	}
	return n, b.err
}

// A pace measures how fast bytes come, over one stretch of time after the
// other. Only the time in which they are waited for counts: a slow reader is
// nobody's fault.
type pace struct {
	over   time.Duration
	min    int64 // bytes per second
	reads  int
	bytes  int64
	waited time.Duration
}

// tooSlow counts a read, and judges at the end of a stretch. One read alone is
// left to the idle timer: all of a short answer may have come with it.
func (p *pace) tooSlow(n int64, waited time.Duration) bool {
	p.reads, p.bytes, p.waited = p.reads+1, p.bytes+n, p.waited+waited
	if p.waited < p.over || p.reads < 2 {
		return false
	}
	slow := float64(p.bytes) < float64(p.min)*p.waited.Seconds()
	p.reads, p.bytes, p.waited = 0, 0, 0
	return slow
}

// cause tells a reader which of our own clocks cancelled it.
func (b *body) cause(err error) error {
	if !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), errIdle) {
		return errIdle
	}
	return err
}

func (b *body) Close() error {
	defer b.done()
	return b.inner.Close()
}
