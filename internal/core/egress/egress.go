// Package egress is the only way out. It resolves a name once, refuses private,
// link-local and reserved addresses, and connects to the address that it
// checked. Every answer has a cap in size and time, every redirect is checked
// like a first request, and credentials never follow one to another origin.
//
// Origins that the operator's own settings name (registries, databases, a
// proxy) are trusted and skip the address check: mirrors often sit on private
// or reserved addresses, and so do the stores behind them, to which they may
// redirect a request. The package refuses to talk at all when it is offline.
package egress

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/idna"
)

// Options configures a Client. A zero field means the default beside it.
type Options struct {
	Version      string        // of Loupe, for the user agent; "dev"
	AllowPrivate bool          // private and loopback addresses are allowed; those that hand out cloud credentials never are
	Offline      bool          // every request fails without touching the network
	Timeout      time.Duration // of a request with its redirects, retries and body; 10 minutes
	HeaderTime   time.Duration // until the headers of an answer have arrived; 30 s
	IdleTime     time.Duration // between two reads of a body; 30 s
	RateTime     time.Duration // over which a body must come at MinRate; 20 s
	MinRate      int64         // bytes per second; 1000
	DocumentTime time.Duration // of a Get, like Timeout; 2 minutes
	DialTime     time.Duration // of a connection, name resolution included; 10 s
	MaxRedirects int           // 5; negative means none
	MaxBytes     int64         // of a body after decompression, where a request names no cap; 1 GiB
	Attempts     int           // of a GET that fails in passing; 3
	Backoff      time.Duration // before the second attempt, doubled for each further one; 250 ms
	PerHost      int           // requests at once to one host; 8

	// Resolve looks up a name; nil asks the system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// A Client makes all requests of one run of the program. It is safe for
// concurrent use.
type Client struct {
	opts  Options
	http  *http.Client // for others, with the time-out inside
	get   *http.Client // for Fetch, which has its own
	agent string
	proxy func(*url.URL) (*url.URL, error)

	slots *slots

	mu      sync.Mutex
	open    *http.Transport            // to trusted origins and through proxies
	vouched *http.Transport            // to where a trusted origin redirects
	guarded *http.Transport            // to all others
	trusted map[string]bool            // by origin
	roots   *x509.CertPool             // nil for those of the system, which are read when a request needs them
	added   map[[sha256.Size]byte]bool // to roots
}

// New returns a client. It reads the proxy settings of the environment
// (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) once.
func New(opts Options) *Client {
	opts.Timeout = cmp.Or(opts.Timeout, 10*time.Minute)
	opts.HeaderTime = cmp.Or(opts.HeaderTime, 30*time.Second)
	opts.IdleTime = cmp.Or(opts.IdleTime, 30*time.Second)
	opts.RateTime = cmp.Or(opts.RateTime, 20*time.Second)
	opts.MinRate = cmp.Or(opts.MinRate, 1000)
	opts.DocumentTime = cmp.Or(opts.DocumentTime, 2*time.Minute)
	opts.DialTime = cmp.Or(opts.DialTime, 10*time.Second)
	opts.MaxRedirects = cmp.Or(opts.MaxRedirects, 5)
	opts.MaxBytes = cmp.Or(opts.MaxBytes, 1<<30)
	opts.Attempts = max(1, cmp.Or(opts.Attempts, 3))
	opts.Backoff = cmp.Or(opts.Backoff, 250*time.Millisecond)
	opts.PerHost = max(1, cmp.Or(opts.PerHost, 8))
	c := &Client{
		opts:    opts,
		agent:   "loupe/" + cmp.Or(opts.Version, "dev"),
		proxy:   httpproxy.FromEnvironment().ProxyFunc(),
		slots:   &slots{byHost: map[string]*slot{}},
		trusted: map[string]bool{},
		added:   map[[sha256.Size]byte]bool{},
	}
	return c.ready()
}

// ready makes what sends the requests of c.
func (c *Client) ready() *Client {
	c.buildTransports()
	c.get = &http.Client{Transport: c, CheckRedirect: c.checkRedirect}
	c.http = &http.Client{Transport: c, CheckRedirect: c.checkRedirect, Timeout: c.opts.Timeout}
	return c
}

// Branch returns a client that trusts what c trusts now, and whose own Trust
// and TrustCertificates concern nobody else: what one target's registry names
// must not open a door for what another target asks. Both count requests to a
// host together. Close the branch after use.
func (c *Client) Branch() *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &Client{
		opts: c.opts, agent: c.agent, proxy: c.proxy, slots: c.slots,
		trusted: maps.Clone(c.trusted), roots: c.roots, added: maps.Clone(c.added),
	}
	return b.ready()
}

// Close lets go of idle connections. The client can still be used.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeIdle()
}

func (c *Client) closeIdle() {
	for _, t := range []*http.Transport{c.open, c.vouched, c.guarded} {
		t.CloseIdleConnections()
	}
}

// HTTPClient returns an http.Client with all the rules of c but without
// retries. Errors that it returns may repeat the URL of a request; those of Get
// and Fetch do not.
func (c *Client) HTTPClient() *http.Client { return c.http }

// Offline reports whether every request is refused.
func (c *Client) Offline() bool { return c.opts.Offline }

// Trust lets requests to the origin (scheme, host and port) of rawURL skip the
// address check. It is for URLs from the operator's own settings and for the
// file hosts that a trusted registry's metadata names, never for what a target
// or a user of a service says.
func (c *Client) Trust(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("egress: not an absolute http or https URL")
	}
	c.trust(u)
	return nil
}

func (c *Client) trust(u *url.URL) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trusted[origin(u)] = true
}

func (c *Client) isTrusted(u *url.URL) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trusted[origin(u)]
}

// TrustCertificates adds PEM certificates to those of the system, for all
// requests that follow.
func (c *Client) TrustCertificates(pem []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sum := sha256.Sum256(pem); c.added[sum] {
		return nil
	} else {
		c.added[sum] = true
	}
	roots, err := c.roots, error(nil)
	if roots != nil {
		roots = roots.Clone()
	} else if roots, err = x509.SystemCertPool(); err != nil {
		roots = x509.NewCertPool() // requests to other hosts will say that they are not trusted
	}
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("egress: no PEM certificate in %d bytes", len(pem))
	}
	c.roots = roots
	c.closeIdle()
	c.buildTransports()
	return nil
}

// origin returns scheme, host and port in one spelling.
func origin(u *url.URL) string {
	scheme := strings.ToLower(u.Scheme)
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return scheme + "://" + hostname(u) + ":" + port
}

// hostname returns the host in one spelling: small letters, no root dot, and in
// the letters by which net/http asks for it, to which a digit may be a wide one
// (UTS #46).
func hostname(u *url.URL) string {
	host := u.Hostname()
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		if ascii, err := idna.Lookup.ToASCII(host); err == nil {
			host = ascii
		}
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
