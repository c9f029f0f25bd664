package egress

import (
	"context"
	"net/http"
	"net/url"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// onlyKey marks the context of a request that may not go everywhere.
type onlyKey struct{}

// Only returns a context in which every request, also one to which a server
// redirects, must be allowed by its URL. It is for addresses that a target
// names: allow narrows what the guard lets pass, and widens nothing.
func Only(ctx context.Context, allow func(*url.URL) bool) context.Context {
	return context.WithValue(ctx, onlyKey{}, allow)
}

// checkOnly refuses a request that its context does not allow.
func checkOnly(req *http.Request) error {
	if allow, ok := req.Context().Value(onlyKey{}).(func(*url.URL) bool); ok && !allow(req.URL) {
		return fault.New(fault.Forbidden, "%s is not among the hosts that may be asked for this", req.URL.Host).Try("allow the host if you trust it")
	}
	return nil
}
