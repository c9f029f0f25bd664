// Package dialecttest holds an API to its own OpenAPI document: it asks for
// everything in it, rightly and wrongly, and checks that each answer is one that
// the document names.
package dialecttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A Subject is an API that is walked.
type Subject struct {
	Document  []byte // OpenAPI 3.1
	Handler   http.Handler
	KeyHeader string // beside "Authorization: Bearer"
	RateLimit bool   // each answer says how many requests are left

	// NewKey makes a key of the organisation that Values speaks of, with a role
	// and scopes.
	NewKey func(role string, scopes ...string) string
	// Useless are keys that open nothing, by what is wrong with them.
	Useless map[string]string
	// Foreign is a key of another organisation, which may all.
	Foreign string

	// Values returns the parameters of a path, naming what exists. It makes it
	// if the last request took it away.
	Values func(path string) map[string]string
	// Bodies are bodies of requests that are right, by operationId, where a
	// schema says too little.
	Bodies map[string]string
	// Sign prepares a request for a route that wants another proof than a key.
	Sign func(r *http.Request, body []byte)
}

// scopes are what keys may do, and whether the least of members and developers
// may (contract, "Scopes").
var scopes = map[string]struct{ viewer, developer bool }{
	"scans:trigger": {false, true}, "scans:read": {true, true}, "findings:read": {true, true}, "findings:write": {false, true},
	"org:read": {true, true}, "org:write": {false, false}, "ci:review": {false, true}, "admin": {false, false},
}

// A document is as much of OpenAPI as is needed to use an API.
type document struct {
	Paths      map[string]map[string]*operation `json:"paths"`
	Components struct {
		Schemas   map[string]*schema  `json:"schemas"`
		Responses map[string]response `json:"responses"`
	} `json:"components"`
}

