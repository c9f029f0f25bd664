package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// Post sends data to rawURL once, and reads the answer, at most maxBytes of it:
// with 0 its status and header alone, so that no body can be in the way. It follows no redirect: what is sent was meant for one address. Any status is
// an answer; an error is a *fault.Error whose text holds no URL.
func (c *Client) Post(ctx context.Context, rawURL string, header http.Header, data []byte, maxBytes int64, timeout time.Duration) (*Response, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTotal)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, rawURL, bytes.NewReader(data))
	if err != nil || req.URL.Host == "" {
		return nil, fault.New(fault.Invalid, "the destination is not a URL")
	}
	if header != nil {
		req.Header = header.Clone()
	}
	host := req.URL.Host
	resp, err := c.RoundTrip(req)
	if err != nil {
		return nil, Explain(ctx, host, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBytes))
	if err != nil {
		return nil, Explain(ctx, host, err)
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, URL: req.URL, Body: answer}, nil
}

// DialTrusted connects to a server that the operator's own settings name,
// whatever its address.
func (c *Client) DialTrusted(ctx context.Context, network, address string) (net.Conn, error) {
	if c.opts.Offline {
		return nil, offline(address)
	}
	return c.dialOpen(ctx, network, address)
}

// TLS returns how to speak TLS to a server that the operator's own settings name.
func (c *Client) TLS(host string) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &tls.Config{ServerName: host, RootCAs: c.roots, MinVersion: tls.VersionTLS12}
}

// checkTime bounds the name service in CheckURL.
const checkTime = 2 * time.Second

// CheckURL says why somebody's rawURL is no place to which anything may be sent,
// or nil: it must be https, or http where private networks are allowed, of a
// host that does not lead to an address that is refused. A name that does not
// resolve now may do so later. The guard looks again at each request.
func (c *Client) CheckURL(ctx context.Context, rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return fault.New(fault.Invalid, "not a URL").Try("write it as https://host/path")
	}
	switch {
	case u.Scheme == "http" && !c.opts.AllowPrivate:
		return fault.New(fault.Invalid, "plain http is refused").Try("use https")
	case u.Scheme != "http" && u.Scheme != "https":
		return fault.New(fault.Invalid, "neither http nor https")
	case u.User != nil:
		return fault.New(fault.Invalid, "a user in a URL is refused")
	}
	if text := u.Port(); text != "" || strings.HasSuffix(u.Host, ":") {
		if port, err := strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return fault.New(fault.Invalid, "%q is no port", text)
		}
	}
	return c.CheckHost(ctx, hostname(u))
}

// CheckHost is the part of CheckURL about the host alone, in ASCII.
func (c *Client) CheckHost(ctx context.Context, host string) error {
	if _, err := netip.ParseAddr(host); err != nil {
		switch {
		case number(host):
			return fault.New(fault.Invalid, "an address that is written as a number is refused").Try("write it with dots")
		case !hostForm.MatchString(host) || len(host) > 253:
			return fault.New(fault.Invalid, "not the name of a host")
		}
	}
	if (host == "localhost" || strings.HasSuffix(host, ".localhost")) && !c.opts.AllowPrivate {
		return fault.New(fault.Invalid, "%s leads to this machine, which is refused", host)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	_, err := c.allowed(ctx, host)
	if fault.Is(err, fault.Forbidden) {
		_, text := fault.Of(err)
		return fault.New(fault.Invalid, "%s", text)
	}
	return nil
}

// hostForm is the name of a host, less the dot at its end (RFC 1123, section 2.1).
// The underscore is not allowed there, and is used.
var hostForm = pattern.New(`^[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*$`)

// lastNumber is a name whose last label is a number, which makes all of it an
// IPv4 address (URL Standard, "ends in a number checker").
var lastNumber = pattern.New(`(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.?$`)

// number says whether a host, which is no address in its usual form, is one in a
// spelling that only some resolvers know: with few parts, in hexadecimal or octal
// (inet_aton).
func number(host string) bool { return lastNumber.MatchString(host) }
