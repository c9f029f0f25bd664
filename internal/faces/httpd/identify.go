package httpd

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
)

// observation is what is learned of a request on its way.
type observation struct {
	dialect.Request
	address netip.Addr // of the client
	direct  bool       // nobody stands between it and us
	api     *dialect.API
	pattern string // of the mux; empty if there is no route
}

type observationKey struct{}

// observed returns what is known of a request so far.
func observed(r *http.Request) *observation {
	return r.Context().Value(observationKey{}).(*observation)
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// identify gives each request a name, and finds out where it comes from.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := &observation{}
		if o.ID = r.Header.Get("X-Request-Id"); !requestID.MatchString(o.ID) {
			o.ID = rand.Text()
		}
		w.Header().Set("X-Request-Id", o.ID)
		o.URL = r.URL
		o.Base = s.opt.PublicURL
		secure := r.TLS != nil
		o.address, o.direct = s.client(r)
		if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && s.trusted(peer.Addr()) && r.Header.Get("X-Forwarded-Proto") == "https" {
			secure = true
		}
		if o.Base == "" {
			o.Base = map[bool]string{false: "http://", true: "https://"}[secure] + r.Host
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), observationKey{}, o)))
	})
}

// client returns the address of who asks: the peer, or what proxies that are
// trusted say, as far from us as they all are.
func (s *Server) client(r *http.Request) (addr netip.Addr, direct bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	addr = peer.Addr().Unmap()
	said := r.Header.Values("X-Forwarded-For")
	if !s.trusted(addr) {
		return addr, len(said) == 0
	}
	hops := strings.Split(strings.Join(said, ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		if addr = a.Unmap(); !s.trusted(addr) {
			break
		}
	}
	return addr, false
}

func (s *Server) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(s.opt.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}
