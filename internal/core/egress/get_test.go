package egress_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
)

// loopback resolves every name to this machine.
func loopback(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// serve starts a server and returns its address under a name.
func serve(t *testing.T, name string, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "127.0.0.1", name, 1)
}

// client returns a client with short times that trusts the given URLs.
func client(t *testing.T, opts egress.Options, trusted ...string) *egress.Client {
	t.Helper()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if opts.Version != "proxied" {
			t.Setenv(name, "")
		}
	}
	opts.Resolve = loopback
	opts.Backoff = time.Millisecond
	c := egress.New(opts)
	for _, u := range trusted {
		if err := c.Trust(u); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// oneSentence checks what a user would see.
func oneSentence(t *testing.T, err error, kind fault.Kind, contains string) {
	t.Helper()
	got, text := fault.Of(err)
	if got != kind {
		t.Errorf("kind = %v; want %v (%v)", got, kind, err)
	}
	if !strings.Contains(text, contains) {
		t.Errorf("error = %q; want %q in it", text, contains)
	}
	if strings.ContainsAny(text, "\n?") || strings.HasSuffix(text, ".") || !strings.Contains(text, "; ") {
		t.Errorf("error = %q; want one sentence that says what to do, without a URL", text)
	}
	if strings.Contains(fmt.Sprint(text, errors.Unwrap(err)), "hunter2") {
		t.Errorf("a secret leaks: %q, %v", text, errors.Unwrap(err))
	}
}

func TestGet(t *testing.T) {
	u := serve(t, "registry.example", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.UserAgent(), r.Header.Get("Accept"))
	})
	c := client(t, egress.Options{Version: "1.2"}, u)
	got, err := c.Get(t.Context(), u+"/a", http.Header{"Accept": {"x/y"}}, 100)
	if err != nil || string(got.Body) != "loupe/1.2 x/y" || got.Status != 200 {
		t.Fatalf("Get = %+v, %v", got, err)
	}
}

func TestGuard(t *testing.T) {
	u := serve(t, "internal.example", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secret") })
	_, err := client(t, egress.Options{}).Get(t.Context(), u+"/?token=hunter2", nil, 0)
	oneSentence(t, err, fault.Forbidden, "a loopback address, which is refused")

	// Trust is for one origin: another port or scheme of the host is guarded.
	other, _ := url.Parse(u)
	other.Host = other.Hostname() + ":1"
	_, err = client(t, egress.Options{}, u).Get(t.Context(), other.String(), nil, 0)
	oneSentence(t, err, fault.Forbidden, "loopback")

	if got, err := client(t, egress.Options{AllowPrivate: true}).Get(t.Context(), u, nil, 0); err != nil || string(got.Body) != "secret" {
		t.Errorf("with AllowPrivate: %v, %v", got, err)
	}
	if _, err := client(t, egress.Options{}, u).HTTPClient().Get(u); err != nil {
		t.Errorf("HTTPClient to a trusted origin: %v", err)
	}
	if _, err := client(t, egress.Options{}).HTTPClient().Get(u); !fault.Is(err, fault.Forbidden) {
		t.Errorf("HTTPClient = %v; want a refusal", err)
	}
}

// A name that answers with a public address when it is checked and a private
// one later must not get a connection to the latter.
func TestRebinding(t *testing.T) {
	var lookups atomic.Int32
	c := egress.New(egress.Options{
		DialTime: 50 * time.Millisecond, Attempts: 1,
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			if lookups.Add(1) > 1 {
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("2000::1")}, nil // routed nowhere
		},
	})
	if conn, err := c.Dial(t.Context(), "tcp", "rebind.example:9"); err == nil {
		conn.Close()
		t.Error("connected")
	}
	if n := lookups.Load(); n != 1 {
		t.Errorf("the name was resolved %d times; want once", n)
	}
}

