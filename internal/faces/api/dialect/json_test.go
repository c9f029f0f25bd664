package dialect_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
)

type inner struct {
	Name string `json:"name"`
}

type outer struct {
	inner
	Label string           `json:"label"`
	At    time.Time        `json:"at"`
	Big   int64            `json:"big"`
	List  []inner          `json:"list"`
	Map   map[string]inner `json:"map"`
	Any   any              `json:"any"`
	Point *inner           `json:"point"`
	Raw   json.RawMessage  `json:"raw"`
}

// read reads a text as huma does: to check it, and then for the handler.
func read(text string) (out outer, err error) {
	var v any
	if err := dialect.Unmarshal([]byte(text), &v); err != nil {
		return out, err
	}
	return out, dialect.Unmarshal([]byte(text), &out)
}

func TestUnmarshal(t *testing.T) {
	for _, test := range []struct {
		name, text string
		wrong      string // part of the error
		ok         func(outer) bool
	}{
		{"fields", `{"name":"a","label":"b","big":9223372036854775807,"list":[{"name":"c"}],"map":{"k":{"name":"d"}},"point":{"name":"e"},"raw":{"x":[1]}}`, "", func(o outer) bool {
			return o.Name == "a" && o.Label == "b" && o.Big == 1<<63-1 && o.List[0].Name == "c" && o.Map["k"].Name == "d" && o.Point.Name == "e" && string(o.Raw) == `{"x":[1]}`
		}},
		{"names that differ in case are unknown", `{"LABEL":"b","Name":7,"list":[{"NAME":"c"}],"point":{"nAme":"e"}}`, "", func(o outer) bool {
			return o.Label == "" && o.Name == "" && o.List[0].Name == "" && o.Point.Name == ""
		}},
		{"the last of two counts", `{"label":"a","label":"b"}`, "", func(o outer) bool { return o.Label == "b" }},
		{"null is nothing", `{"label":null,"at":null,"list":null,"point":null}`, "", func(o outer) bool { return o.Label == "" && o.At.IsZero() && o.List == nil }},
		{"a wrong type", `{"label":7}`, "wrong type", nil},
		{"no time", `{"at":{"a":1}}`, "wrong type", nil},
		{"more than one value", `{}{}`, "not JSON", nil},
		{"invalid UTF-8", "{\"label\":\"\xff\"}", "not JSON", nil},
		{"NUL in a value", `{"any":[{"a":"\u0000"}]}`, "U+0000", nil},
		{"NUL in a name", `{"a\u0000":1}`, "U+0000", nil},
		{"NUL in words only", `{"label":"\\u0000"}`, "", func(o outer) bool { return o.Label == `\u0000` }},
		{"too deep", strings.Repeat("[", 100_000), "not JSON", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := read(test.text)
			switch {
			case test.wrong == "" && err != nil, test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)):
				t.Errorf("%v; want %q", err, test.wrong)
			case test.ok != nil && !test.ok(got):
				t.Errorf("%+v", got)
			}
		})
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, text := range []string{`{"label":"a","LABEL":"b"}`, `{"list":[{"name":null}],"any":[[null]]}`, `{"a":"\u0000"}`, "\xff", `{"big":1e99}`, `{"at":"2026-01-01T00:00:00Z"}`, `[[[{}]]]`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := read(text)
		if err != nil {
			return
		}
		if !utf8.ValidString(got.Label) || strings.ContainsRune(got.Label, 0) {
			t.Errorf("%q was let through", got.Label)
		}
		var exact map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &exact) == nil && exact["label"] == nil && got.Label != "" {
			t.Errorf("%q was taken for the label", got.Label)
		}
	})
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "deflate, gzip;q=1.0": true, "*": true, "*;q=0": false, "gzip;q=0": false, "gzip; q=0.000": false, "gzip;q=0.001": true,
		"br": false, "gzip;q=0, *": false, "x-gzip": false, " gzip ; q=0.5 ": true, "identity": false, "*, gzip;q=0": false,
	} {
		if got := dialect.AcceptsGzip(header); got != want {
			t.Errorf("AcceptsGzip(%q) = %v; want %v", header, got, want)
		}
	}
}

func FuzzAcceptsGzip(f *testing.F) {
	f.Add("gzip;q=0.5, *;q=0")
	f.Add("br;;,,gzip;q=")
	f.Fuzz(func(t *testing.T, header string) {
		if dialect.AcceptsGzip(header) && !strings.Contains(strings.ToLower(header), "gzip") && !strings.Contains(header, "*") {
			t.Errorf("%q asks for no gzip", header)
		}
	})
}
