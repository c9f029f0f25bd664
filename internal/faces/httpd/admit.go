package httpd

import (
	"net/http"
	"net/netip"
	"net/url"
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
	actor, err := s.authenticate(w, r, api, access)
	count, uncounted := s.count(w, r, actor, api, access)
	switch {
	case fault.Is(err, fault.Unauthenticated):
		w.Header().Set("WWW-Authenticate", "Bearer")
		fallthrough
	case err != nil:
		api.FailWith(w, &seen.Request, err)
	case uncounted != nil:
		api.FailWith(w, &seen.Request, uncounted)
	case count.Over:
		wait := max(time.Second, count.Reset.Sub(s.opt.Now()).Round(time.Second))
		api.FailWith(w, &seen.Request, fault.New(fault.Throttled, "Rate limit exceeded").Try("try again in %d seconds", wait/time.Second).After(wait))
	case actor != nil && !access.Public && !actor.May(access.Scope):
		api.FailWith(w, &seen.Request, fault.New(fault.Forbidden, "the key lacks the scope %s", access.Scope))
	case actor != nil && access.Org > 0 && !actor.Belongs(segment(r, access.Org)):
		api.FailWith(w, &seen.Request, fault.New(fault.Forbidden, "not a member of this organization"))
	case r.ContentLength > access.MaxBytes && access.MaxBytes > 0:
		w.Header().Set("Connection", "close") // rather than read it all
		api.Fail(w, dialect.Problem{Status: http.StatusRequestEntityTooLarge, Kind: fault.Invalid, Message: "the body is too large", Request: &seen.Request})
	default:
		plainType(r.Header)
		return true
	}
	return false
}

// plainType writes the media type of a body in small letters, as huma knows it:
// case means nothing in it (RFC 9110, section 8.3.1).
func plainType(h http.Header) {
	if kind, parameters, _ := strings.Cut(h.Get("Content-Type"), ";"); kind != "" {
		h.Set("Content-Type", strings.TrimSuffix(strings.ToLower(strings.TrimSpace(kind))+";"+parameters, ";"))
	}
}

// segment returns a segment of the path of a request, the one behind the first
// slash being number 1.
func segment(r *http.Request, n int) string {
	text, err := url.PathUnescape(strings.Split(r.URL.EscapedPath(), "/")[n])
	if err != nil {
		return ""
	}
	return text
}

// authenticate returns who asks: the holder of the key in the dialect's own
// header or behind Authorization, or nobody on a public route.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, api *dialect.API, access *dialect.Access) (*app.Actor, error) {
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
		actor, err := s.backend.Authenticate(r.Context(), key)
		if err != nil {
			return nil, err
		}
		seen := observed(r)
		seen.Actor, actor.RequestID = actor, seen.ID
		w.Header().Set("Cache-Control", "no-store")
		return actor, nil
	case access.Public:
		return nil, nil
	}
	return nil, fault.New(fault.Unauthenticated, "an API key is required")
}

// count counts a request against its key, or its address if it has no good one,
// and says in the header how many are left.
func (s *Server) count(w http.ResponseWriter, r *http.Request, actor *app.Actor, api *dialect.API, access *dialect.Access) (app.Count, error) {
	subject := api.Name + "/" + subjectOf(observed(r).address)
	if actor != nil && !api.PerAddress {
		subject = actor.KeyID
	}
	rates := api.Rates(actor)
	if access.Free {
		rates = nil
	}
	count, err := s.backend.Take(r.Context(), subject, rates)
	if api.RateHeaders {
		h := w.Header() // in the spelling of the documents, which http.Header would change
		h["X-RateLimit-Limit"] = []string{strconv.FormatInt(count.Limit, 10)}
		h["X-RateLimit-Remaining"] = []string{strconv.FormatInt(count.Left, 10)}
		h["X-RateLimit-Reset"] = []string{strconv.FormatInt(count.Reset.Unix(), 10)}
	}
	return count, err
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