func TestRedirect(t *testing.T) {
	var seen atomic.Value
	files := serve(t, "files.example", func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Clone())
		io.WriteString(w, "file")
	})
	registry := serve(t, "registry.example", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, files+"/x", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case "/there":
			seen.Store(r.Header.Clone())
			io.WriteString(w, "there")
		}
	})
	secret := http.Header{"Authorization": {"Bearer hunter2"}, "Cookie": {"a=hunter2"}, "Accept": {"x/y"}}

	// A trusted origin may send us to a store on a private network.
	c := client(t, egress.Options{}, registry)
	got, err := c.Get(t.Context(), registry+"/away", secret, 0)
	if err != nil || string(got.Body) != "file" {
		t.Fatalf("Get = %v, %v", got, err)
	}
	_, err = c.Get(t.Context(), files+"/x", nil, 0)
	oneSentence(t, err, fault.Forbidden, "files.example leads to a loopback address")
	if h := seen.Load().(http.Header); h.Get("Authorization") != "" || h.Get("Cookie") != "" || h.Get("Referer") != "" || h.Get("Accept") != "x/y" {
		t.Errorf("headers after a redirect to another origin: %v", h)
	}
	if _, err = client(t, egress.Options{}, registry).Get(t.Context(), registry+"/here", secret, 0); err != nil {
		t.Fatal(err)
	}
	if h := seen.Load().(http.Header); h.Get("Authorization") == "" {
		t.Errorf("credentials are lost on the way to the same origin: %v", h)
	}
	_, err = client(t, egress.Options{}, registry).Get(t.Context(), registry+"/loop", nil, 0)
	oneSentence(t, err, fault.Unavailable, "more than 5 times")
	_, err = client(t, egress.Options{}, registry).Get(t.Context(), registry+"/file", nil, 0)
	oneSentence(t, err, fault.Invalid, `"file" is not a scheme`)
}

// Trust reaches one hop far: not to where the next host redirects, not from an
// origin that is not trusted itself, and never to cloud metadata.
func TestRedirectBeyondTrust(t *testing.T) {
	end := serve(t, "end.example", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "internal") })
	store := serve(t, "store.example", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, end, 302) })
	registry := serve(t, "registry.example", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metadata" {
			http.Redirect(w, r, "http://metadata.example/", 302)
			return
		}
		http.Redirect(w, r, store, 302)
	})
	resolve := func(ctx context.Context, host string) ([]netip.Addr, error) {
		if host == "metadata.example" {
			return []netip.Addr{netip.MustParseAddr("169.254.169.254")}, nil
		}
		return loopback(ctx, host)
	}
	for _, test := range []struct {
		name, url, trusted, says string
	}{
		{"two hops", registry, registry, "end.example leads to a loopback address, which is refused; use a public host"},
		{"metadata", registry + "/metadata", registry, "metadata.example leads to a cloud metadata address"},
		{"first hop untrusted", store, end, "store.example leads to a loopback address"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := egress.New(egress.Options{Resolve: resolve, Attempts: 1})
			if err := c.Trust(test.trusted); err != nil {
				t.Fatal(err)
			}
			_, err := c.Get(t.Context(), test.url, nil, 0)
			oneSentence(t, err, fault.Forbidden, test.says)
		})
	}
}

// Once away from its origin a request gets its credentials back nowhere, not
// even when the next redirect leads home.
func TestRedirectThereAndBack(t *testing.T) {
	var home string
	var auth atomic.Value
	auth.Store("unset")
	away := serve(t, "away.example", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, home+"/end", 302) })
	home = serve(t, "home.example", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			auth.Store(r.Header.Get("Authorization"))
			return
		}
		http.Redirect(w, r, away, 302)
	})
	if _, err := client(t, egress.Options{}, home, away).Get(t.Context(), home, http.Header{"Authorization": {"hunter2"}}, 0); err != nil {
		t.Fatal(err)
	}
	if got := auth.Load(); got != "" {
		t.Errorf("Authorization = %q; want none", got)
	}
}

