package dialect

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/loupe-sec/loupe/internal/service/app"
)

// A Request is what is known of a request besides its input, and what a handler
// says of its answer besides the body.
type Request struct {
	ID      string
	Actor   *app.Actor  // nil without a key
	Base    string      // of links, without a slash at its end: "https://loupe.example"
	URL     *url.URL    // that was asked for
	Header  http.Header // of the answer
	Code    int         // of the answer; 0 is the usual one
	Failure error       // why there is no answer, for the log
}

type requestKey struct{}

// With returns a context that knows a request.
func With(ctx context.Context, r *Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// request returns what is known of a request; never nil.
func request(ctx context.Context) *Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return r
	}
	return &Request{Header: http.Header{}, URL: &url.URL{}}
}

func (r *Request) status(usual int) int {
	if r.Code != 0 {
		return r.Code
	}
	return usual
}

// Actor returns who asks, or nil.
func Actor(ctx context.Context) *app.Actor { return request(ctx).Actor }

// RequestID returns what the request is called in logs.
func RequestID(ctx context.Context) string { return request(ctx).ID }

// Link returns the absolute address of a path on this server.
func Link(ctx context.Context, path string) string { return request(ctx).Base + path }

// SetStatus chooses another status than the usual one of a route.
func SetStatus(ctx context.Context, code int) { request(ctx).Code = code }

// SetHeader sets a header of the answer.
func SetHeader(ctx context.Context, name, value string) { request(ctx).Header.Set(name, value) }

// checkQuery refuses texts that no database keeps, as [unmarshal] does for
// bodies. Paths that hold them lead nowhere.
func (api *API) checkQuery(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	for name, values := range u.Query() {
		for _, v := range values {
			if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				huma.WriteErr(api.huma, ctx, api.Invalid, "", &huma.ErrorDetail{Location: "query." + name, Message: "not text"})
				return
			}
		}
	}
	next(ctx)
}

// SetPage says which part of a list an answer holds: X-Total-Count, and in Link
// (RFC 8288) where the parts before and after it are.
func SetPage(ctx context.Context, limit, offset, total int) {
	r := request(ctx)
	r.Header.Set("X-Total-Count", fmt.Sprint(total))
	link := func(rel string, offset int) {
		u := *r.URL
		q := u.Query()
		q.Set("limit", fmt.Sprint(limit))
		q.Set("offset", fmt.Sprint(offset))
		u.RawQuery = q.Encode()
		r.Header.Add("Link", fmt.Sprintf("<%s%s>; rel=%q", r.Base, u.RequestURI(), rel))
	}
	if offset > 0 {
		link("first", 0)
		link("prev", max(0, offset-limit))
	}
	if limit > 0 && offset < total-limit {
		link("next", offset+limit)
		link("last", (total-1)/limit*limit)
	}
}
