// Package client speaks to a server's BinShield API: it submits packages, waits
// for what is found, and fetches it. It knows the parts of the published document
// that it needs, and takes answers with more or less in them. It follows no
// redirect, as what it sends holds a key that was meant for one server.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
)

// Options are what a Client needs to know.
type Options struct {
	Server  string // its address: http or https, with a path if it is behind one
	Key     string // of its API; it is in no error
	Version string // of Loupe, for the user agent

	// Waits is told that a request will be sent again after a while, and why; it
	// may be nil. It is called from the goroutine of the request.
	Waits func(wait time.Duration, why string)
}

// A Client speaks to one server. It is safe for concurrent use.
type Client struct {
	opt  Options
	base *url.URL
	out  *egress.Client

	mu    sync.Mutex
	met   bool          // it has answered before
	pause time.Duration // between requests, so that the rate of the key is kept
}

// How the client waits.
const (
	requestTime = 5 * time.Minute  // for one request with its answer
	maxAnswer   = 256 << 20        // bytes of an answer
	patience    = 2 * time.Minute  // with a server that answered before, and does not any more
	firstTry    = 5 * time.Second  // with one that has not yet answered
	backoff     = time.Second / 2  // before the second attempt, doubled for each further one
	maxBackoff  = 15 * time.Second // at most
	defaultWait = 5 * time.Second  // where a server is busy and does not say for how long
)

// New returns a client of a server.
func New(opt Options) (*Client, error) {
	u, err := url.Parse(opt.Server)
	if err != nil || u.Host == "" || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "the address of the server is none of the web").Try("write it as https://loupe.example")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fault.New(fault.Invalid, "the address of the server holds more than host and path").Try("write it as https://loupe.example")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	out := egress.New(egress.Options{Version: opt.Version})
	if err := out.Trust(u.String()); err != nil {
		return nil, err
	}
	return &Client{opt: opt, base: u, out: out}, nil
}

// Close lets go of connections.
func (c *Client) Close() { c.out.Close() }

// Host returns the host of the server, with its port if one is given.
func (c *Client) Host() string { return c.base.Host }

// Health is what a server says of itself.
type Health struct {
	OK            bool   `json:"ok"`
	Service       string `json:"service"`
	DefaultFailOn string `json:"defaultFailOn"` // risk level
}

// Health asks whether the server works, and for what it advises.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	err := c.ask(ctx, http.MethodGet, "/health", nil, &h)
	if err == nil && h.Service == "" {
		err = c.strange(nil)
	}
	return h, err
}

// A Request asks for one version of a package to be looked at.
type Request struct {
	Ecosystem   string `json:"ecosystem"`
	PackageName string `json:"packageName"`
	Version     string `json:"version"`
	Repo        string `json:"repo,omitempty"`   // for which it is asked, owner/name
	Source      string `json:"source,omitempty"` // api, github-action
}

// A Job is a scan as it goes on.
type Job struct {
	ID       string    `json:"id"`
	Status   string    `json:"status"` // queued, analyzing, complete, failed
	Stage    string    `json:"stage"`
	Error    string    `json:"error"` // why it failed
	CacheHit bool      `json:"cacheHit"`
	Result   *Analysis `json:"result"` // of one that is complete
}

// Ended says that a scan is complete or has failed.
func (j *Job) Ended() bool { return j.Status == "complete" || j.Status == "failed" }

// An Analysis is what is known of one version of a package.
type Analysis struct {
	Ecosystem   string   `json:"ecosystem"`
	PackageName string   `json:"packageName"`
	Version     string   `json:"version"`
	RiskScore   int      `json:"riskScore"`
	RiskLevel   string   `json:"riskLevel"`
	Summary     string   `json:"summary"`
	BinaryCount int      `json:"binaryCount"`
	Binaries    []Binary `json:"binaries"`
	Parts       []struct {
		PURL string `json:"purl"`
	} `json:"parts"` // the archives that were looked at
}

// A Binary is one of the native binaries of a package.
type Binary struct {
	Filename string `json:"filename"`
	Path     string `json:"path"`
	Findings []struct {
		Severity       string `json:"severity"`
		Title          string `json:"title"`
		Description    string `json:"description"`
		Location       string `json:"location"`
		Recommendation string `json:"recommendation"`
		RuleID         string `json:"ruleId"`
		Confidence     string `json:"confidence"`
	} `json:"findings"`
}