type operation struct {
	ID         string `json:"operationId"`
	Parameters []struct {
		Name     string  `json:"name"`
		In       string  `json:"in"`
		Required bool    `json:"required"`
		Schema   *schema `json:"schema"`
	} `json:"parameters"`
	Body struct {
		Content map[string]struct {
			Schema *schema `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
	Responses map[string]response   `json:"responses"`
	Security  []map[string][]string `json:"security"`

	method, path string
}

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]struct {
		Schema *schema `json:"schema"`
	} `json:"content"`
}

// public says whether it takes no key; signed, whether keys mean nothing.
func (op *operation) public() bool {
	return slices.ContainsFunc(op.Security, func(s map[string][]string) bool { return len(s) == 0 })
}

func (op *operation) signed() bool { return op.public() && len(op.Security) == 1 }

// scope is what a key must be allowed.
func (op *operation) scope() string {
	for _, s := range op.Security {
		for _, names := range s {
			for _, name := range names {
				return name
			}
		}
	}
	return ""
}

// A walker is on its way through an API.
type walker struct {
	*testing.T
	Subject
	*document
	key     string    // that may all
	secrets *[]string // which no answer may hold from now on
	asked   int
}

// Walk asks for everything.
func Walk(t *testing.T, s Subject) {
	var doc document
	if err := json.Unmarshal(s.Document, &doc); err != nil {
		t.Fatal(err)
	}
	var raw struct {
		Components struct{ Schemas map[string]json.RawMessage }
	}
	_ = json.Unmarshal(s.Document, &raw)
	for name, data := range raw.Components.Schemas {
		if err := strict(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := &walker{T: t, Subject: s, document: &doc, key: s.NewKey("OWNER", "admin")}
	secrets := append(slices.Collect(maps.Values(s.Useless)), w.key, s.Foreign)
	w.secrets = &secrets
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			op := doc.Paths[path][method]
			op.method, op.path = strings.ToUpper(method), path
			t.Run(op.ID, func(t *testing.T) {
				w := *w
				w.T = t
				w.doors(op)
				w.inputs(op)
				w.manners(op)
			})
		}
	}
}

// A request is one that a walker makes.
type request struct {
	method   string // that of the operation, if empty
	path     map[string]string
	query    string
	body     []byte
	kind     string // media type of the body; empty for none
	key      string
	header   http.Header
	unsigned bool
}

var parameter = regexp.MustCompile(`\{(\w+)\}`)

// ask makes a request, and checks that its answer is one that is documented.
func (w *walker) ask(op *operation, q request) *httptest.ResponseRecorder {
	w.Helper()
	path := parameter.ReplaceAllStringFunc(op.path, func(name string) string { return q.path[strings.Trim(name, "{}")] })
	if q.query != "" {
		path += "?" + q.query
	}
	r := httptest.NewRequest(op.method, "/", bytes.NewReader(q.body))
	u, err := url.ParseRequestURI(path)
	if err != nil {
		w.Fatalf("%s: %v", path, err)
	}
	r.URL, r.RequestURI = u, path
	if q.method != "" {
		r.Method = q.method
	}
	if q.header != nil {
		r.Header = q.header
	}
	if q.kind != "" {
		r.Header.Set("Content-Type", q.kind)
	}
	if q.key != "" {
		r.Header.Set(w.KeyHeader, q.key)
	}
	if op.signed() && w.Sign != nil && !q.unsigned {
		w.Sign(r, q.body)
	}
	w.asked++
	r.RemoteAddr = fmt.Sprintf("198.%d.%d.%d:1", 18+w.asked>>16&1, w.asked>>8&255, w.asked&255) // so that nobody asks too often
	rec := httptest.NewRecorder()
	w.Handler.ServeHTTP(rec, r)
	if why := w.wrong(op, r, rec); why != "" {
		w.Errorf("%s %.200s with %.300q: %d: %s: %.300s", r.Method, path, q.body, rec.Code, why, rec.Body)
	}
	return rec
}

// wrong says what is wrong with an answer, or nothing.
func (w *walker) wrong(op *operation, r *http.Request, rec *httptest.ResponseRecorder) string {
	body := rec.Body.String()
	for _, secret := range *w.secrets {
		if strings.Contains(body, secret) {
			return "a secret is in it"
		}
	}
	if rec.Header().Get("X-Request-Id") == "" || rec.Header().Get("X-Content-Type-Options") != "nosniff" {
		return "X-Request-Id or X-Content-Type-Options is missing"
	}
	if w.RateLimit {
		for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
			if len(rec.Header()[name]) != 1 {
				return name + " is missing"
			}
		}
	}
	switch {
	case r.Header.Get(w.KeyHeader) == w.key && !op.signed() && rec.Header().Get("Cache-Control") != "no-store":
		return "it may be stored"
	case rec.Code == http.StatusUnauthorized && rec.Header().Get("WWW-Authenticate") != "Bearer":
		return "WWW-Authenticate is missing"
	case rec.Code == http.StatusInternalServerError:
		return "that is ours"
	case r.Method != op.method: // HEAD, and what there is not
		return ""
	}
	documented, ok := op.Responses[fmt.Sprint(rec.Code)]
	if !ok {
		return "the status is not documented"
	}
	kind := rec.Header().Get("Content-Type")
	if documented.Ref != "" {
		documented = w.Components.Responses[strings.TrimPrefix(documented.Ref, "#/components/responses/")]
	}
	media, ok := documented.Content[kind]
	if !ok {
		return kind + " is not documented"
	}
	var v any
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		return err.Error()
	}
	if list := w.check("answer", media.Schema, v); len(list) > 0 {
		return strings.Join(list[:min(5, len(list))], "; ")
	}
	return ""
}

// elsewhere returns parameters that name our organisation, but nothing in it.
func (w *walker) elsewhere(op *operation) map[string]string {
	values := maps.Clone(w.Values(op.path))
	for name := range values {
		if name != "org" {
			values[name] = "nope"
		}
	}
	return values
}

// doors checks who may come in. No body here is one that changes anything.
func (w *walker) doors(op *operation) {
	expect := func(who string, rec *httptest.ResponseRecorder, ok func(status int) bool) {
		w.Helper()
		if !ok(rec.Code) {
			w.Errorf("%s %s for %s: %d %.200s", op.method, op.path, who, rec.Code, rec.Body)
		}
	}
	in := func(status int) bool { return status != http.StatusUnauthorized && status != http.StatusForbidden }
	out := func(want ...int) func(int) bool {
		return func(status int) bool { return slices.Contains(want, status) }
	}
	body := []byte("neither JSON nor small" + strings.Repeat(" ", 2<<20)) // which comes after who asks
	ask := func(key string) *httptest.ResponseRecorder {
		w.Helper()
		return w.ask(op, request{path: w.elsewhere(op), key: key, body: body, unsigned: true})
	}
	if op.signed() {
		expect("nobody", ask(""), in)
		return
	}
	if op.public() {
		expect("nobody", ask(""), in)
	} else {
		expect("nobody", ask(""), out(http.StatusUnauthorized))
	}
	for what, key := range w.Useless {
		expect(what, ask(key), out(http.StatusUnauthorized))
	}
	if op.public() {
		return
	}
	rec := w.ask(op, request{path: w.elsewhere(op), query: "key=" + w.key + "&api_key=" + w.key + "&access_token=" + w.key, body: body})
	expect("a key in the query", rec, out(http.StatusUnauthorized))
	if len(w.Values(op.path)) > 0 {
		rec := w.ask(op, request{path: w.Values(op.path), key: w.Foreign, body: []byte(`{}`)})
		expect("another organization", rec, out(http.StatusForbidden, http.StatusNotFound))
		if _, ok := w.Values(op.path)["org"]; ok {
			expect("another organization", rec, out(http.StatusForbidden))
		}
	}
	need := op.scope()
	may, ok := scopes[need]
	if !ok {
		w.Fatalf("there is no scope %q", need)
	}
	var others []string
	for scope := range scopes {
		if scope != need && scope != "admin" {
			others = append(others, scope)
		}
	}
	expect("exactly the scope", ask(w.NewKey("ADMIN", need)), in)
	expect("all other scopes", ask(w.NewKey("OWNER", others...)), out(http.StatusForbidden))
	for role, may := range map[string]bool{"VIEWER": may.viewer, "DEVELOPER": may.developer, "ADMIN": true, "OWNER": true} {
		if may {
			expect(role, ask(w.NewKey(role, "admin")), in)
		} else {
			expect(role, ask(w.NewKey(role, "admin")), out(http.StatusForbidden))
		}
	}
}

// inputs sends what is right and what is wrong. Something must be right.
func (w *walker) inputs(op *operation) {
	r := rand.New(rand.NewPCG(1, 2))
	succeeded := false
	send := func(q request) {
		w.Helper()
		if q.path == nil {
			q.path = w.Values(op.path)
		}
		if q.key == "" && !op.public() {
			q.key = w.key
		}
		rec := w.ask(op, q)
		if rec.Code < 300 {
			succeeded = true
			w.remember(q, rec)
		}
	}
	fixed := url.Values{}
	for _, p := range op.Parameters {
		if p.In == "query" && p.Required {
			fixed.Set(p.Name, fmt.Sprint(w.valid(p.Schema, true)))
		}
	}
	right := request{query: fixed.Encode()}
	if s := op.Body.Content["application/json"].Schema; s != nil {
		for _, v := range w.bodies(s, r) {
			data, err := json.Marshal(v)
			if err != nil {
				w.Fatal(err)
			}
			send(request{query: right.query, body: data, kind: "application/json"})
		}
		right.body, _ = json.Marshal(w.valid(s, false))
		if text, ok := w.Bodies[op.ID]; ok {
			right.body = []byte(text)
		}
		for _, text := range rawBodies {
			send(request{query: right.query, body: []byte(text), kind: "application/json"})
		}
		for _, kind := range []string{"", "APPLICATION/JSON ; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "a", ";", "+"} {
			send(request{query: right.query, body: right.body, kind: kind})
		}
	} else {
		send(right)
	}
	for _, p := range op.Parameters {
		switch p.In {
		case "path":
			for _, text := range segments {
				q := right
				q.path = maps.Clone(w.Values(op.path))
				q.path[p.Name] = text
				send(q)
			}
		case "query":
			texts := slices.Clone(queries)
			for _, v := range w.values(p.Schema) {
				texts = append(texts, url.QueryEscape(fmt.Sprint(v)))
			}
			for _, text := range texts {
				q := right
				others := maps.Clone(fixed)
				delete(others, p.Name)
				q.query = others.Encode() + "&" + p.Name + "=" + text
				send(q)
			}
			q := right
			q.query += "&" + p.Name + "=1&" + p.Name + "=2&" + p.Name
			send(q)
		}
	}
	if !succeeded {
		w.Errorf("%s %s never succeeded, so that it was hardly looked at", op.method, op.path)
	}
}

// remember notes secrets that were made for an answer, which shows them this
// once.
func (w *walker) remember(q request, rec *httptest.ResponseRecorder) {
	var v map[string]any
	if json.Unmarshal(rec.Body.Bytes(), &v) != nil {
		return
	}
	for _, name := range []string{"key", "secret"} {
		if text, ok := v[name].(string); ok && len(text) > 20 && !bytes.Contains(q.body, []byte(text)) {
			*w.secrets = append(*w.secrets, text)
		}
	}
}

// manners checks what is the same for all routes.
func (w *walker) manners(op *operation) {
	right := request{path: w.Values(op.path), key: w.key, header: http.Header{}}
	right.header.Set("X-Request-Id", "mine.1-2_3")
	right.method = http.MethodOptions
	rec := w.ask(op, right)
	if rec.Code != http.StatusNoContent || !strings.Contains(rec.Header().Get("Allow"), op.method) || rec.Header().Get("X-Request-Id") != "mine.1-2_3" {
		w.Errorf("OPTIONS %s: %d %v", op.path, rec.Code, rec.Header())
	}
	right.method = "PROPFIND"
	if rec := w.ask(op, right); rec.Code != http.StatusMethodNotAllowed || rec.Header().Get("Allow") == "" {
		w.Errorf("PROPFIND %s: %d %v", op.path, rec.Code, rec.Header())
	}
	switch op.method {
	case http.MethodGet:
		right.method = http.MethodHead
		if rec := w.ask(op, right); rec.Code >= 500 || rec.Code == http.StatusMethodNotAllowed {
			w.Errorf("HEAD %s: %d", op.path, rec.Code)
		}
	case http.MethodPost:
		if !op.signed() {
			w.twice(op)
		}
	}
}

// twice sends the same request twice under one name, and another one under it.
func (w *walker) twice(op *operation) {
	q := request{path: w.Values(op.path), key: w.key, kind: "application/json"}
	if s := op.Body.Content["application/json"].Schema; s != nil {
		q.body, _ = json.Marshal(w.valid(s, true))
	}
	ask := func() *httptest.ResponseRecorder {
		q.header = http.Header{"Idempotency-Key": {"walk"}}
		return w.ask(op, q)
	}
	first := ask()
	w.remember(q, first)
	again := ask()
	if first.Code >= 500 {
		return // which is not kept
	}
	if first.Code != again.Code || again.Header().Get("Idempotent-Replayed") != "true" || first.Header().Get("Idempotent-Replayed") != "" {
		w.Errorf("%s twice: %d, and then %d %v", op.path, first.Code, again.Code, again.Header())
	}
	q.body = append(q.body, ' ')
	if rec := ask(); rec.Code != http.StatusUnprocessableEntity {
		w.Errorf("%s with another body: %d; want 422", op.path, rec.Code)
	}
}
