package egress

import (
	"context"
	"net/http"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// credentials names the headers that never leave their origin.
var credentials = []string{"Authorization", "Cookie", "Cookie2", "Proxy-Authorization", "Www-Authenticate"}

// vouchedKey marks the context of a request to which a trusted origin
// redirected.
type vouchedKey struct{}

func isVouched(ctx context.Context) bool { return ctx.Value(vouchedKey{}) != nil }

// checkRedirect judges the next hop. The address of each hop is judged by
// RoundTrip, as if it were a first request, but that of the one to which a
// trusted origin sends us may be private.
func (c *Client) checkRedirect(next *http.Request, via []*http.Request) error {
	last := via[len(via)-1]
	if len(via) > max(0, c.opts.MaxRedirects) {
		return fault.New(fault.Unavailable, "%s redirects more than %d times", last.URL.Host, max(0, c.opts.MaxRedirects)).
			Try("check the address")
	}
	if last.URL.Scheme == "https" && next.URL.Scheme != "https" {
		return fault.New(fault.Forbidden, "%s redirects from https to %s, which is refused", last.URL.Host, next.URL.Scheme).
			Try("ask its operator to serve the file over https")
	}
	// A registry that moves its visitors to https is the same registry.
	if c.isTrusted(last.URL) && hostname(next.URL) == hostname(last.URL) && next.URL.Scheme == "https" {
		c.trust(next.URL)
	}
	if c.isTrusted(last.URL) {
		*next = *next.WithContext(context.WithValue(next.Context(), vouchedKey{}, true))
	}
	next.Header.Del("Referer") // it would tell one host the paths of another
	next.URL.User = nil
	first := origin(via[0].URL)
	strayed := origin(next.URL) != first
	for _, v := range via {
		strayed = strayed || origin(v.URL) != first
	}
	if strayed {
		for _, name := range credentials {
			next.Header.Del(name)
		}
	}
	return nil
}