// Submit asks for a package to be looked at. However often the request has to be
// sent, it asks for one scan.
func (c *Client) Submit(ctx context.Context, req Request) (*Job, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	job := new(Job)
	if err := c.ask(ctx, http.MethodPost, "/scans/packages", body, job); err != nil {
		return nil, err
	}
	return job, c.check(job)
}

// Job returns a scan as it is now, with its result if it is complete.
func (c *Client) Job(ctx context.Context, id string) (*Job, error) {
	job := new(Job)
	if err := c.ask(ctx, http.MethodGet, "/scans/"+url.PathEscape(id), nil, job); err != nil {
		return nil, err
	}
	return job, c.check(job)
}

// check refuses a job that cannot be one.
func (c *Client) check(job *Job) error {
	if job.ID == "" || job.Status == "" || job.Status == "complete" && job.Result == nil {
		return c.strange(nil)
	}
	return nil
}

// Between two questions about the same scans.
const (
	minPoll = time.Second / 2
	maxPoll = 5 * time.Second
)

// Wait asks for scans until each has ended, and calls seen with what it is told,
// one at a time. The error is that of the first question that was not answered.
func (c *Client) Wait(ctx context.Context, ids []string, seen func(*Job)) error {
	open := append([]string(nil), ids...)
	for wait := minPoll; len(open) > 0; wait = min(wait*3/2, maxPoll) {
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		left := open[:0]
		for _, id := range open {
			job, err := c.Job(ctx, id)
			if err != nil {
				return err
			}
			seen(job)
			if !job.Ended() {
				left = append(left, id)
			}
		}
		if len(left) < len(open) {
			wait = minPoll
		}
		open = left
	}
	return nil
}

// SBOM returns the CycloneDX document of a version of a package that was looked at.
func (c *Client) SBOM(ctx context.Context, ecosystem, name, version string) ([]byte, error) {
	var doc json.RawMessage
	err := c.ask(ctx, http.MethodGet, "/packages/"+url.PathEscape(ecosystem)+"/"+url.PathEscape(name)+"/versions/"+url.PathEscape(version)+"/sbom", nil, &doc)
	return doc, err
}

