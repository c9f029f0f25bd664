package httpd

import (
	"log/slog"
	"net/http"
	"time"
)

// A recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach what is beneath.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observe writes a line of the log for each request, and counts it. A line names
// the route and not the path, in which there may be names that are nobody's
// business, and never a header or a body.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		r, end := s.opt.Tracer.span(r)
		next.ServeHTTP(rec, r)
		took := time.Since(start)
		seen := observed(r)
		name := "none"
		if seen.api != nil {
			name = seen.api.Name
		}
		if rec.status == 0 {
			rec.status = http.StatusOK
		}
		end(seen, rec.status)
		s.metrics.request(name, seen.pattern, r.Method, rec.status, took)
		attrs := []slog.Attr{
			slog.String("id", seen.ID), slog.String("method", method(r.Method)), slog.String("route", seen.pattern), slog.String("dialect", name),
			slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.Duration("took", took.Round(time.Microsecond)), slog.String("address", seen.address.String()),
		}
		if seen.Actor != nil {
			attrs = append(attrs, slog.String("org", seen.Actor.OrgID), slog.String("key", seen.Actor.KeyID))
		}
		level := slog.LevelInfo
		if seen.Failure != nil {
			level = slog.LevelError
			attrs = append(attrs, slog.Any("error", seen.Failure))
		}
		s.opt.Log.LogAttrs(r.Context(), level, "request", attrs...)
	})
}

// method returns a method that we know, so that nobody writes what they like
// into our figures.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}
