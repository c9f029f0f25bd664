package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/client"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
)

const key = "bsh_live_0123456789"

// serve starts a server and returns a client of it.
func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return open(t, server.URL+"/")
}

func open(t *testing.T, address string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Server: address, Key: key, Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"", "loupe.example", "ftp://loupe.example", "https://", "https://u:secret@loupe.example", "https://loupe.example?key=secret", "http:loupe"} {
		_, err := client.New(client.Options{Server: address})
		if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("New(%q) = %v", address, err)
		}
	}
}

func TestSubmit(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		want := `{"ecosystem":"npm","packageName":"@a/b","version":"1.0.0","repo":"o/r","source":"github-action"}`
		if r.Method != http.MethodPost || r.URL.Path != "/scans/packages" || string(body) != want || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %s", r.Method, r.URL, body)
		}
		if r.Header.Get("x-binshield-api-key") != key || r.Header.Get("User-Agent") != "loupe/1.0.0" {
			t.Error(r.Header)
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"id":"scan_1","status":"queued","stage":"ingest","unknown":[1]}`)
	})
	job, err := c.Submit(t.Context(), client.Request{Ecosystem: "npm", PackageName: "@a/b", Version: "1.0.0", Repo: "o/r", Source: "github-action"})
	if diff := cmp.Diff(&client.Job{ID: "scan_1", Status: "queued", Stage: "ingest"}, job); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestSubmitAgain loses the connection after the request has come, is then told
// that it still runs, then to come back later, and at last gets an answer.
func TestSubmitAgain(t *testing.T) {
	var asked atomic.Int32
	var first atomic.Value
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get("Idempotency-Key")
		first.CompareAndSwap(nil, name)
		if name == "" || name != first.Load() {
			t.Errorf("the Idempotency-Key was %q and is %q", first.Load(), name)
		}
		switch asked.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(http.StatusConflict)
		case 3:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case 4:
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>")
		default:
			fmt.Fprint(w, `{"id":"scan_1","status":"complete","cacheHit":true,"result":{"riskScore":7}}`)
		}
	})
	start := time.Now()
	job, err := c.Submit(t.Context(), client.Request{})
	if err != nil || job.Result.RiskScore != 7 || asked.Load() != 5 {
		t.Errorf("%+v, %v after %d requests", job, err, asked.Load())
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("it took %v, less than the server asked to wait for", took)
	}
}

// TestRefusals are answers after which nothing is sent again.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		status       int
		header, body string
		kind         fault.Kind
		says         string
	}{
		{400, "", `{"error":"version: not one exact version of npm"}`, fault.Invalid, "answers 400: version: not one exact"},
		{401, "", `{"error":"Invalid API key"}`, fault.Unauthenticated, "check the key"},
		{403, "", `{"error":"the key lacks the scope scans:trigger"}`, fault.Forbidden, "scans:trigger"},
		{404, "", `not found`, fault.NotFound, "Not Found"},
		{422, "", `{"error":"\u001b[31mred"}`, fault.Invalid, `\x1b[31mred`},
		{501, "", `{}`, fault.Unavailable, "Not Implemented"},
		{302, "Location: https://u:p@other.example/x?y", ``, fault.Invalid, "sends its visitors to https://other.example; "},
		{429, "Retry-After: 100000", `{"error":"Monthly scan limit exceeded"}`, fault.Throttled, "Monthly scan limit exceeded; it takes requests again in 27h46m40s"},
		{200, "", `<html>`, fault.Corrupt, "is not what a Loupe server says"},
		{200, "", `{"id":"scan_1","status":"complete"}`, fault.Corrupt, "is not what a Loupe server says"},
		{200, "", `{}`, fault.Corrupt, "is not what a Loupe server says"},
	} {
		asked := 0
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			asked++
			if name, value, ok := strings.Cut(test.header, ": "); ok {
				w.Header().Set(name, value)
			}
			w.WriteHeader(test.status)
			fmt.Fprint(w, test.body)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := c.Submit(ctx, client.Request{})
		cancel()
		if kind, text := fault.Of(err); kind != test.kind || !strings.Contains(text, test.says) || asked != 1 || strings.Contains(text, key) {
			t.Errorf("%d %s: %v %q after %d requests; want %v %q after one", test.status, test.body, kind, text, asked, test.kind, test.says)
		}
	}
}

func TestUnreachable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	var waits []time.Duration
	c, err := client.New(client.Options{Server: server.URL, Waits: func(d time.Duration, _ string) { waits = append(waits, d) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = c.Health(ctx)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "the connection was refused; check its address") {
		t.Error(err)
	}
	if diff := cmp.Diff([]time.Duration{time.Second / 2, time.Second}, waits); diff != "" { // the next would end after the time is up
		t.Error(diff)
	}
}

func TestHealth(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"ok":true,"service":"binshield-api","defaultFailOn":"medium"}`)
	})
	h, err := c.Health(t.Context())
	if want := (client.Health{OK: true, Service: "binshield-api", DefaultFailOn: "medium"}); err != nil || h != want {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestWait(t *testing.T) {
	var asked atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimPrefix(r.URL.Path, "/scans/")
		status := "analyzing"
		if asked.Add(1) > 2 {
			status = "failed"
		}
		json.NewEncoder(w).Encode(client.Job{ID: id, Status: status})
	})
	var seen []string
	err := c.Wait(t.Context(), []string{"a", "b"}, func(j *client.Job) { seen = append(seen, j.ID+" "+j.Status) })
	want := []string{"a analyzing", "b analyzing", "a failed", "b failed"}
	if diff := cmp.Diff(want, seen); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestWaitEnds(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"a","status":"queued"}`) })
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if err := c.Wait(ctx, []string{"a"}, func(*client.Job) {}); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "the time is up") {
		t.Error(err)
	}
}

const sbom = `{"bomFormat": "CycloneDX", "vulnerabilities": [
	{"id": "install/npm-script", "ratings": [{"severity": "low"}], "cwes": [506], "description": "Runs a script", "detail": "It does.", "recommendation": "Look.",
	 "properties": [{"name": "loupe:confidence", "value": "confirmed"}, {"name": "loupe:location", "value": "package.json"}]},
	{"id": "GHSA-1", "ratings": [{"severity": "unheard of"}], "properties": [{"name": "loupe:rule", "value": "native/x"}, {"name": "loupe:symbol", "value": "main"}, {"name": "loupe:attack", "value": "T1 T2"}]}
]}`

func TestFindings(t *testing.T) {
	broken := false
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if want := "/packages/npm/@a%2Fb/versions/1.0.0/sbom"; r.URL.EscapedPath() != want {
			t.Errorf("%s; want %s", r.URL.EscapedPath(), want)
		}
		if broken {
			w.WriteHeader(404)
			return
		}
		fmt.Fprint(w, sbom)
	})
	a := new(client.Analysis)
	err := json.Unmarshal([]byte(`{"ecosystem":"npm","packageName":"@a/b","version":"1.0.0","binaries":[{"path":"x.node","findings":[
		{"severity":"medium","title":"T","description":"D","location":"f","recommendation":"R","ruleId":"native/y","confidence":"likely"}]}]}`), a)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Findings(t.Context(), a)
	want := []finding.Finding{
		{Rule: "install/npm-script", ScanType: finding.Binary, Severity: finding.Low, Confidence: finding.Confirmed, Title: "Runs a script", Description: "It does.",
			Remediation: "Look.", CWE: []int{506}, Location: finding.Location{Path: "package.json"}},
		{Rule: "native/x", ScanType: finding.Binary, Severity: finding.High, Attack: []string{"T1", "T2"}, Location: finding.Location{Symbol: "main"}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	broken = true
	got, err = c.Findings(t.Context(), a)
	want = []finding.Finding{{Rule: "native/y", ScanType: finding.Binary, Severity: finding.Medium, Confidence: finding.Likely, Title: "T", Description: "D",
		Remediation: "R", Location: finding.Location{Path: "x.node", Symbol: "f"}}}
	if diff := cmp.Diff(want, got); !fault.Is(err, fault.NotFound) || diff != "" {
		t.Error(err, diff)
	}
}
