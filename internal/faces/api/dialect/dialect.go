// Package dialect lets several published APIs live on one server. A dialect is
// the manners of one of them: its prefixes, the header of its keys, the shape of
// its errors. Its routes are values in a table; their types make its OpenAPI
// document and check its requests. It is the only package that knows huma.
package dialect

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/loupe-sec/loupe/internal/service/app"
)

// A Dialect is the manners of one published API.
type Dialect struct {
	Name        string // "binshield": of its OpenAPI document
	Title       string
	Description string
	Prefixes    []string // "/packages", of whole segments; the longest of all dialects wins
	KeyHeader   string   // "x-binshield-api-key"; "Authorization: Bearer" works in all
	RateHeaders bool     // every answer says how many requests are left
	PerAddress  bool     // requests are counted by address and not by key
	Invalid     int      // status for a request that fails its checks: 400 or 422

	// Rates returns how many requests somebody may make, nil being somebody
	// without a key.
	Rates func(*app.Actor) []app.Rate

	// Status returns the status for an error, or 0 for the usual one.
	Status func(Problem) int

	// Body returns what an error looks like. Error is the zero value of its type,
	// for the OpenAPI document.
	Body  func(Problem) any
	Error any
}

// An API is a dialect with its routes, on a mux.
type API struct {
	*Dialect
	huma     huma.API
	access   map[string]*Access // by pattern of the mux
	document []byte             // in OpenAPI 3.1
}

// New puts the routes of a dialect on a mux. The OpenAPI document is served at
// the paths given.
func New[H any](mux *http.ServeMux, d *Dialect, handler H, routes []Route[H], docs ...string) *API {
	huma.NewErrorWithContext = newError
	huma.DefaultArrayNullable = false // no list is ever null
	huma.ValidateStrictCasing = true  // "Label" is a field that we do not know
	api := &API{Dialect: d, access: map[string]*Access{}}
	api.huma = humago.New(mux, config(d))
	api.huma.UseMiddleware(api.checkQuery)
	for _, r := range routes {
		r.register(api, handler)
	}
	api.finish()
	for _, path := range docs {
		mux.HandleFunc("GET "+path, api.serveDocument)
		api.access["GET "+path] = &Access{Public: true, Free: true}
	}
	return api
}

// config returns the settings of huma for a dialect: what the published
// documents leave open is allowed, and nothing is added to bodies.
func config(d *Dialect) huma.Config {
	c := huma.DefaultConfig(d.Title, "1.0.0")
	c.Info.Description = d.Description
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.CreateHooks = nil
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.AllowAdditionalPropertiesByDefault = true
	c.FieldsOptionalByDefault = false
	c.Formats = map[string]huma.Format{"application/json": {Marshal: marshal, Unmarshal: unmarshal}, "json": {Marshal: marshal, Unmarshal: unmarshal}}
	c.DefaultFormat = "application/json"
	c.Servers = []*huma.Server{{URL: "/", Description: "this server"}}
	c.Components = &huma.Components{
		Schemas:   huma.NewMapRegistry("#/components/schemas/", name),
		Headers:   map[string]*huma.Header{},
		Responses: map[string]*huma.Response{},
		SecuritySchemes: map[string]*huma.SecurityScheme{
			"bearer": {Type: "http", Scheme: "bearer", Description: "A key of any dialect."},
		},
	}
	if d.KeyHeader != "" {
		c.Components.SecuritySchemes["key"] = &huma.SecurityScheme{Type: "apiKey", In: "header", Name: d.KeyHeader}
	}
	return c
}

// name returns the name of a type in an OpenAPI document.
func name(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// Of returns the dialect that answers for a path, or nil.
func Of(apis []*API, path string) *API {
	var best *API
	longest := -1
	for _, api := range apis {
		for _, prefix := range api.Prefixes {
			if len(prefix) > longest && under(path, prefix) {
				best, longest = api, len(prefix)
			}
		}
	}
	return best
}

// under says whether a path is prefix, or goes on behind it with a new segment.
func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// Access returns what it takes to use the route that a pattern of the mux
// stands for, or nil if it is none of this dialect.
func (api *API) Access(pattern string) *Access { return api.access[pattern] }

// Patterns lists the patterns of the routes, sorted.
func (api *API) Patterns() []string {
	var out []string
	for p := range api.access {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}
