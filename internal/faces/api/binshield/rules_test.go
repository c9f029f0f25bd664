package binshield_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/service/account"
)

// submission asks for a version of a package of the registry.
func submission(name, version string) string {
	return fmt.Sprintf(`{"ecosystem":"npm","packageName":%q,"version":%q}`, name, version)
}

// TestOneAnalysisForAll lets a second organisation ask for what the first had
// analysed, and asks for it anew.
func TestOneAnalysisForAll(t *testing.T) {
	each(t, func(w *world) {
		first := w.analyze("bcrypt", "5.1.1")
		other := w.newKey(w.newOrg("Another", "free").ID, account.KeyRequest{})
		rec := w.do("POST", "/scans/packages", submission("bcrypt", "5.1.1"), withKey(other))
		var hit map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &hit); err != nil || rec.Code != http.StatusOK || hit["cacheHit"] != true || hit["stage"] != nil {
			t.Fatalf("%d %.300s; want 200 and the analysis of the first", rec.Code, rec.Body)
		}
		id := func(scan map[string]any) string { return scan["result"].(map[string]any)["id"].(string) }
		if id(hit) != id(first) {
			t.Errorf("%s is not %s", id(hit), id(first))
		}
		body := strings.TrimSuffix(submission("bcrypt", "5.1.1"), "}") + `,"force":true}`
		again := w.wait(w.want(http.StatusAccepted, "POST", "/scans/packages", body)["id"].(string))
		if id(again) == id(first) || again["cacheHit"] != false || again["request"].(map[string]any)["force"] != true {
			t.Errorf("%v is what was there before", again["request"])
		}
	})
}

// TestQuota asks for more than a plan allows. What is known, what goes on and
// what is refused counts nothing.
func TestQuota(t *testing.T) {
	each(t, func(w *world) {
		var codes []int
		for i := range 51 {
			w.as("POST", "/scans/packages", submission("bcrypt", "^1"), from(fmt.Sprintf("192.0.2.%d:1", i)))
			codes = append(codes, w.do("POST", "/scans/packages", submission("none", fmt.Sprintf("1.0.%d", i)), withKey(w.newKey(w.org.ID, account.KeyRequest{}))).Code)
		}
		rec := w.do("POST", "/scans/packages", submission("none", "2.0.0"), withKey(w.newKey(w.org.ID, account.KeyRequest{})))
		if codes[49] != http.StatusAccepted || codes[50] != http.StatusTooManyRequests || rec.Code != http.StatusTooManyRequests || strings.TrimSpace(rec.Body.String()) != `{"error":"Monthly scan limit exceeded"}` {
			t.Errorf("%v, then %d %s; want 50 of 202, and then 429", codes, rec.Code, rec.Body)
		}
		if rec.Header().Get("Retry-After") == "" {
			t.Error("nobody says when to ask again")
		}
	}, func(s *setup) { s.plan, s.server.Workers = "free", 0 })
}

// TestSameScan asks twice while the first goes on: no worker takes it.
func TestSameScan(t *testing.T) {
	each(t, func(w *world) {
		first := w.want(http.StatusAccepted, "POST", "/scans/packages", submission("bcrypt", "5.1.1"))
		if again := w.want(http.StatusAccepted, "POST", "/scans/packages", submission("bcrypt", "5.1.1")); again["id"] != first["id"] {
			t.Errorf("%v is another than %v", again["id"], first["id"])
		}
		id := first["id"].(string)
		w.want(http.StatusOK, "DELETE", "/scans/"+id, "")
		if scan := w.want(http.StatusOK, "GET", "/scans/"+id, ""); scan["status"] != "failed" || scan["error"] == nil || scan["completedAt"] == nil {
			t.Errorf("%v; want one that was cancelled", scan)
		}
		w.want(http.StatusOK, "DELETE", "/scans/"+id, "")
		if rec := w.as("GET", "/scans/"+id, ""); rec.Code != http.StatusNotFound {
			t.Errorf("%d; want that it is forgotten", rec.Code)
		}
	}, func(s *setup) { s.server.Workers = 0 })
}

// TestPrivatePackages puts the packages behind keys.
func TestPrivatePackages(t *testing.T) {
	w := newWorld(t, "sqlite", func(s *setup) { s.public = false })
	for _, path := range []string{"/packages/search", "/packages/npm/a", "/packages/npm/a/versions/1.0.0", "/packages/npm/a/versions/1.0.0/sbom", "/packages/npm/a/diff?from=1.0.0&to=1.0.0"} {
		if rec := w.do("GET", path, ""); rec.Code != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d; want 401", path, rec.Code)
		}
		if rec := w.as("GET", path, ""); rec.Code != http.StatusOK && rec.Code != http.StatusNotFound {
			t.Errorf("%s with a key: %d", path, rec.Code)
		}
		if rec := w.do("GET", path, "", withKey(w.newKey(w.org.ID, account.KeyRequest{Scopes: []account.Scope{account.OrgRead}}))); rec.Code != http.StatusForbidden {
			t.Errorf("%s without the scope: %d; want 403", path, rec.Code)
		}
	}
	if rec := w.do("GET", "/health", ""); rec.Code != http.StatusOK {
		t.Errorf("health: %d", rec.Code)
	}
}