// ask sends a request until it is answered, and reads the answer into v.
func (c *Client) ask(ctx context.Context, method, path string, body []byte, v any) error {
	header := http.Header{"Accept": {"application/json"}}
	if c.opt.Key != "" {
		header.Set("X-Binshield-Api-Key", c.opt.Key)
	}
	if body != nil {
		header.Set("Content-Type", "application/json")
		header.Set("Idempotency-Key", rand.Text())
	}
	lost := time.Time{} // since when there was no answer
	for attempt := 0; ; attempt++ {
		if err := c.rest(ctx); err != nil {
			return err
		}
		answer, err := c.once(ctx, method, path, header, body)
		if ctx.Err() != nil {
			return ended(ctx)
		}
		if err == nil {
			if answer.status/100 == 2 {
				if err := json.Unmarshal(answer.body, v); err != nil {
					return c.strange(err)
				}
				return nil
			}
			err = c.refusal(answer)
		}
		wait, why, again := c.again(answer, err, &lost, attempt)
		if !again {
			return err
		}
		if deadline, ok := ctx.Deadline(); ok && time.Now().Add(wait).After(deadline) {
			return err // there is no time left to ask again
		}
		if c.opt.Waits != nil {
			c.opt.Waits(wait, why)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// again says whether and when a request that was not answered as it should be is
// to be sent again.
func (c *Client) again(a *answer, err error, lost *time.Time, attempt int) (wait time.Duration, why string, again bool) {
	_, why = fault.Of(err)
	if a != nil && a.status == http.StatusTooManyRequests {
		return cmp.Or(a.retryAfter, defaultWait), why, a.retryAfter > 0 || attempt < 2 // what says no time may be the month's limit
	}
	passing := a == nil || a.status >= 500 && a.status != http.StatusNotImplemented ||
		a.status == http.StatusConflict && a.sent // the same request, which was taken for lost, still runs
	if !passing || a == nil && !fault.Is(err, fault.Unavailable) {
		return 0, "", false
	}
	if lost.IsZero() {
		*lost = time.Now()
	}
	c.mu.Lock()
	limit := firstTry
	if c.met {
		limit = patience
	}
	c.mu.Unlock()
	if time.Since(*lost) > limit {
		return 0, "", false
	}
	wait = min(backoff<<min(attempt, 10), maxBackoff)
	if a != nil {
		wait = cmp.Or(a.retryAfter, wait)
	}
	return wait, why, true
}

// An answer is a response that was read whole.
type answer struct {
	status     int
	body       []byte
	location   string
	retryAfter time.Duration
	sent       bool // the request carried an Idempotency-Key
}

// once sends a request once.
func (c *Client) once(ctx context.Context, method, path string, header http.Header, body []byte) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var text io.Reader
	if body != nil {
		text = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, text)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the address of the server is none of the web").Because(err)
	}
	req.Header = header.Clone()
	resp, err := c.out.RoundTrip(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, c.unreachable(ctx, err)
	case len(data) > maxAnswer:
		return nil, fault.New(fault.Exhausted, "an answer of %s is larger than %d MiB", c.Host(), maxAnswer>>20)
	}
	c.heard(resp.Header)
	return &answer{
		status: resp.StatusCode, body: data, location: resp.Header.Get("Location"), retryAfter: retryAfter(resp.Header.Get("Retry-After")),
		sent: header.Get("Idempotency-Key") != "",
	}, nil
}

// heard remembers that the server is there, and how often it may be asked.
func (c *Client) heard(h http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.met = true
	c.pause = 0
	limit, err := strconv.Atoi(h.Get("X-RateLimit-Limit"))
	left, _ := strconv.Atoi(h.Get("X-RateLimit-Remaining"))
	if err == nil && limit > 0 && limit < math.MaxInt32 && left < limit/2 {
		c.pause = min(time.Minute/time.Duration(limit), maxPoll)
	}
}

// rest waits a little where many requests were sent.
func (c *Client) rest(ctx context.Context) error {
	c.mu.Lock()
	pause := c.pause
	c.mu.Unlock()
	return sleep(ctx, pause)
}

// retryAfter reads Retry-After (RFC 9110, section 10.2.3).
func retryAfter(v string) time.Duration {
	if seconds, err := strconv.Atoi(v); err == nil && seconds > 0 {
		return time.Duration(min(seconds, 1<<25)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// unreachable says why a request got no answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	err = egress.Explain(ctx, c.Host(), err)
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Unavailable {
		return fault.New(f.Kind, "the server %s", f.Message).Try("check its address and the network").Because(err)
	}
	return err
}

// refusal makes a fault of an answer that is none of what was asked for.
func (c *Client) refusal(a *answer) error {
	var body struct {
		Error string `json:"error"`
	}
	said := http.StatusText(a.status)
	if json.Unmarshal(a.body, &body) == nil && body.Error != "" {
		said = finding.Printable(finding.Redact(body.Error), 500)
	}
	say := func(kind fault.Kind) *fault.Error {
		return fault.New(kind, "the server %s answers %d: %s", c.Host(), a.status, said)
	}
	switch {
	case a.status/100 == 3:
		where := "elsewhere"
		if u, err := url.Parse(a.location); err == nil && u.Host != "" {
			where = "to " + finding.Printable(u.Scheme+"://"+u.Host, 300)
		}
		return fault.New(fault.Invalid, "the server %s sends its visitors %s", c.Host(), where).Try("give that address, if it is the server that you mean")
	case a.status == http.StatusUnauthorized:
		return say(fault.Unauthenticated).Try("check the key")
	case a.status == http.StatusForbidden:
		return say(fault.Forbidden).Try("use a key with the scopes scans:trigger and scans:read")
	case a.status == http.StatusNotFound:
		return say(fault.NotFound)
	case a.status == http.StatusConflict:
		return say(fault.Conflict)
	case a.status == http.StatusTooManyRequests:
		e := say(fault.Throttled)
		if a.retryAfter > 0 {
			e = e.Try("it takes requests again in %s", a.retryAfter.Round(time.Second))
		}
		return e
	case a.status >= 500:
		return say(fault.Unavailable)
	}
	return say(fault.Invalid)
}

// strange is the error of an answer that no server of ours gives.
func (c *Client) strange(err error) error {
	return fault.New(fault.Corrupt, "what %s answers is not what a Loupe server says", c.Host()).Try("check the address of the server").Because(err)
}

// ended says that the time is up, or that somebody ended the command.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.New(fault.Unavailable, "the time is up").Because(ctx.Err())
	}
	return fault.New(fault.Unavailable, "the command was ended").Because(ctx.Err())
}

func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}
