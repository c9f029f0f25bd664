package httpd

import (
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// addHealth puts what operators and their machines ask for on the mux: whether
// the process lives, whether it can work, its figures and its profiles. Figures
// and profiles are for who connects to it directly from a private network.
func (s *Server) addHealth() {
	s.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok\n") })
	s.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.backend.Ready(r.Context()); err != nil {
			observed(r).Failure = err
			say(w, http.StatusServiceUnavailable, "not ready\n")
			return
		}
		say(w, http.StatusOK, "ok\n")
	})
	s.mux.Handle("GET /metrics", near(promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{})))
	if s.opt.Pprof {
		s.mux.Handle("GET /debug/pprof/", near(http.HandlerFunc(pprof.Index)))
		s.mux.Handle("GET /debug/pprof/profile", near(http.HandlerFunc(pprof.Profile)))
		s.mux.Handle("GET /debug/pprof/trace", near(http.HandlerFunc(pprof.Trace)))
	}
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // a client that left is nobody's error
}

// forwarded says whether a proxy has spoken, or the name of a host that only a
// browser led astray would use.
func forwarded(r *http.Request) bool {
	for _, name := range []string{"X-Real-Ip", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil && host != "localhost"
}

// near refuses who is far away.
func near(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := observed(r)
		if !seen.direct || forwarded(r) || !seen.address.IsLoopback() && !seen.address.IsPrivate() {
			say(w, http.StatusForbidden, "only for direct connections from a private network\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}
