package binshield_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/faces/api/binshield"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/faces/httpd"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/app"
	"github.com/loupe-sec/loupe/internal/service/billing"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// releases are the packages of the fake registry: by name and version, the
// binary inside, as synth describes it.
var releases = map[string]map[string]string{
	"bcrypt": {
		"5.1.0": `{format: elf, imports: [EVP_sha512, napi_module_register], strings: [/dev/urandom]}`,
		"5.1.1": `{format: elf, imports: [EVP_sha512, uv_queue_work, napi_module_register], strings: [/dev/urandom, Invalid salt version]}`,
	},
	"sqlite3": {
		"5.1.6": `{format: elf, imports: [open, read, napi_module_register]}`,
		"5.1.7": `{format: elf, imports: [open, read, dlopen, connect, napi_module_register], strings: [load_extension]}`,
	},
	"argon2":    {"0.44.0": `{format: elf, imports: [napi_module_register]}`},
	"@swc/core": {"1.10.0": `{format: elf, imports: [napi_module_register]}`, "1.9.3": `{format: elf, imports: [napi_module_register]}`},
	"no-native": {"1.0.0": ``},
}

// newRegistry serves releases as an npm registry does.
func newRegistry(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for name, versions := range releases {
		list := map[string]any{}
		for version, description := range versions {
			data := newTarball(t, name, version, description)
			path := fmt.Sprintf("/files/%s-%s.tgz", strings.ReplaceAll(strings.TrimPrefix(name, "@"), "/", "-"), version)
			mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { w.Write(data) })
			sum := sha512.Sum512(data)
			list[version] = map[string]any{
				"name": name, "version": version,
				"dist": map[string]any{"tarball": server.URL + path, "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:])},
			}
		}
		text, err := json.Marshal(map[string]any{"name": name, "dist-tags": map[string]any{}, "versions": list})
		if err != nil {
			t.Fatal(err)
		}
		mux.HandleFunc("GET /"+strings.ReplaceAll(name, "/", "%2F"), func(w http.ResponseWriter, _ *http.Request) { w.Write(text) })
	}
	return server
}

