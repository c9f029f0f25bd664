package httpd_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/faces/httpd"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// A backend is what a server knows: one key, "good", and what was asked twice.
type backend struct {
	mu      sync.Mutex
	broken  error // instead of all answers
	counts  map[string]int64
	repeats map[string]*repeat
}

type repeat struct {
	body   string
	answer app.Answer
}

func (b *backend) Authenticate(_ context.Context, key string) (*app.Actor, error) {
	if b.broken != nil {
		return nil, b.broken
	}
	if key != "good" {
		return nil, fault.New(fault.Unauthenticated, "Invalid API key")
	}
	return &app.Actor{OrgID: "org_1", KeyID: "key_1", Role: account.Owner, Scopes: []app.Scope{app.Admin}}, nil
}

func (b *backend) Take(_ context.Context, subject string, rates []app.Rate) (app.Count, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	reset := time.Now().Truncate(time.Minute).Add(time.Minute)
	if len(rates) == 0 {
		return app.Count{Limit: account.Unlimited, Left: account.Unlimited, Reset: reset}, nil
	}
	c := app.Count{Limit: rates[0].Limit, Left: rates[0].Limit, Reset: reset}
	if b.broken != nil {
		return c, b.broken
	}
	subject += reset.String()
	b.counts[subject]++
	c.Left = max(0, c.Limit-b.counts[subject])
	c.Over = b.counts[subject] > c.Limit
	return c, nil
}

func (b *backend) BeginRepeat(_ context.Context, _ *app.Actor, r app.Repeat) (app.RepeatState, app.Answer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := r.Route + r.Name
	before := b.repeats[name]
	switch {
	case before == nil:
		b.repeats[name] = &repeat{body: string(r.Body)}
		return app.RepeatNew, app.Answer{}, nil
	case before.body != string(r.Body):
		return app.RepeatOther, app.Answer{}, nil
	case before.answer.Status == 0:
		return app.RepeatRunning, app.Answer{}, nil
	}
	return app.RepeatAnswered, before.answer, nil
}

func (b *backend) FinishRepeat(_ context.Context, _ *app.Actor, r app.Repeat, a app.Answer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.Status == 0 {
		delete(b.repeats, r.Route+r.Name)
		return nil
	}
	b.repeats[r.Route+r.Name].answer = a
	return nil
}

func (b *backend) Ready(context.Context) error { return b.broken }

func (b *backend) Figures(context.Context) (app.Figures, error) { return app.Figures{}, b.broken }

// A said is the error of the dialect of these tests.
type said struct {
	Error string `json:"error"`
}

type bodyIn struct {
	Body struct {
		Text string `json:"text" maxLength:"3000000"`
	}
}

type textOut struct {
	Text string `json:"text"`
	Key  string `json:"key,omitempty"`
}

// routes are those of the tests; the handler is what the posts of a test do.
var routes = []dialect.Route[func(context.Context, string) (textOut, error)]{
	dialect.Get("/t/long", "", "Long", func(_ func(context.Context, string) (textOut, error), _ context.Context, _ *struct{}) (textOut, error) {
		return textOut{Text: strings.Repeat("long ", 1000)}, nil
	}, dialect.Public()),
	dialect.Get("/t/short", app.ScansRead, "Short", func(_ func(context.Context, string) (textOut, error), _ context.Context, _ *struct{}) (textOut, error) {
		return textOut{Text: "short"}, nil
	}, dialect.Public()),
	dialect.Post("/t/things", app.OrgWrite, "Things", func(f func(context.Context, string) (textOut, error), ctx context.Context, in *bodyIn) (textOut, error) {
		return f(ctx, in.Body.Text)
	}, dialect.Once("key")),
}

// A site is a server of the tests.
type site struct {
	*testing.T
	*httpd.Server
	backend *backend
	log     strings.Builder
	post    func(context.Context, string) (textOut, error)
}

