package httpd

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
)

// dispatch finds out which dialect and route a request is for, makes the checks
// that come before the handler, and hands it over.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	seen := observed(r)
	api := dialect.Of(s.apis, r.URL.Path)
	if api == nil {
		s.elsewhere(w, r)
		return
	}
	seen.api = api
	seen.Header = w.Header()
	r = r.WithContext(dialect.With(r.Context(), &seen.Request))
	pattern, problem := s.route(r)
	access := api.Access(pattern)
	seen.pattern = pattern
	switch {
	case problem == nil && access == nil: // a path of another dialect's
		problem = notFound()
	case problem != nil && r.Method == http.MethodOptions && problem.Status == http.StatusMethodNotAllowed:
		w.Header().Set("Allow", problem.Headers.Get("Allow"))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if problem != nil {
		access = &dialect.Access{Public: true}
	}
	if !s.admit(w, r, api, access) {
		return
	}
	if problem != nil {
		if allow := problem.Headers.Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
		}
		problem.Request = &seen.Request
		api.Fail(w, *problem)
		return
	}
	s.once(w, r, api, access)
}

// elsewhere answers what belongs to no dialect: health, metrics, and the rest in
// the manner of the first dialect.
func (s *Server) elsewhere(w http.ResponseWriter, r *http.Request) {
	seen := observed(r)
	if _, problem := s.route(r); problem != nil {
		problem.Request = &seen.Request
		if allow := problem.Headers.Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
			if r.Method == http.MethodOptions {
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		s.apis[0].Fail(w, *problem)
		return
	}
	_, seen.pattern = s.mux.Handler(r)
	s.mux.ServeHTTP(w, r)
}

func notFound() *dialect.Problem {
	return &dialect.Problem{Kind: fault.NotFound, Message: "not found"}
}

// route returns the pattern of the mux for a request, or why there is none. A
// path is taken as it is written: one that could be written shorter is another.
func (s *Server) route(r *http.Request) (string, *dialect.Problem) {
	p := r.URL.EscapedPath()
	if p == "" || p[0] != '/' || path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/" || !utf8.ValidString(r.URL.Path) || strings.ContainsRune(r.URL.Path, 0) {
		return "", notFound()
	}
	if _, pattern := s.mux.Handler(r); pattern != "" {
		return pattern, nil
	}
	var allow []string
	other := *r
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other.Method = method
		if _, pattern := s.mux.Handler(&other); pattern != "" {
			allow = append(allow, method)
		}
	}
	if len(allow) == 0 {
		return "", notFound()
	}
	if slices.Contains(allow, http.MethodGet) {
		allow = append(allow, http.MethodHead)
	}
	slices.Sort(allow)
	return "", &dialect.Problem{
		Status: http.StatusMethodNotAllowed, Kind: fault.Invalid, Message: "method not allowed",
		Headers: http.Header{"Allow": {strings.Join(append(allow, http.MethodOptions), ", ")}},
	}
}