func TestRedirectDowngrade(t *testing.T) {
	plain := serve(t, "plain.example", func(http.ResponseWriter, *http.Request) {})
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain, 302) }))
	defer s.Close()
	c := client(t, egress.Options{}, s.URL, plain)
	if err := c.TrustCertificates(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})); err != nil {
		t.Fatal(err)
	}
	_, err := c.Get(t.Context(), s.URL, nil, 0)
	oneSentence(t, err, fault.Forbidden, "redirects from https to http, which is refused")
}

// A registry that moves its visitors to https stays trusted.
func TestRedirectUpgrade(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "safe") }))
	defer s.Close()
	plain := serve(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.URL, 301) })
	c := client(t, egress.Options{}, plain)
	if err := c.TrustCertificates(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(t.Context(), plain, nil, 0); err != nil || string(got.Body) != "safe" {
		t.Errorf("Get = %v, %v", got, err)
	}
}

func TestBranch(t *testing.T) {
	u := serve(t, "internal.example", func(w http.ResponseWriter, r *http.Request) {})
	trunk := client(t, egress.Options{})
	branch := trunk.Branch()
	defer branch.Close()
	if err := branch.Trust(u); err != nil {
		t.Fatal(err)
	}
	if _, err := branch.Get(t.Context(), u, nil, 0); err != nil {
		t.Errorf("the branch does not trust: %v", err)
	}
	for _, other := range []*egress.Client{trunk, trunk.Branch()} {
		if _, err := other.Get(t.Context(), u, nil, 0); !fault.Is(err, fault.Forbidden) {
			t.Errorf("the trust of a branch concerns others: %v", err)
		}
	}
	if _, err := branch.Branch().Get(t.Context(), u, nil, 0); err != nil {
		t.Errorf("a branch of the branch does not trust: %v", err)
	}
}

func TestCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = nil
	s.StartTLS()
	defer s.Close()
	_, err := client(t, egress.Options{}, s.URL).Get(t.Context(), s.URL, nil, 0)
	oneSentence(t, err, fault.Unavailable, "is not trusted; check the address, or set SSL_CERT_FILE")
	if client(t, egress.Options{}).TrustCertificates([]byte("no certificate")) == nil {
		t.Error("text that is no certificate is accepted")
	}
}

func TestRetry(t *testing.T) {
	for _, test := range []struct {
		name  string
		fail  func(http.ResponseWriter)
		kind  fault.Kind
		text  string
		calls int32 // when it never gets better
	}{
		{"500", func(w http.ResponseWriter) { w.WriteHeader(500) }, fault.Unavailable, "answers 500 Internal Server Error; try again later", 3},
		{"429 with a pause", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) }, fault.Throttled, "answers 429 Too Many Requests", 3},
		{"429 for an hour", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "3600"); w.WriteHeader(429) }, fault.Throttled, "answers 429", 1},
		{"cut off", func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100"); io.WriteString(w, "half") }, fault.Unavailable, "broke off its answer", 3},
		{"hung up", func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, fault.Unavailable, "broke off its answer", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			var calls atomic.Int32
			var better atomic.Bool
			u := serve(t, "registry.example", func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 1 || !better.Load() {
					test.fail(w)
					return
				}
				io.WriteString(w, "ok")
			})
			c := client(t, egress.Options{}, u)
			_, err := c.Get(t.Context(), u, nil, 0)
			oneSentence(t, err, test.kind, test.text)
			if calls.Load() != test.calls {
				t.Errorf("%d requests; want %d", calls.Load(), test.calls)
			}
			if test.calls == 1 {
				return
			}
			calls.Store(0)
			better.Store(true)
			if got, err := c.Get(t.Context(), u, nil, 0); err != nil || string(got.Body) != "ok" || calls.Load() != 2 {
				t.Errorf("Get = %v, %v after %d requests; want ok after 2", got, err, calls.Load())
			}
		})
	}
}

func TestNotRetried(t *testing.T) {
	var calls atomic.Int32
	u := serve(t, "registry.example", func(w http.ResponseWriter, r *http.Request) { calls.Add(1); w.WriteHeader(404) })
	got, err := client(t, egress.Options{}, u).Get(t.Context(), u, nil, 0)
	if err != nil || got.Status != 404 || calls.Load() != 1 {
		t.Errorf("Get = %v, %v after %d requests; want a 404 after one", got, err, calls.Load())
	}
}

