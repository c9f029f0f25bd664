package egress

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// maxWait bounds how long a server's Retry-After is honoured.
const maxWait = 20 * time.Second

// A Response is an answer that was read whole.
type Response struct {
	Status int
	Header http.Header
	URL    *url.URL // after redirects
	Body   []byte
}

// Get fetches rawURL and reads the body, at most maxBytes of it (0 means the
// client's cap). It is for documents, which have less time than files. A status
// of 4xx is an answer, not an error; 429 and 5xx are errors once the attempts
// are used up.
func (c *Client) Get(ctx context.Context, rawURL string, header http.Header, maxBytes int64) (*Response, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.DocumentTime, errTotal)
	defer cancel()
	var out *Response
	err := c.Fetch(ctx, rawURL, header, maxBytes, func(resp *http.Response) error {
		data, err := io.ReadAll(resp.Body)
		out = &Response{Status: resp.StatusCode, Header: resp.Header, URL: resp.Request.URL, Body: data}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Fetch fetches rawURL and hands each answer to read, whose body is capped at
// maxBytes (0 means the client's cap). If the body breaks off, read is called
// again with a new answer and must start afresh. An error of the network, of
// the caps and of the guard comes back as a *fault.Error whose text holds no
// URL; an error of read's own comes back as it is.
func (c *Client) Fetch(ctx context.Context, rawURL string, header http.Header, maxBytes int64, read func(*http.Response) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.Timeout, errTotal)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil || req.URL.Host == "" {
		return fault.New(fault.Invalid, "an address is not a URL").Try("check the registry settings")
	}
	if header != nil {
		req.Header = header.Clone()
	}
	for attempt := 1; ; attempt++ {
		wait, err := c.attempt(req, maxBytes, read)
		if wait < 0 || attempt >= c.opts.Attempts {
			return err
		}
		if wait == 0 {
			wait = c.opts.Backoff << (attempt - 1)
			wait += time.Duration(rand.Int64N(int64(wait)/4 + 1)) // so that many clients do not come back at once
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// never says that another attempt would end the same way.
const never = -1

// attempt does one request. The returned time says when to try again: never,
// 0 for the usual pause, or as long as the server asks for.
func (c *Client) attempt(req *http.Request, maxBytes int64, read func(*http.Response) error) (time.Duration, error) {
	host := req.URL.Host
	resp, err := c.get.Do(req)
	if err != nil {
		return again(req.Context(), err), Explain(req.Context(), host, err)
	}
	defer resp.Body.Close()
	host = resp.Request.URL.Host
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // lets the connection be used again
		return retryAfter(resp), status(host, resp.StatusCode)
	}
	b := resp.Body.(*body)
	if maxBytes > 0 {
		b.left, b.max = min(maxBytes, b.left), min(maxBytes, b.max)
	}
	if resp.ContentLength > b.max {
		return never, tooBig(host, b.max)
	}
	err = read(resp)
	if b.err != nil && !errors.Is(b.err, io.EOF) {
		return again(req.Context(), b.err), Explain(req.Context(), host, b.err)
	}
	return never, err
}

// retryAfter reads Retry-After (RFC 9110, section 10.2.3).
func retryAfter(resp *http.Response) time.Duration {
	v := resp.Header.Get("Retry-After")
	if v == "" {
		return 0
	}
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(v); err == nil && seconds >= 0 {
		wait = time.Duration(min(seconds, 1<<20)) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		wait = max(0, time.Until(at))
	}
	if wait > maxWait {
		return never
	}
	return wait
}

// again says whether an error may pass by itself.
func again(ctx context.Context, err error) time.Duration {
	if _, ours := errors.AsType[*fault.Error](err); ours || ctx.Err() != nil || permanent(err) {
		return never
	}
	return 0
}