func newSite(t *testing.T, opt httpd.Options) *site {
	s := &site{T: t, backend: &backend{counts: map[string]int64{}, repeats: map[string]*repeat{}}}
	s.post = func(_ context.Context, text string) (textOut, error) { return textOut{Text: text}, nil }
	mux := http.NewServeMux()
	api := dialect.New(mux, &dialect.Dialect{
		Name: "test", Title: "Test", Prefixes: []string{"/t"}, KeyHeader: "x-test-key", RateHeaders: true, Invalid: http.StatusBadRequest,
		Rates: func(*app.Actor) []app.Rate { return []app.Rate{{Limit: 3, Window: time.Minute}} },
		Body:  func(p dialect.Problem) any { return said{p.Message} }, Error: said{},
	}, func(ctx context.Context, text string) (textOut, error) { return s.post(ctx, text) }, routes)
	mux.HandleFunc("GET /panic/{when}", func(w http.ResponseWriter, r *http.Request) {
		switch r.PathValue("when") {
		case "held": // not sent yet, as it may be worth being packed
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("ETag", `"x"`)
			fmt.Fprint(w, "the beginning")
		case "sent":
			fmt.Fprint(w, "the beginning")
			_ = http.NewResponseController(w).Flush()
		}
		panic("hunter2")
	})
	opt.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	s.Server = httpd.New(s.backend, mux, []*dialect.API{api}, opt)
	return s
}

func (s *site) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	s.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	return rec
}

func (s *site) want(rec *httptest.ResponseRecorder, status int, body string) {
	s.Helper()
	if rec.Code != status || strings.TrimSpace(rec.Body.String()) != body {
		s.Errorf("%d %s; want %d %s", rec.Code, rec.Body, status, body)
	}
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, httpd.Options{})
		time.Sleep(10 * time.Second) // of the minute
		for i := range 3 {
			if rec := s.do("GET", "/t/long", ""); rec.Code != http.StatusOK || rec.Header()["X-RateLimit-Remaining"][0] != fmt.Sprint(2-i) {
				t.Errorf("request %d: %d %v", i, rec.Code, rec.Header())
			}
		}
		rec := s.do("GET", "/t/long", "")
		s.want(rec, http.StatusTooManyRequests, `{"error":"Rate limit exceeded; try again in 50 seconds"}`)
		h := rec.Header()
		if h.Get("Retry-After") != "50" || h["X-RateLimit-Limit"][0] != "3" || h["X-RateLimit-Remaining"][0] != "0" || h["X-RateLimit-Reset"][0] != fmt.Sprint(time.Now().Unix()+50) {
			t.Errorf("%v", h)
		}
		// Route, method and key come before the rate; a good key has its own.
		s.want(s.do("GET", "/t/nowhere", ""), http.StatusNotFound, `{"error":"not found"}`)
		s.want(s.do("DELETE", "/t/long", ""), http.StatusMethodNotAllowed, `{"error":"method not allowed"}`)
		s.want(s.do("POST", "/t/things", ""), http.StatusUnauthorized, `{"error":"an API key is required"}`)
		s.want(s.do("GET", "/t/short", "", "x-test-key: good"), http.StatusOK, `{"text":"short"}`)
		time.Sleep(50 * time.Second)
		s.want(s.do("GET", "/t/short", ""), http.StatusOK, `{"text":"short"}`)
	})
}

func TestBrokenBackend(t *testing.T) {
	s := newSite(t, httpd.Options{})
	s.backend.broken = errors.New("dial tcp 10.0.0.7: password hunter2")
	rec := s.do("GET", "/t/long", "", "x-test-key: good")
	s.want(rec, http.StatusInternalServerError, `{"error":"internal error"}`)
	if rec.Header()["X-RateLimit-Limit"][0] != "3" || !strings.Contains(s.log.String(), "10.0.0.7") {
		t.Errorf("%v; log %s", rec.Header(), &s.log)
	}
	s.want(s.do("GET", "/readyz", ""), http.StatusServiceUnavailable, "not ready")
	s.want(s.do("GET", "/livez", ""), http.StatusOK, "ok")
}

func TestRescue(t *testing.T) {
	s := newSite(t, httpd.Options{})
	for _, when := range []string{"first", "held"} {
		rec := s.do("GET", "/panic/"+when, "", "Accept-Encoding: gzip")
		s.want(rec, http.StatusInternalServerError, `{"error":"internal error"}`)
		if rec.Header().Get("ETag") != "" {
			t.Errorf("%s: the header is that of another answer: %v", when, rec.Header())
		}
	}
	if !strings.Contains(s.log.String(), "hunter2") || !strings.Contains(s.log.String(), "status=500") {
		t.Errorf("log %s; want why", &s.log)
	}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("recovered %v; want that the connection is cut, as an answer had begun", p)
		}
	}()
	s.do("GET", "/panic/sent", "")
}

