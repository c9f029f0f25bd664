package binshield_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/faces/api/binshield"
)

// golden is where the document stands for people to read.
const golden = "../../../../docs/openapi/binshield.json"

// document returns what is served, as it is kept.
func document(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, binshield.New(http.NewServeMux(), nil, true).Document(), "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

func TestDocumentIsKept(t *testing.T) {
	got := document(t)
	if *update {
		if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/openapi/binshield.json is not what is served; go test -update writes it anew")
	}
}

// TestEverythingIsExplained finds fields and parameters of which nobody says
// what they are.
func TestEverythingIsExplained(t *testing.T) {
	var doc any
	if err := json.Unmarshal(document(t), &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(at+"[]", item)
			}
		case map[string]any:
			explained := func(at string, what any) {
				if m, ok := what.(map[string]any); ok && m["description"] == nil {
					t.Errorf("%s has no description", at)
				}
			}
			if properties, ok := v["properties"].(map[string]any); ok {
				for name, p := range properties {
					explained(at+"."+name, p)
				}
			}
			if parameters, ok := v["parameters"].([]any); ok {
				for _, p := range parameters {
					explained(at+" parameter", p)
				}
			}
			if v["operationId"] != nil && v["summary"] == nil {
				t.Errorf("%s has no summary", at)
			}
			for name, value := range v {
				walk(at+"."+name, value)
			}
		}
	}
	walk("", doc)
}

// TestLint has Redocly's linter read the document.
func TestLint(t *testing.T) {
	redocly := os.Getenv("LOUPE_REDOCLY")
	if redocly == "" {
		t.Skip("LOUPE_REDOCLY is not the path of @redocly/cli")
	}
	cmd := exec.Command(redocly, "lint", "--format=stylish", golden)
	cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "valid") {
		t.Errorf("%v\n%s", err, out)
	}
}
