package httpd_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/faces/httpd"
)

// A collector gets the span of a request, under its route and in the trace of
// the caller, without what stands in the path.
func TestTracer(t *testing.T) {
	got := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + string(body)
	}))
	defer collector.Close()
	tracer, err := httpd.NewTracer(t.Context(), collector.URL+"/", "1.2.3", collector.Client())
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /things/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	server := httpd.New(idle{}, mux, nil, httpd.Options{Tracer: tracer})
	r := httptest.NewRequest(http.MethodGet, "/things/hunter2?token=hunter3", nil)
	r.Header.Set("traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
	server.ServeHTTP(httptest.NewRecorder(), r)
	if err := tracer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	span := <-got
	for _, want := range []string{"/v1/traces ", "GET /things/{id}", "http.response.status_code", "1.2.3", "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"} {
		if !strings.Contains(span, want) {
			t.Errorf("the span lacks %q", want)
		}
	}
	if strings.Contains(span, "hunter") {
		t.Error("the span tells what stands in the path")
	}
}
