package dialect

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// A Problem is why a request has no answer.
type Problem struct {
	Status  int
	Kind    fault.Kind
	Message string // for the user
	Field   string // of the request that is wrong: "packageName"; empty if it is none
	Value   any    // of the field; nil if it is missing or none
	Fields  map[string][]string
	Headers http.Header
	Request *Request // never nil
}

// statuses are those of the kinds of faults, unless a dialect has others.
var statuses = map[fault.Kind]int{
	fault.Internal:        http.StatusInternalServerError,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Conflict:        http.StatusConflict,
	fault.Exhausted:       http.StatusTooManyRequests,
	fault.Throttled:       http.StatusTooManyRequests,
	fault.Unavailable:     http.StatusServiceUnavailable,
	fault.Unsupported:     http.StatusNotImplemented,
}

// settle fills in the status of p, and its body.
func (d *Dialect) settle(p Problem) *failure {
	if p.Request == nil {
		p.Request = &Request{Header: http.Header{}}
	}
	if p.Status == 0 {
		p.Status = statuses[p.Kind]
	}
	if p.Status == 0 { // Invalid, and bytes that are not what they should be
		p.Status = d.Invalid
	}
	if d.Status != nil {
		if s := d.Status(p); s != 0 {
			p.Status = s
		}
	}
	return &failure{p.Status, d.Body(p)}
}

// Fail answers a request with an error before any handler ran.
func (d *Dialect) Fail(w http.ResponseWriter, p Problem) {
	f := d.settle(p)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	_ = marshal(w, f) // a client that left is nobody's error
}

// FailWith answers a request with an error of a use case.
func (d *Dialect) FailWith(w http.ResponseWriter, r *Request, err error) {
	d.Fail(w, problemOf(r, err))
}

// problemOf makes a problem of an error of a use case.
func problemOf(r *Request, err error) Problem {
	kind, text := fault.Of(err)
	p := Problem{Kind: kind, Message: text, Request: r}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		p.Field, p.Value = e.Field, e.Value
		if e.Wait > 0 {
			r.Header.Set("Retry-After", strconv.FormatInt(max(1, int64(e.Wait.Round(time.Second)/time.Second)), 10))
		}
	}
	if kind == fault.Internal || kind == fault.Unavailable {
		r.Failure = err
	}
	return p
}

// A failure is a problem as huma sends it.
type failure struct {
	status int
	body   any
}

func (f *failure) Error() string                { return http.StatusText(f.status) }
func (f *failure) GetStatus() int               { return f.status }
func (f *failure) ContentType(string) string    { return "application/json" }
func (f *failure) MarshalJSON() ([]byte, error) { return json.Marshal(f.body) }

// newError makes the error of a dialect of what huma or a handler says.
func newError(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
	api := ctx.Operation().Metadata["api"].(*API)
	r := request(ctx.Context())
	p := Problem{Status: status, Kind: fault.Invalid, Message: message, Request: r, Fields: map[string][]string{}}
	switch status {
	case http.StatusInternalServerError:
		if message == "cannot read request body" { // whose sender broke off, or broke the rules of HTTP
			p.Status = api.Invalid
			p.whole("the body ends too early")
			break
		}
		return api.settle(problemOf(r, errors.Join(errs...)))
	case http.StatusRequestEntityTooLarge:
		p.Message = "the body is too large"
	case http.StatusUnsupportedMediaType:
		p.Message = "the body must be JSON"
	case http.StatusRequestTimeout:
		p.Message = "the body came too slowly"
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		p.Status = api.Invalid
		p.explain(errs)
	}
	return api.settle(p)
}

var requires = regexp.MustCompile(`^expected required property (\S+) to be present`)

// explain says of each field what is wrong with it, and of the first of them in
// the message.
func (p *Problem) explain(errs []error) {
	add := func(field, text string, value any) {
		if len(p.Fields) == 0 {
			p.Field, p.Value, p.Message = field, value, field+": "+text
			if text == missing {
				p.Message = field + " is required"
			}
		}
		p.Fields[field] = append(p.Fields[field], text)
	}
	for _, err := range errs {
		detail, ok := errors.AsType[*huma.ErrorDetail](err)
		if !ok {
			continue
		}
		_, field, nested := strings.Cut(detail.Location, ".") // "body.packages[0].name", "query.from"
		switch m := requires.FindStringSubmatch(detail.Message); {
		case m != nil && nested:
			add(field+"."+m[1], missing, nil)
		case m != nil:
			add(m[1], missing, nil)
		case strings.HasPrefix(detail.Message, "required ") && strings.HasSuffix(detail.Message, " is missing"):
			add(field, missing, nil)
		case !nested:
			p.whole(detail.Message)
		default:
			add(field, detail.Message, detail.Value)
		}
	}
	if len(p.Fields) == 0 { // huma said it in the message: there is no body
		p.whole("the body is missing")
	}
}

// missing is what is wrong with a field that is not there.
const missing = "field required"

// whole says that it is the body that is wrong.
func (p *Problem) whole(text string) {
	if len(p.Fields) == 0 {
		p.Field, p.Message = "body", text
	}
	p.Fields["body"] = append(p.Fields["body"], text)
}
