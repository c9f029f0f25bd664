package dialect

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/loupe-sec/loupe/internal/service/app"
)

// A Route is one operation of an API whose handlers are methods of H.
type Route[H any] struct {
	register func(*API, H)
}

// Access says what it takes to use a route, and how its requests are treated
// before they reach it.
type Access struct {
	Public    bool      // no key is needed; a bad one is refused all the same
	Free      bool      // requests are not counted
	Scope     app.Scope // which a key must have
	MaxBytes  int64     // of a body
	Secrets   []string  // fields of the answer that are shown once, and never again
	Signature bool      // the body is authenticated by a signature, and not repeated by its key
	Org       int       // segment of the path that names an organisation, of which a key must be; 0 for none
}

// An Option is something out of the ordinary about a route.
type Option func(*huma.Operation, *Access)

// maxBody is how large a body may be where nothing else is said.
const maxBody = 1 << 20

// Status is the usual status of success.
func Status(code int) Option { return func(op *huma.Operation, _ *Access) { op.DefaultStatus = code } }

// Also adds another status of success, with the same body.
func Also(code int, description string) Option {
	return func(op *huma.Operation, _ *Access) {
		also, _ := op.Metadata["also"].(map[string]string)
		if also == nil {
			also = map[string]string{}
			op.Metadata["also"] = also
		}
		also[strconv.Itoa(code)] = description
	}
}

// Errors adds statuses of failure to those that every route has.
func Errors(codes ...int) Option {
	return func(op *huma.Operation, _ *Access) { op.Errors = append(op.Errors, codes...) }
}

// Public opens a route to requests without a key.
func Public() Option { return func(_ *huma.Operation, a *Access) { a.Public = true } }

// Free does not count the requests of a route.
func Free() Option { return func(_ *huma.Operation, a *Access) { a.Free = true } }

// Signed is for a route whose requests are authenticated by a signature over
// their bodies.
func Signed() Option {
	return func(op *huma.Operation, a *Access) {
		a.Public, a.Free, a.Signature = true, true, true
		op.SkipValidateBody = true // it is the bytes that count
	}
}

// Once names fields of an answer that are shown only once.
func Once(fields ...string) Option {
	return func(_ *huma.Operation, a *Access) { a.Secrets = fields }
}

// MaxBytes allows larger bodies than usual.
func MaxBytes(n int64) Option {
	return func(op *huma.Operation, a *Access) { op.MaxBodyBytes, a.MaxBytes = n+1, n }
}

// Doc explains a route in its OpenAPI document.
func Doc(text string) Option { return func(op *huma.Operation, _ *Access) { op.Description = text } }

// Get is a route that reads. In is a struct of huma's, with fields for path,
// query, header and body.
func Get[H, In, Out any](path string, scope app.Scope, summary string, f func(H, context.Context, *In) (Out, error), options ...Option) Route[H] {
	return route(http.MethodGet, path, scope, summary, f, options)
}

// Post is a route that makes something.
func Post[H, In, Out any](path string, scope app.Scope, summary string, f func(H, context.Context, *In) (Out, error), options ...Option) Route[H] {
	return route(http.MethodPost, path, scope, summary, f, options)
}

// Put is a route that replaces something.
func Put[H, In, Out any](path string, scope app.Scope, summary string, f func(H, context.Context, *In) (Out, error), options ...Option) Route[H] {
	return route(http.MethodPut, path, scope, summary, f, options)
}

// Patch is a route that changes something.
func Patch[H, In, Out any](path string, scope app.Scope, summary string, f func(H, context.Context, *In) (Out, error), options ...Option) Route[H] {
	return route(http.MethodPatch, path, scope, summary, f, options)
}

// Delete is a route that takes something away.
func Delete[H, In, Out any](path string, scope app.Scope, summary string, f func(H, context.Context, *In) (Out, error), options ...Option) Route[H] {
	return route(http.MethodDelete, path, scope, summary, f, options)
}

// answer is what a handler's result looks like to huma.
type answer[Out any] struct {
	Status int
	Body   Out
}

func route[H, In, Out any](method, path string, scope app.Scope, summary string, f func(H, context.Context, *In) (Out, error), options []Option) Route[H] {
	return Route[H]{register: func(api *API, h H) {
		op, access := api.operation(method, path, scope, summary, options)
		if reflect.TypeFor[Out]() == reflect.TypeFor[*Raw]() {
			huma.Register(api.huma, op, func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
				out, err := f(h, ctx, in)
				if err != nil {
					return nil, err
				}
				raw := any(out).(*Raw)
				return &huma.StreamResponse{Body: raw.write}, nil
			})
		} else {
			huma.Register(api.huma, op, func(ctx context.Context, in *In) (*answer[Out], error) {
				out, err := f(h, ctx, in)
				if err != nil {
					return nil, err
				}
				return &answer[Out]{Status: request(ctx).status(op.DefaultStatus), Body: out}, nil
			})
		}
		api.access[method+" "+path] = access
	}}
}

// operation describes a route for huma.
func (api *API) operation(method, path string, scope app.Scope, summary string, options []Option) (huma.Operation, *Access) {
	op := huma.Operation{
		Method: method, Path: path, Summary: summary, OperationID: identifier(summary),
		DefaultStatus: http.StatusOK, MaxBodyBytes: maxBody + 1, // huma refuses a body of exactly so many
		Metadata: map[string]any{"api": api},
	}
	if method == http.MethodPost {
		op.DefaultStatus = http.StatusCreated
	}
	access := &Access{Scope: scope, MaxBytes: maxBody, Org: max(0, slices.Index(strings.Split(path, "/"), "{org}"))}
	for _, o := range options {
		o(&op, access)
	}
	if !access.Signature {
		op.Security = append(op.Security, map[string][]string{"bearer": needs(scope)})
		if api.KeyHeader != "" {
			op.Security = append(op.Security, map[string][]string{"key": needs(scope)})
		}
	}
	if access.Public {
		op.Security = append(op.Security, map[string][]string{})
	}
	if method == http.MethodPost && !access.Signature {
		op.Parameters = append(op.Parameters, repeatable)
	}
	api.describeErrors(&op, access)
	return op, access
}

// needs is what a security requirement says of a scope.
func needs(scope app.Scope) []string {
	if scope == "" {
		return []string{}
	}
	return []string{string(scope)}
}

// identifier makes an operationId of a summary: "Search packages" is
// searchPackages.
func identifier(summary string) string {
	words := strings.FieldsFunc(summary, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	var b strings.Builder
	for i, w := range words {
		if w = strings.ToLower(w); i > 0 {
			w = strings.ToUpper(w[:1]) + w[1:]
		}
		b.WriteString(w)
	}
	return b.String()
}
