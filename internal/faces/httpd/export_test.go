package httpd

import (
	"net/http"
	"net/netip"
)

// Client returns from where a request comes, as a server sees it.
func (s *Server) Client(r *http.Request) (netip.Addr, bool) { return s.client(r) }

// ScopedNames writes the path of a request for the mux.
var ScopedNames = scopedNames
