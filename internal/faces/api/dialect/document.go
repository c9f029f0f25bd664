package dialect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

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
		op.Responses[strconv.Itoa(code)] = &huma.Response{
			Description: http.StatusText(code),
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
		}
	}
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
			also, _ := op.Metadata["also"].(map[string]string)
			for code, description := range also {
				op.Responses[code] = &huma.Response{Description: description, Content: usual.Content}
			}
		}
	}
	delete(schemas.Map(), "ErrorModel")
	delete(schemas.Map(), "ErrorDetail")
	data, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("dialect %s: its document cannot be written: %v", api.Name, err))
	}
	api.document = data
}

// Document returns the OpenAPI 3.1 document.
func (api *API) Document() []byte { return api.document }

func (api *API) serveDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(api.document) // a client that left is nobody's error
}