// TestSameBytes reads an analysis and its SBOM in all the ways there are.
func TestSameBytes(t *testing.T) {
	w := newWorld(t, "sqlite")
	scan := w.analyze("@swc/core", "1.9.3")
	n := 0
	get := func(path string, options ...option) *httptest.ResponseRecorder {
		n++
		return w.do("GET", path, "", append(options, from(fmt.Sprintf("192.0.2.%d:1", n)))...)
	}
	for _, end := range []string{"", "/sbom"} {
		want := get("/packages/npm/@swc/core/versions/1.9.3" + end)
		if want.Code != http.StatusOK || want.Header().Get("Vary") != "Accept-Encoding" {
			t.Fatalf("%d %v", want.Code, want.Header())
		}
		for _, name := range []string{"%40swc%2Fcore", "@swc%2Fcore", "@swc%2fcore", "%40swc/core"} {
			if got := get("/packages/npm/" + name + "/versions/1.9.3" + end); got.Body.String() != want.Body.String() {
				t.Errorf("%s: %d %.100s", name, got.Code, got.Body)
			}
		}
		packed := get("/packages/npm/@swc/core/versions/1.9.3"+end, header("Accept-Encoding", "gzip"))
		unpacked, err := gzip.NewReader(packed.Body)
		if err != nil || packed.Header().Get("Content-Encoding") != "gzip" || packed.Header().Get("Vary") != "Accept-Encoding" {
			t.Fatalf("%v %v", packed.Header(), err)
		}
		if got, err := io.ReadAll(unpacked); err != nil || string(got) != want.Body.String() {
			t.Errorf("packed: %.100s, %v", got, err)
		}
		tag := want.Header().Get("ETag")
		for _, known := range []string{tag, `"other", ` + tag, strings.TrimPrefix(tag, "W/"), "*"} {
			if got := get("/packages/npm/@swc/core/versions/1.9.3"+end, header("If-None-Match", known)); got.Code != http.StatusNotModified || got.Body.Len() != 0 {
				t.Errorf("If-None-Match: %s: %d", known, got.Code)
			}
		}
		if got := get("/packages/npm/@swc/core/versions/1.9.3"+end, header("If-None-Match", `"other"`)); got.Code != http.StatusOK {
			t.Errorf("another tag: %d", got.Code)
		}
		if end == "" {
			var direct any
			if err := json.Unmarshal(want.Body.Bytes(), &direct); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(scan["result"]); got != fmt.Sprint(direct) {
				t.Error("the result of the scan is not the analysis")
			}
		}
	}
}

// TestAnalysisAddsUp checks what is always so about an analysis.
func TestAnalysisAddsUp(t *testing.T) {
	w := newWorld(t, "sqlite")
	for _, p := range [][2]string{{"bcrypt", "5.1.1"}, {"sqlite3", "5.1.7"}, {"no-native", "1.0.0"}} {
		a := w.analyze(p[0], p[1])["result"].(map[string]any)
		size := 0.0
		binaries := a["binaries"].([]any)
		for _, item := range binaries {
			b := item.(map[string]any)
			size += b["fileSize"].(float64)
			if int(b["importCount"].(float64)) != len(b["imports"].([]any)) {
				t.Errorf("%v imports of %v", b["importCount"], b["imports"])
			}
			behaviors := b["behaviors"].(map[string]any)
			if len(behaviors) != 6 {
				t.Errorf("behaviours %v", behaviors)
			}
			for name, item := range behaviors {
				if d := item.(map[string]any); d["detected"].(bool) != (len(d["details"].([]any)) > 0) {
					t.Errorf("%s: %v", name, d)
				}
			}
		}
		if int(a["binaryCount"].(float64)) != len(binaries) || a["totalBinarySize"].(float64) != size || a["aiModel"] != "loupe-rules" {
			t.Errorf("%v binaries of %v bytes by %v; want %d of %v", a["binaryCount"], a["totalBinarySize"], a["aiModel"], len(binaries), size)
		}
	}
}

// TestDiffMirrors compares two versions in both directions.
func TestDiffMirrors(t *testing.T) {
	w := newWorld(t, "sqlite")
	w.analyze("sqlite3", "5.1.6")
	w.analyze("sqlite3", "5.1.7")
	there := w.want(http.StatusOK, "GET", "/packages/npm/sqlite3/diff?from=5.1.6&to=5.1.7", "")
	back := w.want(http.StatusOK, "GET", "/packages/npm/sqlite3/diff?from=5.1.7&to=5.1.6", "")
	if there["riskDelta"].(float64) <= 0 || there["riskDelta"].(float64) != -back["riskDelta"].(float64) || len(there["addedBehaviors"].([]any)) == 0 {
		t.Errorf("%v, and back %v", there, back)
	}
	for a, b := range map[string]string{"addedBehaviors": "removedBehaviors", "removedBehaviors": "addedBehaviors"} {
		if fmt.Sprint(there[a]) != fmt.Sprint(back[b]) {
			t.Errorf("%s %v, and back %s %v", a, there[a], b, back[b])
		}
	}
}
