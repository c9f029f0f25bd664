// Package httpd is the listener of a server: one mux for all dialects, and what
// happens to a request before and after its handler. Each concern is a file.
//
// The order of checks is that of the contract: route, method, authentication,
// rate, scope, size and type of the body, and then what only the handler knows.
package httpd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// A Backend is what httpd asks of the use cases.
type Backend interface {
	// Authenticate returns who holds a key, or a fault.Unauthenticated.
	Authenticate(ctx context.Context, key string) (*app.Actor, error)
	// Take counts one request of a subject, and says how many are left.
	Take(ctx context.Context, subject string, rates []app.Rate) (app.Count, error)
	// BeginRepeat and FinishRepeat keep the answer to a request that may come
	// twice.
	BeginRepeat(ctx context.Context, by *app.Actor, r app.Repeat) (app.RepeatState, app.Answer, error)
	FinishRepeat(ctx context.Context, by *app.Actor, r app.Repeat, a app.Answer) error
	// Ready says why the server cannot work, or nil.
	Ready(ctx context.Context) error
	// Figures returns what is counted for operators.
	Figures(ctx context.Context) (app.Figures, error)
}

// Options say how to serve.
type Options struct {
	Log            *slog.Logger
	Tracer         *Tracer        // nil for no spans
	PublicURL      string         // base of links; empty for what the request says
	TrustedProxies []netip.Prefix // whose X-Forwarded-For and -Proto are believed
	CORSOrigins    []string       // pages that may read answers; "*" for all
	Pprof          bool           // profiles under /debug/pprof, for the machine itself
	Grace          time.Duration  // for requests that run when the server stops; 20 s
	Now            func() time.Time
}

// A Server answers requests.
type Server struct {
	opt     Options
	backend Backend
	mux     *http.ServeMux
	apis    []*dialect.API
	metrics *metrics
	handler http.Handler
	leaving atomic.Bool // it was told to stop
}

// New returns a server for the routes that apis put on mux.
func New(backend Backend, mux *http.ServeMux, apis []*dialect.API, opt Options) *Server {
	opt.Log = cmp.Or(opt.Log, slog.New(slog.DiscardHandler))
	opt.Grace = cmp.Or(opt.Grace, 20*time.Second)
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Server{opt: opt, backend: backend, mux: mux, apis: apis, metrics: newMetrics(backend)}
	s.addHealth()
	s.handler = http.HandlerFunc(s.dispatch)
	for _, wrap := range []func(http.Handler) http.Handler{ // the last is the first to see a request
		scopedNames, compress, s.crossOrigin, secure, s.rescue, s.observe, s.identify,
	} {
		s.handler = wrap(s.handler)
	}
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	s.handler.ServeHTTP(w, r)
}

// linger is how long clients may hold connections, without a request on them, after
// the server was told to stop.
const linger = 2 * time.Second

// Serve answers requests on l until ctx ends, and then those that have begun.
// With certificates it speaks TLS.
//
// Once ctx has ended, new connections are refused, so that whoever comes goes
// elsewhere, and each answer ends its connection. Connections on which nothing is
// asked are closed only after a while: a request may be on its way on any of them,
// and it would be lost (RFC 9112, section 9.5).
func (s *Server) Serve(ctx context.Context, l net.Listener, certificates *tls.Config) error {
	var open atomic.Int64 // connections
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       20 * time.Second, // with the body: none is large
		WriteTimeout:      5 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug), // mostly clients that break off
		TLSConfig:         certificates,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			}
		},
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		s.leaving.Store(true)
		_ = l.Close() // whose Accept fails then
		for began := time.Now(); open.Load() > 0 && time.Since(began) < linger; {
			time.Sleep(10 * time.Millisecond)
		}
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opt.Grace)
		defer cancel()
		stopped <- server.Shutdown(grace)
	})
	defer stop()
	serve := server.Serve
	if certificates != nil {
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	if err := serve(l); !s.leaving.Load() {
		return err
	}
	if err := <-stopped; errors.Is(err, context.DeadlineExceeded) {
		return server.Close() // of requests that would not end
	} else if err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
