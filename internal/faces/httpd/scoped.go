package httpd

import (
	"net/http"
	"regexp"
	"strings"
)

// scoped is a path below /packages with the name of an npm package that has a
// scope, as people write it: with a slash that is none between segments.
var scoped = regexp.MustCompile(`^(/packages/[^/]+/)(@|%40)([^/]+)/([^/]+)(/.*)?$`)

// scopedNames writes the slash in the name of a package so that the mux takes it
// for a part of it: /packages/npm/@a/b is /packages/npm/@a%2Fb.
func scopedNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := scoped.FindStringSubmatch(r.URL.EscapedPath())
		if m == nil || strings.Contains(strings.ToUpper(m[3]), "%2F") {
			next.ServeHTTP(w, r)
			return
		}
		u := *r.URL
		u.RawPath = m[1] + m[2] + m[3] + "%2F" + m[4] + m[5]
		other := *r
		other.URL = &u
		next.ServeHTTP(w, &other)
	})
}
