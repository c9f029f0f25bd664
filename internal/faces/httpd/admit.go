package httpd

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// admit makes the checks that need no body: who asks, how often, and whether
// they may. It answers the request itself if they may not.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, api *dialect.API, access *dialect.Access) bool {
	seen := observed(r)
	actor, err := s.authenticate(r, api, access)
	seen.Actor = actor
	if fault.Is(err, fault.Unauthenticated) || err == nil {
		if !s.count(w, r, api, access) {
			return false
		}
	}
	switch {
	case fault.Is(err, fault.Unauthenticated):
		w.Header().Set("WWW-Authenticate", "Bearer")
		fallthrough
	case err != nil:
		api.FailWith(w, &seen.Request, err)
		return false
	case actor != nil && !access.Public && !actor.May(access.Scope):
		api.FailWith(w, &seen.Request, fault.New(fault.Forbidden, "the key lacks the scope %s", access.Scope))
		return false
	case r.ContentLength > access.MaxBytes && access.MaxBytes > 0:
		w.Header().Set("Connection", "close") // rather than read it all
		api.Fail(w, dialect.Problem{Status: http.StatusRequestEntityTooLarge, Kind: fault.Invalid, Message: "the body is too large", Request: &seen.Request})
		return false
	}
	if actor != nil {
		w.Header().Set("Cache-Control", "no-store")
	}
	return true
}

// authenticate returns who asks: the holder of the key in the dialect's own
// header or behind Authorization, or nobody on a public route.
func (s *Server) authenticate(r *http.Request, api *dialect.API, access *dialect.Access) (*app.Actor, error) {
	if access.Signature {
		return nil, nil
	}
	keys := r.Header.Values(api.KeyHeader)
	for _, v := range r.Header.Values("Authorization") {
		if scheme, key, _ := strings.Cut(v, " "); strings.EqualFold(scheme, "Bearer") {
			keys = append(keys, key)
		}
	}
	key := ""
	for i, k := range keys {
		if k = strings.TrimSpace(k); i > 0 && k != key {
			return nil, fault.New(fault.Unauthenticated, "two different API keys")
		}
		key = k
	}
	switch {
	case len(keys) > 0:
		return s.backend.Authenticate(r.Context(), key)
	case access.Public:
		return nil, nil
	}
	return nil, fault.New(fault.Unauthenticated, "an API key is required")
}

// count counts a request against its key, or its address if it has no good one.
func (s *Server) count(w http.ResponseWriter, r *http.Request, api *dialect.API, access *dialect.Access) bool {
	seen := observed(r)
	subject := api.Name + "/" + subjectOf(seen.address)
	if seen.Actor != nil && !api.PerAddress {
		subject = seen.Actor.KeyID
	}
	rates := api.Rates(seen.Actor)
	if access.Free {
		rates = nil
	}
	count, err := s.backend.Take(r.Context(), subject, rates)
	if err != nil {
		api.FailWith(w, &seen.Request, err)
		return false
	}
	if api.RateHeaders {
		h := w.Header() // in the spelling of the documents, which http.Header would change
		h["X-RateLimit-Limit"] = []string{strconv.FormatInt(count.Limit, 10)}
		h["X-RateLimit-Remaining"] = []string{strconv.FormatInt(count.Left, 10)}
		h["X-RateLimit-Reset"] = []string{strconv.FormatInt(count.Reset.Unix(), 10)}
	}
	if count.Over {
		wait := max(1, int64(count.Reset.Sub(s.opt.Now()).Round(time.Second)/time.Second))
		w.Header().Set("Retry-After", strconv.FormatInt(wait, 10))
		api.FailWith(w, &seen.Request, fault.New(fault.Throttled, "Rate limit exceeded").Try("try again in %d seconds", wait))
		return false
	}
	return true
}

// subjectOf names an address, or of IPv6 the network of one customer.
func subjectOf(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
