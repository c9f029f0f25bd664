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
	if problem == nil && access == nil { // a route of another dialect's
		problem = notFound()
	}
	if problem != nil {
		s.refuse(w, r, api, problem)
		return
	}
	seen.pattern = pattern
	if s.admit(w, r, api, access) {
		s.once(w, r, api, access)
	}
}

// refuse answers a request that has no route. It counts as any other, but
// whoever asks how often: the route is the first thing to be checked.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, api *dialect.API, problem *dialect.Problem) {
	public := &dialect.Access{Public: true}
	actor, _ := s.authenticate(w, r, api, public)
	_, _ = s.count(w, r, actor, api, public)
	s.answer(w, r, api, problem)
}

// answer says that there is no route, and to OPTIONS which methods there are.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, api *dialect.API, problem *dialect.Problem) {
	if allow := problem.Headers.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	problem.Request = &observed(r).Request
	api.Fail(w, *problem)
}

// elsewhere answers what belongs to no dialect: health, metrics, and the rest in
// the manner of the first dialect.
func (s *Server) elsewhere(w http.ResponseWriter, r *http.Request) {
	pattern, problem := s.route(r)
	if problem != nil {
		s.answer(w, r, s.apis[0], problem)
		return
	}
	observed(r).pattern = pattern
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
