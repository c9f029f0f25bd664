package httpd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// passing are statuses that say how things stand now, and not what became of the
// request: when it comes again, they may stand otherwise.
var passing = map[int]bool{
	http.StatusUnauthorized: true, http.StatusForbidden: true, http.StatusRequestTimeout: true, http.StatusTooManyRequests: true,
}

// maxKept is how large an answer may be to be kept for a request that comes
// again, in bytes. A larger one is made again.
const maxKept = 1 << 20

// once hands a request to its handler; one with an Idempotency-Key only the
// first time. When it comes again, it gets the same answer.
func (s *Server) once(w http.ResponseWriter, r *http.Request, api *dialect.API, access *dialect.Access) {
	seen := observed(r)
	name := r.Header.Get("Idempotency-Key")
	if name == "" || r.Method != http.MethodPost || seen.Actor == nil {
		s.mux.ServeHTTP(w, r)
		return
	}
	fail := func(status int, kind fault.Kind, text string) {
		api.Fail(w, dialect.Problem{Status: status, Kind: kind, Message: text, Field: "Idempotency-Key", Request: &seen.Request})
	}
	if len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
		fail(api.Invalid, fault.Invalid, "Idempotency-Key: at most 255 printable letters")
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, access.MaxBytes+1))
	if err != nil || int64(len(body)) > access.MaxBytes {
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), r.Body))
		s.mux.ServeHTTP(w, r) // which says what is wrong
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	sum := sha256.Sum256(body)
	this := app.Repeat{Route: seen.pattern + " " + r.URL.EscapedPath(), Name: name, Body: sum[:]}
	state, before, err := s.backend.BeginRepeat(r.Context(), seen.Actor, this)
	switch {
	case err != nil:
		api.FailWith(w, &seen.Request, err)
		return
	case state == app.RepeatOther:
		fail(http.StatusUnprocessableEntity, fault.Invalid, "Idempotency-Key: used before with another body")
		return
	case state == app.RepeatRunning:
		fail(http.StatusConflict, fault.Conflict, "Idempotency-Key: the first request still runs")
		return
	case state == app.RepeatAnswered:
		w.Header().Set("Idempotent-Replayed", "true")
		w.Header().Set("Content-Type", before.MediaType)
		w.WriteHeader(before.Status)
		_, _ = w.Write(before.Data) // a client that left is nobody's error
		return
	}
	kept := &keeping{ResponseWriter: w}
	defer func() { // also after a panic, so that the request can be made again
		answer := app.Answer{Status: kept.status, MediaType: w.Header().Get("Content-Type"), Data: masked(kept.data, access.Secrets)}
		if kept.status >= 500 || kept.status == 0 || kept.over || passing[kept.status] {
			answer = app.Answer{}
		}
		if err := s.backend.FinishRepeat(context.WithoutCancel(r.Context()), seen.Actor, this, answer); err != nil && seen.Failure == nil {
			seen.Failure = err
		}
	}()
	s.mux.ServeHTTP(kept, r)
}

// keeping keeps a copy of an answer.
type keeping struct {
	http.ResponseWriter
	status int
	data   []byte
	over   bool // it is too large to be kept
}

// Unwrap lets http.ResponseController reach what is beneath.
func (k *keeping) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (k *keeping) WriteHeader(status int) {
	k.status = status
	k.ResponseWriter.WriteHeader(status)
}

func (k *keeping) Write(b []byte) (int, error) {
	if k.status == 0 {
		k.status = http.StatusOK
	}
	if k.over = k.over || len(k.data)+len(b) > maxKept; !k.over {
		k.data = append(k.data, b...)
	}
	return k.ResponseWriter.Write(b)
}

// masked returns an answer without the secrets that are shown only once.
func masked(data []byte, fields []string) []byte {
	if len(fields) == 0 {
		return data
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil {
		return nil
	}
	for _, f := range fields {
		if _, ok := object[f]; ok {
			object[f] = json.RawMessage(`"****"`)
		}
	}
	out, err := json.Marshal(object)
	if err != nil {
		return nil
	}
	return out
}