func TestCap(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(make([]byte, 64<<10))
	z.Close()
	u := serve(t, "registry.example", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(packed.Bytes())
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4<<10)); err != nil {
					return
				}
			}
		default:
			w.Write(make([]byte, 32<<10))
		}
	})
	c := client(t, egress.Options{}, u)
	for _, path := range []string{"/bomb", "/endless", "/plain"} {
		_, err := c.Get(t.Context(), u+path, nil, 16<<10)
		oneSentence(t, err, fault.Exhausted, "larger than the cap of 16 KiB for one download; check the address, or download the file")
	}
	if got, err := c.Get(t.Context(), u+"/plain", nil, 32<<10); err != nil || len(got.Body) != 32<<10 {
		t.Errorf("an answer of exactly the cap: %v", err)
	}
}

func TestTimes(t *testing.T) {
	stall := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			io.WriteString(w, "some")
			w.(http.Flusher).Flush()
		}
		for r.URL.Path == "/drip" && r.Context().Err() == nil {
			io.WriteString(w, ".")
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
		<-r.Context().Done()
	}
	u := serve(t, "registry.example", stall)
	for _, test := range []struct {
		name, path string
		opts       egress.Options
		text       string
	}{
		{"no headers", "/headers", egress.Options{HeaderTime: 30 * time.Millisecond, Attempts: 1}, "does not answer in time"},
		{"no more body", "/body", egress.Options{IdleTime: 30 * time.Millisecond, Attempts: 1}, "stopped sending in the middle of an answer"},
		{"a drip", "/drip", egress.Options{Timeout: 100 * time.Millisecond}, "does not answer in time"},
		{"a document that drips", "/drip", egress.Options{DocumentTime: 100 * time.Millisecond}, "does not answer in time"},
		{"too slow", "/drip", egress.Options{RateTime: 50 * time.Millisecond, MinRate: 100_000}, "sends too slowly"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := client(t, test.opts, u).Get(t.Context(), u+test.path, nil, 0)
			oneSentence(t, err, fault.Unavailable, test.text)
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err := client(t, egress.Options{}, u).Get(ctx, u+"/body", nil, 0)
		oneSentence(t, err, fault.Unavailable, "was cancelled")
	})
}