func TestCompress(t *testing.T) {
	s := newSite(t, httpd.Options{})
	for _, test := range []struct {
		path, accept string
		packed       bool
	}{
		{"/t/long", "gzip", true},
		{"/t/long", "br, GZIP;q=0.5", true},
		{"/t/long", "*", true},
		{"/t/long", "gzip;q=0", false},
		{"/t/long", "", false},
		{"/t/short", "gzip", false},
	} {
		s.backend.counts = map[string]int64{}
		rec := s.do("GET", test.path, "", "Accept-Encoding: "+test.accept)
		var body io.Reader = rec.Body
		if packed := rec.Header().Get("Content-Encoding") == "gzip"; packed != test.packed || rec.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s with %q: %v", test.path, test.accept, rec.Header())
		} else if packed {
			var err error
			if body, err = gzip.NewReader(rec.Body); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := io.ReadAll(body); err != nil || !strings.HasPrefix(string(data), `{"text":"`) || !strings.HasSuffix(string(data), "\"}\n") {
			t.Errorf("%s with %q: %.50s, %v", test.path, test.accept, data, err)
		}
	}
}

func TestOnce(t *testing.T) {
	s := newSite(t, httpd.Options{})
	n := 0
	var during *httptest.ResponseRecorder
	ask := func(name, text string) *httptest.ResponseRecorder {
		s.backend.counts = map[string]int64{}
		return s.do("POST", "/t/things", fmt.Sprintf(`{"text":%q}`, text), "x-test-key: good", "Idempotency-Key: "+name)
	}
	s.post = func(_ context.Context, text string) (textOut, error) {
		n++
		switch text {
		case "running":
			during = ask("b", text)
		case "panic":
			panic("hunter2")
		case "fail":
			return textOut{}, errors.New("broken")
		case "twice":
			return textOut{}, fault.New(fault.Conflict, "there already")
		case "quota":
			return textOut{}, fault.New(fault.Exhausted, "no more this month")
		}
		return textOut{Text: fmt.Sprint(n), Key: "secret"}, nil
	}
	s.want(ask("a", "x"), http.StatusCreated, `{"text":"1","key":"secret"}`)
	rec := ask("a", "x")
	s.want(rec, http.StatusCreated, `{"key":"****","text":"1"}`)
	if rec.Header().Get("Idempotent-Replayed") != "true" || rec.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%v", rec.Header())
	}
	s.want(ask("a", "y"), http.StatusUnprocessableEntity, `{"error":"Idempotency-Key: used before with another body"}`)
	s.want(ask("b", "running"), http.StatusCreated, `{"text":"2","key":"secret"}`)
	s.want(during, http.StatusConflict, `{"error":"Idempotency-Key: the first request still runs"}`)
	s.want(ask("c", "twice"), http.StatusConflict, `{"error":"there already"}`)
	s.want(ask("c", "twice"), http.StatusConflict, `{"error":"there already"}`)
	if n != 3 {
		t.Errorf("%d requests were carried out; want 3, as an error of the user is an answer", n)
	}
	for i, text := range []string{"fail", "fail", "panic", "panic"} { // our failures are made again
		s.want(ask(text, text), http.StatusInternalServerError, `{"error":"internal error"}`)
		if n != 4+i {
			t.Errorf("%d requests were carried out; want %d", n, 4+i)
		}
	}
	n = 0
	for range 2 { // how things stand is not what became of a request
		s.want(ask("d", "quota"), http.StatusTooManyRequests, `{"error":"no more this month"}`)
	}
	if n != 2 {
		t.Errorf("%d requests beyond a quota were carried out; want 2, as it may have been raised", n)
	}
	s.want(ask(strings.Repeat("k", 256), "x"), http.StatusBadRequest, `{"error":"Idempotency-Key: at most 255 printable letters"}`)
}