// newTarball packs a package with one binary, if there is a description of one.
func newTarball(t *testing.T, name, version, description string) []byte {
	t.Helper()
	files := map[string][]byte{"package.json": fmt.Appendf(nil, `{"name": %q, "version": %q}`, name, version)}
	if description != "" {
		data, err := synth.FromYAML([]byte(description))
		if err != nil {
			t.Fatal(err)
		}
		files["build/addon.node"] = data
	}
	var buf bytes.Buffer
	gz, err := gzip.NewWriterLevel(&buf, gzip.NoCompression) // the same bytes by all versions of Go
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(gz)
	for _, file := range []string{"package.json", "build/addon.node"} {
		if data, ok := files[file]; ok {
			if err := w.WriteHeader(&tar.Header{Name: "package/" + file, Mode: 0o644, Size: int64(len(data))}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// newPayments is a payment service that lets everybody pay.
func newPayments(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/customers":
			fmt.Fprint(w, `{"id":"cus_1","object":"customer"}`)
		case "/v1/checkout/sessions":
			fmt.Fprint(w, `{"id":"cs_1","object":"checkout.session","url":"https://pay.example/cs_1"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// A setup changes what a world is made of.
type setup struct {
	server app.ServerOptions
	web    httpd.Options
	plan   string
	public bool
}

// A world is a server with everything around it, and an organisation.
type world struct {
	*testing.T
	server *app.Server
	api    *dialect.API
	web    http.Handler
	org    store.Organization
	key    string // that may all
	engine store.Engine
}

const stripeSecret = "whsec_of_the_payment_service"

// newWorld starts a server with workers on an empty database.
func newWorld(t *testing.T, engine store.Engine, change ...func(*setup)) *world {
	t.Helper()
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "npm_config_") || strings.HasSuffix(lower, "_proxy") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("PATH", "")
	t.Setenv("npm_config_registry", newRegistry(t).URL)
	s := setup{plan: "enterprise", public: true}
	s.server = app.ServerOptions{
		Options: app.Options{Version: "0.0.0", DataDir: t.TempDir(), AllowPrivate: true}, DatabaseURL: storetest.Options(t, engine).URL,
		Workers: 2, Sandbox: sandbox.Off,
	}
	for _, c := range change {
		c(&s)
	}
	server, err := app.OpenServer(t.Context(), s.server)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := server.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	mux := http.NewServeMux()
	w := &world{T: t, server: server, engine: engine, api: binshield.New(mux, server, s.public)}
	w.web = httpd.New(server, mux, []*dialect.API{w.api}, s.web)
	w.org = w.newOrg("Ashlr AI", s.plan)
	w.key = w.newKey(w.org.ID, account.KeyRequest{})
	return w
}

// each runs a test in a world on each engine.
func each(t *testing.T, f func(w *world), change ...func(*setup)) {
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		t.Run(string(engine), func(t *testing.T) { f(newWorld(t, engine, change...)) })
	}
}

func (w *world) newOrg(name, plan string) store.Organization {
	w.Helper()
	o, err := w.server.Accounts().CreateOrg(w.Context(), name, "", plan)
	if err != nil {
		w.Fatal(err)
	}
	return o
}

func (w *world) newKey(org string, req account.KeyRequest) string {
	w.Helper()
	if req.Label == "" {
		req.Label = "test"
	}
	_, text, err := w.server.Accounts().CreateKey(w.Context(), org, nil, req)
	if err != nil {
		w.Fatal(err)
	}
	return text
}

// An option changes a request.
type option func(*http.Request)

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

func from(address string) option { return func(r *http.Request) { r.RemoteAddr = address } }

func withKey(key string) option { return header("x-binshield-api-key", key) }

// do sends a request without a key, unless an option adds one.
func (w *world) do(method, path, body string, options ...option) *httptest.ResponseRecorder {
	w.Helper()
	var r *http.Request
	if body == "" {
		r = httptest.NewRequest(method, path, nil)
	} else {
		r = httptest.NewRequest(method, path, strings.NewReader(body))
	}
	for _, o := range options {
		o(r)
	}
	rec := httptest.NewRecorder()
	w.web.ServeHTTP(rec, r)
	return rec
}

// as sends a request with the key that may all.
func (w *world) as(method, path, body string, options ...option) *httptest.ResponseRecorder {
	w.Helper()
	return w.do(method, path, body, append(options, withKey(w.key))...)
}

// want sends a request with the key that may all, expects a status, and returns
// the answer.
func (w *world) want(status int, method, path, body string, options ...option) (answer map[string]any) {
	w.Helper()
	rec := w.as(method, path, body, options...)
	if rec.Code != status {
		w.Fatalf("%s %s = %d %s; want %d", method, path, rec.Code, rec.Body, status)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
		w.Fatalf("%s %s: %v", method, path, err)
	}
	return answer
}

// analyze scans a package, and waits for the result.
func (w *world) analyze(name, version string) (scan map[string]any) {
	w.Helper()
	scan = w.want(http.StatusAccepted, "POST", "/scans/packages", fmt.Sprintf(`{"ecosystem":"npm","packageName":%q,"version":%q}`, name, version))
	return w.wait(scan["id"].(string))
}

// wait waits until a scan has come to an end.
func (w *world) wait(id string) (scan map[string]any) {
	w.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		scan = w.want(http.StatusOK, "GET", "/scans/"+id, "")
		if status := scan["status"]; status == "complete" || status == "failed" {
			return scan
		}
		if time.Now().After(deadline) {
			w.Fatalf("the scan has not ended: %v", scan)
		}
	}
}

// paying connects a world with a payment service.
func paying(t *testing.T) func(*setup) {
	return func(s *setup) {
		s.server.Billing = billing.Options{
			Key: "sk_test_1", WebhookSecret: stripeSecret, APIBase: newPayments(t).URL,
			Prices: map[string]string{"pro": "price_pro", "team": "price_team", "enterprise": "price_enterprise"},
		}
	}
}