// With the default times, and the clock of a test: what comes below 1 kB/s ends
// after 20 s, what comes above it and a short answer that is late do not.
func TestRate(t *testing.T) {
	for _, test := range []struct {
		name         string
		chunk, count int
		every        time.Duration
		slow         bool
	}{
		{"a byte each second", 1, 1000, time.Second, true},
		{"fast, then slow", 100, 300, 200 * time.Millisecond, true},
		{"fast enough", 2000, 60, time.Second, false},
		{"short and late", 5, 1, 25 * time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				served := make(chan bool)
				defer func() { client.Close(); <-served }()
				go func() {
					defer close(served)
					defer server.Close()
					if _, err := http.ReadRequest(bufio.NewReader(server)); err != nil {
						return
					}
					fmt.Fprintf(server, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", test.chunk*test.count)
					for range test.count {
						time.Sleep(test.every)
						if _, err := server.Write(make([]byte, test.chunk)); err != nil {
							return
						}
					}
				}()
				c := egress.NewPiped(client)
				began := time.Now()
				err := c.Fetch(t.Context(), "http://registry.example/", nil, 0, func(r *http.Response) error {
					_, err := io.Copy(io.Discard, r.Body)
					return err
				})
				c.Close()
				if !test.slow {
					if err != nil {
						t.Error(err)
					}
					return
				}
				oneSentence(t, err, fault.Unavailable, "registry.example sends too slowly")
				if took := time.Since(began); took > 45*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	u := "http://user:hunter2@" + l.Addr().String() + "/?q=hunter2"
	_, err = client(t, egress.Options{}, u).Get(t.Context(), u, nil, 0)
	oneSentence(t, err, fault.Unavailable, "cannot be reached: the connection was refused; check the network")

	missing := egress.New(egress.Options{Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}})
	_, err = missing.Get(t.Context(), "https://user:hunter2@registry.example/", nil, 0)
	oneSentence(t, err, fault.Unavailable, "registry.example cannot be reached: its name does not resolve")

	for _, bad := range []string{"://", "http://", "http://a b/", "relative/path"} {
		if _, err := missing.Get(t.Context(), bad, nil, 0); !fault.Is(err, fault.Invalid) {
			t.Errorf("Get(%q) = %v; want it refused as invalid", bad, err)
		}
	}
}

func TestOffline(t *testing.T) {
	var calls atomic.Int32
	u := serve(t, "registry.example", func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	c := client(t, egress.Options{Offline: true}, u)
	_, err := c.Get(t.Context(), u, nil, 0)
	oneSentence(t, err, fault.Unavailable, "--offline is set")
	if _, err := c.Dial(t.Context(), "tcp", "8.8.8.8:53"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Dial = %v; want a refusal", err)
	}
	if !c.Offline() || calls.Load() != 0 {
		t.Errorf("%d requests were made", calls.Load())
	}
}

func TestProxy(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		io.WriteString(w, "by proxy")
	}))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "direct.example")
	c := egress.New(egress.Options{Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
		switch host {
		case "inside.example", "direct.example":
			return loopback(ctx, host)
		case "127.0.0.1":
			t.Error("an address was looked up")
		}
		return nil, errors.New("only the proxy knows names")
	}})
	got, err := c.Get(t.Context(), "http://files.example/a", nil, 0)
	if err != nil || string(got.Body) != "by proxy" || len(asked) != 1 || asked[0] != "http://files.example/a" {
		t.Fatalf("Get = %v, %v; the proxy saw %v", got, err, asked)
	}
	for _, u := range []string{"http://inside.example/", "http://10.0.0.1/", "http://169.254.169.254/", "http://direct.example/"} {
		_, err = c.Get(t.Context(), u, nil, 0)
		oneSentence(t, err, fault.Forbidden, "refused")
	}
	if len(asked) != 1 {
		t.Errorf("the proxy saw %v", asked)
	}
}

func TestPerHost(t *testing.T) {
	var now, most atomic.Int32
	u := serve(t, "registry.example", func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
	})
	c := client(t, egress.Options{PerHost: 2}, u)
	errs := make(chan error)
	for range 10 {
		go func() {
			_, err := c.Get(t.Context(), u, nil, 0)
			errs <- err
		}()
	}
	for range 10 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if most.Load() > 2 {
		t.Errorf("%d requests at once; want 2 at most", most.Load())
	}
}

func TestFetchStartsAfresh(t *testing.T) {
	var calls atomic.Int32
	u := serve(t, "registry.example", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "8")
		io.WriteString(w, "half")
		if calls.Add(1) > 1 {
			io.WriteString(w, "full")
		}
	})
	c := client(t, egress.Options{}, u)
	var reads []string
	err := c.Fetch(t.Context(), u, nil, 0, func(resp *http.Response) error {
		data, err := io.ReadAll(resp.Body)
		reads = append(reads, string(data))
		return err
	})
	if err != nil || fmt.Sprint(reads) != "[half halffull]" {
		t.Errorf("Fetch = %v with reads %v", err, reads)
	}
	own := errors.New("my own")
	if err := c.Fetch(t.Context(), u, nil, 0, func(*http.Response) error { return own }); err != own {
		t.Errorf("Fetch = %v; want the error of read", err)
	}
}

func TestTrustRefuses(t *testing.T) {
	for _, u := range []string{"", "registry.example", "file:///etc", "ftp://registry.example", "http://"} {
		if egress.New(egress.Options{}).Trust(u) == nil {
			t.Errorf("Trust(%q) is accepted", u)
		}
	}
}