func TestSizes(t *testing.T) {
	s := newSite(t, httpd.Options{})
	s.post = func(_ context.Context, text string) (textOut, error) {
		return textOut{Text: fmt.Sprint(len(text))}, nil
	}
	frame := len(`{"text":""}`)
	for _, test := range []struct {
		size, status int
	}{{1 << 20, http.StatusCreated}, {1<<20 + 1, http.StatusRequestEntityTooLarge}} {
		for _, chunked := range []bool{false, true} {
			for _, name := range []string{"", "once"} {
				s.backend.counts, s.backend.repeats = map[string]int64{}, map[string]*repeat{}
				r := httptest.NewRequest("POST", "/t/things", strings.NewReader(`{"text":"`+strings.Repeat("a", test.size-frame)+`"}`))
				r.Header.Set("x-test-key", "good")
				r.Header.Set("Idempotency-Key", name)
				if chunked {
					r.ContentLength = -1
				}
				rec := httptest.NewRecorder()
				s.ServeHTTP(rec, r)
				if rec.Code != test.status {
					t.Errorf("%d bytes, chunked %v, %q: %d %.100s; want %d", test.size, chunked, name, rec.Code, rec.Body, test.status)
				}
			}
		}
	}
}

// TestBrokenOff sends a body that ends too early.
func TestBrokenOff(t *testing.T) {
	s := newSite(t, httpd.Options{})
	r := httptest.NewRequest("POST", "/t/things", io.MultiReader(strings.NewReader(`{"text":`), failing{}))
	r.Header.Set("x-test-key", "good")
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	s.want(rec, http.StatusBadRequest, `{"error":"the body ends too early"}`)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestCrossOrigin(t *testing.T) {
	s := newSite(t, httpd.Options{CORSOrigins: []string{"https://page.example"}})
	rec := s.do("OPTIONS", "/t/things", "", "Origin: https://page.example", "Access-Control-Request-Method: POST")
	h := rec.Header()
	if rec.Code != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != "https://page.example" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%d %v", rec.Code, h)
	}
	if h := s.do("GET", "/t/short", "", "Origin: https://page.example").Header(); h.Get("Access-Control-Allow-Origin") != "https://page.example" {
		t.Errorf("%v", h)
	}
	for _, s := range []*site{s, newSite(t, httpd.Options{})} {
		if h := s.do("GET", "/t/short", "", "Origin: https://evil.example").Header(); h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%v", h)
		}
	}
}

// proxies are those of the tests.
var proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

