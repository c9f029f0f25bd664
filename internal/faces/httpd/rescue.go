package httpd

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
)

// rescue turns a panic of a handler into an answer and a line of the log.
func (s *Server) rescue(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			seen := observed(r)
			seen.Failure = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			if rec, ok := w.(*recorder); ok && rec.status != 0 {
				panic(http.ErrAbortHandler) // an answer has begun, and cannot be taken back
			}
			for _, name := range []string{"Content-Disposition", "Content-Encoding", "Content-Length", "Etag", "Link", "X-Total-Count"} {
				w.Header().Del(name) // of the answer that there is not
			}
			api := seen.api
			if api == nil {
				api = s.apis[0]
			}
			api.Fail(w, dialect.Problem{Kind: fault.Internal, Message: "internal error", Request: &seen.Request})
		}()
		next.ServeHTTP(w, r)
	})
}
