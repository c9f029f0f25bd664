package dialect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// describeErrors adds the statuses of failure to a route, with what their body
// looks like.
func (api *API) describeErrors(op *huma.Operation, access *Access) {
	codes := append([]int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable, api.Invalid, http.StatusNotFound, http.StatusRequestEntityTooLarge}, op.Errors...)
	if !access.Public {
		codes = append(codes, http.StatusForbidden)
	}
	switch op.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		codes = append(codes, http.StatusUnsupportedMediaType, http.StatusRequestTimeout)
		if !access.Signature {
			codes = append(codes, http.StatusConflict, http.StatusUnprocessableEntity) // of an Idempotency-Key
		}
	}
	op.Errors = nil // or huma adds its own model
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	schema := api.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(api.Error), true, "Error")
	for _, code := range codes {
		name := strings.ReplaceAll(http.StatusText(code), " ", "")
		op.Responses[strconv.Itoa(code)] = &huma.Response{Ref: "#/components/responses/" + name}
		api.huma.OpenAPI().Components.Responses[name] = &huma.Response{
			Description: http.StatusText(code),
			Headers:     api.headersOf(code),
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
		}
	}
}

// headers are what dialects say in the header of an answer.
var headers = []struct {
	name, kind, doc string
	rate            bool // in the dialects that tell how many requests are left
	status          int  // of which answers; 0 for all
}{
	{"X-Request-Id", huma.TypeString, "the name of the request in our log; one that was sent is kept", false, 0},
	{"X-RateLimit-Limit", huma.TypeInteger, "how many requests may be made in a window of time; 2147483647 for no limit", true, 0},
	{"X-RateLimit-Remaining", huma.TypeInteger, "how many of them are left", true, 0},
	{"X-RateLimit-Reset", huma.TypeInteger, "when the next window begins, in seconds since 1970 UTC", true, 0},
	{"Retry-After", huma.TypeInteger, "in how many seconds to ask again, if it is a matter of time", false, http.StatusTooManyRequests},
	{"WWW-Authenticate", huma.TypeString, "Bearer", false, http.StatusUnauthorized},
}

// headersOf returns what is in the header of the answers of a status.
func (api *API) headersOf(status int) map[string]*huma.Header {
	out := map[string]*huma.Header{}
	for _, h := range headers {
		if h.rate && !api.RateHeaders || h.status != 0 && h.status != status {
			continue
		}
		api.huma.OpenAPI().Components.Headers[h.name] = &huma.Header{Description: h.doc, Schema: &huma.Schema{Type: h.kind}}
		out[h.name] = &huma.Header{Ref: "#/components/headers/" + h.name}
	}
	return out
}

// repeatable is the parameter by which a request can be made again.
var repeatable = &huma.Param{
	Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: new(255)},
	Description: "a name for this request: for 24 hours, the same request under the same name gets the same answer, with its secrets masked, and changes nothing",
}

// Answers says what the bytes of a [Raw] answer look like: an example of the type,
// or nil for text.
func Answers(mediaType string, zero any) Option {
	return func(op *huma.Operation, _ *Access) {
		op.Metadata["answers"] = answers{mediaType, zero}
	}
}

type answers struct {
	mediaType string
	zero      any
}

// finish completes the document once all routes are known.
func (api *API) finish() {
	doc := api.huma.OpenAPI()
	schemas := doc.Components.Schemas
	ids := map[string]string{}
	for path, item := range doc.Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			if other, ok := ids[op.OperationID]; ok {
				panic(fmt.Sprintf("dialect %s: %s and %s %s are both called %q", api.Name, other, method, path, op.Summary))
			}
			ids[op.OperationID] = method + " " + path
			usual := op.Responses[strconv.Itoa(op.DefaultStatus)]
			if a, ok := op.Metadata["answers"].(answers); ok {
				media := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
				if a.zero != nil {
					media.Schema = schemas.Schema(reflect.TypeOf(a.zero), true, op.OperationID+"Response")
				}
				usual.Content = map[string]*huma.MediaType{a.mediaType: media}
			}
			usual.Headers = api.headersOf(op.DefaultStatus)
			also, _ := op.Metadata["also"].(map[string]string)
			for code, description := range also {
				op.Responses[code] = &huma.Response{Description: description, Headers: usual.Headers, Content: usual.Content}
			}
		}
	}
	for name, schema := range schemas.Map() {
		markNullable(schema, schemas.TypeFromRef("#/components/schemas/"+name))
	}
	delete(schemas.Map(), "ErrorModel")
	delete(schemas.Map(), "ErrorDetail")
	data, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("dialect %s: its document cannot be written: %v", api.Name, err))
	}
	api.document = data
}

// markNullable says of the fields of a type that point to objects, and are
// always there, that they may be null, which huma does not.
func markNullable(s *huma.Schema, t reflect.Type) {
	if t == nil || t.Kind() != reflect.Struct {
		return
	}
	for _, f := range reflect.VisibleFields(t) {
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := s.Properties[name]
		if f.Type.Kind() == reflect.Pointer && option == "" && p != nil && p.Ref != "" {
			s.Properties[name] = &huma.Schema{AnyOf: []*huma.Schema{{Ref: p.Ref}, {Type: "null"}}, Description: f.Tag.Get("doc")}
		}
	}
}

// Document returns the OpenAPI 3.1 document.
func (api *API) Document() []byte { return api.document }

func (api *API) serveDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(api.document) // a client that left is nobody's error
}