func TestClient(t *testing.T) {
	s := newSite(t, httpd.Options{TrustedProxies: proxies})
	for _, test := range []struct {
		peer, said, want string
		direct           bool
	}{
		{"192.0.2.1:5", "", "192.0.2.1", true},
		{"192.0.2.1:5", "198.51.100.7", "192.0.2.1", false}, // of which anybody could say anything
		{"[::ffff:192.0.2.1]:5", "", "192.0.2.1", true},
		{"10.0.0.1:5", "", "10.0.0.1", false},
		{"10.0.0.1:5", "198.51.100.7", "198.51.100.7", false},
		{"10.0.0.1:5", "203.0.113.9, 198.51.100.7 , 10.1.1.1", "198.51.100.7", false},
		{"10.0.0.1:5", "198.51.100.7, nonsense", "10.0.0.1", false},
		{"[fd00::1]:5", "2001:db8::1", "2001:db8::1", false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = test.peer
		if test.said != "" {
			r.Header.Set("X-Forwarded-For", test.said)
		}
		if got, direct := s.Client(r); got.String() != test.want || direct != test.direct {
			t.Errorf("%s for %q: %s, %v; want %s, %v", test.peer, test.said, got, direct, test.want, test.direct)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := newSite(t, httpd.Options{TrustedProxies: proxies})
	s.do("GET", "/t/short", "")
	host, via := "127.0.0.1:8080", ""
	ask := func(peer string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.RemoteAddr, r.Host = peer, host
		if via != "" {
			r.Header.Set(via, "x")
		}
		for _, h := range headers {
			r.Header.Set("X-Forwarded-For", h)
		}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		return rec
	}
	rec := ask("127.0.0.1:5")
	if want := `loupe_http_requests_total{dialect="test",method="GET",route="GET /t/short",status="200"} 1`; rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), want) {
		t.Errorf("%d %.500s; want %s", rec.Code, rec.Body, want)
	}
	for _, rec := range []*httptest.ResponseRecorder{ask("192.0.2.1:5"), ask("127.0.0.1:5", "127.0.0.1"), ask("10.0.0.1:5", "127.0.0.1")} {
		if rec.Code != http.StatusForbidden {
			t.Errorf("%d; want 403 for who is far away or behind a proxy", rec.Code)
		}
	}
	for _, via = range []string{"X-Real-Ip", "Forwarded", "Via", "X-Forwarded-Host"} {
		if rec := ask("127.0.0.1:5"); rec.Code != http.StatusForbidden {
			t.Errorf("%d behind a proxy that says %s; want 403", rec.Code, via)
		}
	}
	via, host = "", "loupe.example"
	if rec := ask("127.0.0.1:5"); rec.Code != http.StatusForbidden {
		t.Errorf("%d under a name that may be anybody's; want 403", rec.Code)
	}
}

func TestRequestID(t *testing.T) {
	s := newSite(t, httpd.Options{})
	for sent, kept := range map[string]bool{"a.B-3_": true, strings.Repeat("a", 128): true, strings.Repeat("a", 129): false, "a b": false, "": false, "é": false} {
		got := s.do("GET", "/nowhere", "", "X-Request-Id: "+sent).Header().Get("X-Request-Id")
		if (got == sent) != kept || got == "" {
			t.Errorf("sent %q, got %q; kept: %v", sent, got, kept)
		}
	}
}

// TestPaths sends paths that no route takes.
func TestPaths(t *testing.T) {
	s := newSite(t, httpd.Options{})
	for _, path := range []string{"/t/long/", "/t//long", "/t/./long", "/t/x/../long", "/t/%00", "/t/%ff", "/t/LONG", "/t", "/"} {
		s.backend.counts = map[string]int64{}
		if rec := s.do("GET", path, ""); rec.Code != http.StatusNotFound {
			t.Errorf("%s: %d; want 404", path, rec.Code)
		}
	}
}

func TestServeEnds(t *testing.T) {
	s := newSite(t, httpd.Options{})
	started, release := make(chan bool), make(chan bool)
	s.post = func(context.Context, string) (textOut, error) {
		close(started)
		<-release
		return textOut{Text: "done"}, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, nil) }()
	answered := make(chan string, 1)
	go func() {
		r, _ := http.NewRequest("POST", "http://"+l.Addr().String()+"/t/things", strings.NewReader(`{"text":""}`))
		r.Header.Set("Authorization", "bearer good")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		answered <- string(data)
	}()
	<-started
	cancel()
	close(release)
	if got := <-answered; got != "{\"text\":\"done\"}\n" {
		t.Errorf("a request that had begun got %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func FuzzClient(f *testing.F) {
	f.Add("10.0.0.1:5", "203.0.113.9, 198.51.100.7")
	f.Add("[fd00::1%eth0]:5", "::ffff:1.2.3.4,,")
	s := httpd.New(&backend{}, http.NewServeMux(), nil, httpd.Options{TrustedProxies: proxies})
	f.Fuzz(func(t *testing.T, peer, said string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		r.Header["X-Forwarded-For"] = []string{said}
		addr, direct := s.Client(r)
		if direct {
			t.Errorf("%s is direct, though it speaks for %q", peer, said)
		}
		if own, err := netip.ParseAddrPort(peer); err == nil && !proxies[0].Contains(own.Addr().Unmap()) && !proxies[1].Contains(own.Addr()) && addr != own.Addr().Unmap() {
			t.Errorf("%s is taken for %s", peer, addr)
		}
	})
}

func FuzzScopedNames(f *testing.F) {
	for _, path := range []string{"/packages/npm/@a/b", "/packages/npm/%40a%2Fb/versions/1", "/packages/npm/@a%2fb/diff", "/packages/npm/a", "/packages/npm/@a/b/versions/1/sbom"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r, err := http.NewRequest("GET", path, nil)
		if err != nil || r.URL.Host != "" || r.URL.Opaque != "" {
			return
		}
		httpd.ScopedNames(http.HandlerFunc(func(_ http.ResponseWriter, got *http.Request) {
			if got.URL.Path != r.URL.Path {
				t.Errorf("%q became %q", r.URL.Path, got.URL.Path)
			}
			if n := strings.Count(r.URL.EscapedPath(), "/") - strings.Count(got.URL.EscapedPath(), "/"); n < 0 || n > 1 {
				t.Errorf("%q became %q", r.URL.EscapedPath(), got.URL.EscapedPath())
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	})
}
